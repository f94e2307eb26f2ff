"""What was measured -> the files that people read."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from ml_collections import ConfigDict
from numpy.typing import ArrayLike

from kdxai import classifiers, devices, evaluate, files
from kdxai.data import augment
from kdxai.data.datasets import Dataset
from kdxai.evaluate.rows import Entry, subject_of
from kdxai.explain import Classifier
from kdxai.measures import Model
from kdxai.protocol import Protocol
from kdxai.report import cards, compose, drawn, facts, pages, tables, titles
from kdxai.report.charts import maps, models, sweeps
from kdxai.report.charts.chart import Chart
from kdxai.report.charts.maps import Panel, Shown
from kdxai.report.networks import matrices, networks, pictured
from kdxai.report.report import Report
from kdxai.study import concord
from kdxai.study.audit import Audit
from kdxai.study.design import SLOTS
from kdxai.study.identity import sha256
from kdxai.study.measure import Measured
from kdxai.study.members import Member
from kdxai.study.records import Shelf


def write(measured: Measured, config: ConfigDict, workdir: str | Path) -> Report:
    """Write all files of a study below `workdir`.

    `records.csv`, `agreement.csv`, `table1.csv` (the random images), `table1_whole.csv` (the whole
    test split, where it was measured), `seeds.csv` (what each seed gives), `differences.csv`,
    `claims.csv`, `trust.csv`, `ladder.csv`, `figures/`, `report.html`, `report.md`, `study.json`;
    where several networks were compared, `floors.csv`, `noise.csv` and `matrix.csv` (how alike all
    networks explain), and of a sweep `compression.csv` (every network), `sweep.csv` (every metric)
    and `forgotten.csv` (the images that compression forgets); of three methods or more
    `concord.csv`, which metrics agree about them.

    Returns:
      What the page says.
    """
    workdir = Path(workdir)
    write_table(workdir / "records.csv", measured.records)
    if len(measured.agreement):
        write_table(workdir / "agreement.csv", measured.agreement)
    found = {"seeds": measured.seeds, "differences": measured.differences}
    found |= {"claims": measured.claims, "trust": measured.trust, "ladder": measured.ladder}
    found |= {"floors": measured.floors, "noise": measured.noise, "matrix": matrices(measured)}
    taken = facts.worths(measured.members, Shelf(workdir))
    told = {
        (one.name, one.seed): taken.get(one.name, {}) | told_of(one, measured.records)
        for one in measured.members
    }
    many = networks(measured, told, workdir)
    if many.sweeps:
        found["compression"] = pd.concat(
            one.networks.assign(dense=one.dense) for one in many.sweeps
        )
        found["sweep"], found["forgotten"] = many.tables
    if measured.records.method.nunique() > 2:
        found["concord"] = concord.concord(measured.records)
    for file, table in (dict(measured.tables) | {k: v for k, v in found.items() if len(v)}).items():
        write_table(workdir / f"{file}.csv", table, float_format="%.6g")
    few = measured._replace(members=pictured(measured.members, many))
    panels = explain_first(few)
    slots = measured.design.slots([one.name for one in first_seed(few)])
    charts = drawn.charts(few, first_seed(few), found.get("concord"), slots)
    every = [*charts.training, *map_charts(few, panels), *charts.table1, *charts.accuracies]
    every += [*charts.single, *(chart for part in many.noise for chart in part.charts)]
    every += charts.concord
    if many.sweeps:
        every.append(sweeps.compression(many.sweeps, many.classes))
    if len(measured.ladder):
        pair = drawn.main_pair(measured.design)
        doubts = tables.doubted(measured.trust)
        every.append(models.ladder(measured.ladder, tables.LADDER, slots, pair, doubts=doubts))
    files.make_directory(workdir / "figures")
    provenance = {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": f"{measured.dataset.name}, {len(measured.dataset.train.label):,} training images",
        "seeds": len({one.seed for one in measured.members}),
        **devices.machine(),
    }
    content = compose.Content(
        measured=measured,
        results=told,
        gallery=gallery(few, panels),
        charts=charts,
        provenance=provenance,
        config=config.to_dict(),
        many=many,
        figures={chart.save(workdir / "figures"): chart.title for chart in every},
    )
    report = compose.report(content)
    files.write_text(workdir / "report.md", pages.markdown(report))
    files.write_text(workdir / "report.html", pages.html(report))
    results = {f"{name}, seed {seed}": own for (name, seed), own in told.items()}
    files.write_json(
        workdir / "study.json",
        {"config": config.to_dict(), "models": results, "provenance": provenance},
    )
    return report


def write_table(path: Path, table: pd.DataFrame, **options: Any) -> None:
    """A CSV that no spreadsheet takes for formulas.

    Args:
      options: of `DataFrame.to_csv`.

    Raises:
      UserError: it cannot be written.
    """

    def harmless(value: Any) -> Any:
        formula = isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r"))
        return f"'{value}" if formula else value

    numbers = table.select_dtypes("number").columns
    texts = {name: table[name].map(harmless) for name in table if name not in numbers}
    files.write_text(path, table.assign(**texts).to_csv(index=False, **options))


def write_audit(found: Audit, workdir: str | Path) -> None:
    """`audit.csv`, `claims.csv` and `audit.png` below `workdir`."""
    workdir = Path(workdir)
    write_table(workdir / "audit.csv", found.table)
    write_table(workdir / "claims.csv", found.claims)
    names = list(found.table.model.unique())
    slots = {name: place % SLOTS for place, name in enumerate(names)}
    chart = models.ladder(found.table, tables.LADDER, slots)
    chart._replace(name="audit").save(workdir)


Panels = Mapping[tuple[str, str], Sequence[Panel]]  # (model, method) -> of the first images drawn


def told_of(one: Member, records: pd.DataFrame) -> dict[str, Any]:
    """A model's facts, with those that are found here where it tells none."""
    own = records[(records.model == one.name) & (records.seed == one.seed) & records.drawn]
    measured = float((own.predicted == own.label)[own.method == own.method.iloc[0]].mean())
    found = {"measured_accuracy": measured, "place": Path(one.place).name}
    return dict(one.model.facts) | found | {"sha256": sha256(one.model)}


def first_seed(measured: Measured) -> list[Member]:
    return [one for one in measured.members if one.seed == 0]


def explain_first(measured: Measured) -> Panels:
    """The first seed's maps of the first images drawn; of the main method enough for the page."""
    what = measured.wanted
    few = what.evaluation.gallery
    many = max(few, cards.PICTURES)
    return {
        (one.name, protocol.method): explain_images(
            one.model, protocol, measured.dataset, what.drawn[: few if place else many]
        )
        for one in first_seed(measured)
        for place, protocol in enumerate(what.protocols)
    }


def gallery(measured: Measured, panels: Panels) -> cards.Gallery:
    """The page's pictures: the first images drawn, by the main method; of the others, some."""
    shown = measured.wanted.drawn[: cards.PICTURES]
    main, *others = (protocol.method for protocol in measured.wanted.protocols)
    first = first_seed(measured)
    some = measured.dataset.test.select(shown)

    def maps_by(method: str) -> dict[str, np.ndarray]:
        own = {one.name: panels[one.name, method][: len(shown)] for one in first}
        return {name: np.stack([panel.heatmap for panel in its]) for name, its in own.items()}

    return cards.Gallery(
        ids=shown,
        images=np.asarray(some.image),
        heatmaps=maps_by(main),
        seed=0,
        method=main,
        others={method: maps_by(method) for method in others},
        masks=None if some.mask is None else np.asarray(some.mask),
    )


def map_charts(measured: Measured, panels: Panels) -> list[Chart]:
    """Images with their maps by all models and methods, of the first seed."""
    first = first_seed(measured)
    dataset, what = measured.dataset, measured.wanted
    chosen = what.drawn[: what.evaluation.gallery]
    some = dataset.test.select(chosen)
    names = [dataset.class_names[label] for label in np.asarray(some.label)]
    shown = Shown(np.asarray(some.image), names, some.mask)
    panels = {key: its_panels[: len(chosen)] for key, its_panels in panels.items()}
    methods = [protocol.method for protocol in what.protocols]
    found = []
    for method in methods:
        own = {model_and_network(one): panels[one.name, method] for one in first}
        found.append(maps.gallery(method, shown, own))
    if len(methods) > 1:
        for one in first:
            columns = {titles.method(method): panels[one.name, method] for method in methods}
            title = f"{titles.model(one.name)} by every method"
            found.append(maps.side_by_side(f"methods-{one.name}", title, shown, columns))
    rows = Shown(
        np.repeat(shown.images[:1], len(methods), 0),
        [names[0]] * len(methods),
        None if shown.masks is None else np.repeat(shown.masks[:1], len(methods), 0),
        [titles.method(method) for method in methods],
    )
    through = {one.name: [panels[one.name, method][0] for method in methods] for one in first}
    title = f"Test image {int(chosen[0])}, {names[0]}, through all models"
    return [*found, maps.side_by_side("image", title, rows, through)]


def model_and_network(one: Member) -> str:
    """A model and its network, above its pictures."""
    facts_of = one.model.facts
    return f"{one.name} ({facts.network(facts_of)})" if "model" in facts_of else one.name


def explain_images(
    model: Model, protocol: Protocol, dataset: Dataset, indices: np.ndarray
) -> list[Panel]:
    """What the figures show of some test images."""
    test, size = dataset.test, len(indices)
    shape = test.image.shape[1:]
    mask = None if test.mask is None else test.mask[indices]
    entries = Entry(indices, test.image[indices], test.label[indices], mask)
    normalisation = np.float32(model.mean), np.float32(model.std)
    with evaluate.computing(None):
        classifier = classifiers.as_classifier(model, protocol, test.image)
        classifier = classifiers.everywhere(classifier, shape)
        parts = evaluate.chunks(
            size, evaluate.chunk_size(protocol, (), shape[:2]), f"{protocol.method} maps"
        )
        columns = evaluate.stack(
            (shown(classifier, entries.take(part), normalisation, protocol) for part in parts), size
        )
    return [
        Panel(
            heatmap=columns["heatmap"][i],
            masked=columns["masked"][i],
            class_name=dataset.class_names[columns["explained"][i]],
            before=float(columns["before"][i]),
            after=float(columns["after"][i]),
            correct=bool(columns["correct"][i]),
        )
        for i in range(size)
    ]


@partial(jax.jit, static_argnames="protocol")
def shown(
    classifier: Classifier,
    entries: Entry,
    normalisation: tuple[ArrayLike, ArrayLike],
    protocol: Protocol,
) -> dict[str, jax.Array]:
    """Some images as they were measured."""

    def one(shared: Any, entry: Entry) -> dict[str, jax.Array]:
        classifier, (mean, std) = shared
        e = subject_of(classifier, entry, mean, std, protocol).explanation
        c = e.class_index
        return {
            "heatmap": e.heatmap,
            "masked": augment.denormalise(e.masked, mean, std),
            "explained": c,
            "before": jax.nn.softmax(e.logits)[c],
            "after": jax.nn.softmax(e.logits_masked)[c],
            "correct": c == entry.label,
        }

    return evaluate.each(one, (classifier, normalisation), entries)
