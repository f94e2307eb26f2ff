"""Networks of dense layers, without BatchNorm, are compressed as others are."""

import jax
import numpy as np
import pytest

from kdxai import compress, models
from kdxai.compress.cost import positions
from kdxai.compress.kernels import kernels
from kdxai.errors import UserError
from kdxai.fingerprints import fingerprint
from kdxai.models import trained

DENSE = ("units_block0", "qkv", "kernel")


@pytest.fixture(scope="module")
def vit(make):
    return make("vit-1-8-2", pool="token")


def test_full_rank_leaves_the_logits(vit, logits):
    found = compress.factorise(vit, rank=1.0)
    np.testing.assert_allclose(logits(found), logits(vit), atol=2e-5)
    first, second = (
        kernels(found.variables)[*DENSE[:-1], half, "kernel"] for half in ("first", "second")
    )
    np.testing.assert_allclose(first @ second, kernels(vit.variables)[DENSE], atol=1e-5)


def test_weights_are_rounded_and_are_those_that_it_computes_with(vit, logits, tmp_path):
    found = compress.quantise(vit, bits=4)
    for path, kernel in kernels(vit.variables).items():
        step = np.abs(kernel).max(tuple(range(kernel.ndim - 1))) / 7
        expected = np.round(kernel / step) * step
        np.testing.assert_allclose(kernels(found.variables)[path], expected, atol=1e-6)
    assert [*found.variables] == ["params"]
    plain = logits(vit._replace(variables=found.variables))
    np.testing.assert_allclose(logits(found), plain, atol=1e-4)
    trained.save(found, tmp_path)
    assert fingerprint(trained.load(tmp_path).variables) == fingerprint(found.variables)


def test_inputs_are_rounded_to_where_their_ranges_end(vit, logits, pictures):
    found = compress.quantise(vit, bits=8, images=pictures)
    ranges = jax.tree.leaves(found.variables["batch_stats"])
    assert len(ranges) == 5 and min(ranges) > 0  # the patches, and four layers of the block
    close, exact = logits(found), logits(vit)
    assert 0 < np.abs(close - exact).max() < 0.1 * np.abs(exact).max()


def test_multiplications_by_hand(vit):
    """4 patches and the class token: the layers of the block read 5 tokens, the head one."""
    found = positions(vit)
    assert found.pop(("units_stem", "Conv_0", "kernel")) == 4
    assert found.pop(("head", "kernel")) == 1
    assert len(found) == 4 and set(found.values()) == {5}


def test_what_they_have_not(vit, pictures):
    with pytest.raises(UserError, match="no BatchNorm whose statistics"):
        compress.batch_norm(vit, pictures)
    with pytest.raises(UserError, match="'vit-1-8-2' has no such blocks"):
        compress.structured(vit, share=0.5)


@pytest.mark.parametrize("options", [{"weight_bits": 4, "activation_bits": 8}, {"rank": 0.5}])
@pytest.mark.parametrize("name", ["convnext-1-1-1-1-w4", "mobilenetv2-w4"])
def test_other_families_can_be_made_so(name, options):
    model = models.create(name, num_classes=3, **options)
    images = jax.ShapeDtypeStruct((1, 16, 16, 3), np.float32)
    found = kernels(jax.eval_shape(model.init, jax.random.key(0), images))
    halves = [path for path in found if path[-2] in ("first", "second")]
    assert bool(halves) == ("rank" in options)
