"""Images with their maps, read off what is drawn."""

import matplotlib.image
import numpy as np
import pytest

from kdxai.report.charts import look, maps
from kdxai.report.charts.maps import Panel, Shown

MAPS = [maps.gallery, lambda name, *told: maps.side_by_side(name, name, *told)]


def panel(image, name="ring", *, correct=True):
    return Panel(np.eye(12), image / np.float32(255), name, 0.9, 0.1, correct)


def texts(chart):
    [ax] = chart.figure.axes
    return {text.get_text(): text.get_color() for text in ax.texts}


@pytest.mark.parametrize("draw", MAPS, ids=["gallery", "side_by_side"])
def test_wrong_answers_are_red(draw):
    image = np.zeros((2, 12, 12, 3), np.uint8)
    panels = [panel(image[0]), panel(image[0], "star", correct=False)]
    found = texts(draw("cam", Shown(image, ["ring", "ring"]), {"one": panels}))
    assert found["ring 90%"] == look.INK
    assert found["star 90%"] == look.BAD


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
@pytest.mark.parametrize("draw", MAPS, ids=["gallery", "side_by_side"])
def test_any_channels_and_any_class_names(tmp_path, channels, draw):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 12, 12, channels), dtype=np.uint8)
    names = ["a$b_{c$d^", "日本\n" * 100]
    panels = [panel(image[0], name, correct=False) for name in names]
    chart = draw("cam", Shown(image, names), {"one": panels, "two": panels})
    file = chart.save(tmp_path)
    assert np.ptp(matplotlib.image.imread(tmp_path / file)) > 0.5
    assert {"a$b_{c$d^", "a$b_{c$d^ 90%", "日本 日本 日本 日本 日本 …"} <= set(texts(chart))
    assert not any(text.get_parse_math() for text in chart.figure.axes[0].texts)


def test_what_a_row_is_of_stands_beside_it_and_not_above_its_image():
    image = np.zeros((2, 12, 12, 3), np.uint8)
    shown = Shown(image, ["ring", "ring"], rows=["CAM", "Guided backpropagation"])
    chart = maps.side_by_side("", "", shown, {"one": [panel(image[0])] * 2})
    chart.figure.draw_without_rendering()
    [ax] = chart.figure.axes
    for place, name in enumerate(shown.rows):
        [label] = [text for text in ax.texts if text.get_text() == name]
        box, picture = label.get_window_extent(), ax.images[place].get_window_extent()
        assert 0 <= box.x0 < box.x1 < picture.x0
        assert abs((box.y0 + box.y1) - (picture.y0 + picture.y1)) < 4


def test_grey_values_are_not_stretched():
    """A dark image stays dark, beside itself under its map."""
    image = np.full((1, 12, 12, 1), 64, np.uint8)
    [ax] = maps.gallery("cam", Shown(image, ["a"]), {"one": [panel(image[0])]}).figure.axes
    alone, under, masked = ax.images
    assert [one.norm.vmax for one in (alone, masked)] == [255, 1]
    assert [one.norm.vmin for one in (alone, masked)] == [0, 0]
    # Off the map's diagonal: 40 % of the image, 60 % of the darkest colour.
    np.testing.assert_array_equal(under.get_array()[0, 1], [26, 26, 28])


def test_the_outline_of_a_mask_is_drawn_where_it_is():
    image, mask = np.zeros((2, 12, 12, 3), np.uint8), np.zeros((2, 12, 12), bool)
    mask[0, 3:9, 3:6] = True  # and nothing on the second
    shown = Shown(image, ["a", "b"], mask)
    [ax] = maps.side_by_side("", "", shown, {"one": [panel(image[0])] * 2}).figure.axes
    lines = [one for one in ax.collections if len(one.get_paths()[0].vertices)]
    assert len(lines) == 2 * 2  # on the image and on its map, light upon dark
    x, y = lines[0].get_paths()[0].vertices.T
    left, top = ax.images[0].get_extent()[0], ax.images[0].get_extent()[3]
    cell = maps.SIDE / 12
    assert ((x.min() - left) / cell, (x.max() - left) / cell) == pytest.approx((3, 6), abs=0.01)
    assert ((y.min() - top) / cell, (y.max() - top) / cell) == pytest.approx((3, 9), abs=0.01)
