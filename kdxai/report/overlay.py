"""A map in colour over its picture."""

import jax.numpy as jnp
import matplotlib
import numpy as np
from numpy.typing import ArrayLike

from kdxai.errors import UserError
from kdxai.explain.maps import resize

MAP_COLOURS = "inferno"
ALPHA = 0.6  # of the colours


def overlay(image: ArrayLike, heatmap: ArrayLike, alpha: float = ALPHA) -> np.ndarray:
    """A map in colour over its image in grey, to be shown or kept as a picture.

    Args:
      image: [H, W] or [H, W, C], uint8 or floats in [0, 1]; drawn as `picture` says.
      heatmap: [h, w] in [0, 1], such as `kdxai.explain.min_max` makes of a method's map; resized to
        the image's grid.
      alpha: 0 shows the image alone, 1 the map alone.

    Returns:
      uint8 [H, W, 3].

    Raises:
      UserError: an argument of another shape, type or range.
    """
    image, heatmap = np.asarray(image), np.asarray(heatmap)
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or not image.size:
        raise UserError(f"an image is [H, W, C], but got {list(image.shape)}")
    if image.dtype != np.uint8:
        _require_unit(image, "an image is uint8, or floats in [0, 1]; scale it first")
    if heatmap.ndim != 2 or not heatmap.size:
        raise UserError(f"a map is [h, w], but got {list(heatmap.shape)}")
    _require_unit(heatmap, "a map is in [0, 1]; kdxai.explain.min_max scales one")
    if not 0 <= alpha <= 1:
        raise UserError(f"alpha is 0 to 1, not {alpha}")
    shown = picture(image)
    grey = shown if shown.ndim == 2 else shown.mean(-1)
    grey = grey / (255.0 if image.dtype == np.uint8 else 1.0)
    on_grid = np.clip(np.asarray(resize(jnp.asarray(heatmap), image.shape[:2])), 0, 1)
    colours = matplotlib.colormaps[MAP_COLOURS](on_grid)[..., :3]
    mixed = (1 - alpha) * np.clip(grey, 0, 1)[..., None] + alpha * colours
    return np.round(255 * mixed).astype(np.uint8)


def picture(image: np.ndarray) -> np.ndarray:
    """[..., H, W, C] pixels of any channels -> what is drawn: [..., H, W] grey or [..., H, W, 3].

    What is done with other numbers of channels than one and three says `drawn_as`.

    Args:
      image: uint8, or floats in [0, 1].
    """
    channels = image.shape[-1]
    if channels == 1:
        return image[..., 0]
    if channels == 2:
        return image[..., [0, 1, 1]]
    if channels != 4:
        return image[..., :3]
    white = 255 if image.dtype == np.uint8 else 1
    alpha = image[..., 3:] / white
    over = alpha * image[..., :3] + (1 - alpha) * white
    return (np.round(over) if white == 255 else over).astype(image.dtype)


def drawn_as(channels: int) -> str:
    """How images of so many channels are shown, in a sentence; "" where that is plain."""
    if channels in (1, 3):
        return ""
    if channels == 2:
        return "Two channels are shown in false colour: the first red, the second green and blue."
    if channels == 4:
        return "Four channels are taken for RGBA, and shown over white."
    return f"Of {channels} channels the first three are shown, as red, green and blue."


def _require_unit(values: np.ndarray, says: str) -> None:
    """Refuse what is no number in [0, 1].

    Raises:
      UserError: some value is not.
    """
    # Resizing may have rounded beyond either; NaN is neither.
    if not ((values > -1e-4) & (values < 1 + 1e-4)).all():
        low, high = float(values.min()), float(values.max())
        raise UserError(f"{says} (got {low:.3g} to {high:.3g})")
