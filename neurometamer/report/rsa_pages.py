"""The pages of ``neurometamer image-types``, ``layers`` and ``searchlight``.

Each has a table of its figures.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.activations import read_activations
from neurometamer.errors import InputError, count_text, unknown_name
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
from neurometamer.report.layer_findings import hierarchy_answer, layer_answer
from neurometamer.report.methods import study_methods, study_works
from neurometamer.report.page import (
    Drawing,
    FigureEntry,
    Lead,
    Section,
    borrow_figure,
    draw_sections,
    p_text,
    save_drawing,
)
from neurometamer.report.read_study import ALPHA, Study, study_of_tables
from neurometamer.report.rsa import (
    SIMULATED,
    UNTRAINED,
    find_stamps,
    rdm_stamps,
    stamp_text,
    study_record,
    write_rsa_page,
)
from neurometamer.report.study_figures import answer_charts
from neurometamer.resume import writes_into
from neurometamer.rsa.compute import read_rdms
from neurometamer.rsa.image_types.options import ImageTypeOptions
from neurometamer.store import read_hdf5_attributes, write_json, write_table

if TYPE_CHECKING:
    import pandas as pd


def _as_study(
    folder: Path,
    tables: Mapping[str, pd.DataFrame],
    stamps: Sequence[str],
    n_resamples: object = 0,
) -> Study:
    """Take tables for those of a study; what their stamps say goes where a study records it."""
    record = {
        "settings": {"rsa": {"n_resamples": n_resamples}},
        "brain": {"simulated": SIMULATED in stamps},
        "model": {"trained": UNTRAINED not in stamps},
    }
    return study_of_tables(folder, tables, record)


def _people(rows: pd.DataFrame) -> list[str]:
    """List the subjects of a table, without the rows over subjects."""
    subjects = dict.fromkeys(rows["subject"].astype(str))
    subjects.pop("", None)
    subjects.pop("mean", None)
    return list(subjects)


# -------------------------------------------------------------------------------------- image types


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
    n_resamples = record.get("settings", {}).get("n_resamples", 0)
    study = _as_study(folder, {"image_types": table}, (), n_resamples)
    ceiling = ["ceiling"] if "ceiling_low" in table.columns else []
    return write_rsa_page(
        folder,
        command="neurometamer image-types",
        question="Which kinds of images are represented alike?",
        lead=_image_type_words(table, options),
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
        study = _as_study(folder, {"image_types": rows}, page.stamps[system])
        both = study
        if not several:
            # Both systems in one study share the sentences that define what was compared.
            both = _as_study(folder, {"image_types": table}, page.stamps["brain"])
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
        people = _people(rows)
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


def _image_type_words(table: pd.DataFrame, options: ImageTypeOptions) -> str:
    """Say which pairs were compared, over how many photographs, and from which files."""
    meanings = {
        options.perception: "images that look alike to people",
        options.decision: "images that the network calls the same",
    }
    words = [f"{'–'.join(pair)}: {meanings[pair]}." for pair in reversed(options.pairs)]
    people = _people(table)
    made_of = [count_text(len(people), "subject")] if people else []
    made_of += [f"from {source}" for source in dict.fromkeys(table["source"])]
    return f"{' '.join(words)} {_sizes(table)} photographs; {'; '.join(made_of)}."


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


def draw_layer_matrices(page: LayerPage) -> Iterator[Drawing]:
    """Draw the similarity of each layer and each region.

    Parameters
    ----------
    page : LayerPage
        What the page is made of.

    Yields
    ------
    Drawing
        With its caption and table.
    """
    table = page.tables["layer_roi"]
    yield Drawing(
        name="layer_roi_panels",
        figure=figures.layer_roi_panels(table, stamp=page.stamp),
        numbers={"layer_roi_panels": table},
        caption="Similarity of the RDMs of each layer and region, for the mean over subjects and "
        "each subject.",
        alt="Matrices of layers by regions.",
    )


def draw_best_layers(page: LayerPage) -> Iterator[Drawing]:
    """Draw the best layer of each region, naive and cross-validated.

    Parameters
    ----------
    page : LayerPage
        What the page is made of.

    Yields
    ------
    Drawing
        With its caption and table.
    """
    table = page.tables["best_layer"]
    yield Drawing(
        name="best_layer_marks",
        figure=figures.best_layer_marks(table, stamp=page.stamp),
        numbers={"best_layer_marks": table},
        caption="The best layer of each region: chosen and scored on the same data (naive), and "
        "cross-validated. Noise alone makes the best layer differ between regions: no order is "
        "read from it.",
        alt="Two marks a region.",
    )


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


def draw_hierarchy(page: LayerPage) -> Iterator[Drawing]:
    """Draw which layers early and late regions prefer.

    Parameters
    ----------
    page : LayerPage
        What the page is made of.

    Yields
    ------
    Drawing
        With its caption and table.
    """
    table = page.tables["hierarchy"]
    yield Drawing(
        name="hierarchy_lines",
        figure=figures.hierarchy_lines(table, layers=page.layers, stamp=page.stamp),
        numbers={"hierarchy_lines": table},
        caption="Do later regions prefer later layers? One line a subject; the slope is tested "
        "over subjects.",
        alt="Lines over regions.",
    )


LAYER_FIGURES: dict[str, FigureEntry[LayerPage]] = {
    "layer_roi": FigureEntry(section="layers", draw=draw_layer_matrices),
    "best_layer": FigureEntry(section="best", draw=draw_best_layers),
    "weighted": FigureEntry(section="models", draw=draw_models),
    "hierarchy": FigureEntry(
        section="hierarchy",
        draw=draw_hierarchy,
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
    study = _as_study(folder, tables, stamps, n_resamples)
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
    n_people = count_text(len(_people(shown)), "subject")
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


# ------------------------------------------------------------------------------------- searchlights


MOST_MAPS = 3
"""Maps that get a sentence on the first screen."""

HEMISPHERES = {
    "left": r"(^lh[._-])|(hemi-L(?![a-z]))|([._]L[._])",
    "right": r"(^rh[._-])|(hemi-R(?![a-z]))|([._]R[._])",
}
"""Hemisphere to how file names tell it."""


def find_hemisphere(mesh: str | Path, hemisphere: str | None = None) -> str:
    """Say of which hemisphere a mesh is.

    Parameters
    ----------
    mesh : path-like
        Its name may tell: ``lh.white``, ``sub-01_hemi-L_white.surf.gii``,
        ``fs_LR.L.midthickness.surf.gii``.
    hemisphere : {"left", "right"}, optional
        Needed where it does not.

    Returns
    -------
    str
        ``"left"`` or ``"right"``.

    Raises
    ------
    InputError
        When nothing tells, or name and `hemisphere` disagree.

    Examples
    --------
    >>> find_hemisphere("lh.white"), find_hemisphere("sub-01_hemi-R_white.surf.gii")
    ('left', 'right')
    """
    name = Path(mesh).name
    if hemisphere is not None and hemisphere not in HEMISPHERES:
        raise unknown_name("hemisphere", hemisphere, HEMISPHERES)
    sides = [side for side, pattern in HEMISPHERES.items() if re.search(pattern, name)]
    if hemisphere is None:
        if len(sides) != 1:
            raise InputError(
                f"the name {name} does not tell the hemisphere; write --hemisphere left or right."
            )
        return sides[0]
    if sides and hemisphere not in sides:
        raise InputError(
            f"--hemisphere {hemisphere}, but {name} is named as the {sides[0]} one; give the mesh "
            "of that."
        )
    return hemisphere


@dataclass(frozen=True, kw_only=True, eq=False)
class DrawnMap:
    """One map with what is known of it.

    Parameters
    ----------
    name : str
        Name of its files.
    values : ndarray, shape (i, j, k) or (n_vertices,)
        Similarity, NaN where undefined.
    p_family : ndarray, optional
        Family-wise p, of the same shape.
    method : str
        What was compared.
    """

    name: str
    values: np.ndarray
    p_family: np.ndarray | None
    method: str


@dataclass(frozen=True, kw_only=True, eq=False)
class MapPage:
    """What the page of ``neurometamer searchlight`` is made of.

    Parameters
    ----------
    maps : sequence of DrawnMap
        All of one volume or mesh.
    affine : ndarray, shape (4, 4), optional
        Affine of a volume; or there is a mesh.
    space : str
        Space of a volume.
    mesh : tuple of ndarray, optional
        Points (n_vertices, 3) in mm, and triangles (n_triangles, 3).
    hemisphere : {"left", "right"}
        Hemisphere of the mesh.
    stamp : str
        What every figure must say; may be empty.
    """

    maps: Sequence[DrawnMap]
    affine: np.ndarray | None
    space: str
    mesh: tuple[np.ndarray, np.ndarray] | None
    hemisphere: str
    stamp: str


def draw_maps(page: MapPage) -> Iterator[Drawing]:
    """Draw each map: a volume from three sides, or a mesh.

    Parameters
    ----------
    page : MapPage
        What the page is made of.

    Yields
    ------
    Drawing
        One a map, each in a section of its own.
    """
    for number, drawn in enumerate(page.maps, 1):
        style: dict[str, Any] = {
            "p_family": drawn.p_family,
            "alpha": ALPHA,
            "title": drawn.name,
            "stamp": page.stamp,
        }
        if page.mesh is not None:
            figure = figures.searchlight_surface(
                drawn.values, *page.mesh, hemisphere=page.hemisphere, **style
            )
        else:
            assert page.affine is not None
            figure = figures.searchlight_volume(
                drawn.values, page.affine, space=page.space, **style
            )
        if drawn.p_family is None:
            shown = "Not tested (permutations: 0)"
        else:
            n = int((drawn.p_family < ALPHA).sum())
            shown = f"{count_text(n, 'place')} with family-wise p < .05"
            if n == 0:
                shown = "No places with family-wise p < .05: none is colored"
        name = f"map_{drawn.name}"
        numbers = figures.map_table(drawn.values, page.affine, p_family=drawn.p_family)
        yield Drawing(
            name=name,
            figure=figure,
            numbers={name: numbers},
            caption=f"{drawn.method}. {shown}.",
            alt=f"Map {drawn.name}.",
            raster=page.mesh is not None,
            section=f"map-{number}",
        )


MAP_FIGURES: dict[str, FigureEntry[MapPage]] = {
    "maps": FigureEntry(section="", draw=draw_maps),
}
"""The figures of the page; each map has a section of its own."""


def write_map_page(
    folder: Path,
    maps: Sequence[DrawnMap],
    summary: pd.DataFrame,
    *,
    record: Mapping[str, Any],
    affine: np.ndarray | None = None,
    space: str = "native",
    mesh: tuple[np.ndarray, np.ndarray] | None = None,
    hemisphere: str = "left",
    stamps: Sequence[str] = (),
) -> Path:
    """Draw maps and write their page.

    Parameters
    ----------
    folder : Path
        Gets ``index.html``, and ``figures/`` with SVG, PNG and CSV of each map.
    maps : sequence of DrawnMap
        All of one volume or mesh.
    summary : pandas.DataFrame
        Table of `neurometamer.rsa.searchlight.maps.summary_table`.
    record : mapping
        Provenance.
    affine : ndarray, shape (4, 4), optional
        Affine of a volume; or give `mesh`.
    space : str
        Space of a volume, see `neurometamer.figures.rsa.searchlight_volume`.
    mesh : tuple of ndarray, optional
        Points (n_vertices, 3) in mm, and triangles (n_triangles, 3).
    hemisphere : {"left", "right"}
        Hemisphere of the mesh.
    stamps : sequence of str
        Among `neurometamer.report.rsa.STAMPS`.

    Returns
    -------
    Path
        The page.
    """
    page = MapPage(
        maps=maps,
        affine=affine,
        space=space,
        mesh=mesh,
        hemisphere=hemisphere,
        stamp=stamp_text(stamps),
    )
    sections = []
    for number, drawn in enumerate(maps, 1):
        sections.append(Section(key=f"map-{number}", title=drawn.name))
    sections = draw_sections(folder, sections, MAP_FIGURES, page)
    charts, sections = borrow_figure(sections, ["map-1"])
    where = f"the {hemisphere} hemisphere" if mesh is not None else f"a volume in {space} space"
    how_tested, references = [], ["searchlight", "rsa"]
    if any(drawn.p_family is not None for drawn in maps):
        references.append("max-T")
        how_tested.append(
            "Beyond chance: family-wise p below .05, by the largest value over all places in each "
            "permutation of labels. Other places may hold it too; the test does not show that."
        )
    n_places = count_text(int(summary["n_places"].max()), "place")
    settings = record.get("settings", {})
    least, most = int(summary["neighbors_min"].min()), int(summary["neighbors_max"].max())
    named = "; ".join(f"{drawn.name}: {drawn.method.rstrip('.')}" for drawn in maps)
    tested = "No test was made"
    if how_tested:
        tested = f"{settings.get('permutations')} permutations of condition labels gave p"
    methods = (
        f"Searchlights with a radius of {settings.get('radius_mm')} mm were centered on each of "
        f"{n_places} of {where} and held {least} to {most} places. Maps: {named}. {tested}."
    )
    return write_rsa_page(
        folder,
        command="neurometamer searchlight",
        question="Where does the cortex represent the same?",
        lead=f"{count_text(len(maps), 'map')} of {where}, {n_places}.",
        first=Lead(
            headlines=_map_headlines(maps),
            text=how_tested,
            charts=charts,
        ),
        methods=[methods],
        sections=sections,
        tables=[("summary.csv", "Summary of the maps", summary)],
        record=record,
        stamps=stamps,
        references=references,
    )


def _map_headlines(maps: Sequence[DrawnMap]) -> list[str]:
    """Count for each map the places where the family-wise test finds something."""
    headlines = []
    for drawn in maps[:MOST_MAPS]:
        if drawn.p_family is None:
            headlines.append(
                f"{drawn.name} was not tested: its map shows how alike, not where it is beyond "
                "chance."
            )
        else:
            n = count_text(int(np.isfinite(drawn.values).sum()), "place")
            clear = int((drawn.p_family < ALPHA).sum())
            headlines.append(f"{drawn.name} is beyond chance in {clear or 'none'} of {n}.")
    if len(maps) > MOST_MAPS:
        headlines.append(f"{count_text(len(maps) - MOST_MAPS, 'more map')} below.")
    return headlines
