"""Vision transformers: attention by hand, what it may be told, images that do not fit."""

from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from kdxai import models
from kdxai.errors import UserError

IMAGES = jax.random.normal(jax.random.key(1), (2, 8, 12, 3))
POOLS = ("mean", "token")


@cache
def fresh(pool):
    """A ViT whose every parameter is random, and its variables: 2 x 3 patches, 2 heads of 4."""
    model = models.create("vit-2-8-2", num_classes=3, pool=pool)
    variables = jax.jit(model.init)(jax.random.key(0), IMAGES)
    leaves, structure = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    leaves = [jax.random.normal(k, leaf.shape) / 2 for k, leaf in zip(keys, leaves, strict=True)]
    return model, jax.tree.unflatten(structure, leaves)


@cache
def applied(pool, method=None):
    model, variables = fresh(pool)
    return jax.jit(partial(model.apply, variables, method=method), static_argnames="stage")


@pytest.mark.parametrize("pool", POOLS)
def test_attention_by_hand(pool):
    """Of the first block, head by head, in float64."""
    model, variables = fresh(pool)
    found = applied(pool, "attention")(IMAGES)
    assert [*found] == ["block0", "block1"]
    stem = model.apply(variables, IMAGES, stage="stem", method="features")
    tokens = np.float64(models.grid(stem)).reshape(2, 6, 8)
    if pool == "token":
        tokens = np.concatenate([np.float64(stem.token)[:, None], tokens], 1)
    block = jax.tree.map(np.float64, variables["params"]["units_block0"])
    centred = tokens - tokens.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
    normed = normed * block["norm1"]["scale"] + block["norm1"]["bias"]
    queries, keys, _ = np.split(normed @ block["qkv"]["kernel"] + block["qkv"]["bias"], 3, -1)
    for head in range(2):
        part = slice(4 * head, 4 * head + 4)
        expected = softmax(queries[..., part] @ keys[..., part].swapaxes(1, 2) / 2, -1)
        np.testing.assert_allclose(found["block0"][:, head], expected, atol=1e-5)


def test_blocks_that_attend_as_they_would_make_their_own_features():
    model, variables = fresh("token")
    attention = applied("token", "attention")(IMAGES)
    found = applied("token", "attended")(IMAGES, attention)
    _, taps = model.apply(variables, IMAGES, taps=("block0", "block1"))
    close = partial(np.testing.assert_allclose, atol=1e-5)
    jax.tree.map(close, found, taps)


@pytest.mark.parametrize("pool", POOLS)
def test_the_gradient_by_attention_is_of_each_block_alone(pool):
    """By differences: as LeGrad takes it, of the class in each block's features."""
    attention = applied(pool, "attention")(IMAGES)
    attended, classify = applied(pool, "attended"), applied(pool, "classify")

    def score(attention, block):
        return classify(attended(IMAGES, attention)[block], stage="block1")[:, 1].sum()

    total = lambda attention: sum(score(attention, block) for block in attention)  # noqa: E731
    gradient = jax.grad(total)(attention)
    for block in attention:
        towards = jax.random.normal(jax.random.key(3), attention[block].shape)
        moved = [{**attention, block: attention[block] + e * towards} for e in (0.01, -0.01)]
        slope = (score(moved[0], block) - score(moved[1], block)) / 0.02
        assert (gradient[block] * towards).sum() == pytest.approx(float(slope), rel=0.02, abs=0.01)
        other = "block1" if block == "block0" else "block0"
        assert score(moved[0], other) == score(attention, other)


def test_without_positions_the_order_of_the_patches_is_nothing():
    model, variables = fresh("mean")
    stem = variables["params"]["units_stem"]
    stem = {**stem, "positions": jnp.zeros_like(stem["positions"])}
    variables = {"params": {**variables["params"], "units_stem": stem}}
    patches = IMAGES.reshape(2, 2, 4, 3, 4, 3)
    other = patches[:, ::-1, :, jnp.array([1, 2, 0])].reshape(IMAGES.shape)
    logits = [model.apply(variables, images) for images in (IMAGES, other)]
    np.testing.assert_allclose(*logits, atol=1e-5)


def test_a_cnn_has_no_attention():
    model = models.create("plain3-w4", num_classes=3)
    variables = jax.eval_shape(model.init, jax.random.key(0), IMAGES)
    with pytest.raises(UserError, match="no attention, as CNNs have none; take a vision"):
        jax.eval_shape(partial(model.apply, method="attention"), variables, IMAGES)


@pytest.mark.parametrize("name", ["vit-1-8-2", "convnext-1-1-1-1-w4"])
def test_patches_that_do_not_divide_the_images(name):
    model = models.create(name, num_classes=3, patch=4)
    with pytest.raises(UserError, match="patches of 4x4 pixels do not divide images of 10x8; take"):
        jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 10, 8, 3)))


def test_images_of_another_size_have_no_positions():
    model, variables = fresh("token")
    with pytest.raises(UserError, match="positions of 7 tokens and the images make 17 of 4x4 pix"):
        jax.eval_shape(model.apply, variables, jnp.zeros((1, 16, 16, 3)))


def test_what_is_at_a_cut_is_a_grid_and_a_token():
    model, variables = fresh("token")
    features = jax.eval_shape(partial(model.apply, method="features"), variables, IMAGES)
    assert features.token.shape == (2, 8)
    assert models.grid(features).shape == models.grid(features.grid).shape == (2, 2, 3, 8)
    other = models.with_grid(features, "another")
    assert other.token is features.token and models.grid(other) == "another"
