"""What a measure is: what it computes of one explained image, what it needs, what it costs."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from kdxai.drawing import Explanation
from kdxai.explain import Classifier
from kdxai.externals import External
from kdxai.models.trained import Trained
from kdxai.protocol import Protocol

Values = dict[str, jax.Array]
SMOOTHING = 6  # what an image's key is folded with for the noise of `Preparation.copies`
Model = Trained | External


class Subject(NamedTuple):
    """What a measure may use.

    Attributes:
      protocol: by which it was explained.
      classifier: that was explained; its parameters are its leaves.
      image: [H, W, C] normalised.
      explanation: of the image.
      draw: (classifier, image, class_index, mask=own) -> map in [0, 1] on the grid of `image`, as
        the explanation's was.
      mask: [H, W] bool, where the object truly is, or None.
      key: the image's own random key.
      mean, std: [C] of the normalisation.
      prepared: the image's share of what the measure's `Preparation` made, or None.
    """

    protocol: Protocol
    classifier: Classifier
    image: jax.Array
    explanation: Explanation
    draw: Callable[..., jax.Array]
    mask: jax.Array | None
    key: jax.Array
    mean: jax.Array
    std: jax.Array
    prepared: Any = None

    def probability(self, image: jax.Array) -> jax.Array:
        """[] softmax probability of the class explained."""
        return jax.nn.softmax(self.classifier(image))[self.explanation.class_index]


class Ingredients(NamedTuple):
    """From what a measure is prepared.

    Attributes:
      model: that is explained.
      protocol: by which.
      images, labels: [N, H, W, C] uint8 and [N] of the whole split.
      chosen: [n] indices of the images that are measured.
      logits: () -> [N, K] of the model, computed when it is called.
    """

    model: Model
    protocol: Protocol
    images: Any
    labels: np.ndarray
    chosen: np.ndarray
    logits: Callable[[], np.ndarray]


class Preparation(NamedTuple):
    """What must be there before images are measured.

    Attributes:
      what: in words, to ask for it.
      make: Source -> any tree of `Classifier`s, and of uint8 arrays [n, ..., H, W, C] of further
        images. A measure sees, in the same tree, a classifier's map [H, W] of the image for the
        class explained, and the image's own further images [..., H, W, C], normalised.
      suits: whether a model has what it takes; of others the measure is missing.
      lack: what those others lack, as "whose ..." behind their names.
      of_split: whether it depends on images of the split that are not measured.
      copies: of an image under noise, whose maps are averaged; 0 for the map of the image itself.
    """

    what: str
    make: Callable[[Ingredients], Any]
    suits: Callable[[Model], bool] = lambda model: True
    lack: str = ""
    of_split: bool = False
    copies: int = 0


class Column(NamedTuple):
    """A number of every image.

    Attributes:
      title: how people call it.
      better: +1 where more is better, -1 where less is, 0 where neither.
    """

    title: str
    better: int


class Measure(NamedTuple):
    """Numbers of one explained image that belong together.

    Attributes:
      compute: Subject -> name -> number. A column may be missing, as of images too small for it.
      columns: every name that `compute` may give.
      cost: copies of an image that further forward passes have in flight, times those of the map,
        and at least 1; or 0, and then it is always measured.
      preparation: what `Subject.prepared` is made by, or None.
      tiles: how many times as high and wide as the image the images are that it has explained.
      details: whether `compute` may follow a column by others, `NAME_...`, which no table shows.
      version: to be raised where its numbers become others.
    """

    compute: Callable[[Subject], Values]
    columns: Mapping[str, Column]
    cost: int = 0
    preparation: Preparation | None = None
    tiles: tuple[int, int] = (1, 1)
    details: bool = False
    version: int = 1

    def __call__(self, subject: Subject) -> Values:
        """The measure's values.

        Raises:
          ValueError: one has no title.
        """
        values = self.compute(subject)
        for name in values:
            detail = self.details and any(name.startswith(f"{column}_") for column in self.columns)
            if name not in self.columns and not detail:
                raise ValueError(f"'{name}' has no title; declare it among the measure's columns")
        return values
