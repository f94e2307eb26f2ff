"""Does the map foretell what the answer loses without some pixels? About 130 forward passes each.

Relevance is the signed map, as the method drew it, resized to the image: not its values in [0, 1].
"""

import jax
import jax.numpy as jnp

from kdxai.explain.maps import resize
from kdxai.measures.measure import Column, Measure, Subject, Values
from kdxai.measures.perturbation import fill
from kdxai.metrics import correlation, regions

# Shares of the pixels, the one of the faithfulness correlation first, and subsets of each size.
SHARES, SUBSETS = (0.2, 0.05, 0.4, 0.8), 32
SQUARES = 8  # at most, to a side of the image


def relevance(subject: Subject) -> jax.Array:
    """[H, W] the signed map on the image's grid."""
    return resize(subject.explanation.raw, subject.image.shape[:2])


def by_subsets(subject: Subject) -> Values:
    """Pixels removed at random, a fixed number at a time."""
    signed = relevance(subject)
    sizes = [max(1, min(signed.size - 1, round(share * signed.size))) for share in SHARES]
    keys = jax.random.split(jax.random.fold_in(subject.key, 5), len(sizes))
    sets = [
        correlation.random_subsets(key, signed.shape, size, SUBSETS)
        for key, size in zip(keys, sizes, strict=True)
    ]
    found = correlation.removals(subject.probability, signed, fill(subject), jnp.concatenate(sets))
    by_size = jax.tree.map(lambda values: values.reshape(len(sizes), SUBSETS), found)
    first = jax.tree.map(lambda values: values[0], by_size)
    return {
        "faithfulness_correlation": correlation.correlation(first),
        "sensitivity_n": correlation.sensitivity_n(by_size),
        "infidelity": correlation.infidelity(found, scaled=True),
    }


def by_regions(subject: Subject) -> Values:
    """Squares of a grid removed, each alone, and one after the other."""
    signed = relevance(subject)
    squares = regions.squares(signed.shape, -(-max(signed.shape) // SQUARES))
    score, filled = subject.probability, fill(subject)
    alone = correlation.removals(score, signed, filled, regions.each_alone(squares))
    curve = regions.curve(score, signed, filled, squares)
    return {
        "faithfulness_estimate": correlation.correlation(alone),
        "monotonicity_correlation": correlation.monotonicity_correlation(alone),
        "monotonicity": regions.monotonicity(curve),
        "irof": regions.irof(curve),
        "selectivity": regions.selectivity(curve),
    }


CORRELATION = Measure(
    by_subsets,
    {
        "faithfulness_correlation": Column("Faithfulness correlation", 1),
        "sensitivity_n": Column("Sensitivity-n", 1),
        "infidelity": Column("Infidelity (best scale)", -1),
    },
    cost=8,
)
REGIONS = Measure(
    by_regions,
    {
        "faithfulness_estimate": Column("Faithfulness estimate", 1),
        "monotonicity_correlation": Column("Monotonicity (correlation)", 1),
        "monotonicity": Column("Monotonicity (share of steps)", 1),
        "irof": Column("IROF", 1),
        "selectivity": Column("Selectivity", -1),
    },
    cost=8,
)
