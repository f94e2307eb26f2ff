"""What is measured of one explained image: arrays in, named numbers out."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from kdxai.errors import UserError
from kdxai.explain import Classifier
from kdxai.metrics import (
    adcc,
    baselines,
    coherency,
    complexity,
    faithfulness,
    localisation,
    perturbation,
    randomisation,
    road,
    robustness,
)
from kdxai.protocol import Protocol

GRID = (2, 2)  # of the mosaics of the grid pointing game


class Explanation(NamedTuple):
    """One image, explained before and after masking.

    Attributes:
      class_index: [] the class explained, c.
      raw: [h, w] the method's map on its own grid.
      native: [h, w] the same, scaled to [0, 1].
      heatmap: [H, W] M, `native` on the image's grid.
      masked: [H, W, C] E = z * M, the normalised image under its map.
      raw_masked, heatmap_masked: of E, for the same class.
      logits, logits_masked: [K] of the image and of E.
    """

    class_index: jax.Array
    raw: jax.Array
    native: jax.Array
    heatmap: jax.Array
    masked: jax.Array
    raw_masked: jax.Array
    heatmap_masked: jax.Array
    logits: jax.Array
    logits_masked: jax.Array


class Subject(NamedTuple):
    """What a measure may use.

    Attributes:
      protocol: by which it was explained.
      classifier: that was explained; its parameters are its leaves.
      image: [H, W, C] normalised.
      explanation: of the image.
      draw: (classifier, image, class_index, mask=own) -> map in [0, 1] on the grid of `image`, as
        the explanation's was.
      mask: [H, W] bool, where the object truly is, or None.
      key: the image's own random key.
      mean, std: [C] of the normalisation.
      randomised: the same model with parameters that mean nothing, or None.
      partners: [3, H, W, C] normalised images of other classes, or None.
      cascade: direction -> stage -> [H, W] map of the model with all stages up to this one
        randomised, or None.
    """

    protocol: Protocol
    classifier: Classifier
    image: jax.Array
    explanation: Explanation
    draw: Callable[..., jax.Array]
    mask: jax.Array | None
    key: jax.Array
    mean: jax.Array
    std: jax.Array
    randomised: Classifier | None
    partners: jax.Array | None
    cascade: Mapping[str, Mapping[str, jax.Array]] | None

    def probability(self, image: jax.Array) -> jax.Array:
        """[] softmax probability of the class explained."""
        return jax.nn.softmax(self.classifier(image))[self.explanation.class_index]


Values = dict[str, jax.Array]


def score(protocol: Protocol, logits: jax.Array, class_index: jax.Array) -> jax.Array:
    """[K] logits -> [] what the protocol's drop is a drop of."""
    if protocol.score == "largest_logit":
        return logits.max()
    return jax.nn.softmax(logits)[class_index]


def similarity(protocol: Protocol, a: jax.Array, b: jax.Array) -> jax.Array:
    """[] SSIM of two maps [H, W] in [0, 1] by the protocol's window."""
    if protocol.ssim == "uniform":
        return coherency.ssim(a, b, data_range=jnp.ptp(b), window="uniform", sample_covariance=True)
    return coherency.ssim(a, b)


def ssim_fits(shape: tuple[int, ...], window: str = "gaussian") -> bool:
    """Whether maps [H, W] hold SSIM's window; of smaller ones its columns are missing."""
    return min(shape) >= coherency.WINDOW[window]


def core(subject: Subject) -> Values:
    """All that costs no further forward pass; without `ssim` where it does not fit."""
    e, protocol = subject.explanation, subject.protocol
    logits = e.logits, e.logits_masked
    before, after = (score(protocol, z, e.class_index) for z in logits)
    of_class = {k: f(*logits, e.class_index) for k, f in faithfulness.METRICS.items()}
    if protocol.score == "largest_logit":
        of_class["average_drop"] = faithfulness.relative_drop(before, after)
        of_class["increase"] = faithfulness.rose(before, after)
    pearson = coherency.pearson(e.heatmap, e.heatmap_masked)
    alike = {}
    if ssim_fits(e.heatmap.shape, protocol.ssim) or protocol.similarity == "ssim":
        alike["ssim"] = similarity(protocol, e.heatmap, e.heatmap_masked)
    coherent = coherency.coherency(pearson)
    if protocol.similarity == "ssim":
        coherent = alike["ssim"]
    if protocol.complexity == "matrix_1_norm":
        area = complexity.matrix_1_norm(e.native)
    else:
        area = complexity.l1(e.heatmap)
    values = {
        "score": before,
        "score_masked": after,
        "confidence": jax.nn.softmax(e.logits).max(),
        **of_class,
        "pearson": pearson,
        "coherency": coherent,
        **alike,
        "spearman": coherency.spearman(e.heatmap, e.heatmap_masked),
        "complexity": area,
        "complexity_native": complexity.l1(e.native),
        "entropy": complexity.entropy(e.heatmap),
        "gini": complexity.gini(e.heatmap),
        "effective_area": complexity.effective_area(e.heatmap),
        "adcc": adcc.adcc(coherent, area, of_class["average_drop"]),
    }
    if subject.mask is not None:
        values |= {
            "energy_inside": localisation.energy_pointing_game(e.heatmap, subject.mask),
            "pointing_game": localisation.pointing_game(e.heatmap, subject.mask),
            "iou": localisation.iou(e.heatmap, subject.mask),
            "mask_area": localisation.area(subject.mask),
        }
    return values


def by_perturbation(subject: Subject) -> Values:
    """Deletion, insertion and their kin against the protocol's baseline: 40 forward passes."""
    known: dict[str, Callable[[jax.Array], jax.Array]] = {
        "blur": baselines.blur,
        "mean": baselines.mean,
        "black": partial(baselines.black, mean=subject.mean, std=subject.std),
    }
    baseline = known[subject.protocol.baseline](subject.image)
    fill = perturbation.replace(subject.image, baseline)
    curves = perturbation.curves(subject.probability, subject.explanation.heatmap, fill)
    return {name: metric(curves) for name, metric in perturbation.METRICS.items()}


def by_road(subject: Subject) -> Values:
    """ROAD, least minus most relevant first, with noisy linear imputation: 40 forward passes."""
    # The paper's noise is for images in [0, 1].
    fill = road.fill(subject.image, jax.random.fold_in(subject.key, 1), noise=0.01 / subject.std)
    curves = perturbation.curves(subject.probability, subject.explanation.heatmap, fill)
    return {"road": perturbation.symmetric_relevance_gain(curves)}


def by_noise(subject: Subject) -> Values:
    """Max- and average-sensitivity: 10 further maps."""
    draw = lambda image: subject.draw(  # noqa: E731
        subject.classifier, image, subject.explanation.class_index
    )
    sensitivity = robustness.sensitivity(draw, subject.image, jax.random.fold_in(subject.key, 2))
    return {"max_sensitivity": sensitivity.maximum, "average_sensitivity": sensitivity.average}


def by_randomisation(subject: Subject) -> Values:
    """What is left of the map with other parameters, and for another class: 2 further maps."""
    e = subject.explanation
    if subject.randomised is None:
        raise UserError("the measure 'randomisation' needs a classifier of randomised parameters")
    draw = lambda classifier, image: subject.draw(classifier, image, e.class_index)  # noqa: E731
    return {
        "randomised_similarity": coherency.spearman(
            e.heatmap, draw(subject.randomised, subject.image)
        ),
        "randomised_entropy_rise": randomisation.efficient_parameter_randomisation(
            draw, subject.classifier, subject.randomised, subject.image
        ),
        "other_class_similarity": randomisation.random_logit(
            lambda c: subject.draw(subject.classifier, subject.image, c),
            e.class_index,
            len(e.logits),
            jax.random.fold_in(subject.key, 3),
        ),
    }


def by_cascade(subject: Subject) -> Values:
    """What is left of the map while stage after stage is randomised: a further map per stage.

    Adebayo et al. 2018. Spearman and SSIM with the original map after each stage, and their means
    over the cascade.
    """
    if subject.cascade is None:
        raise UserError("the measure 'cascade' needs classifiers with randomised stages")
    values = {}
    for direction, stages in subject.cascade.items():
        maps = jnp.stack(list(stages.values()))
        kinds = {"": coherency.spearman}
        if ssim_fits(subject.explanation.heatmap.shape):
            kinds["_ssim"] = coherency.ssim
        for suffix, alike in kinds.items():
            name = f"cascade_{direction}{suffix}"
            curve = jax.vmap(alike, (None, 0))(subject.explanation.heatmap, maps)
            values[name] = curve.mean()
            values |= {f"{name}_{stage}": curve[i] for i, stage in enumerate(stages)}
    return values


def by_grid(subject: Subject) -> Values:
    """Grid pointing game in a mosaic with three partners: a map of four times the size.

    The model must take images of any size, as one does that is convolutional up to its pooling.
    """
    if subject.partners is None:
        raise UserError("the measure 'grid' needs partners of every image; see mosaic_partners")
    cell = jax.random.randint(jax.random.fold_in(subject.key, 4), (), 0, GRID[0] * GRID[1])

    def tile(own: jax.Array, others: jax.Array) -> jax.Array:
        return localisation.mosaic(jnp.roll(jnp.stack([own, *others]), cell, axis=0), GRID)

    mask = subject.mask
    if mask is not None:  # the truth of a mosaic is the truth of its one cell
        mask = tile(mask[..., None], jnp.zeros((len(subject.partners), *mask.shape, 1)))[..., 0]
    heatmap = subject.draw(
        subject.classifier,
        tile(subject.image, subject.partners),
        subject.explanation.class_index,
        mask=mask,
    )
    return {"grid_pointing_game": localisation.grid_pointing_game(heatmap, cell, GRID)}


# Measures that cost further forward passes, by the name that a config asks for them.
EXTRA: dict[str, Callable[[Subject], Values]] = {
    "perturbation": by_perturbation,
    "road": by_road,
    "sensitivity": by_noise,
    "randomisation": by_randomisation,
    "cascade": by_cascade,
    "grid": by_grid,
}


def require_known(names: Sequence[str]) -> None:
    """Raises:
    UserError: a name is none of `EXTRA`.
    """
    for name in names:
        if name not in EXTRA:
            raise UserError(f"there is no measure '{name}'; known: {', '.join(EXTRA)}")


def degenerate(raw: jax.Array) -> jax.Array:
    """0 for a proper map, 1 for one that is zero everywhere, 2 for another constant."""
    constant = raw.max() == raw.min()
    return jnp.where(constant, jnp.where(raw.max() == 0, 1, 2), 0)


DEGENERATE = ("", "zero", "constant")
