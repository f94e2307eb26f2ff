"""A plain shallow CNN without shortcuts: the paper's prediction is that it explains badly."""

from flax import linen as nn
from flax.core import FrozenDict

from kdxai.errors import UserError
from kdxai.models.network import Convolution, Layers, Network

STRIDES = (1, 2, 2)  # of the first convolutions; 1 after them


def plain(depth: int, num_classes: int, layers: Layers, *, base_width: int = 64) -> Network:
    """`depth` - 1 convolutions with 1, 2, 4, 4, ... x `base_width` channels, then the linear head.

    The last feature map is 8 x 8 for 32 x 32 images, from a depth of 4.

    Raises:
      UserError: a depth below 3.
    """
    if depth < 3:
        raise UserError(f"there is no model 'plain{depth}': it has at least 3 layers")
    units: dict[str, nn.Module] = {}
    for i in range(depth - 1):
        stride = STRIDES[i] if i < len(STRIDES) else 1
        units[f"stage{i + 1}"] = Convolution(base_width * 2 ** min(i, 2), layers, stride=stride)
    return Network(FrozenDict(units), num_classes)
