"""`kdxai.compare`: models by name, images, labels -> tables and a page."""

import networks
import numpy as np
import pytest

import kdxai
from kdxai.errors import UserError

LABELS = np.arange(24) % 3


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (24, 16, 16, 3), np.uint8)


def test_models_from_anywhere_are_compared(images, tmp_path):
    models = {"mine": networks.mine(), "small": f"{networks.__file__}:small"}
    options = {"sanity": 0, "resamples": 100, "roles": {"small": "the pruned network"}}
    found = kdxai.compare(models, images, LABELS, workdir=tmp_path, **options)
    rows = found.table.set_index(["model", "other", "metric"])["mean"]
    own = found.records.groupby("model").average_drop.mean()
    difference = rows["small", "mine", "average_drop"]
    assert difference == pytest.approx(own["small"] - own["mine"])
    assert (found.records.groupby("model").size() == 24).all()
    assert len(found.agreement) == 24
    page = (tmp_path / "report.html").read_text()
    assert "the pruned network" in page
    assert "Does the small explain as well as mine?" in page
    assert (tmp_path / "table1.csv").exists()


def test_nothing_is_left_where_no_place_is_named(images, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    members = (networks.small(), networks.closed())  # which is a tuple, as each of them is
    found = kdxai.compare({"small": members}, images, LABELS, sanity=0, resamples=100)
    assert set(found.table.seeds) == {2}
    assert found.claims.empty
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("models", "settings", "message"),
    [
        ({}, {}, "give at least one model"),
        ({"a/b": networks.mine}, {}, "is no name for a model"),
        ({"a": networks.mine, "b": networks.four}, {}, "'a' has 3 classes and 'b' 4"),
        ({"a": networks.large}, {}, r"takes images \[24, 24, 3\]"),
        ({"a": networks.number}, {}, "'a': a model is kdxai.External.* of type int$"),
        ({"a": networks.flat}, {}, r"features\(image\) must be \[h, w, c\]"),
        ({"a": networks.mine}, {"vibes": 1}, "no setting 'vibes'; known: title"),
        ({"a": networks.mine}, {"methods": "vibes"}, "no method 'vibes'"),
        (
            {"a": networks.mine},
            {"methods": "occlusion", "options": {"occlusion": {"vibes": 1}}},
            "vibes",
        ),
        ({"a": networks.mine}, {"reference": "b"}, "reference names 'b'"),
        ({"a": networks.mine}, {"compare": (("a", "b"),)}, "compare names 'b'"),
    ],
)
def test_bad_input_is_one_line(images, models, settings, message):
    made = {name: function() for name, function in models.items()}
    with pytest.raises(UserError, match=message) as refused:
        kdxai.compare(made, images, LABELS, **settings)
    assert "\n" not in str(refused.value)


def test_images_and_labels_are_checked_at_the_door(images):
    with pytest.raises(UserError, match="images must be uint8"):
        kdxai.compare({"a": networks.mine()}, images / 255, LABELS)
    with pytest.raises(UserError, match="at least one model by its name"):
        kdxai.compare([networks.mine()], images, LABELS)
    with pytest.raises(UserError, match="no model of the name 'a'"):
        kdxai.compare({"a": ()}, images, LABELS)
    with pytest.raises(UserError, match="number 0 and 'a', number 1 are copies of one network"):
        kdxai.compare({"a": (networks.small(), networks.small())}, images, LABELS)
    with pytest.raises(UserError, match="label 7 is none of the model's 3 classes"):
        kdxai.compare({"a": networks.mine()}, images, np.full(24, 7))
