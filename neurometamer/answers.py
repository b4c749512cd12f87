"""The answers of a study in sentences: what the tests of its tables say, and no more than they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.figures.style import PAIRS, format_number, order_places
from neurometamer.page import Grid, cell_text
from neurometamer.store import name_ids
from neurometamer.study_folder import Study

ALPHA = 0.05
"""Corrected p below it make a statement, as the marks of the figures do."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One card of the first screen: what is asked, the number that answers it, and a sentence that bounds it."""

    title: str
    number: str
    text: str
    grid: Grid | None = None


def answers(study: Study) -> list[Answer]:
    """Put into sentences what the tables say; nothing is claimed without its test.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    list of Answer
        One a question that the study's tables can answer.
    """
    made = (_network_answer, _brain_answer, _layer_answer, _hierarchy_answer, encoding_answer, _checks_answer)
    return [answer for make in made if (answer := make(study)) is not None]


# ------------------------------------------------------------------------------------------- RE-AN, RE-AI, difference


def told_kinds(study: Study, system: str) -> pd.DataFrame:
    """Put the similarities of each place beside their difference and its test.

    Parameters
    ----------
    study : Study
        As read.
    system : str
        ``"network"`` or ``"brain"``.

    Returns
    -------
    pandas.DataFrame
        The rows of kinds.csv with the difference, over subjects where there are several, and the columns re_an, re_ai
        and follows: ``perception`` or ``decision`` where the interval excludes 0 and the corrected p is below .05,
        else ``undecided``; ``not tested`` without interval or p.
    """
    rows = study.rows("kinds", system=system)
    is_mean = rows["subject"] == "mean"
    rows = rows[is_mean | ~rows["place"].isin(rows["place"][is_mean])]
    found = rows[rows["quantity"] == "difference"].drop_duplicates("place")
    similar = rows[rows["quantity"] == "similarity"].drop_duplicates(["place", "pair"])
    wide = similar.pivot(index="place", columns="pair", values="value").reindex(columns=list(PAIRS))
    places = order_places(found["place"])
    found = found.set_index("place", drop=False).loc[places].reset_index(drop=True)
    values = {name: wide[pair].reindex(places).to_numpy(dtype=float) for name, pair in _COLUMNS.items()}
    return found.assign(**values, follows=[_follows(row) for row in found.to_dict("records")])


_COLUMNS = {"re_an": "RE-AN", "re_ai": "RE-AI"}


def _follows(row: Mapping[Any, Any]) -> str:
    p, low = float(row["p_corrected"]), float(row["ci_low"])
    if not np.isfinite(p) or not np.isfinite(low):
        return "not tested"
    words = {"follows perception": "perception", "follows the network": "decision"}
    said = next((word for start, word in words.items() if str(row["answer"]).startswith(start)), "undecided")
    return said if p < ALPHA else "undecided"


def p_text(p: float) -> str:
    """Write a p-value as it stands after the letter.

    Parameters
    ----------
    p : float
        In [0, 1], or NaN.

    Returns
    -------
    str
        With its sign of equality.

    Examples
    --------
    >>> p_text(0.0123), p_text(0.0002)
    ('= .012', '< .001')
    """
    return "< .001" if p < 0.001 else f"= {format_number(float(p), 3)}"


def _bare_p(p: float) -> str:
    return p_text(p).removeprefix("= ")


def correction_text(rows: pd.DataFrame) -> str:
    """Name the correction for many tests and its family.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns correction and family.

    Returns
    -------
    str
        E.g. ``"corrected (fdr) over 5 ROIs"``.
    """
    families = " or ".join(dict.fromkeys(rows["family"].dropna().astype(str)))
    how = ", ".join(dict.fromkeys(rows["correction"].dropna().astype(str)))
    return f"not corrected; family: {families}" if how == "none" else f"corrected ({how}) over {families}"


def interval_notes(study: Study) -> list[str]:
    """Say of each kind of interval in kinds.csv what it speaks of.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    list of str
        A sentence each.
    """
    from neurometamer.rsa.kind_options import INTERVALS

    names = dict.fromkeys(study.rows("kinds")["interval"].dropna().astype(str))
    return [f"Interval “{name}”: {INTERVALS.get(name, 'see the table')}." for name in names]


def _kind_grid(rows: pd.DataFrame, places: str, caption: str) -> Grid:
    cells = [
        [
            row["place"],
            f"{format_number(row['value'])} ({format_number(row['ci_low'])}, {format_number(row['ci_high'])})",
            _bare_p(row["p_corrected"]),
            row["follows"],
        ]
        for row in rows.to_dict("records")
    ]
    columns = (places, "RE–AI minus RE–AN (interval)", "p, corr.", "follows")
    return Grid(caption=caption, columns=columns, rows=cells, n_rows=len(cells))


def _kind_text(rows: pd.DataFrame) -> str:
    """Say what was counted, by which interval and which p over which family."""
    if (rows["follows"] == "not tested").all():
        return "The differences were not tested: the table has no interval or no p of them."
    interval = ", ".join(dict.fromkeys(rows["interval"].astype(str)))
    warning = " This interval ignores the choice of images." if interval == "subsample" else ""
    return (
        "Perception: RE–AI is above RE–AN; decision: below. Counted where the interval of the difference "
        f"(“{interval}”) excludes 0 and its p, two-sided, {correction_text(rows)}, is below .05.{warning}"
    )


def _counted(rows: pd.DataFrame, places: str) -> str:
    if (rows["follows"] == "not tested").all():
        return f"Not tested at {len(rows)} {places}"
    counts = rows["follows"].value_counts()
    told = [f"{word} at {counts.get(word, 0)}" for word in ("perception", "decision")]
    return f"Follows {told[0]}, {told[1]} of {len(rows)} {places}"


def _above_chance(study: Study, system: str, places: str) -> str:
    """Count the similarities that permuted labels do not reach."""
    rows = study.rows("kinds", system=system, quantity="similarity")
    is_mean = rows["subject"] == "mean"
    rows = rows[is_mean | ~rows["place"].isin(rows["place"][is_mean])]
    tested = rows[np.isfinite(rows["p_corrected"].astype(float))]
    if tested.empty:
        return ""
    told = [
        f"{PAIRS[pair]} at {int((part['p_corrected'] < ALPHA).sum())} of {len(part)}"
        for pair in PAIRS
        if len(part := tested[tested["pair"] == pair])
    ]
    return f" Above permuted labels (one-sided, {correction_text(tested)}): {', '.join(told)} {places}."


def _network_answer(study: Study) -> Answer | None:
    rows = told_kinds(study, "network")
    if rows.empty:
        return None
    return Answer(
        title="Network: does similarity follow perception, or the network's decision?",
        number=_counted(rows, "layers"),
        text=f"{_kind_text(rows)}{_above_chance(study, 'network', 'layers')}{_trend_text(study)}",
        grid=_kind_grid(rows, "layer", "Layers of the network"),
    )


def _trend_text(study: Study) -> str:
    rows = study.rows("trends", test="Mann-Kendall")
    told = []
    for row in rows.to_dict("records"):
        p, effect = float(row["p"]), float(row["effect"])
        said = "shows no trend" if not p < ALPHA else "rises" if effect > 0 else "falls"
        told.append(f"{PAIRS.get(row['pair'], row['pair'])} {said} (tau {format_number(effect)}, p {p_text(p)})")
    return f" Over the layers (Mann–Kendall, uncorrected): {', '.join(told)}." if told else ""


def _brain_answer(study: Study) -> Answer | None:
    rows = told_kinds(study, "brain")
    if rows.empty:
        return None
    cortex = "Simulated cortex" if study.simulated else "Cortex"
    n = int(rows["n_subjects"].max()) if "n_subjects" in rows.columns else study.rows("kinds")["subject"].nunique()
    over = f"Mean over {n} subjects. " if (rows["subject"] == "mean").any() else ""
    return Answer(
        title=f"{cortex}: does similarity follow perception, or the network's decision?",
        number=_counted(rows, "ROIs"),
        text=f"{over}{_kind_text(rows)}{_above_chance(study, 'brain', 'ROIs')}{_single_text(study)}",
        grid=_kind_grid(rows, "ROI", "Regions of the cortex"),
    )


def _single_text(study: Study) -> str:
    """Say how many tests of single subjects agree."""
    rows = study.rows("kinds", system="brain", quantity="difference")
    rows = rows[rows["subject"] != "mean"]
    if rows["subject"].nunique() < 2 or not np.isfinite(rows["p_corrected"].astype(float)).any():
        return ""
    follows = pd.Series([_follows(row) for row in rows.to_dict("records")])
    return (
        f" Subjects alone ({correction_text(rows)}): perception in {int((follows == 'perception').sum())}, decision in "
        f"{int((follows == 'decision').sum())} of {len(rows)} tests."
    )


# --------------------------------------------------------------------------------------------------- layers and areas


def over_subjects(rows: pd.DataFrame, mean: str = "mean") -> pd.DataFrame:
    """Take the rows over subjects, in the order of regions.

    Parameters
    ----------
    rows : pandas.DataFrame
        Columns subject and roi.
    mean : str
        What the subject is called there.

    Returns
    -------
    pandas.DataFrame
        Empty when there are none.
    """
    found = rows[rows["subject"] == mean]
    rank = {roi: number for number, roi in enumerate(order_places(found["roi"]))}
    return found.sort_values("roi", key=lambda names: names.map(rank), kind="stable")


def _layer_answer(study: Study) -> Answer | None:
    """Tell the best layer of each region as judged on other photographs, beside the naive one."""
    best = over_subjects(study.rows("best_layer"))
    if best.empty:
        return _naive_answer(study)
    tests = over_subjects(study.rows("weighted", model="best layer"))
    q = dict(zip(tests["roi"], tests["q"].astype(float)))
    cells = [
        [
            row["roi"],
            row["layer"],
            f"{format_number(row['score'])} ({format_number(row['ci_low'])}, {format_number(row['ci_high'])})",
            _bare_p(q.get(row["roi"], np.nan)),
            f"{row['naive_layer']} {format_number(row['naive_score'])}",
        ]
        for row in best.to_dict("records")
    ]
    known = {roi: one for roi, one in q.items() if np.isfinite(one)}
    family = "; ".join(dict.fromkeys(tests["family"].astype(str)))
    number = f"Above 0 in {sum(one < ALPHA for one in known.values())} of {len(best)} ROIs"
    return Answer(
        title=f"Which layer is most like which area{_simulated(study)}?",
        number=number if known else "Not tested: no resamples",
        text="Regular images, mean over subjects. The layer is chosen on some photographs and judged on others; naive: "
        "chosen and judged on the same, which flatters. Noise alone makes the best layer differ between areas. "
        + (f"p is two-sided and corrected (Benjamini–Hochberg over {family}). " if known else "")
        + _weighted_text(study),
        grid=Grid(
            caption="Best layer of each ROI",
            columns=("ROI", "cross-validated", "similarity (interval)", "p, corr.", "naive"),
            rows=cells,
            n_rows=len(cells),
        ),
    )


def _simulated(study: Study) -> str:
    return " of the simulated cortex" if study.simulated else ""


def _weighted_text(study: Study) -> str:
    rows = over_subjects(study.rows("weighted_difference", contrast="weighted minus best layer"))
    rows = rows[np.isfinite(rows["q"].astype(float))]
    if rows.empty:
        return "Differences between layers are not tested."
    better = int(((rows["q"] < ALPHA) & (rows["difference"] > 0)).sum())
    worse = int(((rows["q"] < ALPHA) & (rows["difference"] < 0)).sum())
    return (
        f"Weighted layers are above the best one in {better}, below in {worse} of {len(rows)} ROIs (p corrected alike)."
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
        [row["roi"], row["layer"], format_number(row["similarity"]), _bare_p(one)]
        for row, one in zip(best.to_dict("records"), q)
    ]
    family = "; ".join(dict.fromkeys(best["family"].dropna().astype(str))) if "family" in best.columns else ""
    tested = bool(np.isfinite(q).any())
    return Answer(
        title=f"Which layer is most like which area{_simulated(study)}?",
        number=f"Above permuted labels in {int((q < ALPHA).sum())} of {len(best)} ROIs" if tested else "Not tested",
        text="Regular images, mean over subjects. The layer is chosen and judged on the same photographs, which "
        "flatters; there are no cross-validated models. "
        + (f"p is one-sided and corrected (Benjamini–Hochberg over {family})." if tested else ""),
        grid=Grid(
            caption="Best layer of each ROI",
            columns=("ROI", "naive", "similarity", "p, corr."),
            rows=cells,
            n_rows=len(cells),
        ),
    )


def _hierarchy_answer(study: Study) -> Answer | None:
    rows = study.rows("hierarchy", subject="combined")
    if rows.empty:
        return None
    row = rows.iloc[0]
    p = float(row["p"])
    number, text = "Not tested", f"{str(row['reason']).capitalize()}."
    if np.isfinite(p):
        number = f"{format_number(float(row['value']))} {row['statistic']}, p {p_text(p)}"
        ends = f"{format_number(float(row['ci_low']))}, {format_number(float(row['ci_high']))}"
        text = (
            f"From one area of {row['order']} to the next the center of the similarities moves by so many layers, "
            f"mean over {row['n_subjects']} subjects (interval {ends}; p one-sided, t over subjects). "
            "An area's noise does not tilt this slope."
        )
    if row["left_out"]:
        text += f" Left out, because the subjects do not agree there above chance: {row['left_out']}."
    if preferred := [part for part in str(row["preferred_layers"]).split("; ") if part and ": nan (" not in part]:
        text += f" Preferred layers, counted from 1: {'; '.join(preferred)}."
    return Answer(title=f"Do later areas{_simulated(study)} prefer later layers?", number=number, text=text)


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
    mean = {test: format_number(float(of_test["r"].astype(float).mean())) for test, of_test in rows.groupby("test")}
    wide = rows.pivot_table(index=["subject", "roi", "layer"], columns="test", values="r")
    text = "Mean r over subjects, ROIs and layers of ridge models trained on regular images."
    if {"AI", "AN"} <= set(wide.columns):
        both = wide.dropna(subset=["AI", "AN"])
        text += (
            f" AI is predicted better than AN in {int((both['AI'] > both['AN']).sum())} of {len(both)} models, which "
            "share images and voxels: a count, not a test."
        )
    if scheme_note(study):
        text += f" {scheme_note(study)}"
    return Answer(
        title="Do voxel-encoding models carry over to the other images?",
        number=", ".join(f"{test} {mean[test]}" for test in ("RE", "AI", "AN") if test in mean),
        text=text,
    )


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
        "Scheme “all” is no clean test for AI: the models were trained on the very photographs that the AI images "
        "resemble, so r is high even where layer and voxels have nothing in common."
    )


def _checks_answer(study: Study) -> Answer | None:
    """Whether the images and, for a simulation, the analysis did what they should: what all else rests on."""
    numbers, texts, rows = [], [], study.rows("recovery")
    if counts := success_rows(study):
        numbers.append(", ".join(f"{row[0]} {row[3]}" for row in counts) + " images")
        texts.append("Images that meet their criterion are counted on the saved 8-bit PNG.")
    if len(rows):
        passed = rows["pass"].map(is_true)
        numbers.append(f"{int(passed.sum())} of {len(rows)} planted facts")
        lost = "" if passed.all() else f" Not found: {name_ids(rows['what'][~passed])}."
        texts.append(f"Each planted fact has a criterion of its own in the table of planted truth.{lost}")
    if not numbers:
        return None
    return Answer(
        title="Did the images reach their criterion"
        + (", and does the analysis find what was planted?" if len(rows) else "?"),
        number="; ".join(numbers),
        text=" ".join(texts),
    )


def is_true(value: object) -> bool:
    """Read a yes or no as a CSV or an HDF5 table may hold it.

    Parameters
    ----------
    value : object
        Bool, number or text.

    Returns
    -------
    bool
        False for what is missing.
    """
    return str(value).lower() in ("true", "1", "1.0", "yes")


def _criterion(study: Study, kind: str) -> float | None:
    """Find the confidence asked for in the settings of the generator of this kind; None when they do not tell."""
    word = {"AN": "noise", "AI": "interference"}[kind]
    for section, values in study.section("settings").items():
        for name, value in values.items() if isinstance(values, Mapping) else ():
            if name == "confidence" and word in section and isinstance(value, (int, float)):
                return float(value)
    return None


def success_rows(study: Study) -> list[list[str]]:
    """Count the images that reached their criterion.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    list of list of str
        A row each for AN and AI: kind, criterion, met by the float image, met by the saved PNG, lowest and median
        confidence on the PNG, median steps. Empty for images that were not made here.
    """
    if study.stimuli is None:
        return []
    table, out = study.stimuli.table, []
    for kind in ("AN", "AI"):
        rows = table[table["kind"] == kind]
        if rows.empty or "success" not in rows.columns:
            continue
        criterion, of = _criterion(study, kind), f" of {len(rows)}"
        as_float = pd.to_numeric(rows.get("confidence_float", pd.Series(dtype=float)), errors="coerce").dropna()
        as_png = pd.to_numeric(rows.get("confidence_png", pd.Series(dtype=float)), errors="coerce").dropna()
        steps = pd.to_numeric(rows.get("steps", pd.Series(dtype=float)), errors="coerce").dropna()
        met = "–" if criterion is None or as_float.empty else f"{int((as_float >= criterion).sum())}{of}"
        spread = "–" if as_png.empty else f"{cell_text(as_png.min())} / {cell_text(as_png.median())}"
        out.append([
            kind, "–" if criterion is None else f"p ≥ {criterion:g}", met,
            f"{int(rows['success'].map(is_true).sum())}{of}", spread, "–" if steps.empty else f"{steps.median():g}",
        ])  # fmt: skip
    return out
