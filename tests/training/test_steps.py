import jax
import numpy as np
import pytest
from placing import placed
from scripts import Process

from kdxai import devices
from kdxai.data import augment, datasets
from kdxai.errors import UserError
from kdxai.models import trained
from kdxai.models.network import Layers
from kdxai.training import checks, epochs, feed, loop, objectives, steps
from kdxai.training.feed import place
from kdxai.training.objectives import Objective
from kdxai.training.program import build, create_model, view_of


@pytest.fixture
def dataset(tiny_config):
    return datasets.load(**tiny_config.data)


def test_views_depend_on_seed_epoch_and_example_alone(dataset):
    constants = placed(dataset, 7)
    view = steps.View(pad=2, flip=True, cutout=0)
    both = steps.views(constants, np.array([3, 5]), 2, view)
    np.testing.assert_array_equal(steps.views(constants, np.array([5, 3, 1]), 2, view)[1], both[0])
    for epoch, seed in ((3, 7), (2, 8)):
        other = steps.views(placed(dataset, seed), np.array([3, 5]), epoch, view)
        assert not np.array_equal(other, both)


def test_views_that_alternate_are_mirrored_in_every_second_epoch(dataset):
    """About half of them in the first one; which, that does not depend on the batch."""
    constants = placed(dataset, 7)
    view = steps.View(pad=0, flip=True, cutout=0, alternate=True)
    rows = np.arange(64)
    first, second, third = (np.asarray(steps.views(constants, rows, e, view)) for e in (0, 1, 2))
    np.testing.assert_array_equal(first, third)
    np.testing.assert_array_equal(first[:, :, ::-1], second)
    plain = np.asarray(steps.views(constants, rows, 0, view._replace(flip=False, alternate=None)))
    mirrored = (first != plain).any((1, 2, 3))
    assert 16 < mirrored.sum() < 48
    np.testing.assert_array_equal(steps.views(constants, rows[9:5:-1], 1, view), second[9:5:-1])


def test_plain_views_are_the_normalised_images(dataset):
    plain = steps.View(pad=0, flip=False, cutout=0)
    views = steps.views(placed(dataset), np.arange(4), 0, plain)
    expected = (np.float64(dataset.train.image[:4]) / 255 - dataset.mean) / dataset.std
    np.testing.assert_allclose(views, expected, atol=1e-5)


def run(config, dataset, step_count=3):
    """Parameters after some steps, and the losses on the way."""
    program = build(config, dataset)
    state, losses = program.state, []
    for step in range(step_count):
        batch = np.arange(step * config.batch_size, (step + 1) * config.batch_size, dtype=np.int32)
        state, totals = program.train_step(state, program.constants(0), feed.process_share(batch))
        losses.append(totals.means()[0])
    return jax.device_get(state.variables), losses


def with_and_without_teacher(config, teacher):
    """A model learns alone, from a teacher, and from one that it does not heed."""
    dataset = datasets.load(**config.data)
    alone, _ = run(config, dataset)
    config.teacher = str(teacher)
    taught, _ = run(config, dataset)
    config.distill.alpha = 0.0
    ignored, _ = run(config, dataset)
    jax.tree.map(np.testing.assert_array_equal, ignored, alone)
    kernel = lambda v: v["params"]["head"]["kernel"]  # noqa: E731
    assert np.abs(kernel(taught) - kernel(alone)).max() > 1e-4


@pytest.mark.slow
def test_alpha_zero_trains_bit_identically_to_no_teacher(
    tiny_config, dataset, tmp_path, usual_code_generator
):
    tiny_config.epochs, tiny_config.optim.warmup_epochs = 0, 0.0  # any teacher will do
    loop.train(tiny_config, tmp_path / "teacher", dataset)
    done = Process(with_and_without_teacher, tiny_config, tmp_path / "teacher").wait()
    assert done.returncode == 0, done.stderr


def test_evaluation_counts_every_image_once(tiny_config, dataset):
    """Against plain numpy on the whole split at once; 30 images are no multiple of the batch."""
    program = build(tiny_config, dataset)
    loss, accuracy = epochs.evaluate_split(
        program.eval_step, program.state.variables, place(dataset.test, dataset)
    )
    model = create_model(tiny_config, 3)
    images = augment.normalise(dataset.test.image, dataset.mean, dataset.std)
    logits = np.float64(model.apply(program.state.variables, images))
    label = dataset.test.label
    expected = np.log(np.exp(logits).sum(-1)) - logits[np.arange(len(label)), label]
    assert loss == pytest.approx(expected.mean(), rel=1e-4)
    assert accuracy == pytest.approx((logits.argmax(-1) == label).mean(), abs=1e-6)


def brightness(student, _, label):
    """Of the map after the first stage alone."""
    return (student.taps["stage1"] ** 2).mean((1, 2, 3))


def test_an_objective_reads_the_feature_maps_that_it_names(tiny_config, dataset, monkeypatch):
    """A loss is a function and an entry; what follows the map gets no gradient."""
    monkeypatch.setitem(
        objectives.OBJECTIVES, "dark", lambda _: Objective(brightness, taps=("stage1",))
    )
    tiny_config.objective.name, tiny_config.optim.weight_decay = "dark", 0.0
    program = build(tiny_config, dataset)
    before = jax.device_get(program.state.variables)
    after, told = run(tiny_config, dataset, 1)
    batch = np.arange(tiny_config.batch_size)
    images = steps.views(program.train.constants, batch, 0, view_of(tiny_config))
    model = create_model(tiny_config, 3)
    (_, maps), _ = model.apply(before, images, train=True, taps=("stage1",), mutable="batch_stats")
    assert told == [pytest.approx(float((maps["stage1"] ** 2).mean()), rel=1e-5)]
    moved = jax.tree.map(lambda a, b: np.abs(a - b).max(), before["params"], after["params"])
    reached = {name: max(jax.tree.leaves(part)) > 0 for name, part in moved.items()}
    assert reached == {name: "stage1" in name for name in reached} and any(reached.values())
    tiny_config.model.name = "plain3-w4"
    monkeypatch.setitem(
        objectives.OBJECTIVES, "dark", lambda _: Objective(brightness, taps=("stage9",))
    )
    with pytest.raises(UserError, match="stage9"):
        checks.check(tiny_config, dataset)


def test_a_model_without_batch_norm_is_nothing_special(tiny_config, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(Layers, "norm", lambda self, **_: lambda x, use_running_average: x)
    tiny_config.epochs = 1
    facts = loop.train(tiny_config, tmp_path / "run", dataset)
    model = trained.load(tmp_path / "run")
    assert set(model.variables) == {"params"}
    images = augment.normalise(dataset.test.image, dataset.mean, dataset.std)
    right = np.asarray(model.model.apply(model.variables, images)).argmax(-1) == dataset.test.label
    assert facts["test_accuracy"] == pytest.approx(right.mean(), abs=1e-6)


def write_numbers(config, path):
    """What a run of this config computes on the devices that there are."""
    dataset = datasets.load(**config.data)
    variables, losses = run(config, dataset)
    evaluation = epochs.evaluate_split(
        build(config, dataset).eval_step,
        devices.replicate(variables),
        place(dataset.test, dataset),
    )
    leaves = jax.tree.leaves(variables)
    np.savez(path, *leaves, losses=losses, evaluation=evaluation, devices=jax.device_count())


@pytest.mark.slow
def test_any_number_of_devices_gives_the_same_numbers(tiny_config, tmp_path):
    """Losses, parameters, BatchNorm's statistics and the evaluation of 30 images, to rounding.

    Dropout, BatchNorm, augmentation and loss are all over the global batch.
    """
    tiny_config.model.name, tiny_config.model.dropout = "wrn-10-1-w4", 0.3
    outputs = {}
    for count in (1, 2, 8):
        path = tmp_path / f"{count}.npz"
        done = Process(write_numbers, tiny_config, path, devices=count).wait()
        assert done.returncode == 0, done.stderr
        with np.load(path) as file:
            outputs[count] = dict(file)
        assert outputs[count].pop("devices") == count
    assert len(outputs[1]) > 30
    for count in (2, 8):
        for name, expected in outputs[1].items():
            np.testing.assert_allclose(outputs[count][name], expected, rtol=1e-4, atol=1e-5)


def evaluate_at_length(config, images):
    """A test split many times over, in many batches."""
    dataset = datasets.load(**config.data)
    image = np.resize(dataset.test.image, (images, *dataset.test.image.shape[1:]))
    split = datasets.Split(image, np.resize(dataset.test.label, images), None)
    program = build(config, dataset)
    epochs.evaluate_split(program.eval_step, program.state.variables, place(split, dataset))


def test_many_batches_on_two_devices_do_not_wait_for_each_other(tiny_config):
    """XLA's threads on a CPU deadlock, and it aborts, where too many programs are under way."""
    images = 50 * epochs.EVAL_BATCH
    done = Process(evaluate_at_length, tiny_config, images, devices=2).wait()
    assert done.returncode == 0, done.stderr


def test_all_seeds_share_a_compiled_step(tiny_config, dataset, monkeypatch):
    """Else every seed of a study compiles its own; on a GPU that takes as long as training it."""
    tiny_config.model.update(name="wrn-10-1-w4", dropout=0.3)
    monkeypatch.setattr(devices, "spread", lambda step, **_: step)

    def traced(seed):
        tiny_config.seed = tiny_config.augment.seed = seed
        program = build(tiny_config, dataset)
        batch = np.arange(tiny_config.batch_size)
        trace = jax.make_jaxpr(program.train_step, axis_env=[(devices.AXIS, 1)])
        return trace(program.state, program.train.constants, batch)

    one, other = traced(0), traced(1)
    assert str(one) == str(other)
    assert "random_wrap" in str(one)
    jax.tree.map(np.testing.assert_array_equal, one.consts, other.consts)
