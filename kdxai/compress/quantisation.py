"""Weights, or weights and activations, on few levels.

qwix 0.1.8 was tried first. It takes no convolution whose weights alone are rounded, or to other
bits than its input, and gives every network a class of its own, so that no two are equal and what
was compiled for one is compiled again for the next.
"""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from kdxai import inputs, models
from kdxai.compress.children import child
from kdxai.compress.kernels import Path
from kdxai.compress.rounding import BITS
from kdxai.compress.values import require_one_of, require_whole
from kdxai.data import augment
from kdxai.models.quantised import Conv, Dense
from kdxai.models.trained import Trained

ACTIVATION_BITS = 8
BATCH = 250  # images


def require_quantisable(bits: int, activations: bool = False, calibration: int = 1) -> None:
    """Check the settings of a quantisation.

    Raises:
      UserError: bits that are no whole number from 2 to 8, or other bad settings.
    """
    require_whole("bits", bits, BITS[0], BITS[-1])
    require_one_of("activations", activations, (False, True))
    require_whole("calibration", calibration, 1)


def quantise(trained: Trained, *, bits: int, images: np.ndarray | None = None) -> Trained:
    """The network with convolutions that round their weights and, given images, their inputs.

    Weights have a symmetric grid for each output channel, whose last level is the largest of them;
    inputs are int8, on a grid to plus and minus the largest that one has over the images (Nagel et
    al. 2021, "A White Paper on Neural Network Quantization", with ranges by minimum and maximum).
    The network rounds whatever its weights become, so that it can be trained and shuffled. After a
    training, quantise it again: then its weights are those that it computes with.

    Args:
      bits: 2 to 8, of the weights.
      images: [N, H, W, C] uint8, of the training set; None leaves the inputs as they are.

    Raises:
      UserError: bad bits or images.
    """
    require_quantisable(bits)
    settings: dict[str, Any] = {"bits": int(bits), "activations": images is not None}
    architecture = {**trained.architecture, "weight_bits": int(bits)}
    architecture.pop("activation_bits", None)
    statistics = flatten_dict(dict(trained.variables.get("batch_stats", {})))
    statistics = {path: leaf for path, leaf in statistics.items() if path[-1] != "range"}
    variables = {**trained.variables, "batch_stats": unflatten_dict(statistics)}
    if not statistics:
        del variables["batch_stats"]
    if images is not None:
        images = inputs.images(images)
        settings["calibration"] = len(images)
        statistics |= ranges(
            trained._replace(architecture=architecture, variables=variables), images
        )
        variables["batch_stats"] = unflatten_dict(statistics)
        architecture["activation_bits"] = ACTIVATION_BITS
    return child(trained, variables, "quantise", settings, architecture)


def ranges(trained: Trained, images: np.ndarray) -> dict[Path, np.ndarray]:
    """{path of a layer's `range`: the largest absolute input that it has over the images}."""
    model = models.create(**trained.architecture, num_classes=len(trained.class_names))

    @jax.jit
    def largest(variables: Mapping[str, Any], batch: jax.Array) -> dict[Path, jax.Array]:
        found = {}

        def note(call: Any, args: Any, options: Any, context: Any) -> Any:
            if isinstance(context.module, Conv | Dense):
                found[*context.module.path, "range"] = jnp.abs(args[0]).max()
            return call(*args, **options)

        with nn.intercept_methods(note):
            model.apply(variables, augment.normalise(batch, trained.mean, trained.std))
        return found

    totals: dict[Path, np.ndarray] = {}
    for batch in np.array_split(images, math.ceil(len(images) / BATCH)):
        found = jax.device_get(largest(trained.variables, jnp.asarray(batch)))
        totals = {path: np.maximum(one, totals.get(path, 0)) for path, one in found.items()}
    return totals
