"""How similar two RDMs are: one entry for each comparator of condensed RDMs.

A comparator takes condensed RDMs ``a`` (n_a, n_pairs) and ``b`` (n_b, n_pairs) over the same pairs.
With weights, the result is exactly that of vectors in which each pair is repeated as often as its
weight says. Shapes that do not fit and numbers that are missing are an `InputError`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.rsa.comparators.ranks import (
    SCALES,
    Scores,
    Sides,
    centered,
    centered_ranks,
    check_sides,
    divide_by_root,
    n_images,
    over_blocks,
    rank_product,
    ranks_without_ties,
    raw,
    scaled_once,
    square,
    unit,
    unit_centered,
    unit_ranks,
    weighted_cosine,
)
from neurometamer.rsa.comparators.resampled import (
    ProductResamples,
    RankResamples,
    Resamples,
    WhitenedResamples,
)
from neurometamer.rsa.comparators.tau_a import tau_a
from neurometamer.rsa.comparators.whitened import Whitened, whitened_cosine, whitened_pearson
from neurometamer.rsa.rdms import check_rdms, refuse_flat

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs


def spearman(a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Correlate the ranks of dissimilarities, ties sharing their average rank.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs over the same pairs.
    weights : ndarray, shape (n_resamples, n_pairs), optional
        Number of copies of each pair (whole numbers, see `pair_weights`).

    Returns
    -------
    ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
        In [-1, 1]; NaN where one side is constant.

    Examples
    --------
    >>> spearman(np.array([[1.0, 2, 3]]), np.array([[1.0, 9, 5]])).tolist()
    [[0.5]]
    """
    return _compare_scores(
        a,
        b,
        weights,
        combine=weighted_cosine,
        scale=centered_ranks,
    )


def pearson(a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Correlate dissimilarities.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs over the same pairs.
    weights : ndarray, shape (n_resamples, n_pairs), optional
        Number of copies of each pair.

    Returns
    -------
    ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
        In [-1, 1]; NaN where one side is constant.
    """
    return _compare_scores(
        a,
        b,
        weights,
        combine=weighted_cosine,
        scale=centered,
    )


def cosine(a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Compute the cosine of the angle between dissimilarities, whose mean is not removed.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs over the same pairs.
    weights : ndarray, shape (n_resamples, n_pairs), optional
        Number of copies of each pair.

    Returns
    -------
    ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
        In [-1, 1]; NaN where one side is zero throughout.
    """
    return _compare_scores(
        a,
        b,
        weights,
        combine=weighted_cosine,
        scale=raw,
    )


def rho_a(a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Compute rho-a: Spearman's rho expected when ties are broken at random.

    It does not favor RDMs with many ties.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs over the same pairs.
    weights : ndarray, shape (n_resamples, n_pairs), optional
        Number of copies of each pair.

    Returns
    -------
    ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
        In [-1, 1].

    References
    ----------
    Schütt et al. (2023), eLife 12:e82566.
    """
    return _compare_scores(
        a,
        b,
        weights,
        combine=rank_product,
        scale=centered_ranks,
    )


def _compare_scores(
    a: np.ndarray,
    b: np.ndarray,
    weights: np.ndarray | None,
    *,
    combine: Callable[..., np.ndarray],
    scale: Callable[[np.ndarray], Scores],
) -> np.ndarray:
    """Compare scaled RDMs, in each resample where there are weights."""
    check_sides(a, b, weights)
    return over_blocks(
        combine,
        scale(a),
        scale(b),
        len(a) + len(b),
        a.shape[1],
        weights,
    )


# ----------------------------------------------------------------------------- prepared vectors


def whitened_vectors(x: np.ndarray, *, center: bool) -> Sides:
    """Scale to length 1 in the metric of the errors: the inner product is the whitened comparator.

    Parameters
    ----------
    x : ndarray, shape (n_rdms, n_pairs)
        Condensed RDMs of all pairs of n images.
    center : bool
        Whether the mean is taken off first (whitened Pearson).

    Returns
    -------
    tuple of ndarray, shape (n_rdms, n_pairs)
        Dissimilarities, and the same times the inverse covariance of their errors; NaN where an RDM
        has the length 0.
    """
    whiten = Whitened(x, center)
    once = np.ones((1, x.shape[1]))
    (values,), (white,) = whiten(once)
    squares = np.einsum("rp,rp->r", values, white)
    squares = squares[:, np.newaxis]
    left = divide_by_root(values, squares)
    right = divide_by_root(white, squares)
    return left, right


# ------------------------------------------------------------------------------------- the table


@dataclass(frozen=True, kw_only=True)
class Comparator:
    """One way to compare RDMs: the entry from which everything that compares RDMs works.

    Only `compute` and `help` are needed. The rest makes permutations and resamples fast, or says
    what the numbers of the comparator mean.

    Parameters
    ----------
    compute : callable
        ``(a, b, weights=None)`` on condensed RDMs, (n_a, n_pairs) and (n_b, n_pairs), to
        similarities (n_a, n_b); with weights (n_resamples, n_pairs) to (n_resamples, n_a, n_b).
    help : str
        One line that says what the comparator does.
    scale : str
        One of `SCALES`: how RDMs are scaled before subjects are averaged for a noise ceiling.
    needs_zero : bool
        Whether the zero of the dissimilarities has to mean something, so that no mean of sessions
        may be taken off.
    weighs_pairs : bool
        Whether weights of pairs may be any numbers. False for comparators that know a pair's weight
        only as the product of the copies of its images: the noise of pairs is then not taken off.
    prepare : callable, optional
        RDMs (n_rdms, n_pairs) to two arrays of vectors of this shape, whose inner product is the
        similarity in whatever order the conditions come. Without it every permutation is compared
        anew.
    rsatoolbox : str
        Its name in rsatoolbox, where that differs.
    resample : callable, optional
        ``(models, data, regions)`` to a quick `Resamples`. Without it every resample is compared
        with `compute`.

    Examples
    --------
    >>> import numpy as np
    >>> from neurometamer.rsa import COMPARATORS, Comparator
    >>> a, b = np.array([[1.0, 2, 3]]), np.array([[1.0, 9, 5]])
    >>> COMPARATORS["spearman"](a, b).tolist(), COMPARATORS["spearman"].linear
    ([[0.5]], True)
    >>> inner = Comparator(compute=lambda a, b, weights=None: a @ b.T, help="inner product")
    >>> inner(a, b).tolist(), inner.linear
    ([[34.0]], False)
    """

    compute: Callable[..., np.ndarray]
    help: str
    scale: str = "rank-transformed"
    needs_zero: bool = False
    weighs_pairs: bool = True
    prepare: Callable[[np.ndarray], Sides] | None = None
    rsatoolbox: str = ""
    resample: Callable[..., Resamples] | None = None

    def __post_init__(self) -> None:
        if self.scale not in SCALES:
            raise unknown_name("scale", self.scale, SCALES)

    def __call__(
        self, a: np.ndarray, b: np.ndarray, weights: np.ndarray | None = None
    ) -> np.ndarray:
        """Compare every RDM of one side with every RDM of the other.

        Parameters
        ----------
        a : ndarray, shape (n_a, n_pairs)
            Condensed RDMs.
        b : ndarray, shape (n_b, n_pairs)
            Condensed RDMs over the same pairs.
        weights : ndarray, shape (n_resamples, n_pairs), optional
            Number of copies of each pair.

        Returns
        -------
        ndarray, shape (n_a, n_b) or (n_resamples, n_a, n_b)
            Similarities; NaN where undefined.
        """
        return self.compute(a, b, weights)

    @property
    def linear(self) -> bool:
        """Whether a similarity is an inner product over pairs, each pair on its own.

        Returns
        -------
        bool
            True for comparators that a searchlight can use.
        """
        return self.prepare is not None and self.weighs_pairs

    def resamples(
        self, models: np.ndarray, data: np.ndarray, regions: Sequence[np.ndarray]
    ) -> Resamples:
        """Prepare the comparison of models with data in resamples of the images.

        Parameters
        ----------
        models : ndarray, shape (n_models, n_pairs)
            Condensed RDMs.
        data : ndarray, shape (n_data, n_pairs)
            Condensed RDMs.
        regions : sequence of ndarray of int
            Rows of `data` that share a noise ceiling; none for no ceilings.

        Returns
        -------
        Resamples
            The quick way of this comparator, or the one that fits all.
        """
        if self.resample is not None:
            return self.resample(models, data, regions)
        return Resamples(
            models,
            data,
            regions,
            compute=self.compute,
            scale=self.scale,
        )


COMPARATORS: dict[str, Comparator] = {
    "spearman": Comparator(
        compute=spearman,
        help="correlation of ranks",
        prepare=unit_ranks,
        resample=partial(RankResamples, without_ties=False),
    ),
    "pearson": Comparator(
        compute=pearson,
        help="correlation of dissimilarities",
        rsatoolbox="corr",
        scale="z-scored",
        prepare=unit_centered,
        resample=partial(ProductResamples, center=True),
    ),
    "tau-a": Comparator(
        compute=tau_a,
        help="Kendall's tau-a: share of concordant minus discordant pairs of pairs",
    ),
    "rho-a": Comparator(
        compute=rho_a,
        help="correlation of ranks that does not favor RDMs with ties",
        prepare=ranks_without_ties,
        resample=partial(RankResamples, without_ties=True),
    ),
    "cosine": Comparator(
        compute=cosine,
        help="cosine of the angle between dissimilarities",
        scale="unit-length",
        needs_zero=True,
        prepare=unit,
        resample=partial(ProductResamples, center=False),
    ),
    "whitened-cosine": Comparator(
        compute=whitened_cosine,
        help="cosine, whitened by the covariance of the errors",
        rsatoolbox="cosine_cov",
        scale="unit-length",
        needs_zero=True,
        weighs_pairs=False,
        prepare=partial(whitened_vectors, center=False),
        resample=partial(WhitenedResamples, center=False),
    ),
    "whitened-pearson": Comparator(
        compute=whitened_pearson,
        help="correlation, whitened by the covariance of the errors",
        rsatoolbox="corr_cov",
        scale="z-scored",
        weighs_pairs=False,
        prepare=partial(whitened_vectors, center=True),
        resample=partial(WhitenedResamples, center=True),
    ),
}
"""Name of a comparator to its entry. An entry added here is known everywhere."""

ALIASES = {entry.rsatoolbox: name for name, entry in COMPARATORS.items() if entry.rsatoolbox}
"""rsatoolbox's name of a comparator to ours, where they differ; its ``kendall`` is tau-b."""


def comparator_name(comparator: str) -> str:
    """Find our name of a comparator.

    Parameters
    ----------
    comparator : str
        One of `COMPARATORS`, or one of rsatoolbox's names (`ALIASES`).

    Returns
    -------
    str
        One of `COMPARATORS`.

    Raises
    ------
    InputError
        For an unknown name, with the nearest known one.

    Examples
    --------
    >>> comparator_name("corr_cov")
    'whitened-pearson'
    """
    if comparator in COMPARATORS:
        return comparator
    for name, entry in COMPARATORS.items():
        if entry.rsatoolbox == comparator and comparator:
            return name
    raise unknown_name("comparison", comparator, COMPARATORS)


def find_comparator(comparator: str) -> Comparator:
    """Find a comparator by its name.

    Parameters
    ----------
    comparator : str
        One of `COMPARATORS`, or one of rsatoolbox's names (`ALIASES`).

    Returns
    -------
    Comparator
        The entry, which is called as ``(a, b, weights=None)`` on condensed RDMs.

    Raises
    ------
    InputError
        For an unknown name, with the nearest known one.

    Examples
    --------
    >>> find_comparator("corr")(np.array([[1.0, 2, 3]]), np.array([[2.0, 4, 6]])).round(6).tolist()
    [[1.0]]
    """
    return COMPARATORS[comparator_name(comparator)]


def linear_comparators() -> list[str]:
    """List the comparators that are an inner product over pairs, which permute fast.

    Returns
    -------
    list of str
        Names in `COMPARATORS`.

    Examples
    --------
    >>> linear_comparators()
    ['spearman', 'pearson', 'rho-a', 'cosine']
    """
    names = []
    for name, entry in COMPARATORS.items():
        if entry.linear:
            names.append(name)
    return names


# ------------------------------------------------------------------------------ permuted conditions
# What does not depend on the order (ranks, centering, length) is done once; a permutation is then
# one gather and one matrix product.


@checked
def permuted_comparison(
    a: np.ndarray, b: np.ndarray, orders: np.ndarray, comparator: str = "spearman"
) -> np.ndarray:
    """Compare RDMs after the conditions of one side are put in each order.

    Parameters
    ----------
    a : ndarray, shape (n_a, n_pairs)
        Condensed RDMs; their rows and columns are permuted together.
    b : ndarray, shape (n_b, n_pairs)
        Condensed RDMs, the conditions in the same order as in `a`.
    orders : ndarray of int, shape (n_permutations, n)
        Rows that hold 0 to n - 1 once: the condition of `a` in each position of `b`.
    comparator : str
        One of `COMPARATORS`. Those without prepared vectors (tau-a) compare each permutation anew,
        which is slow.

    Returns
    -------
    ndarray, shape (n_permutations, n_a, n_b)
        The same values as of `COMPARATORS` on permuted RDMs; NaN where one side is constant.

    Raises
    ------
    InputError
        For an unknown comparator, shapes that do not fit, or a row of `orders` that is no order of
        the conditions.

    Examples
    --------
    >>> rdms = np.array([[1.0, 2, 3, 4, 5, 6]])
    >>> orders = np.array([[0, 1, 2, 3], [3, 2, 1, 0]])
    >>> permuted_comparison(rdms, rdms, orders).round(3).ravel().tolist()
    [1.0, -0.943]
    """
    entry = find_comparator(comparator)
    a = np.asarray(a, dtype=np.float64)
    b = np.asarray(b, dtype=np.float64)
    orders = np.asarray(orders)
    check_sides(a, b)
    n = n_images(a.shape[1])
    if orders.ndim != 2 or orders.shape[1] != n:
        raise InputError(
            f"orders has the shape {orders.shape}; RDMs of {n} conditions need (n_permutations, "
            f"{n})."
        )
    is_order = (np.sort(orders, axis=1) == np.arange(n)).all(axis=1)
    if not is_order.all():
        bad = np.flatnonzero(~is_order).tolist()
        raise InputError(
            f"rows {bad[:5]} of orders do not hold each of 0 to {n - 1} once; give orders of all "
            "conditions."
        )
    if len(a) > len(b):  # move the smaller side: the other order undoes this one
        backwards = np.argsort(orders, axis=1)
        return permuted_comparison(b, a, backwards, comparator).transpose(0, 2, 1)
    similarity = np.empty((len(orders), len(a), len(b)))
    if entry.prepare is None:
        flat = square(a).reshape(len(a), -1)
        for values, pairs in zip(similarity, _permuted_positions(orders)):
            values[:] = entry(flat.take(pairs, axis=1), b)
        return similarity
    left = entry.prepare(a)[0]
    right = entry.prepare(b)[1]
    # pair by pair: all RDMs of a pair lie together
    moved = square(left).reshape(len(a), -1).T.copy()
    for values, pairs in zip(similarity, _permuted_positions(orders)):
        values[:] = (right @ moved.take(pairs, axis=0)).T
    return similarity


def _permuted_positions(orders: np.ndarray) -> Iterator[np.ndarray]:
    """Give the positions of the condensed pairs in a flattened square RDM, order by order."""
    n = orders.shape[1]
    first, second = np.triu_indices(n, 1)
    for order in orders.astype(np.intp):
        starts = order * n
        index = starts.take(first)
        index += order.take(second)
        yield index


def prepared(vectors: np.ndarray, comparator: str) -> np.ndarray:
    """Prepare condensed RDMs so that their inner product is the comparator.

    A permutation of pairs keeps what is prepared.

    Parameters
    ----------
    vectors : ndarray, shape (..., n_pairs)
        Condensed RDMs.
    comparator : str
        One of `linear_comparators`.

    Returns
    -------
    ndarray, shape (..., n_pairs)
        NaN where an RDM is constant.

    Raises
    ------
    InputError
        For another comparator.

    Examples
    --------
    >>> prepared(np.array([3.0, 0, 4]), "cosine").tolist()
    [0.6, 0.0, 0.8]
    """
    entry = find_comparator(comparator)
    if entry.prepare is None or not entry.linear:
        raise unknown_name("comparison", comparator, linear_comparators())
    values = np.asarray(vectors, dtype=np.float64)
    first, _ = entry.prepare(np.atleast_2d(values))
    return first.reshape(values.shape)


# ----------------------------------------------------------------------------------- noise ceilings

POOLS = {
    "scaled": "RDMs made comparable for the comparator (ranks, z-scores or unit length) before "
    "averaging; rsatoolbox",
    "raw": "dissimilarities averaged as they are",
}
"""Name of a way to average subjects' RDMs to what it does."""


def subject_ceilings(
    vectors: np.ndarray, comparator: str = "spearman", pool: str = "scaled"
) -> tuple[np.ndarray, np.ndarray]:
    """Compare each subject's RDM with the pool of the others and with the pool of all.

    Parameters
    ----------
    vectors : ndarray, shape (n_subjects, n_pairs)
        Condensed RDMs of one ROI, at least 2 subjects.
    comparator : str
        One of `COMPARATORS`.
    pool : str
        One of `POOLS`.

    Returns
    -------
    tuple of ndarray, shape (n_subjects,)
        Lower (others) and upper (all, the subject itself included) bound of each subject.

    Raises
    ------
    InputError
        For an unknown name, fewer than 2 subjects, or RDMs that are constant or not finite.
    """
    compare = find_comparator(comparator)
    vectors = np.asarray(vectors, dtype=np.float64)
    check_sides(vectors, vectors, names="the subjects' RDMs and themselves")
    if len(vectors) < 2:
        raise InputError(
            f"a noise ceiling over subjects needs at least 2 subjects; there is {len(vectors)}."
        )
    is_flat = np.ptp(vectors, axis=1) == 0
    if is_flat.any():
        flat = np.flatnonzero(is_flat)
        raise InputError(
            f"all dissimilarities are equal in row(s) {name_ids(flat)}; leave those subjects out."
        )
    if pool not in POOLS:
        raise unknown_name("pool", pool, POOLS)
    scaled = vectors
    if pool == "scaled":
        scaled = poolable(vectors, comparator)
    others = (scaled.sum(axis=0) - scaled) / (len(scaled) - 1)
    low = np.empty(len(vectors))
    for k in range(len(vectors)):
        low[k] = compare(others[k : k + 1], vectors[k : k + 1])[0, 0]
    pooled = scaled.mean(axis=0, keepdims=True)
    return low, compare(vectors, pooled)[:, 0]


def poolable(vectors: np.ndarray, comparator: str) -> np.ndarray:
    """Scale RDMs so that their mean is most similar to all of them.

    For tau-a this holds nearly; rsatoolbox does the same.

    Parameters
    ----------
    vectors : ndarray, shape (n_subjects, n_pairs)
        Condensed RDMs.
    comparator : str
        One of `COMPARATORS`.

    Returns
    -------
    ndarray, shape (n_subjects, n_pairs)
        RDMs of unit length, z-scored RDMs or centered ranks (`SCALES`).
    """
    entry = find_comparator(comparator)
    scale = SCALES[entry.scale]
    return scaled_once(scale, vectors)


def describe_ceiling(comparator: str, n_subjects: int) -> str:
    """Name the noise ceiling's convention, or say why there is none.

    Parameters
    ----------
    comparator : str
        One of `COMPARATORS`.
    n_subjects : int
        Number of subjects that have this ROI.

    Returns
    -------
    str
        Text for the column ``ceiling``.
    """
    if n_subjects < 2:
        return "undefined: a ceiling over subjects needs at least 2 subjects with this ROI"
    comparator = comparator_name(comparator)
    scale = COMPARATORS[comparator].scale
    return (
        f"Nili 2014, {comparator}: each subject's RDM with the mean {scale} RDM of the other "
        "subjects (low) "
        f"or of all (high), {n_subjects} subjects"
    )


@checked
def noise_ceiling(
    rdms: RDMs, comparator: str = "spearman", *, pool: str = "scaled"
) -> tuple[float, float]:
    """Compute what any model can reach in one ROI, given how much the subjects differ.

    Parameters
    ----------
    rdms : rsatoolbox.rdm.RDMs
        One RDM a subject, all of one ROI.
    comparator : str
        One of `COMPARATORS`.
    pool : str
        One of `POOLS`: how the subjects' RDMs are averaged.

    Returns
    -------
    tuple of float
        Lower bound (each subject with the mean of the others) and upper bound (with the mean of
        all), averaged over subjects; for rank comparisons the mean is of rank-transformed RDMs. NaN
        with a single subject.

    Raises
    ------
    InputError
        For an unknown name, RDMs of several ROIs, or RDMs that are constant or do not pass
        `check_rdms`.

    Notes
    -----
    ``pool="scaled"`` equals ``rsatoolbox.inference.boot_noise_ceiling``. Published ceilings are
    often of raw means: for the 92 images of Cichy et al. EVC is .242/.392 scaled and .239/.386 raw,
    IT .453/.542 and .449/.535.

    References
    ----------
    Nili et al. (2014), PLoS Comput Biol 10:e1003553.

    Examples
    --------
    >>> from neurometamer.rsa.compute import label_rdms
    >>> random = np.random.default_rng(0)
    >>> vectors = random.random(28) + random.random((3, 28))
    >>> ids, places = [f"im{i}" for i in range(8)], {"subject": ["S1", "S2", "S3"]}
    >>> rdms = label_rdms(vectors, conditions=ids, rdm_descriptors=places, measure="test")
    >>> low, high = noise_ceiling(rdms)
    >>> round(low, 2), round(high, 2)
    (0.58, 0.8)
    """
    check_rdms(rdms, "the RDMs of the noise ceiling")
    refuse_flat(rdms)
    rois = dict.fromkeys(str(roi) for roi in rdms.rdm_descriptors.get("roi", ()))
    if len(rois) > 1:
        raise InputError(
            f"a noise ceiling is of one ROI; these RDMs are of {name_ids(rois)}: take one at a "
            "time."
        )
    find_comparator(comparator)
    if rdms.n_rdm < 2:
        return float("nan"), float("nan")
    low, high = subject_ceilings(rdms.dissimilarities, comparator, pool)
    return float(low.mean()), float(high.mean())
