"""The same numbers as JAX's own convolution, forwards and backwards."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from kdxai import models
from kdxai.models.convolution import FEWEST, conv_general_dilated, depthwise

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize(
    ("window", "padding"), [(3, ((1, 1), (1, 1))), (1, ((0, 0), (0, 0))), (3, ((0, 2), (1, 0)))]
)
def test_values_and_gradients_are_those_of_jax(stride, groups, window, padding):
    x = jnp.float32(RNG.normal(size=(2, 3, 7, 6, 4)))
    kernel = jnp.float32(RNG.normal(size=(window, window, 4 // groups, 8)))
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": groups}

    def results(convolution):
        def total(x, kernel):
            y = jax.vmap(lambda x: convolution(x, kernel, (stride, stride), padding, **options))(x)
            return (y**3).sum(), y

        # A gradient of a gradient too: its own gradient is another convolution.
        gradients, y = jax.grad(total, (0, 1), has_aux=True)(x, kernel)
        again = jax.grad(lambda x: (jax.grad(total, has_aux=True)(x, kernel)[0] ** 2).sum())(x)
        return y, *gradients, again

    both = results(conv_general_dilated), results(lax.conv_general_dilated)
    for ours, theirs in zip(*both, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())


@pytest.mark.parametrize(
    ("window", "stride", "padding", "groups"),
    [
        (3, (1, 1), ((1, 1), (1, 1)), 4),
        (3, (2, 2), ((1, 1), (1, 1)), 4),
        (2, (2, 1), ((0, 1), (1, 0)), 4),
        (7, (1, 1), ((3, 3), (3, 3)), 4),
        (3, (2, 2), ((1, 1), (1, 1)), 2),  # not of each channel by itself
    ],
)
def test_channels_by_themselves_are_those_of_jax(window, stride, padding, groups):
    x = jnp.float32(RNG.normal(size=(2, 7, 6, 4)))
    kernel = jnp.float32(RNG.normal(size=(window, window, 4 // groups, 4)))
    options = {"dimension_numbers": ("NHWC", "HWIO", "NHWC"), "feature_group_count": groups}

    @partial(jax.jit, static_argnums=0)
    def results(convolution):
        run = lambda x, kernel: convolution(x, kernel, stride, padding, **options)  # noqa: E731
        y, pull = jax.vjp(run, x, kernel)
        return y, *pull(y**2)

    for ours, theirs in zip(results(depthwise), results(lax.conv_general_dilated), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4 * np.abs(theirs).max())
    half = depthwise(*map(jnp.bfloat16, (x, kernel)), stride, padding, **options)
    assert half.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(half), results(depthwise)[0], rtol=0.02, atol=0.2)


@pytest.mark.parametrize("images", [FEWEST, 2 * FEWEST + 17])
def test_a_gradient_in_parts_is_that_of_all_images(images):
    # Positive, since a gradient near zero by cancellation depends on who sums in which order.
    x = jnp.float32(RNG.uniform(size=(images, 5, 4, 3)))
    kernel = jnp.float32(RNG.uniform(size=(3, 3, 3, 2)))
    padding, options = ((1, 1), (1, 1)), {"dimension_numbers": ("NHWC", "HWIO", "NHWC")}

    def gradient(convolution):
        loss = lambda k: (convolution(x, k, (1, 1), padding, **options) ** 3).sum()  # noqa: E731
        return jax.grad(loss)(kernel)

    ours, theirs = gradient(conv_general_dilated), gradient(lax.conv_general_dilated)
    np.testing.assert_allclose(ours, theirs, rtol=1e-4)


def test_networks_that_are_not_trained_have_forward_mode():
    model = models.create("plain3-w4", num_classes=2)
    x = jnp.ones((1, 8, 8, 3))
    variables = model.init(jax.random.key(0), x)
    assert jnp.isfinite(jax.jvp(lambda x: model.apply(variables, x), (x,), (x,))[1]).all()
