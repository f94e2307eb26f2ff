"""The report of a study as one HTML file that needs nothing else, made to be read."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jinja2
import numpy as np
import pandas as pd

from kdxai.report import answer, drawn, facts, sweep, tables
from kdxai.report.answer import HEADLINE, MINUS, called, sign, spoken
from kdxai.report.cards import Gallery, view
from kdxai.report.charts import models as of_models
from kdxai.report.charts.chart import Chart
from kdxai.report.markdown import DEGENERATE, over
from kdxai.report.sections import Compression, Noise, seeds_said
from kdxai.study.design import Design
from kdxai.study.stats import FEWEST

NONE = pd.DataFrame()
PER_CLASS = ("accuracy", *HEADLINE)


class Page(NamedTuple):
    """All that the page shows, as plain data.

    Attributes:
      data: name of the data set.
      class_names: K names.
      results: `NAME, seed N` -> the model's facts; with `sha256` of its parameters.
      tables: file name -> columns `method, model, other, metric, mean, ci_low, ci_high, n`; the
        first method of the first is the main one.
      records: a row per model, seed, method and image.
      agreement: a row per pair of models, seed, method and image; may be empty.
      gallery: maps of the main method, by the models that have colours and pictures.
      provenance: what made the numbers.
      config: of the study.
      design: which models are compared, and what they are called.
      claims: `claims.judge` at every rung, named in a first column; the last is the sound one.
      ladder: `stats.table` of every rung, named in a first column.
      trust: `checks.trust` of the main method.
      missing: measure or check -> names of the models that it cannot be made for.
      compression: of every population that compressed networks descend from.
      noise: how alike the networks explain; None where there are no two to be told of.
      seeds: what each network gives, `method, model, metric, seed, mean`.
      training: curves of training, where there are some.
      concord: which metrics agree about methods.
    """

    data: str
    class_names: Sequence[str]
    results: Mapping[str, Mapping[str, Any]]
    tables: Mapping[str, pd.DataFrame]
    records: pd.DataFrame
    agreement: pd.DataFrame
    gallery: Gallery
    provenance: Mapping[str, Any]
    config: Mapping[str, Any]
    design: Design
    claims: pd.DataFrame = NONE
    ladder: pd.DataFrame = NONE
    trust: pd.DataFrame = NONE
    missing: Mapping[str, Sequence[str]] = {}
    compression: Sequence[Compression] = ()
    noise: Noise | None = None
    seeds: pd.DataFrame = NONE
    training: Sequence[Chart] = ()
    concord: Sequence[Chart] = ()


def templates() -> jinja2.Environment:
    """Of all pages, those in `page/`."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader("kdxai.report", "page"),
        undefined=jinja2.StrictUndefined,
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def page(content: Page) -> str:
    """The page: no file beside it, no network, no script needed to read it."""
    environment = templates()
    environment.filters |= {"number": number, "spoken": spoken, "called": called}
    environment.filters |= {"worded": tables.worded, "the": content.design.called}
    environment.filters |= {"times": sweep.times, "units": units}
    main = next(iter(content.tables.values()))
    main = main[main.method == main.method.iloc[0]]
    every = list(main.model[main.other == ""].unique())
    models = [name for name in every if name in content.gallery.heatmaps]
    design = content.design
    slots = design.slots(models)
    pair = (*design.compare, ())[0]
    own = content.records[content.records.method == main.method.iloc[0]]
    doubts = {
        (row.model, row.metric): row.why
        for row in content.trust.itertuples()
        if not row.trustworthy
    }
    seeds = int(main.seeds.max())
    return environment.get_template("report.html").render(
        page=content,
        answer=answered(content, main, seeds),
        seeds=seeds,
        count=len(every),
        images=int(main.n.max()),
        method=main.method.iloc[0],
        models=introduced(content, models),
        slots=slots,
        claims=ledger(content.claims),
        over=over(main, design),
        about=content.claims.about.iloc[-1] if len(content.claims) else "",
        too_few=tables.TOO_FEW if int(main.n.max()) < FEWEST else "",
        scope=tables.scope(content.claims) if len(content.claims) else "",
        rungs=list(dict.fromkeys(content.claims.rung)) if len(content.claims) else [],
        tables=[
            results_table(rows, name, every, doubts if name == main.method.iloc[0] else {})
            for table in content.tables.values()
            for name, rows in table.groupby("method", sort=False)
        ],
        doubts=doubts,
        ladders=drawn.ladders(content.ladder, slots, pair),
        scatters=drawn.accuracies(main, slots),
        pictures=drawn.table1(main, slots, content.seeds),
        singles=drawn.single(own, slots, pair),
        classes=per_class(content, models),
        gallery=view(content.gallery, content.records, content.class_names, slots, design),
        facts=facts,
        notes=tables.notes(content.records, content.missing),
        agreement=agreement(content.agreement),
        degenerate=degenerate(content.records),
        config=json.dumps(content.config, indent=2, default=str),
        seeds_said=seeds_said(content.noise.alike) if content.noise else "",
    )


def answered(content: Page, main: pd.DataFrame, seeds: int) -> list[str]:
    """The answer's sentences: of a sweep without claims how far it can go, and how sure all is."""
    said = answer.answer(main, content.claims, content.trust, seeds, content.design)
    if content.compression and content.claims.empty:
        return [*(view.short for view in content.compression), said[-1]]
    return list(said)


def number(value: float, signed: bool = False) -> str:
    """`0.123`, with a minus sign that is as wide as a plus; an en dash for NaN."""
    if np.isnan(value):
        return "\N{EN DASH}"
    return f"{value:{'+' if signed else ''}.3f}".replace("-", MINUS)


def units(value: float) -> str:
    """`+1.2`, of seed noise."""
    return f"{value:+.1f}".replace("-", MINUS)


def ends(row: pd.Series) -> str:
    """`[0.120, 0.126]`; an en dash where there is no interval."""
    if np.isnan(row.ci_low):
        return "\N{EN DASH}"
    return f"[{number(row.ci_low)}, {number(row.ci_high)}]"


def title(metric: str) -> str:
    """What a metric is called, its arrow never on a line of its own."""
    return re.sub(r" ([↑↓])$", "\N{NO-BREAK SPACE}\\1", tables.title(metric))


class Model(NamedTuple):
    """A model of the study, introduced; `of` says what the accuracies are."""

    name: str
    role: str
    network: str
    parameters: str
    accuracies: Sequence[float]
    of: str


def introduced(content: Page, models: Sequence[str]) -> list[Model]:
    found = []
    for name in models:
        own = [r for key, r in content.results.items() if key.rpartition(", seed ")[0] == name]
        found.append(
            Model(
                name,
                content.design.roles.get(name, ""),
                facts.network(own[0]),
                facts.parameters(own[0]),
                [facts.accuracy(result) for result in own],
                "test accuracy" if facts.is_own(own[0]) else "accuracy on the images measured",
            )
        )
    return found


class Cell(NamedTuple):
    """A mean with its interval; `sign`: better or worse than 0; `doubt`: why not to build on it."""

    mean: str
    interval: str
    sign: str
    doubt: str


class Results(NamedTuple):
    """One method's numbers: models and paired differences down, metrics across.

    Attributes:
      groups: (`Models` or `Paired differences`, [(model, other or "", [a cell per metric])]).
      main: how many of the metrics come first because they are the main ones.
    """

    method: str
    images: int
    metrics: Sequence[str]
    main: int
    groups: Sequence[tuple[str, Sequence[tuple[str, str, Sequence[Cell]]]]]


def results_table(
    rows: pd.DataFrame, method: str, models: Sequence[str], doubts: Mapping[tuple[str, str], str]
) -> Results:
    metrics = sorted(rows.metric.unique(), key=lambda name: name not in tables.MAIN)
    lines = rows.set_index(["model", "other", "metric"])

    def cell(name: str, other: str, metric: str) -> Cell:
        if (name, other, metric) not in lines.index:  # a reference is not compared with itself
            return Cell("\N{EN DASH}", "", "", "")
        row = lines.loc[(name, other, metric)]
        reasons = {doubts[one, metric] for one in (name, other) if (one, metric) in doubts}
        return Cell(
            number(row["mean"], signed=bool(other)),
            ends(row),
            sign(row, metric) if other else "",
            "; ".join(sorted(reasons)),
        )

    pairs = rows[rows.other != ""][["model", "other"]].drop_duplicates()
    groups = [
        ("Models", [(name, "") for name in models]),
        ("Paired differences", list(pairs.itertuples(index=False, name=None))),
    ]
    return Results(
        method=method,
        images=int(rows.n.max()),
        metrics=[title(name) for name in metrics],
        main=sum(name in tables.MAIN for name in metrics),
        groups=[
            (heading, [(a, b, [cell(a, b, metric) for metric in metrics]) for a, b in names])
            for heading, names in groups
            if names
        ],
    )


class Claim(NamedTuple):
    """A claim by the sound protocol, and its verdict at every rung.

    Attributes:
      interval: None where it could not be measured.
    """

    row: pd.Series
    interval: Chart | None
    verdicts: Mapping[str, str]


def ledger(claims: pd.DataFrame) -> list[Claim]:
    """Every claim by the last, the sound rung, in order."""
    if claims.empty:
        return []
    return [
        Claim(
            row,
            None if np.isnan(row.ci_low) else of_models.difference(row),
            dict(claims[claims.claim == row.claim].set_index("rung").verdict),
        )
        for _, row in answer.at_rung(claims, -1).iterrows()
    ]


class PerClass(NamedTuple):
    """One metric: classes down, models across; a value is (mean, half its interval, shade 0-1)."""

    title: str
    rows: Sequence[tuple[str, int, Sequence[tuple[float, float, float]]]]


def per_class(content: Page, models: Sequence[str]) -> list[PerClass]:
    """Means of the images of each true class, by the main method, with 1.96 standard errors."""
    rows = content.records[content.records.method == content.gallery.method]
    rows = rows.assign(accuracy=(rows.predicted == rows.label).astype(float))
    metrics = [name for name in PER_CLASS if name in rows]
    # Seeds are averaged first: what is left varies from image to image.
    images = rows.groupby(["model", "label", "image"])[metrics].mean()
    by_class = images.groupby(["label", "model"])
    means, errors = by_class.mean(), 1.96 * by_class.sem()
    counts = by_class.size().groupby("label").max()
    found = []
    for metric in metrics:
        low, span = means[metric].min(), np.ptp(means[metric]) or 1.0
        lines = []
        for label, count in counts.items():
            at = [(label, name) for name in models]
            values = zip(means.loc[at, metric], errors.loc[at, metric], strict=True)
            shaded = [(mean, error, (mean - low) / span) for mean, error in values]
            lines.append((content.class_names[label], int(count), shaded))
        found.append(PerClass(title(metric), lines))
    return found


def agreement(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Means of every pair of models and method."""
    if rows.empty:
        return []
    numbers = rows.drop(columns=["seed", "line", "image"], errors="ignore").groupby(
        ["model", "other", "method"], sort=False
    )
    return numbers.mean().reset_index().to_dict("records")


def degenerate(records: pd.DataFrame) -> list[dict[str, Any]]:
    """How many maps of every model and method are zero or another constant."""
    counts = []
    for (model, method), rows in records.groupby(["model", "method"], sort=False):
        kinds = {
            f"{column}_{kind}": int((rows[column] == kind).sum())
            for column in DEGENERATE
            for kind in ("zero", "constant")
        }
        counts.append({"model": model, "method": method, "maps": len(rows), **kinds})
    return counts
