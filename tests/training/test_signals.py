"""Ctrl-C and SIGTERM wait for what must not be cut in two, and are obeyed in one line."""

import os
import signal
import threading

import pytest
from scripts import start

from kdxai.data import datasets
from kdxai.models import trained
from kdxai.training import checkpoints, feed, loop, signals


def end_of(number, block):
    """The exception with which a block ends that a signal reaches."""
    with pytest.raises((KeyboardInterrupt, SystemExit)) as ended, signals.held() as asked:
        os.kill(os.getpid(), number)
        block(asked)
    return ended.value


def test_a_signal_is_obeyed_after_the_block(capsys):
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    seen = []
    ended = end_of(signal.SIGINT, lambda asked: seen.append(asked.number))
    assert isinstance(ended, KeyboardInterrupt)
    assert capsys.readouterr().err == ""  # whoever catches it speaks
    ended = end_of(signal.SIGTERM, lambda asked: seen.append(asked.number))
    assert ended.code == 143
    assert capsys.readouterr().err == f"{signals.SAVED}\n"
    assert seen == [signal.SIGINT, signal.SIGTERM]
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_error_of_the_block_comes_first():
    with pytest.raises(ValueError, match="mine"), signals.held():
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("mine")


def test_in_another_thread_nothing_is_held():
    found = []

    def hold():
        with signals.held() as asked:
            found.append(asked.number)

    thread = threading.Thread(target=hold)
    thread.start()
    thread.join()
    assert found == [None]


@pytest.mark.slow
def test_a_signal_while_a_checkpoint_is_saved(tiny_config, tmp_path, monkeypatch, capfd):
    """The epoch is kept, nothing is said of it, and the run goes on to the same end."""
    tiny_config.epochs = 3
    dataset = datasets.load(**tiny_config.data)
    loop.train(tiny_config, tmp_path / "undisturbed", dataset)
    save = checkpoints.Checkpoints._save

    for epoch, number, said in ((1, signal.SIGINT, []), (2, signal.SIGTERM, [signals.SAVED])):

        def interrupted(self, state, accuracy, number=number):
            save(self, state, accuracy)  # in the background
            os.kill(os.getpid(), number)

        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.setattr(checkpoints.Checkpoints, "_save", interrupted)
            with pytest.raises((KeyboardInterrupt, SystemExit)):
                loop.train(tiny_config, tmp_path / "run", dataset)
        lines = capfd.readouterr().err.splitlines()
        assert [line for line in lines if not line.startswith("run: ")] == said
        steps = sorted(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())
        assert steps == [5, 10][:epoch]
    loop.train(tiny_config, tmp_path / "run", dataset)
    ended = [trained.read(tmp_path / name)["sha256"] for name in ("undisturbed", "run")]
    assert ended[0] == ended[1]


def test_a_signal_at_the_very_end_does_not_lose_the_result(tiny_config, tmp_path, monkeypatch):
    tiny_config.epochs = 0
    best = checkpoints.Checkpoints.best

    def interrupted(self, like):
        os.kill(os.getpid(), signal.SIGINT)
        return best(self, like)

    monkeypatch.setattr(checkpoints.Checkpoints, "best", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.train(tiny_config, tmp_path / "run", datasets.load(**tiny_config.data))
    assert trained.load(tmp_path / "run")


def test_orbax_says_nothing_of_a_save_within_an_epoch(tiny_config, tmp_path, monkeypatch, caplog):
    """It would ask for a metric, which no unfinished epoch has."""
    share = feed.process_share
    monkeypatch.setattr(
        feed, "process_share", lambda values: os.kill(os.getpid(), signal.SIGTERM) or share(values)
    )
    with caplog.at_level("WARNING"), pytest.raises(SystemExit):
        loop.train(tiny_config, tmp_path / "run", datasets.load(**tiny_config.data))
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["1"]
    assert "tracked_metric" not in caplog.text


def test_ctrl_c_as_a_user_presses_it(tiny_data, tmp_path):
    flags = ["--config.data.name=tiny", f"--config.data.data_dir={tiny_data}"]
    flags += ["--config.model.name=plain3-w4", "--config.model.dropout=0.0"]
    flags += ["--config.batch_size=10", "--config.epochs=500"]
    command = ["--config", "configs/teacher.py", "--workdir", tmp_path / "run", *flags]
    process = start("train.py", *command)
    process.wait_for("epoch 3/")
    for _ in range(3):  # an impatient one
        process.send_signal(signal.SIGINT)
    assert process.wait().returncode == 130
    said = [line for line in process.stderr.splitlines() if not line.startswith("run: ")]
    assert said == ["interrupted; the same command continues"]
    newest = max(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert newest >= 27
