"""What is explained may be any number that is made of the logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai import UserError
from kdxai.explain import METHODS, Classifier, targets

RNG = np.random.default_rng(0)
IMAGE = jnp.float32(RNG.normal(size=(6, 6, 4)))
HEAD = jnp.float32(RNG.normal(size=(4, 3)))
MODEL = Classifier(lambda image: jnp.abs(image[::2, ::2]), lambda f: f.mean((0, 1)) @ HEAD, HEAD)


def test_a_contrast_is_the_difference_of_two_maps_where_they_are_linear():
    contrast = targets.difference(0, 2)
    for method in ("cam", "grad_cam", "hires_cam"):
        draw = METHODS[method]
        expected = draw(MODEL, IMAGE, 0, relu=False) - draw(MODEL, IMAGE, 2, relu=False)
        found = draw(MODEL, IMAGE, contrast, relu=False)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    falls = [METHODS["occlusion"](MODEL, IMAGE, c) for c in (0, 2, contrast)]
    np.testing.assert_allclose(falls[2], falls[0] - falls[1], rtol=1e-4, atol=1e-6)


def test_a_probability_has_the_derivative_of_a_softmax():
    p = np.exp(np.float64(MODEL(IMAGE)))
    p /= p.sum()
    slope = p[1] * ((np.arange(3) == 1) - p)
    maps = [METHODS["grad_cam"](MODEL, IMAGE, c, relu=False) for c in range(3)]
    expected = sum(s * m for s, m in zip(slope, maps, strict=True))
    for method in ("grad_cam", "cam"):
        found = METHODS[method](MODEL, IMAGE, targets.probability(1), relu=False)
        scale = 1 if method == "grad_cam" else 9  # CAM does not average over the cells
        np.testing.assert_allclose(found, scale * expected, rtol=1e-4, atol=1e-6)


def test_a_target_is_a_pytree():
    """So that its classes may differ in a batch, and are no part of the program."""
    images, classes = jnp.stack([IMAGE, 2 * IMAGE]), jnp.array([0, 1])
    of = lambda image, c: METHODS["gradient"](MODEL, image, targets.difference(c, 2))  # noqa: E731
    found = jax.jit(jax.vmap(of))(images, classes)
    np.testing.assert_allclose(found[1], of(images[1], 1), rtol=1e-6)


def test_any_function_of_the_logits():
    found = METHODS["gradient"](MODEL, IMAGE, lambda logits: logits.sum())
    contribution = jnp.abs(jnp.sign(IMAGE) * HEAD.sum(1) / 9).max(-1)
    expected = jnp.zeros((6, 6)).at[::2, ::2].set(contribution[::2, ::2])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_a_class_that_does_not_exist_makes_the_map_nan():
    for target in (targets.difference(0, 3), targets.probability(-1)):
        assert np.isnan(METHODS["grad_cam"](MODEL, IMAGE, target)).all()


def test_a_target_is_one_number():
    with pytest.raises(UserError, match=r"one number for the logits.*\(3,\)"):
        METHODS["grad_cam"](MODEL, IMAGE, lambda logits: logits)
