"""What comes in: integers are the numbers they are, one map is one map, a mask is a mask."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.errors import UserError
from kdxai.metrics import adcc as of_three
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
    randomisation,
    regions,
    road,
    robustness,
)

SIDE = 12
KEY = jax.random.key(0)
SQUARES = regions.squares((SIDE, SIDE), 4)
SETS = regions.each_alone(SQUARES)
REMOVED = np.random.default_rng(8).random((SIDE, SIDE)) < 0.3
DTYPES = [np.bool_, np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32]


def mean(image):
    """A score that takes any image."""
    return jnp.asarray(image, jnp.float32).mean() / 255


def removed(relevance, drops):
    return correlation.Removals(jnp.asarray(relevance, jnp.float32), jnp.asarray(drops, "f"))


def fill_of(image, baseline):
    return perturbation.replace(image, baseline)(REMOVED)


# Every public function of arrays: of maps a and b [H, W], an image [H, W, C] or logits [H].
OF_MAPS = {
    **{name: lambda a, b, f=f: f(a) for name, f in complexity.METRICS.items()},
    **{name: lambda a, b, f=f: f(a, b) for name, f in agreement.METRICS.items()},
    **{name: lambda a, b, f=f: f(a, b) for name, f in localisation.METRICS.items()},
    **{name: lambda a, b, f=f: f(a, b) for name, f in localisation.RANKINGS.items()},
    **{name: lambda a, b, f=f: f(a) for name, f in compactness.METRICS.items()},
    "agreement": agreement.agreement,
    "input_shift": axioms.input_shift,
    "completeness_gap": lambda a, b: axioms.completeness_gap(a, jnp.float32(7)),
    "removals": lambda a, b: correlation.removals(
        mean, a, perturbation.replace(IMAGES[0], IMAGES[1]), SETS
    ),
    "curve": lambda a, b: regions.curve(
        mean, a, perturbation.replace(IMAGES[0], IMAGES[1]), SQUARES
    ),
    "area": lambda a, b: localisation.area(a),
    "grid_pointing_game": lambda a, b: localisation.grid_pointing_game(a, 2, (2, 2)),
    "histogram_entropy": lambda a, b: randomisation.histogram_entropy(a),
    "ranks": lambda a, b: perturbation.ranks(a),
    "curves": lambda a, b: perturbation.curves(
        mean, a, perturbation.replace(IMAGES[0], IMAGES[1]), steps=3
    ),
    "deletion_curve": lambda a, b: perturbation.deletion_curve(
        mean, a, perturbation.replace(IMAGES[0], IMAGES[1]), steps=3
    ),
}
OF_IMAGES = {
    "mean": lambda x, y: baselines.mean(x),
    "black": lambda x, y: baselines.black(x, (0.4, 0.5, 0.6), (0.2, 0.3, 0.4)),
    "blur": lambda x, y: baselines.blur(x, 1.0),
    "impute": lambda x, y: road.impute(x, REMOVED),
    "fill": lambda x, y: road.fill(x, KEY)(REMOVED),
    "replace": fill_of,
    "sensitivity": lambda x, y: robustness.sensitivity(
        lambda image: image.mean(-1), x, KEY, samples=2
    ),
    "stability": lambda x, y: robustness.stability(
        lambda image: image.mean(-1),
        lambda image: (image.mean((0, 1)), image),
        x,
        jnp.asarray([x, y], jnp.float32),
    ),
}
OF_LOGITS = {
    **{name: lambda z, w, f=f: f(z, w, 2) for name, f in faithfulness.METRICS.items()},
    "relative_drop": lambda z, w: faithfulness.relative_drop(z[3], w[3]),
    "rose": lambda z, w: faithfulness.rose(z[3], w[3]),
    "log_odds": lambda z, w: faithfulness.log_odds(z, 1),
    "centred_logit": lambda z, w: faithfulness.centred_logit(z, 1),
    "coherency": lambda z, w: coherency.coherency(z[0]),
    "adcc": lambda z, w: of_three.adcc(z[0], z[1], w[0]),
    "arcc": lambda z, w: of_three.arcc(z[0], z[1], w[0]),
    "correlation": lambda z, w: correlation.correlation(removed(z, w)),
    "monotonicity_correlation": lambda z, w: correlation.monotonicity_correlation(removed(z, w)),
    "infidelity": lambda z, w: correlation.infidelity(removed(z, w), scaled=True),
    "selectivity": lambda z, w: regions.selectivity(jnp.asarray(z, jnp.float32)),
    "irof": lambda z, w: regions.irof(jnp.asarray(z, jnp.float32)),
    "monotonicity": lambda z, w: regions.monotonicity(jnp.asarray(z, jnp.float32)),
    # Of curves.
    **{
        name: lambda z, w, f=f: f(
            perturbation.Curves(*map(jnp.asarray, (np.arange(SIDE) / (SIDE - 1), z, w)))
        )
        for name, f in (perturbation.METRICS | {"gain": road.gain}).items()
    },
}
# Of images of several cells, of models or of finished numbers.
OTHERS = {
    *("mosaic", "shuffled", "cascade", "parameter_randomisation"),
    *("efficient_parameter_randomisation", "random_logit"),
    *("average_ranks", "centred", "top", "tree_length"),  # parts of others
    *(
        "every_score",
        "neighbours",
        "random_subsets",
        "squares",
        "each_alone",
        "sensitivity_n",
        "smoothed",
    ),
}
# Loops, which are compiled at every call: of one dtype.
COMPILED = {"curve", "removals", "stability", *compactness.METRICS}
RNG = np.random.default_rng(0)
IMAGES = RNG.normal(size=(2, SIDE, SIDE, 3)).astype(np.float32)


def test_no_function_is_forgotten():
    modules = [agreement, baselines, coherency, complexity, faithfulness, localisation]
    modules += [perturbation, randomisation, road, robustness, of_three]
    modules += [axioms, compactness, correlation, regions]
    public = {
        name
        for module in modules
        for name, value in vars(module).items()
        if inspect.isfunction(value) and value.__module__ == module.__name__ and name[0] != "_"
    }
    assert public == {*OF_MAPS, *OF_IMAGES, *OF_LOGITS} | OTHERS


def two(shape, dtype):
    if dtype is np.bool_:
        return RNG.random((2, *shape)) < 0.5
    info = np.iinfo(dtype)
    # float32 holds whole numbers up to 2^24.
    low, high = max(info.min, -(2**24)), min(info.max, 2**24)
    values = RNG.integers(low, high, (2, *shape), endpoint=True).astype(dtype)
    values.flat[:2] = low, high
    return values


def assert_same(function, *arrays):
    got, want = function(*arrays), function(*(a.astype(np.float32) for a in arrays))
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-6)
        assert np.isfinite(other).all()


@pytest.mark.parametrize(
    "dtype", [np.uint8, *(pytest.param(d, marks=pytest.mark.slow) for d in DTYPES if d != np.uint8)]
)
def test_integers_are_the_numbers_they_are(dtype):
    maps, images, logits = (
        two((SIDE, SIDE), dtype),
        two((SIDE, SIDE, 3), dtype),
        two((SIDE,), dtype),
    )
    for name, function in OF_MAPS.items():
        if name in COMPILED and dtype is not np.uint8:
            continue
        if "curve" not in name or dtype in (np.bool_, np.uint8, np.int8):
            assert_same(function, *maps)
    for name, function in OF_IMAGES.items():
        if name not in COMPILED or dtype is np.uint8:
            assert_same(function, *images)
    for function in OF_LOGITS.values():
        assert_same(function, *logits)


def test_ranks_of_pixels_by_hand():
    np.testing.assert_array_equal(
        perturbation.ranks(np.uint8([[0, 10], [200, 255]])), [[3, 2], [1, 0]]
    )


@pytest.mark.parametrize("inside", [True, 1, 255, np.float32(1), np.int8(-1), np.float32(0.2)])
def test_any_value_but_zero_is_inside(inside):
    heatmap = np.float32([[4, 3], [2, 1]])
    mask = np.array([[inside, 0], [inside, 0]], np.asarray(inside).dtype)
    assert localisation.energy_pointing_game(heatmap, mask) == pytest.approx(0.6)
    assert localisation.pointing_game(heatmap, mask) == 1
    assert localisation.iou(heatmap, mask) == pytest.approx(2 / 3)
    assert localisation.area(mask) == 0.5


@pytest.mark.parametrize("name", OF_MAPS)
@pytest.mark.parametrize("shape", [(5, SIDE, SIDE), (SIDE, SIDE, 1), (SIDE,)])
def test_a_batch_is_no_map(name, shape):
    maps = np.ones((2, *shape), np.float32)
    with pytest.raises(UserError, match=r"one map \[H, W\].*jax\.vmap"):
        OF_MAPS[name](*maps)


@pytest.mark.parametrize("name", OF_IMAGES)
@pytest.mark.parametrize("shape", [(5, SIDE, SIDE, 3), (SIDE, SIDE)])
def test_a_batch_is_no_image(name, shape):
    images = np.ones((2, *shape), np.float32)
    with pytest.raises(UserError, match=r"one image \[H, W, C\].*jax\.vmap"):
        OF_IMAGES[name](*images)


def test_a_batch_under_vmap():
    maps = np.stack([two((SIDE, SIDE), np.uint8) for _ in range(3)], 1)
    for function in (complexity.gini, perturbation.ranks, localisation.area):
        want = [function(m) for m in maps[0]]
        np.testing.assert_allclose(jax.vmap(function)(maps[0]), want, rtol=1e-6)


@pytest.mark.parametrize("name", [*agreement.METRICS, "agreement"])
def test_maps_of_two_grids(name):
    with pytest.raises(UserError, match="resize both"):
        OF_MAPS[name](np.ones((SIDE, SIDE)), np.ones((1, SIDE)))


@pytest.mark.parametrize("name", localisation.METRICS)
def test_a_mask_of_another_shape(name):
    for shape in ((SIDE, 1), (SIDE, SIDE, 1), ()):
        with pytest.raises(UserError, match="mask of its shape"):
            OF_MAPS[name](np.ones((SIDE, SIDE)), np.ones(shape, bool))


@pytest.mark.parametrize("size", [1e30, 1e37, 3e38])
def test_huge_maps(size):
    """What does not depend on the scale, and the mean; by jit, which may divide by a reciprocal."""
    maps = two((SIDE, SIDE), np.int16)[0].astype(np.float32)
    maps = np.stack([maps, maps.T + RNG.normal(size=maps.shape)]).astype(np.float32)
    maps /= np.abs(maps).max() * np.float32(1.01)
    mask = REMOVED
    fixed = {
        name: f for name, f in complexity.METRICS.items() if name not in ("l1", "matrix_1_norm")
    }
    fixed |= {name: lambda a, b, f=f: f(a, mask) for name, f in localisation.METRICS.items()}
    fixed |= {name: OF_MAPS[name] for name in ("pearson", "spearman", "top_k_iou", "ranks")}
    fixed["histogram_entropy"] = randomisation.histogram_entropy
    fixed["sensitivity"] = lambda a, b: robustness.sensitivity(
        lambda x: a * x.mean(), IMAGES[0], KEY, samples=2
    )

    def all_of(a, b):
        return {
            name: f(a) if name in complexity.METRICS or name == "histogram_entropy" else f(a, b)
            for name, f in fixed.items()
        }

    got, want = jax.jit(all_of)(*(maps * np.float32(size))), jax.jit(all_of)(*maps)
    for name in fixed:
        np.testing.assert_allclose(got[name], want[name], rtol=2e-5, err_msg=name)
    np.testing.assert_allclose(
        jax.jit(complexity.l1)(maps[0] * np.float32(size)),
        np.abs(maps[0].astype(np.float64)).mean() * size,
        rtol=1e-5,
    )
