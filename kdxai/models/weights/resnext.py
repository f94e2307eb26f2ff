"""Names of ResNeXts for CIFAR."""

from collections.abc import Sequence
from typing import Any

from kdxai.models.resnet import EXPANSION
from kdxai.models.weights import resnet
from kdxai.models.weights.source import Reader, Source

PRLZ77 = {
    "stem/Conv_0": "conv_1_3x3",
    "stem/BatchNorm_0": "bn_1",
    "block": "stage_{stage}.stage_{stage}_bottleneck_{block}",
    "block/Conv_0": "conv_reduce",
    "block/BatchNorm_0": "bn_reduce",
    "block/Conv_1": "conv_conv",
    "block/BatchNorm_1": "bn",
    "block/Conv_2": "conv_expand",
    "block/BatchNorm_2": "bn_expand",
    "block/shortcut": "shortcut.shortcut_conv",
    "block/shortcut_norm": "shortcut.shortcut_bn",
    "head": "classifier",
}
# kuangliu's are called as in his ResNets.
TABLE = {module: (*names, PRLZ77[module]) for module, names in resnet.TABLE.items()}


def recognise(source: Source) -> str | None:
    blocks, grouped = source.blocks(), source.shape("stage1.block0/Conv_1")
    if len(blocks) != 3 or len(set(blocks)) != 1 or len(grouped) != 4 or not grouped[1]:
        return None
    width, base = grouped[1], source.width("stem/Conv_0")
    name = f"resnext{9 * blocks[0] + 2}-{grouped[0] // width}x{width}"
    return name + (f"-w{base}" if base != 64 else "")


def options(source: Source, numbers: Sequence[int], base_width: int) -> dict[str, Any]:
    """The channels that the first stage puts out and the window of the stem, where unusual."""
    found: dict[str, Any] = {}
    channels, stem = source.width("stage1.block0/Conv_2"), source.shape("stem/Conv_0")
    if channels not in (0, EXPANSION * base_width):
        found["channels"] = channels
    if stem[2:] == (1, 1):
        found["stem_window"] = 1
    return found


RESNEXT = Reader(TABLE, recognise, options)
