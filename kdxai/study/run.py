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
from kdxai.study.measure import NONE, Measured, draw_all_maps, measure, measure_members
from kdxai.study.members import Member
from kdxai.study.origins import Shape
from kdxai.study.plan import Run, chosen, runs_of_job
from kdxai.study.records import Shelf
from kdxai.study.wanted import Wanted, require_defined, wanted
from kdxai.training import checkpoints, runs

Claims = Mapping[str, Mapping]  # as for `claims.judge`


def study(config: ConfigDict, workdir: str | Path) -> Measured | None:
    """Run a whole study, or one job's share of it; what is done already is not done again.

    Returns:
      What was found; None of a share (`config.share`), whose records wait for the whole.

    Raises:
      UserError: bad settings, or a directory that another config made.
    """
    workdir = Path(workdir)
    checked = check(config, workdir)
    planned, dataset, what = checked.planned, checked.dataset, checked.wanted
    shared = config.copy_and_resolve_references()
    shared.share = ""  # every job of an array works for the same study
    content = {"data.data_dir": datasets.fingerprint(dataset), **plan.contents(planned)}
    runs.claim_directory(workdir, shared, content)
    make(checked.mine, dataset)
    if len(checked.mine) < len(planned):
        mine, shelf = plan.made(checked.mine), Shelf(workdir)
        measure_members(mine, dataset, what, shelf)
        if alike.is_worth_pairs(mine) or max(Counter(one.name for one in planned).values()) > 1:
            draw_all_maps(mine, dataset, what, shelf)
        return None
    found = plan.made(planned)
    told = checked.design._replace(recipes=members.recipes(found))
    measured = measure(told, found, dataset, what, workdir)
    return with_verdicts(measured, config, checked.claims, workdir)


class Checked(NamedTuple):
    """A study that can be run to its end.

    Attributes:
      planned, mine: all runs, and those of this job.
      claims: those about models that are made.
    """

    planned: Sequence[Run]
    mine: Sequence[Run]
    dataset: Dataset
    design: Design
    wanted: Wanted
    claims: Mapping[str, Mapping]


def check(config: ConfigDict, workdir: Path) -> Checked:
    """Everything of a study that can be wrong, its last page included, before its first step.

    Raises:
      UserError: it is.
    """
    planned = plan.plan(config, workdir)
    mine = runs_of_job(planned, config.share)
    names = chosen(config)
    dataset = datasets.load(**config.data)
    sizes = Counter(run.name for run in planned)
    declared = claims.declared(config, set(config.models), sizes)
    told = design.read(config, names, config.models)
    pairs = dict.fromkeys([*told.compare, *claims.pairs(declared, told.reference)])
    what = wanted(config.evaluation, list(pairs), names, len(dataset.test.label))
    networks: dict[str, Shape] = {}  # by their directories
    for run in planned:
        parent = networks.get(run.made_from)
        network = run.origin.check(run.config, dataset, parent)
        require_defined(network, what, dataset)
        networks[str(run.workdir)] = network
    plan.made([run for run in planned if run.origin.there])
    checkpoints.folder(workdir)
    if set(listed(config.ladder)) & set(names):
        audit.require_enough(config.evaluation, dataset)
    return Checked(planned, mine, dataset, told, what, declared)


def with_verdicts(
    measured: Measured, config: ConfigDict, declared: Claims, workdir: Path
) -> Measured:
    """Add the verdicts on the claims, and the audit with its own."""
    evaluation = config.evaluation
    asked = asked_first(measured, config.across)
    declared = with_truth(asked, declared)
    found, tables = [], NONE
    names = listed(config.ladder)
    audited = [one for one in measured.members if one.name in names]
    if audited:
        steps = audit.chosen_steps("", audited)
        records = audit.measure_steps(audited, measured.dataset, evaluation, workdir, steps)
        tables, verdicts, _ = audit.judge_steps(
            records, measured.design, declared, config.across, evaluation
        )
        if len(verdicts):  # the last step is the study's own protocol
            found.append(verdicts[verdicts.rung != steps[-1]])
    return concluded(measured._replace(ladder=tables), asked, declared, config.across, found)


def asked_first(measured: Measured, across: str) -> Claims:
    """The claims that answer the question of every study, of what was measured."""
    main = measured.wanted.protocols[0].method
    records = measured.records[measured.records.method == main].dropna(axis=1, how="all")
    sizes = records.groupby("model").seed.nunique().to_dict()
    return question.claims(measured.design, list(records), sizes, across)


def with_truth(asked: Claims, declared: Claims) -> Claims:
    """The declared claims, behind those by the truth, which belong to all data that have masks."""
    of_truth = {name: one for name, one in asked.items() if one["metric"] in question.BY_MASKS}
    return of_truth | dict(declared)


def concluded(
    measured: Measured,
    asked: Claims,
    declared: Claims,
    across: str,
    audited: Sequence[pd.DataFrame] = (),
) -> Measured:
    """Add the verdicts on the claims, and on those that answer the question of every study.

    Args:
      asked: `asked_first`; those that are declared too are judged among these.
      audited: verdicts at the steps before the sound one.
    """
    own = judge_sound(measured, declared, across) if declared else NONE
    if set(asked) <= set(declared):
        answers = own[own.claim.isin(asked)] if asked else NONE
    else:
        answers = judge_sound(measured, asked, across)
    found = [*audited, *([own] if declared else [])]
    return measured._replace(
        claims=pd.concat(found, ignore_index=True) if found else NONE, question=answers
    )


def judge_sound(measured: Measured, declared: Claims, across: str) -> pd.DataFrame:
    """`claims.judge` of the first method on the random images, as the step "sound"."""
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


def make(planned: Sequence[Run], dataset: Dataset) -> None:
    """Make what is not there yet, saying how far the study is and how long it may take.

    What is there already is checked: that its settings, its data and what it is made from are the
    same.
    """
    seconds: dict[str, list[float]] = {}  # a model's name -> of its members
    planned = [run for run in planned if not run.origin.there]
    waiting = [run for run in planned if not files.there(run.workdir / trained.MODEL)]
    started = time.perf_counter()
    for run in planned:
        if run not in waiting:
            run.origin.make(run.config, run.workdir, dataset)
            continue
        number, left = waiting.index(run), ""
        if known := list(itertools.chain.from_iterable(seconds.values())):
            ahead = (seconds.get(one.name, known) for one in waiting[number:])
            left = f", about {sum(np.mean(times) for times in ahead) / 60:,.0f} min left"
        done = len(planned) - len(waiting) + number
        print(
            f"{run.workdir}: model {done + 1} of {len(planned)}, {done} done{left}", file=sys.stderr
        )
        run.origin.make(run.config, run.workdir, dataset)
        now = time.perf_counter()
        seconds.setdefault(run.name, []).append(now - started)
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
      content: of `config`, as `runs.claim_directory` takes it.

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
    runs.claim_directory(workdir, config, content)
    measured = measure(told, found, dataset, what, workdir)
    asked = asked_first(measured, config.across)
    return concluded(measured, asked, with_truth(asked, declared), config.across)
