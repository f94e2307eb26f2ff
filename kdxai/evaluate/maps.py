"""The maps of many images, as they are drawn: on the method's own grid, in [0, 1]."""

from functools import partial
from typing import Any, NamedTuple

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


class Shown(NamedTuple):
    """What a model shows of N images.

    Attributes:
      maps: [N, h, w] float32 in [0, 1], on the method's own grid.
      predicted: [N] the class that the model predicts.
    """

    maps: Any
    predicted: Any

    def take(self, part: np.ndarray) -> "Shown":
        """What it shows of some of them."""
        return Shown(self.maps[part], self.predicted[part])


def draw_maps(
    classifier: Classifier,
    images: Any,
    classes: np.ndarray,
    protocol: Protocol,
    *,
    mean: ArrayLike,
    std: ArrayLike,
    **options: Any,
) -> np.ndarray:
    """The map of one class for every image, drawn on all devices of the host.

    Args:
      images: [N, H, W, C] uint8.
      classes: [N] to be explained, whatever the protocol's target.
      mean, std: as for `evaluate`.
      options: of `show`.

    Returns:
      [N, h, w] float32 in [0, 1], on the method's own grid.

    Raises:
      UserError: as `evaluate`, or a map is not finite.
    """
    return show(
        classifier, images, protocol, mean=mean, std=std, classes=np.asarray(classes), **options
    ).maps


def show(
    classifier: Classifier,
    images: Any,
    protocol: Protocol,
    *,
    mean: ArrayLike,
    std: ArrayLike,
    classes: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    ids: np.ndarray | None = None,
    stream: int | None = None,
    chunk: int | None = None,
    name: str = "model",
) -> Shown:
    """The map and the prediction of every image.

    Args:
      images, mean, std, masks, ids, chunk, name: as for `evaluate`.
      classes: [N] to be explained, whatever the protocol's target; None for those predicted.
      stream: 0 or more, of random numbers of the classifier's own: two random maps of one image
        then agree by chance alone. None for those of `evaluate`.

    Raises:
      UserError: as `evaluate`, or a map is not finite.
    """
    with computing(chunk):
        given = admit(classifier, images, protocol, mean, std)
        entries = entries_of(given, classes, masks, ids)
        size = len(entries.image)
        chunk = chunk or chunk_size(protocol, (), given.images.shape[1:3])
        parts = chunks(size, chunk, name)
        rows = (show_chunk(given, entries.take(part), protocol, stream, name) for part in parts)
        return Shown(**stack((one._asdict() for one in rows), size))


def entries_of(
    given: Admitted,
    classes: np.ndarray | None,
    masks: np.ndarray | None,
    ids: np.ndarray | None = None,
) -> Entry:
    """What is known of admitted images.

    Raises:
      UserError: classes, masks or ids are not those of such images.
    """
    images, size = given.images, len(given.images)
    return Entry(
        number=np.arange(size) if ids is None else inputs.ids(ids, size),
        image=images,
        label=None if classes is None else inputs.labels(classes, size, given.classes),
        mask=None if masks is None else inputs.masks(masks, images.shape[:3]),
    )


def show_chunk(
    given: Admitted, some: Entry, protocol: Protocol, stream: int | None, name: str
) -> Shown:
    """What a model shows of some entries, on the host.

    Raises:
      UserError: the outputs are no logits, or a map is not finite.
    """
    found = native_maps(given.classifier, some, given.normalisation, protocol, stream)
    one, judged = jax.device_get(found)
    require_logits(judged, name)
    require_finite(f"{name}: the map", one.maps)
    return one


@partial(jax.jit, static_argnames="protocol")
def native_maps(
    classifier: Classifier,
    entries: Entry,
    normalisation: tuple[ArrayLike, ArrayLike],
    protocol: Protocol,
    stream: Any,
) -> tuple[Shown, dict[str, jax.Array]]:
    """Maps for the class `label`, or the predicted one where it is None; and `doubts` of each."""

    def one(shared: Any, entry: Entry) -> tuple[Shown, dict[str, jax.Array]]:
        classifier, normalisation, stream = shared
        image = augment.normalise(entry.image, *normalisation)
        outputs = classifier(image)
        predicted = outputs.argmax()
        c = predicted if entry.label is None else entry.label
        key = entry.key if stream is None else jax.random.fold_in(entry.key, stream)
        maps = draw(protocol, classifier, image, c, entry.mask, key).native
        return Shown(maps, predicted), doubts(protocol, classifier, image, outputs, c)

    return each(one, (classifier, normalisation, stream), entries)
