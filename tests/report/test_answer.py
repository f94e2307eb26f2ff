"""The first lines say what the numbers say, and no more."""

import re

import pandas as pd
import pytest
from report_pages import DESIGN, NONE, claims, records

from kdxai.report import answer as answers
from kdxai.report import ledger, results, tables
from kdxai.report.answer import sign, tally
from kdxai.study import stats


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


def sure(rows, seeds, judged=NONE, trust=NONE):
    return answers.sure(rows.assign(seeds=seeds), judged, trust, DESIGN)


def asked(*verdicts, metrics=("energy_inside", "pointing_game", "iou"), seeds=1):
    """The verdicts on the question's claims."""
    about = "these networks" if seeds == 1 else "the recipes"
    known = {"one": "student", "other": "teacher", "about": about}
    known |= {"networks": seeds, "networks_other": seeds}
    return pd.DataFrame(
        [
            {"metric": name, "verdict": each, "why": "noise wins" if each == NONE_HERE else ""}
            | known
            for name, each in zip(metrics, verdicts, strict=False)
        ]
    )


YES, NO, OPEN, NONE_HERE = "supported", "contradicted", "undecided", "not testable here"
ALONE = "speaking of these networks only (one seed), "


@pytest.mark.parametrize(
    ("verdicts", "word", "says"),
    [
        (
            (YES, YES, YES),
            "Yes",
            f"{ALONE}the student is no worse than the teacher in energy inside the object, "
            "pointing game and IoU with the object, by the true masks of the objects.",
        ),
        (
            (NO, YES, NO),
            "No",
            f"{ALONE}the student is worse than the teacher in energy inside the object and IoU "
            "with the object; it is no worse in pointing game, by the true masks of the objects.",
        ),
        (
            (YES, OPEN, NONE_HERE),
            "Undecided",
            f"{ALONE}the student is no worse than the teacher in energy inside the object; whether "
            "the student is worse than the teacher in pointing game is not decided; IoU with the "
            "object cannot be tested here (noise wins), by the true masks of the objects.",
        ),
    ],
)
def test_the_first_line(verdicts, word, says):
    found = answers.answer(asked(*verdicts), DESIGN)
    question = "Do the maps of the student lie on the objects as well as those of the teacher?"
    assert found == (question, word, says)


def test_the_first_line_says_each_reason_once_without_its_numbers():
    rows = asked(*[NONE_HERE] * 3, metrics=("average_drop", "complexity", "ssim"))
    rows.why = ["a: 6% (x); a: 5% (y)", "b: none (x)", "a: 9% (x)"]
    says = "average drop, complexity and coherency (SSIM) cannot be tested here (a; b)."
    assert answers.answer(rows, DESIGN).says == f"{ALONE}{says}"


def test_the_first_line_without_the_truth_or_of_several_seeds_or_of_one_model():
    rows = asked(YES, NO, metrics=("average_drop", "ssim"), seeds=3)
    assert answers.answer(rows, DESIGN) == (
        "Does the student explain as well as the teacher?",
        "No",
        "speaking of the recipes, the student is worse than the teacher in coherency (SSIM); it is "
        "no worse in average drop.",
    )
    assert answers.answer(NONE, DESIGN).says.startswith("a verdict across networks needs two")
    alone = answers.answer(NONE, DESIGN._replace(compare=()))
    assert (alone.question, alone.word) == ("", "Undecided")
    assert alone.says.startswith("no two models were compared, so this says nothing")
    stated = answers.stated(table())
    assert "student has average drop 0.300, complexity 0.300 and coherency (SSIM) 0.700" in stated


def test_the_numbers_behind_it_are_the_students_the_teachers_and_the_controls():
    rows = asked(YES, NO, metrics=("average_drop", "ssim"))
    trust = pd.DataFrame({"model": ["control"], "metric": ["ssim"], "trustworthy": [False]})
    found = answers.numbers(rows, table(TEACHER, CONTROL), trust, DESIGN, {"student": 2})
    assert [column.text for column in found.columns] == ["Metric", "student", "teacher", "control"]
    [(_, lines)] = found.groups
    told = {line.head.text: [cell.text + cell.mark for cell in line.cells] for line in lines}
    assert told == {
        "Average drop ↓": ["0.300", "0.200", "0.310"],
        "Coherency (SSIM) ↑": ["0.700", "0.700", "0.600†"],
    }
    says = "The control is the student's network, trained without a teacher."
    assert answers.third(rows, DESIGN) == says
    assert answers.third(rows, DESIGN._replace(roles={})) == ""
    alone = answers.third(rows, DESIGN._replace(compare=DESIGN.compare[:1]))
    assert alone.startswith("No third model was compared with the student, so this")


def test_several_seeds_speak_of_the_recipe_and_one_never_does():
    for seeds, expected in ((1, False), (3, True)):
        third = sure(table(TEACHER), seeds)
        assert ("about the recipes" in third) == expected
        assert ("these trained models only" in third) != expected
    assert "across 3 networks of each model and 1,000 images" in third
    over_images = claims(seeds=3).assign(across="images", about="these networks")
    third = sure(table(TEACHER), 3, over_images)
    assert third.startswith("This, the mean of 3 seeds, is about these trained models only")


def test_what_a_second_teacher_and_an_untrained_network_say():
    rows = table(
        TEACHER,
        (("second_teacher", "teacher"), -0.1, 0.01, 0.2),
        (("untrained", "teacher"), 0, 0.1, 0.2),
    )
    third = sure(rows, 1)
    assert (
        "the second teacher, of the same recipe as the teacher, differs from it by "
        "\N{MINUS SIGN}0.100 in average drop, +0.010 in complexity and +0.200 in coherency (SSIM)"
    ) in third
    assert third.endswith(
        "a network that learned nothing scores better than the teacher in coherency (SSIM)."
    )


def test_verdicts_of_one_seed_are_never_of_recipes():
    for seeds, about in ((1, "Of these networks, "), (2, "Of the recipes, ")):
        assert answers.tallied(claims(seeds)).startswith(about)
    for seeds, said in ((1, "✗ contradicted for these networks"), (2, "✗ contradicted")):
        [(_, rows)] = ledger.judged(claims(seeds)).groups
        assert [row.cells[0].sign for row in rows] == [said, "? undecided"]
    assert "another seed may give the other verdict" in tables.scope(claims(1))
    assert tables.scope(claims(2)) == "across 2 networks of each model, about the recipes"


def test_each_seeds_means_are_shown_where_there_are_several():
    seeds = stats.by_seed(records()).assign(method="cam")
    [part] = results.seeds(seeds, {})
    assert part.folded == "Each seed: CAM, means over images"
    own = records().groupby(["model", "seed"]).average_drop.mean()["student"]
    rows = {(heading, row.head.text): row for heading, its in part.table.groups for row in its}
    cells = rows["Average drop ↓", "student"].cells
    assert [cell.text for cell in cells] == [f"{own[0]:.3f}", f"{own[1]:.3f}"]
    assert [column.text for column in part.table.columns] == ["Model", "seed 0", "seed 1"]
    assert "Entropy ↓" not in [heading for heading, _ in part.table.groups]  # main metrics alone
    assert results.seeds(seeds[seeds.seed == 0], {}) == []


def test_what_is_not_testable_is_counted_and_explained():
    rows = claims(1)
    why = "9 images are too few"
    rows.loc[rows.claim == "drop", ["verdict", "why"]] = "not testable here", why
    assert (
        answers.tallied(rows)
        .split(". ")[0]
        .endswith("none of two claims is supported: one is undecided and one is not testable here")
    )
    [(_, lines)] = ledger.judged(rows).groups
    assert lines[0].cells[0].sign == "∅ not testable here"
    assert lines[0].cells[0].notes == [why]
    assert tables.sound_claims(rows).verdict.iloc[0] == "not testable here"
    assert tables.why_not(rows) == ["Not testable here: 1, 9 images are too few."]
    assert tables.why_not(rows.assign(why=why)) == [
        "Not testable here: 1 and 2, 9 images are too few."
    ]
    assert tables.why_not(claims(1)) == []
    assert tables.verdicts(rows).loc["sound", "drop"] == "x"
    assert tables.LEGEND.endswith("x not testable here")


def test_differences_by_one_metric_have_one_scale_and_a_marked_side():
    rows = claims(1).assign(metric="average_drop").iloc[2:]
    [(_, lines)] = ledger.judged(rows).groups
    large, small = (str(line.cells[1].picture) for line in lines)

    def band(picture):
        return re.findall(r'class="matters" x="([\d.]+)" width="([\d.]+)"', picture)

    assert band(large) == band(small) != []
    assert "← better" in large  # it is lower
    assert ledger.least("accuracy", 0.01) == "1 point"
    assert ledger.least("accuracy", 0.02) == "2 points"
    assert ledger.least("ssim", 0.02) == "0.02"
    accuracy = ledger.picture(next(rows.assign(metric="accuracy").itertuples()), 0.1)
    assert "better →" in accuracy
    untested = rows.assign(metric="accuracy", verdict="not testable here")
    assert "better" not in ledger.picture(next(untested.itertuples()), 0.1)


def test_the_tally_sound_against_literal():
    assert answers.tallied(claims(seeds=1)) == (
        "Of these networks, measured soundly, none of two claims is supported: one is contradicted "
        "and one is undecided. By the literal protocol, one of two claims is supported and one is "
        "undecided; the verdict is another one on “the student's average drop is lower”."
    )
    third = sure(table(TEACHER), 1, claims(seeds=1))
    assert "these trained models only: the 95 % intervals are over 60 images" in third
    assert "protocol" not in answers.tallied(claims()[2:])


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
    third = sure(table(TEACHER), 1, trust=trust)
    assert third.endswith(
        "; † not trustworthy here, for reasons below Table 1: average drop (student, control)."
    )
    third = sure(table(TEACHER), 2, claims(), trust)
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
    row = pd.Series(line("a", metric, mean, low, high, other="b"))
    assert sign(row, metric) == expected
    assert sign(row, metric, doubted=True) == ""
