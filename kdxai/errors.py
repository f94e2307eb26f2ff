"""The one exception that a user's mistake raises."""


class UserError(Exception):
    """Something the user can mend. The message is one plain line: what is wrong and what to do.

    The launch scripts print it on stderr and exit with code 2; library callers see a normal
    exception.
    """
