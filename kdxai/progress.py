"""The progress of everything that takes long: a bar, or lines in a log."""

import time
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

EVERY = 60.0  # seconds between two lines of a log


def progress(*, quiet: bool = False) -> Progress:
    """A bar on stderr with a free `note` field; where stderr is no terminal, a line a minute.

    Args:
      quiet: neither.
    """
    # A directory may be called [red] or :b:.
    console = Console(stderr=True, quiet=quiet, markup=False, emoji=False)
    if not quiet and not console.is_terminal:
        return Lines(console=console, disable=True)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet,
    )


class Lines(Progress):
    """Progress without a bar: what a log of a long run should say now and then."""

    # Of all of them: many short tasks one after another are long as well.
    told = time.monotonic()

    def update(self, task_id: TaskID, *args: Any, **fields: Any) -> None:
        """Note progress as `Progress` does, and print a line where it is time for one."""
        super().update(task_id, *args, **fields)
        if time.monotonic() - Lines.told >= EVERY:
            Lines.told = time.monotonic()
            self.console.print(line(self._tasks[task_id]), soft_wrap=True)


def line(task: Task) -> str:
    """`cam of student: 320 of 1,000, 12.5/s, 54 s left`, with the task's note."""
    parts = [f"{task.description}: {task.completed:,.0f} of {task.total:,.0f}"]
    if note := task.fields.get("note"):
        parts.append(note)
    elif task.speed:
        parts.append(f"{task.speed:,.3g}/s")
    if task.time_remaining is not None:
        parts.append(f"{task.time_remaining:,.0f} s left")
    return ", ".join(parts)
