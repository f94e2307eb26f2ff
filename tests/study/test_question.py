"""Whether one model explains as well as another: the rule, on hand-made verdicts and records."""

import pytest
from test_claims import records

from kdxai.study import question
from kdxai.study.claims import judge
from kdxai.study.design import Design

DESIGN = Design("teacher", [("student", "teacher"), ("student", "control")], ())
BOTH = {"student": 3, "teacher": 3}


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (["supported"] * 3, "Yes"),
        (["supported", "not testable here"], "Yes"),
        (["supported", "undecided", "supported"], "Undecided"),
        (["undecided"], "Undecided"),
        (["supported", "contradicted", "undecided"], "No"),
        (["contradicted", "not testable here"], "No"),
        (["not testable here"] * 3, "Undecided"),
        ([], "Undecided"),
    ],
)
def test_yes_no_or_undecided(verdicts, expected):
    assert question.answer(verdicts) == expected


def test_the_truth_leads_where_it_is_known():
    usual = {"average_drop", "complexity", "ssim", "adcc"}
    assert question.metrics(usual) == ["average_drop", "complexity", "ssim"]
    assert question.metrics({"average_drop", "ssim", "iou", "energy_inside"}) == [
        *("energy_inside", "iou"),
    ]


def test_the_first_pair_is_asked_about():
    found = question.claims(DESIGN, {"average_drop", "ssim"}, BOTH, "auto")
    assert [(one["one"], one["other"]) for one in found.values()] == [("student", "teacher")] * 2
    assert [one["direction"] for one in found.values()] == ["not_higher", "not_lower"]
    assert found["as_well_ssim"]["says"] == "Coherency (SSIM): student is no worse than teacher"
    alone = {"student": 1, "teacher": 3}
    assert question.claims(DESIGN, {"ssim"}, alone, "seeds") == {}
    assert question.claims(DESIGN, {"ssim"}, alone, "auto") != {}
    assert question.claims(DESIGN._replace(compare=[]), {"ssim"}, BOTH, "auto") == {}


@pytest.mark.parametrize(("shift", "expected"), [(0.1, "Yes"), (-0.1, "No"), (-0.02, "Undecided")])
def test_the_answer_follows_the_difference(shift, expected):
    asked = question.claims(DESIGN, {"ssim"}, BOTH, "auto")
    found = judge(records(shift), asked, resamples=200)
    assert question.answer(found.verdict) == expected
