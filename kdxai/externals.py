"""A classifier of one's own with what a study must know of it, and the way from a file to it."""

import sys
import textwrap
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from kdxai import inputs
from kdxai.errors import UserError
from kdxai.explain import Classifier


class External(NamedTuple):
    """A classifier that kdxai has not made.

    Attributes:
      classifier: of one normalised image.
      mean, std: [C], by which images in [0, 1] are normalised.
      class_names: K names.
      image_shape: (H, W, C) of the images that it was made for.
      facts: what else is known, as of a `models.trained.Trained`: `test_accuracy`, `data`, `crop`
        ...
    """

    classifier: Classifier
    mean: np.ndarray
    std: np.ndarray
    class_names: tuple[str, ...]
    image_shape: tuple[int, int, int]
    facts: Mapping[str, Any] = MappingProxyType({})


def is_external(place: str) -> bool:
    """Whether a place is `path/to/file.py:function`, and no model directory."""
    return place.partition(":")[0].endswith(".py")


def load_external(place: str) -> External:
    """What a function of a file returns: `path/to/file.py:function`, without arguments.

    The file can import those beside it, as a script can. It is run: give none of a stranger.

    Raises:
      UserError: there is no such file or function, it fails, or it returns something else.
    """
    text, _, name = place.partition(":")
    path = Path(text).resolve()
    if not name:
        raise UserError(f"name the function of {text} that returns the classifier: {text}:FUNCTION")
    if not path.is_file():
        raise UserError(f"there is no file {text}")
    sys.path.insert(0, str(path.parent))
    try:
        return checked(_function(path, name)())
    except UserError as error:
        raise UserError(f"{place}: {error}") from error
    except (Exception, SystemExit) as error:  # a script may end itself
        why = textwrap.shorten(repr(error), 200)
        raise UserError(f"{place} failed{_line(path, error)}: {why}") from error
    finally:
        sys.path.remove(str(path.parent))


def _function(path: Path, name: str) -> Callable[[], Any]:
    module = sys.modules[f"external_{path.stem}"] = ModuleType(f"external_{path.stem}")
    module.__file__ = str(path)
    # Not imported, which may take what was compiled of the file as it was a second ago.
    exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    function = getattr(module, name, None)
    if not callable(function):
        raise UserError("the file has no such function")
    return function


def checked(found: Any) -> External:
    """An External, its fields of the types that they are to have.

    Raises:
      UserError: it is no External, or its parts do not fit each other.
    """
    if not isinstance(found, External):
        raise UserError(
            "a model is kdxai.External(classifier, mean, std, class_names, image_shape), but this "
            f"is of type {type(found).__name__}"
        )
    shape, names, facts = found.image_shape, found.class_names, found.facts
    if np.shape(shape) != (3,) or not all(isinstance(n, int | np.integer) and n > 0 for n in shape):
        raise UserError(f"its image_shape must be (height, width, channels), not {shape}")
    if isinstance(names, str) or np.ndim(names) != 1:
        raise UserError(f"its class_names must be a list of names, not {names!r}")
    if not isinstance(facts, Mapping):
        raise UserError(f"its facts must be a dictionary, not {facts!r}")
    accuracy = facts.get("test_accuracy", 0.0)
    if not isinstance(accuracy, int | float) or not 0 <= accuracy <= 1:
        raise UserError(f"its test_accuracy must be a share, from 0 to 1, not {accuracy!r}")
    height, width, channels = map(int, shape)
    image = jax.ShapeDtypeStruct((height, width, channels), jnp.float32)
    logits = jax.eval_shape(lambda image: found.classifier(image), image)
    names = tuple(map(str, names))
    if logits.shape != (len(names),):
        raise UserError(f"its logits are {list(logits.shape)} for {len(names)} class names")
    mean, std = inputs.normalisation(found.mean, found.std, channels)
    return found._replace(
        mean=mean, std=std, class_names=names, image_shape=(height, width, channels)
    )


def _line(path: Path, error: BaseException) -> str:
    """Where a file failed, as far as that was in the file itself."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == str(path)]
    if isinstance(error, SyntaxError) and error.filename == str(path):
        lines.append(error.lineno)
    return f" in line {lines[-1]}" if lines else ""
