"""What the pictures show, read off their axes."""

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest

from kdxai.report import figures
from kdxai.report.figures import COLOURS, Panel


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would be saved."""
    kept = []
    monkeypatch.setattr(figures, "save", lambda figure, path: kept.append(figure))
    return kept


def test_wrong_answers_are_red(drawn):
    image = np.zeros((2, 12, 12, 3), np.uint8)
    panels = [
        Panel(np.eye(12), image[0] / 255, name, 0.9, 0.1, correct)
        for name, correct in (("ring", True), ("star", False))
    ]
    figures.gallery(None, image, ["ring", "ring"], {"one": panels})
    figures.methods(None, image, ["ring", "ring"], {"cam": panels})
    part = drawn[0].subfigs[1]
    titles = [(ax.get_title(), ax.title.get_color()) for ax in part.axes]
    assert titles == [
        ("ring 90%", "black"),
        ("→ 10%", "black"),
        ("star 90%", "#b00020"),
        ("→ 10%", "#b00020"),
    ]
    first = drawn[1].axes[::2]
    assert [ax.title.get_color() for ax in first] == ["black", "#b00020"]


def test_marks_are_means_with_their_intervals_in_the_models_colours(drawn):
    rows = [("b", 0.3, 0.1, 0.6), ("a", 0.5, 0.2, 0.9)]
    table = pd.DataFrame(rows, columns=["model", "mean", "ci_low", "ci_high"])
    table = table.assign(other="", metric="ssim")
    difference = table[:1].assign(model="a", other="b", mean=9.0)
    figures.intervals(None, pd.concat([table, difference]), ["a", "b", "not measured"])
    ax = drawn[0].axes[0]
    assert ax.get_title() == "Coherency (SSIM) ↑"
    lines = [
        (list(line.get_xdata()), list(line.get_ydata()), line.get_color()) for line in ax.lines
    ]
    assert lines == [
        ([0.2, 0.9], [0, 0], COLOURS[0]),
        ([0.5], [0], COLOURS[0]),
        ([0.1, 0.6], [1, 1], COLOURS[1]),
        ([0.3], [1], COLOURS[1]),
    ]
    assert [text.get_text() for text in ax.texts] == ["0.500", "0.300"]


def test_an_audits_picture_has_a_row_per_rung(drawn):
    rows = [
        (rung, model, metric, mean)
        for mean, rung in enumerate(("literal", "sound"))
        for model in ("a", "b")
        for metric in ("complexity", "adcc")
    ]
    table = pd.DataFrame(rows, columns=["rung", "model", "metric", "mean"])
    table = table.assign(other="", ci_low=table["mean"] - 1, ci_high=table["mean"] + 1)
    figures.rungs(None, table, ("ssim", "complexity", "adcc"))  # no SSIM was measured
    axes = drawn[0].axes
    assert [ax.get_title() for ax in axes[:2]] == ["Complexity ↓", "ADCC (mean of images) ↑"]
    assert [ax.get_ylabel() for ax in axes] == ["literal", "", "sound", ""]
    assert [ax.lines[1].get_xdata()[0] for ax in axes] == [0, 0, 1, 1]


def test_curves_are_of_the_validation_set(drawn):
    history = pd.DataFrame(
        {
            "epoch": [1, 2],
            "validation_loss": [2.0, 1.0],
            "validation_accuracy": [0.4, 0.6],
            "train_accuracy": [0.5, 0.8],
        }
    )
    figures.curves(None, {"a": history, "b": history / 2})
    loss, accuracy = drawn[0].axes
    assert [list(line.get_ydata()) for line in loss.lines] == [[2, 1], [1, 0.5]]
    assert [list(line.get_ydata()) for line in accuracy.lines[:2]] == [[0.4, 0.6], [0.5, 0.8]]
    assert [line.get_linestyle() for line in accuracy.lines[:2]] == ["-", ":"]
    colours = [matplotlib.colors.to_hex(line.get_color()) for line in loss.lines]
    assert colours == list(COLOURS[:2])
    assert [text.get_text() for text in accuracy.get_legend().get_texts()] == ["a", "b"]
