"""What was measured -> the report of a study."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd

from kdxai.report import (
    answer,
    cards,
    classes,
    facts,
    ledger,
    pages,
    results,
    sections,
    tables,
    titles,
    trusted,
)
from kdxai.report.cards import Gallery
from kdxai.report.charts.chart import Chart
from kdxai.report.charts.models import found_in
from kdxai.report.drawn import Charts, main_pair
from kdxai.report.facts import Results
from kdxai.report.networks import NO_NETWORKS, Networks
from kdxai.report.report import (
    Answer,
    Cell,
    Part,
    Report,
    Section,
    Table,
    folded,
    named,
    row,
    table,
)
from kdxai.study.measure import Measured


class Content(NamedTuple):
    """All that a report is made of.

    Attributes:
      results: network -> the model's facts, with `sha256` of its parameters.
      gallery: maps of the main method, by the models that have colours and pictures.
      provenance: what made the numbers.
      config: of the study.
      many: what is told of sweeps and of seed noise.
      figures: files below `figures/`, each with its title.
    """

    measured: Measured
    results: Results
    gallery: Gallery
    provenance: Mapping[str, Any]
    config: Mapping[str, Any]
    charts: Charts = Charts()
    many: Networks = NO_NETWORKS
    figures: Mapping[str, str] = {}


def report(content: Content) -> Report:
    """Everything that a study found."""
    measured, many = content.measured, content.many
    design, records = measured.design, measured.records
    main = next(iter(measured.tables.values()))
    main = main[main.method == main.method.iloc[0]]
    every = list(main.model[main.other == ""].unique())
    models = [name for name in every if name in content.gallery.heatmaps]
    slots = design.slots(models)
    own = records[records.method == content.gallery.method]
    first = next((one for one, _ in design.compare if one in models), models[0])
    found = [
        sections.section(many.compression),
        ledger.section(measured.claims, other_protocols(content)),
        Section("noise", "Seed noise", "Seed noise", many.noise),
        results.section(measured, slots),
        checks(records),
        protocols(measured, content.charts.ladders, slots),
        accuracy(content.charts.accuracies),
        single(content, slots),
        classes.section(own, measured.dataset.class_names, models, first, slots),
        pictures(content, slots),
        trusted.degenerate(records, slots),
        facts.section(content.results, slots),
        provenance(content, slots),
    ]
    return Report(
        title=design.title,
        data=measured.dataset.name,
        byline=byline(measured.dataset.name, main, len(every)),
        answers=answers(content),
        numbers=numbers(measured, main, slots),
        sentences=sentences(measured, main, models),
        models=facts.introduced(content.results, main, models, design, slots),
        measured_on=facts.measured_on(content.results, models, main),
        sections=[section for section in found if section.parts],
        figures=content.figures,
    )


def byline(data: str, main: pd.DataFrame, models: int) -> list[str]:
    seeds = int(main.seeds.max())
    return [
        data,
        f"{titles.method(main.method.iloc[0])} maps of {int(main.n.max()):,} random test images",
        f"{models} model{'' if models == 1 else 's'}",
        f"{seeds} seed{'' if seeds == 1 else 's'}",
        "95 % intervals",
    ]


def answers(content: Content) -> list[Answer]:
    """Of sweeps how far they can go, of other studies whether one model explains like another."""
    if content.many.compression:
        return [one.answer for one in content.many.compression]
    return [answer.answer(content.measured.question, content.measured.design)]


def numbers(measured: Measured, main: pd.DataFrame, slots: Mapping[str, int]) -> Table | None:
    """Those behind the answer, where something is asked."""
    asked = measured.question
    if asked.empty:
        return None
    return answer.numbers(asked, main, measured.trust, measured.design, slots)


def sentences(measured: Measured, main: pd.DataFrame, models: Sequence[str]) -> list[str]:
    """What the third model of the numbers is, the tally of the claims, and how sure all is.

    Args:
      models: whose numbers are told where nothing is asked.
    """
    asked, claims, design = measured.question, measured.claims, measured.design
    first = answer.third(asked, design) if len(asked) else ""
    if asked.empty and not design.compare:
        first = answer.stated(main[main.model.isin(models)])
    tally = answer.tallied(claims) if len(claims) else ""
    sure = answer.sure(main, claims if len(claims) else asked, measured.trust, design)
    return [sentence for sentence in (first, tally, sure) if sentence]


def checks(records: pd.DataFrame) -> Section:
    """Which metrics tell explanations from maps that know nothing, where that was measured."""
    parts = [*trusted.preferences(records), *trusted.cascade(records)]
    return Section("checks", "Checks", "Metrics and maps put to the test", parts)


def protocols(measured: Measured, charts: Sequence[Chart], slots: Mapping[str, int]) -> Section:
    """The ladder, where other protocols were tried."""
    title, ladder = "From a literal protocol to a sound one", measured.ladder
    if ladder.empty:
        return Section("ladder", "Protocols", title, [])
    pair = main_pair(measured.design)
    text = (
        f"The {ladder.rung.iloc[0]} protocol on the models of this study, repaired one flaw at a "
        "time from top to bottom; each step keeps the repairs above it. Where lines cross, the "
        "measuring decides which model looks better."
    )
    if pair:
        one, other = map(measured.design.called, pair)
        text += (
            f" On the right: what {one} is beside {other}, unclear where the interval of the "
            "difference holds zero"
        )
        if tables.doubted(measured.trust):
            text += f", and {tables.DOUBT} where the metric fails its checks on one of them"
        text += "."
    key = legend(found_in(ladder, slots))
    return Section("ladder", "Protocols", title, [Part(text=text, page=key, charts=charts)])


def other_protocols(content: Content) -> list[str]:
    """How to try some, where none was."""
    if len(content.measured.ladder):
        return []
    of_study = isinstance(content.config.get("models"), Mapping)  # else their names and places
    models = "study=WORKDIR" if of_study else "models=NAME=DIRECTORY,..."
    return [
        "No other protocol was tried on these models. This does it, WORKDIR being the folder of "
        f"this report: python launch/audit.py --config configs/audit.py --config.{models} "
        "--workdir WORKDIR/audit"
    ]


def legend(slots: Mapping[str, int]) -> Any:
    return pages.macro("parts.html", "legend", [named(name, slots) for name in slots])


def accuracy(charts: Sequence[Chart]) -> Section:
    text = (
        "A good explanation of a bad classifier is not what one wants, nor the other way round. "
        "Bars are the 95 % intervals of Table 1."
    )
    title = "Accuracy and explanation"
    return Section("accuracy", "Accuracy", title, [Part(text=text, charts=charts)])


def single(content: Content, slots: Mapping[str, int]) -> Section:
    """What the means hide, and how the models were trained."""
    charts, records = content.charts, content.measured.records
    text = (
        "What the means hide: how the values of single images are spread, which images differ "
        "between two models, and how sure the models are of their answers."
    )
    drawn, whole = (rows.image.nunique() for rows in (records[records.drawn], records))
    if drawn < whole:
        text += (
            f" They are of all {whole:,} test images measured, not only of the {drawn:,} random "
            "ones."
        )
    marks = legend(slots)
    kinds = {
        f"{len(charts.single)} pictures of single images": charts.single,
        "Table 1 as a picture": charts.table1,
        "Curves of training": charts.training,
        "Which metrics agree about methods": charts.concord,
    }
    parts = [Part(page=marks, charts=own, folded=name) for name, own in kinds.items() if own]
    title = "Image by image"
    return Section("images", "Images", title, [Part(text=text), *parts] if parts else [])


def pictures(content: Content, slots: Mapping[str, int]) -> Section:
    """The gallery."""
    measured = content.measured
    names = measured.dataset.class_names
    view = cards.view(content.gallery, measured.records, names, slots, measured.design)
    made = pages.macro("cards.html", "gallery", view)
    title = "The same images, seen by every model"
    return Section("gallery", "Gallery", title, [Part(page=made)])


def provenance(content: Content, slots: Mapping[str, int]) -> Section:
    """Where the models and the numbers are from."""
    lines = [
        row(
            named(name, slots)._replace(notes=[f"seed {seed}"]),
            facts.network(own),
            f"{facts.accuracy(own):.2%}",
            facts.origin(own),
            Cell(own["sha256"], tone="hash"),
        )
        for (name, seed), own in content.results.items()
    ]
    columns = ["Model", "Network", "Accuracy", "Origin", "SHA-256 of the parameters"]
    models = table("The models, and where they are from", columns, lines, words=True)
    made = [row(key, str(value)) for key, value in content.provenance.items()]
    versions = table("What made the numbers", ("What", "Value"), made, words=True)
    source = json.dumps(content.config, indent=2, default=str)
    parts = [Part(table=models), folded(versions)]
    parts.append(Part(source=source, folded="The configuration, every setting"))
    return Section("provenance", "Provenance", "Provenance", parts)
