"""Settings are checked: unknown keys name the nearest, values out of range are told, the template
cannot drift.
"""

from __future__ import annotations

import dataclasses
import inspect
import tomllib

import pytest

from neurometamer.errors import InputError
from neurometamer.rsa.comparators.table import COMPARATORS
from neurometamer.rsa.image_types.options import ImageTypeOptions
from neurometamer.rsa.measures import MEASURES
from neurometamer.study.defaults import default_of, look_up, meaning_of
from neurometamer.study.settings import (
    Section,
    StudySettings,
    Subject,
    check_settings,
    fact,
    read_settings,
    rsa_names,
)
from neurometamer.study.steps import check_study
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
        (
            {"rsa": {"family": "representation"}},
            "unknown family 'representation'; did you mean 'representations'",
        ),
        (
            {"rsa": {"n_permutations": -1}},
            "rsa.n_permutations: Input should be greater than or equal to 0",
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
        assert keys - {"batch_size"} <= set(written[section]), section
    assert "\n# batch_size =\n" in template()
    with pytest.raises(InputError, match="exists; give another name"):
        write_template(path)


def test_the_template_names_all_choices_of_rsa_and_its_defaults_are_those_of_the_tests():
    lines = " ".join(line.removeprefix("# ") for line in template().splitlines())
    for key, names in rsa_names().items():
        assert f": {', '.join(names)}." in lines, key
    chosen, tests = StudySettings().rsa, ImageTypeOptions()
    for name in ("interval", "null", "combine", "correction", "family", "confidence"):
        assert getattr(chosen, name) == getattr(tests, name)
    assert (chosen.comparator, chosen.n_permutations) == (tests.comparator, tests.n_permutations)


def settings_of_functions():
    """Section, name and field of each setting whose default is that of a function."""
    waiting = [StudySettings, Subject]
    while waiting:
        section = waiting.pop()
        for name, field in section.model_fields.items():
            if isinstance(field.default, Section):
                waiting.append(type(field.default))
            elif fact(field, "function"):
                yield section, name, field


def test_every_default_is_that_of_the_function_as_python_sees_it():
    settings = list(settings_of_functions())
    assert len(settings) > 50
    for section, name, field in settings:
        function, parameter = look_up(fact(field, "function")), fact(field, "parameter")
        if dataclasses.is_dataclass(function):
            expected = function.__dataclass_fields__[parameter].default
        else:
            expected = inspect.signature(function).parameters[parameter].default
        assert field.default == expected, (section, name)
        assert field.description and "{meaning}" not in field.description, (section, name)


def test_the_source_of_a_function_says_its_defaults_and_meanings(tmp_path, monkeypatch):
    source = (
        'LEVELS = ("low", "high")\n'
        "def blur(image, sd=1.5, *, size: int = 3, levels=LEVELS, seed):\n"
        '    """Blur.\n\n    Parameters\n    ----------\n    sd, size : float\n'
        '        Width, in\n        pixels.\n    seed : int\n        A seed.\n    """\n'
    )
    (tmp_path / "blurring.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    assert default_of("blurring:blur", "sd") == 1.5
    assert default_of("blurring:blur", "size") == 3
    assert default_of("blurring:blur", "levels") == ("low", "high")
    assert meaning_of("blurring:blur", "size") == "Width, in pixels."
    for missing in ("image", "seed", "other"):
        with pytest.raises(LookupError, match=f"no parameter {missing}"):
            default_of("blurring:blur", missing)
    with pytest.raises(LookupError, match="no function or class blurring:sharpen"):
        default_of("blurring:sharpen", "sd")


def test_names_that_are_registered_are_settings_and_shown_in_the_template(monkeypatch):
    entries = {
        "measure": (MEASURES, "dummy_measure", MEASURES["pearson"]),
        "comparator": (COMPARATORS, "dummy_comparator", COMPARATORS["pearson"]),
    }
    for key, (table, name, entry) in entries.items():
        with pytest.raises(InputError, match=f"unknown {key} '{name}'"):
            check_settings({"rsa": {key: name}})
        monkeypatch.setitem(table, name, entry)
        assert getattr(check_settings({"rsa": {key: name}}).rsa, key) == name
        assert f", {name}." in " ".join(template().split("\n# "))


@pytest.mark.parametrize(
    ("section", "key", "table"),
    [
        ("noise", "objective", "stimuli_gen.adversarial:OBJECTIVES"),
        ("interference", "step_rule", "stimuli_gen.synthesis.optimizers:STEP_RULES"),
        ("metamers", "preset", "stimuli_gen.presets:PRESETS"),
        ("glm", "estimator", "fmri.betas.estimate:EVENT_MODELS"),
        ("encoding", "scheme", "neurometamer.encoding.generalization:SCHEMES"),
    ],
)
def test_names_of_generators_and_models_are_those_of_their_tables(section, key, table):
    for name in look_up(table):
        assert getattr(getattr(check_settings({section: {key: name}}), section), key) == name
    with pytest.raises(InputError, match=f"{section}.{key}: unknown {key} 'nonsense'. Known: "):
        check_settings({section: {key: "nonsense"}})


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
    assert set(numbers["rsa"]) == {"measure", "comparator", "n_resamples", "confidence"}
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


def test_penalties_of_metamers_are_settings_of_a_study(tmp_path):
    """They are named with weights as on the command line, and checked with the study."""
    sets = {"sets": [["efficientnet_lite0"]]}
    plain = check_settings({"metamers": sets}).numbers()["metamers"]
    assert "penalties" not in plain  # older studies keep their identity
    given = ["total_variation:0.001", "alpha_norm:0.5:6"]
    settings = check_settings({"metamers": sets | {"penalties": given}})
    assert settings.numbers()["metamers"]["penalties"] == given
    assert settings.everything()["metamers"]["penalties"] == given
    file = tmp_path / "study.toml"
    for penalty, message in (
        ("total_variatoin:1", "unknown penalty 'total_variatoin'; did you mean 'total_variation'"),
        ("range", "a penalty is kind:weight"),
        ("range:much", "a penalty is kind:weight"),
    ):
        file.write_text(f'[metamers]\nsets = [["alexnet"]]\npenalties = ["{penalty}"]\n')
        with pytest.raises(InputError, match=f"metamers.*penalties: {message}"):
            check_study(file)
    file.write_text('[metamers]\nsets = [["alexnet"]]\npenalties = ["range:0.1"]\n')
    assert not [problem for problem in check_study(file) if problem.kind == "error"]
    with pytest.raises(InputError, match="penalties are a key of their own"):
        check_settings({"metamers": {"overrides": {"penalties": "range:1"}}})


def test_all_that_is_wrong_with_settings_is_told_at_once():
    glm = {"n_noise": "many", "shrinkage": 2.0, "hrf": "spline", "max_memory": "lots"}
    values = {"glm": glm, "rsa": {"comparator": "spearmen"}, "studdy": {}}
    with pytest.raises(InputError) as error:
        check_settings(values)
    head, *lines = str(error.value).splitlines()
    assert head == "settings: 6 settings to correct:"
    assert [line[:4] for line in lines] == [f"({number}) " for number in range(1, 7)]
    for part in ("'spline'", "'many'", "2.0", "'lots'", "'spearmen'", "'studdy'"):
        assert sum(part in line for line in lines) == 1, part
    with pytest.raises(InputError, match=r"^settings: glm\.n_noise: .*got \[1\]\.$"):
        check_settings({"glm": {"n_noise": [1]}})
