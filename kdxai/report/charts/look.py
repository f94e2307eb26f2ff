"""How all charts look: colours, marks, sizes, and the axes that they are drawn on."""

import textwrap
from collections.abc import Sequence
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import get_font_names
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from kdxai.study.design import SLOTS

# The light values of the page's colours (page/style.css): pictures have them, and in a page each
# becomes the variable of its name, so that a chart follows the page's theme.
COLOURS = {
    **{"ink": "#1d1e22", "soft": "#5c5e66", "line": "#dddbd4", "card": "#ffffff"},
    **{"accent": "#1f5fa8", "good": "#0b6b45", "bad": "#a83212", "unsure": "#6b5300"},
    **{"m0": "#0069ab", "m1": "#3f8fd0", "m2": "#cc4e00", "m3": "#00805c", "m4": "#a87900"},
    **{"m5": "#a8327b", "m6": "#7a5cb0", "m7": "#6d7078", "m8": "#6a4a33", "m9": "#00797f"},
}
INK, SOFT, LINE, CARD = (COLOURS[name] for name in ("ink", "soft", "line", "card"))
ACCENT, GOOD, BAD = (COLOURS[name] for name in ("accent", "good", "bad"))
SIGNS = {"better": GOOD, "worse": BAD, "unclear": SOFT}
MARKERS = "oos^vDDx+p"  # of the slots, as the page's own marks
OPEN = (1, 6)  # slots whose marks are not filled
# Behind the library's own font, where they are there: for names in other scripts.
FONTS = (
    "Noto Sans CJK SC",
    "Noto Sans CJK JP",
    "Arial Unicode MS",
    "Hiragino Sans",
    "Microsoft YaHei",
)
LOOK: dict[Any, Any] = {
    "font.family": ["DejaVu Sans", *(name for name in FONTS if name in get_font_names())],
    **{"svg.fonttype": "none", "text.parse_math": False, "font.size": 10.5},
    **{"text.color": INK, "axes.labelcolor": SOFT, "xtick.labelcolor": SOFT},
    **{"ytick.labelcolor": SOFT, "axes.labelsize": 10, "xtick.labelsize": 10},
    **{"ytick.labelsize": 10, "xtick.bottom": False, "ytick.left": False},
    **{"axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False},
    **{"axes.spines.bottom": False, "axes.grid": True, "grid.color": LINE, "grid.linewidth": 1},
    **{"axes.axisbelow": True, "axes.facecolor": "none", "figure.facecolor": CARD},
    **{"axes.titlesize": 11, "axes.titleweight": "bold", "axes.titlelocation": "left"},
    **{"lines.solid_capstyle": "butt", "lines.dash_capstyle": "butt"},
}
NO_GLYPH = "Glyph .* missing from"  # warns of a name that no font here can spell
# Around functions that draw: text is spelt as it is, and all charts look alike.
styled = matplotlib.rc_context(LOOK)
POINTS = 72  # of an inch; they are the units of an SVG
WIDTH = 346.0  # points: what a telephone shows
CHARACTER = 5.8  # points: average width of a letter of a label
SAYS = "says: "  # begins the gid of a mark that says something when it is pointed at


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many points."""
    return Figure((width / POINTS, height / POINTS))


def add_axes(figure: Figure, left: float, top: float, width: float, height: float) -> Axes:
    """Axes at so many points from the left and the top of a figure."""
    across, down = figure.get_size_inches() * POINTS
    box = left / across, 1 - (top + height) / down, width / across, height / down
    return figure.add_axes(box)


def colour(slot: int) -> str:
    return COLOURS[f"m{slot % SLOTS}"]


def shape(slot: int, size: float = 7.5) -> dict[str, Any]:
    """A slot's mark, as `Axes.plot` takes it."""
    slot = slot % SLOTS
    kind = MARKERS[slot]
    lines = kind in "x+" or slot in OPEN
    return {
        **{"marker": kind, "ls": "", "color": colour(slot), "ms": size - lines - (kind == "D")},
        **{"mew": 2 if lines else 0, "mfc": "none" if lines else colour(slot)},
    }


def mark(ax: Axes, x: float, y: float, slot: int, says: str, size: float = 7.5) -> None:
    """A mark in the colour and shape of its slot, which says something when it is pointed at."""
    ax.plot(x, y, **shape(slot, size), gid=f"{SAYS}{says}")


def band(ax: Axes, low: float, high: float, mean: float | None = None, *, across: bool) -> None:
    """What another seed changes: from y = `low` to `high` all across, or from x to x."""
    (ax.axhspan if across else ax.axvspan)(low, high, color=ACCENT, alpha=0.16, lw=0)
    if mean is not None:
        (ax.axhline if across else ax.axvline)(mean, color=ACCENT, alpha=0.7, lw=1.2)


def values_axis(ax: Axes, low: float, high: float, *, logarithmic: bool = False) -> None:
    """The x axis of a metric: it holds all from low to high with a little room."""
    if logarithmic and low > 0:
        ax.set_xscale("log")
        ax.set_xlim(low / 1.1, high * 1.1)
        ticks = [digit * 10.0**power for power in range(-6, 7) for digit in (1, 2, 5)]
        ax.xaxis.set_major_locator(FixedLocator([t for t in ticks if low / 1.1 < t < high * 1.1]))
        ax.xaxis.set_minor_locator(NullLocator())
    else:
        room = 0.06 * (high - low) or 0.01
        ax.set_xlim(low - room, high + room)
        ax.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    ax.xaxis.set_major_formatter(short)


def upright(ax: Axes, low: float, high: float) -> None:
    """The y axis of a metric, likewise."""
    room = 0.06 * (high - low) or 0.01
    ax.set_ylim(low - room, high + room)
    ax.yaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    ax.yaxis.set_major_formatter(short)


def rows(ax: Axes, names: Sequence[str], letters: int) -> None:
    """As the y axis rows 0, 1, ... from the top, named on the left in lines of so many letters."""
    ax.set_yticks([])
    ax.set_ylim(len(names) - 0.5, -0.5)
    for y, name in enumerate(names):
        lines = textwrap.wrap(name, letters)
        for place, line in enumerate(lines):  # each for itself, in whatever font a page sets it
            offset = -8, 12 * ((len(lines) - 1) / 2 - place)
            beside(ax, 0, y, line, offset, ha="right", annotation_clip=False)


def beside(
    ax: Axes, x: float, y: float, text: str, offset: tuple[float, float], **options: Any
) -> None:
    """A text so many points from a place, its x a share of the axes' width, its y in the data."""
    ax.annotate(
        text, (x, y), xycoords=("axes fraction", "data"), xytext=offset,
        textcoords="offset points", **{"va": "center", **options},
    )  # fmt: skip


# Values and shares as ticks: a minus as wide as a plus, and few digits.
short = FuncFormatter(lambda value, _: f"{value:.4g}".replace("-", "\N{MINUS SIGN}"))
percent = FuncFormatter(lambda value, _: f"{100 * value:.3g}%")
