"""How far networks can be compressed before their explanations change more than by a new seed."""

import pandas as pd

from kdxai.report import titles
from kdxai.report.report import Answer
from kdxai.report.sweep import Band, Leaving, Sweep, leaving, times
from kdxai.study.question import NO, UNDECIDED, YES


def short(one: Sweep) -> Answer:
    """Whether this population can be compressed, and how far, before its maps change more than by
    a new seed.
    """
    name, found = titles.quoted(one.dense), farthest(one)
    if "agreement" not in one.bands:
        word = UNDECIDED
        says = (
            f"how far {name} can be compressed before its explanations change more than training "
            "it again would change them cannot be said from one network."
        )
    elif found is None:
        word = NO
        says = (
            f"none of the compressions tried leaves a network of {name} explaining as it did: each "
            "changes its maps more than another seed would."
        )
    else:
        best, far = found
        end = "." if best.outside is not None else ", or further: nothing stronger was tried."
        word = YES
        says = (
            f"{name} can be compressed {times(far.factor)} times ({best.kind}; accuracy "
            f"{far.accuracy:.1%}, dense {one.bands['accuracy'].mean:.1%}) before its explanations "
            f"change more than another seed would change them{end}"
        )
    asks = (
        f"Can {name} be compressed before its explanations change more than another seed would "
        "change them?"
    )
    return Answer(asks, word, says)


def farthest(one: Sweep) -> tuple[Leaving, pd.Series] | None:
    """Of the kinds that are no control, the one that goes farthest within the seed band, and its
    last step there.
    """
    ways = [(way, way.inside) for way in leaving(one) if not way.control]
    far = {step.factor: (way, step) for way, step in ways if step is not None}
    return far[max(far)] if far else None


def headline(one: Sweep) -> str:
    """The same with the numbers behind it, and of every kind."""
    name = titles.quoted(one.dense)
    if "agreement" not in one.bands:
        return (
            f"There is one network of {name}, and so no seed band: nothing tells how much training "
            "it again would change its explanations. Give it networks that differ in the seed "
            "alone (more files or places, or more seeds) and run the same command again."
        )
    pairs = one.bands["agreement"]
    seeds = (
        f"two networks of {name} that differ in their seed (r = {span(pairs)}, "
        f"{'one pair' if pairs.size == 1 else f'{pairs.size} pairs'})"
    )
    real = [way for way in leaving(one) if not way.control]
    found = farthest(one)
    if found is None:
        said = [
            f"{way.kind} at {times(way.outside.factor)} times (r = {way.outside.agreement:.2f})"
            for way in real
            if way.outside is not None
        ]
        weakest = f", at the weakest tried: {'; '.join(said)}" if said else ""
        return f"No kind of compression stays as alike as {seeds}{weakest}."
    best, far = found
    text = (
        f"At {times(far.factor)} times ({best.kind}, {far.strength}) a network agrees with its "
        f"parent at r = {far.agreement:.2f}, no less than {seeds}, and is {far.accuracy:.1%} "
        f"accurate (dense: {one.bands['accuracy'].mean:.1%})"
    )
    if best.outside is not None:
        out = best.outside
        text += f"; at {times(out.factor)} times it no longer does (r = {out.agreement:.2f})"
    rest = [way for way in real if way.kind != best.kind]
    kept = [
        f"{way.kind} to {times(way.inside.factor)} times"
        + ("" if way.outside is not None else ", the most tried")
        for way in rest
        if way.inside is not None
    ]
    lost = [way.kind for way in rest if way.inside is None]
    more = f" Within the band, too: {'; '.join(kept)}." if kept else ""
    less = f" Outside from the weakest tried: {'; '.join(lost)}." if lost else ""
    return f"{text}.{more}{less}"


def span(band: Band) -> str:
    """`0.82 to 0.87`; one value alone."""
    return f"{band.mean:.2f}" if band.size == 1 else f"{band.low:.2f} to {band.high:.2f}"
