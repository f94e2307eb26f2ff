"""Any model -> a classifier that can be explained, compiled and spread over devices."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.tree_util import Partial

from kdxai import devices, explain
from kdxai.data import augment
from kdxai.errors import UserError
from kdxai.explain import Classifier
from kdxai.externals import External
from kdxai.lifting import lift
from kdxai.models import LAST, Features, Network, grid
from kdxai.models.trained import Trained
from kdxai.protocol import SOUND, Protocol, needs

BACKGROUND = 64  # images at most, of those that stand for the data


def as_classifier(
    model: Trained | External, protocol: Protocol = SOUND, images: Any = None
) -> Classifier:
    """A model as a classifier of one normalised image, cut and run as a protocol says.

    Of a kdxai model it is a pytree: the parameters are leaves, so it can be an argument of a jitted
    function.

    Args:
      images: [N, H, W, C] uint8 of a split. Some, spread evenly over it, are the background of a
        method that needs one.

    Raises:
      UserError: the model has no such stage, or the protocol sets what it does not do.
    """
    if isinstance(model, External):
        require_obeyed(model.classifier, protocol)
        found = model.classifier
    else:
        found = of_network(model.model, model.variables, protocol)
    missing = needs(protocol.method, "background") and found.background is None
    if images is None or not missing:
        return found
    places = np.linspace(0, len(images) - 1, min(BACKGROUND, len(images))).round().astype(int)
    some = augment.normalise(images[places], model.mean, model.std)
    return found._replace(background=some)


def of_network(network: Network, variables: Any, protocol: Protocol) -> Classifier:
    """A network as a classifier of one normalised image; `variables` may be abstract.

    Raises:
      UserError: it has no such stage.
    """
    found = _own_classifier(network, variables, protocol)
    if not needs(protocol.method, "earlier"):
        return found
    cuts = (replace(protocol, stage=one) for one in _earlier(network, protocol.stage))
    return found._replace(earlier=tuple(_own_classifier(network, variables, one) for one in cuts))


def _own_classifier(network: Network, variables: Any, protocol: Protocol) -> Classifier:
    half = partial(Part, model=network, stage=protocol.stage, mode=protocol.mode)
    guided = None  # the rule is one of ReLUs
    if network.activation is nn.relu:
        other = network.with_activation(explain.guided_relu)
        guided = Partial(Part("guided", other, LAST, "evaluation"), variables)
    # The head reads the last feature map alone: elsewhere CAM is not defined.
    at_end = network.cut(protocol.stage) == len(network.units)
    own_head = network.has_cam and (at_end or protocol.foreign_head)
    return Classifier(
        features=Partial(half("features"), variables),
        classify=Partial(half("classify"), variables),
        head=variables["params"]["head"]["kernel"] if own_head else None,
        guided=guided,
        grid=Partial(grid),
        attention=Partial(Attention(network), variables) if network.attentive else None,
        attended=Partial(Attended(network), variables) if network.attentive else None,
    )


def _earlier(network: Network, stage: str) -> list[str]:
    """The stages that end ahead of a cut."""
    names = dict.fromkeys(name.partition(".")[0] for name in network.units)
    last = network.cut(stage)
    return [name for name in names if name.startswith("stage") and network.cut(name) < last]


@dataclass(frozen=True)
class Part:
    """A model or a half of it, as a function of its variables and one image or feature map.

    Two parts of equal networks are equal, so that models of one architecture share what `jax.jit`
    has compiled.
    """

    method: Literal["features", "classify", "guided"]
    model: Network
    stage: str
    mode: str

    def __call__(self, variables: Any, values: Features) -> Any:
        options: dict[str, Any] = {}
        batch = jax.tree.map(lambda leaf: leaf[None], values)
        if self.method != "guided":
            options = {"method": self.method, "stage": self.stage}
        if self.mode == "evaluation":
            return _first(self.model.apply(variables, batch, **options))
        # Every forward pass draws its own dropout; the input's bits stand in for a key.
        total = sum(leaf.astype(jnp.float32).sum() for leaf in jax.tree.leaves(values))
        bits = jax.lax.bitcast_convert_type(total, jnp.uint32)
        rngs = {"dropout": jax.random.fold_in(jax.random.key(0), bits)}
        output, _ = self.model.apply(
            variables, batch, train=True, mutable=["batch_stats"], rngs=rngs, **options
        )
        return _first(output)


@dataclass(frozen=True)
class Attention:
    """The attention of each block, as a function of a network's variables and one image."""

    model: Network

    def __call__(self, variables: Any, image: jax.Array) -> tuple[jax.Array, ...]:
        found: Any = self.model.apply(variables, image[None], method="attention")
        return _first(tuple(found[name] for name in self.model.attentive))


@dataclass(frozen=True)
class Attended:
    """[L, K] logits of what each block makes of given attention."""

    model: Network

    def __call__(self, variables: Any, given: tuple[jax.Array, Sequence[jax.Array]]) -> jax.Array:
        image, attention = given
        names = self.model.attentive
        told = {name: one[None] for name, one in zip(names, attention, strict=True)}
        made: Any = self.model.apply(variables, image[None], told, method="attended")
        head: Any = partial(self.model.apply, variables, stage=names[-1], method="classify")
        return jnp.concatenate([head(made[name]) for name in names])


OWN = (Part, Attention, Attended)


def _first(outputs: Any) -> Any:
    """That of the one image of a batch."""
    return jax.tree.map(lambda leaf: leaf[0].astype(jnp.float32), outputs)


def as_pytree(classifier: Classifier, *shapes: tuple[int, ...]) -> Classifier:
    """The classifier as it is now, so that `jax.jit` takes it as an argument; see `lifting.lift`.

    Args:
      shapes: [H, W, C] of the images that it will be called with, the usual one first.

    Raises:
      UserError: its functions do not fit each other, or it has fewer than two outputs.
    """
    parts = (part for part in classifier if isinstance(part, Partial) or callable(part))
    functions = [getattr(part, "func", None) for part in parts]
    if all(isinstance(function, OWN) or function is grid for function in functions):
        return classifier
    images = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    # Lambdas, as JAX keeps what it has traced by the function.
    logits = jax.eval_shape(lambda image: classifier(image), images[0])
    if logits.ndim != 1 or logits.shape[0] < 2:
        raise UserError(
            f"a classifier must return [K] logits of K >= 2 classes, not {list(logits.shape)}; "
            "for one output z of a sigmoid, return [0, z]"
        )
    cuts = [jax.eval_shape(lambda one: classifier.features(one), image) for image in images]
    attended = []
    if classifier.attention is not None:
        shown = classifier.attention
        attended = [(one, jax.eval_shape(lambda image: shown(image), one)) for one in images]
    return Classifier(
        features=lift(classifier.features, *images),
        classify=lift(classifier.classify, *cuts),
        head=classifier.head,
        guided=classifier.guided and lift(classifier.guided, *images),
        grid=classifier.grid and lift(classifier.grid, *cuts),
        attention=classifier.attention and lift(classifier.attention, *images),
        attended=classifier.attended and lift(classifier.attended, *attended),
        background=classifier.background,
        earlier=tuple(as_pytree(one, *shapes) for one in classifier.earlier),
    )


def own_part(classifier: Classifier) -> Part | None:
    """What `as_classifier` made of a kdxai model; None for any other classifier."""
    function = getattr(classifier.features, "func", None)
    return function if isinstance(function, Part) else None


def everywhere(classifier: Classifier, *shapes: tuple[int, ...]) -> Classifier:
    """`as_pytree`, with the parameters on every device of the host."""
    return devices.replicate(as_pytree(classifier, *shapes))


def require_obeyed(classifier: Classifier, protocol: Protocol) -> None:
    """Refuse a protocol that a classifier of one's own cannot follow.

    Raises:
      UserError: the protocol sets what this classifier does not do.
    """
    part = own_part(classifier)
    if part is None:
        for name in ("stage", "foreign_head", "mode", "split"):
            if getattr(protocol, name) != getattr(SOUND, name):
                raise UserError(
                    f"the protocol's {name} does nothing to a classifier of one's own: cut and run "
                    "it as you mean to, and choose its images"
                )
    elif (part.stage, part.mode) != (protocol.stage, protocol.mode):
        raise UserError(
            f"the classifier was made for stage '{part.stage}' in {part.mode} mode, but the "
            f"protocol says '{protocol.stage}' in {protocol.mode} mode: give both the same protocol"
        )
