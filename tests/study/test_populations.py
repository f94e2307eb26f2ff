"""A study of networks that are there already: their lines, and what may not change unnoticed."""

import shutil

import jax
import pytest
from ml_collections import ConfigDict
from scripts import ROOT

from kdxai.errors import UserError
from kdxai.models import trained
from kdxai.study import compressions, plan, run
from kdxai.study import config as studies
from kdxai.study.members import read

FILE = ROOT / "tests" / "networks.py"


@pytest.fixture
def places(make_run, tmp_path):
    """Two networks, and a child of the first."""
    first, second = (make_run(tmp_path / name, seed=seed) for seed, name in enumerate("ab", 5))
    dense = trained.load(first)
    (tmp_path / "child").mkdir()
    root = trained.read(first)["sha256"]
    variables = jax.tree.map(lambda leaf: leaf / 2, dense.variables)
    facts = {**dense.facts, "origin": {"kind": "compress", "root_sha256": root}}
    trained.save(dense._replace(variables=variables, facts=facts), tmp_path / "child")
    return str(first), str(second), str(tmp_path / "child")


@pytest.fixture
def study(fresh_config, places):
    """Two networks that are there, one of a file, a child, and two that are trained."""
    models = {
        "dense": ConfigDict({"origin": "made", "places": places[:2]}),
        "mine": ConfigDict({"origin": "made", "places": f"{FILE}:mine"}),
        "child": ConfigDict({"origin": "made", "places": places[2]}),
        "fresh": studies.model("train", fresh_config),
    }
    study = studies.study(fresh_config.data, models, seeds=2, order=tuple(models))
    changes = {"images": 16, "whole": False, "sanity": 0, "resamples": 100, "methods": "grad_cam"}
    study.evaluation.update(changes)
    return study


@pytest.fixture
def measured(monkeypatch):
    """The members that were to be measured, last of all."""
    asked = []
    monkeypatch.setattr(run, "measure", lambda told, members, *_: asked.extend([told, members]))
    monkeypatch.setattr(run, "with_verdicts", lambda *_: None)
    return asked


def test_networks_that_are_there_are_members_in_their_places(study, measured, places, tmp_path):
    run.study(study, tmp_path / "run")
    told, members = measured
    assert [(one.name, one.seed, one.place) for one in members] == [
        ("dense", 0, places[0]),
        ("mine", 0, f"{FILE}:mine"),
        ("child", 0, places[2]),
        ("fresh", 0, str(tmp_path / "run" / "seed0" / "fresh")),
        ("dense", 1, places[1]),
        ("fresh", 1, str(tmp_path / "run" / "seed1" / "fresh")),
    ]
    lines = {(one.name, one.seed): one.line for one in members}
    assert lines["child", 0] == lines["dense", 0] == trained.read(places[0])["sha256"][:12]
    assert (lines["fresh", 0], lines["fresh", 1]) == ("0", "1")
    assert len(set(lines.values())) == 5
    assert told.recipes == {"fresh"}
    assert told.population("dense", "mine") == "networks like these"
    assert told.population() == "the recipes and networks like these"
    assert sorted(path.name for path in (tmp_path / "run" / "seed0").iterdir()) == ["fresh"]
    again = plan.study_members(tmp_path / "run")
    assert [(one.place, one.line) for one in again] == [(one.place, one.line) for one in members]


@pytest.mark.slow
def test_a_place_may_move_and_what_is_there_may_not_change(study, measured, places, tmp_path):
    run.study(study, tmp_path / "run")
    moved = shutil.move(places[0], tmp_path / "moved")
    study.models.dense.places = (str(moved), places[1])
    run.study(study, tmp_path / "run")
    kept = trained.load(places[1])
    variables = jax.tree.map(lambda leaf: leaf * 2, kept.variables)
    trained.save(kept._replace(variables=variables), places[1])
    with pytest.raises(UserError, match=r"another config: content of models.dense.places"):
        run.study(study, tmp_path / "run")
    with pytest.raises(UserError, match=r"models.dense.places names other networks than .*run was"):
        plan.study_members(tmp_path / "run")


def compressed(parent):
    """Half of the weights of each member of a model of the study."""
    recipe = compressions.default()
    recipe.data = ConfigDict()
    settings = {"kind": "prune", "prune.sparsity": 0.5}
    return studies.model("compress", recipe, parent=parent, **settings)


def test_what_is_compressed_belongs_to_what_it_was_made_of(study, measured, places, tmp_path):
    study.models = {
        "half": compressed("dense"),
        "fresh_half": compressed("fresh"),
        **{name: study.models[name] for name in ("dense", "fresh")},
    }
    study.order = tuple(study.models)
    run.study(study, tmp_path / "run")
    members = {(one.name, one.seed): one for one in measured[1]}
    assert len(members) == 8
    for name in ("dense", "fresh"):
        half = "half" if name == "dense" else "fresh_half"
        for seed in (0, 1):
            one, parent = members[half, seed], members[name, seed]
            assert one.line == parent.line
            found = one.model.facts["origin"]
            assert found["parent_sha256"] == trained.read(parent.place)["sha256"]
    assert measured[0].recipes == {"fresh", "fresh_half"}
    # By their places alone, children are with their parents too, and replicates are independent.
    places = [(name, one.place) for (name, _), one in members.items()]
    lines = {(one.name, one.seed): one.line for one in read(places)}
    assert all(lines["fresh_half", seed] == lines["fresh", seed] for seed in (0, 1))
    assert len(set(lines.values())) == 4
    study.models.mine = ConfigDict({"origin": "made", "places": f"{FILE}:mine"})
    study.models.half.parent = "mine"
    with pytest.raises(UserError, match="no classifiers of one's own"):
        run.check(study, tmp_path / "other")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (("nowhere",), "there is no directory nowhere"),
        ((f"{FILE}:gone",), "has no such function"),
        ((f"{FILE}:four",), "networks.py:four' has 4 classes, but 'spots' has 3"),
        ((f"{FILE}:renamed",), "class 0 is '1' for '.*:renamed' and '0' in 'spots'"),
        ((f"{FILE}:large",), r"large' takes images \[24, 24, 3\], but those of 'spots' are"),
    ],
)
def test_places_of_no_use_are_refused_before_anything(study, tmp_path, changed, message):
    with study.ignore_type():
        study.models.mine.places = changed
    with pytest.raises(UserError, match=message) as refused:
        run.study(study, tmp_path / "run")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_copies_and_children_of_one_network_are_no_population(study, places, tmp_path):
    copy = shutil.copytree(places[0], tmp_path / "copy")
    for other in (str(copy), places[2]):
        study.models.dense.places = (places[0], other)
        with pytest.raises(UserError, match="are copies of one network") as refused:
            run.study(study, tmp_path / "run")
        assert "\n" not in str(refused.value)
        assert not (tmp_path / "run").exists()
