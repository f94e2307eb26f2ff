"""Convolutions that are fast on a CPU, or whose gradients are."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

Padding = tuple[tuple[int, int], ...]
FEWEST = 40  # images of which a part of a gradient by the kernel is taken, at least
NHWC = ("NHWC", "HWIO", "NHWC")


def conv_general_dilated(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **options: Any,
) -> jax.Array:
    """`lax.conv_general_dilated`, save for the gradient where the stride is 1 and the group one.

    JAX writes a gradient by the image as a convolution that reads the kernel with its channels
    swapped, which oneDNN refuses: bfloat16 then runs at the speed of float32. Here they are swapped
    first. A gradient by the kernel has the images as its channels: of many it leaves the cache, and
    is taken of parts, 1.5 to 4 times as fast for a hundred images of 15 x 15. Reverse mode only.
    """
    if any(stride != 1 for stride in strides) or options.get("feature_group_count", 1) != 1:
        return lax.conv_general_dilated(x, kernel, strides, padding, **options)
    return _convolve(x, kernel, tuple(map(tuple, padding)))


def depthwise(
    x: jax.Array,
    kernel: jax.Array,
    strides: Sequence[int],
    padding: Sequence[tuple[int, int]],
    **options: Any,
) -> jax.Array:
    """`lax.conv_general_dilated`, of each channel by itself as a sum of shifted images.

    XLA has a CPU walk through its loops for convolutions in groups; the sum is 13 to 35 times as
    fast, its gradient by the image 5 to 16 times (7x7 and 3x3, 16 x 16 pixels). It takes longer to
    compile: of a ConvNeXt 15 seconds in place of 5. Sums are float32.
    """
    if kernel.shape[2] != 1 or kernel.shape[3] != x.shape[-1]:
        return lax.conv_general_dilated(x, kernel, strides, padding, **options)
    return _shifted(x, kernel, tuple(strides), tuple(map(tuple, padding)))


@partial(jax.jit, static_argnums=(2, 3))
def _shifted(
    x: jax.Array, kernel: jax.Array, strides: tuple[int, ...], padding: Padding
) -> jax.Array:
    wide = jnp.pad(x, ((0, 0), *padding, (0, 0)))
    total = jnp.zeros((), jnp.float32)
    for place in np.ndindex(*kernel.shape[:2]):
        part = wide
        for axis in (0, 1):
            last = wide.shape[1 + axis] - kernel.shape[axis] + place[axis]
            part = lax.slice_in_dim(part, place[axis], last + 1, strides[axis], 1 + axis)
        total += part * kernel[place][0].astype(jnp.float32)
    return total.astype(x.dtype)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x: jax.Array, kernel: jax.Array, padding: Padding) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=NHWC)


def _forward(
    x: jax.Array, kernel: jax.Array, padding: Padding
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    return _convolve(x, kernel, padding), (x, kernel)


def _backward(
    padding: Padding, saved: tuple[jax.Array, jax.Array], gradient: jax.Array
) -> tuple[jax.Array, jax.Array]:
    x, kernel = saved
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    sizes = zip(kernel.shape[:2], padding, strict=True)
    rest = tuple((size - 1 - low, size - 1 - high) for size, (low, high) in sizes)
    return _convolve(gradient, turned, rest), _by_kernel(padding, x, kernel, gradient)


def _by_kernel(padding: Padding, x: jax.Array, kernel: jax.Array, gradient: jax.Array) -> jax.Array:
    """The gradient by the kernel, summed over parts of the batch."""

    def of(x: jax.Array, gradient: jax.Array) -> jax.Array:
        convolve = partial(
            lax.conv_general_dilated,
            x,
            window_strides=(1, 1),
            padding=padding,
            dimension_numbers=NHWC,
        )
        return jax.linear_transpose(convolve, kernel)(gradient)[0].astype(jnp.float32)

    count = max(len(x) // FEWEST, 1)
    parts = zip(jnp.array_split(x, count), jnp.array_split(gradient, count), strict=True)
    return jnp.stack([of(*part) for part in parts]).sum(0).astype(kernel.dtype)


_convolve.defvjp(_forward, _backward)
