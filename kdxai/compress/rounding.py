"""Weights on a few levels: symmetric, a grid for each output channel."""

import numpy as np

BITS = range(2, 9)
NEAR = 1e-3  # steps, far above what float32 leaves of a level, and far below chance


def steps(weight: np.ndarray, bits: int) -> np.ndarray:
    """[c_out] distance of two levels, so that the largest weight of a channel is the last level."""
    largest = np.abs(weight).max(tuple(range(weight.ndim - 1)))
    return largest / (2 ** (bits - 1) - 1)


def on_grid(weight: np.ndarray, bits: int) -> bool:
    """Whether all weights, output channels last, are levels of such a grid."""
    step = steps(weight.astype(np.float64), bits)
    levels = weight / np.where(step > 0, step, 1)
    return bool((np.abs(levels - np.round(levels)) < NEAR).all())
