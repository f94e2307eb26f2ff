"""Explanations on the input, where calculus gives the answer."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.errors import UserError
from kdxai.explain import METHODS, Classifier, guided_relu, integrated_gradients_with_error
from kdxai.explain.gradients import (
    gradient,
    gradient_x_input,
    guided_backpropagation,
    guided_grad_cam,
    integrated_gradients,
    smooth_grad,
    var_grad,
)

SHAPE = (6, 5, 3)
rng = np.random.default_rng(11)
IMAGE = rng.normal(size=SHAPE).astype(np.float32)
WEIGHTS = rng.normal(size=SHAPE).astype(np.float32)


def model(logit):
    """A classifier whose class 1 has `logit(image)`, and class 0 nothing."""
    return Classifier(lambda x: x, lambda a: jnp.stack([0.0, logit(a)]))


LINEAR = model(lambda x: (WEIGHTS * x).sum() + 2)
QUADRATIC = model(lambda x: (WEIGHTS * x**2).sum() / 2)


def test_a_linear_model():
    methods = (gradient, smooth_grad, gradient_x_input, integrated_gradients, var_grad)
    maps = jax.jit(jax.vmap(lambda c: [method(LINEAR, IMAGE, c) for method in methods]))
    nothing, one = zip(*maps(jnp.arange(2)), strict=True)
    sensitivity, contribution = np.abs(WEIGHTS).max(-1), (WEIGHTS * IMAGE).sum(-1)
    expected = (sensitivity, sensitivity, contribution, contribution, np.zeros_like(sensitivity))
    for actual, desired in zip(one, expected, strict=True):
        np.testing.assert_allclose(actual, desired, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(nothing, np.zeros((5, *SHAPE[:2])))


@pytest.mark.parametrize("baseline", [0.0, 0.7, IMAGE[::-1] - 1], ids=["zero", "grey", "image"])
def test_integrated_gradients_of_a_linear_model_are_exact_in_one_step(baseline):
    values, error = integrated_gradients_with_error(LINEAR, IMAGE, 1, baseline=baseline, steps=1)
    np.testing.assert_allclose(values, WEIGHTS * (IMAGE - baseline), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(error, 0, atol=1e-4)


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_the_completeness_error_of_a_cubic_by_hand(steps):
    """sum over i of 3 ((i + 1/2) / n)^2 / n = 1 - 1 / (4 n^2): so much the midpoint rule misses."""
    cubic = model(lambda x: (x**3).sum())
    values, error = integrated_gradients_with_error(cubic, IMAGE, 1, steps=steps)
    whole = (IMAGE.astype(np.float64) ** 3).sum()
    np.testing.assert_allclose(error, -whole / (4 * steps**2), rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(values, IMAGE**3 * (1 - 1 / (4 * steps**2)), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", [guided_backpropagation, guided_grad_cam])
@pytest.mark.parametrize("activation", [jax.nn.relu, jax.nn.gelu, lambda x: x])
def test_guided_methods_of_a_network_that_is_not_guided(method, activation):
    def logits(x, activation=activation):
        return jax.jit(activation)(x).sum() * jnp.ones(2)

    plain = Classifier(lambda x: x, logits, guided=logits)
    with pytest.raises(UserError, match="no guided_relu in Classifier.guided"):
        method(plain, IMAGE, 0)
    # However deep it lies: in a loop, in a jitted function, under jax.checkpoint.
    for wrap in (
        jax.jit,
        jax.checkpoint,
        lambda f: lambda x: jax.lax.scan(lambda c, _: (f(c), None), x, None, length=1)[0],
    ):
        activation = wrap(guided_relu)
        guided = plain._replace(guided=lambda x, f=activation: logits(x, f))
        jax.eval_shape(lambda x, c=guided: method(c, x, 0), IMAGE)


@pytest.mark.parametrize("baseline", [0.0, 0.5])
def test_completeness_on_a_network(baseline, build, data):
    classifier, image = build("middle"), data["image"][1]

    @partial(jax.jit, static_argnums=0)
    def explain(steps):
        options = dict(baseline=baseline, steps=steps, chunk=steps)
        total = integrated_gradients(classifier, image, 3, **options).sum()
        return total, integrated_gradients_with_error(classifier, image, 3, **options).error

    start = classifier(jnp.full_like(image, baseline))[3]
    errors = []
    for steps in (2, 16, 128):
        total, error = explain(steps)
        np.testing.assert_allclose(total - (data["logits"][1, 3] - start), error, atol=1e-5)
        errors.append(abs(float(error)))
    if baseline == 0:  # without biases ahead of its head the model is linear on the way from black
        assert max(errors) < 1e-5
    else:
        assert errors[0] > 4 * errors[1] > 16 * errors[2] > 0


def test_noise_around_a_quadratic():
    """dy/dx = w x is linear in the noise: mean w x, variance (w s)^2, s = noise (max - min)."""
    options = dict(samples=4000, noise=0.2, chunk=4000, key=jax.random.key(5))
    deviation = 0.2 * (IMAGE.max() - IMAGE.min())
    mean = smooth_grad(QUADRATIC, IMAGE, 1, **options)
    five_sigma = 5 * deviation * np.abs(WEIGHTS).max() / np.sqrt(4000)
    np.testing.assert_allclose(mean, np.abs(WEIGHTS * IMAGE).max(-1), atol=five_sigma)
    variance = var_grad(QUADRATIC, IMAGE, 1, **options)
    expected = (WEIGHTS**2).max(-1) * deviation**2
    np.testing.assert_allclose(variance, expected, rtol=5 * np.sqrt(2 / 4000))


@pytest.mark.parametrize("method", [smooth_grad, var_grad])
def test_the_key_decides_the_noise(method):
    default = method(QUADRATIC, IMAGE, 1)
    np.testing.assert_array_equal(default, method(QUADRATIC, IMAGE, 1, key=jax.random.key(0)))
    assert np.any(default != method(QUADRATIC, IMAGE, 1, key=jax.random.key(1)))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("smooth_grad", {"samples": 5}),
        ("var_grad", {"samples": 5}),
        ("integrated_gradients", {"steps": 5}),
        ("occlusion", {}),
        ("score_cam", {}),
        ("ablation_cam", {}),
    ],
)
def test_chunks_do_not_change_the_map(name, options, build, data):
    """Chunks of 3, which divides neither 5 samples nor 8 channels nor 16 windows, and one chunk."""
    explain = partial(METHODS[name], build("middle"), **options)
    maps = jax.jit(lambda x: [explain(x, 3, chunk=chunk) for chunk in (3, 100)])
    some, one = maps(data["image"][1])
    np.testing.assert_allclose(some, one, atol=1e-5 * np.abs(one).max())


def test_guided_relu_by_hand():
    x = jnp.array([-1.0, 0.0, 2.0, 3.0, 4.0])
    value, pull = jax.vjp(guided_relu, x)
    np.testing.assert_array_equal(value, [0, 0, 2, 3, 4])
    np.testing.assert_array_equal(pull(jnp.array([1.0, 1.0, -1.0, 2.0, 0.0]))[0], [0, 0, 0, 2, 0])


def test_guided_backpropagation_by_hand():
    """y = -relu(a) + 2 relu(b) with a, b = x: the path with the negative weight is closed."""

    def logits(relu):
        return lambda x: jnp.stack([0.0, (2 * relu(x[..., 1]) - relu(x[..., 0])).sum()])

    image = jnp.array([[[3.0, 1.0], [3.0, -1.0]]])
    classifier = Classifier(lambda x: x, logits(jax.nn.relu), guided=logits(guided_relu))
    np.testing.assert_array_equal(gradient(classifier, image, 1), [[2, 1]])
    np.testing.assert_array_equal(guided_backpropagation(classifier, image, 1), [[2, 0]])


@pytest.mark.parametrize("method", [guided_backpropagation, guided_grad_cam])
def test_guided_methods_need_a_guided_model(method):
    with pytest.raises(UserError, match=r"guided_relu.*Classifier\(guided=\.\.\.\)"):
        method(LINEAR, IMAGE, 1)


def test_one_sample_has_no_variance():
    with pytest.raises(UserError, match="at least 2 samples"):
        var_grad(LINEAR, IMAGE, 1, samples=1)
