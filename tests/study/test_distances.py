"""Agreement all with all: against loops over pairs and images, and populations that are known."""

import itertools

import numpy as np
import pandas as pd
import pytest

from kdxai.errors import UserError
from kdxai.study import distances
from kdxai.study.distances import Pairwise

N = 40
MEMBERS = [
    *(("large", seed, f"l{seed}") for seed in range(4)),
    *(("small", seed, f"s{seed}") for seed in range(3)),
    *(("child", seed, f"l{seed + 1}") for seed in range(2)),
]
METRIC = "pearson"


def pairwise(members=MEMBERS, places=None, right=None, n=N):
    """Networks at points on a line, on every image 1 - their distance, and some noise."""
    rng = np.random.default_rng(0)
    count = len(members)
    places = rng.random(count) if places is None else np.asarray(places, float)
    first, second = np.triu_indices(count, 1)
    values = 1 - abs(places[first] - places[second]) + 0.05 * rng.normal(size=(n, len(first)))
    right = rng.random((n, count)) > 0.2 if right is None else right
    networks = pd.DataFrame(members, columns=["model", "seed", "line"])
    return Pairwise(networks, np.arange(n), right, {METRIC: values.astype(np.float32)})


def value(given, n, i, j):
    """Of image n and networks i and j, by counting pairs."""
    pairs = list(itertools.combinations(range(len(given.networks)), 2))
    return given.values[METRIC][n, pairs.index((min(i, j), max(i, j)))]


@pytest.mark.parametrize("both_right", [False, True])
def test_the_matrix_by_loops(both_right):
    given = pairwise()
    found = distances.agreement_matrix(given, METRIC, both_right)
    np.testing.assert_array_equal(np.diag(found), 1)
    for i, j in itertools.permutations(range(len(MEMBERS)), 2):
        taken = [n for n in range(N) if not both_right or given.right[n, [i, j]].all()]
        expected = np.mean([value(given, n, i, j) for n in taken])
        assert found[i, j] == pytest.approx(expected, abs=1e-6)


def test_some_models_alone_keep_their_pairs():
    given = pairwise()
    part = given.among(["child", "large"])
    kept = [0, 1, 2, 3, 7, 8]
    assert list(part.networks.line) == [MEMBERS[k][2] for k in kept]
    for both_right in (False, True):
        whole = distances.agreement_matrix(given, METRIC, both_right)
        few = distances.agreement_matrix(part, METRIC, both_right)
        np.testing.assert_allclose(few, whole[np.ix_(kept, kept)], atol=1e-7)


def test_resamples_vary_as_means_of_images_do():
    given = pairwise()
    found = distances.resampled_distances(given, METRIC, resamples=2000, seed=3)
    np.testing.assert_allclose(found[0], 1 - distances.agreement_matrix(given, METRIC), atol=1e-6)
    np.testing.assert_allclose(found, np.swapaxes(found, 1, 2))
    expected = given.values[METRIC].std(0) / np.sqrt(N)
    spread = found[1:].std(0)[np.triu_indices(len(MEMBERS), 1)]
    np.testing.assert_allclose(spread, expected, rtol=0.1)
    both = distances.resampled_distances(given, METRIC, resamples=500, both_right=True)
    np.testing.assert_allclose(
        both[0], 1 - distances.agreement_matrix(given, METRIC, True), atol=1e-6
    )
    # Fewer images, larger errors.
    assert (both[1:].std(0).sum() / spread.sum() / 2) > 1.1


def test_an_image_without_weight_is_none():
    """Resamples without both right know nothing, and do not say 0."""
    right = np.zeros((N, len(MEMBERS)), bool)
    found = distances.agreement_matrix(pairwise(right=right), METRIC, both_right=True)
    assert np.isnan(found[np.triu_indices(len(MEMBERS), 1)]).all()


def row(found, one, other, on="all"):
    (chosen,) = found[(found.one == one) & (found.other == other) & (found.on == on)].itertuples()
    return chosen


def test_noise_by_hand():
    given = pairwise()
    compare = [("small", "large"), ("child", "large"), ("large", "small")]
    found = distances.noise(given, compare, resamples=200)
    alike = distances.agreement_matrix(given, METRIC)
    large, small = range(4), range(4, 7)

    def inside(members):
        return [alike[i, j] for i, j in itertools.combinations(members, 2)]

    far = row(found, "small", "large")
    assert (far.design, far.networks, far.networks_other, far.images) == ("independent", 3, 4, N)
    assert far.within == pytest.approx(np.mean(inside(large)), abs=1e-6)
    assert far.within_one == pytest.approx(np.mean(inside(small)), abs=1e-6)
    between = np.mean([alike[i, j] for i in small for j in large])
    assert far.between == pytest.approx(between, abs=1e-6)
    assert far.gap == pytest.approx(far.within - far.between)
    assert far.spread == pytest.approx(np.std(inside(large), ddof=1), rel=1e-4)
    assert far.units == pytest.approx(far.gap / far.spread)
    assert far.ci_low < far.gap < far.ci_high
    own = row(found, "child", "large")
    assert (own.design, own.networks, own.networks_other) == ("paired", 2, 4)
    assert own.between == pytest.approx(np.mean([alike[7, 1], alike[8, 2]]), abs=1e-6)
    assert row(found, "large", "small").networks_other == 3
    right = row(found, "small", "large", "both right")
    assert right.images == min(
        (given.right[:, i] & given.right[:, j]).sum()
        for i, j in itertools.combinations(range(7), 2)
    )
    rights = distances.agreement_matrix(given, METRIC, both_right=True)
    between = np.mean([rights[i, j] for i in small for j in large])
    assert right.between == pytest.approx(between, abs=1e-6)


def test_who_is_far_is_found_and_who_is_not_is_not():
    rng = np.random.default_rng(1)
    members = [(name, seed, f"{name}{seed}") for name in ("a", "b", "c") for seed in range(6)]
    places = np.concatenate([rng.normal(0, 0.02, 12), rng.normal(0.3, 0.02, 6)])
    found = distances.noise(pairwise(members, places), [("b", "a"), ("c", "a")], resamples=200)
    assert row(found, "c", "a").p < 0.01 and row(found, "c", "a").ci_low > 0.2
    assert row(found, "c", "a").units > 5
    assert row(found, "b", "a").p > 0.05 and row(found, "b", "a").ci_low < 0


def test_few_images_that_both_classify_right_tell_nothing():
    right = np.ones((N, len(MEMBERS)), bool)
    right[:30, 5] = False  # a network that collapsed
    found = distances.noise(pairwise(right=right), [("small", "large")], resamples=100)
    assert np.isfinite(row(found, "small", "large").p)
    poor = row(found, "small", "large", "both right")
    assert poor.images == 10
    assert np.isnan([poor.within, poor.gap, poor.ci_low, poor.units, poor.p]).all()


def test_a_population_of_one_has_no_noise():
    members = [("a", 0, "a"), ("b", 0, "b0"), ("b", 1, "b1")]
    found = distances.noise(pairwise(members), [("b", "a"), ("a", "b")], resamples=100)
    assert set(found.one) == {"a"}
    assert found.networks.eq(1).all() and found.within_one.isna().all()
    assert distances.noise(pairwise(members), [("b", "a")], resamples=100).empty


def test_two_children_of_one_network_under_one_name():
    members = [("a", 0, "x"), ("a", 1, "x"), ("b", 0, "x"), ("b", 1, "y")]
    with pytest.raises(UserError, match="'a' has two members that descend from one network"):
        distances.noise(pairwise(members), [("a", "b")], resamples=100)
