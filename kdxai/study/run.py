"""A study from its config: train what is planned, then measure it."""

import itertools
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kdxai import drawing, evaluate
from kdxai.data import datasets
from kdxai.data.datasets import Dataset
from kdxai.models import Network
from kdxai.study import audit, claims, design, stats
from kdxai.study.design import Design
from kdxai.study.measure import (
    NONE,
    Measured,
    Wanted,
    measure,
    measure_cells,
    require_size,
    wanted,
)
from kdxai.study.plan import Cell, chosen, finished_cells, listed, plan, share
from kdxai.study.records import Shelf
from kdxai.training import checkpoints, loop, runs


def study(config: ConfigDict, workdir: str | Path) -> Measured | None:
    """Run a whole study, or one job's share of it; what is done already is not done again.

    Returns:
      What was found; None of a share (`config.cell`), whose records wait for the whole.

    Raises:
      UserError: bad settings, or a directory that another config made.
    """
    workdir = Path(workdir)
    checked = check(config, workdir)
    cells, dataset, what = checked.cells, checked.dataset, checked.wanted
    shared = config.copy_and_resolve_references()
    shared.cell = ""  # every job of an array works for the same study
    runs.claim(workdir, shared, {"data.data_dir": datasets.fingerprint(dataset)})
    train(checked.mine, dataset)
    if len(checked.mine) < len(cells):
        measure_cells(checked.mine, dataset, what, Shelf(workdir))
        return None
    measured = measure(checked.design, cells, dataset, what, workdir)
    return climbed(measured, config, checked.claims, workdir)


class Checked(NamedTuple):
    """A study that can be run to its end.

    Attributes:
      cells, mine: all runs, and those of this job.
      claims: those about models that are trained.
    """

    cells: Sequence[Cell]
    mine: Sequence[Cell]
    dataset: Dataset
    design: Design
    wanted: Wanted
    claims: Mapping[str, Mapping]


def check(config: ConfigDict, workdir: Path) -> Checked:
    """Everything of a study that can be wrong, its last page included, before its first step.

    Raises:
      UserError: it is.
    """
    cells = plan(config, workdir)
    mine = share(cells, config.cell)
    names = chosen(config)
    dataset = datasets.load(**config.data)
    declared = claims.declared(config, set(config.models), names, config.seeds)
    told = design.read(config, names, config.models)
    pairs = dict.fromkeys([*told.compare, *claims.pairs(declared, told.reference)])
    what = wanted(config.evaluation, list(pairs), names, len(dataset.test.label))
    for cell in cells:
        require_defined(loop.check(cell.config, dataset), what, dataset)
        checkpoints.folder(cell.workdir)
    if set(listed(config.ladder)) & set(names):
        audit.require_ladder(config.evaluation, dataset)
    return Checked(cells, mine, dataset, told, what, declared)


def climbed(
    measured: Measured, config: ConfigDict, declared: Mapping[str, Mapping], workdir: Path
) -> Measured:
    """Add the verdicts on the claims, and the ladder with its own."""
    evaluation = config.evaluation
    found, tables = [], NONE
    names = listed(config.ladder)
    models = {
        (cell.name, cell.seed): model
        for cell, model in zip(measured.cells, measured.trained, strict=True)
        if cell.name in names
    }
    if models:
        rungs = audit.rungs("", {name for name, _ in models})
        records = audit.climb(models, measured.dataset, evaluation, workdir, rungs)
        tables, verdicts = audit.judged(
            records, measured.design, declared, config.across, evaluation
        )
        if len(verdicts):  # the last rung is the study's own protocol
            found.append(verdicts[verdicts.rung != rungs[-1]])
    if declared:
        found.append(judged(measured, declared, config.across))
    return measured._replace(
        claims=pd.concat(found, ignore_index=True) if found else NONE, ladder=tables
    )


def judged(measured: Measured, declared: Mapping[str, Mapping], across: str) -> pd.DataFrame:
    """`claims.judge` of the first method on the random images, as the rung "sound"."""
    main = measured.wanted.protocols[0].method
    rows = measured.records[measured.records.drawn & (measured.records.method == main)]
    verdicts = claims.judge(
        stats.with_agreement(rows, measured.agreement, measured.design.reference),
        declared,
        across=across,
        resamples=measured.wanted.evaluation.resamples,
        seed=measured.wanted.evaluation.seed,
        reference=measured.design.reference,
    )
    return verdicts.assign(rung="sound")[["rung", *verdicts]]


def train(cells: Sequence[Cell], dataset: Dataset) -> None:
    """Train what is not trained yet, saying how far the study is and how long it may take.

    What is trained already is checked: that its settings, its data and its teacher are the same.
    """
    seconds: dict[str, list[float]] = {}  # a model's name -> of its runs
    waiting = [cell for cell in cells if runs.read_result(cell.workdir) is None]
    started = time.perf_counter()
    for cell in cells:
        if cell not in waiting:
            loop.train(cell.config, cell.workdir, dataset)
            continue
        number, left = waiting.index(cell), ""
        if known := list(itertools.chain.from_iterable(seconds.values())):
            ahead = (seconds.get(one.name, known) for one in waiting[number:])
            left = f", about {sum(np.mean(times) for times in ahead) / 60:,.0f} min left"
        done = len(cells) - len(waiting) + number
        print(
            f"{cell.workdir}: model {done + 1} of {len(cells)}, {done} done{left}", file=sys.stderr
        )
        loop.train(cell.config, cell.workdir, dataset)
        now = time.perf_counter()
        seconds.setdefault(cell.name, []).append(now - started)
        started = now


def explain(config: ConfigDict, workdir: str | Path) -> Measured:
    """Measure finished runs, without training any.

    Raises:
      UserError: a run is not finished, or the runs are of different data.
    """
    workdir = Path(workdir)
    cells, dataset = finished_cells(config.models)
    names = [cell.name for cell in cells]
    told = design.read(config, names)
    declared = claims.declared(config, names, names, 1)
    pairs = dict.fromkeys([*told.compare, *claims.pairs(declared, told.reference)])
    what = wanted(config, list(pairs), names, len(dataset.test.label))
    for cell in cells:
        require_defined(runs.create_model(cell.config, len(dataset.class_names)), what, dataset)
    # The models by name alone: one that was trained anew is measured anew.
    runs.claim(workdir, config, {"models": ", ".join(names)})
    measured = measure(told, cells, dataset, what, workdir)
    if declared:
        return measured._replace(claims=judged(measured, declared, config.across))
    return measured


def require_defined(model: Network, what: Wanted, dataset: Dataset) -> None:
    """Raises:
    UserError: a method or measure that is wanted does not suit the model or the data.
    """
    if "grid" in what.extra:
        evaluate.require_mosaics(dataset.test.label)
    require_size(dataset)
    for protocol in what.protocols:
        drawing.require_defined(model, protocol, masks=dataset.test.mask is not None)
