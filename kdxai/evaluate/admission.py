"""What is let in: images, a normalisation, and a classifier whose outputs are logits."""

import warnings
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from kdxai import inputs, measures
from kdxai.classifiers import everywhere, own_part, require_obeyed
from kdxai.data import augment
from kdxai.errors import UserError
from kdxai.evaluate.chunks import each
from kdxai.explain import Classifier
from kdxai.explain.classifier import grid
from kdxai.metrics import faithfulness
from kdxai.protocol import Protocol


class Admitted(NamedTuple):
    """Images and a classifier of them, checked.

    Attributes:
      images: [N, H, W, C] uint8.
      classifier: a pytree, on every device.
      mean, std: [C] of the normalisation.
    """

    images: Any
    classifier: Classifier
    mean: np.ndarray
    std: np.ndarray

    @property
    def normalisation(self) -> tuple[np.ndarray, np.ndarray]:
        return self.mean, self.std

    @property
    def classes(self) -> int:
        """K of the classifier."""
        return count_classes(self.classifier, self.images)


def admit(
    classifier: Classifier,
    images: Any,
    protocol: Protocol,
    mean: ArrayLike,
    std: ArrayLike,
    tiles: Iterable[tuple[int, int]] = (),
) -> Admitted:
    """Check all that is handed in, and bring the classifier to every device.

    Args:
      tiles: how many times as high and wide the images are that it explains beside these.

    Raises:
      UserError: as `inputs`, `as_pytree` and `require_obeyed`.
    """
    images = inputs.images(images)
    height, width, channels = images.shape[1:]
    mean, std = inputs.normalisation(mean, std, channels)
    require_obeyed(classifier, protocol)
    if not measures.ssim_fits((height, width)):
        warnings.warn(
            f"images of {height}x{width} pixels are smaller than SSIM's window, 11x11: its "
            "columns are left out",
            stacklevel=3,
        )
    sizes = dict.fromkeys([(1, 1), *tiles])
    shapes = [(rows * height, columns * width, channels) for rows, columns in sizes]
    return Admitted(images, everywhere(classifier, *shapes), mean, std)


def count_classes(classifier: Classifier, images: Any) -> int:
    """K of a classifier of such images."""
    image = jax.ShapeDtypeStruct(images.shape[1:], jnp.float32)
    return jax.eval_shape(lambda image: classifier(image), image).shape[0]


@jax.jit
def logits_of(
    classifier: Classifier, images: jax.Array, normalisation: tuple[ArrayLike, ArrayLike]
) -> jax.Array:
    """[N, H, W, C] uint8 -> [N, K]."""

    def one(shared: Any, image: jax.Array) -> jax.Array:
        classifier, normalisation = shared
        return classifier(augment.normalise(image, *normalisation))

    return each(one, (classifier, normalisation), images)


def are_probabilities(outputs: Any) -> Any:
    """[..., K] -> [...], whether they could be: none is negative and they sum to 1."""
    return (outputs >= 0).all(-1) & (abs(outputs.sum(-1) - 1) < 1e-3)


def doubts(
    protocol: Protocol, classifier: Classifier, image: jax.Array, outputs: jax.Array, c: jax.Array
) -> dict[str, jax.Array]:
    """What `require_logits` is to judge: each [], of one image and the class explained.

    `probabilities`, whether the outputs could be those; `head`, the cosine between CAM's weights
    for the class and what `classify` makes of each channel's mean, 1 where it fits. Both less the
    mean of all classes, so that a log-softmax at the end changes nothing.
    """
    found = {"probabilities": are_probabilities(outputs)}
    if protocol.method == "cam" and classifier.head is not None and not own_part(classifier):
        features = classifier.features(image)
        centred = lambda f: faithfulness.centred_logit(classifier.classify(f), c)  # noqa: E731
        effect = grid(classifier, jax.grad(centred)(features)).sum((0, 1))
        weights = classifier.head[:, c] - classifier.head.mean(1)
        norms = jnp.linalg.norm(effect) * jnp.linalg.norm(weights)
        found["head"] = jnp.where(norms > 0, effect @ weights / jnp.where(norms > 0, norms, 1), 1)
    return found


def require_logits(columns: dict[str, np.ndarray], name: str) -> None:
    """Take `doubts` out of the columns of some images.

    Raises:
      UserError: all outputs are probabilities, or CAM's head is another one than the model's.
    """
    if columns.pop("probabilities").all():
        raise UserError(
            f"{name}: the outputs are >= 0 and sum to 1 for every image, as probabilities are; "
            "return logits, the values before the softmax"
        )
    if columns.pop("head", np.ones(1)).min() < 0.99:
        raise UserError(
            f"{name}: head is not what classify applies to the pooled features; it is [c, K], "
            "where some libraries keep [K, c]"
        )
