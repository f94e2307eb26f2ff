"""Distances of populations in units of their own."""

import itertools

import numpy as np
import pytest
from scipy import stats as scipy_stats
from test_stats import at_most

from kdxai.errors import UserError
from kdxai.study import permutation
from kdxai.study.permutation import Groups, beyond, permuted


def between(places):
    """Squared distances of points [M, d], a mean over d."""
    return ((places[:, None] - places[None]) ** 2).mean(-1)


def test_a_small_case_by_hand():
    # Other: 0, 1, 3, so 1, 9 and 4 apart; one: 5, 6.
    places = np.array([5.0, 6.0, 0.0, 1.0, 3.0])[:, None]
    found = beyond(between(places), [0, 1], [2, 3, 4])
    assert found.within == pytest.approx(14 / 3)
    assert found.within_one == 1
    assert found.between == pytest.approx((25 + 16 + 4 + 36 + 25 + 9) / 6)
    assert found.gap == pytest.approx(found.between - found.within)
    assert found.spread == pytest.approx(np.std([1, 9, 4], ddof=1))
    assert found.units == pytest.approx(found.gap / found.spread)
    assert found.ci_low < found.gap < found.ci_high
    # Paired: 5 descends from 3 and 6 from 1. g = 4 - (9 + 4) / 2 and 25 - (1 + 4) / 2.
    found = beyond(between(places), [0, 1], [2, 3, 4], own=[4, 3])
    assert found.gap == pytest.approx(np.mean([4 - 6.5, 25 - 2.5]))
    assert found.between == pytest.approx(29 / 2)


def test_p_is_that_of_all_ways_of_telling_the_populations_apart(monkeypatch):
    rng = np.random.default_rng(0)
    places = rng.normal(size=(9, 4))
    places[:3] += 1.5
    found = beyond(between(places), [0, 1, 2], list(range(3, 9)))
    gaps = []
    for one in itertools.combinations(range(9), 3):
        own, others = places[list(one)], np.delete(places, one, 0)
        pairs = between(others)[np.triu_indices(6, 1)].mean()
        gaps.append(((own[:, None] - others[None]) ** 2).mean() - pairs)
    assert gaps[0] == pytest.approx(found.gap)
    p = permuted(between(places), Groups(np.arange(3), np.arange(3, 9), None))
    assert p == pytest.approx(np.mean(np.array(gaps) >= gaps[0] - 1e-12))
    assert p < 0.05
    assert found.p >= p  # three networks hardly know their own spread
    monkeypatch.setattr(permutation, "EXACT", 10)
    some = permuted(between(places), Groups(np.arange(3), np.arange(3, 9), None))
    assert some == pytest.approx(p, abs=0.005)


def test_the_interval_is_a_stratified_jackknife():
    """With networks left out by hand; many of them, so that the quantile is nearly Welch's."""
    rng = np.random.default_rng(1)
    places = rng.normal(size=(30, 6))
    every = between(places)

    def gap(one, other):
        inside = every[np.ix_(other, other)].sum() / (len(other) * (len(other) - 1))
        return every[np.ix_(one, other)].mean() - inside

    one, other = list(range(12)), list(range(12, 30))
    left = [gap([i for i in one if i != k], other) for k in one]
    right = [gap(one, [j for j in other if j != k]) for k in other]
    parts = [(len(g) - 1) ** 2 / len(g) * np.var(g, ddof=1) for g in (left, right)]
    error = np.sqrt(sum(parts))
    freedom = sum(parts) ** 2 / (parts[0] ** 2 / 11 + parts[1] ** 2 / 17)
    found = beyond(every, one, other)
    half = scipy_stats.t.isf(0.025, freedom) * error
    assert found.ci_high - found.gap == pytest.approx(half, rel=0.03)
    assert found.gap - found.ci_low == pytest.approx(half, rel=0.03)


def test_images_add_what_networks_do_not_hold():
    """Distances of which a resample of the images shifts all alike, by 0.3."""
    rng = np.random.default_rng(2)
    every = between(rng.normal(size=(20, 50)))
    one, other = list(range(8)), list(range(8, 20))
    plain = beyond(every, one, other)
    far = np.zeros_like(every)
    far[:8, 8:] = far[8:, :8] = 1  # between alone, else the gap would not know
    draws = every + 0.3 * rng.normal(size=(500, 1, 1)) * far
    more = beyond(np.concatenate([every[None], draws]), one, other)
    assert more.gap == plain.gap
    half, its = (found.ci_high - found.gap for found in (plain, more))
    assert its**2 == pytest.approx(half**2 + (1.96 * 0.3) ** 2, rel=0.15)
    same = beyond(np.repeat(every[None], 30, 0), one, other)
    assert same.ci_high == pytest.approx(plain.ci_high)


def drawn(rng, n, *, delta=0.0, scale=1.0, dimensions=30):
    return delta + scale * rng.normal(size=(n, dimensions))


@pytest.mark.parametrize(("n", "m"), [(3, 3), (4, 17)])
def test_gaps_are_covered_and_equal_populations_seldom_told_apart(n, m, monkeypatch):
    """Maps: networks as points of many dimensions, squared distances.

    Measured once, with 400 trials each: see `permutation`.
    """
    for name in ("EXACT", "DRAWN"):
        monkeypatch.setattr(permutation, name, 300)
    rng = np.random.default_rng(n)
    misses, mistaken, trials = 0, 0, 25
    for _ in range(trials):
        places = np.concatenate([drawn(rng, n, delta=0.5), drawn(rng, m)])
        found = beyond(between(places), range(n), range(n, n + m))
        misses += not found.ci_low <= 0.25 <= found.ci_high
        places = drawn(rng, n + m)
        mistaken += beyond(between(places), range(n), range(n, n + m)).p <= 0.05
    assert at_most(misses, trials, 0.07)
    assert at_most(mistaken, trials, 0.05)


def test_children_near_and_far_from_their_parents():
    rng = np.random.default_rng(3)
    parents = drawn(rng, 8)
    for drift, sign in ((0.1, -1), (3.0, 1)):
        children = parents + drift * drawn(rng, 8)
        every = between(np.concatenate([children, parents]))
        found = beyond(every, range(8), range(8, 16), own=range(8, 16))
        assert np.sign(found.gap) == sign
        assert found.ci_low * found.ci_high > 0
        assert (found.p < 0.001) == (sign > 0)
    # One child: about that one, its parent beside seven others.
    single = beyond(every, [0], range(8, 16), own=[8])
    assert single.gap == pytest.approx(every[0, 8] - every[8, 9:].mean())


def test_what_nothing_tells():
    every = between(np.arange(4.0)[:, None])
    with pytest.raises(UserError, match="at least 2 networks, not of 1"):
        beyond(every, [0, 1], [2])
    two = beyond(every, [0, 1], [2, 3], own=[2, 3])  # one distance of parents, and no spread of it
    assert np.isnan([two.ci_low, two.spread, two.units]).all()
    assert two.p == 1
    equal = beyond(np.ones((5, 5)) - np.eye(5), [0, 1], [2, 3, 4])
    assert equal.gap == 0
    assert np.isnan(equal.ci_low)
    assert equal.p == 1
    alone = beyond(every, [0], [1, 2, 3])
    assert np.isnan(alone.within_one)
    assert alone.ci_low < alone.gap < alone.ci_high
