"""TensorBoard's curves of a run."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.summary import scalar

from kdxai.errors import UserError


@contextlib.contextmanager
def curve_writer(
    directory: Path, first_step: int
) -> Iterator[Callable[[int, Mapping[str, float]], None]]:
    """A function that adds a point at a step to the curves of some names, and has it on the disk.

    Written by the caller's thread: where a disk is full, `SummaryWriter`'s own ends in a traceback
    and lets the training wait for ever.

    Args:
      first_step: what an earlier, killed run has written from here on is hidden.

    Raises:
      UserError: it cannot be written, also from the function.
    """
    if directory.is_symlink():
        raise UserError(f"{directory} is a symbolic link; delete it")
    with _plainly(directory):
        directory.mkdir(parents=True, exist_ok=True)
        # Absolute: it takes what starts with `s3:` or `gs:` for a bucket.
        writer = EventsWriter(str(directory.absolute() / "events"))

    def add(step: int, values: Mapping[str, float]) -> None:
        with _plainly(directory):
            for name, value in values.items():
                summary = scalar(name, value)
                writer.write_event(Event(wall_time=time.time(), step=step, summary=summary))
            writer.flush()

    try:
        with _plainly(directory):
            # Only events of this version heed what the next one says.
            writer.write_event(Event(step=first_step, file_version="brain.Event:2"))
            start = SessionLog(status=SessionLog.START)
            writer.write_event(Event(step=first_step, session_log=start))
        yield add
    finally:
        with contextlib.suppress(OSError):  # of what `add` has told already
            writer.close()


@contextlib.contextmanager
def _plainly(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UserError(
            f"cannot write {directory}: {error.strerror}; free some space or choose another "
            "--workdir, then give the same command again"
        ) from error
