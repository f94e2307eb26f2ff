"""Wide residual networks for small images (Zagoruyko & Komodakis 2016)."""

from collections.abc import Sequence
from functools import partial

from flax import linen as nn
from flax.core import FrozenDict

from kdxai.errors import UserError
from kdxai.models.network import Layers, Network, inner_widths


class Stem(nn.Module):
    width: int
    layers: Layers
    biases: bool = False

    @nn.compact
    def __call__(self, x, train):
        return self.layers.conv(self.width, (3, 3), use_bias=self.biases)(x)


class Block(nn.Module):
    """Pre-activation basic block with dropout between its convolutions.

    The reference code projects the activated input where the width changes, and has the stride in
    the first convolution; the code with `biases` the input itself, and in the second.
    """

    width: int
    stride: int
    dropout: float
    layers: Layers
    biases: bool = False
    inner: int | None = None  # channels between the convolutions; `width` where it is None

    @nn.compact
    def __call__(self, x, train):
        layers = self.layers
        conv = partial(layers.conv, use_bias=self.biases)
        strides = (1, self.stride) if self.biases else (self.stride, 1)
        y = layers.activation(layers.norm()(x, use_running_average=not train))
        if x.shape[-1] != self.width:
            projected = x if self.biases else y
            x = conv(self.width, (1, 1), self.stride, padding=0, name="shortcut")(projected)
        y = conv(self.inner or self.width, (3, 3), strides[0])(y)
        y = layers.activation(layers.norm()(y, use_running_average=not train))
        y = layers.dropout(self.dropout)(y, train)
        return x + conv(self.width, (3, 3), strides[1])(y)


class FinalActivation(nn.Module):
    layers: Layers

    @nn.compact
    def __call__(self, x, train):
        return self.layers.activation(self.layers.norm()(x, use_running_average=not train))


def wide_resnet(
    depth: int,
    width: int,
    num_classes: int,
    layers: Layers,
    *,
    dropout: float = 0.0,
    base_width: int = 16,
    biases: bool = False,
    inner: Sequence[int] | None = None,
) -> Network:
    """WRN-depth-width: a stem of `base_width` channels, 3 stages of (depth - 4) / 6 blocks.

    The stages have 1, 2 and 4 x `base_width` x `width` channels; published with a base width of 16.
    The last feature map is the final ReLU's output, 8 x 8 for 32 x 32 images.

    Args:
      biases: that of meliketoy's code, whose convolutions have biases and whose blocks differ a
        little.
      inner: channels between the two convolutions of each block, instead of as many as it puts out:
        a structurally pruned network.

    Raises:
      UserError: another depth or width, or inner widths that do not fit.
    """
    if depth < 10 or depth % 6 != 4 or width < 1:
        raise UserError(
            f"there is no model 'wrn-{depth}-{width}': the depth of a wide ResNet is 10, 16, 22, "
            "28, ... (6n + 4) and its width at least 1"
        )
    units: dict[str, nn.Module] = {"stem": Stem(base_width, layers, biases)}
    between = iter(inner_widths(inner, (depth - 4) // 2))
    for stage in (1, 2, 3):
        for block in range((depth - 4) // 6):
            stride = 2 if stage > 1 and block == 0 else 1
            channels = base_width * width * 2 ** (stage - 1)
            units[f"stage{stage}.block{block}"] = Block(
                channels, stride, dropout, layers, biases, next(between)
            )
    units["final"] = FinalActivation(layers)
    return Network(FrozenDict(units), num_classes)
