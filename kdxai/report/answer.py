"""The answer of a study in three sentences: what holds, beside what, and how sure that is."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from kdxai.study.claims import NOT_TESTABLE
from kdxai.study.stats import STATISTICS

HEADLINE = ("average_drop", "complexity", "ssim")  # what the paper measured
MINUS = "\N{MINUS SIGN}"
VERDICTS = ("supported", "contradicted", "no meaningful difference", "undecided", NOT_TESTABLE)


def answer(
    table: pd.DataFrame, claims: pd.DataFrame, trust: pd.DataFrame, seeds: int
) -> tuple[str, str, str]:
    """Three sentences, from the claims where some were tested, else from the table.

    Args:
      table: `stats.table` of one method.
      claims, trust: as in `html.Page`; may be empty.
      seeds: replicates that the table is of.
    """
    if claims.empty:
        used = [(model, metric) for model in table.model.unique() for metric in HEADLINE]
        return *from_table(table), sure(table, seeds, int(table.n.max()), doubted(used, trust))
    sound = at_rung(claims, -1)
    used = [(row[side], row.metric) for _, row in sound.iterrows() for side in ("one", "other")]
    across = {"across": sound.across.iloc[0]}
    third = sure(table, int(sound.seeds.min()), int(sound.n.max()), doubted(used, trust), **across)
    return *from_claims(claims, trust), third


def from_claims(claims: pd.DataFrame, trust: pd.DataFrame) -> tuple[str, str]:
    """What holds by the sound protocol, the last rung, and by the first, the paper's own."""
    sound, literal = at_rung(claims, -1), at_rung(claims, 0)
    told = tally(sound.assign(says=with_doubts(sound, trust)), named=True)
    first = f"Of {sound.about.iloc[0]}, measured soundly, {told}."
    if claims.rung.nunique() == 1:
        return first, (
            "The paper's own protocol was not replayed on these models, so this does not say how "
            "much of the paper's result comes from its measuring."
        )
    verdicts = sound.set_index("claim").verdict
    moved = literal[[verdicts.get(r.claim, r.verdict) != r.verdict for r in literal.itertuples()]]
    change = "no verdict differs between the two"
    if len(moved) > 3:
        change = f"the verdicts on {spelt(len(moved))} of them are others"
    elif len(moved):
        change = f"the verdict is another one on {listed([quoted(says) for says in moved.says])}"
    return first, f"By the paper's own protocol, replayed literally, {tally(literal)}; {change}."


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
        verb = "are" if many else "is"
        if verdict == "no meaningful difference":
            verb = "show" if many else "shows"
        which = f" ({'; '.join(those)})"
        decided = verdict in ("supported", "contradicted")
        parts.append(f"{count} {verb} {verdict}{which if named and decided else ''}")
    none = "" if says["supported"] else f"none of {total} claims is supported: "
    return none + listed(parts)


def spelt(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return words[count] if count < len(words) else str(count)


def quoted(says: str) -> str:
    """A claim inside a sentence: `the student's drop is lower`."""
    says = says.strip().rstrip(".")
    return f"“{says[:1].lower()}{says[1:]}”"


def from_table(table: pd.DataFrame) -> tuple[str, str]:
    """The student beside its teacher, and beside its control."""
    differences = table[table.other != ""]
    pairs = list(dict.fromkeys(zip(differences.model, differences.other, strict=True)))
    first_of_all = ("student", "teacher"), ("student", "control")
    pairs.sort(key=lambda pair: (*first_of_all, pair).index(pair))
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
            f"On {table.n.max():,} test images {'; '.join(stated)}.",
            "No two models were compared, so this says nothing about compression.",
        )
    first = f"On {table.n.max():,} test images {compared(table, *pairs[0])}."
    beside = [pair for pair in pairs[1:] if pair[0] == pairs[0][0]]
    if not beside:
        return first, (
            "Without a control, the same network trained without a teacher, this does not say "
            "whether the teacher or the network's size is the reason."
        )
    second = compared(table, *beside[0])
    if beside[0][1].endswith("control"):
        second += "; the control is the same network, trained without a teacher"
    return first, f"{second[0].upper()}{second[1:]}."


def compared(table: pd.DataFrame, one: str, other: str) -> str:
    """`the student scores worse than the teacher in drop (0.3 against 0.2) and ...`."""
    rows = table.set_index(["model", "other", "metric"])
    found: dict[str, list[str]] = {"better": [], "worse": [], "": []}
    for metric in HEADLINE:
        if (one, other, metric) in rows.index:
            a, b = (rows.loc[(name, "", metric), "mean"] for name in (one, other))
            found[sign(rows.loc[(one, other, metric)], metric)].append(
                f"{called(metric)} ({a:.3f} against {b:.3f})"
            )
    parts = [
        f"{word} than the {spoken(other)} in {listed(found[word])}"
        for word in ("better", "worse")
        if found[word]
    ]
    text = f"the {spoken(one)} scores {listed(parts)}" if parts else ""
    if found[""]:
        subject = "the two are" if parts else f"the {spoken(one)} and the {spoken(other)} are"
        text += (", and " if parts else "") + f"{subject} not told apart in {listed(found[''])}"
    return text


def sign(row: pd.Series, metric: str) -> str:
    """What a paired difference says of its first model: better, worse, or "" where 0 is inside."""
    if np.isnan(row.ci_low) or row.ci_low <= 0 <= row.ci_high or not STATISTICS[metric].better:
        return ""
    return "better" if (row["mean"] > 0) == (STATISTICS[metric].better > 0) else "worse"


def sure(
    table: pd.DataFrame, seeds: int, images: int, doubts: Sequence[str], across: str = "seeds"
) -> str:
    """Over what the intervals are, and what else to know before building on the numbers."""
    rows = table.set_index(["model", "other", "metric"])
    again = "second_teacher", "teacher"
    known = [metric for metric in HEADLINE if (*again, metric) in rows.index]
    if seeds > 1 and across == "seeds":
        text = (
            f"The 95 % intervals are across {seeds} training runs of each model and {images:,} "
            "images, so they are about the recipes"
        )
    else:
        runs = "With one seed this" if seeds == 1 else f"This, the mean of {seeds} seeds,"
        text = (
            f"{runs} is about these trained models only: the 95 % intervals are over {images:,} "
            "images, and "
        )
        if known:
            gaps = [f"{rows.loc[(*again, m), 'mean']:+.3f} in {called(m)}" for m in known]
            text += "a teacher from another seed differs from the first by "
            text += listed(gaps).replace("-", MINUS)
        else:
            text += "what another training run would change is not measured"
    parts = [text]
    better = [
        called(metric)
        for metric in HEADLINE
        if (pair := ("untrained", "teacher", metric)) in rows.index
        and sign(rows.loc[pair], metric) == "better"
    ]
    if better:
        parts.append(f"an untrained network scores better than the teacher in {listed(better)}")
    if doubts:
        parts.append(f"not trustworthy here, for reasons below Table 1: {listed(doubts)}")
    return f"{'; '.join(parts)}."


def doubted(used: Sequence[tuple[str, str]], trust: pd.DataFrame) -> list[str]:
    """`average drop (student, control)`: what is used, but not trustworthy."""
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
    name = STATISTICS[metric].title
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
