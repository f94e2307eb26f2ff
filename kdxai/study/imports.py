"""A model from weights that were trained elsewhere, with its measured accuracy."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
from ml_collections import ConfigDict
from scipy.optimize import linear_sum_assignment
from scipy.stats import binomtest

from kdxai import files, inputs, models
from kdxai.classifiers import as_classifier, everywhere
from kdxai.data import datasets
from kdxai.data.datasets import Dataset, Split
from kdxai.errors import UserError
from kdxai.evaluate.admission import Admitted
from kdxai.evaluate.chunks import computing
from kdxai.evaluate.preparation import every_logit
from kdxai.models import Network, trained, weights
from kdxai.models.trained import Trained
from kdxai.protocol import SOUND
from kdxai.study.checks import ABOVE_CHANCE
from kdxai.training import runs

CAUSES = "wrong mean and std, another order of the colours (BGR) or of the classes are usual causes"


def check(config: ConfigDict, dataset: Dataset) -> Network:
    """Everything about an import that can be wrong but for its accuracy; returns its network.

    Raises:
      UserError: it is.
    """
    return of_data(config, read_network(config), dataset).model


def read_network(config: ConfigDict) -> weights.Converted:
    """What a file of weights holds, which needs no data.

    Args:
      config: `weights` (a file), `model.name`, `mean` and `std` of images in [0, 1].

    Raises:
      UserError: no such file, weights of another model, or no normalisation.
    """
    if not config.weights or not config.model.name:
        raise UserError("say which weights and which model: weights=FILE model.name=NAME")
    if not len(config.mean) or not len(config.std):
        raise UserError(
            "say by which mean and std, of images in [0, 1], the network's images are normalised: "
            "one number for each channel, such as mean=0.491,0.482,0.447 std=0.247,0.243,0.262"
        )
    return weights.convert(weights.read(config.weights), config.model.name)


def of_data(config: ConfigDict, found: weights.Converted, dataset: Dataset) -> Trained:
    """The model of a file of weights and of a data set, before its accuracy is measured.

    Args:
      config: as for `read_network`, and `data`.
      found: what `read_network` gave.

    Raises:
      UserError: other classes or channels than the data set's.
    """
    height, width, channels = dataset.test.image.shape[1:]
    mean, std = inputs.normalisation(config.mean, config.std, channels)
    if found.num_classes != len(dataset.class_names):
        raise UserError(
            f"{config.weights} is of {found.num_classes} classes, but '{dataset.name}' has "
            f"{len(dataset.class_names)}"
        )
    model = models.create(**found.architecture, num_classes=found.num_classes)
    require_takes(model, found.variables, dataset, config.weights)
    return Trained(
        model=model,
        architecture=found.architecture,
        variables=found.variables,
        mean=mean,
        std=std,
        class_names=tuple(dataset.class_names),
        image_shape=(height, width, channels),
        facts={
            "model": config.model.name,
            "parameters": sum(leaf.size for leaf in jax.tree.leaves(found.variables["params"])),
            "data": {key: value for key, value in config.data.items() if value is not None},
            "data_fingerprint": datasets.fingerprint(dataset),
            "origin": {
                "kind": "import",
                "file": Path(config.weights).name,
                "sha256": file_digest(Path(config.weights)),
            },
        },
    )


def require_takes(
    model: Network, variables: Mapping[str, Any], dataset: Dataset, file: str
) -> None:
    """Check that a model fits the images of a data set.

    Raises:
      UserError: the model cannot be applied to the images of a data set.
    """
    shape = dataset.test.image.shape[1:]
    try:
        like = jax.ShapeDtypeStruct((1, *shape), np.float32)
        jax.eval_shape(lambda image: model.apply(variables, image, train=False), like)
    except Exception as error:
        raise UserError(
            f"{file} takes no images of {'x'.join(map(str, shape))}, as those of '{dataset.name}' "
            "are"
        ) from error


def import_model(
    config: ConfigDict, workdir: str | Path, dataset: Dataset | None = None
) -> Mapping[str, Any]:
    """Leave a model directory with the measured accuracy; what is there already is checked.

    Args:
      config: as for `of_data`.
      dataset: None to load that of the config, once the file of weights is read.

    Returns:
      The model's facts.

    Raises:
      UserError: as `read_network` and `of_data`; the accuracy is at chance; the directory is
        another config's.
    """
    workdir, found = Path(workdir), read_network(config)
    dataset = datasets.load(**config.data) if dataset is None else dataset
    model = of_data(config, found, dataset)
    content = {"weights": model.facts["origin"]["sha256"]}
    content["data.data_dir"] = model.facts["data_fingerprint"]
    if files.there(workdir / runs.CONFIG):
        runs.claim_directory(workdir, config, content)
    if files.there(workdir / trained.MODEL):
        return trained.read(workdir)["facts"]
    answers = predict(model, dataset.test, Path(config.weights).name)
    require_above_chance(answers, dataset.test.label, config.weights, dataset.name)
    accuracy = float((answers == dataset.test.label).mean())
    model = model._replace(facts={**model.facts, "test_accuracy": accuracy})
    runs.claim_directory(
        workdir, config, content
    )  # not before: what was at chance is tried once more
    trained.save(model, workdir)
    return model.facts


def predict(model: Trained, split: Split, name: str) -> np.ndarray:
    """[N] the classes that a model sees in the images of a split."""
    with computing(None):
        classifier = everywhere(as_classifier(model), split.image.shape[1:])
        given = Admitted(split.image, classifier, model.mean, model.std)
        return every_logit(given, SOUND, None, name).argmax(1)


def require_above_chance(answers: np.ndarray, labels: np.ndarray, file: str, data: str) -> None:
    """Refuse weights that have learned nothing of a data set.

    Raises:
      UserError: they are right no more often than the largest class is there.
    """
    right, size, largest = int((answers == labels).sum()), len(labels), np.bincount(labels).max()
    if binomtest(right, size, largest / size, "greater").pvalue <= ABOVE_CHANCE:
        return
    k = max(answers.max(), labels.max()) + 1
    table = np.zeros((k, k), int)
    np.add.at(table, (answers, labels), 1)
    best = table[linear_sum_assignment(-table)].sum() / size
    hint = CAUSES
    if best > 2 * largest / size:
        hint = f"with its classes in another order it would be right on {best:.1%}: {CAUSES}"
    raise UserError(
        f"{file} is right on {right / size:.1%} of the test images of '{data}', no more than "
        f"chance; {hint}"
    )


def file_digest(path: Path) -> str:
    """SHA-256 of a file.

    Raises:
      UserError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
