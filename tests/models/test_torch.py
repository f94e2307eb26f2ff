"""The same weights in an independent PyTorch implementation give the same logits, and its files."""

import argparse
import os
import pickle

import chex
import jax
import numpy as np
import pytest
from random_weights import random_images, random_weights
from scripts import ROOT

from kdxai import models
from kdxai.errors import UserError
from kdxai.models import weights

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no independent logits")
from references import torch_networks as networks  # noqa: E402

ORIGINAL = ROOT.parent / "shared/zoo/original/resnet20-12fca82f.th"
WIDE = {
    "wrn-16-2": lambda: networks.WideResNet(16, 2, 10),
    "resnet18": lambda: networks.kuangliu([2, 2, 2, 2], 64),
    "resnet20": lambda: networks.cifar(20, 16),
    "resnet32": lambda: networks.cifar(32, 16, "shortcut"),
    "resnet34-imagenet": lambda: networks.torchvision(networks.basic([3, 4, 6, 3], 64), 64),
    "resnet50-imagenet-w8": lambda: networks.torchvision(
        networks.bottlenecks([3, 4, 6, 3], 8, 32), 8
    ),
    "resnext29-4x8": lambda: networks.resnext(29, 4, 8),
    "resnext11-32x4": lambda: networks.resnext(11, 32, 4, window=1, outputs=256),
}


def assert_same_logits(name, network, size=32):
    state = random_weights(networks.shapes(network), seed=1)
    expected = networks.logits(network, state, random_images(size))
    converted = weights.convert(network.state_dict(), name)
    model = models.create(**converted.architecture, num_classes=converted.num_classes)
    logits = jax.jit(model.apply)(converted.variables, random_images(size))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", sorted(WIDE))
def test_logits_agree_with_pytorch(name):
    assert_same_logits(name, WIDE[name]())


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_logits_agree_with_torchvision(name):
    library = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    assert_same_logits(f"{name}-imagenet", getattr(library, name)(num_classes=7), size=65)


@pytest.mark.parametrize("name", sorted(networks.SMALL))
def test_stored_logits_are_up_to_date(name):
    state = random_weights(networks.shapes(network := networks.SMALL[name]()), seed=0)
    outputs = networks.logits(network, state, random_images())
    np.testing.assert_allclose(outputs, networks.stored()[name]["logits"], rtol=0, atol=1e-5)


@pytest.fixture(scope="module")
def state():
    return networks.cifar(8, 4).state_dict()


@pytest.mark.parametrize("suffix", ["pt", "pth", "th", "pth.tar", "ckpt"])
def test_files_are_read(tmp_path, state, suffix):
    path = tmp_path / f"a.{suffix}"
    torch.save(state, path, _use_new_zipfile_serialization=suffix != "th")
    read = weights.read(path)
    assert read.keys() == state.keys()
    chex.assert_trees_all_equal(read, {name: tensor.numpy() for name, tensor in state.items()})


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s, _: {"state_dict": s, "epoch": 3, "best": torch.tensor(0.9), "lr": [0.1]},
        lambda s, _: {"net": s, "acc": 91.2},
        lambda s, _: {"model": {"state_dict": s}, "optimizer": {"state": {}}},
        lambda s, _: {"model_state_dict": s},
        # Of averaged weights and others, the averaged ones: published accuracies are theirs.
        lambda s, worse: {"state_dict": worse, "state_dict_ema": s},
        lambda s, worse: {"model": worse, "ema": {"decay": 0.99, "shadow": s}},
        lambda s, worse: {"model": worse, "model_ema": s},
        lambda s, _: {k: v.half() if v.is_floating_point() else v for k, v in s.items()},
        lambda s, _: {k: v.bfloat16() if v.is_floating_point() else v for k, v in s.items()},
    ],
)
def test_state_dicts_are_unwrapped(tmp_path, state, wrap):
    exact = {k: v.bfloat16().to(v.dtype) for k, v in state.items()}  # in half precision too
    exact = {k: v.half().to(v.dtype) for k, v in exact.items()}
    worse = {k: torch.zeros_like(v) for k, v in state.items()}
    torch.save(wrap(exact, worse), tmp_path / "a.pth")
    converted = weights.convert(weights.read(tmp_path / "a.pth"), "resnet8-w4")
    chex.assert_trees_all_equal(converted, weights.convert(exact, "resnet8-w4"))


class Code:
    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_asks_for_code_is_refused_and_not_run(tmp_path, state):
    code = Code()
    code.path = tmp_path / "ran"
    torch.save({"state_dict": state, "more": code}, tmp_path / "a.pth")
    (tmp_path / "b.pth").write_bytes(pickle.dumps(code, protocol=2))
    (tmp_path / "c.pth").write_bytes(pickle.dumps(code))
    with pytest.raises(UserError, match="or holds more than weights, which is never run; save"):
        weights.read(tmp_path / "c.pth")
    for name in ("a.pth", "b.pth"):
        with pytest.raises(UserError, match=r"asks for code \(.*mkdir\), which is never run"):
            weights.read(tmp_path / name)
        assert not code.path.exists()
    pickle.loads((tmp_path / "b.pth").read_bytes())
    assert code.path.exists()  # it would have


@pytest.mark.parametrize("damage", ["text", "empty", "half", "half of an old one"])
def test_damaged_files_are_refused(tmp_path, state, damage):
    path = tmp_path / "a.pth"
    torch.save(state, path, _use_new_zipfile_serialization=damage == "half")
    whole = path.read_bytes()
    path.write_bytes({"text": b"hello", "empty": b""}.get(damage, whole[: len(whole) // 2]))
    with pytest.raises(UserError, match="a.pth' cannot be read as weights of PyTorch") as error:
        weights.read(path)
    assert "\n" not in str(error.value)


def test_what_is_no_state_dict_is_refused(tmp_path):
    path = tmp_path / "a.pth"
    torch.save(networks.cifar(8, 4), path)
    with pytest.raises(UserError, match=r"asks for code \(references.torch_networks.ResNet\)"):
        weights.read(path)
    torch.save({"epoch": 3, "name": "resnet"}, path)
    with pytest.raises(UserError, match="no state dict but the keys epoch, name; save one"):
        weights.read(path)
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="no state dict but a list; save one"):
        weights.read(path)


@pytest.mark.skipif(not ORIGINAL.is_file(), reason="the public networks are not here")
def test_a_file_as_its_author_published_it():
    read = weights.read(ORIGINAL)
    same = weights.read(ORIGINAL.parents[1] / "resnet20-akamaster.safetensors")
    converted = weights.convert(read, "resnet20")
    chex.assert_trees_all_equal(converted, weights.convert(same, "resnet20"))


def test_the_arguments_of_a_script_beside_the_weights_are_data(tmp_path):
    """As timm keeps them."""
    held = {"state_dict": {"fc.weight": torch.ones(2, 3)}, "args": argparse.Namespace(lr=0.1)}
    torch.save(held, tmp_path / "net.pth.tar")
    found = weights.read(tmp_path / "net.pth.tar")
    assert [*found] == ["fc.weight"]
