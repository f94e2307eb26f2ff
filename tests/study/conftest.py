"""Finished runs in no time: fresh weights are kept, nothing is trained."""

import runpy

import numpy as np
import pytest
from scripts import ROOT

from kdxai.data import datasets
from kdxai.training import config as training
from kdxai.training import loop


@pytest.fixture(scope="session")
def spots_data(tmp_path_factory):
    """A decoded directory: 40 training and 24 test images of 16x16 pixels, three classes."""
    directory = tmp_path_factory.mktemp("spots")
    rng = np.random.default_rng(0)
    for split, size in (("train", 40), ("test", 24)):
        label = (np.arange(size) % 3).astype(np.int32)
        image = rng.integers(0, 120, (size, 16, 16, 3))
        image[np.arange(size), :, :, label] += 90
        np.savez(directory / f"{split}.npz", image=image.astype(np.uint8), label=label)
    return directory


@pytest.fixture
def fresh_config(spots_data):
    """A run that keeps its fresh weights."""
    config = training.default()
    config.data.name, config.data.data_dir = "spots", str(spots_data)
    config.model.name, config.model.dtype = "plain3-w4", "float32"
    config.epochs, config.batch_size = 0, 8
    return config


@pytest.fixture
def make_run(fresh_config):
    """A finished run in a directory: `make_run(directory, seed=1)`."""

    def make(workdir, **changes):
        config = fresh_config.copy_and_resolve_references()
        config.update_from_flattened_dict(changes)
        loop.train(config, workdir, datasets.load(**config.data))
        return workdir

    return make


@pytest.fixture
def explain_config():
    """configs/explain.py on few images, changed: `explain_config(models=...)`."""
    get_config = runpy.run_path(str(ROOT / "configs" / "explain.py"))["get_config"]

    def make(**changes):
        config = get_config()
        # SciPy's test of fewer than 14 images goes through all permutations.
        config.update({"images": 16, "whole": False, "sanity": 4, "gallery": 2, "resamples": 100})
        config.update(changes)
        return config

    return make
