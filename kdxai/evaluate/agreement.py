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
    normalisations: tuple[tuple[ArrayLike, ArrayLike], tuple[ArrayLike, ArrayLike]],
    protocol: Protocol,
) -> tuple[dict[str, jax.Array], list[dict[str, jax.Array]]]:
    """A row for each image, and `doubts` of either model."""

    def row(shared: Any, entry: Entry) -> tuple[dict[str, jax.Array], list[dict[str, jax.Array]]]:
        classifiers, normalisations = shared
        images = [augment.normalise(entry.image, *one) for one in normalisations]
        outputs = [one(image) for one, image in zip(classifiers, images, strict=True)]
        class_index = outputs[1].argmax()
        # Each model's own random numbers: two random maps agree by chance alone.
        keys = jax.random.split(entry.key)
        maps = [
            draw(protocol, one, image, class_index, entry.mask, key).heatmap
            for one, image, key in zip(classifiers, images, keys, strict=True)
        ]
        same = outputs[0].argmax() == class_index
        judged = [
            doubts(protocol, one, image, found, class_index)
            for one, image, found in zip(classifiers, images, outputs, strict=True)
        ]
        return {"same_class": same, **agreement.agreement(*maps)}, judged

    return each(row, (classifiers, normalisations), entries)


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

    Args:
      mean, std: [C] of the normalisation; or [2, C], where each model has its own.

    Returns:
      One row per image: `same_class`, whether both predict it, and `agreement.METRICS`.

    Raises:
      UserError: as `evaluate`, or the models have different classes.
    """
    with computing(chunk):
        means, stds = (one_for_each(values) for values in (mean, std))
        given = admit(other, images, protocol, means[1], stds[1])
        images, size = given.images, len(given.images)
        require_obeyed(one, protocol)
        pair = everywhere(one, images.shape[1:]), given.classifier
        own = inputs.normalisation(means[0], stds[0], images.shape[-1])
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
            found = agreements(pair, entries.take(part), (own, given.normalisation), protocol)
            row, judged = jax.device_get(found)
            for columns in judged:
                require_logits(columns, name)
            rows.append(row)
        return pd.DataFrame(stack(rows, size))


def one_for_each(values: ArrayLike) -> np.ndarray:
    """[C], a number, or [2, C] -> [2, ...]: what each of two models has."""
    values = np.asarray(values, np.float32)
    return values if values.ndim == 2 else np.stack([values, values])
