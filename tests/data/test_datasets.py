"""`kdxai.data.datasets`: splits, sources, cache, failures. No test needs a network."""

import contextlib
import hashlib
import inspect
import io
import json
import os
import re
import runpy
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import textwrap
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import chex
import numpy as np
import pytest
from prepared import prepare_tiny, random_split
from scripts import ROOT

from kdxai.data import datasets, prepared, rendered, sources, stored, stream
from kdxai.errors import UserError

REPOSITORY = Path(__file__).parents[2]
CIFAR10 = ["airplane", "automobile", "bird", "cat", "deer"]
CIFAR10 += ["dog", "frog", "horse", "ship", "truck"]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Nothing of the user's is read or written; TensorFlow seems installed, but fails to import."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KDXAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("TFDS_DATA_DIR", raising=False)
    fake = tmp_path / "fake" / "tensorflow.py"
    fake.parent.mkdir()
    fake.write_text("raise ImportError('nothing may import TensorFlow')")
    monkeypatch.syspath_prepend(fake.parent)
    monkeypatch.setenv("PYTHONPATH", f"{fake.parent}{os.pathsep}{REPOSITORY}")


def write_decoded(directory: Path, train, test) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    for name, (image, label) in (("train", train), ("test", test)):
        np.savez(directory / f"{name}.npz", image=image, label=label)
    return directory


@pytest.fixture
def decoded(tmp_path) -> Path:
    """50 training and 20 test images of cifar10's classes, without info.json."""
    return write_decoded(tmp_path / "decoded", random_split(0, 50), random_split(1, 20))


def rows(split: datasets.Split) -> list[tuple[bytes, int]]:
    return [(i.tobytes(), int(k)) for i, k in zip(split.image, split.label, strict=True)]


# Splits and statistics.


def test_decoded_directory_is_a_source(decoded):
    image, label = random_split(0, 50)
    data = datasets.load("cifar10", data_dir=decoded)
    assert (data.name, list(data.class_names)) == ("cifar10", CIFAR10)
    for split, size in ((data.train, 45), (data.validation, 5), (data.test, 20)):
        chex.assert_shape(split.image, (size, 4, 5, 3))
        chex.assert_shape(split.label, (size,))
        assert split.image.dtype == np.uint8 and split.label.dtype == np.int32
        assert split.mask is None
    # The cut loses, repeats and mislabels nothing; the test images stay as they are.
    expected = rows(datasets.Split(image, label, None))
    assert sorted(rows(data.train) + rows(data.validation)) == sorted(expected)
    assert rows(data.test) == rows(datasets.Split(*random_split(1, 20), None))
    # It is a draw, not the head or the tail.
    assert set(rows(data.validation)) not in (set(expected[:5]), set(expected[-5:]))


def test_mean_and_std_are_those_of_the_whole_training_split(decoded):
    data = datasets.load("cifar10", data_dir=decoded, train_size=7)
    pixels = random_split(0, 50)[0].astype(np.float64) / 255
    np.testing.assert_allclose(data.mean, pixels.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(data.std, pixels.std((0, 1, 2)), rtol=1e-6)
    assert data.mean.dtype == data.std.dtype == np.float32


def test_mean_and_std_span_many_chunks(tmp_path):
    train = random_split(0, 1201, (3, 3, 1))
    train[0][600:] //= 2  # chunks that differ
    write_decoded(tmp_path / "x", train, random_split(1, 5, (3, 3, 1)))
    data = datasets.load("x", data_dir=tmp_path / "x")
    np.testing.assert_allclose(data.mean[0], (train[0] / 255).mean(), rtol=1e-6)
    np.testing.assert_allclose(data.std[0], (train[0] / 255).std(), rtol=1e-6)


def test_sizes(decoded):
    whole = datasets.load("cifar10", data_dir=decoded, validation_size=8)
    few = datasets.load("cifar10", data_dir=decoded, validation_size=8, train_size=10)
    assert len(whole.train.label) == 42
    assert rows(few.train) == rows(whole.train)[:10]
    assert rows(few.validation) == rows(whole.validation) and len(few.validation.label) == 8
    assert rows(few.test) == rows(whole.test)
    everything = datasets.load("cifar10", data_dir=decoded, validation_size=0)
    assert len(everything.train.label) == 50 and len(everything.validation.label) == 0


@pytest.mark.parametrize(
    "sizes",
    [
        {"validation_size": 50},
        {"validation_size": -1},
        {"train_size": 46},
        {"train_size": 0},
        {"train_size": 31, "validation_size": 20},
    ],
)
def test_more_than_there_are(decoded, sizes):
    with pytest.raises(UserError, match=r"50 training images"):
        datasets.load("cifar10", data_dir=decoded, **sizes)


def test_grayscale_and_unnamed_classes(tmp_path):
    shape = (6, 6, 1)
    write_decoded(tmp_path / "d", random_split(0, 30, shape, 4), random_split(1, 10, shape, 4))
    data = datasets.load("mine", data_dir=tmp_path / "d")
    chex.assert_shape(data.train.image, (27, 6, 6, 1))
    chex.assert_shape([data.mean, data.std], (1,))
    assert data.class_names == ("0", "1", "2", "3")


def test_info_of_a_decoded_directory(decoded):
    info = {"class_names": list("abcdefghij"), "mean": [0.1, 0.2, 0.3], "std": [1, 2, 3]}
    (decoded / "info.json").write_text(json.dumps(info))
    data = datasets.load("mine", data_dir=decoded)
    assert data.class_names == tuple("abcdefghij")
    np.testing.assert_array_equal(data.mean, np.float32([0.1, 0.2, 0.3]))
    np.testing.assert_array_equal(data.std, np.float32([1, 2, 3]))


def test_data_dir_comes_before_the_environment(decoded, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(decoded))
    assert len(datasets.load("cifar10").test.label) == 20
    other = write_decoded(tmp_path / "other", random_split(2, 30), random_split(3, 11))
    assert len(datasets.load("cifar10", data_dir=other).test.label) == 11


# Broken directories of arrays.


def one_line(error) -> str:
    message = str(error.value)
    assert "\n" not in message and len(message) < 700
    return message


IMAGE, LABEL = random_split(0, 50)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"image": IMAGE / 255, "label": LABEL}, "float64"),
        ({"image": IMAGE[0], "label": LABEL}, r"\[4, 5, 3\]"),
        ({"image": IMAGE[:0], "label": LABEL[:0]}, r"\[0, 4, 5, 3\]"),
        ({"image": IMAGE[:, :3], "label": LABEL}, "differ"),
        ({"image": IMAGE, "label": LABEL[:-1]}, r"\[49\]"),
        ({"image": IMAGE, "label": LABEL.astype(float)}, "float64"),
        ({"image": IMAGE, "label": np.eye(10)[LABEL].astype(int)}, r"\[50, 10\]"),
        ({"image": IMAGE, "label": LABEL + 1}, "1 to 10|0 to 10"),
        ({"image": IMAGE, "label": LABEL - 1}, "-1"),
        ({"image": IMAGE}, "label"),
        ({"x": IMAGE, "y": LABEL}, "image"),
        ({"image": IMAGE, "label": LABEL.astype(object)}, "label"),
        ({"image": IMAGE, "label": LABEL, "mask": IMAGE[..., 0]}, "mask"),
    ],
)
def test_wrong_arrays(decoded, arrays, words):
    np.savez(decoded / "train.npz", **arrays)
    with pytest.raises(UserError, match=words) as error:
        datasets.load("cifar10", data_dir=decoded)
    assert str(decoded) in one_line(error)


def test_damaged_files(decoded):
    path = decoded / "train.npz"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    damaged = [whole[:n] for n in (0, 10, 300, len(whole) // 2, len(whole) - 1)]
    damaged += [b"not a zip at all", np.lib.format.magic(1, 0) + b"?"]
    for _ in range(100):  # a byte that changes in the pixels is found by the checksum of the zip
        at = int(rng.integers(300, 3000))
        damaged.append(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"train\.npz") as error:
            datasets.load("cifar10", data_dir=decoded)
        one_line(error)


@pytest.mark.parametrize("missing", ["train.npz", "test.npz"])
def test_missing_file(decoded, missing):
    (decoded / missing).unlink()
    with pytest.raises(UserError, match=missing):
        datasets.load("cifar10", data_dir=decoded)


@pytest.mark.parametrize(
    "info",
    [
        "{",
        "[]",
        '{"class_names": ["a", "b"]}',
        '{"class_names": 3}',
        '{"mean": [1], "std": [1]}',
        '{"mean": ["x", "y", "z"]}',
        '{"name": "cifar100"}',
    ],
)
def test_wrong_info(decoded, info):
    (decoded / "info.json").write_text(info)
    with pytest.raises(UserError) as error:
        datasets.load("cifar10", data_dir=decoded)
    assert str(decoded) in one_line(error)


# TFDS: data sets prepared by this test.


@pytest.fixture
def unregistered():
    """Test data sets may all be called `tiny`, and are no more known to TFDS afterwards."""
    from tensorflow_datasets.core import registered

    with registered.skip_registration():
        yield


@pytest.mark.usefixtures("unregistered")
@pytest.mark.parametrize("shape", [(6, 7, 3), (6, 7, 1)])
def test_prepared_directory(tmp_path, shape):
    arrays = prepare_tiny(tmp_path / "tfds", shape=shape)
    data = datasets.load("tiny", data_dir=tmp_path / "tfds")
    assert data.class_names == ("ant", "bee", "cow")
    chex.assert_shape(data.train.image, (36, *shape))
    cut = rows(data.train) + rows(data.validation)
    assert sorted(cut) == sorted(rows(datasets.Split(*arrays["train"], None)))
    assert sorted(rows(data.test)) == sorted(rows(datasets.Split(*arrays["test"], None)))
    pixels = arrays["train"][0].astype(np.float64) / 255
    np.testing.assert_allclose(data.mean, pixels.mean((0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(data.std, pixels.std((0, 1, 2)), rtol=1e-6)


@pytest.mark.usefixtures("unregistered")
def test_the_cache_serves_later_loads_and_is_a_source_by_itself(tmp_path, monkeypatch):
    prepare_tiny(tmp_path / "tfds")
    cache = tmp_path / "elsewhere"
    load = partial(datasets.load, "tiny", data_dir=tmp_path / "tfds")
    first = load(cache_dir=cache)
    assert not (tmp_path / "cache").exists()
    (entry,) = cache.iterdir()
    assert {p.name for p in entry.iterdir()} == {"train.npz", "test.npz", "info.json"}
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)  # an import fails
    chex.assert_trees_all_equal(load(cache_dir=cache)[2:], first[2:])
    chex.assert_trees_all_equal(load(data_dir=entry)[2:], first[2:])
    assert load(data_dir=entry).class_names == first.class_names
    monkeypatch.setenv("KDXAI_CACHE", str(cache))
    chex.assert_trees_all_equal(load()[2:], first[2:])


@pytest.mark.usefixtures("unregistered")
def test_another_source_of_the_same_name_is_not_served_stale(tmp_path):
    for place, seed in (("a", 0), ("b", 5)):
        prepare_tiny(tmp_path / place, seed=seed)
    a, b = (datasets.load("tiny", data_dir=tmp_path / place) for place in "ab")
    assert not set(rows(a.train)) & set(rows(b.train))
    # Nor are data that are replaced in their place, though the metadata be the same.
    shutil.copyfile(
        tmp_path / "a/tiny/1.0.0/dataset_info.json", tmp_path / "b/tiny/1.0.0/dataset_info.json"
    )
    shutil.rmtree(tmp_path / "a/tiny")
    shutil.copytree(tmp_path / "b/tiny", tmp_path / "a/tiny")
    assert rows(datasets.load("tiny", data_dir=tmp_path / "a").test) == rows(b.test)


@pytest.mark.usefixtures("unregistered")
def test_the_newest_version_is_read(tmp_path):
    prepare_tiny(tmp_path / "old")
    arrays = prepare_tiny(tmp_path / "new", seed=9)
    for source, version in (("old", "1.9.0"), ("new", "1.10.0"), ("old", "incomplete.X_2.0.0")):
        path = tmp_path / "tfds/tiny" / version
        shutil.copytree(tmp_path / source / "tiny/1.0.0", path)
        info = json.loads((path / "dataset_info.json").read_text())
        (path / "dataset_info.json").write_text(json.dumps(info | {"version": version}))
    data = datasets.load("tiny", data_dir=tmp_path / "tfds")
    assert sorted(rows(data.test)) == sorted(rows(datasets.Split(*arrays["test"], None)))


@pytest.mark.usefixtures("unregistered")
def test_prepared_directories_that_do_not_fit(tmp_path):
    import tensorflow_datasets as tfds

    image, label = tfds.features.Image(shape=(6, 7, 3)), tfds.features.ClassLabel(num_classes=3)
    unfit = {
        "label are needed": {"features": {"image": image, "text": tfds.features.Text()}},
        "image named image": {"features": {"label": label}},
        "all of one size": {"features": {"image": tfds.features.Image(), "label": label}},
        "train and test": {"splits": ("train", "validation")},
    }
    for n, (words, tiny) in enumerate(unfit.items()):
        prepare_tiny(tmp_path / str(n), **tiny)
        with pytest.raises(UserError, match=words) as error:
            datasets.load("tiny", data_dir=tmp_path / str(n))
        assert "tiny" in one_line(error)


@pytest.mark.usefixtures("unregistered")
def test_damaged_prepared_directory(tmp_path):
    prepare_tiny(tmp_path)
    for path in (tmp_path / "tiny/1.0.0").glob("*train*"):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="prepare it anew") as error:
        datasets.load("tiny", data_dir=tmp_path)
    assert str(tmp_path / "tiny") in one_line(error)
    assert not list((tmp_path / "cache").glob("*"))


# TFDS: preparing from the original archives.


def cifar_archive(name: str) -> tuple[bytes, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """A small archive in the original binary format, and what it holds."""
    train, test = random_split(0, 50, (32, 32, 3)), random_split(1, 20, (32, 32, 3))

    def records(image: np.ndarray, label: np.ndarray) -> bytes:
        coarse = [] if name == "cifar10" else [label[:, None] // 5]
        planes = image.transpose(0, 3, 1, 2).reshape(len(image), 3072)
        return np.concatenate([*coarse, label[:, None], planes], 1).astype(np.uint8).tobytes()

    if name == "cifar10":
        folder, names = "cifar-10-batches-bin", {"batches.meta.txt": "\n".join([*CIFAR10, "", ""])}
        files = {f"data_batch_{i + 1}.bin": slice(10 * i, 10 * i + 10) for i in range(5)}
        test_file = "test_batch.bin"
    else:
        folder, files, test_file = "cifar-100-binary", {"train.bin": slice(None)}, "test.bin"
        names = {
            "coarse_label_names.txt": "\n".join(f"coarse{i}" for i in range(20)),
            "fine_label_names.txt": "\n".join(f"fine{i}" for i in range(100)),
        }
    contents = {file: text.encode() for file, text in names.items()}
    contents |= {file: records(train[0][r], train[1][r]) for file, r in files.items()}
    contents[test_file] = records(*test)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for file, content in contents.items():
            entry = tarfile.TarInfo(f"{folder}/{file}")
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue(), {"train": train, "test": test}


@pytest.fixture
def serve(monkeypatch):
    """serve(name, url, content): what TFDS downloads; `register` tells it the right checksum."""
    import tensorflow_datasets as tfds
    from tensorflow_datasets.core.download import checksums, downloader
    from tensorflow_datasets.core.units import Size

    served = {}

    @contextlib.contextmanager
    def open_url(url: str, **kwargs) -> Iterator:
        assert kwargs["timeout"] > 0
        yield SimpleNamespace(url=url, headers={}), iter([served[url]])

    def serve(name: str, url: str, content: bytes, register: bool = True) -> None:
        served[url] = content
        if register:
            info = checksums.UrlInfo(Size(len(content)), hashlib.sha256(content).hexdigest(), None)
            monkeypatch.setitem(tfds.builder_cls(name).url_infos, url, info)

    monkeypatch.setattr(downloader, "_open_url", open_url)
    return serve


URL = "https://www.cs.toronto.edu/~kriz/cifar-{}-binary.tar.gz"


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_download_and_prepare(name, tmp_path, serve):
    archive, arrays = cifar_archive(name)
    serve(name, URL.format(name[5:]), archive)
    data = datasets.load(name, data_dir=tmp_path / "tfds")
    cut = rows(data.train) + rows(data.validation)
    assert sorted(cut) == sorted(rows(datasets.Split(*arrays["train"], None)))
    assert sorted(rows(data.test)) == sorted(rows(datasets.Split(*arrays["test"], None)))
    names = CIFAR10 if name == "cifar10" else [f"fine{i}" for i in range(100)]
    assert list(data.class_names) == names
    # TFDS itself finds what was prepared.
    import tensorflow_datasets as tfds

    source = tfds.builder(name, data_dir=tmp_path / "tfds").as_data_source("test")
    assert sorted(r["image"].tobytes() for r in source) == sorted(i for i, _ in rows(data.test))


def test_a_wrong_checksum_is_found(tmp_path, serve):
    archive, _ = cifar_archive("cifar10")
    serve("cifar10", URL.format(10), archive, register=False)  # TFDS knows the real one
    with pytest.raises(UserError, match="Checksum") as error:
        datasets.load("cifar10", data_dir=tmp_path / "tfds")
    assert str(tmp_path / "tfds") in one_line(error)
    assert not list((tmp_path / "tfds/cifar10").glob("*/dataset_info.json"))


def test_svhn_cropped_is_prepared_by_the_same_code(tmp_path, serve):
    from scipy.io import savemat

    image, label = random_split(0, 30, (32, 32, 3))
    for split in ("train", "test", "extra"):
        buffer = io.BytesIO()  # the original has 10 for the digit 0
        savemat(buffer, {"X": np.moveaxis(image, 0, -1), "y": np.where(label, label, 10)[:, None]})
        url = f"http://ufldl.stanford.edu/housenumbers/{split}_32x32.mat"
        serve("svhn_cropped", url, buffer.getvalue())
    data = datasets.load("svhn_cropped", data_dir=tmp_path / "tfds")
    assert sorted(rows(data.test)) == sorted(rows(datasets.Split(image, label, None)))


@pytest.mark.parametrize("silent", [False, True])
def test_no_network_and_no_data(silent, tmp_path, monkeypatch):
    import tensorflow_datasets  # noqa: F401  (not what is timed)

    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts, and never answers
        port = server.getsockname()[1] if silent else 9  # where nobody listens
        for variable in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
            monkeypatch.setenv(variable, f"http://127.0.0.1:{port}")
        for variable in ("NO_PROXY", "no_proxy"):
            monkeypatch.delenv(variable, raising=False)
        monkeypatch.setattr(prepared, "TIMEOUT", 0.5)
        start = time.monotonic()
        with pytest.raises(UserError) as error:
            datasets.load("cifar10", data_dir=tmp_path / "tfds")
    assert time.monotonic() - start < 10
    message = one_line(error)
    assert str(tmp_path / "tfds") in message
    assert all(word in message for word in ("TFDS_DATA_DIR", "data directory", "network"))


def test_default_directories(tmp_path, monkeypatch):
    monkeypatch.delenv("KDXAI_CACHE")
    with pytest.raises(UserError, match=re.escape(str(tmp_path / "home/tensorflow_datasets"))):
        datasets.load("no_such_data")
    write_decoded(tmp_path / "home/tensorflow_datasets", random_split(0, 50), random_split(1, 20))
    assert len(datasets.load("cifar10").test.label) == 20


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("cifar-10", "did you mean cifar10"),
        ("shape", "did you mean shapes"),
        ("qqqqq", "qqqqq"),
        ("", "no data set ''"),
        ("imdb_reviews", "not for image classification"),
        ("imagenet2012", "all of one size"),
    ],
)
def test_names_that_cannot_be_loaded(name, words, tmp_path):
    with pytest.raises(UserError, match=words) as error:
        datasets.load(name, data_dir=tmp_path / "tfds")
    one_line(error)


# The cache.

LOAD = "from kdxai.data import datasets; import numpy as np, os, signal, sys;"


def python(code: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-c", LOAD + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.mark.usefixtures("unregistered")
def test_a_killed_process_leaves_no_cache(tmp_path):
    prepare_tiny(tmp_path / "tfds")
    code = f"""
    write, count = np.savez, iter((True, False))
    def savez(*args, **kwargs):
        write(*args, **kwargs) if next(count) else os.kill(os.getpid(), signal.SIGKILL)
    np.savez = savez
    datasets.load("tiny", data_dir={str(tmp_path / "tfds")!r})
    """
    killed = python(code)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    (remains,) = (tmp_path / "cache").iterdir()
    assert (remains / "train.npz").exists() and not (remains / "test.npz").exists()
    data = datasets.load("tiny", data_dir=tmp_path / "tfds")
    assert len(data.train.label) == 36 and len(data.test.label) == 20


@pytest.mark.usefixtures("unregistered")
def test_concurrent_writers(tmp_path, monkeypatch):
    prepare_tiny(tmp_path / "tfds")
    decode, started = stored._decode, []

    def slow_decode(*args):  # until both have found that the cache is empty
        started.append(True)
        while len(started) < 2:
            time.sleep(0.01)
        return decode(*args)

    monkeypatch.setattr(stored, "_decode", slow_decode)
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(datasets.load, "tiny", data_dir=tmp_path / "tfds") for _ in range(2)]
        first, second = (job.result(timeout=60) for job in jobs)
    assert len(started) == 2
    chex.assert_trees_all_equal(first[2:], second[2:])
    assert len(list((tmp_path / "cache").iterdir())) == 1


@pytest.mark.usefixtures("unregistered")
def test_a_cache_that_cannot_be_written(tmp_path):
    prepare_tiny(tmp_path / "tfds")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="KDXAI_CACHE") as error:
        datasets.load("tiny", data_dir=tmp_path / "tfds", cache_dir=tmp_path / "file")
    one_line(error)


# shapes.


@pytest.fixture
def fake_shapes(monkeypatch) -> list[tuple[int, int]]:
    """A renderer that writes its seed into the images; returns its calls."""
    calls = []

    def render_split(seed: int, size: int):
        calls.append((seed, size))
        rng = np.random.default_rng(seed)
        image = rng.integers(0, 256, (size, 8, 8, 3), dtype=np.uint8)
        return image, (np.arange(size) % 2).astype(np.int32), rng.random((size, 8, 8)) < 0.3

    module = ModuleType("kdxai.data.shapes")
    module.render_split, module.CLASS_NAMES = render_split, ("disc", "square")
    monkeypatch.setitem(sys.modules, "kdxai.data.shapes", module)
    import kdxai.data

    monkeypatch.setattr(kdxai.data, "shapes", module, raising=False)
    return calls


def test_shapes(fake_shapes, tmp_path):
    data = datasets.load("shapes")
    assert [size for _, size in fake_shapes] == [10_000, 1_000, 2_000]
    assert data.class_names == ("disc", "square") and data.name == "shapes"
    for split, (seed, size) in zip(data[4:], fake_shapes, strict=True):
        rng = np.random.default_rng(seed)
        np.testing.assert_array_equal(split.image, rng.integers(0, 256, (size, 8, 8, 3), np.uint8))
        np.testing.assert_array_equal(split.mask, rng.random((size, 8, 8)) < 0.3)
        assert split.mask.dtype == bool and split.label.dtype == np.int32
    seeds = [seed for seed, _ in fake_shapes]
    assert len(set(seeds)) == 3 and all(0 <= seed < 2**31 for seed in seeds)
    np.testing.assert_allclose(data.mean, (data.train.image / 255).mean((0, 1, 2)), rtol=1e-6)


def test_shapes_sizes_and_cache(fake_shapes):
    small = datasets.load("shapes", train_size=30, validation_size=20)
    assert [len(split.label) for split in small[4:]] == [30, 20, 2_000]
    again = datasets.load("shapes", train_size=30, validation_size=20)
    chex.assert_trees_all_equal(again[2:], small[2:])
    assert len(fake_shapes) == 3  # the second load renders nothing
    more = datasets.load("shapes", train_size=40, validation_size=20)
    assert len(more.train.label) == 40 and len(fake_shapes) == 6
    assert [seed for seed, _ in fake_shapes[:3]] == [seed for seed, _ in fake_shapes[3:]]


def test_real_shapes(monkeypatch):
    from kdxai.data import shapes

    monkeypatch.setitem(rendered.SIZES, "test", 10)
    data = datasets.load("shapes", train_size=20, validation_size=10)
    with pytest.raises(UserError):
        datasets.load("shapes", train_size=0)
    assert data.class_names == tuple(shapes.CLASS_NAMES)
    chex.assert_shape(data.train.mask, data.train.image.shape[:3])
    assert not set(rows(data.validation)) & set(rows(data.test))
    assert not set(rows(data.validation)) & set(rows(data.train))


# What is imported.


def test_decoded_arrays_need_neither_tfds_nor_jax(decoded):
    code = f"""
    sys.modules["tensorflow_datasets"] = sys.modules["jax"] = None
    print(datasets.load("cifar10", data_dir={str(decoded)!r}).train.image.shape)
    """
    assert python(code).stdout == "(45, 4, 5, 3)\n"


def real_cifar10() -> Path | None:
    places = [os.environ.get("TFDS_DATA_DIR"), REPOSITORY.parent / "shared/tfds"]
    found = [Path(p) for p in places if p and (Path(p) / "cifar10/3.0.2").is_dir()]
    return found[0] if found else None


REAL = real_cifar10()


@pytest.mark.slow
@pytest.mark.skipif(REAL is None, reason="CIFAR-10 is not prepared (TFDS_DATA_DIR)")
def test_real_cifar10(tmp_path):
    code = f"""
    datasets.load("cifar10", data_dir={str(REAL)!r})
    for name in ("tensorflow", "tensorflow_datasets", "jax"):
        print(name in sys.modules)
    """
    runs = [python(code).stdout.split() for _ in range(2)]
    assert runs == [["False", "True", "False"], ["False", "False", "False"]]  # decoded, cached
    data = datasets.load("cifar10", data_dir=REAL)
    assert list(data.class_names) == CIFAR10
    sizes = [len(split.label) for split in (data.train, data.validation, data.test)]
    assert sizes == [45_000, 5_000, 10_000]
    labels = np.concatenate([data.train.label, data.validation.label])
    np.testing.assert_array_equal(np.bincount(labels), [5_000] * 10)
    np.testing.assert_array_equal(np.bincount(data.test.label), [1_000] * 10)
    # The figures that everybody uses.
    np.testing.assert_allclose(data.mean, [0.4914, 0.4822, 0.4465], atol=6e-5)
    np.testing.assert_allclose(data.std, [0.2470, 0.2435, 0.2616], atol=6e-5)
    shutil.rmtree(tmp_path / "cache")  # 180 MB that pytest would keep


# What a user's arrays may be, and what they may not.


def loaded(directory: Path, **options) -> datasets.Dataset:
    return datasets.load("mine", data_dir=directory, **options)


@pytest.mark.parametrize(
    "shape",
    [(4, 5, 3), (3, 3, 3), (8, 8, 1), (4, 32, 3), (3, 32, 4), (6, 6, 13), (4, 4, 8), (5, 32, 32)],
)
def test_shapes_that_are_pictures(tmp_path, shape):
    write_decoded(tmp_path / "x", random_split(0, 20, shape, 2), random_split(1, 6, shape, 2))
    assert loaded(tmp_path / "x").test.image.shape == (6, *shape)


@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 28, 28), (4, 6, 5), (2, 32, 16), (3, 12, 224)])
def test_channels_first(tmp_path, shape):
    write_decoded(tmp_path / "x", random_split(0, 20, shape, 2), random_split(1, 6, shape, 2))
    with pytest.raises(UserError, match=r"image\.transpose\(0, 2, 3, 1\)") as error:
        loaded(tmp_path / "x")
    assert str(tmp_path / "x" / "train.npz") in one_line(error)
    # The advice is right.
    splits = [random_split(seed, size, shape, 2) for seed, size in ((0, 20), (1, 6))]
    write_decoded(tmp_path / "x", *((i.transpose(0, 2, 3, 1), k) for i, k in splits))
    assert loaded(tmp_path / "x").test.image.shape == (6, *shape[1:], shape[0])


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (IMAGE / np.float32(255), r"\(255 \* image\)\.round"),
        (IMAGE.astype(np.float32), r"store image\.round"),
        ((IMAGE / 255 - 0.5) / 0.25, "before they were normalised"),
        (IMAGE * np.nan, "before they were normalised"),
        (IMAGE.astype(np.uint16) * 257, "257"),
        (IMAGE.astype(np.int64), r"store image\.round"),
        (IMAGE > 9, "as numbers"),
        (IMAGE[..., 0], r"image\[\.\.\., None\]"),
    ],
)
def test_how_images_are_to_be_stored(decoded, image, words):
    np.savez(decoded / "train.npz", image=image, label=LABEL)
    with pytest.raises(UserError, match=words) as error:
        loaded(decoded)
    assert str(decoded / "train.npz") in one_line(error)


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (
            np.where(LABEL == 9, 900_000_000, LABEL),
            "up to 900000000, but no training image is of class 9",
        ),
        (LABEL * 2, "up to 18, but no training image is of class 1:"),
        (LABEL + 1, "go up to 10, but no training image is of class 0"),
        (LABEL + 2**33, "8589934592 to 8589934601"),
        (LABEL.astype(np.uint64) + 2**63, "9223372036854775808"),
        (LABEL - 3, "-3 to 6"),
        (LABEL + 0.0, r"label\.astype\(int\)"),
        (LABEL > 4, "bool"),
        (np.eye(10, dtype=int)[LABEL], r"label\.argmax\(1\)"),
        (LABEL[:49], r"\[49\]: .*50 images"),
        (LABEL[:, None, None], r"\[50, 1, 1\]"),
        (LABEL * 0 + 3, "go up to 3, but no training image is of class 0"),
        (LABEL * 0, "all training images .* of class 0"),
        (LABEL.astype(str), "label"),
    ],
)
def test_labels_that_are_refused(decoded, label, words):
    np.savez(decoded / "train.npz", image=IMAGE, label=label)
    np.savez(decoded / "test.npz", image=IMAGE[:20], label=np.zeros(20, int))
    with pytest.raises(UserError, match=words) as error:
        loaded(decoded)
    assert str(decoded) in one_line(error)


def test_a_class_that_only_the_test_images_have(decoded):
    np.savez(decoded / "test.npz", image=IMAGE[:20], label=np.arange(20) % 11)
    with pytest.raises(UserError, match="up to 10, but no training image is of class 10") as error:
        loaded(decoded)
    assert str(decoded) in one_line(error)


def test_labels_that_are_read(decoded):
    """A column is a row, and names make a gap an empty class."""
    np.savez(decoded / "train.npz", image=IMAGE, label=(LABEL * 2)[:, None].astype(np.uint8))
    (decoded / "info.json").write_text(json.dumps({"class_names": [*map(str, range(20))]}))
    data = loaded(decoded)
    assert len(data.class_names) == 20
    expected = rows(datasets.Split(IMAGE, LABEL * 2, None))
    assert sorted(rows(data.train) + rows(data.validation)) == sorted(expected)


@pytest.mark.parametrize(
    ("info", "words"),
    [
        ({"mean": [125.3, 123.0, 113.9], "std": [63.0, 62.1, 66.7]}, "divide .* by 255"),
        ({"mean": [0, 0, 0], "std": [255, 255, 255]}, "divide .* by 255"),
        ({"mean": [0.5, 0.5, 0.5], "std": [0.2, 0, 0.2]}, r"std from 0\.0001"),
        ({"mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, -0.2]}, r"std from 0\.0001"),
        ({"mean": [0.5, 0.5, float("nan")], "std": [0.2] * 3}, "mean must be"),
        ({"mean": [0.5] * 3, "std": [float("inf")] * 3}, "std from"),
        ({"mean": [-0.5] * 3, "std": [0.2] * 3}, "mean must be"),
        ({"mean": [0.5] * 4, "std": [0.2] * 4}, "one number for each channel"),
        ({"mean": [[0.5] * 3], "std": [[0.2] * 3]}, "one number for each channel"),
        ({"mean": 0.5, "std": 0.2}, "one number for each channel"),
        ({"mean": [0.5] * 3}, "give both"),
        ({"std": [0.5] * 3}, "give both"),
        ({"mean": [None] * 3, "std": [0.5] * 3}, "mean must be|give both"),
        ({"class_names": "abcdefghij"}, "not a list"),
        ({"class_names": {"a": 0}}, "not a list"),
    ],
)
def test_an_info_that_is_refused(decoded, info, words):
    (decoded / "info.json").write_text(json.dumps(info))
    with pytest.raises(UserError, match=words) as error:
        loaded(decoded)
    assert str(decoded / "info.json") in one_line(error)


def test_a_channel_that_never_changes(decoded):
    alpha = np.full((*IMAGE.shape[:3], 1), 255, np.uint8)
    for split in ("train", "test"):
        with np.load(decoded / f"{split}.npz") as file:
            image, label = file["image"], file["label"]
        image = np.concatenate([image, alpha[: len(image)]], -1)
        np.savez(decoded / f"{split}.npz", image=image, label=label)
    with pytest.raises(
        UserError, match=r"channel 3 of 4 .* is 255 in all .*image\[\.\.\., :3\]"
    ) as e:
        loaded(decoded)
    assert str(decoded) in one_line(e)
    # Who knows better may say by what it is to be divided.
    (decoded / "info.json").write_text(json.dumps({"mean": [0.5] * 4, "std": [0.25] * 4}))
    assert loaded(decoded).train.image.shape == (45, 4, 5, 4)


def test_a_validation_split_of_its_own(decoded):
    own = random_split(2, 12)
    np.savez(decoded / "validation.npz", image=own[0], label=own[1])
    expected = rows(datasets.Split(*own, None))
    data = loaded(decoded)
    assert rows(data.validation) == expected
    assert sorted(rows(data.train)) == sorted(rows(datasets.Split(IMAGE, LABEL, None)))
    few = loaded(decoded, validation_size=5, train_size=50)
    assert rows(few.validation) == expected[:5] and len(few.train.label) == 50
    assert rows(loaded(decoded, train_size=7).train) == rows(few.train)[:7]
    streamed = loaded(decoded, resident_mib=0)
    np.testing.assert_array_equal(streamed.validation.image[:], own[0])
    for sizes in ({"validation_size": 13}, {"validation_size": -1}, {"train_size": 51}):
        with pytest.raises(UserError, match="12 validation|50 training"):
            loaded(decoded, **sizes)
    np.savez(decoded / "validation.npz", image=own[0][:, :3], label=own[1])
    with pytest.raises(UserError, match=r"\[3, 5, 3\] in validation"):
        loaded(decoded)


@pytest.mark.parametrize("shape", [(7, 6), (7, 6, 3)])
@pytest.mark.parametrize("place", ["medmnist/pathmnist.npz", "medmnist"])
def test_a_file_of_medmnist(tmp_path, shape, place):
    splits = {"train": (0, 30), "val": (1, 12), "test": (2, 9)}
    content, made = {}, {}
    for split, (seed, size) in splits.items():
        image, label = made[split] = random_split(seed, size, shape, 3)
        content |= {f"{split}_images": image, f"{split}_labels": label[:, None].astype(np.uint8)}
    (tmp_path / "medmnist").mkdir()
    np.savez_compressed(tmp_path / "medmnist" / "pathmnist.npz", **content)
    data = datasets.load("pathmnist", data_dir=tmp_path / place)
    chex.assert_shape(data.train.image, (30, 7, 6, 3 if len(shape) == 3 else 1))
    assert data.class_names == ("0", "1", "2") and data.train.label.dtype == np.int32
    for found, split in ((data.train, "train"), (data.validation, "val"), (data.test, "test")):
        assert sorted(rows(found)) == sorted(rows(datasets.Split(*made[split], None)))
    pixels = made["train"][0].reshape(-1, data.mean.size) / 255
    np.testing.assert_allclose(data.mean, pixels.mean(0), rtol=1e-6)
    np.testing.assert_allclose(data.std, pixels.std(0), rtol=1e-6)
    if place == "medmnist":
        return
    for change, words in (
        ({"train_images": np.zeros((30, 8, 8, 8), np.uint8)}, "differ|volumes"),
        ({"val_labels": np.ones((12, 14), int)}, r"val_labels .* \[12, 14\]"),
        ({"test_images": made["test"][0] / 255}, "test_images .* float64"),
    ):
        np.savez(tmp_path / "medmnist" / "pathmnist.npz", **content | change)
        with pytest.raises(UserError, match=words) as error:
            datasets.load("pathmnist", data_dir=tmp_path / place)
        assert "pathmnist.npz" in one_line(error)
    del content["val_images"]
    np.savez(tmp_path / "medmnist" / "pathmnist.npz", **content)
    with pytest.raises(UserError, match="val_images"):
        datasets.load("pathmnist", data_dir=tmp_path / place)


def test_volumes_are_no_pictures(tmp_path):
    arrays = [random_split(seed, 10, (8, 8, 8), 3) for seed in range(3)]
    content = {
        f"{split}_{what}s": array
        for split, pair in zip(("train", "val", "test"), arrays, strict=True)
        for what, array in zip(("image", "label"), pair, strict=True)
    }
    np.savez(tmp_path / "organmnist3d.npz", **content)
    with pytest.raises(UserError, match="volumes"):
        datasets.load("organmnist3d", data_dir=tmp_path)


@pytest.mark.parametrize("name", ["train.npz", "validation.npz", "info.json"])
def test_a_directory_where_a_file_belongs(decoded, name):
    (decoded / name).unlink(missing_ok=True)
    (decoded / name).mkdir()
    with pytest.raises(UserError, match=re.escape(str(decoded / name))) as error:
        loaded(decoded)
    one_line(error)


@pytest.mark.parametrize("info", ["[" * 100_000, "\xff\x00", "3", '"mean"', "null"])
def test_an_info_that_is_no_json_object(decoded, info):
    (decoded / "info.json").write_text(info, encoding="latin1")
    with pytest.raises(UserError, match=r"info\.json.*delete it") as error:
        loaded(decoded)
    one_line(error)


@pytest.mark.parametrize("sizes", [{"train_size": -5}, {"validation_size": 0}])
def test_shapes_of_no_images(sizes):
    with pytest.raises(UserError, match=f"{next(iter(sizes))} is"):
        datasets.load("shapes", **sizes)


def test_resident_mib_below_zero(decoded):
    with pytest.raises(UserError, match="resident_mib is -1"):
        loaded(decoded, resident_mib=-1)


# The cache: who may read it, and what is left behind.


def test_a_cache_is_for_its_user(tmp_path):
    for path in (tmp_path / "cache", tmp_path / "a" / "b"):
        assert datasets.cache_root(path) == path
        assert path.stat().st_mode & 0o777 == 0o700
    path.chmod(0o750)  # a group's, on purpose
    assert datasets.cache_root(path).stat().st_mode & 0o777 == 0o750


@pytest.mark.usefixtures("unregistered")
def test_what_killed_processes_left_is_deleted(tmp_path):
    prepare_tiny(tmp_path / "tfds")
    cache, outside = tmp_path / "cache", tmp_path / "outside"
    old, young, writing, link = (cache / f".{letter * 32}" for letter in "abcd")
    other = cache / ".keep"
    for path in (old, young, writing, other, outside):
        path.mkdir(parents=True)
        (path / "train.npz").write_bytes(b"half")
    link.symlink_to(outside)
    ago = time.time() - 2 * 24 * 3600
    for path in (old, writing, other, outside):
        os.utime(path / "train.npz", (ago, ago))
        os.utime(path, (ago, ago))
    os.utime(writing / "train.npz")  # as one does who still writes
    datasets.load("tiny", data_dir=tmp_path / "tfds")
    assert not old.exists()
    assert all((path / "train.npz").exists() for path in (young, writing, other, outside, link))


@pytest.mark.usefixtures("unregistered")
@pytest.mark.parametrize("name", ["info.json", "train.npz", "test.npz"])
@pytest.mark.parametrize("damage", ["empty", "gone", "cut"])
def test_a_damaged_index(tmp_path, name, damage):
    prepare_tiny(tmp_path / "tfds")
    load = partial(datasets.load, "tiny", data_dir=tmp_path / "tfds", resident_mib=0)
    load()
    (path,) = (tmp_path / "cache").glob(f"tiny*-index/{name}")
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[: 0 if damage == "empty" else 40])
    with pytest.raises(UserError, match=f"{re.escape(str(path.parent))} .*delete it") as error:
        load()
    one_line(error)


# A source of one's own.


def test_a_source_is_a_function_and_an_entry(monkeypatch):
    image, label = random_split(0, 20, classes=2)

    def own(request: sources.Request) -> datasets.Dataset:
        train, test = datasets.Split(image, label, None), datasets.Split(image[:5], label[:5], None)
        mean, std = sources.mean_and_std_of("own", image)
        return datasets.Dataset(
            request.name, ("a", "b"), mean, std, train, train.select(slice(0)), test
        )

    monkeypatch.setitem(datasets.SOURCES, "own", datasets.DataSource(own, options=("size",)))
    for limit in (None, 0):
        data = datasets.load("own", validation_size=4, train_size=10, resident_mib=limit, size=3)
        assert data.train.image.shape == (10, 4, 5, 3) and len(data.validation.label) == 4
        assert isinstance(data.train.image, stream.Records) == (limit == 0)
    with pytest.raises(UserError, match="test_share is for the data set folder, not for own"):
        datasets.load("own", test_share=0.5)


@pytest.mark.parametrize("name", ["audit", "explain", "import", "student", "teacher"])
def test_a_config_can_say_all_that_load_takes(name):
    config = runpy.run_path(str(ROOT / "configs" / f"{name}.py"))["get_config"]()
    known = inspect.signature(datasets.load).parameters.keys()
    assert set(config.data) == known - {"cache_dir"}
