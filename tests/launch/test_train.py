"""launch/train.py as a user runs it: killed, stopped, damaged, misused."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pandas as pd
import pytest
from scripts import ROOT, call, environment, launch, refusal, refused, start

from kdxai.models import trained


@pytest.fixture(scope="module")
def config_file(tmp_path_factory, tiny_data):
    path = tmp_path_factory.mktemp("configs") / "tiny.py"
    path.write_text(
        "from kdxai.training import config as training\n"
        "def get_config():\n"
        "    config = training.default()\n"
        f"    config.data.name, config.data.data_dir = 'tiny', {str(tiny_data)!r}\n"
        "    config.model.name, config.model.dtype = 'plain3-w4', 'float32'\n"
        "    config.epochs, config.batch_size = 8, 15\n"
        "    return config\n"
    )
    return path


@pytest.fixture(scope="module")
def finished(config_file, tmp_path_factory):
    """A run that nothing disturbed."""
    workdir = tmp_path_factory.mktemp("runs") / "finished"
    done = launch("train.py", "--config", config_file, "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    assert "epoch 8/8" in done.stderr
    assert "images/s" in done.stderr
    assert "test accuracy" in done.stdout
    return workdir


def assert_same_run(one, other):
    a, b = trained.load(one), trained.load(other)
    jax.tree.map(np.testing.assert_array_equal, a.variables, b.variables)
    assert a.facts["test_accuracy"] == b.facts["test_accuracy"]
    history = [pd.read_csv(run / "history.csv").drop(columns="seconds") for run in (one, other)]
    pd.testing.assert_frame_equal(*history)


def test_a_killed_run_continues_bit_identically(config_file, finished, tmp_path):
    workdir = tmp_path / "killed"
    for epoch in (1, 3):
        process = start("train.py", "--config", config_file, "--workdir", workdir)
        process.wait_for(f"epoch {epoch}/")
        time.sleep(0.03 * epoch)  # somewhere: in a step, a save, a write
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not (workdir / trained.MODEL).exists()
    done = launch("train.py", "--config", config_file, "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    assert "epoch 1/8" not in done.stderr
    assert_same_run(workdir, finished)


def test_sigterm_saves_first_and_the_run_continues(config_file, finished, tmp_path):
    workdir = tmp_path / "terminated"
    process = start("train.py", "--config", config_file, "--workdir", workdir)
    process.wait_for("epoch 1/")
    process.send_signal(signal.SIGSTOP)  # it trains on once the second is refused
    second = launch("train.py", "--config", config_file, "--workdir", workdir)
    process.send_signal(signal.SIGCONT)
    assert f"another process is training in {workdir}; wait for it or choose " in refusal(second)
    process.wait_for("epoch 3/")
    process.send_signal(signal.SIGTERM)
    assert process.wait().returncode == 143
    steps = [int(path.name) for path in (workdir / "checkpoints").iterdir()]
    assert max(steps) >= 3 * 6
    assert launch("train.py", "--config", config_file, "--workdir", workdir).returncode == 0
    assert_same_run(workdir, finished)


@pytest.mark.slow
def test_a_damaged_newest_checkpoint_falls_back(config_file, finished, tmp_path):
    workdir = tmp_path / "damaged"
    shutil.copytree(finished, workdir)
    (workdir / trained.MODEL).unlink()
    newest = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for path in newest.rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = launch("train.py", "--config", config_file, "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    assert "cannot be read" in done.stderr
    assert "going back to the one before it" in done.stderr
    assert_same_run(workdir, finished)

    (workdir / trained.MODEL).unlink()
    for path in (workdir / "checkpoints").rglob("*"):
        if path.is_file() and path.parent.name == "d":
            path.write_bytes(b"")
    done = launch("train.py", "--config", config_file, "--workdir", workdir)
    assert re.search("no checkpoint in .* can be read", refusal(done))


def test_damaged_metrics_fall_back_too(config_file, finished, tmp_path):
    workdir = tmp_path / "damaged"
    shutil.copytree(finished, workdir)
    (workdir / trained.MODEL).unlink()
    newest = max((workdir / "checkpoints").iterdir(), key=lambda path: int(path.name))
    (newest / "metrics" / "metrics").write_text("")
    done = launch("train.py", "--config", config_file, "--workdir", workdir)
    assert done.returncode == 0, done.stderr
    assert "its metrics are damaged" in done.stderr
    assert_same_run(workdir, finished)


def test_a_damaged_model_is_refused(config_file, finished, tmp_path):
    workdir = tmp_path / "damaged"
    shutil.copytree(finished, workdir)
    (workdir / trained.MODEL).write_text("{")
    line = refused("train.py", "--config", config_file, "--workdir", workdir)
    assert "model.json is damaged" in line


@pytest.mark.slow
def test_a_full_disk_is_one_line(config_file, tmp_path):
    """Files of at most 20 KiB: TensorStore fails as it does where space ends while it writes."""

    limited = ["bash", "-c", 'ulimit -f 20; exec "$@"', "_", sys.executable]
    command = ["launch/train.py", "--config", config_file, "--workdir", tmp_path / "run"]
    command.append("--config.model.name=plain4-w16")  # some files are longer
    done = subprocess.run(
        [*limited, *map(str, command)],
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert re.search("\nerror: cannot write a checkpoint to .*; free some space", done.stderr)
    assert not (tmp_path / "run" / trained.MODEL).exists()


def test_a_finished_run_is_only_read(config_file, finished):
    before = {path: path.stat().st_mtime for path in finished.rglob("*")}
    done = call("train.py", "--config", config_file, "--workdir", finished)
    assert done.returncode == 0
    assert "epoch" not in done.stderr
    assert {path: path.stat().st_mtime for path in finished.rglob("*")} == before


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.optim.lrate=1"], "no 'optim.lrate'; the nearest name is 'optim.lr'"),
        (["--config.epochs=many"], "invalid literal"),
        (["--config.model.name=vgg16"], "no model 'vgg16'"),
        (["--config.data.name=nothing", "--config.data.data_dir=/nowhere"], "nothing"),
        (["--config.batch_size=1000"], "more than the 90 training images"),
        (["--config.epochs=-1"], "epochs must be at least 0"),
        (["--config.data.train_size=1000"], "1,?000"),
        (["--config.data.validation_size=0"], "set validation_size"),
        (["--config.teacher=/nowhere"], "no directory /nowhere; give one that"),
        (["--config.distill.alpha=2"], "alpha"),
        (["--config.model.dtype=float16"], "float32 or bfloat16"),
        (["--config.augment.pad=-1"], "numbers of pixels"),
        (["--nonsense=1"], "there is no flag --nonsense; --help lists the flags"),
        (["more"], "'more' is not a flag"),
    ],
)
def test_bad_input_is_one_line_and_nothing_written(config_file, tmp_path, flags, message):
    workdir = tmp_path / "run"
    line = refused("train.py", "--config", config_file, "--workdir", workdir, *flags)
    assert re.search(message, line)
    assert not workdir.exists()


def test_a_config_of_another_script(tmp_path):
    line = refused("train.py", "--config", "configs/study.py:quick", "--workdir", tmp_path / "run")
    assert "is no config for train.py: it has no 'optim'" in line


def test_no_config_no_workdir(config_file):
    assert "--config is missing" in refused("train.py")
    assert "no config file /nowhere.py" in refused("train.py", "--config", "/nowhere.py")
    assert "--workdir is missing" in refused("train.py", "--config", config_file)


def test_devices_that_do_not_divide_the_batch(config_file, tmp_path):
    done = launch("train.py", "--config", config_file, "--workdir", tmp_path / "run", devices=4)
    assert "4 devices do not divide batch_size=15" in refusal(done)


def test_another_config_for_the_same_directory(config_file, finished):
    line = refused(
        "train.py", "--config", config_file, "--workdir", finished, "--config.optim.lr=0.3"
    )
    assert "another config: optim.lr 0.1 -> 0.3;" in line


def test_teachers_that_do_not_fit(config_file, finished, tmp_path):
    teacher = tmp_path / "teacher"

    def expect(message):
        flags = [f"--config.teacher={teacher}", "--workdir", tmp_path / "student"]
        assert message in refused("train.py", "--config", config_file, *flags)
        assert not (tmp_path / "student").exists()

    teacher.mkdir()
    expect("holds no finished model")
    shutil.copytree(finished, teacher, dirs_exist_ok=True)
    found = json.loads((teacher / trained.MODEL).read_text())
    facts = found["facts"] | {"data": {"name": "cifar10"}}
    for key, value, message in (
        ("class_names", ["cat", "dog"], "differ in classes"),
        ("facts", facts, "differ in data set: cifar10 and tiny"),
        ("image_shape", [32, 32, 3], "differ in image shape"),
    ):
        (teacher / trained.MODEL).write_text(json.dumps(found | {key: value}))
        expect(message)
    (teacher / trained.MODEL).unlink()
    expect("holds no finished model; give again the command that began it")


def test_a_loss_that_is_not_finite(config_file, tmp_path):
    flags = ["--config.optim.lr=1e20", "--config.optim.momentum=0.0"]
    line = refused("train.py", "--config", config_file, "--workdir", tmp_path / "run", *flags)
    assert re.search(r"the loss is \w+ at step \d+, learning rate \S+; no checkpoint yet in", line)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_directory_that_cannot_be_written(config_file, tmp_path):
    tmp_path.chmod(0o500)
    line = refused("train.py", "--config", config_file, "--workdir", tmp_path / "run")
    assert re.search("cannot use .*Permission denied", line)


def test_a_directory_that_is_a_file(config_file, tmp_path):
    (tmp_path / "run").write_text("mine")
    line = refused("train.py", "--config", config_file, "--workdir", tmp_path / "run")
    assert re.search("cannot use .*; choose another --workdir", line)


@pytest.mark.slow
def test_a_killed_student_continues_bit_identically(config_file, finished, tmp_path):
    """And one that comes later, on four devices, finds all of the teacher's logits there."""
    flags = ["--config.epochs=4", "--config.model.name=plain3-w2"]

    def begin(student, teacher, *more, devices=1):
        known = ["--config", config_file, "--workdir", tmp_path / student, *flags]
        known.append(f"--config.teacher={tmp_path / teacher}")
        return start("train.py", *known, *more, devices=devices)

    def train(*arguments, **options):
        done = begin(*arguments, **options).wait()
        assert done.returncode == 0, done.stderr
        return done.stderr

    for teacher in ("teacher", "other"):
        shutil.copytree(finished, tmp_path / teacher)
    assert "logits of 0 of 4 epochs are cached in" in train("undisturbed", "other")
    process = begin("killed", "teacher")
    process.wait_for("epoch 2/")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "epoch 1/4" not in train("killed", "teacher")
    assert_same_run(tmp_path / "killed", tmp_path / "undisturbed")

    kept = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("teacher/views/**/*.npz")}
    assert len(kept) == 4
    told = train("later", "teacher", "--config.batch_size=16", "--config.seed=3", devices=4)
    assert "logits of 4 of 4 epochs are cached in" in told
    assert "cannot be used" not in told
    assert {
        path: path.stat().st_mtime_ns for path in tmp_path.rglob("teacher/views/**/*.npz")
    } == kept

    # What four devices trained is read on one.
    leaves = jax.tree.leaves(trained.load(tmp_path / "later").variables)
    assert {len(leaf.devices()) for leaf in leaves} == {1}
