"""One network in five libraries, cut by the names of its layers."""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

import kdxai
from kdxai import METHODS, Classifier, UserError

eqx = pytest.importorskip("equinox", reason="Equinox is not installed")

RNG = np.random.default_rng(0)
IMAGE = jnp.float32(RNG.normal(size=(8, 8, 3)))
FIRST, SECOND, HEAD = (
    np.float32(RNG.normal(size=shape)) for shape in [(3, 3, 3, 4), (3, 3, 4, 5), (5, 3)]
)
SKIP = np.eye(4, 5, dtype=np.float32)[None, None]  # channels of zeros are added


def conv(x, kernel):
    return jax.lax.conv_general_dilated(
        x[None], jnp.asarray(kernel), (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )[0]


def end(x, second):
    """The second convolution stands beside a shortcut, so no map holds all that is read."""
    return (conv(x, SKIP) + second).mean((0, 1)) @ HEAD


def first(image):
    return conv(image, FIRST)


def after_first(x):
    x = jax.nn.relu(x)
    return end(x, conv(x, SECOND))


def at_second(image):
    """The same with the input of the shortcut held."""
    held = jax.nn.relu(first(image))
    return Classifier(lambda _: conv(held, SECOND), lambda second: end(held, second))


class Linen(linen.Module):
    norm: bool = False

    @linen.compact
    def __call__(self, x, train=False):
        x = linen.Conv(4, (3, 3), use_bias=False, name="first")(x)
        if self.norm:
            x = linen.BatchNorm(use_running_average=not train)(x)
        x = linen.relu(x)
        x = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1))) + linen.Conv(
            5, (3, 3), use_bias=False, name="second"
        )(x)
        return linen.Dense(3, use_bias=False, name="head")(x.mean((1, 2)))


def of_linen():
    kernels = {"first": FIRST, "second": SECOND, "head": HEAD}
    variables = {"params": {name: {"kernel": kernel} for name, kernel in kernels.items()}}
    return lambda images: Linen().apply(variables, images)


def of_haiku(norm=False):
    hk = pytest.importorskip("haiku")

    def forward(x, is_training=False):
        x = hk.Conv2D(4, 3, with_bias=False, name="first")(x)
        if norm:
            x = hk.BatchNorm(True, True, 0.9)(x, is_training)
        x = jax.nn.relu(x)
        more = jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1)))
        x = more + hk.Conv2D(5, 3, with_bias=False, name="second")(x)
        return hk.Linear(3, with_bias=False, name="head")(x.mean((1, 2)))

    if norm:
        network = hk.without_apply_rng(hk.transform_with_state(forward))
        return network, network.init(jax.random.key(0), IMAGE[None], True)
    params = {"first": {"w": FIRST}, "second": {"w": SECOND}, "head": {"w": HEAD}}
    return lambda images: hk.without_apply_rng(hk.transform(forward)).apply(params, images)


class Nnx(nnx.Module):
    def __init__(self):
        rngs = nnx.Rngs(0)
        self.convs = nnx.List(
            nnx.Conv(*sizes, (3, 3), use_bias=False, rngs=rngs) for sizes in [(3, 4), (4, 5)]
        )
        self.head = nnx.Linear(5, 3, use_bias=False, rngs=rngs)
        layers = [*self.convs, self.head]
        for layer, kernel in zip(layers, (FIRST, SECOND, HEAD), strict=True):
            layer.kernel[...] = jnp.asarray(kernel)

    def __call__(self, x):
        x = nnx.relu(self.convs[0](x))
        return self.head(
            (jnp.pad(x, ((0, 0), (0, 0), (0, 0), (0, 1))) + self.convs[1](x)).mean((1, 2))
        )


class Equinox(eqx.Module):
    convs: list
    head: jax.Array

    def __init__(self):
        self.convs = []
        for kernel in (FIRST, SECOND):
            outputs, inputs = kernel.shape[3], kernel.shape[2]
            layer = eqx.nn.Conv2d(
                inputs, outputs, 3, padding=1, use_bias=False, key=jax.random.key(0)
            )
            weight = jnp.asarray(kernel.transpose(3, 2, 0, 1))
            self.convs.append(eqx.tree_at(lambda layer: layer.weight, layer, weight))
        self.head = jnp.asarray(HEAD)

    def __call__(self, x):
        x = jax.nn.relu(self.convs[0](x))
        return (jnp.pad(x, ((0, 1), (0, 0), (0, 0))) + self.convs[1](x)).mean((1, 2)) @ self.head


def of_keras():
    keras = pytest.importorskip("keras")
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", use_bias=False, name="first")(image)
    x = keras.layers.Activation("relu")(x)
    more = keras.layers.Conv2D(5, 1, use_bias=False, name="more")(x)
    x = keras.layers.Conv2D(5, 3, padding="same", use_bias=False, name="second")(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Add()([more, x]))
    model = keras.Model(image, keras.layers.Dense(3, use_bias=False, name="head")(x))
    kernels = {"first": FIRST, "more": SKIP, "second": SECOND, "head": HEAD}
    for name, kernel in kernels.items():
        model.get_layer(name).set_weights([kernel])
    return model


EQUINOX = {
    "call": lambda model, image: model(image.transpose(2, 0, 1)),
    "grid": lambda output: output.transpose(1, 2, 0),
}
LIBRARIES = {
    "linen": (of_linen, ("first", "second"), {}),
    "haiku": (of_haiku, ("first", "second"), {}),
    "nnx": (Nnx, ("convs.0", "convs.1"), {}),
    "equinox": (Equinox, ("convs.0", "convs.1"), EQUINOX),
    "keras": (of_keras, ("first", "second"), {}),
}
EVERY = [
    pytest.param(name, marks=[pytest.mark.slow] if name == "keras" else []) for name in LIBRARIES
]


@pytest.mark.parametrize("library", EVERY)
def test_a_layer_by_its_name(library):
    """Maps equal those of cuts by hand, and the cut is the whole network."""
    make, names, options = LIBRARIES[library]
    model = make()
    by_hand = Classifier(first, after_first), at_second(IMAGE)
    for name, expected in zip(names, by_hand, strict=True):
        found = kdxai.cut(model, name, **options)
        np.testing.assert_allclose(found(IMAGE), after_first(first(IMAGE)), rtol=1e-4, atol=1e-5)
        for method in ("grad_cam", "ablation_cam"):
            maps = [
                jax.jit(lambda one, c=c, method=method: METHODS[method](c, one, 1, relu=False))(
                    IMAGE
                )
                for c in (found, expected)
            ]
            np.testing.assert_allclose(*maps, rtol=1e-3, atol=1e-5, err_msg=f"{name} {method}")


@pytest.mark.parametrize("library", EVERY)
def test_a_wrong_name_is_answered_with_the_right_ones(library):
    make, names, options = LIBRARIES[library]
    said = ".*".join(name.replace(".", r"\.") for name in names)
    with pytest.raises(UserError, match=f"no layer 'conv9'; those that it calls: .*{said}"):
        kdxai.cut(make(), "conv9", **options)(IMAGE)
    with pytest.raises(UserError, match="no layer ''"):
        kdxai.cut(make(), "", **options)(IMAGE)


def test_what_no_library_made_has_no_layers():
    with pytest.raises(UserError, match="those that it calls: none that kdxai knows"):
        kdxai.cut(lambda images: images.mean((1, 2)), "conv")(IMAGE)


def test_training_mode_is_refused():
    images = IMAGE[None]
    network = Linen(norm=True)
    variables = network.init(jax.random.key(0), images)
    train = lambda images: network.apply(variables, images, train=True, mutable=["batch_stats"])[0]  # noqa: E731
    for model in (train, lambda images: network.apply(variables, images, train=True)):
        with pytest.raises(UserError, match="'BatchNorm_0' is in training mode"):
            kdxai.cut(model, "first")(IMAGE)
    assert kdxai.cut(lambda images: network.apply(variables, images), "first")(IMAGE).shape == (3,)
    model = nnx.BatchNorm(3, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="training mode"):
        kdxai.cut(model, "x")(IMAGE)


def test_dropout_in_training_mode_is_refused():
    class Model(nnx.Module):
        def __init__(self, rate):
            self.conv = nnx.Conv(3, 4, (3, 3), rngs=nnx.Rngs(0))
            self.dropout = nnx.Dropout(rate, rngs=nnx.Rngs(0))

        def __call__(self, images):
            return self.dropout(self.conv(images)).mean((1, 2))

    model = Model(0.5)
    with pytest.raises(
        UserError, match="'dropout' is in training mode; call it in evaluation mode"
    ):
        kdxai.cut(model, "conv")(IMAGE)
    for one in (Model(0.0), model):  # nothing is dropped
        model.eval()
        assert kdxai.cut(one, "conv")(IMAGE).shape == (4,)


@pytest.mark.parametrize("training", [True, False])
def test_training_mode_of_haiku(training):
    network, (params, state) = of_haiku(norm=True)
    found = kdxai.cut(lambda images: network.apply(params, state, images, training)[0], "second")
    if training:
        with pytest.raises(UserError, match="'batch_norm' is in training mode"):
            found(IMAGE)
    else:
        assert found(IMAGE).shape == (3,)


@pytest.mark.slow
def test_training_mode_of_keras():
    keras = pytest.importorskip("keras")
    image = keras.Input((8, 8, 3))
    x = keras.layers.BatchNormalization()(keras.layers.Conv2D(4, 3, name="conv")(image))
    model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
    assert kdxai.cut(model, "conv")(IMAGE).shape == (4,)
    train = lambda model, image: model(image[None], training=True)[0]  # noqa: E731
    with pytest.raises(UserError, match="changes its own state; call it in evaluation mode"):
        kdxai.cut(model, "conv", call=train)(IMAGE)


def test_a_layer_that_is_called_twice():
    class Twice(nnx.Module):
        def __init__(self):
            self.conv = nnx.Conv(3, 3, (3, 3), rngs=nnx.Rngs(0))

        def __call__(self, x):
            return self.conv(self.conv(x)).mean((1, 2))

    with pytest.raises(UserError, match="'conv' is called 2 times"):
        kdxai.cut(Twice(), "conv")(IMAGE)


def test_what_is_not_logits_is_refused():
    for call in (lambda m, image: m(image[None]), lambda m, image: (m(image[None])[0], 0)):
        with pytest.raises(UserError, match=r"must return \[K\] logits.*nothing else, not"):
            kdxai.cut(Nnx(), "convs.0", call=call)(IMAGE)


def test_a_model_is_as_it_was_afterwards():
    """Its class has its own call again, also after an error; and new weights count."""
    model, own = Nnx(), nnx.Conv.__call__
    found = kdxai.cut(model, "convs.1")
    before = METHODS["grad_cam"](found, IMAGE, 0)
    with pytest.raises(UserError):
        kdxai.cut(model, "x")(IMAGE)
    assert nnx.Conv.__call__ is own
    model.convs[1].kernel[...] *= 2
    np.testing.assert_allclose(METHODS["grad_cam"](found, IMAGE, 0), 2 * before, rtol=1e-5)


def test_it_is_measured_as_any_other():
    images = RNG.integers(0, 256, (3, 8, 8, 3)).astype(np.uint8)
    protocol = kdxai.Protocol(method="grad_cam")
    normal = {"mean": [0.5] * 3, "std": [0.25] * 3}
    of = lambda model: kdxai.evaluate(model, images, [0, 1, 2], protocol, **normal)  # noqa: E731
    by_name, by_hand = of(kdxai.cut(Nnx(), "convs.0")), of(Classifier(first, after_first))
    np.testing.assert_allclose(by_name.adcc, by_hand.adcc, rtol=1e-4)
