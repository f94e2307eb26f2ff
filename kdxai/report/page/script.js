"use strict";
{
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const theme = document.querySelector("#theme");
  const setTheme = (name) => {
    root.style.colorScheme = name;
    theme.firstElementChild.textContent = name === "dark" ? "Light" : "Dark";
    theme.onclick = () => setTheme(name === "dark" ? "light" : "dark");
  };
  setTheme(dark ? "dark" : "light");
  theme.hidden = false;

  const form = document.querySelector("#choose");
  const list = document.querySelector("#cards");
  const said = document.querySelector("#shown");
  const drawn = [...list.children];
  const values = new Map(drawn.map((card) => [card, JSON.parse(card.dataset.values)]));
  const text = (select) => select.selectedOptions[0].textContent.trim();

  const value = (card) => {
    const byModel = values.get(card)[form.sort.value];
    return byModel[form.model.value] ?? byModel.mean;
  };
  const update = () => {
    const sorted = [...drawn];
    const measured = form.sort.value !== "drawn";
    if (measured) sorted.sort((a, b) => value(b) - value(a));
    if (form.reverse.checked) sorted.reverse();
    list.append(...sorted);
    form.model.disabled = !measured;
    let shown = 0;
    for (const card of drawn) {
      const wrong = card.dataset.right === "no";
      card.hidden =
        (form.class.value !== "" && card.dataset.class !== form.class.value) ||
        (form.correct.value === "right" && wrong) ||
        (form.correct.value === "wrong" && !wrong);
      shown += !card.hidden;
      card.querySelector(".value").textContent = measured
        ? `${text(form.sort).toLowerCase()} ${value(card).toFixed(2)}`
        : "";
    }
    const order = measured ? `${text(form.sort).toLowerCase()}, ${text(form.model)}` : "order drawn";
    const end = measured ? (form.reverse.checked ? ", smallest first" : ", largest first") : "";
    said.textContent =
      `${shown} of ${drawn.length} images, by ${order}${end}.` +
      (shown ? "" : " None fits both filters.");
  };
  form.addEventListener("change", update);
  form.strength.addEventListener("input", () => {
    list.style.setProperty("--strength", form.strength.value / 100);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  form.hidden = false;
  update();
}
