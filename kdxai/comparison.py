"""Two networks or more, compared: tables, verdicts and a page from one call."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from ml_collections import ConfigDict

from kdxai import externals, inputs
from kdxai.data.datasets import Dataset, Split
from kdxai.errors import UserError
from kdxai.externals import External
from kdxai.measures import Model
from kdxai.models.trained import Trained
from kdxai.study import config as studies
from kdxai.study import members
from kdxai.study.members import Member
from kdxai.study.run import explain_members


class Comparison(NamedTuple):
    """What `compare` found.

    Attributes:
      table: means of every model and paired differences, with 95 % intervals.
      differences: how sure and how large they are.
      claims: the verdict on each claim; empty where none was made.
      trust: which metrics pass their checks, of which models; empty where none was checked.
      missing: measure or check -> the models that it cannot be made for.
      records: a row per model, image and method.
      agreement: how alike the two models of a pair explain each image.
    """

    table: pd.DataFrame
    differences: pd.DataFrame
    claims: pd.DataFrame
    trust: pd.DataFrame
    missing: Mapping[str, Sequence[str]]
    records: pd.DataFrame
    agreement: pd.DataFrame


def compare(
    models: Mapping[str, Model | str | Path | Sequence[Model | str | Path]],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    workdir: str | Path | None = None,
    masks: np.ndarray | None = None,
    **settings: Any,
) -> Comparison:
    """Explain images by several models, measure the maps and compare the models pair by pair.

    The first model is the one that others are compared with, unless `compare` names pairs.

    Args:
      models: name -> `Trained`, `External`, a model directory or `FILE.py:FUNCTION`; or several
        of these, members of one population.
      images: [N, H, W, C] uint8 test images.
      labels: [N] their classes.
      workdir: where to leave `report.html`, the tables and what is measured; None for nowhere.
      masks: [N, H, W] bool ground truth, where there is one.
      settings: what configs/explain.py sets, such as `methods="grad_cam,random"`, `metrics`,
        `roles={"small": "the pruned one"}`, `claims`, `compare=(("small", "mine"),)`.

    Raises:
      UserError: a model cannot be read, they do not fit each other or the images, or bad settings.
    """
    if not models or not isinstance(models, Mapping):
        raise UserError('give at least one model by its name: {"NAME": model}')
    members.require_names(models)
    found = [one for name, given in models.items() for one in population(name, given)]
    members.require_comparable(found)
    first = found[0].model
    images = inputs.images(images)
    labels = inputs.labels(labels, len(images), len(first.class_names))
    masks = None if masks is None else inputs.masks(masks, images.shape[:3])
    split = Split(images, labels, masks)
    names = tuple(first.class_names)
    dataset = Dataset("own images", names, first.mean, first.std, *[split] * 3)
    members.require_fits(found[0].name, first, dataset)
    config = evaluation_settings(settings, len(images))
    with tempfile.TemporaryDirectory() as nowhere:
        place = Path(workdir or nowhere)
        content = {"models": ", ".join(one.name for one in found)}
        measured = explain_members(found, dataset, config, place, content)
        if workdir:
            from kdxai.report.write import write  # draws figures

            write(measured, config, place)
    return Comparison(
        table=measured.tables["table1"],
        differences=measured.differences,
        claims=measured.claims,
        trust=measured.trust,
        missing=measured.missing,
        records=measured.records,
        agreement=measured.agreement,
    )


def population(name: str, given: Model | str | Path | Sequence[Model | str | Path]) -> list[Member]:
    """The members of one name.

    Raises:
      UserError: there is none, or one cannot be read.
    """
    each: list[Any] = [given]
    if isinstance(given, list | tuple) and not isinstance(given, Trained | External):
        each = list(given)
    if not each:
        raise UserError(f"there is no model of the name '{name}'")
    try:
        models = [loaded(one) for one in each]
    except UserError as error:
        raise UserError(f"'{name}': {error}") from error
    return [
        Member(name, seed, model, place, members.line(model))
        for seed, (model, place) in enumerate(models)
    ]


def loaded(given: Model | str | Path) -> tuple[Model, str]:
    """A model, and the place that it was read from.

    Raises:
      UserError: it cannot be read, or is none.
    """
    if isinstance(given, str | Path):
        return members.load(given), str(given)
    if isinstance(given, Trained):
        return given, ""
    return externals.checked(given), ""


def evaluation_settings(settings: Mapping[str, Any], size: int) -> ConfigDict:
    """The settings of an evaluation of all images by Grad-CAM, changed.

    Raises:
      UserError: there is no such setting.
    """
    usual = {"methods": "grad_cam", "images": size, "whole": False, "sanity": min(size, 200)}
    usual |= {"gallery": min(size, 6)}
    known = {**studies.told(), **studies.evaluation().to_dict()} | usual
    if unknown := sorted(settings.keys() - known.keys()):
        raise UserError(f"there is no setting '{unknown[0]}'; known: {', '.join(known)}")
    return ConfigDict({"models": "", **known, **settings})
