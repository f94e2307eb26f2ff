"""What a study hands to evaluate: cascades of its models; and the sizes of chunks."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from kdxai import evaluate, models
from kdxai.errors import UserError
from kdxai.protocol import Protocol
from kdxai.study import measure, run
from kdxai.training import config
from kdxai.training.runs import TrainedModel


def trained(name):
    model = models.create(name, num_classes=5)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), np.zeros((1, 16, 16, 3))))
    values = jax.tree.map(
        lambda leaf: 1 + np.arange(leaf.size, dtype="f").reshape(leaf.shape), shapes
    )
    settings = config.default()
    settings.model.name, settings.model.dropout = name, 0.0
    return TrainedModel(model, values, settings, {})


def changed(before, classifier):
    """The top names of what differs from `before`, without the collection."""
    variables = classifier.features.args[0]
    names = set()
    for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
        old = before
        for key in path:
            old = old[key.key]
        if not np.array_equal(old, leaf):
            names.add(path[1].key.removeprefix("units_"))
    return names


@pytest.mark.parametrize(
    ("name", "stages"),
    [
        ("wrn-16-1", ["stem", "stage1", "stage2", "stage3", "final", "head"]),
        ("resnet18-w4", ["stem", "stage1", "stage2", "stage3", "stage4", "head"]),
        ("plain5-w4", ["stage1", "stage2", "stage3", "stage4", "head"]),
    ],
)
def test_a_cascade_randomises_whole_stages_from_either_end(name, stages, monkeypatch):
    monkeypatch.setattr(measure, "shuffled", lambda one: jax.tree.map(np.negative, one.variables))
    one = trained(name)
    cascade = measure.cascade(one, Protocol())
    units = [*one.model.units, "head"]
    for direction, order in (("top_down", stages[::-1]), ("bottom_up", stages)):
        assert list(cascade[direction]) == [f"{i}_{stage}" for i, stage in enumerate(order, 1)]
        for i, classifier in enumerate(cascade[direction].values(), 1):
            expected = {unit for unit in units if unit.partition(".")[0] in order[:i]}
            assert changed(one.variables, classifier) == expected
            head = classifier.features.args[0]["params"]["head"]["kernel"]
            np.testing.assert_array_equal(classifier.head, head)
    whole = measure.randomised(one, Protocol())
    for stages in cascade.values():
        last = list(stages.values())[-1]
        jax.tree.map(np.testing.assert_array_equal, last.features.args, whole.features.args)


def test_a_cascade_takes_the_memory_of_two_models():
    one = trained("plain3-w2")
    cascade = measure.cascade(one, Protocol())
    leaves = jax.tree.leaves([[c.features for c in stages.values()] for stages in cascade.values()])
    assert len({id(leaf) for leaf in leaves}) <= 2 * len(jax.tree.leaves(one.variables))


def test_too_few_classes_for_mosaics_are_refused_before_anything_runs():
    what = SimpleNamespace(protocols=[], extra=["grid"])
    test = SimpleNamespace(label=np.array([0, 0, 1, 1, 2, 2]), mask=None)
    with pytest.raises(UserError, match="'grid' needs 4 classes"):
        run.require_defined(None, what, SimpleNamespace(test=test))


@pytest.mark.parametrize(
    ("method", "extra", "images"),
    [
        ("cam", [], 128),
        ("cam", ["cascade", "randomisation"], 128),
        ("cam", ["grid"], 32),
        ("cam", ["grid", "road"], 12),
        ("score_cam", [], 8),
        ("score_cam", ["grid"], 2),
        ("score_cam", ["sensitivity"], 1),
        ("smooth_grad", [], 16),
    ],
)
def test_the_memory_in_flight_is_bounded(method, extra, images):
    assert evaluate.chunk_size(Protocol(method=method), extra, (32, 32)) == images
