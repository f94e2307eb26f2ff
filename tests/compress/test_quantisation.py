"""Rounded weights and inputs, against numpy's rounding and PyTorch's fake quantisation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai import compress, models
from kdxai.compress import cost
from kdxai.compress.kernels import kernels
from kdxai.errors import UserError
from kdxai.fingerprints import fingerprint
from kdxai.models import trained
from kdxai.models.quantised import Conv, convolve, on_levels


def convolution(weight_bits, activation_bits, seed=0):
    layer = Conv(
        6,
        (3, 3),
        2,
        padding=1,
        use_bias=False,
        dtype=jnp.float32,
        weight_bits=weight_bits,
        activation_bits=activation_bits,
    )
    x = jax.random.normal(jax.random.key(seed), (2, 9, 8, 4))
    variables = layer.init(jax.random.key(1), x)
    if activation_bits:
        variables = {**variables, "batch_stats": {"range": jnp.float32(2.5)}}
    return layer, variables, x


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_are_numpys_rounding(small, bits):
    found = compress.quantise(small, bits=bits)
    before, after = kernels(small.variables), kernels(found.variables)
    assert after.keys() == before.keys()
    for path, kernel in before.items():
        for channel in range(kernel.shape[-1]):
            weights = kernel[..., channel].astype(np.float64)
            step = np.abs(weights).max() / (2 ** (bits - 1) - 1)
            expected = np.round(weights / step) * step
            np.testing.assert_allclose(after[path][..., channel], expected, atol=1e-6)
            assert len(np.unique(np.round(expected / step))) <= 2**bits - 1
    head = ("params", "head", "kernel")
    np.testing.assert_array_equal(
        found.variables[head[0]][head[1]][head[2]], small.variables[head[0]][head[1]][head[2]]
    )


def test_the_network_computes_with_the_weights_that_it_holds(small, logits):
    """It rounds them again, which changes nothing; so a network that does not round agrees."""
    found = compress.quantise(small, bits=4)
    plain = logits(small._replace(variables=found.variables))
    np.testing.assert_allclose(logits(found), plain, atol=1e-4)
    again = compress.quantise(found, bits=4)
    for path, kernel in kernels(again.variables).items():
        np.testing.assert_allclose(kernel, kernels(found.variables)[path], rtol=1e-6)


def test_weights_of_torch(small):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no other quantisation")
    found = kernels(compress.quantise(small, bits=5).variables)
    for path, kernel in kernels(small.variables).items():
        scale = torch.tensor(np.abs(kernel).max((0, 1, 2)) / 15)
        zero = torch.zeros(len(scale), dtype=torch.int32)
        expected = torch.fake_quantize_per_channel_affine(
            torch.tensor(kernel.copy()), scale, zero, 3, -15, 15
        )
        np.testing.assert_allclose(found[path], expected.numpy(), atol=1e-6)


def test_inputs_and_gradients_of_torch():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: no other quantisation")
    layer, variables, x = convolution(8, 8)
    kernel = np.asarray(variables["params"]["kernel"])
    image = torch.tensor(np.array(x).transpose(0, 3, 1, 2).copy(), requires_grad=True)
    weight = torch.tensor(kernel.transpose(3, 2, 0, 1).copy(), requires_grad=True)
    scale = torch.tensor(np.abs(kernel).max((0, 1, 2)) / 127)
    zero = torch.zeros(6, dtype=torch.int32)
    rounded = torch.fake_quantize_per_tensor_affine(image, 2.5 / 127, 0, -127, 127)
    weights = torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, -127, 127)
    expected = torch.nn.functional.conv2d(rounded, weights, stride=2, padding=1)
    expected.square().sum().backward()

    def loss(x, params):
        return (layer.apply({**variables, "params": params}, x) ** 2).sum()

    y = layer.apply(variables, x)
    np.testing.assert_allclose(y, expected.detach().numpy().transpose(0, 2, 3, 1), atol=2e-5)
    dx, dparams = jax.grad(loss, (0, 1))(x, variables["params"])
    np.testing.assert_allclose(dx, image.grad.numpy().transpose(0, 2, 3, 1), atol=1e-3)
    expected = weight.grad.numpy().transpose(2, 3, 1, 0)
    np.testing.assert_allclose(dparams["kernel"], expected, atol=1e-3)


def test_inputs_are_numpys_rounding_and_cut_at_the_range():
    layer, variables, x = convolution(8, 8)
    step = 2.5 / 127
    rounded = np.clip(np.round(np.float64(x) / step), -127, 127) * step
    assert np.abs(np.asarray(x)).max() > 2.5
    whole, *_ = convolution(8, None)
    expected = whole.apply({"params": variables["params"]}, jnp.asarray(rounded, jnp.float32))
    np.testing.assert_allclose(layer.apply(variables, x), expected, atol=1e-5)


def test_the_gradient_is_straight_through():
    """That of the same sum of products; none beyond the range."""
    values = jnp.array([-3.0, -0.4, 0.0, 0.26, 1.0, 1.2])
    slope = jax.grad(lambda v: (on_levels(v, jnp.float32(1), 3)[0] * jnp.arange(6)).sum())(values)
    np.testing.assert_allclose(slope, [0, 3, 6, 9, 12, 0])
    levels, step = on_levels(values, jnp.float32(1), 3)
    np.testing.assert_array_equal(levels, [-3, -1, 0, 1, 3, 3])
    assert float(step) == pytest.approx(1 / 3)


@pytest.mark.parametrize("groups", [1, 2])
def test_arithmetic_of_int8_gives_the_same(groups):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.integers(-127, 128, (2, 5, 6, 4)), jnp.float32)
    levels = jnp.asarray(rng.integers(-127, 128, (3, 3, 4 // groups, 6)), jnp.float32)
    found = [
        jax.value_and_grad(
            lambda x, w, i=i: (convolve(x, w, (2, 1), 1, groups, i) ** 2).sum(), (0, 1)
        )(x, levels)
        for i in (False, True)
    ]
    jax.tree.map(np.testing.assert_array_equal, *found)


def test_calibration(make, pictures):
    """The range is the largest input over all batches, in float64 for the first layer."""
    model = make("plain3-w4")
    found = compress.quantise(model, bits=8, images=pictures)
    ranges = found.variables["batch_stats"]
    x = (np.float64(pictures) / 255 - np.float64(model.mean)) / np.float64(model.std)
    first = ranges["units_stage1"]["Conv_0"]["range"]
    assert float(first) == pytest.approx(np.abs(x).max(), rel=1e-6)
    weights_only = compress.quantise(model, bits=8)
    maps = weights_only.model.apply(
        weights_only.variables, x.astype(np.float32), stage="stage1", method="features"
    )
    second = ranges["units_stage2"]["Conv_0"]["range"]
    assert float(second) == pytest.approx(float(np.abs(maps).max()), rel=1e-5)
    assert found.facts["origin"]["settings"] == {"bits": 8, "activations": True, "calibration": 24}


@pytest.mark.parametrize("activations", [False, True])
def test_it_is_used_as_any_model(make, cut, pictures, tmp_path, activations):
    small = make("plain3-w4")
    found = compress.quantise(small, bits=4, images=pictures if activations else None)
    found = compress.batch_norm(found, pictures)
    trained.save(found, tmp_path)
    loaded = trained.load(tmp_path)
    assert loaded.model == found.model and hash(loaded.model) == hash(found.model)
    assert loaded.model != small.model
    assert fingerprint(loaded.variables) == fingerprint(found.variables)
    whole, again = cut(loaded)
    np.testing.assert_allclose(again, whole, atol=1e-5)
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    slope = jax.jit(jax.grad(lambda x: loaded.model.apply(loaded.variables, x)[:, 0].sum()))(x)
    assert np.isfinite(slope).all() and np.abs(slope).max() > 0


def test_quantised_anew(make, pictures):
    """Without inputs after all, and a pruned network keeps its zeros."""
    small = make("plain3-w4")
    found = compress.quantise(compress.quantise(small, bits=8, images=pictures), bits=3)
    assert "activation_bits" not in found.architecture
    assert fingerprint(found.variables["batch_stats"]) == fingerprint(
        small.variables["batch_stats"]
    )
    pruned = compress.prune(small, sparsity=0.5)
    rounded = kernels(compress.quantise(pruned, bits=8).variables)
    assert all((rounded[p][k == 0] == 0).all() for p, k in kernels(pruned.variables).items())
    sparse = compress.prune(compress.quantise(small, bits=4), sparsity=0.6, by="random")
    for kernel in kernels(sparse.variables).values():
        assert cost.bits(kernel) <= 4  # on grids of what is left


@pytest.mark.parametrize("bits", [1, 9, 4.5, "4", True, None])
def test_bad_bits(small, bits):
    with pytest.raises(UserError, match=f"bits must be a whole number from 2 to 8, not {bits!r}"):
        compress.quantise(small, bits=bits)


def test_bad_images(small, pictures):
    with pytest.raises(UserError, match="images must be uint8"):
        compress.quantise(small, bits=8, images=pictures / 255)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_bits": 9}, "weight_bits must be a whole number from 2 to 8, not 9"),
        ({"weight_bits": 8, "activation_bits": 1}, "activation_bits must be"),
        ({"activation_bits": 8}, "activation_bits goes with weight_bits"),
        ({"rank": 0.0}, "rank must be above 0 and at most 1"),
        ({"rank": 1.5}, "rank must be"),
    ],
)
def test_bad_architectures(options, message):
    with pytest.raises(UserError, match=message):
        models.create("plain3-w4", num_classes=3, **options)
