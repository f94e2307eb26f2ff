"""A run's epochs, a row each: a file, and TensorBoard's curves beside it."""

import csv
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from kdxai import files
from kdxai.errors import UserError
from kdxai.training import hosts
from kdxai.training.curves import curve_writer

HISTORY = "history.csv"


def read(workdir: Path) -> list[dict[str, Any]]:
    """The epochs that ended, oldest first; none where there is no file.

    Raises:
      UserError: the file is damaged.
    """
    path = Path(workdir) / HISTORY
    try:
        with path.open(newline="") as file:
            table = csv.DictReader(file)
            if not {"epoch", "step", "validation_accuracy"} <= set(table.fieldnames or ()):
                raise ValueError(table.fieldnames)
            return [
                {k: float(v) if k not in ("epoch", "step") else int(v) for k, v in row.items()}
                for row in table
            ]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, csv.Error) as error:
        raise UserError(
            f"{path} is damaged; restore it from a copy, or delete it to go on without the epochs "
            "that it tells of"
        ) from error


@contextmanager
def record(
    workdir: Path, rows: list[dict[str, Any]], first_step: int
) -> Iterator[Callable[[dict[str, Any]], None]]:
    """A function that adds a row to those of earlier epochs, and has it on the disk.

    Args:
      first_step: as for `curve_writer`.

    Raises:
      UserError: it cannot be written, also from the function.
    """
    with ExitStack() as stack:
        directory = workdir / "tensorboard"
        add_point = hosts.on_first(lambda: stack.enter_context(curve_writer(directory, first_step)))

        def write(row: dict[str, Any]) -> None:
            files.write_csv(workdir / HISTORY, rows)
            if add_point:
                add_point(row["step"], row)

        def add(row: dict[str, Any]) -> None:
            rows.append(row)
            hosts.on_first(partial(write, row))

        yield add
