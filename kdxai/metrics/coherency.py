"""How alike two maps of the same shape are: the same image's map before and after masking."""

from typing import Literal

import dm_pix
import jax
import jax.numpy as jnp

from kdxai.errors import UserError
from kdxai.metrics.arrays import ascending, two_maps
from kdxai.metrics.finite import where_finite
from kdxai.scaling import unit_range

# Wang et al. 2004 use an 11 x 11 Gaussian; a 7 x 7 box is skimage's default and hence common.
# The sides of SSIM's windows, and of the smallest maps that it is defined for.
WINDOW = {"gaussian": 11, "uniform": 7}
_SIGMA = {"gaussian": 1.5, "uniform": 1e6}  # so wide that float32 weights are all the same


def pearson(a: jax.Array, b: jax.Array) -> jax.Array:
    """Pearson's r over all pixels of two maps of one shape, in [-1, 1].

    0 where either map is constant: r is undefined there, and a map without a ranking agrees with
    nothing. Both are shifted and scaled to [0, 1] before the usual two passes, so that a large
    offset or a tiny range costs no float32 digits.
    """
    a, b = map(centred, two_maps(a, b))
    norms = jnp.sqrt((a * a).sum() * (b * b).sum())
    return jnp.clip((a * b).sum() / jnp.where(norms == 0, 1.0, norms), -1.0, 1.0)


def centred(values: jax.Array) -> jax.Array:
    """Scaled to [0, 1], less the mean; zeros for a constant."""
    values = unit_range(values)
    return values - values.mean()


def coherency(r: jax.Array) -> jax.Array:
    """(r + 1) / 2: Pearson's r as the coherency of Poppi et al. 2021 (ADCC), in [0, 1].

    Uncorrelated maps (r = 0) therefore score 0.5: report r beside it.
    """
    return (jnp.asarray(r, jnp.float32) + 1) / 2


def spearman(a: jax.Array, b: jax.Array) -> jax.Array:
    """Spearman's rank correlation of two maps; ties take their average rank.

    0 where either map is constant, as for `pearson`.
    """
    a, b = two_maps(a, b)
    return where_finite(pearson(average_ranks(a), average_ranks(b)), a, b)


def ssim(
    a: jax.Array,
    b: jax.Array,
    *,
    data_range: jax.Array | float = 1.0,
    window: Literal["gaussian", "uniform"] = "gaussian",
    sample_covariance: bool = False,
) -> jax.Array:
    """Mean structural similarity of two [h, w] maps, in [-1, 1] (Wang et al. 2004, equation 13).

    K1 = 0.01, K2 = 0.03; only windows that lie wholly inside the map count.

    Args:
      a, b: [h, w], at least as large as the window, else a UserError.
      data_range: the distance between the largest and smallest possible value; may be traced, such
        as `b.max() - b.min()`. Where it is zero (below float32's resolution of the maps) the
        constants that keep SSIM finite vanish: then 1 for equal maps and 0 for all others.
      window: "gaussian", 11 x 11 with sigma 1.5 as in the paper, or "uniform", 7 x 7, the default
        of scikit-image.
      sample_covariance: divide (co)variances by n - 1 as scikit-image does by default, not by n.
    """
    a, b = two_maps(a, b)
    size = WINDOW[window]
    if min(a.shape) < size:
        raise UserError(
            f"SSIM with a {window} window needs maps of at least {size}x{size} pixels, got "
            f"{'x'.join(map(str, a.shape))}: resize the maps to the image first."
        )
    k2 = 0.03
    if sample_covariance:
        # Scaling every covariance by n / (n - 1) is scaling C2 = (K2 L)^2 by (n - 1) / n.
        k2 *= (1 - 1 / size**2) ** 0.5
    data_range = jnp.asarray(data_range, jnp.float32)
    nothing = data_range <= 1e-6 * jnp.maximum(jnp.abs(a).max(), jnp.abs(b).max())
    # SSIM is free of scale; at a range of 1 its fourth powers neither overflow nor vanish.
    scale = jnp.where(nothing, 1.0, data_range)
    value = dm_pix.ssim(
        a[..., None] / scale,
        b[..., None] / scale,
        filter_size=size,
        filter_sigma=_SIGMA[window],
        k2=k2,
    )
    return jnp.where(nothing, (a == b).all().astype(jnp.float32), value)


def average_ranks(values: jax.Array) -> jax.Array:
    """Average rank of every element: half the ranks of its first and last equal."""
    ordered = ascending(values)
    first = jnp.searchsorted(ordered, values, side="left")
    last = jnp.searchsorted(ordered, values, side="right")
    return (first + last + 1).astype(jnp.float32) / 2
