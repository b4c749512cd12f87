"""The page of ``neurometamer searchlight``: maps of a volume or a mesh, each in its section."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.errors import InputError, count_text, unknown_name
from neurometamer.figures import rsa as figures
from neurometamer.report.page import (
    Drawing,
    FigureEntry,
    Lead,
    Section,
    borrow_figure,
    draw_sections,
)
from neurometamer.report.read_study import ALPHA
from neurometamer.report.rsa import stamp_text, write_rsa_page

if TYPE_CHECKING:
    import pandas as pd


MOST_MAPS = 3
"""Maps that get a sentence on the first screen."""

HEMISPHERES = {
    "left": r"(^lh[._-])|(hemi-L(?![a-z]))|([._]L[._])",
    "right": r"(^rh[._-])|(hemi-R(?![a-z]))|([._]R[._])",
}
"""Hemisphere to how file names write it."""


def find_hemisphere(mesh: str | Path, hemisphere: str | None = None) -> str:
    """Say of which hemisphere a mesh is.

    Parameters
    ----------
    mesh : path-like
        Its name may say it: ``lh.white``, ``sub-01_hemi-L_white.surf.gii``,
        ``fs_LR.L.midthickness.surf.gii``.
    hemisphere : {"left", "right"}, optional
        Needed where it does not.

    Returns
    -------
    str
        ``"left"`` or ``"right"``.

    Raises
    ------
    InputError
        When nothing says it, or name and `hemisphere` disagree.

    Examples
    --------
    >>> find_hemisphere("lh.white"), find_hemisphere("sub-01_hemi-R_white.surf.gii")
    ('left', 'right')
    """
    name = Path(mesh).name
    if hemisphere is not None and hemisphere not in HEMISPHERES:
        raise unknown_name("hemisphere", hemisphere, HEMISPHERES)
    sides = [side for side, pattern in HEMISPHERES.items() if re.search(pattern, name)]
    if hemisphere is None:
        if len(sides) != 1:
            raise InputError(
                f"the name {name} does not name the hemisphere; write --hemisphere left or right."
            )
        return sides[0]
    if sides and hemisphere not in sides:
        raise InputError(
            f"--hemisphere {hemisphere}, but {name} is named as the {sides[0]} one; give the mesh "
            "of that."
        )
    return hemisphere


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnMap:
    """One map with what is known of it.

    Parameters
    ----------
    name : str
        Name of its files.
    values : ndarray, shape (i, j, k) or (n_vertices,)
        Similarity, NaN where undefined.
    p_family : ndarray, optional
        Family-wise p, of the same shape.
    method : str
        What was compared.
    """

    name: str
    values: np.ndarray
    p_family: np.ndarray | None
    method: str


@dataclass(frozen=True, kw_only=True, eq=False)
class MapPage:
    """What the page of ``neurometamer searchlight`` is made of.

    Parameters
    ----------
    maps : sequence of DrawnMap
        All of one volume or mesh.
    affine : ndarray, shape (4, 4), optional
        Affine of a volume; or there is a mesh.
    space : str
        Space of a volume.
    mesh : tuple of ndarray, optional
        Points (n_vertices, 3) in mm, and triangles (n_triangles, 3).
    hemisphere : {"left", "right"}
        Hemisphere of the mesh.
    stamp : str
        What every figure must say; may be empty.
    """

    maps: Sequence[DrawnMap]
    affine: np.ndarray | None
    space: str
    mesh: tuple[np.ndarray, np.ndarray] | None
    hemisphere: str
    stamp: str


def draw_maps(page: MapPage) -> Iterator[Drawing]:
    """Draw each map: a volume from three sides, or a mesh.

    Parameters
    ----------
    page : MapPage
        What the page is made of.

    Yields
    ------
    Drawing
        One a map, each in a section of its own.
    """
    for number, drawn in enumerate(page.maps, 1):
        style: dict[str, Any] = {
            "p_family": drawn.p_family,
            "alpha": ALPHA,
            "title": drawn.name,
            "stamp": page.stamp,
        }
        if page.mesh is not None:
            figure = figures.searchlight_surface(
                drawn.values, *page.mesh, hemisphere=page.hemisphere, **style
            )
        else:
            assert page.affine is not None
            figure = figures.searchlight_volume(
                drawn.values, page.affine, space=page.space, **style
            )
        if drawn.p_family is None:
            shown = "Not tested (permutations: 0)"
        else:
            n = int((drawn.p_family < ALPHA).sum())
            shown = f"{count_text(n, 'place')} with family-wise p < .05"
            if n == 0:
                shown = "No places with family-wise p < .05: none is colored"
        name = f"map_{drawn.name}"
        numbers = figures.map_table(drawn.values, page.affine, p_family=drawn.p_family)
        yield Drawing(
            name=name,
            figure=figure,
            numbers={name: numbers},
            caption=f"{drawn.method}. {shown}.",
            alt=f"Map {drawn.name}.",
            raster=page.mesh is not None,
            section=f"map-{number}",
        )


MAP_FIGURES: dict[str, FigureEntry[MapPage]] = {
    "maps": FigureEntry(section="", draw=draw_maps),
}
"""The figures of the page; each map has a section of its own."""


def write_map_page(
    folder: Path,
    maps: Sequence[DrawnMap],
    summary: pd.DataFrame,
    *,
    record: Mapping[str, Any],
    affine: np.ndarray | None = None,
    space: str = "native",
    mesh: tuple[np.ndarray, np.ndarray] | None = None,
    hemisphere: str = "left",
    stamps: Sequence[str] = (),
) -> Path:
    """Draw maps and write their page.

    Parameters
    ----------
    folder : Path
        Gets ``index.html``, and ``figures/`` with SVG, PNG and CSV of each map.
    maps : sequence of DrawnMap
        All of one volume or mesh.
    summary : pandas.DataFrame
        Table of `neurometamer.rsa.searchlight.maps.summary_table`.
    record : mapping
        Provenance.
    affine : ndarray, shape (4, 4), optional
        Affine of a volume; or give `mesh`.
    space : str
        Space of a volume, see `neurometamer.figures.rsa.searchlight_volume`.
    mesh : tuple of ndarray, optional
        Points (n_vertices, 3) in mm, and triangles (n_triangles, 3).
    hemisphere : {"left", "right"}
        Hemisphere of the mesh.
    stamps : sequence of str
        Among `neurometamer.report.rsa.STAMPS`.

    Returns
    -------
    Path
        The page.
    """
    page = MapPage(
        maps=maps,
        affine=affine,
        space=space,
        mesh=mesh,
        hemisphere=hemisphere,
        stamp=stamp_text(stamps),
    )
    sections = []
    for number, drawn in enumerate(maps, 1):
        sections.append(Section(key=f"map-{number}", title=drawn.name))
    sections = draw_sections(folder, sections, MAP_FIGURES, page)
    charts, sections = borrow_figure(sections, ["map-1"])
    where = f"the {hemisphere} hemisphere" if mesh is not None else f"a volume in {space} space"
    how_tested, references = [], ["searchlight", "rsa"]
    if any(drawn.p_family is not None for drawn in maps):
        references.append("max-T")
        how_tested.append(
            "Beyond chance: family-wise p below .05, by the largest value over all places in each "
            "permutation of labels. Other places may hold it too; the test does not show that."
        )
    n_places = count_text(int(summary["n_places"].max()), "place")
    settings = record.get("settings", {})
    least, most = int(summary["neighbors_min"].min()), int(summary["neighbors_max"].max())
    named = "; ".join(f"{drawn.name}: {drawn.method.rstrip('.')}" for drawn in maps)
    tested = "No test was made"
    if how_tested:
        tested = f"{settings.get('permutations')} permutations of condition labels gave p"
    methods = (
        f"Searchlights with a radius of {settings.get('radius_mm')} mm were centered on each of "
        f"{n_places} of {where} and held {least} to {most} places. Maps: {named}. {tested}."
    )
    return write_rsa_page(
        folder,
        command="neurometamer searchlight",
        question="Where does the cortex represent the same?",
        lead=f"{count_text(len(maps), 'map')} of {where}, {n_places}.",
        first=Lead(
            headlines=_map_headlines(maps),
            text=how_tested,
            charts=charts,
        ),
        methods=[methods],
        sections=sections,
        tables=[("summary.csv", "Summary of the maps", summary)],
        record=record,
        stamps=stamps,
        references=references,
    )


def _map_headlines(maps: Sequence[DrawnMap]) -> list[str]:
    """Count for each map the places where the family-wise test finds something."""
    headlines = []
    for drawn in maps[:MOST_MAPS]:
        if drawn.p_family is None:
            headlines.append(
                f"{drawn.name} was not tested: its map shows how alike, not where it is beyond "
                "chance."
            )
        else:
            n = count_text(int(np.isfinite(drawn.values).sum()), "place")
            clear = int((drawn.p_family < ALPHA).sum())
            headlines.append(f"{drawn.name} is beyond chance in {clear or 'none'} of {n}.")
    if len(maps) > MOST_MAPS:
        headlines.append(f"{count_text(len(maps) - MOST_MAPS, 'more map')} below.")
    return headlines
