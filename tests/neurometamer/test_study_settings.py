"""Settings are checked: unknown keys name the nearest, values out of range are told, the template
cannot drift.
"""

from __future__ import annotations

import tomllib

import pytest

from neurometamer.errors import InputError
from neurometamer.rsa.image_types.options import ImageTypeOptions
from neurometamer.study.settings import RSA_NAMES, StudySettings, check_settings, read_settings
from neurometamer.study.template import template, write_template

SUBJECT = {"id": "s1", "bold": ["b.nii"], "events": ["e.tsv"], "masks": {"V1": "m.nii"}}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"noise": {"confidense": 0.9}},
            r"\[noise\] unknown key 'confidense'; did you mean 'confidence'\?",
        ),
        ({"nose": {}}, r"\[top level\] unknown key 'nose'; did you mean 'noise'\?"),
        (
            {"brain": {"simulation": {"runz": 3}}},
            r"\[brain.simulation\] unknown key 'runz'; did you mean 'runs'\?",
        ),
        (
            {"brain": {"subjects": [{**SUBJECT, "maks": 1}]}},
            r"unknown key 'maks'; did you mean 'masks'\?",
        ),
        ({"brain": {"source": "bold"}}, r"needs at least one \[\[brain.subjects\]\]"),
        (
            {"brain": {"subjects": [{**SUBJECT, "events": []}]}},
            "1 bold, 0 events and 0 confounds files",
        ),
        ({"brain": {"subjects": [SUBJECT, SUBJECT]}}, "subject ids must be unique; s1 occur"),
        ({"rsa": {"confidence": 2}}, r"rsa.confidence: Input should be less than 1; got 2\."),
        (
            {"rsa": {"measure": "kendal"}},
            "rsa.measure: unknown measure 'kendal'. Known: spearman, pearson, cosine",
        ),
        (
            {"rsa": {"measure": "crossnobis"}},
            "'crossnobis' needs several presentations in independent runs, which a net",
        ),
        (
            {"rsa": {"measure": "mahalanobis"}},
            "'mahalanobis' needs the covariance of the units' noise, which a network",
        ),
        (
            {"rsa": {"comparator": "spearmann"}},
            "unknown comparator 'spearmann'; did you mean 'spearman'",
        ),
        (
            {"rsa": {"interval": "subject"}},
            "rsa.interval: unknown interval 'subject'; did you mean 'subjects'",
        ),
        ({"rsa": {"null": "sessions"}}, "unknown null 'sessions'; did you mean 'session'"),
        ({"rsa": {"combine": "fischer"}}, "unknown combine 'fischer'; did you mean 'fisher'"),
        ({"rsa": {"correction": "fwe"}}, "unknown correction 'fwe'"),
        ({"rsa": {"family": "place"}}, "unknown family 'place'; did you mean 'places'"),
        (
            {"rsa": {"permutations": -1}},
            "rsa.permutations: Input should be greater than or equal to 0",
        ),
        ({"study": {"name": "../out"}}, "study.name"),
        ({"interference": {"ball": "l2"}}, 'ball = "l2" and radius = 0 do not fit'),
        (
            {"interference": {"method": "greedy", "mode": "fast"}},
            "has no ball, no mask and no mode",
        ),
        ({"metamers": {"sets": [["a", "a"]]}}, "none twice"),
    ],
)
def test_bad_settings_are_one_line_that_names_the_key(values, message):
    with pytest.raises(InputError, match=message) as error:
        check_settings(values, where="study.toml")
    assert "\n" not in str(error.value)


def test_the_template_holds_every_key_and_reads_back_as_the_defaults(tmp_path):
    path = write_template(tmp_path / "study.toml")
    assert read_settings(path) == StudySettings()
    written = tomllib.loads(template())
    for section, field in StudySettings.model_fields.items():
        keys = set(type(field.get_default()).model_fields) - {"subjects", "simulation"}
        assert keys <= set(written[section]), section
    with pytest.raises(InputError, match="exists; give another name"):
        write_template(path)


def test_the_template_names_all_choices_of_rsa_and_its_defaults_are_those_of_the_tests():
    lines = " ".join(line.removeprefix("# ") for line in template().splitlines())
    for key, names in RSA_NAMES.items():
        assert f": {', '.join(names)}." in lines, key
    chosen, tests = StudySettings().rsa, ImageTypeOptions()
    for name in ("interval", "null", "combine", "correction", "family", "confidence"):
        assert getattr(chosen, name) == getattr(tests, name)
    assert (chosen.comparator, chosen.permutations) == (tests.by, tests.n_permutations)


def test_run_settings_are_not_part_of_the_identity():
    first = check_settings({"run": {"device": "cpu", "batch_size": 2}})
    assert first.numbers() == StudySettings().numbers()
    assert check_settings({"study": {"seed": 1}}).numbers() != first.numbers()


def test_settings_that_came_later_leave_the_identity_of_older_studies_as_it_was():
    numbers, everything = StudySettings().numbers(), StudySettings().everything()
    assert set(numbers["noise"]) == {
        "confidence",
        "max_steps",
        "step_size",
        "pull",
        "noise_sd",
        "target",
    }
    assert set(numbers["interference"]) == {
        "confidence",
        "max_steps",
        "step_size",
        "pull",
        "target",
    }
    assert "metamers" not in numbers
    assert set(numbers["rsa"]) == {"measure", "comparator", "resamples", "confidence"}
    assert everything["noise"]["mode"] == "exact" and everything["metamers"]["sets"] == []
    assert check_settings({"noise": {"mode": "fast"}}).numbers()["noise"]["mode"] == "fast"
    made = check_settings({"metamers": {"sets": [["a"], ["a", "b"]], "photographs": ["cat"]}})
    assert made.numbers()["metamers"]["photographs"] == ["cat"]


def test_greedy_search_has_the_criterion_of_its_paper_unless_another_is_given():
    assert check_settings({"interference": {"method": "greedy"}}).interference.confidence == 0.5
    assert (
        check_settings(
            {"interference": {"method": "greedy", "confidence": 0.7}}
        ).interference.confidence
        == 0.7
    )


def test_broken_toml_and_missing_files_are_told(tmp_path):
    with pytest.raises(InputError, match="does not exist; 'neurometamer init'"):
        read_settings(tmp_path / "study.toml")
    (tmp_path / "study.toml").write_text("[study\n")
    with pytest.raises(InputError, match="not valid TOML"):
        read_settings(tmp_path / "study.toml")
