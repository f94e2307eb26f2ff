"""Expected Gradients and GradientSHAP, where calculus gives the answer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.errors import UserError
from kdxai.explain import METHODS, Classifier
from kdxai.explain.expectation import draws

RNG = np.random.default_rng(3)
SHAPE = (4, 5, 3)
IMAGE = RNG.normal(size=SHAPE).astype(np.float32)
WEIGHTS = RNG.normal(size=SHAPE).astype(np.float32)
BACKGROUND = RNG.normal(size=(4, *SHAPE)).astype(np.float32)


def model(logit, background=BACKGROUND):
    return Classifier(lambda x: x, lambda a: jnp.stack([0.0, logit(a)]), background=background)


LINEAR = model(lambda x: (WEIGHTS * x).sum())
QUADRATIC = model(lambda x: (WEIGHTS * x**2).sum() / 2)


@pytest.mark.parametrize("samples", [4, 8])
def test_a_linear_model_is_exact_where_all_images_are_drawn_alike(samples):
    explain = jax.jit(partial(METHODS["expected_gradients"], LINEAR, samples=samples))
    expected = (WEIGHTS * (IMAGE - BACKGROUND.mean(0))).sum(-1)
    np.testing.assert_allclose(explain(IMAGE, 1), expected, rtol=1e-5, atol=1e-5)


def test_the_expectation_of_a_quadratic():
    """Of each baseline (x - x') w (x + x') / 2; a time errs by 1 / (2 samples) at most."""
    explain = jax.jit(partial(METHODS["expected_gradients"], QUADRATIC, samples=4000, chunk=4000))
    found = explain(IMAGE, 1)
    expected = (WEIGHTS * (IMAGE**2 - BACKGROUND**2) / 2).mean(0).sum(-1)
    np.testing.assert_allclose(found, expected, atol=0.02 * np.abs(expected).max())
    change = (WEIGHTS * (IMAGE**2 - BACKGROUND**2)).sum((1, 2, 3)).mean() / 2
    np.testing.assert_allclose(found.sum(), change, atol=0.02 * np.abs(expected).sum())


def test_noise_raises_a_quadratic_by_its_variance():
    """E (x + e - x') w (x' + t (x + e - x')) over noise e has w s^2 / 2 more."""
    options = {"samples": 4000, "chunk": 4000, "key": jax.random.key(4)}
    draw = lambda x: (  # noqa: E731
        METHODS["gradient_shap"](QUADRATIC, x, 1, noise=0.2, **options)
        - METHODS["expected_gradients"](QUADRATIC, x, 1, **options)
    )
    deviation = 0.2 * np.ptp(IMAGE)
    expected = WEIGHTS.sum(-1) * deviation**2 / 2
    scale = np.abs(WEIGHTS).sum(-1).max() * deviation * np.abs(BACKGROUND - IMAGE).max()
    np.testing.assert_allclose(jax.jit(draw)(IMAGE), expected, atol=5 * scale / np.sqrt(4000))


def test_draws_are_even():
    places, times = draws(list(jax.random.split(jax.random.key(1), 3)), 3, 9)
    assert np.bincount(places).tolist() == [3, 3, 3]
    assert sorted(np.floor(np.float64(times) * 9)) == list(range(9))
    assert sorted(draws(list(jax.random.split(jax.random.key(2), 3)), 20, 5)[0].tolist()) != [
        *range(5)
    ]


def test_a_mosaic_has_mosaics_as_its_background():
    """As the measure `grid` explains: four images in one, by a classifier of one."""
    weights = jnp.tile(WEIGHTS, (2, 2, 1))
    one = model(lambda x: (weights * x).sum())
    mosaic = jnp.tile(IMAGE, (2, 2, 1))
    found = METHODS["expected_gradients"](one, mosaic, 1, samples=4)
    expected = (WEIGHTS * (IMAGE - BACKGROUND.mean(0))).sum(-1)
    np.testing.assert_allclose(found, np.tile(expected, (2, 2)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["expected_gradients", "gradient_shap"])
def test_without_images_that_stand_for_the_data(method):
    with pytest.raises(UserError, match=r"stand for the data: .*Classifier\(background=\.\.\.\)"):
        METHODS[method](LINEAR._replace(background=None), IMAGE, 1)
    for other in (BACKGROUND[0], BACKGROUND[:, :3], BACKGROUND[..., :2], BACKGROUND[:0]):
        with pytest.raises(UserError, match=r"background must be \[n, H, W, C\]"):
            METHODS[method](LINEAR._replace(background=other), IMAGE, 1)
