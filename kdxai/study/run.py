"""A study from its config: train what is planned, then measure it."""

import itertools
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kdxai import files
from kdxai.data import datasets
from kdxai.data.datasets import Dataset
from kdxai.externals import External
from kdxai.models import trained
from kdxai.settings import listed
from kdxai.study import alike, audit, claims, design, members, plan, question, stats
from kdxai.study.design import Design
from kdxai.study.measure import NONE, Measured, draw_members, measure, measure_members
from kdxai.study.members import Member
from kdxai.study.origins import Shape
from kdxai.study.plan import Cell, chosen, share
from kdxai.study.records import Shelf
from kdxai.study.wanted import Wanted, require_defined, wanted
from kdxai.training import checkpoints, runs

Claims = Mapping[str, Mapping]  # as for `claims.judge`


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
    content = {"data.data_dir": datasets.fingerprint(dataset), **plan.contents(cells)}
    runs.claim(workdir, shared, content)
    make(checked.mine, dataset)
    if len(checked.mine) < len(cells):
        mine, shelf = plan.made(checked.mine), Shelf(workdir)
        measure_members(mine, dataset, what, shelf)
        if alike.is_worth_pairs(mine) or max(Counter(one.name for one in cells).values()) > 1:
            draw_members(mine, dataset, what, shelf)
        return None
    found = plan.made(cells)
    told = checked.design._replace(recipes=members.recipes(found))
    measured = measure(told, found, dataset, what, workdir)
    return climbed(measured, config, checked.claims, workdir)


class Checked(NamedTuple):
    """A study that can be run to its end.

    Attributes:
      cells, mine: all models, and those of this job.
      claims: those about models that are made.
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
    cells = plan.plan(config, workdir)
    mine = share(cells, config.cell)
    names = chosen(config)
    dataset = datasets.load(**config.data)
    sizes = Counter(cell.name for cell in cells)
    declared = claims.declared(config, set(config.models), sizes)
    told = design.read(config, names, config.models)
    pairs = dict.fromkeys([*told.compare, *claims.pairs(declared, told.reference)])
    what = wanted(config.evaluation, list(pairs), names, len(dataset.test.label))
    networks: dict[str, Shape] = {}  # by their directories
    for cell in cells:
        parent = networks.get(cell.made_from)
        network = cell.origin.check(cell.config, dataset, parent)
        require_defined(network, what, dataset)
        networks[str(cell.workdir)] = network
    plan.made([cell for cell in cells if cell.origin.there])
    checkpoints.folder(workdir)
    if set(listed(config.ladder)) & set(names):
        audit.require_ladder(config.evaluation, dataset)
    return Checked(cells, mine, dataset, told, what, declared)


def climbed(measured: Measured, config: ConfigDict, declared: Claims, workdir: Path) -> Measured:
    """Add the verdicts on the claims, and the ladder with its own."""
    evaluation = config.evaluation
    asked = asked_first(measured, config.across)
    declared = with_truth(asked, declared)
    found, tables = [], NONE
    names = listed(config.ladder)
    climbing = [one for one in measured.members if one.name in names]
    if climbing:
        rungs = audit.rungs("", climbing)
        records = audit.climb(climbing, measured.dataset, evaluation, workdir, rungs)
        tables, verdicts, _ = audit.judged(
            records, measured.design, declared, config.across, evaluation
        )
        if len(verdicts):  # the last rung is the study's own protocol
            found.append(verdicts[verdicts.rung != rungs[-1]])
    return concluded(measured._replace(ladder=tables), asked, declared, config.across, found)


def asked_first(measured: Measured, across: str) -> Claims:
    """The claims that answer the question of every study, of what was measured."""
    main = measured.wanted.protocols[0].method
    records = measured.records[measured.records.method == main].dropna(axis=1, how="all")
    sizes = records.groupby("model").seed.nunique().to_dict()
    return question.claims(measured.design, list(records), sizes, across)


def with_truth(asked: Claims, declared: Claims) -> Claims:
    """The declared claims, behind those by the truth, which belong to all data that have masks."""
    of_truth = {name: one for name, one in asked.items() if one["metric"] in question.TRUTH}
    return of_truth | dict(declared)


def concluded(
    measured: Measured,
    asked: Claims,
    declared: Claims,
    across: str,
    climbed: Sequence[pd.DataFrame] = (),
) -> Measured:
    """Add the verdicts on the claims, and on those that answer the question of every study.

    Args:
      asked: `asked_first`; those that are declared too are judged among these.
      climbed: verdicts at the rungs before the sound one.
    """
    own = judged(measured, declared, across) if declared else NONE
    if set(asked) <= set(declared):
        answers = own[own.claim.isin(asked)] if asked else NONE
    else:
        answers = judged(measured, asked, across)
    found = [*climbed, *([own] if declared else [])]
    return measured._replace(
        claims=pd.concat(found, ignore_index=True) if found else NONE, question=answers
    )


def judged(measured: Measured, declared: Claims, across: str) -> pd.DataFrame:
    """`claims.judge` of the first method on the random images, as the rung "sound"."""
    main = measured.wanted.protocols[0].method
    records = measured.records
    models = {one[side] for one in declared.values() for side in ("one", "other")}
    models.add(measured.design.reference)
    rows = records[records.drawn & (records.method == main) & records.model.isin(models)]
    verdicts = claims.judge(
        stats.with_agreement(rows, measured.agreement, measured.design.reference),
        declared,
        across=across,
        distances=measured.pairwise.get(main),
        resamples=measured.wanted.evaluation.resamples,
        seed=measured.wanted.evaluation.seed,
        reference=measured.design.reference,
        trust=measured.trust,
    )
    about = claims.about(verdicts, measured.design)
    return verdicts.assign(rung="sound", about=about)[["rung", *verdicts]]


def make(cells: Sequence[Cell], dataset: Dataset) -> None:
    """Make what is not there yet, saying how far the study is and how long it may take.

    What is there already is checked: that its settings, its data and what it is made from are the
    same.
    """
    seconds: dict[str, list[float]] = {}  # a model's name -> of its members
    cells = [cell for cell in cells if not cell.origin.there]
    waiting = [cell for cell in cells if not files.there(cell.workdir / trained.MODEL)]
    started = time.perf_counter()
    for cell in cells:
        if cell not in waiting:
            cell.origin.make(cell.config, cell.workdir, dataset)
            continue
        number, left = waiting.index(cell), ""
        if known := list(itertools.chain.from_iterable(seconds.values())):
            ahead = (seconds.get(one.name, known) for one in waiting[number:])
            left = f", about {sum(np.mean(times) for times in ahead) / 60:,.0f} min left"
        done = len(cells) - len(waiting) + number
        print(
            f"{cell.workdir}: model {done + 1} of {len(cells)}, {done} done{left}", file=sys.stderr
        )
        cell.origin.make(cell.config, cell.workdir, dataset)
        now = time.perf_counter()
        seconds.setdefault(cell.name, []).append(now - started)
        started = now


def explain(config: ConfigDict, workdir: str | Path) -> Measured:
    """Measure models that are there.

    Raises:
      UserError: one cannot be read, they do not fit each other or the data, or bad settings.
    """
    workdir = Path(workdir)
    found = members.read(members.named_places(config.models))
    dataset = members.load_data(found, config.data)
    # The models by name alone: one that has become another is measured anew.
    names = ", ".join(one.name for one in found)
    return explain_members(found, dataset, config, workdir, {"models": names})


def explain_members(
    found: Sequence[Member],
    dataset: Dataset,
    config: ConfigDict,
    workdir: Path,
    content: Mapping[str, str],
) -> Measured:
    """Measure models, and judge the claims about them.

    Args:
      config: as of configs/explain.py.
      content: of `config`, as `runs.claim` takes it.

    Raises:
      UserError: bad settings, or a directory that another config made.
    """
    names = list(dict.fromkeys(one.name for one in found))
    told = design.read(config, names)._replace(recipes=members.recipes(found))
    sizes = Counter(one.name for one in found)
    declared = claims.declared(config, names, sizes)
    pairs = dict.fromkeys([*told.compare, *claims.pairs(declared, told.reference)])
    what = wanted(config, list(pairs), names, len(dataset.test.label))
    for one in found:
        model = one.model if isinstance(one.model, External) else one.model.model
        require_defined(model, what, dataset)
    runs.claim(workdir, config, content)
    measured = measure(told, found, dataset, what, workdir)
    asked = asked_first(measured, config.across)
    return concluded(measured, asked, with_truth(asked, declared), config.across)
