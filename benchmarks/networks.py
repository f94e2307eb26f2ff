"""The networks of kdxai that have peers, in PyTorch, with the same weights."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from captum.attr._utils.custom_modules import Addition_Module
from torch import nn

from benchmarks.tasks import Inputs
from kdxai.errors import UserError


class Block(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.norm0 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.add = Addition_Module()  # captum's LRP knows sums that are modules
        self.shortcut = None
        if inputs != width or stride != 1:
            conv = nn.Conv2d(inputs, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.norm0(self.conv0(x)))
        x = x if self.shortcut is None else self.shortcut(x)
        return self.relu(self.add(self.norm1(self.conv1(y)), x))


class ResNet(nn.Module):
    """What `kdxai.models.resnet` is, in the idiom of torchvision."""

    def __init__(self, channels: list[tuple[int, int, int]], classes: int) -> None:
        """`channels`: inputs, width and stride of each block."""
        super().__init__()
        width = channels[0][0]
        self.conv = nn.Conv2d(3, width, 3, 1, 1, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.blocks = nn.Sequential(*(Block(*block) for block in channels))
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels[-1][1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.relu(self.norm(self.conv(x))))
        return self.head(self.pool(x).flatten(1))


class Convolution(nn.Module):
    def __init__(self, inputs: int, width: int, pooled: bool) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, width, 3, 1, 1, bias=False)
        self.pool = nn.MaxPool2d(2) if pooled else nn.Identity()
        self.norm = nn.BatchNorm2d(width)
        self.norm.weight.requires_grad_(False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.relu(self.norm(self.pool(self.conv(x))))


class Airbench(nn.Module):
    """What `kdxai.models.airbench` is."""

    def __init__(self, channels: list[tuple[int, int]], classes: int) -> None:
        """`channels`: inputs and width of each convolution behind the first."""
        super().__init__()
        self.whitening = nn.Conv2d(3, channels[0][0], 2, bias=False)
        self.whitening.weight.requires_grad_(False)
        self.relu = nn.ReLU(inplace=True)
        self.blocks = nn.Sequential(
            *(Convolution(*pair, pooled=i in (0, 2)) for i, pair in enumerate(channels))
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(channels[-1][1], classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.relu(self.whitening(x)))
        return self.head(self.pool(x).flatten(1))


def convert(inputs: Inputs) -> nn.Module:
    """The model of the inputs with the same weights, in evaluation mode.

    Raises:
      UserError: it is not one of kdxai's ResNets or airbench networks.
    """
    units = list(inputs.trained.model.units)
    params, stats = (inputs.trained.variables[name] for name in ("params", "batch_stats"))
    names = [name for name in units if name.startswith("stage")]
    if units == ["whitening", *names]:
        net, state = _airbench(names, params, stats)
    elif units == ["stem", *names] and "BatchNorm_0" in params["units_stem"]:
        net, state = _resnet(names, params, stats)
    else:
        raise UserError(
            "the PyTorch peers are ResNets and airbench networks; choose model=resnet18, or "
            "peers=False"
        )
    state |= {
        "head.weight": _tensor(params["head"]["kernel"]).T,
        "head.bias": _tensor(params["head"]["bias"]),
    }
    missing, unexpected = net.load_state_dict(state, strict=False)
    assert not unexpected and all(key.endswith("num_batches_tracked") for key in missing)
    return net.eval()


def _airbench(
    names: list[str], params: Mapping[str, Any], stats: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    kernels = [params[f"units_{name}"]["Conv_0"]["kernel"].shape for name in names]
    state = _conv("whitening", stats["units_whitening"])
    for i, name in enumerate(names):
        own, its = params[f"units_{name}"], stats[f"units_{name}"]["BatchNorm_0"]
        norm = own["BatchNorm_0"] | {"scale": np.ones_like(its["mean"])}
        state |= _conv(f"blocks.{i}.conv", own["Conv_0"]) | _norm(f"blocks.{i}.norm", norm, its)
    return Airbench([shape[2:] for shape in kernels], params["head"]["bias"].size), state


def _resnet(
    names: list[str], params: Mapping[str, Any], stats: Mapping[str, Any]
) -> tuple[nn.Module, dict[str, Any]]:
    stem = params["units_stem"]
    kernels = [params[f"units_{name}"]["Conv_0"]["kernel"].shape for name in names]
    strides = [2 if a != b else 1 for _, _, a, b in kernels]
    net = ResNet(
        [(a, b, s) for (_, _, a, b), s in zip(kernels, strides, strict=True)],
        params["head"]["bias"].size,
    )
    state = {
        **_conv("conv", stem["Conv_0"]),
        **_norm("norm", stem["BatchNorm_0"], stats["units_stem"]["BatchNorm_0"]),
    }
    for i, name in enumerate(names):
        p, s = params[f"units_{name}"], stats[f"units_{name}"]
        for j in (0, 1):
            state |= _conv(f"blocks.{i}.conv{j}", p[f"Conv_{j}"])
            state |= _norm(f"blocks.{i}.norm{j}", p[f"BatchNorm_{j}"], s[f"BatchNorm_{j}"])
        if "shortcut" in p:
            state |= _conv(f"blocks.{i}.shortcut.0", p["shortcut"])
            state |= _norm(f"blocks.{i}.shortcut.1", p["shortcut_norm"], s["shortcut_norm"])
    return net, state


def _tensor(values: Any) -> torch.Tensor:
    return torch.tensor(np.asarray(values))


def _conv(name: str, params: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    return {f"{name}.weight": _tensor(params["kernel"]).permute(3, 2, 0, 1).contiguous()}


def _norm(name: str, params: Mapping[str, Any], stats: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{name}.weight": _tensor(params["scale"]),
        f"{name}.bias": _tensor(params["bias"]),
        f"{name}.running_mean": _tensor(stats["mean"]),
        f"{name}.running_var": _tensor(stats["var"]),
    }


def images_of(inputs: Inputs) -> torch.Tensor:
    return torch.tensor(inputs.images).permute(0, 3, 1, 2).contiguous()
