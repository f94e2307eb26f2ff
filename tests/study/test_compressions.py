"""Compressed models as model directories: one-shot, re-estimated, tuned, in rounds."""

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from kdxai import compress, files
from kdxai.data import datasets
from kdxai.errors import UserError
from kdxai.models import trained
from kdxai.study import compressions, members
from kdxai.training import config as training
from kdxai.training import loop, runs


@pytest.fixture
def pruning(make_run, fresh_config, tmp_path):
    """The settings that prune an untrained model to a quarter."""
    parent = make_run(tmp_path / "dense")
    config = compressions.default()
    with config.unlocked():
        config.data = fresh_config.data
    config.update_from_flattened_dict(
        {
            "parent": str(parent),
            "kind": "prune",
            "prune.sparsity": 0.75,
            "tune.batch_size": 8,
            "tune.dtype": "float32",
            "tune.optim.lr": 0.05,
        }
    )
    return config


def make(config, workdir):
    return compressions.compress_model(config, workdir, datasets.load(**config.data))


def convolutions(directory):
    params = flatten_dict(jax.device_get(trained.load(directory).variables["params"]))
    return {k: v for k, v in params.items() if k[-1] == "kernel" and k[0] != "head"}


def share(directory):
    kernels = convolutions(directory).values()
    return sum((k != 0).sum() for k in kernels) / sum(k.size for k in kernels)


def test_a_compressed_model_is_a_model_directory(pruning, tmp_path):
    facts = make(pruning, tmp_path / "pruned")
    assert share(tmp_path / "pruned") == pytest.approx(0.25, abs=0.001)
    parent, model = trained.read(tmp_path / "dense"), trained.load(tmp_path / "pruned")
    assert facts == dict(model.facts)
    origin = facts["origin"]
    assert (origin["kind"], origin["how"], origin["parent"]) == ("compress", "prune", "../dense")
    assert origin["parent_sha256"] == origin["root_sha256"] == parent["sha256"]
    assert facts["parameters"] == parent["facts"]["parameters"]
    # A quarter of the weights, of 32 bits, and where they are: entropy(1/4) = 0.811 bits for each.
    size = sum(kernel.size for kernel in convolutions(tmp_path / "pruned").values())
    head = model.variables["params"]["head"]["kernel"].size * 32
    expected = (size * 32 + head) / (size * (32 / 4 + 0.8113) + head)
    assert facts["factor"] == pytest.approx(expected, rel=0.02)  # it counts layer by layer
    test = datasets.load(**pruning.data).test
    images = ((test.image / 255 - model.mean) / model.std).astype(np.float32)
    answers = model.model.apply(model.variables, images).argmax(-1)
    assert facts["test_accuracy"] == pytest.approx((answers == test.label).mean())
    assert compressions.in_words(facts) == "prune (sparsity 0.75)"


def test_a_child_of_a_child_knows_its_first_ancestor(pruning, tmp_path):
    first = make(pruning, tmp_path / "pruned")
    pruning.parent, pruning.prune.sparsity = str(tmp_path / "pruned"), 0.9
    second = make(pruning, tmp_path / "more")["origin"]
    assert second["root_sha256"] == first["origin"]["root_sha256"] != second["parent_sha256"]
    found = members.opened([("a", str(tmp_path / "dense")), ("b", str(tmp_path / "more"))])
    assert found[0].line == found[1].line


def test_zeros_are_held_through_tuning_and_every_round_goes_on_from_the_last(pruning, tmp_path):
    pruning.tune.epochs, pruning.rounds = 1, 2
    facts = make(pruning, tmp_path / "tuned")
    # sqrt(1/4) is left after the first of two rounds.
    for number, left in ((1, 0.5), (2, 0.25)):
        place = tmp_path / "tuned" / f"round{number}"
        assert share(place / "compressed") == pytest.approx(left, abs=0.001)
        assert share(place / "tuned") == share(place / "compressed")
        start, end = convolutions(place / "compressed"), convolutions(place / "tuned")
        for name, kernel in start.items():
            np.testing.assert_array_equal(end[name] == 0, kernel == 0)
    removed = convolutions(tmp_path / "tuned" / "round1" / "compressed")
    for name, kernel in convolutions(tmp_path / "tuned").items():
        assert not kernel[removed[name] == 0].any()
    assert share(tmp_path / "tuned") == pytest.approx(0.25, abs=0.001)
    assert facts["origin"]["tuned_epochs"] == 2 and facts["origin"]["rounds"] == 2


def test_what_is_done_is_not_done_again(pruning, tmp_path, monkeypatch):
    pruning.tune.epochs = 1
    train, calls = loop.train, []

    def killed(config, workdir, dataset):
        calls.append(workdir)
        result = train(config, workdir, dataset)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(loop, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        make(pruning, tmp_path / "tuned")
    monkeypatch.delattr(compress, "apply")  # nothing is compressed again
    facts = make(pruning, tmp_path / "tuned")
    assert make(pruning, tmp_path / "tuned") == facts and len(calls) == 2


@pytest.mark.slow
def test_the_parent_may_teach_what_is_left_of_it(pruning, tmp_path):
    pruning.tune.epochs, pruning.tune.teacher = 1, compressions.PARENT
    make(pruning, tmp_path / "taught")
    config = files.read_json(tmp_path / "taught" / "round1" / "tuned" / runs.CONFIG)
    assert config["teacher"] == "../../../dense" and config["hold_zeros"]


def test_zeros_of_a_pruned_parent_are_held_whatever_is_done_next(pruning, tmp_path):
    make(pruning, tmp_path / "pruned")
    pruning.parent, pruning.kind, pruning.tune.epochs = str(tmp_path / "pruned"), "none", 1
    make(pruning, tmp_path / "tuned")
    assert share(tmp_path / "tuned") == share(tmp_path / "pruned")


def test_a_quantised_model_is_tuned_on_its_levels(pruning, tmp_path):
    pruning.kind, pruning.quantise.bits, pruning.tune.epochs = "quantise", 3, 1
    facts = make(pruning, tmp_path / "tuned")
    before, after = (tmp_path / "tuned" / "round1" / "compressed"), tmp_path / "tuned"
    for name, kernel in convolutions(after).items():
        levels = [len(np.unique(channel)) for channel in np.moveaxis(kernel, -1, 0)]
        assert max(levels) <= 7 and (kernel != convolutions(before)[name]).any()
    assert facts["worth"]["bits"] < 8  # with the head, which is not rounded


def test_statistics_are_those_of_the_images(pruning, tmp_path):
    pruning.batch_norm = 30
    make(pruning, tmp_path / "again")
    pruning.batch_norm = 0
    make(pruning, tmp_path / "pruned")
    one, other = (trained.load(tmp_path / name).variables for name in ("again", "pruned"))
    jax.tree.map(np.testing.assert_array_equal, one["params"], other["params"])
    means = [jax.tree.leaves(variables["batch_stats"])[0] for variables in (one, other)]
    assert not np.allclose(*means)


def test_another_kinds_settings_are_nothing_to_a_finished_model(pruning, tmp_path):
    make(pruning, tmp_path / "pruned")
    pruning.quantise.bits, pruning.tune.optim.lr = 3, 0.7
    make(pruning, tmp_path / "pruned")
    pruning.prune.sparsity = 0.5
    with pytest.raises(UserError, match=r"made with another config: prune.sparsity 0.75 -> 0.5"):
        make(pruning, tmp_path / "pruned")


BAD = {
    "kind": ({"kind": "shrink"}, "shrink"),
    "no kind": ({"kind": ""}, "say how it is compressed: kind=none or"),
    "sparsity": ({"prune.sparsity": 1.0}, "sparsity must be at least 0 and below 1"),
    "sparsity of rounds": (
        {"prune.sparsity": 1.5, "rounds": 2, "tune.epochs": 1},
        "sparsity must be at least 0 and below 1, not 1.5",
    ),
    "training": ({"tune.epochs": 1, "tune.batch_size": 41}, "batch_size=41 is more than the 36"),
    "teacher": ({"tune.epochs": 1, "tune.teacher": "nowhere"}, "there is no directory nowhere"),
    "everything": ({"prune.sparsity": 0.99999}, "nothing is left of"),
    "bits": ({"kind": "quantise", "quantise.bits": 9}, "bits must be a whole number from 2 to 8"),
    "schedule": ({"rounds": 3}, "rounds=3 train in between; set tune.epochs"),
    "rounds": ({"kind": "none", "rounds": 2, "tune.epochs": 1}, "pruning has 1 round or more"),
    "images": ({"batch_norm": 41}, "batch_norm is a number of training images"),
    "border": ({"batch_norm": 8, "border": "white"}, "border is black or reflect"),
    "parent": ({"parent": ""}, "parent=DIRECTORY"),
    "nowhere": ({"parent": "nowhere"}, "there is no directory nowhere"),
}


@pytest.mark.parametrize("name", sorted(BAD))
def test_bad_settings_are_refused_in_one_line(pruning, tmp_path, name):
    changes, message = BAD[name]
    pruning.update_from_flattened_dict(changes)
    with pytest.raises(UserError, match=message) as refused:
        compressions.compress_alone(pruning, tmp_path / "new")
    assert "\n" not in str(refused.value) and not (tmp_path / "new").exists()


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_tuning_reads_maps_of_the_network_that_there_is(pruning, side):
    """`plain3` has the stage `stage1`, and no block in it as the usual network has."""
    dataset, network = datasets.load(**pruning.data), trained.load(pruning.parent).model
    pruning.tune.epochs, pruning.tune.teacher = 1, compressions.PARENT
    pruning.tune.objective.update({"name": "attention", f"{side}_stages": ("stage1",)})
    compressions.check(pruning, dataset, network)
    pruning.tune.objective[f"{side}_stages"] = ("stage1.block0",)
    with pytest.raises(UserError, match=f"objective.{side}_stages: the model has no stage"):
        compressions.check(pruning, dataset, network)


def test_data_of_other_classes_are_refused(pruning, tmp_path):
    dataset = datasets.load(**pruning.data)
    with pytest.raises(UserError, match="parent and data differ in classes"):
        compressions.compress_model(
            pruning, tmp_path / "new", dataset._replace(class_names=("a", "b"))
        )


def test_the_data_are_the_parents_own(pruning, tmp_path):
    known = pruning.data.to_dict()
    pruning.data = training.data()
    facts = compressions.compress_alone(pruning, tmp_path / "pruned")
    assert facts["data"] == {k: v for k, v in known.items() if v is not None}
