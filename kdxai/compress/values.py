"""Settings of a compression, checked before anything is computed."""

from collections.abc import Sequence
from typing import Any

from kdxai.errors import UserError


def require_share(name: str, value: Any) -> None:
    """Check a share of what there is.

    Raises:
      UserError: the value is no number in [0, 1).
    """
    if not is_number(value) or not 0 <= value < 1:
        raise UserError(f"{name} must be at least 0 and below 1, not {value!r}")


def require_whole(name: str, value: Any, low: int, high: int | None = None) -> None:
    """Check a whole number.

    Raises:
      UserError: the value is no whole number from `low` to `high`.
    """
    if not is_number(value) or value != int(value) or value < low or (high or value) < value:
        limits = f"at least {low}" if high is None else f"from {low} to {high}"
        raise UserError(f"{name} must be a whole number {limits}, not {value!r}")


def require_one_of(name: str, value: Any, known: Sequence[Any]) -> None:
    """Check a name.

    Raises:
      UserError: the value is none of those known.
    """
    if value not in known:
        raise UserError(f"{name} must be {' or '.join(map(str, known))}, not {value!r}")


def is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
