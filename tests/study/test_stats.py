import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from kdxai.study.stats import preferences, table

METRICS = ("average_drop", "complexity", "coherency", "ssim", "adcc")


def records(n=400, seeds=1, shift=0.0, seed=0):
    """A teacher and a student whose images share most of what makes them easy or hard."""
    rng = np.random.default_rng(seed)
    rows = []
    for replicate in range(seeds):
        easy = rng.uniform(0.3, 0.7, n)
        for model, offset in (("teacher", 0.0), ("student", shift)):
            frame = pd.DataFrame({m: easy + rng.normal(offset, 0.02, n) for m in METRICS})
            label = rng.integers(0, 3, n)
            predicted = np.where(rng.random(n) < 0.8, label, 3)
            extra = {"model": model, "seed": replicate, "image": np.arange(n)}
            rows.append(frame.assign(label=label, predicted=predicted, **extra))
    return pd.concat(rows, ignore_index=True)


def line(rows, model, metric):
    found = rows[(rows.model == model) & (rows.metric == metric)]
    assert len(found) == 1
    return found.iloc[0]


def test_means_and_intervals_against_numpy_and_scipy():
    data = records()
    result = table(data, [], resamples=4000)
    teacher = data[data.model == "teacher"]
    for metric in METRICS:
        expected = scipy_stats.bootstrap(
            (teacher[metric],), np.mean, n_resamples=4000, method="percentile", rng=1
        ).confidence_interval
        row = line(result, "teacher", metric)
        assert row["mean"] == pytest.approx(teacher[metric].mean())
        width = expected.high - expected.low
        assert row.ci_low == pytest.approx(expected.low, abs=0.06 * width)
        assert row.ci_high == pytest.approx(expected.high, abs=0.06 * width)
        assert row.n == 400
    accuracy = (teacher.predicted == teacher.label).mean()
    assert line(result, "teacher", "accuracy")["mean"] == pytest.approx(accuracy)


def test_differences_are_paired():
    data = records(shift=0.01)
    result = table(data.sample(frac=1, random_state=0), [("student", "teacher")], resamples=2000)
    pairs = data.pivot(index="image", columns="model", values="ssim")
    difference = pairs.student - pairs.teacher
    row = line(result, "student - teacher", "ssim")
    assert row["mean"] == pytest.approx(difference.mean())
    half = 1.96 * difference.std() / np.sqrt(len(difference))
    assert row.ci_high - row.ci_low == pytest.approx(2 * half, rel=0.1)
    alone = line(result, "teacher", "ssim")
    assert row.ci_high - row.ci_low < 0.5 * (alone.ci_high - alone.ci_low)


def test_adcc_of_means_is_made_of_means():
    result = table(records(), [], resamples=100)
    drop, complexity, coherency = (
        line(result, "student", m)["mean"] for m in ("average_drop", "complexity", "coherency")
    )
    expected = 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop))
    row = line(result, "student", "adcc_of_means")
    assert row["mean"] == pytest.approx(expected, rel=1e-5)
    assert row.ci_low < expected < row.ci_high


def test_several_seeds_widen_the_interval_by_what_seeds_differ():
    data = records(seeds=4)
    spread = data.assign(ssim=data.ssim + 0.1 * data.seed)
    narrow, wide = (line(table(d, [], resamples=500), "teacher", "ssim") for d in (data, spread))
    assert wide["mean"] == pytest.approx(narrow["mean"] + 0.15)
    assert wide.ci_high - wide.ci_low > 3 * (narrow.ci_high - narrow.ci_low)


def test_coverage_of_the_interval():
    """95 % intervals of 300 samples hold the true mean in 95 % of cases, give or take."""
    rng = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        data = records(n=150, seed=rng.integers(1 << 30))
        row = line(table(data, [], resamples=300), "teacher", "adcc")
        hits += row.ci_low <= 0.5 <= row.ci_high
    assert 0.91 <= hits / 300 <= 0.985


def test_models_keep_their_order():
    assert list(table(records(), [], resamples=10).model.unique()) == ["teacher", "student"]


def test_preferences_count_images_and_halve_ties():
    images = np.arange(4)
    truth = pd.DataFrame({"ssim": [0.9, 0.8, 0.5, 0.1], "average_drop": [0.0, 0.1, 0.2, 0.3]})
    noise = pd.DataFrame({"ssim": [0.1, 0.8, 0.9, 0.0], "average_drop": [0.5, 0.5, 0.5, 0.5]})
    data = pd.concat(
        [
            rows.assign(model="teacher", seed=0, method=method, image=images)
            for method, rows in (("mask", truth), ("random", noise))
        ]
    )
    shares = preferences(data.sample(frac=1, random_state=0), "mask", "random").teacher
    assert shares["ssim"] == 2.5 / 4  # better, equal, worse, better
    assert shares["average_drop"] == 1  # less is better
