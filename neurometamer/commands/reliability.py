"""The commands ``neurometamer fmri reliability`` and ``fmri select``: the quality of voxels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from neurometamer.arguments import checked
from neurometamer.commands.rdms import read_pattern_files
from neurometamer.errors import InputError, unknown_name
from neurometamer.provenance import digest_file, provenance
from neurometamer.reading import Files
from neurometamer.resume import writes_into
from neurometamer.store import read_table, write_json, write_table

if TYPE_CHECKING:
    from fmri.patterns import Patterns
    from fmri.selection import Criterion


@writes_into("out")
@checked
def fmri_reliability(
    patterns: Files,
    out: str | Path,
    *,
    stimuli: str | Path | None = None,
    zscore: str = "none",
) -> Path:
    """Measure noise ceilings and reliability of regions and voxels, for each image type by itself.

    Parameters
    ----------
    patterns : sequence of path-like
        Files of ``neurometamer fmri patterns``, one a subject.
    out : path-like
        Folder for ``ceilings.csv`` (a row a subject, ROI and image type), ``voxels.csv`` (a row a
        voxel and image type) and ``provenance.json``.
    stimuli : path-like, optional
        Table of stimuli (id, kind): the image type of each condition. Without it all are of one
        type.
    zscore : str
        Whether responses are z-scored first: none, run or session (`fmri.zscore_patterns`).

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    InputError
        When the input cannot be used, or no image type can be measured.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> import numpy as np
    >>> from fmri import simulate_patterns, write_patterns
    >>> from neurometamer.commands import fmri_reliability
    >>> folder = Path(mkdtemp())
    >>> simulated = simulate_patterns(
    ...     folder / "scans",
    ...     subjects=["01"],
    ...     conditions=["cat", "cup", "dog", "hat"],
    ...     features={"x": np.eye(4)},
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=3,
    ... )["sub-01"]
    >>> file = write_patterns(simulated, folder / "S1.h5")
    >>> written = fmri_reliability([file], folder / "ceilings")
    >>> sorted(path.name for path in written.iterdir())
    ['ceilings.csv', 'provenance.json', 'voxels.csv']
    """
    import pandas as pd

    from fmri.noise import typed_regions, voxel_ceilings
    from fmri.pooling import zscore_patterns
    from fmri.reliability import reliability_table

    if not patterns:
        raise InputError("no patterns given; give files of 'neurometamer fmri patterns'.")
    subjects = read_pattern_files(patterns)
    image_types = None if stimuli is None else types_of(stimuli)
    regions, voxels = [], []
    for name, responses in subjects.items():
        scaled = zscore_patterns(responses, zscore)
        table = reliability_table(scaled, image_types)
        if (table["reason"] != "").all():
            raise InputError(f"subject {name}: {table['reason'][0]}")
        regions.append(table)
        measured = table[table["reason"] == ""]
        places = measured[["subject", "roi", "image_type"]]
        rows = places.itertuples(index=False, name=None)
        wanted = set(rows)
        for place, part, image_type in typed_regions(scaled, image_types):
            if (*place, image_type) in wanted:
                types = dict.fromkeys(part.conditions, image_type)
                voxels.append(voxel_ceilings(part, types))
    inputs = {name: responses.digest for name, responses in subjects.items()}
    if stimuli is not None:
        inputs["stimuli"] = digest_file(table_file(stimuli))
    folder = Path(out)
    all_regions = pd.concat(regions, ignore_index=True)
    all_voxels = pd.concat(voxels, ignore_index=True)
    record = provenance({"zscore": zscore}, inputs=inputs)
    write_table(folder / "ceilings.csv", all_regions)
    write_table(folder / "voxels.csv", all_voxels)
    write_json(folder / "provenance.json", record)
    return folder


def table_file(table: str | Path) -> Path:
    """Find the table of stimuli of a folder.

    Parameters
    ----------
    table : path-like
        The table, or the folder that holds it as ``stimuli.csv``.

    Returns
    -------
    Path
        The table.
    """
    path = Path(table)
    if path.is_dir():
        return path / "stimuli.csv"
    return path


def types_of(table: str | Path) -> dict[str, str]:
    """Read the image type of each stimulus.

    Parameters
    ----------
    table : path-like
        CSV with the columns ``id`` and ``kind``, or the folder of one (``stimuli.csv``).

    Returns
    -------
    dict of str to str
        Id to kind.
    """
    rows = read_table(table_file(table), required=["id", "kind"])
    ids = rows["id"].astype(str)
    kinds = rows["kind"].astype(str)
    return dict(zip(ids, kinds, strict=True))


@checked
def fmri_select(
    patterns: str | Path,
    out: str | Path,
    *,
    criterion: str = "split-half",
    n_voxels: int = 0,
    threshold: float | None = None,
    stimuli: str | Path | None = None,
    select_on: Sequence[str] = (),
    zscore: str = "none",
    radius_mm: float = 3.0,
    meshes: Mapping[str, str | Path] | None = None,
    around: str | Path | None = None,
) -> Patterns:
    """Keep the best voxels of each region and hemisphere.

    Parameters
    ----------
    patterns : path-like
        File of ``neurometamer fmri patterns``.
    out : path-like
        HDF5 file to write.
    criterion : str
        Score of voxels, one of `neurometamer.rsa.VOXEL_CRITERIA`.
    n_voxels : int
        Keep so many voxels of each ROI and hemisphere, the best; 0 for all above the threshold.
    threshold : float, optional
        Keep voxels with at least this score.
    stimuli : path-like, optional
        Table of stimuli (id, kind): its RE rows are the conditions that voxels are judged on.
    select_on : sequence of str
        Conditions that voxels are judged on; these, or `stimuli`, are needed. Where `stimuli` says
        that they are not RE alone, every page says so.
    zscore : str
        Whether responses are z-scored first: none, run or session (`fmri.zscore_patterns`).
    radius_mm : float
        With criterion searchlight: radius of spheres, or of disks on meshes, in mm.
    meshes : mapping of str to path-like, optional
        With criterion searchlight: hemisphere to its mesh, L=FILE R=FILE; spheres in the volume
        without.
    around : path-like, optional
        With criterion searchlight: patterns of all voxels that may be neighbors, of the same runs.

    Returns
    -------
    Patterns
        All conditions, fewer voxels.

    Raises
    ------
    InputError
        When the input cannot be used.

    Examples
    --------
    >>> from neurometamer.commands import fmri_select
    >>> try:
    ...     fmri_select("S1.h5", "best.h5", n_voxels=100)
    ... except InputError as error:
    ...     print(error)
    give the conditions that judge voxels: --stimuli CSV (its RE rows) or --select-on.
    """
    from fmri.patterns import read_patterns, write_patterns
    from fmri.pooling import zscore_patterns
    from fmri.selection import check_limits, select_voxels
    from fmri.surfaces import read_mesh
    from neurometamer.rsa.searchlight.selection import searchlight_criterion

    conditions, image_types = judging_conditions(stimuli, select_on)
    if criterion != "searchlight" and (meshes or around is not None):
        raise InputError(
            f"--meshes and --around are for --criterion searchlight, not {criterion}; leave them "
            "out."
        )
    judge = find_criterion(criterion, zscore)
    if not n_voxels and threshold is None:
        raise InputError("no criterion for voxels; give --n-voxels, --threshold or both.")
    check_limits(criterion, n_voxels or None, threshold)
    responses = zscore_patterns(read_patterns(patterns), zscore)
    if criterion == "searchlight":
        surfaces = {side: read_mesh(mesh) for side, mesh in (meshes or {}).items()}
        everything = None
        if around is not None:
            everything = zscore_patterns(read_patterns(around), zscore)
        judge = searchlight_criterion(
            radius_mm=radius_mm, meshes=surfaces or None, around=everything
        )
    chosen = select_voxels(
        responses,
        conditions=conditions,
        criterion=judge,
        n_per_roi=n_voxels or None,
        threshold=threshold,
        image_types=image_types,
    )
    write_patterns(chosen, out)
    return chosen


def find_criterion(name: str, zscore: str) -> Criterion:
    """Find a criterion of voxels before any work.

    Parameters
    ----------
    name : str
        One of `neurometamer.rsa.VOXEL_CRITERIA`.
    zscore : str
        Within what responses are z-scored.

    Returns
    -------
    Criterion
        Its entry.

    Raises
    ------
    InputError
        For an unknown name, or one that needs the baseline that z-scored responses lack.
    """
    from fmri.selection import check_baseline
    from neurometamer.rsa.searchlight.selection import VOXEL_CRITERIA

    if name not in VOXEL_CRITERIA:
        raise unknown_name("criterion for voxels", name, VOXEL_CRITERIA)
    check_baseline(VOXEL_CRITERIA[name], zscore)
    return VOXEL_CRITERIA[name]


def judging_conditions(
    stimuli: str | Path | None, select_on: Sequence[str]
) -> tuple[list[str], dict[str, str] | None]:
    """Find the conditions that voxels are judged on.

    Parameters
    ----------
    stimuli : path-like or None
        Table of stimuli (id, kind).
    select_on : sequence of str
        The conditions; the RE rows of the table when empty.

    Returns
    -------
    conditions : list of str
        At least one.
    image_types : dict of str to str, or None
        Type of every stimulus of the table; None without a table.

    Raises
    ------
    InputError
        When there are none.
    """
    image_types = None if stimuli is None else types_of(stimuli)
    conditions = list(select_on)
    if image_types is not None and not conditions:
        conditions = [name for name, image_type in image_types.items() if image_type == "RE"]
        if not conditions:
            raise InputError(
                f"{stimuli} has no rows of kind RE; give the conditions by --select-on."
            )
    if not conditions:
        raise InputError(
            "give the conditions that judge voxels: --stimuli CSV (its RE rows) or --select-on."
        )
    return conditions, image_types
