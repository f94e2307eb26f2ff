"""What the sections on compression and on seed noise say, on the page and in Markdown."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdxai.report import headline, sweep, tables
from kdxai.report.answer import spoken
from kdxai.report.charts import squares
from kdxai.report.charts.chart import Chart
from kdxai.report.charts.sweeps import TITLES, Kind, curve, kinds
from kdxai.report.films import Film, Seen
from kdxai.report.seeds import Alike
from kdxai.report.sweep import Leaving, Sweep

NONE = pd.DataFrame()
# In the table of a sweep, beside accuracy and agreement.
ALONG = tuple(name for name in tables.MAIN if name not in ("accuracy", "adcc_of_means"))


class Along(NamedTuple):
    """A step of a sweep, and of every metric its mean and that where all networks are right."""

    step: pd.Series
    metrics: Sequence[tuple[float, float]]


class Compression(NamedTuple):
    """What is told of one sweep.

    Attributes:
      dense: the population.
      title: "" where there is one sweep alone.
      short, headline: how far it can be compressed, and the numbers behind that.
      banded: whether there is a seed band.
      dead: whether any network is at chance.
      caption: how to read the charts.
      leaving, right: where each kind leaves the band, on all images and on those that both get
        right; empty where there is no band.
      seen: how to read the films; "" where there are none.
      metrics: titles of those of `rows`.
      rows: by kind.
      forgotten: `sweeps.forgotten` by the measure of agreement of the charts.
    """

    dense: str
    title: str
    short: str
    headline: str
    kinds: Sequence[Kind]
    slots: Mapping[str, int]
    banded: bool
    dead: bool
    curves: Sequence[Chart]
    caption: str
    leaving: Sequence[Leaving]
    right: Sequence[Leaving]
    seen: str
    films: Sequence[Film]
    metrics: Sequence[str]
    rows: Sequence[tuple[str, Sequence[Along]]]
    forgotten: pd.DataFrame


class Tables(NamedTuple):
    """Of one sweep and method, or of several: `sweeps.sweep` and `sweeps.forgotten`."""

    along: pd.DataFrame
    forgotten: pd.DataFrame


def compression(
    one: Sweep, own: Tables, shown: Sequence[Film], says: str, classes: int
) -> Compression:
    """What is told of a sweep.

    Args:
      own: of the sweep, by one method.
      shown, says: an image as its networks see it, and how to read that; may be empty.
      classes: how many there are.
    """
    known = set(own.along.metric)
    metrics = [name for name in ALONG if name in known]
    forgotten = own.forgotten
    if len(forgotten):
        forgotten = forgotten[forgotten.metric == f"agreement_{sweep.ALIKE}"]
    return Compression(
        dense=one.dense,
        title="",
        short=headline.short(one),
        headline=headline.headline(one),
        kinds=kinds(one),
        slots={kind.name: kind.slot for kind in kinds(one)},
        banded="agreement" in one.bands,
        dead=bool(one.networks.collapsed.any()),
        curves=[
            curve(one, column, classes) for column in TITLES if one.networks[column].notna().any()
        ],
        caption=caption(one),
        leaving=sweep.leaving(one),
        right=sweep.leaving(one, "agreement_right"),
        seen=says,
        films=shown,
        metrics=[tables.title(name) for name in metrics],
        rows=along(one, own.along, metrics),
        forgotten=forgotten,
    )


def along(one: Sweep, table: pd.DataFrame, metrics: Sequence[str]) -> list[tuple[str, list[Along]]]:
    """Metrics of every step, by kind."""
    means = table.set_index(["model", "metric"])[["mean", "mean_correct"]]
    return [
        (
            kind,
            [
                Along(step, [tuple(means.loc[step.model, name]) for name in metrics])
                for _, step in rows.iterrows()
            ],
        )
        for kind, rows in sweep.kinds(one)
    ]


def caption(one: Sweep) -> str:
    """How to read the charts."""
    count = len(one.parents)
    text = (
        "The factor compares the bits that the weights take. Small dots are networks, large marks "
        "their means"
    )
    if "agreement" not in one.bands:
        return (
            f"{text}. There is one network of {spoken(one.dense)}, so there is no band: nothing "
            "tells how much training it again would change these numbers."
        )
    pairs = one.bands["agreement"].size
    return (
        f"{text}. The band is what another seed changes: from the least to the most, with the mean,"
        f" of the {count} networks of {spoken(one.dense)}; of agreement, of their {pairs} "
        f"{'pair' if pairs == 1 else 'pairs'}."
    )


def reading(seen: Seen, dense: str) -> str:
    """How to read the maps of one image."""
    return (
        f"Test image {seen.number}, the first of those drawn, and its maps for its true class, "
        f"“{seen.class_name}”, by the first network of {spoken(dense)} and what was made of it. "
        "Below: the factor; r with the parent's map of this image; accuracy on all images, and "
        "whether the network names this one's class."
    )


class Noise(NamedTuple):
    """What is told of seed noise.

    Attributes:
      floors: metric's title -> population -> how far two of its networks differ, with the 95 %
        interval; empty where no population has two networks.
      populations: the columns of that.
      noise: rows of `distances.noise` by the main measure of agreement.
      more: those by the others.
    """

    alike: Alike
    matrix: Chart
    strips: Chart
    floors: Mapping[str, Mapping[str, str]]
    populations: Sequence[str]
    noise: pd.DataFrame
    more: pd.DataFrame


def seed_noise(
    found: Alike, floors: pd.DataFrame, noise: pd.DataFrame, sweeps: Sequence[Sweep]
) -> Noise:
    """What is told of the networks' agreement.

    Args:
      floors, noise: of one method; may be empty. Of a sweep's models the floors are left out: they
        are as many as it has steps, and in the file.
    """
    steps = {model for one in sweeps for model in one.steps.model}
    if len(floors):
        floors = floors[~floors.model.isin(steps)]
    table: dict[str, dict[str, str]] = {}
    for row in floors.itertuples():
        ends = "" if np.isnan(row.ci_low) else f" [{row.ci_low:.4f}, {row.ci_high:.4f}]"
        table.setdefault(tables.title(row.metric), {})[row.model] = f"{row.floor:.4f}{ends}"
    main = noise[noise.metric == sweep.ALIKE] if len(noise) else noise
    return Noise(
        alike=found,
        matrix=squares.matrix(found),
        strips=squares.strips(found),
        floors=table,
        populations=list(dict.fromkeys(floors.model)) if len(floors) else [],
        noise=main,
        more=noise.drop(index=main.index),
    )


def seeds_said(found: Alike) -> str:
    """How far two seeds are from each other, in a sentence."""
    several = [one for one in found.pairs if one.within]
    if not several:
        return (
            "No population here has two networks, so nothing tells how much another seed would "
            "change: give each model networks that differ in the seed alone."
        )
    said = [f"{one.what} agree at r = {headline.span(sweep.band(one.values))}" for one in several]
    return f"On {found.images:,} images {'; '.join(said)}."
