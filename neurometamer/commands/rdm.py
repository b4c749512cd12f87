"""The Python twin of ``neurometamer rdm``: images or ROI patterns in, a file of RDMs out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neurometamer.arguments import checked
from neurometamer.commands.stimuli import Progress
from neurometamer.errors import InputError
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
    """Compute RDMs of a network's stages, or of subjects' ROI patterns.

    They are written for rsatoolbox.

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
        Seed of random weights.
    scratch : path-like, optional
        Folder on disk for a network's responses (4 bytes a unit and image) while it works; the
        system's by default.
    progress : callable, optional
        Called with (images done, images).
    bits : int, optional
        Bits of data of 16-bit photographs, see `stimuli_gen.load_photographs`.
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
        scratch=scratch,
        run=RunOptions(batch_size=batch_size, progress=progress),
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
