"""One image of one classifier by a protocol: its map, the image under the map, the map of that."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpy.typing import ArrayLike

from kdxai.errors import UserError
from kdxai.explain import METHODS, Classifier
from kdxai.explain.maps import min_max, resize
from kdxai.models import Network
from kdxai.protocol import TRUTH, Protocol, takes


class Explanation(NamedTuple):
    """One image, explained before and after masking.

    Attributes:
      class_index: [] the class explained, c.
      raw: [h, w] the method's map on its own grid.
      native: [h, w] the same, scaled to [0, 1].
      heatmap: [H, W] M, `native` on the image's grid.
      masked: [H, W, C] E = z * M, the normalised image under its map.
      raw_masked, heatmap_masked: of E, for the same class.
      logits, logits_masked: [K] of the image and of E.
    """

    class_index: jax.Array
    raw: jax.Array
    native: jax.Array
    heatmap: jax.Array
    masked: jax.Array
    raw_masked: jax.Array
    heatmap_masked: jax.Array
    logits: jax.Array
    logits_masked: jax.Array


class Drawn(NamedTuple):
    """A map of one image.

    Attributes:
      raw: [h, w] on the method's own grid.
      native: [h, w] the same, scaled to [0, 1].
      heatmap: [H, W] `native` on the image's grid.
    """

    raw: jax.Array
    native: jax.Array
    heatmap: jax.Array


def draw(
    protocol: Protocol,
    classifier: Classifier,
    image: jax.Array,
    class_index: jax.Array,
    mask: jax.Array | None = None,
    key: jax.Array | None = None,
) -> Drawn:
    """The protocol's map of one normalised image [H, W, C] for one class.

    Args:
      mask: [H, W] ground truth; the protocol's method may ask for it.
      key: of a method that draws random numbers.

    Raises:
      UserError: the method is the mask and there is none, or it does not suit the model.
    """
    require_truth(protocol, mask is not None)
    if protocol.method == TRUTH:
        raw = jnp.asarray(mask, jnp.float32)
    else:
        given = {"key": key, "relu": protocol.relu}
        given = {name: value for name, value in given.items() if takes(protocol.method, name)}
        raw = METHODS[protocol.method](classifier, image, class_index, **given, **protocol.options)
    native = min_max(raw)
    return Drawn(raw, native, resize(native, image.shape[:2]))


def require_truth(protocol: Protocol, masks: bool) -> None:
    """Check that there are masks where they are the maps.

    Raises:
      UserError: the protocol's method is the mask and there are none.
    """
    if protocol.method == TRUTH and not masks:
        raise UserError(f"the method '{TRUTH}' needs a data set with masks, such as shapes")


def require_defined(model: Network, protocol: Protocol, masks: bool) -> None:
    """What a protocol asks of a model, before any time is spent on it.

    Raises:
      UserError: there is no such stage, no linear head for CAM at it, or no ground truth.
    """
    at_end = model.cut(protocol.stage) == len(model.units)
    if protocol.method == "cam" and not model.has_cam:
        raise UserError(
            "CAM needs a linear head on the global average of the last map, which the model does "
            "not have; use grad_cam or layer_cam"
        )
    if protocol.method == "cam" and not (at_end or protocol.foreign_head):
        raise UserError(
            f"CAM needs the feature map that a linear head pools; at stage '{protocol.stage}' use "
            "grad_cam or layer_cam"
        )
    require_truth(protocol, masks)


def stretched(images: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """The normalised images scaled to 0..255 and cut, as `masking="stretch"` takes them.

    On the host, in float64: float32 gives some whole numbers as the one below.

    Args:
      images: [N, H, W, C] uint8.
      mean, std: [C] of the normalisation.

    Returns:
      [N, H, W, C] uint8, each image from its own least to its largest value over all channels.
    """
    z = (images / 255.0 - np.float64(mean)) / np.float64(std)
    low, high = z.min((1, 2, 3), keepdims=True), z.max((1, 2, 3), keepdims=True)
    span = np.where(high == low, 1.0, high - low)
    # What is a whole number is right to 1e-12, and no other lies within 1e-9 of one.
    return np.floor(255 * (z - low) / span + 1e-9).astype(np.uint8)


def mask_image(
    image: jax.Array,
    heatmap: jax.Array,
    mean: ArrayLike,
    std: ArrayLike,
    pixels: jax.Array | None,
) -> jax.Array:
    """E: the normalised image [H, W, C] under a map [H, W] in [0, 1].

    Args:
      pixels: [H, W, C] of `stretched`, which are masked in the image's place; or None.
    """
    if pixels is None:
        return image * heatmap[..., None]
    return (min_max(pixels * heatmap[..., None]) - jnp.asarray(mean)) / jnp.asarray(std)


def explain_image(
    classifier: Classifier,
    image: jax.Array,
    label: jax.Array,
    protocol: Protocol,
    *,
    mask: jax.Array | None = None,
    key: jax.Array | None = None,
    mean: ArrayLike = 0.0,
    std: ArrayLike = 1.0,
    pixels: jax.Array | None = None,
) -> Explanation:
    """Draw the map of one normalised image [H, W, C], mask the image with it, draw it again.

    Args:
      mask, key: as for `draw`.
      mean, std, pixels: of the normalisation, and of `stretched`; masking by stretch needs them.

    Raises:
      UserError: as `draw`, or masking by stretch without `pixels`.
    """
    if (pixels is None) != (protocol.masking == "multiply"):
        raise UserError("masking by stretch needs the pixels of drawing.stretched, and it alone")
    logits = classifier(image)
    class_index = logits.argmax() if protocol.target == "predicted" else label
    before = draw(protocol, classifier, image, class_index, mask, key)
    masked = mask_image(image, before.heatmap, mean, std, pixels)
    after = draw(protocol, classifier, masked, class_index, mask, key)
    return Explanation(
        class_index=class_index,
        raw=before.raw,
        native=before.native,
        heatmap=before.heatmap,
        masked=masked,
        raw_masked=after.raw,
        heatmap_masked=after.heatmap,
        logits=logits,
        logits_masked=classifier(masked),
    )
