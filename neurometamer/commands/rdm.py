"""The Python twin of ``neurometamer rdm``: images or ROI patterns in, a file of RDMs out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import ReadingOptions
from neurometamer.errors import InputError, name_ids
from neurometamer.reading import Files
from neurometamer.run_options import RunOptions
from neurometamer.store import read_table
from stimuli_gen.photographs import read_images

if TYPE_CHECKING:
    import pandas as pd

    from fmri.patterns import Patterns


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
    seed: int = 0,
    scratch: str | Path | None = None,
    reading: ReadingOptions | None = None,
    run: RunOptions | None = None,
    **noise: Annotated[
        Any, KeywordsOf("neurometamer.rsa.compute:pattern_rdms", ("noise", "folds"))
    ],
) -> Path:
    """Compute RDMs of a network's stages, or of subjects' ROI patterns.

    They are written for rsatoolbox.

    Parameters
    ----------
    out : path-like
        HDF5 file to write; ``rsatoolbox.rdm.load_rdm(out, file_type="hdf5")`` opens it.
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
    seed : int
        Seed of random weights.
    scratch : path-like, optional
        Folder on disk for a network's responses (4 bytes a unit and image) while it works; the
        system's by default.
    reading : ReadingOptions, optional
        How photographs are read.
    run : RunOptions, optional
        Device, number of images at a time, and who is told about progress.
    **noise : object
        With `patterns`, for ``"mahalanobis"`` and ``"crossnobis"``: ``noise`` and ``folds`` of
        `neurometamer.pattern_rdms`.

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
    ...     rdms = nm.read_rdms(nm.make_rdms(Path(folder) / "brain.h5", patterns=[file]))
    >>> rdms.n_rdm, rdms.n_cond
    (1, 5)
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
        return write_rdms(pattern_rdms(subjects, table, measure=measure, **noise), out)
    if noise:
        raise InputError(f"{name_ids(noise)} is for --patterns; leave it out for a network.")
    run = run or RunOptions()
    reading = reading or ReadingOptions()
    network = load_model(model, weights=weights, device=run.device, seed=seed)
    stimuli = read_images(images, network.preprocessing, bits=reading.bits, icc=reading.icc)
    rdms = streamed_rdms(
        network,
        stimuli,
        stages=list(stages) or None,
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
    tables = []
    for source in map(Path, images):
        path = source / "stimuli.csv" if source.is_dir() else source
        tables.append(read_table(path, required=["id", "kind", "reference_id"]))
    return pd.concat(tables)
