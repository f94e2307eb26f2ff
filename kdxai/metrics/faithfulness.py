"""What an explanation's own pixels do to the answer that it explains.

`before` and `after` are the logits [K] of the full image and of the image multiplied by its map (or
masked in any other way); `class_index` is the class explained. Of a model that gives probabilities
pass their logarithms: softmax makes the same probabilities of them.

Not probabilities themselves, because a confident network's 1 - p is lost in float32, where
1 - 2e-9 is 1. Both p and q = 1 - p come from the class's log-odds, which keep their digits at
either end.
"""

import jax
import jax.numpy as jnp

from kdxai.errors import UserError

_TINY = jnp.finfo(jnp.float32).tiny


def log_odds(logits: jax.Array, class_index: jax.Array | int) -> jax.Array:
    """[K] logits -> log(p / (1 - p)) of one class: its logit less log sum exp of all others.

    NaN if there is no such class.

    Raises:
      UserError: there are fewer than two logits.
    """
    logits = jnp.asarray(logits, jnp.float32)
    if logits.ndim != 1 or logits.size < 2:
        raise UserError(
            f"Logits must be [K] of one image with K of at least 2, but are {logits.shape}: of a "
            "model with one logit z return [0, z]."
        )
    others = jnp.where(jnp.arange(logits.size) == class_index, -jnp.inf, logits)
    return _of_class(logits, class_index) - jax.nn.logsumexp(others)


def average_drop(before: jax.Array, after: jax.Array, class_index: jax.Array | int) -> jax.Array:
    """max(0, 1 - p' / p): the share of the class's probability that is lost, in [0, 1].

    Chattopadhay et al. 2018 (Grad-CAM++); their "average" is the caller's.
    """
    before, after = log_odds(before, class_index), log_odds(after, class_index)
    return _loss(-jax.nn.softplus(-before), -jax.nn.softplus(-after))


def increase(before: jax.Array, after: jax.Array, class_index: jax.Array | int) -> jax.Array:
    """1 where the class's probability rose, else 0; its mean is the increase in confidence.

    Chattopadhay et al. 2018. A tie is no increase.
    """
    return rose(log_odds(before, class_index), log_odds(after, class_index))


def average_gain(before: jax.Array, after: jax.Array, class_index: jax.Array | int) -> jax.Array:
    """max(0, 1 - q' / q) with q = 1 - p: the share of the missing probability that is gained.

    Zhang et al. 2023 (Opti-CAM), who write it max(0, p' - p) / (1 - p).
    """
    before, after = log_odds(before, class_index), log_odds(after, class_index)
    return _loss(-jax.nn.softplus(before), -jax.nn.softplus(after))


def logit_drop(before: jax.Array, after: jax.Array, class_index: jax.Array | int) -> jax.Array:
    """(y - y') / s, of the class's logit y less the mean of all K: signed, negative where it rose.

    s is the standard deviation of the full image's logits over the classes. Softmax fixes logits
    only up to a common constant, and calibration (temperature, distillation) rescales them: the
    mean and s make the result the same at every offset and temperature. Not clipped, because
    clipping turns noise into a drop. 0 where the full image's logits are all equal: no class is
    preferred.
    """
    before, after = jnp.asarray(before, jnp.float32), jnp.asarray(after, jnp.float32)
    # Of equal logits the deviation is rounding, not zero.
    spread = jnp.where((before == before[0]).all(), 0.0, before.std())
    return _divide(centred_logit(before, class_index) - centred_logit(after, class_index), spread)


def logit_increase(before: jax.Array, after: jax.Array, class_index: jax.Array | int) -> jax.Array:
    """1 where the class's logit less the mean of all K rose, else 0. A tie is no increase."""
    return rose(centred_logit(before, class_index), centred_logit(after, class_index))


def centred_logit(logits: jax.Array, class_index: jax.Array | int) -> jax.Array:
    """[K] logits -> logit of the class minus the mean of all K, free of the common constant."""
    logits = jnp.asarray(logits, jnp.float32)
    return _of_class(logits, class_index) - logits.mean()


def relative_drop(before: jax.Array, after: jax.Array) -> jax.Array:
    """max(0, (before - after) / before) of any score as it stands, as published code has it.

    Of probabilities it is `average_drop`. Of logits it is not sound: a logit has no natural zero,
    the quotient changes with any constant added to all logits, and where `before` is negative a
    *rising* score counts as a drop; `logit_drop` is. 0 where `before` is zero or subnormal.
    """
    before, after = jnp.asarray(before, jnp.float32), jnp.asarray(after, jnp.float32)
    return _positive_part(_divide(before - after, before))


def rose(before: jax.Array, after: jax.Array) -> jax.Array:
    """1 where a score rose, else 0."""
    before, after = jnp.asarray(before, jnp.float32), jnp.asarray(after, jnp.float32)
    broken = jnp.isnan(before) | jnp.isnan(after)
    return jnp.where(broken, jnp.nan, (after > before).astype(jnp.float32))


def _loss(before: jax.Array, after: jax.Array) -> jax.Array:
    """max(0, 1 - e^after / e^before), of two logarithms."""
    return _positive_part(-jnp.expm1(jnp.where(before == after, 0.0, after - before)))


def _of_class(logits: jax.Array, class_index: jax.Array | int) -> jax.Array:
    """The logit of one class, NaN if there is none: an index would be clamped to one that is."""
    return logits.at[class_index].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)


def _positive_part(x: jax.Array) -> jax.Array:
    # Not jnp.maximum: XLA on a CPU can drop NaN from one that it fuses with the caller's mean.
    return jnp.where(x < 0, 0.0, x)


def _divide(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """numerator / denominator, 0 where the denominator is zero or subnormal."""
    nothing = jnp.abs(denominator) < _TINY
    return jnp.where(nothing, 0.0, numerator / jnp.where(nothing, 1.0, denominator))


# Functions of the logits before and after and of a class, by name: also the columns of records.
METRICS = {
    "average_drop": average_drop,
    "increase": increase,
    "average_gain": average_gain,
    "logit_drop": logit_drop,
    "logit_increase": logit_increase,
}
