"""How often tests reject and intervals cover, in simulated studies whose truth is known.

A study: photographs are points of a space of 30 dimensions whose variances fall as a power of their
rank; each of six layers weighs these dimensions with a window of its own, early layers the first
ones. A region of a subject is made of one layer: 100 voxels mix its dimensions at random and add
noise that neighbors share and whose size differs between voxels (log-normal). RDMs are 1 - Pearson
correlation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmarks.bars import Row, Setup

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

N_DIMENSIONS = 30
N_LAYERS = 6
N_UNITS = 100
N_VOXELS = 100


@dataclass(frozen=True, kw_only=True)
class Design:
    """What all studies of one condition share.

    Attributes
    ----------
    n : int
        Photographs.
    sources : sequence of int
        Layer that each region is made from, counted from 0.
    noise : sequence of float
        Standard deviation of each region's noise, in those of its signal.
    subjects : int
        How many people saw the photographs.
    layers : sequence of int
        Layers that the network shows.
    heavy_tails : bool
        Photographs from a t distribution with 3 degrees of freedom instead of a normal one.
    unequal_noise : bool
        Noise also differs between photographs (log-normal).
    spectrum : float
        Exponent of the variances of the dimensions.
    related : bool
        Whether brains see what the network sees; False makes the truth of all similarities 0.
    classes : int
        Classes of equal size; 0 for none.
    class_share : float
        Share of the variance that photographs of a class have in common.
    random_classes : bool
        Whether other photographs are of other classes, or of the same.
    """

    n: int = 40
    sources: Sequence[int] = (1,)
    noise: Sequence[float] = (1.0,)
    subjects: int = 3
    layers: Sequence[int] = range(N_LAYERS)
    heavy_tails: bool = False
    unequal_noise: bool = False
    spectrum: float = 1.0
    related: bool = True
    classes: int = 0
    class_share: float = 0.5
    random_classes: bool = False

    def class_labels(self, n: int) -> np.ndarray:
        """Give each of n photographs its class; random classes keep their size.

        Parameters
        ----------
        n : int
            Photographs.

        Returns
        -------
        ndarray of int, shape (n,)
            Neighbors alike.
        """
        n_classes = self.classes * n // self.n if self.random_classes else self.classes
        return np.arange(n) * n_classes // n


class Study:
    """Units and voxels of one network and its subjects; photographs are drawn again and again.

    Parameters
    ----------
    design : Design
        What the study is like.
    seed : int
        Seed of units and voxels, and of the photographs.
    """

    def __init__(self, design: Design, seed: int) -> None:
        self.design = design
        self.random = np.random.default_rng([12, seed])
        places = np.arange(N_DIMENSIONS)
        centers = np.linspace(0, N_DIMENSIONS - 1, N_LAYERS)[:, np.newaxis]
        self.windows = np.exp(-0.5 * np.square((places - centers) / (N_DIMENSIONS / 4))) * np.sqrt(
            places + 1
        )
        self.units = self.random.standard_normal((len(design.layers), N_DIMENSIONS, N_UNITS))
        regions = (design.subjects, len(design.sources))
        self.voxels = self.random.standard_normal((*regions, N_DIMENSIONS, N_VOXELS))
        self.spread = np.exp(self.random.normal(0, 0.5, (*regions, N_VOXELS)))
        self.centers = self.random.standard_normal((2, max(design.classes, 1), N_DIMENSIONS))

    def draw(self, n: int | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Show photographs.

        Parameters
        ----------
        n : int, optional
            How many; those of the design by default.

        Returns
        -------
        layers : ndarray, shape (n_layers, n_pairs)
            Condensed RDMs of the network.
        brain : ndarray, shape (n_subjects, n_regions, n_pairs)
            Condensed RDMs of the regions.
        """
        n = n or self.design.n
        seen = self._photographs(n)
        shown = seen if self.design.related else self._photographs(n, 1)
        layers = [
            rdm(seen * self.windows[k] @ units) for k, units in zip(self.design.layers, self.units)
        ]
        brain = [
            [self._region(shown, region, *parts) for region, parts in enumerate(zip(*subject))]
            for subject in zip(self.voxels, self.spread)
        ]
        return np.array(layers), np.array(brain)

    def _photographs(self, n: int, which: int = 0) -> np.ndarray:
        scales = np.arange(1, N_DIMENSIONS + 1) ** (-self.design.spectrum / 2)
        if self.design.heavy_tails:
            return self.random.standard_t(3, (n, N_DIMENSIONS)) / np.sqrt(3) * scales
        places = self.random.standard_normal((n, N_DIMENSIONS))
        if self.design.classes:
            labels, share = self.design.class_labels(n), self.design.class_share
            centers = self.centers[which]
            if self.design.random_classes:
                centers = self.random.standard_normal((labels.max() + 1, N_DIMENSIONS))
            places = np.sqrt(1 - share) * places + np.sqrt(share) * centers[labels]
        return places * scales

    def _region(
        self, shown: np.ndarray, region: int, voxels: np.ndarray, spread: np.ndarray
    ) -> np.ndarray:
        window = self.windows[self.design.sources[region]]
        signal = shown * window @ voxels
        white = self.random.standard_normal((len(shown), N_VOXELS + 2))
        noise = (white[:, :-2] + white[:, 1:-1] + white[:, 2:]) / np.sqrt(3) * spread
        if self.design.unequal_noise:
            noise *= np.exp(self.random.normal(0, 0.5, (len(shown), 1)))
        return rdm(signal / signal.std() + self.design.noise[region] * noise)

    def rdms(self) -> tuple[RDMs, RDMs]:
        """Draw the photographs of the design once, as the RDMs that the public functions take."""
        from neurometamer.rsa.compute import label_rdms

        layers, brain = self.draw()
        names = [f"im{i:03d}" for i in range(self.design.n)]
        stages = [f"layer{k}" for k in self.design.layers]
        people = [f"S{i}" for i in range(brain.shape[0]) for _ in range(brain.shape[1])]
        regions = [f"R{k}" for k in range(brain.shape[1])] * brain.shape[0]
        known = (
            {"category": [f"c{k}" for k in self.design.class_labels(self.design.n)]}
            if self.design.classes
            else {}
        )
        network = label_rdms(
            layers,
            conditions=names,
            rdm_descriptors={"stage": stages},
            pattern_descriptors=known,
            measure="1 - Pearson",
        )
        flat = brain.reshape(-1, brain.shape[2])
        return network, label_rdms(
            flat,
            conditions=names,
            rdm_descriptors={"subject": people, "roi": regions},
            measure="1 - Pearson",
        )


def rdm(responses: np.ndarray) -> np.ndarray:
    """Take 1 minus the correlation of each two rows.

    Parameters
    ----------
    responses : ndarray, shape (n, n_units)
        A row a photograph.

    Returns
    -------
    ndarray, shape (n * (n - 1) / 2,)
        Condensed.
    """
    return 1 - np.corrcoef(responses)[np.triu_indices(len(responses), 1)]


def within(share: float, truth: float, n: int, width: float = 3.0) -> bool:
    """Say whether a share is as near to the true one as chance allows.

    Parameters
    ----------
    share : float
        Found among `n`.
    truth : float
        Expected.
    n : int
        Independent studies.
    width : float
        Binomial standard errors that are allowed.

    Returns
    -------
    bool
        Whether it is.
    """
    return abs(share - truth) <= width * np.sqrt(truth * (1 - truth) / n)


# ---------------------------------------------------------------------------------------- hierarchy

SAME_LAYER = {
    "noise rises": Design(sources=(0,) * 5, noise=(0.5, 1, 2, 4, 20)),
    "noise falls": Design(sources=(5,) * 5, noise=(20, 4, 2, 1, 0.5)),
    "the last region has no signal": Design(sources=(0,) * 5, noise=(1, 1, 1, 1, 20)),
    "the first region has no signal": Design(sources=(5,) * 5, noise=(20, 1, 1, 1, 1)),
    "noise .3 to 3": Design(sources=(0,) * 5, noise=(0.3, 0.5, 1, 2, 3)),
    "a middle layer, noise .3 to 3": Design(sources=(2,) * 5, noise=(0.3, 0.5, 1, 2, 3)),
    "20 photographs": Design(n=20, sources=(0,) * 5, noise=(0.3, 0.5, 1, 2, 20)),
    "heavy tails": Design(sources=(0,) * 5, noise=(0.3, 0.5, 1, 2, 20), heavy_tails=True),
    "unequal noise": Design(sources=(0,) * 5, noise=(0.3, 0.5, 1, 2, 20), unequal_noise=True),
    "2 subjects": Design(subjects=2, sources=(0,) * 5, noise=(0.3, 0.5, 1, 2, 20)),
    "8 subjects": Design(subjects=8, sources=(0,) * 5, noise=(0.3, 0.5, 1, 2, 20)),
}
"""Regions made from one layer whose noise differs: later regions do not prefer later layers."""

HIERARCHIES = {
    "a layer a region, noise 2": Design(sources=(0, 1, 2, 3, 5), noise=(2,) * 5),
    "a layer a region, noise 1 to 3": Design(sources=(0, 1, 2, 3, 5), noise=(1, 1.5, 2, 2.5, 3)),
    "two layers for five regions, noise 1": Design(sources=(1, 1, 2, 2, 2), noise=(1,) * 5),
}
"""Regions made from later and later layers."""


def hierarchy_p(design: Design, n_studies: int, preferred: str = "center") -> np.ndarray:
    """Test the order of regions in many studies.

    Parameters
    ----------
    design : Design
        Of all studies.
    n_studies : int
        How many.
    preferred : str
        See `hierarchy_test`.

    Returns
    -------
    ndarray, shape (n_studies,)
        One-sided p over subjects; NaN where it was refused.
    """
    from neurometamer.rsa.layers.hierarchy import hierarchy_test

    found = np.empty(n_studies)
    for seed in range(n_studies):
        network, brain = Study(design, seed).rdms()
        table = hierarchy_test(network, brain, preferred=preferred, n_permutations=99, seed=seed)
        found[seed] = table["p"].iloc[-1]
    return found


def measure_hierarchy(setup: Setup) -> list[Row]:
    """Count how often the order of regions is called a hierarchy, where it is none and where it is one."""
    n = setup.pick(1000, 40)
    rows = []
    for name, design in SAME_LAYER.items():
        p = hierarchy_p(design, n)
        note = (
            f"{n} studies, p above .95 in {np.mean(p >= 0.95):.3f}, refused in "
            f"{np.mean(np.isnan(p)):.3f}"
        )
        rows.append(_level(f"hierarchy, no hierarchy: {name}", float(np.mean(p <= 0.05)), note))
    for name, design in HIERARCHIES.items():
        p = hierarchy_p(design, n)
        note = f"{n} studies, refused in {np.mean(np.isnan(p)):.3f}"
        rows.append(
            Row(
                what=f"hierarchy, planted: {name}",
                value=float(np.mean(p <= 0.05)),
                unit="power",
                note=note,
            )
        )
    return rows


def _level(what: str, share: float, note: str) -> Row:
    return Row(what=what, value=share, unit="share of p <= .05", sense="<=", bound=0.075, note=note)


# ---------------------------------------------------------------------------------- layers, regions

SHOWN = (0, 2, 4)
"""Layers of the network in studies of intervals; regions are made from layer 1, which is not among them."""

RELATED = {
    "nothing in common": Design(layers=SHOWN, related=False),
    "noise 1": Design(layers=SHOWN),
    "noise .3": Design(layers=SHOWN, noise=(0.3,)),
    "heavy tails": Design(layers=SHOWN, heavy_tails=True),
    "unequal noise": Design(layers=SHOWN, unequal_noise=True),
}
"""Networks and regions, each with 40, 20 and 10 photographs."""

IN_CLASSES = {
    "5 fixed classes, n = 40": Design(layers=SHOWN, classes=5),
    "5 fixed classes, n = 20": Design(layers=SHOWN, classes=5, n=20),
    "10 random classes, n = 40": Design(layers=SHOWN, classes=10, random_classes=True),
    "10 random classes, nothing in common but classes, n = 40": Design(
        layers=SHOWN, classes=10, random_classes=True, related=False
    ),
    "10 random classes of 8, n = 80": Design(layers=SHOWN, classes=10, random_classes=True, n=80),
    "20 random classes, n = 80": Design(layers=SHOWN, classes=20, random_classes=True, n=80),
}
"""Photographs in classes that both network and brain show."""


def interval_coverage(design: Design, n_studies: int, n_resamples: int = 200) -> dict[str, float]:
    """Count how often intervals of layers and regions hold the similarity of many other photographs.

    Parameters
    ----------
    design : Design
        Of all studies.
    n_studies : int
        How many.
    n_resamples : int
        See `layer_by_roi`.

    Returns
    -------
    dict of str to float
        Share of intervals of ``subjects`` (each layer and subject) and of the ``mean`` over
        subjects (each layer).

    Notes
    -----
    The truth is the mean over 6 times 250 further photographs of the same units and voxels; its own
    error adds about a tenth to the variance of differences of 40 photographs, so that true
    coverages are a little higher. With random classes it is the mean over 200 further studies of as
    many classes of the same size: pairs within a class are alike in every RDM, and with ever more
    classes there would be ever fewer of them.
    """
    from neurometamer.rsa.layers.matrix import layer_by_roi

    held: dict[str, list[np.ndarray]] = {"subjects": [], "mean": []}
    for seed in range(n_studies):
        study = Study(design, seed)
        claim = "random" if design.random_classes else "fixed"
        table = layer_by_roi(*study.rdms(), n_resamples=n_resamples, classes=claim, seed=seed)
        truth = _true_similarity(study)
        wide = {
            end: table.pivot(index="layer", columns="subject", values=end)
            for end in ("ci_low", "ci_high")
        }
        inside = (wide["ci_low"].to_numpy() <= truth) & (truth <= wide["ci_high"].to_numpy())
        held["subjects"].append(inside[:, :-1])
        held["mean"].append(inside[:, -1])
    return {name: float(np.mean(values)) for name, values in held.items()}


def _true_similarity(study: Study) -> np.ndarray:
    """Give the similarity of many photographs (layers, subjects and their mean)."""
    from neurometamer.rsa.comparators.table import COMPARATORS

    shape = (len(study.design.layers), study.design.subjects + 1)
    if not study.design.related and not study.design.classes:
        return np.zeros(shape)
    found = []
    n, times = (study.design.n, 200) if study.design.random_classes else (250, 6)
    for _ in range(times):
        layers, brain = study.draw(n)
        found.append(COMPARATORS["spearman"](layers, brain[:, 0]))
    truth = np.mean(found, axis=0)
    return np.column_stack([truth, truth.mean(axis=1)])


def measure_intervals(setup: Setup) -> list[Row]:
    """Cover the similarity of layers and regions."""
    n = setup.pick(400, 10)
    rows = []
    for name, design in RELATED.items():
        for photographs in (40, 20, 10):
            shares = interval_coverage(replace(design, n=photographs), n)
            for who, share in shares.items():
                what = f"layers, 95 % intervals, {name}, {photographs} photographs, {who}"
                rows.append(_coverage(what, share, f"{n} studies x 3 layers"))
    for name, design in IN_CLASSES.items():
        for who, share in interval_coverage(design, n).items():
            rows.append(
                _coverage(
                    f"layers, 95 % intervals, {name}, {who}", share, f"{n} studies x 3 layers"
                )
            )
    for name in ("nothing in common", "noise 1"):
        for subjects in (6, 10):
            share = dual_coverage(replace(RELATED[name], n=20, subjects=subjects), n)
            what = f"dual bootstrap, {name}, 20 photographs, {subjects} subjects"
            rows.append(_coverage(what, share, f"{n} studies x 3 layers"))
    return rows


def _coverage(what: str, share: float, note: str) -> Row:
    return Row(what=what, value=share, unit="coverage", sense=">=", bound=0.92, note=note)


def dual_coverage(design: Design, n_studies: int, n_resamples: int = 200) -> float:
    """Count how often the bootstrap over images and subjects holds the similarity of many others of both.

    Parameters
    ----------
    design : Design
        Of all studies.
    n_studies : int
        How many.
    n_resamples : int
        Resamples of images and subjects.

    Returns
    -------
    float
        Share of intervals of all layers that hold the truth: the mean of 24 further subjects and 3
        times 250 further photographs.
    """
    from neurometamer.rsa.bootstrap import dual_bootstrap
    from neurometamer.rsa.comparators.table import COMPARATORS
    from neurometamer.stats.resampling import bootstrap_counts

    held = []
    for seed in range(n_studies):
        study = Study(design, seed)
        layers, brain = study.draw()
        counts = bootstrap_counts(design.n, n_resamples, seed)
        people = bootstrap_counts(design.subjects, n_resamples, seed + 1)
        found = dual_bootstrap(layers, brain[:, 0], counts, people, ceiling=False)
        truth = np.zeros(len(layers))
        if design.related:
            study.voxels = study.random.standard_normal((24, 1, N_DIMENSIONS, N_VOXELS))
            study.spread = np.exp(study.random.normal(0, 0.5, (24, 1, N_VOXELS)))
            further = [study.draw(250) for _ in range(3)]
            truth = np.mean(
                [COMPARATORS["spearman"](a, b[:, 0]).mean(axis=1) for a, b in further], axis=0
            )
        held.append((found.low <= truth) & (truth <= found.high))
    return float(np.mean(held))


def flexible_p(design: Design, n_studies: int, n_resamples: int = 100) -> pd.DataFrame:
    """Test flexible models of regions that have nothing in common with the network.

    Parameters
    ----------
    design : Design
        Of all studies, not related.
    n_studies : int
        How many.
    n_resamples : int
        See `flexible_models`.

    Returns
    -------
    pandas.DataFrame
        Columns what (model or difference), subject and p, a row a test.
    """
    from neurometamer.rsa.layers.weighted import flexible_models

    parts = []
    for seed in range(n_studies):
        claim = "random" if design.random_classes else "fixed"
        rdms = Study(design, seed).rdms()
        found = flexible_models(*rdms, n_resamples=n_resamples, classes=claim, seed=seed)
        parts.append(found.models.rename(columns={"model": "what"}))
        parts.append(found.differences.rename(columns={"contrast": "what"}))
    return pd.concat(parts, ignore_index=True)[["what", "subject", "p"]]


def measure_flexible(setup: Setup) -> list[Row]:
    """Count how often weighted, best and average layers, and their differences, are called more than nothing."""
    n = setup.pick(400, 4)
    rows = []
    for photographs in (40, 20):
        table = flexible_p(Design(n=photographs, layers=SHOWN, related=False), n)
        people = np.where(table["subject"] == "mean", "mean", "subjects")
        for (what, who), p in table.groupby(["what", people], sort=False)["p"]:
            share = float((p <= 0.05).mean())
            rows.append(
                _level(
                    f"flexible models, {photographs} photographs, {what}, {who}",
                    share,
                    f"{n} studies",
                )
            )
    return rows


# -------------------------------------------------------------------------------- error consistency


def consistency_trials(
    random: np.random.Generator, n_images: int, accuracies: Sequence[float], truth: float
) -> pd.DataFrame:
    """Simulate answers of observers to the same images, correlated by how hard these are.

    Parameters
    ----------
    random : numpy.random.Generator
        Source of the answers.
    n_images : int
        Images, all of one stage.
    accuracies : sequence of float
        Of each observer, in (0, 1).
    truth : float
        Kappa of the first two observers.

    Returns
    -------
    pandas.DataFrame
        Usable trials, as `error_consistency` takes them.
    """
    from scipy.optimize import brentq
    from scipy.stats import norm

    shared = brentq(lambda rho: kappa_of(rho, *accuracies[:2]) - truth, 0, 0.999) if truth else 0.0
    hard = random.standard_normal((n_images, 1))
    own = random.standard_normal((n_images, len(accuracies)))
    right = np.sqrt(shared) * hard + np.sqrt(1 - shared) * own < norm.ppf(accuracies)
    parts = [
        pd.DataFrame(
            {
                "participant": f"p{k}",
                "stimulus": [f"im{i}" for i in range(n_images)],
                "correct": answers,
            }
        )
        for k, answers in enumerate(right.T)
    ]
    return pd.concat(parts, ignore_index=True).assign(observer="human", model="m", stage="late")


def kappa_of(rho: float, first: float, second: float) -> float:
    """Give kappa of two observers whose answers come from correlated normal difficulties.

    Parameters
    ----------
    rho : float
        Correlation of the difficulties.
    first, second : float
        Accuracies.

    Returns
    -------
    float
        Error consistency.
    """
    from scipy.stats import multivariate_normal, norm

    limits = norm.ppf([first, second])
    both = float(multivariate_normal([0, 0], [[1, rho], [rho, 1]]).cdf(limits))
    expected = first * second + (1 - first) * (1 - second)
    return (1 - first - second + 2 * both - expected) / (1 - expected)


def consistency_coverage(
    n_studies: int, n_images: int, accuracy: float, truth: float
) -> tuple[float, float]:
    """Count how often intervals of the mean kappa of five people hold it, and how often there is one.

    Parameters
    ----------
    n_studies : int
        How many.
    n_images : int
        Images.
    accuracy : float
        Of everybody.
    truth : float
        Kappa of each two people.

    Returns
    -------
    tuple of float
        Coverage of the intervals given (NaN without any), and share of studies that have one.
    """
    from neurometamer.behavior.agreement import error_consistency, summarize_consistency

    held = []
    for seed in range(n_studies):
        random = np.random.default_rng([13, seed])
        trials = consistency_trials(random, n_images, (accuracy,) * 5, truth)
        table = summarize_consistency(error_consistency(trials), trials)
        row = table[table["stage"] == "late"].iloc[0]
        if np.isfinite(row["ci_low"]):
            held.append(row["ci_low"] <= truth <= row["ci_high"])
    return (float(np.mean(held)) if held else float("nan")), len(held) / n_studies


CONSISTENCIES = [
    (50, 0.7),
    (100, 0.7),
    (50, 0.85),
    (100, 0.85),
    (200, 0.85),
    (50, 0.95),
    (400, 0.95),
    (1000, 0.95),
]
"""Images and accuracy of studies of error consistency."""


def measure_consistency(setup: Setup) -> list[Row]:
    """Cover the mean kappa of five people."""
    n = setup.pick(400, 10)
    rows = []
    for truth in (0.0, 0.25, 0.6):
        for n_images, accuracy in CONSISTENCIES:
            share, given = consistency_coverage(n, n_images, accuracy, truth)
            what = f"error consistency, kappa {truth:g}, {n_images} images, {accuracy:.0%} correct"
            note = f"{n} studies, an interval in {given:.3f} of them"
            if given >= 0.25:
                rows.append(_coverage(what, share, note))
            else:  # hardly ever given: few numbers, and chosen by chance
                rows.append(
                    Row(what=what, value=given, unit="share with an interval", note=f"{n} studies")
                )
    return rows
