"""What holds for every method of METHODS, and for every library a model may come from."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai.errors import UserError
from kdxai.explain import METHODS, Classifier, guided_relu, min_max
from kdxai.explain.classifier import channels_first

NOISY = sorted(name for name, method in METHODS.items() if "samples" in method.defaults)
BLIND = ("random", "centred_gaussian")  # no look at the image
ONE_FOR_EVERY_CLASS = (*BLIND, "edges", "eigen_cam")
# These networks are CNNs: no attention can be asked of them.
OF_CNNS = {name: method for name, method in METHODS.items() if "attention" not in method.needs}
EVERY = pytest.mark.parametrize("name", OF_CNNS)


def tiny(channels: int, dtype=jnp.float32, stride: int = 4) -> Classifier:
    """Two convolutions without padding or bias, pooling, a linear head of 3 classes.

    Its background is of images of 4 x 4 pixels, and so for those of any whole number of them.
    """
    rng = np.random.default_rng(2 + channels)
    first = jnp.array(rng.normal(size=(4, 4, channels, 4)), dtype)
    second = jnp.array(rng.normal(size=(1, 1, 4, 6)), dtype)
    head = jnp.array(rng.normal(size=(6, 3)), dtype)

    def convolve(x, kernel, stride):
        return jax.lax.conv_general_dilated(
            x[None], kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )[0]

    def features(x, relu=jax.nn.relu):
        return relu(convolve(relu(convolve(x, first, stride)), second, 1))

    def classify(a):
        return a.mean((0, 1)) @ head

    early = Classifier(
        lambda x: jax.nn.relu(convolve(x, first, stride)),
        lambda a: classify(jax.nn.relu(convolve(a, second, 1))),
    )
    return Classifier(
        features,
        classify,
        head,
        lambda x: classify(features(x, guided_relu)),
        background=jnp.array(rng.normal(size=(3, 4, 4, channels)), dtype),
        earlier=(early,),
    )


@EVERY
def test_signature_and_docstring(name):
    method = METHODS[name].draw
    parameters = list(inspect.signature(method).parameters.values())
    assert method.__name__ == name
    assert [p.name for p in parameters[:3]] == ["classifier", "image", "class_index"]
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not p.empty for p in parameters[3:])
    assert method.__doc__


@EVERY
@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((28, 28, 1), jnp.float32),
        ((32, 32, 3), jnp.bfloat16),
        ((224, 224, 3), jnp.float32),
    ],
    ids=str,
)
def test_shapes_and_dtype(name, shape, dtype):
    classifier = tiny(shape[-1], dtype)
    images = jax.ShapeDtypeStruct((2, *shape), dtype)
    classes = jax.ShapeDtypeStruct((2,), jnp.int32)
    maps = jax.eval_shape(jax.vmap(lambda x, c: METHODS[name](classifier, x, c)), images, classes)
    grid = (shape[0] // 4, shape[1] // 4)
    assert maps.dtype == jnp.float32
    assert maps.shape in {(2, *shape[:2]), (2, *grid)}


def every_map(classifier: Classifier):
    """image, class_index -> every method's map by name, in one program."""
    fewer = {name: {"samples": 4} for name in NOISY}
    return lambda image, class_index: {
        name: method(classifier, image, class_index, **fewer.get(name, {}))
        for name, method in OF_CNNS.items()
    }


@pytest.fixture(scope="module")
def company(build, data):
    """The maps of one image alone, and of two batches of it with others."""
    explain = every_map(build("last"))
    batch = jax.jit(jax.vmap(explain))
    image, other = data["image"]
    padding, broken = np.zeros_like(image), image.copy()
    broken[7, 7, 1] = np.nan
    # Batches of 32: in small ones, compiled otherwise, a NaN survives by chance.
    first = np.stack([image, other, padding, broken] * 8), np.array([3, 1, 0, 3] * 8)
    second = np.stack([broken, 100 * other, image, image] * 8), np.array([0, 5, 3, -1] * 8)
    return jax.jit(explain)(image, 3), batch(*first), batch(*second)


@EVERY
def test_neighbours_and_padding_do_not_matter(name, company):
    alone, first, second = (maps[name] for maps in company)
    tolerance = 1e-5 * np.abs(alone).max()
    np.testing.assert_allclose(first[0], alone, rtol=0, atol=tolerance)
    np.testing.assert_allclose(second[2], alone, rtol=0, atol=tolerance)


@EVERY
def test_what_is_broken_shows(name, company):
    """A NaN in the image, or a class that does not exist (there are five), gives no honest map."""
    _, first, second = (maps[name] for maps in company)
    scaled = jax.jit(jax.vmap(min_max))(first)
    assert np.isfinite(first[:3]).all()
    assert np.isnan(first[3]).any() == np.isnan(scaled[3]).all() == (name not in BLIND)
    for values in (second[1], second[3]):
        assert np.isnan(values).all() == (name not in ONE_FOR_EVERY_CLASS)


@pytest.fixture(scope="module")
def shifted():
    """The maps of a patch on black, and of the patch moved by one and two steps of the grid."""
    patch = np.random.default_rng(4).normal(size=(12, 12, 3))
    images = np.zeros((2, 40, 40, 3), np.float32)
    images[0, 12:24, 8:20] = patch
    images[1, 16:28, 16:28] = patch
    return jax.jit(jax.vmap(every_map(tiny(3))))(images, np.array([1, 1]))


@pytest.mark.parametrize("name", [n for n in OF_CNNS if n not in (*NOISY, *BLIND)])
def test_a_shifted_image_shifts_the_map(name, shifted):
    """In a model without padding, far from the borders."""
    before, after = shifted[name]
    step = len(before) // 10
    assert np.any(before != 0)
    expected = np.roll(before, (step, 2 * step), (0, 1))
    np.testing.assert_allclose(after, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@EVERY
def test_a_batch_without_vmap_says_what_to_do(name, build, data):
    with pytest.raises(UserError, match=r"jax\.vmap"):
        METHODS[name](build("last"), data["image"], 0)


@pytest.mark.slow
def test_images_of_integers_are_the_numbers_they_are():
    """Of a model that normalises within: 0 to 255 as pixels are what they are as floats."""
    inner = tiny(3)
    early = inner.earlier[0]
    classifier = inner._replace(
        features=lambda x: inner.features(x / 255),
        guided=lambda x: inner.guided(x / 255),
        background=255 * inner.background,
        earlier=(early._replace(features=lambda x: early.features(x / 255)),),
    )
    pixels = np.random.default_rng(1).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    explain = jax.jit(every_map(classifier))
    whole, floating = explain(pixels, 1), explain(pixels.astype(np.float32), 1)
    for name, expected in floating.items():
        assert np.any(expected != 0), name
        np.testing.assert_allclose(whole[name], expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("features", "image"),
    [
        ((32, 4, 4), (16, 16)),
        ((3, 4, 4), (16, 16)),
        ((64, 1, 1), (16, 16)),
        ((64, 8, 16), (32, 64)),
        ((8, 8, 16), (32, 64)),
        ((512, 7, 10), (224, 320)),
        ((24, 16, 8), (64, 32)),
    ],
)
def test_channels_first_is_told(features, image):
    """Otherwise a map of one row per channel would be drawn, and measured."""
    classifier = Classifier(lambda x: jnp.zeros(features), lambda a: a.mean((1, 2))[:3])
    for name in ("grad_cam", "gradient", "random"):
        with pytest.raises(UserError, match=r"looks like \[c, h, w\]: move its first axis"):
            METHODS[name](classifier, jnp.zeros((*image, 3)), 0)


def test_channels_last_is_never_taken_for_first():
    """Maps of networks of up to five layers, of any stride, padding, sides and channels."""
    rng = np.random.default_rng(0)
    for _ in range(3000):
        image = rng.integers(80, 240, 2) if rng.random() < 0.5 else [rng.integers(8, 240)] * 2
        grid = np.array(image)
        for _ in range(rng.integers(1, 6)):
            kernel, stride = rng.choice([1, 2, 3, 5, 7]), rng.choice([1, 2, 4])
            smaller = (grid + 2 * rng.choice([0, kernel // 2]) - kernel) // stride + 1
            grid = smaller if smaller.min() > 0 else grid
        for channels in {1, 2, 3, 16, *grid.tolist()}:
            assert not channels_first((*grid, channels), (*image, 3))


def test_logits_of_a_batch_say_what_to_do(build, data):
    classifier = build("last")
    batched = classifier._replace(classify=lambda a: classifier.classify(a)[None])
    for name in ("grad_cam", "gradient", "occlusion"):
        with pytest.raises(UserError, match=r"Logits must be \[K\].*\(1, 5\)"):
            METHODS[name](batched, data["image"][0], 0)


def linen(weights):
    from flax import linen as nn

    class Model(nn.Module):
        def setup(self):
            self.conv = nn.Conv(4, (3, 3), strides=2, padding=1)
            self.dense = nn.Dense(5)

        def features(self, x):
            return nn.relu(self.conv(x))

        def classify(self, a):
            return self.dense(a.mean((-3, -2)))

    model = Model()
    names = (("conv", "kernel"), ("conv", "bias")), (("dense", "kernel"), ("dense", "bias"))
    params: dict = {"conv": {}, "dense": {}}
    for (layer, part), value in zip([*names[0], *names[1]], weights, strict=True):
        params[layer][part] = value
    variables = {"params": params}
    return Classifier(
        lambda x: model.apply(variables, x[None], method="features")[0],
        lambda a: model.apply(variables, a[None], method="classify")[0],
        params["dense"]["kernel"],
    )


def nnx(weights):
    from flax import nnx

    conv = nnx.Conv(3, 4, (3, 3), strides=2, padding=1, rngs=nnx.Rngs(0))
    dense = nnx.Linear(4, 5, rngs=nnx.Rngs(0))
    for variable, value in zip(
        (conv.kernel, conv.bias, dense.kernel, dense.bias), weights, strict=True
    ):
        variable[...] = value
    return Classifier(
        lambda x: nnx.relu(conv(x[None]))[0], lambda a: dense(a.mean((0, 1))), dense.kernel[...]
    )


def equinox(weights):
    eqx = pytest.importorskip("equinox")
    kernel, bias, head, offset = weights
    conv = eqx.nn.Conv2d(3, 4, 3, stride=2, padding=1, key=jax.random.key(0))
    dense = eqx.nn.Linear(4, 5, key=jax.random.key(0))
    conv = eqx.tree_at(
        lambda m: (m.weight, m.bias), conv, (kernel.transpose(3, 2, 0, 1), bias[:, None, None])
    )
    dense = eqx.tree_at(lambda m: (m.weight, m.bias), dense, (head.T, offset))
    return Classifier(
        lambda x: jax.nn.relu(conv(x.transpose(2, 0, 1))).transpose(1, 2, 0),
        lambda a: dense(a.mean((0, 1))),
        dense.weight.T,
    )


@pytest.mark.parametrize("library", [linen, nnx, equinox])
def test_a_model_of_any_library(library, data):
    """The maps of the same weights in a bare function."""
    rng = np.random.default_rng(9)
    shapes = ((3, 3, 3, 4), (4,), (4, 5), (5,))
    weights = [jnp.array(rng.normal(size=shape), jnp.float32) for shape in shapes]
    kernel, bias, head, offset = weights

    def features(x):
        return jax.nn.relu(
            jax.lax.conv_general_dilated(
                x[None],
                kernel,
                (2, 2),
                ((1, 1), (1, 1)),
                dimension_numbers=("NHWC", "HWIO", "NHWC"),
            )[0]
            + bias
        )

    bare = Classifier(features, lambda a: a.mean((0, 1)) @ head + offset, head)
    theirs = library(weights)

    def explain(classifier):
        names = ("cam", "grad_cam", "ablation_cam", "gradient")
        maps = jax.jit(jax.vmap(lambda x, c: [METHODS[n](classifier, x, c) for n in names]))
        return maps(data["image"], data["class_index"])

    for actual, expected in zip(explain(theirs), explain(bare), strict=True):
        np.testing.assert_allclose(actual, expected, atol=1e-5 * np.abs(expected).max())
