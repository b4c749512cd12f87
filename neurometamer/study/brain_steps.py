"""Steps that make or read BOLD files and turn them into patterns and RDMs."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.errors import InputError
from neurometamer.provenance import digest_file, generator
from neurometamer.store import read_json, write_hdf5, write_json, write_table
from neurometamer.study.image_steps import seen_by, shown_stimuli, stimulus_table
from neurometamer.study.plan import Progress, Workspace
from neurometamer.study.settings import Subject

if TYPE_CHECKING:
    import pandas as pd

    from fmri.bold import BoldRun
    from fmri.patterns import Patterns


METHOD = "Pearson correlation of odd and even presentations over regular images, median over voxels"
"""Of the two columns of reliability."""


def subject_names(work: Workspace) -> tuple[str, ...]:
    """Name the study's subjects."""
    brain = work.settings.brain
    if brain.source == "simulated":
        return tuple(f"sub-{number:02d}" for number in range(1, brain.simulation.subjects + 1))
    return tuple(subject.id for subject in brain.subjects) if brain.source == "bold" else ()


def scanned(work: Workspace, name: str) -> Subject:
    """Name the files of a subject: the user's, or those that the simulation wrote."""
    if work.settings.brain.source == "bold":
        return next(subject for subject in work.settings.brain.subjects if subject.id == name)
    files: Mapping[str, str] = read_json(work.state("brain-files.json"))
    ours = sorted(
        str(work.path(file).resolve()) for file in files if file.startswith(f"brain/{name}/")
    )
    masks = {
        roi: file
        for roi in work.settings.brain.simulation.mixing
        for file in ours
        if file.endswith(f"roi-{roi}_mask.nii")
    }
    return Subject(
        id=name,
        bold=tuple(file for file in ours if file.endswith("_bold.nii")),
        events=tuple(file for file in ours if file.endswith("_events.tsv")),
        confounds=tuple(file for file in ours if file.endswith("_confounds.tsv")),
        masks=masks,
    )


def cortex(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Simulate every subject: BOLD runs, events, masks, and the truth that was planted."""
    from fmri.simulate import simulate_subject

    simulation = work.settings.brain.simulation
    features = planted_features(work)
    ids = shown_stimuli(work).ids
    mixing = {
        roi: {"gabor": 1 - share, "object": share} for roi, share in simulation.mixing.items()
    }
    names = subject_names(work)
    written = [
        write_hdf5(work.state("planted.h5"), arrays={**features, "condition": np.array(ids)})
    ]
    for number, name in enumerate(names):
        subject = simulate_subject(
            work.path("brain", name),
            subject=name,
            conditions=ids,
            features=features,
            mixing=mixing,
            seed=work.settings.study.seed,
            voxels_per_roi=simulation.voxels_per_roi,
            responding=simulation.responding,
            n_runs=simulation.runs,
            noise_sd=simulation.noise_sd,
        )
        written += [
            *subject.bold,
            *subject.events,
            *subject.confounds,
            *subject.masks.values(),
            subject.truth_path,
        ]
        progress(number + 1, len(names))
    listing = {
        path.relative_to(work.folder).as_posix(): digest_file(path)
        for path in written
        if path.suffix != ".h5"
    }
    written.append(write_json(work.state("brain-files.json"), listing))
    return written


def planted_features(work: Workspace) -> dict[str, np.ndarray]:
    """Make the two feature spaces that the simulated cortex follows.

    ``gabor``: Gabor energy of the pixels shown. ``object``: what people see. A photograph and its
    AI image share the photograph's features in a late stage of a fixed network; each AN image has a
    random percept of its own. So nothing in the cortex follows adversarial structure.
    """
    from neurometamer.activations import compute_activations
    from neurometamer.zoo import load_model
    from stimuli_gen.features import gabor_energy

    simulation = work.settings.brain.simulation
    shown = shown_stimuli(work)
    model = load_model(simulation.object_model, device="cpu")
    ids = shown.table["id"][shown.table["kind"] == "RE"].tolist()
    activations = compute_activations(
        model, seen_by(model, work).select(ids=ids), stages=[simulation.object_stage]
    )
    seen = dict(zip(ids, activations.read(simulation.object_stage).astype(np.float64), strict=True))
    everything = np.stack(list(seen.values()))
    center, spread = everything.mean(axis=0), everything.std(axis=0)
    percepts = [
        center
        + spread
        * generator(work.settings.study.seed, "percept", image_id).standard_normal(len(center))
        if kind == "AN"
        else seen[reference]
        for image_id, kind, reference in shown.table[["id", "kind", "reference_id"]].itertuples(
            index=False, name=None
        )
    ]
    return {"gabor": gabor_energy(np.asarray(shown.images)), "object": np.stack(percepts)}


def open_runs(work: Workspace, subject: str) -> list[BoldRun]:
    """Open the runs of a subject.

    Headers, sidecars, events and confounds are read and checked; images are not.
    """
    from fmri.bold import read_runs

    files = scanned(work, subject)
    return read_runs(
        [work.source(file) for file in files.bold],
        [work.source(file) for file in files.events],
        [work.source(file) for file in files.confounds] or None,
        subject=subject,
        t_r=files.t_r or None,
        columns=work.settings.glm.confounds or None,
        condition_column=files.condition_column,
        affine=files.affine,
    )


def betas(work: Workspace, progress: Progress, *, subject: str) -> Iterable[Path]:
    """Estimate one beta per image × presentation.

    Simulated and measured subjects take the same path.
    """
    from fmri.betas import estimate_betas
    from fmri.patterns import write_patterns
    from neurometamer.rsa.compute import match_ids

    files, glm = scanned(work, subject), work.settings.glm
    with _told_before():
        fitted = estimate_betas(
            open_runs(work, subject),
            {roi: work.source(mask) for roi, mask in files.masks.items()},
            hrf_model=glm.hrf_model,
            high_pass=glm.high_pass,
            noise_model=glm.noise_model,
            estimator=glm.estimator,
            units=glm.units,
            ignore=glm.ignore,
            slice_time_ref=files.slice_time_ref,
            unusable=glm.unusable,
            progress=progress,
        )
    # Refuse events without a stimulus before anything is computed from them.
    match_ids(fitted.conditions, shown_stimuli(work).ids, f"events of {subject}", "the stimuli")
    return [write_patterns(fitted, work.state("betas", f"{subject}.h5"))]


@contextlib.contextmanager
def _told_before() -> Iterator[None]:
    """Do not repeat what the checks before the first step have told."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def patterns(work: Workspace, progress: Progress, *, subject: str) -> Iterable[Path]:
    """Keep the reliable voxels of each region of a subject, judged on regular images only."""
    from fmri.patterns import read_patterns, write_patterns
    from fmri.reliability import select_voxels

    selection = work.settings.selection
    table = stimulus_table(work)
    chosen = read_patterns(work.state("betas", f"{subject}.h5"))
    if selection.voxels_per_roi:
        regular = table["id"][table["kind"] == selection.kind].tolist()
        with _told_before():
            chosen = select_voxels(chosen, conditions=regular, n_per_roi=selection.voxels_per_roi)
    return [write_patterns(chosen, work.path("patterns", f"{subject}.h5"))]


def regions(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Say how large the regions are before and after the selection of voxels, and how reliable."""
    import pandas as pd

    from fmri.patterns import read_patterns

    table = stimulus_table(work)
    regular = table["id"][table["kind"] == work.settings.selection.kind].tolist()
    rows = []
    for name in subject_names(work):
        fitted = read_patterns(work.state("betas", f"{name}.h5"))
        rows += region_rows(fitted, read_patterns(work.path("patterns", f"{name}.h5")), regular)
    return [write_table(work.path("tables", "regions.csv"), pd.DataFrame(rows))]


def region_rows(
    before: Patterns, after: Patterns, conditions: Sequence[str]
) -> list[dict[str, Any]]:
    """Say of each region of one subject how large it is and how reliable its voxels are.

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
    from fmri.reliability import voxel_reliability

    reason = ""
    try:
        measured = voxel_reliability(before, conditions)
    except InputError as error:
        measured, reason = np.full(len(before.voxels), np.nan), str(error)
    table = before.voxels.assign(
        reliability=measured, selected=_selected(before.voxels, after.voxels)
    )
    rows = []
    for (subject, roi), region in table.groupby(["subject", "roi"], sort=False):
        mask = before.provenance.get("masks", {}).get(str(roi), {})
        n_mask = int(mask.get("n_voxels", len(region)))  # unusable voxels included
        row = {"subject": subject, "roi": roi, "n_mask": n_mask}
        row |= {"n_voxels": len(region), "n_selected": int(region["selected"].sum())}
        row |= {"reliability": float(np.median(region["reliability"]))}
        row |= {"reliability_selected": float(np.median(region["reliability"][region["selected"]]))}
        rows.append(row | {"method": METHOD, "reason": reason})
    return rows


def _selected(before: pd.DataFrame, after: pd.DataFrame) -> np.ndarray:
    """Mark the voxels of one table that are in another: bool, shape (n_voxels,)."""
    import pandas as pd

    columns = ["subject", "roi", "i", "j", "k"]
    kept = pd.MultiIndex.from_frame(after[columns])
    return pd.MultiIndex.from_frame(before[columns]).isin(kept)


def read_subjects(work: Workspace) -> dict[str, Patterns]:
    """Read the patterns of all subjects."""
    from fmri.patterns import read_patterns

    return {
        name: read_patterns(work.path("patterns", f"{name}.h5")) for name in subject_names(work)
    }


def brain_rdms(work: Workspace, progress: Progress) -> Iterable[Path]:
    """Compute one RDM a subject and region over all images."""
    from neurometamer.rsa.compute import pattern_rdms, write_rdms

    rdms = pattern_rdms(
        read_subjects(work), stimulus_table(work), measure=work.settings.rsa.measure
    )
    return [write_rdms(rdms, work.path("rdms", "brain.h5"))]
