"""The figures of ``neurometamer searchlight`` on one page.

Each map of a volume is shown from three sides; a map of a mesh is shown on it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.errors import InputError, unknown_name
from neurometamer.figures.style import count_text
from neurometamer.report import rsa as rsa_page
from neurometamer.report.page import Lead, Picture, Section, borrow_figure

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05
"""Of the family-wise test; only places below it are colored."""

MOST_HEADLINES = 3
"""Maps that get a sentence on the first screen."""

HEMISPHERES = {
    "left": r"(^lh[._-])|(hemi-L(?![a-z]))|([._]L[._])",
    "right": r"(^rh[._-])|(hemi-R(?![a-z]))|([._]R[._])",
}
"""Hemisphere to how file names tell it."""


def find_hemisphere(mesh: str | Path, hemisphere: str | None = None) -> str:
    """Say of which hemisphere a mesh is.

    Parameters
    ----------
    mesh : path-like
        Its name may tell: ``lh.white``, ``sub-01_hemi-L_white.surf.gii``,
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
        When nothing tells, or name and `hemisphere` disagree.

    Examples
    --------
    >>> find_hemisphere("lh.white"), find_hemisphere("sub-01_hemi-R_white.surf.gii")
    ('left', 'right')
    """
    name = Path(mesh).name
    sides = [side for side, pattern in HEMISPHERES.items() if re.search(pattern, name)]
    if hemisphere is not None and hemisphere not in HEMISPHERES:
        raise unknown_name("hemisphere", hemisphere, HEMISPHERES)
    if hemisphere is None and len(sides) != 1:
        raise InputError(
            f"the name {name} does not tell the hemisphere; write --hemisphere left or right."
        )
    if hemisphere is not None and sides and hemisphere not in sides:
        raise InputError(
            f"--hemisphere {hemisphere}, but {name} is named as the {sides[0]} one; give the mesh "
            "of that."
        )
    return hemisphere or sides[0]


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
        Among `rsa_page.STAMPS`.

    Returns
    -------
    Path
        The page.
    """
    stamp = rsa_page.stamp_text(stamps)
    pictures = [_picture(folder, drawn, affine, space, mesh, hemisphere, stamp) for drawn in maps]
    where = f"the {hemisphere} hemisphere" if mesh is not None else f"a volume in {space} space"
    sections = [
        Section(key=f"map-{i}", title=drawn.name, pictures=[picture])
        for i, (drawn, picture) in enumerate(zip(maps, pictures, strict=True), 1)
    ]
    charts, sections = borrow_figure(sections, ["map-1"])
    return rsa_page.write_rsa_page(
        folder,
        command="neurometamer searchlight",
        question="Where does the cortex represent the same?",
        lead=f"{count_text(len(maps), 'map')} of {where}, "
        f"{count_text(int(summary['n_places'].max()), 'place')}.",
        first=Lead(headlines=_headlines(maps), text=_how_tested(maps), charts=charts),
        methods=[_methods(maps, summary, record, where)],
        sections=sections,
        tables=[("summary.csv", "Summary of the maps", summary)],
        record=record,
        stamps=stamps,
        references=[
            "searchlight",
            "rsa",
            *(["max-T"] if any(drawn.p_family is not None for drawn in maps) else []),
        ],
    )


def _headlines(maps: Sequence[DrawnMap]) -> list[str]:
    """Count for each map the places where the family-wise test finds something."""
    headlines = []
    for drawn in maps[:MOST_HEADLINES]:
        n = int(np.isfinite(drawn.values).sum())
        if drawn.p_family is None:
            headlines.append(
                f"{drawn.name} was not tested: its map shows how alike, not where it is beyond "
                "chance."
            )
        else:
            clear = int((drawn.p_family < ALPHA).sum())
            headlines.append(
                f"{drawn.name} is beyond chance in {clear or 'none'} of {count_text(n, 'place')}."
            )
    if len(maps) > MOST_HEADLINES:
        headlines.append(f"{count_text(len(maps) - MOST_HEADLINES, 'more map')} below.")
    return headlines


def _how_tested(maps: Sequence[DrawnMap]) -> list[str]:
    if all(drawn.p_family is None for drawn in maps):
        return []
    return [
        "Beyond chance: family-wise p below .05, by the largest value over all places in each "
        "permutation of labels. Other places may hold it too; the test does not show that."
    ]


def _methods(
    maps: Sequence[DrawnMap], summary: pd.DataFrame, record: Mapping[str, Any], where: str
) -> str:
    """Write what was computed, from the settings and in the words of the summary."""
    settings = record.get("settings", {})
    sizes = f"{int(summary['neighbors_min'].min())} to {int(summary['neighbors_max'].max())}"
    named = "; ".join(f"{drawn.name}: {drawn.method.rstrip('.')}" for drawn in maps)
    tested = (
        f"{settings.get('permutations')} permutations of condition labels gave p"
        if any(drawn.p_family is not None for drawn in maps)
        else "No test was made"
    )
    return (
        f"Searchlights with a radius of {settings.get('radius_mm')} mm were centered on each of "
        f"{count_text(int(summary['n_places'].max()), 'place')} of {where} and held {sizes} "
        f"places. Maps: {named}. {tested}."
    )


def _picture(
    folder: Path,
    drawn: DrawnMap,
    affine: np.ndarray | None,
    space: str,
    mesh: tuple[np.ndarray, np.ndarray] | None,
    hemisphere: str,
    stamp: str,
) -> Picture:
    from neurometamer.figures import rsa as draw

    style: dict[str, Any] = {
        "p_family": drawn.p_family,
        "alpha": ALPHA,
        "title": drawn.name,
        "stamp": stamp,
    }
    if mesh is not None:
        figure = draw.searchlight_surface(drawn.values, *mesh, hemisphere=hemisphere, **style)
    else:
        assert affine is not None
        figure = draw.searchlight_volume(drawn.values, affine, space=space, **style)
    shown = "Not tested (permutations: 0)"
    if drawn.p_family is not None:
        n = int((drawn.p_family < ALPHA).sum())
        shown = f"{n or 'No'} place{'' if n == 1 else 's'} with family-wise p < .05" + (
            "" if n else ": none is colored"
        )
    drawing = rsa_page.Drawing(
        name=f"map_{drawn.name}",
        figure=figure,
        numbers={
            f"map_{drawn.name}": draw.map_table(drawn.values, affine, p_family=drawn.p_family)
        },
        caption=f"{drawn.method}. {shown}.",
        alt=f"Map {drawn.name}.",
        raster=mesh is not None,
    )
    return rsa_page.save_drawing(folder, drawing)
