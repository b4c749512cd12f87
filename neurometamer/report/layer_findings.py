"""The answers of a study about layers, regions and voxels, in sentences."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.errors import count_text
from neurometamer.figures.style import (
    KIND_NAMES,
    format_number,
    order_representations,
    p_text,
    probability_text,
)
from neurometamer.figures.tables import facts_in, names_in, numbers_of
from neurometamer.report.page import Answer, text_grid
from neurometamer.report.read_study import ALPHA, Study, texts_of


def over_subjects(rows: pd.DataFrame) -> pd.DataFrame:
    """Take the rows over subjects, or those of the only subject, in the order of regions.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns subject and roi.

    Returns
    -------
    pandas.DataFrame
        Empty when there are none.
    """
    if rows["subject"].nunique() > 1:
        rows = rows[rows["subject"] == "mean"]
    order = order_representations(rows["roi"])
    rank = {roi: number for number, roi in enumerate(order)}
    return rows.sort_values(
        "roi",
        key=lambda names: names.map(rank),
        kind="stable",
    )


def whose(study: Study) -> str:
    """Say over whom a value is: the mean over subjects, or the only one.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    str
        E.g. ``"mean over 3 subjects"``.
    """
    names = study.subjects
    if len(names) == 1:
        return f"subject {names[0]}"
    return f"mean over {len(names)} subjects"


def layer_answer(study: Study) -> Answer | None:
    """Say which layer is most like each region, as judged on other photographs.

    The naive choice, on the same photographs, stands beside it.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    Answer or None
        None where no layers were compared with regions.
    """
    best = over_subjects(study.rows("best_layer"))
    if best.empty:
        return _naive_answer(study)
    tests = over_subjects(study.rows("weighted", model="best layer"))
    q = dict(zip(tests["roi"], tests["q"].astype(float)))
    known = {roi for roi, value in q.items() if np.isfinite(value)}
    cells, above = [], []
    for row in best.to_dict("records"):
        roi = row["roi"]
        cells.append(
            [
                roi,
                row["layer"],
                value_and_interval(row, "score"),
                probability_text(q[roi]) if roi in known else "–",
                f"{row['naive_layer']} {format_number(row['naive_score'])}",
            ]
        )
        if roi in known and q[roi] < ALPHA and row["score"] > 0:  # p is two-sided
            above.append(f"{roi} {row['layer']}")
    number = f"Not tested in {count_text(len(best), 'region')}."
    text = (
        f"Regular images, {whose(study)}. The layer is chosen on some photographs and judged on "
        "others; naive: chosen and judged on the same, which flatters. Noise alone makes the best "
        "layer differ between areas. "
    )
    if known:
        number = _best_sentence(best, above)
        text += "p is two-sided"
        if len(tests) > 1:
            families = "; ".join(texts_of(tests, "family"))
            text += f" and corrected (Benjamini–Hochberg over {families})"
        text += ". "
    weighted = over_subjects(
        study.rows("weighted_difference", contrast="weighted minus best layer")
    )
    weighted = weighted[np.isfinite(weighted["q"].astype(float))]
    if weighted.empty:
        text += "Differences between layers are not tested."
    else:
        changes = weighted["difference"][weighted["q"] < ALPHA]
        text += (
            f"Weighted layers are above the best one in {int((changes > 0).sum())}, below in "
            f"{int((changes < 0).sum())} of {count_text(len(weighted), 'ROI')} (p corrected alike)."
        )
    columns = ("ROI", "cross-validated", "similarity (interval)", "p, corr.", "naive")
    return Answer(
        title=f"Which layer is most like which area{_of_simulated(study)}?",
        number=number,
        text=text,
        grid=text_grid(columns, cells, "Best layer of each ROI", "tables/best_layer.csv"),
    )


def _best_sentence(best: pd.DataFrame, above: list[str]) -> str:
    """Name the best layers of the regions that some layer resembles above chance."""
    new = "on photographs it was not chosen on"
    if len(best) == 1:
        roi, layer = best["roi"].iloc[0], best["layer"].iloc[0]
        if not above:
            return f"No layer resembles {roi} above chance, {new}."
        return f"A layer resembles {roi} above chance, {new}: {layer}."
    sentence = (
        f"In {len(above) or 'none'} of {len(best)} regions a layer resembles the region above "
        f"chance, {new}"
    )
    return f"{sentence}: {', '.join(above)}." if above else f"{sentence}."


def value_and_interval(row: Mapping[Any, Any], value: str) -> str:
    """Write a value with its interval, as tables of a page have it.

    Parameters
    ----------
    row : mapping
        With the value, ci_low and ci_high.
    value : str
        Column of the value.

    Returns
    -------
    str
        E.g. ``".40 (.10, .70)"``.
    """
    number = format_number(row[value])
    low = format_number(row["ci_low"])
    high = format_number(row["ci_high"])
    return f"{number} ({low}, {high})"


def _of_simulated(study: Study) -> str:
    return " of the simulated cortex" if study.simulated else ""


def _naive_answer(study: Study) -> Answer | None:
    """Tell the highest layer of each region where none could be chosen on other photographs."""
    rows = over_subjects(study.rows("layer_roi"))
    if "kind" in rows.columns:
        rows = rows[rows["kind"] == "RE"]
    rows = rows[np.isfinite(rows["similarity"].astype(float))]
    if rows.empty:
        return None
    best = rows.loc[rows.groupby("roi", sort=False)["similarity"].idxmax()]
    q = numbers_of(best, "q")
    cells = []
    for row, p in zip(best.to_dict("records"), q):
        cells.append(
            [
                row["roi"],
                row["layer"],
                format_number(row["similarity"]),
                probability_text(p) if np.isfinite(p) else "–",
            ]
        )
    n_regions = count_text(len(best), "region")
    number = f"Not tested in {n_regions}."
    text = (
        f"Regular images, {whose(study)}. The layer is chosen and judged on the same photographs, "
        "which flatters; there are no cross-validated models. "
    )
    if np.isfinite(q).any():
        above = int((q < ALPHA).sum())
        number = f"In {above} of {n_regions} the most similar layer is above permuted labels."
        families = "; ".join(texts_of(best, "family"))
        text += f"p is one-sided and corrected (Benjamini–Hochberg over {families})."
    columns = ("ROI", "naive", "similarity", "p, corr.")
    return Answer(
        title=f"Which layer is most like which area{_of_simulated(study)}?",
        number=number,
        text=text,
        grid=text_grid(columns, cells, "Best layer of each ROI", "tables/layer_roi.csv"),
    )


def hierarchy_answer(study: Study) -> Answer | None:
    """Say whether later regions prefer later layers, where that was tested.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    Answer or None
        None where it was not tested.
    """
    rows = study.rows("hierarchy", subject="combined")
    if rows.empty:
        return None
    row = rows.iloc[0]
    p = float(row["p"])
    if np.isfinite(p):
        said = "Yes" if p < ALPHA else "Undecided"
        number = f"{said}: {format_number(float(row['value']))} {row['statistic']}, p {p_text(p)}."
        low, high = format_number(float(row["ci_low"])), format_number(float(row["ci_high"]))
        order = " < ".join(names_in([row["order"]]))
        text = (
            f"From one area of {order} to the next the center of the similarities moves by "
            f"so many layers, mean over {row['n_subjects']} subjects (interval {low}, {high}; p "
            "one-sided, t over subjects). An area's noise does not tilt this slope."
        )
    else:
        number, text = "Not tested.", f"{str(row['reason']).capitalize()}."
    left_out = names_in([row["left_out"]])
    if left_out:
        text += (
            " Left out, because the subjects do not agree there above chance: "
            f"{', '.join(left_out)}."
        )
    preferred = []
    for roi, preference in facts_in(row["preferred_layers"]).items():
        if preference is not None:
            number_of_layer, nearest = preference
            preferred.append(f"{roi}: {number_of_layer:.2f} ({nearest})")
    if preferred:
        text += f" Preferred layers, counted from 1: {'; '.join(preferred)}."
    return Answer(
        title=f"Do later areas{_of_simulated(study)} prefer later layers?",
        number=number,
        text=text,
    )


def encoding_answer(study: Study) -> Answer | None:
    """Sum up the encoding table.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    Answer or None
        None when there are no finite values.
    """
    rows = study.rows("encoding")
    rows = rows[(rows["subject"] != "mean") & np.isfinite(rows["r"].astype(float))]
    if rows.empty:
        return None
    parts = []
    for test in TESTED:
        of_test = rows.loc[rows["test"] == test, "r"].astype(float)
        if len(of_test):
            parts.append(f"r = {format_number(float(of_test.mean()))} on {KIND_NAMES[test]}")
    title = "Do layers predict voxels?"
    if len(parts) > 1:
        title = "Do voxel-encoding models carry over to the other images?"
    several = []
    for column, noun in (("subject", "subject"), ("roi", "ROI"), ("layer", "layer")):
        n = rows[column].nunique()
        if n > 1:
            several.append(count_text(n, noun))
    averaged = f"Mean over {', '.join(several)}" if several else "The value"
    better = ""
    wide = rows.pivot_table(
        index=["subject", "roi", "layer"],
        columns="test",
        values="r",
    )
    if "AI" in wide.columns and "AN" in wide.columns:
        both = wide.dropna(subset=["AI", "AN"])
        n_better = int((both["AI"] > both["AN"]).sum())
        better = (
            f"AI is predicted better than AN in {n_better} of {len(both)} models, which share "
            "images and voxels: a count, not a test."
        )
    texts = [
        f"{averaged} of ridge models trained on regular images, on photographs they were not "
        "trained on.",
        better,
        scheme_note(study),
        _tests_and_penalties(rows),
    ]
    return Answer(
        title=title,
        number=f"Voxels predicted from layers: {', '.join(parts)}.",
        text=" ".join(filter(None, texts)),
    )


TESTED = ("RE", "AI", "AN")
"""Kinds of images that encoding models are tested on, in the order of the answer."""


def _tests_and_penalties(rows: pd.DataFrame, many: float = 0.25) -> str:
    """Say in how many models the prediction is above chance, by image type.

    Regions whose penalties are at an end of the grid, by the rule of `fit_encoding`, are named.
    """
    tested = rows.assign(p=numbers_of(rows, "p_corrected")).dropna(subset=["p"])
    counts = []
    for test in TESTED:
        p = tested.loc[tested["test"] == test, "p"]
        if len(p):
            counts.append(f"{test} {int((p < ALPHA).sum())} of {len(p)}")
    text = "No test of these numbers was made."
    if len(tested):
        text = (
            "Above chance (photographs permuted, models fitted again, corrected p below "
            f"{format_number(ALPHA)}): {', '.join(counts)} models."
        )
    if "at_largest_alpha" not in rows.columns:
        return text
    parts = []
    for column, over_layers, end in (
        ("at_smallest_alpha", "max", "smallest"),
        ("at_largest_alpha", "min", "largest"),
    ):
        at_end = rows.assign(share=rows[column].astype(float))
        by_layer = at_end.groupby(["roi", "layer"])["share"].mean()
        shares = by_layer.groupby("roi").agg(over_layers)
        regions = [f"{roi} {share:.0%}" for roi, share in shares.items() if share >= many]
        if regions:
            parts.append(f"the {end} in {', '.join(regions)} of voxels and folds")
    return f"{text} Penalties at an end of their grid: {'; '.join(parts)}." if parts else text


def scheme_note(study: Study) -> str:
    """Warn of an encoding scheme whose numbers on AI images cannot be read as generalization.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    str
        Empty when every image was predicted without the photograph it was made from.
    """
    rows = study.rows("encoding")
    if "scheme" not in rows.columns or not (rows["scheme"] == "all").any():
        return ""
    return (
        "Scheme “all” is no clean test for AI: the models were trained on the very photographs "
        "that the AI images resemble, so r is high even where layer and voxels have nothing in "
        "common."
    )
