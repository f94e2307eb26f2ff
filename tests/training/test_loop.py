import os
import signal

import jax
import numpy as np
import pytest

from kdxai.data import datasets
from kdxai.training import devices, loop, runs


def test_a_finished_run_is_read_before_anything_is_built(tiny_config, tmp_path, monkeypatch):
    tiny_config.epochs, tiny_config.optim.warmup_epochs = 0, 0.0
    dataset = datasets.load(**tiny_config.data)
    result = loop.train(tiny_config, tmp_path / "run", dataset)
    monkeypatch.delattr(loop, "build")
    assert loop.train(tiny_config, tmp_path / "run", dataset) == result


def test_sigterm_within_an_epoch_loses_no_step(tiny_config, tmp_path, monkeypatch):
    dataset = datasets.load(**tiny_config.data)
    loop.train(tiny_config, tmp_path / "undisturbed", dataset)

    share, calls = devices.share, []

    def interrupted(values):
        calls.append(len(values))
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return share(values)

    with monkeypatch.context() as patch:
        patch.setattr(devices, "share", interrupted)
        with pytest.raises(SystemExit) as stopped:
            loop.train(tiny_config, tmp_path / "run", dataset)
    assert stopped.value.code == 143
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["3"]

    loop.train(tiny_config, tmp_path / "run", dataset)
    one, other = (runs.load(tmp_path / name) for name in ("undisturbed", "run"))
    jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)
    histories = [runs.read_history(tmp_path / name, 99) for name in ("undisturbed", "run")]
    for a, b in zip(*histories, strict=True):
        # The epoch's totals were saved too: its training loss is of the whole epoch.
        assert a | {"seconds": 0} == b | {"seconds": 0}
