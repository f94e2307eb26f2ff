"""Table 1 as text."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table

from kdxai import measures
from kdxai.study.claims import ABOUT, NOT_TESTABLE
from kdxai.study.question import TRUTH
from kdxai.study.stats import FEWEST, PAIRWISE, STATISTICS, few

# What fits a terminal and a picture; the report has all.
MAIN = (
    *TRUTH,
    *("accuracy", "average_drop", "complexity", "ssim", "coherency", "adcc", "adcc_of_means"),
    *("increase", "logit_drop", "symmetric_relevance_gain", "road"),
)
LADDER = ("average_drop", "complexity", "ssim", "adcc")  # what an audit shows
MARKS = {
    **{"supported": "+", "contradicted": "-", "no meaningful difference": "=", "undecided": "?"},
    NOT_TESTABLE: "x",
}
WIDE = 6  # columns that a terminal holds with their intervals
DOUBT = "†"  # behind a number that is not trustworthy here
FEW = "‡"  # behind a number of too few images
TOO_FEW = f"fewer than {FEWEST} images: the interval may be too narrow"
LEGEND = ", ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items())
ARROWS = {1: " ↑", -1: " ↓", 0: ""}


def title(metric: str) -> str:
    """`Average drop ↓`: what the metric is called, and which way is better."""
    return STATISTICS[metric].title + ARROWS[STATISTICS[metric].better]


def readable(
    table: pd.DataFrame, doubts: Collection[tuple[str, str]] = frozenset()
) -> pd.DataFrame:
    """One method's table, metrics down and models across: `0.123 [0.120, 0.126]`.

    Args:
      doubts: (model, metric) that are not trustworthy; their numbers are marked.
    """
    text = [
        interval(row.mean, row.ci_low, row.ci_high)
        + (f" {DOUBT}" if not row.other and (row.model, row.metric) in doubts else "")
        + (f" {FEW}" if few(row.metric, row.n) else "")
        for row in table.itertuples()
    ]
    return across(table.assign(text=text), "text").fillna("-")


def across(table: pd.DataFrame, values: str) -> pd.DataFrame:
    """Metrics down, models and differences across, both in the table's order."""
    columns = table[["model", "other"]].drop_duplicates()
    wide = table.pivot(index="metric", columns=["model", "other"], values=values)
    wide = wide.loc[table.metric.unique(), pd.MultiIndex.from_frame(columns)]
    named = [difference(*pair) if pair[1] else pair[0] for pair in wide.columns]
    return wide.set_axis(named, axis=1).rename(index=title)


def difference(one: str, other: str) -> str:
    """What a paired difference is called where people read."""
    return f"{one} - {other}"


def interval(mean: float, low: float, high: float) -> str:
    """`0.123 [0.120, 0.126]`; `-` for NaN, `0.123 [-]` where only the interval is."""
    if np.isnan(mean):
        return "-"
    return f"{mean:.3f} " + ("[-]" if np.isnan(low) else f"[{low:.3f}, {high:.3f}]")


def number(value: float, form: str) -> str:
    """A number by a format; `-` for NaN."""
    return "-" if np.isnan(value) else format(value, form)


def markdown(wide: pd.DataFrame) -> str:
    """A readable table as a Markdown table."""
    rows = [[wide.index.name or "", *wide.columns], ["---"] * (len(wide.columns) + 1)]
    rows += [[name, *row] for name, row in zip(wide.index, wide.to_numpy(), strict=True)]
    return "\n".join("| " + " | ".join(map(cell, row)) + " |" for row in rows)


def cell(value: object) -> str:
    """What a cell of a Markdown table holds, in one line and without its borders."""
    return " ".join(str(value).split()).replace("|", "\\|")


def terminal(wide: pd.DataFrame, caption: str) -> Table:
    """A readable table for `rich.print`."""
    table = Table(title=caption)
    table.add_column(wide.index.name or "")
    for column in wide.columns:
        table.add_column(column, justify="right")
    for name, row in zip(wide.index, wide.to_numpy(), strict=True):
        table.add_row(name, *row)
    return table


def show(table: pd.DataFrame, by: str = "method") -> None:
    """Print tables on the terminal, one for each value of the column `by`."""
    console = Console(markup=False, emoji=False)  # a claim may say [this] or :this:
    table = table[table.metric.isin(MAIN)]
    for name, rows in table.groupby(by, sort=False):
        if len(rows[["model", "other"]].drop_duplicates()) > WIDE:  # the files have the rest
            wide = across(rows[rows.other == ""], "mean").map("{:.3f}".format)
        else:
            wide = readable(rows)
        console.print(terminal(wide, f"Table 1: {name}, {rows.n.iloc[0]:,} images"))


def ledger(claims: pd.DataFrame) -> pd.DataFrame:
    """`claims.judge` of the last rung, to be read: claims down."""
    last = claims[claims.rung == claims.rung.iloc[-1]]
    rows = [
        {
            "claim": row.says,
            "models": difference(row.one, row.other),
            "metric": (STATISTICS | PAIRWISE)[row.metric].title,
            "difference": interval(row.mean, row.ci_low, row.ci_high),
            "matters from": f"{row.matters:g}",
            "p (Holm)": number(row.p_holm, ".2g"),
            "verdict": worded(row.verdict, row.about),
            "on images both get right": worded(row.verdict_correct or "-", row.about),
        }
        for row in last.itertuples()
    ]
    return pd.DataFrame(rows).set_index("claim")


def reasons(claims: pd.DataFrame) -> str:
    """Why claims of the last rung are not testable, each reason once; "" where all are."""
    last = claims[claims.rung == claims.rung.iloc[-1]]
    found = dict.fromkeys(reason for why in last.why if why for reason in why.split("; "))
    return f"Not testable: {'; '.join(found)}." if found else ""


def worded(verdict: str, about: str) -> str:
    """A verdict; one that decides says so where it is about the networks alone."""
    decided = verdict in ("supported", "contradicted")
    return f"{verdict} for {about}" if decided and about == ABOUT["images"] else verdict


def verdicts(claims: pd.DataFrame) -> pd.DataFrame:
    """Rungs down, claims across: how each verdict changes with the protocol, as `MARKS`."""
    wide = claims.pivot(index="rung", columns="claim", values="verdict").map(
        MARKS.get, na_action="ignore"
    )
    return wide.fillna("").loc[claims.rung.unique(), claims.claim.unique()]


def networks_said(table: pd.DataFrame) -> str:
    """`5 networks of each model`, or `1 to 5 networks of a model`."""
    own = table[table.other == ""].seeds
    least, most = int(own.min()), int(own.max())
    if least == most:
        return f"{most} networks of each model"
    return f"{least} to {most} networks of a model"


def notes(records: pd.DataFrame, missing: Mapping[str, Sequence[str]]) -> list[str]:
    """What a reader of the tables must know, a sentence each.

    Args:
      records: with `model, seed`.
      missing: measure or check -> the models that it could not be made for.
    """
    sizes = records.groupby("model", sort=False).seed.nunique()
    found = []
    if sizes.nunique() > 1:
        members = ", ".join(f"{size} of {name}" for name, size in sizes.items())
        found.append(f"There are {members}; tables and verdicts are of all of them.")
    return found + [
        f"Not measured: {name} of {', '.join(models)}, {measures.lack(name)}."
        for name, models in missing.items()
    ]


def show_notes(records: pd.DataFrame, missing: Mapping[str, Sequence[str]]) -> None:
    for text in notes(records, missing):
        print(text)


def show_claims(claims: pd.DataFrame) -> None:
    """Print the ledger, and the verdicts of every rung where there are several."""
    if claims.empty:
        return
    console = Console(markup=False, emoji=False)  # a claim may say [this] or :this:
    lines = ledger(claims).drop(columns=["models", "metric", "matters from"])
    console.print(terminal(lines, f"Claims: {claims.rung.iloc[-1]}, {scope(claims)}"))
    if why := reasons(claims):
        console.print(why, markup=False)
    if claims.rung.nunique() > 1:
        about = claims.about.iloc[-1]
        console.print(terminal(verdicts(claims), f"Verdicts on {about} by protocol: {LEGEND}"))


def scope(claims: pd.DataFrame) -> str:
    """What the verdicts are about."""
    several = (claims.across == "seeds") & (claims.seeds > 1)
    across = claims[(claims.rung == claims.rung.iloc[-1]) & several]
    alone = "about these trained models only: another seed may give the other verdict"
    if across.empty:
        return f"over images, {alone}"
    least, most = across.seeds.min(), across.seeds.max()
    many = f"{most}" if least == most else f"{least} to {most}"
    said = f"across {many} networks of each model, about {across.about.iloc[0]}"
    if several.all():
        return said
    return f"{said}, or, of a single network, over images, {alone}"
