"""The contract between kdxai's explanations and any JAX model."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from kdxai.errors import UserError
from kdxai.explain.maps import spread_nan

# What is explained: a class, whose logit is meant, or any number made of the [K] logits.
Target = jax.Array | int | Callable[[jax.Array], jax.Array]


class Classifier(NamedTuple):
    """A classifier of one image, cut in two at its target layer.

    `classify(features(image))` is the forward pass; whatever library the model comes from, two
    functions that close over its parameters are all that is asked.

    Attributes:
      features: [H, W, C] image -> [h, w, c] feature map of the target layer; with `grid` an array
        of any shape or a pytree of arrays, such as the tokens of a transformer.
      classify: what `features` returns -> [K] logits.
      head: [c, K] weights of a linear head on globally average-pooled features, where the model
        ends in one. Only CAM needs it.
      guided: [H, W, C] image -> [K] logits of the same weights, every ReLU replaced by
        `guided_relu`. Only guided backpropagation and Guided Grad-CAM need it.
      grid: what `features` returns -> the [h, w, c] feature map in it. It picks and arranges
        values and computes none, so that of a gradient it gives that of the map.
      attention: [H, W, C] image -> [heads, T, T] of each block of a transformer, T tokens, those of
        the grid last. Attention rollout and LeGrad need it.
      attended: (image, such attention), as one pair -> [L, K] logits of the features of each block
        alone, where it attends as told to what usually comes into it. Only LeGrad needs it.
      background: [n, H, W, C] images that stand for the data, normalised as those explained are.
        Only Expected Gradients and GradientSHAP need them.
      earlier: the same model at earlier target layers, the finest map first. Only RefineCAM needs
        it.
    """

    features: Callable[[jax.Array], Any]
    classify: Callable[[Any], jax.Array]
    head: jax.Array | None = None
    guided: Callable[[jax.Array], jax.Array] | None = None
    grid: Callable[[Any], jax.Array] | None = None
    attention: Callable[[jax.Array], Sequence[jax.Array]] | None = None
    attended: Callable[[tuple[jax.Array, Any]], jax.Array] | None = None
    background: jax.Array | None = None
    earlier: tuple["Classifier", ...] = ()

    def __call__(self, image: jax.Array) -> jax.Array:
        """[H, W, C] image -> [K] logits."""
        return spread_nan(image, self.classify(at_cut(self, image)[0]))


def one_image(image: jax.Array) -> jax.Array:
    """One image [H, W, C], in float32 if it is of integers.

    A model that normalises within sees the same values as floats, 0 to 255. As integers they have
    no gradient, and a map times such an image would be cut to 0 and 1.

    Raises:
      UserError: it is not one image.
    """
    image = jnp.asarray(image)
    if image.ndim != 3:
        raise UserError(
            f"An explanation is of one image [H, W, C], but got {image.shape}: jax.vmap the method "
            "over a batch."
        )
    return image if jnp.issubdtype(image.dtype, jnp.floating) else image.astype(jnp.float32)


def at_cut(classifier: Classifier, image: jax.Array) -> tuple[Any, jax.Array]:
    """[H, W, C] image -> what `features` returns and the [h, w, c] map in it, with shapes checked.

    Raises:
      UserError: it holds no such map.
    """
    image = one_image(image)
    features = classifier.features(image)
    found = grid(classifier, features)
    name = "features(image)" if classifier.grid is None else "grid(features)"
    shape = getattr(found, "shape", type(found).__name__)
    if len(shape) != 3 or isinstance(shape, str):
        raise UserError(
            f"{name} must be [h, w, c] for one image, but is {shape}: drop the batch axis, and cut "
            "the model where its features still have a grid, or give Classifier(grid=...)."
        )
    if channels_first(shape, image.shape):
        raise UserError(
            f"{name} must be [h, w, c], but {shape} of an image {image.shape} "
            "looks like [c, h, w]: move its first axis to the end, and back again in classify."
        )
    return spread_nan(image, (features, found))


def grid(classifier: Classifier, features: Any) -> jax.Array:
    """The [h, w, c] map in what `features` returns, or that in a gradient of it."""
    return features if classifier.grid is None else classifier.grid(features)


def channels_first(features: tuple[int, ...], image: tuple[int, ...]) -> bool:
    """Whether the last two axes are in the image's proportions and the first two cannot be.

    They can where one stride for both sides makes them of the image's sides less a common margin
    (convolutions without padding). Of a square image only a square can be a grid.
    """
    first, second, third = features
    height, width = image[:2]
    gap, own_gap = height - width, first - second
    if gap == 0:
        return first != second and second == third
    # Rounding in several layers may cost two cells.
    possible = own_gap * gap >= 0 and abs(own_gap) <= abs(gap)
    possible = possible and (first - 1) * abs(gap) <= height * (abs(own_gap) + 2)
    # Within one cell of the image's sides over one stride.
    fits = height * (third - 1) < width * (second + 1)
    fits = fits and width * (second - 1) < height * (third + 1)
    return fits and not possible


def target_score(logits: jax.Array, class_index: Target) -> jax.Array:
    """[K] logits -> the logit of one class in float32, or the given function of all.

    NaN if there is no such class; plain indexing would clamp it to one that there is.
    """
    if logits.ndim != 1:
        raise UserError(
            f"Logits must be [K] for one image, but are {logits.shape}: drop the batch "
            "axis in the classifier's functions."
        )
    logits = jnp.asarray(logits, jnp.float32)
    if not callable(class_index):
        return logits.at[class_index].get(
            mode="fill", fill_value=jnp.nan, wrap_negative_indices=False
        )
    value = jnp.asarray(class_index(logits))
    if value.shape:
        raise UserError(
            f"A target must be one number for the logits [K] of an image, but is {value.shape}."
        )
    return value


def score_and_gradient(
    function: Callable[[Any], jax.Array] | Classifier, point: Any, class_index: Target
) -> tuple[jax.Array, Any]:
    """The logit y_c and its gradient dy_c/dpoint in float32, by one backward pass.

    `function` maps `point`, an array of any shape or a pytree of them, to [K] logits. Where y_c or
    the point has a NaN, so has all of the gradient.
    """
    value, gradient = jax.value_and_grad(lambda p: target_score(function(p), class_index))(point)
    gradient = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), gradient)
    return value, spread_nan((point, value), gradient)
