"""The plain report: every number beside its own computation."""

import re

import numpy as np
import pandas as pd
import pytest
import sweep_pages
from report_pages import NONE, content

from kdxai.report import compose, headline, ledger, pages
from kdxai.report.networks import NO_NETWORKS
from kdxai.study import stats
from kdxai.study.beyond import PAIRWISE
from kdxai.study.stats import STATISTICS

TIMES = "\N{MULTIPLICATION SIGN}"


def rows_of(text, heading):
    """The tables below a heading: row's name -> cells, one dictionary per table."""
    level, section = re.split(rf"^(##+) {heading}.*\n", text, maxsplit=1, flags=re.MULTILINE)[1:]
    section = re.split(rf"^#{{1,{len(level)}}} ", section, flags=re.MULTILINE)[0]
    tables = re.findall(r"(?:^\|.*\n?)+", section, re.MULTILINE)
    cells = [[line.strip("| ").split(" | ") for line in one.splitlines()] for one in tables]
    return [{name: values for name, *values in one[2:]} for one in cells]


def report(measured, many=NO_NETWORKS, **changes):
    page = content()._replace(measured=measured._replace(**changes), many=many)
    return pages.markdown(compose.report(page))


def test_zero_and_constant_maps_are_counted(measured):
    [counts] = rows_of(report(measured), "Zero and constant maps")
    assert counts["student"] == ["CAM", "120", "2", "0", "0", "0"]  # one image, two seeds


def test_methods_stand_side_by_side_with_their_means(measured):
    rng = np.random.default_rng(0)
    records = measured.records
    other = records.assign(method="edges", average_drop=rng.exponential(size=len(records)))
    text = report(measured, records=pd.concat([records, other], ignore_index=True))
    tables = rows_of(text, "Methods side by side")
    assert len(tables) == 4
    for table, (_, mine), (_, its) in zip(
        tables,
        records.groupby("model", sort=False),
        other.groupby("model", sort=False),
        strict=True,
    ):
        means = [f"{rows.average_drop.mean():.3f}" for rows in (mine, its)]
        assert table["Average drop ↓"] == means


def test_a_metric_prefers_the_map_to_the_control(measured):
    """A control that is worse on a quarter of the images, and equal on another."""
    records = measured.records
    place = records.image % 4
    drop = records.average_drop + np.select([place == 0, place == 1], [0.1, 0], -0.1)
    text = report(
        measured,
        records=pd.concat(
            [records, records.assign(method="random", average_drop=drop)], ignore_index=True
        ),
    )
    for table in rows_of(text, "Which metrics tell an explanation from a map that knows nothing"):
        assert table["Average drop ↓"] == ["0.38"]  # lower is better: 1/4 + 1/8
        assert table["Coherency (SSIM) ↑"] == ["0.50"]


def test_differences_have_their_own_columns(measured):
    found = stats.differences(measured.records, [("student", "teacher")], resamples=100)
    [row] = found[found.metric == "average_drop"].itertuples()
    [table] = rows_of(report(measured, differences=found.assign(method="cam")), "How large")
    difference, floors, ranks, wilcoxon, correct, images = table["Average drop ↓"]
    assert difference == f"{row.mean:+.3f} [{row.ci_low:+.3f}, {row.ci_high:+.3f}]"
    assert floors == f"{row.in_floors:+.1f}"
    assert ranks == f"{row.rank_biserial:+.2f}"
    assert wilcoxon == ("\\< 0.001" if row.wilcoxon_p < 0.001 else f"{row.wilcoxon_p:.3f}")
    assert correct.startswith(f"{row.mean_correct:+.3f} [")
    assert images == f"{row.n_correct:,.0f}"


def test_metrics_that_fail_their_checks_are_named_with_the_reason(measured):
    text = report(measured)
    [table] = rows_of(text, "Sanity checks: why 1 number is not trustworthy here")
    assert table == {"Average drop ↓": ["R 40%"]}  # and nothing of the teacher
    good = measured.trust.assign(trustworthy=True)
    assert "Every metric passes its sanity checks." in report(measured, trust=good)
    assert "anity checks:" not in report(measured, trust=NONE)


def test_agreement_is_the_mean_over_images(measured):
    [table] = rows_of(report(measured), "Agreement of two models on the same image and class")
    assert table["student and teacher, CAM"] == ["0.500", "0.600"]  # same class, Pearson's r


def networks(parents):
    page = sweep_pages.page(parents)
    return page.many


def test_a_sweep_in_plain_text(measured):
    own = sweep_pages.made()
    text = report(measured, networks(5))
    assert headline.headline(own.sweep) in text
    left, forgotten, *steps = rows_of(text, "Compression")
    steps = {name: cells for kind in steps for name, cells in kind.items()}
    assert set(forgotten) == set(sweep_pages.MODELS)
    out = own.sweep.steps.set_index("model").loc["tuned-8"]
    cells = left["pruned by magnitude, fine-tuned"]
    assert cells[0].startswith(f"4.0{TIMES} 75 % pruned, r ")
    assert (
        cells[1] == f"8.0{TIMES} 87.5 % pruned, r {out.agreement:.3f}, accuracy {out.accuracy:.1%}"
    )
    assert cells[2].startswith(f"{out.gap:+.3f} [{out.ci_low:+.3f}, {out.ci_high:+.3f}], ")
    assert left["pruned at random (control)"][0] == "-"
    assert "not within the factors tried" in left["pruned by magnitude, BatchNorm re-estimated"]
    assert len(steps) == len(sweep_pages.MODELS)
    dead = ["prune-8 87.5 % pruned, 5 of 5 collapsed", "random-2 50 % pruned, 5 of 5 collapsed"]
    assert [name for name in steps if "5 of 5 collapsed" in name] == dead
    assert [name for name, cells in steps.items() if "~~" in "".join(cells)] == dead


def test_seed_noise_in_plain_text(measured):
    own = sweep_pages.made()
    text = report(measured, networks(5))
    noise, *_, floors = rows_of(text, "Seed noise")
    assert "On 60 images two of dense agree at r = 0.82 to 0.87" in text
    row = own.noise[(own.noise.one == "prune-2") & (own.noise.metric == "pearson")].iloc[-1]
    assert noise["prune-2 and dense"][2:4] == [f"{row.within:.3f}", f"{row['between']:.3f}"]
    assert set(floors) >= {"Accuracy ↑", "ADCC (mean of images) ↑"}
    alone = report(measured, networks(1))
    assert "Give it networks that differ in the seed alone" in alone
    assert "No population here has two networks" in alone


def test_without_several_networks_there_is_neither_section(measured):
    text = report(measured)
    assert "Seed noise" not in text
    assert "## Compression" not in text


def test_every_metric_of_a_claim_is_told_by_its_name():
    numbers = {"mean": 0.1, "ci_low": 0.0, "ci_high": 0.2, "matters": 0.02, "p_holm": 0.1}
    texts = {"rung": "sound", "one": "a", "other": "b", "about": "these networks", "why": ""}
    row = numbers | texts | {"verdict": "undecided", "verdict_correct": ""}
    metrics = [*STATISTICS, *PAIRWISE]
    claims = pd.DataFrame([row | {"claim": name, "says": name, "metric": name} for name in metrics])
    [(_, rows)] = ledger.judged(claims).groups
    told = {line.head.text: line.cells[1].notes[1] for line in rows}
    assert len(set(told.values())) == len(metrics)
    assert told["pairwise_ssim"].startswith("agreement of all with all (SSIM), a")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a | b\nc", "a \\| b c"),
        ("r$a_{i$", "r\\$a\\_{i\\$"),
        ("*x* _y_ `z`", "\\*x\\* \\_y\\_ \\`z\\`"),
        ("[a](b) <b>&lt;", "[a\\](b) \\<b>\\&lt;"),
        ("second_teacher “ü” 'q'", "second_teacher “ü” 'q'"),
        ("~~a~~ 1 < 2 & 3", "\\~~a\\~~ 1 \\< 2 & 3"),
    ],
)
def test_names_are_text_and_never_markup(name, shown):
    assert str(pages.escaped(name)) == shown
