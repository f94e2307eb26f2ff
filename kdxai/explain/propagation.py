"""A model run by other rules: what decompositions propagate in the place of each array.

The program of a model, whatever library it comes from, is read operation by operation (its jaxpr).
What depends on the image is a `Flow`, some arrays that stand for one; what does not is a constant,
and the operations fall into few kinds. Of each kind `Rules` say what becomes of the flows:

- linear with coefficients 0 and 1 (reshaping, sums, padding ...) and addition: the same operation
  on each array of the flow;
- `scale`: linear with a constant factor (a convolution's kernel, a matrix, BatchNorm's scale);
- `product`: bilinear in two flows (attention, LayerNorm, gates);
- `activation`: an elementwise function of one flow, a whole jitted one (`silu`, `gelu`) as well;
- `maximum` of two flows, which max-pooling is made of.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Jaxpr, JaxprEqn, Literal

from kdxai.errors import UserError
from kdxai.explain.elementwise import Activation, activation_name, aval, inner_of, is_activation

Parts = tuple[Any, ...]  # arrays of one shape, or None for zeros
Operation = Callable[[jax.Array, jax.Array], jax.Array]

# Linear with coefficients 0 and 1 -> which operands hold values; the others hold places.
EVERY, FIRST = slice(None), slice(1)
LINEAR: dict[str, slice] = {
    **dict.fromkeys(("add_any", "broadcast_in_dim", "concatenate", "convert_element_type"), EVERY),
    **dict.fromkeys(("copy", "cumsum", "expand_dims", "optimization_barrier", "pad"), EVERY),
    **dict.fromkeys(("reduce_precision", "reduce_sum", "reduce_window_sum", "reshape"), EVERY),
    **dict.fromkeys(("rev", "slice", "split", "squeeze", "stop_gradient", "tile"), EVERY),
    "transpose": EVERY,
    **dict.fromkeys(("dynamic_slice", "gather"), FIRST),
    "select_n": slice(1, None),
}
BILINEAR = ("mul", "dot_general", "conv_general_dilated")


class Flow(NamedTuple):
    """What stands for an array that depends on the image; None stands for zeros."""

    parts: Parts


class Rules(NamedTuple):
    """What a method makes of each kind of operation.

    Attributes:
      method: its name, for messages.
      constant: array -> the parts of a flow that is added to others.
      scale: (operation, parts, constant) -> parts, with operation(array, constant) linear.
      activation: (Activation, parts) -> parts.
      maximum: (parts, parts) -> parts.
      product: (operation, parts, parts) -> parts, with operation(array, array) bilinear; None
        where the method has no rule for it.
    """

    method: str
    constant: Callable[[jax.Array], Parts]
    scale: Callable[[Operation, Parts, jax.Array], Parts]
    activation: Callable[[Activation, Parts], Parts]
    maximum: Callable[[Parts, Parts], Parts]
    product: Callable[[Operation, Parts, Parts], Parts] | None = None


def propagate(
    function: Callable[[jax.Array], jax.Array], image: jax.Array, start: Parts, rules: Rules
) -> Parts:
    """The parts of function(image), which is a number, where `start` stands for the image.

    Raises:
      UserError: the method has no rule for an operation of the function.
    """
    traced = jax.make_jaxpr(function)(image)
    (found,) = _run(traced.jaxpr, traced.consts, [Flow(start)], rules)
    return found.parts if isinstance(found, Flow) else rules.constant(found)


def by_parts(operation: Callable[..., Any], *flows: Parts) -> Parts:
    """An operation on each part of some flows; None where all are None, and zeros for one that is.

    An operation with several results gives several parts.
    """
    known = [next(part for part in parts if part is not None) for parts in flows]
    results: list[Any] = []
    for parts in zip(*flows, strict=True):
        if all(part is None for part in parts):
            results.append(None)
            continue
        filled = [
            jnp.zeros_like(other) if part is None else part
            for part, other in zip(parts, known, strict=True)
        ]
        results.append(operation(*filled))
    return tuple(results)


def plus(one: jax.Array | None, other: jax.Array | None) -> jax.Array | None:
    """The sum of two arrays, where None stands for zeros."""
    if one is None or other is None:
        return other if one is None else one
    return one + other


def add(one: Parts, other: Parts) -> Parts:
    """The sum of two flows."""
    shape = np.broadcast_shapes(*(jnp.shape(p) for p in (*one, *other) if p is not None))
    return by_parts(lambda part: jnp.broadcast_to(part, shape), tuple(map(plus, one, other)))


def largest(values: Callable[[Parts], jax.Array], one: Parts, other: Parts) -> Parts:
    """All parts of the larger of two flows, element by element."""
    first = values(one) >= values(other)
    return by_parts(partial(jnp.where, first), one, other)


def _run(
    jaxpr: Jaxpr, constants: Sequence[Any], arguments: Sequence[Any], rules: Rules
) -> list[Any]:
    known = dict(zip(jaxpr.constvars, constants, strict=True))
    known.update(zip(jaxpr.invars, arguments, strict=True))
    read = lambda atom: atom.val if isinstance(atom, Literal) else known[atom]  # noqa: E731
    for eqn in jaxpr.eqns:
        inputs = [*map(read, eqn.invars)]
        flows = any(isinstance(one, Flow) for one in inputs)
        outputs = _flow(eqn, inputs, rules) if flows else _bind(eqn, inputs)
        known.update(zip(eqn.outvars, outputs, strict=True))
    return [*map(read, jaxpr.outvars)]


def _bind(eqn: JaxprEqn, inputs: Sequence[Any]) -> list[Any]:
    """The outputs of one operation."""
    bound = eqn.primitive.get_bind_params(eqn.params)
    # Older JAX has the functions that are called apart from the rest.
    functions, params = bound if isinstance(bound, tuple) else ((), bound)
    found = eqn.primitive.bind(*functions, *inputs, **params)
    return list(found) if eqn.primitive.multiple_results else [found]


def _flow(eqn: JaxprEqn, inputs: Sequence[Any], rules: Rules) -> list[Any]:
    """The outputs of one operation of which an operand is a flow."""
    name, flows = eqn.primitive.name, [isinstance(one, Flow) for one in inputs]
    inner = inner_of(eqn)
    if is_activation(eqn, flows):

        def function(value: jax.Array) -> jax.Array:
            pairs = zip(inputs, flows, strict=True)
            return _bind(eqn, [value if flow else one for one, flow in pairs])[0]

        one = Activation(function, activation_name(eqn))
        return [Flow(rules.activation(one, inputs[flows.index(True)].parts))]
    if inner is not None:
        return _run(inner.jaxpr, inner.consts, inputs, rules)
    if name in LINEAR and sum(flows[LINEAR[name]]) == sum(flows):
        return _linear(eqn, inputs, rules)
    lifted = [one.parts if isinstance(one, Flow) else rules.constant(one) for one in inputs]
    if name in SIMPLE:
        return [Flow(SIMPLE[name](eqn, rules, *lifted))]
    if name in BILINEAR and sum(flows) == 1:
        place = flows.index(True)

        def operation(value: jax.Array, factor: jax.Array) -> jax.Array:
            return _bind(eqn, [value, factor] if place == 0 else [factor, value])[0]

        return [Flow(rules.scale(operation, lifted[place], inputs[1 - place]))]
    if name == "div" and not flows[1]:
        return [Flow(rules.scale(jnp.multiply, lifted[0], 1 / jnp.asarray(inputs[1])))]
    if name in BILINEAR and rules.product is not None:
        both = lambda one, other: _bind(eqn, [one, other])[0]  # noqa: E731
        return [Flow(rules.product(both, *lifted))]
    if name == "div" and rules.product is not None:
        inverse = rules.activation(Activation(jnp.reciprocal, "reciprocal"), lifted[1])
        return [Flow(rules.product(jnp.multiply, lifted[0], inverse))]
    raise no_rule(rules.method, PRODUCT if name in (*BILINEAR, "div") else f"'{name}'")


def _linear(eqn: JaxprEqn, inputs: Sequence[Any], rules: Rules) -> list[Any]:
    values = range(len(inputs))[LINEAR[eqn.primitive.name]]

    def operation(*given: jax.Array) -> list[Any]:
        if eqn.primitive.name == "stop_gradient":  # a rule is of what is computed
            return [*given]
        known = [*inputs]
        known[values.start : values.stop] = given
        return _bind(eqn, known)

    some = (inputs[i] for i in values)
    found = by_parts(
        operation, *(one.parts if isinstance(one, Flow) else rules.constant(one) for one in some)
    )
    return [
        Flow(tuple(None if part is None else part[i] for part in found))
        for i in range(len(eqn.outvars))
    ]


def _negative(rules: Rules, one: Parts) -> Parts:
    return rules.scale(jnp.multiply, one, jnp.float32(-1))


def _smaller(rules: Rules, one: Parts, other: Parts) -> Parts:
    return _negative(rules, rules.maximum(_negative(rules, one), _negative(rules, other)))


def _highest(eqn: JaxprEqn, rules: Rules, one: Parts) -> Parts:
    """The maximum over axes."""
    for axis in sorted(eqn.params["axes"], reverse=True):
        one = by_parts(lambda part, axis=axis: jnp.moveaxis(part, axis, 0), one)
        while (size := _length(one)) > 1:
            half = size // 2
            first, second, rest = (
                by_parts(lambda part, a=a, b=b: part[a:b], one)
                for a, b in ((0, half), (half, 2 * half), (2 * half, size))
            )
            both = rules.maximum(first, second)
            one = by_parts(lambda a, b: jnp.concatenate([a, b]), both, rest)
        one = by_parts(lambda part: part[0], one)
    return one


def _length(one: Parts) -> int:
    return next(len(part) for part in one if part is not None)


def _pooled(eqn: JaxprEqn, rules: Rules, one: Parts) -> Parts:
    """Max-pooling, as the maximum of one strided slice for each place in the window.

    So its gradient is that of slices, which a CPU is many times faster at than at XLA's own.
    """
    p = eqn.params
    if {*p["base_dilation"], *p["window_dilation"]} != {1}:
        raise no_rule(rules.method, "dilated max-pooling")
    out = aval(eqn.outvars[0])
    least = rules.constant(jnp.array(jnp.finfo(out.dtype).min, out.dtype))
    config = [(low, high, 0) for low, high in p["padding"]]
    padded = by_parts(lambda part, fill: jax.lax.pad(part, fill, config), one, least)
    shape, strides = out.shape, p["window_strides"]

    def window(start: tuple[int, ...]) -> Parts:
        ends = [s + (n - 1) * t + 1 for s, n, t in zip(start, shape, strides, strict=True)]
        return by_parts(lambda part: jax.lax.slice(part, start, ends, strides), padded)

    return reduce(rules.maximum, map(window, np.ndindex(*p["window_dimensions"])))


SIMPLE: dict[str, Callable[..., Parts]] = {
    "add": lambda eqn, rules, one, other: add(one, other),
    "sub": lambda eqn, rules, one, other: add(one, _negative(rules, other)),
    "neg": lambda eqn, rules, one: _negative(rules, one),
    "max": lambda eqn, rules, one, other: rules.maximum(one, other),
    "min": lambda eqn, rules, one, other: _smaller(rules, one, other),
    "reduce_max": _highest,
    "reduce_window_max": _pooled,
}
PRODUCT = "the product of two values of the image (as in attention, LayerNorm and gates)"


def no_rule(method: str, operation: str) -> UserError:
    others = ("deep_lift, " if method != "deep_lift" else "") + "integrated_gradients"
    return UserError(
        f"{method} has no rule for {operation} in this model; use {others} or another method"
    )
