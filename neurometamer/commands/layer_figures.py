"""The figures of ``neurometamer layers``: layers by region, best layers, weighted layers, hierarchy, on one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.commands import rsa_page
from neurometamer.page import Section

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
    told: Mapping[str, Any],
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
    told : mapping
        Provenance.
    stamps : sequence of str
        Among `rsa_page.STAMPS`.

    Returns
    -------
    Path
        The page.
    """
    stamp = rsa_page.stamp_text(stamps)
    shown = tables["layer_roi"]
    n, kinds = int(shown["n"].max()), ", ".join(dict.fromkeys(shown["kind"].astype(str)))
    people = [one for one in dict.fromkeys(shown["subject"].astype(str)) if one != "mean"]
    return rsa_page.write_rsa_page(
        folder,
        command="neurometamer layers",
        question="Which layers are like which regions?",
        lead=f"{len(layers)} layer(s), {shown['roi'].nunique()} region(s), {len(people)} subject(s), {n} stimuli "
        f"(kind: {kinds}).",
        sections=_sections(folder, tables, layers, stamp),
        tables=[(f"{name}.csv", CAPTIONS[name], table) for name, table in tables.items()],
        told=told,
        stamps=stamps,
        references=["rsa", "ceiling"],
    )


def _sections(folder: Path, tables: Mapping[str, pd.DataFrame], layers: Sequence[str], stamp: str) -> list[Section]:
    from neurometamer.figures import rsa as draw

    models = {"model_marks": tables["weighted"]}
    if "weighted_difference" in tables:
        models["model_marks_difference"] = tables["weighted_difference"]
    drawings = {
        "layers": rsa_page.Drawing(
            name="layer_roi_panels",
            figure=draw.layer_roi_panels(tables["layer_roi"], stamp=stamp),
            numbers={"layer_roi_panels": tables["layer_roi"]},
            caption="Similarity of the RDMs of each layer and region, for the mean over subjects and each subject.",
            alt="Matrices of layers by regions.",
        ),
        "best": rsa_page.Drawing(
            name="best_layer_marks",
            figure=draw.best_layer_marks(tables["best_layer"], stamp=stamp),
            numbers={"best_layer_marks": tables["best_layer"]},
            caption="The best layer of each region: chosen and scored on the same data (naive), and cross-validated. "
            "Noise alone makes the best layer differ between regions: no order is read from it.",
            alt="Two marks a region.",
        ),
        "models": rsa_page.Drawing(
            name="model_marks",
            figure=draw.model_marks(tables["weighted"], tables.get("weighted_difference"), stamp=stamp),
            numbers=models,
            caption="Non-negative weights of all layers, beside the best single layer and the average of all; all "
            "cross-validated.",
            alt="A mark for each model and region, and their differences.",
        ),
    }  # fmt: skip
    if "hierarchy" in tables:
        drawings["hierarchy"] = rsa_page.Drawing(
            name="hierarchy_lines",
            figure=draw.hierarchy_lines(tables["hierarchy"], layers=layers, stamp=stamp),
            numbers={"hierarchy_lines": tables["hierarchy"]},
            caption="Do later regions prefer later layers? One line a subject; the slope is tested over subjects.",
            alt="Lines over regions.",
        )
    titles = {"layers": "Layers and regions", "best": "Best layer", "models": "Weighted layers",
              "hierarchy": "Hierarchy"}  # fmt: skip
    lacking = [] if "hierarchy" in drawings else ["The order of regions is not tested: that needs at least 3 regions."]
    return [
        Section(
            key=key,
            title=titles[key],
            text=lacking if key == "layers" else [],
            pictures=[rsa_page.save_drawing(folder, drawing)],
        )
        for key, drawing in drawings.items()
    ]
