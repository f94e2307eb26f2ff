"""Decoded arrays: directories of .npz files, of the cache or a user's own, checked at the door.

A directory holds `train.npz`, `test.npz` and, where the data have one, `validation.npz`, each with
`image` (uint8 [N, H, W, C]), `label` (integers [N]) and perhaps `mask` (bool [N, H, W]). A file of
MedMNIST holds all three. Beside them there may be an `info.json`: `class_names`, `mean`, `std`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from kdxai.data.sources import (
    STD,
    Dataset,
    Request,
    Split,
    checked_class_names,
    checked_labels,
    mean_and_std_of,
    require_classes,
)
from kdxai.errors import UserError, one_line

CLASS_NAMES = {
    "cifar10": (
        *("airplane", "automobile", "bird", "cat", "deer"),
        *("dog", "frog", "horse", "ship", "truck"),
    )
}
MEDMNIST = {"train": "train", "validation": "val", "test": "test"}  # how it calls the splits


def holds_arrays(request: Request) -> bool:
    """Whether the directory holds decoded arrays, or is or holds a file of MedMNIST."""
    return _is_decoded(request.directory) or _archive(request).is_file()


def load(request: Request) -> Dataset:
    """The arrays of a directory or of a file of MedMNIST.

    Raises:
      UserError: as of `read`.
    """
    if _is_decoded(request.directory):
        return read(request.name, request.directory)
    return read_archive(request.name, _archive(request))


def _is_decoded(directory: Path) -> bool:
    return any((directory / f"{split}.npz").exists() for split in ("train", "test"))


def _archive(request: Request) -> Path:
    place = request.directory
    return place if place.suffix == ".npz" else place / f"{request.name}.npz"


def read(name: str, directory: Path) -> Dataset:
    """A directory of decoded arrays; `validation` is empty where it has none.

    Raises:
      UserError: a file is missing or damaged, or the arrays do not suit.
    """
    paths = {split: directory / f"{split}.npz" for split in ("train", "validation", "test")}
    if not paths["validation"].exists():
        del paths["validation"]
    return _dataset(name, directory, {s: _read_split(path) for s, path in paths.items()})


def read_archive(name: str, path: Path) -> Dataset:
    """A file of MedMNIST: `train_images` [N, H, W] or [N, H, W, 3], `train_labels` [N, 1], ...

    Raises:
      UserError: as of `read`.
    """
    keys = {split: (f"{its}_images", f"{its}_labels") for split, its in MEDMNIST.items()}
    splits = {split: _read_split(path, *pair) for split, pair in keys.items()}
    if (channels := splits["train"].image.shape[-1]) not in (1, 3):
        raise UserError(
            f"{path} holds volumes or images of {channels} channels, not pictures with 1 or 3: "
            "write train.npz and test.npz with images of uint8 [N, H, W, C]"
        )
    return _dataset(name, path, splits)


def _dataset(name: str, place: Path, splits: Mapping[str, Split]) -> Dataset:
    """Splits that are right by themselves, as a data set.

    Args:
      place: what holds them, a directory or a file.
    """
    shapes = {split: list(arrays.image.shape[1:]) for split, arrays in splits.items()}
    if len(set(map(str, shapes.values()))) > 1:
        told = " and ".join(f"{shape} in {split}" for split, shape in shapes.items())
        raise UserError(f"the images in {place} differ: {told}")
    info_path = (place if place.is_dir() else place.parent) / "info.json"
    info = _read_info(info_path)
    if info.get("name", name) != name:
        raise UserError(
            f"{place} holds {info['name']}, not {name}: ask for that or set another directory"
        )
    class_names = checked_class_names(
        info["class_names"] or CLASS_NAMES.get(name, ()), splits, place
    )
    train = splits["train"]
    require_classes(place, train.label)
    normalisation = _given_normalisation(info, info_path, train.image.shape[-1])
    mean, std = normalisation or mean_and_std_of(place, train.image)
    validation = splits.get("validation", train.select(slice(0)))
    return Dataset(name, class_names, mean, std, train, validation, splits["test"])


def _read_split(path: Path, image_key: str = "image", label_key: str = "label") -> Split:
    """The arrays of one split, checked."""
    try:
        with np.load(path, allow_pickle=False) as file:
            image, label = file[image_key], file[label_key]
            mask = file.get("mask")
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing: {path.parent} needs train.npz and test.npz") from error
    except Exception as error:  # a damaged file fails in many ways
        raise UserError(
            f"cannot read the arrays {image_key} and {label_key} of {path} ({one_line(error)}): "
            f"bring a whole file, or delete {path.parent} if kdxai wrote it there as a cache"
        ) from error
    if image_key != "image" and image.ndim == 3:  # MedMNIST's grey pictures
        image = image[..., None]
    _require_pictures(f"{image_key} in {path}", image)
    label = checked_labels(f"{label_key} in {path}", label, len(image))
    if mask is not None and (mask.dtype != bool or mask.shape != image.shape[:3]):
        raise UserError(
            f"mask in {path} is {mask.dtype} {list(mask.shape)}: it must be bool "
            f"{list(image.shape[:3])} (store mask > 0), or not there"
        )
    return Split(image, label, mask)


def _require_pictures(what: str, image: np.ndarray) -> None:
    """Check an array of images.

    Raises:
      UserError: not uint8 [N, H, W, C].
    """
    what = f"{what} is {image.dtype} {list(image.shape)}"
    if image.dtype != np.uint8:
        raise UserError(
            f"{what}: it must be uint8 [N, H, W, C], 0 to 255 as pictures are stored; kdxai scales "
            f"and normalises by itself ({_cure(image)})"
        )
    if image.ndim != 4 or 0 in image.shape:
        hint = " (of grey pictures image[..., None])" if image.ndim == 3 else ""
        raise UserError(f"{what}: it must be uint8 [N, H, W, C]{hint}")
    _, first, height, last = image.shape
    if first <= 4 < last and first < height:
        raise UserError(
            f"{what}, {first} pixels high with {last} channels: if {first} is the number of "
            "channels, store image.transpose(0, 2, 3, 1)"
        )


def _cure(image: np.ndarray) -> str:
    """How to store images of another type."""
    if image.dtype.kind not in "iuf" or not image.size:
        return "store pixels as numbers"
    low, high = image.min(), image.max()
    if low < 0 or not np.isfinite(high):
        return "store the images as they were before they were normalised"
    if image.dtype.kind == "f" and high <= 1:
        return "store (255 * image).round().astype('uint8')"
    if high <= 255:
        return "store image.round().astype('uint8')"
    return "store (image // 257).astype('uint8') of 16-bit images"


def _read_info(path: Path) -> dict[str, Any]:
    """What `info.json` says, class names as a tuple of texts; empty where there is none."""
    try:
        info: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        names = info.get("class_names", [])
        if not isinstance(names, list):
            raise TypeError("class_names is not a list")
        return info | {"class_names": tuple(map(str, names))}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f"cannot read {path} ({one_line(error)}): mend it or delete it") from error


def _given_normalisation(
    info: Mapping[str, Any], path: Path, channels: int
) -> tuple[np.ndarray, np.ndarray] | None:
    """Mean and deviation as `info.json` states them; None where it does not.

    Raises:
      UserError: they are not those of pixels scaled to [0, 1].
    """
    if "mean" not in info and "std" not in info:
        return None
    try:
        mean, std = (np.asarray(info[key], np.float32) for key in ("mean", "std"))
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"cannot read mean and std of {path} ({one_line(error)}): give both, as lists of "
            "numbers, or neither"
        ) from error
    if not mean.shape == std.shape == (channels,):
        raise UserError(f"mean and std in {path} must have one number for each channel")
    in_range = ((mean >= 0) & (mean <= 1) & (std >= STD[0]) & (std <= STD[1])).all()
    if not in_range:
        raise UserError(
            f"mean {mean.tolist()} and std {std.tolist()} in {path} are not those of pixels scaled "
            f"to [0, 1]: mean must be from 0 to 1 and std from {STD[0]} to {STD[1]}; divide those "
            "of pixels up to 255 by 255, or delete both"
        )
    return mean, std
