"""All that costs no further forward pass: it is always measured."""

from functools import partial

import jax
import jax.numpy as jnp

from kdxai.drawing import Explanation
from kdxai.measures.measure import Column, Measure, Subject, Values
from kdxai.metrics import adcc, coherency, complexity, faithfulness, localisation
from kdxai.protocol import Protocol

READ = ("score", "similarity", "ssim", "complexity")  # of a protocol


def score(protocol: Protocol, logits: jax.Array, class_index: jax.Array) -> jax.Array:
    """[K] logits -> [] what the protocol's drop is a drop of."""
    if protocol.score == "largest_logit":
        return logits.max()
    return jax.nn.softmax(logits)[class_index]


def scores(e: Explanation, protocol: Protocol) -> tuple[jax.Array, jax.Array]:
    """The `score` of the image and of the masked one."""
    before, after = (
        score(protocol, logits, e.class_index) for logits in (e.logits, e.logits_masked)
    )
    return before, after


def similarity(protocol: Protocol, a: jax.Array, b: jax.Array) -> jax.Array:
    """[] SSIM of two maps [H, W] in [0, 1] by the protocol's window."""
    if protocol.ssim == "uniform":
        return coherency.ssim(a, b, data_range=jnp.ptp(b), window="uniform", sample_covariance=True)
    return coherency.ssim(a, b)


def ssim_fits(shape: tuple[int, ...], window: str = "gaussian") -> bool:
    """Whether maps [H, W] hold SSIM's window; of smaller ones its columns are missing."""
    return min(shape) >= coherency.WINDOW[window]


def of_drop(e: Explanation, protocol: Protocol) -> Values:
    """What masking does to the answer."""
    logits = e.logits, e.logits_masked
    values = {name: f(*logits, e.class_index) for name, f in faithfulness.METRICS.items()}
    if protocol.score == "largest_logit":
        before, after = scores(e, protocol)
        values["average_drop"] = faithfulness.relative_drop(before, after)
        values["increase"] = faithfulness.rose(before, after)
    return values


def of_coherency(e: Explanation, protocol: Protocol) -> Values:
    """How alike the maps before and after masking are; without `ssim` where it does not fit."""
    pearson = coherency.pearson(e.heatmap, e.heatmap_masked)
    values = {"pearson": pearson, "coherency": coherency.coherency(pearson)}
    if ssim_fits(e.heatmap.shape, protocol.ssim) or protocol.similarity == "ssim":
        values["ssim"] = similarity(protocol, e.heatmap, e.heatmap_masked)
    if protocol.similarity == "ssim":
        values["coherency"] = values["ssim"]
    return values | {"spearman": coherency.spearman(e.heatmap, e.heatmap_masked)}


def of_complexity(e: Explanation, protocol: Protocol) -> Values:
    """How much of the image the map uses."""
    if protocol.complexity == "matrix_1_norm":
        area = complexity.matrix_1_norm(e.native)
    else:
        area = complexity.l1(e.heatmap)
    return {
        "complexity": area,
        "complexity_native": complexity.l1(e.native),
        "entropy": complexity.entropy(e.heatmap),
        "gini": complexity.gini(e.heatmap),
        "effective_area": complexity.effective_area(e.heatmap),
    }


def core(subject: Subject) -> Values:
    """Faithfulness, coherency and complexity, and the ADCC of the three."""
    read = {name: getattr(subject.protocol, name) for name in READ}
    return _core(subject.explanation, Protocol(**read))


@partial(jax.jit, static_argnames="protocol")
def _core(e: Explanation, protocol: Protocol) -> Values:
    """By the settings that they read alone: JAX traces them once for all methods and measures."""
    values = of_drop(e, protocol) | of_coherency(e, protocol) | of_complexity(e, protocol)
    parts = (values[name] for name in ("coherency", "complexity", "average_drop"))
    return values | {"adcc": adcc.adcc(*parts)}


def of_object(subject: Subject) -> Values:
    """How well the map lies on the object, where that is known."""
    heatmap, mask = subject.explanation.heatmap, subject.mask
    if mask is None:
        return {}
    return {
        "energy_inside": localisation.energy_pointing_game(heatmap, mask),
        "pointing_game": localisation.pointing_game(heatmap, mask),
        "iou": localisation.iou(heatmap, mask),
        "mask_area": localisation.area(mask),
    }


CORE = Measure(
    core,
    {
        "average_drop": Column("Average drop", -1),
        "complexity": Column("Complexity", -1),
        "ssim": Column("Coherency (SSIM)", 1),
        "coherency": Column("Coherency (Pearson)", 1),
        "adcc": Column("ADCC (mean of images)", 1),
        "increase": Column("Increase in confidence", 1),
        "logit_drop": Column("Logit drop (in deviations)", -1),
        "complexity_native": Column("Complexity (native grid)", -1),
        "average_gain": Column("Average gain", 1),
        "logit_increase": Column("Increase in logit", 1),
        "pearson": Column("Pearson's r", 1),
        "spearman": Column("Spearman's rho", 1),
        "entropy": Column("Entropy", -1),
        "gini": Column("Gini index", 1),
        "effective_area": Column("Effective area", -1),
    },
)
LOCALISATION = Measure(
    of_object,
    {
        "energy_inside": Column("Energy inside the object", 1),
        "pointing_game": Column("Pointing game", 1),
        "iou": Column("IoU with the object", 1),
        "mask_area": Column("The object's area", 0),
    },
)
