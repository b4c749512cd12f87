"""What was chosen in the making of single-trial betas, and what it gained, in sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import pandas as pd

from neurometamer.errors import name_ids
from neurometamer.figures.style import format_number
from neurometamer.report.read_study import Study, texts_of

BETA_COLUMNS = {
    "subject": "subject",
    "n_responses": "responses",
    "n_shapes": "HRF shapes",
    "share_at_ends": "share at the ends",
    "hrf_r2_glover": "R², Glover's HRF",
    "hrf_r2": "R², chosen HRF",
    "n_noise": "noise regressors",
    "n_pool": "from voxels",
    "noise_r2_none": "R² without",
    "noise_r2_chosen": "R² with",
    "fraction_median": "ridge fraction, median",
    "less_error": "error removed",
}
"""Columns of the table of single-trial betas that the page shows, and what it calls them."""


def betas_words(study: Study) -> str:
    """Say what was chosen when betas were made with options of single trials.

    Parameters
    ----------
    study : Study
        As read; the table of betas holds what the provenance of the patterns says.

    Returns
    -------
    str
        What was chosen and gained, over subjects from the lowest to the highest, and whether betas
        are denoised or shrunken, made here or elsewhere. Empty for betas of a plain model.
    """
    rows = study.rows("betas")
    parts = choice_texts(rows)
    sentences = []
    if parts:
        sentences.append(f"Single-trial betas: {'; '.join(parts)}.")
    gains = rows[["hrf_r2", "noise_r2_chosen", "less_error"]]
    if gains.notna().any(axis=None):
        sentences.append(
            "These gains are in the runs on which the choice was made, so they are too high as "
            "estimates."
        )
    stated = rows[rows["chosen_on_all_runs"].notna()]
    for (program, words), own in stated.groupby(["program", "chosen_on_all_runs"], sort=False):
        if not words:
            continue
        made = "" if program == "neurometamer" else f", made elsewhere ({program}),"
        sentences.append(
            f"The betas of {name_ids(texts_of(own, 'subject'))}{made} are "
            f"{str(words).replace(', ', ' and ')} by what was chosen on all runs together, so they "
            "are not independent over runs: reliability and noise ceilings take for signal what "
            "that makes alike."
        )
    return " ".join(sentences)


def choice_texts(rows: pd.DataFrame) -> list[str]:
    """Say what was chosen when single-trial betas were made, and what it gained.

    Parameters
    ----------
    rows : pandas.DataFrame
        With the columns of ``tables/betas.csv``.

    Returns
    -------
    list of str
        One text a choice, over all rows from the lowest to the highest number; empty where there
        was none.
    """
    parts = []
    if (rows["per"] == "condition").any():
        parts.append("one an image and session, from one model over the session's runs")
    for column, text_of in CHOICES.items():
        chosen = rows[rows[column].notna()]
        if len(chosen):
            parts.append(text_of(chosen))
    return parts


def localizer_words(study: Study) -> str:
    """Say which contrasts of localizers regions were defined by.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    str
        Contrasts, their models, and the regions; empty where there are none.
    """
    contrasts = study.settings("brain").get("contrasts", {})
    told = []
    for name, contrast in contrasts.items():
        told.append(
            f"{name} = {contrast['contrast']} ({contrast['statistic']} map, task "
            f"{contrast['task'] or name}, noise_model = {contrast['noise_model']}, hrf_model = "
            f"{contrast['hrf_model']}, high_pass = {contrast['high_pass']:g})"
        )
    if not told:
        return ""
    brain = study.settings("brain")
    definitions = dict(brain.get("rois", {}))
    for subject in brain.get("subjects", ()):
        if isinstance(subject, Mapping):
            definitions |= subject.get("masks", {})
    regions = []
    for roi, definition in definitions.items():
        if set(re.findall(r"[\w.-]+", definition)) & set(contrasts):
            regions.append(f"{roi} = {definition}")
    return (
        "Contrasts of localizers were estimated by one model over the runs of the localizer, with "
        f"intercept, drifts and confounds of their own for each run: {'; '.join(told)}. Regions "
        f"were defined by thresholds on their maps: {'; '.join(regions)}."
    )


def betas_uses(study: Study) -> dict[str, tuple[str, bool]]:
    """Say which works on single-trial betas were used.

    Parameters
    ----------
    study : Study
        As read.

    Returns
    -------
    dict of str to (str, bool)
        Key of `neurometamer.report.references.WORKS` to what is used of it, and whether it is.
    """
    rows = study.rows("betas")
    words = ", ".join(texts_of(rows, "chosen_on_all_runs"))
    is_denoised = "denoised" in words or bool(rows["n_noise"].notna().any())
    is_shrunken = "shrunken" in words or bool(rows["fraction_median"].notna().any())
    has_library = bool(rows["n_shapes"].notna().any())
    is_theirs = "glmsingle" in texts_of(rows, "program")
    return {
        "kay2013": ("noise regressors from voxels that the task does not explain", is_denoised),
        "prince2022": (
            "a hemodynamic response for each voxel, shrinkage of single presentations",
            has_library or is_shrunken or is_theirs,
        ),
        "rokem2020": ("ridge regression of a given length", is_shrunken),
    }


def _span(values: pd.Series, digits: int = 2, *, percent: bool = False) -> str:
    """Write the lowest and the highest of some numbers, or the one that all are."""
    scale, unit = (100, " %") if percent else (1, "")
    finite = values.dropna() * scale
    texts = []
    for value in (finite.min(), finite.max()):
        texts.append(format_number(float(value), digits))
    return f"{' to '.join(dict.fromkeys(texts))}{unit}"


def _chooser(rows: pd.DataFrame, otherwise: str) -> str:
    """Say that another program chose something, where it did."""
    others = [name for name in texts_of(rows, "program") if name != "neurometamer"]
    return f"chosen by {name_ids(others)}" if others else otherwise


def _shapes_text(rows: pd.DataFrame) -> str:
    if (rows["program"] != "neurometamer").all():
        return (
            "each voxel has the response of a library that fits it best "
            f"(shapes taken: {_span(rows['n_shapes'], 0)}; {_chooser(rows, '')})"
        )
    text = (
        "each voxel has the response of a library that predicts other runs best "
        f"(shapes taken: {_span(rows['n_shapes'], 0)}"
    )
    if rows["share_at_ends"].notna().any():
        text += (
            f"; at its ends {_span(rows['share_at_ends'], 0, percent=True)} of the voxels that "
            f"events explain; median R² of other runs {_span(rows['hrf_r2'])}, with Glover's "
            f"response {_span(rows['hrf_r2_glover'])}"
        )
    return f"{text})"


def _noise_text(rows: pd.DataFrame) -> str:
    text = f"noise regressors: {_span(rows['n_noise'], 0)}"
    if rows["n_pool"].notna().any():
        text += f", from {_span(rows['n_pool'], 0)} voxels that the task does not explain"
    if rows["noise_r2_chosen"].notna().any():
        return (
            f"{text} (chosen by predicting other runs: median R² "
            f"{_span(rows['noise_r2_chosen'])}, without them {_span(rows['noise_r2_none'])})"
        )
    return f"{text} ({_chooser(rows, 'their number was given')})"


def _shrinkage_text(rows: pd.DataFrame) -> str:
    text = (
        f"ridge regression shrinks responses to a fraction of {_span(rows['fraction_median'])} of "
        "their length in the median voxel"
    )
    if rows["less_error"].notna().any():
        quartiles = f"{_span(rows['fraction_q1'])} and {_span(rows['fraction_q3'])}"
        removed = _span(rows["less_error"], 0, percent=True)
        return (
            f"{text} (quartiles {quartiles}), which removes {removed} of the error of predicting "
            "other runs"
        )
    return f"{text} ({_chooser(rows, 'the fraction was given')})"


CHOICES: Mapping[str, Callable[[pd.DataFrame], str]] = {
    "n_shapes": _shapes_text,
    "n_noise": _noise_text,
    "fraction_median": _shrinkage_text,
}
"""Column of the table of betas to the words about it; they are said where it has values,
in this order."""
