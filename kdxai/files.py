"""Files that are written whole or not at all, and locks."""

import contextlib
import json
import os
import re
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from kdxai.errors import UserError


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file at once: a reader sees the old content or the new one, never half of it.

    Raises:
      UserError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # hosts may share process numbers
    try:
        with partial.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
        _sync_names(path.parent)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def _sync_names(directory: Path) -> None:
    """Put on the disk what the files of a directory are called, where the system can."""
    with contextlib.suppress(OSError):
        number = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


def remove_partial(directory: Path, age: float = 0.0) -> None:
    """Delete what `write_bytes` left in a directory as it was killed.

    Args:
      age: seconds since it was touched; where others write too, more than a write takes.
    """
    for path in directory.iterdir():
        with contextlib.suppress(OSError):  # another may delete it
            partial = re.fullmatch(r"\..+\.[0-9a-f]{32}", path.name) and path.is_file()
            if partial and time.time() - path.stat().st_mtime >= age:
                path.unlink()


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def there(path: Path) -> bool:
    """Whether there is such a file, readable or not."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass
    return True


def read_json(path: Path, remedy: str = "") -> dict[str, Any]:
    """What a JSON file says.

    Args:
      remedy: what a user is to do about a damaged file.

    Raises:
      UserError: the file is missing, cannot be read or is damaged.
    """
    remedy = remedy or f"delete {path.parent} to start again"
    try:
        value = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged; {remedy}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} is damaged: it holds no settings by name; {remedy}")
    return value


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows of the same keys; no rows leave no file."""
    if rows:
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        write_text(path, "\n".join(lines) + "\n")


def make_directory(path: Path) -> None:
    """A directory to write to.

    Raises:
      UserError: it is not there and cannot be made, or it is a link, maybe to elsewhere.
    """
    if path.is_symlink():
        raise UserError(f"{path} is a symbolic link; delete it")
    try:
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def lock(path: Path) -> IO[str]:
    """An open file, locked until it is closed.

    Raises:
      UserError: another process has locked it, or it cannot be written.
    """
    try:
        import fcntl  # not on Windows, where all but training may work
    except ImportError:
        raise UserError(
            "training keeps others out of its directory by a lock that Windows does not have; "
            "train on Linux, macOS or WSL"
        ) from None
    if path.is_symlink():
        raise UserError(f"{path} is a symbolic link; delete it")
    try:  # neither cutting a file that is there nor following a link
        file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666), "r+")
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror}") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise UserError(
            f"another process is training in {path.parent}; wait for it or choose another --workdir"
        ) from None
    except OSError:  # a file system without locks
        pass
    return file
