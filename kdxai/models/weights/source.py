"""The tensors of a file, looked up by kdxai's names of modules."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

# Of one module or another: our leaf -> theirs. A convolution's kernel and a norm's scale are both
# called weight.
LEAVES = {
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
    "mean": "running_mean",
    "var": "running_var",
}
Shape = tuple[int, ...]


class Source(NamedTuple):
    """Tensors under the names of `table`.

    Attributes:
      state: name -> array, without a prefix that all names share.
      table: our module (`stem/Conv_0`; `block/Conv_0` for those of all blocks) -> the names that it
        has in one repository or another. `block` has the names of blocks, with the fields `stage`
        from 1, `next_stage` = `stage` + 1 and `block` from 0.
    """

    state: Mapping[str, np.ndarray]
    table: Mapping[str, Sequence[str]]

    def name(self, module: str, leaf: str = "kernel") -> str:
        """The name of a tensor: that which is there, else one such as others in the file."""
        names = [f"{name}.{LEAVES[leaf]}" for name in self.names(module)]
        heads = {name.partition(".")[0] for name in self.state}
        there = [name for name in names if name in self.state]
        alike = [name for name in names if name.partition(".")[0] in heads]
        return (there or alike or names)[0]

    def names(self, module: str) -> Sequence[str]:
        unit, _, inside = module.partition("/")
        found = re.fullmatch(r"stage(\d+)\.block(\d+)", unit)
        if not found:
            return self.table[module]
        stage, block = map(int, found.groups())
        blocks = [
            name.format(stage=stage, next_stage=stage + 1, block=block)
            for name in self.table["block"]
        ]
        return [f"{name}.{inner}" for name in blocks for inner in self.table[f"block/{inside}"]]

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


class Reader(NamedTuple):
    """How the weights of a family are found in files.

    Attributes:
      table: as `Source` has it.
      recognise: the name of the model that the weights are of, None where they are of no such.
      options: (source, numbers in the name, base width) -> the options of `models.create` that the
        weights ask for.
    """

    table: Mapping[str, Sequence[str]]
    recognise: Callable[[Source], str | None]
    options: Callable[[Source, Sequence[int], int], dict[str, Any]]


def no_options(source: Source, numbers: Sequence[int], base_width: int) -> dict[str, Any]:
    """For a family whose name says all."""
    return {}
