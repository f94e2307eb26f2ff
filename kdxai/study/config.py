"""Every setting of a study, with its default."""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

from kdxai.explain import default_options

VERSION = 3  # of the layout of a study's directory; another one is not continued


def study(data: ConfigDict, models: Mapping[str, ConfigDict], **changes: Any) -> ConfigDict:
    """A study of some models, all else as usual.

    Args:
      data: settings of `datasets.load`, for all models.
      models: name -> `origin`, a name in `study.origins.ORIGINS`, and the settings of that.
      changes: of the other settings.
    """
    usual = {
        "version": VERSION,
        "seeds": 1,  # of models that are trained: so many replicates, with model seeds + 0, 1, ...
        "only": "all",  # of the models, by name with commas; all: every one
        "share": "",  # i/n: do the i-th of n parts of the work, and write no report
        **told(),
        "ladder": "",  # models that are audited as by launch/audit.py, by name with commas
        "evaluation": evaluation(),
    }
    return ConfigDict({**usual, "data": data, "models": models, **changes})


def model(origin: str, recipe: ConfigDict, **changes: Any) -> ConfigDict:
    """A model of a study by the config that makes it alone, such as that of configs/import.py.

    Args:
      changes: flat settings of it that differ, such as `**{"model.name": "wrn-10-1"}`, or
        `weights=("a.pth", "b.pth")`, where alone it takes one.
    """
    settings = recipe.copy_and_resolve_references()
    with settings.unlocked(), settings.ignore_type():
        del settings["data"]  # the study's
        settings.origin = origin
        settings.update_from_flattened_dict(changes)
    return settings


def evaluation() -> ConfigDict:
    """What is explained, and how much of it."""
    return ConfigDict(
        {
            "images": 1000,  # random test images
            "whole": True,  # measure the rest of the test split too, in a table of its own
            "methods": "cam",  # names in kdxai.explain.METHODS (or mask), with commas
            "options": default_options(),  # of methods, such as options.occlusion.window
            "metrics": "",  # beyond the core, names in kdxai.measures.MEASURES, with commas
            "stage": "last",  # target layer: the stage at whose end maps are drawn, such as stage2
            "baseline": "blur",  # of perturbation: blur, mean or black
            "seed": 0,  # which images are sampled, and the bootstrap
            "resamples": 2000,  # of the bootstrap intervals, 100 to 100,000
            "sanity": 200,  # of these images, on which the metrics are checked; 0: no checks
            "gallery": 6,  # images in the figure of maps, at most 100: the first of those sampled
        }
    )


def told() -> dict[str, Any]:
    """Which models are compared, and how people are told of them: see `study.design.Design`."""
    return {
        "title": "What do these networks look at?",  # of the page
        "order": (),  # of the models in tables and by colour; others come last
        "roles": {},  # model -> what it is, in a few words
        "reference": "",  # whose maps and answers others' are compared with; "": the first model
        "compare": (),  # pairs; where none of them is there, each other model with the reference
        "floor": (),  # two models that differ in their seed alone, such as ("a", "b")
        "untrained": "",  # a model that has learned nothing
        "claims": {},  # name -> a `claim`
        "across": "auto",  # verdicts: seeds where there are two, else images; or name one
    }


def claim(
    says: str, metric: str, pair: tuple[str, str], direction: str, matters: float
) -> dict[str, str | float]:
    """An entry of the ledger of claims; its fields are those of `study.claims.judge`."""
    one, other = pair
    fields: dict[str, str | float] = {"says": says, "metric": metric, "one": one, "other": other}
    return fields | {"direction": direction, "matters": matters}
