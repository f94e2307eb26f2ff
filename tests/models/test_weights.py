"""State dicts of PyTorch: the logits that PyTorch has, whatever a repository calls its tensors."""

import json
import re
import sys

import chex
import jax
import numpy as np
import pytest
from random_weights import random_images, random_weights
from safetensors.numpy import load_file, save_file
from scripts import ROOT

from kdxai import models
from kdxai.errors import UserError
from kdxai.models import trained, weights

STORED = json.loads((ROOT / "tests/references/torch_networks.json").read_text())
ZOO = ROOT.parent / "shared" / "zoo"


def state_of(name):
    return random_weights({k: tuple(v) for k, v in STORED[name]["shapes"].items()}, seed=0)


def renamed(state, *rules):
    for pattern, new in rules:
        state = {re.sub(pattern, new, name): array for name, array in state.items()}
    return state


@pytest.mark.parametrize("name", sorted(STORED))
def test_logits_are_those_of_pytorch(name):
    converted = weights.convert(state_of(name), name)
    # A model directory keeps the architecture as JSON.
    architecture = json.loads(json.dumps(converted.architecture))
    assert architecture["name"] == name
    model = models.create(**architecture, num_classes=converted.num_classes)
    logits = jax.jit(model.apply)(converted.variables, random_images())
    np.testing.assert_allclose(logits, STORED[name]["logits"], rtol=0, atol=1e-4)


def test_what_the_weights_say():
    def options(name):
        architecture = weights.convert(state_of(name), name).architecture
        return {key: value for key, value in architecture.items() if key != "name"}

    assert options("resnet8-w4") == options("wrn-10-2-w4") == options("resnext11-2x2-w4") == {}
    assert options("resnet14") == {
        "shortcut": "conv",
        "widths": (5, 3, 5, 2, 5, 4, 6, 7, 6, 9, 7, 1, 7),
    }
    assert options("resnext11-4x1-w3") == {"channels": 8, "stem_window": 1}
    assert options("wrn-16-1-w3") == {"biases": True}
    # A narrow network under the usual name has its widths in the weights.
    widths = weights.convert(state_of("resnet8-w4"), "resnet8").architecture["widths"]
    assert widths == (4, 4, 4, 8, 8, 16, 16)
    assert weights.convert(state_of("resnet14"), "resnet14").num_classes == 5


def test_a_model_directory_keeps_them(tmp_path):
    converted = weights.convert(state_of("resnet14"), "resnet14")
    model = models.create(**converted.architecture, num_classes=5)
    of = {"mean": np.zeros(3), "std": np.ones(3), "class_names": tuple("abcde"), "facts": {}}
    trained.save(
        trained.Trained(
            model=model,
            architecture=converted.architecture,
            variables=converted.variables,
            image_shape=(32, 32, 3),
            **of,
        ),
        tmp_path,
    )
    loaded = trained.load(tmp_path)
    assert loaded.model == model
    chex.assert_trees_all_equal(loaded.variables, converted.variables)


WEIAICUNZAI = [
    (r"^bn1", "conv1.1"),
    (r"^conv1\.w", "conv1.0.w"),
    *[(rf"layer{i}\.", f"conv{i + 1}_x.") for i in (4, 3, 2, 1)],
    *[(rf"(x\.\d\.){module}\.", rf"\1residual_function.{i}.") for i, module in
      {0: "conv1", 1: "bn1", 3: "conv2", 4: "bn2"}.items()],
    ("linear", "fc"),
]  # fmt: skip
PRLZ77 = [
    (r"^conv1", "conv_1_3x3"),
    (r"^bn1", "bn_1"),
    (r"layer(\d)\.(\d)", r"stage_\1.stage_\1_bottleneck_\2"),
    (r"(k_\d\.)conv1", r"\1conv_reduce"),
    (r"(k_\d\.)conv2", r"\1conv_conv"),
    (r"(k_\d\.)conv3", r"\1conv_expand"),
    (r"(k_\d\.)bn1", r"\1bn_reduce"),
    (r"(k_\d\.)bn2", r"\1bn"),
    (r"(k_\d\.)bn3", r"\1bn_expand"),
    (r"shortcut\.0", "shortcut.shortcut_conv"),
    (r"shortcut\.1", "shortcut.shortcut_bn"),
    ("linear", "classifier"),
]


@pytest.mark.parametrize(
    ("name", "rules"),
    [
        ("resnet8-w4", [("^", "module.")]),
        ("resnet8-w4", [("^", "module._orig_mod.")]),
        ("resnet8-w4", [("linear", "fc"), ("^", "model.backbone.")]),
        ("resnet14", [("downsample", "shortcut"), ("fc", "linear")]),
        ("resnet14", [(r"(conv|bn)(\d)", r"\1_\2"), ("layer", "stage_")]),
        ("resnet18-w2", [("shortcut", "downsample"), ("linear", "fc")]),  # timm
        ("resnet18-w2", WEIAICUNZAI),
        ("wrn-10-2-w4", [(r"block(\d)\.layer", r"layer\1"), ("convShortcut", "shortcut.0")]),
        ("resnext11-2x2-w4", PRLZ77),
    ],
)
def test_names_of_repositories(name, rules):
    state = state_of(name)
    other = renamed(state, *rules)
    assert other.keys() != state.keys() and len(other) == len(state)
    chex.assert_trees_all_equal(weights.convert(other, name), weights.convert(state, name))


def without(state, name):
    return {key: array for key, array in state.items() if key != name}


IMAGENET = "resnet18-imagenet-w2"
MISFITS = {
    "another depth": ("resnet8-w4", "resnet14-w4", {}, "'resnet14-w4' needs a tensor "
        "'layer1.1.conv1.weight' of 4x4x3x3, which is not there; the weights fit 'resnet8'"),
    "another stem": (IMAGENET, "resnet18-w2", {}, "the tensor 'conv1.weight' is 2x3x7x7, but "
        f"'resnet18-w2' expects 2x3x3x3; the weights fit '{IMAGENET}'"),
    "another width": (IMAGENET, "resnet18-imagenet", {}, "'conv1.weight' is 2x3x7x7, but "
        f"'resnet18-imagenet' expects 64x3x7x7; the weights fit '{IMAGENET}'"),
    "another family": ("wrn-10-2-w4", "resnet8", {}, "'conv1.weight' is 4x3x3x3, but "
        "'resnet8' expects 16x3x3x3; the weights fit 'wrn-10-2-w4'"),
    "other groups": ("resnext11-2x2-w4", "resnext11-4x1-w4", {}, "'layer1.0.conv2.weight' is "
        "4x2x3x3, but .* expects 4x1x3x3; the weights fit 'resnext11-2x2-w4'"),
    "one more": ("resnet8-w4", "resnet8", {"extra.weight": np.ones((2, 3), np.float32)},
        "'resnet8' has no place for the tensor 'extra.weight' of 2x3$"),
    "biases": ("wrn-10-2-w4", "wrn-10-2-w4", {"block1.layer.0.conv1.bias": np.ones(8, np.float32)},
        "no place for the tensor 'block1.layer.0.conv1.bias' of 8$"),
    "integers": ("resnet8-w4", "resnet8", {"conv1.weight": np.ones((4, 3, 3, 3), np.int8)},
        "'conv1.weight' is int8: weights are floats"),
    "not finite": ("resnet8-w4", "resnet8", {"bn1.bias": np.float32([0, np.nan, 0, 0])},
        "'bn1.bias' holds values that are not finite"),
    "a head of another shape": ("resnet8-w4", "resnet8", {"linear.weight": np.ones((5, 9, 1, 1))},
        "no place for the tensor 'linear.weight' of 5x9x1x1"),
    "no such model": ("resnet8-w4", "vgg16", {}, "no model 'vgg16'"),
    "no reader": ("resnet8-w4", "plain5", {}, "no weights from elsewhere are known for 'plain5'"),
}  # fmt: skip


@pytest.mark.parametrize("case", sorted(MISFITS))
def test_what_does_not_fit_is_refused(case):
    of, name, other, message = MISFITS[case]
    with pytest.raises(UserError, match=message) as error:
        weights.convert(state_of(of) | other, name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("missing", ["layer3.0.bn2.running_var", "linear.weight", "conv1.weight"])
def test_a_missing_tensor_is_named(missing):
    state = renamed(without(state_of("resnet8-w4"), missing), ("^", "module."))
    with pytest.raises(UserError, match=f"needs a tensor 'module.{missing}'.*is not there$"):
        weights.convert(state, "resnet8-w4")


def test_nothing_is_no_network():
    with pytest.raises(UserError, match="'resnet8' needs a tensor 'linear.weight'|'fc.weight'"):
        weights.convert({}, "resnet8")


def test_safetensors_are_read_as_they_are(tmp_path):
    state = state_of("resnet8-w4")
    save_file(state, tmp_path / "a.safetensors")
    chex.assert_trees_all_equal(weights.read(tmp_path / "a.safetensors"), state)


def test_bfloat16_is_read(tmp_path):
    header = b'{"a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}'
    contents = len(header).to_bytes(8, "little") + header + b"\x80\x3f\x20\xc0"
    (tmp_path / "a.safetensors").write_bytes(contents)
    array = weights.read(tmp_path / "a.safetensors")["a"]
    assert array.dtype == np.float32 and array.tolist() == [1, -2.5]


WHOLE = b"\x40\0\0\0\0\0\0\0" + b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'.ljust(64)


@pytest.mark.parametrize(
    ("name", "contents", "message"),
    [
        ("a.safetensors", b"", "cannot be read as safetensors"),
        ("a.safetensors", b"These are no weights, but a sentence.", "cannot be read as safetens"),
        ("a.safetensors", WHOLE + bytes(7), "cannot be read as safetensors: .*not fully covered"),
        ("a.safetensors", WHOLE[:40], "cannot be read as safetensors"),
        ("a.safetensors", WHOLE.replace(b"F32", b"F31") + bytes(8), "cannot be read as safetens"),
        ("a.h5", b"", r"ends in .safetensors or, from PyTorch, in \.pt, \.pth"),
        ("none.safetensors", None, "there is no file of weights"),
    ],
)
def test_files_that_are_no_weights(tmp_path, name, contents, message):
    if contents is not None:
        (tmp_path / name).write_bytes(contents)
    with pytest.raises(UserError, match=message) as error:
        weights.read(tmp_path / name)
    assert "\n" not in str(error.value)
    (tmp_path / "whole.safetensors").write_bytes(WHOLE + bytes(8))
    assert weights.read(tmp_path / "whole.safetensors")["a"].tolist() == [0, 0]


def test_without_torch_its_files_are_not_opened(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "a.pth").write_bytes(b"cos\nsystem\n(S'touch ran'\ntR.")
    with pytest.raises(UserError, match=r"pip install 'kdxai\[torch\]'"):
        weights.read(tmp_path / "a.pth")


@pytest.mark.skipif(not ZOO.is_dir(), reason="the public networks are not here")
def test_a_pruned_public_network():
    file = ZOO / "resnet56-torch-pruning-pruned.safetensors"
    manifest = json.loads((ZOO / "manifest.json").read_text())["models"]
    (entry,) = [entry for entry in manifest if entry["file"] == file.name]
    converted = weights.convert(load_file(file), "resnet56")
    leaves = jax.tree.leaves(converted.variables["params"])
    assert sum(leaf.size for leaf in leaves) == entry["parameters"]
    assert converted.architecture["shortcut"] == "conv"
    assert converted.architecture["widths"][:3] == (12, 9, 12)
