"""Compressed networks are explained as any other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai import compress
from kdxai.classifiers import as_classifier
from kdxai.measures.randomisation import cascade, randomised
from kdxai.protocol import SOUND
from kdxai.report import sweep
from kdxai.study import compressions

MADE = {
    "factorised": lambda model, images: compress.factorise(model, rank=0.5),
    "int8": lambda model, images: compress.quantise(model, bits=4, images=images),
}


def test_what_was_made_in_memory_is_told_like_what_a_study_made(small):
    model = compress.prune(small, sparsity=0.5)
    facts = model.facts | {"measured_accuracy": 0.25}
    assert compressions.in_words(facts) == "prune (sparsity 0.5)"
    bits = [compress.worth(each)["size_bits"] for each in (small, model)]
    told = sweep.told(facts)
    assert (told["kind"], told["accuracy"]) == ("pruned by magnitude", 0.25)
    assert told["factor"] == pytest.approx(bits[0] / bits[1])


@pytest.mark.parametrize("kind", sorted(MADE))
def test_compressed_networks_are_explained(make, pictures, kind):
    """Cut in two, by guided backpropagation, and with shuffled parameters."""
    model = MADE[kind](make("plain3-w4"), pictures)
    image = jnp.asarray((pictures[0] / 255 - model.mean) / model.std, jnp.float32)
    classifier = as_classifier(model)

    @jax.jit
    def outputs(classifier):
        slopes = [
            jax.grad(lambda x, part=part: part(x)[1])(image)
            for part in (lambda x: classifier(x), classifier.guided)
        ]
        return classifier(image), *slopes

    logits, slope, guided = outputs(classifier)
    expected = model.model.apply(model.variables, image[None])[0]
    np.testing.assert_allclose(logits, expected, atol=1e-5)
    np.testing.assert_allclose(classifier.guided(image), expected, atol=1e-5)
    for found in (slope, guided):
        assert np.isfinite(found).all() and np.abs(found).max() > 0
    assert not np.allclose(slope, guided)
    others = [randomised(model, SOUND), *cascade(model, SOUND)["top_down"].values()]
    for other in others:
        found, *_ = outputs(other)
        assert np.isfinite(found).all() and not np.allclose(found, logits)
