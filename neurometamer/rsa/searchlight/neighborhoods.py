"""Neighbors of places: spheres of voxels and disks of vertices, a block of centers at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from neurometamer.arguments import check_fields
from neurometamer.errors import InputError, name_ids
from neurometamer.summaries import short_repr


class Neighborhoods(Protocol):
    """Neighbors of each place of a searchlight."""

    @property
    def radius_mm(self) -> float:
        """Radius.

        Returns
        -------
        float
            In mm.
        """

    def __len__(self) -> int: ...

    def block(self, centers: np.ndarray) -> np.ndarray:
        """Give the neighbors of some centers.

        Parameters
        ----------
        centers : ndarray of int, shape (n,)
            Places, each itself one of its neighbors.

        Returns
        -------
        ndarray of int, shape (n, most)
            Places in ascending order, then -1 up to the largest neighborhood.
        """


@short_repr
@dataclass(frozen=True, eq=False)
class Spheres:
    """Voxels of a mask within a radius of each other, in millimeters of the image's affine.

    Parameters
    ----------
    mask : ndarray of bool, shape (i, j, k)
        Places are its voxels in C order; neighbors are always inside.
    affine : ndarray, shape (4, 4)
        Voxel indices to millimeters; voxels need not be cubes.
    radius_mm : float
        Distance between centers of voxels, inclusive.

    Examples
    --------
    >>> mask = np.ones((3, 3, 3), dtype=bool)
    >>> spheres = Spheres(mask, np.diag([2.0, 2.0, 2.0, 1.0]), radius_mm=2.0)
    >>> len(spheres), spheres.block(np.array([13])).tolist()  # the center and its six neighbors
    (27, [[4, 10, 12, 13, 14, 16, 22]])
    """

    mask: np.ndarray
    affine: np.ndarray
    radius_mm: float

    def __post_init__(self) -> None:
        check_fields(self)
        _check_radius(self.radius_mm)
        if self.mask.ndim != 3 or self.mask.dtype != bool or not self.mask.any():
            raise InputError(
                "a searchlight needs a 3-D mask of booleans with a voxel; this one is "
                f"{self.mask.dtype} of shape {self.mask.shape} with {int(np.sum(self.mask))} "
                "voxels."
            )
        if not abs(np.linalg.det(np.asarray(self.affine)[:3, :3])) > 0:
            raise InputError(
                "the affine of the mask maps voxels onto a plane; repair the header of the mask."
            )

    def __len__(self) -> int:
        return len(self.coordinates)

    @cached_property
    def coordinates(self) -> np.ndarray:
        """Indices of the voxels.

        Returns
        -------
        ndarray of int, shape (n_voxels, 3)
            In C order.
        """
        return np.argwhere(self.mask)

    @cached_property
    def _steps(self) -> np.ndarray:
        """Differences of indices whose length in mm is within the radius."""
        linear = np.asarray(self.affine)[:3, :3]
        # |index| <= radius * row length of the inverse, for each axis of a skewed grid, too
        per_mm = np.linalg.norm(np.linalg.inv(linear), axis=1)
        reach = np.floor(self.radius_mm * per_mm + 1e-6).astype(int)
        reach = np.minimum(reach, np.array(self.mask.shape) - 1)
        axes = [np.arange(-steps, steps + 1) for steps in reach]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
        lengths = np.linalg.norm(grid @ linear.T, axis=1)
        return grid[lengths <= self.radius_mm * (1 + 1e-9)]

    @cached_property
    def _padded(self) -> tuple[np.ndarray, np.ndarray]:
        """Place of each voxel (-1 outside the mask) in a volume with a margin; the margin."""
        margin = np.abs(self._steps).max(axis=0)
        place = np.full(self.mask.shape, -1, dtype=np.int64)
        place[self.mask] = np.arange(len(self))
        return np.pad(place, [(m, m) for m in margin], constant_values=-1), margin

    def block(self, centers: np.ndarray) -> np.ndarray:
        """Give the neighbors of some voxels.

        Parameters
        ----------
        centers : ndarray of int, shape (n,)
            Places in the mask.

        Returns
        -------
        ndarray of int, shape (n, most)
            Places in ascending order, then -1.
        """
        volume, margin = self._padded
        strides = np.array([volume.shape[1] * volume.shape[2], volume.shape[2], 1])
        flat = (self.coordinates[centers] + margin) @ strides
        places = volume.ravel()[flat[:, np.newaxis] + self._steps @ strides]
        far = np.iinfo(places.dtype).max
        ordered = np.sort(np.where(places < 0, far, places), axis=1)
        most = int((ordered != far).sum(axis=1).max(initial=1))
        ordered = ordered[:, :most]
        return np.where(ordered == far, -1, ordered)


@short_repr
@dataclass(frozen=True, eq=False)
class Disks:
    """Vertices of a mesh within a radius of each other along its edges.

    Parameters
    ----------
    points : ndarray, shape (n_vertices, 3)
        Coordinates in mm (of the mid-gray surface, or of a flattened one).
    triangles : ndarray of int, shape (n_triangles, 3)
        Corners.
    radius_mm : float
        Length of the shortest path on edges, inclusive. It is longer than the true geodesic (by a
        few percent on regular meshes).

    References
    ----------
    Zhang et al. (2021), Front Neuroinform 15:677925: disks of 3 mm, shortest path on the flat mesh.

    Examples
    --------
    >>> points = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    >>> disks = Disks(points, np.array([[0, 1, 2], [1, 2, 3]]), radius_mm=1.0)
    >>> disks.block(np.array([0, 1])).tolist()
    [[0, 1, 2], [0, 1, 3]]
    """

    points: np.ndarray
    triangles: np.ndarray
    radius_mm: float

    def __post_init__(self) -> None:
        check_fields(self)
        _check_radius(self.radius_mm)
        check_mesh(self.points, self.triangles)

    def __len__(self) -> int:
        return len(self.points)

    @cached_property
    def _edges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Edges both ways, sorted by first vertex: their starts, other ends, lengths in mm."""
        corners = np.asarray(self.triangles)
        pairs = np.concatenate([corners[:, [0, 1]], corners[:, [1, 2]], corners[:, [2, 0]]])
        pairs = np.unique(np.concatenate([pairs, pairs[:, ::-1]]), axis=0)
        lengths = np.linalg.norm(self.points[pairs[:, 0]] - self.points[pairs[:, 1]], axis=1)
        starts = np.searchsorted(pairs[:, 0], np.arange(len(self.points) + 1))
        return starts, pairs[:, 1], lengths

    def block(self, centers: np.ndarray) -> np.ndarray:
        """Give the neighbors of some vertices.

        Parameters
        ----------
        centers : ndarray of int, shape (n,)
            Vertices.

        Returns
        -------
        ndarray of int, shape (n, most)
            Vertices in ascending order, then -1.
        """
        step = 4096
        starts = range(0, len(centers), step)
        parts = [self._search(centers[start : start + step]) for start in starts]
        most = max((part.shape[1] for part in parts), default=1)
        rows = np.full((len(centers), most), -1, dtype=np.int64)
        for start, part in zip(starts, parts):
            rows[start : start + step, : part.shape[1]] = part
        return rows

    def _search(self, centers: np.ndarray) -> np.ndarray:
        """Relax edges from all centers at once, only where a path grew shorter, until none does."""
        starts, ends, lengths = self._edges
        n = len(self.points)
        limit = self.radius_mm * (1 + 1e-9)
        keys = np.arange(len(centers)) * n + centers  # (center, vertex) as one number
        known, distance = keys, np.zeros(len(keys))
        front, at = keys, distance
        while front.size:
            owner, vertex = front // n, front % n
            count = starts[vertex + 1] - starts[vertex]
            before = np.cumsum(count) - count
            edge = np.repeat(starts[vertex] - before, count) + np.arange(count.sum())
            far = np.repeat(at, count) + lengths[edge]
            near = far <= limit
            reached, far = (np.repeat(owner, count) * n + ends[edge])[near], far[near]
            front, at = _shortest(reached, far)
            place = np.searchsorted(known, front)
            met = np.zeros(len(front), dtype=bool)
            inside = place < len(known)
            met[inside] = known[place[inside]] == front[inside]
            better = ~met
            better[met] = at[met] < distance[place[met]]
            front, at = front[better], at[better]
            known, distance = _shortest(
                np.concatenate([known, front]), np.concatenate([distance, at])
            )
        owner = known // n
        count = np.bincount(owner, minlength=len(centers))
        rows = np.full((len(centers), int(count.max(initial=1))), -1, dtype=np.int64)
        column = np.arange(len(owner)) - np.repeat(np.cumsum(count) - count, count)
        rows[owner, column] = known % n
        return rows


def _shortest(keys: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep each key once, sorted, with its least length."""
    order = np.lexsort((lengths, keys))
    keys, lengths = keys[order], lengths[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[first], lengths[first]


def check_mesh(points: np.ndarray, triangles: np.ndarray) -> None:
    """Refuse a mesh on which distances make no sense.

    Parameters
    ----------
    points : ndarray, shape (n_vertices, 3)
        Coordinates in mm.
    triangles : ndarray of int, shape (n_triangles, 3)
        Corners.

    Raises
    ------
    InputError
        For wrong shapes, coordinates that are not finite, corners that do not exist, or vertices of
        no triangle.
    """
    if points.ndim != 2 or points.shape[1] != 3 or triangles.ndim != 2 or triangles.shape[1] != 3:
        raise InputError(
            f"a mesh needs points (n, 3) and triangles (n, 3); got {points.shape} and "
            f"{triangles.shape}."
        )
    if broken := np.flatnonzero(~np.isfinite(points).all(axis=1)).tolist():
        raise InputError(
            f"vertices without finite coordinates: {name_ids(broken)}; save the surface again."
        )
    corners = np.unique(triangles)
    if beyond := corners[(corners < 0) | (corners >= len(points))].tolist():
        raise InputError(
            f"triangles name vertices {name_ids(beyond)}, but there are {len(points)} (0 to n - 1)."
        )
    if loose := np.setdiff1d(np.arange(len(points)), corners).tolist():
        raise InputError(
            f"vertices that belong to no triangle: {name_ids(loose)}; they have no neighbors. "
            "Remove them, or give the whole surface."
        )


def _check_radius(radius_mm: float) -> None:
    if not (np.isfinite(radius_mm) and radius_mm > 0):
        raise InputError(f"the radius is {radius_mm} mm; give a length above 0.")
