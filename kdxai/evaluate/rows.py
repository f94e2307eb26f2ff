"""One row per image: explained, masked, and measured."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from kdxai import inputs, measures
from kdxai.data import augment
from kdxai.drawing import draw, explain_image, stretched
from kdxai.errors import UserError
from kdxai.evaluate.admission import Admitted, admit, doubts, logits_of, require_logits
from kdxai.evaluate.chunks import chunk_size, chunks, computing, each, stack
from kdxai.evaluate.preparation import admit_prepared, is_classifier, require_logits_of_all
from kdxai.explain import Classifier
from kdxai.measures import MEASURES, Subject
from kdxai.measures.measure import SMOOTHING
from kdxai.metrics.finite import require_finite
from kdxai.metrics.randomisation import smoothed
from kdxai.protocol import Protocol


class Entry(NamedTuple):
    """What is known of one image, or of many behind a first axis.

    Attributes:
      number: [] that its random key is made of.
      image: [H, W, C] uint8.
      label: [] its true class.
      mask: [H, W] bool ground truth, or None.
      prepared: measure -> its share of what was prepared; see `measures.Preparation`.
      pixels: [H, W, C] of `drawing.stretched`, or None.
    """

    number: Any
    image: Any
    label: Any
    mask: Any = None
    prepared: Any = None
    pixels: Any = None

    def take(self, part: Any) -> "Entry":
        """Some of many."""
        return jax.tree.map(lambda values: values[part], self)

    @property
    def key(self) -> jax.Array:
        return jax.random.fold_in(jax.random.key(0), self.number)


@partial(jax.jit, static_argnames=("protocol", "extra", "maps"))
def measured_rows(
    classifier: Classifier,
    entries: Entry,
    normalisation: tuple[ArrayLike, ArrayLike],
    protocol: Protocol,
    extra: tuple[str, ...],
    maps: bool = False,
) -> dict[str, jax.Array]:
    """The columns of some images, with `doubts` of each; and `maps` [N, h, w] where asked."""

    def row(shared: Any, entry: Entry) -> dict[str, jax.Array]:
        classifier, (mean, std) = shared
        subject = subject_of(classifier, entry, mean, std, protocol)
        e = subject.explanation
        values: dict[str, jax.Array] = {}
        for name, measure in measures.asked(extra).items():
            values |= measure(subject._replace(prepared=entry_prepared(entry, name, mean, std)))
        return {
            "label": entry.label,
            "predicted": e.logits.argmax(),
            "explained": e.class_index,
            **measures.answer(subject),
            **values,
            **doubts(protocol, classifier, subject.image, e.logits, e.class_index),
            "degenerate": measures.degenerate(e.raw),
            "degenerate_masked": measures.degenerate(e.raw_masked),
            # A compiled maximum, and so a metric, can lose a NaN of what it was computed from.
            "finite": jnp.array([jnp.isfinite(part).all() for part in e]).all(),
            **({"maps": e.native} if maps else {}),
        }

    return each(row, (classifier, normalisation), entries)


def subject_of(
    classifier: Classifier, entry: Entry, mean: jax.Array, std: jax.Array, protocol: Protocol
) -> Subject:
    """One image as measures see it, but for what each has prepared."""
    key = entry.key
    image = augment.normalise(entry.image, mean, std)

    def again(
        classifier: Classifier,
        image: jax.Array,
        class_index: jax.Array,
        mask: jax.Array | None = entry.mask,
    ) -> jax.Array:
        return draw(protocol, classifier, image, class_index, mask, key).heatmap

    options = {"mask": entry.mask, "key": key, "mean": mean, "std": std, "pixels": entry.pixels}
    explanation = explain_image(classifier, image, entry.label, protocol, **options)
    return Subject(
        protocol=protocol,
        classifier=classifier,
        image=image,
        explanation=explanation,
        draw=again,
        mask=entry.mask,
        key=key,
        mean=mean,
        std=std,
    )


def entry_prepared(entry: Entry, measure: str, mean: jax.Array, std: jax.Array) -> Any:
    """What a measure has prepared for one image: maps as they are, images normalised."""

    def ready(part: jax.Array) -> jax.Array:
        return augment.normalise(part, mean, std) if part.dtype == jnp.uint8 else part

    return jax.tree.map(ready, (entry.prepared or {}).get(measure))


@partial(jax.jit, static_argnames=("protocol", "copies"))
def drawn_maps(
    classifier: Classifier,
    entries: Entry,
    normalisation: tuple[ArrayLike, ArrayLike],
    protocol: Protocol,
    copies: int = 0,
) -> jax.Array:
    """[N, H, W] maps in [0, 1] for the class `label`, drawn as those of `measured_rows`.

    Args:
      copies: see `measures.Preparation`.
    """

    def one(shared: Any, entry: Entry) -> jax.Array:
        classifier, normalisation = shared
        image = augment.normalise(entry.image, *normalisation)

        def heatmap(classifier: Classifier, image: jax.Array) -> jax.Array:
            return draw(protocol, classifier, image, entry.label, entry.mask, entry.key).heatmap

        if not copies:
            return heatmap(classifier, image)
        noise = jax.random.fold_in(entry.key, SMOOTHING)
        return smoothed(heatmap, noise, samples=copies)(classifier, image)

    return each(one, (classifier, normalisation), entries)


def with_prepared(
    given: Admitted, some: Entry, part: np.ndarray, prepared: dict[str, Any], protocol: Protocol
) -> Entry:
    """Some entries, each with its share of what was prepared.

    One program draws the maps of all prepared classifiers; a loop within it would make convolutions
    slow on a CPU.
    """
    known = jax.tree.leaves(prepared, is_leaf=is_classifier)
    shown = some
    if protocol.target == "predicted" and any(map(is_classifier, known)):
        logits = logits_of(given.classifier, some.image, given.normalisation)
        shown = some._replace(label=logits.argmax(1))

    def share(copies: int, one: Any) -> Any:
        if is_classifier(one):
            return drawn_maps(one, shown, given.normalisation, protocol, copies)
        return one[part]

    def shares(name: str, tree: Any) -> Any:
        preparation = MEASURES[name].preparation
        copies = preparation.copies if preparation else 0
        return jax.tree.map(partial(share, copies), tree, is_leaf=is_classifier)

    return some._replace(prepared={name: shares(name, tree) for name, tree in prepared.items()})


def evaluate(
    classifier: Classifier,
    images: Any,
    labels: np.ndarray,
    protocol: Protocol,
    *,
    mean: ArrayLike,
    std: ArrayLike,
    masks: np.ndarray | None = None,
    ids: np.ndarray | None = None,
    extra: Sequence[str] = (),
    prepared: Mapping[str, Any] | None = None,
    maps: bool = False,
    chunk: int | None = None,
    name: str = "model",
) -> pd.DataFrame | Any:
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
      extra: names in `measures.MEASURES`, for columns beyond those that cost nothing.
      prepared: measure -> what it needs, as `prepare` returns it. By hand: `randomisation` a
        classifier with parameters that mean nothing; `cascade` {"top_down" or "bottom_up": {stage:
        the model with all stages up to this one randomised}}; `grid` uint8 [N, 3, H, W, C], the
        images at `mosaic_partners`.
      maps: also return what was drawn.
      chunk: images on each device at once, by default as `chunk_size` says; the memory taken does
        not depend on N. Methods and measures that repeat forward passes have 10 to 32 times as many
        in flight.
      name: for the progress bar.

    Returns:
      One row per image, in order. Maps that are zero or constant are marked in `degenerate` and
      `degenerate_masked` ("", "zero", "constant"), and their metrics are defined, never NaN.
      With `maps`, (rows, [N, h, w] float32): the maps in [0, 1] too, on the method's own grid.

    Raises:
      UserError: images, labels, masks or normalisation are not what is asked for; no such measure,
        or it lacks what it needs; the protocol sets what the classifier does not do; the outputs
        are not finite, or no logits; the memory does not hold a chunk.
    """
    measures.require_known(extra)
    with computing(chunk):
        tiles = [MEASURES[one].tiles for one in extra]
        given = admit(classifier, images, protocol, mean, std, tiles)
        images, size = given.images, len(given.images)
        beside = admit_prepared(dict(prepared or {}), extra, given)
        entries = Entry(
            number=np.arange(size) if ids is None else inputs.ids(ids, size),
            image=images,
            label=inputs.labels(labels, size, given.classes),
            mask=None if masks is None else inputs.masks(masks, images.shape[:3]),
        )
        chunk = chunk or chunk_size(protocol, extra, images.shape[1:3])
        rows: list[dict[str, Any]] = []
        for part in chunks(size, chunk, name):
            some = entries.take(part)
            if not rows:
                require_logits_of_all(beside, some.image, given, name)
            some = with_prepared(given, some, part, beside, protocol)
            if protocol.masking == "stretch":
                some = some._replace(pixels=stretched(some.image, *given.normalisation))
            found = measured_rows(
                given.classifier, some, given.normalisation, protocol, tuple(extra), maps
            )
            rows.append(jax.device_get(found))
            require_logits(rows[-1], name)
    columns = stack(rows, size)
    if maps:
        shown = columns.pop("maps")
        return as_table(columns, name), shown
    return as_table(columns, name)


def as_table(columns: dict[str, np.ndarray], name: str) -> pd.DataFrame:
    """Rows of all images.

    Raises:
      UserError: an output or a value is not finite.
    """
    bad = np.flatnonzero(~columns.pop("finite"))
    if bad.size:
        size = len(columns["label"])
        raise UserError(
            f"{name}: the output for {bad.size} of {size} images is not finite, first for "
            f"image {bad[0]}; the weights or the images are damaged"
        )
    for key, values in columns.items():
        require_finite(f"{name}: {key}", values)
    for key in ("degenerate", "degenerate_masked"):
        columns[key] = np.array(measures.DEGENERATE)[columns[key]]
    return pd.DataFrame(columns)
