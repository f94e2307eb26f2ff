"""Aggregated residual networks for small images (Xie et al. 2017)."""

from flax import linen as nn
from flax.core import FrozenDict

from kdxai.models.network import Layers, Network
from kdxai.models.resnet import Stem

EXPANSION = 4


class Bottleneck(nn.Module):
    """1x1, grouped 3x3, 1x1; the shortcut is projected where the channels change."""

    width: int  # of the grouped convolution, all groups together
    channels: int  # of the output
    cardinality: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x, train):
        layers = self.layers
        y = layers.conv(self.width, (1, 1), padding=0)(x)
        y = layers.activation(layers.norm()(y, use_running_average=not train))
        y = layers.conv(self.width, (3, 3), self.stride, feature_group_count=self.cardinality)(y)
        y = layers.activation(layers.norm()(y, use_running_average=not train))
        y = layers.conv(self.channels, (1, 1), padding=0)(y)
        y = layers.norm()(y, use_running_average=not train)
        if x.shape[-1] != self.channels:
            x = layers.conv(self.channels, (1, 1), self.stride, padding=0, name="shortcut")(x)
            x = layers.norm(name="shortcut_norm")(x, use_running_average=not train)
        return layers.activation(x + y)


def resnext(
    depth: int,
    cardinality: int,
    group_width: int,
    num_classes: int,
    layers: Layers,
    base_width: int = 64,
) -> Network:
    """ResNeXt-depth (cardinality x group_width d): 3 stages of (depth - 2) / 9 bottlenecks.

    They put out 4, 8 and 16 x `base_width` channels; the last feature map is 8 x 8 for 32 x 32
    images.
    """
    units: dict[str, nn.Module] = {"stem": Stem(base_width, layers)}
    for stage in (1, 2, 3):
        scale = 2 ** (stage - 1)
        for block in range((depth - 2) // 9):
            stride = 2 if stage > 1 and block == 0 else 1
            units[f"stage{stage}.block{block}"] = Bottleneck(
                width=cardinality * group_width * scale,
                channels=EXPANSION * base_width * scale,
                cardinality=cardinality,
                stride=stride,
                layers=layers,
            )
    return Network(FrozenDict(units), num_classes)
