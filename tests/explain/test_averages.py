"""Methods averaged over noise and over networks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.errors import UserError
from kdxai.explain import METHODS, Classifier, over_networks, smooth
from kdxai.explain.gradients import noisy_copies

IMAGE = np.random.default_rng(0).normal(size=(6, 5, 3)).astype(np.float32)


def test_smooth_is_the_mean_over_noisy_copies(build, data):
    classifier, image, key = build("middle"), data["image"][0], jax.random.key(3)
    options = {"key": key, "samples": 5, "noise": 0.2}
    draw = jax.jit(
        lambda x: smooth(METHODS["grad_cam_plus_plus"], classifier, x, 3, chunk=2, **options)
    )
    copies = noisy_copies(image, *options.values())
    each = jax.jit(jax.vmap(lambda x: METHODS["grad_cam_plus_plus"](classifier, x, 3)))(copies)
    np.testing.assert_allclose(draw(image), each.mean(0), rtol=1e-5, atol=1e-6)
    method = jax.jit(lambda x: METHODS["smooth_grad_cam_plus_plus"](classifier, x, 3, **options))
    np.testing.assert_allclose(method(image), each.mean(0), rtol=1e-5, atol=1e-6)


def test_smooth_passes_options_on():
    """Of a linear model every map of the gradient times the image is that of the noisy image."""
    model = Classifier(lambda x: x, lambda a: a.sum((0, 1)))
    found = smooth(METHODS["occlusion"], model, IMAGE, 1, samples=4, window=1, stride=1)
    expected = noisy_copies(IMAGE, None, 4, 0.15).mean(0)[..., 1]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_population_of_networks(build, data):
    networks = [build("last", scale=scale) for scale in (1.0, 2.0, 3.0)]
    draw = jax.jit(lambda x: over_networks(METHODS["hires_cam"], networks, x, 3, relu=False))
    one = jax.jit(lambda x: METHODS["hires_cam"](networks[1], x, 3, relu=False))
    np.testing.assert_allclose(draw(data["image"][0]), one(data["image"][0]), rtol=1e-5, atol=1e-6)


def test_networks_of_different_grids():
    one = Classifier(lambda x: x, lambda a: a.mean((0, 1)))
    other = one._replace(features=lambda x: x[::2, ::2])
    for networks in ([one, other], []):
        with pytest.raises(UserError, match="at least one network, and maps of one grid"):
            over_networks(METHODS["grad_cam"], networks, jnp.asarray(IMAGE), 0)
