"""How a model of a study comes to be: one entry for each way."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from kdxai.data.datasets import Dataset
from kdxai.errors import UserError
from kdxai.externals import External, is_external
from kdxai.models import Network
from kdxai.study import compressions, imports, members
from kdxai.study.identity import sha256
from kdxai.training import loop

Shape = Network | External  # what tells which maps and measures suit a model


class Origin(NamedTuple):
    """A way to make the members of a model.

    There are as many as it lists; else as many as there are seeds; else as many as what it is made
    from has.

    Attributes:
      check: (settings, data set, what the model that it is made from returned or None) -> its
        network; all that can be wrong before the first step.
      told: facts of such a model -> how it came to be, in words.
      make: (settings, directory, data set): leaves a model there; what is done is checked alone.
      made_from: the setting that names another model of the study, whose directory takes the
        place of the name; "" where it is made from none.
      seeds: settings to which a replicate's number is added.
      lists: the setting that names a place for each member, which takes the place of all; "" where
        there is none.
      content: a fingerprint of what is at such a place.
      there: that is the member itself; nothing is made.
    """

    check: Callable[[ConfigDict, Dataset, Shape | None], Shape]
    told: Callable[[Mapping[str, Any]], str]
    make: Callable[[ConfigDict, Path, Dataset], Any]
    made_from: str = ""
    seeds: tuple[str, ...] = ()
    lists: str = ""
    content: Callable[[str], str] = str
    there: bool = False


def trained(facts: Mapping[str, Any]) -> str:
    if not facts["best_epoch"]:  # its weights are those that it began with
        return "not trained"
    machine = facts["origin"].get("machine", {})
    on = f" on {machine['devices']} (JAX {machine['jax']})" if machine else ""
    return f"trained for {facts['seconds']:,.0f} s{on}, epoch {facts['best_epoch']} kept"


def imported(facts: Mapping[str, Any]) -> str:
    origin = facts["origin"]
    return f"imported from {origin['file']} (SHA-256 {origin['sha256'][:16]}…)"


def check_made(settings: ConfigDict, dataset: Dataset, _: Shape | None) -> Shape:
    """Of a model that is there already.

    Raises:
      UserError: it cannot be read, or it does not fit the data.
    """
    model = members.load(settings.places)
    members.require_fits(settings.places, model, dataset)
    return model if isinstance(model, External) else model.model


ORIGINS: dict[str, Origin] = {
    "train": Origin(
        check=loop.check,
        told=trained,
        make=loop.train,
        made_from="teacher",
        seeds=("seed", "augment.seed"),
    ),
    "import": Origin(
        check=lambda settings, dataset, _: imports.check(settings, dataset),
        told=imported,
        make=imports.import_model,
        lists="weights",
        content=lambda file: imports.file_digest(Path(file)),
    ),
    "compress": Origin(
        check=compressions.check,
        told=compressions.in_words,
        make=compressions.compress_model,
        made_from="parent",
    ),
    "made": Origin(
        check=check_made,
        told=lambda _: "made before the study",
        make=lambda *_: None,
        lists="places",
        content=lambda place: sha256(members.load(place)),
        there=True,
    ),
}


def of(name: str, settings: ConfigDict) -> Origin:
    """The origin of a model by its settings.

    Raises:
      UserError: it says none that there is.
    """
    if settings.get("origin") not in ORIGINS:
        raise UserError(
            f"the model '{name}' has origin='{settings.get('origin', '')}'; known: "
            f"{', '.join(ORIGINS)}"
        )
    return ORIGINS[settings.origin]


def needed(name: str, settings: ConfigDict) -> str:
    """The model of the study that one is made from; "" for none.

    Raises:
      UserError: as `of`.
    """
    key = of(name, settings).made_from
    source = settings.get(key, "") if key else ""
    return "" if is_external(source) else source
