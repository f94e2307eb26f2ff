"""A training run's work directory: what is in it, who may write it, how to read it again."""

import contextlib
import csv
import fcntl
import hashlib
import json
import platform
import uuid
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import IO, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from kdxai import models
from kdxai.errors import UserError
from kdxai.training import devices, hosts
from kdxai.training import state as states
from kdxai.training.checkpoints import Checkpoints

CONFIG, RESULT, HISTORY, LOCK = "config.json", "result.json", "history.csv", "lock"


class TrainedModel(NamedTuple):
    """A finished run, ready to be applied.

    Attributes:
      model: `model.apply(variables, images, train=False) -> logits` on normalised images.
      variables: those with the best validation accuracy.
      config: the run's settings, with the dtype that the model computes in here.
      result: what `result.json` says: accuracies, class names, normalisation, timings.
    """

    model: models.Network
    variables: Mapping[str, Any]
    config: ConfigDict
    result: Mapping[str, Any]

    @property
    def mean(self) -> np.ndarray:
        """[C] float32, of the training images in [0, 1]."""
        return np.float32(self.result["mean"])

    @property
    def std(self) -> np.ndarray:
        """[C] float32."""
        return np.float32(self.result["std"])


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file at once: a reader sees the old content or the new one, never half of it.

    Raises:
      UserError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")  # hosts may share process numbers
    try:
        partial.write_bytes(content)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror}") from error


def write_text(path: Path, text: str) -> None:
    """`write_bytes` of UTF-8."""
    write_bytes(path, text.encode())


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Raises:
    UserError: the file is damaged.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path} is damaged; delete {path.parent} to start again") from error


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows of the same keys; no rows leave no file."""
    if rows:
        lines = [",".join(rows[0]), *(",".join(map(str, row.values())) for row in rows)]
        write_text(path, "\n".join(lines) + "\n")


def claim(workdir: Path, config: ConfigDict) -> None:
    """Make the directory this config's, or check that it is.

    Raises:
      UserError: it cannot be written, it holds something made with another config, or several
        hosts that do not know of each other would write it.
    """
    hosts.require_known()
    path = workdir / CONFIG
    # JSON has no tuples: compare what a reader of the file would see.
    wanted = json.loads(config.to_json())
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        found = read_json(path) if path.exists() else None
    except OSError as error:
        raise UserError(
            f"cannot use {workdir}: {error.strerror}; choose another --workdir"
        ) from error
    if found is None:
        write_json(path, wanted)
    elif found != wanted:
        raise UserError(
            f"{workdir} was made with another config: {difference(found, wanted)}; change it back "
            "or choose another --workdir"
        )


@contextlib.contextmanager
def occupied(workdir: Path) -> Iterator[None]:
    """Keep others from training in a directory; a process that ends, however it does, lets go.

    Raises:
      UserError: another is training in it.
    """
    with hosts.on_first(lambda: _lock(workdir / LOCK)) or contextlib.nullcontext():
        yield


def _lock(path: Path) -> IO[str]:
    """An open file, locked until it is closed."""
    try:
        file = path.open("w")
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


def difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`optim.lr 0.1 -> 0.05, ...`: where two nested settings differ."""
    a, b = flatten(before), flatten(after)
    missing = "(none)"
    return ", ".join(
        f"{key} {a.get(key, missing)} -> {b.get(key, missing)}"
        for key in sorted(a | b)
        if a.get(key, missing) != b.get(key, missing)
    )


def flatten(values: Mapping[str, Any] | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Nested settings -> {"optim.lr": 0.1, ...}."""
    flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping | ConfigDict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def read_result(workdir: Path) -> dict[str, Any] | None:
    """What a finished run says of itself; None while it is not finished."""
    path = Path(workdir) / RESULT
    return read_json(path) if path.exists() else None


def read_history(workdir: Path, upto_step: int) -> list[dict[str, Any]]:
    """The epochs that ended at or before a step, oldest first."""
    path = Path(workdir) / HISTORY
    if not path.exists():
        return []
    with path.open() as file:
        rows = [
            {k: float(v) if k not in ("epoch", "step") else int(v) for k, v in row.items()}
            for row in csv.DictReader(file)
        ]
    return [row for row in rows if row["step"] <= upto_step]


def fingerprint(variables: Mapping[str, Any]) -> str:
    """SHA-256 of every array's path, type, shape and values, however they are stored.

    Equal for the runs of one config on one machine, also where one was continued.
    """
    digest = hashlib.sha256()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        array = np.asarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def machine() -> dict[str, str]:
    """The devices and the versions of what computes, for provenance."""
    packages = ("jax", "jaxlib", "flax", "optax", "dm-pix", "numpy")
    return {
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }


def compute_dtype(name: str) -> Any:
    """`auto` is bfloat16 where that is faster than float32: see `devices.fast_bfloat16`."""
    if name == "auto":
        return jnp.bfloat16 if devices.fast_bfloat16() else jnp.float32
    if name not in ("float32", "bfloat16"):
        raise UserError(f"model.dtype is auto, float32 or bfloat16, not '{name}'")
    return jnp.dtype(name)


def create_model(config: ConfigDict, num_classes: int, **options: Any) -> models.Network:
    """The model of a run's config; `options` are those of `models.create`."""
    return models.create(
        config.model.name,
        num_classes=num_classes,
        dropout=config.model.dropout,
        dtype=compute_dtype(config.model.dtype),
        **options,
    )


def finished(workdir: str | Path) -> tuple[ConfigDict, dict[str, Any]]:
    """The config and the result of a finished run.

    Raises:
      UserError: the directory is missing, holds no run, or its run is not finished.
    """
    workdir = Path(workdir)
    if not workdir.is_dir():
        raise UserError(f"there is no directory {workdir}; train the model there first")
    if not (workdir / CONFIG).exists():
        raise UserError(
            f"{workdir} holds no training run; give a work directory of launch/train.py"
        )
    result = read_result(workdir)
    if result is None:
        raise UserError(
            f"the run in {workdir} is not finished; continue it with the command that started it"
        )
    return ConfigDict(read_json(workdir / CONFIG)), result


def load(workdir: str | Path, dtype: Any = jnp.float32) -> TrainedModel:
    """Read a finished run, on one device, wherever it was trained.

    Args:
      dtype: compute dtype; in float32 an explanation does not depend on the machine.

    Raises:
      UserError: as `finished`, or the checkpoint is damaged.
    """
    config, result = finished(workdir)
    config.model.dtype = jnp.dtype(dtype).name  # what is made of this config agrees with the model
    model = create_model(config, len(result["class_names"]))
    tx = states.optimizer(config.optim, lambda step: 0.0)
    like = jax.eval_shape(
        lambda: states.create_train_state(
            model, tx, jax.random.key(0), tuple(result["image_shape"])
        )
    )
    here = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    like = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=here), like
    )
    checkpoints = Checkpoints(Path(workdir))
    try:
        variables = checkpoints.best(like).variables
    finally:
        checkpoints.close()
    return TrainedModel(model, variables, config, result)
