"""Steps that make or read BOLD files and turn them into patterns and RDMs."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.betas.choices import beta_rows
from fmri.betas.estimate import estimate_betas
from fmri.bold import BoldRun, read_runs
from fmri.confounds import PREPARED, strategy_confounds
from fmri.grids import Grid
from fmri.patterns import Patterns, read_patterns, voxel_key, write_patterns
from fmri.pooling import pool_subjects, zscore_patterns
from fmri.reliability import reliability_table, voxel_reliability
from fmri.residuals import glm_residuals, read_residuals, write_residuals
from fmri.rois.files import split_label
from fmri.rois.regions import Regions, names_file, read_regions
from fmri.selection import REGULAR, Criterion, select_voxels
from fmri.series import is_volume
from fmri.simulate import SimulationOptions, simulate_subject
from fmri.surfaces import read_mesh
from neurometamer.activations import compute_activations
from neurometamer.errors import InputError, name_ids
from neurometamer.provenance import digest_file, generator
from neurometamer.rsa.compute import MIN_VOXELS, match_ids, pattern_rdms, write_rdms
from neurometamer.rsa.searchlight.selection import searchlight_criterion
from neurometamer.store import read_json, write_hdf5, write_json, write_table
from neurometamer.study.image_steps import seen_by, shown_stimuli, stimulus_table
from neurometamer.study.plan import Progress, Workspace
from neurometamer.study.settings import Localizer, Subject
from neurometamer.zoo import load_model
from stimuli_gen.features import gabor_energy

METHOD = "Pearson correlation of odd and even presentations over regular images, median over voxels"
"""Method of the two columns of reliability."""


def subject_names(work: Workspace) -> tuple[str, ...]:
    """Name the study's subjects."""
    brain = work.settings.brain
    if brain.source == "simulated":
        numbers = range(1, brain.simulation.subjects + 1)
        return tuple(f"sub-{number:02d}" for number in numbers)
    if brain.source in ("bold", "patterns"):
        return tuple(subject.id for subject in brain.subjects if isinstance(subject, Subject))
    if brain.source == "bids":
        return tuple(f"sub-{label}" for label in work.layout.subjects)
    return ()


def scanned(work: Workspace, name: str) -> Subject:
    """Name the files of a subject: the user's, or those that the simulation wrote."""
    brain = work.settings.brain
    if brain.source in ("bold", "patterns"):
        listed = [subject for subject in brain.subjects if isinstance(subject, Subject)]
        return next(subject for subject in listed if subject.id == name)
    if brain.source == "bids":
        files = work.layout.files(name)
        found = work.layout.masks(name)
        regions, lacking = {}, []
        for roi, definition in brain.rois.items():
            if roi in found:
                _, label = split_label(definition)
                regions[roi] = f"{found[roi]}:{label}" if label else str(found[roi])
            elif names_file(definition):
                lacking.append(roi)
            else:
                regions[roi] = definition.replace("{subject}", name.removeprefix("sub-"))
        if lacking:
            raise InputError(
                f"{name} lacks the ROI(s) {name_ids(lacking)} of [brain.rois]; correct the "
                "patterns, or leave the subject out."
            )
        at = brain.slice_time_ref
        return Subject(
            id=name,
            bold=tuple(map(str, files["bold"])),
            events=tuple(map(str, files["events"])),
            confounds=tuple(map(str, files["confounds"])),
            tedana=tuple(map(str, files["mixing"])),
            masks=regions,
            t_r=brain.t_r,
            slice_time_ref=None if isinstance(at, str) else at,
            affine=brain.affine,
            condition_column=brain.id_column,
        )
    written: Mapping[str, str] = read_json(work.state("brain-files.json"))
    ours = [file for file in written if file.startswith(f"brain/{name}/")]
    simulated = sorted(str(work.path(file).resolve()) for file in ours)
    masks = {}
    for roi in work.settings.brain.simulation.mixing:
        for file in simulated:
            if file.endswith(f"roi-{roi}_mask.nii"):
                masks[roi] = file
    return Subject(
        id=name,
        bold=tuple(file for file in simulated if file.endswith("_bold.nii")),
        events=tuple(file for file in simulated if file.endswith("_events.tsv")),
        confounds=tuple(file for file in simulated if file.endswith("_confounds.tsv")),
        masks=masks,
    )


def cortex(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Simulate every subject: BOLD runs, events, masks, and the truth that was planted."""
    simulation = work.settings.brain.simulation
    options = SimulationOptions(responding=simulation.responding, noise_sd=simulation.noise_sd)
    features = planted_features(work)
    ids = shown_stimuli(work).ids
    mixing = {}
    for roi, share in simulation.mixing.items():
        mixing[roi] = {"gabor": 1 - share, "object": share}
    names = subject_names(work)
    planted = {**features, "condition": np.array(ids)}
    written = [write_hdf5(work.state("planted.h5"), arrays=planted)]
    for number, name in enumerate(names):
        subject = simulate_subject(
            work.path("brain", name),
            subject=name,
            conditions=ids,
            features=features,
            mixing=mixing,
            seed=work.settings.study.seed,
            voxels_per_roi=simulation.voxels_per_roi,
            n_runs=simulation.runs,
            options=options,
        )
        written += [
            *subject.bold,
            *subject.events,
            *subject.confounds,
            *subject.masks.values(),
            subject.truth_path,
        ]
        progress(number + 1, len(names))
    digests = {}
    for path in written:
        if path.suffix != ".h5":
            digests[path.relative_to(work.folder).as_posix()] = digest_file(path)
    return [*written, write_json(work.state("brain-files.json"), digests)]


def planted_features(work: Workspace) -> dict[str, np.ndarray]:
    """Make the two feature spaces that the simulated cortex follows.

    ``gabor``: Gabor energy of the pixels shown. ``object``: what people see. A photograph and its
    AI image share the photograph's features in a late stage of a fixed network; each AN image has a
    random percept of its own. So nothing in the cortex follows adversarial structure.
    """
    simulation = work.settings.brain.simulation
    shown = shown_stimuli(work)
    model = load_model(work.network(simulation.object_model), device="cpu")
    ids = shown.table["id"][shown.table["kind"] == "RE"].tolist()
    photographs = seen_by(model, shown, work.path("stimuli")).select(ids=ids)
    activations = compute_activations(model, photographs, stages=[simulation.object_stage])
    responses = activations.read(simulation.object_stage).astype(np.float64)
    seen = dict(zip(ids, responses, strict=True))
    center = responses.mean(axis=0)
    spread = responses.std(axis=0)
    percepts = []
    for row in shown.table.itertuples(index=False):
        if row.kind == "AN":
            random = generator(work.settings.study.seed, "percept", row.id)
            percepts.append(center + spread * random.standard_normal(len(center)))
        else:
            percepts.append(seen[row.reference_id])
    pixels = np.asarray(shown.images)
    return {"gabor": gabor_energy(pixels), "object": np.stack(percepts)}


def open_runs(work: Workspace, subject: str) -> list[BoldRun]:
    """Open the runs of a subject.

    Headers, sidecars, events and confounds are read and checked; images are not.
    """
    files = scanned(work, subject)
    return read_listed(
        work,
        files,
        subject=subject,
        t_r=files.t_r or None,
        condition_column=files.condition_column,
        affine=files.affine,
        hemispheres=files.hemispheres,
    )


def read_listed(
    work: Workspace, files: Subject | Localizer, *, subject: str, **options: Any
) -> list[BoldRun]:
    """Open runs by their files, with the confounds that ``[glm]`` chooses.

    Options are those of `fmri.read_runs`.
    """
    if work.settings.glm.strategy and not confound_files(work, files):
        raise InputError(
            f"glm.strategy: {name_ids(work.settings.glm.strategy)} need tables of confounds, and "
            f"{subject} has none; give them (confounds, or derivatives that hold them), or leave "
            "the strategy out."
        )
    numbers = range(len(confound_files(work, files)))
    tables = [run_confounds(work, files, number) for number in numbers]
    return read_runs(
        [work.source(file) for file in files.bold],
        [work.source(file) for file in files.events],
        tables or None,
        subject=subject,
        columns=confound_columns(work),
        **options,
    )


def with_contrasts(work: Workspace, files: Subject) -> dict[str, str]:
    """Give the definitions of a subject's regions, and the maps of contrasts that they name."""
    definitions = dict(files.masks)
    ending = ".nii.gz" if all(map(is_volume, files.bold)) else ".dscalar.nii"
    for name, contrast in work.settings.brain.contrasts.items():
        file = work.state("contrasts", files.id, name, f"{contrast.statistic}{ending}")
        definitions[name] = str(file.resolve())
    return definitions


def subject_regions(
    work: Workspace,
    files: Subject,
    grid: Grid,
    only: Sequence[str] = (),
    *,
    with_pool: bool = False,
) -> Regions:
    """Read the regions of a subject, by default those that are analyzed.

    Names of files are relative to the study file. `with_pool` reads the others, too, for noise
    regressors.
    """
    return read_regions(
        with_contrasts(work, files),
        grid,
        affine=files.affine,
        resample=files.resample,
        space=files.space,
        brain_mask=work.source(files.brain_mask) if files.brain_mask else None,
        only=only or analyzed_regions(work, files),
        folder=work.base,
        with_pool=with_pool,
    )


def analyzed_regions(work: Workspace, files: Subject) -> list[str]:
    """Name the regions of a subject that are analyzed; the others are parts of their expressions.

    Parameters
    ----------
    work : Workspace
        Settings.
    files : Subject
        Masks of the subject.

    Returns
    -------
    list of str
        All where ``[brain] only`` is empty.

    Raises
    ------
    InputError
        When the subject has none of them.
    """
    only = work.settings.brain.only
    if not only:
        return list(files.masks)
    names = [roi for roi in only if roi in files.masks]
    if not names:
        raise InputError(
            f"brain.only: {files.id} has none of {name_ids(only)}; it has {name_ids(files.masks)}. "
            "Add a mask, or leave the subject out."
        )
    return names


def confound_files(work: Workspace, files: Subject | Localizer) -> Sequence[str]:
    """Name the tables of confounds of a subject; those of tedana where it is the only strategy."""
    if set(work.settings.glm.strategy) == {"tedana"}:
        return files.confounds or files.tedana
    return files.confounds


def run_confounds(work: Workspace, files: Subject | Localizer, number: int) -> Path | pd.DataFrame:
    """Give the table of confounds of a run, or what a strategy takes of it."""
    glm = work.settings.glm
    table = work.source(confound_files(work, files)[number])
    if not glm.strategy:
        return table
    mixing = work.source(files.tedana[number]) if files.tedana else ""
    image = files.bold[number]
    options = glm.strategy_options
    return strategy_confounds(table, glm.strategy, image=image, mixing=mixing, **options)


def confound_columns(work: Workspace) -> Sequence[str] | None:
    """Name the columns to use of the tables of `run_confounds`; None leaves it open."""
    glm = work.settings.glm
    return PREPARED if glm.strategy else glm.confounds or None


def given_patterns(work: Workspace, subject: str, ids: Sequence[str]) -> Patterns:
    """Read responses that were estimated before, to the images of the study.

    Parameters
    ----------
    work : Workspace
        Settings and the user's files.
    subject : str
        Name of the subject, which the voxels get.
    ids : sequence of str
        Images of the study.

    Returns
    -------
    Patterns
        Responses to these images.

    Raises
    ------
    InputError
        When the file cannot be read, or lacks an image.

    Warns
    -----
    UserWarning
        When it holds responses to other images, which are left out.
    """
    path = work.source(scanned(work, subject).patterns)
    whole = read_patterns(path)
    known = set(whole.conditions)
    lacking = [name for name in ids if name not in known]
    if lacking:
        raise InputError(
            f"{path.name} has no response of {subject} to image(s) {name_ids(lacking)}; it holds "
            f"{name_ids(whole.conditions)}. Give patterns and images with the same ids."
        )
    if len(known) > len(ids):
        warnings.warn(
            f"{path.name}: responses to {len(known) - len(ids)} image(s) that are not in the study "
            "are left out.",
            stacklevel=2,
        )
    own = replace(whole, voxels=whole.voxels.assign(subject=subject))
    return own.select(conditions=list(ids))


def betas(work: Workspace, progress: Progress, *, subject: str) -> Iterable[Path]:
    """Estimate one beta per image × presentation.

    Simulated and measured subjects take the same path; betas made elsewhere are read.
    """
    files = scanned(work, subject)
    if files.patterns:
        with _without_repeated_warnings():
            given = given_patterns(work, subject, shown_stimuli(work).ids)
        return [write_patterns(given, work.state("betas", f"{subject}.h5"))]
    glm = work.settings.glm
    with _without_repeated_warnings():
        runs = open_runs(work, subject)
    if work.settings.brain.contrasts:  # their maps were not there for the checks
        rois = subject_regions(work, files, runs[0].grid)
        check_sizes(rois, subject)
    with _without_repeated_warnings():
        fitted = estimate_betas(
            runs,
            subject_regions(work, files, runs[0].grid, with_pool=bool(glm.n_noise)),
            hrf_model=glm.hrf_model,
            high_pass=glm.high_pass,
            noise_model=glm.noise_model,
            estimator=glm.estimator,
            units=glm.units,
            ignore=glm.ignore,
            slice_time_ref=files.slice_time_ref,
            unusable=glm.unusable,
            max_memory=glm.max_memory,
            single_trials=glm.single_trials(),
            progress=progress,
        )
    # Refuse events without a stimulus before anything is computed from them.
    match_ids(fitted.conditions, shown_stimuli(work).ids, f"events of {subject}", "the stimuli")
    scaled = zscore_patterns(fitted, glm.zscore)
    return [write_patterns(scaled, work.state("betas", f"{subject}.h5"))]


def check_sizes(rois: Regions, subject: str) -> None:
    """Refuse regions that have too few voxels for a pattern.

    Parameters
    ----------
    rois : Regions
        Regions of one subject.
    subject : str
        Its name.

    Raises
    ------
    InputError
        With their sizes.
    """
    sizes = rois.table.set_index("roi")["n_voxels"]
    small = sizes[sizes < MIN_VOXELS]
    if len(small):
        named = [f"{roi} ({size})" for roi, size in small.items()]
        raise InputError(
            f"{subject}: too few voxels for a pattern in {name_ids(named)}; give lower thresholds "
            "or larger regions, or leave these out (only)."
        )


def residuals(work: Workspace, progress: Progress, *, subject: str) -> Iterable[Path]:
    """Keep what the general linear model leaves of a subject's runs, the noise of voxels."""
    glm = work.settings.glm
    files = scanned(work, subject)
    with _without_repeated_warnings():
        runs = open_runs(work, subject)
        left = glm_residuals(
            runs,
            subject_regions(work, files, runs[0].grid),
            hrf_model=glm.hrf_model,
            high_pass=glm.high_pass,
            noise_model=glm.noise_model,
            units=glm.units,
            ignore=glm.ignore,
            slice_time_ref=files.slice_time_ref,
            progress=progress,
        )
    return [write_residuals(left, work.state("residuals", f"{subject}.h5"))]


@contextlib.contextmanager
def _without_repeated_warnings() -> Iterator[None]:
    """Do not repeat the warnings of the checks before the first step; tell what the fit found."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        for found in ("no noise regressors: ", r"\d+ of the \d+ voxels that events explain"):
            warnings.filterwarnings("default", message=found)
        yield


def patterns(work: Workspace, progress: Progress, *, subject: str) -> Iterable[Path]:
    """Keep the best voxels of each region of a subject, by default judged on regular images."""
    selection = work.settings.selection
    chosen = read_patterns(work.state("betas", f"{subject}.h5"))
    if selection.voxels_per_roi:
        criterion: str | Criterion = selection.criterion
        if criterion == "searchlight":
            meshes = {}
            for side, file in mesh_files(work, scanned(work, subject)).items():
                meshes[side] = read_mesh(file)
            criterion = searchlight_criterion(radius_mm=selection.radius_mm, meshes=meshes or None)
        with _without_repeated_warnings():
            chosen = select_voxels(
                chosen,
                conditions=images_of_type(stimulus_table(work), selection.image_type),
                criterion=criterion,
                n_per_roi=selection.voxels_per_roi,
                image_types=_image_types(work),
            )
    return [write_patterns(chosen, work.path("patterns", f"{subject}.h5"))]


HEMISPHERE_WORDS = {"L": ("L", "lh"), "R": ("R", "rh")}
"""Hemisphere → what ``{hemi}`` of ``[selection] meshes`` stands for."""


def mesh_files(work: Workspace, files: Subject) -> dict[str, Path]:
    """Find the meshes of a subject on which voxels are selected.

    Parameters
    ----------
    work : Workspace
        Settings and the user's files.
    files : Subject
        The subject.

    Returns
    -------
    dict of str to Path
        Hemisphere to its file; empty without meshes in the settings. Of a subject with one
        hemisphere alone, that one.

    Raises
    ------
    InputError
        When a mesh is missing, or both ways to name a hemisphere fit.
    """
    pattern = work.settings.selection.meshes
    if not pattern:
        return {}
    label = files.id
    if work.settings.brain.source == "bids":
        label = label.removeprefix("sub-")
    found = {}
    for side, words in HEMISPHERE_WORDS.items():
        names = [pattern.replace("{subject}", label).replace("{hemi}", word) for word in words]
        there = [name for name in names if (work.base / Path(name).expanduser()).is_file()]
        if len(there) > 1:
            raise InputError(
                f"selection.meshes: {name_ids(there)} both fit; write the folder or name such that "
                "one does."
            )
        if there:
            found[side] = work.source(there[0])
        elif files.hemispheres == "both":
            raise InputError(
                f"selection.meshes: there is no {' and no '.join(names)}; correct the pattern "
                "([selection] meshes)."
            )
    return found


def regions(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Measure size, reliability and noise ceilings of regions, before and after the selection.

    Where betas were made with options of single trials, what was chosen and gained is told, too.
    """
    regular = images_of_type(stimulus_table(work), REGULAR)
    rows = []
    ceilings = []
    chosen = []
    for name in subject_names(work):
        before = read_patterns(work.state("betas", f"{name}.h5"))
        after = read_patterns(work.path("patterns", f"{name}.h5"))
        rows += region_rows(before, after, regular)
        chosen += beta_rows(before)
        ceilings.append(reliability_table(after, _image_types(work)))
    written = [
        write_table(work.path("tables", "regions.csv"), pd.DataFrame(rows)),
        write_table(work.path("tables", "ceilings.csv"), pd.concat(ceilings, ignore_index=True)),
    ]
    if chosen:
        written.append(write_table(work.path("tables", "betas.csv"), pd.DataFrame(chosen)))
    return written


def region_rows(
    before: Patterns, after: Patterns, conditions: Sequence[str]
) -> list[dict[str, Any]]:
    """Measure how large each region of one subject is and how reliable its voxels are.

    Parameters
    ----------
    before : Patterns
        Responses of all usable voxels.
    after : Patterns
        Responses of the voxels that were selected.
    conditions : sequence of str
        Ids of the regular images, on which reliability is measured.

    Returns
    -------
    list of dict
        One a region: subject, roi, n_mask (voxels of the mask), n_voxels (usable ones), n_selected,
        reliability and reliability_selected (median over voxels in [-1, 1]; NaN where it cannot be
        measured), method, reason.
    """
    columns = voxel_key(before.voxels)
    kept = pd.MultiIndex.from_frame(after.voxels[columns])
    is_selected = pd.MultiIndex.from_frame(before.voxels[columns]).isin(kept)
    reason = ""
    try:
        measured = voxel_reliability(before, conditions)
    except InputError as error:
        measured = np.full(len(before.voxels), np.nan)
        reason = str(error)
    table = before.voxels.assign(reliability=measured, selected=is_selected)
    masks = before.provenance.get("masks", {})
    rows = []
    for (subject, roi), region in table.groupby(["subject", "roi"], sort=False):
        mask = masks.get(str(roi), {})
        selected = region["selected"]
        reliability = region["reliability"]
        rows.append(
            {
                "subject": subject,
                "roi": roi,
                "n_mask": int(mask.get("n_voxels", len(region))),  # unusable voxels included
                "n_voxels": len(region),
                "n_selected": int(selected.sum()),
                "reliability": float(np.median(reliability)),
                "reliability_selected": float(np.median(reliability[selected])),
                "method": METHOD,
                "reason": reason,
            }
        )
    return rows


def images_of_type(table: pd.DataFrame, kind: str) -> list[str]:
    """Name the images on which voxels are judged.

    Parameters
    ----------
    table : pandas.DataFrame
        The study's images: id, kind.
    kind : str
        A kind, or ``"all"``.

    Returns
    -------
    list of str
        Their ids.
    """
    chosen = table
    if kind != "all":
        chosen = table[table["kind"] == kind]
    return chosen["id"].astype(str).tolist()


def _image_types(work: Workspace) -> dict[str, str]:
    table = stimulus_table(work)
    ids = table["id"].astype(str)
    kinds = table["kind"].astype(str)
    return dict(zip(ids, kinds, strict=True))


def read_subjects(work: Workspace) -> dict[str, Patterns]:
    """Read the patterns of all subjects."""
    patterns_by_subject = {}
    for name in subject_names(work):
        patterns_by_subject[name] = read_patterns(work.path("patterns", f"{name}.h5"))
    return patterns_by_subject


def compared_patterns(work: Workspace) -> dict[str, Patterns]:
    """Read the patterns behind the RDMs of the cortex.

    Parameters
    ----------
    work : Workspace
        A study whose patterns are made.

    Returns
    -------
    dict of str to Patterns
        Those of each subject; where subjects are pooled those of all as one, under the names of
        all, with their voxels numbered: the same place in two brains is two voxels.
    """
    subjects = read_subjects(work)
    if not work.settings.rsa.pooled:
        return subjects
    name = "+".join(subjects)
    everybody = pool_subjects(list(subjects.values()))
    numbers = np.arange(len(everybody.voxels))
    return {name: replace(everybody, voxels=everybody.voxels.assign(subject=name, i=numbers))}


def brain_rdms(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Compute one RDM a subject, or one of all subjects, and region over all images."""
    rsa = work.settings.rsa
    subjects = compared_patterns(work)
    left = None
    if rsa.residuals:
        left = {name: read_residuals(work.state("residuals", f"{name}.h5")) for name in subjects}
    rdms = pattern_rdms(
        subjects,
        stimulus_table(work),
        measure=rsa.of_brain,
        noise=rsa.noise,
        folds=rsa.folds,
        residuals=left,
        allow_chosen=rsa.allow_chosen,
    )
    return [write_rdms(rdms, work.path("rdms", "brain.h5"))]
