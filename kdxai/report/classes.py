"""Class by class."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdxai.report import titles
from kdxai.report.report import Cell, Part, Row, Section, Table, named, number, one_group
from kdxai.study import question

ENDS = 10  # of many classes, how many of the worst and of the best are shown
SHOWN = 2  # of many classes, metrics that are not folded away
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
    found, parts, folded = per_class(records, models), [], []
    many = len(found[0].labels) > 2 * ENDS
    if many:
        text += (
            f" Of {len(found[0].labels):,} classes the {ENDS} worst and the {ENDS} best by the "
            f"numbers of {titles.model(first)}; the others are below, to be searched."
        )
    columns = [Cell("Class"), Cell("Images"), *(named(name, slots) for name in models)]
    for place, one in enumerate(found):
        title = titles.metric(one.metric)
        own, every = one.means[:, models.index(first)], range(len(one.labels))
        better = -1 if "↓" in title else 1
        order = sorted(every, key=lambda k: better * own[k])
        groups = one_group(row(one, k, names) for k in every)
        if many:
            ends = {f"{ENDS} worst": order[:ENDS], f"{ENDS} best": order[-ENDS:]}
            whole = one_group(plain(one, k, names) for k in every)
            table = Table(f"{title}, every class", columns, whole, search="class")
            folded.append(Part(table=table, folded=table.name))
            groups = [(end, [row(one, k, names) for k in those]) for end, those in ends.items()]
        table = Table(f"{title} by class", columns, groups)
        closed = f"{title}, worst and best" if many and place >= SHOWN else ""
        parts.append(Part("" if closed else title, table=table, folded=closed))
    return Section("classes", "Classes", "Class by class", [Part(text=text), *parts, *folded])


def row(one: PerClass, k: int, names: Sequence[str]) -> Row:
    """A class, its numbers shaded."""
    low, span = np.nanmin(one.means), np.ptp(one.means[np.isfinite(one.means)]) or 1.0
    plainly = plain(one, k, names)
    shades = [*(float(mean - low) / span for mean in one.means[k])]
    shaded = [
        cell._replace(shade=shade) for cell, shade in zip(plainly.cells[1:], shades, strict=True)
    ]
    return plainly._replace(cells=[plainly.cells[0], *shaded])


def plain(one: PerClass, k: int, names: Sequence[str]) -> Row:
    """A class and its numbers."""
    cells = [Cell(f"{one.counts[k]:,}")]
    for mean, error in zip(one.means[k], one.errors[k], strict=True):
        about = f" ± {error:.2f}" if error > 0 else ""
        cells.append(Cell(f"{number(mean, '.2f')}{about}"))
    return Row(Cell(names[one.labels[k]]), cells)
