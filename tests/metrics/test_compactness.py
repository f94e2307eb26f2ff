"""Spanning trees against SciPy, and shapes whose compactness is known."""

import functools

import jax
import numpy as np
import pytest
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from kdxai.metrics.compactness import METRICS, compactness, tree_length


@functools.cache
def measured(fraction):
    """All three of one map; compiled once for a fraction."""
    return jax.jit(lambda heatmap: {name: f(heatmap, fraction) for name, f in METRICS.items()})


def of_cells(cells):
    heatmap = np.zeros((12, 12), np.float32)
    heatmap[tuple(np.transpose(cells))] = 1
    return {name: float(x) for name, x in measured(16 / 144)(heatmap).items()}


def test_the_tree_is_as_long_as_scipy_makes_it():
    rng = np.random.default_rng(0)
    length = jax.jit(tree_length)
    for _ in range(3):
        points = rng.integers(0, 30, (40, 2))
        points = np.unique(points, axis=0)[:30].astype(np.float32)
        want = minimum_spanning_tree(squareform(pdist(points))).sum()
        assert length(points) == pytest.approx(want, rel=1e-5)


def test_shapes():
    square = [(2 + i, 3 + j) for i in range(4) for j in range(4)]
    scattered = [(3 * i, 3 * j) for i in range(4) for j in range(4)]
    want = of_cells(square)
    assert want["cohesion"] == 1
    assert want["concentration"] == pytest.approx(3 / np.pi, rel=1e-5)
    assert want["compactness"] == pytest.approx(2 / (1 + np.pi / 3), rel=1e-5)
    assert of_cells(scattered)["cohesion"] == pytest.approx(1 / 3, rel=1e-5)
    # A bent line hangs together, but its ends are far from each other.
    line = [(0, j) for j in range(8)] + [(i, 7) for i in range(1, 9)]
    bent = of_cells(line)
    assert bent["cohesion"] == 1 and bent["concentration"] < 0.3
    assert want["compactness"] > bent["compactness"] > of_cells(scattered)["compactness"]


def test_concentration_by_numpy():
    rng = np.random.default_rng(1)
    cells = np.stack(np.unravel_index(rng.permutation(144)[:16], (12, 12)), axis=1)
    inertia = ((cells - cells.mean(0)) ** 2).sum() + 16 / 6
    got = of_cells(cells)
    assert got["concentration"] == pytest.approx(256 / (2 * np.pi * inertia), rel=1e-5)
    a, b = got["cohesion"], got["concentration"]
    assert got["compactness"] == pytest.approx(2 * a * b / (a + b), rel=1e-5)


def test_a_constant_map_is_scattered_and_a_sign_does_not_count():
    flat = [measured(0.1)(np.full((12, 12), c, np.float32)) for c in (0, 1, -2)]
    assert flat[0] == flat[1] == flat[2]
    assert 0 < flat[0]["compactness"] < 0.6
    heatmap = np.random.default_rng(2).normal(size=(12, 12)).astype(np.float32)
    assert measured(0.1)(heatmap) == measured(0.1)(-heatmap)


def test_one_pixel():
    heatmap = np.eye(12, dtype=np.float32)[::-1]
    assert compactness(heatmap, 1 / 144) == pytest.approx(2 / (1 + np.pi / 3), rel=1e-5)
