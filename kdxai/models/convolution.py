"""A convolution whose gradient oneDNN takes, for bfloat16 on a CPU."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
from jax import lax

Padding = tuple[tuple[int, int], ...]
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
    swapped, which oneDNN refuses: it then runs at the speed of float32. Here they are swapped
    first. Reverse mode only.
    """
    if any(stride != 1 for stride in strides) or options.get("feature_group_count", 1) != 1:
        return lax.conv_general_dilated(x, kernel, strides, padding, **options)
    return _convolve(x, kernel, tuple(map(tuple, padding)))


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
    by_kernel = jax.linear_transpose(
        lambda k: lax.conv_general_dilated(x, k, (1, 1), padding, dimension_numbers=NHWC), kernel
    )
    turned = kernel[::-1, ::-1].swapaxes(2, 3)
    sizes = zip(kernel.shape[:2], padding, strict=True)
    rest = tuple((size - 1 - low, size - 1 - high) for size, (low, high) in sizes)
    return _convolve(gradient, turned, rest), *by_kernel(gradient)


_convolve.defvjp(_forward, _backward)
