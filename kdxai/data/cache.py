"""The cache of decoded arrays: each a directory that appears whole or not at all."""

import contextlib
import json
import re
import shutil
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdxai.data.sources import Split, mean_and_std_of
from kdxai.errors import UserError

STALE = 24 * 3600  # seconds after which nobody writes an unfinished directory any more


def write_once(
    directory: Path, name: str, make: Callable[[], tuple[tuple[str, ...], dict[str, Split]]]
) -> None:
    """Unless it is there, write what `make` gives, so that it appears whole or not at all."""
    if directory.is_dir():
        return
    class_names, splits = make()
    mean, std = mean_and_std_of(name, splits["train"].image)
    info = {"name": name, "class_names": class_names, "mean": mean.tolist(), "std": std.tolist()}
    present = {
        split: {key: array for key, array in arrays._asdict().items() if array is not None}
        for split, arrays in splits.items()
    }
    write_arrays(directory, info, present)


def write_arrays(
    directory: Path, info: Mapping[str, Any], splits: Mapping[str, Mapping[str, np.ndarray]]
) -> None:
    """A directory of .npz files and `info.json`, whole or not at all.

    Raises:
      UserError: it cannot be written.
    """
    unfinished = directory.with_name(f".{uuid.uuid4().hex}")
    try:
        unfinished.mkdir(parents=True)
        remove_stale(directory.parent)
        for split, arrays in splits.items():
            np.savez(unfinished / f"{split}.npz", **arrays)  # type: ignore[arg-type]  # a key may be allow_pickle
        (unfinished / "info.json").write_text(json.dumps(info, indent=1))
        unfinished.rename(directory)
    except OSError as error:
        if not directory.is_dir():  # else another process was faster
            raise UserError(
                f"cannot write {directory} ({error}): set KDXAI_CACHE to a directory with room"
            ) from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def remove_stale(root: Path) -> None:
    """Delete what killed processes left unfinished, as nothing in it has changed for a day."""
    for path in root.iterdir():
        if not re.fullmatch(r"\.[0-9a-f]{32}", path.name):
            continue
        with contextlib.suppress(OSError):  # another process deletes it, or it is but a link
            changed = max(part.lstat().st_mtime for part in (path, *path.iterdir()))
            if changed < time.time() - STALE:
                shutil.rmtree(path)
