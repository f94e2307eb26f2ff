"""A report as files: one HTML file that needs nothing else, and Markdown."""

import re
from functools import lru_cache
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from kdxai.report import titles
from kdxai.report.report import DASH, MINUS, Report, number
from kdxai.report.sweep import times

# What begins something in Markdown wherever it stands: emphasis, code, HTML, mathematics.
SPECIAL = re.compile(r"[\\`*_<$|]|~~|\](?=\()|&(?=#?\w+;)")
INSIDE = re.compile(r"(?<=\w)\\_(?=\w)")  # an underscore within a word begins nothing
PLAIN = {ord(MINUS): "-", ord(DASH): "-", ord("\N{NO-BREAK SPACE}"): " "}


def environment(**options: Any) -> jinja2.Environment:
    """Of the templates in `page/`. Markup is told from text in both: what a macro made stays."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("kdxai.report", "page"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        **options,
    )


@lru_cache
def templates() -> jinja2.Environment:
    """Of all pages, each read once."""
    found = environment()
    found.filters |= {"number": number, "times": times}
    found.filters |= {"model": titles.model, "method": titles.method}
    return found


def macro(template: str, name: str, *values: Any) -> Markup:
    """What a macro of a template makes of some values, as a part of a page."""
    return Markup(getattr(templates().get_template(template).module, name)(*values))


def html(report: Report) -> str:
    """The page: no file beside it, no network, no script needed to read it."""
    return templates().get_template("report.html").render(report=report)


def escaped(value: Any) -> Markup:
    """A text as it is: in one line, and none of it is markup. What a macro made is left."""
    if isinstance(value, Markup):
        return value
    text = SPECIAL.sub(lambda match: "\\" + match[0], " ".join(str(value).split()))
    return Markup(INSIDE.sub("_", text).translate(PLAIN))


def markdown(report: Report) -> str:
    """Everything that a study found, its figures as files beside it."""
    found = environment(finalize=escaped)
    found.globals["address"] = quote
    text = found.get_template("report.md").render(report=report)
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"
