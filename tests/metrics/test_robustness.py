"""Sensitivity of explanations whose change under noise is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.metrics.robustness import sensitivity

IMAGE = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
KEY = jax.random.key(3)


def test_matches_a_loop_in_float64():
    def explain(image):
        return jnp.tanh(image).sum(axis=-1)

    got = sensitivity(explain, IMAGE, KEY, radius=0.3, samples=6)
    noise = np.asarray(jax.random.uniform(KEY, (6, 5, 4, 3), minval=-0.3, maxval=0.3), np.float64)
    clean = np.tanh(IMAGE.astype(np.float64)).sum(axis=-1)
    moved = [np.tanh(IMAGE + e).sum(axis=-1) - clean for e in noise]
    ratios = [np.linalg.norm(m) / np.linalg.norm(clean) for m in moved]
    np.testing.assert_allclose(got.maximum, max(ratios), rtol=1e-5)
    np.testing.assert_allclose(got.average, np.mean(ratios), rtol=1e-5)


def test_a_map_that_ignores_the_image_does_not_move():
    assert sensitivity(lambda image: jnp.ones((5, 4)), IMAGE, KEY) == (0.0, 0.0)
    assert sensitivity(lambda image: image[..., 0], IMAGE, KEY, radius=0.0) == (0.0, 0.0)


def test_bounded_by_the_radius_and_linear_in_it():
    """E(x) = x moves by |e|, at most r sqrt(n) and about r sqrt(n / 3) for uniform noise."""
    one = sensitivity(lambda image: image, IMAGE, KEY, radius=0.1, samples=50)
    two = sensitivity(lambda image: image, IMAGE, KEY, radius=0.2, samples=50)
    most = 0.1 * np.sqrt(IMAGE.size) / np.linalg.norm(IMAGE)
    assert one.average <= one.maximum <= most
    assert one.average == pytest.approx(most / np.sqrt(3), rel=0.05)
    np.testing.assert_allclose(two, np.multiply(one, 2), rtol=1e-3)


def test_scale_free_and_defined_for_a_zero_map():
    def explain(image):
        return image[..., 0] ** 2

    a = sensitivity(explain, IMAGE, KEY)
    b = sensitivity(lambda image: 1e3 * explain(image), IMAGE, KEY)
    np.testing.assert_allclose(a, b, rtol=1e-4)
    zero = sensitivity(lambda image: image[..., 0], jnp.zeros((5, 4, 3)), KEY, radius=0.1)
    assert 0 < zero.average <= zero.maximum <= 0.1 * np.sqrt(20)


def test_serves_gradients():
    def saliency(image):
        return jnp.abs(jax.grad(lambda x: (x**3).sum())(image)).sum(axis=-1)

    got = jax.jit(lambda image, key: sensitivity(saliency, image, key))(IMAGE, KEY)
    assert 0 < got.average <= got.maximum
