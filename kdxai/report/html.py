"""The report of a study as one HTML file that needs nothing else, made to be read."""

from functools import lru_cache
from typing import Any

import jinja2
from markupsafe import Markup

from kdxai.report import titles
from kdxai.report.report import Report, number
from kdxai.report.sweep import times


@lru_cache
def templates() -> jinja2.Environment:
    """Of all pages, those in `page/`, each read once."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("kdxai.report", "page"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "times": times}
    environment.filters |= {"model": titles.model, "method": titles.method}
    return environment


def macro(template: str, name: str, *values: Any) -> Markup:
    """What a macro of a template makes of some values, as a part of a page."""
    return Markup(getattr(templates().get_template(template).module, name)(*values))


def page(report: Report) -> str:
    """The page: no file beside it, no network, no script needed to read it."""
    return templates().get_template("report.html").render(report=report)
