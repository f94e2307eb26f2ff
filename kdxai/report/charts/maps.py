"""Images with their maps, as pictures."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdxai.report import titles
from kdxai.report.charts import look
from kdxai.report.charts.chart import Chart
from kdxai.report.charts.look import BAD, CARD, INK, SOFT
from kdxai.report.overlay import drawn_as, overlay, picture

SIDE, GAP, LINE = 92, 8, 15  # points: a picture, between pictures, a line of text above
AROUND, HEAD = 12, 34  # around all, and for the names of columns


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


class Shown(NamedTuple):
    """Images to be drawn.

    Attributes:
      images: [N, H, W, C] uint8.
      names: N true classes.
      masks: [N, H, W] bool, where the object truly is, or None.
      rows: what stands left of each row; empty for nothing.
    """

    images: np.ndarray
    names: Sequence[str]
    masks: np.ndarray | None = None
    rows: Sequence[str] = ()


def shortened(name: str, most: int = 16) -> str:
    """A class name, which comes from the data, as what fits above a picture."""
    name = "".join(letter if letter.isprintable() else " " for letter in name)
    return name if len(name) <= most else f"{name[: most - 1]}…"


def canvas(rows: int, columns: int, foot: int = 0) -> tuple[Figure, Axes]:
    """A place for pictures, in points from its left and its top; `foot` is room below them."""
    width = columns * (SIDE + GAP) + 2 * AROUND
    height = rows * (SIDE + LINE + GAP) + HEAD + foot + AROUND
    figure = look.new_figure(width, height)
    ax = look.add_axes(figure, 0, 0, width, height)
    ax.set_axis_off()
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    return figure, ax


def show(
    ax: Axes, place: tuple[int, int], image: np.ndarray, mask: np.ndarray | None, title: str,
    colour: str = INK,
) -> None:  # fmt: skip
    """An image as `picture` takes it, as it is: grey values are not stretched.

    Args:
      place: row and column.
      mask: [H, W] bool, whose outline is drawn, or None.
    """
    row, column = place
    x, y = AROUND + column * (SIDE + GAP), HEAD + LINE + row * (SIDE + LINE + GAP)
    ax.imshow(
        picture(image), cmap="gray", vmin=0, vmax=255 if image.dtype == np.uint8 else 1,
        extent=(x, x + SIDE, y + SIDE, y), aspect="auto", interpolation="nearest",
    )  # fmt: skip
    ax.text(x + SIDE / 2, y - 3, title, fontsize=8.5, color=colour, ha="center")
    if mask is not None and 0 < np.count_nonzero(mask) < mask.size:
        height, width = mask.shape
        across = x + (np.arange(width) + 0.5) * SIDE / width
        down = y + (np.arange(height) + 0.5) * SIDE / height
        for line, points in ((INK, 2.2), (CARD, 1)):
            shape = np.asarray(mask, float)
            ax.contour(across, down, shape, [0.5], colors=line, linewidths=points)


@look.styled
def gallery(method: str, shown: Shown, panels: Mapping[str, Sequence[Panel]]) -> Chart:
    """The maps of all models side by side: a row per image, two columns per model.

    Args:
      panels: model -> a panel of each image.
    """
    caption = (
        "Left the true class. Of each model its map, from black (least) over red to yellow (most), "
        "with the class that it predicts and its probability (red: wrong), and the image under "
        "that map with the probability that is left."
    )
    if shown.masks is not None:
        caption += " The outline is the object's."
    caption = f"{caption} {drawn_as(shown.images.shape[-1])}".strip()
    columns = 1 + 2 * len(panels)
    lines = textwrap.wrap(caption, int(columns * (SIDE + GAP) / 4.6))
    figure, ax = grid(shown, panels, each=2, foot=12 * len(lines))
    for row, column, own in placed(panels, each=2):
        show(ax, (row, column + 1), own.masked, None, f"→ {own.after:.0%}", ink(own))
    ax.text(AROUND, ax.get_ylim()[0] - 5, "\n".join(lines), fontsize=8.5, color=SOFT)
    return Chart(f"maps-{method}", f"Maps by {titles.method(method)}", caption, figure)


@look.styled
def side_by_side(
    name: str, title: str, shown: Shown, columns: Mapping[str, Sequence[Panel]]
) -> Chart:
    """A row per image, a column for each model or method.

    Args:
      columns: what stands above a column -> a panel of each image; the class and probability above
        a map are of its own panel.
    """
    figure, _ = grid(shown, columns)
    return Chart(name, title, f"{title}: {', '.join(columns)}.", figure)


def grid(
    shown: Shown, panels: Mapping[str, Sequence[Panel]], each: int = 1, foot: int = 0
) -> tuple[Figure, Axes]:
    """Images and the maps of their panels, below their names; `each` columns are of one name."""
    figure, ax = canvas(len(shown.images), 1 + each * len(panels), foot)
    masks = [None] * len(shown.images) if shown.masks is None else shown.masks
    for row, (image, name) in enumerate(zip(shown.images, shown.names, strict=True)):
        show(ax, (row, 0), image, masks[row], shortened(name))
    for row, name in enumerate(shown.rows):
        y = HEAD + LINE + row * (SIDE + LINE + GAP) + SIDE / 2
        upright: dict[str, Any] = {"rotation": 90, "ha": "right", "va": "center"}
        ax.text(AROUND - 1, y, shortened(name, 24), fontsize=8.5, **upright)
    for row, column, own in placed(panels, each):
        said = f"{shortened(own.class_name)} {own.before:.0%}"
        map_of = overlay(shown.images[row], own.heatmap)
        show(ax, (row, column), map_of, masks[row], said, ink(own))
    for number, name in enumerate(["image", *panels]):
        column = max(0, 1 + (number - 1) * each)
        lines = textwrap.wrap(titles.model(name), 16 * each)[:2]
        ax.text(
            AROUND + column * (SIDE + GAP), HEAD - 5, "\n".join(lines), fontsize=9.5,
            weight="bold", va="baseline", linespacing=1.1,
        )  # fmt: skip
    return figure, ax


def placed(panels: Mapping[str, Sequence[Panel]], each: int) -> Iterator[tuple[int, int, Panel]]:
    """(row, column, panel) of all."""
    for number, those in enumerate(panels.values()):
        for row, own in enumerate(those):
            yield row, 1 + each * number, own


def ink(panel: Panel) -> str:
    """The colour of what is said of it: red where it is wrong."""
    return INK if panel.correct else BAD
