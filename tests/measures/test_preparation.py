"""What is prepared for measures: models with shuffled parameters, cascades, mosaics."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.tree_util import Partial
from scipy import stats

from kdxai import External, drawing, evaluate, measures, models
from kdxai.classifiers import as_classifier
from kdxai.errors import UserError
from kdxai.explain import Classifier
from kdxai.measures import MEASURES, randomisation
from kdxai.models.trained import Trained
from kdxai.protocol import Protocol

RNG = np.random.default_rng(0)
MEAN, STD = np.float32([0.5] * 3), np.float32([0.25] * 3)
IMAGES = RNG.integers(0, 256, (12, 12, 12, 3)).astype(np.uint8)
LABELS = (np.arange(12) % 4).astype(np.int32)
PROTOCOL = Protocol("grad_cam")


def trained(name):
    model = models.create(name, num_classes=5)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), np.zeros((1, 16, 16, 3))))
    values = jax.tree.map(
        lambda leaf: 1 + np.arange(leaf.size, dtype="f").reshape(leaf.shape), shapes
    )
    architecture = {"name": name}
    return Trained(model, architecture, values, MEAN, STD, tuple("abcde"), (16, 16, 3), {})


@pytest.mark.parametrize("own", [True, False])
def test_images_that_stand_for_the_data(own):
    """They are those of the split, normalised, and no parameters that are shuffled."""
    protocol = Protocol("expected_gradients", options={"samples": 2})
    model = trained("plain3-w4")
    if not own:
        found = as_classifier(model)._replace(grid=None)
        model = External(found, MEAN, STD, tuple("abcde"), (12, 12, 3))
    many = np.concatenate([IMAGES] * 11)
    background = as_classifier(model, protocol, many).background
    assert background.shape == (64, 12, 12, 3)
    np.testing.assert_allclose(
        np.asarray(background)[[0, -1]], (IMAGES[[0, -1]] / 255 - 0.5) / 0.25, atol=1e-6
    )
    classifier = as_classifier(model, protocol, IMAGES)
    assert len(classifier.background) == 12
    assert as_classifier(model, PROTOCOL, IMAGES).background is None
    shuffled = randomisation.randomised(model, protocol)
    assert shuffled.background is None
    if not own:
        model = model._replace(classifier=classifier)
        np.testing.assert_array_equal(
            randomisation.randomised(model, protocol).background, classifier.background
        )
        return
    options = {"mean": MEAN, "std": STD, "extra": ["randomisation"]}
    prepared = {"randomisation": shuffled}
    rows = evaluate.evaluate(classifier, IMAGES, LABELS, protocol, prepared=prepared, **options)
    assert rows["randomised_similarity"].between(-1, 1).all()


def test_earlier_cuts_are_those_of_the_stages():
    model = trained("plain4-w4")
    for stage, ends in (("last", ["stage1", "stage2"]), ("stage2", ["stage1"]), ("stage1", [])):
        classifier = as_classifier(model, Protocol("refine_cam", stage=stage))
        assert [one.features.func.stage for one in classifier.earlier] == ends
    assert as_classifier(model, PROTOCOL).earlier == ()


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
    monkeypatch.setattr(
        randomisation, "shuffled", lambda one: jax.tree.map(np.negative, one.variables)
    )
    one = trained(name)
    cascade = randomisation.cascade(one, Protocol())
    units = [*one.model.units, "head"]
    for direction, order in (("top_down", stages[::-1]), ("bottom_up", stages)):
        assert list(cascade[direction]) == [f"{i}_{stage}" for i, stage in enumerate(order, 1)]
        for i, classifier in enumerate(cascade[direction].values(), 1):
            expected = {unit for unit in units if unit.partition(".")[0] in order[:i]}
            assert changed(one.variables, classifier) == expected
            head = classifier.features.args[0]["params"]["head"]["kernel"]
            np.testing.assert_array_equal(classifier.head, head)
    whole = randomisation.randomised(one, Protocol())
    for stages in cascade.values():
        last = list(stages.values())[-1]
        jax.tree.map(np.testing.assert_array_equal, last.features.args, whole.features.args)


def test_a_norm_ahead_of_the_head_is_randomised_with_it(monkeypatch):
    monkeypatch.setattr(
        randomisation, "shuffled", lambda one: jax.tree.map(np.negative, one.variables)
    )
    one = trained("convnext-1-1-1-1-w4")
    cascade = randomisation.cascade(one, Protocol("grad_cam"))
    stages = ["stem", "stage1", "stage2", "stage3", "stage4", "head"]
    assert [name.partition("_")[2] for name in cascade["bottom_up"]] == stages
    first, *_, last = cascade["top_down"].values()
    assert changed(one.variables, first) == {"pooling", "head"}
    assert changed(one.variables, last) == {*one.model.units, "pooling", "head"}


def test_a_cascade_takes_the_memory_of_two_models():
    one = trained("plain3-w2")
    cascade = randomisation.cascade(one, Protocol())
    leaves = jax.tree.leaves([[c.features for c in stages.values()] for stages in cascade.values()])
    assert len({id(leaf) for leaf in leaves}) <= 2 * len(jax.tree.leaves(one.variables))


def features(weights, image):
    return jax.nn.relu(image @ weights["kernel"] + weights["bias"])


def classify(weights, maps):
    return maps.mean((0, 1)) @ weights["head"]


WEIGHTS = {
    "kernel": jnp.float32(RNG.normal(size=(3, 6))),
    "bias": jnp.float32(RNG.normal(size=6)),
    "head": jnp.float32(RNG.normal(size=(6, 4))),
    "step": jnp.int32(7),
}


def external(weights=WEIGHTS, make=Partial):
    head = Classifier(make(features, weights), make(classify, weights), weights["head"])
    return External(head, MEAN, STD, tuple("abcd"), (12, 12, 3))


def test_the_parameters_of_ones_own_classifier_are_shuffled_alike_in_both_halves():
    found = randomisation.randomised(external(), PROTOCOL)
    first, second = found.features.args[0], found.classify.args[0]
    jax.tree.map(np.testing.assert_array_equal, first, second)
    np.testing.assert_array_equal(found.head, second["head"])
    for name in ("kernel", "bias", "head"):
        np.testing.assert_array_equal(np.sort(first[name], None), np.sort(WEIGHTS[name], None))
        assert not np.array_equal(first[name], WEIGHTS[name])
    assert first["step"] == 7
    assert found.features.func is features  # the same program


def closed(function, weights):
    return lambda values: function(weights, values)


def test_what_a_model_does_not_show_is_said_to_be_missing():
    every = measures.optional()
    assert measures.lacking(external(), every) == ["cascade"]
    shuffled = ["randomisation", "smoothed_randomisation"]
    assert measures.lacking(external(make=closed), every) == [*shuffled, "cascade"]
    assert measures.lacking(trained("plain3-w2"), every) == []
    for one in (external(), external(make=closed)):
        assert randomisation.cascade(one, PROTOCOL) is None
    assert randomisation.randomised(external(make=closed), PROTOCOL) is None
    half = external()._replace(classifier=external().classifier._replace(classify=lambda f: f))
    assert measures.lacking(half, ["randomisation"]) == ["randomisation"]


def test_of_any_model_what_it_has_is_prepared_and_measured():
    """By `prepare` the same as by hand; the images' partners are of the whole split."""
    chosen, every = np.array([7, 2, 11]), measures.optional()
    model = external()
    prepared = evaluate.prepare(model, IMAGES, LABELS, PROTOCOL, every, chosen=chosen)
    assert set(prepared) == {"randomisation", "smoothed_randomisation", "grid"}
    partners = evaluate.mosaic_partners(
        model.classifier, IMAGES, LABELS, PROTOCOL, mean=MEAN, std=STD
    )
    np.testing.assert_array_equal(prepared["grid"], IMAGES[partners[chosen]])
    extra = [*prepared]
    options = {"mean": MEAN, "std": STD, "extra": extra, "ids": chosen}
    rows = evaluate.evaluate(
        model.classifier, IMAGES[chosen], LABELS[chosen], PROTOCOL, prepared=prepared, **options
    )
    assert {column for name in extra for column in MEASURES[name].columns} <= set(rows)
    assert [*rows.smoothed_randomised_similarity] == pytest.approx(
        [smoothed_similarity(model, prepared["randomisation"], i) for i in chosen], abs=1e-4
    )


def smoothed_similarity(model, other, i):
    """Spearman of the mean maps of ten noisy copies, with the noise of this image's key."""
    image = (IMAGES[i] / 255 - MEAN) / STD
    noise = jax.random.normal(
        jax.random.fold_in(jax.random.fold_in(jax.random.key(0), i), 6), (10, *image.shape)
    )
    noisy = jnp.float32(image + 0.1 * np.ptp(image) * noise)
    c = model.classifier(jnp.float32(image)).argmax()
    maps = [
        jax.vmap(lambda x, one=one: drawing.draw(PROTOCOL, one, x, c).heatmap)(noisy).mean(0)
        for one in (model.classifier, other)
    ]
    return stats.spearmanr(*map(np.ravel, maps))[0]


def test_further_images_are_uint8_and_one_for_each():
    options = {"mean": MEAN, "std": STD, "extra": ["grid"]}
    for wrong in (np.zeros((12, 3, 12, 12, 3)), np.zeros((5, 3, 12, 12, 3), np.uint8)):
        with pytest.raises(UserError, match=r"'grid' must be uint8 images \[12, ..., 12, 12, 3\]"):
            evaluate.evaluate(
                external().classifier, IMAGES, LABELS, PROTOCOL, prepared={"grid": wrong}, **options
            )


def test_ones_own_classifier_obeys_no_stage():
    with pytest.raises(UserError, match="stage does nothing to a classifier of one's own"):
        evaluate.prepare(external(), IMAGES, LABELS, Protocol("grad_cam", "stage2"), [])
