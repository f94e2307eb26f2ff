"""The paper's protocol, repaired one flaw at a time, on models that are trained already."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kdxai.protocol import ladder
from kdxai.study import stats
from kdxai.study.measure import draw_images, explained
from kdxai.study.run import finished_cells
from kdxai.training import runs


class Audit(NamedTuple):
    """What an audit found.

    Attributes:
      table: columns `rung, model, metric, mean, ci_low, ci_high, n`, from the notebook's protocol
        down to the sound one.
      models: names, in order.
    """

    table: pd.DataFrame
    models: list[str]


def audit(config: ConfigDict, workdir: str | Path) -> Audit:
    """Table 1 at every rung of the ladder, for every model.

    Raises:
      UserError: a run is not finished, or the runs are of different data; no images asked for, or
        more than there are.
    """
    workdir = Path(workdir)
    cells, dataset = finished_cells(config.models)
    splits = {"test": dataset.test, "train": dataset.train}
    drawn = {name: draw_images(config, len(split.label)) for name, split in splits.items()}
    runs.claim(workdir, config)
    records = []
    for cell in cells:
        trained = runs.load(cell.workdir)
        for number, (rung, protocol) in enumerate(ladder(trained.model).items()):
            split, images = splits[protocol.split], np.sort(drawn[protocol.split])
            columns = {"model": cell.name, "seed": 0, "method": f"rung{number}"}
            rows = explained(workdir, columns, trained, protocol, split, images)
            records.append(rows.assign(rung=rung))
    joined = pd.concat(records, ignore_index=True)
    present = {cell.name for cell in cells}
    compare = [pair for pair in config.compare if set(pair) <= present]
    tables = {
        rung: stats.table(part, compare, resamples=config.resamples, seed=config.seed)
        for rung, part in joined.groupby("rung", sort=False)
    }
    table = pd.concat(tables, names=["rung"]).reset_index("rung").reset_index(drop=True)
    return Audit(table, [cell.name for cell in cells])
