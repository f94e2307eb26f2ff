"""What a caller hands in, checked before anything is computed of it.

A wrong scale, a stray axis or a label that is no class gives numbers, but not the right ones.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from kdxai.errors import UserError

AS_STORED = "the pixels as they are stored: (image / 255 - mean) / std is computed here"


def images(given: Any) -> Any:
    """[N, H, W, C] uint8, as it was given.

    Raises:
      UserError: another type or shape, or no images.
    """
    given = given if hasattr(given, "dtype") else np.asarray(given)
    if given.dtype != np.uint8:
        small = np.issubdtype(given.dtype, np.floating) and given.size and np.max(given) <= 1
        cure = "; np.uint8(np.round(255 * images)) where they lie in [0, 1]" if small else ""
        raise UserError(f"images must be uint8, {AS_STORED}, but are {given.dtype}{cure}")
    if given.ndim != 4:
        raise UserError(f"images must be [N, H, W, C], but are {list(given.shape)}")
    if not len(given):
        raise UserError("no images to evaluate; ask for at least 1")
    return given


def normalisation(mean: ArrayLike, std: ArrayLike, channels: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of images in [0, 1], each float32 [C].

    Raises:
      UserError: they are no numbers, of images in [0, 255], not finite, not positive, or of other
        channels.
    """
    found = []
    for name, given in (("mean", mean), ("std", std)):
        try:
            values = np.asarray(given, np.float32)
        except (TypeError, ValueError):
            raise UserError(
                f"{name} must be numbers, one for each channel, not {given!r}"
            ) from None
        if values.shape not in ((), (1,), (channels,)):
            raise UserError(
                f"{name} must be one number for each of the {channels} channels, but has "
                f"{values.size}"
            )
        low = 0.0 if name == "mean" else np.finfo(np.float32).tiny
        if not ((values >= low) & (values <= 1)).all():  # NaN is neither
            cure = "; divide those of images in [0, 255] by 255" if (values > 1).any() else ""
            raise UserError(
                f"{name} must be of images in [0, 1]{', above 0' if low else ''}, but is "
                f"{np.round(np.float64(values), 4).tolist()}{cure}"
            )
        found.append(np.broadcast_to(values, channels))
    return found[0], found[1]


def labels(given: Any, size: int, classes: int) -> np.ndarray:
    """int32 [N] true classes.

    Raises:
      UserError: they are not whole numbers [N], not one for each image, or none of the classes.
    """
    given = np.asarray(given)
    if given.ndim != 1 or not np.issubdtype(given.dtype, np.integer):
        cure = ""
        if given.ndim == 2:
            cure = "; labels[:, 0]" if given.shape[1] == 1 else "; one-hot.argmax(1)"
        raise UserError(
            f"labels must be whole numbers [N], but are {given.dtype} {list(given.shape)}{cure}"
        )
    if len(given) != size:
        raise UserError(f"there are {len(given)} labels for {size} images; give one for each")
    if wrong := given[(given < 0) | (given >= classes)][:1].tolist():
        raise UserError(
            f"label {wrong[0]} is none of the model's {classes} classes, 0 to {classes - 1}"
        )
    return given.astype(np.int32)


def ids(given: Any, size: int) -> np.ndarray:
    """[N] numbers of images.

    Raises:
      UserError: they are not whole numbers, or not one for each image.
    """
    given = np.asarray(given)
    if given.shape != (size,) or not np.issubdtype(given.dtype, np.integer):
        raise UserError(
            f"ids must be whole numbers [{size}], one for each image, but are {given.dtype} "
            f"{list(given.shape)}"
        )
    return given


def masks(given: Any, shape: Sequence[int]) -> np.ndarray:
    """bool [N, H, W], true inside the object.

    Args:
      shape: [N, H, W] of the images.

    Raises:
      UserError: they are of another shape, or hold more than two values.
    """
    given = np.asarray(given)
    if given.shape != tuple(shape):
        raise UserError(f"masks must be {list(shape)}, but are {list(given.shape)}")
    if given.dtype != bool and not np.isin(given, (0, given.max())).all():
        raise UserError(
            "masks must be true inside the object and false outside, but hold more than two "
            "values; compare them with a threshold"
        )
    return given != 0
