"""Which models a study trains, and in which order; which are there already."""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from kdxai import files
from kdxai.data import datasets
from kdxai.data.datasets import Dataset
from kdxai.errors import UserError, line
from kdxai.settings import difference
from kdxai.study.config import VERSION
from kdxai.training import runs

ORDER = (
    *("teacher", "second_teacher", "student", "control", "tiny_student"),
    *("shallow_student", "shallow_control", "untrained", "resnext", "resnext_student"),
)
SEEDS = 1000  # at most: every one is a study
# What a file, a table, a page and a picture take as it is.
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_. -]{0,58}[A-Za-z0-9_.-])?")


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
      UserError: no seeds, a name that is none of the models or cannot be one, a comparison of other
        than two, teachers in a circle.
    """
    if not 1 <= config.seeds <= SEEDS:
        raise UserError(f"a study needs at least 1 seed and at most {SEEDS:,}, not {config.seeds}")
    require_names(config.models)
    require_pairs(config.compare)
    for pair in config.compare:
        require_known("compare", pair, config.models)
    require_known("ladder", listed(config.ladder), config.models)
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
    only = list(dict.fromkeys(listed(config.only)))
    if not only:
        raise UserError("only names no model; name some with commas, or all")
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


def listed(names: str) -> list[str]:
    """`a, b` -> [a, b]."""
    return [name for entry in names.split(",") if (name := entry.strip())]


def require_names(models: Iterable[str]) -> None:
    """Raises:
    UserError: a name that a model cannot have, or two that are one to some file systems.
    """
    taken: dict[str, str] = {}
    for name in models:
        if not NAME.fullmatch(name):
            shown = name if len(name) <= 70 else f"{name[:60]}..."
            raise UserError(
                f"'{shown}' is no name for a model: take up to 60 letters (a to z), digits, "
                "spaces, '_', '.' and '-', first a letter or a digit"
            )
        if (other := taken.setdefault(name.lower(), name)) != name:
            raise UserError(f"the models '{other}' and '{name}' differ in case alone; rename one")


def require_pairs(compare: Iterable[Sequence[str]]) -> None:
    """Raises:
    UserError: a comparison is not of two different models.
    """
    for pair in compare:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or pair[0] == pair[1]:
            raise UserError(f"compare takes pairs of two different models, not {pair!r}")


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
    settings = files.read_json(path)
    settings.pop(runs.CONTENT, None)
    config = ConfigDict(settings)
    if config.get("version") != VERSION:
        raise UserError(
            f"{workdir} is a study of another version of kdxai; name its models instead: "
            "--config.models=NAME=DIRECTORY,..."
        )
    try:
        cells = plan(config, Path(workdir))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no config of a study ({line(error)})") from error
    for cell in cells:
        runs.finished(cell.workdir)
    return cells, load_data(cells)


def named_directories(models: str | Sequence[str]) -> dict[str, str]:
    """`NAME=DIRECTORY,NAME=DIRECTORY,...`, or a tuple of `NAME=DIRECTORY` -> {name: directory}.

    In one text a comma ends a directory only where a name and `=` follow; a tuple takes any.

    Raises:
      UserError: it is neither, a name twice, or a name that a model cannot have.
    """
    if isinstance(models, str):
        entries = re.split(r",(?=[^,/]*=)", models)
    else:
        entries = list(models) if isinstance(models, list | tuple) else []
    found: dict[str, str] = {}
    for entry in map(str, entries):
        name, _, directory = entry.strip().partition("=")
        if not name or not directory or name in found:
            break
        found[name] = directory
    if not entries or len(found) < len(entries):
        raise UserError(
            "models is NAME=DIRECTORY,NAME=DIRECTORY,... or a tuple ('NAME=DIRECTORY', ...), each "
            f"name once, not '{textwrap.shorten(str(models), 200)}'"
        )
    require_names(found)
    return found


def finished_cells(models: str | Sequence[str]) -> tuple[list[Cell], Dataset]:
    """The runs that `named_directories` names, and the data set of all.

    Raises:
      UserError: as `named_directories`; a run is not finished, or the runs are of different data.
    """
    cells = [
        Cell(name, 0, runs.finished(directory)[0], Path(directory))
        for name, directory in named_directories(models).items()
    ]
    return cells, load_data(cells)


def load_data(cells: Sequence[Cell]) -> Dataset:
    """The data set that finished runs were trained on.

    Raises:
      UserError: they were trained on different ones, or it has changed since.
    """
    ours = [cell.config.data.to_dict() for cell in cells]
    for data in ours:  # one place may be written in several ways
        if data.get("data_dir"):
            data["data_dir"] = str(Path(data["data_dir"]).expanduser().resolve())
    for cell, data in zip(cells, ours, strict=True):
        if data != ours[0]:
            raise UserError(
                f"{cells[0].workdir} and {cell.workdir} have different data: "
                f"{difference(ours[0], data)}"
            )
    try:
        dataset = datasets.load(**cells[0].config.data)
    except UserError as error:
        raise UserError(
            f"the data that {cells[0].workdir} was trained on cannot be read ({error}); if they "
            "have moved, give the command that trained it again, with their place now"
        ) from error
    found = datasets.fingerprint(dataset)
    for cell in cells:
        kept = files.read_json(cell.workdir / runs.CONFIG).get(runs.CONTENT, {})
        if kept.get("data.data_dir", found) != found:
            raise UserError(
                f"the data set '{dataset.name}' is not what {cell.workdir} was trained on; bring "
                "the data back, or train the model anew in another directory"
            )
    return dataset
