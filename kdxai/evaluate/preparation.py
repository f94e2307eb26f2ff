"""What measures need before rows: other classifiers, other images."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from numpy.typing import ArrayLike

from kdxai import inputs, measures
from kdxai.classifiers import as_classifier, everywhere, own_part
from kdxai.errors import UserError
from kdxai.evaluate.admission import (
    Admitted,
    admit,
    are_probabilities,
    logits_of,
    require_logits,
)
from kdxai.evaluate.chunks import chunk_size, chunks, computing, stack
from kdxai.explain import Classifier
from kdxai.measures import MEASURES
from kdxai.measures.grid import choose_partners, require_mosaics
from kdxai.protocol import Protocol


def prepare(
    model: measures.Model,
    images: Any,
    labels: np.ndarray,
    protocol: Protocol,
    extra: Sequence[str],
    *,
    chosen: np.ndarray | None = None,
    chunk: int | None = None,
    name: str = "model",
) -> dict[str, Any]:
    """What measures need beside the images, for `evaluate(..., prepared=)`.

    Args:
      images, labels: [N, H, W, C] uint8 and [N], a whole split.
      extra: names of measures.
      chosen: [n] indices of the images that are to be measured, by default all.
      chunk, name: as for `evaluate`.

    Returns:
      Name of a measure -> what it needs, for each that needs something; without those that
      `measures.lacking` names.

    Raises:
      UserError: no such measure, or the images do not suffice for one.
    """
    measures.require_known(extra)
    classifier = as_classifier(model, protocol)

    def logits() -> np.ndarray:
        with computing(chunk):
            given = admit(classifier, images, protocol, model.mean, model.std)
            return every_logit(given, protocol, chunk, name)

    chosen = np.arange(len(labels)) if chosen is None else chosen
    source = measures.Ingredients(model, protocol, images, labels, chosen, logits)
    lacking = measures.lacking(model, extra)
    needed = {one: MEASURES[one].preparation for one in extra if one not in lacking}
    return {one: preparation.make(source) for one, preparation in needed.items() if preparation}


def mosaic_partners(
    classifier: Classifier,
    images: Any,
    labels: np.ndarray,
    protocol: Protocol,
    *,
    mean: ArrayLike,
    std: ArrayLike,
    chunk: int | None = None,
    name: str = "model",
) -> np.ndarray:
    """With which images each image stands in a mosaic, for the measure `grid`.

    `images[partners]` is what `evaluate` is given as `prepared={"grid": ...}`.

    Args:
      images, labels: [N, H, W, C] uint8 and [N], a whole split; see `grid.choose_partners`.
      mean, std, chunk, name: as for `evaluate`.

    Returns:
      [N, 3] indices of images.

    Raises:
      UserError: fewer than four classes have two images, or as `evaluate`.
    """
    with computing(chunk):
        given = admit(classifier, images, protocol, mean, std)
        labels = inputs.labels(labels, len(given.images), given.classes)
        require_mosaics(labels)
        logits = every_logit(given, protocol, chunk, name)
    return choose_partners(logits, labels, protocol.target)


def every_logit(given: Admitted, protocol: Protocol, chunk: int | None, name: str) -> np.ndarray:
    """[N, K] of all images.

    Raises:
      UserError: they are probabilities.
    """
    size = len(given.images)
    chunk = chunk or chunk_size(protocol, (), given.images.shape[1:3])
    rows = (
        {"logits": logits_of(given.classifier, given.images[part], given.normalisation)}
        for part in chunks(size, chunk, f"{name} logits")
    )
    logits = stack(rows, size)["logits"]
    require_logits({"probabilities": are_probabilities(logits)}, name)
    return logits


def is_classifier(part: Any) -> bool:
    return isinstance(part, Classifier)


def admit_prepared(
    prepared: dict[str, Any], extra: Sequence[str], given: Admitted
) -> dict[str, Any]:
    """What the measures asked for have prepared, checked, its classifiers on every device.

    Raises:
      UserError: a measure lacks what it needs; further images are not uint8, one for each image.
    """
    shape = given.images.shape

    def check(measure: str, part: Any) -> Any:
        if is_classifier(part):
            return everywhere(part._replace(background=given.classifier.background), shape[1:])
        part = np.asarray(part)
        if part.dtype != np.uint8 or part.shape[:1] + part.shape[-3:] != shape:
            raise UserError(
                f"what is prepared for '{measure}' must be uint8 images [{shape[0]}, ..., "
                f"{', '.join(map(str, shape[1:]))}], but is {part.dtype} {list(part.shape)}"
            )
        return part

    found = {}
    for measure in extra:
        preparation = MEASURES[measure].preparation
        if preparation is None:
            continue
        if prepared.get(measure) is None:
            raise UserError(f"the measure '{measure}' needs {preparation.what}")
        found[measure] = jax.tree.map(
            partial(check, measure), prepared[measure], is_leaf=is_classifier
        )
    return found


def require_logits_of_all(
    prepared: dict[str, Any], images: np.ndarray, given: Admitted, name: str
) -> None:
    """Check that all prepared classifiers return logits.

    Raises:
      UserError: a prepared classifier that is none of kdxai's own gives probabilities.
    """
    for part in jax.tree.leaves(prepared, is_leaf=is_classifier):
        if is_classifier(part) and own_part(part) is None:
            outputs = np.asarray(logits_of(part, images, given.normalisation))
            require_logits({"probabilities": are_probabilities(outputs)}, name)
