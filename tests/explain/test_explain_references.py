"""Against PyTorch libraries with the same weights: tests/references/explain_references.py."""

from functools import partial

import jax
import numpy as np
import pytest

from kdxai.explain import METHODS, Classifier, integrated_gradients_with_error, resize
from kdxai.explain.expectation import along_paths

CUTS = pytest.mark.parametrize("cut", ["middle", "last"])


def explain(name: str, classifier: Classifier, data: dict, **options: object) -> jax.Array:
    """[2, h, w]: the maps of the two images, each for its own class."""
    method = jax.jit(jax.vmap(partial(METHODS[name], classifier, **options)))
    return method(data["image"], data["class_index"])


def assert_close(actual: jax.Array, reference: np.ndarray) -> None:
    """Equal within 1e-5 of the reference's largest value."""
    np.testing.assert_allclose(actual, reference, rtol=0, atol=1e-5 * np.abs(reference).max())


@CUTS
def test_logits(cut, build, data):
    """The model is the one that the references are of."""
    classifier = build(cut)
    logits, guided = jax.jit(jax.vmap(lambda x: (classifier(x), classifier.guided(x))))(
        data["image"]
    )
    assert_close(logits, data["logits"])
    assert_close(guided, data["logits"])


@CUTS
@pytest.mark.parametrize("name", ["grad_cam", "hires_cam", "xgrad_cam", "layer_cam", "score_cam"])
def test_class_activation_maps(name, cut, build, data):
    assert_close(explain(name, build(cut), data, relu=False), data[f"{name}/{cut}"])


@CUTS
def test_grad_cam_plus_plus_where_the_library_epsilon_is_negligible(cut, build, data):
    maps = explain("grad_cam_plus_plus", build(cut, scale=1000), data)
    assert_close(maps, data[f"grad_cam_plus_plus/{cut}"])


@CUTS
def test_grad_cam_elementwise(cut, build, data):
    maps = explain("grad_cam_elementwise", build(cut), data)
    assert_close(maps, data[f"grad_cam_elementwise/{cut}"])


@CUTS
@pytest.mark.parametrize(("name", "options"), [("shapley_cam", {}), ("finer_cam", {"alpha": 0.6})])
def test_newer_class_activation_maps(name, options, cut, build, data):
    assert_close(explain(name, build(cut), data, relu=False, **options), data[f"{name}/{cut}"])


@CUTS
def test_ablation_cam_keeps_its_sign_where_the_logit_is_negative(cut, build, data):
    signs = np.sign(data["logits"][[0, 1], data["class_index"]])
    assert list(signs) == [-1, 1], "the references should hold one logit of each sign"
    reference = signs[:, None, None] * data[f"ablation_cam/{cut}"]
    assert_close(explain("ablation_cam", build(cut), data, relu=False), reference)


@pytest.mark.parametrize("name", ["gradient", "guided_backpropagation"])
def test_sensitivities(name, build, data):
    assert_close(explain(name, build("last"), data), np.abs(data[name]).max(-1))


@CUTS
def test_guided_grad_cam(cut, build, data):
    reference = np.abs(data[f"guided_grad_cam/{cut}"]).max(-1)
    assert_close(explain("guided_grad_cam", build(cut), data), reference)


def test_gradient_x_input(build, data):
    maps = explain("gradient_x_input", build("last"), data)
    assert_close(maps, data["gradient_x_input"].sum(-1))


def test_integrated_gradients(build, data):
    options = dict(baseline=0.3, steps=20, chunk=20)
    reference = data["integrated_gradients"]
    attribute = jax.jit(
        jax.vmap(partial(integrated_gradients_with_error, build("last"), **options))
    )
    assert_close(attribute(data["image"], data["class_index"]).values, reference)
    maps = explain("integrated_gradients", build("last"), data, **options)
    assert_close(maps, reference.sum(-1))


def test_occlusion(build, data):
    maps = explain("occlusion", build("last"), data, window=5, stride=3, baseline=0.3)
    # The library gives every channel of a pixel the whole fall.
    assert_close(maps, data["occlusion"][..., 0])


def test_kernel_shap_of_all_coalitions(build, data):
    """Of a 2 x 2 grid there are 14; the library takes the mean over all 24 orders."""
    options = {"segments": 2, "samples": 14, "baseline": 0.3}
    maps = explain("kernel_shap", build("last"), data, **options)
    assert_close(maps, data["shapley_values"][..., 0])


def test_expected_gradients_at_given_draws(build, data):
    starts, ends, times = (data[f"path/{name}"] for name in ("starts", "images", "times"))
    draw = jax.jit(lambda *given: along_paths(build("last"), *given, data["class_index"][0], 4))
    assert_close(draw(ends, starts, times), data["path"])


@pytest.mark.parametrize("name", ["larger", "smaller"])
def test_resize(name, data):
    assert_close(resize(data["small"], data[name].shape), data[name])
