"""A run continues with the data and the teacher that it began with, wherever they are."""

import json
import os
import shutil

import numpy as np
import pytest

from kdxai.data import datasets
from kdxai.errors import UserError
from kdxai.models import trained
from kdxai.training import loop, runs
from kdxai.training import teacher as teachers


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("content") / "study"


@pytest.fixture
def study(tiny_config, tiny_data, kept, tmp_path, monkeypatch):
    """A directory with data, a teacher and a student that is not finished, and its config."""
    if not kept.exists():
        shutil.copytree(tiny_data, kept / "data")
        config = named(tiny_config, kept)
        dataset = datasets.load(**config.data)
        config.teacher = ""
        loop.train(config, kept / "teacher", dataset)
        config.teacher = str(kept / "teacher")
        loop.train(config, kept / "student", dataset)
        (kept / "student" / trained.MODEL).unlink()
    shutil.copytree(kept, tmp_path / "study")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "study"


def named(config, place):
    config.epochs, config.model.name = 1, "plain3-w4"
    config.data.data_dir, config.teacher = f"{place}/data", f"{place}/teacher"
    return config


def go_on(config, place):
    config = named(config, place)
    return loop.train(config, f"{place}/student", datasets.load(**config.data))


@pytest.mark.slow
def test_moved_and_written_otherwise_it_is_the_same_run(tiny_config, study, kept):
    config = json.loads((study / "student" / runs.CONFIG).read_text())
    assert config["teacher"] == "../teacher"
    study.rename(study.with_name("moved"))
    moved = study.with_name("moved")
    (study.parent / "link").symlink_to(moved)
    results = []
    for place in ("moved", moved, "./link/../moved", study.parent / "link"):
        (moved / "student" / trained.MODEL).unlink(missing_ok=True)
        assert go_on(tiny_config, place)["origin"]["teacher"] == "../teacher"
        results.append(trained.read(moved / "student")["sha256"])
    assert len(set(results)) == 1


def test_data_that_have_moved_are_found_again(tiny_config, study):
    """A reader asks the model where its data are; the run's command says where they are now."""
    facts = go_on(tiny_config, study)
    moved = study.rename(study.with_name("moved"))
    with pytest.raises(UserError):
        datasets.load(**trained.read(moved / "student")["facts"]["data"])
    again = go_on(tiny_config, moved)
    found = trained.read(moved / "student")["facts"]
    assert found == again == facts | {"data": facts["data"] | {"data_dir": f"{moved}/data"}}
    assert len(datasets.load(**found["data"]).test.label)
    assert trained.load(moved / "student")


def test_other_data_at_the_same_place_are_refused(tiny_config, study):
    path = study / "data" / "train.npz"
    with np.load(path) as file:
        image, label = file["image"], file["label"]
    image[5, 3, 2, 1] ^= 1
    np.savez(path, image=image, label=label)
    before = datasets.fingerprint(datasets.load("tiny", data_dir=study.parent / "study" / "data"))
    with pytest.raises(UserError, match="content of data.data_dir [0-9a-f]{16} -> ") as told:
        go_on(tiny_config, study)
    assert before in str(told.value)
    image[5, 3, 2, 1] ^= 1
    np.savez(path, image=image, label=label)
    assert go_on(tiny_config, study)


def test_another_teacher_at_the_same_place_is_refused(tiny_config, study):
    config = named(tiny_config, study)
    config.teacher, config.seed = "", 5
    shutil.rmtree(study / "teacher")
    loop.train(config, study / "teacher", datasets.load(**config.data))
    config.seed, sha256 = 0, trained.read(study / "teacher")["sha256"]
    with pytest.raises(UserError, match=f"content of teacher .* -> {sha256[:16]};"):
        go_on(config, study)


def test_a_student_does_not_go_on_without_its_teacher_nor_the_other_way(tiny_config, study):
    config = named(tiny_config, study)
    config.teacher = ""
    dataset = datasets.load(**config.data)
    with pytest.raises(UserError, match=r"content of teacher [0-9a-f]{16} -> \(none\);"):
        loop.train(config, study / "student", dataset)
    shutil.copytree(study / "teacher", study / "alone")
    (study / "alone" / trained.MODEL).unlink()
    with pytest.raises(UserError, match=r"content of teacher \(none\) -> [0-9a-f]{16};"):
        loop.train(named(tiny_config, study), study / "alone", dataset)


def test_of_a_finished_run_too(tiny_config, study):
    """Its result is not what the command would give."""
    result = go_on(tiny_config, study)
    assert go_on(tiny_config, study) == result
    with np.load(study / "data" / "test.npz") as file:
        np.savez(study / "data" / "test.npz", image=file["image"][::-1], label=file["label"])
    with pytest.raises(UserError, match="content of data.data_dir"):
        go_on(tiny_config, study)


def test_what_an_older_version_began_goes_on(tiny_config, study):
    path = study / "student" / runs.CONFIG
    config = json.loads(path.read_text())
    del config["content"]
    path.write_text(json.dumps(config | {"teacher": os.path.relpath(study / "teacher")}))
    assert go_on(tiny_config, study)
    config = named(tiny_config, study)
    config.optim.lr = 0.07
    with pytest.raises(UserError, match="another config: optim.lr 0.05 -> 0.07;"):
        go_on(config, study)


def test_a_teacher_of_an_older_version_is_finished_by_its_command(tiny_config, study):
    """It left a result and no model; nothing is trained again, and its students go on."""
    sha256 = trained.read(study / "teacher")["sha256"]
    for name in (trained.MODEL, trained.WEIGHTS):
        (study / "teacher" / name).unlink()
    (study / "teacher" / "result.json").write_text("{}")
    with pytest.raises(UserError, match="holds no finished model; give again the command"):
        go_on(tiny_config, study)
    config = named(tiny_config, study)
    config.teacher = ""
    loop.train(config, study / "teacher", datasets.load(**config.data))
    assert teachers.require_fitting(f"{study}/teacher", datasets.load(**config.data)) == sha256
    assert go_on(tiny_config, study)
