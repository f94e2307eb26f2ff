"""What is explained, where it is not a class: numbers made of the logits [K] of one image.

Methods take them in place of a class. Any function [K] -> [] will do; these are pytrees, so that
their classes may be traced.
"""

import jax
from jax.tree_util import Partial

from kdxai.explain.classifier import target_score


def difference(class_index: jax.Array | int, other: jax.Array | int) -> Partial:
    """y_c - y_c': why this class and not the other (Prabhushankar et al. 2020)."""
    return Partial(_difference, class_index, other)


def probability(class_index: jax.Array | int) -> Partial:
    """softmax(y)_c, whose gradient is that of all logits, next to nothing where p_c is near 1."""
    return Partial(_probability, class_index)


def _difference(
    class_index: jax.Array | int, other: jax.Array | int, logits: jax.Array
) -> jax.Array:
    return target_score(logits, class_index) - target_score(logits, other)


def _probability(class_index: jax.Array | int, logits: jax.Array) -> jax.Array:
    return target_score(jax.nn.softmax(logits), class_index)
