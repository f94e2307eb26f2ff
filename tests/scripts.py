"""The launch scripts, run as a user runs them."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent


def environment(devices=1):
    """That of a script which is to find so many devices."""
    return os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
        "COLUMNS": "200",
    }


def launch(script, *arguments, devices=1, before=()):
    """Run a launch script as a user does; returns the finished process."""
    command = [*before, sys.executable, str(ROOT / "launch" / script), *map(str, arguments)]
    return subprocess.run(
        command, env=environment(devices), cwd=ROOT, capture_output=True, text=True, timeout=300
    )


# The quick study, cut down to a minute.
SMALL = [
    "--config.data.train_size=200",
    "--config.data.validation_size=50",
    "--config.evaluation.images=40",
    "--config.evaluation.whole=False",
    "--config.evaluation.gallery=2",
    *(f"--config.models.{name}.epochs=1" for name in ("teacher", "student", "control")),
    *(
        f"--config.models.{name}.model.{setting}"
        for name in ("teacher", "student", "control", "untrained")
        # Some CPUs' bfloat16 is not kept in the compilation cache.
        for setting in ("name=wrn-10-1", "dtype=float32")
    ),
]


def study(workdir, *flags):
    return launch("study.py", "--config", "configs/study.py:quick", "--workdir", workdir, *flags)
