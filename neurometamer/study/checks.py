"""What can be known before any work.

The checks say whether files, tables and settings of a study suit each other.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from neurometamer.errors import InputError, name_ids
from neurometamer.store import check_file_names
from neurometamer.study.brain_steps import subject_names
from neurometamer.study.plan import Workspace
from neurometamer.study.problems import Findings, Problem
from neurometamer.study.result_steps import kind_options
from neurometamer.study.subject_checks import check_sessions, check_subjects

SUBSAMPLED = ("spearman", "pearson")
"""Measures whose RDMs can be computed again from a part of the units."""


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
    findings = Findings()
    _check_models(work, findings)
    table = _check_images(work, findings)
    tests: list[Callable[[Workspace], None]] = [_check_names, _check_interval, _check_measure]
    for test in tests:
        with findings.watch():
            test(work)
    if table is not None:
        _check_with_images(work, table, findings)
    if work.settings.brain.source == "bold":
        check_subjects(work, table, findings)
    if work.settings.rsa.null == "session" and table is not None and not findings.has_errors():
        with findings.watch():
            check_sessions(work, table)
    elif work.settings.rsa.null == "session" and work.settings.brain.source != "bold":
        with findings.watch():
            check_sessions(work, pd.DataFrame())
    return findings.problems


def _check_models(work: Workspace, findings: Findings) -> None:
    """Look up the networks by name, and the files of weights."""
    from neurometamer.zoo import model_entry

    settings = work.settings
    sets = [name for names in settings.metamers.sets for name in names]
    names = [settings.model.name, *settings.transfer.models, *sets]
    names += settings.metamers.judges if sets else ()
    names += (
        [settings.brain.simulation.object_model] if settings.brain.source == "simulated" else []
    )
    for name in dict.fromkeys(names):
        with findings.watch():
            model_entry(name)
    if settings.model.weights not in ("default", "random"):
        with findings.watch(file=settings.model.weights):
            work.source(settings.model.weights)


def _check_images(work: Workspace, findings: Findings) -> pd.DataFrame | None:
    """Look for the files of the images; return the table of the images that the study will have."""
    settings = work.settings
    if not settings.images.ready:
        files = [
            section.target
            for section in (settings.noise, settings.interference)
            if section.target.endswith(".csv")
        ]
        for file in (*files, *([settings.interference.mask] if settings.interference.mask else [])):
            with findings.watch(file=file):
                work.source(file)
    source = settings.images.ready or settings.images.source
    table = None
    with findings.watch(file=source):
        table = expected_stimuli(work)
        if table.empty:
            raise InputError(
                f"{source} holds no images; give a folder of images or a CSV with the column file."
            )
    return table


def _check_with_images(work: Workspace, table: pd.DataFrame, findings: Findings) -> None:
    from fmri.reliability import tell_few_conditions
    from neurometamer.rsa.image_types.nulls import known_classes
    from neurometamer.rsa.sampling import sample_photographs

    if work.settings.rsa.null == "class":
        with findings.watch():
            _check_classes(table)
    if work.settings.rsa.classes == "random":
        with findings.watch():
            # Refuse the claim about other classes where there are too few, before any work.
            names = sorted(table.loc[table["kind"] == "RE", "reference_id"].astype(str))
            sample_photographs(names, known_classes(table), "random", option="rsa.classes:")
    if subject_names(work):
        with findings.watch():
            _check_encoding(work, table)
        with findings.watch():
            selection = work.settings.selection
            if selection.voxels_per_roi:
                tell_few_conditions(int((table["kind"] == selection.kind).sum()))


def _check_encoding(work: Workspace, table: pd.DataFrame) -> None:
    """Refuse settings of the encoding that these images cannot give."""
    from neurometamer.encoding.generalization import check_encoding

    encoding = work.settings.encoding
    n_photographs = int((table["kind"] == "RE").sum())
    if (
        encoding.folds
        and encoding.scheme == "by image"
        and not 2 <= encoding.folds <= n_photographs
    ):
        raise InputError(
            f"encoding.folds is {encoding.folds}, but the study has {n_photographs} photographs; "
            f"give 2 to {n_photographs}, or 0 to leave it open."
        )
    try:
        check_encoding(
            table,
            scheme=encoding.scheme,
            n_folds=encoding.folds or None,
            alphas=encoding.alphas,
            n_permutations=encoding.permutations,
            seed=work.settings.study.seed,
        )
    except InputError as error:
        raise InputError(f"encoding: {str(error).removeprefix('encoding: ')}") from None


def _check_measure(work: Workspace) -> None:
    if work.settings.rsa.measure == "poisson" and subject_names(work):
        raise InputError(
            "rsa.measure: 'poisson' takes rates of zero or more, and betas of voxels are negative "
            "too; use another "
            'measure, or brain.source = "none".'
        )


def _check_names(work: Workspace) -> None:
    """Refuse names that do not go together.

    An example is a comparator for which an interval is not defined.
    """
    try:
        for system in ("network", "brain"):
            kind_options(work, system, {kind: ("RE", kind) for kind in ("AN", "AI")})
    except InputError as error:
        raise InputError(f"rsa: {error}") from None


def _check_interval(work: Workspace) -> None:
    from neurometamer.rsa.image_types.inference import OVER_SUBJECTS
    from neurometamer.rsa.image_types.options import subjects_needed

    rsa, subjects = work.settings.rsa, subject_names(work)
    if rsa.interval in OVER_SUBJECTS and len(subjects) < (
        needed := subjects_needed(rsa.confidence)
    ):
        raise InputError(
            f"rsa.interval: '{rsa.interval}' at {rsa.confidence:.0%} needs at least {needed} "
            f"subjects; the study has {len(subjects)} ({name_ids(subjects) or 'no brain'}). Use "
            "'stimuli', which resamples photographs."
        )
    if rsa.interval == "subsample" and rsa.measure not in SUBSAMPLED:
        raise InputError(
            f"rsa.interval: 'subsample' is there for the measures {' and '.join(SUBSAMPLED)}, not "
            f"'{rsa.measure}'."
        )


def _check_classes(table: pd.DataFrame) -> None:
    from neurometamer.rsa.image_types.nulls import class_labels

    try:
        class_labels(table)
    except InputError as error:
        raise InputError(
            "rsa.null: 'class' needs the column category of the images, at least two classes: "
            f"{error}"
        ) from None


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
    from stimuli_gen.stimuli import read_stimuli

    images = work.settings.images
    if images.ready:
        source = work.source(images.ready)
        if (source / "stimuli.h5").is_file():
            return read_stimuli(source, in_memory=False).table
        table = _listed(source)
        kind = table["kind"].fillna("RE") if "kind" in table else "RE"
        reference = (
            table["reference_id"].fillna(table["id"]) if "reference_id" in table else table["id"]
        )
        return table.assign(kind=kind, reference_id=reference)
    photographs = _photographs(work)
    parts = [photographs.assign(kind="RE", reference_id=photographs["id"])]
    parts += [
        photographs.assign(
            id=photographs["id"] + f"_{kind}", kind=kind, reference_id=photographs["id"]
        )
        for kind in ("AN", "AI")
    ]
    table = pd.concat(parts, ignore_index=True)
    check_file_names(table["id"])
    return table


def _photographs(work: Workspace) -> pd.DataFrame:
    from stimuli_gen.photographs import PACKAGED

    if work.settings.images.source == "packaged":
        return pd.DataFrame(
            {"id": list(PACKAGED), "category": [category for _, _, category in PACKAGED.values()]}
        )
    table = _listed(work.source(work.settings.images.source))
    check_file_names(table["id"])
    return table


def _listed(source: Path) -> pd.DataFrame:
    """List the images of a folder or CSV, and refuse a list of files that are not there."""
    from stimuli_gen.photograph_lists import list_photographs

    table = list_photographs(source).table
    missing = [str(file) for file in table["file"] if not Path(file).is_file()]
    if missing:
        raise InputError(
            f"{source} lists files that do not exist: {name_ids(missing)}; correct the column file."
        )
    return table
