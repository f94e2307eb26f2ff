"""What is left of networks at which compression factor."""

import math
import textwrap
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FixedFormatter, FixedLocator, NullLocator

from kdxai.report import headline, sweep, titles
from kdxai.report.charts import look
from kdxai.report.charts.chart import Chart
from kdxai.report.charts.look import CARD, INK, SAYS, SOFT
from kdxai.report.sweep import Sweep
from kdxai.study.design import SLOTS

TITLES = {
    "accuracy": titles.metric("accuracy"),
    "agreement": "Agreement with the parent, r ↑",
    "adcc": titles.metric("adcc"),
}
DASHES: dict[str, Any] = {"batch_norm": (0, (4, 2.2)), "control": (0, (1, 2))}
WIDTH, HEIGHT, LEFT = 380, 300, 46


class Kind(NamedTuple):
    """A kind of compression as it is drawn.

    Attributes:
      slot: colour and shape.
      dense: whether nothing was taken from the networks: a point, and no line.
      style: "plain", "tuned", "batch_norm" or "control".
    """

    name: str
    slot: int
    dense: bool
    style: str


def kinds(one: Sweep) -> list[Kind]:
    return [
        Kind(
            name=name,
            slot=place % SLOTS,
            dense=bool(rows.dense.iloc[0]),
            style="control" if rows.control.iloc[0] else rows.treatment.iloc[0] or "plain",
        )
        for place, (name, rows) in enumerate(sweep.kinds(one))
    ]


@look.styled
def curve(one: Sweep, column: str, classes: int) -> Chart:
    """One number over the compression factor.

    Args:
      column: one of `TITLES`.
      classes: how many there are, which says what guessing gives.
    """
    figure = look.new_figure(WIDTH, HEIGHT)
    says = along(
        look.add_axes(figure, LEFT, 8, WIDTH - LEFT - 8, HEIGHT - 52), one, column, classes
    )
    return Chart(
        name=f"sweep-{one.dense}-{column}",
        title=TITLES[column],
        description=f"{TITLES[column]} over the compression factor. {' '.join(says)}",
        figure=figure,
        says=says,
    )


@look.styled
def compression(sweeps: Sequence[Sweep], classes: int) -> Chart:
    """The three numbers of every sweep, a row each, with the kinds named below."""
    columns = list(TITLES)
    row = HEIGHT + 60 + 16 * max(-(-len(kinds(one)) // 4) for one in sweeps)
    figure = look.new_figure(WIDTH * len(columns), row * len(sweeps))
    says = []
    for line, one in enumerate(sweeps):
        text = "\n".join(textwrap.wrap(headline.headline(one), 200))
        figure.text(0.01, 1 - (row * line + 6) / (row * len(sweeps)), text, va="top")
        for place, column in enumerate(columns):
            place_of = WIDTH * place + LEFT, row * line + 58, WIDTH - LEFT - 8, HEIGHT - 52
            ax = look.add_axes(figure, *place_of)
            says += along(ax, one, column, classes)
            ax.set_title(TITLES[column])
        handles, names = figure.axes[-len(columns)].get_legend_handles_labels()
        corner = 0.01, 1 - row * (line + 1) / (row * len(sweeps))
        figure.legend(
            handles, names, loc="lower left", bbox_to_anchor=corner, ncols=4, frameon=False
        )
    return Chart("compression", "Compression", " ".join(says), figure, says)


def along(ax: Axes, one: Sweep, column: str, classes: int) -> list[str]:
    """The seed band, a line for each kind, a dot for each network; returns its numbers."""
    band = one.bands.get(column) if len(one.parents) > 1 else None
    own = [1.0] if column == "agreement" else list(one.parents[column])
    factor_axis(ax, one)
    values = [*one.networks[column].dropna(), *own, *([band.low, band.high] if band else [])]
    look.upright(ax, min(values), max(values))
    ax.grid(axis="x", visible=False)
    if column == "accuracy":
        ax.yaxis.set_major_formatter(look.percent)
    if band:
        look.band(ax, band.low, band.high, band.mean, across=True)
        ax.patches[-1].set_label("dense, other seeds")
    if column == "accuracy" and ax.get_ylim()[0] < 1 / classes < ax.get_ylim()[1]:
        ax.axhline(1 / classes, color=SOFT, ls=(0, (2, 3)), lw=1)
        look.beside(ax, 0, 1 / classes, "chance", (4, 4), color=SOFT, va="baseline")
    says = [line(ax, one, kind, column) for kind in reversed(kinds(one))]
    for value in own:
        ax.plot(1, value, "o", color=INK, ms=5, mec=CARD, mew=0.8, gid=f"{SAYS}dense: {value:.3f}")
    if one.networks.collapsed.any():
        ax.plot([], [], "x", color=SOFT, ms=7, mew=2, label="collapsed")
    return says[::-1]


def factor_axis(ax: Axes, one: Sweep) -> None:
    """A logarithmic axis that holds all compression factors, and 1."""
    low, high = min(one.networks.factor.min(), 1) / 1.12, max(one.networks.factor.max(), 2) * 1.12
    ax.set_xscale("log", base=2)
    ax.set_xlim(low, high)
    doublings = range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)
    ticks = [2.0**power for power in doublings]
    ax.xaxis.set_major_locator(FixedLocator(ticks))
    ax.xaxis.set_major_formatter(FixedFormatter([f"{t:g}\N{MULTIPLICATION SIGN}" for t in ticks]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.set_xlabel("compression factor (logarithmic) →", loc="right")


def line(ax: Axes, one: Sweep, kind: Kind, column: str) -> str:
    """A kind: it begins at the dense network treated alike, and is grey from where it collapses."""
    steps = one.steps[(one.steps.kind == kind.name) & one.steps[column].notna()]
    own = one.networks[(one.networks.kind == kind.name) & one.networks[column].notna()]
    points = [(row.factor, getattr(row, column)) for row in steps.itertuples()]
    alive = int(((steps.collapsed > 0).cumsum() == 0).sum())
    start = None if kind.dense else begins(one, column, steps.treatment)
    if start is not None and not np.isnan(start[1]):
        points, alive = [start, *points], alive + 1
    look_of = {
        **{"color": look.colour(kind.slot), "lw": 2.6 if kind.style == "tuned" else 1.6},
        **{"ls": DASHES.get(kind.style, "-")},
    }
    if alive < len(points):
        ax.plot(*across(points[max(alive - 1, 0) :]), color=SOFT, ls=(0, (2, 3)), lw=1.1)
    if alive > 1:
        ax.plot(*across(points[:alive]), **look_of)
    for dead, rows in own.groupby("collapsed"):
        colour = SOFT if dead else look.colour(kind.slot)
        ax.plot(rows.factor, rows[column], "o", color=colour, ms=3.6, mew=0, alpha=0.55)
    says = []
    for row in steps.itertuples():
        value = getattr(row, column)
        said = f"{row.strength or 'dense'}, {sweep.times(row.factor)} times: {value:.3f}"
        says.append(said + " (collapsed)" * bool(row.collapsed))
        if row.collapsed:
            gone: dict[str, Any] = {"marker": "x", "color": SOFT, "ms": 7, "mew": 2}
            ax.plot(row.factor, value, **gone, gid=f"{SAYS}{kind.name}, {says[-1]}")
        else:
            look.mark(ax, row.factor, value, kind.slot, f"{kind.name}, {said}")
    shown = look.shape(kind.slot) | ({} if kind.dense else look_of)
    ax.plot(
        [], [], **shown, label=f"{kind.name} (control)" if kind.style == "control" else kind.name
    )
    return f"{kind.name}: {', '.join(says)}."


def begins(one: Sweep, column: str, treatments: pd.Series) -> tuple[float, float] | None:
    """(factor, value) of the dense network treated alike; None where there is none of that."""
    treatment = treatments.iloc[0] if len(treatments) else ""
    if not treatment:
        return 1.0, 1.0 if column == "agreement" else float(one.parents[column].mean())
    own = one.steps[one.steps.dense & (one.steps.treatment == treatment)]
    return (own.factor.iloc[0], own[column].iloc[0]) if len(own) else None


def across(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Points as matplotlib takes them: all x, all y."""
    return [x for x, _ in points], [y for _, y in points]
