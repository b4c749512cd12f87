"""The base of all HTML pages: their parts, their figures, and how a page is written.

A page holds its figures, loads nothing and needs no JavaScript; equal tables give equal bytes.
Each page gives its parts to `write_page` and has a table of figures, one `FigureEntry` a figure.
"""

from __future__ import annotations

import base64
import contextlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import numpy as np
import pandas as pd

from neurometamer.figures.layout import image_levels
from neurometamer.figures.style import format_number, probability_text, save_figure
from neurometamer.report.references import bibtex, citations
from neurometamer.store import facts_as_json, write_table, write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Data = TypeVar("Data")
"""What a page is made of: tables, and what is known of them."""


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


# ------------------------------------------------------------------------------------------ figures


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure that was drawn, with its words and the tables behind it.

    Parameters
    ----------
    name : str
        Name of its files.
    figure : matplotlib.figure.Figure
        The figure.
    numbers : mapping of str to DataFrame
        Exactly what is drawn; the name is that of the CSV, without suffix.
    caption, alt : str
        What it shows, and the same for those who cannot see it.
    raster : bool
        Embed pixels, as is done with every figure whose SVG is large.
    small : bool
        Embed a JPEG instead, for sheets of images.
    section : str
        Key of its section, where the data decide that; else that of its entry.
    """

    name: str
    figure: Figure
    numbers: Mapping[str, pd.DataFrame]
    caption: str
    alt: str
    raster: bool = False
    small: bool = False
    section: str = ""


def drawing_of(
    table: pd.DataFrame,
    name: str,
    figure: Figure,
    caption: str,
    alt: str,
    *,
    raster: bool = False,
    small: bool = False,
) -> Drawing:
    """Give a figure of one table its words; the CSV has the name of the figure.

    Parameters
    ----------
    table : pandas.DataFrame
        Exactly what is drawn.
    name, figure, caption, alt, raster, small : object
        See `Drawing`.

    Returns
    -------
    Drawing
        Of this table.
    """
    return Drawing(
        name=name,
        figure=figure,
        numbers={name: table},
        caption=caption,
        alt=alt,
        raster=raster,
        small=small,
    )


@dataclass(frozen=True, kw_only=True)
class FigureEntry(Generic[Data]):
    """One figure of a page: where it stands, how it is drawn, and when.

    Parameters
    ----------
    section : str
        Key of the section that shows it.
    draw : callable
        Gets what the page is made of; gives the figure with its caption and table, or several,
        such as one a subject.
    applies : callable
        Gets the same; says whether there is something to draw.
    """

    section: str
    draw: Callable[[Data], Iterable[Drawing]]
    applies: Callable[[Data], bool] = lambda data: True


def table_figure(
    name: str,
    *,
    section: str,
    table: Callable[[Data], pd.DataFrame],
    plot: Callable[[pd.DataFrame, Data], Figure],
    caption: str,
    alt: str,
    applies: Callable[[Data], bool] = lambda data: True,
) -> FigureEntry[Data]:
    """Make the entry of a figure that shows one table in words that are always the same.

    Parameters
    ----------
    name : str
        Name of the figure's files.
    section : str
        Key of the section that shows it.
    table : callable
        Gets what the page is made of; gives exactly what is drawn.
    plot : callable
        Gets that table and what the page is made of; gives the figure.
    caption, alt : str
        See `Drawing`.
    applies : callable
        See `FigureEntry`.

    Returns
    -------
    FigureEntry
        For a table of figures.
    """

    def _draw(data: Data) -> Iterator[Drawing]:
        shown = table(data)
        yield drawing_of(shown, name, plot(shown, data), caption, alt)

    return FigureEntry(section=section, draw=_draw, applies=applies)


def draw_figures(
    folder: Path, figures: Mapping[str, FigureEntry[Data]], data: Data, keys: Iterable[str]
) -> dict[str, list[Picture]]:
    """Draw the figures of a page and save them beside it.

    Parameters
    ----------
    folder : Path
        Folder of the page.
    figures : mapping of str to FigureEntry
        The figures of this page; they stand in this order.
    data : object
        What the page is made of.
    keys : iterable of str
        Keys of the sections that the page has; figures of others are not drawn.

    Returns
    -------
    dict of str to list of Picture
        Key of a section to its figures.
    """
    pictures: dict[str, list[Picture]] = {key: [] for key in keys}
    for entry in figures.values():
        if entry.section and entry.section not in pictures:
            continue
        if not entry.applies(data):
            continue
        for drawing in entry.draw(data):
            key = drawing.section or entry.section
            picture = save_drawing(folder, drawing)
            pictures[key].append(picture)
    return pictures


def draw_sections(
    folder: Path,
    sections: Sequence[Section],
    figures: Mapping[str, FigureEntry[Data]],
    data: Data,
) -> list[Section]:
    """Draw the figures of a page into its sections.

    Parameters
    ----------
    folder : Path
        Folder of the page.
    sections : sequence of Section
        Words and tables of each section.
    figures : mapping of str to FigureEntry
        The figures of this page.
    data : object
        What the page is made of.

    Returns
    -------
    list of Section
        Those that have a figure, a table or words.
    """
    keys = [section.key for section in sections]
    pictures = draw_figures(folder, figures, data, keys)
    filled = []
    for section in sections:
        drawn = pictures[section.key]
        if drawn or section.text or section.grids:
            filled.append(replace(section, pictures=drawn))
    return filled


def save_drawing(folder: Path, drawing: Drawing) -> Picture:
    """Save a figure and its tables beside the page, and embed it.

    It is embedded as vectors where the figure has few pixels of its own.

    Parameters
    ----------
    folder : Path
        Folder of the page; gets ``figures/<name>.svg`` and ``.png``, and a ``.csv`` of each table.
    drawing : Drawing
        The figure.

    Returns
    -------
    Picture
        With the image inside; its caption on the page names the CSV files.
    """
    from PIL import Image

    path = folder / "figures" / drawing.name
    svg, png = save_figure(drawing.figure, path)
    numbers = []
    for name, table in drawing.numbers.items():
        file = write_table(path.with_name(f"{name}.csv"), table)
        numbers.append(file.name)
    if drawing.small:
        with Image.open(png) as image:
            data, mime = jpeg_bytes(np.asarray(image.convert("RGB"))), "image/jpeg"
    elif not drawing.raster and svg.stat().st_size <= LARGEST_VECTOR:
        data, mime = svg.read_bytes(), "image/svg+xml"
    else:
        data, mime = png.read_bytes(), "image/png"
        if len(data) > LARGEST_PNG:
            with Image.open(png) as image:
                colors = image.convert("RGB")
            method, dither = Image.Quantize.MEDIANCUT, Image.Dither.NONE
            buffer = io.BytesIO()
            colors.quantize(256, method=method, dither=dither).save(buffer, "PNG", optimize=True)
            data = buffer.getvalue()
    width_inches = float(drawing.figure.get_size_inches()[0])
    return Picture(
        name=drawing.name,
        source=data_uri(data, mime),
        caption=drawing.caption,
        alt=drawing.alt,
        width_px=round(width_inches * 96),
        numbers=tuple(numbers),
    )


LARGEST_VECTOR = 150_000
"""Bytes of an SVG that a page still holds; a larger one is shown as pixels and linked."""

LARGEST_PNG = 300_000
"""Bytes of a PNG that a page still holds with all its colors; a larger one is shown with 256."""


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


def data_uri(data: bytes, mime: str) -> str:
    """Write a file as a data URI.

    Parameters
    ----------
    data : bytes
        The file.
    mime : str
        Its media type.

    Returns
    -------
    str
        ``data:<mime>;base64,…``.
    """
    text = base64.b64encode(data).decode()
    return f"data:{mime};base64,{text}"


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
    return Example(
        source=data_uri(jpeg_bytes(image_levels(image)), "image/jpeg"),
        title=title,
        text=text,
        alt=f"{title}.",
    )


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
    by_key = {section.key: section for section in sections}
    for key in keys:
        if key not in by_key:
            continue
        section = by_key[key]
        for picture in section.pictures:
            if picture.name.endswith(ending):
                others = [other for other in section.pictures if other is not picture]
                rest = []
                for other_section in sections:
                    if other_section is not section:
                        rest.append(other_section)
                    elif others or section.text or section.grids:
                        rest.append(replace(section, pictures=others))
                return [picture], rest
    return [], list(sections)


# --------------------------------------------------------------------------------------------- page


@dataclass(frozen=True, kw_only=True)
class PageContent:
    """What every page holds.

    Parameters
    ----------
    record : mapping
        Provenance: versions and notes.
    lead : str
        What went in, under the title.
    first : Lead
        The first screen.
    sections : sequence of Section
        From `draw_sections`.
    tables, settings : sequence of Grid
        All tables, and all settings.
    methods : sequence of str
        Paragraphs to copy.
    works : mapping of str to str
        Key of `neurometamer.report.references.WORKS` to what the page uses of the work.
    stamps : sequence of (str, str)
        What every reader must know, and what it means.
    answers : sequence of Answer
        Cards of the first screen.
    """

    record: Mapping[str, Any]
    lead: str
    first: Lead
    sections: Sequence[Section]
    tables: Sequence[Grid]
    settings: Sequence[Grid]
    methods: Sequence[str]
    works: Mapping[str, str]
    stamps: Sequence[tuple[str, str]] = ()
    answers: Sequence[Answer] = ()


def write_page(path: Path, template: str, page: PageContent, **own: Any) -> Path:
    """Write a page, and beside it what a manuscript needs: its methods and the works to cite.

    Parameters
    ----------
    path : Path
        Path of the page. Its folder also gets ``methods.txt`` and ``references.bib``.
    template : str
        File of ``neurometamer/templates`` that extends ``page.html``.
    page : PageContent
        What every page holds.
    **own : object
        What only this template needs; a missing part is an error.

    Returns
    -------
    Path
        The page.
    """
    import jinja2

    versions = page.record.get("versions")
    version = str(versions.get("neurometamer", "")) if isinstance(versions, Mapping) else ""
    notes = page.record.get("notes") or []
    entries = bibtex(page.works, version)
    write_text(path.with_name("methods.txt"), "\n\n".join(page.methods) + "\n")
    write_text(path.with_name("references.bib"), entries)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("neurometamer"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template(template).render(
        version=version,
        lead=page.lead,
        stamps=page.stamps,
        first=page.first,
        answers=page.answers,
        sections=page.sections,
        tables=page.tables,
        notes=[notes] if isinstance(notes, str) else [str(note) for note in notes],
        settings=page.settings,
        methods=list(page.methods),
        references=citations(page.works),
        bibtex=entries,
        **own,
    )
    return write_text(path, text)


# ------------------------------------------------------------------------------- numbers and tables


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
    if value is None:
        return "–"
    if isinstance(value, float) and np.isnan(value):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        texts = [setting_text(inner) for inner in value]
        return ", ".join(texts) or "–"
    return str(value)


def _fact_text(value: object) -> str:
    """Write a list or a mapping of a table's cell, in memory or as JSON; anything else as it is."""
    if isinstance(value, str) and value[:1] in "[{":
        with contextlib.suppress(ValueError):
            value = json.loads(value)
    if isinstance(value, Mapping):
        parts = [f"{name}: {_fact_text(inner)}" for name, inner in value.items()]
        return "; ".join(parts) or "–"
    if isinstance(value, (list, tuple)):
        return ", ".join([_fact_text(inner) for inner in value]) or "–"
    if isinstance(value, float) and np.isfinite(value):
        return _decimal_text(value)
    return setting_text(value)


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
    numeric = pd.api.types.is_numeric_dtype(column)
    if not numeric or pd.api.types.is_bool_dtype(column):
        texts = []
        for value in column:
            if isinstance(value, (float, np.floating)):
                number = float(value)
                texts.append(_decimal_text(number) if np.isfinite(number) else _special(number))
            elif value is pd.NA:
                texts.append("–")
            else:
                texts.append(_fact_text(bool(value) if isinstance(value, np.bool_) else value))
        return texts
    values = column.to_numpy(dtype=float, na_value=np.nan)
    finite = np.isfinite(values)
    known = values[finite]
    whole = len(known) > 0 and (known == np.round(known)).all()
    write: Callable[[float], str]
    if name in P_COLUMNS:
        write = probability_text
    elif whole:
        write = "{:.0f}".format
    else:
        write = _decimal_text
    texts = []
    for value, is_number in zip(values, finite):
        text = write(value) if is_number else _special(value)
        texts.append(text.replace("-", "−"))
    return texts


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


def _decimal_text(value: float) -> str:
    """Write two decimals; of what is closer to 0 than .005, two digits."""
    if value == 0 or abs(value) >= 0.005:
        return format_number(value)
    digits = 1 - int(np.floor(np.log10(abs(value))))
    if digits < 6:
        return format_number(value, digits)
    return f"{value:.1e}".replace("-", "−")


def _special(value: float) -> str:
    """Write what is no finite number."""
    if np.isnan(value):
        return "–"
    return "∞" if value > 0 else "−∞"


def text_grid(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str,
    source: str = "",
    *,
    name: str = "",
) -> Grid:
    """Put rows of text on the page as a table.

    Parameters
    ----------
    columns : sequence of str
        Heads of the columns.
    rows : sequence of sequence of str
        One text a column.
    caption : str
        What it holds.
    source : str
        The file with these numbers, relative to the page.
    name : str
        Name by which the page finds it.

    Returns
    -------
    Grid
        With all rows.
    """
    return Grid(
        caption=caption,
        columns=columns,
        rows=rows,
        n_rows=len(rows),
        source=source,
        name=name,
    )


def table_grid(
    table: pd.DataFrame, caption: str, source: str = "", *, limit: int = 24, name: str = ""
) -> Grid:
    """Put a table on the page.

    Parameters
    ----------
    table : pandas.DataFrame
        All its rows.
    caption : str
        What it holds.
    source : str
        Its file, relative to the page.
    limit : int
        Rows on the page; the file has them all.
    name : str
        Name by which the page finds it.

    Returns
    -------
    Grid
        Cells as text.
    """
    columns = list(map(str, table.columns))
    shown = []
    for label, column in zip(columns, table.columns):
        shown.append(column_texts(label, table[column].head(limit)))
    return Grid(
        caption=caption,
        columns=columns,
        rows=list(zip(*shown)),
        n_rows=len(table),
        source=source,
        name=name,
    )


def folded_grid(
    table: pd.DataFrame, caption: str, source: str = "", *, limit: int = 24, name: str = ""
) -> Grid:
    """Put a table on the page.

    What is the same in all rows (method, weights …) is said once, so that the table fits.

    Parameters
    ----------
    table : pandas.DataFrame
        All its rows.
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
    table = facts_as_json(table)
    constant = []
    if len(table) > 1:
        for column in table.columns[1:]:
            if table[column].nunique(dropna=False) == 1:
                constant.append(column)
    grid = table_grid(table.drop(columns=constant), caption, source, limit=limit, name=name)
    same = []
    for column in constant:
        (text,) = column_texts(str(column), table[column].head(1))
        same.append((str(column), text))
    return replace(grid, same=same)


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
            path = str(key)
            if name:
                path = f"{name}.{path}"
            yield from flat_settings(inner, path)
    elif value in ({}, [], None):
        yield name, "–"
    else:
        yield name, setting_text(value)


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
            grids.append(text_grid(("name", "value"), rows, caption, name=key))
    return grids
