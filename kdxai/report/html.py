"""The report of a study as one HTML file that needs nothing else, made to be read."""

import base64
import io
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import jinja2
import matplotlib
import numpy as np
import pandas as pd
from PIL import Image

from kdxai.metrics import coherency
from kdxai.report import answer, charts, tables
from kdxai.report.answer import HEADLINE, MINUS, called, sign, spoken
from kdxai.report.markdown import DEGENERATE, over
from kdxai.report.overlay import MAP_COLOURS, picture
from kdxai.study import plan
from kdxai.study.stats import FEWEST

NONE = pd.DataFrame()
PICTURES = 48  # in the gallery: the first images drawn
SIDE = 64  # pixels of a picture in the gallery at most: larger ones are shrunk
REFERENCE = "teacher"  # whose maps the others are compared with; else the first model's
PER_CLASS = ("accuracy", *HEADLINE)
SORTS = {"disagreement": "disagreement", "average_drop": "drop", "complexity": "complexity"}

ROLES = {
    "teacher": "the large network",
    "second_teacher": "the large network again, from another seed: the floor under differences",
    "student": "the small network, distilled from the teacher",
    "control": "the small network, trained without a teacher",
    "tiny_student": "a much smaller network, distilled from the teacher",
    "shallow_student": "a network of few layers, distilled from the teacher",
    "shallow_control": "the same few layers, trained without a teacher",
    "untrained": "the small network before any training: what structure alone explains",
    "resnext": "another kind of large network",
    "resnext_student": "the small network, distilled from the ResNeXt",
}


class Gallery(NamedTuple):
    """What the models look at in some images.

    Attributes:
      ids: [N] numbers of the images in the records.
      images: [N, H, W, C] uint8.
      heatmaps: model -> [N, H, W] in [0, 1].
      seed, method: of the maps.
    """

    ids: np.ndarray
    images: np.ndarray
    heatmaps: Mapping[str, np.ndarray]
    seed: int
    method: str


class Page(NamedTuple):
    """All that the page shows, as plain data.

    Attributes:
      data: name of the data set.
      class_names: K names.
      results: `NAME, seed N` -> `result.json` of the run; with `sha256` of its parameters.
      tables: file name -> columns `method, model, other, metric, mean, ci_low, ci_high, n`; the
        first method of the first is the main one.
      records: a row per model, seed, method and image.
      agreement: a row per pair of models, seed, method and image; may be empty.
      gallery: maps of the main method.
      provenance: what made the numbers.
      config: of the study.
      claims: `claims.judge` at every rung, named in a first column; the last is the sound one.
      ladder: `stats.table` of every rung, named in a first column.
      trust: `checks.trust` of the main method.
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
    claims: pd.DataFrame = NONE
    ladder: pd.DataFrame = NONE
    trust: pd.DataFrame = NONE


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
    environment.filters["worded"] = tables.worded
    main = next(iter(content.tables.values()))
    main = main[main.method == main.method.iloc[0]]
    models = list(main.model[main.other == ""].unique())
    slots = colours(models)
    doubts = {
        (row.model, row.metric): row.why
        for row in content.trust.itertuples()
        if not row.trustworthy
    }
    seeds = content.records.seed.nunique()
    return environment.get_template("report.html").render(
        page=content,
        answer=answer.answer(main, content.claims, content.trust, seeds),
        seeds=seeds,
        images=int(main.n.max()),
        method=main.method.iloc[0],
        models=introduced(content, models),
        slots=slots,
        claims=ledger(content.claims),
        over=over(content.records),
        about=content.claims.about.iloc[-1] if len(content.claims) else "",
        too_few=tables.TOO_FEW if int(main.n.max()) < FEWEST else "",
        scope=tables.scope(content.claims) if len(content.claims) else "",
        rungs=list(dict.fromkeys(content.claims.rung)) if len(content.claims) else [],
        tables=[
            results_table(rows, name, models, doubts if name == main.method.iloc[0] else {})
            for table in content.tables.values()
            for name, rows in table.groupby("method", sort=False)
        ],
        doubts=doubts,
        ladders=[
            charts.ladder(content.ladder, metric, slots)
            for metric in HEADLINE
            if len(content.ladder) and metric in set(content.ladder.metric)
        ],
        scatters=[
            charts.scatter(main, metric, slots)
            for metric in HEADLINE
            if {metric, "accuracy"} <= set(main.metric)
        ],
        classes=per_class(content, models),
        cards=cards(content, models),
        sorts=SORTS if len(models) > 1 else {k: v for k, v in SORTS.items() if k != "disagreement"},
        reference=reference(models),
        agreement=agreement(content.agreement),
        degenerate=degenerate(content.records),
        config=json.dumps(content.config, indent=2, default=str),
    )


def number(value: float, signed: bool = False) -> str:
    """`0.123`, with a minus sign that is as wide as a plus."""
    return f"{value:{'+' if signed else ''}.3f}".replace("-", MINUS)


def ends(row: pd.Series) -> str:
    """`[0.120, 0.126]`; an en dash where there is no interval."""
    if np.isnan(row.ci_low):
        return "\N{EN DASH}"
    return f"[{number(row.ci_low)}, {number(row.ci_high)}]"


def title(metric: str) -> str:
    """What a metric is called, its arrow never on a line of its own."""
    return re.sub(r" ([↑↓])$", "\N{NO-BREAK SPACE}\\1", tables.title(metric))


def colours(models: Sequence[str]) -> dict[str, int]:
    """Model -> its colour and shape, the same on all pages for the models of `plan.ORDER`."""
    free = [slot for slot in range(99) if slot not in map(plan.rank, models)]
    slots = {name: plan.rank(name) for name in models if name in plan.ORDER}
    rest = [name for name in models if name not in plan.ORDER]
    slots |= dict(zip(rest, free, strict=False))
    return {name: slots[name] % len(plan.ORDER) for name in models}


def reference(models: Sequence[str]) -> str:
    return REFERENCE if REFERENCE in models else models[0]


class Model(NamedTuple):
    """A model of the study, introduced."""

    name: str
    role: str
    network: str
    parameters: str
    accuracies: Sequence[float]


def introduced(content: Page, models: Sequence[str]) -> list[Model]:
    found = []
    for name in models:
        own = [r for key, r in content.results.items() if key.rpartition(", seed ")[0] == name]
        found.append(
            Model(
                name,
                ROLES.get(name, ""),
                own[0]["model"],
                f"{own[0]['parameters']:,}",
                [result["test_accuracy"] for result in own],
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
    interval: charts.Interval | None
    verdicts: Mapping[str, str]


def ledger(claims: pd.DataFrame) -> list[Claim]:
    """Every claim by the last, the sound rung, in order."""
    if claims.empty:
        return []
    return [
        Claim(
            row,
            None if np.isnan(row.ci_low) else charts.interval(row),
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


class Tile(NamedTuple):
    """One model's map of an image, and what was measured of it."""

    model: str
    description: str
    explained: str
    correct: bool
    before: float
    after: float
    drop: float
    complexity: float
    ssim: float
    degenerate: str


class Card(NamedTuple):
    """One image of the gallery.

    Attributes:
      photo, maps: data URIs; `maps` holds the models' maps side by side.
      right: whether all models that learned something name its class.
      values: what to sort by -> model, or "mean" of those that learned -> value.
    """

    id: int
    class_name: str
    photo: str
    maps: str
    right: bool
    values: Mapping[str, Mapping[str, float]]
    tiles: Sequence[Tile]


def cards(content: Page, models: Sequence[str]) -> list[Card]:
    """The gallery; disagreement is 1 - Pearson's r with the map of the reference model."""
    gallery = content.gallery
    rows = content.records
    rows = rows[(rows.seed == gallery.seed) & (rows.method == gallery.method)]
    rows = rows.set_index(["model", "image"])
    learned = [
        name
        for name in models
        if content.results[f"{name}, seed {gallery.seed}"]["best_epoch"] or len(models) == 1
    ]
    first = reference(models)
    others = [name for name in models if name != first]
    pearson = jax.vmap(coherency.pearson)
    maps = {name: jnp.asarray(drawn) for name, drawn in gallery.heatmaps.items()}
    disagreement = {name: 1 - np.asarray(pearson(maps[first], maps[name])) for name in others}
    found = []
    for place, image in enumerate(gallery.ids):
        own = {name: rows.loc[(name, image)] for name in models}
        values = {
            key: {name: float(row[key]) for name, row in own.items()}
            for key in SORTS
            if key != "disagreement"
        }
        if others:
            values["disagreement"] = {name: float(disagreement[name][place]) for name in others}
        for by_model in values.values():
            some = [by_model[name] for name in learned if name in by_model] or [*by_model.values()]
            by_model["mean"] = float(np.mean(some))
        found.append(
            Card(
                id=int(image),
                class_name=content.class_names[own[first].label],
                photo=data_uri(shrunk(Image.fromarray(picture(gallery.images[place])))),
                maps=sprite([gallery.heatmaps[name][place] for name in models]),
                right=all(own[name].predicted == own[name].label for name in learned),
                values={
                    key: {name: round(value, 4) for name, value in by_model.items()}
                    for key, by_model in values.items()
                },
                tiles=[
                    Tile(
                        model=name,
                        description=described(gallery.heatmaps[name][place]),
                        explained=content.class_names[row.explained],
                        correct=bool(row.predicted == row.label),
                        before=row.score,
                        after=row.score_masked,
                        drop=row.average_drop,
                        complexity=row.complexity,
                        ssim=row.ssim,
                        degenerate=row.degenerate,
                    )
                    for name, row in own.items()
                ],
            )
        )
    return found


def described(heatmap: np.ndarray) -> str:
    """Where a map [H, W] is, for those who do not see it."""
    if np.ptp(heatmap) == 0:
        return "the same everywhere"
    y, x = (np.array(np.unravel_index(heatmap.argmax(), heatmap.shape)) + 0.5) / heatmap.shape
    vertical, horizontal = (
        ends[int(3 * at)] for at, ends in ((y, ("top", "", "bottom")), (x, ("left", "", "right")))
    )
    where = " ".join(part for part in (vertical, horizontal) if part) or "centre"
    return f"strongest at the {where}, above half on {(heatmap > 0.5).mean():.0%} of the image"


def shrunk(image: Image.Image) -> Image.Image:
    """At most `SIDE` pixels wide and high."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    return small


def sprite(heatmaps: Sequence[np.ndarray]) -> str:
    """Maps [H, W] in [0, 1] side by side, in colour, as a data URI."""
    tiles = [
        np.asarray(shrunk(Image.fromarray(np.uint8(np.round(255 * np.clip(heatmap, 0, 1))))))
        for heatmap in heatmaps
    ]
    image = Image.fromarray(np.concatenate(tiles, axis=1))
    colours = matplotlib.colormaps[MAP_COLOURS](np.arange(256), bytes=True)[:, :3]
    image.putpalette(colours.tobytes())
    return data_uri(image)


def data_uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def agreement(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Means of every pair of models and method."""
    if rows.empty:
        return []
    numbers = rows.drop(columns=["seed", "image"]).groupby(["model", "other", "method"], sort=False)
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
