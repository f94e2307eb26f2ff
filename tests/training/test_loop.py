import os
import signal
import warnings

import jax
import numpy as np
import pytest

from kdxai.data import datasets
from kdxai.errors import UserError
from kdxai.models import trained
from kdxai.training import epochs, feed, history, loop


def test_a_finished_run_is_read_before_anything_is_built(tiny_config, tmp_path, monkeypatch):
    tiny_config.epochs, tiny_config.optim.warmup_epochs = 0, 0.0
    dataset = datasets.load(**tiny_config.data)
    result = loop.train(tiny_config, tmp_path / "run", dataset)
    monkeypatch.delattr(loop, "build")
    assert loop.train(tiny_config, tmp_path / "run", dataset) == result


@pytest.mark.slow
def test_sigterm_within_an_epoch_loses_no_step(tiny_config, tmp_path, monkeypatch):
    """Nor does it draw other units to drop."""
    tiny_config.model.name, tiny_config.model.dropout = "wrn-10-1-w4", 0.3
    dataset = datasets.load(**tiny_config.data)
    loop.train(tiny_config, tmp_path / "undisturbed", dataset)

    share, calls = feed.process_share, []

    def interrupted(values):
        calls.append(len(values))
        if len(calls) == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return share(values)

    with monkeypatch.context() as patch:
        patch.setattr(feed, "process_share", interrupted)
        with pytest.raises(SystemExit) as stopped:
            loop.train(tiny_config, tmp_path / "run", dataset)
    assert stopped.value.code == 143
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["3"]

    loop.train(tiny_config, tmp_path / "run", dataset)
    one, other = (trained.load(tmp_path / name) for name in ("undisturbed", "run"))
    jax.tree.map(np.testing.assert_array_equal, one.variables, other.variables)
    histories = [history.read(tmp_path / name) for name in ("undisturbed", "run")]
    for a, b in zip(*histories, strict=True):
        # The epoch's totals were saved too: its training loss is of the whole epoch.
        assert a | {"seconds": 0} == b | {"seconds": 0}


@pytest.mark.parametrize("accuracies", [(0.9, 0.5, 0.7, 0.6), (0.2, 0.8, 0.8, 0.1)])
def test_of_a_run_whose_accuracy_falls_the_best_is_kept(
    tiny_config, tmp_path, monkeypatch, accuracies
):
    """With the newest two; of equal ones the newest. Its variables are those of that epoch."""
    tiny_config.epochs = 4
    dataset = datasets.load(**tiny_config.data)
    best = max(range(4), key=lambda epoch: (accuracies[epoch], epoch))
    variables = []

    def validate(program, state):
        variables.append(jax.device_get(state.variables))
        return 1.0, accuracies[len(variables) - 1]

    monkeypatch.setattr(epochs, "validate", validate)
    result = loop.train(tiny_config, tmp_path / "run", dataset)
    assert result["best_epoch"] == best + 1
    kept = {int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert kept == {5 * (best + 1), 15, 20}
    loaded = trained.load(tmp_path / "run").variables
    jax.tree.map(np.testing.assert_array_equal, loaded, variables[best])
    rows = history.read(tmp_path / "run")
    assert [row["validation_accuracy"] for row in rows] == list(accuracies)


def test_the_result_is_of_the_best_checkpoint_on_each_split(tiny_config, tmp_path):
    """Against plain numpy; the splits have different images and sizes."""
    tiny_config.epochs = 3
    tiny_config.optim.lr = 0.003  # not all right
    dataset = datasets.load(**tiny_config.data)
    result = loop.train(tiny_config, tmp_path / "run", dataset)
    model = trained.load(tmp_path / "run")
    for split, name in ((dataset.validation, "validation"), (dataset.test, "test")):
        images = (split.image / 255.0 - dataset.mean) / dataset.std
        logits = np.float64(model.model.apply(model.variables, np.float32(images)))
        right = (logits.argmax(-1) == split.label).mean()
        assert result[f"{name}_accuracy"] == pytest.approx(right, abs=1e-6)
    rows = history.read(tmp_path / "run")
    accuracies = [row["validation_accuracy"] for row in rows]
    assert len(set(accuracies)) > 1
    assert result["best_epoch"] == max(range(3), key=lambda i: (accuracies[i], i)) + 1
    assert result["validation_accuracy"] == max(accuracies)
    assert result["seconds"] == pytest.approx(sum(row["seconds"] for row in rows))


def test_a_finished_run_leaves_a_model(tiny_config, tmp_path):
    """It says all that later rooms know of a model, and is read without anything of the run."""
    tiny_config.epochs = 1
    dataset = datasets.load(**tiny_config.data)
    facts = loop.train(tiny_config, tmp_path / "run", dataset)
    for name in (trained.MODEL, trained.WEIGHTS):
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "run" / name).rename(tmp_path / "model" / name)
    model = trained.load(tmp_path / "model")
    assert model.facts == facts
    assert facts["parameters"] == sum(x.size for x in jax.tree.leaves(model.variables["params"]))
    assert (facts["model"], facts["best_epoch"]) == ("plain3-w4", 1)
    assert facts["data"] == tiny_config.data.to_dict()
    assert facts["data_fingerprint"] == datasets.fingerprint(dataset)
    origin = facts["origin"]
    assert (origin["kind"], origin["teacher"], origin["dtype"]) == ("train", "", "float32")
    assert model.architecture == {"name": "plain3-w4", "dropout": 0.0}
    assert model.class_names == tuple(dataset.class_names)
    assert model.image_shape == (8, 8, 3)
    np.testing.assert_array_equal([model.mean, model.std], [dataset.mean, dataset.std])


def test_no_model_of_another_origin_is_taken_for_a_run(tiny_config, tmp_path):
    """Nor is anything written beside it."""
    dataset = datasets.load(**tiny_config.data)
    tiny_config.epochs, tiny_config.optim.warmup_epochs = 0, 0.0
    loop.train(tiny_config, tmp_path / "run", dataset)
    model = trained.load(tmp_path / "run")
    (tmp_path / "imported").mkdir()
    facts = {"origin": {"kind": "import"}}
    trained.save(model._replace(facts=facts), tmp_path / "imported")
    with pytest.raises(UserError, match="holds a model that no training made; choose another"):
        loop.train(tiny_config, tmp_path / "imported", dataset)
    assert len(list((tmp_path / "imported").iterdir())) == 2


def test_a_network_that_has_learned_nothing_is_told_of(tiny_config, tmp_path, monkeypatch):
    """Training does; one that is to stay untrained is not."""
    dataset = datasets.load(**tiny_config.data)
    rate = np.bincount(dataset.validation.label).max() / len(dataset.validation.label)
    monkeypatch.setattr(loop, "evaluate_split", lambda *_: (2.3, rate))
    tiny_config.epochs, tiny_config.optim.warmup_epochs = 1, 0.0
    with pytest.warns(UserWarning, match="validation images, as a network is that always"):
        loop.train(tiny_config, tmp_path / "run", dataset)
    monkeypatch.setattr(loop, "evaluate_split", lambda *_: (2.3, rate + 0.01))
    with warnings.catch_warnings(action="error"):
        loop.train(tiny_config, tmp_path / "another", dataset)
        monkeypatch.setattr(loop, "evaluate_split", lambda *_: (2.3, rate))
        tiny_config.epochs = 0
        loop.train(tiny_config, tmp_path / "untrained", dataset)
