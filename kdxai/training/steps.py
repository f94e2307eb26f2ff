"""Pure steps on one device's share of a batch; `devices.spread` maps them."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from kdxai.data import augment
from kdxai.devices import AXIS
from kdxai.models import Network
from kdxai.training.objectives import Objective, Outputs, cross_entropy
from kdxai.training.state import Totals, TrainState, variables_of


class Constants(NamedTuple):
    """What every step reads and none changes, resident on the devices.

    Every step of this module takes, after its other arguments, the images [B, H, W, C] uint8 of the
    batch where they are streamed.

    Attributes:
      image: [N, H, W, C] uint8, the whole split; None where it is streamed.
      label: [N] int32.
      mean, std: [C] of the data set, in [0, 1].
      teacher_logits: [N, K] float32 of the views of the epoch under way, or None.
    """

    image: jax.Array | None
    label: jax.Array
    mean: jax.Array
    std: jax.Array
    teacher_logits: jax.Array | None = None


def pixels(constants: Constants, indices: jax.Array, streamed: jax.Array | None) -> jax.Array:
    """[B, H, W, C] uint8 of a batch."""
    if streamed is not None:
        return streamed
    assert constants.image is not None
    return constants.image[indices]


class View(NamedTuple):
    """How the views of the training images are drawn: the settings `augment` of a run.

    Attributes:
      seed: the view of example i in epoch e depends on (seed, e, i) alone.
      pad, flip, cutout: as for `augment.augment`.
      alternate: whether an image is flipped in every second epoch (Jordan 2024, section 3.6) and
        not at random; whether in the first one, that is random.
    """

    seed: int
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
    """The normalised augmented views of some examples: [B] indices -> [B, H, W, C] float32.

    They depend neither on the batch nor on the device nor on the model, so teacher and student see
    the same ones and they can be made again.
    """
    seed_key = jax.random.key(view.seed)
    keys = keys_of(jax.random.fold_in(seed_key, epoch), indices)
    flip = view.flip and not view.alternate
    draw = partial(augment.augment, pad=view.pad, flip=flip, cutout=view.cutout)
    images = jax.vmap(draw)(keys, pixels(constants, indices, streamed))
    if view.alternate:
        first = jax.vmap(jax.random.bernoulli)(keys_of(seed_key, indices))
        now = first ^ (epoch % 2 == 1)
        images = jnp.where(now[:, None, None, None], images[:, :, ::-1], images)
    return augment.normalise(images, constants.mean, constants.std)


def keys_of(key: jax.Array, indices: jax.Array) -> jax.Array:
    """A random key of each example."""
    return jax.vmap(jax.random.fold_in, (None, 0))(key, indices)


def make_train_step(
    model: Network,
    tx: optax.GradientTransformation,
    objective: Objective,
    view: View,
    *,
    seed: int,
    steps_per_epoch: int,
) -> Callable[..., tuple[TrainState, Totals]]:
    """The step `(state, constants, indices [B]) -> (state, the epoch's totals)` of a training run.

    The totals are in the state too, but that is donated to the next step before the host reads it.
    Losses, gradients and BatchNorm are over the global batch.

    Args:
      seed: of the dropout masks.
    """

    def train_step(
        state: TrainState,
        constants: Constants,
        indices: jax.Array,
        streamed: jax.Array | None = None,
    ) -> tuple[TrainState, Totals]:
        epoch = state.step // steps_per_epoch
        images = views(constants, indices, epoch, view, streamed)
        labels = constants.label[indices]
        dropout_key = jax.random.fold_in(jax.random.key(seed), state.step)
        teacher = None
        if objective.taught:
            assert constants.teacher_logits is not None
            teacher = Outputs(constants.teacher_logits[indices], {})

        def mean_loss(params: Any) -> tuple[jax.Array, Any]:
            outputs, updates = model.apply(
                variables_of(params, state.batch_stats),
                images,
                train=True,
                taps=objective.taps,
                rngs={"dropout": dropout_key},
                mutable=["batch_stats"],
            )
            loss = jax.vmap(objective.loss)(Outputs(*outputs), teacher, labels)
            return loss.mean(), (loss, outputs[0], updates.get("batch_stats", {}))

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
