"""What a protocol can say, and what it refuses."""

import dataclasses

import fresh
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai import classifiers, models
from kdxai.errors import UserError
from kdxai.explain import METHODS
from kdxai.protocol import Protocol

ON_IMAGE = sorted(name for name, method in METHODS.items() if method.on_image)


def test_training_mode_draws_dropout_anew_for_every_image():
    model = models.create("wrn-10-1", num_classes=4, dropout=0.5)
    images = np.random.default_rng(1).normal(size=(3, 32, 32, 3)).astype(np.float32)
    variables = model.init(jax.random.key(0), images)
    trained = fresh.trained(model, variables)
    classifier = classifiers.as_classifier(trained, Protocol(mode="training"))
    one, again, other = classifier(images[0]), classifier(images[0]), classifier(images[0] * 1.001)
    np.testing.assert_array_equal(one, again)
    # BatchNorm undoes the factor; only another dropout tells them apart.
    assert np.abs(one - other).max() > 1e-2


def test_values_that_are_none_are_refused():
    for field in dataclasses.fields(Protocol):
        if field.type in (str, bool) or field.name == "options":
            continue
        with pytest.raises(UserError, match=f"{field.name} is .* or .*, not 'vibes'"):
            Protocol(**{field.name: "vibes"})
    with pytest.raises(UserError, match="no method 'vibes'; known: cam"):
        Protocol(method="vibes")


@pytest.mark.parametrize("method", [*ON_IMAGE, "mask"])
def test_a_stage_of_what_does_not_read_it_is_refused(method):
    with pytest.raises(UserError, match=f"stage does nothing to the method '{method}'"):
        Protocol(method, stage="stage2")


@pytest.mark.parametrize("method", ["grad_cam", "gradient", "random"])
def test_a_foreign_head_is_for_cam(method):
    with pytest.raises(UserError, match=f"foreign_head is for cam, not for '{method}'"):
        Protocol(method, foreign_head=True)


@pytest.fixture(scope="module")
def small():
    model = models.create("plain4-w4", num_classes=3)
    return fresh.trained(model, model.init(jax.random.key(0), jnp.zeros((1, 16, 16, 3))))


OF_CNNS = [m for m in METHODS if "attention" not in METHODS[m].needs]
REPEATED = [m for m in OF_CNNS if METHODS[m].on_image and METHODS[m].batch]  # cost the most


@pytest.mark.parametrize(
    "method", [pytest.param(m, marks=[pytest.mark.slow] * (m in REPEATED)) for m in OF_CNNS]
)
def test_the_methods_that_read_the_cut(method, small):
    """A map changes with the cut, or is on the image; guided maps multiply a Grad-CAM."""
    image = jax.random.normal(jax.random.key(1), (16, 16, 3))
    fewer = {"samples": 4} if "samples" in METHODS[method].defaults else {}
    protocol = Protocol(stage="stage1", foreign_head=True)
    beside = {
        "background": image[None] + 1,
        "earlier": (classifiers.as_classifier(small, protocol),),
    }
    maps = []
    for stage in ("stage2", "stage3"):
        protocol = Protocol(stage=stage, foreign_head=True)
        classifier = classifiers.as_classifier(small, protocol)._replace(
            head=jnp.ones((8 if stage == "stage2" else 16, 3)), **beside
        )
        draw = jax.jit(lambda x, c=classifier: METHODS[method](c, x, 1, **fewer))
        maps.append(np.asarray(draw(image)))
    same = maps[0].shape == maps[1].shape and np.allclose(maps[0], maps[1], atol=1e-5)
    assert same == (method in ON_IMAGE)
