"""The controls against scipy, and by hand."""

import jax
import numpy as np
import pytest
from scipy import ndimage, stats

from kdxai.explain import Classifier
from kdxai.explain.controls import centred_gaussian, edges, random


def blind(grid):
    """A classifier that only has a grid."""
    return Classifier(lambda x: jax.numpy.zeros((*grid, 2)), lambda a: a.mean((0, 1)))


def test_random_is_uniform_on_the_grid_of_the_cut(data):
    values = random(blind((40, 50)), data["image"][0], 0, key=jax.random.key(3))
    assert values.shape == (40, 50)
    assert stats.kstest(np.ravel(values), "uniform").pvalue > 1e-3


def test_random_depends_on_the_key_alone(data):
    one = random(blind((4, 4)), data["image"][0], 0)
    np.testing.assert_array_equal(one, random(blind((4, 4)), data["image"][1], 1))
    np.testing.assert_array_equal(
        one, random(blind((4, 4)), data["image"][0], 0, key=jax.random.key(0))
    )
    assert np.any(one != random(blind((4, 4)), data["image"][0], 0, key=jax.random.key(1)))


def test_centred_gaussian_by_hand(data):
    values = centred_gaussian(blind((2, 4)), data["image"][0], 0, sigma=0.5)
    rows = np.exp(-2 * np.array([0.25, 0.25]) ** 2)
    columns = np.exp(-2 * np.array([0.375, 0.125, 0.125, 0.375]) ** 2)
    np.testing.assert_allclose(values, np.outer(rows, columns), rtol=1e-6)


def test_centred_gaussian_peaks_at_the_middle_of_an_odd_grid(data):
    values = centred_gaussian(blind((5, 7)), data["image"][0], 0)
    assert np.unravel_index(values.argmax(), values.shape) == (2, 3)
    assert values[2, 3] == 1
    np.testing.assert_allclose(values, values[::-1, ::-1], rtol=1e-6)


@pytest.mark.parametrize("channels", [1, 3])
def test_edges_are_scipy_sobel(channels, data):
    image = data["image"][0][:, :13, :channels]
    grey = image.astype(np.float64).mean(-1)
    expected = np.hypot(*(ndimage.sobel(grey, axis, mode="nearest") for axis in (0, 1)))
    np.testing.assert_allclose(edges(blind((4, 4)), image, 0), expected, rtol=1e-4, atol=1e-5)


def test_a_flat_image_has_no_edges():
    np.testing.assert_array_equal(edges(blind((4, 4)), np.full((9, 9, 3), 0.4, np.float32), 0), 0)
