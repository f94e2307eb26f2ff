"""BatchNorm's statistics, against float64 ones of the layers' inputs."""

import chex
import jax
import numpy as np
import pytest
from scipy.ndimage import correlate

from kdxai import compress
from kdxai.compress import statistics
from kdxai.errors import UserError
from kdxai.models import trained


def convolved(x, kernel):
    """[N, H, W, c_in] float64 -> stride 1, padded by zeros."""
    out = np.zeros((*x.shape[:3], kernel.shape[3]))
    for n, image in enumerate(x):
        for o in range(kernel.shape[3]):
            for i in range(kernel.shape[2]):
                out[n, ..., o] += correlate(image[..., i], kernel[..., i, o], mode="constant")
    return out


def inputs_of_norms(model, images):
    """Of the first two BatchNorms of a plain network whose batch is all images, in float64."""
    x = (np.float64(images) / 255 - np.float64(model.mean)) / np.float64(model.std)
    for stage in ("stage1", "stage2"):
        params = model.variables["params"][f"units_{stage}"]
        x = convolved(x, np.float64(params["Conv_0"]["kernel"]))
        x = x[:, :: 1 if stage == "stage1" else 2, :: 1 if stage == "stage1" else 2]
        yield stage, x
        norm = params["BatchNorm_0"]
        x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-5)
        x = np.maximum(x * np.float64(norm["scale"]) + np.float64(norm["bias"]), 0)


def test_one_batch_is_float64(make, pictures):
    model = make("plain3-w4")
    found = compress.batch_norm(model, pictures)
    chex.assert_trees_all_equal(found.variables["params"], model.variables["params"])
    for stage, x in inputs_of_norms(model, pictures):
        statistic = found.variables["batch_stats"][f"units_{stage}"]["BatchNorm_0"]
        np.testing.assert_allclose(statistic["mean"], x.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(statistic["var"], x.var((0, 1, 2)), rtol=1e-4)


def test_batches_are_one_population(make, pictures, monkeypatch):
    """Of the first layer, whose input no batch changes; the batches are of 6 or 7 images."""
    model = make("plain3-w4")
    monkeypatch.setattr(statistics, "BATCH", 7)
    found = compress.batch_norm(model, pictures[:19]).variables["batch_stats"]
    _, x = next(inputs_of_norms(model, pictures[:19]))
    statistic = found["units_stage1"]["BatchNorm_0"]
    np.testing.assert_allclose(statistic["mean"], x.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(statistic["var"], x.var((0, 1, 2)), rtol=1e-4)


def test_it_is_known_and_kept(make, pictures, tmp_path):
    found = compress.batch_norm(compress.none(make("plain3-w4")), pictures)
    assert found.facts["origin"]["batch_norm"] == 24
    trained.save(found, tmp_path)
    loaded = trained.load(tmp_path)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    np.testing.assert_array_equal(
        loaded.model.apply(loaded.variables, x), found.model.apply(found.variables, x)
    )


def test_dropout_is_off(make, pictures):
    one, other = (make("wrn-10-1-w4", dropout=rate) for rate in (0.0, 0.5))
    found = [compress.batch_norm(model, pictures).variables for model in (one, other)]
    chex.assert_trees_all_equal(*found)


def test_what_cannot_be_estimated(make, pictures):
    model = make("plain3-w4")
    with pytest.raises(UserError, match="no images"):
        compress.batch_norm(model, pictures[:0])
    with pytest.raises(UserError, match="must be uint8"):
        compress.batch_norm(model, pictures / 255)
    bare = model._replace(variables={"params": model.variables["params"]})
    with pytest.raises(UserError, match="the network has no BatchNorm"):
        compress.batch_norm(bare, pictures)


def test_views_are_crops_of_the_image_with_a_border(pictures):
    black = compress.views(pictures, border="black")
    assert black.dtype == np.uint8 and black.shape == pictures.shape
    for view, image in zip(black, pictures, strict=True):
        around = np.zeros((16, 16, 3), np.uint8)
        around[4:12, 4:12] = image
        crops = [around[i : i + 8, j : j + 8] for i in range(9) for j in range(9)]
        assert any((view == crop).all() or (view == crop[:, ::-1]).all() for crop in crops)
    assert len({view.tobytes() for view in compress.views(pictures[[0] * 24], border="black")}) > 10
    np.testing.assert_array_equal(black, compress.views(pictures, border="black"))
    assert compress.views(np.full((9, 8, 8, 3), 7, np.uint8), border="reflect").min() == 7
    with pytest.raises(UserError, match="border must be black or reflect, not 'white'"):
        compress.views(pictures, border="white")
