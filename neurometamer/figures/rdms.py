"""Stimuli by their dissimilarities: RDMs with bands, and the images placed by MDS or t-SNE."""

from __future__ import annotations

import collections
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.figures.layout import (
    Page,
    fit_size,
    fits,
    heat_colors,
    image_levels,
    page_width,
    percentile_rdm,
    text_width,
    widest,
)
from neurometamer.figures.style import (
    COLORS,
    FAINT,
    HUES,
    KINDS,
    figure_style,
    format_number,
    need_columns,
)
from neurometamer.figures.tables import names_as_text
from neurometamer.provenance import generator

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ARRANGEMENTS = {
    "mds": "metric multidimensional scaling (SMACOF), the lowest stress of one classical and four "
    "random starts",
    "tsne": "t-SNE, started from classical scaling",
}
"""Name of a way to place stimuli in a plane to what it is."""

MOST_IMAGES = 100
"""More cannot be told apart on one page: the others are drawn as the signs of their categories."""

_SIDES = {
    1: 3.2,
    2: 2.6,
    3: 2.0,
    4: 1.6,
}
_KEY, _SIGN = 7.5, 6.5
"""Sizes of the key and of the signs of categories, points."""
_BAR = 0.12
"""Width of the bars of categories along an RDM, inches."""


# --------------------------------------------------------------------------------------- categories


@checked
def stimulus_order(
    ids: Sequence[str], categories: Sequence[str], category_order: Sequence[str] = ()
) -> np.ndarray:
    """Put stimuli in the order of all figures: by category, then by id.

    Parameters
    ----------
    ids : sequence of str
        Names of the stimuli, each once.
    categories : sequence of str
        Category of each, or its kind.
    category_order : sequence of str
        Order of the categories; when empty RE, AN, AI, then the others by name.

    Returns
    -------
    ndarray of int
        Positions, first to last.

    Raises
    ------
    InputError
        When an id comes twice, numbers differ, or a category is not in `category_order`.

    Examples
    --------
    >>> stimulus_order(["b", "a", "c"], ["face", "place", "face"]).tolist()
    [0, 2, 1]
    """
    _refuse_twice(ids)
    if len(ids) != len(categories):
        raise InputError(
            f"{len(ids)} stimuli came with {len(categories)} categories; give one each."
        )
    names = _Categories.of(categories, category_order).names
    ranks = [names.index(str(category)) for category in categories]
    keys = [(rank, str(stimulus)) for rank, stimulus in zip(ranks, ids)]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    return np.array(order, dtype=int)


def _refuse_twice(ids: Sequence[str]) -> None:
    again = duplicates(map(str, ids))
    if again:
        raise InputError(f"stimuli named twice: {name_ids(again)}; give each id once.")


@dataclass(frozen=True)
class _Categories:
    """Categories in order, each with a sign and a color; signs never repeat, colors may."""

    names: tuple[str, ...]

    @classmethod
    def of(cls, categories: Sequence[str], order: Sequence[str] = ()) -> _Categories:
        present = dict.fromkeys(map(str, categories))
        if not order:
            order = [*KINDS, *sorted(set(present) - set(KINDS))]
        for category in present:
            if category not in order:
                raise unknown_name("category", category, order)
        return cls(tuple(category for category in dict.fromkeys(order) if category in present))

    def sign(self, name: str) -> str:
        if widest(self.names, 7) <= text_width("WW", 7):
            return name
        number = self.names.index(name)
        turn, letter = divmod(number, 26)
        code = ord("A") + letter
        sign = chr(code)
        if turn:
            sign += str(turn + 1)
        return sign

    def sign_width(self, name: str) -> float:
        return text_width(self.sign(name), _SIGN, bold=True)

    def color(self, name: str) -> str:
        if name in COLORS:
            return COLORS[name]
        number = self.names.index(name) % len(HUES)
        return HUES[number]


class _Key:
    """The key of categories above the note of a page, and their signs on it."""

    def __init__(self, categories: _Categories, members: Sequence[str]) -> None:
        counts = collections.Counter(members)
        self.categories = categories
        self.labels = [f"{name} ({counts[name]})" for name in categories.names]

    def plan(self, width: float) -> tuple[list[tuple[float, int]], float]:
        """Place entries in rows; also give the height of all."""
        if not self.labels:
            return [], 0.0
        slot = 0.42 + widest(self.labels, _KEY)
        across = max(1, int((width - 0.2) / slot))
        places = []
        for index in range(len(self.labels)):
            row, column = divmod(index, across)
            places.append((0.1 + column * slot, row))
        n_rows = -(-len(self.labels) // across)
        return places, 0.2 * n_rows + 0.08

    def draw(self, page: Page, top: float) -> None:
        places, _ = self.plan(page.width)
        for name, label, (left, row) in zip(self.categories.names, self.labels, places):
            down = top + 0.2 * row
            self.sign(page, name, left, down, 0.22, 0.15)
            page.text(
                left + 0.28,
                down + 0.08,
                label,
                fontsize=_KEY,
                va="center_baseline",
            )

    def sign(
        self,
        page: Page,
        name: str,
        left: float,
        top: float,
        width: float,
        height: float,
        rank: int = 1,
        *,
        signed: bool = True,
    ) -> None:
        """Draw a category's color with its sign, where there is room for it."""
        from matplotlib.patches import Rectangle

        color = self.categories.color(name)
        patch = Rectangle(
            (left, top),
            width,
            height,
            facecolor=color,
            linewidth=0,
            zorder=rank,
        )
        page.axes.add_patch(patch)
        fits_in = self.categories.sign_width(name) <= width + 0.01 and height >= 0.09
        if not (signed and fits_in):
            return
        red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        dark = 0.299 * red + 0.587 * green + 0.114 * blue < 140
        page.axes.text(
            left + width / 2,
            top + height / 2,
            self.categories.sign(name),
            fontsize=_SIGN,
            zorder=rank,
            clip_on=True,
            parse_math=False,
            color="white" if dark else "black",
            fontweight="bold",
            ha="center",
            va="center_baseline",
        )


# --------------------------------------------------------------------------------------------- RDMs


@checked
def banded_rdms(
    matrices: np.ndarray,
    *,
    row_titles: Sequence[str],
    column_titles: Sequence[str],
    ids: Sequence[str],
    categories: Sequence[str],
    category_order: Sequence[str] = (),
    within: Sequence[str] = (),
    columns_per_band: int = 6,
    stamp: str = "",
) -> Figure:
    """Draw a grid of RDMs with the categories of the stimuli along both edges.

    Each RDM is scaled to its own percentiles.

    Parameters
    ----------
    matrices : ndarray, shape (n_rows, n_columns, n, n)
        Dissimilarities, symmetric; a place without RDM is NaN throughout.
    row_titles, column_titles : sequence of str
        E.g. subjects and ROIs, or kinds and layers.
    ids : sequence of str
        Stimuli, in the order of the matrices.
    categories : sequence of str
        Category (or kind) of each stimulus.
    category_order : sequence of str
        See `stimulus_order`, in whose order stimuli are drawn everywhere.
    within : sequence of str
        What stimuli of one category are sorted by, each once; their ids when empty.
    columns_per_band : int
        Longer grids are folded into bands of about equal length.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Categories differ in color and sign; the key names them with their numbers of stimuli.

    Raises
    ------
    InputError
        When numbers of titles, ids or categories do not fit the matrices, or an RDM is not
        symmetric.

    Examples
    --------
    >>> import numpy as np
    >>> from neurometamer.figures.rsa import banded_rdms
    >>> rdm = 1.0 - np.eye(4)
    >>> figure = banded_rdms(
    ...     np.array([[rdm, rdm]]),
    ...     row_titles=["S1"],
    ...     column_titles=["V1", "LO"],
    ...     ids=["a", "b", "c", "d"],
    ...     categories=["animal", "animal", "tool", "tool"],
    ... )
    >>> type(figure).__name__
    'Figure'
    """
    matrices = _checked(matrices, row_titles, column_titles, ids)
    order = stimulus_order(within or ids, categories, category_order)
    members = [str(categories[i]) for i in order]
    n_rows, n_columns = matrices.shape[:2]
    n_bands = -(-n_columns // columns_per_band)
    width = -(-n_columns // n_bands)
    kinds = _Categories.of(members, category_order)
    then = "as given" if within else "by id"
    with figure_style():
        page = _BandPage((width, n_rows, n_bands), members, kinds, stamp, then)
        for row, column in np.ndindex(n_rows, n_columns):
            band, place = divmod(column, width)
            rdm = percentile_rdm(matrices[row, column][np.ix_(order, order)])
            page.rdm(row, band, place, rdm)
            if row == 0 and str(column_titles[column]):
                page.name_column(band, place, str(column_titles[column]))
        for row, band in np.ndindex(n_rows, n_bands):
            page.name_row(row, band, str(row_titles[row]))
        page.key.draw(page, page.bottom + 0.04)
        page.set_limits()
        page.percentile_bar(page.top, page.bottom)
        return page.figure


def _checked(
    matrices: np.ndarray, rows: Sequence[str], columns: Sequence[str], ids: Sequence[str]
) -> np.ndarray:
    matrices = np.asarray(matrices, dtype=float)
    n = len(ids)
    if matrices.shape != (len(rows), len(columns), n, n) or not matrices.size:
        raise InputError(
            f"RDMs of shape {matrices.shape} came with {len(rows)} row titles, {len(columns)} "
            f"column titles and {n} ids; the shape must be (rows, columns, ids, ids)."
        )
    turned = np.swapaxes(matrices, -1, -2)
    even = np.isclose(
        matrices,
        turned,
        rtol=1e-5,
        atol=1e-8,
        equal_nan=True,
    )
    wrong = [f"{rows[i]} {columns[j]}" for i, j in np.argwhere(~even.all(axis=(2, 3)))]
    if wrong:
        raise InputError(
            f"RDMs that are not symmetric: {name_ids(wrong)}; give the mean of each with its "
            "transpose."
        )
    return matrices


@checked
def rdm_pairs(
    matrices: np.ndarray,
    *,
    row_titles: Sequence[str],
    column_titles: Sequence[str],
    ids: Sequence[str],
) -> pd.DataFrame:
    """List the numbers behind heat maps of RDMs.

    Parameters
    ----------
    matrices : ndarray, shape (n_rows, n_columns, n, n)
        Dissimilarities.
    row_titles, column_titles : sequence of str
        Titles of the grid.
    ids : sequence of str
        Stimuli.

    Returns
    -------
    DataFrame
        One row a pair: row, column, first, second, dissimilarity, percentile.

    Raises
    ------
    InputError
        As `banded_rdms`.

    Examples
    --------
    >>> import numpy as np
    >>> from neurometamer.figures.rsa import rdm_pairs
    >>> rdm = np.array([[0.0, 1.0], [1.0, 0.0]])
    >>> ids = ["cat", "cup"]
    >>> rdm_pairs(rdm[np.newaxis, np.newaxis], row_titles=["S1"], column_titles=["V1"], ids=ids)
      row column first second  dissimilarity  percentile
    0  S1     V1   cat    cup            1.0         0.0
    """
    matrices = _checked(matrices, row_titles, column_titles, ids)
    first, second = np.triu_indices(len(ids), 1)
    names = np.array([str(name) for name in ids], dtype=object)
    parts = []
    for row, column in np.ndindex(*matrices.shape[:2]):
        rdm = matrices[row, column]
        percentiles = percentile_rdm(rdm)
        title = row_titles[row]
        column_title = column_titles[column]
        part = {
            "row": str(title),
            "column": str(column_title),
            "first": names[first],
            "second": names[second],
            "dissimilarity": rdm[first, second],
            "percentile": percentiles[first, second],
        }
        parts.append(pd.DataFrame(part))
    return pd.concat(parts, ignore_index=True)


class _BandPage(Page):
    """Places RDMs with bars of categories above and left of each.

    The size is RDMs side by side, rows of them in a band, and bands.
    """

    gap, title = 0.12, 0.32

    def __init__(
        self,
        size: tuple[int, int, int],
        members: Sequence[str],
        categories: _Categories,
        stamp: str,
        then: str,
    ) -> None:
        width, n_rows, n_bands = size
        self.side, self.n = _SIDES.get(width, 1.27), len(members)
        self.key = _Key(categories, members)
        self.starts = [members.index(name) for name in categories.names] + [self.n]
        narrowest = min(categories.names, key=members.count)
        narrow = members.count(narrowest) * self.side / self.n
        widest_sign = max(categories.sign_width(name) for name in categories.names)
        self.narrow_signs = widest_sign <= _BAR + 0.01  # all or none
        self.margin = 0.4
        self.named = narrow >= 0.11  # names beside the bar, where none touches the next
        if self.named:
            self.margin += min(widest(categories.names, _SIGN), 1.4) + 0.06
        self.step = self.side + _BAR + 0.02 + self.gap
        across = page_width(max(self.margin + width * self.step + 0.75, 4.6), stamp)
        note = (
            "Percentile of each dissimilarity among the pairs of its own RDM. Stimuli are in the "
            f"same order everywhere: by category, in the order of the key, then {then} "
            f"({self.n} stimuli)."
        )
        note = textwrap.fill(note, int(across * 15.5))
        self.band = self.title + n_rows * self.step
        top = 0.1 + 0.36 * bool(stamp)
        self.bottom = top + n_bands * self.band
        _, key = self.key.plan(across)
        height = self.bottom + key + 0.2 + 0.155 * (note.count("\n") + 1)
        super().__init__(across, height, top, stamp, note)

    def _corner(self, row: int, band: int, column: int) -> tuple[float, float]:
        left = self.margin + column * self.step
        top = self.top + band * self.band
        top = top + self.title + row * self.step
        left = left + _BAR
        top = top + _BAR
        return (
            left + 0.02,
            top + 0.02,
        )

    def rdm(self, row: int, band: int, column: int, percentiles: np.ndarray) -> None:
        left, top = self._corner(row, band, column)
        self.image(left, top, self.side, percentiles, **heat_colors())
        categories = self.key.categories
        for name, low, high in zip(categories.names, self.starts, self.starts[1:]):
            start, length = low * self.side / self.n, (high - low) * self.side / self.n
            self.key.sign(self, name, left + start, top - _BAR - 0.02, length, _BAR)
            self.key.sign(
                self,
                name,
                left - _BAR - 0.02,
                top + start,
                _BAR,
                length,
                signed=self.narrow_signs,
            )
            if self.named and column == 0:
                self.text(
                    left - _BAR - 0.06,
                    top + start + length / 2,
                    name if fits(name, 1.4, _SIGN, 1) else categories.sign(name),
                    fontsize=_SIGN,
                    ha="right",
                    va="center_baseline",
                )
        if not np.isfinite(percentiles).any():
            self.say_none(left, top, self.side)

    def name_column(self, band: int, column: int, title: str) -> None:
        left, top = self._corner(0, band, column)
        sizes = (9, 8, 7, 6, 5.5)
        words, size = fit_size(title, self.side + 0.1, self.title - 0.02, sizes, bold=True)
        self.text(
            left + self.side / 2,
            top - _BAR - 0.06,
            words,
            ha="center",
            va="bottom",
            fontsize=size,
            fontweight="bold",
            linespacing=1.0,
        )

    def name_row(self, row: int, band: int, title: str) -> None:
        _, top = self._corner(row, band, 0)
        words, size = fit_size(title, self.side, 0.3, (10, 9, 8, 7, 6), bold=True)
        self.text(
            0.2,
            top + self.side / 2,
            words,
            linespacing=1.0,
            rotation=90,
            ha="center",
            va="center",
            fontsize=size,
            fontweight="bold",
        )


# -------------------------------------------------------------------------------------- arrangement


@checked
def arrange_stimuli(
    rdm: np.ndarray,
    ids: Sequence[str],
    *,
    method: str = "mds",
    seed: int = 0,
    perplexity: float | None = None,
) -> pd.DataFrame:
    """Place stimuli in a plane so that distances follow their dissimilarities.

    Parameters
    ----------
    rdm : ndarray, shape (n, n)
        Dissimilarities; negative ones (crossvalidated measures) count as 0.
    ids : sequence of str
        Stimuli, at least 4; their order changes nothing.
    method : str
        One of `ARRANGEMENTS`.
    seed : int
        Seed of the random starts (MDS).
    perplexity : float, optional
        Perplexity of t-SNE; by default the smaller of 30 and (n - 1) / 3.

    Returns
    -------
    DataFrame
        id, x, y, arrangement (the name), method (in words), measure (``stress-1``, or
        ``trustworthiness`` of some neighbors), score, n_negative (pairs counted as 0). The mean is
        at 0, the longest direction along x; of the stimuli at least a tenth as far out as the
        farthest, the first by id is right of and above
        the center.

    Raises
    ------
    InputError
        For fewer than 4 stimuli, an RDM that is not square, symmetric, finite and somewhere above
        0, or another name.

    Notes
    -----
    Axes have no meaning. In MDS distances on the whole page count (stress-1: 0 is perfect, .2 poor;
    Kruskal 1964); in t-SNE only who is near whom (trustworthiness: 1 is perfect; Venna & Kaski
    2001).

    Examples
    --------
    >>> import numpy as np
    >>> from neurometamer.figures.rsa import arrange_stimuli
    >>> x = np.array([0.0, 1.0, 4.0, 6.0])
    >>> table = arrange_stimuli(abs(x - x[:, np.newaxis]), ["a", "b", "c", "d"])
    >>> table["id"].tolist()
    ['a', 'b', 'c', 'd']
    """
    if method not in ARRANGEMENTS:
        raise unknown_name("arrangement", method, ARRANGEMENTS)
    _refuse_twice(ids)
    names = [str(name) for name in ids]
    order = np.argsort(names, kind="stable")
    distances, n_negative = _distances(np.asarray(rdm, dtype=float), names)
    distances = distances[np.ix_(order, order)]
    words = ARRANGEMENTS[method]
    if method == "mds":
        points, measure, score = _scaled(distances, seed)
    else:
        if perplexity is None:
            perplexity = min(30.0, (len(names) - 1) / 3)
        points, measure, score = _neighbored(distances, seed, float(perplexity))
        words = f"{words}, perplexity {perplexity:.3g}"
    # Turn it into the one of its rotations and reflections that is always drawn.
    points = points - points.mean(axis=0)
    points = points @ np.linalg.svd(points, full_matrices=False)[2].T
    for axis in points.T:
        far = np.flatnonzero(np.abs(axis) >= 0.1 * np.abs(axis).max())
        if axis[far[0]] < 0:
            axis *= -1
    placed = np.empty_like(points)
    placed[order] = points
    return pd.DataFrame(
        {
            "id": names,
            "x": placed[:, 0],
            "y": placed[:, 1],
            "arrangement": method,
            "method": words,
            "measure": measure,
            "score": score,
            "n_negative": n_negative,
        }
    )


def _distances(rdm: np.ndarray, ids: Sequence[str]) -> tuple[np.ndarray, int]:
    n = len(ids)
    if n < 4:
        raise InputError(f"{n} stimuli ({name_ids(ids)}) cannot be arranged; give at least 4.")
    if rdm.shape != (n, n):
        raise InputError(f"an RDM of shape {rdm.shape} came with {n} ids; give one of ({n}, {n}).")
    rdm = rdm.copy()
    np.fill_diagonal(rdm, 0)
    missing = [f"{ids[i]} and {ids[j]}" for i, j in np.argwhere(~np.isfinite(rdm)) if i <= j]
    if missing:
        raise InputError(
            f"no dissimilarity of {name_ids(missing)}; leave stimuli out that miss some."
        )
    apart = np.abs(rdm - rdm.T)
    if not np.allclose(rdm, rdm.T, rtol=1e-5, atol=1e-8):
        i, j = divmod(int(np.argmax(apart)), n)
        raise InputError(
            f"the RDM is not symmetric: {ids[i]} and {ids[j]} have {rdm[i, j]:.4g} and "
            f"{rdm[j, i]:.4g}; give the mean of it with its transpose."
        )
    pairs = rdm[np.triu_indices(n, 1)]
    if pairs.max() <= 0:
        raise InputError(
            f"no dissimilarity is above 0 (the largest is {pairs.max():.4g}), so there is nothing "
            "to arrange; give an RDM with dissimilarities above 0."
        )
    return np.maximum((rdm + rdm.T) / 2, 0), int((pairs < 0).sum())


def _classical(distances: np.ndarray) -> np.ndarray:
    """Scale classically (Torgerson) to two dimensions.

    These are the two largest components of the centered squared distances.
    """
    n = len(distances)
    center = np.eye(n) - 1 / n
    products = -0.5 * center @ distances**2 @ center
    values, vectors = np.linalg.eigh(products)
    least = 1e-12 * max(values[-1], 1e-300)
    largest = np.maximum(values[[-1, -2]], least)
    return vectors[:, [-1, -2]] * np.sqrt(largest)


def _scaled(distances: np.ndarray, seed: int) -> tuple[np.ndarray, str, float]:
    from sklearn.manifold import smacof

    n = len(distances)
    random = generator(seed, "arrangement", n)
    spread = float(distances.std()) or 1.0
    starts = [_classical(distances)]
    for _ in range(4):
        starts.append(random.normal(0, spread, (n, 2)))
    best, least = starts[0], np.inf
    for start in starts:
        points, _ = smacof(
            distances,
            metric=True,
            n_components=2,
            init=start,
            n_init=1,
            max_iter=300,
            eps=1e-6,
            normalized_stress=False,
        )
        # Kruskal's stress-1: misfit over the distances drawn.
        drawn = np.linalg.norm(points[:, np.newaxis] - points, axis=2)
        misfit = ((distances - drawn) ** 2).sum()
        stress = float(np.sqrt(misfit / max((drawn**2).sum(), 1e-300)))
        if stress < least - 1e-6:
            best, least = points, stress
    return best, "stress-1", least


def _neighbored(
    distances: np.ndarray, seed: int, perplexity: float
) -> tuple[np.ndarray, str, float]:
    from sklearn.manifold import TSNE, trustworthiness

    n = len(distances)
    if not 0 < perplexity < n:
        raise InputError(
            f"perplexity must be above 0 and below the {n} stimuli, not {perplexity:g}."
        )
    start = _classical(distances)
    start = 1e-4 * start / (start.std(axis=0)[0] or 1.0)
    # exact gradients: no trees, so no number of threads changes a digit
    model = TSNE(
        metric="precomputed",
        init=start,
        perplexity=perplexity,
        method="exact",
        random_state=seed % 2**32,
    )
    points = model.fit_transform(distances).astype(float)
    near = max(1, min(5, (n - 1) // 2))
    score = trustworthiness(distances, points, n_neighbors=near, metric="precomputed")
    return points, f"trustworthiness of {near} neighbors", float(score)


# ------------------------------------------------------------------------------------------ scatter


@checked
def stimulus_scatter(
    table: pd.DataFrame,
    images: Mapping[str, np.ndarray],
    *,
    category_order: Sequence[str] = (),
    limit: int = MOST_IMAGES,
    stamp: str = "",
) -> Figure:
    """Draw stimuli as the images themselves, where their dissimilarities place them.

    Parameters
    ----------
    table : DataFrame
        Columns id, x, y; category, method, measure, score, n_negative (`arrange_stimuli`) are used
        when there.
    images : mapping of str to ndarray
        Id → image, (3, height, width) in [0, 1].
    category_order : sequence of str
        See `stimulus_order`.
    limit : int
        At most so many images, evenly chosen in the order of figures; the others are drawn as signs
        of their categories, and counted.
    stamp : str
        What must not be forgotten when looking at this figure.

    Returns
    -------
    matplotlib.figure.Figure
        Frames have the color of the category, and a corner its sign. Stimuli without a place are
        counted.

    Raises
    ------
    InputError
        When columns, rows or images are missing, or an id comes twice.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> from neurometamer.figures.rsa import stimulus_scatter
    >>> table = pd.DataFrame({"id": ["a", "b"], "x": [0.0, 1.0], "y": [0.0, 1.0]})
    >>> figure = stimulus_scatter(table, {name: np.full((3, 8, 8), 0.5) for name in "ab"})
    >>> len(figure.axes)
    1
    """
    need_columns(table, "arrangement", ("id", "x", "y"))
    if "category" not in table.columns:
        table = table.assign(category="")
    rows = names_as_text(table.astype({"id": str}), "category")
    if category_order and (rows["category"] == "").any():
        category_order = [*category_order, ""]
    order = stimulus_order(rows["id"].tolist(), rows["category"].tolist(), category_order)
    rows = rows.iloc[order]
    placed = np.isfinite(rows[["x", "y"]].to_numpy(dtype=float)).all(axis=1)
    shown = rows[placed]
    chosen = np.linspace(0, max(len(shown) - 1, 0), min(limit, len(shown))).round().astype(int)
    pictured = set(shown["id"].iloc[chosen])
    lost = [name for name in shown["id"] if name in pictured and name not in images]
    if lost:
        raise InputError(f"no image of {name_ids(lost)}; give one each.")
    with figure_style():
        n_lost = int((~placed).sum())
        page = _ScatterPage(shown, len(pictured), n_lost, category_order, stamp)
        for rank, (name, category) in enumerate(zip(shown["id"], shown["category"])):
            if name in pictured:
                page.stimulus(rank, images[name], category)
            else:
                page.mark(rank, category)
        page.key.draw(page, page.bottom + 0.06)
        page.set_limits()
        return page.figure


class _ScatterPage(Page):
    """Places images by coordinates, in one scale for both axes."""

    area = 7.6

    def __init__(
        self, rows: pd.DataFrame, n_images: int, n_lost: int, order: Sequence[str], stamp: str
    ) -> None:
        members = [category for category in rows["category"] if category]
        self.key = _Key(_Categories.of(members, order), members)
        per_side = np.sqrt(max(len(rows), 1))
        self.side = float(np.clip(self.area / (1.9 * per_side), 0.26, 0.9))
        top = 0.1 + 0.36 * bool(stamp)
        across = page_width(self.area + 0.2, stamp)
        points, spread = np.zeros((0, 2)), np.zeros(2)
        if len(rows):
            points = rows[["x", "y"]].to_numpy(dtype=float)
            points = points - points.min(axis=0)
            spread = points.max(axis=0)
        inches = (self.area - self.side) / spread.max() if spread.max() > 0 else 0.0
        sideways = (across - spread[0] * inches - self.side) / 2
        down = np.abs(points - np.array([0, spread[1]]))
        self.corners = np.array([sideways, top]) + inches * down
        self.bottom = top + float(spread[1] * inches) + self.side
        note = textwrap.fill(_scatter_note(rows, n_images, n_lost), int(across * 15.5))
        _, key = self.key.plan(across)
        height = self.bottom + key + 0.22 + 0.155 * (note.count("\n") + 1)
        super().__init__(across, height, top, stamp, note)

    def stimulus(self, rank: int, image: np.ndarray, category: str) -> None:
        from PIL import Image

        left, top = self.corners[rank]
        # White is added beside images that are not square.
        levels = image_levels(np.asarray(image, dtype=float))
        picture = Image.fromarray(levels)
        size = int(np.ceil(self.side * 150))
        picture.thumbnail((size, size))
        side = max(picture.size)
        square = Image.new("RGB", (side, side), "white")
        before = (side - picture.width) // 2
        above = (side - picture.height) // 2
        square.paste(picture, (before, above))
        pixels = np.asarray(square)
        self.image(left, top, self.side, pixels, interpolation="antialiased", zorder=rank)
        color = self.key.categories.color(category) if category else FAINT
        self.frame(
            left,
            top,
            self.side,
            edgecolor=color,
            linewidth=1.6,
            zorder=rank,
        )
        if category:
            width = self._sign_width(category)
            self.key.sign(self, category, left, top, width, 0.13, rank)

    def mark(self, rank: int, category: str) -> None:
        """Draw the sign of the category alone, which is small, above the images."""
        left, top = self.corners[rank]
        over = rank + 10_000
        if category:
            inner = self.side / 2 - 0.07
            width = self._sign_width(category)
            self.key.sign(self, category, left + inner, top + inner, width, 0.13, over)
        else:
            half = self.side / 2
            self.axes.plot(
                left + half,
                top + half,
                "o",
                color=FAINT,
                markersize=5,
                zorder=over,
            )

    def _sign_width(self, category: str) -> float:
        return max(0.13, self.key.categories.sign_width(category) + 0.02)


def _scatter_note(rows: pd.DataFrame, n_images: int, n_lost: int) -> str:
    known = pd.Series(dtype=object)
    if len(rows):
        known = rows.iloc[0].dropna()
    parts = ["Places as given"]
    if "method" in known:
        parts = [f"Placed by {known['method']}"]
    measure = str(known.get("measure", ""))
    if measure and "score" in known:
        parts.append(f"{measure} {format_number(float(known['score']))}")
    if known.get("arrangement") == "tsne":
        parts.append("only who is near whom has meaning")
    else:
        parts.append("directions have no meaning, distances do")
    if known.get("n_negative", 0):
        parts.append(f"{int(known['n_negative'])} negative dissimilarities count as 0")
    if n_images < len(rows):
        parts.append(
            f"{n_images} of {len(rows)} stimuli are drawn as images, the others as signs of their "
            "category"
        )
    if n_lost:
        parts.append(f"{n_lost} stimuli without a place are left out")
    return "; ".join(parts) + "."
