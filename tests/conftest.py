import math
import os
import re
import time
from importlib import metadata

# Compiling is most of the time of these tests, so it is done quickly, and once for all processes.
# JAX 0.10 has two code generators; the older one takes two thirds of the time.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=0 --xla_force_host_platform_device_count=1"
    + " --xla_cpu_use_fusion_emitters=false" * metadata.version("jaxlib").startswith("0.10."),
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import numpy as np
import pytest
from scripts import call, study

from kdxai import progress

# Files of 14 to 60 seconds, the longest first: a worker that got one last would keep the other
# waiting. Those that share a study are apart, as one worker makes it.
LONG = [
    *("test_evaluate", "test_audit", "test_truth", "test_train_streaming", "test_train_hosts"),
    *("test_study", "test_train", "test_teacher", "test_benchmark", "test_steps", "test_shapes"),
    *("test_damage", "test_loop", "test_measures_columns", "test_claims", "test_lifting"),
]


def pytest_collection_modifyitems(items):
    places = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path.stem, len(LONG)))


@pytest.fixture(scope="session")
def common(tmp_path_factory):
    """A directory that all workers of this test run share."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session", autouse=True)
def own_cache(common):
    """No test reads or fills the user's cache of data or of compiled programs."""
    os.environ["KDXAI_CACHE"] = str(common / "cache")
    compiled = str(common / "compiled")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = compiled
    jax.config.update("jax_compilation_cache_dir", compiled)


@pytest.fixture(scope="session", autouse=True)
def no_line_a_minute():
    """Whether a test of what is printed takes a minute is up to the machine."""
    progress.Lines.told = math.inf


@pytest.fixture
def usual_code_generator(monkeypatch):
    """Processes that the test starts use it: for what two programs must compute alike."""
    flags = os.environ["XLA_FLAGS"].replace(" --xla_cpu_use_fusion_emitters=false", "")
    monkeypatch.setenv("XLA_FLAGS", flags)


@pytest.fixture
def undrawn(monkeypatch):
    """Reports of this process draw no figures, which takes long: other tests look at them."""
    from matplotlib.figure import Figure  # the library's tests need no matplotlib

    from kdxai.report import drawn
    from kdxai.report.charts import maps, training
    from kdxai.report.charts.chart import Chart

    def empty(name):
        return Chart(name, "", "", Figure((1, 1)))

    for name in ("table1", "accuracies", "single"):
        monkeypatch.setattr(drawn, name, lambda *_: [])
    monkeypatch.setattr(maps, "gallery", lambda method, *_: empty(f"maps-{method}"))
    monkeypatch.setattr(maps, "side_by_side", lambda name, *_: empty(name))
    monkeypatch.setattr(training, "training", lambda *_: empty("training-curves"))


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory):
    """A decoded directory: 100 training and 30 test images, 8x8, three classes of colour."""
    directory = tmp_path_factory.mktemp("tiny")
    rng = np.random.default_rng(0)
    for split, size in (("train", 100), ("test", 30)):
        label = rng.integers(0, 3, size).astype(np.int32)
        image = rng.integers(0, 120, (size, 8, 8, 3))
        image[np.arange(size), :, :, label] += 90
        np.savez(directory / f"{split}.npz", image=image.astype(np.uint8), label=label)
    return directory


@pytest.fixture
def tiny_config(tiny_data):
    """A run of a few seconds."""
    from kdxai.training import config as training  # needs more than the library does

    config = training.default()
    config.data.name = "tiny"
    config.data.data_dir = str(tiny_data)
    config.model.name = "plain3-w4"
    config.model.dtype = "float32"  # some CPUs' bfloat16 is not kept in the compilation cache
    config.epochs = 2
    config.batch_size = 16
    config.optim.lr = 0.05
    return config


@pytest.fixture(scope="session")
def small_study(common):
    """The work directory of a finished study, whose control another job of an array did first."""
    workdir, done = common / "study" / "run", common / "study" / "done"
    try:
        done.parent.mkdir()
    except FileExistsError:  # another worker makes it
        for _ in range(600):
            if done.exists():
                return workdir
            time.sleep(1)
        raise AssertionError("the other worker's study did not end well") from None
    share = call(*study(workdir, "--config.cell=2/2"))
    assert share.returncode == 0, share.stderr
    assert "share 2/2 is done" in share.stdout
    assert [path.name for path in (workdir / "seed0").iterdir()] == ["control"]
    assert not (workdir / "report.md").exists()
    whole = call(*study(workdir))
    assert whole.returncode == 0, whole.stderr
    assert "Average drop" in whole.stdout
    said = " ".join(whole.stdout.split())
    assert re.search(r"as those of the teacher\? (Yes|No|Undecided): speaking of these", said)
    assert "control: epoch" not in whole.stderr
    done.touch()
    return workdir
