from functools import partial

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
        ("resnet20", 269_722, (8, 8, 64)),  # these two as akamaster's code counts them
        ("resnet56", 853_018, (8, 8, 64)),
        # torchvision's 11,689,512 and 25,557,032, with 990 classes less.
        ("resnet18-imagenet", 11_689_512 - 990 * 513, (1, 1, 512)),
        ("resnet50-imagenet", 25_557_032 - 990 * 2049, (1, 1, 2048)),
        # By hand: a bias of each channel, kernels of 3 x 3, and the head.
        ("airbench-4-5-6", 30 + 9 * (96 + 16 + 20 + 25 + 30 + 36) + 70, (7, 7, 6)),
        # By hand: the stem, blocks of 4, 8 and 16 channels, the last BatchNorm, the head.
        ("wrn-10-1-w4", 108 + 304 + 920 + 3632 + 32 + 170, (8, 8, 16)),
        # torchvision's blocks and head of 10 classes, behind a stem of 3 x 3 pixels.
        ("googlenet", 6_500_168 - 990 * 1025 + 192 * (27 + 2), (8, 8, 1024)),
        ("mobilenetv2", 3_504_872 - 990 * 1281, (4, 4, 1280)),  # torchvision's
        # timm's atto, a pixel in place of the stem's 4 x 4.
        ("convnext-2-2-6-2", 3_695_520 - 990 * 321 - 40 * 45, (4, 4, 320)),
        # timm's tiny ViT of 16 x 16 pixels, less its class token, with patches of 4 x 4.
        (
            "vit-12-192-3",
            5_717_416 - 990 * 193 - 192 * (3 * 240 + 2 + 132),
            (8, 8, 192),
        ),
    ],
)
def test_sizes(name, parameters, grid):
    model, variables = shapes_of(name)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables["params"])) == parameters
    features = jax.eval_shape(
        lambda v: model.apply(v, jnp.zeros((2, 32, 32, 3)), method="features"), variables
    )
    assert features.shape == (2, *grid)


NARROW = [
    "wrn-10-1",
    "resnet10-w4",
    "resnext11-2x2-w4",
    "plain4-w4",
    "resnet8-w4",
    "airbench-4-5-6",
]
OTHERS = {
    "resnet18-imagenet-w2": {},
    "convnext-1-1-2-1-w4": {},
    "vit-2-8-2": {},
    "vit-3-8-2": {"pool": "token"},
}


SLOWEST = ("convnext-1-1-2-1-w4", "resnet18-imagenet-w2")


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(name, marks=[pytest.mark.slow] * (name in SLOWEST))
        for name in [*NARROW, *OTHERS]
    ],
)
def network(request):
    model = models.create(request.param, num_classes=7, **OTHERS.get(request.param, {}))
    images = jax.random.normal(jax.random.key(1), (2, 32, 32, 3))
    shapes, rng = jax.eval_shape(model.init, jax.random.key(0), images), np.random.default_rng(0)

    def random(path, like):  # quicker than to compile the initialisers
        if path[-1].key in ("scale", "var"):
            return jnp.float32(rng.uniform(0.5, 1.5, like.shape))
        return jnp.float32(rng.normal(0, max(np.prod(like.shape[:-1]), 9) ** -0.5, like.shape))

    return model, jax.tree_util.tree_map_with_path(random, shapes), images


def two_stages(model):
    return [*dict.fromkeys(name.partition(".")[0] for name in model.units)][1:3]


def test_every_cut_is_the_whole(network):
    model, variables, images = network
    logits = model.apply(variables, images)
    chex.assert_shape(logits, (2, 7))
    for stage in [*model.units, *two_stages(model), models.LAST]:
        features = model.apply(variables, images, stage=stage, method="features")
        again = model.apply(variables, features, stage=stage, method="classify")
        np.testing.assert_allclose(again, logits, atol=1e-5, err_msg=stage)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["googlenet-w8", "mobilenetv2-w4"])
def test_deep_networks_are_cut_like_others(name):
    """By shapes alone, which is quick."""
    model, variables = shapes_of(name, size=16)
    images = jnp.zeros((2, 16, 16, 3))
    for stage in [*model.units][::6]:
        features, classify = (
            partial(model.apply, stage=stage, method=half) for half in ("features", "classify")
        )
        found = jax.eval_shape(features, variables, images)
        assert jax.eval_shape(classify, variables, found).shape == (2, 10)


def test_one_pass_gives_logits_and_taps(network):
    model, variables, images = network
    taps = (models.LAST, *two_stages(model))  # in any order
    logits, maps = model.apply(variables, images, taps=taps)
    np.testing.assert_array_equal(logits, model.apply(variables, images))
    assert set(maps) == set(taps)
    for tap, one in maps.items():
        features = model.apply(variables, images, stage=tap, method="features")
        jax.tree.map(partial(np.testing.assert_array_equal, err_msg=tap), one, features)
    assert model.apply(variables, images, taps=())[1] == {}
    with pytest.raises(UserError, match="no stage 'stage9'"):
        model.apply(variables, images, taps=("stage9",))


def test_widths_of_each_layer():
    shape = {"shortcut": "conv", "widths": [4, 3, 4, 5, 6, 2, 3]}
    model, variables = shapes_of("resnet8", **shape)
    blocks = variables["params"]
    widths = [blocks["units_stem"]["Conv_0"]["kernel"].shape[-1]]
    for stage in (1, 2, 3):
        block = blocks[f"units_stage{stage}.block0"]
        widths += [block[f"Conv_{i}"]["kernel"].shape[-1] for i in (0, 1)]
    assert widths == shape["widths"]
    again = models.create("resnet8", num_classes=10, **shape)
    assert model == again and hash(model) == hash(again)
    assert model != models.create("resnet8", num_classes=10, **shape | {"widths": [4] * 7})


def test_option_a_takes_every_second_pixel_and_adds_zeros_on_both_sides():
    from kdxai.models.network import Layers
    from kdxai.models.resnet import BasicBlock

    block = BasicBlock(7, 2, Layers(), pad_shortcut=True)
    x = jnp.abs(jax.random.normal(jax.random.key(0), (1, 5, 6, 4)))
    variables = jax.tree.map(jnp.zeros_like, block.init(jax.random.key(1), x, False))
    y = np.array(block.apply(variables, x, False))  # the residual is zero
    assert y.shape == (1, 3, 3, 7)
    np.testing.assert_array_equal(y[..., 1:5], x[:, ::2, ::2])
    assert not y[..., 0].any() and not y[..., 5:].any()


def test_the_head_is_linear_on_pooled_features(network):
    """Where CAM is defined; else on a class token, or on a norm of them."""
    model, variables, images = network
    features = model.apply(variables, images, method="features")
    pooled = np.float64(models.grid(features)).mean((1, 2))
    if isinstance(features, models.Tokens):
        pooled = np.float64(features.token)
    elif not model.has_cam:
        norm = jax.tree.map(np.float64, variables["params"]["pooling"]["LayerNorm_0"])
        pooled -= pooled.mean(-1, keepdims=True)
        pooled /= np.sqrt((pooled**2).mean(-1, keepdims=True) + 1e-6)
        pooled = pooled * norm["scale"] + norm["bias"]
    head = variables["params"]["head"]
    logits = pooled @ np.float64(head["kernel"]) + np.float64(head["bias"])
    np.testing.assert_allclose(model.apply(variables, images), logits, atol=1e-5)


def test_where_cam_is_defined():
    with_cam = {
        name: models.create(name, num_classes=7, **OTHERS.get(name, {})).has_cam
        for name in (*NARROW, *OTHERS, "googlenet", "mobilenetv2")
    }
    assert [name for name, found in with_cam.items() if not found] == [
        "convnext-1-1-2-1-w4",
        "vit-3-8-2",
    ]


def test_stage_names():
    model, _ = shapes_of("wrn-16-1")
    assert model.cut("stage1") == model.cut("stage1.block1") == 3
    with pytest.raises(UserError, match="no stage 'stage9'.*stage1.block0"):
        model.cut("stage9")


@pytest.mark.slow
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
        ("resnet50", {}, "no model 'resnet50'.*'resnet50-imagenet'"),
        ("resnext12-2x2", {}, "depth of a ResNeXt .* 11, 20"),
        ("plain2", {}, "no model 'plain2'.*at least 3"),
        ("resnet18", {"shortcut": "conv"}, "'resnet18' has no shortcut; leave it out"),
        ("resnet8", {"shortcut": "B"}, "no shortcut 'B'; known: A, conv"),
        ("resnet8", {"widths": (4, 4)}, "has 7 widths"),
        ("resnet8", {"widths": (4, 4, 4, 8, 8, 6, 6)}, "option A cannot go from 8 to 6"),
        ("convnext-1-0-1-1", {}, "at least 1 block"),
        ("vit-2-10-4", {}, "'vit-2-10-4' with patches of 4: .* the heads, .* divide the width"),
        ("vit-0-8-2", {}, "each is at least 1"),
        ("vit-2-8-2", {"patch": 0}, "patches of 0: each is at least 1"),
        ("vit-2-8-2", {"pool": "max"}, "no pool 'max' of a ViT; known: mean, token"),
        ("vit-2-8-2-w4", {}, "'vit-2-8-2-w4' has no base_width; leave it out"),
    ],
)
def test_bad_models_are_refused(name, options, message):
    with pytest.raises(UserError, match=message):
        models.create(name, **{"num_classes": 10, **options})
