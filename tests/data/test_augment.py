import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.data.augment import augment, denormalise, normalise

IMAGE = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)


def every_view(image, pad):
    """All crops of the reflected image and their mirror images, by numpy."""
    padded = np.pad(image, ((pad, pad), (pad, pad), (0, 0)), mode="reflect")
    h, w, _ = image.shape
    crops = [padded[i : i + h, j : j + w] for i in range(2 * pad + 1) for j in range(2 * pad + 1)]
    return [view for crop in crops for view in (crop, crop[:, ::-1])]


def test_views_are_crops_and_mirror_images_and_all_occur():
    expected = {view.tobytes() for view in every_view(IMAGE, 1)}
    keys = jax.random.split(jax.random.key(0), 400)
    views = np.asarray(jax.vmap(lambda key: augment(key, IMAGE, pad=1))(keys))
    assert {view.tobytes() for view in views} == expected
    assert len(expected) == 18


def test_nothing_asked_is_nothing_done():
    view = augment(jax.random.key(0), jnp.asarray(IMAGE), pad=0, flip=False)
    np.testing.assert_array_equal(view, IMAGE)


def test_the_same_key_gives_the_same_view_alone_and_in_a_batch():
    keys = jax.random.split(jax.random.key(1), 5)
    batch = jax.vmap(lambda key: augment(key, IMAGE, pad=2, cutout=3))(keys)
    chex.assert_trees_all_equal(batch[3], augment(keys[3], jnp.asarray(IMAGE), pad=2, cutout=3))


def test_cutout_is_one_square_cut_off_at_the_border():
    ones = jnp.ones((9, 9, 1))
    keys = jax.random.split(jax.random.key(2), 300)
    views = np.asarray(jax.vmap(lambda key: augment(key, ones, pad=0, flip=False, cutout=4))(keys))[
        ..., 0
    ]
    sizes = set()
    for view in views:
        rows, columns = np.nonzero(view == 0)
        height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
        assert len(rows) == height * width  # a filled rectangle
        sizes.add((height, width))
    assert max(sizes) == (4, 4)
    assert min(sizes) == (2, 2)  # centred on the corner


def test_normalise_and_back():
    mean, std = np.float32([0.5, 0.4, 0.3]), np.float32([0.2, 0.25, 0.3])
    expected = (IMAGE / 255 - np.float64(mean)) / std
    normalised = normalise(IMAGE, mean, std)
    np.testing.assert_allclose(normalised, expected, atol=1e-5)
    np.testing.assert_allclose(denormalise(normalised, mean, std), IMAGE / 255, atol=1e-6)
    assert normalised.dtype == jnp.float32


@pytest.mark.parametrize("value", [-100.0, 100.0])
def test_denormalised_images_can_be_shown(value):
    shown = denormalise(jnp.full((2, 2, 3), value), 0.5, 0.2)
    assert float(shown.min()) >= 0
    assert float(shown.max()) <= 1
