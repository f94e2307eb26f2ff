from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict
from report_pages import CLASSES, content

from kdxai import files
from kdxai.data import datasets
from kdxai.report import write
from kdxai.report.charts.maps import Panel
from kdxai.study.members import Member
from kdxai.training import history

HISTORY = [
    {
        "epoch": epoch, "step": 10 * epoch, "learning_rate": 0.1, "train_loss": 1 / epoch,
        "train_accuracy": 0.1 * epoch, "validation_loss": 2 / epoch,
        "validation_accuracy": 0.2 * epoch, "seconds": 1.0,
    }
    for epoch in (1, 2, 3)
]  # fmt: skip


@pytest.fixture
def measured(tmp_path, monkeypatch, undrawn):
    """A study of four models and two seeds, as `study.measure` returns it."""
    page = content()
    members = []
    for (name, seed), facts in page.results.items():
        model = SimpleNamespace(variables={}, facts=facts | {"best_epoch": 3})
        place = tmp_path / f"{name}, seed {seed}"
        members.append(Member(name, seed, model, str(place), str(seed)))
        place.mkdir()
        files.write_csv(place / history.HISTORY, HISTORY)
    image = np.random.default_rng(0).integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    label = np.arange(200) % len(CLASSES)
    split = datasets.Split(image, label, None)
    wanted = SimpleNamespace(
        protocols=[SimpleNamespace(method="cam")],
        drawn=page.gallery.ids,
        evaluation=ConfigDict({"gallery": 2}),
    )
    maps = page.gallery.heatmaps["teacher"]
    panel = [Panel(one, image[0] / 255, "r$a_{i$", 0.9, 0.5, True) for one in maps]
    monkeypatch.setattr(write, "explain_images", lambda *_: panel)
    names = ("r$a_{i$", *CLASSES[1:])
    return page.measured._replace(
        members=members,
        dataset=SimpleNamespace(name="shapes", class_names=names, test=split, train=split),
        wanted=wanted,
    )
