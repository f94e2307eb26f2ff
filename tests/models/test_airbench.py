import sys
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from kdxai import models
from kdxai.errors import UserError
from kdxai.models.airbench import EPSILON, extract_patches, halved, identity_kernel, whitened

IMAGES = np.cumsum(np.random.default_rng(0).normal(size=(40, 9, 8, 3)), 2)  # neighbours are alike


@cache
def fresh():
    model = models.create("airbench-4-5-6", num_classes=3)
    return model, jax.jit(model.init)(jax.random.key(0), jnp.zeros((1, 9, 8, 3)))


def test_filters_whiten_the_patches_of_the_training_images():
    """Their answers are uncorrelated, with variance lambda / (lambda + 5e-4), in either sign."""
    model, variables = fresh()
    variables = whitened(variables, IMAGES)
    answers = model.apply(variables, jnp.float32(IMAGES), stage="whitening", method="features")
    positive, negative = np.split(np.float64(answers), 2, -1)
    signed = (positive - negative).reshape(-1, 12)  # what the ReLU of both has cut
    moments = signed.T @ signed / len(signed)
    windows = np.stack(
        [
            IMAGES[n, i : i + 2, j : j + 2].ravel()
            for n in range(len(IMAGES))
            for i in range(8)
            for j in range(7)
        ]
    )
    values = np.linalg.eigvalsh(np.cov(windows.T, bias=True) + np.outer(*[windows.mean(0)] * 2))
    np.testing.assert_allclose(moments, np.diag((values / (values + EPSILON))[::-1]), atol=1e-4)
    np.testing.assert_array_equal(extract_patches(IMAGES), windows)


def test_whitening_in_parts_is_that_of_all(monkeypatch):
    one = whitened(fresh()[1], IMAGES)["batch_stats"]["units_whitening"]["kernel"]
    monkeypatch.setattr(sys.modules["kdxai.models.airbench"], "AT_ONCE", 7)
    parts = whitened(fresh()[1], IMAGES)["batch_stats"]["units_whitening"]["kernel"]
    np.testing.assert_allclose(np.abs(parts), np.abs(one), rtol=1e-5)


def test_grey_images_are_whitened_all_the_same():
    grey = np.repeat(IMAGES[..., :1], 3, -1)
    kernel = whitened(fresh()[1], grey)["batch_stats"]["units_whitening"]["kernel"]
    assert np.isfinite(kernel).all()


def test_too_few_patches_to_whiten_by():
    variables = fresh()[1]
    message = "at least 20 patches of 2x2 pixels and there are 16; train on more or larger images"
    with pytest.raises(UserError, match=message):
        whitened(variables, np.zeros((1, 5, 5, 5)))
    with pytest.raises(UserError, match="at least 5x5 pixels, not 9x4; take another model"):
        whitened(variables, IMAGES[:, :, :4])


def test_the_smallest_images_have_a_last_map_of_one_pixel():
    model, variables = fresh()
    for side, size in ((5, 1), (4, 0)):
        image = jax.ShapeDtypeStruct((1, side, side, 3), jnp.float32)
        maps = jax.eval_shape(partial(model.apply, method="features"), variables, image)
        assert maps.shape == (1, size, size, 6)


def test_the_first_filters_are_no_parameters():
    _, variables = fresh()
    assert "units_whitening" not in variables["params"]
    norms = [name for name in variables["params"] if "stage" in name]
    assert len(norms) == 6
    for name in norms:
        assert set(variables["params"][name]["BatchNorm_0"]) == {"bias"}


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 5), (5, 3), (4, 4)])
def test_a_convolution_starts_as_the_identity(inputs, outputs):
    kernel = identity_kernel(jax.random.key(0), (3, 3, inputs, outputs))
    x = jax.random.normal(jax.random.key(1), (2, 6, 5, inputs))
    y = nn.Conv(outputs, (3, 3), use_bias=False).apply({"params": {"kernel": kernel}}, x)
    same = min(inputs, outputs)
    np.testing.assert_allclose(y[..., :same], x[..., :same], atol=1e-6)
    if outputs > inputs:  # the others as torch.nn.Conv2d draws them
        assert np.abs(kernel[..., inputs:]).max() <= (9 * inputs) ** -0.5
        assert np.abs(y[..., same:]).min() > 0


@pytest.mark.parametrize("size", [(6, 4), (7, 5)])
def test_pooling_is_flax_s(size):
    x = jax.random.normal(jax.random.key(0), (2, *size, 3))
    np.testing.assert_array_equal(halved(x), nn.max_pool(x, (2, 2), (2, 2)))


def test_no_channels():
    with pytest.raises(UserError, match="at least 1 channel"):
        models.create("airbench-0-4-4", num_classes=3)
