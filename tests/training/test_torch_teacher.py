"""A PyTorch model as a teacher: what its students read is what PyTorch computes."""

import numpy as np
import pytest
from scripts import ROOT

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no teacher of it")
pytest.importorskip("torchax", reason="torchax is not installed: PyTorch models do not convert")

SOURCE = """
import sys

sys.path.insert(0, {examples!r})
import torch
from torch import nn
from torch_model import as_classifier

from kdxai import External


def net():
    torch.manual_seed(0)
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
    return nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3)).eval()


def teacher():
    classifier = as_classifier(net(), "0", (8, 8, 3))
    return External(classifier, [0.4, 0.5, 0.6], [0.2, 0.25, 0.3], ("0", "1", "2"), (8, 8, 3))
"""


def test_students_learn_from_a_pytorch_model(tiny_config, tmp_path):
    from kdxai.data import datasets
    from kdxai.training import loop

    file = tmp_path / "own_net.py"
    file.write_text(SOURCE.format(examples=str(ROOT / "examples")))
    tiny_config.teacher = f"{file}:teacher"
    tiny_config.augment.pad = 0
    tiny_config.augment.flip = False
    tiny_config.augment.cutout = 0
    dataset = datasets.load(**tiny_config.data)
    loop.train(tiny_config, tmp_path / "student", dataset)
    with np.load(next((tmp_path / "views").glob("*/epoch0000.npz"))) as kept:
        logits = kept["logits"]
    namespace = {}
    exec(file.read_text(), namespace)
    images = (dataset.train.image / 255 - [0.4, 0.5, 0.6]) / [0.2, 0.25, 0.3]
    with torch.inference_mode():
        expected = namespace["net"]()(torch.tensor(images.transpose(0, 3, 1, 2)).float()).numpy()
    assert logits.shape == (len(images), 3)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
