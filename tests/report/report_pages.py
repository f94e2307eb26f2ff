"""A page of everything, from made-up numbers."""

import functools
from types import SimpleNamespace

import numpy as np
import pandas as pd

from kdxai.report import cards
from kdxai.report.cards import Gallery
from kdxai.report.compose import Content
from kdxai.report.drawn import Charts, accuracies, ladders
from kdxai.study import paper, stats
from kdxai.study.design import Design
from kdxai.study.measure import Measured

NONE = pd.DataFrame()

CLASSES = ("ring", "cross", "star", "disc")
MODELS = ("teacher", "student", "control", "untrained")
PAIRS = (("student", "teacher"), ("student", "control"))
DESIGN = Design(
    reference="teacher",
    compare=PAIRS,
    order=tuple(paper.ROLES),
    roles=paper.ROLES,
    floor=("second_teacher", "teacher"),
    untrained="untrained",
    title=paper.TITLE,
    recipes=frozenset(paper.ROLES),
)


def records(models=MODELS, seeds=2, images=60, rng=None):
    """What a study measures: the teacher best, the untrained model at chance."""
    rng = rng or np.random.default_rng(0)
    label = rng.integers(0, len(CLASSES), images)
    easy = rng.uniform(0, 0.3, images)
    frames = []
    for worse, model in enumerate(models):
        for seed in range(seeds):
            right = rng.random(images) < (0.25 if model == "untrained" else 0.9 - 0.1 * worse)
            predicted = np.where(right, label, (label + 1) % len(CLASSES))
            drop = np.clip(easy + 0.1 * worse + rng.normal(0, 0.05, images), 0, 1)
            frames.append(
                pd.DataFrame(
                    {
                        "model": model,
                        "seed": seed,
                        "method": "cam",
                        "image": 100 + np.arange(images),
                        "label": label,
                        "predicted": predicted,
                        "explained": predicted,
                        "score": 0.8,
                        "score_masked": 0.8 * (1 - drop),
                        "average_drop": drop,
                        "complexity": easy + 0.1 * worse,
                        "ssim": 1 - drop,
                        "coherency": 1 - drop / 2,
                        "adcc": 0.7 - drop / 3,
                        "entropy": 1 + easy,
                        "degenerate": np.where(np.arange(images) == 7 + worse, "zero", ""),
                        "degenerate_masked": "",
                    }
                )
            )
    return pd.concat(frames, ignore_index=True)


def ladder(models=MODELS):
    """Complexity by columns of the grid, then per pixel: the order turns round."""
    rows = []
    for rung, means in (("literal", (4.8, 2.4, 2.3, 1.5)), ("sound", (0.31, 0.37, 0.36, 0.4))):
        for model, mean in zip(models, means, strict=False):
            rows.append((rung, model, "", "complexity", mean, 0.95 * mean, 1.05 * mean, 60))
            rows.append((rung, model, "", "average_drop", 0.3, 0.25, 0.35, 60))
        difference = means[1] - means[0]
        ends = sorted((0.9 * difference, 1.1 * difference))
        rows.append((rung, "student", "teacher", "complexity", difference, *ends, 60))
        rows.append((rung, "student", "teacher", "average_drop", 0.0, -0.01, 0.01, 60))
    columns = ["rung", "model", "other", "metric", "mean", "ci_low", "ci_high", "n"]
    return pd.DataFrame(rows, columns=columns)


def claims(seeds=2):
    """By the literal protocol the first is supported, by the sound one contradicted."""
    lower, equal = "The student's average drop is lower.", "The student is as accurate."
    rows = [
        ("literal", "drop", lower, "average_drop", -0.04, -0.06, -0.02, 0.001, "supported"),
        ("literal", "accuracy", equal, "accuracy", -0.01, -0.03, 0.01, 0.2, "undecided"),
        ("sound", "drop", lower, "average_drop", 0.08, 0.06, 0.1, 0.0001, "contradicted"),
        ("sound", "accuracy", equal, "accuracy", -0.01, -0.03, 0.01, 0.2, "undecided"),
    ]
    columns = ["rung", "claim", "says", "metric", "mean", "ci_low", "ci_high", "p_holm", "verdict"]
    return pd.DataFrame(rows, columns=columns).assign(
        one="student", other="teacher", direction="lower", matters=0.02, p=0.1, seeds=seeds, n=60,
        across="seeds" if seeds > 1 else "images",
        about="the recipes" if seeds > 1 else "these networks",
        verdict_correct=["", "", "contradicted", ""], why="",
    )  # fmt: skip


def question(seeds=2):
    """The student is worse in average drop, and no worse in complexity."""
    rows = [
        ("as_well_average_drop", "Average drop: no worse", "average_drop", 0.1, "contradicted"),
        ("as_well_complexity", "Complexity: no worse", "complexity", 0.001, "supported"),
    ]
    found = pd.DataFrame(rows, columns=["claim", "says", "metric", "mean", "verdict"])
    return found.assign(
        one="student", other="teacher", networks=seeds, networks_other=seeds, seeds=seeds, n=60,
        across="seeds" if seeds > 1 else "images",
        about="the recipes" if seeds > 1 else "these networks",
    )  # fmt: skip


def cards_of(page):
    """The gallery of a page of the usual models."""
    its = page.measured
    return cards.cards(page.gallery, its.records, its.dataset.class_names, MODELS, its.design)


def changed(page, **changes):
    """The content with something else that was measured."""
    return page._replace(measured=page.measured._replace(**changes))


def measured_of(design, rows, table, **others):
    """What `study.measure` returns of records."""
    return Measured(
        design=design,
        members=(),
        dataset=SimpleNamespace(name="shapes", class_names=CLASSES),
        wanted=None,
        records=rows.assign(drawn=True),
        tables={"table1": table},
        **dict.fromkeys(("agreement", "seeds", "differences", "trust"), NONE)
        | {"missing": {}}
        | others,
    )


@functools.cache
def content():
    """A page of everything: four models, two seeds, claims, a ladder, a metric not to trust."""
    rng = np.random.default_rng(1)
    rows = records()
    table = stats.table(rows, PAIRS, resamples=100)
    table.insert(0, "method", "cam")
    y, x = np.mgrid[:32, :32] / 31
    heatmaps = {
        model: np.stack(
            [
                np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / 0.1)
                for cx, cy in np.random.default_rng(k).uniform(0, 1, (12, 2))
            ]
        )
        for k, model in enumerate(MODELS)
    }
    machine = {"devices": "1 x cpu", "jax": "0.10.2"}
    results = {
        (model, seed): {
            "model": "wrn-10-1",
            "parameters": 77_850,
            "best_epoch": 0 if model == "untrained" else 3,
            "test_accuracy": 0.9 - 0.1 * k - 0.01 * seed,
            "seconds": 61.2,
            "origin": {"kind": "train", "machine": machine},
            "sha256": f"{k}{seed}" * 32,
        }
        for k, model in enumerate(MODELS)
        for seed in range(2)
    }
    trust = pd.DataFrame(
        [
            ("student", "average_drop", 0.4, False, "noise", "a random map scores better: 40%"),
            ("teacher", "average_drop", 0.9, True, "", ""),
        ],
        columns=["model", "metric", "beats_random", "trustworthy", "fails", "why"],
    ).assign(randomised_similarity=0.1)
    agreement = pd.DataFrame(
        {
            "model": "student", "other": "teacher", "seed": 0, "method": "cam",
            "image": [1, 2], "same_class": [1, 0], "pearson": [0.5, 0.7],
        }
    )  # fmt: skip
    slots = DESIGN.slots(MODELS)
    return Content(
        measured=measured_of(
            DESIGN, rows, table, agreement=agreement, claims=claims(), question=question(),
            ladder=ladder(), trust=trust,
        ),
        results=results,
        gallery=Gallery(
            ids=np.array([112, 103, 141, *range(120, 129)]),
            images=rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8),
            heatmaps=heatmaps,
            seed=0,
            method="cam",
        ),
        charts=Charts(
            ladders=ladders(ladder(), slots, PAIRS[0]), accuracies=accuracies(table, slots)
        ),
        provenance={"written": "2026-01-01", "jax": "0.10.2"},
        config={"seeds": 2, "models": {"teacher": {"epochs": 3}}},
    )  # fmt: skip
