"""Tables on a terminal of 80 columns: no word is broken, and no number is lost."""

import pandas as pd
import pytest
from report_pages import PAIRS, claims, content

from benchmarks import report as benchmark
from benchmarks.report import Row
from kdxai.report import tables


@pytest.fixture
def terminal(monkeypatch, capsys):
    """What a function prints on a terminal of so many columns."""

    def printed(function, *arguments, width=80, **options):
        monkeypatch.setenv("COLUMNS", str(width))
        function(*arguments, **options)
        lines = capsys.readouterr().out.splitlines()
        assert max(map(len, lines)) <= width
        return lines

    return printed


def test_table_1_stands_in_parts(terminal):
    table = content().measured.tables["table1"]
    lines = terminal(tables.show, table, trust=content().measured.trust)
    row = table[(table.model == "student") & (table.metric == "average_drop")].iloc[0]
    assert any(line.split()[:3] == ["Average", "drop", "↓"] for line in lines)
    half = f"{(row.ci_high - row.ci_low) / 2:.3f}".removeprefix("0")
    assert f"{row['mean']:.3f} ±{half}†" in " ".join(" ".join(lines).split())
    heads = [line for line in lines if "teacher" in line]
    assert len(heads) >= 2  # models, then differences
    assert lines[-1].startswith("† not trustworthy here")
    wide = terminal(tables.show, table, width=220)
    assert any(f"[{row.ci_low:.3f}, {row.ci_high:.3f}]" in line for line in wide)


def test_accuracy_is_told_in_percent_and_its_difference_in_points(terminal):
    table = content().measured.tables["table1"]
    rows = table[table.metric == "accuracy"].set_index(["model", "other"])
    line = next(x for x in terminal(tables.show, table, width=250) if x.startswith("  Accuracy"))
    assert line.split()[:3] == ["Accuracy", "↑,", "%"]
    for row in (rows.loc["teacher", ""], rows.loc["student", "teacher"]):
        text = " [".join(f"{100 * row[name]:.1f}" for name in ("mean", "ci_low"))
        assert f"{text}, {100 * row.ci_high:.1f}]" in line
    told = " ".join(terminal(tables.show_claims, claims(1), width=250))
    assert "-1.0 [-3.0, 1.0] points" in told


def test_long_names_of_differences_are_whole(terminal):
    table = content().measured.tables["table1"]
    names = {name: f"vision_{name}" for name in ("teacher", "student", "control")}
    lines = terminal(tables.show, table.replace({"model": names, "other": names}))
    shown = table[table.metric == "average_drop"]["mean"]
    told = " ".join(line for line in lines if line.split()[:1] == ["Average"])
    assert [value for value in shown if f"{value:.3f} ±" not in told] == []


def test_no_word_is_broken_in_the_claims(terminal):
    rows = claims(1)
    says = "Distillation makes incomprehensible explanations extraordinarily coherent"
    lines = terminal(tables.show_claims, rows.assign(says=says))
    words = {word for line in lines for word in line.split()}
    assert {*says.split(), "contradicted", "undecided", "networks"} <= words
    assert any(line.split() == ["literal", "+", "?"] for line in lines)  # claims by number
    named = terminal(tables.show_claims, rows.assign(says=["[red]a", ":smile:\x1b[31m\n“ü”"] * 2))
    assert any("[red]a" in line for line in named)
    assert any(":smile:" in line for line in named)
    assert "\x1b" not in "".join(named)


def test_many_models_are_told_by_their_means_alone(terminal):
    table = content().measured.tables["table1"]
    one = table[(table.model == "teacher") & (table.other == "")]
    many = pd.concat([one.assign(model=f"model_{k}") for k in range(14)])
    lines = terminal(tables.show, many)
    assert sum("Average drop" in line for line in lines) > 1
    assert not any("±" in line for line in lines)


def test_the_benchmarks_words_are_whole(terminal):
    known = {"unit": "image", "units": 64, "milliseconds": 12.3, "low": 12.1, "high": 13.4}
    rows = [
        Row("Score-CAM of WRN-28-10", "kdxai", **known, per_second=81.0, gflops=900.0),
        Row("Score-CAM of WRN-28-10", "grad-cam", **known, ratio=2.5, target=2, agreement=0.999),
        Row("RISE", "captum", "image", 64, note="differs in the size of its masks"),
    ]
    lines = terminal(benchmark.show, rows)
    words = {word for line in lines for word in line.split()}
    assert {"Score-CAM", "WRN-28-10,", "grad-cam", "2.50x", "ms/image", "agreement"} <= words
    assert "RISE, captum: differs in the size of its masks" in lines
    assert any("fastest to slowest" in line for line in terminal(benchmark.show, rows, width=250))


def test_pairs_are_told_beside_the_models(terminal):
    lines = terminal(tables.show, content().measured.tables["table1"], width=250)
    head = next(line for line in lines if "untrained" in line)
    assert all(f"{one} - {other}" in head for one, other in PAIRS)
