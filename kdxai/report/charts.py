"""The geometry of the page's charts, in user units of an SVG; the template draws it."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd
from matplotlib.ticker import MaxNLocator

from kdxai.report import answer, tables

# Complexity starts as a column sum of grid cells and ends as a mean: only its ratios compare.
LOGARITHMIC = ("complexity",)
WIDTH = 340
CHARACTER = 6.9  # average width at the charts' font size, for placing labels


class Tick(NamedTuple):
    at: float
    text: str


class Scale(NamedTuple):
    """Values from `low` to `high` on positions from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def at(self, value: float) -> float:
        low, high = self.low, self.high
        if self.logarithmic:
            low, high, value = math.log(low), math.log(high), math.log(value)
        return round(self.start + (value - low) / (high - low) * (self.end - self.start), 1)

    def ticks(self, most: int = 5) -> list[Tick]:
        values: Sequence[float]
        if self.logarithmic:
            decades = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            values = [digit * 10.0**decade for decade in decades for digit in (1, 2, 5)]
        else:
            values = MaxNLocator(nbins=most, steps=[1, 2, 5, 10]).tick_values(self.low, self.high)
        return [Tick(self.at(v), f"{v:.4g}") for v in values if self.low <= v <= self.high]


def drawable(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of models; where there is no interval, its ends are the mean."""
    rows = rows[rows.other == ""]
    ends = {name: rows[name].fillna(rows["mean"]) for name in ("ci_low", "ci_high")}
    return rows.assign(**ends)


def scale(rows: pd.DataFrame, start: float, end: float, logarithmic: bool = False) -> Scale:
    """A scale that holds the intervals of all rows, with a little room."""
    low, high = rows.ci_low.min(), rows.ci_high.max()
    if logarithmic and low > 0:
        return Scale(low / 1.1, high * 1.1, start, end, True)
    room = 0.06 * (high - low) or 0.01
    return Scale(low - room, high + room, start, end)


class Mark(NamedTuple):
    """One model's mean with its interval; `slot` is the model's colour and shape."""

    slot: int
    x: float
    low: float
    high: float
    says: str


class Rung(NamedTuple):
    """A line of the ladder; `verdict` is what the pair's first model is beside its second."""

    name: str
    y: float
    marks: Sequence[Mark]
    verdict: str


class Ladder(NamedTuple):
    """One metric from rung to rung.

    Attributes:
      lines: slot -> the points of the line through the model's marks.
      pair: the two models of the verdicts; empty where they are not compared.
    """

    title: str
    description: str
    width: float
    height: float
    ticks: Sequence[Tick]
    logarithmic: bool
    rungs: Sequence[Rung]
    lines: Mapping[int, str]
    pair: tuple[str, ...]


STEP, TOP = 48, 24


def ladder(
    table: pd.DataFrame, metric: str, slots: Mapping[str, int], pair: Sequence[str] = ()
) -> Ladder:
    """One metric at every rung of an audit.

    Args:
      table: columns `rung, model, other, metric, mean, ci_low, ci_high`.
      slots: model -> slot.
      pair: two models, of which every rung says whether the first is better or worse.
    """
    table = table[table.metric == metric]
    means = drawable(table)
    first, second = pair or ("", "")
    differences = table[(table.model == first) & (table.other == second)].set_index("rung")
    x = scale(means, 12, WIDTH - (72 if len(differences) else 12), metric in LOGARITHMIC)
    rungs: list[Rung] = []
    lines: dict[int, list[str]] = {}
    for place, name in enumerate(dict.fromkeys(table.rung)):
        y = TOP + STEP * place + 28
        rows = means[means.rung == name]
        marks = [
            Mark(
                slots[row.model],
                x=x.at(row.mean),
                low=x.at(row.ci_low),
                high=x.at(row.ci_high),
                says=f"{answer.spoken(row.model)} {row.mean:.3f}",
            )
            for row in rows.itertuples(index=False)
        ]
        for one in marks:
            lines.setdefault(one.slot, []).append(f"{one.x},{y}")
        verdict = ""
        if name in differences.index:
            verdict = answer.sign(differences.loc[name], metric) or "unclear"
        rungs.append(Rung(name, y, marks, verdict))
    return Ladder(
        title=tables.title(metric),
        description=" ".join(
            f"{one.name}: {', '.join(mark.says for mark in one.marks)}." for one in rungs
        ),
        width=WIDTH,
        height=TOP + STEP * len(rungs) + 24,
        ticks=x.ticks(),
        logarithmic=x.logarithmic,
        rungs=rungs,
        lines={slot: " ".join(points) for slot, points in lines.items()},
        pair=tuple(pair) if len(differences) else (),
    )


class Point(NamedTuple):
    """A model in the plane, with its label."""

    slot: int
    x: float
    y: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    label: str
    label_x: float
    label_y: float
    anchor: str
    says: str


class Scatter(NamedTuple):
    """Accuracy across, one metric up."""

    title: str
    description: str
    width: float
    height: float
    left: float
    bottom: float
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    points: Sequence[Point]


def scatter(table: pd.DataFrame, metric: str, slots: Mapping[str, int]) -> Scatter:
    """How accurate the models are, and what a metric says of their maps.

    Args:
      table: `stats.table` of one method.
      slots: model -> slot.
    """
    height, left, bottom = 270.0, 44.0, 232.0
    across, up = (
        drawable(table[table.metric == name]).set_index("model") for name in ("accuracy", metric)
    )
    x, y = scale(across, left + 8, WIDTH - 14), scale(up, bottom - 8, 14)
    places = {name: (x.at(across["mean"][name]), y.at(up["mean"][name])) for name in up.index}
    taken = [(px - 7, py - 7, px + 7, py + 7) for px, py in places.values()]
    points = []
    for name, (px, py) in places.items():
        label = answer.spoken(name)
        box, anchor, at = place_label(label, px, py, taken, (left, 4, WIDTH, bottom))
        taken.append(box)
        points.append(
            Point(
                slots[name],
                px,
                py,
                x_low=x.at(across["ci_low"][name]),
                x_high=x.at(across["ci_high"][name]),
                y_low=y.at(up["ci_low"][name]),
                y_high=y.at(up["ci_high"][name]),
                label=label,
                label_x=at[0],
                label_y=at[1],
                anchor=anchor,
                says=f"{label}: accuracy {across['mean'][name]:.1%}, {up['mean'][name]:.3f}",
            )
        )
    return Scatter(
        title=tables.title(metric),
        description="; ".join(point.says for point in points) + ".",
        width=WIDTH,
        height=height,
        left=left,
        bottom=bottom,
        x_ticks=[tick._replace(text=f"{float(tick.text):.0%}") for tick in percents(x)],
        y_ticks=y.ticks(),
        points=points,
    )


def percents(x: Scale) -> list[Tick]:
    """Ticks of a share, at whole percents alone."""
    return [tick for tick in x.ticks() if not round(float(tick.text) * 100, 6) % 1]


Box = tuple[float, float, float, float]


def place_label(
    label: str, x: float, y: float, taken: Sequence[Box], frame: Box
) -> tuple[Box, str, tuple[float, float]]:
    """Beside a mark, where as little as can be is in the way: box, anchor, place."""
    width = CHARACTER * len(label)
    spots = [
        ("start", x + 10, y + 4, x + 10),
        ("end", x - 10, y + 4, x - 10 - width),
        *(
            spot
            for distance in (18, 30, 42, 54)
            for dy in (distance, 6 - distance)
            for spot in (
                ("middle", x, y + dy, x - width / 2),
                ("start", x + 6, y + dy, x + 6),
                ("end", x - 6, y + dy, x - 6 - width),
            )
        ),
    ]
    boxes = [(edge, ty - 11, edge + width, ty + 3) for _, _, ty, edge in spots]
    chosen = min(
        range(len(boxes)),
        key=lambda k: (not inside(boxes[k], frame), sum(map(overlap(boxes[k]), taken))),
    )
    anchor, tx, ty, _ = spots[chosen]
    return boxes[chosen], anchor, (round(tx, 1), round(ty, 1))


def inside(box: Box, frame: Box) -> bool:
    return box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]


def overlap(one: Box) -> Callable[[Box], bool]:
    return lambda other: (
        one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
    )


class Interval(NamedTuple):
    """A difference beside zero and beside what would matter, for a small picture of a claim."""

    zero: float
    mean: float
    low: float
    high: float
    matters_low: float
    matters_high: float


def interval(row: pd.Series, width: float = 120) -> Interval:
    reach = 1.08 * max(abs(row.ci_low), abs(row.ci_high), row.matters)
    x = Scale(-reach, reach, 0, width)
    ends = (0.0, row["mean"], row.ci_low, row.ci_high, -row.matters, row.matters)
    return Interval(*(x.at(value) for value in ends))
