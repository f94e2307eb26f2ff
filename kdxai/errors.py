"""The one exception that a user's mistake raises, and how others are told in it."""

import re
import textwrap

# How XLA, CUDA and cuDNN word it, in exceptions of no type of their own.
_NO_MEMORY = re.compile("RESOURCE_EXHAUSTED|CUDA_ERROR_OUT_OF_MEMORY|STATUS_ALLOC_FAILED")


class UserError(Exception):
    """Something the user can mend. The message is one plain line: what is wrong and what to do.

    The launch scripts print it on stderr and exit with code 2; library callers see a normal
    exception.
    """


def one_line(error: BaseException) -> str:
    """Any exception in one line of bearable length."""
    return textwrap.shorten(f"{type(error).__name__}: {error}", 160)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the memory of a device, or of the host, did not hold what was asked for.

    A full disk is not meant, though TensorStore calls that RESOURCE_EXHAUSTED as well: in a
    ValueError or an OSError, where JAX raises a RuntimeError.
    """
    if isinstance(error, MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error)))


def printable(text: str) -> str:
    """A text that no terminal takes for commands: ESC and its like are escaped, as `\\x1b`.

    Names of files and models stand in messages, and come from anywhere.
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
