"""How alike networks explain: each and its own of another model, and all with all."""

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from kdxai import classifiers, evaluate
from kdxai.data.datasets import Split
from kdxai.measures import Model
from kdxai.metrics.agreement import METRICS
from kdxai.protocol import Protocol, needs
from kdxai.study import lines
from kdxai.study.design import Pair
from kdxai.study.distances import Pairwise
from kdxai.study.members import Member
from kdxai.study.records import Shelf, numbered


class MapRequest(NamedTuple):
    """Which maps networks are compared by.

    Attributes:
      shelf: where they are cached.
      images: numbers of images of the split.
    """

    shelf: Shelf
    protocol: Protocol
    split: Split
    images: np.ndarray

    def depends(self, *models: Model) -> list[str]:
        """What anything depends on that is drawn by these models."""
        images = [self.shelf.images(self.split, self.images)]
        if needs(self.protocol.method, "background"):
            images.append(self.shelf.images(self.split))
        return [*map(self.shelf.model, models), *images, repr(self.protocol)]

    def show(self, model: Model, name: str, **options: Any) -> evaluate.Shown:
        """`evaluate.show` of the images."""
        some = self.split.select(self.images)
        return evaluate.show(
            classifiers.as_classifier(model, self.protocol, self.split.image),
            some.image,
            self.protocol,
            mean=model.mean,
            std=model.std,
            masks=some.mask,
            name=name,
            **options,
        )


def is_worth_pairs(members: Sequence[Member]) -> bool:
    """Whether all are compared with all: a model has two networks, or one was compressed."""
    sizes = Counter(one.name for one in members)
    kinds = {one.model.facts.get("origin", {}).get("kind") for one in members}
    return max(sizes.values()) > 1 or "compress" in kinds


def all_with_all(members: Sequence[Member], view: MapRequest, records: pd.DataFrame) -> Pairwise:
    """The agreement of all networks, for the true class of every image; its values lie on the disk.

    Args:
      records: of the method, with all of these networks and images.
    """

    def pairs() -> dict[str, np.ndarray]:
        maps = all_maps(members, view)
        height, width = view.split.image.shape[1:3]
        name = f"{view.protocol.method}: {len(members)} networks, all with all"
        return evaluate.pairwise(maps, (height, width), name=name)

    columns = {"what": "all-with-all", "method": view.protocol.method}
    depends = view.depends(*(one.model for one in members))
    values = view.shelf.arrays(columns, [*METRICS], depends, pairs)
    networks = pd.DataFrame(
        [(one.name, one.seed, one.line) for one in members], columns=["model", "seed", "line"]
    )
    right = predictions(members, view, records) == view.split.label[view.images][:, None]
    return Pairwise(networks, view.images, right, values)


def predictions(members: Sequence[Member], view: MapRequest, records: pd.DataFrame) -> np.ndarray:
    """[N, M] the class that every network predicts, from their records."""
    known = records.set_index(["model", "seed", "image"]).predicted.sort_index()
    return np.stack([known[one.name, one.seed][view.images] for one in members], 1)


def all_maps(members: Sequence[Member], view: MapRequest) -> list[np.ndarray]:
    """`own_maps` of every network, saying how far it is."""
    places = [f", {number} of {len(members)}" for number in range(1, len(members) + 1)]
    return [own_maps(one, view, place) for one, place in zip(members, places, strict=True)]


def own_maps(one: Member, view: MapRequest, place: str = "") -> np.ndarray:
    """[N, h, w] for the true class of every image; cached, so that they are drawn once.

    Args:
      place: which of how many, for the progress bar.
    """
    method = view.protocol.method

    def maps() -> Mapping[str, np.ndarray]:
        # Random numbers of its own, whatever else is drawn; equal networks have equal ones.
        stream = int(hashlib.sha256(view.shelf.model(one.model).encode()).hexdigest()[:7], 16)
        labels = view.split.label[view.images]
        options = {"classes": labels, "ids": view.images, "stream": stream}
        name = f"{one.name} {one.seed} {method} maps{place}"
        return {"maps": view.show(one.model, name, **options).maps}

    columns = {"model": one.name, "seed": one.seed, "method": method}
    return view.shelf.arrays(columns, ["maps"], [*view.depends(one.model), "label"], maps)["maps"]


def agreement_rows(
    members: Sequence[Member],
    compare: Sequence[Pair],
    view: MapRequest,
    pairwise: Pairwise | None,
    records: pd.DataFrame,
) -> list[pd.DataFrame]:
    """How alike each network and its own of the other model explain, for every pair of models.

    Its own is that of its line, or the only one there is. Where populations share no line, each
    network has its mean agreement with all of the other population, from `pairwise`: on its images,
    for their true class.

    Args:
      records: of the method.
    """
    found = []
    for pair in compare:
        ones, others = ([one for one in members if one.name == name] for name in pair)
        own = lines.shared([one.line for one in ones], [one.line for one in others])
        if not own and len(others) == 1:
            own = [(place, 0) for place in range(len(ones))]
        found += [pair_agreement(view, ones[i], others[j]) for i, j in own]
        if not own and pairwise is not None:
            wide = view._replace(images=pairwise.images)
            predicted = [predictions(some, wide, records) for some in (ones, others)]
            found += with_population(pair, wide, pairwise, predicted)
    return found


def with_population(
    pair: Pair, view: MapRequest, pairwise: Pairwise, predicted: Sequence[np.ndarray]
) -> list[pd.DataFrame]:
    """Rows of each network of one model: its mean agreement with all of the other.

    Args:
      predicted: [N, n] and [N, m] by the networks of either.
    """
    others, found = pairwise.places(pair[1]), []
    for place, answer in zip(pairwise.places(pair[0]), predicted[0].T, strict=True):
        network = pairwise.networks.iloc[place]
        columns = {"model": pair[0], "other": pair[1], "seed": network.seed, "line": network.line}
        columns["method"] = view.protocol.method
        same = (answer[:, None] == predicted[1]).mean(1)
        values = {
            metric: alike[:, pairwise.pairs(place, others)].mean(1)
            for metric, alike in pairwise.values.items()
        }
        rows = numbered(pd.DataFrame({"same_class": same, **values}), pairwise.images)
        found.append(rows.assign(**columns)[[*columns, *rows]])
    return found


def pair_agreement(view: MapRequest, one: Member, other: Member) -> pd.DataFrame:
    """How alike two networks explain the images, for the class that `other` predicts."""
    columns = {"model": one.name, "other": other.name, "seed": one.seed, "line": one.line}
    columns["method"] = view.protocol.method

    def rows() -> pd.DataFrame:
        some = view.split.select(view.images)
        found = evaluate.compare(
            classifiers.as_classifier(one.model, view.protocol, view.split.image),
            reference(view, other),
            some.image,
            view.protocol,
            mean=one.model.mean,
            std=one.model.std,
            masks=some.mask,
            name=f"{one.name} {other.name} {one.seed} {view.protocol.method}",
        )
        return numbered(found, view.images)

    depends = ["agreement", *view.depends(one.model, other.model)]
    return view.shelf.cached(columns, depends, rows)


def reference(view: MapRequest, other: Member) -> evaluate.Shown:
    """What a network shows of the class it predicts, drawn once for all compared with it."""
    columns = {"model": other.name, "seed": other.seed, "method": view.protocol.method}

    def shown() -> Mapping[str, np.ndarray]:
        name = f"{other.name} {other.seed} {view.protocol.method} reference"
        return view.show(other.model, name, stream=evaluate.OTHER)._asdict()

    depends = [*view.depends(other.model), "predicted"]
    return evaluate.Shown(**view.shelf.arrays(columns, evaluate.Shown._fields, depends, shown))
