"""The sections on compression and on seed noise."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdxai.report import headline, pages, sweep, tables, titles
from kdxai.report.charts import squares
from kdxai.report.charts.sweeps import TITLES, curve, kinds
from kdxai.report.films import Film, Seen
from kdxai.report.report import (
    NOTHING,
    Answer,
    Cell,
    Part,
    Section,
    by_metric,
    ends,
    estimate,
    estimate_of,
    folded,
    grouped,
    headed,
    number,
    p_value,
    row,
    table,
)
from kdxai.report.seeds import Alike
from kdxai.report.sweep import Sweep, times

NONE = pd.DataFrame()
# In the table of a sweep, beside accuracy and agreement.
ALONG = tuple(name for name in tables.MAIN if name not in ("accuracy", "adcc_of_means"))
MANY = 12  # comparisons from which they are folded away


class Tables(NamedTuple):
    """Of one sweep and method, or of several: `sweeps.sweep` and `sweeps.forgotten`."""

    along: pd.DataFrame
    forgotten: pd.DataFrame


class Compression(NamedTuple):
    """What is told of one sweep; `answer` is how far it can be compressed."""

    dense: str
    answer: Answer
    parts: Sequence[Part]


def section(every: Sequence[Compression]) -> Section:
    """All sweeps."""
    text = (
        "How far can a network be compressed before its explanations change more than training it "
        "again would change them?"
    )
    parts = [Part(text=text)] if every else []
    for one in every:
        parts += [Part(titles.model(one.dense))] if len(every) > 1 else []
        parts += one.parts
    return Section("compression", "Compression", "Compression", parts)


def compression(
    one: Sweep, own: Tables, shown: Sequence[Film], says: str, classes: int
) -> Compression:
    """What is told of a sweep.

    Args:
      own: of the sweep, by one method.
      shown, says: an image as its networks see it, and how to read that; may be empty.
      classes: how many there are.
    """
    slots = {kind.name: kind.slot for kind in kinds(one)}
    known = set(own.along.metric)
    metrics = [name for name in ALONG if name in known]
    drawn = [curve(one, name, classes) for name in TITLES if one.networks[name].notna().any()]
    legend = pages.macro("compression.html", "legend", kinds(one), one)
    parts = [
        Part(lead=headline.headline(one), page=legend, charts=drawn, notes=[caption(one)]),
        *leaves(one, slots),
    ]
    if shown:
        films = pages.macro("compression.html", "films", shown)
        parts.append(Part("One image along the sweep", text=says, page=films))
    parts += [*forgotten(own.forgotten), every_step(one, own.along, metrics)]
    return Compression(one.dense, headline.short(one), parts)


def leaves(one: Sweep, slots: Mapping[str, int]) -> list[Part]:
    """Where each kind leaves the seed band."""
    every = sweep.leaving(one)
    if not every:
        return []
    lines = []
    for left, right in zip(every, sweep.leaving(one, "agreement_right"), strict=True):
        cells = [at(left.inside), at(left.outside, never=True), farther(left.outside)]
        cells += [at(right.outside, "_right", never=True), farther(right.outside, "_right")]
        kind = left.kind + (" (control)" if left.control else "")
        lines.append(row(Cell(kind, slot=slots[left.kind]), *cells))
    text = (
        "A kind is outside from the first factor at which its networks agree with their parents, "
        "on average, less than the least alike two dense networks do with each other, or are at "
        "chance. “Farther than a seed” is by how much r lies below the mean of two dense networks, "
        "with its 95 % interval; a unit of seed noise is the standard deviation of those."
    )
    columns = ["Kind of compression", "Inside the band up to", "Outside from"]
    columns += ["Farther than a seed", "Where both are right: outside from", "Farther than a seed"]
    return [headed(table("Where each kind leaves the seed band", columns, lines), text=text)]


def at(step: pd.Series | None, on: str = "", never: bool = False) -> Cell:
    """A step with what its networks are like.

    Args:
      never: whether none means that no step tried is like this.
    """
    if step is None:
        return Cell("not within the factors tried") if never else NOTHING
    like = f"r {number(step[f'agreement{on}'])}, accuracy {step.accuracy:.1%}"
    return Cell(
        f"{times(step.factor)}\N{MULTIPLICATION SIGN}",
        [step.strength, like],
        collapsed(step),
        "doubt",
    )


def collapsed(step: pd.Series) -> str:
    return f"{step.collapsed} of {step.networks} collapsed" if step.collapsed else ""


def farther(step: pd.Series | None, on: str = "") -> Cell:
    """How much less alike than two dense networks, and in units of seed noise."""
    if step is None or np.isnan(step[f"gap{on}"]):
        return NOTHING
    low, high, units = (step[f"{name}{on}"] for name in ("ci_low", "ci_high", "units"))
    notes = [] if np.isnan(low) else [ends(low, high, "+.3f")]
    notes += [] if np.isnan(units) else [f"{number(units, '+.1f')} units"]
    return Cell(number(step[f"gap{on}"], "+.3f"), notes)


def forgotten(rows: pd.DataFrame) -> list[Part]:
    """Whether explanations change most on the images that a compression forgets."""
    if len(rows):
        rows = rows[rows.metric == f"agreement_{sweep.ALIKE}"]
    if rows.empty:
        return []
    lines = [
        row(
            titles.model(one.model),
            f"{one.n_forgotten} of {one.n}",
            number(one.mean_forgotten),
            number(one.mean_rest),
            estimate(one.mean, one.ci_low, one.ci_high, "+.3f"),
        )
        for one in rows.itertuples()
    ]
    text = (
        "Those that most compressed networks answer differently from most dense ones. r is of a "
        "network's map and its parent's for the class that the parent predicts; a difference below "
        "0 says that explanations change most on what is forgotten. Of fewer than 20 images there "
        "is no interval."
    )
    columns = ["Model", "Forgotten images", "r on them", "r on the others", "Difference"]
    return [headed(table("On images that compression forgets", columns, lines), text=text)]


def every_step(one: Sweep, along: pd.DataFrame, metrics: Sequence[str]) -> Part:
    """Every step, by kind."""
    means = along.set_index(["model", "metric"])[["mean", "mean_correct"]]
    columns = ["Networks", "Factor", "Accuracy", "Agreement", "Farther than a seed"]
    columns += map(titles.metric, metrics)
    groups = []
    for kind, rows in sweep.kinds(one):
        lines = []
        for _, step in rows.iterrows():
            dead = bool(step.collapsed)
            pairs = [(step.agreement, step.agreement_right)]
            pairs += [tuple(means.loc[step.model, name]) for name in metrics]
            cells = [Cell(number(every), [number(right)], struck=dead) for every, right in pairs]
            first = Cell(titles.model(step.model), [step.strength], collapsed(step), "doubt")
            known = f"{times(step.factor)}\N{MULTIPLICATION SIGN}", f"{step.accuracy:.1%}"
            lines.append(row(first, *known, cells[0], farther(step), *cells[1:]))
        groups.append((kind, lines))
    name = "Every number of the sweep, also on images that both networks get right"
    text = (
        "Means over images and networks. Small: on the images that all these networks and their "
        "parents get right, where they are 20 or more; of the agreement, on those that a network "
        "and its parent get right. Of networks at chance the maps explain nothing, whatever they "
        "score: their numbers are struck."
    )
    return folded(grouped(name, columns, groups), text=text)


def caption(one: Sweep) -> str:
    """How to read the charts."""
    count = len(one.parents)
    text = (
        "The factor compares the bits that the weights take. Small dots are networks, large marks "
        "their means"
    )
    if "agreement" not in one.bands:
        return (
            f"{text}. There is one network of {titles.model(one.dense)}, so there is no band: "
            "nothing tells how much training it again would change these numbers."
        )
    pairs = one.bands["agreement"].size
    return (
        f"{text}. The band is what another seed changes: from the least to the most, with the mean,"
        f" of the {count} networks of {titles.model(one.dense)}; of agreement, of their {pairs} "
        f"{'pair' if pairs == 1 else 'pairs'}."
    )


def reading(seen: Seen, dense: str) -> str:
    """How to read the maps of one image."""
    return (
        f"Test image {seen.number}, the first of those sampled, and its maps for its true class, "
        f"“{seen.class_name}”, by the first network of {titles.model(dense)} and what was made of "
        "it. Below: the factor; r with the parent's map of this image; accuracy on all images, and "
        "whether the network names this one's class."
    )


def seed_noise(
    found: Alike, floors: pd.DataFrame, noise: pd.DataFrame, sweeps: Sequence[Sweep]
) -> list[Part]:
    """What is told of the networks' agreement.

    Args:
      floors, noise: of one method; may be empty. Of a sweep's models the floors are left out: they
        are as many as it has steps, and in the file.
    """
    band = (
        f" The band holds the pairs of {titles.model(found.reference)}: what another seed changes."
    )
    note = (
        "Each dot is a pair of networks, the bar the mean of networks that are treated alike."
        f"{band if found.band else ''} Pearson's r of their maps of the same image for its true "
        f"class, averaged over {found.images:,} images."
    )
    left = (
        f"The {found.left_out} compressed networks are left out here; matrix.csv has all."
        if found.left_out
        else ""
    )
    parts = [
        Part(text=seeds_said(found), charts=[squares.strips(found)], notes=[note]),
        Part("All networks with all", charts=[squares.matrix(found)], notes=[left] if left else []),
    ]
    steps = {model for one in sweeps for model in one.steps.model}
    main = noise[noise.metric == sweep.ALIKE] if len(noise) else noise
    parts += distances(main, "In units of seed noise", len(main) > MANY)
    parts += distances(noise.drop(index=main.index), "By other measures of agreement", True)
    parts += seed_floors(floors[~floors.model.isin(steps)] if len(floors) else floors)
    return parts


def distances(rows: pd.DataFrame, title: str, closed: bool) -> list[Part]:
    """How much less two models agree than two networks of the second do."""
    if rows.empty:
        return []
    text = (
        "How much less two models agree than two networks of the second do, with a 95 % interval, "
        "in units of seed noise (the standard deviation of the latter), and p of a test over "
        "networks. 0: as far as another seed."
    )
    columns = ["Models", "Measure", "Networks", "Two of the second", "One of each"]
    columns += ["Farther than a seed", "p"]
    lines = [
        row(
            f"{titles.model(one.one)} and {titles.model(one.other)}",
            Cell(titles.agreement(one.metric), [one.on]),
            Cell(f"{one.networks} and {one.networks_other}", [one.design]),
            number(one.within),
            number(one["between"]),
            farther(one),
            p_value(one.p),
        )
        for _, one in rows.iterrows()
    ]
    shown = table(title, columns, lines)
    if closed:
        return [Part(text=text, table=shown, folded=f"{title}: {len(rows)} comparisons")]
    return [headed(shown, text=text)]


def seed_floors(floors: pd.DataFrame) -> list[Part]:
    """How far two networks differ that differ in their seed alone."""
    if floors.empty:
        return []
    known = {(one.metric, one.model): one for one in floors.itertuples()}
    models = list(dict.fromkeys(floors.model))

    def cell(metric: str, name: str) -> Cell:
        if (one := known.get((metric, name))) is None:
            return NOTHING
        return estimate_of(metric, (one.floor, one.ci_low, one.ci_high), 4)

    lines = by_metric(dict.fromkeys(floors.metric), models, cell)
    text = (
        "The root mean square difference of two networks that differ in their seed alone, with its "
        "95 % interval: a smaller difference of two models may be nothing but seeds."
    )
    columns = ["Metric", *map(titles.model, models)]
    return [headed(table("How far two seeds differ in every metric", columns, lines), text=text)]


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
