"""A study from its config: train what is planned, then measure it."""

from pathlib import Path

from ml_collections import ConfigDict

from kdxai import evaluate
from kdxai.data import datasets
from kdxai.data.datasets import Dataset
from kdxai.errors import UserError
from kdxai.models import Network
from kdxai.study.measure import Measured, Wanted, measure, wanted
from kdxai.study.plan import Cell, plan
from kdxai.training import loop, runs


def study(config: ConfigDict, workdir: str | Path) -> Measured:
    """Run a whole study; what is done already is not done again.

    Raises:
      UserError: bad settings, or a directory that another config made.
    """
    workdir = Path(workdir)
    cells = plan(config, workdir)
    dataset = datasets.load(**config.data)
    available = len(dataset.test.label)
    what = wanted(config.evaluation, config.compare, list(config.models), available)
    for cell in cells:
        require_defined(loop.check(cell.config, dataset), what, dataset)
    runs.claim(workdir, config)
    for cell in cells:
        if runs.read_result(cell.workdir) is None:
            loop.train(cell.config, cell.workdir, dataset)
    return measure(cells, dataset, what, workdir)


def explain(config: ConfigDict, workdir: str | Path) -> Measured:
    """Measure finished runs, without training any.

    Raises:
      UserError: a run is not finished, or the runs are of different data.
    """
    workdir = Path(workdir)
    cells, dataset = finished_cells(config.models)
    what = wanted(config, config.compare, [cell.name for cell in cells], len(dataset.test.label))
    for cell in cells:
        require_defined(runs.create_model(cell.config, len(dataset.class_names)), what, dataset)
    runs.claim(workdir, config)
    return measure(cells, dataset, what, workdir)


def require_defined(model: Network, what: Wanted, dataset: Dataset) -> None:
    """Raises:
    UserError: a method that is wanted does not suit the model or the data.
    """
    for protocol in what.protocols:
        evaluate.require_defined(model, protocol, masks=dataset.test.mask is not None)


def finished_cells(models: str) -> tuple[list[Cell], Dataset]:
    """The runs of `NAME=DIRECTORY,NAME=DIRECTORY,...` and the data set of all.

    Raises:
      UserError: a run is not finished, or the runs are of different data.
    """
    cells: list[Cell] = []
    for name, _, directory in (entry.partition("=") for entry in models.split(",")):
        if not directory or not name or "/" in name or name in [cell.name for cell in cells]:
            raise UserError(
                f"models is NAME=DIRECTORY,NAME=DIRECTORY,... with plain names, each once, not "
                f"'{models}'"
            )
        cells.append(Cell(name, 0, runs.finished(directory)[0], Path(directory)))
    for cell in cells:
        if cell.config.data != cells[0].config.data:
            raise UserError(
                f"{cells[0].workdir} and {cell.workdir} have different data: "
                f"{runs.difference(cells[0].config.data, cell.config.data)}"
            )
    return cells, datasets.load(**cells[0].config.data)
