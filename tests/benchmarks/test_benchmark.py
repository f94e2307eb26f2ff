"""Timing, agreement, and what each task computes; small models, no PyTorch."""

import json
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from ml_collections import ConfigDict
from scripts import call

from benchmarks import run, tasks, timing
from benchmarks.tasks import Task, Work
from kdxai import classifiers, evaluate
from kdxai.errors import UserError
from kdxai.protocol import Protocol

CONFIG = {
    "tasks": "cam,grad_cam,adcc,deletion,score_cam",
    "dtype": "float32",
    "peers": False,
    "run": "",
    "model": "plain5-w4",
    "images": 3,
    "few": 2,
    "repeats": 2,
    "limit": 60.0,
    "seed": 0,
}


@pytest.fixture(scope="module")
def inputs():
    return run.inputs(ConfigDict(CONFIG))


def logits(inputs, images, **options):
    trained = inputs.trained
    return trained.model.apply(trained.variables, np.float32(images), **options)


def test_limit_interrupts_only_what_is_slow():
    with pytest.raises(TimeoutError), timing.limit(0.05):
        time.sleep(5)
    with timing.limit(0.2):
        pass
    time.sleep(0.3)  # no alarm is left behind


def test_calls_take_turns():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in "ab"}
    times = timing.in_turns(calls, 3)
    assert order == list("ababab")
    assert [len(times[name]) for name in "ab"] == [3, 3]


def test_sleeping_takes_wall_time_but_no_processor():
    (taken,) = timing.in_turns({"sleep": lambda: time.sleep(0.1)}, 1)["sleep"]
    assert taken.wall == pytest.approx(0.1, abs=0.05)
    assert taken.cpu < 0.05


def test_agreement():
    a = np.array([[1.0, 2.0, 4.0], [3.0, 3.0, 3.0]])
    assert run.agreement(a, 5 * a + 1) == pytest.approx(1)
    assert run.agreement(a, -a) == pytest.approx(-1)
    assert run.agreement(a, np.array([[1.0, 2.0, 4.0], [3.0, 3.0, 4.0]])) == 0
    x, y = np.random.default_rng(0).normal(size=(2, 20))
    assert run.agreement(x, y) == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert run.agreement(a[:1, :, None], a[:1, :, None]) == pytest.approx(1)


def test_single_numbers_agree_by_value():
    assert run.agreement(np.array([2.0]), np.array([2.001])) == 1
    assert run.agreement(np.array([2.0]), np.array([2.01])) == 0


def fake(result, seconds=0.0):
    """A task or peer that sleeps, then answers, or raises."""

    def call():
        time.sleep(seconds)
        if isinstance(result, Exception):
            raise result
        return np.array(result)

    return lambda inputs: Work(call, 2)


class Peer:
    def __init__(self, library, build, target=None, differs=""):
        self.library, self.build, self.target, self.differs = library, build, target, differs


def test_compare():
    peers = [
        Peer("same", fake([1.0, 2.0, 4.0], 0.09), target=2),
        Peer("wrong", fake([4.0, 2.0, 1.0])),
        Peer("other definition", fake([1.0, 2.0, 3.0], 0.03), differs="rounds"),
        Peer("slow", fake([1.0, 2.0, 4.0], 9)),
        Peer("broken", fake(ValueError("no such layer"))),
    ]
    rows = run.compare(Task("fake", fake([1.0, 2.0, 4.0], 0.03)), peers, None, 3, limit=0.5)
    ours, *others = rows
    assert ours.library == "kdxai"
    assert ours.ratio is None
    assert ours.milliseconds == pytest.approx(15, abs=5)  # two units a call
    assert ours.low <= ours.milliseconds <= ours.high
    same, wrong, other, slow, broken = others
    assert same.ratio == pytest.approx(3, rel=0.3)
    assert (same.target, same.note) == (2, "")
    assert wrong.ratio is None
    assert "wrong" in wrong.note
    assert other.ratio == pytest.approx(1, rel=0.3)
    assert other.note == "rounds"
    assert other.agreement < 0.999
    assert slow.note == "unfinished after 0.5 s"
    assert broken.note == "failed: ValueError: no such layer"
    assert [row.milliseconds for row in (wrong, slow, broken)] == [None] * 3


@pytest.mark.slow
def test_untrained_statistics_are_those_of_the_images(inputs):
    """Evaluation mode then gives what training mode does with its batch statistics."""
    trained, _ = logits(inputs, inputs.images, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(logits(inputs, inputs.images), trained, atol=1e-3)
    np.testing.assert_allclose(inputs.images.mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(inputs.images.std((0, 1, 2)), 1, atol=1e-5)
    np.testing.assert_array_equal(inputs.classes, logits(inputs, inputs.images).argmax(-1))


def test_relevance_is_a_ranking_without_ties(inputs):
    for relevance in inputs.relevance:
        np.testing.assert_allclose(np.sort(relevance.ravel()), np.arange(1024) / 1024, atol=1e-6)


def test_maps(inputs):
    features = logits(inputs, inputs.images, method="features")
    head = np.asarray(inputs.trained.variables["params"]["head"]["kernel"])
    cam = np.maximum(np.einsum("nhwk,nk->nhw", features, head.T[inputs.classes]), 0)
    expected = jax.image.resize(cam, (3, 32, 32), "bilinear")
    for method in ("cam", "grad_cam"):
        work = tasks.TASKS[method].build(inputs)
        assert work.units == 3
        maps = work.call()
        assert isinstance(maps, np.ndarray)
        assert run.agreement(maps, expected) > 0.9999


def test_deletion(inputs):
    curve = tasks.TASKS["deletion"].build(inputs).call()
    assert curve.shape == (3, 8)
    for i in range(3):
        order = np.argsort(-inputs.relevance[i].ravel())
        image = inputs.images[i].reshape(-1, 3).copy()
        image[order[:384]] = 0  # three of eight shares
        p = jax.nn.softmax(logits(inputs, image.reshape(1, 32, 32, 3)))[0, inputs.classes[i]]
        assert curve[i, 2] == pytest.approx(float(p), abs=1e-4)


@pytest.mark.slow
def test_perturbation_areas_are_those_of_a_study(inputs):
    areas = tasks.TASKS["perturbation"].build(inputs).call()
    rows = evaluate.evaluate(
        classifiers.as_classifier(inputs.trained)._replace(head=None),
        *(inputs.pixels, inputs.classes, Protocol(method="grad_cam")),
        mean=inputs.trained.mean,
        std=inputs.trained.std,
        extra=["perturbation"],
    )
    # The inputs' relevance is the ranking of Grad-CAM.
    np.testing.assert_allclose(areas, rows[["deletion", "insertion"]], atol=2e-3)


def test_forward_flops_are_twice_the_multiply_adds(inputs):
    """Of the convolutions and the head, by hand; the rest is less than 5 % of them."""
    params = inputs.trained.variables["params"]
    shape = jax.eval_shape(lambda: inputs.trained.model.init(jax.random.key(0), inputs.images))
    assert jax.tree.structure(shape["params"]) == jax.tree.structure(params)
    sides = {"stage1": 32, "stage2": 16, "stage3": 8, "stage4": 8, "head": 1}
    expected = 0
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        if name.endswith("kernel"):
            expected += 2 * leaf.size * sides[name.split("/")[0].split("_")[-1].split(".")[0]] ** 2
    assert tasks.forward_flops(inputs) / len(inputs.images) == pytest.approx(expected, rel=0.2)
    assert tasks.forward_flops(inputs, 3) == 3 * tasks.forward_flops(inputs)


def test_operations_are_counted_in_the_program_of_the_cpu(inputs, monkeypatch):
    """As those of a plugin, such as CUDA's, are not; with no CPU the task has no count."""
    expected, count = tasks.forward_flops(inputs), jax.stages.Lowered.cost_analysis

    def by_a_plugin(program):
        device = jax.config.jax_default_device
        return count(program) if device is not None and device.platform == "cpu" else None

    monkeypatch.setattr(jax.stages.Lowered, "cost_analysis", by_a_plugin)
    assert tasks.TASKS["train_step"].build(inputs).flops == 3 * expected

    def no_cpu(backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(tasks.jax, "local_devices", lambda backend=None: no_cpu(backend))
    assert tasks.forward_flops(inputs, 3) is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["train_step", "distillation_step", "distillation_step_cached"])
def test_steps_start_at_the_loss_and_go_down(name, inputs):
    work = tasks.TASKS[name].build(inputs)
    z = np.asarray(logits(inputs, inputs.images), np.float64)
    ce = lambda z, y: -(y * (z - np.log(np.exp(z).sum(1, keepdims=True)))).sum(1).mean()  # noqa: E731
    expected = ce(z, np.eye(10)[inputs.classes])
    if name != "train_step":
        soft = np.exp(z / 6) / np.exp(z / 6).sum(1, keepdims=True)
        expected = 0.95 * 36 * ce(z / 6, soft) + 0.05 * expected
    losses = [work.call()[0] for _ in range(3)]
    assert losses[0] == pytest.approx(expected, rel=1e-3)
    assert losses[2] < losses[0]


def test_other_ways_to_train_give_the_same_loss(inputs):
    rows = run.compare(tasks.TASKS["train_step"], (), inputs, repeats=1, limit=60)
    assert [row.units for row in rows] == [3, 3, 3 * tasks.AHEAD]
    assert [row.agreement for row in rows] == [None, 1, 1]
    assert [row.note for row in rows] == [""] * 3


def test_a_start_is_timed_cold_and_warm(tmp_path, inputs, monkeypatch):
    """The second process finds what the first has compiled; an empty cache is another directory."""
    caches = []

    def fake(command, env, **options):
        cache = Path(env["JAX_COMPILATION_CACHE_DIR"])
        caches.append((cache, len(list(cache.iterdir()))))
        (cache / "program").touch()
        return SimpleNamespace(returncode=0, stdout="2.5\n", stderr="")

    monkeypatch.setattr(tasks.subprocess, "run", fake)
    cold, warm = tasks.start(False, inputs), tasks.start(True, inputs)
    assert [work.call()[0] for work in (cold, cold, warm, warm)] == [2.5] * 4
    assert [found for _, found in caches] == [0, 0, 0, 1]


@pytest.mark.slow
def test_the_first_step_of_a_fresh_process(inputs):
    (loss,) = tasks.start(False, inputs).call()
    assert 0 < loss < 20


def test_an_unknown_task_is_named(tmp_path):
    with pytest.raises(UserError, match="no task 'cma'; known: matmul, "):
        run.benchmark(ConfigDict(CONFIG | {"tasks": "cam,cma"}), tmp_path)


def test_a_missing_library_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "quantus", None)
    monkeypatch.delitem(sys.modules, "benchmarks.peers", raising=False)
    with pytest.raises(UserError, match=r"PyTorch libraries.*pip install -e '.\[bench\]'"):
        run.benchmark(ConfigDict(CONFIG | {"peers": True}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_user_sees_a_table_and_finds_json(tmp_path):
    flags = [f"--config.{key}={value}" for key, value in CONFIG.items() if key != "tasks"]
    done = call(
        *("../benchmarks/__main__.py", "--config", "benchmarks/config.py", "--workdir", tmp_path),
        *("--config.tasks=matmul,forward,cam,score_cam,copy", *flags),
    )
    assert done.returncode == 0, done.stderr
    assert "Score-CAM" in done.stdout
    told = json.loads((tmp_path / "benchmark.json").read_text())
    product, forward, cam, score_cam, copy = told["rows"]
    assert [(row["task"], row["units"]) for row in (cam, score_cam)] == [
        ("CAM", 3),
        ("Score-CAM", 2),
    ]
    assert product["ceiling"] == 1
    assert forward["ceiling"] == pytest.approx(forward["gflops"] / product["gflops"])
    assert cam["per_second"] == pytest.approx(1000 / cam["milliseconds"])
    assert 0.1 < copy["gbytes"] < 10_000
    assert 0.1 < told["peak_memory_gib"] < 100
    assert all(row["milliseconds"] > 0 and row["repeats"] == 2 for row in told["rows"])
    assert told["machine"]["jax"]
    assert (tmp_path / "benchmark.md").read_text().startswith("| task | library |")
