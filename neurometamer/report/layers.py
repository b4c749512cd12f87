"""The figures of ``neurometamer layers`` on one page.

They show layers by region, best layers, weighted layers and the hierarchy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.figures.style import count_text
from neurometamer.report import rsa as rsa_page
from neurometamer.report.layer_findings import hierarchy_answer, layer_answer
from neurometamer.report.methods import cited_works, methods_text
from neurometamer.report.page import Lead, Picture, Section, borrow_figure, p_text
from neurometamer.report.read_study import ALPHA, Study, study_of_tables

if TYPE_CHECKING:
    import pandas as pd

CAPTIONS: Mapping[str, str] = {
    "layer_roi": "Layers and regions: similarity, ceilings, p",
    "best_layer": "Best layer of each region",
    "weighted": "Weighted, best and average layers",
    "weighted_difference": "Differences between them",
    "hierarchy": "Order of regions and layers",
}
"""Table to its caption."""


def write_layer_page(
    folder: Path,
    tables: Mapping[str, pd.DataFrame],
    *,
    layers: Sequence[str],
    record: Mapping[str, Any],
    stamps: Sequence[str] = (),
) -> Path:
    """Draw the tables of `neurometamer.layer_files` and write their page.

    Parameters
    ----------
    folder : Path
        Gets ``index.html``, and ``figures/`` with SVG, PNG and CSV of each figure.
    tables : mapping of str to DataFrame
        Some or all of `CAPTIONS`; layer_roi, best_layer and weighted must be there.
    layers : sequence of str
        Names of the layers, early to late.
    record : mapping
        Provenance.
    stamps : sequence of str
        Among `rsa_page.STAMPS`.

    Returns
    -------
    Path
        The page.
    """
    stamp = rsa_page.stamp_text(stamps)
    as_study = {
        "settings": {"rsa": {"resamples": record.get("settings", {}).get("resamples", 0)}},
        "brain": {"simulated": rsa_page.SIMULATED in stamps},
        "model": {"trained": rsa_page.UNTRAINED not in stamps},
    }
    study = study_of_tables(folder, tables, as_study)
    charts, sections = borrow_figure(_sections(folder, tables, layers, stamp), ["best"])
    shown = tables["layer_roi"]
    n, kinds = int(shown["n"].max()), ", ".join(dict.fromkeys(shown["kind"].astype(str)))
    people = [
        subject for subject in dict.fromkeys(shown["subject"].astype(str)) if subject != "mean"
    ]
    return rsa_page.write_rsa_page(
        folder,
        command="neurometamer layers",
        question="Which layers are like which regions?",
        lead=", ".join(
            [
                count_text(len(layers), "layer"),
                count_text(shown["roi"].nunique(), "region"),
                count_text(len(people), "subject"),
                f"{n} stimuli (kind: {kinds}).",
            ]
        ),
        first=_first_screen(study, charts),
        methods=[
            f"RDMs of {count_text(len(layers), 'layer')} ({', '.join(layers)}) were used.",
            *methods_text(study),
        ],
        sections=sections,
        tables=[(f"{name}.csv", CAPTIONS[name], table) for name, table in tables.items()],
        record=record,
        stamps=stamps,
        references=["rsa", "ceiling"],
        works=cited_works(study),
    )


def _first_screen(study: Study, charts: Sequence[Picture]) -> Lead:
    """Say which regions some layer resembles, and whether later regions prefer later layers."""
    found_answers = [
        answer for make in (layer_answer, hierarchy_answer) if (answer := make(study)) is not None
    ]
    headlines = [answer.number for answer in found_answers[:1]]
    for row in study.rows("hierarchy", subject="combined").head(1).to_dict("records"):
        p = float(row["p"])
        if not np.isfinite(p):
            headlines.append("Whether later regions prefer later layers was not tested.")
        elif p < ALPHA:
            headlines.append(f"Later regions prefer later layers (p {p_text(p)}).")
        else:
            headlines.append(
                f"It is undecided whether later regions prefer later layers (p {p_text(p)})."
            )
    return Lead(headlines=headlines, text=[answer.text for answer in found_answers], charts=charts)


def _sections(
    folder: Path, tables: Mapping[str, pd.DataFrame], layers: Sequence[str], stamp: str
) -> list[Section]:
    from neurometamer.figures import rsa as draw

    models = {"model_marks": tables["weighted"]}
    if "weighted_difference" in tables:
        models["model_marks_difference"] = tables["weighted_difference"]
    drawings = {
        "layers": rsa_page.Drawing(
            name="layer_roi_panels",
            figure=draw.layer_roi_panels(tables["layer_roi"], stamp=stamp),
            numbers={"layer_roi_panels": tables["layer_roi"]},
            caption="Similarity of the RDMs of each layer and region, for the mean over subjects "
            "and each subject.",
            alt="Matrices of layers by regions.",
        ),
        "best": rsa_page.Drawing(
            name="best_layer_marks",
            figure=draw.best_layer_marks(tables["best_layer"], stamp=stamp),
            numbers={"best_layer_marks": tables["best_layer"]},
            caption="The best layer of each region: chosen and scored on the same data (naive), "
            "and cross-validated. "
            "Noise alone makes the best layer differ between regions: no order is read from it.",
            alt="Two marks a region.",
        ),
        "models": rsa_page.Drawing(
            name="model_marks",
            figure=draw.model_marks(
                tables["weighted"], tables.get("weighted_difference"), stamp=stamp
            ),
            numbers=models,
            caption="Non-negative weights of all layers, beside the best single layer and the "
            "average of all; all "
            "cross-validated.",
            alt="A mark for each model and region, and their differences.",
        ),
    }
    if "hierarchy" in tables:
        drawings["hierarchy"] = rsa_page.Drawing(
            name="hierarchy_lines",
            figure=draw.hierarchy_lines(tables["hierarchy"], layers=layers, stamp=stamp),
            numbers={"hierarchy_lines": tables["hierarchy"]},
            caption="Do later regions prefer later layers? One line a subject; the slope is tested "
            "over subjects.",
            alt="Lines over regions.",
        )
    titles = {
        "layers": "Layers and regions",
        "best": "Best layer",
        "models": "Weighted layers",
        "hierarchy": "Hierarchy",
    }
    lacking = (
        []
        if "hierarchy" in drawings
        else ["The order of regions is not tested: that needs at least 3 regions."]
    )
    return [
        Section(
            key=key,
            title=titles[key],
            text=lacking if key == "layers" else [],
            pictures=[rsa_page.save_drawing(folder, drawing)],
        )
        for key, drawing in drawings.items()
    ]
