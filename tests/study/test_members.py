"""Models from anywhere in a study: directories, functions of files, several of one name."""

import runpy

import jax
import numpy as np
import pandas as pd
import pytest
from scripts import ROOT

from kdxai.errors import UserError
from kdxai.models import trained
from kdxai.report import tables, write
from kdxai.study import audit, members, run

FILE = ROOT / "tests" / "networks.py"


@pytest.fixture
def config(explain_config, spots_data):
    """Few images of the spots, by Grad-CAM: `config("mine=mine,small=small")`."""

    def make(models, **changes):
        entries = (entry.split("=") for entry in models.split(","))
        places = tuple(f"{name}={FILE}:{function}" for name, function in entries)
        made = explain_config(models=places, methods="grad_cam", **changes)
        made.data.update({"name": "spots", "data_dir": str(spots_data)})
        return made

    return make


@pytest.mark.slow
def test_two_classifiers_of_ones_own_are_measured_checked_and_judged(config, tmp_path):
    says = {"says": "Small drops more", "metric": "average_drop", "one": "small", "other": "mine"}
    settings = config("mine=mine,small=small,closed=closed", images=24, sanity=8)
    settings.claims = {"drop": says | {"direction": "higher", "matters": 0.02}}
    found = run.explain(settings, tmp_path)
    assert list(found.records.model.unique()) == ["mine", "small", "closed"]
    # Every other model with the first.
    assert [(one.one, one.other) for one in found.claims.itertuples()] == [("small", "mine")]
    pairs = found.differences[["one", "other"]].drop_duplicates()
    assert [*map(tuple, pairs.to_numpy())] == [("small", "mine"), ("closed", "mine")]
    assert found.missing == {"randomisation": ["closed"]}
    similar = found.trust.groupby("model").randomised_similarity.first()
    assert similar[["mine", "small"]].notna().all()
    assert np.isnan(similar["closed"])
    # The same function of the same arrays, wherever they are.
    same = found.records[found.records.model != "mine"].groupby("model")
    one, other = (rows.drop(columns=["model", "line"]).reset_index(drop=True) for _, rows in same)
    pd.testing.assert_frame_equal(one, other, rtol=1e-5)
    agreement = found.agreement[found.agreement.model == "closed"].reset_index(drop=True)
    own = found.agreement[found.agreement.model == "small"].reset_index(drop=True)
    named = ["model", "line"]
    pd.testing.assert_frame_equal(agreement.drop(columns=named), own.drop(columns=named))
    [note] = tables.notes(found.records, found.missing)
    assert note == "Not measured: randomisation of closed, whose parameters cannot be seen."
    # Parameters make no stages.
    note = tables.notes(found.records, {"cascade": ["mine", "closed"]})[-1]
    assert note == "Not measured: cascade of mine, closed, whose stages are not known."


@pytest.mark.slow
def test_each_models_own_normalisation_counts_in_their_agreement(config, tmp_path):
    found = run.explain(config("a=small,b=shifted", sanity=0), tmp_path)
    assert found.agreement.pearson.min() > 1 - 1e-5
    assert found.agreement.same_class.all()


def test_several_of_one_name_are_a_population(config, tmp_path, undrawn):
    settings = config("a=mine,a=small,b=closed", sanity=0)
    found = run.explain(settings, tmp_path)
    kept = found.records.groupby(["model", "seed"]).size()
    assert dict(kept) == {("a", 0): 16, ("a", 1): 16, ("b", 0): 16}
    seeds = found.seeds[found.seeds.metric == "average_drop"]
    assert sorted(zip(seeds.model, seeds.seed, strict=True)) == [("a", 0), ("a", 1), ("b", 0)]
    table = found.tables["table1"]
    own = table[(table.other == "") & (table.metric == "average_drop")].set_index("model")
    assert dict(own.networks) == {"a": 2, "b": 1}
    all_of_a = found.records[found.records.model == "a"]
    assert own["mean"]["a"] == pytest.approx(all_of_a.average_drop.mean())
    assert tables.notes(found.records, {}) == [
        "There are 2 of a, 1 of b; tables and verdicts are of all of them."
    ]
    write.write(found, settings, tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert "There are 2 of a, 1 of b" in page
    assert "over 1 to 2 networks of a model and images" in page
    assert "16 images are too few, at least 20 are needed)" in page


def test_lines_say_which_networks_belong_together(tmp_path, make_run):
    """A network and what was compressed from it; runs that are named alone are independent."""
    dense = trained.load(make_run(tmp_path / "dense"))
    make_run(tmp_path / "other", seed=1)
    sha = trained.read(tmp_path / "dense")["sha256"]
    origin = {"kind": "compress", "parent": "../dense", "parent_sha256": "0" * 64}
    facts = {**dense.facts, "origin": origin | {"root_sha256": sha}}
    for name, factor in (("half", 0.5), ("quarter", 0.25)):
        variables = jax.tree.map(lambda leaf, f=factor: f * leaf, dense.variables)
        (tmp_path / name).mkdir()
        trained.save(dense._replace(variables=variables, facts=facts), tmp_path / name)
    places = [(name, str(tmp_path / name)) for name in ("dense", "half", "other")]
    found = members.read([*places, ("mine", f"{FILE}:mine")])
    assert [one.line for one in found[:2]] == [sha[:12]] * 2
    assert len({one.line for one in found}) == 3
    # Two children of one parent, and a copy, are no two members of a population.
    copies = [("half", str(tmp_path / name)) for name in ("half", "quarter")]
    with pytest.raises(UserError, match="half and .*quarter are copies .* 'half' can have one"):
        members.read(copies)
    with pytest.raises(UserError, match="mine and .*mine are copies of one network") as refused:
        members.read([("a", f"{FILE}:mine"), ("a", f"{FILE.parent}/study/../networks.py:mine")])
    assert "\n" not in str(refused.value)


def test_a_population_of_any_networks_is_no_recipe(config, tmp_path, undrawn):
    """Nothing tells that networks which were named alike are runs of one."""
    settings = config("a=mine,a=small,b=closed,b=shifted", sanity=0)
    found = run.explain(settings, tmp_path)
    write.write(found, settings, tmp_path)
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text()
        assert "networks like these" in text
        assert "the recipes" not in text


@pytest.mark.slow
def test_a_page_of_ones_own_models_speaks_of_them_alone(config, tmp_path, undrawn):
    settings = config("mine=mine,small=small", sanity=4)
    write.write(run.explain(settings, tmp_path), settings, tmp_path)
    for name in ("report.html", "report.md"):
        text = (tmp_path / name).read_text().lower()
        for word in ("teacher", "student", "the paper", "notebook", "distill", "resnext"):
            assert word not in text, word
    page = (tmp_path / "report.html").read_text()
    assert "networks.py:small" in page
    assert "No third model was compared with small" in page


@pytest.mark.parametrize(
    ("models", "message"),
    [
        ("a=mine,b=four", "'a' has 3 classes and 'b' 4; compare models of the same ones"),
        ("a=mine,b=renamed", "class 0 is '0' for 'a' and '1' for 'b'"),
        ("a=mine,b=large", r"'a' takes images \[16, 16, 3\] and 'b' \[24, 24, 3\]"),
        ("a=large", r"'a' takes images \[24, 24, 3\], but those of 'spots' are \[16, 16, 3\]"),
        ("a=four", "'a' has 4 classes, but 'spots' has 3"),
        ("a=renamed", "class 0 is '1' for 'a' and '0' in 'spots'"),
        ("a=number", "a model is kdxai.External.* of type int$"),
        ("a=flat", r"features\(image\) must be \[h, w, c\]"),
        ("a=gone", "has no such function"),
    ],
)
def test_models_that_do_not_fit_are_one_line(config, tmp_path, models, message):
    with pytest.raises(UserError, match=message) as refused:
        run.explain(config(models), tmp_path / "out")
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": "cam"}, "CAM"),
        ({"methods": "grad_cam", "stage": "stage2"}, "stage does nothing to a classifier"),
        ({"methods": "guided_backpropagation"}, "guided"),
    ],
)
def test_what_a_classifier_cannot_do_is_refused_before_anything(config, tmp_path, changes, message):
    settings = config("a=closed")
    settings.update(changes)
    with pytest.raises(UserError, match=message):
        run.explain(settings, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_without_data_a_classifier_asks_for_them(config, tmp_path):
    settings = config("a=mine")
    settings.data.name = None
    with pytest.raises(UserError, match="say --config.data.name=NAME"):
        run.explain(settings, tmp_path)


@pytest.mark.slow
def test_an_audit_of_ones_own_leaves_out_what_changes_nothing(config, spots_data, tmp_path):
    settings = runpy.run_path(str(ROOT / "configs" / "audit.py"))["get_config"]()
    settings.update({"images": 16, "resamples": 100})
    settings.models = (f"mine={FILE}:mine", f"mine={FILE}:shifted", f"small={FILE}:small")
    settings.data.update({"name": "spots", "data_dir": str(spots_data)})
    found = members.read(members.named_places(settings.models))
    steps = audit.chosen_steps("", found)
    assert "evaluation mode" not in steps
    assert "the features that the classifier sees" not in steps
    with pytest.raises(UserError, match="'evaluation mode' changes nothing for classifiers"):
        audit.chosen_steps("evaluation mode", found)
    settings.rungs = "literal, held-out images"
    audited = audit.audit(settings, tmp_path)
    table = audited.table
    assert dict(audited.records.groupby("model").line.nunique()) == {"mine": 2, "small": 1}
    [note] = tables.notes(audited.records, {})
    assert note == "There are 2 of mine, 1 of small; tables and verdicts are of all of them."
    assert list(table.rung.unique()) == ["literal", "held-out images"]
    pairs = dict.fromkeys(zip(table.model, table.other, strict=True))
    assert list(pairs) == [("mine", ""), ("small", ""), ("small", "mine")]
    settings.models = (f"a={FILE}:closed",)
    with pytest.raises(UserError, match="audit draws CAM, for which 'a' lacks its linear head"):
        audit.audit(settings, tmp_path / "other")
