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
from kdxai.report.overlay import MAP_COLOURS, drawn_as, picture
from kdxai.report.report import BESIDE
from kdxai.study.design import Design

PICTURES = 48  # the first images drawn
# In the page as it is loaded; a script makes the others when they are asked for.
FIRST = 12
BUDGET = 1_600_000  # characters of all pictures: what is over it is left out
SIDE = 64  # pixels of a picture at most: larger ones are shrunk
SORTS = {"disagreement": "disagreement", "average_drop": "drop", "complexity": "complexity"}


class Gallery(NamedTuple):
    """What the models look at in some images.

    Attributes:
      ids: [N] numbers of the images in the records.
      images: [N, H, W, C] uint8.
      heatmaps: model -> [N, H, W] in [0, 1].
      seed, method: of the maps.
      others: further method -> model -> [n, H, W] of the first n images.
      masks: [N, H, W] bool, where the object truly is, or None.
    """

    ids: np.ndarray
    images: np.ndarray
    heatmaps: Mapping[str, np.ndarray]
    seed: int
    method: str
    others: Mapping[str, Mapping[str, np.ndarray]] = {}
    masks: np.ndarray | None = None


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


class Row(NamedTuple):
    """The models' maps by one method; `maps` is a data URI that holds them side by side."""

    method: str
    maps: str
    tiles: Sequence[Tile]


class Card(NamedTuple):
    """One image of the gallery.

    Attributes:
      photo, outline: data URIs, of the image and of where the object is; "" where that is unknown.
      right: whether all models that learned something name its class.
      values: what to sort by -> model, or "mean" of those that learned -> value.
      rows: by the main method, and by the others that there are maps of.
    """

    id: int
    class_name: str
    photo: str
    outline: str
    right: bool
    values: Mapping[str, Mapping[str, float]]
    rows: Sequence[Row]

    @property
    def pictures(self) -> dict[str, Any]:
        """All of them, for the script."""
        maps = [row.maps for row in self.rows]
        return {"photo": self.photo, "outline": self.outline, "maps": maps}


def view(
    gallery: Gallery,
    records: pd.DataFrame,
    class_names: Sequence[str],
    slots: Mapping[str, int],
    design: Design,
) -> dict[str, Any]:
    """What page/cards.html is made from.

    Args:
      slots: model -> slot, of the models that are shown.
    """
    found = cards(gallery, records, class_names, list(slots), design)
    first = FIRST if len(slots) <= BESIDE else FIRST // 2  # in as many lines
    return {
        "cards": found,
        "first": first,
        "pictures": {one.id: one.pictures for one in found[first:]},
        "sorts": {k: v for k, v in SORTS.items() if k != "disagreement" or len(slots) > 1},
        "gallery": gallery,
        "slots": slots,
        "design": design,
        "drawn_as": drawn_as(gallery.images.shape[-1]),
    }


def cards(
    gallery: Gallery,
    records: pd.DataFrame,
    class_names: Sequence[str],
    models: Sequence[str],
    design: Design,
) -> list[Card]:
    """One for each image, as long as the page holds them.

    Disagreement is 1 - Pearson's r with the map of the reference model.
    """
    rows = records[records.seed == gallery.seed].set_index(["method", "model", "image"])
    main = rows.loc[gallery.method]
    learned = [name for name in models if name != design.untrained or len(models) == 1]
    first = design.reference
    values = sorted_by(gallery, main, models, learned, first)
    found: list[Card] = []
    size = 0
    for place, image in enumerate(gallery.ids):
        own = {name: main.loc[(name, image)] for name in models}
        by_method = {gallery.method: gallery.heatmaps} | {
            method: its for method, its in gallery.others.items() if place < len(its[first])
        }
        card = Card(
            id=int(image),
            class_name=class_names[own[first].label],
            photo=png_uri(shrunk(Image.fromarray(picture(gallery.images[place])))),
            outline="" if gallery.masks is None else outline(gallery.masks[place]),
            right=all(own[name].predicted == own[name].label for name in learned),
            values=values[place],
            rows=[
                Row(
                    method,
                    sprite([its[name][place] for name in models]),
                    [
                        tile(name, rows.loc[(method, name, image)], its[name][place], class_names)
                        for name in models
                    ],
                )
                for method, its in by_method.items()
            ],
        )
        size += len(card.photo) + len(card.outline) + sum(len(one.maps) for one in card.rows)
        if len(found) >= FIRST and size > BUDGET:
            break
        found.append(card)
    return found


def sorted_by(
    gallery: Gallery,
    rows: pd.DataFrame,
    models: Sequence[str],
    learned: Sequence[str],
    reference: str,
) -> list[dict[str, dict[str, float]]]:
    """What each image can be sorted by: `Card.values`.

    Args:
      rows: of the main method and the seed shown, by model and image.
    """
    pearson = jax.vmap(coherency.pearson)
    maps = {name: jnp.asarray(gallery.heatmaps[name]) for name in models}
    values = {
        key: {name: rows.loc[name][key].loc[gallery.ids].to_numpy(float) for name in models}
        for key in SORTS
        if key != "disagreement"
    }
    if others := [name for name in models if name != reference]:
        values["disagreement"] = {
            name: 1 - np.asarray(pearson(maps[reference], maps[name]), float) for name in others
        }
    for by_model in values.values():
        some = [by_model[name] for name in learned if name in by_model] or [*by_model.values()]
        by_model["mean"] = np.mean(some, axis=0)
    return [
        {
            key: {name: round(float(own[place]), 4) for name, own in by_model.items()}
            for key, by_model in values.items()
        }
        for place in range(len(gallery.ids))
    ]


def tile(model: str, record: pd.Series, heatmap: np.ndarray, class_names: Sequence[str]) -> Tile:
    """One of a record and the map that it is of."""
    return Tile(
        model=model,
        description=described(heatmap),
        explained=class_names[record.explained],
        correct=bool(record.predicted == record.label),
        before=record.score,
        after=record.score_masked,
        drop=record.average_drop,
        complexity=record.complexity,
        ssim=record.ssim,
        degenerate=record.degenerate,
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


def outline(mask: np.ndarray) -> str:
    """The borders of a mask [H, W], light upon dark, as a data URI; "" of one without any."""
    small = shrunk(Image.fromarray(np.uint8(mask) * 255), Image.Resampling.NEAREST)
    inside = np.asarray(small) > 0
    height, width = inside.shape
    steps = [
        f"M{start} {y}h{end - start}"
        for y in range(1, height)
        for start, end in runs(inside[y] != inside[y - 1])
    ] + [
        f"M{x} {start}v{end - start}"
        for x in range(1, width)
        for start, end in runs(inside[:, x] != inside[:, x - 1])
    ]
    if not steps:
        return ""
    drawn = "".join(
        f"<path d='{''.join(steps)}' stroke='{colour}' stroke-width='{line}'/>"
        for colour, line in (("black", 0.036 * width), ("white", 0.014 * width))
    )
    head = "<svg xmlns='http://www.w3.org/2000/svg' fill='none' stroke-linecap='square'"
    picture = f"{head} preserveAspectRatio='none' viewBox='0 0 {width} {height}'>{drawn}</svg>"
    return "data:image/svg+xml," + picture.replace("<", "%3C").replace(">", "%3E")


def runs(where: np.ndarray) -> list[tuple[int, int]]:
    """[n] bool -> where each run of true begins, and where it has ended."""
    ends = np.flatnonzero(np.diff(np.concatenate([[0], where, [0]])))
    return list(zip(ends[::2].tolist(), ends[1::2].tolist(), strict=True))


def shrunk(image: Image.Image, how: Image.Resampling = Image.Resampling.BICUBIC) -> Image.Image:
    """At most `SIDE` pixels wide and high."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE), how)
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
