"""Average drop and its kin against hand values and the algebra they must obey."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.metrics.faithfulness import (
    average_drop,
    average_gain,
    centred_logit,
    increase,
    logit_drop,
)


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
        (1e-42, 0.0, 0.0, 0.0, 0.0),  # a subnormal probability is nothing to lose either
        (1e-30, 0.5e-30, 0.5, 0.0, 0.0),
    ],
)
def test_hand_values(before, after, drop, gain, rose):
    before, after = jnp.float32(before), jnp.float32(after)
    np.testing.assert_allclose(average_drop(before, after), drop, atol=1e-6)
    np.testing.assert_allclose(average_gain(before, after), gain, atol=1e-6)
    assert increase(before, after) == rose


def test_average_drop_serves_the_notebook_with_logits():
    """max(0, (m - m') / m), negative logits included, where a rise then counts as a drop."""
    rng = np.random.default_rng(0)
    before, after = rng.normal(size=(2, 500)).astype(np.float32)
    want = np.maximum(0, (before.astype(np.float64) - after) / before)
    got = jax.vmap(average_drop)(before, after)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    assert average_drop(-1.0, -0.5) == 0.5
    assert average_drop(0.0, -3.0) == 0.0


def test_logit_drop_is_free_of_offset_and_temperature():
    logits, masked = np.random.default_rng(1).normal(size=(2, 10)).astype(np.float32)

    def measure(logits, masked):
        return logit_drop(centred_logit(logits, 3), centred_logit(masked, 3), logits.std())

    want = ((logits[3] - logits.mean()) - (masked[3] - masked.mean())) / logits.std()
    np.testing.assert_allclose(measure(logits, masked), want, rtol=1e-5)
    np.testing.assert_allclose(measure(logits / 6 + 4, masked / 6 + 4), want, rtol=1e-4)
    # The average drop of the same logits is not.
    assert (
        abs(average_drop(logits[3], masked[3]) - average_drop(logits[3] + 4, masked[3] + 4)) > 0.1
    )


def test_logit_drop_keeps_the_sign_and_takes_no_spread():
    assert logit_drop(-3.0, -5.0) == 2.0
    assert logit_drop(-3.0, -1.0) == -2.0
    assert logit_drop(2.0, 1.0, spread=0.0) == 0.0


def test_nan_survives_the_callers_mean_under_jit():
    """XLA on a CPU drops NaN from a maximum that it fuses with a long enough sum."""
    scores = np.full((2, 4608), 0.5, np.float32)
    for metric in (average_drop, average_gain, increase, logit_drop):
        mean = jax.jit(lambda b, a, metric=metric: jax.vmap(metric)(b, a).mean())
        assert np.isfinite(mean(*scores))
        for which in (0, 1):
            bad = scores.copy()
            bad[which, 7] = np.nan
            assert np.isnan(mean(*bad))


def test_scalars_of_float32():
    for metric in (average_drop, average_gain, increase, logit_drop):
        value = metric(0.3, 0.2)
        chex.assert_shape(value, ())
        chex.assert_type(value, jnp.float32)
        assert np.isnan(metric(jnp.nan, 0.2)) and np.isnan(metric(0.2, jnp.nan))
