"""Models beside each other, one metric at a time: Table 1, the ladder of protocols, accuracy.

`slots` are model -> slot, of the models that are drawn, the first on top.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from kdxai.report import answer, tables, titles
from kdxai.report.charts import look
from kdxai.report.charts.chart import Chart
from kdxai.report.charts.labels import place_label
from kdxai.report.charts.look import SIGNS, SOFT, WIDTH
from kdxai.report.report import PERCENT, estimate_of, value_of

# Complexity starts as a column sum of grid cells and ends as a mean: only its ratios compare.
LOGARITHMIC = ("complexity",)
NAMES, LETTERS = 104, 17  # points of the names of rows, and how many letters that is
COLUMN, ASIDE = 190, 52  # points of a metric, and of the verdicts beside it
WORD: dict[str, Any] = {"ha": "right", "annotation_clip": False, "fontsize": 10}


def drawable(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of models that have a mean; where there is no interval, its ends are the mean."""
    rows = rows[(rows.other == "") & rows["mean"].notna()]
    ends = {name: rows[name].fillna(rows["mean"]) for name in ("ci_low", "ci_high")}
    return rows.assign(**ends)


def key(figure: Figure, slots: Mapping[str, int], *, lines: bool = False) -> None:
    """The models with their marks, along the top of a figure.

    Args:
      lines: whether the figure has lines without marks, which then stand for the models here.
    """
    drawn: list[dict[str, Any]] = [look.shape(slot) for slot in slots.values()]
    if lines:
        drawn = [{"color": look.colour(slot), "lw": 1.8} for slot in slots.values()]
    figure.legend(
        [Line2D([], [], **one) for one in drawn],
        [titles.model(name) for name in slots],
        loc="upper left", bbox_to_anchor=(0, 1), frameon=False, fontsize=10,
        handletextpad=0.6 if lines else 0.2,
        columnspacing=1.2, borderaxespad=0.2,
        handlelength=1.2 if lines else None,
        ncols=key_columns(figure.get_figwidth() * look.POINTS),
    )  # fmt: skip


def key_columns(width: float) -> int:
    return max(1, int(width / 120))


def key_height(slots: Mapping[str, int], width: float) -> float:
    return 8 + 16 * -(-len(slots) // key_columns(width))


def found_in(table: pd.DataFrame, slots: Mapping[str, int]) -> dict[str, int]:
    """The slots of the models that a table speaks of: a key names no other."""
    models = set(table.model)
    return {name: slot for name, slot in slots.items() if name in models}


@look.styled
def ladder(
    table: pd.DataFrame,
    metrics: Sequence[str],
    slots: Mapping[str, int],
    pair: Sequence[str] = (),
    *,
    named: bool = True,
    doubts: tables.Doubts = frozenset(),
) -> Chart:
    """Every rung of an audit from top to bottom; a column with its own axis for each metric.

    Args:
      table: columns `rung, model, other, metric, mean, ci_low, ci_high`.
      metrics: of which those that were measured are drawn.
      pair: two models, of which every rung says whether the first is better or worse.
      named: whether the figure names metrics and models; else something beside it must.
      doubts: (model, metric) that fail the checks of the last rung's protocol.
    """
    metrics = [name for name in metrics if name in set(drawable(table).metric)]
    rungs = list(dict.fromkeys(table.rung))
    slots = found_in(table, slots)
    one, other = pair or ("", "")
    width = NAMES + (COLUMN + ASIDE) * len(metrics)
    high = max(38, 12 + 5 * len(slots)) * len(rungs)
    top = 20 + (key_height(slots, width) + 18 if named else 0)
    figure = look.new_figure(width, top + high + 20)
    says = []
    for place, metric in enumerate(metrics):
        left = NAMES + (COLUMN + ASIDE) * place
        ax = look.add_axes(figure, left, top, COLUMN, high)
        doubted = tables.is_doubted(one, other, metric, doubts)
        own = climb(ax, table[table.metric == metric], rungs, slots, pair, doubted)
        says += [f"{titles.metric(metric)}, {line}" if named else line for line in own]
        if named:
            ax.set_title(titles.metric(metric), pad=20)
        look.rows(ax, rungs if place == 0 else [""] * len(rungs), LETTERS)
    if named:
        key(figure, slots)
    return Chart(
        name="ladder" if named else f"ladder-{'-'.join(metrics)}",
        title="From protocol to protocol" if named else titles.metric(metrics[0]),
        description=f"From the {rungs[0]} protocol to the {rungs[-1]} one. {'. '.join(says)}.",
        figure=figure,
        says=says,
        note="logarithmic" if not named and metrics[0] in LOGARITHMIC else "",
    )


def climb(
    ax: Axes,
    rows: pd.DataFrame,
    rungs: Sequence[str],
    slots: Mapping[str, int],
    pair: Sequence[str],
    doubted: bool,
) -> list[str]:
    """One metric at every rung; returns its numbers, a line for each.

    Args:
      doubted: whether the last rung says nothing of the pair: the checks are of its protocol.
    """
    means, metric = drawable(rows[rows.model.isin(slots)]), rows.metric.iloc[0]
    first, second = pair or ("", "")
    differences = rows[(rows.model == first) & (rows.other == second)].set_index("rung")
    look.values_axis(ax, means.ci_low.min(), means.ci_high.max(), logarithmic=metric in LOGARITHMIC)
    shifts = spread(slots, 0.11)
    told: dict[str, list[str]] = {name: [] for name in rungs}
    for name in reversed(list(slots)):
        own, slot = means[means.model == name], slots[name]
        places = [rungs.index(rung) + shifts[name] for rung in own.rung]
        thick = name in pair and len(differences) > 0
        ax.plot(
            own["mean"], places, color=look.colour(slot), lw=2.4 if thick else 1.2,
            alpha=1 if thick else 0.6,
        )  # fmt: skip
        for y, (_, row) in zip(places, own.iterrows(), strict=True):
            said = f"{titles.model(name)} {value_of(metric, row['mean'])}"
            told[row.rung].insert(0, said)
            mean_and_interval(ax, row, y, slot, f"{row.rung}: {said}")
    says = {name: f"{name}: {', '.join(parts)}" for name, parts in told.items()}
    if len(differences):
        look.beside(ax, 1, -0.5, f"{titles.model(first)} is", (ASIDE - 2, 10), color=SOFT, **WORD)
    for y, name in enumerate(rungs):
        if name in differences.index:
            silent = doubted and name == rungs[-1]
            verdict = answer.sign(differences.loc[name], metric, doubted=silent) or "unclear"
            word = tables.DOUBT if silent else verdict
            look.beside(ax, 1, y, word, (ASIDE - 2, 0), color=SIGNS[verdict], **WORD)
            judged = "not judged: the metric fails its checks" if silent else verdict
            says[name] += f"; {titles.model(first)} is {judged}"
    return list(says.values())


def spread(slots: Mapping[str, int], most: float) -> dict[str, float]:
    """Model -> by how much of a row its mark stands below the middle, so that all are seen."""
    middle = (len(slots) - 1) / 2
    apart = min(most, 0.7 / max(1, len(slots)))
    return {name: apart * (place - middle) for place, name in enumerate(slots)}


def mean_and_interval(ax: Axes, row: pd.Series, y: float, slot: int, says: str) -> None:
    """A mean with its interval."""
    ax.plot([row.ci_low, row.ci_high], [y, y], color=look.colour(slot), lw=2)
    look.mark(ax, row["mean"], y, slot, says)


GRID = 3  # metrics side by side


@look.styled
def intervals(
    table: pd.DataFrame, slots: Mapping[str, int], seeds: pd.DataFrame, name: str, title: str
) -> Chart:
    """Table 1 as a picture: an axis for each metric. Differences are left out.

    Args:
      table: `stats.table` of one method.
      seeds: what each network gives, `model, metric, seed, mean`, as small dots; may be empty.
    """
    table = drawable(table[table.model.isin(slots)])
    dots = seeds[seeds.model.isin(slots)].dropna(subset="mean") if len(seeds) else table[:0]
    if not dots.duplicated(["model", "metric"]).any():  # a network alone is the mean
        dots = dots[:0]
    metrics = list(dict.fromkeys(table.metric))
    high, across = 22.0 * len(slots), min(GRID, len(metrics))
    lines = -(-len(metrics) // across)
    figure = look.new_figure(NAMES + (COLUMN + 30) * across, (high + 50) * lines)
    models = list(slots)
    says = []
    for place, metric in enumerate(metrics):
        line, column = divmod(place, across)
        left, top = NAMES + (COLUMN + 30) * column, 28 + (high + 50) * line
        ax = look.add_axes(figure, left, top, COLUMN, high)
        ax.set_title(titles.metric(metric))
        rows = table[table.metric == metric]
        own = dots[dots.metric == metric]
        ends = [*rows.ci_low, *rows.ci_high, *own["mean"]]
        look.values_axis(ax, min(ends), max(ends))
        if metric in PERCENT:
            ax.xaxis.set_major_formatter(look.percent)
        for row in own.itertuples():
            colour, y = look.colour(slots[row.model]), models.index(row.model) + 0.3
            ax.plot(row.mean, y, "o", color=colour, ms=3, alpha=0.6, mew=0)
        for _, row in rows.iterrows():
            own_mean = estimate_of(metric, row[["mean", *ENDS]])
            said = f"{titles.model(row.model)} {own_mean.text} {own_mean.notes[0]}"
            mean_and_interval(ax, row, models.index(row.model), slots[row.model], said)
            says.append(f"{titles.metric(metric)}: {said}")
        names = map(titles.model, models) if column == 0 else [""] * len(models)
        look.rows(ax, list(names), LETTERS)
    return Chart(name, title, f"{'; '.join(says)}.", figure, says)


ENDS = ["ci_low", "ci_high"]


@look.styled
def scatter(table: pd.DataFrame, metric: str, slots: Mapping[str, int]) -> Chart:
    """How accurate the models are, and what a metric says of their maps.

    Args:
      table: `stats.table` of one method.
    """
    table = drawable(table[table.model.isin(slots)])
    across, up = (table[table.metric == name].set_index("model") for name in ("accuracy", metric))
    figure = look.new_figure(WIDTH, 268)
    ax = look.add_axes(figure, 44, 8, WIDTH - 62, 220)
    look.values_axis(ax, across.ci_low.min(), across.ci_high.max())
    ax.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10], min_n_ticks=1))
    ax.xaxis.set_major_formatter(look.percent)
    look.upright(ax, up.ci_low.min(), up.ci_high.max())
    ax.set_xlabel("accuracy →", loc="right")
    says = []
    for name in up.index:
        x, y, slot = across["mean"][name], up["mean"][name], slots[name]
        line: dict[str, Any] = {"color": look.colour(slot), "lw": 1.6}
        ax.plot([across.ci_low[name], across.ci_high[name]], [y, y], **line)
        ax.plot([x, x], [up.ci_low[name], up.ci_high[name]], **line)
        says.append(f"{titles.model(name)}: accuracy {x:.1%}, {y:.3f}")
        look.mark(ax, x, y, slot, says[-1])
    label(ax, across, up)
    return Chart(
        name=f"accuracy-{metric}",
        title=titles.metric(metric),
        description=f"{titles.metric(metric)} against accuracy. {'; '.join(says)}.",
        figure=figure,
        says=says,
    )


def label(ax: Axes, across: pd.DataFrame, up: pd.DataFrame) -> None:
    """Names beside the marks, where as little as can be is in the way."""
    points = look.POINTS / ax.figure.dpi

    def at(x: float, y: float) -> tuple[float, float]:
        return tuple(ax.transData.transform((x, y)) * points)

    corners = np.array(ax.bbox.extents) * points
    taken = []
    for name in up.index:
        mean, low, high = (
            at(across[end][name], up[end][name]) for end in ("mean", "ci_low", "ci_high")
        )
        taken.append((mean[0] - 6, mean[1] - 6, mean[0] + 6, mean[1] + 6))
        taken.append((low[0], mean[1] - 1, high[0], mean[1] + 1))
        taken.append((mean[0] - 1, low[1], mean[0] + 1, high[1]))
    for name in up.index:
        middle = at(across["mean"][name], up["mean"][name])
        spot = place_label(titles.model(name), *middle, taken, tuple(corners))
        taken.append(spot.box)
        ax.annotate(
            titles.model(name), middle, xycoords="figure points", xytext=(spot.x, spot.y),
            textcoords="figure points", ha=spot.anchor, va="center",
        )  # fmt: skip
