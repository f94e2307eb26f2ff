"""Small convolutional networks that learn fast, in the style of airbench (Jordan 2024)."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.core import FrozenDict

from kdxai.errors import UserError
from kdxai.models.network import HE_FAN_OUT, Layers, Network

WINDOW = 2  # of the whitening convolution
SMALLEST = 5  # pixels a side, of which the last feature map has one
EPSILON = 5e-4  # added to the variances of the patches' principal components, as published
AT_ONCE = 500  # images whose patches are held
NHWC = ("NHWC", "HWIO", "NHWC")
TORCH_UNIFORM = nn.initializers.variance_scaling(1 / 3, "fan_in", "uniform")  # of nn.Conv2d


class Whitening(nn.Module):
    """A 2x2 convolution that whitens patches and is never trained, so that no gradient comes there.

    Each principal component of the patches has two filters, one with either sign, so that the ReLU
    loses nothing. They are statistics of the training images, see `whitened`, and are kept with
    those of BatchNorm. Fresh variables hold random filters.
    """

    layers: Layers

    @nn.compact
    def __call__(self, x, train):
        del train
        channels = 2 * WINDOW * WINDOW * x.shape[-1]
        shape = (WINDOW, WINDOW, x.shape[-1], channels)
        kernel = self.variable(
            "batch_stats", "kernel", lambda: HE_FAN_OUT(self.make_rng("params"), shape)
        )
        dtype = self.layers.dtype
        x = jax.lax.conv_general_dilated(
            x.astype(dtype), kernel.value.astype(dtype), (1, 1), "VALID", dimension_numbers=NHWC
        )
        return self.layers.activation(x)


class Convolution(nn.Module):
    """3x3 convolution, 2x2 max-pooling where asked, BatchNorm of a fixed scale, ReLU."""

    width: int
    pooled: bool
    layers: Layers

    @nn.compact
    def __call__(self, x, train):
        x = self.layers.conv(self.width, (3, 3), kernel_init=identity_kernel)(x)
        if self.pooled:
            x = halved(x)
        norm = self.layers.norm(use_scale=False)
        return self.layers.activation(norm(x, use_running_average=not train))


def identity_kernel(key: jax.Array, shape: tuple[int, ...], dtype: Any = jnp.float32) -> jax.Array:
    """Kernel [3, 3, in, out] whose first channels out are those in, the rest as PyTorch's."""
    height, width, inputs, _ = shape
    kernel = TORCH_UNIFORM(key, shape, dtype)
    same = jnp.zeros((height, width, inputs, min(shape[2:])), dtype)
    diagonal = jnp.arange(same.shape[-1])
    same = same.at[height // 2, width // 2, diagonal, diagonal].set(1)
    return kernel.at[..., : same.shape[-1]].set(same)


def halved(x: jax.Array) -> jax.Array:
    """2x2 max-pooling of [N, h, w, c], an odd last row and column left out.

    By slices: the gradient of `nn.max_pool` is many times slower on a CPU.
    """
    height, width = (size // 2 * 2 for size in x.shape[1:3])
    rows = jnp.maximum(x[:, 0:height:2], x[:, 1:height:2])
    return jnp.maximum(rows[:, :, 0:width:2], rows[:, :, 1:width:2])


def whitened(variables: Mapping[str, Any], images: jax.Array) -> dict[str, Any]:
    """Variables of a fresh `airbench` network, its first filters those of the training images.

    Filter i is v_i / sqrt(lambda_i + 5e-4), with v_i, lambda_i the eigenvectors and eigenvalues of
    the second moments of all 2x2 patches, by falling eigenvalue; filter i + 12 is its negative
    (Jordan 2024).

    Args:
      images: [N, H, W, C] float, normalised.

    Raises:
      UserError: as `require_whitenable`.
    """
    require_whitenable(images.shape)
    components = WINDOW * WINDOW * images.shape[-1]
    moments, count = np.zeros((components, components)), 0
    for part in np.array_split(np.asarray(images), -(-len(images) // AT_ONCE)):
        flat = extract_patches(part.astype(np.float64))
        moments, count = moments + flat.T @ flat, count + len(flat)
    values, vectors = np.linalg.eigh(moments / count)
    filters = (vectors / np.sqrt(values.clip(0) + EPSILON))[:, ::-1]
    kernel = np.concatenate([filters, -filters], 1).reshape(WINDOW, WINDOW, images.shape[-1], -1)
    statistics = dict(variables["batch_stats"])
    statistics["units_whitening"] = {"kernel": jnp.asarray(kernel, jnp.float32)}
    return {**variables, "batch_stats": statistics}


def require_whitenable(shape: tuple[int, ...]) -> None:
    """Of the shape of images [N, H, W, C] that an airbench network is to be trained on.

    Raises:
      UserError: they are too small, or their patches fewer than the components they are to have.
    """
    number, height, width, channels = shape
    count, components = number * (height - 1) * (width - 1), WINDOW * WINDOW * channels
    if min(height, width) < SMALLEST:
        raise UserError(
            f"airbench networks need images of at least {SMALLEST}x{SMALLEST} pixels, not "
            f"{height}x{width}; take another model"
        )
    if count < components:
        raise UserError(
            f"whitening needs at least {components} patches of 2x2 pixels and there are {count}; "
            "train on more or larger images"
        )


def extract_patches(images: np.ndarray) -> np.ndarray:
    """[N, H, W, C] -> [N (H - 1) (W - 1), 4 C], in the order of a kernel [2, 2, C]."""
    windows = np.lib.stride_tricks.sliding_window_view(images, (WINDOW, WINDOW), (1, 2))
    return windows.transpose(0, 1, 2, 4, 5, 3).reshape(-1, WINDOW * WINDOW * images.shape[-1])


def airbench(first: int, second: int, third: int, num_classes: int, layers: Layers) -> Network:
    """Whitened patches, then three stages of two 3x3 convolutions; `first` to `third` channels.

    As the published network, but so that CAM is defined and maps are not too coarse: ReLU, the
    third stage is not pooled, and the head is linear on the global average. The last feature map is
    7 x 7 for 32 x 32 images.

    Raises:
      UserError: a stage without channels.
    """
    if min(first, second, third) < 1:
        raise UserError("each stage of an airbench network has at least 1 channel")
    units: dict[str, nn.Module] = {"whitening": Whitening(layers)}
    for stage, width in enumerate((first, second, third), 1):
        for block in range(2):
            pooled = stage < 3 and block == 0
            units[f"stage{stage}.block{block}"] = Convolution(width, pooled, layers)
    return Network(FrozenDict(units), num_classes)
