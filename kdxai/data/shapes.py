"""`shapes`: an offline data set that knows where its objects are.

One function of a key draws an image, its label and its ground-truth mask, so an explanation can be
compared with the truth. The label is one of ten shapes and nothing else tells it: position, size,
rotation, colours, background and distractors are drawn from one distribution for all classes.

A shape is a signed distance function: negative inside, zero on the outline, positive outside. The
primitives follow Inigo Quilez, https://iquilezles.org/articles/distfunctions2d/. Each one is moved
to its centroid and scaled to the area of the unit disc, so that not even the area of the mask
betrays the class.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdxai.errors import UserError

Array = jax.Array
Point = tuple[float, float]
Distance = Callable[[Array, Array], Array]  # x, y -> signed distance, all of one shape

SIZE = 32  # pixels a side
RADIUS = (5.5, 7.0)  # pixels; a shape has the area of a disc of this radius
MARGIN = 1.2  # radii from the centroid to the border, at least: a tip may be cut off
WAVES = 4  # in the background
STROKES = 4  # distractors
CHUNK = 1000  # images drawn at a time: memory stays flat, one compilation serves every size

_TURN = (0, 2 * math.pi)
_SATURATION = (0, 0.3)


class Shape(NamedTuple):
    """A shape in coordinates of its own, where it is mirror-symmetric about the y axis.

    Attributes:
      distance: x, y -> signed distance; where two primitives are combined, a lower bound of it
        that is exact along the outline.
      area: of the inside.
      height: y of the centroid; its x is 0.
    """

    distance: Distance
    area: float
    height: float = 0.0


def disc(x: Array, y: Array, radius: float, height: float = 0.0) -> Array:
    """Signed distance from a disc around (0, height)."""
    return jnp.hypot(x, y - height) - radius


def segment(x: Array, y: Array, start: Point, end: Point) -> Array:
    """Distance from a line segment, which may be a point; it has no inside."""
    (x0, y0), (x1, y1) = start, end
    dx, dy = x1 - x0, y1 - y0
    t = ((x - x0) * dx + (y - y0) * dy) / jnp.maximum(dx * dx + dy * dy, 1e-6)
    t = jnp.clip(t, 0, 1)
    return jnp.hypot(x - x0 - t * dx, y - y0 - t * dy)


def polygon(x: Array, y: Array, vertices: list[Point]) -> Array:
    """Signed distance from a simple polygon whose vertices are listed in either order."""
    # Unrolled over the edges: XLA fuses the whole loop, 50 times faster than an axis of edges.
    outline: Array | float = jnp.inf
    inside: Array | bool = False
    for start, end in zip(vertices, vertices[1:] + vertices[:1], strict=True):
        outline = jnp.minimum(outline, segment(x, y, start, end))
        (x0, y0), (x1, y1) = start, end
        if y0 != y1:  # even-odd rule: the ray from (x, y) towards -x crosses this edge or not
            left = x0 + (y - y0) * ((x1 - x0) / (y1 - y0)) < x
            inside ^= ((y < y0) != (y < y1)) & left
    return jnp.where(inside, -outline, outline)


def _ring(inner: float) -> Shape:
    """The unit disc without the disc of radius `inner`."""
    middle, half = (1 + inner) / 2, (1 - inner) / 2
    return Shape(lambda x, y: jnp.abs(disc(x, y, middle)) - half, math.pi * (1 - inner**2))


def _crescent(shift: float) -> Shape:
    """The unit disc without the unit disc around (0, shift)."""
    angle = 2 * math.acos(shift / 2)  # which each of the two arcs around the overlap spans
    overlap = angle - math.sin(angle)
    area = math.pi - overlap
    height = -overlap * (shift / 2) / area
    return Shape(lambda x, y: jnp.maximum(disc(x, y, 1), -disc(x, y, 1, shift)), area, height)


def _polygon(right: list[Point]) -> Shape:
    """A polygon from the vertices of its right half, from top to bottom."""
    vertices = right + [(-x, y) for x, y in reversed(right) if x > 0]
    area = moment = 0.0  # by the shoelace formula
    for (x0, y0), (x1, y1) in zip(vertices, vertices[1:] + vertices[:1], strict=True):
        cross = x1 * y0 - x0 * y1
        area += cross / 2
        moment += cross * (y0 + y1) / 6
    return Shape(partial(polygon, vertices=vertices), area, moment / area)


def _heart() -> Shape:
    """Two unit discs side by side, and their tangents at 45 degrees down to the tip."""
    h = math.sqrt(0.5)
    body = _polygon([(1, 0), (1 + h, -h), (0, -1 - 2 * h)])
    # Of either disc, a sector of 225 degrees lies outside the body.
    area = body.area + 5 * math.pi / 4
    height = (body.area * body.height + (2 + math.sqrt(2)) / 3) / area
    return Shape(
        lambda x, y: jnp.minimum(disc(jnp.abs(x) - 1, y, 1), body.distance(x, y)), area, height
    )


def _star(points: int, inner: float) -> Shape:
    """`points` tips on the unit circle and, between them, as many notches at radius `inner`."""
    angles = [math.pi * i / points for i in range(points + 1)]
    radii = [inner if i % 2 else 1.0 for i in range(points + 1)]
    half = [(r * math.sin(a), r * math.cos(a)) for r, a in zip(radii, angles, strict=True)]
    return _polygon([(0.0, 1.0), *half[1:-1], (0.0, half[-1][1])])


SHAPES: dict[str, Shape] = {
    "circle": Shape(partial(disc, radius=1), math.pi),
    "ring": _ring(inner=0.5),
    "square": _polygon([(1, 1), (1, -1)]),
    "triangle": _polygon([(0, 1), (math.sqrt(3) / 2, -0.5)]),
    "star": _star(points=5, inner=0.45),
    "cross": _polygon([(1, 3), (1, 1), (3, 1), (3, -1), (1, -1), (1, -3)]),
    "crescent": _crescent(shift=0.8),
    "heart": _heart(),
    "arrow": _polygon([(0, 1), (0.8, 0), (0.3, 0), (0.3, -1)]),
    "hourglass": _polygon([(0.9, 1.2), (0.25, 0), (0.9, -1.2)]),
}
CLASS_NAMES: tuple[str, ...] = tuple(SHAPES)


def unit_area(shape: Shape) -> Distance:
    """The shape's signed distance once it is moved to its centroid and scaled to the area pi."""
    scale = math.sqrt(shape.area / math.pi)
    return lambda x, y: shape.distance(scale * x, scale * y + shape.height) / scale


def _between(numbers: Array, *ranges: tuple[float, float]) -> Array:
    """Stretch random numbers from [0, 1) to one range each; any left over are not used."""
    low, high = jnp.array(ranges, jnp.float32).T
    return low + (high - low) * numbers[: len(ranges)]


def _colour(lightness: Array, hue: Array, saturation: Array) -> Array:
    """RGB [3, 1, 1] around the grey `lightness`; the hue is an angle."""
    phases = hue + 2 * math.pi / 3 * jnp.arange(3, dtype=jnp.float32)
    return (lightness + saturation * jnp.cos(phases))[:, None, None]


def _palette(numbers: Array) -> tuple[Array, Array]:
    """The colours of ground and figure: one dark, the other light, the hues independent."""
    dark, contrast, coin, hue, saturation, other_hue, other_saturation = _between(
        numbers, (0.1, 0.35), (0.4, 0.55), (-1, 1), _TURN, _SATURATION, _TURN, _SATURATION
    )
    light = dark + contrast
    ground, figure = jnp.where(coin > 0, light, dark), jnp.where(coin > 0, dark, light)
    return _colour(ground, hue, saturation), _colour(figure, other_hue, other_saturation)


def _wave(numbers: Array, x: Array, y: Array) -> Array:
    """[3, H, W]: a coloured plane wave, so long that it looks like a gradient or a cloud."""
    cycles, amplitude = (-2 / SIZE, 2 / SIZE), (-0.08, 0.08)
    u, v, phase, *rgb = _between(numbers, cycles, cycles, _TURN, amplitude, amplitude, amplitude)
    return jnp.cos(2 * math.pi * (u * x + v * y) + phase) * jnp.stack(rgb)[:, None, None]


def _stroke(numbers: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """A short line or a dot anywhere: its distance [H, W] and its colour."""
    place = (-SIZE / 2, SIZE / 2)
    x0, y0, turn, length, width, lightness, hue, saturation = _between(
        numbers, place, place, _TURN, (-8, 12), (0.5, 1.2), (0.1, 0.9), _TURN, _SATURATION
    )
    length = jnp.maximum(length, 0)
    end = x0 + length * jnp.cos(turn), y0 + length * jnp.sin(turn)
    return segment(x, y, (x0, y0), end) - width, _colour(lightness, hue, saturation)


def _figure(numbers: Array, x: Array, y: Array) -> tuple[Array, Array]:
    """One of the ten shapes: its label and its distance [H, W], in pixels."""
    label, radius, turn, right, down = _between(
        numbers, (0, len(SHAPES)), RADIUS, _TURN, (-1, 1), (-1, 1)
    )
    label = label.astype(jnp.int32)
    room = SIZE / 2 - MARGIN * radius  # depends on the size, but not on the class
    x, y = (x - room * right) / radius, (y - room * down) / radius
    cos, sin = jnp.cos(turn), jnp.sin(turn)
    distances = [unit_area(shape) for shape in SHAPES.values()]
    distance = jax.lax.switch(label, distances, cos * x - sin * y, sin * x + cos * y)
    return label, radius * distance


def _paint(image: Array, distance: Array, colour: Array) -> Array:
    """Cover what lies inside `distance` [H, W], in pixels; the edge fades over one pixel."""
    return image + jnp.clip(0.5 - distance, 0, 1) * (colour - image)


def _render(key: Array) -> tuple[Array, Array, Array]:
    """`render` with channels first, which XLA vectorises on a CPU: three times as fast."""
    key_scene, key_noise = jax.random.split(key)
    # A row of random numbers for each layer. One large draw compiles faster than many small ones.
    rows = jax.random.uniform(key_scene, (2 + WAVES + STROKES, 8), jnp.float32)
    palette, figure, waves, strokes = rows[0], rows[1], rows[2 : 2 + WAVES], rows[2 + WAVES :]

    axis = jnp.arange(SIZE, dtype=jnp.float32) + 0.5 - SIZE / 2
    x, y = jnp.meshgrid(axis, axis)
    image, colour = _palette(palette)
    for numbers in waves:
        image = image + _wave(numbers, x, y)
    for numbers in strokes:
        image = _paint(image, *_stroke(numbers, x, y))
    label, distance = _figure(figure, x, y)
    image = _paint(image, distance, colour)
    image = image + 0.02 * jax.random.normal(key_noise, image.shape, jnp.float32)
    return jnp.round(255 * jnp.clip(image, 0, 1)).astype(jnp.uint8), label, distance < 0


def render(key: Array) -> tuple[Array, Array, Array]:
    """One example from one key.

    Returns:
      image: uint8 [32, 32, 3].
      label: int32 [], an index into `CLASS_NAMES`.
      mask: bool [32, 32], true where the centre of the pixel lies inside the shape.
    """
    image, label, mask = _render(key)
    return jnp.moveaxis(image, 0, -1), label, mask


@jax.jit
def _render_chunk(key: Array, indices: Array) -> tuple[Array, Array, Array]:
    return jax.lax.map(lambda index: _render(jax.random.fold_in(key, index)), indices)


def render_split(seed: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first `size` images of the endless data set `seed`.

    Image i depends on the seed and i alone. Everything is drawn on the CPU, so that a machine with
    an accelerator gets the same pixels.

    Returns:
      images uint8 [N, 32, 32, 3], labels int32 [N], masks bool [N, 32, 32].

    Raises:
      UserError: `size` is not positive, or JAX was started without its CPU backend.
    """
    if size < 1:
        raise UserError(f"size is {size}: ask for at least one image")
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError as error:
        raise UserError("shapes are drawn on the CPU: add `,cpu` to JAX_PLATFORMS") from error
    with jax.default_device(cpu):
        key = jax.random.key(seed, impl="threefry2x32")
        starts = range(0, size, CHUNK)
        chunks = [jax.device_get(_render_chunk(key, np.arange(i, i + CHUNK))) for i in starts]
    images, labels, masks = (np.concatenate(parts)[:size] for parts in zip(*chunks, strict=True))
    return np.ascontiguousarray(np.moveaxis(images, 1, -1)), labels, masks
