"""What a config asks to be measured, checked before anything is."""

from collections.abc import Sequence
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict

from kdxai import classifiers, drawing, evaluate, measures
from kdxai.data.datasets import Dataset
from kdxai.errors import UserError
from kdxai.explain import Classifier
from kdxai.externals import External
from kdxai.metrics.coherency import WINDOW
from kdxai.models import LAST, Network
from kdxai.protocol import Protocol, by_rules, needs, read_options, reads_cut, require_method
from kdxai.settings import listed
from kdxai.study.design import Pair

GALLERY = 100  # images at most: a picture of some hundred rows cannot be drawn
OF_SOME = ("guided", "attention", "attended", "earlier")  # fields of `Classifier`, by the network
RESAMPLES = (100, 100_000)  # fewer have no 2.5 % at either end, more take gigabytes


class Wanted(NamedTuple):
    """What is to be measured.

    Attributes:
      protocols: one for each method.
      extra: names of measures beyond the core.
      compare: pairs of models.
      drawn: the test images sampled at random, in random order.
      images: all that are measured, in order.
      evaluation: the settings these came from.
    """

    protocols: Sequence[Protocol]
    extra: Sequence[str]
    compare: Sequence[Pair]
    drawn: np.ndarray
    images: np.ndarray
    evaluation: ConfigDict


def wanted(
    evaluation: ConfigDict,
    compare: Sequence[Pair],
    models: Sequence[str],
    available: int,
) -> Wanted:
    """Read the settings of an evaluation.

    Args:
      compare: pairs of model names; those that are not among `models` are left out.
      available: test images.

    Raises:
      UserError: no such method or measure; no images asked for, or more than there are; a number
        out of its range.
    """
    extra = listed(evaluation.metrics)
    require_resamples(evaluation)
    if not 1 <= evaluation.gallery <= GALLERY:
        raise UserError(f"gallery is 1 to {GALLERY} images, not {evaluation.gallery}")
    if evaluation.sanity < 0:
        raise UserError(f"sanity is a number of images, 0 or more, not {evaluation.sanity}")
    measures.require_known(extra)
    sampled = sample_images(evaluation, available)
    return Wanted(
        protocols=protocols(evaluation),
        extra=extra,
        compare=[(one, other) for one, other in compare if {one, other} <= set(models)],
        drawn=sampled,
        images=np.arange(available) if evaluation.whole else np.sort(sampled),
        evaluation=evaluation,
    )


def protocols(evaluation: ConfigDict) -> list[Protocol]:
    """One for each method of the settings of an evaluation.

    Raises:
      UserError: no such method or option, none at all, or a stage that none of them reads.
    """
    methods = listed(evaluation.methods)
    if not methods or len(set(methods)) < len(methods):
        raise UserError(f"methods='{evaluation.methods}': name at least one, each once")
    for method in methods:
        require_method(method)
    if evaluation.stage != LAST and not any(map(reads_cut, methods)):
        raise UserError(
            f"stage={evaluation.stage} does nothing to {', '.join(methods)}; leave it out"
        )
    options = read_options(evaluation.options, methods)
    return [
        Protocol(
            method,
            evaluation.stage if reads_cut(method) else LAST,
            baseline=evaluation.baseline,
            options=options[method],
        )
        for method in methods
    ]


def sample_images(evaluation: ConfigDict, available: int) -> np.ndarray:
    """[evaluation.images] distinct random indices of a split, in random order.

    Raises:
      UserError: none asked for, or more than there are; a negative seed.
    """
    if evaluation.seed < 0:
        raise UserError(f"the seed that samples the images is 0 or more, not {evaluation.seed}")
    if not 1 <= evaluation.images <= available:
        raise UserError(f"images={evaluation.images}: ask for 1 to {available} images")
    return np.random.default_rng(evaluation.seed).permutation(available)[: evaluation.images]


def require_size(dataset: Dataset) -> None:
    """Check that images are large enough for SSIM.

    Raises:
      UserError: the images are smaller than a window of SSIM.
    """
    height, width = dataset.test.image.shape[1:3]
    if not measures.ssim_fits((height, width)):
        least = WINDOW["gaussian"]
        raise UserError(
            f"images of {height}x{width} pixels cannot be measured: SSIM needs at least "
            f"{least}x{least}"
        )


def require_resamples(evaluation: ConfigDict) -> None:
    """Check how many bootstrap resamples are asked for.

    Raises:
      UserError: there are too few for an interval, or more than memory holds.
    """
    least, most = RESAMPLES
    if not least <= evaluation.resamples <= most:
        raise UserError(
            f"resamples must be at least {least}, as 95 % intervals are read off them, and at most "
            f"{most:,}, not {evaluation.resamples}"
        )


def require_defined(model: Network | External, what: Wanted, dataset: Dataset) -> None:
    """Check that all that is wanted can be computed of a model.

    Raises:
      UserError: a method or measure that is wanted does not suit the model or the data.
    """
    if "grid" in what.extra:
        evaluate.require_mosaics(dataset.test.label)
    require_size(dataset)
    masks = dataset.test.mask is not None
    for protocol in what.protocols:
        if isinstance(model, External):
            require_drawable(model, protocol, masks)
            continue
        drawing.require_defined(model, protocol, masks=masks)
        require_suited(model, protocol, dataset.test.image.shape[1:])


def require_drawable(model: External, protocol: Protocol, masks: bool) -> None:
    """Trace one map of a classifier of one's own, whose parts nothing else tells of.

    Raises:
      UserError: the protocol sets what it does not do, or the method does not suit it.
    """
    some = np.zeros((1, *model.image_shape), np.uint8)
    classifier = classifiers.as_classifier(model, protocol, some)
    image = jax.ShapeDtypeStruct(tuple(model.image_shape), jnp.float32)
    mask = jax.ShapeDtypeStruct(image.shape[:2], bool) if masks else None
    jax.eval_shape(partial(draw_any, protocol, classifier), image, mask)


@lru_cache
def require_suited(network: Network, protocol: Protocol, image_shape: tuple[int, ...]) -> None:
    """Trace one map of a network whose weights need not be there, where that may be refused.

    Raises:
      UserError: the method does not suit it.
    """
    fields = [one for one in OF_SOME if needs(protocol.method, one)]
    if not fields and not by_rules(protocol.method):
        return

    def draw(image: jax.Array) -> jax.Array:
        variables = network.init(jax.random.key(0), image[None])
        classifier = classifiers.of_network(network, variables, protocol)
        if by_rules(protocol.method) or any(not getattr(classifier, one) for one in fields):
            return draw_any(protocol, classifier, image)
        return image

    jax.eval_shape(draw, jax.ShapeDtypeStruct(image_shape, jnp.float32))


def draw_any(
    protocol: Protocol, classifier: Classifier, image: jax.Array, mask: jax.Array | None = None
) -> jax.Array:
    """A map of any class, for what it takes to draw it."""
    key = jax.random.key(0)
    return drawing.draw(protocol, classifier, image, jnp.zeros((), int), mask, key).heatmap
