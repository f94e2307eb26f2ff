"""Models whose features are more than a grid: a class token beside the patches, or a pytree."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from kdxai import Protocol, UserError, evaluate
from kdxai.explain import METHODS, Classifier

RNG = np.random.default_rng(0)
WIDTH, PATCH, CLASSES = 6, 4, 3
IMAGE = jnp.float32(RNG.normal(size=(8, 12, 3)))
EMBED, QUERY, KEY, VALUE, HEAD, TOKEN = (
    jnp.float32(RNG.normal(size=shape)) * 0.5
    for shape in [(48, WIDTH), *[(WIDTH, WIDTH)] * 3, (WIDTH, CLASSES), (1, WIDTH)]
)
# Of the methods that read the cut, those that this model has all that they ask for.
ON_GRID = sorted(
    name for name, method in METHODS.items() if not method.on_image and not method.needs
)


def embed(image):
    """[8, 12, 3] -> [1 + 6, WIDTH], the class token first."""
    patches = image.reshape(2, PATCH, 3, PATCH, 3).transpose(0, 2, 1, 3, 4).reshape(6, 48)
    return jnp.concatenate([TOKEN, jnp.tanh(patches @ EMBED)])


def attend(tokens):
    """One head of attention; the class token is read."""
    weights = jax.nn.softmax((tokens @ QUERY) @ (tokens @ KEY).T)
    return (tokens + weights @ (tokens @ VALUE))[0] @ HEAD


def to_grid(tokens):
    return tokens[1:].reshape(2, 3, -1)


TOKENS = Classifier(embed, attend, grid=to_grid)


def split():
    """The same model, its features cut into a dictionary."""

    def features(image):
        tokens = embed(image)
        return {"token": tokens[:1], "map": to_grid(tokens)}

    def classify(f):
        return attend(jnp.concatenate([f["token"], f["map"].reshape(6, -1)]))

    return Classifier(features, classify, grid=lambda f: f["map"])


def test_grad_cam_takes_the_gradients_of_the_patches():
    """As grad-cam's `reshape_transform` does, here by finite differences of float64."""
    tokens = np.float64(embed(IMAGE))

    def logit(tokens):
        scores = (tokens @ np.float64(QUERY)) @ (tokens @ np.float64(KEY)).T
        weights = np.exp(scores - scores.max(1, keepdims=True))
        weights /= weights.sum(1, keepdims=True)
        return ((tokens + weights @ (tokens @ np.float64(VALUE)))[0] @ np.float64(HEAD))[1]

    gradient = np.zeros_like(tokens)
    for index in np.ndindex(tokens.shape):
        step = np.zeros_like(tokens)
        step[index] = 1e-6
        gradient[index] = (logit(tokens + step) - logit(tokens - step)) / 2e-6
    expected = (tokens[1:] * gradient[1:].mean(0)).sum(1).reshape(2, 3)
    found = METHODS["grad_cam"](TOKENS, IMAGE, 1, relu=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


def test_ablation_takes_a_channel_of_the_patches_and_keeps_the_token():
    tokens = embed(IMAGE)
    whole = attend(tokens)[2]
    falls = [whole - attend(tokens.at[1:, k].set(0))[2] for k in range(WIDTH)]
    expected = (to_grid(tokens) * jnp.stack(falls) / abs(whole)).sum(-1)
    found = METHODS["ablation_cam"](TOKENS, IMAGE, 2, relu=False)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("method", ON_GRID)
def test_a_pytree_is_as_good_as_an_array(method):
    one, other = (METHODS[method](model, IMAGE, 0) for model in (TOKENS, split()))
    assert one.shape == (2, 3)
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_they_are_measured():
    images = RNG.integers(0, 256, (4, 8, 12, 3)).astype(np.uint8)
    of = lambda model: evaluate(  # noqa: E731
        model, images, [0, 1, 2, 0], Protocol(method="grad_cam"), mean=[0.5] * 3, std=[0.25] * 3
    )
    rows = of(TOKENS)
    pd.testing.assert_frame_equal(rows, of(split()))
    assert np.isfinite(rows.adcc).all()


@pytest.mark.parametrize(
    ("grid", "says"),
    [
        (None, r"must be \[h, w, c\] for one image, but is \(7, 6\)"),
        (lambda tokens: tokens[1:], r"grid\(features\) must be \[h, w, c\].*\(6, 6\)"),
        (lambda tokens: [tokens], r"grid\(features\) must be \[h, w, c\].*list"),
    ],
)
def test_what_is_no_grid_is_refused(grid, says):
    with pytest.raises(UserError, match=says):
        METHODS["grad_cam"](TOKENS._replace(grid=grid), IMAGE, 0)
    with pytest.raises(UserError, match=says):
        TOKENS._replace(grid=grid)(IMAGE)
