"""The command line follows from the functions: parameters, defaults, help and tables of names."""

from __future__ import annotations

import inspect
import sys
import typing
from dataclasses import replace
from pathlib import Path

import pytest

from neurometamer import zoo
from neurometamer.arguments import KeywordsOf, evaluate
from neurometamer.cli.app import COMMANDS, GROUPS, build_app
from neurometamer.cli.build import form_of, import_function, options_of
from neurometamer.cli.choices import BETWEEN, CHOICES, LEAST
from neurometamer.cli.words import help_of, in_words_of_options, summary_of
from neurometamer.errors import InputError
from neurometamer.rsa.comparators.table import COMPARATORS, Comparator
from neurometamer.rsa.measures import MEASURES
from neurometamer.run_options import RunOptions
from stimuli_gen.controls import CONTROLS

TOLD_OTHERWISE = {"progress", "on_step", "on_frame", "reporter", "resume", "mode"}
"""Parameters that the command line fills, or that a command does not know."""


def options(command):
    return {
        option.name: option for option in options_of(command, import_function(COMMANDS[command]))[0]
    }


@pytest.mark.parametrize("command", COMMANDS)
def test_every_parameter_of_the_function_is_an_option(command):
    function = inspect.unwrap(import_function(COMMANDS[command]))
    found, left_out = options_of(command, function)
    assert set(left_out) <= TOLD_OTHERWISE
    owners = {option.owner[0] for option in found if option.owner}
    parameters = inspect.signature(function).parameters
    assert len(parameters) <= 12
    for name, parameter in parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            assert name in {option.name for option in found} | owners | set(left_out)
    flags = [option.flag for option in found]
    assert len(flags) == len(set(flags))


@pytest.mark.parametrize("command", COMMANDS)
def test_keywords_that_are_passed_on_are_known_there(command):
    function = inspect.unwrap(import_function(COMMANDS[command]))
    hints = {
        name: evaluate(annotation, function.__module__)
        for name, annotation in inspect.get_annotations(function).items()
    }
    for hint in hints.values():
        for passed in filter(lambda part: isinstance(part, KeywordsOf), typing.get_args(hint)):
            known = inspect.signature(import_function(passed.target)).parameters
            assert {*passed.names, *passed.without} <= set(known)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_each_option_with_a_description(command, invoke, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    shown = invoke([*command.split(), "--help"])
    assert shown.exit_code == 0, shown.exception
    words = " ".join(shown.output.split())
    for option in options(command).values():
        assert option.flag in words
        assert len(option.help) > 10, option.flag
        assert option.help[:20] in words, option.flag
    assert f"Python: {COMMANDS[command].replace(':', '.')}" in words


def test_summaries_are_read_without_import():
    for command, place in COMMANDS.items():
        text = summary_of(place)
        assert text and text == help_of(place, import_function(place)).split("\n")[0], command
    assert {command.split()[0] for command in COMMANDS if " " in command} == set(GROUPS)


def test_every_entry_of_the_tables_of_values_is_of_an_option():
    names = {command: set(options(command)) for command in COMMANDS}
    every = set().union(*names.values())
    for entry in (*CHOICES, *BETWEEN, *LEAST):
        command, _, name = entry.rpartition(" ")
        assert name in (names[command] if command else every), entry


def _dummies(monkeypatch):
    """Register a dummy of each kind; give the parameters that take it."""
    comparator = Comparator(compute=COMPARATORS["pearson"].compute, help="as", scale="z-scored")
    monkeypatch.setitem(COMPARATORS, "dummy-comparator", comparator)
    measure = next(iter(MEASURES.values()))
    monkeypatch.setitem(MEASURES, "dummy-measure", measure)
    monkeypatch.setitem(zoo.MODELS, "dummy_network", replace(zoo.MODELS["alexnet"]))
    monkeypatch.setitem(CONTROLS, "dummy_control", CONTROLS["blur"])
    return {
        "dummy-comparator": [
            ("compare", "comparator"),
            ("layers", "comparator"),
            ("image-types", "comparator"),
        ],
        "dummy-measure": [("rdm", "measure")],
        "dummy_network": [
            ("demo", "model"),
            ("rdm", "model"),
            ("encode", "model"),
            ("stimuli noise", "model"),
            ("stimuli metamer", "models"),
            ("evaluate metamers", "evaluators"),
            ("evaluate plan-sets", "networks"),
        ],
        "dummy_control": [("stimuli control", "control")],
    }


def test_an_entry_of_a_table_is_a_choice_of_every_command_that_takes_it(monkeypatch, invoke):
    monkeypatch.setenv("COLUMNS", "300")
    taken = _dummies(monkeypatch)
    script = build_app().generate_completion(shell="bash")
    for name, places in taken.items():
        assert name in script
        for command, parameter in places:
            assert name in options(command)[parameter].names
            assert name in invoke([*command.split(), "--help"]).output


def test_defaults_are_those_of_the_function():
    assert options("layers")["n_permutations"].default == 10_000
    assert options("compare")["n_permutations"].default == 0
    assert options("rdm")["batch_size"].default == RunOptions().batch_size
    assert options("stimuli noise")["step_size"].default == 2.0
    assert options("behavior analyze")["min_catch"].default == 0.75


def test_only_what_is_given_comes_to_the_function(monkeypatch, invoke, tmp_path):
    given = {}

    def _fake(
        out: str | Path,
        *,
        masks: typing.Mapping[str, Path] = {},
        sizes: tuple[int, int] = (2, 10),
        names: typing.Sequence[str] = (),
        run: RunOptions | None = None,
        **recipe: typing.Annotated[
            typing.Any, KeywordsOf("stimuli_gen.presets:Recipe", ("steps", "straight_through_relu"))
        ],
    ) -> Path:
        """Do nothing."""
        given.update(masks=masks, sizes=sizes, names=names, run=run, **recipe)
        return Path(out)

    monkeypatch.setitem(COMMANDS, "rdm", f"{__name__}:fake")
    monkeypatch.setattr(sys.modules[__name__], "fake", _fake, raising=False)
    words = ["rdm", "x", "--masks", "V1=a=b", "LO=c", "--sizes", "1:2", "--names", "u", "v"]
    done = invoke([*words, "--steps", "3", "--batch-size", "2"])
    assert done.exception is None and done.stdout.strip() == "x"
    assert given["masks"] == {"V1": Path("a=b"), "LO": Path("c")}
    assert given["sizes"] == (1, 2) and given["names"] == ["u", "v"]
    assert given["steps"] == 3 and "straight_through_relu" not in given
    assert (given["run"].batch_size, given["run"].device) == (2, "auto")
    assert callable(given["run"].progress) and callable(given["run"].on_step)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("rdm", "--out is missing; give it (neurometamer rdm --help)."),
        ("rdm --out", "--out needs a value; give it"),
        ("stimuli noise --imges x", "Unknown option: --imges. Did you mean --images?"),
        ("stimuli control blur --images a --out b --levels", "--levels needs a value"),
        ("models list --csv=3", "--csv=3: this option takes no value; write --csv alone."),
        ("init x --foo", "Unknown option: --foo. neurometamer init --help lists what there is."),
        ("--hepl", "neurometamer --help lists what there is."),
        ("demo --seed 99999999999999999999", "--seed is 99999999999999999999; give at most"),
        ("image-types x --decision RE-AN", "--decision is 'RE-AN'; give A:B or none."),
        ("image-types x --perception RE:AI:AN", "--perception is 'RE:AI:AN'; give A:B or none."),
        (
            "image-types x --rdms a --n-resamples 0",
            "--n-resamples is 0; give 1 or more, or --inter",
        ),
        ("compare a b c --join inn", "unknown value of --join 'inn'; did you mean 'inner'?"),
        ("rdm --out x --measur spearman", "Unknown option: --measur. Did you mean --measure?"),
        (
            "stimuli controversial a b --steps=3",
            "Unknown option: --steps. Did you mean --max-steps",
        ),
        ("rdmm", 'Did you mean "rdm"?'),
        ("stimuli nois", 'Did you mean "noise"?'),
        ("demo --seed many", "--seed is 'many'; give a whole number."),
        ("demo --seed -1", "--seed is -1; give 0 or more."),
        (
            "fmri patterns --max-memory -1GB --masks V1=a --out x",
            "--max-memory is '-1GB'; a value that begins with - is given as --max-memory=-1GB",
        ),
        ("fmri patterns --masks V1=a V1=b --out x", "--masks names V1 more than once"),
        ("evaluate plan-sets --networks a --out x --sizes 2", "--sizes is '2'; give A:B."),
    ],
)
def test_words_that_cannot_be_used_are_told_in_one_line(words, message, invoke):
    done = invoke(words.split())
    assert isinstance(done.exception, InputError)
    assert message in str(done.exception) and "\n" not in str(done.exception)


@pytest.mark.parametrize(
    ("message", "names", "wanted"),
    [
        ("make: step_size is nan; mend", ["step_size"], "--step-size is nan; mend"),
        ("bits must be 8, not 7.", ["bits"], "--bits must be 8, not 7."),
        ("not for by='a'; give by='b'.", ["by"], "not for --by a; give --by b."),
        ("a/step_size.csv, 'step_size'", ["step_size"], "a/step_size.csv, 'step_size'"),
        ("t_r (2.0) and t_row", ["t_r"], "--t-r (2.0) and t_row"),
        ("finish, the share, is 0", ["finish"], "--finish, the share, is 0"),
        ("the measure is odd", ["measure"], "the measure is odd"),
        ("units (--units) (t_r, --t-r)", ["units", "t_r"], "--units (--t-r)"),
        ("allow: so_much=True (--so-much).", ["so_much"], "allow: --so-much."),
    ],
)
def test_messages_name_parameters_as_options(message, names, wanted):
    assert in_words_of_options(message, names) == wanted


def test_none_leaves_a_pair_of_image_types_out():
    option = options("image-types")["decision"]
    assert option.read(["none"]) is None and option.read(["RE:AN"]) == ("RE", "AN")
    assert "Written A:B or none." in option.help
    assert options("evaluate plan-sets")["sizes"].form.shape == "A:B"


def test_help_says_of_several_results_what_the_first_is(invoke):
    shown = invoke(["evaluate", "check-table", "--help"]).output
    assert "Returns: What was written.\n" in shown and "totals" not in shown


def test_help_shows_choices_as_choices(invoke):
    shown = invoke(["stimuli", "metamer", "--help"]).output
    assert "--preset CHOICE " in shown and "--device NAME " in shown


def test_types_that_cannot_be_written_have_no_form():
    assert form_of(typing.Callable[[int], None]) is None
    assert form_of(str | Path).kind is Path
    assert form_of(typing.Mapping[str, float]).marks == "="
    assert form_of(str | typing.Sequence[str]).several


def test_switches_that_are_on_or_open_can_be_turned_off(invoke, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    page = invoke(["behavior", "page", "--help"]).output
    assert "--no-slow" in page and "--empty-" not in page
    assert "--no-straight-through-relu" in invoke(["stimuli", "metamer", "--help"]).output
    assert "--no-fresh" not in invoke(["stimuli", "noise", "--help"]).output
