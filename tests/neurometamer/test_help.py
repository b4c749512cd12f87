"""The help of every command speaks the words of the command line, not those of Python."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest
from rich.console import Console

import fmri
import neurometamer as nm
import stimuli_gen
from neurometamer.cli.app import COMMANDS, GROUPS, build_app
from neurometamer.cli.build import import_function, options_of
from neurometamer.cli.choices import CHOICES
from neurometamer.cli.words import help_text

NAMESPACES = (
    nm,
    nm.rsa,
    nm.stats,
    nm.encoding,
    nm.evaluation,
    nm.behavior,
    nm.figures,
    nm.commands,
)


def python_names() -> set[str]:
    """Public names of Python that are no words: functions, types, and tables of names."""
    names = set()
    for package in (*NAMESPACES, stimuli_gen, fmri):
        for name in package.__all__:
            if "_" in name or len(re.findall("[A-Z]", name)) > 1:
                names.add(name)
    for places in CHOICES.values():
        names |= {place.partition(":")[2] for place in places}
    return names


@pytest.fixture(scope="module")
def shown() -> dict[str, str]:
    """The help of each command, each entry on a line of its own."""
    app = build_app()
    texts = {}
    for command in ("", *GROUPS, *COMMANDS):
        said = io.StringIO()
        app.help_print(command.split(), console=Console(file=said, width=3000, no_color=True))
        lines = [line for line in said.getvalue().splitlines() if not line.startswith("Python: ")]
        texts[command] = "\n".join(" ".join(line.split()) for line in lines)
    return texts


@pytest.mark.parametrize("command", ["", *GROUPS, *COMMANDS])
def test_help_speaks_the_words_of_the_command_line(command, shown):
    text = shown[command]
    assert len(text) > 100
    for word in ("`", "None", "True", "CHOICE|STR", "DataFrame", "callable", "ndarray"):
        assert word not in text, word
    dotted = re.findall(r"\b(?:neurometamer|stimuli_gen|fmri|nilearn|rsatoolbox)\.\w+", text)
    assert not dotted
    words = set(re.findall(r"(?<![\w./=:-])[A-Za-z_]\w*(?![\w/=-]|\.\w)", text))
    parameters: set[str] = set()
    values: set[str] = set()  # a strategy of confounds is called as an option is in Python
    if command in COMMANDS:
        options, left_out = options_of(command, import_function(COMMANDS[command]))
        parameters = {option.name for option in options} | set(left_out)
        values = {name for option in options for name in option.names}
    of_values = {name.upper() for name in parameters}  # how arguments are shown
    assert not sorted(words & python_names() - of_values)
    assert not [name for name in words & parameters - values if "_" in name]


def test_references_to_python_are_left_out_and_options_written_as_such():
    text = """Not with `n_sets` (see `neurometamer.rsa.plan`), one of `fmri.bold.UNITS`; ``"fast"``
    or ``sem="over"``. See `a_b` and `C`. Rest; see `d_e`."""
    wanted = "Not with --n-sets; fast or --sem over. Rest."
    assert help_text(text, ["n_sets", "sem"]) == wanted
    assert help_text("As `sem`, or ``sem``.", []) == "As sem, or sem."


def test_what_is_read_from_sources_is_what_an_import_gives():
    """Options of modules that import torch are the same before and after these are imported."""
    code = (
        "import sys\nfrom neurometamer.cli.app import COMMANDS\n"
        "from neurometamer.cli.build import import_function, options_of\n"
        "def listed():\n"
        "    every = {}\n"
        "    for command, place in COMMANDS.items():\n"
        "        every[command] = repr(options_of(command, import_function(place)))\n"
        "    return every\n"
        "read = listed()\nassert 'torch' not in sys.modules\n"
        "import stimuli_gen.adversarial, stimuli_gen.greedy, stimuli_gen.pgd, stimuli_gen.presets\n"
        "imported = listed()\n"
        "for command in COMMANDS:\n"
        "    assert read[command] == imported[command], command\n"
        "assert 'pgd_linf' in imported['stimuli control']\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
