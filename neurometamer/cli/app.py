"""The command line: parse, call, print, exit code; nothing else.

Every command has a Python twin, named in its help.
"""

from __future__ import annotations

import errno
import os
import signal
import sys
import traceback
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer

from neurometamer import __version__
from neurometamer.cli.behavior import behavior_app
from neurometamer.cli.evaluate import evaluate_app
from neurometamer.cli.image_types import image_types
from neurometamer.cli.options import (
    Affine,
    BatchSize,
    Bits,
    Blocks,
    Bold,
    Classes,
    ConditionColumn,
    Confidence,
    ConfoundColumns,
    Confounds,
    Descriptor,
    DeviceName,
    Estimator,
    Events,
    HighPass,
    Hrf,
    Icc,
    Ignored,
    Images,
    Join,
    Masks,
    ModelName,
    NoiseModel,
    PatternFiles,
    Resamples,
    Seed,
    SliceTimeRef,
    Stages,
    SubjectName,
    Tr,
    Units,
    Unusable,
    Weights,
    absolute_weights,
    check_device,
    one_of,
    one_step,
    open_reporter,
)
from neurometamer.cli.rsa import cka, controls, draw, layers, searchlight
from neurometamer.cli.stimuli import stimuli_app

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Do this network and this visual cortex treat the same images as the same?",
    epilog="Errors are one line and exit code 2; --debug shows the traceback. Options that take "
    "several values take "
    "them after one option or repeated.",
)
models_app = typer.Typer(no_args_is_help=True, help="The networks known by name.")
fmri_app = typer.Typer(no_args_is_help=True, help="BOLD files in, patterns out.")
app.add_typer(stimuli_app, name="stimuli")
app.add_typer(models_app, name="models")
app.add_typer(fmri_app, name="fmri")
app.add_typer(behavior_app, name="behavior")
app.add_typer(evaluate_app, name="evaluate")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"neurometamer {__version__}")
        raise typer.Exit


@app.callback()
def _options_of_the_program(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    pass


def _several(arguments: list[str]) -> list[str]:
    """Repeat an option that takes several values before each of them.

    ``--bold a b`` becomes ``--bold a --bold b``.

    So the shell may expand ``*``. Further values of an option that takes one are left, and refused
    by the parser.
    """
    from neurometamer.errors import InputError, duplicates, name_ids

    several = _options_of_several(arguments)
    given = [argument.partition("=")[0] for argument in arguments if argument.startswith("--")]
    if again := duplicates(option_given for option_given in given if option_given not in several):
        raise InputError(
            f"{name_ids(again)} is given more than once and takes one value; give it once."
        )
    expanded: list[str] = []
    option = ""
    for argument in arguments:
        if argument.startswith("--") or argument == "-h":
            option = argument if argument in several else ""
            if not option:
                expanded.append(argument)
        else:
            expanded += [option, argument] if option else [argument]
    return expanded


def _options_of_several(arguments: list[str]) -> set[str]:
    """Name the options of the command that is called which take several values."""
    command: Any = typer.main.get_command(app)
    for argument in arguments:
        command = getattr(command, "commands", {}).get(argument, command)
        if not hasattr(command, "commands"):
            break
    return {
        name
        for parameter in command.params
        if getattr(parameter, "multiple", False)
        for name in parameter.opts
    }


def main() -> None:
    """Run the command line.

    The exit code is 0 (done), 2 (the input cannot be used), 1 (a fault of ours, or a criterion that
    was not met), 130 (Ctrl-C) or 143 (SIGTERM, as Slurm and Docker send it).

    Raises
    ------
    SystemExit
        With the exit code.
    """
    from neurometamer.errors import terminate

    # What the readers find odd is for people: one line, without the place in our code.
    warnings.formatwarning = lambda message, *_, **__: f"note: {' '.join(str(message).split())}\n"
    # Threads that spin while they wait are a few percent faster alone and many times slower beside
    # another program.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    before = signal.signal(signal.SIGTERM, terminate)
    try:
        _run(arguments, debug)
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(arguments: list[str], debug: bool) -> None:
    """Run a command; what goes wrong is one line and an exit code."""
    from neurometamer.errors import InputError, Terminated

    try:
        app(args=_several(arguments), prog_name="neurometamer")
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
        _fail(
            f"error: {_what_failed(error)}; what was finished is kept: run the same command again "
            "then.",
            2,
            debug,
        )


def _what_failed(error: OSError) -> str:
    """Say what the system refused; HDF5 hides a full disk in the text of its error."""
    from neurometamer.errors import OutputError

    if error.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(error):
        return "the disk is full; make room, or choose another --out"
    where = f" ({error.filename})" if error.filename else ""
    cure = "choose another --out, or mend that" if isinstance(error, OutputError) else "mend that"
    return f"{error.strerror or error}{where}; {cure}"


def _fail(message: str, code: int, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    typer.echo(" ".join(message.split()), err=True)
    raise SystemExit(code)


# ------------------------------------------------------------------------------------ whole studies


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Output folder.")] = Path("demo-output"),
    model: ModelName = "efficientnet_lite0",
    weights: Weights = "default",
    device: DeviceName = "auto",
    seed: Seed = 0,
) -> None:
    """Run the demo study on packaged photographs.

    It makes AN and AI images, a simulated cortex, RSA, encoding and a report.

    Python: neurometamer.run_study(neurometamer.demo_settings(...), out).
    """
    from neurometamer.study.steps import demo_settings, run_study

    settings = demo_settings(model=model, weights=absolute_weights(weights), seed=seed)
    with open_reporter() as reporter:
        report = run_study(settings, out, device=device, reporter=reporter)
    _end_study(report)


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="Study file; 'neurometamer init' writes one.")],
    out: Annotated[
        Path | None, typer.Option(help="Output folder; else named after the study.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(help="Instead of the study file's.", callback=check_device)
    ] = None,
) -> None:
    """Run a study, or go on with it: what was finished is kept.

    Python: neurometamer.run_study.
    """
    from neurometamer.study.steps import run_study

    with open_reporter() as reporter:
        report = run_study(study, out, device=device, reporter=reporter)
    _end_study(report)


@app.command()
def check(
    study: Annotated[Path, typer.Argument(help="Study file.")],
) -> None:
    """Find what is wrong with a study's files and settings before any work.

    All problems are listed at once; the exit code is 2.

    Python: neurometamer.check_study.
    """
    from neurometamer.study.steps import check_study

    problems = check_study(study)
    for problem in problems:
        typer.echo(f"{problem.kind}: {problem}", err=True)
    n_errors = sum(problem.kind == "error" for problem in problems)
    if n_errors:
        typer.echo(f"{study}: {n_errors} thing(s) to correct.", err=True)
        raise typer.Exit(2)
    typer.echo(f"{study}: nothing stands in the way.")


@app.command()
def init(
    path: Annotated[Path, typer.Argument(help="File to write; never written over.")] = Path(
        "study.toml"
    ),
) -> None:
    """Write a commented study file with every setting, for your own data.

    Python: neurometamer.write_template.
    """
    from neurometamer.study.template import write_template

    typer.echo(write_template(path))


@app.command()
def report(folder: Annotated[Path, typer.Argument(help="Folder of a study.")]) -> None:
    """Write the report of a study's folder again, from the files in it.

    Python: neurometamer.build_report.
    """
    from neurometamer.report.study import build_report

    with one_step("report"):
        page = build_report(folder)
    typer.echo(page)


# ------------------------------------------------------------------------------------- single steps


@models_app.command("list")
def models_list(
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV with every column.")] = False,
) -> None:
    """List the networks known by name, and whether their weights are here.

    Python: neurometamer.list_models.
    """
    from neurometamer.zoo import list_models

    table = list_models()
    if csv:
        typer.echo(table.to_csv(index=False), nl=False)
        return
    from rich.console import Console
    from rich.table import Table

    shown = Table()
    shown.add_column("name", no_wrap=True)
    for title in ("input", "weights", "stages"):
        shown.add_column(title)
    for row in table.to_dict("records"):
        here = (
            "on this machine"
            if row["available"]
            else ("pip install" if row["offline"] else "file or download")
        )
        shown.add_row(row["name"], f"{row['input_size']} px", here, row["stages"])
    Console().print(shown)


@fmri_app.command("betas")
def fmri_betas(
    bold: Bold,
    events: Events,
    masks: Masks,
    out: Annotated[Path, typer.Option(help="Output folder: betas.nii.gz, betas.tsv, betas.json.")],
    confounds: Confounds = [],  # noqa: B006
    columns: ConfoundColumns = [],  # noqa: B006
    condition_column: ConditionColumn = "trial_type",
    ignore: Ignored = [],  # noqa: B006
    subject: SubjectName = "",
    tr: Tr = None,
    slice_time_ref: SliceTimeRef = None,
    affine: Affine = "agree",
    hrf: Hrf = "glover",
    high_pass: HighPass = 0.01,
    noise_model: NoiseModel = "ar1",
    estimator: Estimator = "LSA",
    units: Units = "percent",
    unusable: Unusable = "refuse",
) -> None:
    """Estimate one beta per condition and presentation, as a 4-D NIfTI with its table.

    Python: fmri.read_runs, fmri.estimate_betas, fmri.write_betas.
    """
    from fmri.betas import write_betas
    from neurometamer.commands.patterns import make_patterns

    glm: dict[str, Any] = {
        "hrf_model": hrf,
        "high_pass": high_pass,
        "noise_model": noise_model,
        "units": units,
    }
    with one_step("betas") as progress:
        patterns = make_patterns(
            _named_files(masks),
            bold=bold,
            events=events,
            confounds=confounds,
            subject=subject or None,
            t_r=tr,
            columns=columns,
            condition_column=condition_column,
            affine=affine,
            ignore=ignore,
            slice_time_ref=slice_time_ref,
            estimator=estimator,
            unusable=unusable,
            progress=progress,
            **glm,
        )
    typer.echo(write_betas(patterns, out))


@fmri_app.command("patterns")
def fmri_patterns(
    masks: Masks,
    out: Annotated[Path, typer.Option(help="HDF5 file to write.")],
    bold: Bold = [],  # noqa: B006
    events: Events = [],  # noqa: B006
    confounds: Confounds = [],  # noqa: B006
    columns: ConfoundColumns = [],  # noqa: B006
    condition_column: ConditionColumn = "trial_type",
    ignore: Ignored = [],  # noqa: B006
    betas: Annotated[
        Path | None, typer.Option(help="Instead of BOLD runs: a folder of 'fmri betas'.")
    ] = None,
    subject: SubjectName = "",
    tr: Tr = None,
    slice_time_ref: SliceTimeRef = None,
    affine: Affine = "agree",
    voxels: Annotated[
        int, typer.Option(min=0, help="Keep so many voxels a ROI, the most reliable; 0: all.")
    ] = 0,
    stimuli: Annotated[
        Path | None, typer.Option(help="stimuli.csv; its RE rows judge reliability.")
    ] = None,
    select_on: Annotated[
        list[str], typer.Option(help="Instead: the conditions that judge reliability.")
    ] = [],  # noqa: B006
    hrf: Hrf = "glover",
    high_pass: HighPass = 0.01,
    noise_model: NoiseModel = "ar1",
    estimator: Estimator = "LSA",
    units: Units = "percent",
    unusable: Unusable = "refuse",
) -> None:
    """Take ROI patterns (observations x voxels) out of BOLD runs or betas.

    Reliable voxels can be kept alone.

    Python: neurometamer.make_patterns, fmri.write_patterns.
    """
    from fmri.patterns import write_patterns
    from neurometamer.commands.patterns import make_patterns, regular_ids

    glm: dict[str, Any] = {
        "hrf_model": hrf,
        "high_pass": high_pass,
        "noise_model": noise_model,
        "units": units,
    }
    judges = select_on or (regular_ids(stimuli) if stimuli else [])
    with one_step("patterns") as progress:
        patterns = make_patterns(
            _named_files(masks),
            bold=bold,
            events=events,
            confounds=confounds,
            betas=betas,
            subject=subject or None,
            t_r=tr,
            columns=columns,
            condition_column=condition_column,
            affine=affine,
            n_voxels=voxels,
            select_on=judges,
            ignore=ignore,
            slice_time_ref=slice_time_ref,
            estimator=estimator,
            unusable=unusable,
            progress=progress,
            **glm,
        )
    typer.echo(write_patterns(patterns, out))


@app.command()
def rdm(
    out: Annotated[Path, typer.Option(help="HDF5 file to write, in rsatoolbox's layout.")],
    model: Annotated[
        str | None, typer.Option(help="A name of 'neurometamer models list'; or give --patterns.")
    ] = None,
    weights: Weights = "default",
    images: Images = [],  # noqa: B006
    patterns: PatternFiles = [],  # noqa: B006
    stages: Stages = [],  # noqa: B006
    measure: Annotated[
        str,
        one_of(
            table="neurometamer.rsa.measures:MEASURES",
            help="spearman, pearson (1 - correlation), cosine, euclidean, squared-euclidean (by "
            "unit), poisson; with "
            "--patterns also mahalanobis, crossnobis.",
        ),
    ] = "spearman",
    noise: Annotated[
        str,
        one_of(
            table="neurometamer.rsa.searchlight.questions:NOISE",
            help="Noise covariance of mahalanobis and crossnobis, from presentations: "
            "shrinkage_diag, shrinkage_eye, "
            "diag, full, none.",
        ),
    ] = "shrinkage_diag",
    fold_column: Annotated[
        str,
        typer.Option(
            help="Column of parts that crossnobis takes as independent: run, presentation, session."
        ),
    ] = "run",
    bits: Bits = None,
    icc: Icc = "ignore",
    device: DeviceName = "auto",
    batch_size: BatchSize = 8,
    seed: Seed = 0,
    scratch: Annotated[
        Path | None,
        typer.Option(
            help="Folder on disk for a network's responses while it works; the system's by default."
        ),
    ] = None,
) -> None:
    """Compute the RDMs of a network's stages or of subjects' regions.

    Python: neurometamer.make_rdms.
    """
    from neurometamer.commands.rdm import make_rdms

    with one_step("RDMs") as progress:
        path = make_rdms(
            out,
            model=model,
            weights=absolute_weights(weights),
            images=images,
            patterns=patterns,
            stages=stages,
            measure=measure.lower(),
            noise=noise,
            folds=fold_column,
            device=device,
            batch_size=batch_size,
            seed=seed,
            scratch=scratch,
            bits=bits,
            icc=icc,
            progress=progress,
        )
    typer.echo(path)


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(help="RDMs, HDF5.")],
    b: Annotated[Path, typer.Argument(help="RDMs, HDF5.")],
    out: Annotated[Path, typer.Option(help="CSV to write.")],
    by: Annotated[
        list[str],
        one_of(
            table="neurometamer.rsa.comparators.table:COMPARATORS,"
            "neurometamer.rsa.comparators.table:ALIASES",
            help="spearman, pearson, tau-a, rho-a, cosine, whitened-cosine, whitened-pearson.",
        ),
    ] = ["spearman"],  # noqa: B006
    kind: Annotated[
        str | None, typer.Option(help="Only images of this kind, joined by photograph.")
    ] = None,
    join: Join = "exact",
    controls: Annotated[
        Path | None, typer.Option(help="RDMs to regress out of both sides, HDF5.")
    ] = None,
    resamples: Resamples = 1000,
    permutations: Annotated[
        int, typer.Option(min=0, help="Of the labels of the first file; 0, or --controls: no p.")
    ] = 0,
    blocks: Blocks = None,
    classes: Classes = "fixed",
    confidence: Confidence = 0.95,
    descriptor: Descriptor = None,
    seed: Seed = 0,
) -> None:
    """Compare the RDMs of two files, joined by stimulus id, never by position.

    Python: neurometamer.compare_files.
    """
    from neurometamer.commands.compare import compare_files

    with one_step("compare") as progress:
        compare_files(
            a,
            b,
            out,
            by=by,
            kind=kind,
            join=join,
            controls=controls,
            resamples=resamples,
            permutations=permutations,
            blocks=blocks,
            classes=classes.lower(),
            confidence=confidence,
            descriptor=descriptor,
            seed=seed,
            progress=progress,
        )
    typer.echo(out)


@app.command()
def encode(
    model: ModelName,
    images: Images,
    patterns: PatternFiles,
    out: Annotated[Path, typer.Option(help="CSV to write.")],
    weights: Weights = "default",
    stages: Stages = [],  # noqa: B006
    scheme: Annotated[
        str,
        one_of(
            table="neurometamer.encoding.generalization:SCHEMES",
            help="'by image' (hold out) or 'all' (train on all, Zhang 2021).",
        ),
    ] = "by image",
    folds: Annotated[
        int, typer.Option(min=0, help="0: leave one out up to 20 photographs, else 10.")
    ] = 0,
    alphas: Annotated[
        list[float],
        typer.Option(help="Ridge penalties to choose from; 15 from .001 to 10,000 when not given."),
    ] = [],  # noqa: B006
    permutations: Annotated[
        int,
        typer.Option(
            min=0, help="Permutations of the photographs for p, models fitted again; 0 for none."
        ),
    ] = 200,
    allow_repeats: Annotated[
        bool,
        typer.Option(
            "--allow-repeats", help="Allow test images with the pixels of a training image."
        ),
    ] = False,
    bits: Bits = None,
    icc: Icc = "ignore",
    device: DeviceName = "auto",
    batch_size: BatchSize = 8,
    seed: Seed = 0,
) -> None:
    """Predict voxels from layers: trained on RE, tested on held-out RE, on AI and on AN.

    Python: neurometamer.encode_files.
    """
    from neurometamer.commands.encode import encode_files

    with one_step("encoding") as progress:
        encode_files(
            out,
            model=model,
            weights=absolute_weights(weights),
            images=images,
            patterns=patterns,
            stages=stages,
            device=device,
            batch_size=batch_size,
            seed=seed,
            scheme=scheme,
            n_folds=folds or None,
            **({"alphas": alphas} if alphas else {}),
            n_permutations=permutations,
            allow_repeats=allow_repeats,
            bits=bits,
            icc=icc,
            progress=progress,
        )
    typer.echo(out)


app.command()(controls)
app.command()(cka)
app.command()(image_types)
app.command()(layers)
app.command()(searchlight)
app.command()(draw)


# ----------------------------------------------------------------------------------------- plumbing


def _end_study(report: Path) -> None:
    """Print the report's path.

    Images that did not meet their criterion are named, since the study went on with them.
    """
    from neurometamer.errors import name_ids
    from neurometamer.study.steps import failed_stimuli

    if failed := failed_stimuli(report.parent):
        typer.echo(
            f"note: these images did not meet their criterion: {name_ids(failed)}; see the report.",
            err=True,
        )
    typer.echo(report)


def _named_files(masks: list[str]) -> dict[str, Path]:
    from neurometamer.errors import InputError, duplicates, name_ids

    pairs = [mask.partition("=") for mask in masks]
    if bad := [
        mask for mask, (name, _, file) in zip(masks, pairs, strict=True) if not (name and file)
    ]:
        raise InputError(f"--masks wants NAME=FILE, not {name_ids(bad)}.")
    if again := duplicates(name for name, _, _ in pairs):
        raise InputError(
            f"--masks names {name_ids(again)} more than once; give each ROI its own name."
        )
    return {name: Path(file) for name, _, file in pairs}
