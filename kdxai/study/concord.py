"""Which metrics agree? Rank correlations of metrics over the methods that explained an image.

A metric is there to say which method is the better one, so two metrics agree where they rank the
methods alike: within each image, as Klein et al. 2024 (LATEC) ask. Where masks say what a map
should show, the same correlation with the truth says which metric finds it.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from kdxai.errors import UserError
from kdxai.study.question import BY_MASKS
from kdxai.study.stats import MADE, STATISTICS, resample_counts

# What knows the object. TRUTH is the mean of the ranks that those which are there give a method.
OF_TRUTH = (*BY_MASKS, "mask_auc", "mask_top_k")
TRUTH = "truth"


class Ranked(NamedTuple):
    """How every metric ranks the methods, for every image of every network.

    Attributes:
      metrics: [C] names in `STATISTICS`, and TRUTH where there is one.
      methods: [M].
      images: [U] the image of each.
      ranks: [U, M, C], the last the best; NaN where the metric prefers no method or is missing.
      of_means: [M, C] ranks of the means over all images.
    """

    metrics: list[str]
    methods: list[str]
    images: np.ndarray
    ranks: np.ndarray
    of_means: np.ndarray


def concord(records: pd.DataFrame, *, resamples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """How alike every two metrics rank the methods.

    Args:
      records: a row per model, seed, method and image, as in the `records.csv` of a study.
      resamples: of the images; the networks are those that there are.

    Returns:
      A row per pair of metrics, in either order. Columns `metric, other`;

      - `rho, ci_low, ci_high`: Spearman's rho over the methods, the mean over images and networks,
        with a 95 % bootstrap interval over images; both metrics turned so that more is better. NaN
        where there is no image in which both prefer one method to another;
      - `share`: of the images in which both do, which are those that `rho` is of;
      - `rho_of_means`: of the means over all images: how alike they rank the methods once for all.

    Raises:
      UserError: fewer than three methods or two metrics, or methods of different images.
    """
    found = ranked(records)
    alike = rank_correlations(found.ranks)
    known = np.isfinite(alike)
    images, place = np.unique(found.images, return_inverse=True)
    sums, sizes = np.zeros((2, len(images), *alike.shape[1:]))
    np.add.at(sums, place, np.where(known, alike, 0))
    np.add.at(sizes, place, known)
    every = np.ones((1, len(images)))
    drawn = [
        weighted_means(counts, sums, sizes)
        for counts in resample_counts(len(images), resamples, seed)
    ]
    centre, means = weighted_means(every, sums, sizes)[0], np.concatenate(drawn)
    # A resample may hold none of the few images in which both prefer a method.
    low, high = np.quantile(np.where(np.isnan(means), centre, means), [0.025, 0.975], axis=0)
    values = {
        "rho": centre,
        "ci_low": low,
        "ci_high": high,
        "share": known.mean(0),
        "rho_of_means": rank_correlations(found.of_means[None])[0],
    }
    first, second = np.nonzero(~np.eye(len(found.metrics), dtype=bool))
    names = np.array(found.metrics)
    columns = {name: matrix[first, second] for name, matrix in values.items()}
    return pd.DataFrame({"metric": names[first], "other": names[second], **columns})


def against_truth(table: pd.DataFrame) -> pd.DataFrame:
    """The rows of `concord` with the truth, the metric that finds it best first.

    What knows the object itself is left out. Without masks there is no row.
    """
    rows = table[(table.other == TRUTH) & ~table.metric.isin(OF_TRUTH)]
    return rows.sort_values("rho", ascending=False, ignore_index=True)


def ranked(records: pd.DataFrame) -> Ranked:
    """Rank the methods of every network and image by each metric.

    Raises:
      UserError: as `concord`.
    """
    if "drawn" in records:  # of the others only one method is measured
        records = records[records.drawn]
    units, methods = ["model", "seed", "image"], [*records.method.unique()]
    names = [
        name
        for name, column in STATISTICS.items()
        if column.better and name not in MADE and name in records and records[name].notna().any()
    ]
    if len(methods) < 3 or len(names) < 2:
        raise UserError(
            f"metrics are compared by how they rank methods: give three methods or more and two "
            f"metrics, not {len(methods)} and {len(names)}"
        )
    size = len(records[units].drop_duplicates()) * len(methods)
    if len(records) != size or records.duplicated([*units, "method"]).any():
        raise UserError(
            "the methods were not measured on the same images of the same networks; measure all "
            "methods in one run"
        )
    wide = records.pivot(index=units, columns="method", values=names)
    values = wide.to_numpy(np.float64).reshape(len(wide), len(names), len(methods))
    values = values.swapaxes(1, 2) * [STATISTICS[name].better for name in names]
    truths = [names.index(name) for name in OF_TRUTH if name in names]
    if truths:
        truth = rankdata(values[..., truths], axis=1).mean(-1, keepdims=True)
        values, names = np.concatenate([values, truth], -1), [*names, TRUTH]
    columns = [*wide.columns.get_level_values("method")[: len(methods)]]
    images = wide.index.get_level_values("image").to_numpy()
    known = np.isfinite(values)
    means = np.where(known, values, 0).sum(0) / np.where(known.any(0), known.sum(0), np.nan)
    return Ranked(names, columns, images, order(values), order(means[None])[0])


def order(values: np.ndarray) -> np.ndarray:
    """[U, M, C] -> ranks over M, ties on average; NaN where all are equal or one is missing."""
    ranks = rankdata(values, axis=1)
    useless = np.isnan(values).any(1) | (np.ptp(ranks, axis=1) == 0)
    return np.where(useless[:, None], np.nan, ranks)


def rank_correlations(ranks: np.ndarray) -> np.ndarray:
    """[U, M, C] ranks -> [U, C, C] Pearson's r over M; NaN where either has none."""
    centred = ranks - ranks.mean(1, keepdims=True)
    unit = centred / np.linalg.norm(centred, axis=1, keepdims=True)
    return np.clip(np.swapaxes(unit, 1, 2) @ unit, -1, 1)


def weighted_means(counts: np.ndarray, sums: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """[R, n] counts of images, [n, C, C] sums over networks and how many -> [R, C, C] means."""
    total, size = (np.tensordot(counts, part, 1) for part in (sums, sizes))
    return np.where(size > 0, total / np.maximum(size, 1), np.nan)
