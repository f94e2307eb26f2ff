"""Made-up sweeps: five dense networks, of which two agree at 0.82 to 0.87, and what became of them.

Weights rounded stay with their parent; pruned by magnitude they leave it, later when fine-tuned;
pruned at random at once. The last one-shot step is at chance, with the best ADCC of all.
"""

import numpy as np
import pandas as pd
from report_pages import CLASSES

from kdxai.report import films, sections, seeds, sweep
from kdxai.report.cards import Gallery
from kdxai.report.html import Page
from kdxai.study import distances, stats
from kdxai.study.design import Design
from kdxai.study.distances import Pairwise

IMAGES = 60
PRUNE = {"by": "magnitude", "scope": "global", "seed": 0}
# model -> (how, settings, tuned epochs, BatchNorm images, factor, accuracy, agreement, ADCC)
MODELS = {
    "bits-8": ("quantise", {"bits": 8, "activations": False}, 0, 0, 4.0, 0.92, 0.999, 0.78),
    "bits-4": ("quantise", {"bits": 4, "activations": False}, 0, 0, 8.0, 0.91, 0.985, 0.78),
    "bits-2": ("quantise", {"bits": 2, "activations": False}, 0, 0, 16.0, 0.60, 0.55, 0.70),
    "prune-2": ("prune", PRUNE | {"sparsity": 0.5}, 0, 0, 2.0, 0.90, 0.965, 0.77),
    "prune-4": ("prune", PRUNE | {"sparsity": 0.75}, 0, 0, 4.0, 0.62, 0.74, 0.55),
    "prune-8": ("prune", PRUNE | {"sparsity": 0.875}, 0, 0, 8.0, 0.26, 0.30, 0.80),
    "norm-2": ("prune", PRUNE | {"sparsity": 0.5}, 0, 512, 2.0, 0.91, 0.970, 0.77),
    "norm-4": ("prune", PRUNE | {"sparsity": 0.75}, 0, 512, 4.0, 0.75, 0.82, 0.66),
    "random-2": ("prune", PRUNE | {"sparsity": 0.5, "by": "random"}, 0, 0, 2.0, 0.25, 0.1, 0.8),
    "tuned-1": ("none", {}, 2, 0, 1.0, 0.92, 0.962, 0.775),
    "tuned-2": ("prune", PRUNE | {"sparsity": 0.5}, 2, 0, 2.0, 0.915, 0.955, 0.775),
    "tuned-4": ("prune", PRUNE | {"sparsity": 0.75}, 2, 0, 4.0, 0.90, 0.91, 0.77),
    "tuned-8": ("prune", PRUNE | {"sparsity": 0.875}, 2, 0, 8.0, 0.86, 0.79, 0.76),
}


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
                    "root_sha256": f"d{seed}" * 32,
                },
                "factor": factor,
                "sha256": f"{model}{seed}".ljust(64, "0"),
            }
    return found


def records(networks):
    """Rows of every network; of those at chance a quarter are right, as by guessing."""
    rng = np.random.default_rng(0)
    label = np.arange(IMAGES) % len(CLASSES)
    frames = []
    for (model, seed), own in networks.items():
        right = rng.permutation(IMAGES) < round(own["test_accuracy"] * IMAGES)
        adcc = MODELS[model][-1] if model in MODELS else 0.785
        wrong = (label + rng.integers(1, len(CLASSES), IMAGES)) % len(CLASSES)
        rows = {
            **{"model": model, "seed": seed, "method": "cam", "image": 100 + np.arange(IMAGES)},
            **{"label": label, "predicted": np.where(right, label, wrong)},
            **{"explained": label, "score": 0.8, "score_masked": 0.6, "average_drop": 0.25},
            "complexity": 0.3 + rng.normal(0, 0.02, IMAGES),
            "ssim": 0.7 + rng.normal(0, 0.02, IMAGES),
            "coherency": 0.9,
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
        close = [MODELS[name][6] for name, _ in (one, two) if name in MODELS]
        seeds = 0.82 + 0.05 * ((3 * one[1] + 5 * two[1]) % 7) / 6
        means.append(np.prod(close) if one[1] == two[1] else seeds * np.prod(close))
    noise = rng.normal(0, 0.02, (IMAGES, len(i)))
    values = np.clip(np.array(means) + noise - noise.mean(0), -1, 1).astype(np.float32)
    right = np.stack(
        [
            (own.predicted == own.label).to_numpy()
            for _, own in rows.groupby(["model", "seed"], sort=False)
        ],
        1,
    )
    table = pd.DataFrame(names, columns=["model", "seed"]).assign(
        line=[f"line{seed}" for _, seed in names]
    )
    measures = {"pearson": values, "spearman": values, "ssim": values - 0.1}
    return Pairwise(table, 100 + np.arange(IMAGES), right, measures)


def page(parents=5):
    """A page of a sweep of so many parents."""
    networks = facts(parents)
    rows = records(networks)
    pairs = pairwise(networks, rows)
    noise = distances.noise(pairs, [(model, "dense") for model in MODELS], resamples=100)
    [one] = sweep.sweeps(networks, rows, pairs, noise)
    design = Design("dense", [], ())
    found = seeds.alike(pairs, [one], "dense")
    table = stats.table(rows, [], resamples=100)
    table.insert(0, "method", "cam")
    return Page(
        data="shapes",
        class_names=CLASSES,
        results={f"{model}, seed {seed}": own for (model, seed), own in networks.items()},
        tables={"table1": table},
        records=rows,
        agreement=pd.DataFrame(),
        gallery=Gallery(
            ids=np.arange(100, 104),
            images=np.random.default_rng(2).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8),
            heatmaps={"dense": np.random.default_rng(3).random((4, 32, 32))},
            seed=0,
            method="cam",
        ),
        provenance={},
        config={},
        design=design,
        compression=[sections.compression(one, rows, pairs, seen(one), len(CLASSES))],
        noise=sections.seed_noise(found, stats.floors(rows), noise, [one]),
    )


def seen(one):
    """A spot that wanders with the strength."""
    y, x = np.mgrid[:8, :8] / 7
    maps = {
        network: np.exp(-((x - 0.3 - 0.06 * place) ** 2 + (y - 0.4) ** 2) / 0.1)
        for place, network in enumerate(films.first_family(one))
    }
    image = np.random.default_rng(4).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    return films.Seen(100, CLASSES[0], image, maps)
