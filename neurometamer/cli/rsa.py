"""Commands of RSA: layers, searchlights, figures of RDMs, CKA and control RDMs.

They parse, call and print.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from neurometamer.cli.options import (
    BatchSize,
    Bits,
    Blocks,
    Classes,
    Confidence,
    Descriptor,
    DeviceName,
    Icc,
    Images,
    Join,
    Resamples,
    Seed,
    SetWeights,
    Stages,
    one_of,
    one_step,
)


def layers(
    network: Annotated[
        Path, typer.Argument(help="RDMs of a network's stages, early to late; HDF5 of 'rdm'.")
    ],
    brain: Annotated[
        list[str],
        typer.Option(
            help="RDMs of regions, one or more files: HDF5 of 'rdm', or of other programs as "
            "FILE=subject:roi, e.g. "
            "it.mat=S1:IT; FILE=*:IT takes the names of several RDMs in the file as subjects."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder for the tables, figures and the page index.html.")
    ],
    rois: Annotated[
        list[str],
        typer.Option(help="Regions, early to late; the order of the files when not given."),
    ] = [],  # noqa: B006
    ids: Annotated[
        Path | None,
        typer.Option(help="Table (id or file) in the order of brain files that name no ids."),
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="Only images of this kind, joined by photograph.")
    ] = None,
    by: Annotated[
        str,
        one_of(
            table="neurometamer.rsa.comparators.table:COMPARATORS,"
            "neurometamer.rsa.comparators.table:ALIASES",
            help="spearman, pearson, rho-a, cosine; tau-a: at most 1000 permutations.",
        ),
    ] = "spearman",
    join: Join = "exact",
    train_on: Annotated[
        str,
        one_of(
            table="neurometamer.rsa.layers.weighted:TRAINING",
            help="Layer and weights from the other subjects and stimuli: both, stimuli, or "
            "subjects.",
        ),
    ] = "both",
    folds: Annotated[
        int, typer.Option(min=0, help="Parts of the stimuli; 0: 2 to 5, by their number.")
    ] = 0,
    preferred: Annotated[
        str,
        one_of(
            table="neurometamer.rsa.layers.hierarchy:PREFERENCES",
            help="How preferred layers are shown: center (of mass) or best; tested alike.",
        ),
    ] = "center",
    resamples: Resamples = 1000,
    permutations: Annotated[
        int, typer.Option(min=0, help="Permutations of labels; 0 for no p.")
    ] = 10_000,
    blocks: Blocks = None,
    classes: Classes = "fixed",
    confidence: Confidence = 0.95,
    descriptor: Descriptor = None,
    seed: Seed = 0,
) -> None:
    """Set layers beside regions.

    The tables are similarity and ceilings, best layer, hierarchy and weighted layers,
    cross-validated.

    Python: neurometamer.layer_files.
    """
    from neurometamer.commands.layers import layer_files

    with one_step("layers") as progress:
        folder = layer_files(
            network,
            brain,
            out,
            rois=rois,
            ids=ids,
            kind=kind,
            by=by.lower(),
            join=join,
            train_on=train_on,
            n_folds=folds or None,
            preferred=preferred,
            resamples=resamples,
            permutations=permutations,
            blocks=blocks,
            classes=classes.lower(),
            confidence=confidence,
            descriptor=descriptor,
            seed=seed,
            progress=progress,
        )
    typer.echo(folder / "index.html")


def searchlight(
    out: Annotated[
        Path,
        typer.Option(
            help="Folder for the maps, summary.csv, a record of each, figures and the page "
            "index.html."
        ),
    ],
    patterns: Annotated[
        Path | None, typer.Option(help="File of 'fmri patterns'; or give --betas.")
    ] = None,
    betas: Annotated[
        Path | None,
        typer.Option(help="Folder of 'fmri betas'; with --mesh, a .func.gii file and --table."),
    ] = None,
    table: Annotated[
        Path | None, typer.Option(help="Conditions of the data arrays of a .func.gii file.")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(help="Binary NIfTI: spheres in its voxels; or give --mesh.")
    ] = None,
    mesh: Annotated[
        Path | None, typer.Option(help="Surface, .surf.gii or FreeSurfer: disks along its edges.")
    ] = None,
    model_rdms: Annotated[
        Path | None, typer.Option(help="HDF5 file of model RDMs; a map each.")
    ] = None,
    kinds: Annotated[list[str], typer.Option(help="Pairs as RE-AN; a map each.")] = [],  # noqa: B006
    stimuli: Annotated[
        Path | None, typer.Option(help="stimuli.csv: id, kind, reference_id.")
    ] = None,
    reliability: Annotated[
        bool, typer.Option("--reliability", help="Also map the reliability of RDMs.")
    ] = False,
    radius_mm: Annotated[float, typer.Option(help="Of the spheres or disks.")] = 6.0,
    measure: Annotated[
        str,
        one_of(
            table="neurometamer.rsa.searchlight.maps:MEASURES",
            help="RDMs by spearman, pearson, or crossnobis over runs.",
        ),
    ] = "spearman",
    by: Annotated[
        str,
        one_of(
            table="neurometamer.rsa.comparators.table:linear_comparators",
            help="RDMs are compared by spearman, pearson, rho-a or cosine.",
        ),
    ] = "spearman",
    permutations: Annotated[
        int, typer.Option(min=0, help="Permutations of labels, for p and max-T; 0: none.")
    ] = 0,
    space: Annotated[
        str,
        one_of(
            table="neurometamer.figures.brain_maps:SPACES",
            help="native, or MNI: only then is a map drawn on a glass brain.",
        ),
    ] = "native",
    hemisphere: Annotated[
        str | None,
        one_of(
            "left",
            "right",
            help="left or right, where the mesh's name does not tell (lh., hemi-L, .L.).",
        ),
    ] = None,
    seed: Seed = 0,
) -> None:
    """Map where a cortex is like a model, treats two kinds of images alike, and is reliable.

    Python: neurometamer.searchlight_files.
    """
    from neurometamer.commands.searchlight import searchlight_files

    with one_step("searchlight") as progress:
        folder = searchlight_files(
            out,
            patterns=patterns,
            betas=betas,
            table=table,
            mask=mask,
            mesh=mesh,
            models=model_rdms,
            kinds=kinds,
            stimuli=stimuli,
            reliability=reliability,
            radius_mm=radius_mm,
            measure=measure.lower(),
            by=by.lower(),
            permutations=permutations,
            space=space,
            hemisphere=hemisphere,
            seed=seed,
            progress=progress,
        )
    typer.echo(folder / "index.html")


def draw(
    rdms: Annotated[
        str,
        typer.Argument(
            help="RDMs: HDF5 of 'rdm', or .mat, .npz, .npy, .csv of other programs "
            "(FILE=subject:roi)."
        ),
    ],
    images: Annotated[
        list[Path],
        typer.Option(
            help="Stimulus folders, folders of images, or tables (file; id, kind, category)."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the page index.html and its figures.")],
    bands: Annotated[
        str | None,
        one_of(
            table="neurometamer.commands.draw:BANDS",
            help="category or kind, along the edges of RDMs; category where all images have one.",
        ),
    ] = None,
    place: Annotated[
        list[str],
        typer.Option(
            help="Only RDMs of these regions, stages, subjects or 'mean' of subjects; else all."
        ),
    ] = [],  # noqa: B006
    embedding: Annotated[
        str,
        one_of(
            table="neurometamer.figures.rdms:ARRANGEMENTS",
            help="How stimuli are placed: mds or tsne.",
        ),
    ] = "mds",
    perplexity: Annotated[
        float | None, typer.Option(help="Of tsne; by default at most 30.")
    ] = None,
    ids: Annotated[
        Path | None,
        typer.Option(
            help="Table (id or file) in the order of the RDMs, where their file names no ids."
        ),
    ] = None,
    variable: Annotated[
        str | None, typer.Option(help="Which variable of the file, where it holds several.")
    ] = None,
    measure: Annotated[
        str, typer.Option(help="What RDMs of other programs are; crossnobis may be negative.")
    ] = "",
    descriptor: Descriptor = None,
    seed: Seed = 0,
) -> None:
    """Draw RDMs with bands of categories or kinds.

    The images are drawn where their dissimilarities place them.

    Python: neurometamer.draw_rdms.
    """
    from neurometamer.commands.draw import draw_rdms
    from neurometamer.store import read_json

    with one_step("figures") as progress:
        page = draw_rdms(
            rdms,
            images,
            out,
            bands=bands,
            place=place,
            method=embedding,
            perplexity=perplexity,
            ids=ids,
            variable=variable,
            measure=measure,
            descriptor=descriptor,
            seed=seed,
            progress=progress,
        )
    for note in read_json(out / "draw.json")["notes"]:
        typer.echo(f"note: {note}", err=True)
    typer.echo(page)


def cka(
    a: Annotated[
        str, typer.Argument(help="File of activations or of 'fmri patterns', or a network's name.")
    ],
    b: Annotated[str, typer.Argument(help="The same; once more the same: stages with each other.")],
    out: Annotated[Path, typer.Option(help="CSV to write.")],
    images: Images = [],  # noqa: B006
    kind: Annotated[
        str | None, typer.Option(help="Only images of this kind; --images tells kinds.")
    ] = None,
    join: Join = "exact",
    debiased: Annotated[
        bool,
        typer.Option(
            "--debiased", help="Unbiased estimate: few images and many units do not raise it."
        ),
    ] = False,
    stages: Stages = [],  # noqa: B006
    weights: SetWeights = "default",
    bits: Bits = None,
    icc: Icc = "ignore",
    device: DeviceName = "auto",
    batch_size: BatchSize = 8,
    seed: Seed = 0,
) -> None:
    """Compare stages of networks, and regions, by linear CKA of their responses to the same images.

    Python: neurometamer.cka_files.
    """
    from neurometamer.commands.cka import cka_files

    with one_step("CKA") as progress:
        cka_files(
            a,
            b,
            out,
            images=images,
            kind=kind,
            join=join,
            debiased=debiased,
            stages=stages,
            weights=weights,
            device=device,
            batch_size=batch_size,
            seed=seed,
            bits=bits,
            icc=icc,
            progress=progress,
        )
    typer.echo(out)


def controls(
    images: Images,
    out: Annotated[Path, typer.Option(help="HDF5 file to write, for 'compare --controls'.")],
    which: Annotated[
        list[str],
        one_of(
            table="neurometamer.rsa.controls:CONTROLS",
            help="Some of pixels, luminance, gabor, category; the first three when not given.",
        ),
    ] = [],  # noqa: B006
    category: Annotated[
        str, typer.Option(help="Column of the images' table with the categories.")
    ] = "category",
    model: Annotated[
        str,
        typer.Option(
            help="Network whose size and cut photographs get; stimulus folders are as they are."
        ),
    ] = "efficientnet_lite0",
    bits: Bits = None,
    icc: Icc = "ignore",
) -> None:
    """Make control RDMs of images: what they share in pixels, luminance, Gabor energy or category.

    Python: neurometamer.make_control_rdms.
    """
    from neurometamer.commands.controls import make_control_rdms

    chosen = which or ["pixels", "luminance", "gabor"]
    with one_step("control RDMs"):
        make_control_rdms(
            images, out, controls=chosen, column=category, model=model, bits=bits, icc=icc
        )
    typer.echo(out)
