"""What a training run carries from step to step, and how it starts."""

from collections import Counter
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from ml_collections import ConfigDict

from kdxai.errors import UserError
from kdxai.models import Network

REGRESSOR = "regressor"


@struct.dataclass
class Totals:
    """Sums over the examples seen so far; they are checkpointed, so no epoch is half counted."""

    loss: jax.Array
    correct: jax.Array
    count: jax.Array

    @classmethod
    def zero(cls) -> "Totals":
        return cls(*(jnp.zeros((), jnp.float32) for _ in range(3)))

    def means(self) -> tuple[float, float]:
        """Mean loss and accuracy per example, as host floats (this waits for the device)."""
        loss, correct, count = map(float, (self.loss, self.correct, self.count))
        return loss / max(count, 1), correct / max(count, 1)


@struct.dataclass
class TrainState:
    """Attributes:
    step: [] int32, steps taken.
    params, batch_stats: the model's variables; a model without BatchNorm has none of the latter.
      Below REGRESSOR, `params` has what an objective trains besides, which is no part of the model.
    opt_state: the optimiser's.
    totals: of the epoch under way.
    """

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    totals: Totals

    @property
    def variables(self) -> dict[str, Any]:
        return variables_of(self.params, self.batch_stats)


def variables_of(params: Any, batch_stats: Any) -> dict[str, Any]:
    """What a network is applied to."""
    params = {name: value for name, value in params.items() if name != REGRESSOR}
    return {"params": params} | ({"batch_stats": batch_stats} if batch_stats else {})


def learning_rate(optim: ConfigDict, epochs: float, steps_per_epoch: int) -> optax.Schedule:
    """step -> learning rate: linear warm-up, then cosine to zero or steps."""
    total = max(round(epochs * steps_per_epoch), 1)  # no epochs, no steps, and no schedule to check
    warmup = round(optim.warmup_epochs * steps_per_epoch)
    if not 0 <= warmup < total:
        raise UserError(f"optim.warmup_epochs={optim.warmup_epochs} leaves nothing of {epochs}")
    if optim.schedule == "cosine":
        after = optax.cosine_decay_schedule(optim.lr, total - warmup)
    elif optim.schedule == "step":
        after = step_schedule(optim, total, warmup)
    else:
        raise UserError(f"optim.schedule is 'cosine' or 'step', not '{optim.schedule}'")
    # The first step already moves: warm-up counts from 1.
    ramp = optax.linear_schedule(optim.lr / max(warmup, 1), optim.lr, max(warmup - 1, 1))
    return optax.join_schedules([ramp, after], [warmup]) if warmup else after


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


def optimizer(optim: ConfigDict, schedule: optax.Schedule) -> optax.GradientTransformation:
    """SGD with momentum; the weight decay is part of the gradient, as in the published recipes."""
    return optax.chain(
        optax.add_decayed_weights(optim.weight_decay),
        optax.sgd(schedule, momentum=optim.momentum, nesterov=optim.nesterov),
    )


def initial(model: Network, key: jax.Array, image_shape: tuple[int, ...]) -> Any:
    """Fresh variables of a network for [H, W, C] images."""
    return jax.jit(model.init)(key, jnp.zeros((1, *image_shape)))


def create_train_state(tx: optax.GradientTransformation, variables: Any) -> TrainState:
    """The state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=variables["params"],
        batch_stats=variables.get("batch_stats", {}),
        opt_state=tx.init(variables["params"]),
        totals=Totals.zero(),
    )
