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
from kdxai.study.intervals import FOR_TESTS, Sample, caution, estimate
from kdxai.study.stats import (
    AGREEMENT,
    FEWEST,
    arranged,
    bootstrap,
    both_correct,
    resampled_statistics,
)

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
    samples = resampled_statistics(records, reference=reference, **options)
    dead = collapsed(records).groupby("model").collapsed.sum()
    tables = {}
    for model, sample in samples.items():
        rows = estimate(sample).drop(columns=[*FOR_TESTS, "networks_other", "design"])
        correct = both_correct(records, model, reference)
        right = pd.DataFrame(columns=[*INTERVAL, "reference"], dtype=float)
        if correct.image.nunique() >= FEWEST:
            found = resampled_statistics(correct, **options)
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
    dense = commonest_answers(records, parent)
    tables = []
    for child in children:
        changed = commonest_answers(records, child) != dense
        names, values, *_ = arranged(records[records.model == child])
        found = dict(zip(names, np.moveaxis(values[child], -1, 0), strict=True))
        own = {name: found[name] for name in ALIKE if name in found}
        own = {name: each for name, each in own.items() if not np.isnan(each).any()}
        if own:
            rows = contrast(np.stack([*own.values()], -1), changed, [*own], resamples, seed)
            known: dict[str, Any] = {"model": child, "other": parent}
            known |= {"n_forgotten": int(changed.sum()), "n": len(changed)}
            tables.append(rows.assign(**known)[[*known, *rows]])
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()


def contrast(
    values: np.ndarray, chosen: np.ndarray, metrics: list[str], resamples: int, seed: int
) -> pd.DataFrame:
    """The means of values [S, n, K] on the chosen images, on the others, and their differences."""
    parts = values[:, chosen], values[:, ~chosen]
    images = min(part.shape[1] for part in parts)
    found = pd.DataFrame(index=pd.Index(metrics, name="metric"))
    for name, part in zip(("mean_forgotten", "mean_rest"), parts, strict=True):
        found[name] = part.mean((0, 1)) if part.size else np.nan
    found["mean"] = found.mean_forgotten - found.mean_rest
    found[["ci_low", "ci_high"]] = np.nan
    if images >= FEWEST:
        one, other = (bootstrap(part, resamples, [seed, k]) for k, part in enumerate(parts))
        gap = estimate(Sample(metrics, one - other, images, difference=True))
        found[["ci_low", "ci_high"]] = gap[["ci_low", "ci_high"]]
    found["networks"] = len(values)
    found["caution"] = [caution(name, images, [len(values)], "seeds") for name in metrics]
    return found.reset_index()


def commonest_answers(records: pd.DataFrame, model: str) -> np.ndarray:
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
    """Check the name of a model.

    Raises:
      UserError: there is no such model.
    """
    if model not in (known := list(records.model.unique())):
        raise UserError(f"there is no model '{model}' here; known: {', '.join(known)}")
