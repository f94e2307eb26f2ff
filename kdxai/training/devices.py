"""The one place that spreads work over devices, those of other processes included.

`jax.pmap` orders all devices by process. Each process gives it arrays for its own devices, and the
axis `AXIS` runs over all.
"""

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kdxai.errors import UserError

AXIS = "batch"


def spread(step: Callable, *, donate_first: bool = False) -> Callable:
    """Run `step(state, constants, indices, ...)` on every device, a share of the batch on each.

    The first two arguments and all results are the same on every device; every further argument is
    an array [local devices, ...] that is divided. `step` reduces over the axis `AXIS` itself.
    """
    mapped: dict[int, Callable] = {}

    def call(state: Any, constants: Any, *shares: np.ndarray) -> Any:
        # out_axes=None leaves results unstacked: no replicate, no gather to read them.
        if len(shares) not in mapped:
            mapped[len(shares)] = jax.pmap(
                step,
                axis_name=AXIS,
                in_axes=(None, None, *(0 for _ in shares)),
                out_axes=None,
                donate_argnums=0 if donate_first else (),
            )
        return mapped[len(shares)](state, constants, *shares)

    return call


def replicate(tree: Any) -> Any:
    """Put arrays on every device of this process, in the layout that `spread` returns.

    Anything else would be moved, and the step compiled once more, at its second call.
    """
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def require_divisible(batch: int) -> None:
    """Raises:
    UserError: the devices do not divide the batch.
    """
    devices = jax.device_count()
    if batch % devices:
        raise UserError(
            f"{devices} devices do not divide batch_size={batch}; make it a multiple of {devices}"
        )


def share(values: np.ndarray) -> np.ndarray:
    """The global batch [B, ...] -> this process's part of it, [local devices, B / devices, ...]."""
    parts = values.reshape(jax.process_count(), jax.local_device_count(), -1, *values.shape[1:])
    return parts[jax.process_index()]
