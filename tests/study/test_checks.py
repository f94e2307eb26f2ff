"""Models that have learned nothing are found before their maps are believed."""

import numpy as np
import pandas as pd
import pytest

from kdxai.study.checks import at_chance, trust


def answers(predicted, label, model="student", seed=0):
    image = np.arange(len(label))
    columns = {"model": model, "seed": seed, "image": image, "label": label}
    return pd.DataFrame(columns | {"predicted": predicted})


LABEL = np.arange(200) % 4
RARE = (np.arange(200) < 10).astype(int)  # 95 % of one class
RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("predicted", "label", "why"),
    [
        (
            np.zeros(200),
            LABEL,
            "student .* is not above chance: 50 of 200 answers are right, and 25%",
        ),
        (RNG.permutation(LABEL), LABEL, "are right, and 25% of the images are of one class"),
        (np.zeros(200), RARE, "190 of 200 answers are right, and 95%"),
        (np.where(np.arange(200) < 130, LABEL, 0), LABEL, None),
        (RARE, RARE, None),
        (np.where(np.arange(200) % 2, LABEL, (LABEL + 1) % 4), LABEL, None),  # 50 % of four
        (np.zeros(200), np.zeros(200), None),  # one label: nothing is known
    ],
)
def test_answers_at_chance(predicted, label, why):
    found = at_chance(answers(predicted, label))
    if why is None:
        assert found == {}
    else:
        assert list(found) == ["student"]
        assert pd.Series(found).str.contains(why, regex=True).all()
        assert not found["student"].endswith(".")


def test_the_first_count_that_chance_reaches_in_less_than_one_of_a_thousand_cases():
    """Of 200 images of four classes: 70 or more right have P = 0.00103, 71 have 0.00061."""
    for right in (70, 71):
        wrong = np.arange(200) >= right
        found = at_chance(answers(np.where(wrong, (LABEL + 1) % 4, LABEL), LABEL))
        assert list(found) == (["student"] if right == 70 else [])


def test_answers_that_hardly_vary():
    """Above chance by 1,000 images of a second class, and still one answer nearly always."""
    label = np.arange(10_000) % 10
    predicted = np.where((label == 1) & (np.arange(10_000) < 4000), 1, 0)
    [why] = at_chance(answers(predicted, label)).values()
    assert why == "student (seed 0) gives one answer to 96.0% of images"
    more = np.where(label == 1, 1, 0)  # 10 % of the answers: as much as a tenth of 90 %
    assert at_chance(answers(more, label)) == {}


def test_one_dead_seed_is_enough_and_methods_do_not_count_twice():
    good, dead = answers(LABEL, LABEL), answers(np.zeros(200), LABEL, seed=1)
    rows = pd.concat([good, dead, answers(LABEL, LABEL, "teacher")])
    several = pd.concat([rows.assign(method=method) for method in ("cam", "random")])
    [(model, why)] = at_chance(several).items()
    assert model == "student"
    assert why.startswith("student (seed 1) is not above chance: 50 of 200")


def test_no_metric_is_trusted_on_a_model_at_chance():
    """A map that hides nothing the network knows keeps the drop at 0, and beats noise in it."""
    rows = []
    for model, predicted in (("pruned", np.zeros(200)), ("teacher", LABEL)):
        for method, drop in (("cam", 0.001), ("random", 0.2)):
            values = {"method": method, "average_drop": drop, "adcc": 1 - drop}
            rows.append(answers(predicted, LABEL, model).assign(**values))
    found = trust(pd.concat(rows), "cam").set_index(["model", "metric"])
    assert found.beats_random.dropna().eq(1).all()
    assert found.trustworthy.to_dict() == {
        **{("pruned", "average_drop"): False, ("pruned", "adcc"): False},
        ("pruned", "adcc_of_means"): False,
        **{("teacher", "average_drop"): True, ("teacher", "adcc"): True},
    }
    assert found.why["pruned", "adcc"].startswith("pruned (seed 0) is not above chance: 50 of 200")
