"""What time, accidents and strangers do to a run's files: found, told, never made worse."""

import json
import logging
import os
import re
import shutil
import sys
import warnings
from contextlib import closing
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy

from kdxai import files
from kdxai.data import datasets
from kdxai.errors import UserError
from kdxai.fingerprints import fingerprint
from kdxai.models import trained
from kdxai.training import checkpoints, history, loop, runs
from kdxai.training.curves import curve_writer
from kdxai.training.program import build

# Of Orbax's tasks that met a damaged file, as they are collected.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

OTHER = '{"validation_accuracy": %s}'
STEPS = [12, 18]  # of two epochs more than one


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A place for a finished run, which every test copies."""
    return tmp_path_factory.mktemp("damage") / "run"


@pytest.fixture
def config(tiny_config):
    tiny_config.epochs, tiny_config.batch_size = 3, 15
    return tiny_config


@pytest.fixture
def dataset(config):
    return datasets.load(**config.data)


@pytest.fixture
def run(config, dataset, kept, tmp_path, monkeypatch):
    """A copy of a finished run of three epochs, whose newest checkpoint is its best."""
    monkeypatch.setattr(checkpoints.time, "sleep", lambda seconds: None)
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", True)
    if not kept.exists():
        loop.train(config, kept, dataset)
        assert trained.read(kept)["facts"]["best_epoch"] == 3
    shutil.copytree(kept, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def unfinished(run):
    (run / trained.MODEL).unlink()
    return run


@pytest.fixture
def like(config, dataset):
    return build(config, dataset).state


def newest(workdir, like):
    accuracies = {row["step"]: row["validation_accuracy"] for row in history.read(workdir)}
    return checkpoints.newest(workdir, like, accuracies)


def below(directory):
    """Every path and the content of every file."""
    paths = sorted(directory.rglob("*"))
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


def remove(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def saved_at(workdir, step, like):
    return fingerprint(checkpoints.best(workdir, step, like))


@pytest.mark.slow
def test_any_part_of_the_newest_checkpoint_may_be_lost_or_garbage(unfinished, like, tmp_path):
    """The state is the newest or the one before, bit for bit, and the run can go on from it."""
    right = {step: saved_at(unfinished, step, like) for step in STEPS}
    directory = unfinished / "checkpoints" / "18"
    went_back = 0
    for path in [directory, *sorted(directory.rglob("*"))]:
        for damage in ("absent", "empty", "garbage"):
            copy = tmp_path / "copy"
            shutil.copytree(unfinished, copy)
            victim, is_directory = copy / path.relative_to(unfinished), path.is_dir()
            remove(victim)
            if damage == "empty":
                victim.mkdir() if is_directory else victim.write_bytes(b"")
            if damage == "garbage":
                victim.write_bytes(b"\xff\x00[" * 50)
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                state = newest(copy, like)
            step = int(state.step)
            assert fingerprint(state) == right[step], (path, damage)
            with closing(checkpoints.Checkpoints(copy)) as saved:
                assert saved.newest_step() == step
                if step == 12 and went_back < 3:
                    saved.save(like.replace(step=like.step + 18), 1.0)
                    saved.wait()
                    assert saved.newest_step() == 18
            if step == 12 and (path, damage) != (directory, "absent"):  # as if never saved
                # Orbax leaves coroutines behind, of which Python warns when they are collected.
                own = [str(one.message) for one in told if one.category is UserWarning]
                assert "checkpoints/18 cannot be read" in own[0], (path, damage)
                assert "going back to the one before it" in own[0]
                went_back += 1
            remove(copy)
    assert went_back > 10


def test_a_run_that_went_back_ends_as_if_nothing_had_been(config, dataset, run):
    """Its history as well, in which the lost epoch stood already."""
    rows, right = history.read(run), trained.read(run)["sha256"]
    (run / trained.MODEL).unlink()
    remove(run / "checkpoints" / "18")
    (run / "checkpoints" / "18").mkdir()
    with pytest.warns(UserWarning, match="checkpoints/18 cannot be read .* going back"):
        loop.train(config, run, dataset)
    assert trained.read(run)["sha256"] == right
    for one, other in zip(history.read(run), rows, strict=True):
        assert one | {"seconds": 0} == other | {"seconds": 0}


def test_a_flipped_bit_is_found(unfinished, like, tmp_path):
    """TensorStore compares no checksum of the arrays: the fingerprint does."""
    right = {step: saved_at(unfinished, step, like) for step in STEPS}
    files = [path for path in (unfinished / "checkpoints" / "18").rglob("d/*") if path.is_file()]
    rng, went_back = np.random.default_rng(0), 0
    for _ in range(20):
        copy = tmp_path / "copy"
        shutil.copytree(unfinished, copy)
        flip(copy / files[rng.integers(len(files))].relative_to(unfinished), rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            state = newest(copy, like)
        assert fingerprint(state) == right[int(state.step)]
        went_back += int(state.step) == 12
        remove(copy)
    assert went_back > 3


def flip(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(content)


@pytest.fixture
def older_best(unfinished):
    """The run, if its second epoch of three had been the best."""
    path = unfinished / history.HISTORY
    lines = path.read_text().splitlines()
    lines[3] = lines[3].replace(",1.0,", ",0.5,")
    path.write_text("\n".join(lines) + "\n")
    notes = unfinished / "checkpoints" / "18" / "metrics" / "metrics"
    notes.write_text(notes.read_text().replace("1.0", "0.5"))
    assert [row["validation_accuracy"] for row in history.read(unfinished)][1:] == [1.0, 0.5]
    return unfinished


@pytest.mark.parametrize(
    "notes", [None, "", "{}", "[]", "\0", "[" * 100_000, OTHER % '"0.9"', OTHER % 0.25]
)
@pytest.mark.parametrize("step", STEPS)
def test_damaged_notes_neither_lose_a_state_nor_the_best(older_best, like, step, notes):
    directory = older_best / "checkpoints" / str(step) / "metrics"
    remove(directory) if notes is None else (directory / "metrics").write_text(notes)
    with pytest.warns(UserWarning, match=rf"checkpoints/{step}: its metrics are damaged"):
        assert int(newest(older_best, like).step) == 18
    with closing(checkpoints.Checkpoints(older_best)) as saved:
        assert int(saved.best(like).step) == 12
        for step in (24, 30, 36):
            saved.save(like.replace(step=np.int32(step)), 0.75)
            saved.wait()
        assert int(saved.best(like).step) == 12
    assert checkpoints._steps(older_best / "checkpoints") == [12, 30, 36]


@pytest.mark.parametrize("damage", ["directory", "arrays"])
def test_a_lost_best_checkpoint_is_told(older_best, like, damage):
    directory = older_best / "checkpoints" / "12"
    remove(directory if damage == "directory" else directory / "default")
    with pytest.warns(
        UserWarning, match=r"checkpoints/12 with validation accuracy 100.00%, is lost"
    ):
        assert int(newest(older_best, like).step) == 18


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (MemoryError(), "^$"),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), "RESOURCE_EXHAUSTED"),
        (ValueError("PERMISSION_DENIED: Error opening"), "^cannot read .*/18: Permission denied$"),
        (PermissionError(13, "no"), "^cannot read .*/18: Permission denied$"),
    ],
)
def test_what_is_no_damage_deletes_nothing(unfinished, like, monkeypatch, error, message):
    def fail(path, like):
        raise error

    monkeypatch.setattr(checkpoints, "_restore", fail)
    before = below(unfinished)
    with pytest.raises((type(error), UserError), match=message):
        newest(unfinished, like)
    assert below(unfinished) == before


def test_nothing_is_deleted_where_nothing_can_be_read(unfinished, like):
    for step in STEPS:
        remove(unfinished / "checkpoints" / str(step) / "default" / "manifest.ocdbt")
    before = below(unfinished)
    with pytest.raises(UserError, match="no checkpoint in .* can be read; delete the directory"):
        newest(unfinished, like)
    assert below(unfinished) == before


def test_the_model_is_read_and_nothing_else(run):
    """Whatever becomes of the run around it; and reading changes nothing."""
    right = trained.read(run)["sha256"]
    directory = run / "checkpoints"
    for damage in (
        lambda: (directory / "18" / "metrics" / "metrics").write_text(""),
        lambda: remove(directory / "18"),
        lambda: remove(directory),
        lambda: (run / history.HISTORY).write_bytes(b"\0"),
        lambda: remove(run / history.HISTORY),
        lambda: (run / runs.CONFIG).write_text("{"),
        lambda: remove(run / runs.CONFIG),
    ):
        damage()
        before = below(run)
        assert fingerprint(trained.load(run).variables) == right
        assert below(run) == before


def flipped(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def exchanged(path):
    """For weights of the same names and shapes."""
    arrays = safetensors.numpy.load_file(path)
    safetensors.numpy.save_file({name: array + 1 for name, array in arrays.items()}, path)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (trained.WEIGHTS, flipped, "safetensors is damaged: it is not what model.json is of; "),
        (trained.WEIGHTS, exchanged, "safetensors is damaged: it is not what model.json is of; "),
        (trained.WEIGHTS, cut, "safetensors is damaged; "),
        (trained.WEIGHTS, remove, "cannot read .*safetensors: No such file or directory; "),
        (trained.MODEL, cut, "model.json is damaged; "),
    ],
)
def test_a_damaged_model_is_refused_and_its_command_makes_it_again(
    config, dataset, run, name, damage, message
):
    """As the line says; without training anything."""
    right = trained.read(run)["sha256"]
    damage(run / name)
    before = below(run)
    remedy = "restore it from a copy, or delete it and give the command again that made the model"
    with pytest.raises(UserError, match=message + remedy) as told:
        trained.load(run)
    assert "\n" not in str(told.value)
    assert below(run) == before
    (run / name).unlink(missing_ok=True)
    rows = history.read(run)
    loop.train(config, run, dataset)
    assert fingerprint(trained.load(run).variables) == trained.read(run)["sha256"] == right
    assert history.read(run) == rows


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda best: remove(best), "the best checkpoint, .*/18, is missing; restore it"),
        (lambda best: remove(best.parent), "the best checkpoint, .*/18, is missing; restore it"),
        (lambda best: remove(best / "default"), r"/18 is damaged \(FileNotFoundError\)"),
        (lambda best: remove(best / "default" / "d"), r"/18 is damaged \("),
    ],
)
def test_a_lost_best_is_refused_and_nothing_changed(run, like, damage, message):
    damage(run / "checkpoints" / "18")
    before = below(run)
    with pytest.raises(UserError, match=message):
        checkpoints.best(run, 18, like)
    assert below(run) == before


def test_a_run_of_an_older_version_is_finished_by_its_command(config, dataset, run):
    """It left a result, no model, and knew fewer settings; nothing is trained again."""
    right, rows = trained.read(run), history.read(run)
    for name in (trained.MODEL, trained.WEIGHTS):
        remove(run / name)
    (run / "result.json").write_text(json.dumps({"best_epoch": 3, "test_accuracy": 1.0}))
    settings = json.loads((run / runs.CONFIG).read_text())
    del settings["objective"]
    (run / runs.CONFIG).write_text(json.dumps(settings))
    message = f"{run} holds no finished model; give again the command that began it"
    with pytest.raises(UserError, match=re.escape(message)):
        trained.load(run)
    loop.train(config, run, dataset)
    again = trained.read(run)
    assert again == right
    assert history.read(run) == rows


def test_a_foreign_directory_is_read_through_its_links_and_never_written(
    config, dataset, run, tmp_path
):
    outside = tmp_path / "outside"
    (run / "checkpoints").rename(outside)
    (run / "checkpoints").symlink_to(outside)
    assert trained.load(run)
    (outside / "18" / "metrics" / "metrics").write_text("")
    remove(outside / "12" / "default")
    before = below(outside)
    assert trained.load(run)
    (run / trained.MODEL).unlink()
    with pytest.raises(UserError, match="checkpoints is a symbolic link"):
        loop.train(config, run, dataset)
    assert below(outside) == before


@pytest.mark.parametrize("name", ["lock", "tensorboard"])
def test_no_link_is_followed_for_writing(config, dataset, unfinished, tmp_path, name):
    outside = tmp_path / "outside"
    outside.write_text("mine") if name == "lock" else outside.mkdir()
    if (unfinished / name).exists():
        remove(unfinished / name)
    (unfinished / name).symlink_to(outside)
    with pytest.raises(UserError, match=f"{name} is a symbolic link; delete it"):
        loop.train(config, unfinished, dataset)
    assert outside.read_text() == "mine" if name == "lock" else not list(outside.iterdir())


def test_where_there_are_no_locks_training_says_so(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "fcntl", None)  # as on Windows
    message = "Windows does not have; train on Linux, macOS or WSL"
    with pytest.raises(UserError, match=message), runs.occupied(tmp_path):
        raise AssertionError("it ran")


def test_the_lock_cuts_no_file(tmp_path):
    (tmp_path / "lock").write_text("mine")
    with runs.occupied(tmp_path):
        pass
    assert (tmp_path / "lock").read_text() == "mine"


@pytest.mark.parametrize("name", ["run[1]", "a*", "a?", "a\\b", "gs:", "a[b]/run", "gs:/run"])
def test_a_path_that_orbax_misreads_is_refused_before_anything_is_written(
    config, dataset, run, tmp_path, name
):
    with pytest.raises(UserError, match="^checkpoints cannot be kept in .*; rename that directory"):
        loop.train(config, tmp_path / name, dataset)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    (tmp_path / name).parent.mkdir(exist_ok=True)
    run.rename(tmp_path / name)
    assert trained.load(tmp_path / name)  # a model is read without that library


def test_a_path_of_other_signs_is_none_of_them(config, dataset, tmp_path):
    config.epochs = 0
    workdir = tmp_path / "a b,{c}]%5b'é#gs:x"
    loop.train(config, workdir, dataset)
    assert fingerprint(trained.load(workdir).variables) == trained.read(workdir)["sha256"]


@pytest.mark.parametrize("name", ["s3:", "gs:x", "s3:/bucket"])
def test_curves_are_written_beside_a_relative_run_of_any_name(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    with curve_writer(Path(name) / "tensorboard", 0) as add:
        add(1, {"loss": 1.0})
    assert len(list((tmp_path / name / "tensorboard").iterdir())) == 1


CONTENTS = {
    "empty": b"",
    "binary": b"\xff\x00\x93",
    "list": b"[1]",
    "object": b"{}",
    "text": b"epoch,step,validation_accuracy\n1,x,y\n",
    "more": b"epoch,step,validation_accuracy\n1,2,3,4\n",
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("damage", ["directory", *CONTENTS])
@pytest.mark.parametrize("name", [runs.CONFIG, trained.MODEL, history.HISTORY])
def test_a_damaged_small_file_is_one_line_that_names_it(config, run, name, damage):
    path = run / name
    path.unlink()
    path.mkdir() if damage == "directory" else path.write_bytes(CONTENTS[damage])
    message = f"cannot read {path}: Is a dir" if damage == "directory" else f"{path} is damaged"
    if name == trained.MODEL:
        read = [trained.load, trained.read, runs.finished]
    elif name == history.HISTORY:
        assert trained.load(run)
        read = [history.read]
    else:
        assert trained.load(run)
        # Another config is none that is damaged.
        read = [] if damage == "object" else [lambda run: runs.claim_directory(run, config)]
    for one in read:
        with pytest.raises(UserError, match=re.escape(message)) as told:
            one(run)
        assert len(str(told.value)) < 300
        assert "\n" not in str(told.value)


FACTS = [
    *(("best_epoch", None), ("best_epoch", 18.5), ("validation_accuracy", "1"), ("data", 1)),
    *(("parameters", [18]), ("origin", "train"), ("seconds", {})),
]
PARTS = [
    *(("sha256", 5), ("mean", 0.5), ("class_names", "ab"), ("class_names", [1]), ("std", [None])),
    *(("image_shape", ["8"]), ("facts", []), ("architecture", "plain3-w4")),
]


@pytest.mark.parametrize(("name", "value"), [*PARTS, *FACTS])
def test_a_model_with_a_value_of_another_kind_is_one_line(run, name, value):
    path = run / trained.MODEL
    found = json.loads(path.read_text())
    (found["facts"] if (name, value) in FACTS else found)[name] = value
    path.write_text(json.dumps(found))
    message = f"{path} is damaged: its '{name}' is {value!r}; restore it"
    with pytest.raises(UserError, match=re.escape(message)):
        trained.load(run)


def test_what_is_not_there(run):
    remove(run / history.HISTORY)
    assert history.read(run) == []
    remove(run / trained.MODEL)
    assert runs.finished(run) is None
    with pytest.raises(UserError, match="holds no finished model; give again the command"):
        trained.load(run)


def test_a_run_goes_on_without_its_history(config, dataset, unfinished):
    right = history.read(unfinished)
    remove(unfinished / history.HISTORY)
    with pytest.warns(UserWarning, match="history.csv tells of 0 of 3 epochs"):
        result = loop.train(config, unfinished, dataset)
    assert result["best_epoch"] == 3
    assert result["validation_accuracy"] == right[2]["validation_accuracy"]


def test_the_difference_of_whole_configs_is_bearable(config, tmp_path):
    runs.claim_directory(tmp_path, config)
    path = tmp_path / runs.CONFIG
    path.write_text(json.dumps({"augment": {"cutout": "x" * 5000}}))
    with pytest.raises(UserError, match=r"augment.cutout .*, and \d\d more; change") as told:
        runs.claim_directory(tmp_path, config)
    assert len(str(told.value)) < 500


def test_what_a_killed_write_left_is_removed(config, dataset, unfinished):
    mine = [unfinished / ".hidden", unfinished / f".history.csv.{'g' * 32}"]
    left = [unfinished / f".{name}.{'0123456789abcdef' * 2}" for name in ("model.json", "a")]
    for path in mine + left:
        path.write_text("half")
    left.append(unfinished / "checkpoints" / "24.orbax-checkpoint-tmp-17")
    shutil.copytree(unfinished / "checkpoints" / "18", left[-1])
    loop.train(config, unfinished, dataset)
    assert [path.exists() for path in mine] == [True, True]
    assert not any(path.exists() for path in left)


def test_a_write_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda number: done.append("sync") or fsync(number))
    monkeypatch.setattr(
        Path, "replace", lambda self, to: done.append(self.read_bytes()) or replace(self, to)
    )
    files.write_bytes(tmp_path / "file", b"content")
    assert done == ["sync", b"content", "sync"]
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
