"""Deletion, insertion and what is read off them, against loops in NumPy and closed forms."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.metrics.perturbation import (
    METRICS,
    Curves,
    comprehensiveness,
    curves,
    deletion,
    deletion_curve,
    insertion,
    pixel_flipping,
    ranks,
    replace,
    sufficiency,
    symmetric_relevance_gain,
)

RNG = np.random.default_rng(0)
SHAPE = (6, 7, 3)
IMAGE = RNG.normal(size=SHAPE).astype(np.float32)
BASELINE = RNG.normal(size=SHAPE).astype(np.float32)
WEIGHTS = RNG.normal(size=SHAPE).astype(np.float32)
HEATMAP = RNG.permutation(42).reshape(6, 7).astype(np.float32)  # no ties


def score(image):
    """Neither linear nor monotone, and not symmetric in the pixels."""
    return jax.nn.sigmoid((WEIGHTS * image).sum()) + 0.1 * jnp.sin(image[2, 3, 1])


def score_float64(image):
    z = (WEIGHTS.astype(np.float64) * image).sum()
    return 1 / (1 + np.exp(-z)) + 0.1 * np.sin(image[2, 3, 1])


def loop(start, end, steps):
    """Scores while `end` replaces `start` pixel by pixel, most relevant first."""
    order = np.argsort(-HEATMAP, axis=None)
    scores, fractions = [], []
    for step in range(steps + 1):
        count = round(step * order.size / steps)
        image = start.astype(np.float64).reshape(-1, 3).copy()
        image[order[:count]] = end.reshape(-1, 3)[order[:count]]
        scores.append(score_float64(image.reshape(SHAPE)))
        fractions.append(count / order.size)
    return np.array(fractions), np.array(scores)


@functools.partial(jax.jit, static_argnames=("function", "steps", "chunk"))
def of(heatmap=HEATMAP, function=score, steps=20, chunk=None):
    return curves(function, heatmap, replace(IMAGE, BASELINE), steps=steps, chunk=chunk)


@pytest.mark.parametrize("steps", [1, 20, 42])
def test_curves_match_a_loop(steps):
    got = of(steps=steps)
    fractions, gone = loop(IMAGE, BASELINE, steps)
    _, come = loop(BASELINE, IMAGE, steps)
    np.testing.assert_allclose(got.fractions, fractions, rtol=1e-6)
    np.testing.assert_allclose(got.deletion, gone, atol=2e-6)
    np.testing.assert_allclose(got.insertion, come, atol=2e-6)
    np.testing.assert_allclose(deletion(got), np.trapezoid(gone, fractions), atol=2e-6)
    np.testing.assert_allclose(insertion(got), np.trapezoid(come, fractions), atol=2e-6)
    np.testing.assert_allclose(pixel_flipping(got), gone[0] - gone.mean(), atol=2e-6)


def test_memory_chunks_do_not_change_the_numbers():
    want = of(steps=10)
    for chunk in (3, 1000):
        got = of(steps=10, chunk=chunk)
        np.testing.assert_allclose(got.deletion, want.deletion, atol=1e-6)
        np.testing.assert_allclose(got.insertion, want.insertion, atol=1e-6)


def test_a_linear_score_has_a_closed_form():
    """Additive score, one pixel a step: deletion is the sum of what is not yet gone."""
    contribution = (WEIGHTS * (IMAGE - BASELINE)).astype(np.float64).sum(axis=-1)
    floor = (WEIGHTS * BASELINE).astype(np.float64).sum()

    def linear(image):
        return (WEIGHTS * image).sum()

    got = of(contribution.astype(np.float32), linear, steps=42)
    ordered = np.sort(contribution.ravel())[::-1]
    come = floor + np.concatenate([[0], np.cumsum(ordered)])
    gone = come[-1] - (come - floor)
    np.testing.assert_allclose(got.insertion, come, atol=2e-5)
    np.testing.assert_allclose(got.deletion, gone, atol=2e-5)
    # The true contributions are the best map there is: no other order inserts faster.
    for seed in range(5):
        other = np.random.default_rng(seed).random((6, 7)).astype(np.float32)
        assert insertion(got) > insertion(of(other, linear, steps=42))
        assert deletion(got) < deletion(of(other, linear, steps=42))


def test_the_negated_map_reads_the_curves_backwards():
    forward, backward = of(HEATMAP, steps=42), of(-HEATMAP, steps=42)
    np.testing.assert_allclose(backward.deletion, forward.insertion[::-1], atol=2e-6)
    np.testing.assert_allclose(
        symmetric_relevance_gain(backward), -symmetric_relevance_gain(forward), atol=2e-6
    )


def test_only_the_order_of_the_map_counts():
    np.testing.assert_allclose(of(np.exp(HEATMAP / 9)).deletion, of(HEATMAP).deletion, atol=1e-6)


def test_shares_by_hand():
    """A curve of three points: the top half gone, the top half alone."""
    fractions, gone, come = [0.0, 0.5, 1.0], [0.9, 0.3, 0.1], [0.1, 0.7, 0.9]
    curve = Curves(jnp.array(fractions), jnp.array(gone), jnp.array(come))
    assert comprehensiveness(curve, (0.5,)) == pytest.approx(0.6)
    assert sufficiency(curve, (0.5,)) == pytest.approx(0.2)
    assert comprehensiveness(curve, (0.25, 0.5)) == pytest.approx((0.3 + 0.6) / 2)
    assert deletion(curve) == pytest.approx(0.4)
    assert insertion(curve) == pytest.approx(0.6)
    assert symmetric_relevance_gain(curve) == pytest.approx(0.2)
    assert pixel_flipping(curve) == pytest.approx(0.9 - 1.3 / 3)


def test_top_shares_match_masking_by_hand():
    """The defaults lie on the grid of 20 steps, so nothing is interpolated."""
    heatmap = RNG.permutation(400).reshape(20, 20).astype(np.float32)
    image = RNG.normal(size=(20, 20, 3)).astype(np.float32)

    def mean_sine(image):
        return jnp.sin(image).mean()

    got = jax.jit(lambda m: curves(mean_sine, m, replace(image, jnp.zeros_like(image))))(heatmap)
    clean, without, alone = np.sin(image.astype(np.float64)).mean(), [], []
    for fraction in (0.05, 0.1, 0.2, 0.5):
        top = (heatmap >= 400 * (1 - fraction))[..., None]
        without.append(np.sin(np.where(top, 0, image).astype(np.float64)).mean())
        alone.append(np.sin(np.where(top, image, 0).astype(np.float64)).mean())
    np.testing.assert_allclose(comprehensiveness(got), clean - np.mean(without), atol=1e-6)
    np.testing.assert_allclose(sufficiency(got), clean - np.mean(alone), atol=1e-6)


def test_ranks_are_a_permutation_that_follows_the_map():
    heatmap = np.round(RNG.random((9, 11)) * 4).astype(np.float32)
    place = np.asarray(ranks(jnp.asarray(heatmap)))
    assert sorted(place.ravel()) == list(range(99))
    by_rank = heatmap.ravel()[np.argsort(place, axis=None)]
    assert (np.diff(by_rank) <= 0).all()


def test_ties_are_broken_the_same_way_everywhere_but_not_by_position():
    zero = jnp.zeros((32, 32))
    place = np.asarray(ranks(zero))
    np.testing.assert_array_equal(place, ranks(jnp.ones((32, 32)) * 0.3))
    np.testing.assert_array_equal(place, jax.jit(jax.vmap(ranks))(zero[None])[0])
    np.testing.assert_array_equal(place, ranks(-zero))  # -0.0 ties with 0.0
    # Unrelated to rows and columns: the standard error of a correlation is 1/32.
    for position in np.mgrid[:32, :32]:
        assert abs(np.corrcoef(position.ravel(), place.ravel())[0, 1]) < 0.1


def test_a_constant_map_gains_nothing_on_average():
    """Every pixel of an additive score is worth the same, so a random order is a straight line."""
    got = jax.jit(
        lambda m: curves(lambda x: x.mean(), m, replace(jnp.ones((8, 8, 3)), jnp.zeros((8, 8, 3))))
    )(jnp.zeros((8, 8)))
    np.testing.assert_allclose(got.insertion, got.fractions, atol=1e-6)
    np.testing.assert_allclose(symmetric_relevance_gain(got), 0.0, atol=1e-6)


@jax.jit
def every(curve):
    return [metric(curve) for metric in METRICS.values()]


def test_edge_scores_stay_finite():
    for function in (lambda x: jnp.float32(1), lambda x: jnp.float32(0), lambda x: x.sum() - 1e4):
        for heatmap in (np.zeros((6, 7)), np.ones((6, 7)), np.eye(6, 7)):
            got = of(heatmap.astype(np.float32), function)
            assert np.isfinite(every(got)).all()
    saturated = of(function=lambda x: jnp.float32(1))
    assert deletion(saturated) == insertion(saturated) == 1.0
    assert pixel_flipping(saturated) == comprehensiveness(saturated) == 0.0


def test_a_map_that_is_not_finite_has_no_curve():
    heatmap = HEATMAP.copy()
    heatmap[0, 0] = np.nan
    assert np.isnan(of(heatmap).deletion).all()


@pytest.mark.parametrize("chunk", [None, 1, 4])
def test_deletion_curve_alone(chunk):
    fill = replace(IMAGE, BASELINE)
    curve = jax.jit(lambda h: deletion_curve(score, h, fill, steps=7, chunk=chunk))(HEATMAP)
    np.testing.assert_allclose(curve, loop(IMAGE, BASELINE, 7)[1], atol=1e-6)
