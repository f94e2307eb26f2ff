"""What a method is beside its formula: its options, what it costs, and what it reads."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from kdxai.errors import UserError

# What options may be, least and most. Their defaults say which are whole numbers.
RANGES: dict[str, tuple[float, float]] = {
    "alpha": (0, 100),
    "baseline": (-math.inf, math.inf),
    "cells": (1, 1000),
    "chunk": (1, 100_000),
    "epsilon": (0, 1000),
    "noise": (0, 100),
    "others": (1, 100_000),
    "probability": (1e-3, 1),
    "ridge": (1e-6, 1e6),
    "samples": (1, 65_536),
    "segments": (1, 1000),
    "sigma": (1e-3, 1e3),
    "steps": (1, 4096),
    "stride": (1, 100_000),
    "width": (1e-2, 100),
    "window": (1, 100_000),
}
GIVEN = ("key", "relu")  # by the caller: they are no options of the method

Option = int | float


@dataclass(frozen=True)
class Method:
    """A function (classifier, image [H, W, C], class_index, **options) -> [h, w], and called as it.

    Attributes:
      draw: the function. Its options are its keyword-only parameters with numbers as defaults.
      title: what people call it, as its paper writes it; "" for its name in `METHODS`.
      batch: options whose least is how many copies of an image are on the device at once.
      on_image: whether the map is the same whichever the target layer is.
      needs: fields of `Classifier` beside the two functions that it cannot do without.
      by_rules: whether it runs the model by other rules, which not every operation has.
      require: called with all options where they depend on each other; raises UserError.
    """

    draw: Callable[..., jax.Array]
    title: str = ""
    batch: tuple[str, ...] = ()
    on_image: bool = False
    needs: tuple[str, ...] = ()
    by_rules: bool = False
    require: Callable[..., None] | None = None

    def __call__(self, *arguments: Any, **options: Any) -> jax.Array:
        return self.draw(*arguments, **options)

    def takes(self, name: str) -> bool:
        """Whether it can be told `key` or `relu`."""
        return name in self._parameters

    @property
    def defaults(self) -> dict[str, Option]:
        """Options by name."""
        known = self._parameters.items()
        return {name: one.default for name, one in known if name not in GIVEN}

    def copies(self, options: Mapping[str, Option]) -> int:
        """How many times an image's own memory is in flight; a map itself takes two."""
        chosen = {**self.defaults, **options}
        return max(2, min((int(chosen[name]) for name in self.batch), default=2))

    def checked(self, name: str, options: Mapping[str, Any]) -> dict[str, Option]:
        """Those of some options that are not the defaults, in order of their names.

        Args:
          name: of the method, for messages.

        Raises:
          UserError: there is no such option, or it is out of its range.
        """
        defaults = self.defaults
        for option, value in options.items():
            if option not in defaults:
                known = ", ".join(defaults) or "none"
                raise UserError(f"the method '{name}' has no option '{option}'; known: {known}")
            require_in_range(f"{name}.{option}", value, defaults[option], *RANGES[option])
        kinds = {option: type(defaults[option]) for option in sorted(options)}
        chosen = {option: kind(options[option]) for option, kind in kinds.items()}
        if self.require is not None:
            self.require(**{**defaults, **chosen})
        return {option: value for option, value in chosen.items() if value != defaults[option]}

    @property
    def _parameters(self) -> dict[str, inspect.Parameter]:
        known = inspect.signature(self.draw).parameters.items()
        return {name: one for name, one in known if one.kind is one.KEYWORD_ONLY}


def require_in_range(name: str, value: Any, default: Option, least: float, most: float) -> None:
    """Check the value of an option.

    Raises:
      UserError: it is no number of the default's kind, or out of its range.
    """
    whole = isinstance(default, int)
    kinds = (int, np.integer) if whole else (int, float, np.integer, np.floating)
    if isinstance(value, bool) or not isinstance(value, kinds):
        kind = "a whole number" if whole else "a number"
        raise UserError(f"{name} is {kind}, not {value!r}")
    if not (least <= value <= most and math.isfinite(value)):
        bounds = f"{least:,g} to {most:,g}" if math.isfinite(most) else "a finite number"
        raise UserError(f"{name} is {bounds}, not {value}")
