"""The claims, their verdicts, and the numbers behind them."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from kdxai.report import answer, tables, titles
from kdxai.report.report import (
    DASH,
    Cell,
    Part,
    Section,
    Table,
    estimate_of,
    form_of,
    p_value,
    row,
    table,
)
from kdxai.study.claims import NOT_TESTABLE
from kdxai.study.stats import PAIRWISE, STATISTICS

SIGNS = {
    **{"supported": "✓", "contradicted": "✗", "no meaningful difference": "≈"},
    **{"undecided": "?", NOT_TESTABLE: "∅"},
}
WIDTH, HEIGHT = 150, 34  # of the picture of a difference


def section(claims: pd.DataFrame, notes: Sequence[str]) -> Section:
    """The ledger, and the verdicts of every rung where there are several; at its end `notes`."""
    reading = Part(text=answer.READING, folded="How to read the answer")
    if claims.empty:
        text = (
            "No claims were tested as such in this run; Table 1 below has the differences that "
            "they would be about."
        )
        parts = [Part(text=text), reading, Part(notes=notes)]
        return Section("claims", "Claims", "The claims", [part for part in parts if any(part)])
    text = (
        f"Declared before the run and judged {tables.scope(claims)}. In the picture the line is no "
        "difference, the grey band what is too small to matter, and the bar the 95 % interval; the "
        "scale is one for all claims by a metric, and the side on which the first model is better "
        "is marked where that can be tested. p-values are adjusted by Holm's method."
    )
    parts = [Part(text=text, table=judged(claims)), reading]
    if claims.rung.nunique() > 1:
        name = "The verdicts at every step of the audit"
        note = f"One repair per column, about {claims.about.iloc[-1]}."
        parts.append(Part(table=by_rung(claims, name), notes=[note], folded=name))
    parts.append(Part(notes=notes))
    return Section("claims", "Claims", "The claims", [part for part in parts if any(part)])


def verdict(word: str, about: str) -> Cell:
    """A verdict, coloured as it is."""
    if not word:
        return Cell(DASH)
    said = f"{SIGNS[word]} {tables.worded(word, about)}"
    return Cell(sign=said, tone=word.replace(" ", "-"))


def judged(claims: pd.DataFrame) -> Table:
    """Every claim by the last, the sound rung, in order."""
    first, several = claims.rung.iloc[0], claims.rung.nunique() > 1
    columns = ["Claim", "Measured soundly", *([f"By the {first} protocol"] if several else [])]
    columns += ["Difference", "p (Holm)", "On images both get right"]
    sound = answer.at_rung(claims, -1)
    ends = sound[["mean", "ci_low", "ci_high", "matters"]].abs().max(axis=1)
    reach = ends.groupby(sound.metric).max()
    literal = claims[claims.rung == first].set_index("claim").verdict
    lines = []
    for one in sound.itertuples():
        cells = [verdict(one.verdict, one.about)._replace(notes=[one.why] if one.why else [])]
        if several:
            cells.append(verdict(literal.get(one.claim, ""), one.about))
        of = f"{titles.in_sentence(one.metric)}, {titles.difference(one.one, one.other)}"
        gap = estimate_of(one.metric, (one.mean, one.ci_low, one.ci_high), gap=True)
        gap = gap if gap.notes else Cell("not measured")
        notes = [*gap.notes, f"{of}; matters from {least(one.metric, one.matters)}"]
        gap = gap._replace(notes=notes, picture=picture(one, reach[one.metric]))
        right = verdict(one.verdict_correct, one.about)
        lines.append(row(one.says, *cells, gap, p_value(one.p_holm), right))
    name = "The claims, their verdicts and the numbers behind them"
    return table(name, columns, lines, words=True)


def least(metric: str, matters: float) -> str:
    """`0.02`, `1 point`: the smallest difference that does."""
    scale, _, unit = form_of(metric, gap=True)
    return f"{scale * matters:g}{unit.removesuffix('s') if scale * matters == 1 else unit}"


def by_rung(claims: pd.DataFrame, name: str) -> Table:
    """Claims down, rungs across: how each verdict changes with the protocol."""
    rungs = list(dict.fromkeys(claims.rung))
    about = claims.about.iloc[-1]
    lines = [
        row(
            own.says.iloc[-1],
            *(verdict(own.set_index("rung").verdict.get(rung, ""), about) for rung in rungs),
        )
        for _, own in claims.groupby("claim", sort=False)
    ]
    return table(name, ("Claim", *rungs), lines, words=True)


def picture(claim: Any, reach: float) -> Markup:
    """A difference beside zero and beside what would matter, for the page.

    Args:
      claim: with `metric, mean, ci_low, ci_high, matters, verdict`.
      reach: the largest number that the scale is to hold, on either side.
    """
    if np.isnan(claim.ci_low):
        return Markup("")

    def x(value: float) -> str:
        return f"{WIDTH / 2 * (1 + value / (1.06 * reach)):.1f}"

    better = (STATISTICS | PAIRWISE)[claim.metric].better
    told = better and claim.verdict != NOT_TESTABLE
    at, anchor, arrow = (WIDTH, "end", "better →") if better > 0 else (0, "start", "← better")
    side = Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(
        at, HEIGHT - 1, anchor, arrow
    )
    return Markup(
        '<svg class="gap" viewBox="0 0 {w} {h}" aria-hidden="true">'
        '<rect class="matters" x="{a}" width="{band}" y="1" height="18"/>'
        '<line class="zero" x1="{zero}" x2="{zero}" y1="0" y2="20"/>'
        '<line class="estimate" x1="{low}" x2="{high}" y1="10" y2="10"/>'
        '<circle class="estimate" cx="{mean}" cy="10" r="3.4"/>{side}</svg>'
    ).format(
        **{"w": WIDTH, "h": HEIGHT, "a": x(-claim.matters), "zero": x(0), "mean": x(claim.mean)},
        **{"low": x(claim.ci_low), "high": x(claim.ci_high), "side": side if told else ""},
        band=f"{float(x(claim.matters)) - float(x(-claim.matters)):.1f}",
    )
