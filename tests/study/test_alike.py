"""Which networks are compared with which, on images of 16 x 16, and that what is drawn is kept."""

from types import SimpleNamespace

import networks
import numpy as np
import pandas as pd
import pytest

from kdxai import classifiers, evaluate
from kdxai.data.datasets import Split
from kdxai.protocol import Protocol
from kdxai.study import alike
from kdxai.study.members import Member
from kdxai.study.records import Shelf

RNG = np.random.default_rng(0)
SPLIT = Split(RNG.integers(0, 256, (9, 16, 16, 3), np.uint8), np.arange(9) % 3, None)
IMAGES = np.array([1, 2, 4, 5, 8])
MEMBERS = [
    Member(name, seed, networks.network(3, number), "", line)
    for number, (name, seed, line) in enumerate(
        [
            ("a", 0, "a0"),
            ("a", 1, "a1"),
            ("b", 0, "b0"),
            ("b", 1, "b1"),
            ("c", 0, "a1"),
            ("d", 0, "d"),
        ]
    )
]


@pytest.fixture
def view(tmp_path):
    return alike.MapRequest(Shelf(tmp_path), Protocol("grad_cam"), SPLIT, IMAGES)


@pytest.fixture(scope="module")
def records():
    """What every network predicts: here another number of it."""
    rows = []
    for number, one in enumerate(MEMBERS):
        predicted = (np.arange(9) + (np.arange(9) < number)) % 3
        known = {"model": one.name, "seed": one.seed, "image": np.arange(9)}
        rows.append(pd.DataFrame(known | {"label": np.arange(9) % 3, "predicted": predicted}))
    return pd.concat(rows).sample(frac=1, random_state=0)


def drawn(model):
    classifier = classifiers.as_classifier(model, Protocol("grad_cam"))
    normal = {"mean": model.mean, "std": model.std}
    return evaluate.draw_maps(
        classifier, SPLIT.image[IMAGES], SPLIT.label[IMAGES], Protocol("grad_cam"), **normal
    )


def test_all_with_all_and_what_is_averaged(view, records):
    found = alike.all_with_all(MEMBERS, view, records)
    expected = evaluate.pairwise([drawn(one.model) for one in MEMBERS], (16, 16))
    for metric, values in expected.items():
        np.testing.assert_allclose(found.values[metric], values, atol=1e-5)
    assert found.networks.to_numpy().tolist() == [[m.name, m.seed, m.line] for m in MEMBERS]
    right = [[image >= number for number in range(len(MEMBERS))] for image in IMAGES]
    np.testing.assert_array_equal(found.right, right)

    [first, second] = alike.agreement_rows(MEMBERS, [("b", "a")], view, found, records)
    assert list(first.columns[:6]) == ["model", "other", "seed", "line", "method", "image"]
    assert list(first.image) == list(IMAGES) and set(second.line) == {"b1"}
    pairs = [found.pairs(3, 0), found.pairs(3, 1)]
    np.testing.assert_allclose(second.ssim, found.values["ssim"][:, pairs].mean(1))
    # On images 1 and 2 the network b 1 errs; a 0 never does, a 1 on image 0 alone.
    assert list(second.same_class) == [0, 0, 1, 1, 1]


def test_its_own_is_that_of_its_line_or_the_only_one(view, records, monkeypatch):
    pairs = []

    def compared(_, one, other):
        pairs.append((one.name, one.seed, other.name, other.seed))
        return pd.DataFrame()

    monkeypatch.setattr(alike, "pair_agreement", compared)
    compare = [("c", "a"), ("a", "d"), ("a", "c")]
    alike.agreement_rows(MEMBERS, compare, view, None, records)
    assert pairs == [("c", 0, "a", 1), ("a", 0, "d", 0), ("a", 1, "d", 0), ("a", 1, "c", 0)]


def test_what_was_drawn_is_not_drawn_again(view, records, monkeypatch):
    """Work that was cut off goes on; another network draws its own maps alone."""
    calls, show = [], evaluate.show
    monkeypatch.setattr(
        alike.evaluate, "show", lambda *given, **named: calls.append(0) or show(*given, **named)
    )
    alike.own_maps(MEMBERS[0], view)
    for count, size in ((2, 2), (2, 2), (4, 4)):
        alike.all_with_all(MEMBERS[:size], view, records)
        assert len(calls) == count


def test_random_maps_agree_by_chance_and_of_equal_networks_fully(view):
    view = view._replace(protocol=Protocol("random"))
    one, other = (alike.own_maps(member, view) for member in MEMBERS[:2])
    twin = alike.own_maps(MEMBERS[0]._replace(name="twin"), view)
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.1
    np.testing.assert_array_equal(one, twin)


def test_when_all_are_compared_with_all():
    def member(name, facts=None):
        return Member(name, 0, SimpleNamespace(facts=facts or {}), "", "0")

    child = member("child", {"origin": {"kind": "compress"}})
    assert not alike.is_worth_pairs([member("a"), member("b")])
    assert alike.is_worth_pairs([member("a"), child])
    assert alike.is_worth_pairs([member("a"), member("a")._replace(seed=1)])
