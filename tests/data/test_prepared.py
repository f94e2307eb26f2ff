"""`kdxai.data.prepared` and `tfrecord`: the formats of TFDS, and what a directory may not do."""

import json
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from prepared import prepare_tiny
from tensorboardX.record_writer import RecordWriter
from tensorflow_datasets.core import registered

from kdxai.data import datasets, tfrecord
from kdxai.errors import UserError


def prepare(root: Path, **tiny) -> None:
    with registered.skip_registration():  # they may all be called `tiny`
        prepare_tiny(root / "tfds", **tiny)


def load(root: Path, **options) -> datasets.Dataset:
    return datasets.load("tiny", data_dir=root / "tfds", cache_dir=root / "cache", **options)


def refused(root: Path, words: str, **options) -> str:
    with pytest.raises(UserError, match=words) as error:
        load(root, **options)
    message = str(error.value)
    assert "\n" not in message and len(message) < 500 and str(root / "tfds") in message
    return message


def rewrite_info(root: Path, **changes) -> Path:
    """Change `dataset_info.json`; returns the directory of the version."""
    directory = root / "tfds" / "tiny" / "1.0.0"
    path = directory / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return directory


def as_tfrecord(root: Path, shards: int = 2) -> list[Path]:
    """Store a prepared directory as TFDS does by default, with TensorBoard's own writer."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core import decode

    directory = root / "tfds" / "tiny" / "1.0.0"
    builder = tfds.builder_from_directory(directory)
    raw = decode.DeserializeMethod.RAW_BYTES
    splits = json.loads((directory / "dataset_info.json").read_text())["splits"]
    paths = []
    for split in splits:
        records = list(builder.as_data_source(split["name"], deserialize_method=raw))
        parts = np.array_split(np.arange(len(records)), shards)
        split["shardLengths"] = [str(len(part)) for part in parts]
        for i, part in enumerate(parts):
            path = directory / f"tiny-{split['name']}.tfrecord-{i:05d}-of-{shards:05d}"
            writer = RecordWriter(str(path))
            for number in part:
                writer.write(records[number])
            writer.close()
            paths.append(path)
    for path in directory.glob("*array_record*"):
        path.unlink()
    rewrite_info(root, fileFormat="tfrecord", splits=splits)
    return paths


def test_crc32c():
    """The check values of RFC 3720 and of the catalogue of parametrised CRC algorithms."""
    assert tfrecord.crc32c(b"123456789") == 0xE3069283
    assert tfrecord.crc32c(bytes(32)) == 0x8A9136AA
    assert tfrecord.crc32c(bytes(range(32))) == 0x46DD794E
    assert tfrecord.crc32c(b"") == 0
    assert tfrecord.crc32c(b"a") == 0xC1D04330
    # Longer than a block, and with ends of every length, as TensorBoard's own.
    from tensorboardX.crc32c import _crc32c

    content = np.random.default_rng(0).bytes(2 * tfrecord.BLOCK + 5)
    for size in (2, 3, 4, tfrecord.BLOCK, *range(2 * tfrecord.BLOCK - 1, 2 * tfrecord.BLOCK + 6)):
        assert tfrecord.crc32c(content[:size]) == _crc32c(content[:size])


@pytest.mark.parametrize("shape", [(6, 7, 3), (6, 7, 1)])
def test_tfrecord_is_read_as_array_record_is(tmp_path, shape):
    prepare(tmp_path, shape=shape)
    first = load(tmp_path)
    as_tfrecord(tmp_path)
    for limit in (None, 0):
        data = load(tmp_path, resident_mib=limit)
        assert data.class_names == ("ant", "bee", "cow")
        for name in ("train", "validation", "test"):
            expected, found = getattr(first, name), getattr(data, name)
            np.testing.assert_array_equal(found.image[:], expected.image)
            np.testing.assert_array_equal(found.label, expected.label)
    assert datasets.fingerprint(data) == datasets.fingerprint(first)


@pytest.mark.parametrize("limit", [None, 0])
@pytest.mark.parametrize("damage", ["pixel", "label", "cut", "short", "empty", "gone", "length"])
def test_a_damaged_tfrecord(tmp_path, limit, damage):
    prepare(tmp_path)
    path = as_tfrecord(tmp_path)[0]
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])

    def flipped(at: int) -> bytes:
        return content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]

    if damage == "gone":
        path.unlink()
    else:
        changed = {
            "pixel": flipped(60),
            "label": flipped(size + 11),  # another class, and else as before
            "cut": content[:-7],
            "short": content[: size + 16],  # whole, but without all records after the first
            "empty": b"",
            "length": struct.pack("<Q", 2**63) + content[8:],
        }
        path.write_bytes(changed[damage])
    refused(tmp_path, "prepare it anew", resident_mib=limit)
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


def test_a_format_that_needs_tensorflow(tmp_path):
    prepare(tmp_path)
    for file_format in ("riegeli", "parquet"):
        rewrite_info(tmp_path, fileFormat=file_format)
        refused(tmp_path, rf"{file_format}.*tfds build tiny --file_format=array_record")
    rewrite_info(tmp_path, fileFormat="no_such_format")
    refused(tmp_path, "tfds build tiny --file_format=array_record")


@pytest.mark.parametrize("splits", [("train",), ("train", "validation"), ("test",)])
def test_a_split_that_is_missing(tmp_path, splits):
    prepare(tmp_path, splits=splits)
    message = refused(tmp_path, r"the splits train and test are needed.*train\.npz and test\.npz")
    assert f"has images in the splits {', '.join(splits)}," in message
    assert "anew" not in message  # that would prepare the same


@pytest.mark.parametrize("limit", [None, 0])
def test_a_split_without_images(tmp_path, limit):
    prepare(tmp_path)
    splits = json.loads((rewrite_info(tmp_path) / "dataset_info.json").read_text())["splits"]
    (test,) = (split for split in splits if split["name"] == "test")
    test["shardLengths"] = ["0"]
    rewrite_info(tmp_path, splits=splits)
    message = refused(tmp_path, "train and test are needed", resident_mib=limit)
    assert "images in the splits train," in message


def rename_class(features: dict, name: str) -> None:
    features["featuresDict"]["features"]["image"]["pythonClassName"] = name


def add_class(features: dict, name: str) -> None:
    features["featuresDict"]["features"]["more"] = {"pythonClassName": name, "text": {}}


def nest_class(features: dict, name: str) -> None:
    inner = {"featuresDict": {"features": {"more": {"python_class_name": name, "text": {}}}}}
    features["featuresDict"]["features"]["inner"] = inner


def make_old(features: dict, name: str) -> None:
    features.clear()
    features |= {"type": name, "content": {}}


@pytest.mark.parametrize("change", [rename_class, add_class, nest_class, make_old])
def test_no_module_is_imported_that_a_directory_names(tmp_path, monkeypatch, change):
    (tmp_path / "evil_features.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    prepare(tmp_path)
    path = rewrite_info(tmp_path) / "features.json"
    features = json.loads(path.read_text())
    change(features, "evil_features.Image")
    path.write_text(json.dumps(features))
    for limit in (None, 0):
        refused(tmp_path, r"evil_features\.Image.*not imported", resident_mib=limit)
    # Nor of a configuration of the data set, which TFDS itself would find.
    path.parent.rename(tmp_path / "moved")
    (tmp_path / "tfds" / "mnist" / "plain").mkdir(parents=True)
    (tmp_path / "moved").rename(tmp_path / "tfds" / "mnist" / "plain" / "3.0.1")
    with pytest.raises(UserError, match=r"evil_features\.Image.*not imported"):
        datasets.load("mnist", data_dir=tmp_path / "tfds", cache_dir=tmp_path / "cache")
    assert "evil_features" not in sys.modules and not (tmp_path / "ran").exists()


@pytest.mark.parametrize("limit", [None, 0])
def test_prepared_images_that_are_refused(tmp_path, limit, monkeypatch):
    """As of arrays: a channel that never changes, one class, an image without a label."""
    from tensorflow_datasets.core.features.class_label_feature import ClassLabel

    monkeypatch.setattr(ClassLabel, "encode_example", lambda _, label: label)  # as it is
    given = {}
    monkeypatch.setattr("prepared.random_split", lambda *_: given["split"])
    rng = np.random.default_rng(0)
    image, label = rng.integers(0, 256, (20, 6, 7, 3), np.uint8), np.arange(20) % 3
    blue = image.copy()
    blue[..., 2] = 7
    wrong = {
        "channel 2 of 3 .* is 7 in all": (blue, label),
        "of class 1": (image, np.ones(20, int)),
        "goes from -1 to 1": (image, np.where(label == 2, -1, label)),
        "with 3 classes they must go from 0 to 2": (image, label * 2),
    }
    for n, (words, split) in enumerate(wrong.items()):
        given["split"] = split
        prepare(tmp_path / str(n))
        with pytest.raises(UserError, match=words):
            load(tmp_path / str(n), resident_mib=limit)


def test_names_of_streams_are_of_their_content(tmp_path):
    image, label = np.random.default_rng(0).integers(0, 256, (9, 4, 4, 1), np.uint8), np.arange(9)
    names = []
    for change in (0, 1, 0):
        image[5, 2, 2] ^= change
        for split in ("train", "test"):
            np.savez(tmp_path / f"{split}.npz", image=image, label=label % 2)
        data = datasets.load("own", data_dir=tmp_path, resident_mib=0, validation_size=0)
        names.append(data.train.image.name)
        known = [zlib.crc32(one.tobytes()) for one in data.train.image[:]]
        np.testing.assert_array_equal(data.train.image.checksums, known)
    assert names[0] != names[1] == names[2]
