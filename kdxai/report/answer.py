"""The answer of a study in three sentences: what holds, beside what, and how sure that is."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kdxai.report import tables
from kdxai.study.claims import NOT_TESTABLE
from kdxai.study.design import Design
from kdxai.study.stats import PAIRWISE, STATISTICS

HEADLINE = ("average_drop", "complexity", "ssim")
MINUS = "\N{MINUS SIGN}"
VERDICTS = ("supported", "contradicted", "no meaningful difference", "undecided", NOT_TESTABLE)


def answer(
    table: pd.DataFrame, claims: pd.DataFrame, trust: pd.DataFrame, seeds: int, design: Design
) -> tuple[str, str, str]:
    """Three sentences, from the claims where some were tested, else from the table.

    Args:
      table: `stats.table` of one method.
      claims, trust: as in `html.Page`; may be empty.
      seeds: replicates that the table is of.
      design: which models are compared, and what they are called.
    """
    if claims.empty:
        used = [(model, metric) for model in table.model.unique() for metric in HEADLINE]
        doubts = doubted(used, trust)
        return *from_table(table, design), sure(table, seeds, int(table.n.max()), doubts, design)
    sound = at_rung(claims, -1)
    used = [(row[side], row.metric) for _, row in sound.iterrows() for side in ("one", "other")]
    across = "seeds" if (sound.across == "seeds").any() else "images"
    of, doubts = (int(sound.seeds.max()), int(sound.n.max())), doubted(used, trust)
    third = sure(table, *of, doubts, design, across)
    return *from_claims(claims, trust), third


def from_claims(claims: pd.DataFrame, trust: pd.DataFrame) -> tuple[str, str]:
    """What holds by the sound protocol, the last rung, and by the first."""
    sound, literal = at_rung(claims, -1), at_rung(claims, 0)
    told = tally(sound.assign(says=with_doubts(sound, trust)), named=True)
    first = f"Of {sound.about.iloc[0]}, measured soundly, {told}."
    if claims.rung.nunique() == 1:
        return first, (
            "They were judged by one protocol alone, so this does not say how much of it comes "
            "from the measuring."
        )
    verdicts = sound.set_index("claim").verdict
    moved = literal[[verdicts.get(r.claim, r.verdict) != r.verdict for r in literal.itertuples()]]
    change = "no verdict differs between the two"
    if len(moved) > 3:
        change = f"the verdicts on {spelt(len(moved))} of them are others"
    elif len(moved):
        change = f"the verdict is another one on {listed([quoted(says) for says in moved.says])}"
    return first, f"By the {literal.rung.iloc[0]} protocol, {tally(literal)}; {change}."


def with_doubts(claims: pd.DataFrame, trust: pd.DataFrame) -> list[str]:
    """What the claims say, with a warning where their metric is not trustworthy."""
    bad = untrustworthy(trust)
    return [
        quoted(row.says)
        + (
            ", by a metric not trustworthy here"
            if {(row.one, row.metric), (row.other, row.metric)} & bad
            else ""
        )
        for row in claims.itertuples()
    ]


def at_rung(claims: pd.DataFrame, place: int) -> pd.DataFrame:
    return claims[claims.rung == list(dict.fromkeys(claims.rung))[place]]


def tally(claims: pd.DataFrame, named: bool = False) -> str:
    """`two of three claims are supported and one is undecided`.

    Args:
      named: say which are supported and which contradicted.
    """
    says = {verdict: list(claims.says[claims.verdict == verdict]) for verdict in VERDICTS}
    total = spelt(len(claims))
    parts = []
    for verdict, those in says.items():
        if not those:
            continue
        many = len(those) > 1
        count = f"all {total}" if len(those) == len(claims) else spelt(len(those))
        if verdict == "supported":
            count += " claims" if len(those) == len(claims) else f" of {total} claims"
        if len(claims) == 1:
            count = "the one claim"
        verb = "are" if many else "is"
        if verdict == "no meaningful difference":
            verb = "show" if many else "shows"
        which = f" ({'; '.join(those)})"
        decided = verdict in ("supported", "contradicted")
        parts.append(f"{count} {verb} {verdict}{which if named and decided else ''}")
    none = "" if says["supported"] or len(claims) == 1 else f"none of {total} claims is supported: "
    return none + listed(parts)


def spelt(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return words[count] if count < len(words) else str(count)


def quoted(says: str) -> str:
    """A claim inside a sentence: `its drop is lower`."""
    says = says.strip().rstrip(".")
    return f"“{says[:1].lower()}{says[1:]}”"


def from_table(table: pd.DataFrame, design: Design) -> tuple[str, str]:
    """The first pair of the design, and the next model that the same one is compared with."""
    differences = table[table.other != ""]
    found = dict.fromkeys(zip(differences.model, differences.other, strict=True))
    pairs = [pair for pair in dict.fromkeys([*design.compare, *found]) if pair in found]
    images = f"On {table.n.max():,} test images"
    if not pairs:
        models = list(table.model.unique())
        values = table.set_index(["model", "metric"])["mean"]
        stated = [
            f"{spoken(model)} has "
            + listed(
                [f"{called(m)} {values[model, m]:.3f}" for m in HEADLINE if (model, m) in values]
            )
            for model in models
        ]
        return (
            f"{images} {'; '.join(stated)}.",
            "No two models were compared, so this says nothing about what tells them apart.",
        )
    one = design.called(pairs[0][0])
    first = f"{images} {compared(table, *pairs[0], design)}."
    beside = [pair for pair in pairs[1:] if pair[0] == pairs[0][0]]
    if not beside:
        return first, (
            f"{upper(one)} was compared with no third model, so this does not say what makes the "
            "difference."
        )
    second = upper(compared(table, *beside[0], design))
    other = beside[0][1]
    if other in design.roles:
        second += f"; {design.called(other)} is {design.roles[other]}"
    return first, f"{second}."


def compared(table: pd.DataFrame, one: str, other: str, design: Design) -> str:
    """`the small one scores worse than the large one in drop (0.3 against 0.2) and ...`."""
    rows = table.set_index(["model", "other", "metric"])
    found: dict[str, list[str]] = {"better": [], "worse": [], "": []}
    for metric in HEADLINE:
        if (one, other, metric) in rows.index:
            a, b = (rows.loc[(name, "", metric), "mean"] for name in (one, other))
            found[sign(rows.loc[(one, other, metric)], metric)].append(
                f"{called(metric)} ({a:.3f} against {b:.3f})"
            )
    mine, its = design.called(one), design.called(other)
    parts = [
        f"{word} than {its} in {listed(found[word])}" for word in ("better", "worse") if found[word]
    ]
    text = f"{mine} scores {listed(parts)}" if parts else ""
    if found[""]:
        subject = "the two are" if parts else f"{mine} and {its} are"
        text += (", and " if parts else "") + f"{subject} not told apart in {listed(found[''])}"
    return text


def upper(sentence: str) -> str:
    """With a capital, where it does not begin with a model's own name."""
    return f"The {sentence[4:]}" if sentence.startswith("the ") else sentence


def sign(row: pd.Series, metric: str) -> str:
    """What a paired difference says of its first model: better, worse, or "" where 0 is inside."""
    if np.isnan(row.ci_low) or row.ci_low <= 0 <= row.ci_high or not STATISTICS[metric].better:
        return ""
    return "better" if (row["mean"] > 0) == (STATISTICS[metric].better > 0) else "worse"


def sure(
    table: pd.DataFrame,
    seeds: int,
    images: int,
    doubts: Sequence[str],
    design: Design,
    across: str = "seeds",
) -> str:
    """Over what the intervals are, and what else to know before building on the numbers."""
    rows = table.set_index(["model", "other", "metric"])
    again = tuple(design.floor)
    known = [metric for metric in HEADLINE if again and (*again, metric) in rows.index]
    if seeds > 1 and across == "seeds":
        text = (
            f"The 95 % intervals are across {tables.networks_said(table)} and {images:,} "
            f"images, so they are about {design.population()}"
        )
    else:
        runs = "With one seed this" if seeds == 1 else f"This, the mean of {seeds} seeds,"
        text = (
            f"{runs} is about these trained models only: the 95 % intervals are over {images:,} "
            "images, and "
        )
        if known:
            gaps = [f"{rows.loc[(*again, m), 'mean']:+.3f} in {called(m)}" for m in known]
            one, other = map(design.called, again)
            text += f"{one}, of the same recipe as {other}, differs from it by "
            text += listed(gaps).replace("-", MINUS)
        else:
            text += "what another seed would change is not measured"
    parts = [text]
    better = [
        called(metric)
        for metric in HEADLINE
        if (pair := (design.untrained, design.reference, metric)) in rows.index
        and sign(rows.loc[pair], metric) == "better"
    ]
    if better:
        its = design.called(design.reference)
        parts.append(f"a network that learned nothing scores better than {its} in {listed(better)}")
    if doubts:
        parts.append(f"not trustworthy here, for reasons below Table 1: {listed(doubts)}")
    return f"{'; '.join(parts)}."


def doubted(used: Sequence[tuple[str, str]], trust: pd.DataFrame) -> list[str]:
    """`average drop (mine, small)`: what is used, but not trustworthy."""
    bad = untrustworthy(trust)
    found: dict[str, list[str]] = {}
    for model, metric in dict.fromkeys(used):
        if (model, metric) in bad:
            found.setdefault(metric, []).append(spoken(model))
    return [f"{called(metric)} ({', '.join(models)})" for metric, models in found.items()]


def untrustworthy(trust: pd.DataFrame) -> set[tuple[str, str]]:
    """(model, metric) that fail a check."""
    if trust.empty:
        return set()
    failed = trust[~trust.trustworthy.astype(bool)]
    return set(zip(failed.model, failed.metric, strict=True))


def called(metric: str) -> str:
    """`average drop`, as one says it in a sentence."""
    name = (STATISTICS | PAIRWISE)[metric].title
    return (
        name
        if name.startswith(("ADCC", "IoU", "ROAD", "Pearson", "Spearman", "Gini"))
        else (name[0].lower() + name[1:])
    )


def spoken(model: str) -> str:
    return model.replace("_", " ")


def listed(parts: Sequence[str]) -> str:
    """`a, b and c`."""
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last
