"""How alike two models explain the same images."""

from functools import partial
from typing import Any

import jax
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from kdxai import inputs
from kdxai.classifiers import everywhere, require_obeyed
from kdxai.data import augment
from kdxai.drawing import draw
from kdxai.errors import UserError
from kdxai.evaluate.admission import admit, count_classes, doubts, require_logits
from kdxai.evaluate.chunks import chunk_size, chunks, computing, each, stack
from kdxai.evaluate.rows import Entry
from kdxai.explain import Classifier
from kdxai.metrics import agreement
from kdxai.protocol import Protocol


@partial(jax.jit, static_argnames="protocol")
def agreements(
    classifiers: tuple[Classifier, Classifier],
    entries: Entry,
    normalisation: tuple[ArrayLike, ArrayLike],
    protocol: Protocol,
) -> tuple[dict[str, jax.Array], list[dict[str, jax.Array]]]:
    """A row for each image, and `doubts` of either model."""

    def row(shared: Any, entry: Entry) -> tuple[dict[str, jax.Array], list[dict[str, jax.Array]]]:
        classifiers, normalisation = shared
        image = augment.normalise(entry.image, *normalisation)
        class_index = classifiers[1](image).argmax()
        # Each model's own random numbers: two random maps agree by chance alone.
        keys = jax.random.split(entry.key)
        maps = [
            draw(protocol, one, image, class_index, entry.mask, key).heatmap
            for one, key in zip(classifiers, keys, strict=True)
        ]
        outputs = [one(image) for one in classifiers]
        same = outputs[0].argmax() == class_index
        judged = [
            doubts(protocol, one, image, found, class_index)
            for one, found in zip(classifiers, outputs, strict=True)
        ]
        return {"same_class": same, **agreement.agreement(*maps)}, judged

    return each(row, (classifiers, normalisation), entries)


def compare(
    one: Classifier,
    other: Classifier,
    images: Any,
    protocol: Protocol,
    *,
    mean: ArrayLike,
    std: ArrayLike,
    masks: np.ndarray | None = None,
    chunk: int | None = None,
    name: str = "models",
) -> pd.DataFrame:
    """How alike two models explain the same images, for the class that `other` predicts.

    Both maps are put on the image's grid first.

    Returns:
      One row per image: `same_class`, whether both predict it, and `agreement.METRICS`.

    Raises:
      UserError: as `evaluate`, or the models have different classes.
    """
    with computing(chunk):
        given = admit(other, images, protocol, mean, std)
        images, size = given.images, len(given.images)
        require_obeyed(one, protocol)
        pair = everywhere(one, images.shape[1:]), given.classifier
        classes = [count_classes(model, images) for model in pair]
        if len(set(classes)) > 1:
            raise UserError(
                f"{name}: {classes[0]} and {classes[1]} classes; compare models of the same ones"
            )
        masks = None if masks is None else inputs.masks(masks, images.shape[:3])
        entries = Entry(number=np.arange(size), image=images, label=None, mask=masks)
        chunk = chunk or chunk_size(protocol, (), images.shape[1:3])
        rows = []
        for part in chunks(size, chunk, name):
            found = agreements(pair, entries.take(part), given.normalisation, protocol)
            row, judged = jax.device_get(found)
            for columns in judged:
                require_logits(columns, name)
            rows.append(row)
        return pd.DataFrame(stack(rows, size))
