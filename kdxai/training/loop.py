"""Train one model, from a config to a finished run."""

import collections
import math
import os
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np
import optax
from ml_collections import ConfigDict

from kdxai import devices, files
from kdxai.data import datasets
from kdxai.data.datasets import Dataset
from kdxai.data.stream import Order
from kdxai.errors import UserError
from kdxai.fingerprints import fingerprint
from kdxai.models.trained import Trained, save
from kdxai.progress import progress
from kdxai.training import checkpoints, hosts, runs, signals
from kdxai.training import state as states
from kdxai.training.checkpoints import Checkpoints
from kdxai.training.checks import check, check_teacher
from kdxai.training.feed import Placed, place
from kdxai.training.history import record
from kdxai.training.program import Program, build
from kdxai.training.reporter import Reporter

# Steps the host may run ahead of the devices; bounds how late SIGTERM is answered. Below 32, see
# `devices.fetch`.
AHEAD = 16
EVAL_BATCH = 512  # at least; rounded up to what the devices divide


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
    _, validation_accuracy = evaluate(program.eval_step, best.variables, program.validation)
    _, test_accuracy = evaluate(program.eval_step, best.variables, place(dataset.test, dataset))
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


class Going(NamedTuple):
    """A run that is going on: what its epochs share, besides the state that they pass on."""

    program: Program
    batches: Iterator[tuple[np.ndarray, ...]]
    saved: Checkpoints
    asked: signals.Held
    reporter: Reporter


def fit(
    config: ConfigDict,
    workdir: Path,
    program: Program,
    saved: Checkpoints,
    history: list[dict[str, Any]],
    asked: signals.Held,
) -> None:
    """Run the epochs that come after the program's state; each adds a row to the history."""
    state, first_step = program.state, int(program.state.step)
    if not config.epochs:  # a control that is to stay untrained
        saved.save(state, validate(program, state)[1])
    total = config.epochs * program.steps_per_epoch
    order = Order(config.seed, program.train.size, config.batch_size, first_step, total)
    with (
        progress(quiet=not hosts.is_first()) as bar,
        record(workdir, history, first_step) as add,
        closing(program.train.feed(order)) as batches,
    ):
        reporter = Reporter(bar, workdir.name, config, program)
        going = Going(program, batches, saved, asked, reporter)
        for epoch in range(first_step // program.steps_per_epoch, config.epochs):
            state, row = run_epoch(going, epoch, state)
            # Before the checkpoint: a history that is too long is cut, one too short has a hole.
            add(row)
            saved.save(state, row["validation_accuracy"])
            reporter.end(row)
            if asked.number:
                stop(saved, asked.number)


def run_epoch(
    going: Going, epoch: int, state: states.TrainState
) -> tuple[states.TrainState, dict[str, Any]]:
    """What is left of an epoch, and its row of the history; a signal ends the process."""
    program, started = going.program, time.perf_counter()
    state, (train_loss, train_accuracy) = take_steps(going, epoch, state)
    step = int(state.step)
    if going.asked.number and step % program.steps_per_epoch:
        going.saved.save(state)
        stop(going.saved, going.asked.number)
    loss, accuracy = validate(program, state)
    require_finite(loss, step, program.schedule, going.saved)
    return state, {
        "epoch": epoch + 1,
        "step": step,
        "learning_rate": float(program.schedule(step - 1)),
        "train_loss": train_loss,
        "train_accuracy": train_accuracy,
        "validation_loss": loss,
        "validation_accuracy": accuracy,
        "seconds": time.perf_counter() - started,
    }


def take_steps(
    going: Going, epoch: int, state: states.TrainState
) -> tuple[states.TrainState, tuple[float, float]]:
    """The train steps that are left of an epoch, fewer where a signal came; its means so far."""
    program, saved, asked, reporter = going.program, going.saved, going.asked, going.reporter
    pending: collections.deque[tuple[int, states.Totals]] = collections.deque()

    def settle(keep: int) -> tuple[float, float]:
        """Wait until all but `keep` steps are done; the last one's running means."""
        loss = accuracy = 0.0
        while len(pending) > keep:
            step, totals = pending.popleft()
            loss, accuracy = totals.means()
            require_finite(loss, step, program.schedule, saved)
            reporter.step(step, loss, accuracy)
        return loss, accuracy

    def tell(done: int) -> None:
        reporter.views(done)
        if asked.number:
            stop(saved, asked.number)  # the newest checkpoint is the state

    reporter.begin()
    constants = program.constants(epoch, tell)
    for step in range(int(state.step), (epoch + 1) * program.steps_per_epoch):
        state, totals = program.train_step(state, constants, *next(going.batches))
        pending.append((step + 1, totals))
        settle(AHEAD)
        if hosts.stop_at(step):
            asked.number = signal.SIGTERM
        if asked.number:
            break
    return state, settle(0)


def stop(saved: Checkpoints, number: int) -> NoReturn:
    """End the process as a signal asks, with the state safe on disk."""
    saved.wait()
    signals.obey(number)


def validate(program: Program, state: states.TrainState) -> tuple[float, float]:
    """`evaluate` on the run's validation set."""
    return evaluate(program.eval_step, state.variables, program.validation)


def evaluate(
    eval_step: Callable[..., states.Totals], variables: Any, split: Placed
) -> tuple[float, float]:
    """Mean loss and accuracy of a model on a whole split; every image counts once."""
    batch = -(-EVAL_BATCH // jax.device_count()) * jax.device_count()
    indices = np.arange(split.size, dtype=np.int32)
    indices = np.pad(indices, (0, -split.size % batch), constant_values=-1)
    fed = split.feed(list(indices.reshape(-1, batch)), workers=0)
    totals = devices.fetch(eval_step(variables, split.constants, *parts) for parts in fed)
    return jax.tree.map(lambda *leaves: sum(leaves), *totals).means()


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
