"""FullGrad: a number of the model as the sum of what the image and every bias add to it."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kdxai.explain.classifier import Classifier, Target, channels_first, one_image
from kdxai.explain.decomposition import number_of, with_slope
from kdxai.explain.elementwise import Activation
from kdxai.explain.maps import min_max, resize, spread_nan
from kdxai.explain.propagation import Parts, Rules, by_parts, largest, propagate


class FullGradient(NamedTuple):
    """A number y of the model, of which all parts together are the sum.

    Attributes:
      image: [H, W, C] x dy/dx.
      biases: of each layer b dy/dz, [h, w, c] where it has a grid.
      rest: [] the bias of y itself.
    """

    image: jax.Array
    biases: tuple[jax.Array, ...]
    rest: jax.Array


def full_grad(classifier: Classifier, image: jax.Array, class_index: Target) -> jax.Array:
    """FullGrad: psi(x dy_c/dx) + the sum over layers and channels of psi(b dy_c/db).

    Srinivas and Fleuret 2019, "Full-Gradient Representation for Neural Network Visualization",
    Eqs. 6 and 9; psi takes the absolute value, scales each channel to [0, 1] and resizes it to the
    image. Only biases with a grid are drawn. See `full_gradient` for the parts, which are complete.

    Raises:
      UserError: there is no rule for an operation of the model.
    """
    parts = full_gradient(classifier, image, class_index)
    shape = parts.image.shape[:2]

    def drawn(values: jax.Array) -> jax.Array:
        channels = jnp.moveaxis(jnp.abs(values), -1, 0)
        return jax.vmap(lambda one: resize(min_max(one), shape))(channels).sum(0)

    grids = [parts.image, *(one for one in parts.biases if one.ndim == 3)]
    return spread_nan(parts, sum(map(drawn, grids), start=jnp.zeros(shape)))


def full_gradient(classifier: Classifier, image: jax.Array, class_index: Target) -> FullGradient:
    """The full gradient: y_c = sum of x dy_c/dx + the sum over layers of b dy_c/dz, exactly.

    Srinivas and Fleuret 2019, Proposition 1. The bias b of a layer is what it puts out for an input
    of zeros, so BatchNorm's mean is in it, and an activation f other than ReLU has the implicit
    bias f(z) - f'(z) z (their Section 3.1). Of a model whose channels come first the biases are
    [h, w, c] all the same.

    Raises:
      UserError: there is no rule for an operation of the model.
    """
    image = one_image(image)
    number = number_of(classifier, class_index)
    sites: list[jax.Array] = []

    def rules(scales: list[jax.Array] | None) -> Rules:
        left = None if scales is None else iter(scales)

        def scaled(z: jax.Array, bias: jax.Array) -> jax.Array:
            """z with its bias times a scale of 1, by which it is differentiated."""
            if left is None:
                sites.append(bias)
                return z
            return z + (next(left) - 1) * jax.lax.stop_gradient(bias)

        def activation(one: Activation, parts: Parts) -> Parts:
            z, bias = parts
            z = z if bias is None else scaled(z, bias)
            y, slope = one.value_and_slope(z)
            y = with_slope(y, slope, z)
            return (y if one.name == "relu" else scaled(y, y - slope * z), None)

        return Rules(
            "full_grad",
            constant=lambda value: (value, value),
            scale=lambda operation, parts, factor: by_parts(lambda x: operation(x, factor), parts),
            activation=activation,
            maximum=partial(largest, lambda parts: parts[0]),
        )

    def of(image: jax.Array, scales: list[jax.Array] | None) -> Parts:
        return propagate(number, image, (image, None), rules(scales))

    shapes = jax.eval_shape(lambda x: (of(x, None), sites[:])[1], image)
    sites.clear()
    ones = jax.tree.map(jnp.ones_like, shapes)
    both = jax.value_and_grad(of, (0, 1), has_aux=True)
    (value, rest), (slopes, biases) = both(image, ones)
    found = FullGradient(
        (image * slopes).astype(jnp.float32),
        tuple(_as_grid(one.astype(jnp.float32), image.shape) for one in biases),
        jnp.float32(0 if rest is None else rest),
    )
    return spread_nan((image, value), found)


def _as_grid(values: jax.Array, image: tuple[int, ...]) -> jax.Array:
    """Without the axis of a batch of one; channels last."""
    values = values[0] if values.ndim == 4 and len(values) == 1 else values
    if values.ndim == 3 and channels_first(values.shape, image):
        return jnp.moveaxis(values, 0, -1)
    return values
