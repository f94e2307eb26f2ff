"""The kernels of a network's convolutions: what every compression is of."""

from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

Path = tuple[str, ...]
HEAD = ("head", "kernel")


def kernels(variables: Mapping[str, Any]) -> dict[Path, np.ndarray]:
    """{path in `params`: [h, w, c_in, c_out]} of every convolution, in the order of the paths.

    The classifier head is none of them. It is under one per cent of the weights, class activation
    maps are read off it, and compressing it is known to cost most: the benchmark of Blalock et al.
    2020 leaves it dense, DoReFa-Net (Zhou et al. 2016) in full precision.
    """
    found = flatten_dict(jax.device_get(variables["params"]))
    return {
        path: np.asarray(leaf)
        for path, leaf in sorted(found.items())
        if path[-1] == "kernel" and path != HEAD
    }


def with_kernels(
    variables: Mapping[str, Any], changed: Mapping[Path, np.ndarray]
) -> dict[str, Any]:
    """The variables with some kernels replaced."""
    params = flatten_dict(dict(variables["params"]))
    assert changed.keys() <= params.keys()
    return {**variables, "params": unflatten_dict(params | dict(changed))}
