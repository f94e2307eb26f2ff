"""The one exception that a user's mistake raises, and how others are told in it."""

import textwrap


class UserError(Exception):
    """Something the user can mend. The message is one plain line: what is wrong and what to do.

    The launch scripts print it on stderr and exit with code 2; library callers see a normal
    exception.
    """


def line(error: Exception) -> str:
    """Any exception in one line of bearable length."""
    return textwrap.shorten(f"{type(error).__name__}: {error}", 160)
