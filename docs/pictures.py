"""The pictures of README and docs/, drawn from a finished quick study.

    python launch/study.py --config configs/study.py:quick --workdir runs/quick
    python docs/pictures.py --workdir runs/quick

A minute on two CPU cores. The transformer of the last row is an untrained one.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np
import tables
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from kdxai import Protocol, models, overlay
from kdxai.classifiers import as_classifier
from kdxai.data import datasets
from kdxai.data.datasets import Dataset, Split
from kdxai.evaluate import show
from kdxai.models import trained
from kdxai.models.trained import Trained
from kdxai.report import titles

PICTURES = Path(__file__).parent / "pictures"
SHAPES = ("teacher", "student", "control")
FIRST = 3  # images of the first picture
COLOURS = 128  # of a picture, which keeps it small


def main(workdir: Path) -> None:
    found = {name: trained.load(workdir / "seed0" / name) for name in SHAPES}
    data = datasets.load(**{**found["teacher"].facts["data"], "train_size": 200})
    first_look(found, data)
    every_method(found["teacher"], data)


def first_look(found: dict[str, Trained], data: Dataset) -> None:
    """Images, and where each model looks."""
    split = some(data.test, right(found, data.test)[:FIRST])
    figure = Figure(figsize=(1.6 * (1 + len(found)), 1.55 * FIRST + 0.3), layout="constrained")
    axes = figure.subplots(FIRST, 1 + len(found), squeeze=False)
    for ax, name in zip(axes[0], ("image", *found), strict=True):
        ax.set_title(name, fontsize=11)
    for column, model in enumerate([None, *found.values()]):
        for row, image in enumerate(split.image):
            shown = image if model is None else maps(model, split, "cam", data)[row]
            draw(axes[row, column], shown)
    save(figure, "first-look.png")


def every_method(model: Trained, data: Dataset) -> None:
    """One image by every method, those on a feature map first."""
    split = some(data.test, right({"teacher": model}, data.test)[4:5])
    transformer = untrained("vit-2-32-2", model)
    groups = {**tables.groups(), "Controls": [*tables.CONTROLS, "mask"]}
    columns = 6
    rows = {
        name: [them[i : i + columns] for i in range(0, len(them), columns)]
        for name, them in groups.items()
    }
    count = sum(map(len, rows.values()))
    figure = Figure(figsize=(1.35 * columns, 1.5 * count + 0.2 * len(groups)), layout="constrained")
    parts = figure.subfigures(
        len(rows), 1, height_ratios=[len(them) + 0.2 for them in rows.values()]
    )
    for part, (title, lines) in zip(parts, rows.items(), strict=True):
        part.suptitle(title, fontsize=11, weight="bold", x=0.01, ha="left")
        axes = part.subplots(len(lines), columns, squeeze=False)
        for ax in axes.flat:
            ax.set_axis_off()
        for line, these in zip(axes, lines, strict=True):
            for ax, name in zip(line, these, strict=False):
                one = transformer if title == "Of transformers" else model
                draw(ax, maps(one, split, name, data)[0])
                ax.set_title(titles.method(name), fontsize=7)
    save(figure, "methods.png")


def maps(model: Trained, split: Split, method: str, data: Dataset) -> np.ndarray:
    """[N, H, W, 3] maps over the images, for the class that the model predicts."""
    protocol = Protocol(method=method)
    classifier = as_classifier(model, protocol, data.train.image)
    found = show(
        classifier, split.image, protocol, mean=model.mean, std=model.std, masks=split.mask
    )
    return np.stack([overlay(*pair) for pair in zip(split.image, found.maps, strict=True)])


def right(found: dict[str, Trained], split: Split) -> list[int]:
    """Images that all models classify correctly, a class once, from the first on."""
    chosen: dict[int, int] = {}
    images, labels = split.image[:100], split.label[:100]
    answers = [
        show(as_classifier(one), images, Protocol(), mean=one.mean, std=one.std).predicted
        for one in found.values()
    ]
    for place in np.flatnonzero(np.all([answer == labels for answer in answers], axis=0)):
        chosen.setdefault(int(labels[place]), int(place))
    return sorted(chosen.values())


def some(split: Split, places: Sequence[int]) -> Split:
    return Split(*(part[list(places)] for part in split))


def untrained(name: str, like: Trained) -> Trained:
    """A network of random weights for the same images."""
    model = models.create(name, num_classes=len(like.class_names))
    variables = model.init(jax.random.key(0), np.zeros((1, *like.image_shape), np.float32))
    return like._replace(model=model, architecture={"name": name}, variables=variables)


def draw(ax: Axes, picture: np.ndarray) -> None:
    ax.imshow(picture, interpolation="nearest")
    ax.set_axis_off()


def save(figure: Figure, name: str) -> None:
    """A PNG of few colours."""
    PICTURES.mkdir(exist_ok=True)
    figure.savefig(PICTURES / name, dpi=110)
    Image.open(PICTURES / name).convert("RGB").quantize(COLOURS).save(
        PICTURES / name, optimize=True
    )
    print(f"{PICTURES / name}: {(PICTURES / name).stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--workdir", type=Path, required=True, help="of the finished study")
    main(arguments.parse_args().workdir)
