"""KernelSHAP and LIME: against Shapley's formula and a weighted ridge regression in float64."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.errors import UserError
from kdxai.explain import METHODS, Classifier
from kdxai.explain.coalitions import number_segments, shap_coalitions
from kdxai.protocol import Protocol

RNG = np.random.default_rng(1)
SIDES = np.array([[0, 0, 1, 1], [0, 2, 2, 1], [3, 3, 3, 3], [3, 3, 4, 4]])
IMAGE = RNG.normal(size=(4, 4, 2)).astype(np.float32)
WEIGHTS = RNG.normal(size=IMAGE.shape)


def logit(x):
    """Interactions of all segments."""
    return np.tanh((WEIGHTS * x).sum() / 3) + x[0, 0, 0] * x[3, 3, 1] * x[1, 1, 0]


def classify(x):
    w = jnp.asarray(WEIGHTS, jnp.float32)
    own = jnp.tanh((w * x).sum() / 3) + x[0, 0, 0] * x[3, 3, 1] * x[1, 1, 0]
    return jnp.stack([0.0, own])


MODEL = Classifier(lambda x: x, classify)


def value(shown, baseline=0.5):
    image = np.where(np.asarray(shown)[SIDES][..., None] > 0, IMAGE.astype(np.float64), baseline)
    return logit(image)


def shapley(players):
    """The mean over all orders of what each adds."""
    found = np.zeros(players)
    for order in itertools.permutations(range(players)):
        shown = np.zeros(players)
        for player in order:
            before = value(shown)
            shown[player] = 1
            found[player] += (value(shown) - before) / math.factorial(players)
    return found


def explain(method, **options):
    draw = jax.jit(lambda x: METHODS[method](MODEL, x, 1, segments=SIDES, baseline=0.5, **options))
    return np.asarray(draw(IMAGE))


def test_kernel_shap_is_exact_where_all_coalitions_are_taken():
    expected = shapley(5)
    np.testing.assert_allclose(explain("kernel_shap", samples=30), expected[SIDES], atol=1e-5)
    np.testing.assert_allclose(expected.sum(), value(np.ones(5)) - value(np.zeros(5)))


def test_kernel_shap_of_some_coalitions():
    """As exact as they are many, and complete whatever they are."""
    expected, firsts = shapley(5), np.array([0, 2, 5, 8, 14])
    for samples, tolerance in ((10, 0.6), (29, 0.25)):
        found = explain("kernel_shap", samples=samples).ravel()[firsts]
        np.testing.assert_allclose(found, expected, atol=tolerance * np.abs(expected).max())
        np.testing.assert_allclose(found.sum(), expected.sum(), rtol=1e-4)


def test_an_additive_game_is_exact_whatever_is_drawn():
    """16 cells, 200 coalitions of 65,534."""
    weights = jnp.asarray(RNG.normal(size=(8, 8, 1)), jnp.float32)
    model = Classifier(lambda x: x, lambda x: jnp.stack([(weights * x).sum(), 0.0]))
    image = jnp.asarray(RNG.normal(size=(8, 8, 1)), jnp.float32)
    found = jax.jit(lambda x: METHODS["kernel_shap"](model, x, 0, samples=200))(image)
    cells = np.asarray(weights * image).reshape(4, 2, 4, 2).sum((1, 3))
    np.testing.assert_allclose(found[::2, ::2], cells, atol=1e-4 * np.abs(cells).max())


def test_coalitions_are_drawn_by_the_weights_of_their_sizes():
    shown, weights = shap_coalitions(jax.random.key(0), 10, 800)
    assert shown.shape == (800, 10) and (weights == 1).all()
    np.testing.assert_array_equal(shown[:400] + shown[400:], 1)
    sizes = np.arange(1, 10)
    expected = 1 / (sizes * (10 - sizes))
    expected /= expected.sum()
    share = np.bincount(np.int64(shown.sum(1)), minlength=11)[1:10] / 800
    np.testing.assert_allclose(share, expected, atol=5 * np.sqrt(0.25 / 400))
    np.testing.assert_allclose(shown.mean(0), 0.5, atol=1e-6)


def test_lime_is_a_weighted_ridge_regression():
    key, width, ridge = jax.random.key(7), 0.4, 2.0
    shown = np.float64(jax.random.bernoulli(key, 0.5, (40, 5)))
    values = np.array([value(one) for one in shown])
    distance = 1 - shown.sum(1) / np.sqrt(5 * np.maximum(shown.sum(1), 1e-12))
    weights = np.diag(np.exp(-(distance**2) / (2 * width**2)))
    design = np.column_stack([np.ones(40), shown])
    penalty = ridge * np.diag([0.0, 1, 1, 1, 1, 1])
    fitted = np.linalg.solve(design.T @ weights @ design + penalty, design.T @ weights @ values)
    found = explain("lime", key=key, samples=40, width=width, ridge=ridge)
    np.testing.assert_allclose(found, fitted[1:][SIDES], atol=1e-5)


def test_cells_of_a_grid():
    places, count = number_segments(2, (3, 5))
    assert count == 4
    np.testing.assert_array_equal(places, [[0, 0, 0, 1, 1]] * 2 + [[2, 2, 2, 3, 3]])


@pytest.mark.parametrize("method", ["kernel_shap", "lime"])
@pytest.mark.parametrize(
    ("segments", "message"),
    [
        (1, "segments is 2 or more cells a side, not 1"),
        (5, "4x4 pixels has no 5 cells a side"),
        (np.zeros((4, 4), int), "all pixels are of one segment"),
        (np.where(SIDES == 2, 5, SIDES), "whole numbers .* none left out"),
        (np.float64(SIDES), "whole numbers"),
        (SIDES[:3], r"whole numbers \[4, 4\] from 0"),
    ],
)
def test_segments_that_are_none(method, segments, message):
    with pytest.raises(UserError, match=message):
        METHODS[method](MODEL, IMAGE, 1, segments=segments)


@pytest.mark.parametrize("method", ["kernel_shap", "lime"])
def test_options_that_cannot_be(method):
    with pytest.raises(UserError, match="segments is 2 or more cells"):
        Protocol(method, options={"segments": 1})
    with pytest.raises(UserError, match="at least 2 samples"):
        Protocol(method, options={"samples": 1})
