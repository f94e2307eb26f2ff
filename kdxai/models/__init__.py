"""Flax linen image classifiers, made by name."""

import inspect
import re
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from kdxai.errors import UserError
from kdxai.models.airbench import airbench
from kdxai.models.cifar_resnet import cifar_resnet
from kdxai.models.convnext import convnext
from kdxai.models.googlenet import googlenet
from kdxai.models.mobilenetv2 import mobilenetv2
from kdxai.models.network import LAST, Features, Layers, Network, Tokens, grid, with_grid
from kdxai.models.plain import plain
from kdxai.models.resnet import imagenet_resnet, resnet
from kdxai.models.resnext import resnext
from kdxai.models.vit import vit
from kdxai.models.wide_resnet import wide_resnet

__all__ = ["LAST", "Features", "Network", "Tokens", "create", "grid", "with_grid"]


class Family(NamedTuple):
    """`pattern` is that of a whole name; its groups, integers, are the first arguments of `make`,
    whose keyword-only ones are the options that the family has. `activation` is its usual one."""

    pattern: str
    make: Callable[..., Network]
    names: str
    activation: Callable[[jax.Array], jax.Array] = nn.relu


def gelu(x: jax.Array) -> jax.Array:
    """x Phi(x), as PyTorch has it; Flax's is an approximation."""
    return nn.gelu(x, approximate=False)


FAMILIES = (
    Family(r"wrn-(\d+)-(\d+)", wide_resnet, "wrn-D-K (such as wrn-28-10; D = 6n + 4)"),
    Family("resnet(10|18|34)", resnet, "resnet10, resnet18, resnet34"),
    Family(r"resnet(\d+)", cifar_resnet, "resnetD (D = 6n + 2: resnet20, resnet56)"),
    Family("resnet(18|34|50)-imagenet", imagenet_resnet, "resnet50-imagenet (or 18, 34)"),
    Family(r"resnext(\d+)-(\d+)x(\d+)", resnext, "resnext29-8x64 (D = 9n + 2)"),
    Family(r"plain(\d+)", plain, "plain5"),
    Family(r"airbench-(\d+)-(\d+)-(\d+)", airbench, "airbench-64-128-128"),
    Family("googlenet", googlenet, "googlenet"),
    Family("mobilenetv2", mobilenetv2, "mobilenetv2", nn.relu6),
    Family(
        r"convnext-(\d+)-(\d+)-(\d+)-(\d+)",
        convnext,
        "convnext-A-B-C-D (blocks of each stage: convnext-2-2-6-2)",
        gelu,
    ),
    Family(
        r"vit-(\d+)-(\d+)-(\d+)",
        vit,
        "vit-D-W-H (depth, width and heads: vit-12-192-3)",
        gelu,
    ),
)
NAMES = f"{', '.join(family.names for family in FAMILIES)}; -w16 behind a name sets the base width"


def create(
    name: str,
    *,
    num_classes: int,
    dtype: Any = jnp.float32,
    dropout: float = 0.0,
    axis_name: str | None = None,
    activation: Callable[[jax.Array], jax.Array] | None = None,
    weight_bits: int | None = None,
    activation_bits: int | None = None,
    rank: float | None = None,
    **shape: Any,
) -> Network:
    """Make a model by name.

    Args:
      name: `wrn-D-K` (depth D = 6n + 4, width K); `resnet10`, `resnet18`, `resnet34` (3x3 stem,
        four stages); `resnetD` (D = 6n + 2, three stages, as for CIFAR); `resnet18-imagenet`,
        `resnet34-imagenet`, `resnet50-imagenet` (7x7 stem); `resnextD-CxW` (D = 9n + 2, C groups
        of W channels); `airbench-A-B-C` (channels of its stages); `plainD` (D layers);
        `googlenet` (Inception blocks); `mobilenetv2`; `convnext-A-B-C-D` (blocks of its stages);
        `vit-D-W-H` (depth, width, heads). `-wB` behind any but airbench and ViT is a base width B
        other than the usual 16 (WRN and `resnetD`), 32 (MobileNetV2), 40 (ConvNeXt) or 64.
      dtype: compute dtype; parameters, statistics and logits are float32 whatever it is.
      dropout: rate inside the blocks of a wide ResNet.
      axis_name: the pmap axis over which BatchNorm takes its batch statistics.
      activation: the non-linearity, everywhere in the model; None is the usual one of the family:
        ReLU, of MobileNetV2 ReLU6, of ConvNeXt and ViT GELU.
      weight_bits, activation_bits: 2 to 8, of layers that round their weights, or those and their
        inputs (`quantised.Conv`).
      rank: in (0, 1], of layers that are two (`factorised.Conv`).
      shape: what else the family can be told: `shortcut` and `widths` of `cifar_resnet`, `biases`
        of `wide_resnet`, `inner` of `wide_resnet` and `resnet`, `channels` and `stem_window` of
        `resnext`, `patch` of `convnext`, `patch` and `pool` of `vit`.

    Raises:
      UserError: no such model, fewer than two classes, an option that the model does not have, or
        a bad value of one.
    """
    if num_classes < 2:
        raise UserError(f"a classifier needs at least 2 classes, not {num_classes}")
    if not 0 <= dropout < 1:
        raise UserError(f"dropout must be in [0, 1), not {dropout}")
    require_compressible(weight_bits, activation_bits, rank)
    family, numbers, base = parse_name(name)
    layers = Layers(
        dtype=jnp.dtype(dtype),
        axis_name=axis_name,
        activation=activation or family.activation,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
        rank=rank,
    )
    options = shape | ({"dropout": dropout} if dropout else {}) | base
    known = inspect.getfullargspec(family.make).kwonlyargs
    if unknown := sorted(options.keys() - set(known)):
        off = "set model.dropout=0" if unknown == ["dropout"] else "leave it out"
        raise UserError(f"'{name}' has no {unknown[0]}; {off}")
    return family.make(*numbers, num_classes, layers, **options)


def require_compressible(
    weight_bits: int | None, activation_bits: int | None, rank: float | None
) -> None:
    """Check that a family has compressed layers of some kind.

    Raises:
      UserError: there are no layers of such bits or of such a rank.
    """
    for name, bits in (("weight_bits", weight_bits), ("activation_bits", activation_bits)):
        if bits is not None and bits not in range(2, 9):
            raise UserError(f"{name} must be a whole number from 2 to 8, not {bits!r}")
    if activation_bits is not None and weight_bits is None:
        raise UserError("activation_bits goes with weight_bits; give both")
    if rank is not None and not 0 < rank <= 1:
        raise UserError(f"rank must be above 0 and at most 1, not {rank!r}")


def parse_name(name: str) -> tuple[Family, tuple[int, ...], dict[str, int]]:
    """The family of a model's name, the numbers in it, and its `base_width` where it has one.

    Raises:
      UserError: no family has such a name.
    """
    if re.search(r"[2-9]\d{3}|\d{5}", name):
        raise UserError(f"'{name[:80]}': no depth and no width may be 2000 or more")
    kind, base = name, {}
    if found := re.fullmatch(r"(.*?)-w([1-9]\d*)", name):
        kind, base = found[1], {"base_width": int(found[2])}
    for family in FAMILIES:
        if found := re.fullmatch(family.pattern, kind):
            return family, tuple(map(int, found.groups())), base
    raise UserError(f"there is no model '{name}'; known: {NAMES}")
