"""Which models a study trains, and in which order."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from kdxai.errors import UserError


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
      UserError: no seeds, a teacher or a comparison that names no model, teachers in a circle.
    """
    if config.seeds < 1:
        raise UserError(f"a study needs at least 1 seed, not {config.seeds}")
    for pair in config.compare:
        for name in pair:
            if name not in config.models:
                raise UserError(
                    f"compare names '{name}', which is none of the study's models: "
                    f"{', '.join(config.models)}"
                )
    names = teachers_first({name: m.teacher for name, m in config.models.items()})
    cells = []
    for seed in range(config.seeds):
        for name in names:
            model = config.models[name].copy_and_resolve_references()
            with model.unlocked():
                model.data = config.data
            model.seed += seed
            if model.teacher:
                model.teacher = str(directory(workdir, seed, model.teacher))
            cells.append(Cell(name, seed, model, directory(workdir, seed, name)))
    return cells


def directory(workdir: Path, seed: int, name: str) -> Path:
    return workdir / f"seed{seed}" / name


def teachers_first(teachers: Mapping[str, str]) -> list[str]:
    """Order names so that each follows its teacher; {name: teacher's name or ""}.

    Distilled models come with their teachers first, the order in which people compare them.
    """
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

    for name in sorted(teachers, key=lambda name: not teachers[name]):
        visit(name)
    return ordered
