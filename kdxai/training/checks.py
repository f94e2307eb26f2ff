"""Whatever about a run can be wrong before its first step."""

import math
from typing import Literal, NamedTuple

from ml_collections import ConfigDict

from kdxai import devices, models
from kdxai.data.datasets import Dataset
from kdxai.errors import UserError
from kdxai.externals import External
from kdxai.models import trained
from kdxai.models.airbench import require_whitenable
from kdxai.models.network import require_patches
from kdxai.settings import flatten
from kdxai.training import objectives, optimisers
from kdxai.training import teacher as teachers
from kdxai.training.config import default
from kdxai.training.program import compute_dtype, create_model


class Range(NamedTuple):
    """Finite numbers from `least` to `most`, which is left out where the range is `open`."""

    least: float
    most: float = math.inf
    open: bool = False

    def holds(self, value: float) -> bool:
        top = value < self.most if self.open else value <= self.most
        return self.least <= value < math.inf and top  # nothing is so of NaN

    def __str__(self) -> str:
        least = f"at least {self.least:,}"
        if self.most < math.inf:
            return f"{least} and {'below' if self.open else 'at most'} {self.most:,}"
        return f"{least} and finite" if isinstance(self.least, float) else least


SEEDS = Range(0, 2**32 - 1)  # JAX would take others for one of these, NumPy refuses some
RANGES = {
    "seed": SEEDS,
    "epochs": Range(0),
    "batch_size": Range(1),
    "augment.seed": SEEDS,
    "model.dropout": Range(0.0, 1.0, open=True),
    "optim.lr": Range(0.0),
    "optim.momentum": Range(0.0, 1.0, open=True),
    "optim.weight_decay": Range(0.0),
    "optim.step_factor": Range(0.0),
    "optim.warmup_epochs": Range(0.0),
    "optim.label_smoothing": Range(0.0, 1.0, open=True),
    "optim.bias_factor": Range(0.0),
    "optim.head_factor": Range(0.0),
    "optim.lookahead": Range(0.0, 1.0, open=True),
    # So that a logit / T and T^2 stay well within float32.
    "distill.temperature": Range(0.01, 1e6),
    "distill.alpha": Range(0.0, 1.0),
    "objective.weight": Range(0.0),
    "objective.smoothing": Range(0.0, 1.0, open=True),
    "objective.beta": Range(0.0),
}
MOST_STEPS = 2**31 - 1  # counted in int32


def check(
    config: ConfigDict, dataset: Dataset, teacher: models.Network | External | None = None
) -> models.Network:
    """Everything about a run that can be wrong but for its teacher's directory; returns its model.

    Args:
      teacher: what it is going to be, where that is known.

    Raises:
      UserError: a setting is out of its range, or as `require_maps`.
    """
    check_settings(config, dataset)
    model = create_model(config, len(dataset.class_names))
    if "whitening" in model.units:
        require_whitenable(dataset.train.image.shape)
    require_patches(dataset.train.image.shape, getattr(model.units.get("stem"), "patch", 1))
    require_maps(config, model, teacher)
    return model


def check_settings(config: ConfigDict, dataset: Dataset) -> None:
    """What can be wrong whatever the networks are.

    Raises:
      UserError: it is.
    """
    settings = flatten(config)
    for name, range_ in RANGES.items():
        if settings[name] is not None and not range_.holds(settings[name]):
            raise UserError(f"{name} must be {range_}, not {settings[name]}")
    size = len(dataset.train.label)
    if config.batch_size > size:
        raise UserError(f"batch_size={config.batch_size} is more than the {size} training images")
    if not len(dataset.validation.label):
        raise UserError("the best checkpoint is chosen on a validation set; set validation_size")
    if config.epochs * (size // config.batch_size) > MOST_STEPS:
        raise UserError(f"epochs={config.epochs} are more than {MOST_STEPS:,} steps; give fewer")
    if config.hold_zeros and not config.start:
        raise UserError("hold_zeros holds those of start weights; set start=DIRECTORY")
    if config.augment.alternate and not config.augment.flip:
        raise UserError("augment.alternate says when images are flipped; set augment.flip=True")
    devices.require_divisible(config.batch_size)
    side = min(dataset.train.image.shape[1:3])
    if not (0 <= config.augment.pad < side and 0 <= config.augment.cutout <= side):
        raise UserError(
            f"augment.pad and augment.cutout are numbers of pixels from 0, below {side} and up to "
            f"{side} for these images, not {config.augment.pad} and {config.augment.cutout}"
        )
    optimisers.require_settings_read(config.optim, default().optim)
    optimisers.learning_rate(config.optim, config.epochs, size // config.batch_size)
    compute_dtype(config.model.dtype)
    objectives.choose(config)


def require_maps(
    config: ConfigDict, student: models.Network, teacher: models.Network | External | None
) -> None:
    """The feature maps that a run's objective reads.

    Raises:
      UserError: student or teacher lacks a stage or a head, or the teacher is one of logits alone.
    """
    objective = objectives.choose(config)
    require_taps(student, objective, "student")
    if objective.teacher_taps:
        teachers.require_directory(config.teacher)
    if isinstance(teacher, models.Network):
        require_taps(teacher, objective, "teacher")


def require_teacher(config: ConfigDict, dataset: Dataset) -> str:
    """The fingerprint of a run's teacher, once it is known to fit data and objective.

    Raises:
      UserError: as `teachers.require_fitting`; it lacks a stage, or is no directory and has none.
    """
    objective = objectives.choose(config)
    if objective.teacher_taps:
        teachers.require_directory(config.teacher)
        live = trained.load(config.teacher)
        require_taps(live.model, objective, "teacher")
    return teachers.require_fitting(config.teacher, dataset)


def require_taps(
    model: models.Network, objective: objectives.Objective, role: Literal["student", "teacher"]
) -> None:
    """Check that a model has all that an objective reads.

    Raises:
      UserError: the model lacks a stage or a head that the objective reads of it.
    """
    if objective.heads and not model.has_cam:
        raise UserError(
            f"the objective reads class activation maps, which the {role} does not have: its head "
            "is not on the average of its last map; choose another objective"
        )
    for stage in objective.taps if role == "student" else objective.teacher_taps:
        try:
            model.cut(stage)
        except UserError as error:
            raise UserError(f"objective.{role}_stages: {error}") from error
