"""launch/study.py and launch/explain.py as a user runs them, on the rendered data set."""

import json
import re

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from scripts import call, launch, refused, study


def explain(workdir, models, *flags):
    """A command line; the small study shows the checks, which are programs of their own."""
    known = ["explain.py", "--config", "configs/explain.py", "--workdir", workdir]
    return [*known, f"--config.models={models}", "--config.sanity=0", "--config.gallery=2", *flags]


def test_what_a_study_leaves(small_study):
    records = pd.read_csv(small_study / "records.csv", keep_default_na=False)
    assert list(records.groupby("model").size()) == [40] * 4
    assert records.groupby("model").image.apply(tuple).nunique() == 1  # the same images
    assert records.image.is_unique is False
    table = pd.read_csv(small_study / "table1.csv").fillna({"other": ""})
    assert {"model", "metric", "mean", "ci_low", "ci_high", "n"} <= set(table)
    alone = [(name, "") for name in ("teacher", "student", "control", "untrained")]
    pairs = [("student", "teacher"), ("student", "control"), ("untrained", "teacher")]
    assert list(dict.fromkeys(zip(table.model, table.other, strict=True))) == [*alone, *pairs]
    assert (table.n == 40).all()
    known = table.dropna(subset=["ci_low", "ci_high"])
    assert ((known.ci_low <= known["mean"]) & (known["mean"] <= known.ci_high)).all()
    rest = table.drop(index=known.index)  # the same on every image
    assert (rest["mean"] == 0).all()
    assert set(rest.metric) <= {"average_gain", "mask_area"}
    teacher = records[records.model == "teacher"]
    alone = table[table.other == ""].set_index(["model", "metric"])
    mean = alone["mean"]["teacher", "ssim"]
    assert mean == pytest.approx(teacher.ssim.mean(), abs=1e-5)
    told = json.loads((small_study / "study.json").read_text())
    assert told["models"]["teacher, seed 0"]["model"] == "plain4-w4"
    assert told["models"]["untrained, seed 0"]["best_epoch"] == 0
    assert told["provenance"]["jax"]
    claims = pd.read_csv(small_study / "claims.csv", keep_default_na=False)
    assert set(claims.rung) == {"sound"}  # the quick study leaves the audit to launch/audit.py
    assert {"c1_drop", "c4_accuracy", "control_drop"} <= set(claims.claim)
    assert set(claims.across) == {"images"}
    at_chance = claims[claims.verdict == "not testable here"]  # after so little training
    assert len(at_chance) == len(claims) - 1
    assert "c4_accuracy" not in set(at_chance.claim)
    assert set(pd.read_csv(small_study / "trust.csv").model) == set(records.model)
    differences = pd.read_csv(small_study / "differences.csv")
    assert differences.groupby(["one", "other"]).ngroups == 3
    report = (small_study / "report.md").read_text()
    assert "about these trained models only" in report
    for picture in re.findall(r"\(figures/(.*?)\)", report):
        pixels = matplotlib.image.imread(small_study / "figures" / picture)
        assert min(pixels.shape[:2]) > 300
        assert np.ptp(pixels) > 0.5
    drawn = {path.stem for path in (small_study / "figures").iterdir()}
    assert {"maps-cam", "table1-cam", "training-curves", "image", "reliability"} <= drawn


def test_the_page_needs_nothing_else(small_study):
    page = (small_study / "report.html").read_text()
    assert "http" not in page.replace("http://www.w3.org/2000/svg", "")  # a name, not an address
    written = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    addresses = re.findall(r"url\((?:&quot;)?(.{11})", written)
    assert set(addresses) == {"data:image/"}
    assert len(page.encode()) < 5e6
    # All 40 images: fewer were drawn than the gallery would hold.
    records = pd.read_csv(small_study / "records.csv")
    shown = [int(number) for number in re.findall(r"<small>test image (\d+)</small>", page)]
    assert set(shown) == set(records.image)
    assert len(shown) == 40
    told = json.loads((small_study / "study.json").read_text())
    hashes = {name: run["sha256"] for name, run in told["models"].items()}
    assert all(one in page for one in hashes.values())
    # Cut down like this, teacher and control have one recipe; another process trained the control.
    assert hashes["teacher, seed 0"] == hashes["control, seed 0"]
    assert len(set(hashes.values())) == 3


def test_what_is_done_is_not_done_again(small_study):
    [records] = (small_study / "records").glob("seed0-student-cam-*.csv")
    kept = {
        path: path.stat().st_mtime_ns
        for path in small_study.rglob("*")
        if path.name == "model.json" or path.name.startswith("seed0-teacher-cam-")
    }
    table = (small_study / "table1.csv").read_bytes()
    records.unlink()
    done = call(*study(small_study))
    assert done.returncode == 0, done.stderr
    assert "epoch" not in done.stderr
    assert records.exists()
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert (small_study / "table1.csv").read_bytes() == table


def test_a_changed_config_is_refused_with_the_difference(small_study):
    line = refused(*study(small_study, "--config.models.student.distill.alpha=0.9"))
    assert "models.student.distill.alpha 0.5 -> 0.9" in line


def test_explain_measures_the_same(small_study, tmp_path, undrawn):
    runs = ",".join(f"{name}={small_study}/seed0/{name}" for name in ("teacher", "student"))
    flags = ["--config.images=40", "--config.whole=False"]
    done = call(*explain(tmp_path / "explained", runs, *flags))
    assert done.returncode == 0, done.stderr
    ours, theirs = (pd.read_csv(d / "table1.csv") for d in (tmp_path / "explained", small_study))
    both = theirs.model.isin(ours.model) & (theirs.other.isin(ours.model) | theirs.other.isna())
    theirs = theirs[both].reset_index(drop=True)
    # Nothing tells that runs which are named alone are of one replicate.
    assert set(ours.design.dropna()) == {"independent"}
    pd.testing.assert_frame_equal(ours.drop(columns="design"), theirs.drop(columns="design"))


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.evaluation.images=0"], "ask for 1 to 2000 images"),
        (["--config.evaluation.images=9999"], "ask for 1 to 2000 images"),
        (["--config.evaluation.methods=cam,vibes"], "no method 'vibes'"),
        (["--config.seeds=0"], "at least 1 seed"),
        (["--config.share=3/2"], "share is i/n"),
        (["--config.claims.c1_drop.one=uncle"], "the claim 'c1_drop' has one='uncle'"),
        (["--config.across=seeds"], "a verdict between seeds needs at least 2 seeds, not 1"),
        (["--config.models.student.teacher=uncle"], "'uncle', which is no model"),
        (["--config.models.student.model.name=resnet99"], "no model 'resnet99'"),
        (["--config.models.control.batch_size=1000"], "more than the 200 training images"),
        (["--config.evaluation.stage=stage9"], "no stage 'stage9'"),
        (["--config.evaluation.stage=stage2"], "CAM needs the feature map that a linear head"),
        (["--config.evaluation.methods=cam,cam"], "each once"),
        (["--config.evaluation.metrics=vibes"], "no measure 'vibes'"),
        (["--config.evaluation.resamples=0"], "resamples must be at least 1"),
    ],
)
def test_bad_input_is_one_line_and_nothing_written(tmp_path, flags, message):
    assert message in refused(*study(tmp_path / "run", *flags))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("models", "message"),
    [("", "NAME=DIRECTORY"), ("teacher", "NAME=DIRECTORY"), ("teacher=/nowhere", "no directory")],
)
def test_explain_refuses_what_it_cannot_read(tmp_path, models, message):
    assert message in refused(*explain(tmp_path / "explained", models))
    assert not (tmp_path / "explained").exists()


@pytest.mark.slow
def test_methods_measures_and_their_gallery(small_study, tmp_path, usual_code_generator, undrawn):
    workdir, flags = tmp_path / "explained", ["--config.whole=False"]
    done = launch(
        *explain(workdir, f"one={small_study}/seed0/teacher", *flags, "--config.images=10"),
        *("--config.methods=cam,edges,random,mask", "--config.metrics=randomisation,cascade"),
    )
    assert done.returncode == 0, done.stderr
    records = pd.read_csv(workdir / "records.csv", keep_default_na=False)
    assert list(records.groupby("method").size()) == [10, 10, 10, 10]
    by_method = records.groupby("method")
    # The truth lies inside itself, bar what a bilinear resize does not change; noise does not.
    assert (records[records.method == "mask"].energy_inside == 1).all()
    assert by_method.energy_inside.mean()["random"] < 0.3
    # Controls that know no model or class do not change with either.
    blind = records[records.method.isin(["edges", "random", "mask"])]
    np.testing.assert_allclose(blind.randomised_similarity, 1, atol=1e-5)
    assert by_method.randomised_similarity.mean()["cam"] < 0.9
    np.testing.assert_allclose(blind.other_class_similarity, 1, atol=1e-5)
    cascades = [name for name in records if name.startswith("cascade")]
    np.testing.assert_allclose(blind[cascades], 1, atol=1e-5)
    assert by_method.cascade_top_down.mean()["cam"] < 0.9
    for last in ("cascade_top_down_4_stage1", "cascade_bottom_up_4_head"):
        np.testing.assert_allclose(records[last], records.randomised_similarity, atol=1e-5)
    report = (workdir / "report.md").read_text()
    assert "| Method | head | stage3 | stage2 | stage1 |" in report
    assert "cascade_bottom_up" in set(pd.read_csv(workdir / "table1.csv").metric)
    assert (workdir / "figures" / "methods-one.png").exists()

    # The other measures, of fewer methods and images, as each is a program of its own.
    done = call(
        *explain(tmp_path / "more", f"one={small_study}/seed0/teacher", *flags),
        "--config.images=5",
        *("--config.methods=random,mask", "--config.metrics=perturbation,road,sensitivity,grid"),
    )
    assert done.returncode == 0, done.stderr
    records = pd.read_csv(tmp_path / "more" / "records.csv", keep_default_na=False)
    assert records[records.method == "random"].max_sensitivity.max() == 0
    games = records.groupby("method").grid_pointing_game.mean()
    assert games["mask"] == 1
    assert games["random"] == pytest.approx(1 / 4, abs=0.1)
    assert "grid_pointing_game" in set(pd.read_csv(tmp_path / "more" / "table1.csv").metric)
    assert {"deletion", "insertion", "road", "average_sensitivity"} <= set(records)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.stage=stage9"], "no stage 'stage9'; its stages are stage1, stage2, stage3"),
        (["--config.stage=stage2"], "CAM needs the feature map that a linear head"),
    ],
)
def test_explain_refuses_cuts_that_are_none(small_study, tmp_path, flags, message):
    flags = ["--config.images=4", "--config.whole=False", *flags]
    line = refused(*explain(tmp_path / "explained", f"one={small_study}/seed0/teacher", *flags))
    assert message in line


def test_explain_at_an_earlier_stage(small_study, tmp_path, undrawn):
    workdir = tmp_path / "explained"
    done = call(
        *explain(workdir, f"one={small_study}/seed0/teacher", "--config.images=4"),
        *("--config.whole=False", "--config.stage=stage2", "--config.methods=layer_cam"),
    )
    assert done.returncode == 0, done.stderr
    assert len(pd.read_csv(workdir / "records.csv")) == 4


def test_explain_refuses_unknown_measures(small_study, tmp_path):
    models = f"one={small_study}/seed0/teacher"
    line = refused(*explain(tmp_path / "explained", models, "--config.metrics=vibes"))
    assert "no measure 'vibes'; known: perturbation" in line
