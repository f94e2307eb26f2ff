"""What a model is, in digits: two that make the same of an image are not measured twice."""

import hashlib
import json
import re
from typing import Any

import jax
import jax.numpy as jnp

from kdxai.classifiers import as_pytree
from kdxai.externals import External
from kdxai.fingerprints import fingerprint
from kdxai.measures import Model


def sha256(model: Model) -> str:
    """Of a model's arrays and, of a classifier of one's own, of what it computes with them."""
    if not isinstance(model, External):
        return fingerprint(model.variables)
    classifier = as_pytree(model.classifier, tuple(model.image_shape))
    image = jax.ShapeDtypeStruct(tuple(model.image_shape), jnp.float32)
    features = jax.eval_shape(classifier.features, image)
    parts = [program(classifier.features, image), program(classifier.classify, features)]
    if classifier.grid is not None:
        parts.append(program(classifier.grid, features))
    if classifier.guided is not None:
        parts.append(program(classifier.guided, image))
    text = "\n".join([*parts, fingerprint(jax.tree.leaves(classifier))])
    return hashlib.sha256(text.encode()).hexdigest()


def program(function: Any, given: Any) -> str:
    """What a function computes; its arrays are leaves of its own, and not told."""
    text = str(jax.make_jaxpr(lambda function, given: function(given))(function, given))
    return re.sub(r"0x[0-9a-f]+", "", text)  # where a function lies in memory


def identity(model: Model) -> str:
    """All of a model that a measure depends on."""
    made = {} if isinstance(model, External) else dict(model.architecture)
    dtype = "" if isinstance(model, External) else str(jnp.dtype(model.model.dtype))
    normalisation = fingerprint({"mean": jnp.asarray(model.mean), "std": jnp.asarray(model.std)})
    kept = [made, dtype, len(model.class_names), normalisation, sha256(model)]
    return json.dumps(kept, sort_keys=True, default=str)
