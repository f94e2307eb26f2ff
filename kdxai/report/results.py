"""Table 1 and what stands beside it: each seed, the differences, the agreement of two models."""

from collections.abc import Collection, Iterator, Mapping, Sequence

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
    Table,
    estimate,
    heads,
    named,
    number,
    one_group,
    p_value,
)
from kdxai.report.trusted import reasons
from kdxai.study.measure import Measured
from kdxai.study.stats import FEWEST, STATISTICS, few

ACROSS = 9  # columns of numbers that a page of 1280 pixels holds
Slots = Mapping[str, int]
Doubts = Collection[tuple[str, str]]  # (model, metric)


def section(measured: Measured, slots: Slots) -> Section:
    """Table 1, of every method and sample."""
    main = next(iter(measured.tables.values()))
    first, doubts = main.method.iloc[0], tables.doubted(measured.trust)
    text = (
        f"Means with 95 % intervals {over(main, measured)}. An arrow says which way is better. A "
        "paired difference compares two models on the same images; it is called better or worse "
        "where its interval leaves out zero."
    )
    if doubts:
        text += f" {tables.DOUBT} not trustworthy here: the matrix below says why."
    if main.n.max() < FEWEST:
        text += f" {tables.FEW} {tables.TOO_FEW}."
    parts = [Part(text=text)]
    for table in measured.tables.values():
        for method, rows in table.groupby("method", sort=False):
            own = doubts if method == first else ()
            title = f"{titles.method(method)}, {rows.n.max():,} test images"
            every = list(numbers(rows, own, slots, title))
            if len(parts) > 1:
                every = [part._replace(heading="", folded=title_of(part)) for part in every]
            parts += every
            if len(parts) == 1 + len(every):
                parts += reasons(measured.trust, slots)
    parts.append(Part(notes=tables.notes(measured.records, measured.missing)))
    parts += [*differences(measured.differences), *seeds(measured.seeds, slots)]
    parts += [*methods(measured.records), *agreement(measured.agreement)]
    return Section("table", "Table 1", "Table 1", [part for part in parts if any(part)])


def title_of(part: Part) -> str:
    """What a part is told by while it is closed."""
    return part.folded or (part.table.name if part.table else "")


def over(table: pd.DataFrame, measured: Measured) -> str:
    """What the intervals are about."""
    if table.seeds.max() == 1:
        return "over images, which speak of these trained models (one seed)"
    many = tables.networks_said(table)
    return f"over {many} and images, which speak of {measured.design.population()}"


def numbers(rows: pd.DataFrame, doubts: Doubts, slots: Slots, title: str) -> Iterator[Part]:
    """One method's numbers, metrics down: models across, then paired differences."""
    lines = rows.set_index(["model", "other", "metric"])
    order = [name for name in tables.MAIN if name in set(rows.metric)]
    rest = [name for name in rows.metric.unique() if name not in tables.MAIN]

    def cell(name: str, other: str, metric: str) -> Cell:
        if (name, other, metric) not in lines.index:  # a reference is not compared with itself
            return NOTHING
        row = lines.loc[(name, other, metric)]
        marks = tables.DOUBT * tables.is_doubted(name, other, metric, doubts)
        marks += tables.FEW * bool(few(metric, row.n))
        said = {"mark": marks, "sign": sign(row, metric) if other else ""}
        return estimate(row["mean"], row.ci_low, row.ci_high, "+.3f" if other else ".3f", **said)

    def table(kind: str, those: Sequence[tuple[str, str]], metrics: Sequence[str]) -> Table:
        columns = [Cell("Metric")]
        columns += [
            Cell(titles.difference(*pair)) if pair[1] else named(pair[0], slots) for pair in those
        ]
        found = [
            Row(Cell(titles.metric(metric)), [cell(*pair, metric) for pair in those])
            for metric in metrics
        ]
        return Table(f"{kind}: {title}", columns, one_group(found))

    pairs = list(rows[["model", "other"]].drop_duplicates().itertuples(index=False, name=None))
    groups = [("Models and paired differences", pairs)]
    if len(pairs) > ACROSS:
        groups = [
            ("Models", [pair for pair in pairs if not pair[1]]),
            ("Paired differences", [pair for pair in pairs if pair[1]]),
        ]
    for more, metrics in (("", order), (", further metrics", rest)):
        for kind, every in groups if metrics else ():
            for start in range(0, len(every), ACROSS):
                those = every[start : start + ACROSS]
                which = f", {start + 1} to {start + len(those)}" if len(every) > ACROSS else ""
                own = table(f"{kind}{more}{which}", those, metrics)
                closed = bool(start or more)
                yield Part("" if closed else own.name, table=own, folded=own.name if closed else "")


def seeds(table: pd.DataFrame, slots: Slots) -> list[Part]:
    """What each seed gives, of the main metrics, where there are several."""
    if table.empty or table.seed.nunique() == 1:
        return []
    parts = []
    for method, rows in table[table.metric.isin(tables.MAIN)].groupby("method", sort=False):
        known = sorted(rows.seed.unique())
        groups = []
        for metric in rows.metric.unique():
            values = rows[rows.metric == metric].set_index(["model", "seed"])["mean"]
            lines = [
                Row(
                    named(model, slots),
                    [Cell(number(values.get((model, seed), np.nan))) for seed in known],
                )
                for model in dict.fromkeys(values.index.get_level_values("model"))
            ]
            groups.append((titles.metric(metric), lines))
        columns = heads("Model", *(f"seed {seed}" for seed in known))
        name = f"Each seed: {titles.method(method)}, means over images"
        parts.append(Part(table=Table(name, columns, groups), folded=name))
    return parts


def differences(table: pd.DataFrame) -> list[Part]:
    """How large the differences are, by other measures, and where both models are right."""
    rows = table[table.metric.isin(tables.MAIN)] if len(table) else table
    if rows.empty:
        return []
    groups, columns = [], heads("Metric", "Difference", "In seed-to-seed floors", "Rank-biserial")
    columns += heads("Wilcoxon p", "Where both are right", "Images")
    for (method, one, other), pair in rows.groupby(["method", "one", "other"], sort=False):
        lines = [
            Row(
                Cell(titles.metric(row.metric)),
                [
                    estimate(row.mean, row.ci_low, row.ci_high, "+.3f"),
                    Cell(number(row.in_floors, "+.1f")),
                    Cell(number(row.rank_biserial, "+.2f")),
                    Cell(p_value(row.wilcoxon_p)),
                    estimate(row.mean_correct, row.ci_low_correct, row.ci_high_correct, "+.3f"),
                    Cell(f"{row.n_correct:,.0f}"),
                ],
            )
            for row in pair.itertuples()
        ]
        groups.append((f"{titles.difference(one, other)}, {titles.method(method)}", lines))
    notes = [
        "A floor is how much two runs of one recipe differ (root mean square). Wilcoxon's test and "
        "the rank-biserial correlation are over images, of these trained models."
    ]
    name = "How large the differences are"
    return [Part(table=Table(name, columns, groups), notes=notes, folded=name)]


def methods(records: pd.DataFrame) -> list[Part]:
    """Every model's methods side by side, where there are several."""
    if records.method.nunique() == 1:
        return []
    metrics = [name for name in STATISTICS if name in records]
    means = records.groupby(["model", "method"], sort=False)[metrics].mean()
    order = list(records.method.unique())
    groups = [
        (
            titles.model(model),
            [
                Row(
                    Cell(titles.metric(metric)),
                    [Cell(number(means[metric].get((model, name), np.nan))) for name in order],
                )
                for metric in metrics
            ],
        )
        for model in records.model.unique()
    ]
    name = "Methods side by side"
    notes = [f"Means over {records.image.nunique():,} test images."]
    return [
        Part(
            table=Table(name, heads("Metric", *map(titles.method, order)), groups),
            notes=notes,
            folded=name,
        )
    ]


def agreement(rows: pd.DataFrame) -> list[Part]:
    """How alike two models explain the same images."""
    if rows.empty:
        return []
    numbers = rows.drop(columns=["seed", "line", "image"], errors="ignore")
    means = numbers.groupby(["model", "other", "method"], sort=False).mean()
    columns = heads("Models", *map(titles.agreement, means))
    lines = [
        Row(
            Cell(f"{titles.model(one)} and {titles.model(other)}, {titles.method(method)}"),
            [Cell(number(value)) for value in row],
        )
        for (one, other, method), row in zip(means.index, means.to_numpy(), strict=True)
    ]
    heading = "Agreement of two models on the same image and class"
    notes = [
        "Means over images, both maps on the image's grid, for the class that the second model "
        "predicts; same class is how often both predict it."
    ]
    return [Part(heading=heading, table=Table(heading, columns, one_group(lines)), notes=notes)]
