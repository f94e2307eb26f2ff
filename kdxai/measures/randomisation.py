"""What is left of a map when the model is another: parameters shuffled, or another class asked."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kdxai.classifiers import as_classifier
from kdxai.errors import UserError
from kdxai.explain import Classifier
from kdxai.externals import External
from kdxai.measures.core import ssim_fits
from kdxai.measures.measure import (
    SMOOTHING,
    Column,
    Measure,
    Model,
    Preparation,
    Subject,
    Values,
)
from kdxai.metrics import coherency, randomisation
from kdxai.models.trained import Trained
from kdxai.protocol import Protocol

DIRECTIONS = ("top_down", "bottom_up")
COPIES = 10  # of an image under noise; Hedstroem et al. 2023 take 50


def by_randomisation(subject: Subject) -> Values:
    """The map with other parameters, and for another class: 2 further maps."""
    e, shuffled = subject.explanation, subject.prepared
    return {
        "randomised_similarity": coherency.spearman(e.heatmap, shuffled),
        "randomised_entropy_rise": randomisation.efficient_parameter_randomisation(
            lambda heatmap, image: heatmap, e.heatmap, shuffled, subject.image
        ),
        "other_class_similarity": randomisation.random_logit(
            lambda c: subject.draw(subject.classifier, subject.image, c),
            e.class_index,
            len(e.logits),
            jax.random.fold_in(subject.key, 3),
        ),
    }


def by_smoothed(subject: Subject) -> Values:
    """As `by_randomisation`, of maps averaged over noisy copies of the image."""
    smoothed = randomisation.smoothed(
        lambda classifier, image: subject.draw(classifier, image, subject.explanation.class_index),
        jax.random.fold_in(subject.key, SMOOTHING),
        samples=COPIES,
    )
    own = smoothed(subject.classifier, subject.image)
    return {"smoothed_randomised_similarity": coherency.spearman(own, subject.prepared)}


def by_cascade(subject: Subject) -> Values:
    """The map while stage after stage is randomised: a further map per stage.

    Adebayo et al. 2018. Spearman and SSIM with the original map after each stage, and their means
    over the cascade.

    Raises:
      UserError: a direction is none of `DIRECTIONS`.
    """
    values = {}
    for direction, stages in subject.prepared.items():
        if direction not in DIRECTIONS:
            raise UserError(f"a cascade runs {' or '.join(DIRECTIONS)}, not '{direction}'")
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


def has_parameters(model: Model) -> bool:
    """Whether there are parameters to shuffle: of an `External`, where all is data, no closure."""
    if not isinstance(model, External):
        return True
    leaves = jax.tree.leaves(model.classifier)
    return all(map(_is_array, leaves)) and any(map(_is_parameter, leaves))


def has_stages(model: Model) -> bool:
    """Whether it is known which parameters belong to which stage."""
    return not isinstance(model, External)


def randomised(model: Model, protocol: Protocol) -> Classifier | None:
    """The model with every parameter's entries shuffled, None where it shows no parameters.

    An array that several functions of a classifier hold is shuffled in all of them alike.
    """
    if not has_parameters(model):
        return None
    if not isinstance(model, External):
        return with_variables(model, shuffled(model), protocol)
    background = model.classifier.background  # no parameter
    leaves, structure = jax.tree.flatten(model.classifier._replace(background=None))
    own = {_content(leaf): leaf for leaf in leaves if _is_parameter(leaf)}
    fresh = randomisation.shuffled(own, jax.random.key(0))
    changed = [fresh[_content(leaf)] if _is_parameter(leaf) else leaf for leaf in leaves]
    return jax.tree.unflatten(structure, changed)._replace(background=background)


def cascade(model: Model, protocol: Protocol) -> dict[str, dict[str, Classifier]] | None:
    """The model with more and more of its stages shuffled, down from the head and up from the stem.

    The steps are stages, not units: models of any depth have about as many. None for a model whose
    stages are not known.

    Returns:
      direction -> number and name of the last stage shuffled -> classifier. They share their
      parameters, so that all together take the memory of two. The last is `randomised`.
    """
    if isinstance(model, External):
        return None
    stages = {f"units_{name}": name.partition(".")[0] for name in model.model.units}
    stages |= {"pooling": "head"} if "pooling" in model.variables["params"] else {}
    stages["head"] = "head"
    fresh = shuffled(model)
    classifiers = {}
    for direction, groups in zip(DIRECTIONS, ([*reversed(stages)], [*stages]), strict=True):
        ends = {}  # of a stage's units the last one counts, with all of them shuffled
        steps = randomisation.cascade(model.variables, fresh, groups)
        for group, variables in zip(groups, steps, strict=True):
            ends[stages[group]] = with_variables(model, variables, protocol)
        classifiers[direction] = {
            f"{number}_{stage}": classifier
            for number, (stage, classifier) in enumerate(ends.items(), 1)
        }
    return classifiers


def shuffled(trained: Trained) -> Mapping[str, Any]:
    return randomisation.shuffled(trained.variables, jax.random.key(0))


def with_variables(
    trained: Trained, variables: Mapping[str, Any], protocol: Protocol
) -> Classifier:
    return as_classifier(trained._replace(variables=variables), protocol)


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "dtype") or np.isscalar(leaf)


def _is_parameter(leaf: Any) -> bool:
    """Keys, counters and single numbers are none."""
    return hasattr(leaf, "dtype") and jnp.issubdtype(leaf.dtype, jnp.inexact) and np.size(leaf) > 1


def _content(leaf: Any) -> tuple[Any, ...]:
    array = np.asarray(leaf)
    return array.shape, str(array.dtype), array.tobytes()


SHUFFLED = Preparation(
    "a classifier of randomised parameters",
    lambda source: randomised(source.model, source.protocol),
    has_parameters,
    lack="whose parameters cannot be seen",
)
RANDOMISATION = Measure(
    by_randomisation,
    {
        "randomised_entropy_rise": Column("Entropy rise, shuffled parameters", 1),
        "randomised_similarity": Column("Similarity, shuffled parameters", -1),
        "other_class_similarity": Column("Similarity, another class", -1),
    },
    cost=1,
    preparation=SHUFFLED,
)
SMOOTHED = Measure(
    by_smoothed,
    {"smoothed_randomised_similarity": Column("Similarity, shuffled parameters (smoothed)", -1)},
    cost=COPIES,
    preparation=SHUFFLED._replace(copies=COPIES),
)
CASCADE = Measure(
    by_cascade,
    {
        "cascade_top_down": Column("Similarity, cascade from the head (Spearman)", -1),
        "cascade_top_down_ssim": Column("Similarity, cascade from the head (SSIM)", -1),
        "cascade_bottom_up": Column("Similarity, cascade from the stem (Spearman)", -1),
        "cascade_bottom_up_ssim": Column("Similarity, cascade from the stem (SSIM)", -1),
    },
    cost=1,
    preparation=Preparation(
        "classifiers with randomised stages",
        lambda source: cascade(source.model, source.protocol),
        has_stages,
        lack="whose stages are not known",
    ),
    details=True,
)
