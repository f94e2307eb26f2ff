"""The tensors of a file, looked up by kdxai's names of modules."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Of one module or another: our leaf -> theirs. A convolution's kernel and a norm's scale are both
# called weight; the last three are timm's.
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
    "positions": "pos_embed",
    "token": "cls_token",
    "layer_scale": "gamma",
}
Shape = tuple[int, ...]


class Source(NamedTuple):
    """Tensors under the names of `table`.

    Attributes:
      state: name -> array, without a prefix that all names share.
      table: our module (`stem/Conv_0`; `block/Conv_0` for those of all blocks) -> the names that it
        has in one repository or another, "" for none. `block` has the names of blocks, with the
        fields `stage` from 1, `next_stage`, `previous_stage` and `block` from 0.
    """

    state: Mapping[str, np.ndarray]
    table: Mapping[str, Sequence[str]]

    def name(self, module: str, leaf: str = "kernel") -> str:
        """The name of a tensor: that which is there, else one such as others in the file."""
        names = [_joined(name, LEAVES[leaf]) for name in self.names(module)]
        heads = {name.partition(".")[0] for name in self.state}
        there = [name for name in names if name in self.state]
        alike = [name for name in names if name.partition(".")[0] in heads]
        return (there or alike or names)[0]

    def names(self, module: str) -> Sequence[str]:
        unit, _, inside = module.partition("/")
        found = re.fullmatch(r"(?:stage(\d+)\.)?block(\d+)", unit)
        if module in self.table or not found:
            return self.table[module]
        stage, block = (int(number or 0) for number in found.groups())
        places = {"stage": stage, "next_stage": stage + 1, "previous_stage": stage - 1}
        blocks = [name.format(block=block, **places) for name in self.table["block"]]
        inner = self.table[f"block/{inside}"] if inside else ("",)
        return [_joined(name, one) for name in blocks for one in inner]

    def shape(self, module: str) -> Shape:
        """Of a kernel, output channels first; () where there is none."""
        tensor = self.state.get(self.name(module))
        return () if tensor is None else tensor.shape

    def width(self, module: str) -> int:
        """Output channels, 0 where there is no such module."""
        return (self.shape(module) or (0,))[0]

    def blocks(self) -> tuple[int, ...]:
        """The number of blocks in each stage."""
        counts: list[int] = []
        while self.width(f"stage{len(counts) + 1}.block0/Conv_0"):
            stage, count = len(counts) + 1, 1
            while self.width(f"stage{stage}.block{count}/Conv_0"):
                count += 1
            counts.append(count)
        return tuple(counts)


def _joined(*parts: str) -> str:
    return ".".join(part for part in parts if part)


def usual_side(source: Source) -> int:
    """Of a family that takes images of any size."""
    return 32


class Reader(NamedTuple):
    """How the weights of a family are found in files.

    Attributes:
      table: as `Source` has it.
      recognise: the name of the model that the weights are of, None where they are of no such.
      options: (source, numbers in the name, base width) -> the options of `models.create` that the
        weights ask for.
      side: pixels a side of images that the weights are for.
    """

    table: Mapping[str, Sequence[str]]
    recognise: Callable[[Source], str | None]
    options: Callable[[Source, Sequence[int], int], dict[str, Any]]
    side: Callable[[Source], int] = usual_side


def no_options(source: Source, numbers: Sequence[int], base_width: int) -> dict[str, Any]:
    """For a family whose name says all."""
    return {}
