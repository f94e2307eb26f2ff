"""Does the map stay when the image hardly changes?"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kdxai.metrics.arrays import one_image
from kdxai.metrics.finite import where_finite
from kdxai.scaling import headroom

Tree = Any  # any pytree of arrays


class Sensitivity(NamedTuple):
    """Relative change of a map under noise, both scalars; 0 is a map that does not move."""

    maximum: jax.Array
    average: jax.Array


class Stability(NamedTuple):
    """The largest change of a map in a neighbourhood, by what else has changed; 0 is best.

    Attributes:
      lipschitz: |E(x') - E(x)|_2 / |x' - x|_2, in the map's units by the image's (Alvarez-Melis
        and Jaakkola 2018).
      relative_input: |(E(x') - E(x)) / E(x)|_2 / |(x' - x) / x|_2 (Agarwal et al. 2022, Eq. 2).
      relative_representation: the same by |(L(x') - L(x)) / L(x)|_2 of a representation L (Eq. 3).
      relative_output: the same by |h(x') - h(x)|_2 of the logits h (Eq. 5).
    """

    lipschitz: jax.Array
    relative_input: jax.Array
    relative_representation: jax.Array
    relative_output: jax.Array


def neighbours(image: jax.Array, key: jax.Array, radius: float, samples: int) -> jax.Array:
    """[samples, H, W, C]: the image under uniform noise in [-radius, radius] per value."""
    return image + jax.random.uniform(key, (samples, *image.shape), minval=-radius, maxval=radius)


def sensitivity(
    explain: Callable[[jax.Array], jax.Array],
    image: jax.Array,
    key: jax.Array,
    *,
    radius: float = 0.02,
    samples: int = 10,
) -> Sensitivity:
    """|E(x + e) - E(x)|_2 / |E(x)|_2 over uniform noise e in [-radius, radius] per value.

    Its maximum is max-sensitivity (Yeh et al. 2019), here by sampling, so a lower bound; its mean
    is the average sensitivity of Bhatt et al. 2020. Where E(x) is zero, the absolute change.

    Args:
      explain: [H, W, C] -> map, for one fixed class.
      image: [H, W, C]; `radius` is in its units.
      samples: all in flight at once (gradients of convolutions are slow in loops on a CPU), so
        the memory is `samples` times that of one explanation.
    """
    image = one_image(image)
    noisy = neighbours(image, key, radius, samples)
    heatmap = jnp.asarray(explain(image), jnp.float32)
    # In units of the map's maximum: the squares of huge and of tiny values are no float32.
    room = headroom(heatmap)
    top = jnp.abs(heatmap * room).max()
    scaled = lambda m: jnp.asarray(m, jnp.float32) * room / jnp.where(top == 0, 1.0, top)  # noqa: E731
    change = scaled(jax.vmap(explain)(noisy)) - scaled(heatmap)
    size = jnp.linalg.norm(scaled(heatmap))
    ratios = jnp.linalg.norm(change.reshape(samples, -1), axis=1) / jnp.where(size == 0, 1.0, size)
    return Sensitivity(where_finite(ratios.max(), ratios), ratios.mean())


def stability(
    explain: Callable[[jax.Array], jax.Array],
    answer: Callable[[jax.Array], tuple[jax.Array, Tree]],
    image: jax.Array,
    noisy: jax.Array,
    *,
    floor: float = 1e-6,
) -> Stability:
    """`Stability` over given neighbours of an image; by sampling, so each is a lower bound.

    As Agarwal et al. ask, the relative ones are of those neighbours that the model takes for the
    same class; 0 where there are none. A map that does not move scores 0, so a constant one does.

    Args:
      explain: [H, W, C] -> map, for one fixed class.
      answer: [H, W, C] -> (logits [K], representation: any tree of arrays).
      image: [H, W, C].
      noisy: [samples, H, W, C], as of `neighbours`; all in flight at once.
      floor: divisors below it, element by element and as norms, count as it: a map in [0, 1] has a
        zero, whose relative change means nothing. Quantus 0.6.0 moves only exact zeros, to 1e-6.
    """
    image = one_image(image)
    map_, (logits, representation) = explain(image), answer(image)
    maps, (answers, representations) = jax.vmap(lambda x: (explain(x), answer(x)))(noisy)
    change = _norms(maps, map_)
    relative = _norms(maps, map_, floor)
    same = answers.argmax(-1) == logits.argmax()

    def most(changes: jax.Array, by: jax.Array) -> jax.Array:
        ratios = jnp.where(same, changes / jnp.maximum(by, floor), 0.0)
        return where_finite(ratios.max(), changes, by)

    moved = _norms(noisy, image)
    ratios = change / jnp.where(moved == 0, 1.0, moved)
    return Stability(
        lipschitz=where_finite(ratios.max(), change),
        relative_input=most(relative, _norms(noisy, image, floor)),
        relative_representation=most(relative, _norms(representations, representation, floor)),
        relative_output=most(relative, _norms(answers, logits)),
    )


def _norms(many: Tree, one: Tree, floor: float | None = None) -> jax.Array:
    """[samples] L2 norms of many trees less one; with a floor of that relative to the one."""

    def squares(many: jax.Array, one: jax.Array) -> jax.Array:
        one = jnp.asarray(one, jnp.float32)
        change = jnp.asarray(many, jnp.float32) - one
        if floor is not None:
            change = change / jnp.maximum(jnp.abs(one), floor)
        return (change**2).reshape(len(change), -1).sum(1)

    return jnp.sqrt(sum(jax.tree.leaves(jax.tree.map(squares, many, one))))
