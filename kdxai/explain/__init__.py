"""Explanations: one classifier, one image, one class -> one map.

`METHODS[name](classifier, image [H, W, C], class_index, **options) -> [h, w] float32`, on the
method's own grid (that of the target layer, or the image's). jax.vmap a method over a batch;
`resize` puts maps on one grid and `min_max` on one scale. An image of integers is explained as one
of float32, so a model that normalises within sees 0 to 255 as floats. What differs from the library
grad-cam is said in `kdxai.explain.cam`.

In place of a class a method takes any function of the logits to one number, such as those of
`targets`. Of a model whose target layer has more than a grid, `Classifier(grid=...)` picks the map.
"""

from kdxai.explain.attention import attention_rollout, le_grad
from kdxai.explain.averages import over_networks, smooth, smooth_grad_cam_plus_plus
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
from kdxai.explain.coalitions import kernel_shap, lime, require_segments
from kdxai.explain.controls import centred_gaussian, edges, random
from kdxai.explain.decomposition import deep_lift, lrp_epsilon, lrp_z_plus
from kdxai.explain.expectation import expected_gradients, gradient_shap
from kdxai.explain.extended_grad_cam import eigen_grad_cam, finer_cam, refine_cam, shapley_cam
from kdxai.explain.full_gradient import full_grad, full_gradient
from kdxai.explain.gradients import (
    gradient,
    gradient_x_input,
    guided_backpropagation,
    guided_grad_cam,
    guided_relu,
    integrated_gradients,
    integrated_gradients_with_error,
    require_variance,
    smooth_grad,
    var_grad,
)
from kdxai.explain.maps import min_max, resize
from kdxai.explain.method import Method, Option
from kdxai.explain.occlusion import occlusion, require_cover
from kdxai.explain.rise import rise

METHODS: dict[str, Method] = {
    "cam": Method(cam, "CAM", needs=("head",)),
    "grad_cam": Method(grad_cam, "Grad-CAM"),
    "grad_cam_plus_plus": Method(grad_cam_plus_plus, "Grad-CAM++"),
    "hires_cam": Method(hires_cam, "HiResCAM"),
    "xgrad_cam": Method(xgrad_cam, "XGrad-CAM"),
    "layer_cam": Method(layer_cam, "LayerCAM"),
    "score_cam": Method(score_cam, "Score-CAM", batch=("chunk",)),
    "ablation_cam": Method(ablation_cam, "Ablation-CAM", batch=("chunk",)),
    "eigen_cam": Method(eigen_cam, "Eigen-CAM"),
    "grad_cam_elementwise": Method(grad_cam_elementwise, "Grad-CAM Elementwise"),
    "eigen_grad_cam": Method(eigen_grad_cam, "Eigen-Grad-CAM"),
    "shapley_cam": Method(shapley_cam, "ShapleyCAM"),
    "finer_cam": Method(finer_cam, "Finer-CAM"),
    "smooth_grad_cam_plus_plus": Method(
        smooth_grad_cam_plus_plus, "Smooth Grad-CAM++", batch=("chunk", "samples")
    ),
    "refine_cam": Method(refine_cam, "RefineCAM", needs=("earlier",)),
    "gradient": Method(gradient, "Saliency", on_image=True),
    "gradient_x_input": Method(
        gradient_x_input, "Gradient \N{MULTIPLICATION SIGN} Input", on_image=True
    ),
    "smooth_grad": Method(smooth_grad, "SmoothGrad", batch=("chunk", "samples"), on_image=True),
    "var_grad": Method(
        var_grad, "VarGrad", batch=("chunk", "samples"), on_image=True, require=require_variance
    ),
    "integrated_gradients": Method(
        integrated_gradients, "Integrated Gradients", batch=("chunk", "steps"), on_image=True
    ),
    "guided_backpropagation": Method(
        guided_backpropagation, "Guided backpropagation", on_image=True, needs=("guided",)
    ),
    "guided_grad_cam": Method(guided_grad_cam, "Guided Grad-CAM", needs=("guided",)),
    "occlusion": Method(
        occlusion, "Occlusion", batch=("chunk",), on_image=True, require=require_cover
    ),
    "attention_rollout": Method(
        attention_rollout, "Attention rollout", on_image=True, needs=("attention",)
    ),
    "le_grad": Method(le_grad, "LeGrad", on_image=True, needs=("attention", "attended")),
    "expected_gradients": Method(
        expected_gradients,
        "Expected Gradients",
        batch=("chunk", "samples"),
        on_image=True,
        needs=("background",),
    ),
    "gradient_shap": Method(
        gradient_shap,
        "GradientSHAP",
        batch=("chunk", "samples"),
        on_image=True,
        needs=("background",),
    ),
    "deep_lift": Method(deep_lift, "DeepLIFT", on_image=True, by_rules=True),
    "lrp_epsilon": Method(lrp_epsilon, "LRP-ε", on_image=True, by_rules=True),
    "lrp_z_plus": Method(lrp_z_plus, "LRP-z⁺", on_image=True, by_rules=True),
    "full_grad": Method(full_grad, "FullGrad", on_image=True, by_rules=True),
    "rise": Method(rise, "RISE", batch=("chunk", "samples"), on_image=True),
    "kernel_shap": Method(
        kernel_shap, "KernelSHAP", batch=("chunk",), on_image=True, require=require_segments
    ),
    "lime": Method(
        lime, "LIME", batch=("chunk", "samples"), on_image=True, require=require_segments
    ),
    "random": Method(random, "Random numbers"),
    "centred_gaussian": Method(centred_gaussian, "Centred Gaussian"),
    "edges": Method(edges, "Edges", on_image=True),
}


def default_options() -> dict[str, dict[str, Option]]:
    """Method -> option -> default, of the methods that have options: a config's `options`."""
    return {name: method.defaults for name, method in METHODS.items() if method.defaults}


__all__ = [
    "METHODS",
    "Classifier",
    "Method",
    "default_options",
    "full_gradient",
    "guided_relu",
    "integrated_gradients_with_error",
    "min_max",
    "over_networks",
    "resize",
    "smooth",
]
