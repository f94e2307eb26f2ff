"""One image's maps along a sweep: a strip for each kind of compression."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from kdxai.report import cards
from kdxai.report.charts.sweeps import kinds
from kdxai.report.facts import Network
from kdxai.report.overlay import overlay
from kdxai.report.sweep import ALIKE, Agreement, Sweep, networks_of
from kdxai.study.distances import Pairwise


class Seen(NamedTuple):
    """One image by the networks of a sweep.

    Attributes:
      number: of the image in the records.
      class_name: its true class, whose maps these are.
      image: [H, W, C] uint8.
      maps: network -> [h, w] in [0, 1]; one dense network, and what was made of it.
    """

    number: int
    class_name: str
    image: np.ndarray
    maps: Mapping[Network, np.ndarray]


class Frame(NamedTuple):
    """A network's map of the image.

    Attributes:
      strength: how strongly it was compressed; "dense" of the parent.
      accuracy: of the network on all images.
      agreement: of its map with the parent's, on this image.
      dead: whether the network is at chance.
      right: whether it names the image's class.
      description: of the map, for those who do not see it.
    """

    strength: str
    factor: float
    accuracy: float
    agreement: float
    dead: bool
    right: bool
    description: str


class Film(NamedTuple):
    """A kind of compression, from the parent on; `uri` has the frames side by side."""

    kind: str
    slot: int
    uri: str
    frames: Sequence[Frame]


def films(one: Sweep, seen: Seen, pairwise: Pairwise, records: pd.DataFrame) -> list[Film]:
    """A strip for each kind, behind the dense network treated alike where there is one.

    Args:
      pairwise, records: of the maps' method; the image is among theirs.
    """
    answers = records[records.image == seen.number].set_index(["model", "seed"])
    right = answers.predicted == answers.label
    alike = of_image(pairwise, seen.number)
    parent = next(network for network in seen.maps if network[0] == one.dense)
    accuracy = float(one.parents.set_index("seed").accuracy[parent[1]])
    first = Frame(
        *("dense", 1.0, accuracy, 1.0, False, bool(right[parent])),
        cards.described(seen.maps[parent]),
    )
    own = one.networks.set_index(["model", "seed"])
    found = []
    for kind in kinds(one):
        if kind.dense:
            continue
        mine = one.steps.kind == kind.name
        treatment = one.steps.treatment[mine].iloc[0]
        before = one.steps.dense & (one.steps.treatment == treatment)
        models = [*one.steps.model[before], *one.steps.model[mine]]
        networks = [n for model in models for n in seen.maps if n[0] == model]
        frames = [
            Frame(
                *(own.strength[n] or own.kind[n], own.factor[n], own.accuracy[n], alike[n, parent]),
                *(bool(own.collapsed[n]), bool(right[n]), cards.described(seen.maps[n])),
            )
            for n in networks
        ]
        pictures = [overlay(seen.image, seen.maps[n]) for n in (parent, *networks)]
        row = np.concatenate([cards.shrunk(Image.fromarray(each)) for each in pictures], 1)
        uri = cards.png_uri(Image.fromarray(row))
        found.append(Film(kind.name, kind.slot, uri, [first, *frames]))
    return found


def of_image(pairwise: Pairwise, number: int) -> Agreement:
    """(network, network) -> how alike their maps of one image are."""
    networks = networks_of(pairwise)
    [place] = np.flatnonzero(np.asarray(pairwise.images) == number)
    pairs = itertools.combinations(networks, 2)
    found = {}
    for (one, two), value in zip(pairs, pairwise.values[ALIKE][place], strict=True):
        found[one, two] = found[two, one] = float(value)
    return found


def first_family(one: Sweep) -> list[Network]:
    """The first of the dense networks, and those that were made of it."""
    seed = int(one.parents.seed.iloc[0])
    own = one.networks[one.networks.parent == seed]
    return [(one.dense, seed), *zip(own.model, own.seed, strict=True)]
