"""The kinds of compression, by name."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from kdxai.compress.channels import require_removable, structured
from kdxai.compress.children import none
from kdxai.compress.factorisation import factorise, require_rank
from kdxai.compress.pruning import prune, require_prunable
from kdxai.compress.quantisation import quantise, require_quantisable
from kdxai.errors import UserError
from kdxai.models.trained import Trained

Data = Callable[[int], np.ndarray]  # a number -> as many training images, [N, H, W, C] uint8


class Kind(NamedTuple):
    """A way to compress.

    Attributes:
      title: of a table or a figure.
      settings: their names and usual values; None is one that has to be given.
      require: refuses bad settings, before there is a network.
      make: what compresses; it may ask for training images.
    """

    title: str
    settings: Mapping[str, Any]
    require: Callable[..., None]
    make: Callable[[Trained, Mapping[str, Any], Data], Trained]


def all_settings(kind: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a kind: those given, and the usual ones.

    Raises:
      UserError: there is no such kind or setting, one is missing, or one is bad.
    """
    if kind not in KINDS:
        raise UserError(f"there is no compression '{kind}'; known: {', '.join(KINDS)}")
    usual = KINDS[kind].settings
    if unknown := sorted(settings.keys() - usual.keys()):
        known = ", ".join(usual) or "none"
        raise UserError(f"'{kind}' has no setting '{unknown[0]}'; known: {known}")
    found = {**usual, **settings}
    if missing := [name for name, value in found.items() if value is None]:
        raise UserError(f"'{kind}' needs {missing[0]}; give it")
    KINDS[kind].require(**found)
    return found


def apply(kind: str, trained: Trained, settings: Mapping[str, Any], data: Data) -> Trained:
    """A network compressed by a kind.

    Args:
      settings: of the kind; see `KINDS`.
      data: gives the training images that it asks for.

    Raises:
      UserError: as `all_settings`, or the network does not allow it.
    """
    return KINDS[kind].make(trained, all_settings(kind, settings), data)


def _quantised(trained: Trained, settings: Mapping[str, Any], data: Data) -> Trained:
    images = data(settings["calibration"]) if settings["activations"] else None
    return quantise(trained, bits=settings["bits"], images=images)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "none": Kind(
            "Not compressed",
            {},
            lambda: None,
            lambda trained, settings, data: none(trained),
        ),
        "quantise": Kind(
            "Quantised",
            {"bits": 8, "activations": False, "calibration": 1000},
            require_quantisable,
            _quantised,
        ),
        "prune": Kind(
            "Pruned",
            {"sparsity": None, "by": "magnitude", "scope": "global", "seed": 0},
            require_prunable,
            lambda trained, settings, data: prune(trained, **settings),
        ),
        "structured": Kind(
            "Channels removed",
            {"share": None, "by": "l1"},
            require_removable,
            lambda trained, settings, data: structured(trained, **settings),
        ),
        "factorise": Kind(
            "Factorised",
            {"rank": None},
            require_rank,
            lambda trained, settings, data: factorise(trained, **settings),
        ),
    }
)
