"""The figures of ``neurometamer image-types`` on one page.

They show similarities and differences of brain and network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.errors import InputError
from neurometamer.figures.style import count_text
from neurometamer.provenance import digest_file, provenance
from neurometamer.reading import Files
from neurometamer.report import rsa as rsa_page
from neurometamer.report.findings import (
    brain_answer,
    correction_text,
    image_type_differences,
    network_answer,
    similar_places,
)
from neurometamer.report.lead import lead_charts
from neurometamer.report.methods import cited_works, methods_text
from neurometamer.report.page import Lead, Picture, Section, borrow_figure
from neurometamer.report.read_study import Study, study_of_tables
from neurometamer.resume import writes_into
from neurometamer.rsa.image_types.options import ImageTypeOptions
from neurometamer.store import read_hdf5_attributes, write_json, write_table

if TYPE_CHECKING:
    import pandas as pd

MOST_HEADLINES = 4
"""Files of RDMs, patterns or activations that get a sentence on the first screen."""

SYSTEMS = {"brain": "Regions", "network": "Layers"}
"""System to what its places are."""

QUANTITIES = {
    "similarity": "how alike the RDMs of two kinds of images are",
    "difference": "how much more alike the RDMs of images that look alike are than of images that "
    "get the same class",
}
"""Quantity to what it is."""


@writes_into("folder")
def write_kind_figures(
    folder: str | Path,
    table: pd.DataFrame,
    *,
    options: ImageTypeOptions,
    settings: Mapping[str, Any],
    rdms: Files = (),
    patterns: Files = (),
    activations: Files = (),
    images: Files = (),
) -> Path:
    """Draw the table of `neurometamer.image_type_files` and write its page.

    Parameters
    ----------
    folder : path-like
        Gets ``index.html``, ``image_types.csv``, ``image_types.json``, and
        ``figures/image_types_<system>_<quantity>`` as SVG, PNG and CSV; numbered where
        several files hold a system.
    table : pandas.DataFrame
        Table of `neurometamer.compare_image_types`, with a column source.
    options : ImageTypeOptions
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
            "no figure: the RDMs name neither brain nor network; write them with 'neurometamer "
            "rdm', or give them rdm_descriptors system ('brain' or 'network')."
        )
    stamps = _stamps(rdms, patterns, activations)
    compared = {system: table[table["system"] == system] for system in SYSTEMS}
    sections = [
        _section(folder, rows, system, stamps) for system, rows in compared.items() if len(rows)
    ]
    write_table(folder / "image_types.csv", table)
    files = {
        Path(file).name: file
        for file in (*rdms, *patterns, *activations, *images)
        if Path(file).is_file()
    }
    inputs = {name: digest_file(file) for name, file in files.items()}
    record = provenance(asdict(options) | dict(settings), inputs=inputs)
    write_json(folder / "image_types.json", record)
    ceiling = ["ceiling"] if "ceiling_low" in table.columns else []
    first, sections = _first_screen(folder, table, options, stamps, sections)
    study = _study(folder, table, record)
    return rsa_page.write_rsa_page(
        folder,
        command="neurometamer image-types",
        question="Which kinds of images are represented alike?",
        lead=_lead(table, options),
        first=first,
        methods=[*_made_of(table), *methods_text(study)[:1]],
        sections=sections,
        tables=[("image_types.csv", "Similarities and differences", table)],
        record=record,
        stamps=[stamp for own in stamps.values() for stamp in own],
        references=["image_types", "rsa", *ceiling],
        works=cited_works(study),
    )


# ------------------------------------------------------------------------------------- first screen


def _study(
    folder: Path, table: pd.DataFrame, record: Mapping[str, Any], stamps: Sequence[str] = ()
) -> Study:
    """Take the table for that of a study; what its stamps say goes where a study records it."""
    as_study = {
        "settings": {"rsa": {"resamples": record.get("settings", {}).get("n_resamples", 0)}},
        "brain": {"simulated": rsa_page.SIMULATED in stamps},
        "model": {"trained": rsa_page.UNTRAINED not in stamps},
    }
    return study_of_tables(folder, {"image_types": table}, as_study)


def _first_screen(
    folder: Path,
    table: pd.DataFrame,
    options: ImageTypeOptions,
    stamps: Mapping[str, list[str]],
    sections: Sequence[Section],
) -> tuple[Lead, list[Section]]:
    """Say for each file in how many places the tests find what, and draw it."""
    headlines: list[str] = []
    text: list[str] = []
    charts: list[Picture] = []
    named = (
        table[["system", "source"]].astype(str).drop_duplicates().itertuples(index=False, name=None)
    )
    groups = [(system, source) for system, source in named if system in SYSTEMS]
    several = len(groups) > len({system for system, _ in groups})
    for system, source in groups[:MOST_HEADLINES]:
        rows = table[(table["system"] == system) & (table["source"] == source)]
        study = _study(folder, rows, {}, stamps[system])
        # both systems in one study share the sentences that define what was compared
        both = study if several else _study(folder, table, {}, stamps["brain"])
        sentence, how = _told(both, system, options)
        headlines.append(f"{source}: {sentence}" if several else sentence)
        text.append(how)
        if not several and options.pairs == ImageTypeOptions().pairs:
            charts += lead_charts(study)
    if len(groups) > MOST_HEADLINES:
        headlines.append(f"{len(groups) - MOST_HEADLINES} more are in the table.")
    rest = list(sections)
    if not charts:
        ending = "_difference" if (table["quantity"] == "difference").any() else ""
        charts, rest = borrow_figure(sections, [section.key for section in sections], ending)
    return Lead(
        headlines=headlines, text=list(dict.fromkeys(filter(None, text))), charts=charts
    ), rest


def _told(study: Study, system: str, options: ImageTypeOptions) -> tuple[str, str]:
    """Say what the tests of one file found, and by which criterion."""
    usual = ImageTypeOptions()
    if options.perception in (usual.perception, None) and options.decision in (
        usual.decision,
        None,
    ):
        answer = network_answer(study) if system == "network" else brain_answer(study)
        assert answer is not None  # the table has rows of this system
        return answer.number, answer.text
    noun = {"network": "layer", "brain": "region"}[system]
    rows = image_type_differences(study, system)
    if rows.empty:  # one pair: its similarities
        rows = similar_places(study, system)
        above = int((rows["follows"] == "above chance").sum())
        pair = "–".join(options.pairs[0])
        how = f"{pair} above permuted labels, one-sided, {correction_text(rows)}, p < .05."
        return f"In {above} of {count_text(len(rows), noun)} {pair} is above chance.", how
    first, second = ("–".join(pair) for pair in (options.perception or (), options.decision or ()))
    counts = rows["follows"].value_counts()
    parts = [
        f"{first} is above {second} in {counts.get('perception', 0)}",
        f"below it in {counts.get('decision', 0)}",
        f"undecided or not tested in {counts.get('undecided', 0) + counts.get('not tested', 0)}",
    ]
    how = (
        f"Counted where the interval excludes 0 and p, two-sided, {correction_text(rows)}, is "
        "below .05."
    )
    return f"{', '.join(parts)} of {count_text(len(rows), noun)}.", how


def _made_of(table: pd.DataFrame) -> list[str]:
    """Say what was compared, for the methods."""
    parts = []
    for system, rows in table.groupby("system", sort=False):
        noun = {"network": "layer", "brain": "region"}.get(str(system), "place")
        people = [
            subject
            for subject in dict.fromkeys(rows["subject"].astype(str))
            if subject not in ("", "mean")
        ]
        of = f" of {count_text(len(people), 'subject')}" if people else ""
        parts.append(f"{count_text(rows['place'].nunique(), noun)}{of}")
    n = sorted(set(table["n"].astype(int)))
    size = f"{n[0]}" if len(n) == 1 else f"{n[0]} to {n[-1]}"
    return [
        f"Representational dissimilarity matrices of {' and '.join(parts)} over {size} photographs "
        "were used."
    ]


def _lead(table: pd.DataFrame, options: ImageTypeOptions) -> str:
    words = {
        options.perception: "images that look alike to people",
        options.decision: "images that the network calls the same",
    }
    what = " ".join(f"{'–'.join(pair)}: {words[pair]}." for pair in reversed(options.pairs))
    low, high = int(table["n"].min()), int(table["n"].max())
    n = f"{low}" if low == high else f"{low} to {high}"
    people = [
        subject
        for subject in dict.fromkeys(table["subject"].astype(str))
        if subject not in ("", "mean")
    ]
    made_of = [count_text(len(people), "subject")] if people else []
    sources = [f"from {source}" for source in dict.fromkeys(table["source"])]
    return f"{what} {n} photographs; {'; '.join([*made_of, *sources])}."


def _stamps(rdms: Files, patterns: Files, activations: Files) -> dict[str, list[str]]:
    """Find what must be said, by system; of RDMs of both, what holds for either."""
    from neurometamer.activations import read_activations
    from neurometamer.rsa.compute import read_rdms

    stamps: dict[str, list[str]] = {system: [] for system in SYSTEMS}
    for file in patterns:
        stamps["brain"] += rsa_page.find_stamps(
            read_hdf5_attributes(file), rsa_page.study_record(file)
        )
    for file in activations:
        stamps["network"] += rsa_page.find_stamps(dict(read_activations(file).provenance))
    for file in rdms:
        held = read_rdms(file)
        for system in dict.fromkeys(str(name) for name in held.rdm_descriptors.get("system", ())):
            stamps.setdefault(system, []).extend(rsa_page.rdm_stamps(held, file))
    return stamps


def _section(
    folder: Path, rows: pd.DataFrame, system: str, stamps: Mapping[str, list[str]]
) -> Section:
    title = SYSTEMS[system]
    sources = list(dict.fromkeys(rows["source"]))
    pictures = [
        _picture(
            folder,
            rows[rows["source"] == source],
            system,
            f"_{number}" if len(sources) > 1 else "",
            stamps,
        )
        for number, source in enumerate(sources, 1)
    ]
    return Section(
        key=system, title=title, pictures=[picture for both in pictures for picture in both]
    )


def _picture(
    folder: Path, rows: pd.DataFrame, system: str, number: str, stamps: Mapping[str, list[str]]
) -> list[Picture]:
    from neurometamer.figures.rsa import kind_bars

    drawn, stamp = [], rsa_page.stamp_text(stamps[system])
    for quantity, words in QUANTITIES.items():
        own = rows[rows["quantity"] == quantity].reset_index(drop=True)
        if own.empty:  # one pair of kinds has no difference
            continue
        place = SYSTEMS[system].lower().rstrip("s")
        drawing = rsa_page.Drawing(
            name=f"image_types_{system}{number}_{quantity}",
            figure=kind_bars(own, system=system, quantity=quantity, stamp=stamp),
            numbers={f"image_types_{system}{number}_{quantity}": own},
            caption=f"{quantity.capitalize()}: {words}, in each {place} (from "
            f"{rows['source'].iloc[0]}).",
            alt=f"Bars with intervals, one group a {place}.",
        )
        drawn.append(rsa_page.save_drawing(folder, drawing))
    return drawn
