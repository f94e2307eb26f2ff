"""What an objective is: the loss of a batch, as a value, and what it reads."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax


class Outputs(NamedTuple):
    """What a network says of the images of a batch.

    Attributes:
      logits: [B, K] pre-softmax scores.
      taps: {name of a stage: [B, h, w, c] float32 feature map at its end}, in the order in which
        the objective names them. The student's and the teacher's are pairs in that order.
      size: (H, W) of the images.
      classify: (stage, [B, h, w, c] map at its end) -> [B, K] logits, as in the pass that gave
        these, with its class tokens; None where only logits are known.
      head: [c, K] weights of the linear head on the pooled last map; None where there is none.
      regressor: parameters of the objective's own, trained with the student's: see `Objective`.
    """

    logits: jax.Array
    taps: Mapping[str, jax.Array] = {}
    size: tuple[int, int] = (0, 0)
    classify: Callable[[str, jax.Array], jax.Array] | None = None
    head: jax.Array | None = None
    regressor: Any = None


Loss = Callable[[Outputs, Outputs | None, jax.Array], jax.Array]
Regressor = Callable[[jax.Array, Mapping[str, int], Mapping[str, int]], Any]


class Objective(NamedTuple):
    """Attributes:
    loss: (the student's outputs, the teacher's, [B] class indices) -> [B] float32 losses, whose
      mean over the global batch is minimised. The teacher's are None where there is none. It is
      called with one device's share of the batch; a loss that compares images with each other
      gathers those of all devices over `devices.AXIS`.
    taught: whether it learns from a teacher.
    taps: stages of the student whose feature maps it reads.
    teacher_taps: those of the teacher. With any, the teacher runs in the train step; without, its
      logits are all that is read, and they are computed once and cached.
    regressor: (key, {tap of the student: its channels}, the same of the teacher) -> parameters
      that are trained with the student's and are no part of it; None where it has none.
    reads: settings of the group `objective` that it reads.
    heads: whether it reads both networks' linear heads on the pooled last map.
    """

    loss: Loss
    taught: bool = False
    taps: tuple[str, ...] = ()
    teacher_taps: tuple[str, ...] = ()
    regressor: Regressor | None = None
    reads: tuple[str, ...] = ()
    heads: bool = False
