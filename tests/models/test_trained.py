"""A model directory: written by anyone, read without anything else."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from kdxai import models
from kdxai.errors import UserError
from kdxai.models import trained


@pytest.fixture(scope="module")
def small():
    architecture = {"name": "plain3-w4", "dropout": 0.0}
    model = models.create(**architecture, num_classes=3)
    variables = model.init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    return trained.Trained(
        model=model,
        architecture=architecture,
        variables=variables,
        mean=np.array([0.1, 0.2, 0.3], np.float32),
        std=np.array([0.4, 0.5, 0.6], np.float32),
        class_names=("cat", "dog", "hörse"),
        image_shape=(8, 8, 3),
        facts={"test_accuracy": 0.5, "origin": {"kind": "train"}},
    )


def test_what_is_saved_is_read(small, tmp_path):
    trained.save(small, tmp_path)
    found = trained.load(tmp_path)
    assert found.model == small.model
    assert found.class_names == small.class_names
    assert found.image_shape == small.image_shape
    assert found.facts == small.facts
    np.testing.assert_array_equal(found.mean, small.mean)
    images = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    np.testing.assert_array_equal(
        found.model.apply(found.variables, images), small.model.apply(small.variables, images)
    )
    half = trained.load(tmp_path, jnp.bfloat16)
    assert half.model.dtype == jnp.bfloat16
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "model.json",
        "weights.safetensors",
    ]


def test_a_directory_without_a_model(tmp_path):
    with pytest.raises(UserError, match="there is no directory .*absent"):
        trained.load(tmp_path / "absent")
    with pytest.raises(UserError, match="holds no finished model; give again the command"):
        trained.load(tmp_path)
    (tmp_path / "net.safetensors").touch()
    with pytest.raises(UserError, match="net.safetensors is a file, but a model is a directory"):
        trained.load(tmp_path / "net.safetensors")


def test_damage(small, tmp_path):
    trained.save(small, tmp_path)
    weights, model = tmp_path / trained.WEIGHTS, tmp_path / trained.MODEL
    content, text = weights.read_bytes(), model.read_text()
    flipped = bytearray(content)
    flipped[-3] ^= 1
    for bad in (bytes(flipped), content[:-5], b"", b"\x00" * 64):
        weights.write_bytes(bad)
        with pytest.raises(UserError, match="weights.safetensors is damaged"):
            trained.load(tmp_path)
    weights.unlink()
    with pytest.raises(UserError, match="cannot read .*weights.safetensors"):
        trained.load(tmp_path)
    weights.write_bytes(content)
    for name, value in (("class_names", [1]), ("mean", "0.1"), ("architecture", None)):
        model.write_text(json.dumps(json.loads(text) | {name: value}))
        with pytest.raises(UserError, match=f"its '{name}' is"):
            trained.load(tmp_path)
    model.write_text(text[:40])
    with pytest.raises(UserError, match="model.json is damaged"):
        trained.load(tmp_path)
    known = json.loads(text)
    known["architecture"]["colour"] = 1
    model.write_text(json.dumps(known))
    with pytest.raises(UserError, match="model.json is damaged: .*colour"):
        trained.load(tmp_path)
