import runpy
from pathlib import Path

import pytest
from scripts import ROOT

from kdxai.errors import UserError
from kdxai.settings import flatten
from kdxai.study.plan import plan, share, sources_first


@pytest.fixture
def config():
    return runpy.run_path(str(ROOT / "configs" / "study.py"))["get_config"]("quick")


def test_teacher_student_control(config):
    config.seeds = 2
    config.only = "teacher,student,control"
    cells = plan(config, Path("work"))
    names = ["teacher", "student", "control"]
    assert [(c.name, c.seed) for c in cells] == [(n, s) for s in (0, 1) for n in names]
    teacher, student, control = (c.config for c in cells[3:])
    assert {c.seed for c in (teacher, student, control)} == {1}
    assert student.teacher == str(Path("work/seed1/teacher"))
    assert teacher.teacher == control.teacher == ""
    # The control differs from the student in its teacher alone.
    with student.unlocked():
        student.teacher = ""
    assert student == control
    assert teacher.data == student.data == config.data


@pytest.mark.parametrize("recipe", ["published", "fast", "quick", "small"])
def test_every_recipe_is_a_plan(recipe):
    get_config = runpy.run_path(str(ROOT / "configs" / "study.py"))["get_config"]
    config = get_config(recipe)
    names = [cell.name for cell in plan(config, Path("work"))]
    assert names == config.only.split(",")
    config.only = "all"
    assert len(plan(config, Path("work"))) == 10


def test_the_published_study_is_the_papers():
    config = runpy.run_path(str(ROOT / "configs" / "study.py"))["get_config"]()
    assert config.data.name == "cifar10"
    assert config.models.teacher.model.name == "wrn-28-10"
    assert config.models.student.model.name == "resnet18"
    distill = config.models.student.distill
    assert (distill.temperature, distill.alpha) == (6.0, 0.95)
    assert config.evaluation.images == 1000


def difference(one, other):
    return {key for key, value in flatten(one).items() if flatten(other)[key] != value}


def test_controls_differ_in_one_thing(config):
    models = config.models
    assert difference(models.teacher, models.second_teacher) == {"seed", "augment.seed"}
    assert difference(models.student, models.control) == {"teacher"}
    assert difference(models.student, models.tiny_student) == {"model.name"}
    assert difference(models.shallow_student, models.shallow_control) == {"teacher"}
    assert difference(models.resnext_student, models.student) == {"teacher"}
    assert models.untrained.epochs == 0


def test_replicates_differ_in_their_seeds(config):
    config.seeds = 2
    cells = {(cell.name, cell.seed): cell.config for cell in plan(config, Path("work"))}
    assert difference(cells["control", 0], cells["control", 1]) == {"seed", "augment.seed"}


def test_shares_keep_students_with_their_teacher(config):
    config.only, config.seeds = "all", 3
    cells = plan(config, Path("work"))
    for n in (1, 2, 4, 40):
        shares = [share(cells, f"{i}/{n}") for i in range(1, n + 1)]
        assert sorted(c.workdir for part in shares for c in part) == sorted(
            c.workdir for c in cells
        )
        for part in shares:
            directories = [str(cell.workdir) for cell in part]
            for i, cell in enumerate(part):
                assert not cell.config.teacher or cell.config.teacher in directories[:i]
    assert share(cells, "") == cells
    for cell in ("0/2", "3/2", "1", "a/b"):
        with pytest.raises(UserError, match="cell is i/n"):
            share(cells, cell)


def test_only_some_models(config):
    config.only = "control, student, teacher"
    assert [cell.name for cell in plan(config, Path("work"))] == ["control", "teacher", "student"]
    config.only = "student"
    with pytest.raises(UserError, match="'student' without what it is made from; add 'teacher'"):
        plan(config, Path("work"))
    config.only = "teacher,uncle"
    with pytest.raises(UserError, match="only names 'uncle', which is none of"):
        plan(config, Path("work"))


def test_unknown_recipes_are_refused():
    for name in ("study", "teacher", "student"):
        get_config = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]
        with pytest.raises(UserError, match="recipes published, fast, quick and small, not 'slow'"):
            get_config("slow")


def test_order():
    assert sources_first({"c": "b", "a": "", "b": "a", "d": ""}) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("teachers", [{"a": "b"}, {"a": "b", "b": "a"}, {"a": "a"}])
def test_teachers_that_cannot_come_first(teachers):
    with pytest.raises(UserError, match="no model of the study that can be made before it"):
        sources_first(teachers)


def test_bad_plans_are_refused(config):
    config.seeds = 0
    with pytest.raises(UserError, match="at least 1 seed"):
        plan(config, Path("work"))
    config.seeds = 1
    config.compare = (("student", "uncle"),)
    with pytest.raises(UserError, match="names 'uncle', which is none of"):
        plan(config, Path("work"))
