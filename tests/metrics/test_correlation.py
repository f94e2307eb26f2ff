"""What is removed, what it is said to be worth, and what it is worth: against NumPy and by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from kdxai.errors import UserError
from kdxai.metrics import perturbation
from kdxai.metrics.correlation import (
    Removals,
    correlation,
    infidelity,
    monotonicity_correlation,
    random_subsets,
    removals,
    sensitivity_n,
)

RNG = np.random.default_rng(0)
IMAGE, WEIGHTS = RNG.normal(size=(2, 6, 5, 2)).astype(np.float32)
FILL = perturbation.replace(IMAGE, np.zeros_like(IMAGE))
SETS = RNG.random((7, 6, 5)) < 0.3
CONTRIBUTIONS = (IMAGE.astype(np.float64) * WEIGHTS).sum(-1)


def linear(image):
    return (image * WEIGHTS).sum() + 3


@jax.jit
def of_linear(heatmap):
    return removals(linear, heatmap, FILL, SETS, chunk=3)


def test_relevance_and_drops_of_a_linear_score():
    found = of_linear(np.float32(CONTRIBUTIONS))
    want = [CONTRIBUTIONS[removed].sum() for removed in SETS]
    np.testing.assert_allclose(found.relevance, want, atol=2e-6)
    np.testing.assert_allclose(found.drops, want, atol=2e-5)
    # The map that is the score's own, and its opposite.
    assert infidelity(found) < 1e-8
    assert correlation(found) > 0.99999
    assert correlation(found._replace(relevance=-found.relevance)) < -0.99999


def test_a_constant_map_foretells_nothing_but_its_constant():
    for constant in (0.0, 0.1, -3.0):
        found = of_linear(np.full((6, 5), constant, np.float32))
        np.testing.assert_allclose(found.relevance, constant * SETS.sum((1, 2)), rtol=1e-6)
    zero = of_linear(np.zeros((6, 5), np.float32))
    assert infidelity(zero) == infidelity(zero, scaled=True)
    np.testing.assert_allclose(infidelity(zero), (np.square(zero.drops)).mean(), rtol=1e-6)


def test_sets_of_one_size_cannot_tell_a_constant_from_another():
    """Equal exactly, not but for rounding: rounding would be correlated."""
    sets = random_subsets(jax.random.key(0), (6, 5), 11, 20)
    flat = np.full((6, 5), 0.1, np.float32)
    found = jax.jit(lambda m: removals(linear, m, FILL, sets))(flat)
    assert len(np.unique(found.relevance)) == 1
    assert correlation(found) == monotonicity_correlation(found) == 0


def test_correlations_by_scipy():
    relevance, drops = RNG.normal(size=(2, 4, 9))
    found = Removals(jnp.float32(relevance), jnp.float32(drops))
    each = [stats.pearsonr(a, b)[0] for a, b in zip(relevance, drops, strict=True)]
    assert sensitivity_n(found) == pytest.approx(np.mean(each), abs=1e-6)
    one = Removals(found.relevance[0], found.drops[0])
    assert correlation(one) == pytest.approx(each[0], abs=1e-6)
    want = stats.spearmanr(np.abs(relevance[0]), drops[0] ** 2)[0]
    assert monotonicity_correlation(one) == pytest.approx(want, abs=1e-6)
    moved = one._replace(relevance=5 * one.relevance - 2)
    assert correlation(moved) == pytest.approx(each[0], abs=1e-6)


def test_the_best_scale_is_that_of_least_squares():
    relevance, drops = RNG.normal(size=(2, 30)) + np.array([[1], [-2]])
    found = Removals(jnp.float32(relevance), jnp.float32(drops))
    (scale,), *_ = np.linalg.lstsq(relevance[:, None], drops, rcond=None)
    want = np.square(scale * relevance - drops).mean()
    for unit in (1, 1e-20, 1e20):
        scaled = found._replace(relevance=found.relevance * np.float32(unit))
        assert infidelity(scaled, scaled=True) == pytest.approx(want, rel=1e-5)
    assert infidelity(found) == pytest.approx(np.square(relevance - drops).mean(), rel=1e-5)


def test_subsets_have_their_size_and_every_pixel_its_share():
    sets = np.asarray(random_subsets(jax.random.key(1), (6, 5), 9, 500))
    assert sets.shape == (500, 6, 5) and (sets.sum((1, 2)) == 9).all()
    assert np.abs(sets.mean(0) - 0.3).max() < 0.09  # standard deviation 0.02
    assert len(np.unique(sets.reshape(500, -1), axis=0)) > 490
    for size in (0, 30, -1):
        with pytest.raises(UserError, match=rf"1 to 29 pixels, not {size}"):
            random_subsets(jax.random.key(1), (6, 5), size, 2)
