"""(model, images, protocol) -> one row per image: where explanations and metrics meet.

This package can be called as its function: `kdxai.evaluate(...)` is `evaluate.evaluate(...)`.
"""

import sys
from types import ModuleType
from typing import Any

import pandas as pd

from kdxai.evaluate.agreement import OTHER, compare
from kdxai.evaluate.chunks import chunk_size, chunks, computing, each, stack
from kdxai.evaluate.maps import Shown, draw_maps, show
from kdxai.evaluate.pairs import pairwise
from kdxai.evaluate.preparation import mosaic_partners, prepare
from kdxai.evaluate.rows import evaluate
from kdxai.measures.grid import require_mosaics

__all__ = [
    "OTHER",
    "Shown",
    "chunk_size",
    "chunks",
    "compare",
    "computing",
    "draw_maps",
    "each",
    "evaluate",
    "mosaic_partners",
    "pairwise",
    "prepare",
    "require_mosaics",
    "show",
    "stack",
]


class _Callable(ModuleType):
    """`kdxai.evaluate(...)` is `kdxai.evaluate.evaluate(...)`, whichever way it was imported."""

    def __call__(self, *arguments: Any, **options: Any) -> pd.DataFrame:
        return evaluate(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
