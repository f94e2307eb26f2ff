"""Where names stand beside marks, so that they can be read."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

from kdxai.report.charts.look import CHARACTER

Box = tuple[float, float, float, float]  # left, bottom, right, top, in points


class Spot(NamedTuple):
    """A place for a text; `anchor` is what of it stands at x, y, as `ha` of matplotlib."""

    box: Box
    anchor: str
    x: float
    y: float


def place_label(text: str, x: float, y: float, taken: Sequence[Box], frame: Box) -> Spot:
    """The spot beside a mark at x, y where as little as can be is in the way."""
    width = CHARACTER * len(text)

    def spot(anchor: str, dx: float, dy: float) -> Spot:
        left = x + dx - {"left": 0, "center": width / 2, "right": width}[anchor]
        return Spot((left, y + dy - 6, left + width, y + dy + 6), anchor, x + dx, y + dy)

    spots = [spot("left", 9, 0), spot("right", -9, 0)] + [
        spot(anchor, dx, side * away)
        for away in (14, 26, 38, 50)
        for side in (-1, 1)
        for anchor, dx in (("center", 0), ("left", 6), ("right", -6))
    ]
    return min(
        spots, key=lambda one: (not inside(one.box, frame), sum(map(overlap(one.box), taken)))
    )


def inside(box: Box, frame: Box) -> bool:
    return box[0] >= frame[0] and box[1] >= frame[1] and box[2] <= frame[2] and box[3] <= frame[3]


def overlap(one: Box) -> Callable[[Box], bool]:
    return lambda other: (
        one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
    )
