"""A literal protocol, repaired one flaw at a time, on models that are there already."""

import itertools
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kdxai.data.datasets import Dataset
from kdxai.errors import UserError
from kdxai.externals import External
from kdxai.measures import Model
from kdxai.models import Network
from kdxai.protocol import SOUND, Protocol
from kdxai.settings import listed
from kdxai.study import claims, design, members, paper, stats
from kdxai.study.design import Design
from kdxai.study.measure import NONE, by, member_rows
from kdxai.study.members import Member
from kdxai.study.paper import PRESETS, STAND_INS
from kdxai.study.plan import study_members
from kdxai.study.records import Shelf
from kdxai.study.wanted import require_drawable, require_resamples, require_size, sample_images
from kdxai.training import runs


class Audit(NamedTuple):
    """What an audit found, from the literal protocol down to the sound one.

    Attributes:
      table: `stats.table` of every step, named in the first column `rung`.
      claims: `claims.judge` of every step, as above.
      records: what they are of, and of members beside them that not every name has.
    """

    table: pd.DataFrame
    claims: pd.DataFrame
    records: pd.DataFrame


def audit(config: ConfigDict, workdir: str | Path) -> Audit:
    """Table 1 and the verdict on every claim, at every step of the audit.

    Raises:
      UserError: a model or a study is not finished, the models are of different data or do not
        provide a step; no images asked for, or more than there are; a claim that cannot be judged.
    """
    workdir = Path(workdir)
    if bool(config.models) == bool(config.study):
        raise UserError("give either models=NAME=PLACE,... or study=DIRECTORY")
    require_resamples(config)
    if config.study:
        found = study_members(config.study)
    else:
        found = members.read(members.named_places(config.models))
    names = list(dict.fromkeys(one.name for one in found))
    told = design.read(config, names, paper.ROLES)._replace(recipes=members.recipes(found))
    chosen = chosen_steps(config.rungs, found)
    sizes = Counter(one.name for one in found)
    declared = claims.declared(config, {*paper.ROLES, *names}, sizes)
    dataset = members.load_data(found, config.data)
    require_size(dataset)
    require_enough(config, dataset)
    for one in found:
        if isinstance(one.model, External):
            require_head(one.name, one.model)
            require_drawable(one.model, SOUND, masks=dataset.test.mask is not None)
        elif not one.model.model.has_cam:
            raise UserError(
                f"an audit draws CAM, for which '{one.name}' has no linear head on the average of "
                "its last map; leave it out"
            )
    content = ", ".join(dict.fromkeys(names) if config.study else (one.name for one in found))
    runs.claim_directory(workdir, config, dict.fromkeys(("models", "study"), content))
    records = measure_steps(found, dataset, config, workdir, chosen)
    return judge_steps(records, told, declared, config.across, config)


def require_head(name: str, model: External) -> None:
    """Check that CAM can be drawn of a classifier of one's own.

    Raises:
      UserError: it has no head, by which CAM, the method of every step, weighs its features.
    """
    if model.classifier.head is None:
        raise UserError(
            f"an audit draws CAM, for which '{name}' lacks its linear head: give its Classifier "
            "head, the [c, K] weights of a linear layer on averaged features"
        )


def require_enough(evaluation: ConfigDict, dataset: Dataset) -> None:
    """Check that either split has the images asked for.

    Raises:
      UserError: a split has fewer images than an audit is to measure.
    """
    for split in (dataset.test, dataset.train):
        sample_images(evaluation, len(split.label))


def judge_steps(
    records: pd.DataFrame,
    told: Design,
    declared: Mapping[str, Mapping],
    across: str,
    evaluation: ConfigDict,
) -> Audit:
    """`stats.table` and `claims.judge` of each step; agreement is measured at none."""
    models = set(records.model)
    mine = {
        name: one
        for name, one in declared.items()
        if {one["one"], one["other"]} <= models and not claims.of_two_maps(one)
    }
    options = {"resamples": evaluation.resamples, "seed": evaluation.seed}
    options["reference"] = told.reference
    table = by(records, "rung", partial(stats.table, compare=told.compare, **options))
    judge = partial(claims.judge, claims=mine, across=across, **options)
    verdicts = by(records, "rung", judge) if mine else NONE
    if mine:
        verdicts["about"] = claims.about(verdicts, told)
    return Audit(table, verdicts, records)


def chosen_steps(asked: str, found: Sequence[Member]) -> list[str]:
    """The steps that are asked for, by name with commas; "": all that change something.

    Raises:
      UserError: there is no such step, it changes nothing for these models, or they do not provide
        it.
    """
    sizes = Counter(one.name for one in found)
    for name, other in stand_ins(sizes).items():
        if sizes[name] > sizes[other]:
            raise UserError(
                f"there are {sizes[name]} of '{name}' and {sizes[other]} of '{other}', each of "
                "which stands in for one; give as many"
            )
    protocols = [paper.protocol_steps(network_of(one.model)) for one in found]
    steps = list(protocols[0])
    idle = [
        step
        for before, step in itertools.pairwise(steps)
        if all(one[before] == one[step] for one in protocols)
    ]
    provided = [step for step in steps if step not in idle]
    if stand_ins(sizes):
        provided.append(paper.RIGHT_TEACHER)
    chosen = split_names(asked, [*steps, paper.RIGHT_TEACHER]) if asked else provided
    for name in chosen:
        if name == paper.RIGHT_TEACHER and name not in provided:
            needs = " and ".join(f"{one} and {other}" for one, other in STAND_INS.items())
            raise UserError(f"the step '{name}' needs the models {needs}")
        if name in idle:
            raise UserError(
                f"the step '{name}' changes nothing for classifiers of one's own, which are cut "
                "and run as they are; leave it out"
            )
        if name not in (*provided, *PRESETS):
            known = ", ".join(dict.fromkeys([*provided, *PRESETS]))
            raise UserError(f"there is no step '{name}'; known: {known}")
    return chosen


def stand_ins(names: Collection[str]) -> dict[str, str]:
    """Those of `paper.STAND_INS` that are there, with those that they stand in for."""
    return {one: other for one, other in STAND_INS.items() if one in names and other in names}


def network_of(model: Model) -> Network | None:
    """What can be cut and run otherwise; None of a classifier of one's own."""
    return None if isinstance(model, External) else model.model


def split_names(asked: str, known: Sequence[str]) -> list[str]:
    """`literal, one class, its probability` -> two names, as some have a comma of their own."""
    parts, found = listed(asked), []
    while parts:
        size = next((n for n in (2, 1) if ", ".join(parts[:n]) in known), 1)
        found.append(", ".join(parts[:size]))
        parts = parts[size:]
    return list(dict.fromkeys(found))


def measure_steps(
    found: Sequence[Member],
    dataset: Dataset,
    evaluation: ConfigDict,
    workdir: Path,
    chosen: Sequence[str],
) -> pd.DataFrame:
    """Explain and measure models at every step; `workdir/records/` caches what is done.

    Args:
      evaluation: how many `images` of a split, and the `seed` that samples them.
      chosen: names of steps.

    Returns:
      A row per step (column `rung`), model, seed and image.
    """
    splits = {"test": dataset.test, "train": dataset.train}
    sampled = {
        name: np.sort(sample_images(evaluation, len(split.label))) for name, split in splits.items()
    }
    models = {(one.name, one.seed): one.model for one in found}
    away = stand_ins({one.name for one in found})
    records = []
    shelf = Shelf(workdir)
    for name, seed, model, _, line in found:
        if name in away.values():
            continue
        for step in chosen:
            stands_in = step not in (paper.RIGHT_TEACHER, "poppi", "sound") and name in away
            shown = models[away[name], seed] if stands_in else model
            protocol = step_protocol(step, shown)
            split, images = splits[protocol.split], sampled[protocol.split]
            if isinstance(shown, External):  # whose images are chosen here
                protocol = replace(protocol, split=SOUND.split)
            columns = {
                "model": name,
                "seed": seed,
                "method": step.replace(",", "").replace(" ", "-"),
            }
            rows = member_rows(shelf, columns, shown, protocol, split, images)
            records.append(rows.assign(rung=step, line=line))
    return pd.concat(records, ignore_index=True)


def step_protocol(step: str, model: Model) -> Protocol:
    """What a step asks of a model."""
    if step == paper.RIGHT_TEACHER:
        return SOUND
    network = network_of(model)
    known = paper.protocol_steps(network)
    return known[step] if step in known else PRESETS[step](network)
