"""Where the charts of a sweep and of seed noise put things, in user units of an SVG."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import matplotlib
import numpy as np
import pandas as pd

from kdxai.report import charts, sweep, tables
from kdxai.report.charts import Scale, Tick
from kdxai.report.seeds import Alike
from kdxai.report.sweep import Sweep
from kdxai.study.design import SLOTS

WIDTH, HEIGHT, LEFT, BOTTOM = 380, 300, 46, 252
TITLES = {
    "accuracy": tables.title("accuracy"),
    "agreement": "Agreement with the parent, r ↑",
    "adcc": tables.title("adcc"),
}
MATRIX_COLOURS = "cividis"  # one order of lightness, for all eyes


class Dot(NamedTuple):
    """A network, or the mean of several; `dead`: at chance, so its maps explain nothing."""

    x: float
    y: float
    dead: bool
    says: str


class Line(NamedTuple):
    """A kind of compression.

    Attributes:
      slot: colour and shape.
      dense: whether nothing was taken from the networks: a point, and no line.
      style: "plain", "tuned", "batch_norm" or "control".
      path: points through the means.
      fallen: points of its end from the last mean that is above chance.
    """

    kind: str
    slot: int
    dense: bool
    style: str
    path: str
    fallen: str
    means: Sequence[Dot]
    networks: Sequence[Dot]


class Curve(NamedTuple):
    """One number over the compression factor.

    Attributes:
      band: y of its top, mean and bottom; None where there is none.
      chance: y of guessing; None where that is outside of the chart.
      parents: the dense networks.
    """

    title: str
    description: str
    width: float
    height: float
    left: float
    bottom: float
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    band: tuple[float, float, float] | None
    chance: float | None
    parents: Sequence[Dot]
    lines: Sequence[Line]


def slots(one: Sweep) -> dict[str, int]:
    """Kind -> its colour and shape."""
    return {name: place % SLOTS for place, (name, _) in enumerate(sweep.kinds(one))}


def factors(one: Sweep, start: float, end: float) -> Scale:
    """A logarithmic scale that holds all compression factors, and 1."""
    low, high = min(one.networks.factor.min(), 1), max(one.networks.factor.max(), 2)
    return Scale(low / 1.12, high * 1.12, start, end, logarithmic=True)


def called(factor: float) -> str:
    return f"{factor:g}\N{MULTIPLICATION SIGN}"


def doublings(low: float, high: float) -> list[float]:
    """The powers of two from low to high."""
    return [2.0**k for k in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)]


def starts(one: Sweep, column: str, treatment: str) -> tuple[float, float] | None:
    """(factor, value) of the dense network treated alike; None where there is none of that."""
    if not treatment:
        return 1.0, 1.0 if column == "agreement" else float(one.parents[column].mean())
    own = one.steps[one.steps.dense & (one.steps.treatment == treatment)]
    return (own.factor.iloc[0], own[column].iloc[0]) if len(own) else None


def curve(one: Sweep, column: str, classes: int) -> Curve:
    """The chart of `accuracy`, `agreement` or `adcc`.

    Args:
      classes: how many there are, which says what guessing gives.
    """
    band = one.bands.get(column) if len(one.parents) > 1 else None
    own = [1.0] if column == "agreement" else list(one.parents[column])
    x = factors(one, LEFT + 6, WIDTH - 8)
    values = [*one.networks[column].dropna(), *own, *([band.low, band.high] if band else [])]
    ends = pd.DataFrame({"ci_low": [min(values)], "ci_high": [max(values)]})
    y = charts.scale(ends, BOTTOM - 4, 10)
    lines = [line(one, name, slot, column, (x, y)) for name, slot in slots(one).items()]
    ticks = y.ticks(8)
    if column == "accuracy":
        ticks = [t._replace(text=f"{float(t.text):.0%}") for t in charts.percents(y)]
    guessing = column == "accuracy" and y.low < 1 / classes < y.high
    return Curve(
        title=TITLES[column],
        description=" ".join(
            f"{each.kind}: {', '.join(dot.says for dot in each.means)}." for each in lines
        ),
        width=WIDTH,
        height=HEIGHT,
        left=LEFT,
        bottom=BOTTOM,
        x_ticks=[Tick(x.at(value), called(value)) for value in doublings(x.low, x.high)],
        y_ticks=ticks,
        band=(y.at(band.high), y.at(band.mean), y.at(band.low)) if band else None,
        chance=y.at(1 / classes) if guessing else None,
        parents=[Dot(x.at(1), y.at(value), False, f"dense: {value:.3f}") for value in own],
        lines=lines,
    )


def line(one: Sweep, kind: str, slot: int, column: str, scales: tuple[Scale, Scale]) -> Line:
    """A kind's line; it begins at the dense network treated alike."""
    x, y = scales

    def dots(rows: pd.DataFrame) -> list[Dot]:
        return [
            Dot(
                x.at(row.factor),
                y.at(value),
                bool(row.collapsed),
                f"{row.strength or 'dense'}, {sweep.times(row.factor)} times: {value:.3f}"
                + (" (collapsed)" if row.collapsed else ""),
            )
            for row in rows.itertuples()
            if not np.isnan(value := getattr(row, column))
        ]

    steps = one.steps[one.steps.kind == kind]
    means = dots(steps)
    points = [(dot.x, dot.y) for dot in means]
    alive = next((place for place, dot in enumerate(means) if dot.dead), len(means))
    dense = bool(steps.dense.iloc[0])
    start = None if dense else starts(one, column, steps.treatment.iloc[0])
    if start is not None and not np.isnan(start[1]):
        points, alive = [(x.at(start[0]), y.at(start[1])), *points], alive + 1
    return Line(
        kind=kind,
        slot=slot,
        dense=dense,
        style=style(steps),
        path=joined(points[:alive]),
        fallen=joined(points[max(alive - 1, 0) :]) if alive < len(points) else "",
        means=means,
        networks=dots(one.networks[one.networks.kind == kind]),
    )


def style(steps: pd.DataFrame) -> str:
    """How the line of a kind is drawn."""
    return "control" if steps.control.iloc[0] else steps.treatment.iloc[0] or "plain"


def joined(points: Sequence[tuple[float, float]]) -> str:
    """As a polyline takes them."""
    return " ".join(f"{x},{y}" for x, y in points)


class Strip(NamedTuple):
    """The pairs of one kind, as dots on a line; `mean` is its x, None where it means nothing."""

    what: str
    within: bool
    y: float
    mean: float | None
    dots: Sequence[Dot]
    size: str
    says: str


class Strips(NamedTuple):
    """All kinds of pairs; `band` is the x of its low and high end, None where there is none."""

    description: str
    width: float
    height: float
    ticks: Sequence[Tick]
    band: tuple[float, float] | None
    strips: Sequence[Strip]


STRIP, ACROSS = 44, 680


def strips(found: Alike) -> Strips:
    """A line of dots for each kind of pairs."""
    kept = [(one, values) for one in found.pairs if (values := [*filter(known, one.values)])]
    values = [value for _, its in kept for value in its]
    ends = pd.DataFrame({"ci_low": [min(values)], "ci_high": [max(values)]})
    x = charts.scale(ends, 10, ACROSS - 10)
    rows = []
    for place, (one, its) in enumerate(kept):
        y = STRIP * place + 34
        # Neighbours stand on three levels, so that none hides another.
        rank = np.argsort(np.argsort(one.values, kind="stable"))
        dots = [
            Dot(x.at(value), y + 4 * (int(level) % 3 - 1), False, f"{says}: {value:.3f}")
            for value, level, says in zip(one.values, rank, one.says, strict=True)
            if known(value)
        ]
        count = "1 pair" if len(its) == 1 else f"{len(its)} pairs"
        says = f"mean {np.mean(its):.3f}, {count}" if one.alike else count
        if len(its) > 1:
            says += f" from {min(its):.3f} to {max(its):.3f}"
        mean = x.at(float(np.mean(its))) if one.alike else None
        rows.append(Strip(one.what, one.within, y, mean, dots, count, says))
    return Strips(
        description=" ".join(f"{row.what}: {row.says}." for row in rows),
        width=ACROSS,
        height=STRIP * len(rows) + 30,
        ticks=x.ticks(),
        band=(x.at(found.band.low), x.at(found.band.high)) if found.band else None,
        strips=rows,
    )


def known(value: float) -> bool:
    return not np.isnan(value)


class Cell(NamedTuple):
    """A value of the matrix with its place and colours."""

    x: float
    y: float
    text: str
    fill: str
    ink: str
    says: str


class Matrix(NamedTuple):
    """Agreement of all with all.

    Attributes:
      size: of a cell.
      left, top: where the cells begin.
      labels: names of the rows and columns, with the middle of each.
      borders: between populations.
    """

    description: str
    width: float
    height: float
    size: float
    left: float
    top: float
    labels: Sequence[Tick]
    borders: Sequence[float]
    cells: Sequence[Cell]


def shades(values: np.ndarray) -> list[list[tuple[str, str]]]:
    """Of every value the colour of its ground, and black or white, whichever is read better on it.

    The diagonal is left out of the scale; what is not known has the lowest colour.
    """
    others = values[~np.eye(len(values), dtype=bool)]
    low, high = np.nanmin(others), np.nanmax(others)
    shares = np.nan_to_num((values - low) / ((high - low) or 1)).clip(0, 1)
    grounds = matplotlib.colormaps[MATRIX_COLOURS](shares)[..., :3]
    # Relative luminance and its middle, from which black has the greater contrast (WCAG 2.2).
    linear = np.where(grounds <= 0.04045, grounds / 12.92, ((grounds + 0.055) / 1.055) ** 2.4)
    light = linear @ (0.2126, 0.7152, 0.0722) > 0.179
    return [
        [
            (matplotlib.colors.to_hex(ground), "#000" if black else "#fff")
            for ground, black in zip(row, blacks, strict=True)
        ]
        for row, blacks in zip(grounds, light, strict=True)
    ]


def two_digits(value: float) -> str:
    """`.84`: short enough for a cell."""
    return f"{value:.2f}".replace("0.", ".", 1) if known(value) else "\N{EN DASH}"


def matrix(found: Alike) -> Matrix:
    count = len(found.networks)
    size = float(min(40, max(19, 760 // count)))
    # As wide as the longest name is, and as high as it is when it stands at 60 degrees.
    reach = charts.CHARACTER * max(map(len, found.networks))
    left, top = round(reach + 12), round(0.87 * reach + 14)
    colours = shades(found.matrix)
    cells = [
        Cell(
            left + size * j,
            top + size * i,
            two_digits(found.matrix[i, j]),
            *colours[i][j],
            f"{one} and {other}{', both right' if j > i else ''}: {found.matrix[i, j]:.3f}",
        )
        for i, one in enumerate(found.networks)
        for j, other in enumerate(found.networks)
        if i != j
    ]
    sizes = [size for _, size in found.groups]
    means = "; ".join(
        f"{pairs.what} {np.nanmean(pairs.values):.3f}" for pairs in found.pairs if pairs.values
    )
    return Matrix(
        description=f"Mean agreement: {means}.",
        width=left + size * count + round(reach / 2) + 8,
        height=top + size * count + 4,
        size=size,
        left=left,
        top=top,
        labels=[Tick(size * (place + 0.5), name) for place, name in enumerate(found.networks)],
        borders=[size * int(end) for end in np.cumsum(sizes)[:-1]],
        cells=cells,
    )
