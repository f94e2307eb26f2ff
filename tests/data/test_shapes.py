"""`shapes` against SciPy, Matplotlib and hand values, and for what its label must not depend on."""

import itertools

import chex
import jax
import numpy as np
import pytest
from matplotlib.path import Path
from scipy.ndimage import binary_dilation, binary_erosion, distance_transform_edt, map_coordinates
from scipy.optimize import minimize
from scipy.special import softmax
from scipy.stats import chisquare

from kdxai.data import shapes
from kdxai.errors import UserError

STEP = 0.01
AXIS = np.arange(-2, 2 + STEP / 2, STEP, dtype=np.float32)
X, Y = np.meshgrid(AXIS, AXIS)


@pytest.fixture(scope="module")
def split():
    return shapes.render_split(0, 3000)


@pytest.fixture(scope="module")
def distances():
    return {n: np.asarray(jax.jit(shapes.unit_area(s))(X, Y)) for n, s in shapes.SHAPES.items()}


def test_hand_distances():
    points = np.float32([[0, 0], [3, 0], [0, -2]])
    unit = {name: np.asarray(shapes.unit_area(s)(*points.T)) for name, s in shapes.SHAPES.items()}
    np.testing.assert_allclose(unit["circle"], [-1, 2, 1], atol=1e-6)
    half = np.sqrt(np.pi) / 2  # of a side: the area is pi
    np.testing.assert_allclose(unit["square"], [-half, 3 - half, 2 - half], atol=1e-6)
    outer = 1 / np.sqrt(1 - 0.25)
    np.testing.assert_allclose(unit["ring"], [outer / 2, 3 - outer, 2 - outer], atol=1e-6)
    arm = np.sqrt(np.pi / 20)  # half its width: the cross is made of five squares
    np.testing.assert_allclose(unit["cross"], [-np.sqrt(2) * arm, 3 - 3 * arm, 2 - 3 * arm], 1e-5)
    # Equilateral: the centroid is 2/3 of the height below the tip.
    side = np.sqrt(4 * np.pi / np.sqrt(3))
    assert unit["triangle"][0] == pytest.approx(-side / np.sqrt(12), rel=1e-5)
    assert unit["triangle"][2] == pytest.approx(2 - side / np.sqrt(12), rel=1e-5)


def test_segment():
    x, y = np.float32([[0, 5, 2, -3], [2, 4, 0, -4]])
    np.testing.assert_allclose(shapes.segment(x, y, (0, 0), (2, 0)), [2, 5, 0, 5], rtol=1e-6)
    np.testing.assert_allclose(shapes.segment(x, y, (0, 0), (0, 0)), np.hypot(x, y), rtol=1e-6)


@pytest.mark.parametrize("clockwise", [True, False])
@pytest.mark.parametrize("seed", range(3))
def test_polygon_matches_matplotlib(seed, clockwise):
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, 9))[:: -1 if clockwise else 1]
    vertices = rng.uniform(0.3, 1.5, (9, 1)) * np.stack([np.cos(angle), np.sin(angle)], -1)
    points = rng.uniform(-2, 2, (500, 2))
    closed = np.concatenate([vertices, vertices[:1]])
    t = np.linspace(0, 1, 2001)[:, None, None]
    outline = ((1 - t) * closed[:-1] + t * closed[1:]).reshape(-1, 2)
    want = np.linalg.norm(points[:, None] - outline, axis=-1).min(1)
    want *= np.where(Path(vertices).contains_points(points), -1, 1)
    vertices = [tuple(map(float, vertex)) for vertex in vertices]
    got = shapes.polygon(*np.float32(points).T, vertices)
    np.testing.assert_allclose(got, want, atol=2e-3)


def test_ten_classes():
    assert len(shapes.CLASS_NAMES) == len(set(shapes.CLASS_NAMES)) == 10


@pytest.mark.parametrize("name", shapes.CLASS_NAMES)
def test_unit_shape(name, distances):
    """Area pi, centroid at 0, mirror-symmetric; as far from the outline as SciPy says."""
    distance = distances[name]
    inside = distance < 0
    assert inside.sum() * STEP**2 == pytest.approx(np.pi, rel=0.01)
    np.testing.assert_allclose([X[inside].mean(), Y[inside].mean()], 0, atol=0.005)
    np.testing.assert_allclose(distance, distance[:, ::-1], atol=1e-5)
    assert np.hypot(X, Y)[inside].max() < 1.75
    # Half a step, since the transform measures from the centre of the nearest pixel outside.
    want = STEP * (distance_transform_edt(inside) + distance_transform_edt(~inside) - 0.5)
    near = want < 0.1
    assert np.all(np.abs(distance) < want + 1.5 * STEP)
    assert np.mean(np.abs(np.abs(distance) - want)[near] < 1.5 * STEP) > 0.95


def test_proportions_of_crescent_and_heart(distances):
    """In units of a quarter of the width, by hand."""

    def lengths(name):
        inside = distances[name] < 0
        unit, axis = np.ptp(X[inside]) / 4, inside & (np.abs(X) < STEP / 2)
        bottom = Y[inside].min()
        above = inside & (np.abs(Y - bottom - unit / 2) < STEP / 2)  # half a unit over the bottom
        return [np.ptp(Y[inside]) / unit, np.ptp(Y[axis]) / unit, np.ptp(X[above]) / unit]

    # Discs of radius 2; the other one is 1.6 higher, so the tips are 0.8 above the centre.
    chord = 2 * np.sqrt(2**2 - 1.5**2)
    np.testing.assert_allclose(lengths("crescent"), [2.8, 1.6, chord], rtol=0.02)
    # Lobes of radius 1 that touch in the notch; the tip is a right angle.
    np.testing.assert_allclose(lengths("heart"), [2 + np.sqrt(2), 1 + np.sqrt(2), 1], rtol=0.03)


def test_no_class_is_another_one_turned(distances):
    inside = {name: np.float32(d[::4, ::4] < 0) for name, d in distances.items()}
    x, y, middle = X[::4, ::4], Y[::4, ::4], 50
    for turn in np.deg2rad(np.arange(0, 360, 10)):
        cos, sin = np.cos(turn), np.sin(turn)
        at = np.stack([sin * x + cos * y, cos * x - sin * y]) / (4 * STEP) + middle
        turned = {name: map_coordinates(mask, at, order=1) > 0.5 for name, mask in inside.items()}
        for one, other in itertools.combinations(inside, 2):
            union = turned[one] | (inside[other] > 0)
            overlap = turned[one] & (inside[other] > 0)
            assert overlap.sum() / union.sum() < 0.9, (one, other)


def test_types_and_contents(split):
    images, labels, masks = split
    chex.assert_shape(split, [(3000, 32, 32, 3), (3000,), (3000, 32, 32)])
    assert (images.dtype, labels.dtype, masks.dtype) == (np.uint8, np.int32, bool)
    assert all(isinstance(array, np.ndarray) and array.flags.c_contiguous for array in split)
    assert 0.10 < masks.mean() < 0.14 and masks.mean((1, 2)).min() > 0.05


def test_image_depends_on_seed_and_index_alone(split, monkeypatch):
    chex.assert_trees_all_equal(shapes.render_split(0, 7), tuple(array[:7] for array in split))
    monkeypatch.setattr(shapes, "CHUNK", 3)
    for got, want in zip(shapes.render_split(0, 7), split, strict=True):
        np.testing.assert_allclose(np.float32(got), np.float32(want[:7]), atol=1)
    other = shapes.render_split(1, 7)
    assert all((a != b[:7]).any() for a, b in zip(other, split, strict=True))


def test_vmap_and_single(split):
    keys = jax.vmap(lambda i: jax.random.fold_in(jax.random.key(0), i))(np.arange(8))
    images, labels, masks = jax.jit(jax.vmap(shapes.render))(keys)
    render = jax.jit(shapes.render)
    for i, key in enumerate(keys):
        image, label, mask = render(key)
        # Another fusion may round a pixel the other way.
        for other in (images[i], split[0][i]):
            np.testing.assert_allclose(np.float32(image), np.float32(other), atol=1)
        assert label == labels[i] == split[1][i]
        assert np.array_equal(mask, masks[i]) and np.array_equal(mask, split[2][i])


def test_published_data_do_not_change(split):
    """Figures of one run: another JAX, or an edit, must not quietly draw other images."""
    images, labels, masks = (array[:10] for array in split)
    assert labels.tolist() == [2, 2, 5, 5, 9, 3, 6, 2, 6, 1]
    assert masks.sum((1, 2)).tolist() == [106, 144, 122, 138, 95, 98, 115, 135, 102, 133]
    np.testing.assert_allclose(images.mean((0, 1, 2)), [86.7222, 86.3086, 76.1913], atol=0.01)


def test_labels_are_balanced(split):
    assert chisquare(np.bincount(split[1], minlength=10)).pvalue > 1e-3


def between_classes(values: np.ndarray, labels: np.ndarray) -> float:
    """The share of the variance of [N] values that the class explains (eta squared)."""
    means = np.array([values[labels == c].mean() for c in range(10)])[labels]
    return means.var() / values.var()


def test_only_the_shape_tells_the_class(split):
    images, labels, masks = split
    y, x = np.mgrid[:32, :32]
    area = masks.sum((1, 2))
    centre_x, centre_y = (masks * x).sum((1, 2)) / area, (masks * y).sum((1, 2)) / area
    inside = (images * masks[..., None]).sum((1, 2)) / area[:, None]
    outside = (images * ~masks[..., None]).sum((1, 2)) / (1024 - area[:, None])
    for value in (area, centre_x, centre_y, *inside.T, *outside.T, *images.std((1, 2)).T):
        assert between_classes(value, labels) < 0.01  # by chance: 9 / 3000
    dx, dy = x - centre_x[:, None, None], y - centre_y[:, None, None]
    spread = (masks * (dx**2 + dy**2)).sum((1, 2)) / area**2
    assert between_classes(spread, labels) > 0.8


def test_mask_is_where_the_figure_is(split):
    images, _, masks = split
    structure = np.ones((1, 3, 3), bool)
    core = binary_erosion(masks, structure, border_value=1)
    beyond = ~binary_dilation(masks, structure)

    def mean(where):
        return np.mean(images, (1, 2), where=where[..., None])

    # The figure is of one colour up to the noise (a notch may reach between two pixels of the
    # core), so a mask that is displaced would vary more.
    noise = 0.02 * 255
    assert np.quantile(np.std(images, (1, 2), where=core[..., None]), 0.97) < 1.5 * noise
    assert np.median(np.std(images, (1, 2), where=beyond[..., None])) > 3 * noise
    assert np.abs(mean(core) - mean(beyond)).max(-1).min() > 0.25 * 255


def test_centre_is_a_bad_guess(split):
    masks = split[2]
    y, x = np.mgrid[:32, :32] - 15.5
    assert masks[:, 15:17, 15:17].mean() < 0.5
    for radius in (5, 6.25, 8, 10):
        disc = np.hypot(x, y) < radius
        overlap = (masks & disc).sum((1, 2)) / (masks | disc).sum((1, 2))
        assert overlap.mean() < 0.35


def logistic_regression(images: np.ndarray, labels: np.ndarray, train: int) -> float:
    """Test accuracy on the images from number `train` on."""
    inputs = (images.reshape(len(images), -1) / 255 - 0.5).astype(np.float32)
    inputs = np.concatenate([inputs, np.ones((len(inputs), 1), np.float32)], 1)
    targets = np.eye(10, dtype=np.float32)[labels[:train]]

    def loss(weights):
        logits = inputs[:train] @ weights.reshape(-1, 10).astype(np.float32)
        probabilities = softmax(logits, -1)
        gradient = inputs[:train].T @ (probabilities - targets) / train
        value = -np.log(np.maximum((probabilities * targets).sum(-1), 1e-30)).mean()
        decay = 1e-2 * weights
        return value + decay @ weights / 2, gradient.ravel().astype(float) + decay

    start = np.zeros(inputs.shape[1] * 10)
    weights = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 20}).x
    guess = (inputs[train:] @ weights.reshape(-1, 10)).argmax(-1)
    return np.mean(guess == labels[train:])


def test_no_linear_model_solves_it(split):
    images, labels, _ = split
    assert logistic_regression(images, labels, 2000) < 0.2
    # The same regression finds a class that is written into ten pixels of a corner.
    marked = images.copy()
    marked[:, 0, :10, 0] = 255 * np.eye(10)[labels]
    assert logistic_regression(marked, labels, 2000) > 0.9


@pytest.mark.parametrize("size", [0, -1])
def test_rejects_an_empty_split(size):
    with pytest.raises(UserError, match="at least one image"):
        shapes.render_split(0, size)


def test_says_that_the_cpu_is_missing(monkeypatch):
    def local_devices(backend):
        raise RuntimeError(f"Unknown backend {backend}")

    monkeypatch.setattr(jax, "local_devices", local_devices)
    with pytest.raises(UserError, match="JAX_PLATFORMS"):
        shapes.render_split(0, 1)
