"""Maps that know nothing of the model: what a metric must tell from an explanation."""

import jax
import jax.numpy as jnp

from kdxai.explain.classifier import Classifier, Target, at_cut, one_image


def random(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    key: jax.Array | None = None,
) -> jax.Array:
    """Uniform noise in [0, 1) on the grid of the target layer, so as coarse as a CAM.

    `key=None` is `jax.random.key(0)`: every image then gets the same map, unless the caller folds
    in its index.
    """
    key = jax.random.key(0) if key is None else key
    return jax.random.uniform(key, _grid(classifier, image), jnp.float32)


def centred_gaussian(
    classifier: Classifier, image: jax.Array, class_index: Target, *, sigma: float = 0.25
) -> jax.Array:
    """exp(-(u^2 + v^2) / (2 sigma^2)) on the grid of the target layer: the centre bias.

    u and v run from -1/2 to 1/2 across the image's sides, at the centres of the grid's cells.
    """
    rows, columns = (
        jnp.exp(-(((jnp.arange(size) + 0.5) / size - 0.5) ** 2) / (2 * sigma**2))
        for size in _grid(classifier, image)
    )
    return rows[:, None] * columns


def edges(classifier: Classifier, image: jax.Array, class_index: Target) -> jax.Array:
    """[H, W] Sobel magnitude of the mean over channels; borders repeat, so the frame is no edge.

    The control of Adebayo et al. 2018, "Sanity Checks for Saliency Maps".
    """
    grey = jnp.pad(one_image(image).astype(jnp.float32).mean(-1), 1, mode="edge")
    down = grey[2:] - grey[:-2]
    down = down[:, :-2] + 2 * down[:, 1:-1] + down[:, 2:]
    across = grey[:, 2:] - grey[:, :-2]
    across = across[:-2] + 2 * across[1:-1] + across[2:]
    return jnp.hypot(down, across)


def _grid(classifier: Classifier, image: jax.Array) -> tuple[int, int]:
    """(h, w) of the feature map, without computing it."""
    return jax.eval_shape(lambda x: at_cut(classifier, x)[1], image).shape[:2]
