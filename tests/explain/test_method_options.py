"""Options of methods: what they may be, what they do, and what they cost."""

import inspect

import jax.numpy as jnp
import numpy as np
import pytest

from kdxai import evaluate
from kdxai.drawing import draw
from kdxai.errors import UserError
from kdxai.explain import METHODS, Classifier, default_options
from kdxai.explain.method import RANGES
from kdxai.protocol import Protocol, read_options

# The logit of each class is cubic in the image: Integrated Gradients then depends on its steps.
MODEL = Classifier(lambda image: image**3, lambda maps: maps.sum((0, 1)))
IMAGE = jnp.linspace(0, 1, 8 * 8 * 3).reshape(8, 8, 3)


def test_every_option_has_a_range_that_its_default_is_in():
    for name, method in METHODS.items():
        for option, default in method.defaults.items():
            assert option in RANGES, option
            assert type(default) in (int, float), (name, option)
            assert method.checked(name, {option: default}) == {}
        assert set(method.batch) <= set(method.defaults)
        # What repeats passes in parts says so.
        assert ("chunk" in method.defaults) == ("chunk" in method.batch)
        own = inspect.signature(method.draw).parameters
        assert list(own)[:3] == ["classifier", "image", "class_index"]


def test_the_tree_of_a_config():
    tree = default_options()
    assert tree["integrated_gradients"] == {"baseline": 0.0, "steps": 32, "chunk": 16}
    assert tree["occlusion"]["window"] == 8
    assert not {"cam", "random"} & set(tree)
    assert read_options(tree, ["cam", "mask", "occlusion"]) == {
        "cam": {},
        "mask": {},
        "occlusion": {},
    }
    tree["integrated_gradients"]["steps"] = 64
    found = read_options(tree, ["integrated_gradients", "cam"])
    assert found == {"integrated_gradients": {"steps": 64}, "cam": {}}
    with pytest.raises(UserError, match="integrated_gradients.steps is set, but .* is not drawn"):
        read_options(tree, ["cam"])


@pytest.mark.parametrize(
    ("method", "options", "message"),
    [
        ("vibes", {"steps": 2}, "no method 'vibes'"),
        ("cam", {"steps": 2}, "'cam' has no option 'steps'; known: none"),
        ("occlusion", {"widow": 2}, "no option 'widow'; known: window, stride, baseline, chunk"),
        ("smooth_grad", {"key": 2}, "no option 'key'"),
        ("cam", {"relu": False}, "no option 'relu'"),
        ("mask", {"steps": 1}, "'mask' has no options"),
        ("integrated_gradients", {"steps": 0}, "integrated_gradients.steps is 1 to 4,096, not 0"),
        ("integrated_gradients", {"steps": 2.5}, "steps is a whole number, not 2.5"),
        ("integrated_gradients", {"steps": True}, "steps is a whole number, not True"),
        (
            "integrated_gradients",
            {"baseline": float("nan")},
            "baseline is a finite number, not nan",
        ),
        ("integrated_gradients", {"baseline": "blur"}, "baseline is a number, not 'blur'"),
        ("smooth_grad", {"noise": -0.1}, "smooth_grad.noise is 0 to 100, not -0.1"),
        ("var_grad", {"samples": 1}, "at least 2 samples"),
        ("occlusion", {"stride": 9}, "stride is 9 and window is 8"),
        ("occlusion", {"window": 3}, "stride is 4 and window is 3"),
    ],
)
def test_what_is_no_option_is_refused(method, options, message):
    for refuse in (
        lambda: Protocol(method, options=options),
        lambda: read_options({method: options}, [method]),
    ):
        with pytest.raises(UserError, match=message):
            refuse()


def test_protocols_that_do_the_same_are_equal_and_others_are_not():
    plain = Protocol("integrated_gradients")
    same = Protocol("integrated_gradients", options={"steps": np.int64(32), "baseline": 0})
    assert plain == same and hash(plain) == hash(same) and repr(plain) == repr(same)
    other = Protocol("integrated_gradients", options={"steps": 64, "baseline": 1})
    assert other == Protocol("integrated_gradients", options={"baseline": 1.0, "steps": 64})
    assert hash(other) == hash(Protocol("integrated_gradients", options=other.options))
    assert other != plain and other.options == {"steps": 64, "baseline": 1.0}


def test_a_map_is_drawn_with_its_options():
    expected = METHODS["integrated_gradients"](MODEL, IMAGE, 1, steps=1)
    protocol = Protocol("integrated_gradients", options={"steps": 1})
    np.testing.assert_array_equal(draw(protocol, MODEL, IMAGE, jnp.int32(1)).raw, expected)
    # One step at the middle: x * 3 (x / 2)^2, of the one channel that the class reads.
    np.testing.assert_allclose(expected, 0.75 * IMAGE[..., 1] ** 3, rtol=1e-5)
    usual = draw(Protocol("integrated_gradients"), MODEL, IMAGE, jnp.int32(1)).raw
    np.testing.assert_allclose(usual, IMAGE[..., 1] ** 3, rtol=1e-2, atol=1e-6)


def test_the_options_of_a_row_are_those_of_its_protocol():
    images = np.uint8(255 * IMAGE)[None]
    normal = {"mean": [0.0] * 3, "std": [1.0] * 3}
    rows = [
        evaluate.evaluate(
            MODEL,
            images,
            [0],
            Protocol("occlusion", options={"window": size, "stride": 1}),
            **normal,
        )
        for size in (1, 8)
    ]
    assert not np.allclose(rows[0].complexity, rows[1].complexity)


@pytest.mark.parametrize(
    ("method", "options", "copies"),
    [
        ("cam", {}, 2),
        ("mask", {}, 2),
        ("integrated_gradients", {}, 16),
        ("integrated_gradients", {"steps": 64}, 16),
        ("integrated_gradients", {"steps": 64, "chunk": 64}, 64),
        ("integrated_gradients", {"steps": 4}, 4),
        ("smooth_grad", {"samples": 1}, 2),
        ("occlusion", {}, 32),
        ("occlusion", {"chunk": 1}, 2),
    ],
)
def test_the_cost_follows_the_options(method, options, copies):
    protocol = Protocol(method, options=options)
    assert protocol.copies == copies
    assert evaluate.chunk_size(protocol, (), (32, 32)) == 256 // copies
