"""Patterns on one scale, z-scored within runs or sessions, and voxels of subjects side by side."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from fmri.patterns import OBSERVATION_COLUMNS, Patterns, voxel_key, voxel_names
from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name

ZSCORES: dict[str, tuple[str, ...]] = {
    "none": (),
    "run": ("session", "run"),
    "session": ("session",),
}
"""Within what responses are z-scored → the columns that tell its parts apart."""


@checked
def zscore_patterns(patterns: Patterns, zscore: str) -> Patterns:
    """Give each voxel mean 0 and standard deviation 1 in every run or session.

    Parameters
    ----------
    patterns : Patterns
        Responses.
    zscore : {"none", "run", "session"}
        Within what responses are z-scored, over all image types together: in each run, in each
        session, or not at all ("none": as they are).

    Returns
    -------
    Patterns
        Float64 responses in standard deviations; ``provenance["zscore"]`` says within what.

    Raises
    ------
    InputError
        For an unknown name, patterns that were z-scored before, or voxels that are constant in a
        run or session (as all are where it has a single response); they are named.

    Notes
    -----
    The standard deviation is that of the responses there are (divisor n, as scipy's ``zscore`` and
    scikit-learn's ``StandardScaler``). It takes away what a run or session adds to all responses or
    multiplies them by. Where image types are shown in different runs or sessions it takes away what
    differs between the types, too. Responses have no baseline any more.

    Examples
    --------
    >>> shown = {"condition": ["cat", "cup"] * 2, "presentation": [1, 1, 2, 2]}
    >>> patterns = Patterns(
    ...     values=np.array([[1.0], [3], [10], [30]]),
    ...     observations=pd.DataFrame({**shown, "run": ["1", "1", "2", "2"], "session": ""}),
    ...     voxels=pd.DataFrame({"subject": "01", "roi": ["V1"], "i": 0, "j": 0, "k": 0}),
    ... )
    >>> zscore_patterns(patterns, "run").values.ravel().tolist()
    [-1.0, 1.0, -1.0, 1.0]
    """
    if zscore not in ZSCORES:
        raise unknown_name("zscore", zscore, ZSCORES)
    before = patterns.provenance.get("zscore", "none")
    if zscore == "none":
        return replace(patterns, provenance={**patterns.provenance, "zscore": before})
    if before != "none":
        raise InputError(
            f"these patterns were z-scored within each {before} already; give patterns of betas."
        )
    values = np.array(patterns.values, dtype=np.float64)
    columns = list(ZSCORES[zscore])
    parts = patterns.observations.groupby(columns, sort=False).indices
    for label, rows in parts.items():
        part = values[rows]
        centered = part - part.mean(axis=0)
        spread = centered.std(axis=0)
        constant = spread <= 1e-12 * np.abs(part).max(axis=0)
        if constant.any():
            where = " ".join(label if isinstance(label, tuple) else (label,)).strip()
            named = name_ids(voxel_names(patterns.voxels[constant]))
            raise InputError(
                f"no variance in {zscore} '{where}' ({len(rows)} responses) in {named}; leave "
                "those voxels out, or z-score within longer parts (zscore, --zscore)."
            )
        values[rows] = centered / spread
    record = {**patterns.provenance, "zscore": zscore}
    return Patterns(
        values=values,
        observations=patterns.observations,
        voxels=patterns.voxels,
        provenance=record,
    )


@checked
def pool_subjects(parts: Sequence[Patterns]) -> Patterns:
    """Put the voxels of several subjects side by side, as if they were one brain.

    Parameters
    ----------
    parts : sequence of Patterns
        One a subject, with the same conditions; observations are matched by condition and number of
        the presentation.

    Returns
    -------
    Patterns
        Voxels of the first subject, then of the second, and so on; ``voxels["subject"]`` says
        whose. Presentations that all subjects have, in order of the first subject; ``run`` and
        ``session`` stay where all agree, and are empty where not (other columns are left out).
        Provenance of each under ``parts``, and ``pooled``.

    Raises
    ------
    InputError
        When there is one subject only, a subject comes twice, or regions or conditions differ.

    Warns
    -----
    UserWarning
        When subjects saw images different numbers of times, so that presentations are left out.

    Notes
    -----
    Subjects whose responses vary more count for more; `zscore_patterns` first gives all voxels the
    same variance.

    References
    ----------
    Zhang et al. (2018). CCN: 100 voxels of each of three subjects in one RDM of 300.

    Examples
    --------
    >>> shown = {"condition": ["cat", "cup"], "presentation": 1, "run": "1", "session": ""}
    >>> subjects = [
    ...     Patterns(
    ...         values=np.ones((2, 3)),
    ...         observations=pd.DataFrame(shown),
    ...         voxels=pd.DataFrame({"subject": name, "roi": "V1", "i": range(3), "j": 0, "k": 0}),
    ...     )
    ...     for name in ("S1", "S2")
    ... ]
    >>> pooled = pool_subjects(subjects)
    >>> pooled.values.shape, pooled.voxels["subject"].unique().tolist()
    ((2, 6), ['S1', 'S2'])
    """
    names = check_subjects(parts)
    first = parts[0]
    key = ["condition", "presentation"]
    shared = pd.MultiIndex.from_frame(first.observations[key])
    for part in parts[1:]:
        own = pd.MultiIndex.from_frame(part.observations[key])
        shared = shared[shared.isin(own)]
    most = max(len(part) for part in parts)
    if len(shared) < most:
        warnings.warn(
            f"subjects saw images different numbers of times: {len(shared)} presentations that "
            f"all have are kept, of up to {most}.",
            stacklevel=2,
        )
    values = []
    tables = []
    for part in parts:
        own = pd.MultiIndex.from_frame(part.observations[key])
        rows = own.get_indexer(shared)
        values.append(part.values[rows])
        table = part.observations.iloc[rows]
        tables.append(table.reset_index(drop=True))
    observations = tables[0]
    for column in observations.columns.difference(key):
        agree = [column in table and table[column].equals(observations[column]) for table in tables]
        if all(agree):
            continue
        if column in OBSERVATION_COLUMNS:
            observations = observations.assign(**{column: ""})
        else:
            observations = observations.drop(columns=column)
    record: dict[str, Any] = {"parts": [dict(part.provenance) for part in parts]}
    return Patterns(
        values=np.concatenate(values, axis=1),
        observations=observations,
        voxels=pd.concat([part.voxels for part in parts], ignore_index=True),
        provenance=record | {"pooled": names},
    )


def check_subjects(parts: Sequence[Patterns]) -> list[str]:
    """Refuse patterns of subjects that cannot be put side by side.

    Parameters
    ----------
    parts : sequence of Patterns
        One a subject.

    Returns
    -------
    list of str
        The subjects.

    Raises
    ------
    InputError
        See `pool_subjects`.
    """
    names = []
    for part in parts:
        names += part.voxels["subject"].unique().tolist()
    if again := duplicates(names):
        raise InputError(f"subjects given twice: {name_ids(again)}; give each once.")
    if len(names) < 2:
        raise InputError(
            f"patterns of {name_ids(names) or 'nobody'}; voxels are pooled over at least two "
            "subjects."
        )
    if len({tuple(voxel_key(part.voxels)) for part in parts}) > 1:
        raise InputError(
            f"only some of {name_ids(names)} name the hemisphere of their voxels; give it to all "
            "or none."
        )
    rois = list(dict.fromkeys(roi for part in parts for roi in part.rois))
    for part in parts:
        absent = [roi for roi in rois if roi not in part.rois]
        if absent:
            raise InputError(
                f"subject {part.subject} lacks the ROI(s) {name_ids(absent)} of others; select the "
                "regions that all have."
            )
    for part in parts:
        differing = set(part.conditions) ^ set(parts[0].conditions)
        if differing:
            raise InputError(
                f"subjects saw different conditions: {name_ids(sorted(differing))} "
                f"({parts[0].subject} and {part.subject}); select those that all saw."
            )
    return names
