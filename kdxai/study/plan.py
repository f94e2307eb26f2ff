"""Which models a study trains, and in which order; which are there already."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from kdxai.data import datasets
from kdxai.data.datasets import Dataset
from kdxai.errors import UserError
from kdxai.study.config import VERSION
from kdxai.training import runs

ORDER = (
    *("teacher", "second_teacher", "student", "control", "tiny_student"),
    *("shallow_student", "shallow_control", "untrained", "resnext", "resnext_student"),
)


class Cell(NamedTuple):
    """One model of one replicate.

    Attributes:
      name: of the model in the study.
      seed: number of the replicate.
      config: of the training run, complete.
      workdir: of the training run.
    """

    name: str
    seed: int
    config: ConfigDict
    workdir: Path


def plan(config: ConfigDict, workdir: Path) -> list[Cell]:
    """The training runs of a study, every teacher before its students.

    Raises:
      UserError: no seeds, a name that is none of the models, teachers in a circle.
    """
    if config.seeds < 1:
        raise UserError(f"a study needs at least 1 seed, not {config.seeds}")
    for pair in config.compare:
        require_known("compare", pair, config.models)
    names = chosen(config)
    cells = []
    for seed in range(config.seeds):
        for name in names:
            model = config.models[name].copy_and_resolve_references()
            with model.unlocked():
                model.data = config.data
            model.seed += seed
            model.augment.seed += seed  # a replicate has views of its own
            if model.teacher:
                model.teacher = str(directory(workdir, seed, model.teacher))
            cells.append(Cell(name, seed, model, directory(workdir, seed, name)))
    return cells


def chosen(config: ConfigDict) -> list[str]:
    """The models of `config.only`, in its order, but every teacher before its students.

    Raises:
      UserError: a name that is none of the models, a student without its teacher.
    """
    teachers = {name: model.teacher for name, model in config.models.items()}
    if config.only == "all":
        return teachers_first(dict(sorted(teachers.items(), key=lambda item: rank(item[0]))))
    only = list(dict.fromkeys(name.strip() for name in config.only.split(",")))
    require_known("only", only, config.models)
    for name in only:
        if teachers[name] in teachers and teachers[name] not in only:
            raise UserError(f"only names '{name}' without its teacher; add '{teachers[name]}'")
    return teachers_first({name: teachers[name] for name in only})


def rank(name: str) -> int:
    """Place of a model in tables; those that this package does not know come last."""
    return ORDER.index(name) if name in ORDER else len(ORDER)


def require_known(key: str, names: Iterable[str], models: Mapping[str, object]) -> None:
    """Raises:
    UserError: a name is none of the models.
    """
    for name in names:
        if name not in models:
            raise UserError(
                f"{key} names '{name}', which is none of the study's models: {', '.join(models)}"
            )


def share(cells: Sequence[Cell], cell: str) -> list[Cell]:
    """The cells of the i-th of n jobs, for `cell` = "i/n" (1/n to n/n); all of them for "".

    A student stays in one job with its teacher, so that the jobs need not wait for each other.

    Raises:
      UserError: `cell` is no such share.
    """
    if not cell:
        return list(cells)
    found = re.fullmatch(r"(\d+)/(\d+)", cell)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"cell is i/n, the i-th of n shares such as 1/4, not '{cell}'")
    families: dict[str, str] = {}  # a run's directory -> that of its first teacher
    for one in cells:
        families[str(one.workdir)] = families.get(one.config.teacher, str(one.workdir))
    mine = list(dict.fromkeys(families.values()))[int(found[1]) - 1 :: int(found[2])]
    return [one for one in cells if families[str(one.workdir)] in mine]


def directory(workdir: Path, seed: int, name: str) -> Path:
    return workdir / f"seed{seed}" / name


def teachers_first(teachers: Mapping[str, str]) -> list[str]:
    """Order names so that each follows its teacher; {name: teacher's name or ""}."""
    ordered: list[str] = []

    def visit(name: str, students: tuple[str, ...] = ()) -> None:
        if name not in teachers or name in students:
            raise UserError(
                f"the teacher of '{students[-1]}' is '{name}', which is no model of the study that "
                "can be trained before it"
            )
        if name not in ordered:
            if teachers[name]:
                visit(teachers[name], (*students, name))
            ordered.append(name)

    for name in teachers:
        visit(name)
    return ordered


def study_cells(workdir: str | Path) -> tuple[list[Cell], Dataset]:
    """All runs of a study and their data set.

    Raises:
      UserError: it is no study of this version, or a run is not finished.
    """
    path = Path(workdir) / runs.CONFIG
    if not path.exists():
        raise UserError(f"{workdir} holds no study; give a work directory of launch/study.py")
    config = ConfigDict(runs.read_json(path))
    if config.get("version") != VERSION:
        raise UserError(
            f"{workdir} is a study of another version of kdxai; name its models instead: "
            "--config.models=NAME=DIRECTORY,..."
        )
    cells = plan(config, Path(workdir))
    for cell in cells:
        runs.finished(cell.workdir)
    return cells, datasets.load(**config.data)


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
