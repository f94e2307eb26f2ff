"""The epochs of a training run, one after the other, each into the run's history."""

import collections
import math
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import jax
import numpy as np
import optax
from ml_collections import ConfigDict

from kdxai import devices
from kdxai.data.stream import Order
from kdxai.errors import UserError
from kdxai.progress import progress
from kdxai.training import history, hosts, signals
from kdxai.training import state as states
from kdxai.training.checkpoints import Checkpoints
from kdxai.training.feed import Placed
from kdxai.training.program import Program
from kdxai.training.reporter import Reporter

# Steps the host may run ahead of the devices; bounds how late SIGTERM is answered. Below 32, see
# `devices.fetch`.
AHEAD = 16
EVAL_BATCH = 512  # at least; rounded up to what the devices divide


class OngoingRun(NamedTuple):
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
    rows: list[dict[str, Any]],
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
        history.record(workdir, rows, first_step) as add,
        closing(program.train.feed(order)) as batches,
    ):
        reporter = Reporter(bar, workdir.name, config, program)
        run = OngoingRun(program, batches, saved, asked, reporter)
        for epoch in range(first_step // program.steps_per_epoch, config.epochs):
            state, row = run_epoch(run, epoch, state)
            # Before the checkpoint: a history that is too long is cut, one too short has a hole.
            add(row)
            saved.save(state, row["validation_accuracy"])
            reporter.end(row)
            if asked.number:
                stop(saved, asked.number)


def run_epoch(
    run: OngoingRun, epoch: int, state: states.TrainState
) -> tuple[states.TrainState, dict[str, Any]]:
    """What is left of an epoch, and its row of the history; a signal ends the process."""
    program, started = run.program, time.perf_counter()
    state, (train_loss, train_accuracy) = take_steps(run, epoch, state)
    step = int(state.step)
    if run.asked.number and step % program.steps_per_epoch:
        run.saved.save(state)
        stop(run.saved, run.asked.number)
    loss, accuracy = validate(program, state)
    require_finite(loss, step, program.schedule, run.saved)
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
    run: OngoingRun, epoch: int, state: states.TrainState
) -> tuple[states.TrainState, tuple[float, float]]:
    """The train steps that are left of an epoch, fewer where a signal came; its means so far."""
    program, saved, asked, reporter = run.program, run.saved, run.asked, run.reporter
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
        state, totals = program.train_step(state, constants, *next(run.batches))
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
    """`evaluate_split` on the run's validation set."""
    return evaluate_split(program.eval_step, state.variables, program.validation)


def evaluate_split(
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
    """Stop a run that has diverged.

    Raises:
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
