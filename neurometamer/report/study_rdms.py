"""Figures of a study's RDMs: heat maps, and stimuli placed by their dissimilarities.

Stimuli have one order: kinds RE, AN, AI, and photographs by category, then by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.errors import count_text
from neurometamer.figures import rsa as figures
from neurometamer.figures.style import KINDS, format_number, order_representations
from neurometamer.report.page import Drawing, drawing_of
from neurometamer.report.read_study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rsatoolbox.rdm import RDMs

    from stimuli_gen.stimuli import StimulusSet

ONE_CATEGORY = "photograph"
"""The category of all photographs where no categories are known."""

POOR_STRESS = 0.2
"""Stress-1 above it is poor (Kruskal 1964)."""

SYSTEMS = {
    "network": "stage",
    "brain": "roi",
}
"""System to what its places are called in RDMs."""


def drawing(
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
) -> Drawing:
    """Put a figure together with its words and its table.

    Parameters
    ----------
    study : Study
        As read.
    name : str
        Name of the files, the CSV included.
    figure : matplotlib.figure.Figure
        The figure.
    caption, alt : str
        What it shows, and the same for those who cannot see it. The caption begins with the stamp
        of the data.
    table : pandas.DataFrame
        What was drawn.
    brain : bool
        Whether it rests on the brain.
    raster, small : bool
        See `neurometamer.report.page.Drawing`.

    Returns
    -------
    Drawing
        For the page.
    """
    stamp = study.stamp(brain=brain)
    if stamp:
        caption = f"{stamp[0].upper()}{stamp[1:]}. {caption}"
    return drawing_of(table, name, figure, caption, alt, raster=raster, small=small)


# --------------------------------------------------------------------------------- order of stimuli


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
    photographs = table["reference_id"].astype(str)
    categories = photograph_categories(table)
    names = photograph_order(dict.fromkeys(photographs), categories)
    rank = {name: number for number, name in enumerate(names)}
    ranks = photographs.map(rank).to_numpy()
    return np.argsort(ranks, kind="stable")


def photograph_order(names: Iterable[str], categories: Mapping[str, str]) -> list[str]:
    """Order photographs as in all figures.

    Parameters
    ----------
    names : iterable of str
        Photographs.
    categories : mapping of str to str
        Category of each; see `photograph_categories`.

    Returns
    -------
    list of str
        By category, then by name.
    """
    listed = list(names)
    members = [categories.get(name, ONE_CATEGORY) for name in listed]
    return [listed[row] for row in figures.stimulus_order(listed, members)]


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
    names = rows["reference_id"].astype(str)
    categories = dict(zip(names, rows["category"].fillna("").astype(str)))
    groups = set(categories.values())
    grouped = 1 < len(groups) <= len(categories) / 2
    return categories if grouped and "" not in groups else {}


# --------------------------------------------------------------------------------------------- RDMs


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
    everywhere = ["all"] * rdms.n_rdm
    names = np.asarray(rdms.rdm_descriptors.get(column, everywhere), dtype=str)
    places = order_representations(names) if column == "roi" else list(dict.fromkeys(names))
    square = rdms.get_matrices()
    means = [square[names == place].mean(axis=0) for place in places]
    return np.array(means), places


def rdm_maps(study: Study) -> Iterator[Drawing]:
    """Draw RDMs of all stimuli with bands of kinds, and of each kind with bands of categories.

    Parameters
    ----------
    study : Study
        As read.

    Yields
    ------
    Drawing
        Two a system, or one where there is one kind of images: both would be the same.
    """
    for system in SYSTEMS:
        if system not in study.rdms:
            continue
        rdms, brain = study.rdms[system], system == "brain"
        kinds = _names_of(rdms, "kind")
        several = len(set(kinds)) > 1
        if several:
            matrices, places = mean_rdms(rdms, SYSTEMS[system])
            ids, names = _names_of(rdms, "condition"), _names_of(rdms, "reference_id")
            order = photograph_order(dict.fromkeys(names), _study_categories(study))
            rank = {name: number for number, name in enumerate(order)}
            # Stimuli are sorted by these within a kind.
            keys = [f"{rank[name]:06d} {stimulus}" for name, stimulus in zip(names, ids)]
            grid: dict[str, Any] = {
                "row_titles": ["all images"],
                "column_titles": places,
                "ids": ids,
            }
            stack = matrices[np.newaxis]
            figure = figures.banded_rdms(
                stack, **grid, categories=kinds, within=keys, stamp=study.stamp(brain=brain)
            )
            caption = (
                f"RDMs of the {system} over all {len(ids)} images, {_of_whom(study, system)}. "
                "Bands: kinds of images; photographs have the same order in each. Colors are "
                "percentiles within each RDM (0 = most alike pair)."
            )
            alt = (
                f"Heat maps of {len(places)} RDMs of the {system}, {len(ids)} images each, grouped "
                "by kind."
            )
            numbers = figures.rdm_pairs(stack, **grid)
            yield drawing(study, f"rdms_{system}", figure, caption, alt, table=numbers, brain=brain)
        yield _rdms_of_each_kind(study, system, several)


def _names_of(rdms: RDMs, descriptor: str) -> list[str]:
    names = rdms.pattern_descriptors[descriptor]
    return [str(name) for name in names]


def _n_subjects(rdms: RDMs) -> int:
    subjects = rdms.rdm_descriptors.get("subject", ())
    return len(set(map(str, subjects)))


def _of_whom(study: Study, system: str) -> str:
    """Say what was averaged and by which measure."""
    rdms = study.rdms[system]
    text = "ROIs in columns" if system == "brain" else "layers in columns"
    n = _n_subjects(rdms)
    if n > 1:
        text += f", mean dissimilarity over {n} subjects"
    if rdms.dissimilarity_measure:
        text += f", {rdms.dissimilarity_measure}"
    return text


def _study_categories(study: Study) -> dict[str, str]:
    if study.stimuli is None:
        return {}
    return photograph_categories(study.stimuli.table)


def _rdms_of_each_kind(study: Study, system: str, several: bool) -> Drawing:
    rdms, brain = study.rdms[system], system == "brain"
    matrices, places = mean_rdms(rdms, SYSTEMS[system])
    names, kinds = _names_of(rdms, "reference_id"), _names_of(rdms, "kind")
    categories = _study_categories(study)
    order = photograph_order(dict.fromkeys(names), categories)
    stack, rows = split_by_kind(matrices, names, kinds, order)
    grid: dict[str, Any] = {
        "row_titles": rows,
        "column_titles": places,
        "ids": order,
    }
    members = [categories.get(name, ONE_CATEGORY) for name in order]
    figure = figures.banded_rdms(
        stack,
        **grid,
        categories=members,
        stamp=study.stamp(brain=brain),
    )
    bands = "no categories are known"
    if categories:
        bands = "categories of the photographs, by name within them"
    content = f"RDMs of the {system}: {_of_whom(study, system)}"
    if several:
        content = (
            f"The parts of these RDMs that are compared: {' / '.join(rows)} in rows, "
            f"{_of_whom(study, system)}"
        )
    listed = f": {', '.join(order)}" if len(order) <= 16 else ""
    n = count_text(len(order), "photograph")
    caption = (
        f"{content}; n = {n}. Bands: {bands}. Colors are percentiles within each RDM, the same "
        f"order of photographs everywhere{listed}."
    )
    alt = f"Heat maps of {len(rows)} × {len(places)} RDMs of the {system}, {n} each."
    numbers = figures.rdm_pairs(stack, **grid)
    name = f"rdms_{system}_image_types"
    return drawing(study, name, figure, caption, alt, table=numbers, brain=brain)


def split_by_kind(
    matrices: np.ndarray, names: Sequence[str], kinds: Sequence[str], order: Sequence[str]
) -> tuple[np.ndarray, list[str]]:
    """Cut RDMs of all stimuli into kinds × places.

    Parameters
    ----------
    matrices : ndarray, shape (n_places, n, n)
        Dissimilarities of all stimuli.
    names, kinds : sequence of str
        Photograph and kind of each stimulus.
    order : sequence of str
        Photographs in order.

    Returns
    -------
    stack : ndarray, shape (n_kinds, n_places, n_photographs, n_photographs)
        Missing where a kind lacks a photograph.
    rows : list of str
        The kinds.
    """
    rows = [kind for kind in KINDS if kind in kinds]
    size = len(order)
    stack = np.full((len(rows), len(matrices), size, size), np.nan)
    for row, kind in enumerate(rows):
        index_of = {}
        for index, (name, own_kind) in enumerate(zip(names, kinds)):
            if own_kind == kind:
                index_of[name] = index
        ranks = [rank for rank, name in enumerate(order) if name in index_of]
        indices = [index_of[order[rank]] for rank in ranks]
        for place, matrix in enumerate(matrices):
            stack[row, place][np.ix_(ranks, ranks)] = matrix[np.ix_(indices, indices)]
    return stack, rows


# -------------------------------------------------------------------------------- places of stimuli


def arrangements(study: Study) -> Iterator[Drawing]:
    """Draw the stimuli where the last stage and the last region place them.

    Parameters
    ----------
    study : Study
        As read, with stimuli.

    Yields
    ------
    Drawing
        One a system whose RDMs are of these stimuli.
    """
    assert study.stimuli is not None
    known = set(study.stimuli.ids)
    for system in SYSTEMS:
        if system not in study.rdms:
            continue
        if not set(_names_of(study.rdms[system], "condition")) <= known:
            continue
        rdms, brain = study.rdms[system], system == "brain"
        matrices, places = mean_rdms(rdms, SYSTEMS[system])
        ids, kinds = _names_of(rdms, "condition"), _names_of(rdms, "kind")
        table = figures.arrange_stimuli(matrices[-1], ids).assign(category=kinds)
        figure = figures.stimulus_scatter(
            table, _ImagesById(study.stimuli), stamp=study.stamp(brain=brain)
        )
        noun = "ROI" if brain else "layer"
        n = _n_subjects(rdms)
        over = f"; mean over {n} subjects" if n > 1 else ""
        caption = (
            f"All {len(ids)} images where their dissimilarities in {places[-1]} (the last {noun}) "
            f"place them{over}. Near images are alike to the {system}."
        )
        named = list(dict.fromkeys(kinds))
        if len(named) > 1:
            caption += " Frames: kinds."
        stress = float(table["score"].iloc[0])
        if stress > POOR_STRESS:
            caption += (
                f" Stress-1 is {format_number(stress)}: a plane holds these distances poorly; only "
                "who is near counts."
            )
        alt = f"Images of the kinds {', '.join(named)} in a plane, by multidimensional scaling."
        yield drawing(
            study,
            f"places_{system}",
            figure,
            caption,
            alt,
            table=table,
            brain=brain,
            raster=True,
            small=True,
        )


class _ImagesById(Mapping[str, np.ndarray]):
    """Images by id, each read when it is asked for: of a large set the figure shows few."""

    def __init__(self, stimuli: StimulusSet) -> None:
        self._images = stimuli.images
        self._rows = {name: row for row, name in enumerate(stimuli.ids)}

    def __getitem__(self, name: str) -> np.ndarray:
        row = self._rows[name]
        return self._images[row]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, name: object) -> bool:
        return name in self._rows
