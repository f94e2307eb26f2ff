"""The same weights in an independent PyTorch implementation give the same logits, and its files."""

import argparse
import os
import pickle
from functools import partial

import chex
import jax
import numpy as np
import pytest
from random_weights import random_images, random_weights
from scripts import ROOT

from kdxai import METHODS, Protocol, models
from kdxai.classifiers import as_classifier
from kdxai.errors import UserError
from kdxai.explain import min_max, resize
from kdxai.models import weights
from kdxai.models.trained import Trained

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
LIBRARIES = {
    "googlenet": lambda: networks.GoogLeNet(10, 64),
    "mobilenetv2": lambda: networks.mobilenetv2(10, 32),
    "mobilenetv2-w24": lambda: networks.mobilenetv2(10, 24),
    "convnext-2-2-6-2": lambda: networks.convnext((2, 2, 6, 2), 40, patch=4),
    "vit-3-96-3": lambda: networks.vit(3, 96, 3, "avg"),
    "vit-4-64-4": lambda: networks.vit(4, 64, 4, "token"),
}


def made(make, *arguments):
    try:
        return make(*arguments)
    except ModuleNotFoundError as error:
        pytest.skip(f"{error.name} is not installed")


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


@pytest.mark.parametrize("name", sorted(LIBRARIES))
def test_logits_agree_with_libraries(name):
    assert_same_logits(name, made(LIBRARIES[name]))


@pytest.mark.parametrize(
    ("name", "options", "theirs"),
    [
        ("convnext-2-2-6-2", {"patch": 4}, "convnext_atto"),
        ("convnext-2-2-6-2-w48", {"patch": 4}, "convnext_femto"),
        ("convnext-2-2-6-2-w64", {"patch": 4}, "convnext_pico"),
        ("convnext-2-2-8-2-w80", {"patch": 4}, "convnext_nano"),
        ("convnext-3-3-9-3-w96", {"patch": 4}, "convnext_tiny"),
        ("vit-12-192-3", {"patch": 16, "pool": "token"}, "vit_tiny_patch16_224"),
        ("vit-12-384-6", {"patch": 16, "pool": "token"}, "vit_small_patch16_224"),
    ],
)
def test_as_many_parameters_as_timm(name, options, theirs):
    timm = pytest.importorskip("timm", reason="timm is not installed")
    with torch.device("meta"):
        network = timm.create_model(theirs)
    model = models.create(name, num_classes=1000, **options)
    images = jax.ShapeDtypeStruct((1, 224, 224, 3), np.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), images)["params"]
    own = sum(leaf.size for leaf in jax.tree.leaves(params))
    assert own == sum(parameter.numel() for parameter in network.parameters())


@pytest.mark.parametrize("pool", ["avg", "token"])
def test_attention_and_its_gradient_are_timms(pool):
    """Of a ViT whose last block's attention is a leaf of PyTorch's graph."""
    network = made(networks.vit, 2, 16, 4, pool)
    state = random_weights(networks.shapes(network), seed=2)
    network.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    held = []
    for block in network.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda _, __, out: held.append(out))
    images = random_images()[:2]
    outputs = network.eval()(torch.tensor(images.transpose(0, 3, 1, 2)))
    (expected,) = torch.autograd.grad(outputs[:, 3].sum(), held[-1:])
    converted = weights.convert(state, "vit-2-16-4")
    model = models.create(**converted.architecture, num_classes=5)
    apply = partial(model.apply, converted.variables)
    attention = apply(images, method="attention")
    assert [*attention] == ["block0", "block1"]
    for own, its in zip(attention.values(), held, strict=True):
        np.testing.assert_allclose(own, its.detach().numpy(), rtol=0, atol=1e-5)

    def score(attention):
        found = apply(images, attention, method="attended")["block1"]
        return apply(found, stage="block1", method="classify")[:, 3].sum()

    gradient = jax.grad(score)(attention)
    np.testing.assert_allclose(gradient["block1"], expected.numpy(), rtol=0, atol=1e-4)
    assert not np.any(gradient["block0"])


@pytest.mark.parametrize("pool", ["avg", "token"])
def test_grad_cam_of_a_vit_is_that_of_grad_cam(pool):
    """Which takes the class token away by its `reshape_transform`, and cuts at any block."""
    library = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = made(networks.vit, 3, 16, 4, pool)
    state = random_weights(networks.shapes(network), seed=2)
    network.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    images = random_images()[:2]
    extra = int(pool == "token")

    def to_grid(tokens):
        return tokens[:, extra:].reshape(len(tokens), 8, 8, -1).permute(0, 3, 1, 2)

    converted = weights.convert(state, "vit-3-16-4")
    model = models.create(**converted.architecture, num_classes=5)
    known = Trained(
        model, converted.architecture, converted.variables, np.zeros(3), np.ones(3), (*"abcde",),
        (32, 32, 3), {},
    )  # fmt: skip
    for block in (0, 1):
        camera = library.GradCAM(network.eval(), [network.blocks[block]], to_grid)
        given = torch.tensor(images.transpose(0, 3, 1, 2))
        expected = camera(given, [ClassifierOutputTarget(2)] * 2)
        classifier = as_classifier(known, Protocol(method="grad_cam", stage=f"block{block}"))
        for image, theirs in zip(images, expected, strict=True):
            found = resize(min_max(METHODS["grad_cam"](classifier, image, 2)), (32, 32))
            np.testing.assert_allclose(min_max(found), theirs, rtol=0, atol=2e-3)
            assert np.corrcoef(found.ravel(), theirs.ravel())[0, 1] > 0.9999


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_logits_agree_with_torchvision(name):
    library = pytest.importorskip("torchvision", reason="torchvision is not installed").models
    assert_same_logits(f"{name}-imagenet", getattr(library, name)(num_classes=7), size=65)


@pytest.mark.parametrize("name", sorted(networks.SMALL))
def test_stored_logits_are_up_to_date(name):
    state = random_weights(networks.shapes(network := made(networks.SMALL[name])), seed=0)
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
