"""The work of the bootstrap: similarity and noise ceiling of each subject in each resample, by family of comparators.

Rank comparisons sort every RDM once; a resample picks the pairs that were drawn out of that order
and sums their copies. Pooled RDMs, whose order is new in each resample, are sorted as whole numbers
with the pair's place in the low bits. All other comparisons come from the inner products of the
RDMs, pools included.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurometamer.rsa.comparators import ranks as weighted
from neurometamer.rsa.comparators.kendall import kendall
from neurometamer.rsa.comparators.ranks import centered_ranks
from neurometamer.rsa.comparators.whitened import Whitened, n_images
from neurometamer.stats.resampling import pair_weights
from neurometamer.summaries import short_repr

MIN_IMAGES = 3
"""A resample with fewer distinct images has at most one distinct pair: left out, as in rsatoolbox."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class Resampled:
    """Values of each subject in each resample.

    Attributes
    ----------
    similarity : ndarray, shape (n_resamples, n_models, n_data)
        NaN where undefined.
    bounds : ndarray, shape (2, n_resamples, n_data), or None
        Lower and upper noise ceiling; NaN for subjects that were not drawn.
    subject_counts : ndarray, shape (n_resamples, n_data), or None
        Copies of each subject.
    """

    similarity: np.ndarray
    bounds: np.ndarray | None
    subject_counts: np.ndarray | None

    def mean(self, place: np.ndarray) -> np.ndarray:
        """Average over subjects, as often as they were drawn.

        Parameters
        ----------
        place : ndarray of int
            Rows of the data to average.

        Returns
        -------
        ndarray, shape (n_resamples, n_models)
            NaN where none was drawn.
        """
        if self.subject_counts is None:
            return self.similarity[:, :, place].mean(axis=2)
        copies = self.subject_counts[:, place].astype(np.float64)
        with np.errstate(invalid="ignore"):
            return np.einsum("rmd,rd->rm", self.similarity[:, :, place], copies) / copies.sum(
                axis=1, keepdims=True
            )

    def mean_bounds(self, place: np.ndarray) -> np.ndarray:
        """Average the ceilings over the distinct subjects that were drawn.

        Parameters
        ----------
        place : ndarray of int
            Rows of the data to average.

        Returns
        -------
        ndarray, shape (2, n_resamples)
            NaN where undefined.
        """
        if self.bounds is None:
            raise ValueError("no ceilings were computed")
        found = self.bounds[:, :, place]
        if self.subject_counts is None:
            return found.mean(axis=2)
        drawn = self.subject_counts[:, place] > 0
        with np.errstate(invalid="ignore"):
            return np.where(drawn, found, 0).sum(axis=2) / drawn.sum(axis=1)


def resampled(
    models: np.ndarray,
    data: np.ndarray,
    counts: np.ndarray,
    by: str,
    places: Sequence[np.ndarray] | None,
    subject_counts: np.ndarray | None,
) -> Resampled:
    """Compare in every resample.

    Parameters
    ----------
    models : ndarray, shape (n_models, n_pairs)
        Condensed RDMs, finite.
    data : ndarray, shape (n_data, n_pairs)
        Condensed RDMs, finite.
    counts : ndarray of int, shape (n_resamples, n)
        How often each image was drawn.
    by : str
        One of `COMPARATORS`.
    places : sequence of ndarray, or None
        Rows of `data` that share a noise ceiling; None for no ceilings.
    subject_counts : ndarray of int, shape (n_resamples, n_data), or None
        How often each row of `data` was drawn.

    Returns
    -------
    Resampled
        Similarity and ceilings.
    """
    work = _FAMILIES[by](models, data, by, places)
    similarity = np.full((len(counts), len(models), len(data)), np.nan)
    bounds = None if places is None else np.full((2, len(counts), len(data)), np.nan)
    defined = np.flatnonzero((counts > 0).sum(axis=1) >= MIN_IMAGES)
    for rows in work.blocks(defined):
        people = np.ones((len(rows), len(data))) if subject_counts is None else subject_counts[rows]
        similarity[rows], found = work.compare(counts[rows], people.astype(np.float64))
        if bounds is not None:
            bounds[:, rows] = found
    if bounds is not None and places is not None and subject_counts is None:
        for place in places:
            if len(place) < 2:
                bounds[:, :, place] = np.nan  # one subject has no ceiling
    return Resampled(similarity=similarity, bounds=bounds, subject_counts=subject_counts)


class _Family:
    """What families of comparators share: the RDMs, and blocks of resamples small enough for memory."""

    width = 4
    """Arrays of the size of all RDMs that a resample needs at a time."""

    def __init__(
        self, models: np.ndarray, data: np.ndarray, by: str, places: Sequence[np.ndarray] | None
    ) -> None:
        self.models, self.data, self.by = models, data, by
        self.places = [] if places is None else places

    def blocks(self, defined: np.ndarray) -> Iterator[np.ndarray]:
        step = max(
            1,
            weighted.BLOCK
            // (self.width * (len(self.models) + len(self.data)) * self.data.shape[1]),
        )
        for start in range(0, len(defined), step):
            yield defined[start : start + step]

    def compare(self, counts: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError


# -------------------------------------------------------------------------------------------- ranks


class _Ranked(_Family):
    """Spearman and rho-a. Ranks are held doubled and centered: whole numbers, so that ties are exact."""

    def __init__(
        self, models: np.ndarray, data: np.ndarray, by: str, places: Sequence[np.ndarray] | None
    ) -> None:
        super().__init__(models, data, by, places)
        rows = np.concatenate([models, data])
        self.order = np.argsort(rows, axis=1, kind="stable").astype(np.int32)
        ordered = np.take_along_axis(rows, self.order, axis=1)
        groups = np.cumsum(
            np.diff(ordered, axis=1, prepend=ordered[:, :1]) != 0, axis=1, dtype=np.int32
        )
        self.groups = groups if (groups[:, -1] < rows.shape[1] - 1).any() else None
        self.first, self.second = np.triu_indices(n_images(rows.shape[1]), 1)

    def compare(self, counts: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n_models, n_data = len(self.models), len(self.data)
        similarity, bounds = (
            np.empty((len(counts), n_models, n_data)),
            np.full((2, len(counts), n_data), np.nan),
        )
        for k, (images, subjects) in enumerate(zip(counts, people)):
            whole = images[self.first] * images[self.second]
            drawn = whole > 0
            ranks, whole = self._ranks(whole, drawn), whole[drawn]
            copies = whole.astype(np.float64)
            model, data = ranks[:n_models], ranks[n_models:]
            weighed = data * copies
            lengths = np.einsum("dp,dp->d", weighed, data)
            similarity[k] = self._scaled(
                model @ weighed.T,
                np.einsum("mp,mp,p->m", model, model, copies)[:, np.newaxis],
                lengths,
                copies,
            )
            for place in self.places:
                pooled, order = _pooled_ranks(data[place], subjects[place], whole)
                bounds[:, k, place] = self._ceilings(
                    pooled, order, weighed[place], lengths[place], subjects[place], copies
                )
        return similarity, bounds

    def _scaled(
        self, products: np.ndarray, left: np.ndarray, right: np.ndarray, copies: np.ndarray
    ) -> np.ndarray:
        """Divide products of doubled ranks."""
        if self.by == "rho-a":
            total = copies.sum()
            return 3 * products / (total**3 - total)
        lengths = np.sqrt(left * right)
        return np.divide(products, lengths, out=np.full(products.shape, np.nan), where=lengths > 0)

    def _ranks(self, copies: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Rank the pairs that were drawn, in the order of the pairs: (n_rdms, n_drawn)."""
        keep = drawn.take(self.order).ravel()
        order = self.order.ravel().compress(keep).reshape(len(self.order), -1)
        weights = copies.take(order)
        new = None
        if self.groups is not None:
            groups = self.groups.ravel().compress(keep).reshape(order.shape)
            new = groups[:, 1:] != groups[:, :-1]
        slots = (np.cumsum(drawn) - 1).take(order)
        slots += np.arange(len(order))[:, np.newaxis] * order.shape[1]
        ranks = np.empty(order.shape)
        ranks.ravel()[slots] = doubled_ranks(weights, new)
        return ranks

    def _ceilings(
        self,
        pooled: np.ndarray,
        order: np.ndarray,
        weighed: np.ndarray,
        lengths: np.ndarray,
        subjects: np.ndarray,
        copies: np.ndarray,
    ) -> np.ndarray:
        """Compare subjects with the pools of the others and of all: lower and upper bound (2, n_subjects)."""
        drawn = np.flatnonzero(subjects)
        found = np.full((2, len(subjects)), np.nan)
        own = np.einsum("dp,dp,dp->d", pooled, pooled, copies.take(order))
        rest = np.take_along_axis(weighed[drawn], order[:-1], axis=1)
        found[0, drawn] = self._scaled(
            np.einsum("dp,dp->d", pooled[:-1], rest), own[:-1], lengths[drawn], copies
        )
        products = weighed[drawn].take(order[-1], axis=1) @ pooled[-1]
        found[1, drawn] = self._scaled(products, own[-1], lengths[drawn], copies)
        return found


def _pooled_ranks(
    data: np.ndarray, subjects: np.ndarray, copies: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Rank pools anew, without each subject that was drawn, then of all: ranks in ascending order, and that order."""
    everyone, drawn = subjects @ data, np.flatnonzero(subjects)
    others = (
        everyone - subjects[drawn, np.newaxis] * data[drawn]
        if len(drawn) > 1
        else everyone[np.newaxis]
    )
    bits = int(data.shape[1]).bit_length()
    highest = int(subjects.sum() * copies.sum()).bit_length()
    whole: type[np.signedinteger[Any]] = np.int32 if highest + bits < 31 else np.int64
    keys = np.concatenate([others, everyone[np.newaxis]]).astype(whole)
    keys <<= bits  # the value above, the pair's place below: one sort of whole numbers gives both
    keys |= np.arange(data.shape[1], dtype=keys.dtype)
    keys.sort(axis=1)
    order = keys & ((1 << bits) - 1)
    keys >>= bits
    ranks = doubled_ranks(copies.take(order), keys[:, 1:] != keys[:, :-1])
    return ranks.astype(np.float64), order


def doubled_ranks(weights: np.ndarray, new: np.ndarray | None) -> np.ndarray:
    """Rank values in order that come in copies.

    Parameters
    ----------
    weights : ndarray, shape (n_rows, n)
        Copies of each value, the smallest value first.
    new : ndarray of bool, shape (n_rows, n - 1), or None
        Whether a value differs from the one before; None where all do.

    Returns
    -------
    ndarray, shape (n_rows, n)
        Twice the average rank over all copies, minus twice the mean rank; whole numbers.

    Examples
    --------
    >>> doubled_ranks(np.array([[1, 2, 1]]), np.array([[True, False]])).tolist()
    [[-3, 1, 1]]
    """
    end = np.cumsum(weights, axis=1)
    middle = end[:, -1:].copy()
    if new is None or new.all():
        end *= 2
        end -= weights
        end -= middle
        return end
    starts = np.where(np.pad(new, ((0, 0), (1, 0)), constant_values=True), end - weights, 0)
    below = np.maximum.accumulate(starts, axis=1)
    ends = np.where(np.pad(new, ((0, 0), (0, 1)), constant_values=True), end, middle)
    upto = np.minimum.accumulate(ends[:, ::-1], axis=1)[:, ::-1]
    return below + upto - middle


# ----------------------------------------------------------------------------------- inner products


class _Linear(_Family):
    """Pearson and cosine: a pool's inner products are sums of those of the RDMs."""

    def __init__(
        self, models: np.ndarray, data: np.ndarray, by: str, places: Sequence[np.ndarray] | None
    ) -> None:
        super().__init__(models, data, by, places)
        self.center = by == "pearson"
        rows = np.concatenate([models, data])
        self.rows = (
            rows - rows.mean(axis=1, keepdims=True) if self.center else rows
        )  # small numbers lose fewer digits
        self.first, self.second = np.triu_indices(n_images(rows.shape[1]), 1)

    def compare(self, counts: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n_models, n_data = len(self.models), len(self.data)
        products, lengths = (
            np.empty((len(counts), n_models, n_data)),
            np.empty((len(counts), n_models + n_data)),
        )
        grams = [np.empty((len(counts), len(place), len(place))) for place in self.places]
        for k, images in enumerate(counts):
            copies = images[self.first] * images[self.second]
            drawn = np.flatnonzero(copies)
            values = self.rows.take(drawn, axis=1)
            weighed = values * copies[drawn]
            data, weighed_data = values[n_models:], weighed[n_models:]
            products[k] = weighed[:n_models] @ data.T
            lengths[k] = np.einsum("rp,rp->r", weighed, values)
            for gram, place in zip(grams, self.places):
                gram[k] = weighed_data.take(place, axis=0) @ data.take(place, axis=0).T
            if self.center:
                sums, total = weighed.sum(axis=1), copies.sum()
                products[k] -= np.outer(sums[:n_models], sums[n_models:] / total)
                lengths[k, sums**2 / total > (1 - 1e-12) * lengths[k]] = (
                    0  # constant in this resample
                )
                lengths[k] = (lengths[k] - sums**2 / total).clip(0)
                for gram, place in zip(grams, self.places):
                    gram[k] -= np.outer(sums[place + n_models], sums[place + n_models] / total)
        for gram, place in zip(grams, self.places):
            own = lengths[:, place + n_models]
            gram[:] = _divided(gram, own[:, :, np.newaxis] * own[:, np.newaxis])
        return _from_products(products, lengths, grams, self.places, people)


class _Whitening(_Family):
    """Whitened cosine and Pearson: the same with one side times the inverse covariance of the errors."""

    width = 8

    def __init__(
        self, models: np.ndarray, data: np.ndarray, by: str, places: Sequence[np.ndarray] | None
    ) -> None:
        super().__init__(models, data, by, places)
        self.whiten = Whitened(np.concatenate([models, data]), center=by == "whitened-pearson")

    def compare(self, counts: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        n_models = len(self.models)
        weights = pair_weights(counts)
        values, white = self.whiten(weights)
        weighed = values * weights[:, np.newaxis]
        lengths = np.einsum("rdp,rdp->rd", weighed, white)
        products = weighed[:, :n_models] @ white[:, n_models:].transpose(0, 2, 1)
        grams = []
        for place in self.places:  # a pool is made of RDMs of the same length before whitening
            rows = place + n_models
            scales = np.sqrt(np.einsum("rdp,rdp->rd", weighed[:, rows], values[:, rows]))
            gram = weighed[:, rows] @ white[:, rows].transpose(0, 2, 1)
            grams.append(_divided(gram, (scales[:, :, np.newaxis] * scales[:, np.newaxis]) ** 2))
        return _from_products(products, lengths, grams, self.places, people)


def _from_products(
    products: np.ndarray,
    lengths: np.ndarray,
    grams: Sequence[np.ndarray],
    places: Sequence[np.ndarray],
    people: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Similarities and bounds from inner products (m, n_models, n_data) and squared lengths (m, n_rdms)."""
    n_models = products.shape[1]
    similarity = _divided(
        products, lengths[:, :n_models, np.newaxis] * lengths[:, np.newaxis, n_models:]
    )
    bounds = np.full((2, *people.shape), np.nan)
    for place, gram in zip(places, grams):
        bounds[:, :, place] = _pooled_bounds(gram, people[:, place])
    return similarity, bounds


def _divided(products: np.ndarray, squares: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        lengths = np.sqrt(squares)
    return np.divide(products, lengths, out=np.full(products.shape, np.nan), where=lengths > 0)


def _pooled_bounds(gram: np.ndarray, people: np.ndarray) -> np.ndarray:
    """Bounds from scaled inner products (m, n, n) and copies of subjects (m, n): (2, m, n)."""
    own = np.einsum("rdd->rd", gram)
    everyone = np.einsum("rde,re->rd", gram, people)
    whole = np.einsum("rd,rd->r", everyone, people)[:, np.newaxis]
    rest, left = everyone - people * own, whole - 2 * people * everyone + people**2 * own
    alone = ((people > 0).sum(axis=1) < 2)[:, np.newaxis]
    low = np.where(alone, _divided(everyone, own * whole), _divided(rest, own * left))
    return np.where(people > 0, np.stack([low, _divided(everyone, own * whole)]), np.nan)


# -------------------------------------------------------------------------------------------- tau-a


class _Kendall(_Family):
    """Kendall's tau-a: every pair of pairs, weighed."""

    def compare(self, counts: np.ndarray, people: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        weights = pair_weights(counts)
        bounds = np.full((2, len(counts), len(self.data)), np.nan)
        for place in self.places:
            ranks = 2 * centered_ranks(self.data[place])(
                weights
            )  # whole numbers: ties in a pool are exact
            for k, (one, copies) in enumerate(zip(ranks, people[:, place])):
                everyone, drawn = copies @ one, np.flatnonzero(copies)
                high = kendall(everyone[np.newaxis], self.data[place[drawn]], weights[k : k + 1])[
                    0, 0
                ]
                bounds[1, k, place[drawn]] = bounds[0, k, place[drawn]] = high
                for j in drawn if len(drawn) > 1 else ():
                    rest = everyone - copies[j] * one[j]
                    own = self.data[place[j]]
                    bounds[0, k, place[j]] = kendall(
                        rest[np.newaxis], own[np.newaxis], weights[k : k + 1]
                    )[0, 0, 0]
        return kendall(self.models, self.data, weights), bounds


_FAMILIES: dict[str, type[_Family]] = {
    "spearman": _Ranked,
    "rho-a": _Ranked,
    "pearson": _Linear,
    "cosine": _Linear,
    "whitened-cosine": _Whitening,
    "whitened-pearson": _Whitening,
    "kendall": _Kendall,
}
