"""Similarity and noise ceiling of each subject in resamples of the images.

`Resamples` compares each resample with the comparator itself. Rank comparators sort every RDM once;
a resample picks the pairs that were drawn out of that order and sums their copies. Pooled RDMs,
whose order is new in each resample, are sorted as whole numbers with the position of the pair in
the low bits. Correlations and cosines come from the inner products of the RDMs, pools included.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from neurometamer.rsa.comparators import ranks as block_size
from neurometamer.rsa.comparators.ranks import SCALES, divide_by_root, n_images
from neurometamer.rsa.comparators.whitened import Whitened
from neurometamer.stats.resampling import pair_weights

Sample = tuple[np.ndarray, np.ndarray]
"""Similarities (m, n_models, n_data) and ceilings (2, m, n_data) of m resamples."""


class Resamples:
    """Compare models with data in resamples of the images, whatever the comparator.

    Parameters
    ----------
    models : ndarray, shape (n_models, n_pairs)
        Condensed RDMs.
    data : ndarray, shape (n_data, n_pairs)
        Condensed RDMs.
    regions : sequence of ndarray of int
        Rows of `data` that share a noise ceiling; none for no ceilings.
    compute : callable
        The comparator, ``(a, b, weights)``.
    scale : str
        One of `SCALES`: how RDMs are scaled in each resample before they are averaged.
    """

    arrays = 4
    """Number of arrays of the size of all RDMs that a resample needs."""

    def __init__(
        self,
        models: np.ndarray,
        data: np.ndarray,
        regions: Sequence[np.ndarray],
        *,
        compute: Callable[..., np.ndarray],
        scale: str,
    ) -> None:
        self.models = models
        self.data = data
        self.regions = regions
        self.compute_values = compute
        self.scale = SCALES[scale]

    def blocks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Split resamples into blocks small enough for memory.

        Parameters
        ----------
        rows : ndarray of int
            Numbers of the resamples.

        Yields
        ------
        ndarray of int
            Some of `rows`, in their order.
        """
        n_models, n_pairs = self.models.shape
        n_rdms = n_models + len(self.data)
        size = self.arrays * n_rdms * n_pairs
        step = max(1, block_size.BLOCK // size)
        for start in range(0, len(rows), step):
            stop = start + step
            yield rows[start:stop]

    def compare(self, counts: np.ndarray, subjects: np.ndarray) -> Sample:
        """Compare in a block of resamples.

        Parameters
        ----------
        counts : ndarray of int, shape (m, n)
            Number of copies of each image.
        subjects : ndarray of float, shape (m, n_data)
            Number of copies of each row of the data.

        Returns
        -------
        similarity : ndarray, shape (m, n_models, n_data)
            NaN where undefined.
        bounds : ndarray, shape (2, m, n_data)
            Lower and upper noise ceiling; NaN for subjects that were not drawn.
        """
        weights = pair_weights(counts)
        bounds = np.full((2, len(counts), len(self.data)), np.nan)
        for region in self.regions:
            data = self.data[region]
            scaled = self.scale(data)(weights)
            for k in range(len(counts)):
                bounds[:, k, region] = self._bounds(
                    data,
                    scaled[k],
                    subjects[k, region],
                    weights[k : k + 1],
                )
        similarity = self.compute_values(self.models, self.data, weights)
        return similarity, bounds

    def _bounds(
        self, data: np.ndarray, scaled: np.ndarray, copies: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        """Compare the subjects of one resample with the pool of the others and of all."""
        bounds = np.full((2, len(data)), np.nan)
        drawn = np.flatnonzero(copies)
        is_finite = np.isfinite(scaled[drawn])
        if not drawn.size or not is_finite.all():
            return bounds
        total = copies[drawn] @ scaled[drawn]
        n = copies.sum()
        pool = total[np.newaxis] / n
        similarity = self.compute_values(pool, data[drawn], weights)
        bounds[:, drawn] = similarity[0, 0]
        if len(drawn) == 1:
            return bounds
        for subject in drawn:
            own = copies[subject]
            others = total - own * scaled[subject]
            pool = others[np.newaxis] / (n - own)
            similarity = self.compute_values(pool, data[[subject]], weights)
            bounds[0, subject] = similarity[0, 0, 0]
        return bounds


# -------------------------------------------------------------------------------------------- ranks


class RankResamples(Resamples):
    """Spearman and rho-a.

    Ranks are held doubled and centered: whole numbers, so that ties are exact.

    Parameters
    ----------
    models : ndarray, shape (n_models, n_pairs)
        Condensed RDMs.
    data : ndarray, shape (n_data, n_pairs)
        Condensed RDMs.
    regions : sequence of ndarray of int
        Rows of `data` that share a noise ceiling.
    without_ties : bool
        Whether products are divided by what ranks without ties have (rho-a), or by the lengths of
        the ranks as they are (Spearman).
    """

    def __init__(
        self,
        models: np.ndarray,
        data: np.ndarray,
        regions: Sequence[np.ndarray],
        *,
        without_ties: bool,
    ) -> None:
        self.models = models
        self.data = data
        self.regions = regions
        self.without_ties = without_ties
        rows = np.concatenate([models, data])
        n_pairs = rows.shape[1]
        order = np.argsort(rows, axis=1, kind="stable")
        ordered = np.take_along_axis(rows, order, axis=1)
        steps = np.diff(ordered, axis=1, prepend=ordered[:, :1])
        groups = np.cumsum(steps != 0, axis=1, dtype=np.int32)
        has_ties = groups[:, -1] < n_pairs - 1
        self.order = order.astype(np.int32)
        self.groups = groups if has_ties.any() else None
        self.first, self.second = np.triu_indices(n_images(n_pairs), 1)

    def compare(self, counts: np.ndarray, subjects: np.ndarray) -> Sample:
        """Compare in a block of resamples.

        Parameters
        ----------
        counts : ndarray of int, shape (m, n)
            Number of copies of each image.
        subjects : ndarray of float, shape (m, n_data)
            Number of copies of each row of the data.

        Returns
        -------
        similarity : ndarray, shape (m, n_models, n_data)
            NaN where undefined.
        bounds : ndarray, shape (2, m, n_data)
            Lower and upper noise ceiling.
        """
        n_models, n_data = len(self.models), len(self.data)
        similarity = np.empty((len(counts), n_models, n_data))
        bounds = np.full((2, len(counts), n_data), np.nan)
        for k, images in enumerate(counts):
            people = subjects[k]
            all_copies = images[self.first] * images[self.second]
            drawn = all_copies > 0
            copies = all_copies[drawn]
            weights = copies.astype(np.float64)
            ranks = self._ranks(all_copies, drawn)
            model = ranks[:n_models]
            data = ranks[n_models:]
            weighed = data * weights
            lengths = np.einsum("dp,dp->d", weighed, data)
            model_lengths = np.einsum("mp,mp,p->m", model, model, weights)
            similarity[k] = self._divide(
                model @ weighed.T,
                model_lengths[:, np.newaxis],
                lengths,
                weights,
            )
            for region in self.regions:
                bounds[:, k, region] = self._ceilings(
                    data[region],
                    lengths[region],
                    people[region],
                    copies,
                )
        return similarity, bounds

    def _divide(
        self, products: np.ndarray, left: np.ndarray, right: np.ndarray, weights: np.ndarray
    ) -> np.ndarray:
        """Divide products of doubled ranks by their squared lengths, or by those without ties."""
        if not self.without_ties:
            return divide_by_root(products, left * right)
        total = weights.sum()
        n_triples = total**3 - total
        return 3 * products / n_triples

    def _ranks(self, copies: np.ndarray, drawn: np.ndarray) -> np.ndarray:
        """Rank the pairs that were drawn, in the order of the pairs: (n_rdms, n_drawn)."""
        keep = drawn.take(self.order).ravel()
        order = self.order.ravel().compress(keep)
        order = order.reshape(len(self.order), -1)
        is_new = None
        if self.groups is not None:
            groups = self.groups.ravel().compress(keep)
            groups = groups.reshape(order.shape)
            is_new = groups[:, 1:] != groups[:, :-1]
        position = np.cumsum(drawn) - 1
        slots = position.take(order)
        starts = np.arange(len(order)) * order.shape[1]
        slots += starts[:, np.newaxis]
        ranks = np.empty(order.shape)
        ranks.ravel()[slots] = doubled_ranks(copies.take(order), is_new)
        return ranks

    def _ceilings(
        self, data: np.ndarray, lengths: np.ndarray, people: np.ndarray, copies: np.ndarray
    ) -> np.ndarray:
        """Compare subjects with the pools of the others and of all: (2, n_subjects).

        Ranks of the pools are made in ascending order, the pool of all last.
        """
        drawn = np.flatnonzero(people)
        everyone = people @ data
        others = everyone[np.newaxis]
        if len(drawn) > 1:
            others = everyone - people[drawn, np.newaxis] * data[drawn]
        pools = np.concatenate([others, everyone[np.newaxis]])
        n = data.shape[1]
        bits = int(n).bit_length()
        highest = int(people.sum() * copies.sum()).bit_length()
        integer: type[np.signedinteger[Any]] = np.int64
        if highest + bits < 31:
            integer = np.int32
        keys = pools.astype(integer)
        # the value above, the position of the pair below: one sort of whole numbers gives both
        keys <<= bits
        keys |= np.arange(n, dtype=keys.dtype)
        keys.sort(axis=1)
        order = keys & ((1 << bits) - 1)
        keys >>= bits
        is_new = keys[:, 1:] != keys[:, :-1]
        ranks = doubled_ranks(copies.take(order), is_new).astype(np.float64)
        weights = copies.astype(np.float64)
        own = np.einsum("dp,dp,dp->d", ranks, ranks, weights.take(order))
        single = data[drawn] * weights
        in_order = np.take_along_axis(single, order[:-1], axis=1)
        low = np.einsum("dp,dp->d", ranks[:-1], in_order)
        high = single.take(order[-1], axis=1) @ ranks[-1]
        bounds = np.full((2, len(people)), np.nan)
        bounds[0, drawn] = self._divide(low, own[:-1], lengths[drawn], weights)
        bounds[1, drawn] = self._divide(high, own[-1], lengths[drawn], weights)
        return bounds


def doubled_ranks(weights: np.ndarray, new: np.ndarray | None) -> np.ndarray:
    """Rank ordered values that come in copies.

    Parameters
    ----------
    weights : ndarray, shape (n_rows, n)
        Number of copies of each value, the smallest value first.
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
    before, after = ((0, 0), (1, 0)), ((0, 0), (0, 1))
    is_first = np.pad(new, before, constant_values=True)
    is_last = np.pad(new, after, constant_values=True)
    starts = np.where(is_first, end - weights, 0)
    below = np.maximum.accumulate(starts, axis=1)
    ends = np.where(is_last, end, middle)
    backwards = np.minimum.accumulate(ends[:, ::-1], axis=1)
    upto = backwards[:, ::-1]
    return below + upto - middle


# ----------------------------------------------------------------------------------- inner products


class ProductResamples(Resamples):
    """Pearson and cosine: the inner products of a pool are sums of those of its RDMs.

    Parameters
    ----------
    models : ndarray, shape (n_models, n_pairs)
        Condensed RDMs.
    data : ndarray, shape (n_data, n_pairs)
        Condensed RDMs.
    regions : sequence of ndarray of int
        Rows of `data` that share a noise ceiling.
    center : bool
        Whether the mean of each resample is taken off (Pearson).
    """

    def __init__(
        self, models: np.ndarray, data: np.ndarray, regions: Sequence[np.ndarray], *, center: bool
    ) -> None:
        self.models = models
        self.data = data
        self.regions = regions
        self.center = center
        self.rows = np.concatenate([models, data])
        if center:  # small numbers lose fewer digits
            self.rows = self.rows - self.rows.mean(axis=1, keepdims=True)
        self.first, self.second = np.triu_indices(n_images(self.rows.shape[1]), 1)

    def compare(self, counts: np.ndarray, subjects: np.ndarray) -> Sample:
        """Compare in a block of resamples.

        Parameters
        ----------
        counts : ndarray of int, shape (m, n)
            Number of copies of each image.
        subjects : ndarray of float, shape (m, n_data)
            Number of copies of each row of the data.

        Returns
        -------
        similarity : ndarray, shape (m, n_models, n_data)
            NaN where undefined.
        bounds : ndarray, shape (2, m, n_data)
            Lower and upper noise ceiling.
        """
        n_models, n_data = len(self.models), len(self.data)
        products = np.empty((len(counts), n_models, n_data))
        lengths = np.empty((len(counts), n_models + n_data))
        grams = []
        for region in self.regions:
            shape = (len(counts), len(region), len(region))
            grams.append(np.empty(shape))
        for k, images in enumerate(counts):
            copies = images[self.first] * images[self.second]
            drawn = np.flatnonzero(copies)
            values = self.rows.take(drawn, axis=1)
            weighed = values * copies[drawn]
            data = values[n_models:]
            weighed_data = weighed[n_models:]
            products[k] = weighed[:n_models] @ data.T
            lengths[k] = np.einsum("rp,rp->r", weighed, values)
            for gram, region in zip(grams, self.regions):
                left = weighed_data.take(region, axis=0)
                right = data.take(region, axis=0)
                gram[k] = left @ right.T
            if self.center:
                total = copies.sum()
                sums = weighed.sum(axis=1)
                shares = sums / total
                products[k] -= np.outer(sums[:n_models], shares[n_models:])
                of_mean = sums**2 / total
                is_constant = of_mean > (1 - 1e-12) * lengths[k]
                lengths[k, is_constant] = 0
                lengths[k] = (lengths[k] - of_mean).clip(0)
                for gram, region in zip(grams, self.regions):
                    rows = region + n_models
                    gram[k] -= np.outer(sums[rows], shares[rows])
        for gram, region in zip(grams, self.regions):
            squares = lengths[:, region + n_models]
            pairs = squares[:, :, np.newaxis] * squares[:, np.newaxis]
            gram[:] = divide_by_root(gram, pairs)
        return _from_products(products, lengths, grams, self.regions, subjects)


class WhitenedResamples(Resamples):
    """Whitened cosine and Pearson: one side is multiplied by the inverse covariance of the errors.

    Parameters
    ----------
    models : ndarray, shape (n_models, n_pairs)
        Condensed RDMs.
    data : ndarray, shape (n_data, n_pairs)
        Condensed RDMs.
    regions : sequence of ndarray of int
        Rows of `data` that share a noise ceiling.
    center : bool
        Whether the mean of each resample is taken off (whitened Pearson).
    """

    arrays = 8

    def __init__(
        self, models: np.ndarray, data: np.ndarray, regions: Sequence[np.ndarray], *, center: bool
    ) -> None:
        self.models = models
        self.data = data
        self.regions = regions
        rows = np.concatenate([models, data])
        self.whiten = Whitened(rows, center=center)

    def compare(self, counts: np.ndarray, subjects: np.ndarray) -> Sample:
        """Compare in a block of resamples.

        Parameters
        ----------
        counts : ndarray of int, shape (m, n)
            Number of copies of each image.
        subjects : ndarray of float, shape (m, n_data)
            Number of copies of each row of the data.

        Returns
        -------
        similarity : ndarray, shape (m, n_models, n_data)
            NaN where undefined.
        bounds : ndarray, shape (2, m, n_data)
            Lower and upper noise ceiling.
        """
        n_models = len(self.models)
        weights = pair_weights(counts)
        values, white = self.whiten(weights)
        weighed = values * weights[:, np.newaxis]
        lengths = np.einsum("rdp,rdp->rd", weighed, white)
        products = weighed[:, :n_models] @ white[:, n_models:].transpose(0, 2, 1)
        grams = []
        for region in self.regions:  # a pool is made of RDMs of one length before whitening
            rows = region + n_models
            # large parts have no names, so that their memory is free at once
            squares = np.einsum("rdp,rdp->rd", weighed[:, rows], values[:, rows])
            scales = np.sqrt(squares)
            pairs = scales[:, :, np.newaxis] * scales[:, np.newaxis]
            gram = weighed[:, rows] @ white[:, rows].transpose(0, 2, 1)
            gram = divide_by_root(gram, pairs**2)
            grams.append(gram)
        return _from_products(products, lengths, grams, self.regions, subjects)


def _from_products(
    products: np.ndarray,
    lengths: np.ndarray,
    grams: Sequence[np.ndarray],
    regions: Sequence[np.ndarray],
    subjects: np.ndarray,
) -> Sample:
    """Compute similarities and ceilings of resamples from inner products.

    Products are (m, n_models, n_data), squared lengths (m, n_rdms), and products of the RDMs of one
    region with each other (m, n, n).
    """
    n_models = products.shape[1]
    bounds = np.full((2, *subjects.shape), np.nan)
    for region, gram in zip(regions, grams):
        people = subjects[:, region]
        is_drawn = people > 0
        own = np.einsum("rdd->rd", gram)
        everyone = np.einsum("rde,re->rd", gram, people)
        total = np.einsum("rd,rd->r", everyone, people)
        total = total[:, np.newaxis]
        high = divide_by_root(everyone, own * total)
        rest = everyone - people * own
        rest_squared = total - 2 * people * everyone
        rest_squared += people**2 * own
        low = divide_by_root(rest, own * rest_squared)
        is_alone = is_drawn.sum(axis=1) < 2
        low = np.where(is_alone[:, np.newaxis], high, low)
        both = np.stack([low, high])
        bounds[:, :, region] = np.where(is_drawn, both, np.nan)
    left = lengths[:, :n_models, np.newaxis]
    right = lengths[:, np.newaxis, n_models:]
    return divide_by_root(products, left * right), bounds
