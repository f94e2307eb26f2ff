"""A compressed network is the child of the one that it was made of."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from kdxai import models
from kdxai.compress.cost import size
from kdxai.compress.kernels import kernels, with_kernels
from kdxai.compress.rounding import rounded
from kdxai.fingerprints import fingerprint
from kdxai.models.trained import Trained

# What was measured on the parent, and is not known of its child.
MEASURED = ("test_accuracy", "validation_accuracy", "best_epoch", "seconds", "worth")


def child(
    parent: Trained,
    variables: Mapping[str, Any],
    how: str,
    settings: Mapping[str, Any],
    architecture: Mapping[str, Any] | None = None,
) -> Trained:
    """A model that was made of another one.

    Its facts are those of the parent that still hold; `factor`, how many times fewer bits its
    weights take than those of the first ancestor; and where it came from: `origin` has `how`,
    `settings`, the parent's fingerprint and what `root` says. A network that rounds its weights
    holds them as it rounds them.

    Args:
      architecture: where it is another than the parent's.
    """
    model, architecture = parent.model, dict(architecture or parent.architecture)
    if architecture != parent.architecture:
        classes = len(parent.class_names)
        model = models.create(**architecture, num_classes=classes, dtype=model.dtype)
    if "weight_bits" in architecture:
        bits = architecture["weight_bits"]
        own_kernels = {path: rounded(one, bits) for path, one in kernels(variables).items()}
        variables = with_kernels(variables, own_kernels)
    first = root(parent)
    facts = {name: value for name, value in parent.facts.items() if name not in MEASURED}
    facts["parameters"] = sum(leaf.size for leaf in jax.tree.leaves(variables["params"]))
    facts["factor"] = first["root_size_bits"] / size(variables)
    facts["origin"] = {
        "kind": "compress",
        "how": how,
        "settings": dict(settings),
        "parent_sha256": fingerprint(parent.variables),
        **first,
    }
    return parent._replace(
        model=model,
        architecture=architecture,
        variables=jax.tree.map(jnp.asarray, dict(variables)),
        facts=facts,
    )


def root(trained: Trained) -> dict[str, Any]:
    """The first ancestor of a compressed network, else the network: fingerprint and `cost.size`."""
    origin = trained.facts.get("origin", {})
    if origin.get("kind") == "compress":
        return {name: origin[name] for name in ("root_sha256", "root_size_bits")}
    return {
        "root_sha256": fingerprint(trained.variables),
        "root_size_bits": size(trained.variables),
    }


def none(trained: Trained) -> Trained:
    """The network as it is: the control of a sweep, that is only tuned as long as the others."""
    return child(trained, trained.variables, "none", {})
