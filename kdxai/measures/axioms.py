"""Does the map keep what some methods promise? One further map."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from kdxai.explain import Classifier
from kdxai.measures.measure import Column, Measure, Subject, Values
from kdxai.metrics import axioms

SHIFT = 1.0  # of a normalised image: about one deviation of the data set's colours


def by_axioms(subject: Subject) -> Values:
    """Completeness of the signed map against the mean colour; and a shift of the input.

    Only attributions in logits promise completeness (integrated gradients, DeepLIFT, gradient times
    input of a network without biases, ...): a class activation map has another unit. And only from
    the baseline that the method takes, which is the data themselves for expected gradients.
    """
    classifier, e = subject.classifier, subject.explanation

    def logit(logits: jax.Array) -> jax.Array:
        return logits[e.class_index]

    nothing = classifier(jnp.zeros_like(subject.image))
    moved = subject.draw(shifted(classifier), subject.image + SHIFT, e.class_index)
    return {
        "completeness_gap": axioms.completeness_gap(e.raw, logit(e.logits) - logit(nothing)),
        "input_shift": axioms.input_shift(e.heatmap, moved),
    }


def shifted(classifier: Classifier) -> Classifier:
    """f'(x + m) = f(x): what answers for images shifted by m as it did for those that they were.

    Images that stand for the data are shifted with the data.
    """

    def back(function: Callable[[jax.Array], Any] | None) -> Callable[[jax.Array], Any] | None:
        return None if function is None else lambda image: function(image - SHIFT)

    attended, background = classifier.attended, classifier.background
    return classifier._replace(
        features=lambda image: classifier.features(image - SHIFT),
        guided=back(classifier.guided),
        attention=back(classifier.attention),
        attended=None if attended is None else lambda given: attended((given[0] - SHIFT, given[1])),
        background=None if background is None else background + SHIFT,
        earlier=tuple(map(shifted, classifier.earlier)),
    )


AXIOMS = Measure(
    by_axioms,
    {
        "completeness_gap": Column("Completeness gap (of attributions in logits)", -1),
        "input_shift": Column("Change under a shift of the input", -1),
    },
    cost=1,
)
