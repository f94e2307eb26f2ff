"""Pictures of one's own: what models see in them, and where."""

import base64
import glob
import io
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import pandas as pd
from PIL import Image

from kdxai import classifiers, drawing, evaluate
from kdxai.data import pictures
from kdxai.errors import UserError, printable
from kdxai.explain import Classifier
from kdxai.progress import progress
from kdxai.protocol import Protocol
from kdxai.report import html
from kdxai.report.overlay import overlay
from kdxai.report.write import write_table
from kdxai.study.records import make_directory
from kdxai.training import runs

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

TOP = 5  # classes that are named
SIDE = 224  # pixels of an overlay's shorter side at least: the picture is finer than some models'
MOST = 200  # pictures on the page, each of which adds some 20 kB for every map


class Prediction(NamedTuple):
    """A class, and how probable it is."""

    number: int
    name: str
    probability: float


class Map(NamedTuple):
    """Where a method finds evidence for a class.

    Attributes:
      description: for those who do not see it.
      uri: the overlay for the page; "" of a picture that is not on it.
    """

    method: str
    explained: Prediction
    description: str
    uri: str


class Explained(NamedTuple):
    """One picture as one model sees it.

    Attributes:
      picture: the file's place in the folder that all pictures share.
      top: the most probable classes, the most probable first.
      maps: of the predicted class, then of the others asked for.
      uri: the pixels that the model is given; "" of a picture that is not on the page.
    """

    picture: str
    model: str
    top: Sequence[Prediction]
    maps: Sequence[Map]
    uri: str


class Prepared(NamedTuple):
    """A model that is ready to explain pictures.

    Attributes:
      model: it, or a classifier of one's own, with normalisation, classes and image shape.
      classifiers: protocol -> the model as that asks for it.
      classes: numbers of those that are explained beside the predicted one.
    """

    name: str
    model: Any
    classifiers: Mapping[Protocol, Classifier]
    classes: Sequence[int]

    @property
    def shape(self) -> tuple[int, int]:
        """[H, W] of its images."""
        return tuple(self.model.image_shape[:2])


def explain_pictures(
    models: Mapping[str, Any],
    images: Paths,
    protocols: Sequence[Protocol],
    workdir: str | os.PathLike[str],
    classes: Sequence[int | str] = (),
) -> list[Explained]:
    """Predict the classes of pictures, and draw where the models find the evidence for them.

    Every picture is resized and cut to the images that a model takes. Writes below `workdir`:
    `gallery.html`, one file that needs nothing else; `top5.csv`; the overlays
    `overlays/MODEL/METHOD/PICTURE.png` of the predicted class, and
    `overlays/MODEL/METHOD-NUMBER/PICTURE.png` of each of `classes`.

    Args:
      models: name -> a trained model, or a classifier of one's own with its normalisation.
      images: as for `find`.
      protocols: one for each method.
      classes: numbers or names of classes that are explained beside the predicted one.

    Returns:
      One for each picture and model, in the order of the pictures.

    Raises:
      UserError: as `find` and `prepare`; a picture that cannot be read, an output that is not
        finite.
    """
    workdir, paths = Path(workdir), find(images)
    root = os.path.commonpath([path.parent for path in paths])
    files = [Picture(i, os.path.relpath(path, root), path) for i, path in enumerate(paths)]
    found: list[Explained] = []
    with evaluate.computing(None), progress() as bar:
        ready = [prepare(name, model, protocols, classes) for name, model in models.items()]
        task = bar.add_task("reading pictures", total=len(files), note="")
        for file in files:  # a damaged one is told of before the first is explained
            pictures.read(file.path, 1)
            bar.advance(task)
        task, started = bar.add_task("explaining", total=len(files), note=""), time.monotonic()
        size = chunk_size(ready, len(files))
        for start in range(0, len(files), size):
            chunk = files[start : start + size]
            by_model = [_explained(one, chunk, size, workdir) for one in ready]
            found += [one for both in zip(*by_model, strict=True) for one in both]
            speed = (start + len(chunk)) / (time.monotonic() - started)
            bar.update(task, advance=len(chunk), note=f"{speed:.2g} a second")
    write_table(workdir / "top5.csv", table(found))
    runs.write_text(workdir / "gallery.html", page(found, ready))
    return found


def find(images: Paths) -> list[Path]:
    """The files that are meant, in the order given, each once.

    Args:
      images: files, folders (all pictures in one, by name) and patterns such as `photos/*.jpg` or
        `photos/**/*.png`: in one text with commas between them, or a sequence of such without.

    Raises:
      UserError: there is no such file, no picture in a folder, or none that a pattern matches.
    """
    if isinstance(images, str) and not Path(images).expanduser().exists():
        images = [entry.strip() for entry in images.split(",")]
    elif isinstance(images, str | os.PathLike):
        images = [images]
    found = [path for entry in images for path in _matches(os.path.expanduser(entry))]
    if not found:
        raise UserError("images names no pictures; give files, folders or patterns")
    return list(dict.fromkeys(Path(os.path.abspath(path)) for path in found))


def _matches(entry: str) -> list[Path]:
    """The pictures of one file, folder or pattern, by name."""
    path = Path(entry)
    if path.is_dir():
        candidates, where = list(path.iterdir()), f"{path} holds no pictures"
    elif path.exists() or not glob.has_magic(entry):
        if not path.is_file():
            raise UserError(f"there is no picture {path}")
        return [path]
    else:
        candidates = [Path(one) for one in glob.glob(entry, recursive=True)]
        where = f"no pictures match {entry}"
    found = [
        one for one in candidates if one.suffix.lower() in pictures.SUFFIXES and one.is_file()
    ]
    if not found:
        kinds = ", ".join(sorted(pictures.SUFFIXES))
        raise UserError(f"{where}; they are files that end in {kinds}")
    return sorted(found)


def prepare(
    name: str, model: Any, protocols: Sequence[Protocol], classes: Sequence[int | str]
) -> Prepared:
    """Raises:
    UserError: the model's images are not RGB; a method does not suit it; it has no such class.
    """
    height, width, channels = model.image_shape
    if channels != 3:
        raise UserError(
            f"{name} takes images of {channels} {'channel' if channels == 1 else 'channels'}; "
            "pictures are for models of RGB images"
        )
    made: dict[tuple[str, str], Classifier] = {}  # parameters are put on the devices once
    for one in protocols:
        if not hasattr(model, "classifier"):
            drawing.require_defined(model.model, one, masks=False)
        if (one.stage, one.mode) not in made:
            classifier = classifiers.as_classifier(model, one)
            made[one.stage, one.mode] = classifiers.everywhere(classifier, (height, width, 3))
    return Prepared(
        name,
        model,
        {one: made[one.stage, one.mode] for one in protocols},
        [class_number(one, model.class_names, name) for one in classes],
    )


def class_number(asked: int | str, names: Sequence[str], model: str) -> int:
    """The number of a class that is named or numbered.

    Raises:
      UserError: the model has no such class.
    """
    if isinstance(asked, str) and asked in names:
        return list(names).index(asked)
    if isinstance(asked, int) and 0 <= asked < len(names):
        return asked
    raise UserError(
        f"classes names {asked!r}, but {model} has the classes 0 ({names[0]}) to "
        f"{len(names) - 1} ({names[-1]})"
    )


def chunk_size(ready: Sequence[Prepared], files: int) -> int:
    """Pictures in memory at once; the devices divide it."""
    sizes = [evaluate.chunk_size(way, (), one.shape) for one in ready for way in one.classifiers]
    devices = jax.local_device_count()
    return devices * min(-(-files // devices), *sizes)


def _explained(
    one: Prepared, chunk: Sequence[Picture], size: int, workdir: Path
) -> list[Explained]:
    """Some pictures by one model; their overlays are written.

    Args:
      size: that the chunk is filled up to, so that one compilation serves all.
    """
    rows = np.arange(size) % len(chunk)
    images = np.stack([pictures.read(file.path, one.shape) for file in chunk])
    ids = np.array([file.number for file in chunk])
    logits, explained, maps = _computed(one, images[rows], ids[rows])
    for place, file in enumerate(chunk):
        if not np.isfinite(logits[place]).all() or not np.isfinite(maps[:, :, place]).all():
            raise UserError(f"{one.name}: the output for {file.path} is not finite; the weights are damaged")
    evaluate.require_logits({"probabilities": evaluate.are_probabilities(logits)}, one.name)
    return [
        _drawn(one, file, images[i], logits[i], explained[:, i], maps[:, :, i], workdir)
        for i, file in enumerate(chunk)
    ]


def _computed(
    one: Prepared, images: np.ndarray, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[N, H, W, 3] -> logits [N, K], classes [E, N] and maps [methods, E, N, H, W] in [0, 1]."""
    mean, std = np.float32(one.model.mean), np.float32(one.model.std)
    first = next(iter(one.classifiers.values()))
    logits = np.asarray(evaluate._logits(first, images, mean, std))
    others = [np.full(len(images), number) for number in one.classes]
    explained = np.stack([logits.argmax(1), *others])
    maps = [
        [
            evaluate._heatmaps(classifier, ids, images, some, None, mean, std, protocol)
            for some in explained
        ]
        for protocol, classifier in one.classifiers.items()
    ]
    return logits, explained, np.asarray(jax.device_get(maps))


def _drawn(...)
