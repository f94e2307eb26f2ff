"""Orbax checkpoints of a run: the newest two and the best, and the way back from damage.

Where several processes train, process 0 alone reads and writes, and sends what it read to the
others. All must call the same methods in the same order, and a UserError is raised in all.
"""

import contextlib
import io
import json
import shutil
import time
import warnings
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from kdxai.errors import UserError
from kdxai.training import hosts
from kdxai.training.state import TrainState

METRIC = "validation_accuracy"
# Whichever other processes there are, Orbax waits for none of them.
ALONE = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})


class Checkpoints:
    """The checkpoints below one run's work directory, numbered by step."""

    def __init__(self, workdir: Path):
        self.directory = Path(workdir).resolve() / "checkpoints"
        accuracy = lambda metrics: metrics[METRIC]  # noqa: E731
        keep = [
            policies.LatestN(2),
            policies.BestN(get_metric_fn=accuracy, n=1, keep_checkpoints_without_metrics=False),
        ]
        options = ocp.CheckpointManagerOptions(
            best_fn=accuracy,
            preservation_policy=policies.AnyPreservationPolicy(keep),
            create=False,  # Orbax creates no directory for one process of several
            multiprocessing_options=ALONE,
        )
        self._manager = hosts.on_first(lambda: self._open(options))

    def save(self, state: TrainState, accuracy: float | None = None) -> None:
        """Save in the background; `accuracy` on the validation set is what "best" is judged by.

        Raises:
          UserError: this or an earlier save could not be written.
        """
        hosts.on_first(lambda: self._save(state, accuracy))

    def wait(self) -> None:
        """Return when every save is on disk.

        Raises:
          UserError: one could not be written.
        """
        hosts.on_first(self._wait)

    def newest(self, like: TrainState) -> TrainState | None:
        """The newest readable state, or None where the run has not saved yet.

        A damaged one is deleted with a warning, so that the run can save that step again.

        Args:
          like: a state of the same structure, for shapes and types.

        Raises:
          UserError: there are checkpoints and none can be read.
        """
        state = hosts.on_first(lambda: self._newest(like))
        return hosts.from_first(state, like) if hosts.first_says(state is not None) else None

    def best(self, like: TrainState) -> TrainState:
        """The state with the best validation accuracy.

        Raises:
          UserError: there is none, or it cannot be read.
        """
        return hosts.from_first(hosts.on_first(lambda: self._best(like)), like)

    def newest_step(self) -> int | None:
        """The step of the newest checkpoint; only process 0 knows."""
        return self._manager.latest_step() if self._manager else None

    def close(self) -> None:
        if self._manager:
            self._manager.close()

    def _open(self, options: ocp.CheckpointManagerOptions) -> ocp.CheckpointManager:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._set_aside_damaged()
            return ocp.CheckpointManager(self.directory, options=options)
        except OSError as error:
            raise self._unwritable(error) from error

    def _save(self, state: TrainState, accuracy: float | None) -> None:
        step = int(state.step)
        size = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        free = shutil.disk_usage(self.directory).free
        if free < size:
            # Said before Orbax tries: its threads answer a full disk with tracebacks.
            raise self._unwritable(OSError(0, f"{size >> 20} MiB needed, {free >> 20} MiB free"))
        if jax.process_count() > 1:
            # Orbax takes no jax.Array that one process of several has for itself. Copies, since the
            # next step is given the memory.
            state = jax.tree.map(np.array, state)
        try:
            self._manager.save(
                step,
                args=ocp.args.StandardSave(state),
                metrics=None if accuracy is None else {METRIC: accuracy},
            )
        except Exception as error:  # TensorStore has its own for a full disk.
            raise self._unwritable(error) from error

    def _wait(self) -> None:
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise self._unwritable(error) from error

    def _newest(self, like: TrainState) -> TrainState | None:
        steps = sorted(self._manager.all_steps(), reverse=True)
        for step in steps:
            try:
                state = self._restore(step, like)
            except Exception as error:  # Orbax and TensorStore raise whatever the damage causes.
                self._warn(step, type(error).__name__)
                continue
            for damaged in (s for s in steps if s > step):
                self._manager.delete(damaged)
            return state
        if steps:
            raise UserError(
                f"no checkpoint in {self.directory} can be read; delete the directory to start "
                "again"
            )
        return None

    def _best(self, like: TrainState) -> TrainState:
        step = self._manager.best_step()
        if step is None:
            raise UserError(f"{self.directory} holds no checkpoint; train the model first")
        try:
            return self._restore(step, like)
        except Exception as error:
            raise UserError(
                f"checkpoint {self.directory / str(step)} is damaged ({type(error).__name__}); "
                "restore it from a copy, or delete the run's directory and train it again"
            ) from error

    def _restore(self, step: int, like: TrainState) -> TrainState:
        abstract: Any = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        with contextlib.redirect_stderr(io.StringIO()):
            try:
                return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
            except Exception:
                time.sleep(2)  # TensorStore's threads go on printing tracebacks of damaged files
                raise

    def _set_aside_damaged(self) -> None:
        """Delete checkpoints whose metrics cannot be read: Orbax would not start beside them."""
        for path in self.directory.glob("*/metrics/metrics"):
            try:
                json.loads(path.read_text())
            except ValueError:
                self._warn(path.parent.parent.name, "its metrics are damaged")
                shutil.rmtree(path.parent.parent)

    def _warn(self, step: int | str, why: str) -> None:
        warnings.warn(
            f"checkpoint {self.directory / str(step)} cannot be read ({why}); going back to the "
            "one before it",
            stacklevel=3,
        )

    def _unwritable(self, error: Exception) -> UserError:
        why = getattr(error, "strerror", None) or str(error).splitlines()[0][:200]
        return UserError(
            f"cannot write a checkpoint to {self.directory}: {why}; free some space or choose "
            "another --workdir, then give the same command again"
        )
