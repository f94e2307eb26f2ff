"""What was measured -> the files that people read."""

import warnings
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
from kdxai.errors import UserError
from kdxai.evaluate.rows import Entry, subject_of
from kdxai.explain import Classifier
from kdxai.measures import Model
from kdxai.protocol import Protocol
from kdxai.report import cards, facts, figures, html, markdown
from kdxai.report.concord import draw as draw_concord
from kdxai.report.figures import Panel
from kdxai.report.networks import Networks, matrices, networks, pictured
from kdxai.report.tables import LADDER, MAIN
from kdxai.study import concord
from kdxai.study.audit import Audit
from kdxai.study.identity import sha256
from kdxai.study.measure import Measured
from kdxai.study.members import Member
from kdxai.training import history


def write(measured: Measured, config: ConfigDict, workdir: str | Path) -> pd.DataFrame:
    """Write all files of a study below `workdir`.

    `records.csv`, `agreement.csv`, `table1.csv` (the random images), `table1_whole.csv` (the whole
    test split, where it was measured), `seeds.csv` (what each seed gives), `differences.csv`,
    `claims.csv`, `trust.csv`, `ladder.csv`, `figures/`, `report.html`, `report.md`, `study.json`;
    where several networks were compared, `floors.csv`, `noise.csv` and `matrix.csv` (how alike all
    networks explain), and of a sweep `compression.csv` (every network), `sweep.csv` (every metric)
    and `forgotten.csv` (the images that compression forgets); of three methods or more
    `concord.csv`, which metrics agree about them.

    Returns:
      Table 1.
    """
    workdir = Path(workdir)
    write_table(workdir / "records.csv", measured.records)
    if len(measured.agreement):
        write_table(workdir / "agreement.csv", measured.agreement)
    found = {"seeds": measured.seeds, "differences": measured.differences}
    found |= {"claims": measured.claims, "trust": measured.trust, "ladder": measured.ladder}
    found |= {"floors": measured.floors, "noise": measured.noise, "matrix": matrices(measured)}
    told = {(m.name, m.seed): told_of(m, measured.records) for m in measured.members}
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
    pictures = draw_figures(few, panels, workdir / "figures")
    pictures += draw_networks(many, workdir / "figures")
    if "concord" in found:
        draw_concord(workdir / "figures" / "concord.png", found["concord"])
        pictures.append("concord.png")
    results = {f"{name}, seed {seed}": own for (name, seed), own in told.items()}
    provenance = {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": f"{measured.dataset.name}, {len(measured.dataset.train.label):,} training images",
        "seeds": len({one.seed for one in measured.members}),
        **devices.machine(),
    }
    text = markdown.report(results, measured, pictures, provenance, many)
    files.write_text(workdir / "report.md", text)
    page = html.Page(
        data=measured.dataset.name,
        class_names=measured.dataset.class_names,
        results=results,
        tables=measured.tables,
        records=measured.records,
        agreement=measured.agreement,
        gallery=gallery(few, panels),
        provenance=provenance,
        config=config.to_dict(),
        design=measured.design,
        claims=measured.claims,
        ladder=measured.ladder,
        trust=measured.trust,
        missing=measured.missing,
        compression=many.compression,
        noise=many.noise,
    )
    files.write_text(workdir / "report.html", html.page(page))
    files.write_json(
        workdir / "study.json",
        {"config": config.to_dict(), "models": results, "provenance": provenance},
    )
    return measured.tables["table1"]


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
    figures.rungs(workdir / "audit.png", found.table, LADDER)


Panels = Mapping[tuple[str, str], Sequence[Panel]]  # (model, method) -> of the first images drawn


def told_of(one: Member, records: pd.DataFrame) -> dict[str, Any]:
    """A model's facts, with those that are found here where it tells none."""
    own = records[(records.model == one.name) & (records.seed == one.seed)]
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
    """The page's pictures: the first images drawn, by the main method."""
    shown = measured.wanted.drawn[: cards.PICTURES]
    method = measured.wanted.protocols[0].method
    return cards.Gallery(
        ids=shown,
        images=measured.dataset.test.image[shown],
        heatmaps={
            one.name: np.stack([its.heatmap for its in panels[one.name, method][: len(shown)]])
            for one in first_seed(measured)
        },
        seed=0,
        method=method,
    )


def draw_figures(measured: Measured, panels: Panels, directory: Path) -> list[str]:
    """Training curves, maps and Table 1 as pictures, of the first seed; returns their names."""
    files.make_directory(directory)
    first = first_seed(measured)
    dataset, what = measured.dataset, measured.wanted
    shown = what.drawn[: what.evaluation.gallery]
    images = dataset.test.image[shown]
    names = [dataset.class_names[label] for label in dataset.test.label[shown]]
    panels = {key: its_panels[: len(shown)] for key, its_panels in panels.items()}
    table = measured.tables["table1"]
    pictures = []
    if histories := read_histories([one for one in first if was_trained(one)]):
        figures.curves(directory / "training-curves.png", histories)
        pictures.append("training-curves.png")
    for protocol in what.protocols:
        method = protocol.method
        figures.gallery(
            directory / f"maps-{method}.png",
            images,
            names,
            {
                f"{one.name} ({facts.network(one.model.facts)})"
                if "model" in one.model.facts
                else one.name: panels[one.name, method]
                for one in first
            },
        )
        rows = table[(table.method == method) & table.metric.isin(MAIN)]
        figures.intervals(directory / f"table1-{method}.png", rows, [one.name for one in first])
        pictures += [f"maps-{method}.png", f"table1-{method}.png"]
    if len(measured.ladder):
        figures.rungs(directory / "ladder.png", measured.ladder, LADDER)
        pictures.append("ladder.png")
    if len(what.protocols) > 1:
        for one in first:
            columns = {p.method: panels[one.name, p.method] for p in what.protocols}
            figures.methods(directory / f"methods-{one.name}.png", images, names, columns)
            pictures.append(f"methods-{one.name}.png")
    return pictures


def draw_networks(many: Networks, directory: Path) -> list[str]:
    """The sweeps and the agreement of all networks as pictures; returns their names."""
    pictures = []
    if many.sweeps:
        figures.compression(directory / "compression.png", many.sweeps)
        pictures.append("compression.png")
    if many.noise:
        figures.agreement(directory / "agreement.png", many.noise.alike)
        pictures.append("agreement.png")
    return pictures


def was_trained(one: Member) -> bool:
    """Whether a training run left a model that has learned, and so its curves."""
    origin = one.model.facts.get("origin", {})
    return origin.get("kind") == "train" and bool(one.model.facts.get("best_epoch"))


def read_histories(trained: Sequence[Member]) -> dict[str, pd.DataFrame]:
    """What there is of the training curves: a missing or damaged one is left out with a warning."""
    histories = {}
    for one in trained:
        path = Path(one.place) / history.HISTORY
        try:
            rows = pd.DataFrame(history.read(Path(one.place)))
        except UserError as error:
            warnings.warn(f"{error}; the training curves leave it out", stacklevel=2)
            continue
        if set(figures.CURVES) <= set(rows):
            histories[one.name] = rows
        else:
            warnings.warn(
                f"{path} tells of no epoch; the training curves leave it out", stacklevel=2
            )
    return histories


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
