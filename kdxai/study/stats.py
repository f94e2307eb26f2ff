"""Records -> tables of means and differences.

A model is a population of networks, which are the replicates. Images are the same for all of them,
so every comparison is paired by image, and by line where two populations share lines (`lines`).
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from kdxai.errors import UserError
from kdxai.measures import MEASURES, Column
from kdxai.metrics.adcc import adcc
from kdxai.study.intervals import FOR_TESTS, SHARES, Sample, deviation, estimate
from kdxai.study.lines import require_once, shared, with_lines

BINS = 15  # of the calibration error
GAPS = [f"gap{k}" for k in range(BINS)]
FEWEST = 20  # images from which the interval of a mean covers, see `intervals.estimate`
# How alike a model's maps and the reference's are, columns of `with_agreement`.
AGREEMENT = ("pearson", "spearman", "ssim", "top_k_iou")


# What is made over images, not of one.
MADE: dict[str, Column] = {
    "accuracy": Column("Accuracy", 1),
    "ece": Column("Calibration error (ECE)", -1),
    "same_class": Column("Same class as the reference", 1),
    "agreement_pearson": Column("Agreement with the reference (Pearson)", 1),
    "agreement_spearman": Column("Agreement with the reference (Spearman)", 1),
    "agreement_ssim": Column("Agreement with the reference (SSIM)", 1),
    "agreement_top_k_iou": Column("Agreement with the reference (IoU of the top 10 %)", 1),
}


def every_statistic() -> dict[str, Column]:
    """The lines of Table 1 by name, in order."""
    found = dict(MADE)
    for measure in MEASURES.values():
        for name, column in measure.columns.items():
            found[name] = column
            if name == "adcc":
                found["adcc_of_means"] = Column("ADCC (of the means)", 1)
    return found


# The mean over images of a column of the records or of `arranged`, save for two that are made of
# several means (`statistics`). With several seeds it is the mean of theirs.
STATISTICS = every_statistic()

# What is made of two networks' maps: metrics of claims about what is beyond seed noise.
PAIRWISE = {
    name.replace("agreement", "pairwise"): column._replace(
        title=column.title.replace("with the reference", "of all with all")
    )
    for name, column in MADE.items()
    if name.startswith("agreement")
}

# Properties of a model, not of its maps.
OF_MODEL = ("accuracy", "ece", "same_class")


class Arranged(NamedTuple):
    """Values of all networks on the same images.

    Attributes:
      names: [C].
      values: model -> [S, n, C], networks and images in order; NaN where the model has no such
        value, as the reference has none of its likeness to itself.
      seeds, lines: model -> [S], of its networks.
    """

    names: list[str]
    values: dict[str, np.ndarray]
    seeds: dict[str, list[int]]
    lines: dict[str, list[str]]


def arranged(records: pd.DataFrame, reference: str | None = None) -> Arranged:
    """Per-image values, with those that a model's answers give.

    `gap0` to `gap14` are correct - confidence where the confidence is in that bin, else 0.
    `same_class` compares with the network of the reference that is of the same line; where it has
    none, with all of them, on average.

    Raises:
      UserError: networks have different images, or one twice; two of a model are of one line.
    """
    images = np.unique(records.image)
    seeds, lines, ordered = {}, {}, {}
    for model, rows in with_lines(records).groupby("model", sort=False):
        ordered[model] = rows.sort_values(["seed", "image"])
        networks = rows.drop_duplicates("seed").sort_values("seed")
        seeds[model], lines[model] = list(networks.seed), list(networks.line)
        grid = pd.MultiIndex.from_product([seeds[model], images])
        if not pd.MultiIndex.from_frame(ordered[model][["seed", "image"]]).equals(grid):
            raise UserError(
                f"the networks of '{model}' were not measured on the same images as the others, "
                "each once; measure all models on the same images with the same method"
            )
        require_once(model, lines[model])
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
            answers, right = (
                ordered[name].predicted.to_numpy().reshape(-1, len(images))
                for name in (model, reference)
            )
            partners = dict(shared(lines[model], lines[reference]))
            same = [
                (own == right[[partners[k]] if k in partners else slice(None)]).mean(0)
                for k, own in enumerate(answers)
            ]
            known["same_class"] = np.concatenate(same) * (1.0 if model != reference else np.nan)
        shape = len(seeds[model]), len(images), len(known)
        values[model] = np.stack(list(known.values()), -1).reshape(shape)
    return Arranged(list(known), values, seeds, lines)


def statistics(names: Sequence[str], means: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Means of columns -> statistics, in the order of `STATISTICS`.

    - `ece`: expected calibration error, 15 equal-width bins of the largest softmax probability
      (Guo et al. 2017, eq. 3). Few images bias it upwards: 1,000 of a perfectly calibrated model
      gave 0.026. Confidences near 1 are float32, whose rounding it shares: at most 3e-8.
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
    parts = ("coherency", "complexity", "average_drop")
    if found.keys() >= {*parts}:
        found["adcc_of_means"] = np.asarray(adcc(*(found[name] for name in parts)))
    kept = [name for name in STATISTICS if name in found]
    return kept, np.stack([found[name] for name in kept], -1)


def resample_counts(n: int, resamples: int, seed: int | Sequence[int]) -> Iterator[np.ndarray]:
    """How often each of n images is in every resample of them, [up to 100, n] float32 at a time."""
    rng = np.random.default_rng(seed)
    for start in range(0, resamples, 100):
        size = min(100, resamples - start)
        drawn = [np.bincount(rng.integers(0, n, n), minlength=n) for _ in range(size)]
        yield np.array(drawn, np.float32)


def bootstrap(values: np.ndarray, resamples: int, seed: int | Sequence[int]) -> np.ndarray:
    """[M, n, C] -> [1 + resamples, M, C] means over the images, then over resamples of them."""
    n, means = values.shape[1], values.mean(1)
    # What is left after the mean loses nothing that matters in float32; counts are exact in it.
    rest = np.moveaxis(values - means[:, None], 1, 0).reshape(n, -1).astype(np.float32)
    sums = np.concatenate([counts @ rest for counts in resample_counts(n, resamples, seed)])
    return np.concatenate([means[None], means + sums.reshape(-1, *means.shape) / n])


def resampled_statistics(
    records: pd.DataFrame, *, resamples: int, seed: int = 0, reference: str | None = None
) -> dict[str, Sample]:
    """Statistics of every network, on the images and on bootstrap resamples of them, by model.

    A resample draws the images once for all networks, which keeps their pairing.

    Args:
      records, reference: as for `table`, with the same errors.
    """
    names, values, _, lines = arranged(records, reference)
    every = bootstrap(np.concatenate(list(values.values())), resamples, seed)
    n = len(np.unique(records.image))
    ends = np.cumsum([len(own) for own in values.values()])[:-1]
    samples = {}
    for model, mine in zip(values, np.split(every, ends, axis=1), strict=True):
        own = ~np.isnan(values[model]).all((0, 1))
        metrics, found = statistics(
            [name for name, is_own in zip(names, own, strict=True) if is_own], mine[..., own]
        )
        samples[model] = Sample(metrics, found, n, lines=lines[model])
    return samples


def table(
    records: pd.DataFrame,
    compare: Sequence[tuple[str, str]],
    *,
    resamples: int,
    seed: int = 0,
    reference: str | None = None,
) -> pd.DataFrame:
    """Means of every model and differences, with 95 % intervals (`intervals.estimate`).

    Of one network they speak of that one, of several of networks like them. A difference of paired
    populations is that of the networks whose lines both have; of independent ones, that of their
    means, and what each of them varies counts.

    Args:
      records: of one method. Columns `model, seed, image, label, predicted`, the metrics, `line`
        where members of one number are not what belongs together, and `confidence` for the
        calibration error; one row per model, network (`seed`) and image.
      compare: pairs (one, other); adds one - other where both are there.
      reference: the model that `same_class` compares each of the others with, see `arranged`.

    Returns:
      Columns `model, other, metric, mean, ci_low, ci_high, n, seeds, networks, networks_other,
      design, caution`, see `intervals.estimate`, with n images; `other` is "" of a model, and names
      the subtrahend of a difference.

    Raises:
      UserError: networks have different images, or one twice; two of a model are of one line.
    """
    samples = resampled_statistics(records, resamples=resamples, seed=seed, reference=reference)
    found = {(model, ""): estimate(sample) for model, sample in samples.items()}
    for one, other in (pair for pair in compare if set(pair) <= set(samples)):
        found[one, other] = estimate(samples[one].minus(samples[other]))
    rows = pd.concat(found, names=["model", "other"]).reset_index()
    return rows.drop(columns=FOR_TESTS)


def few(metric: str, n: int) -> bool:
    """Whether n images are too few for the interval of a metric to cover what it says."""
    return n < FEWEST and metric not in SHARES


def by_seed(records: pd.DataFrame, reference: str | None = None) -> pd.DataFrame:
    """What each network alone gives: the means that `table` averages.

    Args:
      records, reference: as for `table`, with the same errors.

    Returns:
      Columns `model, metric, seed, mean`.
    """
    names, values, seeds, _ = arranged(records, reference)
    found = {}
    for model, images in values.items():
        metrics, means = statistics(names, images.mean(1))
        networks = pd.Index(seeds[model], name="seed")
        found[model] = pd.DataFrame(means, networks, pd.Index(metrics, name="metric")).T.stack()
    return pd.concat(found, names=["model"]).dropna().rename("mean").reset_index()


def with_agreement(records: pd.DataFrame, pairs: pd.DataFrame, reference: str) -> pd.DataFrame:
    """Records with how alike each network's map and the reference's are, where that was measured.

    Args:
      records: with `model, seed, method, image`.
      pairs: a row per pair of networks, method and image, as `measure.Measured.agreement`; may be
        empty. Of several networks of the reference, the mean is taken.

    Returns:
      The records with `agreement_pearson` and so on, NaN where it was not measured.
    """
    if pairs.empty:
        return records
    keys = ["model", "seed", "method", "image"]
    own = pairs[pairs.other == reference].groupby(keys)[[*AGREEMENT]].mean()
    return records.join(own.add_prefix("agreement_"), on=keys)


def both_correct(records: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """The two models' rows of the images that all networks of the difference classify correctly.

    Of paired models those networks are the ones whose lines both have. Without `confidence`: of
    right answers alone there is no calibration.
    """
    pair = with_lines(records[records.model.isin([one, other])])
    mine, its = (set(pair.line[pair.model == name]) for name in (one, other))
    pair = pair[pair.line.isin(mine & its or mine | its)].drop(
        columns="confidence", errors="ignore"
    )
    right = (pair.predicted == pair.label).groupby(pair.image).transform("all")
    return pair[right]


def signed_ranks(gaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilcoxon's signed-rank test of paired differences [n, K], and its effect size.

    Returns:
      [K] two-sided p (`scipy.stats.wilcoxon`), and the matched-pairs rank-biserial correlation:
      the share of the ranks of positive differences less that of negative ones, -1 to 1 (Kerby
      2014). Zeros are left out; where there is nothing else, 1 and 0.
    """
    some = np.asarray(gaps.any(0))
    p, r = np.ones(len(some)), np.zeros(len(some))
    gaps = gaps[:, some]
    p[some] = stats.wilcoxon(gaps, axis=0).pvalue
    ranks = stats.rankdata(np.abs(gaps), axis=0) - (gaps == 0).sum(0)
    r[some] = (ranks * np.sign(gaps)).sum(0) / (ranks * (gaps != 0)).sum(0)
    return p, r


def by_image(one: np.ndarray, other: np.ndarray, pairs: Sequence[tuple[int, int]]) -> np.ndarray:
    """[n, C] differences of two populations' values [S, n, C], averaged over their networks."""
    if not pairs:
        return one.mean(0) - other.mean(0)
    own, its = map(list, zip(*pairs, strict=True))
    return (one[own] - other[its]).mean(0)


def differences(
    records: pd.DataFrame,
    compare: Sequence[tuple[str, str]],
    *,
    resamples: int,
    seed: int = 0,
    reference: str | None = None,
    floor: Sequence[str] = (),
) -> pd.DataFrame:
    """Differences, one - other: how sure, how large, and on images both classify correctly.

    Args:
      records, reference: as for `table`.
      compare: pairs (one, other); those that are not both there are left out.
      floor: two models of the same recipe, with different seeds, or ().

    Returns:
      A row per pair and metric. Columns `one, other, metric` and those of `table`, and

      - `wilcoxon_p, rank_biserial`: `signed_ranks` over images, values averaged over networks. They
        speak of these networks, and of the distribution rather than of its mean. NaN for what has
        no value per image.
      - `in_floors`: the difference over the seed-to-seed floor, which is the root mean square
        difference of two networks of a population, sqrt(2 * variance over networks). They are all
        those of the two models of `floor`; without them, those of `one` and of `other`, the
        variances averaged. NaN where neither has two networks. Two alone are a rough floor, see
        `floors`.
      - `mean_correct, ci_low_correct, ci_high_correct, n_correct`: on the images of `both_correct`.
        NaN for properties of the models rather than of their maps, and for fewer than 20 images.

    Raises:
      UserError: as `table`.
    """
    names, values, _, lines = arranged(records, reference)
    samples = resampled_statistics(records, resamples=resamples, seed=seed, reference=reference)
    runs = {
        model: pd.DataFrame(sample.values[0], columns=sample.metrics)
        for model, sample in samples.items()
    }
    rows = {}
    for one, other in (pair for pair in compare if set(pair) <= set(samples)):
        found = estimate(samples[one].minus(samples[other])).drop(columns=FOR_TESTS)
        tested = [name for name in found.index if name in names]
        gaps = by_image(values[one], values[other], shared(lines[one], lines[other]))
        gaps = gaps[:, [names.index(name) for name in tested]]
        found.loc[tested, ["wilcoxon_p", "rank_biserial"]] = np.stack(signed_ranks(gaps), -1)
        if floor and set(floor) <= set(runs):
            variance = pd.concat([runs[model] for model in floor]).var()
        else:
            variance = pd.concat([runs[one].var(), runs[other].var()], axis=1).mean(axis=1)
        found["in_floors"] = found["mean"] / np.sqrt(2 * variance.where(variance > 0))
        numbers = ["mean", "ci_low", "ci_high"]
        correct = both_correct(records, one, other)
        limited = pd.DataFrame(columns=numbers, dtype=float)
        if correct.image.nunique() >= FEWEST:
            pair = resampled_statistics(correct, resamples=resamples, seed=seed)
            limited = estimate(pair[one].minus(pair[other]))[numbers]
        limited = limited.drop(index=[*OF_MODEL], errors="ignore").add_suffix("_correct")
        rows[one, other] = found.join(limited).assign(n_correct=correct.image.nunique())
    return pd.concat(rows, names=["one", "other"]).reset_index() if rows else pd.DataFrame()


def floors(records: pd.DataFrame, reference: str | None = None) -> pd.DataFrame:
    """How far two networks of a population differ, in every metric: the floor under differences.

    Args:
      records, reference: as for `table`, with the same errors.

    Returns:
      A row per model with two networks or more and metric. Columns `model, metric, networks`;
      `spread`, the standard deviation over networks of the mean over these images; `floor`, the
      root mean square difference of two of them, sqrt(2) * spread; and its 95 % interval `ci_low,
      ci_high`, see `intervals.deviation`.
    """
    names, values, _, _ = arranged(records, reference)
    rows = []
    for model, images in values.items():
        metrics, means = statistics(names, images.mean(1))
        for metric, own in zip(metrics, means.T, strict=True):
            if len(own) > 1 and not np.isnan(own).any():
                spread, low, high = deviation(own)
                row = {"model": model, "metric": metric, "networks": len(own), "spread": spread}
                pair = np.sqrt(2) * np.array([spread, low, high])
                rows.append(row | dict(zip(("floor", "ci_low", "ci_high"), pair, strict=True)))
    columns = ["model", "metric", "networks", "spread", "floor", "ci_low", "ci_high"]
    return pd.DataFrame(rows, columns=columns)
