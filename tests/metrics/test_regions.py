"""Regions that go one after the other: by hand, and against a loop in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.errors import UserError
from kdxai.metrics import perturbation
from kdxai.metrics.regions import curve, each_alone, irof, monotonicity, selectivity, squares

RNG = np.random.default_rng(0)
IMAGE = RNG.random((6, 8, 2)).astype(np.float32)
FILL = perturbation.replace(IMAGE, np.zeros_like(IMAGE))
SQUARES = squares((6, 8), 3)  # the last column of squares is cut


def softened(image):
    return jnp.tanh(image.sum() / 30)


@jax.jit
def fall(heatmap):
    return curve(softened, heatmap, FILL, SQUARES, chunk=4)


def test_squares_of_an_image_that_they_do_not_divide():
    np.testing.assert_array_equal(
        SQUARES, np.repeat([[0, 0, 0, 1, 1, 1, 2, 2], [3, 3, 3, 4, 4, 4, 5, 5]], 3, axis=0)
    )
    alone = each_alone(SQUARES)
    assert alone.shape == (6, 6, 8) and (alone.sum(0) == 1).all() and alone[4, 4, 4]
    with pytest.raises(UserError, match="6x8 image into one region; take smaller"):
        squares((6, 8), 8)
    with pytest.raises(UserError, match="1 pixel or more to a side, not 0"):
        squares((6, 8), 0)


def test_the_curve_takes_the_most_relevant_mean_first():
    heatmap = RNG.normal(size=(6, 8)).astype(np.float32)
    order = np.argsort([-heatmap[r == SQUARES].mean() for r in range(6)])
    image, want = IMAGE.astype(np.float64), [np.tanh(IMAGE.sum() / 30)]
    for region in order:
        image[region == SQUARES] = 0
        want.append(np.tanh(image.sum() / 30))
    got = fall(heatmap)
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_allclose(selectivity(got), np.trapezoid(want) / 6, atol=1e-6)
    np.testing.assert_allclose(irof(got), 1 - np.trapezoid(want) / 6 / want[0], atol=1e-6)
    assert monotonicity(got) == 1  # all pixels are positive: the more, the higher


def test_a_constant_map_goes_in_one_order_whatever_its_constant():
    flat = [fall(np.full((6, 8), c, np.float32)) for c in (0.0, 0.1, -3.0)]
    np.testing.assert_array_equal(flat[0], flat[1])
    np.testing.assert_array_equal(flat[0], flat[2])
    falls = -np.diff(flat[0])
    assert not (np.diff(falls) < 0).all()  # by chance, not by what the squares hold


def test_what_changes_nothing_is_no_fall():
    """Of a score of the left half, the right half's regions change nothing: exactly."""
    weights = np.random.default_rng(3).random((6, 4, 2)).astype(np.float32) / 7

    @jax.jit
    @jax.vmap
    def of_left(heatmap):
        half = lambda image: jnp.tanh((image[:, :4] * weights).sum())  # noqa: E731
        return curve(half, heatmap, FILL, squares((6, 8), 2), chunk=5)

    right_first = np.broadcast_to(np.arange(8, dtype=np.float32), (3, 6, 8))
    scores = of_left(right_first)
    assert scores.shape == (3, 13)
    assert (scores[:, :7] == scores[:, :1]).all() and (scores[:, 7:] < scores[:, :1]).all()


def test_areas_by_hand():
    # Falls at once; falls at the end; rises; of a score of 0.
    for scores, area, over in [
        ([1, 0, 0, 0, 0], 1 / 8, 7 / 8),
        ([2, 2, 2, 2, 0], 7 / 4, 1 / 8),
        ([1, 3, 3, 3, 3], 11 / 4, -7 / 4),
        ([0, 0, 0, 0, 0], 0, 0),
    ]:
        scores = jnp.float32(scores)
        assert selectivity(scores) == pytest.approx(area)
        assert irof(scores) == pytest.approx(over)


def test_monotonicity_counts_the_steps_that_do_not_fall():
    for scores, share in [([4, 3, 3, 1], 1), ([4, 5, 3, 1], 2 / 3), ([1, 2, 3, 4], 0)]:
        assert monotonicity(jnp.float32(scores)) == pytest.approx(share)
