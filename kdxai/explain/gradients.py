"""Explanations read off the gradient with respect to the image.

Every method maps one image [H, W, C] to a [H, W] float32 map, in one of two ways over channels:

- a *sensitivity* (a derivative dy_c/dx: gradient, SmoothGrad, VarGrad, guided backpropagation,
  Guided Grad-CAM) takes the largest absolute value over channels (Simonyan et al. 2014), so the
  map has no sign;
- a *contribution* (a derivative times a change of the image: Gradient x Input, Integrated
  Gradients) sums over channels, so the map keeps its sign and its values add up to logits.

The methods that repeat the backward pass run `chunk` of them at a time: their memory is that of
the gradients of `chunk` images (times the caller's own batch), and of one image-sized gradient
per repeat.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.extend.core import ClosedJaxpr, Jaxpr

from kdxai.errors import UserError
from kdxai.explain.cam import grad_cam
from kdxai.explain.classifier import Classifier, Target, one_image, score_and_gradient, target_score
from kdxai.explain.maps import resize, spread_nan


def gradient(classifier: Classifier, image: jax.Array, class_index: Target) -> jax.Array:
    """Saliency: max over channels of |dy_c/dx|.

    Simonyan et al. 2014, "Deep Inside Convolutional Networks", Section 3.1.
    """
    return magnitude(score_and_gradient(classifier, one_image(image), class_index)[1])


def gradient_x_input(classifier: Classifier, image: jax.Array, class_index: Target) -> jax.Array:
    """Gradient x Input: sum over channels of x * dy_c/dx.

    Shrikumar et al. 2016, "Not Just a Black Box".
    """
    image = one_image(image)
    return contribution(image * score_and_gradient(classifier, image, class_index)[1])


def smooth_grad(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    key: jax.Array | None = None,
    samples: int = 32,
    noise: float = 0.15,
    chunk: int = 16,
) -> jax.Array:
    """SmoothGrad: the mean of dy_c/dx over `samples` noisy copies of the image.

    Smilkov et al. 2017, "SmoothGrad". The noise is Gaussian, its standard deviation `noise` times
    the range max(x) - min(x) of the image. `key=None` is `jax.random.key(0)`: every image then
    gets the same noise, unless the caller folds in its index.
    """
    gradients = _noisy_gradients(classifier, image, class_index, key, samples, noise, chunk)
    return magnitude(gradients.mean(0))


def var_grad(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    key: jax.Array | None = None,
    samples: int = 32,
    noise: float = 0.15,
    chunk: int = 16,
) -> jax.Array:
    """VarGrad: the variance of dy_c/dx over the noisy copies of `smooth_grad`.

    Adebayo et al. 2018, "Local Explanation Methods for Deep Neural Networks Lack Sensitivity to
    Parameter Values".

    Raises:
      UserError: fewer than 2 samples.
    """
    require_variance(samples=samples)
    gradients = _noisy_gradients(classifier, image, class_index, key, samples, noise, chunk)
    return magnitude(gradients.var(0))


def require_variance(*, samples: int, **_: Any) -> None:
    """Check the options of VarGrad.

    Raises:
      UserError: there are too few samples for one.
    """
    if samples < 2:
        raise UserError(f"var_grad needs at least 2 samples to have a variance, not {samples}.")


class Attribution(NamedTuple):
    """Attributions [H, W, C], in logits, and by how many logits they miss completeness."""

    values: jax.Array
    error: jax.Array


def integrated_gradients(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    baseline: jax.Array | float = 0.0,
    steps: int = 32,
    chunk: int = 16,
) -> jax.Array:
    """Integrated Gradients, summed over channels; see `integrated_gradients_with_error`."""
    return contribution(
        integrated_gradients_with_error(
            classifier, image, class_index, baseline=baseline, steps=steps, chunk=chunk
        ).values
    )


def integrated_gradients_with_error(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    baseline: jax.Array | float = 0.0,
    steps: int = 32,
    chunk: int = 16,
) -> Attribution:
    """Integrated Gradients: (x - b) * integral over t in [0, 1] of dy_c/dx at b + t (x - b).

    Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks", Eq. 1, by the midpoint
    rule in `steps` steps. `baseline` b broadcasts to the image; 0 is a normalised data set's mean
    colour. The attributions of the exact integral sum to y_c(x) - y_c(b) (completeness); `error`
    is their sum minus that difference, in logits: if it is not small, take more steps.
    """
    image = one_image(image)
    change = image - baseline
    times = (jnp.arange(steps, dtype=change.dtype) + 0.5) / steps
    points = baseline + times[:, None, None, None] * change
    values = change * gradients_at(classifier, points, class_index, chunk).mean(0)
    start = target_score(
        classifier(jnp.broadcast_to(baseline, image.shape).astype(image.dtype)), class_index
    )
    end = target_score(classifier(image), class_index)
    return Attribution(values, values.sum() - (end - start))


GUIDED = "guided_relu"  # by this name a traced network shows that it uses it


@jax.custom_vjp
def guided_relu(x: jax.Array) -> jax.Array:
    """ReLU whose backward pass lets only positive gradients through, as well as positive inputs.

    Springenberg et al. 2015, "Striving for Simplicity". Give it to the model as its activation
    and close `Classifier.guided` over that model, with the same weights.
    """
    return jax.nn.relu(checkpoint_name(x, GUIDED))


guided_relu.defvjp(
    lambda x: (jax.nn.relu(x), x > 0),
    lambda active, gradient: (jnp.where(active, jax.nn.relu(gradient), 0),),
)


def guided_backpropagation(
    classifier: Classifier, image: jax.Array, class_index: Target
) -> jax.Array:
    """Guided backpropagation: max over channels of |dy_c/dx|, every ReLU a `guided_relu`.

    Springenberg et al. 2015, "Striving for Simplicity".

    Raises:
      UserError: the classifier has no `guided`, or one without a `guided_relu`.
    """
    return magnitude(_guided_gradient(classifier, image, class_index))


def guided_grad_cam(classifier: Classifier, image: jax.Array, class_index: Target) -> jax.Array:
    """Guided Grad-CAM: the guided gradient times Grad-CAM resized to the image.

    Selvaraju et al. 2017, "Grad-CAM", Section 3.2. Grad-CAM is that of the plain model: only the
    gradient with respect to the image is guided.

    Raises:
      UserError: the classifier has no `guided`, or one without a `guided_relu`.
    """
    weights = resize(grad_cam(classifier, image, class_index), image.shape[:2])
    return weights * magnitude(_guided_gradient(classifier, image, class_index))


def _guided_gradient(classifier: Classifier, image: jax.Array, class_index: Target) -> jax.Array:
    if classifier.guided is None:
        raise UserError(
            "Guided methods need the model with guided_relu as its activation: pass its logits "
            "function as Classifier(guided=...)."
        )
    image = one_image(image)
    if not _is_guided(jax.make_jaxpr(classifier.guided)(image)):
        raise UserError(
            "There is no guided_relu in Classifier.guided, so guided backpropagation would be the "
            "plain gradient: give the model kdxai.explain.guided_relu for every ReLU, or use the "
            "method gradient."
        )
    return score_and_gradient(classifier.guided, image, class_index)[1]


def _is_guided(program: Jaxpr | ClosedJaxpr) -> bool:
    """Whether there is a `guided_relu` anywhere in a traced function."""
    for equation in program.eqns:
        if equation.params.get("name") == GUIDED:
            return True
        inner = jax.tree.leaves(equation.params)
        if any(_is_guided(part) for part in inner if isinstance(part, Jaxpr | ClosedJaxpr)):
            return True
    return False


def _noisy_gradients(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    key: jax.Array | None,
    samples: int,
    noise: float,
    chunk: int,
) -> jax.Array:
    """[samples, H, W, C]: dy_c/dx at noisy copies of the image."""
    points = noisy_copies(one_image(image), key, samples, noise)
    return gradients_at(classifier, points, class_index, chunk)


def noisy_copies(image: jax.Array, key: jax.Array | None, samples: int, noise: float) -> jax.Array:
    """[samples, H, W, C]: Gaussian noise added, its deviation `noise` times the image's range."""
    key = jax.random.key(0) if key is None else key
    deviation = noise * (image.max() - image.min())
    # Drawn in float32 whatever the image's dtype, so that every precision sees the same noise.
    offsets = deviation * jax.random.normal(key, (samples, *image.shape), jnp.float32)
    return (image + offsets).astype(image.dtype)


def gradients_at(
    classifier: Classifier, points: jax.Array, class_index: Target, chunk: int
) -> jax.Array:
    """[n, H, W, C] images -> dy_c/dx at each."""
    return in_chunks(
        lambda point: score_and_gradient(classifier, point, class_index)[1], points, chunk
    )


def in_chunks(
    function: Callable[[jax.Array], jax.Array], points: jax.Array, chunk: int
) -> jax.Array:
    """`function` of each of [n, ...] points, `chunk` at a time.

    A Python loop over chunks, not lax.map: on a CPU a convolution's gradient inside an XLA loop
    is ten and more times slower (jax#12868).
    """
    done: list[jax.Array] = []
    for start in range(0, len(points), chunk):
        # The barrier makes a chunk wait for the one before, or all would be in memory at once (as
        # they are on a CPU with JAX 0.10, whose compiler drops the barrier).
        ready, done = jax.lax.optimization_barrier((points[start : start + chunk], done))
        done.append(jax.vmap(function)(ready))
    return jnp.concatenate(done)


def magnitude(derivative: jax.Array) -> jax.Array:
    return spread_nan(derivative, jnp.abs(derivative).max(-1))


def contribution(values: jax.Array) -> jax.Array:
    return values.sum(-1)
