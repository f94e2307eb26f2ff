"""Names of ConvNeXts."""

from collections.abc import Sequence
from typing import Any

from kdxai.models.weights.source import Reader, Source

TABLE = {  # timm's
    "stem/Conv_0": ("stem.0",),
    "stem/LayerNorm_0": ("stem.1",),
    **{
        f"stage{stage}.downsample/{ours}": (f"stages.{stage - 1}.downsample.{theirs}",)
        for stage in (2, 3, 4)
        for ours, theirs in (("LayerNorm_0", 0), ("Conv_0", 1))
    },
    "block": ("stages.{previous_stage}.blocks.{block}",),
    "block/Conv_0": ("conv_dw",),
    "block/LayerNorm_0": ("norm",),
    "block/Dense_0": ("mlp.fc1",),
    "block/Dense_1": ("mlp.fc2",),
    "pooling/LayerNorm_0": ("head.norm",),
    "head": ("head.fc",),
}


def recognise(source: Source) -> str | None:
    blocks, width = source.blocks(), source.width("stem/Conv_0")
    if len(blocks) != 4 or not source.width("stage1.block0/Dense_0"):
        return None
    name = f"convnext-{'-'.join(map(str, blocks))}"
    return name + (f"-w{width}" if width != 40 else "")


def options(source: Source, numbers: Sequence[int], base_width: int) -> dict[str, Any]:
    """The patch of the stem, where unusual."""
    return {"patch": patch(source)} if patch(source) != 1 else {}


def patch(source: Source) -> int:
    stem = source.shape("stem/Conv_0")
    return stem[2] if len(stem) == 4 else 1


CONVNEXT = Reader(TABLE, recognise, options, side=lambda source: 8 * patch(source))
