"""The command line: a table of commands, each built from its function, and the exit code."""

from __future__ import annotations

import dataclasses
import difflib
import errno
import inspect
import itertools
import os
import re
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from neurometamer import __version__
from neurometamer.cli.words import help_of, in_words_of_options, summary_of
from neurometamer.errors import InputError, OutputError, Terminated, name_ids, terminate
from neurometamer.store import refuse_broken_link

if TYPE_CHECKING:
    import cyclopts

COMMANDS = {
    "demo": "neurometamer.study.steps:run_demo",
    "run": "neurometamer.study.steps:run_study",
    "check": "neurometamer.study.steps:check_study",
    "init": "neurometamer.study.template:write_template",
    "report": "neurometamer.report.study:build_report",
    "rdm": "neurometamer.commands.rdms:rdm",
    "compare": "neurometamer.commands.similarity:compare",
    "encode": "neurometamer.commands.encoding:encode",
    "controls": "neurometamer.commands.rdms:controls",
    "cka": "neurometamer.commands.similarity:cka",
    "image-types": "neurometamer.commands.image_type_tables:image_types",
    "layers": "neurometamer.commands.layer_tables:layers",
    "searchlight": "neurometamer.commands.searchlight_maps:searchlight",
    "draw": "neurometamer.commands.drawing:draw",
    "stimuli noise": "neurometamer.commands.stimuli:stimuli_noise",
    "stimuli interference": "neurometamer.commands.stimuli:stimuli_interference",
    "stimuli null": "neurometamer.commands.metamers:stimuli_null",
    "stimuli control": "neurometamer.commands.stimuli:stimuli_control",
    "stimuli metamer": "neurometamer.commands.metamers:stimuli_metamer",
    "stimuli controversial": "neurometamer.commands.disagreement:stimuli_controversial",
    "stimuli divergent": "neurometamer.commands.disagreement:stimuli_divergent",
    "stimuli eigendistortion": "neurometamer.commands.disagreement:stimuli_eigendistortion",
    "models list": "neurometamer.commands.networks:models_list",
    "models show": "neurometamer.commands.networks:models_show",
    "models fetch": "neurometamer.commands.networks:models_fetch",
    "models check": "neurometamer.commands.networks:models_check",
    "train": "neurometamer.commands.training:train",
    "fmri layout": "neurometamer.commands.datasets:fmri_layout",
    "fmri betas": "neurometamer.commands.fmri:fmri_betas",
    "fmri patterns": "neurometamer.commands.fmri:fmri_patterns",
    "fmri convert": "neurometamer.commands.conversion:fmri_convert",
    "fmri design": "neurometamer.commands.scan_design:fmri_design",
    "fmri select": "neurometamer.commands.reliability:fmri_select",
    "fmri reliability": "neurometamer.commands.reliability:fmri_reliability",
    "fmri simulate": "neurometamer.commands.simulation:fmri_simulate",
    "behavior page": "neurometamer.commands.behavior:behavior_page",
    "behavior join": "neurometamer.commands.behavior:behavior_join",
    "behavior analyze": "neurometamer.commands.behavior:behavior_analyze",
    "evaluate metamers": "neurometamer.commands.evaluation:evaluate_metamers",
    "evaluate plan-sets": "neurometamer.commands.evaluation:evaluate_plan_sets",
    "evaluate run-sets": "neurometamer.commands.evaluation:evaluate_run_sets",
    "evaluate sets": "neurometamer.commands.evaluation:evaluate_sets",
    "evaluate check-table": "neurometamer.commands.evaluation:evaluate_check_table",
}
"""Words of a command to the function that it calls, in the order of the help."""

GROUPS = {
    "stimuli": "Make adversarial images, metamers, and images on which networks disagree.",
    "models": "The networks known by name.",
    "fmri": "BOLD files in, patterns out.",
    "behavior": "Recognition experiments with people and networks.",
    "evaluate": "Who recognizes metamers, how they look, what they do.",
}
"""First word of commands of two words to what they are about."""

HELP = (
    "Do this network and this visual cortex treat the same images as the same?\n\n"
    "Errors are one line and exit code 2; --debug shows the traceback. Options that take several "
    "values take them one after another."
)


def main() -> None:
    """Run the command line.

    The exit code is 0 (done), 2 (the input cannot be used), 1 (a fault of ours, or a criterion that
    was not met), 130 (Ctrl-C) or 143 (SIGTERM, as Slurm and Docker send it).

    Raises
    ------
    SystemExit
        With the exit code.
    """
    told: set[str] = set()

    def once_in_a_line(message: object, *_: object, **__: object) -> str:
        note = f"note: {' '.join(str(message).split())}\n"
        is_new = note not in told
        told.add(note)
        return note if is_new else ""

    # Warnings are for people: one line, once, without the place in our code.
    warnings.formatwarning = once_in_a_line
    # Threads that spin while they wait are a few percent faster alone and many times slower beside
    # another program.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    debug = "--debug" in sys.argv
    words = [word for word in sys.argv[1:] if word != "--debug"]
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        code = run(words)
    except InputError as error:
        _fail(f"error: {error}", 2, debug)
    except (KeyboardInterrupt, Terminated) as stop:
        code = 143 if isinstance(stop, Terminated) else 130
        _fail(
            "interrupted; what was finished is kept: run the same command again to go on.",
            code,
            debug,
        )
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        failed = f"{error.strerror or error}{where}; correct that"
        if isinstance(error, OutputError):
            failed = f"{error.strerror or error}{where}; choose another --out, or correct that"
        # HDF5 hides a full disk in the text of its error
        if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
            failed = "the disk is full; make room, or choose another --out"
        _fail(
            f"error: {failed}; what was finished is kept: run the same command again then.",
            2,
            debug,
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    raise SystemExit(code)


def run(words: Sequence[str]) -> int:
    """Run one command.

    Parameters
    ----------
    words : sequence of str
        Words of the command line, after the name of the program.

    Returns
    -------
    int
        Exit code.

    Raises
    ------
    InputError
        When the words, or the input that they name, cannot be used.
    """
    import cyclopts

    app = build_app(None if "--install-completion" in words else words)
    try:
        command, bound, _ = app.parse_args(
            list(words), print_error=False, exit_on_error=False, verbose=False
        )
    except cyclopts.CycloptsError as error:
        if isinstance(error.__cause__, InputError):
            raise error.__cause__ from None
        raise InputError(_what_is_wrong(error, words)) from error
    try:
        code = command(*bound.args, **bound.kwargs)
    except InputError as error:
        names = getattr(command, "option_names", ())
        raise type(error)(in_words_of_options(str(error), names)) from error
    return code if isinstance(code, int) else 0


def _longer_option(error: cyclopts.CycloptsError) -> tuple[str, str] | None:
    """Find an option in whose name all words of an unknown one stand, as --steps in --max-steps."""
    import cyclopts

    if not isinstance(error, cyclopts.UnknownOptionError):
        return None
    unknown = (error.token.keyword or error.token.value).partition("=")[0]
    words = set(unknown.strip("-").split("-"))
    for argument in error.argument_collection:
        if words < set(argument.name.strip("-").split("-")):
            return unknown, argument.name
    return None


def _what_is_wrong(error: cyclopts.CycloptsError, words: Sequence[str]) -> str:
    """Say what is wrong with the words of a command line, and the cure."""
    import cyclopts

    named = " ".join(["neurometamer", *(error.command_chain or ())])
    if isinstance(error, cyclopts.RepeatArgumentError):
        return f"{error.token.keyword} is given more than once and takes one value; give it once."
    if isinstance(error, cyclopts.MissingArgumentError) and error.argument is not None:
        option = error.argument.name
        after = dict(itertools.pairwise(words)).get(option, "")
        if re.match("-[^-]", after):
            return (
                f"{option} is '{after}'; a value that begins with - is given as {option}={after}."
            )
        if any(word.partition("=")[0] == option for word in words):
            return f"{option} needs a value; give it ({named} --help)."
        unknown = [word for word in error.unused_tokens or () if word.startswith("--")]
        if near := difflib.get_close_matches(option, unknown, n=1, cutoff=0.6):
            return f"Unknown option: {near[0]}. Did you mean {option}? ({named} --help)"
        return f"{option} is missing; give it ({named} --help)."
    if isinstance(error, cyclopts.UnusedCliTokensError):
        return f"nothing takes {name_ids(error.unused_tokens or ())}; leave that out."
    if isinstance(error, cyclopts.CoercionError) and error.token is not None:
        given = f"{error.token.keyword}={error.token.value}"
        return f"{given}: this option takes no value; write {error.token.keyword} alone."
    if longer := _longer_option(error):
        return f"Unknown option: {longer[0]}. Did you mean {longer[1]}? ({named} --help)"
    message = " ".join(str(error).partition(" Available commands:")[0].split())
    return f"{message} {named} --help lists what there is."


def build_app(words: Sequence[str] | None = None) -> cyclopts.App:
    """Build the program.

    Parameters
    ----------
    words : sequence of str, optional
        Words of the command line: only the command that they name is imported. Without them all
        commands are.

    Returns
    -------
    cyclopts.App
        With every command.
    """
    import cyclopts

    from neurometamer.cli.build import command_of, import_function

    app = cyclopts.App(
        name="neurometamer",
        help=HELP,
        help_flags=("--help", "-h"),
        version=f"neurometamer {__version__}",
        version_flags=("--version",),
        help_format="plaintext",
    )
    app.register_install_completion_command(help="Make the shell complete commands and options.")
    groups = {}
    for rank, (command, place) in enumerate(COMMANDS.items()):
        *group, name = command.split()
        for first in group:
            if first not in groups:
                groups[first] = cyclopts.App(name=first, help=GROUPS[first], sort_key=rank)
                app.command(groups[first])
        parent = groups[group[0]] if group else app
        if words is not None and list(words[: len(group) + 1]) != command.split():
            parent.command(cyclopts.App(name=name, help=summary_of(place), sort_key=rank))
            continue
        function = import_function(place)
        built = command_of(command, place, partial(_call, command))
        described = help_of(place, function, getattr(built, "option_names", ()))
        parent.command(built, name=name, help=described, sort_key=rank)
    return app


def _call(command: str, function: Callable[..., Any], arguments: dict[str, Any]) -> int:
    """Call a function, show its progress and print what it gives."""
    from neurometamer.cli.console import open_reporter
    from neurometamer.cli.outcomes import print_outcome
    from neurometamer.run_options import RunOptions

    parameters = inspect.signature(inspect.unwrap(function)).parameters
    out = arguments.get("out")
    if out is not None:
        refuse_broken_link(out)
    with open_reporter(Path(out) if out is not None else None) as reporter:
        started = time.monotonic()
        if "reporter" in parameters:
            result = function(**arguments, reporter=reporter)
        elif "run" in parameters:
            chosen = arguments.pop("run", None) or RunOptions()
            chosen = dataclasses.replace(chosen, progress=reporter.advance, on_step=reporter.watch)
            reporter.start(1, 1, command)
            result = function(**arguments, run=chosen)
            reporter.finish(time.monotonic() - started, kept=False)
        elif "progress" in parameters:
            reporter.start(1, 1, command)
            result = function(**arguments, progress=reporter.advance)
            reporter.finish(time.monotonic() - started, kept=False)
        else:
            result = function(**arguments)
    return print_outcome(command, result, arguments)


def _fail(message: str, code: int, debug: bool) -> NoReturn:
    if debug:
        traceback.print_exc()
    sys.stderr.write(" ".join(message.split()) + "\n")
    raise SystemExit(code)
