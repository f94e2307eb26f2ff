"""Which charts a study has: made once, for the page and for `figures/`."""

from collections.abc import Mapping, Sequence

import pandas as pd

from kdxai.report import titles
from kdxai.report.answer import HEADLINE
from kdxai.report.charts import images, models
from kdxai.report.charts.chart import Chart
from kdxai.report.tables import MAIN

# Of single images, where they were measured: what the answer is about, and how the truth is met.
SINGLE = (*HEADLINE, "energy_inside")


def ladders(table: pd.DataFrame, slots: Mapping[str, int], pair: Sequence[str]) -> list[Chart]:
    """The metrics of the answer at every rung of `table`, a chart each; may be none."""
    return [
        models.ladder(table, [metric], slots, pair, named=False)
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
            rows[rows.metric.isin(MAIN)],
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
