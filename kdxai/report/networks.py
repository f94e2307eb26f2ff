"""What a report tells of many networks: sweeps of compressions, and seed noise."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdxai.report import films, sections, seeds, sweep
from kdxai.report.facts import Results
from kdxai.report.films import Film, Seen
from kdxai.report.report import Part
from kdxai.report.sections import Compression, Tables
from kdxai.report.sweep import Sweep
from kdxai.study import distances, stats, sweeps
from kdxai.study.alike import MapRequest, own_maps
from kdxai.study.design import SLOTS
from kdxai.study.measure import Measured
from kdxai.study.members import Member
from kdxai.study.records import Shelf

NONE = pd.DataFrame()


class Networks(NamedTuple):
    """What is told of the networks, by the first method.

    Attributes:
      tables: of all sweeps and methods, named in first columns `method, parent`.
      compression: of each of `sweeps`.
      noise: what is told of it; empty where no two networks were compared.
      classes: how many the data have.
    """

    sweeps: Sequence[Sweep]
    tables: Tables
    compression: Sequence[Compression]
    noise: Sequence[Part]
    classes: int = 0


NO_NETWORKS = Networks((), Tables(NONE, NONE), (), ())


def networks(measured: Measured, results: Results, workdir: Path) -> Networks:
    """All of it.

    Args:
      workdir: that of the records.
    """
    method = measured.wanted.protocols[0].method
    pairwise = measured.pairwise.get(method)
    noise, floors = (
        table[table.method == method] if len(table) else NONE
        for table in (measured.noise, measured.floors)
    )
    records = measured.records[measured.records.drawn & (measured.records.method == method)]
    found = sweep.sweeps(results, records, pairwise, noise)
    every = sweep_tables(measured, found) if found else Tables(NONE, NONE)
    classes = len(measured.dataset.class_names)
    told = []
    for one in found:
        shown: list[Film] = []
        says = ""
        if pairwise is not None:
            seen = see(measured, one, workdir)
            shown = films.films(one, seen, pairwise, records)
            says = sections.reading(seen, one.dense)
        own = Tables(*(mine(table, method, one.dense) for table in every))
        told.append(sections.compression(one, own, shown, says, classes))
    seeds_told: list[Part] = []
    if pairwise is not None and len(pairwise.networks) > 1:
        design = measured.design
        alike = seeds.alike(pairwise, found, design.reference, design.compare)
        seeds_told = sections.seed_noise(alike, floors, noise, found)
    return Networks(found, every, told, seeds_told, classes)


def sweep_tables(measured: Measured, found: Sequence[Sweep]) -> Tables:
    """Tables along all sweeps, and of what compression forgets, on the random images."""
    evaluation = measured.wanted.evaluation
    options = {"resamples": evaluation.resamples, "seed": evaluation.seed}
    parts: list[list[pd.DataFrame]] = [[], []]
    for one in found:
        children = list(one.steps.model)
        rows = measured.records[measured.records.model.isin([one.dense, *children])]
        rows = stats.with_agreement(rows[rows.drawn], measured.agreement, one.dense)
        for method, own in rows.groupby("method", sort=False):
            along = sweeps.sweep(own, one.dense, **options)
            forgotten = sweeps.forgotten(own, one.dense, children, **options)
            for part, table in zip(parts, (along, forgotten), strict=True):
                part.append(labelled(table, method, one.dense))
    return Tables(*(pd.concat(part, ignore_index=True) if part else NONE for part in parts))


def labelled(table: pd.DataFrame, method: str, parent: str) -> pd.DataFrame:
    """A table behind the names of what it is of."""
    known = {"method": method, "parent": parent}
    return table.assign(**known)[[*known, *table]]


def mine(table: pd.DataFrame, method: str, parent: str) -> pd.DataFrame:
    """The rows of one method and sweep."""
    return table[(table.method == method) & (table.parent == parent)] if len(table) else table


def see(measured: Measured, one: Sweep, workdir: Path) -> Seen:
    """The first of the images drawn, as one dense network and all that was made of it see it.

    Args:
      workdir: where the maps are kept that the networks were compared by.
    """
    protocol, drawn = measured.wanted.protocols[0], measured.wanted.drawn
    test, number = measured.dataset.test, int(drawn[0])
    view = MapRequest(Shelf(workdir), protocol, test, np.sort(drawn))
    [place] = np.flatnonzero(view.images == number)
    members = {(member.name, member.seed): member for member in measured.members}
    maps = {n: own_maps(members[n], view)[place] for n in films.first_family(one)}
    some = test.select(np.array([number]))
    label = int(np.asarray(some.label)[0])
    return Seen(number, measured.dataset.class_names[label], np.asarray(some.image)[0], maps)


def matrices(measured: Measured) -> pd.DataFrame:
    """How alike all networks explain: a row per method, measure, kind of images and network."""
    parts = []
    for method, pairwise in measured.pairwise.items():
        names = [f"{row.model} {row.seed}" for row in pairwise.networks.itertuples()]
        for metric in pairwise.values:
            for both, on in ((False, "all"), (True, "both right")):
                table = distances.agreement_matrix(pairwise, metric, both_right=both)
                columns = {"method": method, "metric": metric, "on": on, "network": names}
                parts.append(pd.DataFrame(columns).join(pd.DataFrame(table, columns=names)))
    return pd.concat(parts, ignore_index=True) if parts else NONE


def pictured(members: Sequence[Member], found: Networks) -> list[Member]:
    """The members that have a colour and pictures of their own.

    Those of a sweep have none where there are more models than colours: its section has them.
    """
    steps = {model for one in found.sweeps for model in one.steps.model}
    few = len({one.name for one in members}) <= SLOTS
    return [one for one in members if few or one.name not in steps]
