"""What was measured, cached under a name that tells all it depends on."""

import hashlib
import io
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from kdxai import files
from kdxai.data.datasets import Split
from kdxai.errors import UserError
from kdxai.fingerprints import fingerprint
from kdxai.measures import Model
from kdxai.study.identity import identity

# Of what records hold and how it is computed. Raise it where a measure gives other numbers or other
# columns than before: records of another version are not read.
VERSION = 2
CHUNK = 500  # images in memory at once while they are fingerprinted


class Shelf:
    """The records and maps of a work directory, each named by all that it depends on.

    So a model trained anew, other images or other settings are measured again; records of what was
    before stay, unread. A file starts with a line that tells whether the rest is whole.

    Attributes:
      directory: that of the files; it can be deleted at any time.
    """

    def __init__(self, workdir: Path):
        self.directory = workdir / "records"
        self._prints: dict[tuple[int, ...], tuple[Any, str]] = {}

    def cached(
        self, columns: Mapping[str, Any], depends: Sequence[Any], make: Callable[[], pd.DataFrame]
    ) -> pd.DataFrame:
        """The rows that `make` returns, behind `columns`; made once, then read.

        Args:
          columns: `seed`, and names that the file has too.
          depends: all that the rows are computed from, as texts.

        Raises:
          UserError: the file cannot be read or written.
        """
        path = self.path(columns, depends, ".csv")
        text = read_checked(path)
        if text is None:
            text = make().to_csv(index=False)
            write_checked(path, text.encode())
        # Read also where they were just made: the same digits, whoever asks.
        rows = pd.read_csv(io.StringIO(text), keep_default_na=False)
        return rows.assign(**columns)[[*columns, *rows]]

    def arrays(
        self,
        columns: Mapping[str, Any],
        names: Sequence[str],
        depends: Sequence[Any],
        make: Callable[[], Mapping[str, np.ndarray]],
    ) -> dict[str, np.ndarray]:
        """The arrays that `make` returns, a file each; made once, then mapped into memory.

        Args:
          columns, depends: as for `cached`.
          names: of the arrays, all but empty ones.

        Raises:
          UserError: a file cannot be read or written.
        """
        paths = {name: self.path(columns, depends, f"-{name}.npy") for name in names}
        found = {name: read_array(path) for name, path in paths.items()}
        if any(array is None for array in found.values()):
            for name, array in make().items():
                content = io.BytesIO()
                np.save(content, np.ascontiguousarray(array))
                write_checked(paths[name], content.getvalue())
            found = {name: read_array(path) for name, path in paths.items()}
        return {name: array for name, array in found.items() if array is not None}

    def path(self, columns: Mapping[str, Any], depends: Sequence[Any], ending: str) -> Path:
        """The file that is named by `columns` and by all that its content depends on."""
        digest = hashlib.sha256(json.dumps([VERSION, *depends]).encode()).hexdigest()[:12]
        seed = [f"seed{columns['seed']}"] if "seed" in columns else []
        names = [str(value) for key, value in columns.items() if key not in ("seed", "line")]
        return self.directory / f"{'-'.join([*seed, *names, digest])}{ending}"

    def model(self, model: Model) -> str:
        """`identity`, taken once."""
        return self._once(lambda: identity(model), model)

    def images(self, split: Split, rows: np.ndarray | None = None) -> str:
        """A fingerprint of some images of a split, or of all: numbers, pixels, labels, masks."""

        def read() -> str:
            digest = hashlib.sha256()
            numbers = np.arange(len(split.label)) if rows is None else rows
            for start in range(0, len(numbers), CHUNK):  # they may be more than the memory holds
                part = numbers[start : start + CHUNK]
                masks = None if split.mask is None else split.mask[part]
                known = {"id": part, "label": split.label[part], "mask": masks}
                digest.update(fingerprint({"image": split.image[part], **known}).encode())
            return digest.hexdigest()

        return self._once(read, split.image, split.label, split.mask, rows)

    def _once(self, read: Callable[[], str], *things: Any) -> str:
        """What `read` returns of things that stay as they are, read once."""
        key = tuple(map(id, things))
        if key not in self._prints:
            self._prints[key] = things, read()  # kept alive, so that no other gets their numbers
        return self._prints[key][1]


def numbered(rows: pd.DataFrame, images: np.ndarray) -> pd.DataFrame:
    """Rows behind the numbers of their images."""
    return rows.assign(image=images)[["image", *rows]]


def read_checked(path: Path) -> str | None:
    """The text that `write_checked` wrote; None as of `start`.

    Raises:
      UserError: it cannot be read.
    """
    begin = start(path)
    return None if begin is None else path.read_bytes()[begin:].decode()


def read_array(path: Path) -> np.ndarray | None:
    """The array of a .npy file that `write_checked` wrote, on the disk; None as of `start`.

    Raises:
      UserError: it cannot be read.
    """
    begin = start(path)
    if begin is None:
        return None
    with path.open("rb") as file:
        file.seek(begin)
        np.lib.format.read_magic(file)
        shape, _, dtype = np.lib.format.read_array_header_1_0(file)
        return np.memmap(path, dtype, "r", file.tell(), shape)


def start(path: Path) -> int | None:
    """Where the content begins of what `write_checked` wrote.

    None where there is nothing, or, with a warning, it is damaged.

    Raises:
      UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            head = file.readline()
            digest = hashlib.file_digest(file, "sha256")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; delete it") from error
    if head == header(digest.hexdigest()):
        return len(head)
    warnings.warn(f"{path} is damaged; what it held is measured again", stacklevel=3)
    return None


def write_checked(path: Path, content: bytes) -> None:
    """A file behind a line that tells whether it is whole.

    Raises:
      UserError: it cannot be written.
    """
    files.make_directory(path.parent)
    files.write_bytes(path, header(hashlib.sha256(content).hexdigest()) + content)


def header(digest: str) -> bytes:
    return f"# sha256 of what follows: {digest}\n".encode()
