"""The parts that all HTML pages share: figures and tables on the page, settings, and how the page is written.

A page holds its figures, loads nothing and needs no JavaScript; equal tables give equal bytes.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.figures.style import save_figure
from neurometamer.store import write_table, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One figure on the page: its image as a data URI, its caption and its text for those who cannot see it.

    `numbers` names the CSV files beside it that hold what was drawn.
    """

    name: str
    source: str
    caption: str
    alt: str
    width_px: int
    numbers: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Grid:
    """One table on the page, all cells as text; `n_rows` counts the file's rows, `same` holds its constant columns."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_rows: int
    source: str = ""
    same: Sequence[tuple[str, str]] = ()
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page; `missing` says in one line why a part is left out."""

    key: str
    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    grids: Sequence[Grid] = ()
    missing: str = ""


def cell_text(value: object) -> str:
    """Write one value of a table as it stands in a cell of the page.

    Parameters
    ----------
    value : object
        Anything a table or the settings hold.

    Returns
    -------
    str
        Four digits of a number, all of a whole number; a dash for what is missing.
    """
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, (bool, np.bool_)):
        return "yes" if value else "no"
    if isinstance(value, (float, np.floating)):
        return _number_text(float(value))
    if isinstance(value, (list, tuple)):
        return ", ".join(map(cell_text, value)) or "–"
    return str(value)


def _number_text(value: float) -> str:
    if np.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.0f}" if value.is_integer() and abs(value) < 1e9 else f"{value:.4g}"


def table_grid(table: pd.DataFrame, caption: str, source: str = "", *, limit: int = 24, name: str = "") -> Grid:
    """Put a table on the page.

    Parameters
    ----------
    table : pandas.DataFrame
        The whole of it.
    caption : str
        What it holds.
    source : str
        Its file, relative to the page.
    limit : int
        Rows on the page; the file has them all.
    name : str
        By which the page can tell it from others.

    Returns
    -------
    Grid
        Cells as text.
    """
    rows = [[cell_text(value) for value in row] for row in table.head(limit).itertuples(index=False, name=None)]
    columns = list(map(str, table.columns))
    return Grid(caption=caption, columns=columns, rows=rows, n_rows=len(table), source=source, name=name)


def folded_grid(table: pd.DataFrame, caption: str, source: str = "", *, limit: int = 24, name: str = "") -> Grid:
    """Put a table on the page, and say once what is the same in all rows (method, weights …), so that it fits.

    Parameters
    ----------
    table : pandas.DataFrame
        The whole of it.
    caption, source : str
        See `table_grid`.
    limit : int
        Rows on the page.
    name : str
        See `table_grid`.

    Returns
    -------
    Grid
        Without the constant columns, which are in `same`; the first column stays.
    """
    same = [one for one in table.columns[1:] if len(table) > 1 and table[one].nunique(dropna=False) == 1]
    grid = table_grid(table.drop(columns=same), caption, source, limit=limit, name=name)
    return replace(grid, same=[(str(one), cell_text(table[one].iloc[0])) for one in same])


def flat_settings(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Turn nested settings into names with dots and text, keys in the order of the file.

    Parameters
    ----------
    value : object
        A mapping, or what stands at its end.
    name : str
        Of the value.

    Yields
    ------
    tuple of str
        Name and text.
    """
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flat_settings(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, "–" if value in ({}, [], None) else cell_text(value)


def settings_grids(told: Mapping[str, Any], parts: Sequence[tuple[str, str]]) -> list[Grid]:
    """Put parts of a provenance on the page.

    Parameters
    ----------
    told : mapping
        Provenance.
    parts : sequence of tuple of str
        Key of the part, and its caption.

    Returns
    -------
    list of Grid
        Those parts that have something.
    """
    grids = []
    for key, caption in parts:
        rows = [list(pair) for pair in flat_settings(told.get(key) or {}) if pair[0]]
        if rows:
            grids.append(Grid(name=key, caption=caption, columns=("name", "value"), rows=rows, n_rows=len(rows)))
    return grids


def embed_figure(
    folder: Path,
    name: str,
    figure: Figure,
    caption: str,
    alt: str,
    *,
    table: pd.DataFrame | Mapping[str, pd.DataFrame] | None = None,
    raster: bool = False,
    small: bool = False,
) -> Picture:
    """Save a figure beside the page and embed it: vectors where the figure has few pixels of its own.

    Parameters
    ----------
    folder : Path
        Of the page; gets ``figures/<name>.svg`` and ``.png``, and a ``.csv`` of each table.
    name : str
        Of the files.
    figure : matplotlib.figure.Figure
        The figure.
    caption, alt : str
        What it shows, and the same for those who cannot see it.
    table : pandas.DataFrame or mapping of str to pandas.DataFrame, optional
        What was drawn; several tables have names of their own.
    raster : bool
        Embed the PNG.
    small : bool
        Embed it as JPEG instead, for sheets of images that look like noise, which a PNG cannot make small.

    Returns
    -------
    Picture
        With the image inside.
    """
    place = folder / "figures" / name
    svg, png = save_figure(figure, place)
    tables = {} if table is None else table if isinstance(table, Mapping) else {name: table}
    numbers = tuple(write_table(place.with_name(f"{one}.csv"), part).name for one, part in tables.items())
    path, mime = (png, "image/png") if raster else (svg, "image/svg+xml")
    data, mime = (_as_jpeg(png), "image/jpeg") if small else (path.read_bytes(), mime)
    source = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    width = round(float(figure.get_size_inches()[0]) * 96)
    return Picture(name=name, source=source, caption=caption, alt=alt, width_px=width, numbers=numbers)


def _as_jpeg(path: Path) -> bytes:
    from PIL import Image

    buffer = io.BytesIO()
    with Image.open(path) as image:
        image.convert("RGB").save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def write_page(path: Path, template: str, **parts: Any) -> Path:
    """Fill a template of ``neurometamer/templates`` and write the page.

    Parameters
    ----------
    path : Path
        Of the page.
    template : str
        File name of the template.
    **parts : object
        What the template needs; a missing one is an error.

    Returns
    -------
    Path
        The page.
    """
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("neurometamer"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return write_text(path, environment.get_template(template).render(**parts))
