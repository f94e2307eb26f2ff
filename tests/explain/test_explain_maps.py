"""Scale and size of maps (`resize` has its reference in test_explain_references.py)."""

import jax
import numpy as np
import pytest

from kdxai.explain import min_max, resize


def test_min_max_by_hand():
    values = np.array([[-2.0, 0.0], [1.0, 2.0]], np.float32)
    np.testing.assert_array_equal(min_max(values), [[0, 0.5], [0.75, 1]])


@pytest.mark.parametrize("value", [0.0, 3.7, -1e30])
def test_a_constant_map_becomes_zeros(value):
    np.testing.assert_array_equal(min_max(np.full((3, 4), value, np.float32)), 0)


@pytest.mark.parametrize("size", [1e30, 1e38, 3e38])
def test_min_max_of_huge_values(size):
    """max - min is beyond float32, and 1 / 3e38 as good as 0; by jit, which may multiply by it."""
    values = np.linspace(-1, 1, 12).reshape(3, 4).astype(np.float32)
    got = jax.jit(min_max)(values * np.float32(size))
    np.testing.assert_allclose(got, (values + 1) / 2, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.int32, np.float16])
def test_other_dtypes_are_the_numbers_they_are(dtype):
    values = np.array([[0, 1, 100], [-100, 7, 127]]).astype(dtype)
    wide = values.astype(np.float32)
    np.testing.assert_allclose(min_max(values), (wide - wide.min()) / np.ptp(wide), rtol=1e-6)
    got = resize(values, (4, 5))
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, resize(wide, (4, 5)))


def test_nan_is_not_hidden():
    assert np.isnan(min_max(np.array([0.0, np.nan, 1.0], np.float32))).all()


def test_resize_clamps_at_the_edges():
    """Half-pixel centres: doubling [0, 1] samples at -1/4, 1/4, 3/4 and 5/4."""
    np.testing.assert_allclose(
        resize(np.array([[0.0, 1.0]], np.float32), (1, 4)), [[0, 0.25, 0.75, 1]], atol=1e-6
    )


def test_resize_to_the_same_size_changes_nothing(data):
    np.testing.assert_allclose(resize(data["small"], (5, 7)), data["small"], atol=1e-6)
