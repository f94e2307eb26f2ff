"""What a training minimises, as values: the loss of a batch, one number per example.

To add one, write a function of the config that returns an `Objective`, and enter it below; for a
term on feature maps `on_maps` does.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from kdxai.errors import UserError
from kdxai.models import LAST
from kdxai.settings import listed
from kdxai.training.objectives import features, maps, relations
from kdxai.training.objectives.logits import (
    cross_entropy,
    decoupled,
    distillation,
    standardised,
)
from kdxai.training.objectives.objective import Loss, Objective, Outputs, Regressor

__all__ = ["OBJECTIVES", "Objective", "Outputs", "choose", "cross_entropy", "distillation"]

Make = Callable[[ConfigDict], Objective]
STAGES = ("student_stages", "teacher_stages")
SMOOTHING = 0.1  # of the objective `label_smoothing` (Szegedy et al. 2016)
BETA = 8.0  # of NCKD in `dkd`, for CIFAR (Zhao et al. 2022)


def supervised(config: ConfigDict) -> Objective:
    """`cross_entropy` with the labels alone."""
    return Objective(hard(config.optim.label_smoothing))


def smoothed_labels(config: ConfigDict) -> Objective:
    """`cross_entropy` with smooth labels: the control that has soft targets and no teacher."""
    if config.optim.label_smoothing:
        raise UserError(
            "the objective 'label_smoothing' and optim.label_smoothing smooth the labels both; set "
            "objective.smoothing alone"
        )
    return Objective(hard(or_default(config.objective.smoothing, SMOOTHING)), reads=("smoothing",))


def hard(smoothing: float) -> Loss:
    """The loss of the labels."""
    one = partial(cross_entropy, smoothing=smoothing)
    return lambda student, _, labels: jax.vmap(one)(student.logits, labels)


def distilled(config: ConfigDict) -> Objective:
    """The paper's L_kd (section 2.3): alpha T^2 CE(Q_s, Q_t) + (1 - alpha) CE(softmax(z_s), y)."""
    temperature, alpha = config.distill.temperature, config.distill.alpha
    smoothing = config.optim.label_smoothing  # of the second term
    ready = readied(config)

    def one(logits: jax.Array, teacher_logits: jax.Array, label: jax.Array) -> jax.Array:
        soft = distillation(ready(logits), ready(teacher_logits), temperature)
        return alpha * soft + (1 - alpha) * cross_entropy(logits, label, smoothing)

    return Objective(on_logits(one), taught=True, reads=("standardise",))


def dkd(config: ConfigDict) -> Objective:
    """CE(softmax(z_s), y) + weight `decoupled`."""
    temperature, beta = config.distill.temperature, or_default(config.objective.beta, BETA)
    ready = readied(config)

    def one(logits: jax.Array, teacher_logits: jax.Array, label: jax.Array) -> jax.Array:
        logits, teacher_logits = ready(logits), ready(teacher_logits)
        return decoupled(logits, teacher_logits, label, temperature=temperature, beta=beta)

    objective = with_term(supervised(config), config, on_logits(one), 1.0)
    return objective._replace(reads=(*objective.reads, "beta", "standardise"))


def readied(config: ConfigDict) -> Callable[[jax.Array], jax.Array]:
    """What is done to logits before they are softened."""
    return standardised if config.objective.standardise else lambda logits: logits


def on_logits(one: Callable[[jax.Array, jax.Array, jax.Array], jax.Array]) -> Loss:
    """The loss of a batch, from that of one example's logits, its teacher's and its label."""

    def loss(student: Outputs, teacher: Outputs | None, labels: jax.Array) -> jax.Array:
        assert teacher is not None
        return jax.vmap(one)(student.logits, teacher.logits, labels)

    return loss


def on_maps(
    term: Callable[[Outputs, Outputs], jax.Array],
    weight: float,
    *,
    onto: Make = supervised,
    last: bool = False,
    regressor: Regressor | None = None,
) -> Make:
    """`onto` and a term that reads feature maps of both networks.

    Args:
      term: (the student's outputs, the teacher's) -> [B].
      weight: the usual one of the term, from the authors' code or that of libraries.
      last: it is defined at the last map alone, which a linear head pools.
    """

    def make(config: ConfigDict) -> Objective:
        own, its = ((LAST,) if last else named_stages(config, name) for name in STAGES)
        if len(own) != len(its):
            raise UserError(
                f"objective.student_stages and objective.teacher_stages are pairs, not {len(own)} "
                f"and {len(its)}; name as many of each"
            )
        loss = lambda student, teacher, _: term(student, teacher)  # noqa: E731
        objective = with_term(onto(config), config, loss, weight)
        reads = objective.reads + (() if last else STAGES)
        if config.objective.weight == 0:
            return objective._replace(reads=reads)
        return objective._replace(
            taps=own, teacher_taps=its, regressor=regressor, reads=reads, heads=last
        )

    return make


def each_stage(
    loss: Callable[[jax.Array, jax.Array], jax.Array],
) -> Callable[[Outputs, Outputs], jax.Array]:
    """The sum over the pairs of stages of a loss of two maps [B, h, w, c] -> [B]."""

    def term(student: Outputs, teacher: Outputs) -> jax.Array:
        pairs = zip(student.taps.values(), teacher.taps.values(), strict=True)
        return jnp.stack([loss(own, its) for own, its in pairs]).sum(0)

    return term


def with_term(base: Objective, config: ConfigDict, term: Loss, weight: float) -> Objective:
    """The loss of `base` + weight x a term; a term of weight 0 is left out with what it reads.

    Args:
      weight: the usual one.
    """
    weight = or_default(config.objective.weight, weight)

    def loss(student: Outputs, teacher: Outputs | None, labels: jax.Array) -> jax.Array:
        return base.loss(student, teacher, labels) + weight * term(student, teacher, labels)

    reads = (*base.reads, "weight")
    return base._replace(loss=loss if weight else base.loss, taught=True, reads=reads)


def named_stages(config: ConfigDict, name: str) -> tuple[str, ...]:
    """Those that a setting names.

    Raises:
      UserError: it names one twice.
    """
    found = tuple(listed(config.objective[name])) or (LAST,)
    if len(set(found)) < len(found):
        raise UserError(f"objective.{name} names a stage twice: {', '.join(found)}")
    return found


def or_default(value: float | None, default: float) -> float:
    return default if value is None else value


OBJECTIVES: dict[str, Make] = {
    "cross_entropy": supervised,
    "label_smoothing": smoothed_labels,
    "knowledge_distillation": distilled,
    "dkd": dkd,
    "hints": on_maps(features.hints, 100.0, regressor=features.regressor),
    "attention": on_maps(each_stage(features.attention), 1000.0),
    "similarity": on_maps(each_stage(relations.pairwise_similarity), 3000.0),
    "relations": on_maps(each_stage(relations.relations), 25.0),
    "cat": on_maps(maps.cat, 50.0, last=True),
    "e2kd": on_maps(maps.e2kd, 5.0, onto=distilled),
}


def choose(config: ConfigDict) -> Objective:
    """The objective of a run's config, by name or by whether there is a teacher.

    Raises:
      UserError: there is no such objective, it and the teacher do not fit each other, or a setting
        is made that it does not read.
    """
    usual = "knowledge_distillation" if config.teacher else "cross_entropy"
    name = usual if config.objective.name is None else config.objective.name
    if name not in OBJECTIVES:
        raise UserError(f"there is no objective '{name}'; there are {', '.join(OBJECTIVES)}")
    objective = OBJECTIVES[name](config)
    if objective.taught and not config.teacher:
        raise UserError(f"the objective '{name}' learns from a teacher; set teacher")
    if config.teacher and not objective.taught:
        raise UserError(f"the objective '{name}' learns from no teacher; leave one of them out")
    for key, value in config.objective.items():
        if key not in ("name", *objective.reads) and value not in (None, ()):
            raise UserError(f"the objective '{name}' does not read objective.{key}; leave it out")
    return objective
