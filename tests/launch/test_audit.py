"""launch/audit.py as a user runs it."""

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
from scripts import launch

from kdxai.protocol import REPAIRS


def audit(workdir, models, *flags):
    return launch(
        *("audit.py", "--config", "configs/audit.py", f"--config.models={models}", *flags),
        *("--workdir", workdir),
    )


def test_every_rung_of_every_model(small_study, tmp_path):
    names = ("teacher", "student")
    models = ",".join(f"{name}={small_study}/seed0/{name}" for name in names)
    done = audit(tmp_path / "audit", models, "--config.images=20")
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "audit" / "audit.csv")
    assert list(table.rung.unique()) == ["literal", *REPAIRS]
    assert list(table.model.unique()) == [*names, "student - teacher"]
    assert (table.n == 20).all()
    teacher = table[(table.model == "teacher") & (table.metric == "complexity")]
    sizes = teacher.set_index("rung")["mean"]
    # A matrix 1-norm of 8x8 cells in [0, 1], then a mean per pixel.
    assert 1 < sizes["literal"] < 8
    assert sizes.iloc[-1] < 1
    assert np.ptp(matplotlib.image.imread(tmp_path / "audit" / "audit.png")) > 0.5

    # The last rung is the sound protocol: the study's own numbers on the same images.
    study = launch(
        *("explain.py", "--config", "configs/explain.py", f"--config.models={models}"),
        *("--config.images=20", "--config.whole=False", "--workdir", tmp_path / "explained"),
    )
    assert study.returncode == 0, study.stderr
    sound = pd.read_csv(tmp_path / "explained" / "table1.csv").drop(columns="method")
    last = table[table.rung == list(REPAIRS)[-1]].drop(columns="rung")
    keys = ["model", "metric"]
    both = sound.merge(last, on=keys, suffixes=("", "_audit"))
    assert len(both) >= 20
    np.testing.assert_allclose(both["mean"], both["mean_audit"], atol=1e-5)


@pytest.mark.parametrize(
    ("models", "flags", "message"),
    [
        ("teacher=/nowhere", [], "no directory /nowhere"),
        ("", [], "NAME=DIRECTORY"),
        ("teacher={study}/seed0/teacher", ["--config.images=0"], "ask for 1 to"),
    ],
)
def test_bad_input_is_one_line_and_nothing_written(small_study, tmp_path, models, flags, message):
    done = audit(tmp_path / "audit", models.format(study=small_study), *flags)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert message in done.stderr
    assert not (tmp_path / "audit").exists()
