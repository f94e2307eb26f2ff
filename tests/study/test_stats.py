import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from kdxai.errors import UserError
from kdxai.study.checks import beaten, preferences, trust
from kdxai.study.intervals import SHARES, estimate
from kdxai.study.stats import (
    STATISTICS,
    both_correct,
    by_seed,
    differences,
    resampled_statistics,
    signed_ranks,
    table,
)

METRICS = ("average_drop", "complexity", "coherency", "ssim", "adcc")
# Plain means of columns, so that each can be an independent trial of a simulation.
COLUMNS = [m for m in STATISTICS if m not in (*SHARES, "ece", "adcc_of_means")]


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


def world(rng, *, seeds, of_seed, of_image, of_both, n=200, models=20, skewed=False):
    """Crossed records whose true means are all 0; every model and column is a trial.

    The standard deviations are those of seeds, of images (the same in every seed) and of an image
    in a seed.
    """

    def draw(*shape):
        return rng.exponential(size=shape) - 1 if skewed else rng.normal(size=shape)

    k = len(COLUMNS)
    values = of_both * draw(models, seeds, n, k) + of_image * draw(models, 1, n, k)
    values += of_seed * rng.normal(size=(models, seeds, 1, k))
    model, seed, image = np.indices(values.shape[:3]).reshape(3, -1)
    return pd.DataFrame(values.reshape(-1, k), columns=COLUMNS).assign(
        model=model, seed=seed, image=image, label=0, predicted=0
    )


def line(rows, model, metric, other=""):
    found = rows[(rows.model == model) & (rows.other == other) & (rows.metric == metric)]
    assert len(found) == 1
    return found.iloc[0]


def one(rows, metric):
    return rows.set_index("metric").loc[metric]


def at_most(count, trials, rate):
    """Whether a rate, allowing for chance (0.1 %), is no more than that."""
    return scipy_stats.binomtest(count, trials, rate, "greater").pvalue > 0.001


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
        assert row.seeds == 1
    accuracy = (teacher.predicted == teacher.label).mean()
    assert line(result, "teacher", "accuracy")["mean"] == pytest.approx(accuracy)


def test_differences_are_paired():
    data = records(shift=0.01)
    result = table(data.sample(frac=1, random_state=0), [("student", "teacher")], resamples=2000)
    pairs = data.pivot(index="image", columns="model", values="ssim")
    difference = pairs.student - pairs.teacher
    row = line(result, "student", "ssim", other="teacher")
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
    assert wide.seeds == 4


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "of_seed", "of_image", "of_both"),
    [
        *((1, 0, 1, 1), (1, 0, 0, 1)),
        *((3, 0, 0, 1), (3, 0, 1, 0.1), (3, 0.03, 1, 1), (3, 0.1, 1, 1), (3, 3, 1, 1)),
        *((5, 0, 1, 1), (5, 0.1, 1, 1), (5, 0.3, 1, 1), (10, 0.03, 1, 1), (10, 0.3, 1, 1)),
    ],
)
def test_coverage_of_95_percent_intervals(seeds, of_seed, of_image, of_both):
    """Between 93 and 97 % of the intervals hold the truth, whatever it is that varies."""
    rng = np.random.default_rng(seeds)
    spread = {"of_seed": of_seed, "of_image": of_image, "of_both": of_both}
    hits = trials = 0
    for seed in range(3):
        data = world(rng, seeds=seeds, models=15, skewed=True, **spread)
        rows = table(data, [], resamples=300, seed=seed)
        rows = rows[rows.metric.isin(COLUMNS)]
        hits += int(((rows.ci_low <= 0) & (rows.ci_high >= 0)).sum())
        trials += len(rows)
    assert trials > 1000
    assert at_most(trials - hits, trials, 0.07)
    assert at_most(hits, trials, 0.97)


@pytest.mark.parametrize("of_seed", [0.0, 0.1, 1.0])
def test_two_seeds_are_enough_for_an_interval_that_errs_on_the_safe_side(of_seed):
    data = world(
        np.random.default_rng(2), seeds=2, models=30, of_seed=of_seed, of_image=1, of_both=1
    )
    rows = table(data, [], resamples=200)
    rows = rows[rows.metric.isin(COLUMNS)]
    misses = int(((rows.ci_low > 0) | (rows.ci_high < 0)).sum())
    assert at_most(misses, len(rows), 0.05)


def test_the_error_across_seeds_is_that_of_crossed_random_effects():
    """Against the textbook's mean squares: (seeds + images - both) / (S n)."""
    rng = np.random.default_rng(3)
    data = world(rng, seeds=4, of_seed=0.05, of_image=1, of_both=0.5, models=1)
    found = estimate(
        resampled_statistics(data[[*data.columns.difference(COLUMNS), "ssim"]], resamples=4000)[0]
    )
    y = data.ssim.to_numpy().reshape(4, -1)
    n = y.shape[1]
    of_seeds, of_images = n * y.mean(1).var(ddof=1), 4 * y.mean(0).var(ddof=1)
    rest = y - y.mean(0) - y.mean(1, keepdims=True) + y.mean()
    of_both = (rest**2).sum() / (3 * (n - 1))
    expected = np.sqrt((of_seeds + of_images - of_both) / (4 * n))
    assert found.error["ssim"] == pytest.approx(expected, rel=0.03)
    share = of_seeds / (of_seeds + of_images - of_both)
    assert found.share["ssim"] == pytest.approx(share, rel=0.05)


def test_intervals_of_trained_models_do_not_know_of_seeds():
    data = records(seeds=3)
    sample = resampled_statistics(data.assign(ssim=data.ssim + data.seed), resamples=300)["teacher"]
    trained, recipe = estimate(sample, "images").loc["ssim"], estimate(sample).loc["ssim"]
    assert trained["mean"] == recipe["mean"]
    assert trained.ci_high - trained.ci_low < 0.05 < recipe.ci_high - recipe.ci_low


def test_tables_do_not_depend_on_the_order_of_rows():
    data = records(seeds=2)
    shuffled = data.sample(frac=1, random_state=1)
    options = {"resamples": 50, "reference": "teacher"}
    for function in (table, differences):
        result = function(data, [("student", "teacher")], **options)
        again = function(shuffled, [("student", "teacher")], **options)
        keys = [key for key in ("model", "one", "other", "metric") if key in result]
        pd.testing.assert_frame_equal(
            *(rows.sort_values(keys, ignore_index=True) for rows in (result, again))
        )


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: data.drop(index=0),
        lambda data: pd.concat([data, data.head(1)]),
        lambda data: data.assign(image=data.image + 1000 * (data.model == "student")),
    ],
)
def test_models_with_different_images_are_refused(spoil):
    data = spoil(records(n=30, seeds=2))
    with pytest.raises(UserError, match="same images as the others"):
        table(data, [], resamples=10)
    with pytest.raises(UserError, match="same images as the others"):
        differences(data, [], resamples=10)


def test_a_difference_is_two_columns_whatever_the_models_are_called():
    """A model may have the name that a difference is spelt with."""
    data = records(n=50, shift=0.1)
    third = data[data.model == "teacher"].assign(model="student - teacher")
    result = table(pd.concat([data, third]), [("student", "teacher")], resamples=20)
    assert list(result)[:3] == ["model", "other", "metric"]
    pairs = list(zip(result.model, result.other, strict=True))
    assert list(dict.fromkeys(pairs)) == [
        *(("teacher", ""), ("student", ""), ("student - teacher", "")),
        ("student", "teacher"),
    ]
    assert line(result, "student", "ssim", "teacher")["mean"] == pytest.approx(0.1, abs=0.02)
    alone = line(result, "student - teacher", "ssim")["mean"]
    assert alone == pytest.approx(line(result, "teacher", "ssim")["mean"])


def test_models_keep_their_order():
    assert list(table(records(), [], resamples=10).model.unique()) == ["teacher", "student"]


def test_calibration_error_against_a_plain_loop():
    data = records(n=500, seeds=2)
    rng = np.random.default_rng(4)
    data["confidence"] = np.round(rng.uniform(0.3, 1, len(data)), 2)  # some on the edges of bins
    data.loc[0, "confidence"] = 1.0
    result = table(data, [("student", "teacher")], resamples=400)
    means = {}
    for model, rows in data.groupby("model"):
        of_seeds = []
        for _, run in rows.groupby("seed"):
            error = 0.0
            for k in range(15):
                inside = (run.confidence > k / 15) & (run.confidence <= (k + 1) / 15)
                if inside.any():
                    accuracy = (run.predicted == run.label)[inside].mean()
                    gap = abs(accuracy - run.confidence[inside].mean())
                    error += inside.mean() * gap
            of_seeds.append(error)
        means[model] = np.mean(of_seeds)
        row = line(result, model, "ece")
        assert row["mean"] == pytest.approx(means[model], rel=1e-6)
        assert row.ci_low < row["mean"] < row.ci_high
    row = line(result, "student", "ece", other="teacher")
    assert row["mean"] == pytest.approx(means["student"] - means["teacher"], abs=1e-6)


def test_interval_of_the_calibration_error_of_an_overconfident_model():
    """It holds the truth about as often as it says, though the statistic is no mean."""
    rng = np.random.default_rng(5)
    trials, n = 200, 1000

    def answers(size):
        margin = np.abs(rng.normal(1.5, 2, size))
        confidence = 1 / (1 + np.exp(-2 * margin))
        return confidence, rng.random(size) < 1 / (1 + np.exp(-margin))

    confidence, right = answers(1_000_000)
    bins = np.ceil(confidence * 15)
    truth = np.abs(np.bincount(bins.astype(int), right - confidence)).sum() / 1_000_000
    confidence, right = answers(trials * n)
    model, image = np.indices((trials, n)).reshape(2, -1)
    data = {"model": model, "seed": 0, "image": image, "confidence": confidence}
    rows = table(
        pd.DataFrame(data | {"label": 1, "predicted": right.astype(int)}), [], resamples=300
    )
    rows = rows[rows.metric == "ece"]
    hits = int(((rows.ci_low <= truth) & (truth <= rows.ci_high)).sum())
    assert at_most(trials - hits, trials, 0.07)


def test_an_error_is_no_less_than_nothing():
    """The calibration error of few images has an interval that would reach below 0."""
    rng = np.random.default_rng(0)
    data = {"model": "m", "seed": 0, "image": np.arange(16), "label": 1}
    confidence = rng.uniform(0.94, 0.99, 16)  # one bin
    right = np.arange(16) > 0
    rows = table(
        pd.DataFrame(data | {"confidence": confidence, "predicted": right.astype(int)}),
        [],
        resamples=500,
    )
    ece = line(rows, "m", "ece")
    assert ece["ci_low"] == 0 < ece["mean"] < ece["ci_high"]


def test_calibration_error_of_sure_networks_from_float32():
    """1 - confidence has lost its digits; the error has not, which is a mean of the two."""
    rng = np.random.default_rng(6)
    margin = rng.normal(12, 3, 5000)
    exact = 1 / (1 + np.exp(-np.abs(margin)))
    single = exact.astype(np.float32)
    lost = np.abs((1 - single.astype(float)) / (1 - exact) - 1)
    assert (lost > 0.5).mean() > 0.02
    data = {"model": "m", "seed": 0, "image": np.arange(5000), "label": 1}
    data |= {"predicted": (rng.random(5000) < 0.999).astype(int)}
    one, other = (
        line(table(pd.DataFrame(data | {"confidence": c}), [], resamples=2), "m", "ece")["mean"]
        for c in (single, exact)
    )
    assert one == pytest.approx(other, abs=3e-8)
    assert 1e-4 < one < 2e-3


def test_every_seeds_own_means():
    data = records(n=50, seeds=3)
    rows = by_seed(data.sample(frac=1, random_state=0), "teacher")
    assert list(rows) == ["model", "metric", "seed", "mean"]
    found = rows.set_index(["model", "metric", "seed"])["mean"]
    for (model, seed), own in data.groupby(["model", "seed"]):
        assert found[model, "ssim", seed] == pytest.approx(own.ssim.mean())
        assert found[model, "accuracy", seed] == (own.predicted == own.label).mean()
    assert "same_class" not in found["teacher"].index.get_level_values("metric")
    means = table(data, [], resamples=2).set_index(["model", "metric"])["mean"]
    averaged = found.groupby(["model", "metric"]).mean()
    pd.testing.assert_series_equal(averaged[means.index], means)


def test_agreement_with_a_reference():
    data = records(n=100, seeds=2)
    result = table(data, [("student", "teacher")], resamples=20, reference="teacher")
    wide = data.pivot(index=["seed", "image"], columns="model", values="predicted")
    row = line(result, "student", "same_class")
    assert row["mean"] == pytest.approx((wide.student == wide.teacher).mean())
    assert list(result[result.metric == "same_class"].model) == ["student"]
    assert "same_class" not in set(table(data, [], resamples=20).metric)


def test_wilcoxon_and_rank_biserial_by_hand():
    # |d| ranks 1, 2.5, 2.5, 4; the zero is left out: (4 + 2.5 - 1 - 2.5) / 10.
    gaps = np.array([[-0.1, 0.2, -0.2, 0.7, 0.0], [0.0, 0.0, 0.0, 0.0, 0.0], [1, 2, 3, 4, 5]]).T
    p, r = signed_ranks(gaps)
    np.testing.assert_allclose(r, [0.3, 0, 1])
    assert p[1] == 1
    assert p[2] == pytest.approx(2 / 2**5)  # all signs alike: the exact two-sided p


def test_differences_against_scipy():
    data = records(n=300, seeds=3, shift=0.003)
    result = differences(data, [("student", "teacher")], resamples=200)
    means = data.groupby(["model", "image"])[list(METRICS)].mean()
    for metric in METRICS:
        row = one(result, metric)
        gap = (means.loc["student"] - means.loc["teacher"])[metric]
        assert row["mean"] == pytest.approx(gap.mean(), abs=1e-9)
        expected = scipy_stats.wilcoxon(gap)
        assert row.wilcoxon_p == pytest.approx(expected.pvalue, rel=1e-6)
        ranks = scipy_stats.rankdata(gap.abs())
        assert row.rank_biserial == pytest.approx((ranks * np.sign(gap)).sum() / ranks.sum())
    assert np.isnan(one(result, "adcc_of_means").wilcoxon_p)
    assert (result.seeds == 3).all()
    pd.testing.assert_frame_equal(
        table(data, [("student", "teacher")], resamples=200)
        .query("other == 'teacher'")[["metric", "mean", "ci_low", "ci_high"]]
        .reset_index(drop=True),
        result[["metric", "mean", "ci_low", "ci_high"]],
    )


def with_means(**means):
    """Records of models whose ssim in every seed has those means, and no other difference."""
    image = np.arange(40)
    return pd.concat(
        [
            pd.DataFrame({"ssim": value + image / 100, "image": image, "label": 0}).assign(
                model=model, seed=seed, predicted=0
            )
            for model, values in means.items()
            for seed, value in enumerate(values)
        ]
    )


def test_differences_in_units_of_the_floor():
    pair = [("student", "teacher")]
    # Without a second teacher: the spread of both over seeds, sqrt(0.02 + 0.08).
    data = with_means(teacher=[0.0, 0.2], student=[1.0, 1.4])
    found = one(differences(data, pair, resamples=20), "ssim")
    assert found.in_floors == pytest.approx(1.1 / np.sqrt(0.02 + 0.08))
    # With it: the spread of one recipe over four runs.
    data = pd.concat([data, with_means(second_teacher=[0.1, 0.5])])
    runs = ("second_teacher", "teacher")
    found = one(differences(data, pair, resamples=20, floor=runs), "ssim")
    floor = np.sqrt(2 * np.var([0.0, 0.2, 0.1, 0.5], ddof=1))
    assert found.in_floors == pytest.approx(1.1 / floor)
    # One seed: what the two teachers differ by; alone, nothing is known.
    first = data[data.seed == 0]
    found = one(differences(first, pair, resamples=20, floor=runs), "ssim")
    assert found.in_floors == pytest.approx(1.0 / 0.1)
    alone = first[first.model != "second_teacher"]
    found = one(differences(alone, pair, resamples=20, floor=runs), "ssim")
    assert np.isnan(found.in_floors)


def test_models_that_differ_in_their_seeds_alone_are_a_floor_apart():
    rng = np.random.default_rng(6)
    data = world(rng, seeds=5, of_seed=1, of_image=1, of_both=0.1, models=2)
    data["model"] = data.model.map({0: "teacher", 1: "second_teacher"})
    pair = ("second_teacher", "teacher")
    rows = differences(data, [pair], resamples=2, floor=pair).set_index("metric")
    # The mean difference of five pairs of runs has a fifth of the variance of one pair's.
    assert 0.5 < 5 * (rows.in_floors[COLUMNS] ** 2).mean() < 2


def test_restriction_to_what_both_classify_correctly():
    """An explanation difference that is an accuracy difference in disguise goes away."""
    rng = np.random.default_rng(7)
    n = 400
    wrong = rng.random(n) < 0.4
    rows = []
    for seed in range(2):
        for model, mistaken in (("teacher", np.zeros(n, bool)), ("student", wrong)):
            values = {"ssim": 0.7 - 0.3 * mistaken + rng.normal(0, 0.01, n)}
            values |= {"label": 1, "predicted": np.where(mistaken, 0, 1)}
            rows.append(
                pd.DataFrame(values | {"image": np.arange(n)}).assign(model=model, seed=seed)
            )
    data = pd.concat(rows)
    result = differences(data, [("student", "teacher")], resamples=200)
    found = one(result, "ssim")
    assert found["mean"] == pytest.approx(-0.3 * wrong.mean(), abs=0.01)
    assert found.ci_high < -0.05
    assert found.ci_low_correct < 0 < found.ci_high_correct
    assert found.n_correct == (~wrong).sum()
    assert np.isnan(one(result, "accuracy").mean_correct)
    # Right in one seed is not right in every seed.
    data.loc[(data.seed == 1) & (data.model == "teacher"), "predicted"] = 0
    assert both_correct(data, "student", "teacher").empty
    found = one(differences(data, [("student", "teacher")], resamples=20), "ssim")
    assert np.isnan(found.mean_correct)
    assert found.n_correct == 0


def methods(n=200, **shares):
    """Records of CAM and random maps; each metric prefers CAM on that share of the images."""
    image = np.arange(n)
    values = {metric: (image < round(share * n)).astype(float) for metric, share in shares.items()}
    cam = pd.DataFrame(values).assign(method="cam")
    noise = pd.DataFrame(dict.fromkeys(shares, np.full(n, 0.5))).assign(method="random")
    rows = [rows.assign(model="teacher", seed=0, image=image) for rows in (cam, noise)]
    return pd.concat(rows, ignore_index=True)


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


def test_the_gate_against_random_maps():
    result = trust(methods(ssim=0.9, adcc=0.6, pearson=0.1, average_drop=0.1), "cam")
    found = result.set_index("metric")
    assert found.beats_random.to_dict() == {
        **{"ssim": 0.9, "adcc": 0.6, "pearson": 0.1},
        **{"average_drop": 0.9},  # less is better
    }
    assert found.trustworthy.to_dict() == {
        **{"ssim": True, "adcc": False, "pearson": False},
        **{"average_drop": True},
    }
    assert found.why["ssim"] == found.fails["ssim"] == ""
    assert found.fails["adcc"] == "noise"
    prefer = "of the images prefer the real one"
    assert found.why["adcc"] == f"a random map scores about as well: 60% {prefer}"
    none, some = (beaten("random", share) for share in (0.0, 0.3))
    assert none == "a random map scores better: none of the images prefers the real one"
    assert some == f"a random map scores better: 30% {prefer}"
    assert found.randomised_similarity.isna().all()
    expected = scipy_stats.binomtest(120, 200).pvalue
    assert found.sign_p["adcc"] == pytest.approx(expected)
    # Four of five images may be chance.
    few = trust(methods(n=5, ssim=0.8), "cam").iloc[0]
    assert few.beats_random == 0.8
    assert not few.trustworthy


def test_the_gate_against_shuffled_parameters():
    data = methods(ssim=0.9).assign(randomised_similarity=0.3, confidence=0.9)
    assert one(trust(data, "cam"), "ssim").trustworthy
    data.loc[data.method == "cam", "randomised_similarity"] = 0.8
    found = one(trust(data, "cam"), "ssim")
    assert not found.trustworthy
    assert found.randomised_similarity == pytest.approx(0.8)
    assert found.why == "shuffled parameters leave the map as it was: correlation 0.80"


def test_the_gate_refuses_what_it_cannot_compare():
    data = methods(ssim=0.9)
    with pytest.raises(UserError, match="'cam' and 'edges' were not measured on the same"):
        trust(data, "cam", "edges")
    with pytest.raises(UserError, match="'cam' and 'random' were not measured on the same"):
        trust(data.drop(index=0), "cam")
