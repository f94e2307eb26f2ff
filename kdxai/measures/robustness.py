"""How far a map moves with noise too small to see: 10 further maps."""

import jax

from kdxai.measures.measure import Column, Measure, Subject, Values
from kdxai.metrics import robustness


def by_noise(subject: Subject) -> Values:
    """Max- and average-sensitivity."""
    draw = lambda image: subject.draw(  # noqa: E731
        subject.classifier, image, subject.explanation.class_index
    )
    sensitivity = robustness.sensitivity(draw, subject.image, jax.random.fold_in(subject.key, 2))
    return {"max_sensitivity": sensitivity.maximum, "average_sensitivity": sensitivity.average}


SENSITIVITY = Measure(
    by_noise,
    {
        "max_sensitivity": Column("Max-sensitivity", -1),
        "average_sensitivity": Column("Average sensitivity", -1),
    },
    cost=10,
)
