"""Every column that measures make of a small real network, restated in numpy float64.

The restatement is given logits, maps, pixels and random numbers, and no function of kdxai.metrics.
"""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import ndimage, stats
from scipy.special import log_softmax, logsumexp, softmax
from scripts import ROOT
from skimage.metrics import structural_similarity

from kdxai import measures
from kdxai.drawing import Explanation
from kdxai.errors import UserError
from kdxai.explain import METHODS, Classifier, min_max, resize
from kdxai.measures import MEASURES, Subject
from kdxai.protocol import Protocol

SIDE, CLASSES, N = 14, 5, 10
RNG = np.random.default_rng(0)
FILTERS = RNG.normal(size=(4, 4, 3, 6)) / 4
HEAD, OTHER_HEAD = RNG.normal(size=(2, 6, CLASSES)) * 3
BIAS = RNG.normal(size=CLASSES) * 2
MEAN, STD = np.float32([0.5, 0.4, 0.6]), np.float32([0.05, 0.2, 0.02])
IMAGES = RNG.normal(size=(N, SIDE, SIDE, 3)).astype(np.float32)
PARTNERS = RNG.normal(size=(N, 3, SIDE, SIDE, 3)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, N).astype(np.int32)
MASKS = RNG.random((N, SIDE, SIDE)) > 0.6
STAGES = {
    "top_down": ("head", "stage1"),
    "bottom_up": ("stem", "stage1", "head"),
}
CASCADE = {
    direction: {stage: RNG.random((N, SIDE, SIDE)).astype(np.float32) for stage in stages}
    for direction, stages in STAGES.items()
}
PREPARED = {"cascade": CASCADE, "grid": PARTNERS}
CORE = ("core", "localisation")
PROTOCOLS = {
    "sound": Protocol(),
    "literal": Protocol(
        score="largest_logit",
        similarity="ssim",
        ssim="uniform",
        complexity="matrix_1_norm",
        baseline="black",
    ),
    "mean": Protocol(baseline="mean"),
}


def classifier(head):
    """4x4 patches -> 6 features, SiLU, average pooling, a linear head; of images of any size.

    What is left of a side over whole patches is not looked at, as by a convolution without padding.
    """

    head = jnp.float32(head)

    def features(image):
        h, w = image.shape[0] // 4, image.shape[1] // 4
        patches = image[: 4 * h, : 4 * w].reshape(h, 4, w, 4, 3).transpose(0, 2, 1, 3, 4)
        kernel = jnp.float32(FILTERS)
        return jax.nn.silu(jnp.einsum("ijhwc,hwck->ijk", patches, kernel, precision="highest"))

    return Classifier(features, lambda f: f.mean((0, 1)) @ head + jnp.float32(BIAS), head)


def logits_of(images):
    """[..., H, W, C] -> [..., K] of the classifier, in float64."""
    h, w = images.shape[-3] // 4, images.shape[-2] // 4
    whole = np.float64(images)[..., : 4 * h, : 4 * w, :]
    patches = whole.reshape(*images.shape[:-3], h, 4, w, 4, 3)
    z = np.einsum("...iajbc,abck->...ijk", patches, FILTERS.astype(np.float32).astype(np.float64))
    return (z / (1 + np.exp(-z))).mean((-3, -2)) @ HEAD.astype(np.float32) + BIAS


def draw(model, image, class_index, mask=None):
    raw = METHODS["cam"](model, image, class_index, relu=False)
    return resize(min_max(raw), image.shape[:2])


def subject(protocol, i, image, label, mask, prepared=None):
    """The subject of one image, explained for its label."""
    model = classifier(HEAD)
    raw = METHODS["cam"](model, image, label, relu=False)
    heatmap = resize(min_max(raw), (SIDE, SIDE))
    masked = image * heatmap[..., None]
    explanation = Explanation(
        class_index=label,
        raw=raw,
        native=min_max(raw),
        heatmap=heatmap,
        masked=masked,
        raw_masked=METHODS["cam"](model, masked, label, relu=False),
        heatmap_masked=draw(model, masked, label),
        logits=model(image),
        logits_masked=model(masked),
    )
    return Subject(
        protocol=protocol,
        classifier=model,
        image=image,
        explanation=explanation,
        draw=draw,
        mask=mask,
        key=jax.random.fold_in(jax.random.key(0), i),
        mean=jnp.asarray(MEAN),
        std=jnp.asarray(STD),
        prepared=prepared,
    )


@functools.cache
def measured(names, protocol="sound"):
    """[N] columns of some measures by name, and what they are restated from."""

    @jax.jit
    @jax.vmap
    def run(i, image, label, mask, prepared):
        one = subject(PROTOCOLS[protocol], i, image, label, mask)
        prepared = {**prepared, "randomisation": draw(classifier(OTHER_HEAD), image, label)}
        values = measures.answer(one) if "core" in names else {}
        for name in names:
            values |= MEASURES[name](one._replace(prepared=prepared.get(name)))
        return values, one.explanation, one.key

    values, explanation, keys = run(np.arange(N), IMAGES, LABELS, MASKS, PREPARED)
    explanation = jax.tree.map(lambda part: np.asarray(part, np.float64), explanation)
    return jax.device_get(values), explanation, keys


def assert_columns(names, restate, protocol="sound", tolerance=2e-5):
    """Each column of each image as restated of (its Explanation, its key, i); none is missing."""
    values, explanations, keys = measured(names, protocol)
    for i in range(N):
        e = Explanation(*(part[i] for part in explanations))
        expected = restate(e._replace(class_index=int(e.class_index)), keys[i], i)
        assert set(expected) == set(values)
        for name, value in expected.items():
            assert values[name][i] == pytest.approx(value, rel=tolerance, abs=tolerance), (i, name)
    return SimpleNamespace(**values)


def pearson(a, b):
    return np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]


def spearman(a, b):
    return stats.spearmanr(np.ravel(np.float32(a)), np.ravel(np.float32(b)))[0]


def ssim(a, b):
    return structural_similarity(
        a, b, data_range=1, gaussian_weights=True, use_sample_covariance=False
    )


def of_logits(e):
    """Before and after masking, of the logits alone."""
    c, p, after = e.class_index, log_softmax(e.logits), log_softmax(e.logits_masked)
    q, q_after = (logsumexp(np.delete(z, c)) - logsumexp(z) for z in (e.logits, e.logits_masked))
    y, y_after = (z[c] - z.mean() for z in (e.logits, e.logits_masked))
    return {
        "score": np.exp(p[c]),
        "score_masked": np.exp(after[c]),
        "confidence": np.exp(p.max()),
        "average_drop": max(0, 1 - np.exp(after[c] - p[c])),
        "increase": float(after[c] > p[c]),
        "average_gain": max(0, 1 - np.exp(q_after - q)),
        "logit_drop": (y - y_after) / e.logits.std(),
        "logit_increase": float(y_after > y),
    }


def of_maps(e, mask):
    m, flat = e.heatmap, np.sort(e.heatmap.ravel())
    shares = flat / flat.sum()
    top, strong = m == m.max(), m >= 0.5 * m.max()
    return {
        "pearson": pearson(m, e.heatmap_masked),
        "coherency": (pearson(m, e.heatmap_masked) + 1) / 2,
        "ssim": ssim(m, e.heatmap_masked),
        "spearman": spearman(m, e.heatmap_masked),
        "complexity": m.mean(),
        "complexity_native": e.native.mean(),
        "entropy": stats.entropy(shares),
        "gini": np.abs(flat[:, None] - flat).mean() / (2 * flat.mean()),
        "effective_area": (np.cumsum(shares[::-1]) < 0.9 - 1e-6).sum() / m.size + 1 / m.size,
        "energy_inside": m[mask].sum() / m.sum(),
        "pointing_game": (top & mask).sum() / top.sum(),
        "iou": (strong & mask).sum() / (strong | mask).sum(),
        "mask_area": mask.mean(),
    }


def with_adcc(values):
    a, b, c = values["coherency"], 1 - values["complexity"], 1 - values["average_drop"]
    return values | {"adcc": 3 / (1 / a + 1 / b + 1 / c)}


def test_core():
    columns = assert_columns(CORE, lambda e, key, i: with_adcc(of_logits(e) | of_maps(e, MASKS[i])))
    # The test can fail: no column says always the same, or the same as its neighbour.
    for name, column in vars(columns).items():
        assert np.unique(column).size > 1, name
    assert (columns.increase != columns.logit_increase).any()
    assert (columns.average_gain > 0.01).any() and (columns.average_drop > 0.01).any()
    assert np.abs(columns.complexity - columns.complexity_native).max() > 2e-4
    assert (columns.score < columns.confidence - 0.01).any()


def test_core_of_the_literal_protocol():
    def restate(e, key, i):
        before, after = e.logits.max(), e.logits_masked.max()
        values = of_logits(e) | of_maps(e, MASKS[i])
        a, b = e.heatmap, e.heatmap_masked
        values["ssim"] = structural_similarity(a, b, data_range=np.ptp(b), win_size=7)
        return with_adcc(
            values
            | {
                "score": before,
                "score_masked": after,
                "average_drop": max(0, (before - after) / before),
                "increase": float(after > before),
                "coherency": values["ssim"],
                "complexity": np.abs(e.native).sum(0).max(),
            }
        )

    columns = assert_columns(CORE, restate, "literal", tolerance=1e-4)
    assert (columns.average_drop > 0.01).any() and np.unique(columns.increase).size > 1


def test_no_masks_no_localisation():
    model = jax.eval_shape(
        lambda: MEASURES["localisation"](
            subject(Protocol(), 0, IMAGES[0], jnp.int32(1), None, PARTNERS[0])
        )
    )
    assert not model


def curves(e, fill, steps=20):
    """Deletion and insertion by probability; `fill` takes [H, W] of what is removed."""
    shuffle = np.random.RandomState(0).permutation(e.heatmap.size)  # of equal pixels
    order = shuffle[np.argsort(-e.heatmap.ravel()[shuffle], kind="stable")]
    place = np.argsort(order).reshape(e.heatmap.shape)
    counts = np.rint(np.arange(steps + 1) * place.size / steps)
    lines = [
        softmax(logits_of(np.stack([fill((place < n) == gone) for n in counts])), -1)
        for gone in (True, False)
    ]
    return counts / place.size, *(line[:, e.class_index] for line in lines)


def baseline(name, image):
    if name == "blur":
        return ndimage.gaussian_filter(image, (5, 5, 0), mode="nearest", radius=15)
    return np.broadcast_to(0 if name == "mean" else -np.float64(MEAN) / STD, image.shape)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_perturbation(protocol):
    def restate(e, key, i):
        image = IMAGES[i].astype(np.float64)
        other = baseline(PROTOCOLS[protocol].baseline, image)
        x, gone, come = curves(e, lambda removed: np.where(removed[..., None], other, image))
        at = (0.05, 0.1, 0.2, 0.5)
        deletion, insertion = np.trapezoid(gone, x), np.trapezoid(come, x)
        return {
            "deletion": deletion,
            "insertion": insertion,
            "symmetric_relevance_gain": insertion - deletion,
            "pixel_flipping": (gone[0] - gone).mean(),
            "comprehensiveness": (gone[0] - np.interp(at, x, gone)).mean(),
            "sufficiency": (come[-1] - np.interp(at, x, come)).mean(),
            **{f"deletion_{10 * k}": value for k, value in enumerate(gone[::2])},
            **{f"insertion_{10 * k}": value for k, value in enumerate(come[::2])},
        }

    columns = assert_columns(("perturbation",), restate, protocol)
    assert np.abs(columns.symmetric_relevance_gain).max() > 0.02


@functools.cache
def neighbours():
    """[SIDE^2, SIDE^2]: ROAD's weights of the neighbours of each pixel."""
    rows, columns = (x.ravel() for x in np.mgrid[:SIDE, :SIDE])
    steps = np.abs(rows[:, None] - rows) + 1j * np.abs(columns[:, None] - columns)
    weights = np.isin(steps, [1, 1j]) / 6 + (steps == 1 + 1j) / 12
    return weights / weights.sum(1, keepdims=True)


def imputed(image, removed):
    """ROAD's linear system by a dense solver: each pixel removed is the mean of its neighbours."""
    if removed.all():
        return np.broadcast_to(image.mean((0, 1)), image.shape)
    weights, gone, values = neighbours(), removed.ravel(), image.reshape(-1, 3).copy()
    known = weights[gone][:, ~gone] @ values[~gone]
    values[gone] = np.linalg.solve(np.eye(gone.sum()) - weights[gone][:, gone], known)
    return values.reshape(image.shape)


@pytest.mark.slow
def test_road():
    def restate(e, key, i):
        image = IMAGES[i].astype(np.float64)
        noise = jax.random.normal(jax.random.fold_in(key, 1), image.shape)
        # 0.01 where pixels are in [0, 1]: each channel in its own units.
        noise = np.asarray(noise, np.float64) * 0.01 / STD

        def fill(removed):
            return imputed(image, removed) + np.where(removed[..., None], noise, 0)

        x, gone, come = curves(e, fill)
        return {"road": np.trapezoid(come, x) - np.trapezoid(gone, x)}

    assert_columns(("road",), restate, tolerance=1e-4)


def test_sensitivity():
    def restate(e, key, i):
        noise = jax.random.uniform(
            jax.random.fold_in(key, 2), (10, *IMAGES[i].shape), minval=-0.02, maxval=0.02
        )
        look = jax.vmap(lambda x: draw(classifier(HEAD), x, e.class_index))
        moved = np.asarray(look(IMAGES[i] + noise), np.float64) - e.heatmap
        sizes = np.sqrt((moved**2).sum((1, 2))) / np.sqrt((e.heatmap**2).sum())
        return {"max_sensitivity": sizes.max(), "average_sensitivity": sizes.mean()}

    assert_columns(("sensitivity",), restate, tolerance=1e-4)


def histogram_entropy(heatmap):
    scaled = (heatmap - heatmap.min()) / np.ptp(heatmap)
    _, counts = np.unique(np.minimum(scaled * 100, 99).astype(int), return_counts=True)
    return stats.entropy(counts)


def test_randomisation():
    look = jax.jit(lambda head, x, c: draw(classifier(head), x, c))

    def restate(e, key, i):
        c = e.class_index
        other = np.asarray(look(OTHER_HEAD, IMAGES[i], c))
        step = int(jax.random.randint(jax.random.fold_in(key, 3), (), 1, CLASSES))
        another = np.asarray(look(HEAD, IMAGES[i], (c + step) % CLASSES))
        before, after = map(histogram_entropy, (np.float32(e.heatmap), other))
        return {
            "randomised_similarity": spearman(e.heatmap, other),
            "randomised_entropy_rise": (after - before) / before,
            "other_class_similarity": spearman(e.heatmap, another),
        }

    assert_columns(("randomisation",), restate, tolerance=1e-4)


def test_cascade():
    def restate(e, key, i):
        values = {}
        for direction, stages in STAGES.items():
            for suffix, alike in (("", spearman), ("_ssim", ssim)):
                name = f"cascade_{direction}{suffix}"
                curve = [alike(e.heatmap, np.float64(CASCADE[direction][s][i])) for s in stages]
                values[name] = np.mean(curve)
                values |= {f"{name}_{s}": x for s, x in zip(stages, curve, strict=True)}
        return values

    assert_columns(("cascade",), restate)


def test_grid():
    def restate(e, key, i):
        cell = int(jax.random.randint(jax.random.fold_in(key, 4), (), 0, 4))
        # The own image and its three partners in turn, from its cell on.
        cells = np.roll(np.stack([IMAGES[i], *PARTNERS[i]]), cell, axis=0)
        mosaic = np.concatenate(
            [np.concatenate(cells[:2], axis=1), np.concatenate(cells[2:], axis=1)]
        )
        heatmap = np.asarray(draw(classifier(HEAD), mosaic, e.class_index), np.float64)
        row, column = divmod(cell, 2)
        own = heatmap[row * SIDE :, column * SIDE :][:SIDE, :SIDE]
        return {"grid_pointing_game": own.sum() / heatmap.sum()}

    assert_columns(("grid",), restate, tolerance=1e-4)


@pytest.mark.parametrize("scale", [True, np.uint8(255)])
def test_the_truth_of_a_mosaic_is_the_truth_of_its_cell(scale):
    """Drawn as the map, it lies in the cell alone; whatever number marks the inside."""

    @jax.jit
    def run(mask):
        one = subject(Protocol(), 3, IMAGES[0], jnp.int32(1), mask, PARTNERS[0])
        truth = one._replace(draw=lambda model, image, c, mask: min_max(mask))
        return MEASURES["grid"](truth) | MEASURES["localisation"](one)

    values = run(MASKS[0] * scale)
    assert values["grid_pointing_game"] == 1
    assert values["mask_area"] == pytest.approx(MASKS[0].mean())


def test_a_degenerate_map_is_named():
    kinds = [measures.degenerate(jnp.asarray(m)) for m in ([[0.0, 1]], [[0.0, 0]], [[2.0, 2]])]
    assert [measures.DEGENERATE[k] for k in kinds] == ["", "zero", "constant"]


def test_a_measure_without_a_title_is_none():
    one = subject(Protocol(), 0, IMAGES[0], jnp.int32(1), MASKS[0])
    nameless = MEASURES["core"]._replace(compute=lambda one: {"area": one.image.mean()})
    with pytest.raises(ValueError, match="'area' has no title; declare it"):
        nameless(one)
    with pytest.raises(ValueError, match="'complexity_mine' has no title"):  # no detail of one
        nameless._replace(compute=lambda one: {"complexity_mine": 0})(one)
    for name, measure in MEASURES.items():
        assert measure.columns, name
        assert all(c.title and c.better in (-1, 0, 1) for c in measure.columns.values()), name
    titles = [c.title for measure in MEASURES.values() for c in measure.columns.values()]
    assert len(set(titles)) == len(titles)


def test_a_cascade_runs_down_or_up():
    one = subject(Protocol(), 0, IMAGES[0], jnp.int32(1), MASKS[0], {"down": {"1_head": MASKS[0]}})
    with pytest.raises(UserError, match="top_down or bottom_up, not 'down'"):
        MEASURES["cascade"](one)


def test_the_config_names_every_measure():
    text = (ROOT / "configs" / "explain.py").read_text()
    assert not [name for name in measures.optional() if f"`{name}`" not in text]
