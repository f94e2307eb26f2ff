"""Maps of a class given, and how alike those of many models are, on images of 12 x 12."""

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from kdxai import evaluate
from kdxai.data import augment
from kdxai.drawing import draw
from kdxai.errors import UserError
from kdxai.explain import Classifier
from kdxai.explain.maps import resize
from kdxai.metrics import agreement
from kdxai.protocol import Protocol

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (7, 12, 12, 3)).astype(np.uint8)
CLASSES = np.array([4, 0, 1, 2, 3, 4, 0])
NORMAL = {"mean": np.float32([0.5, 0.45, 0.4]), "std": np.float32([0.25, 0.2, 0.3])}


def network(cells, seed, head=None):
    """Patches of an image, `cells` x `cells`, seen by random filters under a random head."""
    rng, side = np.random.default_rng(seed), 12 // cells
    filters = jnp.float32(rng.normal(size=(side, side, 3, 6)))
    weights = jnp.float32(rng.normal(size=(6, 5)) if head is None else head)

    def features(image):
        patches = image.reshape(cells, side, cells, side, 3).transpose(0, 2, 1, 3, 4)
        return jax.nn.relu(jnp.einsum("ijhwc,hwck->ijk", patches, filters))

    return Classifier(features, lambda f: f.mean((0, 1)) @ weights, weights)


def maps_of(model, protocol=None, **options):
    return evaluate.draw_maps(model, IMAGES, CLASSES, protocol or Protocol(), **NORMAL, **options)


@pytest.mark.parametrize("chunk", [None, 3])
def test_maps_are_of_the_class_that_is_given(chunk):
    model = network(4, 0)
    maps = maps_of(model, chunk=chunk)
    assert maps.shape == (7, 4, 4) and maps.dtype == np.float32
    for image, c, one in zip(IMAGES, CLASSES, maps, strict=True):
        expected = draw(Protocol(), model, augment.normalise(image, *NORMAL.values()), c).native
        np.testing.assert_allclose(one, expected, atol=1e-6)


def test_each_stream_has_random_numbers_of_its_own():
    protocol, model = Protocol("random"), network(4, 0)
    first, again, other, none = (
        maps_of(model, protocol, stream=stream, ids=np.arange(5, 12)) for stream in (0, 0, 1, None)
    )
    np.testing.assert_array_equal(first, again)
    for one in (other, none):
        assert abs(np.corrcoef(first.ravel(), one.ravel())[0, 1]) < 0.2


def test_evaluate_returns_the_maps_it_drew():
    protocol, model = Protocol(target="label"), network(4, 0)
    rows, maps = evaluate.evaluate(model, IMAGES, CLASSES, protocol, maps=True, chunk=3, **NORMAL)
    np.testing.assert_allclose(maps, maps_of(model), atol=1e-6)
    assert len(rows) == 7 and "maps" not in rows


@pytest.mark.parametrize("chunk", [None, 2])
def test_all_with_all_on_the_grid_of_the_image(chunk, tmp_path):
    """Grids of 4x4, 6x6 and 12x12, one network without a map, and one that lies on the disk."""
    models = network(4, 0), network(6, 1), network(12, 2), network(4, 3, np.zeros((6, 5)))
    maps = [maps_of(model) for model in models]
    np.save(tmp_path / "maps.npy", maps[1])
    maps[1] = np.load(tmp_path / "maps.npy", mmap_mode="r")
    found = evaluate.pairwise(maps, (12, 12), chunk=chunk)
    two = jax.jit(agreement.agreement)
    for k, (i, j) in enumerate(zip(*np.triu_indices(4, 1), strict=True)):
        for n in range(7):
            for name, value in two(*(resize(maps[m][n], (12, 12)) for m in (i, j))).items():
                np.testing.assert_allclose(found[name][n, k], value, atol=1e-5)
    assert found["pearson"].shape == (7, 6)
    np.testing.assert_array_equal(found["pearson"][:, [2, 4, 5]], 0)


def test_what_is_no_population_of_maps():
    maps = [maps_of(network(4, seed)) for seed in (0, 1)]
    for wrong in ([], maps[:1], [maps[0], maps[1][:3]], [maps[0], maps[1][0]]):
        with pytest.raises(UserError, match="pairs are of two models or more, each with maps"):
            evaluate.pairwise(wrong, (12, 12))
    maps[1][2, 0, 0] = np.nan
    with pytest.raises(UserError, match="not finite"):
        evaluate.pairwise(maps, (12, 12))


def test_maps_that_cannot_be_drawn():
    with pytest.raises(UserError, match="label 5 is none of the model's 5 classes"):
        evaluate.draw_maps(network(4, 0), IMAGES, CLASSES + 1, Protocol(), **NORMAL)
    with pytest.raises(UserError, match="not finite"):
        maps_of(network(4, 0, np.full((6, 5), np.nan)))


def test_what_is_compared_with_many_is_drawn_once():
    """With random maps too, whose numbers are each model's own."""
    one, other = network(4, 0), network(6, 1)
    options = {"protocol": Protocol("random"), **NORMAL}
    shown = evaluate.show(other, IMAGES, stream=evaluate.OTHER, **options)
    found = evaluate.compare(one, shown, IMAGES, chunk=2, **options)
    pd.testing.assert_frame_equal(found, evaluate.compare(one, other, IMAGES, **options))
    assert abs(evaluate.compare(other, shown, IMAGES, **options).pearson.mean()) < 0.3
