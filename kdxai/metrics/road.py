"""ROAD, remove and debias: removed pixels become what their surroundings predict.

Rong et al. 2022, "A Consistent and Efficient Evaluation Strategy for Attribution Methods". A
constant baseline leaves the *shape* of what was removed in the image, and a model can read it;
noisy linear imputation hides most of it. The curves and their areas are those of
`kdxai.metrics.perturbation`: its deletion is "most relevant first", its insertion, read from the
end, "least relevant first".
"""

import jax
import jax.numpy as jnp
from jax.scipy.sparse.linalg import cg

from kdxai.metrics.arrays import one_image
from kdxai.metrics.perturbation import Curves, Fill


def gain(curves: Curves) -> jax.Array:
    """Mean over the inner points of insertion - deletion: what ARCC takes of ROAD, in [-1, 1].

    Domeniconi et al. 2026 remove 20, 40, 60 and 80 % of the pixels, least and most relevant first:
    curves of 5 steps. It is twice the `ROADCombined` of the library grad-cam, but for ties: those
    go by `perturbation.ranks`, where grad-cam removes all pixels that reach a threshold. 0 in
    expectation for a random map, and so for a constant one; higher is better.
    """
    return curves.insertion[1:-1].mean() - curves.deletion[1:-1].mean()


def fill(image: jax.Array, key: jax.Array, noise: jax.Array | float = 0.01) -> Fill:
    """Removed pixels of `image` [H, W, C] become `impute` plus Gaussian noise.

    `noise` is a standard deviation in the image's units, one for all or one per channel; Rong et
    al. take 0.01 for images in [0, 1]. Every point of a curve sees the same noise.
    """
    image = one_image(image)
    grain = noise * jax.random.normal(key, image.shape, image.dtype)
    return lambda removed: impute(image, removed) + jnp.where(removed[..., None], grain, 0.0)


def impute(image: jax.Array, removed: jax.Array) -> jax.Array:
    """Every removed pixel becomes the weighted mean of its neighbours, all at once.

    Weights are 1/6 for the four direct and 1/12 for the four diagonal neighbours, renormalised at
    the border: x_i sum_j w_ij = sum_j w_ij x_j over the neighbours inside the image, a sparse
    linear system in the removed pixels, each channel its own. It is symmetric positive definite as
    long as one pixel is left, so conjugate gradients solve it on the device.

    Args:
      image: [H, W, C].
      removed: [H, W] bool. Where all are removed, all become the image's mean colour.
    """
    image, removed = one_image(image), removed[..., None]
    # Deviations from the mean colour: exact zeros, not rounding, where nothing is left to solve.
    centre = image.mean(axis=(0, 1))
    known = jnp.where(removed, 0.0, image - centre)
    weights = _neighbours(jnp.ones_like(image))

    def system(x: jax.Array) -> jax.Array:
        return jnp.where(removed, weights * x - _neighbours(x), 0.0)

    rhs = jnp.where(removed, _neighbours(known), 0.0)
    # Information crosses one pixel per iteration; the bound serves the whole image removed but one.
    solution, _ = cg(system, rhs, tol=1e-6, maxiter=8 * max(image.shape[:2]))
    return jnp.where(removed, solution + centre, image)


def _neighbours(x: jax.Array) -> jax.Array:
    """[H, W, C] -> weighted sum of the eight neighbours; zero outside the image."""
    x = jnp.pad(x, ((1, 1), (1, 1), (0, 0)))
    direct = x[:-2, 1:-1] + x[2:, 1:-1] + x[1:-1, :-2] + x[1:-1, 2:]
    diagonal = x[:-2, :-2] + x[:-2, 2:] + x[2:, :-2] + x[2:, 2:]
    return direct / 6 + diagonal / 12
