"""What the charts of sweeps, of seed noise and of metrics show, read off their axes."""

import functools

import matplotlib
import numpy as np
import pandas as pd
import pytest
from sweep_pages import MODELS, made
from test_charts import marks, spelt
from test_html import contrast

from kdxai.report import seeds
from kdxai.report.charts import look, squares, sweeps
from kdxai.report.headline import headline


@functools.cache
def chart(column, parents=5, classes=4):
    return sweeps.curve(made(parents).sweep, column, classes)


def axes(column, parents=5):
    return chart(column, parents).figure.axes[0]


def paths(ax):
    """Points of every line that joins some."""
    lines = [line.get_xydata() for line in ax.lines if len(line.get_xdata()) > 1]
    return [[tuple(point) for point in points] for points in lines]


def test_factors_are_logarithmic():
    ax = axes("accuracy")
    ticks = [text.get_text() for text in ax.get_xticklabels()]
    assert ticks == ["1×", "2×", "4×", "8×", "16×"]  # noqa: RUF001
    assert ax.get_xscale() == "log" and list(ax.get_xticks()) == [1, 2, 4, 8, 16]
    places = [x for x, _, says in marks(ax) if says.startswith("weights quantised")]
    assert places == pytest.approx([4, 8, 16])


def steps(kind):
    own = made().sweep.steps
    return own[own.kind == kind]


def test_lines_begin_at_the_dense_network_treated_alike():
    found = paths(axes("agreement"))
    points = {name: list(zip(own.factor, own.agreement, strict=True)) for name, own in
              made().sweep.steps.groupby("kind")}  # fmt: skip
    assert [(1, 1), *points["weights quantised"]] in found
    [tuned] = points["dense, fine-tuned"]
    assert [tuned, *points["pruned by magnitude, fine-tuned"]] in found
    assert tuned[1] < 1  # tuning alone moves the maps
    # None was re-estimated alone: the line begins at its first step.
    assert points["pruned by magnitude, BatchNorm re-estimated"] in found
    dense = made().sweep.parents.accuracy
    own = steps("weights quantised")
    line = [(1, dense.mean()), *zip(own.factor, own.accuracy, strict=True)]
    assert any(np.allclose(path, line) for path in paths(axes("accuracy")) if len(path) == 4)
    assert sum(says.startswith("dense:") for *_, says in marks(axes("accuracy"))) == 5


def test_what_collapsed_ends_the_line_and_is_marked():
    for column in sweeps.TITLES:
        ax = axes(column)
        pruned = steps("pruned by magnitude")
        assert list(pruned.collapsed > 0) == [False, False, True]
        points = list(zip(pruned.factor, pruned[column], strict=True))
        assert any(path[1:] == points[:2] for path in paths(ax))  # behind the dense one
        grey = [line for line in ax.lines if line.get_color() == look.SOFT]
        assert points[1:] in [[tuple(p) for p in line.get_xydata()] for line in grey]
        crosses = [(*line.get_xydata()[0],) for line in grey if line.get_marker() == "x"
                   and line.get_gid()]  # fmt: skip
        random = steps("pruned at random")
        assert {points[-1], *zip(random.factor, random[column], strict=True)} == set(crosses)
        assert any(says.endswith("(collapsed)") for *_, says in marks(ax))


def test_the_band_lies_between_the_parents_extremes():
    own = made().sweep.parents
    for column in ("accuracy", "adcc"):
        [box] = axes(column).patches
        assert box.get_y() == pytest.approx(own[column].min())
        assert box.get_y() + box.get_height() == pytest.approx(own[column].max())
    [box] = axes("agreement").patches
    assert box.get_y() == pytest.approx(0.82, abs=1e-4)
    assert {len(axes(column, 1).patches) for column in sweeps.TITLES} == {0}
    ax = axes("agreement")
    for x, y, _ in marks(ax):
        assert ax.get_xlim()[0] < x < ax.get_xlim()[1]
        assert ax.get_ylim()[0] < y < ax.get_ylim()[1]


def test_controls_and_treatments_are_drawn_apart():
    kinds = sweeps.kinds(made().sweep)
    assert len({(kind.slot, kind.style) for kind in kinds}) == len(kinds)
    assert {kind.name: kind.style for kind in kinds} == {
        "weights quantised": "plain",
        "pruned by magnitude": "plain",
        "pruned by magnitude, BatchNorm re-estimated": "batch_norm",
        "pruned at random": "control",
        "dense, fine-tuned": "tuned",
        "pruned by magnitude, fine-tuned": "tuned",
    }


def test_chance_is_drawn_where_it_is_within_the_chart():
    assert "chance" in spelt(axes("accuracy"))
    assert "chance" not in spelt(axes("adcc"))
    assert "chance" not in spelt(chart("accuracy", classes=1000).figure.axes[0])


def test_a_sweeps_picture_has_every_chart_the_headline_and_the_kinds():
    own = made().sweep
    figure = sweeps.compression([own], 4).figure
    assert [ax.get_title(loc="left") for ax in figure.axes] == list(sweeps.TITLES.values())
    assert paths(figure.axes[1]) == paths(axes("agreement"))
    assert " ".join(figure.texts[0].get_text().split()) == headline(own)
    named = [text.get_text() for text in figure.legends[0].get_texts()]
    assert {"collapsed", "dense, other seeds", "pruned at random (control)"} <= set(named)
    assert len(named) == 2 + len(sweeps.kinds(own))


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
    drawn = squares.strips(found)
    [ax] = drawn.figure.axes
    told = marks(ax)
    assert sum(text.endswith(("pairs", "pair")) for text in spelt(ax)) == 7
    first = [x for x, y, _ in told if y < 0.5]
    assert sorted(first) == sorted(found.pairs[0].values)
    [band] = ax.patches
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx(
        (min(first), max(first))
    )
    means = [line.get_xdata()[0] for line in ax.lines if line.get_color() == look.INK]
    assert means == [pytest.approx(np.mean(first))]  # of several strengths there is no mean
    assert drawn.says[0].startswith(f"two of dense: mean {np.mean(first):.3f}, 10 pairs from 0.82")


def test_the_matrix_is_drawn_with_values_that_are_read_on_any_ground():
    """By all eyes: the colours' lightness rises with the value."""
    _, found = alike(1)
    [ax] = squares.matrix(found).figure.axes
    count = len(found.networks)
    assert [tick.get_text() for tick in ax.get_yticklabels()] == list(found.networks)
    texts = {text.get_position()[::-1]: text for text in ax.texts}
    assert len(texts) == count * (count - 1)
    assert texts[3, 0].get_text() == f"{found.matrix[3, 0]:.2f}".removeprefix("0")
    [image] = ax.images
    np.testing.assert_array_equal(np.delete(image.get_array()[0], 0), found.matrix[0, 1:])
    for (i, j), text in texts.items():
        ground = matplotlib.colors.to_hex(image.cmap(image.norm(found.matrix[i, j])))
        assert contrast(ground, text.get_color()) >= 4.5
    ramp = matplotlib.colormaps[squares.COLOURS](np.linspace(0, 1, 50))[:, :3]
    assert (np.diff(ramp @ (0.2126, 0.7152, 0.0722)) > 0).all()
    assert not squares.matrix(alike(2)[1]).figure.axes[0].texts  # 28 rows
    assert [squares.two_digits(value) for value in (-0.034, 1.0, np.nan)] == [
        "-.03",
        "1.00",
        "\N{EN DASH}",
    ]


def agreeing(names, rho):
    pairs = [(a, b) for a in range(len(names)) for b in range(len(names)) if a != b]
    rows = [
        {"metric": names[a], "other": names[b], "rho": rho[a, b]}
        | {"ci_low": rho[a, b] - 0.1, "ci_high": rho[a, b] + 0.1}
        for a, b in pairs
    ]
    return pd.DataFrame(rows)


def test_metrics_that_agree_stand_side_by_side():
    names = ["adcc", "gini", "insertion", "entropy"]
    rho = np.full((4, 4), -0.2)
    rho[0, 2] = rho[2, 0] = rho[1, 3] = rho[3, 1] = 0.9
    square = squares.side_by_side(agreeing(names, rho))
    assert (square.index == square.columns).all() and (np.diag(square) == 1).all()
    places = {name: i for i, name in enumerate(square.index)}
    assert abs(places["adcc"] - places["insertion"]) == abs(places["gini"] - places["entropy"]) == 1
    assert square.loc["adcc", "insertion"] == 0.9


def test_metrics_are_drawn_with_and_without_truth_and_with_gaps():
    rho = np.array([[1, 0.4, np.nan], [0.4, 1, 0.7], [np.nan, 0.7, 1]])
    table = agreeing(["adcc", "arcc", "truth"], rho)
    texts = spelt(squares.concord(table).figure.axes[0])
    assert sorted(texts) == sorted([".40", ".70", "\N{EN DASH}"] * 2)
    found = squares.truth(table)
    assert [(x, y) for x, y, _ in marks(found.figure.axes[0])] == [(0.7, 0)]
    assert found.says == ["ARCC (mean of images) 0.70 [0.60, 0.80]"]
    assert squares.truth(agreeing(["adcc", "arcc", "gini"], rho)) is None
