"""The maps of many images, as they are drawn: on the method's own grid, in [0, 1]."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from kdxai import inputs
from kdxai.data import augment
from kdxai.drawing import draw
from kdxai.evaluate.admission import Admitted, admit, doubts, require_logits
from kdxai.evaluate.chunks import chunk_size, chunks, computing, each, stack
from kdxai.evaluate.rows import Entry
from kdxai.explain import Classifier
from kdxai.metrics.finite import require_finite
from kdxai.protocol import Protocol


def draw_maps(
    classifier: Classifier,
    images: Any,
    classes: np.ndarray,
    protocol: Protocol,
    *,
    mean: ArrayLike,
    std: ArrayLike,
    masks: np.ndarray | None = None,
    ids: np.ndarray | None = None,
    stream: int | None = None,
    chunk: int | None = None,
    name: str = "model",
) -> np.ndarray:
    """Draw the map of one class for every image, on all devices of the host.

    Args:
      images: [N, H, W, C] uint8.
      classes: [N] to be explained, whatever the protocol's target.
      mean, std, masks, ids, chunk, name: as for `evaluate`.
      stream: 0 or more, of random numbers of the classifier's own: two random maps of one image
        then agree by chance alone. None for those of `evaluate`.

    Returns:
      [N, h, w] float32 in [0, 1], the method's own grid.

    Raises:
      UserError: as `evaluate`, or a map is not finite.
    """
    with computing(chunk):
        given = admit(classifier, images, protocol, mean, std)
        images, size = given.images, len(given.images)
        entries = Entry(
            number=np.arange(size) if ids is None else inputs.ids(ids, size),
            image=images,
            label=inputs.labels(classes, size, given.classes),
            mask=None if masks is None else inputs.masks(masks, images.shape[:3]),
        )
        chunk = chunk or chunk_size(protocol, (), images.shape[1:3])
        parts = drawn(given, entries, protocol, stream, chunk, name)
        maps = stack(({"maps": part["maps"]} for part in parts), size)["maps"]
    require_finite(f"{name}: the map", maps)
    return maps


def drawn(
    given: Admitted, entries: Entry, protocol: Protocol, stream: int | None, chunk: int, name: str
) -> Iterator[dict[str, Any]]:
    """`native_maps` of every chunk, without doubts.

    Raises:
      UserError: the outputs are no logits.
    """
    for part in chunks(len(given.images), chunk, name):
        found = native_maps(
            given.classifier, entries.take(part), given.normalisation, protocol, stream
        )
        columns = jax.device_get(found)
        require_logits(columns, name)
        yield columns


@partial(jax.jit, static_argnames="protocol")
def native_maps(
    classifier: Classifier,
    entries: Entry,
    normalisation: tuple[ArrayLike, ArrayLike],
    protocol: Protocol,
    stream: Any,
) -> dict[str, jax.Array]:
    """`maps` [N, h, w] for the class `label`, or the predicted one where it is None; `predicted`.

    With `doubts` of each.
    """

    def one(shared: Any, entry: Entry) -> dict[str, jax.Array]:
        classifier, normalisation, stream = shared
        image = augment.normalise(entry.image, *normalisation)
        outputs = classifier(image)
        predicted = outputs.argmax()
        c = predicted if entry.label is None else entry.label
        key = entry.key if stream is None else jax.random.fold_in(entry.key, stream)
        maps = draw(protocol, classifier, image, c, entry.mask, key).native
        return {
            "maps": maps,
            "predicted": predicted,
            **doubts(protocol, classifier, image, outputs, c),
        }

    return each(one, (classifier, normalisation, stream), entries)
