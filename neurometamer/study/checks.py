"""What can be known before any work.

The checks say whether files, tables and settings of a study suit each other. What stands in the way
is gathered instead of raised one after the other. Scanned subjects are checked by their headers,
tables and masks alone.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from fmri.betas.estimate import plan_betas
from fmri.betas.event_designs import check_durations, event_design
from fmri.betas.joint_models import STATISTICS
from fmri.bids import (
    check_same_labels,
    check_subject,
    read_sidecar,
    repetition_time,
    slice_times,
)
from fmri.grids import Grid
from fmri.patterns import read_patterns
from fmri.reliability import voxel_reliability
from fmri.rois.regions import grid_of, region_files, voxel_table
from fmri.selection import check_baseline, tell_few_conditions
from fmri.series import check_files, hemisphere_files, open_series
from fmri.surfaces import read_mesh
from fmri.tables import checked_confounds, checked_events, read_confounds, read_events
from neurometamer.commands.metamers import read_stages
from neurometamer.encoding.generalization import check_encoding
from neurometamer.errors import InputError, name_ids
from neurometamer.rsa.compute import MIN_VOXELS
from neurometamer.rsa.image_types.inference import OVER_SUBJECTS
from neurometamer.rsa.image_types.nulls import class_labels, known_classes
from neurometamer.rsa.image_types.options import subjects_needed
from neurometamer.rsa.measures import MEASURES
from neurometamer.rsa.sampling import sample_photographs
from neurometamer.rsa.searchlight.selection import VOXEL_CRITERIA
from neurometamer.store import check_file_names
from neurometamer.study.brain_steps import (
    analyzed_regions,
    confound_columns,
    confound_files,
    given_patterns,
    images_of_type,
    mesh_files,
    open_runs,
    run_confounds,
    scanned,
    subject_names,
    subject_regions,
    with_contrasts,
)
from neurometamer.study.contrast_maps import check_contrast, waits_for_contrast
from neurometamer.study.disagreement_checks import (
    check_disagreement,
    check_stages,
    compared_networks,
)
from neurometamer.study.plan import Workspace
from neurometamer.study.rdm_checks import (
    brain_rdm_faults,
    check_compared_subjects,
    check_sessions,
    events_as_patterns,
)
from neurometamer.study.result_steps import image_type_options
from neurometamer.study.settings import MEASURED_SOURCES, Subject
from neurometamer.study.words import in_words_of_settings, setting_names
from neurometamer.summaries import short_repr
from neurometamer.zoo import model_entry
from stimuli_gen.photograph_lists import list_photographs
from stimuli_gen.photographs import PACKAGED
from stimuli_gen.stimuli import read_stimuli

SUBSAMPLED = ("spearman", "pearson")
"""Measures whose RDMs can be computed again from a part of the units."""

ERROR, NOTE = "error", "note"

FEW_ALIKE = 3
"""From so many on, problems of a subject that differ in their files alone are one line."""


@short_repr
@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a study, or unusual.

    Parameters
    ----------
    kind : {"error", "note"}
        Errors stop the study, notes do not.
    subject : str
        Whose files it concerns; empty: settings or images.
    file : str
        The file it concerns, as the study file names it; may be empty.
    message : str
        What is wrong and what to do.

    Examples
    --------
    >>> from neurometamer.study import Problem
    >>> problem = Problem(kind="error", subject="S1", file="m.nii", message="m.nii is missing.")
    >>> print(problem)
    S1: m.nii is missing.
    """

    kind: str
    subject: str
    file: str
    message: str

    def __str__(self) -> str:
        if not self.subject:
            return self.message
        return f"{self.subject}: {self.message}"


class Findings:
    """Problems in the order in which they were found, each once.

    Parameters
    ----------
    names : mapping of str to str, optional
        Parameter to the setting that messages name in its place, see `setting_names`.
    """

    def __init__(self, names: Mapping[str, str] | None = None) -> None:
        self.names = names or {}
        self.problems: list[Problem] = []

    @contextlib.contextmanager
    def watch(self, subject: str = "", file: str = "", prefix: str = "") -> Iterator[None]:
        """Keep what is raised or warned of while the block runs.

        Parameters
        ----------
        subject, file : str
            What the block looks at.
        prefix : str
            Beginning of the messages of errors.

        Yields
        ------
        None
            An `InputError`, or a file that the system refuses, ends the block and is kept.
        """
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("ignore")
            warnings.simplefilter("always", UserWarning)
            try:
                yield
            except InputError as error:
                message = str(error).removeprefix(prefix)
                self.add(ERROR, f"{prefix}{message}", subject, file)
            except OSError as error:
                name = error.filename or file
                self.add(ERROR, f"{name}: {error.strerror or error}.", subject, file)
        for warning in warned:
            self.add(NOTE, str(warning.message), subject, file)

    def add(self, kind: str, message: str, subject: str = "", file: str = "") -> None:
        """Keep a problem, unless it is there already.

        Parameters
        ----------
        kind : {"error", "note"}
            See `Problem`.
        message : str
            What is wrong and what to do.
        subject, file : str
            What it concerns.
        """
        message = in_words_of_settings(message, self.names)
        if subject:
            message = message.removeprefix(f"{subject}: ")
        problem = Problem(kind, subject, file, message)
        known = [str(other) for other in self.problems]
        if str(problem) not in known:
            self.problems.append(problem)

    def has_errors(self, subject: str | None = None, file: str | None = None) -> bool:
        """Tell whether there is an error.

        Parameters
        ----------
        subject, file : str, optional
            Only those that concern these.

        Returns
        -------
        bool
            Notes do not count.
        """
        for problem in self.problems:
            is_meant = subject in (None, problem.subject) and file in (None, problem.file)
            if problem.kind == ERROR and is_meant:
                return True
        return False


def grouped(problems: Sequence[Problem], names: Iterable[str]) -> list[Problem]:
    """Join what is wrong in the same way with several files of a subject.

    Parameters
    ----------
    problems : sequence of Problem
        In the order in which they were found.
    names : iterable of str
        Names of files that messages may hold.

    Returns
    -------
    list of Problem
        Where three or more differ in files or runs alone, the first of them, with their number and
        at most five files.
    """
    by_length = sorted(set(names), key=len, reverse=True)
    of_run = re.compile("|".join([*map(re.escape, by_length), r"run-\w+"]))
    keys = []
    alike: dict[tuple[str, str, str], list[Problem]] = {}
    for problem in problems:
        key = (problem.kind, problem.subject, of_run.sub("", problem.message))
        keys.append(key)
        alike.setdefault(key, []).append(problem)
    joined = []
    for key, problem in zip(keys, problems, strict=True):
        group = alike[key]
        if len(group) < FEW_ALIKE:
            joined.append(problem)
        elif problem is group[0]:
            files = name_ids(Path(other.file).name for other in group)
            message = f"{len(group)} times: {files}; the first: {problem.message}"
            joined.append(replace(problem, message=message))
    return joined


def raise_errors(problems: Sequence[Problem], limit: int = 10) -> None:
    """Raise all errors among problems as one.

    Parameters
    ----------
    problems : sequence of Problem
        Problems of a study.
    limit : int
        How many to spell out.

    Raises
    ------
    InputError
        When there is an error: the message itself, or all of them, numbered.
    """
    errors = [str(problem) for problem in problems if problem.kind == ERROR]
    if not errors:
        return
    if len(errors) == 1:
        raise InputError(errors[0])
    lines = [f"{len(errors)} things stand in the way of this study:"]
    for number, error in enumerate(errors[:limit], start=1):
        lines.append(f"({number}) {error}")
    if len(errors) > limit:
        lines.append("… 'neurometamer check' lists them all.")
    raise InputError("\n".join(lines))


def find_problems(work: Workspace) -> list[Problem]:
    """Find all that stands in the way of a study, from settings, headers and tables alone.

    Parameters
    ----------
    work : Workspace
        Settings and the user's files; nothing needs to be done yet.

    Returns
    -------
    list of Problem
        Of settings and images first, then subject by subject.
    """
    settings = work.settings
    findings = Findings(setting_names(settings))
    _check_models(work, findings)
    check_disagreement(work, findings.watch)
    table = _check_images(work, findings)
    if settings.glm.strategy and settings.brain.source == "simulated":
        findings.add(
            ERROR,
            f"glm.strategy: {name_ids(settings.glm.strategy)} take columns of fMRIPrep's tables, "
            "and the simulated cortex has six motion parameters alone; leave it out.",
        )
    if settings.selection.meshes and settings.brain.source == "simulated":
        findings.add(
            ERROR,
            "selection.meshes: meshes are for series on surfaces, and the simulated cortex is a "
            "volume; leave them out.",
        )
    if settings.brain.source == "bids":
        with findings.watch(file=settings.brain.dataset):
            work.layout  # noqa: B018
            work.localizers  # noqa: B018
        if findings.has_errors(file=settings.brain.dataset):
            return findings.problems
    _check_rsa(work, findings)
    if table is not None:
        _check_with_images(work, table, findings)
    if settings.brain.source in MEASURED_SOURCES:
        check_subjects(work, table, findings)
    _check_photographs_of_runs(work, table, findings)
    return findings.problems


def _check_photographs_of_runs(
    work: Workspace, table: pd.DataFrame | None, findings: Findings
) -> None:
    """Refuse comparisons that need other sessions or runs than subjects have."""
    settings = work.settings
    if settings.rsa.null == "session":
        if settings.brain.source not in MEASURED_SOURCES:
            with findings.watch():
                check_sessions(work, pd.DataFrame())
        elif table is not None and not findings.has_errors():
            with findings.watch():
                check_sessions(work, table)
    needs_runs = MEASURES[settings.rsa.of_brain].needs == "folds" or settings.rsa.pooled
    if needs_runs and table is not None and not findings.has_errors():
        with findings.watch():
            check_compared_subjects(work, table)


def _check_models(work: Workspace, findings: Findings) -> None:
    """Look up the networks by name, and the files of weights."""
    settings = work.settings
    names = [settings.model.name, *settings.transfer.models]
    for metamer_set in settings.metamers.sets:
        names += metamer_set
    if settings.metamers.sets:
        names += settings.metamers.evaluators
    names += compared_networks(work)
    if settings.brain.source == "simulated":
        names.append(settings.brain.simulation.object_model)
    for name in dict.fromkeys(names):
        with findings.watch():
            model_entry(work.network(name))
    weights = settings.model.weights
    if weights not in ("default", "random"):
        with findings.watch(file=weights):
            work.source(weights)
    with findings.watch(prefix="model.stages: "):
        check_stages(work.network(settings.model.name), settings.model.stages)
    with findings.watch(prefix="metamers.stage: "):
        stages = read_stages(settings.metamers.stage)
        for name in dict.fromkeys(itertools.chain(*settings.metamers.sets)):
            own = stages.get(name, ()) if isinstance(stages, dict) else stages
            check_stages(work.network(name), [own] if isinstance(own, str) else own)


def _check_images(work: Workspace, findings: Findings) -> pd.DataFrame | None:
    """Look for the files of the images; return the table of the images that the study will have."""
    settings = work.settings
    images = settings.images
    if not images.ready:
        targets = [settings.noise.target, settings.interference.target]
        files = [target for target in targets if target.endswith(".csv")]
        if settings.interference.mask:
            files.append(settings.interference.mask)
        for file in files:
            with findings.watch(file=file):
                work.source(file)
    source = images.ready or images.source
    table = None
    with findings.watch(file=source):
        table = expected_stimuli(work)
        if table.empty:
            raise InputError(
                f"{source} holds no images; give a folder of images or a CSV with the column file."
            )
    return table


def _check_rsa(work: Workspace, findings: Findings) -> None:
    """Refuse names of ``[rsa]`` that do not go together, or not with the subjects."""
    rsa = work.settings.rsa
    subjects = subject_names(work)
    pairs = {"AN": ("RE", "AN"), "AI": ("RE", "AI")}
    with findings.watch(prefix="rsa: "):
        for system in ("network", "brain"):
            image_type_options(work, system, pairs)
    needed = subjects_needed(rsa.confidence)
    if rsa.interval in OVER_SUBJECTS and len(subjects) < needed:
        known = name_ids(subjects) or "no brain"
        findings.add(
            ERROR,
            f"rsa.interval: '{rsa.interval}' at {rsa.confidence:.0%} needs at least {needed} "
            f"subjects; the study has {len(subjects)} ({known}). Use 'stimuli', which resamples "
            "photographs.",
        )
    unlike = [name for name in (rsa.measure, rsa.of_brain) if name not in SUBSAMPLED]
    if rsa.interval == "subsample" and unlike:
        names = " and ".join(SUBSAMPLED)
        findings.add(
            ERROR,
            f"rsa.interval: 'subsample' is there for the measures {names}, not '{unlike[0]}'; "
            "use one of these, or another interval.",
        )
    for fault in brain_rdm_faults(work):
        findings.add(ERROR, fault)
    if rsa.of_brain == "poisson" and subjects:
        findings.add(
            ERROR,
            "rsa.measure: 'poisson' takes rates of zero or more, and betas of voxels are negative "
            'too; use another measure, or brain.source = "none".',
        )


def _check_with_images(work: Workspace, table: pd.DataFrame, findings: Findings) -> None:
    """Refuse settings for which the study lacks images or classes, before any work."""
    settings = work.settings
    if settings.rsa.null == "class":
        needed = "rsa.null: 'class' needs the column category of the images, at least two classes: "
        with findings.watch(prefix=needed):
            class_labels(table)
    if settings.rsa.classes == "random":
        references = table.loc[table["kind"] == "RE", "reference_id"]
        names = sorted(references.astype(str))
        with findings.watch():
            sample_photographs(names, known_classes(table), "random", option="rsa.classes:")
    if not subject_names(work):
        return
    encoding = settings.encoding
    n_photographs = int((table["kind"] == "RE").sum())
    is_split = encoding.folds and encoding.scheme == "by image"
    if is_split and not 2 <= encoding.folds <= n_photographs:
        findings.add(
            ERROR,
            f"encoding.folds is {encoding.folds}, but the study has {n_photographs} photographs; "
            f"give 2 to {n_photographs}, or 0 to leave it open.",
        )
    else:
        with findings.watch(prefix="encoding: "):
            check_encoding(
                table,
                solver=encoding.solver,
                scheme=encoding.scheme,
                n_folds=encoding.folds or None,
                alphas=encoding.alphas,
                n_permutations=encoding.n_permutations,
                seed=settings.study.seed,
            )
    if settings.selection.voxels_per_roi:
        judged_on = images_of_type(table, settings.selection.image_type)
        criterion = VOXEL_CRITERIA[settings.selection.criterion]
        with findings.watch():
            check_baseline(criterion, settings.glm.zscore)
            tell_few_conditions(len(judged_on), criterion.advised)


def expected_stimuli(work: Workspace) -> pd.DataFrame:
    """List the images that a study will have, without reading their pixels.

    Parameters
    ----------
    work : Workspace
        Settings and the user's files.

    Returns
    -------
    pandas.DataFrame
        Columns id, kind, reference_id and, where it is known, category.
    """
    images = work.settings.images
    if images.ready:
        source = work.source(images.ready)
        if (source / "stimuli.h5").is_file():
            return read_stimuli(source, in_memory=False).table
        table = _listed(source)
        kind = table["kind"].fillna("RE") if "kind" in table else "RE"
        reference = table["id"]
        if "reference_id" in table:
            reference = table["reference_id"].fillna(reference)
        return table.assign(kind=kind, reference_id=reference)
    if images.source == "packaged":
        rows = [{"id": name, "category": entry[2]} for name, entry in PACKAGED.items()]
        photographs = pd.DataFrame(rows)
    else:
        photographs = _listed(work.source(images.source))
        check_file_names(photographs["id"])
    names = photographs["id"]
    parts = [photographs.assign(kind="RE", reference_id=names)]
    for kind in ("AN", "AI"):
        part = photographs.assign(id=names + f"_{kind}", kind=kind, reference_id=names)
        parts.append(part)
    table = pd.concat(parts, ignore_index=True)
    check_file_names(table["id"])
    return table


def _listed(source: Path) -> pd.DataFrame:
    """List the images of a folder or CSV, and refuse a list of files that are not there."""
    table = list_photographs(source).table
    missing = [str(file) for file in table["file"] if not Path(file).is_file()]
    if missing:
        raise InputError(
            f"{source} lists files that do not exist: {name_ids(missing)}; correct the column file."
        )
    return table


def check_subjects(work: Workspace, table: pd.DataFrame | None, findings: Findings) -> None:
    """Check the files of all scanned subjects.

    Parameters
    ----------
    work : Workspace
        Settings and the user's files.
    table : pandas.DataFrame or None
        Images that the study will have (id, kind, reference_id); None where they are not known.
    findings : Findings
        Gets what is wrong.
    """
    is_readable = True
    if work.settings.brain.source == "bids":
        for problem in work.layout.problems.to_dict("records"):
            subject_id = f"sub-{problem['subject']}" if problem["subject"] else ""
            findings.add(problem["severity"], problem["message"], subject_id, problem["file"])
            is_readable &= bool(subject_id) or problem["severity"] != ERROR
    subjects = []
    for name in subject_names(work):
        if is_readable and not findings.has_errors(name):
            with findings.watch(name):
                subjects.append(scanned(work, name))
    # links to a file, and other spellings of its name, are the same file
    real_names: dict[str, str] = {}
    for subject in subjects:
        for file in subject.bold:
            real_names[file] = os.path.realpath(work.base / Path(file).expanduser())
    listed = Counter(real_names[file] for subject in subjects for file in subject.bold)
    for subject in subjects:
        again = [Path(file).name for file in subject.bold if listed[real_names[file]] > 1]
        if again:
            findings.add(
                ERROR,
                f"BOLD files that are listed more than once: {name_ids(again)}; list each once.",
                subject.id,
            )
        _check_subject(work, subject, table, findings)
    tell_lacking_regions(work, subjects, findings)
    join_lacking_regions(work, subjects, findings)
    files = [problem.file for problem in findings.problems]
    for subject in subjects:
        files += [*subject.bold, *subject.events, *subject.confounds]
    names = [Path(file).name for file in files if Path(file).suffix]
    findings.problems = grouped(findings.problems, names)


def tell_lacking_regions(work: Workspace, subjects: Sequence[Subject], findings: Findings) -> None:
    """Note regions that some subjects have and others have not.

    Parameters
    ----------
    work : Workspace
        Settings and the user's files.
    subjects : sequence of Subject
        The files of all subjects.
    findings : Findings
        Gets a note a subject and region; nothing of patterns or masks that cannot be read.
    """
    having: dict[str, list[str]] = {}
    known: dict[str, Sequence[str]] = {}
    for subject in subjects:
        with contextlib.suppress(InputError):  # told already
            if subject.patterns:
                known[subject.id] = read_patterns(work.source(subject.patterns)).rois
            else:
                known[subject.id] = analyzed_regions(work, subject)
    for name, rois in known.items():
        for roi in rois:
            having.setdefault(roi, []).append(name)
    for name, rois in known.items():
        for roi in having:
            if roi in rois:
                continue
            findings.add(
                NOTE,
                f"it has no ROI '{roi}', and {len(having[roi])} of {len(known)} subjects have it "
                f"({name_ids(having[roi])}); results of '{roi}' rest on these alone.",
                name,
            )


def join_lacking_regions(work: Workspace, subjects: Sequence[Subject], findings: Findings) -> None:
    """Make one line of a pattern in ``[brain.rois]`` that fits no file of any subject.

    Parameters
    ----------
    work : Workspace
        Settings.
    subjects : sequence of Subject
        The files of all subjects.
    findings : Findings
        Holds an error a subject before, and one in all afterwards.
    """
    for roi, pattern in work.settings.brain.rois.items():
        of_roi = []
        for subject in subjects:
            definition = subject.masks.get(roi, "")
            for problem in findings.problems:
                is_lacking = problem.kind == ERROR and " does not exist" in problem.message
                if is_lacking and (problem.subject, problem.file) == (subject.id, definition):
                    of_roi.append(problem)
        ids = list(dict.fromkeys(problem.subject for problem in of_roi))
        if len(ids) < 2 or len(ids) < len(subjects):
            continue
        message = f"ROI '{roi}': there is no {pattern} of any of the {len(ids)} subjects "
        message += f"({name_ids(ids)}); correct the pattern in [brain.rois]."
        place = findings.problems.index(of_roi[0])
        findings.problems[place] = Problem(ERROR, "", pattern, message)
        findings.problems = [other for other in findings.problems if other not in of_roi]


def _check_subject(
    work: Workspace, subject: Subject, table: pd.DataFrame | None, findings: Findings
) -> None:
    """Check that the files of a subject are there and its own, then what is in them."""
    if subject.patterns:
        _check_patterns(work, subject, table, findings)
        return
    files = [*subject.bold, *subject.events, *subject.confounds]
    for file in files:
        with findings.watch(subject.id, file):
            work.source(file)
    definitions = with_contrasts(work, subject)
    for roi, definition in subject.masks.items():
        with findings.watch(subject.id, definition):
            for path in region_files(definitions, roi, work.base):
                work.source(str(path))
    for file in files:
        with findings.watch(subject.id, file):
            check_subject(subject.id, file)
    events = []
    for number in range(len(subject.bold)):
        events_of_run = _check_run(work, subject, number, findings)
        if events_of_run is not None:
            events.append(events_of_run)
    _check_masks(work, subject, findings)
    if table is not None and len(events) == len(subject.bold):
        with findings.watch(subject.id):
            check_conditions(work, events, table)
    if not findings.has_errors(subject.id):
        with findings.watch(subject.id):
            _check_designs(work, subject, table, findings)


def _check_patterns(
    work: Workspace, subject: Subject, table: pd.DataFrame | None, findings: Findings
) -> None:
    """Check a file of patterns against the stimuli, and the sizes of its regions."""
    with findings.watch(subject.id, subject.patterns):
        ids = [] if table is None else table["id"].tolist()
        given = given_patterns(work, subject.id, ids)
        n_vertices = given.provenance.get("grid", {}).get("n_vertices")
        check_meshes(work, subject, n_vertices)
        counts = given.voxels["roi"].value_counts()
        small = counts.index[counts < MIN_VOXELS].tolist()
        if small:
            raise InputError(
                f"ROI(s) {name_ids(small)} have fewer than {MIN_VOXELS} voxels, too few for a "
                "pattern; give patterns without them, or of larger regions."
            )


def check_meshes(work: Workspace, subject: Subject, n_vertices: Mapping[str, int] | None) -> None:
    """Compare the meshes on which voxels are to be selected with the series.

    Parameters
    ----------
    work : Workspace
        Settings and the user's files.
    subject : Subject
        Its files.
    n_vertices : mapping of str to int, or None
        Hemisphere to the number of vertices of its whole mesh; None for a volume.

    Raises
    ------
    InputError
        When there are meshes for a volume, none for surfaces, or one of another number of vertices.
    """
    selection = work.settings.selection
    if selection.criterion != "searchlight" or not selection.voxels_per_roi:
        return
    if n_vertices is None:
        if selection.meshes:
            raise InputError(
                "selection.meshes: meshes are for series on surfaces, and these are volumes; leave "
                "them out."
            )
        return
    if not selection.meshes:
        raise InputError(
            "selection.criterion: 'searchlight' on surfaces needs the mesh of each hemisphere; "
            "give [selection] meshes, with {subject} and {hemi} in the path, or another criterion."
        )
    files = mesh_files(work, subject)
    for side, number in n_vertices.items():
        if side not in files:
            raise InputError(
                f"selection.meshes: there is no mesh of hemisphere {side}; correct the pattern."
            )
        points, _ = read_mesh(files[side])
        if len(points) != number:
            raise InputError(
                f"selection.meshes: {files[side].name} has {len(points)} vertices, but the series "
                f"of hemisphere {side} has {number}; give the mesh of the same density and space."
            )


def _check_masks(work: Workspace, subject: Subject, findings: Findings) -> None:
    """Check each mask by itself, then whether they fit together, and the sizes of the regions."""
    first = subject.bold[0]
    grid = None
    if not findings.has_errors(subject.id, first):
        series = hemisphere_files(work.source(first), subject.hemispheres)
        grid = grid_of(series, subject.affine)
        with findings.watch(subject.id):
            check_meshes(work, subject, None if grid.is_volume else grid.n_vertices)
    sizes = {}
    rois: list[str] = []
    with findings.watch(subject.id):
        # a region of a contrast is known when that was estimated
        analyzed = analyzed_regions(work, subject)
        rois = [roi for roi in analyzed if not waits_for_contrast(work, subject, roi)]
    check_contrasts(work, subject, grid, findings)
    for roi in rois:
        definition = subject.masks[roi]
        if findings.has_errors(subject.id, definition):
            continue
        with findings.watch(subject.id, definition):
            like = grid
            if like is None:  # what can be said of a mask without the images
                if not definition.endswith((".nii", ".nii.gz")):
                    continue
                like = grid_of(work.source(definition), subject.affine)
            mask = subject_regions(work, subject, like, [roi]).masks[roi]
            sizes[roi] = int(mask.sum())
    if grid is not None and sizes and len(sizes) == len(rois):
        with findings.watch(subject.id):
            subject_regions(work, subject, grid, rois)
    for roi, size in sizes.items():
        if size < MIN_VOXELS:
            findings.add(
                ERROR,
                f"ROI '{roi}' has {size} voxel(s), too few for a pattern; enlarge the mask, or "
                "leave the region out.",
                subject.id,
                subject.masks[roi],
            )


def check_contrasts(
    work: Workspace, subject: Subject, grid: Grid | None, findings: Findings
) -> None:
    """Check the localizers of a subject, and the conditions of their contrasts.

    Parameters
    ----------
    work : Workspace
        Settings and the user's files.
    subject : Subject
        Files of the subject.
    grid : Grid or None
        Grid of the subject's images; None where they cannot be read.
    findings : Findings
        Gets what is wrong.
    """
    for name in work.settings.brain.contrasts:
        with findings.watch(subject.id, prefix=f"brain.contrasts.{name}: "):
            check_contrast(work, subject, name, grid)


def _check_run(
    work: Workspace, subject: Subject, number: int, findings: Findings
) -> pd.DataFrame | None:
    """Check image, events and confounds of a run each for itself.

    A fault of one does not hide a fault of the next. The events are returned where they can be
    read.
    """
    image = subject.bold[number]
    name = Path(image).name
    n_volumes, t_r = 0, 0.0  # unknown
    with findings.watch(subject.id, image):
        path = work.source(image)
        series = hemisphere_files(path, subject.hemispheres)
        # which transform holds is a fault of its own
        header = open_series(series, "sform")
        check_files(series)
        n_volumes = header.n_volumes
        sidecar = read_sidecar(path)
        t_r = repetition_time(
            name,
            header=header.t_r,
            sidecar=sidecar,
            given=subject.t_r or None,
        )
        slice_times(name, sidecar, t_r, header.shape)
    if n_volumes:
        with findings.watch(subject.id, image):
            open_series(series, subject.affine)
    events = None
    events_file = subject.events[number]
    with findings.watch(subject.id, events_file):
        check_same_labels(events_file, image)
        events = read_events(work.source(events_file), subject.condition_column)
        if t_r:
            checked_events(events, n_volumes, t_r, name)
    if tables := confound_files(work, subject):
        confounds_file = tables[number]
        with findings.watch(subject.id, confounds_file):
            check_same_labels(confounds_file, image)
            table = run_confounds(work, subject, number)
            confounds = read_confounds(table, confound_columns(work), name)
            if n_volumes:
                checked_confounds(confounds, n_volumes, name)
    return events


def _check_designs(
    work: Workspace, subject: Subject, table: pd.DataFrame | None, findings: Findings
) -> None:
    """Build the designs of all runs, and refuse a selection of voxels with too few repetitions."""
    glm = work.settings.glm
    selection = work.settings.selection
    runs = open_runs(work, subject.id)
    tables = []
    for file, run in zip(subject.bold, runs, strict=True):
        with findings.watch(subject.id, file):
            design = event_design(
                run,
                hrf_model=glm.hrf_model,
                high_pass=glm.high_pass,
                ignore=glm.ignore,
                slice_time_ref=subject.slice_time_ref,
                per=glm.per,
            )
            tables.append(design)
    if findings.has_errors(subject.id):
        return
    with findings.watch(subject.id):
        check_durations(runs, [events for events, _ in tables])
    # regions on the maps of contrasts are not known yet
    if glm.max_memory and not work.settings.brain.contrasts:
        rois = subject_regions(work, subject, runs[0].grid)
        voxels, union, _ = voxel_table(rois.masks, subject.id, rois.grid)
        together = glm.single_trials() is not None or glm.units in STATISTICS
        plan_betas(
            runs,
            tables,
            int(union.sum()),
            len(voxels),
            together=together,
            max_memory=glm.max_memory,
        )
    if table is None or not selection.voxels_per_roi:
        return
    conditions = [tuple(events["trial_type"]) for events, _ in tables]
    judged_on = images_of_type(table, selection.image_type)
    try:
        voxel_reliability(events_as_patterns(runs, conditions), judged_on)
    except InputError as error:
        raise InputError(f"{error} Or keep all voxels: [selection] voxels_per_roi = 0.") from None


def check_conditions(work: Workspace, events: list[pd.DataFrame], table: pd.DataFrame) -> None:
    """Refuse events that are no stimuli, and stimuli without an event.

    Parameters
    ----------
    work : Workspace
        Settings.
    events : list of pandas.DataFrame
        Events of the runs of one subject, from `fmri.tables.read_events`.
    table : pandas.DataFrame
        The study's images: id, kind.

    Raises
    ------
    InputError
        Naming the ids on both sides and what to do.
    """
    types = pd.concat([part["trial_type"] for part in events]).astype(str)
    shown = types[~types.isin(work.settings.glm.ignore)].unique()
    known = table["id"].astype(str)
    extra = [name for name in shown if name not in set(known)]
    missing = known[~known.isin(shown)]
    images = work.settings.images
    kinds = set(table["kind"][missing.index])
    if not extra and not images.ready and kinds and kinds <= {"AN", "AI"}:
        raise InputError(
            "the events show the photographs, but not the AN and AI images that this study would "
            f"make of them: {name_ids(missing)}. For a study of photographs alone set [images] "
            f'ready = "{images.source}" in place of source (a folder, or a CSV with the columns '
            "file, id and kind, which is RE); for images that were made before, [images] ready = "
            "the folder or CSV of all images that were shown."
        )
    parts = []
    if extra:
        better = ""
        key = "id_column" if work.settings.brain.source == "bids" else "condition_column"
        others = events[0].columns.difference(["onset", "duration", "trial_type"], sort=False)
        for column in others:
            with contextlib.suppress(InputError):
                ids = read_events(events[0], column)["trial_type"]
                if not better and ids.isin(known).mean() > 0.5:
                    better = f"; the column '{column}' holds ids: {key} = \"{column}\""
        parts.append(
            f"missing from the images: {name_ids(extra)} (add them to [images] ready, or to [glm] "
            f"ignore{better})"
        )
    if len(missing):
        parts.append(
            f"missing from the events: {name_ids(missing)} (take them out of [images] ready)"
        )
    if parts:
        raise InputError(f"events and images do not hold the same stimuli; {'; '.join(parts)}.")
