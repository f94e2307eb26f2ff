"""The residual networks of He et al. 2015 for CIFAR-10, of any width in each layer."""

from collections.abc import Sequence
from typing import Any

from flax.core import FrozenDict

from kdxai.errors import UserError
from kdxai.models.network import Convolution, Layers, Network
from kdxai.models.resnet import BasicBlock

SHORTCUTS = ("A", "conv")


def cifar_resnet(
    depth: int,
    num_classes: int,
    layers: Layers,
    *,
    base_width: int = 16,
    shortcut: str = "A",
    widths: Sequence[int] | None = None,
) -> Network:
    """ResNet-depth, depth 6n + 2: three stages of n basic blocks.

    The last feature map is 8 x 8 for 32 x 32 images.

    Args:
      base_width: channels of the stem and the first stage; the others have 2 and 4 times as many.
      shortcut: where a stage begins, `A` takes every second pixel and adds channels of zeros, as
        many on each side (as published); `conv` is a 1x1 convolution (option B).
      widths: channels of each 3x3 convolution in order, depth - 1 numbers, instead of those by
        `base_width`: a structurally pruned network.

    Raises:
      UserError: another depth or shortcut, or widths that do not fit.
    """
    if depth < 8 or depth % 6 != 2 or depth == 50:
        hint = "; 'resnet50-imagenet' is the one with bottlenecks" if depth == 50 else ""
        raise UserError(
            f"there is no model 'resnet{depth}': the depth of a ResNet for CIFAR is 8, 14, 20, "
            f"... 44, 56, ... (6n + 2){hint}"
        )
    if shortcut not in SHORTCUTS:
        raise UserError(f"there is no shortcut '{shortcut}'; known: {', '.join(SHORTCUTS)}")
    widths = standard_widths(depth, base_width) if widths is None else tuple(widths)
    if len(widths) != depth - 1 or min(widths) < 1:
        raise UserError(f"resnet{depth} has {depth - 1} widths of at least 1, not {len(widths)}")
    units: dict[str, Any] = {"stem": Convolution(widths[0], layers)}
    blocks = (depth - 2) // 6
    for i in range(3 * blocks):
        before, inner, width = widths[2 * i : 2 * i + 3]
        if shortcut == "A" and width < before:
            raise UserError(
                f"a shortcut of option A cannot go from {before} to {width} channels; "
                "shortcut='conv' can"
            )
        stage, block = divmod(i, blocks)
        stride = 2 if stage and block == 0 else 1
        units[f"stage{stage + 1}.block{block}"] = BasicBlock(
            width, stride, layers, inner, shortcut == "A"
        )
    return Network(FrozenDict(units), num_classes)


def standard_widths(depth: int, base_width: int = 16) -> tuple[int, ...]:
    """The channels of each 3x3 convolution, as published with a `base_width` of 16."""
    stages = (base_width * 2**stage for stage in range(3) for _ in range((depth - 2) // 3))
    return (base_width, *stages)
