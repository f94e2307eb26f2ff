"""Times of calls that take turns."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

Call = Callable[[], Any]


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise TimeoutError in the body once it has taken too long.

    By a Unix signal in the main thread, so a call into C++ ends before it is heeded. Anywhere else
    there is no limit.
    """
    try:
        before = signal.signal(signal.SIGALRM, _expire)
    except (AttributeError, ValueError):  # Windows; another thread
        yield
        return
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _expire(signum: int, frame: Any) -> None:
    raise TimeoutError


class Seconds(NamedTuple):
    """How long a call took.

    Attributes:
      wall: by the clock.
      cpu: processor time of all threads of this process. On one core it is the wall time of a
        machine with nothing else to do; on several, waiting threads may count as working.
    """

    wall: float
    cpu: float


def in_turns(calls: Mapping[str, Call], repeats: int) -> dict[str, list[Seconds]]:
    """The times of `repeats` calls of each, one after the other in every round.

    A machine that slows down for a while then slows all of them alike. Warm the calls up first;
    each waits for its device itself.
    """
    times: dict[str, list[Seconds]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            call()
            times[name].append(Seconds(time.perf_counter() - wall, time.process_time() - cpu))
    return times
