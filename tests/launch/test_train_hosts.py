"""launch/train.py in several processes on one machine, over Gloo."""

import contextlib
import signal
import socket

import jax
import numpy as np
import pandas as pd
import pytest
from scripts import launch, refused, start

from kdxai.models import trained

EPOCHS, STEPS = 16, 5  # steps of an epoch
LOST = "error: a process of this run ended or lost its connection; give the same command again"


@pytest.fixture(scope="module")
def config_file(tmp_path_factory, tiny_data):
    path = tmp_path_factory.mktemp("configs") / "tiny.py"
    path.write_text(
        "from kdxai.training import config as training\n"
        "def get_config():\n"
        "    config = training.default()\n"
        f"    config.data.name, config.data.data_dir = 'tiny', {str(tiny_data)!r}\n"
        "    config.model.name, config.model.dtype = 'plain3-w4', 'float32'\n"
        f"    config.epochs, config.batch_size, config.optim.lr = {EPOCHS}, 16, 0.05\n"
        "    return config\n"
    )
    return path


@pytest.fixture(scope="module")
def alone(config_file, tmp_path_factory):
    """One process with two devices."""
    workdir = tmp_path_factory.mktemp("runs") / "alone"
    done = launch("train.py", "--config", config_file, "--workdir", workdir, devices=2)
    assert done.returncode == 0, done.stderr
    return workdir


@pytest.fixture
def processes():
    """Processes that end with the test, whatever it does."""
    with contextlib.ExitStack() as stack:

        def begin(*arguments, **options):
            started = []
            for process in start_two(*arguments, **options):
                stack.callback(process.kill)
                started.append(process)
            return started

        yield begin


def free_port():
    with socket.socket() as free:
        free.bind(("localhost", 0))
        return free.getsockname()[1]


def start_two(config_file, workdir, *flags, slurm=False):
    """Two processes of one run, which meet by flags or as SLURM starts them."""
    port = free_port()
    for process in range(2):
        variables = {}
        if slurm:
            variables = {
                "JAX_COORDINATOR_PORT": str(port),
                "SLURM_JOB_ID": "1",
                "SLURM_STEP_NODELIST": "localhost",
                "SLURM_NTASKS": "2",
                "SLURM_PROCID": str(process),
                "SLURM_LOCALID": str(process),
            }
            meet = ["--distributed"]
        else:
            meet = [f"--coordinator=localhost:{port}", "--processes=2", f"--process={process}"]
        known = ["--config", config_file, "--workdir", workdir, *meet]
        yield start("train.py", *known, *flags, variables=variables)


def finish(*started):
    """(exit code, stdout without Gloo's chatter, stderr) of each."""
    for process in started:
        process.wait()
        said = [line for line in process.stdout.splitlines() if not line.startswith("[Gloo]")]
        yield process.returncode, said, process.stderr


def assert_close(one, other):
    """The same history and the same parameters, to float tolerance."""
    histories = [pd.read_csv(run / "history.csv").drop(columns="seconds") for run in (one, other)]
    pd.testing.assert_frame_equal(*histories, atol=1e-3)
    a, b = trained.load(one), trained.load(other)
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=1e-3), a.variables, b.variables)
    assert a.facts["test_accuracy"] == pytest.approx(b.facts["test_accuracy"])


@pytest.mark.slow
def test_two_processes_train_what_one_does_whatever_ends_them(
    config_file, alone, processes, tmp_path
):
    """Two processes, one device, two processes again, four devices: each continues the last.

    All of them stream the images that the undisturbed run has in memory.
    """
    workdir, streamed = tmp_path / "run", "--config.data.resident_mib=0"
    flags = ["--config", config_file, "--workdir", workdir, streamed]

    # SIGTERM to one of them, as they begin to train; SLURM starts these.
    first, second = processes(config_file, workdir, streamed, slurm=True)
    first.wait_until((workdir / "config.json").exists)
    second.send_signal(signal.SIGTERM)
    first, second = finish(first, second)
    assert first[0] == second[0] == 143, (first, second)
    assert first[2].splitlines()[-1] == "terminated: the state is saved, the same command continues"
    assert second[1] == []
    assert "terminated" not in second[2]  # JAX alone says that it caught the signal
    (saved,) = (int(path.name) for path in (workdir / "checkpoints").iterdir())

    one = start("train.py", *flags)
    one.wait_for(f"epoch {saved // STEPS + 2}/")
    one.kill()

    first, second = processes(config_file, workdir, streamed)
    first.wait_for(f"epoch {EPOCHS - 8}/")
    second.kill()
    assert_ended_plainly(first)

    first, second = processes(config_file, workdir, streamed)
    first.wait_for(f"epoch {EPOCHS - 4}/")
    first.kill()
    assert_ended_plainly(second)

    assert not (workdir / trained.MODEL).exists()
    done = launch("train.py", *flags, devices=4)
    assert done.returncode == 0, done.stderr
    assert f"epoch {EPOCHS - 6}/" not in done.stderr
    assert_close(workdir, alone)


def assert_ended_plainly(process):
    """Code 1, and the last line says what happened and what to do."""
    ((code, said, errors),) = finish(process)
    assert (code, said) == (1, [])
    assert errors.splitlines()[-1].startswith(LOST), errors
    assert "Traceback" not in errors


@pytest.mark.slow
def test_a_student_of_two_processes(config_file, alone, processes, tmp_path):
    """Process 0 reads the teacher for both, and alone speaks and writes."""
    workdir, flags = tmp_path / "student", ["--config.epochs=1", f"--config.teacher={alone}"]
    first, second = finish(*processes(config_file, workdir, *flags))
    assert first[0] == second[0] == 0, (first, second)
    assert "epoch 1/1" in first[2]
    assert "test accuracy" in first[1][-1]
    assert second[1:] == ([], "")
    assert len(list((workdir / "tensorboard").iterdir())) == 1


@pytest.mark.slow
def test_bad_settings_are_one_line_of_process_0(config_file, processes, tmp_path):
    first, second = finish(*processes(config_file, tmp_path / "run", "--config.batch_size=15"))
    assert first[0] == second[0] == 2
    assert first[2].splitlines()[-1].startswith("error: 2 devices do not divide batch_size=15")
    assert second[1:] == ([], "")
    assert not (tmp_path / "run").exists()


def test_a_cluster_that_is_none(config_file, tmp_path):
    flags = ["--config", config_file, "--workdir", tmp_path / "run", "--distributed"]
    assert "--distributed found no SLURM" in refused("train.py", *flags)
