"""Weights from elsewhere as models: alone, in a study, and refused in one line."""

import json
import runpy
import shutil

import numpy as np
import pytest
import safetensors.numpy
from random_weights import random_weights
from scripts import ROOT

from kdxai import models
from kdxai.data import datasets
from kdxai.errors import UserError
from kdxai.models import trained
from kdxai.study import config as studies
from kdxai.study import imports, plan, run
from kdxai.training import config as training_config

NAME = "resnet8-w4"
STORED = json.loads((ROOT / "tests/references/torch_networks.json").read_text())


def random_state(name, classes, seed=0):
    """A PyTorch state dict of so many classes, at chance; the stored shapes are of five."""
    shapes = {key: tuple(shape) for key, shape in STORED[name]["shapes"].items()}
    shapes = {key: tuple(classes if n == 5 else n for n in s) for key, s in shapes.items()}
    return random_weights(shapes, seed)


@pytest.fixture
def dataset(spots_data):
    return datasets.load("spots", data_dir=spots_data)


@pytest.fixture
def weights(tmp_path):
    """A file of weights of three classes."""
    path = tmp_path / "net.safetensors"
    safetensors.numpy.save_file(random_state(NAME, 3), path)
    return path


@pytest.fixture
def config(weights, spots_data):
    config = runpy.run_path(str(ROOT / "configs" / "import.py"))["get_config"]()
    config.weights, config.model.name = str(weights), NAME
    config.mean, config.std = (0.4, 0.4, 0.4), (0.25, 0.25, 0.25)
    config.data.update({"name": "spots", "data_dir": str(spots_data)})
    return config


@pytest.fixture
def lenient(monkeypatch):
    """Networks at chance, as these are, are let in."""
    monkeypatch.setattr(imports, "require_above_chance", lambda *_: None)


def test_an_import_leaves_a_model_with_its_measured_accuracy(config, dataset, tmp_path, lenient):
    facts = imports.import_model(config, tmp_path / "out", dataset)
    model = trained.load(tmp_path / "out")
    images = (dataset.test.image / 255 - 0.4) / 0.25
    answers = model.model.apply(model.variables, np.float32(images), train=False).argmax(-1)
    assert facts["test_accuracy"] == pytest.approx((answers == dataset.test.label).mean())
    assert model.facts == facts
    assert facts["origin"]["file"] == "net.safetensors"
    assert len(facts["origin"]["sha256"]) == 64
    assert "/" not in str(facts["origin"])
    assert model.class_names == dataset.class_names
    # Again: it is only checked, also from where the file is now.
    path = tmp_path / "moved.safetensors"
    (tmp_path / "net.safetensors").rename(path)
    config.weights = str(path)
    assert imports.import_model(config, tmp_path / "out", dataset)["test_accuracy"]
    safetensors.numpy.save_file(random_state(NAME, 3, seed=1), path)
    with pytest.raises(UserError, match="made with another config: content of weights"):
        imports.import_model(config, tmp_path / "out", dataset)


def test_chance_is_refused_with_its_usual_causes():
    rng = np.random.default_rng(0)
    labels = np.arange(300) % 3
    with pytest.raises(UserError, match="no more than chance; wrong mean and std, another order"):
        imports.require_above_chance(rng.integers(0, 3, 300), labels, "net", "spots")
    with pytest.raises(UserError, match=r"in another order it would be right on 100.0%"):
        imports.require_above_chance((labels + 1) % 3, labels, "net", "spots")
    imports.require_above_chance(np.where(rng.random(300) < 0.5, labels, 0), labels, "net", "spots")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weights": ""}, "say which weights and which model"),
        ({"weights": "/nowhere.safetensors"}, "no file of weights"),
        ({"mean": ()}, "say by which mean and std"),
        ({"mean": (0.4,) * 2}, "mean must be one number for each of the 3 channels"),
        ({"mean": (125.0,) * 3}, r"images in \[0, 1\]"),
        ({"mean": ("a", "b", "c")}, "mean must be numbers, one for each channel"),
        ({"std": (0.2, 0.0, 0.2)}, r"above 0, but is \[0.2, 0.0, 0.2\]$"),
        ({"model.name": "resnet14"}, "resnet14"),
        ({"model.name": "resnet99"}, "no model 'resnet99'"),
    ],
)
def test_bad_imports_are_one_line_and_nothing_is_written(
    config, dataset, tmp_path, changes, message
):
    config.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message) as refused:
        imports.import_model(config, tmp_path / "out", dataset)
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_an_import_at_chance_can_be_tried_again(config, dataset, tmp_path, monkeypatch):
    with pytest.raises(UserError, match="no more than chance"):  # a random network
        imports.import_model(config, tmp_path / "out", dataset)
    assert not (tmp_path / "out").exists()
    monkeypatch.setattr(imports, "require_above_chance", lambda *_: None)
    config.mean = (0.5, 0.5, 0.5)
    assert imports.import_model(config, tmp_path / "out", dataset)["test_accuracy"]


def test_pictures_in_folders_measure_an_import(config):
    """What a data set needs to be loaded can be said of an import as of a training."""
    settings = training_config.default().data
    assert settings.keys() <= config.data.keys()


def test_weights_of_other_classes_are_refused(config, dataset, tmp_path):
    safetensors.numpy.save_file(random_state(NAME, 5), tmp_path / "net.safetensors")
    with pytest.raises(UserError, match="is of 5 classes, but 'spots' has 3"):
        imports.check(config, dataset)
    assert models.create(NAME, num_classes=5).num_classes == 5


def test_a_study_imports_a_model_that_another_learns_from(config, fresh_config, tmp_path, lenient):
    """Each behind what it is made from, whatever its origin; one of no origin is refused."""
    large = studies.model("import", config)
    small = studies.model("train", fresh_config, teacher="large")
    study = studies.study(config.data, {"small": small, "large": large}, seeds=2)
    study.evaluation.update({"images": 16, "whole": False, "sanity": 0, "resamples": 100})
    runs = plan.plan(study, tmp_path / "run")
    # One file of weights is one network, whose students have seeds.
    assert [(one.name, one.seed) for one in runs] == [("large", 0), ("small", 0), ("small", 1)]
    assert {one.made_from for one in runs[1:]} == {str(tmp_path / "run" / "seed0" / "large")}
    checked = run.check(study, tmp_path / "run")
    run.make(checked.mine[:2], checked.dataset)
    run.make(checked.mine[:2], checked.dataset)  # is only checked
    made = plan.made(checked.mine[:2])
    assert [one.model.facts["origin"]["kind"] for one in made] == ["import", "train"]
    sha = trained.read(tmp_path / "run" / "seed0" / "large")["sha256"]
    assert [one.line for one in made] == [sha[:12], "0"]
    study.only = "large"
    with pytest.raises(UserError, match="seeds=2 changes nothing: none of large is trained"):
        plan.plan(study, tmp_path / "run")
    study.only = "small,large"
    study.models.small.origin = "found"
    with pytest.raises(UserError, match="'small' has origin='found'; known: train, import"):
        plan.plan(study, tmp_path / "run")


def test_several_files_of_weights_are_a_population(config, weights, tmp_path, lenient):
    """Each is a member; a file may move, and may not become another."""
    other = tmp_path / "other.safetensors"
    safetensors.numpy.save_file(random_state(NAME, 3, seed=1), other)
    large = studies.model("import", config, weights=(str(weights), str(other)))
    study = studies.study(config.data, {"large": large})
    runs = plan.plan(study, tmp_path / "run")
    assert [one.workdir.parent.name for one in runs] == ["seed0", "seed1"]
    assert [one.config.weights for one in runs] == [str(weights), str(other)]
    run.make(runs, datasets.load(**config.data))
    assert len({one.line for one in plan.made(runs)}) == 2
    content = plan.contents(runs)
    assert content.keys() == {"models.large.weights"}
    moved = other.rename(tmp_path / "moved.safetensors")
    study.models.large.weights = (str(weights), str(moved))
    assert plan.contents(plan.plan(study, tmp_path)) == content
    study.models.large.weights = (str(moved), str(weights))
    assert plan.contents(plan.plan(study, tmp_path)) != content
    copy = shutil.copy(weights, tmp_path / "copy.safetensors")
    study.models.large.weights = (str(weights), str(copy))
    with pytest.raises(UserError, match="net.*safetensors and .*copy.* are copies of one network"):
        plan.contents(plan.plan(study, tmp_path))
