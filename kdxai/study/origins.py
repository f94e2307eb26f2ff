"""How a model of a study comes to be: one entry for each way."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from kdxai.data.datasets import Dataset
from kdxai.errors import UserError
from kdxai.externals import is_external
from kdxai.models import Network
from kdxai.study import imports
from kdxai.training import loop


class Origin(NamedTuple):
    """A way to make a model.

    Attributes:
      check: (settings, data set) -> its network; all that can be wrong before the first step.
      make: (settings, directory, data set): leaves a model there; what is done is checked alone.
      made_from: the setting that names another model of the study, whose directory takes the
        place of the name; "" where it is made from none.
      told: facts of such a model -> how it came to be, in words.
      seeds: settings to which a replicate's number is added.
    """

    check: Callable[[ConfigDict, Dataset], Network]
    make: Callable[[ConfigDict, Path, Dataset], Any]
    told: Callable[[Mapping[str, Any]], str]
    made_from: str = ""
    seeds: tuple[str, ...] = ()


def trained(facts: Mapping[str, Any]) -> str:
    machine = facts["origin"].get("machine", {})
    on = f" on {machine['devices']} (JAX {machine['jax']})" if machine else ""
    return f"trained for {facts['seconds']:,.0f} s{on}, epoch {facts['best_epoch']} kept"


def imported(facts: Mapping[str, Any]) -> str:
    origin = facts["origin"]
    return f"imported from {origin['file']} (SHA-256 {origin['sha256'][:16]}…)"


ORIGINS: dict[str, Origin] = {
    "train": Origin(
        *(loop.check, loop.train, trained), made_from="teacher", seeds=("seed", "augment.seed")
    ),
    "import": Origin(imports.check, imports.import_model, imported),
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
