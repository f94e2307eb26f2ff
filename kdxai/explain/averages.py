"""A method averaged: over noisy copies of the image, or over the networks of a population."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from kdxai.errors import UserError
from kdxai.explain.cam import grad_cam_plus_plus
from kdxai.explain.classifier import Classifier, Target, one_image
from kdxai.explain.gradients import in_chunks, noisy_copies

Draw = Callable[..., jax.Array]


def smooth(
    method: Draw,
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    key: jax.Array | None = None,
    samples: int = 16,
    noise: float = 0.15,
    chunk: int = 16,
    **options: Any,
) -> jax.Array:
    """The mean of a method's maps of `samples` noisy copies of the image, on its own grid.

    As SmoothGrad (Smilkov et al. 2017) does with the gradient: the noise is Gaussian, its standard
    deviation `noise` times the range max(x) - min(x) of the image. `chunk` copies are explained at
    a time. `key=None` is `jax.random.key(0)`.

    Args:
      method: one of METHODS, or any function like them.
      options: of the method.
    """
    points = noisy_copies(one_image(image), key, samples, noise)
    draw = lambda point: method(classifier, point, class_index, **options)  # noqa: E731
    return in_chunks(draw, points, chunk).mean(0)


def smooth_grad_cam_plus_plus(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    relu: bool = True,
    key: jax.Array | None = None,
    samples: int = 16,
    noise: float = 0.15,
    chunk: int = 16,
) -> jax.Array:
    """Smooth Grad-CAM++: the mean of Grad-CAM++ over noisy copies of the image.

    Omeiza et al. 2019, "Smooth Grad-CAM++". The paper averages the derivatives, from which it then
    makes one map; here the maps are averaged, so that each is Grad-CAM++'s of an image.
    """
    draw = partial(grad_cam_plus_plus, relu=relu)
    options: dict[str, Any] = {"key": key, "samples": samples, "noise": noise, "chunk": chunk}
    return smooth(draw, classifier, image, class_index, **options)


def over_networks(
    method: Draw,
    classifiers: Sequence[Classifier],
    image: jax.Array,
    class_index: Target,
    **options: Any,
) -> jax.Array:
    """The mean of a method's maps by several networks: a population as one explanation.

    Woerl et al. 2023, "Initialization Noise in Image Gradients and Saliency Maps": much of a map is
    of the network's initialisation, and averaging over networks that differ in that alone leaves
    what they share. Maps are averaged as they are, in each network's logits.

    Args:
      options: of the method.

    Raises:
      UserError: there is no network, or their maps are of different grids.
    """
    maps = [method(one, image, class_index, **options) for one in classifiers]
    shapes = {one.shape for one in maps}
    if len(shapes) != 1:
        raise UserError(
            "averaging needs at least one network, and maps of one grid, but these are "
            f"{sorted(shapes)}: take target layers whose grids are alike"
        )
    return jnp.stack(maps).mean(0)
