"""Picture files as people keep them, each as the array that a model takes."""

import warnings
from os import PathLike
from typing import Any

import numpy as np

from kdxai.errors import UserError, one_line

SUFFIXES = frozenset({".bmp", ".jpeg", ".jpg", ".png", ".webp"})  # in lower case
FORMATS = ("BMP", "JPEG", "PNG", "WEBP")  # by their content; Pillow opens others with more code
ORIENTATION = 0x0112  # the tag of EXIF: how the camera was held
CURE = "replace it or take it away"


def read(path: str | PathLike[str], size: int | tuple[int, int], crop: float = 1.0) -> np.ndarray:
    """The middle of a picture, resized: the largest part that has the shape asked for.

    Its shorter side is resized and the longer one cut, as in the evaluation of ImageNet models; the
    filter is bicubic over all pixels that a new one covers. A picture of that size is not changed.
    It is turned as its EXIF orientation says. Grey, palette and CMYK pictures become RGB, what is
    transparent is laid on white, and of 16 bits the upper eight are kept.

    Args:
      path: a PNG, JPEG, WebP or BMP file.
      size: height and width in pixels; one number for both.
      crop: the share of either side that is kept, of the middle; 224 pixels of an image whose
        shorter side has 256, as many ImageNet models are evaluated, are 0.875.

    Returns:
      uint8 [H, W, 3].

    Raises:
      UserError: crop is no share; the file cannot be read, is damaged or cut off, is no such
        picture, or has more than 89 million pixels (`PIL.Image.MAX_IMAGE_PIXELS`).
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    height, width = (size, size) if isinstance(size, int) else size
    if not 0 < crop <= 1:
        raise UserError(f"crop is {crop}: it must be a share of a picture, above 0 and at most 1")
    try:
        with _opened(path) as image:
            # A JPEG is decoded at a fraction of its size, but still twice as large as asked for.
            image.draft(None, (round(2 * max(height, width) / crop),) * 2)
            whole = _rgb(_turned(image))
            margin = (1 - crop) / 2
            part = ImageOps.fit(whole, (width, height), Image.Resampling.BICUBIC, margin)
    except UnidentifiedImageError as error:
        raise UserError(f"{path} is no PNG, JPEG, WebP or BMP picture: {CURE}") from error
    except Exception as error:  # a damaged file fails in many ways
        raise UserError(f"cannot read the picture {path} ({one_line(error)}): {CURE}") from error
    return np.array(part)


def _opened(path: str | PathLike[str]) -> Any:
    """A picture of which the head has been read, and of a PNG the checksums."""
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        image = Image.open(path, formats=FORMATS)
    if image.format == "PNG":  # decoding does not look at them
        image.verify()
        image = Image.open(path, formats=FORMATS)
    return image


def _turned(image: Any) -> Any:
    """A picture as it was seen when it was taken."""
    from PIL import Image

    turn = Image.Transpose
    turns = {
        2: turn.FLIP_LEFT_RIGHT,
        3: turn.ROTATE_180,
        4: turn.FLIP_TOP_BOTTOM,
        5: turn.TRANSPOSE,
        6: turn.ROTATE_270,
        7: turn.TRANSVERSE,
        8: turn.ROTATE_90,
    }
    try:
        orientation = image.getexif().get(ORIENTATION)
    except Exception:  # as viewers do: the pixels are no worse for it
        return image
    return image.transpose(turns[orientation]) if orientation in turns else image


def _rgb(image: Any) -> Any:
    """A picture of any mode in RGB."""
    from PIL import Image

    if image.mode.startswith("I"):  # 16 bits of grey, which Pillow would clip at 255
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
