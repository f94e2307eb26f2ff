"""What a compression is worth, measured on the network that it left."""

import gzip
import time
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import linen as nn
from flax.traverse_util import flatten_dict
from scipy.special import entr

from kdxai.compress.kernels import HEAD, Path, kernels
from kdxai.compress.rounding import BITS, on_grid
from kdxai.models.trained import Trained

FULL = 32  # bits of a weight that lies on no grid
BATCH, REPEATS = 32, 5  # images at a time, and how often they are timed


def worth(trained: Trained) -> dict[str, Any]:
    """What a network takes.

    Returns:
      parameters: their number, zeros included.
      nonzeros: weights of convolutions and head that are not zero.
      bits: that such a weight takes on average: the fewest, from 2 to 8, with which all weights of
        a kernel lie on symmetric grids, one grid for each output channel; 32 where none fits.
      size_bits: that all these weights take; see `size_bits`.
      bytes: of the variables as safetensors, compressed by gzip at level 6: of a download.
      multiply_adds: of convolutions and head for one image.
      multiply_adds_nonzero: those by weights that are not zero.
      seconds_per_image: on this machine, in batches of 32; the median of five, compiled before.
    """
    own = weights(trained.variables)
    nonzeros = {path: int(np.count_nonzero(weight)) for path, weight in own.items()}
    each = {path: nonzeros[path] * bits(weight) for path, weight in own.items()}
    places = positions(trained)
    arrays = flatten_dict(jax.device_get(trained.variables), sep="/")
    return {
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(trained.variables["params"])),
        "nonzeros": sum(nonzeros.values()),
        "bits": sum(each.values()) / sum(nonzeros.values()),
        "size_bits": size(trained.variables),
        "bytes": len(gzip.compress(safetensors.numpy.save(arrays), 6, mtime=0)),
        "multiply_adds": sum(places[path] * weight.size for path, weight in own.items()),
        "multiply_adds_nonzero": sum(places[path] * nonzeros[path] for path in own),
        "seconds_per_image": seconds_per_image(trained),
    }


def weights(variables: Mapping[str, Any]) -> dict[Path, np.ndarray]:
    """Those of convolutions and head."""
    return {**kernels(variables), HEAD: np.asarray(variables["params"]["head"]["kernel"])}


def size(variables: Mapping[str, Any]) -> float:
    """Bits that the weights of convolutions and head take."""
    return sum(map(size_bits, weights(variables).values()))


def bits(weight: np.ndarray) -> int:
    """The fewest with which the weights, output channels last, lie on grids of their channels."""
    return next((bits for bits in BITS if on_grid(weight, bits)), FULL)


def size_bits(weight: np.ndarray) -> float:
    """That a kernel takes: all its weights, or its non-zero ones and where they are.

    The second is the smaller where many are zero; of n weights of which a share p is not zero, the
    positions take n times the entropy -p log2(p) - (1 - p) log2(1 - p). Without them, the zeros of
    a rounded kernel would count as saved though they are one of its levels, and pruning single
    weights would look better beside pruning channels than it is. The steps of grids are left out.
    """
    own = bits(weight)
    share = np.count_nonzero(weight) / weight.size
    return float(weight.size * min(own, share * own + entr([share, 1 - share]).sum() / np.log(2)))


def positions(trained: Trained) -> dict[Path, int]:
    """{path of a kernel: how often one image is multiplied by each of its weights}."""
    found: dict[Path, int] = {}

    def note(call: Any, args: Any, options: Any, context: Any) -> Any:
        output = call(*args, **options)
        if isinstance(context.module, nn.Conv | nn.Dense):
            found[*context.module.path, "kernel"] = output.size // output.shape[-1]
        return output

    image = jax.ShapeDtypeStruct((1, *trained.image_shape), jnp.float32)
    with nn.intercept_methods(note):
        jax.eval_shape(trained.model.apply, trained.variables, image)
    return found


def seconds_per_image(trained: Trained) -> float:
    apply = jax.jit(trained.model.apply)
    images = jnp.zeros((BATCH, *trained.image_shape))
    jax.block_until_ready(apply(trained.variables, images))
    taken = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        jax.block_until_ready(apply(trained.variables, images))
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)) / BATCH
