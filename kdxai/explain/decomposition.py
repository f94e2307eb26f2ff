"""A number of the model taken apart, layer by layer, down to the pixels: DeepLIFT and LRP.

Each maps one image [H, W, C] to a [H, W] float32 map. The model's own program is run by other rules
(see `propagation`), so it may come from any library, and nothing need be given beside it. An affine
map between two nonlinearities counts as one layer, however it is written: BatchNorm is part of the
convolution ahead of it, and a sum of branches of what follows. Max-pooling passes all to the
largest.

One forward and one backward pass, of twice the work where two arrays stand for one.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from kdxai.explain.classifier import Classifier, Target, at_cut, one_image, target_score
from kdxai.explain.elementwise import Activation
from kdxai.explain.gradients import contribution
from kdxai.explain.maps import spread_nan
from kdxai.explain.propagation import (
    Operation,
    Parts,
    Rules,
    by_parts,
    largest,
    no_rule,
    plus,
    propagate,
)

fixed = jax.lax.stop_gradient
# Activations that pass on relevance: none comes from a unit that is 0.
ZERO_AT_ZERO = (
    *("abs", "atan", "cbrt", "celu", "elu", "erf", "expm1", "gelu", "hard_silu", "hard_tanh"),
    *("leaky_relu", "log1p", "mish", "relu", "relu6", "round", "selu", "sign", "silu", "sin"),
    *("soft_sign", "sqrt", "square", "tanh"),
)


def deep_lift(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    baseline: jax.Array | float = 0.0,
) -> jax.Array:
    """DeepLIFT (rescale): sum over channels of m (x - b), with m the multipliers of the whole.

    Shrikumar et al. 2017, "Learning Important Features Through Propagating Activation Differences",
    Sections 3.2 and 3.5.1: image and `baseline` b go through the model together, and the multiplier
    of an activation is the change of its output over that of its input, or its derivative where
    nothing changes. The maximum of two passes its change on to the one that makes it; the product
    of two changes by each factor's change times the mean of the other. The chain rule of
    multipliers makes the map sum to y_c(x) - y_c(b) (completeness).

    Raises:
      UserError: there is no rule for an operation of the model.
    """
    rules = Rules(
        "deep_lift",
        constant=lambda value: (value, value),
        scale=lambda operation, parts, factor: by_parts(lambda x: operation(x, factor), parts),
        activation=_rescaled,
        maximum=_larger_change,
        product=_product_of_changes,
    )
    image = one_image(image)
    start = jnp.broadcast_to(jnp.asarray(baseline, image.dtype), image.shape)
    multipliers = _gradient(
        classifier, image, class_index, rules, lambda x: (x, start), lambda parts: parts[0]
    )
    return contribution((image - start) * multipliers)


def lrp_epsilon(
    classifier: Classifier, image: jax.Array, class_index: Target, *, epsilon: float = 0.25
) -> jax.Array:
    """LRP-ε: R_j = sum over k of a_j w_jk R_k / (z_k + e sign(z_k)), from R = y_c.

    Bach et al. 2015, "On Pixel-Wise Explanations", Eq. 58, with z_k = sum of a_j w_jk and the bias,
    and e `epsilon` times the root mean square of the layer's z (Montavon et al. 2019, "Layer-Wise
    Relevance Propagation: An Overview"). Activations pass on what they get; the layer of the logits
    has no e. It is computed as a gradient times the image, in which an activation f has the slope
    f(z) / (z + e sign(z)) (Ancona et al. 2018, Proposition 1): with `epsilon` 0 and ReLU it is
    Gradient x Input. Biases keep their share, so that the map sums to y_c without them and with
    e = 0.

    Raises:
      UserError: there is no rule for an operation of the model.
    """

    def activation(one: Activation, parts: Parts) -> Parts:
        (z,) = parts
        _require_zero_at_zero("lrp_epsilon", one)
        y, slope = one.value_and_slope(z)
        size = epsilon * jnp.sqrt(jnp.mean(jnp.square(z.astype(jnp.float32)))).astype(z.dtype)
        padded = z + jnp.where(z < 0, -size, size)
        passed = jnp.where(padded == 0, slope, y / jnp.where(padded == 0, 1, padded))
        return (with_slope(y, passed, z),)

    rules = Rules(
        "lrp_epsilon",
        constant=lambda value: (value,),
        scale=lambda operation, parts, factor: by_parts(lambda x: operation(x, factor), parts),
        activation=activation,
        maximum=partial(largest, lambda parts: parts[0]),
    )
    image = one_image(image)
    slopes = _gradient(
        classifier, image, class_index, rules, lambda x: (x,), lambda parts: parts[0]
    )
    return contribution(image * slopes)


def lrp_z_plus(classifier: Classifier, image: jax.Array, class_index: Target) -> jax.Array:
    """LRP-z⁺: R_j = sum over k of (a_j w_jk)^+ R_k / sum over i of (a_i w_ik)^+, from R = y_c.

    Bach et al. 2015, "On Pixel-Wise Explanations", Eq. 60 with alpha = 1 and beta = 0, and without
    biases, as in Montavon et al. 2017, "Explaining Nonlinear Classification Decisions with Deep
    Taylor Decomposition", Eq. 14. Only what raises a unit gets relevance, so the map has the sign
    of y_c and, where something raises every unit that counts, sums to it (conservation). Where two
    matrices follow each other with no nonlinearity between them, the contributions are those of
    paths. Activations pass on what they get.

    Raises:
      UserError: there is no rule for an operation of the model.
    """

    def activation(one: Activation, parts: Parts) -> Parts:
        z = _total(parts)
        _require_zero_at_zero("lrp_z_plus", one)
        return _signed(_raised(one.function(z), parts[0]), positive=one.name == "relu")

    rules = Rules(
        "lrp_z_plus",
        constant=lambda value: (None, None, value),
        scale=_scale_signed,
        activation=activation,
        maximum=partial(largest, _total),
    )
    image = one_image(image)
    slopes = _gradient(
        classifier,
        image,
        class_index,
        rules,
        lambda x: _signed(x, positive=False),
        lambda parts: _raised(_total(parts), parts[0]),
    )
    return contribution(image * slopes)


def _gradient(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    rules: Rules,
    begin: Callable[[jax.Array], Parts],
    end: Callable[[Parts], jax.Array],
) -> jax.Array:
    """[H, W, C] float32: the gradient of end(parts of y_c) by the image, by the rules."""
    number = number_of(classifier, class_index)
    at_cut(classifier, image)  # says what is wrong with the shapes

    def value(x: jax.Array) -> jax.Array:
        return end(propagate(number, x, begin(x), rules))

    found, slopes = jax.value_and_grad(value)(image)
    return spread_nan((image, found), slopes.astype(jnp.float32))


def number_of(classifier: Classifier, class_index: Target) -> Callable[[jax.Array], jax.Array]:
    """Image -> y_c, without the checks of `Classifier`."""
    return lambda image: target_score(classifier.classify(classifier.features(image)), class_index)


def with_slope(y: jax.Array, slope: jax.Array, z: jax.Array) -> jax.Array:
    """y, whose derivative by z is `slope`."""
    return fixed(y) + fixed(slope) * (z - fixed(z))


def _rescaled(one: Activation, parts: Parts) -> Parts:
    x, start = parts
    y, slope = one.value_and_slope(x)
    other = one.function(start)
    change = x - start
    # Of next to no change the quotient is one of rounding errors.
    still = jnp.abs(change) <= 1e-6 * (jnp.abs(x) + jnp.abs(start))
    multiplier = jnp.where(still, slope, (y - other) / jnp.where(still, 1, change))
    return with_slope(y, multiplier, x), other


def _larger_change(one: Parts, other: Parts) -> Parts:
    """The maximum of two: its rise goes to what is larger now, its fall to what was.

    Of several in turn that is the rule of max-pooling of the library shap, which is complete.
    """
    (a, a0), (b, b0) = one, other
    y, start = jnp.maximum(a, b), jnp.maximum(a0, b0)
    first = jnp.where(y > start, a >= b, a0 >= b0)
    change = jnp.where(first, a - a0, b - b0)
    slope = (y - start) / jnp.where(change == 0, 1, change)
    slope = fixed(jnp.where(change == 0, 0, slope))
    moved = jnp.where(first, slope * (a - fixed(a)), slope * (b - fixed(b)))
    return fixed(y) + moved, start


def _product_of_changes(operation: Operation, one: Parts, other: Parts) -> Parts:
    (a, a0), (b, b0) = one, other
    moved = operation(a - fixed(a), fixed(b + b0) / 2) + operation(fixed(a + a0) / 2, b - fixed(b))
    return fixed(operation(a, b)) + moved, operation(a0, b0)


def _total(parts: Parts) -> jax.Array:
    """The value of what raises it, what lowers it, and the bias."""
    some = [part for part in parts if part is not None]
    return sum(some[1:], start=some[0])


def _signed(value: jax.Array, *, positive: bool) -> Parts:
    """A value as what may raise others by a positive weight, and what by a negative one."""
    if positive:
        return value, None, None
    return jnp.where(value > 0, value, 0), jnp.where(value < 0, value, 0), None


def _raised(y: jax.Array, raising: jax.Array | None) -> jax.Array:
    """y, whose relevance all goes to what raises the unit, each part by its share."""
    if raising is None:
        return fixed(y)
    share = jnp.where(raising > 0, y / jnp.where(raising > 0, raising, 1), 0)
    return with_slope(y, share, raising)


def _scale_signed(operation: Operation, parts: Parts, factor: jax.Array) -> Parts:
    rise, fall, bias = parts
    factor = jnp.asarray(factor)
    up, down = jnp.where(factor > 0, factor, 0), jnp.where(factor < 0, factor, 0)

    def part(value: jax.Array | None, by: jax.Array) -> jax.Array | None:
        return None if value is None else operation(value, by)

    rises, falls = plus(part(rise, up), part(fall, down)), plus(part(rise, down), part(fall, up))
    return rises, falls, part(bias, factor)


def _require_zero_at_zero(method: str, activation: Activation) -> None:
    """Check that an activation maps 0 to 0.

    Raises:
      UserError: what it puts out for 0 would be relevance from nowhere, or is not known.
    """
    if activation.name not in ZERO_AT_ZERO:
        raise no_rule(method, f"the activation '{activation.name}'")
