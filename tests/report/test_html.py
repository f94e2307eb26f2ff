"""The page of a study as a file: what it says, and that it needs nothing else."""

import base64
import io
import itertools
import re
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
import sweep_pages
from PIL import Image
from report_pages import CLASSES, DESIGN, MODELS, PAIRS, cards_of, claims, content

from kdxai.report import cards, headline, html, tables
from kdxai.report.answer import answer
from kdxai.report.html import NONE
from kdxai.study import stats


class Elements(HTMLParser):
    """Every start tag with its attributes, in order, and the text outside scripts and styles."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.text, self.quiet = [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self.quiet = tag in ("script", "style")

    def handle_endtag(self, tag):
        self.quiet = False

    def handle_data(self, data):
        if not self.quiet:
            self.text.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    def words(self):
        return " ".join(" ".join(self.text).split())


@pytest.fixture(scope="module")
def page():
    return html.page(content())


def test_one_file_that_asks_for_nothing(page):
    assert page.startswith("<!doctype html>")
    assert "http" not in page
    assert "@import" not in page
    elements = Elements(page)
    for _, attributes in elements.tags:
        for key in ("src", "href", "action", "srcset", "data", "poster"):
            assert attributes.get(key, "#").startswith(("#", "data:"))
    assert all(uri.startswith("data:image/png") for uri in re.findall(r"url\((.*?)\)", page))


def test_below_five_megabytes_at_its_largest():
    """48 pictures of noise, larger than are shown, by ten models."""
    rng = np.random.default_rng(0)
    small = content()
    names = [f"model_{i}" for i in range(9)] + ["teacher"]
    rows = pd.concat(
        [small.records[small.records.model == "teacher"].assign(model=name) for name in names]
    )
    table = small.tables["table1"]
    table = table[table.model == "teacher"]
    many = small._replace(
        records=rows,
        tables={"table1": pd.concat([table.assign(model=name) for name in names])},
        results={f"{n}, seed {s}": small.results["teacher, seed 0"] for n in names for s in (0, 1)},
        gallery=cards.Gallery(
            ids=np.arange(100, 100 + cards.PICTURES),
            images=rng.integers(0, 256, (cards.PICTURES, 96, 96, 3), dtype=np.uint8),
            heatmaps={name: rng.random((cards.PICTURES, 96, 96)) for name in names},
            seed=0,
            method="cam",
        ),
        claims=NONE,
        ladder=NONE,
    )
    page = html.page(many)
    assert page.count('class="card"') == cards.PICTURES
    assert 1e6 < len(page.encode()) < 5e6


def test_the_answer_comes_first_in_three_sentences(page):
    sentences = answer(*(content().tables["table1"], content().claims, content().trust, 2, DESIGN))
    words = Elements(page).words()
    places = [words.index(sentence) for sentence in sentences]
    assert places == sorted(places)
    assert places[-1] < words.index("The claims")
    for sentence in sentences:
        assert sentence.endswith(".")
        assert ". " not in sentence


def test_table_1_holds_every_number_with_its_interval(page):
    words = Elements(page).words().replace("\N{MINUS SIGN}", "-").replace("+", "")
    known = 0
    for row in content().tables["table1"].itertuples():
        ends = f"[{row.ci_low:.3f}, {row.ci_high:.3f}]"
        if np.isnan(row.ci_low):  # complexity and entropy differ by the same on every image
            ends = "\N{EN DASH}"
        assert f"{row.mean:.3f} {ends}" in words
        known += not np.isnan(row.ci_low)
    assert known == len(content().tables["table1"]) - 2 * len(PAIRS)
    differences = words.index("Paired differences")
    assert words.index(" Models ") < differences < words.rindex("student - teacher")
    assert "student - " not in words[words.index(" Models ") : differences]


def test_differences_are_called_by_their_interval():
    table = content().tables["table1"]
    [groups] = [html.results_table(table, "cam", MODELS, {}).groups]
    rows = {(one, other): cells for one, other, cells in groups[1][1]}
    metrics = html.results_table(table, "cam", MODELS, {}).metrics
    cells = dict(zip(metrics, rows["student", "control"], strict=True))
    assert cells["Average drop\N{NO-BREAK SPACE}↓"].sign == "better"  # it is lower
    assert cells["Coherency (SSIM)\N{NO-BREAK SPACE}↑"].sign == "better"  # it is higher
    assert cells["Accuracy\N{NO-BREAK SPACE}↑"].sign == ""  # its interval holds 0
    assert {cell.sign for *_, line in groups[0][1] for cell in line} == {""}


def test_what_is_not_trustworthy_says_so_with_the_reason(page):
    words = Elements(page).words()
    # The student's, its two differences, the claim about it; twice in the answer, and why.
    assert (
        words.replace("\N{NO-BREAK SPACE}", " ").count("not trustworthy here") == 1 + 2 + 1 + 2 + 1
    )
    assert "average drop of the student: it prefers a centred Gaussian to the true mask" in words
    assert "not trustworthy" not in Elements(html.page(content()._replace(trust=NONE))).words()


def test_without_claims_ladder_and_agreement_the_page_says_so():
    plain = content()._replace(claims=NONE, ladder=NONE, trust=NONE, agreement=NONE)
    words = Elements(html.page(plain)).words()
    assert "No claims were tested as such in this run" in words
    assert "No other protocol was tried on these models" in words
    assert "Agreement of two models" not in words


def test_numbers_without_an_interval_are_drawn_without_one():
    """One image: its values, and nothing about others."""
    full = content()
    [first] = full.records.image.unique()[:1]
    few = full.records[(full.records.image == first) & (full.records.seed == 0)]
    table = stats.table(few, PAIRS, resamples=20).assign(method="cam")
    assert table.ci_low.isna().sum() > 10
    ends = dict.fromkeys(("ci_low", "ci_high"), np.nan)
    page = html.page(
        full._replace(
            tables={"table1": table},
            ladder=full.ladder.assign(**ends),
            claims=full.claims.assign(**ends),
        )
    )
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^)\"]*", "", page), re.IGNORECASE)
    words = Elements(page).words()
    drop = table[(table.model == "teacher") & (table.metric == "average_drop")]["mean"].iloc[0]
    assert f"{drop:.3f} \N{EN DASH}" in words
    assert "fewer than 20 images" in words
    wide = tables.readable(table)
    assert wide.loc["Average drop ↓", "teacher"] == f"{drop:.3f} [-] ‡"
    assert wide.loc["Accuracy ↑", "teacher"].endswith("]")  # a share has Wilson's interval


def test_what_is_not_testable_says_why_and_one_seed_speaks_of_these_networks():
    rows = claims(1)
    why = "the student (seed 0) is at chance"
    rows.loc[rows.claim == "accuracy", ["verdict", "why"]] = "not testable here", why
    words = Elements(html.page(content()._replace(claims=rows))).words()
    assert f"not testable here {why}" in words
    assert "contradicted for these networks" in words
    assert "judged over images, about these trained models only" in words
    assert "for these networks" not in Elements(html.page(content())).words()


def test_one_model_alone():
    full = content()
    table = full.tables["table1"]
    alone = full._replace(
        results={key: r for key, r in full.results.items() if key.startswith("untrained")},
        tables={"table1": table[table.model == "untrained"]},
        records=full.records[full.records.model == "untrained"],
        gallery=full.gallery._replace(heatmaps={"untrained": full.gallery.heatmaps["untrained"]}),
        agreement=NONE, claims=NONE, ladder=NONE, trust=NONE,
        design=full.design._replace(reference="untrained", compare=()),
    )  # fmt: skip
    page = html.page(alone)
    assert "says nothing about what tells them apart" in page
    assert 'value="disagreement"' not in page


def test_names_are_text_and_never_markup():
    evil = '<img src="//x.test" onerror="alert(1)">'
    page = html.page(content()._replace(class_names=[evil, *CLASSES[1:]], data="<script>"))
    assert evil not in page
    assert "&lt;img src=" in page
    assert len(Elements(page).all("script")) == 1
    assert not Elements(page).all("img")


def test_a_models_name_may_hold_what_a_difference_is_spelt_with():
    full = content()
    rows = full.records.replace({"model": {"control": "old - new"}})
    pairs = [("student", "teacher"), ("student", "old - new"), ("old - new", "teacher")]
    table = stats.table(rows, pairs, resamples=20).assign(method="cam")
    names = [*table.model[table.other == ""].unique()]
    assert names == ["teacher", "student", "old - new", "untrained"]
    [_, (_, differences)] = html.results_table(table, "cam", names, {}).groups
    assert [(one, other) for one, other, _ in differences] == pairs
    wide = tables.readable(table)
    assert list(wide.columns) == [*names, *(f"{one} - {other}" for one, other in pairs)]
    gap = table[(table.other == "old - new") & (table.metric == "ssim")].iloc[0]
    text = wide.loc["Coherency (SSIM) ↑", "student - old - new"]
    assert text == tables.interval(gap["mean"], gap.ci_low, gap.ci_high)
    _, second, _ = answer(table, NONE, NONE, 2, DESIGN)
    assert second.startswith("The student scores better than old - new in average drop")


def test_gallery_keeps_the_order_drawn_and_counts_only_models_that_learned():
    full = content()
    found = cards_of(full)
    assert [card.id for card in found] == list(full.gallery.ids)
    rows = full.records[full.records.seed == 0].set_index(["model", "image"])
    for card in found:
        right = [rows.loc[(m, card.id)].predicted == rows.loc[(m, card.id)].label for m in MODELS]
        assert card.right == all(right[:3])  # the fourth is untrained
        assert [tile.correct for tile in card.tiles] == right
        drops = [rows.loc[(m, card.id)].average_drop for m in MODELS]
        assert card.values["average_drop"]["student"] == pytest.approx(drops[1], abs=1e-4)
        assert card.values["average_drop"]["mean"] == pytest.approx(np.mean(drops[:3]), abs=1e-4)
    assert {card.right for card in found} == {True, False}


def test_disagreement_is_one_minus_pearson_with_the_teacher():
    full = content()
    teacher, student = (full.gallery.heatmaps[name] for name in ("teacher", "student"))
    for card, a, b in zip(cards_of(full), teacher, student, strict=True):
        expected = 1 - np.corrcoef(a.ravel(), b.ravel())[0, 1]
        assert card.values["disagreement"]["student"] == pytest.approx(expected, abs=1e-4)
        assert "teacher" not in card.values["disagreement"]
        by_model = [card.values["disagreement"][name] for name in ("student", "control")]
        assert card.values["disagreement"]["mean"] == pytest.approx(np.mean(by_model), abs=1e-4)


def decoded(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.removeprefix("data:image/png;base64,"))))


def test_pictures_hold_the_pixels():
    full = content()
    card = cards_of(full)[3]
    np.testing.assert_array_equal(np.asarray(decoded(card.photo)), full.gallery.images[3])
    maps = decoded(card.maps)
    assert maps.size == (4 * 32, 32)
    expected = np.round(255 * full.gallery.heatmaps["student"][3])
    np.testing.assert_array_equal(np.asarray(maps)[:, 32:64], expected)  # palette's indices
    brightness = np.asarray(maps.convert("L"), int)[:, 32:64]
    assert brightness.flat[expected.argmax()] == brightness.max() > brightness.min() + 150


def test_grey_images_and_large_ones_are_shown():
    full = content()
    images = np.zeros((12, 100, 80, 1), np.uint8)
    page = full._replace(gallery=full.gallery._replace(images=images))
    assert decoded(cards_of(page)[0].photo).size == (51, 64)


@pytest.mark.parametrize(
    ("y", "x", "where"),
    [(0, 0, "top left"), (31, 15, "bottom"), (16, 31, "right"), (16, 16, "centre")],
)
def test_maps_are_described(y, x, where):
    heatmap = np.zeros((32, 32))
    heatmap[y, x] = 1
    text = cards.described(heatmap)
    assert text == f"strongest at the {where}, above half on 0% of the image"
    assert cards.described(np.zeros((4, 4))) == "the same everywhere"


def test_classes_have_the_means_of_their_images():
    full = content()
    accuracy, drop, *_ = html.per_class(full, MODELS)
    rows = full.records
    own = rows[(rows.label == 2) & (rows.model == "student")]
    name, count, values = drop.rows[2]
    assert (name, count) == (CLASSES[2], own.image.nunique())
    mean, error, shade = values[1]
    by_image = own.groupby("image").average_drop.mean()
    assert mean == pytest.approx(own.average_drop.mean())
    assert error == pytest.approx(1.96 * by_image.std(ddof=1) / np.sqrt(count))
    assert 0 <= shade <= 1
    assert accuracy.rows[2][2][1][0] == pytest.approx((own.predicted == own.label).mean())


def test_zero_maps_are_counted():
    for row in html.degenerate(content().records):
        assert row["maps"] == 120
        assert row["degenerate_zero"] == 2  # one image, two seeds
        assert row["degenerate_constant"] == row["degenerate_masked_zero"] == 0


def test_provenance_is_complete(page):
    words = Elements(page).words()
    for run, result in content().results.items():
        assert run in words
        assert result["sha256"] in words
    assert '"epochs": 3' in words  # the config
    assert "61 s" in words
    assert "written 2026-01-01" in words


def test_colours_belong_to_models_not_to_places():
    few, many = DESIGN.slots(["teacher", "student"]), DESIGN.slots(MODELS)
    assert few.items() <= many.items()
    own = DESIGN.slots(["mine", "student", "yours"])
    assert own["student"] == many["student"]
    assert len(set(own.values())) == 3


def luminance(colour):
    """Relative luminance of `#rrggbb` (WCAG 2.2)."""
    values = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
    linear = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return linear @ [0.2126, 0.7152, 0.0722]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_contrast_of_text_and_marks(page, theme):
    colours = {
        name: pair[theme]
        for name, *pair in re.findall(r"--(\w+): light-dark\((#\w{6}), (#\w{6})\)", page)
    }
    assert len(colours) == 9 + 10
    for ground in ("page", "card"):
        for text in ("ink", "soft", "accent", "good", "bad", "unsure"):
            assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for slot in range(10):
            assert contrast(colours[f"m{slot}"], colours[ground]) >= 3, slot


def test_structure_for_those_who_do_not_see_it(page):
    elements = Elements(page)
    ids = [attributes["id"] for _, attributes in elements.tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    for _, attributes in elements.tags:
        for name in attributes.get("aria-labelledby", "").split():
            assert name in ids
        if attributes.get("href", "").startswith("#"):
            assert attributes["href"][1:] in ids
        if attributes.get("role") in ("img", "region"):
            assert attributes.get("aria-label") or attributes.get("aria-labelledby")
    for svg in elements.all("svg"):
        assert svg.get("aria-hidden") == "true" or svg.get("role") == "img"
    levels = [int(tag[1]) for tag, _ in elements.tags if re.fullmatch(r"h\d", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))
    tables = [tag for tag, _ in elements.tags if tag in ("table", "caption")]
    assert tables == ["table", "caption"] * (len(tables) // 2)
    assert all("scope" in header for header in elements.all("th"))
    assert elements.all("html") == [{"lang": "en"}]


def test_a_page_without_sweep_or_several_networks_has_neither_section(page):
    for text in ("Compression", "Seed noise", 'id="noise"', "sweep-view", "--film"):
        assert text not in page


@pytest.fixture(scope="module")
def sweep_page():
    return html.page(sweep_pages.page())


def test_a_sweep_says_how_far_and_where_each_kind_leaves_the_band(sweep_page):
    one = sweep_pages.made().sweep
    words = Elements(sweep_page).words()
    assert words.index(headline.short(one)) < words.index("How far can a network be compressed")
    assert words.index(headline.headline(one)) < words.index("Where each kind leaves the seed band")
    steps = one.steps.set_index("model")
    out = steps.loc["tuned-8"]
    times = "\N{MULTIPLICATION SIGN}"
    assert f"8.0{times} 87.5 % pruned r {out.agreement:.3f}, accuracy {out.accuracy:.1%}" in words
    gap = f"{out.gap:+.3f} [{out.ci_low:+.3f}, {out.ci_high:+.3f}] {out.units:+.1f} units"
    assert gap in words.replace("\N{MINUS SIGN}", "-")
    assert "not within the factors tried" in words
    assert "5 of 5 collapsed" in words
    for kind in dict.fromkeys(one.steps.kind):
        assert kind in words


def test_every_number_of_a_sweep_also_where_all_are_right(sweep_page):
    own = sweep_pages.made(5)
    words = Elements(sweep_page).words()
    rows = own.records[own.records.model.isin(["dense", "bits-8"])]
    right = (rows.predicted == rows.label).groupby(rows.image).transform("all")
    mine = rows[rows.model == "bits-8"]
    assert right[mine.index].sum() >= 20 * 5
    assert f"{mine.adcc.mean():.3f} {mine[right[mine.index]].adcc.mean():.3f}" in words
    dead = re.findall(r'<tr class="dead"><th scope="row">([\w-]+)', sweep_page)
    assert dead == ["prune-8", "random-2"]


def test_images_that_compression_forgets(sweep_page):
    """By the commonest answers, counted by hand."""
    own = sweep_pages.made(5)
    answers = own.records.pivot_table("predicted", "image", ["model", "seed"])
    common = {
        model: answers[model].apply(lambda row: np.bincount(row.astype(int)).argmax(), axis=1)
        for model in ("dense", "prune-4")
    }
    count = int((common["dense"] != common["prune-4"]).sum())
    assert 0 < count < sweep_pages.IMAGES
    assert f"prune-4 {count} of {sweep_pages.IMAGES} 0.740 0.740" in Elements(sweep_page).words()


def test_one_image_along_a_sweep(sweep_page):
    found = sweep_pages.page().compression[0].films
    own = sweep_pages.made()
    assert [len(film.frames) for film in found] == [4, 4, 3, 2, 5]  # of the tuned, tuned-1 too
    networks = own.pairwise.networks
    [one], [other] = (
        np.flatnonzero((networks.model == model) & (networks.seed == 0))
        for model in ("dense", "bits-2")
    )
    pairs = list(zip(*np.triu_indices(len(networks), 1), strict=True))
    r = own.pairwise.values["pearson"][0, pairs.index((one, other))]  # image 100 is the first
    frame = found[0].frames[-1]
    assert frame.agreement == pytest.approx(r)
    row = own.records[(own.records.model == "bits-2") & (own.records.image == 100)].iloc[0]
    assert frame.right == (row.predicted == row.label)
    assert decoded(found[0].uri).size == (4 * 32, 32)
    assert f"16\N{MULTIPLICATION SIGN} 2 bits r {r:.2f} · 60%" in Elements(sweep_page).words()


def test_one_parent_has_no_band():
    words = Elements(html.page(sweep_pages.page(1))).words()
    assert "Give it networks that differ in the seed alone" in words
    assert "Where each kind leaves the seed band" not in words
    assert "dense networks of other seeds" not in words
    assert "No population here has two networks" in words
    assert "How far two seeds differ in every metric" not in words


def test_seed_noise_has_floors_and_distances(sweep_page):
    own = sweep_pages.made()
    words = Elements(sweep_page).words()
    floors = stats.floors(own.records[own.records.model == "dense"]).set_index("metric")
    floor = floors.loc["adcc"]
    assert f"{floor.floor:.4f} [{floor.ci_low:.4f}, {floor.ci_high:.4f}]" in words
    assert "On 60 images two of dense agree at r = 0.82 to 0.87" in words
    assert "26 comparisons" in words
    assert "The 65 compressed networks are left out here" in words


def test_models_of_a_sweep_have_a_section_and_no_colours(sweep_page):
    """They are more than there are colours; Table 1 has them all the same."""
    elements = Elements(sweep_page)
    tiles = [one for one in elements.all("figure") if one.get("class") == "tile"]
    assert len(tiles) == 4 * 2  # each image, and the dense network's map of it
    assert "prune-4" in elements.words()


def test_a_sweep_asks_for_nothing_and_is_read_without_sight(sweep_page):
    test_one_file_that_asks_for_nothing(sweep_page)
    test_structure_for_those_who_do_not_see_it(sweep_page)
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^)\"]*", "", sweep_page), re.IGNORECASE)
    described = re.findall(r"<desc[^>]*>(.*?)</desc>", sweep_page)
    assert any("2 bits, 16 times: 0.550" in text for text in described)
