"""Transformers explained by their attention: rollout and LeGrad.

Attention of a block is [heads, T, T]; row i says what token i takes from the others. Tokens ahead
of the h w of the grid, such as a class token, have no place in a map. A map is of what the tokens
take that the head reads: the first where there are such, all of the grid where there are none.
"""

from functools import reduce
from typing import Any

import jax
import jax.numpy as jnp

from kdxai.errors import UserError
from kdxai.explain.classifier import Classifier, Target, at_cut, one_image, target_score
from kdxai.explain.maps import spread_nan


def attention_rollout(classifier: Classifier, image: jax.Array, class_index: Target) -> jax.Array:
    """Attention rollout: the product of (A_l + I) / 2 over all blocks, A_l the mean of the heads.

    Abnar and Zuidema 2020, "Quantifying Attention Flow in Transformers", Section 3; the same for
    every class.

    Raises:
      UserError: the model shows no attention.
    """
    del class_index
    image = one_image(image)
    mixed = [
        (block.mean(0) + jnp.eye(block.shape[-1])) / 2 for block in _attention(classifier, image)
    ]
    flow = reduce(lambda flow, block: jnp.matmul(block, flow, precision="highest"), mixed)
    return spread_nan(image, _to_grid(classifier, image, flow))


def le_grad(classifier: Classifier, image: jax.Array, class_index: Target) -> jax.Array:
    """LeGrad: the mean over blocks and heads of ReLU(ds_l / dA_l).

    Bousselham et al. 2024, "LeGrad: An Explainability Method for Vision Transformers via Feature
    Formation Sensitivity": s_l is the score of the class by the features that block l has made, put
    through the model's own head, and A_l that block's attention, whose rows are averaged too. All
    blocks count, where the authors leave out the first ones of a deep model.

    Raises:
      UserError: the model shows no attention, or not what becomes of another.
    """
    image = one_image(image)
    attention = tuple(_attention(classifier, image))
    if classifier.attended is None:
        raise UserError(
            "LeGrad needs the logits of each block's features as a function of attention: pass "
            "Classifier(attended=...), or use attention_rollout."
        )
    attended = classifier.attended

    def total(attention: tuple[jax.Array, ...]) -> jax.Array:
        return jax.vmap(lambda logits: target_score(logits, class_index))(
            attended((image, attention))
        ).sum()

    value, slopes = jax.value_and_grad(total)(attention)
    rows = [jnp.where(slope < 0, 0, slope).mean((0, 1)) for slope in slopes]
    return spread_nan((image, value), _to_grid(classifier, image, jnp.stack(rows).mean(0)[None]))


def _attention(classifier: Classifier, image: jax.Array) -> Any:
    if classifier.attention is None:
        raise UserError(
            "The model shows no attention, as CNNs have none: take a vision transformer "
            "(vit-...), or pass Classifier(attention=...)."
        )
    return classifier.attention(image)


def _to_grid(classifier: Classifier, image: jax.Array, flow: jax.Array) -> jax.Array:
    """[T, T] what each token takes, or [1, T] -> [h, w] what the tokens that are read take."""
    height, width = jax.eval_shape(lambda x: at_cut(classifier, x)[1], image).shape[:2]
    others = flow.shape[-1] - height * width
    if others < 0:
        raise UserError(
            f"attention is of {flow.shape[-1]} tokens, fewer than the {height}x{width} of the "
            "feature map: take a target layer where its tokens are those of its blocks"
        )
    read = flow[0] if others else flow.mean(0)
    return read[others:].reshape(height, width)
