"""Identities between the class activation maps, and their exact values where one is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.errors import UserError
from kdxai.explain import METHODS, Classifier
from kdxai.explain.cam import (
    ablation_cam,
    cam,
    eigen_cam,
    grad_cam,
    grad_cam_elementwise,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
    score_cam,
    xgrad_cam,
)

WITH_RELU = (
    cam,
    grad_cam,
    grad_cam_plus_plus,
    hires_cam,
    xgrad_cam,
    layer_cam,
    score_cam,
    ablation_cam,
)


def assert_close(actual, expected, tolerance=1e-5):
    expected = np.asarray(expected)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def every_class(explain):
    """[5, ...]: explain(class_index) for the five classes."""
    return jax.jit(jax.vmap(explain))(jnp.arange(5))


@pytest.mark.parametrize("relu", [True, False])
def test_one_map_ahead_of_a_pooled_linear_head(relu, build, data):
    """There g = w / (h w) at every position, so four methods draw the map of CAM."""
    classifier, image = build("last"), data["image"][0]
    features = np.asarray(classifier.features(image), np.float64)
    expected = np.moveaxis(features @ data["head"].astype(np.float64), -1, 0)
    if relu:
        expected = np.maximum(expected, 0)
    methods = (cam, grad_cam, hires_cam, xgrad_cam)
    maps = every_class(lambda c: [method(classifier, image, c, relu=relu) for method in methods])
    cells = features.shape[0] * features.shape[1]
    for values, scale in zip(maps, (1, cells, cells, cells), strict=True):
        assert_close(scale * values, expected)


def test_hires_cam_is_the_difference_of_what_speaks_for_and_against(build, data):
    """g = ReLU(g) - ReLU(-g), and -g is the gradient of the negated logit."""
    image = data["image"][1]
    plus, minus = build("middle"), build("middle", scale=-1)
    whole = every_class(lambda c: hires_cam(plus, image, c, relu=False))
    one, other = [
        every_class(lambda c, m=m: layer_cam(m, image, c, relu=False)) for m in (plus, minus)
    ]
    assert_close(one - other, whole)
    assert np.all(one >= 0) and np.any(other > 0)
    # Where no feature is negative, as here, the ReLU of the product is that of the gradient.
    assert_close(every_class(lambda c: grad_cam_elementwise(plus, image, c)), one)


def test_hires_cam_sums_to_the_logit_less_bias_ahead_of_any_linear_layer(data):
    rng = np.random.default_rng(3)
    weights = jnp.array(rng.normal(size=(16 * 16 * 3, 4)), jnp.float32)
    bias = jnp.array(rng.normal(size=4), jnp.float32)
    classifier = Classifier(jnp.tanh, lambda a: a.ravel() @ weights + bias)
    image = data["image"][0]
    maps = jax.vmap(lambda c: hires_cam(classifier, image, c, relu=False))(jnp.arange(4))
    assert_close(maps.sum((1, 2)), classifier(image) - bias)


def test_xgrad_cam_conserves_the_logit(build, data):
    """The conservation axiom; without biases it is exact, as sum(g * A) = y_c (Euler)."""
    classifier, image = build("middle", bias=False), data["image"][1]
    maps = every_class(lambda c: xgrad_cam(classifier, image, c, relu=False))
    assert_close(maps.sum((1, 2)), classifier(image))


def test_xgrad_cam_is_sensitive_ahead_of_a_linear_layer(build, data):
    """The sensitivity axiom: a channel's map sums to what its removal takes from the logit."""
    classifier, image = build("last"), data["image"][0]
    features = classifier.features(image)

    def map_and_fall(channel):
        only = jnp.where(jnp.arange(8) == channel, features, 0)
        alone = Classifier(lambda x: only, classifier.classify)
        fall = classifier.classify(features)[2] - classifier.classify(features - only)[2]
        return xgrad_cam(alone, image, 2, relu=False).sum(), fall

    assert_close(*jax.jit(jax.vmap(map_and_fall))(jnp.arange(8)))


def test_xgrad_cam_gives_a_dead_channel_no_weight(build, data):
    """0 / 0 in the definition; the map is that without the channel."""
    classifier, image = build("last"), data["image"][0]
    features = classifier.features(image).at[..., 2].set(0.0)
    dead = Classifier(lambda x: features, classifier.classify)
    keep = np.arange(8) != 2
    without = Classifier(
        lambda x: features[..., keep],
        lambda a: a.mean((0, 1)) @ data["head"][keep] + data["bias"],
    )
    assert_close(xgrad_cam(dead, image, 1, relu=False), xgrad_cam(without, image, 1, relu=False))


def test_ablation_cam_of_a_linear_head(build, data):
    """There removing channel k takes w_kc mean(A_k) from the logit."""
    classifier, image = build("last"), data["image"][0]
    features = np.asarray(classifier.features(image), np.float64)
    means = features.mean((0, 1))
    logits = means @ data["head"] + data["bias"]
    weights = data["head"] * means[:, None] / np.abs(logits)
    maps = every_class(lambda c: ablation_cam(classifier, image, c, relu=False))
    assert_close(maps, np.moveaxis(features @ weights, -1, 0))


def test_ablation_cam_of_nothing_is_zero():
    classifier = Classifier(lambda x: x, lambda a: a.mean((0, 1)))
    np.testing.assert_array_equal(ablation_cam(classifier, jnp.zeros((4, 4, 3)), 1), 0)


@pytest.mark.parametrize("cut", ["middle", "last"])
def test_grad_cam_plus_plus_from_the_derivatives_themselves(cut, build, data):
    """The paper's equations in numpy, with derivatives of exp(y_c) by nested differentiation."""
    classifier, image = build(cut), data["image"][1]
    features, class_index = classifier.features(image), 3

    def along(direction):
        def curve(t):
            return jnp.exp(classifier.classify(features + t * direction)[class_index])

        derivatives = []
        for _ in range(3):
            curve = (lambda f: lambda t: jax.jvp(f, (t,), (1.0,))[1])(curve)
            derivatives.append(curve(0.0))
        return jnp.stack(derivatives)

    units = np.eye(features.size, dtype=np.float32).reshape(-1, *features.shape)
    derivatives = np.asarray(jax.jit(jax.vmap(along))(units), np.float64)
    first, second, third = derivatives.T.reshape(3, *features.shape)
    activations = np.asarray(features, np.float64)
    denominator = 2 * second + activations.sum((0, 1)) * third
    alpha = np.divide(second, denominator, out=np.zeros_like(second), where=first != 0)
    weights = (alpha * np.maximum(first, 0)).sum((0, 1))
    expected = np.maximum(activations @ weights, 0)
    scale = np.exp(np.float64(classifier(image)[class_index]))  # left out of the method's map
    assert_close(scale * grad_cam_plus_plus(classifier, image, class_index), expected)


SIGNED = (grad_cam, grad_cam_plus_plus, hires_cam, xgrad_cam, layer_cam, grad_cam_elementwise)


def test_grad_cam_plus_plus_of_a_negative_channel_by_hand():
    """g = 1/4 everywhere; channel 0 is -2, so that 2 + g sum A is 0, channel 1 is one pixel."""
    image = np.full((2, 2, 2), [-2.0, 0.0], np.float32)
    image[0, 0, 1] = 1
    classifier = Classifier(lambda x: x, lambda a: a.mean((0, 1)) @ jnp.array([[1.0, 0], [1, 0]]))
    # Weights 4 (1/4) / 2 and 4 (1/4) / (2 + 1/4).
    expected = image @ [1 / 2, 1 / 2.25]
    assert_close(grad_cam_plus_plus(classifier, image, 0, relu=False), expected)


@pytest.mark.parametrize("method", SIGNED)
def test_signed_features_under_a_little_noise(method, data):
    """Ahead of a SiLU: the sums over a channel, by which two methods divide, go through 0."""
    rng = np.random.default_rng(0)
    kernel, head = rng.normal(size=(3, 12)), rng.normal(size=(12, 5))
    kernel, head = jnp.float32(kernel), jnp.float32(head)
    classifier = Classifier(lambda x: x @ kernel, lambda a: jax.nn.silu(a).mean((0, 1)) @ head)
    images = rng.normal(size=(200, 4, 4, 3)).astype(np.float32)
    noisy = images + 1e-3 * rng.uniform(-1, 1, images.shape).astype(np.float32)
    signed = {} if method is grad_cam_elementwise else {"relu": False}
    maps = jax.jit(jax.vmap(lambda x: method(classifier, x, 2, **signed)))
    one, other = np.asarray(maps(images)), np.asarray(maps(noisy))
    r = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in zip(one, other, strict=True)]
    assert min(r) > 0.95
    # No weight of a channel is larger than its gradients are.
    features = np.asarray(images @ kernel)
    bound = np.abs(features).sum(-1).max() * np.abs(head).max() * 1.1
    assert np.abs(one).max() < bound


def test_xgrad_cam_of_signed_features_is_a_mean_of_gradients(data):
    rng = np.random.default_rng(1)
    weights = rng.normal(size=(4, 4, 3))
    classifier = Classifier(lambda x: x, lambda a: jnp.stack([(jnp.float32(weights) * a).sum(), 0]))
    image = rng.normal(size=(4, 4, 3)).astype(np.float32)
    means = [np.average(weights[..., k], weights=np.abs(image[..., k])) for k in range(3)]
    assert_close(xgrad_cam(classifier, image, 0, relu=False), image @ np.array(means))


def test_eigen_cam_is_the_first_singular_component(build, data):
    for cut in ("middle", "last"):
        classifier, image = build(cut), data["image"][0]
        features = np.asarray(classifier.features(image), np.float64).reshape(64, 8)
        expected = np.abs(features @ np.linalg.svd(features)[2][0]).reshape(8, 8)
        assert_close(eigen_cam(classifier, image, 0), expected)
        np.testing.assert_array_equal(
            eigen_cam(classifier, image, 0), eigen_cam(classifier, image, 4)
        )
        centred = features - features.mean(0)
        other = np.abs(centred @ np.linalg.svd(centred)[2][0]).reshape(8, 8)
        assert np.abs(other - expected).max() > 0.1 * expected.max(), "centring would not be seen"


def test_eigen_cam_of_signed_features_sums_to_a_positive_number(data):
    classifier = Classifier(lambda x: x - 0.3, lambda a: a.mean((0, 1)))
    features = data["image"][0].astype(np.float64).reshape(-1, 3) - 0.3
    projection = features @ np.linalg.svd(features)[2][0]
    expected = projection * np.sign(projection.sum())
    assert_close(eigen_cam(classifier, data["image"][0], 0).ravel(), expected)


def test_score_cam_weights_are_a_softmax_of_masked_scores():
    """Two channels by hand: each mask lets one pixel of the image through."""
    features = jnp.array([[[5.0, 1.0], [3.0, 4.0]]])  # [1, 2, 2]: min-max masks (1, 0) and (0, 1)
    image = jnp.array([[[2.0], [7.0]]])
    # The whole image has these features, a masked one its sum as its logits: 2 and 7.
    classifier = Classifier(
        lambda x: jnp.where(jnp.all(x == image), features, jnp.full((1, 2, 2), x.sum())),
        lambda a: a[0, 0],
    )
    weights = np.exp([2.0, 7.0]) / np.exp([2.0, 7.0]).sum()
    assert_close(score_cam(classifier, image, 1), np.array(features) @ weights)


def test_relu_cuts_the_signed_map_at_zero(build, data):
    classifier, image = build("last"), data["image"][0]
    maps = jax.jit(lambda: [[m(classifier, image, 4, relu=r) for m in WITH_RELU] for r in (1, 0)])
    for method, rectified, signed in zip(WITH_RELU, *maps(), strict=True):
        np.testing.assert_array_equal(rectified, np.maximum(signed, 0), method.__name__)


def test_the_order_of_channels_does_not_matter(build, data):
    classifier, image = build("last"), data["image"][1]
    order = np.random.default_rng(0).permutation(8)
    permuted = Classifier(
        lambda x: classifier.features(x)[..., order],
        lambda a: classifier.classify(a[..., np.argsort(order)]),
        classifier.head[order],
    )
    methods = (*WITH_RELU, eigen_cam, grad_cam_elementwise)
    maps = jax.jit(
        lambda: [[m(each, image, 2) for m in methods] for each in (permuted, classifier)]
    )
    for actual, expected in zip(*maps(), strict=True):
        assert_close(actual, expected)


def test_scaled_logits_scale_the_map(build, data):
    powers = {
        cam: 1,
        grad_cam: 1,
        hires_cam: 1,
        xgrad_cam: 1,
        layer_cam: 1,
        grad_cam_elementwise: 1,
        ablation_cam: 0,
        eigen_cam: 0,
    }
    classifiers, image = [build("last", scale=s) for s in (1.0, 5.0)], data["image"][0]
    maps = jax.jit(lambda: [[method(each, image, 3) for method in powers] for each in classifiers])
    for power, plain, scaled in zip(powers.values(), *maps(), strict=True):
        assert_close(scaled, 5.0**power * plain)


@pytest.mark.parametrize(
    "method", [grad_cam, grad_cam_plus_plus, hires_cam, xgrad_cam, layer_cam, grad_cam_elementwise]
)
def test_gradients_stop_at_the_cut_and_nothing_is_computed_twice(method, build, data):
    """A callback has no derivative, so a backward pass through `features` would fail."""
    classifier = build("middle")
    image = data["image"][0]
    calls = []

    def features(x):
        calls.append("features")
        fixed = np.asarray(classifier.features(image))
        return jax.pure_callback(lambda x: fixed, jax.ShapeDtypeStruct((8, 8, 8), x.dtype), x)

    def classify(a):
        calls.append("classify")
        return classifier.classify(a)

    opaque = Classifier(features, classify)
    assert_close(method(opaque, image, 3), method(classifier, image, 3))
    assert calls == ["features", "classify"]
    with pytest.raises(ValueError, match="callback"):
        METHODS["gradient"](opaque, image, 3)


def test_cam_without_a_head_says_what_to_do(build, data):
    with pytest.raises(UserError, match=r"linear head.*head=.*grad_cam"):
        cam(build("middle"), data["image"][0], 0)


def test_cam_with_a_head_that_does_not_fit(build, data):
    transposed = build("last")._replace(head=data["head"].T)
    with pytest.raises(UserError, match=r"\[c, K\].*8 channels.*\(5, 8\)"):
        cam(transposed, data["image"][0], 0)
