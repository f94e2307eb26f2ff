"""Does the map depend on what the model has learnt, and on the class it is asked about?

A map that survives a randomised model shows the image, not the model. Parameters are randomised by
taking them from a second tree of the same structure: a fresh `model.init`, or `shuffled` where
there is no initialiser.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import entr

from kdxai.errors import UserError
from kdxai.metrics.arrays import one_map
from kdxai.metrics.coherency import spearman
from kdxai.metrics.finite import where_finite
from kdxai.scaling import unit_range

Params = Any  # any pytree of arrays
Similarity = Callable[[jax.Array, jax.Array], jax.Array]


def shuffled(params: Params, key: jax.Array) -> Params:
    """Every array with its entries permuted: the same values, in places that mean nothing.

    It is done on the host: `jax.random.permutation` would compile a sort for every shape.
    """
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.permutation(np.ravel(leaf)).reshape(leaf.shape)), params
    )


def cascade(params: Params, fresh: Params, groups: Sequence[str]) -> Iterator[Params]:
    """The parameters with the first group from `fresh`, then the first two, and so on.

    Ordered from the head to the stem it is the top-down cascade of Adebayo et al. 2018, reversed
    the bottom-up one; `cascade(params, fresh, [group])` randomises one group alone.

    Args:
      groups: names in a leaf's path. "head" takes params/head/kernel and batch_stats/head/mean,
        "stage3/block1" takes only leaves with these two in a row. A name that no leaf bears is a
        UserError.
    """
    for group in groups:
        params = _take(params, fresh, group)
        yield params


def parameter_randomisation(
    explain: Callable[[Params, jax.Array], jax.Array],
    params: Params,
    fresh: Params,
    groups: Sequence[str],
    image: jax.Array,
    similarity: Similarity = spearman,
) -> jax.Array:
    """[len(groups)] similarities of E(params, x) with E(cascade, x): low is a sane map.

    Adebayo et al. 2018. Call it outside `jit` with a jitted `explain`: the model then compiles
    once, not once per group.
    """
    reference = explain(params, image)
    randomised = cascade(params, fresh, groups)
    return jnp.stack([similarity(reference, explain(p, image)) for p in randomised])


def smoothed(
    explain: Callable[[Params, jax.Array], jax.Array],
    key: jax.Array,
    *,
    samples: int = 50,
    noise: float = 0.1,
) -> Callable[[Params, jax.Array], jax.Array]:
    """E averaged over noisy copies of the image, the same for all parameters.

    `parameter_randomisation(smoothed(explain, key), ...)` is sMPRT of Hedstroem et al. 2023: a
    gradient's own noise no longer passes for sensitivity to the parameters. All samples are in
    flight at once.

    Args:
      noise: standard deviation, as a share of the image's range (Smilkov et al. 2017).
    """

    def mean_map(params: Params, image: jax.Array) -> jax.Array:
        deviation = noise * (image.max() - image.min())
        noisy = image + deviation * jax.random.normal(key, (samples, *image.shape))
        return jax.vmap(lambda one: explain(params, one))(noisy).mean(0)

    return mean_map


def efficient_parameter_randomisation(
    explain: Callable[[Params, jax.Array], jax.Array],
    params: Params,
    fresh: Params,
    image: jax.Array,
    bins: int = 100,
) -> jax.Array:
    """(H(E') - H(E)) / H(E): the rise of the map's entropy once every parameter is `fresh`.

    eMPRT of Hedstroem et al. 2023, with H the `histogram_entropy`. Higher is saner: a map of a
    random model should carry no order. Where H(E) = 0 (a constant map), the absolute rise.
    """
    before = histogram_entropy(explain(params, image), bins)
    after = histogram_entropy(explain(fresh, image), bins)
    return (after - before) / jnp.where(before == 0, 1.0, before)


def random_logit(
    explain: Callable[[jax.Array | int], jax.Array],
    class_index: jax.Array | int,
    num_classes: int,
    key: jax.Array,
    similarity: Similarity = spearman,
) -> jax.Array:
    """Similarity of the maps of a class and of another one sampled at random (Sixt et al. 2020).

    Low is sane: the map depends on the class. `explain` maps a class index to the map of one image.
    """
    step = jax.random.randint(key, (), 1, num_classes)
    return similarity(explain(class_index), explain((class_index + step) % num_classes))


def histogram_entropy(heatmap: jax.Array, bins: int = 100) -> jax.Array:
    """Entropy in nats of the map's values in `bins` equal bins from its minimum to its maximum.

    0 for a constant map, at most ln(bins).
    """
    values = one_map(heatmap).ravel()
    index = jnp.minimum(unit_range(values) * bins, bins - 1).astype(jnp.int32)
    entropy = entr(jnp.bincount(index, length=bins) / values.size).sum()
    return where_finite(entropy, values)


def _take(params: Params, fresh: Params, group: str) -> Params:
    """`params` with the leaves of one group from `fresh`."""

    def belongs(path: jax.tree_util.KeyPath) -> bool:
        return f"/{group}/" in f"/{jax.tree_util.keystr(path, simple=True, separator='/')}/"

    names = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    if not any(map(belongs, names)):
        tops = sorted({jax.tree_util.keystr(path, simple=True, separator="/") for path in names})
        raise UserError(f"No parameter lies under {group!r}; there are {', '.join(tops[:8])}, ...")
    return jax.tree_util.tree_map_with_path(
        lambda path, old, new: new if belongs(path) else old, params, fresh
    )
