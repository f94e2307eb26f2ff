"""A sweep of compressions: what is left of each network at which factor, beside seed noise."""

import itertools
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kdxai.report import facts
from kdxai.report.facts import Facts, Network, Results
from kdxai.study import checks, distances
from kdxai.study.distances import Pairwise

Agreement = Mapping[tuple[Network, Network], float]
# A column of agreement -> which images it is of, as `distances.noise` calls them.
ON = {"agreement": "all", "agreement_right": "both right"}
ALIKE = "pearson"  # the measure of agreement that the charts are of
NUMBERS = ("accuracy", "adcc", *ON)
FARTHER = ("gap", "ci_low", "ci_high", "units", "p")  # of `distances.noise`


class Band(NamedTuple):
    """The range of what networks give that differ in their seed alone.

    Attributes:
      low, mean, high: of the values.
      size: how many values: networks, or pairs of them.
    """

    low: float
    mean: float
    high: float
    size: int


class Sweep(NamedTuple):
    """All compressions of one population.

    Attributes:
      dense: its name.
      parents: a row per network of it: `seed, accuracy, adcc`.
      networks: a row per compressed network: `model, seed, parent` (the number of its parent),
        `kind, strength, treatment, dense` (nothing was taken from it), `control` (what was taken
        was drawn at random), `factor, accuracy, adcc, agreement, agreement_right, collapsed`.
      steps: a row per compressed model, those of a kind from the weakest to the strongest: `model,
        kind, strength, treatment, dense, control`, means of the numbers above, `networks`, and how
        many of them are `collapsed`; of `distances.noise` beside the dense population `gap, ci_low,
        ci_high, units, p`, on all images and, with `_right`, on those that both get right.
      bands: column -> the parents' own; of agreement only where there are two parents.
    """

    dense: str
    parents: pd.DataFrame
    networks: pd.DataFrame
    steps: pd.DataFrame
    bands: Mapping[str, Band]


def sweeps(
    results: Results, records: pd.DataFrame, pairwise: Pairwise | None, noise: pd.DataFrame
) -> list[Sweep]:
    """One for each population of the study that compressed networks descend from.

    Args:
      records: of one method, with `model, seed, image, label, predicted, adcc`.
      pairwise: how alike all networks explain by that method; None where it was not measured.
      noise: `distances.noise` by that method; may be empty.
    """
    families = descent(results)
    if not families:
        return []
    adcc = records.groupby(["model", "seed"]).adcc.mean()
    collapsed = checks.collapsed(records).set_index(["model", "seed"]).collapsed
    alike = agreements(pairwise)
    found = []
    for dense in dict.fromkeys(parent for parent, _ in families.values()):
        own = [network for network in results if network[0] == dense]
        parents = pd.DataFrame(
            {
                "seed": [seed for _, seed in own],
                "accuracy": [facts.accuracy(results[network]) for network in own],
                "adcc": [adcc[network] for network in own],
            }
        )
        networks = pd.DataFrame(
            [
                {"model": child[0], "seed": child[1], "parent": parent[1]}
                | told(results[child])
                | {"adcc": adcc[child], "collapsed": collapsed[child]}
                | {name: table.get((child, parent), np.nan) for name, table in alike.items()}
                for child, parent in families.items()
                if parent[0] == dense
            ]
        )
        spread: dict[str, list[float]] = {name: [*parents[name]] for name in ("accuracy", "adcc")}
        for name, table in alike.items():
            spread[name] = [table.get(pair, np.nan) for pair in itertools.combinations(own, 2)]
        bands = {name: band(values) for name, values in spread.items() if np.isfinite(values).any()}
        found.append(Sweep(dense, parents, networks, steps(networks, dense, noise), bands))
    return found


def descent(results: Results) -> dict[Network, Network]:
    """Compressed network -> the network of the study that it descends from, where that is there."""
    dense: dict[str, Network] = {}
    for network, own in results.items():
        if not compressed(own):
            dense.setdefault(own["sha256"], network)
    roots = {n: own["origin"]["root_sha256"] for n, own in results.items() if compressed(own)}
    return {network: dense[root] for network, root in roots.items() if root in dense}


def compressed(own: Facts) -> bool:
    """Whether the facts are of a compressed network."""
    return own.get("origin", {}).get("kind") == "compress"


def agreements(pairwise: Pairwise | None) -> dict[str, Agreement]:
    """Column of agreement -> how alike two networks explain, on average."""
    if pairwise is None:
        return {name: {} for name in ON}
    names = networks_of(pairwise)
    found: dict[str, Agreement] = {}
    for name, images in ON.items():
        values = distances.agreement_matrix(pairwise, ALIKE, both_right=images == "both right")
        pairs = itertools.product(enumerate(names), repeat=2)
        found[name] = {(one, two): float(values[i, j]) for (i, one), (j, two) in pairs}
    return found


def networks_of(pairwise: Pairwise) -> list[Network]:
    return list(zip(pairwise.networks.model, pairwise.networks.seed, strict=True))


def told(own: Facts) -> dict[str, Any]:
    """What a compressed network is, from its facts."""
    origin = own["origin"]
    return {
        "kind": kind(origin),
        "strength": strength(origin),
        "treatment": treatment(origin),
        "dense": origin["how"] == "none",
        "control": origin["settings"].get("by") == "random",
        "factor": own["factor"],
        "accuracy": facts.accuracy(own),
    }


def kind(origin: Mapping[str, Any]) -> str:
    """What was done to a network, however strongly: a line of the charts."""
    how, settings = origin["how"], origin["settings"]
    by = settings.get("by", "")
    name = {
        "none": "dense",
        "quantise": "weights and activations quantised"
        if settings.get("activations")
        else "weights quantised",
        "prune": f"pruned {'at random' if by == 'random' else f'by {by}'}",
        "structured": f"channels pruned by {'L1 norm' if by == 'l1' else 'BatchNorm scale'}",
        "factorise": "factorised",
    }.get(how, how)
    if how == "prune" and settings.get("scope") == "layer":
        name += " in each layer"
    after = {"tuned": ", fine-tuned", "batch_norm": ", BatchNorm re-estimated", "": ""}
    return name + after[treatment(origin)]


def treatment(origin: Mapping[str, Any]) -> str:
    """What came after a compression: "tuned", "batch_norm" or, where nothing did, ""."""
    if origin.get("tuned_epochs"):
        return "tuned"
    return "batch_norm" if origin.get("batch_norm") else ""


def strength(origin: Mapping[str, Any]) -> str:
    """How strongly, as it was asked for."""
    settings = origin["settings"]
    forms = {
        "bits": ("{} bits", 1),
        "sparsity": ("{:.4g} % pruned", 100),
        "share": ("{:.4g} % of channels removed", 100),
        "rank": ("{:.4g} % of the rank", 100),
    }
    said = [form.format(by * settings[key]) for key, (form, by) in forms.items() if key in settings]
    return ", ".join(said)


def band(values: Iterable[float]) -> Band:
    """Of the values that are known."""
    found = np.array([value for value in values if not np.isnan(value)])
    return Band(float(found.min()), float(found.mean()), float(found.max()), len(found))


def steps(networks: pd.DataFrame, dense: str, noise: pd.DataFrame) -> pd.DataFrame:
    """A row per compressed model, see `Sweep`."""
    same = ["kind", "strength", "treatment", "dense", "control"]
    models = networks.groupby("model", sort=False)
    found = models[same].first()
    found["factor"] = np.exp(np.log(networks.factor).groupby(networks.model).mean())
    found = found.join(models[[*NUMBERS]].mean())
    found = found.join(models.collapsed.sum()).assign(networks=models.size())
    for name, images in ON.items():
        rows = pd.DataFrame(columns=[*FARTHER], dtype=float)
        if len(noise):
            its = (noise.metric == ALIKE) & (noise.other == dense) & (noise.on == images)
            rows = noise[its].set_index("one")[[*FARTHER]]
        found = found.join(rows.add_suffix(name.removeprefix("agreement")))
    kinds = list(dict.fromkeys(found.kind))
    order = found.assign(kind=found.kind.map(kinds.index)).sort_values(["kind", "factor"]).index
    return found.loc[order].reset_index()


class Leaving(NamedTuple):
    """Where a kind of compression leaves the seed band.

    Attributes:
      inside: the strongest step before it leaves; None where the first is outside.
      outside: the weakest step that is outside, or has a network at chance; None where none is.
    """

    kind: str
    control: bool
    inside: pd.Series | None
    outside: pd.Series | None


def leaving(sweep: Sweep, column: str = "agreement") -> list[Leaving]:
    """Of every kind, dense controls left out; none where there is no band.

    A step is outside where its networks agree with their parents, on average, less than the least
    alike two of the parents agree with each other.

    Args:
      column: of agreement, one of `ON`.
    """
    if column not in sweep.bands:
        return []
    least = sweep.bands[column].low
    found = []
    for name, rows in kinds(sweep):
        if rows.dense.any():
            continue
        out = (rows[column] < least) | (rows.collapsed > 0)
        first = int(out.argmax()) if out.any() else len(rows)
        found.append(
            Leaving(
                name,
                bool(rows.control.iloc[0]),
                rows.iloc[first - 1] if first else None,
                rows.iloc[first] if first < len(rows) else None,
            )
        )
    return found


def kinds(sweep: Sweep) -> list[tuple[str, pd.DataFrame]]:
    """The steps of every kind, in the study's order."""
    return [(name, rows) for name, rows in sweep.steps.groupby("kind", sort=False)]


def times(factor: float) -> str:
    """`4.0`, `21`: a factor as one reads it."""
    return f"{factor:.1f}" if factor < 9.95 else f"{factor:.0f}"
