"""Tables along a sweep of compressions.

No metric of a map alone can be compared along one: a network pruned to chance has the best drop of
all. So accuracy and agreement stand beside every metric, and what collapsed is marked.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from kdxai.errors import UserError
from kdxai.study.checks import collapsed
from kdxai.study.intervals import FOR_TESTS, Sample, estimate
from kdxai.study.stats import AGREEMENT, FEWEST, arranged, both_correct, resampled

ALIKE = [f"agreement_{name}" for name in AGREEMENT]  # columns of `stats.with_agreement`
INTERVAL = ["mean", "ci_low", "ci_high"]


def sweep(records: pd.DataFrame, reference: str, *, resamples: int, seed: int = 0) -> pd.DataFrame:
    """Every metric of every model, beside what tells whether it can be compared.

    Args:
      records: of one method, as for `stats.table`, with those of `stats.with_agreement`.
      reference: the model that the others descend from, or are compared with.

    Returns:
      A row per model and metric. Columns `model, metric` and those of `stats.table`, and

      - `mean_correct, ci_low_correct, ci_high_correct, n_correct`: on the images that all networks
        of the model and of the reference get right (paired: of the lines that both have), and
        `reference_correct`, the reference's mean on the same; NaN of fewer than 20 images;
      - `accuracy`, and `agreement` (Pearson's r) with the reference, `agreement_correct` on those
        images; NaN where it was not measured;
      - `collapsed`: how many of the networks are not above chance (`checks.collapsed`).

    Raises:
      UserError: as `stats.table`; there is no such reference.
    """
    require_model(records, reference)
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    samples = resampled(records, reference=reference, **options)
    dead = collapsed(records).groupby("model").collapsed.sum()
    tables = {}
    for model, sample in samples.items():
        rows = estimate(sample).drop(columns=[*FOR_TESTS, "networks_other", "design"])
        correct = both_correct(records, model, reference)
        right = pd.DataFrame(columns=[*INTERVAL, "reference"], dtype=float)
        if correct.image.nunique() >= FEWEST:
            found = resampled(correct, **options)
            right = estimate(found[model])[INTERVAL]
            right["reference"] = estimate(found[reference])["mean"]
        rows = rows.join(right.add_suffix("_correct"))
        tables[model] = rows.assign(
            n_correct=correct.image.nunique(),
            accuracy=rows["mean"]["accuracy"],
            agreement=rows["mean"].get(ALIKE[0], np.nan),
            agreement_correct=rows.mean_correct.get(ALIKE[0], np.nan),
            collapsed=int(dead[model]),
        )
    return pd.concat(tables, names=["model", "metric"]).reset_index()


def forgotten(
    records: pd.DataFrame, parent: str, children: Iterable[str], *, resamples: int, seed: int = 0
) -> pd.DataFrame:
    """Do explanations change most on the images that a compression forgets?

    Those are the ones that the populations answer differently: the modal answer of the children's
    networks is not that of the parents' ("pruning identified exemplars", Hooker et al. 2019).

    Args:
      records: of one method, with the columns of `stats.with_agreement` and `parent` as its
        reference.
      children: models that descend from it.

    Returns:
      A row per child and measure of agreement. Columns `model, other` (the parent), `metric`;
      `n_forgotten` of `n` images; `mean_forgotten` and `mean_rest`, the mean agreement with the
      parent on them and on the others; `mean, ci_low, ci_high`, the difference with its 95 %
      interval over children and, of both kinds, images; `networks` and `caution`. Of fewer than 20
      images of a kind there is no interval.

    Raises:
      UserError: as `stats.table`; there is no such parent or child.
    """
    dense = answers(records, parent)
    rows = []
    for child in children:
        changed = answers(records, child) != dense
        names, values, *_ = arranged(records[records.model == child])
        for metric in (name for name in ALIKE if name in names):
            own = values[child][..., names.index(metric)]
            if np.isnan(own).any():
                continue
            row: dict[str, Any] = {"model": child, "other": parent, "metric": metric}
            row |= {"n_forgotten": int(changed.sum()), "n": len(changed)}
            rows.append(row | contrast(own, changed, metric, resamples, seed))
    return pd.DataFrame(rows)


def contrast(
    values: np.ndarray, chosen: np.ndarray, metric: str, resamples: int, seed: int
) -> dict[str, Any]:
    """The mean of values [S, n] on the chosen images, on the others, and their difference."""
    rng = np.random.default_rng(seed)
    parts, means = [values[:, chosen], values[:, ~chosen]], []
    images = min(part.shape[1] for part in parts)
    for part in parts:
        n = max(part.shape[1], 1)
        counts = rng.multinomial(part.shape[1], np.full(n, 1 / n), resamples)[:, : part.shape[1]]
        means.append(np.concatenate([np.ones((1, part.shape[1])), counts]) @ part.T / n)
    row: dict[str, Any] = {
        name: own[0].mean() if part.size else np.nan
        for name, own, part in zip(("mean_forgotten", "mean_rest"), means, parts, strict=True)
    }
    sample = Sample([metric], (means[0] - means[1])[..., None], max(images, 1), difference=True)
    row |= estimate(sample).iloc[0][[*INTERVAL, "networks", "caution"]].to_dict()
    row["mean"] = row["mean_forgotten"] - row["mean_rest"]
    return row if images >= FEWEST else row | dict.fromkeys(INTERVAL[1:], np.nan)


def answers(records: pd.DataFrame, model: str) -> np.ndarray:
    """The commonest answer of a model's networks to each image, in order; of a tie the first.

    Raises:
      UserError: there is no such model.
    """
    require_model(records, model)
    rows = records[records.model == model]
    image, answer = np.unique(rows.image, return_inverse=True)[1], rows.predicted.to_numpy(int)
    votes = np.zeros((image.max() + 1, answer.max() + 1), int)
    np.add.at(votes, (image, answer), 1)
    return votes.argmax(1)


def require_model(records: pd.DataFrame, model: str) -> None:
    """Raises:
    UserError: there is no such model.
    """
    if model not in (known := list(records.model.unique())):
        raise UserError(f"there is no model '{model}' here; known: {', '.join(known)}")
