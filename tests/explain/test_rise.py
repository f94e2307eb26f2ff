"""RISE: its masks, and the mean over them."""

import jax
import jax.numpy as jnp
import numpy as np

from kdxai.explain import METHODS, Classifier
from kdxai.explain.rise import draw_mask

RNG = np.random.default_rng(2)
WEIGHTS = RNG.normal(size=(9, 12, 3))
IMAGE = RNG.normal(size=(9, 12, 3)).astype(np.float32)
MODEL = Classifier(
    lambda x: x, lambda x: jnp.stack([(jnp.asarray(WEIGHTS, jnp.float32) * x).sum(), 0.3, -0.2])
)


def masks(key, count, **options):
    keys = [jax.random.fold_in(key, i) for i in range(count)]
    chosen = {"shape": (9, 12), "cells": 3, "probability": 0.4} | options
    return np.stack([draw_mask(one, **chosen) for one in keys]).astype(np.float64)


def test_against_a_loop_over_masks():
    """7 samples in chunks of 3: the last chunk is not full."""
    key = jax.random.key(5)
    options = {"samples": 7, "cells": 3, "probability": 0.4, "chunk": 3, "key": key}
    found = jax.jit(lambda x: METHODS["rise"](MODEL, x, 0, **options))(IMAGE)
    total = np.zeros((9, 12))
    for mask in masks(key, 7):
        logits = np.array([(WEIGHTS * IMAGE * mask[..., None]).sum(), 0.3, -0.2])
        total += mask * np.exp(logits[0]) / np.exp(logits).sum()
    np.testing.assert_allclose(found, total / (7 * 0.4), rtol=1e-4)


def test_masks():
    """Cells of 3 x 4 pixels, resized to 12 x 16 from 3 x 3, cut at any of 3 x 4 places."""
    found = masks(jax.random.key(0), 40)
    assert found.shape == (40, 9, 12) and found.min() >= 0 and found.max() <= 1
    grid_key, *keys = jax.random.split(jax.random.fold_in(jax.random.key(0), 11), 3)
    grid = np.float64(jax.random.bernoulli(grid_key, 0.4, (3, 3)))

    def resized(values, size):
        """Along the first axis, by half-pixel centres."""
        at = np.clip((np.arange(size) + 0.5) * len(values) / size - 0.5, 0, len(values) - 1)
        low = np.minimum(np.int64(at), len(values) - 2)
        share = (at - low)[:, None]
        return (1 - share) * values[low] + share * values[low + 1]

    large = resized(resized(grid, 12).T, 16).T
    top, left = (
        int(jax.random.randint(k, (), 0, size)) for k, size in zip(keys, (3, 4), strict=True)
    )
    np.testing.assert_allclose(found[11], large[top : top + 9, left : left + 12], atol=1e-6)


def test_what_the_class_does_not_need_is_grey():
    """A class of one pixel: the map is high there, to within a cell, and even far from it."""
    model = Classifier(lambda x: x, lambda x: jnp.stack([8 * x[2, 2, 0], 4.0]))
    draw = lambda x: METHODS["rise"](model, x, 0, samples=512, cells=4)  # noqa: E731
    found = np.asarray(jax.jit(draw)(jnp.ones((12, 12, 1))))
    assert max(np.unravel_index(found.argmax(), found.shape)) <= 2 + 3
    assert found[2, 2] > 1.3 * found[6:, 6:].max()
