"""Records -> estimates with intervals."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from kdxai.metrics.adcc import adcc


class Statistic(NamedTuple):
    """A line of Table 1.

    Attributes:
      title: how people call it.
      better: +1 where more is better, -1 where less is, 0 where neither.
    """

    title: str
    better: int


# The mean of a column of the records, save for the last, which is made of three means.
STATISTICS: dict[str, Statistic] = {
    "accuracy": Statistic("Accuracy", 1),
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


def table(
    records: pd.DataFrame, compare: Sequence[tuple[str, str]], *, resamples: int, seed: int = 0
) -> pd.DataFrame:
    """Means of every model and paired differences, with 95 % percentile bootstrap intervals.

    Images are the same for all models, so a resample draws images once for all: the intervals of
    differences are paired. With several seeds a resample draws seeds first (Efron & Tibshirani
    1993, section 8; a hierarchical bootstrap of two crossed factors).

    Args:
      records: columns `model, seed, image` and the metrics; one row per model, seed and image.
      compare: pairs (a, b); adds the model `a - b`.

    Returns:
      Columns `model, metric, mean, ci_low, ci_high, n`, with n images.
    """
    records = records.assign(accuracy=records.predicted == records.label)
    metrics = [name for name in STATISTICS if name in records]
    # [seeds, images, metrics] of each model; every one holds the same images in the same order.
    values = {
        model: np.stack(
            [
                one.sort_values("image")[metrics].to_numpy(np.float64)
                for _, one in rows.groupby("seed")
            ]
        )
        for model, rows in records.groupby("model", sort=False)
    }
    seeds, n, _ = next(iter(values.values())).shape
    rng = np.random.default_rng(seed)
    # One row in front is the sample itself; float32 holds the small counts exactly.
    images = np.ones((resamples + 1, n), np.float32)
    for row in images[1:]:
        row[:] = np.bincount(rng.integers(0, n, n), minlength=n)
    draws = rng.multinomial(seeds, np.full(seeds, 1 / seeds), resamples) / seeds
    draws = np.concatenate([np.full((1, seeds), 1 / seeds), draws])
    means = {
        model: with_adcc_of_means(
            dict(
                zip(
                    metrics,
                    sum(d * (images @ v_s).T for d, v_s in zip(draws.T, v, strict=True)) / n,
                    strict=True,
                )
            )
        )
        for model, v in values.items()
    }
    for a, b in compare:
        if a in means and b in means:
            means[f"{a} - {b}"] = {name: means[a][name] - means[b][name] for name in means[a]}
    return pd.DataFrame(
        [
            {"model": model, "metric": name, "mean": m[0], "ci_low": low, "ci_high": high, "n": n}
            for model, columns in means.items()
            for name, m in columns.items()
            for low, high in [np.percentile(m[1:], [2.5, 97.5])]
        ]
    )


def with_adcc_of_means(means: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Add the ADCC that some code takes of the three means, in the order of `STATISTICS`."""
    of_means = np.asarray(adcc(means["coherency"], means["complexity"], means["average_drop"]))
    return {
        name: of_means if name == "adcc_of_means" else means[name]
        for name in STATISTICS
        if name in means or name == "adcc_of_means"
    }


def preferences(records: pd.DataFrame, one: str, other: str) -> pd.DataFrame:
    """How often each metric prefers the maps of one method to those of another.

    A metric that does not prefer the truth to noise on most images measures something else.

    Args:
      records: columns `model, seed, method, image` and the metrics.
      one, other: methods.

    Returns:
      Rows metrics, columns models: the share of images, a tie counting half. 0.5 is indifference.
    """
    metrics = [name for name, s in STATISTICS.items() if name in records and s.better]
    keys = ["model", "seed", "image"]
    a, b = (records[records.method == method].set_index(keys)[metrics] for method in (one, other))
    gain = np.sign(a - b) * [STATISTICS[name].better for name in metrics]
    return ((gain + 1) / 2).groupby("model", sort=False).mean().T
