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
        n_voxels = int(np.sum(self.mask))
        if self.mask.ndim != 3 or self.mask.dtype != bool or not n_voxels:
            raise InputError(
                "a searchlight needs a 3-D mask of booleans with a voxel; this one is "
                f"{self.mask.dtype} of shape {self.mask.shape} with {n_voxels} voxels."
            )
        linear = np.asarray(self.affine)[:3, :3]
        volume = abs(np.linalg.det(linear))
        if not volume > 0:
            raise InputError(
                f"the affine of the mask, {np.asarray(self.affine).tolist()}, maps voxels onto a "
                "plane; repair the header of the mask."
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
        inverse = np.linalg.inv(linear)
        voxels_per_mm = np.linalg.norm(inverse, axis=1)
        reach = np.floor(self.radius_mm * voxels_per_mm + 1e-6)
        axes = []
        for n_steps, size in zip(reach.astype(int), self.mask.shape):
            farthest = min(n_steps, size - 1)
            axes.append(np.arange(-farthest, farthest + 1))
        grid = np.meshgrid(*axes, indexing="ij")
        steps = np.stack(grid, axis=-1).reshape(-1, 3)
        in_mm = steps @ linear.T
        lengths = np.linalg.norm(in_mm, axis=1)
        limit = self.radius_mm * (1 + 1e-9)
        return steps[lengths <= limit]

    @cached_property
    def _volume(self) -> np.ndarray:
        """Place of each voxel, -1 outside the mask, in a volume with a margin of `_steps`."""
        places = np.full(self.mask.shape, -1, dtype=np.int64)
        places[self.mask] = np.arange(len(self))
        margin = np.abs(self._steps).max(axis=0)
        widths = [(width, width) for width in margin]
        return np.pad(
            places,
            widths,
            constant_values=-1,
        )

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
        volume = self._volume
        far = np.iinfo(volume.dtype).max
        _, n_rows, n_columns = volume.shape
        strides = np.array([n_rows * n_columns, n_columns, 1])
        margin = np.abs(self._steps).max(axis=0)
        flat = (self.coordinates[centers] + margin) @ strides
        index = flat[:, np.newaxis] + self._steps @ strides
        places = volume.ravel()[index]
        inside_first = np.where(places < 0, far, places)
        inside_first.sort(axis=1)
        n_neighbors = (inside_first != far).sum(axis=1)
        most = int(n_neighbors.max(initial=1))
        neighbors = inside_first[:, :most]
        return np.where(neighbors == far, -1, neighbors)


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
        sides = []
        for columns in ([0, 1], [1, 2], [2, 0]):
            side = corners[:, columns]
            sides.append(side)
            sides.append(side[:, ::-1])
        both_ways = np.concatenate(sides)
        begin, end = np.unique(both_ways, axis=0).T
        differences = self.points[begin] - self.points[end]
        lengths = np.linalg.norm(differences, axis=1)
        vertices = np.arange(len(self.points) + 1)
        starts = np.searchsorted(begin, vertices)
        return starts, end, lengths

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
            n_neighbors = part.shape[1]
            rows[start : start + step, :n_neighbors] = part
        return rows

    def _search(self, centers: np.ndarray) -> np.ndarray:
        """Relax edges from all centers at once, only where a path grew shorter, until none does."""
        starts, ends, lengths = self._edges
        n = len(self.points)
        limit = self.radius_mm * (1 + 1e-9)
        known = np.arange(len(centers)) * n + centers  # (center, vertex) as one number
        distance = np.zeros(len(known))
        front, at = known, distance
        while front.size:
            owner, vertex = np.divmod(front, n)
            count = starts[vertex + 1] - starts[vertex]
            edge = np.repeat(starts[vertex], count) + _within(count)
            far = np.repeat(at, count) + lengths[edge]
            reached = np.repeat(owner, count) * n + ends[edge]
            is_near = far <= limit
            front, at = _shortest(
                reached[is_near],
                far[is_near],
            )
            position = np.searchsorted(known, front)
            inside = position < len(known)
            same_position = known[position[inside]]
            is_known = np.zeros(len(front), dtype=bool)
            is_known[inside] = same_position == front[inside]
            known_distance = distance[position[is_known]]
            is_shorter = ~is_known
            is_shorter[is_known] = at[is_known] < known_distance
            front = front[is_shorter]
            at = at[is_shorter]
            all_keys = np.concatenate([known, front])
            all_lengths = np.concatenate([distance, at])
            known, distance = _shortest(all_keys, all_lengths)
        owner, vertex = np.divmod(known, n)
        count = np.bincount(owner, minlength=len(centers))
        shape = (len(centers), int(count.max(initial=1)))
        rows = np.full(shape, -1, dtype=np.int64)
        rows[owner, _within(count)] = vertex
        return rows


def _within(counts: np.ndarray) -> np.ndarray:
    """Count the members of groups that follow each other, each group from 0."""
    before = np.cumsum(counts) - counts
    total = counts.sum()
    numbers = np.arange(total)
    starts = np.repeat(before, counts)
    return numbers - starts


def _shortest(keys: np.ndarray, lengths: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Keep each key once, sorted, with its least length."""
    order = np.lexsort((lengths, keys))
    keys = keys[order]
    lengths = lengths[order]
    steps = np.diff(keys, prepend=-1)
    is_new = steps != 0
    return keys[is_new], lengths[is_new]


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
            f"points have the shape {points.shape} and triangles {triangles.shape}; give a mesh as "
            "points (n, 3) and triangles (n, 3)."
        )
    if broken := np.flatnonzero(~np.isfinite(points).all(axis=1)).tolist():
        raise InputError(
            f"vertices without finite coordinates: {name_ids(broken)}; save the surface again."
        )
    corners = np.unique(triangles)
    if beyond := corners[(corners < 0) | (corners >= len(points))].tolist():
        raise InputError(
            f"triangles name vertices {name_ids(beyond)}, but there are {len(points)}; give "
            f"numbers from 0 to {len(points) - 1}."
        )
    if loose := np.setdiff1d(np.arange(len(points)), corners).tolist():
        raise InputError(
            f"vertices that belong to no triangle: {name_ids(loose)}; they have no neighbors. "
            "Remove them, or give the whole surface."
        )


def _check_radius(radius_mm: float) -> None:
    if not 0 < radius_mm < np.inf:
        raise InputError(f"the radius is {radius_mm} mm; give a length above 0.")
