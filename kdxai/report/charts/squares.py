"""Everything beside everything: how alike networks explain, and which metrics agree."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from kdxai.report import titles
from kdxai.report.charts import look
from kdxai.report.charts.chart import Chart
from kdxai.report.charts.look import ACCENT, CARD, CHARACTER, INK, SAYS, SOFT
from kdxai.report.seeds import Alike
from kdxai.study.concord import TRUTH, against_truth

COLOURS = "cividis"  # one order of lightness, for all eyes
BOTH_WAYS = "RdBu"
READ = 20  # rows up to which every value is written into its cell
BLACK, WHITE = "#010101", "#fefefe"  # on cells, whose colours are the same in both themes


@look.styled
def matrix(found: Alike) -> Chart:
    """The agreement of all networks with all."""
    off = np.where(np.eye(len(found.matrix), dtype=bool), np.nan, found.matrix)
    figure, ax = square(found.networks)
    ax.imshow(off, cmap=COLOURS, interpolation="none", aspect="auto")
    write(ax, found.matrix, shares(found.matrix), COLOURS)
    for end in np.cumsum([size for _, size in found.groups])[:-1]:
        ax.axhline(end - 0.5, color=CARD, lw=3)
        ax.axvline(end - 0.5, color=CARD, lw=3)
    says = [f"{pairs.what} {np.nanmean(pairs.values):.3f}" for pairs in found.pairs if pairs.values]
    return Chart(
        name="agreement",
        title="Below the diagonal on all images, above it on those that both networks get right",
        description=f"Agreement of all networks with all. Mean: {'; '.join(says)}.",
        figure=figure,
        says=says,
    )


def square(names: Sequence[str]) -> tuple[Figure, Axes]:
    """Cells as large as they need be, named left and, at 60 degrees, above."""
    count = len(names)
    size = min(40, max(15, 700 // count))
    reach = CHARACTER * max(map(len, names))
    left, top = reach + 12, 0.87 * reach + 12
    figure = look.new_figure(left + size * count + 0.5 * reach + 8, top + size * count + 4)
    ax = look.add_axes(figure, left, top, size * count, size * count)
    ax.grid(visible=False)
    ax.set_xlim(-0.5, count - 0.5)
    ax.set_ylim(count - 0.5, -0.5)
    ax.set_yticks(range(count), names)
    ax.xaxis.tick_top()
    ax.set_xticks(range(count), names, rotation=60, ha="left", rotation_mode="anchor")
    ax.tick_params(length=0)
    return figure, ax


def shares(values: np.ndarray) -> np.ndarray:
    """Where in the colours each value is: the diagonal is left out; what is not known is lowest."""
    others = values[~np.eye(len(values), dtype=bool)]
    low, high = np.nanmin(others), np.nanmax(others)
    return np.nan_to_num((values - low) / ((high - low) or 1)).clip(0, 1)


def write(ax: Axes, values: np.ndarray, at: np.ndarray, colours: str) -> None:
    """Every value into its cell but for the diagonal, if there are few enough to be read."""
    if len(values) > READ:
        return
    dark = inks(at, colours)
    size = min(11, 0.36 * ax.bbox.width / ax.figure.dpi * look.POINTS / len(values))
    for ink in (BLACK, WHITE):
        for i, j in np.argwhere((dark == (ink == BLACK)) & ~np.eye(len(values), dtype=bool)):
            text = two_digits(values[i, j])
            ax.text(j, i, text, ha="center", va="center", fontsize=size, color=ink)


def inks(at: np.ndarray, colours: str) -> np.ndarray:
    """Whether black, and not white, is read better on these shares of a colour map."""
    grounds = matplotlib.colormaps[colours](at)[..., :3]
    # Relative luminance and its middle, from which black has the greater contrast (WCAG 2.2).
    linear = np.where(grounds <= 0.04045, grounds / 12.92, ((grounds + 0.055) / 1.055) ** 2.4)
    return np.asarray(linear @ (0.2126, 0.7152, 0.0722) > 0.179)


def two_digits(value: float) -> str:
    """`.84`: short enough for a cell."""
    return f"{value:.2f}".replace("0.", ".", 1) if np.isfinite(value) else "\N{EN DASH}"


@look.styled
def strips(found: Alike) -> Chart:
    """A line of dots for each kind of pairs of networks."""
    kept = [(one, values) for one in found.pairs if (values := known(one.values))]
    every = [value for _, values in kept for value in values]
    row, width = 44, 680
    figure = look.new_figure(width, row * len(kept) + 34)
    ax = look.add_axes(figure, 10, 4, width - 28, row * len(kept) + 6)
    look.values_axis(ax, min(every), max(every))
    ax.set_yticks([])
    ax.set_ylim(len(kept) - 0.4, -0.6)
    if found.band:
        look.band(ax, found.band.low, found.band.high, across=False)
    says = []
    for y, (one, values) in enumerate(kept):
        count = "1 pair" if len(values) == 1 else f"{len(values)} pairs"
        look.beside(ax, 0, y, f"{one.what}, {count}", (0, 13))
        # Neighbours stand on three levels, so that none hides another.
        ranks = np.argsort(np.argsort(one.values, kind="stable"))
        for value, rank, says_pair in zip(one.values, ranks, one.says, strict=True):
            if np.isfinite(value):
                level = y + 0.1 * (int(rank) % 3) + 0.04
                told = f"{SAYS}{says_pair}: {value:.3f}"
                colour = ACCENT if one.within else SOFT
                ax.plot(value, level, "o", color=colour, ms=5.5, mew=0, alpha=0.75, gid=told)
        mean = f"mean {np.mean(values):.3f}, " if one.alike else ""
        ends = f" from {min(values):.3f} to {max(values):.3f}" if len(values) > 1 else ""
        says.append(f"{one.what}: {mean}{count}{ends}")
        if one.alike:
            ax.plot([np.mean(values)] * 2, [y - 0.06, y + 0.36], color=INK, lw=2)
    return Chart(
        name="pairs",
        title="Agreement of two networks' maps (Pearson's r), by what the two are",
        description=f"{'. '.join(says)}.",
        figure=figure,
        says=says,
    )


def known(values: Sequence[float]) -> list[float]:
    return [value for value in values if np.isfinite(value)]


def titled(metric: str) -> str:
    """Without its direction: all are turned so that more is better."""
    return "Truth (mean rank)" if metric == TRUTH else titles.plain(metric)


def side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    """The `rho` of `study.concord.concord` of every two metrics, 1 of each with itself, those that
    agree side by side.
    """
    whole = table.pivot(index="metric", columns="other", values="rho")
    whole = whole.loc[whole.columns].where(~np.eye(len(whole), dtype=bool), 1.0)
    apart = squareform(1 - whole.fillna(0).to_numpy(), checks=False)
    tree = hierarchy.linkage(apart, "average", optimal_ordering=True)
    leaves = hierarchy.leaves_list(tree)
    return whole.iloc[leaves, leaves]


@look.styled
def concord(table: pd.DataFrame) -> Chart:
    """Which metrics agree about methods, from the table of `study.concord.concord`."""
    whole = side_by_side(table)
    figure, ax = square([titled(name) for name in whole.index])
    values = whole.to_numpy()
    ax.imshow(values, cmap=BOTH_WAYS, vmin=-1, vmax=1, interpolation="none", aspect="auto")
    write(ax, values, np.nan_to_num(values) / 2 + 0.5, BOTH_WAYS)
    pairs = table[table.metric < table.other].dropna(subset="rho").sort_values("rho")
    ends = pd.concat([pairs[:3], pairs[-3:]]).drop_duplicates()
    says = [f"{titled(a)} and {titled(b)} {rho:.2f}" for a, b, rho in
            ends[["metric", "other", "rho"]].itertuples(index=False)]  # fmt: skip
    return Chart(
        name="concord",
        title="Which metrics agree about methods",
        description=f"Spearman's rho of every two metrics; lowest and highest: {'; '.join(says)}.",
        figure=figure,
        says=says,
        note="Spearman's rho over methods, within images; more is better of all. Blue: they "
        "agree; red: they contradict each other. Those that agree stand side by side.",
    )


@look.styled
def truth(table: pd.DataFrame) -> Chart | None:
    """How well each metric finds the methods that find the object; None where that is not known."""
    found = against_truth(table).dropna(subset="rho")
    if found.empty:
        return None
    row, width = 18, 430
    left = 12 + 5.2 * max(len(titled(name)) for name in found.metric)
    figure = look.new_figure(left + width - 180, row * len(found) + 30)
    ax = look.add_axes(figure, left, 4, width - 200, row * len(found))
    look.values_axis(ax, min(found.ci_low.min(), 0), max(found.ci_high.max(), 0))
    ax.axvline(0, color=SOFT, lw=1)
    says = []
    for y, one in enumerate(found.itertuples()):
        says.append(f"{titled(one.metric)} {one.rho:.2f} [{one.ci_low:.2f}, {one.ci_high:.2f}]")
        ax.plot([one.ci_low, one.ci_high], [y, y], color=ACCENT, lw=2)
        ax.plot(one.rho, y, "o", color=ACCENT, ms=6, mew=0, gid=f"{SAYS}{says[-1]}")
    look.rows(ax, [titled(name) for name in found.metric], 60)
    return Chart(
        name="truth",
        title="Which metric finds the truth",
        description=f"Spearman's rho with the truth: {'; '.join(says)}.",
        figure=figure,
        says=says,
        note="Spearman's rho over methods of each metric with the mean rank by the metrics that "
        "know where the object is.",
    )
