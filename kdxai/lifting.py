"""A function that reads arrays from anywhere -> the same function with these arrays as arguments.

`jax.jit` keeps a program by the function's identity, and within it the arrays that the function
read when it was traced. A model whose weights change in place would go on with its old ones, every
new closure would be compiled anew, and its weights would stay in memory. A lifted function has
none of these faults: it is traced each time it is lifted, and its program is cached by what it
does.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal
from jax.extend.core.primitives import jit_p
from jax.tree_util import Partial

Spec = jax.ShapeDtypeStruct


def lift(function: Callable[[Any], Any], *specs: Any) -> Partial:
    """A function of arrays to arrays as a pytree; its leaves are all arrays that it reads.

    Two functions that do the same are equal but for their leaves and share what `jax.jit` has
    compiled. The result takes arrays of the `specs` alone.

    Args:
      specs: of the argument, a pytree of shapes and types for each that it will be called with.
    """
    arrays: list[jax.Array] = []
    programs, names = {}, []
    for spec in specs:
        values, structure = jax.tree.flatten(spec)
        # Lambdas, as JAX keeps what it has traced by the function.
        flat = lambda *values, structure=structure: function(structure.unflatten(values))  # noqa: E731
        traced, output = jax.make_jaxpr(flat, return_shape=True)(*values)
        places = tuple(_place(constant, arrays) for constant in _constants(traced))
        own = [Spec(arrays[i].shape, arrays[i].dtype) for i in places]
        jaxpr = jax.make_jaxpr(partial(_evaluate, traced))(own, values).jaxpr
        program = _Program(jaxpr, places, jax.tree.structure(output))
        programs[_kind(spec)] = program
        names.append((_kind(spec), places, program.output, _name(jaxpr, own, values)))
    return Partial(_Lifted(tuple(names), programs), arrays)


def _kind(value: Any) -> tuple[object, ...]:
    """What tells arguments of a lifted function apart: their structure and shapes."""
    leaves, structure = jax.tree.flatten(value)
    return structure, *(leaf.shape for leaf in leaves)


def _place(constant: Any, arrays: list[jax.Array]) -> int:
    """Where an array is among those known, at the end if it was not."""
    for i, array in enumerate(arrays):
        if array is constant:
            return i
    arrays.append(jnp.asarray(constant))
    return len(arrays) - 1


class _Program(NamedTuple):
    """A function of some of the arrays, by their places, and of more; and the form of what it
    returns."""

    jaxpr: Jaxpr
    places: tuple[int, ...]
    output: Any


@dataclass(frozen=True)
class _Lifted:
    """Equal where the names are, which tell what the programs do."""

    names: tuple[object, ...]
    programs: Mapping[tuple[object, ...], _Program] = field(compare=False)

    def __call__(self, arrays: Sequence[Any], value: Any) -> Any:
        jaxpr, places, output = self.programs[_kind(value)]
        own = (arrays[i] for i in places)
        return output.unflatten(jax.core.eval_jaxpr(jaxpr, [], *own, *jax.tree.leaves(value)))


def _constants(traced: ClosedJaxpr) -> Iterator[Any]:
    """The arrays that a traced function holds, and then its jitted parts."""
    yield from traced.consts
    for eqn in traced.jaxpr.eqns:
        if eqn.primitive is jit_p:
            yield from _constants(eqn.params["jaxpr"])


def _evaluate(traced: ClosedJaxpr, constants: Sequence[Any], values: Sequence[Any]) -> list[Any]:
    """The outputs of a traced function, with others for its `_constants`."""
    return _run(traced, iter(constants), values)


def _run(traced: ClosedJaxpr, constants: Iterator[Any], arguments: Sequence[Any]) -> list[Any]:
    jaxpr = traced.jaxpr
    known = {var: next(constants) for var in jaxpr.constvars}
    known.update(zip(jaxpr.invars, arguments, strict=True))
    read = lambda atom: atom.val if isinstance(atom, Literal) else known[atom]  # noqa: E731
    for eqn in jaxpr.eqns:
        if eqn.primitive is jit_p:
            outputs = _run(eqn.params["jaxpr"], constants, [*map(read, eqn.invars)])
        else:
            needs = [atom for atom in eqn.invars if not isinstance(atom, Literal)]
            one = jaxpr.replace(constvars=[], invars=needs, outvars=eqn.outvars, eqns=[eqn])
            outputs = jax.core.eval_jaxpr(one, [], *map(read, needs))
        known.update(zip(eqn.outvars, outputs, strict=True))
    return [read(atom) for atom in jaxpr.outvars]


def _name(jaxpr: Jaxpr, own: Sequence[Spec], values: Sequence[Spec]) -> object:
    """What tells apart programs that differ in their values or their derivatives.

    The lowered text says all of a program but the rules of its derivatives, so one is taken too.
    """

    def both(own: Sequence[Any], *values: Any) -> Any:
        forward = lambda *values: jax.core.eval_jaxpr(jaxpr, [], *own, *values)  # noqa: E731
        output, pull = jax.vjp(forward, *values)
        return output, pull(jax.tree.map(jnp.ones_like, output))

    try:
        text = jax.jit(both).lower(own, *values).as_text()
    except (TypeError, ValueError, NotImplementedError):  # no derivative: a program of its own
        return object()
    return hashlib.sha256(text.encode()).hexdigest()
