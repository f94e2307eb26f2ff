"""The progress bar of everything that takes long."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


def progress(*, quiet: bool = False) -> Progress:
    """A bar on stderr with a free `note` field; where stderr is no terminal, only printed lines.

    Args:
      quiet: neither.
    """
    # A directory may be called [red] or :b:.
    console = Console(stderr=True, quiet=quiet, markup=False, emoji=False)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[note]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=quiet or not console.is_terminal,
    )
