"""What an explanation's own pixels do to the score of the class it explains.

`before` is the score of the full image and `after` that of the image multiplied by its map (or
masked in any other way); both are scalars.
"""

import jax
import jax.numpy as jnp

_TINY = jnp.finfo(jnp.float32).tiny


def average_drop(before: jax.Array, after: jax.Array) -> jax.Array:
    """max(0, (before - after) / before): the share of the score that is lost, in [0, 1] for p > 0.

    Chattopadhay et al. 2018 (Grad-CAM++), for softmax probabilities p_c(x), p_c(x') of one class;
    their "average" is the caller's. A probability of zero (or so small that float32 has no normal
    number for it) has nothing to lose: 0.

    For logits the formula is evaluated as it stands, which is what published code does, and is not
    sound: a logit has no natural zero, the quotient changes with any constant added to all logits,
    and where `before` is negative a *rising* score counts as a drop. See `logit_drop`.
    """
    return _positive_part(_divide(before - after, before))


def increase(before: jax.Array, after: jax.Array) -> jax.Array:
    """1 where the score rose, else 0; its mean is the increase in confidence.

    Chattopadhay et al. 2018. A tie is no increase.
    """
    return jnp.heaviside(jnp.asarray(after - before, jnp.float32), 0.0)


def average_gain(before: jax.Array, after: jax.Array) -> jax.Array:
    """max(0, after - before) / (1 - before): the share of the missing probability that is gained.

    Zhang et al. 2023 (Opti-CAM). For probabilities only; p = 1 leaves nothing to gain: 0.
    """
    return _positive_part(_divide(after - before, 1.0 - before))


def logit_drop(before: jax.Array, after: jax.Array, spread: jax.Array | float = 1.0) -> jax.Array:
    """(before - after) / spread for logits: signed, negative where the score rose.

    Not divided by `before`, because a logit has no natural zero, and not clipped, because clipping
    turns noise into a drop. Softmax fixes logits only up to a common constant and calibration
    (temperature, distillation) rescales them. To compare two models, pass `centred_logit` twice
    and as `spread` the standard deviation of the full image's logits over the classes: the result
    is then in standard deviations and the same at every temperature. A spread of zero (all logits
    equal: no class preferred) gives 0.
    """
    return _divide(before - after, spread)


def centred_logit(logits: jax.Array, class_index: jax.Array | int) -> jax.Array:
    """[K] logits -> logit of the class minus the mean of all K, free of the common constant."""
    logits = jnp.asarray(logits, jnp.float32)
    return logits[class_index] - logits.mean()


def _positive_part(x: jax.Array) -> jax.Array:
    # Not jnp.maximum: XLA on a CPU can drop NaN from one that it fuses with the caller's mean.
    return jnp.where(x < 0, 0.0, x)


def _divide(numerator: jax.Array, denominator: jax.Array | float) -> jax.Array:
    """numerator / denominator as float32, 0 where the denominator is zero or subnormal."""
    numerator = jnp.asarray(numerator, jnp.float32)
    denominator = jnp.asarray(denominator, jnp.float32)
    nothing = jnp.abs(denominator) < _TINY
    return jnp.where(nothing, 0.0, numerator / jnp.where(nothing, 1.0, denominator))


# Functions of one class's probability before and after, by name.
METRICS = {"average_drop": average_drop, "increase": increase, "average_gain": average_gain}
