"""Losses of explanations: class attention transfer (CAT-KD), explanation-enhanced KD (e2KD)."""

import jax
import jax.numpy as jnp

from kdxai.explain.cam import weighted
from kdxai.training.objectives.grids import pooled, resized, unit_vectors
from kdxai.training.objectives.objective import Outputs

CELLS = (2, 2)  # to which CAT-KD pools the maps of images of CIFAR


def cat(student: Outputs, teacher: Outputs) -> jax.Array:
    """mean_k mean_cells (P(M_s) / |P(M_s)| - P(M_t) / |P(M_t)|)_k^2 -> [B]: all classes' CAMs.

    Guo et al. 2023, "Class Attention Transfer Based Knowledge Distillation", L_CAT: M_k = sum_c
    w_ck A_c is class k's activation map, P average pooling to 2 x 2 cells, whatever the grids. The
    mean over the cells is that of the authors' code. There the weight of the term is 50 where it is
    the whole loss; beside cross-entropy it is chosen for each pair of networks, for CIFAR-100 from
    15 to 600, and for some pairs the maps are not normalised.
    """
    own, its = (unit_vectors(class_maps(outputs)) for outputs in (student, teacher))
    return ((own - its) ** 2).mean((1, 2))


def class_maps(outputs: Outputs) -> jax.Array:
    """[B, K, cells]: the pooled CAM of each class (Zhou et al. 2016)."""
    (features,) = outputs.taps.values()
    assert outputs.head is not None
    maps = pooled(features, CELLS) @ outputs.head  # pooling and weighing are linear
    return maps.reshape(len(maps), -1, maps.shape[-1]).swapaxes(1, 2)


def e2kd(student: Outputs, teacher: Outputs) -> jax.Array:
    """1 - cos(E_s, E_t) -> [B]: the two networks' Grad-CAMs of the class that the teacher predicts.

    Parchami-Araghi et al. 2024, "Good Teachers Explain", L_exp, E resized to the image as in the
    authors' code, which tries weights from 0.2 to 10. The student's map is differentiated through,
    its gradient included. Stages add up.
    """
    classes = teacher.logits.argmax(-1)
    total = jnp.zeros(())
    for stage, other in zip(student.taps, teacher.taps, strict=True):
        own, its = grad_cams(student, stage, classes), grad_cams(teacher, other, classes)
        total += 1 - (unit_vectors(own) * unit_vectors(its)).sum(-1)
    return total


def grad_cams(outputs: Outputs, stage: str, classes: jax.Array) -> jax.Array:
    """[B, H W]: Grad-CAM of one class of each image, on the grid of the images.

    Where BatchNorm takes the statistics of a batch, an image's logit depends on the others' maps;
    the gradient is that of the sum of all, as in the authors' code.
    """
    features, classify = outputs.taps[stage], outputs.classify
    assert classify is not None

    def score(features: jax.Array) -> jax.Array:
        return jnp.take_along_axis(classify(stage, features), classes[:, None], 1).sum()

    maps = jax.vmap(weighted)(features, jax.grad(score)(features))
    return resized(maps, outputs.size).reshape(len(maps), -1)
