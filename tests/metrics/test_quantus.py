"""Metrics of a small network against Quantus and the library grad-cam: stored values.

What of theirs is no reference, and why, is said in tests/references/metrics_quantus.py.
"""

import functools
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.metrics import (
    adcc,
    coherency,
    complexity,
    correlation,
    localisation,
    perturbation,
    regions,
    road,
    robustness,
)

STORED = json.loads((Path(__file__).parents[1] / "references" / "metrics_quantus.json").read_text())
NETWORK = {name: np.array(value) for name, value in STORED["network"].items()}
IMAGE, SIGNED, POSITIVE = (NETWORK[name].astype("f") for name in ("image", "signed", "positive"))
TARGET, BASELINE = int(NETWORK["target"]), float(NETWORK["baseline"])
REMOVAL = STORED["removal"]


def hidden(image):
    return jnp.float32(NETWORK["first"]) @ image.ravel()


def logits(image):
    return jnp.float32(NETWORK["second"]) @ jax.nn.softplus(hidden(image))


def probability(image):
    return jax.nn.softmax(logits(image))[TARGET]


def heat(image):
    return (2 + image**2 + jnp.sin(3 * image))[..., 0]


def subsets():
    sets = np.zeros((20, 64), bool)
    for row, chosen in zip(sets, REMOVAL["subsets"], strict=True):
        row[chosen] = True
    return sets.reshape(20, 8, 8)


def by_rank(heatmap):
    """[16, 8, 8]: four pixels each."""
    return regions.each_alone(np.argsort(np.argsort(heatmap, axis=None)).reshape(8, 8) // 4)


def of_removal():
    fill = perturbation.replace(IMAGE[..., None], np.full((8, 8, 1), BASELINE, "f"))
    removed = lambda heatmap, sets: correlation.removals(probability, heatmap, fill, sets)  # noqa: E731
    squares = regions.squares((8, 8), 2)
    curve = regions.curve(probability, SIGNED, fill, squares)
    unions = np.cumsum(regions.each_alone(squares), 0) > 0
    return {
        "faithfulness_correlation": correlation.correlation(removed(SIGNED, subsets())),
        "faithfulness_estimate": correlation.correlation(removed(SIGNED, by_rank(SIGNED))),
        "monotonicity_correlation": correlation.monotonicity_correlation(
            removed(POSITIVE, by_rank(POSITIVE))
        ),
        "infidelity": correlation.infidelity(removed(SIGNED * (IMAGE - BASELINE), unions)),
        "selectivity": curve[1:],
        # Without the whole image, and not divided by the number of regions.
        "irof": len(curve) - 1 - jnp.trapezoid(curve[1:] / curve[0]),
    }


def of_arcc():
    heatmap, masked = (jnp.float32(STORED["arcc"][name]) for name in ("heatmap", "masked"))
    fill = road.fill(IMAGE[..., None], jax.random.key(0), noise=0)
    gain = road.gain(perturbation.curves(probability, heatmap, fill, steps=5))
    alike = coherency.coherency(coherency.pearson(heatmap, masked))
    return {"road": gain / 2, "arcc": adcc.arcc(alike, complexity.l1(heatmap), gain)}


@functools.cache
def found():
    @jax.jit
    def all_of():
        noisy = NETWORK["noisy"].astype("f")[..., None]
        answer = lambda image: (logits(image), hidden(image))  # noqa: E731
        rank = {
            "auc": localisation.auc(POSITIVE, NETWORK["mask"]),
            "top_k_intersection": localisation.top_k_intersection(
                POSITIVE, NETWORK["mask"], 6 / 64
            ),
        }
        noise = robustness.stability(heat, answer, IMAGE[..., None], noisy)._asdict()
        return {"removal": of_removal(), "noise": noise, "rank": rank, "arcc": of_arcc()}

    return jax.device_get(all_of())


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (group, name)
        for group in ("arcc", "noise", "rank", "removal")
        for name in sorted(STORED[group].keys() - {"heatmap", "masked", "subsets"})
    ],
)
def test_values_of_the_libraries(group, name):
    # ROAD solves its linear systems by iteration.
    tolerance = 2e-4 if group == "arcc" else 2e-5
    np.testing.assert_allclose(
        found()[group][name], STORED[group][name], rtol=tolerance, atol=tolerance / 10
    )
