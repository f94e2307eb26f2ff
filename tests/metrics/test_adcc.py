"""ADCC against the harmonic mean in float64 and at every limit."""

import itertools

import jax
import numpy as np
import pytest
import scipy.stats

from kdxai.metrics.adcc import adcc, arcc


def test_is_the_harmonic_mean():
    coherency, complexity, drop = np.random.default_rng(0).uniform(0.01, 0.99, size=(3, 200))
    want = scipy.stats.hmean([coherency, 1 - complexity, 1 - drop])
    got = jax.vmap(adcc)(*np.float32([coherency, complexity, drop]))
    np.testing.assert_allclose(got, want, rtol=2e-5)


@pytest.mark.parametrize("corner", list(itertools.product([0.0, 1.0], repeat=3)))
def test_corners(corner):
    coherency, complexity, drop = corner
    best = corner == (1.0, 0.0, 0.0)
    assert adcc(coherency, complexity, drop) == (1.0 if best else 0.0)


def test_any_worst_part_takes_all():
    for parts in [(0.0, 0.3, 0.4), (0.7, 1.0, 0.4), (0.7, 0.3, 1.0)]:
        assert adcc(*parts) == 0.0


def test_the_unscaled_complexity_of_the_notebook():
    """Evaluated as it stands, above its own maximum of 1; float64 by the formula as published."""
    for ssim, norm, drop in [(0.57677, 5.65566, 0.12279), (0.66871, 2.73358, 0.08477)]:
        want = 3 / (1 / ssim + 1 / (1 - norm) + 1 / (1 - drop))
        assert want > 1
        np.testing.assert_allclose(adcc(ssim, norm, drop), want, rtol=1e-5)


def test_monotone():
    grid = np.linspace(0, 1, 21)
    assert (np.diff([adcc(c, 0.4, 0.2) for c in grid]) > 0).all()
    assert (np.diff([adcc(0.8, c, 0.2) for c in grid]) < 0).all()
    assert (np.diff([adcc(0.8, 0.4, d) for d in grid]) < 0).all()


def test_arcc_is_the_harmonic_mean_with_road_in_its_range():
    coherency, complexity, road = np.random.default_rng(1).uniform(0.01, 0.99, size=(3, 200))
    got = jax.vmap(arcc)(*np.float32([coherency, complexity, road]))
    np.testing.assert_allclose(got, scipy.stats.hmean([coherency, 1 - complexity, road]), rtol=2e-5)
    assert arcc(0.7, 0.2, -0.3) == arcc(0.7, 0.2, 0.0) == 0
    assert arcc(0.7, 0.2, 1.2) == arcc(0.7, 0.2, 1.0) > 0.8
    assert arcc(1.0, 0.0, 1.0) == 1
    assert np.isnan(arcc(0.7, 0.2, np.nan))
