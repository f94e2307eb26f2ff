"""Pearson and Spearman against SciPy in float64, SSIM against scikit-image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from skimage.metrics import structural_similarity

from kdxai.errors import UserError
from kdxai.metrics import coherency

METRICS = {"pearson": jax.jit(coherency.pearson), "spearman": jax.jit(coherency.spearman)}
pearson, spearman = METRICS.values()
ssim = jax.jit(coherency.ssim, static_argnames=("window", "sample_covariance"))
SCIPY = {"pearson": scipy.stats.pearsonr, "spearman": scipy.stats.spearmanr}


def pair(shape, seed=0):
    a, noise = np.random.default_rng(seed).random((2, *shape))
    return a.astype(np.float32), (0.6 * a + 0.4 * noise).astype(np.float32)


def smooth_pair(shape):
    """Two bumps, flat at zero over most of the map: what a CAM looks like."""
    y, x = np.mgrid[: shape[0], : shape[1]] / shape[0]
    a = np.maximum(np.exp(-((y - 0.3) ** 2 + (x - 0.4) ** 2) * 20) - 0.1, 0) / 0.9
    b = np.maximum(np.exp(-((y - 0.5) ** 2 + (x - 0.4) ** 2) * 30) - 0.1, 0) / 0.9
    return a.astype(np.float32), b.astype(np.float32)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("shape", [(4, 4), (32, 32), (224, 224)])
def test_correlations_match_scipy(name, shape):
    for a, b in (pair(shape), smooth_pair(shape), (np.round(pair(shape)[0] * 4), pair(shape)[1])):
        want = SCIPY[name](a.astype(np.float64).ravel(), b.astype(np.float64).ravel())[0]
        np.testing.assert_allclose(METRICS[name](a, b), want, atol=5e-6)


def test_pearson_survives_offsets_and_tiny_ranges():
    a, b = pair((32, 32))
    far = (a + 5000).astype(np.float32)  # float32 keeps about 11 bits of the map here
    want = scipy.stats.pearsonr(far.astype(np.float64).ravel(), b.astype(np.float64).ravel())[0]
    np.testing.assert_allclose(pearson(far, b), want, atol=2e-6)
    np.testing.assert_allclose(pearson(a * 1e-20, b * 1e20), pearson(a, b), atol=2e-6)
    spike = np.zeros((224, 224), np.float32)
    spike[3, 5] = 1e6
    np.testing.assert_allclose(pearson(spike, spike), 1.0, atol=1e-6)


def test_pearson_is_affine_invariant_and_spearman_monotone_invariant():
    a, b = pair((16, 16))
    np.testing.assert_allclose(pearson(3 * a + 2, -0.5 * b), -pearson(a, b), atol=1e-6)
    np.testing.assert_allclose(spearman(np.exp(9 * a), b), spearman(a, b), atol=1e-6)
    shuffle = np.random.default_rng(1).permutation(a.size)
    mixed = a.ravel()[shuffle].reshape(a.shape), b.ravel()[shuffle].reshape(a.shape)
    for metric in METRICS.values():
        np.testing.assert_allclose(metric(*mixed), metric(a, b), atol=1e-6)
        np.testing.assert_allclose(metric(a, a), 1.0, atol=1e-6)


def test_spearman_ranks_both_zeros_alike():
    a = jnp.array([[0.0, -0.0, 1.0, -1.0]])
    b = jnp.array([[2.0, 2.0, 3.0, 1.0]])
    np.testing.assert_allclose(spearman(a, b), 1.0, atol=1e-6)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, -7.3])
def test_a_constant_map_correlates_with_nothing(name, value):
    constant, other = np.full((7, 9), value, np.float32), pair((7, 9))[0]
    for a, b in ((constant, other), (other, constant), (constant, constant)):
        assert METRICS[name](a, b) == 0.0


def test_coherency_maps_r_to_the_unit_interval():
    np.testing.assert_allclose([coherency.coherency(r) for r in (-1.0, 0.0, 1.0)], [0.0, 0.5, 1.0])


@pytest.mark.parametrize("shape", [(11, 13), (32, 32)])
@pytest.mark.parametrize("window", ["gaussian", "uniform"])
@pytest.mark.parametrize("sample_covariance", [False, True])
@pytest.mark.parametrize("data_range", [1.0, 0.7, 6.0])
def test_ssim_matches_skimage(shape, window, sample_covariance, data_range):
    for a, b in (pair(shape), smooth_pair(shape), (1 - pair(shape)[0], pair(shape)[1])):
        got = ssim(a, b, data_range=data_range, window=window, sample_covariance=sample_covariance)
        want = structural_similarity(
            a.astype(np.float64),
            b.astype(np.float64),
            data_range=data_range,
            gaussian_weights=window == "gaussian",
            use_sample_covariance=sample_covariance,
            **({"sigma": 1.5, "win_size": 11} if window == "gaussian" else {"win_size": 7}),
        )
        np.testing.assert_allclose(got, want, atol=1e-5)


def test_ssim_with_the_range_of_the_second_map():
    """The notebook's: 7 x 7, sample covariance, data range = max - min of the second map."""
    a, b = smooth_pair((32, 32))
    b = 0.6 * b + 0.1
    got = jax.jit(
        lambda a, b: ssim(
            a, b, data_range=b.max() - b.min(), window="uniform", sample_covariance=True
        )
    )(a, b)
    want = structural_similarity(
        a.astype(np.float64), b.astype(np.float64), data_range=float(b.max() - b.min())
    )
    np.testing.assert_allclose(got, want, atol=1e-5)


def test_ssim_without_any_range_is_equality():
    zero, one = jnp.zeros((11, 11)), jnp.ones((11, 11))
    ramp = jnp.linspace(0, 1, 121).reshape(11, 11)
    assert ssim(one, one, data_range=0.0) == 1.0
    assert ssim(ramp, one, data_range=0.0) == 0.0
    assert ssim(zero, zero, data_range=jnp.float32(0)) == 1.0


def test_ssim_of_constant_maps_is_the_luminance_term():
    for window in ("gaussian", "uniform"):
        got = ssim(jnp.full((12, 12), 0.2), jnp.full((12, 12), 0.6), window=window)
        np.testing.assert_allclose(got, (0.24 + 1e-4) / (0.4 + 1e-4), atol=1e-4)
        np.testing.assert_allclose(ssim(jnp.zeros((12, 12)), jnp.zeros((12, 12))), 1.0, atol=1e-6)


@pytest.mark.parametrize(("window", "side"), [("gaussian", 10), ("uniform", 6)])
def test_ssim_refuses_maps_smaller_than_its_window(window, side):
    small = jnp.zeros((32, side))
    with pytest.raises(UserError, match=f"32x{side}.*resize"):
        ssim(small, small, window=window)
