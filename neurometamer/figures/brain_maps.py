"""Maps of searchlights on a glass brain, as projections of a volume, or on a mesh.

The glass brain is drawn where the space of the map allows it.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, unknown_name
from neurometamer.figures.layout import (
    color_scale,
    fit_size,
    page_width,
    write_note,
    write_stamp,
)
from neurometamer.figures.style import (
    FAINT,
    PALE,
    RDM_COLORMAP,
    figure_style,
    format_number,
    join_note,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SPACES = {
    "native": "the subject's own space: maximum projections of the volume, gray where there are "
    "data",
    "MNI": "MNI space: maximum projections on a glass brain",
}
"""Name of a space to how its maps are drawn."""

VIEWS = ("lateral", "medial", "ventral", "dorsal", "anterior", "posterior")
_HEMISPHERES = ("left", "right")


# ------------------------------------------------------------------------------------------ numbers


@checked
def map_table(
    values: np.ndarray, affine: np.ndarray | None = None, *, p_family: np.ndarray | None = None
) -> pd.DataFrame:
    """List the numbers behind a map: one row a place with a value.

    Parameters
    ----------
    values : ndarray, shape (i, j, k) or (n_vertices,)
        NaN where undefined.
    affine : ndarray, shape (4, 4), optional
        Affine of a volume.
    p_family : ndarray, optional
        Family-wise p, of the shape of `values`.

    Returns
    -------
    DataFrame
        i, j, k (and x, y, z in mm with an affine), or vertex; value; p_family when given.

    Raises
    ------
    InputError
        When shapes do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from neurometamer.figures.rsa import map_table
    >>> values = np.full((2, 1, 1), np.nan)
    >>> values[1] = 0.25
    >>> map_table(values, np.diag([3.0, 3.0, 3.0, 1.0]))
       i  j  k    x    y    z  value
    0  1  0  0  3.0  0.0  0.0   0.25
    """
    values, p = _map_of(values, p_family, 1 if np.ndim(values) == 1 else 3)
    known = np.isfinite(values)
    places = np.argwhere(known)
    names = ["vertex"] if values.ndim == 1 else ["i", "j", "k"]
    table = pd.DataFrame(places, columns=names)
    if affine is not None and values.ndim == 3:
        matrix = _affine(affine)
        points = places @ matrix[:3, :3].T + matrix[:3, 3]
        table[["x", "y", "z"]] = points
    table["value"] = values[known]
    if p is not None:
        table["p_family"] = p[known]
    return table


def _map_of(
    values: np.ndarray, p_family: np.ndarray | None, n_axes: int
) -> tuple[np.ndarray, np.ndarray | None]:
    values = np.asarray(values, dtype=float)
    if values.ndim != n_axes or not values.size:
        wanted = "(i, j, k)" if n_axes == 3 else "(n_vertices,)"
        raise InputError(f"the map has the shape {values.shape}; give one of {wanted}.")
    if p_family is None:
        return values, None
    p = np.asarray(p_family, dtype=float)
    if p.shape != values.shape:
        raise InputError(
            f"p_family has the shape {p.shape} but the map {values.shape}; give one p a value."
        )
    return values, p


def _affine(affine: np.ndarray) -> np.ndarray:
    matrix = np.asarray(affine, dtype=float)
    square = matrix.shape == (4, 4) and np.isfinite(matrix).all()
    if not square or abs(np.linalg.det(matrix[:3, :3])) < 1e-9:
        raise InputError(
            f"the affine must be an invertible (4, 4) matrix; it has the shape {matrix.shape} and "
            f"the values {matrix.tolist()}."
        )
    return matrix


def _shown(
    values: np.ndarray, p: np.ndarray | None, alpha: float, threshold: float | None
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Say where a map is shown, and why: family-wise p, a value, or wherever it is defined."""
    if not 0 < alpha < 1:
        raise InputError(f"alpha must lie between 0 and 1, not {alpha}.")
    known = np.isfinite(values)
    shown, rules = known.copy(), []
    if p is not None:
        shown &= np.isfinite(p) & (p < alpha)
        rules.append(f"family-wise p < {format_number(alpha, 3).rstrip('0')}")
    if threshold is not None:
        shown &= values >= threshold
        rules.append(f"similarity of at least {format_number(threshold)}")
    where = " and ".join(rules) or "all with a value"
    numbers = f"{shown.sum()} of {known.sum()} places"
    if shown.any():
        ends = values[shown].min(), values[shown].max()
        numbers += f", {format_number(ends[0])} to {format_number(ends[1])}"
    words = [f"Shown: {where} ({numbers})"]
    if p is None:
        words.append("Not tested: no p came with this map")
    return shown, known, words


# ------------------------------------------------------------------------------------------ drawing


def _page(width: float, height: float, stamp: str, note: str, title: str) -> tuple[Figure, float]:
    """Make a page with its title; given are also the inches below the maps."""
    from matplotlib.figure import Figure

    note = textwrap.fill(note, int(width * 15.5))
    below, above = 0.3 + 0.155 * (note.count("\n") + 1), 0.3 + 0.36 * bool(stamp)
    tall = height + below + above
    figure = Figure(figsize=(width, tall), facecolor="white")
    write_stamp(figure, stamp)
    write_note(figure, note)
    words, size = fit_size(title, width - 0.3, 0.26, (10, 9, 8, 7, 6), bold=True)
    figure.text(
        0.1 / width,
        1 - (above - 0.02) / tall,
        words,
        fontsize=size,
        ha="left",
        va="bottom",
        fontweight="bold",
        parse_math=False,
    )
    return figure, below


def _color_bar(figure: Figure, scale: tuple[float, float], below: float, height: float) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    width, tall = figure.get_size_inches()
    length = min(height, 2.2)
    low = (below + (height - length) / 2) / tall
    axes = figure.add_axes((1 - 0.85 / width, low, 0.12 / width, length / tall))
    bar = figure.colorbar(ScalarMappable(Normalize(*scale), RDM_COLORMAP), cax=axes)
    bar.set_label("similarity of RDMs", labelpad=4)


@checked
def searchlight_volume(
    values: np.ndarray,
    affine: np.ndarray,
    *,
    p_family: np.ndarray | None = None,
    alpha: float = 0.05,
    threshold: float | None = None,
    space: str = "native",
    title: str = "",
    stamp: str = "",
) -> Figure:
    """Draw a map of a volume from three sides.

    Parameters
    ----------
    values : ndarray, shape (i, j, k)
        Similarity, NaN where undefined.
    affine : ndarray, shape (4, 4)
        Voxels to mm; axes are turned so that left is left.
    p_family : ndarray, shape (i, j, k), optional
        Family-wise p; only places below `alpha` are shown.
    alpha : float
        Level of the test.
    threshold : float, optional
        Only values of at least this are shown.
    space : str
        One of `SPACES`. A glass brain has the outline of the MNI brain: only maps in MNI space fit
        into it.
    title : str
        What the map shows.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        The note has threshold, test and space.

    Raises
    ------
    InputError
        When shapes do not fit, or the space is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from neurometamer.figures.rsa import searchlight_volume
    >>> values = np.random.default_rng(0).uniform(-0.2, 0.4, (5, 6, 5))
    >>> figure = searchlight_volume(values, np.diag([3.0, 3.0, 3.0, 1.0]), title="a model")
    >>> len(figure.axes) >= 3
    True
    """
    if space not in SPACES:
        raise unknown_name("space", space, SPACES)
    values, p = _map_of(values, p_family, 3)
    matrix = _affine(affine)
    shown, known, words = _shown(values, p, alpha, threshold)
    scale = color_scale(values[shown])
    note = join_note(*words, f"Space: {SPACES[space]}", "L: left")
    width, height = page_width(8.4, stamp), 2.5
    with figure_style():
        figure, below = _page(width, height, stamp, note, title)
        area = (0.1, below, width - 1.2, height)
        drawn = np.where(shown, values, np.nan)
        if space == "MNI":
            from nibabel import Nifti1Image
            from nilearn.plotting import plot_glass_brain

            image = None
            if np.isfinite(drawn).any():
                # 0 is left blank: what is not shown, and a similarity of exactly 0
                image = Nifti1Image(np.nan_to_num(drawn).astype(np.float32), matrix)
            plot_glass_brain(
                image,
                display_mode="ortho",
                figure=figure,
                axes=figure.add_axes(_box(figure, area)),
                colorbar=False,
                plot_abs=False,
                cmap=RDM_COLORMAP,
                vmin=scale[0],
                vmax=scale[1],
                threshold=1e-9,
                annotate=True,
            )
        else:
            _draw_projections(figure, area, drawn, known, matrix, scale)
        _color_bar(figure, scale, below, height)
        return figure


def _box(figure: Figure, area: tuple[float, ...]) -> tuple[float, float, float, float]:
    """Turn inches (left, below, across, height) into shares of a figure."""
    width, tall = figure.get_size_inches()
    left, below, across, height = area
    return (
        left / width,
        below / tall,
        across / width,
        height / tall,
    )


def _draw_projections(
    figure: Figure,
    area: tuple[float, ...],
    values: np.ndarray,
    known: np.ndarray,
    affine: np.ndarray,
    scale: tuple[float, float],
) -> None:
    """Draw maxima along each axis: from the right, from behind, from above."""
    from nibabel import Nifti1Image, as_closest_canonical
    from nibabel.affines import voxel_sizes

    turned = as_closest_canonical(Nifti1Image(values.astype(np.float32), affine))
    turned_known = as_closest_canonical(Nifti1Image(known.astype(np.float32), affine))
    inside = turned_known.get_fdata() > 0
    # Cut each axis to where there are data.
    box = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        used = np.flatnonzero(inside.any(axis=others))
        box.append(slice(used[0], used[-1] + 1) if len(used) else slice(None))
    volume, inside = turned.get_fdata()[tuple(box)], inside[tuple(box)]
    maxima = np.where(np.isnan(volume), -np.inf, volume)
    inches = volume.shape * voxel_sizes(turned.affine)
    left, below, across, height = area
    room = across - 3 * 0.5
    unit = min(room / (2 * inches[0] + inches[1]), (height - 0.25) / max(inches[1], inches[2]))
    start = left + (room - unit * (2 * inches[0] + inches[1])) / 2 + 0.25
    for away, horizontal, vertical, letters in (
        (0, 1, 2, "PAIS"),
        (1, 0, 2, "LRIS"),
        (2, 0, 1, "LRPA"),
    ):
        wide, high = unit * inches[horizontal], unit * inches[vertical]
        low = below + 0.12 + (height - 0.25 - high) / 2
        axes = figure.add_axes(_box(figure, (start, low, wide, high)))
        maximum = maxima.max(axis=away)
        maximum = np.where(np.isinf(maximum), np.nan, maximum)
        _draw_side(axes, maximum, inside.any(axis=away), scale, letters)
        start += wide + 0.5


def _draw_side(
    axes: Axes, maximum: np.ndarray, inside: np.ndarray, scale: tuple[float, float], letters: str
) -> None:
    from matplotlib.colors import ListedColormap

    style: dict[str, Any] = {
        "origin": "lower",
        "interpolation": "nearest",
        "aspect": "auto",
    }
    shadow = np.where(inside, 0.0, np.nan)
    axes.imshow(
        shadow.T,
        cmap=ListedColormap([PALE]),
        vmin=0,
        vmax=1,
        **style,
    )
    axes.imshow(
        maximum.T,
        cmap=RDM_COLORMAP,
        vmin=scale[0],
        vmax=scale[1],
        **style,
    )
    axes.set_axis_off()
    where = (
        (-0.02, 0.5, "right", "center"),
        (1.02, 0.5, "left", "center"),
        (0.5, -0.02, "center", "top"),
        (0.5, 1.02, "center", "bottom"),
    )
    for (x, y, ha, va), letter in zip(where, letters):
        axes.text(
            x,
            y,
            letter,
            ha=ha,
            va=va,
            transform=axes.transAxes,
            fontsize=8,
            color=FAINT,
        )


@checked
def searchlight_surface(
    values: np.ndarray,
    points: np.ndarray,
    triangles: np.ndarray,
    *,
    hemisphere: str,
    p_family: np.ndarray | None = None,
    alpha: float = 0.05,
    threshold: float | None = None,
    views: tuple[str, ...] = ("lateral", "medial", "ventral"),
    title: str = "",
    stamp: str = "",
) -> Figure:
    """Draw a map of a hemisphere's surface from several sides.

    Parameters
    ----------
    values : ndarray, shape (n_vertices,)
        Similarity, NaN where undefined.
    points : ndarray, shape (n_vertices, 3)
        Coordinates in mm.
    triangles : ndarray of int, shape (n_triangles, 3)
        Corners.
    hemisphere : {"left", "right"}
        Which; a view is of its outer or inner side.
    p_family : ndarray, shape (n_vertices,), optional
        Family-wise p; only vertices below `alpha` are shown.
    alpha : float
        Level of the test.
    threshold : float, optional
        Only values of at least this are shown.
    views : tuple of str
        Among `VIEWS`.
    title : str
        What the map shows.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        A triangle has a color when all of its corners are shown. About 1 s to save for 10,000
        vertices; meshes of 160,000 take some 10 s.

    Raises
    ------
    InputError
        When shapes do not fit, or a name is unknown.

    Examples
    --------
    >>> import numpy as np
    >>> from neurometamer.figures.rsa import searchlight_surface
    >>> points = np.array([[0.0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10]])
    >>> triangles = np.array([[0, 1, 2], [0, 1, 3], [0, 2, 3], [1, 2, 3]])
    >>> values = np.array([0.1, 0.2, 0.3, 0.4])
    >>> figure = searchlight_surface(values, points, triangles, hemisphere="left")
    >>> len(figure.axes) >= 3
    True
    """
    values, p = _map_of(values, p_family, 1)
    points, triangles = np.asarray(points, dtype=float), np.asarray(triangles, dtype=int)
    n = len(values)
    if points.shape != (n, 3):
        raise InputError(
            f"the map has {n} values but the mesh points of shape {points.shape}; give one a "
            "vertex."
        )
    three = triangles.ndim == 2 and triangles.shape[1] == 3
    if not three or triangles.min() < 0 or triangles.max() >= n:
        raise InputError(
            f"triangles of shape {triangles.shape} must name three of the vertices 0 to {n - 1} "
            "each."
        )
    if hemisphere not in _HEMISPHERES:
        raise unknown_name("hemisphere", hemisphere, _HEMISPHERES)
    for view in views or [""]:
        if view not in VIEWS:
            raise unknown_name("view", view, VIEWS)
    shown, _, words = _shown(values, p, alpha, threshold)
    drawn = np.where(shown, values, np.nan)
    scale = color_scale(values[shown])
    note = join_note(
        *words, f"Surface of the {hemisphere} hemisphere, {n} vertices; gray: not shown"
    )
    side = 2.3
    width = page_width(max(side * len(views) + 1.3, 5.0), stamp)
    with figure_style():
        figure, below = _page(width, side, stamp, note, title)
        for rank, view in enumerate(views):
            area = (0.1 + rank * side, below, side, side)
            _draw_mesh(figure, area, (points, triangles), drawn, (hemisphere, view), scale)
        _color_bar(figure, scale, below, side)
        return figure


def _draw_mesh(
    figure: Figure,
    area: tuple[float, ...],
    mesh: tuple[np.ndarray, np.ndarray],
    values: np.ndarray,
    view: tuple[str, str],
    scale: tuple[float, float],
) -> None:
    from nilearn.plotting import plot_surf
    from nilearn.surface import InMemoryMesh

    box = _box(figure, area)
    axes: Any = figure.add_axes(box, projection="3d")
    # nilearn centers a mesh in place.
    surface = InMemoryMesh(coordinates=mesh[0].copy(), faces=mesh[1].copy())
    if np.isfinite(values).any():
        options: dict[str, Any] = {
            "surf_map": values,
            "vmin": scale[0],
            "vmax": scale[1],
        }
    else:
        # Below the threshold throughout: the same gray as what is not shown elsewhere.
        options = {
            "surf_map": np.zeros(len(values)),
            "threshold": 0.5,
            "vmin": 0,
            "vmax": 1,
        }
    plot_surf(
        surface,
        engine="matplotlib",
        cmap=RDM_COLORMAP,
        avg_method="mean",
        hemi=view[0],
        view=view[1],
        figure=figure,
        axes=axes,
        colorbar=False,
        **options,
    )
    for collection in axes.collections:
        collection.set_rasterized(True)  # thousands of triangles would make the SVG heavy
    _, tall = figure.get_size_inches()
    figure.text(
        box[0] + box[2] / 2,
        box[1] - 0.02 / tall,
        view[1],
        ha="center",
        va="top",
        fontsize=8,
        color=FAINT,
    )
