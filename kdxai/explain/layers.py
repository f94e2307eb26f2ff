"""A classifier from any model and the name of its target layer."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
from flax import errors, linen, nnx

from kdxai.errors import UserError
from kdxai.explain.classifier import Classifier

# Called for each call of a layer: its name, and what runs it; returns the layer's output.
Observer = Callable[[str, Callable[[], Any]], Any]
SHOWN = 60  # names in a message
EVALUATE = "call it in evaluation mode: BatchNorm by its running averages, no Dropout"


def cut(
    model: Any,
    layer: str,
    *,
    call: Callable[[Any, jax.Array], jax.Array] | None = None,
    grid: Callable[[jax.Array], jax.Array] | None = None,
) -> Classifier:
    """Cut a model at its target layer, of which CAMs are drawn, as hooks do in PyTorch.

    The layer may be anywhere, also inside a residual block: the rest of the network runs with the
    layer's output held, and the gradient is of that alone. The model's own weights are read each
    time, and its code is not changed.

    Args:
      model: an NNX, Equinox or Keras model; or a function that runs linen or Haiku modules, such as
        `lambda images: network.apply(variables, images, train=False)`.
      layer: the target layer's name: `layer3/conv2` of linen, `net/~/block_1/conv` of Haiku,
        `layers.3.conv` of NNX and Equinox, a layer's `path` of Keras. A wrong one is answered with
        all there are.
      call: (model, image [H, W, C]) -> [K] logits; by default `model(image[None])[0]`.
      grid: what the layer returns -> its [h, w, c] map; by default its only example. Needed where
        channels come first (`lambda output: output.transpose(1, 2, 0)`) and where there are tokens.

    Raises:
      UserError: when the classifier is called: no such layer, one that is called several times, or
        a model in training mode.
    """
    call = call or (lambda model, image: model(image[None])[0])
    run = partial(_run_held, model, layer, call)

    def features(image: jax.Array) -> dict[str, Any]:
        return {"image": image, "output": run(image)[1]}

    def classify(features: dict[str, Any]) -> jax.Array:
        return run(features["image"], features["output"])[0]

    return Classifier(features, classify, grid=lambda f: (grid or _only_example)(f["output"]))


def _only_example(output: Any) -> Any:
    return output[0] if getattr(output, "ndim", 0) == 4 and len(output) == 1 else output


def _run_held(
    model: Any,
    layer: str,
    call: Callable[[Any, jax.Array], jax.Array],
    image: jax.Array,
    instead: Any = None,
) -> tuple[jax.Array, Any]:
    """The logits [K] and what the layer returns, `instead` where that is given."""
    names, outputs = [], []

    def observe(name: str, run_layer: Callable[[], Any]) -> Any:
        names.append(name)
        if name != layer or not name:
            return run_layer()
        outputs.append(run_layer() if instead is None else instead)
        return outputs[-1]

    with _observed(model, observe):
        try:
            logits = call(model, image)
        except (errors.ModifyScopeVariableError, errors.TraceContextError) as error:
            raise UserError(f"the model changes its own state; {EVALUATE}") from error
    if len(outputs) != 1:
        raise UserError(_mistaken(layer, names))
    if getattr(logits, "ndim", None) != 1:
        shape = getattr(logits, "shape", type(logits).__name__)
        raise UserError(
            f"the model must return [K] logits for an image and nothing else, not {shape}; give "
            "call=lambda model, image: ..."
        )
    return jnp.asarray(logits), outputs[0]


def _mistaken(layer: str, names: list[str]) -> str:
    times = names.count(layer)
    if times > 1:
        return f"the layer '{layer}' is called {times} times; name one that is called once"
    known = list(dict.fromkeys(name for name in names if name))
    more = f" and {len(known) - SHOWN} more" if len(known) > SHOWN else ""
    said = ", ".join(known[:SHOWN]) or "none that kdxai knows: NNX, Equinox, Keras, linen or Haiku"
    return f"the model has no layer '{layer}'; those that it calls: {said}{more}"


@contextlib.contextmanager
def _observed(model: Any, observe: Observer) -> Iterator[None]:
    """While this holds, each call of a layer goes through `observe`."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(linen.intercept_methods(partial(_linen, observe)))
        if haiku := sys.modules.get("haiku"):
            stack.enter_context(haiku.intercept_methods(partial(_haiku, observe)))
        if (keras := sys.modules.get("keras")) and isinstance(model, keras.Layer):
            stack.enter_context(_unchanged(keras.StatelessScope()))
            named = [(layer.path, layer) for layer in _layers(model)]
        else:
            named = _modules(model)
        known = {id(module): name for name, module in named}
        for kind in {type(module) for _, module in named}:
            stack.enter_context(_watched(kind, known, observe))
        yield


def _linen(observe: Observer, run: Any, args: Any, kwargs: Any, context: Any) -> Any:
    module = context.module
    if context.method_name != "__call__":
        return run(*args, **kwargs)
    if isinstance(module, linen.BatchNorm):
        asked = kwargs.get("use_running_average", args[1] if len(args) > 1 else None)
        _require_evaluation(module.use_running_average if asked is None else asked, module.name)
    return observe("/".join(module.path), lambda: run(*args, **kwargs))


def _haiku(observe: Observer, run: Any, args: Any, kwargs: Any, context: Any) -> Any:
    if context.method_name != "__call__":
        return run(*args, **kwargs)
    if type(context.module).__name__ == "BatchNorm":
        training = kwargs.get("is_training", args[1] if len(args) > 1 else False)
        _require_evaluation(not training, context.module.module_name)
    return observe(context.module.module_name, lambda: run(*args, **kwargs))


def _require_evaluation(evaluates: Any, name: str | None) -> None:
    if evaluates is False:
        raise UserError(f"'{name}' is in training mode; {EVALUATE}")


@contextlib.contextmanager
def _watched(kind: type, known: dict[int, str], observe: Observer) -> Iterator[None]:
    """Calls of known objects of a class go through `observe`."""
    own = kind.__call__

    def watching(module: Any, *args: Any, **kwargs: Any) -> Any:
        run = lambda: own(module, *args, **kwargs)  # noqa: E731
        return observe(known[id(module)], run) if id(module) in known else run()

    with mock.patch.object(kind, "__call__", watching):
        yield


@contextlib.contextmanager
def _unchanged(scope: Any) -> Iterator[None]:
    """A scope in which a Keras model changes no variable."""
    with scope:
        yield
    if scope.state_mapping:
        raise UserError(f"the model changes its own state; {EVALUATE}")


def _modules(model: Any) -> list[tuple[str, Any]]:
    """The names of an NNX or Equinox model's layers, and they; none of a function.

    Raises:
      UserError: one is in training mode.
    """
    equinox = sys.modules.get("equinox")
    if isinstance(model, nnx.Module):
        named = [(".".join(map(str, path)), module) for path, module in nnx.iter_modules(model)]
    elif equinox and isinstance(model, equinox.Module):
        named = list(_parts(model, equinox.Module))
    else:
        return []
    for name, module in named:
        for mode in ("use_running_average", "inference"):
            _require_evaluation(getattr(module, mode, None), name)
        if isinstance(module, nnx.Dropout) and module.rate:
            _require_evaluation(module.deterministic, name)
    return [(name, module) for name, module in named if callable(module) and name]


def _parts(module: Any, kind: type, name: str = "") -> Iterator[tuple[str, Any]]:
    """An Equinox module and those in it, with their paths."""
    yield name, module
    inner = jax.tree_util.tree_flatten_with_path(
        module, is_leaf=lambda node: isinstance(node, kind) and node is not module
    )[0]
    for path, part in inner:
        if isinstance(part, kind):
            step = jax.tree_util.keystr(path, simple=True, separator=".")
            yield from _parts(part, kind, f"{name}.{step}" if name else step)


def _layers(model: Any) -> Iterator[Any]:
    """The layers of a Keras model, those of models in it too."""
    for layer in getattr(model, "layers", ()):
        yield layer
        yield from _layers(layer)
