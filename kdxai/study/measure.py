"""Models -> records -> tables; what is measured already is not measured again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kdxai import classifiers, evaluate, measures
from kdxai.data.datasets import Dataset, Split
from kdxai.measures import Model
from kdxai.protocol import Protocol, needs
from kdxai.study import alike, checks, distances, stats
from kdxai.study.design import Design
from kdxai.study.distances import Pairwise
from kdxai.study.members import Member
from kdxai.study.records import Shelf, numbered
from kdxai.study.wanted import Wanted

NONE = pd.DataFrame()


class Measured(NamedTuple):
    """All that was found.

    Attributes:
      design: which models are compared, and how people are told of them.
      members: the models.
      records: a row per model, seed, method and image; `drawn` marks those sampled at random.
      agreement: a row per pair of models, seed, method and image, see `alike.agreement_rows`.
      tables: file name -> `stats.table` of every method, named in a first column.
      seeds: `stats.by_seed` of every method on the random images, as above.
      differences: `stats.differences` of every method on the random images, as above.
      trust: `checks.trust` of the first method; empty where nothing was checked.
      missing: measure or check -> names of the models that it cannot be made for.
      claims: `claims.judge` at every step of the audit, named in the first column `rung`; the last
        is the sound one.
      question: the verdicts that answer the question of every study, see `question`.
      ladder: `stats.table` of every step of the audit, as above.
      pairwise: method -> the agreement of all networks with all on the random images; empty where
        no model has two networks and none was compressed, as what follows.
      noise: `distances.noise` of every method, named in a first column.
      floors: `stats.floors` of every method on the random images, as above.
    """

    design: Design
    members: Sequence[Member]
    dataset: Dataset
    wanted: Wanted
    records: pd.DataFrame
    agreement: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    seeds: pd.DataFrame
    differences: pd.DataFrame
    trust: pd.DataFrame
    missing: Mapping[str, Sequence[str]]
    claims: pd.DataFrame = NONE
    question: pd.DataFrame = NONE
    ladder: pd.DataFrame = NONE
    pairwise: Mapping[str, Pairwise] = MappingProxyType({})
    noise: pd.DataFrame = NONE
    floors: pd.DataFrame = NONE


def measure_members(
    members: Sequence[Member], dataset: Dataset, what: Wanted, shelf: Shelf
) -> list[pd.DataFrame]:
    """Records of every method and model; what is done is cached."""
    records = []
    for protocol in what.protocols:
        for one in members:
            columns = {"model": one.name, "seed": one.seed, "line": one.line}
            columns["method"] = protocol.method
            asked = dataset.test, what.images, what.extra
            records.append(member_rows(shelf, columns, one.model, protocol, *asked))
    return records


def measure(
    told: Design, members: Sequence[Member], dataset: Dataset, what: Wanted, workdir: Path
) -> Measured:
    """All of a study's records and tables; `workdir/records/` caches what is done."""
    shelf = Shelf(workdir)
    joined = pd.concat(measure_members(members, dataset, what, shelf), ignore_index=True)
    joined["drawn"] = joined.image.isin(what.drawn)
    random = joined[joined.drawn]
    pairwise, agreement = all_agreements(members, dataset, what, shelf, joined)
    samples = {"table1": random}
    if len(what.images) > len(what.drawn):
        samples["table1_whole"] = joined
    resampling = {"resamples": what.evaluation.resamples, "seed": what.evaluation.seed}
    options = {**resampling, "reference": told.reference}
    table = partial(stats.table, compare=what.compare, **options)
    gaps = partial(stats.differences, compare=what.compare, floor=told.floor, **options)
    found = Measured(
        design=told,
        members=members,
        dataset=dataset,
        wanted=what,
        records=joined,
        agreement=agreement,
        tables={file: by(sample, "method", table) for file, sample in samples.items()},
        seeds=by(random, "method", partial(stats.by_seed, reference=told.reference)),
        differences=by(random, "method", gaps),
        trust=sanity(members, dataset, what, shelf),
        missing=missing(members, what),
    )
    if not pairwise:
        return found
    noise = {
        method: distances.noise(one, what.compare, **resampling) for method, one in pairwise.items()
    }
    return found._replace(
        pairwise=pairwise,
        noise=stacked(noise, "method"),
        floors=by(random, "method", partial(stats.floors, reference=told.reference)),
    )


def draw_all_maps(members: Sequence[Member], dataset: Dataset, what: Wanted, shelf: Shelf) -> None:
    """Draw what all networks are compared with all by; what is done is cached."""
    for view in map_requests(dataset, what, shelf):
        alike.all_maps(members, view)


def map_requests(dataset: Dataset, what: Wanted, shelf: Shelf) -> list[alike.MapRequest]:
    """The random images, by every method."""
    images = np.sort(what.drawn)
    return [alike.MapRequest(shelf, protocol, dataset.test, images) for protocol in what.protocols]


def all_agreements(
    members: Sequence[Member],
    dataset: Dataset,
    what: Wanted,
    shelf: Shelf,
    records: pd.DataFrame,
) -> tuple[dict[str, Pairwise], pd.DataFrame]:
    """How alike the networks explain by each method, all with all and pair by pair of models."""
    pairwise, agreement = {}, []
    for view in map_requests(dataset, what, shelf):
        protocol = view.protocol
        own = records[records.method == protocol.method]
        if alike.is_worth_pairs(members):
            pairwise[protocol.method] = alike.all_with_all(members, view, own)
        every = view._replace(images=what.images)
        known = pairwise.get(protocol.method)
        agreement += alike.agreement_rows(members, what.compare, every, known, own)
    return pairwise, pd.concat(agreement, ignore_index=True) if agreement else NONE


def missing(members: Sequence[Member], what: Wanted) -> dict[str, list[str]]:
    """What is asked of a model, checks included, but cannot be made for it."""
    names = dict.fromkeys([*what.extra, *["randomisation"] * bool(what.evaluation.sanity)])
    found: dict[str, list[str]] = {}
    for one in members:
        for name in measures.lacking(one.model, list(names)):
            if one.name not in found.setdefault(name, []):
                found[name].append(one.name)
    return found


def sanity(members: Sequence[Member], dataset: Dataset, what: Wanted, shelf: Shelf) -> pd.DataFrame:
    """`checks.trust` of the first method, on a few of the random images."""
    images = np.sort(what.drawn[: what.evaluation.sanity])
    method = what.protocols[0].method
    if not images.size or method == "random":
        return NONE
    records = []
    for protocol, extra in (
        (what.protocols[0], ["randomisation"]),
        (replace(what.protocols[0], method="random", options={}), []),
    ):
        for one in members:
            columns = {"model": one.name, "seed": one.seed, "method": f"sanity-{protocol.method}"}
            rows = member_rows(shelf, columns, one.model, protocol, dataset.test, images, extra)
            records.append(rows.assign(method=protocol.method))
    return checks.trust(pd.concat(records, ignore_index=True), method)


def member_rows(
    shelf: Shelf,
    columns: Mapping[str, Any],
    model: Model,
    protocol: Protocol,
    split: Split,
    images: np.ndarray,
    extra: Sequence[str] = (),
) -> pd.DataFrame:
    """A model's rows for some images of a split, behind `columns`; without what it lacks."""
    lacking = measures.lacking(model, extra)
    extra = [name for name in extra if name not in lacking]

    def rows() -> pd.DataFrame:
        some = split.select(images)  # what is streamed stays unread until its turn comes
        name = " ".join(map(str, columns.values()))
        prepared = evaluate.prepare(
            model, split.image, split.label, protocol, extra, chosen=images, name=name
        )
        found = evaluate.evaluate(
            classifiers.as_classifier(model, protocol, split.image),
            some.image,
            some.label,
            protocol,
            mean=model.mean,
            std=model.std,
            masks=some.mask,
            ids=images,
            extra=extra,
            prepared=prepared,
            name=name,
        )
        return numbered(found, images)

    depends: list[Any] = [shelf.model(model), shelf.images(split, images), repr(protocol)]
    depends.append(measures.versions(extra))
    if any(measures.of_split(name) for name in extra) or needs(protocol.method, "background"):
        depends.append(shelf.images(split))
    return shelf.cached(columns, depends, rows)


def by(
    records: pd.DataFrame, column: str, make: Callable[[pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    """What `make` returns for every value of a column, behind a first column that names it."""
    return stacked(
        {value: make(rows) for value, rows in records.groupby(column, sort=False)}, column
    )


def stacked(parts: Mapping[str, pd.DataFrame], column: str) -> pd.DataFrame:
    """Tables below each other, behind a first column of their names."""
    return pd.concat(parts, names=[column]).reset_index(column).reset_index(drop=True)
