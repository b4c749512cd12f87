"""The commands of ``neurometamer stimuli``: parse, call, print, exit code; nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from neurometamer.cli.options import (
    Animate,
    BatchSize,
    Bits,
    DeviceName,
    Icc,
    Images,
    Mode,
    ModelName,
    ModeName,
    Nulls,
    Png16,
    Resume,
    Seed,
    SetWeights,
    Weights,
    absolute_weights,
    absolute_weights_of,
    between,
    one_of,
    one_step,
)

if TYPE_CHECKING:
    import pandas as pd

IMAGES_HELP = (
    "Folder of photographs (folders inside it are categories), or a CSV with the column file and, "
    "where wanted, id, category, bits (of 16-bit files) and icc (convert: color profiles to sRGB)."
)

stimuli_app = typer.Typer(no_args_is_help=True, help="Make adversarial images and metamers.")


@stimuli_app.command("noise")
def stimuli_noise(
    images: Annotated[Path, typer.Option(help=IMAGES_HELP)],
    out: Annotated[Path, typer.Option(help="Output folder.")],
    model: ModelName,
    weights: Weights = "default",
    target: Annotated[
        str, typer.Option(help="own, a class, given (column target), or a CSV (id, target).")
    ] = "own",
    probability: Annotated[
        float,
        typer.Option(
            help="Stop when the target has this probability on the 8-bit image.",
            callback=between(0, 1),
        ),
    ] = 0.99,
    max_steps: Annotated[
        int, typer.Option(min=1, help="Give an image up after so many steps.")
    ] = 300,
    step_size: Annotated[float, typer.Option(help="L2 norm of one step, pixels in [0, 1].")] = 2.0,
    pull: Annotated[
        float, typer.Option(help="Weight of the squared distance to the mean image.")
    ] = 1e-3,
    noise_sd: Annotated[float, typer.Option(help="Standard deviation of the start noise.")] = 0.1,
    nguyen: Annotated[
        bool,
        typer.Option(
            "--nguyen", help="Steps and decay of Nguyen 2015, on the probability; no pull."
        ),
    ] = False,
    decay: Annotated[
        float, typer.Option(help="Of --nguyen: share of the distance to the mean lost a step.")
    ] = 0.01,
    mode: ModeName = Mode.exact,
    png16: Png16 = False,
    animate: Animate = False,
    resume: Resume = True,
    bits: Bits = None,
    icc: Icc = "ignore",
    device: DeviceName = "auto",
    batch_size: BatchSize = 8,
    seed: Seed = 0,
) -> None:
    """Make adversarial noise (AN): noise to people, the photograph's class to the network.

    Python: neurometamer.make_stimuli("noise", ...).
    """
    options: dict[str, Any] = {
        "target": target,
        "confidence": probability,
        "max_steps": max_steps,
        "step_size": step_size,
        "pull": pull,
        "noise_sd": noise_sd,
    }
    if nguyen:
        from stimuli_gen.synthesis.objectives import Progress

        del options["step_size"]
        options |= {"objective": "probability", "pull": 0.0, "progress_rule": Progress(decay=decay)}
    options |= {"mode": mode.value, "png16": png16, "animate": animate, "bits": bits, "icc": icc}
    _make_stimuli("noise", model, weights, images, out, device, batch_size, seed, resume, options)


@stimuli_app.command("interference")
def stimuli_interference(
    images: Annotated[Path, typer.Option(help=IMAGES_HELP)],
    out: Annotated[Path, typer.Option(help="Output folder.")],
    model: ModelName,
    weights: Weights = "default",
    target: Annotated[
        str,
        typer.Option(
            help="random, least_likely, another_category, a class, given (column target), or a CSV."
        ),
    ] = "random",
    method: Annotated[
        str,
        one_of(
            table="neurometamer.commands.stimuli:METHODS",
            help="gradient, or greedy (random search, Zhang 2021).",
        ),
    ] = "gradient",
    probability: Annotated[
        float | None,
        typer.Option(
            help="Stop when the target has this probability on the 8-bit image; 0.99, greedy 0.5.",
            callback=between(0, 1),
        ),
    ] = None,
    max_steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Give an image up after so many steps or tries; 300, greedy 20000."
        ),
    ] = None,
    step_size: Annotated[float, typer.Option(help="L2 norm of one step, pixels in [0, 1].")] = 0.25,
    pull: Annotated[
        float, typer.Option(help="Weight of the squared distance to the photograph.")
    ] = 1e-3,
    ball: Annotated[
        str,
        one_of(
            table="stimuli_gen.synthesis.constraints:BALLS",
            help="Stay in a ball around the photograph: none, l2 or linf.",
        ),
    ] = "none",
    radius: Annotated[float | None, typer.Option(help="Of the ball, pixels in [0, 1].")] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Image file: only its light pixels may change.")
    ] = None,
    amplitude: Annotated[
        float, typer.Option(help="Of greedy: noise is uniform within this, levels of 255.")
    ] = 5.0,
    shared_channels: Annotated[
        bool, typer.Option("--shared-channels", help="Of greedy: gray noise.")
    ] = False,
    mode: ModeName = Mode.exact,
    png16: Png16 = False,
    animate: Animate = False,
    resume: Resume = True,
    bits: Bits = None,
    icc: Icc = "ignore",
    device: DeviceName = "auto",
    batch_size: BatchSize = 8,
    seed: Seed = 0,
) -> None:
    """Make adversarial interference (AI): the photograph to people, a wrong class to the network.

    Python: neurometamer.make_stimuli("interference", ...).
    """
    from stimuli_gen.synthesis.constraints import read_mask_file

    options: dict[str, Any] = {"target": target, "method": method}
    if method == "greedy":
        options |= {
            "confidence": 0.5 if probability is None else probability,
            "max_tries": max_steps or 20_000,
            "amplitude": amplitude,
            "shared_channels": shared_channels,
        }
    else:
        options |= {
            "confidence": 0.99 if probability is None else probability,
            "max_steps": max_steps or 300,
            "step_size": step_size,
            "pull": pull,
            "ball": ball,
            "radius": radius,
        }
        options |= {"mask": read_mask_file(mask)} if mask else {}
    options |= {"mode": mode.value, "png16": png16, "animate": animate, "bits": bits, "icc": icc}
    _make_stimuli(
        "interference", model, weights, images, out, device, batch_size, seed, resume, options
    )


@stimuli_app.command("null")
def stimuli_null(
    images: Images,
    model: ModelName,
    stage: Annotated[
        list[str],
        typer.Option(help="Stages of the network: names, early, middle, late, fractions."),
    ],
    out: Annotated[Path, typer.Option(help="HDF5 file to write, or to go on with.")],
    pairs: Annotated[
        int, typer.Option(min=1, help="Pairs of images to draw; all when there are no more.")
    ] = 1_000_000,
    weights: Weights = "default",
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Pixels that the network sees, as for the metamers.")
    ] = None,
    bits: Bits = None,
    icc: Icc = "ignore",
    device: DeviceName = "auto",
    batch_size: BatchSize = 8,
    seed: Seed = 0,
) -> None:
    """Measure how alike responses to different images are: what a metamer's match has to exceed.

    Python: neurometamer.make_null.
    """
    from neurometamer.commands.metamers import make_null

    with one_step("null distribution") as progress:
        null = make_null(
            out,
            model=model,
            images=images,
            stages=stage,
            n_pairs=pairs,
            weights=absolute_weights(weights),
            image_size=image_size,
            device=device,
            batch_size=batch_size,
            seed=seed,
            bits=bits,
            icc=icc,
            progress=progress,
        )
    for name, rows in null.summary().groupby("stage", sort=False):
        largest = ", ".join(
            f"{metric} {value:.3f}"
            for metric, value in zip(rows["metric"], rows["max"], strict=True)
        )
        typer.echo(f"{name}: largest of {len(null.pairs)} pairs: {largest}")
    typer.echo(out)


@stimuli_app.command("control")
def stimuli_control(
    control: Annotated[
        str,
        one_of(
            table="stimuli_gen.controls:CONTROLS,stimuli_gen.pgd:ATTACKS",
            help="random_l2, random_linf, gaussian_noise, fourier_noise, blur, grayscale, "
            "phase_scramble, pgd_l2 or "
            "pgd_linf.",
        ),
    ],
    images: Annotated[Path, typer.Option(help=IMAGES_HELP)],
    out: Annotated[Path, typer.Option(help="Output folder.")],
    levels: Annotated[
        list[float],
        typer.Option(
            help="How strong: a norm (pixels in [0, 1]), an SSNR, or a blur's sigma in pixels."
        ),
    ] = [],  # noqa: B006
    model: Annotated[
        str, typer.Option(help="Whose input size the images get, and which PGD attacks.")
    ] = "efficientnet_lite0",
    weights: Weights = "default",
    target: Annotated[
        str, typer.Option(help="Of PGD: a class, random …; untargeted when not given.")
    ] = "",
    steps: Annotated[int, typer.Option(min=1, help="Of PGD.")] = 64,
    mode: ModeName = Mode.exact,
    png16: Png16 = False,
    animate: Animate = False,
    resume: Resume = True,
    bits: Bits = None,
    icc: Icc = "ignore",
    device: DeviceName = "auto",
    batch_size: BatchSize = 8,
    seed: Seed = 0,
) -> None:
    """Make control images.

    They are random vectors, noise, blur, grayscale, scrambled phase, or PGD within a ball.

    Python: neurometamer.make_controls.
    """
    from neurometamer.commands.stimuli import make_controls

    options: dict[str, Any] = (
        {"target": target or None, "steps": steps} if control.startswith("pgd") else {}
    )
    with one_step(f"{control} controls", out, resume) as progress:
        table = make_controls(
            control,
            images=images,
            out=out,
            model=model,
            weights=absolute_weights(weights),
            device=device,
            levels=levels,
            batch_size=batch_size,
            seed=seed,
            mode=mode.value,
            png16=png16,
            animate=animate,
            fresh=not resume,
            progress=progress,
            watch=progress.watch,
            bits=bits,
            icc=icc,
            **options,
        )
    fooled = f", {int(table['success'].sum())} of them fool {model}" if "success" in table else ""
    typer.echo(f"{len(table)} images{fooled}: {out}")


@stimuli_app.command("metamer")
def stimuli_metamer(
    models: Annotated[
        str, typer.Option(help="A name of 'neurometamer models list', or several between commas.")
    ],
    stage: Annotated[
        list[str],
        typer.Option(
            help="Stages: names, early, middle, late, fractions of depth, or NAME=STAGE for each "
            "network."
        ),
    ],
    images: Annotated[Path, typer.Option(help=IMAGES_HELP)],
    out: Annotated[Path, typer.Option(help="Output folder.")],
    preset: Annotated[
        str,
        one_of(
            table="stimuli_gen.presets:PRESETS",
            help="feather2023, boehm2025, pixels, or fast (with a prior of natural images).",
        ),
    ] = "feather2023",
    weights: SetWeights = "default",
    steps: Annotated[int | None, typer.Option(min=1, help="Instead of the preset's.")] = None,
    set_: Annotated[
        list[str],
        typer.Option(
            "--set", help="NAME=VALUE: another number of the preset, by its name in Recipe."
        ),
    ] = [],  # noqa: B006
    penalty: Annotated[
        list[str],
        typer.Option(
            help="kind:weight[:power[:pixel_scale]] added to the loss: total_variation, "
            "alpha_norm, range."
        ),
    ] = [],  # noqa: B006
    stage_weight: Annotated[
        list[float], typer.Option(help="One for each --stage; equal when not given.")
    ] = [],  # noqa: B006
    start_image: Annotated[
        Path | None,
        typer.Option(
            help="First image: a file for all, or a folder with one for each photograph's id."
        ),
    ] = None,
    max_error: Annotated[
        float | None,
        typer.Option(help="Finish an image at this ||a' - a|| / ||a||, and ask it of a success."),
    ] = None,
    image_size: Annotated[
        int | None, typer.Option(min=1, help="Pixels that every network sees, where theirs differ.")
    ] = None,
    nulls: Nulls = [],  # noqa: B006
    mode: ModeName = Mode.exact,
    png16: Png16 = False,
    animate: Animate = False,
    resume: Resume = True,
    bits: Bits = None,
    icc: Icc = "ignore",
    device: DeviceName = "auto",
    batch_size: BatchSize = 8,
    seed: Seed = 0,
) -> None:
    """Make metamers: the photograph to one network, or to each of several, at a stage.

    Python: neurometamer.make_metamers.
    """
    from neurometamer.commands.metamers import make_metamers, read_overrides, read_penalties

    options: dict[str, Any] = read_overrides(set_)
    options |= {} if steps is None else {"steps": steps}
    options |= {"penalties": read_penalties(penalty)} if penalty else {}
    options |= {"stage_weights": stage_weight} if stage_weight else {}
    names = [name.strip() for name in models.split(",")]
    chosen = absolute_weights_of(names, weights)
    with one_step("metamers", out, resume) as progress:
        table = make_metamers(
            names,
            stage=stage,
            images=images,
            out=out,
            preset=preset,
            weights=chosen,
            image_size=image_size,
            device=device,
            batch_size=batch_size,
            seed=seed,
            nulls=nulls,
            start_images=start_image,
            max_error=max_error,
            mode=mode.value,
            png16=png16,
            animate=animate,
            fresh=not resume,
            progress=progress,
            watch=progress.watch,
            bits=bits,
            icc=icc,
            **options,
        )
    _tell_success(table, out)


def _make_stimuli(
    kind: str,
    model: str,
    weights: str,
    images: Path,
    out: Path,
    device: str,
    batch_size: int,
    seed: int,
    resume: bool,
    options: dict[str, Any],
) -> None:
    """Call the generator, say what failed; exit code 1 when an image did not meet its criterion."""
    from neurometamer.commands.stimuli import make_stimuli

    with one_step(f"adversarial {kind}", out, resume) as progress:
        table = make_stimuli(
            kind,
            model=model,
            weights=absolute_weights(weights),
            images=images,
            out=out,
            device=device,
            batch_size=batch_size,
            seed=seed,
            fresh=not resume,
            progress=progress,
            watch=progress.watch,
            **options,
        )
    _tell_success(table, out)


def _tell_success(table: pd.DataFrame, out: Path) -> None:
    from neurometamer.errors import name_ids

    failed = table["id"][~table["success"].astype(bool)].tolist()
    typer.echo(
        f"{len(table) - len(failed)} of {len(table)} images meet their criterion on the saved PNG: "
        f"{out}"
    )
    if failed:
        typer.echo(f"not met: {name_ids(failed)}; see why_not in {out / 'stimuli.csv'}", err=True)
        raise typer.Exit(1)
