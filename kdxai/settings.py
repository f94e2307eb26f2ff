"""Nested settings as flat ones, where two differ, and lists of names."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from ml_collections import ConfigDict

SHOWN = 5  # settings that a refusal names


def changed_settings(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    """`optim.lr 0.1 -> 0.05, ...`: where two nested settings differ, the first few of them."""
    a, b = flatten(before), flatten(after)
    missing = "(none)"
    changes = [
        textwrap.shorten(f"{key} {a.get(key, missing)} -> {b.get(key, missing)}", 200)
        for key in sorted(a | b)
        if a.get(key, missing) != b.get(key, missing)
    ]
    more = [f"and {len(changes) - SHOWN} more"] if len(changes) > SHOWN else []
    return ", ".join(changes[:SHOWN] + more)


def flatten(values: Mapping[str, Any] | ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Nested settings -> {"optim.lr": 0.1, ...}."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping | ConfigDict):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def listed(names: str | Sequence[str]) -> list[str]:
    """`a, b`, or a tuple of such -> [a, b]."""
    # The command line makes ("a, b",) of it where a tuple stood.
    entries = [str(name) for name in names] if isinstance(names, list | tuple) else [str(names)]
    if len(entries) == 1:
        entries = entries[0].split(",")
    return [name for entry in entries if (name := entry.strip())]
