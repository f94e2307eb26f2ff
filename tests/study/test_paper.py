"""The paper's literal protocol against a restatement in numpy float64, network and all."""

import fresh
import jax
import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import map_coordinates
from skimage.metrics import structural_similarity

from kdxai import classifiers, evaluate, models
from kdxai.protocol import SOUND
from kdxai.study.paper import PRESETS, literal, protocol_steps

MEAN, STD = np.array([0.4914, 0.4822, 0.4465]), np.array([0.247, 0.243, 0.261])


def conv(x, kernel, stride=1):
    pad = kernel.shape[0] // 2
    x = np.pad(x, ((pad, pad), (pad, pad), (0, 0)))
    windows = sliding_window_view(x, kernel.shape[:2], axis=(0, 1))[::stride, ::stride]
    return np.einsum("ijchw,hwco->ijo", windows, kernel)


def norm(x, params):
    """Train mode on one image: its own mean and (biased) variance."""
    x = (x - x.mean((0, 1))) / np.sqrt(x.var((0, 1)) + 1e-5)
    return x * params["scale"] + params["bias"]


def relu(x):
    return np.maximum(x, 0)


def wide_resnet(p, x):
    x = conv(x, p["units_stem"]["Conv_0"]["kernel"])
    for stage in (1, 2, 3):
        q = p[f"units_stage{stage}.block0"]
        stride = 1 if stage == 1 else 2
        y = relu(norm(x, q["BatchNorm_0"]))
        if "shortcut" in q:
            x = conv(y, q["shortcut"]["kernel"], stride)
        y = relu(norm(conv(y, q["Conv_0"]["kernel"], stride), q["BatchNorm_1"]))
        x = x + conv(y, q["Conv_1"]["kernel"])
    features = relu(norm(x, p["units_final"]["BatchNorm_0"]))
    return features, features


def resnet(p, x):
    """ResNet-18; also the input of its last block."""
    x = relu(norm(conv(x, p["units_stem"]["Conv_0"]["kernel"]), p["units_stem"]["BatchNorm_0"]))
    for stage in (1, 2, 3, 4):
        for block in (0, 1):
            q = p[f"units_stage{stage}.block{block}"]
            stride = 2 if stage > 1 and block == 0 else 1
            shown = x
            y = relu(norm(conv(x, q["Conv_0"]["kernel"], stride), q["BatchNorm_0"]))
            y = norm(conv(y, q["Conv_1"]["kernel"]), q["BatchNorm_1"])
            if "shortcut" in q:
                x = norm(conv(x, q["shortcut"]["kernel"], stride), q["shortcut_norm"])
            x = relu(x + y)
    return shown, x


def scaled(x):
    return (x - x.min()) / (x.max() - x.min())


def restated(network, params, image, label):
    """Points 1 to 9 of the notebook's protocol, dropout apart."""
    head = params["head"]

    def forward(x):
        shown, features = network(params, x)
        cam = scaled(shown @ head["kernel"][:, label])
        return cam, features.mean((0, 1)) @ head["kernel"] + head["bias"]

    def enlarged(cam):
        at = np.clip((np.arange(32) + 0.5) * len(cam) / 32 - 0.5, 0, len(cam) - 1)
        return map_coordinates(cam, np.meshgrid(at, at, indexing="ij"), order=1)

    z = (image / 255 - MEAN) / STD
    cam, logits = forward(z)
    heatmap = enlarged(cam)
    pixels = (255 * scaled(z) + 1e-6).astype(np.uint8)  # whole numbers stay what they are
    masked = (scaled(pixels * heatmap[..., None]) - MEAN) / STD
    cam_masked, logits_masked = forward(masked)
    heatmap_masked = enlarged(cam_masked)
    drop = max(0, (logits.max() - logits_masked.max()) / logits.max())
    ssim = structural_similarity(
        heatmap, heatmap_masked, data_range=heatmap_masked.max() - heatmap_masked.min()
    )
    size = np.linalg.norm(cam, 1)
    adcc = 3 / (1 / ssim + 1 / (1 - size) + 1 / (1 - drop))
    return {"average_drop": drop, "ssim": ssim, "complexity": size, "adcc": adcc}


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("wrn-10-1", wide_resnet),
        pytest.param("resnet18-w4", resnet, marks=pytest.mark.slow),
    ],
)
def test_literal_is_the_restatement(name, network):
    model = models.create(name, num_classes=10)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 8, 8, 3)).repeat(4, 1).repeat(4, 2).astype(np.uint8)
    labels = rng.integers(0, 10, 6).astype(np.int32)
    variables = model.init(jax.random.key(0), np.zeros((1, 32, 32, 3)))
    params = jax.tree.map(
        lambda leaf: np.float32(leaf + 0.3 * rng.normal(size=leaf.shape) * (leaf.ndim == 1)),
        variables["params"],
    )
    variables = {"params": params, "batch_stats": variables["batch_stats"]}
    protocol = literal(model)
    classifier = classifiers.as_classifier(fresh.trained(model, variables), protocol)
    rows = evaluate.evaluate(classifier, images, labels, protocol, mean=MEAN, std=STD)
    exact = jax.tree.map(np.float64, params)
    drops = 0
    for i in range(6):
        expected = restated(network, exact, images[i], labels[i])
        drops += expected["average_drop"] > 0.01
        for key, value in expected.items():
            assert rows[key][i] == pytest.approx(value, abs=1e-3), (i, key)
    assert drops >= 2  # a test of zeros would be none


@pytest.mark.parametrize("name", ["wrn-10-1", "resnet10-w4", "resnet18-w4"])
def test_the_ladder_repairs_one_thing_at_a_time_and_ends_sound(name):
    steps = protocol_steps(models.create(name, num_classes=10))
    assert list(steps.values())[-1] == SOUND
    assert len(set(steps.values())) >= 8
    # Only ResNet-18 has a last block with an identity shortcut to read from.
    assert steps["literal"].stage == ("stage4.block0" if name == "resnet18-w4" else "last")


def test_the_sound_protocol_is_adcc_as_published():
    model = models.create("resnet18", num_classes=10)
    assert PRESETS["poppi"](model) == PRESETS["sound"](model) == SOUND
