import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai import models
from kdxai.models.trained import Trained


def network(name, seed=0, classes=5, size=8, **options):
    """A network of random weights whose BatchNorm is nothing like that of a fresh one."""
    architecture = {"name": name, **options}
    model = models.create(**architecture, num_classes=classes)
    variables = model.init(jax.random.key(seed), jnp.zeros((1, size, size, 3)))
    rng = np.random.default_rng(seed)

    def random(path, leaf):
        if path[-1].key in ("scale", "var"):
            return jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape), jnp.float32)
        if path[-1].key in ("bias", "mean"):
            return jnp.asarray(rng.normal(0, 0.3, leaf.shape), jnp.float32)
        return leaf

    return Trained(
        model=model,
        architecture=architecture,
        variables=jax.tree_util.tree_map_with_path(random, variables),
        mean=np.array([0.4, 0.5, 0.6], np.float32),
        std=np.array([0.2, 0.25, 0.3], np.float32),
        class_names=tuple("abcdefgh"[:classes]),
        image_shape=(size, size, 3),
        facts={"model": name, "test_accuracy": 0.9, "origin": {"kind": "import"}},
    )


@pytest.fixture(scope="session")
def make():
    return network


@pytest.fixture(scope="session")
def small():
    return network("resnet8-w4")


@pytest.fixture(scope="session")
def pictures():
    return np.random.default_rng(1).integers(0, 256, (24, 8, 8, 3)).astype(np.uint8)
