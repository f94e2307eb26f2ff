"""Names of vision transformers."""

import math
from collections.abc import Sequence
from typing import Any

from kdxai.models.weights.source import Reader, Source

TABLE = {  # timm's
    "stem": ("",),
    "stem/Conv_0": ("patch_embed.proj",),
    "block": ("blocks.{block}",),
    "block/norm1": ("norm1",),
    "block/qkv": ("attn.qkv",),
    "block/proj": ("attn.proj",),
    "block/norm2": ("norm2",),
    "block/fc1": ("mlp.fc1",),
    "block/fc2": ("mlp.fc2",),
    "final/LayerNorm_0": ("norm",),
    "head": ("head",),
}


def recognise(source: Source) -> str | None:
    """None: the number of heads stands in no weights."""
    return None


def options(source: Source, numbers: Sequence[int], base_width: int) -> dict[str, Any]:
    """The patch and the pooling, where unusual."""
    found: dict[str, Any] = {}
    if patch(source) != 4:
        found["patch"] = patch(source)
    if source.name("stem", "token") in source.state:
        found["pool"] = "token"
    return found


def patch(source: Source) -> int:
    stem = source.shape("stem/Conv_0")
    return stem[2] if len(stem) == 4 else 4


def side(source: Source) -> int:
    """By the number of positions."""
    positions = source.state.get(source.name("stem", "positions"))
    if positions is None or positions.ndim < 2:
        return 8 * patch(source)
    patches = positions.shape[-2] - (source.name("stem", "token") in source.state)
    return max(math.isqrt(max(patches, 0)), 1) * patch(source)


VIT = Reader(TABLE, recognise, options, side)
