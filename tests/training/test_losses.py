import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdxai.training import losses

Z_S, Z_T = np.random.default_rng(0).normal(scale=3, size=(2, 8, 10))
LABELS = np.arange(8)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing):
    target = np.eye(10)[LABELS] * (1 - smoothing) + smoothing / 10
    expected = -(target * log_softmax(Z_S, axis=-1)).sum(-1)
    actual = jax.vmap(lambda z, y: losses.cross_entropy(z, y, smoothing))(Z_S, LABELS)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 0.5), (6.0, 0.95), (4.0, 1.0)])
def test_the_papers_loss(temperature, alpha):
    soft = -(softmax(Z_T / temperature, axis=-1) * log_softmax(Z_S / temperature, axis=-1)).sum(-1)
    hard = -log_softmax(Z_S, axis=-1)[np.arange(8), LABELS]
    expected = alpha * temperature**2 * soft + (1 - alpha) * hard
    actual = jax.vmap(
        lambda s, t, y: losses.knowledge_distillation(s, t, y, temperature=temperature, alpha=alpha)
    )(Z_S, Z_T, LABELS)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


def kd(student, teacher):
    return losses.distillation(student, teacher, 6.0)


def test_the_teacher_gets_no_gradient():
    np.testing.assert_array_equal(jax.grad(kd, argnums=1)(Z_S[0], Z_T[0]), 0)


def test_a_student_equal_to_its_teacher_has_no_gradient():
    np.testing.assert_allclose(jax.grad(kd)(jnp.float32(Z_T[0]), Z_T[0]), 0, atol=1e-5)


def test_the_gradient_is_temperature_times_the_difference_of_probabilities():
    expected = 6.0 * (softmax(Z_S[0] / 6) - softmax(Z_T[0] / 6))
    np.testing.assert_allclose(jax.grad(kd)(Z_S[0], Z_T[0]), expected, atol=1e-5)
