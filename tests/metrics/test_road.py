"""Noisy linear imputation against SciPy's direct solver and Quantus (stored values)."""

import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.sparse import lil_matrix
from scipy.sparse.linalg import spsolve

from kdxai.metrics import perturbation, road

REFERENCE = Path(__file__).parents[1] / "references" / "metrics_quantus.json"
RNG = np.random.default_rng(0)
IMAGE = (RNG.normal(size=(20, 24, 3)) + np.linspace(-2, 2, 24)[:, None] * [1, -1, 0.2]).astype("f")
impute = jax.jit(road.impute)


def solve(image, removed):
    """Rong et al. 2022, one equation per removed pixel, solved directly in float64."""
    height, width, _ = image.shape
    number = np.cumsum(removed).reshape(removed.shape) - 1
    matrix = lil_matrix((removed.sum(), removed.sum()))
    rhs = np.zeros((removed.sum(), 3))
    for i, j in np.argwhere(removed):
        for di, dj in np.argwhere(np.ones((3, 3))) - 1:
            y, x = i + di, j + dj
            if (di, dj) == (0, 0) or not (0 <= y < height and 0 <= x < width):
                continue
            weight = 1 / 6 if di * dj == 0 else 1 / 12
            matrix[number[i, j], number[i, j]] += weight
            if removed[y, x]:
                matrix[number[i, j], number[y, x]] -= weight
            else:
                rhs[number[i, j]] += weight * image[y, x]
    out = image.astype(np.float64)
    out[removed] = spsolve(matrix.tocsc(), rhs)
    return out


def masks():
    rows = np.arange(20)[:, None] * np.ones((1, 24))
    yield from (RNG.random((20, 24)) < share for share in (0.05, 0.5, 0.95))  # scattered
    yield from (rows < count for count in (1, 10, 19))  # one block, from the border
    yield ~((rows == 0) & (np.arange(24) == 0))  # all but one corner


def test_imputation_matches_a_direct_solver_on_rgb():
    for removed in masks():
        got, want = impute(IMAGE, removed), solve(IMAGE, removed)
        np.testing.assert_allclose(got, want, atol=1e-3)  # a tenth of the noise
        np.testing.assert_array_equal(got[~removed], IMAGE[~removed])


def test_imputation_matches_quantus():
    stored = json.loads(REFERENCE.read_text())["road"]
    stored = {name: np.array(value) for name, value in stored.items()}
    got = impute(stored["image"].astype(np.float32), stored["removed"])
    np.testing.assert_allclose(got, stored["imputed"], atol=1e-4)


def test_nothing_and_everything_removed():
    none = np.zeros((20, 24), bool)
    np.testing.assert_array_equal(impute(IMAGE, none), IMAGE)
    mean = np.broadcast_to(IMAGE.mean(axis=(0, 1)), IMAGE.shape)
    np.testing.assert_allclose(impute(IMAGE, ~none), mean, atol=1e-5)


def test_a_flat_image_stays_flat_and_channels_stay_apart():
    flat = np.ones((20, 24, 3), np.float32) * np.float32([0.2, -1.0, 3.0])
    for removed in masks():
        np.testing.assert_allclose(impute(flat, removed), flat, atol=1e-5)
    # Linear in the image: a channel of zeros is left alone whatever the others hold.
    only_red = IMAGE * np.float32([1, 0, 0])
    got = impute(only_red, RNG.random((20, 24)) < 0.5)
    np.testing.assert_allclose(got[..., 1:], 0.0, atol=1e-6)


def test_values_stay_between_the_known_ones():
    removed = RNG.random((20, 24)) < 0.7
    got = np.asarray(impute(IMAGE, removed))
    assert got.max() <= IMAGE[~removed].max() + 1e-4
    assert got.min() >= IMAGE[~removed].min() - 1e-4


def test_noise_falls_on_removed_pixels_only():
    removed = RNG.random((20, 24)) < 0.5
    noisy = np.asarray(road.fill(IMAGE, jax.random.key(0), noise=0.1)(removed))
    grain = noisy - np.asarray(impute(IMAGE, removed))
    np.testing.assert_array_equal(noisy[~removed], IMAGE[~removed])
    assert 0.08 < grain[removed].std() < 0.12
    again = road.fill(IMAGE, jax.random.key(0), noise=0.1)(removed)
    np.testing.assert_array_equal(noisy, again)


@pytest.mark.parametrize("sign", [1, -1])
def test_curves_of_a_known_map(sign):
    """The score sees only a bright square: removing it first must cost most."""
    image = np.zeros((12, 12, 3), np.float32)
    image[4:8, 4:8] = 1.0
    heatmap = sign * image[..., 0]

    def brightness(x):
        return x[4:8, 4:8].mean()

    fill = road.fill(jnp.asarray(image), jax.random.key(1))
    got = jax.jit(lambda m: perturbation.curves(brightness, m, fill, steps=9))(heatmap)
    assert got.deletion[0] == got.insertion[-1] == 1.0
    assert sign * perturbation.symmetric_relevance_gain(got) > 0.5
    if sign == 1:  # 16 of 144 pixels are the square: the first step takes it whole
        assert abs(got.deletion[1]) < 0.02
        np.testing.assert_allclose(got.insertion[1:], 1.0, atol=1e-5)


def test_gain_is_of_the_inner_points():
    ends = perturbation.Curves(
        jnp.linspace(0, 1, 4), jnp.float32([9, 1, 2, 7]), jnp.float32([5, 4, 6, 8])
    )
    assert road.gain(ends) == 3.5
