"""Training on images that are read batch by batch, as a user runs it."""

import os
import runpy
import shutil
import signal
import subprocess
import sys

import jax
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from prepared import prepare_tiny
from scripts import ROOT, environment, launch, refused
from tensorflow_datasets.core import registered

from kdxai.data import datasets
from kdxai.models import trained
from kdxai.training import loop


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    root = tmp_path_factory.mktemp("streaming")
    with registered.skip_registration():
        prepare_tiny(root / "tfds", shape=(8, 8, 3))
    (root / "tiny.py").write_text(
        "from kdxai.training import config as training\n"
        "def get_config():\n"
        "    config = training.default()\n"
        f"    config.data.name, config.data.data_dir = 'tiny', {str(root / 'tfds')!r}\n"
        "    config.model.name, config.model.dtype = 'plain3-w4', 'float32'\n"
        "    config.epochs, config.batch_size = 6, 8\n"
        "    config.data.resident_mib = 0\n"
        "    return config\n"
    )
    return ["--config", root / "tiny.py"]


def train(command, workdir, *flags, devices=1):
    done = launch("train.py", *command, "--workdir", workdir, *flags, devices=devices)
    assert done.returncode == 0, done.stderr
    assert "leaked" not in done.stderr
    return done.stderr


@pytest.fixture
def train_here(command, capsys):
    """train_here(workdir, key=value): the same in this process, which has compiled already."""

    def train_here(workdir, **changes):
        config = runpy.run_path(str(command[1]))["get_config"]()
        config.update_from_flattened_dict(changes)
        loop.train(config, workdir, datasets.load(**config.data))
        return capsys.readouterr().err

    return train_here


@pytest.fixture(scope="module")
def streamed(command, tmp_path_factory):
    """A run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("runs") / "streamed"
    assert "are read batch by batch" in train(command, workdir)
    return workdir


def history(workdir):
    return pd.read_csv(workdir / "history.csv").drop(columns="seconds")


def test_the_same_trajectory_as_in_memory(train_here, streamed, tmp_path):
    resident = tmp_path / "resident"
    assert "batch by batch" not in train_here(resident, **{"data.resident_mib": 1})
    pd.testing.assert_frame_equal(history(streamed), history(resident), rtol=1e-4)
    facts = [trained.read(workdir)["facts"] for workdir in (streamed, resident)]
    assert facts[0]["test_accuracy"] == facts[1]["test_accuracy"]


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_a_stopped_run_continues_bit_identically(command, streamed, tmp_path, how):
    line = [sys.executable, ROOT / "launch" / "train.py", *command, "--workdir", tmp_path / "run"]
    process = subprocess.Popen(
        list(map(str, line)),
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert any("epoch 2/6" in told for told in process.stderr)
    if how == signal.SIGTERM:  # as a job's end and a container's stop send it, to all processes
        os.killpg(process.pid, how)
    else:
        process.send_signal(how)
    _, told = process.communicate(timeout=60)  # its workers have closed the pipe as well
    if how == signal.SIGTERM:
        assert process.returncode == 143
        assert told.endswith("terminated: the state is saved, the same command continues\n")
        assert "Traceback" not in told and "resource_tracker" not in told
    assert not (tmp_path / "run" / trained.MODEL).exists()
    assert "epoch 1/6" not in train(command, tmp_path / "run")
    one, other = (trained.load(workdir).variables for workdir in (streamed, tmp_path / "run"))
    jax.tree.map(np.testing.assert_array_equal, one, other)
    pd.testing.assert_frame_equal(history(streamed), history(tmp_path / "run"))


@pytest.mark.slow
def test_two_devices_share_the_stream(command, streamed, tmp_path):
    train(command, tmp_path / "two", devices=2)
    pd.testing.assert_frame_equal(history(streamed), history(tmp_path / "two"), rtol=1e-3)


@pytest.mark.slow
def test_a_student_sees_what_its_teacher_saw(train_here, streamed, tmp_path, recwarn):
    """Logits of streamed views are those of views in memory, and are kept."""
    shutil.copytree(streamed, tmp_path / "teacher")
    changes = {"teacher": str(tmp_path / "teacher"), "epochs": 2}
    assert "logits of 0 of 2" in train_here(tmp_path / "one", **changes)
    assert "logits of 2 of 2" in train_here(tmp_path / "two", **changes, seed=1)
    assert not [warning for warning in recwarn if "cannot be used" in str(warning.message)]
    changes["data.resident_mib"] = 1
    assert "logits of 0 of 2" in train_here(tmp_path / "three", **changes)
    pd.testing.assert_frame_equal(history(tmp_path / "one"), history(tmp_path / "three"), rtol=1e-3)


def test_folders_of_pictures_stream_as_they_are_decoded(train_here, tmp_path):
    rng = np.random.default_rng(0)
    for label, name in enumerate(("red", "green", "blue")):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(20):
            image = rng.integers(0, 120, (12, 9, 3), np.uint8)
            image[..., label] += 90
            Image.fromarray(image).save(tmp_path / "data" / name / f"{i}.png")
    data = {
        "data.name": "folder",
        "data.data_dir": str(tmp_path / "data"),
        "data.size": 8,
        "epochs": 2,
    }
    for limit in (0, 1):
        train_here(tmp_path / str(limit), **data, **{"data.resident_mib": limit})
    pd.testing.assert_frame_equal(history(tmp_path / "0"), history(tmp_path / "1"), rtol=1e-4)


def test_a_damaged_picture_is_one_line(command, tmp_path):
    for name in ("a", "b"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for i in range(9):
            Image.new("RGB", (9, 9)).save(tmp_path / "data" / name / f"{i}.png")
    path = tmp_path / "data" / "b" / "7.png"
    path.write_bytes(path.read_bytes()[:50])
    flags = ["--config.data.name=folder", f"--config.data.data_dir={tmp_path / 'data'}"]
    flags += ["--config.data.size=8", f"--workdir={tmp_path / 'run'}"]
    assert str(path) in refused("train.py", *command, *flags)
