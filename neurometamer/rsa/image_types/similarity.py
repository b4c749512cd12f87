"""Similarity of image types: RE-AN, RE-AI, their difference, and trends of them over layers.

RDMs are computed within one kind and compared photograph by photograph; responses to two kinds are
never correlated with each other directly (Zhang et al. 2021).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, need_columns
from neurometamer.rsa.bootstrap import resampled
from neurometamer.rsa.comparators.ranks import BLOCK
from neurometamer.rsa.comparators.table import find_comparator
from neurometamer.rsa.compare import describe_method, similarity_values
from neurometamer.rsa.compute import representation_name, select_image_type, take_conditions
from neurometamer.rsa.jackknife import Projection
from neurometamer.rsa.rdms import join_rdms
from neurometamer.rsa.sampling import LazyWeights, Sampling, project, sample_photographs
from neurometamer.rsa.sessions import session_maps, without_sessions
from neurometamer.stats.families import mann_kendall
from neurometamer.stats.paired import layers_t_test
from neurometamer.stats.resampling import percentile_interval

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

MIN_LAYERS = 3
"""A trend over two layers is no trend."""


def name_representation(rdms: RDMs, index: int) -> dict[str, str]:
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
        system, subject, representation; empty where nothing tells.
    """
    known = {}
    for name, column in rdms.rdm_descriptors.items():
        known[name] = str(column[index])
    place = known.get("stage") or known.get("roi")
    return {
        "system": known.get("system", ""),
        "subject": known.get("subject", ""),
        "representation": place or representation_name(rdms, index),
    }


def join_pair(
    rdms: RDMs, pair: tuple[str, str], join: str = "exact"
) -> tuple[RDMs, RDMs, list[str]]:
    """Take the RDMs within two image types, their photographs in one order.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All image types in one RDM.
    pair : (str, str)
        Image types.
    join : str
        ``"exact"`` or ``"inner"``, see `align_rdms`.

    Returns
    -------
    first, second : rsatoolbox.rdm.RDMs
        RDMs within each image type, ``pattern_descriptors["condition"]`` being photographs, sorted.
    left_out : list of str
        Photographs that only one image type has.

    Raises
    ------
    InputError
        For an unknown image type, or photographs that do not match.
    """
    kind, other_kind = pair
    first = select_image_type(rdms, kind)
    second = select_image_type(rdms, other_kind)
    return join_rdms(first, second, join)


def photographs_of(rdms: RDMs, image_type: str) -> list[str]:
    """Name the photographs that have an image of a type.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All image types in one RDM.
    image_type : str
        Image type.

    Returns
    -------
    list of str
        In the order of the RDMs.
    """
    of_kind = select_image_type(rdms, image_type)
    descriptors = of_kind.pattern_descriptors
    names = descriptors["condition"]
    return [str(name) for name in names]


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
    photographs = rdms.pattern_descriptors.get("reference_id", ())
    categories = rdms.pattern_descriptors.get("category", ())
    classes = {}
    for photograph, category in zip(photographs, categories):
        name = str(photograph)
        classes[name] = str(category)
    if not any(classes.values()):
        return None
    return classes


def image_type_samples(
    rdms: RDMs,
    pair: tuple[str, str],
    comparator: str,
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
    comparator, join : str
        See `image_type_similarity`.
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
    compare = find_comparator(comparator)
    a, b, left_out = join_pair(rdms, pair, join)
    if sampling is None:
        sampling = _default_sampling(rdms, a)
    counts = sampling.counts(n_resamples, seed)
    values = np.empty(rdms.n_rdm)
    samples = np.empty((len(counts), rdms.n_rdm))
    for i in range(rdms.n_rdm):
        first = a.dissimilarities[i : i + 1]
        second = b.dissimilarities[i : i + 1]
        values[i] = compare(first, second)[0, 0]
        drawn = resampled(first, second, counts, comparator, None, None)
        samples[:, i] = drawn.similarity[:, 0, 0]
    if confidence is not None:
        samples = sampling.scaled(values, samples, confidence)
    return values, samples, counts, left_out


def image_type_projection(
    rdms: RDMs,
    pair: tuple[str, str],
    comparator: str,
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
    comparator : str
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
    compare = find_comparator(comparator)
    a, b, _ = join_pair(rdms, pair)
    if sampling is None:
        sampling = _default_sampling(rdms, a)
    sides = list(zip(a.dissimilarities[:, np.newaxis], b.dissimilarities[:, np.newaxis]))

    def _scores(weights: LazyWeights | None) -> np.ndarray:
        if weights is None:
            return np.array([compare(first, second)[0, 0] for first, second in sides])
        scores = np.empty((len(weights), len(sides)))
        step = max(1, BLOCK // weights.shape[1])
        for start in range(0, len(weights), step):
            block = weights[start : start + step]
            for i, (first, second) in enumerate(sides):
                part = compare(first, second, block)
                scores[start : start + step, i] = part[:, 0, 0]
        return scores

    return project(_scores, sampling, n_draws, seed)


def _default_sampling(rdms: RDMs, photographs: RDMs) -> Sampling:
    names = []
    for name in photographs.pattern_descriptors["condition"]:
        names.append(str(name))
    return sample_photographs(names, class_descriptor(rdms))


@checked
def image_type_similarity(
    rdms: RDMs,
    pairs: Sequence[tuple[str, str]] = (("RE", "AN"), ("RE", "AI")),
    *,
    comparator: str = "spearman",
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
    comparator : str
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
        The table ``similarity.csv``: system, subject, representation, pair (``RE-AN``), similarity,
        ci_low, ci_high, method, n (photographs).

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
    >>> image_type_similarity(rdms, n_resamples=20)[["pair", "similarity", "n"]].round(1)
        pair  similarity  n
    0  RE-AN         0.1  6
    1  RE-AI         1.0  6
    """
    import pandas as pd

    if not pairs:
        raise InputError("pairs is empty; name at least one pair of kinds, such as ('RE', 'AI').")
    rdms, note, has_interval = _without_sessions(rdms, pairs, comparator)
    n_draws = n_resamples if has_interval else 0
    rows_of: list[list[dict[str, Any]]] = [[] for _ in range(rdms.n_rdm)]
    for pair in pairs:
        value, samples, counts, left_out = image_type_samples(
            rdms,
            pair,
            comparator,
            join,
            n_draws,
            seed,
            confidence=confidence,
        )
        low, high = percentile_interval(samples, confidence)
        method = describe_method(comparator, counts, confidence, left_out)
        for i, rows in enumerate(rows_of):
            row = {
                **name_representation(rdms, i),
                "pair": "-".join(pair),
                **similarity_values(value[i], low[i], high[i]),
                "method": method + note,
                "n": counts.shape[1],
            }
            rows.append(row)
    return pd.DataFrame(itertools.chain.from_iterable(rows_of))


def _without_sessions(
    rdms: RDMs, pairs: Sequence[tuple[str, str]], comparator: str
) -> tuple[RDMs, str, bool]:
    """Subtract offsets of sessions; note what is resampled, and whether there is an interval."""
    kinds = dict.fromkeys(itertools.chain.from_iterable(pairs))
    subjects = [name_representation(rdms, i)["subject"] for i in range(rdms.n_rdm)]
    classes = class_descriptor(rdms)
    removed = without_sessions(
        rdms,
        session_maps(rdms, subjects, None),
        list(kinds),
        comparator,
        classes,
    )
    note = ""
    if classes:
        note += "; photographs drawn within classes"
    for text in (removed.text, removed.reason):
        if text:
            note += f"; {text}"
    return removed.rdms, note, not removed.reason


@checked
def image_type_difference(
    rdms: RDMs,
    first: tuple[str, str] = ("RE", "AI"),
    second: tuple[str, str] = ("RE", "AN"),
    *,
    comparator: str = "spearman",
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
    comparator : str
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
        The table ``similarity_difference.csv``: system, subject, representation, pair (``RE-AI
        minus RE-AN``), difference, ci_low, ci_high, method, n (photographs).

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
    >>> image_type_difference(rdms, n_resamples=20)[["pair", "difference", "n"]].round(1)
                    pair  difference  n
    0  RE-AI minus RE-AN         0.9  6
    """
    import pandas as pd

    left_out: list[str] = []
    if join == "inner":
        rdms, left_out = shared_references(rdms, list(dict.fromkeys((*first, *second))))
    rdms, note, has_interval = _without_sessions(rdms, [first, second], comparator)
    n_draws = n_resamples if has_interval else 0
    value, samples, counts, _ = image_type_samples(
        rdms, first, comparator, "exact", n_draws, seed, confidence=confidence
    )
    other, other_samples, other_counts, _ = image_type_samples(
        rdms, second, comparator, "exact", n_draws, seed, confidence=confidence
    )
    first_name, second_name = "-".join(first), "-".join(second)
    n, n_other = counts.shape[1], other_counts.shape[1]
    if n != n_other:
        raise InputError(
            f"{first_name} covers {n} photographs and {second_name} {n_other}; a difference needs "
            "the same ones (or join='inner')."
        )
    difference = value - other
    low, high = percentile_interval(samples - other_samples, confidence)
    method = describe_method(comparator, counts, confidence, left_out)
    rows = []
    for i in range(rdms.n_rdm):
        row = {
            **name_representation(rdms, i),
            "pair": f"{first_name} minus {second_name}",
            "difference": float(difference[i]),
            "ci_low": float(low[i]),
            "ci_high": float(high[i]),
            "method": f"paired difference of {method}{note}",
            "n": n,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def shared_references(rdms: RDMs, image_types: Sequence[str]) -> tuple[RDMs, list[str]]:
    """Keep the photographs that have an image of every kind.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        All kinds in one RDM.
    image_types : sequence of str
        Kinds that each photograph must have.

    Returns
    -------
    rdms : rsatoolbox.rdm.RDMs
        RDMs of those photographs.
    left_out : list of str
        The other photographs.
    """
    photographs = [set(photographs_of(rdms, kind)) for kind in image_types]
    shared = set.intersection(*photographs)
    every = set.union(*photographs)
    left_out = sorted(every - shared)
    references = rdms.pattern_descriptors["reference_id"]
    rows = []
    for row, reference in enumerate(references):
        name = str(reference)
        if name in shared:
            rows.append(row)
    of_shared = take_conditions(rdms, rows)
    return of_shared, left_out


# ------------------------------------------------------------------------------------------- trends


@checked
def image_type_trends(table: pd.DataFrame, system: str = "network") -> pd.DataFrame:
    """Test trends of each similarity over layers, and the paired difference of the two.

    Parameters
    ----------
    table : pandas.DataFrame
        The table of `compare_image_types`; layers in their order.
    system : str
        System whose places are in an order: ``"network"``.

    Returns
    -------
    pandas.DataFrame
        One row a test: system, pair, test (``Mann-Kendall`` or ``paired t over layers``), statistic
        (S or t), effect (tau-b or dz), p (two-sided), n (layers), method. The paired t is there
        with two pairs.

    Raises
    ------
    InputError
        When there are fewer than 3 layers, or a column is missing.

    Notes
    -----
    Layers of one network depend on each other and are no sample: these p describe this network, as
    in the papers.

    References
    ----------
    Zhang et al. (2021), fig. 5 (trend); Zhang et al. (2018), CCN (paired t).

    Examples
    --------
    >>> import pandas as pd
    >>> table = pd.DataFrame(
    ...     {
    ...         "system": "network",
    ...         "quantity": "similarity",
    ...         "representation": ["conv1", "conv2", "conv3", "conv4"],
    ...         "pair": "RE-AN",
    ...         "value": [0.1, 0.3, 0.4, 0.8],
    ...     }
    ... )
    >>> image_type_trends(table)[["test", "statistic", "effect", "n"]]
               test  statistic  effect  n
    0  Mann-Kendall        6.0     1.0  4
    """
    import pandas as pd

    needed = ("system", "quantity", "representation", "pair", "value")
    need_columns(table, needed, "the table", "Give that of compare_image_types.")
    is_similarity = table["quantity"] == "similarity"
    rows = table[(table["system"] == system) & is_similarity]
    layers = list(dict.fromkeys(rows["representation"]))
    if len(layers) < MIN_LAYERS:
        raise InputError(
            f"a trend needs at least {MIN_LAYERS} layers; there are {len(layers)} "
            f"({name_ids(layers) or 'none'})."
        )
    tests: list[dict[str, Any]] = []
    for pair, part in rows.groupby("pair", sort=False):
        trend = mann_kendall(part["value"].tolist())
        tests.append(
            {
                "pair": pair,
                "test": "Mann-Kendall",
                "statistic": float(trend.s),
                "effect": trend.tau,
                "p": trend.p,
                "method": f"trend over layers, {trend.method}, two-sided; effect is tau-b",
            }
        )
    pairs = list(dict.fromkeys(rows["pair"]))
    if len(pairs) == 2:
        test = layers_t_test(rows, pairs[1], pairs[0], value="value")
        tests.append(
            {
                "pair": f"{pairs[1]} minus {pairs[0]}",
                "test": "paired t over layers",
                "statistic": test.t,
                "effect": test.dz,
                "p": test.p,
                "method": f"t with {test.dof} dof, two-sided; effect is dz; layers are no sample",
            }
        )
    out = pd.DataFrame(tests).assign(system=system, n=len(layers))
    return out[["system", "pair", "test", "statistic", "effect", "p", "n", "method"]]
