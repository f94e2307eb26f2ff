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
import sweep_pages
from ml_collections import ConfigDict
from report_pages import MODELS, changed, content, ladder
from scripts import ROOT

from kdxai.data import datasets
from kdxai.errors import UserError
from kdxai.report import compose, drawn, networks, pages, tables, write
from kdxai.report.charts import maps
from kdxai.study import distances, run, stats
from kdxai.study.members import Member
from kdxai.training import config as training
from kdxai.training import history, loop

CONFIG = ConfigDict({"seeds": 2})


def written(measured, directory):
    directory.mkdir(exist_ok=True)
    write.write(measured, CONFIG, directory)
    return {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}


def test_all_files(measured, tmp_path):
    files = written(measured, tmp_path / "out")
    pictures = ("training-curves", "maps-cam", "image", "ladder")
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


def test_of_three_methods_it_is_said_which_metrics_agree(measured, tmp_path):
    rng = np.random.default_rng(0)
    rows = [measured.records]
    for method in ("edges", "random"):
        noise = rng.normal(size=(len(rows[0]), 2))
        rows.append(rows[0].assign(method=method, adcc=noise[:, 0], average_drop=-noise[:, 0]))
    files = written(measured._replace(records=pd.concat(rows)), tmp_path / "out")
    assert {"concord.csv", "figures/concord.png"} <= files
    table = pd.read_csv(tmp_path / "out" / "concord.csv").set_index(["metric", "other"])
    assert table.loc[("adcc", "average_drop"), "rho"] > 0.3
    assert "](figures/concord.png)" in (tmp_path / "out" / "report.md").read_text()


def test_a_missing_history_stops_no_report(measured, tmp_path, recwarn):
    (tmp_path / "teacher, seed 0" / history.HISTORY).unlink()
    (tmp_path / "student, seed 0" / history.HISTORY).write_bytes(b"\xff\x00,1\n")
    (tmp_path / "control, seed 0" / history.HISTORY).write_text("epoch,step\n1,2\n")
    files = written(measured, tmp_path / "out")
    assert "figures/training-curves.png" in files  # of the untrained one, which has a history here
    told = [str(one.message) for one in recwarn if "curves leave it out" in str(one.message)]
    assert [next(name for name in MODELS if name in one) for one in told] == list(MODELS[:3])
    (tmp_path / "untrained, seed 0" / history.HISTORY).unlink()
    files = written(measured, tmp_path / "none")
    assert "figures/training-curves.png" not in files
    assert "training-curves" not in (tmp_path / "none" / "report.md").read_text()


def test_curves_are_those_of_the_history(measured):
    found = drawn.read_histories([one for one in measured.members if one.seed == 0])
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


def test_pictures_in_markdown_have_addresses_without_spaces():
    page = content()._replace(figures={"methods-a - b.png": "a"})
    assert "](figures/methods-a%20-%20b.png)" in pages.markdown(compose.report(page))


def test_what_a_claim_says_breaks_no_table(measured, capsys):
    says = ["a | b\nc", "[red]d"]
    claims = measured.claims.assign(says=[*says, *says])
    text = pages.markdown(compose.report(changed(content(), claims=claims)))
    [line] = [line for line in text.splitlines() if line.startswith("| a ") and "drop" in line]
    assert line.startswith("| a \\| b c | ✗ contradicted |")
    tables.show_claims(claims)
    assert "[red]d" in capsys.readouterr().out


def test_an_audit_leaves_two_tables_and_a_picture(tmp_path):
    table = ladder()
    more = [table[table.metric == "complexity"].assign(metric=name) for name in ("ssim", "adcc")]
    found = SimpleNamespace(table=pd.concat([table, *more]), claims=content().measured.claims)
    write.write_audit(found, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"audit.csv", "claims.csv", "audit.png"}
    pixels = matplotlib.image.imread(tmp_path / "audit.png")
    assert np.ptp(pixels) > 0.5
    assert len(pd.read_csv(tmp_path / "audit.csv")) == 2 * len(table)


@pytest.fixture
def kept(measured, monkeypatch):
    """What the pictures of maps are made from, by the name of each."""
    found = {}
    monkeypatch.setattr(maps, "gallery", lambda method, *told: found.update({method: told}))
    monkeypatch.setattr(maps, "side_by_side", lambda name, *told: found.update({name: told}))
    return found


def test_pictures_are_of_the_images_drawn_and_of_the_first_seed(measured, monkeypatch, kept):
    asked = []
    panels = write.explain_images()

    def explain_images(trained, protocol, dataset, indices):
        asked.append((trained, list(indices)))
        return panels

    monkeypatch.setattr(write, "explain_images", explain_images)
    found = write.explain_first(measured)
    write.map_charts(measured, found)
    drawn = measured.wanted.drawn
    first = [one.model for one in measured.members if not one.seed]
    assert [one for one, _ in asked] == first
    assert all(indices == list(drawn) for _, indices in asked)
    shown, columns = kept["cam"]
    split = measured.dataset.test
    np.testing.assert_array_equal(shown.images, split.image[drawn[:2]])
    assert shown.names == [measured.dataset.class_names[split.label[k]] for k in drawn[:2]]
    assert list(columns) == [f"{name} (wrn-10-1)" for name in MODELS]
    assert all(list(its) == panels[:2] for its in columns.values())
    _, rows, through = kept["image"]
    np.testing.assert_array_equal(rows.images, split.image[drawn[:1]])
    assert (list(rows.names), list(rows.rows)) == (shown.names[:1], ["CAM"])
    assert {name: its for name, its in through.items()} == {name: panels[:1] for name in MODELS}
    pictures = write.gallery(measured, found)
    np.testing.assert_array_equal(pictures.images, split.image[drawn])
    np.testing.assert_array_equal(pictures.heatmaps["student"][3], panels[3].heatmap)


@pytest.mark.slow
def test_a_study_of_strange_data_and_names_from_end_to_end(tmp_path, monkeypatch):
    """Two channels, hostile class names, models called 20 and `a - b`.

    Maps by random numbers, each image's own: the pictures are of the maps that were measured.
    """
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
    explain.methods = "random"
    explain_images, shown = write.explain_images, []

    def explained(trained, protocol, data, indices):
        shown.append((trained, indices, explain_images(trained, protocol, data, indices)))
        return shown[-1][-1]

    monkeypatch.setattr(write, "explain_images", explained)
    out = tmp_path / "out"
    measured = run.explain(explain, out)
    assert write.write(measured, explain, out).title in (out / "report.md").read_text()
    table = measured.tables["table1"]
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
    rows = records.set_index(["model", "image"])
    for name, (trained, indices, panels) in zip(("20", "a - b"), shown, strict=True):
        for index, panel in zip(indices, panels, strict=True):
            row = rows.loc[name, index]
            assert panel.class_name == names[row.explained]
            assert panel.correct == (row.predicted == dataset.test.label[index] == row.label)
            ends = row.score, row.score_masked
            assert (panel.before, panel.after) == pytest.approx(ends, abs=1e-4)
            assert panel.heatmap.mean() == pytest.approx(row.complexity, abs=1e-5)
            pixels = dataset.test.image[index] / 255
            under = (pixels - trained.mean) * panel.heatmap[..., None] + trained.mean
            np.testing.assert_allclose(panel.masked, under, atol=1e-5)


@pytest.fixture
def of_a_sweep(measured, monkeypatch):
    """Two dense networks and their compressions, as `study.measure` returns them."""
    own, page = sweep_pages.made(2), sweep_pages.page(2)
    members = [
        Member(name, seed, SimpleNamespace(variables={}, facts=facts), "", f"line{seed}")
        for (name, seed), facts in own.results.items()
    ]
    monkeypatch.setattr(write, "sha256", lambda model: model.facts["sha256"])
    monkeypatch.setattr(networks, "see", lambda _, one, __: sweep_pages.seen(one))
    evaluation = ConfigDict({"gallery": 2, "resamples": 100, "seed": 0})
    drawn = page.gallery.ids
    wanted = SimpleNamespace(
        protocols=measured.wanted.protocols, drawn=drawn, evaluation=evaluation
    )
    return measured._replace(
        design=page.measured.design,
        members=members,
        wanted=wanted,
        records=own.records,
        agreement=sweep_pages.agreement(own),
        tables=page.measured.tables,
        trust=pd.DataFrame(),
        claims=pd.DataFrame(),
        question=pd.DataFrame(),
        ladder=pd.DataFrame(),
        pairwise={"cam": own.pairwise},
        noise=own.noise.assign(method="cam"),
        floors=stats.floors(own.records).assign(method="cam"),
    )


@pytest.mark.slow
def test_files_of_a_sweep(of_a_sweep, tmp_path):
    files = written(of_a_sweep, tmp_path / "out")
    assert files >= {
        *("floors.csv", "noise.csv", "matrix.csv", "compression.csv", "sweep.csv"),
        *("forgotten.csv", "figures/compression.png", "figures/agreement.png"),
    }
    own = sweep_pages.made(2)
    points = pd.read_csv(tmp_path / "out" / "compression.csv")
    assert len(points) == 2 * len(sweep_pages.MODELS)
    np.testing.assert_allclose(points.agreement, own.sweep.networks.agreement, rtol=1e-5)
    rows = pd.read_csv(tmp_path / "out" / "matrix.csv")
    rows = rows[(rows.metric == "pearson") & (rows.on == "both right")]
    expected = distances.agreement_matrix(own.pairwise, "pearson", both_right=True)
    np.testing.assert_allclose(rows[[*rows.network]], expected, rtol=1e-5)
    along = pd.read_csv(tmp_path / "out" / "sweep.csv")
    assert set(along.model) == {"dense", *sweep_pages.MODELS}
    assert set(pd.read_csv(tmp_path / "out" / "forgotten.csv").model) == set(sweep_pages.MODELS)
    for name in ("report.html", "report.md"):
        assert "At 8.0 times" in (tmp_path / "out" / name).read_text()


@pytest.mark.slow
def test_a_sweep_from_end_to_end(tmp_path, monkeypatch):
    """Two fresh networks, pruned: what their facts say is what the page reads."""
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for split, size in (("train", 40), ("test", 24)):
        image = rng.integers(0, 256, (size, 16, 16, 3), dtype=np.uint8)
        np.savez(tmp_path / "data" / f"{split}.npz", image=image, label=np.arange(size) % 3)
    config = training.default()
    config.data.name, config.data.data_dir = "noise", str(tmp_path / "data")
    config.model.name, config.model.dtype = "plain3-w4", "float32"
    config.epochs, config.batch_size = 0, 8
    dataset = datasets.load(**config.data)
    places = tuple(str(tmp_path / name) for name in ("one", "two"))
    for config.seed, place in enumerate(places):
        loop.train(config, place, dataset)
    made = runpy.run_path(str(ROOT / "configs" / "compression.py"))
    dense = ConfigDict({"origin": "made", "places": places})
    random = made["pruned"]("random", (2,), **{"prune.by": "random"})
    steps = made["sweep"]("dense", made["pruned"]("prune", (2,)) | random)
    wanted = made["study"]({"dense": dense}, {"dense": steps}, config.data.to_dict())
    wanted.evaluation.update({"images": 24, "sanity": 0, "gallery": 1, "resamples": 100})
    out = tmp_path / "out"
    write.write(run.study(wanted, out), wanted, out)
    found = pd.read_csv(out / "compression.csv").sort_values(["model", "seed"])
    assert list(found.kind) == ["pruned by magnitude"] * 2 + ["pruned at random"] * 2
    assert list(found.seed) == list(found.parent) == [0, 1, 0, 1]
    assert found.factor.between(1.4, 2).all()
    assert list(found.control) == [False, False, True, True]
    assert found.agreement.between(-1, 1).all()
    assert found.collapsed.all()  # nothing was learned from noise
    assert "Where each kind leaves the seed band" in (out / "report.html").read_text()
