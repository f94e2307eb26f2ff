"""Tensors of a file into the variables of a network: every one is used once, or none."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from kdxai import models
from kdxai.errors import UserError, printable
from kdxai.models.cifar_resnet import cifar_resnet
from kdxai.models.convnext import convnext
from kdxai.models.googlenet import googlenet
from kdxai.models.mobilenetv2 import mobilenetv2
from kdxai.models.resnet import imagenet_resnet, resnet
from kdxai.models.resnext import resnext
from kdxai.models.vit import vit
from kdxai.models.weights.convnext import CONVNEXT
from kdxai.models.weights.googlenet import GOOGLENET
from kdxai.models.weights.mobilenetv2 import MOBILENETV2
from kdxai.models.weights.resnet import CIFAR_RESNET, RESNET
from kdxai.models.weights.resnext import RESNEXT
from kdxai.models.weights.source import Reader, Shape, Source
from kdxai.models.weights.vit import VIT
from kdxai.models.weights.wide_resnet import WIDE_RESNET
from kdxai.models.wide_resnet import wide_resnet

READERS: dict[Any, Reader] = {
    cifar_resnet: CIFAR_RESNET,
    resnet: RESNET,
    imagenet_resnet: RESNET,
    wide_resnet: WIDE_RESNET,
    resnext: RESNEXT,
    googlenet: GOOGLENET,
    mobilenetv2: MOBILENETV2,
    convnext: CONVNEXT,
    vit: VIT,
}
# Left by DataParallel, torch.compile and the classes that hold a network.
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "encoder.")
COUNTERS = ("num_batches_tracked", "n_averaged")  # of no use in a trained network


class Converted(NamedTuple):
    """A network's weights.

    Attributes:
      architecture: the arguments of `models.create`, but `num_classes`.
      num_classes: K, the rows of the head.
      variables: float32, as `Network.init` gives them.
    """

    architecture: dict[str, Any]
    num_classes: int
    variables: dict[str, Any]


def convert(state: Mapping[str, Any], name: str) -> Converted:
    """A PyTorch state dict as the variables of the model called `name`.

    Names of modules are those of torchvision, timm and the common repositories for CIFAR: the
    tables of this package. The number of classes, the kind of shortcut and the widths are found in
    the weights. The epsilon of norms stands in no file: it is taken to be as these have it, 1e-5
    of BatchNorm (GoogLeNet 1e-3), 1e-6 of a norm of tokens.

    Args:
      state: name -> array; kernels as PyTorch has them, output channels first.

    Raises:
      UserError: no such model, or the first tensor that does not fit it: missing, of another
        shape, without a place, not float or not finite.
    """
    arrays = {key: np.asarray(value) for key, value in state.items() if not key.endswith(COUNTERS)}
    for key, array in arrays.items():
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise UserError(f"the tensor '{printable(key)}' is {array.dtype}: weights are floats")
        if not np.isfinite(array).all():
            raise UserError(f"the tensor '{printable(key)}' holds values that are not finite")
    family = models.parse_name(name)[0]
    if family.make not in READERS:
        raise UserError(
            f"no weights from elsewhere are known for '{name}': only for {known_names()}"
        )
    prefix = shared_prefix(arrays)
    stripped = {key.removeprefix(prefix): array for key, array in arrays.items()}
    try:
        return fit_tensors(stripped, name)
    except Misfit as misfit:
        right = recognised(stripped)
        hint = f"; the weights fit '{right}'" if right else ""
        raise UserError(misfit.sentence(prefix, name) + hint) from None


class Misfit(Exception):
    """The first tensor that does not fit: `found` or `expected` is None where there is none."""

    def __init__(self, tensor: str, found: Shape | None, expected: Shape | None):
        super().__init__(tensor)
        self.tensor, self.found, self.expected = tensor, found, expected

    def sentence(self, prefix: str, name: str) -> str:
        tensor = f"'{printable(prefix + self.tensor)}'"
        if self.found is None:
            of = f" of {shape_text(self.expected)}" if self.expected else ""
            return f"'{name}' needs a tensor {tensor}{of}, which is not there"
        if self.expected is None:
            return f"'{name}' has no place for the tensor {tensor} of {shape_text(self.found)}"
        found, expected = shape_text(self.found), shape_text(self.expected)
        return f"the tensor {tensor} is {found}, but '{name}' expects {expected}"


def fit_tensors(state: Mapping[str, np.ndarray], name: str) -> Converted:
    """The variables of a model of a known name, from a state without a prefix.

    Raises:
      Misfit: the state is not of that model.
    """
    family, numbers, base = models.parse_name(name)
    reader = READERS[family.make]
    source = Source(state, reader.table)
    usual = (family.make.__kwdefaults__ or {}).get("base_width", 0)
    options = reader.options(source, numbers, base.get("base_width", usual))
    head, stem = source.shape("head"), source.shape("stem/Conv_0")
    for module, shape, dimensions in (("head", head, 2), ("stem/Conv_0", stem, 4)):
        if len(shape) != dimensions:
            raise Misfit(source.name(module), shape or None, None)
    network = models.create(name, num_classes=head[0], **options)
    leaves, unused = {}, dict(state)
    side = reader.side(source)
    for path, shape in variable_shapes(network, (1, side, side, stem[1])):
        module = "/".join(path[1:-1]).removeprefix("units_")
        key = source.name(module, path[-1])
        is_kernel = path[-1] == "kernel"
        expected = torch_layout(shape) if is_kernel else shape
        tensor = unused.pop(key, None)
        if tensor is None or (fitted := without_ones(tensor, expected)).shape != expected:
            raise Misfit(key, None if tensor is None else tensor.shape, expected)
        leaves[path] = jnp.asarray(ours(fitted) if is_kernel else fitted, jnp.float32)
    for key, tensor in unused.items():
        raise Misfit(key, tensor.shape, None)
    return Converted({"name": name, **options}, head[0], traverse_util.unflatten_dict(leaves))


def variable_shapes(
    network: models.Network, images: Shape
) -> Iterator[tuple[tuple[str, ...], Shape]]:
    """The path and shape of every variable in the order of the network, kernels first: they tell
    most about what does not fit."""
    init = partial(network.init, jax.random.key(0))
    flat = traverse_util.flatten_dict(jax.eval_shape(init, jnp.zeros(images)))
    order = [*(f"units_{unit}" for unit in network.units), "pooling", "head"]
    for path in sorted(flat, key=lambda path: (order.index(path[1]), path[-1] != "kernel", path)):
        yield path, flat[path].shape


def torch_layout(shape: Shape) -> Shape:
    """Of [h, w, inputs, outputs] and [inputs, outputs], the outputs come first in PyTorch."""
    return (*shape[:-3:-1], *shape[:-2])


def without_ones(tensor: np.ndarray, shape: Shape) -> np.ndarray:
    """Axes of one before or behind all others dropped, where that makes the shape: positions have a
    batch axis, and a dense layer may be a convolution of 1x1."""
    ones = (1,) * (tensor.ndim - len(shape))
    return tensor.reshape(shape) if tensor.shape in (ones + shape, shape + ones) else tensor


def ours(tensor: np.ndarray) -> np.ndarray:
    return np.moveaxis(tensor, (0, 1), (-1, -2))


def shared_prefix(state: Mapping[str, np.ndarray]) -> str:
    """What stands before all names and belongs to none."""
    prefix = ""
    while state:
        longer = [p for p in PREFIXES if all(key.startswith(prefix + p) for key in state)]
        if not longer:
            break
        prefix += longer[0]
    return prefix


def recognised(state: Mapping[str, np.ndarray]) -> str | None:
    """The name of the model that the weights are of, where one fits."""
    for reader in READERS.values():
        name = reader.recognise(Source(state, reader.table))
        if name is None:
            continue
        try:
            fit_tensors(state, name)
        except (Misfit, UserError):
            continue
        return name
    return None


def known_names() -> str:
    return "; ".join(family.names for family in models.FAMILIES if family.make in READERS)


def shape_text(shape: Shape | None) -> str:
    return "x".join(map(str, shape or ())) or "one number"
