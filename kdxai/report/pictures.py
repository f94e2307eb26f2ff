"""Pictures of one's own: what models see in them, and where."""

import glob
import itertools
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from ml_collections import ConfigDict
from PIL import Image

from kdxai import classifiers, drawing, evaluate, files
from kdxai.data import augment, pictures
from kdxai.errors import UserError, printable
from kdxai.evaluate import admission
from kdxai.evaluate.rows import Entry, drawn_maps
from kdxai.explain import Classifier
from kdxai.externals import External
from kdxai.measures import Model
from kdxai.progress import progress
from kdxai.protocol import Protocol, needs
from kdxai.report import cards, gallery
from kdxai.report.gallery import SIDE, Explained, Map, Prediction
from kdxai.report.overlay import overlay
from kdxai.report.write import write_table
from kdxai.study import members, wanted

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]

TOP = 5  # classes that are named
MOST = 200  # pictures on the page: each map adds some 20 kB
CHUNK = 16  # pictures on each device at most, so that the bar moves


class File(NamedTuple):
    """A picture.

    Attributes:
      number: its place among all, which random methods draw by.
      name: its place in the folder that all share.
    """

    number: int
    name: str
    path: Path


class Prepared(NamedTuple):
    """A model that is ready for pictures.

    Attributes:
      classifiers: protocol -> the model as that asks for it.
      classes: numbers of those that are explained beside the predicted one.
    """

    name: str
    model: Model
    classifiers: Mapping[Protocol, Classifier]
    classes: Sequence[int]

    @property
    def shape(self) -> tuple[int, int]:
        """(H, W) of its images."""
        height, width, _ = self.model.image_shape
        return height, width

    def read(self, path: Path, times: int = 1) -> np.ndarray:
        """uint8 [times H, times W, 3]: a picture as the model is shown it."""
        height, width = self.shape
        return pictures.read(path, (times * height, times * width), self.model.facts.get("crop", 1))


def explain_pictures(
    models: Mapping[str, Model],
    images: Paths,
    protocols: Sequence[Protocol],
    workdir: str | os.PathLike[str],
    classes: Sequence[int | str] = (),
) -> list[Explained]:
    """Predict the classes of pictures, and draw where models find the evidence for them.

    Every picture is resized and cut to the images that a model takes. Writes below `workdir`:
    `gallery.html`, one file that needs nothing else, of the first `MOST` pictures; `top5.csv`; and
    the overlays, `overlays/MODEL/METHOD/PICTURE.png` of the predicted class and
    `overlays/MODEL/METHOD-NUMBER/PICTURE.png` of each of `classes`.

    Args:
      images: as for `find`.
      protocols: one for each method.
      classes: numbers or names of classes that are explained beside the predicted one.

    Returns:
      One for each picture and model, in the order of the pictures.

    Raises:
      UserError: as `find` and `prepare`; a picture that cannot be read, outputs that are not finite
        or no logits.
    """
    workdir, asked = Path(workdir), find(images)
    members.require_names(models)  # folders are called so
    found: list[Explained] = []
    with evaluate.computing(None), progress() as bar:
        ready = [prepare(name, model, protocols, classes) for name, model in models.items()]
        task = bar.add_task("reading pictures", total=len(asked), note="")
        for file in asked:  # a damaged one is told of before the first is explained
            pictures.read(file.path, 1)
            bar.advance(task)
        try:
            workdir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot use {workdir}: {error.strerror}; choose another") from error
        task, started = bar.add_task("explaining", total=len(asked), note=""), time.monotonic()
        size = chunk_size(ready, len(asked))
        for start in range(0, len(asked), size):
            chunk = asked[start : start + size]
            by_model = [explain_chunk(one, chunk, size, workdir) for one in ready]
            found += itertools.chain.from_iterable(zip(*by_model, strict=True))
            speed = (start + len(chunk)) / (time.monotonic() - started)
            bar.update(task, advance=len(chunk), note=f"{speed:.2g} a second")
    write_table(workdir / "top5.csv", gallery.table(found))
    files.write_text(workdir / "gallery.html", gallery.page(found, models))
    return found


def explain(config: ConfigDict, workdir: str | os.PathLike[str]) -> list[Explained]:
    """`explain_pictures` by the settings of configs/explain.py.

    Raises:
      UserError: as `explain_pictures`; a model that cannot be read, no such method.
    """
    paths = [file.path for file in find(config.images)]  # before models are read
    classes = config.classes
    if isinstance(classes, str):
        classes = [name.strip() for name in classes.split(",")]
    return explain_pictures(
        by_name(config.models),
        paths,
        wanted.protocols(config),
        workdir,
        classes if isinstance(classes, list | tuple) else [classes],
    )


def by_name(models: str | Sequence[str]) -> dict[str, Model]:
    """The models of `members.named_places`; several of one name are told apart by their number.

    Raises:
      UserError: one cannot be read.
    """
    found = members.opened(members.named_places(models))
    count = Counter(one.name for one in found)
    return {
        one.name if count[one.name] == 1 else f"{one.name} {one.seed}": one.model for one in found
    }


def find(images: Paths) -> list[File]:
    """The pictures that are meant, in the order given, each once.

    Args:
      images: files, folders (the pictures in one) and patterns such as `photos/*.jpg` and
        `photos/**/*.png`: one text with commas between them, or a sequence of them.

    Raises:
      UserError: there is no such file, no picture in a folder, or none that a pattern matches.
    """
    if isinstance(images, str) and not os.path.exists(os.path.expanduser(images)):
        images = [entry for text in images.split(",") if (entry := text.strip())]
    elif isinstance(images, str | os.PathLike):
        images = [images]
    if not images or not isinstance(images, list | tuple):
        raise UserError("images names no pictures; give files, folders or patterns")
    paths = [path for entry in images for path in _matches(os.path.expanduser(entry))]
    paths = list(dict.fromkeys(Path(os.path.abspath(path)) for path in paths))
    root = os.path.commonpath([path.parent for path in paths])
    return [File(i, os.path.relpath(path, root), path) for i, path in enumerate(paths)]


def _matches(entry: str | os.PathLike[str]) -> list[Path]:
    """The pictures of one file, folder or pattern, by name."""
    path, pattern = Path(entry), str(entry)
    if os.path.isdir(path):
        candidates, problem = _inside(path), f"the folder {path} holds no pictures"
    elif os.path.exists(path):
        return [path]
    elif glob.has_magic(pattern):
        candidates = [Path(one) for one in glob.glob(pattern, recursive=True)]
        problem = f"no pictures match {pattern}"
    else:
        raise UserError(f"there is no picture or folder {path}")
    found = [one for one in candidates if one.suffix.lower() in pictures.SUFFIXES and one.is_file()]
    if not found:
        raise UserError(f"{problem}; their names end in {', '.join(sorted(pictures.SUFFIXES))}")
    return sorted(found)


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError as error:
        raise UserError(f"cannot read {folder}: {error.strerror}") from error


def prepare(
    name: str, model: Model, protocols: Sequence[Protocol], classes: Sequence[int | str]
) -> Prepared:
    """Put a model on the devices, as each method asks for it.

    Raises:
      UserError: the model's images are not RGB, a method does not suit it, it has no such class.
    """
    height, width, channels = model.image_shape
    if channels != 3:
        raise UserError(
            f"{name} takes images of {channels} channel{'s' * (channels > 1)}, but pictures are "
            "RGB; give a model of RGB images"
        )
    made: dict[tuple[str, str, bool], Classifier] = {}  # parameters are on the devices once
    ways: dict[Protocol, Classifier] = {}
    for one in protocols:
        if needs(one.method, "background"):
            raise UserError(f"{one.method} needs a data set's images; take integrated_gradients")
        if isinstance(model, External):
            wanted.require_drawable(model, one, masks=False)
        else:
            drawing.require_defined(model.model, one, masks=False)
        cut = one.stage, one.mode, needs(one.method, "earlier")
        if cut not in made:
            classifier = classifiers.as_classifier(model, one)
            made[cut] = classifiers.everywhere(classifier, (height, width, 3))
        ways[one] = made[cut]
    return Prepared(name, model, ways, [class_number(one, model, name) for one in classes])


def class_number(asked: int | str, model: Model, name: str) -> int:
    """The number of a class that is named or numbered.

    Raises:
      UserError: the model has no such class.
    """
    names = list(model.class_names)
    if asked in names:
        return names.index(asked)
    if str(asked).isdecimal() and int(asked) < len(names):
        return int(asked)
    raise UserError(
        f"{name} has no class {asked!r}; its classes are 0 ({names[0]}) to {len(names) - 1} "
        f"({names[-1]})"
    )


def chunk_size(ready: Sequence[Prepared], count: int) -> int:
    """Pictures in memory at once; the devices divide it."""
    sizes = [evaluate.chunk_size(way, (), one.shape) for one in ready for way in one.classifiers]
    devices = jax.local_device_count()
    return devices * min(-(-count // devices), CHUNK, *sizes)


def explain_chunk(
    one: Prepared, chunk: Sequence[File], size: int, workdir: Path
) -> list[Explained]:
    """Some pictures by one model; writes their overlays.

    Args:
      size: to which the chunk is filled up, so that one compilation serves all.
    """
    rows = np.arange(size) % len(chunk)
    images = np.stack([one.read(file.path) for file in chunk])
    ids = np.array([file.number for file in chunk])
    logits, classes, heatmaps = _computed(one, images[rows], ids[rows])
    found = []
    for i, file in enumerate(chunk):
        if not (np.isfinite(logits[i]).all() and np.isfinite(heatmaps[:, :, i]).all()):
            raise UserError(
                f"{one.name}: the output for {file.path} is not finite; the weights are damaged"
            )
        names, probabilities = one.model.class_names, np.asarray(jax.nn.softmax(logits[i]))
        every = [Prediction(k, names[k], float(p)) for k, p in enumerate(probabilities)]
        found.append(
            Explained(
                picture=printable(file.name),
                model=one.name,
                top=[every[k] for k in np.argsort(-probabilities, kind="stable")[:TOP]],
                maps=_draw(
                    one, file, [every[k] for k in classes[:, i]], heatmaps[:, :, i], workdir
                ),
                uri=gallery.data_uri(images[i]) if file.number < MOST else "",
            )
        )
    return found


def _computed(
    one: Prepared, images: np.ndarray, ids: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """[N, H, W, 3] -> logits [N, K], classes [E, N] and heatmaps [methods, E, N, H, W]."""
    normalisation = np.float32(one.model.mean), np.float32(one.model.std)
    first = augment.normalise(images[0], *normalisation)
    way = next(iter(one.classifiers.values()))
    logits = np.asarray(admission.logits_of(way, images, normalisation))
    others = [np.full(len(images), number) for number in one.classes]
    classes = np.stack([logits.argmax(1), *others])
    heatmaps = []
    for protocol, classifier in one.classifiers.items():
        doubts = admission.doubts(protocol, classifier, first, jnp.asarray(logits), classes[0, 0])
        admission.require_logits({k: np.asarray(value) for k, value in doubts.items()}, one.name)
        entries = [Entry(ids, images, some) for some in classes]
        heatmaps.append(  # fetched one by one: few programs are under way at once
            [np.asarray(drawn_maps(classifier, e, normalisation, protocol)) for e in entries]
        )
    return logits, classes, np.array(heatmaps)


def _draw(
    one: Prepared,
    file: File,
    explained: Sequence[Prediction],
    heatmaps: np.ndarray,
    workdir: Path,
) -> dict[Prediction, list[Map]]:
    """Write the overlays of one picture.

    Args:
      explained: E classes, the predicted one first.
      heatmaps: [methods, E, H, W] in [0, 1].

    Returns:
      Each class once: the predicted one may be among those asked for.
    """
    picture = one.read(file.path, times=-(-SIDE // min(one.shape)))
    found: dict[Prediction, list[Map]] = {}
    for e, prediction in enumerate(explained):
        maps = []
        for protocol, heatmap in zip(one.classifiers, heatmaps[:, e], strict=True):
            pixels = overlay(picture, heatmap)
            folder = f"{protocol.method}-{prediction.number}" if e else protocol.method
            path = Path("overlays", one.name, folder, f"{file.name}.png")
            for parent in reversed(path.parents[:-1]):
                files.make_directory(workdir / parent)
            files.write_bytes(workdir / path, cards.encoded(Image.fromarray(pixels), "PNG"))
            uri = gallery.data_uri(pixels) if file.number < MOST else ""
            maps.append(Map(protocol.method, cards.described(heatmap), uri))
        found.setdefault(prediction, maps)
    return found
