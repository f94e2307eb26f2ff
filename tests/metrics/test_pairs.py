"""All with all against the two-map metrics, and those of scipy and scikit-image."""

import jax
import numpy as np
import pytest
from scipy import stats
from skimage.metrics import structural_similarity

from kdxai.metrics import agreement, pairs

SIDES = (12, 15)


def population():
    """Smooth maps, one noisy, one of few values, with many zeros; zero, constant, two equal."""
    rng = np.random.default_rng(0)
    maps = rng.random((8, *SIDES)).astype(np.float32)
    maps[1] = np.linspace(0, 1, 12)[:, None] * np.linspace(1, 0, 15)
    maps[2] = np.round(3 * maps[2]) / 3
    maps[3] *= maps[3] > 0.95
    maps[4], maps[5], maps[6] = 0, 1, maps[0]
    return maps


@pytest.mark.parametrize("count", [2, 3, 8])
def test_all_with_all_is_every_two(count):
    maps = population()[:count]
    found = jax.jit(pairs.agreements)(maps)
    assert list(found) == list(agreement.METRICS)
    two = jax.jit(agreement.agreement)
    for k, (i, j) in enumerate(zip(*np.triu_indices(count, 1), strict=True)):
        for name, value in two(maps[i], maps[j]).items():
            np.testing.assert_allclose(found[name][k], value, atol=1e-5, err_msg=f"{name} {i} {j}")


def test_against_scipy_and_skimage():
    maps = population()
    found = pairs.agreements(maps)
    for k, (i, j) in enumerate(zip(*np.triu_indices(8, 1), strict=True)):
        a, b = np.float64(maps[i]), np.float64(maps[j])
        options = {"gaussian_weights": True, "use_sample_covariance": False, "data_range": 1}
        assert found["ssim"][k] == pytest.approx(structural_similarity(a, b, **options), abs=1e-4)
        if {i, j} & {4, 5}:
            assert found["pearson"][k] == found["spearman"][k] == found["top_k_iou"][k] == 0
            continue
        assert found["pearson"][k] == pytest.approx(
            np.corrcoef(a.ravel(), b.ravel())[0, 1], abs=1e-5
        )
        expected = stats.spearmanr(a.ravel(), b.ravel())[0]
        assert found["spearman"][k] == pytest.approx(expected, abs=1e-5)


def test_small_maps_have_no_ssim():
    assert "ssim" not in pairs.agreements(population()[:, :10])
