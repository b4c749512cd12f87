"""The page of ``neurometamer image-types``: bars of similarities and differences, by file."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.activations import read_activations
from neurometamer.errors import InputError, count_text
from neurometamer.figures import rsa as figures
from neurometamer.figures.style import KIND_NAMES
from neurometamer.provenance import digest_file, provenance
from neurometamer.reading import Files
from neurometamer.report.findings import (
    brain_answer,
    correction_text,
    image_type_differences,
    network_answer,
    similar_places,
)
from neurometamer.report.methods import study_methods, study_works
from neurometamer.report.page import (
    Drawing,
    FigureEntry,
    Lead,
    Section,
    borrow_figure,
    draw_sections,
    save_drawing,
)
from neurometamer.report.read_study import Study
from neurometamer.report.rsa import (
    find_stamps,
    rdm_stamps,
    stamp_text,
    stamped_study,
    study_record,
    subjects_of,
    write_rsa_page,
)
from neurometamer.report.study_figures import answer_charts
from neurometamer.resume import writes_into
from neurometamer.rsa.compute import read_rdms
from neurometamer.rsa.image_types.options import ImageTypeOptions
from neurometamer.store import read_hdf5_attributes, write_json, write_table

if TYPE_CHECKING:
    import pandas as pd


MOST_HEADLINES = 4
"""Files of RDMs, patterns or activations that get a sentence on the first screen."""

SYSTEMS = {
    "brain": "region",
    "network": "layer",
}
"""System to what one of its places is."""

QUANTITIES = {
    "similarity": "how alike the RDMs of two kinds of images are",
    "difference": "how much more alike the RDMs of images that look alike are than of images that "
    "get the same class",
}
"""Quantity to what it is."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ImageTypePage:
    """What the page of ``neurometamer image-types`` is made of.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of `neurometamer.compare_image_types`, with a column source.
    options : ImageTypeOptions
        How it was made.
    stamps : mapping of str to list of str
        System to what must be said of it.
    """

    table: pd.DataFrame
    options: ImageTypeOptions
    stamps: Mapping[str, list[str]]


def draw_image_types(page: ImageTypePage) -> Iterator[Drawing]:
    """Draw similarities and their difference, for each file of each system.

    Parameters
    ----------
    page : ImageTypePage
        What the page is made of.

    Yields
    ------
    Drawing
        One a system, file and quantity.
    """
    named = False  # the first caption spells the abbreviations out
    for system, noun in SYSTEMS.items():
        of_system = page.table[page.table["system"] == system]
        sources = list(dict.fromkeys(of_system["source"]))
        for number, source in enumerate(sources, 1):
            rows = of_system[of_system["source"] == source]
            prefix = f"image_types_{system}"
            if len(sources) > 1:
                prefix += f"_{number}"
            for quantity, words in QUANTITIES.items():
                own = rows[rows["quantity"] == quantity].reset_index(drop=True)
                if own.empty:  # one pair of kinds has no difference
                    continue
                caption = f"{quantity.capitalize()}: {words}, in each {noun} (from {source})."
                if not named:
                    kinds = [kind for kind in KIND_NAMES if kind in sum(page.options.pairs, ())]
                    names = [KIND_NAMES[kind] for kind in kinds]
                    caption += f" Kinds: {', '.join(names)}." if names else ""
                named = True
                name = f"{prefix}_{quantity}"
                figure = figures.image_type_bars(
                    own,
                    system=system,
                    quantity=quantity,
                    stamp=stamp_text(page.stamps[system]),
                )
                yield Drawing(
                    name=name,
                    figure=figure,
                    numbers={name: own},
                    caption=caption,
                    alt=f"Bars with intervals, one group a {noun}.",
                    section=system,
                )


IMAGE_TYPE_FIGURES: dict[str, FigureEntry[ImageTypePage]] = {
    "image_types": FigureEntry(section="", draw=draw_image_types),
}
"""The figures of the page; the section of each is its system."""


@writes_into("folder")
def write_image_type_figures(
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
    """Draw the table of `neurometamer.commands.image_types` and write its page.

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
        named = ", ".join(dict.fromkeys(table["system"].astype(str))) or "none"
        raise InputError(
            f"no figure: the RDMs name neither brain nor network (their systems: {named}); write "
            "them with 'neurometamer rdm', or give them rdm_descriptors system ('brain' or "
            "'network')."
        )
    stamps = _stamps_by_system(rdms, patterns, activations)
    page = ImageTypePage(
        table=table,
        options=options,
        stamps=stamps,
    )
    sections = []
    for system, noun in SYSTEMS.items():
        sections.append(Section(key=system, title=f"{noun.capitalize()}s"))
    sections = draw_sections(folder, sections, IMAGE_TYPE_FIGURES, page)
    first, sections = _image_type_lead(folder, page, sections)
    write_table(folder / "image_types.csv", table)
    inputs = {}
    for file in (*rdms, *patterns, *activations, *images):
        if Path(file).is_file():
            inputs[Path(file).name] = digest_file(file)
    record = provenance(asdict(options) | dict(settings), inputs=inputs)
    write_json(folder / "image_types.json", record)
    meanings = {
        options.perception: "images that look alike to people",
        options.decision: "images that the network calls the same",
    }
    pairs = [f"{'–'.join(pair)}: {meanings[pair]}." for pair in reversed(options.pairs)]
    people = subjects_of(table)
    made_of = [count_text(len(people), "subject")] if people else []
    made_of += [f"from {source}" for source in dict.fromkeys(table["source"])]
    n_resamples = record.get("settings", {}).get("n_resamples", 0)
    study = stamped_study(folder, {"image_types": table}, (), n_resamples)
    ceiling = ["ceiling"] if "ceiling_low" in table.columns else []
    return write_rsa_page(
        folder,
        command="neurometamer image-types",
        question="Which kinds of images are represented alike?",
        lead=f"{' '.join(pairs)} {_sizes(table)} photographs; {'; '.join(made_of)}.",
        first=first,
        methods=[_compared_rdms(table), *study_methods(study)[:1]],
        sections=sections,
        tables=[("image_types.csv", "Similarities and differences", table)],
        record=record,
        stamps=[stamp for own in stamps.values() for stamp in own],
        references=["image_types", "rsa", *ceiling],
        works=study_works(study),
    )


def _stamps_by_system(rdms: Files, patterns: Files, activations: Files) -> dict[str, list[str]]:
    """Find what must be said, by system; of RDMs of both, what holds for either."""
    stamps: dict[str, list[str]] = {system: [] for system in SYSTEMS}
    for file in patterns:
        stamps["brain"] += find_stamps(read_hdf5_attributes(file), study_record(file))
    for file in activations:
        stamps["network"] += find_stamps(dict(read_activations(file).provenance))
    for file in rdms:
        held = read_rdms(file)
        for system in dict.fromkeys(map(str, held.rdm_descriptors.get("system", ()))):
            stamps.setdefault(system, []).extend(rdm_stamps(held, file))
    return stamps


def _image_type_lead(
    folder: Path, page: ImageTypePage, sections: Sequence[Section]
) -> tuple[Lead, list[Section]]:
    """Say for each file in how many places the tests find what, and draw it."""
    table = page.table
    known = table[table["system"].isin(list(SYSTEMS))]
    groups = known.groupby(["system", "source"], sort=False)
    several = groups.ngroups > known["system"].nunique()
    headlines, text, charts = [], [], []
    for key, rows in list(groups)[:MOST_HEADLINES]:
        system, source = map(str, key)
        study = stamped_study(folder, {"image_types": rows}, page.stamps[system])
        both = study
        if not several:
            # Both systems in one study share the sentences that define what was compared.
            both = stamped_study(folder, {"image_types": table}, page.stamps["brain"])
        sentence, how = _found_text(both, system, page.options)
        headlines.append(f"{source}: {sentence}" if several else sentence)
        text.append(how)
        if not several and page.options.pairs == ImageTypeOptions().pairs:
            charts += [save_drawing(folder, drawing) for drawing in answer_charts(study)]
    if groups.ngroups > MOST_HEADLINES:
        headlines.append(f"{groups.ngroups - MOST_HEADLINES} more are in the table.")
    rest = list(sections)
    if not charts:
        ending = "_difference" if (table["quantity"] == "difference").any() else ""
        charts, rest = borrow_figure(sections, [section.key for section in sections], ending)
    how_tested = list(dict.fromkeys(filter(None, text)))
    return Lead(
        headlines=headlines,
        text=how_tested,
        charts=charts,
    ), rest


def _found_text(study: Study, system: str, options: ImageTypeOptions) -> tuple[str, str]:
    """Say what the tests of one file found, and by which criterion."""
    usual = ImageTypeOptions()
    if options.perception in (usual.perception, None) and options.decision in (
        usual.decision,
        None,
    ):
        answer = network_answer(study) if system == "network" else brain_answer(study)
        assert answer is not None  # the table has rows of this system
        return answer.number, answer.text
    noun = SYSTEMS[system]
    rows = image_type_differences(study, system)
    if rows.empty:  # one pair: its similarities
        rows = similar_places(study, system)
        above = int((rows["follows"] == "above chance").sum())
        pair = "–".join(options.pairs[0])
        how = f"{pair} above permuted labels, one-sided, {correction_text(rows)}, p < .05."
        return f"In {above} of {count_text(len(rows), noun)} {pair} is above chance.", how
    first, second = "–".join(options.perception or ()), "–".join(options.decision or ())
    above, below = (int((rows["follows"] == name).sum()) for name in ("perception", "decision"))
    number = (
        f"{first} is above {second} in {above}, below it in {below}, undecided or not tested in "
        f"{len(rows) - above - below} of {count_text(len(rows), noun)}."
    )
    how = (
        f"Counted where the interval excludes 0 and p, two-sided, {correction_text(rows)}, is "
        "below .05."
    )
    return number, how


def _compared_rdms(table: pd.DataFrame) -> str:
    """Say what was compared, for the methods."""
    parts = []
    for system, rows in table.groupby("system", sort=False):
        part = count_text(
            rows["representation"].nunique(), SYSTEMS.get(str(system), "representation")
        )
        people = subjects_of(rows)
        if people:
            part += f" of {count_text(len(people), 'subject')}"
        parts.append(part)
    return (
        f"Representational dissimilarity matrices of {' and '.join(parts)} over "
        f"{_sizes(table)} photographs were used."
    )


def _sizes(table: pd.DataFrame) -> str:
    low, high = int(table["n"].min()), int(table["n"].max())
    if low == high:
        return str(low)
    return f"{low} to {high}"
