"""The models by what they tell of themselves: what they are, what they cost, how accurate they are.

A classifier of one's own may tell nothing.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd

from kdxai import compress
from kdxai.models.trained import Trained
from kdxai.report.report import DASH, Cell, Model, Part, Section, named, row, table
from kdxai.study.design import Design
from kdxai.study.members import Member
from kdxai.study.origins import ORIGINS
from kdxai.study.records import Shelf

WORTH = ("parameters", "multiply_adds", "bytes", "seconds_per_image")  # of `compress.worth`
Slots = Mapping[str, int]
Facts = Mapping[str, Any]
Network = tuple[str, int]  # name of the model, number of the network
Results = Mapping[Network, Facts]  # with `sha256`
ALIKE = 1.25  # sizes that differ by less are called equal


def network(facts: Facts) -> str:
    """What it is called where it was made, else where it was found."""
    return facts.get("model") or facts.get("place") or "a classifier handed in"


def accuracy(facts: Facts) -> float:
    """Its own, of the whole test split; else that of the images that were measured."""
    return facts.get("test_accuracy", facts.get("measured_accuracy"))


def origin(facts: Facts) -> str:
    """How it came to be."""
    kind = facts.get("origin", {}).get("kind")
    if kind in ORIGINS:
        return ORIGINS[kind].told(facts)
    return kind or "handed in as a function"


def worths(members: Sequence[Member], shelf: Shelf) -> dict[str, dict[str, Any]]:
    """What the first network of each model takes, measured once.

    What its facts tell already is not measured again, and equal networks are as fast as each other.
    """
    seconds: dict[Any, float] = {}
    found = {}
    for one in members:
        known = set(WORTH) <= one.model.facts.keys()
        if one.name in found or known or not isinstance(one.model, Trained):
            continue
        columns = {"model": one.name, "seed": one.seed, "what": "worth"}
        measure = partial(worth, one.model)
        taken = shelf.cached(columns, [shelf.model(one.model)], measure)
        own = {name: taken[name].iloc[0].item() for name in WORTH}
        fast = seconds.setdefault(one.model.model, own["seconds_per_image"])
        found[one.name] = own | {"seconds_per_image": fast}
    return found


def worth(model: Trained) -> pd.DataFrame:
    """A row of what a model takes."""
    return pd.DataFrame([compress.worth(model)])


def counted(value: float) -> str:
    """`77,850`, `12.5 million`."""
    for name, size in (("billion", 1e9), ("million", 1e6)):
        if value >= size:
            return f"{value / size:.3g} {name}"
    return f"{value:,.0f}"


FORMS = {  # of WORTH: how it is written, and what stands behind it in a sentence
    "parameters": (counted, " parameters"),
    "multiply_adds": (counted, " multiply-adds"),
    "bytes": (lambda value: f"{value / 1000:,.0f} kB", " compressed"),
    "seconds_per_image": (lambda value: f"{1000 * value:.2g} ms", " per image"),
}


def size(own: Facts) -> str:
    """What a model takes, in words; what is not known is left out."""
    known = [f"{form(own[name])}{unit}" for name, (form, unit) in FORMS.items() if name in own]
    return ", ".join([network(own), *known])


def beside(own: Facts, its: Facts, called: str) -> str:
    """`smaller than the teacher: 1/4 of its parameters and 1/3.3 of its multiply-adds`.

    Which one is the larger is read off their numbers: smaller by both, or by the one that is known.
    """
    names = {"parameters": "parameters", "multiply_adds": "multiply-adds"}
    ratios = {name: own[key] / its[key] for key, name in names.items() if key in own and key in its}
    if not ratios:
        return ""
    word = "of another shape than"
    if max(ratios.values()) < 1 / ALIKE:
        word = "smaller than"
    elif min(ratios.values()) > ALIKE:
        word = "larger than"
    elif all(1 / ALIKE <= ratio <= ALIKE for ratio in ratios.values()):
        word = "as large as"
    said = [f"{share(ratio)} its {name}" for name, ratio in ratios.items() if ratio != 1]
    return f"{word} {called}{': ' * bool(said)}{' and '.join(said)}"


def share(ratio: float) -> str:
    """`1/6.1 of`, `2.5 times`."""
    return f"1/{1 / ratio:.2g} of" if ratio < 1 / ALIKE else f"{ratio:.2g} times"


def introduced(
    results: Results, main: pd.DataFrame, models: Sequence[str], design: Design, slots: Slots
) -> list[Model]:
    """The models, each with what it is beside the reference.

    Args:
      main: `stats.table` of the main method.
    """
    of, first = families(results), design.reference
    return [
        Model(
            name=named(name, slots),
            accuracy=f"{mean_accuracy(of[name]):.1%}",
            of=beside_accuracy(name, of[name], main),
            role=design.roles.get(name, ""),
            size=size(of[name][0]),
            beside=beside(of[name][0], of[first][0], design.called(first)) if name != first else "",
        )
        for name in models
    ]


def mean_accuracy(family: Sequence[Facts]) -> float:
    return sum(map(accuracy, family)) / len(family)


def measured_on(results: Results, models: Sequence[str], main: pd.DataFrame) -> str:
    """Of what the accuracies of `introduced` are, said once for all models."""
    of, images = families(results), f"the {main.n.max():,} images explained"
    if not any("test_accuracy" in of[name][0] for name in models):
        return f"Accuracy is of {images}."
    return (
        f"Accuracy is of all test images; below it, where it differs, that of {images}, which are "
        "sampled from them."
    )


def beside_accuracy(name: str, family: Sequence[Facts], main: pd.DataFrame) -> str:
    """What a model's accuracy has beside it: that in Table 1, and those of its networks."""
    rows = main[(main.model == name) & (main.other == "") & (main.metric == "accuracy")]
    explained, parts = rows["mean"].iloc[0], []
    if "test_accuracy" not in family[0]:
        parts.append("of the images explained")
    elif abs(explained - mean_accuracy(family)) >= 0.0005:
        parts.append(f"{explained:.1%} of those explained")
    if len(family) > 1:
        low, high = min(map(accuracy, family)), max(map(accuracy, family))
        parts.append(f"{len(family)} networks, {100 * low:.1f} to {high:.1%}")
    return "; ".join(parts)


def families(results: Results) -> dict[str, list[Facts]]:
    """The facts of every model's networks."""
    found: dict[str, list[Facts]] = {}
    for (name, _), own in results.items():
        found.setdefault(name, []).append(own)
    return found


def section(results: Results, slots: Slots) -> Section:
    """What every model is and what it costs: of several networks, the first."""
    columns = ["Model", "Network", "Parameters", "Multiply-adds", "Size", "Time", "Accuracy"]
    lines = []
    for name, family in families(results).items():
        own = family[0]
        costs = [form(own[key]) if key in own else DASH for key, (form, _) in FORMS.items()]
        several = [f"{len(family)} networks"] if len(family) > 1 else []
        right = Cell(f"{mean_accuracy(family):.2%}", several)
        lines.append(row(named(name, slots), network(own), *costs, right))
    text = (
        "Multiply-adds are those of convolutions and classifier for one image; the size is that of "
        "the weights, compressed; the time per image was taken here, in batches of 32."
    )
    shown = table("What the models are", columns, lines)
    return Section("models", "Models", "Models", [Part(text=text, table=shown)])
