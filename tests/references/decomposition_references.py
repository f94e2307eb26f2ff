"""Decompositions of a small CNN by PyTorch libraries, in float64 -> decomposition_references.npz.

    pip install torch captum==0.9.0
    pip install --no-deps grad-cam==1.5.7 ttach && pip install opencv-python-headless scikit-learn
    python decomposition_references.py

The tests read the file, so a test run needs no torch. The network has what decompositions stumble
on: biases, BatchNorm, max-pooling, a shortcut. What the libraries compute otherwise than kdxai, and
what was done about it here:

- captum, LRP: its epsilon is one number for all layers and is added at every module. kdxai's is a
  share of the root mean square of what goes into an activation, and is added there alone. Each
  layer ahead of a ReLU gets that number as its rule's, the others next to nothing.
- captum, DeepLift: its rule of max-pooling is not complete (the sum of the attributions misses the
  change of the logit by 9 % here). The reference has average-pooling in its place.
- captum, Alpha1_Beta0_Rule: splits relevance over a shortcut by what either branch puts out, where
  kdxai takes the sum and the convolution ahead of it as one layer. The reference has no shortcut.
  It also clamps the weights of BatchNorm, which its own docstring warns of, and
  takes negative inputs as they are. The reference has BatchNorm folded into the convolutions, and
  an image without negative values.
- pytorch-grad-cam, FullGrad: adds 1e-7 to a channel's range before it divides by it, so all logits
  are times 10,000 here; and it scales its map to [0, 1] at the end, which is left out.
"""

import pathlib

import no_torchvision  # noqa: F401  # before pytorch_grad_cam
import numpy as np
import pytorch_grad_cam as pgc
import torch
from captum import attr
from captum.attr._utils.custom_modules import Addition_Module
from captum.attr._utils.lrp_rules import Alpha1_Beta0_Rule, EpsilonRule
from pytorch_grad_cam import fullgrad_cam
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

CLASSES = (0, 3)  # the class explained in each of the two images
EPSILON = 0.25
BASELINE = 0.3

torch.set_default_dtype(torch.float64)
rng = np.random.default_rng(5)
data: dict[str, np.ndarray] = {
    "image": rng.normal(size=(2, 12, 12, 3)),
    "kernel1": rng.normal(size=(3, 3, 3, 6)) / 4,
    "bias1": rng.normal(size=6) / 3,
    "kernel2": rng.normal(size=(3, 3, 6, 8)) / 5,
    "kernel3": rng.normal(size=(3, 3, 8, 6)) / 5,
    "kernel4": rng.normal(size=(3, 3, 6, 8)) / 5,
    "bias4": rng.normal(size=8) / 3,
    "head": rng.normal(size=(8, 5)),
    "bias": rng.normal(size=5) / 3,
}
for norm, width in (("norm2", 8), ("norm3", 6)):
    data |= {
        f"{norm}/scale": rng.uniform(0.5, 1.5, width) * rng.choice([-1, 1], width),
        f"{norm}/bias": rng.normal(size=width) / 3,
        f"{norm}/mean": rng.normal(size=width) / 3,
        f"{norm}/var": rng.uniform(0.5, 1.5, width),
    }
data = {name: value.astype(np.float32) for name, value in data.items()}
data["class_index"] = np.array(CLASSES, np.int32)


class Net(nn.Module):
    """Every module is used once, as captum asks."""

    def __init__(self, shortcut: bool = True) -> None:
        super().__init__()
        self.shortcut = shortcut
        self.conv1, self.relu1, self.pool1 = nn.Conv2d(3, 6, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)
        self.conv2 = nn.Conv2d(6, 8, 3, 1, 1, bias=False)
        self.norm2, self.relu2 = nn.BatchNorm2d(8), nn.ReLU()
        self.conv3 = nn.Conv2d(8, 6, 3, 1, 1, bias=False)
        self.norm3, self.add, self.relu3 = nn.BatchNorm2d(6), Addition_Module(), nn.ReLU()
        self.conv4, self.relu4 = nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU()
        self.pool4, self.flat, self.head = nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.pool1(self.relu1(self.conv1(x)))
        y = self.relu2(self.norm2(self.conv2(x)))
        y = self.norm3(self.conv3(y))
        x = self.relu3(self.add(x, y) if self.shortcut else y)
        x = self.pool4(self.relu4(self.conv4(x)))
        return self.head(self.flat(x))


def tensor(name: str) -> torch.Tensor:
    return torch.tensor(data[name].astype(np.float64))


def build(shortcut: bool = True, scale: float = 1.0) -> Net:
    net = Net(shortcut).eval()
    with torch.no_grad():
        for i in range(1, 5):
            layer = getattr(net, f"conv{i}")
            layer.weight.copy_(tensor(f"kernel{i}").permute(3, 2, 0, 1))
            if layer.bias is not None:
                layer.bias.copy_(tensor(f"bias{i}"))
        for name in ("norm2", "norm3"):
            norm = getattr(net, name)
            norm.weight.copy_(tensor(f"{name}/scale"))
            norm.bias.copy_(tensor(f"{name}/bias"))
            norm.running_mean.copy_(tensor(f"{name}/mean"))
            norm.running_var.copy_(tensor(f"{name}/var"))
        net.head.weight.copy_(scale * tensor("head").T)
        net.head.bias.copy_(scale * tensor("bias"))
    return net


def folded(shortcut: bool = True) -> Net:
    """The same function, with BatchNorm in the convolutions ahead of it."""
    net = build(shortcut)
    with torch.no_grad():
        for i in (2, 3):
            conv, norm = getattr(net, f"conv{i}"), getattr(net, f"norm{i}")
            factor = norm.weight / torch.sqrt(norm.running_var + norm.eps)
            conv.weight.mul_(factor[:, None, None, None])
            conv.bias = nn.Parameter(norm.bias - norm.running_mean * factor)
            setattr(net, f"norm{i}", nn.Identity())
    return net


images = tensor("image").permute(0, 3, 1, 2)
data["logits"] = build()(images).detach().numpy()
assert torch.allclose(folded()(images), build()(images))


def keep(name: str, values: torch.Tensor) -> None:
    """Store [2, 12, 12, 3] or [2, 12, 12]."""
    found = values.detach().numpy()
    data[name] = found.transpose(0, 2, 3, 1) if found.ndim == 4 else found


averaged = build()
averaged.pool1 = nn.AvgPool2d(2)
deep_lift = attr.DeepLift(averaged)
keep(
    "deep_lift",
    deep_lift.attribute(images, torch.full_like(images, BASELINE), target=torch.tensor(CLASSES)),
)

AHEAD = {"conv1": "relu1", "norm2": "relu2", "add": "relu3", "conv4": "relu4"}


def lrp_epsilon(image: torch.Tensor, target: int) -> torch.Tensor:
    net, sizes = build(), {}
    for name in AHEAD:
        getattr(net, name).register_forward_hook(
            lambda module, inputs, output, name=name: sizes.update(
                {name: EPSILON * output.square().mean().sqrt().item()}
            )
        )
    net(image)
    net = build()
    for name, layer in net.named_children():
        if not isinstance(layer, nn.ReLU | nn.Flatten):
            layer.rule = EpsilonRule(sizes.get(name, 1e-12))
    net.flat.rule = EpsilonRule(1e-12)
    return attr.LRP(net).attribute(image, target=target)


def lrp_z_plus(image: torch.Tensor, target: int) -> torch.Tensor:
    net = folded(shortcut=False)
    for layer in net.children():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.rule = Alpha1_Beta0_Rule(set_bias_to_zero=True)
        elif not isinstance(layer, nn.ReLU):
            layer.rule = EpsilonRule(1e-12)
    return attr.LRP(net).attribute(image, target=target)


each = [images[i : i + 1] for i in range(2)]
pairs = list(zip(each, CLASSES, strict=True))
keep("lrp_epsilon", torch.cat([lrp_epsilon(*pair) for pair in pairs]))
keep("lrp_z_plus", torch.cat([lrp_z_plus(image.abs(), target) for image, target in pairs]))

fullgrad_cam.scale_cam_image = lambda maps, size=None: maps
targets = [ClassifierOutputTarget(c) for c in CLASSES]
data["full_grad"] = pgc.FullGrad(build(scale=1e4), [])(images, targets)

np.savez_compressed(
    pathlib.Path(__file__).with_suffix(".npz"),
    **{k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in data.items()},
)
