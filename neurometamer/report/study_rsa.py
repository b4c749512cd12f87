"""The parts of a study's report that show representational similarity.

Each figure is written as SVG and PNG with the CSV of what it shows. Stimuli have one order: kinds
RE, AN, AI, and photographs by category, then by name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.figures import rsa as figures
from neurometamer.figures.style import (
    KINDS,
    count_text,
    describe_sizes,
    format_number,
    order_places,
)
from neurometamer.report.findings import image_type_differences
from neurometamer.report.layer_findings import over_subjects
from neurometamer.report.page import Picture, Section, embed_figure, p_text, table_grid
from neurometamer.report.read_study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rsatoolbox.rdm import RDMs

    from stimuli_gen.stimuli import StimulusSet

ONE_CATEGORY = "photograph"
"""Of all photographs, where no categories are known."""

POOR_STRESS = 0.2
"""Stress-1 above it is poor (Kruskal 1964)."""

SYSTEMS = {"network": "stage", "brain": "roi"}
"""System to what its places are called in RDMs."""


# ------------------------------------------------------------------------------- what figures share


def picture(
    study: Study,
    name: str,
    figure: Figure,
    caption: str,
    alt: str,
    *,
    table: pd.DataFrame,
    brain: bool = False,
    raster: bool = False,
    small: bool = False,
) -> Picture:
    """Save a figure and its numbers beside the report, and embed it.

    The figure has the stamp of the data it rests on.

    Parameters
    ----------
    study : Study
        As read.
    name : str
        Name of the files.
    figure : matplotlib.figure.Figure
        The figure.
    caption, alt : str
        What it shows, and the same for those who cannot see it.
    table : pandas.DataFrame
        What was drawn.
    brain : bool
        Whether it rests on the brain.
    raster, small : bool
        See `embed_figure`.

    Returns
    -------
    Picture
        For the page.
    """
    stamp = study.brain_stamp if brain else study.network_stamp
    caption = f"{stamp[0].upper()}{stamp[1:]}. {caption}" if stamp else caption
    return embed_figure(
        study.folder, name, figure, caption, alt, table=table, raster=raster, small=small
    )


def titled(caption: str, stamp: str) -> str:
    """Add what a table rests on to its caption.

    Parameters
    ----------
    caption : str
        Caption of the table.
    stamp : str
        May be empty.

    Returns
    -------
    str
        Both.
    """
    return f"{caption} · {stamp}" if stamp else caption


def bounds(rows: pd.DataFrame) -> str:
    """Say n, the interval method and the ceiling convention of these rows, as the table names them.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of a table of results.

    Returns
    -------
    str
        Sentences.
    """
    parts = [describe_sizes(rows)]
    if "subject" in rows.columns and (rows["subject"] == "mean").any():
        rows = rows[rows["subject"] == "mean"]  # what is drawn with an interval
    for column, name in (("method", "Method"), ("ceiling", "Noise ceiling")):
        if column in rows.columns and (
            values := list(dict.fromkeys(rows[column].dropna().astype(str)))
        ):
            parts.append(f"{name}: {'; '.join(values)}")
    return ". ".join(part.rstrip(".") for part in parts if part) + "."


# -------------------------------------------------------------------------------------------- kinds


def image_types_section(study: Study) -> Section | None:
    """Show RE-AN, RE-AI and their difference, network and brain, with the trends over layers.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    Section or None
        None where no kinds were compared.
    """
    pictures = []
    for system in ("brain", "network"):
        rows = study.rows("image_types", system=system)
        quantities = dict.fromkeys(rows["quantity"])
        pictures += [_kind_picture(study, rows, system, quantity) for quantity in quantities]
    if not pictures:
        return None
    trends = study.rows("trends")
    columns = ["pair", "test", "statistic", "effect", "p", "n"]
    grids = [
        table_grid(
            trends[columns],
            titled("Trends over the layers", study.network_stamp),
            "tables/trends.csv",
        )
    ]
    pairs = [
        pair.replace("-", "–")
        for pair in dict.fromkeys(study.rows("image_types", quantity="similarity")["pair"])
    ]
    title = "RE–AN, RE–AI and their difference" if len(pairs) > 1 else "".join(pairs)
    return Section(
        key="image-types", title=title, pictures=pictures, grids=grids if len(trends) else []
    )


def _kind_picture(study: Study, rows: pd.DataFrame, system: str, quantity: str) -> Picture:
    shown = rows[rows["quantity"] == quantity]
    brain = system == "brain"
    several = len(study.subjects) > 1
    where = (
        f"ROIs, {'mean over subjects and each subject' if several else _only(study)}"
        if brain
        else ("layers, early to late")
    )
    made = {"RE-AN": "adversarial noise (RE–AN)", "RE-AI": "adversarial interference (RE–AI)"}
    others = " and of ".join(made[pair] for pair in dict.fromkeys(shown["pair"]) if pair in made)
    what = {
        "similarity": f"Similarity of the RDM of photographs with that of {others}",
        "difference": "RE–AI minus RE–AN: above 0 similarity follows perception, below 0 the "
        "network's decision",
    }
    figure = figures.kind_bars(
        rows,
        system=system,
        quantity=quantity,
        stamp=study.brain_stamp if brain else study.network_stamp,
    )
    rows_told = image_type_differences(study, system).to_dict("records")
    alt = "; ".join(_told(row, quantity) for row in rows_told)
    over_subjects = (
        shown[shown["subject"] == "mean"] if brain and (shown["subject"] == "mean").any() else shown
    )
    methods = (
        dict.fromkeys(over_subjects["p_method"].dropna().astype(str))
        if "p_method" in over_subjects.columns
        else ()
    )
    tests = f" P: {'; '.join(methods)}." if methods else ""
    caption = f"{what[quantity]}; {system}, {where}. {bounds(shown)}{tests}"
    return picture(
        study,
        f"image_types_{system}_{quantity}",
        figure,
        caption,
        f"Bars. {alt}.",
        table=shown,
        brain=brain,
    )


def _only(study: Study) -> str:
    return f"subject {study.subjects[0]}" if study.subjects else "one subject"


def _told(row: Mapping[Any, Any], quantity: str) -> str:
    if quantity == "similarity":
        return (
            f"{row['place']}: RE–AN {format_number(row['re_an'])}, RE–AI "
            f"{format_number(row['re_ai'])}"
        )
    p = p_text(float(row["p_corrected"]))
    return f"{row['place']}: {format_number(row['value'])}, corrected p {p}, {row['follows']}"


# --------------------------------------------------------------------------------- layers and areas


def layers_section(study: Study) -> Section | None:
    """Show layers beside areas.

    The figures are all layers with all areas, the best layer, weighted layers, and the order of
    areas.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    Section or None
        None where no layers were compared with regions.
    """
    rows = study.rows("layer_roi")
    rows = rows[rows["kind"] == "RE"] if "kind" in rows.columns else rows
    if rows.empty:
        return None
    figure = figures.layer_roi_panels(rows, stamp=study.brain_stamp)
    several = len(study.subjects) > 1
    who = "mean and each subject" if several else _only(study)
    caption = (
        f"Similarity of each layer's RDM with each ROI's, regular images, {who}. {bounds(rows)}"
    )
    matrices = (
        "One matrix for the mean over subjects and one a subject." if several else "One matrix."
    )
    alt = f"{matrices} {_best_text(study)}"
    pictures = [picture(study, "layer_roi", figure, caption, alt.strip(), table=rows, brain=True)]
    makers = (_best_picture, _weighted_picture, _hierarchy_picture)
    pictures += [drawn for make in makers if (drawn := make(study)) is not None]
    return Section(key="layer-roi", title="Layers and regions", pictures=pictures)


def _best_text(study: Study) -> str:
    rows = over_subjects(study.rows("best_layer"))
    parts = [
        f"{row['roi']}: {row['layer']}, {format_number(row['score'])}"
        for row in rows.to_dict("records")
    ]
    return f"Best layers, cross-validated. {'; '.join(parts)}." if parts else ""


def _best_picture(study: Study) -> Picture | None:
    rows = study.rows("best_layer")
    if rows.empty:
        return None
    figure = figures.best_layer_marks(rows, stamp=study.brain_stamp)
    caption = (
        "The best layer of each ROI: chosen and judged on the same photographs (naive), and chosen "
        "on some and judged on others (cross-validated). Noise alone makes the best layer differ "
        f"between ROIs: no order is read from it. {bounds(rows)}"
    )
    return picture(
        study, "best_layer", figure, caption, _best_text(study) or "Marks.", table=rows, brain=True
    )


def _weighted_picture(study: Study) -> Picture | None:
    rows, differences = study.rows("weighted"), study.rows("weighted_difference")
    if rows.empty:
        return None
    figure = figures.model_marks(
        rows, None if differences.empty else differences, stamp=study.brain_stamp
    )
    caption = (
        "Weighted combination of layers, best single layer and average of all layers, "
        f"cross-validated alike; below, their paired differences. {bounds(rows)}"
    )
    alt = "; ".join(
        f"{row['roi']} {row['model']}: {format_number(row['score'])}"
        for row in over_subjects(rows).to_dict("records")
    )
    long = [rows.assign(what=rows["model"], value=rows["score"])]
    long += (
        []
        if differences.empty
        else [differences.assign(what=differences["contrast"], value=differences["difference"])]
    )
    columns = ["subject", "roi", "what", "value", "ci_low", "ci_high", "p", "q", "family"]
    numbers = pd.concat([part[columns] for part in long], ignore_index=True)
    return picture(study, "weighted", figure, caption, f"Marks. {alt}.", table=numbers, brain=True)


def _hierarchy_picture(study: Study) -> Picture | None:
    rows = study.rows("hierarchy")
    if rows.empty:
        return None
    layers = list(dict.fromkeys(study.rows("layer_roi")["layer"]))
    several = (rows["subject"] == "combined").any()
    figure = figures.hierarchy_lines(rows, layers=layers, stamp=study.brain_stamp)
    over = rows[rows["subject"] == "combined"]
    alt = "; ".join(
        f"{row['subject']}: {format_number(float(row['value']))} {row['statistic']}"
        for row in rows.to_dict("records")
    )
    left_out = (
        ", ".join(dict.fromkeys(over["left_out"].dropna().astype(str)))
        if "left_out" in over
        else ""
    )
    lines = "one line a subject, the thick one their mean" if several else _only(study)
    caption = (
        f"Which layer each ROI prefers, {lines}. The test is of the slope over subjects, which an "
        f"ROI's noise does not tilt. {bounds(over if several else rows)}"
    )
    if left_out:
        caption += f" Left out, because the subjects do not agree there above chance: {left_out}."
    return picture(study, "hierarchy", figure, caption, f"Lines. {alt}.", table=rows, brain=True)


# --------------------------------------------------------------------------------------------- RDMs


def sheet_order(table: pd.DataFrame) -> np.ndarray:
    """Order stimuli by photograph: by category, then by name.

    Parameters
    ----------
    table : pandas.DataFrame
        The stimuli: columns id, kind, reference_id; category is used when there.

    Returns
    -------
    ndarray of int
        Positions of the rows; those of one photograph stay together.
    """
    names = photograph_order(
        dict.fromkeys(table["reference_id"].astype(str)), photograph_categories(table)
    )
    rank = {name: number for number, name in enumerate(names)}
    return np.argsort([rank[name] for name in table["reference_id"].astype(str)], kind="stable")


def photograph_order(
    names: Sequence[str] | dict[str, None], categories: dict[str, str]
) -> list[str]:
    """Order photographs as in all figures.

    Parameters
    ----------
    names : sequence of str
        Photographs.
    categories : dict of str to str
        Category of each; see `photograph_categories`.

    Returns
    -------
    list of str
        By category, then by name.
    """
    listed = list(names)
    order = figures.stimulus_order(listed, [categories.get(name, ONE_CATEGORY) for name in listed])
    return [listed[i] for i in order]


def photograph_categories(table: pd.DataFrame | None) -> dict[str, str]:
    """Say of which category each photograph is, where that groups them.

    Parameters
    ----------
    table : pandas.DataFrame or None
        The stimuli.

    Returns
    -------
    dict of str to str
        Photograph → category; empty when there are no categories, one, or more than half as many as
        photographs.
    """
    if table is None or "category" not in table.columns:
        return {}
    rows = table[table["kind"] == "RE"]
    categories = dict(
        zip(rows["reference_id"].astype(str), rows["category"].fillna("").astype(str))
    )
    groups = set(categories.values())
    return categories if "" not in groups and 1 < len(groups) <= len(categories) / 2 else {}


def _categories(study: Study) -> dict[str, str]:
    return photograph_categories(None if study.stimuli is None else study.stimuli.table)


def mean_rdms(rdms: RDMs, column: str) -> tuple[np.ndarray, list[str]]:
    """Average the RDMs of each place over subjects.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs of one system.
    column : str
        What its places are called.

    Returns
    -------
    matrices : ndarray, shape (n_places, n, n)
        Mean dissimilarities.
    places : list of str
        In the order of figures.
    """
    names = np.asarray(rdms.rdm_descriptors.get(column, ["all"] * rdms.n_rdm), dtype=str)
    places = order_places(names) if column == "roi" else list(dict.fromkeys(names))
    square = rdms.get_matrices()
    return np.array([square[names == place].mean(axis=0) for place in places]), places


def rdms_section(study: Study) -> Section | None:
    """Show RDMs of all stimuli with bands of kinds, and of each kind with bands of categories.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    Section or None
        None where there are no RDMs.
    """
    pictures = []
    for system in SYSTEMS:
        if system in study.rdms:
            # of one kind of images, both figures would be the same
            several = len(set(map(str, study.rdms[system].pattern_descriptors["kind"]))) > 1
            pictures += [_all_kinds_picture(study, system)] if several else []
            pictures.append(_each_kind_picture(study, system, several))
    if not pictures:
        return None
    return Section(key="rdms", title="Representational dissimilarity", pictures=pictures)


def _of_whom(study: Study, system: str) -> str:
    """Say what was averaged and by which measure."""
    rdms = study.rdms[system]
    n = len(set(map(str, rdms.rdm_descriptors.get("subject", ()))))
    measure = f", {rdms.dissimilarity_measure}" if rdms.dissimilarity_measure else ""
    places = "ROIs" if system == "brain" else "layers"
    return (
        f"{places} in columns{f', mean dissimilarity over {n} subjects' if n > 1 else ''}{measure}"
    )


def _all_kinds_picture(study: Study, system: str) -> Picture:
    rdms, brain = study.rdms[system], system == "brain"
    matrices, places = mean_rdms(rdms, SYSTEMS[system])
    ids, kinds = (list(map(str, rdms.pattern_descriptors[name])) for name in ("condition", "kind"))
    names = list(map(str, rdms.pattern_descriptors["reference_id"]))
    order = photograph_order(dict.fromkeys(names), _categories(study))
    keys = [
        f"{order.index(name):06d} {stimulus}" for name, stimulus in zip(names, ids)
    ]  # sorted like this within a kind
    titles: dict[str, Any] = {"row_titles": ["all images"], "column_titles": places}
    stamp = study.brain_stamp if brain else study.network_stamp
    figure = figures.banded_rdms(
        matrices[np.newaxis], **titles, ids=ids, categories=kinds, within=keys, stamp=stamp
    )
    caption = (
        f"RDMs of the {system} over all {len(ids)} images, {_of_whom(study, system)}. Bands: kinds "
        "of images; photographs have the same order in each. Colors are percentiles within each "
        "RDM (0 = most alike pair)."
    )
    alt = (
        f"Heat maps of {len(places)} RDMs of the {system}, {len(ids)} images each, grouped by kind."
    )
    numbers = figures.rdm_pairs(matrices[np.newaxis], **titles, ids=ids)
    return picture(study, f"rdms_{system}", figure, caption, alt, table=numbers, brain=brain)


def _each_kind_picture(study: Study, system: str, several: bool) -> Picture:
    rdms, brain = study.rdms[system], system == "brain"
    matrices, places = mean_rdms(rdms, SYSTEMS[system])
    categories = _categories(study)
    names, kinds = (
        list(map(str, rdms.pattern_descriptors[name])) for name in ("reference_id", "kind")
    )
    order = photograph_order(dict.fromkeys(names), categories)
    stack, rows = _by_kind(matrices, names, kinds, order)
    drawn: dict[str, Any] = {"row_titles": rows, "column_titles": places, "ids": order}
    members = [categories.get(name, ONE_CATEGORY) for name in order]
    stamp = study.brain_stamp if brain else study.network_stamp
    figure = figures.banded_rdms(stack, **drawn, categories=members, stamp=stamp)
    bands = (
        "categories of the photographs, by name within them"
        if categories
        else "no categories are known"
    )
    listed = f": {', '.join(order)}" if len(order) <= 16 else ""
    parts = (
        f"The parts of these RDMs that are compared: {' / '.join(rows)} in rows, "
        f"{_of_whom(study, system)}"
    )
    all_parts = f"RDMs of the {system}: {_of_whom(study, system)}"
    caption = (
        f"{parts if several else all_parts}; n = {count_text(len(order), 'photograph')}. Bands: "
        f"{bands}. Colors are percentiles within each RDM, the same order of photographs "
        f"everywhere{listed}."
    )
    alt = (
        f"Heat maps of {len(rows)} × {len(places)} RDMs of the {system}, "
        f"{count_text(len(order), 'photograph')} each."
    )
    numbers = figures.rdm_pairs(stack, **drawn)
    return picture(
        study, f"rdms_{system}_image_types", figure, caption, alt, table=numbers, brain=brain
    )


def _by_kind(
    matrices: np.ndarray, names: Sequence[str], kinds: Sequence[str], order: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """Cut RDMs of all stimuli into kinds × places.

    A photograph that a kind lacks has missing values there.
    """
    rows = [kind for kind in KINDS if kind in kinds]
    out = np.full((len(rows), len(matrices), len(order), len(order)), np.nan)
    for i, kind in enumerate(rows):
        at = {name: index for index, (name, own) in enumerate(zip(names, kinds)) if own == kind}
        have = [k for k, name in enumerate(order) if name in at]
        pick = [at[order[k]] for k in have]
        out[np.ix_([i], range(len(matrices)), have, have)] = matrices[
            np.ix_(range(len(matrices)), pick, pick)
        ]
    return out, rows


# -------------------------------------------------------------------------------- places of stimuli


def places_section(study: Study) -> Section | None:
    """Show the stimuli where the last stage and the last region place them.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    Section or None
        None without RDMs, or without the pixels of their images.
    """
    if study.stimuli is None or not study.rdms:
        return None
    pictures = []
    for system in SYSTEMS:
        if system not in study.rdms:
            continue
        conditions = study.rdms[system].pattern_descriptors["condition"]
        if set(map(str, conditions)) <= set(study.stimuli.ids):
            pictures.append(_place_picture(study, system))
    return (
        Section(key="places", title="Which images are near which", pictures=pictures)
        if pictures
        else None
    )


class _ImagesById(Mapping[str, np.ndarray]):
    """Images by id, each read when it is asked for: of a large set the figure shows few."""

    def __init__(self, stimuli: StimulusSet) -> None:
        self._images = stimuli.images
        self._rows = {name: row for row, name in enumerate(stimuli.ids)}

    def __getitem__(self, name: str) -> np.ndarray:
        return self._images[self._rows[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: object) -> bool:
        return name in self._rows


def _place_picture(study: Study, system: str) -> Picture:
    assert study.stimuli is not None
    rdms, brain = study.rdms[system], system == "brain"
    matrices, places = mean_rdms(rdms, SYSTEMS[system])
    ids, kinds = (list(map(str, rdms.pattern_descriptors[name])) for name in ("condition", "kind"))
    table = figures.arrange_stimuli(matrices[-1], ids).assign(category=kinds)
    images = _ImagesById(study.stimuli)
    stamp = study.brain_stamp if brain else study.network_stamp
    figure = figures.stimulus_scatter(table, images, stamp=stamp)
    n = len(set(map(str, rdms.rdm_descriptors.get("subject", ()))))
    caption = (
        f"All {len(ids)} images where their dissimilarities in {places[-1]} (the last "
        f"{'ROI' if brain else 'layer'}) place them{f'; mean over {n} subjects' if n > 1 else ''}. "
        "Near images are alike to the "
        f"{system}.{' Frames: kinds.' if len(set(kinds)) > 1 else ''}{_stress_note(table)}"
    )
    alt = (
        f"Images of the kinds {', '.join(dict.fromkeys(kinds))} in a plane, by multidimensional "
        "scaling."
    )
    name = f"places_{system}"
    return picture(
        study, name, figure, caption, alt, table=table, brain=brain, raster=True, small=True
    )


def _stress_note(table: pd.DataFrame) -> str:
    stress = float(table["score"].iloc[0])
    if stress <= POOR_STRESS:
        return ""
    return (
        f" Stress-1 is {format_number(stress)}: a plane holds these distances poorly; only who is "
        "near counts."
    )
