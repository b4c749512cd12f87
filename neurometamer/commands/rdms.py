"""The commands ``neurometamer rdm`` and ``controls``, and files of RDMs as commands get them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import ReadingOptions, check_before_loading
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.reading import Files
from neurometamer.run_options import RunOptions
from neurometamer.store import read_table
from stimuli_gen.photograph_lists import list_photographs
from stimuli_gen.photographs import read_images

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

    from fmri.patterns import Patterns
    from fmri.residuals import Residuals


OWN_NAMES = "*"
"""Instead of names: those that the RDMs have in their file."""


def split_labels(text: str | os.PathLike[str]) -> tuple[Path, tuple[str, str] | None]:
    """Read ``FILE`` or ``FILE=subject:roi``.

    Parameters
    ----------
    text : str or path-like
        What the user wrote; a file whose name holds ``=`` is taken as a file.

    Returns
    -------
    path : Path
        The file.
    labels : (str, str) or None
        Subject and ROI.

    Raises
    ------
    InputError
        When a name is missing.

    Examples
    --------
    >>> split_labels("it.mat=S1:IT")[1], split_labels("brain.h5")[1]
    (('S1', 'IT'), None)
    """
    words = os.fspath(text)
    file, equals, names = words.rpartition("=")
    if not equals or Path(words).is_file():
        return Path(words), None
    subject, colon, roi = (part.strip() for part in names.partition(":"))
    if not (file and colon and subject and roi):
        raise InputError(
            f"'{words}' does not name subject and region; write FILE=subject:roi, e.g. "
            f"{file or 'FILE'}=S1:V1."
        )
    return Path(file), (subject, roi)


def read_blocks(file: str | os.PathLike[str]) -> dict[str, Any]:
    """Read in which session or class each stimulus is, for permutations within these.

    Parameters
    ----------
    file : path-like
        CSV or TSV with the columns id and block; with subject where sessions differ between
        subjects.

    Returns
    -------
    dict
        Stimulus → block, or subject → such a mapping.

    Raises
    ------
    InputError
        When a column or a value is missing, or a stimulus comes twice.
    """
    table = read_table(file, required=["id", "block"], text=["id", "block", "subject"])
    name = Path(file).name
    is_empty = table["block"].fillna("") == ""
    if is_empty.any():
        raise InputError(
            f"{name}: no block for {name_ids(table['id'][is_empty])}; fill the column."
        )
    has_subjects = "subject" in table.columns
    if not has_subjects:
        table = table.assign(subject="")
    blocks: dict[str, Any] = {}
    for subject, part in table.groupby(table["subject"].astype(str), sort=False):
        if again := duplicates(part["id"]):
            whose = f" {subject}" if has_subjects else ""
            raise InputError(
                f"{name}: more than one block for {name_ids(again)}{whose}; give one row each."
            )
        blocks[str(subject)] = dict(zip(part["id"], part["block"], strict=True))
    return blocks if has_subjects else blocks[""]


def read_same_blocks(file: str | os.PathLike[str]) -> dict[str, str]:
    """Read blocks that are the same for all RDMs.

    Parameters
    ----------
    file : path-like
        See `read_blocks`.

    Returns
    -------
    dict of str to str
        Stimulus → block.

    Raises
    ------
    InputError
        As `read_blocks`, and when blocks are of subjects.
    """
    blocks = read_blocks(file)
    if any(isinstance(block, dict) for block in blocks.values()):
        raise InputError(
            f"{Path(file).name} has blocks of subjects ({name_ids(blocks)}); here all share them: "
            "no subject."
        )
    return blocks


def read_labelled(
    text: str | os.PathLike[str],
    *,
    ids: Sequence[str] | None = None,
    variable: str | None = None,
    measure: str = "",
    descriptor: str | None = None,
) -> RDMs:
    """Read RDMs and give them the subject and ROI that the user wrote beside the file.

    Parameters
    ----------
    text : str or path-like
        ``FILE`` or ``FILE=subject:roi``. For a file of several RDMs, names between commas in their
        order, or ``*`` for the names they have in the file: ``FILE=S1,S2:IT``, ``FILE=*:IT``.
    ids : sequence of str, optional
        Ids of the stimuli in the order of the RDMs, where their file names none.
    variable : str, optional
        Variable of the file that is read, where it holds several.
    measure : str
        What the RDMs of other programs are; crossnobis may be negative.
    descriptor : str, optional
        Pattern descriptor with the stimulus ids, in files of rsatoolbox without one named
        condition.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        With ``rdm_descriptors`` subject, roi and system (``brain``) where names were written.

    Raises
    ------
    InputError
        When the file cannot be read, names are missing or do not fit the number of RDMs, or two
        RDMs get the same.
    """
    from neurometamer.rsa.compute import read_rdms, take_conditions

    path, labels = split_labels(text)
    rdms = read_rdms(path, ids=ids, variable=variable, measure=measure, descriptor=descriptor)
    if labels is None:
        return rdms
    own = list(map(str, rdms.rdm_descriptors.get("name", range(1, rdms.n_rdm + 1))))
    subjects = _names(labels[0], rdms.n_rdm, own, str(path))
    rois = _names(labels[1], rdms.n_rdm, own, str(path))
    places = [f"{subject}:{roi}" for subject, roi in zip(subjects, rois, strict=True)]
    if again := duplicates(places):
        raise InputError(
            f"{path} holds {rdms.n_rdm} RDMs, but {name_ids(again)} names more than one; write a "
            f"name for each between commas ({path.name}=S1,S2:{rois[0]}), or "
            f"{path.name}=*:{rois[0]} for their own names."
        )
    named = take_conditions(rdms, range(rdms.n_cond))
    named.rdm_descriptors |= {"subject": subjects, "roi": rois, "system": ["brain"] * rdms.n_rdm}
    return named


def _names(text: str, n: int, own: Sequence[str], path: str) -> list[str]:
    if text == OWN_NAMES:
        return list(own)
    names = [name.strip() for name in text.split(",")]
    if len(names) not in (1, n) or not all(names):
        raise InputError(
            f"{path} holds {n} RDM(s), but '{text}' is {len(names)} name(s); write one, or one for "
            "each."
        )
    return names * n if len(names) == 1 else names


def is_foreign(text: str | os.PathLike[str]) -> bool:
    """Tell files of other programs from those of ``neurometamer rdm``.

    Parameters
    ----------
    text : str or path-like
        ``FILE`` or ``FILE=subject:roi``.

    Returns
    -------
    bool
        By the suffix.
    """
    from neurometamer.rsa.files import READERS

    path, _ = split_labels(text)
    return path.suffix.lower() in READERS


def need_places(rdms: RDMs, text: str | os.PathLike[str]) -> RDMs:
    """Refuse RDMs that name no subject or ROI, and say what to write.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs of one file.
    text : str or path-like
        What the user wrote for it.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        The same.

    Raises
    ------
    InputError
        When a name is missing.
    """
    lacking = [name for name in ("subject", "roi") if name not in rdms.rdm_descriptors]
    if lacking:
        path, _ = split_labels(text)
        example = f"{path}=S1:V1'"
        if rdms.n_rdm > 1:
            example = f"{path}=*:V1' (* takes their {rdms.n_rdm} names in the file)"
        raise InputError(
            f"{path}: the RDMs name no {' and no '.join(lacking)}; write them beside the file: "
            f"--brain '{example}."
        )
    return rdms


def read_id_list(path: str | os.PathLike[str]) -> list[str]:
    """Read ids in the order of a file's rows.

    Parameters
    ----------
    path : path-like
        Table with the column ``id``, or ``file`` (ids are the names without suffix).

    Returns
    -------
    list of str
        In order.

    Raises
    ------
    InputError
        When there is no such column, or a cell is empty.
    """
    table = read_table(path)
    column = next((name for name in ("id", "file") if name in table.columns), None)
    if column is None:
        raise InputError(
            f"{path} has neither a column id nor file; it has {name_ids(map(str, table.columns))}. "
            "Give one of them."
        )
    if table[column].isna().any():
        raise InputError(
            f"{path}: {int(table[column].isna().sum())} row(s) without '{column}'; fill them."
        )
    ids = table[column].astype(str)
    return [Path(file).stem for file in ids] if column == "file" else ids.tolist()


@dataclass(frozen=True, kw_only=True)
class NoiseFiles:
    """Where the noise of patterns is known from.

    Parameters
    ----------
    residuals : sequence of path-like
        With ``patterns``, for ``"mahalanobis"`` and ``"crossnobis"``: files of ``neurometamer fmri
        patterns --residuals``, one a subject, from which the noise is estimated in place of
        presentations.

    Examples
    --------
    >>> NoiseFiles().residuals
    ()
    """

    residuals: Files = ()


@checked
def rdm(
    out: str | Path,
    *,
    model: str | None = None,
    weights: str = "default",
    images: Files = (),
    patterns: Files = (),
    stages: Sequence[str] = (),
    measure: str = "spearman",
    seed: int = 0,
    scratch: str | Path | None = None,
    reading: ReadingOptions | None = None,
    run: RunOptions | None = None,
    **noise: Annotated[
        Any,
        KeywordsOf(
            "neurometamer.rsa.compute:pattern_rdms", ("noise", "folds", "pooled", "allow_chosen")
        ),
        KeywordsOf("neurometamer.commands.rdms:NoiseFiles"),
    ],
) -> Path:
    """Compute RDMs of a network's stages, or of subjects' ROI patterns.

    They are written for rsatoolbox.

    Parameters
    ----------
    out : path-like
        HDF5 file to write, in the format of rsatoolbox (`rsatoolbox.rdm.load_rdm`).
    model : str, optional
        Name of the network; or give `patterns`.
    weights : str
        ``"default"`` (ImageNet), ``"random"`` (untrained), or a file.
    images : sequence of path-like
        Folders written by ``neurometamer stimuli``, folders of photographs, or CSV files with the
        column file.
        With `patterns`, optional: they say which condition is of which kind and photograph.
    patterns : sequence of path-like
        Files of ``neurometamer fmri patterns``, one a subject.
    stages : sequence of str
        Stages of the network: names, early, middle, late, or fractions of depth; all when empty.
    measure : str
        Measure of dissimilarity, one of `neurometamer.rsa.measures.MEASURES`.
    seed : int
        Seed of random weights.
    scratch : path-like, optional
        Folder on disk for a network's responses (4 bytes a unit and image) while it works; the
        system's by default.
    reading : ReadingOptions, optional
        How photographs are read.
    run : RunOptions, optional
        Device, number of images at a time and callback for progress.
    **noise : object
        With `patterns`: ``noise``, ``folds`` and ``allow_chosen`` (for ``"mahalanobis"`` and
        ``"crossnobis"``), and ``pooled`` (one RDM over the voxels of all subjects) of
        `neurometamer.rsa.pattern_rdms`; ``residuals`` of `NoiseFiles`.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        When the input cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import pandas as pd
    >>> import neurometamer as nm
    >>> from fmri import Patterns, write_patterns
    >>> rows = {"condition": [f"image {number}" for number in range(5)], "presentation": 1}
    >>> places = {"subject": "S1", "roi": "V1", "i": range(6), "j": 0, "k": 0}
    >>> patterns = Patterns(
    ...     values=np.random.default_rng(0).random((5, 6)),
    ...     observations=pd.DataFrame({**rows, "run": "1", "session": ""}),
    ...     voxels=pd.DataFrame(places),
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = write_patterns(patterns, Path(folder) / "S1.h5")
    ...     rdms = nm.read_rdms(nm.commands.rdm(Path(folder) / "brain.h5", patterns=[file]))
    >>> rdms.n_rdm, rdms.n_cond
    (1, 5)
    """
    from neurometamer.rsa.compute import find_measure, pattern_rdms, write_rdms
    from neurometamer.rsa.streaming import streamed_rdms
    from neurometamer.zoo import load_model
    from stimuli_gen.depth import at_stages

    if (model is None) == (not patterns):
        raise InputError("give either a network (--model and --images) or --patterns.")
    find_measure(measure)
    residuals = noise.pop("residuals", ())
    if model is None:
        subjects = read_pattern_files(patterns)
        table = conditions_table(subjects, images)
        if residuals:
            noise["residuals"] = read_residual_files(residuals)
        return write_rdms(pattern_rdms(subjects, table, measure=measure, **noise), out)
    if residuals:
        noise["residuals"] = residuals
    if noise:
        raise InputError(f"{name_ids(noise)} is for --patterns; leave it out for a network.")
    run = run or RunOptions()
    reading = reading or ReadingOptions()
    check_before_loading([model], weights, images, reading)
    network = load_model(model, weights=weights, device=run.device, seed=seed)
    network, chosen = at_stages(network, list(stages) or list(network.stages))
    stimuli = read_images(images, network.preprocessing, bits=reading.bits, icc=reading.icc)
    rdms = streamed_rdms(
        network,
        stimuli,
        stages=chosen,
        measure=measure,
        scratch=scratch,
        run=run,
    )
    return write_rdms(rdms, out)


def read_pattern_files(files: Files) -> dict[str, Patterns]:
    """Read pattern files of several subjects.

    Parameters
    ----------
    files : sequence of path-like
        One a subject.

    Returns
    -------
    dict of str to Patterns
        By subject; a file without a subject is named after itself.

    Raises
    ------
    InputError
        When two files are of one subject.
    """
    from fmri.patterns import read_patterns

    subjects: dict[str, Patterns] = {}
    for file in files:
        patterns = read_patterns(file)
        name = patterns.subject or Path(file).stem
        if name in subjects:
            raise InputError(f"{file} is a second file of subject {name}; give one file a subject.")
        subjects[name] = patterns
    return subjects


def read_residual_files(files: Files) -> dict[str, Residuals]:
    """Read residuals of several subjects.

    Parameters
    ----------
    files : sequence of path-like
        One a subject.

    Returns
    -------
    dict of str to Residuals
        By subject.

    Raises
    ------
    InputError
        When two files are of one subject.
    """
    from fmri.residuals import read_residuals

    subjects: dict[str, Residuals] = {}
    for file in files:
        residuals = read_residuals(file)
        name = str(residuals.voxels["subject"].iloc[0]) or Path(file).stem
        if name in subjects:
            raise InputError(f"{file} is a second file of subject {name}; give one file a subject.")
        subjects[name] = residuals
    return subjects


def conditions_table(subjects: Mapping[str, Patterns], images: Files) -> pd.DataFrame:
    """Say what the conditions of patterns are.

    Parameters
    ----------
    subjects : mapping of str to Patterns
        Responses.
    images : sequence of path-like
        Stimulus folders or their tables (id, kind, reference_id), or folders of photographs, which
        are regular images; without any, each condition is a regular image.

    Returns
    -------
    pandas.DataFrame
        id, kind, reference_id.
    """
    import pandas as pd

    if not images:
        ids = list(next(iter(subjects.values())).conditions)
        return pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    tables = []
    for source in map(Path, images):
        path = source / "stimuli.csv" if source.is_dir() else source
        if source.is_dir() and not path.exists():
            photographs = list_photographs(source).table
            own = photographs.assign(kind="RE", reference_id=photographs["id"])
            tables.append(own[["id", "kind", "reference_id"]])
            continue
        tables.append(read_table(path, required=["id", "kind", "reference_id"]))
    return pd.concat(tables)


@checked
def controls(
    images: Files,
    out: str | Path,
    *,
    which: Sequence[str] = ("pixels", "luminance", "gabor"),
    category: str = "category",
    model: str = "efficientnet_lite0",
    reading: ReadingOptions | None = None,
) -> Path:
    """Make control RDMs of images and write them for ``neurometamer compare --controls``.

    Parameters
    ----------
    images : sequence of path-like
        Folders written by ``neurometamer stimuli``, folders of photographs, or CSV files with the
        column file.
    out : path-like
        HDF5 file to write, for ``neurometamer compare --controls``.
    which : sequence of str
        What is measured, some of `neurometamer.rsa.controls.CONTROLS`.
    category : str
        Column of the stimuli's table with the categories.
    model : str
        Network whose size and cut photographs get: the pixels that are measured. Stimulus folders
        are as they are.
    reading : ReadingOptions, optional
        How photographs are read.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        For an unknown control or network, an image of one gray, or a missing category.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import neurometamer as nm
    >>> from neurometamer.zoo import model_entry
    >>> from stimuli_gen import packaged_photographs, write_stimuli
    >>> photographs = packaged_photographs(model_entry("efficientnet_lite0").preprocessing)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     images = write_stimuli(photographs, Path(folder) / "images")
    ...     rdms = nm.read_rdms(
    ...         nm.commands.controls([images], Path(folder) / "c.h5", which=["luminance"])
    ...     )
    >>> rdms.n_rdm, rdms.n_cond
    (1, 16)
    """
    from neurometamer.rsa.compute import write_rdms
    from neurometamer.rsa.controls import CONTROLS, control_rdms
    from neurometamer.zoo import model_entry

    if not which:
        raise InputError(f"no control asked for; give some of {', '.join(CONTROLS)}.")
    for control in which:
        if control not in CONTROLS:
            raise unknown_name("control", control, CONTROLS)
    reading = reading or ReadingOptions()
    preprocessing = model_entry(model).preprocessing
    stimuli = read_images(images, preprocessing, bits=reading.bits, icc=reading.icc)
    return write_rdms(control_rdms(stimuli, list(dict.fromkeys(which)), column=category), out)
