"""A training run's work directory: whose it is, who may write it, whether it is finished."""

import contextlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from kdxai import files
from kdxai.errors import UserError
from kdxai.models import trained
from kdxai.settings import changed_settings, flatten
from kdxai.training import hosts

CONFIG, LOCK = "config.json", "lock"
CONTENT = "content"  # in config.json, of `claim_directory`
# How a study is told, and how much of it is made: neither changes a network or a record of it.
FREE = ("title", "roles", "seeds", "only")


def claim_directory(
    workdir: Path, config: ConfigDict, content: Mapping[str, str] | None = None
) -> None:
    """Make the directory this config's, or check that it is.

    Args:
      content: what the config names by its place alone, such as {"data.data_dir": a fingerprint of
        the data}. It is kept with the config, and compared in place of the setting, so that
        a place may be written otherwise or move, and what is there may not change.

    Raises:
      UserError: it cannot be written, it holds something made with another config or of other
        content, or several hosts that do not know of each other would write it.
    """
    hosts.require_joined()
    path = workdir / CONFIG
    # JSON has no tuples: compare what a reader of the file would see.
    wanted = json.loads(config.to_json()) | ({CONTENT: dict(content)} if content else {})
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        found = files.read_json(path) if files.there(path) else None
    except OSError as error:
        raise UserError(
            f"cannot use {workdir}: {error.strerror}; choose another --workdir"
        ) from error
    if found is None:
        files.write_json(path, wanted)
    elif changes := changed_settings(_compared(found, wanted), _compared(wanted, found)):
        raise UserError(
            f"{workdir} was made with another config: {changes}; change it back or choose another "
            "--workdir"
        )
    elif found != wanted and found.get(CONTENT) == wanted.get(CONTENT):
        files.write_json(path, wanted)  # what has moved is found where it is now


def _compared(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one that are compared with another's, each place by what is there.

    An older version kept no content; what it found at a place is not known. A setting that is not
    set is as good as one that an older version did not have, and an objective was its name alone.
    A study may be told in other words, and extended.
    """
    contents = [config.get(CONTENT) for config in (one, other)]
    own, its = (content if isinstance(content, dict) else {} for content in contents)
    flat = flatten({key: value for key, value in one.items() if key not in (CONTENT, *FREE)})
    left_out = own.keys() | its.keys()
    flat = {f"{key}.name" if _is_objective(key) else key: v for key, v in flat.items()}
    settings = {k: v for k, v in flat.items() if v not in (None, "", [], ()) and k not in left_out}
    known = own if own and its else {}
    return settings | {f"content of {key}": str(text)[:16] for key, text in known.items()}


def _is_objective(key: str) -> bool:
    return key.rpartition(".")[2] == "objective"


@contextlib.contextmanager
def occupied(workdir: Path) -> Iterator[None]:
    """Keep others from training in a directory; a process that ends, however it does, lets go.

    Raises:
      UserError: another is training in it.
    """
    with hosts.on_first(lambda: files.lock(workdir / LOCK)) or contextlib.nullcontext():
        yield


def recorded(config: ConfigDict, workdir: Path) -> ConfigDict:
    """The config as it is kept: other models are found from the run, so that all can be moved."""
    kept = config.copy_and_resolve_references()
    for key in ("teacher", "start"):
        if kept[key]:
            kept[key] = os.path.relpath(Path(kept[key]).resolve(), workdir.resolve())
    return kept


def finished(workdir: str | Path) -> dict[str, Any] | None:
    """What `model.json` of a finished run says; None while the run is not finished.

    Raises:
      UserError: the file is damaged, or the model is of another origin.
    """
    parts = (trained.MODEL, trained.WEIGHTS)
    if not all(files.there(Path(workdir) / part) for part in parts):
        return None
    found = trained.read(workdir)
    if found["facts"].get("origin", {}).get("kind") != "train":
        raise UserError(f"{workdir} holds a model that no training made; choose another --workdir")
    return found
