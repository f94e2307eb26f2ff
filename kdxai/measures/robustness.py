"""How far a map moves with noise too small to see: 10 further maps."""

from typing import Any

import jax

from kdxai.measures.measure import Column, Measure, Subject, Values
from kdxai.metrics import robustness

RADIUS, SAMPLES = 0.02, 10
# Of maps in [0, 1] and of normalised images: below it a relative change says nothing.
FLOOR = 0.1


def by_noise(subject: Subject) -> Values:
    """Max- and average-sensitivity."""
    draw = lambda image: subject.draw(  # noqa: E731
        subject.classifier, image, subject.explanation.class_index
    )
    sensitivity = robustness.sensitivity(
        draw, subject.image, jax.random.fold_in(subject.key, 2), radius=RADIUS, samples=SAMPLES
    )
    return {"max_sensitivity": sensitivity.maximum, "average_sensitivity": sensitivity.average}


def by_neighbours(subject: Subject) -> Values:
    """Local Lipschitz estimate and relative stabilities, of the noise that `by_noise` takes too."""
    classifier, class_index = subject.classifier, subject.explanation.class_index

    def answer(image: jax.Array) -> tuple[jax.Array, Any]:
        return classifier(image), classifier.features(image)

    noise = jax.random.fold_in(subject.key, 2)
    found = robustness.stability(
        lambda image: subject.draw(classifier, image, class_index),
        answer,
        subject.image,
        robustness.neighbours(subject.image, noise, RADIUS, SAMPLES),
        floor=FLOOR,
    )
    return {
        "local_lipschitz": found.lipschitz,
        "relative_input_stability": found.relative_input,
        "relative_representation_stability": found.relative_representation,
        "relative_output_stability": found.relative_output,
    }


SENSITIVITY = Measure(
    by_noise,
    {
        "max_sensitivity": Column("Max-sensitivity", -1),
        "average_sensitivity": Column("Average sensitivity", -1),
    },
    cost=SAMPLES,
)
STABILITY = Measure(
    by_neighbours,
    {
        "local_lipschitz": Column("Local Lipschitz estimate", -1),
        "relative_input_stability": Column("Relative input stability", -1),
        "relative_representation_stability": Column("Relative representation stability", -1),
        "relative_output_stability": Column("Relative output stability", -1),
    },
    cost=SAMPLES,
)
