"""Residual networks (He et al. 2015) with a 3x3 stem, as they are used on small images."""

from collections.abc import Sequence

from flax import linen as nn
from flax.core import FrozenDict

from kdxai.models.network import Layers, Network


class Stem(nn.Module):
    width: int
    layers: Layers

    @nn.compact
    def __call__(self, x, train):
        x = self.layers.conv(self.width, (3, 3))(x)
        return self.layers.activation(self.layers.norm()(x, use_running_average=not train))


class BasicBlock(nn.Module):
    width: int
    stride: int
    layers: Layers

    @nn.compact
    def __call__(self, x, train):
        layers = self.layers
        y = layers.conv(self.width, (3, 3), self.stride)(x)
        y = layers.activation(layers.norm()(y, use_running_average=not train))
        y = layers.conv(self.width, (3, 3))(y)
        y = layers.norm()(y, use_running_average=not train)
        if x.shape[-1] != self.width or self.stride != 1:
            x = layers.conv(self.width, (1, 1), self.stride, padding=0, name="shortcut")(x)
            x = layers.norm(name="shortcut_norm")(x, use_running_average=not train)
        return layers.activation(x + y)


def resnet(
    blocks: Sequence[int], num_classes: int, layers: Layers, base_width: int = 64
) -> Network:
    """Four stages of basic blocks with 1, 2, 4 and 8 x `base_width` channels.

    The last feature map is 4 x 4 for 32 x 32 images.
    """
    units: dict[str, nn.Module] = {"stem": Stem(base_width, layers)}
    for stage, count in enumerate(blocks, 1):
        for block in range(count):
            stride = 2 if stage > 1 and block == 0 else 1
            units[f"stage{stage}.block{block}"] = BasicBlock(
                base_width * 2 ** (stage - 1), stride, layers
            )
    return Network(FrozenDict(units), num_classes)
