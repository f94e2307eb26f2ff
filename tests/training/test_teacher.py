"""The teacher's logits: right, of the right images, never stale, shared."""

import json
import os
import shutil
import signal
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from placing import placed
from scipy.special import log_softmax, softmax

from kdxai import devices, models
from kdxai.data import datasets
from kdxai.errors import UserError
from kdxai.models import trained
from kdxai.training import feed, logits, loop, steps
from kdxai.training import teacher as teachers
from kdxai.training.feed import place
from kdxai.training.program import build, create_model

VIEW = steps.View(pad=4, flip=True, cutout=0)


@pytest.fixture
def dataset(tiny_config):
    return datasets.load(**tiny_config.data)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A place for one teacher, which every test copies."""
    return tmp_path_factory.mktemp("teacher") / "run"


@pytest.fixture
def config(tiny_config, dataset, finished, tmp_path):
    """A student's config, with a teacher of its own."""
    tiny_config.epochs = 1
    if not finished.exists():
        teacher = tiny_config.copy_and_resolve_references()
        teacher.model.name = "plain5-w8"
        loop.train(teacher, finished, dataset)
    shutil.copytree(finished, tmp_path / "teacher")
    tiny_config.teacher = str(tmp_path / "teacher")
    return tiny_config


def logits_of(config, dataset, teacher=None, epochs=1, seed=0, **view):
    """The teacher's logits as a run makes them, but for the changes of the view."""
    teacher = teacher or teachers.load(config.teacher, jnp.float32)
    train = place(dataset.train, dataset)._replace(constants=placed(dataset, seed))
    return logits.TeacherLogits(teacher, train, VIEW._replace(**view), seed=seed, epochs=epochs)


def live(config, dataset, indices, epoch, dtype=jnp.float32, batch=logits.BATCH):
    """Logits computed at the time, without any of `training.logits`: [B, K]."""
    model = trained.load(config.teacher, dtype)

    # Constants within would be folded and round otherwise; so would bfloat16 without oneDNN's help.
    @partial(jax.jit, compiler_options=devices.compiler_options(dtype))
    def apply(variables, constants, indices):
        views = steps.views(constants, indices, epoch, VIEW)
        return model.model.apply(variables, views)

    constants, indices = placed(dataset), np.asarray(indices)
    return np.asarray(apply(model.variables, constants, np.resize(indices, batch)))[: len(indices)]


def files(directory):
    return {path: path.stat().st_mtime_ns for path in Path(directory).rglob("*.npz")}


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_bit_for_bit_the_live_ones(config, dataset, dtype):
    shuffled = np.random.default_rng(0).permutation(90)
    teacher = teachers.load(config.teacher, dtype)
    first, second = (logits_of(config, dataset, teacher) for _ in range(2))
    for epoch in (0, 2):
        expected = live(config, dataset, shuffled, epoch, dtype)
        if np.isnan(expected).any():
            pytest.skip("this JAX computes NaN in bfloat16 on this CPU")
        computed = np.asarray(first.epoch(epoch))
        np.testing.assert_array_equal(computed[shuffled], expected)
        assert len(files(config.teacher)) == (1 if epoch == 0 else 2)
        np.testing.assert_array_equal(second.epoch(epoch), computed)  # read
    assert not np.allclose(first.epoch(0), computed)  # another epoch's
    if dtype == jnp.float32:  # image by image, to rounding
        alone = live(config, dataset, [5], 2, batch=1)
        np.testing.assert_allclose(computed[[5]], alone, atol=1e-5)


def test_more_images_than_a_batch(config, dataset, monkeypatch):
    whole = np.asarray(logits_of(config, dataset).epoch(0))
    monkeypatch.setattr(logits, "BATCH", 8)
    told = []
    parts = logits_of(config, dataset).epoch(0, told.append)
    np.testing.assert_allclose(parts, whole, atol=1e-5)
    assert told == [*range(8, 90, 8), 90]


def test_the_loss_of_a_shuffled_batch(config, dataset):
    """Against numpy; logits that belong to other images, as once happened, give another loss."""
    config.distill.temperature, config.distill.alpha = 2.0, 0.9
    program = build(config, dataset)
    batch = np.random.default_rng(1).permutation(90)[: config.batch_size].astype(np.int32)
    views = steps.views(program.train.constants, batch, 0, VIEW)
    model = create_model(config, 3)
    variables = jax.device_get(program.state.variables)
    apply = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"]))
    z_s, _ = apply(variables, views)
    z_s, z_t = np.float64(z_s), np.float64(live(config, dataset, batch, 0))

    def expected(z_t):
        soft = -(softmax(z_t / 2, axis=-1) * log_softmax(z_s / 2, axis=-1)).sum(-1)
        hard = -log_softmax(z_s, axis=-1)[np.arange(len(batch)), dataset.train.label[batch]]
        return (0.9 * 4 * soft + 0.1 * hard).mean()

    constants = program.constants(0)
    _, totals = program.train_step(program.state, constants, feed.process_share(batch))
    assert totals.means()[0] == pytest.approx(expected(z_t), rel=1e-5)
    misaligned = np.float64(constants.teacher_logits[: config.batch_size])
    assert abs(expected(misaligned) - expected(z_t)) > 1e-3 * expected(z_t)


@pytest.mark.parametrize("alpha", [0.0, 0.9])
def test_teacher_and_student_see_the_view_of_the_augmentations_seed(config, dataset, alpha):
    """Whatever the run's own seed is, which draws the student's weights and its order."""
    config.seed, config.augment.seed = 5, 8
    config.distill.temperature, config.distill.alpha = 2.0, alpha
    program = build(config, dataset)
    batch = np.random.default_rng(1).permutation(90)[: config.batch_size].astype(np.int32)
    variables, teacher = jax.device_get(program.state.variables), trained.load(config.teacher)
    model, label = create_model(config, 3), dataset.train.label[batch]
    student = jax.jit(lambda v, x: model.apply(v, x, train=True, mutable=["batch_stats"])[0])

    def expected(students_seed, teachers_seed):
        views = [
            steps.views(
                steps.seeded(program.train.constants, views=seed, dropout=0), batch, 0, VIEW
            )
            for seed in (students_seed, teachers_seed)
        ]
        z_s = np.float64(student(variables, views[0]))
        z_t = np.float64(teacher.model.apply(teacher.variables, views[1]))
        soft = -(softmax(z_t / 2, axis=-1) * log_softmax(z_s / 2, axis=-1)).sum(-1)
        hard = -log_softmax(z_s, axis=-1)[np.arange(len(batch)), label]
        return (alpha * 4 * soft + (1 - alpha) * hard).mean()

    _, totals = program.train_step(program.state, program.constants(0), feed.process_share(batch))
    right = expected(8, 8)
    assert totals.means()[0] == pytest.approx(right, rel=1e-5)
    others = [expected(5, 8), *([expected(8, 5), expected(5, 5)] if alpha else [])]
    assert min(abs(other - right) for other in others) > 5e-5 * right  # beyond the tolerance


def test_what_is_damaged_or_of_other_images_is_replaced(config, dataset):
    kept = logits_of(config, dataset)
    right = np.asarray(kept.epoch(0))
    path = kept.path(0)
    whole = path.read_bytes()
    some = right.copy()
    some[::2] = np.roll(some[::2], 1, axis=0)
    wrong = [
        ("up to .* off", np.random.default_rng(0).permutation(right)),
        ("up to .* off", some),
        ("up to .* off", np.asarray(kept.epoch(1))),
        ("up to nan off", np.full_like(right, np.nan)),
        (r"float32 \[89, 3\]", right[:-1]),
        (r"float64 \[90, 3\]", right.astype(np.float64)),
    ]
    damages = [(why, lambda array=array: np.savez(path, logits=array)) for why, array in wrong]
    flipped = whole[:500] + bytes([whole[500] ^ 1]) + whole[501:]
    contents = (b"", whole[: len(whole) // 2], flipped)
    damages += [("Error|BadZipFile", lambda c=c: path.write_bytes(c)) for c in contents]
    for why, damage in damages:
        damage()
        with pytest.warns(UserWarning, match=rf"epoch0000.npz cannot be used \(.*({why})"):
            found = kept.epoch(0)
        np.testing.assert_array_equal(found, right)
        assert path.read_bytes() == whole


def test_nothing_stale(config, dataset):
    """Whatever the logits depend on is in the name."""
    teacher = teachers.load(config.teacher, jnp.float32)
    first = logits_of(config, dataset, teacher).directory
    assert first.name.startswith("tiny-float32-seed0-")
    assert logits_of(config, dataset).directory == first

    def changed(**parts):
        return dataset._replace(train=dataset.train._replace(**parts))

    pixel = dataset.train.image.copy()
    pixel[7, 3, 2, 1] ^= 1
    swapped = dataset.train.image[np.r_[1, 0, 2:90]]
    weight = jax.tree.map(np.array, teacher.variables)
    weight["params"]["head"]["bias"][0] = np.nextafter(weight["params"]["head"]["bias"][0], 9)
    statistic = jax.tree.map(np.array, teacher.variables)
    jax.tree.leaves(statistic["batch_stats"])[0].flat[0] += 1e-6
    wider = models.create("plain5-w8", num_classes=3, activation=jax.nn.relu6)
    others = [
        logits_of(config, data, one, **changes).directory
        for data, one, changes in [
            (dataset, teacher, {"seed": 1}),
            (dataset, teacher, {"pad": 2}),
            (dataset, teacher, {"flip": False}),
            (dataset, teacher, {"cutout": 3}),
            (changed(image=pixel), teacher, {}),
            (changed(image=swapped), teacher, {}),
            (changed(image=pixel[:80], label=dataset.train.label[:80]), teacher, {}),
            (dataset, teacher._replace(mean=np.nextafter(teacher.mean, np.float32(1))), {}),
            (dataset, teachers.load(config.teacher, jnp.bfloat16), {}),
            (dataset, teacher._replace(variables=weight), {}),
            (dataset, teacher._replace(variables=statistic), {}),
            (dataset, teacher._replace(apply=partial(steps.logits_of, wider)), {}),
        ]
    ]
    assert len({first, *others}) == 13


def test_a_teacher_is_normalised_as_it_is_used_to(config, dataset):
    """Both see the same views: the student's mean and deviation are not the teacher's."""
    own = np.float32([0.3, 0.4, 0.5]), np.float32([0.2, 0.3, 0.4])
    teacher = teachers.load(config.teacher, jnp.float32)._replace(mean=own[0], std=own[1])
    found = np.asarray(logits_of(config, dataset, teacher).epoch(0))
    model = trained.load(config.teacher)
    views = steps.views(placed(dataset), np.arange(90), 0, VIEW)
    pixels = np.asarray(views) * dataset.std + dataset.mean
    expected = model.model.apply(model.variables, np.float32((pixels - own[0]) / own[1]))
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert not np.allclose(found, logits_of(config, dataset).epoch(0), atol=0.1)


@pytest.mark.slow
def test_later_students_share_them(config, dataset, tmp_path):
    """Another seed, architecture, temperature, alpha, batch, schedule; and more epochs."""
    loop.train(config, tmp_path / "first", dataset)
    kept = files(tmp_path)
    assert [path.name for path in kept] == ["epoch0000.npz"]
    config.seed, config.model.name, config.batch_size, config.optim.lr = 9, "plain3-w2", 10, 0.01
    config.distill.temperature, config.distill.alpha = 2.0, 0.5
    loop.train(config, tmp_path / "second", dataset)
    assert files(tmp_path) == kept

    config.epochs = 2
    loop.train(config, tmp_path / "longer", dataset)
    later = files(tmp_path)
    assert sorted(path.name for path in later) == ["epoch0000.npz", "epoch0001.npz"]
    assert kept.items() <= later.items()


def test_students_at_the_same_time(config, dataset, recwarn):
    """Everyone writes the same content at once; a reader never sees half of it."""
    several = [logits_of(config, dataset) for _ in range(3)]
    with ThreadPoolExecutor(9) as pool:
        found = list(pool.map(lambda i: np.asarray(several[i % 3].epoch(i // 3)), range(9)))
    for i, one in enumerate(found):
        np.testing.assert_array_equal(one, found[i // 3 * 3])
    assert sorted(several[0].directory.iterdir()) == [several[0].path(i) for i in range(3)]
    assert not [w for w in recwarn if "teacher's logits" in str(w.message)]


def test_where_they_cannot_be_kept(config, dataset, monkeypatch):
    expected = np.asarray(logits_of(config, dataset).epoch(0))
    shutil.rmtree(Path(config.teacher) / "views")
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: usage(0, 0, 4 * expected.nbytes))
        with pytest.warns(UserWarning, match="not cached in .*MiB to come, .*; every student"):
            found = logits_of(config, dataset, epochs=2).epoch(0)
        np.testing.assert_array_equal(found, expected)
        assert not files(config.teacher)
        logits_of(config, dataset, epochs=1).epoch(0)
        assert len(files(config.teacher)) == 1
    shutil.rmtree(Path(config.teacher) / "views")
    (Path(config.teacher) / "views").write_text("in the way")
    with pytest.warns(UserWarning, match="not cached in .*Not a directory.; every student"):
        np.testing.assert_array_equal(logits_of(config, dataset).epoch(0), expected)


def test_no_link_is_followed_to_keep_them(config, dataset, tmp_path):
    """A teacher's directory may be a stranger's."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "teacher" / "views").symlink_to(tmp_path / "outside")
    with pytest.warns(UserWarning, match="not cached in .*a symbolic link leads elsewhere.; every"):
        logits_of(config, dataset).epoch(0)
    assert not list((tmp_path / "outside").iterdir())


def test_what_killed_writers_left_is_removed_once_nobody_can_be_writing_it(config, dataset):
    kept = logits_of(config, dataset)
    kept.directory.mkdir(parents=True)
    old, new = (kept.directory / f".epoch0000.npz.{digit * 32}" for digit in "ab")
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    kept.epoch(0)
    assert sorted(kept.directory.iterdir()) == sorted([new, kept.path(0)])


@pytest.mark.slow
def test_sigterm_while_they_are_computed(config, dataset, tmp_path, monkeypatch):
    config.epochs = 2
    loop.train(config, tmp_path / "undisturbed", dataset)
    shutil.rmtree(tmp_path / "teacher" / "views")
    compute = logits.TeacherLogits._compute

    def interrupted(self, epoch, *arguments):
        if epoch == 1:
            os.kill(os.getpid(), signal.SIGTERM)
        return compute(self, epoch, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(logits.TeacherLogits, "_compute", interrupted)
        with pytest.raises(SystemExit) as stopped:
            loop.train(config, tmp_path / "run", dataset)
    assert stopped.value.code == 143
    assert [path.name for path in files(tmp_path)] == ["epoch0000.npz"]

    loop.train(config, tmp_path / "run", dataset)
    one, other = (trained.load(tmp_path / name).variables for name in ("undisturbed", "run"))
    jax.tree.map(np.testing.assert_array_equal, one, other)


def test_a_model_of_any_origin_teaches(config, dataset, tmp_path):
    """Nothing is known of it but what it computes, and of which classes and images."""
    path = Path(config.teacher) / trained.MODEL
    found = json.loads(path.read_text())
    found |= {"facts": {"origin": {"kind": "import"}}, "mean": [0.4914, 0.4822, 0.4465]}
    path.write_text(json.dumps(found))
    assert loop.train(config, tmp_path / "run", dataset)
    (kept,) = (tmp_path / "teacher" / "views").iterdir()
    assert kept.name.startswith("images-float32-seed0-")


OWN = """
import numpy as np
import kdxai
WEIGHTS = np.random.default_rng(%d).normal(size=(3, 3)).astype(np.float32)
def features(image):
    return image[::2, ::2]
def classify(grid):
    return 3 * grid.mean((0, 1)) @ WEIGHTS
def mine():
    classifier = kdxai.Classifier(features, classify)
    return kdxai.External(classifier, [0.5] * 3, [0.25] * 3, %r, (8, 8, 3))
"""


@pytest.fixture
def own(config, dataset, tmp_path):
    """A teacher that is a function of a file, whose arrays no pytree names; its weights."""
    config.teacher = f"{tmp_path}/own.py:mine"

    def write(seed):
        (tmp_path / "own.py").write_text(OWN % (seed, dataset.class_names))
        return np.random.default_rng(seed).normal(size=(3, 3)).astype(np.float32)

    return write


def test_a_classifier_of_ones_own_teaches(config, dataset, own, tmp_path):
    """Its logits are of the student's views as it normalises them, and kept beside its file."""
    weights = own(0)
    first = loop.train(config, tmp_path / "first", dataset)
    assert first["origin"]["teacher"] == "../own.py:mine"
    (path,) = (tmp_path / "views").rglob("*.npz")
    assert path.parent.name.startswith("mine-seed0-")
    views = steps.views(placed(dataset), np.arange(90), 0, VIEW)
    pixels = np.asarray(views) * dataset.std + dataset.mean
    expected = 3 * ((pixels - 0.5) / 0.25)[:, ::2, ::2].mean((1, 2)) @ weights
    np.testing.assert_allclose(np.load(path)["logits"], expected, atol=1e-4)

    kept = files(tmp_path)
    config.seed = 1
    loop.train(config, tmp_path / "second", dataset)
    assert files(tmp_path) == kept
    assert loop.train(config, tmp_path / "second", dataset)  # finished, and the same teacher
    own(1)
    with pytest.raises(UserError, match="content of teacher"):
        loop.train(config, tmp_path / "second", dataset)
    loop.train(config, tmp_path / "third", dataset)
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("(8, 8, 3)", "(9, 8, 3)", r"differ in image shape: \[9, 8, 3\] and \[8, 8, 3\]"),
        (
            "kdxai.External(",
            "(lambda *parts: kdxai.External(*parts[:3], (*'abc',), parts[4]))(",
            "classes",
        ),
        ("def mine", "def other", "own.py:mine: the file has no such function"),
    ],
)
def test_a_classifier_of_ones_own_that_does_not_fit(
    config, dataset, own, tmp_path, before, after, message
):
    own(0)
    text = (tmp_path / "own.py").read_text()
    (tmp_path / "own.py").write_text(text.replace(before, after))
    with pytest.raises(UserError, match=message):
        loop.train(config, tmp_path / "run", dataset)
    assert not (tmp_path / "run").exists()
