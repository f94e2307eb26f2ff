"""Grad-CAM extended: by a principal component, by curvature, by similar classes, by several layers.

As those of `cam`, they map one image to a [h, w] float32 map on the feature map's grid, but for
RefineCAM, whose is the image's.
"""

from functools import reduce

import jax
import jax.numpy as jnp

from kdxai.errors import UserError
from kdxai.explain.cam import (
    features_and_gradient,
    grad_cam,
    grad_cam_plus_plus,
    project,
    weighted,
)
from kdxai.explain.classifier import Classifier, Target, at_cut, grid, one_image, target_score
from kdxai.explain.maps import min_max, resize, spread_nan


def eigen_grad_cam(classifier: Classifier, image: jax.Array, class_index: Target) -> jax.Array:
    """Eigen-Grad-CAM: g * A, element by element, projected on its first right singular vector.

    From the library pytorch-grad-cam (Gildenblat 2021); it has no paper. Not centred, as Eigen-CAM
    is not; the library's is. The sign is the one by which the map agrees with HiResCAM, the sum of
    g * A over channels: positive is evidence for the class.
    """
    features, gradient = features_and_gradient(classifier, image, class_index)
    values = features * gradient
    projection = project(values)
    return jnp.where((projection * values.sum(-1)).sum() < 0, -projection, projection)


def shapley_cam(
    classifier: Classifier, image: jax.Array, class_index: Target, *, relu: bool = True
) -> jax.Array:
    """ShapleyCAM: ReLU(sum_k a_k A_k), a_k = mean_ij (g - H A / 2)_ijk.

    Cai 2025, "CAMs as Shapley Value-based Explainers": to second order in A the Shapley values of
    the features are (g - H A / 2) * A, with g and H the gradient and the Hessian of the utility u.
    Of a class u is the paper's ReST, its logit plus its log-probability; behind that layer most
    networks are piecewise linear, and of a logit H would be 0 and the map Grad-CAM's. A function of
    the logits is a utility itself. H A costs one forward-mode pass more.
    """
    features, found = at_cut(classifier, image)

    def utility(features: jax.Array) -> jax.Array:
        logits = classifier.classify(features)
        value = target_score(logits, class_index)
        if callable(class_index):
            return value
        return value + target_score(jax.nn.log_softmax(logits.astype(jnp.float32)), class_index)

    both = jax.value_and_grad(utility)
    (value, gradient), (_, curvature) = jax.jvp(both, (features,), (features,))
    weights = jax.tree.map(lambda g, h: (g - h / 2).astype(jnp.float32), gradient, curvature)
    weights = spread_nan((features, value), grid(classifier, weights))
    return weighted(found.astype(jnp.float32), weights, relu=relu)


def finer_cam(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    relu: bool = True,
    alpha: float = 1.0,
    others: int = 3,
) -> jax.Array:
    """Finer-CAM: Grad-CAM of y_c - alpha y_d, averaged over the classes d most like c.

    Zhang et al. 2025, "Finer-CAM: Spotting the Difference Reveals Finer Details for Visual
    Explanation". Most like c are the `others` classes whose logits are nearest to y_c, and they
    count by their probabilities, as in the authors' code. There these are differentiated too; here
    they are only weights. `alpha` 0 is Grad-CAM.

    Raises:
      UserError: a function of the logits in place of a class.
    """
    if callable(class_index):
        raise UserError("finer_cam compares a class with those like it: give it a class")

    def difference(logits: jax.Array) -> jax.Array:
        known = jax.lax.stop_gradient(logits)
        distance = jnp.abs(known - target_score(known, class_index)).at[class_index].set(-1)
        near = jnp.argsort(distance)[1 : 1 + others]
        shares = jax.nn.softmax(known[near])
        return target_score(logits, class_index) - alpha * (shares * logits[near]).sum()

    return grad_cam(classifier, image, difference, relu=relu)


def refine_cam(classifier: Classifier, image: jax.Array, class_index: Target) -> jax.Array:
    """RefineCAM: the product of the Grad-CAM++ maps of several layers, each in [0, 1].

    Domeniconi et al. 2026, "How to Evaluate and Refine your CAM": early maps are fine, late ones
    faithful, and the product is both. The equation is read off the authors' code (their
    `MultiplierMix` of all layers): each map is resized to the image and scaled by its own range.
    The library grad-cam means to divide by the maximum and loses the quotient, but its maps are in
    [0, 1] before. The layers are those of `Classifier.earlier` and its own.

    Returns:
      [H, W] in [0, 1].

    Raises:
      UserError: the classifier has no `earlier`.
    """
    if not classifier.earlier:
        raise UserError(
            "RefineCAM multiplies the maps of several layers: pass the model at earlier target "
            "layers as Classifier(earlier=(...,)), or use grad_cam_plus_plus."
        )
    shape = one_image(image).shape[:2]
    maps = (
        grad_cam_plus_plus(one, image, class_index) for one in (*classifier.earlier, classifier)
    )
    return reduce(jnp.multiply, (min_max(resize(one, shape)) for one in maps))
