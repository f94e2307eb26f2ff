"""The plain report of a study."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from kdxai.protocol import TRUTH
from kdxai.report import tables
from kdxai.study import stats
from kdxai.study.stats import STATISTICS

DEGENERATE = ("degenerate", "degenerate_masked")
CONTROLS = ("random", "centred_gaussian", "edges", TRUTH)


def report(
    results: Mapping[str, Mapping[str, Any]],
    measured: Mapping[str, pd.DataFrame],
    agreement: pd.DataFrame,
    records: pd.DataFrame,
    figures: Sequence[str],
    provenance: Mapping[str, Any],
) -> str:
    """Everything that a study found, on one page.

    Args:
      results: run's name -> its `result.json`.
      measured: file name -> tables of every method.
      agreement: a row per pair of models, seed, method and image.
      records: a row per model, seed, method and image.
      figures: file names below `figures/`.
      provenance: what made the numbers.
    """
    models = pd.DataFrame(
        {
            name: {
                "model": r["model"],
                "parameters": f"{r['parameters']:,}",
                "test accuracy": f"{r['test_accuracy']:.2%}",
                "best epoch": r["best_epoch"],
                "training": f"{r['seconds']:,.0f} s",
            }
            for name, r in results.items()
        }
    ).T
    counts = (
        records.groupby(["model", "method"], sort=False)[list(DEGENERATE)]
        .agg(lambda column: (column != "").sum())
        .rename(columns={"degenerate": "of the image", "degenerate_masked": "of the masked image"})
    )
    counts.index = [f"{model}, {method}" for model, method in counts.index]
    parts = ["# Explanations before and after compression", "## Models", tables.markdown(models)]
    for table in measured.values():
        for method, rows in table.groupby("method", sort=False):
            parts += [
                f"## {method}, {rows.n.iloc[0]:,} test images",
                tables.markdown(tables.readable(rows)),
            ]
    parts += [
        "Means with 95 % bootstrap intervals over images; `a - b` is the mean paired difference. "
        "An arrow says which way is better.",
        *methods_section(records),
        *preferences_section(records),
        *cascade_section(records),
        *agreement_section(agreement),
        "## Zero and constant maps",
        "Counted above with the values that their definitions give, never left out.",
        tables.markdown(counts),
        "## Figures",
        *(f"![{name.removesuffix('.png').replace('-', ' ')}](figures/{name})" for name in figures),
        "## Provenance",
        "\n".join(f"- {key}: {value}" for key, value in provenance.items()),
    ]
    return "\n\n".join(parts) + "\n"


def agreement_section(agreement: pd.DataFrame) -> list[str]:
    """How alike two models explain the same images."""
    if agreement.empty:
        return []
    numbers = agreement.drop(columns=["seed", "image"])
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
    """Which metrics tell explanations from controls, where controls were measured."""
    methods = list(records.method.unique())
    controls = [name for name in CONTROLS if name in methods[1:]]
    if not controls:
        return []
    blind = [name for name in controls if name != TRUTH]
    pairs = [(methods[0], control) for control in blind]
    if TRUTH in controls:
        pairs += [(TRUTH, other) for other in (*blind, methods[0])]
    parts = [
        "## Which metrics tell an explanation from a control",
        "The share of images on which a metric prefers the one to the other (ties count half): 0.5 "
        "is indifference, and a metric below it prefers the second.",
    ]
    for model, rows in records.groupby("model", sort=False):
        shares = {f"{a} over {b}": stats.preferences(rows, a, b)[model] for a, b in pairs}
        table = pd.DataFrame(shares)
        table.index = [tables.title(name) for name in table.index]
        parts += [f"{model}:", tables.markdown(table.map("{:.2f}".format))]
    return parts
