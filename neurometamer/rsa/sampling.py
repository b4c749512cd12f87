"""Resamples of photographs: single ones, photographs within their classes, or whole classes.

An interval is about other photographs "like these". Where photographs come in classes (faces, cups,
…) that can mean two things: other photographs of these very classes (``"fixed"``), or of other
classes (``"random"``). Photographs of a class share what makes it a class, so that the second is
far less certain than single photographs would suggest. It is about as many classes of the same
sizes: pairs within a class are alike in every RDM, and their share depends on that.

`project` compares RDMs without each of these in turn (`neurometamer.rsa.jackknife`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import generator
from neurometamer.rsa.jackknife import Projection
from neurometamer.stats.resampling import bootstrap_counts

if TYPE_CHECKING:
    import pandas as pd

CLASS_CLAIMS = {
    "fixed": "holds for these classes: photographs are resampled within them",
    "random": "holds for as many classes like these: classes are resampled with all their "
    "photographs; needs 10",
}
"""Name of a claim about classes to what it says."""

MIN_RANDOM_CLASSES = 10
"""Least number of classes that are resampled.

Fewer do not say how much classes vary: in simulations intervals cover from this number on.
"""

MOST_LEFT_OUT = 400
"""Largest number of clusters that are left out one by one; more are left out in groups."""

SIMULATED_FROM = 10
"""Least number of photographs for which intervals were simulated."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Sampling:
    """Clusters of photographs that are drawn together, within strata that are always there.

    Parameters
    ----------
    clusters : ndarray of int, shape (n,)
        Cluster of each photograph, numbered from 0: the photograph itself, or its class where
        classes are random.
    strata : ndarray of int, shape (n_clusters,)
        Stratum of each cluster, numbered from 0: its class where classes are fixed, else one for
        all.
    text : str
        What is resampled and claimed, for the column ``method``.
    lost : int
        Degrees of freedom that the data have lost before, e.g. to sessions.
    """

    clusters: np.ndarray
    strata: np.ndarray
    text: str
    lost: int = 0

    @property
    def sizes(self) -> np.ndarray:
        """Number of clusters in each stratum.

        Returns
        -------
        ndarray of int, shape (n_strata,)
            At least 2 where anything can be resampled.
        """
        return np.bincount(self.strata)

    @property
    def dof(self) -> int:
        """Degrees of freedom of the variance between clusters.

        Returns
        -------
        int
            Clusters minus strata, minus what was lost before; at least 1.
        """
        n_clusters = len(self.strata)
        n_strata = len(self.sizes)
        free = n_clusters - n_strata
        free -= self.lost
        return max(free, 1)

    @property
    def factors(self) -> np.ndarray:
        """Weights that turn squared deviations of values without one cluster into a variance.

        Returns
        -------
        ndarray, shape (n_clusters,)
            (k - 1) / k for k clusters in one stratum, as in the jackknife.
        """
        k = len(self.strata)
        sizes = self.sizes.astype(np.float64)
        of_stratum = sizes / np.maximum(sizes - 1, 1)
        of_stratum *= ((k - 1) / k) ** 2
        free = k - len(sizes)
        left = max(free - self.lost, 1)
        return of_stratum[self.strata] * free / left

    def grouped(self, seed: int) -> Sampling:
        """Put clusters together at random, where there are too many to leave each one out.

        Parameters
        ----------
        seed : int
            Seed of the groups.

        Returns
        -------
        Sampling
            At most about `MOST_LEFT_OUT` clusters, each of one stratum: the delete-a-group
            jackknife (Kott 2001, J Off Stat 17:521); itself where it has no more.
        """
        k = len(self.strata)
        if k <= MOST_LEFT_OUT:
            return self
        random = generator(seed, "groups", k)
        group = np.empty(k, dtype=int)
        strata: list[int] = []
        for stratum, size in enumerate(self.sizes.tolist()):
            share = round(MOST_LEFT_OUT * size / k)
            n_groups = min(size, max(2, share))
            is_member = self.strata == stratum
            members = np.flatnonzero(is_member)
            members = random.permutation(members)
            numbers = np.arange(size) % n_groups
            group[members] = len(strata) + numbers
            strata += [stratum] * n_groups
        clusters = group[self.clusters]
        return replace(
            self,
            clusters=clusters,
            strata=np.array(strata),
        )

    def without(self, cluster: int) -> np.ndarray:
        """Leave a cluster out.

        Parameters
        ----------
        cluster : int
            Number of the cluster.

        Returns
        -------
        ndarray of bool, shape (n_pairs,)
            Pairs of the photographs that stay.
        """
        stays = self.clusters != cluster
        n = len(stays)
        first, second = np.triu_indices(n, 1)
        both = stays[first]
        both &= stays[second]
        return both

    def deviations(self, without: np.ndarray) -> np.ndarray:
        """Scale deviations of values without one cluster so that squares add up to a variance.

        Parameters
        ----------
        without : ndarray, shape (n_clusters, ...)
            Values without each cluster in turn.

        Returns
        -------
        ndarray, shape (n_clusters, ...)
            Deviations from the mean of each stratum.
        """
        shape = (-1, *[1] * (without.ndim - 1))
        factors = np.sqrt(self.factors)
        factors = factors.reshape(shape)
        scaled = np.empty(without.shape)
        n_strata = len(self.sizes)
        for stratum in range(n_strata):
            is_member = self.strata == stratum
            members = np.flatnonzero(is_member)
            values = without[members]
            mean = values.mean(axis=0)
            deviations = values - mean
            factor = factors[members]
            scaled[members] = deviations * factor
        return scaled

    def of_images(self, photographs: Sequence[str], distinct: Sequence[str]) -> Sampling:
        """Draw images together that are made of one photograph.

        Parameters
        ----------
        photographs : sequence of str, length n_images
            Photograph of each image.
        distinct : sequence of str, length n
            Photographs in the order of this sampling.

        Returns
        -------
        Sampling
            Sampling of images.
        """
        number = {name: i for i, name in enumerate(distinct)}
        rows = [number[name] for name in photographs]
        n_images = len(photographs)
        text = self.text
        if n_images > len(distinct):
            text += f", the {n_images} images of each photograph together"
        return replace(
            self,
            clusters=self.clusters[rows],
            text=text,
        )

    @property
    def in_classes(self) -> bool:
        """Whether classes matter.

        Returns
        -------
        bool
            True where photographs are drawn within several classes, or classes as a whole.
        """
        has_strata = len(self.sizes) > 1
        has_groups = len(self.strata) < len(self.clusters)
        return has_strata or has_groups

    def counts(self, n_resamples: int, seed: int) -> np.ndarray:
        """Draw clusters with replacement within strata.

        Parameters
        ----------
        n_resamples, seed : int
            Number of resamples and seed. The same numbers give the same draws everywhere; those of
            single photographs are those of `bootstrap_counts`.

        Returns
        -------
        ndarray of int, shape (n_resamples, n)
            Number of copies of each photograph.
        """
        if n_resamples < 0:
            raise InputError(f"n_resamples must be 0 or more, not {n_resamples}.")
        shape = (n_resamples, len(self.strata))
        drawn = np.empty(shape, dtype=np.int64)
        for stratum, size in enumerate(self.sizes.tolist()):
            is_member = self.strata == stratum
            drawn[:, is_member] = bootstrap_counts(
                size,
                n_resamples,
                seed + stratum,
            )
        return drawn[:, self.clusters]

    def scaled(self, values: np.ndarray, samples: np.ndarray, confidence: float) -> np.ndarray:
        """Correct the usual bootstrap for few clusters.

        Samples stay as they are where single photographs are drawn from all.

        Parameters
        ----------
        values : ndarray, shape (...)
            Values of all photographs.
        samples : ndarray, shape (n_resamples, ...)
            Values in resamples that `counts` draws.
        confidence : float
            Share of intervals that hold the truth; the ends become those of a t distribution.

        Returns
        -------
        ndarray, shape (n_resamples, ...)
            Farther from the values: by k / (k - 1) in variance for k clusters of a stratum, and by
            t.
        """
        from scipy.stats import norm, t

        if not self.in_classes:
            return samples
        tail = (1 + confidence) / 2
        ratio = t.ppf(tail, self.dof) / norm.ppf(tail)
        factor = np.sqrt(self.small_samples)
        factor *= ratio
        deviations = samples - values
        return values + factor * deviations

    @property
    def small_samples(self) -> float:
        """Correction of the usual bootstrap's variance for few clusters in a stratum.

        Returns
        -------
        float
            k / (k - 1) for k clusters, averaged over the clusters of all strata.
        """
        sizes = self.sizes.astype(np.float64)
        least = np.maximum(sizes - 1, 1)
        squares = sizes**2
        parts = squares / least
        total = np.sum(parts)
        n_all = sizes.sum()
        ratio = total / n_all
        return float(ratio)

    def pair_moves(self, draw: int, seed: int) -> np.ndarray:
        """Move pairs of clusters at random such that no cluster counts more than another.

        Parameters
        ----------
        draw : int
            Number of the draw.
        seed : int
            Seed; the same seed, number and clusters give the same moves everywhere.

        Returns
        -------
        ndarray, shape (n_pairs,)
            Mean 0; variance 1 but for what was taken off, which is put back on average.
        """
        k, n_strata = len(self.strata), len(self.sizes)
        first, second = np.triu_indices(k, 1)
        free = first.size - k - n_strata * (n_strata - 1) // 2
        if free < 1:
            n = len(self.clusters)
            return np.zeros(n * (n - 1) // 2)
        random = generator(seed, "pairs", k, draw)
        moves = random.uniform(-1, 1, first.size)
        moves *= np.sqrt(3)
        # number of the pair of strata of each pair of clusters
        blocks = np.zeros(first.size, dtype=np.intp)
        if n_strata > 1:
            left = self.strata[first]
            right = self.strata[second]
            codes = np.minimum(left, right) * n_strata + np.maximum(left, right)
            blocks = np.unique(codes, return_inverse=True)[1].ravel()
        for _ in range(PROJECTIONS if n_strata > 1 else 1):
            sums = np.bincount(first, moves, k)
            sums += np.bincount(second, moves, k)
            of_cluster = sums / (k - 2)
            moves -= of_cluster[first] + of_cluster[second]
            moves += of_cluster.sum() / (k - 1)
            if n_strata > 1:
                totals = np.bincount(blocks, moves)
                of_block = totals / np.bincount(blocks)
                moves -= of_block[blocks]
        moves *= np.sqrt(first.size / free)
        if np.array_equal(self.clusters, np.arange(k)):
            return moves
        # pairs of photographs move with their clusters; pairs within a cluster stay
        square = np.zeros((k, k))
        square[first, second] = moves
        square[second, first] = moves
        n = len(self.clusters)
        first, second = np.triu_indices(n, 1)
        return square[self.clusters[first], self.clusters[second]]


PROJECTIONS = 10
"""Number of times that means of clusters and of blocks are taken off in turn.

What is left of them is below 1e-4.
"""


def sample_photographs(
    names: Sequence[str],
    classes: Mapping[str, str] | None = None,
    claim: str = "fixed",
    *,
    option: str = "classes (--classes)",
) -> Sampling:
    """Choose what resamples of photographs draw.

    Parameters
    ----------
    names : sequence of str, length n
        Names of the photographs.
    classes : mapping of str to str, optional
        Photograph to class; none are known without.
    claim : str
        One of `CLASS_CLAIMS`.
    option : str
        Name of the claim in messages, as the user gave it.

    Returns
    -------
    Sampling
        Classes in order of their names.

    Raises
    ------
    InputError
        For an unknown claim, photographs without a class, and the claim ``"random"`` without
        classes or with fewer than 10.

    Notes
    -----
    Where all photographs are of one class, or each is of a class of its own, both claims come to
    resampling photographs. Photographs that are alone in their class make up one stratum together:
    nothing tells how a class of one varies.

    Examples
    --------
    >>> cats = {f"im{i}": "cat" if i < 3 else "cup" for i in range(6)}
    >>> sampling = sample_photographs(sorted(cats), cats)
    >>> sampling.counts(4, seed=0)[:, :3].sum(axis=1).tolist()
    [3, 3, 3, 3]
    >>> sampling.dof
    4
    """
    if claim not in CLASS_CLAIMS:
        raise unknown_name("claim about classes", claim, CLASS_CLAIMS)
    n = len(names)
    single = np.arange(n)
    in_one_stratum = np.zeros(n, dtype=int)
    if classes is None:
        if claim == "random":
            raise InputError(
                f"{option} 'random' resamples classes, and the photographs' classes are not known; "
                "give them (column category of the stimulus table), or take the claim 'fixed'."
            )
        text = f"{n} photographs, taken for independent draws (no classes are known)"
        return Sampling(
            clusters=single,
            strata=in_one_stratum,
            text=text,
        )
    lacking = [name for name in names if not str(classes.get(name, ""))]
    if lacking:
        raise InputError(
            f"no class for the photographs {name_ids(lacking)}; fill the column of classes for all "
            "of them, or leave it out for all."
        )
    labels = [str(classes[name]) for name in names]
    known, codes = np.unique(labels, return_inverse=True)
    if len(known) == n:
        text = f"{n} photographs, each of a class of its own, so classes are resampled too"
        return Sampling(
            clusters=single,
            strata=in_one_stratum,
            text=text,
        )
    if claim == "fixed":
        return _within_classes(known, codes.ravel())
    if len(known) < MIN_RANDOM_CLASSES:
        raise InputError(
            f"{option} 'random' needs at least {MIN_RANDOM_CLASSES} classes; there are "
            f"{len(known)} ({name_ids(known)}). So few do not say how much classes differ: take "
            "the claim 'fixed', which is about other photographs of these classes."
        )
    text = (
        f"{len(known)} classes with their {n} photographs (claim 'random': as many classes like "
        "these)"
    )
    return Sampling(
        clusters=codes.ravel(),
        strata=np.zeros(len(known), dtype=int),
        text=text,
    )


def sample_images(
    labels: pd.DataFrame, claim: str = "fixed", *, option: str = "classes (--classes)"
) -> Sampling:
    """Choose what resamples of images draw, where several may be made of one photograph.

    Parameters
    ----------
    labels : pandas.DataFrame
        Columns condition, reference_id and category, empty where not known (`stimulus_labels`).
    claim : str
        One of `CLASS_CLAIMS`.
    option : str
        Name of the claim in messages, as the user gave it.

    Returns
    -------
    Sampling
        Sampling of the rows; images of one photograph are drawn together.

    Raises
    ------
    InputError
        For the same reasons as `sample_photographs`.
    """
    conditions = labels["condition"]
    references = labels["reference_id"]
    categories = labels["category"]
    is_known = references != ""
    photographs = references.where(is_known, conditions).tolist()
    distinct = sorted(set(photographs))
    classes = None
    if (categories != "").any():
        classes = dict(zip(photographs, categories))
    sampling = sample_photographs(
        distinct,
        classes,
        claim,
        option=option,
    )
    return sampling.of_images(photographs, distinct)


def _within_classes(known: np.ndarray, codes: np.ndarray) -> Sampling:
    """Make classes strata; photographs alone in their class share one."""
    n = len(codes)
    text = f"{n} photographs within {len(known)} classes (claim 'fixed': these very classes)"
    if len(known) == 1:
        text = f"{n} photographs, all of one class (claim 'fixed': this very class)"
    sizes = np.bincount(codes)
    is_alone = sizes == 1
    if is_alone.any():
        if is_alone.sum() == 1:  # it needs company: that of the smallest other class
            is_alone = sizes <= np.sort(sizes)[1]
            smallest = np.flatnonzero(is_alone)
            by_size = np.argsort(sizes[smallest], kind="stable")
            larger = smallest[by_size[2:]]
            is_alone[larger] = False
        text += f", the photographs of {name_ids(known[is_alone])} drawn as if of one class"
        strata = np.where(is_alone[codes], len(known), codes)
        _, numbers = np.unique(strata, return_inverse=True)
        codes = numbers.ravel()
    return Sampling(
        clusters=np.arange(n),
        strata=codes,
        text=text,
    )


# ----------------------------------------------------------------------------- what samples change

Compare = Callable[..., np.ndarray]
"""(weights of pairs or None) to values (...), or (n_weights, ...)."""
Progress = Callable[[int, int], None]

PAIR_DRAWS = 400
"""Largest number of draws for the variance from pairs, which needs no tails."""


PAIR_STEP = 0.25
"""How far the weights of pairs are moved.

It is little, so that weights stay positive and the statistic is nearly linear.
"""


def project(
    compare: Compare,
    sampling: Sampling,
    n_draws: int,
    seed: int,
    *,
    of_pairs: bool = True,
    progress: Progress | None = None,
) -> Projection:
    """Compare RDMs without each image in turn, and with the weights of pairs moved alone.

    Parameters
    ----------
    compare : callable
        Weights of pairs (n_weights, n_pairs), or None for all once, to similarities (n_weights,
        ...) or (...).
    sampling : Sampling
        Images that vary, and those that vary together.
    n_draws : int
        Draws of the noise of pairs, of which at most `PAIR_DRAWS` are made; 0 to compare once and
        resample nothing.
    seed : int
        Seed; the same seed and number of images give the same draws everywhere.
    of_pairs : bool
        Whether pairs can be weighed on their own (`Comparator.weighs_pairs`).
    progress : callable, optional
        Receives (comparisons done, comparisons in all).

    Returns
    -------
    Projection
        Projection of everything that was compared.

    Raises
    ------
    InputError
        When `n_draws` is negative.
    """
    if n_draws < 0:
        raise InputError(f"n_resamples (--n-resamples) must be 0 or more, not {n_draws}.")
    values = compare(None)
    if not n_draws:
        return Projection(values=values, deviations=None, noise=None, dof=sampling.dof)
    groups = sampling.grouped(seed)
    n = len(sampling.clusters)
    n_pairs = n * (n - 1) // 2
    n_groups = len(groups.strata)
    n_noise = min(n_draws, PAIR_DRAWS) if of_pairs else 0

    def _tell(done: int) -> None:
        if progress is not None:
            progress(done, n_groups + n_noise)

    def _without_groups(rows: slice) -> np.ndarray:
        _tell(rows.start)
        numbers = range(rows.start, rows.stop)
        weights = [groups.without(k) for k in numbers]
        return np.array(weights, dtype=np.float64)

    def _moved_pairs(rows: slice) -> np.ndarray:
        _tell(n_groups + rows.start)
        numbers = range(rows.start, rows.stop)
        moves = [sampling.pair_moves(k, seed) for k in numbers]
        steps = PAIR_STEP * np.array(moves)
        weights = 1 + steps
        return np.maximum(weights, 0)

    without = compare(LazyWeights((n_groups, n_pairs), _without_groups))
    deviations = groups.deviations(without)
    noise = None
    if n_noise:
        moved = compare(LazyWeights((n_noise, n_pairs), _moved_pairs))
        noise = (moved - values) / PAIR_STEP
    _tell(n_groups + n_noise)
    return Projection(
        values=values,
        deviations=deviations,
        noise=noise,
        dof=sampling.dof,
    )


class LazyWeights:
    """Weights of pairs that are made when their resamples are compared.

    All of them may not fit into memory.

    Parameters
    ----------
    shape : tuple of int
        Number of resamples and of pairs.
    make : callable
        Function of a slice of resamples that makes their weights.
    """

    ndim = 2

    def __init__(self, shape: tuple[int, int], make: Callable[[slice], np.ndarray]) -> None:
        self.shape = shape
        self._make = make

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: slice | int) -> np.ndarray:
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            several = slice(start, stop)
            return self._make(several)
        if rows >= len(self):
            raise IndexError(rows)
        single = slice(rows, rows + 1)
        weights = self._make(single)
        return weights[0]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        weights = self[:]
        return np.asarray(weights, dtype=dtype)


def describe_interval(
    sampling: Sampling, n_draws: int, confidence: float, *, of_pairs: bool = True
) -> str:
    """Describe in words how an interval is made.

    Parameters
    ----------
    sampling : Sampling
        What is resampled.
    n_draws : int
        See `project`.
    confidence : float
        Share of intervals that hold the truth, in (0, 1).
    of_pairs : bool
        See `project`.

    Returns
    -------
    str
        Text for the column ``method``.

    Examples
    --------
    >>> from neurometamer.rsa.sampling import sample_photographs
    >>> describe_interval(sample_photographs(["im1", "im2"]), 0, 0.95)
    'no interval'
    """
    if not n_draws:
        return "no interval"
    text = f"{confidence:.0%} t interval ({sampling.dof} dof), jackknife over {sampling.text}"
    if of_pairs:
        text += ", noise of pairs corrected"
    else:
        text += ", too wide: it counts the noise of pairs twice"
    if len(sampling.clusters) < SIMULATED_FROM:
        text += f"; intervals from fewer than {SIMULATED_FROM} were not simulated"
    return text
