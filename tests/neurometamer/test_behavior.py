"""Recognition experiments: published numbers, other people's code, planted truth, and what is left
out.
"""

from __future__ import annotations

import json
import re
import sys
from html import unescape
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.text import Text
from scipy import stats

from neurometamer.behavior import (
    Profiles,
    Screening,
    agreement,
    bootstrap_curves,
    cells_on_same_images,
    complete_profiles,
    confusion_table,
    curve_correlation,
    error_consistency,
    kappa,
    mixed_anova,
    mixed_f,
    permutation_p,
    permutation_table,
    permute_mixed,
    permute_repeated,
    post_hoc,
    proportion_cells,
    read_recognition,
    recognition_curves,
    repeated_anova,
    repeated_f,
    screen_trials,
    select_cells,
    simulate_recognition,
    summarize_consistency,
    trial_cells,
)
from neurometamer.behavior import anova as anova_module
from neurometamer.behavior.trials import name_columns
from neurometamer.cli import main
from neurometamer.commands.behavior import AnalysisSettings, behavior_analyze
from neurometamer.errors import InputError
from neurometamer.figures import behavior as behavior_figures
from neurometamer.figures.style import format_number
from neurometamer.report.behavior import first_sentences
from neurometamer.store import read_table
from stimuli_gen.categories import CATEGORIES

STAGES = ("conv1", "layer4", "final")
PEOPLE = {
    "standard": dict(zip(STAGES, (0.93, 0.3, 0.1))),
    "robust": dict(zip(STAGES, (0.93, 0.85, 0.65))),
    "plain": dict(zip(STAGES, (0.92, 0.5, 0.2))),
}
NETWORKS = {"standard": {"standard": dict.fromkeys(STAGES, 0.95)}, "other": {}}
QUICK = AnalysisSettings(n_permutations=200, n_resamples=100)


def profiles(values: np.ndarray) -> Profiles:
    n, n_models, n_stages = values.shape
    return Profiles(
        values=values,
        participants=[f"p{i}" for i in range(n)],
        models=[f"m{i}" for i in range(n_models)],
        stages=[f"s{i}" for i in range(n_stages)],
        excluded=pd.DataFrame(columns=["participant", "reason"]),
    )


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).random(shape)


@pytest.fixture(scope="module")
def trials() -> pd.DataFrame:
    """Simulated trials of 10 people who attend, 2 who do not, and 2 networks."""
    return simulate_recognition(
        PEOPLE, NETWORKS, n_people=10, n_images=240, careless=(0.95, 0.9), seed=4
    )


@pytest.fixture(scope="module")
def usable(trials: pd.DataFrame) -> pd.DataFrame:
    return screen_trials(name_columns(trials)).trials


@pytest.fixture(scope="module")
def analyzed(trials: pd.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an analysis of the simulated trials; read it only."""
    folder = tmp_path_factory.mktemp("behavior")
    trials.to_csv(folder / "trials.csv", index=False)
    return behavior_analyze(folder / "trials.csv", folder / "out", QUICK).parent


# -------------------------------------------------------------------------------- published numbers

# Feather et al. (2023), experiment with ResNet-50: models, F(1, 19), partial eta squared, F of the
# interaction.
GOLDEN = [
    ("resnet50", "resnet50_l2_3_robust", "242.218", ".927", "91.06"),
    ("resnet50", "resnet50_linf_4_robust", "403.033", ".955", "88.58"),
    ("resnet50", "resnet50_linf_8_robust", "315.303", ".943", "57.86"),
    ("resnet50", "resnet50_random_l2_perturb", "2.434", ".114", "6.09"),
    ("resnet50", "resnet50_random_linf8_perturb", "0.042", ".002", "4.15"),
    ("resnet50_l2_3_robust", "resnet50_random_l2_perturb", "792.296", ".977", "126.47"),
    ("resnet50_linf_8_robust", "resnet50_random_linf8_perturb", "176.300", ".903", "75.64"),
]


@pytest.fixture(scope="module")
def feather(shared_data: Path) -> pd.DataFrame:
    table = read_recognition(shared_data / "metamer_behaviour" / "feather2023_resnet50.csv")
    return select_cells(proportion_cells(table), [], [])


@pytest.mark.data
@pytest.mark.parametrize(("a", "b", "f", "eta", "interaction"), GOLDEN)
def test_model_effects_of_feather_2023_to_all_printed_digits(feather, a, b, f, eta, interaction):
    human = feather[feather["observer"] == "human"]
    data = complete_profiles(human, [a, b], list(dict.fromkeys(human["stage"])))
    table = repeated_anova(data).set_index("source")
    assert f"{table.loc['model', 'F']:.3f}" == f
    assert f"{table.loc['model', 'eta2_p']:.3f}".removeprefix("0") == eta
    assert f"{table.loc['model x stage', 'F']:.2f}" == interaction
    assert tuple(table.loc["model", ["df1", "df2"]]) == (1, 19)
    for effect, source in (
        ("model", "model"),
        ("stage", "stage"),
        ("interaction", "model x stage"),
    ):
        np.testing.assert_allclose(
            repeated_f(data.values, effect), table.loc[source, "F"], rtol=1e-9
        )


@pytest.mark.data
def test_people_against_the_network_of_feather_2023(feather):
    own = feather[feather["model"] == "resnet50"]
    stages = list(dict.fromkeys(own["stage"]))
    both = [
        complete_profiles(own[own["observer"] == kind], ["resnet50"], stages)
        for kind in ("human", "network")
    ]
    table = mixed_anova(*both).set_index("source")
    assert f"{table.loc['observer', 'F']:.3f}" == "705.946"
    assert f"{table.loc['observer x stage', 'F']:.3f}" == "258.070"
    assert f"{table.loc['observer', 'eta2_p']:.3f}" == "0.949"
    assert tuple(table.loc["observer", ["df1", "df2"]]) == (1, 38)


@pytest.mark.data
def test_stage_means_of_feather_2023(feather):
    curves = recognition_curves(feather)
    own = curves[(curves["observer"] == "human") & (curves["model"] == "resnet50")]
    assert own["stage"].iloc[0] == "natural_image"
    assert [round(value, 2) for value in own["proportion"]] == [
        0.95,
        0.96,
        0.90,
        0.94,
        0.88,
        0.29,
        0.11,
        0.08,
    ]


@pytest.mark.data
def test_published_data_under_other_names_give_the_same_analysis(shared_data, tmp_path):
    table = pd.read_csv(shared_data / "metamer_behaviour" / "feather2023_resnet50.csv")
    table = table[table["model"].isin(["resnet50", "resnet50_l2_3_robust"])].sample(
        frac=1, random_state=0
    )
    names = {
        "participant": "who",
        "model": "net",
        "stage": "layer",
        "observer": "kind",
        "proportion_correct": "acc",
    }
    table["who"], table["model"] = table["participant"] + 100, table["model"]
    table.drop(columns="participant").rename(columns=names).to_csv(
        tmp_path / "t.tsv", sep="\t", index=False
    )
    columns = {
        "participant": "who",
        "model": "net",
        "stage": "layer",
        "observer": "kind",
        "proportion": "acc",
    }
    page = behavior_analyze(
        tmp_path / "t.tsv", tmp_path / "out", AnalysisSettings(columns=columns, n_permutations=99)
    )
    made = (
        pd.read_csv(page.parent / "anova.csv")
        .query("analysis == 'stage x model'")
        .set_index("source")
    )
    assert f"{made.loc['model', 'F']:.3f}" == "242.218"
    mixed = pd.read_csv(page.parent / "anova.csv").query(
        "analysis == 'observer x stage' and models == 'resnet50'"
    )
    assert f"{mixed['F'].iloc[0]:.3f}" == "705.946"
    shuffled = pd.read_csv(page.parent / "permutation.csv").query(
        "analysis == 'stage x model' and source == 'model'"
    )
    assert shuffled["p"].iloc[0] == 0.01


# ----------------------------------------------------------------------------- analyses of variance


@settings(max_examples=8)
@given(st.integers(0, 10_000), st.integers(3, 6), st.integers(2, 4), st.integers(2, 5))
def test_our_f_is_pingouins_whatever_the_design(seed, n, n_models, n_stages):
    data = profiles(noise(n, n_models, n_stages, seed=seed))
    table = repeated_anova(data).set_index("source")["F"]
    for effect, source in (
        ("model", "model"),
        ("stage", "stage"),
        ("interaction", "model x stage"),
    ):
        np.testing.assert_allclose(repeated_f(data.values, effect), table[source], rtol=1e-8)


@settings(max_examples=8)
@given(st.integers(0, 10_000), st.integers(2, 6), st.integers(2, 6), st.integers(2, 5))
def test_our_mixed_f_is_pingouins_also_with_groups_of_different_size(
    seed, n_first, n_second, n_stages
):
    values = noise(n_first + n_second, 1, n_stages, seed=seed)
    table = mixed_anova(profiles(values[:n_first]), profiles(values[n_first:])).set_index("source")[
        "F"
    ]
    groups = np.repeat([0, 1], [n_first, n_second])
    for effect, source in (("observer", "observer"), ("interaction", "observer x stage")):
        np.testing.assert_allclose(mixed_f(values[:, 0], groups, effect), table[source], rtol=1e-7)


def test_two_people_are_analyzed_where_pingouin_can():
    values = noise(2, 2, 2)
    table = repeated_anova(profiles(values)).set_index("source")["F"]
    np.testing.assert_allclose(repeated_f(values, "interaction"), table["model x stage"])
    with pytest.raises(InputError, match="cannot analyze this design with 2 people; add a third"):
        repeated_anova(profiles(noise(2, 2, 3)))


def test_permuted_f_is_pingouins_for_the_same_shuffle():
    values = noise(6, 2, 3)
    null = permute_repeated(values, 3, seed=5, name="x")["interaction"]
    shuffled = anova_module.generator(5, "permutation", "x", "interaction").permuted(
        np.broadcast_to(values.reshape(6, 6), (3, 6, 6)), axis=-1
    )
    for one, expected in zip(shuffled, null):
        np.testing.assert_array_equal(np.sort(one, axis=1), np.sort(values.reshape(6, 6), axis=1))
        table = repeated_anova(profiles(one.reshape(6, 2, 3))).set_index("source")["F"]
        np.testing.assert_allclose(expected, table["model x stage"], rtol=1e-9)


def test_number_of_permutations_held_at_once_changes_nothing(monkeypatch):
    values, groups = noise(5, 3, 4), np.array([0, 1, 0, 1, 1])
    whole = permute_repeated(values, 50, seed=1), permute_mixed(values[:, 0], groups, 50, seed=1)
    monkeypatch.setattr(anova_module, "BLOCK", 7 * values.size)
    parts = permute_repeated(values, 50, seed=1), permute_mixed(values[:, 0], groups, 50, seed=1)
    for first, second in zip(whole, parts):
        for effect in first:
            np.testing.assert_allclose(first[effect], second[effect], rtol=1e-12)


def test_permutation_p_agrees_with_all_labelings():
    values = noise(6, 2, 3, seed=3)
    values[:, 0] += 0.15
    flips = np.array([[(code >> i) & 1 for i in range(6)] for code in range(64)], dtype=bool)
    every = np.where(flips[:, :, None, None], values[None, :, ::-1], values[None])
    observed = float(repeated_f(values, "model"))
    exact = (repeated_f(every, "model") >= observed * (1 - 1e-9)).mean()
    p, large = permutation_p(permute_repeated(values, 20_000)["model"], observed)
    assert p == (1 + large) / 20_001
    assert abs(p - exact) < 4 * np.sqrt(exact * (1 - exact) / 20_000)


def test_permutation_p_is_uniform_where_there_is_no_effect():
    ps = [
        permutation_p(permute_repeated(v, 99)["interaction"], float(repeated_f(v, "interaction")))[
            0
        ]
        for v in noise(200, 5, 2, 3, seed=2)
    ]
    assert stats.kstest(ps, "uniform").pvalue > 0.01


def test_two_levels_are_a_paired_t_test():
    values = noise(8, 1, 2)
    table = repeated_anova(profiles(values))
    t = stats.ttest_rel(values[:, 0, 0], values[:, 0, 1])
    np.testing.assert_allclose(table["F"], t.statistic**2)
    np.testing.assert_allclose(table["p"], t.pvalue)
    assert table["df2"].iloc[0] == 7 and table["p_gg"].iloc[0] == table["p"].iloc[0]


def test_greenhouse_geisser_is_that_of_the_contrasts_covariance():
    values = noise(12, 2, 4, seed=7) * np.array([1, 2, 3, 6.0])
    table = repeated_anova(profiles(values)).set_index("source")
    orthonormal = [np.linalg.svd(np.eye(k) - 1 / k)[0][:, : k - 1] for k in (2, 4)]
    contrast = np.kron(*orthonormal)
    covariance = np.cov((values.reshape(12, 8) @ contrast).T)
    epsilon = np.trace(covariance) ** 2 / (3 * (covariance**2).sum())
    row = table.loc["model x stage"]
    np.testing.assert_allclose(row["epsilon_gg"], epsilon)
    np.testing.assert_allclose(row["p_gg"], stats.f.sf(row["F"], 3 * epsilon, 33 * epsilon))
    np.testing.assert_allclose(row["eta2_p"], row["F"] * 3 / (row["F"] * 3 + 33))


def test_sphericity_is_not_tested_with_fewer_people_than_contrasts():
    few, many = repeated_anova(profiles(noise(4, 1, 5))), repeated_anova(profiles(noise(9, 1, 5)))
    assert few[["mauchly_w", "p_sphericity"]].isna().all(axis=None)
    assert many[["mauchly_w", "p_sphericity"]].notna().all(axis=None)


@pytest.mark.parametrize(
    ("correction", "rule"), [("holm", "holm"), ("fdr", "fdr_bh"), ("bonferroni", "bonferroni")]
)
def test_post_hoc_tests_are_scipys_with_statsmodels_correction(correction, rule):
    from statsmodels.stats.multitest import multipletests

    values = noise(9, 3, 2, seed=1)
    table = post_hoc(profiles(values), correction=correction)
    at_stage = table[table["family"] == "models at each stage"]
    assert len(at_stage) == 6 and (at_stage["n_tests"] == 6).all()
    for row in at_stage.to_dict("records"):
        a, b, stage = (int(row[name][1:]) for name in ("a", "b", "at"))
        t = stats.ttest_rel(values[:, a, stage], values[:, b, stage])
        np.testing.assert_allclose((row["t"], row["p"]), (t.statistic, t.pvalue))
        np.testing.assert_allclose(
            row["mean_difference"], (values[:, a, stage] - values[:, b, stage]).mean()
        )
    np.testing.assert_allclose(
        at_stage["p_corrected"], multipletests(at_stage["p"], method=rule)[1]
    )
    models = table[table["family"] == "models"].iloc[0]
    t = stats.ttest_rel(*(values[:, int(models[name][1:])].mean(axis=1) for name in ("a", "b")))
    np.testing.assert_allclose((models["t"], models["p"]), (t.statistic, t.pvalue))


def test_pairs_without_any_difference_have_no_p_and_are_not_counted():
    values = noise(6, 2, 3)
    values[:, 1, 0] = values[:, 0, 0]
    table = post_hoc(profiles(values))
    at_stage = table[table["family"] == "models at each stage"].set_index("at")
    assert np.isnan(at_stage.loc["s0", "p"]) and np.isnan(at_stage.loc["s0", "p_corrected"])
    assert (at_stage["n_tests"] == 2).all()


def test_data_without_variance_are_refused_and_perfect_effects_are_infinite():
    with pytest.raises(InputError, match="no variance"):
        repeated_anova(profiles(np.ones((4, 2, 3))))
    perfect = np.zeros((4, 2, 3))
    perfect[:, 1] = 1
    assert repeated_f(perfect, "model") == np.inf
    assert repeated_f(perfect, "stage") == 0


def test_without_pingouin_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pingouin", None)
    with pytest.raises(InputError, match=r"pip install 'neurometamer\[behavior\]'"):
        repeated_anova(profiles(noise(3, 2, 2)))


def test_shuffles_depend_on_the_seed_and_not_on_what_else_is_analyzed():
    data = profiles(noise(5, 2, 2))
    table = repeated_anova(data, analysis="a")
    first, again, other = (
        permutation_table(table, data, n_permutations=300, seed=seed) for seed in (0, 0, 1)
    )
    pd.testing.assert_frame_equal(first, again)
    assert (first["n_as_large"] != other["n_as_large"]).any()


# ---------------------------------------------------------------------------- reading and screening


def person(name: str = "a", n: int = 10, **columns: object) -> pd.DataFrame:
    table = pd.DataFrame(
        {"participant": name, "stimulus": [f"i{k}" for k in range(n)], "stage": "s", "truth": "dog"}
    )
    return table.assign(**{"response": "dog", "rt": 600.0, **columns})


def screened(*parts: pd.DataFrame, **options: object) -> object:
    return screen_trials(name_columns(pd.concat(parts, ignore_index=True)), **options)


def test_every_trial_left_out_is_counted_with_its_reason():
    odd = person("a", 20)
    odd.loc[0, "response"] = ""
    odd.loc[1, "response"] = "spoon"
    odd.loc[2, "rt"] = np.nan
    odd.loc[3, "rt"] = 20.0
    odd.loc[4, "stimulus"] = "i5"
    found = screened(odd, person("b"))
    left = found.exclusions.set_index("reason")
    assert left["n_trials"].to_dict() == {
        "no answer": 1,
        "answer outside the categories": 1,
        "no response time": 1,
        "too fast": 1,
        "the same trial again": 1,
    }
    assert set(left["participant"]) == {"a"} and set(left["what"]) == {"trials"}
    row = found.participants.set_index("participant").loc["a"]
    assert (row["n_trials"], row["n_usable"], row["n_missing"], row["n_fast"]) == (19, 15, 3, 1)
    assert len(found.trials) == 25


def test_missing_answers_can_count_as_wrong():
    odd = person("a", 10)
    odd.loc[0, "response"] = ""
    rules = Screening(max_missing=1.0)
    assert len(screened(odd, rules=rules).trials) == 9
    counted = screened(odd, rules=rules, missing="wrong").trials
    assert len(counted) == 10 and counted["correct"].sum() == 9


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("response", "spoon", "answer outside"),
        ("rt", np.nan, "no response time"),
        ("stimulus", "i1", "same trial"),
    ],
)
def test_strict_refuses_what_would_be_left_out(column, value, message):
    odd = person("a", 10)
    odd.loc[0, column] = value
    with pytest.raises(InputError, match=f"--strict: 1 trials: .*{message}"):
        screened(odd, strict=True)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        (
            person("a", 12, phase="screening", response=["dog"] * 6 + ["cat"] * 6),
            "screening accuracy 0.5 below 0.583",
        ),
        (
            person("a", 4, phase="catch", response=["dog"] * 2 + ["cat"] * 2),
            "catch accuracy 0.5 below 0.75",
        ),
        (
            person("a", 10, response=["dog"] * 7 + [""] * 3, stimulus=list("abcdefghij")),
            "15% missing answers",
        ),
        (
            person("a", 10, rt=[600.0] * 7 + [20.0] * 3, stimulus=list("abcdefghij")),
            "15% fast answers",
        ),
    ],
)
def test_people_are_left_out_by_rule_and_named(extra, reason):
    keep = person("b", 12, phase=extra.get("phase", "main"), stimulus=[f"x{k}" for k in range(12)])
    rules = Screening(max_missing=0.1, max_fast=0.1)
    found = screened(person("a"), extra, person("b"), keep, rules=rules)
    row = found.participants.set_index("participant")
    assert row.loc["a", "reason"].startswith(reason) and not row.loc["a", "included"]
    assert row.loc["b", "included"] and set(found.trials["participant"]) == {"b"}
    assert found.exclusions[found.exclusions["what"] == "observer"]["participant"].tolist() == ["a"]


def test_seven_of_twelve_screening_trials_pass():
    seven = person("a", 12, phase="screening", response=["dog"] * 7 + ["cat"] * 5)
    found = screened(person("a"), seven, person("b"))
    assert found.participants.set_index("participant")["reason"].to_dict() == {
        "a": "",
        "b": "no screening trials",
    }


def test_seconds_read_as_milliseconds_are_refused():
    with pytest.raises(InputError, match=r"median of 0\.6 ms, read as ms"):
        screened(person(rt=0.6))
    assert screened(person(rt=0.6), rt_unit="s").trials["rt"].eq(600).all()


@pytest.mark.parametrize(
    "times", [["0,512"] * 10, ["612"] * 9 + ["1,204"], ["612"] * 9 + ["timeout"]]
)
def test_times_that_are_no_numbers_are_refused_by_name(times):
    with pytest.raises(InputError, match=f"of 10 response times are no numbers: '{times[-1]}'"):
        screened(person(rt=times))
    assert screened(person(rt=["612"] * 9 + [""])).exclusions["reason"].tolist() == [
        "no response time"
    ]


def test_answers_in_other_case_are_refused_or_taken_when_told():
    odd = person(response=["Dog"] * 6 + ["dog"] * 2 + ["CAT"] * 2)
    with pytest.raises(InputError, match=r"'Dog' for 'dog', 'CAT' for 'cat'; .*--ignore-case"):
        screened(odd)
    found = screened(odd, ignore_case=True)
    assert found.trials["correct"].sum() == 8
    assert (
        "taken for the same in upper and lower case: 'Dog' for 'dog', 'CAT' for 'cat'"
        in found.notes
    )
    assert screened(person(truth="DOG"), ignore_case=True).trials["correct"].all()
    both = screened(
        person(truth="DOG", response="Dog"), categories=("DOG", "Dog")
    )  # two categories of their own
    assert not both.trials["correct"].any()


def test_answers_outside_the_categories_are_named():
    with pytest.raises(
        InputError, match=r"no usable trial is left: .*: 'hound' \(10\); .*--categories"
    ):
        screened(person(response="hound"))
    odd = person(response=["hound"] + ["dog"] * 9)
    assert "answers outside the categories: 'hound' (1)" in screened(odd).notes
    with pytest.raises(InputError, match=r"'hound' \(1\)"):
        screened(odd, strict=True)


def test_bad_tables_are_refused_with_what_to_do(tmp_path):
    with pytest.raises(InputError, match="unknown true category 'dogg'; did you mean 'dog'"):
        screened(person(truth="dogg"))
    with pytest.raises(InputError, match="did you mean 'network'"):
        name_columns(person(observer="netwrok"))
    with pytest.raises(
        InputError, match=r"lacks the column\(s\) stimulus, truth; it has .*ROLE=NAME"
    ):
        name_columns(person().drop(columns=["stimulus", "truth"]))
    with pytest.raises(InputError, match=r"lacks the column\(s\) subject"):
        name_columns(person(), {"participant": "subject"})
    with pytest.raises(
        InputError, match="unknown role of a column 'partcipant'; did you mean 'participant'"
    ):
        read_recognition(tmp_path / "x.csv", {"partcipant": "who"})
    with pytest.raises(InputError, match="no main trials"):
        screened(person(phase="practice"))
    with pytest.raises(InputError, match="name a model but no stage"):
        name_columns(person(stage="", model="m"))
    with pytest.raises(InputError, match="no usable trial is left: 100% missing"):
        screened(person(response=""))


def test_proportions_are_checked(tmp_path):
    table = pd.DataFrame({"participant": ["1", "2"], "stage": "s", "proportion": [0.5, 50.0]})
    for rows, message in (
        (table, "no numbers between 0 and 1: 50"),
        (table.iloc[[0, 0]], "more than one proportion"),
    ):
        rows.to_csv(tmp_path / "t.csv", index=False)
        with pytest.raises(InputError, match=message):
            behavior_analyze(tmp_path / "t.csv", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_people_of_different_experiments_are_different_people(tmp_path):
    first, second = person("1", experiment="E1", model="m"), person("1", experiment="E2", model="n")
    pd.concat([first, second]).to_csv(tmp_path / "t.csv", index=False)
    assert set(read_recognition(tmp_path / "t.csv")["participant"]) == {"E1 1", "E2 1"}
    only = read_recognition(tmp_path / "t.csv", where={"experiment": "E2"})
    assert set(only["participant"]) == {"1"} and set(only["model"]) == {"n"}
    with pytest.raises(InputError, match="unknown value of the column experiment 'E3'"):
        read_recognition(tmp_path / "t.csv", where={"experiment": "E3"})


def test_observers_have_other_words():
    words = ["Human", "people", "model", "DNN"]
    table = name_columns(pd.concat([person(observer=word) for word in words]))
    assert list(dict.fromkeys(table["observer"])) == ["human", "network"]


def test_names_stay_text_and_extra_columns_stay(tmp_path):
    person("007", n=2, mood="fine").to_csv(tmp_path / "t.csv", index=False)
    table = read_recognition(tmp_path / "t.csv")
    assert table["participant"].tolist() == ["007", "007"] and table["mood"].tolist() == [
        "fine",
        "fine",
    ]
    assert (
        (table["observer"] == "human").all()
        and (table["phase"] == "main").all()
        and (table["model"] == "all").all()
    )


def test_a_condition_that_crosses_stages_stands_for_the_model():
    crossed = pd.concat([person(stage="s", condition="m1"), person(stage="t", condition="m1")])
    assert (name_columns(crossed)["model"] == "m1").all()
    nested = pd.concat([person(stage="s", condition="s1"), person(stage="t", condition="t1")])
    assert (name_columns(nested)["model"] == "all").all()


# --------------------------------------------------------------------------------- cells and curves


def test_photographs_count_in_every_model(usable):
    cells = trial_cells(usable)
    own = cells[(cells["participant"] == "person_00") & (cells["stage"] == "natural")]
    assert set(own["model"]) == set(PEOPLE) and len(own) == 3 and own["proportion"].nunique() == 1
    raw = usable[(usable["participant"] == "person_00") & (usable["model"] == "")]
    assert own["proportion"].iloc[0] == raw["correct"].mean()


def test_networks_are_asked_about_the_images_that_each_person_saw(usable):
    paired, absent = cells_on_same_images(usable)
    assert absent == 0
    one = paired[(paired["network"] == "other") & (paired["participant"] == "person_03")]
    cell = one[(one["model"] == "robust") & (one["stage"] == "final")].iloc[0]
    seen = usable[
        (usable["participant"] == "person_03")
        & (usable["model"] == "robust")
        & (usable["stage"] == "final")
    ]
    answers = usable[(usable["participant"] == "other") & usable["stimulus"].isin(seen["stimulus"])]
    assert cell["n_trials"] == len(seen)
    np.testing.assert_allclose(cell["proportion"], answers["correct"].mean())


def test_standard_errors_between_and_within_people():
    rows = [
        {
            "observer": "human",
            "network": "",
            "participant": f"p{i}",
            "model": "m",
            "stage": stage,
            "proportion": p,
        }
        for i in range(5)
        for stage, p in (("a", 0.1 + 0.1 * i), ("b", 0.4 + 0.1 * i))
    ]
    cells = pd.DataFrame(rows)
    between = recognition_curves(cells)
    np.testing.assert_allclose(between["sem"], stats.sem(np.arange(5) * 0.1))
    # People differ by a constant only, so nothing is left within them.
    np.testing.assert_allclose(recognition_curves(cells, sem="within")["sem"], 0, atol=1e-12)
    cells.loc[cells.index[-1], "proportion"] = 0.5
    within = recognition_curves(cells, sem="within").set_index("stage")["sem"]
    wide = cells.pivot(index="participant", columns="stage", values="proportion").to_numpy()
    normalized = wide - wide.mean(axis=1, keepdims=True) + wide.mean()
    np.testing.assert_allclose(within, stats.sem(normalized, axis=0) * np.sqrt(2))
    others = cells.assign(participant="other " + cells["participant"], model="n")
    both = recognition_curves(pd.concat([cells, others], ignore_index=True), sem="within")
    np.testing.assert_allclose(both["sem"], [*within, *within])


def test_bootstrap_is_the_plain_loop_over_images(usable):
    from neurometamer.stats.resampling import bootstrap_counts

    table = bootstrap_curves(usable, 40, seed=3)
    row = table[
        (table["observer"] == "human") & (table["model"] == "robust") & (table["stage"] == "final")
    ].iloc[0]
    order = select_order(usable)
    counts = pd.DataFrame(bootstrap_counts(len(order), 40, 3), columns=order)
    own = usable[
        (usable["observer"] == "human")
        & (usable["model"] == "robust")
        & (usable["stage"] == "final")
    ]
    means = []
    for _, drawn in counts.iterrows():
        weight = drawn[own["reference_id"]].to_numpy()
        sums = pd.DataFrame(
            {
                "who": own["participant"].to_numpy(),
                "w": weight,
                "c": weight * own["correct"].to_numpy(),
            }
        )
        sums = sums.groupby("who").sum().query("w > 0")
        means.append((sums["c"] / sums["w"]).mean())
    np.testing.assert_allclose((row["ci_low"], row["ci_high"]), np.percentile(means, [2.5, 97.5]))
    assert row["n_trials"] == len(own) and row["n_images"] == own["reference_id"].nunique()


def select_order(usable: pd.DataFrame) -> list[str]:
    """The order in which the rows, photographs of every model first, name the images."""
    bare = usable[usable["model"] == ""]
    return list(dict.fromkeys(pd.concat([bare, usable[usable["model"] != ""]])["reference_id"]))


def test_confusion_is_sklearns(usable):
    from sklearn.metrics import confusion_matrix

    table = confusion_table(usable)
    own = table[
        (table["observer"] == "network")
        & (table["network"] == "other")
        & (table["model"] == "plain")
    ]
    own = own[own["stage"] == "layer4"]
    rows = usable[
        (usable["participant"] == "other")
        & (usable["model"] == "plain")
        & (usable["stage"] == "layer4")
    ]
    expected = confusion_matrix(rows["truth"], rows["response"], labels=list(CATEGORIES))
    np.testing.assert_array_equal(own["n"].to_numpy().reshape(16, 16), expected)
    np.testing.assert_allclose(own.groupby("truth")["share"].sum(), 1)


def test_a_category_that_was_not_shown_has_no_share():
    found = confusion_table(screened(person("a"), person("b")).trials)
    shares = found.pivot(index="truth", columns="response", values="share")
    assert shares.loc["dog", "dog"] == 1 and shares.drop(index="dog").isna().all(axis=None)


# ---------------------------------------------------------------------------------------- agreement


def test_kappa_is_cohens_of_right_and_wrong(usable):
    from sklearn.metrics import cohen_kappa_score

    pairs = error_consistency(usable)
    row = pairs.query(
        "model == 'robust' and stage == 'final' and kind_a == 'network' and kind_b == 'network'"
    ).iloc[0]
    own = usable[(usable["model"] == "robust") & (usable["stage"] == "final")]
    wide = own.pivot(index="stimulus", columns="participant", values="correct")[
        [row["observer_a"], row["observer_b"]]
    ]
    wide = wide.dropna().astype(bool)
    assert row["n_common"] == len(wide)
    np.testing.assert_allclose(row["kappa"], cohen_kappa_score(wide.iloc[:, 0], wide.iloc[:, 1]))


@pytest.mark.parametrize(("shared", "low", "high"), [(0.0, -0.1, 0.1), (1.0, 0.85, 1.0)])
def test_planted_consistency_is_found_within_and_over_stages(shared, low, high):
    curves = {"m": {"early": 0.8, "late": 0.2}}
    made = simulate_recognition(
        curves, {"n1": {}, "n2": {}}, n_people=6, n_images=300, shared=shared, spread=0
    )
    found = summarize_consistency(error_consistency(screen_trials(name_columns(made)).trials))
    assert set(found["pair"]) == {"human-human", "human-n1", "human-n2", "n1-n2"}
    assert found["kappa"].between(low, high).all()


PAIR = ["model", "stage", "kind_a", "observer_a", "kind_b", "observer_b"]


def redrawn(usable: pd.DataFrame, n: int, seed: int) -> list[pd.DataFrame]:
    """The trials of each resample, an image that was drawn twice as two images: the draws of all
    bootstraps.
    """
    from neurometamer.stats.resampling import bootstrap_counts

    order, out = select_order(usable), []
    for counts in bootstrap_counts(len(order), n, seed):
        times = usable["reference_id"].map(dict(zip(order, counts)))
        copies = [usable[times > k] for k in range(int(times.max()))]
        parts = [one.assign(stimulus=one["stimulus"] + f"#{k}") for k, one in enumerate(copies)]
        out.append(pd.concat(parts, ignore_index=True))
    return out


@pytest.mark.parametrize("block", [None, 2_000])
def test_consistency_intervals_are_the_plain_loop_over_images(usable, monkeypatch, block):
    from scipy.stats import kurtosis, t

    if block:  # some pairs at a time
        monkeypatch.setattr(agreement, "BLOCK", block)
    usable = usable[usable["model"] == "robust"]
    pairs = error_consistency(usable, min_common=8)
    found = summarize_consistency(pairs, usable, confidence=0.5)
    images, means = list(dict.fromkeys(usable["reference_id"])), []
    for image in images:
        again = error_consistency(usable[usable["reference_id"] != image], min_common=1)
        means.append(summarize_consistency(pairs[PAIR].merge(again, on=PAIR))["kappa"].to_numpy())
    means, n = np.array(means), len(images)
    dof = np.clip(2 * n / (kurtosis(means, fisher=False) - 1), 1, n - 1)
    half = t.ppf(0.75, dof) * means.std(axis=0, ddof=1) * (n - 1) / np.sqrt(n)
    held = found["coincidences"].to_numpy() >= agreement.MIN_COINCIDENCES
    assert held.any()
    assert not held.all()
    np.testing.assert_allclose(
        found["ci_low"], np.where(held, found["kappa"] - half, np.nan), atol=1e-12
    )
    np.testing.assert_allclose(
        found["ci_high"], np.where(held, found["kappa"] + half, np.nan), atol=1e-12
    )
    assert set(found["method"]) == {"50% jackknife over images, t"}
    assert (
        found.loc[~held, "reason"]
        .str.startswith("no interval: too rare outcomes (coincidences")
        .all()
    )
    plain = found.drop(columns=["ci_low", "ci_high", "method", "coincidences", "reason"])
    pd.testing.assert_frame_equal(plain, summarize_consistency(pairs))


def test_consistency_without_a_value_or_of_other_trials(usable):
    same = screened(person("a"), person("b")).trials
    found = summarize_consistency(error_consistency(same), same)
    assert found[["kappa", "ci_low", "ci_high"]].isna().all(axis=None)
    none = error_consistency(same, min_common=99)
    assert {"ci_low", "method"} <= set(summarize_consistency(none, same).columns)
    with pytest.raises(InputError, match="the pairs are not of these trials, which lack plain"):
        summarize_consistency(error_consistency(usable), same)


def test_kappa_is_undefined_where_both_are_always_right():
    assert np.isnan(kappa(np.array(1.0), np.array(1.0)))
    pairs = error_consistency(screened(person("a"), person("b")).trials)
    assert pairs["kappa"].isna().all()
    assert (summarize_consistency(pairs)["n_undefined"] == 1).all()
    with pytest.raises(InputError, match="two observers"):
        error_consistency(screened(person("a")).trials)


def test_curve_correlation_leaves_out_a_networks_own_images():
    keys = [(m, s) for m in ("a", "b") for s in ("s1", "s2", "s3")]
    human, network = noise(6, seed=1), noise(6, seed=2)
    rows = [
        {"observer": "human", "network": "", "model": m, "stage": s, "proportion": p}
        for (m, s), p in zip(keys, human)
    ]
    rows += [
        {"observer": "network", "network": "a", "model": m, "stage": s, "proportion": p}
        for (m, s), p in zip(keys, network)
    ]
    row = curve_correlation(pd.DataFrame(rows)).set_index("network").loc["a"]
    assert row["n_points"] == 3 and row["n_models"] == 1
    np.testing.assert_allclose(row["pearson_r"], stats.pearsonr(human[3:], network[3:]).statistic)
    np.testing.assert_allclose(
        row["spearman_rho"], stats.spearmanr(human[3:], network[3:]).statistic
    )
    np.testing.assert_allclose(
        row["kendall_tau"], stats.kendalltau(human[3:], network[3:]).statistic
    )


# ------------------------------------------------------------------------------- the whole analysis


def test_planted_truth_comes_out_of_the_whole_analysis(analyzed):
    curves = pd.read_csv(analyzed / "curves.csv", keep_default_na=False)
    people = curves[curves["observer"] == "human"].set_index(["model", "stage"])
    assert list(dict.fromkeys(curves["stage"])) == ["natural", *STAGES]
    for model, own in PEOPLE.items():
        for stage, share in own.items():
            assert abs(float(people.loc[(model, stage), "proportion"]) - share) < 0.12
    anova = pd.read_csv(analyzed / "anova.csv").set_index(
        ["analysis", "models", "observer", "source"]
    )
    assert anova.loc[("stage x model", "standard vs robust", "human", "model"), "p_gg"] < 1e-4
    assert set(anova.index.get_level_values("analysis")) == {
        "stage x model",
        "stage",
        "observer x stage",
    }
    own = anova.loc[("observer x stage", "standard", "human vs standard", "observer")]
    other = anova.loc[("observer x stage", "standard", "human vs other", "observer")]
    assert own["F"] > 10 * other["F"]
    shuffled = read_table(analyzed / "permutation.csv")
    assert len(shuffled) > 20 and shuffled["p"].between(1 / 201, 1).all()
    screening = pd.read_csv(analyzed / "screening.csv").set_index("participant")
    assert screening.index[~screening["included"]].tolist() == ["careless_0", "careless_1"]
    agreed = pd.read_csv(
        analyzed / "error_consistency.csv",
        keep_default_na=False,
        na_values={"ci_low": "", "ci_high": ""},
    )
    told = agreed[agreed["reason"] == ""]
    assert (told["ci_low"] < told["kappa"]).all() and (told["kappa"] < told["ci_high"]).all()
    assert {"human-standard", "human-other"} <= set(told.loc[told["stage"] == "all stages", "pair"])
    people = agreed.query(
        "stage == 'all stages' and pair == 'human-human'"
    )  # each two shared some ten trials
    assert (
        people["ci_low"].isna().all() and people["reason"].str.contains("too rare outcomes").all()
    )
    assert set(agreed["method"]) == {"95% jackknife over images, t"}
    posthoc = pd.read_csv(analyzed / "posthoc.csv", keep_default_na=False)
    assert set(posthoc["models"]) == {"3 models"}
    assert {path.name for path in analyzed.glob("*.csv")} == {
        "anova.csv",
        "confusion.csv",
        "curves.csv",
        "error_consistency.csv",
        "error_consistency_pairs.csv",
        "exclusions.csv",
        "human_network.csv",
        "permutation.csv",
        "posthoc.csv",
        "screening.csv",
    }


def test_the_page_is_self_contained_and_says_what_the_tables_say(analyzed):
    page = (analyzed / "report.html").read_text(encoding="utf-8")
    linked = re.findall(r'(?:src|href)="(?!data:|#|https://(?:doi|arxiv)\.org)([^"]*)"', page)
    assert "references.bib" in linked and all((analyzed / file).is_file() for file in linked)
    assert "<script" not in page and "default-src 'none'" in page
    assert page.count("<figure") == len(list((analyzed / "figures").glob("*.svg"))) == 7
    anova = (
        pd.read_csv(analyzed / "anova.csv")
        .query("models == 'standard vs robust' and source == 'model'")
        .iloc[0]
    )
    assert f"F(1, 9) = {anova['F']:.2f}, η²p = {format_number(anova['eta2_p'])}" in page
    assert "Simulated observers:" in page
    assert "screening accuracy" in page and "careless_0" in page and "p ≤ 1/201" in page
    assert all(image.strip() for image in re.findall(r'alt="([^"]*)"', page))


def test_the_page_begins_with_the_main_effects_and_ends_with_methods(analyzed):
    page = unescape((analyzed / "report.html").read_text(encoding="utf-8"))
    screen = page[page.index('id="answer"') : page.index("<nav ")]
    means = (
        read_table(analyzed / "curves.csv")
        .query("observer == 'human'")
        .groupby("model")["proportion"]
        .mean()
    )
    said = (
        f"{format_number(means['robust'])} against {format_number(means['standard'])}, mean over "
        "stages"
    )
    assert (
        f"Simulated people recognize images of robust more often than those of standard: {said}"
        in screen
    )
    assert '<figure id="figure-curves_by_observer">' in screen
    methods = (analyzed / "methods.txt").read_text(encoding="utf-8")
    assert methods.startswith(
        "Simulated answers were analyzed: 10 people; 3 models, 4 stages; answers of 2 networks"
    )
    assert "200 shuffles of the labels" in methods and "Random seed: 0." in methods
    assert all(part in page for part in methods.strip().split("\n\n"))


def test_each_figure_has_the_numbers_it_draws(analyzed):
    page = (analyzed / "report.html").read_text(encoding="utf-8")
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", page, re.S)
    named = [re.findall(r'href="(figures/[\w.-]+\.csv)"', caption) for caption in captions]
    assert len(named) == 7 and all(len(files) == 1 for files in named)
    curves = read_table(analyzed / "curves.csv")
    pd.testing.assert_frame_equal(read_table(analyzed / "figures" / "curves_by_model.csv"), curves)
    points = read_table(analyzed / "figures" / "people_and_networks.csv")
    here = points[(points["model"] == "standard") & (points["stage"] == "final")].iloc[0]
    rows = curves[(curves["model"] == "standard") & (curves["stage"] == "final")].set_index(
        "network", drop=False
    )
    assert (
        here["proportion_others"] == rows["proportion"]["other"]
    )  # not that of the images' own network
    assert here["proportion_human"] == rows.loc[rows["observer"] == "human", "proportion"].item()
    confusion = pd.concat(
        [read_table(file) for file in (analyzed / "figures").glob("confusion_*.csv")]
    )
    assert len(confusion) == len(read_table(analyzed / "confusion.csv"))


@pytest.mark.parametrize(
    ("p", "said"),
    [
        (
            0.01,
            "People recognize images of b more often than those of a: .75 against .50, mean over "
            "stages",
        ),
        (0.05, "Whether people recognize images of a or of b more often is undecided (p = .050)."),
        (np.nan, "Whether people recognize images of a or of b more often was not tested."),
    ],
)
def test_a_pair_of_models_is_ordered_only_where_the_test_is_clear(p, said):
    curves = pd.DataFrame(
        {
            "model": list("aabbb"),
            "stage": list("xyxyz"),
            "proportion": [0.4, 0.6, 0.7, 0.8, 0.0],
            "observer": "human",
        }
    )
    anova = pd.DataFrame(
        {"source": ["model"], "observer": ["human"], "models": ["a vs b"], "p": [p]}
    )
    told = {"settings": {"categories": list("0123456789abcdef")}}
    (sentence,) = first_sentences({"curves": curves, "anova": anova}, told, "")
    assert said in sentence  # stage z, which model a lacks, is in no mean


def test_the_same_call_writes_the_same_bytes_and_another_is_refused(analyzed, trials, tmp_path):
    again = behavior_analyze(analyzed.parent / "trials.csv", tmp_path / "again", QUICK).parent
    for path in sorted(analyzed.rglob("*")):
        if path.is_file():
            assert path.read_bytes() == (again / path.relative_to(analyzed)).read_bytes(), path.name
    before = {path: path.stat().st_mtime_ns for path in again.rglob("*")}
    other = AnalysisSettings(n_permutations=200, n_resamples=100, seed=1)
    with pytest.raises(InputError, match=r"another analysis \(other seed\)"):
        behavior_analyze(analyzed.parent / "trials.csv", again, other)
    trials.iloc[:-1].to_csv(tmp_path / "trials.csv", index=False)
    with pytest.raises(InputError, match=r"another analysis \(other data\)"):
        behavior_analyze(tmp_path / "trials.csv", again, QUICK)
    assert before == {path: path.stat().st_mtime_ns for path in again.rglob("*")}


def test_folders_of_others_are_left_alone(analyzed, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="holds other files"):
        behavior_analyze(analyzed.parent / "trials.csv", tmp_path, QUICK)
    (tmp_path / "provenance.json").write_text(json.dumps({"settings": {}}))
    with pytest.raises(InputError, match="something else than an analysis"):
        behavior_analyze(analyzed.parent / "trials.csv", tmp_path, QUICK)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "provenance.json"]


def proportions(path: Path, drop: tuple[str, ...] = (), n: int = 5) -> Path:
    rows = [
        {"participant": f"p{i}", "model": m, "stage": s, "proportion": round(float(v), 3)}
        for i, block in enumerate(noise(n, 2, 3))
        for m, line in zip("ab", block)
        for s, v in zip("xyz", line)
        if f"p{i}{m}{s}" not in drop and f"{m}{s}" not in drop
    ]
    pd.DataFrame(rows).to_csv(path, index=False)
    return path


def test_people_with_missing_cells_are_counted_and_strict_refuses_them(tmp_path):
    path = proportions(tmp_path / "t.csv", drop=("p2ay",))
    folder = behavior_analyze(path, tmp_path / "out", QUICK).parent
    left = pd.read_csv(folder / "exclusions.csv")
    assert (
        set(left["participant"]) == {"p2"}
        and left["reason"].str.contains("1 of 6 cells without trials").any()
    )
    anova = pd.read_csv(folder / "anova.csv").set_index(["models", "source"])
    assert tuple(anova.loc[("a vs b", "model"), ["n", "n_excluded"]]) == (4, 1)
    assert tuple(anova.loc[("b", "stage"), ["n", "n_excluded"]]) == (5, 0)
    with pytest.raises(
        InputError, match=r"--strict: stage x model, a vs b: p2 have no trials.*a / y"
    ):
        behavior_analyze(path, tmp_path / "strict", AnalysisSettings(n_permutations=9, strict=True))


def test_a_stage_that_a_model_lacks_is_left_out_and_noted(tmp_path):
    path = proportions(tmp_path / "t.csv", drop=("bz",))
    folder = behavior_analyze(path, tmp_path / "out", QUICK).parent
    anova = pd.read_csv(folder / "anova.csv").set_index(["models", "source"])
    assert (
        anova.loc[("a vs b", "model"), "n_stages"] == 2
        and anova.loc[("a", "stage"), "n_stages"] == 3
    )
    notes = json.loads((folder / "provenance.json").read_text())["notes"]
    assert any("without z, where not every model has trials" in note for note in notes)
    with pytest.raises(InputError, match=r"unknown stage .* 'w'"):
        behavior_analyze(path, tmp_path / "w", AnalysisSettings(stages=["x", "w"]))


def test_models_that_nobody_saw_together_are_not_compared(tmp_path):
    one, two = (pd.read_csv(proportions(tmp_path / "t.csv")) for _ in range(2))
    two = two.assign(model=two["model"].str.upper(), experiment="E2")
    pd.concat([one.assign(experiment="E1"), two]).to_csv(tmp_path / "t.csv", index=False)
    folder = behavior_analyze(tmp_path / "t.csv", tmp_path / "out", QUICK).parent
    anova, posthoc = (pd.read_csv(folder / f"{name}.csv") for name in ("anova", "posthoc"))
    assert set(anova["models"]) == {"a vs b", "A vs B", "a", "b", "A", "B"}
    assert set(posthoc["models"]) == {"a vs b", "A vs B"} and set(anova["n"]) == {5}
    assert any(
        "4 pairs of models" in note
        for note in json.loads((folder / "provenance.json").read_text())["notes"]
    )


def test_fewer_than_two_people_are_refused_with_the_reasons(tmp_path):
    path = proportions(tmp_path / "t.csv", n=1)
    with pytest.raises(
        InputError, match="1 human observer is left, and statistics over observers need at least 2"
    ):
        behavior_analyze(path, tmp_path / "out")
    half = pd.concat([person("a"), person("b"), person("b", 12, phase="screening", response="cat")])
    half = pd.concat([half, person("a", 12, phase="screening")])
    half.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(InputError, match=r"left out: b: screening accuracy 0 below 0\.583"):
        behavior_analyze(tmp_path / "t.csv", tmp_path / "out")


def test_networks_alone_are_observers_too(tmp_path):
    made = simulate_recognition(
        {"m": {"a": 0.9, "b": 0.4}}, {f"n{i}": {} for i in range(4)}, n_people=0, n_images=48
    )
    made.to_csv(tmp_path / "t.csv", index=False)
    folder = behavior_analyze(tmp_path / "t.csv", tmp_path / "out", QUICK).parent
    anova = pd.read_csv(folder / "anova.csv")
    assert set(anova["observer"]) == {"network"} and set(anova["n"]) == {4}


def command(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr(sys, "argv", ["neurometamer", *map(str, arguments)])
    try:
        main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_the_command_does_what_its_python_twin_does(analyzed, tmp_path, monkeypatch, capsys):
    path, out = analyzed.parent / "trials.csv", tmp_path / "out"
    options = ["--n-permutations", 200, "--n-resamples", 100, "--out", out]
    assert command(monkeypatch, "behavior", "analyze", path, *options) == 0
    assert capsys.readouterr().out.strip() == str(out / "report.html")
    assert (out / "provenance.json").read_bytes() == (analyzed / "provenance.json").read_bytes()
    assert (out / "report.html").read_bytes() == (analyzed / "report.html").read_bytes()
    bad = ["--columns", "participant", "--out", tmp_path / "bad"]
    assert command(monkeypatch, "behavior", "analyze", path, *bad) == 2
    assert capsys.readouterr().err == "error: --columns is 'participant'; give NAME=VALUE.\n"
    chosen = [
        "--models",
        "robust",
        "plain",
        "--stages",
        "layer4",
        "final",
        "--contrasts",
        "plain:robust",
    ]
    chosen += [
        "--columns",
        "rt=rt",
        "model=model",
        "--n-permutations",
        9,
        "--n-resamples",
        0,
        "--out",
        tmp_path / "few",
    ]
    assert command(monkeypatch, "behavior", "analyze", path, *chosen) == 0
    anova = pd.read_csv(tmp_path / "few" / "anova.csv")
    assert set(anova["models"]) == {"plain vs robust", "robust", "plain"} and set(
        anova["n_stages"]
    ) == {2}
    assert (
        "ci_low" not in pd.read_csv(tmp_path / "few" / "error_consistency.csv").columns
    )  # no resamples


# ------------------------------------------------------------------------------------------ figures


def figures_of(folder: Path) -> dict[str, object]:
    tables = {
        name: pd.read_csv(folder / f"{name}.csv", keep_default_na=True)
        for name in ("curves", "confusion")
    }
    curves = tables["curves"]
    confusion = tables["confusion"]
    consistency = pd.read_csv(folder / "error_consistency.csv")
    return {
        "by model": behavior_figures.recognition_lines(curves, stamp="simulated people"),
        "by observer": behavior_figures.recognition_lines(
            curves, panels="observer", stamp="simulated people"
        ),
        "confusion": behavior_figures.confusion_matrices(
            confusion[confusion["observer"] == "human"], stamp="simulated people"
        ),
        "consistency": behavior_figures.consistency_lines(consistency, stamp="simulated people"),
        "scatter": behavior_figures.curve_scatter(curves, stamp="simulated people"),
    }


def test_figures_show_the_tables_with_their_stamp_and_all_text_on_the_page(analyzed):
    made = figures_of(analyzed)
    for name, figure in made.items():
        figure.draw_without_rendering()
        texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text()]
        assert "SIMULATED PEOPLE" in {text.get_text() for text in texts}
        for text in (
            *figure.texts,
            *(one for legend in figure.legends for one in legend.get_texts()),
        ):
            box = text.get_window_extent()
            assert box.x0 >= -1 and box.x1 <= figure.bbox.x1 + 1, (name, text.get_text())
            assert box.y0 >= -1 and box.y1 <= figure.bbox.y1 + 1, (name, text.get_text())
    curves = pd.read_csv(analyzed / "curves.csv")
    own = curves[(curves["observer"] == "human") & (curves["model"] == "robust")][
        "proportion"
    ].to_numpy()
    panel = next(axes for axes in made["by model"].axes if axes.get_title() == "robust")
    line = next(one for one in panel.get_lines() if one.get_label() == "people")
    np.testing.assert_array_equal(line.get_ydata(), own)
    consistency = pd.read_csv(analyzed / "error_consistency.csv")
    panel = next(axes for axes in made["consistency"].axes if axes.get_title() == "robust")
    segments = [part for one in panel.collections for part in one.get_segments()]
    drawn = np.array([part[:, 1] for part in segments if np.size(part)])
    ends = consistency[consistency["model"] == "robust"][["ci_low", "ci_high"]].dropna().to_numpy()
    np.testing.assert_allclose(np.sort(drawn, axis=0), np.sort(ends, axis=0))
    bare = behavior_figures.consistency_lines(
        consistency.drop(columns=["ci_low", "ci_high", "method"])
    )
    assert not any(axes.collections for axes in bare.axes)


def test_figures_refuse_tables_without_their_columns():
    with pytest.raises(InputError, match=r"curves table lacks the column\(s\) observer"):
        behavior_figures.recognition_lines(pd.DataFrame({"model": ["a"]}))
    with pytest.raises(InputError, match=r"confusion table lacks"):
        behavior_figures.confusion_matrices(pd.DataFrame({"model": ["a"]}))
