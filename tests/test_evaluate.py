"""One small convolutional classifier, written out, against numpy float64, scipy and skimage."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.ndimage import map_coordinates
from scipy.special import softmax
from skimage.metrics import structural_similarity

from kdxai import evaluate, models
from kdxai.errors import UserError
from kdxai.explain import Classifier
from kdxai.protocol import Protocol
from kdxai.training import config
from kdxai.training.runs import TrainedModel

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
    evaluate._rows.clear_cache()
    one = classifier()
    for count in (4, 8, 9):
        run(IMAGES[:count], LABELS[:count], chunk=4, classifier=evaluate.as_pytree(one))
    assert evaluate._rows._cache_size() == 1


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
            np.asarray(evaluate.resize(evaluate.min_max(jax.nn.relu(features @ w)), (16, 16)))
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
    rows = run(extra=["randomisation"], randomised=other)
    assert rows.randomised_similarity.mean() < 0.9
    same = run(extra=["randomisation"], randomised=classifier())
    np.testing.assert_allclose(same.randomised_similarity, 1, atol=1e-5)


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


def test_no_images_are_refused():
    with pytest.raises(UserError, match="no images"):
        run(IMAGES[:0], LABELS[:0])


def test_models_of_one_architecture_share_a_compilation():
    model = models.create("wrn-10-1", num_classes=5)
    evaluate._rows.clear_cache()
    for seed in (0, 1):
        variables = model.init(jax.random.key(seed), np.zeros((1, 16, 16, 3)))
        trained = TrainedModel(model, variables, config.default(), {})
        run(classifier=evaluate.as_classifier(trained))
    assert evaluate._rows._cache_size() == 1
