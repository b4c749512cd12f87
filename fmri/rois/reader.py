"""Evaluation of definitions of regions, and placing of what files hold on the grid of a series."""

from __future__ import annotations

import os
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from fmri.bids import file_labels, plain_name
from fmri.grids import (
    SIDES,
    Grid,
    affine_text,
    are_mirrored,
    check_grid,
    check_spaces,
    grid_difference,
    nearest_voxels,
    places_in,
)
from fmri.rois.algebra import (
    COMPARISONS,
    OPERATIONS,
    Call,
    Node,
    Operation,
    Source,
    Threshold,
    parse_region,
    region_text,
    sources_of,
)
from fmri.rois.atlases import atlas_mask, sphere_mask
from fmri.rois.files import (
    RegionFile,
    binary_mask,
    label_mask,
    map_of,
    open_region_file,
    split_label,
)
from fmri.surfaces import named_hemisphere
from neurometamer.errors import InputError, unknown_name

File = str | os.PathLike[str]
Definitions = Mapping[str, str | os.PathLike[str] | np.ndarray]


def tree_of(definition: File, folder: Path) -> Node:
    """Parse a definition; what is a path, or the name of a file that exists, is that file.

    Parameters
    ----------
    definition : str or path-like
        As for `fmri.rois.regions.read_regions`.
    folder : Path
        Where relative names of files start.

    Returns
    -------
    Node
        Its tree.
    """
    if not isinstance(definition, str):
        return Source(os.fspath(definition), 0)
    try:
        is_file = (folder / Path(definition).expanduser()).is_file()
    except (OSError, ValueError):  # too long for a name, or with a zero byte
        is_file = False
    if is_file:
        return Source(definition, 0)
    return parse_region(definition)


class RegionReader:
    """Evaluates definitions; each file is opened once and each region computed once.

    Parameters
    ----------
    regions : mapping of str to str, path-like or ndarray of bool
        Region to its definition.
    grid : Grid
        Grid of the series.
    affine : {"agree", "sform", "qform"}
        See `fmri.volumes.image_affine`.
    resample : {"never", "nearest"}
        What to do with a volume on another grid.
    folder : Path
        Where relative names of files start.
    """

    def __init__(
        self, regions: Definitions, grid: Grid, affine: str, resample: str, folder: Path
    ) -> None:
        self.grid, self.affine, self.resample, self.folder = grid, affine, resample, folder
        self.regions = regions
        self.n_lost: Counter[str] = Counter()
        self.resampled: set[str] = set()
        self.known: dict[str, np.ndarray] = {}
        self.files: dict[str, RegionFile] = {}
        self.open: list[str] = []

    def tree(self, name: str) -> Node:
        """Parse the definition of a region.

        Parameters
        ----------
        name : str
            A region that is no array.

        Returns
        -------
        Node
            Its tree.
        """
        definition = self.regions[name]
        if isinstance(definition, np.ndarray):
            raise InputError(f"'{name}' is an array, and has no definition.")
        return tree_of(definition, self.folder)

    def definition(self, name: str) -> tuple[str, str]:
        """Write the definition of a region without folders, and the name of the file that it is.

        Parameters
        ----------
        name : str
            The region.

        Returns
        -------
        tuple of str
            Definition, empty for an array; name of the file, empty where it is more than a file.
        """
        if isinstance(self.regions[name], np.ndarray):
            return "", ""
        tree = self.tree(name)
        is_file = isinstance(tree, Source) and not split_label(tree.text)[1]
        text = region_text(tree)
        return text, text if is_file else ""

    def sources(self, name: str) -> Iterator[Source]:
        """Go over the files of a region.

        Parameters
        ----------
        name : str
            A region that is no array.

        Yields
        ------
        Source
            Not the names of other regions.
        """
        for source in sources_of(self.tree(name)):
            if source.text not in self.regions or source.text == name:
                yield source

    def region(self, name: str) -> np.ndarray:
        """Compute the mask of a region.

        Parameters
        ----------
        name : str
            The region.

        Returns
        -------
        ndarray of bool, shape of the grid
            It may be empty.

        Raises
        ------
        InputError
            With the name of the region.
        """
        definition = self.regions[name]
        if isinstance(definition, np.ndarray):
            return definition
        if name in self.open:
            circle = " → ".join([*self.open[self.open.index(name) :], name])
            raise InputError(f"regions are defined by each other: {circle}; break the circle.")
        self.open.append(name)
        try:
            if not name.strip():
                raise InputError(f"the mask {definition} has no ROI name; give NAME=FILE.")
            if name not in self.known:
                self.known[name] = self._evaluate(self.tree(name))
        except InputError as error:
            if str(error).startswith("ROI '"):
                raise
            raise InputError(f"ROI '{name}': {error}") from error.__cause__
        finally:
            self.open.pop()
        if self.open:  # what holds for a part holds for the whole
            self._note(self.n_lost[name], name in self.resampled)
        return self.known[name]

    def _note(self, n_lost: int, is_resampled: bool) -> None:
        """Keep in mind how the files of a region fit the grid."""
        if self.open:
            self.n_lost[self.open[-1]] += n_lost
        if self.open and is_resampled:
            self.resampled.add(self.open[-1])

    def _evaluate(self, node: Node) -> np.ndarray:
        """Compute the mask of a tree on the grid of the series."""
        if isinstance(node, Operation):
            left = self._evaluate(node.left)
            right = self._evaluate(node.right)
            combine = OPERATIONS[node.sign]
            return combine(left, right)
        if isinstance(node, Call) and node.name == "sphere":
            try:
                x, y, z, radius = (float(number) for number in node.arguments)
            except ValueError:
                text = region_text(node)
                raise InputError(f"{text}: give numbers, x, y, z and radius in mm.") from None
            return sphere_mask((x, y, z), radius, self.grid)
        if isinstance(node, Call):
            (region,) = node.arguments
            mask, grid = atlas_mask(node.name, region, self.grid)
            return self._on_grid(mask, grid)
        if isinstance(node, Threshold):
            values, file = self._map(node.map)
            limit: float | np.ndarray
            if isinstance(node.limit, Source):
                limit, other = self._map(node.limit)
                check_grid(other.grid, file.grid, cure="two maps are compared on one grid only")
            else:
                limit = node.limit
            compare = COMPARISONS[node.sign]
            with np.errstate(invalid="ignore"):
                mask = np.asarray(compare(values, limit))
            if not mask.any():
                finite = values[np.isfinite(values)]
                ends = "no number"
                if finite.size:
                    ends = f"{finite.min():.4g} to {finite.max():.4g}"
                raise InputError(f"nothing is left of {region_text(node)}; the map holds {ends}.")
            return self._on_grid(mask, file.grid)
        others = [name for name in self.regions if name != self.open[-1]]
        if node.text in others:
            return self.region(node.text)
        text, label = split_label(node.text)
        file = self.file(text, others)
        return self.placed(file, label)

    def file(self, text: str, names: Sequence[str] = ()) -> RegionFile:
        """Open a file once.

        Parameters
        ----------
        text : str
            Its name, relative to the folder.
        names : sequence of str
            Regions, of which it could be one that is misspelt.

        Returns
        -------
        RegionFile
            The file.
        """
        if text not in self.files:
            path = self.folder / Path(text).expanduser()
            is_name = not Path(text).suffix and os.sep not in text
            if is_name and names and not path.exists():
                raise unknown_name("region or file", text, names)
            self.files[text] = open_region_file(path, self.grid, self.affine)
        return self.files[text]

    def _map(self, source: Source) -> tuple[np.ndarray, RegionFile]:
        """Read a map; the name of a region that is one file stands for that file."""
        text = source.text
        is_defined = text in self.regions and text != self.open[-1]
        if is_defined and not isinstance(self.regions[text], np.ndarray):
            defined = self.tree(text)
            text = defined.text if isinstance(defined, Source) else text
        path, label = split_label(text)
        file = self.file(path, list(self.regions))
        return np.asarray(map_of(file, label), dtype=np.float64), file

    def placed(self, file: RegionFile, label: str) -> np.ndarray:
        """Read a mask or a label, and place it on the grid of the series.

        Parameters
        ----------
        file : RegionFile
            Opened.
        label : str
            Name or number of a label; empty for a binary mask.

        Returns
        -------
        ndarray of bool, shape of the grid
            It may be empty.
        """
        mask = label_mask(file, label) if label else binary_mask(file)
        return self._on_grid(mask, file.grid)

    def _on_grid(self, mask: np.ndarray, own: Grid) -> np.ndarray:
        """Place a mask on the grid of the series."""
        like = self.grid
        if own.is_volume != like.is_volume:
            raise InputError(f"{own.name} {grid_difference(own, like)}; give one kind of files.")
        difference = grid_difference(own, like)
        check_spaces(own, like, is_same_grid=not difference)
        if not difference:
            return mask
        if not own.is_volume:
            where = places_in(own, like)
            found = where >= 0
            placed = found & mask[np.where(found, where, 0)]
            self._note(int(mask.sum()) - int(placed.sum()), False)
            return placed
        if self.resample != "nearest":
            raise InputError(
                f'{own.name} {difference}; resample="nearest" (--resample nearest) takes the '
                "nearest "
                "voxels, or resample it yourself."
            )
        assert own.affine is not None and like.affine is not None
        if are_mirrored(own.affine, like.affine):
            warnings.warn(
                f"{own.name} stores left and right the other way round than {like.name} (affines "
                f"{affine_text(own.affine)} and {affine_text(like.affine)}); it is resampled by "
                "mm. Check that both headers are right.",
                stacklevel=2,
            )
        index, inside = nearest_voxels(own, like)
        placed = inside & mask[tuple(index)]
        covered = nearest_voxels(like, own)[1].reshape(own.shape)
        self._note(int(np.sum(mask & ~covered)), True)
        return placed.reshape(like.shape)

    def tell_subject(self, name: str) -> None:
        """Warn where a file names another subject than the series.

        Parameters
        ----------
        name : str
            A region that is no array.
        """
        ours = file_labels(self.grid.name).get("sub")
        for source in self.sources(name):
            file, _ = split_label(source.text)
            theirs = file_labels(file).get("sub")
            if theirs and ours and theirs != ours:
                warnings.warn(
                    f"ROI '{name}': {Path(source.text).name} names sub-{theirs}, but the images "
                    f"are of sub-{ours}. Check the mask.",
                    stacklevel=2,
                )

    def tell_hemisphere(self, name: str) -> None:
        """Warn where a name says one hemisphere and most voxels lie in the other.

        In NIfTI, x < 0 mm is left.

        Parameters
        ----------
        name : str
            A region that is no array.
        """
        sources = list(self.sources(name))
        by_name = named_hemisphere(name)
        by_file = file_name = ""
        if len(sources) == 1:
            file_name = Path(sources[0].text).name
            text, label = split_label(file_name)
            by_file = named_hemisphere(label) or named_hemisphere(plain_name(text))
        if by_name and by_file and by_name != by_file:
            warnings.warn(
                f"ROI '{name}' and its file {file_name} name different hemispheres; check which "
                "mask belongs to it.",
                stacklevel=2,
            )
        side = by_name or by_file
        grid, mask = self.grid, self.region(name)
        if not side or not grid.has_place:
            return
        if grid.places is not None:
            opposite = {"L": "R", "R": "L"}[side]
            is_wrong = mask & (grid.places["hemisphere"].to_numpy() == opposite)
            where = "in the other hemisphere. Check the file."
        else:
            assert grid.affine is not None
            x = np.argwhere(mask) @ grid.affine[0, :3] + grid.affine[0, 3]
            is_wrong, sign = x > 0, ">"
            if side == "R":
                is_wrong, sign = x < 0, "<"
            where = (
                f"at x {sign} 0 mm (mean x {x.mean():.1f} mm), in the other hemisphere. Check "
                "whether mask or images are mirrored."
            )
        n_wrong, n_voxels = int(is_wrong.sum()), int(mask.sum())
        if 2 * n_wrong > n_voxels:
            named = f"'{name}' ({file_name})" if file_name else f"'{name}'"
            warnings.warn(
                f"ROI {named} is called {SIDES[side]}, but {n_wrong} of its {n_voxels} voxels lie "
                f"{where}",
                stacklevel=2,
            )
