import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdxai.errors import UserError
from kdxai.training import config, objectives
from kdxai.training.objectives import Outputs
from kdxai.training.objectives.logits import decoupled

Z_S, Z_T = np.random.default_rng(0).normal(scale=3, size=(2, 8, 10))
LABELS = np.arange(8)


def settings(teacher="", name=None, smoothing=0.0, temperature=6.0, alpha=0.95):
    settings = config.default()
    settings.teacher, settings.objective.name = teacher, name
    settings.optim.label_smoothing = smoothing
    settings.distill.temperature, settings.distill.alpha = temperature, alpha
    return settings


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing):
    target = np.eye(10)[LABELS] * (1 - smoothing) + smoothing / 10
    expected = -(target * log_softmax(Z_S, axis=-1)).sum(-1)
    actual = jax.vmap(lambda z, y: objectives.cross_entropy(z, y, smoothing))(Z_S, LABELS)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    chosen = objectives.choose(settings(smoothing=smoothing))
    assert not chosen.taught
    actual = chosen.loss(Outputs(Z_S), None, LABELS)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 0.5), (6.0, 0.95), (4.0, 1.0)])
def test_the_papers_loss(temperature, alpha, smoothing):
    target = np.eye(10)[LABELS] * (1 - smoothing) + smoothing / 10
    soft = -(softmax(Z_T / temperature, axis=-1) * log_softmax(Z_S / temperature, axis=-1)).sum(-1)
    hard = -(target * log_softmax(Z_S, axis=-1)).sum(-1)
    expected = alpha * temperature**2 * soft + (1 - alpha) * hard
    chosen = objectives.choose(
        settings("runs/teacher", None, smoothing, temperature=temperature, alpha=alpha)
    )
    assert chosen.taught
    actual = chosen.loss(Outputs(Z_S), Outputs(Z_T), LABELS)
    np.testing.assert_allclose(actual, expected, rtol=1e-5)


@pytest.mark.parametrize("smoothing", [None, 0.3])
def test_smooth_labels_are_an_objective_of_their_own(smoothing):
    config = settings(name="label_smoothing")
    config.objective.smoothing = smoothing
    chosen, share = objectives.choose(config), 0.1 if smoothing is None else smoothing
    same = objectives.choose(settings(smoothing=share))
    expected = same.loss(Outputs(Z_S), None, LABELS)
    np.testing.assert_array_equal(chosen.loss(Outputs(Z_S), None, LABELS), expected)


def test_standardised_logits_are_softened_and_the_labels_are_not():
    config = settings("runs/teacher", alpha=0.5)
    config.objective.standardise = True
    s, t = ((z - z.mean(-1, keepdims=True)) / z.std(-1, keepdims=True) / 6 for z in (Z_S, Z_T))
    soft = -(softmax(t, axis=-1) * log_softmax(s, axis=-1)).sum(-1)
    hard = -log_softmax(Z_S, axis=-1)[np.arange(8), LABELS]
    actual = objectives.choose(config).loss(Outputs(Z_S), Outputs(Z_T), LABELS)
    np.testing.assert_allclose(actual, 0.5 * 36 * soft + 0.5 * hard, rtol=1e-5)


@pytest.mark.parametrize(("weight", "beta"), [(None, None), (2.0, 1.5)])
def test_dkd_is_added_to_the_cross_entropy(weight, beta):
    config = settings("runs/teacher", "dkd", temperature=4.0)
    config.objective.weight, config.objective.beta = weight, beta
    options = {"temperature": 4.0, "beta": 8.0 if beta is None else beta}
    term = jax.vmap(lambda s, t, y: decoupled(s, t, y, **options))(Z_S, Z_T, LABELS)
    hard = -log_softmax(Z_S, axis=-1)[np.arange(8), LABELS]
    actual = objectives.choose(config).loss(Outputs(Z_S), Outputs(Z_T), LABELS)
    np.testing.assert_allclose(actual, hard + (weight or 1.0) * term, rtol=1e-5)
    config.objective.weight = 0.0  # is no term, whatever it would be
    actual = objectives.choose(config).loss(Outputs(Z_S), Outputs(Z_T * np.nan), LABELS)
    np.testing.assert_allclose(actual, hard, rtol=1e-5)


@pytest.mark.parametrize(
    ("teacher", "name", "message"),
    [
        ("", "nothing", "no objective 'nothing'; there are cross_entropy, label_smoothing, know"),
        ("", "knowledge_distillation", "learns from a teacher; set teacher"),
        ("runs/teacher", "cross_entropy", "learns from no teacher; leave one of them out"),
    ],
)
def test_an_objective_and_a_teacher_that_do_not_fit(teacher, name, message):
    with pytest.raises(UserError, match=message):
        objectives.choose(settings(teacher, name))


def kd(student, teacher):
    return objectives.distillation(student, teacher, 6.0)


def test_the_teacher_gets_no_gradient():
    np.testing.assert_array_equal(jax.grad(kd, argnums=1)(Z_S[0], Z_T[0]), 0)


def test_a_student_equal_to_its_teacher_has_no_gradient():
    np.testing.assert_allclose(jax.grad(kd)(jnp.float32(Z_T[0]), Z_T[0]), 0, atol=1e-5)


def test_the_gradient_is_temperature_times_the_difference_of_probabilities():
    expected = 6.0 * (softmax(Z_S[0] / 6) - softmax(Z_T[0] / 6))
    np.testing.assert_allclose(jax.grad(kd)(Z_S[0], Z_T[0]), expected, atol=1e-5)
