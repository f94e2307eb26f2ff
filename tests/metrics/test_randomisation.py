"""Randomisation tests on models small enough to know the answer."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.errors import UserError
from kdxai.metrics.coherency import pearson
from kdxai.metrics.randomisation import (
    cascade,
    efficient_parameter_randomisation,
    histogram_entropy,
    parameter_randomisation,
    random_logit,
    shuffled,
    smoothed,
)

RNG = np.random.default_rng(0)


def tree(seed):
    rng = np.random.default_rng(seed)
    names = ("stem", "stage1", "stage11", "head")
    params = {name: {"kernel": rng.normal(size=(4, 4)).astype("f")} for name in names}
    statistics = {"stem": {"mean": rng.normal(size=4).astype("f")}}
    return {"params": params, "batch_stats": statistics}


TRAINED, FRESH = tree(0), tree(1)
IMAGE = RNG.normal(size=(4, 4)).astype(np.float32)


def taken(params):
    """Which leaves come from FRESH; every other one must come from TRAINED."""
    names = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        source, key = name.split("/", 1)
        node, old = FRESH[source], TRAINED[source]
        for part in key.split("/"):
            node, old = node[part], old[part]
        if np.array_equal(leaf, node):
            names.add(name)
        else:
            np.testing.assert_array_equal(leaf, old)
    return names


def test_the_cascade_is_cumulative_and_takes_whole_names():
    steps = [taken(p) for p in cascade(TRAINED, FRESH, ["head", "stage1", "stem", "params"])]
    head = {"params/head/kernel"}
    stage = head | {"params/stage1/kernel"}  # not stage11
    stem = stage | {"params/stem/kernel", "batch_stats/stem/mean"}
    assert steps == [head, stage, stem, stem | {"params/stage11/kernel"}]
    assert not taken(TRAINED)


def test_bottom_up_single_and_nested_groups():
    first, second = (taken(p) for p in cascade(TRAINED, FRESH, ["stem", "head"]))
    assert first == {"params/stem/kernel", "batch_stats/stem/mean"}
    assert second == first | {"params/head/kernel"}
    (nested,) = (taken(p) for p in cascade(TRAINED, FRESH, ["batch_stats/stem"]))
    assert nested == {"batch_stats/stem/mean"}


def test_an_unknown_group_is_refused_with_the_names_there_are():
    with pytest.raises(UserError, match=r"under 'stage'; there are batch_stats/stem/mean, .*"):
        list(cascade(TRAINED, FRESH, ["stage"]))


def test_shuffled_keeps_the_values_and_moves_them():
    mixed = shuffled(TRAINED, jax.random.key(0))
    assert jax.tree.structure(mixed) == jax.tree.structure(TRAINED)
    for old, new in zip(jax.tree.leaves(TRAINED), jax.tree.leaves(mixed), strict=True):
        np.testing.assert_array_equal(np.sort(old, axis=None), np.sort(new, axis=None))
        assert old.shape == new.shape and not np.array_equal(old, new)
    # Leaves of one shape are not permuted alike.
    kernels = jax.tree.leaves(shuffled({"a": IMAGE, "b": IMAGE}, jax.random.key(0)))
    assert not np.array_equal(*kernels)


def product_map(params, image):
    """A map that reads the stem and the head and nothing else."""
    return params["params"]["stem"]["kernel"] * params["params"]["head"]["kernel"] * image


def test_parameter_randomisation_matches_numpy():
    groups = ["head", "stage1", "stem"]
    got = parameter_randomisation(jax.jit(product_map), TRAINED, FRESH, groups, IMAGE, pearson)
    stems, heads = ([t["params"][n]["kernel"] for t in (TRAINED, FRESH)] for n in ("stem", "head"))
    trained, head_gone = IMAGE * stems[0] * heads[0], IMAGE * stems[0] * heads[1]
    both_gone = IMAGE * stems[1] * heads[1]
    r_head, r_all = (np.corrcoef(trained.ravel(), m.ravel())[0, 1] for m in (head_gone, both_gone))
    np.testing.assert_allclose(got, [r_head, r_head, r_all], atol=1e-5)


def test_a_map_of_the_image_alone_fails_and_unchanged_parameters_change_nothing():
    edges = parameter_randomisation(lambda p, x: x, TRAINED, FRESH, ["head", "stem"], IMAGE)
    np.testing.assert_allclose(edges, 1.0, atol=1e-6)
    same = parameter_randomisation(product_map, TRAINED, TRAINED, ["head", "stem"], IMAGE)
    np.testing.assert_allclose(same, 1.0, atol=1e-6)


def test_smoothed_maps_are_means_over_the_same_noise():
    key = jax.random.key(4)
    explain = smoothed(lambda p, x: p * x**2, key, samples=6, noise=0.2)
    noise = np.asarray(jax.random.normal(key, (6, 4, 4)), np.float64)
    want = 3 * np.mean((IMAGE + 0.2 * np.ptp(IMAGE) * noise) ** 2, 0)
    np.testing.assert_allclose(explain(3.0, IMAGE), want, rtol=1e-5)
    # Noise of its own for each parameter would lower the similarity of equal ones.
    similarity = parameter_randomisation(
        smoothed(product_map, key, samples=3), TRAINED, TRAINED, ["head"], IMAGE
    )
    np.testing.assert_allclose(similarity, 1, atol=1e-6)


def test_efficient_randomisation_by_hand():
    """One bin of two before, all four values apart after: ln 2 rises to ln 4."""
    before, after = jnp.array([[0.0, 0.0], [1.0, 1.0]]), jnp.array([[0.0, 0.3], [0.6, 1.0]])
    got = efficient_parameter_randomisation(lambda p, x: p, before, after, IMAGE)
    np.testing.assert_allclose(got, 1.0, rtol=1e-6)
    np.testing.assert_allclose(
        efficient_parameter_randomisation(lambda p, x: p, after, before, IMAGE), -0.5, rtol=1e-6
    )
    flat = jnp.zeros((2, 2))
    assert efficient_parameter_randomisation(lambda p, x: p, flat, flat, IMAGE) == 0.0
    np.testing.assert_allclose(
        efficient_parameter_randomisation(lambda p, x: p, flat, before, IMAGE), np.log(2), rtol=1e-6
    )


def test_histogram_entropy_at_its_limits():
    assert histogram_entropy(np.full((5, 5), 0.3)) == 0.0
    spread = np.arange(100).reshape(10, 10)
    np.testing.assert_allclose(histogram_entropy(spread, bins=100), np.log(100), rtol=1e-5)
    np.testing.assert_allclose(histogram_entropy(spread, bins=10), np.log(10), rtol=1e-5)


def test_random_logit_asks_for_every_other_class_and_never_for_its_own():
    def explain(class_index):
        return jnp.asarray(class_index)

    def which(a, b):
        return 10 * a + b

    keys = jax.random.split(jax.random.key(0), 300)
    draw = jax.jit(jax.vmap(lambda key: random_logit(explain, 2, 5, key, which)))
    classes, counts = np.unique(draw(keys), return_counts=True)
    assert classes.tolist() == [20, 21, 23, 24]
    assert counts.min() > 45  # 75 expected, standard deviation 7.5


def test_random_logit_tells_maps_that_depend_on_the_class():
    heatmaps = jnp.asarray(RNG.normal(size=(2, 16, 16)), jnp.float32)
    blind = random_logit(lambda c: heatmaps[0], 0, 2, jax.random.key(0))
    aware = random_logit(lambda c: heatmaps[c], 0, 2, jax.random.key(0))
    np.testing.assert_allclose(blind, 1.0, atol=1e-6)
    assert abs(aware) < 0.2
