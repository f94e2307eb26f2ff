"""What the answer does while pixels are taken away or put in: 40 forward passes each."""

from collections.abc import Callable
from functools import partial

import jax

from kdxai.measures.measure import Column, Measure, Subject, Values
from kdxai.metrics import baselines, perturbation, road


def by_perturbation(subject: Subject) -> Values:
    """Deletion, insertion and their kin against the protocol's baseline."""
    known: dict[str, Callable[[jax.Array], jax.Array]] = {
        "blur": baselines.blur,
        "mean": baselines.mean,
        "black": partial(baselines.black, mean=subject.mean, std=subject.std),
    }
    baseline = known[subject.protocol.baseline](subject.image)
    fill = perturbation.replace(subject.image, baseline)
    curves = perturbation.curves(subject.probability, subject.explanation.heatmap, fill)
    return {name: metric(curves) for name, metric in perturbation.METRICS.items()}


def by_road(subject: Subject) -> Values:
    """ROAD, least minus most relevant first, with noisy linear imputation."""
    # The paper's noise is for images in [0, 1].
    fill = road.fill(subject.image, jax.random.fold_in(subject.key, 1), noise=0.01 / subject.std)
    curves = perturbation.curves(subject.probability, subject.explanation.heatmap, fill)
    return {"road": perturbation.symmetric_relevance_gain(curves)}


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
)
ROAD = Measure(by_road, {"road": Column("ROAD (least - most relevant)", 1)}, cost=10)
