"""Voxels chosen by how reliable the RDM around them is."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fmri.maps import mask_places, vertex_places
from fmri.selection import CRITERIA, Criterion
from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.rsa.searchlight.maps import run_searchlight
from neurometamer.rsa.searchlight.neighborhoods import Disks, Neighborhoods, Spheres
from neurometamer.rsa.searchlight.questions import place_responses, reliability_question

if TYPE_CHECKING:
    from fmri.patterns import Patterns

Mesh = tuple[np.ndarray, np.ndarray]
"""Points (n_vertices, 3) in mm and triangles (n_triangles, 3), as of `fmri.read_mesh`."""


@checked
def rdm_reliability(
    patterns: Patterns,
    conditions: Sequence[str],
    *,
    radius_mm: float = 3.0,
    meshes: Mapping[str, Mesh] | None = None,
    around: Patterns | None = None,
) -> np.ndarray:
    """Measure how reliable the RDM of the disk or sphere around each voxel is.

    Parameters
    ----------
    patterns : Patterns
        Voxels to be scored, of one subject.
    conditions : sequence of str
        Conditions of the RDMs, each with an odd and an even presentation.
    radius_mm : float
        Radius of disks along the edges of the mesh, or of spheres, in mm.
    meshes : mapping of str to (ndarray, ndarray), optional
        Hemisphere (as in ``voxels["hemisphere"]``; ``""`` where voxels name none) to its mesh; the
        voxel index i is the vertex. Without meshes: spheres in the volume.
    around : Patterns, optional
        Responses of all voxels that may be neighbors, e.g. of the whole cortex, with the same
        observations. By default the voxels of `patterns`, so that disks end at the borders of the
        regions.

    Returns
    -------
    ndarray, shape (n_voxels,)
        Spearman correlation of the 1 - Spearman RDMs of odd and of even presentations, in [-1, 1];
        NaN where fewer than 3 neighbors have data.

    Raises
    ------
    InputError
        When there is no mesh of a hemisphere, patterns of a volume do not know their grid, voxels
        are not among those around, or reliability cannot be measured.

    References
    ----------
    Zhang et al. (2021), Front Neuroinform 15:677925, vertex selection: 3 mm disks on the flattened
    surface, RE images, two presentations.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import simulate_patterns
    >>> patterns = simulate_patterns(
    ...     mkdtemp(),
    ...     subjects=["01"],
    ...     conditions=["cat", "cup", "dog", "hat"],
    ...     features={"x": np.eye(4)},
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=2,
    ... )["sub-01"]
    >>> rdm_reliability(patterns, patterns.conditions, radius_mm=4.0).shape
    (8,)
    """
    everything = patterns if around is None else around
    if not everything.observations.equals(patterns.observations):
        raise InputError(
            "the voxels around have other observations than the patterns; give patterns of the "
            "same runs."
        )
    scores = np.full(len(patterns.voxels), np.nan)
    if meshes is None:
        sides = [_volume(patterns, everything, radius_mm)]
    else:
        sides = []
        hemispheres = np.full(len(patterns.voxels), "", dtype=object)
        around_in = np.full(len(everything.voxels), "", dtype=object)
        if "hemisphere" in patterns.voxels and "hemisphere" in everything.voxels:
            hemispheres = patterns.voxels["hemisphere"].to_numpy()
            around_in = everything.voxels["hemisphere"].to_numpy()
        lacking = [name for name in dict.fromkeys(hemispheres) if name not in meshes]
        if lacking:
            raise InputError(
                f"no mesh of hemisphere {name_ids(map(repr, lacking))}; there is one of "
                f"{name_ids(map(repr, meshes))}: give a mesh for each."
            )
        for hemisphere in dict.fromkeys(hemispheres):
            near = Disks(*meshes[hemisphere], radius_mm)
            others = everything.select(voxels=around_in == hemisphere)
            others, places = vertex_places(others, len(near))
            rows = np.flatnonzero(hemispheres == hemisphere)
            centers = patterns.voxels["i"].to_numpy()[rows]
            _check_inside(np.isin(centers, places), centers.tolist())
            sides.append(_Side(rows=rows, centers=centers, around=others, places=places, near=near))
    for side in sides:
        responses = place_responses(side.around, len(side.near), side.places)
        question = reliability_question(side.around, responses, conditions)
        scores[side.rows] = run_searchlight(question, side.near).values[side.centers]
    return scores


@dataclass(frozen=True, kw_only=True, eq=False)
class _Side:
    """A hemisphere or a volume.

    Voxels that are scored and their centers, patterns around and their places.
    """

    rows: np.ndarray
    centers: np.ndarray
    around: Patterns
    places: np.ndarray
    near: Neighborhoods


def _volume(patterns: Patterns, around: Patterns, radius_mm: float) -> _Side:
    """Find the places of voxels in the mask of all that are around."""
    grid = around.provenance.get("grid")
    if not grid:
        raise InputError(
            "these patterns carry no voxel grid, so nothing tells which voxels are near; give "
            "patterns that estimate_betas made, or meshes."
        )
    mask = np.zeros(tuple(grid["shape"]), dtype=bool)
    mask[tuple(around.voxels[["i", "j", "k"]].to_numpy().T)] = True
    affine = np.asarray(grid["affine"], dtype=np.float64)
    near = Spheres(mask, affine, radius_mm)
    position = np.full(mask.shape, -1, dtype=np.int64)
    position[mask] = np.arange(len(near))
    index = patterns.voxels[["i", "j", "k"]].to_numpy()
    centers = position[tuple(index.T)]
    _check_inside(centers >= 0, [str(tuple(row)) for row in index.tolist()])
    others, places = mask_places(around, mask, affine)
    return _Side(
        rows=np.arange(len(index)), centers=centers, around=others, places=places, near=near
    )


def _check_inside(inside: np.ndarray, names: Sequence[object]) -> None:
    if not inside.all():
        outside = [name for name, is_inside in zip(names, inside, strict=True) if not is_inside]
        raise InputError(
            f"voxels that are not among those around: {name_ids(outside)}; give the voxels of all "
            "regions, and more."
        )


@checked
def searchlight_criterion(
    *,
    radius_mm: float = 3.0,
    meshes: Mapping[str, Mesh] | None = None,
    around: Patterns | None = None,
) -> Criterion:
    """Make a criterion of `fmri.select_voxels` from the reliability of RDMs in searchlights.

    Parameters
    ----------
    radius_mm, meshes, around
        See `rdm_reliability`.

    Returns
    -------
    Criterion
        To be given as ``select_voxels(..., criterion=...)``; ``n_per_roi=100`` keeps the 100 best
        of each region and hemisphere.

    Examples
    --------
    >>> searchlight_criterion(radius_mm=3.0).method
    'Spearman correlation of the RDMs (1 - Spearman) of odd and even presentations in 3 mm spheres'
    """

    def _score(patterns: Patterns, conditions: Sequence[str]) -> np.ndarray:
        return rdm_reliability(
            patterns, conditions, radius_mm=radius_mm, meshes=meshes, around=around
        )

    shape = "spheres" if meshes is None else "disks"
    return Criterion(
        score=_score,
        method="Spearman correlation of the RDMs (1 - Spearman) of odd and even presentations in "
        f"{radius_mm:g} mm {shape}",
        reference="Zhang et al. 2021",
    )


VOXEL_CRITERIA: Mapping[str, Criterion] = ChainMap(
    CRITERIA, {"searchlight": searchlight_criterion()}
)
"""All criteria by name: those of `fmri`, and the reliability of RDMs in 3 mm spheres."""
