"""Where the charts of sweeps and of seed noise put things."""

import functools

import matplotlib
import numpy as np
import pytest
from sweep_pages import MODELS, made
from test_html import contrast

from kdxai.report import diagrams, seeds


@functools.cache
def chart(column, parents=5):
    return diagrams.curve(made(parents).sweep, column, classes=4)


def points(text):
    return [tuple(map(float, pair.split(","))) for pair in text.split()]


def by_kind(curve):
    return {line.kind: line for line in curve.lines}


def test_factors_are_logarithmic():
    ticks = {tick.text: tick.at for tick in chart("accuracy").x_ticks}
    assert list(ticks) == ["1×", "2×", "4×", "8×", "16×"]  # noqa: RUF001
    assert np.diff([*ticks.values()]) == pytest.approx(np.diff([*ticks.values()])[0], abs=0.2)
    line = by_kind(chart("accuracy"))["weights quantised"]
    assert [dot.x for dot in line.means] == [ticks[f"{f}×"] for f in (4, 8, 16)]  # noqa: RUF001


def test_lines_begin_at_the_dense_network_treated_alike():
    curve = chart("agreement")
    lines = by_kind(curve)
    [dense] = curve.parents
    assert points(lines["weights quantised"].path)[0] == (dense.x, dense.y)
    tuned = lines["dense, fine-tuned"].means[0]
    assert points(lines["pruned by magnitude, fine-tuned"].path)[0] == (tuned.x, tuned.y)
    assert tuned.y > dense.y  # tuning alone moves the maps
    # None was re-estimated alone: the line begins at its first step.
    assert len(points(lines["pruned by magnitude, BatchNorm re-estimated"].path)) == 2
    accuracy = chart("accuracy")
    assert len(accuracy.parents) == 5
    first = points(by_kind(accuracy)["weights quantised"].path)[0]
    assert first[1] == pytest.approx(np.mean([dot.y for dot in accuracy.parents]), abs=0.2)


def test_what_collapsed_ends_the_line_and_is_marked():
    for column in diagrams.TITLES:
        lines = by_kind(chart(column))
        pruned, random = lines["pruned by magnitude"], lines["pruned at random"]
        assert [dot.dead for dot in pruned.means] == [False, False, True]
        assert len(points(pruned.path)) == 3  # dense, 2, 4
        assert points(pruned.fallen)[-1] == (pruned.means[-1].x, pruned.means[-1].y)
        assert len(points(random.path)) == 1
        assert all(dot.dead for dot in random.networks)
        assert pruned.means[-1].says.endswith("(collapsed)")
        assert not lines["weights quantised"].fallen


def test_the_band_lies_between_the_parents_extremes():
    for column in ("accuracy", "adcc"):
        top, middle, bottom = chart(column).band
        places = [dot.y for dot in chart(column).parents]
        assert (top, bottom) == (min(places), max(places))
        assert top < middle < bottom
    assert {chart(column, 1).band for column in diagrams.TITLES} == {None}
    curve = chart("agreement")
    for line in curve.lines:
        for dot in (*line.means, *line.networks):
            assert curve.left < dot.x < curve.width
            assert 0 < dot.y < curve.bottom


def test_controls_and_treatments_are_drawn_apart():
    lines = chart("adcc").lines
    assert len({(line.slot, line.style) for line in lines}) == len(lines)
    assert {line.kind: line.style for line in lines} == {
        "weights quantised": "plain",
        "pruned by magnitude": "plain",
        "pruned by magnitude, BatchNorm re-estimated": "batch_norm",
        "pruned at random": "control",
        "dense, fine-tuned": "tuned",
        "pruned by magnitude, fine-tuned": "tuned",
    }


def test_chance_is_drawn_where_it_is_within_the_chart():
    assert chart("accuracy").chance is not None
    assert chart("adcc").chance is None
    assert diagrams.curve(made().sweep, "accuracy", classes=1000).chance is None


def alike(parents):
    own = made(parents)
    return own, seeds.alike(own.pairwise, [own.sweep], "dense")


def test_pairs_are_sorted_by_what_they_are():
    _, found = alike(5)
    assert found.pairs[0].what == "two of dense"
    assert [len(one.values) for one in found.pairs] == [10, 15, 15, 10, 5, 5, 15]
    assert [one.within for one in found.pairs] == [True] + [False] * 6
    assert (found.reference, found.band.size) == ("dense", 10)
    assert found.left_out == 5 * len(MODELS)  # 70 networks cannot be read
    assert found.networks == [f"dense {seed}" for seed in range(5)]
    own, small = alike(2)
    assert small.left_out == 0
    assert small.groups == [("dense", 2), *((model, 2) for model in MODELS)]
    assert len(alike(1)[1].networks) == 1 + len(MODELS)
    assert alike(1)[1].band is None
    mean = own.pairwise.values["pearson"].mean(0)
    both = own.pairwise.right[:, 0] & own.pairwise.right[:, 1]
    assert small.matrix[1, 0] == pytest.approx(mean[0], abs=1e-5)
    assert small.matrix[0, 1] == pytest.approx(
        own.pairwise.values["pearson"][both, 0].mean(), abs=1e-5
    )


def test_models_that_share_lines_are_compared_line_by_line():
    """A student with its own teacher; networks that share nothing all with all."""
    own = made(5)
    part = own.pairwise.among(["dense", "bits-8", "prune-4"])
    found = seeds.alike(part, [], "prune-4")
    kinds = {one.what: one for one in found.pairs}
    assert len(kinds["dense and its bits-8"].values) == 5
    assert (found.reference, len(kinds["two of prune-4"].values)) == ("prune-4", 10)
    assert kinds["two of prune-4"].within
    lines = part.networks.line.where(part.networks.model == "dense", part.networks.model + "x")
    apart = part._replace(networks=part.networks.assign(line=lines + part.networks.seed.map(str)))
    kinds = {one.what: one for one in seeds.alike(apart, [], "dense").pairs}
    assert len(kinds["dense and bits-8"].values) == 25


def test_dots_of_pairs_are_where_their_values_are():
    _, found = alike(5)
    drawn = diagrams.strips(found)
    assert len(drawn.strips) == 7
    first = drawn.strips[0]
    places = np.array([dot.x for dot in first.dots])
    assert (np.diff(places[np.argsort(found.pairs[0].values)]) >= 0).all()
    assert (min(d.x for d in first.dots), max(d.x for d in first.dots)) == drawn.band
    assert drawn.band[0] < first.mean < drawn.band[1]
    assert drawn.strips[1].mean is None  # of several strengths there is no mean


def test_values_of_the_matrix_are_read_on_any_ground():
    """By all eyes: the colours' lightness rises with the value."""
    _, found = alike(2)
    drawn = diagrams.matrix(found)
    count = len(found.networks)
    assert len(drawn.cells) == count * (count - 1)
    for cell in drawn.cells:
        assert contrast(cell.fill, "#000000" if cell.ink == "#000" else "#ffffff") >= 4.5
    ramp = matplotlib.colormaps[diagrams.MATRIX_COLOURS](np.linspace(0, 1, 50))[:, :3]
    light = ramp @ (0.2126, 0.7152, 0.0722)
    assert (np.diff(light) > 0).all()
    assert drawn.cells[0].text == f"{found.matrix[0, 1]:.2f}".removeprefix("0")
    assert diagrams.two_digits(-0.034) == "-.03"
    assert diagrams.two_digits(1.0) == "1.00"
