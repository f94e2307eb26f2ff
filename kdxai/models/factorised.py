"""A layer in two, with few channels between them."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from flax import linen as nn


class Conv(nn.Module):
    """Two convolutions in place of one (Zhang et al. 2015, "Accelerating Very Deep Convolutional
    Networks for Classification and Detection", section 2.1).

    Attributes:
      conv: makes either, as `Layers.conv` does.
      features: c_out.
      rank: the channels between them as a share of the largest rank of the one's weights, which is
        the smaller of c_out and c_in times the pixels of the window.
      options: of the one; its bias is the second's.
    """

    conv: Callable[..., nn.Module]
    features: int
    window: tuple[int, int]
    stride: int
    rank: float
    options: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        largest = min(self.features, math.prod(self.window) * x.shape[-1])
        between = max(1, round(self.rank * largest))
        options = {**self.options, "use_bias": False}
        x = self.conv(between, self.window, self.stride, name="first", **options)(x)
        biases = self.options.get("use_bias", False)
        return self.conv(self.features, (1, 1), padding=0, use_bias=biases, name="second")(x)


class Dense(nn.Module):
    """Two dense layers in place of one, as `Conv`; `dense` makes either, as `Layers.dense` does."""

    dense: Callable[..., nn.Module]
    features: int
    rank: float
    options: Mapping[str, Any]

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        between = max(1, round(self.rank * min(self.features, x.shape[-1])))
        x = self.dense(between, name="first", **{**self.options, "use_bias": False})(x)
        return self.dense(self.features, name="second", **self.options)(x)
