"""What the pictures show, read off their axes."""

import matplotlib.colors
import numpy as np
import pandas as pd
import pytest
from sweep_pages import made

from kdxai.report import diagrams, figures, seeds
from kdxai.report.figures import COLOURS, Panel
from kdxai.report.headline import headline


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


def test_a_sweeps_picture_has_the_numbers_of_the_networks(drawn):
    own = made().sweep
    figures.compression(None, [own])
    axes = drawn[0].subfigs[0].axes
    assert [ax.get_title() for ax in axes] == list(diagrams.TITLES.values())
    assert {ax.get_xscale() for ax in axes} == {"log"}
    agreement = axes[1]
    low, high = agreement.patches[0].get_y(), agreement.patches[0].get_height()
    assert (low, low + high) == pytest.approx((0.82, 0.87), abs=1e-4)
    lines = [(list(line.get_xdata()), list(line.get_ydata())) for line in agreement.lines]
    rows = own.steps[own.steps.kind == "pruned by magnitude"]
    assert ([1, *rows.factor[:2]], [1, *rows.agreement[:2]]) in lines  # until it collapses
    dead = own.networks[own.networks.collapsed]
    assert (list(dead.factor), list(dead.agreement)) in lines
    text = " ".join(drawn[0].subfigs[0].get_suptitle().split())
    assert text == headline(own)


def test_the_matrix_is_drawn_with_its_values(drawn):
    own = made(2)
    found = seeds.alike(own.pairwise, [own.sweep], "dense")
    figures.agreement(None, found)
    left, right = drawn[0].axes
    count = len(found.networks)
    assert [tick.get_text() for tick in left.get_yticklabels()] == list(found.networks)
    texts = {text.get_position()[::-1]: text.get_text() for text in left.texts}
    assert len(texts) == count * (count - 1)
    assert texts[3, 0] == diagrams.two_digits(found.matrix[3, 0])
    np.testing.assert_array_equal(
        np.delete(np.asarray(left.images[0].get_array())[0], 0), found.matrix[0, 1:]
    )
    dots = [list(line.get_xdata()) for line in right.lines if line.get_marker() == "o"]
    assert dots == [list(one.values) for one in found.pairs]
