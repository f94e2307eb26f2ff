"""Losses of how the images of a batch relate to each other: of the global batch, on every device.

Each device has the losses of its own images, and compares them with those of all devices.
"""

import jax
import jax.numpy as jnp

from kdxai.devices import AXIS
from kdxai.training.objectives.grids import unit_vectors

ANGLES = 2.0  # weight of the angles beside the distances, in all of the paper's experiments


def pairwise_similarity(own: jax.Array, its: jax.Array) -> jax.Array:
    """mean_j (G_s / |G_s| - G_t / |G_t|)_ij^2 -> [b], with G_ij = A_i . A_j, normalised row by row.

    Tung and Mori 2019, "Similarity-Preserving Knowledge Distillation", L_SP: their mean over i is
    1 / B^2 |G_t - G_s|_F^2. A_i is the whole feature map of image i as a vector, so the grids
    may differ.

    Args:
      own, its: [b, h, w, c] maps of student and teacher.
    """
    flat = (maps.reshape(len(maps), -1) for maps in (own, its))
    own, its = (unit_vectors(vectors @ gathered(vectors).T) for vectors in flat)
    return ((own - its) ** 2).mean(-1)


def relations(own: jax.Array, its: jax.Array) -> jax.Array:
    """mean_j l(d_s - d_t) + 2 mean_jk l(cos_s - cos_t) -> [b], with l Huber's loss.

    Park et al. 2019, "Relational Knowledge Distillation", L_RKD-D and L_RKD-A: d_ij = |f_i - f_j|
    over its mean in the batch, cos_jik the cosine of the angle at f_i between f_j and f_k, f the
    pooled features. The means are over all pairs and triples, as in the authors' code; those with
    one image twice are alike in both networks.

    Args:
      own, its: [b, h, w, c] maps of student and teacher.
    """
    (distance, cosine), (its_distance, its_cosine) = (
        distances_and_cosines(maps.mean((1, 2))) for maps in (own, its)
    )
    apart = huber(distance - its_distance).mean(-1)
    return apart + ANGLES * huber(cosine - its_cosine).mean((1, 2))


def distances_and_cosines(features: jax.Array) -> tuple[jax.Array, jax.Array]:
    """[b, d] of one device -> [b, B] distances over their mean, [b, B, B] cosines at its images."""
    difference = gathered(features)[None] - features[:, None]
    square = (difference**2).sum(-1)
    apart = square > 0  # of an image and itself the root has no derivative
    distance = jnp.where(apart, jnp.sqrt(jnp.where(apart, square, 1)), 0)
    pairs = distance.shape[1] * (distance.shape[1] - 1)
    mean = jax.lax.psum(distance.sum(), AXIS) / max(pairs, 1)
    direction = unit_vectors(difference)
    cosine = jnp.einsum("bjd,bkd->bjk", direction, direction)
    return distance / jnp.where(mean > 0, mean, 1), cosine


def huber(error: jax.Array) -> jax.Array:
    """e^2 / 2 up to 1, |e| - 1 / 2 from there."""
    size = jnp.abs(error)
    return jnp.where(size <= 1, error**2 / 2, size - 0.5)


def gathered(values: jax.Array) -> jax.Array:
    """[b, ...] on each device -> [B, ...], those of all; gradients go back to where they are."""
    return jax.lax.all_gather(values, AXIS, tiled=True)
