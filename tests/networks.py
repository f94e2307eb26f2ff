"""Small classifiers of one's own, for `networks.py:FUNCTION`."""

import jax
import numpy as np
from flax import linen as nn
from jax.tree_util import Partial

import kdxai

COLOURS = ("0", "1", "2")


def features(parameters, image):
    width = parameters["params"]["kernel"].shape[-1]
    return nn.relu(nn.Conv(width, (3, 3), strides=2).apply(parameters, image[None])[0])


def classify(head, found):
    return found.mean((0, 1)) @ head


def network(width, seed=0, names=COLOURS, side=16, mean=0.4):
    kernel = nn.Conv(width, (3, 3)).init(jax.random.key(seed), np.zeros((1, side, side, 3)))
    head = np.random.default_rng(seed).normal(size=(width, len(names))).astype(np.float32)
    model = kdxai.Classifier(Partial(features, kernel), Partial(classify, head), head=head)
    return kdxai.External(model, [mean] * 3, [0.25] * 3, names, (side, side, 3))


def mine():
    return network(8)


def small():
    return network(3, seed=1, mean=0.5)


def closed():
    """The same as `small`, its parameters in closures."""
    model = small().classifier
    own = kdxai.Classifier(lambda image: model.features(image), lambda f: model.classify(f))
    return small()._replace(classifier=own)


def shifted():
    """What `small` computes of an image, by another normalisation."""
    model = small().classifier
    own = model._replace(features=lambda image: model.features(image - 0.4))
    return small()._replace(classifier=own, mean=[0.4] * 3)


def four():
    return network(3, names=("a", "b", "c", "d"))


def renamed():
    return network(3, names=("1", "0", "2"))


def large():
    return network(3, side=24)


def number():
    return 3


def flat():
    model = kdxai.Classifier(lambda image: image.ravel()[:4], lambda found: found[:3])
    return mine()._replace(classifier=model)
