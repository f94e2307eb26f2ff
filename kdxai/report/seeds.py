"""How alike the networks of a study explain: two seeds of one population, two populations."""

import itertools
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kdxai.report import titles
from kdxai.report.facts import Network
from kdxai.report.sweep import Agreement, Band, Sweep, agreements, band, kinds, networks_of
from kdxai.study.distances import Pairwise

MOST = 48  # networks in a matrix whose values can be read
KINDS_TOLD = 10  # pairs of populations that a reader takes in


class Pairs(NamedTuple):
    """Agreement of the pairs of one kind.

    Attributes:
      what: which pairs.
      within: whether both are of one population, and so differ in their seed alone.
      alike: whether they differ in nothing but the networks, so that they have a mean.
      values: the mean over images of each pair.
      says: which pair each is.
    """

    what: str
    within: bool
    alike: bool
    values: Sequence[float]
    says: Sequence[str]


class Alike(NamedTuple):
    """Agreement of all with all.

    Attributes:
      groups: (model, how many networks of it), in the order of the matrix.
      networks: what its rows are called.
      matrix: [M, M] mean agreement: below the diagonal on all images, above it on those that both
        networks get right (NaN where there are none).
      left_out: how many compressed networks have no row, where there are too many to be read.
      pairs: by kind.
      reference, band: the population whose pairs are the seed band, and that; "" and None where
        none has two networks.
      images: how many.
    """

    groups: Sequence[tuple[str, int]]
    networks: Sequence[str]
    matrix: np.ndarray
    left_out: int
    pairs: Sequence[Pairs]
    reference: str
    band: Band | None
    images: int


Populations = Mapping[str, Sequence[Network]]


def alike(
    pairwise: Pairwise,
    sweeps: Sequence[Sweep],
    reference: str,
    compare: Collection[tuple[str, str]] = (),
) -> Alike:
    """All that is told of `pairwise`.

    Args:
      sweeps: of the study; compressed networks stand behind all others.
      compare: pairs of models, which alone are told where there are more than `KINDS_TOLD` of two.
      reference: the population whose pairs are the seed band, if it has any; else the first that
        has.
    """
    networks = networks_of(pairwise)
    lines = dict(zip(networks, pairwise.networks.line, strict=True))
    children = {(row.model, row.seed) for one in sweeps for row in one.networks.itertuples()}
    dense = populations(one for one in networks if one not in children)
    few = len(networks) <= MOST
    shown = dense | (populations(one for one in networks if one in children) if few else {})
    order = list(itertools.chain.from_iterable(shown.values()))
    on_all, on_right = agreements(pairwise).values()
    several = [name for name, own in dense.items() if len(own) > 1]
    first = reference if reference in several else next(iter(several), "")
    return Alike(
        groups=[(name, len(own)) for name, own in shown.items()],
        networks=[titles.network(*one, alone=len(shown[one[0]]) == 1) for one in order],
        matrix=np.array(
            [
                [
                    (on_all if place > other else on_right)[one, two]
                    for other, two in enumerate(order)
                ]
                for place, one in enumerate(order)
            ]
        ),
        left_out=len(networks) - len(order),
        pairs=[*dense_pairs(dense, lines, on_all, compare), *child_pairs(sweeps)],
        reference=first,
        band=band(on_all[pair] for pair in itertools.combinations(dense[first], 2))
        if first
        else None,
        images=len(pairwise.images),
    )


def populations(networks: Iterable[Network]) -> dict[str, list[Network]]:
    found: dict[str, list[Network]] = {}
    for one in networks:
        found.setdefault(one[0], []).append(one)
    return found


def dense_pairs(
    dense: Populations,
    lines: Mapping[Network, str],
    values: Agreement,
    compare: Collection[tuple[str, str]],
) -> list[Pairs]:
    """Two of one population, then one of each of two: with its own, where they share lines."""
    found = []
    for name, own in dense.items():
        if len(own) > 1:
            found.append(
                pairs(f"two of {titles.model(name)}", itertools.combinations(own, 2), values)
            )
    between = list(itertools.combinations(dense, 2))
    if len(between) > KINDS_TOLD:
        between = [pair for pair in between if {pair, pair[::-1]} & set(compare)]
    for one, other in between:
        every = list(itertools.product(dense[one], dense[other]))
        shared = [(a, b) for a, b in every if lines[a] == lines[b]]
        what = f"{titles.model(one)} and {'its ' if shared else ''}{titles.model(other)}"
        found.append(pairs(what, shared or every, values)._replace(within=False))
    return found


def pairs(
    what: str,
    those: Iterable[tuple[Network, Network]],
    values: Agreement,
) -> Pairs:
    those = list(those)
    says = [f"{titles.network(*one)} and {titles.network(*two)}" for one, two in those]
    return Pairs(what, True, True, [values[pair] for pair in those], says)


def child_pairs(sweeps: Sequence[Sweep]) -> list[Pairs]:
    """A network and the one that it was compressed from, by kind."""
    found = []
    for one in sweeps:
        for name, rows in kinds(one):
            its = one.networks[one.networks.model.isin(rows.model)]
            says = [f"{row.model} {row.seed}, {row.strength}" for row in its.itertuples()]
            what = f"{titles.model(one.dense)} and its child: {name}"
            found.append(Pairs(what, False, False, list(its.agreement), says))
    return found
