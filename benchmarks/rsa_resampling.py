"""R4, R5 and R7: stimulus bootstrap with noise ceilings, label permutations and tau-a, beside rsatoolbox.

Values are compared on the same draws before any time counts. Both sides run in this process on one
thread, by CPU time; the slow side runs fewer resamples, and its time is scaled.
"""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from benchmarks.bars import Row, Setup
from benchmarks.timing import clocked

_THEIRS = {"spearman": "spearman", "pearson": "corr", "whitened-cosine": "cosine_cov"}
_SAME = 1e-12
"""Largest difference on the same draws: the same sums in another order."""
_SAME_LONG = 1e-10
"""Of 499,500 dissimilarities: theirs adds ranks one by one and is off by 5e-12 (ours, beside 80 bits, by 2e-17)."""


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # theirs warns about tau and about sparse matrices
        yield


def _rdms(n_models: int, n_data: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Make random RDMs; the data share a part with the first model."""
    random = np.random.default_rng(0)
    models = random.random((n_models, n * (n - 1) // 2))
    return models, random.random((n_data, models.shape[1])) + models[0]


def _ratio(what: str, ours: float, theirs: float, bound: float | None, note: str) -> Row:
    return Row(
        what=what,
        value=theirs / ours,
        unit="times faster",
        sense=">=" if bound else "",
        bound=bound,
        note=f"{note}; {ours:.2f} against {theirs:.0f} CPU s, one thread, load "
        f"{os.getloadavg()[0]:.1f}",
    )


def _best(call: Callable[[], Any], rounds: int) -> tuple[float, Any]:
    """Give the CPU seconds of the fastest round, and the result."""
    found = [clocked(call) for _ in range(rounds)]
    return min(one[0] for one in found), found[-1][2]


def _agree(ours: np.ndarray, theirs: np.ndarray, within: float = _SAME) -> float:
    """Refuse other values, and give the largest difference."""
    np.testing.assert_allclose(ours, theirs, atol=within, rtol=0)
    return float(np.abs(ours - theirs).max())


# ---------------------------------------------------------------------------------------- bootstrap


def measure_bootstrap(setup: Setup) -> Sequence[Row]:
    """R4."""
    rows = []
    with _one_thread():
        for by, n, bound in (
            ("spearman", 40, 30.0),
            ("pearson", 40, 30.0),
            ("spearman", 120, 30.0),
        ):
            rows.append(_bootstrap(setup, by, n, bound))
        rows.append(_bootstrap(setup, "whitened-cosine", 40, None))
    return rows


def _bootstrap(setup: Setup, by: str, n: int, bound: float | None) -> Row:
    """Time eight models against twelve subjects."""
    from rsatoolbox.inference import eval_bootstrap_pattern
    from rsatoolbox.model import ModelFixed
    from rsatoolbox.rdm import RDMs

    from neurometamer.rsa.bootstrap import bootstrap_comparison

    models, data = _rdms(8, 12, n)
    few = setup.pick(200, 5) if n < 100 else setup.pick(40, 2)
    many = setup.pick(10_000, 50)
    their_models = [ModelFixed(str(k), one) for k, one in enumerate(models)]
    np.random.seed(0)  # noqa: NPY002 - theirs draws from numpy's global generator
    drawn = [np.random.randint(0, n, size=n) for _ in range(many)]  # noqa: NPY002
    counts = np.array([np.bincount(images, minlength=n) for images in drawn])

    def peer() -> Any:
        np.random.seed(0)  # noqa: NPY002
        return eval_bootstrap_pattern(their_models, RDMs(data), method=_THEIRS[by], N=few)

    theirs, result = _best(peer, 1)
    ours, (samples, ceilings) = _best(
        lambda: bootstrap_comparison(models, data, counts, comparator=by), 1
    )
    off = _agree(samples[:few], result.evaluations.reshape(few, len(models)))
    off = max(off, _agree(ceilings[:, :few], result.noise_ceiling))
    what = f"{many} resamples with noise ceiling, {by}, 8 models × 12 subjects × {n} images"
    note = (
        f"theirs from {few} resamples, scaled; values on the same draws differ by {off:.1g} at most"
    )
    return _ratio(what, ours, theirs * many / few, bound, note)


# -------------------------------------------------------------------------------------- permutation


def measure_permutation(setup: Setup) -> Sequence[Row]:
    """R5."""
    from rsatoolbox.rdm import RDMs, compare
    from rsatoolbox.rdm.rdms import permute_rdms

    from neurometamer.rsa.comparators.table import permuted_comparison, spearman
    from neurometamer.stats.resampling import max_t_p

    n, few, many = 120, setup.pick(200, 5), setup.pick(10_000, 50)
    layers, regions = _rdms(8, 15, n)
    random = np.random.default_rng(1)
    orders = np.array([random.permutation(n) for _ in range(many)])

    def ours() -> tuple[np.ndarray, np.ndarray]:
        null = permuted_comparison(layers, regions, orders)
        return null, max_t_p(spearman(layers, regions), null)[1]

    def peer() -> np.ndarray:
        left, right = RDMs(layers), RDMs(regions)
        return np.array(
            [compare(permute_rdms(left, one), right, method="spearman") for one in orders[:few]]
        )

    with _one_thread():
        theirs, expected = _best(peer, 1)
        seconds, (null, _) = _best(ours, setup.pick(3, 1))
    off = _agree(null[:few], expected)
    note = (
        f"theirs without max-T, from {few}, scaled; values on the same permutations differ by "
        f"{off:.1g} at most"
    )
    what = f"{many} label permutations with max-T, spearman, 8 layers × 15 regions × {n} images"
    return [_ratio(what, seconds, theirs * many / few, 40.0, note)]


# -------------------------------------------------------------------------------------- comparators


def measure_comparators(setup: Setup) -> Sequence[Row]:
    """R7."""
    n = setup.pick(1000, 60)
    a, b = _rdms(8, 12, n)
    with _one_thread():
        return [
            _comparison("tau-a", "tau-a", a, b, setup.pick(6, 96)),
            _comparison("whitened-cosine", "cosine_cov", a, b, 96),
            _comparison("spearman", "spearman", a, b, 96),
            *_alone(setup, a, b),
        ]


def _comparison(by: str, theirs: str, a: np.ndarray, b: np.ndarray, pairs: int) -> Row:
    """Time 96 pairs of RDMs; theirs may be scaled from fewer."""
    from rsatoolbox.rdm import RDMs, compare

    from neurometamer.rsa.comparators.table import COMPARATORS

    few = (a[:2], b[:3]) if pairs == 6 else (a, b)
    seconds, found = _best(lambda: COMPARATORS[by](a, b), 1)
    peer, expected = _best(lambda: compare(RDMs(few[0]), RDMs(few[1]), method=theirs), 1)
    off = _agree(found[: len(few[0]), : len(few[1])], expected, _SAME_LONG)
    images = round(np.sqrt(2 * a.shape[1]) + 0.5)
    scaled = f"theirs from {pairs} pairs, scaled; " if pairs < 96 else ""
    note = f"{scaled}values differ by {off:.1g} at most"
    return _ratio(
        f"{by}, 96 pairs of RDMs of {images} images", seconds, peer * 96 / pairs, None, note
    )


def _alone(setup: Setup, a: np.ndarray, b: np.ndarray) -> list[Row]:
    """Time what rsatoolbox has not."""
    from neurometamer.rsa.cka import linear_cka
    from neurometamer.rsa.compare import partial_spearman

    units = setup.pick(200_000, 2000)
    responses = np.random.default_rng(2).random((200, units), dtype=np.float32)
    partial, _ = _best(lambda: partial_spearman(a[:4], b[:4], controls=b[4:7]), 1)
    cka, _ = _best(lambda: linear_cka(responses, responses[:, ::2], debiased=True), 1)
    return [
        Row(what="partial spearman, 16 pairs given 3 controls", value=partial, unit="CPU s"),
        Row(
            what=f"debiased linear CKA, 200 images × {units} and {units // 2} units",
            value=cka,
            unit="CPU s",
        ),
    ]
