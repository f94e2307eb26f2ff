"""What a model tells of itself, in words; a classifier of one's own may tell nothing."""

from collections.abc import Mapping
from typing import Any

from kdxai.study.origins import ORIGINS

Facts = Mapping[str, Any]


def network(facts: Facts) -> str:
    """What it is called where it was made, else where it was found."""
    return facts.get("model") or facts.get("place") or "a classifier handed in"


def accuracy(facts: Facts) -> float:
    """Its own, of the whole test split; else that of the images that were measured."""
    return facts.get("test_accuracy", facts.get("measured_accuracy"))


def is_own(facts: Facts) -> bool:
    """Whether the accuracy is its own."""
    return "test_accuracy" in facts


def origin(facts: Facts) -> str:
    """How it came to be."""
    kind = facts.get("origin", {}).get("kind")
    if kind in ORIGINS:
        return ORIGINS[kind].told(facts)
    return kind or "handed in as a function"
