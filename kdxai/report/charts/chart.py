"""What a chart is: a figure, and what is told beside it."""

import io
import textwrap
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from markupsafe import Markup
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from kdxai import files
from kdxai.report.charts.look import NO_GLYPH, SOFT, styled
from kdxai.report.charts.svg import is_wide, svg


class Chart(NamedTuple):
    """A figure and what is told beside it.

    Attributes:
      name: of its file; on a page its ids begin with it.
      description: what it shows, for those who do not see it.
      says: its numbers, a line each.
      note: how to read it; "" where that is plain.
    """

    name: str
    title: str
    description: str
    figure: Figure
    says: Sequence[str] = ()
    note: str = ""

    @property
    def wide(self) -> bool:
        """Whether a telephone shows it in parts."""
        return is_wide(self.figure)

    @property
    def svg(self) -> Markup:
        """For a page."""
        return svg(self.figure, self.name, self.title, self.description)

    def save(self, directory: Path) -> str:
        """Write it as a PNG; returns the file's name.

        Raises:
          UserError: it cannot be written.
        """
        save(self.figure, directory / f"{self.name}.png", self.title, self.note)
        return f"{self.name}.png"


@styled
def save(figure: Figure, path: Path, title: str, note: str = "") -> None:
    """Write a figure as a PNG, with its title and note above, which a page has beside it.

    Raises:
      UserError: it cannot be written.
    """
    buffer = io.BytesIO()
    width, height = figure.get_size_inches()
    lines = textwrap.wrap(note, int(14 * width))
    below, above = (0.16 * len(lines) + gap for gap in (0.12, 0.45))
    said = [
        figure.text(0.1 / width, 1 + below / height, title, fontsize=12, weight="bold"),
        figure.text(0.1 / width, 1 + 0.08 / height, "\n".join(lines), fontsize=9, color=SOFT),
    ]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", NO_GLYPH)
        whole = Bbox([[0, 0], [width, height + above]])
        figure.savefig(buffer, format="png", dpi=144, bbox_inches=whole)
    for text in said:
        text.remove()
    files.write_bytes(path, buffer.getvalue())
