"""Which metrics to trust, of which models."""

import numpy as np
import pandas as pd
from scipy import stats

from kdxai.errors import UserError
from kdxai.study.intervals import LEVEL
from kdxai.study.stats import OF_MODEL, STATISTICS

PREFERRED = 0.64  # least share of images
PERSISTENT = 0.7  # least correlation of maps that parameters do not change
ABOVE_CHANCE = 0.001  # level of the test that a model has learned anything
VARIED = 0.1  # least share of answers beside the commonest, over that of labels
# What a metric of a model can fail by -> what that means.
FAILS = {
    "chance": "the model's answers are no better than chance, so its maps have nothing to explain",
    "noise": "a map of random numbers scores better, or about as well",
    "shuffled": "shuffling all parameters of the model hardly changes its maps",
}


def collapsed(records: pd.DataFrame) -> pd.DataFrame:
    """Networks whose maps have nothing to explain, and why: their answers are chance or one class.

    A network pruned to chance masks to the same chance: its drop is near 0 and its ADCC high. So a
    metric of maps says something of a network only if it

    - is right more often than the largest class among the labels would be (binomial test, 0.1 %);
    - varies its answers: those beside its commonest are at least a tenth as frequent as the labels
      beside theirs.

    Args:
      records: columns `model, seed, image, label, predicted`. Labels of one class alone tell
        nothing, and no network is named then.

    Returns:
      A row per network. Columns `model, seed, collapsed, why`, one sentence without its full stop
      of what collapsed, else "".
    """
    answers = records.drop_duplicates(["model", "seed", "image"])
    found = []
    for (model, seed), rows in answers.groupby(["model", "seed"], sort=False):
        largest = rows.label.value_counts(normalize=True).iloc[0]
        commonest = rows.predicted.value_counts(normalize=True).iloc[0]
        right, n = int((rows.predicted == rows.label).sum()), len(rows)
        why = ""
        if largest < 1 and stats.binomtest(right, n, largest, "greater").pvalue > ABOVE_CHANCE:
            why = (
                f"{model} (seed {seed}) is not above chance: {right} of {n} answers are right, "
                f"and {largest:.0%} of the images are of one class"
            )
        elif largest < 1 and 1 - commonest < VARIED * (1 - largest):
            why = f"{model} (seed {seed}) gives one answer to {commonest:.1%} of images"
        found.append({"model": model, "seed": seed, "collapsed": bool(why), "why": why})
    return pd.DataFrame(found)


def at_chance(records: pd.DataFrame) -> dict[str, str]:
    """Models of which a network is `collapsed`, and why; one is enough.

    Returns:
      Model -> one sentence without its full stop: of the first such network, and how many there
      are if it is not the only one.
    """
    networks = collapsed(records)
    found = {}
    for model, rows in networks.groupby("model", sort=False):
        if dead := int(rows.collapsed.sum()):
            found[model] = rows.why[rows.collapsed].iloc[0]
            if dead > 1:
                found[model] += f"; of its {len(rows)} networks {dead} collapsed"
    return found


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


def trust(records: pd.DataFrame, method: str, noise: str = "random") -> pd.DataFrame:
    """The gate: which metrics of a method's maps pass their sanity checks, for each model.

    A metric is trustworthy here if

    - the model is none of `at_chance`, where its answers are in the records;
    - it prefers the map to a random one, on a share of the images (ties count half, seeds are
      averaged) of at least 0.64, which is what a medium effect gives (Cohen's d = 0.5, Phi(d /
      sqrt 2); McGraw & Wong 1992): noise is the easiest map to tell from an explanation; and a sign
      test over images (p <= 0.05) says that it is no accident;
    - where it was measured: the rank correlation of the maps before and after all parameters are
      shuffled is on average below 0.7. Above that more than half of the variance of the ranks
      (0.7^2) owes nothing to what the model has learned (Adebayo et al. 2018). That is a fault of
      the method's maps on this model, so all metrics fail with it.

    Args:
      records: of both methods, with columns `model, seed, method, image`, the metrics, and for the
        first check `label` and `predicted`, for the last `randomised_similarity`.
      method: whose maps the metrics are of.
      noise: a method of random maps.

    Returns:
      Columns `model, metric, beats_random, sign_p, randomised_similarity, trustworthy, fails, why`
      (`fails`: names in `FAILS`, with commas); a row per model and metric of maps that says which
      way is better, and of a model at chance one for the ADCC of its means too.

    Raises:
      UserError: a method is not there, or they have different images.
    """
    # [images, metrics] of each model, seeds averaged.
    wins = preferred(records, method, noise).drop(columns=list(OF_MODEL), errors="ignore")
    wins = wins.groupby(["model", "image"], sort=False).mean()
    own = records[records.method == method]
    dead = at_chance(own) if "predicted" in own else {}
    rows = []
    for model, shares in wins.groupby("model", sort=False):
        similarity = np.nan
        if "randomised_similarity" in own:
            similarity = own[own.model == model].randomised_similarity.mean()
        for metric in shares:
            share, better = shares[metric].mean(), int((shares[metric] > 0.5).sum())
            decided = int((shares[metric] != 0.5).sum())
            p = stats.binomtest(better, decided).pvalue if decided else 1.0
            reasons = {"chance": dead[model]} if model in dead else {}
            if share < PREFERRED or p > LEVEL:
                reasons["noise"] = beaten(noise, share)
            if similarity >= PERSISTENT:
                reasons["shuffled"] = (
                    f"shuffled parameters leave the map as it was: correlation {similarity:.2f}"
                )
            rows.append(
                {
                    **{"model": model, "metric": metric, "beats_random": share, "sign_p": p},
                    **{"randomised_similarity": similarity, "trustworthy": not reasons},
                    **{"fails": ", ".join(reasons), "why": "; ".join(reasons.values())},
                }
            )
        if model in dead and "adcc" in shares:  # made of means, so no image can prefer it
            of_means = {"metric": "adcc_of_means", "beats_random": np.nan, "sign_p": np.nan}
            failed = {"trustworthy": False, "fails": "chance", "why": dead[model]}
            rows.append(rows[-1] | of_means | failed)
    return pd.DataFrame(rows)


def beaten(noise: str, share: float) -> str:
    """How a method of maps that know nothing compares, where this share prefers the real map."""
    if share == 0:
        return f"a {noise} map scores better: none of the images prefers the real one"
    if share < 0.5:
        return f"a {noise} map scores better: {share:.0%} of the images prefer the real one"
    return f"a {noise} map scores about as well: {share:.0%} of the images prefer the real one"
