"""GoogLeNet (Szegedy et al. 2015) for small images: Inception blocks with BatchNorm."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict

from kdxai.models.network import Convolution, Layers, Network

EPSILON = 1e-3  # of BatchNorm, as torchvision has it


class Channels(NamedTuple):
    """Of the branches of a block: 1x1; 1x1 and 3x3, twice; pooling and 1x1."""

    first: int
    second: tuple[int, int]
    third: tuple[int, int]
    fourth: int


STEM = 192
STAGES = (  # 3a, 3b; 4a to 4e; 5a, 5b of the paper
    (
        Channels(64, (96, 128), (16, 32), 32),
        Channels(128, (128, 192), (32, 96), 64),
    ),
    (
        Channels(192, (96, 208), (16, 48), 64),
        Channels(160, (112, 224), (24, 64), 64),
        Channels(128, (128, 256), (24, 64), 64),
        Channels(112, (144, 288), (32, 64), 64),
        Channels(256, (160, 320), (32, 128), 128),
    ),
    (
        Channels(256, (160, 320), (32, 128), 128),
        Channels(384, (192, 384), (48, 128), 128),
    ),
)


class Inception(nn.Module):
    """Four branches side by side; `pooled` halves the map first."""

    channels: Channels
    pooled: bool
    layers: Layers

    @nn.compact
    def __call__(self, x, train):
        def conv(name, width, window, x):
            return Convolution(width, self.layers, window, epsilon=EPSILON, name=name)(x, train)

        first, second, third, fourth = self.channels
        if self.pooled:
            x = max_pool(x, 2)
        branches = [
            conv("branch1", first, 1, x),
            conv("branch2_1", second[1], 3, conv("branch2_0", second[0], 1, x)),
            conv("branch3_1", third[1], 3, conv("branch3_0", third[0], 1, x)),
            conv("branch4", fourth, 1, max_pool(x, 1)),
        ]
        return jnp.concatenate(branches, -1)


def max_pool(x: jax.Array, stride: int) -> jax.Array:
    """3x3 max-pooling of [N, h, w, c], padded by 1.

    By slices, rows first: the gradient of `nn.max_pool` is many times slower on a CPU.
    """
    for axis in (1, 2):
        edge = [(0, 0)] * 4
        edge[axis] = (1, 1)
        wide = jnp.pad(x, edge, constant_values=-jnp.inf)
        length = (x.shape[axis] - 1) // stride * stride + 1
        parts = [jax.lax.slice_in_dim(wide, i, i + length, stride, axis) for i in range(3)]
        x = jnp.maximum(jnp.maximum(parts[0], parts[1]), parts[2])
    return x


def googlenet(num_classes: int, layers: Layers, *, base_width: int = 64) -> Network:
    """GoogLeNet with a 3x3 stem, and stages of 2, 5 and 2 Inception blocks; it has one head.

    The blocks are torchvision's: BatchNorm behind every convolution, and 3x3 in the third branch
    too, where the paper has 5x5. The last feature map is 8 x 8 for 32 x 32 images.

    Args:
      base_width: channels of the first branch of the first block; all others are in proportion.
    """

    def scaled(channels):
        if isinstance(channels, tuple):
            return tuple(map(scaled, channels))
        return max(1, channels * base_width // 64)

    units: dict[str, nn.Module] = {"stem": Convolution(scaled(STEM), layers, epsilon=EPSILON)}
    for stage, blocks in enumerate(STAGES, 1):
        for block, channels in enumerate(blocks):
            pooled = stage > 1 and block == 0
            units[f"stage{stage}.block{block}"] = Inception(
                Channels(*map(scaled, channels)), pooled, layers
            )
    return Network(FrozenDict(units), num_classes)
