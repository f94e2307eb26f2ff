"""A study from its plan to its tables, with fresh weights and made-up records."""

import runpy
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from absl import flags
from ml_collections import config_flags
from scripts import ROOT

from kdxai import files, models
from kdxai.data import datasets
from kdxai.errors import UserError
from kdxai.models import trained
from kdxai.models.trained import Trained
from kdxai.protocol import SOUND
from kdxai.study import audit, design, measure, members, paper, plan, run, stats
from kdxai.study.measure import Measured
from kdxai.study.members import Member
from kdxai.study.paper import REPAIRS, protocol_steps
from kdxai.study.wanted import wanted
from kdxai.training import loop

NAMES = ("teacher", "student", "control", "untrained")


@pytest.fixture
def config(spots_data):
    """The quick study of small fresh models."""
    config = runpy.run_path(str(ROOT / "configs" / "study.py"))["get_config"]("quick")
    config.data.name, config.data.data_dir = "spots", str(spots_data)
    config.data.train_size = None
    for name in config.models:
        changes = {"model.name": "plain3-w4", "model.dtype": "float32", "batch_size": 8}
        changes |= {"epochs": 0, "optim.warmup_epochs": 0.0}
        config.models[name].update_from_flattened_dict(changes)
    config.models.teacher.seed = 5
    config.evaluation.update({"images": 16, "whole": False, "sanity": 0, "resamples": 100})
    return config


def test_the_whole_plan_is_good(config, tmp_path):
    checked = run.check(config, tmp_path / "run")
    assert [one.name for one in checked.planned] == list(NAMES)
    assert checked.mine == checked.planned
    of_three = {"c1_drop", "c2_complexity", "c3_coherency", "c4_accuracy", "c6a_slight"}
    controls = {"control_drop", "control_complexity", "control_coherency"}
    assert set(checked.claims) == of_three | controls
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_maps_that_are_not_there_are_refused_before_the_teacher_is_trained(config, tmp_path, side):
    config.models.student.objective.update({"name": "attention", f"{side}_stages": ("stage9",)})
    with pytest.raises(
        UserError, match=f"objective.{side}_stages: the model has no stage 'stage9'"
    ):
        run.check(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_wanted_is_what_the_config_says(config):
    config.evaluation.update({"methods": "grad_cam, random", "stage": "stage2", "seed": 3})
    config.evaluation.update({"baseline": "black", "metrics": "road,perturbation"})
    what = wanted(config.evaluation, config.compare, NAMES, 24)
    assert [(p.method, p.stage, p.baseline) for p in what.protocols] == [
        ("grad_cam", "stage2", "black"),
        ("random", "stage2", "black"),
    ]
    assert what.extra == ["road", "perturbation"]
    assert what.compare == [
        ("student", "teacher"),
        ("student", "control"),
        ("untrained", "teacher"),
    ]
    drawn = np.random.default_rng(3).permutation(24)[:16]
    np.testing.assert_array_equal(what.drawn, drawn)
    np.testing.assert_array_equal(what.images, np.sort(drawn))
    config.evaluation.whole = True
    whole = wanted(config.evaluation, config.compare, NAMES, 24)
    np.testing.assert_array_equal(whole.images, np.arange(24))
    np.testing.assert_array_equal(whole.drawn, drawn)


def set_in(config, key, value):
    config.update_from_flattened_dict({key: value})


BAD = {
    "compare one": ("compare", (("student",),), "compare takes pairs of two different models"),
    "compare three": ("compare", (("student", "teacher", "control"),), "compare takes pairs"),
    "compare itself": ("compare", (("student", "student"),), "pairs of two different models"),
    "compare a text": ("compare", ("ab",), "compare takes pairs of two different models"),
    "compare a number": ("compare", (5,), "compare takes pairs of two different models, not 5"),
    "a billion resamples": ("evaluation.resamples", 10**9, "and at most 100,000, not 1000000000"),
    "a billion seeds": ("seeds", 10**9, "at least 1 seed and at most 1,000, not "),
    "ladder": ("ladder", "teacher,uncle", "ladder names 'uncle', which is none of"),
    "only": ("only", "teacher,uncle", "only names 'uncle', which is none of"),
    "only nothing": ("only", " ", "only names no model"),
    "one resample": ("evaluation.resamples", 1, "resamples must be at least 100"),
    "seed": ("evaluation.seed", -1, "the seed that samples the images is 0 or more, not -1"),
    "a later seed": ("models.untrained.seed", -7, "seed"),
    "claim's model": ("claims.c1_drop.other", "uncle", "the claim 'c1_drop' has other='uncle'"),
    "no gallery": ("evaluation.gallery", 0, "gallery is 1 to 100 images, not 0"),
    "a long gallery": ("evaluation.gallery", 400, "gallery is 1 to 100 images, not 400"),
    "sanity": ("evaluation.sanity", -1, "sanity is a number of images"),
    "baseline": ("evaluation.baseline", "white", "baseline is blur or mean or black, not 'white'"),
}


@pytest.mark.parametrize(("key", "value", "message"), BAD.values(), ids=BAD)
def test_a_bad_plan_is_refused_before_anything_is_written(config, tmp_path, key, value, message):
    set_in(config, key, value)
    with pytest.raises(UserError, match=message) as refused:
        run.study(config, tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def data(directory, size, channels=3, train=40):
    rng = np.random.default_rng(0)
    directory.mkdir()
    for split, count in (("train", train), ("test", 24)):
        image = rng.integers(0, 256, (count, *size, channels), dtype=np.uint8)
        np.savez(directory / f"{split}.npz", image=image, label=np.arange(count) % 3)
    return str(directory)


def test_images_too_small_for_ssim_are_refused_before_any_training(config, tmp_path):
    config.data.data_dir = data(tmp_path / "small", (16, 10))
    with pytest.raises(UserError, match="16x10 pixels cannot be measured: SSIM needs at least 11"):
        run.study(config, tmp_path / "run")
    config.data.data_dir = data(tmp_path / "enough", (16, 11))
    run.check(config, tmp_path / "run")


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("lrp_epsilon", "lrp_epsilon has no rule for the activation 'rsqrt' in this model"),
        ("full_grad", "full_grad has no rule for the product of two values of the image"),
        ("guided_backpropagation", "Guided methods need the model with guided_relu"),
    ],
)
def test_a_method_that_suits_no_transformer_is_refused_before_any_training(
    config, tmp_path, method, message
):
    config.evaluation.methods = f"grad_cam,{method}"
    run.check(config, tmp_path / "run")  # CNNs alone
    config.models.student.model.name = "vit-1-8-2"
    with pytest.raises(UserError, match=message) as refused:
        run.study(config, tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_ladder_that_wants_more_training_images_than_there_are_is_refused(config, tmp_path):
    config.data.data_dir = data(tmp_path / "few", (16, 16), train=12)
    config.data.validation_size = 2
    run.check(config, tmp_path / "run")  # without an audit
    config.ladder = "teacher,student"
    with pytest.raises(UserError, match="images=16: ask for 1 to 10 images"):
        run.check(config, tmp_path / "run")


@pytest.mark.parametrize("name", ["a/b", "..", "a|b", "$a_{b$", "[red]", "=cmd", "é", "x" * 61, ""])
def test_names_that_no_model_can_have(config, fresh_config, tmp_path, name):
    with pytest.raises(UserError, match="is no name for a model|NAME=DIRECTORY") as refused:
        members.named_places((f"{name}=runs/a",))
    assert len(str(refused.value)) < 250
    if name and "." not in name:  # ConfigDict has its own rule
        config.models[name] = config.models.teacher
        with pytest.raises(UserError, match="is no name for a model"):
            run.check(config, tmp_path / "run")


def test_names_that_any_model_can_have():
    names = ["20", "nan", "a - b", "WRN-28.10_v2", "x" * 60]
    models = ",".join(f"{name}=runs/{place}" for place, name in enumerate(names))
    assert [name for name, _ in members.named_places(models)] == names
    with pytest.raises(UserError, match="'a' and 'A' differ in case alone"):
        members.named_places("a=x,A=y")


def test_models_as_a_text_and_as_a_tuple():
    assert members.named_places("teacher=runs/a,b, student=c=d") == [
        ("teacher", "runs/a,b"),
        ("student", "c=d"),
    ]
    sweep = ("one=runs/lr=0.1,wd=0", "two=x")
    for given in (sweep, list(sweep)):
        assert members.named_places(given) == [("one", "runs/lr=0.1,wd=0"), ("two", "x")]
    assert members.named_places("a=x,b=f.py:make,a=y") == [
        *(("a", "x"), ("b", "f.py:make"), ("a", "y")),
    ]
    for wrong in ("", "a", "a=", "=a", "a=x,a=x", (), ("a",), 3, True, None):
        with pytest.raises(UserError, match="NAME=DIRECTORY"):
            members.named_places(wrong)


def runs_of(config, workdir):
    config.models.student.seed = 7
    return [one for one in plan.plan(config, workdir) if one.name != "untrained"]


def test_an_unfinished_study_may_move_and_be_written_relative(config, tmp_path, monkeypatch):
    dataset = datasets.load(**config.data)
    teacher, student, _ = runs_of(config, tmp_path / "here")
    run.make([teacher], dataset)
    with monkeypatch.context() as patch:  # stopped after the claim
        patch.setattr(loop, "train_from_checkpoint", lambda *_: pytest.fail("stopped"))
        with pytest.raises(pytest.fail.Exception):
            run.make([student], dataset)
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    run.make(runs_of(config, Path("there")), dataset)
    run.make(runs_of(config, tmp_path / "there"), dataset)
    assert trained.read(tmp_path / "there" / "seed0" / "student")


def test_another_teacher_in_the_place_of_a_students_is_refused(config, tmp_path, make_run):
    dataset = datasets.load(**config.data)
    runs = runs_of(config, tmp_path)
    run.make(runs, dataset)
    run.make(runs, dataset)
    shutil.rmtree(runs[0].workdir)
    with runs[0].config.unlocked():
        runs[0].config.seed = 99
    with pytest.raises(UserError, match="student was made with another config: content of teacher"):
        run.make(runs, dataset)


def test_a_study_of_other_data_is_not_continued(config, spots_data, tmp_path, monkeypatch):
    monkeypatch.setattr(run, "make", lambda *_: None)
    monkeypatch.setattr(run.plan, "made", lambda *_: [])
    monkeypatch.setattr(run, "measure", lambda *_: None)
    monkeypatch.setattr(run, "with_verdicts", lambda *_: None)
    copy = shutil.copytree(spots_data, tmp_path / "data")
    config.data.data_dir = str(copy)
    run.study(config, tmp_path / "run")
    copy = copy.rename(tmp_path / "moved")
    config.data.data_dir = str(copy)
    run.study(config, tmp_path / "run")
    with np.load(copy / "test.npz") as arrays:
        np.savez(copy / "test.npz", image=arrays["image"], label=arrays["label"][::-1])
    with pytest.raises(UserError, match="content of data.data_dir"):
        run.study(config, tmp_path / "run")


def test_a_study_takes_more_seeds_and_models_but_no_other_claims(config, tmp_path, monkeypatch):
    """What is trained already is kept."""
    monkeypatch.setattr(run, "measure", lambda *_: None)
    monkeypatch.setattr(run, "with_verdicts", lambda *_: None)
    config.only = "untrained"
    config.compare, config.reference = (), "untrained"
    run.study(config, tmp_path)
    first = (tmp_path / "seed0" / "untrained" / "model.json").stat().st_mtime_ns
    config.seeds, config.only = 2, "teacher,untrained"
    run.study(config, tmp_path)
    networks = {path.parent.relative_to(tmp_path) for path in tmp_path.glob("seed*/*/model.json")}
    assert networks == {Path(f"seed{k}", name) for k in (0, 1) for name in ("teacher", "untrained")}
    assert (tmp_path / "seed0" / "untrained" / "model.json").stat().st_mtime_ns == first
    assert files.read_json(tmp_path / "config.json")["seeds"] == 2
    config.claims.c1_drop.matters = 0.5
    with pytest.raises(UserError, match="another config: claims.c1_drop.matters 0.02 -> 0.5"):
        run.study(config, tmp_path)


def test_models_of_one_data_set_and_of_changed_data(
    make_run, spots_data, explain_config, tmp_path, monkeypatch
):
    copy = shutil.copytree(spots_data, tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    make_run("a", **{"data.data_dir": "data"})
    make_run("b", **{"data.data_dir": str(copy)})

    def finished(models):
        found = members.read(members.named_places(models))
        return found, members.load_data(found, {"name": None})

    found, dataset = finished("a=a,b=b")
    assert [one.name for one in found] == ["a", "b"]
    assert len(dataset.test.label) == 24
    make_run("c", **{"data.train_size": 20})
    with pytest.raises(UserError, match="have different data: .*train_size"):
        finished("a=a,c=c")
    with np.load(copy / "test.npz") as arrays:
        np.savez(copy / "test.npz", image=255 - arrays["image"], label=arrays["label"])
    with pytest.raises(UserError, match="'spots' is not what a was made with"):
        finished("a=a,b=b")


def test_explained_models_may_be_written_relative_and_absolute(
    make_run, explain_config, tmp_path, monkeypatch
):
    for name in ("measure", "asked_first", "concluded"):
        monkeypatch.setattr(run, name, lambda *_: {})
    monkeypatch.chdir(tmp_path)
    make_run("a")
    run.explain(explain_config(models="m=a"), "explained")
    run.explain(explain_config(models=(f"m={tmp_path / 'a'}",)), tmp_path / "explained")
    with pytest.raises(UserError, match="content of models m -> n"):
        run.explain(explain_config(models="n=a"), "explained")


@pytest.mark.parametrize("content", ["[]", "{}", '{"version": 2}', '{"version": 2, "seeds": "x"}'])
def test_a_damaged_study_is_named(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=rf"{tmp_path}.* (is|holds) ") as refused:
        plan.study_members(tmp_path)
    assert "\n" not in str(refused.value)


class Steps:
    """Made-up records in place of measuring, and what was asked for."""

    def __init__(self):
        self.asked = []

    def explained(self, shelf, columns, model, protocol, split, images):
        self.asked.append((columns, model, protocol, split, images))
        rng = np.random.default_rng([len(self.asked), *images])
        worse = 0.1 * model.facts["worth"]
        return pd.DataFrame(
            {
                **columns,
                "image": images,
                "label": split.label[images],
                "predicted": split.label[images],
                "average_drop": rng.uniform(0, 0.1, len(images)) + worse,
                "complexity": rng.uniform(0, 0.1, len(images)),
            }
        )


def measured_of(config, names, seeds=1):
    """Models of a study as they are after training, their records made up."""
    network = models.create("plain3-w4", num_classes=3)
    known = {"mean": np.zeros(3), "std": np.ones(3), "class_names": ("a", "b", "c")}
    known |= {"image_shape": (16, 16, 3), "variables": {}, "architecture": {"name": "plain3-w4"}}
    found = [
        Member(name, seed, Trained(network, facts={"worth": place}, **known), "work", str(seed))
        for seed in range(seeds)
        for place, name in enumerate(names)
    ]
    label = np.arange(40, dtype=np.int32) % 3
    dataset = SimpleNamespace(
        train=SimpleNamespace(label=label), test=SimpleNamespace(label=label[:24])
    )
    made = Steps()
    what = wanted(config.evaluation, config.compare, names, 24)
    records = pd.concat(
        made.explained(
            None, {"model": one.name, "seed": one.seed, "method": "cam"},
            one.model, SOUND, dataset.test, what.images,
        )
        for one in found
    )  # fmt: skip
    records = records.assign(drawn=records.image.isin(what.drawn)).reset_index(drop=True)
    none = dict.fromkeys(("agreement", "seeds", "differences", "trust"), measure.NONE)
    told = design.read(config, names, config.models)
    return Measured(told, found, dataset, what, records, tables={}, missing={}, **none)


def test_the_ladder_of_a_study(config, monkeypatch, tmp_path):
    """Only its models, each step's protocol, split and images; its verdicts, and the sound ones."""
    made = Steps()
    monkeypatch.setattr(audit, "member_rows", made.explained)
    config.ladder = "student, teacher"
    config.evaluation.whole = True
    names = list(NAMES)
    measured = measured_of(config, names)
    declared = {key: config.claims[key] for key in ("c1_drop", "control_drop")}
    found = run.with_verdicts(measured, config, declared, tmp_path)

    steps = ["literal", *REPAIRS]
    asked = {(columns["model"], columns["method"]): rest for columns, *rest in made.asked}
    assert len(asked) == len(made.asked) == 2 * len(steps)
    by_name = {one.name: one.model for one in measured.members}
    for name in ("teacher", "student"):
        for step, protocol in protocol_steps(by_name[name].model).items():
            trained, its, split, images = asked[name, step.replace(",", "").replace(" ", "-")]
            assert trained is by_name[name]
            assert its == protocol
            assert split is getattr(measured.dataset, protocol.split)
            size = len(split.label)
            drawn = np.random.default_rng(config.evaluation.seed).permutation(size)[:16]
            np.testing.assert_array_equal(images, np.sort(drawn))
    assert list(found.ladder.rung.unique()) == steps
    rows = found.ladder[(found.ladder.rung == "literal") & (found.ladder.metric == "average_drop")]
    rows = rows.set_index(["model", "other"])["mean"]
    assert set(rows.index) == {("teacher", ""), ("student", ""), ("student", "teacher")}
    assert rows["student", "teacher"] == pytest.approx(rows["student", ""] - rows["teacher", ""])
    assert rows["student", ""] == pytest.approx(0.15, abs=0.02)  # 0.1 * its worth, and the noise

    # The last step is the sound protocol: the study's own records stand for it.
    assert list(found.claims.rung.unique()) == [*steps[:-1], "sound"]
    literal = found.claims[found.claims.rung == "literal"]
    assert list(literal.claim) == ["c1_drop"]  # the control is not audited
    sound = found.claims[found.claims.rung == "sound"].set_index("claim")
    assert list(sound.index) == ["c1_drop", "control_drop"]
    own = measured.records[measured.records.drawn].groupby("model").average_drop.mean()
    assert sound["mean"]["c1_drop"] == pytest.approx(own["student"] - own["teacher"])
    assert sound["mean"]["control_drop"] == pytest.approx(own["student"] - own["control"])


def test_a_study_without_a_ladder_climbs_none(config, monkeypatch, tmp_path):
    monkeypatch.setattr(audit, "member_rows", None)
    measured = measured_of(config, list(NAMES))
    found = run.with_verdicts(measured, config, {"c1_drop": config.claims.c1_drop}, tmp_path)
    assert found.ladder.empty
    assert list(found.claims.rung) == ["sound"]
    assert run.with_verdicts(measured, config, {}, tmp_path).claims.empty


def test_a_stand_in_plays_the_student_up_to_its_rung(config, monkeypatch, tmp_path):
    made = Steps()
    monkeypatch.setattr(audit, "member_rows", made.explained)
    config.ladder = "teacher,student,resnext_student"
    names = ["teacher", "student", "resnext", "resnext_student"]
    measured = measured_of(config, names, seeds=2)
    found = run.with_verdicts(measured, config, {}, tmp_path)
    last = "student-of-the-right-teacher"
    for columns, model, *_ in made.asked:
        own = columns["model"] if columns["method"] == last else None
        worth = {"teacher": 0, "student": 1 if own else 3}[columns["model"]]
        assert model.facts["worth"] == worth
    assert {columns["seed"] for columns, *_ in made.asked} == {0, 1}
    assert list(found.ladder.rung.unique())[-1] == "student of the right teacher"
    assert len(made.asked) == 2 * 2 * (len(REPAIRS) + 2)


def test_a_stand_in_for_each_member_or_none(config):
    found = measured_of(config, ["student", "resnext_student"], seeds=2).members
    with pytest.raises(UserError, match="there are 2 of 'student' and 1 of 'resnext_student', "):
        audit.chosen_steps("", found[:-1])


def test_steps_by_name(config):
    """Also those whose names have commas, each once."""
    names = ["literal", *REPAIRS]
    found = measured_of(config, ["teacher"]).members
    assert audit.chosen_steps("", found) == names
    assert audit.chosen_steps(",".join(names), found) == names
    assert audit.chosen_steps("one class, its probability,sound, literal,literal", found) == [
        *("one class, its probability", "sound", "literal"),
    ]
    with pytest.raises(UserError, match="there is no step 'one class'; known: literal, "):
        audit.chosen_steps("one class", found)
    with pytest.raises(UserError, match="needs the models student and resnext_student"):
        audit.chosen_steps(paper.RIGHT_TEACHER, found)


def test_a_bad_audit_is_refused_before_anything_is_written(make_run, tmp_path):
    get_config = runpy.run_path(str(ROOT / "configs" / "audit.py"))["get_config"]
    models_ = (f"teacher={make_run(tmp_path / 'a,b')}",)
    for changes, message in (
        ({"compare": (("a", "b", "c"),)}, "compare takes pairs"),
        ({"resamples": 1}, "resamples must be at least 100"),
        ({"rungs": "attic"}, "no step 'attic'"),
        ({"images": 25}, "images=25: ask for 1 to 24"),
        ({"seed": -1}, "0 or more, not -1"),
        ({"study": "x"}, "give either models="),
    ):
        config = get_config()
        config.update({"models": models_, "images": 16} | changes)
        with pytest.raises(UserError, match=message):
            audit.audit(config, tmp_path / "audit")
    assert not (tmp_path / "audit").exists()


@pytest.mark.parametrize("script", ["explain", "audit"])
@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("20=a,student=b/c,d", {"20": "a", "student": "b/c,d"}),
        ("('one=lr=0.1,wd=0', 'two=x')", {"one": "lr=0.1,wd=0", "two": "x"}),
    ],
)
def test_models_on_the_command_line(script, given, expected, monkeypatch):
    values = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=values)
    path = ROOT / "configs" / f"{script}.py"
    monkeypatch.setattr(sys, "argv", ["", f"--config={path}", f"--config.models={given}"])
    values(sys.argv)
    assert dict(members.named_places(values.config.models)) == expected


def test_a_share_of_a_study_measures_its_own_models(config, monkeypatch, tmp_path):
    given = {}
    monkeypatch.setattr(run, "make", lambda runs, dataset: given.update(made=runs))
    monkeypatch.setattr(run.plan, "made", lambda runs: runs)
    monkeypatch.setattr(run, "measure_members", lambda *given_: given.update(measured=given_))
    monkeypatch.setattr(run, "measure", lambda *_: pytest.fail("the whole"))
    monkeypatch.setattr(run.alike, "is_worth_pairs", lambda members: False)
    config.share = "1/3"
    assert run.study(config, tmp_path / "run") is None
    assert [one.name for one in given["made"]] == ["teacher", "student"]
    runs, _, what, shelf = given["measured"]
    assert runs == given["made"]
    assert shelf.directory == tmp_path / "run" / "records"
    assert len(what.images) == 16
    assert files.read_json(tmp_path / "run" / "config.json")["share"] == ""


def test_what_is_measured_of_several_models(config, monkeypatch, tmp_path):
    """Whole and drawn, by hand; the checks on the first images drawn; only pairs that are there."""
    asked = []

    def explained(shelf, columns, model, protocol, split, images, extra=()):
        asked.append((columns, protocol.method, list(images), list(extra)))
        value = images / 100 + model.facts["worth"] + (protocol.method == "random")
        rows = {**columns, "image": images, "label": 0, "predicted": images % 2, "ssim": value}
        rows |= {"randomised_similarity": 0.1} if "randomisation" in extra else {}
        return pd.DataFrame(rows)

    config.evaluation.update({"whole": True, "sanity": 5})
    before = measured_of(config, list(NAMES))
    by_name = {one.name: one.model for one in before.members}
    pairs = []

    def compared(view, one, other):
        pairs.append((one, other))
        return pd.DataFrame({"model": [one.name], "other": other.name, "image": 0})

    monkeypatch.setattr(measure, "member_rows", explained)
    monkeypatch.setattr(measure.alike, "pair_agreement", compared)
    what = wanted(config.evaluation, config.compare, NAMES, 24)
    found = measure.measure(before.design, before.members, before.dataset, what, tmp_path)

    drawn, whole = found.tables["table1"], found.tables["table1_whole"]
    student = [
        t[(t.model == "student") & (t.other == "")].set_index("metric") for t in (drawn, whole)
    ]
    assert student[0]["mean"]["ssim"] == pytest.approx(1 + what.drawn.mean() / 100)
    assert student[1]["mean"]["ssim"] == pytest.approx(1 + np.arange(24).mean() / 100)
    assert (student[0].n["ssim"], student[1].n["ssim"]) == (16, 24)
    # same_class compares with the first model.
    assert "same_class" in student[0].index
    assert "same_class" not in set(drawn[drawn.model == "teacher"].metric)
    assert set(found.records.image[found.records.drawn]) == set(what.drawn)
    ssim = found.differences[found.differences.metric == "ssim"].set_index(["one", "other"])
    assert ssim["mean"]["student", "teacher"] == pytest.approx(1)
    assert ssim["mean"]["untrained", "teacher"] == pytest.approx(3)
    for one, other in pairs:
        assert (one.model, other.model) == (by_name[one.name], by_name[other.name])
    assert [(one.name, other.name) for one, other in pairs] == [*what.compare]

    checks = [one for one in asked if one[0]["method"].startswith("sanity")]
    assert len(checks) == 2 * len(NAMES)
    for _, method, images, extra in checks:
        assert images == sorted(what.drawn[:5])
        assert extra == (["randomisation"] if method == "cam" else [])
    assert set(found.trust.model) == set(NAMES)
    # A random map scores better, so no metric of the real one is trustworthy.
    assert not found.trust.trustworthy.any()
    assert stats.STATISTICS["ssim"].better > 0
