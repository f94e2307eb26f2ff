"""Single weights set to zero, against PyTorch's own pruning."""

import jax
import numpy as np
import pytest

from kdxai import compress
from kdxai.compress.kernels import kernels
from kdxai.errors import UserError
from kdxai.fingerprints import fingerprint
from kdxai.models import trained


def zeros(model):
    return {path: kernel == 0 for path, kernel in kernels(model.variables).items()}


def share(model):
    return np.concatenate([mask.ravel() for mask in zeros(model).values()]).mean()


@pytest.mark.parametrize("scope", ["global", "layer"])
def test_magnitude_is_that_of_torch(small, scope):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no independent pruning")
    from torch.nn.utils import prune

    layers = {}
    for path, kernel in kernels(small.variables).items():
        layer = torch.nn.Conv2d(kernel.shape[2], kernel.shape[3], kernel.shape[:2], bias=False)
        layer.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
        layers[path] = layer
    if scope == "global":
        pairs = [(layer, "weight") for layer in layers.values()]
        prune.global_unstructured(pairs, pruning_method=prune.L1Unstructured, amount=0.63)
    else:
        for layer in layers.values():
            prune.l1_unstructured(layer, "weight", amount=0.63)
    found = compress.prune(small, sparsity=0.63, scope=scope)
    for path, kernel in kernels(found.variables).items():
        expected = layers[path].weight.detach().numpy().transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(kernel, expected)


def test_the_smallest_go_and_nothing_else_changes(small):
    found = compress.prune(small, sparsity=0.5)
    before, after = kernels(small.variables), kernels(found.variables)
    gone = np.concatenate([np.abs(before[path][after[path] == 0]) for path in before])
    kept = np.concatenate([np.abs(before[path][after[path] != 0]) for path in before])
    assert len(gone) == round(0.5 * (len(gone) + len(kept)))
    assert gone.max() <= kept.min()
    for path in before:
        np.testing.assert_array_equal(after[path][after[path] != 0], before[path][after[path] != 0])
    for collection in ("params", "batch_stats"):
        pairs = zip(
            jax.tree_util.tree_leaves_with_path(small.variables[collection]),
            jax.tree.leaves(found.variables[collection]),
            strict=True,
        )
        for (path, one), other in pairs:
            if not any("Conv" in part.key for part in path):
                np.testing.assert_array_equal(one, other)


def test_per_layer_every_layer_has_its_share(small):
    for mask in zeros(compress.prune(small, sparsity=0.25, scope="layer")).values():
        assert mask.sum() == round(0.25 * mask.size)


def test_random_zeros_are_nested_and_another_seed_has_others(small):
    at = [compress.prune(small, sparsity=s, by="random", seed=3) for s in (0.2, 0.6)]
    again = compress.prune(small, sparsity=0.2, by="random", seed=3)
    assert fingerprint(at[0].variables) == fingerprint(again.variables)
    few, many = map(zeros, at)
    assert all((many[path] | ~few[path]).all() for path in few)
    assert share(at[0]) == pytest.approx(0.2, abs=1e-3)
    other = zeros(compress.prune(small, sparsity=0.2, by="random", seed=4))
    assert any((few[path] != other[path]).any() for path in few)


@pytest.mark.parametrize("by", ["magnitude", "random"])
def test_pruned_again_keeps_the_zeros(small, by):
    once = compress.prune(small, sparsity=0.5, by=by)
    twice = compress.prune(once, sparsity=0.75, by=by, seed=9)
    first, second = zeros(once), zeros(twice)
    assert all((second[path] | ~first[path]).all() for path in first)
    assert share(twice) == pytest.approx(0.75, abs=1e-3)
    assert compress.root(small)["root_sha256"] == fingerprint(small.variables)
    assert compress.root(once) == compress.root(twice) == compress.root(small)
    sizes = [compress.worth(model)["size_bits"] for model in (small, twice)]
    assert twice.facts["factor"] == pytest.approx(sizes[0] / sizes[1])
    assert twice.facts["origin"]["parent_sha256"] == fingerprint(once.variables)


def test_no_sparsity_changes_nothing(small):
    found = compress.prune(small, sparsity=0)
    assert fingerprint(found.variables) == fingerprint(small.variables)


def test_facts_are_those_that_still_hold(small, tmp_path):
    found = compress.prune(small, sparsity=0.5, by="random", seed=2)
    assert found.facts["model"] == "resnet8-w4"
    assert "test_accuracy" not in found.facts
    origin = found.facts["origin"]
    assert (origin["kind"], origin["how"]) == ("compress", "prune")
    settings = {"sparsity": 0.5, "by": "random", "scope": "global", "seed": 2}
    assert origin["settings"] == settings
    trained.save(found, tmp_path)
    loaded = trained.load(tmp_path)
    assert loaded.facts == found.facts
    assert fingerprint(loaded.variables) == fingerprint(found.variables)


def test_the_control_is_the_network_itself(small):
    found = compress.none(small)
    assert fingerprint(found.variables) == fingerprint(small.variables)
    assert found.model == small.model
    assert found.facts["origin"]["how"] == "none"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"sparsity": 1.0}, "sparsity must be at least 0 and below 1, not 1.0"),
        ({"sparsity": -0.1}, "sparsity must be"),
        ({"sparsity": float("nan")}, "sparsity must be"),
        ({"sparsity": "0.5"}, "sparsity must be .* not '0.5'"),
        ({"sparsity": 0.5, "by": "size"}, "by must be magnitude or random, not 'size'"),
        ({"sparsity": 0.5, "scope": "all"}, "scope must be global or layer"),
        ({"sparsity": 0.5, "seed": 0.5}, "seed must be a whole number at least 0"),
        ({"sparsity": 0.9999}, "at a sparsity of 0.9999 nothing is left of units_"),
        ({"sparsity": 0.9999, "scope": "layer"}, "nothing is left of units_"),
    ],
)
def test_bad_settings(small, settings, message):
    with pytest.raises(UserError, match=message):
        compress.prune(small, **settings)
