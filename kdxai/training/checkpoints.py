"""Orbax checkpoints of a run: the newest two and the best, and the way back from damage.

Reading changes nothing on the disk; only `newest`, for one who trains, mends what is damaged.

Where several processes train, process 0 alone reads and writes, and sends what it read to the
others. All must call the same functions in the same order, and a UserError is raised in all.
"""

import contextlib
import io
import json
import re
import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers as policies

from kdxai.errors import UserError, is_out_of_memory
from kdxai.fingerprints import fingerprint
from kdxai.training import hosts
from kdxai.training.state import TrainState

# What is noted beside each state: how good it is, where it was validated, and its fingerprint.
METRIC, SHA256 = "validation_accuracy", "sha256"
STATE, METRICS = "default", "metrics"  # Orbax's names of a checkpoint's parts
# Whichever other processes there are, Orbax waits for none of them.
ALONE = ocp.options.MultiprocessingOptions(primary_host=0, active_processes={0})
# Orbax takes the first for a pattern and the second for a bucket; TensorStore takes text alone.
UNSAFE = re.compile(r"[\[*?\\]|gs:(?=/|$)|[\ud800-\udfff]")
# Bytes that a checkpoint needs beside its arrays: for each array, and in all.
EACH, SPARE = 1 << 12, 1 << 20


def folder(workdir: Path) -> Path:
    """That of a run's checkpoints.

    Raises:
      UserError: Orbax would look for them elsewhere.
    """
    directory = Path(workdir).resolve() / "checkpoints"
    if found := UNSAFE.search(str(directory)):
        raise UserError(
            f"checkpoints cannot be kept in {str(directory)!a}: their library misreads "
            f"{found[0]!a} in a path; rename that directory or choose another"
        )
    return directory


def best(workdir: Path, step: int | None, like: TrainState) -> TrainState:
    """The checkpoint that a finished run names as its best.

    Args:
      step: that of the checkpoint; only process 0 must know.
      like: a state of the same structure, for shapes and types.

    Raises:
      UserError: it is missing or cannot be read.
    """
    return hosts.from_first(hosts.on_first(lambda: _best(folder(workdir) / str(step), like)), like)


def newest(workdir: Path, like: TrainState, accuracies: Mapping[int, float]) -> TrainState | None:
    """The newest readable state, or None where the run has not saved yet.

    Damaged ones are deleted with a warning, so that the run can save those steps again.

    Args:
      like: a state of the same structure, for shapes and types.
      accuracies: step -> validation accuracy, of the run's history.

    Raises:
      UserError: there are checkpoints and none can be read, or they are not this run's to mend.
    """
    state = hosts.on_first(lambda: _newest(folder(workdir), like, accuracies))
    return hosts.from_first(state, like) if hosts.first_says(state is not None) else None


class Checkpoints:
    """Saves the states of one run, numbered by step, once `newest` has looked at what is there."""

    def __init__(self, workdir: Path):
        self.directory = folder(workdir)
        accuracy = lambda metrics: metrics.get(METRIC, -1.0)  # noqa: E731
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
        self._manager: Any = hosts.on_first(lambda: self._open(options))

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

    def best(self, like: TrainState) -> TrainState:
        """The state with the best validation accuracy, of those on disk."""
        return best(self.directory.parent, hosts.on_first(self._best_step), like)

    def newest_step(self) -> int | None:
        """The step of the newest checkpoint; only process 0 knows."""
        return self._manager.latest_step() if self._manager else None

    def close(self) -> None:
        """Wait for what is being saved, and say nothing of what becomes of it."""
        if self._manager:
            with contextlib.suppress(Exception):  # Whoever must know has called `wait`.
                self._manager.close()

    def _open(self, options: ocp.CheckpointManagerOptions) -> ocp.CheckpointManager:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            return ocp.CheckpointManager(self.directory, options=options)
        except OSError as error:
            raise _unwritable(self.directory, error) from error

    def _save(self, state: TrainState, accuracy: float | None) -> None:
        self._wait()  # the one before has taken its space, and has made room
        size = sum(leaf.nbytes + EACH for leaf in jax.tree.leaves(state)) + SPARE
        free = shutil.disk_usage(self.directory).free
        if free < size:
            # Said before Orbax tries: its threads answer a full disk with tracebacks.
            why = OSError(0, f"{-(-size >> 20)} MiB needed, {free >> 20} MiB free")
            raise _unwritable(self.directory, why)
        if jax.process_count() > 1:
            # Orbax takes no jax.Array that one process of several has for itself. Copies, since the
            # next step is given the memory.
            state = jax.tree.map(np.array, state)
        notes = {SHA256: fingerprint(state)} | ({} if accuracy is None else {METRIC: accuracy})
        try:
            self._manager.save(int(state.step), args=ocp.args.StandardSave(state), metrics=notes)
        except Exception as error:  # TensorStore has its own for a full disk.
            raise _unwritable(self.directory, error) from error

    def _wait(self) -> None:
        try:
            self._manager.wait_until_finished()
        except Exception as error:
            raise _unwritable(self.directory, error) from error

    def _best_step(self) -> int:
        step = self._manager.best_step()
        if step is None:
            raise UserError(f"{self.directory} holds no checkpoint; train the model first")
        return step


def _best(path: Path, like: TrainState) -> TrainState:
    remedy = "restore it from a copy, or delete the run's directory and train it again"
    if not path.is_dir():
        raise UserError(f"the best checkpoint, {path}, is missing; {remedy}")
    try:
        return _restore(path, like)
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise UserError(
            f"checkpoint {path} is damaged ({type(error).__name__}); {remedy}"
        ) from error


def _newest(
    directory: Path, like: TrainState, accuracies: Mapping[int, float]
) -> TrainState | None:
    if directory.is_symlink():
        raise UserError(
            f"{directory} is a symbolic link, and what it leads to is no part of the run; put the "
            "directory itself there"
        )
    for path in directory.glob(f"*{ocp.utils.TMP_DIR_SUFFIX}*"):  # of a save that was killed
        _delete(path)
    found, whole, damaged = None, set(), {}
    for step in reversed(_steps(directory)):
        path = directory / str(step)
        try:
            state = _restore(path, like)
            _require_noted(path, state)
        except Exception as error:  # Orbax and TensorStore raise whatever the damage causes.
            if is_out_of_memory(error):
                raise
            if isinstance(error, PermissionError) or "PERMISSION_DENIED" in str(error):
                raise UserError(f"cannot read {path}: Permission denied") from error
            damaged[step] = type(error).__name__
            continue
        try:
            _mend_notes(path, state, accuracies.get(step))
        except OSError as error:
            raise _unwritable(directory, error) from error
        found = state if found is None else found
        whole.add(step)
    if found is None:
        if damaged:
            raise UserError(
                f"no checkpoint in {directory} can be read; delete the directory to start again"
            )
        return None
    for step, why in damaged.items():
        later = step > int(found.step)
        then = "going back to the one before it" if later else "it is deleted"
        _warn(f"checkpoint {directory / str(step)} cannot be read ({why}); {then}")
        _delete(directory / str(step))
    known = [(accuracy, step) for step, accuracy in accuracies.items() if step <= found.step]
    if known and (top := max(known))[1] not in whole:
        _warn(
            f"the best checkpoint so far, {directory / str(top[1])} with validation accuracy "
            f"{top[0]:.2%}, is lost; the best of the others takes its place"
        )
    return found


def _steps(directory: Path) -> list[int]:
    """Those that have an entry, whole or damaged, oldest first."""
    if not directory.is_dir():
        return []
    names = (path.name for path in directory.iterdir())
    return sorted(int(name) for name in names if re.fullmatch("0|[1-9][0-9]*", name))


def _restore(path: Path, like: TrainState) -> TrainState:
    """One checkpoint, read without a manager, which remembers what it failed to read."""
    if not (path / STATE).is_dir():
        raise FileNotFoundError(path / STATE)
    abstract: Any = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
    handler = ocp.StandardCheckpointHandler(multiprocessing_options=ALONE)
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            with ocp.Checkpointer(handler, multiprocessing_options=ALONE) as reader:
                return reader.restore(path / STATE, args=ocp.args.StandardRestore(abstract))
        except Exception:
            time.sleep(2)  # TensorStore's threads go on printing tracebacks of damaged files
            raise


def _notes(path: Path) -> dict[str, Any]:
    """What is noted beside a state; {} where that is missing or damaged."""
    try:
        notes = json.loads((path / METRICS / METRICS).read_text())
        return notes if isinstance(notes.get(METRIC, 0.0), int | float) else {}
    except (OSError, ValueError, AttributeError, RecursionError):
        return {}


def _require_noted(path: Path, state: TrainState) -> None:
    """Check a state that was read by the digest noted when it was saved.

    Raises:
      ValueError: the state is another than the one that was saved; a flipped bit is not noticed
        by who reads an array.
    """
    if int(state.step) != int(path.name):
        raise ValueError(f"step {state.step}")
    now = fingerprint(state)
    if _notes(path).get(SHA256, now) != now:
        raise ValueError(now)


def _mend_notes(path: Path, state: TrainState, accuracy: float | None) -> None:
    """Note again what is lost, as the history has it.

    Orbax would not start beside damaged notes, and would forget the best checkpoint without them.
    """
    notes = _notes(path)
    if accuracy is None:  # within an epoch, or in one that the history has lost
        whole = bool(notes) or not (path / METRICS).exists()
    else:
        whole = notes.get(METRIC) == accuracy
    if whole:
        return
    _warn(f"checkpoint {path}: its metrics are damaged; they are written again from the history")
    notes = {SHA256: fingerprint(state)} | ({} if accuracy is None else {METRIC: accuracy})
    _delete(path / METRICS)
    (path / METRICS).mkdir()
    (path / METRICS / METRICS).write_text(json.dumps(notes))


def _delete(path: Path) -> None:
    """Whatever it is; what a link leads to stays."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _warn(message: str) -> None:
    warnings.warn(message, stacklevel=5)


def _unwritable(directory: Path, error: Exception) -> UserError:
    why = getattr(error, "strerror", None) or str(error).splitlines()[0][:200]
    return UserError(
        f"cannot write a checkpoint to {directory}: {why}; free some space or choose another "
        "--workdir, then give the same command again"
    )
