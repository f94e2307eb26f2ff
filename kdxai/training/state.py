"""What a training run carries from step to step, and how it starts."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

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
