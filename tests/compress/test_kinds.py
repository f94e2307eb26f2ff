"""Every kind by its name, and what a user may get wrong."""

import numpy as np
import pytest

from kdxai import compress
from kdxai.compress import KINDS
from kdxai.errors import UserError
from kdxai.fingerprints import fingerprint


def no_images(size):
    raise AssertionError("it asked for images")


def test_by_name(small):
    found = compress.apply("prune", small, {"sparsity": 0.5}, no_images)
    expected = compress.prune(small, sparsity=0.5)
    assert fingerprint(found.variables) == fingerprint(expected.variables)
    assert found.facts == expected.facts


def test_images_are_asked_for_where_they_are_needed(make, pictures):
    small = make("plain3-w4")
    settings = {"bits": 6, "activations": True, "calibration": 20}
    found = compress.apply("quantise", small, settings, lambda size: pictures[:size])
    assert found.facts["origin"]["settings"] == settings
    compress.apply("quantise", small, {"bits": 6}, no_images)


def test_the_usual_settings():
    usual = {"sparsity": 0.5, "by": "magnitude", "scope": "global", "seed": 0}
    assert compress.all_settings("prune", {"sparsity": 0.5}) == usual
    assert compress.all_settings("none", {}) == {}


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_settings_are_written_out(kind):
    with pytest.raises(UserError, match=f"'{kind}' has no setting 'colour'; known: "):
        compress.all_settings(kind, {"colour": 1})


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("shrink", {}, "there is no compression 'shrink'; known: none, quantise, prune"),
        ("prune", {}, "'prune' needs sparsity; give it"),
        ("prune", {"sparsity": 1}, "sparsity must be at least 0 and below 1, not 1"),
        ("quantise", {"bits": 9}, "bits must be a whole number from 2 to 8, not 9"),
        ("quantise", {"activations": "int8"}, "activations must be False or True, not 'int8'"),
        ("quantise", {"calibration": 0}, "calibration must be a whole number at least 1"),
    ],
)
def test_bad_settings(kind, settings, message):
    with pytest.raises(UserError, match=message):
        compress.all_settings(kind, settings)


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("prune", {"sparsity": 0.5}),
        ("quantise", {"activations": True, "calibration": 20}),
        ("factorise", {"rank": 0.5}),
    ],
)
def test_filters_that_are_statistics_stay(make, pictures, logits, kind, settings):
    """Those of an airbench network, also while the statistics of its BatchNorm are taken anew."""
    model = make("airbench-4-5-6")
    found = compress.apply(kind, model, settings, lambda size: pictures[:size])
    again = compress.batch_norm(found, pictures[:20])
    for one in (found, again):
        kernel, expected = (
            each.variables["batch_stats"]["units_whitening"]["kernel"] for each in (one, model)
        )
        np.testing.assert_array_equal(kernel, expected)
    norm = again.variables["batch_stats"]["units_stage1.block0"]["BatchNorm_0"]
    assert np.min(norm["var"]) > 0
    assert np.isfinite(logits(again)).all()


def test_channels_of_an_airbench_network_are_not_its_own(make):
    with pytest.raises(UserError, match=r"'airbench-4-5-6' has no such blocks; prune it"):
        compress.apply("structured", make("airbench-4-5-6"), {"share": 0.5}, no_images)
