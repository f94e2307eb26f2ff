"""Several processes that train one model, on one host or many: meeting, agreeing, ending together.

They trust whoever can reach them: nothing is encrypted and nobody is asked for a secret, so they
belong in a trusted network. Process 0 listens on the address that --coordinator names alone.

Every process runs the same program on its share of each batch. Process 0 alone writes. One process
that JAX has not connected to others is process 0 of 1, and everything here is trivial for it.
"""

import ctypes
import ipaddress
import json
import os
import re
import signal
import socket
import sys
import textwrap
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from kdxai.errors import UserError

Tree = TypeVar("Tree")
Value = TypeVar("Value")

MEETING = 300  # seconds in which all processes must have started
HEARTBEAT = 60  # seconds without a sign of life after which a process counts as ended
LOST = (
    "error: a process of this run ended or lost its connection; give the same command again on all "
    "hosts"
)
ADVICE = (
    "start all with the same --coordinator=HOST:PORT and --processes=N, each with its own --process"
)
# How Gloo, NCCL and JAX's coordination service word it, in exceptions of several types.
CONNECTION = re.compile("Gloo|NCCL|oordination|UNAVAILABLE|ABORTED|DEADLINE_EXCEEDED")


class SharedError(UserError):
    """A UserError that every process of the run raises."""


@contextmanager
def connected(
    coordinator: str | None, processes: int | None, process: int | None, detect: bool
) -> Iterator[None]:
    """Run the block as one process of several; an end of one, for any reason, ends all.

    Args:
      coordinator: HOST:PORT of process 0, its address in a trusted network and any free port.
      processes, process: how many there are, and which this is, from 0.
      detect: let JAX find all three, from SLURM, Open MPI, a TPU pod or GKE. Where this is False
        and the others are None, the block runs alone.

    Raises:
      UserError: the arguments are no way to meet, or the processes did not; in process 0 also every
        SharedError of the block.
      SystemExit: 2 in the others for a SharedError; what the block raises.
    """
    given = [value is not None for value in (coordinator, processes, process)]
    if not detect and not any(given):
        yield
        return
    if (detect and any(given)) or (not detect and not all(given)):
        raise UserError(
            "give either all of --coordinator=HOST:PORT, --processes=N and --process=I, or "
            "--distributed alone"
        )
    meet(coordinator, processes, process)
    try:
        greet()
        yield
        jax.distributed.shutdown()
    except SharedError:
        speaks = is_first()
        jax.distributed.shutdown()
        if speaks:
            raise
        raise SystemExit(2) from None
    except SystemExit:  # on SIGTERM, in all at one step
        jax.distributed.shutdown()
        raise
    except UserError as error:
        leave(2, f"error: process {jax.process_index()}: {error}")
    except KeyboardInterrupt:
        leave(130, "interrupted; the same command on all hosts continues")
    except Exception as error:
        if not CONNECTION.search(str(error)):
            leave(1, traceback.format_exc())
        leave(1, f"{LOST} ({textwrap.shorten(str(error), 120)})")


def meet(coordinator: str | None, processes: int | None, process: int | None) -> None:
    """Connect this process with the others.

    Raises:
      UserError: the arguments cannot be right.
      SystemExit: 2 where the others do not come.
    """
    address = None
    if coordinator is not None and processes is not None and process is not None:
        address = require_free(coordinator, processes, process)
    say_on_abort(2, f"error: not all processes of this run started within {MEETING} s; {ADVICE}")
    try:
        jax.distributed.initialize(
            coordinator,
            processes,
            process,
            coordinator_bind_address=address,
            # Flags are the whole truth: no SLURM variable may choose among this host's devices.
            cluster_detection_method="deactivate" if coordinator else None,
            initialization_timeout=MEETING,
            heartbeat_timeout_seconds=HEARTBEAT,
            shutdown_timeout_seconds=HEARTBEAT,
        )
    except Exception as error:
        reason = textwrap.shorten(str(error), 120)
        if coordinator is None:
            reason = f"--distributed found no SLURM, Open MPI, TPU pod or GKE to use ({reason})"
        raise UserError(f"{reason}; {ADVICE}") from error
    say_on_abort(1, LOST)


def require_free(coordinator: str, processes: int, process: int) -> str | None:
    """The address [IP:PORT] on which process 0 is to listen; None in the others.

    Raises:
      UserError: the arguments cannot be right, or process 0 cannot listen.
    """
    if not re.fullmatch(r".+:\d+", coordinator):
        raise UserError(f"--coordinator is HOST:PORT of process 0, not '{coordinator}'")
    if not 0 <= process < processes:
        raise UserError(
            f"--process is one of 0 to {processes - 1} for --processes={processes}, not {process}"
        )
    if process:
        return None
    host, _, port = coordinator.rpartition(":")
    try:
        address = interface(host.strip("[]"))
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        with socket.socket(family) as listener:  # JAX would crash
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, int(port)))
    except (OSError, OverflowError, UnicodeError) as error:
        raise UserError(
            f"port {port} of this host cannot be used ({error}); choose another in --coordinator, "
            "whose host must be that of process 0"
        ) from error
    return f"[{address}]:{port}" if family == socket.AF_INET6 else f"{address}:{port}"


def interface(host: str) -> str:
    """The address of this host by which the others know it."""
    address = str(socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0])
    loopback = ipaddress.ip_address(address.partition("%")[0]).is_loopback
    # Many hosts know their own name by an address that only they can reach.
    return "0.0.0.0" if loopback and host not in ("localhost", address) else address


def say_on_abort(code: int, message: str) -> None:
    """End with a plain last line where JAX aborts the process.

    Its C++ client does so, after words of its own, where others raise an exception: process 0 is
    gone, another has given no sign of life, not all have come. Python's signal handlers do not run
    then, so this is one of C.
    """
    global _on_abort
    _on_abort = ctypes.CFUNCTYPE(None, ctypes.c_int)(lambda _: leave(code, message))
    ctypes.CDLL(None).signal(signal.SIGABRT, _on_abort)


_on_abort: Any = None  # C keeps no reference to it
_leaving = False


def leave(code: int, message: str) -> None:
    """End this process at once: whoever ends in order waits for the others first."""
    global _leaving
    if _leaving:  # JAX aborts while the exception of the same loss is being told
        time.sleep(5)
    else:
        _leaving = True
        sys.stdout.flush()
        os.write(2, f"{message}\n".encode())
    os._exit(code)


def greet() -> None:
    """Let all devices talk once.

    Gloo gives up where a process comes half a minute late to the first time; here all are in time.

    Raises:
      SharedError: some processes have more devices than others.
    """
    counts = Counter(device.process_index for device in jax.devices())
    if len(set(counts.values())) > 1:
        raise SharedError(
            f"the processes have {', '.join(str(counts[i]) for i in sorted(counts))} devices; "
            "give all the same number"
        )
    gather("")
    jax.pmap(lambda one: jax.lax.psum(one, "all"), axis_name="all")(np.ones(counts[0]))


def is_first() -> bool:
    """Whether this process is the one that writes and speaks."""
    return not jax.distributed.is_initialized() or jax.process_index() == 0


def require_joined() -> None:
    """Refuse to be one of several hosts unknowingly.

    Raises:
      UserError: this host computes with others that it cannot talk to, as one of a TPU pod does.
    """
    if jax.process_count() > 1 and not jax.distributed.is_initialized():
        raise UserError(
            "this is one host of several: train with launch/train.py --distributed on all, and "
            "explain on one host"
        )


def gather(text: str) -> list[str]:
    """What each process gives, in their order; all must call it."""
    if not jax.distributed.is_initialized():
        return [text]
    data = np.frombuffer(text.encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(data.size))
    if not sizes.any():
        return [""] * len(sizes)
    rows = multihost_utils.process_allgather(np.pad(data, (0, sizes.max() - data.size)))
    return [bytes(row[:size]).decode() for row, size in zip(rows, sizes, strict=True)]


def first_says(value: Any) -> Any:
    """Process 0's value, in all; what JSON can hold."""
    return json.loads(gather(json.dumps(value))[0]) if jax.distributed.is_initialized() else value


def require_same_text(text: str, message: str) -> None:
    """Check that all processes were given the same.

    Raises:
      SharedError: not all processes give the same text.
    """
    if len(set(gather(text))) > 1:
        raise SharedError(message)


@contextmanager
def together() -> Iterator[None]:
    """Let no process go on while another cannot.

    The block must not communicate: a process that fails within it would leave the others waiting.

    Raises:
      SharedError: the block raised a UserError in one of them; the first one's, in all.
    """
    if not jax.distributed.is_initialized():
        yield
        return
    problem = ""
    try:
        yield
    except UserError as error:
        problem = str(error)
    for process, message in enumerate(gather(problem)):
        if message:
            raise SharedError(f"process {process}: {message}" if process else message)


def on_first(function: Callable[[], Value]) -> Value | None:
    """Call a function that does not communicate in process 0 alone; None in the others.

    Raises:
      SharedError: it raised a UserError.
    """
    with together():
        return function() if is_first() else None


def from_first(tree: Tree | None, like: Tree) -> Tree:
    """Process 0's arrays, in all; laid out as `like`, which has their shapes and types."""
    if tree is not None and not jax.distributed.is_initialized():
        return tree
    if tree is None:
        tree = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), like)
    tree = multihost_utils.broadcast_one_to_all(jax.tree.map(np.asarray, tree))
    return jax.tree.map(lambda leaf, wanted: jax.device_put(leaf, wanted.sharding), tree, like)


def stop_at(step: int) -> bool:
    """Whether all processes are to stop after this step, since one of them got SIGTERM.

    JAX agrees on a step that none has passed. To be asked at every step.
    """
    return jax.distributed.is_initialized() and multihost_utils.reached_preemption_sync_point(step)
