"""Contrasts of localizers: from the runs of a subject to maps on which regions set thresholds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from fmri.betas.contrasts import check_conditions, estimate_contrast, write_contrast
from fmri.betas.event_designs import run_designs
from fmri.bold import BoldRun
from fmri.grids import Grid, check_grid
from fmri.rois.algebra import sources_of
from fmri.rois.reader import tree_of
from fmri.rois.regions import read_masks
from fmri.series import is_volume
from neurometamer.errors import InputError, name_ids
from neurometamer.study.brain_steps import read_listed, scanned
from neurometamer.study.plan import Progress, Workspace
from neurometamer.study.settings import Contrast, Localizer, Subject


def localizer_files(work: Workspace, subject: str, name: str) -> Localizer:
    """Name the files of the localizer of a contrast.

    Parameters
    ----------
    work : Workspace
        Settings and the user's files.
    subject : str
        Name of the subject.
    name : str
        Name of the contrast.

    Returns
    -------
    Localizer
        Of a BIDS data set those of its task, in all sessions.

    Raises
    ------
    InputError
        When the subject has none, or something is wrong with them.
    """
    brain = work.settings.brain
    task = brain.contrasts[name].task or name
    if brain.source != "bids":
        return scanned(work, subject).localizers[task]
    layout = work.localizers[name]
    if subject.removeprefix("sub-") not in layout.subjects:
        raise InputError(
            f"{subject} has no runs of the task '{task}' for the contrast '{name}'; only "
            f"{name_ids(layout.subjects)} have. Add them, or leave the subject out."
        )
    files = layout.files(subject)
    named = {kind: tuple(map(str, paths)) for kind, paths in files.items()}
    return Localizer(tedana=named.pop("mixing"), **named)


def open_localizer(work: Workspace, files: Subject, name: str) -> list[BoldRun]:
    """Open the runs of the localizer of a contrast; images are not read.

    Parameters
    ----------
    work : Workspace
        Settings and the user's files.
    files : Subject
        Files of the subject.
    name : str
        Name of the contrast.

    Returns
    -------
    list of BoldRun
        Of the same kind as the other images of the subject.

    Raises
    ------
    InputError
        When there are none, or volumes are mixed with surfaces or CIFTI.
    """
    contrast = work.settings.brain.contrasts[name]
    runs = read_listed(
        work,
        localizer_files(work, files.id, name),
        subject=files.id,
        t_r=contrast.t_r or None,
        condition_column=contrast.condition_column,
        affine=files.affine,
        hemispheres=files.hemispheres,
    )
    are_volumes = all(map(is_volume, files.bold))
    kinds = {True: "a volume", False: "of surfaces or CIFTI"}
    for run in runs:
        if run.grid.is_volume != are_volumes:
            raise InputError(
                f"{run.label} is {kinds[run.grid.is_volume]}, but the other runs of {files.id} are "
                f"not; give runs that are {kinds[are_volumes]}."
            )
    return runs


def check_contrast(work: Workspace, files: Subject, name: str, grid: Grid | None) -> None:
    """Check the runs of a localizer, their designs and the conditions of the contrast.

    Parameters
    ----------
    work : Workspace
        Settings and the user's files.
    files : Subject
        Files of the subject.
    name : str
        Name of the contrast.
    grid : Grid or None
        Grid of the subject's other images, where it is known.

    Raises
    ------
    InputError
        When the contrast cannot be estimated, or its map lies on another grid.
    """
    contrast = work.settings.brain.contrasts[name]
    shown: dict[str, None] = {}
    runs = open_localizer(work, files, name)
    for run in runs:
        if grid is not None and files.resample == "never":
            check_grid(run.grid, grid, cure='give images of one grid, or resample = "nearest"')
    for events, _ in run_designs(runs, per="condition", **_design(contrast, files)):
        shown |= dict.fromkeys(events["trial_type"])
    check_conditions(contrast.contrast, list(shown))


def _design(contrast: Contrast, files: Subject) -> dict[str, Any]:
    """Give the options of the design of a localizer's runs."""
    return {
        "hrf_model": contrast.hrf_model,
        "high_pass": contrast.high_pass,
        "ignore": contrast.ignore,
        "slice_time_ref": files.slice_time_ref,
    }


def waits_for_contrast(
    work: Workspace, files: Subject, roi: str, seen: tuple[str, ...] = ()
) -> bool:
    """Say whether the map of a contrast takes part in a region, by itself or in other regions.

    Parameters
    ----------
    work : Workspace
        Settings.
    files : Subject
        Files of the subject.
    roi : str
        The region.
    seen : tuple of str
        Regions that it is a part of.

    Returns
    -------
    bool
        Whether the region is known only after the contrast was estimated.

    Raises
    ------
    InputError
        When a definition cannot be parsed.
    """
    if not work.settings.brain.contrasts:
        return False
    around = (*seen, roi)
    for source in sources_of(tree_of(files.masks[roi], work.base)):
        name = source.text
        if name in work.settings.brain.contrasts:
            return True
        is_part = name in files.masks and name not in around
        if is_part and waits_for_contrast(work, files, name, around):
            return True
    return False


def contrasts(work: Workspace, progress: Progress, *, subject: str) -> Iterable[Path]:
    """Estimate the contrasts of the localizers of a subject, in its brain mask or everywhere.

    Parameters
    ----------
    work : Workspace
        Settings and folder.
    progress : Progress
        Told after each contrast.
    subject : str
        Name of the subject.

    Returns
    -------
    iterable of Path
        ``effect.nii.gz``, ``t.nii.gz``, ``z.nii.gz`` (of surfaces and CIFTI ``.dscalar.nii``) and
        ``contrast.json`` of each contrast.
    """
    files = scanned(work, subject)
    brain = work.settings.brain
    written: list[Path] = []
    for done, (name, contrast) in enumerate(brain.contrasts.items(), start=1):
        runs = open_localizer(work, files, name)
        mask = None
        if files.brain_mask and runs[0].grid.is_volume:
            brain_mask = {"brain": work.source(files.brain_mask)}
            mask = read_masks(brain_mask, runs[0].image, affine=files.affine)["brain"]
        maps = estimate_contrast(
            runs,
            contrast.contrast,
            mask=mask,
            noise_model=contrast.noise_model,
            **_design(contrast, files),
        )
        folder = write_contrast(maps, work.state("contrasts", subject, name))
        written += [file for file in folder.iterdir() if not file.name.startswith(".")]
        progress(done, len(brain.contrasts))
    return written
