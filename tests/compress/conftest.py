from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai import models
from kdxai.compress import cost
from kdxai.models.trained import Trained


def network(name, seed=0, classes=5, size=8, **options):
    """A network of random weights whose BatchNorm is nothing like that of a fresh one."""
    architecture = {"name": name, **options}
    model = models.create(**architecture, num_classes=classes)
    shapes = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, size, size, 3)))
    rng = np.random.default_rng(seed)

    def random(path, like):
        if path[-1].key in ("scale", "var"):
            return jnp.asarray(rng.uniform(0.5, 1.5, like.shape), jnp.float32)
        deviation = np.prod(like.shape[:-1]) ** -0.5 if path[-1].key == "kernel" else 0.3
        return jnp.asarray(rng.normal(0, deviation, like.shape), jnp.float32)

    return Trained(
        model=model,
        architecture=architecture,
        variables=jax.tree_util.tree_map_with_path(random, shapes),
        mean=np.array([0.4, 0.5, 0.6], np.float32),
        std=np.array([0.2, 0.25, 0.3], np.float32),
        class_names=tuple("abcdefgh"[:classes]),
        image_shape=(size, size, 3),
        facts={"model": name, "test_accuracy": 0.9, "origin": {"kind": "import"}},
    )


@pytest.fixture(autouse=True)
def untimed(monkeypatch):
    """No network is compiled only to be timed."""
    monkeypatch.setattr(cost, "seconds_per_image", lambda trained: 0.0)


@pytest.fixture(scope="session")
def make():
    return network


@pytest.fixture(scope="session")
def logits():
    """Of two normalised images."""
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    apply = jax.jit(lambda model, variables: model.apply(variables, x), static_argnums=0)
    return lambda model: np.asarray(apply(model.model, model.variables))


@pytest.fixture(scope="session")
def cut():
    """Logits of two normalised images, in one pass and from the map after the second stage."""

    @partial(jax.jit, static_argnums=0)
    def both(model, variables):
        x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
        whole, maps = model.apply(variables, x, taps=("stage2",))
        again = model.apply(variables, maps["stage2"], stage="stage2", method="classify")
        return whole, again

    return lambda model: both(model.model, model.variables)


@pytest.fixture(scope="session")
def small():
    return network("resnet8-w4")


@pytest.fixture(scope="session")
def pictures():
    return np.random.default_rng(1).integers(0, 256, (24, 8, 8, 3)).astype(np.uint8)
