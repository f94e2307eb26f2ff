"""Ctrl-C and SIGTERM, held back while something must not be cut in two."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import jax

from kdxai.training import hosts

SAVED = "terminated: the state is saved, the same command continues"


class Held:
    """Attributes:
    number: the last signal that came, None before one did.
    """

    number: int | None = None


@contextmanager
def held() -> Iterator[Held]:
    """Only note Ctrl-C and SIGTERM within the block, which ends early or not; then obey them.

    Where several processes train, JAX has SIGTERM, and `hosts.stop_at` tells of it in all.

    Raises:
      KeyboardInterrupt, SystemExit: as `obey`.
    """
    asked = Held()
    if jax.process_count() > 1 or threading.current_thread() is not threading.main_thread():
        yield asked
        return

    def note(number: int, _: object) -> None:
        asked.number = number

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if asked.number:
        obey(asked.number)


def obey(number: int) -> NoReturn:
    """End the process as a signal asks, once nothing can be lost.

    Raises:
      KeyboardInterrupt: on Ctrl-C.
      SystemExit: 143 on SIGTERM, after a line on stderr.
    """
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    if hosts.is_first():
        print(SAVED, file=sys.stderr)
    raise SystemExit(128 + signal.SIGTERM)
