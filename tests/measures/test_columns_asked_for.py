"""The columns of measures that are made when asked for, restated in numpy float64.

As in tests/test_measures_columns.py, whose small network it is: no function of kdxai.metrics.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform
from scipy.special import softmax
from test_measures_columns import (
    HEAD,
    IMAGES,
    MASKS,
    SIDE,
    STD,
    assert_columns,
    classifier,
    curves,
    draw,
    imputed,
    logits_of,
    pearson,
    subject,
)

from kdxai.explain import METHODS, min_max, resize
from kdxai.measures import MEASURES
from kdxai.measures.axioms import shifted
from kdxai.protocol import Protocol


def probabilities(images, c):
    """Rounded: what changes nothing has equal scores."""
    return softmax(logits_of(images), -1)[..., c].round(12)


def blurred(i):
    image = IMAGES[i].astype(np.float64)
    other = ndimage.gaussian_filter(image, (5, 5, 0), mode="nearest", radius=15)
    return lambda removed: np.where(removed[..., None], other, image)


def signed(e):
    return np.asarray(resize(np.float32(e.raw), (SIDE, SIDE)), np.float64)


def test_arcc():
    def restate(e, key, i):
        image = IMAGES[i].astype(np.float64)
        noise = jax.random.normal(jax.random.fold_in(key, 1), image.shape)
        noise = np.asarray(noise, np.float64) * 0.01 / STD
        fill = lambda removed: imputed(image, removed) + np.where(removed[..., None], noise, 0)  # noqa: E731
        _, gone, come = curves(e, fill, steps=5)
        road = (come - gone)[1:-1].mean()
        parts = (pearson(e.heatmap, e.heatmap_masked) + 1) / 2, 1 - e.heatmap.mean(), max(road, 0)
        return {"arcc_road": road, "arcc": stats.hmean(parts)}

    columns = assert_columns(("arcc",), restate, tolerance=1e-4)
    assert (columns.arcc_road < 0).any() and (columns.arcc > 0.05).any()


def test_correlation():
    def restate(e, key, i):
        fill, c, said, lost = blurred(i), e.class_index, [], []
        keys = jax.random.split(jax.random.fold_in(key, 5), 4)
        for k, share in zip(keys, (0.2, 0.05, 0.4, 0.8), strict=True):
            size = round(share * SIDE**2)
            order = np.argsort(jax.random.bits(k, (32, SIDE**2)), axis=1)
            sets = (np.argsort(order, axis=1) < size).reshape(32, SIDE, SIDE)
            said.append([signed(e)[removed].sum() for removed in sets])
            without = np.stack([fill(removed) for removed in sets])
            lost.append(probabilities(IMAGES[i], c) - probabilities(without, c))
        each = [np.corrcoef(a, b)[0, 1] for a, b in zip(said, lost, strict=True)]
        said, lost = np.ravel(said), np.ravel(lost)
        scale = said @ lost / (said @ said)
        return {
            "faithfulness_correlation": each[0],
            "sensitivity_n": np.mean(each),
            "infidelity": np.square(scale * said - lost).mean(),
        }

    columns = assert_columns(("correlation",), restate, tolerance=2e-4)
    assert columns.sensitivity_n.mean() > 0.1  # CAM is no random map


def test_regions():
    number = np.arange(SIDE) // 2
    squares = number[:, None] * 7 + number

    def restate(e, key, i):
        fill, c = blurred(i), e.class_index
        said = np.array([signed(e)[squares == r].sum() for r in range(49)])
        alone = np.stack([fill(squares == r) for r in range(49)])
        lost = probabilities(IMAGES[i], c) - probabilities(alone, c)
        order = np.argsort(-said)
        line = [fill(np.isin(squares, order[:k])) for k in range(50)]
        curve = probabilities(np.stack(line), c)
        return {
            "faithfulness_estimate": np.corrcoef(said, lost)[0, 1],
            "monotonicity_correlation": stats.spearmanr(np.abs(said), lost**2)[0],
            "monotonicity": (np.diff(curve) <= 0).mean(),
            "irof": 1 - np.trapezoid(curve) / 49 / curve[0],
            "selectivity": np.trapezoid(curve) / 49,
        }

    columns = assert_columns(("regions",), restate, tolerance=2e-4)
    assert columns.faithfulness_estimate.mean() > 0.1


def test_stability():
    def restate(e, key, i):
        noise = jax.random.uniform(
            jax.random.fold_in(key, 2), (10, *IMAGES[i].shape), minval=-0.02, maxval=0.02
        )
        noisy = IMAGES[i] + noise
        look = jax.vmap(lambda x: (draw(classifier(HEAD), x, e.class_index), features(x)))
        maps, parts = jax.tree.map(lambda x: np.asarray(x, np.float64), look(noisy))
        image, noisy = np.float64(IMAGES[i]), np.asarray(noisy, np.float64)
        part = np.asarray(features(IMAGES[i]), np.float64)
        logits = logits_of(noisy)

        def length(many, one, floor=None):
            by = 1 if floor is None else np.maximum(np.abs(one), floor)
            return np.sqrt((((many - one) / by) ** 2).reshape(10, -1).sum(1))

        same = logits.argmax(1) == e.logits.argmax()
        moved = length(maps, e.heatmap, 0.1) * same
        outputs = length(logits, logits_of(image))
        return {
            "local_lipschitz": (length(maps, e.heatmap) / length(noisy, image)).max(),
            "relative_input_stability": (moved / length(noisy, image, 0.1)).max(),
            "relative_representation_stability": (moved / length(parts, part, 0.1)).max(),
            "relative_output_stability": (moved / np.maximum(outputs, 0.1)).max(),
        }

    features = classifier(HEAD).features
    assert_columns(("stability",), restate, tolerance=1e-3)


def test_axioms():
    def restate(e, key, i):
        total = e.raw.sum()
        fall = e.logits[e.class_index] - logits_of(np.zeros((SIDE, SIDE, 3)))[e.class_index]
        gap = abs(total - fall) / (abs(total) + abs(fall))
        return {"completeness_gap": gap, "input_shift": 0}

    assert_columns(("axioms",), restate, tolerance=1e-4)


def test_a_map_that_multiplies_by_the_image_sees_its_shift():
    def times_image(model, image, class_index, mask=None):
        return min_max(METHODS["gradient_x_input"](model, image, class_index))

    def gradient(image):
        return jax.grad(lambda x: classifier(HEAD)(x)[1])(image)

    @jax.jit
    def run(image):
        one = subject(Protocol(), 0, image, jnp.int32(1), None)._replace(draw=times_image)
        heatmap = times_image(one.classifier, image, 1)
        one = one._replace(explanation=one.explanation._replace(heatmap=heatmap))
        return MEASURES["axioms"](one), gradient(image)

    values, slope = run(IMAGES[0])
    before, after = (
        (m - m.min()) / np.ptp(m)
        for m in ((np.float64(slope) * x).sum(-1) for x in (IMAGES[0], IMAGES[0] + 1))
    )
    want = np.linalg.norm(after - before) / np.linalg.norm(before)
    assert want > 0.05
    assert values["input_shift"] == pytest.approx(want, rel=1e-4)


def test_all_that_a_classifier_shows_is_shifted():
    """f'(x + 1) = f(x), of whatever a method may look at."""
    own = classifier(HEAD)._replace(
        guided=lambda image: image.sum((0, 1)),
        attention=lambda image: [image * 2],
        attended=lambda given: given[0].sum() * given[1][0],
        background=IMAGES[:2],
        earlier=(classifier(HEAD),),
    )
    moved, image = shifted(own), jnp.asarray(IMAGES[0])
    tell = lambda one, image: (  # noqa: E731
        *(one.features(image), one.guided(image), one.attention(image)),
        *(one.attended((image, one.attention(image))), one.earlier[0](image), one(image)),
    )
    compare = lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)  # noqa: E731
    jax.tree.map(compare, tell(moved, image + 1), tell(own, image))
    np.testing.assert_allclose(moved.background, IMAGES[:2] + 1, rtol=1e-6)
    bare = shifted(classifier(HEAD))
    assert bare.guided is bare.attention is bare.attended is bare.background is None


def test_what_the_map_alone_says():
    def restate(e, key, i):
        cells = np.stack(np.unravel_index(np.argsort(-e.heatmap, axis=None)[:20], (SIDE, SIDE)), 1)
        cohesion = 19 / minimum_spanning_tree(squareform(pdist(cells))).sum()
        inertia = ((cells - cells.mean(0)) ** 2).sum() + 20 / 6
        concentration = 400 / (2 * np.pi * inertia)
        inside, outside = e.heatmap[MASKS[i]], e.heatmap[~MASKS[i]]
        pairs = (inside[:, None] > outside) + (inside[:, None] == outside) / 2
        return {
            "cohesion": cohesion,
            "concentration": concentration,
            "compactness": stats.hmean([cohesion, concentration]),
            "mask_auc": pairs.mean(),
            "mask_top_k": MASKS[i][tuple(cells.T)].mean(),
        }

    assert_columns(("compactness", "ranking"), restate)
    one = subject(Protocol(), 0, IMAGES[0], jnp.int32(1), None)
    assert not jax.eval_shape(lambda: MEASURES["ranking"](one))
