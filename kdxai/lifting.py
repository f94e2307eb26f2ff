"""A function that reads arrays from anywhere -> the same function with these arrays as arguments.

`jax.jit` keeps a program by the function's identity, and within it the arrays that the function
read when it was traced. A model whose weights change in place would go on with its old ones, every
new closure would be compiled anew, and its weights would stay in memory. A lifted function has
none of these faults: it is traced each time it is lifted, and its program is kept by what it does.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.extend.core.primitives import jit_p
from jax.tree_util import Partial

Spec = jax.ShapeDtypeStruct


def lift(function: Callable[[jax.Array], jax.Array], *specs: Spec) -> Partial:
    """A function of one array as a pytree; its leaves are all arrays that it reads, as they are.

    Two functions that do the same are equal but for their leaves and share what `jax.jit` has
    compiled. The result takes arrays of the `specs` alone.

    Args:
      specs: of the argument, shape and type, one for each shape it will be called with.
    """
    arrays: list[Any] = []
    programs, names = {}, []
    for spec in specs:
        traced = _traced(function, spec)
        own = []
        for const in traced.consts:
            place = next((i for i, array in enumerate(arrays) if array is const), len(arrays))
            arrays[place:] = arrays[place:] or [const]
            own.append(place)
        programs[spec.shape] = _Program(traced.jaxpr, tuple(own))
        names.append(_name(programs[spec.shape], arrays, spec))
    return Partial(_Lifted(tuple(names), programs), [jnp.asarray(array) for array in arrays])


def _traced(function: Callable[[jax.Array], jax.Array], spec: Spec) -> ClosedJaxpr:
    """The function's program; its constants are all arrays that it reads."""
    # Lambdas, as JAX keeps what it has traced by the function.
    once = jax.make_jaxpr(lambda value: function(value))(spec)
    return jax.make_jaxpr(lambda value: _evaluate(once.jaxpr, once.consts, [value])[0])(spec)


@dataclass(frozen=True)
class _Program:
    """A traced function of some of the arrays, by their places, and of one more."""

    jaxpr: Jaxpr  # without the arrays, as `jax.jit` keeps it
    places: tuple[int, ...]

    def __call__(self, arrays: Sequence[Any], value: jax.Array) -> jax.Array:
        return _evaluate(self.jaxpr, [arrays[i] for i in self.places], [value])[0]


@dataclass(frozen=True)
class _Lifted:
    """Equal where the names are, which tell what the programs do."""

    names: tuple[object, ...]
    programs: Mapping[tuple[int, ...], _Program] = field(compare=False)

    def __call__(self, arrays: Sequence[Any], value: jax.Array) -> jax.Array:
        return self.programs[value.shape](arrays, value)


def _evaluate(jaxpr: Jaxpr, consts: Sequence[Any], arguments: Sequence[Any]) -> list[Any]:
    """The outputs of a traced function, with jitted parts taken for what they are made of.

    Such a part may hold arrays of its own, which are to become arguments as well.
    """
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))
    read = lambda atom: atom.val if isinstance(atom, Literal) else known[atom]  # noqa: E731
    for eqn in jaxpr.eqns:
        if eqn.primitive is jit_p:
            inner = eqn.params["jaxpr"]
            outputs = _evaluate(inner.jaxpr, inner.consts, [read(atom) for atom in eqn.invars])
        else:
            needs = [atom for atom in eqn.invars if not isinstance(atom, Literal)]
            one = jaxpr.replace(constvars=[], invars=needs, outvars=eqn.outvars, eqns=[eqn])
            outputs = jax.core.eval_jaxpr(one, [], *map(read, needs))
        known.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _name(program: _Program, arrays: Sequence[Any], spec: Spec) -> object:
    """What tells apart programs that differ in their values or their derivatives.

    The lowered text says all of a program but the rules of its derivatives, so one is taken too.
    """

    def both(arrays: Sequence[Any], value: jax.Array) -> Any:
        output, pull = jax.vjp(lambda value: program(arrays, value), value)
        return output, pull(jnp.ones_like(output))

    specs = [Spec(jnp.shape(array), jax.dtypes.canonicalize_dtype(array.dtype)) for array in arrays]
    try:
        text = jax.jit(both).lower(specs, spec).as_text()
    except (TypeError, ValueError):  # no derivative: a program of its own
        return object()
    return program.places, hashlib.sha256(text.encode()).hexdigest()
