"""Images that stay where they are until their batch is due: for data larger than a device.

Nothing here imports JAX: worker processes read and decode.
"""

import os
import pickle
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import cycle
from typing import Any, Protocol

import numpy as np

from kdxai.errors import UserError

WORKERS = max(1, min(8, (os.cpu_count() or 1) // 2))  # the other cores train
BUFFER = 2  # batches that each of them has ready


@dataclass(frozen=True, eq=False)
class Records:
    """Some images of a source, read when they are asked for: an index works as on their array.

    `records[rows]` is `records[:][rows]`, for every kind of index into the first axis.

    Attributes:
      source: `source[rows]` reads images by their number: an array, or `prepared.PreparedImages`.
      rows: int [N], which of the source's images these are.
      image_shape: (H, W, C).
      name: changes with the source's content.
      checksums: uint32 [N], CRC-32 of each image, where they are known.
    """

    source: Any
    rows: np.ndarray
    image_shape: tuple[int, ...]
    name: str
    checksums: np.ndarray | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.rows), *self.image_shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        return np.dtype(np.uint8)

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """uint8 [..., H, W, C]: the axes of the index, then those of an image."""
        chosen = np.asarray(self.rows[rows])
        return self.source[chosen.ravel()].reshape(*chosen.shape, *self.image_shape)

    def select(self, rows: np.ndarray | slice) -> "Records":
        """Some of these images, unread."""
        checksums = None if self.checksums is None else self.checksums[rows]
        return replace(self, rows=self.rows[rows], checksums=checksums)


class BatchIndices(Protocol):
    """Batches of indices, each made when it is asked for; an array or a list is one too."""

    def __len__(self) -> int: ...

    def __getitem__(self, i: int, /) -> np.ndarray: ...


@dataclass(frozen=True)
class Order:
    """The batches of a training run, step by step: shuffled by (seed, epoch) alone.

    What does not fill a batch is left out of an epoch. `order[i]` is int32 [batch_size] of the step
    `first` + i, so a run goes on at any step.
    """

    seed: int
    size: int
    batch_size: int
    first: int
    total: int

    def __len__(self) -> int:
        return max(self.total - self.first, 0)

    def __getitem__(self, i: int) -> np.ndarray:
        if not 0 <= i < len(self):
            raise IndexError(i)
        epoch, step = divmod(self.first + i, self.size // self.batch_size)
        order = _shuffled(self.seed, epoch, self.size)
        return order[step * self.batch_size :][: self.batch_size]


@lru_cache(maxsize=2)
def _shuffled(seed: int, epoch: int, size: int) -> np.ndarray:
    return np.random.default_rng([seed, epoch]).permutation(size).astype(np.int32)


@dataclass(frozen=True)
class ProcessShare:
    """The part of every batch that falls to one of several processes."""

    plan: BatchIndices
    part: int
    parts: int

    def __len__(self) -> int:
        return len(self.plan)

    def __getitem__(self, i: int) -> np.ndarray:
        return self.plan[i].reshape(self.parts, -1)[self.part]

    def __iter__(self) -> Iterator[np.ndarray]:
        return map(self.__getitem__, range(len(self)))


def batches(
    images: Records, plan: Iterable[np.ndarray], workers: int = WORKERS
) -> Iterator[np.ndarray]:
    """The images of every batch of indices in a plan, in order, read ahead.

    Args:
      workers: processes that read; 0 for a thread of this one, which is there at once. An array in
        memory needs none.

    Raises:
      UserError: an image cannot be read, or a process that reads was killed.
    """
    processes = []
    if not isinstance(images.source, np.ndarray):
        processes = [_start_reader(images.source) for _ in range(workers)]
    readers = [partial(_ask, process) for process in processes]
    readers = readers or [images.source.__getitem__]
    threads = [ThreadPoolExecutor(1) for _ in readers]
    ahead: deque[Future[np.ndarray]] = deque()
    try:
        for reader, thread, rows in zip(cycle(readers), cycle(threads), plan):
            ahead.append(thread.submit(reader, images.rows[rows]))
            if len(ahead) > BUFFER * len(readers):
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        for process in processes:
            process.kill()  # it holds nothing
        for thread in threads:
            thread.shutdown(cancel_futures=True)
        for process in processes:
            process.communicate()


def _start_reader(source: Any) -> subprocess.Popen[bytes]:
    """A process that reads a source until its input ends, as it does with this process.

    Not one of `multiprocessing`, which would import the script, and JAX with it, once more.
    """
    path = [*map(str, sys.path)]
    code = f"import sys; sys.path = {path!r}; from kdxai.data import stream; stream.serve()"
    # A signal to the process group, or to all of a job, is this process's to answer. A child keeps
    # what is blocked as it starts.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert process.stdin
    pickle.dump(source, process.stdin)
    return process


def _ask(process: Any, rows: np.ndarray) -> np.ndarray:
    """`source[rows]`, read by another process."""
    try:
        pickle.dump(rows, process.stdin)
        process.stdin.flush()
        answer = pickle.load(process.stdout)
    except (OSError, EOFError, pickle.UnpicklingError) as error:
        raise UserError(
            f"a process that reads images was ended (code {process.wait()}), perhaps for want of "
            "memory; the same command continues"
        ) from error
    if isinstance(answer, UserError):
        raise answer
    return answer


def serve() -> None:
    """Answer `_ask` until the input ends or nobody listens."""
    asked, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is no answer
    try:
        source = pickle.load(asked)
        while True:
            rows = pickle.load(asked)
            try:
                answer = source[rows]
            except UserError as error:
                answer = error
            pickle.dump(answer, answers, protocol=5)
            answers.flush()
    except (EOFError, OSError):
        os._exit(0)
