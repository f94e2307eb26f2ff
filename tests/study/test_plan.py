import runpy
from collections import Counter
from pathlib import Path

import pytest
from ml_collections import ConfigDict
from scripts import ROOT

from kdxai.errors import UserError
from kdxai.settings import flatten
from kdxai.study import claims, origins
from kdxai.study import config as studies
from kdxai.study.origins import Origin
from kdxai.study.plan import plan, runs_of_job, sources_first


@pytest.fixture
def config():
    return runpy.run_path(str(ROOT / "configs" / "study.py"))["get_config"]("quick")


def test_teacher_student_control(config):
    config.seeds = 2
    config.only = "teacher,student,control"
    runs = plan(config, Path("work"))
    names = ["teacher", "student", "control"]
    assert [(c.name, c.seed) for c in runs] == [(n, s) for s in (0, 1) for n in names]
    teacher, student, control = (c.config for c in runs[3:])
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
    names = [run.name for run in plan(config, Path("work"))]
    assert names == config.only.split(",")
    config.only = "all"
    assert len(plan(config, Path("work"))) == 10


def test_what_is_distilled_differs_in_its_objective_alone():
    config = runpy.run_path(str(ROOT / "configs" / "study.py"))["get_config"]("accurate")
    models = config.models
    names = [run.name for run in plan(config, Path("work"))]
    assert names == list(config.order)
    assert {*names} == {*models} == {*config.roles}
    assert difference(models.teacher, models.second_teacher) == {"seed", "augment.seed"}
    assert difference(models.student, models.control) == {"teacher"}
    smooth = {"objective.name", "objective.smoothing"}
    assert difference(models.control, models.smoothed_control) == smooth
    assert difference(models.student, models.tiny_student) == {"model.name"}
    weighed = {"objective.name", "objective.weight"}
    for name in ("dkd", "cat"):
        assert difference(models.student, models[f"{name}_student"]) == weighed
    for name in ("attention", "e2kd"):
        assert difference(models.student, models[f"{name}_student"]) == {"objective.name"}
    claims.check(config.claims, names, dict.fromkeys(names, 3))


def test_the_smaller_transformer_is_the_teacher_made_small():
    config = runpy.run_path(str(ROOT / "configs" / "study.py"))["get_config"]("vit")
    models = config.models
    names = [run.name for run in plan(config, Path("work"))]
    assert {*names} == {*models} == {*config.roles} == {*config.order}
    assert difference(models.student, models.control) == {"teacher"}
    assert difference(models.vit_student, models.vit_control) == {"teacher"}
    shorter = {"model.name", "epochs", "optim.warmup_epochs"}
    assert difference(models.teacher, models.vit_control) == shorter
    claims.check(config.claims, names, dict.fromkeys(names, 1))


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
    runs = {(run.name, run.seed): run.config for run in plan(config, Path("work"))}
    assert difference(runs["control", 0], runs["control", 1]) == {"seed", "augment.seed"}


def test_shares_keep_students_with_their_teacher(config):
    config.only, config.seeds = "all", 3
    runs = plan(config, Path("work"))
    for n in (1, 2, 4, 40):
        shares = [runs_of_job(runs, f"{i}/{n}") for i in range(1, n + 1)]
        assert sorted(c.workdir for part in shares for c in part) == sorted(c.workdir for c in runs)
        for part in shares:
            directories = [str(run.workdir) for run in part]
            for i, run in enumerate(part):
                assert not run.config.teacher or run.config.teacher in directories[:i]
    assert runs_of_job(runs, "") == runs
    for share in ("0/2", "3/2", "1", "a/b"):
        with pytest.raises(UserError, match="share is i/n"):
            runs_of_job(runs, share)


def populations(config, **sizes):
    """A study of `name=places`, or of the number of seeds, and children of them."""
    models = {}
    for name, value in sizes.items():
        if isinstance(value, tuple):
            models[name] = ConfigDict({"origin": "made", "places": value})
        elif value in sizes:
            models[name] = ConfigDict({"origin": "compress", "parent": value})
        else:
            models[name] = config.models.control.copy_and_resolve_references()
            models[name].teacher = value
    return studies.study(config.data, models)


@pytest.fixture
def compress(monkeypatch):
    none = Origin(*[lambda *_: None] * 3, made_from="parent")
    monkeypatch.setitem(origins.ORIGINS, "compress", none)


def test_a_population_has_as_many_members_as_its_origin_says(config, compress):
    study = populations(config, half="dense", net="", quarter="half", dense=("a", "b.py:f", "c"))
    study.models.small = ConfigDict({"origin": "compress", "parent": "net"})
    study.seeds = 2
    runs = {(one.name, one.seed): one for one in plan(study, Path("work"))}
    found = Counter(name for name, _ in runs)
    assert found == {"net": 2, "small": 2, "dense": 3, "half": 3, "quarter": 3}
    assert [str(runs["dense", n].workdir) for n in range(3)] == ["a", "b.py:f", "c"]
    assert [runs["half", n].config.parent for n in range(3)] == ["a", "b.py:f", "c"]
    assert runs["quarter", 2].made_from == str(Path("work/seed2/half"))
    assert runs["small", 1].made_from == str(Path("work/seed1/net"))
    # All that is made of one network is the work of one job.
    mine = runs_of_job(list(runs.values()), "1/5")
    assert [(one.name, one.seed) for one in mine] == [("dense", 0), ("half", 0), ("quarter", 0)]


@pytest.mark.parametrize(
    "given", ["a, b", ("a", "b"), ["a", "b"], ("a,b",)], ids=["text", "tuple", "list", "typed"]
)
def test_places_as_a_text_and_as_a_tuple(config, given):
    study = populations(config, net=("x",))
    with study.ignore_type():
        study.models.net.places = given
    assert [one.config.places for one in plan(study, Path("work"))] == ["a", "b"]


def test_one_network_stands_for_every_member_that_is_made_from_it(config, compress):
    study = populations(config, net=("a",), student="net", small="student")
    study.models.student = config.models.control.copy_and_resolve_references()
    study.models.student.teacher = "net"
    study.seeds = 3
    runs = {(one.name, one.seed): one for one in plan(study, Path("work"))}
    assert {runs["student", n].config.teacher for n in range(3)} == {"a"}
    assert len(runs) == 1 + 3 + 3
    study.models.net.places = ("a", "b")
    with pytest.raises(UserError, match="'student' has 3 members and 'net', .* one by one, 2; "):
        plan(study, Path("work"))
    study.seeds = 2
    students = [one for one in plan(study, Path("work")) if one.name == "student"]
    assert [one.config.teacher for one in students] == ["a", "b"]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("models.net.places", (), "places of 'net' names nothing; name one for each member"),
        ("models.net.places", ("a", "a"), "places of 'net' names one twice"),
        ("models.half.parent", "", "say with parent which model 'half' is made from"),
        ("models.half.parent", "uncle", "'half' is made from 'uncle', which is no model of"),
        ("seeds", 2, "seeds=2 changes nothing: none of net, half is trained; set seeds=1"),
    ],
)
def test_populations_that_cannot_be_are_one_line(config, compress, key, value, message):
    study = populations(config, net=("a", "b"), half="net")
    study.update_from_flattened_dict({key: value})
    with pytest.raises(UserError, match=message) as refused:
        plan(study, Path("work"))
    assert "\n" not in str(refused.value)


def test_only_some_models(config):
    config.only = "control, student, teacher"
    assert [run.name for run in plan(config, Path("work"))] == ["control", "teacher", "student"]
    config.only = "student"
    with pytest.raises(UserError, match="'student' without what it is made from; add 'teacher'"):
        plan(config, Path("work"))
    config.only = "teacher,uncle"
    with pytest.raises(UserError, match="only names 'uncle', which is none of"):
        plan(config, Path("work"))


def test_unknown_recipes_are_refused():
    for name in ("study", "teacher", "student"):
        get_config = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]
        with pytest.raises(
            UserError, match="recipes published, fast, quick, small, accurate and vit, not 'slow'"
        ):
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
