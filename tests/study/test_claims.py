import runpy
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from ml_collections import ConfigDict
from scripts import ROOT
from test_stats import COLUMNS, at_most, world

from kdxai.errors import UserError
from kdxai.study import audit, intervals, origins, paper, run, stats
from kdxai.study.claims import about, check, holm, judge, ledger, pairs, verdict
from kdxai.study.design import Design
from kdxai.study.distances import Pairwise
from kdxai.study.measure import Measured
from kdxai.study.origins import ORIGINS

MODELS = ["teacher", "student", "control"]


def claim(metric="ssim", one="student", other="teacher", direction="higher", matters=0.02):
    """A claim; what it says does not matter to the verdict."""
    return {"says": "it is so", "metric": metric, "one": one, "other": other} | {
        "direction": direction,
        "matters": matters,
    }


def records(shift, seeds=3, n=300, of_seed=0.005, accuracy=(1.0, 1.0)):
    """A teacher, and a student whose ssim is `shift` higher."""
    rng = np.random.default_rng(0)
    image = rng.uniform(0.3, 0.7, n)
    rows = []
    for seed in range(seeds):
        for model, gain, rate in zip(("teacher", "student"), (0, shift), accuracy, strict=True):
            ssim = image + gain + rng.normal(0, of_seed) + rng.normal(0, 0.05, n)
            right = rng.random(n) < rate
            values = {"ssim": ssim, "label": 1, "predicted": right.astype(int)}
            rows.append(pd.DataFrame(values).assign(model=model, seed=seed, image=np.arange(n)))
    return pd.concat(rows)


def only(shift, entry, **options):
    """The row of a claim about such records."""
    judged = {key: options.pop(key) for key in ("across",) if key in options}
    return judge(records(shift, **options), {"it": entry}, resamples=300, **judged).iloc[0]


@pytest.mark.parametrize(
    ("shift", "entry", "expected"),
    [
        (0.1, claim(), "supported"),
        (0.1, claim(direction="lower"), "contradicted"),
        (-0.1, claim(direction="lower"), "supported"),
        (-0.1, claim(), "contradicted"),
        (0.0, claim(matters=0.1), "no meaningful difference"),
        (0.05, claim(matters=0.2), "no meaningful difference"),  # sure, but small
        (0.0, claim(matters=0.001), "undecided"),
        (0.0, claim(direction="not_lower", matters=0.1), "supported"),
        (-0.05, claim(direction="not_lower", matters=0.2), "supported"),  # lower by less than that
        (-0.2, claim(direction="not_lower", matters=0.05), "contradicted"),
        (-0.05, claim(direction="not_lower", matters=0.05), "undecided"),
        (0.05, claim(direction="not_higher", matters=0.2), "supported"),  # higher by less than that
        (0.2, claim(direction="not_higher", matters=0.05), "contradicted"),
        (0.05, claim(direction="not_higher", matters=0.05), "undecided"),
    ],
)
def test_verdicts_on_records_with_a_known_difference(shift, entry, expected):
    row = only(shift, entry)
    assert row.verdict == expected
    assert row.verdict_correct == expected
    assert row.across == "seeds"
    assert (row.seeds, row.n) == (3, 300)
    assert row["mean"] == pytest.approx(shift, abs=0.02)
    assert row.ci_low < row["mean"] < row.ci_high


def test_the_rule_at_its_edges():
    rule = {"direction": "higher", "matters": 0.1}
    assert verdict(**rule, mean=0.1, low=0.01, high=0.2, p=0.05) == "supported"
    assert verdict(**rule, mean=0.09, low=0.01, high=0.2, p=0.01) == "undecided"
    assert verdict(**rule, mean=0.2, low=-0.01, high=0.4, p=0.06) == "undecided"
    assert verdict(**rule, mean=0.0, low=-0.1, high=0.05, p=1.0) == "undecided"
    assert verdict(**rule, mean=0.0, low=-0.09, high=0.09, p=1.0) == "no meaningful difference"
    assert verdict(**rule, mean=-0.1, low=-0.2, high=-0.01, p=0.01) == "contradicted"
    rule["direction"] = "not_lower"
    assert verdict(**rule, mean=-0.05, low=-0.09, high=0.0, p=0.01) == "supported"
    assert verdict(**rule, mean=-0.05, low=-0.09, high=0.0, p=0.06) == "undecided"
    assert verdict(**rule, mean=-0.3, low=-0.4, high=-0.2, p=0.01) == "contradicted"


def test_holm_by_hand():
    # Sorted 0.01, 0.02, 0.03, 0.5: times 4, 3, 2, 1, never falling, at most 1.
    np.testing.assert_allclose(holm(np.array([0.03, 0.01, 0.5, 0.02])), [0.06, 0.04, 0.5, 0.06])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])
    np.testing.assert_allclose(holm(np.array([0.04])), [0.04])


def test_a_family_asks_for_more():
    """What one claim passes alone, it does not pass among forty."""
    data = records(0.012, of_seed=0.0, seeds=1, n=120)
    alone = judge(data, {"it": claim(matters=0.001)}, resamples=500).iloc[0]
    assert alone.verdict == "supported"
    data["adcc"] = np.random.default_rng(1).normal(size=len(data))
    others = {f"other{k}": claim("adcc", matters=0.001) for k in range(39)}
    table = judge(data, {"it": claim(matters=0.001)} | others, resamples=500)
    assert table.p[0] == alone.p
    assert table.p_holm[0] == pytest.approx(40 * alone.p)
    assert set(table.verdict) == {"undecided"}


def test_seeds_or_these_models():
    """Models that differ by more than seeds explain, but only if the seeds are not asked."""
    data = {"of_seed": 0.1, "shift": 0.05}
    assert only(entry=claim(), **data).verdict == "undecided"
    assert only(entry=claim(), across="images", **data).across == "images"
    assert only(entry=claim(), across="images", **data).verdict in ("supported", "contradicted")
    assert only(entry=claim(), seeds=1, **data).across == "images"


def test_an_accuracy_difference_in_disguise():
    data = records(0.0, accuracy=(1.0, 0.6))
    wrong = data.predicted != data.label
    data.loc[wrong, "ssim"] -= 0.3
    claims = {"maps": claim(direction="lower", matters=0.05), "answers": claim("accuracy")}
    table = judge(data, claims, resamples=300).set_index("claim")
    assert table.verdict["maps"] == "supported"
    assert table.verdict_correct["maps"] == "no meaningful difference"
    assert table.verdict["answers"] == "contradicted"
    assert table.verdict_correct["answers"] == ""


def test_what_was_not_measured_or_never_varies_is_undecided():
    data = records(0.0).assign(iou=0.5)
    claims = {
        "road": claim("road"),
        "iou": claim("iou"),
        "margin": claim("iou", direction="not_lower"),
    }
    table = judge(data, claims, resamples=50)
    assert list(table.verdict) == ["undecided"] * 3
    assert np.isnan(table["mean"][0])
    assert list(table.p) == [1.0] * 3


def test_a_claim_by_a_metric_that_fails_its_checks_is_not_testable():
    why = "a random map scores better: none of the images prefers the real one"
    rows = [("student", "ssim", False, why), ("teacher", "ssim", False, why)]
    rows += [("student", "iou", True, ""), ("control", "iou", False, why)]
    trust = pd.DataFrame(rows, columns=["model", "metric", "trustworthy", "why"])
    data = records(0.1)
    data["iou"] = data.ssim
    table = judge(data, {"ssim": claim(), "iou": claim("iou")}, resamples=100, trust=trust)
    assert list(table.verdict) == ["not testable here", "supported"]  # no claim is of the control
    assert table.verdict_correct[0] == "not testable here"
    assert list(table.why) == [f"{why} (student, teacher)", ""]


def dead_and_alive(n=200, **columns):
    """A teacher that is right, a student that always says one class; their values by column."""
    rng = np.random.default_rng(0)
    label = np.arange(n) % 4
    rows = []
    for place, (model, predicted) in enumerate((("teacher", label), ("student", 0 * label))):
        values = {name: pair[place] + rng.normal(0, 0.01, n) for name, pair in columns.items()}
        answers = {"label": label, "predicted": predicted, "image": np.arange(n), "seed": 0}
        rows.append(pd.DataFrame(values | answers).assign(model=model, method="cam"))
    return pd.concat(rows, ignore_index=True)


def test_a_dead_network_is_not_testable_however_well_it_scores():
    """Pruned to chance: its drop of 0.001 and its ADCC of 0.752 are no merit of its maps."""
    data = dead_and_alive(average_drop=(0.1, 0.001), adcc=(0.7, 0.752), ssim=(0.5, 0.9))
    claims = {
        "drop": claim("average_drop", direction="lower"),
        "coherent": claim(),
        "collapse": claim("adcc", direction="lower"),
        "as other": claim("adcc", one="teacher", other="student"),
        "answers": claim("accuracy", direction="lower"),
        "same": claim("same_class"),
    }
    table = judge(data, claims, resamples=200, reference="teacher").set_index("claim")
    dead = ["drop", "coherent", "collapse", "as other"]
    assert list(table.verdict) == ["not testable here"] * 4 + ["supported", "undecided"]
    assert (table.why[dead] == table.why["drop"]).all()
    assert table.why["drop"].startswith("student (seed 0) is not above chance: 50 of 200")
    assert set(table.verdict_correct[dead]) == {"not testable here"}
    assert set(table.why[["answers", "same"]]) == {""}
    assert table["mean"]["drop"] == pytest.approx(-0.099, abs=0.005)  # said all the same
    # The calibration of a network that has learned nothing is as good as it likes.
    data["confidence"] = np.where(data.model == "student", 0.25, 0.9)
    row = judge(data, {"it": claim("ece", direction="lower")}, resamples=200).iloc[0]
    assert row["mean"] == pytest.approx(-0.1, abs=1e-6)
    assert row.verdict == "not testable here"
    alive = data.assign(predicted=data.label)
    table = judge(alive, claims, resamples=200, reference="teacher").set_index("claim")
    assert list(table.verdict[dead[:3]]) == ["supported", "supported", "contradicted"]


def test_fewer_than_20_images_are_no_ground_for_a_verdict_on_means():
    claims = {"maps": claim(), "answers": claim("accuracy", direction="lower")}
    for n, expected in ((19, "not testable here"), (20, "supported")):
        data = records(0.3, seeds=1, n=n)
        data.loc[data.model == "student", "predicted"] = 0
        table = judge(data, claims, resamples=200)
        assert list(table.verdict) == [expected, "supported"]
        assert table.why[1] == ""
    assert judge(records(0.3, n=19), claims, resamples=50).why[0] == (
        "19 images are too few, at least 20 are needed"
    )


@pytest.mark.parametrize(("seeds", "about"), [(1, "these networks"), (2, "the recipes")])
def test_verdicts_say_what_they_are_about(seeds, about):
    assert only(0.1, claim(), seeds=seeds).about == about
    assert only(0.1, claim(), seeds=2, across="images").about == "these networks"


def test_two_equal_answers_are_tested_by_an_interval_of_shares():
    """1,000 images that both get right: the accuracy is not lower by a point."""
    for n, expected in ((1000, "supported"), (100, "undecided")):
        entry = claim("accuracy", direction="not_lower", matters=0.01)
        row = only(0.0, entry, seeds=1, n=n)
        assert row.ci_low == pytest.approx(-1.96 * np.sqrt(2) / (n + 2), rel=1e-3)
        assert row.verdict == expected


def test_agreement_with_the_reference_is_claimed():
    n = 60
    rng = np.random.default_rng(0)
    data = pd.concat(
        dead_and_alive(n).drop(columns="model").head(n).assign(model=model) for model in MODELS
    )
    near, far = (
        pd.DataFrame({name: level + rng.normal(0, 0.05, n) for name in stats.AGREEMENT}).assign(
            model=model, other="teacher", seed=0, method="cam", image=np.arange(n), same_class=1
        )
        for level, model in ((0.8, "student"), (0.5, "control"))
    )
    beside = near.assign(other="control", pearson=0.0)  # of another pair: not with the reference
    joined = stats.with_agreement(data, pd.concat([beside, near, far]), "teacher")
    assert len(joined) == len(data)
    assert joined[joined.model == "teacher"].agreement_pearson.isna().all()
    own = joined[joined.model == "student"].set_index("image")
    np.testing.assert_array_equal(own.agreement_ssim, near.ssim)
    claims = {
        name: claim(f"agreement_{name}", other="control", matters=0.1) for name in stats.AGREEMENT
    }
    table = judge(joined, claims, resamples=200, reference="teacher").set_index("claim")
    assert set(table.verdict) == {"supported"}
    for name in stats.AGREEMENT:
        assert table["mean"][name] == pytest.approx((near[name] - far[name]).mean())
    assert pairs(claims | {"it": claim()}, "teacher") == [
        ("student", "teacher"),
        ("control", "teacher"),
    ]
    assert stats.with_agreement(data, pd.DataFrame(), "teacher") is data
    # Likeness to a network that learned nothing is no merit either.
    joined.loc[joined.model == "teacher", "predicted"] = 0
    table = judge(joined, claims, resamples=50, reference="teacher")
    assert set(table.verdict) == {"not testable here"}
    assert table.why.str.contains("teacher .* is not above chance").all()


def test_columns_and_order():
    table = judge(records(0.0), {"b": claim(), "a": claim()}, resamples=20)
    assert list(table) == [
        *("claim", "says", "metric", "one", "other", "direction", "matters"),
        *("mean", "ci_low", "ci_high", "p", "p_holm", "across", "about", "seeds", "networks"),
        *("networks_other", "design", "n", "caution", "verdict", "why", "verdict_correct"),
    ]
    assert list(table.claim) == ["b", "a"]
    assert judge(records(0.0), {}, resamples=20).empty


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_at_most_5_percent_of_families_hold_a_false_verdict(seeds):
    """Ten claims about eleven equal models, five against one teacher; a family per column."""
    rng = np.random.default_rng(seeds)
    pairs = [(k, 0) for k in range(1, 6)] + [(k, k - 1) for k in range(6, 11)]
    directions = ["lower", "higher", "not_lower"] * 4
    across = "images" if seeds == 1 else "seeds"
    of_seed = 0.0 if seeds == 1 else 0.1  # trained models as such are not equal for other seeds
    mistaken = []
    for _ in range(24):
        data = world(rng, seeds=seeds, models=11, n=100, of_seed=of_seed, of_image=1, of_both=1)
        samples = stats.resampled_statistics(data, resamples=200)
        found = {
            (one, other): intervals.estimate(samples[one].minus(samples[other]), across)
            for one, other in pairs
        }
        p = intervals.p_values(pd.concat(found)).unstack([0, 1]).loc[COLUMNS]
        mistaken += [holm(family).min() <= 0.05 for family in p.to_numpy()]
    assert len(mistaken) > 700
    assert at_most(sum(mistaken), len(mistaken), 0.05)
    # That this is the rule, with the smallest margins there are: the families of the last world.
    for metric, mistake in zip(COLUMNS, mistaken[-len(COLUMNS) :], strict=True):
        if mistake or metric == COLUMNS[0]:
            claims = {
                str(pair): claim(metric, *pair, direction, matters=1e-9)
                for pair, direction in zip(pairs, directions, strict=False)
            }
            verdicts = ledger(claims, found).verdict
            assert verdicts.isin(["supported", "contradicted"]).any() == mistake


def test_a_difference_that_matters_is_seldom_called_none():
    """Where the truth is the margin itself, in at most 2.5 % of cases and chance."""
    rng = np.random.default_rng(9)
    data = world(rng, seeds=3, models=30, of_seed=0.1, of_image=1, of_both=1)
    data.loc[data.model % 2 == 1, COLUMNS] += 1.0
    samples = stats.resampled_statistics(data, resamples=200)
    found = {
        (k + 1, k): intervals.estimate(samples[k + 1].minus(samples[k])) for k in range(0, 30, 2)
    }
    claims = {
        f"{pair} {metric}": claim(metric, *pair, "higher", matters=1.0)
        for pair in found
        for metric in COLUMNS
    }
    verdicts = ledger(claims, found).verdict
    assert at_most(int((verdicts == "no meaningful difference").sum()), len(verdicts), 0.025)


def test_the_papers_claims_about_the_models_that_are_planned():
    few = paper.claims(MODELS)
    assert list(few) == [
        *("c1_drop", "c2_complexity", "c3_coherency", "c4_accuracy", "c6a_slight"),
        *("control_coherency", "control_complexity", "control_drop"),
    ]
    assert isinstance(few, ConfigDict)
    check(few, MODELS, dict.fromkeys(MODELS, 1))
    every = paper.claims([*MODELS, "tiny_student", "shallow_student"])
    assert set(every) - set(few) == {"c5_shallow", "c6b_aggressive"}
    assert not paper.claims(["teacher"])
    few.c1_drop.matters = 0.05  # as --config.claims.c1_drop.matters=0.05 does
    assert few.c1_drop.matters == 0.05


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"one": "uncle"}, "has one='uncle'; known: teacher, student, control"),
        ({"other": "tiny_student"}, "has other='tiny_student'"),
        ({"metric": "vibes"}, "has metric='vibes'; known: accuracy"),
        ({"direction": "up"}, "has direction='up'; known: lower, higher, not_lower"),
        ({"matters": 0.0}, "matters=0.0; give the smallest difference"),
        ({"matters": -0.1}, "matters=-0.1; give"),
        ({"matters": float("nan")}, "matters=nan; give"),
        ({"matters": "much"}, "matters=much; give"),
        ({"other": "student"}, "compares 'student' with itself"),
        ({"margin": 0.1}, "needs exactly the fields says, metric, one, other"),
    ],
)
def test_bad_claims_are_refused_in_one_line(changes, message):
    claims = {"mine": claim() | changes}
    with pytest.raises(UserError, match=f"the claim 'mine' .*{message}") as caught:
        check(claims, MODELS, dict.fromkeys(MODELS, 3))
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="the claim 'mine'"):
        judge(records(0.0), claims, resamples=10)


def test_a_verdict_between_seeds_needs_two():
    with pytest.raises(UserError, match="at least 2 seeds, not 1"):
        check({}, MODELS, dict.fromkeys(MODELS, 1), across="seeds")
    check({}, MODELS, dict.fromkeys(MODELS, 2), across="seeds")
    with pytest.raises(UserError, match="across auto, seeds, images, not 'houses'"):
        check({}, MODELS, dict.fromkeys(MODELS, 2), across="houses")


def test_a_study_judges_claims_about_agreement(monkeypatch, tmp_path):
    """What the claims need is measured, and joined to the records that are judged."""
    n = 30
    rng = np.random.default_rng(0)
    data = pd.concat(
        dead_and_alive(n).drop(columns="model").head(n).assign(model=model) for model in MODELS
    )

    def measure(told, members, dataset, what, workdir):
        agreement = []
        for level, (one, other) in enumerate(what.compare):
            values = {name: level / 10 + rng.normal(0, 0.01, n) for name in stats.AGREEMENT}
            columns = {"model": one, "other": other, "seed": 0, "method": "cam"}
            agreement.append(pd.DataFrame(values | {"image": np.arange(n)}).assign(**columns))
        return Measured(
            told, members, dataset, what, data.assign(drawn=True), pd.concat(agreement), {},
            *[pd.DataFrame()] * 3, {},
        )  # fmt: skip

    for name in ("make", "require_defined"):
        monkeypatch.setattr(run, name, lambda *_: None)
    monkeypatch.setattr(run.plan, "made", lambda *_: [])
    nothing = {name: one._replace(check=lambda *_: None) for name, one in ORIGINS.items()}
    monkeypatch.setattr(origins, "ORIGINS", nothing)
    data_set = SimpleNamespace(test=SimpleNamespace(label=np.arange(n)))
    monkeypatch.setattr(run.datasets, "load", lambda **_: data_set)
    monkeypatch.setattr(run.datasets, "fingerprint", lambda _: "0")
    monkeypatch.setattr(run, "measure", measure)
    settings = runpy.run_path(str(ROOT / "configs" / "study.py"))["get_config"]("quick")
    settings.evaluation.images = n
    settings.only, settings.compare = "teacher,student,control", (("student", "teacher"),)
    entry = claim("agreement_ssim", one="student", other="control", direction="lower", matters=0.05)
    settings.claims = ConfigDict({"mine": entry})
    found = run.study(settings, tmp_path / "study").claims
    assert list(found.verdict) == ["supported"]  # 0.0 against 0.1
    assert found["mean"][0] == pytest.approx(-0.1, abs=0.01)


def test_a_ladder_judges_what_it_measures():
    """No step compares two networks' maps, so a claim about them has no verdict there."""
    claims = {
        name: claim(name, direction="beyond_noise" if "pairwise" in name else "higher")
        for name in ("ssim", "agreement_ssim", "pairwise_ssim")
    }
    told = Design("teacher", (), MODELS)
    options = SimpleNamespace(resamples=20, seed=0)
    found = audit.judge_steps(records(0.1).assign(rung="sound"), told, claims, "auto", options)
    assert list(found.claims.claim) == ["ssim"]


def populations(far, one=6, other=8, n=250):
    """Networks of two models that share nothing; the ssim of `one` is further by `far`."""
    rng = np.random.default_rng(1)
    image, rows = rng.uniform(0.3, 0.7, n), []
    for model, size, gain in (("student", one, far), ("teacher", other, 0.0)):
        for seed in range(size):
            ssim = image + gain + rng.normal(0, 0.02) + rng.normal(0, 0.03, n)
            columns = {"model": model, "seed": seed, "line": f"{model} {seed}"}
            answers = {"ssim": ssim, "label": np.arange(n) % 2, "predicted": np.arange(n) % 2}
            rows.append(pd.DataFrame(answers | {"image": np.arange(n)}).assign(**columns))
    return pd.concat(rows)


def alike(records, level):
    """How alike all networks' maps are: `level` of two of different models, else 0.85."""
    networks = records[["model", "seed", "line"]].drop_duplicates().reset_index(drop=True)
    rng = np.random.default_rng(2)
    first, second = np.triu_indices(len(networks), 1)
    same = networks.model.to_numpy()[first] == networks.model.to_numpy()[second]
    pairs = np.where(same, 0.85, level) + rng.normal(0, 0.01, len(first))
    values = pairs + rng.normal(0, 0.05, (records.image.nunique(), len(first)))
    right = np.ones((len(values), len(networks)), bool)
    return Pairwise(networks, np.arange(len(values)), right, {"pearson": values})


@pytest.mark.parametrize(
    ("far", "level", "matters", "expected"),
    [
        (0.3, 0.6, 0.05, "supported"),
        (0.0, 0.85, 0.1, "contradicted"),
        (0.0, 0.85, 0.001, "undecided"),
        (0.3, 0.6, 0.5, "contradicted"),  # beyond noise, by less than what matters
    ],
)
def test_what_is_beyond_seed_noise(far, level, matters, expected):
    """One rule for the means of a metric and for the maps themselves."""
    data = populations(far)
    claims = {
        metric: claim(metric, direction="beyond_noise", matters=matters)
        for metric in ("ssim", "pairwise_pearson", "pairwise_spearman")
    }
    found = judge(data, claims, resamples=100, distances=alike(data, level)).set_index("claim")
    means = data.groupby(["model", "seed"]).ssim.mean()
    one, other = (means[model].to_numpy() for model in ("student", "teacher"))
    inside = np.abs(other[:, None] - other)[np.triu_indices(len(other), 1)].mean()
    gap = np.abs(one[:, None] - other).mean() - inside
    assert found["mean"]["ssim"] == pytest.approx(gap)
    assert found["mean"]["pairwise_pearson"] == pytest.approx(0.85 - level, abs=0.01)
    measured = found.loc[["ssim", "pairwise_pearson"]]
    assert list(measured.verdict) == [expected] * 2
    assert list(measured.verdict_correct) == [expected] * 2
    assert set(measured.design) == {"independent"}
    assert list(measured.networks) == [6, 6]
    assert list(measured.networks_other) == [8, 8]
    assert (found.across == "seeds").all()
    # What was not measured is undecided, and all three are one family.
    assert found.verdict["pairwise_spearman"] == "undecided"
    assert found.p_holm.min() == pytest.approx(min(1, 3 * found.p.min()))


def test_a_single_network_says_nothing_of_others():
    """Across images where one side is single; beyond noise if the other is a population."""
    data = populations(0.3, one=1)
    claims = {"more": claim(), "far": claim(direction="beyond_noise")}
    found = judge(data, claims, resamples=100).set_index("claim")
    assert list(found.across) == ["images", "seeds"]
    assert list(found.about) == ["these networks"] * 2
    assert found.caution["more"] == "one network: others may differ"
    assert found.verdict["more"] == "supported"
    assert found.verdict["far"] == "undecided"  # of nine networks, p is 1/9 at least
    assert found.p["far"] >= 1 / 9
    # A claim of noise alone may be of one network, also of one with a parent in the other model.
    far = {"far": claims["far"]}
    assert judge(data, far, across="seeds", resamples=100).verdict[0] == "undecided"
    data.loc[data.model == "student", "line"] = "teacher 0"
    child = judge(data, far, across="seeds", resamples=100).iloc[0]
    assert (child.design, child.networks, child.networks_other) == ("paired", 1, 8)
    # Where both are right, `both_correct` leaves nothing that tells how far seeds differ.
    assert (child.verdict, child.verdict_correct) == ("supported", "undecided")
    several = judge(populations(0.3), {"more": claim()}, resamples=100).iloc[0]
    assert (several.across, several.design) == ("seeds", "independent")
    for entry, across, message in (
        (
            claim(direction="beyond_noise", other="student", one="teacher"),
            "auto",
            "to know how far",
        ),
        (claim(), "seeds", "needs at least 2 networks of 'student', not 1"),
    ):
        with pytest.raises(UserError, match=f"the claim 'it' .*{message}") as caught:
            judge(data, {"it": entry}, across=across, resamples=10)
        assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match="has metric='pairwise_ssim'; known: accuracy"):
        judge(data, {"it": claim("pairwise_ssim")}, resamples=10)


def test_verdicts_name_what_the_members_of_each_pair_speak_of():
    told = Design("teacher", (), MODELS, recipes=frozenset(["teacher", "student"]))
    rows = pd.DataFrame(
        {
            "one": ["student", "control", "student"],
            "other": ["teacher", "teacher", "control"],
            "about": ["the recipes", "the recipes", "these networks"],
        }
    )
    assert list(about(rows, told)) == [
        "the recipes",
        "the recipes and networks like these",
        "these networks",
    ]
    assert told.population("control") == "networks like these"
