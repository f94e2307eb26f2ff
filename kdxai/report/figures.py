"""The figures of a study, as PNG."""

import io
import textwrap
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from kdxai import files
from kdxai.report.overlay import ALPHA, MAP_COLOURS, overlay, picture
from kdxai.report.tables import title

# Columns of a history that are drawn.
CURVES = ("epoch", "validation_loss", "validation_accuracy", "train_accuracy")
COLOURS = (
    *("#3b6ea5", "#d1772e", "#4f8f4f", "#8a5aa5", "#a54a4a"),
    *("#6b6b6b", "#b99a2f", "#3f9c9c", "#c27ba0", "#2b2b2b"),
)


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
