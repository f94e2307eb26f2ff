"""MobileNetV2 (Sandler et al. 2018) for small images."""

from flax import linen as nn
from flax.core import FrozenDict

from kdxai.models.network import Convolution, Layers, Network

STEM, LAST = 32, 1280  # channels, as published
# Of each stage: the expansion inside of its blocks, channels, blocks, stride of the first.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 1),  # 2 for ImageNet, as is the stem's
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


class InvertedResidual(nn.Module):
    """1x1 to more channels, 3x3 of each channel by itself, 1x1 to few channels without ReLU6."""

    width: int
    expansion: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x, train):
        layers, inner = self.layers, self.expansion * x.shape[-1]
        y = x
        if self.expansion != 1:
            y = layers.conv(inner, (1, 1), padding=0, name="expand")(y)
            y = layers.norm(name="expand_norm")(y, use_running_average=not train)
            y = layers.activation(y)
        y = layers.conv(inner, (3, 3), self.stride, feature_group_count=inner, name="depthwise")(y)
        y = layers.norm(name="depthwise_norm")(y, use_running_average=not train)
        y = layers.conv(self.width, (1, 1), padding=0, name="project")(layers.activation(y))
        y = layers.norm(name="project_norm")(y, use_running_average=not train)
        return x + y if self.stride == 1 and x.shape[-1] == self.width else y


def mobilenetv2(num_classes: int, layers: Layers, *, base_width: int = STEM) -> Network:
    """MobileNetV2 as torchvision has it, but with a stride of 1 in the stem and the second stage.

    The last feature map, of 1280 channels, is 4 x 4 for 32 x 32 images.

    Args:
      base_width: channels of the stem before rounding to 8; the others are in the usual proportion
        to it, the last map's only where they are more.
    """
    width = base_width / STEM
    units: dict[str, nn.Module] = {"stem": Convolution(to_multiple_of_8(base_width), layers)}
    for stage, (expansion, channels, blocks, stride) in enumerate(STAGES, 1):
        for block in range(blocks):
            units[f"stage{stage}.block{block}"] = InvertedResidual(
                to_multiple_of_8(channels * width), expansion, 1 if block else stride, layers
            )
    units["final"] = Convolution(to_multiple_of_8(LAST * max(1.0, width)), layers, window=1)
    return Network(FrozenDict(units), num_classes)


def to_multiple_of_8(channels: float) -> int:
    """To the nearest multiple of 8 that is at least 8, and at least 9 tenths of what was asked."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
