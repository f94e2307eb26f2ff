import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from kdxai import models
from kdxai.errors import UserError
from kdxai.training import config, optimisers, state


def rates(epochs, spe, **optim):
    settings = config.default().optim
    settings.update(optim)
    schedule = optimisers.learning_rate(settings, epochs, spe)
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


def test_the_triangle_of_airbench():
    """Its own code interpolates between these three points."""
    values = rates(10, 10, lr=2.0, schedule="triangle")
    expected = 2 * np.interp(np.arange(100), [0, 23, 100], [0.2, 1, 0.07])
    np.testing.assert_allclose(values, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("optim", "message"),
    [
        ({"schedule": "linear"}, "cosine, step, triangle, not 'linear'"),
        ({"warmup_epochs": 10.0}, "leaves nothing"),
        ({"schedule": "triangle", "warmup_epochs": 1.0}, "set optim.warmup_epochs=0"),
    ],
)
def test_bad_schedules_are_refused(optim, message):
    with pytest.raises(UserError, match=message):
        rates(10, 10, **optim)


def test_sgd_with_nesterov_momentum_and_weight_decay():
    """Three steps of the update of Sutskever et al. 2013, as PyTorch writes it, by hand."""
    lr, momentum, decay = 0.1, 0.9, 0.01
    tx = optimisers.optimizer(config.default().optim, lambda step: lr, 3)
    settings = config.default().optim
    settings.weight_decay = decay
    tx = optimisers.optimizer(settings, lambda step: lr, 3)
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


def test_adamw_by_hand():
    """In float64, as PyTorch writes it; kernels decay, and nothing else does."""
    settings = config.default().optim
    settings.update(name="adamw", weight_decay=0.1)
    tx = optimisers.optimizer(settings, lambda step: 0.01, 3)
    params = {"norm": {"scale": jnp.float32(2.0)}, "conv": {"kernel": jnp.float32(-1.5)}}
    state, values, moments = tx.init(params), [2.0, -1.5], [[0.0, 0.0], [0.0, 0.0]]
    for step, gradient in enumerate((0.5, -1.0, 0.25), 1):
        gradients = jax.tree.map(lambda leaf, g=gradient: jnp.full_like(leaf, g), params)
        updates, state = tx.update(gradients, state, params)
        params = optax.apply_updates(params, updates)
        for i, decay in enumerate((0.0, 0.1)):
            first = 0.9 * moments[i][0] + 0.1 * gradient
            second = 0.999 * moments[i][1] + 0.001 * gradient**2
            moments[i] = [first, second]
            change = first / (1 - 0.9**step) / (math.sqrt(second / (1 - 0.999**step)) + 1e-8)
            values[i] -= 0.01 * (change + decay * values[i])
    found = [float(params["norm"]["scale"]), float(params["conv"]["kernel"])]
    assert found == pytest.approx(values, rel=1e-5)


def test_what_adamw_decays():
    """By their dimensions: vectors and the tokens' positions do not shrink."""
    model = models.create("vit-1-8-2", num_classes=3, pool="token")
    params = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]
    decayed = flatten_dict(optimisers.are_kernels(params))
    assert {path[-1] for path in decayed} == {"kernel", "bias", "scale", "positions", "token"}
    for path, leaf in flatten_dict(params).items():
        assert decayed[path] == (leaf.ndim > 1 and path[-1] != "positions")


def trained(params, gradients, **settings):
    """Parameters after some steps of given gradients."""
    optim = config.default().optim
    optim.update(weight_decay=0.01, momentum=0.5, nesterov=False, **settings)
    tx = optimisers.optimizer(optim, lambda step: 0.1, len(gradients))
    state = tx.init(params)
    for gradient in gradients:
        updates, state = tx.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
    return params


@pytest.mark.parametrize(
    "name",
    [
        "airbench-4-8-8",
        *(pytest.param(name, marks=pytest.mark.slow) for name in ("resnet10-w4", "wrn-10-1")),
    ],
)
def test_biases_of_norms_alone_learn_faster(name):
    """They move as by a learning rate of 8 times, and decay as all do; those of shortcuts too."""
    model = models.create(name, num_classes=3)
    first = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    gradients = jax.tree.map(lambda leaf: jnp.full_like(leaf, 0.3), first["params"])
    last = trained(first["params"], [gradients], bias_factor=8.0)
    norms = {path[:-1] for path in flatten_dict(first["batch_stats"]) if path[-1] == "mean"}
    found, start = flatten_dict(last), flatten_dict(first["params"])
    assert len(norms) > 3
    for path, leaf in start.items():
        factor = 8 if path[:-1] in norms and path[-1] == "bias" else 1
        expected = leaf - 0.1 * (factor * 0.3 + 0.01 * leaf)
        np.testing.assert_allclose(found[path], expected, rtol=1e-5, err_msg=str(path))


@pytest.mark.parametrize("total", [10, 12])
def test_lookahead_by_hand(total):
    """In float64, as the published loop writes it: looks after 5 and 10 steps, the end at slow."""
    gradients = np.random.default_rng(0).normal(size=total)
    found = trained(jnp.float32(1.5), list(jnp.float32(gradients)), lookahead=0.9)
    fast = slow = 1.5
    velocity = 0.0
    for step, gradient in enumerate(gradients, 1):
        velocity = 0.5 * velocity + gradient + 0.01 * fast
        fast -= 0.1 * velocity
        if step in (5, 10):
            decay = 0.9**5 * (step / total) ** 3
            slow = decay * slow + (1 - decay) * fast
            fast = slow
    assert float(found) == pytest.approx(slow, rel=1e-5)


def test_totals_of_nothing_are_zero():
    assert state.Totals.zero().means() == (0.0, 0.0)
    assert jax.tree.leaves(state.Totals.zero())[0].shape == ()
