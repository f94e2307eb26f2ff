"""DeepLIFT, LRP and FullGrad: against PyTorch libraries in float64, complete, and honest."""

import pathlib
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from kdxai.errors import UserError
from kdxai.explain import METHODS, Classifier, full_gradient
from kdxai.explain.classifier import target_score
from kdxai.explain.targets import difference, probability

REFERENCES = pathlib.Path(__file__).parents[1] / "references" / "decomposition_references.npz"
RNG = np.random.default_rng(0)
LRP = ("lrp_epsilon", "lrp_z_plus")


@pytest.fixture(scope="module")
def known():
    """Weights, two images [12, 12, 3] and maps of other libraries (see the script beside)."""
    with np.load(REFERENCES) as file:
        return dict(file)


def convolve(x, kernel, stride=1):
    padding, numbers = ((1, 1), (1, 1)), ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(
        x, kernel, (stride, stride), padding, dimension_numbers=numbers
    )


def build(known, pool=nn.max_pool, shortcut=True):
    """Biases, BatchNorm, pooling and a shortcut."""

    def norm(x, name):
        scale, bias, mean, var = (known[f"{name}/{k}"] for k in ("scale", "bias", "mean", "var"))
        return (x - mean) * (jax.lax.rsqrt(var + 1e-5) * scale) + bias

    def features(x):
        x = jax.nn.relu(convolve(x[None], known["kernel1"]) + known["bias1"])
        x = pool(x, (2, 2), (2, 2))
        y = jax.nn.relu(norm(convolve(x, known["kernel2"]), "norm2"))
        y = norm(convolve(y, known["kernel3"]), "norm3")
        return jax.nn.relu(x + y if shortcut else y)[0]

    def classify(a):
        a = jax.nn.relu(convolve(a[None], known["kernel4"], 2) + known["bias4"])
        return a.mean((1, 2))[0] @ known["head"] + known["bias"]

    return Classifier(features, classify)


@pytest.fixture(scope="module")
def maps(known):
    """name -> [2, 12, 12] of the two images, each for its own class; and the parts of FullGrad."""
    network, averaged = build(known), build(known, nn.avg_pool)
    plain = build(known, shortcut=False)

    def draw(x, c):
        return {
            "logits": network(x),
            "deep_lift": METHODS["deep_lift"](averaged, x, c, baseline=0.3),
            "deep_lift_max": METHODS["deep_lift"](network, x, c, baseline=0.3),
            "change": network(x)[c] - network(jnp.full_like(x, 0.3))[c],
            "lrp_epsilon": METHODS["lrp_epsilon"](network, x, c, epsilon=0.25),
            "lrp_0": METHODS["lrp_epsilon"](network, x, c, epsilon=0.0),
            "lrp_z_plus": METHODS["lrp_z_plus"](plain, jnp.abs(x), c),
            "lrp_z_plus_whole": METHODS["lrp_z_plus"](network, x, c),
            "gradient_x_input": METHODS["gradient_x_input"](network, x, c),
            "full_grad": METHODS["full_grad"](network, x, c),
            "parts": full_gradient(network, x, c),
        }

    return jax.jit(jax.vmap(draw))(known["image"], known["class_index"])


def own(logits, known):
    return np.take_along_axis(np.asarray(logits), known["class_index"][:, None], 1)[:, 0]


@pytest.mark.parametrize("name", ["logits", "deep_lift", *LRP, "full_grad"])
def test_against_pytorch(name, known, maps):
    reference = known[name] if known[name].ndim < 4 else known[name].sum(-1)
    assert np.abs(reference).max() > 1e-3
    np.testing.assert_allclose(maps[name], reference, atol=1e-5 * np.abs(reference).max())


def test_deep_lift_is_complete(maps):
    np.testing.assert_allclose(maps["deep_lift_max"].sum((1, 2)), maps["change"], atol=1e-5)


def test_z_plus_conserves_the_logit(known, maps):
    logits = own(maps["logits"], known)
    found = maps["lrp_z_plus_whole"]
    np.testing.assert_allclose(found.sum((1, 2)), logits, rtol=1e-5)
    assert (found * np.sign(logits)[:, None, None] >= 0).all()


def test_lrp_without_epsilon_is_gradient_times_input_of_relu_networks(maps):
    np.testing.assert_allclose(maps["lrp_0"], maps["gradient_x_input"], atol=1e-6)
    assert np.abs(maps["lrp_epsilon"] - maps["lrp_0"]).max() > 0.1 * np.abs(maps["lrp_0"]).max()


def test_the_full_gradient_is_the_logit(known, maps):
    parts = maps["parts"]
    assert [one.shape[1:] for one in parts.biases] == [
        (12, 12, 6),
        (6, 6, 8),
        (6, 6, 6),
        (3, 3, 8),
    ]
    total = sum(np.sum(one, (1, 2, 3)) for one in (parts.image, *parts.biases)) + parts.rest
    np.testing.assert_allclose(total, own(maps["logits"], known), atol=1e-5)
    np.testing.assert_allclose(parts.image.sum(-1), maps["gradient_x_input"], atol=1e-6)
    np.testing.assert_allclose(parts.rest, known["bias"][known["class_index"]], atol=1e-6)


HEAD = jnp.asarray(RNG.normal(size=(12, 4)), jnp.float32)
KERNEL = jnp.asarray(RNG.normal(size=(3, 3, 3, 6)) / 3, jnp.float32)
IMAGE = jnp.asarray(RNG.normal(size=(6, 6, 3)), jnp.float32)


def head(x):
    """[6, 6, 6] -> [4]."""
    return x.mean((0, 1)) @ HEAD[:6] + jnp.arange(4.0)


def attended(x):
    """Tokens, a LayerNorm, softmax attention, a gate."""
    x = x.reshape(36, 6)
    y = (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-5)
    x = x + jax.nn.softmax(y @ y.T / 3) @ y
    return head((x * jax.nn.sigmoid(y)).reshape(6, 6, 6))


TOPS = {
    "silu": lambda x: head(jax.nn.silu(x)),
    "gelu": lambda x: head(jax.nn.gelu(x)),
    "leaky_relu": lambda x: head(jax.nn.leaky_relu(x - 0.1, 0.2)),
    "relu6": lambda x: head(jax.nn.relu6(4 * x)),
    "tanh": lambda x: head(jnp.tanh(x)),
    "softplus": lambda x: head(jax.nn.softplus(x)),
    "minimum": lambda x: head(jnp.minimum(x, x[::-1] + 1)),
    "max": lambda x: x.max((0, 1)) @ HEAD[:6],
    "channels": lambda x: head(nn.max_pool(x, (3, 3), (1, 1), "SAME")),
    "concatenated": lambda x: jnp.concatenate([x, jax.nn.relu(-x)], -1).mean((0, 1)) @ HEAD,
    "attention": attended,
}


def with_top(name):
    return Classifier(lambda x: convolve(x[None], KERNEL)[0] + 0.2, TOPS[name])


@pytest.fixture(scope="module")
def sums():
    """What DeepLIFT and FullGrad sum to, and what they should, of every top in one program."""
    targets = {"class": 2, "difference": difference(0, 3), "probability": probability(1)}

    def lifted(x, name, target):
        model, start = with_top(name), jnp.full_like(x, -0.4)
        change = target_score(model(x), target) - target_score(model(start), target)
        return METHODS["deep_lift"](model, x, target, baseline=-0.4).sum(), change

    def full(x, name):
        return sum(map(jnp.sum, jax.tree.leaves(full_gradient(with_top(name), x, 1))))

    def all_of_them(x):
        lifts = {name: lifted(x, name, 2) for name in TOPS}
        lifts |= {kind: lifted(x, "silu", target) for kind, target in targets.items()}
        return lifts, {name: (full(x, name), with_top(name)(x)[1]) for name in SMOOTH}

    return jax.jit(all_of_them)(IMAGE)


@pytest.mark.parametrize("name", [*sorted(TOPS), "difference", "probability"])
def test_deep_lift_is_complete_for_any_operation_and_target(name, sums):
    found, change = sums[0][name]
    assert abs(change) > 1e-3
    np.testing.assert_allclose(found, change, atol=2e-5)


SMOOTH = ("concatenated", "leaky_relu", "relu6", "silu", "softplus")


@pytest.mark.parametrize("name", SMOOTH)
def test_the_full_gradient_is_complete_for_any_activation(name, sums):
    np.testing.assert_allclose(*sums[1][name], rtol=1e-5)


def test_lrp_of_one_layer_by_hand():
    """z = (4, -2) - 1, R = (2 * 3, 0): shares of 3 + e with e half the root mean square of z."""
    image = jnp.array([[[1.0, 2.0]]])
    kernel = jnp.array([[-2.0, 0.0], [3.0, -1.0]])
    model = Classifier(lambda x: jax.nn.relu(x @ kernel - 1), lambda a: 2 * a[0, 0])
    size = 0.5 * np.sqrt((3**2 + 3**2) / 2)
    found = jax.jit(lambda x: METHODS["lrp_epsilon"](model, x, 0, epsilon=0.5))(image)
    np.testing.assert_allclose(found, [[(-2 + 6) * 6 / (3 + size)]], rtol=1e-6)
    # Of -2 and 6 only the second raises the unit.
    found = jax.jit(lambda x: METHODS["lrp_z_plus"](model, x, 0))(image)
    np.testing.assert_allclose(found, [[6.0]], rtol=1e-6)


def test_z_plus_of_negative_inputs_by_hand():
    """Contributions (-1)(-3) = 3 and 2 (-1) = -2: of the two only the first raises."""
    model = Classifier(
        lambda x: jax.nn.relu((x * jnp.array([-3.0, -1.0])).sum(-1, keepdims=True)),
        lambda a: jnp.concatenate([a[0, 0], a[0, 0]]),
    )
    image = jnp.array([[[-1.0, 2.0]]])
    found = jax.jit(lambda x: METHODS["lrp_z_plus"](model, x, 0))(image)
    np.testing.assert_allclose(found, [[1.0]])


@pytest.mark.parametrize("method", LRP)
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("attention", "no rule for the product of two values of the image"),
        ("softplus", "no rule for the activation 'softplus'"),
    ],
)
def test_a_layer_without_a_rule(method, name, message):
    with pytest.raises(UserError, match=f"{method} has {message}.*use deep_lift"):
        jax.eval_shape(lambda x: METHODS[method](with_top(name), x, 0), IMAGE)


@pytest.mark.parametrize("method", ["deep_lift", "full_grad", *LRP])
def test_an_operation_without_a_rule(method):
    looped = lambda a: jax.lax.scan(lambda c, x: (c + x.mean(0), None), jnp.zeros(3), a)[0]  # noqa: E731
    model = Classifier(lambda x: jnp.sort(x, 0), lambda a: a.mean((0, 1)))
    for one, name in ((model, "sort"), (Classifier(lambda x: x, looped), "scan")):
        with pytest.raises(UserError, match=f"{method} has no rule for '{name}'") as refused:
            jax.eval_shape(lambda x, one=one: METHODS[method](one, x, 0), IMAGE)
        assert f"use {method}" not in str(refused.value)


def test_relu_has_no_bias_however_it_is_written():
    for relu in (jax.nn.relu, lambda x: jnp.maximum(x, 0), jax.jit(lambda x: jnp.maximum(0.0, x))):
        model = Classifier(lambda x: convolve(x[None], KERNEL)[0], lambda a, f=relu: head(f(a)))
        parts = jax.eval_shape(lambda x, model=model: full_gradient(model, x, 0), IMAGE)
        assert parts.biases == ()


def test_parameters_may_be_traced():
    """As where a classifier is an argument of a jitted function, and image and class are too."""

    def draw(kernel, x, c, method):
        model = Classifier(lambda x: jax.nn.relu(convolve(x[None], kernel)[0]), head)
        return METHODS[method](model, x, c)

    for method in ("deep_lift", *LRP):
        both = jax.jit(jax.vmap(partial(draw, method=method), (None, 0, 0)))
        closed = jax.jit(lambda x, method=method: draw(KERNEL, x, 2, method))
        inside = both(KERNEL, jnp.stack([IMAGE, 2 * IMAGE]), jnp.array([2, 1]))
        np.testing.assert_allclose(inside[0], closed(IMAGE), atol=1e-5)
