"""The regions of a study: voxels before and after the selection, and reliability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from fmri.patterns import Patterns

METHOD = "Pearson correlation of odd and even presentations over regular images, median over voxels"
"""Of the two columns of reliability."""


def region_rows(
    before: Patterns, after: Patterns, conditions: Sequence[str]
) -> list[dict[str, Any]]:
    """Say of each region of one subject how large it is and how reliable its voxels are.

    Parameters
    ----------
    before : Patterns
        Responses of all usable voxels.
    after : Patterns
        Responses of the voxels that were selected.
    conditions : sequence of str
        Ids of the regular images, on which reliability is measured.

    Returns
    -------
    list of dict
        One a region: subject, roi, n_mask (voxels of the mask), n_voxels (usable ones), n_selected,
        reliability and reliability_selected (median over voxels in [-1, 1]; NaN where it cannot be
        measured), method, reason.
    """
    from fmri.reliability import voxel_reliability

    reason = ""
    try:
        measured = voxel_reliability(before, conditions)
    except InputError as error:
        measured, reason = np.full(len(before.voxels), np.nan), str(error)
    table = before.voxels.assign(
        reliability=measured, selected=_selected(before.voxels, after.voxels)
    )
    rows = []
    for (subject, roi), region in table.groupby(["subject", "roi"], sort=False):
        mask = before.provenance.get("masks", {}).get(str(roi), {})
        n_mask = int(mask.get("n_voxels", len(region)))  # unusable voxels included
        row = {"subject": subject, "roi": roi, "n_mask": n_mask}
        row |= {"n_voxels": len(region), "n_selected": int(region["selected"].sum())}
        row |= {"reliability": float(np.median(region["reliability"]))}
        row |= {"reliability_selected": float(np.median(region["reliability"][region["selected"]]))}
        rows.append(row | {"method": METHOD, "reason": reason})
    return rows


def _selected(before: pd.DataFrame, after: pd.DataFrame) -> np.ndarray:
    """Mark the voxels of one table that are in another: bool, shape (n_voxels,)."""
    import pandas as pd

    columns = ["subject", "roi", "i", "j", "k"]
    kept = pd.MultiIndex.from_frame(after[columns])
    return pd.MultiIndex.from_frame(before[columns]).isin(kept)
