"""What is measured of one explained image: each measure is described once, here.

`MEASURES[name]` says what it computes, what must be prepared, what it costs, and how each of its
columns is called. A new measure is one more entry.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from kdxai.errors import UserError
from kdxai.measures.axioms import AXIOMS
from kdxai.measures.core import CORE, LOCALISATION, scores, ssim_fits
from kdxai.measures.grid import MOSAIC
from kdxai.measures.maps import COMPACTNESS, RANKING
from kdxai.measures.measure import (
    Column,
    Ingredients,
    Measure,
    Model,
    Preparation,
    Subject,
    Values,
)
from kdxai.measures.perturbation import ARCC, PERTURBATION, ROAD
from kdxai.measures.randomisation import CASCADE, RANDOMISATION, SMOOTHED
from kdxai.measures.removal import CORRELATION, REGIONS
from kdxai.measures.robustness import SENSITIVITY, STABILITY

__all__ = [
    "MEASURES",
    "Column",
    "Ingredients",
    "Measure",
    "Model",
    "Preparation",
    "Subject",
    "Values",
    "answer",
    "asked",
    "degenerate",
    "lacking",
    "of_split",
    "optional",
    "require_known",
    "ssim_fits",
    "versions",
]

# In the order of a table's lines. What has no cost is always measured, all else when asked for.
MEASURES: dict[str, Measure] = {
    "core": CORE,
    "perturbation": PERTURBATION,
    "road": ROAD,
    "arcc": ARCC,
    "correlation": CORRELATION,
    "regions": REGIONS,
    "compactness": COMPACTNESS,
    "sensitivity": SENSITIVITY,
    "stability": STABILITY,
    "axioms": AXIOMS,
    "randomisation": RANDOMISATION,
    "smoothed_randomisation": SMOOTHED,
    "cascade": CASCADE,
    "grid": MOSAIC,
    "localisation": LOCALISATION,
    "ranking": RANKING,
}
DEGENERATE = ("", "zero", "constant")


def optional() -> list[str]:
    """The measures that are made when asked for, by the names a config asks with."""
    return [name for name, measure in MEASURES.items() if measure.cost]


def require_known(names: Sequence[str]) -> None:
    """Check names of measures.

    Raises:
      UserError: a name is none of `optional`.
    """
    for name in names:
        if name not in optional():
            raise UserError(f"there is no measure '{name}'; known: {', '.join(optional())}")


def asked(extra: Sequence[str]) -> dict[str, Measure]:
    """All that is measured where `extra` is asked for, what is always measured first."""
    always = [name for name, measure in MEASURES.items() if not measure.cost]
    return {name: MEASURES[name] for name in (*always, *extra)}


def versions(extra: Sequence[str]) -> dict[str, int]:
    """What is measured, and the version of each: numbers of another version are others."""
    return {name: measure.version for name, measure in sorted(asked(extra).items())}


def of_split(name: str) -> bool:
    """Whether a measure depends on images of the split that are not measured."""
    preparation = MEASURES[name].preparation
    return preparation is not None and preparation.of_split


def lacking(model: Model, extra: Sequence[str]) -> list[str]:
    """The measures among `extra` that cannot be prepared for a model."""
    known = ((name, MEASURES[name].preparation) for name in extra)
    return [name for name, preparation in known if preparation and not preparation.suits(model)]


def lack(name: str) -> str:
    """What models lack that a measure cannot be prepared for, as "whose ..." behind their names."""
    preparation = MEASURES[name].preparation
    return preparation.lack if preparation else ""


def answer(subject: Subject) -> Values:
    """What the model says of the image and of the masked one."""
    before, after = scores(subject.explanation, subject.protocol)
    confidence = jax.nn.softmax(subject.explanation.logits).max()
    return {"score": before, "score_masked": after, "confidence": confidence}


def degenerate(raw: jax.Array) -> jax.Array:
    """0 for a proper map, 1 for one that is zero everywhere, 2 for another constant."""
    constant = raw.max() == raw.min()
    return jnp.where(constant, jnp.where(raw.max() == 0, 1, 2), 0)
