"""Whole channels removed, so that the network is smaller and not only sparser."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from kdxai import models
from kdxai.compress.children import child
from kdxai.compress.values import require_one_of, require_share
from kdxai.errors import UserError
from kdxai.models.cifar_resnet import cifar_resnet
from kdxai.models.resnet import BasicBlock
from kdxai.models.trained import Trained
from kdxai.models.wide_resnet import Block

CRITERIA = ("l1", "scale")
# Of each kind of block, the BatchNorm between its two convolutions.
INNER_NORMS = {BasicBlock: "BatchNorm_0", Block: "BatchNorm_1"}


def require_removable(share: float, by: str) -> None:
    """Check the settings of a removal of channels.

    Raises:
      UserError: bad settings.
    """
    require_share("share", share)
    require_one_of("by", by, CRITERIA)


def structured(trained: Trained, *, share: float, by: str = "l1") -> Trained:
    """The network without a share of the channels inside of its residual blocks.

    The channels between a block's two convolutions are its own. All others are of the residual
    stream, to which every block adds, and stay: of the weights in blocks that share is gone. The
    same share goes in each block (Li et al. 2017, "Pruning Filters for Efficient ConvNets",
    sections 3.1 and 3.3).

    Args:
      share: of channels to remove, in [0, 1); rounded to whole channels.
      by: the smallest go, by the L1 norm of the weights that make a channel (`l1`) or by the
        absolute scale of its BatchNorm (`scale`; Liu et al. 2017, "Network Slimming").

    Raises:
      UserError: bad settings, nothing would be left in a block, or the network has no such blocks.
    """
    require_removable(share, by)
    flat = flatten_dict({name: dict(trees) for name, trees in trained.variables.items()})
    flat = {path: np.asarray(leaf) for path, leaf in flat.items()}
    widths = []
    for unit, norm in inner_norms(trained).items():
        kernel = flat["params", unit, "Conv_0", "kernel"]
        scale = flat["params", unit, norm, "scale"]
        scores = np.abs(kernel).sum((0, 1, 2)) if by == "l1" else np.abs(scale)
        gone = round(share * len(scores))
        if gone == len(scores):
            raise UserError(
                f"a share of {share} is all {gone} channels inside of {unit.removeprefix('units_')}"
                "; choose a smaller one"
            )
        keep = np.sort(np.argsort(scores, kind="stable")[gone:])
        for path, leaf in flat.items():
            if path[1:3] in ((unit, "Conv_0"), (unit, norm)) and leaf.ndim:
                flat[path] = leaf[..., keep]
        second = ("params", unit, "Conv_1", "kernel")
        flat[second] = flat[second][:, :, keep]
        widths.append(len(keep))
    architecture = {**trained.architecture, **shape(trained, widths)}
    settings = {"share": share, "by": by}
    return child(trained, unflatten_dict(flat), "structured", settings, architecture)


def inner_norms(trained: Trained) -> dict[str, str]:
    """{name of a block in the variables: of the BatchNorm between its two convolutions}.

    Raises:
      UserError: the network has other blocks, or convolutions in two.
    """
    name = trained.architecture["name"]
    if "rank" in trained.architecture:
        raise UserError(f"this '{name}' is factorised; remove channels first, then factorise")
    blocks = [(unit, block) for unit, block in trained.model.units.items() if "block" in unit]
    if not blocks or not all(type(block) in INNER_NORMS for _, block in blocks):
        raise UserError(
            "only channels between the two convolutions of a residual block can be removed, as its "
            f"residual stream needs all others, and '{name}' has no such blocks; prune it by "
            "kind='prune', or factorise it"
        )
    return {f"units_{unit}": INNER_NORMS[type(block)] for unit, block in blocks}


def shape(trained: Trained, widths: Sequence[int]) -> dict[str, Any]:
    """What tells the family of the channels left inside of each block."""
    family, *_ = models.parse_name(trained.architecture["name"])
    if family.make is not cifar_resnet:
        return {"inner": list(widths)}
    units = trained.model.units
    stem, *blocks = [units[name].width for name in units]
    pairs = zip(widths, blocks, strict=True)
    return {"widths": [stem, *(width for pair in pairs for width in pair)]}
