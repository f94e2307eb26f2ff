"""Images with their maps, as pictures."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kdxai.report import titles
from kdxai.report.charts import look
from kdxai.report.charts.chart import Chart
from kdxai.report.charts.look import BAD, CARD, INK, SOFT
from kdxai.report.overlay import drawn_as, overlay, picture

SIDE, GAP, LINE = 92, 8, 15  # points: a picture, between pictures, a line of text above
AROUND = 12


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
    """

    images: np.ndarray
    names: Sequence[str]
    masks: np.ndarray | None = None


def shortened(name: str) -> str:
    """A class name, which comes from the data, as what fits above a picture."""
    name = "".join(letter if letter.isprintable() else " " for letter in name)
    return name if len(name) <= 16 else f"{name[:15]}…"


def canvas(rows: int, columns: int, head: int, foot: int = 0) -> tuple[Figure, Axes]:
    """A place for pictures, in points from its left and its top; `head` and `foot` around them."""
    width = columns * (SIDE + GAP) + 2 * AROUND
    height = rows * (SIDE + LINE + GAP) + head + foot + AROUND
    figure = look.new_figure(width, height)
    ax = look.add_axes(figure, 0, 0, width, height)
    ax.set_axis_off()
    ax.set_xlim(0, width)
    ax.set_ylim(height, 0)
    return figure, ax


class Place(NamedTuple):
    """Where a picture stands on a canvas; in points, of its upper left corner."""

    ax: Axes
    x: float
    y: float

    def show(
        self, image: np.ndarray, mask: np.ndarray | None, title: str = "", colour: str = INK
    ) -> None:
        """An image as `picture` takes it, as it is: grey values are not stretched.

        Args:
          mask: [H, W] bool, whose outline is drawn, or None.
        """
        extent = (self.x, self.x + SIDE, self.y + SIDE, self.y)
        whole = 255 if image.dtype == np.uint8 else 1
        self.ax.imshow(
            picture(image), cmap="gray", vmin=0, vmax=whole, extent=extent, aspect="auto",
            interpolation="nearest",
        )  # fmt: skip
        self.ax.text(self.x + SIDE / 2, self.y - 3, title, fontsize=8.5, color=colour, ha="center")
        if mask is not None and 0 < np.count_nonzero(mask) < mask.size:
            height, width = mask.shape
            across = self.x + (np.arange(width) + 0.5) * SIDE / width
            down = self.y + (np.arange(height) + 0.5) * SIDE / height
            for line, points in ((INK, 2.2), (CARD, 1)):
                shape = np.asarray(mask, float)
                self.ax.contour(across, down, shape, [0.5], colors=line, linewidths=points)


def place(ax: Axes, row: int, column: int, head: int) -> Place:
    return Place(ax, AROUND + column * (SIDE + GAP), head + LINE + row * (SIDE + LINE + GAP))


def name_columns(ax: Axes, names: Sequence[str], head: int, each: int = 1) -> None:
    """Names above the columns, `image` above the first; each is of so many columns."""
    for number, name in enumerate(["image", *names]):
        column = max(0, 1 + (number - 1) * each)
        lines = textwrap.wrap(titles.model(name), 16 * each)[:2]
        ax.text(
            AROUND + column * (SIDE + GAP), head - 5, "\n".join(lines), fontsize=9.5,
            weight="bold", va="baseline", linespacing=1.1,
        )  # fmt: skip


def explained(panel: Panel) -> tuple[str, str]:
    """What a model takes an image for, and the colour that says whether it is right."""
    named = f"{shortened(panel.class_name)} {panel.before:.0%}"
    return named, INK if panel.correct else BAD


@look.drawn
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
    head, foot = 34, 12 * len(lines)
    figure, ax = canvas(len(shown.images), columns, head, foot)
    for row, (image, name) in enumerate(zip(shown.images, shown.names, strict=True)):
        mask = None if shown.masks is None else shown.masks[row]
        place(ax, row, 0, head).show(image, mask, shortened(name))
        for number, own in enumerate(panels.values()):
            named, colour = explained(own[row])
            left, right = (place(ax, row, 1 + 2 * number + more, head) for more in (0, 1))
            left.show(overlay(image, own[row].heatmap), mask, named, colour)
            right.show(own[row].masked, None, f"→ {own[row].after:.0%}", colour)
    name_columns(ax, list(panels), head, each=2)
    ax.text(AROUND, ax.get_ylim()[0] - 5, "\n".join(lines), fontsize=8.5, color=SOFT)
    return Chart(f"maps-{method}", f"Maps by {titles.method(method)}", caption, figure)


@look.drawn
def side_by_side(
    name: str, title: str, shown: Shown, columns: Mapping[str, Sequence[Panel]]
) -> Chart:
    """A row per image, a column for each model or method.

    Args:
      columns: what stands above a column -> a panel of each image; the class and probability above
        a map are of its own panel.
    """
    head = 34
    figure, ax = canvas(len(shown.images), 1 + len(columns), head)
    for row, (image, said) in enumerate(zip(shown.images, shown.names, strict=True)):
        mask = None if shown.masks is None else shown.masks[row]
        place(ax, row, 0, head).show(image, mask, shortened(said))
        for column, own in enumerate(columns.values(), 1):
            map_of = overlay(image, own[row].heatmap)
            place(ax, row, column, head).show(map_of, mask, *explained(own[row]))
    name_columns(ax, list(columns), head)
    return Chart(name, title, f"{title}: {', '.join(columns)}.", figure)
