"""What a network takes, against published and hand-made numbers."""

import gzip
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from kdxai import compress, models
from kdxai.compress import cost
from kdxai.compress.cost import seconds_per_image
from kdxai.compress.kernels import HEAD, kernels, with_kernels
from kdxai.models import trained


@pytest.mark.parametrize(
    ("name", "options", "millions"),
    [
        ("resnet20", {"shortcut": "conv"}, 40.81),  # as widely used tables have it
        ("resnet20", {}, 40.55),
        ("resnet56", {}, 125.49),
        ("wrn-28-10", {}, 5243.6),
    ],
)
def test_multiply_adds(make, name, options, millions):
    """Also seen: resnet18 555.4 and, of 224 x 224 images, resnet50-imagenet 4089.2 million."""
    model = models.create(name, num_classes=10, **options)
    shape = (32, 32, 3)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, *shape)))
    found = make("plain3-w4")._replace(model=model, variables=variables, image_shape=shape)
    leaves = flatten_dict(variables["params"])
    total = sum(times * leaves[path].size for path, times in cost.positions(found).items())
    assert total / 1e6 == pytest.approx(millions, rel=2e-4)


def test_by_hand(make, tmp_path):
    model = make("plain3-w4")  # 8x8: 3 -> 4 channels, then 4 -> 8 on 4x4, 8 -> 5 classes
    found = compress.worth(model)
    sizes = [9 * 3 * 4, 9 * 4 * 8, 8 * 5]
    assert found["nonzeros"] == sum(sizes)
    assert found["parameters"] == sum(sizes) + 2 * (4 + 8) + 5
    assert found["multiply_adds"] == 64 * sizes[0] + 16 * sizes[1] + sizes[2]
    assert found["multiply_adds_nonzero"] == found["multiply_adds"]
    assert (found["bits"], found["size_bits"]) == (32, 32 * sum(sizes))
    assert 0 < seconds_per_image(model) < 10
    trained.save(model, tmp_path)
    packed = gzip.compress((tmp_path / trained.WEIGHTS).read_bytes(), 6, mtime=0)
    assert found["bytes"] == len(packed)
    json.dumps(found)


def test_zeros_count(make):
    model = make("plain3-w4")
    (path, kernel), *_ = kernels(model.variables).items()
    kernel = kernel.copy()
    kernel[:, :, 0] = 0
    found = compress.worth(model._replace(variables=with_kernels(model.variables, {path: kernel})))
    before = compress.worth(model)
    assert found["nonzeros"] == before["nonzeros"] - 36
    assert found["multiply_adds"] == before["multiply_adds"]
    assert found["multiply_adds_nonzero"] == before["multiply_adds_nonzero"] - 64 * 36
    assert found["parameters"] == before["parameters"]
    share = (108 - 36) / 108
    where = 108 * -(share * np.log2(share) + (1 - share) * np.log2(1 - share))
    size = 32 * (found["nonzeros"]) + where
    assert found["size_bits"] == pytest.approx(size)


def test_the_bits_are_of_the_values(make):
    rng = np.random.default_rng(0)
    levels = rng.integers(-7, 8, (3, 3, 4, 6))
    levels[0, 0, 0], levels[1, 1, 1] = 7, 3  # the last level is taken
    weight = np.float32(levels * rng.uniform(0.01, 3, 6))
    assert cost.bits(weight) == 4
    weight[0, 1] = 0  # zeros are a level
    assert cost.bits(weight) == 4
    assert cost.bits(np.sign(weight)) == 2
    weight[1, 1, 1, 0] *= 1.1  # between two levels
    assert cost.bits(weight) > 4
    assert cost.bits(np.float32(rng.normal(size=(3, 3, 4, 6)))) == 32


def test_head_and_convolutions_are_all(small):
    assert {*kernels(small.variables), HEAD} == {
        tuple(part.key for part in path)
        for path, leaf in jax.tree_util.tree_leaves_with_path(small.variables["params"])
        if leaf.ndim > 1
    }
