"""The grid pointing game: does the map find its own image in a mosaic of four?"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdxai.errors import UserError
from kdxai.measures.measure import Column, Ingredients, Measure, Preparation, Subject, Values
from kdxai.metrics import localisation

GRID = (2, 2)
CELLS = math.prod(GRID)


def by_grid(subject: Subject) -> Values:
    """Grid pointing game in a mosaic with three partners: a map of four times the size.

    The model must take images of any size, as one does that is convolutional up to its pooling.
    """
    partners = subject.prepared
    cell = jax.random.randint(jax.random.fold_in(subject.key, 4), (), 0, CELLS)

    def tile(own: jax.Array, others: jax.Array) -> jax.Array:
        return localisation.mosaic(jnp.roll(jnp.stack([own, *others]), cell, axis=0), GRID)

    mask = subject.mask
    if mask is not None:  # the truth of a mosaic is the truth of its one cell
        mask = tile(mask[..., None], jnp.zeros((len(partners), *mask.shape, 1)))[..., 0]
    heatmap = subject.draw(
        subject.classifier,
        tile(subject.image, partners),
        subject.explanation.class_index,
        mask=mask,
    )
    return {"grid_pointing_game": localisation.grid_pointing_game(heatmap, cell, GRID)}


def require_mosaics(labels: np.ndarray) -> None:
    """Check that the grid pointing game can be played.

    Raises:
      UserError: there are not enough classes with two images for a mosaic of four.
    """
    known = (np.bincount(labels) > 1).sum()
    if known < CELLS:
        raise UserError(
            f"the measure 'grid' needs {CELLS} classes of two images or more, not {known}"
        )


def choose_partners(logits: np.ndarray, labels: np.ndarray, target: str) -> np.ndarray:
    """With which images each image stands in a mosaic.

    Three classes other than the one explained are sampled for each image, and of each an image that
    the model sees as what it is. Boehle et al. 2021 take images that are classified correctly and
    with confidence; here it is the tenth (at least 2) of each class with the highest probability
    of that class, which a bad model has too. The image itself may be any, also a misclassified one.

    Args:
      logits, labels: [N, K] and [N] of a whole split: an image's partners depend on its index in
        it, not on which images are explained.
      target: of the protocol.

    Returns:
      [N, 3] indices of images.
    """
    explained = logits.argmax(1) if target == "predicted" else labels
    confidence = np.asarray(jax.nn.log_softmax(logits))[np.arange(len(labels)), labels]
    surest = np.argsort(-confidence, kind="stable")
    candidates = {}
    for c, size in enumerate(np.bincount(labels)):
        if size > 1:  # so that one is left beside the image itself
            candidates[c] = surest[labels[surest] == c][: max(2, size // 10)]

    def draw_partners(i: int) -> list[int]:
        rng = np.random.default_rng(i)
        others = rng.permutation([c for c in candidates if c != explained[i]])
        own = (candidates[c] for c in others[: CELLS - 1])
        return [rng.choice(some[some != i]) for some in own]

    return np.array([draw_partners(i) for i in range(len(labels))])


def partners(source: Ingredients) -> Any:
    """[n, 3, H, W, C] uint8, the partners of each image that is measured."""
    require_mosaics(source.labels)
    chosen = choose_partners(source.logits(), source.labels, source.protocol.target)
    return source.images[chosen[source.chosen]]


MOSAIC = Measure(
    by_grid,
    {"grid_pointing_game": Column("Grid pointing game (2x2 mosaic)", 1)},
    cost=CELLS,
    preparation=Preparation(
        "partners of every image; see mosaic_partners", partners, of_split=True
    ),
    tiles=GRID,
)
