"""How far a map is from what it promises, by hand."""

import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.metrics.axioms import completeness_gap, input_shift

HEATMAP = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)


@pytest.mark.parametrize(
    ("total", "difference", "gap"),
    [(2, 2, 0), (-2, -2, 0), (4, 2, 1 / 3), (1, 2, 1 / 3), (2, -2, 1), (0, 2, 1), (0, 0, 0)],
)
def test_the_gap(total, difference, gap):
    attribution = np.zeros((2, 3), np.float32)
    attribution[0, :2] = total + 1, -1
    got = completeness_gap(attribution, jnp.float32(difference))
    assert got == pytest.approx(gap, abs=1e-6)


def test_contributions_of_a_linear_score_are_complete():
    weights = np.random.default_rng(1).normal(size=(4, 5)).astype(np.float32)
    score = lambda image: (weights * image).sum() + 7  # noqa: E731
    difference = score(HEATMAP) - score(np.zeros_like(HEATMAP))
    assert completeness_gap(weights * HEATMAP, difference) < 1e-5
    assert completeness_gap(weights, difference) > 0.1


def test_a_shift_that_changes_nothing_and_one_that_does():
    assert input_shift(HEATMAP, HEATMAP) == 0
    for unit in (1e-30, 1, 1e30):
        one, other = HEATMAP * np.float32(unit), 3 * HEATMAP * np.float32(unit)
        assert input_shift(one, other) == pytest.approx(2, rel=1e-5)
    zero = np.zeros((4, 5), np.float32)
    assert input_shift(zero, zero) == 0
    assert input_shift(zero, HEATMAP) == pytest.approx(np.linalg.norm(HEATMAP), rel=1e-5)
