"""Whole channels removed."""

import jax
import numpy as np
import pytest

from kdxai import compress, models
from kdxai.compress import cost
from kdxai.compress.kernels import kernels
from kdxai.errors import UserError
from kdxai.fingerprints import fingerprint
from kdxai.models import trained

NAMES = ["resnet10-w2", "resnet8-w4", "wrn-10-1-w4"]
NORMS = {"wrn-10-1-w4": "BatchNorm_1"}


def silenced(model, norm):
    """Every second channel inside of each block puts out zero, and its weights are the smallest."""
    params = jax.tree.map(np.array, model.variables["params"])
    for name, block in params.items():
        if "block" in name:
            block[norm]["scale"][::2] = 0
            block[norm]["bias"][::2] = 0
            block["Conv_0"]["kernel"][..., ::2] *= 1e-3
    return model._replace(variables={**model.variables, "params": params})


@pytest.mark.parametrize("name", NAMES)
def test_removing_channels_of_zeros_leaves_the_logits(make, logits, name):
    model = silenced(make(name), NORMS.get(name, "BatchNorm_0"))
    expected = logits(model)
    for by in ("l1", "scale"):
        found = compress.structured(model, share=0.5, by=by)
        np.testing.assert_allclose(logits(found), expected, atol=1e-5)
    kernel = found.variables["params"]["units_stage1.block0"]["Conv_0"]["kernel"]
    whole = model.variables["params"]["units_stage1.block0"]["Conv_0"]["kernel"]
    np.testing.assert_array_equal(kernel, whole[..., 1::2])


def test_it_is_smaller_and_made_by_its_architecture(make, logits, tmp_path):
    model = make("resnet8-w4")
    found = compress.structured(model, share=0.75)
    assert found.architecture["widths"] == [4, 1, 4, 2, 8, 4, 16]
    before, after = compress.worth(model), compress.worth(found)
    assert after["multiply_adds"] < before["multiply_adds"] / 2
    assert after["bytes"] < before["bytes"]
    trained.save(found, tmp_path)
    loaded = trained.load(tmp_path)
    assert loaded.model == found.model and fingerprint(loaded.variables) == fingerprint(
        found.variables
    )
    np.testing.assert_array_equal(logits(loaded), logits(found))
    twice = compress.structured(loaded, share=0.5)
    assert twice.architecture["widths"] == [4, 1, 4, 1, 8, 2, 16]


def test_the_smallest_go(make):
    model = make("resnet8-w4")
    params = model.variables["params"]["units_stage3.block0"]
    norm = np.abs(np.asarray(params["Conv_0"]["kernel"])).sum((0, 1, 2))
    scale = np.abs(np.asarray(params["BatchNorm_0"]["scale"]))
    for by, scores in (("l1", norm), ("scale", scale)):
        found = compress.structured(model, share=0.25, by=by).variables["params"]
        kept = np.sort(np.argsort(scores)[4:])
        block = found["units_stage3.block0"]
        np.testing.assert_array_equal(
            block["Conv_0"]["kernel"], params["Conv_0"]["kernel"][..., kept]
        )
        np.testing.assert_array_equal(
            block["Conv_1"]["kernel"], params["Conv_1"]["kernel"][:, :, kept]
        )


def test_a_quantised_network_may_lose_channels(small):
    found = compress.structured(compress.quantise(small, bits=4), share=0.5)
    jax.eval_shape(found.model.apply, found.variables, np.zeros((1, 8, 8, 3), np.float32))
    assert all(cost.bits(kernel) <= 4 for kernel in kernels(found.variables).values())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("plain3-w4", "only channels between the two convolutions .* 'plain3-w4' has no such"),
        ("resnext11-2x2-w4", "as its residual stream needs all others"),
        ("resnet50-imagenet-w2", "'resnet50-imagenet-w2' has no such blocks"),
    ],
)
def test_networks_without_such_blocks(make, name, message):
    model = models.create(name, num_classes=5)
    found = make("plain3-w4")._replace(model=model, architecture={"name": name})
    with pytest.raises(UserError, match=message):
        compress.structured(found, share=0.5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"share": 1.0}, "share must be at least 0 and below 1"),
        (
            {"share": 0.9},
            "a share of 0.9 is all 4 channels inside of stage1.block0; choose a small",
        ),
        ({"share": 0.5, "by": "l2"}, "by must be l1 or scale, not 'l2'"),
    ],
)
def test_bad_settings(small, settings, message):
    with pytest.raises(UserError, match=message):
        compress.structured(small, **settings)


def test_a_factorised_network_is_refused(small):
    with pytest.raises(UserError, match="this 'resnet8-w4' is factorised; remove channels first"):
        compress.structured(compress.factorise(small, rank=0.5), share=0.5)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet10-w4", {"inner": (4, 4)}, "has 4 inner widths of at least 1, not"),
        ("wrn-10-1", {"inner": (4, 4, 0)}, "has 3 inner widths of at least 1"),
        ("resnet50-imagenet", {"inner": (4,) * 16}, "'resnet50-imagenet' has no inner"),
        ("plain3", {"inner": (4,)}, "'plain3' has no inner; leave it out"),
    ],
)
def test_bad_widths(name, options, message):
    with pytest.raises(UserError, match=message):
        models.create(name, num_classes=3, **options)
