"""What the charts of models show, read off their axes and their elements."""

import itertools
import re
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from report_pages import MODELS, PAIRS, content, ladder, records

from kdxai.report import drawn
from kdxai.report.charts import images, look, models, training
from kdxai.report.charts.chart import Chart
from kdxai.report.charts.labels import overlap, place_label
from kdxai.report.charts.svg import svg
from kdxai.study import paper, stats

SLOTS = {name: place for place, name in enumerate(MODELS)}


def marks(ax):
    """(x, y, says) of every mark that says something."""
    return [
        (float(line.get_xdata()[0]), float(line.get_ydata()[0]), line.get_gid()[len(look.SAYS) :])
        for line in ax.lines
        if (line.get_gid() or "").startswith(look.SAYS)
    ]


def spelt(ax):
    return [text.get_text() for text in ax.texts]


def test_the_colours_are_the_pages():
    """So that every one of them becomes a variable that the page has."""
    style = (look.__file__.rpartition("/charts/")[0]) + "/page/style.css"
    with open(style) as file:
        light = dict(re.findall(r"--(\w+): light-dark\((#\w{6}), ", file.read()))
    del light["page"]
    assert light == look.COLOURS


def test_the_ladder_says_at_every_rung_who_is_better():
    chart = models.ladder(ladder(), ["complexity"], SLOTS, PAIRS[0], named=False)
    [ax] = chart.figure.axes
    assert ax.get_xscale() == "log"
    found = {says: (x, y) for x, y, says in marks(ax)}
    assert found["literal: student 2.400"][0] == 2.4 < found["literal: teacher 4.800"][0] == 4.8
    assert found["sound: student 0.370"][0] > found["sound: teacher 0.310"][0]
    texts = spelt(ax)
    assert texts[:3] == ["student is", "better", "worse"]
    lines = {tuple(line.get_xdata()) for line in ax.lines}
    assert {(2.4, 0.37), (4.8, 0.31)} <= lines  # from rung to rung
    assert (0.95 * 2.4, 1.05 * 2.4) in lines  # an interval
    assert "literal: teacher 4.800, student 2.400, control 2.300" in chart.description
    assert chart.says[0].endswith("untrained 1.500; student is better")
    doubts = {("teacher", "complexity")}
    told = models.ladder(ladder(), ["complexity"], SLOTS, PAIRS[0], named=False, doubts=doubts)
    assert spelt(told.figure.axes[0])[:3] == ["student is", "better", "†"]  # by the sound protocol
    assert told.says[1].endswith("student is not judged: the metric fails its checks")
    same = models.ladder(ladder(), ["average_drop"], SLOTS, PAIRS[0], named=False)
    assert spelt(same.figure.axes[0])[:3] == ["student is", "unclear", "unclear"]
    assert same.figure.axes[0].get_xscale() == "linear"


def test_lines_of_the_ladder_do_not_cross_its_labels():
    """Names and verdicts stand beside the axes, and every column has one axis."""
    chart = models.ladder(ladder(), ["complexity", "average_drop", "adcc"], SLOTS, PAIRS[0])
    assert len(chart.figure.axes) == 2  # no ADCC was measured
    chart.figure.draw_without_rendering()
    for ax in chart.figure.axes:
        for text in ax.texts:
            box = text.get_window_extent()
            assert box.x1 < ax.bbox.x0 or box.x0 > ax.bbox.x1 or box.y0 > ax.bbox.y1
    assert [ax.get_title(loc="left") for ax in chart.figure.axes] == [
        "Complexity ↓",
        "Average drop ↓",
    ]


def test_a_ladder_without_the_pair_has_no_verdicts():
    rows = ladder()
    chart = models.ladder(rows[rows.other == ""], ["complexity"], SLOTS, PAIRS[0], named=False)
    assert spelt(chart.figure.axes[0]) == ["literal", "sound"]


def test_the_key_of_a_ladder_names_who_is_on_it():
    """An audit may be of some models of a study."""
    chart = models.ladder(ladder(MODELS[:2]), ["complexity"], SLOTS, PAIRS[0])
    [key] = chart.figure.legends
    assert [text.get_text() for text in key.get_texts()] == [*MODELS[:2]]
    assert [line.get_color() for line in key.get_lines()] == [look.colour(0), look.colour(1)]


def test_scatter_places_means_and_intervals():
    table = content().measured.tables["table1"]
    chart = models.scatter(table, "ssim", SLOTS)
    [ax] = chart.figure.axes
    found = {says.partition(":")[0]: (x, y) for x, y, says in marks(ax)}
    rows = table[table.other == ""].set_index(["model", "metric"])
    lines = {(*line.get_xdata(), *line.get_ydata()) for line in ax.lines}
    for name in MODELS:
        x, y = (rows["mean"][name, metric] for metric in ("accuracy", "ssim"))
        assert found[name] == (x, y)
        row = rows.loc[(name, "accuracy")]
        assert (row.ci_low, row.ci_high, y, y) in lines
    assert set(spelt(ax)) == set(MODELS)


@pytest.mark.parametrize("seed", range(10))
def test_labels_do_not_lie_on_each_other(seed):
    """All ten models of a study, in pairs that are close together."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(30, 240, (5, 2)).repeat(2, 0) + rng.normal(0, 2, (10, 2))
    frame = (0, 0, 290, 250)
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in places]
    boxes = []
    for name, (x, y) in zip(paper.ROLES, places, strict=True):
        spot = place_label(name, x, y, [*taken, *boxes], frame)
        boxes.append(spot.box)
        assert spot.box[0] >= 0 and spot.box[2] <= 290
    clashes = [pair for pair in itertools.combinations(boxes, 2) if overlap(pair[0])(pair[1])]
    assert len(clashes) <= 1  # a crowd may leave one without a place


def test_marks_are_means_with_their_intervals_and_seeds_are_points():
    rows = [("b", 0.3, 0.1, 0.6), ("a", 0.5, 0.2, 0.9)]
    table = pd.DataFrame(rows, columns=["model", "mean", "ci_low", "ci_high"])
    table = table.assign(other="", metric="ssim")
    difference = table[:1].assign(model="a", other="b", mean=9.0)
    seeds = [("a", 0, 0.4), ("a", 1, 0.6), ("b", 0, 0.3)]
    seeds = pd.DataFrame(seeds, columns=["model", "seed", "mean"]).assign(metric="ssim")
    slots = {"a": 0, "b": 1}
    both = pd.concat([table, difference])
    [ax] = models.intervals(both, slots, seeds, "table1-cam", "").figure.axes
    assert ax.get_title(loc="left") == "Coherency (SSIM) ↑"
    lines = [
        (list(line.get_xdata()), list(line.get_ydata()), line.get_color()) for line in ax.lines
    ]
    assert lines == [
        ([0.4], [0.3], look.colour(0)),
        ([0.6], [0.3], look.colour(0)),
        ([0.3], [1.3], look.colour(1)),
        ([0.1, 0.6], [1, 1], look.colour(1)),
        ([0.3], [1], look.colour(1)),
        ([0.2, 0.9], [0, 0], look.colour(0)),
        ([0.5], [0], look.colour(0)),
    ]
    [alone] = models.intervals(table, slots, seeds[seeds.seed == 0], "", "").figure.axes
    assert len(alone.lines) == 4  # one network is the mean


def test_what_was_not_measured_is_left_out():
    rows = [("a", "ssim", 0.3), ("b", "ssim", np.nan), ("a", "adcc", np.nan), ("b", "adcc", np.nan)]
    table = pd.DataFrame(rows, columns=["model", "metric", "mean"])
    table = table.assign(other="", ci_low=np.nan, ci_high=np.nan, method="cam", rung="sound")
    slots = {"a": 0, "b": 1}
    [chart] = drawn.table1(table, slots, table[:1].assign(mean=np.nan, seed=0))
    [ax] = chart.figure.axes
    assert marks(ax) == [(0.3, 0, "a 0.300 [0.300, 0.300]")]
    assert [one.name for one in drawn.ladders(table, slots, ())] == ["ladder-ssim"]
    assert drawn.accuracies(table, slots) == []


def test_curves_are_of_the_validation_set():
    history = pd.DataFrame(
        {
            "epoch": [1, 2],
            "validation_loss": [2.0, 1.0],
            "validation_accuracy": [0.4, 0.6],
            "train_accuracy": [0.5, 0.8],
        }
    )
    chart = training.training({"a": history, "b": history / 2}, {"a": 0, "b": 2})
    loss, accuracy = chart.figure.axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[2, 1], [1, 0.5]]
    assert [list(line.get_ydata()) for line in accuracy.lines[:2]] == [[0.4, 0.6], [0.5, 0.8]]
    assert [line.get_linestyle() for line in accuracy.lines[:2]] == ["-", "--"]  # the latter dotted
    assert [line.get_color() for line in loss.lines] == [look.colour(0), look.colour(2)]
    [key] = chart.figure.legends
    assert [text.get_text() for text in key.get_texts()] == ["a", "b"]
    assert [(line.get_marker(), line.get_color()) for line in key.get_lines()] == [
        ("None", look.colour(0)),
        ("None", look.colour(2)),
    ]  # as the lines, which have no marks
    assert "Dotted: accuracy on the augmented training images" in chart.note


def rows_of(values, model="a"):
    columns = {"model": model, "seed": 0, "image": range(len(values)), "label": 0}
    return pd.DataFrame(columns).assign(ssim=values)


def test_distributions_count_images():
    rows = pd.concat([rows_of([0.0, 0.0, 0.0, 1.0]), rows_of([0.5, 0.5, 1.0, 1.0], "b")])
    chart = images.distribution(rows, "ssim", {"a": 0, "b": 1})
    [ax] = chart.figure.axes
    heights = [patch.get_data().baseline - patch.get_data().values for patch in ax.patches]
    shares = np.array(heights) / (0.84 / 0.75)  # the highest bin holds three of four images
    assert shares[0][[0, 12, 23]] == pytest.approx([0.75, 0, 0.25])
    assert shares[1][[0, 12, 23]] == pytest.approx([0, 0.5, 0.5])
    assert chart.says[0] == "a: median 0.000, half of the images from 0.000 to 0.250"


def test_pairs_of_values_are_of_the_same_image():
    student = pd.concat([rows_of([0.2, 0.4, 0.9]), rows_of([0.4, 0.4, 0.7]).assign(seed=1)])
    rows = pd.concat([student, rows_of([0.1, 0.5, 0.8], "b")[::-1]])
    chart = images.paired(rows, "ssim", ("a", "b"), {"a": 0, "b": 1})
    dots = chart.figure.axes[0].lines[1]
    np.testing.assert_allclose(dots.get_xydata(), [[0.1, 0.3], [0.5, 0.4], [0.8, 0.8]])
    assert chart.says[0] == "a is above b on 1 of 3 images, below on 1"
    r = np.corrcoef([0.1, 0.5, 0.8], [0.3, 0.4, 0.8])[0, 1]
    assert chart.says[1].endswith(f"r = {r:.2f}")


def test_it_is_told_which_images_are_dots():
    chart = images.paired(records(images=1000), "ssim", PAIRS[0], SLOTS)
    dots = chart.figure.axes[0].lines[1].get_xdata()
    every = records(images=1000).pivot_table("ssim", "image", "model").teacher.to_numpy()
    assert len(dots) == 400
    assert (dots[0], dots[-1]) == (every[0], every[-1])  # not the first 400
    assert chart.note == (
        "The dots are 400 of the 1,000 test images measured, evenly spaced, by the mean of a "
        "model's networks."
    )
    alone = images.paired(records(seeds=1), "ssim", PAIRS[0], SLOTS)
    assert alone.note == "A dot is a test image."


def test_reliability_by_hand():
    """Ten answers 0.95 sure of which eight are right, five of 0.55 of which one is."""
    sure = rows_of(np.zeros(15)).assign(predicted=[0] * 8 + [1, 1] + [0] + [1] * 4)
    sure["confidence"] = [0.95] * 10 + [0.55] * 5
    chart = images.reliability(sure, {"a": 0})
    points = {(round(x, 3), round(y, 3)) for x, y, _ in marks(chart.figure.axes[0])}
    assert points == {(0.95, 0.8), (0.55, 0.2)}
    error = (10 * 0.15 + 5 * 0.35) / 15
    assert chart.says == [f"a: expected calibration error {error:.3f}"]


def test_the_calibration_error_is_that_of_table_1():
    rng = np.random.default_rng(0)
    rows = records(models=("teacher",), seeds=2, rng=rng)
    rows["confidence"] = rng.uniform(0.3, 1, len(rows))
    table = stats.table(rows, [], resamples=20).set_index("metric")
    own = [images.calibration_error(one) for _, one in rows.groupby("seed")]
    assert np.mean(own) == pytest.approx(table["mean"]["ece"])


def test_curves_of_removal_are_means_over_images():
    ends = {"deletion_0": [1.0, 0.8], "deletion_100": [0.0, 0.2], "deletion_50": [0.4, 0.6]}
    ends |= {f"insertion_{k}": [0.1 * k, 0.3 * k] for k in (0, 50, 100)}
    rows = pd.DataFrame(ends).assign(model="a", insertion=0.5, deletion=0.5)
    chart = images.removal(rows, {"a": 0})
    up, down = chart.figure.axes[0].lines
    np.testing.assert_allclose(down.get_xydata(), [[0, 0.9], [0.5, 0.5], [1, 0.1]])
    np.testing.assert_allclose(up.get_ydata(), [0, 10, 20])
    assert images.percents(rows.drop(columns=list(ends)), "deletion") == []


EVIL = 'a$b_{c$ <b> & "q" 日本'


@look.styled
def small():
    figure = look.new_figure(200, 100)
    ax = look.add_axes(figure, 10, 10, 180, 80)
    look.mark(ax, 0.5, 0.5, 0, EVIL)
    ax.plot([0, 1], [0, 1], color=look.colour(2))
    ax.text(0, 1, EVIL, clip_on=False)
    return figure


def test_an_element_of_a_page_has_text_and_the_pages_colours():
    text = str(svg(small(), "one two", EVIL, "A line."))
    root = ElementTree.fromstring(text)
    assert "width" not in root.attrib and root.get("viewBox") == "0 0 200 100"
    assert root.get("role") == "img"
    ids = [node.get("id") for node in root.iter() if node.get("id")]
    assert len(set(ids)) == len(ids)
    assert all(one.startswith("one-two-") for one in ids)
    assert set(root.get("aria-labelledby").split()) <= set(ids)
    titles = [node.text for node in root.iter("title")]
    assert titles == [EVIL, EVIL]  # the chart's and the mark's
    assert EVIL in [node.text for node in root.iter("text")]
    assert "var(--m0)" in text and "var(--m2)" in text
    assert not re.search(r"#[0-9a-f]{6}|clip|DejaVu|<style|metadata|\dpt\b", text)
    hrefs = [node.get("href") for node in root.iter("use")]
    assert hrefs and all(href[1:] in ids for href in hrefs)
    assert text == str(svg(small(), "one two", EVIL, "A line."))  # stable
    assert not re.search(r"\d\.\d{4}", text)


def test_two_charts_share_no_id(tmp_path):
    one, two = (Chart(name, "", "", small()) for name in ("one", "two"))
    found = [set(re.findall(r'id="([^"]*)"', str(chart.svg))) for chart in (one, two)]
    assert not found[0] & found[1]
    assert one.save(tmp_path) == "one.png"
    assert (tmp_path / "one.png").stat().st_size > 1000
    assert not one.wide
    assert Chart("", "", "", Figure((9, 1))).wide


def test_charts_are_small():
    table = content().measured.tables["table1"]
    found = [
        models.ladder(ladder(), ["complexity"], SLOTS, PAIRS[0]),
        models.scatter(table, "ssim", SLOTS),
        images.paired(records(images=1000), "ssim", PAIRS[0], SLOTS),
    ]
    assert all(len(chart.svg) < 30_000 for chart in found)
