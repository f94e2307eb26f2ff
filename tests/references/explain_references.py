"""Explanations of one small CNN by two PyTorch libraries -> explain_references.npz.

    pip install torch captum==0.9.0
    pip install --no-deps grad-cam==1.5.7 ttach && pip install opencv-python-headless scikit-learn
    python explain_references.py

The tests read the file, so a test run needs no torch. What the libraries compute otherwise than
the papers say, or than kdxai does, and what was done about it here:

- pytorch-grad-cam, GradCAMPlusPlus: adds 1e-6 to a denominator that starts with 2 g^2, and g is
  small: it is a mean over the grid. Here this moves the map by up to 1.3 % of its maximum from the
  paper's Eq. 19 (a test takes that from the derivatives themselves). The reference is therefore
  made with all logits times 1000, which makes the 1e-6 negligible.
- pytorch-grad-cam, EigenCAM: centres the features before its SVD, which the paper does not, and
  leaves the sign to chance. Not used.
- pytorch-grad-cam, ScoreCAM: resizes with align_corners=True, kdxai with half-pixel centres (as
  the same library does for the final map). Replaced here.
- pytorch-grad-cam, AblationCAM: divides by the logit, as the paper does, so a negative logit
  turns the map upside down; kdxai divides by its absolute value. Kept: the test undoes the sign.
  Its ablation layer sets a channel to min - 1e7 instead of 0 where the features' minimum is not
  exactly 0; both cuts here come after a ReLU.
- pytorch-grad-cam, FinerCAM: differentiates the probabilities by which it weighs the classes most
  like the one explained. They are constants here, as in kdxai.
- pytorch-grad-cam, EigenGradCAM: centres, as EigenCAM does. Not used.
- captum, GradientShap: draws its own random numbers. Its part that does not is called here.
- captum, GuidedGradCam: resizes by nearest neighbour unless told otherwise. Told otherwise.
"""

import pathlib
import types

import no_torchvision  # noqa: F401  # before pytorch_grad_cam
import numpy as np
import pytorch_grad_cam as pgc
import torch
from captum import attr
from captum.attr._core.gradient_shap import InputBaselineXGradient
from pytorch_grad_cam import base_cam
from pytorch_grad_cam.utils import model_targets
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

CLASSES = (0, 3)  # the class explained in each of the two images
CUTS = {"middle": 3, "last": 5}  # index of the layer whose output is the feature map

rng = np.random.default_rng(7)
data: dict[str, np.ndarray] = {
    "image": rng.normal(size=(2, 16, 16, 3)),
    "kernel1": rng.normal(size=(3, 3, 3, 6)) / 5,
    "kernel2": rng.normal(size=(3, 3, 6, 8)) / 5,
    "kernel3": rng.normal(size=(3, 3, 8, 8)) / 5,
    "head": rng.normal(size=(8, 5)),
    "bias": rng.normal(size=5) / 5,
    "small": rng.normal(size=(5, 7)),
}
data = {name: value.astype(np.float32) for name, value in data.items()}
data["class_index"] = np.array(CLASSES, np.int32)


def build(scale: float = 1.0) -> nn.Sequential:
    """The model; `scale` multiplies its logits."""
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, stride=2, padding=1, bias=False),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3, padding=1, bias=False),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    ).eval()
    with torch.no_grad():
        for index, kernel in ((0, "kernel1"), (2, "kernel2"), (4, "kernel3")):
            model[index].weight.copy_(torch.tensor(data[kernel]).permute(3, 2, 0, 1))
        model[8].weight.copy_(scale * torch.tensor(data["head"]).T)
        model[8].bias.copy_(scale * torch.tensor(data["bias"]))
    return model


class HalfPixelUpsample(nn.Upsample):
    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__(size=size, mode="bilinear", align_corners=False)


torch.nn.UpsamplingBilinear2d = HalfPixelUpsample
softmax = torch.softmax
model_targets.torch = types.SimpleNamespace(
    softmax=lambda *given, **options: softmax(*given, **options).detach(),
    nn=nn,
    tensor=torch.tensor,
)
# Its maps come resized and scaled: leave them as they are.
base_cam.scale_cam_image = lambda maps, size=None: maps

images = torch.tensor(data["image"]).permute(0, 3, 1, 2)
targets = torch.tensor(CLASSES)
data["logits"] = build()(images).detach().numpy()


def signed(explain: pgc.GradCAM) -> list[np.ndarray]:
    """Where the signed map will be, before the library's ReLU."""
    found: list[np.ndarray] = []
    draw = explain.get_cam_image
    explain.get_cam_image = lambda *a: found.append(draw(*a)) or found[-1]
    return found


for cut, index in CUTS.items():
    for name, method, scale in (
        ("grad_cam", pgc.GradCAM, 1),
        ("grad_cam_plus_plus", pgc.GradCAMPlusPlus, 1000),
        ("hires_cam", pgc.HiResCAM, 1),
        ("xgrad_cam", pgc.XGradCAM, 1),
        ("layer_cam", pgc.LayerCAM, 1),
        ("score_cam", pgc.ScoreCAM, 1),
        ("ablation_cam", pgc.AblationCAM, 1),
        ("grad_cam_elementwise", pgc.GradCAMElementWise, 1),
    ):
        model = build(scale)
        explain = method(model, [model[index]])
        found = signed(explain)
        explain(images, [ClassifierOutputTarget(c) for c in CLASSES])
        data[f"{name}/{cut}"] = found[0]
    model = build()
    explain = pgc.ShapleyCAM(model, [model[index]])
    found = signed(explain)
    explain(images, [model_targets.ClassifierOutputReST(c) for c in CLASSES])
    data[f"shapley_cam/{cut}"] = found[0]
    explain = pgc.FinerCAM(model, [model[index]])
    found = signed(explain.base_cam)
    for image, c in zip(images, CLASSES, strict=True):
        explain(image[None], alpha=0.6, target_idx=c)
    data[f"finer_cam/{cut}"] = np.concatenate(found)


def attribute(name: str, explain: attr.Attribution, **options: object) -> None:
    """Store an attribution [2, 16, 16, 3]."""
    values = explain.attribute(images.clone().requires_grad_(), target=targets, **options)
    data[name] = values.detach().permute(0, 2, 3, 1).numpy()


model = build()
attribute("gradient", attr.Saliency(model), abs=False)
attribute("gradient_x_input", attr.InputXGradient(model))
attribute(
    "integrated_gradients",
    attr.IntegratedGradients(model),
    baselines=0.3,
    n_steps=20,
    method="riemann_middle",
)
attribute("guided_backpropagation", attr.GuidedBackprop(model))
for cut, index in CUTS.items():
    attribute(
        f"guided_grad_cam/{cut}",
        attr.GuidedGradCam(model, model[index]),
        interpolate_mode="bilinear",
    )
attribute(
    "occlusion",
    attr.Occlusion(model),
    sliding_window_shapes=(3, 5, 5),
    strides=(3, 3, 3),
    baselines=0.3,
)

corners = np.arange(16) // 8
mask = torch.tensor(2 * corners[:, None] + corners)
attribute("shapley_values", attr.ShapleyValues(model), baselines=0.3, feature_mask=mask)

more = np.random.default_rng(8)
data["path/starts"] = more.normal(size=(6, 16, 16, 3)).astype(np.float32)
data["path/images"] = data["image"][:1] + more.normal(size=(6, 16, 16, 3)).astype(np.float32) / 5
data["path/times"] = more.uniform(size=6).astype(np.float32)
np.random.uniform = lambda low, high, size: data["path/times"]
ends, starts = (
    torch.tensor(data[f"path/{name}"]).permute(0, 3, 1, 2) for name in ("images", "starts")
)
paths = InputBaselineXGradient(model).attribute(ends.requires_grad_(), starts, target=CLASSES[0])
data["path"] = paths.mean(0).permute(1, 2, 0).detach().numpy()

small = torch.tensor(data["small"])[None, None]
for name, shape in (("larger", (16, 12)), ("smaller", (3, 4))):
    resized = nn.functional.interpolate(small, shape, mode="bilinear", align_corners=False)
    data[name] = resized[0, 0].numpy()

np.savez_compressed(
    pathlib.Path(__file__).with_suffix(".npz"),
    **{k: v.astype(np.float32) if v.dtype.kind == "f" else v for k, v in data.items()},
)
