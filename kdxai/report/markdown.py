"""The plain report of a study."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import quote

import pandas as pd

from kdxai.protocol import TRUTH
from kdxai.report import facts, tables
from kdxai.report.networks import NO_NETWORKS, Networks
from kdxai.report.plain import compression_section, noise_section
from kdxai.study import checks
from kdxai.study.design import Design
from kdxai.study.measure import Measured
from kdxai.study.stats import FEWEST, STATISTICS

DEGENERATE = ("degenerate", "degenerate_masked")
BLIND = ("random", "centred_gaussian", "edges")  # maps that know nothing of the model


def report(
    results: Mapping[str, Mapping[str, Any]],
    measured: Measured,
    figures: Sequence[str],
    provenance: Mapping[str, Any],
    many: Networks = NO_NETWORKS,
) -> str:
    """Everything that a study found, on one page.

    Args:
      results: model's name -> its facts.
      measured: all that was found.
      figures: file names below `figures/`.
      provenance: what made the numbers.
      many: what is told of sweeps and of seed noise.
    """
    records, trust = measured.records, measured.trust
    parts = [f"# {measured.design.title}"]
    parts += [part for one in many.compression for part in compression_section(one)]
    parts += claims_section(measured.claims)
    parts += noise_section(many.noise) if many.noise else []
    parts += models_section(results)
    doubts = set()
    if len(trust):
        doubts = set(
            trust[~trust.trustworthy][["model", "metric"]].itertuples(index=False, name=None)
        )
    first = records.method.iloc[0]
    for table in measured.tables.values():
        for method, rows in table.groupby("method", sort=False):
            parts += [
                f"## {method}, {rows.n.iloc[0]:,} test images",
                tables.markdown(tables.readable(rows, doubts if method == first else set())),
            ]
    said = over(measured.tables["table1"], measured.design)
    parts += [
        f"Means with 95 % intervals {said}; `a - b` is the mean paired "
        "difference. An arrow says which way is better."
        + (f" {tables.DOUBT} not trustworthy here, see the checks below." if doubts else "")
        + (f" {tables.FEW} {tables.TOO_FEW}." if records.image.nunique() < FEWEST else ""),
        *seeds_section(measured.seeds),
        *differences_section(measured.differences),
        *trust_section(trust),
        *tables.notes(records, measured.missing),
        *methods_section(records),
        *preferences_section(records),
        *cascade_section(records),
        *agreement_section(measured.agreement),
        *degenerate_section(records),
        "## Figures",
        *(
            f"![{name.removesuffix('.png').replace('-', ' ')}](figures/{quote(name)})"
            for name in figures
        ),
        "## Provenance",
        "\n".join(f"- {key}: {value}" for key, value in provenance.items()),
    ]
    return "\n\n".join(parts) + "\n"


def models_section(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """What each model tells of itself."""
    told = {
        name: {
            "model": facts.network(own),
            "parameters": facts.parameters(own),
            "accuracy": f"{facts.accuracy(own):.2%}",
            "origin": facts.origin(own),
        }
        for name, own in results.items()
    }
    return ["## Models", tables.markdown(pd.DataFrame(told).T)]


def degenerate_section(records: pd.DataFrame) -> list[str]:
    """How many maps are zero or another constant."""
    counts = (
        records.groupby(["model", "method"], sort=False)[list(DEGENERATE)]
        .agg(lambda column: (column != "").sum())
        .rename(columns={"degenerate": "of the image", "degenerate_masked": "of the masked image"})
    )
    counts.index = [f"{model}, {method}" for model, method in counts.index]
    return [
        "## Zero and constant maps",
        "Counted above with the values that their definitions give, never left out.",
        tables.markdown(counts),
    ]


def over(table: pd.DataFrame, design: Design) -> str:
    """What the intervals are about."""
    if table.networks.max() == 1:
        return "over images, which speak of these trained models (one seed)"
    many = tables.networks_said(table)
    return f"over {many} and images, which speak of {design.population()}"


def claims_section(claims: pd.DataFrame) -> list[str]:
    """The ledger, and the verdicts of every rung where there are several."""
    if claims.empty:
        return []
    parts = [
        "## Claims",
        f"Declared before the run, judged {tables.scope(claims)}; p adjusted by Holm's method.",
        tables.markdown(tables.ledger(claims)),
        *filter(None, [tables.reasons(claims)]),
    ]
    if claims.rung.nunique() > 1:
        parts += [
            f"The same claims, from the {claims.rung.iloc[0]} protocol down to the sound one, one "
            f"repair per row, about {claims.about.iloc[-1]}: {tables.LEGEND}.",
            tables.markdown(tables.verdicts(claims)),
        ]
    return parts


def seeds_section(seeds: pd.DataFrame) -> list[str]:
    """What each seed gives, of the main metrics, where there are several."""
    if seeds.empty or seeds.seed.nunique() == 1:
        return []
    parts = ["## Each seed"]
    main = seeds[seeds.metric.isin(tables.MAIN)]
    for method, rows in main.groupby("method", sort=False):
        wide = rows.pivot(index=["model", "metric"], columns="seed", values="mean")
        wide = wide.loc[list(dict.fromkeys(zip(rows.model, rows.metric, strict=True)))]
        lines = wide.rename(columns="seed {}".format).map("{:.3f}".format)
        lines.index = [f"{model}: {tables.title(metric)}" for model, metric in wide.index]
        parts += [f"{method}, means over images:", tables.markdown(lines)]
    return parts


def differences_section(differences: pd.DataFrame) -> list[str]:
    """How large the differences are, by other measures, and where both models are right."""
    rows = differences[differences.metric.isin(tables.MAIN)] if len(differences) else differences
    if rows.empty:
        return []
    parts = ["## Differences"]
    for (method, one, other), pair in rows.groupby(["method", "one", "other"], sort=False):
        lines = pd.DataFrame(
            {
                tables.title(row.metric): {
                    "difference": tables.interval(row.mean, row.ci_low, row.ci_high),
                    "in seed-to-seed floors": tables.number(row.in_floors, "+.1f"),
                    "rank-biserial": tables.number(row.rank_biserial, "+.2f"),
                    "Wilcoxon p": tables.number(row.wilcoxon_p, ".2g"),
                    f"both right ({row.n_correct:,.0f} images)": tables.interval(
                        row.mean_correct, row.ci_low_correct, row.ci_high_correct
                    ),
                }
                for row in pair.itertuples()
            }
        ).T
        parts += [f"{tables.difference(one, other)}, {method}:", tables.markdown(lines)]
    parts.append(
        "A floor is how much two runs of one recipe differ (root mean square). Wilcoxon's test and "
        "the rank-biserial correlation are over images, of these trained models."
    )
    return parts


def trust_section(trust: pd.DataFrame) -> list[str]:
    """Which metrics fail their sanity checks."""
    if trust.empty:
        return []
    parts = ["## Sanity checks", "Metrics that are not trustworthy here, and why:"]
    failed = trust[~trust.trustworthy]
    parts += [
        "\n".join(f"- {model}: {tables.title(row.metric)}: {row.why}" for row in rows.itertuples())
        for model, rows in failed.groupby("model", sort=False)
    ]
    return parts if len(failed) else [*parts[:1], "Every metric passes them."]


def agreement_section(agreement: pd.DataFrame) -> list[str]:
    """How alike two models explain the same images."""
    if agreement.empty:
        return []
    numbers = agreement.drop(columns=["seed", "line", "image"], errors="ignore")
    means = numbers.groupby(["model", "other", "method"], sort=False).mean()
    means.index = [f"{one} and {other}, {method}" for one, other, method in means.index]
    return [
        "## Agreement of two models on the same image and class",
        tables.markdown(means.map("{:.3f}".format)),
        "Means over images, both maps on the image's grid, for the class that the second model "
        "predicts; `same_class` is how often both predict it.",
    ]


def cascade_section(records: pd.DataFrame) -> list[str]:
    """What is left of each model's maps while its stages are randomised, where it was measured."""
    if "cascade_top_down" not in records:
        return []
    parts = [
        "## Maps while the model is randomised",
        "Spearman's correlation with the original map, means over images. Top-down reads from left "
        "to right: the head's parameters are shuffled, then those of the next stage too, and so "
        "on; bottom-up reads from right to left. A map that depends on what was learnt falls to 0.",
    ]
    for model, rows in records.groupby("model", sort=False):
        curves = {}
        for direction in ("top_down", "bottom_up"):
            found = [
                (int(match[1]), match[2], name)
                for name in rows.dropna(axis=1)
                if (match := re.fullmatch(rf"cascade_{direction}_(\d+)_(.+)", name))
            ]
            stages = {name: stage for _, stage, name in sorted(found)}
            means = rows.groupby("method", sort=False)[list(stages)].mean().rename(columns=stages)
            for method, curve in means.iterrows():
                curves[f"{method}, {direction.replace('_', '-')}"] = curve
        down = next(iter(curves.values())).index
        table = pd.DataFrame(curves).loc[down].T
        parts += [f"{model}:", tables.markdown(table.map("{:.3f}".format))]
    return parts


def methods_section(records: pd.DataFrame) -> list[str]:
    """Every model's methods side by side, where there are several."""
    if records.method.nunique() == 1:
        return []
    parts = ["## Methods side by side"]
    for model, rows in records.groupby("model", sort=False):
        metrics = [name for name in STATISTICS if name in rows]
        means = rows.groupby("method", sort=False)[metrics].mean().T
        means.index = [tables.title(name) for name in metrics]
        parts += [f"{model}, means over {rows.image.nunique():,} test images:"]
        parts += [tables.markdown(means.map("{:.3f}".format))]
    return parts


def preferences_section(records: pd.DataFrame) -> list[str]:
    """Which metrics tell explanations from blind maps, where such were measured."""
    methods = list(records.method.unique())
    blind = [name for name in BLIND if name in methods[1:]]
    pairs = [(methods[0], other) for other in blind]
    if TRUTH in methods[1:]:
        pairs += [(TRUTH, other) for other in (*blind, methods[0])]
    if not pairs:
        return []
    parts = [
        "## Which metrics tell an explanation from a map that knows nothing",
        "The share of images on which a metric prefers the one to the other (ties count half): 0.5 "
        "is indifference, and a metric below it prefers the second.",
    ]
    for model, rows in records.groupby("model", sort=False):
        shares = {f"{a} over {b}": checks.preferences(rows, a, b)[model] for a, b in pairs}
        table = pd.DataFrame(shares)
        table.index = [tables.title(name) for name in table.index]
        parts += [f"{model}:", tables.markdown(table.map("{:.2f}".format))]
    return parts
