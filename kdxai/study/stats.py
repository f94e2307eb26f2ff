"""Records -> estimates with intervals, tests, and which metrics to trust.

Images are the same for all models and seeds, so every comparison is paired; seeds are the
replicates. An interval over images speaks of the models that were trained; one across seeds of the
recipe that trained them.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats
from scipy.optimize import elementwise

from kdxai.errors import UserError
from kdxai.metrics.adcc import adcc

LEVEL = 0.05  # of all tests; intervals hold the truth with 1 - LEVEL
BINS = 15  # of the calibration error
GAPS = [f"gap{k}" for k in range(BINS)]
FEWEST = 20  # images that a result restricted to some of them needs
NO_SPREAD = 1e-7  # standard errors below it are the rounding of float32
# The gate of `trust`.
PREFERRED = 0.64  # least share of images
PERSISTENT = 0.7  # least correlation of maps that parameters do not change


class Statistic(NamedTuple):
    """A line of Table 1.

    Attributes:
      title: how people call it.
      better: +1 where more is better, -1 where less is, 0 where neither.
    """

    title: str
    better: int


# The mean over images of a column of the records or of `arranged`, save for two that are made of
# several means (`statistics`). With several seeds it is the mean of theirs.
STATISTICS: dict[str, Statistic] = {
    "accuracy": Statistic("Accuracy", 1),
    "ece": Statistic("Calibration error (ECE)", -1),
    "same_class": Statistic("Same class as the reference", 1),
    "average_drop": Statistic("Average drop", -1),
    "complexity": Statistic("Complexity (32x32 grid)", -1),
    "ssim": Statistic("Coherency (SSIM)", 1),
    "coherency": Statistic("Coherency (Pearson)", 1),
    "adcc": Statistic("ADCC (mean of images)", 1),
    "adcc_of_means": Statistic("ADCC (of the means)", 1),
    "increase": Statistic("Increase in confidence", 1),
    "logit_drop": Statistic("Logit drop (in deviations)", -1),
    "complexity_native": Statistic("Complexity (native grid)", -1),
    "average_gain": Statistic("Average gain", 1),
    "logit_increase": Statistic("Increase in logit", 1),
    "pearson": Statistic("Pearson's r", 1),
    "spearman": Statistic("Spearman's rho", 1),
    "entropy": Statistic("Entropy", -1),
    "gini": Statistic("Gini index", 1),
    "effective_area": Statistic("Effective area", -1),
    "pixel_flipping": Statistic("Pixel-flipping", 1),
    "comprehensiveness": Statistic("Comprehensiveness", 1),
    "sufficiency": Statistic("Sufficiency", -1),
    "deletion": Statistic("Deletion", -1),
    "insertion": Statistic("Insertion", 1),
    "symmetric_relevance_gain": Statistic("Insertion - deletion", 1),
    "road": Statistic("ROAD (least - most relevant)", 1),
    "max_sensitivity": Statistic("Max-sensitivity", -1),
    "average_sensitivity": Statistic("Average sensitivity", -1),
    "randomised_entropy_rise": Statistic("Entropy rise, shuffled parameters", 1),
    "randomised_similarity": Statistic("Similarity, shuffled parameters", -1),
    "other_class_similarity": Statistic("Similarity, another class", -1),
    "cascade_top_down": Statistic("Similarity, cascade from the head (Spearman)", -1),
    "cascade_top_down_ssim": Statistic("Similarity, cascade from the head (SSIM)", -1),
    "cascade_bottom_up": Statistic("Similarity, cascade from the stem (Spearman)", -1),
    "cascade_bottom_up_ssim": Statistic("Similarity, cascade from the stem (SSIM)", -1),
    "grid_pointing_game": Statistic("Grid pointing game (2x2 mosaic)", 1),
    "energy_inside": Statistic("Energy inside the object", 1),
    "pointing_game": Statistic("Pointing game", 1),
    "iou": Statistic("IoU with the object", 1),
    "mask_area": Statistic("The object's area", 0),
}


# Properties of a model, not of its maps.
OF_MODEL = ("accuracy", "ece", "same_class")


class Sample(NamedTuple):
    """Statistics of one model, or differences of two, on the same images.

    Attributes:
      metrics: [K] names in `STATISTICS`.
      values: [1 + resamples, S, K] of every seed: of the images themselves, then of resamples.
      images: n.
    """

    metrics: list[str]
    values: np.ndarray
    images: int

    def minus(self, other: "Sample") -> "Sample":
        """Paired differences in the metrics that both have."""
        shared = [name for name in self.metrics if name in other.metrics]
        mine, theirs = (
            one.values[..., [one.metrics.index(name) for name in shared]] for one in (self, other)
        )
        return Sample(shared, mine - theirs, self.images)


def arranged(
    records: pd.DataFrame, reference: str | None = None
) -> tuple[list[str], dict[str, np.ndarray]]:
    """Per-image values, with those that a model's answers give.

    `gap0` to `gap14` are correct - confidence where the confidence is in that bin, else 0.

    Returns:
      [C] names and model -> [S, n, C], seeds and images in order.

    Raises:
      UserError: models or seeds have different images, or one twice.
    """
    grid = pd.MultiIndex.from_product([np.unique(records.seed), np.unique(records.image)])
    ordered = {
        model: rows.sort_values(["seed", "image"])
        for model, rows in records.groupby("model", sort=False)
    }
    for model, rows in ordered.items():
        if not pd.MultiIndex.from_frame(rows[["seed", "image"]]).equals(grid):
            raise UserError(
                f"the records of '{model}' are not of the same images and seeds as the others', "
                "each once; measure all models on the same images with the same method"
            )
    values = {}
    for model, rows in ordered.items():
        correct = (rows.predicted == rows.label).to_numpy(np.float64)
        known = {name: rows[name].to_numpy(np.float64) for name in STATISTICS if name in rows}
        known["accuracy"] = correct
        if "confidence" in rows:
            confidence = rows.confidence.to_numpy(np.float64)
            bins = np.clip(np.ceil(confidence * BINS) - 1, 0, BINS - 1)
            known |= {gap: (bins == k) * (correct - confidence) for k, gap in enumerate(GAPS)}
        if reference in ordered:
            same = rows.predicted.to_numpy() == ordered[reference].predicted.to_numpy()
            known["same_class"] = same.astype(np.float64)
        values[model] = np.stack(list(known.values()), -1).reshape(*grid.levshape, -1)
    return list(known), values


def statistics(names: Sequence[str], means: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Means of columns -> statistics, in the order of `STATISTICS`.

    - `ece`: expected calibration error, 15 equal-width bins of the largest softmax probability
      (Guo et al. 2017, eq. 3). Few images bias it upwards: 1,000 of a perfectly calibrated model
      gave 0.026.
    - `adcc_of_means`: the ADCC that some code takes of the three means.

    Args:
      names: [C].
      means: [..., C].

    Returns:
      [K] names and [..., K].
    """
    found = dict(zip(names, np.moveaxis(means, -1, 0), strict=True))
    if GAPS[0] in found:
        found["ece"] = sum(np.abs(found[gap]) for gap in GAPS)
    parts = [found.get(name) for name in ("coherency", "complexity", "average_drop")]
    if all(part is not None for part in parts):
        found["adcc_of_means"] = np.asarray(adcc(*parts))
    kept = [name for name in STATISTICS if name in found]
    return kept, np.stack([found[name] for name in kept], -1)


def resampled(
    records: pd.DataFrame, *, resamples: int, seed: int = 0, reference: str | None = None
) -> dict[str, Sample]:
    """Statistics of every model and seed, on the images and on bootstrap resamples of them.

    A resample draws the images once for all models and seeds, which keeps their pairing.

    Args:
      records, reference: as for `table`.

    Raises:
      UserError: models or seeds have different images, or one twice.
    """
    names, values = arranged(records, reference)
    stacked = np.stack(list(values.values()))  # [models, S, n, C]
    n = stacked.shape[2]
    means = stacked.mean(2)
    # What is left after the mean loses nothing that matters in float32; counts are exact in it.
    rest = np.moveaxis(stacked - means[:, :, None], 2, 0).reshape(n, -1).astype(np.float32)
    rng = np.random.default_rng(seed)
    sums = []
    for start in range(0, resamples, 100):
        counts = [
            np.bincount(rng.integers(0, n, n), minlength=n)
            for _ in range(min(100, resamples - start))
        ]
        sums.append(np.array(counts, np.float32) @ rest)
    draws = means + np.concatenate(sums).reshape(-1, *means.shape) / n
    samples = {}
    for model, sample, drawn in zip(values, means, np.moveaxis(draws, 1, 0), strict=True):
        own = [name != "same_class" or model != reference for name in names]
        metrics, found = statistics(
            [name for name, mine in zip(names, own, strict=True) if mine],
            np.concatenate([sample[None], drawn])[..., own],
        )
        samples[model] = Sample(metrics, found, n)
    return samples


def tails(
    t: np.ndarray, share: np.ndarray, seeds: np.ndarray | int, images: np.ndarray | int
) -> np.ndarray:
    """P(|T| > t) for a mean over its standard error, a share of whose square is between seeds.

    A mean of the tails of Student's t with S - 1 and with n - 1 degrees of freedom, weighted by
    the shares of the variance that seeds and images hold. Cochran & Cox (Experimental Designs,
    1950) weight the quantiles so; tails cover better. For normal seeds and many images, whatever
    the true share, 95 % intervals cover 94.8 to 96.5 % with 3 seeds, 95 to 96.1 % with 5, 95 to
    95.7 % with 10, and a test at 0.5 % errs in at most 0.51 %. (Satterthwaite's degrees of freedom:
    down to 92 % with 3 seeds, and up to 2.7 % for 0.5 %.) Two seeds hardly know the share: its root
    keeps their intervals at 95 to 98.5 %.
    """
    weight = np.where(np.equal(seeds, 2), np.sqrt(share), share)
    of_seeds, of_images = (
        2 * stats.t.sf(t, np.maximum(np.subtract(size, 1), 1)) for size in (seeds, images)
    )
    return weight * of_seeds + (1 - weight) * of_images


def estimate(sample: Sample, across: str = "seeds") -> pd.DataFrame:
    """Means over seeds with 95 % intervals.

    `images`: the percentile bootstrap over images (Efron & Tibshirani 1993, chapter 13); it speaks
    of these trained models, and is all that one seed allows.

    `seeds`: of the recipe. The squared error is that of the hierarchical bootstrap (seeds, then
    images), written out: images are resampled, and what seeds add is the variance of their
    statistics / S. Resampled seeds would give (S - 1) / S of that, and percentiles of three seeds
    are no quantiles, so the interval is mean +- error * quantile, by `tails`. What single seeds
    do on single images is in both parts, and is taken out of one.

    Returns:
      Rows metrics. Columns `mean, ci_low, ci_high, n, seeds`, and for tests `error`, the standard
      error, and `share`, how much of its square is between seeds (0 to 1).
    """
    first, draws = sample.values[0], sample.values[1:]
    seeds, n = len(first), sample.images
    mean, together = first.mean(0), draws.mean(1)
    squared = together.var(0) * n / max(n - 1, 1)
    share = np.zeros_like(mean)
    if across == "images" or seeds == 1:
        # Resamples add their own bias to what is no mean, such as the calibration error.
        quantiles = np.quantile(together, [LEVEL / 2, 1 - LEVEL / 2], axis=0)
        low, high = quantiles - (together.mean(0) - mean)
    else:
        between = first.var(0, ddof=1) / seeds
        both = (draws - together[:, None]).var(0).sum(0) / (seeds * (seeds - 1))
        squared = between + np.maximum(squared - both, 0)
        share = np.divide(between, squared, where=squared > 0, out=share)
        ends = sorted(stats.t.isf(LEVEL / 2, [max(n - 1, 1), seeds - 1]))
        quantile = elementwise.find_root(
            lambda t, share: tails(t, share, seeds, n) - LEVEL,
            (np.full_like(mean, 0.9 * ends[0]), np.full_like(mean, 1.1 * ends[1])),
            args=(share,),
        ).x
        low, high = mean + np.sqrt(squared) * quantile * [[-1], [1]]
    numbers = {"mean": mean, "ci_low": low, "ci_high": high, "n": n, "seeds": seeds}
    numbers |= {"error": np.sqrt(squared), "share": share}
    return pd.DataFrame(numbers, index=pd.Index(sample.metrics, name="metric"))


def p_values(found: pd.DataFrame, null: pd.Series | float = 0.0) -> pd.Series:
    """Two-sided p of the truth being `null`, from rows of `estimate`; 1 where nothing varies."""
    error = found.error.where(found.error > NO_SPREAD)
    p = tails((found["mean"] - null).abs() / error, found.share, found.seeds, found.n)
    return pd.Series(p, found.index).fillna(1.0)


def table(
    records: pd.DataFrame,
    compare: Sequence[tuple[str, str]],
    *,
    resamples: int,
    seed: int = 0,
    reference: str | None = None,
) -> pd.DataFrame:
    """Means of every model and paired differences, with 95 % intervals (`estimate`).

    With one seed they speak of the trained models, with several of their recipes.

    Args:
      records: of one method. Columns `model, seed, image, label, predicted`, the metrics, and
        `confidence` for the calibration error; one row per model, seed and image.
      compare: pairs (one, other); adds one - other where both are there.
      reference: the model that `same_class` compares each of the others with, seed by seed.

    Returns:
      Columns `model, other, metric, mean, ci_low, ci_high, n, seeds`, with n images; `other` is ""
      of a model, and names the subtrahend of a difference.

    Raises:
      UserError: models or seeds have different images, or one twice.
    """
    samples = resampled(records, resamples=resamples, seed=seed, reference=reference)
    found = {(model, ""): estimate(sample) for model, sample in samples.items()}
    for one, other in (pair for pair in compare if set(pair) <= set(samples)):
        found[one, other] = estimate(samples[one].minus(samples[other]))
    rows = pd.concat(found, names=["model", "other"]).reset_index()
    return rows.drop(columns=["error", "share"])


def both_correct(records: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """The two models' rows of the images that both classify correctly with every seed.

    Without `confidence`: of right answers alone there is no calibration.
    """
    pair = records[records.model.isin([one, other])].drop(columns="confidence", errors="ignore")
    right = (pair.predicted == pair.label).groupby(pair.image).transform("all")
    return pair[right]


def signed_ranks(gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilcoxon's signed-rank test of paired differences [n, K], and its effect size.

    Returns:
      [K] two-sided p (`scipy.stats.wilcoxon`), and the matched-pairs rank-biserial correlation:
      the share of the ranks of positive differences less that of negative ones, -1 to 1 (Kerby
      2014). Zeros are left out; where there is nothing else, 1 and 0.
    """
    some = gaps.any(0)
    p, r = np.ones(len(some)), np.zeros(len(some))
    gaps = gaps[:, some]
    p[some] = stats.wilcoxon(gaps, axis=0).pvalue
    ranks = stats.rankdata(np.abs(gaps), axis=0) - (gaps == 0).sum(0)
    r[some] = (ranks * np.sign(gaps)).sum(0) / (ranks * (gaps != 0)).sum(0)
    return p, r


def differences(
    records: pd.DataFrame,
    compare: Sequence[tuple[str, str]],
    *,
    resamples: int,
    seed: int = 0,
    reference: str | None = None,
    floor: tuple[str, str] = ("second_teacher", "teacher"),
) -> pd.DataFrame:
    """Paired differences, one - other: how sure, how large, and on images both classify correctly.

    Args:
      records, reference: as for `table`.
      compare: pairs (one, other); those that are not both there are left out.
      floor: two models of the same recipe, with different seeds.

    Returns:
      A row per pair and metric. Columns `one, other, metric, mean, ci_low, ci_high, n, seeds` as in
      `table`, and

      - `wilcoxon_p, rank_biserial`: `signed_ranks` over images, values averaged over seeds. They
        speak of these trained models, and of the distribution rather than of its mean. NaN for what
        has no value per image.
      - `in_floors`: the difference over the seed-to-seed floor, which is the root mean square
        difference of two runs of one recipe, sqrt(2 * variance over runs). The runs are all those
        of the two models of `floor`; without them, those of `one` and of `other`, both variances
        averaged. NaN where no recipe was run twice. Two runs alone are a rough floor.
      - `mean_correct, ci_low_correct, ci_high_correct, n_correct`: on the images that both models
        classify correctly with every seed. NaN for properties of the models rather than of their
        maps, and for fewer than 20 images.

    Raises:
      UserError: models or seeds have different images, or one twice.
    """
    names, values = arranged(records, reference)
    samples = resampled(records, resamples=resamples, seed=seed, reference=reference)
    runs = {
        model: pd.DataFrame(sample.values[0], columns=sample.metrics)
        for model, sample in samples.items()
    }
    rows = {}
    for one, other in (pair for pair in compare if set(pair) <= set(samples)):
        found = estimate(samples[one].minus(samples[other])).drop(columns=["error", "share"])
        tested = [name for name in found.index if name in names]
        gaps = (values[one] - values[other]).mean(0)[:, [names.index(name) for name in tested]]
        found.loc[tested, ["wilcoxon_p", "rank_biserial"]] = np.stack(signed_ranks(gaps), -1)
        if set(floor) <= set(runs):
            variance = pd.concat([runs[model] for model in floor]).var()
        else:
            variance = (runs[one].var() + runs[other].var()) / 2
        found["in_floors"] = found["mean"] / np.sqrt(2 * variance.where(variance > 0))
        numbers = ["mean", "ci_low", "ci_high"]
        correct = both_correct(records, one, other)
        limited = pd.DataFrame(columns=numbers, dtype=float)
        if correct.image.nunique() >= FEWEST:
            pair = resampled(correct, resamples=resamples, seed=seed)
            limited = estimate(pair[one].minus(pair[other]))[numbers]
        limited = limited.drop(index=[*OF_MODEL], errors="ignore").add_suffix("_correct")
        rows[one, other] = found.join(limited).assign(n_correct=correct.image.nunique())
    return pd.concat(rows, names=["one", "other"]).reset_index() if rows else pd.DataFrame()


def preferred(records: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """Whether each metric prefers one method's map to another's: 1, 0, or 0.5 for a tie.

    Args:
      records: columns `model, seed, method, image` and the metrics.
      one, other: methods.

    Returns:
      Rows (model, seed, image), columns metrics.

    Raises:
      UserError: a method is not there, or they have different images.
    """
    metrics = [name for name, s in STATISTICS.items() if name in records and s.better]
    keys = ["model", "seed", "image"]
    a, b = (records[records.method == method].set_index(keys)[metrics] for method in (one, other))
    if a.empty or len(a) != len(b) or not a.index.isin(b.index).all():
        raise UserError(
            f"the methods '{one}' and '{other}' were not measured on the same models and images"
        )
    gain = np.sign(a - b.reindex(a.index)) * [STATISTICS[name].better for name in metrics]
    return (gain + 1) / 2


def preferences(records: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """How often each metric prefers the maps of one method to those of another.

    A metric that does not prefer the truth to noise on most images measures something else.

    Args:
      records, one, other: as for `preferred`, with the same errors.

    Returns:
      Rows metrics, columns models: the share of images, a tie counting half. 0.5 is indifference.
    """
    return preferred(records, one, other).groupby("model", sort=False).mean().T


def trust(records: pd.DataFrame, method: str, control: str = "random") -> pd.DataFrame:
    """The gate: which metrics of a method's maps pass their sanity checks, for each model.

    A metric is trustworthy here if

    - it prefers the map to a random one, on a share of the images (ties count half, seeds are
      averaged) of at least 0.64, which is what a medium effect gives (Cohen's d = 0.5, Phi(d /
      sqrt 2); McGraw & Wong 1992): noise is the easiest map to tell from an explanation; and a sign
      test over images (p <= 0.05) says that it is no accident;
    - where it was measured: the rank correlation of the maps before and after all parameters are
      shuffled is on average below 0.7. Above that more than half of the variance of the ranks
      (0.7^2) owes nothing to what the model has learned (Adebayo et al. 2018). That is a fault of
      the method's maps on this model, so all metrics fail with it.

    Args:
      records: of both methods, with columns `model, seed, method, image`, the metrics, and
        `randomised_similarity` for the second check.
      method: whose maps the metrics are of.
      control: a method of random maps.

    Returns:
      Columns `model, metric, beats_random, sign_p, randomised_similarity, trustworthy, why`; a row
      per model and metric of maps that says which way is better.

    Raises:
      UserError: a method is not there, or they have different images.
    """
    # [images, metrics] of each model, seeds averaged.
    wins = preferred(records, method, control).drop(columns=list(OF_MODEL), errors="ignore")
    wins = wins.groupby(["model", "image"], sort=False).mean()
    own = records[records.method == method]
    rows = []
    for model, shares in wins.groupby("model", sort=False):
        similarity = np.nan
        if "randomised_similarity" in own:
            similarity = own[own.model == model].randomised_similarity.mean()
        for metric in shares:
            share, better = shares[metric].mean(), int((shares[metric] > 0.5).sum())
            decided = int((shares[metric] != 0.5).sum())
            p = stats.binomtest(better, decided).pvalue if decided else 1.0
            reasons = []
            if share < PREFERRED or p > LEVEL:
                reasons.append(f"a {control} map scores as well: {share:.0%} prefer the real one")
            if similarity >= PERSISTENT:
                reasons.append(
                    f"shuffled parameters leave the map as it was: correlation {similarity:.2f}"
                )
            rows.append(
                {
                    **{"model": model, "metric": metric, "beats_random": share, "sign_p": p},
                    **{"randomised_similarity": similarity, "trustworthy": not reasons},
                    "why": "; ".join(reasons),
                }
            )
    return pd.DataFrame(rows)
