import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from kdxai.errors import UserError
from kdxai.training import config, state


def rates(epochs, spe, **optim):
    settings = config.default().optim
    settings.update(optim)
    schedule = state.learning_rate(settings, epochs, spe)
    return [float(schedule(step)) for step in range(epochs * spe)]


def test_published_steps():
    values = rates(200, 10, schedule="step")
    assert [round(values[e * 10], 6) for e in (0, 59, 60, 120, 160, 199)] == [
        0.1, 0.1, 0.02, 0.004, 0.0008, 0.0008,
    ]  # fmt: skip


def test_warm_up_and_cosine():
    values = rates(10, 10, lr=0.4, warmup_epochs=2.0)
    np.testing.assert_allclose(values[:20], 0.4 * np.arange(1, 21) / 20, rtol=1e-5)
    cosine = [0.2 * (1 + math.cos(math.pi * step / 80)) for step in range(80)]
    np.testing.assert_allclose(values[20:], cosine, atol=1e-6)


@pytest.mark.parametrize(
    ("optim", "message"),
    [({"schedule": "linear"}, "'cosine' or 'step'"), ({"warmup_epochs": 10.0}, "leaves nothing")],
)
def test_bad_schedules_are_refused(optim, message):
    with pytest.raises(UserError, match=message):
        rates(10, 10, **optim)


def test_sgd_with_nesterov_momentum_and_weight_decay():
    """Three steps of the update of Sutskever et al. 2013, as PyTorch writes it, by hand."""
    lr, momentum, decay = 0.1, 0.9, 0.01
    tx = state.optimizer(config.default().optim, lambda step: lr)
    settings = config.default().optim
    settings.weight_decay = decay
    tx = state.optimizer(settings, lambda step: lr)
    param, opt_state = jnp.float32(2.0), None
    opt_state = tx.init(param)
    expected, velocity = 2.0, 0.0
    for gradient in (0.5, -1.0, 0.25):
        updates, opt_state = tx.update(jnp.float32(gradient), opt_state, param)
        param = optax.apply_updates(param, updates)
        g = gradient + decay * expected
        velocity = momentum * velocity + g
        expected -= lr * (g + momentum * velocity)
        assert float(param) == pytest.approx(expected, rel=1e-5)


def test_totals_of_nothing_are_zero():
    assert state.Totals.zero().means() == (0.0, 0.0)
    assert jax.tree.leaves(state.Totals.zero())[0].shape == ()
