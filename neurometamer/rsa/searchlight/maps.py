"""Searchlight RSA: one RDM around each voxel or vertex, compared with a model or another RDM.

RDMs of a block of centers are made at once and thrown away when compared, so that memory does not
grow with the map.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked, checked_with
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import generator
from neurometamer.rsa.comparators.table import find_comparator, linear_comparators, prepared
from neurometamer.rsa.compute import MIN_VOXELS, check_enough
from neurometamer.rsa.measures import MEASURE_ALIASES
from neurometamer.rsa.searchlight.neighborhoods import Neighborhoods
from neurometamer.rsa.searchlight.questions import (
    Question,
    Responses,
    RunResponses,
    RunTable,
)
from neurometamer.stats.resampling import p_from_count, pair_positions
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    import pandas as pd


BLOCK = 2**21
"""Responses gathered at a time: 16 MiB of float64."""

MEASURES = ("spearman", "pearson", "crossnobis")
"""RDMs are 1 - this correlation over neighbors, or crossvalidated distances of runs."""


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class SearchlightMap:
    """One map over all places.

    Parameters
    ----------
    question : Question
        Question that the map answers.
    values : ndarray, shape (n_places,)
        Similarity in [-1, 1]; NaN where undefined.
    p : ndarray, shape (n_places,)
        One-tailed p of each place alone, by permuted labels; NaN without permutations.
    p_family : ndarray, shape (n_places,)
        The same, for the largest value of the whole map (max-T): family-wise.
    sizes : ndarray of int, shape (n_places,)
        Neighbors with data; 0 where the place itself has none.
    summary : dict
        Numbers of centers, defined, too small, with constant patterns; sizes; method.
    """

    question: Question
    values: np.ndarray
    p: np.ndarray
    p_family: np.ndarray
    sizes: np.ndarray
    summary: dict[str, Any] = field(default_factory=dict)


# ---------------------------------------------------------------------------------------- many RDMs


@checked_with(whole=("centers",), shapes={"centers": "centers"})
def searchlight_rdms(
    responses: Responses,
    neighborhoods: Neighborhoods,
    centers: np.ndarray | None = None,
    measure: str = "spearman",
) -> np.ndarray:
    """Compute the RDM around each center.

    For many centers use `run_searchlight`, which keeps none of the RDMs.

    Parameters
    ----------
    responses : ndarray, shape (n_conditions, n_places), or RunResponses
        Responses of each place; NaN in places without data.
    neighborhoods : Neighborhoods
        `Spheres` or `Disks` over the same places.
    centers : ndarray of int, optional
        All places by default.
    measure : str
        ``"spearman"`` or ``"pearson"``: RDMs are 1 - this correlation over the neighbors;
        ``"crossnobis"``, with `RunResponses`: crossvalidated squared distances divided by the
        number of neighbors (`crossnobis_rdm`).

    Returns
    -------
    ndarray, shape (n_centers, n_pairs)
        NaN where fewer than 3 neighbors have data, and in pairs with a condition that is constant
        there.

    Raises
    ------
    InputError
        For an unknown measure or another number of places.

    Examples
    --------
    >>> from neurometamer.rsa import Spheres
    >>> mask = np.ones((3, 3, 3), dtype=bool)
    >>> spheres = Spheres(mask, np.diag([2.0, 2.0, 2.0, 1.0]), radius_mm=2.0)
    >>> responses = np.random.default_rng(0).normal(size=(5, 27))
    >>> searchlight_rdms(responses, spheres, centers=np.array([13, 14])).shape
    (2, 10)
    """
    measure = MEASURE_ALIASES.get(measure, measure)
    _check(measure, "spearman", responses, neighborhoods)
    n_places = len(neighborhoods)
    wanted = np.arange(n_places) if centers is None else np.asarray(centers)
    if bad := [int(center) for center in wanted if not 0 <= center < n_places]:
        raise InputError(
            f"centers {name_ids(bad)} are not among the {n_places} places; give numbers from 0 to "
            f"{n_places - 1}."
        )
    n = responses.shape[0]
    check_enough([f"row {row}" for row in range(n)], "the responses")
    present = _present(responses)
    table = _Table(responses, present, measure)
    parts = [np.empty((0, n * (n - 1) // 2))]
    for part in _blocks(wanted, neighborhoods, table.width):
        index, sizes = _with_data(neighborhoods.block(part), present, part)
        rdms, _ = table.rdms(index, sizes)
        rdms[sizes < MIN_VOXELS] = np.nan
        parts.append(rdms)
    return np.concatenate(parts)


def _check(
    measure: str, comparator: str, responses: Responses, neighborhoods: Neighborhoods
) -> None:
    if measure not in MEASURES:
        raise unknown_name("RDM measure", measure, MEASURES)
    if (measure == "crossnobis") != isinstance(responses, RunResponses):
        raise InputError(
            f"measure '{measure}' and responses of type {type(responses).__name__} do not go "
            "together: 'crossnobis' needs responses of runs, and only it takes them; make them "
            "with run_responses."
        )
    if not find_comparator(comparator).linear:
        raise unknown_name("comparison", comparator, linear_comparators())
    if len(responses.shape) != 2:
        raise InputError(
            f"responses have the shape {responses.shape}; they need (n_conditions, n_places)."
        )
    if responses.shape[1] != len(neighborhoods):
        raise InputError(
            f"{responses.shape[1]} values a condition, but the mask or mesh has "
            f"{len(neighborhoods)} places; give one value a voxel of the mask or vertex of the "
            "mesh."
        )


def _blocks(
    wanted: np.ndarray, neighborhoods: Neighborhoods, n_conditions: int
) -> list[np.ndarray]:
    """Cut centers into blocks that fit `BLOCK`, by the neighborhoods of a few of them."""
    if not wanted.size:
        return []
    n = len(wanted)
    spaced = np.linspace(0, n - 1, min(16, n)).astype(int)
    most = neighborhoods.block(wanted[spaced]).shape[1]
    n_values = n_conditions * max(most, n_conditions)
    step = max(1, BLOCK // n_values)
    return [wanted[start : start + step] for start in range(0, n, step)]


def _present(responses: Responses) -> np.ndarray:
    if isinstance(responses, RunResponses):
        return responses.present
    is_finite = np.isfinite(responses)
    return np.asarray(is_finite.all(axis=0))


class _Table:
    """Responses arranged by place, and the RDMs of centers made from them."""

    def __init__(self, responses: Responses, present: np.ndarray, measure: str) -> None:
        self.measure = measure
        self.n, n_places = responses.shape
        self.width = self.n
        self.held: RunTable | np.ndarray
        if isinstance(responses, RunResponses):
            self.width *= len(responses.folds)
            self.held = RunTable(responses, present)
        else:
            # a row a place, so that gathering reads whole rows; the last, zeros, is no neighbor
            self.held = np.zeros((n_places + 1, self.n))
            self.held[:-1][present] = responses.T[present]

    def rdms(self, index: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Make RDMs (n_centers, n_pairs); say where each condition is constant."""
        if isinstance(self.held, RunTable):
            never = np.zeros((len(index), self.n), dtype=bool)
            return self.held.rdms(index, sizes), never
        values = self.held[index]  # (centers, neighbors, conditions)
        is_neighbor = (index >= 0)[:, :, np.newaxis]
        n_neighbors = np.maximum(sizes, 1)[:, np.newaxis, np.newaxis]
        if self.measure == "spearman":
            last = np.where(is_neighbor, values, np.inf)
            ranks = _ranks(last.transpose(0, 2, 1))
            centered = ranks.transpose(0, 2, 1) - (n_neighbors - 1) / 2
        else:
            centered = values - values.sum(axis=1, keepdims=True) / n_neighbors
        if not is_neighbor.all():
            centered *= is_neighbor
        products = centered.transpose(0, 2, 1) @ centered
        squares = np.einsum("cii->ci", products).copy()
        # only conditions of nearly no variance are compared value by value
        lengths = np.einsum("ckn,ckn->cn", values, values)
        constant = squares <= 1e-20 * lengths
        for center in np.flatnonzero(constant.any(axis=1)):
            here = values[center][is_neighbor[center, :, 0]]
            constant[center] = (here == here[:1]).all(axis=0)
        squares[constant | (squares <= 0)] = np.nan
        first, second = np.triu_indices(self.n, 1)
        scale = np.sqrt(squares[:, first] * squares[:, second])
        correlation = products[:, first, second] / scale
        has_data = (sizes > 0)[:, np.newaxis]
        return 1 - np.clip(correlation, -1, 1), constant & has_data

    def prepared(
        self, index: np.ndarray, sizes: np.ndarray, comparator: str
    ) -> tuple[np.ndarray, np.ndarray]:
        """Prepare RDMs for comparison, NaN where they cannot be compared; see `rdms`."""
        rdms, constant = self.rdms(index, sizes)
        usable = np.isfinite(rdms).all(axis=1)
        usable &= sizes >= MIN_VOXELS
        usable[usable] = np.ptp(rdms[usable], axis=1) > 0
        vectors = np.full(rdms.shape, np.nan)
        if usable.any():
            vectors[usable] = prepared(rdms[usable], comparator)
        return vectors, constant


def _with_data(
    index: np.ndarray, present: np.ndarray, centers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Drop neighbors without data, and all of a center that has none itself."""
    is_center_present = present[centers]
    kept = present[index]
    kept &= index >= 0
    kept &= is_center_present[:, np.newaxis]
    with_data = np.where(kept, index, -1)
    sizes = kept.sum(axis=1)
    return with_data, sizes


def _ranks(values: np.ndarray) -> np.ndarray:
    """Rank along the last axis from 0, ties by their average rank; infinite values come last."""
    order = np.argsort(values, axis=-1)
    ordered = np.take_along_axis(values, order, axis=-1)
    positions = np.arange(values.shape[-1], dtype=np.float64)
    ranks_in_order = np.broadcast_to(positions, values.shape)
    before = ordered[..., :-1]
    after = ordered[..., 1:]
    is_tied = after == before
    if (is_tied & np.isfinite(after)).any():
        edge = np.ones((*values.shape[:-1], 1), dtype=bool)
        is_start = np.concatenate([edge, ~is_tied], axis=-1)
        is_end = np.concatenate([~is_tied, edge], axis=-1)
        starts = np.where(is_start, positions, 0)
        ends = np.where(is_end, positions, np.inf)
        first = np.maximum.accumulate(starts, axis=-1)
        backward = np.minimum.accumulate(ends[..., ::-1], axis=-1)
        last = backward[..., ::-1]
        ranks_in_order = (first + last) / 2
    ranks = np.empty(values.shape)
    np.put_along_axis(ranks, order, ranks_in_order, axis=-1)
    return ranks


# --------------------------------------------------------------------------------------------- maps


@checked
def run_searchlight(
    question: Question,
    neighborhoods: Neighborhoods,
    *,
    measure: str = "spearman",
    comparator: str = "spearman",
    n_permutations: int = 0,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> SearchlightMap:
    """Answer a question at every voxel or vertex.

    Parameters
    ----------
    question : Question
        Result of `model_questions`, `image_type_question` or `reliability_question`.
    neighborhoods : Neighborhoods
        `Spheres` or `Disks` over the same places.
    measure : str
        ``"spearman"`` or ``"pearson"``: RDMs are 1 - this correlation over neighbors;
        ``"crossnobis"`` for `RunResponses`.
    comparator : str
        Comparison of RDMs, one of `linear_comparators`.
    n_permutations : int
        Permutations of the condition labels of one side, the same at all places; 0 for no p.
    seed : int
        Seed of the permutations.
    progress : callable, optional
        Called as ``progress(centers_done, centers)``.

    Returns
    -------
    SearchlightMap
        NaN where fewer than 3 neighbors have data, a condition is constant, or all dissimilarities
        are equal; each is counted in the summary.

    Raises
    ------
    InputError
        For an unknown name, or responses that do not fit the places.

    Notes
    -----
    p = (1 + count) / (1 + N). ``p_family`` compares each value with the largest of the map under
    each permutation (max-T), which controls the family-wise error over places. Values are
    correlations and not divided by their spread, so places with few neighbors, whose null is as
    wide as any, set the limit for all.

    Examples
    --------
    >>> from neurometamer import compute_rdms
    >>> from neurometamer.rsa import Spheres, model_questions
    >>> mask = np.ones((3, 3, 3), dtype=bool)
    >>> spheres = Spheres(mask, np.diag([2.0, 2.0, 2.0, 1.0]), radius_mm=2.0)
    >>> random = np.random.default_rng(0)
    >>> ids, responses = ["cat", "dog", "cup", "car"], random.normal(size=(4, 27))
    >>> model = compute_rdms(responses[:, [4, 10, 12, 13, 14, 16, 22]], ids=ids)
    >>> question = model_questions(ids, responses, model)[0]
    >>> result = run_searchlight(question, spheres)
    >>> result.values.shape, round(float(result.values[13]), 6)
    ((27,), 1.0)
    """
    measure = MEASURE_ALIASES.get(measure, measure)
    _check(measure, comparator, question.responses, neighborhoods)
    if question.others is not None:
        _check(measure, comparator, question.others, neighborhoods)
    if n_permutations < 0:
        raise InputError(f"n_permutations must be 0 or more, not {n_permutations}.")
    sides = [question.responses]
    if question.others is not None:
        sides.append(question.others)
    present = np.all([_present(side) for side in sides], axis=0)
    if not present.any():
        raise InputError(
            f"map '{question.name}': no place has responses to all conditions; give responses "
            f"to all {len(question.ids)} of them in one place at least."
        )
    tables = [_Table(side, present, measure) for side in sides]
    n = len(question.ids)
    random = generator(seed, "searchlight labels", n)
    # drawn for ids in sorted order, so that their order in a file changes nothing
    order = np.argsort(question.ids)
    rank = np.argsort(order)
    shuffles = np.empty((n_permutations, n * (n - 1) // 2), dtype=np.int32)
    for shuffle in shuffles:
        drawn = random.permutation(n)
        shuffle[:] = pair_positions(order[drawn[rank]], n)
    tally = _Tally(len(neighborhoods), n, n_permutations)
    wanted = np.flatnonzero(present)
    done = 0
    for part in _blocks(wanted, neighborhoods, tables[0].width):
        index, sizes = _with_data(neighborhoods.block(part), present, part)
        compared, constants = [], []
        for table in tables:
            vectors, constant = table.prepared(index, sizes, comparator)
            compared.append(vectors)
            constants.append(constant)
        if question.model is not None:
            compared.append(prepared(question.model, comparator))
        tally.count(part, sizes, constants)
        tally.compare(part, compared[0], compared[1], shuffles)
        done += len(part)
        if progress is not None:
            progress(done, len(wanted))
    return tally.finish(
        question, _method(question, neighborhoods, measure, comparator, n_permutations)
    )


def _method(
    question: Question, near: Neighborhoods, measure: str, comparator: str, n_permutations: int
) -> str:
    made = f"1 - {measure}"
    if isinstance(question.responses, RunResponses):
        n_folds = len(question.responses.folds)
        made = f"{measure} of {n_folds} folds (noise {question.responses.noise})"
    text = (
        f"{question.about}; RDMs {made} over {type(near).__name__.lower()} of {near.radius_mm:g} "
        f"mm; compared by {comparator}"
    )
    if n_permutations:
        text += (
            f"; p one-tailed by {n_permutations} permutations of {len(question.ids)} condition "
            f"labels, least p {p_from_count(0, n_permutations):.2g}; family-wise by max-T over the "
            "map"
        )
    return text


class _Tally:
    """Collects a map block by block."""

    def __init__(self, n_places: int, n_conditions: int, n_permutations: int) -> None:
        self.values = np.full(n_places, np.nan)
        self.reached = np.zeros(n_places)
        self.largest = np.full(n_permutations, -np.inf)
        self.sizes = np.zeros(n_places, dtype=np.int64)
        self.constant_centers = 0
        self.constant = np.zeros(n_conditions, dtype=np.int64)

    def count(self, part: np.ndarray, sizes: np.ndarray, constants: Sequence[np.ndarray]) -> None:
        """Count neighbors, and the centers where a condition is constant."""
        self.sizes[part] = sizes
        is_large = sizes >= MIN_VOXELS
        either = np.any(constants, axis=0)
        either &= is_large[:, np.newaxis]
        self.constant += either.sum(axis=0)
        has_constant = either.any(axis=1)
        self.constant_centers += int(has_constant.sum())

    def compare(
        self, part: np.ndarray, rdms: np.ndarray, other: np.ndarray, shuffles: np.ndarray
    ) -> None:
        """Compare RDMs with one model, or row by row with others; again with permuted labels."""
        is_model = other.ndim == 1
        usable = np.isfinite(rdms).all(axis=1)
        usable &= np.isfinite(np.atleast_2d(other)).all(axis=1)
        rdms = rdms[usable]
        places = part[usable]
        if is_model:
            value = rdms @ other
        else:
            other = other[usable]
            value = np.einsum("cp,cp->c", rdms, other)
        self.values[places] = value
        if not places.size:
            return
        limit = value[:, np.newaxis] - 1e-12
        step = max(1, BLOCK // rdms.shape[1])
        for start in range(0, len(shuffles), step):
            block = shuffles[start : start + step]
            if is_model:
                null = rdms @ other[block].T
            else:  # both sides differ from place to place: no single product serves
                each = [np.einsum("cp,cp->c", rdms, other[:, shuffle]) for shuffle in block]
                null = np.stack(each, axis=1)
            self.reached[places] += (null >= limit).sum(axis=1)
            top = self.largest[start : start + step]
            np.maximum(top, null.max(axis=0), out=top)

    def finish(self, question: Question, method: str) -> SearchlightMap:
        """Turn counts into p, and say what is undefined and why."""
        n_places, n_permutations = len(self.values), len(self.largest)
        defined = np.isfinite(self.values)
        values = self.values[defined]
        p, family = np.full((2, n_places), np.nan)
        if n_permutations:
            p[defined] = p_from_count(self.reached[defined], n_permutations)
            below = np.searchsorted(np.sort(self.largest), values - 1e-12)
            family[defined] = p_from_count(n_permutations - below, n_permutations)
        sizes = self.sizes[self.sizes > 0]
        n_centers, n_defined = len(sizes), len(values)
        n_small = int((sizes < MIN_VOXELS).sum())
        least = most = 0
        median = 0.0
        if n_centers:
            least, most = int(sizes.min()), int(sizes.max())
            median = float(np.median(sizes))
        mean = largest = np.nan
        if n_defined:
            mean, largest = float(values.mean()), float(values.max())
        names = []
        for i in np.argsort(-self.constant):
            n_constant = self.constant[i]
            if n_constant:
                names.append(f"{question.ids[i]} ({n_constant})")
        summary = {
            "map": question.name,
            "n_places": n_places,
            "n_without_data": n_places - n_centers,
            "n_defined": n_defined,
            "n_too_small": n_small,
            "n_constant": self.constant_centers,
            "constant_conditions": name_ids(names) if names else "",
            "n_flat_rdm": n_centers - n_defined - n_small - self.constant_centers,
            "neighbors_min": least,
            "neighbors_median": median,
            "neighbors_max": most,
            "n_conditions": len(question.ids),
            "mean": mean,
            "largest": largest,
            "n_family_p05": int((family[defined] < 0.05).sum()),
            "method": method,
        }
        return SearchlightMap(
            question=question,
            values=self.values,
            p=p,
            p_family=family,
            sizes=self.sizes,
            summary=summary,
        )


def summary_table(maps: Mapping[str, SearchlightMap] | Sequence[SearchlightMap]) -> pd.DataFrame:
    """Put the summaries of maps together.

    Parameters
    ----------
    maps : sequence of SearchlightMap
        Maps, or a mapping of names to maps.

    Returns
    -------
    pandas.DataFrame
        One row a map.
    """
    import pandas as pd

    in_order = maps.values() if isinstance(maps, Mapping) else maps
    rows = [searchlight_map.summary for searchlight_map in in_order]
    return pd.DataFrame(rows)
