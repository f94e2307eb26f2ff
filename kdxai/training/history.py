"""A run's epochs, a row each: a file, and TensorBoard's curves beside it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from kdxai import files
from kdxai.training import hosts, runs
from kdxai.training.curves import curves


@contextmanager
def record(
    workdir: Path, rows: list[dict[str, Any]], first_step: int
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that adds a row to those of earlier epochs, and has it on the disk.

    Args:
      first_step: as for `curves`.

    Raises:
      UserError: it cannot be written, also from the function.
    """
    with ExitStack() as stack:
        directory = workdir / "tensorboard"
        add_point = hosts.on_first(lambda: stack.enter_context(curves(directory, first_step)))

        def write(row: dict[str, Any]) -> None:
            files.write_csv(workdir / runs.HISTORY, rows)
            if add_point:
                add_point(row["step"], row)

        def add(row: dict[str, Any]) -> None:
            rows.append(row)
            hosts.on_first(partial(write, row))

        yield add
