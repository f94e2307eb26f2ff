"""`data.name=folder`: pictures in a folder per class, whole or streamed, and what is refused."""

import os
import shutil
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kdxai.data import datasets, folder, pictures, sources, stored, stream
from kdxai.errors import UserError


def fill(place: Path, classes: dict[str, int], seed: int = 0, shape=(10, 12, 3)) -> Path:
    """So many pictures in the folder of each class."""
    rng = np.random.default_rng(seed)
    for name, count in classes.items():
        (place / name).mkdir(parents=True)
        for i in range(count):
            image = rng.integers(0, 256, shape, np.uint8)
            Image.fromarray(image).save(place / name / f"{i:03}.png")
    return place


@pytest.fixture
def load(tmp_path):
    return partial(
        datasets.load, "folder", data_dir=tmp_path / "data", cache_dir=tmp_path / "cache", size=8
    )


@pytest.fixture
def shared(tmp_path) -> Path:
    """A directory without `train` and `test`."""
    return fill(tmp_path / "data", {"cat": 20, "ant": 9, "bee": 2})


@pytest.fixture
def split(tmp_path) -> Path:
    fill(tmp_path / "data" / "train", {"b": 12, "a": 13})
    fill(tmp_path / "data" / "test", {"a": 4, "b": 3}, seed=1)
    return tmp_path / "data"


def rows(*splits) -> list[tuple[bytes, int]]:
    return sorted(
        (image.tobytes(), int(label))
        for split in splits
        for image, label in zip(split.image[:], split.label, strict=True)
    )


def expected(place: Path, *names: str) -> list[tuple[bytes, int]]:
    return sorted(
        (pictures.read(path, 8).tobytes(), label)
        for label, name in enumerate(names)
        for path in (place / name).iterdir()
    )


def test_splits_by_folders(split, load):
    data = load(validation_size=6)
    assert (data.name, data.class_names) == ("folder", ("a", "b"))
    assert data.train.image.shape == (19, 8, 8, 3) and data.train.image.dtype == np.uint8
    assert data.train.label.dtype == np.int32 and data.train.mask is None
    assert rows(data.train, data.validation) == expected(split / "train", "a", "b")
    assert rows(data.test) == expected(split / "test", "a", "b")
    pixels = np.concatenate([data.train.image, data.validation.image]) / 255
    np.testing.assert_allclose(data.mean, pixels.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(data.std, pixels.std((0, 1, 2)), rtol=1e-6)


@pytest.mark.parametrize("name", ["val", "valid", "validation", "Val"])
def test_a_validation_folder(split, load, name):
    fill(split / name, {"a": 2, "b": 3}, seed=2)
    data = load()
    assert rows(data.validation) == expected(split / name, "a", "b")
    assert rows(data.train) == expected(split / "train", "a", "b")
    few = load(validation_size=2, resident_mib=0)
    np.testing.assert_array_equal(few.validation.image[:], data.validation.image[:2])
    # As ImageNet is kept, without test images: these are.
    shutil.rmtree(split / "test")
    data = load(validation_size=5)
    assert rows(data.test) == expected(split / name, "a", "b")
    assert rows(data.train, data.validation) == expected(split / "train", "a", "b")


def test_other_folders_beside_train_and_test_are_passed_over(split, load):
    fill(split / "extra", {"c": 3})
    assert load().class_names == ("a", "b")


def test_a_share_of_every_class_is_tested_on(shared, load):
    data = load(validation_size=0)
    assert data.class_names == ("ant", "bee", "cat")
    np.testing.assert_array_equal(np.bincount(data.test.label), [2, 1, 4])
    np.testing.assert_array_equal(np.bincount(data.train.label), [7, 1, 16])
    assert rows(data.train, data.test) == expected(shared, "ant", "bee", "cat")
    for share, counts in ((0.5, [4, 1, 10]), (0.01, [1, 1, 1]), (0.99, [8, 1, 19])):
        other = load(test_share=share)
        np.testing.assert_array_equal(np.bincount(other.test.label), counts)
    same = load(test_share=0.2, validation_size=0)
    assert datasets.fingerprint(same) == datasets.fingerprint(data)


def test_what_is_tested_on_is_a_draw_of_the_names_alone(shared, load, tmp_path):
    tested = rows(load().test)
    cats = sorted((shared / "cat").iterdir())
    kept = [i for i, path in enumerate(cats) if (pictures.read(path, 8).tobytes(), 2) in tested]
    assert len(kept) == 4 and kept not in ([0, 1, 2, 3], [16, 17, 18, 19])
    # Not of the place, nor of the order in which files were made.
    moved = tmp_path / "moved"
    for path in sorted(shared.rglob("*.png"), reverse=True):
        there = moved / path.relative_to(shared)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, there)
    other = load(data_dir=moved)
    assert rows(other.test) == tested
    assert datasets.fingerprint(other) == datasets.fingerprint(load())


def test_the_first_images_are_of_all_classes(tmp_path, load):
    fill(tmp_path / "data" / "train", {"a": 30, "b": 30}, shape=(2, 2))
    fill(tmp_path / "data" / "test", {"a": 30, "b": 30}, shape=(2, 2))
    data = load(train_size=10)
    assert set(data.train.label) == set(data.test.label[:10]) == {0, 1}


def test_what_streams_is_what_would_be_decoded(split, load, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK", 4)
    fill(split / "val", {"a": 2, "b": 3}, seed=2)
    decoded, streamed = load(), load(resident_mib=0)
    assert datasets.fingerprint(streamed) == datasets.fingerprint(decoded)
    np.testing.assert_array_equal(streamed.mean, decoded.mean)
    np.testing.assert_array_equal(streamed.std, decoded.std)
    for name in ("train", "validation", "test"):
        one, other = getattr(streamed, name), getattr(decoded, name)
        assert isinstance(one.image, stream.Records) and isinstance(other.image, np.ndarray)
        np.testing.assert_array_equal(one.image[:], other.image)
        np.testing.assert_array_equal(one.label, other.label)
    plan = np.random.default_rng(0).permutation(24).reshape(6, 4)
    for workers in (0, 2):
        found = list(stream.batches(streamed.train.image, plan, workers))
        np.testing.assert_array_equal(found, decoded.train.image[plan])


@pytest.mark.parametrize("limit", [None, 0])
def test_pictures_are_read_once(split, load, limit, monkeypatch):
    first = load(resident_mib=limit)
    monkeypatch.setattr(stored, "batches", None)
    second = load(resident_mib=limit)
    assert datasets.fingerprint(first) == datasets.fingerprint(second)
    monkeypatch.undo()
    cache = split.parent / "cache"
    known = set(cache.iterdir())

    def made() -> int:
        before = len(known)
        known.update(cache.iterdir())
        return len(known) - before

    load(resident_mib=limit, size=9)
    assert made() == 1
    # What makes another content: a date, a name, a picture more, a picture less.
    path = split / "train" / "a" / "000.png"
    os.utime(path, (1, 1))
    assert datasets.fingerprint(load(resident_mib=limit)) == datasets.fingerprint(first)
    assert made() == 1
    path.rename(path.with_name("zzz.png"))
    load(resident_mib=limit)
    assert made() == 1
    shutil.copy(path.with_name("zzz.png"), path)
    assert len(load(resident_mib=limit, validation_size=0).train.label) == 26
    assert made() == 1
    path.unlink()
    load(resident_mib=limit)
    assert made() == 0  # as before


def test_what_lies_about_is_passed_over(split, load):
    known = datasets.fingerprint(load())
    (split / "train" / "a" / ".DS_Store").write_bytes(b"\0")
    (split / "train" / "a" / "._000.png").write_bytes(b"\0")
    (split / "train" / "a" / "notes.txt").write_text("not a picture")
    (split / "train" / ".ipynb_checkpoints").mkdir()
    (split / "test" / ".cache").mkdir()
    (split / "train" / "a" / "empty").mkdir()
    (split / "README.png").write_text("beside the splits")
    (split / "train" / "labels.csv").write_text("a,b")
    assert datasets.fingerprint(load()) == known


def test_folders_within_a_class_and_links(split, load, tmp_path):
    """As Tiny ImageNet is kept; and a set of links to pictures that lie elsewhere."""
    known = datasets.fingerprint(load())
    deep = split / "train" / "a" / "images"
    deep.mkdir()
    paths = sorted((split / "train" / "a").glob("*.png"))
    for path in paths:
        path.rename(deep / path.name)
    assert datasets.fingerprint(load()) == known
    linked = tmp_path / "linked"
    (linked / "test" / "b").mkdir(parents=True)
    (linked / "train").symlink_to(split / "train")
    (linked / "test" / "a").symlink_to(split / "test" / "a")
    for path in (split / "test" / "b").iterdir():
        (linked / "test" / "b" / path.name).symlink_to(path)
    (linked / "test" / "b" / "loop").symlink_to(linked)
    assert datasets.fingerprint(load(data_dir=linked)) == known
    (linked / "test" / "b" / "gone.png").symlink_to(tmp_path / "nowhere")
    assert "gone.png: No such file" in refused(partial(load, data_dir=linked))


def test_all_kinds_of_pictures_become_one(tmp_path, load):
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        place = tmp_path / "data" / name
        place.mkdir(parents=True)
        for mode, suffix in (
            *(("L", "png"), ("1", "PNG"), ("P", "png"), ("RGBA", "png"), ("LA", "png")),
            *(("RGB", "jpg"), ("CMYK", "JPEG"), ("L", "Jpg"), ("RGB", "webp"), ("RGB", "bmp")),
        ):
            shape = rng.integers(5, 40, 2)
            image = Image.fromarray(rng.integers(0, 256, (*shape, 3), np.uint8)).convert(mode)
            image.save(place / f"{mode}.{suffix}")
    data = load(validation_size=0)
    assert data.train.image.shape == (16, 8, 8, 3) and data.test.image.shape == (4, 8, 8, 3)


@pytest.mark.parametrize("size", [32, 50, 224])
def test_sizes(tmp_path, load, size):
    fill(tmp_path / "data", {"a": 2, "b": 2}, shape=(40, 60, 3))
    for limit in (None, 0):
        data = load(size=size, resident_mib=limit, validation_size=0)
        assert data.train.image.shape == (2, size, size, 3)


def test_names_of_all_scripts(tmp_path, load):
    names = ["Katze", "kat\u0103", "\u732b", "a b, c", os.fsdecode(b"\xff")]
    fill(tmp_path / "data", dict.fromkeys(names, 2))
    for limit in (None, 0):
        assert load(resident_mib=limit).class_names == tuple(sorted(names))


# A thousand classes.


def test_a_thousand_classes(tmp_path, load):
    content = []
    for i in range(3):
        Image.fromarray(np.full((9, 9), 100 * i, np.uint8)).save(tmp_path / "x.png")
        content.append((tmp_path / "x.png").read_bytes())
    for label in range(1000):
        place = tmp_path / "data" / f"n{label:04}"
        place.mkdir(parents=True)
        for i in range(3):
            (place / f"{i}.png").write_bytes(content[i])
    start = time.monotonic()
    data = load(resident_mib=0, validation_size=0)
    assert time.monotonic() - start < 20  # 1.5 s
    assert len(data.class_names) == 1000
    np.testing.assert_array_equal(np.bincount(data.train.label), np.full(1000, 2))
    np.testing.assert_array_equal(np.bincount(data.test.label), np.ones(1000))
    # Each class draws its own.
    levels = data.test.image[:][:, 0, 0, 0]
    assert (np.bincount(levels, minlength=201)[[0, 100, 200]] > 250).all()


# What is refused.


def refused(load, **options) -> str:
    with pytest.raises(UserError) as error:
        load(**options)
    message = str(error.value)
    assert "\n" not in message and len(message) < 500
    return message


@pytest.mark.parametrize("limit", [None, 0])
@pytest.mark.parametrize("damage", ["cut", "text", "empty", "unreadable"])
def test_one_damaged_file_is_named(split, load, damage, limit):
    path = split / "train" / "b" / "007.png"
    content = path.read_bytes()
    path.write_bytes({"cut": content[:-30], "text": b"hello"}.get(damage, b""))
    if damage == "unreadable":
        path.unlink()
        path.symlink_to(path.name)
    assert str(path) in refused(load, resident_mib=limit)
    assert not list(split.parent.glob("cache/*"))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_goes_while_it_streams(split, load, workers):
    images = load(resident_mib=0, validation_size=0).train.image
    path = split / "train" / "b" / "007.png"
    path.unlink()
    with pytest.raises(UserError, match="007.png") as error:
        list(stream.batches(images, np.arange(25).reshape(5, 5), workers))
    assert "\n" not in str(error.value)


def test_directories_that_do_not_suit(tmp_path, load):
    data = tmp_path / "data"
    assert f"there is no directory {data}" in refused(load)
    data.write_text("")
    assert f"there is no directory {data}" in refused(load)
    data.unlink()
    data.mkdir()
    assert f"{data} has no folder: two classes or more" in refused(load)
    Image.new("RGB", (9, 9)).save(data / "loose.png")
    assert f"{data} has no folder: two classes or more" in refused(load)
    fill(data, {"cat": 3})
    assert f"{data} has only one folder, cat: two classes or more" in refused(load)
    (data / "dog").mkdir()
    assert f"{data / 'dog'} holds no picture (PNG, JPEG, WebP or BMP)" in refused(load)
    Image.new("RGB", (9, 9)).save(data / "dog" / "1.png")
    assert f"{data / 'dog'} holds one picture: give two" in refused(load)


def test_splits_that_do_not_suit(tmp_path, load):
    data = tmp_path / "data"
    fill(data / "train", {"a": 3, "b": 3})
    message = refused(load)
    assert f"{data} has train alone: put train and test there, or set data_dir to" in message
    assert load(data_dir=data / "train").class_names == ("a", "b")
    fill(data / "test", {"a": 3})
    assert f"{data / 'test'} has only one folder, a:" in refused(load)
    fill(data / "test", {"c": 3, "d": 1})
    assert f"{data / 'test'} has a class c and 1 more, unlike the training" in refused(load)
    shutil.rmtree(data / "test" / "c")
    (data / "test" / "d").rename(data / "test" / "b")
    fill(data / "train", {"c": 1})
    assert f"{data / 'test'} lacks the class c, unlike the training" in refused(load)
    fill(data / "test", {"c": 1})
    fill(data / "val", {"a": 1, "d": 1, "b": 1, "c": 1})
    assert f"{data / 'val'} has a class d, unlike the training" in refused(load)
    shutil.rmtree(data / "val" / "d")
    load()
    fill(data / "valid", {"a": 1, "b": 1, "c": 1})
    assert f"{data} has test, train, val, valid: keep one folder for each split" in refused(load)
    shutil.rmtree(data / "train")
    assert f"{data} has test and val and valid alone" in refused(load)
    # A class may be called so, among others.
    fill(tmp_path / "other", {"train": 3, "truck": 3})
    assert load(data_dir=tmp_path / "other").class_names == ("train", "truck")


def test_settings_that_do_not_suit(split, load, shared_elsewhere):
    assert "the data set folder needs data_dir" in refused(load, data_dir=None)
    assert "the data set folder needs size" in refused(load, size=None)
    assert "size is 0" in refused(load, size=0)
    assert "test and train: leave test_share out" in refused(load, test_share=0.2)
    for share in (0, 1, -0.5, 20, float("nan")):
        message = refused(load, data_dir=shared_elsewhere, test_share=share)
        assert f"test_share is {share}: it must be between 0 and 1" in message
    for name in ("shapes", "cifar10"):
        for option in ({"size": 32}, {"test_share": 0.3}):
            with pytest.raises(UserError) as error:
                datasets.load(name, **option)
            assert f"{next(iter(option))} is for" in str(error.value)


@pytest.fixture
def shared_elsewhere(tmp_path):
    return fill(tmp_path / "shared", {"a": 2, "b": 2})


def test_a_folder_that_may_not_be_read(split, load, monkeypatch):
    def scandir(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(folder.os, "scandir", scandir)
    assert f"cannot read {split / 'test' / 'a'}: Permission denied" in refused(load)
