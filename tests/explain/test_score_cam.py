"""Score-CAM does not run the model for channels that say nothing, and nobody can tell."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.explain import Classifier
from kdxai.explain.cam import score_cam

RNG = np.random.default_rng(3)
FILTERS = jnp.asarray(RNG.normal(size=(3, 7)), jnp.float32)
HEAD = jnp.asarray(RNG.normal(size=(7, 4)), jnp.float32)


def features(image, silent=()):
    """[8, 8, 3] -> [4, 4, 7]; the `silent` channels are zero."""
    values = jax.nn.relu(image.reshape(4, 2, 4, 2, 3).mean((1, 3)) @ FILTERS)
    return values.at[..., jnp.array(silent, int)].set(0)


def classify(values):
    return jnp.tanh(values).mean((0, 1)) @ HEAD


def loop(image, silent, c):
    """The definition, channel by channel."""
    maps = np.asarray(features(image, silent), np.float64)
    scores = []
    for k in range(7):
        h = np.asarray(jax.image.resize(maps[..., k], (8, 8), "bilinear"))
        span = h.max() - h.min()
        mask = (h - h.min()) / span if span else np.zeros_like(h)
        scores.append(float(classify(features(image * mask[..., None], silent))[c]))
    weights = np.exp(scores) / np.exp(scores).sum()
    return np.maximum((maps * weights).sum(-1), 0)


@pytest.mark.parametrize("chunk", [1, 3, 32])
@pytest.mark.parametrize("silent", [(), (0, 2, 3, 6), tuple(range(7))])
def test_against_the_definition(silent, chunk):
    image = jnp.asarray(RNG.normal(size=(8, 8, 3)), jnp.float32)
    classifier = Classifier(lambda x: features(x, silent), classify)
    heatmap = jax.jit(lambda x: score_cam(classifier, x, 1, chunk=chunk))(image)
    np.testing.assert_allclose(heatmap, loop(image, silent, 1), atol=1e-5)


def test_images_of_one_batch_may_have_different_silent_channels():
    # A uniform image makes every channel constant.
    images = jnp.stack([jnp.ones((8, 8, 3)), jnp.asarray(RNG.normal(size=(8, 8, 3)))])
    images = images.astype(jnp.float32)
    classifier = Classifier(features, classify)
    maps = jax.jit(jax.vmap(lambda x: score_cam(classifier, x, 2, chunk=2)))(images)
    for image, heatmap in zip(images, maps, strict=True):
        np.testing.assert_allclose(heatmap, loop(image, (), 2), atol=1e-5)


def test_only_channels_that_vary_cost_a_forward_pass():
    seen = []

    def counted(values):
        jax.debug.callback(lambda v: seen.append(np.shape(v)), values)
        return classify(values)

    image = jnp.asarray(RNG.normal(size=(8, 8, 3)), jnp.float32)
    for silent, expected in (((), 8), ((0, 2, 3, 6), 4)):
        seen.clear()
        classifier = Classifier(lambda x, silent=silent: features(x, silent), counted)
        score_cam(classifier, image, 1, chunk=1).block_until_ready()
        jax.effects_barrier()
        assert len(seen) == expected  # and one for the empty image


def test_a_nan_in_one_channel_is_not_taken_for_silence():
    broken = lambda x: features(x, range(7)).at[1, 1, 3].set(jnp.nan)  # noqa: E731
    heatmap = jax.jit(lambda x: score_cam(Classifier(broken, classify), x, 1))(jnp.ones((8, 8, 3)))
    assert np.isnan(heatmap).all()
