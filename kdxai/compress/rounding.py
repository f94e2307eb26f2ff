"""Weights on the levels of `models.quantised`: symmetric, a grid for each output channel."""

import numpy as np

BITS = range(2, 9)
NEAR = 1e-3  # of a step: far more than float32 takes from a level, far less than chance


def step_sizes(weight: np.ndarray, bits: int) -> np.ndarray:
    """[c_out] distances of two levels; the largest weight of a channel is the last level."""
    largest = np.abs(weight).max(tuple(range(weight.ndim - 1)))
    return np.where(largest > 0, largest, 1) / (2 ** (bits - 1) - 1)


def rounded(weight: np.ndarray, bits: int) -> np.ndarray:
    """The nearest levels."""
    step = step_sizes(weight, bits)
    return np.round(weight / step) * step


def on_grid(weight: np.ndarray, bits: int) -> bool:
    """Whether all weights are levels."""
    levels = weight / step_sizes(weight.astype(np.float64), bits)
    return bool((np.abs(levels - np.round(levels)) < NEAR).all())
