import os
import subprocess
import sys

import jax.numpy as jnp
import pytest

from kdxai import devices
from kdxai.training.program import compute_dtype

ONEDNN = {devices.ONEDNN: True}


@pytest.mark.parametrize(
    ("capable", "flags", "options", "auto"),
    [
        (True, "", ONEDNN, jnp.bfloat16),
        (True, "--xla_dump_to=/tmp", ONEDNN, jnp.bfloat16),
        (False, "", {}, jnp.float32),
        (True, f"--{devices.ONEDNN}=false", {}, jnp.float32),
        (True, f"--{devices.ONEDNN}=true", {}, jnp.bfloat16),
        (False, f"--{devices.ONEDNN}=true", {}, jnp.float32),
    ],
)
def test_bfloat16_is_left_to_onednn_where_it_can_and_may(
    monkeypatch, capable, flags, options, auto
):
    monkeypatch.setattr(devices, "_cpu_has_bfloat16", lambda: capable)
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert devices.compiler_options(jnp.bfloat16) == options
    assert devices.compiler_options(jnp.float32) == {}
    assert compute_dtype("auto") == auto
    assert compute_dtype("bfloat16") == jnp.bfloat16


@pytest.mark.parametrize(
    ("batch_sizes", "environment", "count"),
    [
        ([64, 512], {}, 2),
        ([], {}, 2),
        ([64, 15], {}, 1),
        ([64], {"XLA_FLAGS": "--xla_force_host_platform_device_count=3"}, 3),
        ([64], {"JAX_NUM_CPU_DEVICES": "4"}, 4),
    ],
)
def test_a_device_of_every_core(batch_sizes, environment, count):
    """In a process of its own, as JAX looks for devices once."""
    code = (
        "import os; os.sched_getaffinity = lambda _: {0, 1}\n"
        "import jax; from kdxai import devices\n"
        f"devices.use_cores({batch_sizes}); print(jax.device_count())"
    )
    clean = {key: value for key, value in os.environ.items() if key != "XLA_FLAGS"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean | environment, capture_output=True, text=True
    )
    assert done.stdout == f"{count}\n", done.stderr


def test_results_are_fetched_in_order_before_many_more_are_made():
    made = []
    results = (made.append(i) or jnp.int32(i) for i in range(20))
    for i, result in enumerate(devices.fetch(results)):
        assert result == i
        assert len(made) <= i + 1 + devices.AHEAD
    assert len(made) == 20
