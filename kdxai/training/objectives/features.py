"""Losses of feature maps, image by image: FitNet's hints, attention transfer."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdxai.training.objectives.grids import pooled, resized, smaller, unit_vectors
from kdxai.training.objectives.objective import Outputs


def hints(student: Outputs, teacher: Outputs) -> jax.Array:
    """mean_hwc (r(A_s) - A_t)^2 -> [B]: the student's maps, regressed, are the teacher's.

    Romero et al. 2015, "FitNets: Hints for Thin Deep Nets", with r a 1x1 convolution whose
    parameters are trained with the student. The paper has half the sum and trains so ahead of
    distillation; here, as in the libraries that came after, it is one term from the first step.
    Of two grids the larger is average-pooled to the smaller. Stages add up. The libraries' weight
    of 100 is for learning rates of up to 0.1; the recipe `airbench` diverges with it, not with 10.
    """
    total = jnp.zeros(())
    for stage, other in zip(student.taps, teacher.taps, strict=True):
        own, its, layer = student.taps[stage], teacher.taps[other], student.regressor[stage]
        grid = smaller(own, its)
        guess = pooled(own, grid) @ layer["kernel"] + layer["bias"]
        total += ((guess - pooled(its, grid)) ** 2).mean((1, 2, 3))
    return total


def regressor(
    key: jax.Array, channels: Mapping[str, int], teacher_channels: Mapping[str, int]
) -> dict[str, Any]:
    """Fresh 1x1 convolutions for `hints`, one for each of the student's stages."""
    kernel, layers = nn.initializers.lecun_normal(), {}
    for stage, wanted in zip(channels, teacher_channels.values(), strict=True):
        key, own = jax.random.split(key)
        layers[stage] = {
            "kernel": kernel(own, (channels[stage], wanted)),
            "bias": jnp.zeros(wanted),
        }
    return layers


def attention(own: jax.Array, its: jax.Array) -> jax.Array:
    """mean_hw (Q_s / |Q_s| - Q_t / |Q_t|)^2 -> [B], with Q = sum_c A_c^2 the attention map.

    Zagoruyko and Komodakis 2017, "Paying More Attention to Attention", with p = 2. The square
    and the mean over positions are those of the authors' code, for which the weight is 1000. Of two
    grids the larger map is interpolated to the smaller.

    Args:
      own, its: [B, h, w, c] maps A of student and teacher.
    """
    grid = smaller(own, its)
    own, its = (
        unit_vectors(resized((maps**2).sum(-1), grid).reshape(len(maps), -1)) for maps in (own, its)
    )
    return ((own - its) ** 2).mean(-1)
