"""launch/import.py, and classifiers of one's own in launch/explain.py, as a user runs them."""

import networks
import pytest
from scripts import call, refused

from kdxai.data import datasets, rendered, shapes

IMPORT = ("import.py", "--config", "configs/import.py", "--config.data.name=shapes")


@pytest.fixture(autouse=True)
def few_shapes(monkeypatch):
    """Nothing here reads many of them, and drawing the usual 13,000 takes long."""
    monkeypatch.setattr(shapes, "CHUNK", 10)
    for split in rendered.SIZES:
        monkeypatch.setitem(rendered.SIZES, split, 10)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([], "say which weights and which model"),
        (["--config.weights=/nowhere.pth", "--config.model.name=resnet8"], "say by which mean"),
        (["--config.weights=x", "--config.vibes=1"], "the config has no 'vibes'"),
    ],
)
def test_bad_imports_are_told_before_data_is_loaded(tmp_path, monkeypatch, flags, message):
    """In one line, and nothing is written."""
    monkeypatch.delattr(datasets, "load")
    assert message in refused(*IMPORT, *flags, "--workdir", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_file_that_is_no_weights_is_named(tmp_path, monkeypatch):
    monkeypatch.delattr(datasets, "load")
    (tmp_path / "net.safetensors").write_bytes(b"none")
    line = refused(
        *IMPORT, f"--config.weights={tmp_path}/net.safetensors", "--config.model.name=resnet8",
        "--config.mean=0.5,0.5,0.5", "--config.std=0.2,0.2,0.2", "--workdir", tmp_path / "out",
    )  # fmt: skip
    assert "net.safetensors' cannot be read as safetensors" in line


@pytest.mark.parametrize("script", ["explain", "audit"])
def test_a_function_that_returns_something_else_is_one_line(tmp_path, script):
    models = f"--config.models=a={networks.__file__}:number"
    flags = (
        f"{script}.py",
        "--config",
        f"configs/{script}.py",
        models,
        "--workdir",
        tmp_path / "o",
    )
    assert "kdxai.External(classifier, mean" in refused(*flags)
    assert not (tmp_path / "o").exists()


def test_classifiers_of_ones_own_are_explained(tmp_path):
    models = f"a={networks.__file__}:mine,b={networks.__file__}:closed"
    done = call(
        "explain.py", "--config", "configs/explain.py", f"--config.models={models}",
        "--config.data.name=shapes", "--workdir", tmp_path / "out",
    )  # fmt: skip
    assert done.returncode == 2  # 32x32 pixels
    assert "'a' takes images [16, 16, 3], but those of 'shapes' are [32, 32, 3]" in done.stderr
