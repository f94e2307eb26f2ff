"""Sensitivity of explanations whose change under noise is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.metrics.robustness import neighbours, sensitivity, stability

IMAGE = np.random.default_rng(0).normal(size=(5, 4, 3)).astype(np.float32)
KEY = jax.random.key(3)


def test_matches_a_loop_in_float64():
    def explain(image):
        return jnp.tanh(image).sum(axis=-1)

    got = sensitivity(explain, IMAGE, KEY, radius=0.3, samples=6)
    noise = np.asarray(jax.random.uniform(KEY, (6, 5, 4, 3), minval=-0.3, maxval=0.3), np.float64)
    clean = np.tanh(IMAGE.astype(np.float64)).sum(axis=-1)
    moved = [np.tanh(IMAGE + e).sum(axis=-1) - clean for e in noise]
    ratios = [np.linalg.norm(m) / np.linalg.norm(clean) for m in moved]
    np.testing.assert_allclose(got.maximum, max(ratios), rtol=1e-5)
    np.testing.assert_allclose(got.average, np.mean(ratios), rtol=1e-5)


def test_a_map_that_ignores_the_image_does_not_move():
    assert sensitivity(lambda image: jnp.ones((5, 4)), IMAGE, KEY) == (0.0, 0.0)
    assert sensitivity(lambda image: image[..., 0], IMAGE, KEY, radius=0.0) == (0.0, 0.0)


def test_bounded_by_the_radius_and_linear_in_it():
    """E(x) = x moves by |e|, at most r sqrt(n) and about r sqrt(n / 3) for uniform noise."""
    one = sensitivity(lambda image: image, IMAGE, KEY, radius=0.1, samples=50)
    two = sensitivity(lambda image: image, IMAGE, KEY, radius=0.2, samples=50)
    most = 0.1 * np.sqrt(IMAGE.size) / np.linalg.norm(IMAGE)
    assert one.average <= one.maximum <= most
    assert one.average == pytest.approx(most / np.sqrt(3), rel=0.05)
    np.testing.assert_allclose(two, np.multiply(one, 2), rtol=1e-3)


def test_scale_free_and_defined_for_a_zero_map():
    def explain(image):
        return image[..., 0] ** 2

    a = sensitivity(explain, IMAGE, KEY)
    b = sensitivity(lambda image: 1e3 * explain(image), IMAGE, KEY)
    np.testing.assert_allclose(a, b, rtol=1e-4)
    zero = sensitivity(lambda image: image[..., 0], jnp.zeros((5, 4, 3)), KEY, radius=0.1)
    assert 0 < zero.average <= zero.maximum <= 0.1 * np.sqrt(20)


def test_serves_gradients():
    def saliency(image):
        return jnp.abs(jax.grad(lambda x: (x**3).sum())(image)).sum(axis=-1)

    got = jax.jit(lambda image, key: sensitivity(saliency, image, key))(IMAGE, KEY)
    assert 0 < got.average <= got.maximum


def answers(image):
    """Logits and a representation of two parts, one of them with a zero."""
    return image.sum((0, 1)), {"a": image[0], "b": jnp.stack([image.mean(), 0 * image.sum()])}


def test_stability_matches_a_loop_in_float64():
    explain = lambda image: jnp.maximum(image[..., 0], 0)  # noqa: E731
    noisy = neighbours(IMAGE, KEY, 1.5, 8)
    got = jax.jit(lambda x, n: stability(explain, answers, x, n, floor=0.2))(IMAGE, noisy)

    def numbers(image):
        image = np.asarray(image, np.float64)
        parts = np.concatenate([image[0].ravel(), [image.mean(), 0]])
        return np.maximum(image[..., 0], 0), image, parts, image.sum((0, 1))

    before, many = numbers(IMAGE), [numbers(x) for x in noisy]
    relative = lambda a, b: np.linalg.norm((a - b) / np.maximum(np.abs(b), 0.2))  # noqa: E731
    lengths = [np.linalg.norm(e - before[0]) / np.linalg.norm(x - IMAGE) for e, x, *_ in many]
    same = [one for one in many if one[3].argmax() == before[3].argmax()]
    assert 0 < len(same) < len(many)  # the noise changes some predictions
    moved = np.array([[relative(a, b) for a, b in zip(o, before, strict=True)] for o in same])
    outputs = [np.linalg.norm(one[3] - before[3]) for one in same]
    want = {
        "lipschitz": max(lengths),
        "relative_input": (moved[:, 0] / moved[:, 1]).max(),
        "relative_representation": (moved[:, 0] / moved[:, 2]).max(),
        "relative_output": (moved[:, 0] / np.maximum(outputs, 0.2)).max(),
    }
    for name, value in want.items():
        np.testing.assert_allclose(getattr(got, name), value, rtol=1e-4, err_msg=name)


def test_what_stays_and_what_has_no_neighbour_of_its_class():
    noisy = neighbours(IMAGE, KEY, 0.1, 3)
    measure = jax.jit(
        lambda explain, noisy: stability(explain, answers, IMAGE, noisy), static_argnums=0
    )
    assert measure(lambda image: jnp.ones((5, 4)), noisy) == (0, 0, 0, 0)
    found = measure(lambda image: image[..., 0], -noisy)
    assert found.lipschitz > 0 and found[1:] == (0, 0, 0)
