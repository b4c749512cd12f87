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
from neurometamer.figures.labels import page_width
from neurometamer.figures.style import (
    FAINT,
    PALE,
    RDM_COLORMAP,
    STAMP,
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
    values, p = _map_of(values, p_family, values.ndim if np.ndim(values) in (1, 3) else 3)
    places = np.argwhere(np.isfinite(values))
    names = ["vertex"] if values.ndim == 1 else ["i", "j", "k"]
    table = pd.DataFrame(places, columns=names)
    if affine is not None and values.ndim == 3:
        points = places @ _affine(affine)[:3, :3].T + _affine(affine)[:3, 3]
        table[["x", "y", "z"]] = points
    table["value"] = values[tuple(places.T)]
    return table if p is None else table.assign(p_family=p[tuple(places.T)])


def _map_of(
    values: np.ndarray, p_family: np.ndarray | None, n_axes: int
) -> tuple[np.ndarray, np.ndarray | None]:
    values = np.asarray(values, dtype=float)
    if values.ndim != n_axes or not values.size:
        wanted = "(i, j, k)" if n_axes == 3 else "(n_vertices,)"
        raise InputError(f"the map has the shape {values.shape}; {wanted} is needed.")
    if p_family is None:
        return values, None
    p = np.asarray(p_family, dtype=float)
    if p.shape != values.shape:
        raise InputError(f"p_family has the shape {p.shape} but the map {values.shape}.")
    return values, p


def _affine(affine: np.ndarray) -> np.ndarray:
    matrix = np.asarray(affine, dtype=float)
    if (
        matrix.shape != (4, 4)
        or not np.isfinite(matrix).all()
        or abs(np.linalg.det(matrix[:3, :3])) < 1e-9
    ):
        raise InputError(
            f"the affine must be an invertible (4, 4) matrix; it has the shape {matrix.shape}."
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
    n = int(shown.sum())
    rest = (
        f", {format_number(values[shown].min())} to {format_number(values[shown].max())}"
        if n
        else ""
    )
    where = " and ".join(rules) or "all with a value"
    words = [f"Shown: {where} ({n} of {int(known.sum())} places{rest})"]
    if p is None:
        words.append("Not tested: no p came with this map")
    return shown, known, words


def _scale(values: np.ndarray, shown: np.ndarray) -> tuple[float, float]:
    """Give the ends of the colors: from 0, unless values below it are shown."""
    low = float(np.min(values[shown], initial=0.0))
    high = float(np.max(values[shown], initial=0.0))
    return low, high if high > low else low + 1


# ------------------------------------------------------------------------------------------ drawing


def _page(width: float, height: float, stamp: str, note: str) -> tuple[Figure, float, float]:
    """Make a page; given are also the inches below and above the maps."""
    from matplotlib.figure import Figure

    note = textwrap.fill(note, int(width * 15.5))
    below, above = 0.3 + 0.155 * (note.count("\n") + 1), 0.3 + 0.36 * bool(stamp)
    tall = height + below + above
    figure = Figure(figsize=(width, tall), facecolor="white")
    if stamp:
        figure.text(
            0.985, 1 - 0.1 / tall, stamp.upper(), ha="right", va="top", parse_math=False, **STAMP
        )
    style: dict[str, Any] = {"fontsize": 7.5, "color": FAINT, "va": "bottom", "linespacing": 1.25}
    figure.text(0.1 / width, 0.08 / tall, note, parse_math=False, **style)
    return figure, below, above


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
    scale = _scale(values, shown)
    note = join_note(*words, f"Space: {SPACES[space]}", "L: left")
    width, height = page_width(8.4, stamp), 2.5
    with figure_style():
        figure, below, above = _page(width, height, stamp, note)
        _title(figure, title, above)
        area = (0.1, below, width - 1.2, height)
        draw = _draw_glass if space == "MNI" else _draw_projections
        draw(figure, area, np.where(shown, values, np.nan), known, matrix, scale)
        _color_bar(figure, scale, below, height)
        return figure


def _title(figure: Figure, title: str, above: float) -> None:
    from neurometamer.figures.labels import fit_size

    width, tall = figure.get_size_inches()
    words, size = fit_size(title, width - 0.3, 0.26, (10, 9, 8, 7, 6), bold=True)
    where: dict[str, Any] = {
        "ha": "left",
        "va": "bottom",
        "fontweight": "bold",
        "parse_math": False,
    }
    figure.text(0.1 / width, 1 - (above - 0.02) / tall, words, fontsize=size, **where)


def _draw_glass(
    figure: Figure,
    area: tuple[float, ...],
    values: np.ndarray,
    known: np.ndarray,
    affine: np.ndarray,
    scale: tuple[float, float],
) -> None:
    from nibabel import Nifti1Image
    from nilearn.plotting import plot_glass_brain

    width, tall = figure.get_size_inches()
    left, below, across, height = area
    axes = figure.add_axes((left / width, below / tall, across / width, height / tall))
    # nothing shown is 0, which a glass brain leaves blank; a similarity of exactly 0 is blank too
    image = (
        Nifti1Image(np.nan_to_num(values).astype(np.float32), affine)
        if np.isfinite(values).any()
        else None
    )
    plot_glass_brain(
        image,
        display_mode="ortho",
        figure=figure,
        axes=axes,
        colorbar=False,
        plot_abs=False,
        cmap=RDM_COLORMAP,
        vmin=scale[0],
        vmax=scale[1],
        threshold=1e-9,
        annotate=True,
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

    volumes = [
        as_closest_canonical(Nifti1Image(volume.astype(np.float32), affine))
        for volume in (values, known)
    ]
    sizes = voxel_sizes(volumes[0].affine)
    inside = volumes[1].get_fdata() > 0
    box = tuple(
        _span(inside.any(axis=tuple(other for other in range(3) if other != axis)))
        for axis in range(3)
    )
    volume, inside = volumes[0].get_fdata()[box], inside[box]
    inches = volume.shape * sizes
    sides = [(0, 1, 2, "PAIS"), (1, 0, 2, "LRIS"), (2, 0, 1, "LRPA")]
    width, tall = figure.get_size_inches()
    left, below, across, height = area
    room = across - 3 * 0.5
    unit = min(room / (2 * inches[0] + inches[1]), (height - 0.25) / max(inches[1], inches[2]))
    start = left + (room - unit * (2 * inches[0] + inches[1])) / 2 + 0.25
    for away, horizontal, vertical, letters in sides:
        wide, high = unit * inches[horizontal], unit * inches[vertical]
        low = below + 0.12 + (height - 0.25 - high) / 2
        axes = figure.add_axes((start / width, low / tall, wide / width, high / tall))
        maximum = np.where(np.isnan(volume), -np.inf, volume).max(axis=away)
        _draw_side(
            axes,
            np.where(np.isinf(maximum), np.nan, maximum),
            inside.any(axis=away),
            scale,
            letters,
        )
        start += wide + 0.5


def _span(used: np.ndarray) -> slice:
    """Cut an axis to where there are data."""
    places = np.flatnonzero(used)
    return slice(int(places[0]), int(places[-1]) + 1) if len(places) else slice(None)


def _draw_side(
    axes: Axes, maximum: np.ndarray, inside: np.ndarray, scale: tuple[float, float], letters: str
) -> None:
    from matplotlib.colors import ListedColormap

    style: dict[str, Any] = {"origin": "lower", "interpolation": "nearest", "aspect": "auto"}
    axes.imshow(
        np.where(inside, 0.0, np.nan).T, cmap=ListedColormap([PALE]), vmin=0, vmax=1, **style
    )
    axes.imshow(maximum.T, cmap=RDM_COLORMAP, vmin=scale[0], vmax=scale[1], **style)
    axes.set_axis_off()
    where = (
        (-0.02, 0.5, "right", "center"),
        (1.02, 0.5, "left", "center"),
        (0.5, -0.02, "center", "top"),
        (0.5, 1.02, "center", "bottom"),
    )
    for (x, y, ha, va), letter in zip(where, letters):
        axes.text(x, y, letter, ha=ha, va=va, transform=axes.transAxes, fontsize=8, color=FAINT)


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
    points, triangles = _mesh(points, triangles, len(values))
    if hemisphere not in _HEMISPHERES:
        raise unknown_name("hemisphere", hemisphere, _HEMISPHERES)
    if not views or (unknown := [view for view in views if view not in VIEWS]):
        raise unknown_name("view", unknown[0] if views else "", VIEWS)
    shown, _, words = _shown(values, p, alpha, threshold)
    scale = _scale(values, shown)
    note = join_note(
        *words, f"Surface of the {hemisphere} hemisphere, {len(points)} vertices; gray: not shown"
    )
    side = 2.3
    width = page_width(max(side * len(views) + 1.3, 5.0), stamp)
    with figure_style():
        figure, below, above = _page(width, side, stamp, note)
        _title(figure, title, above)
        for rank, view in enumerate(views):
            place = (0.1 + rank * side, below, side, side)
            _draw_mesh(
                figure,
                place,
                (points, triangles),
                np.where(shown, values, np.nan),
                (hemisphere, view),
                scale,
            )
        _color_bar(figure, scale, below, side)
        return figure


def _mesh(points: np.ndarray, triangles: np.ndarray, n: int) -> tuple[np.ndarray, np.ndarray]:
    points, triangles = np.asarray(points, dtype=float), np.asarray(triangles, dtype=int)
    if points.shape != (n, 3):
        raise InputError(
            f"the map has {n} values but the mesh points of shape {points.shape}; one a vertex is "
            "needed."
        )
    if (
        triangles.ndim != 2
        or triangles.shape[1] != 3
        or triangles.min() < 0
        or triangles.max() >= n
    ):
        raise InputError(
            f"triangles of shape {triangles.shape} must name three of the vertices 0 to {n - 1} "
            "each."
        )
    return points, triangles


def _draw_mesh(
    figure: Figure,
    place: tuple[float, ...],
    mesh: tuple[np.ndarray, np.ndarray],
    values: np.ndarray,
    view: tuple[str, str],
    scale: tuple[float, float],
) -> None:
    from nilearn.plotting import plot_surf
    from nilearn.surface import InMemoryMesh

    width, tall = figure.get_size_inches()
    left, below, across, height = place
    box = (left / width, below / tall, across / width, height / tall)
    axes: Any = figure.add_axes(box, projection="3d")
    surface = InMemoryMesh(
        coordinates=mesh[0].copy(), faces=mesh[1].copy()
    )  # nilearn centers it in place
    options: dict[str, Any] = {
        "hemi": view[0],
        "view": view[1],
        "figure": figure,
        "axes": axes,
        "colorbar": False,
    }
    if np.isfinite(values).any():
        options |= {"surf_map": values, "vmin": scale[0], "vmax": scale[1]}
    else:  # below the threshold throughout: the same gray as what is not shown elsewhere
        options |= {"surf_map": np.zeros(len(values)), "threshold": 0.5, "vmin": 0, "vmax": 1}
    plot_surf(surface, engine="matplotlib", cmap=RDM_COLORMAP, avg_method="mean", **options)
    for collection in axes.collections:
        collection.set_rasterized(True)  # thousands of triangles would make the SVG heavy
    figure.text(
        box[0] + box[2] / 2,
        box[1] - 0.02 / tall,
        view[1],
        ha="center",
        va="top",
        fontsize=8,
        color=FAINT,
    )
