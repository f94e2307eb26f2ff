"""The choices of an evaluation as one frozen value."""

import inspect
from dataclasses import dataclass, fields
from typing import Literal, get_args, get_type_hints

from kdxai.errors import UserError
from kdxai.explain import METHODS, ON_IMAGE
from kdxai.models import LAST

TRUTH = "mask"  # the control that needs no model: the data set's own ground-truth mask


@dataclass(frozen=True)
class Protocol:
    """What is explained, how its map is drawn, and against what it is measured.

    The defaults are the sound conventions of Poppi et al. 2021 (ADCC); the other values are what
    the published notebook of the paper did.

    Attributes:
      method: a name in `explain.METHODS`, or `mask`, the ground truth itself.
      stage: the cut of the model at which the map is drawn.
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

    def __post_init__(self) -> None:
        known = [*METHODS, TRUTH]
        if self.method not in known:
            raise UserError(f"there is no method '{self.method}'; known: {', '.join(known)}")
        hints = get_type_hints(type(self))
        for field in fields(self):
            allowed, value = get_args(hints[field.name]), getattr(self, field.name)
            if allowed and value not in allowed:
                raise UserError(f"{field.name} is {' or '.join(allowed)}, not '{value}'")
        if self.stage != LAST and not reads_cut(self.method):
            raise UserError(f"stage does nothing to the method '{self.method}'; leave it out")
        if self.foreign_head and self.method != "cam":
            raise UserError(f"foreign_head is for cam, not for '{self.method}'; leave it out")
        if not self.relu and "relu" not in options(self.method):
            raise UserError(f"relu=False does nothing to the method '{self.method}'; leave it out")


def reads_cut(method: str) -> bool:
    """Whether a method's map depends on where the model is cut."""
    return method not in ON_IMAGE and method != TRUTH


def options(method: str) -> frozenset[str]:
    """The names of what a method can be told beyond model, image and class."""
    if method == TRUTH:
        return frozenset()
    known = inspect.signature(METHODS[method]).parameters.values()
    return frozenset(one.name for one in known if one.kind is inspect.Parameter.KEYWORD_ONLY)


SOUND = Protocol()
