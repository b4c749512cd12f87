"""The Python twins of the commands that measure and compare: files in, files out, one function a command."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.arguments import checked
from neurometamer.commands.stimuli import Progress
from neurometamer.errors import InputError
from neurometamer.reading import Files
from neurometamer.store import read_table, write_table
from stimuli_gen.photographs import read_images

if TYPE_CHECKING:
    import pandas as pd

    from fmri.patterns import Patterns


@checked
def make_patterns(
    masks: Mapping[str, str | Path],
    *,
    bold: Files = (),
    events: Files = (),
    confounds: Files = (),
    betas: str | Path | None = None,
    subject: str | None = None,
    t_r: float | None = None,
    columns: Sequence[str] = (),
    condition_column: str = "trial_type",
    affine: str = "agree",
    n_voxels: int = 0,
    select_on: Sequence[str] = (),
    ignore: Sequence[str] = (),
    estimator: str = "LSA",
    progress: Progress | None = None,
    **glm: Any,
) -> Patterns:
    """Take ROI patterns out of BOLD runs, or out of betas that were estimated before.

    Parameters
    ----------
    masks : mapping of str to path-like
        ROI name → mask.
    bold, events, confounds : sequence of path-like
        One file a run each (confounds may be left out); or give `betas`.
    betas : path-like, optional
        Folder written by ``neurometamer fmri betas``.
    subject : str, optional
        Name; by default from the file names.
    t_r : float, optional
        Repetition time in seconds, where header and JSON sidecar do not tell or disagree.
    columns : sequence of str
        Confounds to use; when empty the six motion parameters where there are all, else every
        column.
    condition_column, affine : str
        See `fmri.read_run`.
    n_voxels : int
        Keep so many voxels of each ROI, the most reliable; 0 keeps all.
    select_on : sequence of str
        Conditions on which reliability is judged; needed with `n_voxels`.
    ignore : sequence of str
        Trial types without a regressor; when empty those of `fmri.estimate_betas`.
    estimator : {"LSA", "LSS"}
        All events in one design, or each against the rest.
    progress : callable, optional
        Hears (runs done, runs).
    **glm : object
        Settings of `fmri.estimate_betas`.

    Returns
    -------
    Patterns
        Observations × voxels.

    Raises
    ------
    InputError
        When the input cannot be used.
    """
    from fmri.betas import estimate_betas, read_betas
    from fmri.bold import read_runs
    from fmri.reliability import select_voxels

    if not masks:
        raise InputError("no masks given; use --masks NAME=FILE, one for each ROI.")
    if (betas is None) == (not bold):
        raise InputError(
            "give either BOLD runs (--bold and --events) or a folder of betas (--betas)."
        )
    if n_voxels and not select_on:
        raise InputError(
            "--voxels needs the conditions that judge reliability: --stimuli CSV (its RE rows) or "
            "--select-on."
        )
    if betas is not None:
        patterns = read_betas(betas, masks, unusable=glm.get("unusable", "refuse"), affine=affine)
    else:
        runs = read_runs(
            bold,
            events,
            confounds or None,
            subject=subject,
            t_r=t_r,
            columns=columns or None,
            condition_column=condition_column,
            affine=affine,
        )
        glm |= {"ignore": tuple(ignore)} if ignore else {}
        patterns = estimate_betas(runs, dict(masks), estimator=estimator, progress=progress, **glm)
    if n_voxels:
        patterns = select_voxels(patterns, conditions=list(select_on), n_per_roi=n_voxels)
    return patterns


def regular_ids(table: str | Path) -> list[str]:
    """Read which stimuli are regular images.

    Parameters
    ----------
    table : path-like
        CSV with the columns ``id`` and ``kind``, e.g. a ``stimuli.csv``.

    Returns
    -------
    list of str
        Ids of kind RE.

    Raises
    ------
    InputError
        When there are none.
    """
    rows = read_table(table, required=["id", "kind"])
    ids = rows["id"][rows["kind"] == "RE"].tolist()
    if not ids:
        raise InputError(f"{table} has no rows of kind RE.")
    return ids


@checked
def make_rdms(
    out: str | Path,
    *,
    model: str | None = None,
    weights: str = "default",
    images: Files = (),
    patterns: Files = (),
    stages: Sequence[str] = (),
    measure: str = "spearman",
    noise: str = "shrinkage_diag",
    folds: str = "run",
    device: str = "auto",
    batch_size: int = 8,
    seed: int = 0,
    scratch: str | Path | None = None,
    progress: Progress | None = None,
    bits: int | None = None,
    icc: str = "ignore",
) -> Path:
    """Compute RDMs of a network's stages, or of subjects' ROI patterns, and write them for rsatoolbox.

    Parameters
    ----------
    out : path-like
        HDF5 file; ``rsatoolbox.rdm.load_rdm(out, file_type="hdf5")`` opens it.
    model : str, optional
        Name of the network; or give `patterns`.
    weights : str
        See `neurometamer.zoo.load_model`.
    images : sequence of path-like
        See `read_images`. With `patterns`, optional: says which condition is of which kind and
        photograph.
    patterns : sequence of path-like
        Files of ``neurometamer fmri patterns``, one a subject.
    stages : sequence of str
        Stages; all when empty.
    measure : str
        One of `neurometamer.rsa.measures.MEASURES`.
    noise, folds : str
        With `patterns`, for ``"mahalanobis"`` and ``"crossnobis"``: see
        `neurometamer.pattern_rdms`.
    device : str
        See `neurometamer.zoo.load_model`.
    batch_size : int
        Images at once.
    seed : int
        Of random weights.
    scratch : path-like, optional
        Folder on disk for a network's responses (4 bytes a unit and image) while it works; the
        system's by default.
    progress : callable, optional
        Hears (images done, images).
    bits : int, optional
        Of 16-bit photographs, see `stimuli_gen.load_photographs`.
    icc : {"ignore", "convert"}
        Color profiles of photographs, see there.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        When the input cannot be used.
    """
    from neurometamer.rsa.compute import find_measure, pattern_rdms, write_rdms
    from neurometamer.rsa.streaming import streamed_rdms
    from neurometamer.zoo import load_model

    if (model is None) == (not patterns):
        raise InputError("give either a network (--model and --images) or --patterns.")
    find_measure(measure)
    if model is None:
        subjects = read_pattern_files(patterns)
        table = conditions_table(subjects, images)
        return write_rdms(
            pattern_rdms(subjects, table, measure=measure, noise=noise, folds=folds), out
        )
    network = load_model(model, weights=weights, device=device, seed=seed)
    stimuli = read_images(images, network.preprocessing, bits=bits, icc=icc)
    rdms = streamed_rdms(
        network,
        stimuli,
        stages=list(stages) or None,
        measure=measure,
        batch_size=batch_size,
        scratch=scratch,
        progress=progress,
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


def conditions_table(subjects: Mapping[str, Patterns], images: Files) -> pd.DataFrame:
    """Say what the conditions of patterns are.

    Parameters
    ----------
    subjects : mapping of str to Patterns
        Responses.
    images : sequence of path-like
        Stimulus folders or their tables (id, kind, reference_id); without any, each condition is a
        regular image.

    Returns
    -------
    pandas.DataFrame
        id, kind, reference_id.
    """
    import pandas as pd

    if not images:
        ids = list(next(iter(subjects.values())).conditions)
        return pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    return pd.concat(
        [
            read_table(_table_of(Path(one)), required=["id", "kind", "reference_id"])
            for one in images
        ]
    )


def _table_of(source: Path) -> Path:
    return source / "stimuli.csv" if source.is_dir() else source


@checked
def compare_files(
    a: str | Path,
    b: str | Path,
    out: str | Path | None = None,
    *,
    by: Sequence[str] = ("spearman",),
    kind: str | None = None,
    join: str = "exact",
    controls: str | Path | None = None,
    resamples: int = 1000,
    permutations: int = 0,
    blocks: str | Path | None = None,
    classes: str = "fixed",
    confidence: float = 0.95,
    seed: int = 0,
    progress: Progress | None = None,
    descriptor: str | None = None,
) -> pd.DataFrame:
    """Compare all RDMs of one file with all of another, joined by stimulus id.

    Parameters
    ----------
    a, b : path-like
        HDF5 files of RDMs.
    out : path-like, optional
        CSV to write.
    by : sequence of str
        Comparators, upper or lower case.
    kind : str, optional
        Only stimuli of this kind, joined by photograph.
    join : {"exact", "inner"}
        Whether both must hold the same ids, or the shared ones are used.
    controls : path-like, optional
        HDF5 file of RDMs whose ranks are regressed out of both sides (`control_rdms`).
    resamples : int
        Bootstrap resamples of the stimuli; 0 for no intervals.
    permutations : int
        Permutations of the stimulus labels of `a`; 0 for no p. There is none with `controls`
        (`compare_rdms`).
    blocks : path-like, optional
        Table with the columns id and block: labels change places within these only.
    classes : {"fixed", "random"}
        Where the RDMs know classes: whether intervals are about other stimuli of these classes, or
        about classes like these.
    confidence : float
        Of the intervals.
    seed : int
        Seed of resamples and permutations.
    progress : callable, optional
        Hears (comparisons done, comparisons in all), for each comparator anew.
    descriptor : str, optional
        Pattern descriptor with the stimulus ids, in files of rsatoolbox that have no ``condition``
        (`read_rdms`).

    Returns
    -------
    pandas.DataFrame
        One row a pair of RDMs and comparator (column ``by``).

    Raises
    ------
    InputError
        When ids do not match or a name is unknown.
    """
    import pandas as pd

    from neurometamer.commands.rdm_inputs import read_same_blocks
    from neurometamer.rsa.comparators.table import comparator_name
    from neurometamer.rsa.compare import compare_rdms
    from neurometamer.rsa.compute import read_rdms

    first, second = (read_rdms(path, descriptor=descriptor) for path in (a, b))
    options: dict[str, Any] = {
        "kind": kind,
        "join": join,
        "n_resamples": resamples,
        "confidence": confidence,
        "seed": seed,
        "controls": None if controls is None else read_rdms(controls),
        "n_permutations": permutations,
        "blocks": None if blocks is None else read_same_blocks(blocks),
        "progress": progress,
        "classes": classes,
    }
    if not by:
        raise InputError("no comparator given; name at least one (by, --by).")
    names = [comparator_name(name.lower()) for name in by]
    table = pd.concat(
        [compare_rdms(first, second, by=name, **options).assign(by=name) for name in names],
        ignore_index=True,
    )
    if out is not None:
        write_table(out, table)
    return table


@checked
def encode_files(
    out: str | Path,
    *,
    model: str,
    images: Files,
    patterns: Files,
    weights: str = "default",
    stages: Sequence[str] = (),
    device: str = "auto",
    batch_size: int = 8,
    progress: Progress | None = None,
    seed: int = 0,
    bits: int | None = None,
    icc: str = "ignore",
    **options: Any,
) -> pd.DataFrame:
    """Predict voxels from a network's stages: trained on RE, tested on held-out RE, AI and AN.

    Parameters
    ----------
    out : path-like
        CSV to write.
    model : str
        Name of the network.
    images : sequence of path-like
        See `read_images`; together exactly the conditions of the patterns.
    patterns : sequence of path-like
        Files of ``neurometamer fmri patterns``, one a subject.
    weights : str
        See `neurometamer.zoo.load_model`.
    stages : sequence of str
        Stages; all when empty.
    device : str
        See `neurometamer.zoo.load_model`.
    batch_size : int
        Images at once.
    progress : callable, optional
        Hears (stages done, stages).
    seed : int
        Of folds, permutations and random weights.
    bits : int, optional
        Of 16-bit photographs, see `stimuli_gen.load_photographs`.
    icc : {"ignore", "convert"}
        Color profiles of photographs, see there.
    **options : object
        Settings of `neurometamer.encoding.fit_encoding`.

    Returns
    -------
    pandas.DataFrame
        What was written.

    Raises
    ------
    InputError
        When the input cannot be used.
    """
    from neurometamer.activations import compute_activations
    from neurometamer.encoding import fit_encoding
    from neurometamer.zoo import load_model

    network = load_model(model, weights=weights, device=device, seed=seed)
    stimuli = read_images(images, network.preprocessing, bits=bits, icc=icc)
    subjects = read_pattern_files(patterns)
    found = compute_activations(
        network, stimuli, stages=list(stages) or None, batch_size=batch_size
    )
    table = fit_encoding(found, subjects, stimuli.table, seed=seed, progress=progress, **options)
    table = table.assign(model=network.name, weights=network.weights)
    write_table(out, table)
    return table
