"""What a training run computes with: its state, its compiled steps, what they read."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from kdxai import devices, models
from kdxai.data import augment
from kdxai.data.datasets import Dataset
from kdxai.errors import UserError
from kdxai.models import trained
from kdxai.models.airbench import whitened
from kdxai.models.trained import Trained
from kdxai.training import objectives, optimisers, starts, steps
from kdxai.training import state as states
from kdxai.training import teacher as teachers
from kdxai.training.feed import Placed, place
from kdxai.training.logits import TeacherLogits

SOME = 5000  # images that are enough to whiten by, as published


class Program(NamedTuple):
    """Attributes:
    train_step, eval_step: of `training.steps`, compiled for all devices.
    schedule: step -> learning rate.
    """

    state: states.TrainState
    train_step: Callable[..., tuple[states.TrainState, states.Totals]]
    eval_step: Callable[..., states.Totals]
    train: Placed
    validation: Placed
    teacher: TeacherLogits | None
    schedule: optax.Schedule
    steps_per_epoch: int

    def constants(self, epoch: int, tell: Callable[[int], None] | None = None) -> steps.Constants:
        """What the train steps of an epoch read; `tell` as for `TeacherLogits.epoch`."""
        if self.teacher is None:
            return self.train.constants
        return self.train.constants._replace(teacher_logits=self.teacher.epoch(epoch, tell))


def build(config: ConfigDict, dataset: Dataset, start: Trained | None = None) -> Program:
    """Everything that a run needs, of settings that are checked.

    Args:
      start: whose weights are the first; None for fresh ones.

    Raises:
      UserError: the teacher cannot be read.
    """
    steps_per_epoch = len(dataset.train.label) // config.batch_size
    dtype = compute_dtype(config.model.dtype)
    objective = objectives.choose(config)
    model = create_model(config, len(dataset.class_names), axis_name=devices.AXIS)
    schedule = optimisers.learning_rate(config.optim, config.epochs, steps_per_epoch)
    tx = optimisers.optimizer(config.optim, schedule, config.epochs * steps_per_epoch)
    if config.hold_zeros:
        tx = optax.chain(tx, starts.hold_zeros())
    variables = start.variables if start else fresh(config, model, dataset)
    train, view = place(dataset.train, dataset), view_of(config)
    own = steps.seeded(train.constants, views=config.augment.seed, dropout=config.seed)
    train = train._replace(constants=own)
    teacher, live = None, None
    if objective.teacher_taps:
        live = trained.load(config.teacher, dtype)
        train = with_teacher(train, live)
        variables = with_regressor(config, objective, model, variables, live)
    elif config.teacher:
        known = teachers.load(config.teacher, dtype)
        teacher = TeacherLogits(known, train, view, seed=config.augment.seed, epochs=config.epochs)
    train_step = steps.make_train_step(
        model,
        tx,
        objective,
        view,
        steps_per_epoch=steps_per_epoch,
        teacher=live and live.model,
    )
    return Program(
        state=devices.replicate(states.create_train_state(tx, variables)),
        train_step=devices.spread(train_step, dtype=dtype, donate_first=True),
        eval_step=devices.spread(steps.make_eval_step(model), dtype=dtype),
        train=train,
        validation=place(dataset.validation, dataset),
        teacher=teacher,
        schedule=schedule,
        steps_per_epoch=steps_per_epoch,
    )


def view_of(config: ConfigDict) -> steps.View:
    """How a run samples the views of its training images, whatever its seed."""
    return steps.View(**{name: one for name, one in config.augment.items() if name != "seed"})


def fresh(config: ConfigDict, model: models.Network, dataset: Dataset) -> Any:
    """The first variables of a run, whitened by the first training images where it starts so."""
    key, image_shape = jax.random.key(config.seed), dataset.train.image.shape[1:]
    variables = states.initial(model, key, image_shape)
    if "whitening" not in model.units:
        return variables
    images = np.asarray(dataset.train.image[:SOME])
    return whitened(variables, augment.normalise(images, dataset.mean, dataset.std))


def with_teacher(train: Placed, teacher: Trained) -> Placed:
    """The training images with a teacher that runs in the train step."""
    known = steps.LiveTeacher(teacher.variables, teacher.mean, teacher.std)
    return train._replace(constants=train.constants._replace(teacher=devices.replicate(known)))


def with_regressor(
    config: ConfigDict,
    objective: objectives.Objective,
    model: models.Network,
    variables: Any,
    teacher: Trained,
) -> Any:
    """A student's variables, and below them what its objective trains besides, if anything."""
    if not objective.regressor:
        return variables
    image_shape = teacher.image_shape
    widths = channels(model, variables, image_shape, objective.taps)
    its = channels(teacher.model, teacher.variables, image_shape, objective.teacher_taps)
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    own = {states.REGRESSOR: objective.regressor(key, widths, its)}
    return {**variables, "params": {**variables["params"], **own}}


def channels(
    model: models.Network, variables: Any, image_shape: tuple[int, ...], taps: Sequence[str]
) -> dict[str, int]:
    """Those of the feature maps at some stages."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    _, found = jax.eval_shape(partial(model.apply, taps=taps), variables, image)
    return {tap: models.grid(found[tap]).shape[-1] for tap in taps}


def compute_dtype(name: str) -> Any:
    """`auto` is bfloat16 where that is faster than float32: see `devices.fast_bfloat16`."""
    if name == "auto":
        return jnp.bfloat16 if devices.fast_bfloat16() else jnp.float32
    if name not in ("float32", "bfloat16"):
        raise UserError(f"model.dtype is auto, float32 or bfloat16, not '{name}'")
    return jnp.dtype(name)


def create_model(config: ConfigDict, num_classes: int, **options: Any) -> models.Network:
    """The model of a run's config; `options` are those of `models.create`."""
    dtype = compute_dtype(config.model.dtype)
    return models.create(**architecture(config), num_classes=num_classes, dtype=dtype, **options)


def architecture(config: ConfigDict) -> dict[str, Any]:
    """What `models.create` makes the model of, but for the number of classes."""
    return {
        name: value for name, value in config.model.items() if name != "dtype" and value is not None
    }
