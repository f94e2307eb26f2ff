"""One small convolutional classifier, written out, against numpy float64, scipy and skimage."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest
from scipy import stats
from scipy.ndimage import map_coordinates
from scipy.special import softmax
from scripts import Process
from skimage.metrics import structural_similarity

from kdxai import classifiers, evaluate, models
from kdxai.errors import UserError
from kdxai.evaluate import rows as rows_module
from kdxai.explain import Classifier
from kdxai.explain.maps import min_max, resize
from kdxai.measures import MEASURES, Column, Measure, Preparation
from kdxai.models.trained import Trained
from kdxai.protocol import Protocol

RNG = np.random.default_rng(0)
FILTERS, HEAD = RNG.normal(size=(4, 4, 3, 6)), RNG.normal(size=(6, 5))
MEAN, STD = np.float32([0.5, 0.45, 0.4]), np.float32([0.25, 0.2, 0.3])
IMAGES = RNG.integers(0, 256, (9, 16, 16, 3)).astype(np.uint8)
LABELS = RNG.integers(0, 5, 9).astype(np.int32)
MASKS = RNG.random((9, 16, 16)) > 0.6


def classifier(head=HEAD):
    """4x4 patches -> 6 features, ReLU, average pooling, a linear head."""
    kernel = jnp.float32(FILTERS)

    def features(image):
        patches = image.reshape(4, 4, 4, 4, 3).transpose(0, 2, 1, 3, 4)
        return jax.nn.relu(jnp.einsum("ijhwc,hwck->ijk", patches, kernel))

    return Classifier(features, lambda f: f.mean((0, 1)) @ jnp.float32(head), jnp.float32(head))


def expected_row(image, label, mask, target="predicted"):
    """The formulas of Poppi et al. 2021 in float64, loops and all."""

    def features(x):
        out = np.zeros((4, 4, 6))
        for i in range(4):
            for j in range(4):
                patch = x[4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
                out[i, j] = np.tensordot(patch, FILTERS, 3)
        return np.maximum(out, 0)

    def logits(x):
        return features(x).mean((0, 1)) @ HEAD

    def heatmap(x, c):
        cam = np.maximum(features(x) @ HEAD[:, c], 0)
        native = (cam - cam.min()) / np.ptp(cam)
        at = np.clip((np.arange(16) + 0.5) / 4 - 0.5, 0, 3)
        return map_coordinates(native, np.meshgrid(at, at, indexing="ij"), order=1), native

    z = (image / 255 - np.float64(MEAN)) / STD
    c = logits(z).argmax() if target == "predicted" else label
    m, native = heatmap(z, c)
    masked = z * m[..., None]
    m_masked, _ = heatmap(masked, c)
    before, after = softmax(logits(z))[c], softmax(logits(masked))[c]
    drop = max(0, before - after) / before
    r = stats.pearsonr(m.ravel(), m_masked.ravel())[0]
    coherency, complexity = (r + 1) / 2, np.abs(m).mean()
    return {
        "label": label,
        "predicted": logits(z).argmax(),
        "explained": c,
        "score": before,
        "score_masked": after,
        "confidence": softmax(logits(z)).max(),
        "average_drop": drop,
        "increase": float(after > before),
        "pearson": r,
        "coherency": coherency,
        "ssim": structural_similarity(
            m, m_masked, data_range=1, gaussian_weights=True, use_sample_covariance=False
        ),
        "complexity": complexity,
        "complexity_native": native.mean(),
        "adcc": 3 / (1 / coherency + 1 / (1 - complexity) + 1 / (1 - drop)),
        "energy_inside": m[mask].sum() / m.sum(),
        "mask_area": mask.mean(),
    }


def run(images=IMAGES, labels=LABELS, protocol=None, **options):
    return evaluate.evaluate(
        options.pop("classifier", classifier()),
        images,
        labels,
        protocol or Protocol(),
        mean=MEAN,
        std=STD,
        **options,
    )


@pytest.mark.parametrize("target", ["predicted", "label"])
def test_rows_are_the_formulas(target):
    rows = run(protocol=Protocol(target=target), masks=MASKS)
    assert len(rows) == 9
    for i in range(9):
        for key, value in expected_row(IMAGES[i], LABELS[i], MASKS[i], target).items():
            assert rows[key][i] == pytest.approx(value, rel=2e-4, abs=2e-5), (i, key)
    assert (rows.degenerate == "").all()


def test_without_masks_no_localisation():
    assert not {"energy_inside", "mask_area"} & set(run())


@pytest.mark.parametrize("chunk", [1, 4, 9, 50])
def test_no_image_is_lost_or_counted_twice(chunk):
    rows, whole = run(chunk=chunk), run()
    assert list(rows.label) == list(LABELS)
    np.testing.assert_allclose(rows.average_drop, whole.average_drop, atol=1e-6)
    np.testing.assert_allclose(rows.ssim, whole.ssim, atol=1e-6)


def write_rows(path):
    """What is computed of the images on the devices that there are."""
    rows = run(protocol=Protocol(method="score_cam"), extra=["perturbation"], chunk=2)
    pair, protocol = (classifier(), classifier(HEAD[:, ::-1])), Protocol(method="smooth_grad")
    agreement = evaluate.compare(*pair, IMAGES, protocol, mean=MEAN, std=STD, chunk=2)
    rows.join(agreement, rsuffix="_between").assign(devices=jax.device_count()).to_csv(path)


@pytest.mark.slow
def test_one_device_and_eight_give_the_same_rows(tmp_path):
    """9 images, 2 on each device at once: with 2 and 8 devices the last chunk is filled up."""
    answers = {}
    for count in (1, 2, 8):
        path = tmp_path / f"{count}.csv"
        done = Process(write_rows, path, devices=count).wait()
        assert done.returncode == 0, done.stderr
        answers[count] = pd.read_csv(path)
        assert (answers[count].pop("devices") == count).all()
    assert len(answers[1]) == 9
    for count in (2, 8):
        pd.testing.assert_frame_equal(answers[count], answers[1], rtol=1e-4, atol=1e-5)


def test_an_image_does_not_depend_on_its_neighbours():
    order = [7, 2, 7]
    some, whole = run(IMAGES[order], LABELS[order]), run()
    np.testing.assert_allclose(some.adcc, whole.adcc[order], atol=1e-6)


def test_zero_and_constant_maps_are_marked_and_measured():
    zero = run(classifier=classifier(np.zeros_like(HEAD)))
    assert (zero.degenerate == "zero").all()
    constant = Classifier(
        lambda image: jnp.ones((4, 4, 2)) + 0 * image.sum(),
        lambda f: f.mean((0, 1)) @ jnp.eye(2),
        jnp.eye(2),
    )
    constant = run(classifier=constant, labels=LABELS % 2)
    assert (constant.degenerate == "constant").all()
    for rows in (zero, constant):
        numbers = rows.select_dtypes("number")
        assert np.isfinite(numbers).all(axis=None)
        np.testing.assert_array_equal(rows.complexity, 0)
        np.testing.assert_array_equal(rows.pearson, 0)


def test_memory_does_not_grow_with_the_images():
    """Every chunk is the same program on the same shapes, so one compilation serves all."""
    rows_module.measured_rows.clear_cache()
    one = classifier()
    for count in (4, 8, 9):
        run(IMAGES[:count], LABELS[:count], chunk=4, classifier=one)
    assert rows_module.measured_rows._cache_size() == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(value):
    head = HEAD.copy()
    head[0, 0] = value
    with pytest.raises(UserError, match="output for .* is not finite"):
        run(classifier=classifier(head))


def test_two_models_agree_with_themselves_and_by_the_class_of_the_second():
    one, other = classifier(), classifier(HEAD[:, ::-1])
    options = {"mean": MEAN, "std": STD}
    same = evaluate.compare(one, one, IMAGES, Protocol(), **options)
    for column in ("same_class", "pearson", "spearman", "ssim", "top_k_iou"):
        np.testing.assert_allclose(same[column], 1, atol=1e-5, err_msg=column)
    crossed = evaluate.compare(one, other, IMAGES, Protocol(), **options, chunk=4)
    assert len(crossed) == 9
    # Reversed columns: the same weights draw the map of class c and that of class 4 - c.
    z = (IMAGES / 255 - MEAN) / STD
    for i, row in crossed.iterrows():
        features = one.features(jnp.float32(z[i]))
        c = int(other(jnp.float32(z[i])).argmax())
        maps = [
            np.asarray(resize(min_max(jax.nn.relu(features @ w)), (16, 16)))
            for w in (jnp.float32(HEAD[:, c]), jnp.float32(HEAD[:, 4 - c]))
        ]
        expected = (
            0 if np.ptp(maps[0]) * np.ptp(maps[1]) == 0 else np.corrcoef(*map(np.ravel, maps))[0, 1]
        )
        assert row.pearson == pytest.approx(expected, abs=1e-3)


def test_the_truth_needs_a_truth():
    with pytest.raises(UserError, match="needs a data set with masks"):
        run(protocol=Protocol(method="mask"))
    rows = run(protocol=Protocol(method="mask"), masks=MASKS)
    np.testing.assert_allclose(rows.energy_inside, 1)
    np.testing.assert_allclose(rows.complexity, MASKS.mean((1, 2)), atol=1e-6)


def test_random_maps_differ_by_image_and_not_by_chunk():
    rows = run(protocol=Protocol(method="random"), ids=np.arange(5, 14))
    assert rows.complexity.nunique() == 9
    again = run(IMAGES[3:], LABELS[3:], Protocol(method="random"), ids=np.arange(8, 14), chunk=2)
    np.testing.assert_allclose(again.complexity, rows.complexity[3:], atol=1e-6)


def test_random_maps_of_two_models_agree_by_chance():
    rows = evaluate.compare(
        classifier(), classifier(), IMAGES, Protocol(method="random"), mean=MEAN, std=STD
    )
    assert np.abs(rows.pearson.mean()) < 0.4


def test_randomisation_asks_for_a_randomised_model():
    with pytest.raises(UserError, match="needs a classifier of randomised parameters"):
        run(extra=["randomisation"])
    other = classifier(np.random.default_rng(5).normal(size=HEAD.shape))
    rows = run(extra=["randomisation"], prepared={"randomisation": other})
    assert rows.randomised_similarity.mean() < 0.9
    same = run(extra=["randomisation"], prepared={"randomisation": classifier()})
    np.testing.assert_allclose(same.randomised_similarity, 1, atol=1e-5)


def colours(head=None, cells=(1, 1, 1, 1)):
    """The map of class c is channel c of the image, its quadrants weighted: all is known."""
    head = jnp.eye(5) if head is None else jnp.float32(head)

    def features(image):
        down, across = (jnp.arange(size) // (size // 2) for size in image.shape[:2])
        return image * jnp.float32(cells)[2 * down[:, None] + across][..., None]

    return Classifier(features, lambda f: f.mean((0, 1)) @ head, head)


COLOURED = np.random.default_rng(1).integers(0, 200, (60, 12, 12, 5)).astype(np.uint8)
COLOUR = np.random.default_rng(2).integers(0, 5, 60).astype(np.int32)
COLOURED[np.arange(60), :, :, COLOUR] += 20
PLAIN = {"mean": np.full(5, 0.41, "f"), "std": np.full(5, 0.2, "f")}


def in_colour(which, extra, model=None, images=COLOURED, prepared=None, **options):
    options = {"protocol": Protocol(), "ids": which, "extra": [extra], **PLAIN, **options}
    if prepared is not None:
        options["prepared"] = {extra: prepared}
    return evaluate.evaluate(model or colours(), images[which], COLOUR[which], **options)


def partners_of(model=None, **options):
    options = PLAIN | {"protocol": Protocol()} | options
    return evaluate.mosaic_partners(model or colours(), COLOURED, COLOUR, **options)


def test_the_grid_pointing_game_by_hand():
    """The image's share of the colour of its class, above the least in the mosaic."""
    partners = COLOURED[partners_of()]
    rows = in_colour(np.arange(60), "grid", prepared=partners)
    for i, row in rows.iterrows():
        tiles = np.stack([COLOURED[i], *partners[i]])[..., row.explained] / 255
        tiles = np.maximum(tiles - 0.41, 0)
        tiles -= tiles.min()
        assert row.grid_pointing_game == pytest.approx(tiles[0].sum() / tiles.sum(), rel=1e-4)
    assert rows.grid_pointing_game.between(0.26, 0.99).mean() > 0.9  # a test of a constant is none


def test_the_images_stand_in_every_cell():
    """All white: the value is the weight of the cell, over the least."""
    white = np.full_like(COLOURED, 255)
    rows = in_colour(
        np.arange(60), "grid", colours(cells=(1, 2, 3, 4)), white, prepared=white[partners_of()]
    )
    values, counts = np.unique(rows.grid_pointing_game.round(4), return_counts=True)
    np.testing.assert_allclose(values, [0, 1 / 6, 2 / 6, 3 / 6], atol=1e-4)
    assert counts.min() >= 5


def test_the_truth_of_a_mosaic_lies_in_its_cell():
    masks = np.zeros((60, 12, 12), bool)
    masks[:, 3:6, 2:9] = True
    options = {"masks": masks[:9], "prepared": COLOURED[partners_of()][:9]}
    rows = in_colour(np.arange(9), "grid", protocol=Protocol(method="mask"), **options)
    np.testing.assert_allclose(rows.grid_pointing_game, 1)


@pytest.mark.parametrize("target", ["predicted", "label"])
def test_partners_are_the_surest_of_three_other_classes(target):
    model = colours(np.random.default_rng(3).normal(size=(5, 5)))
    partners = partners_of(model, protocol=Protocol(target=target), chunk=7)
    logits = ((COLOURED / 255 - 0.41) / 0.2).mean((1, 2)) @ np.asarray(model.head)
    explained = logits.argmax(1) if target == "predicted" else COLOUR
    confidence = softmax(logits, axis=1)[np.arange(60), COLOUR]
    surest = set()
    for c in range(5):
        own = np.flatnonzero(c == COLOUR)
        surest |= set(own[np.argsort(-confidence[own])][:2])
    assert partners.shape == (60, 3)
    for i, some in enumerate(partners):
        assert len({*COLOUR[some], explained[i]}) == 4
        assert set(some) <= surest - {i}
    assert (explained != COLOUR).any() == (target == "predicted")
    np.testing.assert_array_equal(partners_of(model, protocol=Protocol(target=target)), partners)


def test_too_few_classes_for_a_mosaic():
    with pytest.raises(UserError, match="'grid' needs 4 classes of two images or more, not 3"):
        evaluate.mosaic_partners(
            colours(), COLOURED[:7], np.array([0, 0, 1, 1, 3, 3, 4]), Protocol(), **PLAIN
        )


HEADS = np.random.default_rng(4).normal(size=(3, 5, 5))
CASCADE = {
    "top_down": {"1_head": colours(HEADS[0]), "2_stem": colours(HEADS[1])},
    "bottom_up": {"1_stem": colours(HEADS[2]), "2_head": colours(HEADS[1])},
}


@functools.cache
def cascaded():
    return in_colour(np.arange(6), "cascade", prepared=CASCADE)


def test_the_cascade_by_hand():
    rows = cascaded()
    z = (COLOURED / 255 - 0.41) / 0.2

    def heatmap(i, c, head):
        values = np.maximum(z[i] @ head[:, c], 0)
        return (values - values.min()) / np.ptp(values)

    for i, row in rows.iterrows():
        c = z[i].mean((0, 1)).argmax()
        original = heatmap(i, c, np.eye(5))
        for direction, heads in (("top_down", HEADS[:2]), ("bottom_up", HEADS[[2, 1]])):
            stages = CASCADE[direction]
            maps = [heatmap(i, c, head) for head in heads]
            rho = [stats.spearmanr(original.ravel(), m.ravel())[0] for m in maps]
            alike = {"": rho, "_ssim": [
                structural_similarity(
                    *(original, m), data_range=1, gaussian_weights=True, use_sample_covariance=False
                )
                for m in maps
            ]}  # fmt: skip
            for suffix, curve in alike.items():
                name = f"cascade_{direction}{suffix}"
                got = [row[f"{name}_{stage}"] for stage in stages]
                np.testing.assert_allclose(got, curve, atol=2e-3)
                assert row[name] == pytest.approx(np.mean(curve), abs=2e-3)


def test_all_stages_are_one_program():
    rows_module.drawn_maps.clear_cache()
    one, pytrees = colours(), {}
    for name in "abc":  # of one function, as kdxai's models are
        head = jnp.float32(np.random.default_rng(ord(name)).normal(size=(5, 5)))
        classify = jax.tree_util.Partial(_pooled, head)
        pytrees[name] = Classifier(jax.tree_util.Partial(one.features), classify, head)
    in_colour(np.arange(9), "cascade", prepared={"top_down": pytrees}, chunk=4)
    assert rows_module.drawn_maps._cache_size() == 1


def _pooled(head, features):
    return features.mean((0, 1)) @ head


def test_a_grid_does_not_depend_on_the_batch():
    partners, order = COLOURED[partners_of()], np.array([5, 3, 3, 7, 0])
    model = colours(cells=(1, 2, 3, 4))  # so that the cell counts
    whole = in_colour(np.arange(8), "grid", model, prepared=partners[:8])
    rows = in_colour(order, "grid", model, prepared=partners[order], chunk=2)
    assert whole.grid_pointing_game.nunique() == 8
    np.testing.assert_allclose(rows.grid_pointing_game, whole.grid_pointing_game[order], atol=1e-5)


def test_a_cascade_does_not_depend_on_the_batch():
    order = np.array([5, 3, 3, 1, 0])
    rows = in_colour(order, "cascade", prepared=CASCADE, chunk=2)
    names = [name for name in rows if name.startswith("cascade")]
    np.testing.assert_allclose(rows[names], cascaded()[names].iloc[order], atol=1e-5)


def test_games_ask_for_what_they_need():
    with pytest.raises(UserError, match="'cascade' needs classifiers with randomised stages"):
        in_colour(np.arange(2), "cascade")
    with pytest.raises(UserError, match="'grid' needs partners of every image"):
        in_colour(np.arange(2), "grid")


@pytest.mark.parametrize("baseline", ["blur", "mean", "black"])
def test_the_baseline_is_what_pixels_become(baseline):
    """Everything deleted leaves the score of the baseline image: the last point of the curve."""
    rows = run(protocol=Protocol(baseline=baseline), extra=["perturbation"], chunk=3)
    assert np.isfinite(rows.deletion).all()
    other = run(protocol=Protocol(), extra=["perturbation"], chunk=3)
    same = np.allclose(rows.deletion, other.deletion)
    assert same == (baseline == "blur")


def test_unknown_measures_are_refused():
    with pytest.raises(UserError, match="no measure 'vibes'; known: perturbation"):
        run(extra=["vibes"])


def test_a_new_measure_is_one_entry(monkeypatch):
    mine = Measure(
        lambda subject: {"mine": subject.explanation.heatmap.mean() + subject.prepared.mean()},
        {"mine": Column("Mine", 0)},
        cost=3,
        preparation=Preparation("another model", lambda source: None),
    )
    monkeypatch.setitem(MEASURES, "mine", mine)
    with pytest.raises(UserError, match="the measure 'mine' needs another model"):
        run(extra=["mine"])
    rows = run(extra=["mine"], prepared={"mine": classifier()})
    np.testing.assert_allclose(rows.mine, 2 * rows.complexity, rtol=1e-5)
    assert evaluate.chunk_size(Protocol(), ["mine"], (32, 32)) == 128 // 3


def test_no_images_are_refused():
    with pytest.raises(UserError, match="no images"):
        run(IMAGES[:0], LABELS[:0])


def trained_of(model, variables):
    return Trained(model, {}, variables, MEAN, STD, tuple("abcde"), (16, 16, 3), {})


def test_models_of_one_architecture_share_a_compilation():
    model = models.create("plain3-w4", num_classes=5)
    rows_module.measured_rows.clear_cache()
    for seed in (0, 1):
        variables = model.init(jax.random.key(seed), np.zeros((1, 16, 16, 3)))
        trained = trained_of(model, variables)
        run(classifier=classifiers.as_classifier(trained))
    assert rows_module.measured_rows._cache_size() == 1


def test_networks_that_differ_in_their_activation_are_two():
    """One class with one activation was once measured with the other's program."""
    variables = models.create("plain3-w4", num_classes=5).init(
        jax.random.key(0), np.zeros((1, 16, 16, 3))
    )
    found = {}
    for activation in (jax.nn.relu, jax.nn.gelu):
        model = models.create("plain3-w4", num_classes=5, activation=activation)
        trained = trained_of(model, variables)
        found[activation] = run(classifier=classifiers.as_classifier(trained))
        logits = model.apply(variables, (IMAGES / 255 - MEAN) / STD)
        expected = softmax(np.float64(logits), axis=1).max(1)
        np.testing.assert_allclose(found[activation].score, expected, rtol=1e-4)
    assert not np.allclose(found[jax.nn.relu].score, found[jax.nn.gelu].score)


def test_networks_are_equal_by_value_and_hashable():
    make = functools.partial(models.create, "resnet10-w4", num_classes=3)
    assert make() == make() and hash(make()) == hash(make())
    other = make(activation=jax.nn.gelu)
    assert make() != other and make() != make(dtype=jnp.bfloat16)
    assert make().with_activation(jax.nn.gelu) == other
    assert (
        classifiers.as_classifier(trained_of(other, {"params": {"head": {"kernel": 0}}})).guided
        is None
    )


# One image of 16 x 16 grey levels; its mean in [0, 1] is 1/2, so z = 6 / 2 - 1 = 2.
GREYS = np.linspace(0, 255, 256).reshape(1, 16, 16, 1).astype(np.uint8)


def of_greys(classify):
    model = Classifier(lambda image: image, classify)
    options = {"mean": [0.0], "std": [1.0]}
    return evaluate.evaluate(model, GREYS, [0], Protocol(method="grad_cam"), **options)


def test_one_output_is_refused_and_two_are_right():
    with pytest.raises(UserError, match=r"not \[1\]; for one output z of a sigmoid, return"):
        of_greys(lambda f: 6 * f.mean((0, 1)) - 1)
    rows = of_greys(lambda f: jnp.stack([6 * f.mean() - 1, 0.0]))
    assert rows.score[0] == pytest.approx(0.880797, abs=1e-6)
    assert rows.score_masked[0] == pytest.approx(0.731829, abs=1e-4)
    assert rows.average_drop[0] == pytest.approx(0.169129, abs=1e-4)


def test_probabilities_are_no_logits():
    one = classifier()
    ended = one._replace(classify=lambda f: jax.nn.softmax(one.classify(f)))
    with pytest.raises(UserError, match="outputs are >= 0 and sum to 1 .* return logits"):
        run(classifier=ended)
    # Nor at any other entry.
    protocol, normal = Protocol(method="grad_cam"), {"mean": MEAN, "std": STD}
    for pair in ((one, ended), (ended, one)):
        with pytest.raises(UserError, match=r"models: the outputs .* return logits"):
            evaluate.compare(*pair, IMAGES, protocol, **normal)
    with pytest.raises(UserError, match="return logits"):
        images = np.concatenate([IMAGES, IMAGES[:1]])
        evaluate.mosaic_partners(ended, images, np.arange(10) % 5, protocol, **normal)
    beside = {"randomisation": ended, "cascade": {"top_down": {"1_head": ended}}}
    for measure in beside:
        with pytest.raises(UserError, match="return logits"):
            run(protocol=protocol, extra=[measure], prepared=beside)


def test_a_log_softmax_at_the_end_changes_nothing():
    one = classifier()
    ended = one._replace(classify=lambda f: jax.nn.log_softmax(one.classify(f)))
    columns = ["score", "average_drop", "average_gain", "adcc"]
    found, right = run(classifier=ended)[columns], run()[columns]
    np.testing.assert_allclose(found, right, rtol=1e-4, atol=1e-6)


def test_a_head_is_that_of_the_model():
    """A square head may be given transposed: its shape does not tell."""
    head = RNG.normal(size=(6, 6))
    model = classifier(head)
    run(classifier=model)
    with pytest.raises(UserError, match=r"head is not what classify applies .* \[c, K\]"):
        run(classifier=model._replace(head=jnp.float32(head.T)))
    # CAM alone reads it, and a temperature scales all weights alike.
    run(protocol=Protocol(method="grad_cam"), classifier=model._replace(head=jnp.float32(head.T)))
    run(classifier=model._replace(classify=lambda f: model.classify(f) / 3))
    with pytest.raises(UserError, match="head is not what classify applies"):
        other = model._replace(head=jnp.float32(head.T))
        evaluate.compare(other, model, IMAGES, Protocol(), mean=MEAN, std=STD)


@pytest.mark.parametrize(
    "setting",
    [{"stage": "stage2"}, {"mode": "training"}, {"split": "train"}, {"foreign_head": True}],
)
def test_settings_that_do_nothing_are_refused(setting):
    with pytest.raises(UserError, match=f"{next(iter(setting))} does nothing to a classifier"):
        run(protocol=Protocol(**setting))


def test_a_classifier_is_measured_by_the_protocol_it_was_made_for():
    model = models.create("plain3-w4", num_classes=5)
    variables = model.init(jax.random.key(0), np.zeros((1, 16, 16, 3)))
    trained = trained_of(model, variables)
    protocol = Protocol(method="grad_cam", stage="stage1")
    with pytest.raises(UserError, match="made for stage 'last' .* says 'stage1'"):
        run(classifier=classifiers.as_classifier(trained), protocol=protocol)
    run(classifier=classifiers.as_classifier(trained, protocol), protocol=protocol)


WRONG = {
    "float in [0, 1]": ({"images": IMAGES / 255}, r"uint8, .* float64; np.uint8\(np.round"),
    "normalised": ({"images": np.float32(IMAGES) - 128}, "must be uint8, the pixels as they are"),
    "uint16": ({"images": IMAGES.astype(np.uint16)}, "must be uint8, .* but are uint16"),
    "one image": ({"images": IMAGES[0]}, r"must be \[N, H, W, C\], but are \[16, 16, 3\]"),
    "column": ({"labels": LABELS[:, None]}, r"whole numbers \[N\], .* labels\[:, 0\]"),
    "one-hot": ({"labels": np.eye(5)[LABELS]}, "one-hot.argmax"),
    "fraction": ({"labels": LABELS + 0.5}, r"whole numbers \[N\], but are float64"),
    "too many": ({"labels": np.tile(LABELS, 2)}, "18 labels for 9 images"),
    "too few": ({"labels": LABELS[:5]}, "5 labels for 9 images"),
    "below": ({"labels": LABELS - 5}, "label -.* is none of the model's 5 classes, 0 to 4"),
    "above": ({"labels": LABELS + 5}, "is none of the model's 5 classes, 0 to 4"),
    "three values": ({"masks": MASKS + RNG.integers(0, 2, MASKS.shape)}, "more than two values"),
    "too many ids": ({"ids": np.arange(18)}, r"ids must be whole numbers \[9\]"),
    "too few ids": ({"ids": np.arange(3)}, r"ids must be whole numbers \[9\]"),
    "no chunk": ({"chunk": 0}, "chunk is a whole number of images from 1, or None, not 0"),
    "negative chunk": ({"chunk": -1}, "not -1"),
    "mask shape": ({"masks": MASKS[..., None]}, r"masks must be \[9, 16, 16\]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_input_is_refused(case):
    options, message = WRONG[case]
    with pytest.raises(UserError, match=message):
        run(**options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mean": MEAN * 255}, r"mean must be of images in \[0, 1\]"),
        ({"std": STD * 255}, r"std must be of images in \[0, 1\], above 0"),
        ({"std": [0.2, 0.0, 0.2]}, "above 0"),
        ({"std": [0.2, np.nan, 0.2]}, "above 0"),
        ({"mean": [0.5, 0.5]}, "one number for each of the 3 channels, but has 2"),
    ],
)
def test_what_is_no_normalisation_is_refused(options, message):
    options = {"mean": MEAN, "std": STD} | options
    with pytest.raises(UserError, match=message):
        evaluate.evaluate(classifier(), IMAGES, LABELS, Protocol(), **options)
    with pytest.raises(UserError, match=message):
        evaluate.compare(classifier(), classifier(), IMAGES, Protocol(), **options)


@pytest.mark.parametrize("inside", [1, 255])
def test_masks_of_two_numbers_are_masks(inside):
    rows = run(masks=MASKS.astype(np.uint8) * np.uint8(inside))
    pd.testing.assert_frame_equal(rows, run(masks=MASKS))


def test_lists_of_labels_are_labels():
    pd.testing.assert_frame_equal(run(labels=LABELS.tolist()), run())


def test_models_of_other_classes_do_not_compare():
    options = {"mean": MEAN, "std": STD}
    with pytest.raises(UserError, match="5 and 6 classes"):
        evaluate.compare(
            *(classifier(), classifier(RNG.normal(size=(6, 6))), IMAGES, Protocol()), **options
        )


def test_the_memory_that_a_chunk_takes_is_bounded():
    """At 224 x 224 all copies together are at most 49 times fewer images than at 32 x 32."""
    size = evaluate.chunk_size
    assert size(Protocol(), (), (32, 32)) == 128
    assert size(Protocol(method="score_cam"), (), (32, 32)) == 8
    assert size(Protocol(method="score_cam"), ("road",), (32, 32)) == 1
    assert size(Protocol(), (), (224, 224)) == 2
    assert size(Protocol(method="smooth_grad"), ("perturbation",), (224, 224)) == 1


def test_memory_that_does_not_suffice_is_told(monkeypatch):
    def full(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 34359738368 bytes.")

    monkeypatch.setattr(rows_module, "measured_rows", full)
    with pytest.raises(UserError, match="memory .* is not enough; give a smaller chunk than 64"):
        run(chunk=64)


@pytest.mark.filterwarnings("error::UserWarning")
def test_small_images_are_measured_without_ssim():
    options = {"mean": MEAN, "std": STD}
    small = Classifier(lambda image: image, lambda f: f.mean((0, 1)) @ jnp.float32(HEAD[:3]))
    protocol, images = Protocol(method="grad_cam"), IMAGES[:, :10]
    with pytest.warns(UserWarning, match="10x16 pixels are smaller than SSIM's window, 11x11"):
        rows = evaluate.evaluate(small, images, LABELS, protocol, **options)
    whole = evaluate.evaluate(small, IMAGES[:, :11], LABELS, protocol, **options)
    assert set(whole) - set(rows) == {"ssim"}
    assert np.isfinite(rows.adcc).all()
    with pytest.warns(UserWarning, match="its columns are left out"):
        pair = evaluate.compare(small, small, images, protocol, **options)
    assert "ssim" not in pair and "pearson" in pair
