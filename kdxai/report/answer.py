"""The answer of a study in three sentences: what holds, beside what, and how sure that is."""

from collections.abc import Sequence

import pandas as pd

from kdxai.study.stats import STATISTICS

HEADLINE = ("average_drop", "complexity", "ssim")  # what the paper measured
MINUS = "\N{MINUS SIGN}"
VERDICTS = ("supported", "contradicted", "no meaningful difference", "undecided")


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
    third = sure(table, int(sound.seeds.min()), int(sound.n.max()), doubted(used, trust))
    return *from_claims(claims), third


def from_claims(claims: pd.DataFrame) -> tuple[str, str]:
    """What holds by the sound protocol, the last rung, and by the first, the paper's own."""
    sound, literal = at_rung(claims, -1), at_rung(claims, 0)
    first = f"Measured soundly, {tally(sound, named=True)}."
    if claims.rung.nunique() == 1:
        return first, (
            "The paper's own protocol was not replayed on these models, so this does not say how "
            "much of the paper's result comes from its measuring."
        )
    verdicts = sound.set_index("claim").verdict
    moved = literal[[verdicts.get(r.claim, r.verdict) != r.verdict for r in literal.itertuples()]]
    change = "no verdict differs between the two"
    if len(moved):
        change = f"the verdict is another one on {listed([quoted(says) for says in moved.says])}"
    return first, (f"By the paper's own protocol, replayed literally, {tally(literal)}; {change}.")


def at_rung(claims: pd.DataFrame, place: int) -> pd.DataFrame:
    return claims[claims.rung == list(dict.fromkeys(claims.rung))[place]]


def tally(claims: pd.DataFrame, named: bool = False) -> str:
    """`two of the paper's three claims are supported and one is undecided`; or with which ones."""
    says = {verdict: list(claims.says[claims.verdict == verdict]) for verdict in VERDICTS}
    total = spelt(len(claims))
    parts = []
    for verdict, those in says.items():
        if those:
            many = len(those) > 1
            count = f"all {total}" if many and len(those) == len(claims) else spelt(len(those))
            if verdict == "supported":
                count += f" of the paper's {total} claims"
            verb = "show" if verdict == "no meaningful difference" else "be"
            verb = {"show": ("shows", "show"), "be": ("is", "are")}[verb][many]
            which = f" ({'; '.join(map(quoted, those))})" if named else ""
            parts.append(f"{count} {verb} {verdict}{which}")
    none = "" if says["supported"] else f"none of the paper's {total} claims is supported: "
    return none + listed(parts)


def spelt(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
    return words[count] if count < len(words) else str(count)


def quoted(says: str) -> str:
    """A claim inside a sentence: `the student's drop is lower`."""
    says = says.strip().rstrip(".")
    return f"“{says[:1].lower()}{says[1:]}”"


def from_table(table: pd.DataFrame) -> tuple[str, str]:
    """The student beside its teacher, and beside its control."""
    models = list(table.model.unique())
    pairs = [model for model in models if " - " in model]
    pairs.sort(key=lambda pair: ("student - teacher", "student - control", pair).index(pair))
    if not pairs:
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
    first = f"On {table.n.max():,} test images {compared(table, pairs[0])}."
    if len(pairs) == 1:
        return first, (
            "Without a control, the same network trained without a teacher, this does not say "
            "whether the teacher or the network's size is the reason."
        )
    second = compared(table, pairs[1])
    if pairs[1].endswith("control"):
        second += "; the control is the same network, trained without a teacher"
    return first, f"{second[0].upper()}{second[1:]}."


def compared(table: pd.DataFrame, pair: str) -> str:
    """`the student scores worse than the teacher in drop (0.3 against 0.2) and ...`."""
    one, other = pair.split(" - ")
    rows = table.set_index(["model", "metric"])
    found: dict[str, list[str]] = {"better": [], "worse": [], "": []}
    for metric in HEADLINE:
        if (pair, metric) in rows.index:
            a, b = (rows.loc[(name, metric), "mean"] for name in (one, other))
            found[sign(rows.loc[(pair, metric)], metric)].append(
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
    if row.ci_low <= 0 <= row.ci_high or not STATISTICS[metric].better:
        return ""
    return "better" if (row["mean"] > 0) == (STATISTICS[metric].better > 0) else "worse"


def sure(table: pd.DataFrame, seeds: int, images: int, doubts: Sequence[str]) -> str:
    """Over what the intervals are, and what else to know before building on the numbers."""
    rows = table.set_index(["model", "metric"])
    known = [metric for metric in HEADLINE if ("second_teacher - teacher", metric) in rows.index]
    if seeds > 1:
        parts = [
            f"The 95 % intervals are over {images:,} images and {seeds} training runs of each model"
        ]
    else:
        again = "what another training run would change is not measured"
        if known:
            floor = rows["mean"].loc["second_teacher - teacher"]
            differences = [f"{floor[metric]:+.3f} in {called(metric)}" for metric in known]
            again = f"a teacher from another seed differs from the first by {listed(differences)}"
        parts = [
            "With one seed this is about these trained models only: the 95 % intervals are over "
            f"{images:,} images, and {again.replace('-', MINUS)}"
        ]
    better = [
        called(metric)
        for metric in HEADLINE
        if (pair := ("untrained - teacher", metric)) in rows.index
        and sign(rows.loc[pair], metric) == "better"
    ]
    if better:
        parts.append(f"an untrained network scores better than the teacher in {listed(better)}")
    if doubts:
        parts.append(f"not trustworthy here: {listed(doubts)} (why stands below Table 1)")
    return f"{'; '.join(parts)}."


def doubted(used: Sequence[tuple[str, str]], trust: pd.DataFrame) -> list[str]:
    """`average drop of the student`, of every model and metric used that is not trustworthy."""
    if trust.empty:
        return []
    bad = set(trust[~trust.trustworthy.astype(bool)][["model", "metric"]].itertuples(index=False))
    return [
        f"{called(metric)} of the {spoken(model)}"
        for model, metric in dict.fromkeys(used)
        if (model, metric) in bad
    ]


def called(metric: str) -> str:
    """`average drop`, as one says it in a sentence."""
    name = STATISTICS[metric].title.split(" (32x32")[0]
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
