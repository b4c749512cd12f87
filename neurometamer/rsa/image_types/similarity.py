"""Similarity of image types: RE-AN, RE-AI and their difference, by layer, ROI and subject.

RDMs are computed within one kind and compared photograph by photograph; responses to two kinds are
never correlated with each other directly (Zhang et al. 2021).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError
from neurometamer.rsa.bootstrap import resampled
from neurometamer.rsa.comparators.ranks import BLOCK
from neurometamer.rsa.comparators.table import comparator
from neurometamer.rsa.compare import (
    describe_method,
    join_rdms,
    similarity_values,
)
from neurometamer.rsa.compute import place_name, select_kind, take_conditions
from neurometamer.rsa.jackknife import LazyWeights, Projection, project
from neurometamer.rsa.sampling import Sampling, sample_photographs
from neurometamer.rsa.sessions import session_maps, without_sessions
from neurometamer.stats.resampling import percentile_interval

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs


def name_place(rdms: RDMs, index: int) -> dict[str, str]:
    """Name system, subject and place (stage or region) of one RDM.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All RDMs.
    index : int
        Position of the RDM.

    Returns
    -------
    dict of str to str
        system, subject, place; empty where nothing tells.
    """
    known = {name: str(column[index]) for name, column in rdms.rdm_descriptors.items()}
    place = known.get("stage") or known.get("roi") or place_name(rdms, index)
    return {"system": known.get("system", ""), "subject": known.get("subject", ""), "place": place}


def class_descriptor(rdms: RDMs) -> dict[str, str] | None:
    """Read the class of each photograph from RDMs that know it.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        RDMs with pattern descriptors reference_id and, where classes are known, category.

    Returns
    -------
    dict of str to str, or None
        Photograph to class; None where no image has one.
    """
    known = rdms.pattern_descriptors
    classes = {
        str(photograph): str(category)
        for photograph, category in zip(known.get("reference_id", ()), known.get("category", ()))
    }
    return classes if any(classes.values()) else None


def kind_samples(
    rdms: RDMs,
    pair: tuple[str, str],
    by: str,
    join: str,
    n_resamples: int,
    seed: int,
    sampling: Sampling | None = None,
    confidence: float | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    """Compare two kinds within each RDM.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one RDM.
    pair : (str, str)
        Kinds.
    by, join : str
        See `kind_similarity`.
    n_resamples, seed : int
        Resamples of photographs.
    sampling : Sampling, optional
        Resampled objects; by default photographs within the classes that the RDMs know.
    confidence : float, optional
        Confidence level of the interval, where few classes or photographs of a class are
        corrected for (`Sampling.scaled`).

    Returns
    -------
    values : ndarray, shape (n_rdms,)
        Similarity of the two kinds.
    samples : ndarray, shape (n_resamples, n_rdms)
        The same in each resample.
    counts : ndarray, shape (n_resamples, n)
        The draws.
    left_out : list of str
        Photographs that one kind lacks.
    """
    compare = comparator(by)
    a, b, left_out = join_rdms(select_kind(rdms, pair[0]), select_kind(rdms, pair[1]), join)
    sampling = sampling or _default_sampling(rdms, a)
    counts = sampling.counts(n_resamples, seed)
    values, samples = [], []
    for rdm, other in zip(a.dissimilarities[:, np.newaxis], b.dissimilarities[:, np.newaxis]):
        values.append(compare(rdm, other)[0, 0])
        samples.append(resampled(rdm, other, counts, by, None, None).similarity[:, 0, 0])
    similarity, moved = np.array(values), np.stack(samples, axis=1)
    if confidence is not None:
        moved = sampling.scaled(similarity, moved, confidence)
    return similarity, moved, counts, left_out


def kind_projection(
    rdms: RDMs,
    pair: tuple[str, str],
    by: str,
    n_draws: int,
    seed: int,
    sampling: Sampling | None = None,
) -> Projection:
    """Compare two kinds within each RDM, and say how other photographs would change the value.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one RDM.
    pair : (str, str)
        Kinds; each photograph has an image of both.
    by : str
        One of `COMPARATORS`.
    n_draws, seed : int
        Number and seed of samples of the noise of pairs, see `project`.
    sampling : Sampling, optional
        Objects left out: photographs, photographs within classes, or classes; by default
        photographs within the classes that the RDMs know.

    Returns
    -------
    Projection
        Values of shape (n_rdms,); the same photographs move all RDMs.
    """
    a, b, _ = join_rdms(select_kind(rdms, pair[0]), select_kind(rdms, pair[1]), "exact")
    compare = comparator(by)
    sides = list(zip(a.dissimilarities[:, np.newaxis], b.dissimilarities[:, np.newaxis]))

    def _scores(weights: LazyWeights | None) -> np.ndarray:
        if weights is None:
            return np.array([compare(rdm, other)[0, 0] for rdm, other in sides])
        step = max(1, BLOCK // weights.shape[1])
        parts = []
        for start in range(0, len(weights), step):
            part = weights[start : start + step]
            scores = [compare(rdm, other, part)[:, 0, 0] for rdm, other in sides]
            parts.append(np.stack(scores, axis=1))
        return np.concatenate(parts)

    return project(_scores, sampling or _default_sampling(rdms, a), n_draws, seed)


def _default_sampling(rdms: RDMs, photographs: RDMs) -> Sampling:
    names = [str(name) for name in photographs.pattern_descriptors["condition"]]
    return sample_photographs(names, class_descriptor(rdms))


@checked
def kind_similarity(
    rdms: RDMs,
    pairs: Sequence[tuple[str, str]] = (("RE", "AN"), ("RE", "AI")),
    *,
    by: str = "spearman",
    join: str = "exact",
    n_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Compare the arrangement of the images of two kinds, in each layer or ROI.

    The RDM within one kind is compared with the RDM within the other, photograph by photograph;
    responses to the two kinds are never correlated with each other directly.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one RDM, with ``pattern_descriptors`` kind and reference_id.
    pairs : sequence of (str, str)
        Kinds to compare.
    by : str
        One of `COMPARATORS`.
    join : str
        ``"exact"``: each photograph has an image of both kinds; ``"inner"``: those that have.
    n_resamples : int
        Resamples of the photographs, the same for all rows; 0 for no interval.
    seed : int
        Seed of the resamples.
    confidence : float
        Confidence level of the interval, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        The table ``similarity.csv``: system, subject, place, pair (``RE-AN``), similarity, ci_low,
        ci_high, method, n (photographs).

    Raises
    ------
    InputError
        For an unknown kind or comparator, photographs without a counterpart, fewer than 4
        photographs.

    Notes
    -----
    Zhang et al. subsample 80 % of the vertices; that interval ignores the choice of images and is
    about half as wide as it should be. Here the images are resampled.

    References
    ----------
    Zhang et al. (2021), Front Neuroinform 15:677925, Representational Similarity Analysis.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer import compute_rdms
    >>> ids = [f"{kind}{i}" for kind in ("RE", "AN", "AI") for i in range(6)]
    >>> photographs = [f"RE{i}" for i in range(6)] * 3
    >>> kinds = [name[:2] for name in ids]
    >>> table = pd.DataFrame({"id": ids, "kind": kinds, "reference_id": photographs})
    >>> random = np.random.default_rng(0)
    >>> values = random.normal(size=(18, 20))
    >>> values[12:] = values[:6] + 0.1 * random.normal(size=(6, 20))  # AI resembles RE
    >>> rdms = compute_rdms(values, table=table)
    >>> kind_similarity(rdms, n_resamples=20)[["pair", "similarity", "n"]].round(1)
        pair  similarity  n
    0  RE-AN         0.1  6
    1  RE-AI         1.0  6
    """
    import pandas as pd

    if not pairs:
        raise InputError("pairs is empty; name at least one pair of kinds, such as ('RE', 'AI').")
    rows = []
    rdms, note, given = _without_sessions(rdms, [kind for pair in pairs for kind in pair], by)
    for pair in pairs:
        value, samples, counts, left_out = kind_samples(
            rdms, pair, by, join, n_resamples * given, seed, confidence=confidence
        )
        low, high = percentile_interval(samples, confidence)
        method = describe_method(by, counts, confidence, left_out) + note
        for i in range(rdms.n_rdm):
            row = {
                **name_place(rdms, i),
                "pair": "-".join(pair),
                **similarity_values(value[i], low[i], high[i]),
            }
            rows.append({**row, "method": method, "n": counts.shape[1], "order": i})
    table = pd.DataFrame(rows).sort_values("order", kind="stable", ignore_index=True)
    return table.drop(columns="order")


def _without_sessions(rdms: RDMs, kinds: Sequence[str], by: str) -> tuple[RDMs, str, bool]:
    """Subtract offsets of sessions; note what is resampled, and whether there is an interval."""
    subjects = [name_place(rdms, i)["subject"] for i in range(rdms.n_rdm)]
    maps = session_maps(rdms, subjects, None)
    classes = class_descriptor(rdms)
    removed = without_sessions(rdms, maps, list(dict.fromkeys(kinds)), by, classes)
    notes = ["photographs drawn within classes" if classes else "", removed.text, removed.reason]
    return removed.rdms, "".join(f"; {note}" for note in notes if note), not removed.reason


@checked
def kind_difference(
    rdms: RDMs,
    first: tuple[str, str] = ("RE", "AI"),
    second: tuple[str, str] = ("RE", "AN"),
    *,
    by: str = "spearman",
    join: str = "exact",
    n_resamples: int = 1000,
    seed: int = 0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Compare two pairs of kinds in each layer or ROI: how much more alike the first is.

    Both similarities are taken in the same resamples.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one RDM, with ``pattern_descriptors`` kind and reference_id.
    first, second : (str, str)
        The similarity of `second` is subtracted from that of `first`.
    by : str
        One of `COMPARATORS`.
    join : str
        ``"exact"``: each photograph has an image of all kinds; ``"inner"``: those that have.
    n_resamples : int
        Resamples of the photographs, the same for all rows; 0 for no interval.
    seed : int
        Seed of the resamples.
    confidence : float
        Confidence level of the interval, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        The table ``similarity_difference.csv``: system, subject, place, pair (``RE-AI minus
        RE-AN``), difference, ci_low, ci_high, method, n (photographs).

    Raises
    ------
    InputError
        For an unknown kind or comparator, photographs without a counterpart, fewer than 4
        photographs.

    Examples
    --------
    >>> import pandas as pd
    >>> from neurometamer import compute_rdms
    >>> ids = [f"{kind}{i}" for kind in ("RE", "AN", "AI") for i in range(6)]
    >>> photographs = [f"RE{i}" for i in range(6)] * 3
    >>> kinds = [name[:2] for name in ids]
    >>> table = pd.DataFrame({"id": ids, "kind": kinds, "reference_id": photographs})
    >>> random = np.random.default_rng(0)
    >>> values = random.normal(size=(18, 20))
    >>> values[12:] = values[:6] + 0.1 * random.normal(size=(6, 20))  # AI resembles RE
    >>> rdms = compute_rdms(values, table=table)
    >>> kind_difference(rdms, n_resamples=20)[["pair", "difference", "n"]].round(1)
                    pair  difference  n
    0  RE-AI minus RE-AN         0.9  6
    """
    import pandas as pd

    left_out: list[str] = []
    if join == "inner":
        rdms, left_out = shared_references(rdms, dict.fromkeys((*first, *second)))
    rdms, note, given = _without_sessions(rdms, [*first, *second], by)
    draws = n_resamples * given
    value, samples, counts, _ = kind_samples(
        rdms, first, by, "exact", draws, seed, confidence=confidence
    )
    other, other_samples, other_counts, _ = kind_samples(
        rdms, second, by, "exact", draws, seed, confidence=confidence
    )
    if counts.shape != other_counts.shape:
        raise InputError(
            f"{'-'.join(first)} covers {counts.shape[1]} photographs and {'-'.join(second)} "
            f"{other_counts.shape[1]}; a difference needs the same ones (or join='inner')."
        )
    low, high = percentile_interval(samples - other_samples, confidence)
    method = f"paired difference of {describe_method(by, counts, confidence, left_out)}{note}"
    name = f"{'-'.join(first)} minus {'-'.join(second)}"
    rows = [
        {
            **name_place(rdms, i),
            "pair": name,
            "difference": float(value[i] - other[i]),
            "ci_low": float(low[i]),
            "ci_high": float(high[i]),
            "method": method,
            "n": counts.shape[1],
        }
        for i in range(rdms.n_rdm)
    ]
    return pd.DataFrame(rows)


def shared_references(rdms: RDMs, kinds: Sequence[str] | dict[str, None]) -> tuple[RDMs, list[str]]:
    """Keep the photographs that have an image of every kind.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one RDM.
    kinds : sequence of str
        Kinds that each photograph must have.

    Returns
    -------
    rdms : rsatoolbox.rdm.RDMs
        RDMs of those photographs.
    left_out : list of str
        The other photographs.
    """
    parts = []
    for kind in kinds:
        parts.append(set(map(str, select_kind(rdms, kind).pattern_descriptors["condition"])))
    shared = set.intersection(*parts)
    references = [str(reference) for reference in rdms.pattern_descriptors["reference_id"]]
    rows = [i for i, reference in enumerate(references) if reference in shared]
    kept = take_conditions(rdms, rows)
    return kept, sorted(set.union(*parts) - shared)
