"""Convolutions in two, by truncated SVD."""

import numpy as np
import pytest

from kdxai import compress
from kdxai.compress import cost
from kdxai.compress.kernels import kernels
from kdxai.errors import UserError
from kdxai.fingerprints import fingerprint
from kdxai.models import trained


@pytest.mark.parametrize("name", ["resnet8-w4", "resnext11-2x2-w4", "wrn-10-1-w4"])
def test_full_rank_leaves_the_logits(make, logits, name):
    model = make(name, **({"biases": True} if name.startswith("wrn") else {}))
    found = compress.factorise(model, rank=1.0)
    np.testing.assert_allclose(logits(found), logits(model), atol=2e-5)


def test_a_lower_rank_is_the_best_approximation(small):
    """Eckart & Young: the squared error is the sum of the squared singular values left out."""
    found = kernels(compress.factorise(small, rank=0.5).variables)
    for path, kernel in kernels(small.variables).items():
        first, second = (found[*path[:-1], half, "kernel"] for half in ("first", "second"))
        assert first.shape[:3] == kernel.shape[:3]
        product = np.tensordot(first, second[0, 0], 1)
        values = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)
        rank = first.shape[-1]
        assert rank == round(len(values) / 2) and second.shape == (1, 1, rank, kernel.shape[-1])
        error = ((product - kernel) ** 2).sum()
        assert error == pytest.approx((values[rank:] ** 2).sum(), rel=1e-3, abs=1e-6)


def test_groups_stay_whole(make):
    model = make("resnext11-2x2-w4")
    found = kernels(compress.factorise(model, rank=0.5).variables)
    grouped = [path for path, kernel in kernels(model.variables).items() if "Conv_1" in path]
    assert grouped and all(path in found for path in grouped)


def test_it_is_used_as_any_model(small, cut, tmp_path):
    found = compress.factorise(small, rank=0.5)
    assert compress.worth(found)["multiply_adds"] < compress.worth(small)["multiply_adds"]
    trained.save(found, tmp_path)
    loaded = trained.load(tmp_path)
    assert loaded.model == found.model and hash(loaded.model) == hash(found.model)
    assert loaded.architecture == {"name": "resnet8-w4", "rank": 0.5}
    assert fingerprint(loaded.variables) == fingerprint(found.variables)
    whole, again = cut(loaded)
    np.testing.assert_allclose(again, whole, atol=1e-5)


def test_with_other_kinds(small):
    found = compress.quantise(compress.factorise(small, rank=0.5), bits=4)
    assert all(cost.bits(kernel) <= 4 for kernel in kernels(found.variables).values())
    pruned = compress.prune(compress.factorise(small, rank=0.5), sparsity=0.3)
    share = np.mean(np.concatenate([k.ravel() == 0 for k in kernels(pruned.variables).values()]))
    assert share == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize("rank", [0, 1.5, -1, "0.5", float("nan"), True])
def test_bad_ranks(small, rank):
    with pytest.raises(UserError, match="rank must be above 0 and at most 1, not"):
        compress.factorise(small, rank=rank)


def test_what_is_refused(small, pictures):
    with pytest.raises(UserError, match="the network is factorised; factorise the one"):
        compress.factorise(compress.factorise(small, rank=0.5), rank=0.5)
    with pytest.raises(UserError, match="the network has rounded inputs"):
        compress.factorise(compress.quantise(small, bits=8, images=pictures), rank=0.5)
