"""ConvNeXt (Liu et al. 2022) for small images."""

from flax import linen as nn
from flax.core import FrozenDict

from kdxai.errors import UserError
from kdxai.models.network import Layers, Network, require_patches

WINDOW = 7
MLP = 4  # times as wide as the block
SCALE = 1e-6  # of what a fresh block adds
INIT = nn.initializers.truncated_normal(0.02)


class Stem(nn.Module):
    """Patches, and a norm of each."""

    width: int
    patch: int
    layers: Layers

    @nn.compact
    def __call__(self, x, train):
        del train
        require_patches(x.shape, self.patch)
        return self.layers.layer_norm()(patches(self.layers, self.width, self.patch)(x))


class Downsample(nn.Module):
    """A norm, and patches of 2x2."""

    width: int
    layers: Layers

    @nn.compact
    def __call__(self, x, train):
        del train
        return patches(self.layers, self.width, 2)(self.layers.layer_norm()(x))


class Block(nn.Module):
    """x + scale * MLP(norm(7x7 convolution of each channel by itself))."""

    layers: Layers

    @nn.compact
    def __call__(self, x, train):
        del train
        layers, width = self.layers, x.shape[-1]
        options = {"padding": WINDOW // 2, "use_bias": True, "kernel_init": INIT}
        y = layers.conv(width, (WINDOW, WINDOW), feature_group_count=width, **options)(x)
        y = layers.dense(MLP * width, kernel_init=INIT)(layers.layer_norm()(y))
        y = layers.dense(width, kernel_init=INIT)(layers.activation(y))
        scale = self.param("layer_scale", nn.initializers.constant(SCALE), (width,))
        return x + scale.astype(y.dtype) * y


class NormedMean(nn.Module):
    """The pooling: a norm of the global average."""

    @nn.compact
    def __call__(self, x):
        return nn.LayerNorm(epsilon=1e-6)(x.mean((1, 2)))


def patches(layers: Layers, width: int, size: int) -> nn.Module:
    """A convolution that reads each patch of `size` x `size` pixels by itself."""
    return layers.conv(width, (size, size), size, padding=0, use_bias=True, kernel_init=INIT)


def convnext(
    first: int,
    second: int,
    third: int,
    fourth: int,
    num_classes: int,
    layers: Layers,
    *,
    base_width: int = 40,
    patch: int = 1,
) -> Network:
    """ConvNeXt of four stages of `first` to `fourth` blocks: 1, 2, 4 and 8 x `base_width` channels.

    By timm's names 2-2-6-2 is atto (a base width of 40), femto (48) and pico (64), 2-2-8-2 nano
    (80), 3-3-9-3 tiny (96).

    Args:
      patch: pixels a side of the stem's patches. The last feature map is 4 x 4 for 32 x 32 images
        and a patch of 1, and 2 x 2 with 2; it is 4 for ImageNet, whose images are larger.

    Raises:
      UserError: a stage without blocks, or no patch.
    """
    blocks = (first, second, third, fourth)
    if min(*blocks, patch) < 1:
        raise UserError("each stage of a ConvNeXt has at least 1 block, and a patch 1 pixel")
    units: dict[str, nn.Module] = {"stem": Stem(base_width, patch, layers)}
    for stage, count in enumerate(blocks, 1):
        if stage > 1:
            units[f"stage{stage}.downsample"] = Downsample(base_width * 2 ** (stage - 1), layers)
        units |= {f"stage{stage}.block{block}": Block(layers) for block in range(count)}
    return Network(FrozenDict(units), num_classes, NormedMean())
