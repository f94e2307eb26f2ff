"""Top-k overlap by hand, and the table of agreement metrics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.errors import UserError
from kdxai.metrics import agreement as module
from kdxai.metrics.coherency import pearson

agreement = jax.jit(module.agreement)
top_k_iou = jax.jit(module.top_k_iou, static_argnames="fraction")

A = np.random.default_rng(0).random((12, 12)).astype(np.float32)
B = np.random.default_rng(1).random((12, 12)).astype(np.float32)


@pytest.mark.parametrize("fraction", [0.05, 0.1, 0.5])
def test_top_k_iou_matches_sets(fraction):
    k = round(fraction * A.size)
    top_a, top_b = (set(np.argsort(-m.ravel())[:k].tolist()) for m in (A, B))
    want = len(top_a & top_b) / len(top_a | top_b)
    np.testing.assert_allclose(top_k_iou(A, B, fraction), want, rtol=1e-6)
    assert top_k_iou(A, A, fraction) == 1.0


def test_top_k_iou_and_ties():
    sparse, other = np.zeros((2, 10, 10), np.float32)
    sparse[0, :4] = [1, 2, 3, 4]
    other[0, 2:6] = [1, 2, 3, 4]
    # Ten pixels are the top tenth, but six of them would be zeros: only the four count.
    assert top_k_iou(sparse, other) == pytest.approx(2 / 6)
    plateau = np.zeros((10, 10), np.float32)
    plateau[:2] = 1.0
    assert top_k_iou(plateau, plateau) == 1.0
    assert top_k_iou(plateau, sparse) == pytest.approx(4 / 20)
    for constant in (np.zeros((10, 10)), np.ones((10, 10))):
        assert top_k_iou(constant, sparse) == top_k_iou(constant, constant) == 0.0


def test_agreement_of_a_map_with_itself_and_with_its_opposite():
    same = agreement(A, A)
    assert same.keys() == module.METRICS.keys()
    for value in same.values():
        np.testing.assert_allclose(value, 1.0, atol=1e-5)
    opposite = agreement(A, 1 - A)
    np.testing.assert_allclose([opposite["pearson"], opposite["spearman"]], -1.0, atol=1e-5)
    assert opposite["top_k_iou"] == 0.0 and opposite["ssim"] < 0
    assert agreement(A, B)["pearson"] == pearson(A, B)


def test_maps_of_two_grids_are_refused():
    with pytest.raises(UserError, match=r"\(4, 4\) and \(8, 8\): resize both to one grid"):
        agreement(jnp.zeros((4, 4)), jnp.zeros((8, 8)))
