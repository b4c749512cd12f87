"""Divergence of representations: whether metamers differ as much as their photographs do.

For an evaluator and a stage, three samples of Euclidean distances between activations:
reference-reference (RR) and metamer-metamer (MM) over unordered pairs i < j of images, and
reference-metamer (RM) over matching pairs. Each becomes a Gaussian kernel density on one grid; the
divergence of two is

    JSD(p, q) = ½ Σ p log2(p / m) + ½ Σ q log2(q / m),  m = (p + q) / 2,

in [0, 1], the divergence itself and not its root. The headline is RR-MM.

References
----------
Boehm et al. (2025). arXiv 2504.01739, Fig. 5. It leaves open which two distributions a cell shows,
the grid, the bandwidth, the base of the logarithm, and whether the root is taken; it gives neither
null nor interval.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from neurometamer.arguments import checked, checked_with
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.evaluation.recognizability import chosen_evaluators, shown_to
from neurometamer.evaluation.sets import (
    MetamerSet,
    no_valid_note,
    pass_rates,
    reported_states,
)
from neurometamer.provenance import generator
from neurometamer.run_options import RunOptions
from neurometamer.stats.resampling import p_from_count

if TYPE_CHECKING:
    from stimuli_gen.models import StagedModel
    from stimuli_gen.stored_images import ImagesOnDisk

N_GRID = 1_000
MARGIN = 0.1
"""Share of the range of the distances by which the grid extends it on each side."""
COMPARISONS = (("RR", "MM"), ("RR", "RM"), ("MM", "RM"))
HEADLINE = ("RR", "MM")
MIN_IMAGES = 4
_ROWS = 200
Memory = dict[tuple[str, str, str], np.ndarray]

# ---------------------------------------------------------------------------------------- densities


def common_grid(*samples: np.ndarray, n_grid: int = N_GRID) -> np.ndarray:
    """Lay a grid over the range of all samples and 10 % of it on each side.

    Parameters
    ----------
    *samples : ndarray
        Distances, not empty.
    n_grid : int
        Points.

    Returns
    -------
    ndarray
        (n_grid,) increasing, evenly spaced. Where all distances are equal, it spans a relative 10⁻⁶
        around them.
    """
    distances = np.concatenate(samples)
    low = distances.min()
    high = distances.max()
    width = high - low
    largest = max(abs(low), abs(high))
    least = 1e-12 * largest
    if width <= least:
        width = max(largest, 1.0) * 1e-6
    margin = MARGIN * width
    start = low - margin
    stop = high + margin
    return np.linspace(start, stop, n_grid)


def bandwidth(spread: np.ndarray | float, n: np.ndarray | int, step: float) -> np.ndarray:
    """Choose the width of the kernel by Scott's rule.

    The width is n^(-1/5) times the standard deviation (n - 1).

    Parameters
    ----------
    spread : ndarray or float
        Standard deviation.
    n : ndarray or int
        Distances.
    step : float
        Of the grid: the kernel is at least as wide, so that constant distances have a density too.

    Returns
    -------
    ndarray
        Widths.
    """
    factor = np.asarray(n, dtype=float) ** -0.2
    width = np.asarray(spread) * factor
    return np.maximum(width, step)


def density(distances: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Estimate the density of distances, scaled to the sum 1.

    The estimate is that of ``scipy.stats.gaussian_kde`` with Scott's rule.

    Parameters
    ----------
    distances : ndarray
        (n,).
    grid : ndarray
        (n_grid,) evenly spaced.

    Returns
    -------
    ndarray
        (n_grid,), sum 1.
    """
    spread = 0.0
    if len(distances) > 1:
        spread = distances.std(ddof=1)
    step = grid[1] - grid[0]
    width = bandwidth(spread, len(distances), step)
    total = np.zeros(len(grid))
    for start in range(0, len(distances), 4096):
        part = distances[None, start : start + 4096]
        steps = (grid[:, None] - part) / width
        exponents = -0.5 * np.square(steps)
        total += np.exp(exponents).sum(axis=1)
    return total / total.sum()


@checked_with(finite=("p", "q"), shapes={"p": "... grid", "q": "... grid"})
def jensen_shannon(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Compute the Jensen-Shannon divergence to the base 2, not its root.

    Parameters
    ----------
    p, q : ndarray
        (…, n_grid), not negative, each with the sum 1.

    Returns
    -------
    ndarray
        (…) in [0, 1]; the square of ``scipy.spatial.distance.jensenshannon(p, q, base=2)``.

    Examples
    --------
    >>> float(jensen_shannon(np.array([1.0, 0.0]), np.array([0.0, 1.0])))
    1.0
    """
    middle = (p + q) / 2
    shape = np.broadcast_shapes(p.shape, q.shape)
    total = np.zeros(shape[:-1])
    for part in (p, q):
        is_there = (part > 0) & (middle > 0)
        ratio = np.divide(
            part,
            middle,
            out=np.ones_like(middle),
            where=is_there,
        )
        information = part * np.log2(ratio)
        total = total + 0.5 * information.sum(axis=-1)
    return np.clip(total, 0, 1)


def smoothed(histograms: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Turn counts on a grid into densities by a Gaussian kernel of Scott's width.

    Parameters
    ----------
    histograms : ndarray
        (m, n_grid) counts, each distance shared by its two neighbors on the grid.
    grid : ndarray
        (n_grid,) evenly spaced.

    Returns
    -------
    ndarray
        (m, n_grid), sum 1.
    """
    n_grid = len(grid)
    step = grid[1] - grid[0]
    n = histograms.sum(axis=1)
    middle = (n_grid - 1) / 2
    positions = np.arange(n_grid) - middle
    mean = histograms @ positions / n
    mean_square = histograms @ np.square(positions) / n
    # sharing spreads by 1/6 of a step, squared
    variance = mean_square - np.square(mean) - 1 / 6
    variance = np.maximum(variance, 0)
    unbiased = variance * n / np.maximum(n - 1, 1)
    widths = bandwidth(step * np.sqrt(unbiased), n, step)
    # twice the length, so that the tails of the kernel do not come in again on the other side
    size = 1 << (2 * n_grid - 1).bit_length()
    waves = np.fft.rfftfreq(size, d=step)
    exponents = np.pi * waves[None] * widths[:, None]
    kernels = np.exp(-2 * np.square(exponents))
    shares = histograms / n[:, None]
    spectra = np.fft.rfft(shares, size, axis=1)
    smooth = np.fft.irfft(spectra * kernels, size, axis=1)
    smooth = smooth[:, :n_grid]
    smooth = np.maximum(smooth, 0)
    return smooth / smooth.sum(axis=1, keepdims=True)


# ------------------------------------------------------------------------------------ one evaluator


@checked
def representational_divergence(
    references: np.ndarray,
    metamers: np.ndarray,
    *,
    n_permutations: int = 1_000,
    max_pairs: int = 20_000,
    n_grid: int = N_GRID,
    seed: int = 0,
) -> pd.DataFrame:
    """Compare the distances among photographs, among their metamers, and between both.

    The distances are those of the responses of one network.

    Parameters
    ----------
    references, metamers : ndarray
        (n, units), finite, row by row; at least 4 images.
    n_permutations : int
        Of the null of RR-MM: photograph and metamer change places, within image pairs, at random.
    max_pairs : int
        With more pairs of images than this, so many are drawn, the same for RR and MM.
    n_grid : int
        Points of the grid.
    seed : int
        Seed of pairs and permutations.

    Returns
    -------
    pandas.DataFrame
        Three rows: comparison (``RR-MM``, ``RR-RM``, ``MM-RM``), headline, value, p, null_mean,
        null_95 (of RR-MM only: exchanging photograph and metamer leaves RM as it is), n (images),
        n_pairs, degenerate (a sample's kernel would be narrower than the grid; it was widened to
        one step), and the means of the distances rr, mm, rm.

    Raises
    ------
    InputError
        When shapes differ, values are not finite, there are fewer than 4 images, or a number is out
        of range.

    Notes
    -----
    p = (1 + k) / (1 + N), k being the permutations with a divergence at least as large as the
    observed one, both on one grid over all distances. The value is upward biased, as the null's
    mean shows; compare with it.

    There is no interval. A divergence of two samples is above 0 even where their distributions are
    the same, and so is that of every resample: a bootstrap interval never held the truth there. How
    large it gets by chance alone is what ``null_mean`` and ``null_95`` say.

    Examples
    --------
    >>> random = np.random.default_rng(0)
    >>> references, metamers = random.normal(size=(2, 10, 20))
    >>> table = representational_divergence(references, metamers, n_permutations=19, n_grid=100)
    >>> table[["comparison", "n", "n_pairs"]].values.tolist()
    [['RR-MM', 10, 45], ['RR-RM', 10, 45], ['MM-RM', 10, 45]]
    """
    if references.ndim != 2 or references.shape != metamers.shape:
        raise InputError(
            f"responses to references {references.shape} and metamers {metamers.shape} must be two "
            "arrays (n, units) of one shape."
        )
    n_images = len(references)
    if n_images < MIN_IMAGES:
        raise InputError(
            f"{n_images} images; distributions of distances need at least {MIN_IMAGES}."
        )
    for what, values in (("references", references), ("metamers", metamers)):
        bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
        if len(bad):
            raise InputError(
                f"responses to {what} are not finite in row(s) {name_ids(bad)}; check the network."
            )
    if n_permutations < 0 or max_pairs < 1 or n_grid < 10:
        raise InputError(
            f"n_permutations ({n_permutations}) must be 0 or more, max_pairs ({max_pairs}) 1 or "
            f"more, and n_grid ({n_grid}) at least 10."
        )
    values = np.concatenate([references, metamers]).astype(np.float64)
    values -= values.mean(axis=0)  # squares of smaller numbers lose fewer digits
    products = values @ values.T
    squares = np.diag(products)
    squared = squares[:, None] + squares[None] - 2 * products
    all_pairs = np.sqrt(np.maximum(squared, 0))
    left, right = np.triu_indices(n_images, 1)
    if len(left) > max_pairs:
        random = generator(seed, "image pairs", n_images)
        kept = np.sort(random.choice(len(left), max_pairs, replace=False))
        left = left[kept]
        right = right[kept]
    distances = _Distances(
        pairs=(left, right),
        rr=all_pairs[left, right],
        rm=np.linalg.norm(values[:n_images] - values[n_images:], axis=1),
        mm=all_pairs[n_images + left, n_images + right],
        crossed=(all_pairs[left, n_images + right], all_pairs[n_images + left, right]),
    )
    samples = {
        "RR": distances.rr,
        "MM": distances.mm,
        "RM": distances.rm,
    }
    rows = []
    for first, second in COMPARISONS:
        both = (samples[first], samples[second])
        grid = common_grid(*both, n_grid=n_grid)
        p, q = (density(sample, grid) for sample in both)
        widths = [bandwidth(sample.std(ddof=1), len(sample), 0.0) for sample in both]
        row: dict[str, Any] = {
            "comparison": f"{first}-{second}",
            "headline": (first, second) == HEADLINE,
            "value": float(jensen_shannon(p, q)),
            "p": np.nan,
            "null_mean": np.nan,
            "null_95": np.nan,
            "n": n_images,
            "n_pairs": len(samples["RR"]),
            "degenerate": bool(min(widths) < grid[1] - grid[0]),
        }
        for name, sample in samples.items():
            row[f"{name.lower()}_mean"] = float(sample.mean())
        if row["headline"] and n_permutations:
            row |= _permutation(distances, n_images, n_permutations, n_grid, seed)
        rows.append(row)
    return pd.DataFrame(rows)


class _Distances(NamedTuple):
    """Euclidean distances of the pairs i < j of images, and of matching pairs."""

    pairs: tuple[np.ndarray, np.ndarray]
    """Images i and j of each pair."""
    rr: np.ndarray
    """Photograph i and photograph j."""
    rm: np.ndarray
    """Each photograph and its metamer."""
    mm: np.ndarray
    """Metamer i and metamer j."""
    crossed: tuple[np.ndarray, np.ndarray]
    """Photograph i and metamer j, metamer i and photograph j."""


def _permutation(
    distances: _Distances, n: int, n_permutations: int, n_grid: int, seed: int
) -> dict[str, float]:
    """Exchange photograph and metamer of images at random, and compute the divergence of each."""
    from scipy.sparse import csr_matrix, vstack

    # 2 · (i exchanged) + (j exchanged) is the position of the distance of a pair
    by_state = [distances.rr, *distances.crossed, distances.mm]
    grid = common_grid(*by_state, n_grid=n_grid)
    step = grid[1] - grid[0]
    bins = []
    for part in by_state:
        # share each distance between its two neighbors on the grid: (n_grid, pairs)
        position = (part - grid[0]) / step
        left = np.clip(position.astype(int), 0, n_grid - 2)
        share = position - left
        values = np.concatenate([1 - share, share])
        rows = np.concatenate([left, left + 1])
        columns = np.tile(np.arange(len(part)), 2)
        bins.append(csr_matrix((values, (rows, columns)), (n_grid, len(part))))
    # RR above, MM below
    both = []
    for above, below in zip(bins, reversed(bins), strict=True):
        both.append(vstack([above, below], "csr"))
    first, second = distances.pairs
    random = generator(seed, "exchange", n)
    drawn = random.integers(0, 2, (n_permutations, n), np.uint8)
    as_it_is = np.zeros((1, n), dtype=np.uint8)
    exchanged = np.concatenate([as_it_is, drawn])
    values = np.empty(n_permutations + 1)
    for start in range(0, len(exchanged), _ROWS):
        part = exchanged[start : start + _ROWS]
        states = 2 * part[:, first] + part[:, second]
        counts = np.zeros((2 * n_grid, len(part)))
        for state, binned in enumerate(both):
            is_there = np.equal(states.T, state)
            counts += binned @ is_there.astype(float)
        halves = np.split(counts.T, 2, axis=1)
        p, q = (smoothed(np.ascontiguousarray(half), grid) for half in halves)
        values[start : start + _ROWS] = jensen_shannon(p, q)
    null = values[1:]
    n_reached = int((null >= values[0] - 1e-12).sum())
    return {
        "p": p_from_count(n_reached, n_permutations),
        "null_mean": float(null.mean()),
        "null_95": float(np.quantile(null, 0.95)),
    }


# ---------------------------------------------------------------------------------- many evaluators


@checked
def divergence(
    evaluators: Sequence[StagedModel],
    sets: Sequence[MetamerSet],
    *,
    stages: Mapping[str, str | float] | str | float | None = None,
    include_untrained: bool = False,
    run: RunOptions | None = None,
    memory: Memory | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Compute the divergence of every set of metamers in every evaluator.

    The evaluator's stage is that of the same depth as the stage of the set.

    Parameters
    ----------
    evaluators : sequence of StagedModel
        At least 2.
    sets : sequence of MetamerSet
        What to compare.
    stages : str, float or mapping, optional
        Where each evaluator is read: a depth for all, or the evaluator's name to a stage or depth
        (`stimuli_gen.depth.resolve_stage`). By default the set's own stage: ``early``, ``middle``
        or ``late``, or, for networks that took part, the stage that was matched.
    include_untrained : bool
        Ask networks with random weights too.
    run : RunOptions, optional
        Batch size and progress, which is called with the pairs of evaluator
        and set that are done, and all.
    memory : dict, optional
        Keeps responses to photographs, for further calls; empty at first.
    **options : object
        Options of `representational_divergence`.

    Returns
    -------
    pandas.DataFrame
        One row an evaluator × set × validity × comparison, for a heat map: set, members, stage,
        setting, evaluator, evaluator_stage, trained, took_part (drawn dashed in the paper),
        validity, the columns of `representational_divergence`, pass rates, and note. Fewer than 4
        metamers of a kind are a row without value.

    Raises
    ------
    InputError
        When there are fewer than 2 evaluators or no set, or a stage cannot be found.

    Examples
    --------
    >>> import numpy as np
    >>> import pandas as pd
    >>> import torch
    >>> from torch import nn
    >>> from neurometamer.evaluation import divergence, metamer_set
    >>> from stimuli_gen import StimulusSet, stage_model
    >>> images = np.random.default_rng(0).random((4, 3, 32, 32), dtype=np.float32)
    >>> table = pd.DataFrame({"id": list("abcd"), "kind": "RE", "reference_id": list("abcd")})
    >>> photographs = StimulusSet(images=images, table=table)
    >>> table = table.assign(id=["am", "bm", "cm", "dm"], kind="metamer", valid=True)
    >>> metamers = StimulusSet(images=images**4, table=table)
    >>> joined = metamer_set(photographs, metamers, members=["alexnet"], stage="middle")
    >>> _ = torch.manual_seed(0)
    >>> evaluators = []
    >>> for name in ("one", "two"):
    ...     layers = nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5)
    ...     evaluators.append(stage_model(nn.Sequential(*layers), name=name))
    >>> options = {"include_untrained": True, "n_permutations": 19}
    >>> table = divergence(evaluators, [joined], **options)
    >>> headline = table[table["headline"]].round(1)
    >>> headline[["evaluator", "evaluator_stage", "comparison", "value"]].values.tolist()
    [['one', '1', 'RR-MM', 0.9], ['two', '1', 'RR-MM', 1.0]]
    """
    chosen = chosen_evaluators(evaluators, include_untrained)
    if not sets:
        raise InputError("no metamers to compare; give at least one set.")
    run = run or RunOptions()
    kept = {} if memory is None else memory
    rows: list[pd.DataFrame] = []
    labels: dict[str, Any] = {}
    pairs = list(itertools.product(sets, chosen))
    for done, (metamers, evaluator) in enumerate(pairs, start=1):
        stage, path = _stage_of(evaluator, metamers, stages)
        labels = {
            **metamers.label,
            "evaluator": evaluator.name,
            "evaluator_stage": stage,
            "trained": evaluator.trained,
            "took_part": metamers.took_part(evaluator),
        }
        key = (evaluator.digest, path, metamers.reference_digest)
        if key not in kept:
            # responses to the photographs of one size at a time
            for other in list(kept):
                if other[2] != key[2]:
                    del kept[other]
            kept[key] = _responses(evaluator, stage, path, metamers.references, run.batch_size)
        responses = _responses(evaluator, stage, path, metamers.pictures, run.batch_size)
        table = _by_state(metamers, kept[key], responses, options)
        rows.append(table.assign(**labels))
        if run.progress is not None:
            run.progress(done, len(pairs))
    table = pd.concat(rows, ignore_index=True)
    first = [*labels, "validity"]
    return table[[*first, *table.columns.drop(first)]]


def check_stages(
    evaluators: Sequence[StagedModel],
    sets: Sequence[MetamerSet],
    stages: Mapping[str, str | float] | str | float | None,
) -> None:
    """Refuse stages at which evaluators cannot be read, before anything is computed.

    Parameters
    ----------
    evaluators : sequence of StagedModel
        See `divergence`.
    sets : sequence of MetamerSet
        See `divergence`.
    stages : mapping, str, float or None
        See `divergence`.

    Raises
    ------
    InputError
        When a stage cannot be found, or one is given for a network that does not evaluate.
    """
    names = [evaluator.name for evaluator in evaluators]
    if isinstance(stages, Mapping):
        for name in stages:
            if name not in names:
                raise unknown_name("evaluator (--read-at NAME=STAGE)", name, names)
    for evaluator, metamers in itertools.product(evaluators, sets):
        _stage_of(evaluator, metamers, stages)


def _stage_of(
    evaluator: StagedModel,
    metamers: MetamerSet,
    stages: Mapping[str, str | float] | str | float | None,
) -> tuple[str, str]:
    from stimuli_gen.depth import DEPTHS, resolve_stage

    if isinstance(stages, Mapping):
        if evaluator.name not in stages:
            raise unknown_name("evaluator with a stage", evaluator.name, stages)
        return resolve_stage(evaluator, stages[evaluator.name])
    if stages is not None:
        return resolve_stage(evaluator, stages)
    try:
        is_fraction = 0 < float(metamers.stage) <= 1
    except ValueError:
        is_fraction = False
    if metamers.stage in DEPTHS or is_fraction:
        return resolve_stage(evaluator, metamers.stage)
    if metamers.took_part(evaluator) and metamers.matched.get(evaluator.name):
        return resolve_stage(evaluator, metamers.matched[evaluator.name][-1])
    raise InputError(
        f"{metamers.name}: the stage '{metamers.stage}' is no depth that {evaluator.name} could be "
        f"read at; say where by read_at (--read-at): {', '.join(DEPTHS)}, a fraction, or a stage "
        "for each evaluator."
    )


def _responses(
    evaluator: StagedModel,
    stage: str,
    path: str,
    pictures: np.ndarray | ImagesOnDisk,
    batch_size: int | None,
) -> np.ndarray:
    from stimuli_gen.batches import rows_in_batches

    model = evaluator
    if stage not in evaluator.stages:
        model = replace(evaluator, stages={stage: path})

    def respond(batch: Any) -> Any:
        activations = model.activations(batch, [stage])
        return activations[stage].flatten(1).float()

    return rows_in_batches(respond, shown_to(evaluator, pictures), batch_size, evaluator.device)


def _by_state(
    metamers: MetamerSet,
    references: np.ndarray,
    pictures: np.ndarray,
    options: Mapping[str, Any],
) -> pd.DataFrame:
    """Compare valid metamers with their photographs, and the others apart.

    `references` and `pictures` are responses, (n, units).
    """
    rates = pass_rates(metamers.table)
    parts = []
    for state in reported_states(metamers.states):
        in_state = metamers.states == state
        n = int(in_state.sum())
        if n >= MIN_IMAGES:
            part = representational_divergence(references[in_state], pictures[in_state], **options)
            part = part.assign(note="")
        else:
            note = no_valid_note(rates)
            if n:
                note = f"excluded: {n} {state} metamer(s); {MIN_IMAGES} are needed"
            names = ["-".join(both) for both in COMPARISONS]
            part = pd.DataFrame({"comparison": names})
            part["headline"] = part["comparison"] == "-".join(HEADLINE)
            part = part.assign(value=np.nan, n=n, note=note)
        parts.append(part.assign(validity=state, **rates))
    return pd.concat(parts, ignore_index=True)
