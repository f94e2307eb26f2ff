"""RISE: which parts of the image keep the probability up, by random masks."""

import jax
import jax.numpy as jnp

from kdxai.explain.classifier import Classifier, Target, one_image, target_score
from kdxai.explain.maps import resize


def rise(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    key: jax.Array | None = None,
    samples: int = 512,
    cells: int = 7,
    probability: float = 0.5,
    chunk: int = 32,
) -> jax.Array:
    """RISE: sum over i of p_c(x * M_i) M_i, divided by N E[M].

    Petsiuk et al. 2018, "RISE", Eq. 6: the mean probability of the class over the random masks that
    show a pixel. A mask has `cells` x `cells` values, each 1 with `probability` and else 0, resized
    to a little more than the image and cut at a random place (Section 3.3). What is masked fades to
    0, a normalised data set's mean colour. `key=None` is `jax.random.key(0)`: every image then gets
    the same masks, unless the caller folds in its index. One forward pass per mask, `chunk` of them
    at a time.

    Returns:
      [H, W] in [0, 1] but for chance: N draws leave an error of about 1 / sqrt(N).
    """
    key = jax.random.key(0) if key is None else key
    image = one_image(image)
    shape, chunk = image.shape[:2], min(chunk, samples)

    def masked_score(mask: jax.Array) -> jax.Array:
        logits = classifier(image * mask[..., None].astype(image.dtype)).astype(jnp.float32)
        return target_score(jax.nn.softmax(logits), class_index)

    def add(total: jax.Array, start: jax.Array) -> tuple[jax.Array, None]:
        numbers = start + jnp.arange(chunk)
        keys = jax.vmap(jax.random.fold_in, (None, 0))(key, numbers)
        masks = jax.vmap(lambda key: draw_mask(key, shape, cells, probability))(keys)
        scores = jnp.where(numbers < samples, jax.vmap(masked_score)(masks), 0)
        return total + jnp.einsum("n,nhw->hw", scores, masks, precision="highest"), None

    total, _ = jax.lax.scan(add, jnp.zeros(shape), jnp.arange(0, samples, chunk))
    return total / (samples * probability)


def draw_mask(key: jax.Array, shape: tuple[int, ...], cells: int, probability: float) -> jax.Array:
    """[H, W] in [0, 1]: a random grid of cells, one more of them on a side than the image has."""
    grid_key, *keys = jax.random.split(key, 3)
    grid = jax.random.bernoulli(grid_key, probability, (cells, cells))
    sizes = [-(-side // cells) for side in shape]
    large = resize(grid, tuple((cells + 1) * size for size in sizes))
    places = [jax.random.randint(k, (), 0, size) for k, size in zip(keys, sizes, strict=True)]
    return jax.lax.dynamic_slice(large, places, shape)
