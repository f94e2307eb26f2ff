"""Where the charts put things."""

import itertools

import numpy as np
import pandas as pd
import pytest
from report_pages import MODELS, PAIRS, content, ladder

from kdxai.report import charts
from kdxai.report.charts import Scale
from kdxai.study import paper

SLOTS = {name: place for place, name in enumerate(MODELS)}


def test_scales_by_hand():
    linear = Scale(0, 2, 100, 300)
    assert [linear.at(value) for value in (0, 0.5, 2)] == [100, 150, 300]
    upwards = Scale(0, 1, 200, 0)
    assert upwards.at(0.25) == 150
    decades = Scale(0.1, 10, 0, 100, logarithmic=True)
    assert [decades.at(value) for value in (0.1, 1, 10)] == [0, 50, 100]
    assert [tick.text for tick in decades.ticks()] == ["0.1", "0.2", "0.5", "1", "2", "5", "10"]
    assert [tick.text for tick in Scale(0, 1, 0, 100).ticks()] == [
        "0",
        "0.2",
        "0.4",
        "0.6",
        "0.8",
        "1",
    ]


def test_the_ladder_says_at_every_rung_who_is_better():
    chart = charts.ladder(ladder(), "complexity", SLOTS, PAIRS[0])
    assert chart.logarithmic
    assert [(rung.name, rung.verdict) for rung in chart.rungs] == [
        ("literal", "better"),
        ("sound", "worse"),
    ]
    literal, sound = ({mark.slot: mark for mark in rung.marks} for rung in chart.rungs)
    assert literal[1].x < literal[0].x  # the student's 2.4 left of the teacher's 4.8
    assert sound[1].x > sound[0].x
    for mark in (*literal.values(), *sound.values()):
        assert 0 < mark.low < mark.x < mark.high < chart.width
    assert chart.lines[1] == f"{literal[1].x},{chart.rungs[0].y} {sound[1].x},{chart.rungs[1].y}"
    assert "literal: teacher 4.800, student 2.400" in chart.description
    same = charts.ladder(ladder(), "average_drop", SLOTS, PAIRS[0])
    assert not same.logarithmic
    assert [rung.verdict for rung in same.rungs] == ["unclear", "unclear"]


def test_a_ladder_without_the_pair_has_no_verdicts():
    rows = ladder()
    chart = charts.ladder(rows[rows.other == ""], "complexity", SLOTS, PAIRS[0])
    assert chart.pair == ()
    assert {rung.verdict for rung in chart.rungs} == {""}


def test_scatter_places_means_and_intervals():
    table = content().tables["table1"]
    chart = charts.scatter(table, "ssim", SLOTS)
    by_slot = {point.slot: point for point in chart.points}
    assert len(by_slot) == 4
    assert by_slot[0].x > by_slot[3].x  # more accurate: right
    assert by_slot[0].y < by_slot[3].y  # more coherent: up
    for point in chart.points:
        assert point.x_low <= point.x <= point.x_high
        assert point.y_high <= point.y <= point.y_low


@pytest.mark.parametrize("seed", range(10))
def test_labels_do_not_lie_on_each_other(seed):
    """All ten models of a study, in pairs that are close together."""
    rng = np.random.default_rng(seed)
    centres = rng.uniform(0.2, 0.9, (5, 2)).repeat(2, 0) + rng.normal(0, 0.01, (10, 2))
    rows = [
        (name, metric, value, value - 0.01, value + 0.01)
        for name, values in zip(paper.ROLES, centres, strict=True)
        for metric, value in zip(("accuracy", "ssim"), values, strict=True)
    ]
    table = pd.DataFrame(rows, columns=["model", "metric", "mean", "ci_low", "ci_high"])
    table["other"] = ""
    chart = charts.scatter(table, "ssim", {name: i for i, name in enumerate(paper.ROLES)})
    boxes = []
    for point in chart.points:
        width = charts.CHARACTER * len(point.label)
        left = point.label_x - {"start": 0, "middle": width / 2, "end": width}[point.anchor]
        boxes.append((left, point.label_y - 11, left + width, point.label_y + 3))
        assert chart.left <= left
        assert left + width <= chart.width
    clashes = [
        pair for pair in itertools.combinations(boxes, 2) if charts.overlap(pair[0])(pair[1])
    ]
    assert len(clashes) <= 1  # a crowd may leave one without a place


def test_intervals_of_claims_lie_around_zero():
    row = pd.Series({"mean": 0.05, "ci_low": -0.01, "ci_high": 0.1, "matters": 0.02})
    found = charts.interval(row, width=216)
    assert found.zero == 108
    assert found.high - found.zero == pytest.approx(100)  # 0.1 of a reach of 0.108
    assert found.mean - found.zero == pytest.approx(50)
    assert found.low - found.zero == pytest.approx(-10)
    assert (found.matters_low, found.matters_high) == (88, 128)
