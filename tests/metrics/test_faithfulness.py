"""Average drop and its kin against float64, hand values and the algebra they must obey."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, logsumexp

from kdxai.errors import UserError
from kdxai.metrics.faithfulness import (
    METRICS,
    average_drop,
    average_gain,
    centred_logit,
    increase,
    log_odds,
    logit_drop,
    logit_increase,
    relative_drop,
)


def logits(p):
    """Of two classes, the second with probability p."""
    with np.errstate(divide="ignore"):
        return np.float32([np.log1p(-np.float64(p)), np.log(np.float64(p))])


@pytest.mark.parametrize(
    ("before", "after", "drop", "gain", "rose"),
    [
        (0.8, 0.2, 0.75, 0.0, 0.0),
        (0.8, 0.9, 0.0, 0.5, 1.0),
        (0.8, 0.8, 0.0, 0.0, 0.0),
        (0.8, 0.0, 1.0, 0.0, 0.0),
        (1.0, 0.25, 0.75, 0.0, 0.0),  # saturated: nothing to gain
        (1.0, 1.0, 0.0, 0.0, 0.0),
        (0.0, 0.5, 0.0, 0.5, 1.0),  # nothing to lose
        (0.0, 0.0, 0.0, 0.0, 0.0),
        (0.0, 1.0, 0.0, 1.0, 1.0),
        (1e-42, 0.0, 1.0, 0.0, 0.0),  # subnormal as a probability, not as a logit
        (1e-30, 0.5e-30, 0.5, 0.0, 0.0),
        (1e-60, 0.25e-60, 0.75, 0.0, 0.0),
    ],
)
def test_hand_values(before, after, drop, gain, rose):
    before, after = logits(before), logits(after)
    np.testing.assert_allclose(average_drop(before, after, 1), drop, atol=2e-5)
    np.testing.assert_allclose(average_gain(before, after, 1), gain, atol=1e-6)
    assert increase(before, after, 1) == rose


def in_float64(before, after, c):
    """Drop, gain and increase from 1 - p = q = exp(lse(z without c) - lse(z))."""
    before, after = before.astype(np.float64), after.astype(np.float64)
    log_p, log_p_after = log_softmax(before)[c], log_softmax(after)[c]
    log_q, log_q_after = (logsumexp(np.delete(z, c)) - logsumexp(z) for z in (before, after))
    return {
        "average_drop": max(0, -np.expm1(log_p_after - log_p)),
        "average_gain": max(0, -np.expm1(log_q_after - log_q)),
        "increase": float(log_q_after < log_q),
    }


@pytest.mark.parametrize("size", [1.0, 5.0, 20.0, 60.0, 200.0])
def test_confident_networks_lose_no_digits(size):
    """Softmax in float32 takes 1 - 1e-9 for 1; logits of 20 and more are those of good networks."""
    rng = np.random.default_rng(int(size))
    before = rng.normal(size=(300, 10)).astype(np.float32) * 2
    before[:, 3] += size
    after = before + rng.normal(size=(300, 10)).astype(np.float32)
    both = jax.jit(jax.vmap(lambda b, a: [METRICS[name](b, a, 3) for name in names]))
    names = ("average_drop", "average_gain", "increase")
    for name, got in zip(names, both(before, after), strict=True):
        want = [in_float64(b, a, 3)[name] for b, a in zip(before, after, strict=True)]
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4, err_msg=name)
    assert 0.2 < np.mean(want) < 0.8  # of the increases: the test can fail


def test_the_gain_of_a_saturated_network_by_hand():
    """e^-20 to e^-22: in probabilities of float32 both are 1."""
    before, after = np.zeros((2, 10), np.float32)
    before[0], after[0] = 20, 22
    assert increase(before, after, 0) == 1
    np.testing.assert_allclose(average_gain(before, after, 0), 1 - np.exp(-2), atol=1e-5)
    assert average_gain(after, before, 0) == increase(after, before, 0) == 0


def test_log_probabilities_are_logits():
    p, after = [0.2, 0.5, 0.3], [0.1, 0.75, 0.15]
    np.testing.assert_allclose(average_gain(np.log(p), np.log(after), 1), 0.5, rtol=1e-5)
    np.testing.assert_allclose(average_drop(np.log(p), np.log(after), 2), 0.5, rtol=1e-5)


def test_log_odds():
    z = np.float32([3.0, -1.0, 0.5])
    for c in range(3):
        p = np.exp(z[c] - logsumexp(z))
        np.testing.assert_allclose(log_odds(z, c), np.log(p / (1 - p)), rtol=1e-5)
    assert np.isnan(log_odds(z, 3)) and np.isnan(log_odds(z, -1))
    assert np.isnan(centred_logit(z, 3))


@pytest.mark.parametrize("shape", [(1,), (2, 10), ()])
def test_what_are_no_logits_of_an_image(shape):
    for metric in (average_drop, average_gain, increase):
        with pytest.raises(UserError, match=r"at least 2.*return \[0, z\]"):
            metric(np.zeros(shape), np.zeros(shape), 0)


def test_relative_drop_serves_the_notebook_with_logits():
    """max(0, (m - m') / m), negative logits included, where a rise then counts as a drop."""
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 500)).astype(np.float32)
    want = np.maximum(0, (before.astype(np.float64) - after) / before)
    got = jax.vmap(relative_drop)(before, after)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    assert relative_drop(-1.0, -0.5) == 0.5
    assert relative_drop(0.0, -3.0) == 0.0
    assert relative_drop(1e-42, 0.0) == 0.0


def test_logit_drop_is_free_of_offset_and_temperature():
    z, masked = np.random.default_rng(1).normal(size=(2, 10)).astype(np.float32)
    want = ((z[3] - z.mean()) - (masked[3] - masked.mean())) / z.std()
    np.testing.assert_allclose(logit_drop(z, masked, 3), want, rtol=1e-5)
    np.testing.assert_allclose(logit_drop(z / 6 + 4, masked / 6 + 4, 3), want, rtol=1e-4)
    # The relative drop of the same logits is not.
    assert abs(relative_drop(z[3], masked[3]) - relative_drop(z[3] + 4, masked[3] + 4)) > 0.1


def test_logit_drop_keeps_the_sign_and_takes_no_spread():
    z = np.float32([-1.0, 1.0])  # a deviation of 1
    assert logit_drop(z, np.float32([-3.0, 3.0]), 1) == -2.0
    assert logit_drop(z, np.float32([3.0, -3.0]), 1) == 4.0
    assert logit_increase(z, np.float32([-3.0, 3.0]), 1) == 1.0
    assert logit_increase(z, z + 5, 1) == 0.0
    # The mean of ten times 0.1 is not 0.1 in float32.
    assert logit_drop(np.full(10, 0.1, np.float32), np.arange(10.0), 1) == 0.0


def test_nan_survives_the_callers_mean_under_jit():
    """XLA on a CPU drops NaN from a maximum that it fuses with a long enough sum."""
    scores = np.random.default_rng(0).normal(size=(2, 4608, 3)).astype(np.float32)
    for metric in METRICS.values():
        mean = jax.jit(
            lambda b, a, metric=metric: jax.vmap(lambda b, a: metric(b, a, 1))(b, a).mean()
        )
        assert np.isfinite(mean(*scores))
        for which in (0, 1):
            bad = scores.copy()
            bad[which, 7, 1] = np.nan
            assert np.isnan(mean(*bad))


def test_scalars_of_float32():
    z, bad = np.float32([0.3, 0.2]), np.float32([0.3, np.nan])
    for metric in METRICS.values():
        value = metric(z, z[::-1], 1)
        chex.assert_shape(value, ())
        chex.assert_type(value, jnp.float32)
        assert np.isnan(metric(bad, z, 1)) and np.isnan(metric(z, bad, 1))
