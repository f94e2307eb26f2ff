"""Table 1 and the claims as text, and on a terminal."""

from collections.abc import Collection, Hashable, Mapping, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from kdxai import measures
from kdxai.errors import printable
from kdxai.report import titles
from kdxai.report.report import PERCENT, Answer, form_of, listed, p_value
from kdxai.study.claims import ABOUT, NOT_TESTABLE
from kdxai.study.question import BY_MASKS
from kdxai.study.stats import FEWEST, few

# What fits a terminal and a picture; the report has all.
MAIN = (
    *BY_MASKS,
    *("accuracy", "average_drop", "complexity", "ssim", "coherency", "adcc", "adcc_of_means"),
    *("increase", "logit_drop", "symmetric_relevance_gain", "road"),
)
LADDER = ("average_drop", "complexity", "ssim", "adcc")  # what an audit shows
MARKS = {
    **{"supported": "+", "contradicted": "-", "no meaningful difference": "=", "undecided": "?"},
    NOT_TESTABLE: "x",
}
WIDE = 12  # models and differences, from which a terminal shows the models' means alone
FULL = 160  # characters of a line from which all columns are shown
LEAST, LONGEST = 20, 28  # characters of the first column
DOUBT = "†"  # behind a number that is not trustworthy here
FEW = "‡"  # behind a number of too few images
TOO_FEW = f"fewer than {FEWEST} images: the interval may be too narrow"
LEGEND = ", ".join(f"{mark} {verdict}" for verdict, mark in MARKS.items())
Doubts = Collection[tuple[str, str]]  # (model, metric) that fail a check


def readable(table: pd.DataFrame, doubts: Doubts = frozenset()) -> pd.DataFrame:
    """One method's table, metrics down and models across: `0.123 [0.120, 0.126]`.

    Args:
      doubts: (model, metric) that are not trustworthy; their numbers are marked.
    """
    text = [
        interval(row.metric, row.mean, row.ci_low, row.ci_high)
        + (f" {DOUBT}" if is_doubted(row.model, row.other, row.metric, doubts) else "")
        + (f" {FEW}" if few(row.metric, row.n) else "")
        for row in table.itertuples()
    ]
    return across(table.assign(text=text), "text").fillna("-")


def across(table: pd.DataFrame, values: str) -> pd.DataFrame:
    """Metrics down, models and differences across, both in the table's order."""
    columns = table[["model", "other"]].drop_duplicates()
    wide = table.pivot(index="metric", columns=["model", "other"], values=values)
    wide = wide.loc[table.metric.unique(), pd.MultiIndex.from_frame(columns)]
    named = [minus(*pair) if pair[1] else pair[0] for pair in wide.columns]
    return wide.set_axis(named, axis=1).rename(index=row_name)


def row_name(metric: str) -> str:
    """`Average drop ↓`, `Accuracy ↑, %`."""
    return titles.metric(metric) + ", %" * (metric in PERCENT)


def minus(one: str, other: str) -> str:
    """What a paired difference is called where people read."""
    return f"{one} - {other}"


def interval(metric: str, mean: float, low: float, high: float) -> str:
    """`0.123 [0.120, 0.126]`; `-` for NaN, `0.123 [-]` where only the interval is."""
    if np.isnan(mean):
        return "-"
    ends = "-" if np.isnan(low) else f"{in_unit(metric, low)}, {in_unit(metric, high)}"
    return f"{in_unit(metric, mean)} [{ends}]"


def in_unit(metric: str, value: float) -> str:
    """`0.123`, of 0.123 of accuracy `12.3`."""
    scale, form, _ = form_of(metric)
    return format(scale * value, form)


def terminal(wide: pd.DataFrame, right: bool = True) -> Table:
    """A readable table for `rich.print`: numbers stay in one line, and no word is broken."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1))
    table.add_column(wide.index.name or "", min_width=LEAST)
    for column in wide:
        words = any(map(str.isalpha, "".join(wide[column])))
        # What may not be wrapped is not wrapped in its heading either.
        head = str(column) if words else "\n".join(wrap(str(column), taken(wide[column], column)))
        table.add_column(head, justify="right" if right else "left", no_wrap=not words)
    for name, row in zip(wide.index, wide.to_numpy(), strict=True):
        table.add_row(str(name), *row)
    return table


def abutting(wide: pd.DataFrame, width: int) -> list[pd.DataFrame]:
    """The columns of a table in as many tables as it takes for each to fit a terminal."""
    room = width - min(LONGEST, max(map(len, wide.index))) - 4
    parts: list[list[str]] = [[]]
    full = 0
    for name in wide:
        need = taken(wide[name], name) + 2
        if parts[-1] and full + need > room:
            parts.append([])
            full = 0
        parts[-1].append(name)
        full += need
    return [wide[part] for part in parts]


def taken(cells: pd.Series, name: Hashable) -> int:
    """How many characters wide a column is whose heading breaks between its words."""
    return max(map(len, [*cells, *str(name).split()]))


def new_console() -> Console:
    return Console(markup=False, emoji=False)  # a claim may say [this] or :this:


def show(table: pd.DataFrame, by: str = "method", trust: pd.DataFrame | None = None) -> None:
    """Print tables on the terminal, one for each value of the column `by`.

    What does not fit beside each other stands below each other; where the intervals do not fit,
    half of their width stands for them. Of many models the means alone are shown.

    Args:
      trust: `checks.trust` of the first of them, which marks numbers.
    """
    console = new_console()
    table = table[table.metric.isin(MAIN)]
    order = [name for name in MAIN if name in set(table.metric)]
    doubts = doubted(trust)
    for name, rows in table.groupby(by, sort=False):
        marked = rows.assign(text=[shortened(row, doubts) for row in rows.itertuples()])
        if len(rows[["model", "other"]].drop_duplicates()) > WIDE:  # the files have the rest
            marked = marked[marked.other == ""]
            marked["text"] = list(map(in_unit, marked.metric, marked["mean"]))
        wide = across(marked, "text").fillna("-").loc[[*map(row_name, order)]]
        every = readable(rows, doubts).loc[wide.index]
        if set(every) == set(wide) and len(abutting(every, console.width)) == 1:
            wide = every
        said = titles.method(name) if by == "method" else name
        console.print(f"Table 1: {said}, {rows.n.iloc[0]:,} images")
        for part in abutting(wide, console.width):
            console.print(terminal(part))
        doubts = set()
    if doubted(trust):
        console.print(f"{DOUBT} not trustworthy here: trust.csv and the report say why.")


def doubted(trust: pd.DataFrame | None) -> set[tuple[str, str]]:
    """(model, metric) that fail a check."""
    if trust is None or trust.empty:
        return set()
    failed = trust[~trust.trustworthy.astype(bool)]
    return set(zip(failed.model, failed.metric, strict=True))


def is_doubted(model: str, other: str, metric: str, doubts: Doubts) -> bool:
    """Whether a number, of one model or a difference of two, is not trustworthy."""
    return (model, metric) in doubts or (other, metric) in doubts


def shortened(row: Any, doubts: Doubts) -> str:
    """`0.411 ±.004`: a mean and half of its interval."""
    if np.isnan(row.mean):
        return "-"
    half = (row.ci_high - row.ci_low) / 2
    about = "" if np.isnan(half) else f" ±{in_unit(row.metric, half)}".replace("±0.", "±.")
    mark = DOUBT * is_doubted(row.model, row.other, row.metric, doubts)
    return f"{in_unit(row.metric, row.mean)}{about}{mark}"


def sound_claims(claims: pd.DataFrame) -> pd.DataFrame:
    """`claims.judge` of the last rung, to be read: claims down."""
    last = claims[claims.rung == claims.rung.iloc[-1]]
    rows = [
        {
            "claim": row.says,
            "models": minus(row.one, row.other),
            "metric": titles.plain(row.metric),
            "difference": interval(row.metric, row.mean, row.ci_low, row.ci_high)
            + form_of(row.metric, gap=True)[-1],
            "p (Holm)": p_value(row.p_holm),
            "verdict": worded(row.verdict, row.about),
            "on images both get right": worded(row.verdict_correct or "-", row.about),
        }
        for row in last.itertuples()
    ]
    return pd.DataFrame(rows).set_index("claim")


def why_not(claims: pd.DataFrame) -> list[str]:
    """Why claims of the last rung are not testable, by their numbers; empty where all are."""
    last = claims[claims.rung == claims.rung.iloc[-1]]
    found: dict[str, list[str]] = {}
    for place, why in enumerate(last.why, 1):
        if why:
            found.setdefault(why, []).append(str(place))
    return [f"Not testable here: {listed(places)}, {why}." for why, places in found.items()]


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


def show_answers(answers: Sequence[Answer]) -> None:
    """Print what the page begins with."""
    for one in answers:
        new_console().print(f"\n{one}")


def show_claims(claims: pd.DataFrame) -> None:
    """Print the ledger, and the verdicts of every rung where there are several."""
    if claims.empty:
        return
    console = new_console()
    lines = sound_claims(claims)
    says = (" ".join(text.split()) for text in lines.index)
    lines.index = [f"{place}. {printable(text)}" for place, text in enumerate(says, 1)]
    shown = ["difference", "p (Holm)", "verdict"]
    if console.width >= FULL:
        shown = ["models", "metric", *shown, "on images both get right"]
    console.print(f"Claims: {claims.rung.iloc[-1]}, {scope(claims)}")
    console.print(terminal(lines[shown], right=False))
    for line in why_not(claims):
        console.print(line)
    if claims.rung.nunique() > 1:
        wide = verdicts(claims)
        wide.columns = [str(place) for place in range(1, len(wide.columns) + 1)]
        about = claims.about.iloc[-1]
        console.print(f"Verdicts on {about} by protocol, claims by number: {LEGEND}")
        for part in abutting(wide, console.width):
            console.print(terminal(part))


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
