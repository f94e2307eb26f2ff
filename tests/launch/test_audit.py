"""launch/audit.py as a user runs it."""

import json

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from scripts import call, refusal

from kdxai.study.paper import REPAIRS


def audit(workdir, models, *flags):
    return call(
        *("audit.py", "--config", "configs/audit.py", f"--config.models={models}", *flags),
        *("--workdir", workdir),
    )


@pytest.mark.slow
def test_every_rung_of_every_model(small_study, tmp_path):
    names = ("teacher", "student")
    models = ",".join(f"{name}={small_study}/seed0/{name}" for name in names)
    done = audit(tmp_path / "audit", models, "--config.images=40")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "audit" / "audit.csv", keep_default_na=False)
    assert list(table.rung.unique()) == ["literal", *REPAIRS]
    pairs = zip(table.model, table.other, strict=True)
    expected = [("teacher", ""), ("student", ""), ("student", "teacher")]
    assert list(dict.fromkeys(pairs)) == expected
    assert (table.n == 40).all()
    teacher = table[(table.model == "teacher") & (table.metric == "complexity")]
    sizes = teacher.set_index("rung")["mean"]
    # A matrix 1-norm of 8x8 cells in [0, 1], then a mean per pixel.
    assert 1 < sizes["literal"] < 8
    assert sizes.iloc[-1] < 1
    claims = pd.read_csv(tmp_path / "audit" / "claims.csv")
    assert list(claims.rung.unique()) == ["literal", *REPAIRS]
    assert set(claims.one) == {"student"}
    assert set(claims.other) == {"teacher"}  # the claims about a control wait for one
    assert np.ptp(matplotlib.image.imread(tmp_path / "audit" / "audit.png")) > 0.5

    # The last rung is the sound protocol: the study's own numbers on the same images.
    sound = pd.read_csv(small_study / "table1.csv", keep_default_na=False).drop(columns="method")
    last = table[table.rung == list(REPAIRS)[-1]].drop(columns="rung")
    keys = ["model", "other", "metric"]
    both = sound.merge(last, on=keys, suffixes=("", "_audit"))
    assert len(both) >= 20
    np.testing.assert_allclose(both["mean"], both["mean_audit"], atol=1e-5)


@pytest.mark.slow
def test_a_stand_in_plays_the_student_until_the_last_rung(small_study, tmp_path):
    rungs = "held-out images,student of the right teacher"
    runs = {name: f"{small_study}/seed0/{name}" for name in ("teacher", "student", "control")}
    models = (
        f"teacher={runs['teacher']},student={runs['student']},resnext_student={runs['control']}"
    )
    done = audit(tmp_path / "a", models, "--config.images=10", f"--config.rungs={rungs}")
    assert done.returncode == 0, done.stderr
    foreign, right = (rows for _, rows in pd.read_csv(tmp_path / "a/audit.csv").groupby("rung"))
    done = audit(
        tmp_path / "b", "", f"--config.study={small_study}", "--config.images=10",
        "--config.rungs=sound",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    own = pd.read_csv(tmp_path / "b/audit.csv")

    def means(table, model):
        return table[(table.model == model) & table.other.isna()].set_index("metric")["mean"]

    pd.testing.assert_series_equal(means(foreign, "student"), means(own, "control"), rtol=1e-5)
    pd.testing.assert_series_equal(means(right, "student"), means(own, "student"), rtol=1e-5)


def test_a_study_of_another_version_is_refused(small_study, tmp_path):
    old = json.loads((small_study / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(old | {"version": 1}))
    line = refusal(audit(tmp_path / "audit", "", f"--config.study={tmp_path}"))
    assert "is a study of another version" in line


@pytest.mark.parametrize(
    ("models", "flags", "message"),
    [
        ("teacher=/nowhere", [], "no directory /nowhere"),
        ("", [], "give either models="),
        ("teacher", [], "NAME=DIRECTORY"),
        ("teacher={study}/seed0/teacher", ["--config.rungs=attic"], "no step 'attic'"),
        (
            "teacher={study}/seed0/teacher",
            ["--config.rungs=student of the right teacher"],
            "needs the models student and resnext_student",
        ),
        ("", ["--config.study=/nowhere"], "/nowhere holds no study"),
        ("teacher={study}/seed0/teacher", ["--config.images=0"], "ask for 1 to"),
    ],
)
def test_bad_input_is_one_line_and_nothing_written(small_study, tmp_path, models, flags, message):
    line = refusal(audit(tmp_path / "audit", models.format(study=small_study), *flags))
    assert message in line
    assert not (tmp_path / "audit").exists()
