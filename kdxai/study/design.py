"""Which models of a study are compared, and how people are told of them."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from kdxai.errors import UserError

Pair = tuple[str, str]


class Design(NamedTuple):
    """What a config says of its models.

    Attributes:
      reference: whose maps and answers the others' are compared with.
      compare: pairs (one, other), of which one - other is told; the first is the main one.
      order: of models in colours and shapes, with those that are not there now.
      roles: model -> what it is, in a few words.
      floor: two models that differ in their seed alone, or ().
      untrained: a model that has learned nothing, or "".
      title: of the page.
      recipes: models whose members are runs of one recipe. Of others nothing tells that they are.
    """

    reference: str
    compare: Sequence[Pair]
    order: Sequence[str]
    roles: Mapping[str, str] = {}
    floor: Sequence[str] = ()
    untrained: str = ""
    title: str = "What do these networks look at?"
    recipes: frozenset[str] = frozenset()

    def population(self, *models: str) -> str:
        """What several members of these models, or of all that are compared, speak of."""
        asked = set(models or [self.reference, *itertools.chain(*self.compare)])
        if asked <= self.recipes:
            return RECIPES
        return f"{RECIPES} and {ALIKE}" if asked & self.recipes else ALIKE

    def called(self, model: str) -> str:
        """A model inside a sentence: `the student`, where it has a role, else by its name."""
        name = model.replace("_", " ")
        return f"the {name}" if model in self.roles else name

    def slots(self, models: Iterable[str]) -> dict[str, int]:
        """Model -> its colour and shape, the same on all pages of one config."""
        known = [*self.order, *(name for name in models if name not in self.order)]
        return {name: known.index(name) % SLOTS for name in models}


SLOTS = 10  # colours and shapes
RECIPES, ALIKE = "the recipes", "networks like these"  # what populations speak of


def read(config: Mapping[str, Any], models: Sequence[str], known: Iterable[str] = ()) -> Design:
    """The design of a config for the models that are there, in their order.

    Args:
      config: with the keys of `config.told`.
      known: further names that the config may use, of models that are not there now.

    Raises:
      UserError: a name that is none of the models, or a comparison of other than two.
    """
    names = list(dict.fromkeys([*models, *known]))
    require_pairs(config["compare"])
    for key in ("order", "roles", "floor"):
        require_known(key, config[key], names)
    for key in ("reference", "untrained"):
        require_known(key, [config[key]] if config[key] else [], names)
    if len(config["floor"]) not in (0, 2):
        raise UserError(f"floor is two models that differ in their seed, not {config['floor']!r}")
    for pair in config["compare"]:
        require_known("compare", pair, names)
    reference = config["reference"] if config["reference"] in models else models[0]
    compare = [(one, other) for one, other in config["compare"] if {one, other} <= set(models)]
    return Design(
        reference=reference,
        compare=compare or [(name, reference) for name in models if name != reference],
        order=tuple(dict.fromkeys([*config["order"], *names])),
        roles=dict(config["roles"]),
        floor=tuple(config["floor"]),
        untrained=config["untrained"],
        title=config["title"],
        recipes=frozenset(names),
    )


def require_known(key: str, names: Iterable[str], models: Iterable[str]) -> None:
    """Check names of models in a setting.

    Raises:
      UserError: a name is none of the models.
    """
    for name in names:
        if name not in models:
            raise UserError(
                f"{key} names '{name}', which is none of the study's models: {', '.join(models)}"
            )


def require_pairs(compare: Iterable[Sequence[str]]) -> None:
    """Check which models are to be compared.

    Raises:
      UserError: a comparison is not of two different models.
    """
    for pair in compare:
        if not isinstance(pair, tuple | list) or len(pair) != 2 or pair[0] == pair[1]:
            raise UserError(f"compare takes pairs of two different models, not {pair!r}")
