"""kdxai's own work in measurable pieces: name -> a call, its units and its result."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdxai import evaluate
from kdxai.explain import METHODS, Classifier
from kdxai.explain.maps import min_max, resize
from kdxai.metrics import adcc, baselines, coherency, complexity, faithfulness, perturbation
from kdxai.protocol import Protocol
from kdxai.training import config as training
from kdxai.training import devices, runs, steps
from kdxai.training import state as states
from kdxai.training.runs import TrainedModel
from kdxai.training.state import Totals, TrainState

CHANNELS = 3
STEPS = 24  # of a deletion curve: Quantus flips a divisor of H W of the 3 H W values at once
LEARNING_RATE, TEMPERATURE, ALPHA = 0.01, 6.0, 0.95  # of the timed steps
MATRIX = 2048


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

    trained: TrainedModel
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
    """

    call: Callable[[], np.ndarray]
    units: int
    flops: float | None = None


class Task(NamedTuple):
    """Attributes:
    title: for the reader of the table.
    build: inputs -> work; everything that is done once only.
    heavy: takes hundreds of forward passes per image, so it gets fewer of them.
    unit: what the time is given per.
    """

    title: str
    build: Callable[[Inputs], Work]
    heavy: bool = False
    unit: str = "image"


def draw(method: str, inputs: Inputs) -> Work:
    """Maps of the predicted classes, in [0, 1] on the image's grid: [N, H, W]."""
    explain = METHODS[method]

    def one(classifier: Classifier, image: jax.Array) -> jax.Array:
        class_index = classifier(image).argmax()
        return resize(min_max(explain(classifier, image, class_index)), image.shape[:2])

    return _vmapped(one, inputs, inputs.images)


def adcc_of_grad_cam(inputs: Inputs) -> Work:
    """ADCC of Grad-CAM, drop, coherency and complexity included: [N]."""
    protocol = Protocol(method="grad_cam")

    def one(classifier: Classifier, image: jax.Array) -> jax.Array:
        e = evaluate.explain(classifier, image, jnp.int32(0), protocol)  # of the predicted class
        before, after = (jax.nn.softmax(x)[e.class_index] for x in (e.logits, e.logits_masked))
        return adcc.adcc(
            coherency.coherency(coherency.pearson(e.heatmap, e.heatmap_masked)),
            complexity.l1(e.heatmap),
            faithfulness.average_drop(before, after),
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


def forward(inputs: Inputs) -> Work:
    """Logits of a batch: [N, K]."""
    model, variables = inputs.trained.model, inputs.trained.variables
    compiled, images = jax.jit(model.apply), jax.device_put(inputs.images)
    call = lambda: jax.device_get(compiled(variables, images))  # noqa: E731
    return Work(call, len(images), forward_flops(inputs))


def forward_flops(inputs: Inputs) -> float:
    """Floating-point operations of a batch's forward pass, as XLA counts them in the program."""
    program = jax.jit(inputs.trained.model.apply).lower(inputs.trained.variables, inputs.images)
    return program.cost_analysis()["flops"]


def train_step(inputs: Inputs, *, teacher: str = "") -> Work:
    """A step of `training.steps` on the batch, labelled as predicted: [1] its mean loss.

    Without augmentation, so that peers see the same images. The teacher is the model itself as it
    was. Its operations are counted as three forward passes, and a live teacher's as one.

    Args:
      teacher: `live` computes its logits in the step, `cached` finds them in memory; "": none.
    """
    trained, count = inputs.trained, len(inputs.images)
    devices.require_divisible(count)
    tx = states.optimizer(training.default().optim, lambda step: LEARNING_RATE)
    view = {"view_seed": 0, "augmentation": {"pad": 0, "flip": False}}
    teacher_step = steps.make_teacher_step(trained.model, **view)
    train_step = steps.make_train_step(
        runs.create_model(trained.config, trained.model.num_classes, axis_name=devices.AXIS),
        tx,
        steps_per_epoch=1,  # the totals are then those of one step
        seed=0,
        **view,
        distil=bool(teacher),
        temperature=TEMPERATURE,
        alpha=ALPHA,
    )

    def step(
        state: TrainState, known: tuple[steps.Constants, Any], indices: jax.Array
    ) -> tuple[TrainState, Totals]:
        constants, variables = known
        if teacher == "live":
            logits = teacher_step(variables, constants, indices, 0)
            logits = constants.teacher_logits.at[indices].set(logits)
            constants = constants._replace(teacher_logits=logits)
        return train_step(state, constants, indices)

    spread = devices.spread(step, donate_first=True)
    params, stats = (
        jax.tree.map(jnp.copy, trained.variables[k]) for k in ("params", "batch_stats")
    )
    state = TrainState(jnp.int32(0), params, stats, tx.init(params), Totals.zero())
    constants = steps.Constants(inputs.pixels, inputs.classes, trained.mean, trained.std)
    if teacher:
        logits = jax.jit(teacher_step)(trained.variables, constants, np.arange(count), 0)
        constants = constants._replace(teacher_logits=logits)
    state, known = devices.replicate((state, (constants, trained.variables)))
    indices = devices.share(np.arange(count))

    def call() -> np.ndarray:
        nonlocal state
        state, totals = spread(state, known, indices)
        return np.array(totals.means()[:1])

    return Work(call, count, (4 if teacher == "live" else 3) * forward_flops(inputs))


def load(inputs: Inputs) -> Work:
    """Random crops and flips of images that are in the device's memory, normalised."""
    trained = inputs.trained
    constants = jax.device_put(
        steps.Constants(inputs.pixels, inputs.classes, trained.mean, trained.std)
    )
    views = jax.jit(partial(steps.views, seed=0, pad=4, flip=True))
    indices = jnp.arange(len(inputs.pixels))
    call = lambda: views(constants, indices, 0).block_until_ready()  # noqa: E731
    return Work(call, len(inputs.pixels))


def matmul(inputs: Inputs) -> Work:
    """A product of two large float32 matrices: what the device can do at most."""
    matrix = jax.random.normal(jax.random.key(0), (MATRIX, MATRIX))
    product = jax.jit(jnp.matmul)
    return Work(lambda: product(matrix, matrix).block_until_ready(), 1, 2.0 * MATRIX**3)


def _vmapped(one: Callable[..., Any], inputs: Inputs, *arrays: np.ndarray) -> Work:
    """`one(classifier, *an entry of each array)` over a batch; its result on the host."""
    classifier = evaluate.as_classifier(inputs.trained)
    compiled = jax.jit(lambda classifier, *args: jax.vmap(partial(one, classifier))(*args))
    arguments = jax.device_put((classifier, *arrays))
    return Work(lambda: jax.device_get(compiled(*arguments)), len(arrays[0]))


TASKS: dict[str, Task] = {
    "cam": Task("CAM", partial(draw, "cam")),
    "grad_cam": Task("Grad-CAM", partial(draw, "grad_cam")),
    "adcc": Task("ADCC of Grad-CAM", adcc_of_grad_cam),
    "deletion": Task(f"deletion, {STEPS} steps", deletion),
    "score_cam": Task("Score-CAM", partial(draw, "score_cam"), heavy=True),
    "forward": Task("forward pass", forward),
    "train_step": Task("training step", train_step),
    "distillation_step": Task("distillation step", partial(train_step, teacher="live")),
    "distillation_step_cached": Task(
        "distillation step, cached logits", partial(train_step, teacher="cached")
    ),
    "data": Task("data loading", load),
    "matmul": Task("matrix product", matmul, unit="product"),
}
