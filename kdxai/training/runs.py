"""A training run's work directory: what is in it, who may write it, how to read it again."""

import contextlib
import csv
import json
import os
import platform
import textwrap
import warnings
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from kdxai import devices, files, models
from kdxai.errors import UserError
from kdxai.fingerprints import fingerprint
from kdxai.settings import difference, flatten
from kdxai.training import checkpoints, hosts
from kdxai.training import state as states

CONFIG, RESULT, HISTORY, LOCK = "config.json", "result.json", "history.csv", "lock"
CONTENT = "content"  # in config.json, of `claim`
BEST_STEP, SHA256 = "best_step", "sha256"  # in result.json: which checkpoint, of what variables
# What readers of a result rely on: its type and, of a list, that of its elements.
NEEDED: dict[str, tuple[Any, Any]] = {
    "best_epoch": (int, None),
    "validation_accuracy": (int | float, None),
    "test_accuracy": (int | float, None),
    "data": (str, None),
    "class_names": (list, str),
    "mean": (list, int | float),
    "std": (list, int | float),
    "image_shape": (list, int),
}
LATER: dict[str, tuple[Any, Any]] = {BEST_STEP: (int, None), SHA256: (str, None)}


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
        return np.asarray(self.result["mean"], np.float32)

    @property
    def std(self) -> np.ndarray:
        """[C] float32."""
        return np.asarray(self.result["std"], np.float32)


def claim(workdir: Path, config: ConfigDict, content: Mapping[str, str] | None = None) -> None:
    """Make the directory this config's, or check that it is.

    Args:
      content: what the config names by its place alone, such as {"data.data_dir": a fingerprint of
        the data}. It is kept with the config, and compared in place of the setting, so that
        a place may be written otherwise or move, and what is there may not change.

    Raises:
      UserError: it cannot be written, it holds something made with another config or of other
        content, or several hosts that do not know of each other would write it.
    """
    hosts.require_known()
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
    elif changes := difference(_compared(found, wanted), _compared(wanted, found)):
        raise UserError(
            f"{workdir} was made with another config: {changes}; change it back or choose another "
            "--workdir"
        )
    elif found != wanted and found.get(CONTENT) == wanted.get(CONTENT):
        files.write_json(path, wanted)  # what has moved is found where it is now


def _compared(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of one that are compared with another's, each place by what is there.

    An older version kept no content; what it found at a place is not known.
    """
    contents = [config.get(CONTENT) for config in (one, other)]
    own, its = (content if isinstance(content, dict) else {} for content in contents)
    flat = flatten({key: value for key, value in one.items() if key != CONTENT})
    settings = {key: value for key, value in flat.items() if key not in own.keys() | its.keys()}
    known = own if own and its else {}
    return settings | {f"content of {key}": str(text)[:16] for key, text in known.items()}


@contextlib.contextmanager
def occupied(workdir: Path) -> Iterator[None]:
    """Keep others from training in a directory; a process that ends, however it does, lets go.

    Raises:
      UserError: another is training in it.
    """
    with hosts.on_first(lambda: files.lock(workdir / LOCK)) or contextlib.nullcontext():
        yield


def read_result(workdir: Path) -> dict[str, Any] | None:
    """What a finished run says of itself; None while it is not finished.

    Raises:
      UserError: the file is damaged.
    """
    path = Path(workdir) / RESULT
    if not files.there(path):
        return None
    remedy = "delete it and give the run's command again, which writes it anew"
    result = files.read_json(path, remedy)
    if lacking := sorted(NEEDED.keys() - result.keys()):
        raise UserError(f"{path} is damaged: it has no '{lacking[0]}'; {remedy}")
    for name, (kind, element) in (NEEDED | LATER).items():
        value = result.get(name)
        parts = value if isinstance(value, list) else []
        if name in result and not (
            isinstance(value, kind) and all(isinstance(part, element) for part in parts)
        ):
            raise UserError(
                f"{path} is damaged: its '{name}' is {textwrap.shorten(repr(value), 60)}; {remedy}"
            )
    return result


def read_history(workdir: Path) -> list[dict[str, Any]]:
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
    if not os.path.isdir(workdir):
        raise UserError(f"there is no directory {workdir}; train the model there first")
    path = workdir / CONFIG
    if not files.there(path):
        raise UserError(
            f"{workdir} holds no training run; give a work directory of launch/train.py"
        )
    result = read_result(workdir)
    if result is None:
        raise UserError(
            f"the run in {workdir} is not finished; continue it with the command that started it"
        )
    remedy = "restore it from a copy, or delete the directory and train again"
    config = files.read_json(path, remedy)
    config.pop(CONTENT, None)
    if not all(isinstance(config.get(part), dict) for part in ("data", "model", "optim")):
        raise UserError(f"{path} is damaged: it is no config of a training run; {remedy}")
    return ConfigDict(config), result


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
    variables = checkpoints.best(Path(workdir), best_step(workdir, result), like).variables
    require_same(workdir, result, variables)
    return TrainedModel(model, variables, config, result)


def best_step(workdir: str | Path, result: Mapping[str, Any]) -> int:
    """The step of the checkpoint that a finished run's result is of.

    Raises:
      UserError: an older version made the run, and its history has no such epoch.
    """
    if BEST_STEP in result:
        return result[BEST_STEP]
    epoch = result["best_epoch"]
    steps = [row["step"] for row in read_history(Path(workdir)) if row["epoch"] == epoch]
    if not steps and epoch:
        raise UserError(
            f"{workdir} does not tell which checkpoint is epoch {epoch}; delete "
            f"{Path(workdir) / RESULT} and give the run's command again, which writes it anew"
        )
    return steps[0] if epoch else 0


def require_same(workdir: str | Path, result: Mapping[str, Any], variables: Any) -> None:
    """Raises:
    UserError: the variables are not those that a finished run's result is of; a flipped bit is not
      noticed by who reads an array.
    """
    if SHA256 not in result:
        warnings.warn(
            f"an older version made {workdir}, without a fingerprint of its variables, so they are "
            f"not checked; delete {Path(workdir) / RESULT} and give the run's command again to add "
            "it",
            stacklevel=3,
        )
    elif fingerprint(variables) != result[SHA256]:
        raise UserError(
            f"checkpoint {checkpoints.folder(Path(workdir)) / str(result[BEST_STEP])} is damaged: "
            f"its variables are not those of {Path(workdir) / RESULT}; restore it from a copy, or "
            "delete the run's directory and train it again"
        )
