"""No gradient of a convolution in a loop or branch: there XLA on a CPU is 40 to 300 times slower.

(jax#12868.) Read off the programs themselves, so a busy machine cannot make it fail.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.extend import core

from kdxai import classifiers, drawing, models
from kdxai.devices import AXIS
from kdxai.evaluate.rows import Entry, measured_rows
from kdxai.explain import METHODS
from kdxai.measures import optional
from kdxai.models.trained import Trained
from kdxai.protocol import Protocol
from kdxai.training import config as training
from kdxai.training import objectives, optimisers, steps
from kdxai.training import state as states

LOOPS = ("scan", "while", "cond")
IMAGES = np.zeros((2, 16, 16, 3), np.uint8)
LABELS = np.zeros(2, np.int32)


def gradients_in_loops(jaxpr, inside=False):
    """How many convolutions inside loops are not written as kdxai's models write theirs.

    JAX writes a gradient by its image or kernel with the roles of batch and channels swapped.
    """
    count = 0
    for equation in jaxpr.eqns:
        name = equation.primitive.name
        if name == "conv_general_dilated" and inside:
            numbers = equation.params["dimension_numbers"]
            count += tuple(numbers) != ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
        for part in jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")
        ):
            part = part.jaxpr if isinstance(part, core.ClosedJaxpr) else part
            if hasattr(part, "eqns"):
                count += gradients_in_loops(part, inside or name in LOOPS)
    return count


def of_zeros(name):
    model = models.create(name, num_classes=4)
    variables = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))
    variables = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), variables)
    return Trained(
        *(model, {"name": name}, variables, np.zeros(3), np.ones(3)),
        *(tuple("abcd"), (16, 16, 3), {}),
    )


@pytest.fixture(scope="module")
def trained():
    return of_zeros("wrn-10-1")


def test_the_count_sees_what_it_looks_for(trained):
    def total(x):
        return trained.model.apply(trained.variables, x[None]).sum()

    images = jnp.zeros((2, 16, 16, 3))
    looped = lambda f: jax.make_jaxpr(lambda x: jax.lax.map(f, x))(images).jaxpr  # noqa: E731
    assert gradients_in_loops(looped(jax.grad(total))) > 5
    assert gradients_in_loops(looped(total)) == 0
    assert gradients_in_loops(jax.make_jaxpr(jax.vmap(jax.grad(total)))(images).jaxpr) == 0
    branch = lambda x: jax.lax.cond(x.sum() > 0, jax.grad(total), jnp.zeros_like, x)  # noqa: E731
    assert gradients_in_loops(jax.make_jaxpr(branch)(images[0]).jaxpr) > 5


@pytest.mark.parametrize("method", METHODS)
def test_methods(method, trained):
    protocol = Protocol(method=method)
    if "attention" in METHODS[method].needs:
        trained = of_zeros("vit-1-8-2")
    classifier = classifiers.as_classifier(trained, protocol, IMAGES)
    draw = partial(drawing.draw, protocol, classifier)
    traced = jax.make_jaxpr(jax.vmap(draw))(jnp.zeros((2, 16, 16, 3)), LABELS)
    assert gradients_in_loops(traced.jaxpr) == 0


@pytest.mark.slow
def test_measures_of_a_method_of_many_gradients(trained):
    classifier = classifiers.as_classifier(trained)
    truth = IMAGES[..., 0] > 0
    prepared = {
        "randomisation": np.zeros((2, 16, 16), np.float32),
        "smoothed_randomisation": np.zeros((2, 16, 16), np.float32),
        "cascade": {"top_down": {"head": np.zeros((2, 16, 16), np.float32)}},
        "grid": np.stack([IMAGES] * 3, 1),
    }
    traced = measured_rows.trace(
        classifier,
        Entry(LABELS, IMAGES, LABELS, truth, prepared),
        (np.zeros(3), np.ones(3)),
        protocol=Protocol(method="smooth_grad"),
        extra=tuple(optional()),
    )
    assert gradients_in_loops(traced.jaxpr.jaxpr) == 0


@pytest.mark.parametrize("objective", ["cross_entropy", "knowledge_distillation", "e2kd"])
def test_train_steps(objective, trained):
    config = training.default()
    config.teacher = "" if objective == "cross_entropy" else "runs/teacher"
    config.objective.name = objective
    if objective == "e2kd":
        config.objective.student_stages = config.objective.teacher_stages = ("stage1",)
    model = models.create("wrn-10-1", num_classes=4, axis_name=AXIS)
    tx = optimisers.optimizer(config.optim, lambda step: 0.1, 1)
    step = steps.make_train_step(
        model,
        tx,
        objectives.choose(config),
        steps.View(pad=4, flip=True, cutout=4),
        steps_per_epoch=1,
        teacher=trained.model if objective == "e2kd" else None,
    )
    params, stats = trained.variables["params"], trained.variables["batch_stats"]
    state = states.TrainState(jnp.int32(0), params, stats, tx.init(params), states.Totals.zero())
    split = jnp.asarray(IMAGES), jnp.asarray(LABELS), jnp.zeros(3), jnp.ones(3)
    live = steps.LiveTeacher(trained.variables, *split[2:])
    constants = steps.Constants(*split, teacher_logits=jnp.zeros((2, 4)), teacher=live)
    constants = steps.seeded(constants, views=0, dropout=0)
    traced = jax.make_jaxpr(step, axis_env=[(AXIS, 1)])(state, constants, jnp.arange(2))
    assert gradients_in_loops(traced.jaxpr) == 0
