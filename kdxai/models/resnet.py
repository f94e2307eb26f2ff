"""Residual networks of four stages (He et al. 2015): for small images, and as for ImageNet."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict

from kdxai.errors import UserError
from kdxai.models.network import Convolution, Layers, Network, inner_widths

EXPANSION = 4  # of a bottleneck


class PooledStem(nn.Module):
    """7x7 convolution and 3x3 max-pooling, both with stride 2."""

    width: int
    layers: Layers

    @nn.compact
    def __call__(self, x, train):
        x = self.layers.conv(self.width, (7, 7), 2, padding=3)(x)
        x = self.layers.activation(self.layers.norm()(x, use_running_average=not train))
        return nn.max_pool(x, (3, 3), (2, 2), ((1, 1), (1, 1)))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions; the shortcut changes where the stride or the channels do.

    Attributes:
      inner: channels between the convolutions; `width` where it is None.
      pad_shortcut: the shortcut takes every second pixel and sets channels of zeros on both sides
        (He et al. 2015, option A); otherwise it is a 1x1 convolution (option B).
    """

    width: int
    stride: int
    layers: Layers
    inner: int | None = None
    pad_shortcut: bool = False

    @nn.compact
    def __call__(self, x, train):
        layers = self.layers
        y = layers.conv(self.inner or self.width, (3, 3), self.stride)(x)
        y = layers.activation(layers.norm()(y, use_running_average=not train))
        y = layers.conv(self.width, (3, 3))(y)
        y = layers.norm()(y, use_running_average=not train)
        more = self.width - x.shape[-1]
        if self.pad_shortcut:
            x = x[:, :: self.stride, :: self.stride]
            x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (more // 2, more - more // 2)))
        elif more or self.stride != 1:
            x = layers.conv(self.width, (1, 1), self.stride, padding=0, name="shortcut")(x)
            x = layers.norm(name="shortcut_norm")(x, use_running_average=not train)
        return layers.activation(x + y)


class Bottleneck(nn.Module):
    """1x1, (grouped) 3x3, 1x1; the shortcut is projected where the channels change.

    The stride is in the 3x3 convolution, as in torchvision and in ResNeXt.
    """

    width: int  # of the 3x3 convolution, all groups together
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


class Plan(NamedTuple):
    blocks: tuple[int, ...]  # of each stage
    bottleneck: bool = False


PLANS = {
    10: Plan((1, 1, 1, 1)),
    18: Plan((2, 2, 2, 2)),
    34: Plan((3, 4, 6, 3)),
    50: Plan((3, 4, 6, 3), bottleneck=True),
}


def resnet(
    depth: int,
    num_classes: int,
    layers: Layers,
    *,
    base_width: int = 64,
    inner: Sequence[int] | None = None,
) -> Network:
    """ResNet-10, -18 or -34 with a 3x3 stem: 1, 2, 4 and 8 x `base_width` channels.

    The last feature map is 4 x 4 for 32 x 32 images.

    Args:
      inner: channels between the two convolutions of each block, instead of as many as it puts out:
        a structurally pruned network.

    Raises:
      UserError: inner widths that do not fit.
    """
    return stages(Convolution(base_width, layers), PLANS[depth], base_width, num_classes, inner)


def imagenet_resnet(
    depth: int,
    num_classes: int,
    layers: Layers,
    *,
    base_width: int = 64,
    inner: Sequence[int] | None = None,
) -> Network:
    """ResNet-18, -34 or -50 as torchvision has them, with a 7x7 stem and max-pooling.

    The stages put out 1, 2, 4 and 8 x `base_width` channels, four times that with the bottlenecks
    of ResNet-50. The last feature map is 7 x 7 for 224 x 224 images.

    Args:
      inner: as of `resnet`; bottlenecks have none.

    Raises:
      UserError: inner widths that do not fit.
    """
    if inner is not None and PLANS[depth].bottleneck:
        raise UserError(f"'resnet{depth}-imagenet' has no inner; leave it out")
    return stages(PooledStem(base_width, layers), PLANS[depth], base_width, num_classes, inner)


def stages(
    stem: Convolution | PooledStem,
    plan: Plan,
    base_width: int,
    num_classes: int,
    inner: Sequence[int] | None,
) -> Network:
    """A stem and four stages of blocks; each but the first halves the map."""
    units: dict[str, Any] = {"stem": stem}
    between = iter(inner_widths(inner, sum(plan.blocks)))
    for stage, count in enumerate(plan.blocks, 1):
        width = base_width * 2 ** (stage - 1)
        for block in range(count):
            stride = 2 if stage > 1 and block == 0 else 1
            channels = next(between)
            units[f"stage{stage}.block{block}"] = (
                Bottleneck(width, EXPANSION * width, 1, stride, stem.layers)
                if plan.bottleneck
                else BasicBlock(width, stride, stem.layers, channels)
            )
    return Network(FrozenDict(units), num_classes)
