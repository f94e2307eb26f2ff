import shutil
from collections import namedtuple

import pytest

from kdxai.data import datasets
from kdxai.errors import UserError
from kdxai.training import loop


def test_too_little_space_is_one_line(tiny_config, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(1 << 30, (1 << 30) - 9, 9))
    with pytest.raises(
        UserError, match=r"cannot write a checkpoint to .*: \d+ MiB needed, 0 MiB free"
    ):
        loop.train(tiny_config, tmp_path / "run", datasets.load(**tiny_config.data))
    assert not (tmp_path / "run" / "result.json").exists()
