"""Losses of one example; the caller vmaps and reduces."""

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


def knowledge_distillation(
    logits: jax.Array,
    teacher_logits: jax.Array,
    label: jax.Array,
    *,
    temperature: float,
    alpha: float,
    smoothing: float = 0.0,
) -> jax.Array:
    """The paper's L_kd (section 2.3): alpha T^2 CE(Q_s, Q_t) + (1 - alpha) CE(softmax(z_s), y).

    Args:
      logits: [K] of the student.
      teacher_logits: [K] of the teacher on the same view; gets no gradient.
      label: [] class index.
      temperature: T > 0 of both softened distributions.
      alpha: the teacher's share, in [0, 1].
      smoothing: label smoothing of the second term.
    """
    soft = distillation(logits, teacher_logits, temperature)
    return alpha * soft + (1 - alpha) * cross_entropy(logits, label, smoothing)
