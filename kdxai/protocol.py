"""The choices of an evaluation as one frozen value."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from flax.core import FrozenDict

from kdxai.errors import UserError
from kdxai.explain import METHODS, Option
from kdxai.models import LAST

TRUTH = "mask"  # the control that needs no model: the data set's own ground-truth mask


@dataclass(frozen=True)
class Protocol:
    """What is explained, how its map is drawn, and against what it is measured.

    The defaults are the sound conventions of Poppi et al. 2021 (ADCC); the other values are what
    the published notebook of the paper did.

    Attributes:
      method: a name in `explain.METHODS`, or `mask`, the ground truth itself.
      stage: the target layer: that at whose end the map is drawn.
      foreign_head: let CAM weigh a map with a head that reads another one, where `stage` is not
        the last.
      mode: of the model: evaluation, or training, where BatchNorm normalises with the statistics of
        the one image and dropout is active.
      target: explain the predicted class, or the true label; the same for the masked image.
      relu: keep the evidence for the class alone; False keeps the sign, before scaling to [0, 1].
      score: the softmax probability of the class, or the largest logit whatever its class.
      masking: the normalised image times the map, so that it fades to the mean colour; or stretch,
        where image and product are scaled to the full range before they are normalised (again).
      similarity: coherency as ADCC takes it, (Pearson + 1) / 2 or SSIM.
      ssim: a Gaussian window and maps in [0, 1] (Wang et al. 2004); or uniform, a 7x7 window,
        sample covariance and the range of the second map.
      baseline: what the pixels become that insertion, deletion and their kin take away.
      complexity: the mean of the map on the image's grid; or the matrix 1-norm of the native map,
        its largest column sum, which grows with the grid.
      split: the images that are explained.
      options: of the method, by name, such as {"steps": 64}; only those that are not its defaults
        are kept, so that protocols that do the same are equal.
    """

    method: str = "cam"
    stage: str = LAST
    foreign_head: bool = False
    mode: Literal["evaluation", "training"] = "evaluation"
    target: Literal["predicted", "label"] = "predicted"
    relu: bool = True
    score: Literal["probability", "largest_logit"] = "probability"
    masking: Literal["multiply", "stretch"] = "multiply"
    similarity: Literal["pearson", "ssim"] = "pearson"
    ssim: Literal["gaussian", "uniform"] = "gaussian"
    complexity: Literal["mean", "matrix_1_norm"] = "mean"
    baseline: Literal["blur", "mean", "black"] = "blur"
    split: Literal["test", "train"] = "test"
    options: Mapping[str, Option] = FrozenDict()

    def __post_init__(self) -> None:
        require_method(self.method)
        hints = get_type_hints(type(self))
        for field in fields(self):
            hint, value = hints[field.name], getattr(self, field.name)
            if get_origin(hint) is Literal and value not in get_args(hint):
                raise UserError(f"{field.name} is {' or '.join(get_args(hint))}, not '{value}'")
        object.__setattr__(self, "options", FrozenDict(checked_options(self.method, self.options)))
        if self.stage != LAST and not reads_cut(self.method):
            raise UserError(f"stage does nothing to the method '{self.method}'; leave it out")
        if self.foreign_head and self.method != "cam":
            raise UserError(f"foreign_head is for cam, not for '{self.method}'; leave it out")
        if not self.relu and not takes(self.method, "relu"):
            raise UserError(f"relu=False does nothing to the method '{self.method}'; leave it out")

    @property
    def copies(self) -> int:
        """Of an image, in flight while its map is drawn."""
        return 2 if self.method == TRUTH else METHODS[self.method].copies(self.options)


def require_method(name: str) -> None:
    """Check the name of a method.

    Raises:
      UserError: there is no such method.
    """
    known = [*METHODS, TRUTH]
    if name not in known:
        raise UserError(f"there is no method '{name}'; known: {', '.join(known)}")


def reads_cut(method: str) -> bool:
    """Whether a method's map depends on the target layer."""
    return method != TRUTH and not METHODS[method].on_image


def takes(method: str, name: str) -> bool:
    """Whether a method can be told `key` or `relu`."""
    return method != TRUTH and METHODS[method].takes(name)


def needs(method: str, field: str) -> bool:
    """Whether a method cannot do without a field of `Classifier`."""
    return method != TRUTH and field in METHODS[method].needs


def by_rules(method: str) -> bool:
    """Whether a method runs the model by other rules, which not every operation has."""
    return method != TRUTH and METHODS[method].by_rules


def checked_options(method: str, options: Mapping[str, Any]) -> dict[str, Option]:
    """A method's options that are not its defaults.

    Raises:
      UserError: there is no such method or option, or it is out of its range.
    """
    require_method(method)
    if method == TRUTH:
        if options:
            raise UserError(f"the method '{TRUTH}' has no options")
        return {}
    return METHODS[method].checked(method, options)


def read_options(
    given: Mapping[str, Mapping[str, Any]], methods: Collection[str]
) -> dict[str, dict[str, Option]]:
    """The `Protocol.options` of each method that is drawn, from a tree as `default_options` is one.

    Raises:
      UserError: there is no such method or option, it is out of its range, or it is set for a
        method that is not drawn.
    """
    found = {method: checked_options(method, options) for method, options in given.items()}
    for method, options in found.items():
        if options and method not in methods:
            raise UserError(
                f"options.{method}.{next(iter(options))} is set, but the method '{method}' is not "
                "drawn; add it to methods or leave the option out"
            )
    return {method: found.get(method, {}) for method in methods}


SOUND = Protocol()
