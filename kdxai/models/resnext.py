"""Aggregated residual networks for small images (Xie et al. 2017)."""

from typing import Any

from flax.core import FrozenDict

from kdxai.errors import UserError
from kdxai.models.network import Convolution, Layers, Network
from kdxai.models.resnet import EXPANSION, Bottleneck


def resnext(
    depth: int,
    cardinality: int,
    group_width: int,
    num_classes: int,
    layers: Layers,
    *,
    base_width: int = 64,
    channels: int | None = None,
    stem_window: int = 3,
) -> Network:
    """ResNeXt-depth (cardinality x group_width d): 3 stages of (depth - 2) / 9 bottlenecks.

    The last feature map is 8 x 8 for 32 x 32 images.

    Args:
      base_width: channels of the stem.
      channels: those that the first stage puts out, 4 x `base_width` where it is None; the others
        put out 2 and 4 times as many.
      stem_window: size of the first convolution; pytorch-cifar has 1.

    Raises:
      UserError: another depth, or no group.
    """
    if depth < 11 or depth % 9 != 2 or cardinality < 1 or group_width < 1:
        raise UserError(
            f"there is no model 'resnext{depth}-{cardinality}x{group_width}': the depth of a "
            "ResNeXt for CIFAR is 11, 20, 29, ... (9n + 2), its groups and their width at least 1"
        )
    units: dict[str, Any] = {"stem": Convolution(base_width, layers, stem_window)}
    for stage in (1, 2, 3):
        scale = 2 ** (stage - 1)
        for block in range((depth - 2) // 9):
            units[f"stage{stage}.block{block}"] = Bottleneck(
                width=cardinality * group_width * scale,
                channels=(channels or EXPANSION * base_width) * scale,
                cardinality=cardinality,
                stride=2 if stage > 1 and block == 0 else 1,
                layers=layers,
            )
    return Network(FrozenDict(units), num_classes)
