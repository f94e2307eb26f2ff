"""Each term of an objective against its equation in float64 numpy, for one image or pair."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from kdxai.devices import AXIS
from kdxai.training.objectives import Outputs, features, logits, maps, relations
from kdxai.training.objectives.grids import pooled, resized, unit_vectors

RNG = np.random.default_rng(0)
OWN, ITS = RNG.normal(size=(6, 8, 8, 5)), RNG.normal(size=(6, 4, 4, 7))  # student's and teacher's
ODD = RNG.normal(size=(6, 7, 7, 5))
Z_S, Z_T = RNG.normal(scale=3, size=(2, 6, 10))
LABELS = np.array([3, 1, 4, 1, 5, 9])
HEAD_S, HEAD_T = RNG.normal(size=(5, 10)), RNG.normal(size=(7, 10))


def spread(loss, *arrays, devices=1):
    """A loss of a batch as so many devices compute it, and its gradient by the first array."""

    def total(first, *rest):
        # What every device minimises is its own share's mean; gradients meet in collectives.
        values = loss(first, *rest)
        return values.mean(), values

    def split(array):
        return jnp.asarray(array, jnp.float32).reshape(devices, -1, *array.shape[1:])

    one = jax.vmap(jax.grad(total, has_aux=True), axis_name=AXIS)
    gradient, values = jax.jit(one)(*map(split, arrays))
    merged = lambda array: np.asarray(array).reshape(-1, *array.shape[2:])  # noqa: E731
    return merged(values), merged(gradient) / devices


def window(size, cells, cell):
    return slice(cell * size // cells, -(-(cell + 1) * size // cells))


def average(map_, cells):
    """[h, w, ...] -> [cells, cells, ...], cell by cell."""
    height, width = map_.shape[:2]
    return np.array(
        [
            [
                map_[window(height, cells, i), window(width, cells, j)].mean((0, 1))
                for j in range(cells)
            ]
            for i in range(cells)
        ]
    )


def bilinear(size, wanted):
    """[wanted, size]: half-pixel centres, clamped edges."""
    at = np.clip((np.arange(wanted) + 0.5) * size / wanted - 0.5, 0, size - 1)
    low = np.floor(at).astype(int)
    high = np.minimum(low + 1, size - 1)
    weights = np.zeros((wanted, size))
    np.add.at(weights, (np.arange(wanted), low), 1 - (at - low))
    np.add.at(weights, (np.arange(wanted), high), at - low)
    return weights


def interpolated(map_, wanted):
    return bilinear(len(map_), wanted) @ map_ @ bilinear(map_.shape[1], wanted).T


def length_one(vector):
    return vector / np.linalg.norm(vector)


@pytest.mark.parametrize("cells", [1, 2, 3, 7])
def test_pooling_to_any_grid(cells):
    expected = [average(map_, cells) for map_ in ODD]
    np.testing.assert_allclose(pooled(ODD, (cells, cells)), expected, atol=1e-5)


def test_what_has_no_length_stays_zero_and_has_no_gradient():
    zeros = jnp.zeros((2, 3))
    np.testing.assert_array_equal(unit_vectors(zeros), 0)
    np.testing.assert_array_equal(jax.grad(lambda v: unit_vectors(v).sum())(zeros), 0)


@pytest.mark.parametrize(("temperature", "beta"), [(1.0, 1.0), (4.0, 8.0)])
def test_decoupled(temperature, beta):
    expected = []
    for own, its, label in zip(Z_S, Z_T, LABELS, strict=True):
        p_s, p_t = softmax(own / temperature), softmax(its / temperature)
        b_s, b_t = (np.array([p[label], 1 - p[label]]) for p in (p_s, p_t))
        q_s, q_t = (np.delete(p, label) / (1 - p[label]) for p in (p_s, p_t))
        target, others = (b_t * np.log(b_t / b_s)).sum(), (q_t * np.log(q_t / q_s)).sum()
        expected.append(temperature**2 * (target + beta * others))
    actual = decoupled(Z_S, Z_T, temperature, beta)
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
    np.testing.assert_allclose(decoupled(Z_T, Z_T, temperature, beta), 0, atol=1e-5)


def decoupled(own, its, temperature, beta):
    one = lambda a, b, y: logits.decoupled(a, b, y, temperature=temperature, beta=beta)  # noqa: E731
    return jax.jit(jax.vmap(one))(jnp.float32(own), jnp.float32(its), LABELS)


def test_the_parts_make_hintons_loss():
    """KL(p_t || p_s) = TCKD + (1 - p_t of the label) NCKD."""
    one, two = (np.float64(decoupled(Z_S, Z_T, 2.0, beta)) for beta in (0.0, 1.0))
    p_t = softmax(Z_T / 2, -1)
    divergence = (p_t * (log_softmax(Z_T / 2, -1) - log_softmax(Z_S / 2, -1))).sum(-1)
    others = (1 - p_t[np.arange(6), LABELS]) * (two - one)
    np.testing.assert_allclose(one + others, 4 * divergence, rtol=1e-4)


def test_a_sure_teacher_gives_a_finite_loss_and_gradient():
    own, its = np.zeros(10), np.eye(10)[3] * 1e4
    loss = lambda z: logits.decoupled(z, its, 3, temperature=1.0, beta=8.0)  # noqa: E731
    value, gradient = jax.value_and_grad(loss)(jnp.float32(own))
    assert value == pytest.approx(np.log(10), rel=1e-5) and np.isfinite(gradient).all()


def test_standardised():
    expected = (Z_S - Z_S.mean(-1, keepdims=True)) / Z_S.std(-1, keepdims=True)
    np.testing.assert_allclose(jax.vmap(logits.standardised)(Z_S), expected, atol=1e-5)
    np.testing.assert_array_equal(logits.standardised(jnp.full(10, 3.0)), 0)


def test_hints():
    kernel, bias = RNG.normal(size=(5, 7)), RNG.normal(size=7)
    student = Outputs(Z_S, {"a": OWN}, regressor={"a": {"kernel": kernel, "bias": bias}})
    actual = features.hints(student, Outputs(Z_T, {"b": ITS}))
    expected = [
        ((average(own, 4) @ kernel + bias - its) ** 2).mean()
        for own, its in zip(OWN, ITS, strict=True)
    ]
    np.testing.assert_allclose(actual, expected, rtol=1e-5)
    same = student._replace(regressor={"a": {"kernel": np.eye(5), "bias": np.zeros(5)}})
    np.testing.assert_allclose(features.hints(same, same), 0, atol=1e-10)
    two = student._replace(
        taps={"a": OWN, "c": OWN}, regressor=dict.fromkeys("ac", student.regressor["a"])
    )
    twice = features.hints(two, Outputs(Z_T, {"b": ITS, "d": ITS}))
    np.testing.assert_allclose(twice, 2 * np.array(expected), rtol=1e-5)


@pytest.mark.parametrize("own", [OWN, ODD[:, :4, :4]], ids=["larger grid", "the same grid"])
def test_attention(own):
    expected = []
    for student, teacher in zip(own, ITS, strict=True):
        q_s, q_t = interpolated((student**2).sum(-1), 4), (teacher**2).sum(-1)
        expected.append(((length_one(q_s.ravel()) - length_one(q_t.ravel())) ** 2).mean())
    np.testing.assert_allclose(features.attention(own, ITS), expected, rtol=1e-4)
    np.testing.assert_allclose(features.attention(own, own), 0, atol=1e-10)


def test_similarity():
    g_s, g_t = (
        np.array([length_one([(one * other).sum() for other in maps_]) for one in maps_])
        for maps_ in (OWN, ITS)
    )
    actual, _ = spread(relations.pairwise_similarity, OWN, ITS)
    np.testing.assert_allclose(actual, ((g_s - g_t) ** 2).mean(-1), rtol=1e-4)
    np.testing.assert_allclose(actual.mean(), np.linalg.norm(g_s - g_t) ** 2 / 6**2, rtol=1e-4)
    np.testing.assert_allclose(spread(relations.pairwise_similarity, OWN, OWN)[0], 0, atol=1e-10)


def test_relations():
    def relate(maps_):
        vectors = maps_.mean((1, 2))
        distance = np.array([[np.linalg.norm(a - b) for b in vectors] for a in vectors])
        angle = np.zeros((6, 6, 6))
        for i, j, k in np.ndindex(6, 6, 6):
            if j != i and k != i:
                one, other = vectors[j] - vectors[i], vectors[k] - vectors[i]
                angle[i, j, k] = length_one(one) @ length_one(other)
        return distance / distance[~np.eye(6, dtype=bool)].mean(), angle

    def huber(x, y):
        gap = np.abs(x - y)
        return np.where(gap <= 1, gap**2 / 2, gap - 0.5)

    own = OWN * np.array([30, 1, 1, 1, 1, 1])[:, None, None, None]  # an image far from the others
    (d_s, a_s), (d_t, a_t) = relate(own), relate(ITS)
    assert np.abs(d_s - d_t).max() > 1
    expected = huber(d_s, d_t).mean(-1) + 2 * huber(a_s, a_t).mean((1, 2))
    actual, gradient = spread(relations.relations, own, ITS)
    np.testing.assert_allclose(actual, expected, rtol=1e-4)
    assert np.isfinite(gradient).all()
    zero, flat = spread(relations.relations, OWN, OWN)
    np.testing.assert_allclose(zero, 0, atol=1e-10)
    np.testing.assert_allclose(flat, 0, atol=1e-6)


def test_relations_of_images_that_are_alike():
    actual, gradient = spread(relations.relations, np.ones_like(OWN), ITS)
    assert np.isfinite(actual).all() and np.isfinite(gradient).all()


@pytest.mark.parametrize("loss", [relations.pairwise_similarity, relations.relations])
def test_a_batch_is_that_of_all_devices(loss):
    whole, its_gradient = spread(loss, OWN, ITS)
    for devices in (2, 3):
        parts, gradient = spread(loss, OWN, ITS, devices=devices)
        np.testing.assert_allclose(parts, whole, rtol=1e-4)
        np.testing.assert_allclose(gradient, its_gradient, rtol=1e-3, atol=1e-7)


def test_cat():
    def cams(maps_, head):
        return average(np.einsum("hwc,ck->hwk", maps_, head), 2)

    expected = []
    for own, its in zip(ODD, ITS, strict=True):
        m_s, m_t = cams(own, HEAD_S), cams(its, HEAD_T)
        pairs = [
            (length_one(m_s[..., k].ravel()), length_one(m_t[..., k].ravel())) for k in range(10)
        ]
        expected.append(np.mean([((a - b) ** 2).mean() for a, b in pairs]))
    student, teacher = (
        Outputs(Z_S, {"last": ODD}, head=HEAD_S),
        Outputs(Z_T, {"last": ITS}, head=HEAD_T),
    )
    np.testing.assert_allclose(maps.cat(student, teacher), expected, rtol=1e-4)
    np.testing.assert_allclose(maps.cat(teacher, teacher), 0, atol=1e-10)


# A classifier whose gradient by the map is not constant: y = W^T mean_ij tanh(M^T A_ij).
M_S, W_S = RNG.normal(size=(5, 6)), RNG.normal(size=(6, 10))
M_T, W_T = RNG.normal(size=(7, 6)), RNG.normal(size=(6, 10))


def tanh_head(mixing, weights):
    return lambda stage, maps_: jnp.tanh(maps_ @ mixing).mean((1, 2)) @ weights


def reference_cam(map_, mixing, weights, label):
    """Grad-CAM on the image's grid, its gradient by hand."""
    inner = np.tanh(map_ @ mixing)
    gradient = ((1 - inner**2) * weights[:, label] / inner[..., 0].size) @ mixing.T
    cam = np.maximum((map_ * gradient.mean((0, 1))).sum(-1), 0)
    return length_one(interpolated(cam, 16).ravel())


def reference_e2kd(own, mixing):
    classes = [(np.tanh(map_ @ M_T).mean((0, 1)) @ W_T).argmax() for map_ in ITS]
    return np.array(
        [
            1 - reference_cam(a, mixing, W_S, k) @ reference_cam(b, M_T, W_T, k)
            for a, b, k in zip(own, ITS, classes, strict=True)
        ]
    )


def e2kd(own, mixing):
    student = Outputs(Z_S, {"a": own}, (16, 16), tanh_head(mixing, W_S))
    answers = tanh_head(M_T, W_T)
    teacher = Outputs(answers("b", ITS), {"b": jnp.float32(ITS)}, (16, 16), answers)
    return maps.e2kd(student, teacher)


def test_e2kd_and_its_gradient():
    """By the map and by a parameter behind it: both enter through Grad-CAM's own gradient."""
    np.testing.assert_allclose(e2kd(jnp.float32(OWN), M_S), reference_e2kd(OWN, M_S), rtol=1e-4)
    total = lambda own, mixing: e2kd(own, mixing).mean()  # noqa: E731
    gradients = jax.jit(jax.grad(total, (0, 1)))(jnp.float32(OWN), jnp.float32(M_S))
    step = 1e-6
    for which, (array, gradient) in enumerate(zip((OWN, M_S), gradients, strict=True)):
        for index in RNG.integers(0, array.size, 8):
            nudge = np.zeros(array.size)
            nudge[index] = step
            nudge = nudge.reshape(array.shape)
            ends = [
                reference_e2kd(*((OWN + s * nudge, M_S) if which == 0 else (OWN, M_S + s * nudge)))
                for s in (1, -1)
            ]
            expected = (ends[0] - ends[1]).mean() / (2 * step)
            np.testing.assert_allclose(gradient.ravel()[index], expected, rtol=2e-3, atol=1e-6)


def test_e2kd_is_zero_at_the_teacher_where_there_is_a_map():
    answers = tanh_head(M_T, W_T)
    teacher = Outputs(answers("b", ITS), {"b": jnp.float32(ITS)}, (16, 16), answers)
    np.testing.assert_allclose(maps.e2kd(teacher, teacher), 0, atol=1e-5)


def test_resizing_is_that_of_maps():
    expected = [interpolated(map_, 16) for map_ in OWN[..., 0]]
    np.testing.assert_allclose(resized(OWN[..., 0], (16, 16)), expected, atol=1e-5)
