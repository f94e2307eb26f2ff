"""Tables along a sweep: nothing scores well without saying that it has collapsed."""

import numpy as np
import pandas as pd
import pytest

from kdxai.errors import UserError
from kdxai.study.checks import collapsed
from kdxai.study.sweeps import forgotten, sweep

N = 240
LABEL = np.arange(N) % 4
HARD = np.arange(N) % 6 == 0  # 40 images


def network(model, seed, *, predicted, drop=0.2, agreement=np.nan):
    values = {"average_drop": drop, "agreement_pearson": agreement, "predicted": predicted}
    columns = {"model": model, "seed": seed, "line": f"line {seed}", "label": LABEL}
    return pd.DataFrame(values | {"image": np.arange(N)}).assign(**columns)


def study(children=3):
    """Dense networks; half of their weights, which forgets the hard images; none, at chance."""
    rng = np.random.default_rng(0)
    rows = []
    for seed in range(3):
        rows.append(network("dense", seed, predicted=LABEL, drop=rng.normal(0.2, 0.02, N)))
    for seed in range(children):
        wrong = np.where(HARD, (LABEL + 1) % 4, LABEL)
        alike = 0.9 - 0.3 * HARD + 0.01 * seed + rng.normal(0, 0.02, N)
        rows.append(network("half", seed, predicted=wrong, drop=0.3 - 0.2 * HARD, agreement=alike))
        alike = rng.normal(0, 0.1, N)
        rows.append(network("none", seed, predicted=0 * LABEL, drop=0.001, agreement=alike))
    return pd.concat(rows, ignore_index=True)


def test_a_row_per_metric_with_what_tells_whether_it_can_be_compared():
    data = study()
    found = sweep(data, "dense", resamples=50).set_index(["model", "metric"])
    drop = found.xs("average_drop", level="metric")
    assert list(drop.index) == ["dense", "half", "none"]
    assert list(drop.accuracy) == pytest.approx([1, 5 / 6, 1 / 4])
    assert list(drop.collapsed) == [0, 0, 3]  # the best drop of all
    assert drop["mean"]["half"] == pytest.approx(0.3 - 0.2 / 6)
    assert drop.mean_correct["half"] == pytest.approx(0.3)
    assert drop.n_correct["half"] == N - 40
    dense = data[(data.model == "dense") & np.tile(~HARD, 9)].average_drop
    assert drop.reference_correct["half"] == pytest.approx(dense.mean())
    assert drop.agreement["half"] == pytest.approx(0.9 - 0.3 / 6 + 0.01, abs=0.005)
    assert drop.agreement_correct["half"] == pytest.approx(0.91, abs=0.005)
    assert np.isnan(drop.agreement["dense"])
    assert drop.caution["half"] == "few networks: an outlier would not be seen"


def test_every_network_says_whether_it_collapsed():
    found = collapsed(study()).set_index(["model", "seed"])
    assert found.collapsed["none"].all()
    assert not found.collapsed[["dense", "half"]].any()
    assert found.why["none", 1].startswith("none (seed 1) is not above chance: 60 of 240")
    assert set(found.why["half"]) == {""}


def test_agreement_on_the_images_that_compression_forgets():
    found = forgotten(study(), "dense", ["half", "none"], resamples=200).set_index("model")
    row = found.loc["half"]
    assert (row.other, row.metric) == ("dense", "agreement_pearson")
    assert (row.n_forgotten, row.n, row.networks) == (40, N, 3)
    assert row.mean_rest == pytest.approx(0.91, abs=0.005)
    assert row.mean_forgotten == pytest.approx(0.61, abs=0.02)
    assert row["mean"] == pytest.approx(row.mean_forgotten - row.mean_rest)
    assert row.ci_low < row["mean"] < row.ci_high < -0.25
    assert row.caution.startswith("few images")
    # By the majority: a third network that remembers changes nothing of which images these are.
    data = study()
    data.loc[(data.model == "half") & (data.seed == 2), "predicted"] = LABEL
    again = forgotten(data, "dense", ["half"], resamples=20).iloc[0]
    assert again.n_forgotten == 40
    # Nothing forgotten, nothing to compare.
    data.loc[data.model == "half", "predicted"] = np.tile(LABEL, 3)
    nothing = forgotten(data, "dense", ["half"], resamples=20).iloc[0]
    assert nothing.n_forgotten == 0
    assert np.isnan([nothing["mean"], nothing.ci_low, nothing.mean_forgotten]).all()
    assert nothing.mean_rest == pytest.approx(0.86, abs=0.01)


def test_an_interval_of_two_kinds_of_images_against_welch():
    """One network: two independent samples of images."""
    data = study(children=1)
    row = forgotten(data, "dense", ["half"], resamples=4000).iloc[0]
    own = data[data.model == "half"].agreement_pearson.to_numpy()
    error = np.sqrt(own[HARD].var(ddof=1) / 40 + own[~HARD].var(ddof=1) / 200)
    assert (row.ci_high - row.ci_low) / 2 == pytest.approx(2.02 * error, rel=0.1)


def test_models_that_are_not_there():
    with pytest.raises(UserError, match="no model 'uncle' here; known: dense, half, none"):
        sweep(study(), "uncle", resamples=5)
    with pytest.raises(UserError, match="no model 'uncle' here"):
        forgotten(study(), "dense", ["uncle"], resamples=5)
