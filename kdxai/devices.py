"""The one place that spreads work over devices, those of other processes included.

`jax.pmap` orders all devices by process. Each process gives it arrays for its own devices, and the
axis `AXIS` runs over all.
"""

import collections
import contextlib
import os
import platform
import warnings
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from kdxai.errors import UserError, is_out_of_memory

AXIS = "batch"
ONEDNN = "xla_cpu_experimental_onednn_custom_call"
MOST = 8  # devices that one CPU is made into: each holds the images and the parameters
AHEAD = 4  # calls the host may run ahead of the devices


def use_cores(batch_sizes: Iterable[int]) -> None:
    """Make one device of every core of a CPU: a program each keeps them busier than one for all.

    To be called before JAX looks for its devices. A number that the user has set (in XLA_FLAGS, or
    as JAX_NUM_CPU_DEVICES) stays.

    Args:
      batch_sizes: what the devices must divide; where they cannot, there are fewer.
    """
    own = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    asked = jax.config.values["jax_num_cpu_devices"]
    if own or asked != -1:
        return
    every = os.cpu_count() or 1
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else every
    sizes = list(batch_sizes)
    counts = range(1, min(cores, MOST) + 1)
    jax.config.update(
        "jax_num_cpu_devices", max(n for n in counts if not any(size % n for size in sizes))
    )


def spread(step: Callable, *, dtype: Any = jnp.float32, donate_first: bool = False) -> Callable:
    """Run `step(state, constants, indices, ...)` on every device, a share of the batch on each.

    The first two arguments and all results are the same on every device; every further argument is
    an array [local devices, ...] that is divided. `step` reduces over the axis `AXIS` itself.

    Args:
      dtype: that the step computes in.
      donate_first: the state's memory is reused for the result.
    """
    mapped: dict[int, Any] = {}
    compiled: dict[Any, Callable] = {}

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
        program = mapped[len(shares)]
        if options := compiler_options(dtype):  # which pmap does not take
            shapes = tuple(leaf.shape for leaf in jax.tree.leaves((constants, shares)))
            if shapes not in compiled:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", "Error writing persistent compilation cache")
                    lowered = program.lower(state, constants, *shares)
                    compiled[shapes] = lowered.compile(compiler_options=options)
            program = compiled[shapes]
        return program(state, constants, *shares)

    return call


def divide(function: Callable[[Any, Any], Any], shared: Any, parts: Any) -> Any:
    """`function(shared, parts)` on every device of this process, a share of the parts on each.

    To be called inside `jax.jit`. All of `parts` and of the result are arrays [B, ...] for a B that
    the devices divide; `function` treats every entry alone, so no device waits for another. It must
    get every array as an argument: one that it finds elsewhere belongs to another mesh.
    """
    return jax.shard_map(
        function,
        mesh=_mesh(),
        in_specs=(PartitionSpec(), PartitionSpec(AXIS)),
        out_specs=PartitionSpec(AXIS),
        check_vma=False,  # nothing is reduced, so the loops of a method need no annotations
    )(shared, parts)


@contextlib.contextmanager
def without_mesh() -> Iterator[None]:
    """Forget the mesh that the caller has set: `divide` and `spread` have their own."""
    with jax.set_mesh(Mesh(np.empty((), object), ())):
        yield


def replicate(tree: Any) -> Any:
    """Put arrays on every device of this process, in the layout that `spread` returns.

    Anything else would be moved, and the step compiled once more, at its second call.
    """
    return jax.device_put(tree, NamedSharding(_mesh(), PartitionSpec()))


def fetch(results: Iterable[Any]) -> Iterator[Any]:
    """Move each result to the host, in order; few are under way at once.

    They take memory, and XLA deadlocks on a CPU of several devices with 32 programs in its queue.

    Args:
      results: made as they are asked for.
    """
    pending: collections.deque[Any] = collections.deque()
    for result in results:
        pending.append(result)
        if len(pending) > AHEAD:
            yield jax.device_get(pending.popleft())
    while pending:
        yield jax.device_get(pending.popleft())


def _mesh() -> Mesh:
    return Mesh(np.array(jax.local_devices()), (AXIS,))


def fast_bfloat16() -> bool:
    """Whether bfloat16 is faster than float32 here: accelerators, and CPUs with oneDNN's help."""
    if jax.default_backend() != "cpu":
        return True
    return _cpu_has_bfloat16() and f"{ONEDNN}=false" not in os.environ.get("XLA_FLAGS", "")


def compiler_options(dtype: Any) -> dict[str, bool]:
    """What XLA is told of a program that computes in `dtype`.

    On a CPU with instructions for it, bfloat16 is left to oneDNN: otherwise it is no faster than
    float32. A user's own flag in XLA_FLAGS stays. It is an option of these programs, not of the
    process, as JAX cannot keep what calls oneDNN in its compilation cache.
    """
    own = ONEDNN in os.environ.get("XLA_FLAGS", "")
    cpu = jax.default_backend() == "cpu"
    if dtype == jnp.bfloat16 and cpu and not own and _cpu_has_bfloat16():
        return {ONEDNN: True}
    return {}


def _cpu_has_bfloat16() -> bool:
    """Instructions for it, and a JAX that can use them (0.10 ignores the option)."""
    try:
        features = Path("/proc/cpuinfo").read_text()
    except OSError:  # not Linux
        return False
    has = "avx512_bf16" in features or "amx_bf16" in features
    return has and jax.__version_info__ >= (0, 11)


def require_divisible(batch: int) -> None:
    """Check that each device has an equal part of a batch.

    Raises:
      UserError: the devices do not divide the batch.
    """
    devices = jax.device_count()
    if batch % devices:
        raise UserError(
            f"{devices} devices do not divide batch_size={batch}; make it a multiple of {devices}"
        )


@contextlib.contextmanager
def memory(advice: str) -> Iterator[None]:
    """Tell in one line that a device's memory was not enough, and what to do.

    Raises:
      UserError: it was not.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        kind = jax.local_devices()[0].device_kind
        raise UserError(f"the memory of this device ({kind}) is not enough; {advice}") from error


def machine() -> dict[str, str]:
    """The devices and the versions of what computes, for provenance."""
    packages = ("jax", "jaxlib", "flax", "optax", "dm-pix", "numpy")
    return {
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "python": platform.python_version(),
        **{package: metadata.version(package) for package in packages},
    }
