"""Contributions in expectation: from images that stand for the data to the one explained.

Both methods map one image [H, W, C] to a signed [H, W] float32 map in logits, summed over channels.
They start from `Classifier.background`, so no single colour stands for what is absent.
"""

import jax
import jax.numpy as jnp

from kdxai.errors import UserError
from kdxai.explain.classifier import Classifier, Target, one_image
from kdxai.explain.gradients import contribution, gradients_at, noisy_copies


def expected_gradients(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    key: jax.Array | None = None,
    samples: int = 64,
    chunk: int = 16,
) -> jax.Array:
    """Expected Gradients: the mean of (x - x') dy_c/dx at x' + t (x - x'), over x' and t.

    Erion et al. 2021, "Improving performance of deep learning models with axiomatic attribution
    priors and expected gradients": Integrated Gradients averaged over the baselines x' of the
    background, both integrals by `samples` samples. In expectation the map sums to
    y_c(x) - mean y_c(x'). `key=None` is `jax.random.key(0)`: every image then gets the same draws,
    unless the caller folds in its index.

    Raises:
      UserError: the classifier has no `background`, or one of other images.
    """
    return gradient_shap(
        classifier, image, class_index, key=key, samples=samples, noise=0.0, chunk=chunk
    )


def gradient_shap(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    key: jax.Array | None = None,
    samples: int = 64,
    noise: float = 0.15,
    chunk: int = 16,
) -> jax.Array:
    """GradientSHAP: Expected Gradients of noisy copies of the image.

    Lundberg's `shap.GradientExplainer` (with local smoothing) and captum's GradientShap. The noise
    is Gaussian, its standard deviation `noise` times the range max(x) - min(x) of the image.

    Raises:
      UserError: as `expected_gradients`.
    """
    key = jax.random.key(0) if key is None else key
    image = one_image(image)
    background = _background(classifier, image).astype(image.dtype)
    noise_key, *keys = jax.random.split(key, 4)
    places, times = draws(keys, len(background), samples)
    return contribution(
        along_paths(
            classifier,
            noisy_copies(image, noise_key, samples, noise),
            background[places],
            times.astype(image.dtype),
            class_index,
            chunk,
        )
    )


def draws(keys: list[jax.Array], size: int, samples: int) -> tuple[jax.Array, jax.Array]:
    """[samples] places in a background of `size` images, and times in [0, 1].

    Every place is as likely and every time as dense as if all were drawn on their own, but no image
    comes twice before all came once, and one time falls into each of `samples` equal parts.
    """
    order, shuffle, within = keys
    places = jax.random.permutation(order, size)[jnp.arange(samples) % size]
    parts = jax.random.permutation(shuffle, samples)
    return places, (parts + jax.random.uniform(within, (samples,))) / samples


def along_paths(
    classifier: Classifier,
    images: jax.Array,
    starts: jax.Array,
    times: jax.Array,
    class_index: Target,
    chunk: int,
) -> jax.Array:
    """[H, W, C]: the mean over n of (x - x') dy_c/dx(x' + t (x - x')).

    Args:
      images, starts: [n, H, W, C] x and x'.
      times: [n] t.
    """
    changes = images - starts
    points = starts + times[:, None, None, None] * changes
    return (changes * gradients_at(classifier, points, class_index, chunk)).mean(0)


def _background(classifier: Classifier, image: jax.Array) -> jax.Array:
    """[n, H, W, C]; of a mosaic, such as the measure `grid` explains, mosaics of each.

    Raises:
      UserError: there is none, or it is of other images.
    """
    if classifier.background is None:
        raise UserError(
            "Expected Gradients and GradientSHAP need images that stand for the data: pass some "
            "[n, H, W, C], normalised, as Classifier(background=...)."
        )
    background = jnp.asarray(classifier.background)
    height, width = background.shape[1:3] if background.size and background.ndim == 4 else (0, 0)
    rows, columns = (
        side // max(own, 1) for side, own in zip(image.shape[:2], (height, width), strict=True)
    )
    if (rows * height, columns * width, *background.shape[3:]) != image.shape:
        raise UserError(
            f"Classifier.background must be [n, H, W, C] images like the one explained, "
            f"{list(image.shape)}, but is {list(background.shape)}."
        )
    return jnp.tile(background, (1, rows, columns, 1))
