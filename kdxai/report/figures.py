"""The figures of a study, as PNG."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from kdxai import files
from kdxai.report import diagrams
from kdxai.report.headline import headline
from kdxai.report.overlay import ALPHA, MAP_COLOURS, overlay, picture
from kdxai.report.seeds import Alike
from kdxai.report.sweep import Sweep, kinds
from kdxai.report.tables import title

# Columns of a history that are drawn.
CURVES = ("epoch", "validation_loss", "validation_accuracy", "train_accuracy")
COLOURS = (
    *("#3b6ea5", "#d1772e", "#4f8f4f", "#8a5aa5", "#a54a4a"),
    *("#6b6b6b", "#b99a2f", "#3f9c9c", "#c27ba0", "#2b2b2b"),
)
MARKERS = "oPs^vDX*p<"
DASHES = {"plain": "-", "tuned": "-", "batch_norm": "--", "control": ":"}
BAND, GREY = "#3b6ea5", "#6b6b6b"


class Panel(NamedTuple):
    """One image as one model explains it.

    Attributes:
      heatmap: [H, W] in [0, 1].
      masked: [H, W, C] in [0, 1], the image under its map.
      class_name: the class explained.
      before, after: its probability, of the image and of the masked image.
      correct: whether it is the true class.
    """

    heatmap: np.ndarray
    masked: np.ndarray
    class_name: str
    before: float
    after: float
    correct: bool


def shortened(name: str) -> str:
    """A class name, which comes from the data, as what fits above a picture."""
    name = "".join(letter if letter.isprintable() else " " for letter in name)
    return name if len(name) <= 16 else f"{name[:15]}…"


def save(figure: Figure, path: Path) -> None:
    """Raises:
    UserError: it cannot be written.
    """
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    files.write_bytes(path, buffer.getvalue())


def _show(ax: Axes, image: np.ndarray) -> None:
    """An image [H, W, C], of uint8 or in [0, 1], as it is: grey values are not stretched."""
    ax.imshow(picture(image), cmap="gray", vmin=0, vmax=255 if image.dtype == np.uint8 else 1)


def gallery(
    path: Path,
    images: np.ndarray,
    true_names: Sequence[str],
    panels: Mapping[str, Sequence[Panel]],
) -> None:
    """The maps of all models side by side: a row per image, two columns per model.

    Args:
      images: [N, H, W, C] uint8.
      true_names: N class names.
      panels: column title -> N panels.
    """
    figure = Figure(
        figsize=(2.3 + 2.9 * len(panels), 1.6 * len(images) + 0.9), layout="constrained"
    )
    widths = [1.1, *[2] * len(panels), 0.7]
    *parts, bar = figure.subfigures(1, len(widths), squeeze=False, width_ratios=widths)[0]
    grids = [
        part.subplots(len(images), 1 if part is parts[0] else 2, squeeze=False) for part in parts
    ]
    for ax in (ax for grid in grids for ax in grid.flat):
        ax.set_axis_off()
    for part, name in zip(parts, ["image", *panels], strict=True):
        part.suptitle(name, fontsize=10, weight="bold")
    for row, image in enumerate(images):
        _show(grids[0][row, 0], image)
        # A `$` in a name is no mathematics.
        grids[0][row, 0].set_title(shortened(true_names[row]), fontsize=9, parse_math=False)
        for grid, its_panels in zip(grids[1:], panels.values(), strict=True):
            panel, (left, right) = its_panels[row], grid[row]
            left.imshow(overlay(image, panel.heatmap))
            _show(right, panel.masked)
            colour = "black" if panel.correct else "#b00020"
            named = f"{shortened(panel.class_name)} {panel.before:.0%}"
            left.set_title(named, fontsize=9, color=colour, parse_math=False)
            right.set_title(f"→ {panel.after:.0%}", fontsize=9, color=colour)
    colours = ScalarMappable(Normalize(0, 1), MAP_COLOURS)
    place = bar.add_axes((0.1, 0.3, 0.25, 0.4))
    figure.colorbar(colours, cax=place, label="class activation", alpha=ALPHA)
    caption = (
        "Left the true class; for each model its map with the predicted class and its probability "
        "(red: wrong), and the image under that map with the probability that is left."
    )
    figure.supxlabel(textwrap.fill(caption, round(12 * figure.get_figwidth())), fontsize=9)
    save(figure, path)


def methods(
    path: Path,
    images: np.ndarray,
    true_names: Sequence[str],
    panels: Mapping[str, Sequence[Panel]],
) -> None:
    """One model's maps by many methods: a row per image, a column per method.

    Args:
      images: [N, H, W, C] uint8.
      true_names: N class names.
      panels: method -> N panels.
    """
    columns = 1 + len(panels)
    figure = Figure(figsize=(1.25 * columns, 1.35 * len(images) + 0.5), layout="constrained")
    axes = figure.subplots(len(images), columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for row, image in enumerate(images):
        _show(axes[row, 0], image)
        predicted = next(iter(panels.values()))[row]
        true, seen = shortened(true_names[row]), shortened(predicted.class_name)
        colour = "black" if predicted.correct else "#b00020"
        named = f"{true}\n→ {seen} {predicted.before:.0%}"
        axes[row, 0].set_title(named, fontsize=8, color=colour, parse_math=False)
        for ax, (name, its_panels) in zip(axes[row, 1:], panels.items(), strict=True):
            ax.imshow(overlay(image, its_panels[row].heatmap))
            if row == 0:
                ax.set_title(name.replace("_", "\n", 1).replace("_", " "), fontsize=8)
    save(figure, path)


def curves(path: Path, histories: Mapping[str, pd.DataFrame]) -> None:
    """Training curves: loss and accuracy by epoch, of each model."""
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    for ax, quantity in zip(figure.subplots(1, 2), ("loss", "accuracy"), strict=True):
        for (name, history), colour in zip(histories.items(), cycle(COLOURS), strict=False):
            ax.plot(history.epoch, history[f"validation_{quantity}"], color=colour, label=name)
            if quantity == "accuracy":
                ax.plot(history.epoch, history.train_accuracy, color=colour, ls=":")
        ax.set_xlabel("epoch")
        ax.set_title(
            "validation loss (cross-entropy)"
            if quantity == "loss"
            else "accuracy: validation (solid), training views (dotted)",
            fontsize=10,
        )
        ax.xaxis.get_major_locator().set_params(integer=True)
        ax.grid(alpha=0.3)
        ax.spines[["top", "right"]].set_visible(False)
    ax.legend(frameon=False)
    save(figure, path)


def _marks(ax: Axes, rows: pd.DataFrame, models: Sequence[str]) -> None:
    """One metric: a mark with its 95 % interval per model, first model on top."""
    rows = rows.set_index("model")
    for y, (name, colour) in enumerate(zip(models, cycle(COLOURS), strict=False)):
        if name not in rows.index:
            continue
        row = rows.loc[name]
        ax.plot([row.ci_low, row.ci_high], [y, y], color=colour, lw=2, solid_capstyle="butt")
        ax.plot(row["mean"], y, "o", color=colour, ms=5)
        ax.annotate(
            f"{row['mean']:.3f}", (row["mean"], y), xytext=(0, 4), textcoords="offset points",
            ha="center", fontsize=7,
        )  # fmt: skip
    ax.set_yticks(range(len(models)), models, fontsize=8)
    ax.set_ylim(len(models) - 0.4, -0.8)
    ax.margins(x=0.15)
    ax.locator_params(axis="x", nbins=5)
    ax.tick_params(axis="x", labelsize=7)
    ax.tick_params(axis="y", length=0)
    ax.grid(axis="x", alpha=0.3)
    ax.spines[["top", "right", "left"]].set_visible(False)


def intervals(path: Path, table: pd.DataFrame, models: Sequence[str]) -> None:
    """Table 1 as a picture: a panel per metric. Differences are left out."""
    table = table[table.other == ""]
    metrics = list(dict.fromkeys(table.metric))
    columns = 4
    rows = -(-len(metrics) // columns)
    height = 0.55 + 0.28 * len(models)
    figure = Figure(figsize=(3 * columns, height * rows + 0.4), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax, metric in zip(axes, metrics, strict=False):
        _marks(ax, table[table.metric == metric], models)
        ax.set_title(title(metric), fontsize=9)
    for ax in axes[len(metrics) :]:
        ax.set_axis_off()
    save(figure, path)


def rungs(path: Path, table: pd.DataFrame, metrics: Sequence[str]) -> None:
    """An audit: rungs down, metrics across, a mark per model."""
    table = table[table.other == ""]
    metrics = [name for name in metrics if name in set(table.metric)]
    models = list(table.model.unique())
    names = list(dict.fromkeys(table.rung))
    size = (3.1 * len(metrics) + 1.6, (0.5 + 0.24 * len(models)) * len(names) + 0.6)
    figure = Figure(figsize=size, layout="constrained")
    axes = figure.subplots(len(names), len(metrics), squeeze=False)
    for line, name in zip(axes, names, strict=True):
        for ax, metric in zip(line, metrics, strict=True):
            _marks(ax, table[(table.rung == name) & (table.metric == metric)], models)
        line[0].set_ylabel(
            textwrap.fill(name, 18), rotation=0, ha="right", va="center", labelpad=8, fontsize=9
        )
    for ax, metric in zip(axes[0], metrics, strict=True):
        ax.set_title(title(metric), fontsize=10)
    save(figure, path)


def compression(path: Path, sweeps: Sequence[Sweep]) -> None:
    """Accuracy, agreement with the parent and ADCC over the compression factor, a row per sweep."""
    size = (13, 5.2 * len(sweeps))
    figure = Figure(figsize=size, layout="constrained")
    for one, part in zip(
        sweeps, figure.subfigures(len(sweeps), 1, squeeze=False)[:, 0], strict=True
    ):
        part.suptitle(textwrap.fill(headline(one), 150), fontsize=9.5, x=0.01, ha="left")
        axes = part.subplots(1, len(diagrams.TITLES))
        for ax, (column, name) in zip(axes, diagrams.TITLES.items(), strict=True):
            _sweep(ax, one, column)
            ax.set_title(name, fontsize=10)
        handles, names = axes[0].get_legend_handles_labels()
        part.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    save(figure, path)


def _sweep(ax: Axes, one: Sweep, column: str) -> None:
    """One number over the factor: the seed band, a line per kind, a dot per network."""
    band = one.bands.get(column) if len(one.parents) > 1 else None
    if band:
        ax.axhspan(band.low, band.high, color=BAND, alpha=0.18, lw=0, label="other seeds")
        ax.axhline(band.mean, color=BAND, alpha=0.7, lw=1)
    dead = one.networks[one.networks.collapsed]
    for name, rows in kinds(one):
        colour = COLOURS[diagrams.slots(one)[name] % len(COLOURS)]
        marker = MARKERS[diagrams.slots(one)[name] % len(MARKERS)]
        style = diagrams.style(rows)
        own = one.networks[one.networks.kind == name]
        ax.plot(own.factor, own[column], ".", color=colour, ms=4, alpha=0.5)
        start = None if rows.dense.any() else diagrams.starts(one, column, rows.treatment.iloc[0])
        points = [*([] if start is None else [start]), *zip(rows.factor, rows[column], strict=True)]
        # From where a network is at chance the line is grey.
        alive = int(((rows.collapsed > 0).cumsum() == 0).sum())
        end = len(points) - len(rows) + alive
        look: dict[str, Any] = {"color": colour, "lw": 2.4 if style == "tuned" else 1.4}
        ax.plot(*_across(points[max(end - 1, 0) :]), ":", color=GREY, lw=1)
        ax.plot(*_across(points[:end]), DASHES[style], **look)
        ax.plot(rows.factor[:alive], rows[column][:alive], marker, color=colour, ms=6)
        ax.plot([], [], DASHES[style], marker=marker, ms=6, label=name, **look)
    if len(dead):
        ax.plot(dead.factor, dead[column], "x", color=GREY, ms=6, label="collapsed")
    ax.set_xscale("log", base=2)
    ticks = diagrams.doublings(*ax.get_xlim())
    ax.set_xticks(ticks, [diagrams.called(value) for value in ticks])
    ax.set_xlabel("compression factor", fontsize=9)
    ax.grid(axis="y", alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)


def _across(points: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    """Points as matplotlib takes them: all x, all y."""
    return [x for x, _ in points], [y for _, y in points]


def agreement(path: Path, found: Alike) -> None:
    """The agreement of all networks with all, and of the pairs of every kind."""
    count = len(found.networks)
    side = max(4.0, 0.27 * count + 1.5)
    figure = Figure(figsize=(side + 7, max(side, 0.5 * len(found.pairs) + 1)), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[side, 7])
    off = np.where(np.eye(count, dtype=bool), np.nan, found.matrix)
    left.imshow(off, cmap=diagrams.MATRIX_COLOURS)
    colours = diagrams.shades(found.matrix)
    for i, j in np.argwhere(~np.eye(count, dtype=bool)):
        text = diagrams.two_digits(found.matrix[i, j])
        left.text(
            j, i, text, ha="center", va="center", fontsize=7 if count < 24 else 5.5,
            color=colours[i][j][1],
        )  # fmt: skip
    for end in np.cumsum([size for _, size in found.groups])[:-1]:
        left.axhline(end - 0.5, color="white", lw=2)
        left.axvline(end - 0.5, color="white", lw=2)
    left.set_xticks(range(count), found.networks, fontsize=7, rotation=90)
    left.set_yticks(range(count), found.networks, fontsize=7)
    left.tick_params(length=0)
    left.spines[:].set_visible(False)
    left.set_title("Pearson's r; above the diagonal where both are right", fontsize=9)
    if found.band:
        right.axvspan(found.band.low, found.band.high, color=BAND, alpha=0.18, lw=0)
    for y, one in enumerate(found.pairs):
        colour = BAND if one.within else GREY
        right.plot(one.values, [y] * len(one.values), "o", color=colour, ms=4, alpha=0.6)
        if one.alike:
            right.plot(np.nanmean(one.values), y, "|", color="black", ms=14, mew=2)
    names = [textwrap.fill(one.what, 32) for one in found.pairs]
    right.set_yticks(range(len(names)), names, fontsize=8)
    right.set_ylim(len(names) - 0.5, -0.5)
    right.grid(axis="x", alpha=0.3)
    right.spines[["top", "right", "left"]].set_visible(False)
    right.set_title(f"pairs of networks, {found.images:,} images", fontsize=9)
    save(figure, path)
