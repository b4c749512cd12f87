"""Bound of the similarity of two image types, from the reliability of each one's RDM.

The usual ceiling over subjects bounds models that all subjects share. RE and AI of one subject
share also what is that subject's own, so their similarity is bounded by the noise of its two RDMs
instead.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from fmri.reliability import split_half_reliability
from neurometamer.arguments import checked_with
from neurometamer.errors import InputError, need_columns, unknown_name
from neurometamer.rsa.rdms import STIMULI

if TYPE_CHECKING:
    import pandas as pd

    from fmri.patterns import Patterns

BOUND = (
    "reliability: root of the product of both kinds' RDM reliabilities: of odd and even "
    "presentations (low); of all data, "
    "simulated from signal and noise, half a standard error granted (high)"
)
"""Text of the column ``ceiling``."""

NO_PRESENTATIONS = (
    "undefined: needs the reliability of each kind, from repeated presentations "
    "(image_type_reliability)"
)
NOT_SPEARMAN = "undefined: reliability is of 1 - Spearman RDMs compared by Spearman"


@checked_with(tables={"table": STIMULI})
def image_type_reliability(
    patterns_by_subject: Mapping[str, Patterns],
    table: pd.DataFrame,
    image_types: Sequence[str] = ("RE", "AN", "AI"),
) -> pd.DataFrame:
    """Measure the split-half reliability of the RDM within each kind.

    Parameters
    ----------
    patterns_by_subject : mapping of str to Patterns
        Responses to single presentations.
    table : pandas.DataFrame
        The stimuli: columns id, kind.
    image_types : sequence of str
        Kinds.

    Returns
    -------
    pandas.DataFrame
        One row a subject, ROI and kind: columns of `split_half_reliability`, and kind. Where images
        were shown only once there is no reliability: NaN, and the reason in ``method``.

    Raises
    ------
    InputError
        For a kind that the table does not hold, or images without responses.

    Examples
    --------
    >>> import pandas as pd
    >>> from fmri import Patterns
    >>> ids = ["cat", "dog", "cup", "car"]
    >>> random = np.random.default_rng(0)
    >>> patterns = Patterns(
    ...     values=random.normal(size=(8, 5)),
    ...     observations=pd.DataFrame(
    ...         {
    ...             "condition": ids * 2,
    ...             "presentation": [1] * 4 + [2] * 4,
    ...             "run": ["1"] * 4 + ["2"] * 4,
    ...             "session": "",
    ...         }
    ...     ),
    ...     voxels=pd.DataFrame({"subject": "S1", "roi": "V1", "i": range(5), "j": 0, "k": 0}),
    ... )
    >>> table = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    >>> reliability = image_type_reliability({"S1": patterns}, table, image_types=["RE"])
    >>> reliability[["subject", "roi", "kind"]]
      subject roi kind
    0      S1  V1   RE
    """
    import pandas as pd

    if not image_types or not patterns_by_subject:
        raise InputError(
            f"{len(image_types)} image types and {len(patterns_by_subject)} subjects; give at "
            "least one of each."
        )
    kind_of = table["kind"].astype(str)
    known = dict.fromkeys(kind_of)
    parts = []
    for kind in image_types:
        if kind not in known:
            raise unknown_name("image type", kind, known)
        ids = table.loc[kind_of == kind, "id"].astype(str).tolist()
        for subject, patterns in patterns_by_subject.items():
            try:
                halves = split_half_reliability(patterns, ids).assign(subject=subject)
            except InputError as reason:
                regions = patterns.voxels[["roi"]].drop_duplicates().astype(str)
                halves = regions.assign(
                    subject=subject,
                    reliability=np.nan,
                    corrected=np.nan,
                    upper=np.nan,
                    method=f"undefined: {reason}",
                )
            parts.append(halves.assign(kind=kind))
    return pd.concat(parts, ignore_index=True)


Bounds = Mapping[tuple[str, str, str], tuple[float, float, str]]
"""Subject, ROI and kind to reliability of halves, upper reliability of all data, method."""


def bounds_of(reliability: pd.DataFrame | None) -> Bounds:
    """Arrange the table of `image_type_reliability` for `pair_bound`.

    Parameters
    ----------
    reliability : pandas.DataFrame, optional
        Columns subject, roi, kind, reliability, method, and upper or (where that is missing)
        corrected.

    Returns
    -------
    mapping
        See `Bounds`.

    Raises
    ------
    InputError
        When a column is missing.
    """
    if reliability is None:
        return {}
    high = "upper" if "upper" in reliability.columns else "corrected"
    needed = ("subject", "roi", "kind", "reliability", high, "method")
    need_columns(
        reliability, needed, "the table of reliabilities", "Make it with image_type_reliability."
    )
    rows = reliability[list(needed)].itertuples(index=False)
    bounds = {}
    for subject, roi, kind, half, full, text in rows:
        key = (str(subject), str(roi), str(kind))
        bounds[key] = (float(half), float(full), str(text))
    return bounds


def pair_bound(
    bounds: Bounds, subject: str, representation: str, pair: Sequence[str]
) -> dict[str, Any]:
    """Bound the similarity of two kinds in one subject and ROI.

    Parameters
    ----------
    bounds : mapping
        See `bounds_of`.
    subject, representation : str
        Subject and ROI of the RDM.
    pair : (str, str)
        Kinds.

    Returns
    -------
    dict
        ceiling_low, ceiling_high (NaN without a reliability of both kinds; a negative one counts as
        0), ceiling.

    Notes
    -----
    Two noisy measures of the same thing correlate by the root of the product of their
    reliabilities. How reliable an RDM of all data is does not follow from the halves by
    Spearman-Brown (it comes out too low); it is simulated from signal and noise
    (`fmri.rdm_reliability.all_data_reliability`). In simulated studies whose RE and AI share the
    true RDM the similarity was above the high end in .14 to .42 of 50 studies each, at true
    similarities of .12 to .95.

    References
    ----------
    Spearman (1904), Am J Psychol 15:72; Lage-Castellanos et al. (2019), PLoS Comput Biol
    15:e1006397.
    """
    low = high = 1.0
    for kind in pair:
        undefined = (np.nan, np.nan, NO_PRESENTATIONS)
        half, full, text = bounds.get((subject, representation, kind), undefined)
        if not np.isfinite(half):
            return {
                "ceiling_low": np.nan,
                "ceiling_high": np.nan,
                "ceiling": text,
            }
        low *= max(half, 0.0)
        high *= max(full, 0.0)
    return {
        "ceiling_low": math.sqrt(low),
        "ceiling_high": math.sqrt(high),
        "ceiling": BOUND,
    }
