"""The ledger of claims: declared before the run, judged by one rule."""

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import pandas as pd

from kdxai.errors import UserError
from kdxai.study import intervals, stats
from kdxai.study.checks import at_chance
from kdxai.study.intervals import LEVEL, NO_SPREAD
from kdxai.study.stats import FEWEST, OF_MODEL, STATISTICS

FIELDS = ("says", "metric", "one", "other", "direction", "matters")
DIRECTIONS = ("lower", "higher", "not_lower")
ACROSS = ("auto", "seeds", "images")
NUMBERS = ("mean", "ci_low", "ci_high", "p", "p_holm", "across", "about", "seeds", "n", "verdict")
ABOUT = {"seeds": "the recipes", "images": "these networks"}  # what verdicts are about
NOT_TESTABLE = "not testable"
OF_ANSWERS = ("accuracy", "same_class")  # what models at chance score badly in


def check(
    claims: Mapping[str, Mapping], models: Collection[str], seeds: int, across: str = "auto"
) -> None:
    """Refuse claims that cannot be judged, before any time is spent on them.

    Args:
      claims: as for `judge`.
      models: names of those that the study plans.
      seeds: how many replicates it plans.

    Raises:
      UserError: a claim lacks a field or has one too many; its model, metric or direction is
        unknown; its two models are one; its margin is no positive number; there is no such
        `across`, or it is `seeds` with fewer than two.
    """
    if across not in ACROSS:
        raise UserError(f"claims are judged across {', '.join(ACROSS)}, not '{across}'")
    if across == "seeds" and seeds < 2:
        raise UserError(
            f"a verdict between seeds needs at least 2 seeds, not {seeds}; ask for more, or judge "
            "across images"
        )
    for name, claim in claims.items():
        if set(claim) != set(FIELDS):
            raise UserError(f"the claim '{name}' needs exactly the fields {', '.join(FIELDS)}")
        for key, known in (
            *(("one", models), ("other", models)),
            *(("metric", STATISTICS), ("direction", DIRECTIONS)),
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
                f"the claim '{name}' has matters={margin}; give the smallest difference that "
                "matters, a number above 0"
            )


def about(verdicts: pd.DataFrame, population: str) -> pd.Series:
    """What verdicts are about, with the name of what several members of a model speak of."""
    return verdicts.about.replace(ABOUT["seeds"], population)


def judge(
    records: pd.DataFrame,
    claims: Mapping[str, Mapping],
    *,
    across: str = "auto",
    resamples: int,
    seed: int = 0,
    reference: str | None = None,
) -> pd.DataFrame:
    """The verdict on every claim, by the rule of `verdict` alone.

    All is about the mean difference d = one - other, its 95 % interval (`intervals.estimate`) and
    the two-sided p that agrees with it (`intervals.p_values`). The hypothesis tested is d = 0, for
    `not_lower` d = -matters. Wilcoxon's test is no substitute: it rejects for skewed differences of
    mean 0. Holm (1979) adjusts p over all claims given, so that at most 5 % of such families hold
    one claim, or more, that is called supported or contradicted by chance; that holds for claims
    that depend on each other too. Of differences as skewed as two lognormals' a test at 0.5 % errs
    in 1.3 % with 20 images, 0.9 % with 100 and 0.5 % with 500.

    `across="seeds"` generalises to new runs of the recipes and to new images; `"images"` speaks of
    these networks, whatever another seed would have given: of two equal recipes nearly every two
    networks differ. `"auto"` is the former where there are two seeds or more.

    What cannot be tested has a verdict of its own, *not testable*, whatever its numbers:

    - a claim about the maps or the calibration of a model at chance (`checks.at_chance`), or about
      agreement with such a reference: a network that learned nothing scores well in most metrics;
    - a claim about means of fewer than 20 images, whose intervals do not cover (`stats.few`).

    Args:
      records, reference: as for `stats.table`; `stats.with_agreement` adds what claims about the
        agreement with the reference need.
      claims: name -> `says` (one sentence), `metric`, `one`, `other`, `direction` (`lower`,
        `higher`, `not_lower`: of `one`), `matters` (the smallest difference that does).

    Returns:
      Columns `claim`, the fields, `mean, ci_low, ci_high, p, p_holm, across, about` ("the recipes"
      or "these networks"), `seeds, n, verdict`, `why` it is not testable, else empty, and
      `verdict_correct`: the same on the images that both models classify correctly with every
      seed, Holm over its own family; empty where that has no meaning (accuracy, calibration, the
      same class) or fewer than 20 images. What was not measured has NaN. That, and a difference
      that is the same on every image and seed, is undecided: there is nothing to test it by.

    Raises:
      UserError: as `check`; models or seeds have different images.
    """
    seeds = records.seed.nunique()
    check(claims, list(records.model.unique()), seeds, across)
    if not claims:
        return pd.DataFrame()
    if across == "auto":
        across = "seeds" if seeds > 1 else "images"
    options: dict[str, Any] = {"resamples": resamples, "seed": seed}
    samples = stats.resampled(records, reference=reference, **options)
    found, on_correct = {}, {}
    for one, other in dict.fromkeys((claim["one"], claim["other"]) for claim in claims.values()):
        found[one, other] = intervals.estimate(samples[one].minus(samples[other]), across)
        correct = stats.both_correct(records, one, other)
        if correct.image.nunique() >= FEWEST:
            pair = stats.resampled(correct, **options)
            on_correct[one, other] = intervals.estimate(pair[one].minus(pair[other]), across)
    of_maps = {
        name: claim
        for name, claim in claims.items()
        if claim["metric"] not in OF_MODEL and (claim["one"], claim["other"]) in on_correct
    }
    table = ledger(claims, found, across)
    table["why"], table["verdict_correct"] = untestable(claims, records, reference), ""
    if of_maps:
        table.loc[list(of_maps), "verdict_correct"] = ledger(of_maps, on_correct, across).verdict
    table.loc[table.why != "", "verdict"] = NOT_TESTABLE
    table.loc[(table.why != "") & (table.verdict_correct != ""), "verdict_correct"] = NOT_TESTABLE
    return table.assign(seeds=seeds, n=records.image.nunique()).rename_axis("claim").reset_index()


def untestable(
    claims: Mapping[str, Mapping], records: pd.DataFrame, reference: str | None
) -> list[str]:
    """Why each claim cannot be tested; "" where it can."""
    dead, n = at_chance(records), records.image.nunique()
    found = []
    for claim in claims.values():
        models = [claim["one"], claim["other"]]
        if of_agreement(claim):
            models.append(reference)
        reasons = [dead[model] for model in models if model in dead]
        if claim["metric"] in OF_ANSWERS:
            reasons = []
        if stats.few(claim["metric"], n):
            reasons.append(f"{n} images are too few, at least {FEWEST} are needed")
        found.append("; ".join(reasons))
    return found


def ledger(
    claims: Mapping[str, Mapping], found: Mapping[tuple[str, str], pd.DataFrame], across: str
) -> pd.DataFrame:
    """The rows of `judge`, by claim, from the `intervals.estimate` of every pair's difference."""
    rows = []
    for claim in claims.values():
        numbers = found[claim["one"], claim["other"]].reindex([claim["metric"]])
        rows.append({key: claim[key] for key in FIELDS} | numbers.iloc[0].to_dict())
    table = pd.DataFrame(rows, index=list(claims))
    null = -table.matters.where(table.direction == "not_lower", 0.0)
    table["p"] = intervals.p_values(table, null)
    table["p_holm"] = holm(table.p.to_numpy())
    table["across"], table["about"] = across, ABOUT[across]
    table["verdict"] = [
        verdict(row.direction, row.matters, row.mean, row.ci_low, row.ci_high, row.p_holm)
        if row.error > NO_SPREAD
        else "undecided"
        for row in table.itertuples()
    ]
    return table[[*FIELDS, *NUMBERS]]


def verdict(direction: str, matters: float, mean: float, low: float, high: float, p: float) -> str:
    """The rule, of what is not *not testable* (see `judge`).

    Let g be the difference in the claimed direction, and p as adjusted by Holm.

    - `lower`, `higher`: *supported* if p <= 0.05 and g >= matters; *contradicted* if p <= 0.05 and
      g <= -matters; *no meaningful difference* if the whole 95 % interval is inside (-matters,
      matters), which is two one-sided tests at 2.5 % (Schuirmann 1987); else *undecided*.
    - `not_lower` (non-inferiority): *supported* if p <= 0.05 and g > -matters; *contradicted* if
      p <= 0.05 and g < -matters; else *undecided*.
    """
    if direction == "lower":
        mean, low, high = -mean, -high, -low
    if -matters < low and high < matters and direction != "not_lower":
        return "no meaningful difference"
    least = -matters if direction == "not_lower" else matters
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
    config: Mapping[str, Any], known: Collection[str], models: Collection[str], seeds: int
) -> dict[str, Mapping]:
    """The claims of a config that are about models which are there.

    Args:
      config: with `claims` and `across`.
      known: every name that a claim may use.
      models: those that are there.

    Raises:
      UserError: as `check`.
    """
    check(config["claims"], known, seeds, config["across"])
    return {
        name: claim
        for name, claim in config["claims"].items()
        if {claim["one"], claim["other"]} <= set(models)
    }


def of_agreement(claim: Mapping) -> bool:
    """Whether a claim is about the agreement with the reference."""
    return claim["metric"].startswith("agreement_")


def pairs(claims: Mapping[str, Mapping], reference: str) -> list[tuple[str, str]]:
    """The pairs of models whose agreement the claims are about."""
    about = [claim for claim in claims.values() if of_agreement(claim)]
    models = dict.fromkeys(claim[side] for claim in about for side in ("one", "other"))
    return [(model, reference) for model in models if model != reference]
