"""Training that starts from a model's weights, with its zeros held."""

import shutil

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from kdxai.data import datasets
from kdxai.errors import UserError
from kdxai.models import trained
from kdxai.training import epochs, loop


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("starts")


@pytest.fixture
def pruned(tiny_config, kept, tmp_path):
    """A model with half of each kernel at zero, its normalisation another than the data's."""
    if not (kept / "pruned").exists():
        loop.train(tiny_config, kept / "dense", datasets.load(**tiny_config.data))
        model = trained.load(kept / "dense")
        rng = np.random.default_rng(0)
        params = jax.tree.map(
            lambda leaf: leaf * (rng.random(leaf.shape) < 0.5) if leaf.ndim > 1 else leaf,
            jax.device_get(model.variables["params"]),
        )
        variables = {**model.variables, "params": params}
        trained.save(model._replace(variables=variables, mean=model.mean / 2), kept / "pruned")
    for name in ("dense", "pruned"):
        shutil.copytree(kept / name, tmp_path / name)
    return tmp_path / "pruned"


def params_of(directory):
    return flatten_dict(jax.device_get(trained.load(directory).variables["params"]), sep="/")


def test_zeros_stay_exactly_zero_and_everything_else_moves(tiny_config, pruned, tmp_path):
    tiny_config.start, tiny_config.hold_zeros = str(pruned), True
    dataset = datasets.load(**tiny_config.data)
    facts = loop.train(tiny_config, tmp_path / "tuned", dataset)
    assert facts["origin"]["start"] == "../pruned"
    np.testing.assert_array_equal(trained.load(tmp_path / "tuned").mean, trained.load(pruned).mean)
    before, after = params_of(pruned), params_of(tmp_path / "tuned")
    for name, leaf in before.items():
        if leaf.ndim > 1:
            np.testing.assert_array_equal(after[name] == 0, leaf == 0)
        assert (after[name] != leaf)[leaf != 0].mean() > 0.9


def test_without_holding_them_zeros_are_trained(tiny_config, pruned, tmp_path):
    tiny_config.start, tiny_config.epochs = str(pruned), 1
    loop.train(tiny_config, tmp_path / "tuned", datasets.load(**tiny_config.data))
    assert all(
        (leaf != 0).all() for leaf in params_of(tmp_path / "tuned").values() if leaf.ndim > 1
    )


def test_an_untouched_start_is_the_model_itself(tiny_config, pruned, tmp_path):
    tiny_config.start, tiny_config.epochs = str(pruned), 0
    facts = loop.train(tiny_config, tmp_path / "kept", datasets.load(**tiny_config.data))
    jax.tree.map(np.testing.assert_array_equal, params_of(pruned), params_of(tmp_path / "kept"))
    # By the normalisation of the start weights, not of the data.
    model, test = trained.load(pruned), datasets.load(**tiny_config.data).test
    images = (test.image / 255 - model.mean) / model.std
    answers = model.model.apply(model.variables, images.astype(np.float32)).argmax(-1)
    assert facts["test_accuracy"] == pytest.approx((answers == test.label).mean())


def test_a_continued_run_holds_the_same_zeros(tiny_config, pruned, tmp_path, monkeypatch):
    """Those of the start, although a weight that is at zero by now was not pruned."""
    tiny_config.start, tiny_config.hold_zeros = str(pruned), True
    dataset = datasets.load(**tiny_config.data)
    loop.train(tiny_config, tmp_path / "undisturbed", dataset)
    validate, calls = epochs.validate, []

    def killed(program, state):
        calls.append(state)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(program, state)

    with monkeypatch.context() as patch:
        patch.setattr(epochs, "validate", killed)
        with pytest.raises(KeyboardInterrupt):
            loop.train(tiny_config, tmp_path / "tuned", dataset)
    loop.train(tiny_config, tmp_path / "tuned", dataset)
    one, other = params_of(tmp_path / "undisturbed"), params_of(tmp_path / "tuned")
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_start_weights_that_do_not_fit_are_refused(tiny_config, pruned, tmp_path):
    dataset = datasets.load(**tiny_config.data)
    tiny_config.start = str(pruned)
    wider = tiny_config.copy_and_resolve_references()
    wider.model.name = "plain3-w8"
    with pytest.raises(UserError, match="name plain3-w8 -> plain3-w4; set model to what it is"):
        loop.train(wider, tmp_path / "other", dataset)
    with pytest.raises(UserError, match="start weights and training differ in classes"):
        loop.train(tiny_config, tmp_path / "other", dataset._replace(class_names=("a", "b")))
    model = trained.load(pruned)
    more = model._replace(variables={**model.variables, "quantisation": {"scale": np.ones(3)}})
    trained.save(more, tmp_path / "int8")
    tiny_config.start = str(tmp_path / "int8")
    with pytest.raises(UserError, match="cannot be trained further: its quantisation"):
        loop.train(tiny_config, tmp_path / "other", dataset)
    tiny_config.start, tiny_config.hold_zeros = None, True
    with pytest.raises(UserError, match="set start=DIRECTORY"):
        loop.train(tiny_config, tmp_path / "other", dataset)
    assert not (tmp_path / "other").exists()


def test_start_weights_that_have_changed_are_refused(tiny_config, pruned, tmp_path):
    tiny_config.start = str(pruned)
    dataset = datasets.load(**tiny_config.data)
    loop.train(tiny_config, tmp_path / "tuned", dataset)
    trained.save(trained.load(tmp_path / "dense"), pruned)
    with pytest.raises(UserError, match="content of start"):
        loop.train(tiny_config, tmp_path / "tuned", dataset)
