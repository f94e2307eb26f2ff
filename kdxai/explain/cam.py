"""Class activation maps: explanations read off the feature map of the target layer.

Notation: A [h, w, k] is the feature map, y_c the logit of class c, g = dy_c/dA. Every method maps
one image to a [h, w] float32 map on the feature map's own grid. The gradient methods run one
forward pass and one backward pass from the logits to that layer, never through the whole network;
Score-CAM and Ablation-CAM run one more forward pass per channel (Score-CAM: that is not constant),
`chunk` of them at a time, so their memory is that of a batch of `chunk` images (times the caller's
own batch).

`relu=True` keeps only the evidence for the class, `relu=False` keeps the sign. A score that is
NaN, or a class that does not exist, makes the map NaN.

For those who convert from the library grad-cam (pytorch-grad-cam): it scales a map to [0, 1] before
it resizes it and once more after, so at an early stage its maps differ by up to 0.43 of the maximum
from `resize(min_max(map), ...)`; it centres the features of Eigen-CAM (its map can correlate at
-0.87 with the paper's); it adds 1e-6 to the denominator of Grad-CAM++; and it resizes Score-CAM's
masks with aligned corners. The methods here follow the papers.
"""

from functools import partial

import jax
import jax.numpy as jnp

from kdxai.errors import UserError
from kdxai.explain.classifier import (
    Classifier,
    Target,
    at_cut,
    grid,
    one_image,
    score_and_gradient,
    target_score,
)
from kdxai.explain.maps import min_max, resize, spread_nan

# Of a Gram matrix: 2^12 power iterations tell singular values that are 0.1 % apart.
SQUARINGS = 12


def cam(
    classifier: Classifier, image: jax.Array, class_index: Target, *, relu: bool = True
) -> jax.Array:
    """CAM: ReLU(sum_k w_kc A_k), with w the weights of the linear head on pooled features.

    Zhou et al. 2016, "Learning Deep Features for Discriminative Localization", Eq. 2, which has
    no ReLU: `relu=False` is that equation; the ReLU is what later work compares.

    Raises:
      UserError: the classifier has no `head`, or one that does not fit its features.
    """
    if classifier.head is None:
        raise UserError(
            "CAM needs a model that ends in a linear head on globally average-pooled features: "
            "pass its weights as Classifier(head=...), or use grad_cam."
        )
    features, found = at_cut(classifier, image)
    if classifier.head.ndim != 2 or classifier.head.shape[0] != found.shape[-1]:
        raise UserError(
            f"CAM's head must be [c, K] with the c = {found.shape[-1]} channels of the feature "
            f"map, but is {classifier.head.shape}: take a target layer before its pooling."
        )
    value, slope = jax.value_and_grad(target_score)(classifier.classify(features), class_index)
    weights = spread_nan(value, (classifier.head * slope).sum(-1))
    return rectify((found.astype(jnp.float32) * weights).sum(-1), relu)


def grad_cam(
    classifier: Classifier, image: jax.Array, class_index: Target, *, relu: bool = True
) -> jax.Array:
    """Grad-CAM: ReLU(sum_k a_k A_k), a_k = mean_ij g_ijk.

    Selvaraju et al. 2017, "Grad-CAM", Eqs. 1 and 2.
    """
    features, gradient = features_and_gradient(classifier, image, class_index)
    return weighted(features, gradient, relu=relu)


def weighted(features: jax.Array, gradient: jax.Array, *, relu: bool = True) -> jax.Array:
    """Grad-CAM of a feature map A [h, w, k] and a gradient g of its shape."""
    return rectify((features * gradient.mean((0, 1))).sum(-1), relu)


def grad_cam_plus_plus(
    classifier: Classifier, image: jax.Array, class_index: Target, *, relu: bool = True
) -> jax.Array:
    """Grad-CAM++: ReLU(sum_k w_k A_k), w_k = sum_ij a_ijk ReLU(dY/dA_ijk), with Y = exp(y_c).

    Chattopadhay et al. 2018, "Grad-CAM++", Eq. 19:

        a_ijk = g_ijk^2 / (2 g_ijk^2 + sum_ab A_abk g_ijk^3) = 1 / (2 + g_ijk sum_ab A_abk)

    (which takes y_c as piecewise linear in A, as the paper does). The second form needs no
    epsilon in the denominator; the 1e-6 of a common library is not small beside g^2. The paper
    presumes A >= 0. Of features with a sign (ahead of a ReLU, or of SiLU) the sum may be negative,
    and the denominator near 0 or below it: such a sum counts as 0.
    Left out is the factor exp(y_c) of dY/dA: it scales the whole map, and overflows.
    """
    features, gradient = features_and_gradient(classifier, image, class_index)
    positive = _relu(gradient)
    # Where g is not positive its weight is 0 whatever the denominator.
    weights = (positive / (2 + positive * _relu(features.sum((0, 1))))).sum((0, 1))
    return rectify((features * weights).sum(-1), relu)


def hires_cam(
    classifier: Classifier, image: jax.Array, class_index: Target, *, relu: bool = True
) -> jax.Array:
    """HiResCAM: ReLU(sum_k g_k * A_k), element by element: the gradients are not averaged.

    Draelos and Carin 2020, "Use HiResCAM instead of Grad-CAM". With `relu=False` the values are
    contributions: ahead of one linear layer, pooled or not, they sum to y_c less its bias.
    """
    features, gradient = features_and_gradient(classifier, image, class_index)
    return rectify((features * gradient).sum(-1), relu)


def xgrad_cam(
    classifier: Classifier, image: jax.Array, class_index: Target, *, relu: bool = True
) -> jax.Array:
    """XGrad-CAM: ReLU(sum_k a_k A_k), a_k = sum_ij g_ijk |A_ijk| / sum_ij |A_ijk|.

    Fu et al. 2020, "Axiom-based Grad-CAM", without the absolute values: the paper presumes A >= 0.
    In a channel of both signs its sum of A may be next to nothing, and the quotient without bound;
    a mean weighted by |A| lies between the channel's gradients. A dead channel gets weight 0.
    """
    features, gradient = features_and_gradient(classifier, image, class_index)
    magnitude = jnp.abs(features)
    weights = ratio((gradient * magnitude).sum((0, 1)), magnitude.sum((0, 1)))
    return rectify((features * weights).sum(-1), relu)


def layer_cam(
    classifier: Classifier, image: jax.Array, class_index: Target, *, relu: bool = True
) -> jax.Array:
    """LayerCAM: ReLU(sum_k ReLU(g_k) * A_k), element by element.

    Jiang et al. 2021, "LayerCAM", where A >= 0. A negative feature with a positive gradient counts
    against the class.
    """
    features, gradient = features_and_gradient(classifier, image, class_index)
    return rectify((features * _relu(gradient)).sum(-1), relu)


def grad_cam_elementwise(
    classifier: Classifier, image: jax.Array, class_index: Target
) -> jax.Array:
    """Grad-CAM Elementwise: sum_k ReLU(g_k * A_k), element by element.

    From the library pytorch-grad-cam (Gildenblat 2021); it has no paper. The ReLU is inside the
    sum, so unlike HiResCAM no channel cancels another. Where A < 0 a negative gradient is evidence.
    """
    features, gradient = features_and_gradient(classifier, image, class_index)
    return _relu(features * gradient).sum(-1)


def score_cam(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    relu: bool = True,
    chunk: int = 32,
) -> jax.Array:
    """Score-CAM: ReLU(sum_k a_k A_k), a = softmax over k of y_c(image * H_k).

    Wang et al. 2020, "Score-CAM". H_k is A_k resized to the image and min-max scaled. The paper
    subtracts the score of an empty image from each y_c, which the softmax cancels. All weights are
    positive, so with `relu` features ahead of a ReLU leave little of the map.
    """
    image = one_image(image)
    features = at_cut(classifier, image)[1].astype(jnp.float32)
    channels = jnp.moveaxis(features, -1, 0)
    size = len(channels)
    chunk = min(chunk, size)

    def masked_score(activation: jax.Array) -> jax.Array:
        mask = min_max(resize(activation, image.shape[:2])).astype(image.dtype)
        return target_score(classifier(image * mask[..., None]), class_index)

    # A constant channel, such as one that ReLU has silenced, is an H_k of zeros: one forward pass
    # scores all of those, and the loop ends with the last of the others.
    constant = (channels == channels[:, :1, :1]).all((1, 2))
    order = jnp.argsort(constant)
    empty = target_score(classifier(jnp.zeros_like(image)), class_index)

    def next_chunk(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        done, scores = state
        some = jax.lax.dynamic_slice(order, (jnp.minimum(done, size - chunk),), (chunk,))
        found = jnp.where(constant[some], empty, jax.vmap(masked_score)(channels[some]))
        return done + chunk, scores.at[some].set(found)

    _, scores = jax.lax.while_loop(
        lambda state: state[0] < size - constant.sum(),
        next_chunk,
        (jnp.int32(0), jnp.full(size, empty)),
    )
    weights = spread_nan(scores, jax.nn.softmax(scores))
    return rectify((features * weights).sum(-1), relu)


def ablation_cam(
    classifier: Classifier,
    image: jax.Array,
    class_index: Target,
    *,
    relu: bool = True,
    chunk: int = 32,
) -> jax.Array:
    """Ablation-CAM: ReLU(sum_k w_k A_k), w_k = (y_c - y_c with A_k set to 0) / |y_c|.

    Desai and Ramaswamy 2020, "Ablation-CAM". The paper divides by y_c itself, which for a
    negative logit would turn evidence for the class into evidence against it. That 0 is absence
    presumes A >= 0.
    """
    features, found = at_cut(classifier, image)
    channels = jnp.arange(found.shape[-1])
    _, back = jax.vjp(lambda features: grid(classifier, features), features)

    def ablated_score(channel: jax.Array) -> jax.Array:
        (part,) = back(jnp.where(channels == channel, found, 0))
        return target_score(
            classifier.classify(jax.tree.map(jnp.subtract, features, part)), class_index
        )

    whole = target_score(classifier.classify(features), class_index)
    weights = ratio(whole - jax.lax.map(ablated_score, channels, batch_size=chunk), jnp.abs(whole))
    return rectify((found.astype(jnp.float32) * weights).sum(-1), relu)


def eigen_cam(classifier: Classifier, image: jax.Array, class_index: Target) -> jax.Array:
    """Eigen-CAM: A projected on its first right singular vector; the same for every class.

    Muhammad and Yeasin 2020, "Eigen-CAM": A [h w, k] = U S V^T, the map is A v_1 = s_1 u_1. Not
    centred, as in the paper. The sign of a singular vector is arbitrary; here the map sums to a
    positive number, so that for features after a ReLU no value is negative. Ahead of one that sum
    may be next to nothing, and then a small change of the image can turn the sign.
    """
    projection = project(at_cut(classifier, image)[1].astype(jnp.float32))
    return jnp.where(projection.sum() < 0, -projection, projection)


def project(values: jax.Array) -> jax.Array:
    """[h, w, k] -> [h, w], on the first right singular vector [k] of [h w, k], of either sign."""
    matrix = values.reshape(-1, values.shape[-1])
    # By power iteration, squaring the smaller Gram matrix: a batched SVD inside a compiled program
    # has hung on two CPU threads (jaxlib 0.10.2).
    tall = matrix.shape[0] >= matrix.shape[1]
    matmul = partial(jnp.matmul, precision="highest")
    power = matmul(matrix.T, matrix) if tall else matmul(matrix, matrix.T)
    for _ in range(SQUARINGS):
        power = ratio(power, jnp.trace(power))
        power = matmul(power, power)
    vector = power[:, jnp.argmax(jnp.diagonal(power))]
    vector = ratio(vector, jnp.linalg.norm(vector))
    if tall:
        projection = matmul(matrix, vector)
    else:
        projection = vector * jnp.linalg.norm(matmul(matrix.T, vector))
    return projection.reshape(values.shape[:2])


def features_and_gradient(
    classifier: Classifier, image: jax.Array, class_index: Target
) -> tuple[jax.Array, jax.Array]:
    """The feature map A [h, w, k] and dy_c/dA [h, w, k], both in float32."""
    features, found = at_cut(classifier, image)
    _, gradient = score_and_gradient(classifier.classify, features, class_index)
    return found.astype(jnp.float32), grid(classifier, gradient)


def rectify(values: jax.Array, relu: bool) -> jax.Array:
    return _relu(values) if relu else values


def _relu(values: jax.Array) -> jax.Array:
    """ReLU, by a comparison that keeps a NaN (see `maps.spread_nan`)."""
    return jnp.where(values < 0, 0, values)


def ratio(numerator: jax.Array, denominator: jax.Array) -> jax.Array:
    """numerator / denominator, or the numerator where the denominator is 0."""
    return numerator / jnp.where(denominator == 0, 1, denominator)
