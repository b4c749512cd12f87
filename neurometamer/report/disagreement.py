"""The sections of a study's page on images on which networks disagree, with methods and figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from neurometamer.errors import count_text, name_ids
from neurometamer.figures.disagreement import MOST_PHOTOGRAPHS, disagreement_sheet
from neurometamer.figures.style import clip_name, format_number
from neurometamer.figures.tables import is_true
from neurometamer.report.page import Drawing, Grid, Section, drawing_of, text_grid
from neurometamer.report.read_study import Study, texts_of

MOST_FAILURES = 40
"""Reasons in a table of failures that the page shows; the CSV has all images."""


@dataclass(frozen=True, kw_only=True)
class Made:
    """How images of one generator are told: an entry of `GENERATED`.

    Parameters
    ----------
    title : str
        Of the section.
    columns : sequence of str
        Heads of the table of counts after the set, the images and those that met their criterion.
    counts : callable
        Rows of one set → cells under these heads.
    words : callable
        Row → what stands under its image.
    note : str
        What these words are.
    text : callable
        The study → how the images were made, for the section and the methods.
    caption : str
        Of the sheet.
    work : str
        Key of `neurometamer.report.references.WORKS`.
    """

    title: str
    columns: tuple[str, ...]
    counts: Callable[[pd.DataFrame], list[str]]
    words: Callable[[Mapping[Any, Any]], str]
    note: str
    text: Callable[[Study], str]
    caption: str
    work: str


def _median(rows: pd.DataFrame, column: str) -> str:
    """Write lowest and median of a column; a dash where it is not there."""
    if column not in rows.columns or rows[column].isna().all():
        return "–"
    values = rows[column].astype(float)
    if column == "steps":
        return f"{values.min():g} / {values.median():g}"
    return f"{format_number(values.min(), 3)} / {format_number(values.median(), 3)}"


# ------------------------------------------------------------------------------------ controversial


def controversial_words(row: Mapping[Any, Any]) -> str:
    """Say what two networks make of a controversial image.

    Parameters
    ----------
    row : mapping
        Row of ``tables/controversial.csv``.

    Returns
    -------
    str
        A line a network: the probability of its class, and what it says where that is another. Of
        representations, how much they agree on the image and on the photograph.
    """
    if row["disagreement"] == "representations":
        agreed, before = float(row["agreement_png"]), float(row["agreement_reference"])
        return f"r {format_number(agreed, 3)}\nphotograph: r {format_number(before, 3)}"
    lines = []
    for letter in "ab":
        probability = format_number(float(row[f"p_{letter}"]), 3)
        target = clip_name(row[f"target_{letter}"], 15)
        lines.append(f"{letter.upper()}: p {probability} {target}")
        if row[f"says_{letter}"] != row[f"target_{letter}"]:
            lines.append(f"(says {clip_name(row[f'says_{letter}'], 17)})")
    return "\n".join(lines)


def controversial_counts(rows: pd.DataFrame) -> list[str]:
    """Sum up a set of images: probabilities, agreement and steps.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of its table.

    Returns
    -------
    list of str
        Cells under the heads of `GENERATED`.
    """
    names = ("p_a", "p_b", "agreement_png", "steps")
    return [_median(rows, name) for name in names]


def controversial_text(study: Study) -> str:
    """Say how controversial images were made.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    str
        Sentences; empty where there are none.
    """
    rows, chosen = study.rows("controversial"), study.settings("controversial")
    if rows.empty:
        return ""
    photographs = count_text(rows["reference_id"].nunique(), "photograph")
    if (rows["disagreement"] == "classes").any():
        what = (
            "to be sure of two different classes: the smaller of their two probabilities (by a "
            f"smooth minimum, α = {chosen.get('sharpness', '–')}) was raised until both were at "
            f"least {format_number(float(rows['criterion'].iloc[0]), 3)} on the 8-bit image "
            "(Golan et al. 2020)"
        )
    else:
        what = (
            f"to represent them differently at stage {chosen.get('stage', '–')}: the correlation "
            "of the profiles of similarities to other photographs was lowered to at most "
            f"{format_number(float(rows['criterion'].iloc[0]), 3)} on the 8-bit image (of no paper)"
        )
    return (
        f"Controversial images, one for each of {photographs}, were made for "
        f"{_pairs_of(rows)} {what}. Start: {', '.join(texts_of(rows, 'start'))}; step rule "
        f"{chosen.get('step_rule', '–')}, step size {chosen.get('step_size', '–')}, at most "
        f"{chosen.get('max_steps', '–')} steps. {prior_text(rows)}"
    )


def _pairs_of(rows: pd.DataFrame) -> str:
    """Name the pairs of networks as A and B."""
    pairs = rows[["network_a", "network_b"]].drop_duplicates()
    return "; ".join(f"{first} (A) and {second} (B)" for first, second in pairs.to_numpy())


def _stages_of(rows: pd.DataFrame) -> str:
    """Name the stage of each network, behind the words of the settings."""
    places: dict[str, None] = {}
    for letter in "ab":
        own = rows[[f"network_{letter}", f"stage_{letter}"]].drop_duplicates().astype(str)
        places |= dict.fromkeys(" at ".join(pair) for pair in own.to_numpy())
    return f" ({', '.join(places)})"


def prior_text(rows: pd.DataFrame) -> str:
    """Say whether a prior of natural images was used.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows with the column image_prior.

    Returns
    -------
    str
        A sentence.
    """
    named = [prior for prior in texts_of(rows, "image_prior") if prior not in ("none", "")]
    if named:
        return f"A prior of natural images was used: {'; '.join(named)}."
    return "No prior of natural images was used."


# ---------------------------------------------------------------------------------------- divergent


def divergent_words(row: Mapping[Any, Any]) -> str:
    """Say how well a maximally different metamer matches in both networks.

    Parameters
    ----------
    row : mapping
        Row of ``tables/divergent.csv``.

    Returns
    -------
    str
        Spearman's rho with the photograph in A, and in B.
    """
    values = [format_number(float(row[f"spearman_{letter}"]), 3) for letter in "ab"]
    return f"A: ρ {values[0]}\nB: ρ {values[1]}"


def divergent_counts(rows: pd.DataFrame) -> list[str]:
    """Sum up a set of images: how many match in A and not in B, and how well.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of its table.

    Returns
    -------
    list of str
        Cells under the heads of `GENERATED`.
    """
    counts = [f"{int(rows[name].map(is_true).sum())}" for name in ("above_null_a", "unlike_b")]
    medians = [_median(rows, name) for name in ("spearman_a", "spearman_b", "steps")]
    return [*counts, *medians]


def divergent_text(study: Study) -> str:
    """Say how maximally different metamers were made.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    str
        Sentences; empty where there are none.
    """
    rows, chosen = study.rows("divergent"), study.settings("divergent")
    if rows.empty:
        return ""
    photographs = count_text(rows["reference_id"].nunique(), "photograph")
    return (
        f"Maximally different metamers of {photographs} were made for {_pairs_of(rows)} at stage "
        f"{chosen.get('stage', '–')}{_stages_of(rows)}, by preset {chosen.get('preset', '–')} with "
        f"weight {chosen.get('apart', '–')} of B: the photograph to A by the criteria of Feather "
        f"et al. (2023), with {chosen.get('null_pairs', '–')} pairs of different photographs as "
        "null, and in B no more like it than the median of B's null pairs, in the spirit of "
        f"maximum differentiation (Wang & Simoncelli 2008). {prior_text(rows)} Networks that are "
        "much alike may have no such image: that is a result, too."
    )


# --------------------------------------------------------------------------------- eigendistortions


def distortion_words(row: Mapping[Any, Any]) -> str:
    """Say how much an eigendistortion moves the response.

    Parameters
    ----------
    row : mapping
        Row of ``tables/eigendistortion.csv``.

    Returns
    -------
    str
        Eigenvalue, and what the change in the file does.
    """
    value, kept = float(row["eigenvalue"]), float(row["rayleigh_png"])
    return f"λ {value:.3g}\nin the file {kept:.3g}"


def distortion_counts(rows: pd.DataFrame) -> list[str]:
    """Sum up a set of images: eigenvalues, what files keep, and the dimension of the null space.

    Parameters
    ----------
    rows : pandas.DataFrame
        Rows of its table.

    Returns
    -------
    list of str
        Cells under the heads of `GENERATED`.
    """
    cells = []
    for end in ("largest", "smallest"):
        own = rows[rows["end"] == end]
        cells.append(f"{own['eigenvalue'].median():.3g}")
        cells.append(f"{own['rayleigh_png'].median():.3g}")
    cells.append(f"{rows['rayleigh_random'].median():.3g}")
    is_exact = rows["null_dimension_is_exact"].map(is_true)
    if not is_exact.any() and (rows["null_dimension"] == 0).all():
        return [*cells, "not known"]
    at_least = "" if is_exact.all() else "at least "
    low, high = rows["null_dimension"].min(), rows["null_dimension"].max()
    numbers = f"{int(low):,}" if low == high else f"{int(low):,} to {int(high):,}"
    return [*cells, f"{at_least}{numbers}"]


def distortion_text(study: Study) -> str:
    """Say how eigendistortions were made.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    str
        Sentences; empty where there are none.
    """
    rows, chosen = study.rows("eigendistortion"), study.settings("eigendistortion")
    if rows.empty:
        return ""
    photographs = count_text(rows["reference_id"].nunique(), "photograph")
    places = []
    for model, stage, names in rows[["model", "stage", "made_for"]].drop_duplicates().to_numpy():
        word = str(names).rpartition("+")[2]
        places.append(f"{model} at {stage}" + (f" ({word})" if word != stage else ""))
    named = "; ".join(places)
    return (
        f"Eigendistortions of {photographs} were made for {named} (Berardino et al. 2017): the "
        "eigenvectors of JᵀJ, J being the Jacobian of the stage's response at the photograph, "
        f"with the largest and the smallest eigenvalues (λ; {chosen.get('n_each', 1)} each), in "
        f"double precision where the device has it, by {', '.join(texts_of(rows, 'method'))}; "
        f"added with a root mean square of {chosen.get('strength', '–')}. The null space holds the "
        "independent changes that move nothing: where it is not empty, the smallest eigenvector is "
        "any of these."
    )


GENERATED: Mapping[str, Made] = {
    "controversial": Made(
        title="Controversial images: where two networks disagree",
        columns=(
            "p of A's class, lowest / median",
            "p of B's class, lowest / median",
            "agreement, lowest / median",
            "steps, lowest / median",
        ),
        counts=controversial_counts,
        words=controversial_words,
        note="p: probability that A, or B, gives the class it is to see, on the saved file; r: "
        "agreement of the two networks.",
        text=controversial_text,
        caption="Photographs and the controversial images made for them",
        work="golan2020",
    ),
    "divergent": Made(
        title="Maximally different metamers: the photograph to A, not to B",
        columns=(
            "above A's null",
            "unlike in B",
            "ρ in A, lowest / median",
            "ρ in B, lowest / median",
            "steps, lowest / median",
        ),
        counts=divergent_counts,
        words=divergent_words,
        note="ρ: Spearman correlation of the responses to image and photograph, on the saved file.",
        text=divergent_text,
        caption="Photographs and their maximally different metamers",
        work="wang2008",
    ),
    "eigendistortion": Made(
        title="Eigendistortions: what a stage sees best and least",
        columns=(
            "largest λ",
            "in the file",
            "smallest λ",
            "in the file",
            "random change",
            "null space, dimension",
        ),
        counts=distortion_counts,
        words=distortion_words,
        note="λ: eigenvalue; in the file: ‖J c‖² / ‖c‖² of the change c of the saved picture.",
        text=distortion_text,
        caption="Photographs and their eigendistortions",
        work="berardino2017",
    ),
}
"""Section of the settings, and table → how its images are told."""


def made_section(study: Study, key: str) -> Section | None:
    """Write the section of a generator.

    Parameters
    ----------
    study : Study
        As read.
    key : str
        A key of `GENERATED`.

    Returns
    -------
    Section or None
        None where there are no such images.
    """
    rows = study.rows(key)
    if rows.empty:
        return None
    made = GENERATED[key]
    cells = []
    for name, part in rows.groupby("made_for", sort=False):
        n_met = int(part["success"].map(is_true).sum())
        met = f"{n_met} of {len(part)} ({n_met / len(part):.0%})"
        cells.append([shown_name(str(name), key), met, *made.counts(part)])
    heads = ["made for", "met on the saved PNG", *made.columns]
    known = [place for place, column in enumerate(zip(*cells)) if set(column) != {"–"}]
    heads = [heads[place] for place in known]
    cells = [[row[place] for place in known] for row in cells]
    grids = [text_grid(heads, cells, made.caption, f"tables/{key}.csv")]
    grids += failure_grids(study, key)
    text = [made.text(study)]
    notes = [note for note in texts_of(rows, "note") if note]
    if notes:
        said = "; ".join(notes)
        text.append(f"{said[0].upper()}{said[1:]}.")
    return Section(key=key, title=made.title, text=text, grids=grids)


def failure_grids(study: Study, key: str) -> list[Grid]:
    """List the images of a generator that failed, why, and what may help.

    Parameters
    ----------
    study : Study
        As read.
    key : str
        A key of `GENERATED`.

    Returns
    -------
    list of Grid
        One, or none where all met their criterion.
    """
    rows = study.rows("failures", generator=key)
    if rows.empty:
        return []
    shown = []
    for texts, part in rows.groupby(["made_for", "why_not", "what_to_try"], sort=False):
        names, why, what = map(str, texts)
        shown.append([shown_name(names, key), name_ids(part["id"]), f"{why}. To try: {what}."])
    caption = f"Images that missed their criterion ({len(rows)})"
    if len(shown) > MOST_FAILURES:
        caption += f", the first {MOST_FAILURES} of {len(shown)} reasons"
    heads = ("made for", "images", "why, and what to try")
    return [text_grid(heads, shown[:MOST_FAILURES], caption, "tables/failures.csv")]


def shown_name(made_for: str, key: str) -> str:
    """Write what images were made for as the page shows it.

    Parameters
    ----------
    made_for : str
        Name of their folder: networks, or a network and a stage.
    key : str
        A key of `GENERATED`.

    Returns
    -------
    str
        ``"A and B"``, or ``"A at stage"``; a line can break in it.
    """
    if key == "eigendistortion":
        return " at ".join(made_for.rsplit("+", 1))
    return made_for.replace("+", " and ")


def sheets(study: Study, key: str) -> Iterator[Drawing]:
    """Draw the images of a generator below their photographs, with what the networks say.

    Parameters
    ----------
    study : Study
        As read, with the images.
    key : str
        A key of `GENERATED`.

    Yields
    ------
    Drawing
        One sheet a set of networks.
    """
    made = GENERATED[key]
    everything = study.rows(key)
    for name, stimuli in study.made.get(key, {}).items():
        rows = everything[everything["made_for"].astype(str) == name]
        first = rows["reference_id"].drop_duplicates().head(MOST_PHOTOGRAPHS)
        shown = rows[rows["reference_id"].isin(first)].reset_index(drop=True)
        kinds = shown["made_for"].astype(str)
        if "end" in shown.columns:
            kinds = shown["end"] + " " + shown["rank"].astype(int).astype(str)
        words = [made.words(row) for row in shown.to_dict("records")]
        drawn = shown.assign(row=kinds, words=words)
        row_of = {stimulus: number for number, stimulus in enumerate(stimuli.ids)}
        images: dict[str, np.ndarray] = {}
        for kind, stimulus in zip(kinds, drawn["id"].astype(str), strict=True):
            images[f"{kind} {stimulus}"] = stimuli.images[row_of[stimulus]]
        photographs = {}
        for reference in first.astype(str):
            photographs[reference] = stimuli.images[row_of[reference]]
        notes = [note for note in texts_of(rows, "note") if note]
        figure = disagreement_sheet(
            images, photographs, drawn, note=made.note, stamp="; ".join(notes)
        )
        n_met = int(rows["success"].map(is_true).sum())
        n_photographs = rows["reference_id"].nunique()
        caption = (
            f"{made.caption}, {shown_name(name, key)}, as the saved 8-bit PNG holds them; "
            f"compressed on this page. n = {count_text(n_photographs, 'photograph')}, "
            f"{len(first)} shown."
        )
        missed = name_ids(rows["id"][~rows["success"].map(is_true)]) or "none"
        alt = f"{n_met} of {len(rows)} images met their criterion; missed: {missed}."
        yield drawing_of(drawn, f"{key}_{name}", figure, caption, alt, small=True)
