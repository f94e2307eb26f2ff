"""The page of a study in headless Chromium, as a reader uses it."""

import io
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import sweep_pages
from PIL import Image
from report_pages import DESIGN, cards_of, changed, content
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select
from test_html import many_cards

from kdxai.report import compose, gallery, pages
from kdxai.report.gallery import Explained, Map, Prediction

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--hide-scrollbars"),
)


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(pages.html(compose.report(content())))
    return path.as_uri()


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    binaries = shutil.which("chromium"), shutil.which("chromedriver")
    if None in binaries:
        pytest.skip("needs chromium and chromedriver: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binaries[0]
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(binaries[1]))
    yield driver
    driver.quit()


@pytest.fixture
def browser(chromium, page):
    """The page, newly loaded, on a desktop."""
    show(chromium, page)
    return chromium


def show(browser, page, width=1280, scheme="light", script=True):
    """Load the page as some device would."""
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # what is left of the page before
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": not script})
    browser.get(page)


def choose(browser, name, value):
    Select(browser.find_element("name", name)).select_by_value(value)


def search(browser, text):
    """Type the name of a class, or part of one, in place of what is there."""
    field = browser.find_element("name", "class")
    field.clear()
    field.send_keys(text or "x" + Keys.BACKSPACE)


def cards(browser):
    """Numbers of the test images that are shown, in order."""
    shown = browser.execute_script(
        "return [...document.querySelectorAll('.card')].filter(card => card.checkVisibility())"
        ".map(card => card.querySelector('h3 small').textContent)"
    )
    return [int(text.removeprefix("test image ")) for text in shown]


def expected():
    return cards_of(content())


def test_loads_without_errors_and_asks_the_network_for_nothing(browser, page):
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {
        event["params"]["request"]["url"]
        for event in events
        if event["method"] == "Network.requestWillBeSent"
    }
    assert page in asked  # the log does see requests
    # Chromium may still be drawing its own first page, from chrome:, which is no network.
    assert {url for url in asked if not url.startswith(("data:", "chrome:"))} == {page}
    assert browser.get_log("browser") == []
    assert browser.title == f"{DESIGN.title} shapes"


def test_sorting(browser):
    drawn = expected()
    assert cards(browser) == [card.id for card in drawn]
    assert not browser.find_element("name", "model").is_enabled()
    for key in ("disagreement", "average_drop", "complexity"):
        for model in ("mean", "student"):
            choose(browser, "sort", key)
            choose(browser, "model", model)
            values = {card.id: card.values[key][model] for card in drawn}
            shown = [values[number] for number in cards(browser)]
            assert shown == sorted(shown, reverse=True)
    said = browser.find_element("id", "shown")
    assert said.text == "12 of 12 images, by complexity, student, largest first."
    assert said.get_attribute("aria-live") == "polite"
    first = browser.find_element("css selector", ".card .value").text
    assert first == f"complexity {max(shown):.2f}"
    browser.find_element("name", "reverse").click()
    assert [values[number] for number in cards(browser)] == sorted(shown)
    # The teacher does not disagree with itself: the mean is shown instead.
    choose(browser, "sort", "disagreement")
    choose(browser, "model", "teacher")
    values = {card.id: card.values["disagreement"]["mean"] for card in drawn}
    assert cards(browser) == sorted(values, key=values.get)


def test_filters(browser):
    drawn = expected()
    said = browser.find_element("id", "shown")
    for name in ("ring", "star"):
        search(browser, name)
        assert cards(browser) == [card.id for card in drawn if card.class_name == name]
        assert said.text.startswith(f"{len(cards(browser))} of 12 images")
    search(browser, "")
    for choice, right in (("right", True), ("wrong", False)):
        choose(browser, "correct", choice)
        assert cards(browser) == [card.id for card in drawn if card.right == right]
    kinds = {(card.class_name, card.right) for card in drawn}
    for name in {name for name, _ in kinds if (name, True) not in kinds}:
        choose(browser, "correct", "right")
        search(browser, name)
        assert said.text == "0 of 12 images, by order sampled. None fits all filters."
    search(browser, "")
    choose(browser, "correct", "all")
    assert len(cards(browser)) == 12


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    path = tmp_path_factory.mktemp("many") / "report.html"
    path.write_text(pages.html(compose.report(many_cards())))
    return path.as_uri()


def test_more_images_methods_and_outlines_on_demand(chromium, many):
    show(chromium, many)
    said = chromium.find_element("id", "shown")
    assert said.text == "20 of 20 images, by order sampled. The first 12 are shown."
    waiting = "return [...document.querySelectorAll('.card')].map(c => !c.style.cssText)"
    assert chromium.execute_script(waiting) == [False] * 12 + [True] * 8
    more = chromium.find_element("id", "more")
    assert more.text == "Show 8 more"
    more.send_keys(Keys.ENTER)
    assert cards(chromium) == list(range(100, 120))
    assert said.text == "20 of 20 images, by order sampled."
    assert not more.is_displayed()
    last = chromium.find_elements("css selector", ".card")[-1]
    chromium.execute_script("arguments[0].scrollIntoView()", last)
    chromium.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0], 50))")
    photo = "return getComputedStyle(arguments[0].querySelector('.photo')).backgroundImage"
    assert chromium.execute_script(photo, last).startswith('url("data:image/png')
    border = "return getComputedStyle(document.querySelector('.pic'), '::after')"
    assert chromium.execute_script(f"{border}.backgroundImage").startswith('url("data:image/svg')
    chromium.find_element("name", "outline").send_keys(Keys.SPACE)
    assert chromium.execute_script(f"{border}.display") == "none"
    rows = chromium.find_elements("css selector", "[data-method=grad_cam]")
    assert [row.is_displayed() for row in rows] == [False] * 6
    chromium.find_elements("name", "by")[1].send_keys(Keys.SPACE)
    assert [row.is_displayed() for row in rows] == [True] * 6
    search(chromium, "st")  # the star
    names = {card.get_attribute("data-class") for card in
             chromium.find_elements("css selector", ".card:not([hidden])")}  # fmt: skip
    assert names == {"star"}
    test_loads_without_errors_and_asks_the_network_for_nothing(chromium, many)


def test_strength_of_the_maps(browser):
    over = "return getComputedStyle(document.querySelector('.pic .over')).opacity"
    assert float(browser.execute_script(over)) == 0.6
    browser.find_element("name", "strength").send_keys(Keys.HOME)
    assert float(browser.execute_script(over)) == 0


def test_keyboard_reaches_everything(browser):
    body = browser.find_element("tag name", "body")
    body.send_keys(Keys.TAB)
    link = browser.switch_to.active_element
    assert link.text == "Skip to the answer"
    assert link.location["x"] >= 0  # seen once it has the focus
    link.send_keys(Keys.ENTER)
    assert browser.execute_script("return document.activeElement.id") == "answer"
    reached = []
    for _ in range(80):
        webdriver.ActionChains(browser).send_keys(Keys.TAB).perform()
        element = browser.switch_to.active_element
        reached.append(element.get_attribute("name") or element.tag_name)
        outline = "return getComputedStyle(document.activeElement).outlineStyle"
        assert browser.execute_script(outline) != "none", reached[-1]
        if reached[-1] == "reverse":
            break
    for wanted in ("sort", "class", "correct", "strength", "reverse", "summary", "div"):
        assert wanted in reached
    webdriver.ActionChains(browser).send_keys(Keys.SPACE).perform()
    assert cards(browser) == [card.id for card in reversed(expected())]


def background(browser):
    return browser.execute_script("return getComputedStyle(document.body).backgroundColor")


def test_dark_and_light_by_the_system_and_by_hand(chromium, page):
    show(chromium, page, scheme="light")
    light = background(chromium)
    show(chromium, page, scheme="dark")
    dark = background(chromium)
    assert (light, dark) == ("rgb(250, 249, 246)", "rgb(20, 21, 25)")
    button = chromium.find_element("id", "theme")
    assert button.text == "Light theme"
    button.click()
    assert background(chromium) == light
    button.click()
    assert background(chromium) == dark


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_screenshot_shows_a_page_that_fits(chromium, page, width, scheme):
    show(chromium, page, width, scheme)
    assert chromium.execute_script("return document.documentElement.scrollWidth") == width
    picture = Image.open(io.BytesIO(chromium.get_screenshot_as_png())).convert("L")
    pixels = np.asarray(picture, int)
    assert pixels.shape[1] == width
    ground = np.median(pixels)
    assert ground > 240 if scheme == "light" else ground < 40
    assert 0.01 < (abs(pixels - ground) > 100).mean() < 0.3  # text, and not only text
    # Every chart has a size, and no text of it lies outside.
    outside = chromium.execute_script(
        "return [...document.querySelectorAll('.panel svg')].flatMap(svg => {"
        " const frame = svg.getBoundingClientRect();"
        " return [...svg.querySelectorAll('text')].filter(text => {"
        "  const box = text.getBoundingClientRect();"
        "  return !box.width || box.left < frame.left - 1 || box.right > frame.right + 1; })"
        " .map(text => text.textContent) })"
    )
    assert outside == []


@pytest.mark.parametrize("width", [1280, 390])
def test_a_claim_is_read_without_scrolling(chromium, page, width):
    show(chromium, page, width)
    cut = chromium.execute_script(
        "return [...document.querySelectorAll('.answer .scroll, #claims > .part .scroll')]"
        ".map(one => [one.scrollWidth - one.clientWidth, one.getAttribute('aria-label')])"
    )
    assert len(cut) == 2
    assert all(over <= 0 for over, _ in cut), cut
    # The difference, its interval and what it is of stand below each other or the picture.
    heights = chromium.execute_script(
        "return [...document.querySelectorAll('#claims td:has(.gap)')].map(cell => {"
        " const [picture, ends, of] = [...cell.querySelectorAll('.gap, small')]"
        "  .map(one => one.getBoundingClientRect());"
        " return [of.top - picture.bottom, of.top - ends.bottom, of.left - picture.left] })"
    )
    assert len(heights) == 2
    assert all(below >= 0 and after >= -1 and abs(left) < 2 for below, after, left in heights)


def test_without_a_script_it_is_a_static_page(chromium, page):
    show(chromium, page, script=False)
    try:
        assert not chromium.find_element("id", "choose").is_displayed()
        assert not chromium.find_element("id", "theme").is_displayed()
        shown = chromium.find_elements("css selector", ".card")
        assert len(shown) == 12
        assert shown[-1].is_displayed()
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


@pytest.fixture(scope="module")
def own_pictures(tmp_path_factory):
    """A page of one picture with long names, by a coarse and a fine model."""
    long = "a" * 90 + ".png"
    first, other = Prediction(0, "b" * 90, 0.75), Prediction(1, "tiger cat", 0.25)
    found = []
    for name, size in (("coarse", 32), ("fine", 224)):
        uri = gallery.data_uri(np.full((size, size, 3), (200, 90, 30), np.uint8))
        maps = [Map(method, "the same everywhere", uri) for method in ("cam", "guided_grad_cam")]
        maps = {first: maps, other: maps}
        found.append(Explained(long, name, [first, other], maps, uri))
    model = {"class_names": "ab", "facts": {"model": "resnet20", "test_accuracy": 0.917}}
    models = {one.model: model | {"image_shape": (224, 224, 3)} for one in found}
    path = tmp_path_factory.mktemp("gallery") / "gallery.html"
    path.write_text(gallery.page(found, models))
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_own_pictures_fit_and_need_nothing(chromium, own_pictures, width, scheme):
    show(chromium, own_pictures, width, scheme, script=False)
    try:
        assert chromium.execute_script("return document.documentElement.scrollWidth") == width
        sizes = chromium.execute_script(
            "return [...document.images].map(one => [one.naturalWidth, one.clientWidth])"
        )
    finally:
        chromium.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
    assert len(sizes) == 1 + 2 * (1 + 4)
    assert all(natural > 0 and 100 < shown <= 224 for natural, shown in sizes)
    assert chromium.get_log("browser") == []
    light = background(chromium) == "rgb(250, 249, 246)"
    assert light == (scheme == "light")
    requests = [json.loads(one["message"])["message"] for one in chromium.get_log("performance")]
    urls = [
        one["params"]["request"]["url"]
        for one in requests
        if one["method"] == "Network.requestWillBeSent"
    ]
    assert {url for url in urls if not url.startswith(("data:", "chrome:"))} == {own_pictures}


def test_few_maps_of_own_pictures_fill_the_width(chromium, own_pictures):
    show(chromium, own_pictures, 1280)
    room = chromium.execute_script(
        "const view = document.querySelector('.evidence');"
        "view.querySelector('.maps + .maps').remove();"
        "const right = [...view.querySelectorAll('img')].at(-1).getBoundingClientRect().right;"
        "const box = view.getBoundingClientRect();"
        "return (box.right - right) / box.width"
    )
    assert 0 <= room < 0.15


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "report.html"
    path.write_text(pages.html(compose.report(sweep_pages.page())))
    return path.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_a_sweep_fits(chromium, sweeps, width, scheme):
    test_a_screenshot_shows_a_page_that_fits(chromium, sweeps, width, scheme)
    assert chromium.get_log("browser") == []
    frames = chromium.find_elements("css selector", ".film .pic")
    assert len(frames) == 18
    assert all(60 < frame.size["width"] == frame.size["height"] for frame in frames)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    """A page of so many classes that they are searched."""
    full = content()
    names = [f"Class {k}" for k in range(24)]
    label = full.measured.records.image % len(names)
    rows = full.measured.records.assign(label=label, predicted=label, explained=label)
    data = SimpleNamespace(name="many", class_names=names)
    report = compose.report(changed(full, records=rows, dataset=data))
    path = tmp_path_factory.mktemp("classes") / "report.html"
    path.write_text(pages.html(report))
    return path.as_uri()


def test_classes_are_searched_by_a_part_of_their_names(chromium, classes):
    show(chromium, classes)
    field = chromium.find_element("css selector", "#classes .search input")
    chromium.execute_script("arguments[0].closest('details').open = true", field)
    every = "return [...arguments[0].closest('details').querySelectorAll('tbody tr')]"
    shown = f"{every}.filter(row => row.checkVisibility()).map(row => row.cells[0].textContent)"
    assert len(chromium.execute_script(shown, field)) == 24
    for text, found in ((" cLASS 2", [2, *range(20, 24)]), ("23", [23]), ("none", [])):
        field.clear()
        field.send_keys(text)
        assert chromium.execute_script(shown, field) == [f"Class {k}" for k in found]
    field.send_keys(*[Keys.BACKSPACE] * len("none"))
    assert len(chromium.execute_script(shown, field)) == 24
    others = chromium.find_elements("css selector", "#classes .part tbody tr:not(.group)")
    assert sum(row.is_displayed() for row in others) == 2 * 20  # the worst and the best stay
    assert chromium.get_log("browser") == []


@pytest.mark.parametrize("fixture", ["page", "sweeps"])
def test_on_paper_no_table_is_cut_and_letters_are_dark(chromium, request, fixture):
    show(chromium, request.getfixturevalue(fixture), width=718, scheme="dark")  # A4's own
    features = [{"name": "prefers-color-scheme", "value": "dark"}]
    media = {"media": "print", "features": features}
    chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
    try:
        assert chromium.execute_script("return getComputedStyle(document.body).color") == (
            "rgb(29, 30, 34)"
        )
        cut = chromium.execute_script(
            "const right = document.querySelector('main').getBoundingClientRect().right;"
            "return [...document.querySelectorAll('table, .panel svg, .film li')]"
            ".filter(one => one.getBoundingClientRect().right > right + 1).map(one => one.id)"
        )
        assert cut == []
        closed = chromium.find_elements("css selector", "details:not([open])")
        assert closed and not any(one.is_displayed() for one in closed)
    finally:
        chromium.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
