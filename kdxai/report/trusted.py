"""Which numbers are not to be trusted, and why; maps that show nothing."""

import re
from collections.abc import Mapping

import numpy as np
import pandas as pd

from kdxai.protocol import TRUTH
from kdxai.report import tables, titles
from kdxai.report.report import (
    Part,
    Row,
    Section,
    by_metric,
    folded,
    grouped,
    named,
    number,
    row,
    table,
)
from kdxai.study import checks

BLIND = ("random", "centred_gaussian", "edges")  # maps that know nothing of the model
DEGENERATE = ("degenerate", "degenerate_masked")
KINDS = ("zero", "constant")
CODES = {"chance": "C", "noise": "R", "shuffled": "S"}  # of `checks.FAILS`


def reasons(trust: pd.DataFrame, slots: Mapping[str, int]) -> list[Part]:
    """Metrics down, models across: by what each number fails its sanity checks."""
    if trust.empty:
        return []
    failed = trust[~trust.trustworthy.astype(bool)]
    if failed.empty:
        return [Part(text="Every metric passes its sanity checks.")]
    found = {(one.model, one.metric): coded(one) for one in failed.itertuples()}
    models, order = list(trust.model.unique()), [*tables.MAIN, *trust.metric]
    metrics = sorted(failed.metric.unique(), key=order.index)
    lines = by_metric(metrics, models, lambda metric, name: found.get((name, metric), ""))
    many = "1 number is" if len(found) == 1 else f"{len(found)} numbers are"
    name = f"Sanity checks: why {many} not trustworthy here"
    shown = table(name, ("Metric", *(named(one, slots) for one in models)), lines)
    used = [key for key in CODES if failed.fails.str.contains(key).any()]
    legend = [f"{CODES[key]}: {checks.FAILS[key]}" for key in used]
    if "noise" in used:
        legend.append("behind R, the share of images on which the metric prefers the real map")
    if "shuffled" in used:
        legend.append("behind S, the rank correlation of the maps before and after")
    dead = failed.why[failed.fails == "chance"].unique()
    notes = [f"{'; '.join(legend)}.", *(f"{why}." for why in dead)]
    return [folded(shown, notes=notes)]


def coded(failed: pd.Series) -> str:
    """`R 40%`, `C`: why a number is not trustworthy."""
    said = {
        "chance": "C",
        "noise": "R",
        "shuffled": f"S {number(failed.randomised_similarity, '.2f')}",
    }
    if not np.isnan(failed.beats_random):
        said["noise"] += f" {failed.beats_random:.0%}"
    return ", ".join(said[name] for name in failed.fails.split(", "))


def preferences(records: pd.DataFrame) -> list[Part]:
    """Which metrics tell explanations from blind maps, where such were measured."""
    methods = list(records.method.unique())
    blind = [name for name in BLIND if name in methods[1:]]
    pairs = [(methods[0], other) for other in blind]
    if TRUTH in methods[1:]:
        pairs += [(TRUTH, other) for other in (*blind, methods[0])]
    if not pairs:
        return []
    columns = ["Metric", *(" over ".join(map(titles.method, pair)) for pair in pairs)]
    shares = {pair: checks.preferences(records, *pair) for pair in pairs}
    metrics = shares[pairs[0]].index

    def rows(model: str) -> list[Row]:
        return by_metric(
            metrics, pairs, lambda metric, pair: number(shares[pair][model][metric], ".2f")
        )

    groups = [(titles.model(model), rows(model)) for model in records.model.unique()]
    heading = "Which metrics tell an explanation from a map that knows nothing"
    text = (
        "The share of images on which a metric prefers the one to the other (ties count half): 0.5 "
        "is indifference, and a metric below it prefers the second."
    )
    return [folded(grouped(heading, columns, groups), text=text)]


def cascade(records: pd.DataFrame) -> list[Part]:
    """What is left of each model's maps while its stages are randomised, where it was measured."""
    if "cascade_top_down" not in records:
        return []
    heading, parts = "Maps while the model is randomised", []
    for model, rows in records.groupby("model", sort=False):
        rows = rows.dropna(axis=1)
        lines: list[Row] = []
        stages: dict[str, str] = {}
        for direction in ("top_down", "bottom_up"):
            pattern = re.compile(rf"cascade_{direction}_(\d+)_(.+)")
            matches = [match for name in rows if (match := pattern.fullmatch(name))]
            mine = {
                match[2]: match[0] for match in sorted(matches, key=lambda match: int(match[1]))
            }
            stages = stages or mine
            means = rows.groupby("method", sort=False)[list(mine.values())].mean()
            for method, curve in means.iterrows():
                head = f"{titles.method(method)}, {direction.replace('_', '-')}"
                lines.append(row(head, *(number(curve[mine[stage]]) for stage in stages)))
        name = f"{heading}: {titles.model(model)}"
        parts.append(folded(table(name, ("Method", *stages), lines)))
    text = (
        "Spearman's correlation with the original map, means over images. Top-down reads from left "
        "to right: the head's parameters are shuffled, then those of the next stage too, and so "
        "on; bottom-up reads from right to left. A map that depends on what was learnt falls to 0."
    )
    return [Part(heading, text=text), *parts]


def degenerate(records: pd.DataFrame, slots: Mapping[str, int]) -> Section:
    """How many maps are zero or another constant."""
    columns = ["Model", "Method", "Maps", "Zero", "Other constant"]
    columns += ["Zero, of the masked image", "Other constant, of the masked image"]
    lines = []
    for (model, method), rows in records.groupby(["model", "method"], sort=False):
        counts = [(rows[column] == kind).sum() for column in DEGENERATE for kind in KINDS]
        numbers = [f"{count:,}" for count in (len(rows), *counts)]
        lines.append(row(named(model, slots), titles.method(method), *numbers))
    text = (
        "A map that is the same everywhere explains nothing. Such maps are counted above with the "
        "values that their definitions give, never left out."
    )
    title = "Zero and constant maps"
    shown = table("How many maps are zero or constant", columns, lines)
    return Section("degenerate", "Empty maps", title, [Part(text=text, table=shown)])
