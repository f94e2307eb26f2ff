"""Segments of the image as players of a game: what is shown of them, and what they earn.

A coalition is a set of segments; its value is the logit y_c of the image whose other segments show
`baseline`. Every method gives each segment one number in logits, and each pixel that of its
segment: [H, W] float32, signed. Segments are a grid of `segments` x `segments` cells, or an array
[H, W] of their numbers from 0, such as superpixels.

One forward pass per coalition, `chunk` of them at a time.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.sparse.linalg import cg

from kdxai.errors import UserError
from kdxai.explain.classifier import Classifier, Target, one_image, target_score
from kdxai.explain.maps import spread_nan


def kernel_shap(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    key: jax.Array | None = None,
    segments: jax.Array | int = 4,
    samples: int = 512,
    baseline: jax.Array | float = 0.0,
    chunk: int = 32,
) -> jax.Array:
    """KernelSHAP: the Shapley values of the segments, by weighted least squares.

    Lundberg and Lee 2017, "A Unified Approach to Interpreting Model Predictions", Theorem 2: phi
    minimises the sum over coalitions z of n players of

        (n - 1) / (C(n, |z|) |z| (n - |z|)) (v(z) - v(0) - phi . z)^2

    among those that sum to v(1) - v(0), which is solved for with a multiplier. Where `samples` are
    at least the 2^n - 2 coalitions, all are taken and the values are exact; otherwise coalitions
    are drawn by their weights, each with its complement (Covert and Lee 2021, "Improving
    KernelSHAP"). `key=None` is `jax.random.key(0)`.

    Raises:
      UserError: there are fewer than two segments, or they do not fit the image.
    """
    image = one_image(image)
    require_segments(segments=segments, samples=samples)
    places, count = number_segments(segments, image.shape[:2])
    shown, weights = shap_coalitions(key, count, samples)
    value = game(classifier, image, class_index, places, baseline)
    values = jax.lax.map(value, shown, batch_size=chunk)
    empty, whole = value(jnp.zeros(count)), value(jnp.ones(count))
    gram = _matmul(shown.T * weights, shown)
    toward = _matmul(shown.T * weights, values - empty)
    # phi = G^-1 (t - m 1), the multiplier m such that phi sums to v(1) - v(0).
    free, ones = _solve(gram, toward), _solve(gram, jnp.ones(count))
    return (free + ones * (whole - empty - free.sum()) / ones.sum())[places]


def lime(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    key: jax.Array | None = None,
    segments: jax.Array | int = 4,
    samples: int = 512,
    width: float = 0.25,
    ridge: float = 1.0,
    baseline: jax.Array | float = 0.0,
    chunk: int = 32,
) -> jax.Array:
    """LIME: the weights of a linear model of what the segments do, fitted around the image.

    Ribeiro et al. 2016, "Why Should I Trust You?", with the authors' choices for images: each
    segment is shown with probability 1/2, coalitions count by exp(-d^2 / (2 width^2)) with d their
    cosine distance to the whole image, and the fit is a ridge regression with a free intercept. Of
    the logit, where theirs is of the probability. `key=None` is `jax.random.key(0)`.

    Raises:
      UserError: as `kernel_shap`.
    """
    image = one_image(image)
    require_segments(segments=segments, samples=samples)
    places, count = number_segments(segments, image.shape[:2])
    key = jax.random.key(0) if key is None else key
    shown = jax.random.bernoulli(key, 0.5, (samples, count)).astype(jnp.float32)
    value = game(classifier, image, class_index, places, baseline)
    values = jax.lax.map(value, shown, batch_size=chunk)
    distance = 1 - jnp.sqrt(shown.mean(1))
    weights = jnp.exp(-(distance**2) / (2 * width**2))
    mean, middle = (_matmul(weights, part) / weights.sum() for part in (shown, values))
    centred = shown - mean
    gram = _matmul(centred.T * weights, centred) + ridge * jnp.eye(count)
    return _solve(gram, _matmul(centred.T * weights, values - middle))[places]


def require_segments(*, segments: jax.Array | int, samples: int, **_: Any) -> None:
    """Check the options of KernelSHAP and LIME.

    Raises:
      UserError: there is only one segment, or no pair of coalitions.
    """
    if samples < 2:
        raise UserError(f"kernel_shap and lime need at least 2 samples, not {samples}.")
    if np.ndim(segments) == 0 and segments < 2:
        raise UserError(
            f"segments is 2 or more cells a side, not {segments}: what a single segment does, the "
            "whole image does."
        )


def number_segments(segments: jax.Array | int, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """[H, W] the segment of each pixel, and how many there are.

    Raises:
      UserError: there are fewer than two, more than pixels, or they do not fit the image.
    """
    if np.ndim(segments) == 0:
        if segments > min(shape):
            raise UserError(
                f"an image of {shape[0]}x{shape[1]} pixels has no {segments} cells a side; ask for "
                "fewer segments"
            )
        cells = int(segments)
        rows, columns = (np.arange(side) * cells // side for side in shape)
        return rows[:, None] * cells + columns, cells**2
    places = np.asarray(segments)
    count = int(places.max()) + 1 if places.size else 0
    if places.shape != shape or len(np.unique(places)) != count or places.dtype.kind not in "iu":
        raise UserError(
            f"segments must be whole numbers {list(shape)} from 0, one for each pixel and none "
            f"left out, but are {places.dtype} {list(places.shape)}"
        )
    if count < 2:
        raise UserError("all pixels are of one segment; give at least two")
    return places, count


def shap_coalitions(key: jax.Array | None, count: int, samples: int) -> tuple[jax.Array, jax.Array]:
    """Coalitions [N, n] of 0 and 1, neither empty nor whole, and how much each counts [N]."""
    sizes = np.arange(1, count)
    if count <= math.log2(samples + 2):
        every = (np.arange(1, 2**count - 1)[:, None] >> np.arange(count)) & 1
        total = np.array([math.comb(count, size) * size * (count - size) for size in sizes])
        return jnp.float32(every), jnp.float32((count - 1) / total[every.sum(1) - 1])
    key = jax.random.key(0) if key is None else key
    size_key, order_key = jax.random.split(key)
    half = samples // 2
    # All coalitions of a size together weigh (n - 1) / (size (n - size)).
    chance = jnp.log(jnp.float32(1 / (sizes * (count - sizes))))
    drawn = 1 + jax.random.categorical(size_key, chance, shape=(half,))
    ranks = jax.random.uniform(order_key, (half, count)).argsort(1).argsort(1)
    shown = (ranks < drawn[:, None]).astype(jnp.float32)
    return jnp.concatenate([shown, 1 - shown]), jnp.ones(2 * half)


def game(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    places: np.ndarray,
    baseline: jax.Array | float,
) -> Callable[[jax.Array], jax.Array]:
    """The value of a coalition [n] of 0 and 1."""
    hidden = jnp.asarray(baseline, image.dtype)

    def value(shown: jax.Array) -> jax.Array:
        mixed = jnp.where(shown[places][..., None] > 0, image, hidden)
        return target_score(classifier(mixed), class_index)

    return value


def _matmul(one: jax.Array, other: jax.Array) -> jax.Array:
    return jnp.matmul(one, other, precision="highest")


def _solve(gram: jax.Array, toward: jax.Array) -> jax.Array:
    """x of gram x = toward, by conjugate gradients: no LAPACK in a compiled batch."""
    found = cg(lambda x: _matmul(gram, x), toward, tol=1e-7, maxiter=4 * len(toward))[0]
    return spread_nan(toward, found)  # it ends at once where nothing compares
