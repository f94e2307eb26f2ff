"""BatchNorm's statistics, estimated anew for a network whose weights have changed."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from kdxai import inputs, models
from kdxai.compress.kernels import Path
from kdxai.compress.values import require_one_of
from kdxai.data import augment
from kdxai.errors import UserError
from kdxai.models.network import MOMENTUM
from kdxai.models.trained import Trained

BATCH = 500  # images
PAD = 4  # pixels around an image (He et al. 2015)
BORDERS: dict[str, Any] = {"black": "constant", "reflect": "reflect"}


def batch_norm(trained: Trained, images: np.ndarray) -> Trained:
    """The network with means and variances as they are on some training images.

    Every batch is normalised by its own, and those of the batches are put together as those of one
    population (Wu & Johnson 2021, "Rethinking 'Batch' in BatchNorm", section 3). Dropout is off.
    Of a compressed network the fact `origin` says of how many images they are.

    Args:
      images: [N, H, W, C] uint8, as the network saw them when it was trained; see `views`.

    Raises:
      UserError: bad images, or a network without BatchNorm.
    """
    images = inputs.images(images)
    if not trained.variables.get("batch_stats"):
        raise UserError("the network has no BatchNorm whose statistics could be estimated anew")
    model = models.create(
        **{**trained.architecture, "dropout": 0.0},
        num_classes=len(trained.class_names),
        dtype=trained.model.dtype,
    )
    # A running average that starts at zero is, after one batch, a known share of that batch's.
    old = flatten_dict(dict(trained.variables["batch_stats"]))
    blank = {p: jnp.zeros_like(x) if p[-1] in ("mean", "var") else x for p, x in old.items()}

    @jax.jit
    def after(variables: Mapping[str, Any], batch: jax.Array) -> Any:
        start = {**variables, "batch_stats": unflatten_dict(blank)}
        normalised = augment.normalise(batch, trained.mean, trained.std)
        return model.apply(start, normalised, train=True, mutable=["batch_stats"])[1]

    totals: dict[Path, np.ndarray] = {}
    for batch in np.array_split(images, math.ceil(len(images) / BATCH)):
        found = jax.device_get(after(trained.variables, jnp.asarray(batch))["batch_stats"])
        for path, moment in _moments(found).items():
            totals[path] = totals.get(path, 0) + moment * (len(batch) / len(images))
    new = unflatten_dict(old | _statistics(totals))
    variables = {**trained.variables, "batch_stats": new}
    origin = trained.facts.get("origin", {})
    facts = {**trained.facts, "origin": {**origin, "batch_norm": len(images)}}
    return trained._replace(variables=variables, facts=facts)


def views(images: np.ndarray, *, border: str, seed: int = 0) -> np.ndarray:
    """Images as the usual training for CIFAR shows them: a random crop of the image with 4 pixels
    around it, and a mirror image every other time.

    They are what BatchNorm's statistics are of. ResNet-20s of torchvision's augmentation lose three
    points of accuracy to statistics of the images as they are, and none to those of these views.

    Args:
      images: [N, H, W, C] uint8.
      border: `black` as torchvision has it, or `reflect` as kdxai's own training.

    Raises:
      UserError: bad images or another border.
    """
    images = inputs.images(images)
    require_one_of("border", border, tuple(BORDERS))
    rng = np.random.default_rng(seed)
    height, width = images.shape[1:3]
    found = np.empty_like(images)
    for i, image in enumerate(images):
        top, left, mirrored = rng.integers(0, (2 * PAD + 1, 2 * PAD + 1, 2))
        around = np.pad(image, ((PAD, PAD), (PAD, PAD), (0, 0)), mode=BORDERS[border])
        crop = around[top : top + height, left : left + width]
        found[i] = crop[:, ::-1] if mirrored else crop
    return found


def _moments(averages: Mapping[str, Any]) -> dict[Path, np.ndarray]:
    """A batch's running averages -> its means and mean squares, float64.

    A network whose inputs are rounded has ranges beside them, which stay.
    """
    flat = {p: x.astype(np.float64) / (1 - MOMENTUM) for p, x in flatten_dict(averages).items()}
    means = {p: x for p, x in flat.items() if p[-1] == "mean"}
    squares = {p: x + flat[*p[:-1], "mean"] ** 2 for p, x in flat.items() if p[-1] == "var"}
    return means | squares


def _statistics(moments: Mapping[Path, np.ndarray]) -> dict[Path, jax.Array]:
    """Means and mean squares -> means and variances, float32."""
    means = {p: x for p, x in moments.items() if p[-1] == "mean"}
    variances = {p: x - moments[*p[:-1], "mean"] ** 2 for p, x in moments.items() if p[-1] == "var"}
    return {p: jnp.asarray(x, jnp.float32) for p, x in (means | variances).items()}
