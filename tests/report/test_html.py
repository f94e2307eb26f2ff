"""The page of a study as a file: what it says, and that it needs nothing else."""

import base64
import io
import itertools
import json
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import sweep_pages
from PIL import Image
from report_pages import CLASSES, DESIGN, MODELS, NONE, PAIRS, cards_of, changed, claims, content

from kdxai.explain import METHODS, Method
from kdxai.protocol import TRUTH
from kdxai.report import cards, classes, compose, headline, pages, results, tables, titles, trusted
from kdxai.report.drawn import Charts
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


def page_of(content):
    return pages.html(compose.report(content))


@pytest.fixture(scope="module")
def page():
    return page_of(content())


def test_one_file_that_asks_for_nothing(page):
    assert page.startswith("<!doctype html>")
    assert "http" not in page
    assert "@import" not in page
    elements = Elements(page)
    for _, attributes in elements.tags:
        for key in ("src", "href", "action", "srcset", "data", "poster"):
            assert attributes.get(key, "#").startswith(("#", "data:"))
    uris = re.findall(r"url\((?:&quot;)?(.*?)\)", page.partition("<script>")[0])
    assert all(uri.startswith("data:image/") for uri in uris)


def test_below_three_megabytes_at_its_largest():
    """48 pictures of noise, larger than are shown, by ten models."""
    rng = np.random.default_rng(0)
    small = content()
    names = [f"model_{i}" for i in range(9)] + ["teacher"]
    rows = small.measured.records
    rows = pd.concat([rows[rows.model == "teacher"].assign(model=name) for name in names])
    table = small.measured.tables["table1"]
    table = table[table.model == "teacher"]
    tables = {"table1": pd.concat([table.assign(model=name) for name in names])}
    many = changed(small, records=rows, tables=tables, claims=NONE, ladder=NONE, question=NONE)
    many = many._replace(
        results={(n, s): small.results["teacher", 0] for n in names for s in (0, 1)},
        gallery=cards.Gallery(
            ids=np.arange(100, 100 + cards.PICTURES),
            images=rng.integers(0, 256, (cards.PICTURES, 96, 96, 3), dtype=np.uint8),
            heatmaps={name: rng.random((cards.PICTURES, 96, 96)) for name in names},
            seed=0,
            method="cam",
        ),
        charts=Charts(),
    )
    page = page_of(many)
    assert cards.FIRST <= page.count('class="card"') < cards.PICTURES
    assert 1e6 < len(page.encode()) < 3e6


def test_the_answer_comes_first_then_numbers_and_the_tally(page):
    words = Elements(page).words()
    report = compose.report(content())
    [first] = report.answers
    assert first.word == "No"
    said = [f"{first.word} : {first.says}", *report.sentences]
    places = [words.index(sentence) for sentence in (first.question, *said)]
    assert places == sorted(places)
    assert places[-1] < words.index("The claims")
    assert len(report.sentences) == 3
    assert "two claims" in report.sentences[1]


def test_table_1_holds_every_number_with_its_interval(page):
    words = Elements(page).words().replace("\N{MINUS SIGN}", "-").replace("+", "")
    known = 0
    for row in content().measured.tables["table1"].itertuples():
        scale, digits, unit = 1, 3, ""
        if row.metric == "accuracy":  # in percent, its differences in points
            scale, digits, unit = 100, 1, " points" if row.other else "%"
        mean, low, high = (
            f"{scale * value:.{digits}f}" for value in (row.mean, row.ci_low, row.ci_high)
        )
        ends = f"[{low}, {high}]"
        if np.isnan(row.ci_low):  # complexity and entropy differ by the same on every image
            ends = "\N{EN DASH}"
        assert re.search(rf"{mean}{unit} († )?{re.escape(ends)}", words), row
        known += not np.isnan(row.ci_low)
    assert known == len(content().measured.tables["table1"]) - 2 * len(PAIRS)


def table_1(content):
    """{column: {metric: cell}} of the main metrics."""
    slots = content.measured.design.slots(content.gallery.heatmaps)
    section = results.section(content.measured, slots)
    table = next(part.table for part in section.parts if part.table)
    [(_, rows)] = table.groups
    columns = [column.text for column in table.columns[1:]]
    return {
        column: {row.head.text: row.cells[place] for row in rows}
        for place, column in enumerate(columns)
    }


def test_methods_are_called_as_their_papers_write_them(monkeypatch):
    words = Elements(page_of(many_cards())).words()
    assert "CAM, 60 test images" in words and "Grad-CAM, 60 test images" not in words
    assert not re.search(r"\b(cam|grad_cam|grad cam)\b", words)
    told = [titles.method(name) for name in (*METHODS, TRUTH)]
    assert len({*told, ""}) == len(METHODS) + 2
    monkeypatch.setitem(METHODS, "my_own", Method(METHODS["cam"].draw))
    assert titles.method("my_own") == "my own"


def test_differences_are_called_by_their_interval():
    found = table_1(content())
    assert list(found) == [*MODELS, *(f"{a} \N{MINUS SIGN} {b}" for a, b in PAIRS)]
    cells = found["student \N{MINUS SIGN} control"]
    doubted = cells["Average drop ↓"]
    assert (doubted.sign, doubted.mark) == ("", "†")  # the student's fails its checks
    trusted = table_1(changed(content(), trust=NONE))["student \N{MINUS SIGN} control"]
    assert trusted["Average drop ↓"].sign == "better"  # it is lower
    assert cells["Coherency (SSIM) ↑"].sign == "better"  # it is higher
    assert cells["Accuracy ↑"].sign == ""  # its interval holds 0
    assert {cell.sign for name in MODELS for cell in found[name].values()} == {""}


def test_the_truth_comes_first_in_table_1():
    full = content()
    rows = full.measured.records.assign(energy_inside=0.4, iou=0.5)
    table = stats.table(rows, PAIRS, resamples=20).assign(method="cam")
    found = table_1(changed(full, records=rows, tables={"table1": table}))
    assert list(found["teacher"])[:2] == ["Energy inside the object ↑", "IoU with the object ↑"]


def test_many_models_are_told_in_tables_that_fit():
    full = content()
    names = [f"m{k}" for k in range(20)]
    rows = full.measured.records
    rows = pd.concat([rows[rows.model == "teacher"].assign(model=name) for name in names])
    table = stats.table(rows, [], resamples=20).assign(method="cam")
    section = results.section(
        full.measured._replace(records=rows, tables={"table1": table}, agreement=NONE), {}
    )
    every = [part for part in section.parts if part.table and "Models, " in part.table.name]
    every = [part for part in every if "further" not in part.table.name]
    assert [len(part.table.columns) - 1 for part in every] == [7, 7, 6]
    assert [bool(part.folded) for part in every] == [False, True, True]


def test_what_is_not_trustworthy_is_marked_and_a_matrix_says_why(page):
    marked = {
        (column, metric)
        for column, cells in table_1(content()).items()
        for metric, cell in cells.items()
        if cell.mark
    }
    drop = "Average drop ↓"
    assert marked == {
        ("student", drop),
        *((f"student \N{MINUS SIGN} {other}", drop) for other in ("teacher", "control")),
    }
    [part] = trusted.reasons(content().measured.trust, {})
    assert part.folded == "Sanity checks: why 1 number is not trustworthy here"
    [(_, [row])] = part.table.groups
    assert (row.head.text, [cell.text for cell in row.cells]) == (drop, ["R 40%", ""])
    assert part.notes[0].startswith("R: a map of random numbers scores better, or about as well")
    assert part.folded in Elements(page).words()
    plain = Elements(page_of(changed(content(), trust=NONE))).words()
    assert "not trustworthy" not in plain


def test_a_model_at_chance_is_told_once():
    why = "untrained (seed 0) is not above chance: 18 of 200 answers are right"
    rows = [
        ("untrained", "ssim", "chance, noise", f"{why}; a random map scores better"),
        ("untrained", "iou", "chance", why),
        ("student", "ssim", "noise, shuffled", "both"),
    ]
    trust = pd.DataFrame(rows, columns=["model", "metric", "fails", "why"])
    trust = trust.assign(trustworthy=False, beats_random=0.0, randomised_similarity=0.8)
    [part] = trusted.reasons(trust, {})
    [(_, lines)] = part.table.groups
    found = {line.head.text: [cell.text for cell in line.cells] for line in lines}
    assert found == {
        "IoU with the object ↑": ["C", ""],
        "Coherency (SSIM) ↑": ["C, R 0%", "R 0%, S 0.80"],
    }
    assert part.notes[1:] == [f"{why}."]


def test_without_claims_ladder_and_agreement_the_page_says_so():
    plain = changed(content(), claims=NONE, ladder=NONE, trust=NONE, agreement=NONE)
    page = page_of(plain)
    words = Elements(page).words()
    assert "No claims were tested as such in this run" in words
    assert "No other protocol was tried on these models" in words
    assert words.index("--config.study=WORKDIR") < words.index("Means with 95 % intervals")
    assert "Protocols" not in words and "#ladder" not in page
    alone = plain._replace(config={"models": "a=runs/a"})
    assert "--config.models=NAME=DIRECTORY,... --workdir" in Elements(page_of(alone)).words()
    assert "launch/audit.py" not in Elements(page_of(content())).words()
    assert "Agreement of two models" not in words


def test_protocols_name_the_models_that_were_audited():
    some = content().measured.ladder
    some = some[some.model.isin(MODELS[:2])]
    slots = dict.fromkeys(MODELS, 0)
    section = compose.protocols(changed(content(), ladder=some).measured, [], slots)
    assert Elements(section.parts[0].page).words().split() == [*MODELS[:2]]


def test_numbers_without_an_interval_are_drawn_without_one():
    """One image: its values, and nothing about others."""
    full = content()
    rows = full.measured.records
    [first] = rows.image.unique()[:1]
    few = rows[(rows.image == first) & (rows.seed == 0)]
    table = stats.table(few, PAIRS, resamples=20).assign(method="cam")
    assert table.ci_low.isna().sum() > 10
    ends = dict.fromkeys(("ci_low", "ci_high"), np.nan)
    shown = changed(
        full,
        tables={"table1": table},
        ladder=full.measured.ladder.assign(**ends),
        claims=full.measured.claims.assign(**ends),
    )
    page = page_of(shown._replace(charts=Charts()))
    assert not re.search(r"\bnan\b", re.sub(r"base64,[^)\"]*", "", page), re.IGNORECASE)
    words = Elements(page).words()
    drop = table[(table.model == "teacher") & (table.metric == "average_drop")]["mean"].iloc[0]
    assert f"{drop:.3f} ‡ \N{EN DASH}" in words
    assert "fewer than 20 images" in words
    wide = tables.readable(table)
    assert wide.loc["Average drop ↓", "teacher"] == f"{drop:.3f} [-] ‡"
    assert wide.loc["Accuracy ↑, %", "teacher"].endswith("]")  # a share has Wilson's interval


def test_what_is_not_testable_says_why_and_one_seed_speaks_of_these_networks():
    rows = claims(1)
    why = "the student (seed 0) is at chance"
    rows.loc[rows.claim == "accuracy", ["verdict", "why"]] = "not testable here", why
    words = Elements(page_of(changed(content(), claims=rows))).words()
    assert f"not testable here {why}" in words
    assert "contradicted for these networks" in words
    assert "judged over images, about these trained models only" in words
    assert "for these networks" not in Elements(page_of(content())).words()


def test_one_model_alone():
    full = content()
    table, rows = full.measured.tables["table1"], full.measured.records
    alone = changed(
        full,
        tables={"table1": table[table.model == "untrained"]},
        records=rows[rows.model == "untrained"],
        agreement=NONE, claims=NONE, question=NONE, ladder=NONE, trust=NONE,
        design=full.measured.design._replace(reference="untrained", compare=()),
    )._replace(
        results={key: r for key, r in full.results.items() if key[0] == "untrained"},
        gallery=full.gallery._replace(heatmaps={"untrained": full.gallery.heatmaps["untrained"]}),
    )  # fmt: skip
    page = page_of(alone)
    assert "says nothing about what tells them apart" in page
    assert 'value="disagreement"' not in page


def test_names_are_text_and_never_markup():
    evil = '<img src="//x.test" onerror="alert(1)">\n$x$ “ü”'
    data = SimpleNamespace(name="<script>", class_names=[evil, *CLASSES[1:]])
    page = page_of(changed(content(), dataset=data))
    assert "<img" not in page
    assert "&lt;img src=" in page
    assert "$x$ “ü”" in page
    assert [one.get("type") for one in Elements(page).all("script")] == [None]
    assert not Elements(page).all("img")


def test_a_models_name_may_hold_what_a_difference_is_spelt_with():
    full = content()
    rows = full.measured.records.replace({"model": {"control": "old - new"}})
    pairs = [("student", "teacher"), ("student", "old - new"), ("old - new", "teacher")]
    table = stats.table(rows, pairs, resamples=20).assign(method="cam")
    names = [*table.model[table.other == ""].unique()]
    assert names == ["teacher", "student", "old - new", "untrained"]
    found = table_1(changed(full, tables={"table1": table}))
    assert list(found) == [*names, *(f"{one} \N{MINUS SIGN} {other}" for one, other in pairs)]
    wide = tables.readable(table)
    assert list(wide.columns) == [*names, *(f"{one} - {other}" for one, other in pairs)]
    gap = table[(table.other == "old - new") & (table.metric == "ssim")].iloc[0]
    text = wide.loc["Coherency (SSIM) ↑", "student - old - new"]
    assert text == tables.interval("ssim", gap["mean"], gap.ci_low, gap.ci_high)


def test_gallery_keeps_the_order_drawn_and_counts_only_models_that_learned():
    full = content()
    found = cards_of(full)
    assert [card.id for card in found] == list(full.gallery.ids)
    rows = full.measured.records
    rows = rows[rows.seed == 0].set_index(["model", "image"])
    for card in found:
        right = [rows.loc[(m, card.id)].predicted == rows.loc[(m, card.id)].label for m in MODELS]
        assert card.right == all(right[:3])  # the fourth is untrained
        assert [tile.correct for tile in card.rows[0].tiles] == right
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
    maps = decoded(card.rows[0].maps)
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
    rows = full.measured.records
    accuracy, drop, *_ = classes.per_class(rows, MODELS)
    own = rows[(rows.label == 2) & (rows.model == "student")]
    assert (drop.labels[2], drop.counts[2]) == (2, own.image.nunique())
    by_image = own.groupby("image").average_drop.mean()
    assert drop.means[2, 1] == pytest.approx(own.average_drop.mean())
    error = 1.96 * by_image.std(ddof=1) / np.sqrt(drop.counts[2])
    assert drop.errors[2, 1] == pytest.approx(error)
    line = classes.shaded(drop, 2, CLASSES)
    assert line.head.text == CLASSES[2]
    assert line.cells[2].text == f"{own.average_drop.mean():.2f} ± {error:.2f}"
    shades = [cell.shade for k in range(4) for cell in classes.shaded(drop, k, CLASSES).cells[1:]]
    assert (min(shades), max(shades)) == (0, 1)
    assert accuracy.means[2, 1] == pytest.approx((own.predicted == own.label).mean())


@pytest.mark.parametrize(
    ("metric", "mean", "error", "text"),
    [
        ("ssim", 0.4137, 0.2, "0.41 ± 0.20"),
        ("ssim", 0.4137, 0.0031, "0.414 ± 0.003"),
        ("ssim", 0.5, 0.00996, "0.500 ± 0.010"),
        ("ssim", 0.4137, 0.0, "0.41"),
        ("ssim", 0.4137, np.nan, "0.41"),  # one image
        ("accuracy", 0.934, 0.05, "93% ± 5%"),
        ("accuracy", 0.934, 0.004, "93.4% ± 0.4%"),
        ("accuracy", np.nan, np.nan, "\N{EN DASH}"),
    ],
)
def test_an_error_has_a_digit_that_is_not_zero(metric, mean, error, text):
    assert classes.with_error(metric, mean, error) == text


def many_classes(count):
    """One image of each class, the later the better."""
    each = pd.DataFrame({"image": np.arange(count), "label": np.arange(count), "seed": 0})
    each = each.assign(method="cam", predicted=each.label, average_drop=1 - each.image / count)
    return pd.concat([each.assign(model=name) for name in ("one", "two")])


def test_of_many_classes_the_worst_and_the_best_are_shown():
    names = [f"class {k}" for k in range(1000)]
    section = classes.section(many_classes(1000), names, ["one", "two"], "two", {})
    shown = [part for part in section.parts if part.table and not part.folded]
    folded = [part for part in section.parts if part.folded]
    drop = shown[1].table
    assert [heading for heading, _ in drop.groups] == ["10 worst", "10 best"]
    assert [len(rows) for _, rows in drop.groups] == [10, 10]
    (_, worst), (_, best) = drop.groups
    assert worst[0].head.text == "class 0"  # the largest drop
    assert best[-1].head.text == "class 999"
    assert [len(part.table.groups[0][1]) for part in folded] == [1000, 1000]
    assert all(part.table.search for part in folded)
    few = classes.section(many_classes(20), names, ["one", "two"], "two", {})
    assert [len(part.table.groups[0][1]) for part in few.parts[1:]] == [20, 20]


def test_of_many_models_all_but_two_metrics_by_class_are_folded():
    rows = many_classes(10).assign(complexity=0.5, ssim=0.5)
    for count, folded in ((2, [False] * 4), (6, [False, False, True, True])):
        models = [f"m{k}" for k in range(count)]
        every = pd.concat([rows[rows.model == "one"].assign(model=name) for name in models])
        names = [f"class {k}" for k in range(10)]
        section = classes.section(every, names, models, models[0], {})
        assert [bool(part.folded) for part in section.parts if part.table] == folded


def test_zero_maps_are_counted():
    [part] = trusted.degenerate(content().measured.records, {}).parts
    [(_, rows)] = part.table.groups
    for row in rows:
        counts = [int(cell.text) for cell in row.cells[1:]]
        assert counts == [120, 2, 0, 0, 0]  # one image, two seeds


def test_provenance_is_complete(page):
    words = Elements(page).words()
    for (name, seed), result in content().results.items():
        assert f"{name} seed {seed}" in words
        assert result["sha256"] in words
    assert '"epochs": 3' in words  # the config
    assert "61 s" in words
    assert words.count("not trained") == 2  # the untrained networks of two seeds
    assert "written 2026-01-01" in words


def test_of_what_accuracies_are_is_said_once(page):
    words = Elements(page).words()
    said = "Accuracy is of all test images; below it, where it differs, that of the 60 images"
    assert words.count(said) == words.count("sampled from them") == 1
    full = content()
    teacher, *_ = compose.report(full).models
    assert teacher.accuracy == "89.5%"
    rows = full.measured.records[full.measured.records.model == "teacher"]
    explained = (rows.predicted == rows.label).mean()
    assert teacher.of == f"{explained:.1%} of those explained; 2 networks, 89.0 to 90.0%"
    told = {key: own | {"bytes": 77_000} for key, own in full.results.items()}
    assert compose.report(full._replace(results=told)).models[1].size.endswith("77 kB compressed")
    unknown = {"measured_accuracy": 0.5, "model": "mine", "sha256": "0" * 64}
    found = compose.report(full._replace(results=dict.fromkeys(full.results, unknown)))
    assert found.measured_on == "Accuracy is of the 60 images explained."


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
    return page_of(sweep_pages.page())


def test_a_sweep_says_how_far_and_where_each_kind_leaves_the_band(sweep_page):
    one = sweep_pages.made().sweep
    words = Elements(sweep_page).words()
    assert words.index(headline.short(one).says) < words.index("How far can a network be")
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
    dead = re.findall(r'<th scope="row">([\w-]+)<small>[^\n]*class="struck"', sweep_page)
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
    found = sweep_pages.shown(sweep_pages.made())
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
    words = Elements(page_of(sweep_pages.page(1))).words()
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


def many_cards(count=20):
    """More images than the page begins with, masks, and a second method of the first six."""
    full = content()
    rng = np.random.default_rng(3)
    maps = {name: rng.random((count, 8, 8)) for name in MODELS}
    mask = np.zeros((count, 8, 8), bool)
    mask[:, 2:4, 3:6] = True
    own = cards.Gallery(
        ids=100 + np.arange(count),
        images=rng.integers(0, 256, (count, 8, 8, 3), dtype=np.uint8),
        heatmaps=maps, seed=0, method="cam",
        others={"grad_cam": {name: its[:6] for name, its in maps.items()}},
        masks=mask,
    )  # fmt: skip
    rows = full.measured.records
    rows = pd.concat([rows, rows.assign(method="grad_cam", complexity=0.123)])
    return changed(full, records=rows)._replace(gallery=own)


def test_pictures_beyond_the_first_are_text_until_they_are_wanted():
    page = page_of(many_cards())
    loaded, rest = page.split('<template id="rest">')
    rest, after = rest.split("</template>")
    assert loaded.count('class="card"') == loaded.count("--photo: url(") == cards.FIRST
    assert rest.count('class="card"') == 20 - cards.FIRST
    assert "url(" not in rest
    told = re.search(r'<script type="application/json" id="pictures">(.*?)</script>', after)
    found = json.loads(told[1])
    assert list(found) == [str(number) for number in range(100 + cards.FIRST, 120)]
    photo = np.asarray(decoded(found["119"]["photo"]))
    np.testing.assert_array_equal(photo, many_cards().gallery.images[19])
    assert [decoded(uri).size for uri in found["119"]["maps"]] == [(4 * 8, 8)]


def test_other_methods_are_rows_of_the_images_that_have_them():
    full = many_cards()
    slots = DESIGN.slots(MODELS)
    found = cards.view(full.gallery, full.measured.records, CLASSES, slots, DESIGN)["cards"]
    assert [[row.method for row in card.rows] for card in found] == [["cam", "grad_cam"]] * 6 + [
        ["cam"]
    ] * 14
    assert {tile.complexity for tile in found[0].rows[1].tiles} == {0.123}
    page = Elements(page_of(full))
    boxes = [one for one in page.all("input") if one.get("name") == "by"]
    assert [(one["value"], "checked" in one) for one in boxes] == [
        ("cam", True),
        ("grad_cam", False),
    ]
    rows = [one for one in page.all("div") if "data-method" in one]
    assert sum("hidden" in one for one in rows) == 6


def test_the_outline_goes_along_the_masks_borders():
    mask = np.zeros((8, 10), bool)
    mask[2:4, 3:6] = True
    drawn = cards.outline(mask)
    assert "viewBox='0 0 10 8'" in drawn
    [steps, _] = re.findall(r"d='(.*?)'", drawn)
    assert re.findall(r"M\d+ \d+[hv]\d+", steps) == [
        *("M3 2h3", "M3 4h3"),
        *("M3 2v2", "M6 2v2"),
    ]
    assert cards.outline(np.ones((4, 4), bool)) == cards.outline(np.zeros((4, 4), bool)) == ""
    big = cards.outline(np.arange(100 * 100).reshape(100, 100) % 100 < 50)
    assert "viewBox='0 0 64 64'" in big and "M32 0v64" in big
