import jax.numpy as jnp
import pytest

from kdxai.training import devices, runs

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
    assert runs.compute_dtype("auto") == auto
    assert runs.compute_dtype("bfloat16") == jnp.bfloat16
