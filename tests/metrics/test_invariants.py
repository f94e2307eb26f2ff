"""What every metric owes: a finite scalar at the edges, NaN for NaN, no eye for its neighbours."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.metrics import (
    agreement,
    axioms,
    baselines,
    coherency,
    compactness,
    complexity,
    correlation,
    faithfulness,
    localisation,
    perturbation,
    regions,
    road,
)
from kdxai.metrics.adcc import adcc, arcc
from kdxai.metrics.randomisation import histogram_entropy
from kdxai.metrics.robustness import neighbours, sensitivity, stability

SIDE = 12
KERNEL = np.random.default_rng(9).normal(size=(3, 3, 3, 4)).astype(np.float32)


def logits(image):
    features = jax.lax.conv_general_dilated(
        image[None], KERNEL, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    # Not ReLU: compiled for a CPU it drops NaN before the mean, which is no metric's doing.
    return jnp.abs(features).mean(axis=(0, 1, 2))


def probability(image):
    return jax.nn.softmax(logits(image))[1]


def every_metric(heatmap, other, image):
    """All metrics of one image: [H, W], [H, W], [H, W, 3] -> dict of scalars."""
    mask = jnp.arange(SIDE)[:, None] + jnp.zeros(SIDE) < SIDE // 3
    before, after = logits(image), logits(image * heatmap[..., None])
    drop = faithfulness.average_drop(before, after, 1)
    r = coherency.pearson(heatmap, other)
    values = {name: f(heatmap) for name, f in complexity.METRICS.items()}
    located = localisation.METRICS | localisation.RANKINGS
    values |= {name: f(heatmap, mask) for name, f in located.items()}
    values |= {name: f(heatmap) for name, f in compactness.METRICS.items()}
    values |= {name: f(heatmap, other) for name, f in agreement.METRICS.items()}
    values |= {name: f(before, after, 1) for name, f in faithfulness.METRICS.items()}
    values["ssim_uniform"] = coherency.ssim(
        heatmap,
        other,
        data_range=other.max() - other.min(),
        window="uniform",
        sample_covariance=True,
    )
    values["adcc"] = adcc(coherency.coherency(r), complexity.l1(heatmap), drop)
    values["relative_drop"] = faithfulness.relative_drop(before[1], after[1])
    values["grid_pointing_game"] = localisation.grid_pointing_game(heatmap, 1, (2, 2))
    values["histogram_entropy"] = histogram_entropy(heatmap)
    key = jax.random.key(0)
    moved = sensitivity(lambda x: heatmap * x.mean(axis=-1), image, key, samples=3)
    values |= {"max_sensitivity": moved.maximum, "average_sensitivity": moved.average}
    fills = {
        "blur": perturbation.replace(image, baselines.blur(image, 1.0)),
        "road": road.fill(image, key),
    }
    for name, fill in fills.items():
        curves = perturbation.curves(probability, heatmap, fill, steps=4)
        values |= {f"{name}_{k}": f(curves) for k, f in perturbation.METRICS.items()}
        values[f"{name}_gain"] = road.gain(curves)
    values["arcc"] = arcc(coherency.coherency(r), complexity.l1(heatmap), 0.1 + values["blur_gain"])
    values["input_shift"] = axioms.input_shift(heatmap, other)
    values["completeness_gap"] = axioms.completeness_gap(heatmap, before[1])
    return values | of_removal(heatmap, fills["blur"]) | of_neighbours(heatmap, image)


def of_removal(heatmap, fill):
    keys = jax.random.split(jax.random.key(1), 2)
    sets = [
        correlation.random_subsets(key, heatmap.shape, n, 4)
        for key, n in zip(keys, (20, 60), strict=True)
    ]
    random = correlation.removals(probability, heatmap, fill, jnp.concatenate(sets))
    by_size = jax.tree.map(lambda values: values.reshape(2, 4), random)
    squares = regions.squares(heatmap.shape, 4)
    alone = correlation.removals(probability, heatmap, fill, regions.each_alone(squares))
    curve = regions.curve(probability, heatmap, fill, squares)
    return {
        "correlation": correlation.correlation(alone),
        "monotonicity_correlation": correlation.monotonicity_correlation(alone),
        "sensitivity_n": correlation.sensitivity_n(by_size),
        "infidelity": correlation.infidelity(random),
        "infidelity_scaled": correlation.infidelity(random, scaled=True),
        "selectivity": regions.selectivity(curve),
        "irof": regions.irof(curve),
        "monotonicity": regions.monotonicity(curve),
    }


def of_neighbours(heatmap, image):
    found = stability(
        lambda x: heatmap * x.mean(axis=-1),
        lambda x: (logits(x), x.mean(axis=(0, 1))),
        image,
        neighbours(image, jax.random.key(0), 0.02, 3),
    )
    return found._asdict()


measure = jax.jit(jax.vmap(every_metric))
NAMES = list(
    jax.eval_shape(every_metric, *map(jnp.zeros, [(SIDE,) * 2, (SIDE,) * 2, (SIDE, SIDE, 3)]))
)


def examples(n, seed=0):
    heatmap, other = np.random.default_rng(seed).random((2, n, SIDE, SIDE)).astype(np.float32)
    image = np.random.default_rng(seed + 1).normal(size=(n, SIDE, SIDE, 3)).astype(np.float32)
    return heatmap, other, image


def edges():
    """Every pair of odd maps."""
    zero = np.zeros((SIDE, SIDE), np.float32)
    single, negative = zero.copy(), -np.random.default_rng(2).random((SIDE, SIDE)).astype("f")
    single[3, 4] = 1.0
    maps = [zero, zero + 1, zero + 0.1, single, negative, zero + 1e-40, zero - 3, single * 1e-30]
    pairs = [(a, b) for a in maps for b in maps]
    heatmap, other = map(np.stack, zip(*pairs, strict=True))
    images = np.random.default_rng(1).normal(size=(len(pairs), SIDE, SIDE, 3)).astype(np.float32)
    images[::3] = 0.0
    return heatmap, other, images


@functools.cache
def measured_edges():
    eights = [measure(*(x[i : i + 8] for x in edges())) for i in range(0, 64, 8)]
    return {name: np.concatenate([e[name] for e in eights]) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_edges_are_finite(name):
    assert np.isfinite(measured_edges()[name]).all()


def test_scalars_of_float32():
    for value in measure(*examples(8)).values():
        chex.assert_shape(value, (8,))
        chex.assert_type(value, jnp.float32)


@functools.cache
def batches():
    """The same eight images in one batch, alone, and padded by NaN and zeros."""
    data = examples(8)
    together = measure(*data)
    alone = [measure(*(x[i : i + 1] for x in data)) for i in range(8)]
    alone = {name: np.concatenate([a[name] for a in alone]) for name in NAMES}
    padding = [np.stack([np.full_like(x[0], np.nan), 0 * x[0], x[1]]) for x in examples(8, 5)]
    mixed = [np.concatenate([p, x[:5]]) for p, x in zip(padding, data, strict=True)]
    padded = {name: value[3:] for name, value in measure(*mixed).items()}
    return jax.device_get((together, alone, padded))


@pytest.mark.parametrize("name", NAMES)
def test_neighbours_batch_size_and_padding_do_not_matter(name):
    together, alone, padded = batches()
    # Of differences between answers that are almost equal, float32 leaves fewer digits.
    rtol = 1e-3 if name in {"relative_output", "relative_representation"} else 1e-5
    np.testing.assert_allclose(alone[name], together[name], rtol=rtol, atol=1e-6)
    np.testing.assert_allclose(padded[name], together[name][:5], rtol=rtol, atol=1e-6)
    if name not in {"increase", "average_gain", "average_drop", "logit_increase", "effective_area"}:
        assert np.unique(together[name]).size > 1  # the test can fail


@functools.cache
def measured_nan():
    heatmap, other, image = examples(8)
    heatmap[:, 2, 3] = np.nan
    return jax.device_get(measure(heatmap, other, image))


@pytest.mark.parametrize("name", NAMES)
def test_nan_is_never_turned_into_a_number(name):
    assert np.isnan(measured_nan()[name]).all()
