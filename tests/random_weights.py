"""The same random weights wherever they are made, so that tests need not store them."""

import numpy as np


def random_weights(shapes, seed):
    """{name: shape} of a PyTorch state dict -> {name: array}: every tensor random and different.

    Untouched BatchNorm would hide a mix-up of its tensors.
    """
    random = np.random.RandomState(seed)  # its stream is frozen, which a Generator's is not
    state = {}
    for name, shape in sorted(shapes.items()):
        if name.endswith("num_batches_tracked"):
            state[name] = np.array(7)
        elif len(shape) > 1:
            state[name] = np.float32(random.normal(0, np.prod(shape[1:]) ** -0.5, shape))
        else:
            state[name] = np.float32(random.uniform(0.5, 1.5, shape))
    return state


def random_images(size=32):
    return np.float32(np.random.RandomState(0).normal(size=(3, size, size, 3)))
