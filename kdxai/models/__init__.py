"""Flax linen image classifiers, made by name."""

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdxai.errors import UserError
from kdxai.models.network import LAST, Layers, Network
from kdxai.models.plain import plain
from kdxai.models.resnet import resnet
from kdxai.models.resnext import resnext
from kdxai.models.wide_resnet import wide_resnet

__all__ = ["LAST", "Network", "create"]

RESNETS = {"resnet10": (1, 1, 1, 1), "resnet18": (2, 2, 2, 2), "resnet34": (3, 4, 6, 3)}
NAMES = (
    "wrn-D-K (such as wrn-28-10; D = 6n + 4), resnet10, resnet18, resnet34, resnext29-8x64 "
    "(D = 9n + 2), plain5; -w16 behind a name sets the base width"
)


def create(
    name: str,
    *,
    num_classes: int,
    dtype: Any = jnp.float32,
    dropout: float = 0.0,
    axis_name: str | None = None,
    activation: Callable[[jax.Array], jax.Array] = nn.relu,
) -> Network:
    """Make a model by name.

    Args:
      name: `wrn-D-K` (depth D = 6n + 4, width K), `resnet10`, `resnet18`, `resnet34`,
        `resnextD-CxW` (D = 9n + 2, C groups of W channels) or `plainD` (D layers), with `-wB`
        for a base width B other than the usual 16 (WRN) or 64.
      dtype: compute dtype; parameters, statistics and logits are float32 whatever it is.
      dropout: rate inside the blocks of a wide ResNet.
      axis_name: the pmap axis over which BatchNorm takes its batch statistics.
      activation: the non-linearity, everywhere in the model.

    Raises:
      UserError: no such model, fewer than two classes, or dropout for a model without it.
    """
    if num_classes < 2:
        raise UserError(f"a classifier needs at least 2 classes, not {num_classes}")
    if not 0 <= dropout < 1:
        raise UserError(f"dropout must be in [0, 1), not {dropout}")
    if re.search(r"[2-9]\d{3}|\d{5}", name):
        raise UserError(f"'{name[:80]}': no depth and no width may be 2000 or more")
    shared = Layers(dtype=jnp.dtype(dtype), axis_name=axis_name, activation=activation)
    kind, base = name, {}
    if found := re.fullmatch(r"(.*?)-w([1-9]\d*)", name):
        kind, base = found[1], {"base_width": int(found[2])}
    if wrn := re.fullmatch(r"wrn-(\d+)-(\d+)", kind):
        depth, width = map(int, wrn.groups())
        if depth < 10 or depth % 6 != 4 or width < 1:
            raise UserError(
                f"'{name}': the depth of a wide ResNet is 10, 16, 22, 28, ... and its width at "
                "least 1"
            )
        return wide_resnet(depth, width, num_classes, shared, dropout, **base)
    network = without_dropout(kind, num_classes, shared, base)
    if network is None:
        raise UserError(f"there is no model '{name}'; known: {NAMES}")
    if dropout:
        raise UserError(f"'{name}' has no dropout; set model.dropout=0")
    return network


def without_dropout(
    kind: str, num_classes: int, shared: Layers, base: dict[str, int]
) -> Network | None:
    """A model of the other families, None where there is none; `base` may hold a `base_width`."""
    if kind in RESNETS:
        return resnet(RESNETS[kind], num_classes, shared, **base)
    if (found := re.fullmatch(r"plain(\d+)", kind)) and int(found[1]) >= 3:
        return plain(int(found[1]), num_classes, shared, **base)
    if found := re.fullmatch(r"resnext(\d+)-([1-9]\d*)x([1-9]\d*)", kind):
        depth, cardinality, group_width = map(int, found.groups())
        if depth >= 11 and depth % 9 == 2:
            return resnext(depth, cardinality, group_width, num_classes, shared, **base)
    return None
