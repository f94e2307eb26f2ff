"""The shape that every kdxai model has: named units in sequence, then a pooled linear head."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.core import FrozenDict

from kdxai.errors import UserError
from kdxai.models import factorised, quantised
from kdxai.models.convolution import conv_general_dilated, depthwise

LAST = "last"  # the cut at the feature map that the head pools
MOMENTUM = 0.9  # of BatchNorm's running averages
HE_FAN_OUT = nn.initializers.variance_scaling(2.0, "fan_out", "normal")


class Tokens(NamedTuple):
    """What there is at a cut of a model with a class token.

    Attributes:
      grid: [N, h, w, c] tokens of the patches.
      token: [N, c] the class token, which has no place in the grid.
    """

    grid: jax.Array
    token: jax.Array


Features = jax.Array | Tokens


def grid(features: Features) -> jax.Array:
    """The map in what is at a cut: [N, h, w, c], or [h, w, c] of one image."""
    return features.grid if isinstance(features, Tokens) else features


def with_grid(features: Features, grid: jax.Array) -> Features:
    """The same features with another map."""
    return features._replace(grid=grid) if isinstance(features, Tokens) else grid


@dataclass(frozen=True)
class Layers:
    """The layers that the units of one model share; equal where they compute the same.

    Attributes:
      dtype: that the layers compute in; parameters and statistics stay float32.
      axis_name: the pmap axis over which BatchNorm takes its batch statistics.
      activation: every non-linearity of the model, ReLU in most families; guided backpropagation
        puts its own rule in the place of ReLU.
      weight_bits, activation_bits: of layers that round, see `quantised.Conv`.
      rank: of layers in two, see `factorised.Conv`; convolutions in groups stay whole.
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
        own = None
        if jax.default_backend() == "cpu" and options.get("feature_group_count", 1) > 1:
            own = depthwise
        # Of reverse mode alone, so that networks that are not trained have forward mode too.
        elif jax.default_backend() == "cpu" and (
            self.dtype == jnp.bfloat16 or self.axis_name is not None
        ):
            own = conv_general_dilated
        usual: dict[str, Any] = {
            "use_bias": False,
            "padding": 1,
            "dtype": self.dtype,
            "conv_general_dilated": own,
            # He et al. 2015, on the fan-out, as the reference code of both families has it.
            "kernel_init": HE_FAN_OUT,
        }
        options = usual | options
        if self.weight_bits is None:
            return nn.Conv(features, window, stride, **options)
        options |= {"weight_bits": self.weight_bits, "activation_bits": self.activation_bits}
        return quantised.Conv(features, window, stride, **options)

    def dense(self, features: int, **options: Any) -> nn.Module:
        """`nn.Dense`, or what stands in its place."""
        if self.rank is not None:
            whole = replace(self, rank=None).dense
            return factorised.Dense(whole, features, self.rank, FrozenDict(options))
        options = {"dtype": self.dtype} | options
        if self.weight_bits is None:
            return nn.Dense(features, **options)
        options |= {"weight_bits": self.weight_bits, "activation_bits": self.activation_bits}
        return quantised.Dense(features, **options)

    def norm(self, **options: Any) -> nn.BatchNorm:
        usual: dict[str, Any] = {"epsilon": 1e-5, "dtype": self.dtype}
        return nn.BatchNorm(momentum=MOMENTUM, axis_name=self.axis_name, **usual | options)

    def layer_norm(self) -> nn.LayerNorm:
        return nn.LayerNorm(epsilon=1e-6, dtype=self.dtype)

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


class Convolution(nn.Module):
    """A convolution, BatchNorm of its `epsilon`, the non-linearity."""

    width: int
    layers: Layers
    window: int = 3
    stride: int = 1
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x, train):
        window = (self.window, self.window)
        x = self.layers.conv(self.width, window, self.stride, padding=self.window // 2)(x)
        norm = self.layers.norm(epsilon=self.epsilon)
        return self.layers.activation(norm(x, use_running_average=not train))


class Network(nn.Module):
    """Units in sequence, global average pooling, a linear head; it can be cut at any unit.

    Equal by value and hashable: two networks that compute the same share a compiled program.

    Attributes:
      units: name -> module called as `unit(x, train)`, in order. Names are `stage2.block0` and the
        like; `stage2` alone means the last unit of that stage, `last` the last of all.
      num_classes: K.
      pooling: last features -> [N, c] vectors that the head is on, in float32; None is their global
        average.
    """

    units: FrozenDict[str, nn.Module]
    num_classes: int
    pooling: nn.Module | None = None

    def setup(self):
        self.head = nn.Dense(self.num_classes)

    def __call__(
        self, x: jax.Array, train: bool = False, taps: Sequence[str] | None = None
    ) -> jax.Array | tuple[jax.Array, dict[str, Features]]:
        """[N, H, W, C] normalised images -> [N, K] float32 logits.

        With `taps`, names of stages: the logits and {tap: features at the end of that stage}, in
        one pass.
        """
        features: Features = x
        found: dict[str, Features] = {}
        start = 0
        for tap in sorted(taps or (), key=self.cut):
            features = self.run(features, train, start, self.cut(tap))
            found[tap], start = features, self.cut(tap)
        logits = self.pool(self.run(features, train, start, len(self.units)))
        return logits if taps is None else (logits, found)

    def features(self, x: jax.Array, train: bool = False, stage: str = LAST) -> Features:
        """[N, H, W, C] images -> what is at the end of `stage`.

        That is a [N, h, w, c] map, or, of a model with a class token, `Tokens`; `grid` is the map
        of either.
        """
        return self.run(x, train, 0, self.cut(stage))

    def classify(self, x: Features, train: bool = False, stage: str = LAST) -> jax.Array:
        """Features at the end of `stage` -> [N, K] float32 logits."""
        return self.pool(self.run(x, train, self.cut(stage), len(self.units)))

    def run(self, x: Features, train: bool, start: int, stop: int) -> Features:
        """The units from `start` up to `stop`."""
        for name in list(self.units)[start:stop]:
            x = self.units[name](x, train)
        return x

    def pool(self, x: Features) -> jax.Array:
        """Last features -> [N, K] float32 logits."""
        x = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), x)
        return self.head(grid(x).mean((1, 2)) if self.pooling is None else self.pooling(x))

    def attention(self, x: jax.Array) -> dict[str, jax.Array]:
        """[N, H, W, C] images -> {name of a block: [N, heads, T, T] float32 attention}.

        A row is a token that attends, and sums to 1 over those that it attends to. The class token,
        where there is one, is the first; the others are the grid's, row by row. Attention rollout
        (Abnar & Zuidema 2020) is made of these.

        Raises:
          UserError: the network has no attention.
        """
        if not self.attentive:
            raise UserError(
                "the model has no attention, as CNNs have none; take a vision transformer (vit-...)"
            )
        found = {}
        for name, unit in self.units.items():
            if name in self.attentive:
                found[name] = unit.attention(x)
            x = unit(x, False)
        return found

    def attended(self, x: jax.Array, attention: Mapping[str, jax.Array]) -> dict[str, Features]:
        """{name of a block: features at its end} as functions of the blocks' own attention alone.

        Each block attends as it is told, to what comes into it in a usual pass, as a constant. So
        the gradient of a score of each block's features by all attention is that of LeGrad
        (Bousselham et al. 2024), in one backward pass; `classify` at the last block makes the
        logits of any.

        Args:
          attention: as of `attention`.
        """
        found = {}
        for name, unit in self.units.items():
            if name in attention:
                found[name] = unit(jax.lax.stop_gradient(x), False, attention[name])
            x = unit(x, False)
        return found

    @property
    def attentive(self) -> tuple[str, ...]:
        """The units that have attention."""
        return tuple(name for name, unit in self.units.items() if hasattr(unit, "attention"))

    @property
    def has_cam(self) -> bool:
        """Whether the head is linear on the global average of the last map: CAM is defined."""
        return self.pooling is None

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
                f"the model has no stage '{stage}'; its stages are {', '.join([*names, LAST])}"
            )
        return ends[-1]


def require_patches(shape: tuple[int, ...], patch: int) -> None:
    """Check that patches cover images.

    Raises:
      UserError: patches of so many pixels a side do not divide images of a shape [N, H, W, C].
    """
    height, width = shape[1:3]
    if height % patch or width % patch:
        raise UserError(
            f"patches of {patch}x{patch} pixels do not divide images of {height}x{width}; take "
            "images of another size, or a model of other patches"
        )


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
