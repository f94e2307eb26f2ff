"""Explanations: one classifier, one image, one class -> one map.

`METHODS[name](classifier, image [H, W, C], class_index, **options) -> [h, w] float32`, on the
method's own grid (that of the classifier's cut, or the image's). jax.vmap a method over a batch;
`resize` puts maps on one grid and `min_max` on one scale. An image of integers is explained as one
of float32, so a model that normalises within sees 0 to 255 as floats. What differs from the library
grad-cam is said in `kdxai.explain.cam`.
"""

from collections.abc import Callable

import jax

from kdxai.explain.cam import (
    ablation_cam,
    cam,
    eigen_cam,
    grad_cam,
    grad_cam_elementwise,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
    score_cam,
    xgrad_cam,
)
from kdxai.explain.classifier import Classifier
from kdxai.explain.controls import centred_gaussian, edges, random
from kdxai.explain.gradients import (
    gradient,
    gradient_x_input,
    guided_backpropagation,
    guided_grad_cam,
    guided_relu,
    integrated_gradients,
    integrated_gradients_with_error,
    smooth_grad,
    var_grad,
)
from kdxai.explain.maps import min_max, resize
from kdxai.explain.occlusion import occlusion

METHODS: dict[str, Callable[..., jax.Array]] = {
    "cam": cam,
    "grad_cam": grad_cam,
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "hires_cam": hires_cam,
    "xgrad_cam": xgrad_cam,
    "layer_cam": layer_cam,
    "score_cam": score_cam,
    "ablation_cam": ablation_cam,
    "eigen_cam": eigen_cam,
    "grad_cam_elementwise": grad_cam_elementwise,
    "gradient": gradient,
    "gradient_x_input": gradient_x_input,
    "smooth_grad": smooth_grad,
    "var_grad": var_grad,
    "integrated_gradients": integrated_gradients,
    "guided_backpropagation": guided_backpropagation,
    "guided_grad_cam": guided_grad_cam,
    "occlusion": occlusion,
    "random": random,
    "centred_gaussian": centred_gaussian,
    "edges": edges,
}

# Methods that draw the same map wherever the classifier is cut.
ON_IMAGE = frozenset(
    {
        *("gradient", "gradient_x_input", "smooth_grad", "var_grad", "integrated_gradients"),
        *("guided_backpropagation", "occlusion", "edges"),
    }
)

__all__ = [
    "METHODS",
    "ON_IMAGE",
    "Classifier",
    "guided_relu",
    "integrated_gradients_with_error",
    "min_max",
    "resize",
]
