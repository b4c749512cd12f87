"""Images on which networks disagree inside a study: made, judged from their files, told, kept."""

from __future__ import annotations

import dataclasses
import html

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from neurometamer.errors import InputError
from neurometamer.report.study import build_report
from neurometamer.store import read_table, write_json
from neurometamer.study.plan import Workspace, carry_out
from neurometamer.study.settings import Selection, check_settings
from neurometamer.study.steps import check_study, failed_stimuli, plan_steps
from neurometamer.zoo import load_model
from stimuli_gen import at_size, predict
from stimuli_gen.jacobians import Spectrum
from stimuli_gen.pairs import Search
from stimuli_gen.photographs import KINDS
from stimuli_gen.stimuli import read_png, read_stimuli

PAIR = ("squeezenet1_0", "efficientnet_lite0")
SIZE = 64
NETWORK_ONLY = {
    "model": {"name": PAIR[0], "weights": "random"},
    "brain": {"source": "none"},
    "run": {"device": "cpu"},
}
CHOSEN = {
    "controversial": {
        "pairs": [PAIR],
        "image_size": SIZE,
        "photographs": ["cat", "coffee", "rocket"],
        "confidence": 0.5,
        "max_steps": 12,
    },
    "divergent": {
        "pairs": [PAIR],
        "image_size": SIZE,
        "photographs": 2,
        "steps": 6,
        "null_pairs": 20,
    },
    "eigendistortion": {"stages": ["features.12"], "image_size": 32, "photographs": 1},
}
STEPS = ["controversial-1", "divergent-1", "eigendistortion-1", "disagreement"]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A study of these images alone, run once."""
    folder = tmp_path_factory.mktemp("study")
    settings = check_settings({**NETWORK_ONLY, **CHOSEN})
    work = Workspace(folder=folder / "out", settings=settings, base=folder)
    steps = [step for step in plan_steps(work) if step.name in STEPS]
    assert [step.name for step in steps] == STEPS
    carry_out(steps, work)
    return work, steps


def own_networks():
    first = load_model(PAIR[0], weights="random", device="cpu", seed=0)
    return [at_size(model, SIZE) for model in (first, load_model(PAIR[1], device="cpu"))]


def test_controversial_images_are_judged_from_their_files_in_both_networks(made):
    work, _ = made
    table = read_table(work.path("tables", "controversial.csv"))
    assert table["reference_id"].tolist() == ["cat", "coffee", "rocket"]
    assert (table["network_a"] == PAIR[0]).all() and (table["network_b"] == PAIR[1]).all()
    folder = work.path("controversial", "+".join(PAIR))
    pictures = np.stack([read_png(folder / "png" / f"{name}.png") for name in table["id"]])
    lowest = np.ones(len(table))
    for letter, model in zip("ab", own_networks(), strict=True):
        seen = predict(model, pictures)
        index = [model.class_names.index(name) for name in table[f"target_{letter}"]]
        own = seen[np.arange(len(table)), index]
        np.testing.assert_allclose(own, table[f"p_{letter}"], atol=1e-5)
        says = [model.class_names[number] for number in seen.argmax(axis=1)]
        assert says == table[f"says_{letter}"].tolist()
        lowest = np.minimum(lowest, own)
    assert ((lowest >= 0.5) == table["success"]).all()


def test_divergent_metamers_and_eigendistortions_have_tables_of_their_own(made):
    work, _ = made
    table = read_table(work.path("tables", "divergent.csv"))
    both = read_stimuli(work.path("divergent", "+".join(PAIR))).table
    both = both[both["kind"] == "metamer"].set_index("id").loc[table["id"]]
    rho = both[f"spearman_png_{PAIR[1]}"].astype(float)
    np.testing.assert_allclose(table["spearman_b"], rho, rtol=1e-6)
    unlike = both[f"unlike_{PAIR[1]}"].astype(bool).to_numpy()
    assert (table["unlike_b"].to_numpy() == unlike).all()
    table = read_table(work.path("tables", "eigendistortion.csv"))
    assert table["end"].tolist() == ["largest", "smallest"]
    assert table["rank"].tolist() == [1, 1]
    assert (table["null_dimension"] >= 3072 - 512).all() and table["success"].all()
    assert table["eigenvalue"][0] > 1e6 * table["eigenvalue"][1]


def test_images_that_failed_are_in_one_table_with_what_to_try(made):
    work, _ = made
    failures = read_table(work.path("tables", "failures.csv"))
    expected = []
    for name in ("controversial", "divergent", "eigendistortion"):
        table = read_table(work.path("tables", f"{name}.csv"))
        missed = table[~table["success"]]
        assert missed["why_not"].notna().all()
        expected += [(name, image_id) for image_id in missed["id"]]
    assert list(zip(failures["generator"], failures["id"], strict=True)) == expected
    assert expected, "nothing failed: the study of this test has to ask for more"
    assert failures["what_to_try"].notna().all()
    work.path("stimuli").mkdir(exist_ok=True)
    pd.DataFrame({"id": ["cat"]}).to_csv(work.path("stimuli", "stimuli.csv"), index=False)
    named = [f"{image_id} ({'+'.join(PAIR)})" for _, image_id in expected]
    assert failed_stimuli(work.folder) == named
    work.path("stimuli", "stimuli.csv").unlink()
    work.path("stimuli").rmdir()


def test_the_page_shows_them_with_their_numbers_methods_and_citations(made):
    work, _ = made
    write_json(work.path("provenance.json"), {"settings": work.settings.everything()})
    page = build_report(work.folder).read_text(encoding="utf-8")
    for key, title in (
        ("controversial", "Controversial images: where two networks disagree"),
        ("divergent", "Maximally different metamers: the photograph to A, not to B"),
        ("eigendistortion", "Eigendistortions: what a stage sees best and least"),
    ):
        assert f'id="{key}"' in page and title in page
    table = read_table(work.path("figures", f"controversial_{'+'.join(PAIR)}.csv"))
    first = table.iloc[0]
    shown = f"{first['p_a']:.3f}".lstrip("0")
    assert first["words"].startswith(f"A: p {shown} ")
    methods = work.path("methods.txt").read_text(encoding="utf-8")
    assert "(Golan et al. 2020)" in methods and "(Berardino et al. 2017)" in methods
    works = work.path("references.bib").read_text(encoding="utf-8")
    for key in ("golan2020", "wang2008", "berardino2017", "feather2023"):
        assert f"{{{key}," in works
    assert "untrained network: squeezenet1_0" in page.lower()


def test_what_is_done_is_kept_and_what_is_lost_comes_out_the_same(made, caplog):
    work, steps = made
    folder = work.path("controversial", "+".join(PAIR))
    written = {path: path.stat().st_mtime_ns for path in folder.glob("png/*.png")}
    carry_out(steps, work)
    assert written == {path: path.stat().st_mtime_ns for path in folder.glob("png/*.png")}
    before = read_stimuli(folder).images
    (folder / "png" / "cat_controversial.png").write_bytes(b"lost")
    carry_out(steps, work)
    assert "cat_controversial.png is damaged or incomplete" in caplog.text
    np.testing.assert_array_equal(read_stimuli(folder).images, before)


PAIRS = {"pairs": [PAIR]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"controversial": {"pairs": [["a"]]}}, "each name two different networks, A and B"),
        ({"divergent": {"pairs": [["a", "a"]]}}, "each name two different networks, A and B"),
        ({"divergent": {"pairs": [["a", "b"], ["a", "b"]]}}, "pairs must differ"),
        ({"controversial": {"confidence": 1}}, "controversial.confidence: Input should be less"),
        ({"controversial": {"max_agreement": 0.1}}, "there is no stage, so max_agreement has no"),
        ({"controversial": {"stage": "late", "sharpness": 3}}, "is a stage, so sharpness has no"),
        ({"controversial": {"optimizer": "adamm"}}, "optimizer 'adamm'; did you mean 'adam'"),
        ({"controversial": {"readout": "logits"}}, "readout 'logits'; did you mean 'logit'"),
        ({"controversial": {"max_steps": 0}}, "controversial.max_steps: Input should be greater"),
        ({"divergent": {"null_pairs": 0}}, "divergent.null_pairs: Input should be greater"),
        ({"eigendistortion": {"stages": ["a", "a"]}}, "stages: a occur more than once"),
        ({"eigendistortion": {"models": ["alexnet"]}}, "and no stages; give stages"),
        ({"eigendistortion": {"method": "arnoldi"}}, "unknown method 'arnoldi'"),
        ({"controversial": {"probability": 0.5}}, r"\[controversial\] unknown key 'probability'"),
    ],
)
def test_bad_settings_are_told_by_key(values, message):
    with pytest.raises(InputError, match=message) as error:
        check_settings(values)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"controversial": {"pairs": [["squeezenet1_0", "alexnett"]]}}, "did you mean 'alexnet'"),
        (
            {"controversial": {**PAIRS, "target_a": "tabby", "target_b": "tabby"}},
            "controversial: target_a and target_b are the same class, 'tabby'",
        ),
        ({"controversial": {**PAIRS, "target_b": "unicorn"}}, "unknown target 'unicorn'"),
        ({"controversial": {**PAIRS, "target_a": "none.csv"}}, "none.csv does not exist"),
        (
            {"controversial": {**PAIRS, "photographs": ["dog"]}},
            "unknown photograph of [controversial] 'dog'",
        ),
        ({"controversial": {**PAIRS, "photographs": 99}}, "[controversial] asks for 99"),
        (
            {"controversial": {**PAIRS, "stage": "squeezenet1_0=late"}},
            "controversial.stage: one stage a network is compared, and efficientnet_lite0 has 0",
        ),
        (
            {"controversial": {**PAIRS, "stage": "squeezenet1_0=late,alexnet=late"}},
            "controversial.stage: unknown network 'alexnet'",
        ),
        (
            {"divergent": {**PAIRS, "stage": "conv"}},
            "divergent.stage: unknown stage of squeezenet1_0 'conv'",
        ),
        (
            {"divergent": {**PAIRS, "overrides": {"solver": "joint"}}},
            "divergent: solver say how networks of a set take turns",
        ),
        (
            {"divergent": {**PAIRS, "overrides": {"stepsize": 1}}},
            "unknown setting of a metamer 'stepsize'; did you mean 'step_size'",
        ),
        (
            {"eigendistortion": {"stages": ["conv"]}},
            "eigendistortion.stage: unknown stage of squeezenet1_0 'conv'",
        ),
        (
            {"controversial": {**PAIRS, "image_size": 2}},
            "controversial.image_size: squeezenet1_0 cannot see 2 x 2 pixels",
        ),
    ],
)
def test_check_finds_what_is_wrong_before_any_work(values, message):
    problems = check_study(check_settings({**NETWORK_ONLY, **values}))
    errors = [problem.message for problem in problems if problem.kind == "error"]
    assert len(errors) == 1 and message in errors[0], errors


def test_a_bank_needs_other_photographs(tmp_path):
    table = pd.DataFrame({"file": [f"p{number}.png" for number in range(4)]})
    table["id"] = [f"p{number}" for number in range(4)]
    for name in table["file"]:
        Image.new("RGB", (80, 80), (90, 120, 30)).save(tmp_path / name)
    table.to_csv(tmp_path / "few.csv", index=False)
    chosen = {**PAIRS, "stage": "late"}
    images = {"source": str(tmp_path / "few.csv")}
    settings = check_settings({**NETWORK_ONLY, "images": images, "controversial": chosen})
    messages = [problem.message for problem in check_study(settings)]
    assert any("at least 4 images beside an image's own, and there are 3" in m for m in messages)


def test_every_option_of_the_generators_is_a_setting():
    sections = check_settings({})
    search = {field.name for field in dataclasses.fields(Search)}
    assert search <= set(type(sections.controversial).model_fields)
    spectrum = {field.name for field in dataclasses.fields(Spectrum)}
    assert spectrum <= set(type(sections.eigendistortion).model_fields)
    numbers = sections.numbers()
    assert not {"controversial", "divergent", "eigendistortion"} & set(numbers)


def test_voxels_are_judged_on_any_kind_of_image_that_a_study_can_read():
    for kind in (*KINDS, "all"):
        assert Selection(image_type=kind).image_type == kind


OWN = 'import = "nets.py:small"\nsize = 32\nclass_names = ["ball", "box", "cup"]\n'
NETS = """
from torch import nn

def small():
    layers = nn.Conv2d(3, 4, 3, stride=4), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(4, 3))
"""
TARGETS = {
    "few.csv": "id,target\ncat,ball\n",
    "same.csv": "id,target\ncat,ball\nrocket,cup\n",
    "unknown.csv": "id,target\ncat,ball\nrocket,unicorn\n",
    "headless.csv": "a,b\n1,2\n",
}


@pytest.fixture
def own_files(tmp_path):
    """Two networks of a user in folders of their own, and tables of targets."""
    for folder, line in (("a", ""), ("b", 'name = "other"\n'), ("c", "")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "nets.py").write_text(NETS)
        (tmp_path / folder / "network.toml").write_text(line + OWN)
    for name, text in TARGETS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


TWO = {"photographs": ["cat", "rocket"], "pairs": [("a/network.toml", "b/network.toml")]}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"controversial": {**TWO, "target_a": "few.csv"}}, "no target for the photograph(s) roc"),
        ({"controversial": {**TWO, "target_a": "unknown.csv"}}, "'unicorn'"),
        ({"controversial": {**TWO, "target_a": "headless.csv"}}, "headless.csv"),
        (
            {"controversial": {**TWO, "target_a": "same.csv", "target_b": "cup"}},
            "target_a and target_b are the same class, 'cup', for rocket",
        ),
        (
            {"controversial": {**TWO, "photographs": ["cat", "cat"]}},
            "[controversial] names cat more than once",
        ),
        (
            {"controversial": {"pairs": [("a/network.toml", "c/network.toml")]}},
            "are both named 'network'; give each a name of its own in its TOML file",
        ),
        (
            {"eigendistortion": {"stages": ["late"], "models": ["a/network.toml"], "n_each": 99}},
            "n_each is 99, and",
        ),
    ],
)
def test_files_of_a_user_are_read_before_any_work(own_files, monkeypatch, values, message):
    monkeypatch.chdir(own_files)
    settings = check_settings({**NETWORK_ONLY, **values})
    problems = check_study(settings)
    errors = [problem.message for problem in problems if problem.kind == "error"]
    assert len(errors) == 1 and message in errors[0], errors


def test_failures_are_told_once_a_reason_so_that_the_page_shows_what_to_try(made):
    work, _ = made
    write_json(work.path("provenance.json"), {"settings": work.settings.everything()})
    page = html.unescape(build_report(work.folder).read_text(encoding="utf-8"))
    table = read_table(work.path("tables", "failures.csv"))
    for texts, rows in table.groupby(["generator", "why_not", "what_to_try"]):
        cell = f"{texts[1]}. To try: {texts[2]}."
        assert page.count(cell) == 1, cell
        assert str(rows["id"].iloc[0]) in page
    assert f"{PAIR[0]} at features.12" in page and f"{PAIR[0]} and {PAIR[1]}" in page
