"""A sweep as it is read: kinds, factors, the seed band and where it is left."""

import numpy as np
import pandas as pd
import pytest
from sweep_pages import MODELS, PRUNE, made

from kdxai.report import headline, sweep
from kdxai.report.sweep import Band

LEFT = {  # by hand from the agreements of `MODELS`; two dense networks agree at 0.82 at least
    "weights quantised": ("bits-4", "bits-2"),
    "pruned by magnitude": ("prune-2", "prune-4"),
    "pruned by magnitude, BatchNorm re-estimated": ("norm-4", None),
    "pruned at random": (None, "random-2"),
    "pruned by magnitude, fine-tuned": ("tuned-4", "tuned-8"),
}


@pytest.mark.parametrize(
    ("how", "settings", "after", "kind", "strength"),
    [
        ("quantise", {"bits": 3}, {}, "weights quantised", "3 bits"),
        (
            *("quantise", {"bits": 8, "activations": True}, {}),
            *("weights and activations quantised", "8 bits"),
        ),
        ("prune", PRUNE | {"sparsity": 0.9375}, {}, "pruned by magnitude", "93.75 % pruned"),
        (
            *("prune", PRUNE | {"sparsity": 0.5, "by": "random", "scope": "layer"}, {}),
            *("pruned at random in each layer", "50 % pruned"),
        ),
        (
            *("structured", {"share": 0.25, "by": "l1"}, {"batch_norm": 512}),
            *("channels pruned by L1 norm, BatchNorm re-estimated", "25 % of channels removed"),
        ),
        (
            *("factorise", {"rank": 0.5}, {"tuned_epochs": 2, "batch_norm": 9}),
            *("factorised, fine-tuned", "50 % of the rank"),
        ),
        ("none", {}, {"tuned_epochs": 1}, "dense, fine-tuned", ""),
        ("none", {}, {}, "dense", ""),
    ],
)
def test_a_kind_is_what_was_done_and_what_came_after(how, settings, after, kind, strength):
    origin = {"how": how, "settings": settings, **after}
    assert (sweep.kind(origin), sweep.strength(origin)) == (kind, strength)


def test_every_network_is_beside_its_own_parent():
    own = made()
    places = {
        key: place
        for place, key in enumerate(
            zip(own.pairwise.networks.model, own.pairwise.networks.seed, strict=True)
        )
    }
    pairs = list(zip(*np.triu_indices(len(places), 1), strict=True))
    right = own.pairwise.right
    assert len(own.sweep.networks) == 5 * len(MODELS)
    for row in own.sweep.networks.itertuples():
        assert row.parent == row.seed
        i, j = places["dense", row.seed], places[row.model, row.seed]
        values = own.pairwise.values["pearson"][:, pairs.index((i, j))]
        assert row.agreement == pytest.approx(values.mean(), abs=1e-5)
        both = values[right[:, i] & right[:, j]]
        assert row.agreement_right == pytest.approx(both.mean(), abs=1e-5)
        mine = own.records[(own.records.model == row.model) & (own.records.seed == row.seed)]
        assert row.adcc == pytest.approx(mine.adcc.mean())
        assert row.factor == MODELS[row.model][4]
        assert row.collapsed == (row.model in ("prune-8", "random-2"))


def test_steps_are_means_from_the_weakest_to_the_strongest():
    own = made()
    steps = own.sweep.steps
    for _, rows in steps.groupby("kind"):
        assert rows.factor.is_monotonic_increasing
    by_model = own.sweep.networks.groupby("model")
    for row in steps.itertuples():
        assert row.accuracy == pytest.approx(by_model.accuracy.mean()[row.model])
        assert row.networks == 5
        noise = own.noise[(own.noise.one == row.model) & (own.noise.metric == "pearson")]
        every, both = noise[noise.on == "all"].iloc[0], noise[noise.on == "both right"].iloc[0]
        np.testing.assert_equal([row.gap, row.units], [every.gap, every.units])
        np.testing.assert_equal([row.gap_right, row.units_right], [both.gap, both.units])


def test_the_band_is_what_the_parents_range_over():
    own = made()
    assert own.sweep.bands["accuracy"] == pytest.approx((0.92, 0.924, 0.928, 5))
    low, mean, high, size = own.sweep.bands["agreement"]
    assert (low, high, size) == pytest.approx((0.82, 0.87, 10), abs=1e-5)
    assert low < mean < high
    assert made(2).sweep.bands["agreement"].size == 1
    assert "agreement" not in made(1).sweep.bands


def named(step):
    return None if step is None else step.model


@pytest.mark.parametrize("column", ["agreement", "agreement_right"])
def test_where_each_kind_leaves_the_band(column):
    found = sweep.leaving(made().sweep, column)
    assert {one.kind: (named(one.inside), named(one.outside)) for one in found} == LEFT
    assert [one.kind for one in found if one.control] == ["pruned at random"]
    assert sweep.leaving(made(1).sweep, column) == []


def test_what_collapsed_is_outside_whatever_it_agrees_at():
    own = made().sweep
    steps = own.steps.assign(agreement=0.9)
    found = sweep.leaving(own._replace(steps=steps))
    outside = {one.kind: named(one.outside) for one in found if one.outside is not None}
    assert outside == {"pruned by magnitude": "prune-8", "pruned at random": "random-2"}


def test_the_headline_says_how_far_with_its_numbers():
    own = made().sweep
    short = headline.short(own)
    assert short.word == "Yes"
    assert short.says.startswith("“dense” can be compressed 8.0 times (weights quantised; ")
    text = headline.headline(own)
    four = own.steps[own.steps.model == "bits-4"].iloc[0]
    assert text.startswith("At 8.0 times (weights quantised, 4 bits)")
    assert f"r = {four.agreement:.2f}, no less than two networks of “dense”" in text
    assert "(r = 0.82 to 0.87, 10 pairs)" in text
    assert f"{four.accuracy:.1%} accurate (dense: 92.4%)" in text
    assert "at 16 times it no longer does (r = 0.55)" in text
    assert "pruned by magnitude, fine-tuned to 4.0 times" in text
    assert "re-estimated to 4.0 times, the most tried" in text
    assert "random" not in text


def test_the_headline_where_nothing_or_everything_stays():
    own = made().sweep
    far = own._replace(bands=own.bands | {"agreement": Band(0.9999, 0.9999, 0.9999, 1)})
    assert headline.short(far).word == "No"
    assert headline.short(far).says.startswith("none of the compressions tried")
    text = headline.headline(far)
    assert text.startswith("No kind of compression stays as alike as two networks of “dense”")
    assert "weights quantised at 4.0 times (r = 0.99)" in text
    near = own._replace(
        bands=own.bands | {"agreement": Band(0.0, 0.1, 0.2, 10)},
        steps=own.steps.assign(collapsed=0),
    )
    assert headline.short(near).says.endswith("or further: nothing stronger was tried.")
    assert "no longer" not in headline.headline(near)


def test_one_parent_has_no_band_and_is_told_what_to_do():
    own = made(1).sweep
    assert headline.short(own).word == "Undecided"
    assert "cannot be said from one network" in headline.short(own).says
    assert "Give it networks that differ in the seed alone" in headline.headline(own)


def test_descent_goes_to_the_first_ancestor_that_is_there():
    results = made(2).results
    again = dict(results["prune-2", 0])
    again["origin"] = again["origin"] | {"parent_sha256": results["prune-4", 0]["sha256"]}
    stranger = dict(results["prune-2", 1])
    stranger["origin"] = stranger["origin"] | {"root_sha256": "e" * 64}
    found = sweep.descent(results | {("again", 0): again, ("stranger", 0): stranger})
    assert found["again", 0] == ("dense", 0)
    assert ("stranger", 0) not in found
    assert sweep.descent({("dense", 0): results["dense", 0]}) == {}


def test_without_agreement_there_is_accuracy_still():
    own = made(2)
    [one] = sweep.sweeps(own.results, own.records, None, pd.DataFrame())
    assert one.networks.agreement.isna().all()
    assert list(one.bands) == ["accuracy", "adcc"]
