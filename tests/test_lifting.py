"""Models whose weights change, closures, and what stays in memory of them."""

import gc
import weakref

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from flax import nnx

from kdxai import evaluate
from kdxai.evaluate.rows import measured_rows
from kdxai.explain import Classifier, guided_relu
from kdxai.lifting import lift
from kdxai.protocol import Protocol

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (5, 12, 12, 3)).astype(np.uint8)
LABELS = np.array([0, 1, 2, 3, 0])
NORMAL = {"mean": [0.5] * 3, "std": [0.25] * 3}
SPEC = jax.ShapeDtypeStruct((3,), jnp.float32)


class Net(nnx.Module):
    """A module that keeps its weights, and statistics, in place."""

    def __init__(self, seed):
        rngs = nnx.Rngs(seed)
        self.conv = nnx.Conv(3, 6, (4, 4), strides=4, rngs=rngs)
        self.norm = nnx.BatchNorm(6, use_running_average=True, rngs=rngs)
        self.head = nnx.Linear(6, 4, rngs=rngs)

    def features(self, image):
        return nnx.relu(self.norm(self.conv(image[None])))[0]

    def classify(self, features):
        return self.head(features.mean((0, 1)))


def measured(model, protocol=None, **options):
    protocol = protocol or Protocol(method="grad_cam")
    return evaluate.evaluate(model, IMAGES, LABELS, protocol, **NORMAL, **options)


def of(net):
    return Classifier(net.features, net.classify)


def renewed(net, seed):
    nnx.update(net, nnx.state(Net(seed)))


def test_a_model_that_changes_in_place_is_measured_as_it_is_now():
    net = Net(0)
    model = of(net)
    before = measured(model)
    renewed(net, 1)
    for now in (measured(model), measured(of(net))):  # the same classifier, and a new one
        pd.testing.assert_frame_equal(now, measured(of(Net(1))))
    assert not np.allclose(before.score, now.score)


def test_new_batch_statistics_count():
    net, fresh = Net(0), Net(0)
    measured(of(net))
    for one in (net, fresh):
        one.norm.mean[...] += jnp.arange(6.0)
    pd.testing.assert_frame_equal(measured(of(net)), measured(of(fresh)))
    assert not np.allclose(measured(of(net)).score, measured(of(Net(0))).score)


@pytest.mark.slow
def test_comparisons_mosaics_and_cascades_see_the_change_too():
    net = Net(0)
    images = RNG.integers(0, 256, (40, 12, 12, 3)).astype(np.uint8)
    labels = np.arange(40) % 5

    class Five(Net):
        def __init__(self, seed):
            super().__init__(seed)
            self.head = nnx.Linear(6, 5, rngs=nnx.Rngs(seed))

    net, other, protocol = Five(0), Five(7), Protocol(method="grad_cam")

    def everything(one):
        rows = evaluate.compare(of(one), of(other), images, protocol, **NORMAL)
        partners = evaluate.mosaic_partners(of(one), images, labels, protocol, **NORMAL)
        cascade = {"top_down": {"1_head": of(one)}}
        rows = rows.join(
            evaluate.evaluate(
                of(other),
                images,
                labels,
                protocol,
                **NORMAL,
                extra=["cascade", "randomisation"],
                prepared={"cascade": cascade, "randomisation": of(one)},
            )[["cascade_top_down", "randomised_similarity"]]
        )
        return rows.assign(partners=list(map(tuple, partners)))

    before = everything(net)
    nnx.update(net, nnx.state(Five(3)))
    after, right = everything(net), everything(Five(3))
    pd.testing.assert_frame_equal(after, right)
    for name in ("pearson", "partners", "cascade_top_down", "randomised_similarity"):
        assert not before[name].equals(after[name]), name


def test_a_dictionary_that_a_closure_reads():
    weights = {"w": jnp.float32(RNG.normal(size=(3, 4)))}
    features = jax.jit(lambda image: image * 1.0)
    model = Classifier(features, lambda f: f.mean((0, 1)) @ weights["w"])
    first = measured(model).score
    weights["w"] = -weights["w"]
    z = (IMAGES / 255 - 0.5) / 0.25
    logits = z.mean((1, 2)) @ np.float64(weights["w"])
    probability = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    np.testing.assert_allclose(measured(model).score, probability.max(1), rtol=1e-5)
    assert not np.allclose(first, probability.max(1))


def test_closures_of_one_architecture_share_a_compilation():
    measured_rows.clear_cache()

    def equinox(seed):
        net = eqx.nn.Conv2d(3, 6, 3, key=jax.random.key(seed))
        head = jnp.float32(np.random.default_rng(seed).normal(size=(6, 4)))

        @eqx.filter_jit
        def features(image):
            return jax.nn.relu(net(image.transpose(2, 0, 1)).transpose(1, 2, 0))

        return Classifier(features, lambda f: f.mean((0, 1)) @ head)

    for seed in range(3):
        measured(equinox(seed))
    assert measured_rows._cache_size() == 1


def test_what_differs_in_its_derivative_alone_is_another_program():
    forward = lift(lambda x: jax.nn.relu(x), SPEC), lift(lambda x: guided_relu(x), SPEC)
    assert forward[0].func != forward[1].func
    x = jnp.array([-1.0, 2.0, 3.0])
    np.testing.assert_array_equal(forward[0](x), forward[1](x))
    assert lift(lambda x: jax.nn.relu(x), SPEC).func == forward[0].func
    # Nor are two that differ in a constant.
    assert lift(lambda x: x * 0.1, SPEC).func != lift(lambda x: x * 0.10000001, SPEC).func


def test_no_model_stays_in_memory():
    seen = []
    for seed in range(3):
        weights = jnp.full((3, 4), float(seed + 1))
        seen.append(weakref.ref(weights))
        classify = lambda f, weights=weights: f.mean((0, 1)) @ weights  # noqa: E731
        measured(Classifier(lambda image: image * 1.0, jax.jit(classify) if seed else classify))
    del weights, classify
    gc.collect()
    assert [one() for one in seen] == [None] * 3


def test_all_arrays_are_leaves():
    """Also those of jitted parts, of loops, of numpy, and one that is read twice, once."""
    a, b, c = jnp.arange(3.0), np.float32([1, 0, 2]), jnp.ones(3)
    inner = jax.jit(lambda x: x * a + b)

    def function(x):
        return jax.lax.fori_loop(0, 2, lambda i, y: y + c, inner(x) + a)

    lifted = lift(function, SPEC)
    assert len(jax.tree.leaves(lifted)) == 3
    x = jnp.array([0.5, -1.0, 2.0])
    np.testing.assert_allclose(lifted(x), function(x))
    np.testing.assert_allclose(jax.jit(jax.vmap(lifted))(x[None])[0], function(x))


@pytest.mark.parametrize("kind", ["Auto", "Explicit"])
@pytest.mark.parametrize("method", ["grad_cam", "smooth_grad"])
def test_the_callers_mesh_changes_nothing(kind, method):
    weights = jnp.float32(RNG.normal(size=(3, 4)))
    model = Classifier(lambda image: image * 1.0, lambda f: f.mean((0, 1)) @ weights)
    protocol = Protocol(method=method)
    expected = measured(model, protocol)
    axis = getattr(jax.sharding.AxisType, kind)
    with jax.set_mesh(jax.make_mesh((1,), ("x",), axis_types=(axis,))):
        pd.testing.assert_frame_equal(measured(model, protocol), expected)
        evaluate.compare(model, model, IMAGES, protocol, **NORMAL)


def test_what_has_no_derivative_is_lifted_too():
    """Of its own kind each time; Eigen-CAM and its like need none."""
    weights = jnp.eye(3)
    no_rule = lambda x: jax.lax.linalg.schur(weights * x)[1].sum(0)  # noqa: E731
    no_reverse = lambda x: jax.lax.while_loop(lambda y: y[0] < 9, lambda y: y + weights[0], x)  # noqa: E731
    x = jnp.array([1.0, 2.0, 3.0])
    for function in (no_rule, no_reverse):
        lifted = lift(function, SPEC)
        assert len(jax.tree.leaves(lifted)) == 1
        np.testing.assert_allclose(lifted(x), function(x))
