"""The models that are measured: each by its name, and which member of that name it is."""

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kdxai.data import datasets
from kdxai.data.datasets import Dataset
from kdxai.errors import UserError
from kdxai.externals import is_external, load_external
from kdxai.measures import Model
from kdxai.models import trained
from kdxai.settings import changed_settings
from kdxai.study.identity import sha256

# What a file, a table, a page and a picture take as it is.
NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9_. -]{0,58}[A-Za-z0-9_.-])?")
FORMS = (
    "models is NAME=DIRECTORY or NAME=FILE.py:FUNCTION, several with commas, or a tuple of such; "
    "each place once"
)
LINE = 12  # digits of a fingerprint that tell lines apart


class Member(NamedTuple):
    """One model of those that have its name.

    Attributes:
      seed: its number among them, from 0; of a study, that of the replicate.
      place: its directory, `FILE.py:FUNCTION`, or "" where it was handed in.
      line: what it shares with the members of other names that belong to it: the network that it
        was compressed from, or the replicate of a study. Models are paired by their lines.
    """

    name: str
    seed: int
    model: Model
    place: str
    line: str


def named_places(models: str | Sequence[str]) -> list[tuple[str, str]]:
    """`NAME=PLACE,NAME=PLACE,...`, or a tuple of `NAME=PLACE` -> [(name, place)].

    A name that comes several times is a population. In one text a comma ends a place only where a
    name and `=` follow; a tuple takes any.

    Raises:
      UserError: it is neither, a place twice for one name, or a name that a model cannot have.
    """
    if isinstance(models, str):
        entries = re.split(r",(?=[^,/]*=)", models)
    else:
        entries = list(models) if isinstance(models, list | tuple) else []
    found: list[tuple[str, str]] = []
    for entry in map(str, entries):
        name, _, place = entry.strip().partition("=")
        if not name or not place or (name, place) in found:
            break
        found.append((name, place))
    if not entries or len(found) < len(entries):
        raise UserError(f"{FORMS}; not '{textwrap.shorten(str(models), 200)}'")
    require_names(dict(found))
    return found


def require_names(models: Iterable[str]) -> None:
    """Check names of models.

    Raises:
      UserError: a name that a model cannot have, or two that are one to some file systems.
    """
    taken: dict[str, str] = {}
    for name in models:
        if not NAME.fullmatch(name):
            shown = name if len(name) <= 70 else f"{name[:60]}..."
            raise UserError(
                f"'{shown}' is no name for a model: take up to 60 letters (a to z), digits, "
                "spaces, '_', '.' and '-', first a letter or a digit"
            )
        if (other := taken.setdefault(name.lower(), name)) != name:
            raise UserError(f"the models '{other}' and '{name}' differ in case alone; rename one")


def read(places: Iterable[tuple[str, str]]) -> list[Member]:
    """The models of `named_places`, numbered within their names, all alike.

    Raises:
      UserError: one cannot be read, or they cannot be compared.
    """
    members = opened(places)
    require_comparable(members)
    return members


def opened(places: Iterable[tuple[str, str]]) -> list[Member]:
    """The models of `named_places`, whatever they are of.

    Raises:
      UserError: one cannot be read.
    """
    count: dict[str, int] = {}
    members = []
    for name, place in places:
        seed = count.setdefault(name, 0)
        count[name] += 1
        model = load(place)
        members.append(Member(name, seed, model, place, line(model)))
    return members


def line(model: Model) -> str:
    """The line of a model that comes alone: of its first ancestor's fingerprint, else of its own.

    Nothing tells that two models from two places are replicates, but a compressed one tells what
    it was compressed from.
    """
    root = model.facts.get("origin", {}).get("root_sha256")
    return (root or sha256(model))[:LINE]


def load(place: str | Path) -> Model:
    """The model of a directory, or what a function of a file returns.

    Raises:
      UserError: it cannot be read.
    """
    text = str(place)
    return load_external(text) if is_external(text) else trained.load(text)


def require_comparable(members: Sequence[Member]) -> None:
    """Check that all members can be compared.

    Raises:
      UserError: two are of different classes or of images of different size, or two of one name
        are of one line, of which a population has one member at most.
    """
    lines: dict[tuple[str, str], Member] = {}
    for one in members:
        require_alike(members[0], one)
        if (other := lines.setdefault((one.name, one.line), one)) is not one:
            raise UserError(
                f"{in_words(other)} and {in_words(one)} are copies of one network or made from one;"
                f" '{one.name}' can have one of them, give the other a name of its own"
            )


def require_alike(one: Member, other: Member) -> None:
    """Check that two members answer the same question.

    Raises:
      UserError: two are of different classes, or of images of different size.
    """
    names = one.model.class_names, other.model.class_names
    if len(names[0]) != len(names[1]):
        raise UserError(
            f"'{one.name}' has {len(names[0])} classes and '{other.name}' {len(names[1])}; "
            "compare models of the same ones"
        )
    for place, (mine, its) in enumerate(zip(*names, strict=True)):
        if mine != its:
            raise UserError(
                f"class {place} is '{mine}' for '{one.name}' and '{its}' for '{other.name}'; "
                "compare models of the same classes in the same order"
            )
    if tuple(one.model.image_shape) != tuple(other.model.image_shape):
        raise UserError(
            f"'{one.name}' takes images {list(one.model.image_shape)} and '{other.name}' "
            f"{list(other.model.image_shape)}; compare models of the same images"
        )


def recipes(members: Iterable[Member]) -> frozenset[str]:
    """The names whose members are replicates of a study: runs of one recipe.

    Nothing tells that of networks which were trained elsewhere, whatever they are named.
    """
    return frozenset(one.name for one in members if one.line == str(one.seed))


def in_words(member: Member) -> str:
    """A member in a sentence."""
    return member.place or f"'{member.name}', number {member.seed}"


def load_data(members: Sequence[Member], asked: Mapping[str, Any]) -> Dataset:
    """The data set that models are measured on: the one asked for, else that of the models.

    Args:
      asked: settings of `datasets.load`; `name` None for the models' own.

    Raises:
      UserError: no model says which, they say different ones, it has changed since, or it does not
        fit them.
    """
    dataset = datasets.load(**asked) if asked["name"] else own_data(members)
    require_fits(members[0].name, members[0].model, dataset)
    return dataset


def own_data(members: Sequence[Member]) -> Dataset:
    """The data set that the models' facts name.

    Raises:
      UserError: none is named, different ones are, or it has changed since.
    """
    named = [
        (one, data_settings(one.model.facts["data"]))
        for one in members
        if one.model.facts.get("data")
    ]
    if not named:
        raise UserError("no model says which data are its own; say --config.data.name=NAME")
    first, data = named[0]
    for one, its in named[1:]:
        if its != data:
            raise UserError(
                f"{first.place} and {one.place} have different data: "
                f"{changed_settings(data, its)}; say which with --config.data.name=NAME"
            )
    try:
        dataset = datasets.load(**data)
    except UserError as error:
        raise UserError(
            f"the data of {first.place} cannot be read ({error}); if they have moved, say where "
            "with --config.data.name=NAME --config.data.data_dir=PLACE"
        ) from error
    found = datasets.fingerprint(dataset)
    for one, _ in named:
        if one.model.facts.get("data_fingerprint", found) != found:
            raise UserError(
                f"the data set '{dataset.name}' is not what {one.place} was made with; bring the "
                "data back, or name others with --config.data.name=NAME"
            )
    return dataset


def data_settings(data: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of `datasets.load` that say something; one place may be written in several ways."""
    kept = {key: value for key, value in data.items() if value is not None}
    if kept.get("data_dir"):
        kept["data_dir"] = str(Path(kept["data_dir"]).expanduser().resolve())
    return kept


def require_fits(name: str, model: Model, dataset: Dataset) -> None:
    """Check that data are those of a model.

    Raises:
      UserError: the data are of other classes or images than a model.
    """
    shape, classes = tuple(dataset.test.image.shape[1:]), len(dataset.class_names)
    if tuple(model.image_shape) != shape:
        raise UserError(
            f"'{name}' takes images {list(model.image_shape)}, but those of '{dataset.name}' are "
            f"{list(shape)}"
        )
    if len(model.class_names) != classes:
        raise UserError(
            f"'{name}' has {len(model.class_names)} classes, but '{dataset.name}' has {classes}"
        )
    pairs = zip(model.class_names, dataset.class_names, strict=True)
    for place, (mine, its) in enumerate(pairs):
        if mine != its and mine in dataset.class_names:
            raise UserError(
                f"class {place} is '{mine}' for '{name}' and '{its}' in '{dataset.name}'; put the "
                "model's classes in the order of the data"
            )
