"""Which operations of a traced program are activations: functions of one value, not linear."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

# Elementwise and not linear.
CURVES = (
    *("abs", "atan", "cbrt", "ceil", "clamp", "cos", "erf", "erfc", "exp", "exp2", "expm1"),
    *("floor", "integer_pow", "log", "log1p", "logistic", "max", "min", "pow", "round"),
    *("rsqrt", "sign", "sin", "sqrt", "square", "tan", "tanh"),
)
COMPARISONS = ("eq", "ge", "gt", "is_finite", "le", "lt", "ne")
# What else an elementwise function may be made of.
PIECES = ("add", "sub", "neg", "mul", "div", "select_n", "convert_element_type", "stop_gradient")


class Activation(NamedTuple):
    """An elementwise function that is not linear.

    Attributes:
      function: array -> array of its shape.
      name: of the operation, or of the function that was jitted; "relu" however it is written.
    """

    function: Callable[[jax.Array], jax.Array]
    name: str

    def value_and_slope(self, z: jax.Array) -> tuple[jax.Array, jax.Array]:
        """f(z) and f'(z), element by element."""
        y, back = jax.vjp(self.function, z)
        return y, back(jnp.ones_like(y))[0]


def aval(atom: Any) -> Any:
    """Shape and type."""
    return atom.aval


def inner_of(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """The function that an operation calls, where it calls one."""
    if eqn.primitive.name in ("scan", "while", "cond"):
        return None
    found = eqn.params.get("call_jaxpr", eqn.params.get("jaxpr"))
    return ClosedJaxpr(found, ()) if isinstance(found, Jaxpr) else found


def activation_name(eqn: JaxprEqn) -> str:
    inner = inner_of(eqn)
    if inner is None:
        rectifies = eqn.primitive.name == "max" and any(map(_is_zero, eqn.invars))
        return "relu" if rectifies else eqn.primitive.name
    first = activation_name(inner.eqns[0]) if len(inner.eqns) == 1 else ""
    return first if first == "relu" else eqn.params.get("name", first or eqn.primitive.name)


def _is_zero(atom: Any) -> bool:
    return isinstance(atom, Literal) and np.ndim(atom.val) == 0 and atom.val == 0


def is_activation(eqn: JaxprEqn, flows: Sequence[bool]) -> bool:
    """Whether it is a function of one flow, element by element, and not linear."""
    own = {id(atom): atom for atom, flow in zip(eqn.invars, flows, strict=True) if flow}
    if len(own) != 1 or len(eqn.outvars) != 1:
        return False
    (atom,) = own.values()
    bent = _bent(eqn, flows, aval(atom).shape)
    return bool(bent) and jnp.issubdtype(aval(eqn.outvars[0]).dtype, jnp.floating)


def _bent(eqn: JaxprEqn, flows: Sequence[bool], shape: tuple[int, ...]) -> bool | None:
    """Whether an elementwise operation is not linear in its flows; None if not elementwise."""
    name, inner = eqn.primitive.name, inner_of(eqn)
    if any(aval(out).shape != shape for out in eqn.outvars):
        return None
    if inner is not None:
        return _all_bent(inner.jaxpr, flows, shape)
    if name in (*CURVES, *COMPARISONS):
        return True
    products = {"mul": all(flows), "div": flows[-1], "select_n": flows[0]}
    return products.get(name, False) if name in PIECES else None


def _all_bent(jaxpr: Jaxpr, flows: Sequence[bool], shape: tuple[int, ...]) -> bool | None:
    moving = {id(var) for var, flow in zip(jaxpr.invars, flows, strict=True) if flow}
    bent = False
    for eqn in jaxpr.eqns:
        own = [id(atom) in moving for atom in eqn.invars]
        if not any(own):
            continue
        one = _bent(eqn, own, shape)
        if one is None:
            return None
        bent |= one
        moving |= {id(var) for var in eqn.outvars}
    return bent
