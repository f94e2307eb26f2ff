"""Table 1 as text."""

import pandas as pd
from rich.console import Console
from rich.table import Table

from kdxai.study.stats import STATISTICS

# What fits a terminal and a picture; the report has all.
MAIN = (
    *("accuracy", "average_drop", "complexity", "ssim", "coherency", "adcc", "adcc_of_means"),
    *("increase", "logit_drop", "symmetric_relevance_gain", "road", "energy_inside"),
)
ARROWS = {1: " ↑", -1: " ↓", 0: ""}


def title(metric: str) -> str:
    """`Average drop ↓`: what the metric is called, and which way is better."""
    return STATISTICS[metric].title + ARROWS[STATISTICS[metric].better]


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """One method's table, metrics down and models across: `0.123 [0.120, 0.126]`."""
    cells = table.assign(
        metric=table.metric.map(title),
        text=[
            f"{row.mean:.3f} [{row.ci_low:.3f}, {row.ci_high:.3f}]"
            for row in table[["mean", "ci_low", "ci_high"]].itertuples()
        ],
    )
    wide = cells.pivot(index="metric", columns="model", values="text")
    return wide.loc[cells.metric.unique(), cells.model.unique()]


def markdown(wide: pd.DataFrame) -> str:
    """A readable table as a Markdown table."""
    rows = [[wide.index.name or "", *wide.columns], ["---"] * (len(wide.columns) + 1)]
    rows += [[name, *row] for name, row in zip(wide.index, wide.to_numpy(), strict=True)]
    return "\n".join("| " + " | ".join(map(str, row)) + " |" for row in rows)


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
    console = Console()
    table = table[table.metric.isin(MAIN)]
    for name, rows in table.groupby(by, sort=False):
        console.print(terminal(readable(rows), f"Table 1: {name}, {rows.n.iloc[0]:,} images"))
