"""Class activation maps of later years: their identities, and their values by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.errors import UserError
from kdxai.explain import METHODS, Classifier, min_max, resize
from kdxai.explain.targets import difference


def draw(method, classifier, image, target, **options):
    return jax.jit(lambda x: METHODS[method](classifier, x, target, **options))(image)


@pytest.mark.parametrize("cut", ["middle", "last"])
def test_eigen_grad_cam_is_the_first_singular_component(cut, build, data):
    classifier, image = build(cut), data["image"][1]
    features = classifier.features(image)
    gradient = jax.grad(lambda a: classifier.classify(a)[2])(features)
    values = np.float64(features * gradient)
    matrix = values.reshape(-1, values.shape[-1])
    expected = (matrix @ np.linalg.svd(matrix)[2][0]).reshape(values.shape[:2])
    expected *= np.sign((expected * values.sum(-1)).sum())
    found = draw("eigen_grad_cam", classifier, image, 2)
    np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(expected).max())


def test_shapley_cam_to_second_order_is_exact_for_a_quadratic_game():
    """u = w.A + A.M.A / 2: (g - H A / 2) A = w A + A (M A) / 2, Shapley's share of each pair."""
    rng = np.random.default_rng(0)
    w, m = rng.normal(size=4), rng.normal(size=(4, 4))
    m += m.T
    np.fill_diagonal(m, 0)

    def utility(a):
        return jnp.float32(w) @ a + a @ jnp.float32(m) @ a / 2

    model = Classifier(lambda x: x, lambda a: jnp.stack([utility(a[0, 0]), 0.0]))
    image = rng.normal(size=(1, 1, 4)).astype(np.float32)
    found = draw("shapley_cam", model, image, lambda logits: logits[0], relu=False)
    a = np.float64(image[0, 0])
    np.testing.assert_allclose(found[0, 0], (w * a + a * (m @ a) / 2).sum(), rtol=1e-5)
    # Completeness: u(A) - u(0), of which each pair is shared by two.
    np.testing.assert_allclose(found[0, 0], w @ a + a @ m @ a / 2, rtol=1e-5)


def test_shapley_cam_of_a_logit_behind_a_piecewise_linear_network_is_grad_cam(build, data):
    classifier, image = build("middle"), data["image"][0]
    found = draw("shapley_cam", classifier, image, lambda logits: logits[3])
    expected = draw("grad_cam", classifier, image, 3)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert not np.allclose(draw("shapley_cam", classifier, image, 3), expected, rtol=1e-2)


def test_finer_cam_against_one_class_is_the_difference(build, data):
    classifier, image = build("middle"), data["image"][0]
    logits = np.asarray(classifier(image))
    distance = np.abs(logits - logits[3])
    near = np.argsort(distance)[1]
    found = draw("finer_cam", classifier, image, 3, others=1, relu=False)
    expected = draw("grad_cam", classifier, image, difference(3, near), relu=False)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    plain = draw("grad_cam", classifier, image, 3)
    np.testing.assert_allclose(draw("finer_cam", classifier, image, 3, alpha=0.0), plain, atol=1e-6)
    every, more = (draw("finer_cam", classifier, image, 3, others=n) for n in (4, 100))
    np.testing.assert_array_equal(every, more)


def test_finer_cam_needs_a_class(build, data):
    with pytest.raises(UserError, match="give it a class"):
        METHODS["finer_cam"](build("last"), data["image"][0], difference(0, 1))


def test_refine_cam_is_the_product_of_its_cuts(build, data):
    classifier, image = build("last"), data["image"][1]
    middle = classifier.earlier[0]
    found = draw("refine_cam", classifier, image, 3)
    one, other = (
        min_max(resize(draw("grad_cam_plus_plus", c, image, 3), (16, 16)))
        for c in (classifier, middle)
    )
    np.testing.assert_allclose(found, one * other, atol=1e-6)
    both = middle._replace(earlier=(classifier,))
    np.testing.assert_allclose(draw("refine_cam", both, image, 3), found, atol=1e-6)
    assert found.min() >= 0 and 0 < found.max() <= 1


def test_refine_cam_without_earlier_cuts(build, data):
    alone = build("last")._replace(earlier=())
    with pytest.raises(UserError, match=r"Classifier\(earlier=.*or use grad_cam_plus_plus"):
        METHODS["refine_cam"](alone, data["image"][0], 0)
