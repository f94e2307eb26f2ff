"""What a training run computes with: its state, its compiled steps, what they read."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from ml_collections import ConfigDict

from kdxai import devices, models
from kdxai.data.datasets import Dataset
from kdxai.errors import UserError
from kdxai.models.trained import Trained
from kdxai.training import objectives, starts, steps
from kdxai.training import state as states
from kdxai.training import teacher as teachers
from kdxai.training.feed import Placed, place
from kdxai.training.logits import TeacherLogits


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
    schedule = states.learning_rate(config.optim, config.epochs, steps_per_epoch)
    tx = states.optimizer(config.optim, schedule)
    if config.hold_zeros:
        tx = optax.chain(tx, starts.hold_zeros())
    key, image_shape = jax.random.key(config.seed), dataset.train.image.shape[1:]
    variables = start.variables if start else states.initial(model, key, image_shape)
    train, view = place(dataset.train, dataset), steps.View(**config.augment)
    teacher = live = None
    if objective.teacher_taps:
        live = teachers.load_live(config.teacher, dtype)
        train = with_teacher(train, live)
    elif config.teacher:
        teacher = TeacherLogits(
            teachers.load(config.teacher, dtype), train, view, epochs=config.epochs
        )
    if objective.regressor:
        assert live is not None
        widths = channels(model, variables, image_shape, objective.taps)
        its = channels(live.model, live.variables, image_shape, objective.teacher_taps)
        own = objective.regressor(jax.random.fold_in(key, 1), widths, its)
        variables = {**variables, "params": {**variables["params"], states.REGRESSOR: own}}
    train_step = steps.make_train_step(
        model,
        tx,
        objective,
        view,
        seed=config.seed,
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


def with_teacher(train: Placed, teacher: Trained) -> Placed:
    """The training images with a teacher that runs in the train step."""
    known = steps.LiveTeacher(teacher.variables, teacher.mean, teacher.std)
    return train._replace(constants=train.constants._replace(teacher=devices.replicate(known)))


def channels(
    model: models.Network, variables: Any, image_shape: tuple[int, ...], taps: Sequence[str]
) -> list[int]:
    """Those of the feature maps at some stages."""
    image = jax.ShapeDtypeStruct((1, *image_shape), jnp.float32)
    _, maps = jax.eval_shape(partial(model.apply, taps=taps), variables, image)
    return [maps[tap].shape[-1] for tap in taps]


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
    return {name: value for name, value in config.model.items() if name != "dtype"}
