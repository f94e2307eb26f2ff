"""The shape that every kdxai model has: named units in sequence, then a pooled linear head."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict

from kdxai.errors import UserError
from kdxai.models import factorised, quantised
from kdxai.models.convolution import conv_general_dilated

LAST = "last"  # the cut at the feature map that the head pools
MOMENTUM = 0.9  # of BatchNorm's running averages
HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


@dataclass(frozen=True)
class Layers:
    """The layers that the units of one model share; equal where they compute the same.

    Attributes:
      dtype: that the layers compute in; parameters and statistics stay float32.
      axis_name: the pmap axis over which BatchNorm takes its batch statistics.
      activation: every ReLU of the model; guided backpropagation puts its own rule here.
      weight_bits, activation_bits: of convolutions that round, see `quantised.Conv`.
      rank: of convolutions in two, see `factorised.Conv`; those in groups stay whole.
    """

    dtype: Any = jnp.float32
    axis_name: str | None = None
    activation: Callable[[jax.Array], jax.Array] = nn.relu
    weight_bits: int | None = None
    activation_bits: int | None = None
    rank: float | None = None

    def conv(
        self, features: int, window: tuple[int, int], stride: int = 1, **options: Any
    ) -> nn.Module:
        """`nn.Conv` without a bias, padded by 1, or what stands in its place."""
        if self.rank is not None and options.get("feature_group_count", 1) == 1:
            name = options.pop("name", None)
            whole = replace(self, rank=None).conv
            return factorised.Conv(
                whole, features, window, stride, self.rank, FrozenDict(options), name=name
            )
        # Of reverse mode alone, so that networks that are not trained have forward mode too.
        own_gradient = jax.default_backend() == "cpu" and (
            self.dtype == jnp.bfloat16 or self.axis_name is not None
        )
        usual: dict[str, Any] = {
            "use_bias": False,
            "padding": 1,
            "dtype": self.dtype,
            "conv_general_dilated": conv_general_dilated if own_gradient else None,
            # He et al. 2015, on the fan-out, as the reference code of both families has it.
            "kernel_init": HE_FAN_OUT,
        }
        options = usual | options
        if self.weight_bits is None:
            return nn.Conv(features, window, stride, **options)
        options |= {"weight_bits": self.weight_bits, "activation_bits": self.activation_bits}
        return quantised.Conv(features, window, stride, **options)

    def norm(self, **options: Any) -> nn.BatchNorm:
        return nn.BatchNorm(
            momentum=MOMENTUM, epsilon=1e-5, dtype=self.dtype, axis_name=self.axis_name, **options
        )

    def dropout(self, rate: float) -> "Dropout":
        return Dropout(rate, self.axis_name)


class Dropout(nn.Module):
    """Dropout with one mask per example of the *global* batch.

    `nn.Dropout` draws one mask for the batch that a device sees, so its numbers would depend on the
    number of devices.
    """

    rate: float
    axis_name: str | None = None

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        if not train or self.rate == 0:
            return x
        key = self.make_rng("dropout")
        position = jnp.arange(len(x))
        if self.axis_name is not None:
            position += jax.lax.axis_index(self.axis_name) * len(x)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, position)
        keep = jax.vmap(lambda k: jax.random.bernoulli(k, 1 - self.rate, x.shape[1:]))(keys)
        return jnp.where(keep, x / (1 - self.rate), 0)


class Network(nn.Module):
    """Units in sequence, global average pooling, a linear head; it can be cut at any unit.

    Equal by value and hashable: two networks that compute the same share a compiled program.

    Attributes:
      units: name -> module called as `unit(x, train)`, in order. Names are `stage2.block0` and the
        like; `stage2` alone means the last unit of that stage, `last` the last of all.
      num_classes: K.
    """

    units: FrozenDict[str, nn.Module]
    num_classes: int

    def setup(self):
        self.head = nn.Dense(self.num_classes)

    def __call__(
        self, x: jax.Array, train: bool = False, taps: Sequence[str] | None = None
    ) -> jax.Array | tuple[jax.Array, dict[str, jax.Array]]:
        """[N, H, W, C] normalised images -> [N, K] float32 logits.

        With `taps`, names of stages: the logits and {tap: [N, h, w, c] map at the end of that
        stage}, in one pass.
        """
        maps, start = {}, 0
        for tap in sorted(taps or (), key=self.cut):
            x = self.run(x, train, start, self.cut(tap))
            maps[tap], start = x, self.cut(tap)
        logits = self.pool(self.run(x, train, start, len(self.units)))
        return logits if taps is None else (logits, maps)

    def features(self, x: jax.Array, train: bool = False, stage: str = LAST) -> jax.Array:
        """[N, H, W, C] images -> [N, h, w, c] feature map at the end of `stage`."""
        return self.run(x, train, 0, self.cut(stage))

    def classify(self, x: jax.Array, train: bool = False, stage: str = LAST) -> jax.Array:
        """[N, h, w, c] feature map at the end of `stage` -> [N, K] float32 logits."""
        return self.pool(self.run(x, train, self.cut(stage), len(self.units)))

    def run(self, x: jax.Array, train: bool, start: int, stop: int) -> jax.Array:
        """The units from `start` up to `stop`."""
        for name in list(self.units)[start:stop]:
            x = self.units[name](x, train)
        return x

    def pool(self, x: jax.Array) -> jax.Array:
        """[N, h, w, c] last feature map -> [N, K] float32 logits."""
        return self.head(x.astype(jnp.float32).mean((1, 2)))

    @property
    def dtype(self) -> Any:
        """That the units compute in."""
        return next(iter(self.units.values())).layers.dtype

    @property
    def activation(self) -> Callable[[jax.Array], jax.Array]:
        """The non-linearity of all units."""
        return next(iter(self.units.values())).layers.activation

    def with_activation(self, activation: Callable[[jax.Array], jax.Array]) -> "Network":
        """The same network with another non-linearity; variables of one fit the other."""
        units = {
            name: unit.clone(layers=replace(unit.layers, activation=activation))
            for name, unit in self.units.items()
        }
        return self.clone(units=FrozenDict(units))

    def cut(self, stage: str) -> int:
        """The number of units up to the end of `stage`.

        Raises:
          UserError: the model has no stage of that name.
        """
        names = list(self.units)
        ends = [i for i, name in enumerate(names, 1) if f"{name}.".startswith(f"{stage}.")]
        if stage == LAST:
            return len(names)
        if not ends:
            raise UserError(
                f"the model has no stage '{stage}'; it can be cut at: {', '.join([*names, LAST])}"
            )
        return ends[-1]


def inner_widths(inner: Sequence[int] | None, blocks: int) -> Sequence[int | None]:
    """Channels inside of each block, None for the usual ones.

    Raises:
      UserError: another number of them, or none in a block.
    """
    if inner is None:
        return [None] * blocks
    if len(inner) != blocks or min(inner) < 1:
        raise UserError(f"the model has {blocks} inner widths of at least 1, not {list(inner)}")
    return inner
