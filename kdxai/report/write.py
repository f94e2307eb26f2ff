"""What was measured -> the files that people read."""

from datetime import UTC, datetime
from pathlib import Path

import jax
import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kdxai import evaluate
from kdxai.data import augment
from kdxai.data.datasets import Dataset
from kdxai.protocol import Protocol
from kdxai.report import figures, markdown
from kdxai.report.figures import Panel
from kdxai.report.tables import LADDER, MAIN
from kdxai.study.measure import Measured
from kdxai.training import runs
from kdxai.training.runs import TrainedModel


def write(measured: Measured, config: ConfigDict, workdir: str | Path) -> pd.DataFrame:
    """Write all files of a study below `workdir`.

    `records.csv`, `agreement.csv`, `table1.csv` (the random images), `table1_whole.csv` (the whole
    test split, where it was measured), `differences.csv`, `claims.csv`, `trust.csv`, `ladder.csv`,
    `figures/`, `report.md` and `study.json`.

    Returns:
      Table 1.
    """
    workdir = Path(workdir)
    runs.write_text(workdir / "records.csv", measured.records.to_csv(index=False))
    if len(measured.agreement):
        runs.write_text(workdir / "agreement.csv", measured.agreement.to_csv(index=False))
    found = {"differences": measured.differences, "claims": measured.claims}
    found |= {"trust": measured.trust, "ladder": measured.ladder}
    for file, table in (measured.tables | {k: v for k, v in found.items() if len(v)}).items():
        runs.write_text(workdir / f"{file}.csv", table.to_csv(index=False, float_format="%.6g"))
    pictures = draw_figures(measured, workdir / "figures")
    results = {
        f"{cell.name}, seed {cell.seed}": model.result
        for cell, model in zip(measured.cells, measured.trained, strict=True)
    }
    provenance = {
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "data": f"{measured.dataset.name}, {len(measured.dataset.train.label):,} training images",
        "seeds": len({cell.seed for cell in measured.cells}),
        **runs.machine(),
    }
    text = markdown.report(results, measured, pictures, provenance)
    runs.write_text(workdir / "report.md", text)
    runs.write_json(
        workdir / "study.json",
        {"config": config.to_dict(), "models": results, "provenance": provenance},
    )
    return measured.tables["table1"]


def draw_figures(measured: Measured, directory: Path) -> list[str]:
    """Training curves, maps and Table 1 as pictures, of the first seed; returns their names."""
    directory.mkdir(exist_ok=True)
    first = [
        (cell, model)
        for cell, model in zip(measured.cells, measured.trained, strict=True)
        if cell.seed == 0
    ]
    dataset, what = measured.dataset, measured.wanted
    shown = what.drawn[: what.evaluation.gallery]
    images = dataset.test.image[shown]
    names = [dataset.class_names[label] for label in dataset.test.label[shown]]
    panels = {
        (cell.name, protocol.method): explain_images(model, protocol, dataset, shown)
        for cell, model in first
        for protocol in what.protocols
    }
    histories = {
        cell.name: pd.read_csv(cell.workdir / runs.HISTORY)
        for cell, _ in first
        if cell.config.epochs
    }
    figures.curves(directory / "training-curves.png", histories)
    table = measured.tables["table1"]
    pictures = ["training-curves.png"]
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


def explain_images(
    trained: TrainedModel, protocol: Protocol, dataset: Dataset, indices: np.ndarray
) -> list[Panel]:
    """What the figures show of some test images."""
    images = augment.normalise(dataset.test.image[indices], trained.mean, trained.std)
    labels = dataset.test.label[indices]
    masks = None if dataset.test.mask is None else dataset.test.mask[indices]
    classifier = evaluate.as_classifier(trained, protocol)
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(indices)

    normalisation = {"mean": trained.mean, "std": trained.std}

    def one(image: jax.Array, label: jax.Array, mask: jax.Array | None, key: jax.Array):
        options = {"mask": mask, "key": key, **normalisation}
        return evaluate.explain(classifier, image, label, protocol, **options)

    explained = jax.jit(jax.vmap(one))(images, labels, masks, keys)
    masked = augment.denormalise(explained.masked, trained.mean, trained.std)
    before, after = jax.nn.softmax(explained.logits), jax.nn.softmax(explained.logits_masked)
    return [
        Panel(
            heatmap=np.asarray(explained.heatmap[i]),
            masked=np.asarray(masked[i]),
            class_name=dataset.class_names[c],
            before=float(before[i, c]),
            after=float(after[i, c]),
            correct=bool(c == labels[i]),
        )
        for i, c in enumerate(np.asarray(explained.class_index))
    ]
