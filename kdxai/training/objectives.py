"""What a training minimises: the loss of one example, as a value; the caller vmaps and reduces.

To add one, write a function of the config that returns an `Objective`, and enter it below.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from kdxai.errors import UserError


class Outputs(NamedTuple):
    """What a network says of one image.

    Attributes:
      logits: [K] pre-softmax scores.
      taps: {name of a stage: [h, w, c] feature map at its end}.
    """

    logits: jax.Array
    taps: Mapping[str, jax.Array]


class Objective(NamedTuple):
    """Attributes:
    loss: (the student's outputs, the teacher's, [] class index) -> [] float32. The teacher's are
      None where there is none.
    taught: whether it reads the teacher's, which are logits alone.
    taps: stages of the student whose feature maps it reads.
    """

    loss: Callable[[Outputs, Outputs | None, jax.Array], jax.Array]
    taught: bool = False
    taps: tuple[str, ...] = ()


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


def supervised(config: ConfigDict) -> Objective:
    """`cross_entropy` with the labels alone."""
    smoothing = config.optim.label_smoothing
    return Objective(lambda student, _, label: cross_entropy(student.logits, label, smoothing))


def distilled(config: ConfigDict) -> Objective:
    """The paper's L_kd (section 2.3): alpha T^2 CE(Q_s, Q_t) + (1 - alpha) CE(softmax(z_s), y)."""
    temperature, alpha = config.distill.temperature, config.distill.alpha
    smoothing = config.optim.label_smoothing  # of the second term

    def loss(student: Outputs, teacher: Outputs | None, label: jax.Array) -> jax.Array:
        assert teacher is not None
        soft = distillation(student.logits, teacher.logits, temperature)
        return alpha * soft + (1 - alpha) * cross_entropy(student.logits, label, smoothing)

    return Objective(loss, taught=True)


OBJECTIVES: dict[str, Callable[[ConfigDict], Objective]] = {
    "cross_entropy": supervised,
    "knowledge_distillation": distilled,
}


def choose(config: ConfigDict) -> Objective:
    """The objective of a run's config, by name or by whether there is a teacher.

    Raises:
      UserError: there is no such objective, or it and the teacher do not fit each other.
    """
    usual = "knowledge_distillation" if config.teacher else "cross_entropy"
    name = usual if config.objective is None else config.objective
    if name not in OBJECTIVES:
        raise UserError(f"there is no objective '{name}'; there are {', '.join(OBJECTIVES)}")
    objective = OBJECTIVES[name](config)
    if objective.taught and not config.teacher:
        raise UserError(f"the objective '{name}' learns from a teacher; set teacher")
    if config.teacher and not objective.taught:
        raise UserError(f"the objective '{name}' learns from no teacher; leave one of them out")
    return objective
