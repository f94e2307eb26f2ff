"""Rollout and LeGrad of small transformers, against NumPy in float64."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai import METHODS, Classifier, Protocol, UserError, models
from kdxai.classifiers import as_classifier, as_pytree
from kdxai.models.trained import Trained

IMAGE = jax.random.normal(jax.random.key(1), (8, 8, 3))


def trained(name="vit-2-8-2", **options):
    network = models.create(name, num_classes=3, **options)
    variables = jax.jit(network.init)(jax.random.key(0), IMAGE[None])
    # A fresh token is next to nothing, and so is what a fresh block does with it.
    variables = jax.tree.map(
        lambda leaf: leaf + 0.3 * jax.random.normal(jax.random.key(leaf.size), leaf.shape),
        variables,
    )
    return Trained(network, {"name": name} | options, variables, facts={}, **KNOWN)


KNOWN = {
    "mean": np.zeros(3),
    "std": np.ones(3),
    "class_names": ("a", "b", "c"),
    "image_shape": (8, 8, 3),
}


def shown(model):
    """block -> [1, heads, tokens, tokens]."""
    return jax.jit(partial(model.model.apply, method="attention"))(model.variables, IMAGE[None])


@pytest.mark.parametrize("pool", ["mean", "token"])
def test_rollout_is_a_product_of_mixed_attention(pool):
    model = trained(pool=pool)
    attention = shown(model)
    flow = np.eye(attention["block0"].shape[-1])
    for block in ("block0", "block1"):
        mixed = 0.5 * np.float64(attention[block][0]).mean(0) + 0.5 * np.eye(len(flow))
        flow = mixed / mixed.sum(1, keepdims=True) @ flow
    expected = flow[0, 1:] if pool == "token" else flow.mean(0)
    found = METHODS["attention_rollout"](as_classifier(model), IMAGE, 0)
    np.testing.assert_allclose(found, expected.reshape(2, 2), rtol=1e-5)


@pytest.mark.parametrize("pool", ["mean", "token"])
def test_le_grad_by_finite_differences(pool):
    """Of each block's own logits by its own attention, the part that rises."""
    model = trained(pool=pool)
    classifier = as_classifier(model)
    attention = classifier.attention(IMAGE)
    scores = jax.jit(lambda told: classifier.attended((IMAGE, told))[:, 1])
    rows = []
    for block, own in enumerate(attention):
        slope = np.zeros(own.shape)
        for index in np.ndindex(own.shape):
            ends = []
            for step in (1e-2, -1e-2):  # the block is nearly linear in its attention
                told = [*attention]
                told[block] = own.at[index].add(step)
                ends.append(float(scores(told)[block]))
            slope[index] = (ends[0] - ends[1]) / 2e-2
        rows.append(np.maximum(slope, 0).mean((0, 1)))
    expected = np.mean(rows, 0)[int(pool == "token") :].reshape(2, 2)
    found = METHODS["le_grad"](classifier, IMAGE, 1)
    np.testing.assert_allclose(found, expected, rtol=2e-2, atol=1e-4)


def test_the_last_block_attended_as_usual_makes_the_models_own_logits():
    classifier = as_classifier(trained(pool="token"))
    logits = classifier.attended((IMAGE, classifier.attention(IMAGE)))
    assert logits.shape == (2, 3)
    np.testing.assert_allclose(logits[-1], classifier(IMAGE), rtol=1e-4, atol=1e-5)


def test_blocks_are_in_their_order():
    """Of more than ten, whose names in order of the alphabet are not."""
    model = trained("vit-11-4-1")
    names = model.model.attentive
    assert names[2] == "block2"
    by_name = shown(model)
    found = jax.jit(as_classifier(model).attention)(IMAGE)
    np.testing.assert_allclose(found[2], by_name["block2"][0], rtol=1e-4, atol=1e-6)


def test_a_classifier_of_ones_own_shows_attention():
    """Its closures are lifted with all else."""
    own = as_classifier(trained(pool="token"))
    parts = own._asdict() | {"head": None}

    def closure(part):
        return lambda given: part(given)

    closures = Classifier(**{name: part and closure(part) for name, part in parts.items()})
    lifted = as_pytree(closures, (8, 8, 3))
    for method in ("attention_rollout", "le_grad", "grad_cam"):
        draw = jax.jit(METHODS[method].draw)
        np.testing.assert_allclose(
            draw(lifted, IMAGE, 0), draw(own, IMAGE, 0), rtol=1e-4, atol=1e-6, err_msg=method
        )


def test_what_shows_no_attention_is_refused():
    cnn = as_classifier(trained("plain3-w4"))
    for method in ("attention_rollout", "le_grad"):
        with pytest.raises(UserError, match="shows no attention, as CNNs have none"):
            METHODS[method](cnn, IMAGE, 0)
    vit = as_classifier(trained())
    with pytest.raises(UserError, match=r"Classifier\(attended=\.\.\.\)"):
        METHODS["le_grad"](vit._replace(attended=None), IMAGE, 0)
    few = vit._replace(attention=lambda image: [jnp.eye(3)[None]])
    with pytest.raises(UserError, match="3 tokens, fewer than the 2x2"):
        METHODS["attention_rollout"](few, IMAGE, 0)


def test_the_class_counts_for_le_grad_alone():
    classifier = as_classifier(trained(), Protocol(method="le_grad"))
    maps = {
        m: [METHODS[m](classifier, IMAGE, c) for c in (0, 1)]
        for m in ("attention_rollout", "le_grad")
    }
    np.testing.assert_array_equal(*maps["attention_rollout"])
    assert np.abs(maps["le_grad"][0] - maps["le_grad"][1]).max() > 1e-4
