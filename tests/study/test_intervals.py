"""Intervals that hold the truth as often as they say, and the tests that agree with them."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from test_stats import COLUMNS, at_most, line, world

from kdxai.study.intervals import SHARES, Sample, bent, estimate, p_values, straightened, tails
from kdxai.study.stats import resampled_statistics, table


def shares(n, *, seeds=1, **right):
    """Records of models that are right on as many images, the first ones, in every share."""
    image = np.arange(n)
    rows = []
    for model, count in right.items():
        yes = image < count
        columns = dict.fromkeys((name for name in SHARES if "_class" not in name), yes * 1.0)
        rows += [
            pd.DataFrame(columns).assign(
                model=model, seed=seed, image=image, label=1, predicted=yes.astype(int)
            )
            for seed in range(seeds)
        ]
    return pd.concat(rows)


@pytest.mark.parametrize(("right", "n"), [(30, 30), (25, 30), (0, 30), (1, 1), (999, 1000)])
def test_shares_have_wilsons_interval(right, n):
    found = table(shares(n, one=right), [], resamples=50)
    expected = scipy_stats.binomtest(right, n).proportion_ci(method="wilson")
    assert len(found) == 4
    for row in found.itertuples():
        assert row.mean == right / n
        np.testing.assert_allclose((row.ci_low, row.ci_high), expected, atol=1e-12)
    if right == n == 30:
        assert found.ci_low[0] == pytest.approx(0.886, abs=5e-4)


def test_a_share_over_seeds_knows_as_many_images_as_there_are():
    """Three seeds that are right on the same images say no more than one."""
    for right in (30, 25):
        one, three = (
            line(table(shares(30, m=right, seeds=seeds), [], resamples=20_000), "m", "accuracy")
            for seeds in (1, 3)
        )
        assert three.ci_low == pytest.approx(one.ci_low, abs=0.003)
        assert three.ci_high == pytest.approx(one.ci_high, abs=0.003)


@pytest.mark.parametrize(("one", "other", "n"), [(30, 30, 30), (20, 14, 40), (60, 0, 60)])
def test_paired_differences_of_shares_by_hand(one, other, n):
    """Bonett & Price: one more image on which each side alone is right."""
    data = shares(n, one=one, other=other)
    row = line(table(data, [("one", "other")], resamples=20_000), "one", "increase", "other")
    only_one, only_other = (one - other + 1) / (n + 2), 1 / (n + 2)
    centre = only_one - only_other
    error = np.sqrt((only_one + only_other - centre**2) / (n + 2))
    assert row["mean"] == pytest.approx((one - other) / n)
    assert row.ci_low == pytest.approx(centre - 1.959964 * error, abs=0.003)
    assert row.ci_high == pytest.approx(centre + 1.959964 * error, abs=0.003)
    assert row.ci_low < row.ci_high


def of_trials(values, metric, paired):
    """The interval of every column of [n, trials], each a trial of its own."""
    n, trials = values.shape
    counts = np.random.default_rng(0).multinomial(n, np.full(n, 1 / n), 300)
    means = np.concatenate([values.mean(0)[None], counts @ values / n])[:, None]
    return estimate(Sample([metric] * trials, means, n, paired))


def test_coverage_of_shares_and_their_differences():
    """Networks that are right on 90 and 80 % of 40 images, on some of them both."""
    rng = np.random.default_rng(0)
    difficulty, trials = rng.random((40, 4000)), 4000
    one, other = (
        np.where(rng.random((40, trials)) < 0.5, difficulty, rng.random((40, trials))) < share
        for share in (0.9, 0.8)
    )
    for values, truth, paired in (
        *((one, 0.9, False), (other, 0.8, False)),
        (one * 1.0 - other, 0.1, True),
    ):
        found = of_trials(values, "increase", paired)
        misses = int(((found.ci_low > truth) | (found.ci_high < truth)).sum())
        assert at_most(misses, trials, 0.06)
        assert at_most(trials - misses, trials, 0.97)


def test_one_image_or_one_value_gives_no_interval():
    data = shares(1, m=1).assign(average_drop=0.489, ssim=0.7, complexity=0.2)
    again = pd.concat([data, data.assign(seed=1, average_drop=0.3)])
    for rows in (data, again):
        found = table(rows, [], resamples=50).set_index("metric")
        assert found.loc["average_drop", ["ci_low", "ci_high"]].isna().all()
        assert found.ci_low["accuracy"] == pytest.approx(0.2065, abs=1e-4)
    many = shares(30, m=20).assign(average_drop=0.489)
    found = table(many, [], resamples=50).set_index("metric")
    assert found["mean"]["average_drop"] == pytest.approx(0.489)
    assert found.loc["average_drop", ["ci_low", "ci_high"]].isna().all()


SKEWED = {
    "lognormal": (lambda rng, shape: rng.lognormal(0, 1, shape), np.exp(0.5)),
    "drops": (lambda rng, shape: rng.beta(0.1, 2, shape), 0.1 / 2.1),
    "differences": (
        lambda rng, shape: rng.lognormal(0, 1, shape) - rng.lognormal(0, 0.7, shape),
        np.exp(0.5) - np.exp(0.245),
    ),
}


@pytest.mark.parametrize("n", [20, 50, 100])
@pytest.mark.parametrize("name", SKEWED)
def test_few_images_of_a_skewed_metric_are_covered(name, n):
    """Percentiles of resamples cover 83 to 92 % of these."""
    draw, truth = SKEWED[name]
    found = of_trials(draw(np.random.default_rng(n), (n, 2000)), "average_drop", name[:4] == "diff")
    misses = int(((found.ci_low > truth) | (found.ci_high < truth)).sum())
    assert at_most(misses, len(found), 0.07)


def test_halls_transformation_by_hand():
    # 2 + 0.3 * 4 / 3 + 0.09 * 8 / 27 + 0.3 / 6
    assert straightened(2.0, 0.3) == pytest.approx(2.4766667)
    assert straightened(-1.5, 0.0) == -1.5
    t, skewness = np.meshgrid(np.linspace(-5, 5, 21), [-1.0, -0.3, 0.0, 1e-9, 0.5])
    np.testing.assert_allclose(bent(straightened(t, skewness), skewness), t, atol=1e-9)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_the_interval_is_what_the_test_does_not_reject(seeds):
    """At both ends p is 5 %, of skewed means and of shares."""
    rng = np.random.default_rng(seeds)
    data = world(rng, seeds=seeds, of_seed=0.2, of_image=1, of_both=1, n=40, models=2, skewed=True)
    data["increase"] = (rng.random(len(data)) < 0.8).astype(float)
    samples = resampled_statistics(data, resamples=300)
    found = estimate(samples[0].minus(samples[1]))
    assert found.skewness[COLUMNS].abs().max() > 0.1
    for end in ("ci_low", "ci_high"):
        kept = found.index != "accuracy"
        np.testing.assert_allclose(p_values(found, found[end])[kept], 0.05, rtol=1e-4)
    inside = 0.9 * found.ci_low + 0.1 * found.ci_high
    assert (p_values(found, inside)[found.index != "accuracy"] > 0.05).all()


@pytest.mark.parametrize("true", [0.0, 0.1, 0.5, 0.9, 0.95])
@pytest.mark.parametrize("seeds", [2, 3])
def test_tests_err_no_more_than_they_say_whatever_share_is_between_seeds(seeds, true):
    """Two seeds weighted like three err in up to 1.9 % at 0.5 %; three like two in 1.8 % at 5 %."""
    rng = np.random.default_rng(seeds)
    runs = 50_000
    between = true * rng.chisquare(seeds - 1, runs) / (seeds - 1)
    squared = between + 1 - true
    t = np.abs(rng.normal(size=runs)) / np.sqrt(squared)
    p = tails(t, [(between / squared, seeds)], np.inf)
    for level in (0.05, 0.005):
        assert at_most(int((p < level).sum()), runs, 1.04 * level)
    if seeds == 3:
        assert (p < 0.05).mean() > 0.035
