"""All that is of the paper alone: its models, its claims, and its protocol with what repairs it.

Everything else in `study` and `report` speaks of models by the names that a config gives them.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from kdxai.models import LAST, Network
from kdxai.protocol import SOUND, Protocol
from kdxai.study import config
from kdxai.study.config import claim

TITLE = "Does the compressed network still look at the right things?"
ROLES = {
    "teacher": "trained on labels; the others are compared with it",
    "second_teacher": "the teacher again, from another seed: the floor under differences",
    "student": "distilled from the teacher",
    "control": "the student's network, trained without a teacher",
    "tiny_student": "a narrow network, distilled from the teacher",
    "shallow_student": "a network of few layers, distilled from the teacher",
    "shallow_control": "the same few layers, trained without a teacher",
    "untrained": "the student's network before any training: what structure alone explains",
    "resnext": "a network of another kind, trained on labels",
    "resnext_student": "the student's network, distilled from the ResNeXt",
}
COMPARE = (
    ("student", "teacher"),
    ("student", "control"),
    ("second_teacher", "teacher"),
    ("tiny_student", "teacher"),
    ("shallow_student", "teacher"),
    ("shallow_student", "shallow_control"),
    ("untrained", "teacher"),
    ("resnext_student", "resnext"),
)

# The notebook's student came from another teacher than the one it is compared with: as long as
# this step is not reached, that one stands in for the student, where there is one.
RIGHT_TEACHER = "student of the right teacher"
STAND_INS = {"student": "resnext_student"}


def claims(models: Collection[str]) -> ConfigDict:
    """The paper's claims about some of `models`, and their controls.

    The margin 0.02 is half of what the paper found in average drop; what is bad or collapses loses
    more, 0.05; accuracy may lose one point.
    """
    student, control = ("student", "teacher"), ("student", "control")
    shallow, tiny = ("shallow_student", "teacher"), ("tiny_student", "teacher")
    declared = {
        "c1_drop": claim("The student's drop is lower", "average_drop", student, "lower", 0.02),
        "c2_complexity": claim(
            "The student's maps are less complex", "complexity", student, "lower", 0.02
        ),
        "c3_coherency": claim(
            "The student's maps are more coherent", "ssim", student, "higher", 0.02
        ),
        "c4_accuracy": claim(
            "The student reaches its teacher's accuracy", "accuracy", student, "not_lower", 0.01
        ),
        "c5_shallow": claim(
            "A very shallow student explains badly", "adcc", shallow, "lower", 0.05
        ),
        "c6a_slight": claim("A slight compression helps", "adcc", student, "higher", 0.02),
        "c6b_aggressive": claim(
            "An aggressive compression makes explanations collapse", "adcc", tiny, "lower", 0.05
        ),
        # Is it distillation at all, or any training of a model of that size?
        "control_drop": claim(
            "Distillation lowers the drop", "average_drop", control, "lower", 0.02
        ),
        "control_complexity": claim(
            "Distillation makes maps less complex", "complexity", control, "lower", 0.02
        ),
        "control_coherency": claim(
            "Distillation makes maps more coherent", "ssim", control, "higher", 0.02
        ),
    }
    return ConfigDict(
        {name: one for name, one in declared.items() if {one["one"], one["other"]} <= {*models}}
    )


def study(
    teacher: ConfigDict,
    student: ConfigDict,
    *,
    tiny: str,
    shallow: str,
    resnext: str,
) -> ConfigDict:
    """A study of a teacher, a student distilled from it, and their controls.

    The settings of every model are those of its origin (`study.origins`), save that the data set is
    one for all and `teacher` names another model of the study.

    Args:
      teacher, student: complete training configs.
      tiny, shallow, resnext: names of the models that take the student's or the teacher's place.
    """

    like = partial(config.model, "train")
    distilled = {"teacher": "teacher"}
    another = {"seed": teacher.seed + 1000, "augment.seed": teacher.augment.seed + 1000}
    foreign = {"model.name": resnext, "model.dropout": 0.0}
    models = {
        "teacher": like(teacher),
        # Equal to the teacher but for its seed: the floor under every difference.
        "second_teacher": like(teacher, **another),
        "student": like(student, **distilled),
        "control": like(student),
        "tiny_student": like(student, **distilled, **{"model.name": tiny}),
        "shallow_student": like(student, **distilled, **{"model.name": shallow}),
        "shallow_control": like(student, **{"model.name": shallow}),
        "untrained": like(student, **{"epochs": 0, "optim.warmup_epochs": 0.0}),
        # The published student was distilled from such a one, not from the teacher.
        "resnext": like(teacher, **foreign),
        "resnext_student": like(student, teacher="resnext"),
    }
    return config.study(
        teacher.data,
        models,
        only="teacher,student,control,untrained",
        title=TITLE,
        order=tuple(ROLES),
        roles=ROLES,
        reference="teacher",
        compare=COMPARE,
        floor=("second_teacher", "teacher"),
        untrained="untrained",
        ladder="teacher,student,control,resnext_student",
        claims=claims(models),
    )


# ADCC as Poppi et al. 2021 publish it, spelt out; the sound protocol adds nothing to it but SSIM,
# which they do not use, in its published form.
POPPI = Protocol(
    stage=LAST,
    mode="evaluation",
    target="predicted",
    relu=True,
    score="probability",
    masking="multiply",
    similarity="pearson",
    complexity="mean",
    split="test",
)


def literal(model: Network | None) -> Protocol:
    """What the paper's published notebook did, all of it.

    Its feature map is the last one of a wide ResNet, but of a ResNet the input of the last block,
    which it reads through that block's identity shortcut, where there is one: a ResNet-10 has none.

    Args:
      model: None for a classifier of one's own, which is cut and run as it is.
    """
    stage = LAST
    if model is not None:
        *_, before, final = model.units
        if before.partition(".")[0] == final.partition(".")[0]:
            stage = before
    return Protocol(
        stage=stage,
        foreign_head=model is not None,
        mode="evaluation" if model is None else "training",
        target="label",
        relu=False,
        score="largest_logit",
        masking="stretch",
        similarity="ssim",
        ssim="uniform",
        complexity="matrix_1_norm",
        split="train",
    )


PRESETS: dict[str, Callable[[Network | None], Protocol]] = {
    "literal": literal,
    "poppi": lambda model: POPPI,
    "sound": lambda model: SOUND,
}

# From `literal` to `SOUND`, one repair per step; every step keeps the repairs above it.
REPAIRS: dict[str, dict[str, Any]] = {
    "evaluation mode": {"mode": "evaluation"},
    "the features that the classifier sees": {"stage": LAST, "foreign_head": False},
    "one class, its probability": {"score": "probability"},
    "predicted class, ReLU": {"target": "predicted", "relu": True},
    "complexity per pixel, one grid": {"complexity": "mean"},
    "masking without stretched contrast": {"masking": "multiply"},
    "coherency as published": {"similarity": "pearson", "ssim": "gaussian"},
    "held-out images": {"split": "test"},
}


def protocol_steps(model: Network | None) -> dict[str, Protocol]:
    """The protocol at each step of an audit, from `literal` to the sound one, a repair at a time.

    Args:
      model: as for `literal`; to None some repairs do nothing.
    """
    steps = {"literal": literal(model)}
    for name, repair in REPAIRS.items():
        steps[name] = replace(list(steps.values())[-1], **repair)
    return steps
