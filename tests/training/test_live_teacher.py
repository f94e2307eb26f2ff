"""Objectives that read feature maps: the teacher in the step, the regressor beside the student."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scripts import Process, call, refused

from kdxai.data import datasets
from kdxai.errors import UserError
from kdxai.models import trained
from kdxai.training import checks, epochs, feed, loop, objectives, runs, steps
from kdxai.training.objectives import Objective
from kdxai.training.program import build, view_of

STAGES = ("student_stages", "teacher_stages")
ON_MAPS = ("attention", "cat", "e2kd", "hints", "relations", "similarity")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("live") / "teacher"


@pytest.fixture
def dataset(tiny_config):
    return datasets.load(**tiny_config.data)


@pytest.fixture
def config(tiny_config, dataset, kept):
    """A student's, with an untrained teacher of another width that is normalised otherwise."""
    if not kept.exists():
        teacher = tiny_config.copy_and_resolve_references()
        teacher.model.name, teacher.epochs = "plain3-w6", 0
        loop.train(teacher, kept, dataset)
        model = trained.load(kept)
        trained.save(model._replace(mean=model.mean / 2, std=model.std * 2), kept)
    tiny_config.epochs, tiny_config.teacher = 1, str(kept)
    return tiny_config


def take(config, dataset, count=2):
    """The program, its variables after some steps, and the mean losses on the way."""
    program = build(config, dataset)
    state, losses = program.state, []
    for step in range(count):
        batch = np.arange(step * config.batch_size, (step + 1) * config.batch_size, dtype=np.int32)
        state, totals = program.train_step(state, program.constants(0), feed.process_share(batch))
        losses.append(totals.means()[0])
    return program, jax.device_get(state.variables), losses


def brightness(student, teacher, labels):
    return teacher.logits[:, 0] + teacher.taps["stage1"].mean((1, 2, 3)) + 0 * student.logits[:, 0]


def test_the_teacher_sees_the_students_views_as_it_is_used_to(config, dataset, monkeypatch):
    objective = Objective(brightness, taught=True, teacher_taps=("stage1",))
    monkeypatch.setitem(objectives.OBJECTIVES, "bright", lambda _: objective)
    config.objective.name = "bright"
    _, _, (loss,) = take(config, dataset, 1)
    teacher = trained.load(config.teacher)
    constants = build(config, dataset).train.constants
    constants = constants._replace(mean=teacher.mean, std=teacher.std)
    views = steps.views(constants, np.arange(16), 0, view_of(config))
    answers, maps = teacher.model.apply(teacher.variables, views, taps=("stage1",))
    expected = answers[:, 0] + maps["stage1"].mean((1, 2, 3))
    assert loss == pytest.approx(float(expected.mean()), rel=1e-5)


@pytest.mark.parametrize(("name", "base"), [("e2kd", "knowledge_distillation"), ("hints", None)])
def test_weight_zero_trains_bit_identically_to_no_term(config, dataset, name, base):
    config.objective.name, config.objective.weight = name, 0.0
    _, without, _ = take(config, dataset)
    config.objective.name, config.objective.weight = base or "cross_entropy", None
    config.teacher = config.teacher if base else ""
    _, expected, _ = take(config, dataset)
    jax.tree.map(np.testing.assert_array_equal, without, expected)


@pytest.mark.parametrize("name", [*ON_MAPS, "dkd"])
def test_weight_zero_leaves_out_whatever_is_weighed(config, name):
    config.objective.name = name
    whole = objectives.choose(config)
    config.objective.weight = 0.0
    without = objectives.choose(config)
    assert without.taps == without.teacher_taps == () and without.regressor is None
    assert without.reads == whole.reads
    assert (whole.taps, whole.teacher_taps) == (((), ()) if name == "dkd" else (("last",),) * 2)


@pytest.mark.slow
def test_a_regressor_is_trained_checkpointed_and_no_part_of_the_student(
    config, dataset, tmp_path, monkeypatch
):
    config.objective.name, config.epochs = "hints", 2
    # Factors go by the names of parameters; slow weights are a second set of them.
    config.optim.head_factor, config.optim.lookahead = 0.5, 0.9
    facts = loop.train(config, tmp_path / "undisturbed", dataset)
    model = trained.load(tmp_path / "undisturbed")
    sizes = [leaf.size for leaf in jax.tree.leaves(model.variables["params"])]
    assert facts["parameters"] == sum(sizes) and "regressor" not in model.variables["params"]
    validate, states = epochs.validate, []

    def killed(program, state):
        states.append(jax.device_get(state.params["regressor"]))
        if len(states) == 2:
            raise KeyboardInterrupt
        return validate(program, state)

    with monkeypatch.context() as patch:
        patch.setattr(epochs, "validate", killed)
        with pytest.raises(KeyboardInterrupt):
            loop.train(config, tmp_path / "continued", dataset)
        states.append(None)
        with pytest.raises(StopIteration):  # the second epoch again, from the checkpoint
            patch.setattr(
                epochs, "validate", lambda _, state: states.append(state) or next(iter(()))
            )
            loop.train(config, tmp_path / "continued", dataset)
    first, second, _, again = states
    assert np.abs(first["last"]["kernel"] - second["last"]["kernel"]).max() > 0
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(again.params["regressor"]), second)
    loop.train(config, tmp_path / "continued", dataset)
    other = trained.load(tmp_path / "continued")
    jax.tree.map(np.testing.assert_array_equal, model.variables, other.variables)


def write_numbers(config, path):
    """Losses and parameters of terms that relate images, by their maps or through BatchNorm."""
    names = ("similarity", "relations", "e2kd")

    def every(config):
        parts = []
        for name in names:
            one = config.copy_and_resolve_references()
            one.objective.name, one.objective.weight = name, 1.0
            parts.append(objectives.OBJECTIVES[name](one))
        loss = lambda *outputs: sum(part.loss(*outputs) for part in parts)  # noqa: E731
        return parts[0]._replace(loss=loss)

    objectives.OBJECTIVES["every"] = every
    config.objective.name = "every"
    _, variables, losses = take(config, datasets.load(**config.data))
    leaves = jax.tree.leaves(variables)
    np.savez(path, *leaves, losses=losses, devices=jax.device_count())


@pytest.mark.slow
def test_any_number_of_devices_trains_alike(config, tmp_path):
    """Grad-CAM at the first stage goes through a BatchNorm whose statistics are of all devices."""
    config.objective.student_stages = config.objective.teacher_stages = ("stage1",)
    outputs = {}
    for count in (1, 2):
        path = tmp_path / f"{count}.npz"
        done = Process(write_numbers, config, path, devices=count).wait()
        assert done.returncode == 0, done.stderr
        with np.load(path) as file:
            outputs[count] = dict(file)
        assert outputs[count].pop("devices") == count
    for name, expected in outputs[1].items():
        np.testing.assert_allclose(outputs[2][name], expected, rtol=1e-4, atol=1e-5)


def test_stages_are_read_in_pairs_as_named(config, dataset):
    """Whatever their order in the networks, and on grids that differ."""
    config.objective.name = "attention"
    config.objective.student_stages = ("stage2,stage1",)  # as the command line has it
    config.objective.teacher_stages = ("stage1", "last")
    objective = objectives.choose(config)
    assert objective.taps == ("stage2", "stage1") and objective.teacher_taps == ("stage1", "last")
    model = trained.load(config.teacher)
    images = jnp.ones((2, 8, 8, 3))
    outputs, _ = steps.outputs_of(model.model, model.variables, images, ("last", "stage1"))
    assert list(outputs.taps) == ["last", "stage1"] and outputs.size == (8, 8)
    again = outputs.classify("stage1", outputs.taps["stage1"])
    np.testing.assert_allclose(again, outputs.logits, rtol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "attention", "student_stages": ("stage9",)}, "objective.student_stages: the mod"),
        ({"name": "attention", "teacher_stages": ("stage9",)}, "objective.teacher_stages: the mod"),
        ({"name": "hints", "student_stages": ("stage1", "last")}, "are pairs, not 2 and 1; name "),
        ({"name": "hints", "student_stages": ("last", "last")}, "names a stage twice: last, last"),
        ({"name": "cat", "student_stages": ("stage1",)}, "'cat' does not read objective.student_"),
        ({"name": "cat", "weight": -1.0}, "objective.weight must be at least 0.0 and finite"),
        ({"name": "cat", "weight": float("nan")}, "objective.weight must be at least 0.0 and fi"),
        ({"name": "dkd", "beta": float("inf")}, "objective.beta must be at least 0.0 and finite"),
        ({"weight": 1.0}, "'knowledge_distillation' does not read objective.weight; leave it out"),
        ({"name": "cat", "standardise": True}, "'cat' does not read objective.standardise"),
    ],
)
def test_bad_settings_are_one_line(config, dataset, tmp_path, settings, message):
    config.objective.update(settings)
    with pytest.raises(UserError, match=message) as told:
        loop.train(config, tmp_path / "run", dataset)
    assert "\n" not in str(told.value) and not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", [*ON_MAPS, "dkd", "knowledge_distillation"])
def test_there_is_a_teacher(config, name):
    config.objective.name, config.teacher = name, ""
    with pytest.raises(UserError, match=f"'{name}' learns from a teacher; set teacher"):
        objectives.choose(config)


def test_labels_are_smoothed_once(config):
    config.teacher, config.objective.name = "", "label_smoothing"
    config.optim.label_smoothing = 0.1
    with pytest.raises(UserError, match="smooth the labels both; set objective.smoothing alone"):
        objectives.choose(config)


def test_a_foreign_teacher_gives_logits_alone(config, dataset, tmp_path):
    place = f"{__file__.rpartition('/')[0]}/../networks.py:mine"
    config.objective.name, config.teacher = "cat", place
    for check in (checks.check, checks.require_teacher):
        with pytest.raises(
            UserError, match="reads feature maps of its teacher, and .* gives logit"
        ):
            check(config, dataset)


def test_an_older_run_named_its_objective_alone(config, dataset, tmp_path):
    config.teacher, config.objective.name, config.epochs = "", "cross_entropy", 0
    loop.train(config, tmp_path / "run", dataset)
    settings = json.loads((tmp_path / "run" / runs.CONFIG).read_text())
    facts = trained.read(tmp_path / "run")["facts"]
    for old in ("cross_entropy", None):
        (tmp_path / "run" / runs.CONFIG).write_text(json.dumps(settings | {"objective": old}))
        config.objective.name = old
        assert loop.train(config, tmp_path / "run", dataset) == facts
    (tmp_path / "run" / runs.CONFIG).write_text(json.dumps(settings | {"objective": "other"}))
    with pytest.raises(UserError, match=r"another config: objective.name other -> \(none\)"):
        loop.train(config, tmp_path / "run", dataset)


@pytest.fixture
def config_file(tmp_path, tiny_data):
    path = tmp_path / "tiny.py"
    path.write_text(
        "from kdxai.training import config as training\n"
        "def get_config():\n"
        "    config = training.default()\n"
        f"    config.data.name, config.data.data_dir = 'tiny', {str(tiny_data)!r}\n"
        "    config.model.name, config.model.dtype = 'plain3-w4', 'float32'\n"
        "    config.epochs, config.batch_size = 1, 16\n"
        "    return config\n"
    )
    return path


def test_the_command_line_names_it_either_way(config, config_file, tmp_path):
    known = ["train.py", "--config", config_file, "--workdir", tmp_path / "run"]
    flags = ["--config.objective.weight=5", "--config.objective.student_stages=stage1,last"]
    flags += ["--config.teacher", config.teacher, "--config.objective.teacher_stages=last,stage1"]
    for name in ("--config.objective=attention", "--config.objective.name=attention"):
        done = call(*known, name, *flags)  # the second time it is only read
        assert done.returncode == 0 and "test accuracy" in done.stdout, done.stderr
    wanted = json.loads((tmp_path / "run" / runs.CONFIG).read_text())["objective"]
    assert (wanted["name"], wanted["weight"]) == ("attention", 5.0)
    assert trained.read(tmp_path / "run")["facts"]["origin"]["objective"] == "attention"
    told = refused(*known, "--config.objective=oops", *flags)
    assert "there is no objective 'oops'; there are cross_entropy, label_smoothing, " in told
