"""Which charts a study has: made once, for the page and for `figures/`."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from kdxai.errors import UserError
from kdxai.report import tables, titles
from kdxai.report.answer import HEADLINE
from kdxai.report.charts import images, models, squares, training
from kdxai.report.charts.chart import Chart
from kdxai.study.design import Design
from kdxai.study.measure import Measured
from kdxai.study.members import Member
from kdxai.training import history

# Of single images, where they were measured: what the answer is about, and how the truth is met.
SINGLE = (*HEADLINE, "energy_inside")


class Charts(NamedTuple):
    """What is drawn of a study, each for the page and as a file."""

    training: Sequence[Chart] = ()
    table1: Sequence[Chart] = ()
    accuracies: Sequence[Chart] = ()
    single: Sequence[Chart] = ()
    ladders: Sequence[Chart] = ()
    concord: Sequence[Chart] = ()


def charts(
    measured: Measured,
    first: Sequence[Member],
    concord: pd.DataFrame | None,
    slots: Mapping[str, int],
) -> Charts:
    """All of them.

    Args:
      first: the networks of the first seed, whose training is drawn.
      concord: which metrics agree about methods; None where there are too few methods to tell.
      slots: model -> slot, of the models that are drawn.
    """
    pair, table = main_pair(measured.design), measured.tables["table1"]
    main = table[(table.method == table.method.iloc[0]) & table.model.isin(slots)]
    records = measured.records
    records = records[records.method == measured.wanted.protocols[0].method]
    truth = None if concord is None else squares.truth(concord)
    return Charts(
        training=curves(first, slots),
        table1=table1(table, slots, measured.seeds),
        accuracies=accuracies(main, slots),
        single=single(records, slots, pair),
        ladders=ladders(measured.ladder, slots, pair, tables.doubted(measured.trust)),
        concord=[
            *([] if concord is None else [squares.concord(concord)]),
            *([] if truth is None else [truth]),
        ],
    )


def main_pair(design: Design) -> tuple[str, ...]:
    """The two models that are compared first, if any."""
    return (*design.compare, ())[0]


def curves(first: Sequence[Member], slots: Mapping[str, int]) -> list[Chart]:
    """Of training; none where nothing was trained."""
    histories = read_histories([one for one in first if was_trained(one)])
    return [training.training(histories, slots)] if histories else []


def was_trained(one: Member) -> bool:
    """Whether a training run left a model that has learned, and so its curves."""
    origin = one.model.facts.get("origin", {})
    return origin.get("kind") == "train" and bool(one.model.facts.get("best_epoch"))


def read_histories(trained: Sequence[Member]) -> dict[str, pd.DataFrame]:
    """What there is of the training curves: a missing or damaged one is left out with a warning."""
    histories = {}
    for one in trained:
        path = Path(one.place) / history.HISTORY
        try:
            rows = pd.DataFrame(history.read(Path(one.place)))
        except UserError as error:
            warnings.warn(f"{error}; the training curves leave it out", stacklevel=2)
            continue
        if set(training.COLUMNS) <= set(rows):
            histories[one.name] = rows
        else:
            warnings.warn(
                f"{path} tells of no epoch; the training curves leave it out", stacklevel=2
            )
    return histories


def ladders(
    table: pd.DataFrame,
    slots: Mapping[str, int],
    pair: Sequence[str],
    doubts: tables.Doubts = frozenset(),
) -> list[Chart]:
    """The metrics of the answer at every rung of `table`, a chart each; may be none."""
    return [
        models.ladder(table, [metric], slots, pair, named=False, doubts=doubts)
        for metric in HEADLINE
        if len(table) and metric in set(models.drawable(table).metric)
    ]


def accuracies(main: pd.DataFrame, slots: Mapping[str, int]) -> list[Chart]:
    """The metrics of the answer against accuracy, by the main method."""
    known = set(models.drawable(main).metric)
    return [
        models.scatter(main, metric, slots) for metric in HEADLINE if {metric, "accuracy"} <= known
    ]


def table1(table: pd.DataFrame, slots: Mapping[str, int], seeds: pd.DataFrame) -> list[Chart]:
    """Table 1's main metrics, a chart for each method.

    Args:
      seeds: what each network gives, with `method`; may be empty.
    """
    return [
        models.intervals(
            rows[rows.metric.isin(tables.MAIN)],
            slots,
            seeds[seeds.method == method] if len(seeds) else seeds,
            f"table1-{method}",
            f"Table 1 by {titles.method(method)}, with 95 % intervals",
        )
        for method, rows in table.groupby("method", sort=False)
    ]


def single(records: pd.DataFrame, slots: Mapping[str, int], pair: Sequence[str]) -> list[Chart]:
    """What means hide.

    Args:
      records: of the main method.
      pair: the two models that are compared image by image; may be empty.
    """
    metrics = [name for name in SINGLE if name in records and records[name].notna().all()]
    found = [images.distribution(records, metric, slots) for metric in metrics]
    if set(pair) and set(pair) <= set(slots):
        found += [images.paired(records, metric, pair, slots) for metric in metrics]
    if images.percents(records, "deletion"):
        found.append(images.removal(records, slots))
    if "confidence" in records:
        found.append(images.reliability(records, slots))
    return found
