"""Occlusion against a plain loop over windows."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.errors import UserError
from kdxai.explain import Classifier
from kdxai.explain.occlusion import occlusion


def by_loop(logit, image, window, stride, baseline):
    """Slide the window until it has covered the last row and column; average over windows."""
    height, width = image.shape[:2]
    total, count = np.zeros((2, height, width))
    top = 0
    while True:
        left = 0
        while True:
            square = np.s_[top : top + window, left : left + window]
            covered = image.copy()
            covered[square] = baseline
            total[square] += logit(image) - logit(covered)
            count[square] += 1
            if left + window >= width:
                break
            left += stride
        if top + window >= height:
            break
        top += stride
    return total / count


@pytest.mark.parametrize(
    ("window", "stride", "baseline"), [(5, 3, 0.0), (4, 4, -1.0), (1, 1, 2.0), (30, 7, 0.0)]
)
def test_against_a_loop(window, stride, baseline):
    rng = np.random.default_rng(2)
    image = rng.normal(size=(11, 14, 2)).astype(np.float32)
    weights = rng.normal(size=image.shape)

    def logit(x):
        return np.tanh((weights * x).sum() / 10) + (x**2).mean()

    def classify(x):
        return jnp.stack([jnp.tanh((weights * x).sum() / 10) + (x**2).mean(), 0.0])

    explain = jax.jit(
        lambda x: occlusion(
            Classifier(lambda x: x, classify), x, 0, window=window, stride=stride, baseline=baseline
        )
    )
    expected = by_loop(logit, image.astype(np.float64), window, stride, baseline)
    np.testing.assert_allclose(explain(image), expected, rtol=1e-4, atol=1e-5)


def test_a_baseline_may_be_an_image(data):
    image = data["image"][0]
    classifier = Classifier(lambda x: x, lambda a: a.sum((0, 1)))
    np.testing.assert_allclose(occlusion(classifier, image, 0, baseline=image), 0, atol=1e-4)


@pytest.mark.parametrize(("window", "stride"), [(4, 5), (4, 0), (0, 0)])
def test_windows_that_leave_gaps(window, stride, data):
    classifier = Classifier(lambda x: x, lambda a: a.sum((0, 1)))
    with pytest.raises(UserError, match=r"1 <= stride <= window"):
        occlusion(classifier, data["image"][0], 0, window=window, stride=stride)
