"""Names of wide residual networks.

A network without biases is taken to compute as its authors' does: the stride in the first
convolution of a block, the shortcut at its activated input. Names do not tell whether it does.
"""

from collections.abc import Sequence
from typing import Any

from kdxai.models.weights.source import Reader, Source

TABLE = {  # xternalz's, which most of the field has copied; meliketoy's
    "stem/Conv_0": ("conv1",),
    "block": ("block{stage}.layer.{block}", "layer{stage}.{block}"),
    "block/BatchNorm_0": ("bn1",),
    "block/Conv_0": ("conv1",),
    "block/BatchNorm_1": ("bn2",),
    "block/Conv_1": ("conv2",),
    "block/shortcut": ("convShortcut", "shortcut", "shortcut.0", "downsample.0"),
    "final/BatchNorm_0": ("bn1", "bn"),
    "head": ("fc", "linear"),
}


def recognise(source: Source) -> str | None:
    blocks, base = source.blocks(), source.width("stem/Conv_0")
    if len(blocks) != 3 or len(set(blocks)) != 1 or not base:
        return None
    name = f"wrn-{6 * blocks[0] + 4}-{source.width('stage1.block0/Conv_0') // base}"
    return name + (f"-w{base}" if base != 16 else "")


def options(source: Source, numbers: Sequence[int], base_width: int) -> dict[str, Any]:
    """Biases, which tell meliketoy's blocks from others."""
    return {"biases": True} if source.name("stem/Conv_0", "bias") in source.state else {}


WIDE_RESNET = Reader(TABLE, recognise, options)
