"""What was chosen when single-trial betas were made, and what it gained: rows of a table."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fmri.betas.single_trials import beta_records
from fmri.patterns import Patterns

BETA_NUMBERS: Mapping[str, tuple[str | int, ...]] = {
    "n_explained": ("hrf", "n_explained"),
    "n_at_end": ("hrf", "n_at_end"),
    "hrf_r2": ("hrf", "r2", 1),
    "hrf_r2_glover": ("hrf", "r2_glover", 1),
    "n_noise": ("noise", "n_regressors"),
    "n_pool": ("noise", "n_pool"),
    "noise_r2_none": ("noise", "median_r2", 0),
    "fraction_q1": ("shrinkage", "fractions", 0),
    "fraction_median": ("shrinkage", "fractions", 1),
    "fraction_q3": ("shrinkage", "fractions", 2),
}
"""Column of the table of betas to where their provenance holds it."""


def beta_rows(patterns: Patterns) -> list[dict[str, Any]]:
    """Tell what was chosen when the betas of a subject were made, and what it gained.

    Parameters
    ----------
    patterns : Patterns
        Responses of one subject, estimated here or elsewhere.

    Returns
    -------
    list of dict
        Empty where betas are those of a plain model. Else one row; several (``part`` 1, 2, …) where
        patterns were joined that were estimated apart. subject, part, program (or published layout
        that betas come from), per, n_responses,
        hrf_shapes (JSON: shape to number of voxels), n_shapes, n_explained (voxels that events
        explain), n_at_end (those of them at the ends of the library), share_at_ends in [0, 1],
        hrf_r2 and hrf_r2_glover (medians of R² in other runs), n_noise, n_pool, noise_r2_none and
        noise_r2_chosen (the same without and with the noise regressors), fraction_q1,
        fraction_median and fraction_q3 (quartiles of ridge fractions), less_error (median share of
        the error of predicting other runs that shrinkage removes), chosen_on_all_runs. NaN for what
        was not done, was given rather than chosen, or is not said.
    """
    rows: list[dict[str, Any]] = []
    for record in beta_records(patterns.provenance):
        options = record.get("options")
        if not isinstance(options, Mapping):
            options = {}
        words = sorted(map(str, record["chosen_on_all_runs"]))
        is_touched = {"hrf", "noise", "shrinkage"} & set(record)
        if not words and not is_touched and options.get("per") != "condition":
            continue
        hrf = record.get("hrf")
        shapes = hrf.get("n_voxels") if isinstance(hrf, Mapping) else None
        if not isinstance(shapes, Mapping):
            shapes = {}
        row: dict[str, Any] = {
            "subject": patterns.subject,
            "part": len(rows) + 1,
            "program": str(record.get("program", record.get("layout", "neurometamer"))),
            "per": str(options.get("per", "")),
            "n_responses": len(patterns),
            "hrf_shapes": json.dumps(shapes) if shapes else "",
            "n_shapes": len(shapes) if shapes else np.nan,
        }
        for column, keys in BETA_NUMBERS.items():
            row[column] = _number_in(record, keys)
        n_noise = row["n_noise"]
        if n_noise >= 0:
            chosen = ("noise", "median_r2", int(n_noise))
            row["noise_r2_chosen"] = _number_in(record, chosen)
        else:
            row["noise_r2_chosen"] = np.nan
        row["share_at_ends"] = np.nan
        if row["n_explained"] > 0:
            row["share_at_ends"] = row["n_at_end"] / row["n_explained"]
        row["less_error"] = np.nan
        if options.get("shrinkage") == "auto":
            gain = ("shrinkage", "less_error_in_other_runs", 1)
            row["less_error"] = _number_in(record, gain)
        row["chosen_on_all_runs"] = ", ".join(words)
        rows.append(row)
    return rows


def _number_in(record: Any, keys: Sequence[str | int]) -> float:
    """Follow keys and places into a record of any form to a finite number; NaN without one."""
    value = record
    try:
        for key in keys:
            value = value[key]
        number = float(value)
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
        return float("nan")
    return number if np.isfinite(number) else float("nan")
