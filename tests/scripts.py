"""The launch scripts, run as a user runs them."""

import contextlib
import io
import multiprocessing
import os
import pickle
import runpy
import sys
import tempfile
import time
import warnings
from pathlib import Path
from typing import NamedTuple
from unittest import mock

ROOT = Path(__file__).parent.parent

# Processes are forked off one that has imported what they import, which is most of the time of the
# short ones. JAX has read its environment variables there; XLA reads XLA_FLAGS in the new process.
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        *("absl.logging", "ml_collections.config_flags", "kdxai.cli", "kdxai.report.write"),
        *("kdxai.study.audit", "kdxai.study.run", "kdxai.training.hosts"),
    ]
)
PATIENCE = 300  # seconds for a process


def environment(devices=1):
    """That of a process which is to find so many devices."""
    return os.environ | {
        "XLA_FLAGS": f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count={devices}",
        "COLUMNS": "200",
    }


class Process:
    """`function(*arguments)` in a process of its own that finds so many devices.

    Args:
      variables: of its environment, besides those of this process.
    """

    def __init__(self, function, *arguments, devices=1, variables=None):
        self._directory = tempfile.TemporaryDirectory()
        self._streams = [Path(self._directory.name) / name for name in ("stdout", "stderr")]
        for path in self._streams:
            path.touch()
        # Pickled once more: the function's module may look for devices as it is imported.
        call = pickle.dumps((function, arguments))
        variables = environment(devices) | (variables or {})
        self._process = _FORKS.Process(target=_call, args=(variables, self._streams, call))
        self._process.start()

    @property
    def stdout(self):
        return self._streams[0].read_text()

    @property
    def stderr(self):
        return self._streams[1].read_text()

    @property
    def returncode(self):
        return self._process.exitcode

    def wait_for(self, text):
        """Until it says so on stderr."""
        self.wait_until(lambda: text in self.stderr)

    def wait_until(self, true):
        end = time.monotonic() + PATIENCE
        while not true():
            assert self._process.is_alive(), self.stderr
            assert time.monotonic() < end, self.stderr
            time.sleep(0.02)

    def send_signal(self, number):
        os.kill(self._process.pid, number)

    def wait(self):
        self._process.join(timeout=PATIENCE)
        return self.kill()

    def kill(self):
        self._process.kill()
        self._process.join()
        return self


def _call(environment, streams, call):
    for number, path in enumerate(streams, 1):
        os.dup2(os.open(path, os.O_WRONLY), number)
    os.environ.clear()
    os.environ.update(environment)
    function, arguments = pickle.loads(call)
    function(*arguments)


def _script(path, *arguments):
    os.chdir(ROOT)
    sys.argv = [path, *arguments]
    runpy.run_path(path, run_name="__main__")


def start(script, *arguments, **options):
    """A launch script, as a `Process` with these options."""
    return Process(_script, str(ROOT / "launch" / script), *map(str, arguments), **options)


def launch(script, *arguments, **options):
    """A launch script that has ended."""
    return start(script, *arguments, **options).wait()


class Ended(NamedTuple):
    """What a script left that ran in this process."""

    returncode: int
    stdout: str
    stderr: str


def call(script, *arguments):
    """A launch script in this process: for what trains little, and no signal or damage ends."""
    path, said = str(ROOT / "launch" / script), [io.StringIO(), io.StringIO()]
    code = 0
    with (
        mock.patch.dict(os.environ, COLUMNS="200"),
        mock.patch.object(sys, "argv", [path, *map(str, arguments)]),
        contextlib.chdir(ROOT),
        contextlib.redirect_stdout(said[0]),
        contextlib.redirect_stderr(said[1]),
        warnings.catch_warnings(),
    ):
        try:
            runpy.run_path(path, run_name="__main__")
        except SystemExit as end:
            code = end.code or 0
    return Ended(code, *(stream.getvalue() for stream in said))


def refused(script, *arguments):
    """The one plain line of a launch script, run in this process, that the user can mend."""
    return refusal(call(script, *arguments))


def refusal(ended):
    """The one plain line on stderr, its last; code 2, no traceback and nothing on stdout."""
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stdout == ""
    lines = ended.stderr.splitlines()
    assert [line for line in lines if line.startswith("error: ")] == lines[-1:], ended.stderr
    return lines[-1]


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
        # Compiled soonest, with a last map of 8x8. Some CPUs' bfloat16 is not kept in the cache.
        for setting in ("name=plain4-w4", "dtype=float32")
    ),
]


def study(workdir, *flags):
    """The command line of a small study."""
    known = ["study.py", "--config", "configs/study.py:quick", "--workdir", workdir]
    return [*known, *SMALL, *flags]
