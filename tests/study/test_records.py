"""What is kept is named by all it depends on: what changed is measured again."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from kdxai import evaluate, files
from kdxai.data.datasets import Split
from kdxai.errors import UserError
from kdxai.models.trained import Trained
from kdxai.protocol import SOUND
from kdxai.study import alike, measure, records, run
from kdxai.study.members import Member
from kdxai.study.records import Shelf

IMAGES = np.array([2, 0, 3])


def model(**changes):
    parts = {
        "weights": np.arange(4, dtype=np.float32),
        "architecture": {"name": "plain3-w4", "dropout": 0.0},
        "dtype": np.float32,
        "classes": 3,
        "mean": [0.5],
        "std": [0.25],
    } | changes
    return Trained(
        model=SimpleNamespace(dtype=parts["dtype"]),
        architecture=parts["architecture"],
        variables={"params": {"w": parts["weights"]}},
        mean=np.float32(parts["mean"]),
        std=np.float32(parts["std"]),
        class_names=tuple("abcdefgh"[: parts["classes"]]),
        image_shape=(12, 12, 1),
        facts={},
    )


def split(**changes):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (5, 12, 12, 1), dtype=np.uint8)
    parts = {"image": image, "label": np.arange(5, dtype=np.int32), "mask": image[..., 0] > 128}
    return Split(**parts | changes)


def changed(array, index):
    array = array.copy()
    array[index] = array[index] + 1 if array.dtype != bool else ~array[index]
    return array


@pytest.fixture
def shown(monkeypatch):
    """What the network that others are compared with was asked to show."""
    calls = []

    def maps(*arguments, **options):
        calls.append((arguments, options))
        return evaluate.Shown(np.zeros((3, 2, 2), np.float32), np.zeros(3, int))

    monkeypatch.setattr(measure.evaluate, "show", maps)
    return calls


def compared(workdir, one, other, names=("a", "b")):
    view = alike.MapRequest(Shelf(workdir), SOUND, split(), IMAGES)
    pair = (Member(name, 0, own, "", "0") for name, own in zip(names, (one, other), strict=True))
    return alike.pair_agreement(view, *pair)


@pytest.fixture
def measured(monkeypatch):
    """How often something was measured, each time with other numbers."""
    calls = []

    def rows(*arguments, **options):
        calls.append((arguments, options))
        values = np.full(len(IMAGES), len(calls) / 3, np.float32)
        return pd.DataFrame({"label": 1, "value": values, "degenerate": ["", "zero", ""]})

    monkeypatch.setattr(measure.evaluate, "evaluate", rows)
    monkeypatch.setattr(measure.evaluate, "compare", rows)
    monkeypatch.setattr(measure.classifiers, "as_classifier", lambda *_: None)
    monkeypatch.setattr(measure.evaluate, "prepare", lambda *_, **given: given["chosen"])
    return calls


WITH = {
    "a weight": {"model": model(weights=np.float32([0, 1, 2, 3.0000002]))},
    "the network": {"model": model(architecture={"name": "plain4-w4", "dropout": 0.0})},
    "the precision": {"model": model(dtype=np.float16)},
    "the classes": {"model": model(classes=4)},
    "the mean": {"model": model(mean=[0.50001])},
    "the deviation": {"model": model(std=[0.2500001])},
    "a pixel": {"split": split(image=changed(split().image, (3, 7, 7, 0)))},
    "a label": {"split": split(label=changed(split().label, 2))},
    "a mask": {"split": split(mask=changed(split().mask, (0, 1, 1)))},
    "no masks": {"split": split(mask=None)},
    "the images": {"images": np.array([2, 1, 3])},
    "their order": {"images": np.array([0, 2, 3])},
    "the method": {"protocol": replace(SOUND, method="layer_cam")},
    "the baseline": {"protocol": replace(SOUND, baseline="black")},
    "the measures": {"extra": ["road"]},
}
SAME = {"model": model(), "protocol": SOUND, "split": split(), "images": IMAGES, "extra": []}


def explained(workdir, **changes):
    columns = {"model": "20", "seed": 3, "method": "cam"}
    return measure.member_rows(Shelf(workdir), columns, **(SAME | changes))


@pytest.mark.parametrize("change", WITH.values(), ids=WITH)
def test_whatever_a_record_depends_on_is_measured_again(tmp_path, measured, change):
    first = explained(tmp_path)
    pd.testing.assert_frame_equal(explained(tmp_path), first)
    assert len(measured) == 1
    other = explained(tmp_path, **change)
    assert len(measured) == 2
    assert other.value[0] == pytest.approx(2 / 3)
    pd.testing.assert_frame_equal(explained(tmp_path), first)  # both are kept
    pd.testing.assert_frame_equal(explained(tmp_path, **change), other)
    assert len(measured) == 2


def test_an_image_that_is_not_measured_matters_to_mosaics_alone(tmp_path, measured):
    other = split(image=changed(split().image, (4, 0, 0, 0)))
    explained(tmp_path)
    explained(tmp_path, split=other)
    assert len(measured) == 1
    explained(tmp_path, extra=["grid"])
    explained(tmp_path, extra=["grid"], split=other)
    assert len(measured) == 3


def test_an_image_that_is_not_measured_matters_where_it_stands_for_the_data(tmp_path, measured):
    other = split(image=changed(split().image, (4, 0, 0, 0)))
    protocol = replace(SOUND, method="expected_gradients")
    for one in (split(), other, split()):
        explained(tmp_path, protocol=protocol, split=one)
    assert len(measured) == 2
    views = [alike.MapRequest(Shelf(tmp_path), protocol, one, IMAGES) for one in (split(), other)]
    assert views[0].depends() != views[1].depends()


def test_records_of_another_version_are_not_read(tmp_path, measured, monkeypatch):
    explained(tmp_path)
    monkeypatch.setattr(records, "VERSION", records.VERSION + 1)
    explained(tmp_path)
    assert len(measured) == 2


@pytest.mark.parametrize("place", [0, 1])
def test_agreement_depends_on_both_models(tmp_path, measured, shown, place):
    pair = [model(), model(weights=np.ones(4, np.float32))]
    first = compared(tmp_path, *pair)
    pd.testing.assert_frame_equal(compared(tmp_path, *pair), first)
    pair[place] = model(weights=np.full(4, 7, np.float32))
    other = compared(tmp_path, *pair)
    assert (first.value[0], other.value[0]) == pytest.approx((1 / 3, 2 / 3))


def test_rows_have_their_names_as_texts_and_their_images(tmp_path, measured):
    for rows in (explained(tmp_path), explained(tmp_path)):
        assert list(rows) == ["model", "seed", "method", "image", "label", "value", "degenerate"]
        assert list(rows.model) == ["20"] * 3
        assert list(rows.image) == list(IMAGES)
        assert list(rows.degenerate) == ["", "zero", ""]
    [path] = (tmp_path / "records").iterdir()
    assert path.name.startswith("seed3-20-cam-")
    assert measured[0][1]["ids"] is IMAGES


def test_what_is_measured_is_what_was_asked_for(tmp_path, measured, shown):
    explained(tmp_path, extra=["grid", "road"])
    compared(tmp_path, model(), model(mean=[0.1]))
    (_, image, label, protocol), options = measured[0]
    calls = [*measured, *shown]
    for (*_, its_image, its_protocol), _ in calls[1:]:
        np.testing.assert_array_equal(its_image, image)
        assert its_protocol == protocol == SOUND
    np.testing.assert_array_equal(image, split().image[IMAGES])
    np.testing.assert_array_equal(label, IMAGES)
    for _, given in calls:
        np.testing.assert_array_equal(given["masks"], split().mask[IMAGES])
        assert given["std"] == np.float32(0.25)
    # Each its own.
    assert [given["mean"] for _, given in calls] == [np.float32(mean) for mean in (0.5, 0.5, 0.1)]
    assert options["extra"] == ["grid", "road"]
    np.testing.assert_array_equal(options["prepared"], IMAGES)


def test_names_that_read_alike_have_files_of_their_own(tmp_path, measured, shown):
    one, other = model(), model(weights=np.ones(4, np.float32))
    single = {"model": "student-teacher", "seed": 0, "method": "cam"}
    compared(tmp_path, one, other, ("student", "teacher"))
    measure.member_rows(Shelf(tmp_path), single, one, SOUND, split(), IMAGES)
    assert len(measured) == 2


def test_fingerprints_are_taken_once(tmp_path, measured, monkeypatch):
    seen = []
    for name in ("identity", "fingerprint"):
        own = getattr(records, name)
        monkeypatch.setattr(records, name, lambda given, own=own: seen.append(1) or own(given))
    shelf = Shelf(tmp_path)
    for method in ("cam", "grad_cam", "layer_cam"):
        columns = {"model": "a", "seed": 0, "method": method}
        measure.member_rows(shelf, columns, **SAME | {"protocol": replace(SOUND, method=method)})
    assert len(measured) == 3
    assert len(seen) == 2


def flipped(content):
    place = content.index(b"0.3333")
    return content[: place + 2] + b"9" + content[place + 3 :]


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"",
        lambda content: np.random.default_rng(0).bytes(400),
        lambda content: content[:-20],
        lambda content: content[: content.index(b"\n") + 1],
        flipped,
    ],
    ids=["empty", "binary", "cut", "headless", "a digit"],
)
def test_a_damaged_record_is_measured_again_with_a_warning(tmp_path, measured, damage):
    explained(tmp_path)
    [path] = (tmp_path / "records").iterdir()
    path.write_bytes(damage(path.read_bytes()))
    with pytest.warns(UserWarning, match=f"{path.name} is damaged; what it held is measured again"):
        again = explained(tmp_path)
    assert again.value[0] == pytest.approx(2 / 3)
    pd.testing.assert_frame_equal(explained(tmp_path), again)
    assert len(measured) == 2


def test_a_directory_where_a_record_belongs_is_named(tmp_path, measured):
    explained(tmp_path)
    [path] = (tmp_path / "records").iterdir()
    path.unlink()
    path.mkdir()
    with pytest.raises(UserError, match=f"cannot read .*{path.name}: Is a directory; delete it"):
        explained(tmp_path)
    assert len(measured) == 1


def test_a_file_where_the_records_belong_is_named(tmp_path, measured):
    (tmp_path / "records").touch()
    with pytest.raises(UserError, match=r"cannot (read|write) .*records"):
        explained(tmp_path)


@pytest.mark.parametrize("name", ["records", "figures"])
def test_no_link_of_a_strangers_directory_is_written_through(tmp_path, name):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / name).symlink_to(elsewhere)
    with pytest.raises(UserError, match=f"{name} is a symbolic link; delete it"):
        files.make_directory(tmp_path / name)
    assert not list(elsewhere.iterdir())


@pytest.mark.slow
def test_a_model_trained_anew_is_explained_anew(make_run, explain_config, tmp_path):
    """Its records, its agreement with another, and its checks."""
    config = explain_config(
        models=f"m={make_run(tmp_path / 'm')},20={make_run(tmp_path / 'n', seed=1)}",
        compare=(("m", "20"),),
    )
    first = run.explain(config, tmp_path / "explained")
    assert set(first.records.model) == {"m", "20"}
    shutil.rmtree(tmp_path / "m")
    make_run(tmp_path / "m", seed=2)
    again = run.explain(config, tmp_path / "explained")
    fresh = run.explain(config, tmp_path / "elsewhere")
    for name in ("records", "agreement", "trust", "differences"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(fresh, name))
        assert not getattr(again, name).equals(getattr(first, name))
    same = [rows[rows.model == "20"] for rows in (first.records, again.records)]
    pd.testing.assert_frame_equal(*same)


def kept_arrays(workdir, depends, made):
    """Kept under what they depend on, and how often they were made."""

    def make():
        made.append(depends)
        rng = np.random.default_rng(len(made))
        return {"maps": rng.random((3, 2, 2), np.float32), "predicted": np.arange(3) + len(made)}

    columns = {"model": "20", "seed": 3, "method": "cam"}
    return Shelf(workdir).arrays(columns, ("maps", "predicted"), [depends], make)


def test_arrays_are_made_once_and_mapped(tmp_path):
    made = []
    first = kept_arrays(tmp_path, "a", made)
    again = kept_arrays(tmp_path, "a", made)
    other = kept_arrays(tmp_path, "b", made)
    assert made == ["a", "b"]
    for name, values in first.items():
        assert isinstance(again[name], np.memmap)
        np.testing.assert_array_equal(again[name], values)
        assert (other[name] != values).any()
    assert first["maps"].dtype == np.float32 and list(first["predicted"]) == [1, 2, 3]
    assert first["maps"][np.array([2, 0])].shape == (2, 2, 2)


@pytest.mark.parametrize("harm", ["cut", "changed", "gone"])
def test_a_damaged_array_is_made_anew(tmp_path, harm):
    made = []
    first = {name: np.array(one) for name, one in kept_arrays(tmp_path, "a", made).items()}
    [path] = (tmp_path / "records").glob("*-maps.npy")
    content = path.read_bytes()
    path.unlink()
    if harm != "gone":
        path.write_bytes(content[:-4] if harm == "cut" else content[:-1] + b"?")
        with pytest.warns(UserWarning, match="maps.npy is damaged"):
            again = kept_arrays(tmp_path, "a", made)
    else:
        again = kept_arrays(tmp_path, "a", made)
    assert len(made) == 2
    assert (again["maps"] != first["maps"]).any()  # numbers of the second time
    assert list(again["predicted"]) == [2, 3, 4]


def test_what_others_are_compared_with_is_shown_once(tmp_path, measured, shown):
    reference = model(weights=np.ones(4, np.float32))
    for name, own in (("a", model()), ("c", model(weights=np.full(4, 2, np.float32)))):
        compared(tmp_path, own, reference, (name, "b"))
    assert (len(measured), len(shown)) == (2, 1)
