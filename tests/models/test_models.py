import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai import models
from kdxai.errors import UserError


def shapes_of(name, size=32, **options):
    model = models.create(name, num_classes=10, **options)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    return model, variables


@pytest.mark.parametrize(
    ("name", "parameters", "grid"),
    [
        ("wrn-28-10", 36_479_194, (8, 8, 640)),
        ("resnet18", 11_173_962, (4, 4, 512)),
        ("resnext29-8x64", 34_426_698, (8, 8, 1024)),  # the paper: 34.4 million
        ("plain5", 964_170, (8, 8, 256)),
        # By hand: the stem, blocks of 4, 8 and 16 channels, the last BatchNorm, the head.
        ("wrn-10-1-w4", 108 + 304 + 920 + 3632 + 32 + 170, (8, 8, 16)),
    ],
)
def test_sizes(name, parameters, grid):
    model, variables = shapes_of(name)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
    features = jax.eval_shape(
        lambda v: model.apply(v, jnp.zeros((2, 32, 32, 3)), method="features"), variables
    )
    assert features.shape == (2, *grid)


@pytest.fixture(scope="module", params=["wrn-10-1", "resnet10-w4", "resnext11-2x2-w4", "plain4-w4"])
def network(request):
    model = models.create(request.param, num_classes=7)
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    return model, model.init(jax.random.key(0), images), images


def test_every_cut_is_the_whole(network):
    model, variables, images = network
    logits = model.apply(variables, images)
    chex.assert_shape(logits, (2, 7))
    for stage in [*model.units, "stage2", models.LAST]:
        features = model.apply(variables, images, stage=stage, method="features")
        again = model.apply(variables, features, stage=stage, method="classify")
        np.testing.assert_allclose(again, logits, atol=1e-5, err_msg=stage)


def test_the_head_is_linear_on_pooled_features(network):
    model, variables, images = network
    features = np.float64(model.apply(variables, images, method="features"))
    head = variables["params"]["head"]
    logits = features.mean((1, 2)) @ np.float64(head["kernel"]) + np.float64(head["bias"])
    np.testing.assert_allclose(model.apply(variables, images), logits, atol=1e-5)


def test_stage_names():
    model, _ = shapes_of("wrn-16-1")
    assert model.cut("stage1") == model.cut("stage1.block1") == 3
    with pytest.raises(UserError, match="no stage 'stage9'.*stage1.block0"):
        model.cut("stage9")


def test_bfloat16_keeps_parameters_statistics_and_logits_in_float32():
    model = models.create("wrn-10-1", num_classes=3, dtype=jnp.bfloat16)
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    variables = model.init(jax.random.key(0), images)
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype(jnp.float32)}
    assert model.apply(variables, images, method="features").dtype == jnp.bfloat16
    logits = model.apply(variables, images)
    assert logits.dtype == jnp.float32
    exact = models.create("wrn-10-1", num_classes=3).apply(variables, images)
    np.testing.assert_allclose(logits, exact, atol=0.1)


def test_he_initialisation():
    model = models.create("wrn-10-2", num_classes=10)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 32, 32, 3)))
    kernel = variables["params"]["units_stage3.block0"]["Conv_1"]["kernel"]
    assert kernel.shape == (3, 3, 128, 128)
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (9 * 128)), rel=0.02)


def test_dropout_acts_in_training_alone():
    model = models.create("wrn-10-1", num_classes=3, dropout=0.5)
    images = jax.random.normal(jax.random.key(1), (4, 32, 32, 3))
    variables = model.init(jax.random.key(0), images)

    def logits(seed, train):
        rngs = {"dropout": jax.random.key(seed)}
        return model.apply(variables, images, train=train, rngs=rngs, mutable=["batch_stats"])[0]

    np.testing.assert_array_equal(logits(0, False), logits(1, False))
    assert np.abs(logits(0, True) - logits(1, True)).max() > 1e-3


def test_dropout_keeps_the_mean():
    layer = models.network.Dropout(0.3)
    x = jnp.ones((64, 32, 32, 4))
    dropped = layer.apply({}, x, True, rngs={"dropout": jax.random.key(0)})
    assert float((dropped == 0).mean()) == pytest.approx(0.3, abs=0.005)
    assert float(dropped.mean()) == pytest.approx(1, abs=0.01)
    assert not np.array_equal(dropped[0], dropped[1])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vgg16", {}, "no model 'vgg16'; known: wrn-D-K"),
        ("resnet18-w0", {}, "no model"),
        ("wrn-27-10", {}, "depth of a wide ResNet is 10, 16"),
        ("resnet18", {"dropout": 0.3}, "has no dropout"),
        ("wrn-10-1", {"dropout": 1.0}, "dropout must be in"),
        ("wrn-10-1", {"num_classes": 1}, "at least 2 classes"),
    ],
)
def test_bad_models_are_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        models.create(name, **{"num_classes": 10, **options})
