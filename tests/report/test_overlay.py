"""A map over its picture, against hand values and matplotlib's own compositing."""

import io

import matplotlib
import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

import kdxai
from kdxai.errors import UserError
from kdxai.report.overlay import drawn_as, overlay, picture

INFERNO = {0: (0, 0, 4), 1: (252, 255, 164)}  # its ends, as published


@pytest.mark.parametrize("value", sorted(INFERNO))
def test_by_hand(value):
    image = np.full((3, 5, 3), (30, 60, 90), np.uint8)  # grey 60
    shown = overlay(image, np.full((1, 2), value), alpha=0.25)
    assert shown.dtype == np.uint8 and shown.shape == (3, 5, 3)
    expected = 0.75 * 60 + 0.25 * np.array(INFERNO[value])
    np.testing.assert_allclose(shown, np.broadcast_to(expected, shown.shape), atol=0.51)


def test_its_ends_are_the_picture_and_the_map():
    rng = np.random.default_rng(0)
    image, heatmap = rng.integers(0, 256, (6, 7, 3), np.uint8), rng.random((6, 7))
    grey = np.round(image.mean(-1))
    np.testing.assert_array_equal(overlay(image, heatmap, 0), np.stack([grey] * 3, -1))
    colours = matplotlib.colormaps["inferno"](heatmap.astype(np.float32), bytes=True)[..., :3]
    assert np.abs(overlay(image, heatmap, 1) - colours.astype(int)).max() <= 1


def test_as_matplotlib_draws_it():
    """A figure of one image pixel to a pixel, the map drawn over the grey picture."""
    rng = np.random.default_rng(1)
    image, heatmap = rng.integers(0, 256, (20, 30, 3), np.uint8), rng.random((20, 30))
    figure = Figure(figsize=(30 / 100, 20 / 100), dpi=100)
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set_axis_off()
    ax.imshow(image.mean(-1), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    ax.imshow(heatmap, cmap="inferno", vmin=0, vmax=1, alpha=0.6, interpolation="nearest")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    buffer.seek(0)
    drawn = np.round(255 * matplotlib.image.imread(buffer)[..., :3])
    assert drawn.shape == image.shape
    assert np.abs(drawn - overlay(image, heatmap)).max() <= 3


def test_a_small_map_is_resized_as_torch_does():
    """2 to 4 cells with half-pixel centres: 0, 1/4, 3/4, 1."""
    shown = overlay(np.zeros((1, 4, 1), np.uint8), [[0, 1]], 1)
    steps = matplotlib.colormaps["inferno"]([0.0, 0.25, 0.75, 1.0], bytes=True)[:, :3]
    assert np.abs(shown[0] - steps.astype(int)).max() <= 1


@pytest.mark.parametrize("shape", [(6, 7), (6, 7, 1), (6, 7, 3), (6, 7, 4)], ids=str)
def test_grey_rgb_and_rgba_as_bytes_and_floats(shape):
    image = np.random.default_rng(2).integers(0, 256, shape, np.uint8)
    heatmap = np.random.default_rng(3).random((3, 3))
    shown = overlay(image, heatmap)
    assert shown.shape == (6, 7, 3)
    floats = overlay((image / 255).astype(np.float32), heatmap)
    assert np.abs(shown.astype(int) - floats).max() <= 1
    if shape[2:] == (4,):
        alpha = image[..., 3:] / 255
        over = np.round(alpha * image[..., :3] + 255 * (1 - alpha)).astype(np.uint8)
        np.testing.assert_array_equal(shown, overlay(over, heatmap))


IMAGE, MAP = np.zeros((4, 4, 3), np.uint8), np.eye(4)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((IMAGE[None], MAP), r"an image is \[H, W, C\], but got \[1, 4, 4, 3\]"),
        ((IMAGE, MAP[None]), r"a map is \[h, w\], but got \[1, 4, 4\]"),
        ((IMAGE, 5 * MAP), r"a map is in \[0, 1\]; .*min_max scales one \(got 0 to 5\)"),
        ((IMAGE, MAP - 1), r"got -1 to 0"),
        ((IMAGE, np.nan * MAP), r"a map is in \[0, 1\]"),
        ((255 * np.ones((4, 4, 3)), MAP), r"an image is uint8, or floats in \[0, 1\].*255 to 255"),
        ((IMAGE, MAP, 2), "alpha is 0 to 1, not 2"),
        ((IMAGE[:0], MAP), r"\[0, 4, 3\]"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_refused(arguments, says):
    with pytest.raises(UserError, match=says):
        overlay(*arguments)


def test_a_map_that_rounding_put_beyond_one():
    heatmap = np.float32([[0, 1 + 1e-6]])
    np.testing.assert_array_equal(overlay(IMAGE, heatmap), overlay(IMAGE, heatmap.clip(0, 1)))


def test_it_is_at_the_front_door():
    assert kdxai.overlay is overlay


@pytest.mark.parametrize(
    ("pixel", "shown", "says"),
    [
        ((7,), 7, ""),
        ((10, 20), (10, 20, 20), "the first red, the second green and blue"),
        ((1, 2, 3), (1, 2, 3), ""),
        ((100, 0, 200, 51), (224, 204, 244), "RGBA, and shown over white"),  # a fifth of it
        ((1, 2, 3, 4, 5), (1, 2, 3), "Of 5 channels the first three"),
    ],
    ids=["grey", "two", "rgb", "rgba", "five"],
)
def test_pictures_of_any_channels(pixel, shown, says):
    image = np.full((2, 6, 7, len(pixel)), pixel, np.uint8)
    found = picture(image)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, np.full((2, 6, 7, *np.shape(shown)), shown))
    np.testing.assert_allclose(picture(image[0] / np.float32(255)), found[0] / 255, atol=1 / 255)
    assert says in drawn_as(len(pixel)) and bool(says) == bool(drawn_as(len(pixel)))
