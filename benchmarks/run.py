"""Time the tasks, and the peers in turns with them."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from benchmarks import report, timing
from benchmarks.report import Row
from benchmarks.tasks import TASKS, Inputs, Task, Work
from benchmarks.timing import Seconds
from kdxai import classifiers, models
from kdxai.data import augment, datasets, shapes
from kdxai.errors import UserError
from kdxai.explain import METHODS, min_max, resize
from kdxai.metrics.perturbation import ranks
from kdxai.models.trained import Trained, load
from kdxai.progress import progress
from kdxai.training import program, runs

OURS = "kdxai"
# Pearson's r of results that follow one definition.
SAME = {"float32": 0.999, "bfloat16": 0.99}


def benchmark(config: ConfigDict, workdir: str | Path) -> list[Row]:
    """Time what a config asks for, and write `benchmark.json` and `benchmark.md`.

    Raises:
      UserError: bad settings, no such task, a library that is missing.
    """
    workdir = Path(workdir)
    names = [name.strip() for name in config.tasks.split(",")]
    for name in names:
        if name not in TASKS:
            raise UserError(f"there is no task '{name}'; known: {', '.join(TASKS)}")
    for key in ("images", "few", "repeats", "limit"):
        if config[key] <= 0:
            raise UserError(f"{key} must be at least 1, not {config[key]}")
    peers = import_peers() if config.peers else {}
    whole = inputs(config)
    runs.claim_directory(workdir, config)
    rows: list[Row] = []
    with progress() as bar:
        shown = bar.add_task("benchmark", total=len(names), note="")
        for done, name in enumerate(names):
            bar.update(shown, completed=done, note=name)
            part = whole.first(divisible(config.few)) if TASKS[name].heavy else whole
            rows += compare(
                *(TASKS[name], peers.get(name, ()), part),
                *(config.repeats, config.limit, SAME[jnp.dtype(part.trained.model.dtype).name]),
            )
    ceiling = next((row.gflops for row in rows if row.task == TASKS["matmul"].title), None)
    if ceiling:
        rows = [row._replace(ceiling=row.gflops and row.gflops / ceiling) for row in rows]
    report.write(workdir, config, rows)
    return rows


def import_peers() -> dict[str, tuple[Any, ...]]:
    """`peers.PEERS`.

    Raises:
      UserError: PyTorch or one of the libraries is missing.
    """
    try:
        from benchmarks.peers import PEERS
    except ImportError as error:
        raise UserError(
            f"peers=True needs the PyTorch libraries ({error}): pip install -e '.[bench]'"
        ) from error
    return PEERS


def divisible(count: int) -> int:
    """The next number of images that the devices divide."""
    return -(-count // jax.device_count()) * jax.device_count()


def inputs(config: ConfigDict) -> Inputs:
    """A model with its test images, or untrained weights with rendered images."""
    count = divisible(config.images)
    if config.run:
        trained = load(config.run, program.compute_dtype(config.dtype))
        pixels = datasets.load(**trained.facts["data"]).test.image[:count]
    else:
        pixels = shapes.render_split(config.seed, count)[0]
        trained = untrained(config.model, pixels, config.seed, config.dtype)
    images = np.asarray(augment.normalise(pixels, trained.mean, trained.std))
    classifier = classifiers.as_classifier(trained)

    @jax.jit
    @jax.vmap
    def look(image: jax.Array) -> tuple[jax.Array, jax.Array]:
        c = classifier(image).argmax()
        heatmap = resize(min_max(METHODS["grad_cam"](classifier, image, c)), image.shape[:2])
        return c, 1 - (1 + ranks(heatmap)) / heatmap.size

    return Inputs(trained, pixels, images, *map(np.asarray, look(images)))


def untrained(name: str, pixels: np.ndarray, seed: int, dtype: str = "float32") -> Trained:
    """Fresh weights, with the BatchNorm statistics of the images themselves.

    Without those the activations grow from block to block, and every probability is 0 or 1.
    """
    share = pixels / np.float32(255)
    mean, std = share.mean((0, 1, 2)), share.std((0, 1, 2))
    names = shapes.CLASS_NAMES
    model = models.create(name, num_classes=len(names), dtype=program.compute_dtype(dtype))
    images = augment.normalise(jnp.asarray(pixels), mean, std)
    variables = jax.jit(model.init)(jax.random.key(seed), images[:1])
    _, updates = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))(
        variables, images
    )
    # A step of the running mean is 0.1 of the way to the batch.
    stats = jax.tree.map(
        lambda new, old: 10 * new - 9 * old, updates["batch_stats"], variables["batch_stats"]
    )
    return Trained(
        model=model,
        architecture={"name": name},
        variables={**variables, "batch_stats": stats},
        mean=mean,
        std=std,
        class_names=names,
        image_shape=pixels.shape[1:],
        facts={},
    )


def compare(
    task: Task,
    peers: Any,
    inputs: Inputs,
    repeats: int,
    limit: float,
    same: float = SAME["float32"],
) -> list[Row]:
    """One task by kdxai and by those who can: warmed up, checked, then timed in turns."""
    ours = task.build(inputs)
    mine = ours.call()
    rows, works = [], {OURS: ours}
    for peer in (*task.others, *peers):
        row = Row(task.title, peer.library, task.unit, ours.units, target=peer.target)
        try:
            with timing.limit(limit):
                work = peer.build(inputs)
                theirs = work.call()
        except TimeoutError:
            rows.append(row._replace(note=f"unfinished after {limit:g} s"))
            continue
        except UserError:
            raise
        except Exception as error:  # Whatever another library raises is its result.
            rows.append(row._replace(note=f"failed: {type(error).__name__}: {error}"))
            continue
        r = agreement(mine, theirs)
        note = peer.differs
        if not note and r < same:
            note = f"wrong: its result differs (r = {r:.3f})"
        else:
            works[peer.library] = work
        rows.append(row._replace(agreement=r, note=note))
    repeats = 1 if task.slow else repeats
    times = timing.in_turns({name: work.call for name, work in works.items()}, repeats)
    first = Row(task.title, OURS, task.unit, ours.units)
    return [timed(row, works, times) for row in (first, *rows)]


def timed(row: Row, works: dict[str, Work], times: dict[str, list[Seconds]]) -> Row:
    """A row with its times, where there are any."""
    if row.library not in times:
        return row
    work, taken = works[row.library], np.array(times[row.library])
    wall, cpu = np.median(taken, axis=0)
    ours = np.median(times[OURS], axis=0) / works[OURS].units
    ratios = np.array([wall, cpu]) / work.units / ours
    each = 1000 / work.units
    return row._replace(
        units=work.units,
        milliseconds=float(wall * each),
        low=float(taken[:, 0].min() * each),
        high=float(taken[:, 0].max() * each),
        cpu_milliseconds=float(cpu * each),
        repeats=len(taken),
        per_second=float(work.units / wall),
        gflops=work.flops and float(work.flops / wall / 1e9),
        gbytes=work.bytes and float(work.bytes / wall / 1e9),
        ratio=None if row.library == OURS else float(ratios[0]),
        cpu_ratio=None if row.library == OURS else float(ratios[1]),
    )


def agreement(a: np.ndarray, b: np.ndarray) -> float:
    """The smallest Pearson's r over the rows of two arrays [N, ...]; numbers [N] are one row.

    A constant row agrees with another constant one, and with nothing else. Single numbers agree
    (1, else 0) where they are the same to a part in a thousand.
    """
    if np.size(a) == np.size(b) == 1:
        return float(np.allclose(a, b, rtol=1e-3, atol=0))
    a, b = (np.asarray(x, np.float64).reshape(len(x) if np.ndim(x) > 1 else 1, -1) for x in (a, b))
    a, b = (x - x.mean(1, keepdims=True) for x in (a, b))
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    r = np.where(norms > 0, (a * b).sum(1) / np.where(norms > 0, norms, 1), 0)
    return float(np.where(~a.any(1) & ~b.any(1), 1, r).min())
