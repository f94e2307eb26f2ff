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
