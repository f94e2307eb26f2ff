"""What the map alone says beyond the core, where it is asked for: no further forward pass."""

from kdxai.measures.measure import Column, Measure, Subject, Values
from kdxai.metrics import compactness, localisation


def by_shape(subject: Subject) -> Values:
    """Whether the most relevant pixels hang together."""
    heatmap = subject.explanation.heatmap
    return {name: metric(heatmap) for name, metric in compactness.METRICS.items()}


def by_rank(subject: Subject) -> Values:
    """Whether the object's pixels are the most relevant, where the object is known."""
    heatmap, mask = subject.explanation.heatmap, subject.mask
    if mask is None:
        return {}
    return {
        "mask_auc": localisation.auc(heatmap, mask),
        "mask_top_k": localisation.top_k_intersection(heatmap, mask),
    }


COMPACTNESS = Measure(
    by_shape,
    {
        "cohesion": Column("Cohesion of the top 10 %", 1),
        "concentration": Column("Concentration of the top 10 %", 1),
        "compactness": Column("Compactness of the top 10 %", 1),
    },
    cost=1,
)
RANKING = Measure(
    by_rank,
    {
        "mask_auc": Column("AUC against the object", 1),
        "mask_top_k": Column("Top 10 % on the object", 1),
    },
    cost=1,
)
