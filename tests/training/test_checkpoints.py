import errno
import os
import shutil
from collections import namedtuple

import pytest
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from kdxai.data import datasets
from kdxai.errors import UserError
from kdxai.models import trained
from kdxai.training import history, loop, runs


@pytest.mark.parametrize("free", [9, 1 << 20])  # the second holds the arrays, and nothing beside
def test_too_little_space_is_one_line(tiny_config, tmp_path, monkeypatch, free):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 30, (1 << 30) - free, free))
    with pytest.raises(
        UserError, match=r"cannot write a checkpoint to .*: 2 MiB needed, [01] MiB free"
    ):
        loop.train(tiny_config, tmp_path / "run", datasets.load(**tiny_config.data))
    assert not (tmp_path / "run" / trained.MODEL).exists()


OTHERS = (history.HISTORY, "tensorboard", trained.MODEL)


@pytest.mark.parametrize(
    "name",
    [
        *(runs.CONFIG, trained.WEIGHTS),
        *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS),
    ],
)
def test_a_full_disk_is_one_line_whatever_is_written(
    tiny_config, tmp_path, monkeypatch, capfd, name
):
    """Nothing hides it, nothing is left half written, and the same command goes on."""
    tiny_config.epochs = 1
    dataset, workdir = datasets.load(**tiny_config.data), tmp_path / "run"
    fsync = os.fsync

    def full(number):
        if name in os.readlink(f"/proc/self/fd/{number}"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(number)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UserError, match=f"^cannot write {workdir}/{name}: No space left"):
            loop.train(tiny_config, workdir, dataset)
    said = capfd.readouterr().err.splitlines()
    assert not [line for line in said if not line.startswith("run: epoch")]
    assert not [path for path in workdir.iterdir() if path.name.startswith(".")]
    assert loop.train(tiny_config, workdir, dataset)["best_epoch"] == 1


def test_a_full_disk_is_told_when_the_curves_are_opened(tiny_config, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "tensorboard").write_text("in the way")
    with pytest.raises(UserError, match="cannot write .*/tensorboard: File exists"):
        loop.train(tiny_config, tmp_path / "run", datasets.load(**tiny_config.data))


def test_the_curves_are_what_tensorboard_reads(tiny_config, tmp_path):
    """Its record format, a mark where the run went on, and a point per name and epoch."""
    tiny_config.epochs = 2
    loop.train(tiny_config, tmp_path / "run", datasets.load(**tiny_config.data))
    (path,) = (tmp_path / "run" / "tensorboard").iterdir()
    content, events = path.read_bytes(), []
    while content:
        size = int.from_bytes(content[:8], "little")
        assert masked_crc32c(content[:8]) == int.from_bytes(content[8:12], "little")
        events.append(Event.FromString(content[12 : 12 + size]))
        content = content[16 + size :]
    assert events[0].file_version == "brain.Event:2"
    assert events[2].session_log.status == SessionLog.START
    points = [
        (event.step, value.tag, value.simple_value)
        for event in events[3:]
        for value in event.summary.value
    ]
    rows = history.read(tmp_path / "run")
    expected = [(row["step"], name, row[name]) for row in rows for name in row]
    assert [point[:2] for point in points] == [point[:2] for point in expected]
    assert [point[2] for point in points] == pytest.approx([point[2] for point in expected])
