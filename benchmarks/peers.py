"""The same work by PyTorch libraries, on the same weights and images.

Every library is called as its documentation says, on a whole batch unless the entry says otherwise.
Needs the extra `bench`: importing this module without it is an ImportError.
"""

import os
from collections.abc import Mapping
from functools import partial
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")  # ScoreCAM's bars would tear the table

import jax.numpy as jnp
import numpy as np
import quantus
import torch
from captum.attr import LayerAttribution, LayerGradCam
from pytorch_grad_cam import GradCAM, ScoreCAM
from pytorch_grad_cam.metrics.arcc import Coherency, Complexity
from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence
from pytorch_grad_cam.utils.model_targets import (
    ClassifierOutputSoftmaxTarget,
    ClassifierOutputTarget,
)
from torch import nn
from torch.nn import functional

from benchmarks.tasks import (
    ALPHA,
    CHANNELS,
    LEARNING_RATE,
    STEPS,
    TEMPERATURE,
    Inputs,
    Peer,
    Work,
    forward_flops,
)
from kdxai.errors import UserError

RESCALED = "scales its map again after resizing"
ALIGNED = "resizes its masks with aligned corners"


class Block(nn.Module):
    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv0 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.norm0 = nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.shortcut = nn.Sequential()
        if inputs != width or stride != 1:
            conv = nn.Conv2d(inputs, width, 1, stride, bias=False)
            self.shortcut = nn.Sequential(conv, nn.BatchNorm2d(width))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.relu(self.norm0(self.conv0(x)))
        return self.relu(self.norm1(self.conv1(y)) + self.shortcut(x))


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


def _images(inputs: Inputs) -> torch.Tensor:
    return torch.tensor(inputs.images).permute(0, 3, 1, 2).contiguous()


def draw(method: type, inputs: Inputs) -> Work:
    """A map class of grad-cam, of the predicted classes."""
    net, images = convert(inputs), _images(inputs)
    explain = method(net, [net.blocks[-1]])
    return Work(lambda: explain(images, None), len(images))


def captum_grad_cam(inputs: Inputs) -> Work:
    """Captum's, which is told the class and stops its backward pass at the cut."""
    net, images = convert(inputs), _images(inputs)
    classes, explain = torch.tensor(inputs.classes.tolist()), LayerGradCam(net, net.blocks[-1])

    def call() -> np.ndarray:
        maps = explain.attribute(images, classes, relu_attributions=True)
        return (
            LayerAttribution.interpolate(maps, images.shape[2:], "bilinear")[:, 0].detach().numpy()
        )

    return Work(call, len(images))


def adcc(inputs: Inputs) -> Work:
    """ADCC of a batch, of the parts that grad-cam has for it."""
    net, images = convert(inputs), _images(inputs)
    explain = GradCAM(net, [net.blocks[-1]])
    return Work(lambda: _adcc(net, explain, images), len(images))


def adcc_by_image(inputs: Inputs) -> Work:
    """The same, one image at a time: how the authors of ADCC publish it."""
    net, images = convert(inputs), _images(inputs)
    explain = GradCAM(net, [net.blocks[-1]])
    one = lambda i: _adcc(net, explain, images[i : i + 1])  # noqa: E731
    return Work(lambda: np.concatenate([one(i) for i in range(len(images))]), len(images))


def _adcc(net: nn.Module, explain: GradCAM, images: torch.Tensor) -> np.ndarray:
    """Poppi et al. 2021 of [N, 3, H, W] images: [N]."""
    maps = explain(images, None)
    probabilities, classes = explain.outputs.detach().softmax(1).max(1)
    soft = [ClassifierOutputSoftmaxTarget(c) for c in classes]
    drop = DropInConfidence()(images, maps, soft, net) / probabilities.numpy()
    logits = [ClassifierOutputTarget(c) for c in classes]
    coherency = Coherency()(images, maps, logits, net, explain)
    return 3 / (1 / coherency + 1 / (1 - Complexity()(maps)) + 1 / (1 - drop))


def deletion(inputs: Inputs) -> Work:
    """Quantus' pixel flipping, read where the values that are gone make whole pixels."""
    net, images = convert(inputs), _images(inputs).numpy()
    metric = quantus.PixelFlipping(
        features_in_step=images[0].size // STEPS,
        perturb_baseline=0.0,
        disable_warnings=True,
    )

    def call() -> np.ndarray:
        curves = metric(
            model=net,
            x_batch=images,
            y_batch=inputs.classes,
            a_batch=inputs.relevance[:, None],
            channel_first=True,
            device="cpu",
            batch_size=len(images),
        )
        return np.array(curves)[:, CHANNELS - 1 :: CHANNELS]

    return Work(call, len(images))


def _precision(inputs: Inputs) -> torch.autocast:
    """That in which the convolutions compute."""
    bfloat16 = inputs.trained.model.dtype == jnp.bfloat16
    return torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)


def forward(inputs: Inputs) -> Work:
    """Logits of a batch."""
    net, images = convert(inputs), _images(inputs)

    def call() -> np.ndarray:
        with torch.no_grad(), _precision(inputs):
            return net(images).float().numpy()

    return Work(call, len(images), forward_flops(inputs))


def train_step(inputs: Inputs, *, distil: bool = False, layout: Any = None) -> Work:
    """A step of SGD on the batch; the teacher is the network as it was.

    Args:
      layout: of images and weights in memory; None for PyTorch's usual one.
    """
    layout = layout or torch.contiguous_format
    net, teacher = (convert(inputs).to(memory_format=layout) for _ in range(2))
    net, images = net.train(), _images(inputs).contiguous(memory_format=layout)
    labels = torch.tensor(inputs.classes.tolist())
    sgd = torch.optim.SGD(
        net.parameters(), LEARNING_RATE, momentum=0.9, weight_decay=5e-4, nesterov=True
    )

    def call() -> np.ndarray:
        with _precision(inputs):
            logits = net(images).float()
        loss = functional.cross_entropy(logits, labels)
        if distil:
            with torch.no_grad(), _precision(inputs):
                soft = (teacher(images).float() / TEMPERATURE).softmax(1)
            kd = TEMPERATURE**2 * functional.cross_entropy(logits / TEMPERATURE, soft)
            loss = ALPHA * kd + (1 - ALPHA) * loss
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        return np.array([loss.item()])

    return Work(call, len(images), forward_flops(inputs, 4 if distil else 3))


GRAD_CAM = (
    Peer("grad-cam", partial(draw, GradCAM), target=3),
    Peer("captum", captum_grad_cam),
)
PEERS: dict[str, tuple[Peer, ...]] = {
    "cam": GRAD_CAM,  # CAM is Grad-CAM here, up to a scale
    "grad_cam": GRAD_CAM,
    "adcc": (
        Peer("grad-cam, image by image", adcc_by_image, 6, RESCALED),
        Peer("grad-cam", adcc, None, RESCALED),
    ),
    "deletion": (Peer("Quantus", deletion, target=2.5),),
    "score_cam": (Peer("grad-cam", partial(draw, ScoreCAM), 10, ALIGNED),),
    "forward": (Peer("PyTorch", forward),),
    "train_step": (
        Peer("PyTorch", train_step),
        Peer("PyTorch, channels last", partial(train_step, layout=torch.channels_last)),
    ),
    "distillation_step": (Peer("PyTorch", partial(train_step, distil=True)),),
}
