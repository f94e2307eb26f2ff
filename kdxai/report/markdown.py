"""The report of a study in Markdown."""

import re
from typing import Any
from urllib.parse import quote

import jinja2
from markupsafe import Markup

from kdxai.report.report import DASH, MINUS, Report

# What begins something in Markdown wherever it stands: emphasis, code, HTML, mathematics.
SPECIAL = re.compile(r"[\\`*_<$|]|~~|\](?=\()|&(?=#?\w+;)")
INSIDE = re.compile(r"(?<=\w)\\_(?=\w)")  # an underscore within a word begins nothing
PLAIN = {ord(MINUS): "-", ord(DASH): "-", ord("\N{NO-BREAK SPACE}"): " "}


def escaped(value: Any) -> Markup:
    """A text as it is: in one line, and none of it is markup. What a macro made is left."""
    if isinstance(value, Markup):
        return value
    text = SPECIAL.sub(lambda match: "\\" + match[0], " ".join(str(value).split()))
    return Markup(INSIDE.sub("_", text).translate(PLAIN))


def text(report: Report) -> str:
    """Everything that a study found, on one page, its figures as files beside it."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kdxai.report", "page"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,  # so that macros return what is escaped already
        finalize=escaped,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["address"] = quote
    made = environment.get_template("report.md").render(report=report)
    return re.sub(r"\n{3,}", "\n\n", made).strip() + "\n"
