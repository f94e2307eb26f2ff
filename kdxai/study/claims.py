"""The ledger of claims: declared before the run, judged by one rule."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from kdxai.errors import UserError
from kdxai.study import intervals, stats
from kdxai.study.beyond import beyond_noise
from kdxai.study.checks import at_chance
from kdxai.study.design import Design, Pair
from kdxai.study.distances import Pairwise
from kdxai.study.intervals import LEVEL, NO_SPREAD, Sample
from kdxai.study.stats import FEWEST, OF_MODEL, PAIRWISE, STATISTICS

FIELDS = ("says", "metric", "one", "other", "direction", "matters")
BEYOND = "beyond_noise"
DIRECTIONS = ("lower", "higher", "not_lower", "not_higher", BEYOND)
ACROSS = ("auto", "seeds", "images")
NUMBERS = (
    *("mean", "ci_low", "ci_high", "p", "p_holm", "across", "about", "seeds", "networks"),
    *("networks_other", "design", "n", "caution", "verdict"),
)
OF_PAIR = ("across", "seeds", "networks", "networks_other", "design")
ABOUT = {"seeds": "the recipes", "images": "these networks"}  # what verdicts are about
NOT_TESTABLE = "not testable here"
OF_ANSWERS = ("accuracy", "same_class")  # what models at chance score badly in


def check(
    claims: Mapping[str, Mapping],
    models: Collection[str],
    sizes: Mapping[str, int],
    across: str = "auto",
) -> None:
    """Refuse claims that cannot be judged, before any time is spent on them.

    Args:
      claims: as for `judge`.
      models: every name that a claim may use.
      sizes: how many networks each of the models has that are there.

    Raises:
      UserError: a claim lacks a field or has one too many; its model, metric or direction is
        unknown; its two models are one; its margin is no positive number; there is no such
        `across`, or it is `seeds` with a model of a single network; `beyond_noise` is claimed of
        what seeds differ by in a model of a single network.
    """
    if across not in ACROSS:
        raise UserError(f"claims are judged across {', '.join(ACROSS)}, not '{across}'")
    if across == "seeds" and max(sizes.values(), default=2) < 2:
        raise UserError(
            "a verdict between seeds needs at least 2 seeds, not 1; ask for more, or judge across "
            "images"
        )
    for name, claim in claims.items():
        require_claim(name, claim, models)
        is_beyond = claim["direction"] == BEYOND
        if is_beyond and sizes.get(claim["other"], 2) < 2:
            raise UserError(
                f"the claim '{name}' needs at least 2 networks of '{claim['other']}', to know how "
                "far seeds differ; give more"
            )
        single = [claim[key] for key in ("one", "other") if sizes.get(claim[key], 2) < 2]
        if across == "seeds" and single and not is_beyond:
            raise UserError(
                f"the claim '{name}' across seeds needs at least 2 networks of '{single[0]}', not "
                "1; give more, or judge across images"
            )


def require_claim(name: str, claim: Mapping, models: Collection[str]) -> None:
    """Check that a claim can be judged.

    Raises:
      UserError: a claim is none, whatever networks there are.
    """
    if set(claim) != set(FIELDS):
        raise UserError(f"the claim '{name}' needs exactly the fields {', '.join(FIELDS)}")
    metrics = [*STATISTICS, *(PAIRWISE if claim["direction"] == BEYOND else ())]
    for key, known in (
        *(("one", models), ("other", models)),
        *(("direction", DIRECTIONS), ("metric", metrics)),
    ):
        if claim[key] not in known:
            raise UserError(
                f"the claim '{name}' has {key}='{claim[key]}'; known: {', '.join(known)}"
            )
    if claim["one"] == claim["other"]:
        raise UserError(f"the claim '{name}' compares '{claim['one']}' with itself")
    margin = claim["matters"]
    if not isinstance(margin, int | float) or not 0 < margin < np.inf:
        raise UserError(
            f"the claim '{name}' has matters={margin}; give the smallest difference that matters, "
            "a number above 0"
        )


def about(verdicts: pd.DataFrame, design: Design) -> list[str]:
    """What verdicts are about, with the name of what the members of each pair speak of."""
    return [
        design.population(row.one, row.other) if row.about == ABOUT["seeds"] else row.about
        for row in verdicts.itertuples()
    ]


def judge(
    records: pd.DataFrame,
    claims: Mapping[str, Mapping],
    *,
    across: str = "auto",
    resamples: int,
    seed: int = 0,
    reference: str | None = None,
    distances: Pairwise | None = None,
    trust: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """The verdict on every claim, by the rule of `verdict` alone.

    All is about the mean difference d = one - other, its 95 % interval (`intervals.estimate`) and
    the two-sided p that agrees with it (`intervals.p_values`). The hypothesis tested is d = 0, for
    `not_lower` d = -matters, for `not_higher` d = matters. Wilcoxon's test is no substitute: it
    rejects for skewed differences of mean 0. Holm (1979) adjusts p over all claims given, so that
    at most 5 % of such families hold one claim, or more, that is called supported or contradicted
    by chance; that holds for claims that depend on each other too. Of differences as skewed as two
    lognormals' a test at 0.5 % errs in 1.3 % with 20 images, 0.9 % with 100 and 0.5 % with 500.

    `across="seeds"` generalises to networks like these, such as new runs of the recipes, and to new
    images; `"images"` speaks of these networks, whatever another seed would have given: of two
    equal recipes nearly every two networks differ. `"auto"` is the former of a claim whose models
    both have two networks or more: a single one says nothing of others.

    `beyond_noise` is about g, how much further `one` is from `other` than two networks of `other`
    are from each other, with interval and one-sided p of `permutation.beyond`, always across
    networks (a single one of `one` stands for itself). Two networks are as far as their means over
    images are, or, by `pairwise_pearson` and so on, 1 - the mean agreement of their maps. What
    contradicts it is its interval alone, which Holm does not widen: by chance at most 2.5 % of such
    claims each.

    What cannot be tested has a verdict of its own, *not testable here*, whatever its numbers:

    - a claim by a metric that fails its sanity checks (`checks.trust`) of either model;
    - a claim about the maps or the calibration of a model at chance (`checks.at_chance`), or about
      agreement with such a reference: a network that learned nothing scores well in most metrics;
    - a claim about means of fewer than 20 images, whose intervals do not cover (`stats.few`).

    Args:
      records, reference: as for `stats.table`; `stats.with_agreement` adds what claims about the
        agreement with the reference need.
      claims: name -> `says` (one sentence), `metric`, `one`, `other`, `direction` (`lower`,
        `higher`, `not_lower`, `not_higher`, `beyond_noise`: of `one`), `matters` (the smallest
        difference that does).
      distances: the agreement of all networks with all, for the metrics `pairwise_*`.
      trust: `checks.trust` of the method that the records are of, where it was checked.

    Returns:
      Columns `claim`, the fields, `mean` (d, or g), `ci_low, ci_high, p, p_holm, across, about`
      ("the recipes" or "these networks"), `seeds, networks, networks_other, design, n, caution`
      (as of `intervals.estimate`), `verdict`, `why` it is not testable, else empty, and
      `verdict_correct`: the same on the images that both models classify correctly with every
      network (of `pairwise_*`: of each two networks, on those that both do), Holm over its own
      family; empty where that has no meaning (accuracy, calibration, the same class) or fewer than
      20 images. What was not measured has NaN. That, and a difference
      that is the same on every image and network, is undecided: there is nothing to test it by.

    Raises:
      UserError: as `check`; models or seeds have different images.
    """
    sizes = records.groupby("model", sort=False).seed.nunique().to_dict()
    check(claims, list(sizes), sizes, across)
    if not claims:
        return pd.DataFrame()
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    samples = stats.resampled_statistics(records, reference=reference, **options)
    found: dict[tuple[str, ...], pd.DataFrame] = {}
    on_correct: dict[tuple[str, ...], pd.DataFrame] = {}
    for pair, mine in by_pair(claims).items():
        metrics = dict.fromkeys(one["metric"] for one in mine if one["direction"] == BEYOND)
        said = pair, metrics, distances
        # What is beyond noise alone may be one network, whatever the others are judged across.
        how = "auto" if all(one["direction"] == BEYOND for one in mine) else across
        found[pair] = difference(samples, pair, how)
        found[*pair, BEYOND] = beyond_noise(samples, *said, **options)
        correct = stats.both_correct(records, *pair)
        if correct.image.nunique() >= FEWEST:
            right = stats.resampled_statistics(correct, **options)
            on_correct[pair] = difference(right, pair, how)
            on_correct[*pair, BEYOND] = beyond_noise(right, *said, True, **options)
    of_maps = {
        name: claim
        for name, claim in claims.items()
        if claim["metric"] not in OF_MODEL and (claim["one"], claim["other"]) in on_correct
    }
    table = ledger(claims, found)
    table["why"], table["verdict_correct"] = untestable(claims, records, reference, trust), ""
    if of_maps:
        table.loc[list(of_maps), "verdict_correct"] = ledger(of_maps, on_correct).verdict
    table.loc[table.why != "", "verdict"] = NOT_TESTABLE
    table.loc[(table.why != "") & (table.verdict_correct != ""), "verdict_correct"] = NOT_TESTABLE
    return table.assign(n=records.image.nunique()).rename_axis("claim").reset_index()


def by_pair(claims: Mapping[str, Mapping]) -> dict[Pair, list[Mapping]]:
    """The claims about each pair (one, other)."""
    found: dict[Pair, list[Mapping]] = {}
    for claim in claims.values():
        found.setdefault((claim["one"], claim["other"]), []).append(claim)
    return found


def difference(samples: Mapping[str, Sample], pair: Pair, across: str) -> pd.DataFrame:
    """`intervals.estimate` of a pair, `auto` decided.

    Raises:
      UserError: it is to be across seeds, and they share a single line.
    """
    one, other = pair
    gap = samples[one].minus(samples[other])
    if across == "seeds" and min(gap.networks) < 2:
        raise UserError(
            f"'{one}' and '{other}' have one network each that belong together; a verdict between "
            "seeds needs 2, so judge across images"
        )
    several = min(gap.networks) > 1
    return intervals.estimate(gap, "seeds" if across != "images" and several else "images")


def untestable(
    claims: Mapping[str, Mapping],
    records: pd.DataFrame,
    reference: str | None,
    trust: pd.DataFrame | None = None,
) -> list[str]:
    """Why each claim cannot be tested; "" where it can."""
    dead, n = at_chance(records), records.image.nunique()
    found = []
    for claim in claims.values():
        models = [claim["one"], claim["other"]]
        if of_agreement(claim):
            models.append(reference)
        reasons = [dead[model] for model in models if model in dead]
        if not reasons:
            reasons = failed_by(claim, trust)
        if claim["metric"] in OF_ANSWERS:
            reasons = []
        if stats.few(claim["metric"], n):
            reasons.append(f"{n} images are too few, at least {FEWEST} are needed")
        found.append("; ".join(reasons))
    return found


def failed_by(claim: Mapping, trust: pd.DataFrame | None) -> list[str]:
    """Why the metric of a claim is not to be trusted, with the models that it is so of."""
    if trust is None or trust.empty:
        return []
    models = claim["one"], claim["other"]
    rows = trust[~trust.trustworthy & (trust.metric == claim["metric"]) & trust.model.isin(models)]
    return [f"{why} ({', '.join(own.model)})" for why, own in rows.groupby("why", sort=False)]


def ledger(
    claims: Mapping[str, Mapping], found: Mapping[tuple[str, ...], pd.DataFrame]
) -> pd.DataFrame:
    """The rows of `judge`, by claim.

    Args:
      found: the `intervals.estimate` of every pair's difference, and by (one, other,
        "beyond_noise") what `beyond_noise` returns.
    """
    rows = []
    for claim in claims.values():
        pair = claim["one"], claim["other"]
        numbers = found[pair]
        of_pair = numbers.iloc[0][[*OF_PAIR]]  # also of what was not measured
        if claim["direction"] == BEYOND:
            numbers, of_pair["across"] = found[*pair, BEYOND], "seeds"
        row = numbers.reindex([claim["metric"]]).iloc[0].dropna()
        rows.append({key: claim[key] for key in FIELDS} | of_pair.to_dict() | row.to_dict())
    table = pd.DataFrame(rows, index=list(claims))
    table = table.reindex(columns=dict.fromkeys([*table, *intervals.FOR_TESTS, *NUMBERS, "p"]))
    null = table.matters * table.direction.map({"not_lower": -1.0, "not_higher": 1.0}).fillna(0.0)
    p = intervals.p_values(table, null)
    table["p"] = p.where(table.direction != BEYOND, table.p.astype(float).fillna(1.0))
    table["p_holm"] = holm(table.p.to_numpy())
    table["about"] = table.across.where(table.networks > 1, "images").map(ABOUT)
    table["caution"] = table.caution.astype(object).fillna("")
    table["verdict"] = [
        verdict(row.direction, row.matters, row.mean, row.ci_low, row.ci_high, row.p_holm)
        if row.error > NO_SPREAD
        else "undecided"
        for row in table.itertuples()
    ]
    return table[[*FIELDS, *NUMBERS]]


def verdict(direction: str, matters: float, mean: float, low: float, high: float, p: float) -> str:
    """The rule, of what can be tested (see `judge`).

    Let g be the difference in the claimed direction, and p as adjusted by Holm.

    - `lower`, `higher`: *supported* if p <= 0.05 and g >= matters; *contradicted* if p <= 0.05 and
      g <= -matters; *no meaningful difference* if the whole 95 % interval is inside (-matters,
      matters), which is two one-sided tests at 2.5 % (Schuirmann 1987); else *undecided*.
    - `not_lower`, `not_higher` (non-inferiority): *supported* if p <= 0.05 and g > -matters;
      *contradicted* if p <= 0.05 and g < -matters; else *undecided*.
    - `beyond_noise`, g the gap: *supported* if p <= 0.05 and g >= matters; *contradicted* if the
      whole 95 % interval is below matters; else *undecided*.
    """
    if direction == BEYOND:
        if p <= LEVEL and mean >= matters:
            return "supported"
        return "contradicted" if high < matters else "undecided"
    if direction in ("lower", "not_higher"):
        mean, low, high = -mean, -high, -low
    no_worse = direction in ("not_lower", "not_higher")
    if -matters < low and high < matters and not no_worse:
        return "no meaningful difference"
    least = -matters if no_worse else matters
    if p <= LEVEL and mean >= least:
        return "supported"
    if p <= LEVEL and mean <= -matters:
        return "contradicted"
    return "undecided"


def holm(p: np.ndarray) -> np.ndarray:
    """[m] p values adjusted for their family (Holm 1979)."""
    order = np.argsort(p)
    adjusted = np.maximum.accumulate(np.sort(p) * np.arange(len(p), 0, -1))
    return np.minimum(adjusted, 1)[np.argsort(order)]


def declared(
    config: Mapping[str, Any], known: Collection[str], sizes: Mapping[str, int]
) -> dict[str, Mapping]:
    """The claims of a config that are about models which are there.

    Args:
      config: with `claims` and `across`.
      known: every name that a claim may use.
      sizes: how many networks each of the models has that are there.

    Raises:
      UserError: as `check`.
    """
    check(config["claims"], known, sizes, config["across"])
    return {
        name: claim
        for name, claim in config["claims"].items()
        if {claim["one"], claim["other"]} <= set(sizes)
    }


def of_agreement(claim: Mapping) -> bool:
    """Whether a claim is about the agreement with the reference."""
    return claim["metric"].startswith("agreement_")


def of_two_maps(claim: Mapping) -> bool:
    """Whether a claim is about how alike maps are, of the reference's or of all networks."""
    return of_agreement(claim) or claim["metric"] in PAIRWISE


def pairs(claims: Mapping[str, Mapping], reference: str) -> list[tuple[str, str]]:
    """The pairs of models whose agreement the claims are about."""
    about = [claim for claim in claims.values() if of_agreement(claim)]
    models = dict.fromkeys(claim[side] for claim in about for side in ("one", "other"))
    return [(model, reference) for model in models if model != reference]
