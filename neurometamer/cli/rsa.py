"""Commands of model x brain comparison and searchlights: parse, call, print; nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurometamer.cli.options import Resamples, Seed, one_step


def layers(
    network: Annotated[Path, typer.Argument(help="RDMs of a network's stages, early to late; HDF5 of 'rdm'.")],
    brain: Annotated[list[Path], typer.Option(help="RDMs of regions, HDF5 of 'rdm', one or more files.")],
    out: Annotated[Path, typer.Option(help="Folder for the tables.")],
    rois: Annotated[
        list[str], typer.Option(help="Regions, early to late; the order of the files when not given.")
    ] = [],  # noqa: B006
    kind: Annotated[str | None, typer.Option(help="Only images of this kind, joined by photograph.")] = None,
    by: Annotated[
        str, typer.Option(help="spearman, pearson, rho-a, cosine; kendall: at most 1000 permutations.")
    ] = "spearman",
    join: Annotated[str, typer.Option(help="exact: the same ids in both; inner: those that both hold.")] = "exact",
    train_on: Annotated[
        str, typer.Option(help="Layer and weights from the other subjects and stimuli: both, stimuli, or subjects.")
    ] = "both",
    folds: Annotated[int, typer.Option(min=0, help="Parts of the stimuli; 0: 2 to 5, by their number.")] = 0,
    preferred: Annotated[str, typer.Option(help="Of the hierarchy: center (of mass) or best layer.")] = "center",
    resamples: Resamples = 1000,
    permutations: Annotated[int, typer.Option(min=0, help="Permutations of labels; 0 for no p.")] = 10_000,
    confidence: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    seed: Seed = 0,
) -> None:
    """Set layers beside regions: similarity and ceilings, best layer, hierarchy, weighted layers; cross-validated.

    Python: neurometamer.layer_files.
    """
    from neurometamer.study.rsa_commands import layer_files

    with one_step("layers"):
        folder = layer_files(
            network, brain, out, rois=rois, kind=kind, by=by.lower(), join=join, train_on=train_on,
            n_folds=folds or None, preferred=preferred, resamples=resamples, permutations=permutations,
            confidence=confidence, seed=seed,
        )  # fmt: skip
    typer.echo(folder)


def searchlight(
    out: Annotated[Path, typer.Option(help="Folder for the maps, summary.csv and a record of each.")],
    patterns: Annotated[Path | None, typer.Option(help="File of 'fmri patterns'; or give --betas.")] = None,
    betas: Annotated[
        Path | None, typer.Option(help="Folder of 'fmri betas'; with --mesh, a .func.gii file and --table.")
    ] = None,
    table: Annotated[Path | None, typer.Option(help="Conditions of the data arrays of a .func.gii file.")] = None,
    mask: Annotated[Path | None, typer.Option(help="Binary NIfTI: spheres in its voxels; or give --mesh.")] = None,
    mesh: Annotated[Path | None, typer.Option(help="Surface, .surf.gii or FreeSurfer: disks along its edges.")] = None,
    model: Annotated[Path | None, typer.Option(help="HDF5 file of model RDMs; a map each.")] = None,
    kinds: Annotated[list[str], typer.Option(help="Pairs as RE-AN; a map each.")] = [],  # noqa: B006
    stimuli: Annotated[Path | None, typer.Option(help="stimuli.csv: id, kind, reference_id.")] = None,
    reliability: Annotated[bool, typer.Option("--reliability", help="Also map the reliability of RDMs.")] = False,
    radius: Annotated[float, typer.Option(help="Millimeters.")] = 6.0,
    measure: Annotated[str, typer.Option(help="RDMs by spearman, pearson, or crossnobis over runs.")] = "spearman",
    by: Annotated[str, typer.Option(help="RDMs are compared by spearman, pearson, rho-a or cosine.")] = "spearman",
    permutations: Annotated[int, typer.Option(min=0, help="Permutations of labels, for p and max-T; 0: none.")] = 0,
    seed: Seed = 0,
) -> None:
    """Map where a cortex is like a model, treats two kinds of images alike, and is reliable.

    Python: neurometamer.searchlight_files.
    """
    from neurometamer.study.rsa_commands import searchlight_files

    with one_step("searchlight") as progress:
        folder = searchlight_files(
            out, patterns=patterns, betas=betas, table=table, mask=mask, mesh=mesh, models=model, kinds=kinds,
            stimuli=stimuli, reliability=reliability, radius_mm=radius, measure=measure.lower(), by=by.lower(),
            permutations=permutations, seed=seed, progress=progress,
        )  # fmt: skip
    typer.echo(folder)
