"""How alike two models explain the same images."""

from typing import Any

import jax
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from kdxai.errors import UserError
from kdxai.evaluate.admission import Admitted, admit
from kdxai.evaluate.chunks import chunk_size, chunks, computing, stack
from kdxai.evaluate.maps import Shown, entries_of, show_chunk
from kdxai.evaluate.pairs import agreements
from kdxai.explain import Classifier
from kdxai.protocol import Protocol

# Each model's own random numbers: two random maps agree by chance alone.
ONE, OTHER = 0, 1


def compare(
    one: Classifier,
    other: Classifier | Shown,
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
      other: or what `show(other, ..., stream=OTHER)` has drawn, once for all that are compared
        with it.
      mean, std: [C] of the normalisation; or [2, C], where each model has its own.

    Returns:
      One row per image: `same_class`, whether both predict it, and `agreement.METRICS`.

    Raises:
      UserError: as `evaluate`, or the models have different classes.
    """
    with computing(chunk):
        means, stds = (one_for_each(values) for values in (mean, std))
        given = admit(one, images, protocol, means[0], stds[0])
        entries = entries_of(given, None, masks)
        size, shape = len(given.images), given.images.shape[1:3]
        theirs: Shown | Admitted
        if isinstance(other, Shown):
            theirs = other
        else:
            theirs = admit(other, images, protocol, means[1], stds[1])
            require_same_classes(name, given.classes, theirs.classes)
        rows = []
        for part in chunks(size, chunk or chunk_size(protocol, (), shape), name):
            some = entries.take(part)
            if isinstance(theirs, Shown):
                its = theirs.take(part)
            else:
                its = show_chunk(theirs, some, protocol, OTHER, name)
            mine = show_chunk(given, some._replace(label=its.predicted), protocol, ONE, name)
            alike = jax.device_get(agreements([mine.maps, its.maps], shape))
            same = {"same_class": mine.predicted == its.predicted}
            rows.append(same | {metric: values[:, 0] for metric, values in alike.items()})
        return pd.DataFrame(stack(rows, size))


def require_same_classes(name: str, one: int, other: int) -> None:
    """Check that two models tell apart as many classes.

    Raises:
      UserError: two models have different numbers of classes.
    """
    if one != other:
        raise UserError(f"{name}: {one} and {other} classes; compare models of the same ones")


def one_for_each(values: ArrayLike) -> np.ndarray:
    """[C], a number, or [2, C] -> [2, ...]: what each of two models has."""
    values = np.asarray(values, np.float32)
    return values if values.ndim == 2 else np.stack([values, values])
