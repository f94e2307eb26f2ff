"""What was measured -> the files that people read."""

import warnings
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kdxai import classifiers, drawing, evaluate, files
from kdxai.data import augment
from kdxai.data.datasets import Dataset
from kdxai.errors import UserError
from kdxai.explain import Classifier
from kdxai.fingerprints import fingerprint
from kdxai.protocol import Protocol
from kdxai.report import figures, html, markdown
from kdxai.report.figures import Panel
from kdxai.report.tables import LADDER, MAIN
from kdxai.study.audit import Audit
from kdxai.study.measure import Measured
from kdxai.study.plan import Cell
from kdxai.training import runs
from kdxai.training.runs import TrainedModel


def write(measured: Measured, config: ConfigDict, workdir: str | Path) -> pd.DataFrame:
    """Write all files of a study below `workdir`.

    `records.csv`, `agreement.csv`, `table1.csv` (the random images), `table1_whole.csv` (the whole
    test split, where it was measured), `seeds.csv` (what each seed gives), `differences.csv`,
    `claims.csv`, `trust.csv`, `ladder.csv`, `figures/`, `report.html`, `report.md`, `study.json`.

    Returns:
      Table 1.
    """
    workdir = Path(workdir)
    write_table(workdir / "records.csv", measured.records)
    if len(measured.agreement):
        write_table(workdir / "agreement.csv", measured.agreement)
    found = {"seeds": measured.seeds, "differences": measured.differences}
    found |= {"claims": measured.claims, "trust": measured.trust, "ladder": measured.ladder}
    for file, table in (dict(measured.tables) | {k: v for k, v in found.items() if len(v)}).items():
        write_table(workdir / f"{file}.csv", table, float_format="%.6g")
    panels = explain_first(measured)
    pictures = draw_figures(measured, panels, workdir / "figures")
    results = {
        f"{cell.name}, seed {cell.seed}": {
            **model.result,
            "sha256": fingerprint(model.variables),
        }
        for cell, model in zip(measured.cells, measured.trained, strict=True)
    }
    provenance = {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": f"{measured.dataset.name}, {len(measured.dataset.train.label):,} training images",
        "seeds": len({cell.seed for cell in measured.cells}),
        **runs.machine(),
    }
    text = markdown.report(results, measured, pictures, provenance)
    files.write_text(workdir / "report.md", text)
    page = html.Page(
        data=measured.dataset.name,
        class_names=measured.dataset.class_names,
        results=results,
        tables=measured.tables,
        records=measured.records,
        agreement=measured.agreement,
        gallery=gallery(measured, panels),
        provenance=provenance,
        config=config.to_dict(),
        claims=measured.claims,
        ladder=measured.ladder,
        trust=measured.trust,
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


def first_seed(measured: Measured) -> list[tuple[Cell, TrainedModel]]:
    pairs = zip(measured.cells, measured.trained, strict=True)
    return [(cell, model) for cell, model in pairs if cell.seed == 0]


def explain_first(measured: Measured) -> Panels:
    """The first seed's maps of the first images drawn; of the main method enough for the page."""
    what = measured.wanted
    few = what.evaluation.gallery
    many = max(few, html.PICTURES)
    return {
        (cell.name, protocol.method): explain_images(
            model, protocol, measured.dataset, what.drawn[: few if place else many]
        )
        for cell, model in first_seed(measured)
        for place, protocol in enumerate(what.protocols)
    }


def gallery(measured: Measured, panels: Panels) -> html.Gallery:
    """The page's pictures: the first images drawn, by the main method."""
    shown = measured.wanted.drawn[: html.PICTURES]
    method = measured.wanted.protocols[0].method
    return html.Gallery(
        ids=shown,
        images=measured.dataset.test.image[shown],
        heatmaps={
            cell.name: np.stack([one.heatmap for one in panels[cell.name, method][: len(shown)]])
            for cell, _ in first_seed(measured)
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
    if histories := read_histories([cell for cell, _ in first if cell.config.epochs]):
        figures.curves(directory / "training-curves.png", histories)
        pictures.append("training-curves.png")
    for protocol in what.protocols:
        method = protocol.method
        figures.gallery(
            directory / f"maps-{method}.png",
            images,
            names,
            {
                f"{cell.name} ({model.config.model.name})": panels[cell.name, method]
                for cell, model in first
            },
        )
        rows = table[(table.method == method) & table.metric.isin(MAIN)]
        figures.intervals(
            directory / f"table1-{method}.png", rows, [cell.name for cell, _ in first]
        )
        pictures += [f"maps-{method}.png", f"table1-{method}.png"]
    if len(measured.ladder):
        figures.rungs(directory / "ladder.png", measured.ladder, LADDER)
        pictures.append("ladder.png")
    if len(what.protocols) > 1:
        for cell, _ in first:
            columns = {p.method: panels[cell.name, p.method] for p in what.protocols}
            figures.methods(directory / f"methods-{cell.name}.png", images, names, columns)
            pictures.append(f"methods-{cell.name}.png")
    return pictures


def read_histories(cells: Sequence[Cell]) -> dict[str, pd.DataFrame]:
    """What there is of the training curves: a missing or damaged one is left out with a warning."""
    histories = {}
    for cell in cells:
        path = cell.workdir / runs.HISTORY
        try:
            rows = pd.DataFrame(runs.read_history(cell.workdir))
        except UserError as error:
            warnings.warn(f"{error}; the training curves leave it out", stacklevel=2)
            continue
        if set(figures.CURVES) <= set(rows):
            histories[cell.name] = rows
        else:
            warnings.warn(
                f"{path} tells of no epoch; the training curves leave it out", stacklevel=2
            )
    return histories


def explain_images(
    trained: TrainedModel, protocol: Protocol, dataset: Dataset, indices: np.ndarray
) -> list[Panel]:
    """What the figures show of some test images."""
    normalisation: dict[str, Any] = {"mean": trained.mean, "std": trained.std}

    def one(
        classifier: Classifier,
        index: jax.Array,
        image: jax.Array,
        label: jax.Array,
        mask: jax.Array | None,
    ) -> dict[str, jax.Array]:
        image = augment.normalise(image, **normalisation)
        key = jax.random.fold_in(jax.random.key(0), index)
        options = normalisation | {"mask": mask, "key": key}
        shown = drawing.explain(classifier, image, label, protocol, **options)
        c = shown.class_index
        return {
            "heatmap": shown.heatmap,
            "masked": augment.denormalise(shown.masked, **normalisation),
            "explained": c,
            "before": jax.nn.softmax(shown.logits)[c],
            "after": jax.nn.softmax(shown.logits_masked)[c],
            "correct": c == label,
        }

    explain = jax.jit(jax.vmap(one, in_axes=(None, 0, 0, 0, 0)))
    classifier = classifiers.as_classifier(trained, protocol)
    test = dataset.test
    rows = []
    chunk = evaluate.chunk_size(protocol, (), test.image.shape[1:3])
    for part in evaluate.chunks(len(indices), chunk, f"{protocol.method} maps"):
        ids = indices[part]
        masks = None if test.mask is None else test.mask[ids]
        rows.append(explain(classifier, ids, test.image[ids], test.label[ids], masks))
    columns = evaluate.stack(rows, len(indices))
    return [
        Panel(
            heatmap=columns["heatmap"][i],
            masked=columns["masked"][i],
            class_name=dataset.class_names[columns["explained"][i]],
            before=float(columns["before"][i]),
            after=float(columns["after"][i]),
            correct=bool(columns["correct"][i]),
        )
        for i in range(len(indices))
    ]
