"""The sections on compression and on seed noise in Markdown."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kdxai.report import tables
from kdxai.report.answer import spoken
from kdxai.report.sections import Along, Compression, Noise, seeds_said
from kdxai.report.sweep import times


def compression_section(one: Compression) -> list[str]:
    """How far networks can be compressed, where each kind leaves the seed band, and every step."""
    parts = [f"## Compression{f' of {one.title}' if one.title else ''}", one.headline, one.caption]
    if one.leaving:
        lines = {
            left.kind + (" (control)" if left.control else ""): {
                "inside the seed band up to": step(left.inside) or "-",
                "outside from": step(left.outside) or "not within the factors tried",
                "farther than a seed": "-" if left.outside is None else farther(left.outside),
                "where both are right, outside from": step(right.outside, "_right")
                or "not within the factors tried",
            }
            for left, right in zip(one.leaving, one.right, strict=True)
        }
        parts.append(tables.markdown(pd.DataFrame(lines).T))
    rows = {
        along.step.model: {"kind": kind, **numbers(along, one.metrics)}
        for kind, its in one.rows
        for along in its
    }
    return [
        *parts,
        "Every step; in brackets, on the images that all these networks and their parents get "
        "right, where they are 20 or more; of the agreement, that a network and its parent get "
        "right. The maps of networks at chance explain nothing, whatever they score: it is struck.",
        tables.markdown(pd.DataFrame(rows).T),
        *forgotten_section(one.forgotten),
    ]


def forgotten_section(rows: pd.DataFrame) -> list[str]:
    """Whether explanations change most on the images that a compression forgets."""
    if rows.empty:
        return []
    lines = {
        row.model: {
            "forgotten images": f"{row.n_forgotten} of {row.n}",
            "r on them": tables.number(row.mean_forgotten, ".3f"),
            "r on the others": tables.number(row.mean_rest, ".3f"),
            "difference": tables.interval(row.mean, row.ci_low, row.ci_high),
        }
        for row in rows.itertuples()
    }
    return [
        "Agreement with the parent on images that compression forgets, those that most compressed "
        "networks answer differently from most dense ones:",
        tables.markdown(pd.DataFrame(lines).T),
    ]


def step(row: pd.Series | None, on: str = "") -> str:
    """`4.0 (75 % pruned; r 0.910, accuracy 90.0%)`; "" for none."""
    if row is None:
        return ""
    dead = f"; {row.collapsed} of {row.networks} collapsed" if row.collapsed else ""
    said = f"r {row[f'agreement{on}']:.3f}, accuracy {row.accuracy:.1%}{dead}"
    return f"{times(row.factor)} ({row.strength}; {said})"


def numbers(along: Along, metrics: Sequence[str]) -> dict[str, str]:
    """A line of the table of a sweep."""
    its = along.step
    values = [f"{every:.3f} ({right:.3f})" for every, right in along.metrics]
    if its.collapsed:
        values = [f"~~{value}~~" for value in values]
    return {
        "strength": its.strength,
        "factor": times(its.factor),
        "accuracy": f"{its.accuracy:.1%}",
        "agreement": f"{its.agreement:.3f} ({its.agreement_right:.3f})",
        "farther than a seed": farther(its),
        **dict(zip(metrics, values, strict=True)),
        "collapsed": f"{its.collapsed} of {its.networks}",
    }


def farther(row: pd.Series, on: str = "") -> str:
    """`+0.058 [+0.030, +0.085], +3.2 units`; `-` where it is not known."""
    gap, low, high, units = (row[f"{name}{on}"] for name in ("gap", "ci_low", "ci_high", "units"))
    if np.isnan(gap):
        return "-"
    ends = "" if np.isnan(low) else f" [{low:+.3f}, {high:+.3f}]"
    return f"{gap:+.3f}{ends}" + ("" if np.isnan(units) else f", {units:+.1f} units")


def noise_section(noise: Noise) -> list[str]:
    """How alike networks explain, in units of seed noise, and how far two seeds differ."""
    pairs = {
        what: {"pairs": says} for what, _, says in (t.rpartition(": ") for t in noise.strips.says)
    }
    parts = ["## Seed noise", seeds_said(noise.alike), tables.markdown(pd.DataFrame(pairs).T)]
    if len(noise.noise):
        lines = [
            {
                "": f"{spoken(row.one)} and {spoken(row.other)}, {row.on}",
                "two of the second": tables.number(row.within, ".3f"),
                "one of each": tables.number(row["between"], ".3f"),
                "farther than a seed": farther(row),
                "p": tables.number(row.p, ".2g"),
            }
            for _, row in noise.noise.iterrows()
        ]
        parts += [
            "How much less two models agree than two networks of the second do, with 95 % "
            "intervals, and in units of seed noise, the standard deviation of the latter. 0 is as "
            "far as another seed.",
            tables.markdown(pd.DataFrame(lines).set_index("")),
        ]
    if noise.floors:
        parts += [
            "How far two networks differ that differ in their seed alone (root mean square, with "
            "95 % intervals):",
            tables.markdown(pd.DataFrame(noise.floors).T.fillna("-")),
        ]
    return parts
