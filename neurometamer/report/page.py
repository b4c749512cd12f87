"""The parts that all HTML pages share.

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

from neurometamer.figures.style import format_number, save_figure
from neurometamer.report.references import WORKS, bibtex, reference_text
from neurometamer.store import write_table, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One figure on the page.

    It holds the image as a data URI, its caption, and its text for readers who cannot see it.

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
    """One table on the page, all cells as text.

    `n_rows` counts the rows of the file; `same` holds its constant columns.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    n_rows: int
    source: str = ""
    same: Sequence[tuple[str, str]] = ()
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page."""

    key: str
    title: str
    text: Sequence[str] = ()
    pictures: Sequence[Picture] = ()
    grids: Sequence[Grid] = ()


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One card of the first screen.

    `title` asks, `number` answers in a sentence, `text` says by which test, and `grid` holds the
    numbers behind it. A `headline` is also written above the picture.
    """

    title: str
    number: str
    text: str = ""
    grid: Grid | None = None
    headline: bool = False


@dataclass(frozen=True, kw_only=True)
class Example:
    """One image of the first screen: its pixels as a data URI, its title and what is said of it."""

    source: str
    title: str
    text: str
    alt: str


@dataclass(frozen=True, kw_only=True)
class Lead:
    """The first screen: what was found in plain words, and the picture that shows it.

    A headline claims no more than its test or interval holds, or says that it counts; `text` says
    by which.
    """

    headlines: Sequence[str]
    text: Sequence[str] = ()
    charts: Sequence[Picture] = ()
    examples: Sequence[Example] = ()


@dataclass(frozen=True, kw_only=True)
class Citation:
    """One work in the list of references: its text, its address and what the page uses of it."""

    text: str
    link: str
    use: str


def citations(uses: Mapping[str, str]) -> list[Citation]:
    """List the works that a page cites.

    Parameters
    ----------
    uses : mapping of str to str
        Key of `neurometamer.report.references.WORKS` to what the page uses of the work.

    Returns
    -------
    list of Citation
        In the order given.
    """
    return [
        Citation(text=reference_text(key), link=WORKS[key].link, use=use)
        for key, use in uses.items()
    ]


def write_sources(
    folder: Path, methods: Sequence[str], works: Mapping[str, str], version: str
) -> dict[str, Any]:
    """Write what a manuscript needs of a page beside it: its methods and the works to cite.

    Parameters
    ----------
    folder : Path
        Folder of the page; gets ``methods.txt`` and ``references.bib``.
    methods : sequence of str
        Paragraphs.
    works : mapping of str to str
        Key of `neurometamer.report.references.WORKS` to what the page uses of the work.
    version : str
        Version of neurometamer; may be empty.

    Returns
    -------
    dict
        The same as parts of a template: methods, bibtex, references, version.
    """
    entries = bibtex(works, version)
    write_text(folder / "methods.txt", "\n\n".join(methods) + "\n")
    write_text(folder / "references.bib", entries)
    return {
        "methods": list(methods),
        "bibtex": entries,
        "references": citations(works),
        "version": version,
    }


def example_image(image: np.ndarray, title: str, text: str = "") -> Example:
    """Put one image on the first screen.

    Parameters
    ----------
    image : ndarray, shape (3, height, width)
        In [0, 1].
    title, text : str
        What it is, and what is said of it.

    Returns
    -------
    Example
        With a compressed copy of the image inside.
    """
    pixels = np.rint(255 * np.clip(np.moveaxis(np.asarray(image), 0, -1), 0, 1)).astype(np.uint8)
    data = base64.b64encode(jpeg_bytes(pixels)).decode()
    return Example(source=f"data:image/jpeg;base64,{data}", title=title, text=text, alt=f"{title}.")


def borrow_figure(
    sections: Sequence[Section], keys: Sequence[str], ending: str = ""
) -> tuple[list[Picture], list[Section]]:
    """Take a figure out of the sections, for the first screen.

    Parameters
    ----------
    sections : sequence of Section
        Sections of the page.
    keys : sequence of str
        Sections to take it from; the first that has such a figure gives its first.
    ending : str
        Ending of the figure's name; any by default.

    Returns
    -------
    charts : list of Picture
        One, or none where no such section has a figure.
    rest : list of Section
        What remains; a section that held nothing else is gone.
    """
    for key in keys:
        for index, section in enumerate(sections):
            fitting = [picture for picture in section.pictures if picture.name.endswith(ending)]
            if section.key == key and fitting:
                first, others = (
                    fitting[0],
                    [picture for picture in section.pictures if picture is not fitting[0]],
                )
                held = replace(section, pictures=others)
                kept = [held] if others or section.text or section.grids else []
                return [first], [*sections[:index], *kept, *sections[index + 1 :]]
    return [], list(sections)


def setting_text(value: object) -> str:
    """Write one setting as the study file has it.

    Parameters
    ----------
    value : object
        Anything the settings hold.

    Returns
    -------
    str
        All digits of a number; a dash for what is missing.

    Examples
    --------
    >>> setting_text(0.001), setting_text([1, 2]), setting_text(None)
    ('0.001', '1, 2', '–')
    """
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(setting_text, value)) or "–"
    return str(value)


def column_texts(name: str, column: pd.Series) -> list[str]:
    """Write one column of a table as it stands on the page.

    Parameters
    ----------
    name : str
        Name of the column; p-values and probabilities have three decimals.
    column : pandas.Series
        Its values.

    Returns
    -------
    list of str
        Whole numbers without decimals, others with two or three and without a leading zero, as in
        the figures; a dash for what is missing.

    Examples
    --------
    >>> column_texts("r", pd.Series([0.5, -0.031, None]))
    ['.50', '−.03', '–']
    >>> column_texts("p_corrected", pd.Series([0.2, 0.0001]))
    ['.200', '< .001']
    >>> column_texts("n", pd.Series([16.0, 1200.0]))
    ['16', '1200']
    """
    if not pd.api.types.is_numeric_dtype(column) or pd.api.types.is_bool_dtype(column):
        return [_value_text(value) for value in column]
    values = column.to_numpy(dtype=float, na_value=np.nan)
    known = values[np.isfinite(values)]
    if len(known) and (known == np.round(known)).all() and name not in P_COLUMNS:
        return [_special(value) or f"{value:.0f}".replace("-", "−") for value in values]
    write = probability_text if name in P_COLUMNS else _decimal_text
    return [_special(value) or write(value) for value in values]


P_COLUMNS = frozenset(
    {
        "p",
        "q",
        "p_corrected",
        "p_min",
        "p_same_order",
        "p_same_order_min",
        "p_holm",
        "p_bonferroni",
        "p_gg",
        "p_photograph",
        "target_probability",
        "confidence_png",
        "confidence_float",
    }
)
"""Columns that hold p-values or probabilities."""


def probability_text(value: float) -> str:
    """Write a p-value or a probability.

    Parameters
    ----------
    value : float
        In [0, 1].

    Returns
    -------
    str
        Three decimals.

    Examples
    --------
    >>> probability_text(0.0123), probability_text(0.0002), probability_text(1.0)
    ('.012', '< .001', '1.000')
    """
    return "< .001" if value < 0.001 else format_number(value, 3)


def p_text(p: float) -> str:
    """Write a p-value as it stands after the letter.

    Parameters
    ----------
    p : float
        In [0, 1], or NaN.

    Returns
    -------
    str
        With its sign of equality.

    Examples
    --------
    >>> p_text(0.0123), p_text(0.0002)
    ('= .012', '< .001')
    """
    text = probability_text(p)
    return text if text.startswith("<") else f"= {text}"


def _decimal_text(value: float) -> str:
    """Write two decimals; of what is closer to 0 than .005, two digits."""
    if value == 0 or abs(value) >= 0.005:
        return format_number(value)
    digits = 1 - int(np.floor(np.log10(abs(value))))
    return format_number(value, digits) if digits < 6 else f"{value:.1e}".replace("-", "−")


def _special(value: float) -> str:
    """Write what is no finite number; empty for what is one."""
    if np.isnan(value):
        return "–"
    return "" if np.isfinite(value) else "∞" if value > 0 else "−∞"


def _value_text(value: object) -> str:
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return "–"
    if isinstance(value, (float, np.floating)):
        return _special(float(value)) or _decimal_text(float(value))
    return setting_text(bool(value) if isinstance(value, np.bool_) else value)


def table_grid(
    table: pd.DataFrame, caption: str, source: str = "", *, limit: int = 24, name: str = ""
) -> Grid:
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
    columns = list(map(str, table.columns))
    shown = [
        column_texts(name, table[column].head(limit))
        for name, column in zip(columns, table.columns)
    ]
    rows = list(zip(*shown))
    return Grid(
        caption=caption, columns=columns, rows=rows, n_rows=len(table), source=source, name=name
    )


def folded_grid(
    table: pd.DataFrame, caption: str, source: str = "", *, limit: int = 24, name: str = ""
) -> Grid:
    """Put a table on the page.

    What is the same in all rows (method, weights …) is said once, so that the table fits.

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
    several = len(table) > 1
    same = [
        column
        for column in table.columns[1:]
        if several and table[column].nunique(dropna=False) == 1
    ]
    grid = table_grid(table.drop(columns=same), caption, source, limit=limit, name=name)
    return replace(
        grid,
        same=[
            (str(column), column_texts(str(column), table[column].head(1))[0]) for column in same
        ],
    )


def flat_settings(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    """Turn nested settings into names with dots and text, keys in the order of the file.

    Parameters
    ----------
    value : object
        A mapping, or what stands at its end.
    name : str
        Name of the value.

    Yields
    ------
    tuple of str
        Name and text.
    """
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from flat_settings(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, "–" if value in ({}, [], None) else setting_text(value)


def settings_grids(record: Mapping[str, Any], parts: Sequence[tuple[str, str]]) -> list[Grid]:
    """Put parts of a provenance on the page.

    Parameters
    ----------
    record : mapping
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
        rows = [list(pair) for pair in flat_settings(record.get(key) or {}) if pair[0]]
        if rows:
            grids.append(
                Grid(
                    name=key,
                    caption=caption,
                    columns=("name", "value"),
                    rows=rows,
                    n_rows=len(rows),
                )
            )
    return grids


def embed_figure(
    folder: Path,
    name: str,
    figure: Figure,
    caption: str,
    alt: str,
    *,
    table: pd.DataFrame | Mapping[str, pd.DataFrame],
    raster: bool = False,
    small: bool = False,
) -> Picture:
    """Save a figure beside the page and embed it.

    It is embedded as vectors where the figure has few pixels of its own.

    Parameters
    ----------
    folder : Path
        Folder of the page; gets ``figures/<name>.svg`` and ``.png``, and a ``.csv`` of each table.
    name : str
        Name of the files.
    figure : matplotlib.figure.Figure
        The figure.
    caption, alt : str
        What it shows, and the same for those who cannot see it.
    table : pandas.DataFrame or mapping of str to pandas.DataFrame
        What was drawn; several tables have names of their own.
    raster : bool
        Embed pixels, as is done with every figure whose SVG is large.
    small : bool
        Embed a JPEG instead, for sheets of images.

    Returns
    -------
    Picture
        With the image inside.
    """
    place = folder / "figures" / name
    svg, png = save_figure(figure, place)
    tables = table if isinstance(table, Mapping) else {name: table}
    numbers = tuple(
        write_table(place.with_name(f"{stem}.csv"), part).name for stem, part in tables.items()
    )
    data, mime = _embedded(svg, png, raster=raster, small=small)
    source = f"data:{mime};base64,{base64.b64encode(data).decode()}"
    width = round(float(figure.get_size_inches()[0]) * 96)
    return Picture(
        name=name, source=source, caption=caption, alt=alt, width_px=width, numbers=numbers
    )


LARGEST_VECTOR = 150_000
"""Bytes of an SVG that a page still holds; a larger one is shown as pixels and linked."""


LARGEST_PNG = 300_000
"""Bytes of a PNG that a page still holds with all its colors; a larger one is shown with 256."""


def _embedded(svg: Path, png: Path, *, raster: bool, small: bool) -> tuple[bytes, str]:
    """Choose what a page holds of a figure, so that it stays small: bytes and media type."""
    from PIL import Image

    if not (raster or small) and svg.stat().st_size <= LARGEST_VECTOR:
        return svg.read_bytes(), "image/svg+xml"
    if not small and png.stat().st_size <= LARGEST_PNG:
        return png.read_bytes(), "image/png"
    with Image.open(png) as image:
        colors = image.convert("RGB")
    if small:
        return jpeg_bytes(np.asarray(colors)), "image/jpeg"
    buffer = io.BytesIO()
    few = colors.quantize(256, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(buffer, "PNG", optimize=True)
    return buffer.getvalue(), "image/png"


def jpeg_bytes(pixels: np.ndarray) -> bytes:
    """Compress pixels as a page holds them.

    Parameters
    ----------
    pixels : ndarray of uint8, shape (height, width, 3)
        Levels of 0 to 255.

    Returns
    -------
    bytes
        A JPEG file.
    """
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
    return buffer.getvalue()


def write_page(path: Path, template: str, **parts: Any) -> Path:
    """Fill a template of ``neurometamer/templates`` and write the page.

    Parameters
    ----------
    path : Path
        Path of the page.
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
