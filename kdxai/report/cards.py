"""The page's gallery: the same images, as every model sees them."""

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pandas as pd
from PIL import Image

from kdxai.metrics import coherency
from kdxai.report.overlay import MAP_COLOURS, picture
from kdxai.study.design import Design

PICTURES = 48  # the first images drawn
SIDE = 64  # pixels of a picture at most: larger ones are shrunk
SORTS = {"disagreement": "disagreement", "average_drop": "drop", "complexity": "complexity"}


class Gallery(NamedTuple):
    """What the models look at in some images.

    Attributes:
      ids: [N] numbers of the images in the records.
      images: [N, H, W, C] uint8.
      heatmaps: model -> [N, H, W] in [0, 1].
      seed, method: of the maps.
    """

    ids: np.ndarray
    images: np.ndarray
    heatmaps: Mapping[str, np.ndarray]
    seed: int
    method: str


class Tile(NamedTuple):
    """One model's map of an image, and what was measured of it."""

    model: str
    description: str
    explained: str
    correct: bool
    before: float
    after: float
    drop: float
    complexity: float
    ssim: float
    degenerate: str


class Card(NamedTuple):
    """One image of the gallery.

    Attributes:
      photo, maps: data URIs; `maps` holds the models' maps side by side.
      right: whether all models that learned something name its class.
      values: what to sort by -> model, or "mean" of those that learned -> value.
    """

    id: int
    class_name: str
    photo: str
    maps: str
    right: bool
    values: Mapping[str, Mapping[str, float]]
    tiles: Sequence[Tile]


def cards(
    gallery: Gallery,
    records: pd.DataFrame,
    class_names: Sequence[str],
    models: Sequence[str],
    design: Design,
) -> list[Card]:
    """One for each image; disagreement is 1 - Pearson's r with the map of the reference model."""
    rows = records[(records.seed == gallery.seed) & (records.method == gallery.method)]
    rows = rows.set_index(["model", "image"])
    learned = [name for name in models if name != design.untrained or len(models) == 1]
    first = design.reference
    others = [name for name in models if name != first]
    pearson = jax.vmap(coherency.pearson)
    maps = {name: jnp.asarray(drawn) for name, drawn in gallery.heatmaps.items()}
    disagreement = {name: 1 - np.asarray(pearson(maps[first], maps[name])) for name in others}
    found = []
    for place, image in enumerate(gallery.ids):
        own = {name: rows.loc[(name, image)] for name in models}
        drawn = {name: gallery.heatmaps[name][place] for name in models}
        values = {
            key: {name: float(row[key]) for name, row in own.items()}
            for key in SORTS
            if key != "disagreement"
        }
        if others:
            values["disagreement"] = {name: float(disagreement[name][place]) for name in others}
        for by_model in values.values():
            some = [by_model[name] for name in learned if name in by_model] or [*by_model.values()]
            by_model["mean"] = float(np.mean(some))
        found.append(
            Card(
                id=int(image),
                class_name=class_names[own[first].label],
                photo=png_uri(shrunk(Image.fromarray(picture(gallery.images[place])))),
                maps=sprite([*drawn.values()]),
                right=all(own[name].predicted == own[name].label for name in learned),
                values={
                    key: {name: round(value, 4) for name, value in by_model.items()}
                    for key, by_model in values.items()
                },
                tiles=[tile(name, row, drawn[name], class_names) for name, row in own.items()],
            )
        )
    return found


def tile(model: str, row: pd.Series, heatmap: np.ndarray, class_names: Sequence[str]) -> Tile:
    """One of a record and the map that it is of."""
    return Tile(
        model=model,
        description=described(heatmap),
        explained=class_names[row.explained],
        correct=bool(row.predicted == row.label),
        before=row.score,
        after=row.score_masked,
        drop=row.average_drop,
        complexity=row.complexity,
        ssim=row.ssim,
        degenerate=row.degenerate,
    )


def described(heatmap: np.ndarray) -> str:
    """Where a map [H, W] is, for those who do not see it."""
    if np.ptp(heatmap) == 0:
        return "the same everywhere"
    y, x = (np.array(np.unravel_index(heatmap.argmax(), heatmap.shape)) + 0.5) / heatmap.shape
    vertical, horizontal = (
        ends[int(3 * at)] for at, ends in ((y, ("top", "", "bottom")), (x, ("left", "", "right")))
    )
    where = " ".join(part for part in (vertical, horizontal) if part) or "centre"
    return f"strongest at the {where}, above half on {(heatmap > 0.5).mean():.0%} of the image"


def shrunk(image: Image.Image) -> Image.Image:
    """At most `SIDE` pixels wide and high."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    return small


def sprite(heatmaps: Sequence[np.ndarray]) -> str:
    """Maps [H, W] in [0, 1] side by side, in colour, as a data URI."""
    tiles = [
        np.asarray(shrunk(Image.fromarray(np.uint8(np.round(255 * np.clip(heatmap, 0, 1))))))
        for heatmap in heatmaps
    ]
    image = Image.fromarray(np.concatenate(tiles, axis=1))
    colours = matplotlib.colormaps[MAP_COLOURS](np.arange(256), bytes=True)[:, :3]
    image.putpalette(colours.tobytes())
    return png_uri(image)


def png_uri(image: Image.Image) -> str:
    """A data URI of few bytes."""
    return data_uri(image, "PNG", optimize=True)


def data_uri(image: Image.Image, kind: str, **options: Any) -> str:
    """A picture within a page; kind and options as of `encoded`."""
    data = base64.b64encode(encoded(image, kind, **options)).decode()
    return f"data:image/{kind.lower()};base64,{data}"


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """A picture as the content of a file.

    Args:
      kind: "PNG" or "JPEG".
      options: of `Image.save`.
    """
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()
