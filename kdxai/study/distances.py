"""How alike networks explain the same images, all with all, and in units of seed noise.

Agreement is a metric of `metrics.agreement` between two networks' maps of one image for its true
class, averaged over images; distance is 1 - agreement.
"""

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kdxai.study import lines
from kdxai.study.permutation import Beyond, beyond
from kdxai.study.stats import FEWEST, resample_counts

ON = ("all", "both right")  # the images that a number is of


class Pairwise(NamedTuple):
    """The agreement of every two of M networks on every one of N images.

    Attributes:
      networks: [M] rows, in order; columns `model, seed, line`.
      images: [N] their numbers.
      right: [N, M], whether a network classifies an image correctly.
      values: metric -> [N, P], pairs in the order of `np.triu_indices(M, 1)`.
    """

    networks: pd.DataFrame
    images: np.ndarray
    right: np.ndarray
    values: Mapping[str, np.ndarray]

    def places(self, model: str) -> list[int]:
        """The positions of a model's members."""
        return np.flatnonzero(self.networks.model == model).tolist()

    def among(self, models: Iterable[str]) -> "Pairwise":
        """The same of some models alone."""
        kept = np.flatnonzero(self.networks.model.isin([*models]))
        first, second = np.triu_indices(len(kept), 1)
        pairs = self.pairs(kept[first], kept[second])
        return Pairwise(
            self.networks.iloc[kept].reset_index(drop=True),
            self.images,
            self.right[:, kept],
            {metric: values[:, pairs] for metric, values in self.values.items()},
        )

    def pairs(self, one: Any, other: Any) -> np.ndarray:
        """Which of the P pairs two different networks are, or many, by their positions."""
        count = len(self.networks)
        return squared(np.arange(count * (count - 1) // 2), -1)[one, other]

    def both_right(self) -> np.ndarray:
        """[N, P], whether both of a pair are right."""
        first, second = np.triu_indices(self.right.shape[1], 1)
        return self.right[:, first] & self.right[:, second]


def squared(pairs: np.ndarray, diagonal: float) -> np.ndarray:
    """[..., P] -> [..., M, M], symmetric."""
    count = round((1 + np.sqrt(1 + 8 * pairs.shape[-1])) / 2)
    first, second = np.triu_indices(count, 1)
    found = np.full((*pairs.shape[:-1], count, count), diagonal, pairs.dtype)
    found[..., first, second] = found[..., second, first] = pairs
    return found


def agreement_matrix(pairwise: Pairwise, metric: str, both_right: bool = False) -> np.ndarray:
    """[M, M] mean agreement of every two networks, 1 of each with itself.

    Args:
      both_right: on the images that both classify correctly; NaN where there is none.
    """
    return squared(next(mean_agreements(pairwise, metric, both_right)), 1.0)


def resampled_distances(
    pairwise: Pairwise, metric: str, *, resamples: int, seed: int = 0, both_right: bool = False
) -> np.ndarray:
    """[1 + R, M, M] distances: of the images, then of bootstrap resamples of them.

    A resample draws the images once for all networks, as `stats.resampled_statistics` does.

    Args:
      both_right: as for `agreement_matrix`.
    """
    drawn = mean_agreements(pairwise, metric, both_right, resamples, seed)
    return squared(1 - np.stack([*drawn]), 0.0)


def mean_agreements(
    pairwise: Pairwise, metric: str, both_right: bool, resamples: int = 0, seed: int = 0
) -> Iterator[np.ndarray]:
    """[P] mean agreement over the images, then over each resample of them."""
    values = np.asarray(pairwise.values[metric], np.float32)
    mask = pairwise.both_right().astype(np.float32) if both_right else None
    images = np.ones((1, len(values)), np.float32)
    for counts in itertools.chain([images], resample_counts(len(values), resamples, seed)):
        if mask is None:
            yield from (counts @ values).astype(np.float64) / len(values)
            continue
        sizes = counts @ mask
        yield from np.where(sizes > 0, (counts @ (values * mask)) / np.maximum(sizes, 1), np.nan)


def noise(
    pairwise: Pairwise, compare: Sequence[tuple[str, str]], *, resamples: int, seed: int = 0
) -> pd.DataFrame:
    """How far populations are from each other, in units of how far seeds are: `permutation.beyond`.

    Args:
      compare: pairs (one, other) of models; those of which `other` has one member are left out, as
        nothing tells how far its seeds differ.

    Returns:
      A row per metric, pair and choice of images. Columns `metric, one, other`;

      - `on`: "all" images, or of each two networks those that "both" classify "right";
      - `design`: "paired", each of `one` with its own of `other`, or "independent";
      - `within`, `within_one`, `between`: mean agreement of two members of `other`, of two of
        `one`, and of one of each (paired: of its own);
      - `gap, ci_low, ci_high`: within - between, with a 95 % interval that counts networks and
        images;
      - `spread, units`: the standard deviation of the agreements within `other`, and the gap over
        it;
      - `p`: one-sided, of the gap being that of seeds alone;
      - `networks, networks_other, images`: how many of each; of images that both classify right,
        the fewest of a pair. Of fewer than 20 there are no other numbers.

    Raises:
      UserError: two members of a model are of one line.
    """
    rows = []
    for one, other in compare:
        part = pairwise.among([one, other])
        if len(part.places(one)) < 1 or len(part.places(other)) < 2:
            continue
        for metric in pairwise.values:
            for on in ON:
                found = far(part, one, other, metric, on, resamples, seed)
                rows.append({"metric": metric, "one": one, "other": other, "on": on, **found})
    return pd.DataFrame(rows)


def far(
    pairwise: Pairwise, one: str, other: str, metric: str, on: str, resamples: int, seed: int
) -> dict[str, object]:
    """The numbers of one row of `noise`."""
    ones, others = pairwise.places(one), pairwise.places(other)
    known = [list(pairwise.networks.line.iloc[places]) for places in (ones, others)]
    for model, its in zip((one, other), known, strict=True):
        lines.require_once(model, its)
    ones, own = lines.matched(ones, others, known)
    both_right = on != ON[0]
    images = int(pairwise.both_right().sum(0).min()) if both_right else len(pairwise.images)
    found: dict[str, object] = {
        "design": "paired" if own else "independent",
        "networks": len(ones),
        "networks_other": len(others),
        "images": images,
    }
    if images < FEWEST:
        return found | dict.fromkeys(Beyond._fields, np.nan)
    drawn = resampled_distances(
        pairwise, metric, resamples=resamples, seed=seed, both_right=both_right
    )
    apart = beyond(drawn, ones, others, own)._asdict()
    return found | apart | {name: 1 - apart[name] for name in ("within", "within_one", "between")}
