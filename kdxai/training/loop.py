"""Train one model, from a config to a finished run."""

import collections
import math
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from kdxai import devices, files
from kdxai.data import datasets
from kdxai.data.datasets import Dataset, Split
from kdxai.data.stream import Order, Records
from kdxai.errors import UserError
from kdxai.fingerprints import fingerprint
from kdxai.models.trained import Trained, save
from kdxai.progress import progress
from kdxai.training import checkpoints, hosts, runs, signals, steps
from kdxai.training import state as states
from kdxai.training.checkpoints import Checkpoints
from kdxai.training.checks import check, check_teacher
from kdxai.training.curves import curves
from kdxai.training.feed import feed
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
    of all, `result.json`. Ctrl-C and SIGTERM end it after the step under way, with the state saved.

    Returns:
      What `result.json` holds. The accuracies are of the best validation checkpoint.

    Raises:
      UserError: bad settings, another config's directory, one of other data or of another teacher,
        one that another process trains in, a teacher that does not fit, a loss that is not finite,
        a full disk, too little memory on a device.
      KeyboardInterrupt: on Ctrl-C, after saving.
      SystemExit: 143 on SIGTERM, after saving.
    """
    workdir = Path(workdir)
    content = {"data.data_dir": datasets.fingerprint(dataset)}
    hosts.require_same(
        f"{config.to_json()} {content}",
        "the processes of this run have different configs or data; give all the same",
    )
    with hosts.together():
        check(config, dataset)
        check_teacher(config, dataset)
        checkpoints.folder(workdir)
    if config.teacher:
        content["teacher"] = taught_by(config.teacher)
    hosts.on_first(lambda: runs.claim(workdir, recorded(config, workdir), content))
    if result := hosts.first_says(hosts.on_first(lambda: runs.read_result(workdir))):
        return result
    with (
        runs.occupied(workdir),
        signals.held() as asked,
        devices.memory("lower batch_size, or use more devices"),
    ):
        hosts.on_first(lambda: files.remove_partial(workdir))
        result = run(config, workdir, dataset, asked)
        hosts.on_first(lambda: files.write_json(workdir / runs.RESULT, result))
    return result


def taught_by(teacher: str) -> str:
    """A finished teacher's fingerprint, computed where an older version made the run."""
    _, result = runs.finished(teacher)
    return result.get(runs.SHA256) or fingerprint(runs.load(teacher).variables)


def recorded(config: ConfigDict, workdir: Path) -> ConfigDict:
    """The config as it is kept: a teacher is found from the run, so that both can be moved."""
    kept = config.copy_and_resolve_references()
    if kept.teacher:
        kept.teacher = os.path.relpath(Path(kept.teacher).resolve(), workdir.resolve())
    return kept


def run(config: ConfigDict, workdir: Path, dataset: Dataset, asked: signals.Held) -> dict[str, Any]:
    """`train`, from the newest checkpoint to what `result.json` is to hold."""
    program = build(config, dataset)
    history = hosts.first_says(hosts.on_first(lambda: runs.read_history(workdir)))
    accuracies = {row["step"]: row["validation_accuracy"] for row in history}
    state = checkpoints.newest(workdir, program.state, accuracies) or program.state
    history = [row for row in history if row["step"] <= int(state.step)]
    if (done := int(state.step) // program.steps_per_epoch) > len(history) and hosts.is_first():
        warnings.warn(
            f"{workdir / runs.HISTORY} tells of {len(history)} of {done} epochs; the "
            "others will lack in this run's curves",
            stacklevel=3,
        )
    with closing(Checkpoints(workdir)) as saved:
        fit(config, workdir, program._replace(state=state), saved, history, asked)
        saved.wait()
        best = saved.best(program.state)
    _, validation_accuracy = evaluate(
        program.eval_step, best.variables, program.validation, program.validation_images
    )
    _, test_accuracy = evaluate(
        program.eval_step, best.variables, resident(dataset.test, dataset), streamed(dataset.test)
    )
    result = {
        "model": config.model.name,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(best.params)),
        "best_epoch": int(best.step) // program.steps_per_epoch,
        runs.BEST_STEP: int(best.step),
        runs.SHA256: fingerprint(best.variables),
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
    hosts.on_first(lambda: save(as_trained(config, dataset, best.variables, result), workdir))
    return result


def as_trained(
    config: ConfigDict, dataset: Dataset, variables: Mapping[str, Any], result: Mapping[str, Any]
) -> Trained:
    """What later rooms know of a run."""
    facts = ("model", "parameters", "test_accuracy", "validation_accuracy", "best_epoch", "seconds")
    height, width, channels = dataset.train.image.shape[1:]
    return Trained(
        model=runs.create_model(config, len(dataset.class_names)),
        architecture={"name": config.model.name, "dropout": config.model.dropout},
        variables=variables,
        mean=dataset.mean,
        std=dataset.std,
        class_names=tuple(dataset.class_names),
        image_shape=(height, width, channels),
        facts={
            **{name: result[name] for name in facts},
            "data": config.data.to_dict(),
            "data_fingerprint": datasets.fingerprint(dataset),
            "origin": {"kind": "train", "teacher": config.teacher, "machine": result["machine"]},
        },
    )


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


def fit(
    config: ConfigDict,
    workdir: Path,
    program: Program,
    saved: Checkpoints,
    history: list[dict[str, Any]],
    asked: signals.Held,
) -> None:
    """Run the epochs that come after the program's state; each adds a row to the history."""
    state = program.state
    first_step = int(state.step)
    spe, total = program.steps_per_epoch, config.epochs * program.steps_per_epoch
    if not config.epochs:  # a control that is to stay untrained
        saved.save(state, validate(program, state)[1])
    order = Order(config.seed, len(program.train.label), config.batch_size, first_step, total)
    started = time.perf_counter()
    with ExitStack() as stack:
        bar = stack.enter_context(progress(quiet=not hosts.is_first()))
        add_point = hosts.on_first(
            lambda: stack.enter_context(curves(workdir / "tensorboard", first_step))
        )
        batches = stack.enter_context(closing(feed(order, program.train_images)))
        task = bar.add_task(workdir.name, total=total, completed=first_step, note="")
        say = partial(bar.console.print, highlight=False, soft_wrap=True)
        for line in introduction(program, config.epochs):
            say(f"{workdir.name}: {line}")
        if program.teacher:
            size = program.teacher.size
            teaching = bar.add_task("teacher's logits", total=size, visible=False, note="")

        def settle(pending: collections.deque, keep: int) -> tuple[float, float]:
            """Wait until all but `keep` steps are done; the last one's running means."""
            loss = accuracy = 0.0
            while len(pending) > keep:
                step, totals = pending.popleft()
                loss, accuracy = totals.means()
                require_finite(loss, step, program.schedule, saved)
                rate = (step - first_step) * config.batch_size / (time.perf_counter() - started)
                note = f"loss {loss:.3f}  accuracy {accuracy:.1%}  {rate:,.0f} images/s"
                bar.update(task, completed=step, note=note)
            return loss, accuracy

        def tell(done: int) -> None:
            """Show how many of the epoch's teacher logits there are; stop where that is asked."""
            note = f"{done / (time.perf_counter() - epoch_started):,.0f} views/s"
            bar.update(teaching, completed=done, visible=done < size, note=note)
            if asked.number:
                stop(saved, asked.number)  # the newest checkpoint is the state

        def write(row: dict[str, Any]) -> None:
            files.write_csv(workdir / runs.HISTORY, history)
            if add_point:
                add_point(row["step"], row)

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
                    asked.number = signal.SIGTERM
                if asked.number:
                    break
            train_loss, train_accuracy = settle(pending, 0)
            step = int(state.step)
            if asked.number and step % spe:
                saved.save(state)
                stop(saved, asked.number)
            loss, accuracy = validate(program, state)
            require_finite(loss, step, program.schedule, saved)
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
            # Before the checkpoint: a history that is too long is cut, one too short has a hole.
            hosts.on_first(partial(write, row))
            saved.save(state, accuracy)
            left = (total - step) * (time.perf_counter() - started) / (step - first_step)
            say(
                f"{workdir.name}: epoch {epoch + 1}/{config.epochs}  loss {train_loss:.3f}  "
                f"accuracy {train_accuracy:.1%}  validation {accuracy:.1%}  "
                f"{spe * config.batch_size / seconds:,.0f} images/s  {left:,.0f} s left"
            )
            if asked.number:
                stop(saved, asked.number)


def introduction(program: Program, epochs: int) -> Iterator[str]:
    """What a user is told as the training begins."""
    if program.train_images is not None:
        yield (
            f"{program.train_images.nbytes / 2**20:,.0f} MiB of training images are more than is "
            "kept on a device: they are read batch by batch"
        )
    if program.teacher:
        kept = sum(program.teacher.path(epoch).exists() for epoch in range(epochs))
        yield (
            f"the teacher's logits of {kept} of {epochs} epochs are kept in "
            f"{program.teacher.directory}"
        )


def stop(saved: Checkpoints, number: int) -> NoReturn:
    """End the process as a signal asks, with the state safe on disk."""
    saved.wait()
    signals.obey(number)


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
    fed = feed(list(indices.reshape(-1, batch)), images, workers=0)
    totals = devices.fetch(eval_step(variables, constants, *parts) for parts in fed)
    return jax.tree.map(lambda *leaves: sum(leaves), *totals).means()


def resident(split: Split, dataset: Dataset) -> steps.Constants:
    """Put a split on the devices, without its images where they are streamed."""
    image = None if isinstance(split.image, Records) else split.image
    arrays = (image, split.label, dataset.mean, dataset.std)
    return steps.Constants(*devices.replicate(arrays))


def streamed(split: Split) -> Records | None:
    """A split's images where they are not resident."""
    return split.image if isinstance(split.image, Records) else None


def require_finite(loss: float, step: int, schedule: optax.Schedule, saved: Checkpoints) -> None:
    """Raises:
    UserError: the loss is NaN or infinite.
    """
    if not math.isfinite(loss):
        saved.wait()
        newest = saved.newest_step()
        good = "no checkpoint yet" if newest is None else f"the last good checkpoint is {newest}"
        with hosts.together():
            raise UserError(
                f"the loss is {loss} at step {step}, learning rate {float(schedule(step - 1)):.4g};"
                f" {good} in {saved.directory}; "
                "lower optim.lr or lengthen optim.warmup_epochs, in another --workdir"
            )
