"""The hash by which a report names a model's parameters."""

import jax.numpy as jnp
import numpy as np

from kdxai.fingerprints import fingerprint

VARIABLES = {
    "params": {"kernel": np.arange(6, dtype=np.float32).reshape(2, 3), "bias": np.zeros(3)},
    "batch_stats": {"mean": np.ones(3)},
}


def changed(change):
    return VARIABLES | {"params": VARIABLES["params"] | change}


def test_equal_parameters_have_one_hash_wherever_they_are():
    first = fingerprint(VARIABLES)
    assert len(first) == 64
    on_device = changed({"kernel": jnp.asarray(VARIABLES["params"]["kernel"])})
    turned = changed({"kernel": np.asfortranarray(VARIABLES["params"]["kernel"])})
    reordered = dict(reversed(VARIABLES.items()))
    assert {fingerprint(v) for v in (on_device, turned, reordered)} == {first}


def test_one_bit_one_name_or_one_shape_changes_it():
    kernel = VARIABLES["params"]["kernel"].copy()
    kernel[1, 2] = np.nextafter(kernel[1, 2], np.float32(9))
    others = [
        changed({"kernel": kernel}),
        changed({"kernel": VARIABLES["params"]["kernel"].reshape(3, 2)}),
        changed({"bias": np.zeros(3, np.float32)}),
        VARIABLES | {"stats": VARIABLES["batch_stats"]},
    ]
    hashes = {fingerprint(variables) for variables in (VARIABLES, *others)}
    assert len(hashes) == 5
