"""What the answer does while pixels are taken away or put in: 40 forward passes, or 10 for ARCC."""

from collections.abc import Callable
from functools import partial

import jax

from kdxai.measures.measure import Column, Measure, Subject, Values
from kdxai.metrics import adcc, baselines, coherency, complexity, perturbation, road

TENTHS = 10  # of the pixels, at which the curves are kept


def fill(subject: Subject) -> perturbation.Fill:
    """Removed pixels take the values of the protocol's baseline."""
    known: dict[str, Callable[[jax.Array], jax.Array]] = {
        "blur": baselines.blur,
        "mean": baselines.mean,
        "black": partial(baselines.black, mean=subject.mean, std=subject.std),
    }
    return perturbation.replace(subject.image, known[subject.protocol.baseline](subject.image))


def imputation(subject: Subject) -> perturbation.Fill:
    """ROAD's noisy linear imputation."""
    # The paper's noise is for images in [0, 1].
    return road.fill(subject.image, jax.random.fold_in(subject.key, 1), noise=0.01 / subject.std)


def by_perturbation(subject: Subject) -> Values:
    """Deletion, insertion and their kin against the protocol's baseline.

    And the two curves at every tenth of the pixels: `deletion_0` to `deletion_100`, in percent.
    """
    heatmap = subject.explanation.heatmap
    curves = perturbation.curves(subject.probability, heatmap, fill(subject), steps=2 * TENTHS)
    values = {name: metric(curves) for name, metric in perturbation.METRICS.items()}
    for tenth in range(TENTHS + 1):
        values[f"deletion_{10 * tenth}"] = curves.deletion[2 * tenth]
        values[f"insertion_{10 * tenth}"] = curves.insertion[2 * tenth]
    return values


def by_road(subject: Subject) -> Values:
    """ROAD, least minus most relevant first."""
    heatmap = subject.explanation.heatmap
    curves = perturbation.curves(subject.probability, heatmap, imputation(subject))
    return {"road": perturbation.symmetric_relevance_gain(curves)}


def by_arcc(subject: Subject) -> Values:
    """ARCC as published, whatever the protocol takes for similarity and complexity."""
    e = subject.explanation
    curves = perturbation.curves(subject.probability, e.heatmap, imputation(subject), steps=5)
    gain = road.gain(curves)
    alike = coherency.coherency(coherency.pearson(e.heatmap, e.heatmap_masked))
    return {"arcc": adcc.arcc(alike, complexity.l1(e.heatmap), gain), "arcc_road": gain}


PERTURBATION = Measure(
    by_perturbation,
    {
        "pixel_flipping": Column("Pixel-flipping", 1),
        "comprehensiveness": Column("Comprehensiveness", 1),
        "sufficiency": Column("Sufficiency", -1),
        "deletion": Column("Deletion", -1),
        "insertion": Column("Insertion", 1),
        "symmetric_relevance_gain": Column("Insertion - deletion", 1),
    },
    cost=10,
    details=True,
    version=2,
)
ROAD = Measure(by_road, {"road": Column("ROAD (least - most relevant)", 1)}, cost=10)
ARCC = Measure(
    by_arcc,
    {
        "arcc": Column("ARCC (mean of images)", 1),
        "arcc_road": Column("ROAD at 20, 40, 60 and 80 %", 1),
    },
    cost=3,
)
