"""The figures of ``neurometamer kinds``: similarities and differences of brain and network, on one page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.commands import rsa_page
from neurometamer.commands.stimuli import Files
from neurometamer.figures.style import count_text
from neurometamer.page import Picture, Section
from neurometamer.resume import writes_into
from neurometamer.store import InputError, digest_file, provenance, read_hdf5_attributes, write_json, write_table

if TYPE_CHECKING:
    import pandas as pd

    from neurometamer.rsa.kind_options import KindOptions

SYSTEMS = {"brain": "Regions", "network": "Layers"}
"""System to what its places are."""

QUANTITIES = {
    "similarity": "how alike the RDMs of two kinds of images are",
    "difference": "how much more alike the RDMs of images that look alike are than of images that get the same class",
}
"""Quantity to what it is."""


@writes_into("folder")
def write_kind_figures(
    folder: str | Path,
    table: pd.DataFrame,
    *,
    options: KindOptions,
    settings: Mapping[str, Any],
    rdms: Files = (),
    patterns: Files = (),
    activations: Files = (),
    images: Files = (),
) -> Path:
    """Draw the table of `neurometamer.compare_kinds` and write its page.

    Parameters
    ----------
    folder : path-like
        Gets ``index.html``, ``kinds.csv``, ``kinds.json``, and ``figures/kinds_<system>_<quantity>`` as SVG, PNG and
        CSV; numbered where several files hold a system.
    table : pandas.DataFrame
        Of `neurometamer.kind_tests`, with a column source.
    options : KindOptions
        How it was made.
    settings : mapping
        Further settings.
    rdms, patterns, activations, images : sequence of path-like
        What went in.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        When no row is of a brain or a network.
    """
    folder = Path(folder)
    if not table["system"].isin(list(SYSTEMS)).any():
        raise InputError(
            "no figure: the RDMs name neither brain nor network; write them with 'neurometamer rdm', or give them "
            "rdm_descriptors system ('brain' or 'network')."
        )
    stamps = _stamps(rdms, patterns, activations)
    compared = {system: table[table["system"] == system] for system in SYSTEMS}
    sections = [_section(folder, rows, system, stamps) for system, rows in compared.items() if len(rows)]
    write_table(folder / "kinds.csv", table)
    files = {Path(one).name: one for one in (*rdms, *patterns, *activations, *images) if Path(one).is_file()}
    inputs = {name: digest_file(file) for name, file in files.items()}
    told = provenance(asdict(options) | dict(settings), inputs=inputs)
    write_json(folder / "kinds.json", told)
    ceiling = ["ceiling"] if "ceiling_low" in table.columns else []
    return rsa_page.write_rsa_page(
        folder,
        command="neurometamer kinds",
        question="Which kinds of images are represented alike?",
        lead=_lead(table, options),
        sections=sections,
        tables=[("kinds.csv", "Similarities and differences", table)],
        told=told,
        stamps=[one for found in stamps.values() for one in found],
        references=["kinds", "rsa", *ceiling],
    )


def _lead(table: pd.DataFrame, options: KindOptions) -> str:
    words = {options.perception: "images that look alike to people",
             options.decision: "images that the network calls the same"}  # fmt: skip
    what = " ".join(f"{'–'.join(pair)}: {words[pair]}." for pair in reversed(options.pairs))
    low, high = int(table["n"].min()), int(table["n"].max())
    n = f"{low}" if low == high else f"{low} to {high}"
    people = [one for one in dict.fromkeys(table["subject"].astype(str)) if one not in ("", "mean")]
    told = [count_text(len(people), "subject")] if people else []
    return f"{what} {n} photographs; {'; '.join([*told, *(f'from {one}' for one in dict.fromkeys(table['source']))])}."


def _stamps(rdms: Files, patterns: Files, activations: Files) -> dict[str, list[str]]:
    """Find what must be said, by system; of RDMs of both, what holds for either."""
    from neurometamer.activations import read_activations
    from neurometamer.rsa.rdm import read_rdms

    found: dict[str, list[str]] = {one: [] for one in SYSTEMS}
    for file in patterns:
        found["brain"] += rsa_page.find_stamps(read_hdf5_attributes(file), rsa_page.study_record(file))
    for file in activations:
        found["network"] += rsa_page.find_stamps(dict(read_activations(file).provenance))
    for file in rdms:
        held = read_rdms(file)
        for system in dict.fromkeys(str(one) for one in held.rdm_descriptors.get("system", ())):
            found.setdefault(system, []).extend(rsa_page.rdm_stamps(held, file))
    return found


def _section(folder: Path, rows: pd.DataFrame, system: str, stamps: Mapping[str, list[str]]) -> Section:
    title = SYSTEMS[system]
    sources = list(dict.fromkeys(rows["source"]))
    pictures = [
        _picture(folder, rows[rows["source"] == source], system, f"_{number}" if len(sources) > 1 else "", stamps)
        for number, source in enumerate(sources, 1)
    ]
    return Section(key=system, title=title, pictures=[one for both in pictures for one in both])


def _picture(
    folder: Path, rows: pd.DataFrame, system: str, number: str, stamps: Mapping[str, list[str]]
) -> list[Picture]:
    from neurometamer.figures.rsa import kind_bars

    drawn, stamp = [], rsa_page.stamp_text(stamps[system])
    for quantity, words in QUANTITIES.items():
        own = rows[rows["quantity"] == quantity].reset_index(drop=True)
        place = SYSTEMS[system].lower().rstrip("s")
        drawing = rsa_page.Drawing(
            name=f"kinds_{system}{number}_{quantity}",
            figure=kind_bars(own, system=system, quantity=quantity, stamp=stamp),
            numbers={f"kinds_{system}{number}_{quantity}": own},
            caption=f"{quantity.capitalize()}: {words}, in each {place} (from {rows['source'].iloc[0]}).",
            alt=f"Bars with intervals, one group a {place}.",
        )
        drawn.append(rsa_page.save_drawing(folder, drawing))
    return drawn
