"""(model, images, protocol) -> one row per image: where explanations and metrics meet."""

import inspect
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jax.tree_util import Partial

from kdxai import explain as explanations
from kdxai import measures
from kdxai.data import augment
from kdxai.errors import UserError
from kdxai.explain import Classifier
from kdxai.explain.maps import min_max, resize
from kdxai.measures import Explanation, Subject
from kdxai.metrics import agreement
from kdxai.metrics.finite import require_finite
from kdxai.models import LAST, Network
from kdxai.progress import progress
from kdxai.protocol import SOUND, TRUTH, Protocol
from kdxai.training import devices

if TYPE_CHECKING:
    from kdxai.training.runs import TrainedModel


def as_classifier(trained: "TrainedModel", protocol: Protocol = SOUND) -> Classifier:
    """A kdxai model as a classifier of one normalised image, cut and run as a protocol says.

    A pytree: the parameters are leaves, so it can be an argument of a jitted function.

    Raises:
      UserError: the model has no such stage.
    """
    from kdxai.training import runs  # a model from elsewhere needs nothing of what this imports

    variables, classes = trained.variables, trained.model.num_classes
    identity = f"{trained.config.model.to_json()} {classes}"
    half = partial(_Part, identity, stage=protocol.stage, mode=protocol.mode)
    guided = runs.create_model(trained.config, classes, activation=explanations.guided_relu)
    # The head reads the last feature map alone: elsewhere CAM is not defined.
    own_head = trained.model.cut(protocol.stage) == len(trained.model.units)
    own_head = own_head or protocol.foreign_head
    return Classifier(
        features=Partial(half(method="features", model=trained.model), variables),
        classify=Partial(half(method="classify", model=trained.model), variables),
        head=variables["params"]["head"]["kernel"] if own_head else None,
        guided=Partial(_Part(identity, "guided", LAST, "evaluation", guided), variables),
    )


@dataclass(frozen=True)
class _Part:
    """A model or a half of it, as a function of its variables and one image or feature map.

    Two parts of the same architecture are equal, so that a student and its control share what
    `jax.jit` has compiled.
    """

    identity: str
    method: str
    stage: str
    mode: str
    model: Network = field(compare=False)

    def __call__(self, variables: Any, values: jax.Array) -> jax.Array:
        options = {}
        if self.method != "guided":
            options = {"method": self.method, "stage": self.stage}
        if self.mode == "evaluation":
            return self.model.apply(variables, values[None], **options)[0].astype(jnp.float32)
        # Every forward pass draws its own dropout; the input's bits stand in for a key.
        bits = jax.lax.bitcast_convert_type(values.astype(jnp.float32).sum(), jnp.uint32)
        rngs = {"dropout": jax.random.fold_in(jax.random.key(0), bits)}
        output, _ = self.model.apply(
            variables, values[None], train=True, mutable=["batch_stats"], rngs=rngs, **options
        )
        return output[0].astype(jnp.float32)


def as_pytree(classifier: Classifier) -> Classifier:
    """Functions become pytrees, so that `jax.jit` takes the classifier as an argument."""
    wrap = lambda f: Partial(f) if callable(f) and not isinstance(f, Partial) else f  # noqa: E731
    return Classifier(*map(wrap, classifier))


def everywhere(classifier: Classifier) -> Classifier:
    """`as_pytree`, with the parameters on every device of the host."""
    return devices.replicate(as_pytree(classifier))


def _each(row: Callable[..., Any], shared: Any, *entries: Any) -> Any:
    """`row(shared, an entry of each)` for all entries, a share of them on every device."""
    return devices.divide(
        lambda shared, entries: jax.vmap(partial(row, shared))(*entries), shared, entries
    )


class Drawn(NamedTuple):
    """A map of one image.

    Attributes:
      raw: [h, w] on the method's own grid.
      native: [h, w] the same, scaled to [0, 1].
      heatmap: [H, W] `native` on the image's grid.
    """

    raw: jax.Array
    native: jax.Array
    heatmap: jax.Array


def draw(
    protocol: Protocol,
    classifier: Classifier,
    image: jax.Array,
    class_index: jax.Array,
    mask: jax.Array | None = None,
    key: jax.Array | None = None,
) -> Drawn:
    """The protocol's map of one normalised image [H, W, C] for one class.

    Args:
      mask: [H, W] ground truth; the protocol's method may ask for it.
      key: of a method that draws random numbers.

    Raises:
      UserError: the method is the mask and there is none, or it does not suit the model.
    """
    require_truth(protocol, mask is not None)
    if protocol.method == TRUTH:
        raw = mask.astype(jnp.float32)
    else:
        method = explanations.METHODS[protocol.method]
        known = inspect.signature(method).parameters
        choices = {"key": key, "relu": protocol.relu}
        choices = {name: value for name, value in choices.items() if name in known}
        raw = method(classifier, image, class_index, **choices)
    native = min_max(raw)
    return Drawn(raw, native, resize(native, image.shape[:2]))


def require_truth(protocol: Protocol, masks: bool) -> None:
    """Raises:
    UserError: the protocol's method is the mask and there are none.
    """
    if protocol.method == TRUTH and not masks:
        raise UserError(f"the method '{TRUTH}' needs a data set with masks, such as shapes")


def require_defined(model: Network, protocol: Protocol, masks: bool) -> None:
    """What a protocol asks of a model, before any time is spent on it.

    Raises:
      UserError: there is no such stage, no linear head for CAM at it, or no ground truth.
    """
    at_end = model.cut(protocol.stage) == len(model.units)
    if protocol.method == "cam" and not (at_end or protocol.foreign_head):
        raise UserError(
            f"CAM needs the feature map that a linear head pools; at stage '{protocol.stage}' use "
            "grad_cam or layer_cam"
        )
    require_truth(protocol, masks)


def mask_image(
    protocol: Protocol,
    image: jax.Array,
    heatmap: jax.Array,
    mean: Sequence[float] | float,
    std: Sequence[float] | float,
) -> jax.Array:
    """E: the normalised image [H, W, C] under a map [H, W] in [0, 1]."""
    if protocol.masking == "multiply":
        return image * heatmap[..., None]
    # A whole number, as of an image's largest value, is cut to itself, however it was rounded.
    pixels = jnp.floor(255 * min_max(image) + 1e-3)
    return (min_max(pixels * heatmap[..., None]) - jnp.asarray(mean)) / jnp.asarray(std)


def explain(
    classifier: Classifier,
    image: jax.Array,
    label: jax.Array,
    protocol: Protocol,
    *,
    mask: jax.Array | None = None,
    key: jax.Array | None = None,
    mean: Sequence[float] | float = 0.0,
    std: Sequence[float] | float = 1.0,
) -> Explanation:
    """Draw the map of one normalised image [H, W, C], mask the image with it, draw it again.

    Args:
      mask, key: as for `draw`.
      mean, std: of the normalisation; only masking by `stretch` asks for them.
    """
    logits = classifier(image)
    class_index = logits.argmax() if protocol.target == "predicted" else label
    before = draw(protocol, classifier, image, class_index, mask, key)
    masked = mask_image(protocol, image, before.heatmap, mean, std)
    after = draw(protocol, classifier, masked, class_index, mask, key)
    return Explanation(
        class_index=class_index,
        raw=before.raw,
        native=before.native,
        heatmap=before.heatmap,
        masked=masked,
        raw_masked=after.raw,
        heatmap_masked=after.heatmap,
        logits=logits,
        logits_masked=classifier(masked),
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
) -> dict[str, jax.Array]:
    def row(
        shared: Any,
        index: jax.Array,
        image: jax.Array,
        label: jax.Array,
        mask: jax.Array | None,
        partners: jax.Array | None,
        cascade: Mapping[str, Mapping[str, jax.Array]] | None,
    ) -> dict[str, jax.Array]:
        classifier, randomised, mean, std = shared
        key = jax.random.fold_in(jax.random.key(0), index)
        image = augment.normalise(image, mean, std)
        explanation = explain(
            classifier, image, label, protocol, mean=mean, std=std, mask=mask, key=key
        )

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
            "degenerate": measures.degenerate(explanation.raw),
            "degenerate_masked": measures.degenerate(explanation.raw_masked),
            # A compiled maximum, and so a metric, can lose a NaN of what it was computed from.
            "finite": jnp.array([jnp.isfinite(part).all() for part in explanation]).all(),
        }

    shared = classifier, randomised, mean, std
    return _each(row, shared, ids, images, labels, masks, partners, cascade)


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
    images: np.ndarray,
    labels: np.ndarray,
    protocol: Protocol,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    chunk: int = 128,
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
      chunk: images on each device at once.

    Returns:
      [N, 3] indices of images.

    Raises:
      UserError: fewer than four classes have two images.
    """
    require_mosaics(labels)
    classifier, mean, std = everywhere(classifier), np.float32(mean), np.float32(std)
    parts = chunks(len(images), chunk, f"{name} mosaics")
    rows = ({"logits": _logits(classifier, images[part], mean, std)} for part in parts)
    logits = stack(rows, len(images))["logits"]
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


def evaluate(
    classifier: Classifier,
    images: np.ndarray,
    labels: np.ndarray,
    protocol: Protocol,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    masks: np.ndarray | None = None,
    ids: np.ndarray | None = None,
    extra: Sequence[str] = (),
    randomised: Classifier | None = None,
    cascade: Mapping[str, Mapping[str, Classifier]] | None = None,
    partners: np.ndarray | None = None,
    chunk: int = 128,
    name: str = "model",
) -> pd.DataFrame:
    """Explain and measure every image, on all devices of the host.

    Args:
      classifier: of one normalised image; any JAX model.
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
      chunk: images on each device at once; the memory taken does not depend on N. Methods and extra
        measures that repeat forward passes have 10 to 32 times as many in flight.
      name: for the progress bar.

    Returns:
      One row per image, in order. Maps that are zero or constant are marked in `degenerate` and
      `degenerate_masked` ("", "zero", "constant"), and their metrics are defined, never NaN.

    Raises:
      UserError: there are no images, no such measure, or the model's output is not finite.
    """
    if not len(images):
        raise UserError("no images to evaluate; ask for at least 1")
    measures.require_known(extra)
    ids = np.arange(len(images)) if ids is None else ids
    mean, std = np.float32(mean), np.float32(std)
    classifier = everywhere(classifier)
    randomised = None if randomised is None else everywhere(randomised)
    if cascade is not None:
        is_model = lambda part: isinstance(part, Classifier)  # noqa: E731
        cascade = jax.tree.map(everywhere, cascade, is_leaf=is_model)
    rows = []
    for part in chunks(len(images), chunk, name):
        truth = None if masks is None else masks[part]
        maps = None
        if cascade is not None:
            # One program for all stages; a loop within it would make convolutions slow on a CPU.
            classes = labels[part]
            if protocol.target == "predicted":
                classes = _logits(classifier, images[part], mean, std).argmax(1)
            given = ids[part], images[part], classes, truth, mean, std, protocol
            maps = {
                direction: {k: _heatmaps(one, *given) for k, one in stages.items()}
                for direction, stages in cascade.items()
            }
        found = _rows(
            classifier,
            ids[part],
            images[part],
            labels[part],
            truth,
            mean,
            std,
            None if partners is None else partners[part],
            maps,
            randomised,
            protocol,
            tuple(extra),
        )
        rows.append(jax.device_get(found))
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
) -> dict[str, jax.Array]:
    def row(
        shared: Any, index: jax.Array, image: jax.Array, mask: jax.Array | None
    ) -> dict[str, jax.Array]:
        classifiers, mean, std = shared
        image = augment.normalise(image, mean, std)
        class_index = classifiers[1](image).argmax()
        # Each model's own random numbers: two random maps agree by chance alone.
        keys = jax.random.split(jax.random.fold_in(jax.random.key(0), index))
        maps = [
            draw(protocol, one, image, class_index, mask, key).heatmap
            for one, key in zip(classifiers, keys, strict=True)
        ]
        same = classifiers[0](image).argmax() == class_index
        return {"same_class": same, **agreement.agreement(*maps)}

    return _each(row, (classifiers, mean, std), ids, images, masks)


def compare(
    one: Classifier,
    other: Classifier,
    images: np.ndarray,
    protocol: Protocol,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    masks: np.ndarray | None = None,
    chunk: int = 128,
    name: str = "models",
) -> pd.DataFrame:
    """How alike two models explain the same images, for the class that `other` predicts.

    Both maps are put on the image's grid first.

    Returns:
      One row per image: `same_class`, whether both predict it, and `agreement.METRICS`.
    """
    pair = everywhere(one), everywhere(other)
    mean, std = np.float32(mean), np.float32(std)
    rows = (
        _agreements(
            pair, part, images[part], None if masks is None else masks[part], mean, std, protocol
        )
        for part in chunks(len(images), chunk, name)
    )
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
