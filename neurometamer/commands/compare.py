"""The Python twin of ``neurometamer compare``: two files of RDMs in, a table out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.arguments import checked
from neurometamer.commands.stimuli import Progress
from neurometamer.errors import InputError
from neurometamer.store import write_table

if TYPE_CHECKING:
    import pandas as pd


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
        Coverage of the intervals.
    seed : int
        Seed of resamples and permutations.
    progress : callable, optional
        Called with (comparisons done, comparisons in all), for each comparator again.
    descriptor : str, optional
        Pattern descriptor with the stimulus ids, in files of rsatoolbox that have no ``condition``
        (`read_rdms`).

    Returns
    -------
    pandas.DataFrame
        One row a pair of RDMs and comparator (column ``by``). With ``join="inner"`` the column
        ``left_out`` lists the ids that one side held; in the CSV as a JSON array.

    Raises
    ------
    InputError
        When ids do not match or a name is unknown.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import numpy as np
    >>> import neurometamer as nm
    >>> values = np.random.default_rng(0).random((1, 15))
    >>> names = [f"image {number}" for number in range(6)]
    >>> places = {"stage": ["late"]}
    >>> rdms = nm.label_rdms(values, conditions=names, places=places, measure="euclidean")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = nm.write_rdms(rdms, Path(folder) / "network.h5")
    ...     table = nm.compare_files(file, file, resamples=0)
    >>> table[["a_stage", "b_stage", "similarity"]].round(2).values.tolist()
    [['late', 'late', 1.0]]
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
        written = table
        if "left_out" in table:
            written = table.assign(left_out=table["left_out"].map(json.dumps))
        write_table(out, written)
    return table
