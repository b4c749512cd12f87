"""What the pages of the commands of RSA share, and the page of ``neurometamer layers``.

A page is self-contained and computes nothing. Figures are written beside it as SVG, PNG and CSV,
and a caption names its CSV.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.errors import InputError, count_text
from neurometamer.figures import rsa as figures
from neurometamer.figures.style import p_text
from neurometamer.figures.tables import names_as_text
from neurometamer.report.layer_findings import hierarchy_answer, layer_answer
from neurometamer.report.methods import software_text, study_methods, study_works
from neurometamer.report.page import (
    Drawing,
    FigureEntry,
    Lead,
    PageContent,
    Picture,
    Section,
    borrow_figure,
    draw_sections,
    folded_grid,
    settings_grids,
    table_figure,
    text_grid,
    write_page,
)
from neurometamer.report.read_study import ALPHA, CHOSEN, Study, texts_of
from neurometamer.store import read_json, write_json

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

PAGE = "index.html"
"""File of the page in its folder."""

DRAWN = "drawn.json"
"""File in ``figures/`` that lists the others, so that the next page can remove them."""

SIMULATED, UNTRAINED = "simulated cortex", "untrained network (random weights)"
STAMPS: Mapping[str, str] = {
    SIMULATED: "the brain data come from a simulation; nothing here is claimed about brains.",
    UNTRAINED: "a network behind these numbers has random weights; what it shows was not learned.",
    CHOSEN: "images under test had a part in the choice of the voxels, which favors them.",
}
"""What every figure and the page must say, and what it means."""

PARTS = (("settings", "Settings"), ("inputs", "Digests of the inputs"), ("versions", "Versions"))

METHOD_COLUMNS: Mapping[str, str] = {
    "method": "method",
    "p_method": "p",
    "correction": "correction of p",
    "family": "family of tests",
    "ceiling": "noise ceiling",
    "null": "null distribution",
}
"""Columns that name methods, and how the page calls them."""

REFERENCES: Mapping[str, tuple[str, str]] = {
    "rsa": ("kriegeskorte2008", "RDMs, their comparison, and stimuli placed by them"),
    "ceiling": ("nili2014", "lower and upper noise ceiling"),
    "image_types": ("zhang2021", "RE–AN against RE–AI similarity"),
    "searchlight": ("kriegeskorte2006", "searchlights"),
    "max-T": ("nichols2002", "family-wise p by the largest value of each permutation"),
    "mds": ("kruskal1964", "stress-1"),
    "tsne": ("maaten2008", "t-SNE"),
}
"""Method to the key of its work and what is used of it."""


# ------------------------------------------------------------------------------------------- stamps


def find_stamps(*records: Any) -> list[str]:
    """Find what every reader of the data must know, in what is recorded of them.

    Parameters
    ----------
    *records : object
        Provenance and descriptors, as JSON holds them.

    Returns
    -------
    list of str
        Among `STAMPS`, in their order; empty when nothing is said.

    Examples
    --------
    >>> find_stamps({"brain": {"source": "simulated"}}, {"trained": True})
    ['simulated cortex']
    """
    stamps: set[str] = set()
    waiting = list(records)
    while waiting:
        record = waiting.pop()
        if isinstance(record, (list, tuple)):
            waiting += record
        if not isinstance(record, Mapping):
            continue
        for key, value in record.items():
            values = value if isinstance(value, (list, tuple)) else [value]
            if key == "trained" and any(item is False for item in values):
                stamps.add(UNTRAINED)
            if key == "simulated" and value is True:
                stamps.add(SIMULATED)
            if key == "not_regular" and value:
                stamps.add(CHOSEN)
            if key in ("source", "data") and "simulated" in values:
                stamps.add(SIMULATED)
            waiting.append(value)
    return [stamp for stamp in STAMPS if stamp in stamps]


def study_record(path: str | Path) -> Any:
    """Read the provenance of the study that a file lies in.

    Parameters
    ----------
    path : path-like
        A file of a study, such as ``rdms/brain.h5`` or ``patterns/sub-01.h5``, or any other.

    Returns
    -------
    object
        Empty when the file lies in no study.
    """
    for folder in Path(path).resolve().parents[:2]:
        file = folder / "provenance.json"
        if file.is_file():
            record = read_json(file)
            if not isinstance(record, dict):
                return {}
            return {key: record[key] for key in ("model", "brain") if key in record}
    return {}


def rdm_stamps(rdms: RDMs, path: str | Path) -> list[str]:
    """Find what every reader of the RDMs of a file must know.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        What the file holds.
    path : path-like
        The file.

    Returns
    -------
    list of str
        Among `STAMPS`; of a network, nothing is said of a cortex.
    """
    provenance = rdms.descriptors.get("provenance")
    try:
        record = json.loads(provenance) if isinstance(provenance, str) else {}
    except ValueError:  # of another program
        record = {}
    stamps = find_stamps(record, dict(rdms.rdm_descriptors), study_record(path))
    systems = {str(system) for system in rdms.rdm_descriptors.get("system", ())}
    if systems == {"network"}:
        stamps = [stamp for stamp in stamps if stamp != SIMULATED]
    return stamps


def stamp_text(stamps: Iterable[str]) -> str:
    """Write stamps as figures have them.

    Parameters
    ----------
    stamps : iterable of str
        Among `STAMPS`.

    Returns
    -------
    str
        Each once; empty for none.
    """
    given = set(stamps)
    return " · ".join([stamp for stamp in STAMPS if stamp in given])


# --------------------------------------------------------------------------------------------- page


def write_rsa_page(
    folder: Path,
    *,
    command: str,
    question: str,
    lead: str,
    first: Lead,
    methods: Sequence[str],
    sections: Sequence[Section],
    tables: Sequence[tuple[str, str, pd.DataFrame]],
    record: Mapping[str, Any],
    stamps: Iterable[str] = (),
    references: Sequence[str] = ("rsa",),
    works: Mapping[str, str] | None = None,
) -> Path:
    """Write the page of one command.

    Parameters
    ----------
    folder : Path
        Gets ``index.html`` and ``figures/drawn.json``, the list of its figures; those of an earlier
        list that are not drawn again are removed.
        The page itself loads nothing and needs no JavaScript.
    command : str
        What made it, e.g. ``"neurometamer layers"``.
    question, lead : str
        Title, and what went in.
    first : Lead
        What was found, in plain words, and its picture.
    methods : sequence of str
        Paragraphs to copy; the software is added.
    sections : sequence of Section
        Figures (`save_drawing`) and words.
    tables : sequence of (str, str, DataFrame)
        File relative to the page, caption, and table.
    record : mapping
        Provenance: settings, inputs, versions.
    stamps : iterable of str
        Among `STAMPS`.
    references : sequence of str
        Keys of `REFERENCES`.
    works : mapping of str to str
        Further works: key of `neurometamer.report.references.WORKS` to what is used of it.

    Returns
    -------
    Path
        The page.
    """
    drawn = list(first.charts)
    for section in sections:
        drawn += section.pictures
    _forget_old(folder, drawn)
    grids = []
    for source, caption, table in tables:
        grids.append(folded_grid(table, caption, source, name=Path(source).stem))
    given = set(stamps)
    banner = []
    for stamp, meaning in STAMPS.items():
        if stamp in given:
            banner.append((stamp[0].upper() + stamp[1:], meaning))
    rows: dict[tuple[str, str], None] = {}
    for column, name in METHOD_COLUMNS.items():
        for _, _, table in tables:
            rows |= dict.fromkeys((name, method) for method in _methods_of(table, column))
    named = []
    if rows:
        caption = "Methods as the tables name them"
        named.append(text_grid(("what", "how"), list(rows), caption, name="methods"))
    cited = dict(REFERENCES[method] for method in dict.fromkeys(references))
    content = PageContent(
        record=record,
        lead=lead,
        first=first,
        stamps=banner,
        sections=sections,
        tables=grids,
        settings=settings_grids(record, PARTS),
        methods=[*filter(None, [*methods, software_text(record)])],
        works=cited | dict(works or {}),
    )
    return write_page(
        folder / PAGE,
        "rsa.html",
        content,
        command=command,
        question=question,
        method_grids=named,
    )


def _methods_of(table: pd.DataFrame, column: str) -> list[str]:
    """List the methods that a column names; families of single subjects need no line each."""
    if "subject" not in table.columns or column not in table.columns:
        return [method for method in texts_of(table, column) if method]
    methods: dict[str, None] = {}
    named = names_as_text(table[["subject", column]], "subject", column).drop_duplicates()
    for subject, method in named.itertuples(index=False, name=None):
        if subject:
            method = method.replace(f"subject {subject}", "each subject")
        if method:
            methods[method] = None
    return list(methods)


def _forget_old(folder: Path, drawn: Sequence[Picture]) -> None:
    """Remove figures that an earlier page recorded and this one does not draw; record these.

    Otherwise an old figure could be taken for a new one. A damaged record removes nothing.
    """
    files: dict[str, None] = {}
    for picture in drawn:
        files |= dict.fromkeys((f"{picture.name}.svg", f"{picture.name}.png", *picture.numbers))
    record = folder / "figures" / DRAWN
    earlier: Any = []
    if record.is_file():
        with contextlib.suppress(InputError):
            earlier = read_json(record)
    if isinstance(earlier, list):
        for name in map(str, earlier):
            is_figure = Path(name).suffix in (".svg", ".png", ".csv")
            if is_figure and name == Path(name).name and name not in files:
                (folder / "figures" / name).unlink(missing_ok=True)
    write_json(record, list(files))


def study_of_tables(
    folder: Path, tables: Mapping[str, pd.DataFrame], provenance: Mapping[str, Any]
) -> Study:
    """Take the tables of one command for those of a study.

    So the page of the command is written in the same sentences.

    Parameters
    ----------
    folder : Path
        Folder of the page.
    tables : mapping of str to pandas.DataFrame
        Among `TABLES`.
    provenance : mapping
        What is recorded of them; ``brain.simulated`` and ``model.trained`` give the stamps.

    Returns
    -------
    Study
        Without images and RDMs.
    """
    return Study(
        folder=folder,
        provenance=provenance,
        tables=tables,
        rdms={},
        stimuli=None,
    )


def stamped_study(
    folder: Path,
    tables: Mapping[str, pd.DataFrame],
    stamps: Sequence[str],
    n_resamples: object = 0,
) -> Study:
    """Take tables for those of a study; what their stamps say goes where a study records it.

    Parameters
    ----------
    folder : Path
        Folder of the page.
    tables : mapping of str to pandas.DataFrame
        Tables of one command, under the names of a study's.
    stamps : sequence of str
        Among `STAMPS`.
    n_resamples : object
        Resamples as the settings record them.

    Returns
    -------
    Study
        See `study_of_tables`.
    """
    record = {
        "settings": {"rsa": {"n_resamples": n_resamples}},
        "brain": {"simulated": SIMULATED in stamps},
        "model": {"trained": UNTRAINED not in stamps},
    }
    return study_of_tables(folder, tables, record)


def subjects_of(rows: pd.DataFrame) -> list[str]:
    """List the subjects of a table, without the rows over subjects.

    Parameters
    ----------
    rows : pandas.DataFrame
        With the column subject.

    Returns
    -------
    list of str
        As they come.
    """
    subjects = dict.fromkeys(rows["subject"].astype(str))
    subjects.pop("", None)
    subjects.pop("mean", None)
    return list(subjects)


# ------------------------------------------------------------------------------------------- layers


LAYER_CAPTIONS: Mapping[str, str] = {
    "layer_roi": "Layers and regions: similarity, ceilings, p",
    "best_layer": "Best layer of each region",
    "weighted": "Weighted, best and average layers",
    "weighted_difference": "Differences between them",
    "hierarchy": "Order of regions and layers",
}
"""Table to its caption."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LayerPage:
    """What the page of ``neurometamer layers`` is made of.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        Some or all of `LAYER_CAPTIONS`; layer_roi, best_layer and weighted must be there.
    layers : sequence of str
        Names of the layers, early to late.
    stamp : str
        What every figure must say; may be empty.
    """

    tables: Mapping[str, pd.DataFrame]
    layers: Sequence[str]
    stamp: str


def draw_models(page: LayerPage) -> Iterator[Drawing]:
    """Draw weighted layers beside the best layer and the average of all.

    Parameters
    ----------
    page : LayerPage
        What the page is made of.

    Yields
    ------
    Drawing
        With its caption and table.
    """
    table, differences = page.tables["weighted"], page.tables.get("weighted_difference")
    numbers = {"model_marks": table}
    if differences is not None:
        numbers["model_marks_difference"] = differences
    yield Drawing(
        name="model_marks",
        figure=figures.model_marks(table, differences, stamp=page.stamp),
        numbers=numbers,
        caption="Non-negative weights of all layers, beside the best single layer and the average "
        "of all; all cross-validated.",
        alt="A mark for each model and region, and their differences.",
    )


LAYER_FIGURES: dict[str, FigureEntry[LayerPage]] = {
    "layer_roi": table_figure(
        "layer_roi_panels",
        section="layers",
        table=lambda page: page.tables["layer_roi"],
        plot=lambda table, page: figures.layer_roi_panels(table, stamp=page.stamp),
        caption="Similarity of the RDMs of each layer and region, for the mean over subjects and "
        "each subject.",
        alt="Matrices of layers by regions.",
    ),
    "best_layer": table_figure(
        "best_layer_marks",
        section="best",
        table=lambda page: page.tables["best_layer"],
        plot=lambda table, page: figures.best_layer_marks(table, stamp=page.stamp),
        caption="The best layer of each region: chosen and scored on the same data (naive), and "
        "cross-validated. Noise alone makes the best layer differ between regions: no order is "
        "read from it.",
        alt="Two marks a region.",
    ),
    "weighted": FigureEntry(section="models", draw=draw_models),
    "hierarchy": table_figure(
        "hierarchy_lines",
        section="hierarchy",
        table=lambda page: page.tables["hierarchy"],
        plot=lambda table, page: figures.hierarchy_lines(
            table, layers=page.layers, stamp=page.stamp
        ),
        caption="Do later regions prefer later layers? One line a subject; the slope is tested "
        "over subjects.",
        alt="Lines over regions.",
        applies=lambda page: "hierarchy" in page.tables,
    ),
}
"""The figures of the page."""


def write_layer_page(
    folder: Path,
    tables: Mapping[str, pd.DataFrame],
    *,
    layers: Sequence[str],
    record: Mapping[str, Any],
    stamps: Sequence[str] = (),
) -> Path:
    """Draw the tables of `neurometamer.commands.layers` and write their page.

    Parameters
    ----------
    folder : Path
        Gets ``index.html``, and ``figures/`` with SVG, PNG and CSV of each figure.
    tables : mapping of str to DataFrame
        Some or all of `LAYER_CAPTIONS`; layer_roi, best_layer and weighted must be there.
    layers : sequence of str
        Names of the layers, early to late.
    record : mapping
        Provenance.
    stamps : sequence of str
        Among `neurometamer.report.rsa.STAMPS`.

    Returns
    -------
    Path
        The page.
    """
    n_resamples = record.get("settings", {}).get("n_resamples", 0)
    study = stamped_study(folder, tables, stamps, n_resamples)
    page = LayerPage(
        tables=tables,
        layers=layers,
        stamp=stamp_text(stamps),
    )
    lacking = []
    if "hierarchy" not in tables:
        lacking.append("The order of regions is not tested: that needs at least 3 regions.")
    sections = [
        Section(
            key="layers",
            title="Layers and regions",
            text=lacking,
        ),
        Section(key="best", title="Best layer"),
        Section(key="models", title="Weighted layers"),
        Section(key="hierarchy", title="Hierarchy"),
    ]
    sections = draw_sections(folder, sections, LAYER_FIGURES, page)
    charts, sections = borrow_figure(sections, ["best"])
    shown = tables["layer_roi"]
    n_layers = count_text(len(layers), "layer")
    n_regions = count_text(shown["roi"].nunique(), "region")
    n_people = count_text(len(subjects_of(shown)), "subject")
    kinds = ", ".join(dict.fromkeys(shown["kind"].astype(str)))
    found = [answer for answer in (layer_answer(study), hierarchy_answer(study)) if answer]
    headlines = [answer.number for answer in found[:1]]
    for p in study.rows("hierarchy", subject="combined")["p"].astype(float).head(1):
        if not np.isfinite(p):
            headlines.append("Whether later regions prefer later layers was not tested.")
        elif p < ALPHA:
            headlines.append(f"Later regions prefer later layers (p {p_text(p)}).")
        else:
            headlines.append(
                f"It is undecided whether later regions prefer later layers (p {p_text(p)})."
            )
    return write_rsa_page(
        folder,
        command="neurometamer layers",
        question="Which layers are like which regions?",
        lead=f"{n_layers}, {n_regions}, {n_people}, {int(shown['n'].max())} stimuli (kind: "
        f"{kinds}).",
        first=Lead(
            headlines=headlines,
            text=[answer.text for answer in found],
            charts=charts,
        ),
        methods=[f"RDMs of {n_layers} ({', '.join(layers)}) were used.", *study_methods(study)],
        sections=sections,
        tables=[(f"{name}.csv", LAYER_CAPTIONS[name], table) for name, table in tables.items()],
        record=record,
        stamps=stamps,
        references=["rsa", "ceiling"],
        works=study_works(study),
    )
