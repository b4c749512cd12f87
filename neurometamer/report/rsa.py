"""One self-contained page of the commands of RSA.

The page computes nothing. Figures are written beside it as SVG, PNG and CSV, and a caption names
its CSV.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.report.methods import software_text
from neurometamer.report.page import (
    Drawing,
    Lead,
    Picture,
    Section,
    folded_grid,
    save_drawing,
    settings_grids,
    text_grid,
    write_page,
)
from neurometamer.report.read_study import CHOSEN, texts_of
from neurometamer.store import read_json

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

__all__ = [
    "Drawing",
    "find_stamps",
    "rdm_stamps",
    "save_drawing",
    "stamp_text",
    "study_record",
    "write_rsa_page",
]

PAGE = "index.html"
"""File of the page in its folder."""

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
    """Say what must not be forgotten about data, from what is recorded of them.

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
    """Say what must not be forgotten about the RDMs of a file.

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
        Gets ``index.html``; figures of an earlier page in it that are not drawn again are removed.
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
            for method in filter(None, texts_of(table, column)):
                # Subjects have families of their own, which need no line each.
                rows[name, re.sub(r"subject [^,]+", "each subject", method)] = None
    named = []
    if rows:
        caption = "Methods as the tables name them"
        named.append(text_grid(("what", "how"), list(rows), caption, name="methods"))
    cited = dict(REFERENCES[method] for method in dict.fromkeys(references))
    return write_page(
        folder / PAGE,
        "rsa.html",
        record=record,
        command=command,
        question=question,
        lead=lead,
        first=first,
        stamps=banner,
        sections=sections,
        tables=grids,
        method_grids=named,
        settings=settings_grids(record, PARTS),
        methods=[*filter(None, [*methods, software_text(record)])],
        works=cited | dict(works or {}),
    )


def _forget_old(folder: Path, drawn: Sequence[Picture]) -> None:
    """Remove figures that the page of an earlier run lists and this one does not.

    So no old figure is taken for a new one.
    """
    page = folder / PAGE
    if not page.is_file():
        return
    text = page.read_text(encoding="utf-8", errors="replace")
    file = r"[\w.+=@%,()\[\] -]+"
    old = set(re.findall(rf"<code>figures/({file}\.csv)</code>", text))
    for name in re.findall(rf'<figure id="figure-({file})">', text):
        old |= {f"{name}.svg", f"{name}.png"}
    for picture in drawn:
        old -= {f"{picture.name}.svg", f"{picture.name}.png", *picture.numbers}
    for name in old:
        (folder / "figures" / name).unlink(missing_ok=True)
