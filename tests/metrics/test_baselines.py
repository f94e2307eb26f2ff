"""Baselines against SciPy and against what they promise."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.ndimage

from kdxai.metrics import baselines

IMAGE = np.random.default_rng(0).normal(size=(20, 16, 3)).astype(np.float32)
MEAN, STD = np.array([0.49, 0.48, 0.45]), np.array([0.25, 0.24, 0.26])


def test_mean_and_black_in_pixels():
    for baseline, pixel in (
        (baselines.mean(IMAGE), MEAN),
        (baselines.black(IMAGE, tuple(MEAN), tuple(STD)), 0 * MEAN),
    ):
        assert baseline.shape == IMAGE.shape and baseline.dtype == jnp.float32
        np.testing.assert_allclose(
            np.asarray(baseline) * STD + MEAN, np.broadcast_to(pixel, IMAGE.shape), atol=1e-6
        )


def test_blur_matches_scipy():
    blur = jax.jit(baselines.blur, static_argnames="sigma")
    for sigma in (1.0, 5.0):
        want = scipy.ndimage.gaussian_filter(
            IMAGE.astype(np.float64), (sigma, sigma, 0), mode="nearest", radius=round(3 * sigma)
        )
        np.testing.assert_allclose(blur(IMAGE, sigma), want, atol=1e-5)


def test_blur_keeps_a_flat_image_to_its_edges():
    flat = np.full((12, 12, 3), 0.7, np.float32)
    np.testing.assert_allclose(baselines.blur(flat), flat, atol=1e-6)
