"""Populations of unequal size: independent ones, and those that are paired by line."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from test_stats import COLUMNS, at_most, line, with_means, world

from kdxai.errors import UserError
from kdxai.study import lines
from kdxai.study.claims import holm
from kdxai.study.intervals import Sample, caution, deviation, estimate, p_values
from kdxai.study.stats import (
    both_correct,
    by_seed,
    differences,
    floors,
    resampled_statistics,
    table,
)


def independent(data):
    """The same networks, each of a line of its own."""
    return data.assign(line=data.model.astype(str) + data.seed.astype(str))


def test_the_error_of_independent_populations_is_welchs():
    """Where images add nothing: the variance of both, each over its own size."""
    one, other = [0.1, 0.5, 0.4], [0.3, 0.9, 0.2, 0.4, 0.8]
    data = independent(with_means(one=one, other=other))
    found = estimate(
        resampled_statistics(data, resamples=50)["one"].minus(
            resampled_statistics(data, resamples=50)["other"]
        )
    )
    row = found.loc["ssim"]
    assert row["mean"] == pytest.approx(np.mean(one) - np.mean(other))
    assert row.error == pytest.approx(np.sqrt(np.var(one, ddof=1) / 3 + np.var(other, ddof=1) / 5))
    assert (row.networks, row.networks_other, row.design) == (3, 5, "independent")
    # Between the interval of Welch's degrees of freedom and that of the smaller population's.
    welch = scipy_stats.ttest_ind(one, other, equal_var=False).confidence_interval()
    half = row.ci_high - row["mean"]
    assert welch.high - row["mean"] < half < scipy_stats.t.isf(0.025, 2) * row.error
    # At both ends the test says 5 %.
    for end in (row.ci_low, row.ci_high):
        assert p_values(found, end)["ssim"] == pytest.approx(0.05, rel=1e-4)


def test_populations_are_paired_on_the_lines_that_both_have():
    data = with_means(one=[1.0, 2.0, 7.0], other=[0.5, 0.9, 0.1, 0.3]).reset_index(drop=True)
    data["line"] = data.seed.map("abcd".__getitem__)
    data.loc[data.model == "one", "line"] = data.seed.map("baxy".__getitem__)
    row = line(table(data, [("one", "other")], resamples=20), "one", "ssim", "other")
    assert row["mean"] == pytest.approx(np.mean([1.0 - 0.9, 2.0 - 0.5]))
    assert (row.networks, row.networks_other, row.design) == (2, 2, "paired")
    rows = differences(data, [("one", "other")], resamples=20).set_index("metric")
    assert rows["mean"]["ssim"] == row["mean"]
    alone = line(table(data, [], resamples=20), "one", "ssim")
    assert alone["mean"] == pytest.approx(10 / 3 + 0.195)  # a model is all of its networks
    assert (alone.networks, alone.networks_other, alone.design) == (3, 0, "")
    # Members of one number are a pair where there are no lines, as replicates of a study are.
    row = line(
        table(data.drop(columns="line"), [("one", "other")], resamples=20), "one", "ssim", "other"
    )
    assert row["mean"] == pytest.approx(np.mean([0.5, 1.1, 6.9]))


def test_images_are_shared_by_independent_populations():
    """What makes an image easy for all networks cancels in their difference."""
    rng = np.random.default_rng(0)
    data = world(rng, seeds=4, of_seed=0.0, of_image=1, of_both=0.1, models=2, n=100)
    data["ssim"] += 5 * rng.normal(size=100)[data.image]
    data = data.drop(columns=[name for name in COLUMNS if name != "ssim"])
    samples = resampled_statistics(
        independent(data[(data.model == 0) | (data.seed < 3)]), resamples=300
    )
    gap = estimate(samples[0].minus(samples[1])).loc["ssim"]
    assert gap.networks_other == 3
    assert gap.error < 0.2 < 0.4 < estimate(samples[0]).error["ssim"]


def test_a_single_network_speaks_of_itself_beside_many():
    data = independent(with_means(one=[0.5], other=[0.3, 0.9, 0.2, 0.4, 0.8]))
    row = line(table(data, [("one", "other")], resamples=20), "one", "ssim", "other")
    other = [0.3, 0.9, 0.2, 0.4, 0.8]
    half = scipy_stats.t.isf(0.025, 4) * np.std(other, ddof=1) / np.sqrt(5)
    assert row.ci_high - row["mean"] == pytest.approx(half, rel=1e-6)
    assert row.caution.split("; ")[:2] == ["few images", "one network: others may differ"]


def test_the_reference_of_a_network_is_its_own_or_all():
    answers = {"teacher": ([0, 1], [0, 0]), "child": ([0, 0],), "stranger": ([1, 1],)}
    known = {("teacher", 0): "a", ("teacher", 1): "b", ("child", 0): "b", ("stranger", 0): "x"}
    data = pd.concat(
        pd.DataFrame({"predicted": predicted, "image": [0, 1], "label": 0}).assign(
            model=model, seed=seed, line=known[model, seed]
        )
        for model, networks in answers.items()
        for seed, predicted in enumerate(networks)
    )
    found = table(data, [], resamples=5, reference="teacher").set_index(["model", "metric"])["mean"]
    assert found["child", "same_class"] == 1
    assert found["stranger", "same_class"] == pytest.approx(1 / 4)
    assert ("teacher", "same_class") not in found


def test_two_members_of_one_line_are_refused():
    data = with_means(one=[1.0, 2.0]).assign(line="a")
    with pytest.raises(UserError, match="'one' has two members that descend from one network"):
        table(data, [], resamples=5)
    assert lines.shared(["a", "b"], ["c", "b", "a"]) == [(1, 1), (0, 2)]
    assert lines.shared(["a"], ["b"]) == []


def test_images_that_the_networks_of_the_difference_get_right():
    data = with_means(one=[1.0], other=[0.5, 0.9]).assign(line="")
    data["line"] = data.model.where(data.seed == 1, "both")
    wrong = (data.model == "other") & (data.seed == 1) & (data.image < 30)
    data.loc[wrong, "predicted"] = 1
    assert both_correct(data, "one", "other").image.nunique() == 40  # that network has no pair
    assert both_correct(independent(data), "one", "other").image.nunique() == 10
    assert list(by_seed(data).query("metric == 'ssim'").seed) == [0, 0, 1]


def test_floors_against_hand_and_scipy():
    means = {
        "two": [0.2, 0.6],
        "five": [0.1, 0.5, 0.2, 0.2, 0.9],
        "alone": [0.3],
        "equal": [1.0] * 4,
    }
    found = floors(with_means(**means)).set_index(["model", "metric"]).xs("ssim", level="metric")
    assert list(found.index) == ["two", "five", "equal"]
    for model, own in (("two", means["two"]), ("five", means["five"])):
        pairs = [(a - b) ** 2 for k, a in enumerate(own) for b in own[k + 1 :]]
        row = found.loc[model]
        assert row.floor == pytest.approx(np.sqrt(np.mean(pairs)))
        assert row.spread == pytest.approx(np.std(own, ddof=1))
        assert row.networks == len(own)
    chi = scipy_stats.chi2.ppf([0.975, 0.025], 1)
    expected = found.floor["two"] / np.sqrt(chi)
    np.testing.assert_allclose(found.loc["two", ["ci_low", "ci_high"]].astype(float), expected)
    assert found.loc["equal", ["ci_low", "ci_high"]].isna().all()


@pytest.mark.parametrize(("kind", "least"), [("normal", 0.935), ("exponential", 0.88)])
def test_intervals_of_deviations_cover(kind, least):
    """Bonett's, of 5 networks; see the figures there."""
    rng = np.random.default_rng(0)
    ends = np.array([deviation(getattr(rng, kind)(size=5))[1:] for _ in range(200)])
    missed = (ends[:, 0] > 1) | (ends[:, 1] < 1)
    assert at_most(int(missed.sum()), 200, 1 - least)


def test_cautions_are_plain_words():
    few = "few networks: an outlier would not be seen"
    assert caution("adcc", 200, (10, 19), "seeds") == ""
    assert caution("adcc", 199, (10, 0), "seeds") == "few images"
    assert caution("accuracy", 30, (10, 0), "seeds") == ""
    assert caution("adcc", 500, (19, 9), "seeds") == few
    assert caution("adcc", 500, (19, 9), "images") == ""
    assert caution("adcc", 500, (1, 12), "seeds") == "one network: others may differ"


def drawn(rng, size, n, trials, *, of_network, heavy):
    """[size, n, trials] values of mean 0: drops as skewed as Beta(0.1, 2), networks apart."""
    shape = size, 1, trials
    networks = rng.standard_t(3, shape) / 3**0.5 if heavy else rng.normal(size=shape)
    return of_network * networks + rng.beta(0.1, 2, (size, n, trials)) - 0.1 / 2.1


def sample(values, counts):
    """[size, n, trials] -> the means that `Sample` holds."""
    draws = np.einsum("rn,snt->rst", counts, values, optimize=True) / values.shape[1]
    return np.concatenate([values.mean(1)[None], draws])


@pytest.mark.parametrize("heavy", [False, True])
@pytest.mark.parametrize(("one", "other"), [(2, 19), (4, 4), (4, 17), (6, 0)])
def test_coverage_and_false_verdicts_of_unequal_populations(one, other, heavy):
    """Skewed images, networks normal or heavy-tailed; 0: paired. In full: `intervals.estimate`."""
    rng = np.random.default_rng(one)
    n, trials = 200, 100
    counts = rng.multinomial(n, np.full(n, 1 / n), 100).astype(np.float32)
    both = rng.beta(0.1, 2, (2, 1, n, trials)) - 0.1 / 2.1
    hits = families = 0
    for of_network in (0.003, 0.03):
        spread = {"of_network": of_network, "heavy": heavy}
        mine = drawn(rng, one, n, trials, **spread) + both[0]
        its = drawn(rng, other or one, n, trials, **spread) + both[1]
        metrics = ["average_drop"] * trials
        if other:
            gap = Sample(metrics, sample(mine, counts), n, True, (), sample(its, counts))
        else:
            gap = Sample(metrics, sample(mine - its, counts), n, True)
        found = estimate(gap)
        hits += int(((found.ci_low <= 0) & (found.ci_high >= 0)).sum())
        p = p_values(found).to_numpy().reshape(-1, 10)
        families += sum(holm(family).min() <= 0.05 for family in p)
    assert at_most(2 * trials - hits, 2 * trials, 0.065)
    assert at_most(families, 2 * trials // 10, 0.05)
