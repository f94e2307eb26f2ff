"""Three sentences that say what the numbers say, and no more."""

import pandas as pd
import pytest
from report_pages import DESIGN, claims, records

from kdxai.report import answer as answers
from kdxai.report import markdown, tables
from kdxai.report.answer import sign, tally
from kdxai.report.html import NONE
from kdxai.study import stats


def answer(table, *arguments, seeds, design=DESIGN):
    table = table.assign(seeds=seeds)
    return answers.answer(table, *arguments, seeds=seeds, design=design)


def line(model, metric, mean, low, high, other="", n=1000):
    columns = {"model": model, "other": other, "metric": metric}
    return columns | {"mean": mean, "ci_low": low, "ci_high": high, "n": n}


def table(*pairs):
    """The teacher better in drop, the student in complexity, coherency the same."""
    rows = []
    for model, drop, complexity, ssim in (
        ("teacher", 0.2, 0.4, 0.7),
        ("student", 0.3, 0.3, 0.7),
        ("control", 0.31, 0.3, 0.6),
    ):
        values = {"average_drop": drop, "complexity": complexity, "ssim": ssim}
        rows += [line(model, m, v, v - 0.01, v + 0.01) for m, v in values.items()]
    for pair, *gaps in pairs:
        for metric, gap in zip(("average_drop", "complexity", "ssim"), gaps, strict=True):
            rows.append(line(pair[0], metric, gap, gap - 0.02, gap + 0.02, other=pair[1]))
    return pd.DataFrame(rows)


TEACHER = (("student", "teacher"), 0.1, -0.1, 0.0)
CONTROL = (("student", "control"), -0.01, 0.0, 0.1)


def test_from_the_table():
    first, second, third = answer(table(CONTROL, TEACHER), NONE, NONE, seeds=1)
    assert first == (
        "On 1,000 test images the student scores better than the teacher in complexity (0.300 "
        "against 0.400) and worse than the teacher in average drop (0.300 against 0.200), and the "
        "two are not told apart in coherency (SSIM) (0.700 against 0.700)."
    )
    assert second == (
        "The student scores better than the control in coherency (SSIM) (0.700 against 0.600), and "
        "the two are not told apart in average drop (0.300 against 0.310) and complexity (0.300 "
        "against 0.300); the control is the small network, trained without a teacher."
    )
    assert third == (
        "With one seed this is about these trained models only: the 95 % intervals are over 1,000 "
        "images, and what another seed would change is not measured."
    )


def test_without_a_control_or_a_second_model():
    _, second, _ = answer(table(TEACHER), NONE, NONE, seeds=1)
    assert second.startswith("The student was compared with no third model")
    first, second, _ = answer(table(), NONE, NONE, seeds=1)
    assert "student has average drop 0.300, complexity 0.300 and coherency (SSIM) 0.700" in first
    assert second.startswith("No two models were compared, so this says nothing")


def test_several_seeds_speak_of_the_recipe_and_one_never_does():
    for seeds, expected in ((1, False), (3, True)):
        *_, third = answer(table(TEACHER), NONE, NONE, seeds=seeds)
        assert ("about the recipes" in third) == expected
        assert ("these trained models only" in third) != expected
    assert "across 3 networks of each model and 1,000 images" in third
    over_images = claims(seeds=3).assign(across="images", about="these networks")
    *_, third = answer(table(TEACHER), over_images, NONE, seeds=3)
    assert third.startswith("This, the mean of 3 seeds, is about these trained models only")


def test_what_a_second_teacher_and_an_untrained_network_say():
    rows = table(
        TEACHER,
        (("second_teacher", "teacher"), -0.1, 0.01, 0.2),
        (("untrained", "teacher"), 0, 0.1, 0.2),
    )
    *_, third = answer(rows, NONE, NONE, seeds=1)
    assert (
        "the second teacher, of the same recipe as the teacher, differs from it by "
        "\N{MINUS SIGN}0.100 in average drop, +0.010 in complexity and +0.200 in coherency (SSIM)"
    ) in third
    assert third.endswith(
        "a network that learned nothing scores better than the teacher in coherency (SSIM)."
    )


def test_verdicts_of_one_seed_are_never_of_recipes():
    for seeds, about in ((1, "Of these networks, "), (2, "Of the recipes, ")):
        first, *_ = answer(table(TEACHER), claims(seeds), NONE, seeds=seeds)
        assert first.startswith(about)
    worded = tables.ledger(claims(1)).verdict
    assert list(worded) == ["contradicted for these networks", "undecided"]
    assert list(tables.ledger(claims(2)).verdict) == ["contradicted", "undecided"]
    assert "another seed may give the other verdict" in tables.scope(claims(1))
    assert tables.scope(claims(2)) == "across 2 networks of each model, about the recipes"


def test_each_seeds_means_are_shown_where_there_are_several():
    seeds = stats.by_seed(records()).assign(method="cam")
    heading, method, text = markdown.seeds_section(seeds)
    assert (heading, method) == ("## Each seed", "cam, means over images:")
    own = records().groupby(["model", "seed"]).average_drop.mean()["student"]
    assert f"| student: Average drop ↓ | {own[0]:.3f} | {own[1]:.3f} |" in text
    assert "| metric | seed 0 | seed 1 |" in text.replace("|  |", "| metric |")
    assert "Entropy" not in text  # the main metrics alone
    assert markdown.seeds_section(seeds[seeds.seed == 0]) == []


def test_what_is_not_testable_is_counted_and_explained():
    rows = claims(1)
    rows.loc[rows.claim == "drop", ["verdict", "why"]] = "not testable here", "9 images are too few"
    first, *_ = answer(table(TEACHER), rows, NONE, seeds=1)
    assert first.endswith(
        "none of two claims is supported: one is undecided and one is not testable here."
    )
    assert tables.ledger(rows).verdict.iloc[0] == "not testable here"
    assert tables.reasons(rows) == "Not testable: 9 images are too few."
    assert tables.reasons(claims(1)) == ""
    assert tables.verdicts(rows).loc["sound", "drop"] == "x"
    assert tables.LEGEND.endswith("x not testable here")


def test_from_claims_sound_against_literal():
    first, second, third = answer(table(TEACHER), claims(seeds=1), NONE, seeds=1)
    assert first == (
        "Of these networks, measured soundly, none of two claims is supported: one is contradicted "
        "(“the student's average drop is lower”) and one is undecided."
    )
    assert second == (
        "By the literal protocol, one of two claims is supported and one "
        "is undecided; the verdict is another one on “the student's average drop is lower”."
    )
    assert "these trained models only: the 95 % intervals are over 60 images" in third
    sound = claims()[2:]
    _, second, _ = answer(table(TEACHER), sound, NONE, seeds=2)
    assert second.startswith("They were judged by one protocol alone")


@pytest.mark.parametrize(
    ("verdicts", "text"),
    [
        (["supported"], "the one claim is supported"),
        (["undecided"], "the one claim is undecided"),
        (["supported"] * 3, "all three claims are supported"),
        (
            ["supported", "supported", "undecided"],
            "two of three claims are supported and one is undecided",
        ),
        (["contradicted"] * 2, "none of two claims is supported: all two are contradicted"),
        (
            ["no meaningful difference", "no meaningful difference", "supported"],
            "one of three claims is supported and two show no meaningful difference",
        ),
    ],
)
def test_tally(verdicts, text):
    frame = pd.DataFrame(
        {"verdict": verdicts, "says": [f"It is {i}." for i in range(len(verdicts))]}
    )
    assert tally(frame) == text


def test_doubts_are_said_of_what_is_used_and_of_nothing_else():
    trust = pd.DataFrame(
        [
            ("student", "average_drop", False),
            ("control", "average_drop", False),
            ("teacher", "average_drop", True),
            ("student", "entropy", False),
        ],
        columns=["model", "metric", "trustworthy"],
    )
    *_, third = answer(table(TEACHER), NONE, trust, seeds=1)
    assert third.endswith(
        "; not trustworthy here, for reasons below Table 1: average drop (student, control)."
    )
    first, _, third = answer(table(TEACHER), claims(), trust, seeds=2)
    assert "lower”, by a metric not trustworthy here)" in first
    assert third.endswith(": average drop (student).")  # no claim is about the control


@pytest.mark.parametrize(
    ("metric", "mean", "low", "high", "expected"),
    [
        ("average_drop", -0.1, -0.2, -0.01, "better"),
        ("average_drop", 0.1, 0.01, 0.2, "worse"),
        ("ssim", 0.1, 0.01, 0.2, "better"),
        ("ssim", 0.1, -0.01, 0.2, ""),
        ("ssim", 0.0, 0.0, 0.0, ""),
        ("mask_area", 0.1, 0.01, 0.2, ""),  # neither way is better
        ("ssim", float("nan"), float("nan"), float("nan"), ""),
        ("ssim", 0.1, float("nan"), float("nan"), ""),  # nothing to tell an interval from
    ],
)
def test_sign(metric, mean, low, high, expected):
    assert sign(pd.Series(line("a", metric, mean, low, high, other="b")), metric) == expected
