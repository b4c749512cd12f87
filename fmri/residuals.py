"""What the model of a GLM leaves of BOLD runs: the noise of voxels, for whitening."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd

from fmri.betas.estimate import NOISE_MODELS, UNITS
from fmri.betas.event_designs import DesignOptions, event_design
from fmri.bold import BoldRun, check_runs
from fmri.patterns import Patterns, voxel_key, voxel_names
from fmri.rois.regions import Regions, read_regions, voxel_table
from fmri.series import read_places
from fmri.volumes import digest_image
from neurometamer.arguments import KeywordsOf, check_fields, checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import digest, provenance
from neurometamer.store import read_hdf5_array, read_hdf5_attributes, read_hdf5_table, write_hdf5
from neurometamer.summaries import short_repr


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class Residuals:
    """Residuals of the time courses of one subject's voxels.

    Parameters
    ----------
    values : ndarray of float, shape (n_volumes, n_voxels)
        Residuals of all runs, one after the other, in the units of the betas.
    voxels : pandas.DataFrame
        One row a voxel of a region, as in `Patterns`.
    dof : int
        Degrees of freedom: volumes minus columns of the designs.
    provenance : mapping
        JSON-able record of how the values came about.

    Examples
    --------
    >>> voxels = pd.DataFrame({"subject": "01", "roi": "V1", "i": range(3), "j": 0, "k": 0})
    >>> Residuals(values=np.ones((20, 3)), voxels=voxels, dof=12).dof
    12
    """

    values: np.ndarray
    voxels: pd.DataFrame
    dof: int
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        shape = self.values.shape
        if len(shape) != 2 or shape[1] != len(self.voxels):
            raise InputError(
                f"residuals of shape {shape} for {len(self.voxels)} voxels; give one column each."
            )
        if not 1 <= self.dof <= len(self.values):
            raise InputError(
                f"{self.dof} degrees of freedom of {len(self.values)} residuals; give 1 or more."
            )

    @property
    def digest(self) -> str:
        """Identity of values and voxels.

        Returns
        -------
        str
            16 hexadecimal digits.
        """
        return digest(self.values, self.voxels)

    def of(self, patterns: Patterns) -> np.ndarray:
        """Take the residuals of the voxels of patterns.

        Parameters
        ----------
        patterns : Patterns
            Of the same subject and units, with these voxels or some of them.

        Returns
        -------
        ndarray, shape (n_volumes, n_voxels)
            In the order of the patterns' voxels.

        Raises
        ------
        InputError
            When voxels have no residuals, or the patterns are in other units.
        """
        scaled = patterns.provenance.get("zscore", "none")
        if scaled != "none":
            raise InputError(
                f"responses z-scored within each {scaled} have other units than the residuals; "
                "give patterns that are not z-scored."
            )
        names = voxel_key(patterns.voxels)
        own = pd.MultiIndex.from_frame(self.voxels[names])
        columns = own.get_indexer(pd.MultiIndex.from_frame(patterns.voxels[names]))
        lacking = np.flatnonzero(columns < 0)
        if len(lacking):
            named = name_ids(voxel_names(patterns.voxels.iloc[lacking]))
            raise InputError(
                f"no residuals of {named}; make them with the masks of the patterns "
                "(glm_residuals, --residuals)."
            )
        return np.asarray(self.values[:, columns])


@checked
def glm_residuals(
    runs: Sequence[BoldRun],
    masks: Regions | Mapping[str, np.ndarray | str | os.PathLike[str]],
    *,
    noise_model: str = "ar1",
    units: str = "percent",
    progress: Callable[[int, int], None] | None = None,
    **design: Annotated[Any, KeywordsOf("fmri.betas.event_designs:DesignOptions")],
) -> Residuals:
    """Fit each run with one regressor an event, and keep what is left.

    Parameters
    ----------
    runs : sequence of BoldRun
        Runs of one subject.
    masks : Regions, or mapping of str to ndarray of bool, str or path-like
        As for `fmri.estimate_betas`.
    noise_model, units
        See `fmri.estimate_betas`; give the same as for the betas. With ``"ar1"`` residuals are
        whitened in time, voxel by voxel.
    progress : callable, optional
        Called as ``progress(done, total)`` after each run.
    **design : object
        Fields of `fmri.DesignOptions`: hrf_model, high_pass, ignore, slice_time_ref.

    Returns
    -------
    Residuals
        Float32. Voxels that are NaN, infinite or constant in any run are left out.

    Raises
    ------
    InputError
        When the input cannot be used.

    References
    ----------
    Walther et al. (2016). Reliability of dissimilarity measures for multi-voxel pattern analysis.
    NeuroImage 137, 188-200 (noise normalization by residuals of the time courses).

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import read_runs, simulate_subject
    >>> simulated = simulate_subject(
    ...     mkdtemp(),
    ...     subject="01",
    ...     conditions=["cat", "cup", "dog", "hat"],
    ...     features={"x": np.eye(4)},
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=2,
    ... )
    >>> runs = read_runs(simulated.bold, simulated.events, simulated.confounds)
    >>> residuals = glm_residuals(runs, simulated.masks)
    >>> residuals.values.shape[1], residuals.dof < len(residuals.values)
    (8, True)
    """
    from nilearn.glm.first_level import run_glm

    chosen = DesignOptions(**design)
    for kind, name, known in (
        ("noise_model", noise_model, NOISE_MODELS),
        ("units", units, UNITS),
    ):
        if name not in known:
            raise unknown_name(kind, name, known)
    check_runs(runs)
    regions = masks
    if not isinstance(regions, Regions):
        regions = read_regions(regions, runs[0].grid, affine=runs[0].affine)
    voxels, union, position = voxel_table(regions.masks, runs[0].subject, regions.grid)
    parts = []
    images = []
    dof = 0
    for done, run in enumerate(runs, start=1):
        _, matrix = event_design(run, **design)
        series = read_places(run.images, union)
        images.append({"image": run.label, "image_digest": digest_image(run.images)})
        finite = np.isfinite(series).all(axis=0)
        fitted = finite & (series != series[0]).any(axis=0)
        data = series[:, fitted]
        left = np.empty(data.shape)
        labels, results = run_glm(data, matrix.to_numpy(), noise_model=noise_model)
        for label, result in results.items():
            left[:, labels == label] = result.whitened_residuals
        if units == "percent":
            left *= 100 / data.mean(axis=0)
        residuals = np.full(series.shape, np.nan, dtype=np.float32)
        residuals[:, fitted] = left
        parts.append(residuals)
        dof += len(matrix) - len(matrix.columns)
        if progress is not None:
            progress(done, len(runs))
    values = np.concatenate(parts)[:, position]
    usable = np.asarray(np.isfinite(values).all(axis=0))
    record = provenance(
        {**chosen.record(), "noise_model": noise_model, "units": units},
        step="glm_residuals",
        runs=images,
    )
    if any(run.simulated for run in runs):
        record["simulated"] = True
    return Residuals(
        values=values[:, usable],
        voxels=voxels[usable].reset_index(drop=True),
        dof=dof,
        provenance=record,
    )


@checked
def write_residuals(residuals: Residuals, path: str | os.PathLike[str]) -> Path:
    """Write residuals to one HDF5 file, atomically.

    Parameters
    ----------
    residuals : Residuals
        What to write.
    path : path-like
        Final file.

    Returns
    -------
    Path
        The file.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> voxels = pd.DataFrame({"subject": "01", "roi": "V1", "i": range(3), "j": 0, "k": 0})
    >>> residuals = Residuals(values=np.ones((20, 3)), voxels=voxels, dof=12)
    >>> write_residuals(residuals, Path(mkdtemp()) / "S1_residuals.h5").name
    'S1_residuals.h5'
    """
    return write_hdf5(
        path,
        arrays={"residuals": residuals.values},
        tables={"voxels": residuals.voxels},
        attributes={
            "content": "residuals",
            "dof": residuals.dof,
            "digest": residuals.digest,
            "provenance": dict(residuals.provenance),
        },
    )


@checked
def read_residuals(path: str | os.PathLike[str]) -> Residuals:
    """Read residuals written by `write_residuals`.

    Parameters
    ----------
    path : path-like
        The file.

    Returns
    -------
    Residuals
        Equal to what was written.

    Raises
    ------
    InputError
        When the file is missing, holds something else, or not what was written.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> voxels = pd.DataFrame({"subject": "01", "roi": "V1", "i": range(3), "j": 0, "k": 0})
    >>> residuals = Residuals(values=np.ones((20, 3)), voxels=voxels, dof=12)
    >>> file = write_residuals(residuals, Path(mkdtemp()) / "S1_residuals.h5")
    >>> read_residuals(file).values.shape
    (20, 3)
    """
    attributes = read_hdf5_attributes(path)
    if attributes.get("content") != "residuals":
        raise InputError(
            f"{path} holds no residuals; give a file that write_residuals or "
            "'neurometamer fmri patterns --residuals' has written."
        )
    residuals = Residuals(
        values=read_hdf5_array(path, "residuals"),
        voxels=read_hdf5_table(path, "voxels"),
        dof=int(attributes["dof"]),
        provenance=attributes.get("provenance", {}),
    )
    if residuals.digest != attributes.get("digest"):
        raise InputError(f"{path} does not hold what was written; make the residuals again.")
    return residuals
