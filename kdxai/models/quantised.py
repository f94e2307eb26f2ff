"""Layers that compute with few levels, and whose gradient is that of rounding nothing."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from kdxai.models.convolution import NHWC


class Conv(nn.Conv):
    """`nn.Conv` on rounded weights and, where `activation_bits` is set, on rounded inputs.

    The grids are symmetric: one for each output channel of the weights, whose last level is the
    largest of them, and one for the input, from -`range` to `range` of the collection
    `batch_stats`, as `compress.quantise` calibrates it. The variables are otherwise those of
    `nn.Conv`; weights may lie between the levels, as they do while a network is trained.

    The gradient is straight through (Bengio et al. 2013): rounding counts as the identity, and an
    input beyond the range has none.
    """

    weight_bits: int = 8
    activation_bits: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        assert isinstance(self.kernel_size, tuple)
        size = (*self.kernel_size, x.shape[-1] // self.feature_group_count, self.features)
        kernel = self.param("kernel", self.kernel_init, size, jnp.float32)
        x, levels, step = rounded_operands(self, x, kernel)
        # Elsewhere the same whole numbers are multiplied as floats: over integers a CPU takes four
        # times as long, and CUDA's convolutions of them do not return int32.
        integers = self.activation_bits is not None and jax.default_backend() == "tpu"
        options = self.strides, self.padding, self.feature_group_count
        y = convolve(x, levels, *options, integers) * step
        if self.use_bias:
            y += self.param("bias", self.bias_init, (self.features,), jnp.float32)
        return y.astype(self.dtype)


class Dense(nn.Dense):
    """`nn.Dense` on rounded weights and inputs, as `Conv`."""

    weight_bits: int = 8
    activation_bits: int | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        kernel = self.param("kernel", self.kernel_init, (x.shape[-1], self.features), jnp.float32)
        x, levels, step = rounded_operands(self, x, kernel)
        y = x @ levels * step
        if self.use_bias:
            y += self.param("bias", self.bias_init, (self.features,), jnp.float32)
        return y.astype(self.dtype)


def rounded_operands(
    layer: Conv | Dense, x: jax.Array, kernel: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """What a layer multiplies: its inputs, its weights, and the step of their products."""
    largest = jnp.abs(kernel).max(tuple(range(kernel.ndim - 1)))
    levels, step = on_levels(kernel, largest, layer.weight_bits)
    x = x.astype(jnp.float32)
    if layer.activation_bits is not None:
        limit = layer.variable("batch_stats", "range", jnp.ones, ())
        x, step_of_input = on_levels(x, limit.value, layer.activation_bits)
        step = step * step_of_input
    return x, levels, step


def on_levels(values: jax.Array, largest: jax.Array, bits: int) -> tuple[jax.Array, jax.Array]:
    """Whole numbers, at most 2^(bits - 1) - 1 in size, and the step that they count.

    Args:
      largest: the last level, for all or for each of the last axis.
    """
    last = 2 ** (bits - 1) - 1
    step = lax.stop_gradient(jnp.where(largest > 0, largest, 1) / last)
    levels = values / step
    levels += lax.stop_gradient(jnp.round(levels) - levels)
    inside = jnp.abs(levels) <= last
    return jnp.where(inside, levels, jnp.sign(lax.stop_gradient(levels)) * last), step


@partial(jax.custom_jvp, nondiff_argnums=(2, 3, 4, 5))
def convolve(
    x: jax.Array, levels: jax.Array, stride: Any, pad: int, groups: int, integers: bool
) -> jax.Array:
    """A convolution of whole numbers, in float32; exact while its sums are below 2^24.

    Args:
      integers: by the backend's arithmetic of int8, whose sums are int32.
    """
    if not integers:
        return _convolve(x, levels, stride, pad, groups)
    x, levels = x.astype(jnp.int8), levels.astype(jnp.int8)
    return _convolve(x, levels, stride, pad, groups, jnp.int32).astype(jnp.float32)


@convolve.defjvp
def _differential(stride, pad, groups, integers, values, tangents):
    (x, levels), (dx, dlevels) = values, tangents
    y = convolve(x, levels, stride, pad, groups, integers)
    change = _convolve(dx, levels, stride, pad, groups) + _convolve(x, dlevels, stride, pad, groups)
    return y, change


def _convolve(
    x: jax.Array, kernel: jax.Array, stride: Any, pad: int, groups: int, dtype: Any = None
) -> jax.Array:
    return lax.conv_general_dilated(
        x,
        kernel,
        np.broadcast_to(stride, 2).tolist(),
        ((pad, pad), (pad, pad)),
        dimension_numbers=NHWC,
        feature_group_count=groups,
        preferred_element_type=dtype,
    )
