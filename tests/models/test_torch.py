"""The same weights in an independent PyTorch implementation give the same logits."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai import models

torch = pytest.importorskip("torch", reason="PyTorch is not installed: no independent logits")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402


class WideBlock(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.norm0, self.norm1 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)
        self.conv0 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.conv1 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        if inputs != width:
            self.shortcut = nn.Conv2d(inputs, width, 1, stride, bias=False)

    def forward(self, x):
        y = F.relu(self.norm0(x))
        x = self.shortcut(y) if hasattr(self, "shortcut") else x
        return x + self.conv1(F.relu(self.norm1(self.conv0(y))))


class BasicBlock(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv0 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.conv1 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm0, self.norm1 = nn.BatchNorm2d(width), nn.BatchNorm2d(width)
        if inputs != width or stride != 1:
            self.shortcut = nn.Conv2d(inputs, width, 1, stride, bias=False)
            self.shortcut_norm = nn.BatchNorm2d(width)

    def forward(self, x):
        y = F.relu(self.norm0(self.conv0(x)))
        y = self.norm1(self.conv1(y))
        x = self.shortcut_norm(self.shortcut(x)) if hasattr(self, "shortcut") else x
        return F.relu(x + y)


class WideResNet(nn.Module):
    def __init__(self, depth, width, classes):
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, 1, 1, bias=False)
        blocks, inputs = [], 16
        for stage in range(3):
            for block in range((depth - 4) // 6):
                outputs = 16 * width * 2**stage
                blocks.append(WideBlock(inputs, outputs, 2 if stage and not block else 1))
                inputs = outputs
        self.blocks = nn.ModuleList(blocks)
        self.norm, self.head = nn.BatchNorm2d(inputs), nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return self.head(F.relu(self.norm(x)).mean((2, 3)))


class ResNet(nn.Module):
    def __init__(self, counts, width, classes):
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        blocks, inputs = [], width
        for stage, count in enumerate(counts):
            for block in range(count):
                outputs = width * 2**stage
                blocks.append(BasicBlock(inputs, outputs, 2 if stage and not block else 1))
                inputs = outputs
        self.blocks, self.head = nn.ModuleList(blocks), nn.Linear(inputs, classes)

    def forward(self, x):
        x = F.relu(self.norm(self.stem(x)))
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


def load_conv(module, params):
    module.weight.data = torch.tensor(np.array(params["kernel"]).transpose(3, 2, 0, 1))


def load_norm(module, params, stats):
    module.weight.data = torch.tensor(np.array(params["scale"]))
    module.bias.data = torch.tensor(np.array(params["bias"]))
    module.running_mean = torch.tensor(np.array(stats["mean"]))
    module.running_var = torch.tensor(np.array(stats["var"]))


def load_blocks(net, units, params, stats):
    blocks = [name for name in units if name.startswith("stage")]
    for block, name in zip(net.blocks, blocks, strict=True):
        p, s = params[f"units_{name}"], stats[f"units_{name}"]
        for i in (0, 1):
            load_conv(getattr(block, f"conv{i}"), p[f"Conv_{i}"])
            load_norm(getattr(block, f"norm{i}"), p[f"BatchNorm_{i}"], s[f"BatchNorm_{i}"])
        if "shortcut" in p:
            load_conv(block.shortcut, p["shortcut"])
        if "shortcut_norm" in p:
            load_norm(block.shortcut_norm, p["shortcut_norm"], s["shortcut_norm"])


@pytest.mark.parametrize("name", ["wrn-16-2", "resnet18"])
def test_logits_agree_with_pytorch(name):
    model = models.create(name, num_classes=10)
    images = np.random.default_rng(0).normal(size=(3, 32, 32, 3)).astype(np.float32)
    variables = model.init(jax.random.key(0), images)
    # Every leaf random and different: untouched BatchNorm would hide a mix-up.
    leaves, tree = jax.tree.flatten(variables["batch_stats"])
    rng = np.random.default_rng(1)
    stats = tree.unflatten([jnp.float32(rng.uniform(0.5, 1.5, leaf.shape)) for leaf in leaves])
    variables = {
        "params": jax.tree.map(
            lambda p: p if p.ndim > 1 else jnp.float32(rng.uniform(0.5, 1.5, p.shape)),
            variables["params"],
        ),
        "batch_stats": stats,
    }
    params = variables["params"]
    if name.startswith("wrn"):
        net = WideResNet(16, 2, 10)
        load_conv(net.stem, params["units_stem"]["Conv_0"])
        final = params["units_final"]["BatchNorm_0"], stats["units_final"]["BatchNorm_0"]
    else:
        net = ResNet((2, 2, 2, 2), 64, 10)
        load_conv(net.stem, params["units_stem"]["Conv_0"])
        final = params["units_stem"]["BatchNorm_0"], stats["units_stem"]["BatchNorm_0"]
    load_norm(net.norm, *final)
    load_blocks(net, model.units, params, stats)
    net.head.weight.data = torch.tensor(np.array(params["head"]["kernel"]).T)
    net.head.bias.data = torch.tensor(np.array(params["head"]["bias"]))
    with torch.no_grad():
        expected = net.eval()(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()
    np.testing.assert_allclose(model.apply(variables, images), expected, rtol=0, atol=1e-4)
