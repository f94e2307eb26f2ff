"""Class by class."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdxai.report import titles
from kdxai.report.report import (
    BESIDE,
    Cell,
    Part,
    Row,
    Section,
    folded,
    form_of,
    grouped,
    named,
    number,
    row,
    table,
    value_of,
)
from kdxai.study import question
from kdxai.study.stats import STATISTICS

ENDS = 10  # of many classes, how many of the worst and of the best are shown
LEAST = 2  # digits of a fraction
SHOWN = 2  # of many classes or models, metrics that are not folded away
PER_CLASS = ("accuracy", *question.BY_MASKS[:1], *question.USUAL)
Slots = Mapping[str, int]


class PerClass(NamedTuple):
    """Means of a metric over the images of each class, seeds averaged first.

    Attributes:
      means, errors: [K, M] in the order of the models; half of a 95 % interval.
      counts: [K] images.
      labels: [K].
    """

    metric: str
    labels: Sequence[int]
    counts: Sequence[int]
    means: np.ndarray
    errors: np.ndarray


def per_class(records: pd.DataFrame, models: Sequence[str]) -> list[PerClass]:
    """Means of the images of each true class, by one method, with 1.96 standard errors."""
    rows = records.assign(accuracy=(records.predicted == records.label).astype(float))
    metrics = [name for name in PER_CLASS if name in rows]
    # Seeds are averaged first: what is left varies from image to image.
    images = rows.groupby(["model", "label", "image"])[metrics].mean()
    by_class = images.groupby(["label", "model"])
    means, errors = (table.unstack("model") for table in (by_class.mean(), 1.96 * by_class.sem()))
    counts = by_class.size().groupby("label").max()
    return [
        PerClass(
            name,
            list(counts.index),
            list(counts),
            *(table[name][list(models)].to_numpy() for table in (means, errors)),
        )
        for name in metrics
    ]


def section(
    records: pd.DataFrame, names: Sequence[str], models: Sequence[str], first: str, slots: Slots
) -> Section:
    """Every class; of many the worst and the best, and the others folded.

    Args:
      records: of one method.
      names: of the classes.
      models: in their order.
      first: the model by which the worst and the best are told.
    """
    method = records.method.iloc[0]
    text = (
        f"Means over the test images of each true class ({titles.method(method)}), ± 1.96 "
        "standard errors over images (left out where all images have one value). The stronger the "
        "colour, the larger the number."
    )
    found = per_class(records, models)
    parts, whole = [], []
    many = len(found[0].labels) > 2 * ENDS
    if many:
        text += (
            f" Of {len(found[0].labels):,} classes the {ENDS} worst and the {ENDS} best by the "
            f"numbers of {titles.model(first)}; the others are below, to be searched."
        )
    columns: list[str | Cell] = ["Class", "Images", *(named(name, slots) for name in models)]
    for place, one in enumerate(found):
        title, every = titles.metric(one.metric), list(range(len(one.labels)))
        ends, closed = {"": every}, title
        if many:
            better, own = STATISTICS[one.metric].better or 1, one.means[:, models.index(first)]
            order = sorted(every, key=(better * own).__getitem__)
            ends = {f"{ENDS} worst": order[:ENDS], f"{ENDS} best": order[-ENDS:]}
            closed = f"{title}, worst and best"
            rows = (plain(one, k, names) for k in every)
            whole.append(folded(table(f"{title}, every class", columns, rows, search="class")))
        groups = [(end, [shaded(one, k, names) for k in those]) for end, those in ends.items()]
        shown = grouped(f"{title} by class", columns, groups)
        seen = place < SHOWN or not (many or len(models) > BESIDE)
        parts.append(Part(title, table=shown) if seen else Part(table=shown, folded=closed))
    return Section("classes", "Classes", "Class by class", [Part(text=text), *parts, *whole])


def shaded(one: PerClass, k: int, names: Sequence[str]) -> Row:
    """A class, its numbers shaded."""
    low, span = np.nanmin(one.means), np.ptp(one.means[np.isfinite(one.means)]) or 1.0
    line = plain(one, k, names)
    count, *numbers = line.cells
    shades = ((one.means[k] - low) / span).tolist()
    cells = [cell._replace(shade=shade) for cell, shade in zip(numbers, shades, strict=True)]
    return Row(line.head, [count, *cells])


def plain(one: PerClass, k: int, names: Sequence[str]) -> Row:
    """A class and its numbers."""
    pairs = zip(one.means[k], one.errors[k], strict=True)
    numbers = [with_error(one.metric, mean, error) for mean, error in pairs]
    return row(names[one.labels[k]], f"{one.counts[k]:,}", *numbers)


def with_error(metric: str, mean: float, error: float) -> str:
    """`0.41 ± 0.02`, `0.414 ± 0.003`: as many digits as it takes for the error not to be zero."""
    if not error > 0:
        return value_of(metric, mean, LEAST)
    scale, _, unit = form_of(metric)
    digits = max(LEAST, math.ceil(-math.log10(error)))
    _, form, _ = form_of(metric, digits)
    return f"{value_of(metric, mean, digits)} ± {number(scale * error, form)}{unit}"
