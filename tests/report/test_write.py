"""Everything that a study leaves for people, from made-up numbers and from fresh networks."""

import errno
import json
import os
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from ml_collections import ConfigDict
from report_pages import CLASSES, MODELS, content, ladder
from scripts import ROOT

from kdxai.data import datasets
from kdxai.errors import UserError
from kdxai.report import figures, markdown, tables, write
from kdxai.report.figures import Panel
from kdxai.study import run
from kdxai.study.measure import Measured
from kdxai.study.plan import Cell
from kdxai.training import config as training
from kdxai.training import loop, runs

HISTORY = [
    {
        "epoch": epoch, "step": 10 * epoch, "learning_rate": 0.1, "train_loss": 1 / epoch,
        "train_accuracy": 0.1 * epoch, "validation_loss": 2 / epoch,
        "validation_accuracy": 0.2 * epoch, "seconds": 1.0,
    }
    for epoch in (1, 2, 3)
]  # fmt: skip


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """A study of four models and two seeds, as `study.measure` returns it."""
    page = content()
    cells, trained = [], []
    for key, result in page.results.items():
        name, _, seed = key.rpartition(", seed ")
        settings = ConfigDict({"epochs": 3, "model": {"name": "wrn-10-1"}})
        cells.append(Cell(name, int(seed), settings, tmp_path / key))
        runs_of = SimpleNamespace(variables={}, result=result, config=settings)
        trained.append(runs_of)
        (tmp_path / key).mkdir()
        runs.write_csv(tmp_path / key / runs.HISTORY, HISTORY)
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
    for name in ("curves", "gallery", "intervals", "rungs"):  # drawing takes long
        monkeypatch.setattr(figures, name, lambda path, *_: figures.save(Figure((1, 1)), path))
    return Measured(
        cells, trained, SimpleNamespace(
            name="shapes", class_names=("r$a_{i$", *CLASSES[1:]), test=split, train=split
        ),
        wanted, page.records, page.agreement, page.tables, measure_nothing(), page.trust,
        page.claims, page.ladder,
    )  # fmt: skip


def measure_nothing():
    return pd.DataFrame()


CONFIG = ConfigDict({"seeds": 2})


def written(measured, directory):
    directory.mkdir(exist_ok=True)
    write.write(measured, CONFIG, directory)
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_all_files(measured, tmp_path):
    files = written(measured, tmp_path / "out")
    pictures = ("training-curves", "maps-cam", "table1-cam", "ladder")
    assert files == {
        *("records.csv", "agreement.csv", "table1.csv", "claims.csv", "trust.csv", "ladder.csv"),
        *("report.html", "report.md", "study.json"),
        *(f"figures/{name}.png" for name in pictures),
    }
    text = (tmp_path / "out" / "report.md").read_text()
    assert "32x32" not in text + (tmp_path / "out" / "report.html").read_text()
    for name in pictures:
        assert f"](figures/{name}.png)" in text
    told = json.loads((tmp_path / "out" / "study.json").read_text())
    assert len(told["models"]["student, seed 1"]["sha256"]) == 64


def test_a_missing_history_stops_no_report(measured, tmp_path, recwarn):
    (tmp_path / "teacher, seed 0" / runs.HISTORY).unlink()
    (tmp_path / "student, seed 0" / runs.HISTORY).write_bytes(b"\xff\x00,1\n")
    (tmp_path / "control, seed 0" / runs.HISTORY).write_text("epoch,step\n1,2\n")
    files = written(measured, tmp_path / "out")
    assert "figures/training-curves.png" in files  # of the untrained one, which has a history here
    told = [str(one.message) for one in recwarn if "curves leave it out" in str(one.message)]
    assert [next(name for name in MODELS if name in one) for one in told] == list(MODELS[:3])
    (tmp_path / "untrained, seed 0" / runs.HISTORY).unlink()
    files = written(measured, tmp_path / "none")
    assert "figures/training-curves.png" not in files
    assert "training-curves" not in (tmp_path / "none" / "report.md").read_text()


def test_curves_are_those_of_the_history(measured, monkeypatch):
    drawn = {}
    monkeypatch.setattr(figures, "curves", lambda path, histories: drawn.update(histories))
    found = write.read_histories([cell for cell in measured.cells if cell.seed == 0])
    assert list(found) == list(MODELS)
    assert list(found["student"].validation_accuracy) == [0.2, 0.4, pytest.approx(0.6)]


@pytest.mark.parametrize("name", ["records.csv", "maps-cam.png", "report.html", "study.json"])
def test_a_full_disk_is_one_line_and_leaves_nothing_half(measured, tmp_path, monkeypatch, name):
    replace = Path.replace

    def full(self, target):
        if Path(target).name == name:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match=f"cannot write .*{name}: No space left on device"):
        written(measured, tmp_path / "out")
    left = [path.name for path in (tmp_path / "out").rglob("*")]
    assert name not in left
    assert not [one for one in left if one.startswith(".")]


def test_a_file_where_the_figures_belong_is_named(measured, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "figures").touch()
    with pytest.raises(UserError, match="cannot write .*figures: File exists"):
        written(measured, tmp_path / "out")


def test_no_cell_of_a_csv_is_a_formula(measured, tmp_path):
    evil = ["=cmd|'/c calc'!A1", "@SUM(1)", "+1", "-1", "\t=1"]
    says = [*evil, *measured.claims.says[len(evil) :]]
    rows = measured.claims.assign(says=says[: len(measured.claims)])
    written(measured._replace(claims=rows), tmp_path / "out")
    back = pd.read_csv(tmp_path / "out" / "claims.csv")
    assert list(back.says) == [f"'{one}" for one in evil[: len(rows)]]
    np.testing.assert_allclose(back["mean"], rows["mean"])  # negative numbers stay numbers
    assert back.ci_low.min() < 0


def test_pictures_in_markdown_have_addresses_without_spaces(measured):
    text = markdown.report({}, measured, ["methods-a - b.png"], {})
    assert "](figures/methods-a%20-%20b.png)" in text


def test_what_a_claim_says_breaks_no_table(measured, capsys):
    says = ["a | b\nc", "[red]d"]
    claims = measured.claims.assign(says=[*says, *says])
    text = markdown.report({}, measured._replace(claims=claims), [], {})
    [line] = [line for line in text.splitlines() if line.startswith("| a ")]
    assert line.startswith("| a \\| b c | student - teacher |")
    tables.show_claims(claims)
    assert "[red]d" in capsys.readouterr().out


def test_an_audit_leaves_two_tables_and_a_picture(tmp_path):
    table = ladder()
    more = [table[table.metric == "complexity"].assign(metric=name) for name in ("ssim", "adcc")]
    found = SimpleNamespace(table=pd.concat([table, *more]), claims=content().claims)
    write.write_audit(found, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"audit.csv", "claims.csv", "audit.png"}
    pixels = matplotlib.image.imread(tmp_path / "audit.png")
    assert np.ptp(pixels) > 0.5
    assert len(pd.read_csv(tmp_path / "audit.csv")) == 2 * len(table)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5])
def test_pictures_of_any_channels(channels):
    image = np.random.default_rng(0).integers(0, 256, (2, 6, 7, channels), dtype=np.uint8)
    shown = figures.picture(image)
    expected = {
        1: image[..., 0],
        3: image,
        4: image[..., :3],
    }.get(channels, image.astype(float).mean(-1).astype(np.uint8))
    assert shown.dtype == np.uint8
    np.testing.assert_array_equal(shown, expected)
    part = figures.picture(image[0] / np.float32(255))
    np.testing.assert_allclose(part, expected[0] / 255, atol=1 / 255)


@pytest.mark.parametrize("channels", [1, 2, 4, 5])
@pytest.mark.parametrize("draw", [figures.gallery, figures.methods])
def test_galleries_of_any_channels_and_any_class_names(tmp_path, channels, draw):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (2, 12, 12, channels), dtype=np.uint8)
    names = ["a$b_{c$d^", "x" * 300]
    panels = [Panel(rng.random((12, 12)), image[0] / 255, name, 0.9, 0.1, False) for name in names]
    draw(tmp_path / "maps.png", image, names, {"one": panels, "two": panels})
    assert np.ptp(matplotlib.image.imread(tmp_path / "maps.png")) > 0.5


def test_names_are_drawn_as_they_are(monkeypatch, tmp_path):
    kept = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: kept.update(figure=figure))
    image = np.zeros((1, 12, 12, 3), np.uint8)
    panels = [Panel(np.eye(12), image[0] / 255, "$x$", 0.9, 0.1, True)]
    figures.gallery(tmp_path / "maps.png", image, ["$y$"], {"one": panels})
    shown = [ax.title for part in kept["figure"].subfigs for ax in part.axes]
    mathematics = {text.get_text(): text.get_parse_math() for text in shown if text.get_text()}
    assert mathematics == {"$y$": False, "$x$ 90%": False, "→ 10%": True}


def test_grey_values_are_not_stretched(monkeypatch, tmp_path):
    """A dark image stays dark, beside itself under its map."""
    kept = {}
    monkeypatch.setattr(figures, "save", lambda figure, path: kept.update(figure=figure))
    image = np.full((1, 12, 12, 1), 64, np.uint8)
    panels = [Panel(np.eye(12), image[0] / 255, "a", 0.9, 0.1, True)]
    figures.gallery(tmp_path / "maps.png", image, ["a"], {"one": panels})
    shown = [ax.images[0] for part in kept["figure"].subfigs for ax in part.axes if ax.images]
    assert [one.norm.vmax for one in shown[:3]] == [255, 255, 1]
    assert [one.norm.vmin for one in shown[:3]] == [0, 0, 0]


def test_a_study_of_strange_data_and_names_from_end_to_end(tmp_path):
    """Two channels, hostile class names, models called 20 and `a - b`."""
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for split, size in (("train", 40), ("test", 24)):
        image = rng.integers(0, 256, (size, 16, 16, 2), dtype=np.uint8)
        np.savez(tmp_path / "data" / f"{split}.npz", image=image, label=np.arange(size) % 3)
    names = ["[red]$a_{b$", "=1|<b>|", "\x1b[31mx" + "y" * 300]
    (tmp_path / "data" / "info.json").write_text(json.dumps({"class_names": names}))
    config = training.default()
    config.data.name, config.data.data_dir = "strange", str(tmp_path / "data")
    config.model.name, config.model.dtype = "plain3-w4", "float32"
    config.epochs, config.batch_size = 0, 8
    dataset = datasets.load(**config.data)
    for seed, place in enumerate(("one", "two, too")):
        config.seed = seed
        loop.train(config, tmp_path / place, dataset)
    explain = runpy.run_path(str(ROOT / "configs" / "explain.py"))["get_config"]()
    explain.models = f"20={tmp_path}/one,a - b={tmp_path}/two, too"
    explain.compare = (("20", "a - b"),)
    explain.update({"images": 16, "whole": False, "sanity": 0, "gallery": 3, "resamples": 100})
    out = tmp_path / "out"
    table = write.write(run.explain(explain, out), explain, out)
    assert set(map(tuple, table[["model", "other"]].to_numpy())) == {
        ("20", ""),
        ("a - b", ""),
        ("20", "a - b"),
    }
    records = pd.read_csv(out / "records.csv", dtype={"model": str})
    assert list(records.groupby("model").size()) == [16, 16]
    text = (out / "report.md").read_text()
    for name in re.findall(r"\(figures/(.*?)\)", text):
        pixels = matplotlib.image.imread(out / "figures" / name)
        assert np.ptp(pixels) > 0.5
    page = (out / "report.html").read_text()
    assert "<b>|" not in page
    assert "=1|&lt;b&gt;|" in page
    assert "| 20 - a - b |" in text
