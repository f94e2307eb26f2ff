"""Which models a study makes, and in which order."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ml_collections import ConfigDict

from kdxai import files
from kdxai.errors import UserError, one_line
from kdxai.settings import listed
from kdxai.study import design, members, origins
from kdxai.study.config import VERSION
from kdxai.study.design import require_known
from kdxai.study.members import Member, require_names
from kdxai.study.origins import Origin
from kdxai.training import runs

SEEDS = 1000  # at most: every one is a study


class Run(NamedTuple):
    """How one member of a model comes to be: a training run, an import, a compression.

    Attributes:
      name: of the model in the study.
      seed: the member's number; of models that are trained, that of the replicate.
      origin: how it comes to be.
      config: the settings of that, complete.
      workdir: where it will be, or is.
    """

    name: str
    seed: int
    origin: Origin
    config: ConfigDict
    workdir: Path

    @property
    def made_from(self) -> str:
        """The directory of the model that this one is made from; "" for none."""
        return self.config[self.origin.made_from] if self.origin.made_from else ""


def plan(config: ConfigDict, workdir: Path) -> list[Run]:
    """All members of a study's models, each behind the one that it is made from.

    Raises:
      UserError: no seeds, or several that change nothing; a name that is none of the models or
        cannot be one, a comparison of other than two, models that are made from each other in a
        circle, a model that lists no place or the same twice, or more members than those they are
        made from.
    """
    if not 1 <= config.seeds <= SEEDS:
        raise UserError(f"a study needs at least 1 seed and at most {SEEDS:,}, not {config.seeds}")
    require_names(config.models)
    design.require_pairs(config.compare)
    for pair in config.compare:
        require_known("compare", pair, config.models)
    require_known("ladder", listed(config.ladder), config.models)
    many = sizes(config)
    planned: dict[tuple[str, int], Run] = {}
    for seed in range(max(many.values())):
        for name in (name for name, size in many.items() if seed < size):
            source = origins.needed(name, config.models[name])
            parent = planned[source, seed if many[source] > 1 else 0] if source else None
            planned[name, seed] = plan_run(config, workdir, name, seed, parent)
    return list(planned.values())


def sizes(config: ConfigDict) -> dict[str, int]:
    """How many members each model of `chosen` has.

    Raises:
      UserError: as `plan`.
    """
    names = chosen(config)
    if config.seeds > 1 and not any(origins.of(name, config.models[name]).seeds for name in names):
        raise UserError(
            f"seeds={config.seeds} changes nothing: none of {', '.join(names)} is trained; set "
            "seeds=1"
        )
    many: dict[str, int] = {}
    for name in names:
        settings = config.models[name]
        origin, source = origins.of(name, settings), origins.needed(name, settings)
        if origin.lists:
            many[name] = len(places(name, origin, settings))
        elif origin.seeds:
            many[name] = config.seeds
        elif source:
            many[name] = many[source]
        else:
            raise UserError(f"say with {origin.made_from} which model '{name}' is made from")
        if source and 1 < many[source] < many[name]:
            raise UserError(
                f"'{name}' has {many[name]} members and '{source}', which they are made from one "
                f"by one, {many[source]}; take as many, or one '{source}' for all"
            )
    return many


def places(name: str, origin: Origin, settings: ConfigDict) -> list[str]:
    """Those that a model lists, one for each member.

    Raises:
      UserError: none, or one twice.
    """
    found = listed(settings.get(origin.lists) or "")
    if not found:
        raise UserError(f"{origin.lists} of '{name}' names nothing; name one for each member")
    if len(set(found)) < len(found):
        raise UserError(f"{origin.lists} of '{name}' names one twice; name each once")
    return found


def plan_run(config: ConfigDict, workdir: Path, name: str, seed: int, parent: Run | None) -> Run:
    """The run that makes a member of a model, its settings complete.

    Args:
      parent: what it is made from.
    """
    settings = config.models[name].copy_and_resolve_references()
    origin, place = origins.of(name, settings), workdir / f"seed{seed}" / name
    with settings.unlocked(), settings.ignore_type():
        del settings["origin"]
        settings.data = config.data
        if origin.lists:
            settings[origin.lists] = places(name, origin, settings)[seed]
        if parent:
            settings[origin.made_from] = str(parent.workdir)
    if origin.there:
        place = Path(settings[origin.lists])
    for key in origin.seeds:
        value = settings
        for part in key.split("."):
            value = value[part]
        settings.update_from_flattened_dict({key: value + seed})
    return Run(name, seed, origin, settings, place)


def contents(planned: Sequence[Run]) -> dict[str, str]:
    """Fingerprints of what a study names by its places alone; {setting: all of its members'}.

    Raises:
      UserError: one cannot be read, or two members of a model are the same.
    """
    found: dict[str, dict[str, str]] = {}  # a setting -> a fingerprint -> its place
    for one in planned:
        if one.origin.lists:
            place = one.config[one.origin.lists]
            known = found.setdefault(f"models.{one.name}.{one.origin.lists}", {})
            if (other := known.setdefault(one.origin.content(place), place)) != place:
                raise UserError(f"{other} and {place} are copies of one network; name one of them")
    return {
        key: hashlib.sha256(" ".join(known).encode()).hexdigest() for key, known in found.items()
    }


def chosen(config: ConfigDict) -> list[str]:
    """The models of `config.only`, in its order, but each behind the one that it is made from.

    Raises:
      UserError: a name that is none of the models, or one without what it is made from.
    """
    sources = {name: origins.needed(name, model) for name, model in config.models.items()}
    if config.only == "all":
        order = [name for name in config.order if name in sources]
        return sources_first({name: sources[name] for name in [*order, *sources]})
    only = list(dict.fromkeys(listed(config.only)))
    if not only:
        raise UserError("only names no model; name some with commas, or all")
    require_known("only", only, config.models)
    for name in only:
        if sources[name] in sources and sources[name] not in only:
            raise UserError(
                f"only names '{name}' without what it is made from; add '{sources[name]}'"
            )
    return sources_first({name: sources[name] for name in only})


def runs_of_job(planned: Sequence[Run], share: str) -> list[Run]:
    """The runs of the i-th of n jobs, for `share` = "i/n" (1/n to n/n); all of them for "".

    A model stays in one job with what it is made from, so that jobs need not wait for each other.

    Raises:
      UserError: `share` is no such part.
    """
    if not share:
        return list(planned)
    found = re.fullmatch(r"(\d+)/(\d+)", share)
    if not found or not 1 <= int(found[1]) <= int(found[2]):
        raise UserError(f"share is i/n, the i-th of n jobs such as 1/4, not '{share}'")
    families: dict[str, str] = {}  # a model's directory -> that of the first of its line
    for one in planned:
        families[str(one.workdir)] = families.get(one.made_from, str(one.workdir))
    mine = list(dict.fromkeys(families.values()))[int(found[1]) - 1 :: int(found[2])]
    return [one for one in planned if families[str(one.workdir)] in mine]


def sources_first(sources: Mapping[str, str]) -> list[str]:
    """Order names so that each follows its source; {name: source's name or ""}."""
    ordered: list[str] = []

    def visit(name: str, ahead: tuple[str, ...] = ()) -> None:
        if name not in sources or name in ahead:
            raise UserError(
                f"'{ahead[-1]}' is made from '{name}', which is no model of the study that can be "
                "made before it"
            )
        if name not in ordered:
            if sources[name]:
                visit(sources[name], (*ahead, name))
            ordered.append(name)

    for name in sources:
        visit(name)
    return ordered


def made(planned: Sequence[Run]) -> list[Member]:
    """The models of a plan that is carried out.

    A replicate's line is its number, so that all models of one replicate are paired; what is
    compressed has its parent's; any other model has one of its own.

    Raises:
      UserError: one is not finished, or they cannot be compared.
    """
    lines: dict[str, str] = {}  # a model's directory -> its line
    found = []
    for one in planned:
        model, place = members.load(one.workdir), str(one.workdir)
        own = str(one.seed) if one.origin.seeds else lines.get(one.made_from)
        lines[place] = own or members.line(model)
        found.append(Member(one.name, one.seed, model, place, lines[place]))
    members.require_comparable(found)
    return found


def study_members(workdir: str | Path) -> list[Member]:
    """All models of a study.

    Raises:
      UserError: it is no study of this version, or a model is not finished.
    """
    path = Path(workdir) / runs.CONFIG
    if not path.exists():
        raise UserError(f"{workdir} holds no study; give a work directory of launch/study.py")
    settings = files.read_json(path)
    content = settings.pop(runs.CONTENT, {})
    config = ConfigDict(settings)
    if config.get("version") != VERSION:
        raise UserError(
            f"{workdir} is a study of another version of kdxai; name its models instead: "
            "--config.models=NAME=DIRECTORY,..."
        )
    try:
        planned = plan(config, Path(workdir))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is no config of a study ({one_line(error)})") from error
    for key, found in contents([one for one in planned if one.origin.there]).items():
        if content.get(key, found) != found:
            raise UserError(
                f"{key} names other networks than {workdir} was made with; bring those back, or "
                "run the study anew in another --workdir"
            )
    return made(planned)
