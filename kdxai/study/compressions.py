"""A model made from another: compressed, its BatchNorm statistics re-estimated, trained further."""

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from ml_collections import ConfigDict
from ml_collections.config_dict import placeholder

from kdxai import compress, files
from kdxai.data import datasets
from kdxai.data.datasets import Dataset
from kdxai.errors import UserError
from kdxai.externals import External
from kdxai.models import Network, trained
from kdxai.models.trained import Trained
from kdxai.study import imports, members
from kdxai.training import checks, loop, runs
from kdxai.training import config as training
from kdxai.training import teacher as teachers

PARENT = "parent"  # as tune.teacher: the network that is compressed teaches what is left of it


def default() -> ConfigDict:
    """Every setting of a compression, with its default."""
    tune = training.default()
    with tune.unlocked():
        for key in ("data", "model", "start", "hold_zeros"):
            del tune[key]
        tune.dtype = "auto"
    tune.epochs, tune.optim.lr = 0, 0.02
    return ConfigDict(
        {
            "parent": "",  # a model's directory
            "kind": "",  # a name in kdxai.compress.KINDS; none: the model as it is
            **{name: usual(kind) for name, kind in compress.KINDS.items() if kind.settings},
            "batch_norm": 0,  # training images that BatchNorm's statistics are re-estimated on
            # Around them where they are cropped, as in the parent's training: `reflect` of kdxai's
            # own, `black` of torchvision's.
            "border": "reflect",
            "rounds": 1,  # compress and tune in turn, the same share of what is left each time
            "tune": tune,  # a training from what the compression has left; epochs=0: none
        }
    )


def usual(kind: compress.Kind) -> dict[str, Any]:
    """The settings of a kind; what has no usual value is a number to be given."""
    return {k: placeholder(float) if v is None else v for k, v in kind.settings.items()}


def check(config: ConfigDict, dataset: Dataset, network: Network | External | None) -> Network:
    """Everything about a compression that can be wrong but for what its parent's layers forbid.

    Args:
      network: the parent's.

    Raises:
      UserError: it is.
    """
    if not isinstance(network, Network):
        raise UserError("only model directories can be compressed, no classifiers of one's own")
    if not config.kind:
        raise UserError(f"say how it is compressed: kind={' or '.join(compress.KINDS)}")
    compress.all_settings(config.kind, settings_of(config, config.rounds))
    size = len(dataset.train.label)
    if not 0 <= config.batch_norm <= size:
        raise UserError(
            f"batch_norm is a number of training images up to {size:,}, or 0 for none, not "
            f"{config.batch_norm}"
        )
    calibration = config.quantise.calibration
    if config.kind == "quantise" and config.quantise.activations and calibration > size:
        raise UserError(
            f"quantise.calibration is a number of training images up to {size:,}, not {calibration}"
        )
    if config.border not in compress.BORDERS:
        raise UserError(f"border is {' or '.join(compress.BORDERS)}, not '{config.border}'")
    if config.rounds < 1 or (config.rounds > 1 and config.kind != "prune"):
        raise UserError(
            f"rounds={config.rounds}: pruning has 1 round or more, every other kind has 1"
        )
    if config.rounds > 1 and not config.tune.epochs:
        raise UserError(f"rounds={config.rounds} train in between; set tune.epochs")
    if config.tune.epochs:  # whatever is left of the network, it has the same stages
        tune = tuning(config, training.default().model, config.parent)
        checks.check_settings(tune, dataset)
        checks.require_maps(tune, network, network if config.tune.teacher == PARENT else None)
    return network


def in_words(facts: Mapping[str, Any]) -> str:
    """How a model was compressed, in words."""
    origin = facts["origin"]
    usual = compress.KINDS[origin["how"]].settings
    told = [f"{name} {value}" for name, value in origin["settings"].items() if value != usual[name]]
    parts = [f"{origin['how']} ({', '.join(told)})" if told else origin["how"]]
    if origin.get("batch_norm"):
        parts.append(f"BatchNorm re-estimated on {origin['batch_norm']:,} images")
    if epochs := origin.get("tuned_epochs"):
        rounds = f" in {origin['rounds']} rounds" if origin["rounds"] > 1 else ""
        parts.append(f"tuned for {epochs} epoch{'s' if epochs > 1 else ''}{rounds}")
    return "; ".join(parts)


def compress_alone(config: ConfigDict, workdir: str | Path) -> Mapping[str, Any]:
    """A compression whose data are the parent's own, unless the config says which.

    Args:
      config: as of configs/compress.py.

    Raises:
      UserError: no parent, bad settings, or as `compress_model`.
    """
    if not config.parent:
        raise UserError("say which model is to be compressed: parent=DIRECTORY")
    [parent] = members.opened([(PARENT, config.parent)])
    if not config.data.name:
        config = config.copy_and_resolve_references()
        config.data.update(parent.model.facts.get("data", {}))
    dataset = members.load_data([parent], config.data)
    check(config, dataset, None if isinstance(parent.model, External) else parent.model.model)
    return compress_model(config, workdir, dataset)


def compress_model(config: ConfigDict, workdir: str | Path, dataset: Dataset) -> Mapping[str, Any]:
    """Leave a model directory, made of another's; what is there already is checked.

    With `tune.epochs` every round leaves two more in `workdir`: `roundN/compressed`, and
    `roundN/tuned`, the training that started there.

    Args:
      config: as `default`, with `data`.

    Returns:
      The model's facts.

    Raises:
      UserError: the parent cannot be read, is of other classes or data, or cannot be compressed so;
        the directory is another config's.
    """
    workdir = Path(workdir)
    parent = trained.load(config.parent)
    teachers.require_alike("parent and data", parent._asdict(), dataset)
    content = {
        "data.data_dir": datasets.fingerprint(dataset),
        "parent": trained.read(config.parent)["sha256"],
    }
    kept = recorded(config, workdir)
    if not files.there(workdir / runs.CONFIG):  # else the corrected config would be another's
        require_possible(config, parent, dataset)
    runs.claim_directory(workdir, kept, content)
    if files.there(workdir / trained.MODEL):
        return trained.read(workdir)["facts"]
    model = parent
    for number in range(1, config.rounds + 1):
        model = one_round(config, model, number, workdir, dataset)
    facts = facts_of(config, parent, model, dataset)
    facts["origin"] |= {"parent": kept.parent, "parent_sha256": content["parent"]}
    trained.save(model._replace(facts=facts), workdir)
    return facts


def require_possible(config: ConfigDict, parent: Trained, dataset: Dataset) -> None:
    """Check a compression against the model that it is of.

    Raises:
      UserError: the layers forbid the whole compression, or the teacher does not fit.
    """
    settings = settings_of(config, config.rounds)
    compress.apply(config.kind, parent, settings, partial(training_images, dataset))
    if config.tune.epochs and config.tune.teacher not in ("", PARENT):
        checks.require_teacher(tuning(config, parent.architecture, config.parent), dataset)


def recorded(config: ConfigDict, workdir: Path) -> ConfigDict:
    """The config as it is kept: what this kind reads, the parent found from the directory."""
    unread = {name for name in compress.KINDS if name != config.kind}
    if not config.tune.epochs:
        unread.add("tune")
    if not config.batch_norm:
        unread.add("border")
    kept = ConfigDict({key: value for key, value in config.items() if key not in unread})
    kept = kept.copy_and_resolve_references()
    kept.parent = os.path.relpath(Path(config.parent).resolve(), workdir.resolve())
    return kept


def one_round(
    config: ConfigDict, model: Trained, number: int, workdir: Path, dataset: Dataset
) -> Trained:
    """A model compressed, and tuned where that is asked for."""
    images = partial(training_images, dataset)

    def smaller() -> Trained:
        found = compress.apply(config.kind, model, settings, images)
        if not config.batch_norm:
            return found
        views = compress.views(images(config.batch_norm), border=config.border)
        return compress.batch_norm(found, views)

    settings = settings_of(config, number)
    if not config.tune.epochs:
        return smaller()
    start, place = (workdir / f"round{number}" / name for name in ("compressed", "tuned"))
    if not files.there(start / trained.MODEL):
        trained.save(smaller(), start)
    architecture = trained.read(start)["architecture"]
    loop.train(tuning(config, architecture, str(start)), place, dataset)
    found = trained.load(place)
    if config.kind != "quantise":
        return found
    return compress.apply("quantise", found, settings, images)  # what it computed with, is kept


def training_images(dataset: Dataset, count: int) -> np.ndarray:
    """Some training images, always the same."""
    chosen = np.random.default_rng(0).permutation(len(dataset.train.label))[:count]
    return np.asarray(dataset.train.select(np.sort(chosen)).image)


def settings_of(config: ConfigDict, number: int) -> dict[str, Any]:
    """The settings of a kind in a round: after n of N a share (1 - sparsity)^(n / N) is left."""
    settings = config.get(config.kind, ConfigDict()).to_dict()
    if config.rounds > 1 and settings.get("sparsity"):
        settings["sparsity"] = 1 - (1 - settings["sparsity"]) ** (number / config.rounds)
    return settings


def tuning(config: ConfigDict, architecture: Mapping[str, Any], start: str) -> ConfigDict:
    """The training config of a round that starts from a directory."""
    tune = config.tune.copy_and_resolve_references()
    with tune.unlocked():
        tune.model = {"dropout": 0.0, **architecture, "dtype": tune.dtype}
        del tune.dtype
        tune.data = config.data
        # Also those of a pruned parent; but a level of zero is learned like any other.
        tune.start, tune.hold_zeros = start, config.kind != "quantise" or None
    if tune.teacher == PARENT:
        tune.teacher = config.parent
    return tune


def facts_of(
    config: ConfigDict, parent: Trained, model: Trained, dataset: Dataset
) -> dict[str, Any]:
    """What is known of a compressed model, measured on what it has become."""
    answers = imports.predict(model, dataset.test, Path(config.parent).name)
    root, worth = compress.root(parent), compress.worth(model)
    return {
        "model": model.architecture["name"],
        "parameters": worth["parameters"],
        "test_accuracy": float((answers == dataset.test.label).mean()),
        "data": {key: value for key, value in config.data.items() if value is not None},
        "data_fingerprint": datasets.fingerprint(dataset),
        "worth": worth,
        "factor": root["root_size_bits"] / worth["size_bits"],  # of its first ancestor
        "origin": {
            "kind": "compress",
            "how": config.kind,
            "settings": settings_of(config, config.rounds),
            "batch_norm": config.batch_norm,
            "rounds": config.rounds,
            "tuned_epochs": config.tune.epochs * config.rounds,
            **root,
        },
    }
