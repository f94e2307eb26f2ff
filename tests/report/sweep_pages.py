"""Made-up sweeps: five dense networks, of which two agree at 0.82 to 0.87, and what became of them.

Weights rounded stay with their parent; pruned by magnitude they leave it, later when fine-tuned;
pruned at random at once. The last one-shot step is at chance, with the best ADCC of all.
"""

import functools
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from report_pages import CLASSES, measured_of

from kdxai.report import films, sections, seeds, sweep
from kdxai.report.cards import Gallery
from kdxai.report.compose import Content
from kdxai.report.networks import NO_NETWORKS
from kdxai.report.sweep import Sweep
from kdxai.study import distances, stats, sweeps
from kdxai.study.design import Design
from kdxai.study.distances import Pairwise

IMAGES = 60
PRUNE = {"by": "magnitude", "scope": "global", "seed": 0}
# model -> (how, settings, tuned epochs, BatchNorm images, factor, accuracy, agreement, ADCC)
MODELS: dict[str, tuple[Any, ...]] = {
    "bits-8": ("quantise", {"bits": 8, "activations": False}, 0, 0, 4.0, 0.92, 0.999, 0.78),
    "bits-4": ("quantise", {"bits": 4, "activations": False}, 0, 0, 8.0, 0.91, 0.985, 0.78),
    "bits-2": ("quantise", {"bits": 2, "activations": False}, 0, 0, 16.0, 0.60, 0.55, 0.70),
    "prune-2": ("prune", PRUNE | {"sparsity": 0.5}, 0, 0, 2.0, 0.90, 0.965, 0.77),
    "prune-4": ("prune", PRUNE | {"sparsity": 0.75}, 0, 0, 4.0, 0.62, 0.74, 0.55),
    "prune-8": ("prune", PRUNE | {"sparsity": 0.875}, 0, 0, 8.0, 0.26, 0.30, 0.80),
    "norm-2": ("prune", PRUNE | {"sparsity": 0.5}, 0, 512, 2.0, 0.91, 0.970, 0.77),
    "norm-4": ("prune", PRUNE | {"sparsity": 0.75}, 0, 512, 4.0, 0.75, 0.83, 0.66),
    "random-2": ("prune", PRUNE | {"sparsity": 0.5, "by": "random"}, 0, 0, 2.0, 0.25, 0.1, 0.8),
    "tuned-1": ("none", {}, 2, 0, 1.0, 0.92, 0.962, 0.775),
    "tuned-2": ("prune", PRUNE | {"sparsity": 0.5}, 2, 0, 2.0, 0.915, 0.955, 0.775),
    "tuned-4": ("prune", PRUNE | {"sparsity": 0.75}, 2, 0, 4.0, 0.90, 0.91, 0.77),
    "tuned-8": ("prune", PRUNE | {"sparsity": 0.875}, 2, 0, 8.0, 0.86, 0.79, 0.76),
}


class Made(NamedTuple):
    """A sweep, and all that it was made of."""

    results: dict[tuple[str, int], dict[str, Any]]
    records: pd.DataFrame
    pairwise: Pairwise
    noise: pd.DataFrame
    sweep: Sweep


@functools.cache
def made(parents: int = 5) -> Made:
    """A sweep of so many parents."""
    results = facts(parents)
    rows = records(results)
    pairs = pairwise(results, rows)
    noise = distances.noise(pairs, [(model, "dense") for model in MODELS], resamples=20)
    [one] = sweep.sweeps(results, rows, pairs, noise)
    return Made(results, rows, pairs, noise, one)


def facts(parents):
    """(model, seed) -> facts of every network."""
    found = {}
    for seed in range(parents):
        found["dense", seed] = {
            "model": "resnet20",
            "parameters": 10_000,
            "test_accuracy": 0.92 + 0.002 * seed,
            "origin": {"kind": "import", "file": f"{seed}.safetensors", "sha256": f"f{seed}" * 32},
            "sha256": f"d{seed}" * 32,
        }
    for model, (how, settings, tuned, norm, factor, accuracy, *_) in MODELS.items():
        for seed in range(parents):
            found[model, seed] = {
                "model": "resnet20",
                "parameters": 10_000,
                "test_accuracy": accuracy - 0.004 * seed,
                "origin": {
                    **{"kind": "compress", "how": how, "settings": settings},
                    **{"tuned_epochs": tuned, "rounds": 1, "batch_norm": norm},
                    **{"parent": f"../dense/{seed}", "root_sha256": f"d{seed}" * 32},
                },
                "factor": factor,
                "sha256": f"{model}{seed}".ljust(64, "0"),
            }
    return found


def records(networks):
    """Rows of every network, which is right as often as its accuracy says."""
    rng = np.random.default_rng(0)
    label = np.arange(IMAGES) % len(CLASSES)
    frames = []
    for (model, seed), own in networks.items():
        right = rng.permutation(IMAGES) < round(own["test_accuracy"] * IMAGES)
        adcc = MODELS[model][-1] if model in MODELS else 0.785
        wrong = (label + rng.integers(1, len(CLASSES), IMAGES)) % len(CLASSES)
        rows = {
            **{"model": model, "seed": seed, "line": f"line{seed}", "method": "cam"},
            **{"image": 100 + np.arange(IMAGES), "label": label},
            **{"predicted": np.where(right, label, wrong), "explained": label},
            **{"score": 0.8, "score_masked": 0.6, "average_drop": 0.25, "coherency": 0.9},
            "complexity": 0.3 + rng.normal(0, 0.02, IMAGES),
            "ssim": 0.7 + rng.normal(0, 0.02, IMAGES),
            "adcc": adcc + 0.004 * seed + rng.normal(0, 0.01, IMAGES),
            **{"degenerate": "", "degenerate_masked": "", "drawn": True},
        }
        frames.append(pd.DataFrame(rows))
    return pd.concat(frames, ignore_index=True)


def pairwise(networks, rows):
    """Agreement of a child with its parent as `MODELS` has it, of two parents from 0.82 to 0.87."""
    names = list(networks)
    rng = np.random.default_rng(1)
    i, j = np.triu_indices(len(names), 1)
    means = []
    for one, two in ((names[a], names[b]) for a, b in zip(i, j, strict=True)):
        close = np.prod([MODELS[name][6] for name, _ in (one, two) if name in MODELS])
        seeds = 0.82 + 0.05 * ((3 * one[1] + 5 * two[1]) % 7) / 6
        means.append(close if one[1] == two[1] else seeds * close)
    noise = rng.normal(0, 0.02, (IMAGES, len(i)))
    values = np.clip(np.array(means) + noise - noise.mean(0), -1, 1).astype(np.float32)
    answers = (rows.predicted == rows.label).to_numpy()
    table = pd.DataFrame(names, columns=["model", "seed"])
    return Pairwise(
        table.assign(line=[f"line{seed}" for seed in table.seed]),
        100 + np.arange(IMAGES),
        answers.reshape(len(names), IMAGES).T,
        {"pearson": values, "ssim": values - 0.1},
    )


def seen(one):
    """A spot that wanders with the strength."""
    y, x = np.mgrid[:8, :8] / 7
    maps = {
        network: np.exp(-((x - 0.3 - 0.04 * place) ** 2 + (y - 0.4) ** 2) / 0.1)
        for place, network in enumerate(films.first_family(one))
    }
    image = np.random.default_rng(4).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return films.Seen(100, CLASSES[0], image, maps)


@functools.cache
def page(parents=5):
    """A page of a sweep of so many parents."""
    own = made(parents)
    alike = seeds.alike(own.pairwise, [own.sweep], "dense")
    table = stats.table(own.records, [], resamples=100)
    table.insert(0, "method", "cam")
    noise = sections.seed_noise(alike, stats.floors(own.records), own.noise, [own.sweep])
    return Content(
        measured=measured_of(Design("dense", [], ()), own.records, table),
        results=own.results,
        gallery=Gallery(
            ids=np.arange(100, 104),
            images=np.random.default_rng(2).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8),
            heatmaps={"dense": np.random.default_rng(3).random((4, 32, 32))},
            seed=0,
            method="cam",
        ),
        provenance={},
        config={},
        many=NO_NETWORKS._replace(compression=[compression(own)], noise=noise),
    )


def shown(own):
    """The films of a sweep."""
    return films.films(own.sweep, seen(own.sweep), own.pairwise, own.records)


def compression(own):
    """What is told of a sweep."""
    one, rows = own.sweep, stats.with_agreement(own.records, agreement(own), "dense")
    image = seen(one)
    tables = sections.Tables(
        sweeps.sweep(rows, "dense", resamples=100),
        sweeps.forgotten(rows, "dense", list(MODELS), resamples=100),
    )
    says = sections.reading(image, one.dense)
    return sections.compression(one, tables, shown(own), says, len(CLASSES))


def agreement(own):
    """A row per compressed network and image, as `study.alike` has it."""
    frames = [
        pd.DataFrame(
            {
                **{"model": row.model, "other": "dense", "seed": row.seed, "method": "cam"},
                **{"image": own.pairwise.images, "same_class": 1.0},
                **dict.fromkeys(stats.AGREEMENT, row.agreement),
            }
        )
        for row in own.sweep.networks.itertuples()
    ]
    return pd.concat(frames, ignore_index=True)
