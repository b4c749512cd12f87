"""The command line as people use it: help is fast because nothing heavy is imported, errors are one
line.
"""

from __future__ import annotations

import io
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import rsatoolbox
from rich.console import Console

import neurometamer as nm
from neurometamer import __version__, cli
from neurometamer.cli.app import COMMANDS as TABLE
from neurometamer.cli.app import build_app
from neurometamer.cli.build import import_function, options_of
from neurometamer.cli.console import ConsoleReporter
from neurometamer.store import read_table

HEAVY = (
    "torch",
    "torchvision",
    "timm",
    "pandas",
    "nilearn",
    "nibabel",
    "rsatoolbox",
    "matplotlib",
    "scipy",
    "sklearn",
)
COMMANDS = (
    "demo",
    "run",
    "init",
    "report",
    "rdm",
    "compare",
    "encode",
    "layers",
    "searchlight",
    "models list",
    "models show",
    "models fetch",
    "models check",
    "stimuli noise",
    "stimuli interference",
    "stimuli null",
    "stimuli control",
    "stimuli metamer",
    "stimuli controversial",
    "stimuli divergent",
    "stimuli eigendistortion",
    "fmri layout",
    "fmri betas",
    "fmri patterns",
    "fmri convert",
    "fmri design",
    "fmri select",
    "fmri reliability",
    "fmri simulate",
    "image-types",
    "draw",
    "cka",
    "controls",
)


def neurometamer(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "neurometamer.cli", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, check=False)


def test_importing_the_packages_and_asking_for_help_imports_nothing_heavy():
    code = (
        "import sys, neurometamer, stimuli_gen, fmri\nfrom neurometamer import cli\n"
        "sys.argv = ['neurometamer', '--help']\n"
        "try:\n    cli.main()\nexcept SystemExit as done:\n    assert not done.code\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("[]")


def test_the_help_of_every_command_imports_nothing_heavy_but_pandas():
    code = (
        "import contextlib, io, sys\nfrom neurometamer import cli\n"
        f"for command in {list(TABLE)}:\n"
        "    sys.argv = ['neurometamer', *command.split(), '--help']\n"
        "    said = io.StringIO()\n"
        "    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):\n"
        "        cli.main()\n"
        "    assert 'Python:' in said.getvalue(), command\n"
        f"    heavy = [name for name in {HEAVY} if name in sys.modules and name != 'pandas']\n"
        "    assert not heavy, (command, heavy)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_that_names_its_python_twin(command):
    done = neurometamer(*command.split(), "--help")
    assert done.returncode == 0
    assert "Python:" in done.stdout


def test_the_functions_of_commands_have_the_names_of_the_commands():
    for words, address in TABLE.items():
        module, function = address.split(":")
        if not module.startswith("neurometamer.commands."):
            continue
        assert function == words.replace(" ", "_").replace("-", "_")
        # A submodule of the same name would take the place of the function once it is imported.
        assert getattr(nm.commands, function) is import_function(address)


@pytest.mark.parametrize("package", ["neurometamer", "stimuli_gen", "fmri"])
def test_every_public_name_can_be_imported(package):
    module = __import__(package)
    assert module.__all__
    for name in module.__all__:
        assert getattr(module, name) is not None
    with pytest.raises(AttributeError):
        module.no_such_name  # noqa: B018


def test_options_take_several_values_as_the_shell_gives_them():
    words = ["fmri", "betas", "--bold", "a", "b", "--events", "c", "--events", "d"]
    words += ["--out", "x", "--masks", "V1=m"]
    _, bound, _ = build_app(words).parse_args(words, exit_on_error=False, print_error=False)
    assert bound.arguments["bold"] == [Path("a"), Path("b")]
    assert bound.arguments["events"] == [Path("c"), Path("d")]
    assert bound.arguments["masks"] == ["V1=m"]


def test_version_and_short_help():
    done = neurometamer("--version")
    assert (done.returncode, done.stdout) == (0, f"neurometamer {__version__}\n")
    for command in ("", "stimuli", "compare", "fmri betas --bold a b"):
        done = neurometamer(*command.split(), "-h")
        assert done.returncode == 0
        assert "Usage: neurometamer" in done.stdout


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shell_completes_commands_options_and_choices(shell):
    script = build_app().generate_completion(shell=shell)
    for word in ("compare", "interference", "n-resamples", "whitened-pearson", "pgd_linf"):
        assert word in script


def test_a_step_that_reports_nothing_says_how_long_it_takes(monkeypatch):
    monkeypatch.setattr("neurometamer.cli.console.FIRST_S", 0.05)
    said = io.StringIO()
    reporter = ConsoleReporter(Console(file=said, width=200))
    reporter.start(2, 3, "slow step")
    end = time.monotonic() + 10
    while "so far" not in said.getvalue() and time.monotonic() < end:
        time.sleep(0.01)
    reporter.advance(4, 9)
    while "4 of 9" not in said.getvalue() and time.monotonic() < end:
        time.sleep(0.01)
    reporter.finish(1.0, kept=False)
    lines = said.getvalue().splitlines()
    assert lines[0].startswith("[2/3] slow step: ") and lines[0].endswith(" s so far")
    assert "4 of 9" in lines[-2]
    assert lines[-1] == "[2/3] slow step: 1.0 s"
    reporter.start(3, 3, "quick step")
    reporter.finish(0.0, kept=True)
    time.sleep(0.1)
    assert said.getvalue().splitlines()[-1] == "[3/3] quick step: already done"


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        # one unit prepares a stage, a thousand others are quick: 20 stages of 3.4 s
        ([3.0, *[4e-4] * 1000] * 20, 65),
        # the first waits for imports
        ([30.0, *[0.5] * 99], 48),
        ([0.5] * 100, 48),
    ],
)
@pytest.mark.parametrize("begins", ["at none", "at the first", "resumed"])
def test_the_time_to_go_does_not_count_what_is_prepared_once(monkeypatch, seconds, told, begins):
    clock = SimpleNamespace(monotonic=lambda: now)
    monkeypatch.setattr("neurometamer.cli.console.time", clock)
    now, said = 100.0, io.StringIO()
    reporter = ConsoleReporter(Console(file=said, width=200))
    reporter.start(1, 1, "encoding")
    kept = 7000 if begins == "resumed" else 0
    total = kept + len(seconds)
    if begins != "at the first":
        reporter.advance(kept, total)
    for done, took in enumerate(seconds, start=kept + 1):
        now += took
        reporter.advance(done, total)
    lines = said.getvalue().splitlines()
    reporter.close()
    assert len(lines) == 1, lines
    about = re.match(r"\[1/1\] encoding: about (\d+) s to go", lines[0])
    assert about is not None, lines
    assert int(about[1]) == pytest.approx(told, rel=0.05)


def bad_input(*arguments: object, cwd: Path | None = None) -> str:
    """Run a command that must be refused: exit code 2 and one line; return the line."""
    done = neurometamer(*arguments, cwd=cwd)
    assert done.returncode == 2, done.stderr
    lines = [line for line in done.stderr.splitlines() if not line.startswith("[")]
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    return lines[0]


def test_bad_input_is_one_line_and_exit_code_2(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"\x89PNG broken")
    photographs = tmp_path / "photographs"
    photographs.mkdir()
    (photographs / "broken.png").write_bytes(b"\x89PNG broken")
    (tmp_path / "typo.toml").write_text("[noise]\nconfidense = 0.9\n")
    making = (
        "stimuli",
        "noise",
        "--model",
        "alexnet",
        "--weights",
        "random",
        "--out",
        tmp_path / "an",
    )
    assert "broken.png" in bad_input(*making, "--images", photographs)
    assert "did you mean 'alexnet'" in bad_input(
        "rdm", "--model", "alexnt", "--images", photographs, "--out", "x.h5"
    )
    assert "did you mean 'confidence'" in bad_input("run", tmp_path / "typo.toml")
    assert "does not exist" in bad_input("run", tmp_path / "nowhere.toml")
    assert "is not a study" in bad_input("report", photographs)
    assert "holds no study" in bad_input("demo", "--out", photographs)
    assert "not available" in bad_input("demo", "--device", "mps", "--out", tmp_path / "new")
    masks = ("--masks", "V1.nii", "--bold", "a.nii", "--events", "e.tsv")
    assert "NAME=FILE" in bad_input("fmri", "betas", *masks, "--out", tmp_path / "b")
    assert "give either" in bad_input("rdm", "--out", tmp_path / "x.h5")


def test_metamers_of_a_set_from_the_command_line(tmp_path, write_study):
    write_study(tmp_path)
    making = (
        "stimuli",
        "metamer",
        "--weights",
        "random",
        "--device",
        "cpu",
        "--images",
        "photographs.csv",
    )
    null = (
        "--model",
        "alexnet",
        "--weights",
        "random",
        "--images",
        "photographs.csv",
        "--stages",
        "early",
    )
    done = neurometamer("stimuli", "null", *null, "--n-pairs", 10, "--out", "null.h5", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    pair = (
        "--models",
        "alexnet",
        "squeezenet1_0",
        "--nulls",
        "null.h5",
        "--preset",
        "boehm2025",
        "--steps",
        1,
        "--penalties",
        "total_variation:0.001",
        "--max-error",
        2,
    )
    first = neurometamer(*making, *pair, "--stage", "early", "--out", "m", cwd=tmp_path)
    table = read_table(
        tmp_path / "m" / "stimuli.csv", required=["loss_float_alexnet", "loss_png_squeezenet1_0"]
    )
    assert first.returncode == (0 if (table["success"].astype(str) == "True").all() else 1), (
        first.stderr
    )
    assert set(table["stage_alexnet"]) == {"relu2"} and set(table["stage_squeezenet1_0"]) == {
        "features.4"
    }
    assert {one.stem for one in (tmp_path / "m" / "png").iterdir()} == set(table["id"])
    for network in ("alexnet", "squeezenet1_0"):
        power, amplitude = (
            table[f"snr_db_{form}_png_{network}"] for form in ("power", "amplitude")
        )
        np.testing.assert_allclose(power, 2 * amplitude)
        assert table[f"spearman_float_{network}"].between(-1, 1).all()
    assert table["valid_alexnet"].notna().all()  # judged against its null
    assert table["valid_squeezenet1_0"].isna().all()  # no null was given
    again = bad_input(*making, *pair, "--stage", "late", "--out", "m", cwd=tmp_path)
    assert "made otherwise (other stages)" in again
    both = (
        "--models",
        "efficientnet_lite0",
        "efficientnet_lite1",
        "--stage",
        "early",
        "--out",
        "n",
    )
    assert "different sizes" in bad_input(*making, *both, cwd=tmp_path)
    assert "NAME=STAGE" in bad_input(
        *making, "--models", "alexnet", "--stage", "alexnet=", "--out", "n", cwd=tmp_path
    )


@pytest.mark.data
def test_weights_by_network_from_the_command_line(shared_data, tmp_path, write_study):
    write_study(tmp_path)
    rows = (tmp_path / "photographs.csv").read_text().splitlines()
    (tmp_path / "two.csv").write_text("\n".join(rows[:3]) + "\n")
    (
        tmp_path / "a,b=c"
    ).mkdir()  # where the command is called, and what the file is called from there
    shutil.copy(
        shared_data / "weights" / "squeezenet1_0_imagenet.npz", tmp_path / "a,b=c" / "mine.npz"
    )
    making = (
        "stimuli",
        "metamer",
        "--models",
        "squeezenet1_0",
        "efficientnet_lite0",
        "--stage",
        "early",
        "--device",
        "cpu",
        "--images",
        "../two.csv",
        "--preset",
        "boehm2025",
        "--steps",
        1,
        "--out",
        "m",
    )
    done = neurometamer(*making, "--weights", "squeezenet1_0=mine.npz", cwd=tmp_path / "a,b=c")
    assert done.returncode in (0, 1), done.stderr  # 1: a step is not enough for some
    table = read_table(tmp_path / "a,b=c" / "m" / "stimuli.csv", required=["weights"])
    assert len(table) == 2
    assert (
        table["weights"]
        .str.match(r"file mine\.npz \(\w+\); imagenet \(efficientnet-lite0-.*\)$")
        .all()
    )
    elsewhere = bad_input(*making, "--weights", "squeezenet1_0=mine.npz", cwd=tmp_path)
    assert "mine.npz (squeezenet1_0) does not exist" in elsewhere


@pytest.mark.skipif(sys.platform == "win32", reason="SIGINT is a POSIX signal")
def test_ctrl_c_says_what_is_kept_and_the_same_command_goes_on(tmp_path, write_study):
    write_study(tmp_path)
    making = (
        "stimuli",
        "noise",
        "--model",
        "alexnet",
        "--weights",
        "random",
        "--device",
        "cpu",
        "--images",
        "photographs.csv",
        "--out",
        "an",
        "--probability",
        "0.99",
        "--animate",
        "--max-steps",
    )
    command = [sys.executable, "-m", "neurometamer.cli", *making, "100000"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        limit = time.monotonic() + 120
        while time.monotonic() < limit and running.poll() is None:
            time.sleep(0.2)
            if list(tmp_path.glob("an/frames/*/*.png")):  # the loop has begun
                break
        running.send_signal(signal.SIGINT)
        _, told = running.communicate(timeout=120)
    assert running.returncode == 130, told
    line = told.strip().splitlines()[-1]
    assert line.startswith("interrupted: ")
    assert "unfinished image(s) is saved" in line and "the same command goes on" in line
    states = list(tmp_path.glob("an/.finished/*.state.h5"))
    assert len(states) == 8
    done = neurometamer(*making, "3", "--fresh", "--png16", cwd=tmp_path)
    assert done.returncode == 1, done.stderr  # no image meets its criterion in 3 steps
    assert "--fresh: 0 finished and 8 unfinished image(s)" in done.stderr
    assert not any(one.exists() for one in states)
    ids = set(read_table(tmp_path / "an" / "stimuli.csv", required=["id"])["id"])
    assert {one.stem for one in (tmp_path / "an" / "png16").iterdir()} == ids
    assert len(list((tmp_path / "an" / "animation").glob("*.gif"))) == 8


@pytest.mark.slow
def test_the_steps_as_commands_of_their_own(small_study, tmp_path, write_study):
    """From photographs and BOLD files to a table, one command at a time, each reading what the one
    before wrote.
    """
    write_study(tmp_path)
    network = ("--model", "alexnet", "--weights", "random", "--seed", 3, "--device", "cpu")
    for kind in ("noise", "interference"):
        options = (
            ("--probability", 0.001, "--max-steps", 4) if kind == "noise" else ("--max-steps", 2)
        )
        made = neurometamer(
            "stimuli",
            kind,
            *network,
            "--images",
            "photographs.csv",
            "--out",
            kind,
            *options,
            cwd=tmp_path,
        )
        assert made.returncode == (0 if kind == "noise" else 1), (
            made.stderr
        )  # 1: some did not meet the criterion
        table = read_table(
            tmp_path / kind / "stimuli.csv", required=["id", "confidence_png", "success", "why_not"]
        )
        assert {one.stem for one in (tmp_path / kind / "png").iterdir()} == set(table["id"])
    levels = ("--levels", 1, 2.5, "--png16")
    making = (
        "stimuli",
        "control",
        "--control",
        "blur",
        "--model",
        "alexnet",
        "--images",
        "photographs.csv",
    )
    done = neurometamer(*making, *levels, "--out", "controls", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    table = read_table(
        tmp_path / "controls" / "stimuli.csv", required=["control", "level", "psnr", "ssim"]
    )
    assert set(table["level"]) == {1.0, 2.5} and set(table["kind"]) == {"control"}
    assert len(list((tmp_path / "controls" / "png16").iterdir())) == len(table)
    assert "holds other stimuli" in bad_input(*making, "--out", "controls", cwd=tmp_path)
    greedy = ("--method", "greedy", "--max-tries", 2, "--out", "greedy")
    made = neurometamer(
        "stimuli", "interference", *network, "--images", "photographs.csv", *greedy, cwd=tmp_path
    )
    assert made.returncode == 1, made.stderr
    assert set(read_table(tmp_path / "greedy" / "stimuli.csv", required=["accepted"])["tries"]) == {
        2
    }
    assert "method" in bad_input(
        "stimuli",
        "interference",
        *network,
        "--images",
        "photographs.csv",
        "--out",
        "greedy",
        cwd=tmp_path,
    )
    attack = ("--control", "pgd_linf", "--steps", 1, "--levels", 0.02, "--out", "pgd")
    done = neurometamer(
        "stimuli", "control", *network, "--images", "photographs.csv", *attack, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    attacked = read_table(tmp_path / "pgd" / "stimuli.csv")
    assert attacked["linf_8bit"].max() <= 5
    assert attacked["confirmed"].astype(str).eq("True").all()  # judged on the files
    again = bad_input(
        "stimuli", "noise", *network, "--images", "photographs.csv", "--out", "noise", cwd=tmp_path
    )
    assert "made otherwise" in again

    shutil.copytree(small_study / "brain" / "sub-01", tmp_path / "brain")
    scans = [
        sorted((tmp_path / "brain").glob(f"*_{kind}.*")) for kind in ("bold", "events", "confounds")
    ]
    files = ("--bold", *scans[0], "--events", *scans[1], "--confounds", *scans[2])
    masks = (
        "--masks",
        *(f"{roi}={tmp_path}/brain/sub-01_roi-{roi}_mask.nii" for roi in ("V1", "LO")),
    )
    assert (
        neurometamer("fmri", "betas", *files, *masks, "--out", tmp_path / "betas").returncode == 0
    )
    chosen = (
        "--n-voxels",
        10,
        "--stimuli",
        small_study / "stimuli" / "stimuli.csv",
        "--out",
        tmp_path / "p.h5",
    )
    done = neurometamer("fmri", "patterns", "--betas", tmp_path / "betas", *masks, *chosen)
    assert done.returncode == 0, done.stderr

    images = ("--images", small_study / "stimuli")
    done = neurometamer(
        "rdm", *network, *images, "--stages", "relu1", "fc8", "--out", tmp_path / "network.h5"
    )
    assert done.returncode == 0, done.stderr
    done = neurometamer(
        "rdm", "--patterns", tmp_path / "p.h5", *images, "--out", tmp_path / "brain.h5"
    )
    assert done.returncode == 0, done.stderr
    loaded = rsatoolbox.rdm.load_rdm(str(tmp_path / "network.h5"), file_type="hdf5")
    assert list(loaded.rdm_descriptors["stage"]) == ["relu1", "fc8"]
    ids = set(read_table(small_study / "stimuli" / "stimuli.csv")["id"])
    assert set(loaded.pattern_descriptors["condition"]) == ids
    both = (
        "--comparator",
        "Spearman",
        "cosine",
        "--image-type",
        "RE",
        "--n-resamples",
        20,
        "--out",
        tmp_path / "c.csv",
    )
    done = neurometamer("compare", tmp_path / "network.h5", tmp_path / "brain.h5", *both)
    assert done.returncode == 0, done.stderr
    compared = read_table(
        tmp_path / "c.csv", required=["a_stage", "b_roi", "similarity", "ci_low", "comparator", "n"]
    )
    assert len(compared) == 2 * 2 * 2
    assert set(compared["n"]) == {8}

    done = neurometamer(
        "encode",
        *network,
        *images,
        "--stages",
        "relu5",
        "--patterns",
        tmp_path / "p.h5",
        "--out",
        tmp_path / "e.csv",
    )
    assert done.returncode == 0, done.stderr
    assert set(read_table(tmp_path / "e.csv")["test"]) == {"RE", "AI", "AN"}


# -------------------------------------------------------------------------------------- the options


def _options():
    """Give each option with the commands that have it."""
    found = {}
    for command, place in TABLE.items():
        options, _ = options_of(command, import_function(place))
        for option in options:
            found.setdefault(option.flag, {})[command] = option
    return found


RENAMED = {
    "stimuli noise": "--confidence",
    "stimuli control": "--kind",
    "stimuli metamer": "--null",
    "searchlight": "--model --radius",
    "draw": "--method",
    "controls": "--column",
    "evaluate metamers": "--networks",
    "behavior page": "--stimuli --mask --missing --image --fixation",
}
"""Options that meant something else in another command."""


def test_an_option_means_one_thing():
    options = _options()
    for command, names in RENAMED.items():
        assert not [name for name in names.split() if command in options.get(name, {})]
    for name, meant in {
        "--confidence": "intervals",
        "--null": "within sessions",
    }.items():
        assert all(meant in option.help for option in options[name].values())
    for users in options.values():
        kinds = {option.form.kind for option in users.values()}
        assert not ({int, float} & kinds and {str, Path} & kinds)


def test_options_that_messages_name_exist():
    options = {*_options(), "--help", "--version", "--debug", "--install-completion", "--no-slow"}
    for package in ("neurometamer", "stimuli_gen", "fmri"):
        for file in (Path(__file__).parents[2] / package).rglob("*.py"):
            for name in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", file.read_text()):
                assert name in options, f"{file}: {name}"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "compare a b --out c --classes rand",
            "unknown value of --classes 'rand'; did you mean 'random'? Known: fixed",
        ),
        (
            "compare a b --out c --comparator spearman pearsn",
            "unknown value of --comparator 'pearsn'; did you mean 'pearson'",
        ),
        (
            "stimuli noise --model alexnet --images i --out o --nguyen --decay 2",
            "error: --decay is 2; give a number from 0 on and below 1.",
        ),
        (
            "image-types --out c --null sessions",
            "unknown value of --null 'sessions'; did you mean 'session'",
        ),
        (
            "layers a --brain b --out c --confidence 1.5",
            "--confidence is 1.5; give a number between 0 and 1.",
        ),
        (
            "stimuli noise --model m --images i --out o --probability 0",
            "--probability is 0; give a number between",
        ),
        (
            "stimuli control --control pgd --images i --out o",
            "unknown value of --control 'pgd'; did you mean 'pgd_l2'",
        ),
        (
            "fmri betas --bold a --events b --masks V1=c --out d --units percnt",
            "--units 'percnt'; did you mean 'percent'",
        ),
        ("demo --device gpu", "unknown value of --device 'gpu'"),
        ("demo --device cuda:x", "unknown value of --device 'cuda:x'"),
        (
            "demo --seed 1 --out x --seed 2",
            "--seed is given more than once and takes one value; give it once.",
        ),
    ],
)
def test_wrong_values_are_told_in_the_words_of_the_command_line(
    command, message, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["neurometamer", *command.split()])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 2
    assert message in capsys.readouterr().err


def test_a_further_value_of_an_option_that_takes_one_is_refused(monkeypatch, capsys):
    words = ["stimuli", "noise", "--model", "alexnet", "--out", "o", "--images", "a.png", "b.png"]
    monkeypatch.setattr(sys, "argv", ["neurometamer", *words])
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert done.value.code == 2 and "b.png" in capsys.readouterr().err
