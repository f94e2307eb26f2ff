"""Whom a student learns from: any model directory, or a classifier of one's own."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import Partial

from kdxai.data.datasets import Dataset
from kdxai.errors import UserError
from kdxai.externals import External, is_external, load_external
from kdxai.fingerprints import fingerprint
from kdxai.lifting import lift
from kdxai.models import trained
from kdxai.training.steps import logits_of


class Teacher(NamedTuple):
    """A classifier of a batch as a function of arrays.

    Attributes:
      apply: (variables, [B, H, W, C] normalised) -> [B, K] logits.
      variables: a pytree of arrays.
      mean, std: [C], by which it normalises images.
      num_classes: K.
      dtype: that it computes in.
      label: what its logits are filed under, for a person who looks for them.
      directory: where they are cached.
    """

    apply: Callable[[Any, jax.Array], jax.Array]
    variables: Any
    mean: np.ndarray
    std: np.ndarray
    num_classes: int
    dtype: Any
    label: str
    directory: Path


def load(place: str, dtype: Any) -> Teacher:
    """A model directory, or what `path/to/file.py:function` returns.

    Args:
      dtype: that a model of a directory is to compute in; another has its own.

    Raises:
      UserError: there is no finished model, or it is damaged; as `load_external`.
    """
    known: External | trained.Trained
    if is_external(place):
        file, _, label = place.partition(":")
        directory, dtype = Path(file).parent, jnp.float32
        known = load_external(place)
        variables: Any = _lifted(known)
        apply: Callable[..., jax.Array] = _each
    else:
        directory = Path(place)
        known = model = trained.load(place, dtype)
        label = f"{dataset_of(model.facts)}-{jnp.dtype(dtype).name}".replace("/", "-")
        apply, variables = partial(logits_of, model.model), model.variables
    return Teacher(
        apply=apply,
        variables=variables,
        mean=known.mean,
        std=known.std,
        num_classes=len(known.class_names),
        dtype=dtype,
        label=label,
        directory=directory,
    )


def _lifted(external: External) -> Partial:
    """The classifier as a pytree: the arrays that it reads, wherever it has them from."""
    image = jax.ShapeDtypeStruct(external.image_shape, jnp.float32)
    return lift(lambda image: external.classifier(image), image)


def _each(classifier: Partial, images: jax.Array) -> jax.Array:
    return jax.vmap(classifier)(images).astype(jnp.float32)


def require_fitting(place: str, dataset: Dataset) -> str:
    """The fingerprint of a teacher that fits a student's data.

    It may be normalised otherwise: both see the same views, each as it is used to.

    Raises:
      UserError: as `load`, or it has other classes, data or another image shape.
    """
    if is_external(place):
        external = load_external(place)
        file = np.frombuffer(Path(place.partition(":")[0]).read_bytes(), np.uint8)
        known, who = external._asdict(), fingerprint((_lifted(external), file))
    else:
        known = trained.read(place)
        who = known["sha256"]
    require_alike("teacher and student", known, dataset)
    return who


def require_directory(place: str) -> None:
    """Check that a teacher has feature maps.

    Raises:
      UserError: the place is no model's directory, which alone gives feature maps.
    """
    if is_external(place):
        raise UserError(
            f"the objective reads feature maps of its teacher, and {place} gives logits alone; "
            "take a model's directory, or an objective that reads logits"
        )


def require_alike(both: str, known: Mapping[str, Any], dataset: Dataset) -> None:
    """Check that a model fits a run.

    Raises:
      UserError: a model's classes, data set or images are not those of a run.
    """
    for what, its, ours in (
        ("classes", list(known["class_names"]), list(dataset.class_names)),
        ("data set", dataset_of(known["facts"], dataset.name), dataset.name),
        ("image shape", list(known["image_shape"]), list(dataset.train.image.shape[1:])),
    ):
        if its != ours:
            raise UserError(f"{both} differ in {what}: {its} and {ours}")


def dataset_of(facts: Mapping[str, Any], default: str = "images") -> str:
    """The name of the data set that a model was made for, where that is known."""
    return facts.get("data", {}).get("name", default)
