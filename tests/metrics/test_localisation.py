"""Pointing games and IoU on maps whose answer is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.errors import UserError
from kdxai.metrics import localisation
from kdxai.metrics.localisation import grid_pointing_game, mosaic

METRICS = {name: jax.jit(metric) for name, metric in localisation.METRICS.items()}
energy_pointing_game, pointing_game, iou = METRICS.values()
auc, top_k_intersection = (jax.jit(metric) for metric in localisation.RANKINGS.values())

MASK = np.zeros((8, 8), bool)
MASK[2:6, 2:4] = True  # 8 of 64 pixels
HEATMAP = np.random.default_rng(0).random((8, 8)).astype(np.float32)


def test_energy_is_a_share():
    want = HEATMAP[MASK].astype(np.float64).sum() / HEATMAP.astype(np.float64).sum()
    np.testing.assert_allclose(energy_pointing_game(HEATMAP, MASK), want, rtol=1e-6)
    outside = energy_pointing_game(HEATMAP, ~MASK)
    np.testing.assert_allclose(energy_pointing_game(HEATMAP, MASK) + outside, 1.0, rtol=1e-6)


def test_pointing_game_hits_misses_and_shares_ties():
    hit = HEATMAP.copy()
    hit[3, 3] = 2.0
    assert pointing_game(hit, MASK) == 1.0
    hit[0, 0] = 2.0
    assert pointing_game(hit, MASK) == 0.5
    hit[0, 0] = 3.0
    assert pointing_game(hit, MASK) == 0.0


def test_iou_by_hand():
    heatmap = np.zeros((8, 8), np.float32)
    heatmap[2:6, 3:5] = 1.0  # 8 pixels, 4 of them in the mask
    assert iou(heatmap, MASK) == pytest.approx(4 / 12)
    heatmap[0, 0] = 0.3
    assert iou(heatmap, MASK) == pytest.approx(4 / 12)
    assert iou(heatmap, MASK, threshold=0.2) == pytest.approx(4 / 13)
    assert iou(MASK * 0.7, MASK) == 1.0
    assert iou(heatmap, np.zeros_like(MASK)) == 0.0


@pytest.mark.parametrize("name", METRICS)
def test_a_map_that_prefers_nothing_scores_the_area(name):
    for heatmap in (np.zeros((8, 8)), np.ones((8, 8)), np.full((8, 8), 0.1), np.full((8, 8), -2.0)):
        np.testing.assert_allclose(METRICS[name](heatmap, MASK), 8 / 64, rtol=1e-6)
        assert METRICS[name](heatmap, np.ones_like(MASK)) == pytest.approx(1.0)
        assert METRICS[name](heatmap, np.zeros_like(MASK)) == 0.0


@pytest.mark.parametrize("name", METRICS)
def test_negative_evidence_and_scale_are_ignored(name):
    signed = HEATMAP - 0.5
    np.testing.assert_allclose(
        METRICS[name](signed, MASK), METRICS[name](np.maximum(signed, 0) * 1e-20, MASK), rtol=1e-5
    )


@pytest.mark.parametrize("name", METRICS)
def test_a_single_pixel(name):
    heatmap = np.zeros((8, 8), np.float32)
    heatmap[4, 2] = 0.2
    assert METRICS[name](heatmap, MASK) == (0.125 if name == "iou" else 1.0)
    assert METRICS[name](heatmap, ~MASK) == 0.0


def test_auc_is_the_share_of_pairs_in_order():
    coarse = np.round(HEATMAP, 1) - 0.3  # ties, and what is negative counts as 0
    inside, outside = (np.maximum(coarse[where], 0) for where in (MASK, ~MASK))
    pairs = (inside[:, None] > outside) + (inside[:, None] == outside) / 2
    np.testing.assert_allclose(auc(coarse, MASK), pairs.mean(), rtol=1e-6)
    np.testing.assert_allclose(auc(coarse, ~MASK), 1 - pairs.mean(), rtol=1e-6)
    assert auc(MASK + 0.1, MASK) == 1
    assert auc(np.ones((8, 8)), MASK) == auc(np.full((8, 8), -2.0), MASK) == 0.5
    assert auc(HEATMAP, np.zeros_like(MASK)) == auc(HEATMAP, np.ones_like(MASK)) == 0.5


def test_top_k_counts_ties_by_their_share():
    order = np.argsort(-HEATMAP, axis=None)[:6]  # a tenth of 64, rounded
    assert top_k_intersection(HEATMAP, MASK) == pytest.approx(MASK.ravel()[order].mean())
    few = np.zeros((8, 8), np.float32)
    few[2, 2], few[0, 0] = 2, 1
    # One inside, one outside, and four of the 62 others, of which 7 are inside.
    assert top_k_intersection(few, MASK) == pytest.approx((1 + 4 * 7 / 62) / 6)
    assert top_k_intersection(np.ones((8, 8)), MASK) == pytest.approx(8 / 64)
    assert top_k_intersection(MASK * 0.7, MASK) == pytest.approx(1)


def test_grid_pointing_game_finds_the_cell_of_its_image():
    images = jnp.arange(6.0)[:, None, None, None] * jnp.ones((6, 3, 5, 2))
    tiled = mosaic(images, (2, 3))
    assert tiled.shape == (6, 15, 2)
    np.testing.assert_array_equal(tiled[::3, ::5, 0], [[0, 1, 2], [3, 4, 5]])
    share = jax.jit(jax.vmap(lambda m, k: grid_pointing_game(m, k, (2, 3)), (None, 0)))
    for cell in range(6):
        heatmap = (tiled[..., 0] == cell).astype(jnp.float32)
        shares = share(heatmap, jnp.arange(6))
        np.testing.assert_allclose(shares, np.eye(6)[cell])


def test_mosaic_keeps_every_image_whole():
    images = np.random.default_rng(2).random((4, 3, 5, 3)).astype(np.float32)
    tiled = np.asarray(mosaic(jnp.asarray(images), (2, 2)))
    rows = [np.concatenate(images[:2], axis=1), np.concatenate(images[2:], axis=1)]
    np.testing.assert_array_equal(tiled, np.concatenate(rows, axis=0))


def test_grid_shares_sum_to_one_with_a_traced_cell():
    shares = jax.jit(jax.vmap(lambda k: grid_pointing_game(HEATMAP, k, (2, 4))))(jnp.arange(8))
    np.testing.assert_allclose(shares.sum(), 1.0, rtol=1e-6)
    np.testing.assert_allclose(grid_pointing_game(np.zeros((8, 8)), 0, (2, 4)), 1 / 8)


def test_plain_errors():
    with pytest.raises(UserError, match="8x8 map has no 3x3 grid"):
        grid_pointing_game(HEATMAP, 0, (3, 3))
    with pytest.raises(UserError, match="2x2 mosaic takes 4 images, not 3"):
        mosaic(jnp.zeros((3, 4, 4, 3)), (2, 2))
