"""The page of pictures of one's own, and the table beside it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from kdxai.errors import printable
from kdxai.report import cards, pages
from kdxai.report.overlay import overlay

SIDE = 224  # pixels: of a picture with a shorter side each pixel is to be seen


class Prediction(NamedTuple):
    """A class, and how probable it is."""

    number: int
    name: str
    probability: float


class Map(NamedTuple):
    """Where a method finds the evidence for a class.

    Attributes:
      description: for those who do not see it.
      uri: the overlay for the page; "" of a picture that is not on it.
    """

    method: str
    description: str
    uri: str


class Explained(NamedTuple):
    """A picture as a model sees it.

    Attributes:
      picture: the file's place in the folder that all share.
      top: the most probable classes, the most probable first.
      maps: class -> its maps; the predicted class, then the others asked for.
      uri: the pixels that the model is given; "" of a picture that is not on the page.
    """

    picture: str
    model: str
    top: Sequence[Prediction]
    maps: Mapping[Prediction, Sequence[Map]]
    uri: str


def data_uri(pixels: np.ndarray) -> str:
    """[H, W, 3] uint8 -> a picture within the page."""
    image = Image.fromarray(pixels)
    if min(pixels.shape[:2]) < SIDE:
        return cards.data_uri(image, "PNG")
    return cards.data_uri(image, "JPEG", quality=88, subsampling=0)


def table(found: Sequence[Explained]) -> pd.DataFrame:
    """A row for each picture, model and class among its most probable."""
    return pd.DataFrame(
        [
            {
                "picture": one.picture,
                "model": one.model,
                "rank": rank,
                "class": guess.number,
                "class_name": guess.name,
                "probability": round(guess.probability, 6),
            }
            for one in found
            for rank, guess in enumerate(one.top, 1)
        ]
    )


def lines(found: Sequence[Explained]) -> list[str]:
    """What each picture is taken for, a line each."""
    says: dict[str, list[str]] = {}
    for one in found:
        first = one.top[0]
        said = printable(f"{one.model} {first.name} {first.probability:.0%}")
        says.setdefault(one.picture, []).append(said)
    return [f"{name}: {', '.join(every)}" for name, every in says.items()]


def page(found: Sequence[Explained], models: Mapping[str, Any]) -> str:
    """The page: no file beside it, no network, no script.

    Args:
      found: every picture by every model.
      models: name -> a `Trained` or `External`.
    """
    by_picture: dict[str, list[Explained]] = {}
    for one in found:
        if one.uri:
            by_picture.setdefault(one.picture, []).append(one)
    grey, ramp = np.full((12, 256, 3), 128, np.uint8), np.linspace(0, 1, 256)[None]
    template = pages.templates().get_template("gallery.html")
    return template.render(
        cards=by_picture,
        count=len(found) // len(models),
        models=models,
        methods=[drawn.method for drawn in next(iter(found[0].maps.values()))],
        scale=data_uri(overlay(grey, ramp)),
        slots=(),  # of the style sheet: no colours of models
    )
