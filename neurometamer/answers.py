"""The answers of a study in sentences: counts, means and best values of its tables, and no more than they hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from neurometamer.figures.style import PAIRS, format_number, order_places
from neurometamer.page import Grid, cell_text
from neurometamer.store import name_ids
from neurometamer.study_folder import Study

DIFFERENCE = "RE-AI minus RE-AN"
"""The pair of similarity_difference.csv that the first screen speaks of."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One card of the first screen: what is asked, the number that answers it, and a sentence that bounds it."""

    title: str
    number: str
    text: str
    grid: Grid | None = None


def answers(study: Study) -> list[Answer]:
    """Put into sentences what the tables say: counts, means and best values, with their bounds.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    list of Answer
        One a question that the study's tables can answer.
    """
    made = (_network_answer, _brain_answer, _layer_roi_answer, encoding_answer, _checks_answer)
    return [answer for make in made if (answer := make(study)) is not None]


def paired_similarity(study: Study, system: str) -> pd.DataFrame:
    """Put RE–AN and RE–AI of one subject and place side by side, joined by name.

    Parameters
    ----------
    study : Study
        As read.
    system : str
        ``"network"`` or ``"brain"``.

    Returns
    -------
    pandas.DataFrame
        Columns of similarity.csv with ``_an`` and ``_ai``; incomplete pairs are left out. ``an_wins`` and ``ai_wins``:
        which is larger. ``an_clear`` and ``ai_clear``: and the interval of the paired difference excludes zero or, for
        a study without similarity_difference.csv, the two intervals do not overlap.
    """
    keys, rows = ["subject", "place"], study.rows("similarity", system=system)
    sides = [rows[rows["pair"] == pair].drop_duplicates(keys) for pair in PAIRS]
    both = sides[0].merge(sides[1], on=keys, suffixes=("_an", "_ai"), sort=False)
    both = both[np.isfinite(both["similarity_an"].astype(float)) & np.isfinite(both["similarity_ai"].astype(float))]
    difference = study.rows("similarity_difference", system=system, pair=DIFFERENCE)
    if difference.empty:
        an, ai = both["ci_low_an"] > both["ci_high_ai"], both["ci_low_ai"] > both["ci_high_an"]
    else:
        both = both.merge(difference.drop_duplicates(keys)[[*keys, "ci_low", "ci_high"]], on=keys, how="left")
        an, ai = both["ci_high"] < 0, both["ci_low"] > 0
    wins = {"an": both["similarity_an"] > both["similarity_ai"], "ai": both["similarity_ai"] > both["similarity_an"]}
    return both.assign(an_wins=wins["an"], ai_wins=wins["ai"], an_clear=an & wins["an"], ai_clear=ai & wins["ai"])


def _clear(study: Study) -> str:
    if study.rows("similarity_difference").empty:
        return "the two intervals do not overlap"
    return "the interval of the paired difference excludes zero"


def _network_answer(study: Study) -> Answer | None:
    both = paired_similarity(study, "network")
    if both.empty:
        return None
    wins, others = both[both["an_wins"]], both[both["ai_wins"]]
    where = f"RE–AN is larger at {name_ids(wins['place'], 8)}" if len(wins) else "RE–AN is larger at no layer"
    return Answer(
        title="Network: where are noise images more like the photographs than interference images are?",
        number=f"RE–AN > RE–AI at {len(wins)} of {len(both)} layers",
        text=f"{where}, RE–AI at {len(others)} layers; {_clear(study)} at {int(wins['an_clear'].sum())} of the first "
        f"and {int(others['ai_clear'].sum())} of the second.",
    )


def _brain_answer(study: Study) -> Answer | None:
    both = paired_similarity(study, "brain")
    if both.empty:
        return None
    wins, others = both[both["ai_wins"]], both[~both["ai_wins"]]
    names = [f"{subject} {place}" for subject, place in zip(others["subject"], others["place"], strict=True)]
    but = f" Not so in {name_ids(names)}." if names else ""
    cortex = "Simulated cortex" if study.simulated else "Cortex"
    return Answer(
        title=f"{cortex}: are interference images more like the photographs than noise images are?",
        number=f"RE–AI > RE–AN in {len(wins)} of {len(both)} subject × ROI pairs",
        text=f"Mean similarity of RDMs {_mean(both['similarity_ai'])} for RE–AI and {_mean(both['similarity_an'])} for "
        f"RE–AN; {_clear(study)} in {int(wins['ai_clear'].sum())} of the {len(wins)}.{but}",
    )


def _mean(values: pd.Series) -> str:
    return format_number(float(values.astype(float).mean()))


def best_layers(study: Study) -> pd.DataFrame:
    """Find the layer most like each ROI.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    pandas.DataFrame
        One row of layer_roi.csv a ROI: regular images, mean over subjects.
    """
    rows = study.rows("layer_roi", subject="mean")
    rows = rows[rows["kind"] == "RE"] if "kind" in rows.columns else rows
    rows = rows[np.isfinite(rows["similarity"].astype(float))]
    best = rows.loc[rows.groupby("roi", sort=False)["similarity"].idxmax()] if len(rows) else rows
    return best.set_index("roi").loc[order_places(best["roi"])].reset_index()


def _layer_roi_answer(study: Study) -> Answer | None:
    best = best_layers(study)
    if best.empty:
        return None
    cells = []
    for row in best.to_dict("records"):
        low, high, floor, top = (
            format_number(float(row.get(end, np.nan))) for end in ("ci_low", "ci_high", "ceiling_low", "ceiling_high")
        )
        cells.append(
            [row["roi"], row["layer"], f"{format_number(row['similarity'])} ({low}, {high})", f"{floor}–{top}"]
        )
    simulated = " of the simulated cortex" if study.simulated else ""
    above = int((best["ci_low"].astype(float) > 0).sum()) if "ci_low" in best.columns else 0
    n_layers = study.rows("layer_roi")["layer"].nunique()
    return Answer(
        title=f"Which layer is most like which area{simulated}?",
        number=f"The best layer's interval is above zero in {above} of {len(best)} ROIs",
        text=f"Regular images, mean over subjects. Each best layer was picked from {n_layers} on these same numbers, "
        "so it flatters; differences between layers are not tested.",
        grid=Grid(
            caption="Best layer of each ROI",
            columns=("ROI", "best layer", "similarity (interval)", "ceiling"),
            rows=cells,
            n_rows=len(cells),
        ),
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
    mean = {test: _mean(of_test["r"]) for test, of_test in rows.groupby("test")}
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
