"""Losses of logits: of one example, to be vmapped."""

import jax
import jax.numpy as jnp


def cross_entropy(logits: jax.Array, label: jax.Array, smoothing: float = 0.0) -> jax.Array:
    """-sum_k y_k log softmax(z)_k with y = (1 - smoothing) onehot(label) + smoothing / K.

    Args:
      logits: [K] pre-softmax scores z.
      label: [] class index.
      smoothing: label smoothing (Szegedy et al. 2016), in [0, 1).
    """
    target = jax.nn.one_hot(label, logits.shape[-1]) * (1 - smoothing) + smoothing / len(logits)
    return -jnp.sum(target * jax.nn.log_softmax(logits))


def distillation(logits: jax.Array, teacher_logits: jax.Array, temperature: float) -> jax.Array:
    """T^2 CE(softmax(z_s / T), softmax(z_t / T)) (Hinton et al. 2015), summed over the classes.

    The cross-entropy of the paper's L_kd, not the Kullback-Leibler divergence: they differ by the
    teacher's entropy, which has no gradient here. The teacher is a constant.
    """
    target = jax.nn.softmax(jax.lax.stop_gradient(teacher_logits) / temperature)
    return -(temperature**2) * jnp.sum(target * jax.nn.log_softmax(logits / temperature))


def decoupled(
    logits: jax.Array,
    teacher_logits: jax.Array,
    label: jax.Array,
    *,
    temperature: float,
    beta: float,
) -> jax.Array:
    """T^2 (TCKD + beta NCKD): decoupled knowledge distillation.

    Zhao et al. 2022, "Decoupled Knowledge Distillation", with their alpha = 1. TCKD is
    KL(b_t || b_s) of the pairs b = (p_y, 1 - p_y), what is said of the labelled class y against all
    others; NCKD is KL(q_t || q_s) of the softmax q over the other classes alone. Hinton's loss is
    TCKD + (1 - p_y of the teacher) NCKD. p = softmax(z / T), [K] logits z. The authors' code has
    T = 4 and raises the weight from 0 over the first 20 of 240 epochs.
    """
    others = jnp.arange(len(logits)) != label

    def logs(logits: jax.Array) -> tuple[jax.Array, jax.Array]:
        """log b [2] and log q [K], 0 at y."""
        scaled = logits / temperature
        rest = jax.nn.logsumexp(jnp.where(others, scaled, -jnp.inf))
        pair = jnp.stack([scaled[label], rest]) - jax.nn.logsumexp(scaled)
        return pair, jnp.where(others, scaled - rest, 0)

    pair, classes = logs(logits)
    teacher_pair, teacher_classes = logs(jax.lax.stop_gradient(teacher_logits))
    target = jnp.sum(jnp.exp(teacher_pair) * (teacher_pair - pair))
    # At y the two logarithms are 0, and so is their difference.
    other = jnp.sum(jnp.exp(teacher_classes) * (teacher_classes - classes))
    return temperature**2 * (target + beta * other)


def standardised(logits: jax.Array) -> jax.Array:
    """(z - mean(z)) / std(z) over the classes: [K] -> [K]; zeros where all are equal.

    Sun et al. 2024, "Logit Standardization in Knowledge Distillation": before logits are softened,
    the student's and the teacher's, so that the student need not match their range. The authors'
    code has T = 2 or 3 and 9 times the loss, beside a tenth of the cross-entropy.
    """
    centred = logits - logits.mean()
    variance = jnp.mean(centred**2)
    return centred * jnp.where(variance > 0, jax.lax.rsqrt(jnp.where(variance > 0, variance, 1)), 0)
