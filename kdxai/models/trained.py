"""A model that can be used: all that later rooms know of it, and nothing of how it came to be."""

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors
import safetensors.numpy
from flax.traverse_util import flatten_dict, unflatten_dict

from kdxai import files, models
from kdxai.errors import UserError
from kdxai.fingerprints import fingerprint
from kdxai.models.network import Network

MODEL, WEIGHTS = "model.json", "weights.safetensors"
REMEDY = "restore it from a copy, or delete it and give the command again that made the model"
# What readers of `model.json` rely on: its type and, of a list, that of its elements.
NEEDED: dict[str, tuple[Any, Any]] = {
    "architecture": (dict, None),
    "class_names": (list, str),
    "mean": (list, int | float),
    "std": (list, int | float),
    "image_shape": (list, int),
    "sha256": (str, None),
    "facts": (dict, None),
}
# Of the facts, where they are known.
FACTS: dict[str, Any] = {
    "model": str,
    "parameters": int,
    "test_accuracy": int | float,
    "validation_accuracy": int | float,
    "best_epoch": int,
    "seconds": int | float,
    "data": dict,
    "data_fingerprint": str,
    "origin": dict,
    "worth": dict,
    "crop": int | float,
}


class Trained(NamedTuple):
    """A network with variables and what is known of it.

    Attributes:
      model: `model.apply(variables, images, train=False) -> logits` on normalised images.
      architecture: what `models.create` makes the model of, but for the number of classes.
      variables: collections of arrays, `params` among them.
      mean, std: [C] float32, by which images in [0, 1] are normalised.
      class_names: K names.
      image_shape: (H, W, C) of the images that it was made for.
      facts: what else is known, as JSON holds it: `model`, `parameters`, `test_accuracy` (a share),
        `data` (settings of `datasets.load`), `data_fingerprint`, `origin`, `worth`
        (`compress.worth`); `crop`, of the pictures that it is shown (`data.pictures.read`).
    """

    model: Network
    architecture: Mapping[str, Any]
    variables: Mapping[str, Any]
    mean: np.ndarray
    std: np.ndarray
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    facts: Mapping[str, Any]


def save(trained: Trained, directory: str | Path) -> None:
    """Write `weights.safetensors` and, last of all, `model.json`.

    Raises:
      UserError: they cannot be written.
    """
    directory = Path(directory)
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot write {directory}: {error.strerror}") from error
    arrays = flatten_dict(jax.device_get(trained.variables), sep="/")
    files.write_bytes(directory / WEIGHTS, safetensors.numpy.save(arrays))
    files.write_json(
        directory / MODEL,
        {
            "architecture": dict(trained.architecture),
            "class_names": list(trained.class_names),
            "mean": [float(value) for value in trained.mean],
            "std": [float(value) for value in trained.std],
            "image_shape": list(trained.image_shape),
            "sha256": fingerprint(trained.variables),
            "facts": dict(trained.facts),
        },
    )


def read(directory: str | Path) -> dict[str, Any]:
    """What `model.json` says: all but the arrays.

    Raises:
      UserError: there is no finished model, or the file is damaged.
    """
    path = Path(directory) / MODEL
    if path.parent.is_file():
        raise UserError(
            f"{directory} is a file, but a model is a directory; launch/import.py makes one of a "
            "file of weights"
        )
    if not path.parent.is_dir():
        raise UserError(
            f"there is no directory {directory}; give one that a training or an import has written"
        )
    if not files.there(path):
        raise UserError(
            f"{directory} holds no finished model; give again the command that began it, or the "
            "directory of another"
        )
    found = files.read_json(path, REMEDY)
    for name, (kind, element) in NEEDED.items():
        value = found.get(name)
        parts = value if isinstance(value, list) else []
        if not (isinstance(value, kind) and all(isinstance(part, element) for part in parts)):
            raise _damaged(path, name, value)
    for name, kind in FACTS.items():
        if name in found["facts"] and not isinstance(found["facts"][name], kind):
            raise _damaged(path, name, found["facts"][name])
    return found


def _damaged(path: Path, name: str, value: Any) -> UserError:
    shown = textwrap.shorten(repr(value), 60)
    return UserError(f"{path} is damaged: its '{name}' is {shown}; {REMEDY}")


def load(directory: str | Path, dtype: Any = jnp.float32) -> Trained:
    """Read a model, on one device.

    Args:
      dtype: compute dtype; in float32 an explanation does not depend on the machine.

    Raises:
      UserError: as `read`, or the weights are damaged.
    """
    found = read(directory)
    path = Path(directory) / WEIGHTS
    try:
        arrays = safetensors.numpy.load(path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; {REMEDY}") from error
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged; {REMEDY}") from error
    variables = unflatten_dict(arrays, sep="/")
    if fingerprint(variables) != found["sha256"]:
        raise UserError(f"{path} is damaged: it is not what {MODEL} is of; {REMEDY}")
    names = tuple(found["class_names"])
    try:
        model = models.create(**found["architecture"], num_classes=len(names), dtype=dtype)
    except (TypeError, UserError) as error:
        raise UserError(f"{Path(directory) / MODEL} is damaged: {error}; {REMEDY}") from error
    height, width, channels = found["image_shape"]
    return Trained(
        model=model,
        architecture=found["architecture"],
        variables=jax.tree.map(jnp.asarray, variables),
        mean=np.array(found["mean"], np.float32),
        std=np.array(found["std"], np.float32),
        class_names=names,
        image_shape=(height, width, channels),
        facts=found["facts"],
    )
