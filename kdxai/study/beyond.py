"""How far populations are beyond seed noise, in any metric: what claims of that are judged by."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from kdxai.study import distances
from kdxai.study.distances import Pairwise
from kdxai.study.intervals import Sample, caution
from kdxai.study.lines import matched
from kdxai.study.permutation import beyond
from kdxai.study.stats import FEWEST, PAIRWISE

PREFIX = "pairwise_"  # of the metrics that are 1 - the mean agreement of two networks' maps


def beyond_noise(
    samples: Mapping[str, Sample],
    pair: tuple[str, str],
    metrics: Iterable[str],
    pairwise: Pairwise | None,
    both_right: bool = False,
    **options: Any,
) -> pd.DataFrame:
    """`permutation.beyond` of a pair of models, by the metrics that were measured.

    Args:
      samples: as `stats.resampled_statistics` returns.
      metrics: of `stats.STATISTICS` and `PAIRWISE`.
      both_right: of `PAIRWISE`, on the images that both of two networks classify correctly.
      options: `resamples` and `seed` of `PAIRWISE`.

    Returns:
      Rows metrics; columns as those of `intervals.estimate` that the ledger needs, and `p`. `mean`
      is the gap, `error` only tells whether there is an interval.
    """
    rows = {}
    for metric in metrics:
        if metric not in PAIRWISE:
            found = of_means([samples[model] for model in pair], metric)
        else:
            found = of_maps(pairwise, pair, metric.removeprefix(PREFIX), both_right, options)
        if found is None:
            continue
        every, lines, images = found
        if len(lines[1]) < 2:  # where both are right there are only those that are compared
            continue
        first = len(lines[0])
        other = range(first, first + len(lines[1]))
        one, own = matched(range(first), other, lines)
        far = beyond(every, one, other, own)
        sizes = len(one), len(other)
        rows[metric] = {
            **{"mean": far.gap, "ci_low": far.ci_low, "ci_high": far.ci_high, "p": far.p},
            **{"error": 0.0 if np.isnan(far.ci_low) else np.inf, "n": images},
            **{"seeds": sizes[0], "networks": sizes[0], "networks_other": sizes[1]},
            **{"design": "paired" if own else "independent", "across": "seeds"},
            "caution": caution(metric, images, sizes, "seeds"),
        }
    return pd.DataFrame.from_dict(rows, orient="index")


Distances = tuple[np.ndarray, list[list[str]], int]  # [1 + R, M, M], lines of both, images


def of_means(samples: list[Sample], metric: str) -> Distances | None:
    """How far apart the means over images of any two networks are; None if not measured."""
    if not all(metric in sample.metrics for sample in samples):
        return None
    means = np.concatenate(
        [sample.values[..., sample.metrics.index(metric)] for sample in samples], axis=1
    )
    lines = [list(sample.lines) for sample in samples]
    return np.abs(means[:, :, None] - means[:, None]), lines, samples[0].images


def of_maps(
    pairwise: Pairwise | None,
    pair: tuple[str, str],
    metric: str,
    both_right: bool,
    options: Mapping[str, Any],
) -> Distances | None:
    """How far apart the maps of any two networks are; None if not measured, or on few images."""
    if pairwise is None or not {*pair} <= {*pairwise.networks.model}:
        return None
    part = pairwise.among(pair)
    images = int(part.both_right().sum(0).min()) if both_right else len(part.images)
    if metric not in part.values or images < FEWEST:
        return None
    every = distances.resampled_distances(part, metric, both_right=both_right, **options)
    places = [part.places(model) for model in pair]
    order = [*places[0], *places[1]]
    lines = [list(part.networks.line.iloc[own]) for own in places]
    return every[:, order][:, :, order], lines, images
