"""Rank correlations of metrics over methods, against SciPy and by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from kdxai.errors import UserError
from kdxai.study.concord import TRUTH, against_truth, concord

METHODS = ("cam", "edges", "gradient", "random")
RNG = np.random.default_rng(0)


def records(images=6, seeds=(0, 1), **metrics):
    rows = [
        {"model": "one", "seed": seed, "method": method, "image": image, "number": i}
        for seed in seeds
        for i, method in enumerate(METHODS)
        for image in range(images)
    ]
    found = pd.DataFrame(rows)
    values = {name: f(found) if callable(f) else f for name, f in metrics.items()}
    return found.assign(**values)


def at(table, metric, other):
    return table[(table.metric == metric) & (table.other == other)].iloc[0]


def drawn(rows):
    return RNG.normal(size=len(rows))


def test_rho_is_the_mean_over_images_of_what_scipy_says():
    rows = records(adcc=drawn, deletion=drawn, gini=lambda rows: RNG.integers(0, 3, len(rows)))
    table = concord(rows, resamples=50)
    assert len(table) == 6
    for metric, other, sign in (("adcc", "deletion", -1), ("adcc", "gini", 1)):
        each = [
            sign * stats.spearmanr(own[metric], own[other])[0]
            for _, own in rows.groupby(["seed", "image"])
            if own[other].nunique() > 1
        ]
        row = at(table, metric, other)
        assert row.rho == pytest.approx(np.mean(each))
        assert row.share == len(each) / 12
        assert row.rho == at(table, other, metric).rho
        assert row.ci_low < row.rho < row.ci_high
        means = rows.groupby("method")[[metric, other]].mean()
        want = sign * stats.spearmanr(means[metric], means[other])[0]
        assert row.rho_of_means == pytest.approx(want)


def test_less_is_better_of_some():
    rows = records(insertion=lambda rows: rows.number, deletion=lambda rows: -rows.number)
    row = at(concord(rows, resamples=5), "insertion", "deletion")
    assert row.rho == row.ci_low == row.ci_high == row.rho_of_means == pytest.approx(1)


def test_what_prefers_no_method_says_nothing():
    rows = records(insertion=drawn, increase=0.0, adcc=drawn)
    table = concord(rows, resamples=5)
    row = at(table, "insertion", "increase")
    assert np.isnan(row.rho) and row.share == 0 and np.isnan(row.rho_of_means)
    assert np.isfinite(at(table, "insertion", "adcc").rho)
    rows.loc[rows.image == 3, "increase"] = rows.number % 2.0
    row = at(concord(rows, resamples=20), "insertion", "increase")
    assert row.share == 1 / 6 and row.ci_low <= row.rho <= row.ci_high


def test_a_metric_that_a_network_or_a_method_lacks():
    rows = records(adcc=drawn, gini=drawn, iou=drawn)
    rows.loc[rows.seed == 1, "adcc"] = np.nan
    rows.loc[rows.method == "cam", "gini"] = np.nan
    table = concord(rows, resamples=5)
    one = concord(rows[rows.seed == 0], resamples=5)
    for column in ("rho", "rho_of_means"):
        assert at(table, "adcc", "iou").rho == pytest.approx(at(one, "adcc", "iou").rho)
        assert np.isnan(at(table, "gini", "iou")[column])
    assert at(table, "adcc", "iou").share == 0.5


def test_the_truth_ranks_what_finds_it():
    rows = records(
        images=30,
        energy_inside=lambda rows: rows.number + RNG.normal(size=len(rows)) / 9,
        iou=lambda rows: rows.number,
        arcc=lambda rows: rows.number + RNG.normal(size=len(rows)),
        adcc=drawn,
        average_drop=lambda rows: rows.number,  # the truth upside down
        mask_area=0.3,  # of the object, no metric
    )
    table = concord(rows, resamples=20)
    assert "mask_area" not in set(table.metric)
    best = against_truth(table)
    assert [*best.metric] == ["arcc", "adcc", "average_drop"]
    assert best.rho.iloc[0] > 0.6 and best.rho.iloc[2] < -0.95
    assert (best.other == TRUTH).all()
    rows = rows.drop(columns=["energy_inside", "iou"])
    assert against_truth(concord(rows, resamples=5)).empty


def test_only_images_of_all_methods_count():
    rows = records(adcc=drawn, gini=drawn).assign(drawn=True)
    whole = rows[rows.method == "cam"].assign(image=lambda rows: rows.image + 100, drawn=False)
    pd.testing.assert_frame_equal(
        concord(pd.concat([rows, whole]), resamples=5), concord(rows, resamples=5)
    )
    with pytest.raises(UserError, match="same images of the same networks"):
        concord(rows.iloc[1:])
    with pytest.raises(UserError, match="same images of the same networks"):
        concord(pd.concat([rows.iloc[1:], rows.iloc[-1:]]))


def test_too_little_to_rank():
    rows = records(adcc=drawn, gini=drawn)
    with pytest.raises(UserError, match="three methods or more and two metrics, not 2 and 2"):
        concord(rows[rows.number < 2])
    with pytest.raises(UserError, match="not 4 and 1"):
        concord(rows.drop(columns="gini"))
