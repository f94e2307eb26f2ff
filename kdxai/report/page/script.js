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
  const more = document.querySelector("#more");
  const rest = document.querySelector("#rest");
  const step = list.children.length;
  let most = step;

  // The other pictures are text until they come near the window.
  const pictures = rest ? JSON.parse(document.querySelector("#pictures").textContent) : {};
  const show = (card) => {
    const own = pictures[card.dataset.id];
    if (!own) return;
    delete pictures[card.dataset.id];
    card.style.setProperty("--photo", `url(${own.photo})`);
    if (own.outline) card.style.setProperty("--outline", `url("${own.outline}")`);
    own.maps.forEach((maps, place) => {
      card.querySelectorAll(".tiles")[place].style.setProperty("--maps", `url(${maps})`);
    });
  };
  const near = new IntersectionObserver(
    (entries) => entries.forEach((entry) => entry.isIntersecting && show(entry.target)),
    { rootMargin: "50%" },
  );
  if (rest) list.append(rest.content);
  const drawn = [...list.children];
  drawn.forEach((card) => near.observe(card));
  addEventListener("beforeprint", () => drawn.filter((card) => !card.hidden).forEach(show));

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
    const asked = form.class.value.trim().toLowerCase();
    const exact = drawn.some((card) => card.dataset.class.toLowerCase() === asked);
    let fits = 0;
    for (const card of sorted) {
      const wrong = card.dataset.right === "no";
      const name = card.dataset.class.toLowerCase();
      const other =
        !(exact ? name === asked : name.includes(asked)) ||
        (form.correct.value === "right" && wrong) ||
        (form.correct.value === "wrong" && !wrong);
      fits += !other;
      card.hidden = other || fits > most;
      card.querySelector(".value").textContent = measured
        ? `${text(form.sort).toLowerCase()} ${value(card).toFixed(2)}`
        : "";
    }
    const order = measured ? `${text(form.sort).toLowerCase()}, ${text(form.model)}` : "order sampled";
    const end = measured ? (form.reverse.checked ? ", smallest first" : ", largest first") : "";
    said.textContent =
      `${fits} of ${drawn.length} images, by ${order}${end}.` +
      (fits ? "" : " None fits all filters.") +
      (fits > most ? ` The first ${most} are shown.` : "");
    more.hidden = fits <= most;
    more.textContent = `Show ${Math.min(step, fits - most)} more`;
  };
  const methods = () => {
    const chosen = new Set([...form.querySelectorAll("[name=by]:checked")].map((box) => box.value));
    for (const row of list.querySelectorAll(".tiles + .tiles")) {
      row.hidden = !chosen.has(row.dataset.method);
    }
  };
  const changed = (event) => {
    if (event.target.name === "by") return methods();
    if (event.target.name === "outline") return list.classList.toggle("plain", !event.target.checked);
    most = step;
    update();
  };
  form.addEventListener("change", changed);
  form.class.addEventListener("input", changed);
  form.strength.addEventListener("input", () => {
    list.style.setProperty("--strength", form.strength.value / 100);
  });
  form.addEventListener("submit", (event) => event.preventDefault());
  more.addEventListener("click", () => {
    most += step;
    update();
  });
  form.hidden = false;
  update();
}
