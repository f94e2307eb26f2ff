"""A report as one value: all that it tells, ready to be shown by the page and in Markdown."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from markupsafe import Markup

from kdxai.report import titles
from kdxai.report.charts.chart import Chart

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"
BESIDE = 4  # models at most, of which a page holds two cards or two tables beside each other
PERCENT = ("accuracy",)  # metrics that are read in percent, their differences in points


class Cell(NamedTuple):
    """What stands at one place of a table.

    Attributes:
      notes: below it, smaller: an interval, what the number is of.
      sign: a word that judges it.
      tone: the page's class for that word, where it is not the word itself.
      mark: behind it, what a legend explains.
      slot: of a model, its colour and shape.
      shade: how strongly the page colours its ground, 0 to 1; None for not at all.
      struck: whether it does not count.
      picture: before it, of the page alone.
    """

    text: str = ""
    notes: Sequence[str] = ()
    sign: str = ""
    tone: str = ""
    mark: str = ""
    slot: int | None = None
    shade: float | None = None
    struck: bool = False
    picture: Markup = Markup("")


NOTHING = Cell(DASH)


class Row(NamedTuple):
    """What it is of, and its other cells."""

    head: Cell
    cells: Sequence[Cell]


class Table(NamedTuple):
    """A table.

    Attributes:
      name: what it is of, for those who do not see it.
      columns: their headings; the first is that of the rows' heads.
      groups: (heading, rows); the heading "" of rows that belong to no group.
      words: whether its cells are words, which begin at the left, not numbers.
      search: what its rows are searched for; "" where they are few.
    """

    name: str
    columns: Sequence[Cell]
    groups: Sequence[tuple[str, Sequence[Row]]]
    words: bool = False
    search: str = ""


class Part(NamedTuple):
    """A part of a section: what it has of these, in this order.

    Attributes:
      lead: a paragraph in larger letters.
      text: a paragraph.
      page: of the page alone.
      charts: of the page alone: in Markdown the figures' files stand for them.
      notes: paragraphs in smaller letters.
      source: to be read as it is.
      folded: what is told of it while it is closed; "" for what is always open.
    """

    heading: str = ""
    lead: str = ""
    text: str = ""
    page: Markup = Markup("")
    charts: Sequence[Chart] = ()
    table: Table | None = None
    notes: Sequence[str] = ()
    source: str = ""
    folded: str = ""


class Section(NamedTuple):
    """A section; `name` is its place on the page, `short` what leads there."""

    name: str
    short: str
    title: str
    parts: Sequence[Part]


class Answer(NamedTuple):
    """A question, the one word that answers it, and the sentence that goes on."""

    question: str
    word: str
    says: str

    def __str__(self) -> str:
        return f"{self.question} {self.word}: {self.says}".strip()


class Model(NamedTuple):
    """A model, introduced.

    Attributes:
      accuracy: in large letters; `of` is what stands below it, which may be nothing.
      size: what it is, and what it costs.
      beside: how large it is beside the reference.
    """

    name: Cell
    accuracy: str
    of: str
    role: str
    size: str
    beside: str


class Report(NamedTuple):
    """A study, told.

    Attributes:
      data: name of the data set.
      byline: what was measured, and how much of it.
      answers: the first lines.
      numbers: behind them, where something is asked.
      sentences: behind those.
      measured_on: of what the models' accuracies are.
      figures: files, each with its title.
    """

    title: str
    data: str
    byline: Sequence[str]
    answers: Sequence[Answer]
    numbers: Table | None
    sentences: Sequence[str]
    models: Sequence[Model]
    measured_on: str
    sections: Sequence[Section]
    figures: Mapping[str, str]


def row(head: str | Cell, *cells: str | Cell) -> Row:
    first, *others = (Cell(one) if isinstance(one, str) else one for one in (head, *cells))
    return Row(first, others)


def table(name: str, columns: Iterable[str | Cell], rows: Iterable[Row], **more: Any) -> Table:
    """Of rows that belong to no group."""
    return grouped(name, columns, [("", list(rows))], **more)


def grouped(
    name: str,
    columns: Iterable[str | Cell],
    groups: Sequence[tuple[str, Sequence[Row]]],
    **more: Any,
) -> Table:
    heads = row(*columns)
    return Table(name, [heads.head, *heads.cells], groups, **more)


def by_metric(
    metrics: Iterable[str], across: Iterable[Any], cell: Callable[[str, Any], str | Cell]
) -> list[Row]:
    """Metrics down, and what `cell` says of each and of what stands across."""
    columns = list(across)
    return [
        row(titles.metric(name), *(cell(name, column) for column in columns)) for name in metrics
    ]


def headed(shown: Table, **more: Any) -> Part:
    """A table below its name."""
    return Part(shown.name, table=shown, **more)


def folded(shown: Table, **more: Any) -> Part:
    """A table that is closed at first."""
    return Part(table=shown, folded=shown.name, **more)


def named(model: str, slots: Mapping[str, int]) -> Cell:
    """A model with its colour and shape, where it has them."""
    return Cell(titles.model(model), slot=slots.get(model))


def number(value: float, form: str = ".3f") -> str:
    """A number by a format, its minus sign as wide as a plus; a dash for NaN."""
    return DASH if np.isnan(value) else format(value, form).replace("-", MINUS)


def ends(low: float, high: float, form: str = ".3f") -> str:
    """`[0.120, 0.126]`; a dash where there is no interval."""
    return DASH if np.isnan(low) else f"[{number(low, form)}, {number(high, form)}]"


def estimate(mean: float, low: float, high: float, form: str = ".3f", **more: Any) -> Cell:
    """A number with its interval; a dash alone where it was not measured."""
    if np.isnan(mean):
        return NOTHING
    return Cell(number(mean, form), [ends(low, high, form)], **more)


def form_of(metric: str, digits: int = 3, *, gap: bool = False) -> tuple[float, str, str]:
    """The unit in which a metric is read: its factor, format and sign.

    Args:
      digits: of a fraction; a percentage has two fewer.
      gap: whether it is a difference.
    """
    plus = "+" * gap
    if metric not in PERCENT:
        return 1, f"{plus}.{digits}f", ""
    return 100, f"{plus}.{max(digits - 2, 0)}f", " points" if gap else "%"


def value_of(metric: str, value: float, digits: int = 3, *, gap: bool = False) -> str:
    """`0.277`, `98.2%`, `+1.2 points`: a metric's value; a dash for NaN."""
    scale, form, unit = form_of(metric, digits, gap=gap)
    return number(scale * value, form) + unit * (not np.isnan(value))


def estimate_of(
    metric: str, ends: Sequence[float], digits: int = 3, *, gap: bool = False, **more: Any
) -> Cell:
    """A metric's value with its interval.

    Args:
      ends: mean, low and high.
      digits, gap: as of `form_of`.
      more: of the cell.
    """
    scale, form, unit = form_of(metric, digits, gap=gap)
    mean, low, high = (scale * value for value in ends)
    cell = estimate(mean, low, high, form, **more)
    return cell if cell == NOTHING else cell._replace(text=cell.text + unit)


def p_value(value: float) -> str:
    if np.isnan(value):
        return DASH
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
