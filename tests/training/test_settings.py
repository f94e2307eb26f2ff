"""What is refused before the first step, in one line."""

import math

import jax
import jax.numpy as jnp
import pytest

from kdxai import devices, models
from kdxai.data import datasets
from kdxai.errors import UserError, is_out_of_memory
from kdxai.settings import flatten
from kdxai.training import checks, loop, optimisers

HUGE = 10**30


@pytest.fixture
def dataset(tiny_config):
    return datasets.load(**tiny_config.data)


def with_setting(config, name, value):
    part, _, key = name.rpartition(".")
    (config[part] if part else config)[key] = value
    return config


BAD = {
    "seed": (-1, 2**32, HUGE),
    "augment.seed": (-1, 2**32),
    "epochs": (-1, 2**31, HUGE, 10**400),
    "batch_size": (0, -16, 91, HUGE),
    "augment.pad": (-1, 8, 100_000),
    "augment.cutout": (-1, 9),
    "model.dropout": (-0.1, 1.0, math.nan),
    "optim.lr": (-0.1, math.nan, math.inf, -math.inf),
    "optim.momentum": (-0.1, 1.0, 2.0, math.nan),
    "optim.weight_decay": (-1e-4, math.nan, math.inf),
    "optim.step_factor": (-0.2, math.nan, math.inf),
    "optim.warmup_epochs": (-1.0, math.nan, math.inf, 2.0),
    "optim.label_smoothing": (-0.1, 1.0, 2.0, math.nan),
    "optim.bias_factor": (-1.0, math.nan, math.inf),
    "optim.head_factor": (-1.0, math.nan, math.inf),
    "optim.lookahead": (-0.1, 1.0, math.nan),
    "distill.temperature": (0.0, -1.0, 1e-30, 1e30, math.nan, math.inf),
    "distill.alpha": (-0.1, 1.1, math.nan),
}
GOOD = {
    "seed": (0, 2**32 - 1),
    "augment.seed": (0, 2**32 - 1),
    "epochs": (1, 1000),
    "batch_size": (1, 90),
    "augment.pad": (0, 7),
    "augment.cutout": (0, 8),
    "optim.lr": (0.0, 1e20),
    "optim.momentum": (0.0, 0.99),
    "optim.warmup_epochs": (0.0, 1.5),
    "optim.label_smoothing": (0.0, 0.99),
    "optim.bias_factor": (None, 0.0, 64.0),
    "optim.lookahead": (None, 0.0, 0.99),
    "distill.temperature": (0.01, 1e6),
    "distill.alpha": (0.0, 1.0),
}


def test_every_number_has_a_range(tiny_config):
    numbers = {
        name
        for name, value in flatten(tiny_config).items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
    unset = {name for name in BAD if flatten(tiny_config)[name] is None}
    assert numbers | unset == set(BAD)
    assert set(BAD) - set(checks.RANGES) == {"augment.pad", "augment.cutout"}  # of the images


@pytest.mark.parametrize("name", BAD)
def test_out_of_range(tiny_config, dataset, tmp_path, name):
    for value in BAD[name]:
        config = with_setting(tiny_config.copy_and_resolve_references(), name, value)
        with pytest.raises(UserError, match=name.replace(".", r"\.")) as told:
            loop.train(config, tmp_path / "run", dataset)
        assert "\n" not in str(told.value)
        assert len(str(told.value)) < 200 or value == 10**400
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("optim", "message"),
    [
        ({"name": "adam"}, "optim.name is sgd, adamw, not 'adam'"),
        ({"name": "adamw", "momentum": 0.8}, "'adamw' does not read optim.momentum; leave it at 0"),
        ({"name": "adamw", "nesterov": False}, "does not read optim.nesterov; leave it at True"),
        ({"name": "adamw", "bias_factor": 2.0}, "not read optim.bias_factor; leave it at None"),
        ({"name": "adamw", "head_factor": 0.0}, "does not read optim.head_factor"),
    ],
)
def test_what_an_optimiser_does_not_read(tiny_config, dataset, optim, message):
    tiny_config.optim.update(optim)
    with pytest.raises(UserError, match=message):
        checks.check(tiny_config, dataset)


@pytest.mark.parametrize("name", [None, "sgd", "adamw"])
def test_optimisers_by_name(tiny_config, dataset, name):
    tiny_config.optim.update(name=name, lookahead=0.9)
    assert checks.check(tiny_config, dataset)


def test_what_never_flips_alternates_nothing(tiny_config, dataset):
    tiny_config.augment.update(flip=False, alternate=True)
    with pytest.raises(UserError, match="augment.alternate says when .* set augment.flip=True"):
        checks.check(tiny_config, dataset)


@pytest.mark.parametrize("name", GOOD)
def test_at_the_end_of_a_range(tiny_config, dataset, name):
    for value in GOOD[name]:
        assert checks.check(with_setting(tiny_config, name, value), dataset)


@pytest.mark.parametrize(
    ("range_", "text"),
    [
        (checks.RANGES["seed"], "at least 0 and at most 4,294,967,295"),
        (checks.RANGES["epochs"], "at least 0"),
        (checks.RANGES["optim.lr"], "at least 0.0 and finite"),
        (checks.RANGES["optim.momentum"], "at least 0.0 and below 1.0"),
    ],
)
def test_ranges_are_told_plainly(range_, text):
    assert str(range_) == text


@pytest.mark.parametrize(
    "at", [(0.6, 0.3), (0.3, 0.3), (0.0, 0.5), (0.5, 1.0), (math.nan,), (2.0,), ("a",)]
)
def test_steps_that_do_not_rise(tiny_config, dataset, at):
    tiny_config.optim.schedule, tiny_config.optim.step_at = "step", at
    with pytest.raises(UserError, match="optim.step_at must be rising fractions of the training"):
        checks.check(tiny_config, dataset)


def test_steps_that_fall_together_all_count(tiny_config):
    """Of three steps in all: 0.3 and 0.4 of them are both the first."""
    optim = tiny_config.optim
    optim.schedule, optim.step_at, optim.step_factor = "step", (0.3, 0.4, 0.7), 0.5
    optim.lr = 0.8
    schedule = optimisers.learning_rate(optim, 3, 1)
    assert [float(schedule(step)) for step in range(3)] == pytest.approx([0.8, 0.2, 0.1])


@pytest.mark.parametrize(
    "name", ["wrn-1000000-1", "wrn-10-99999", "plain5000", "resnet10-w3000", "resnext11-2x2000"]
)
def test_models_of_absurd_size(name):
    with pytest.raises(UserError, match="no depth and no width may be 2000 or more"):
        models.create(name, num_classes=3)


def test_models_of_great_size():
    assert models.create("wrn-1000-10", num_classes=3)
    assert models.create("resnet10-w1024", num_classes=3)


def test_too_little_memory_is_one_line_that_says_what_to_lower(
    tiny_config, dataset, tmp_path, monkeypatch
):
    """JAX's own exception, of more memory than a machine has."""
    step = jax.jit(lambda *_: jnp.zeros(2**48, jnp.float32) + 1)
    monkeypatch.setattr(devices, "spread", lambda *_, **__: step)
    with pytest.raises(UserError, match=r"^the memory of .* is not enough; lower batch_size"):
        loop.train(tiny_config, tmp_path / "run", dataset)


def test_other_errors_of_the_runtime_stay_what_they_are():
    error = jax.errors.JaxRuntimeError("INTERNAL: something else")
    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"), devices.memory("no"):
        raise error
    assert not is_out_of_memory(error)
