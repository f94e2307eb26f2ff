"""Pure steps on one device's share of a batch; `devices.spread` maps them."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from kdxai import devices
from kdxai.data import augment
from kdxai.devices import AXIS
from kdxai.models import Network, grid, with_grid
from kdxai.training.objectives import Objective, Outputs, cross_entropy
from kdxai.training.state import REGRESSOR, Totals, TrainState, variables_of


class LiveTeacher(NamedTuple):
    """What a teacher that runs in the train step is applied to.

    Attributes:
      variables: its own.
      mean, std: [C], by which it normalises images.
    """

    variables: Any
    mean: ArrayLike
    std: ArrayLike


class Constants(NamedTuple):
    """What every step reads and none changes, resident on the devices.

    Every step of this module takes, after its other arguments, the images [B, H, W, C] uint8 of the
    batch where they are streamed.

    Attributes:
      image: [N, H, W, C] uint8, the whole split; None where it is streamed.
      label: [N] int32.
      mean, std: [C] of the data set, in [0, 1].
      teacher_logits: [N, K] float32 of the views of the epoch under way, or None.
      teacher: one that runs in the train step, or None.
      view_key, dropout_key: [2] uint32, as of `seeded`, or None where none is read.
    """

    image: jax.Array | None
    label: jax.Array
    mean: jax.Array
    std: jax.Array
    teacher_logits: jax.Array | None = None
    teacher: LiveTeacher | None = None
    view_key: jax.Array | None = None
    dropout_key: jax.Array | None = None


def seeded(constants: Constants, *, views: int, dropout: int) -> Constants:
    """With what views and dropout are drawn from: arrays, so that all seeds share a compiled step.

    Args:
      views, dropout: seeds.
    """
    keys = (jax.random.key_data(jax.random.key(seed)) for seed in (views, dropout))
    view_key, dropout_key = devices.replicate(tuple(keys))
    return constants._replace(view_key=view_key, dropout_key=dropout_key)


def pixels(constants: Constants, indices: jax.Array, streamed: jax.Array | None) -> jax.Array:
    """[B, H, W, C] uint8 of a batch."""
    if streamed is not None:
        return streamed
    assert constants.image is not None
    return constants.image[indices]


class View(NamedTuple):
    """How the views of the training images are sampled: settings `augment` of a run.

    The view of example i in epoch e depends on (`Constants.view_key`, e, i) alone.

    Attributes:
      pad, flip, cutout: as for `augment.augment`.
      alternate: whether an image is flipped in every second epoch (Jordan 2024) and
        not at random; whether in the first one, that is random.
    """

    pad: int
    flip: bool
    cutout: int
    alternate: bool | None = None


def views(
    constants: Constants,
    indices: jax.Array,
    epoch: jax.Array,
    view: View,
    streamed: jax.Array | None = None,
) -> jax.Array:
    """The normalised augmented views of some examples: [B] indices -> [B, H, W, C] float32."""
    images = uint8_views(constants, indices, epoch, view, streamed)
    return augment.normalise(images, constants.mean, constants.std)


def uint8_views(
    constants: Constants,
    indices: jax.Array,
    epoch: jax.Array,
    view: View,
    streamed: jax.Array | None = None,
) -> jax.Array:
    """The augmented views of some examples: [B] indices -> [B, H, W, C] uint8.

    They depend neither on the batch nor on the device nor on the model, so teacher and student see
    the same ones and they can be made again.
    """
    assert constants.view_key is not None
    seed_key = jax.random.wrap_key_data(constants.view_key)
    keys = keys_of(jax.random.fold_in(seed_key, epoch), indices)
    flip = view.flip and not view.alternate
    draw = partial(augment.augment, pad=view.pad, flip=flip, cutout=view.cutout)
    images = jax.vmap(draw)(keys, pixels(constants, indices, streamed))
    if view.alternate:
        first = jax.vmap(jax.random.bernoulli)(keys_of(seed_key, indices))
        now = first ^ (epoch % 2 == 1)
        images = jnp.where(now[:, None, None, None], images[:, :, ::-1], images)
    return images


def outputs_of(
    model: Network, variables: Any, images: jax.Array, taps: Sequence[str], **mode: Any
) -> tuple[Outputs, Any]:
    """What an objective reads of a network, and the updates of its variables.

    Args:
      mode: how it is applied, in training or evaluation.
    """
    run = partial(model.apply, variables, mutable=["batch_stats"], **mode)
    (logits, found), updates = cast(Any, run(images, taps=taps))

    def classify(stage: str, maps: jax.Array) -> jax.Array:
        return run(with_grid(found[stage], maps), stage=stage, method="classify")[0]

    outputs = Outputs(
        logits,
        # In the order of the objective; whatever the network computes in, losses are float32.
        {tap: grid(found[tap]).astype(jnp.float32) for tap in taps},
        (images.shape[1], images.shape[2]),
        classify,
        variables["params"]["head"]["kernel"] if model.has_cam else None,
    )
    return outputs, updates


def keys_of(key: jax.Array, indices: jax.Array) -> jax.Array:
    """A random key of each example."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, indices)


def make_train_step(
    model: Network,
    tx: optax.GradientTransformation,
    objective: Objective,
    view: View,
    *,
    steps_per_epoch: int,
    teacher: Network | None = None,
) -> Callable[..., tuple[TrainState, Totals]]:
    """The step `(state, constants, indices [B]) -> (state, the epoch's totals)` of a training run.

    The totals are in the state too, but that is donated to the next step before the host reads it.
    Losses, gradients and BatchNorm are over the global batch.

    Args:
      teacher: whose feature maps the objective reads; it sees the student's views in evaluation
        mode, normalised as it is used to.
    """

    def taught(constants: Constants, indices: jax.Array, images: jax.Array) -> Outputs | None:
        """The teacher's outputs for [B, H, W, C] uint8 views."""
        if not objective.taught:
            return None
        if teacher is None:
            assert constants.teacher_logits is not None
            return Outputs(constants.teacher_logits[indices])
        assert constants.teacher is not None
        variables, mean, std = constants.teacher
        images = augment.normalise(images, mean, std)
        return outputs_of(teacher, variables, images, objective.teacher_taps)[0]

    def train_step(
        state: TrainState,
        constants: Constants,
        indices: jax.Array,
        streamed: jax.Array | None = None,
    ) -> tuple[TrainState, Totals]:
        epoch = state.step // steps_per_epoch
        raw = uint8_views(constants, indices, epoch, view, streamed)
        images = augment.normalise(raw, constants.mean, constants.std)
        labels = constants.label[indices]
        outputs_of_teacher = taught(constants, indices, raw)
        assert constants.dropout_key is not None
        dropout_key = jax.random.wrap_key_data(constants.dropout_key)
        dropout_key = jax.random.fold_in(dropout_key, state.step)

        def mean_loss(params: Any) -> tuple[jax.Array, Any]:
            student, updates = outputs_of(
                model,
                variables_of(params, state.batch_stats),
                images,
                objective.taps,
                train=True,
                rngs={"dropout": dropout_key},
            )
            student = student._replace(regressor=params.get(REGRESSOR))
            loss = objective.loss(student, outputs_of_teacher, labels)
            return loss.mean(), (loss, student.logits, updates.get("batch_stats", {}))

        gradient, (loss, logits, batch_stats) = jax.grad(mean_loss, has_aux=True)(state.params)
        updates, opt_state = tx.update(jax.lax.pmean(gradient, AXIS), state.opt_state, state.params)
        first = state.step % steps_per_epoch == 0
        seen = batch_totals(loss, logits, labels, jnp.ones_like(loss))
        totals = jax.tree.map(lambda old, new: jnp.where(first, 0, old) + new, state.totals, seen)
        state = TrainState(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=jax.lax.pmean(batch_stats, AXIS),
            opt_state=opt_state,
            totals=totals,
        )
        return state, totals

    return train_step


def make_teacher_step(
    teacher: Callable[[Any, jax.Array], jax.Array], view: View
) -> Callable[..., jax.Array]:
    """The step `(variables, constants, indices [B], epoch []) -> [B, K]` float32 logits.

    The teacher sees the views that the student sees in that epoch.

    Args:
      teacher: (variables, [B, H, W, C] normalised) -> [B, K] logits.
    """

    def teacher_step(
        variables: Any,
        constants: Constants,
        indices: jax.Array,
        epoch: jax.Array,
        streamed: jax.Array | None = None,
    ) -> jax.Array:
        images = views(constants, indices, epoch, view, streamed)
        return teacher(variables, images)

    return teacher_step


def logits_of(model: Network, variables: Any, images: jax.Array) -> jax.Array:
    """[B, K] in evaluation mode, where `apply` returns nothing else."""
    return cast(jax.Array, model.apply(variables, images))


def make_eval_step(model: Network) -> Callable[..., Totals]:
    """The step `(variables, constants, indices [B]) -> Totals`; an index below 0 is padding."""

    def eval_step(
        variables: Any,
        constants: Constants,
        indices: jax.Array,
        streamed: jax.Array | None = None,
    ) -> Totals:
        images = pixels(constants, indices, streamed)
        images = augment.normalise(images, constants.mean, constants.std)
        labels = constants.label[indices]
        logits = logits_of(model, variables, images)
        loss = jax.vmap(cross_entropy)(logits, labels)
        return batch_totals(loss, logits, labels, (indices >= 0).astype(jnp.float32))

    return eval_step


def batch_totals(
    loss: jax.Array, logits: jax.Array, labels: jax.Array, weight: jax.Array
) -> Totals:
    """Sums over the global batch: [B], [B, K], [B], [B]; weight 0 leaves an example out."""
    correct = logits.argmax(-1) == labels
    sums = Totals((loss * weight).sum(), (correct * weight).sum(), weight.sum())
    return jax.lax.psum(sums, AXIS)
