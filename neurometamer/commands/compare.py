"""The command ``neurometamer compare``: two files of RDMs in, a table out."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import Progress
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
    comparator: Sequence[str] = ("spearman",),
    controls: str | Path | None = None,
    blocks: str | Path | None = None,
    descriptor: str | None = None,
    progress: Progress | None = None,
    **options: Annotated[
        Any,
        KeywordsOf("neurometamer.rsa.compare:compare_rdms", ("kind", "join")),
        KeywordsOf("neurometamer.rsa.compare:ComparisonOptions"),
    ],
) -> pd.DataFrame:
    """Compare all RDMs of one file with all of another, joined by stimulus id.

    Parameters
    ----------
    a, b : path-like
        HDF5 files of RDMs.
    out : path-like, optional
        CSV to write.
    comparator : sequence of str
        Comparators, upper or lower case.
    controls : path-like, optional
        HDF5 file of RDMs whose ranks are regressed out of both sides (`control_rdms`).
    blocks : path-like, optional
        Table with the columns id and block: labels change places within these only.
    descriptor : str, optional
        Pattern descriptor with the stimulus ids, in files of rsatoolbox that have no ``condition``
        (`read_rdms`).
    progress : callable, optional
        Called with (comparisons done, comparisons in all), for each comparator again.
    **options : object
        ``kind`` and ``join`` of `neurometamer.compare_rdms`, and fields of
        `neurometamer.rsa.compare.ComparisonOptions`.

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
    >>> rdms = nm.rsa.label_rdms(
    ...     values, conditions=names, rdm_descriptors=places, measure="euclidean"
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = nm.write_rdms(rdms, Path(folder) / "network.h5")
    ...     table = nm.commands.compare_files(file, file, n_resamples=0)
    >>> table[["a_stage", "b_stage", "similarity"]].round(2).values.tolist()
    [['late', 'late', 1.0]]
    """
    import pandas as pd

    from neurometamer.commands.rdm import read_same_blocks
    from neurometamer.rsa.comparators.table import comparator_name
    from neurometamer.rsa.compare import compare_rdms
    from neurometamer.rsa.compute import read_rdms

    first = read_rdms(a, descriptor=descriptor)
    second = read_rdms(b, descriptor=descriptor)
    if controls is not None:
        options["controls"] = read_rdms(controls)
    if blocks is not None:
        options["blocks"] = read_same_blocks(blocks)
    if not comparator:
        raise InputError("comparator is empty; give at least one name (--comparator).")
    tables = []
    for name in [comparator_name(given.lower()) for given in comparator]:
        compared = compare_rdms(first, second, comparator=name, progress=progress, **options)
        tables.append(compared.assign(comparator=name))
    table = pd.concat(tables, ignore_index=True)
    if out is not None:
        written = table
        if "left_out" in table:
            written = table.assign(left_out=table["left_out"].map(json.dumps))
        write_table(out, written)
    return table
