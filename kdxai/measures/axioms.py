"""Does the map keep what some methods promise? One further map."""

import jax
import jax.numpy as jnp

from kdxai.measures.measure import Column, Measure, Subject, Values
from kdxai.metrics import axioms

SHIFT = 1.0  # of a normalised image: about one deviation of the data set's colours


def by_axioms(subject: Subject) -> Values:
    """Completeness of the signed map against the mean colour; and a shift of the input.

    Only attributions in logits promise completeness (integrated gradients, gradient times input of
    a network without biases, ...): a class activation map has another unit.
    """
    classifier, e = subject.classifier, subject.explanation

    def logit(logits: jax.Array) -> jax.Array:
        return logits[e.class_index]

    nothing = classifier(jnp.zeros_like(subject.image))
    back = lambda image: image - SHIFT  # noqa: E731
    features, guided = classifier.features, classifier.guided
    shifted = classifier._replace(
        features=lambda image: features(back(image)),
        guided=None if guided is None else lambda image: guided(back(image)),
    )
    moved = subject.draw(shifted, subject.image + SHIFT, e.class_index)
    return {
        "completeness_gap": axioms.completeness_gap(e.raw, logit(e.logits) - logit(nothing)),
        "input_shift": axioms.input_shift(e.heatmap, moved),
    }


AXIOMS = Measure(
    by_axioms,
    {
        "completeness_gap": Column("Completeness gap (of attributions in logits)", -1),
        "input_shift": Column("Change under a shift of the input", -1),
    },
    cost=1,
)
