"""Where the truth is known, a trained model's maps beat those that know nothing of it."""

import pytest

from kdxai import classifiers, evaluate
from kdxai.data import datasets
from kdxai.models.trained import load
from kdxai.protocol import Protocol
from kdxai.training import config, loop

pytestmark = pytest.mark.slow
METHODS = ("cam", "layer_cam", "grad_cam_plus_plus", "random", "centred_gaussian", "mask")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """Mean localisation of every method, on `shapes`."""
    settings = config.default()
    settings.data.update({"name": "shapes", "train_size": 4000, "validation_size": 200})
    settings.model.name = "wrn-10-1-w8"
    settings.epochs, settings.batch_size = 4, 32
    settings.optim.lr, settings.optim.warmup_epochs = 0.2, 0.5
    dataset = datasets.load(**settings.data)
    workdir = tmp_path_factory.mktemp("controls") / "run"
    assert loop.train(settings, workdir, dataset)["test_accuracy"] > 0.7
    trained = load(workdir)
    means = {}
    for method in METHODS:
        protocol = Protocol(method=method)
        rows = evaluate.evaluate(
            classifiers.as_classifier(trained, protocol),
            dataset.test.image[:200],
            dataset.test.label[:200],
            protocol,
            mean=trained.mean,
            std=trained.std,
            masks=dataset.test.mask[:200],
        )
        means[method] = rows[["energy_inside", "pointing_game", "iou"]].mean()
    return means


@pytest.mark.parametrize("metric", ["energy_inside", "pointing_game", "iou"])
def test_truth_beats_maps_beats_controls(found, metric):
    scores = {method: found[method][metric] for method in METHODS}
    assert scores["mask"] == pytest.approx(1)
    for method in ("cam", "layer_cam", "grad_cam_plus_plus"):
        assert scores[method] < scores["mask"]
        for control in ("random", "centred_gaussian"):
            assert scores[method] > scores[control] + 0.02, (method, control, scores)
