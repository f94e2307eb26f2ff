"""A vision transformer is trained, kept, explained, and a teacher of a CNN."""

import jax
import numpy as np
import pytest

from kdxai import explain, models
from kdxai.classifiers import as_classifier
from kdxai.data import datasets
from kdxai.errors import UserError
from kdxai.models import trained
from kdxai.training import checks, feed, loop
from kdxai.training.program import build


@pytest.fixture
def config(tiny_config):
    """A ViT's: 2 x 2 patches of 8 x 8 pixels and a class token."""
    tiny_config.model.update(name="vit-1-8-2", pool="token")
    tiny_config.optim.update(name="adamw", lr=0.003, weight_decay=0.05)
    return tiny_config


@pytest.fixture
def dataset(tiny_config):
    return datasets.load(**tiny_config.data)


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    return tmp_path_factory.mktemp("vit")


@pytest.fixture
def teacher(config, dataset, kept):
    """The directory of a trained one."""
    if not any(kept.iterdir()):
        loop.train(config, kept, dataset)
    return kept


def test_it_is_trained_and_kept(config, dataset, teacher):
    found = trained.load(teacher)
    assert found.architecture == {"name": "vit-1-8-2", "dropout": 0.0, "pool": "token"}
    assert [*found.variables] == ["params"]
    assert found.facts["parameters"] == 8 * (48 + 1) + 8 + 40 + 16 * 3 + 840 + 27
    first = build(config, dataset).state.params
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max() > 0, first, found.variables["params"])
    assert all(jax.tree.leaves(moved))


def test_its_halves_are_the_whole_for_one_image(teacher):
    found = trained.load(teacher)
    classifier = as_classifier(found)
    image = jax.random.normal(jax.random.key(0), (8, 8, 3))
    features = classifier.features(image)
    assert models.grid(features).shape == (2, 2, 8) and features.token.shape == (8,)
    whole = found.model.apply(found.variables, image[None])[0]
    np.testing.assert_allclose(classifier.classify(features), whole, atol=1e-5)
    assert classifier.head is None and classifier.guided is None  # GELU, and no average


def test_one_with_averaged_tokens_is_explained_as_a_cnn_is():
    model = models.create("vit-1-8-2", num_classes=3)
    image = jax.random.normal(jax.random.key(0), (8, 8, 3))
    variables = jax.jit(model.init)(jax.random.key(1), image[None])
    none = np.zeros(3)
    classifier = as_classifier(
        trained.Trained(model, {}, variables, none, none, tuple("abc"), (8, 8, 3), {})
    )
    maps = [explain.METHODS[name](classifier, image, 1, relu=False) for name in ("cam", "grad_cam")]
    np.testing.assert_allclose(maps[0] / 4, maps[1], atol=1e-5)  # of the sum of 4 cells


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        *((None, ()), ("attention", ("block0",))),
        *(pytest.param(name, (), marks=pytest.mark.slow) for name in ("hints", "e2kd")),
    ],
)
def test_it_teaches_a_cnn(config, dataset, teacher, name, stage):
    """By its logits and by its features: the loss falls."""
    config.model.update(name="plain3-w4", pool=None)
    config.optim.update(name=None, lr=0.02)
    config.teacher, config.objective.name = str(teacher), name
    config.objective.teacher_stages = stage
    checks.check(config, dataset)
    checks.require_teacher(config, dataset)
    program = build(config, dataset)
    state, batch = program.state, np.arange(config.batch_size, dtype=np.int32)
    losses = []
    for _ in range(4):
        state, totals = program.train_step(state, program.constants(0), feed.process_share(batch))
        losses.append(totals.means()[0])
    means = np.diff([0, *(np.array(losses) * np.arange(1, 5))])  # of each step
    assert np.isfinite(means).all() and means[3] < means[0]


def test_a_class_token_is_no_average_whose_maps_a_loss_could_read(config, dataset, teacher):
    config.model.update(name="plain3-w4", pool=None)
    config.teacher, config.objective.name = str(teacher), "cat"
    message = "class activation maps, which the teacher does not have: .* choose another objective"
    with pytest.raises(UserError, match=message):
        checks.require_teacher(config, dataset)


def test_options_of_the_model(config, dataset):
    config.model.pool = "max"
    with pytest.raises(UserError, match="no pool 'max' of a ViT"):
        checks.check(config, dataset)
    config.model.update(name="resnet8-w4", pool="token")
    with pytest.raises(UserError, match="'resnet8-w4' has no pool; leave it out"):
        checks.check(config, dataset)
    config.model.update(name="vit-1-8-2", patch=3)
    with pytest.raises(UserError, match="patches of 3x3 pixels do not divide images of 8x8"):
        checks.check(config, dataset)
