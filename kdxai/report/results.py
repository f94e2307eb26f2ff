"""Table 1 and what stands beside it: each seed, the differences, the agreement of two models."""

import math
from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from kdxai.report import tables, titles
from kdxai.report.answer import sign
from kdxai.report.report import (
    NOTHING,
    Cell,
    Part,
    Row,
    Section,
    by_metric,
    estimate,
    estimate_of,
    folded,
    grouped,
    headed,
    named,
    number,
    p_value,
    row,
    table,
    value_of,
)
from kdxai.report.trusted import reasons
from kdxai.study.measure import Measured
from kdxai.study.stats import FEWEST, STATISTICS, few

ACROSS = 7  # columns of numbers that a page of 1280 pixels holds
Slots = Mapping[str, int]


def section(measured: Measured, slots: Slots) -> Section:
    """Table 1, of every method and sample."""
    main = next(iter(measured.tables.values()))
    first, doubts = main.method.iloc[0], tables.doubted(measured.trust)
    text = (
        f"Means with 95 % intervals {over(main, measured)}. An arrow says which way is better. A "
        "paired difference compares two models on the same images; it is called better or worse "
        "where its interval leaves out zero"
    )
    if doubts:
        text += (
            f" and the metric passes its checks on both. {tables.DOUBT} not trustworthy here: the "
            "matrix below says why"
        )
    text += "."
    if main.n.max() < FEWEST:
        text += f" {tables.FEW} {tables.TOO_FEW}."
    parts = [Part(text=text)]
    for every in measured.tables.values():
        for method, rows in every.groupby("method", sort=False):
            own = doubts if method == first else ()
            title = f"{titles.method(method)}, {rows.n.max():,} test images"
            again = len(parts) > 1
            parts += numbers(rows, own, slots, title, closed=again)
            parts += [] if again else reasons(measured.trust, slots)
    parts.append(Part(notes=tables.notes(measured.records, measured.missing)))
    parts += [*differences(measured.differences), *seeds(measured.seeds, slots)]
    parts += [*methods(measured.records), *agreement(measured.agreement)]
    return Section("table", "Table 1", "Table 1", [part for part in parts if any(part)])


def over(table: pd.DataFrame, measured: Measured) -> str:
    """What the intervals are about."""
    if table.seeds.max() == 1:
        return "over images, which speak of these trained models (one seed)"
    many = tables.networks_said(table)
    return f"over {many} and images, which speak of {measured.design.population()}"


def numbers(
    rows: pd.DataFrame, doubts: tables.Doubts, slots: Slots, title: str, *, closed: bool
) -> Iterator[Part]:
    """One method's numbers, metrics down: models across, then paired differences.

    Args:
      closed: also what would be open: the main metrics of the first models.
    """
    lines = rows.set_index(["model", "other", "metric"])
    order = [name for name in tables.MAIN if name in set(rows.metric)]
    rest = [name for name in rows.metric.unique() if name not in tables.MAIN]

    def cell(metric: str, pair: tuple[str, str]) -> Cell:
        if (*pair, metric) not in lines.index:  # a reference is not compared with itself
            return NOTHING
        one = lines.loc[(*pair, metric)]
        doubted = tables.is_doubted(*pair, metric, doubts)
        marks = tables.DOUBT * doubted + tables.FEW * bool(few(metric, one.n))
        word = sign(one, metric, doubted=doubted) if pair[1] else ""
        ends = one["mean"], one.ci_low, one.ci_high
        return estimate_of(metric, ends, gap=bool(pair[1]), mark=marks, sign=word)

    pairs = list(rows[["model", "other"]].drop_duplicates().itertuples(index=False, name=None))
    groups = [("Models and paired differences", pairs)]
    if len(pairs) > ACROSS:
        groups = [
            ("Models", [pair for pair in pairs if not pair[1]]),
            ("Paired differences", [pair for pair in pairs if pair[1]]),
        ]
    for more, metrics in (("", order), (", further metrics", rest)):
        for kind, every in groups:
            if not metrics or not every:
                continue
            each = math.ceil(len(every) / math.ceil(len(every) / ACROSS))  # as many in every table
            for start in range(0, len(every), each):
                those = every[start : start + each]
                which = f", {start + 1} to {start + len(those)}" if len(every) > each else ""
                name = f"{kind}{more}{which}: {title}"
                columns = [
                    titles.difference(*pair) if pair[1] else named(pair[0], slots) for pair in those
                ]
                own = table(name, ("Metric", *columns), by_metric(metrics, those, cell))
                yield folded(own) if closed or start or more else headed(own)


def seeds(every: pd.DataFrame, slots: Slots) -> list[Part]:
    """What each seed gives, of the main metrics, where there are several."""
    if every.empty or every.seed.nunique() == 1:
        return []
    parts = []
    for method, rows in every[every.metric.isin(tables.MAIN)].groupby("method", sort=False):
        known = sorted(rows.seed.unique())
        groups = []
        for metric in rows.metric.unique():
            values = rows[rows.metric == metric].set_index(["model", "seed"])["mean"]
            lines = [
                row(
                    named(model, slots),
                    *(value_of(metric, values.get((model, seed), np.nan)) for seed in known),
                )
                for model in dict.fromkeys(values.index.get_level_values("model"))
            ]
            groups.append((titles.metric(metric), lines))
        columns = ["Model", *(f"seed {seed}" for seed in known)]
        name = f"Each seed: {titles.method(method)}, means over images"
        parts.append(folded(grouped(name, columns, groups)))
    return parts


def differences(every: pd.DataFrame) -> list[Part]:
    """How large the differences are, by other measures, and where both models are right."""
    rows = every[every.metric.isin(tables.MAIN)] if len(every) else every
    if rows.empty:
        return []
    groups, columns = [], ["Metric", "Difference", "In seed-to-seed floors", "Rank-biserial"]
    columns += ["Wilcoxon p", "Where both are right", "Images"]
    for (method, one, other), pair in rows.groupby(["method", "one", "other"], sort=False):
        lines = [
            row(
                titles.metric(gap.metric),
                estimate_of(gap.metric, (gap.mean, gap.ci_low, gap.ci_high), gap=True),
                number(gap.in_floors, "+.1f"),
                number(gap.rank_biserial, "+.2f"),
                p_value(gap.wilcoxon_p),
                estimate(gap.mean_correct, gap.ci_low_correct, gap.ci_high_correct, "+.3f"),
                f"{gap.n_correct:,.0f}",
            )
            for gap in pair.itertuples()
        ]
        groups.append((f"{titles.difference(one, other)}, {titles.method(method)}", lines))
    notes = [
        "A floor is how much two runs of one recipe differ (root mean square). Wilcoxon's test and "
        "the rank-biserial correlation are over images, of these trained models."
    ]
    return [folded(grouped("How large the differences are", columns, groups), notes=notes)]


def methods(records: pd.DataFrame) -> list[Part]:
    """Every model's methods side by side, where there are several."""
    if records.method.nunique() == 1:
        return []
    metrics = [name for name in STATISTICS if name in records]
    means = records.groupby(["model", "method"], sort=False)[metrics].mean()
    order = list(records.method.unique())

    def rows(model: str) -> list[Row]:
        return by_metric(
            metrics, order, lambda metric, name: number(means[metric].get((model, name), np.nan))
        )

    groups = [(titles.model(model), rows(model)) for model in records.model.unique()]
    columns = ["Metric", *map(titles.method, order)]
    notes = [f"Means over {records.image.nunique():,} test images."]
    return [folded(grouped("Methods side by side", columns, groups), notes=notes)]


def agreement(rows: pd.DataFrame) -> list[Part]:
    """How alike two models explain the same images."""
    if rows.empty:
        return []
    numbers = rows.drop(columns=["seed", "line", "image"], errors="ignore")
    means = numbers.groupby(["model", "other", "method"], sort=False).mean()
    lines = [
        row(
            f"{titles.model(one)} and {titles.model(other)}, {titles.method(method)}",
            *map(number, values),
        )
        for (one, other, method), values in zip(means.index, means.to_numpy(), strict=True)
    ]
    notes = [
        "Means over images, both maps on the image's grid, for the class that the second model "
        "predicts; same class is how often both predict it."
    ]
    columns = ["Models", *map(titles.agreement, means)]
    name = "Agreement of two models on the same image and class"
    return [headed(table(name, columns, lines), notes=notes)]
