"""Each layer in two, by its singular values."""

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from kdxai import models
from kdxai.compress.children import child
from kdxai.compress.values import is_number
from kdxai.errors import UserError
from kdxai.models.trained import Trained


def require_rank(rank: float) -> None:
    """Check the settings of a factorisation.

    Raises:
      UserError: the rank is no share in (0, 1].
    """
    if not is_number(rank) or not 0 < rank <= 1:
        raise UserError(f"rank must be above 0 and at most 1, not {rank!r}")


def factorise(trained: Trained, *, rank: float) -> Trained:
    """The network with two convolutions in place of each: one of the window, then one of 1x1.

    Dense layers but the head become two dense layers likewise.

    The weights as a matrix [h * w * c_in, c_out] are replaced by their best approximation of a
    lower rank, by truncated SVD, with the singular values halved between the two (Zhang et al.
    2015, "Accelerating Very Deep Convolutional Networks", section 2.1, on the weights instead of
    the responses). A 3x3 convolution of as many channels in as out gets smaller below a rank of
    0.9. Convolutions in groups stay whole.

    Args:
      rank: of the matrix, as a share of the largest that it can have, in (0, 1].

    Raises:
      UserError: a bad rank, or a network that is factorised or has rounded inputs.
    """
    require_rank(rank)
    for option, what in (("rank", "is factorised"), ("activation_bits", "has rounded inputs")):
        if option in trained.architecture:
            raise UserError(f"the network {what}; factorise the one that it was made of")
    architecture = {**trained.architecture, "rank": rank}
    model = models.create(**architecture, num_classes=len(trained.class_names))
    image = jnp.zeros((1, *trained.image_shape))
    shapes = flatten_dict(jax.eval_shape(model.init, jax.random.key(0), image)["params"])
    params = flatten_dict(dict(trained.variables["params"]))
    for path, like in shapes.items():
        if path[-2:] == ("first", "kernel"):
            place = path[:-2]
            halves = truncated(np.asarray(params.pop((*place, "kernel"))), like.shape[-1])
            params[path], params[*place, "second", "kernel"] = halves
            if (*place, "bias") in params:
                params[*place, "second", "bias"] = params.pop((*place, "bias"))
    variables = {**trained.variables, "params": unflatten_dict(params)}
    return child(trained, variables, "factorise", {"rank": rank}, architecture)


def truncated(kernel: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray]:
    """[h, w, c_in, c_out] -> [h, w, c_in, rank] and [1, 1, rank, c_out], float32.

    Of a dense layer's [c_in, c_out]: [c_in, rank] and [rank, c_out].
    """
    matrix = kernel.astype(np.float64).reshape(-1, kernel.shape[-1])
    left, values, right = np.linalg.svd(matrix, full_matrices=False)
    root = np.sqrt(values[:rank])
    first = (left[:, :rank] * root).reshape(*kernel.shape[:-1], rank)
    second = (root[:, None] * right[:rank]).reshape(*[1] * (kernel.ndim - 2), rank, -1)
    return first.astype(np.float32), second.astype(np.float32)
