"""`kdxai.data.stream`: the same images in the same order, wherever they are read."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import zlib
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from prepared import prepare_tiny
from tensorflow_datasets.core import registered

from kdxai import evaluate
from kdxai.data import datasets, stored, stream
from kdxai.data.prepared import PreparedImages
from kdxai.errors import UserError
from kdxai.explain import Classifier
from kdxai.protocol import Protocol


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    root = tmp_path_factory.mktemp("tfds")
    with registered.skip_registration():
        prepare_tiny(root)
    return root


def load(root, cache, **options):
    return datasets.load("tiny", data_dir=root, cache_dir=cache, **options)


def test_what_streams_is_what_would_be_decoded(prepared, tmp_path):
    options = {"validation_size": 7, "train_size": 30}
    decoded = load(prepared, tmp_path / "a", **options)
    streamed = load(prepared, tmp_path / "b", resident_mib=0, **options)
    assert streamed.class_names == decoded.class_names
    np.testing.assert_array_equal(streamed.mean, decoded.mean)
    np.testing.assert_array_equal(streamed.std, decoded.std)
    for name in ("train", "validation", "test"):
        one, other = getattr(streamed, name), getattr(decoded, name)
        assert isinstance(one.image, stream.Records)
        assert one.image.shape == other.image.shape
        assert one.image.nbytes == other.image.nbytes
        np.testing.assert_array_equal(one.label, other.label)
        np.testing.assert_array_equal(one.image[:], other.image)
        np.testing.assert_array_equal(one.image[np.array([3, -1, 3])], other.image[[3, -1, 3]])
        np.testing.assert_array_equal(one.image.select(slice(2, 5))[1:], other.image[3:5])


INDICES = [
    *(3, -1, np.int32(5), np.uint8(7), slice(None), slice(4, -3, 2), slice(None, None, -1), ...),
    *([], [2, 2, -1], (4,), None, True),
    *(np.arange(0), np.array(6), np.array([[1, -2, 1], [0, 9, 3]]), np.arange(8).reshape(2, 2, 2)),
    *(np.arange(10, dtype=np.uint16) % 3, np.arange(10) % 3 == 1, [True, False] * 5),
]


@pytest.mark.parametrize("kind", ["array", "prepared"])
@pytest.mark.parametrize("index", INDICES, ids=repr)
def test_records_are_indexed_as_their_array(prepared, kind, index):
    rows = np.random.default_rng(1).permutation(20)[:10]
    (directory,) = (prepared / "tiny").iterdir()
    source = PreparedImages(directory, "test", (6, 7, 3))
    whole = source[np.arange(20)]
    images = stream.Records(source if kind == "prepared" else whole, rows, (6, 7, 3), "")
    found = images[index]
    assert found.dtype == images.dtype and images.ndim == 4
    np.testing.assert_array_equal(found, whole[rows][index])


@pytest.mark.parametrize("index", [10, -11, [0, 10], np.arange(9) > 3, 1.0, (0, 10)], ids=repr)
def test_an_index_that_an_array_refuses(index):
    images = stream.Records(np.zeros((10, 2, 2, 1), np.uint8), np.arange(10), (2, 2, 1), "")
    with pytest.raises(IndexError):
        images[index]


def test_records_are_iterated_as_their_array():
    whole = np.random.default_rng(0).integers(0, 256, (7, 2, 3, 1), np.uint8)
    images = stream.Records(whole, np.arange(7)[::-1], (2, 3, 1), "")
    np.testing.assert_array_equal(list(images), whole[::-1])


@pytest.mark.parametrize("target", ["predicted", "label"])
def test_mosaics_of_records_are_those_of_their_array(target):
    rng = np.random.default_rng(0)
    label = np.arange(60) % 5
    image = rng.integers(0, 256, (60, 4, 4, 3), dtype=np.uint8)
    weights = rng.normal(size=(3, 5)).astype(np.float32)
    model = Classifier(lambda x: x, lambda maps: maps.mean((0, 1)) @ weights)
    protocol = Protocol("grad_cam", target=target)
    images = stream.Records(image, np.arange(60), (4, 4, 3), "")
    options = {"mean": [0.5] * 3, "std": [0.25] * 3}
    chosen = [
        evaluate.mosaic_partners(model, source, label, protocol, **options)
        for source in (image, images)
    ]
    np.testing.assert_array_equal(*chosen)
    np.testing.assert_array_equal(images[chosen[0][[5, 9]]], image[chosen[0][[5, 9]]])


def test_the_limit_decides(prepared, tmp_path):
    image = np.arange(500, dtype=np.uint8)[:, None, None, None].repeat(3, -1)
    image = np.broadcast_to(image, (500, 64, 64, 3))
    write = {"image": image, "label": np.arange(500) % 2}
    for split in ("train", "test"):
        np.savez(tmp_path / f"{split}.npz", **write)
    for limit, streams in ((None, False), (6, False), (5, True)):  # 5.9 MiB
        data = datasets.load("own", data_dir=tmp_path, resident_mib=limit)
        assert isinstance(data.train.image, stream.Records) == streams
        assert data.test.image[np.arange(2)].shape == (2, 64, 64, 3)
    # So it does where the arrays have been decoded before.
    for limit, streams in ((1, False), (0, True), (1, False)):
        data = load(prepared, tmp_path / "cache", resident_mib=limit)
        assert isinstance(data.train.image, stream.Records) == streams


def test_mean_and_deviation_are_computed_once(prepared, tmp_path, monkeypatch):
    first = load(prepared, tmp_path, resident_mib=0)
    monkeypatch.setattr(stored, "batches", None)
    monkeypatch.setattr(PreparedImages, "labels", None)
    second = load(prepared, tmp_path, resident_mib=0)
    np.testing.assert_array_equal(first.mean, second.mean)
    np.testing.assert_array_equal(first.train.label, second.train.label)


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_come_in_order(prepared, tmp_path, workers):
    images = load(prepared, tmp_path, resident_mib=0).train.image
    plan = np.random.default_rng(0).permutation(36).reshape(9, 4)
    found = list(stream.batches(images, plan, workers))
    np.testing.assert_array_equal(found, [images[rows] for rows in plan])


def test_an_order_goes_on_at_any_step():
    whole = stream.Order(seed=3, size=23, batch_size=5, first=0, total=12)
    assert len(whole) == 12
    for epoch in range(3):
        expected = np.random.default_rng([3, epoch]).permutation(23)[:20].reshape(4, 5)
        np.testing.assert_array_equal(list(whole)[4 * epoch : 4 * epoch + 4], expected)
    for first in range(13):
        rest = stream.Order(seed=3, size=23, batch_size=5, first=first, total=12)
        np.testing.assert_array_equal(np.array(list(rest)), np.array(list(whole)[first:]))


def test_parts_make_the_batch():
    plan = [np.arange(6), np.arange(6, 12)]
    parts = [stream.ProcessShare(plan, i, 3) for i in range(3)]
    np.testing.assert_array_equal(np.concatenate([part[1] for part in parts]), plan[1])


def test_an_open_source_travels_to_another_process(prepared, tmp_path):
    images = load(prepared, tmp_path, resident_mib=0).test.image
    whole = images[:]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(images))[:], whole)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_image_that_cannot_be_read_is_one_line(tmp_path, workers):
    with registered.skip_registration():
        prepare_tiny(tmp_path / "tfds")
    images = load(tmp_path / "tfds", tmp_path / "cache", resident_mib=0).train.image
    (path,) = (tmp_path / "tfds").rglob("*train*record*")
    content = bytearray(path.read_bytes())
    content[300:-300] = bytes(len(content) - 600)
    path.write_bytes(content)
    with pytest.raises(UserError) as error:
        list(stream.batches(images, np.arange(36).reshape(9, 4), workers))
    assert "\n" not in str(error.value)
    assert "tiny" in str(error.value)


def readers() -> list[int]:
    """The processes that this one has started and that have not ended."""
    children = [path.read_text().split() for path in Path("/proc/self/task").glob("*/children")]
    return [int(pid) for pids in children for pid in pids]


@pytest.fixture
def images(prepared, tmp_path):
    return load(prepared, tmp_path, resident_mib=0).train.image


@pytest.mark.parametrize(
    ("number", "when"), [(signal.SIGTERM, "starting"), (signal.SIGINT, "reading")]
)
def test_a_signal_to_the_group_is_not_for_those_who_read(images, number, when):
    """A job's end and Ctrl-C reach every process; that which trains decides, and still reads."""
    before = set(readers())
    plan = np.resize(np.arange(36), (40, 4))
    found = stream.batches(images, plan, workers=2)
    with mock.patch.object(subprocess, "Popen", struck(number if when == "starting" else 0)):
        first = next(found)
    assert len(set(readers()) - before) == 2
    for pid in set(readers()) - before:
        os.kill(pid, number)
    np.testing.assert_array_equal([first, *found], [images[rows] for rows in plan])
    assert set(readers()) == before


def struck(number):
    """`subprocess.Popen` whose process gets a signal before it has run anything."""
    start = subprocess.Popen

    def popen(*args, **options):
        process = start(*args, **options)
        process.send_signal(number)
        return process

    return popen


def test_a_signal_while_those_who_read_start_is_not_lost(images):
    found = []
    handler = signal.signal(signal.SIGTERM, lambda *_: found.append("told"))
    try:
        batches = stream.batches(images, [np.arange(4)] * 9, workers=1)
        start = subprocess.Popen

        def popen(*args, **options):
            signal.raise_signal(signal.SIGTERM)  # to this thread, where it is blocked
            assert not found
            return start(*args, **options)

        with mock.patch.object(subprocess, "Popen", popen):
            next(batches)
        assert found == ["told"]
        assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
    finally:
        signal.signal(signal.SIGTERM, handler)
        batches.close()


def test_a_process_that_reads_and_is_killed_is_one_line(images):
    before = set(readers())
    found = stream.batches(images, np.resize(np.arange(36), (400, 4)), workers=2)
    next(found)
    os.kill((set(readers()) - before).pop(), signal.SIGKILL)
    with pytest.raises(UserError, match=r"code -9.*memory.*continues") as error:
        list(found)
    assert "\n" not in str(error.value)
    assert set(readers()) == before


def test_those_who_read_end_with_the_process_that_asks(prepared):
    """However it ends; and they hold nothing that would be left behind."""
    (directory,) = (prepared / "tiny").iterdir()
    code = f"""if True:
        import os, pathlib, numpy as np
        from kdxai.data import stream
        from kdxai.data.prepared import PreparedImages
        source = PreparedImages(pathlib.Path({str(directory)!r}), "train", (6, 7, 3))
        images = stream.Records(source, np.arange(36), (6, 7, 3), "")
        found = stream.batches(images, [np.arange(4)] * 99, workers=2)
        next(found)
        os.kill(os.getpid(), 9)
    """
    # Its output has ended when nobody holds it any more.
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert done.stderr == done.stdout == b""


def test_another_source_has_another_name(prepared, tmp_path):
    with registered.skip_registration():
        prepare_tiny(tmp_path / "tfds", seed=5)
    roots = prepared, tmp_path / "tfds"
    names = [load(root, tmp_path, resident_mib=0).train.image.name for root in roots]
    assert len(set(names)) == 2
    assert len(list(tmp_path.glob("tiny*-index"))) == 2
    info = [json.loads(p.read_text()) for p in tmp_path.glob("tiny*-index/info.json")]
    assert info[0]["mean"] != info[1]["mean"]


def test_a_fingerprint_is_of_the_content(prepared, tmp_path):
    options = {"validation_size": 7, "train_size": 30}
    data = load(prepared, tmp_path / "a", **options)
    known = datasets.fingerprint(data)
    # Neither the place nor streaming matters; a stored checksum is that of the image.
    streamed = load(prepared, tmp_path / "b", resident_mib=0, **options)
    assert datasets.fingerprint(streamed) == known
    images = streamed.validation.image
    np.testing.assert_array_equal(
        images.checksums, [zlib.crc32(one.tobytes()) for one in images[:]]
    )
    shutil.copytree(next((tmp_path / "a").iterdir()), tmp_path / "moved")
    for limit in (None, 0):
        moved = datasets.load("tiny", data_dir=tmp_path / "moved", resident_mib=limit, **options)
        assert datasets.fingerprint(moved) == known

    def changed(array, at):
        array = array.copy()
        array[at] ^= 1
        return array

    others = [
        data._replace(class_names=("ant", "bee", "dog")),
        data._replace(class_names=("ant", "beecow")),
        data._replace(mean=np.nextafter(data.mean, np.float32(1))),
        data._replace(std=data.mean),
        load(prepared, tmp_path / "a", validation_size=7, train_size=29),
        load(prepared, tmp_path / "a", validation_size=6, train_size=30),
    ]
    for name in ("train", "validation", "test"):
        split = getattr(data, name)
        for other in (
            split._replace(image=changed(split.image, (-1, 2, 3, 1))),
            split._replace(label=changed(split.label, 0)),
            split._replace(image=split.image[::-1], label=split.label[::-1]),
            split._replace(image=split.image.reshape(len(split.image), 7, 6, 3)),
            split._replace(mask=np.zeros(split.image.shape[:3], bool)),
            split._replace(mask=np.eye(6, 7, dtype=bool)[None].repeat(len(split.label), 0)),
        ):
            others.append(data._replace(**{name: other}))
    assert len({known, *map(datasets.fingerprint, others)}) == len(others) + 1
