"""The answer of a study: yes, no or undecided, with the numbers behind it, and how sure that is."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from kdxai.report import tables, titles
from kdxai.report.report import (
    MINUS,
    Answer,
    Cell,
    Table,
    by_metric,
    grouped,
    listed,
    named,
    value_of,
)
from kdxai.study import question
from kdxai.study.claims import ABOUT, NOT_TESTABLE
from kdxai.study.design import Design
from kdxai.study.question import BY_MASKS, UNDECIDED
from kdxai.study.stats import STATISTICS

HEADLINE = question.USUAL
VERDICTS = ("supported", "contradicted", "no meaningful difference", "undecided", NOT_TESTABLE)
READING = (
    "The first line asks whether one model explains as well as another, the first two that the "
    "study compares: by the metrics that know the true mask of the object where the data have "
    "masks, else by average drop, complexity and coherency. Of each metric it is claimed that the "
    f"one model is not worse than the other by {question.MATTERS:g} or more. "
    "Yes: each of these claims that can be tested is supported. No: one is contradicted, so the "
    "model is surely worse by more than that. Undecided: anything else. A metric that fails its "
    f"sanity checks on one of the two models has no say: what is claimed by it is {NOT_TESTABLE}."
)


def answer(asked: pd.DataFrame, design: Design) -> Answer:
    """Whether the first model that is compared explains as well as the other.

    Args:
      asked: the verdicts on `question.claims`; may be empty.
    """
    if asked.empty and design.compare:
        return Answer("", UNDECIDED, "a verdict across networks needs two of each model or more.")
    if asked.empty:
        none = "no two models were compared, so this says nothing about what tells them apart."
        return Answer("", UNDECIDED, none)
    first = asked.iloc[0]
    one, other = design.called(first.one), design.called(first.other)
    truth = first.metric in BY_MASKS
    word = question.answer(asked.verdict)
    met, lost, unsure, untested = (
        [titles.in_sentence(row.metric) for row in asked.itertuples() if row.verdict == verdict]
        for verdict in ("supported", "contradicted", "undecided", NOT_TESTABLE)
    )
    parts = []
    if lost:
        parts.append(f"{one} is worse than {other} in {listed(lost)}")
    if met:
        again = "it is no worse" if lost else f"{one} is no worse than {other}"
        parts.append(f"{again} in {listed(met)}")
    if unsure:
        parts.append(f"whether {one} is worse than {other} in {listed(unsure)} is not decided")
    if untested:
        reasons = (reason for row in asked.why if row for reason in row.split("; "))
        why = dict.fromkeys(reason.partition(":")[0] for reason in reasons)  # without its numbers
        parts.append(f"{listed(untested)} cannot be tested here ({'; '.join(why)})")
    by = ", by the true masks of the objects" if truth else ""
    asks = f"Does {one} explain as well as {other}?"
    if truth:
        asks = f"Do the maps of {one} lie on the objects as well as those of {other}?"
    return Answer(
        asks,
        word,
        f"{scope(asked)}, {'; '.join(parts)}{by}.",
    )


def scope(asked: pd.DataFrame) -> str:
    """Whom the answer speaks of."""
    row = asked.iloc[0]
    if row.about == ABOUT["images"]:
        alone = " (one seed)" if max(row.networks, row.networks_other) == 1 else ""
        return f"speaking of these networks only{alone}"
    return f"speaking of {row.about}"


def beside(asked: pd.DataFrame, design: Design) -> list[str]:
    """The answer's two models, and what the first is compared with beside the second, if any."""
    one, other = asked.one.iloc[0], asked.other.iloc[0]
    return [one, other, *[b for a, b in design.compare if a == one and b != other][:1]]


def numbers(
    asked: pd.DataFrame,
    table: pd.DataFrame,
    trust: pd.DataFrame,
    design: Design,
    slots: Mapping[str, int],
) -> Table:
    """The means behind the answer, of the models that it is about and of a third."""
    means = table[table.other == ""].set_index(["model", "metric"])["mean"]
    models = [name for name in beside(asked, design) if name in means.index.levels[0]]
    bad = tables.doubted(trust)

    def cell(metric: str, name: str) -> Cell:
        value = value_of(metric, means.get((name, metric), np.nan))
        return Cell(value, mark=tables.DOUBT * ((name, metric) in bad))

    columns: list[str | Cell] = ["Metric", *(named(name, slots) for name in models)]
    lines = by_metric(asked.metric, models, cell)
    return grouped("The numbers behind the answer", columns, [("", lines)])


def third(asked: pd.DataFrame, design: Design) -> str:
    """What the third of these models is; "" where nothing is told of it."""
    one, _, *others = beside(asked, design)
    if not others:
        return (
            f"No third model was compared with {design.called(one)}, so this does not say what "
            "makes the difference."
        )
    name = others[0]
    if name not in design.roles:
        return ""
    text = f"{design.called(name)} is {design.roles[name]}."
    return text[:1].upper() + text[1:]


def tallied(claims: pd.DataFrame) -> str:
    """How many claims hold by the sound protocol, the last rung, and by the first."""
    sound, literal = at_rung(claims, -1), at_rung(claims, 0)
    text = f"Of {sound.about.iloc[0]}, measured soundly, {tally(sound)}"
    if claims.rung.nunique() == 1:
        return f"{text}."
    verdicts = sound.set_index("claim").verdict
    moved = literal[[verdicts.get(r.claim, r.verdict) != r.verdict for r in literal.itertuples()]]
    change = "no verdict differs between the two"
    if len(moved) > 3:
        change = f"the verdicts on {spelt(len(moved))} of them are others"
    elif len(moved):
        change = f"the verdict is another one on {listed([as_clause(says) for says in moved.says])}"
    return f"{text}. By the {literal.rung.iloc[0]} protocol, {tally(literal)}; {change}."


def at_rung(claims: pd.DataFrame, place: int) -> pd.DataFrame:
    return claims[claims.rung == list(dict.fromkeys(claims.rung))[place]]


def tally(claims: pd.DataFrame) -> str:
    """`two of three claims are supported and one is undecided`."""
    counts = {verdict: int((claims.verdict == verdict).sum()) for verdict in VERDICTS}
    total = spelt(len(claims))
    parts = []
    for verdict, many in counts.items():
        if not many:
            continue
        count = f"all {total}" if many == len(claims) else spelt(many)
        if verdict == "supported":
            count += " claims" if many == len(claims) else f" of {total} claims"
        if len(claims) == 1:
            count = "the one claim"
        verb = "are" if many > 1 else "is"
        if verdict == "no meaningful difference":
            verb = "show" if many > 1 else "shows"
        parts.append(f"{count} {verb} {verdict}")
    none = (
        "" if counts["supported"] or len(claims) == 1 else f"none of {total} claims is supported: "
    )
    return none + listed(parts)


def spelt(count: int) -> str:
    words = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return words[count] if count < len(words) else str(count)


def as_clause(says: str) -> str:
    """A claim inside a sentence: `its drop is lower`."""
    says = says.strip().rstrip(".")
    return f"“{says[:1].lower()}{says[1:]}”"


def stated(table: pd.DataFrame) -> str:
    """The numbers of models that are compared with none."""
    values = table.set_index(["model", "metric"])["mean"]
    metrics = [*BY_MASKS, *HEADLINE]
    said = [
        f"{titles.model(model)} has "
        + listed(
            [
                f"{titles.in_sentence(m)} {value_of(m, values[model, m])}"
                for m in metrics
                if (model, m) in values
            ]
        )
        for model in table.model.unique()
    ]
    return f"On {table.n.max():,} test images {'; '.join(said)}."


def sign(row: pd.Series, metric: str, *, doubted: bool = False) -> str:
    """What a paired difference says of its first model: better, worse, or "" where 0 is inside.

    Args:
      doubted: whether the metric fails its checks on one of the two: then it says nothing.
    """
    better = STATISTICS[metric].better
    if doubted or not better or np.isnan(row.ci_low) or row.ci_low <= 0 <= row.ci_high:
        return ""
    return "better" if (row["mean"] > 0) == (better > 0) else "worse"


def sure(table: pd.DataFrame, judged: pd.DataFrame, trust: pd.DataFrame, design: Design) -> str:
    """Over what the intervals are, and what else to know before building on the numbers.

    Args:
      judged: the claims that the answer is from; may be empty.
    """
    seeds, images, across = int(table.seeds.max()), int(table.n.max()), "seeds"
    used = [(model, metric) for model in table.model.unique() for metric in HEADLINE]
    if len(judged):
        seeds, images = int(judged.seeds.max()), int(judged.n.max())
        across = "seeds" if (judged.across == "seeds").any() else "images"
        used = [
            (row[side], row.metric) for _, row in judged.iterrows() for side in ("one", "other")
        ]
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
            gaps = [
                f"{rows.loc[(*again, m), 'mean']:+.3f} in {titles.in_sentence(m)}" for m in known
            ]
            one, other = map(design.called, again)
            text += f"{one}, of the same recipe as {other}, differs from it by "
            text += listed(gaps).replace("-", MINUS)
        else:
            text += "what another seed would change is not measured"
    parts = [text]
    # A doubted metric is told here all the same: this is about the metric, not the networks.
    better = [
        titles.in_sentence(metric)
        for metric in HEADLINE
        if (pair := (design.untrained, design.reference, metric)) in rows.index
        and sign(rows.loc[pair], metric) == "better"
    ]
    if better:
        its = design.called(design.reference)
        parts.append(f"a network that learned nothing scores better than {its} in {listed(better)}")
    if doubts := doubted(used, trust):
        parts.append(
            f"{tables.DOUBT} not trustworthy here, for reasons below Table 1: {listed(doubts)}"
        )
    return f"{'; '.join(parts)}."


def doubted(used: Sequence[tuple[str, str]], trust: pd.DataFrame) -> list[str]:
    """`average drop (mine, small)`: what is used, but not trustworthy."""
    bad = tables.doubted(trust)
    found: dict[str, list[str]] = {}
    for model, metric in dict.fromkeys(used):
        if (model, metric) in bad:
            found.setdefault(metric, []).append(titles.model(model))
    return [
        f"{titles.in_sentence(metric)} ({', '.join(models)})" for metric, models in found.items()
    ]
