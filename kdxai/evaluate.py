"""(model, images, protocol) -> one row per image: where explanations and metrics meet."""

import math
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from kdxai import devices, inputs, measures
from kdxai.classifiers import everywhere, own_part, require_obeyed
from kdxai.data import augment
from kdxai.data.stream import Records
from kdxai.drawing import draw, explain, stretched
from kdxai.errors import UserError
from kdxai.explain import Classifier
from kdxai.measures import Subject
from kdxai.metrics import agreement, faithfulness
from kdxai.metrics.finite import require_finite
from kdxai.progress import progress
from kdxai.protocol import Protocol


def _each(row: Callable[..., Any], shared: Any, *entries: Any) -> Any:
    """`row(shared, an entry of each)` for all entries, a share of them on every device."""
    return devices.divide(
        lambda shared, entries: jax.vmap(partial(row, shared))(*entries), shared, entries
    )


def are_probabilities(outputs: Any) -> Any:
    """[..., K] -> [...], whether they could be: none is negative and they sum to 1."""
    return (outputs >= 0).all(-1) & (abs(outputs.sum(-1) - 1) < 1e-3)


def doubts(
    protocol: Protocol, classifier: Classifier, image: jax.Array, outputs: jax.Array, c: jax.Array
) -> dict[str, jax.Array]:
    """What `require_logits` is to judge: each [], of one image and the class explained.

    `probabilities`, whether the outputs could be those; `head`, the cosine between CAM's weights
    for the class and what `classify` makes of each channel's mean, 1 where it fits. Both less the
    mean of all classes, so that a log-softmax at the end changes nothing.
    """
    found = {"probabilities": are_probabilities(outputs)}
    if protocol.method == "cam" and classifier.head is not None and not own_part(classifier):
        features = classifier.features(image)
        centred = lambda f: faithfulness.centred_logit(classifier.classify(f), c)  # noqa: E731
        effect = jax.grad(centred)(features).sum((0, 1))
        weights = classifier.head[:, c] - classifier.head.mean(1)
        norms = jnp.linalg.norm(effect) * jnp.linalg.norm(weights)
        found["head"] = jnp.where(norms > 0, effect @ weights / jnp.where(norms > 0, norms, 1), 1)
    return found


def require_logits(columns: dict[str, np.ndarray], name: str) -> None:
    """Take `doubts` out of the columns of some images.

    Raises:
      UserError: all outputs are probabilities, or CAM's head is another one than the model's.
    """
    if columns.pop("probabilities").all():
        raise UserError(
            f"{name}: the outputs are >= 0 and sum to 1 for every image, as probabilities are; "
            "return logits, the values before the softmax"
        )
    if columns.pop("head", np.ones(1)).min() < 0.99:
        raise UserError(
            f"{name}: head is not what classify applies to the pooled features; it is [c, K], "
            "where some libraries keep [K, c]"
        )


@partial(jax.jit, static_argnames=("protocol", "extra"))
def _rows(
    classifier: Classifier,
    ids: jax.Array,
    images: jax.Array,
    labels: jax.Array,
    masks: jax.Array | None,
    mean: jax.Array,
    std: jax.Array,
    partners: jax.Array | None,
    cascade: Mapping[str, Mapping[str, jax.Array]] | None,
    randomised: Classifier | None,
    protocol: Protocol,
    extra: tuple[str, ...],
    pixels: jax.Array | None = None,
) -> dict[str, jax.Array]:
    def row(
        shared: Any,
        index: jax.Array,
        image: jax.Array,
        label: jax.Array,
        mask: jax.Array | None,
        partners: jax.Array | None,
        cascade: Mapping[str, Mapping[str, jax.Array]] | None,
        pixels: jax.Array | None,
    ) -> dict[str, jax.Array]:
        classifier, randomised, mean, std = shared
        key = jax.random.fold_in(jax.random.key(0), index)
        image = augment.normalise(image, mean, std)
        options = {"mask": mask, "key": key, "mean": mean, "std": std, "pixels": pixels}
        explanation = explain(classifier, image, label, protocol, **options)

        def again(
            classifier: Classifier,
            image: jax.Array,
            class_index: jax.Array,
            mask: jax.Array | None = mask,
        ) -> jax.Array:
            return draw(protocol, classifier, image, class_index, mask, key).heatmap

        subject = Subject(
            protocol=protocol,
            classifier=classifier,
            image=image,
            explanation=explanation,
            draw=again,
            mask=mask,
            key=key,
            mean=mean,
            std=std,
            randomised=randomised,
            partners=None if partners is None else augment.normalise(partners, mean, std),
            cascade=cascade,
        )
        values = measures.core(subject)
        for name in extra:
            values |= measures.EXTRA[name](subject)
        return {
            "label": label,
            "predicted": explanation.logits.argmax(),
            "explained": explanation.class_index,
            **values,
            **doubts(protocol, classifier, image, explanation.logits, explanation.class_index),
            "degenerate": measures.degenerate(explanation.raw),
            "degenerate_masked": measures.degenerate(explanation.raw_masked),
            # A compiled maximum, and so a metric, can lose a NaN of what it was computed from.
            "finite": jnp.array([jnp.isfinite(part).all() for part in explanation]).all(),
        }

    shared = classifier, randomised, mean, std
    return _each(row, shared, ids, images, labels, masks, partners, cascade, pixels)


@partial(jax.jit, static_argnames="protocol")
def _heatmaps(
    classifier: Classifier,
    ids: jax.Array,
    images: jax.Array,
    classes: jax.Array,
    masks: jax.Array | None,
    mean: jax.Array,
    std: jax.Array,
    protocol: Protocol,
) -> jax.Array:
    """[N, H, W] maps in [0, 1] for given classes, drawn as `_rows` draws them."""

    def one(
        shared: Any,
        index: jax.Array,
        image: jax.Array,
        class_index: jax.Array,
        mask: jax.Array | None,
    ) -> jax.Array:
        classifier, mean, std = shared
        key = jax.random.fold_in(jax.random.key(0), index)
        image = augment.normalise(image, mean, std)
        return draw(protocol, classifier, image, class_index, mask, key).heatmap

    return _each(one, (classifier, mean, std), ids, images, classes, masks)


@jax.jit
def _logits(
    classifier: Classifier, images: jax.Array, mean: jax.Array, std: jax.Array
) -> jax.Array:
    """[N, H, W, C] uint8 -> [N, K]."""

    def one(shared: Any, image: jax.Array) -> jax.Array:
        classifier, mean, std = shared
        return classifier(augment.normalise(image, mean, std))

    return _each(one, (classifier, mean, std), images)


def require_mosaics(labels: np.ndarray) -> None:
    """Raises:
    UserError: there are not enough classes with two images for a mosaic of four.
    """
    cells, known = math.prod(measures.GRID), (np.bincount(labels) > 1).sum()
    if known < cells:
        raise UserError(
            f"the measure 'grid' needs {cells} classes of two images or more, not {known}"
        )


def mosaic_partners(
    classifier: Classifier,
    images: np.ndarray | Records,
    labels: np.ndarray,
    protocol: Protocol,
    *,
    mean: ArrayLike,
    std: ArrayLike,
    chunk: int | None = None,
    name: str = "model",
) -> np.ndarray:
    """With which images each image stands in a mosaic, for the measure `grid`.

    Three classes other than the one explained are drawn for each image, and of each an image that
    the model sees as what it is. Boehle et al. 2021 take images that are classified correctly and
    with confidence; here it is the tenth (at least 2) of each class with the highest probability
    of that class, which a bad model has too. The image itself may be any, also a misclassified one.

    Args:
      images, labels: [N, H, W, C] uint8 and [N], a whole split: an image's partners depend on its
        index in it, not on which images are explained.
      mean, std, chunk, name: as for `evaluate`.

    Returns:
      [N, 3] indices of images.

    Raises:
      UserError: fewer than four classes have two images, or as `evaluate`.
    """
    with computing(chunk):
        images, model, mean, std = _admitted(classifier, images, protocol, mean, std)
        labels = inputs.labels(labels, len(images), _classes(model, images))
        require_mosaics(labels)
        chunk = chunk or chunk_size(protocol, (), images.shape[1:3])
        parts = chunks(len(images), chunk, f"{name} mosaics")
        rows = ({"logits": _logits(model, images[part], mean, std)} for part in parts)
        logits = stack(rows, len(images))["logits"]
        require_logits({"probabilities": are_probabilities(logits)}, name)
    explained = logits.argmax(1) if protocol.target == "predicted" else labels
    confidence = np.asarray(jax.nn.log_softmax(logits))[np.arange(len(labels)), labels]
    surest = np.argsort(-confidence, kind="stable")
    candidates = {}
    for c, size in enumerate(np.bincount(labels)):
        if size > 1:  # so that one is left beside the image itself
            candidates[c] = surest[labels[surest] == c][: max(2, size // 10)]

    def draw_partners(i: int) -> list[int]:
        rng = np.random.default_rng(i)
        others = rng.permutation([c for c in candidates if c != explained[i]])
        own = (candidates[c] for c in others[: math.prod(measures.GRID) - 1])
        return [rng.choice(some[some != i]) for some in own]

    return np.array([draw_partners(i) for i in range(len(images))])


IN_FLIGHT = 256 * 32 * 32  # pixels on the device at once, with all perturbed copies
# Copies of an image that a method has in flight, and how many times those a measure has.
COPIES = {
    **dict.fromkeys(("score_cam", "ablation_cam", "occlusion"), 32),
    **dict.fromkeys(("smooth_grad", "var_grad", "integrated_gradients"), 16),
    **dict.fromkeys(("perturbation", "road", "sensitivity"), 10),
    "grid": 4,
}


def chunk_size(protocol: Protocol, extra: Sequence[str], shape: tuple[int, ...]) -> int:
    """Images [H, W] at once, so that `IN_FLIGHT` bounds the memory (at least one)."""
    times = max((COPIES.get(name, 1) for name in extra), default=1)
    copies = COPIES.get(protocol.method, 2) * times
    return max(1, IN_FLIGHT // (copies * math.prod(shape)))


@contextmanager
def computing(chunk: int | None) -> Iterator[None]:
    """Compute on all devices of this host, whatever mesh the caller has set.

    Raises:
      UserError: there is no such chunk, or their memory does not hold one.
    """
    if chunk is not None and (not isinstance(chunk, int | np.integer) or chunk < 1):
        raise UserError(f"chunk is a whole number of images from 1, or None, not {chunk!r}")
    less = "give a chunk" if chunk is None else f"give a smaller chunk than {chunk}"
    advice = f"{less}, smaller images or a method with fewer copies of an image"
    with devices.memory(advice), devices.without_mesh():
        yield


def _admitted(
    classifier: Classifier,
    images: Any,
    protocol: Protocol,
    mean: Any,
    std: Any,
    mosaics: bool = False,
) -> tuple[Any, Classifier, np.ndarray, np.ndarray]:
    """Images, classifier on every device, mean and std, after a check of each.

    Raises:
      UserError: as `inputs`, `as_pytree` and `require_obeyed`.
    """
    images = inputs.images(images)
    shape = images.shape[1:]
    mean, std = inputs.normalisation(mean, std, shape[-1])
    require_obeyed(classifier, protocol)
    if not measures.ssim_fits(shape[:2]):
        warnings.warn(
            f"images of {shape[0]}x{shape[1]} pixels are smaller than SSIM's window, 11x11: its "
            "columns are left out",
            stacklevel=3,
        )
    rows, columns = measures.GRID
    larger = [(rows * shape[0], columns * shape[1], shape[2])] if mosaics else []
    return images, everywhere(classifier, shape, *larger), mean, std


def _classes(classifier: Classifier, images: Any) -> int:
    """K of a classifier of such images."""
    image = jax.ShapeDtypeStruct(images.shape[1:], jnp.float32)
    return jax.eval_shape(lambda image: classifier(image), image).shape[0]


def evaluate(
    classifier: Classifier,
    images: np.ndarray,
    labels: np.ndarray,
    protocol: Protocol,
    *,
    mean: ArrayLike,
    std: ArrayLike,
    masks: np.ndarray | None = None,
    ids: np.ndarray | None = None,
    extra: Sequence[str] = (),
    randomised: Classifier | None = None,
    cascade: Mapping[str, Mapping[str, Classifier]] | None = None,
    partners: np.ndarray | None = None,
    chunk: int | None = None,
    name: str = "model",
) -> pd.DataFrame:
    """Explain and measure every image, on all devices of the host.

    Args:
      classifier: of one normalised image; any JAX model. What it reads is read anew at every call,
        so a model whose weights have changed is measured as it is now; but what the caller's own
        jax.jit or jax.checkpoint closes over stays what it was when that first ran, as everywhere
        in JAX.
      images: [N, H, W, C] uint8.
      labels: [N] true classes.
      mean, std: [C] of the normalisation, in [0, 1].
      masks: [N, H, W] bool ground truth, where there is one.
      ids: [N] numbers that the images' random keys are made of; by default 0 to N - 1.
      extra: names in `measures.EXTRA`, for further columns.
      randomised: the same model with parameters that mean nothing; `randomisation` needs it.
      cascade: direction -> stage -> the same model with all stages up to this one randomised;
        `cascade` needs it.
      partners: [N, 3, H, W, C] uint8 images for a mosaic with each, those of `mosaic_partners`;
        `grid` needs them.
      chunk: images on each device at once, by default as `chunk_size` says; the memory taken does
        not depend on N. Methods and extra measures that repeat forward passes have 10 to 32 times
        as many in flight.
      name: for the progress bar.

    Returns:
      One row per image, in order. Maps that are zero or constant are marked in `degenerate` and
      `degenerate_masked` ("", "zero", "constant"), and their metrics are defined, never NaN.

    Raises:
      UserError: images, labels, masks or normalisation are not what is asked for; no such measure;
        the protocol sets what the classifier does not do; the outputs are not finite, or no logits;
        the memory does not hold a chunk.
    """
    measures.require_known(extra)
    with computing(chunk):
        images, model, mean, std = _admitted(
            classifier, images, protocol, mean, std, mosaics="grid" in extra
        )
        labels = inputs.labels(labels, len(images), _classes(model, images))
        masks = None if masks is None else inputs.masks(masks, images.shape[:3])
        partners = None if partners is None else inputs.partners(partners, images)
        ids = np.arange(len(images)) if ids is None else inputs.ids(ids, len(images))
        others = {"randomised": randomised, "cascade": cascade}
        is_model = lambda part: isinstance(part, Classifier)  # noqa: E731
        others = jax.tree.map(
            lambda one: everywhere(one, images.shape[1:]), others, is_leaf=is_model
        )
        chunk = chunk or chunk_size(protocol, extra, images.shape[1:3])
        beside = jax.tree.leaves(others, is_leaf=is_model)
        rows: list[dict[str, Any]] = []
        for part in chunks(len(images), chunk, name):
            some, truth = images[part], None if masks is None else masks[part]
            for one in beside if not rows else ():
                if own_part(one) is None:
                    outputs = np.asarray(_logits(one, some, mean, std))
                    require_logits({"probabilities": are_probabilities(outputs)}, name)
            maps = None
            if cascade is not None:
                # One program for all stages; a loop within it would make convolutions slow on a
                # CPU.
                classes = labels[part]
                if protocol.target == "predicted":
                    classes = _logits(model, some, mean, std).argmax(1)
                given = ids[part], some, classes, truth, mean, std, protocol
                maps = {
                    direction: {k: _heatmaps(one, *given) for k, one in stages.items()}
                    for direction, stages in others["cascade"].items()
                }
            found = _rows(
                model,
                ids[part],
                some,
                labels[part],
                truth,
                mean,
                std,
                None if partners is None else partners[part],
                maps,
                others["randomised"],
                protocol,
                tuple(extra),
                stretched(some, mean, std) if protocol.masking == "stretch" else None,
            )
            rows.append(jax.device_get(found))
            require_logits(rows[-1], name)
    columns = stack(rows, len(images))
    bad = np.flatnonzero(~columns.pop("finite"))
    if bad.size:
        raise UserError(
            f"{name}: the output for {bad.size} of {len(images)} images is not finite, first for "
            f"image {bad[0]}; the weights or the images are damaged"
        )
    for key, values in columns.items():
        require_finite(f"{name}: {key}", values)
    for key in ("degenerate", "degenerate_masked"):
        columns[key] = np.array(measures.DEGENERATE)[columns[key]]
    return pd.DataFrame(columns)


@partial(jax.jit, static_argnames="protocol")
def _agreements(
    classifiers: tuple[Classifier, Classifier],
    ids: jax.Array,
    images: jax.Array,
    masks: jax.Array | None,
    mean: jax.Array,
    std: jax.Array,
    protocol: Protocol,
) -> tuple[dict[str, jax.Array], list[dict[str, jax.Array]]]:
    """A row for each image, and `doubts` of either model."""

    def row(
        shared: Any, index: jax.Array, image: jax.Array, mask: jax.Array | None
    ) -> tuple[dict[str, jax.Array], list[dict[str, jax.Array]]]:
        classifiers, mean, std = shared
        image = augment.normalise(image, mean, std)
        class_index = classifiers[1](image).argmax()
        # Each model's own random numbers: two random maps agree by chance alone.
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), index))
        maps = [
            draw(protocol, one, image, class_index, mask, key).heatmap
            for one, key in zip(classifiers, keys, strict=True)
        ]
        outputs = [one(image) for one in classifiers]
        same = outputs[0].argmax() == class_index
        judged = [
            doubts(protocol, one, image, found, class_index)
            for one, found in zip(classifiers, outputs, strict=True)
        ]
        return {"same_class": same, **agreement.agreement(*maps)}, judged

    return _each(row, (classifiers, mean, std), ids, images, masks)


def compare(
    one: Classifier,
    other: Classifier,
    images: np.ndarray,
    protocol: Protocol,
    *,
    mean: ArrayLike,
    std: ArrayLike,
    masks: np.ndarray | None = None,
    chunk: int | None = None,
    name: str = "models",
) -> pd.DataFrame:
    """How alike two models explain the same images, for the class that `other` predicts.

    Both maps are put on the image's grid first.

    Returns:
      One row per image: `same_class`, whether both predict it, and `agreement.METRICS`.

    Raises:
      UserError: as `evaluate`, or the models have different classes.
    """
    with computing(chunk):
        images, second, mean, std = _admitted(other, images, protocol, mean, std)
        require_obeyed(one, protocol)
        pair = everywhere(one, images.shape[1:]), second
        classes = [_classes(model, images) for model in pair]
        if len(set(classes)) > 1:
            raise UserError(
                f"{name}: {classes[0]} and {classes[1]} classes; compare models of the same ones"
            )
        masks = None if masks is None else inputs.masks(masks, images.shape[:3])
        chunk = chunk or chunk_size(protocol, (), images.shape[1:3])
        rows = []
        for part in chunks(len(images), chunk, name):
            truth = None if masks is None else masks[part]
            found = _agreements(pair, part, images[part], truth, mean, std, protocol)
            row, judged = jax.device_get(found)
            for columns in judged:
                require_logits(columns, name)
            rows.append(row)
        return pd.DataFrame(stack(rows, len(images)))


def chunks(size: int, chunk: int, name: str) -> Iterator[np.ndarray]:
    """Indices of equal parts of `size` images, `chunk` for each device, with a progress bar.

    The last is filled up with repeats: all parts have one shape, so one compilation serves all.
    """
    count = jax.local_device_count()
    chunk = min(chunk, -(-size // count)) * count
    with progress() as bar:
        task = bar.add_task(name, total=size, note="")
        for start in range(0, size, chunk):
            yield np.arange(start, start + chunk) % size
            bar.update(task, completed=min(start + chunk, size))


def stack(parts: Iterable[dict[str, jax.Array]], size: int) -> dict[str, np.ndarray]:
    """Join the results of `chunks` on the host and cut off the repeats."""
    rows = list(devices.fetch(parts))
    return {key: np.concatenate([part[key] for part in rows])[:size] for key in rows[0]}


class _Callable(ModuleType):
    """`kdxai.evaluate(...)` is `kdxai.evaluate.evaluate(...)`, whichever way it was imported."""

    def __call__(self, *arguments: Any, **options: Any) -> pd.DataFrame:
        return evaluate(*arguments, **options)


sys.modules[__name__].__class__ = _Callable
