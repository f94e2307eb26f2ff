"""Finished runs -> records -> tables; what is measured already is not measured again."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kdxai import classifiers, evaluate, measures
from kdxai.data.datasets import Dataset, Split
from kdxai.errors import UserError
from kdxai.metrics.coherency import WINDOW
from kdxai.models import LAST
from kdxai.protocol import Protocol, reads_cut
from kdxai.study import checks, stats
from kdxai.study.plan import Cell, listed, require_pairs
from kdxai.study.records import Shelf
from kdxai.training import runs
from kdxai.training.runs import TrainedModel

GALLERY = 100  # images at most: a picture of some hundred rows cannot be drawn
RESAMPLES = (100, 100_000)  # fewer have no 2.5 % at either end, more take gigabytes
NONE = pd.DataFrame()


class Wanted(NamedTuple):
    """What is to be measured.

    Attributes:
      protocols: one for each method.
      extra: names of measures beyond the core.
      compare: pairs of models.
      drawn: the random test images, in random order.
      images: all that are measured, in order.
      evaluation: the settings these came from.
    """

    protocols: Sequence[Protocol]
    extra: Sequence[str]
    compare: Sequence[tuple[str, str]]
    drawn: np.ndarray
    images: np.ndarray
    evaluation: ConfigDict


class Measured(NamedTuple):
    """All that was found.

    Attributes:
      cells, trained: the runs and their models.
      records: a row per model, seed, method and image; `drawn` marks the random images.
      agreement: a row per pair of models, seed, method and image.
      tables: file name -> `stats.table` of every method, named in a first column.
      seeds: `stats.by_seed` of every method on the random images, as above.
      differences: `stats.differences` of every method on the random images, as above.
      trust: `checks.trust` of the first method; empty where nothing was checked.
      claims: `claims.judge` at every rung, named in a first column; the last is the sound one.
      ladder: `stats.table` of every rung, named in a first column.
    """

    cells: Sequence[Cell]
    trained: Sequence[TrainedModel]
    dataset: Dataset
    wanted: Wanted
    records: pd.DataFrame
    agreement: pd.DataFrame
    tables: Mapping[str, pd.DataFrame]
    seeds: pd.DataFrame
    differences: pd.DataFrame
    trust: pd.DataFrame
    claims: pd.DataFrame = NONE
    ladder: pd.DataFrame = NONE


def wanted(
    evaluation: ConfigDict,
    compare: Sequence[tuple[str, str]],
    models: Sequence[str],
    available: int,
) -> Wanted:
    """Read the settings of an evaluation.

    Args:
      compare: pairs of model names; those that are not among `models` are left out.
      available: test images.

    Raises:
      UserError: no such method or measure; no images asked for, or more than there are; a number
        out of its range; a comparison of other than two models.
    """
    methods, extra = listed(evaluation.methods), listed(evaluation.metrics)
    if not methods or len(set(methods)) < len(methods):
        raise UserError(f"methods='{evaluation.methods}': name at least one, each once")
    require_pairs(compare)
    require_resamples(evaluation)
    if not 1 <= evaluation.gallery <= GALLERY:
        raise UserError(f"gallery is 1 to {GALLERY} images, not {evaluation.gallery}")
    if evaluation.sanity < 0:
        raise UserError(f"sanity is a number of images, 0 or more, not {evaluation.sanity}")
    if evaluation.stage != LAST and not any(map(reads_cut, methods)):
        raise UserError(
            f"stage={evaluation.stage} does nothing to {', '.join(methods)}; leave it out"
        )
    measures.require_known(extra)
    drawn = draw_images(evaluation, available)
    return Wanted(
        protocols=[
            Protocol(
                method,
                evaluation.stage if reads_cut(method) else LAST,
                baseline=evaluation.baseline,
            )
            for method in methods
        ],
        extra=extra,
        compare=[(one, other) for one, other in compare if {one, other} <= set(models)],
        drawn=drawn,
        images=np.arange(available) if evaluation.whole else np.sort(drawn),
        evaluation=evaluation,
    )


def draw_images(evaluation: ConfigDict, available: int) -> np.ndarray:
    """[evaluation.images] distinct random indices of a split, in random order.

    Raises:
      UserError: none asked for, or more than there are; a negative seed.
    """
    if evaluation.seed < 0:
        raise UserError(f"the seed that draws the images is 0 or more, not {evaluation.seed}")
    if not 1 <= evaluation.images <= available:
        raise UserError(f"images={evaluation.images}: ask for 1 to {available} images")
    return np.random.default_rng(evaluation.seed).permutation(available)[: evaluation.images]


def require_size(dataset: Dataset) -> None:
    """Raises:
    UserError: the images are smaller than a window of SSIM.
    """
    height, width = dataset.test.image.shape[1:3]
    if not measures.ssim_fits((height, width)):
        least = WINDOW["gaussian"]
        raise UserError(
            f"images of {height}x{width} pixels cannot be measured: SSIM needs at least "
            f"{least}x{least}"
        )


def require_resamples(evaluation: ConfigDict) -> None:
    """Raises:
    UserError: there are too few for an interval, or more than memory holds.
    """
    least, most = RESAMPLES
    if not least <= evaluation.resamples <= most:
        raise UserError(
            f"resamples must be at least {least}, as 95 % intervals are cut from them, and at most "
            f"{most:,}, not {evaluation.resamples}"
        )


def measure_cells(
    cells: Sequence[Cell], dataset: Dataset, what: Wanted, shelf: Shelf
) -> tuple[dict[tuple[str, int], TrainedModel], list[pd.DataFrame]]:
    """Explain and measure finished runs; what is done is kept.

    Returns:
      (name, seed) -> model, and records of every method and model.
    """
    models = {(cell.name, cell.seed): runs.load(cell.workdir) for cell in cells}
    records = []
    for protocol in what.protocols:
        for (name, seed), model in models.items():
            columns = {"model": name, "seed": seed, "method": protocol.method}
            records.append(
                explained(shelf, columns, model, protocol, dataset.test, what.images, what.extra)
            )
    return models, records


def measure(cells: Sequence[Cell], dataset: Dataset, what: Wanted, workdir: Path) -> Measured:
    """All of a study's records and tables; `workdir/records/` keeps what is done."""
    shelf = Shelf(workdir)
    models, records = measure_cells(cells, dataset, what, shelf)
    agreement = []
    for protocol in what.protocols:
        for one, other in what.compare:
            for seed in sorted({seed for name, seed in models if name == one}):
                columns = {"model": one, "other": other, "seed": seed, "method": protocol.method}
                pair = models[one, seed], models[other, seed]
                agreement.append(
                    compared(shelf, columns, pair, protocol, dataset.test, what.images)
                )
    joined = pd.concat(records, ignore_index=True)
    joined["drawn"] = joined.image.isin(what.drawn)
    random = joined[joined.drawn]
    samples = {"table1": random}
    if len(what.images) > len(what.drawn):
        samples["table1_whole"] = joined
    options = {
        "resamples": what.evaluation.resamples,
        "seed": what.evaluation.seed,
        "reference": cells[0].name,
    }
    return Measured(
        cells=cells,
        trained=list(models.values()),
        dataset=dataset,
        wanted=what,
        records=joined,
        agreement=pd.concat(agreement, ignore_index=True) if agreement else NONE,
        tables={
            file: by(sample, "method", partial(stats.table, compare=what.compare, **options))
            for file, sample in samples.items()
        },
        seeds=by(random, "method", partial(stats.by_seed, reference=cells[0].name)),
        differences=by(
            random, "method", partial(stats.differences, compare=what.compare, **options)
        ),
        trust=sanity(models, dataset, what, shelf),
    )


def sanity(
    models: Mapping[tuple[str, int], TrainedModel], dataset: Dataset, what: Wanted, shelf: Shelf
) -> pd.DataFrame:
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
        for (name, seed), model in models.items():
            columns = {"model": name, "seed": seed, "method": f"sanity-{protocol.method}"}
            rows = explained(shelf, columns, model, protocol, dataset.test, images, extra)
            records.append(rows.assign(method=protocol.method))
    return checks.trust(pd.concat(records, ignore_index=True), method)


def explained(
    shelf: Shelf,
    columns: Mapping[str, Any],
    trained: TrainedModel,
    protocol: Protocol,
    split: Split,
    images: np.ndarray,
    extra: Sequence[str] = (),
) -> pd.DataFrame:
    """A model's rows for some images of a split, behind `columns`."""

    def rows() -> pd.DataFrame:
        name = " ".join(map(str, columns.values()))
        prepared = evaluate.prepare(
            trained, split.image, split.label, protocol, extra, chosen=images, name=name
        )
        found = evaluate.evaluate(
            classifiers.as_classifier(trained, protocol),
            split.image[images],
            split.label[images],
            protocol,
            mean=trained.mean,
            std=trained.std,
            masks=None if split.mask is None else split.mask[images],
            ids=images,
            extra=extra,
            prepared=prepared,
            name=name,
        )
        return numbered(found, images)

    depends: list[Any] = [shelf.model(trained), shelf.images(split, images), repr(protocol)]
    depends.append(measures.versions(extra))
    if any(measures.of_split(name) for name in extra):
        depends.append(shelf.images(split))
    return shelf.kept(columns, depends, rows)


def compared(
    shelf: Shelf,
    columns: Mapping[str, Any],
    pair: tuple[TrainedModel, TrainedModel],
    protocol: Protocol,
    split: Split,
    images: np.ndarray,
) -> pd.DataFrame:
    """How alike two models explain some images of a split, behind `columns`."""

    def rows() -> pd.DataFrame:
        one, other = (classifiers.as_classifier(model, protocol) for model in pair)
        found = evaluate.compare(
            one,
            other,
            split.image[images],
            protocol,
            mean=pair[0].mean,
            std=pair[0].std,
            masks=None if split.mask is None else split.mask[images],
            name=" ".join(map(str, columns.values())),
        )
        return numbered(found, images)

    depends = [*map(shelf.model, pair), shelf.images(split, images), repr(protocol)]
    return shelf.kept(columns, ["agreement", *depends], rows)


def numbered(rows: pd.DataFrame, images: np.ndarray) -> pd.DataFrame:
    """Rows behind the numbers of their images."""
    return rows.assign(image=images)[["image", *rows]]


def by(
    records: pd.DataFrame, column: str, make: Callable[[pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    """What `make` returns for every value of a column, behind a first column that names it."""
    parts = {value: make(rows) for value, rows in records.groupby(column, sort=False)}
    return pd.concat(parts, names=[column]).reset_index(column).reset_index(drop=True)
