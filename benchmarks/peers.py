"""The same work by PyTorch libraries, on the same weights and images.

Every library is called as its documentation says, on a whole batch unless the entry says otherwise.
Needs the extra `bench`: importing this module without it is an ImportError.
"""

import os
from functools import partial
from typing import Any

os.environ.setdefault("TQDM_DISABLE", "1")  # ScoreCAM's bars would tear the table

import jax
import jax.numpy as jnp
import numpy as np
import quantus
import torch
from captum.attr import LRP, GradientShap, KernelShap, LayerAttribution, LayerGradCam
from pytorch_grad_cam import GradCAM, ScoreCAM
from pytorch_grad_cam.metrics.arcc import Coherency, Complexity
from pytorch_grad_cam.metrics.cam_mult_image import DropInConfidence
from pytorch_grad_cam.utils.model_targets import (
    ClassifierOutputSoftmaxTarget,
    ClassifierOutputTarget,
)
from torch import nn
from torch.nn import functional

from benchmarks.networks import convert, images_of
from benchmarks.tasks import (
    ALPHA,
    CELLS,
    CHANNELS,
    DRAWS,
    LEARNING_RATE,
    MASKS,
    STEPS,
    TEMPERATURE,
    Inputs,
    Peer,
    Work,
    forward_flops,
)
from kdxai.explain.rise import draw_mask

OWN_DRAWS = "draws other random numbers"
RESCALED = "scales its map again after resizing"
ALIGNED = "resizes its masks with aligned corners"


def draw(method: type, inputs: Inputs) -> Work:
    """A map class of grad-cam, of the predicted classes."""
    net, images = convert(inputs), images_of(inputs)
    explain = method(net, [net.blocks[-1]])
    return Work(lambda: explain(images, None), len(images))


def captum_grad_cam(inputs: Inputs) -> Work:
    """Captum's, which is told the class and stops its backward pass at the target layer."""
    net, images = convert(inputs), images_of(inputs)
    classes, explain = torch.tensor(inputs.classes.tolist()), LayerGradCam(net, net.blocks[-1])

    def call() -> np.ndarray:
        maps = explain.attribute(images, classes, relu_attributions=True)
        return (
            LayerAttribution.interpolate(maps, images.shape[2:], "bilinear")[:, 0].detach().numpy()
        )

    return Work(call, len(images))


def in_unit_range(attributions: torch.Tensor) -> np.ndarray:
    """[N, 3, H, W] -> [N, H, W], summed over channels and scaled to [0, 1]."""
    maps = attributions.detach().sum(1)
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return ((maps - low) / (high - low)).numpy()


def gradient_shap(inputs: Inputs) -> Work:
    """Captum's without noise, which is Expected Gradients; the batch is its own background."""
    net, images = convert(inputs), images_of(inputs)
    classes, explain = torch.tensor(inputs.classes.tolist()), GradientShap(net)
    options = {"n_samples": DRAWS, "stdevs": 0.0, "target": classes}
    return Work(lambda: in_unit_range(explain.attribute(images, images, **options)), len(images))


def lrp(inputs: Inputs) -> Work:
    """Captum's, whose epsilon is next to nothing and whose hooks no ReLU may work in place for."""
    net, images = convert(inputs), images_of(inputs)
    for module in net.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    classes = torch.tensor(inputs.classes.tolist())

    explain = LRP(net)
    return Work(lambda: in_unit_range(explain.attribute(images, target=classes)), len(images))


def kernel_shap(inputs: Inputs) -> Work:
    """Captum's, image by image, 64 coalitions at a time."""
    net, images = convert(inputs), images_of(inputs)
    places = torch.arange(images.shape[-1]) * CELLS // images.shape[-1]
    options = {
        "feature_mask": (CELLS * places[:, None] + places)[None, None],
        "n_samples": MASKS,
        "perturbations_per_eval": 64,
    }
    explain = KernelShap(net)

    def call() -> np.ndarray:
        pairs = zip(images, inputs.classes.tolist(), strict=True)
        found = [explain.attribute(one[None], target=c, **options) for one, c in pairs]
        return in_unit_range(torch.cat(found))

    return Work(call, len(images))


def rise(inputs: Inputs) -> Work:
    """As the authors' code has it: the same masks for all images, 64 at a time, image by image."""
    net, images = convert(inputs), images_of(inputs)
    keys = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), np.arange(MASKS))
    masks = torch.tensor(
        np.asarray(jax.vmap(lambda key: draw_mask(key, images.shape[2:], 7, 0.5))(keys))
    )[:, None]

    def one(image: torch.Tensor, c: int) -> torch.Tensor:
        scores = torch.cat([net(image * some).softmax(1)[:, c] for some in masks.split(64)])
        return (scores[:, None, None, None] * masks).sum(0)

    def call() -> np.ndarray:
        with torch.no_grad():
            pairs = zip(images, inputs.classes.tolist(), strict=True)
            return in_unit_range(torch.stack([one(*pair) for pair in pairs]))

    return Work(call, len(images))


def adcc(inputs: Inputs) -> Work:
    """ADCC of a batch, of the parts that grad-cam has for it."""
    net, images = convert(inputs), images_of(inputs)
    explain = GradCAM(net, [net.blocks[-1]])
    return Work(lambda: _adcc(net, explain, images), len(images))


def adcc_by_image(inputs: Inputs) -> Work:
    """The same, one image at a time: how the authors of ADCC publish it."""
    net, images = convert(inputs), images_of(inputs)
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
    net, images = convert(inputs), images_of(inputs).numpy()
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
    net, images = convert(inputs), images_of(inputs)

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
    net, images = net.train(), images_of(inputs).contiguous(memory_format=layout)
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
    "expected_gradients": (Peer("captum", gradient_shap, 1, OWN_DRAWS),),
    "lrp_epsilon": (Peer("captum", lrp, target=1),),
    "rise": (Peer("PyTorch, image by image", rise, 5),),
    "kernel_shap": (Peer("captum, image by image", kernel_shap, 5, OWN_DRAWS),),
    "forward": (Peer("PyTorch", forward),),
    "train_step": (
        Peer("PyTorch", train_step),
        Peer("PyTorch, channels last", partial(train_step, layout=torch.channels_last)),
    ),
    "distillation_step": (Peer("PyTorch", partial(train_step, distil=True)),),
}
