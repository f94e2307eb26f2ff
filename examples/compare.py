"""Compare two networks of your own: tables, paired differences, and a page to read."""

import jax
import numpy as np
from flax import linen as nn
from jax.tree_util import Partial

import kdxai


def network(width):  # two functions on one image, their parameters as data
    conv, dense = nn.Conv(width, (5, 5), strides=2), nn.Dense(3)
    kernel = conv.init(jax.random.key(0), np.zeros((1, 28, 28, 1)))
    head = dense.init(jax.random.key(1), np.zeros(width))
    features = Partial(lambda p, image: nn.relu(conv.apply(p, image[None])[0]), kernel)
    classify = Partial(lambda p, f: dense.apply(p, f.mean((0, 1))), head)
    model = kdxai.Classifier(features, classify)
    return kdxai.External(model, [0.5], [0.25], ("a", "b", "c"), (28, 28, 1))


images = np.random.default_rng(0).integers(0, 256, (40, 28, 28, 1), np.uint8)  # your test images
labels = np.arange(40) % 3  # and their classes
found = kdxai.compare({"mine": network(16), "small": network(4)}, images, labels)  # workdir="page"
table = found.table[found.table.metric.isin(["average_drop", "complexity", "adcc"])]
print(table.to_string())
