"""kdxai's own work in measurable pieces: name -> a call, its units and its result."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from kdxai import classifiers, devices, drawing, models
from kdxai.explain import METHODS, Classifier
from kdxai.explain.maps import min_max, resize
from kdxai.metrics import adcc, baselines, coherency, complexity, faithfulness, perturbation
from kdxai.models.trained import Trained
from kdxai.protocol import SOUND, Protocol
from kdxai.training import config as training
from kdxai.training import objectives, optimisers, steps
from kdxai.training.feed import process_share
from kdxai.training.state import Totals, TrainState

CHANNELS = 3
STEPS = 24  # of a deletion curve: Quantus flips a divisor of H W of the 3 H W values at once
LEARNING_RATE, TEMPERATURE, ALPHA = 0.01, 6.0, 0.95  # of the timed steps
DRAWS = 64  # of Expected Gradients
MASKS, CELLS = 512, 4  # of RISE and KernelSHAP, and cells a side of the latter
MATRIX, LARGE_MATRIX = 2048, 8192  # rows: on a CPU, on an accelerator
COPIED = 2**28  # bytes
ROOT = Path(__file__).parents[1]
AHEAD = 4  # steps that are dispatched before the first is waited for


class Inputs(NamedTuple):
    """What every task works on.

    Attributes:
      trained: the model, in evaluation mode.
      pixels: [N, H, W, 3] uint8.
      images: [N, H, W, 3] float32, the same normalised.
      classes: [N] int32 the predicted classes.
      relevance: [N, H, W] float32 in [0, 1), no two pixels of an image alike, so that everyone
        ranks them alike.
    """

    trained: Trained
    pixels: np.ndarray
    images: np.ndarray
    classes: np.ndarray
    relevance: np.ndarray

    def first(self, count: int) -> "Inputs":
        """The same with fewer images."""
        return Inputs(self.trained, *(part[:count] for part in self[1:]))


class Work(NamedTuple):
    """A task ready to be timed.

    Attributes:
      call: does it once, and waits for the device.
      units: how many images (or whatever `Task.unit` says) one call takes.
      flops: floating-point operations of one call, where they are what the task is about.
      bytes: read and written by one call, where those are.
    """

    call: Callable[[], np.ndarray]
    units: int
    flops: float | None = None
    bytes: float | None = None


class Peer(NamedTuple):
    """Who else does a task, or how else it can be done.

    Attributes:
      library: as the table calls it.
      build: inputs -> work; builds a network of its own, as hooks stay on it.
      target: how many times faster kdxai means to be; None where it only wants to know.
      differs: how its definition differs from kdxai's; "" where results must agree.
    """

    library: str
    build: Callable[[Inputs], Work]
    target: float | None = None
    differs: str = ""


class Task(NamedTuple):
    """Attributes:
    title: for the reader of the table.
    build: inputs -> work; everything that is done once only.
    heavy: takes hundreds of forward passes per image, so it gets fewer of them.
    unit: what the time is given per.
    others: other ways that kdxai has, or could have, to do it.
    slow: a call takes so long that one is timed.
    """

    title: str
    build: Callable[[Inputs], Work]
    heavy: bool = False
    unit: str = "image"
    others: tuple[Peer, ...] = ()
    slow: bool = False


def draw(method: str, inputs: Inputs, **options: float) -> Work:
    """Maps of the predicted classes, in [0, 1] on the image's grid: [N, H, W]."""
    explain = METHODS[method]

    def one(classifier: Classifier, image: jax.Array) -> jax.Array:
        class_index = classifier(image).argmax()
        found = explain(classifier, image, class_index, **options)
        return resize(min_max(found), image.shape[:2])

    return _vmapped(one, inputs, inputs.images, protocol=Protocol(method=method))


def adcc_of_grad_cam(inputs: Inputs) -> Work:
    """ADCC of Grad-CAM, drop, coherency and complexity included: [N]."""
    protocol = Protocol(method="grad_cam")

    def one(classifier: Classifier, image: jax.Array) -> jax.Array:
        e = drawing.explain_image(
            classifier, image, jnp.int32(0), protocol
        )  # of the predicted class
        return adcc.adcc(
            coherency.coherency(coherency.pearson(e.heatmap, e.heatmap_masked)),
            complexity.l1(e.heatmap),
            faithfulness.average_drop(e.logits, e.logits_masked, e.class_index),
        )

    return _vmapped(one, inputs, inputs.images)


def deletion(inputs: Inputs) -> Work:
    """Probability of the class while pixels turn to the mean colour.

    [N, STEPS / 3]: every third point of the curve, where Quantus, which flips single values, has
    flipped whole pixels.
    """

    def one(classifier: Classifier, image: jax.Array, c: jax.Array, relevance: jax.Array):
        fill = perturbation.replace(image, baselines.mean(image))
        score = lambda x: jax.nn.softmax(classifier(x))[c]  # noqa: E731
        curve = perturbation.deletion_curve(score, relevance, fill, steps=STEPS, chunk=1)
        return curve[CHANNELS::CHANNELS]

    return _vmapped(one, inputs, inputs.images, inputs.classes, inputs.relevance)


def perturb(inputs: Inputs) -> Work:
    """Areas under the deletion and the insertion curve, as a study measures them: [N, 2]."""

    def one(classifier: Classifier, image: jax.Array, c: jax.Array, relevance: jax.Array):
        fill = perturbation.replace(image, baselines.blur(image))
        score = lambda x: jax.nn.softmax(classifier(x))[c]  # noqa: E731
        curves = perturbation.curves(score, relevance, fill)
        return jnp.stack([perturbation.deletion(curves), perturbation.insertion(curves)])

    return _vmapped(one, inputs, inputs.images, inputs.classes, inputs.relevance)


def forward(inputs: Inputs) -> Work:
    """Logits of a batch: [N, K]."""
    work = _divided(inputs.trained.model.apply, inputs.trained.variables, inputs, inputs.images)
    return work._replace(flops=forward_flops(inputs))


def forward_flops(inputs: Inputs, passes: int = 1) -> float | None:
    """Floating-point operations of forward passes of a batch, as XLA counts them in the program.

    In the CPU's program, as JAX does not count in those of a GPU or TPU before they are compiled,
    and what is left then depends on the compiler. None where JAX_PLATFORMS leaves the CPU out.
    """
    shapes = jax.eval_shape(lambda *given: given, inputs.trained.variables, inputs.images)
    try:
        cpu = jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return None
    with jax.default_device(cpu):
        counted = jax.jit(inputs.trained.model.apply).lower(*shapes).cost_analysis()
    return counted and passes * counted["flops"]


def train_step(inputs: Inputs, *, teacher: str = "", count: int = 1, jit: bool = False) -> Work:
    """Steps of `training.steps` on the batch, labelled as predicted: [1] the first's mean loss.

    Without augmentation, so that peers see the same images. The teacher is the model itself as it
    was. Its operations are counted as three forward passes, and a live teacher's as one.

    Args:
      teacher: `live` computes its logits in the step, `cached` finds them in memory; "": none.
      count: of steps, dispatched together, as `loop.fit` runs ahead of the device.
      jit: let `jit` divide the batch, not `pmap`.
    """
    trained, size = inputs.trained, len(inputs.images)
    devices.require_divisible(size)
    config = training.default()
    config.teacher = teacher
    config.distill.update(temperature=TEMPERATURE, alpha=ALPHA)
    tx = optimisers.optimizer(config.optim, lambda step: LEARNING_RATE, 1)
    view = steps.View(pad=0, flip=False, cutout=0)
    teacher_step = steps.make_teacher_step(partial(steps.logits_of, trained.model), view)
    train_step = steps.make_train_step(
        models.create(
            **trained.architecture,
            num_classes=trained.model.num_classes,
            dtype=trained.model.dtype,
            axis_name=devices.AXIS,
        ),
        tx,
        objectives.choose(config),
        view,
        steps_per_epoch=1,  # the totals are then those of one step
    )

    def step(
        state: TrainState, known: tuple[steps.Constants, Any], indices: jax.Array
    ) -> tuple[TrainState, Totals]:
        constants, variables = known
        if teacher == "live":
            logits = teacher_step(variables, constants, indices, 0)
            assert constants.teacher_logits is not None
            logits = constants.teacher_logits.at[indices].set(logits)
            constants = constants._replace(teacher_logits=logits)
        return train_step(state, constants, indices)

    if jit:
        mesh = Mesh(np.array(jax.local_devices()), (devices.AXIS,))
        specs = PartitionSpec(), PartitionSpec(), PartitionSpec(devices.AXIS)
        divided = jax.shard_map(
            step, mesh=mesh, in_specs=specs, out_specs=PartitionSpec(), check_vma=False
        )
        program = _jit(divided, inputs, donate_argnums=0)
    else:
        program = devices.spread(step, dtype=_dtype(inputs), donate_first=True)
    params, stats = (
        jax.tree.map(jnp.copy, trained.variables[k]) for k in ("params", "batch_stats")
    )
    state = TrainState(jnp.int32(0), params, stats, tx.init(params), Totals.zero())
    constants = _constants(inputs)
    if teacher:
        logits = jax.jit(teacher_step)(trained.variables, constants, np.arange(size), 0)
        constants = constants._replace(teacher_logits=logits)
    state, known = devices.replicate((state, (constants, trained.variables)))
    indices = np.arange(size) if jit else process_share(np.arange(size))

    def call() -> np.ndarray:
        nonlocal state
        pending = []
        for _ in range(count):
            state, totals = program(state, known, indices)
            pending.append(totals)
        return np.array([totals.means()[0] for totals in pending][:1])

    passes = 4 if teacher == "live" else 3
    return Work(call, size * count, forward_flops(inputs, count * passes))


def load(inputs: Inputs) -> Work:
    """Random crops and flips of images that are in the device's memory, normalised."""
    constants = _constants(inputs)
    views = jax.jit(partial(steps.views, view=steps.View(pad=4, flip=True, cutout=0)))
    indices = jnp.arange(len(inputs.pixels))
    call = lambda: views(constants, indices, 0).block_until_ready()  # noqa: E731
    return Work(call, len(inputs.pixels))


def matmul(inputs: Inputs) -> Work:
    """A product of two large matrices: what the device can do at most."""
    size = MATRIX if jax.default_backend() == "cpu" else LARGE_MATRIX
    matrix = jax.random.normal(jax.random.key(0), (size, size), _dtype(inputs))
    product = _jit(jnp.matmul, inputs)
    return Work(lambda: product(matrix, matrix).block_until_ready(), 1, 2.0 * size**3)


def copy(inputs: Inputs) -> Work:
    """A copy of a large array: what its memory can do at most."""
    values = jnp.zeros(COPIED // 4)
    copied = jax.jit(jnp.copy)
    return Work(lambda: copied(values).block_until_ready(), 1, bytes=2.0 * COPIED)


def start(warm: bool, inputs: Inputs) -> Work:
    """A new process up to the end of its first training step: imports, data, compilation.

    Args:
      warm: with a compilation cache that an earlier process has filled, not with an empty one.
    """
    name, dtype = inputs.trained.architecture["name"], jnp.dtype(_dtype(inputs)).name
    command = [sys.executable, "-m", "benchmarks.start", name, dtype]
    caches: list[tempfile.TemporaryDirectory[str]] = []

    def call() -> np.ndarray:
        if not (caches and warm):
            caches[:] = [tempfile.TemporaryDirectory()]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": caches[0].name}
        command_line = [*command, str(len(inputs.images))]
        done = subprocess.run(
            command_line, cwd=ROOT, env=environment, capture_output=True, text=True
        )
        if done.returncode:
            raise RuntimeError(done.stderr)
        return np.array([float(done.stdout)])

    return Work(call, 1)


def _constants(inputs: Inputs) -> steps.Constants:
    trained = inputs.trained
    kept = inputs.pixels, inputs.classes, trained.mean, trained.std
    image, label, mean, std = map(jnp.asarray, kept)
    return steps.seeded(steps.Constants(image, label, mean, std), views=0, dropout=0)


def _dtype(inputs: Inputs) -> Any:
    return inputs.trained.model.dtype


def _jit(function: Callable[..., Any], inputs: Inputs, **options: Any) -> Callable[..., Any]:
    """`jax.jit` for programs that compute in the model's dtype."""
    return jax.jit(function, compiler_options=devices.compiler_options(_dtype(inputs)), **options)


def _vmapped(
    one: Callable[..., Any], inputs: Inputs, *arrays: np.ndarray, protocol: Protocol = SOUND
) -> Work:
    """`one(classifier, *an entry of each array)` over a batch, as `evaluate` does it."""

    def every(classifier: Classifier, *entries: jax.Array) -> jax.Array:
        return jax.vmap(partial(one, classifier))(*entries)

    classifier = classifiers.as_classifier(inputs.trained, protocol, inputs.pixels)
    return _divided(every, classifier, inputs, *arrays)


def _divided(
    function: Callable[..., Any], shared: Any, inputs: Inputs, *arrays: np.ndarray
) -> Work:
    """`function(shared, *a share of each array)` on every device; its result on the host."""
    compiled = _jit(
        lambda shared, arrays: devices.divide(
            lambda shared, parts: function(shared, *parts), shared, arrays
        ),
        inputs,
    )
    shared = devices.replicate(shared)
    return Work(lambda: jax.device_get(compiled(shared, arrays)), len(arrays[0]))


TASKS: dict[str, Task] = {
    "matmul": Task("matrix product", matmul, unit="product"),
    "copy": Task("copy", copy, unit="copy"),
    "forward": Task("forward pass", forward),
    "train_step": Task(
        "training step",
        train_step,
        others=(
            Peer("by jit, without pmap", partial(train_step, jit=True)),
            Peer(f"{AHEAD} steps ahead", partial(train_step, count=AHEAD)),
        ),
    ),
    "distillation_step": Task("distillation step", partial(train_step, teacher="live")),
    "distillation_step_cached": Task(
        "distillation step, cached logits", partial(train_step, teacher="cached")
    ),
    "data": Task("data loading", load),
    "cam": Task("CAM", partial(draw, "cam")),
    "grad_cam": Task("Grad-CAM", partial(draw, "grad_cam")),
    "adcc": Task("ADCC of Grad-CAM", adcc_of_grad_cam),
    "deletion": Task(f"deletion, {STEPS} steps", deletion),
    "perturbation": Task("insertion and deletion, 20 steps each", perturb),
    "score_cam": Task("Score-CAM", partial(draw, "score_cam"), heavy=True),
    "expected_gradients": Task(
        f"Expected Gradients, {DRAWS} draws",
        partial(draw, "expected_gradients", samples=DRAWS),
        heavy=True,
    ),
    "lrp_epsilon": Task("LRP-epsilon", partial(draw, "lrp_epsilon", epsilon=0.0)),
    "rise": Task(f"RISE, {MASKS} masks", partial(draw, "rise", samples=MASKS), heavy=True),
    "kernel_shap": Task(
        f"KernelSHAP of {CELLS} x {CELLS} cells, {MASKS} coalitions",
        partial(draw, "kernel_shap", samples=MASKS, segments=CELLS),
        heavy=True,
    ),
    "start": Task(
        "start to first step, nothing compiled",
        partial(start, False),
        unit="start",
        others=(Peer("compiled before", partial(start, True)),),
        slow=True,
    ),
}
