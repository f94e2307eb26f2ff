"""The learning rate of a run and what its gradients become: schedule, SGD, AdamW, Lookahead."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import traverse_util
from ml_collections import ConfigDict

from kdxai.errors import UserError

SCHEDULES = ("cosine", "step", "triangle")
# Of the triangle, as in airbench94 (Jordan 2024): fractions of the highest rate, and of the steps.
FIRST, PEAK, FINAL = 0.2, 0.23, 0.07
EVERY = 5  # steps between two looks of Lookahead
SGD = "sgd"  # the usual one
# The settings that each optimiser alone reads.
OWN = {SGD: ("momentum", "nesterov", "bias_factor", "head_factor"), "adamw": ()}


def learning_rate(optim: ConfigDict, epochs: float, steps_per_epoch: int) -> optax.Schedule:
    """step -> learning rate: linear warm-up, then cosine to zero or steps; or one triangle."""
    total = max(round(epochs * steps_per_epoch), 1)  # no epochs, no steps, and no schedule to check
    warmup = round(optim.warmup_epochs * steps_per_epoch)
    if not 0 <= warmup < total:
        raise UserError(f"optim.warmup_epochs={optim.warmup_epochs} leaves nothing of {epochs}")
    if optim.schedule not in SCHEDULES:
        raise UserError(f"optim.schedule is {', '.join(SCHEDULES)}, not '{optim.schedule}'")
    if optim.schedule == "triangle":
        if warmup:
            raise UserError("optim.schedule=triangle rises by itself; set optim.warmup_epochs=0")
        return triangle(optim.lr, total)
    if optim.schedule == "cosine":
        after = optax.cosine_decay_schedule(optim.lr, total - warmup)
    else:
        after = step_schedule(optim, total, warmup)
    # The first step already moves: warm-up counts from 1.
    ramp = optax.linear_schedule(optim.lr / max(warmup, 1), optim.lr, max(warmup - 1, 1))
    return optax.join_schedules([ramp, after], [warmup]) if warmup else after


def triangle(highest: float, total: int) -> optax.Schedule:
    """Linear from 0.2 x `highest` up to it at 23 % of the steps, and down to 0.07 of it."""
    peak = round(PEAK * total)
    rise = optax.linear_schedule(FIRST * highest, highest, max(peak, 1))
    fall = optax.linear_schedule(highest, FINAL * highest, max(total - peak, 1))
    return optax.join_schedules([rise, fall], [peak])


def step_schedule(optim: ConfigDict, total: int, warmup: int) -> optax.Schedule:
    """The rate times `step_factor` at each of `step_at`, fractions of all steps."""
    at = list(optim.step_at)
    numbers = all(isinstance(fraction, int | float) for fraction in at)
    if not numbers or not all(0 < fraction < 1 for fraction in at) or at != sorted(set(at)):
        raise UserError(
            f"optim.step_at must be rising fractions of the training, between 0 and 1, not {at}"
        )
    drops = Counter(round(fraction * total) - warmup for fraction in at)  # few steps: some coincide
    return optax.piecewise_constant_schedule(
        optim.lr, {step: optim.step_factor**count for step, count in drops.items()}
    )


def require_settings_read(optim: ConfigDict, usual: ConfigDict) -> None:
    """Check the settings of an optimiser.

    Args:
      usual: the settings with their defaults.

    Raises:
      UserError: there is no such optimiser, or a setting is made that it does not read.
    """
    name = optim.name or SGD
    if name not in OWN:
        raise UserError(f"optim.name is {', '.join(OWN)}, not '{name}'")
    for setting in (one for other, own in OWN.items() if other != name for one in own):
        if optim[setting] != usual[setting]:
            raise UserError(
                f"the optimiser '{name}' does not read optim.{setting}; leave it at "
                f"{usual[setting]}"
            )


def optimizer(
    optim: ConfigDict, schedule: optax.Schedule, total: int
) -> optax.GradientTransformation:
    """SGD with momentum, or AdamW.

    Of SGD the weight decay is part of the gradient, as in the published recipes, and of all
    parameters. AdamW (Loshchilov & Hutter 2019) decays the weights by themselves, times the
    learning rate as in PyTorch; of kernels alone, as usual: not of biases, norms, layer scales,
    position embeddings and class tokens.

    Args:
      total: steps of the whole training, which Lookahead counts.
    """
    if optim.name == "adamw":
        steps = [optax.adamw(schedule, weight_decay=optim.weight_decay, mask=are_kernels)]
    else:
        steps = [
            optax.add_decayed_weights(optim.weight_decay),
            optax.sgd(schedule, momentum=optim.momentum, nesterov=optim.nesterov),
        ]
    factors = {"bias": optim.bias_factor, "head": optim.head_factor}
    if factors := {part: f for part, f in factors.items() if f is not None}:
        steps.insert(0, scale_gradients(factors))
    if optim.lookahead is not None:
        steps.append(lookahead(optim.lookahead, total))
    return optax.chain(*steps)


def are_kernels(params: Any) -> Any:
    """Which of the parameters are those of convolutions and dense layers."""
    flat = traverse_util.flatten_dict(params)
    return traverse_util.unflatten_dict({path: path[-1] == "kernel" for path in flat})


def scale_gradients(factors: Mapping[str, float]) -> optax.GradientTransformation:
    """Gradients times a factor, before weight decay: what has a higher one learns faster and is
    decayed as the rest is (Jordan 2024).

    Args:
      factors: of `bias`, the biases of norms, which are those beside no kernel, and `head`, the
        kernel and bias of the head.
    """

    def scaled(updates: Any) -> Any:
        flat = traverse_util.flatten_dict(updates)
        kernels = {path[:-1] for path in flat if path[-1] == "kernel"}

        def part(path: tuple[str, ...]) -> str:
            return "head" if "head" in path else "" if path[:-1] in kernels else path[-1]

        found = {path: leaf * factors.get(part(path), 1) for path, leaf in flat.items()}
        return traverse_util.unflatten_dict(found)

    return optax.stateless(lambda updates, params: scaled(updates))


class Slow(NamedTuple):
    """Attributes:
    step: [] int32, steps taken.
    params: the slow weights.
    """

    step: jax.Array
    params: Any


def lookahead(decay: float, total: int) -> optax.GradientTransformation:
    """Lookahead (Zhang et al. 2019) as a moving average that sets the weights (Jordan 2024).

    After every 5th step t, slow <- d slow + (1 - d) fast with d = decay^5 (t / total)^3, and
    fast <- slow; after the last step fast <- slow, whichever it is.

    Args:
      decay: of the slow weights, in a step, at the end of the training.
    """

    def init(params: optax.Params) -> Slow:
        return Slow(jnp.zeros((), jnp.int32), jax.tree.map(jnp.copy, params))

    def update(updates: optax.Updates, state: Slow, params: optax.Params | None = None) -> Any:
        step = state.step + 1
        looks = step % EVERY == 0
        keep = decay**EVERY * (step / np.float32(total)) ** 3
        fast = optax.apply_updates(params, updates)
        slow = jax.tree.map(
            lambda slow, fast: jnp.where(looks, keep * slow + (1 - keep) * fast, slow),
            state.params,
            fast,
        )
        updates = jax.tree.map(
            lambda update, slow, param: jnp.where(looks | (step == total), slow - param, update),
            updates,
            slow,
            params,
        )
        return updates, Slow(step, slow)

    return optax.GradientTransformation(init, update)
