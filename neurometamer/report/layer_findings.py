"""The answers of a study about layers, regions and voxels, in sentences."""

from __future__ import annotations

import numpy as np
import pandas as pd

from neurometamer.figures.style import count_text, format_number, order_places
from neurometamer.report.page import Answer, Grid, p_text, probability_text
from neurometamer.report.read_study import ALPHA, Study


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
    chosen = rows if rows["subject"].nunique() == 1 else rows[rows["subject"] == "mean"]
    rank = {roi: number for number, roi in enumerate(order_places(chosen["roi"]))}
    return chosen.sort_values("roi", key=lambda names: names.map(rank), kind="stable")


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
    return f"subject {names[0]}" if len(names) == 1 else f"mean over {len(names)} subjects"


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
    known = {roi: value for roi, value in q.items() if np.isfinite(value)}
    cells = [
        [
            row["roi"],
            row["layer"],
            f"{format_number(row['score'])} ({format_number(row['ci_low'])}, "
            f"{format_number(row['ci_high'])})",
            probability_text(q[row["roi"]]) if row["roi"] in known else "–",
            f"{row['naive_layer']} {format_number(row['naive_score'])}",
        ]
        for row in best.to_dict("records")
    ]
    score = dict(zip(best["roi"], best["score"].astype(float)))
    above = [
        roi for roi, value in known.items() if value < ALPHA and score.get(roi, np.nan) > 0
    ]  # p is two-sided
    return Answer(
        title=f"Which layer is most like which area{_of_simulated(study)}?",
        number=_best_sentence(best, above)
        if known
        else f"Not tested in {count_text(len(best), 'region')}.",
        text=f"Regular images, {whose(study)}. The layer is chosen on some photographs and judged "
        "on others; naive: "
        "chosen and judged on the same, which flatters. Noise alone makes the best layer differ "
        "between areas. "
        + (f"p is two-sided{_benjamini_hochberg(tests)}. " if known else "")
        + _weighted_text(study),
        grid=Grid(
            caption="Best layer of each ROI",
            columns=("ROI", "cross-validated", "similarity (interval)", "p, corr.", "naive"),
            rows=cells,
            n_rows=len(cells),
            source="tables/best_layer.csv",
        ),
    )


def _best_sentence(best: pd.DataFrame, above: list[str]) -> str:
    """Name the best layers of the regions that some layer resembles above chance."""
    layers = dict(zip(best["roi"], best["layer"]))
    named = ", ".join(f"{roi} {layers[roi]}" for roi in above)
    if len(best) == 1:
        roi = best["roi"].iloc[0]
        if not above:
            return f"No layer resembles {roi} above chance, {_NEW}."
        return f"A layer resembles {roi} above chance, {_NEW}: {layers[roi]}."
    sentence = (
        f"In {len(above) or 'none'} of {len(best)} regions a layer resembles the region above "
        f"chance, {_NEW}"
    )
    return f"{sentence}: {named}." if above else f"{sentence}."


_NEW = "on photographs it was not chosen on"


def _benjamini_hochberg(tests: pd.DataFrame) -> str:
    """Say over which tests p was corrected; nothing of a single test."""
    families = "; ".join(dict.fromkeys(tests["family"].dropna().astype(str)))
    return f" and corrected (Benjamini–Hochberg over {families})" if len(tests) > 1 else ""


def _of_simulated(study: Study) -> str:
    return " of the simulated cortex" if study.simulated else ""


def _weighted_text(study: Study) -> str:
    rows = over_subjects(study.rows("weighted_difference", contrast="weighted minus best layer"))
    rows = rows[np.isfinite(rows["q"].astype(float))]
    if rows.empty:
        return "Differences between layers are not tested."
    better = int(((rows["q"] < ALPHA) & (rows["difference"] > 0)).sum())
    worse = int(((rows["q"] < ALPHA) & (rows["difference"] < 0)).sum())
    return (
        f"Weighted layers are above the best one in {better}, below in {worse} of "
        f"{count_text(len(rows), 'ROI')} (p corrected alike)."
    )


def _naive_answer(study: Study) -> Answer | None:
    """Tell the highest layer of each region where none could be chosen on other photographs."""
    rows = over_subjects(study.rows("layer_roi"))
    rows = rows[rows["kind"] == "RE"] if "kind" in rows.columns else rows
    rows = rows[np.isfinite(rows["similarity"].astype(float))]
    if rows.empty:
        return None
    best = rows.loc[rows.groupby("roi", sort=False)["similarity"].idxmax()]
    q = best["q"].astype(float) if "q" in best.columns else pd.Series(np.nan, index=best.index)
    cells = [
        [
            row["roi"],
            row["layer"],
            format_number(row["similarity"]),
            probability_text(p) if np.isfinite(p) else "–",
        ]
        for row, p in zip(best.to_dict("records"), q)
    ]
    family = (
        "; ".join(dict.fromkeys(best["family"].dropna().astype(str)))
        if "family" in best.columns
        else ""
    )
    tested = bool(np.isfinite(q).any())
    return Answer(
        title=f"Which layer is most like which area{_of_simulated(study)}?",
        number=f"In {int((q < ALPHA).sum())} of {count_text(len(best), 'region')} the most similar "
        "layer is above "
        "permuted labels."
        if tested
        else f"Not tested in {count_text(len(best), 'region')}.",
        text=f"Regular images, {whose(study)}. The layer is chosen and judged on the same "
        "photographs, which "
        "flatters; there are no cross-validated models. "
        + (f"p is one-sided and corrected (Benjamini–Hochberg over {family})." if tested else ""),
        grid=Grid(
            caption="Best layer of each ROI",
            columns=("ROI", "naive", "similarity", "p, corr."),
            rows=cells,
            n_rows=len(cells),
            source="tables/layer_roi.csv",
        ),
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
        ends = f"{format_number(float(row['ci_low']))}, {format_number(float(row['ci_high']))}"
        text = (
            f"From one area of {row['order']} to the next the center of the similarities moves by "
            f"so many layers, mean over {row['n_subjects']} subjects (interval {ends}; p "
            "one-sided, t over subjects). An area's noise does not tilt this slope."
        )
    else:
        number, text = "Not tested.", f"{str(row['reason']).capitalize()}."
    if row["left_out"]:
        text += (
            f" Left out, because the subjects do not agree there above chance: {row['left_out']}."
        )
    parts = str(row["preferred_layers"]).split("; ")
    if preferred := [part for part in parts if part and ": nan (" not in part]:
        text += f" Preferred layers, counted from 1: {'; '.join(preferred)}."
    return Answer(
        title=f"Do later areas{_of_simulated(study)} prefer later layers?", number=number, text=text
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
    mean = {
        test: format_number(float(of_test["r"].astype(float).mean()))
        for test, of_test in rows.groupby("test")
    }
    wide = rows.pivot_table(index=["subject", "roi", "layer"], columns="test", values="r")
    # Say over what the mean of an encoding table is taken.
    counts = {
        "subject": rows["subject"].nunique(),
        "ROI": rows["roi"].nunique(),
        "layer": rows["layer"].nunique(),
    }
    several = [count_text(count, noun) for noun, count in counts.items() if count > 1]
    averaged = f"Mean over {', '.join(several)}" if several else "The value"
    text = (
        f"{averaged} of ridge models trained on regular images, on photographs they were "
        "not trained on."
    )
    if {"AI", "AN"} <= set(wide.columns):
        both = wide.dropna(subset=["AI", "AN"])
        text += (
            f" AI is predicted better than AN in {int((both['AI'] > both['AN']).sum())} of "
            f"{len(both)} models, which share images and voxels: a count, not a test."
        )
    if scheme_note(study):
        text += f" {scheme_note(study)}"
    parts = [f"r = {mean[test]} on {name}" for test, name in _TESTED.items() if test in mean]
    others = len(parts) > 1
    return Answer(
        title="Do voxel-encoding models carry over to the other images?"
        if others
        else "Do layers predict voxels?",
        number=f"Voxels predicted from layers: {', '.join(parts)}.",
        text=f"{text} {_encoding_tests(rows)}{_penalties_at_the_edge(rows)}",
    )


def _encoding_tests(rows: pd.DataFrame) -> str:
    """Say in how many models the prediction is above chance, by image type."""
    if (
        "p_corrected" not in rows.columns
        or not np.isfinite(rows["p_corrected"].astype(float)).any()
    ):
        return "No test of these numbers was made."
    counts = []
    for test in _TESTED:
        corrected = rows.loc[rows["test"] == test, "p_corrected"].astype(float).dropna()
        if len(corrected):
            counts.append(f"{test} {int((corrected < ALPHA).sum())} of {len(corrected)}")
    return (
        "Above chance (photographs permuted, models fitted again, corrected p below "
        f"{format_number(ALPHA)}): {', '.join(counts)} models."
    )


def _penalties_at_the_edge(rows: pd.DataFrame, many: float = 0.25) -> str:
    """Name the regions whose penalties are at an end of the grid, by the rule of `fit_encoding`."""
    if "at_largest_alpha" not in rows.columns:
        return ""
    parts = []
    for column, over_layers, end in (
        ("at_smallest_alpha", "max", "smallest"),
        ("at_largest_alpha", "min", "largest"),
    ):
        by_layer = (
            rows.assign(share=rows[column].astype(float)).groupby(["roi", "layer"])["share"].mean()
        )
        shares = by_layer.groupby("roi").agg(over_layers)
        regions = [f"{roi} {share:.0%}" for roi, share in shares.items() if share >= many]
        if regions:
            parts.append(f"the {end} in {', '.join(regions)} of voxels and folds")
    return f" Penalties at an end of their grid: {'; '.join(parts)}." if parts else ""


_TESTED = {
    "RE": "photographs (RE)",
    "AI": "adversarial interference (AI)",
    "AN": "adversarial noise (AN)",
}


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
        "that the AI images "
        "resemble, so r is high even where layer and voxels have nothing in common."
    )
