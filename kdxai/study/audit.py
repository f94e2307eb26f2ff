"""A literal protocol, repaired one flaw at a time, on models that are there already."""

from collections.abc import Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kdxai.data.datasets import Dataset
from kdxai.errors import UserError
from kdxai.protocol import SOUND, Protocol
from kdxai.study import claims, design, stats
from kdxai.study.design import Design
from kdxai.study.measure import (
    NONE,
    by,
    draw_images,
    explained,
    require_resamples,
    require_size,
)
from kdxai.study.paper import PRESETS, REPAIRS, RIGHT_TEACHER, ROLES, STAND_INS, ladder
from kdxai.study.plan import finished_cells, listed, study_cells
from kdxai.study.records import Shelf
from kdxai.training import runs
from kdxai.training.runs import TrainedModel


class Audit(NamedTuple):
    """What an audit found, from the literal protocol down to the sound one.

    Attributes:
      table: `stats.table` of every rung, named in a first column.
      claims: `claims.judge` of every rung, as above.
    """

    table: pd.DataFrame
    claims: pd.DataFrame


def audit(config: ConfigDict, workdir: str | Path) -> Audit:
    """Table 1 and the verdict on every claim, at every rung of the ladder.

    Raises:
      UserError: a run or a study is not finished, the runs are of different data, the models do not
        provide a rung; no images asked for, or more than there are; a claim that cannot be judged.
    """
    workdir = Path(workdir)
    if bool(config.models) == bool(config.study):
        raise UserError("give either models=NAME=DIRECTORY,... or study=DIRECTORY")
    require_resamples(config)
    cells, dataset = study_cells(config.study) if config.study else finished_cells(config.models)
    names = list(dict.fromkeys(cell.name for cell in cells))
    told = design.read(config, names)
    chosen = rungs(config.rungs, names)
    seeds = len({cell.seed for cell in cells})
    declared = claims.declared(config, {*ROLES, *names}, names, seeds)
    require_size(dataset)
    require_ladder(config, dataset)
    runs.claim(workdir, config, dict.fromkeys(("models", "study"), ", ".join(names)))
    models = {(cell.name, cell.seed): runs.load(cell.workdir) for cell in cells}
    records = climb(models, dataset, config, workdir, chosen)
    return judged(records, told, declared, config.across, config)


def require_ladder(evaluation: ConfigDict, dataset: Dataset) -> None:
    """Raises:
    UserError: a split has fewer images than the ladder is to be climbed on.
    """
    for split in (dataset.test, dataset.train):
        draw_images(evaluation, len(split.label))


def judged(
    records: pd.DataFrame,
    told: Design,
    declared: Mapping[str, Mapping],
    across: str,
    evaluation: ConfigDict,
) -> Audit:
    """`stats.table` and `claims.judge` of each rung of `climb`, which measures no agreement."""
    models = set(records.model)
    mine = {
        name: one
        for name, one in declared.items()
        if {one["one"], one["other"]} <= models and not claims.of_agreement(one)
    }
    options = {"resamples": evaluation.resamples, "seed": evaluation.seed}
    options["reference"] = told.reference
    table = by(records, "rung", partial(stats.table, compare=told.compare, **options))
    judge = partial(claims.judge, claims=mine, across=across, **options)
    return Audit(table, by(records, "rung", judge) if mine else NONE)


def rungs(asked: str, models: Collection[str]) -> list[str]:
    """The rungs that are asked for, by name with commas; "": all that the models provide.

    Raises:
      UserError: there is no such rung, or the models do not provide it.
    """
    provided = ["literal", *REPAIRS]
    if any({name, stand_in} <= set(models) for name, stand_in in STAND_INS.items()):
        provided.append(RIGHT_TEACHER)
    chosen = split_names(asked, [*provided, RIGHT_TEACHER]) if asked else provided
    for name in chosen:
        if name == RIGHT_TEACHER and name not in provided:
            needs = " and ".join(f"{one} and {other}" for one, other in STAND_INS.items())
            raise UserError(f"the rung '{name}' needs the models {needs}")
        if name not in (*provided, *PRESETS):
            known = ", ".join(dict.fromkeys([*provided, *PRESETS]))
            raise UserError(f"there is no rung '{name}'; known: {known}")
    return chosen


def split_names(asked: str, known: Sequence[str]) -> list[str]:
    """`literal, one class, its probability` -> two names, as some have a comma of their own."""
    parts, found = listed(asked), []
    while parts:
        size = next((n for n in (2, 1) if ", ".join(parts[:n]) in known), 1)
        found.append(", ".join(parts[:size]))
        parts = parts[size:]
    return list(dict.fromkeys(found))


def climb(
    models: Mapping[tuple[str, int], TrainedModel],
    dataset: Dataset,
    evaluation: ConfigDict,
    workdir: Path,
    chosen: Sequence[str],
) -> pd.DataFrame:
    """Explain and measure models at every rung; `workdir/records/` keeps what is done.

    Args:
      models: (name, seed) -> model.
      evaluation: how many `images` of a split, and the `seed` that draws them.
      chosen: rungs.

    Returns:
      A row per rung, model, seed and image.
    """
    splits = {"test": dataset.test, "train": dataset.train}
    drawn = {
        name: np.sort(draw_images(evaluation, len(split.label))) for name, split in splits.items()
    }
    present = {name for name, _ in models}
    away = {one: other for one, other in STAND_INS.items() if {one, other} <= present}
    records = []
    shelf = Shelf(workdir)
    for (name, seed), model in models.items():
        if name in away.values():
            continue
        for rung in chosen:
            stands_in = rung not in (RIGHT_TEACHER, "poppi", "sound") and name in away
            shown = models[away[name], seed] if stands_in else model
            protocol = rung_protocol(rung, shown)
            split, images = splits[protocol.split], drawn[protocol.split]
            columns = {
                "model": name,
                "seed": seed,
                "method": rung.replace(",", "").replace(" ", "-"),
            }
            rows = explained(shelf, columns, shown, protocol, split, images)
            records.append(rows.assign(rung=rung))
    return pd.concat(records, ignore_index=True)


def rung_protocol(rung: str, trained: TrainedModel) -> Protocol:
    """What a rung asks of a model."""
    if rung == RIGHT_TEACHER:
        return SOUND
    climbed = ladder(trained.model)
    return climbed[rung] if rung in climbed else PRESETS[rung](trained.model)
