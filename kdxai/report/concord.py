"""A picture of which metrics agree, and of which finds the truth."""

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.cluster import hierarchy
from scipy.spatial.distance import squareform

from kdxai.report import diagrams, figures
from kdxai.study.concord import TRUTH, against_truth
from kdxai.study.stats import STATISTICS


def called(metric: str) -> str:
    """Without its direction: all are turned so that more is better."""
    return "Truth (mean rank)" if metric == TRUTH else STATISTICS[metric].title


def matrix(table: pd.DataFrame) -> pd.DataFrame:
    """The `rho` of `study.concord.concord` of every two metrics, 1 of each with itself, those that
    agree side by side.
    """
    square = table.pivot(index="metric", columns="other", values="rho")
    square = square.loc[square.columns].where(~np.eye(len(square), dtype=bool), 1.0)
    apart = squareform(1 - square.fillna(0).to_numpy(), checks=False)
    tree = hierarchy.linkage(apart, "average", optimal_ordering=True)
    leaves = hierarchy.leaves_list(tree)
    return square.iloc[leaves, leaves]


def draw(path: Path, table: pd.DataFrame) -> None:
    """The matrix; and where there are masks, each metric's correlation with the truth.

    Raises:
      UserError: it cannot be written.
    """
    square, truth = matrix(table), against_truth(table).dropna(subset="rho")
    count = len(square)
    side = max(4.0, 0.3 * count + 2)
    figure = Figure(figsize=(side + 6 * bool(len(truth)), side), layout="constrained")
    left, *others = figure.subplots(
        1, 1 + bool(len(truth)), width_ratios=[side, 5][: 1 + bool(len(truth))], squeeze=False
    )[0]
    left.imshow(square, cmap="RdBu", vmin=-1, vmax=1)
    for (i, j), rho in np.ndenumerate(square.to_numpy()):
        if i != j and np.isfinite(rho):
            colour = "white" if abs(rho) > 0.6 else "black"
            text = diagrams.two_digits(rho)
            left.text(j, i, text, ha="center", va="center", fontsize=5.5, color=colour)
    names = [called(name) for name in square.index]
    left.set_xticks(range(count), names, fontsize=7, rotation=90)
    left.set_yticks(range(count), names, fontsize=7)
    left.tick_params(length=0)
    left.spines[:].set_visible(False)
    left.set_title("Spearman's rho over methods, within images; more is better of all", fontsize=9)
    for right in others:
        places = range(len(truth))
        errors = [truth.rho - truth.ci_low, truth.ci_high - truth.rho]
        right.errorbar(truth.rho, places, xerr=errors, fmt="o", ms=4, color=figures.BAND)
        right.axvline(0, color=figures.GREY, lw=1)
        right.set_yticks(places, [called(name) for name in truth.metric], fontsize=7)
        right.set_ylim(len(truth) - 0.5, -0.5)
        right.grid(axis="x", alpha=0.3)
        right.spines[["top", "right", "left"]].set_visible(False)
        right.set_title("rho with the truth", fontsize=9)
    figures.save(figure, path)
