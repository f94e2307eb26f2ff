"""Complexity against Quantus (stored values), SciPy, NumPy and hand values."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest
import scipy.stats

from kdxai.metrics import complexity, randomisation

METRICS = {name: jax.jit(metric) for name, metric in complexity.METRICS.items()}
l1, matrix_1_norm, entropy, gini, effective_area = METRICS.values()
histogram_entropy = jax.jit(randomisation.histogram_entropy)

REFERENCE = Path(__file__).parents[1] / "references" / "metrics_quantus.json"
QUANTUS = json.loads(REFERENCE.read_text())["maps"]
RNG = np.random.default_rng(0)
SIGNED = RNG.normal(size=(9, 14)).astype(np.float32)
SINGLE = np.zeros((8, 10), np.float32)
SINGLE[3, 4] = 0.3


@pytest.mark.parametrize("name", QUANTUS)
def test_matches_quantus(name):
    want = QUANTUS[name]
    heatmap = np.array(want["map"], np.float32)
    np.testing.assert_allclose(entropy(heatmap), want["entropy"], rtol=1e-5)
    np.testing.assert_allclose(gini(heatmap), want["gini"], rtol=1e-5, atol=1e-6)
    if name != "constant":  # np.histogram widens a range of zero and puts all in one bin: 0 too
        assert want["histogram_entropy"] > 0
    np.testing.assert_allclose(
        histogram_entropy(heatmap), want["histogram_entropy"], rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (32, 32), (224, 224)])
def test_matches_float64(shape):
    heatmap = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    magnitude = np.abs(heatmap.astype(np.float64))
    p = np.sort(magnitude.ravel() / magnitude.sum())
    # Gini as half the mean absolute difference over the mean, a definition without ranks.
    if p.size < 2000:
        difference = np.abs(p[:, None] - p[None, :]).mean() / (2 * p.mean())
        np.testing.assert_allclose(gini(heatmap), difference, atol=2e-6)
    area = (np.searchsorted(np.cumsum(p[::-1]), 0.9) + 1) / p.size
    np.testing.assert_allclose(entropy(heatmap), scipy.stats.entropy(p), rtol=2e-5, atol=1e-6)
    np.testing.assert_allclose(effective_area(heatmap), area, atol=1.01 / p.size + 1e-6)
    np.testing.assert_allclose(l1(heatmap), magnitude.mean(), rtol=1e-5)
    np.testing.assert_allclose(matrix_1_norm(heatmap), np.linalg.norm(heatmap, 1), rtol=1e-5)


def test_effective_area_by_hand():
    heatmap = np.array([[5.0, 3.0], [-1.5, 0.5]])  # 0.5, 0.8, 0.95, 1 of the mass
    areas = [complexity.effective_area(heatmap, f) for f in (0.4, 0.5, 0.6, 0.9, 0.95, 1.0)]
    np.testing.assert_allclose(areas, [0.25, 0.25, 0.5, 0.75, 0.75, 1.0])


@pytest.mark.parametrize("value", [0.0, 1e-40, 0.1, 1.0, -3.0])
def test_constant_maps(value):
    heatmap = np.full((10, 10), value, np.float32)
    np.testing.assert_allclose(entropy(heatmap), np.log(100), rtol=1e-6)
    np.testing.assert_allclose(gini(heatmap), 0.0, atol=1e-6)
    np.testing.assert_allclose(effective_area(heatmap), 0.9)
    np.testing.assert_allclose(l1(heatmap), abs(value), rtol=1e-6, atol=1e-30)
    np.testing.assert_allclose(matrix_1_norm(heatmap), 10 * abs(value), rtol=1e-6, atol=1e-30)


def test_single_pixel():
    assert entropy(SINGLE) == 0.0
    np.testing.assert_allclose(gini(SINGLE), 1 - 1 / 80, rtol=1e-6)
    np.testing.assert_allclose(effective_area(SINGLE), 1 / 80)
    np.testing.assert_allclose(l1(SINGLE), 0.3 / 80, rtol=1e-6)
    np.testing.assert_allclose(matrix_1_norm(SINGLE), 0.3, rtol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_sign_and_scale(name):
    metric = METRICS[name]
    np.testing.assert_allclose(metric(np.abs(SIGNED)), metric(SIGNED), rtol=1e-6)
    factor = 4.0 if name in ("l1", "matrix_1_norm") else 1.0
    np.testing.assert_allclose(metric(SIGNED * 4), factor * metric(SIGNED), rtol=1e-6)
    np.testing.assert_allclose(metric(SIGNED * 4e-30), factor * metric(SIGNED * 1e-30), rtol=1e-5)


@pytest.mark.parametrize("name", sorted(set(METRICS) - {"matrix_1_norm"}))
def test_only_the_values_count_not_their_places(name):
    mixed = RNG.permutation(SIGNED.ravel()).reshape(14, 9)
    np.testing.assert_allclose(METRICS[name](mixed), METRICS[name](SIGNED), rtol=1e-5)


def test_a_sharper_map_is_less_complex():
    base = np.abs(SIGNED) / np.abs(SIGNED).max()
    sharper = [base**power for power in (1, 2, 4, 8)]
    assert (np.diff([gini(m) for m in sharper]) > 0).all()
    for metric in (entropy, effective_area, l1, matrix_1_norm):
        assert (np.diff([metric(m) for m in sharper]) < 0).all()


def test_matrix_1_norm_takes_columns_and_grows_with_the_grid():
    assert matrix_1_norm(np.array([[1.0, -2.0], [3.0, 4.0]])) == 6.0
    assert [matrix_1_norm(np.ones((n, n))) for n in (4, 8)] == [4.0, 8.0]
    assert l1(np.ones((4, 4))) == l1(np.ones((8, 8))) == 1.0
