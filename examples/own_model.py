"""Explain and score a model of your own: two functions on one image, from any JAX library."""

import jax
import numpy as np
from flax import linen as nn

from kdxai.evaluate import evaluate
from kdxai.explain import Classifier
from kdxai.protocol import Protocol

conv, dense = nn.Conv(16, (5, 5), strides=2), nn.Dense(10)  # your model and its parameters
kernel = conv.init(jax.random.key(0), np.zeros((1, 28, 28, 1)))
head = dense.init(jax.random.key(1), np.zeros(16))


def features(image):  # [H, W, C] -> [h, w, c]: up to the map that you want to explain
    return nn.relu(conv.bind(kernel)(image[None])[0])


model = Classifier(features, lambda f: dense.bind(head)(f.mean((0, 1))))  # -> [K]: the rest
images = np.random.default_rng(0).integers(0, 256, (100, 28, 28, 1), np.uint8)  # your test images
labels = np.zeros(100, np.int32)  # and their classes
rows = evaluate(model, images, labels, Protocol(method="grad_cam"), mean=[0.5], std=[0.25])
print(rows[["average_drop", "complexity", "coherency", "adcc"]].describe())
