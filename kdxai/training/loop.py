"""Train one model, from a config to a finished run."""

import collections
import math
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict
from tensorboardX import SummaryWriter

from kdxai import models
from kdxai.data.datasets import Dataset, Split
from kdxai.data.stream import Order, Records
from kdxai.errors import UserError
from kdxai.progress import progress
from kdxai.training import devices, hosts, runs, steps
from kdxai.training import state as states
from kdxai.training.checkpoints import Checkpoints
from kdxai.training.teacher import TeacherLogits

# Steps the host may run ahead of the devices; bounds how late SIGTERM is answered. Below 32, see
# `devices.fetch`.
AHEAD = 16
EVAL_BATCH = 512  # at least; rounded up to what the devices divide


class Program(NamedTuple):
    """A run's compiled steps and what they read; images apart where they are streamed."""

    state: states.TrainState
    train_step: Callable[..., tuple[states.TrainState, states.Totals]]
    eval_step: Callable[..., states.Totals]
    train: steps.Constants
    validation: steps.Constants
    train_images: Records | None
    validation_images: Records | None
    teacher: TeacherLogits | None
    schedule: optax.Schedule
    steps_per_epoch: int

    def constants(self, epoch: int, tell: Callable[[int], None] | None = None) -> steps.Constants:
        """What the train steps of an epoch read; `tell` as for `TeacherLogits.epoch`."""
        if self.teacher is None:
            return self.train
        return self.train._replace(teacher_logits=self.teacher.epoch(epoch, tell))


def train(config: ConfigDict, workdir: str | Path, dataset: Dataset) -> dict[str, Any]:
    """Train to the end, continuing what is in `workdir`; a finished run is only read.

    Writes `config.json`, `history.csv` (a row per epoch), `checkpoints/`, `tensorboard/` and, last
    of all, `result.json`.

    Returns:
      What `result.json` holds. The accuracies are of the best validation checkpoint.

    Raises:
      UserError: bad settings, another config's directory, one that another process trains in, a
        teacher that does not fit, a loss that is not finite, a full disk.
      SystemExit: 143 on SIGTERM, after saving.
    """
    workdir = Path(workdir)
    hosts.require_same(
        config.to_json(), "the processes of this run have different configs; give all the same"
    )
    with hosts.together():
        check(config, dataset)
        check_teacher(config, dataset)
    hosts.on_first(lambda: runs.claim(workdir, config))
    if result := hosts.first_says(hosts.on_first(lambda: runs.read_result(workdir))):
        return result
    with runs.occupied(workdir):
        result = run(config, workdir, dataset)
        hosts.on_first(lambda: runs.write_json(workdir / runs.RESULT, result))
    return result


def run(config: ConfigDict, workdir: Path, dataset: Dataset) -> dict[str, Any]:
    """`train`, from the newest checkpoint to what `result.json` is to hold."""
    program = build(config, dataset)
    checkpoints = Checkpoints(workdir)
    history = fit(config, workdir, program, checkpoints)
    checkpoints.wait()
    best = checkpoints.best(program.state)
    checkpoints.close()
    _, validation_accuracy = evaluate(
        program.eval_step, best.variables, program.validation, program.validation_images
    )
    _, test_accuracy = evaluate(
        program.eval_step, best.variables, resident(dataset.test, dataset), streamed(dataset.test)
    )
    return {
        "model": config.model.name,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(best.params)),
        "best_epoch": int(best.step) // program.steps_per_epoch,
        "validation_accuracy": validation_accuracy,
        "test_accuracy": test_accuracy,
        "seconds": sum(row["seconds"] for row in history),
        "data": dataset.name,
        "class_names": list(dataset.class_names),
        "mean": [float(value) for value in dataset.mean],
        "std": [float(value) for value in dataset.std],
        "image_shape": list(dataset.train.image.shape[1:]),
        "dtype": jnp.dtype(runs.compute_dtype(config.model.dtype)).name,
        "machine": runs.machine(),
    }


def build(config: ConfigDict, dataset: Dataset) -> Program:
    """Everything that a run needs, of settings that are checked.

    Raises:
      UserError: the teacher cannot be read.
    """
    steps_per_epoch = len(dataset.train.label) // config.batch_size
    dtype = runs.compute_dtype(config.model.dtype)
    teacher = runs.load(config.teacher, dtype) if config.teacher else None
    model = runs.create_model(config, len(dataset.class_names), axis_name=devices.AXIS)
    schedule = states.learning_rate(config.optim, config.epochs, steps_per_epoch)
    tx = states.optimizer(config.optim, schedule)
    train, images = resident(dataset.train, dataset), streamed(dataset.train)
    view = {
        "view_seed": config.augment.seed,
        "augmentation": {name: config.augment[name] for name in ("pad", "flip", "cutout")},
    }
    train_step = steps.make_train_step(
        model,
        tx,
        steps_per_epoch=steps_per_epoch,
        seed=config.seed,
        **view,
        smoothing=config.optim.label_smoothing,
        distil=teacher is not None,
        temperature=config.distill.temperature,
        alpha=config.distill.alpha,
    )
    return Program(
        state=devices.replicate(
            states.create_train_state(
                model, tx, jax.random.key(config.seed), dataset.train.image.shape[1:]
            )
        ),
        train_step=devices.spread(train_step, dtype=dtype, donate_first=True),
        eval_step=devices.spread(steps.make_eval_step(model), dtype=dtype),
        train=train,
        validation=resident(dataset.validation, dataset),
        train_images=images,
        validation_images=streamed(dataset.validation),
        teacher=teacher
        and TeacherLogits(
            teacher, Path(config.teacher), train, images=images, epochs=config.epochs, **view
        ),
        schedule=schedule,
        steps_per_epoch=steps_per_epoch,
    )


def check(config: ConfigDict, dataset: Dataset) -> models.Network:
    """Everything about a run that can be wrong before its teacher is there; returns its model.

    Raises:
      UserError: a setting is out of its range.
    """
    size = len(dataset.train.label)
    for name, least in (("epochs", 0), ("batch_size", 1)):
        if config[name] < least:
            raise UserError(f"{name} must be at least {least}, not {config[name]}")
    if config.batch_size > size:
        raise UserError(f"batch_size={config.batch_size} is more than the {size} training images")
    if not len(dataset.validation.label):
        raise UserError("the best checkpoint is chosen on a validation set; set validation_size")
    devices.require_divisible(config.batch_size)
    if min(config.augment.pad, config.augment.cutout) < 0:
        raise UserError("augment.pad and augment.cutout are numbers of pixels, 0 or more")
    distill = config.distill
    if not 0 <= distill.alpha <= 1 or distill.temperature <= 0:
        raise UserError(
            f"distillation needs 0 <= alpha <= 1 and temperature > 0, not alpha={distill.alpha} "
            f"and temperature={distill.temperature}"
        )
    states.learning_rate(config.optim, config.epochs, size // config.batch_size)
    return runs.create_model(config, len(dataset.class_names))


def check_teacher(config: ConfigDict, dataset: Dataset) -> None:
    """What `check` leaves out, as a study's teachers are trained after it.

    Raises:
      UserError: the config's teacher is not finished, or was trained on other classes, data or
        normalisation.
    """
    if not config.teacher:
        return
    _, result = runs.finished(config.teacher)
    for what, its, ours in (
        ("classes", result["class_names"], list(dataset.class_names)),
        ("data set", result["data"], dataset.name),
        ("image shape", result["image_shape"], list(dataset.train.image.shape[1:])),
    ):
        if its != ours:
            raise UserError(f"teacher and student differ in {what}: {its} and {ours}")
    if not all(np.allclose(result[name], getattr(dataset, name)) for name in ("mean", "std")):
        raise UserError(
            "teacher and student differ in normalisation: "
            f"mean {result['mean']} and {dataset.mean.tolist()}; give both the same training images"
        )


def fit(
    config: ConfigDict, workdir: Path, program: Program, checkpoints: Checkpoints
) -> list[dict[str, Any]]:
    """Run all epochs that `checkpoints` does not hold yet; returns the history, a row per epoch."""
    state = checkpoints.newest(program.state) or program.state
    first_step = int(state.step)
    spe, total = program.steps_per_epoch, config.epochs * program.steps_per_epoch
    history = hosts.first_says(hosts.on_first(lambda: runs.read_history(workdir, first_step)))
    if not config.epochs:  # a control that is to stay untrained
        checkpoints.save(state, validate(program, state)[1])
    order = Order(config.seed, len(program.train.label), config.batch_size, first_step, total)
    started = time.perf_counter()
    with (
        sigterm() as terminated,
        progress(quiet=not hosts.is_first()) as bar,
        SummaryWriter(
            str(workdir / "tensorboard"), purge_step=first_step, write_to_disk=hosts.is_first()
        ) as writer,
        closing(devices.feed(order, program.train_images)) as batches,
    ):
        task = bar.add_task(workdir.name, total=total, completed=first_step, note="")
        if program.train_images is not None:
            bar.console.print(
                f"{workdir.name}: {program.train_images.nbytes / 2**20:,.0f} MiB of training "
                "images are more than is kept on a device: they are read batch by batch",
                highlight=False,
                soft_wrap=True,
            )
        if program.teacher:
            size = program.teacher.size
            teaching = bar.add_task("teacher's logits", total=size, visible=False, note="")
            kept = sum(program.teacher.path(epoch).exists() for epoch in range(config.epochs))
            bar.console.print(
                f"{workdir.name}: the teacher's logits of {kept} of {config.epochs} epochs are "
                f"kept in {program.teacher.directory}",
                highlight=False,
                soft_wrap=True,
            )

        def settle(pending: collections.deque, keep: int) -> tuple[float, float]:
            """Wait until all but `keep` steps are done; the last one's running means."""
            loss = accuracy = 0.0
            while len(pending) > keep:
                step, totals = pending.popleft()
                loss, accuracy = totals.means()
                require_finite(loss, step, program.schedule, checkpoints)
                rate = (step - first_step) * config.batch_size / (time.perf_counter() - started)
                note = f"loss {loss:.3f}  accuracy {accuracy:.1%}  {rate:,.0f} images/s"
                bar.update(task, completed=step, note=note)
            return loss, accuracy

        def tell(done: int) -> None:
            """Show how many of the epoch's teacher logits there are; stop where that is asked."""
            note = f"{done / (time.perf_counter() - epoch_started):,.0f} views/s"
            bar.update(teaching, completed=done, visible=done < size, note=note)
            if terminated.is_set():
                stop(checkpoints)  # the newest checkpoint is the state

        for epoch in range(first_step // spe, config.epochs):
            epoch_started = time.perf_counter()
            if program.teacher:
                bar.reset(teaching, visible=False)  # its time left is of this epoch alone
            constants = program.constants(epoch, tell)
            pending: collections.deque[tuple[int, states.Totals]] = collections.deque()
            for step in range(max(first_step, epoch * spe), (epoch + 1) * spe):
                state, totals = program.train_step(state, constants, *next(batches))
                pending.append((step + 1, totals))
                settle(pending, AHEAD)
                if hosts.stop_at(step):
                    terminated.set()
                if terminated.is_set():
                    break
            train_loss, train_accuracy = settle(pending, 0)
            step = int(state.step)
            if step % spe:
                checkpoints.save(state)
                stop(checkpoints)
            loss, accuracy = validate(program, state)
            require_finite(loss, step, program.schedule, checkpoints)
            seconds = time.perf_counter() - epoch_started
            row = {
                "epoch": epoch + 1,
                "step": step,
                "learning_rate": float(program.schedule(step - 1)),
                "train_loss": train_loss,
                "train_accuracy": train_accuracy,
                "validation_loss": loss,
                "validation_accuracy": accuracy,
                "seconds": seconds,
            }
            history.append(row)
            for name, value in row.items():
                writer.add_scalar(name, value, step)
            # Before the checkpoint: a history that is too long is cut, one too short has a hole.
            hosts.on_first(lambda: runs.write_csv(workdir / runs.HISTORY, history))
            checkpoints.save(state, accuracy)
            left = (total - step) * (time.perf_counter() - started) / (step - first_step)
            bar.console.print(
                f"{workdir.name}: epoch {epoch + 1}/{config.epochs}  loss {train_loss:.3f}  "
                f"accuracy {train_accuracy:.1%}  validation {accuracy:.1%}  "
                f"{spe * config.batch_size / seconds:,.0f} images/s  {left:,.0f} s left",
                highlight=False,
                soft_wrap=True,
            )
            if terminated.is_set():
                stop(checkpoints)
    return history


def stop(checkpoints: Checkpoints) -> NoReturn:
    """End the process as SIGTERM asks, with the state safe on disk."""
    checkpoints.wait()
    if hosts.is_first():
        print("terminated: the state is saved, the same command continues", file=sys.stderr)
    raise SystemExit(143)


def validate(program: Program, state: states.TrainState) -> tuple[float, float]:
    """`evaluate` on the run's validation set."""
    return evaluate(
        program.eval_step, state.variables, program.validation, program.validation_images
    )


def evaluate(
    eval_step: Callable[..., states.Totals],
    variables: Any,
    constants: steps.Constants,
    images: Records | None = None,
) -> tuple[float, float]:
    """Mean loss and accuracy of a model on a whole split; every image counts once.

    Args:
      images: those of the split, where they are streamed.
    """
    size = len(constants.label)
    batch = -(-EVAL_BATCH // jax.device_count()) * jax.device_count()
    indices = np.pad(np.arange(size, dtype=np.int32), (0, -size % batch), constant_values=-1)
    fed = devices.feed(indices.reshape(-1, batch), images, workers=0)
    totals = devices.fetch(eval_step(variables, constants, *parts) for parts in fed)
    return jax.tree.map(lambda *leaves: sum(leaves), *totals).means()


def resident(split: Split, dataset: Dataset) -> steps.Constants:
    """Put a split on the devices, without its images where they are streamed."""
    image = None if isinstance(split.image, Records) else split.image
    return devices.replicate(steps.Constants(image, split.label, dataset.mean, dataset.std))


def streamed(split: Split) -> Records | None:
    """A split's images where they are not resident."""
    return split.image if isinstance(split.image, Records) else None


def require_finite(
    loss: float, step: int, schedule: optax.Schedule, checkpoints: Checkpoints
) -> None:
    """Raises:
    UserError: the loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        checkpoints.wait()
        newest = checkpoints.newest_step()
        good = "no checkpoint yet" if newest is None else f"the last good checkpoint is {newest}"
        with hosts.together():
            raise UserError(
                f"the loss is {loss} at step {step}, learning rate {float(schedule(step - 1)):.4g};"
                f" {good} in {checkpoints.directory}; "
                "lower optim.lr or lengthen optim.warmup_epochs, in another --workdir"
            )


@contextmanager
def sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets, in place of ending the process at once.

    Where several processes train JAX has the signal, and `hosts.stop_at` sets the event in all.
    """
    event = threading.Event()
    if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = signal.signal(signal.SIGTERM, lambda *_: event.set())
    try:
        yield event
    finally:
        signal.signal(signal.SIGTERM, before)
