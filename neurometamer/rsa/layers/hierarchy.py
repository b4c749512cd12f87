"""Whether the preferred layer rises with the order of regions: a slope that noise does not tilt."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.provenance import generator
from neurometamer.rsa.comparators.ranks import n_images
from neurometamer.rsa.comparators.table import COMPARATORS, comparator_name, prepared
from neurometamer.rsa.layers.matrix import ModelBrain, join_model_brain
from neurometamer.rsa.rdms import describe_left_out
from neurometamer.stats.resampling import permutation_p, permute_pairs, t_interval

if TYPE_CHECKING:
    import pandas as pd
    from rsatoolbox.rdm import RDMs

PREFERENCES = {
    "center": "center of mass over layers, weights: similarities",
    "best": "layer of highest similarity",
}
"""Name of a way to tell which layer a region prefers, to what it is; layers count 1, 2, …"""

STATISTIC = "layers a region"
"""Text of the column ``statistic``: how far the center of mass moves from region to region."""

RELIABLE = 0.05
"""Largest p of the agreement between subjects at which a region is tested."""

MIN_REGIONS = 3

ONE_SUBJECT = "one subject: its noise is not known, so there is no p"
"""In the column ``reason``."""

COLUMNS = (
    "kind",
    "subject",
    "order",
    "preferred_layers",
    "statistic",
    "value",
    "ci_low",
    "ci_high",
    "p",
    "n_subjects",
    "left_out",
    "reason",
    "method",
)


@checked
def hierarchy_test(
    network: RDMs,
    brain: RDMs,
    rois: Sequence[str] = (),
    *,
    image_type: str | None = None,
    comparator: str = "spearman",
    join: str = "exact",
    preferred: str = "center",
    n_permutations: int = 999,
    seed: int = 0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Test over subjects whether later regions prefer later layers, whatever the regions' noise.

    Parameters
    ----------
    network : rsatoolbox.rdm.RDMs
        ``rdm_descriptors["stage"]``: one RDM a stage, early to late.
    brain : rsatoolbox.rdm.RDMs
        ``rdm_descriptors`` subject and roi.
    rois : sequence of str
        Regions, early to late; when empty, the order of the file.
    image_type : str or None
        Image type compared, joined by photograph. By default all stimuli as they are named, where
        they are of one type; ``"all"`` takes them whatever their types (`take_image_type`).
    comparator : str
        One of `COMPARATORS`.
    join : str
        ``"exact"`` or ``"inner"``, see `align_rdms`.
    preferred : str
        One of `PREFERENCES`: how the column ``preferred_layers`` tells a region's layer. The test
        is the same for both.
    n_permutations : int
        Permutations of stimulus labels for the reliability of each region, at least 19.
    seed : int
        Seed of the permutations.
    confidence : float
        Share of intervals that hold the truth, in (0, 1).

    Returns
    -------
    pandas.DataFrame
        The table ``hierarchy.csv``: a row a subject, and one, ``combined``, over subjects, with the
        columns `COLUMNS`. ``value`` is a slope in layers a region; ``combined`` has its mean, a
        two-sided interval and a one-sided p (later regions prefer later layers). ``order`` lists
        the regions, ``left_out`` those that are not reliable; ``preferred_layers`` maps each region
        to the number of its layer, counted from 1, and the name of the nearest one, or to None. In
        the CSV these are JSON.

    Raises
    ------
    InputError
        With fewer than 3 regions, a region that a subject lacks, fewer than 2 layers, or an unknown
        name.

    Notes
    -----
    Noise makes all similarities of a region smaller by one factor and adds to them at random. It
    thereby moves the center of mass over similarities above 0 to the middle layers and the best
    layer anywhere: where noise grows along the order of regions, so does the "preferred layer". The
    slope here is not tilted by that. With similarities s[r, l] of region r (at the place o[r]) and
    layer l, n[r] = sum of l s[r, l] and d[r] = sum of s[r, l], it is b in

        n[r] = d[r] (a + b o[r]) + error

    solved with the instruments w[r] and w[r] o[r], w[r] being the mean d[r] of the other subjects,
    whose noise is their own. When all regions are made from the same layer, b is 0 on average
    whatever each region's noise, on these stimuli; the t test over subjects (subjects - 1 degrees
    of freedom) takes its spread from the subjects and needs no more than that their noise is
    independent. One subject has a slope and no p.

    A region is left out when the subjects' RDMs of it agree no better than with permuted labels
    (mean Spearman correlation of each two subjects, p > .05).

    Simulated: 5 regions of 3 subjects made from the same of 6 layers, 40 or 20 photographs, 100
    voxels with spatially correlated noise of unequal variance; noise rising, falling, small, or so
    large in one region that it has almost no signal; Gaussian and heavy-tailed images. p <= .05
    came in 3 to 7 % (``benchmarks/LEVELS.md``, ``tests/neurometamer/test_levels.py``). A rank
    correlation of order with preferred layers, with the names of regions permuted, does not hold
    its level in such studies.

    References
    ----------
    Wald (1940), Ann Math Stat 11:284 (instruments for a line whose both sides hold errors).

    Examples
    --------
    >>> from neurometamer.rsa.compute import label_rdms
    >>> random, ids = np.random.default_rng(0), [f"im{i}" for i in range(12)]
    >>> vectors = random.random((2, 66))
    >>> network = label_rdms(
    ...     vectors, conditions=ids, rdm_descriptors={"stage": ["conv1", "fc"]}, measure="test"
    ... )
    >>> places = {"subject": ["S1", "S2"] * 3, "roi": ["V1", "V1", "V2", "V2", "LO", "LO"]}
    >>> responses = vectors[:1] + 0.5 * random.random((6, vectors.shape[1]))
    >>> brain = label_rdms(responses, conditions=ids, rdm_descriptors=places, measure="test")
    >>> table = hierarchy_test(network, brain, ["V1", "V2", "LO"])
    >>> table[["subject", "value", "p"]].round(2).values.tolist()
    [['S1', 0.02, nan], ['S2', 0.04, nan], ['combined', 0.03, 0.1]]
    """
    joined = join_model_brain(network, brain, image_type=image_type, join=join)
    return order_of_regions(
        joined,
        rois,
        comparator=comparator,
        preferred=preferred,
        n_permutations=n_permutations,
        seed=seed,
        confidence=confidence,
    )


def order_of_regions(
    joined: ModelBrain,
    rois: Sequence[str] = (),
    *,
    comparator: str = "spearman",
    preferred: str = "center",
    n_permutations: int = 999,
    seed: int = 0,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Test RDMs that are joined already: the table of `hierarchy_test`.

    Parameters
    ----------
    joined : ModelBrain
        See `join_model_brain`.
    rois, comparator, preferred, n_permutations, seed, confidence : object
        See `hierarchy_test`.

    Returns
    -------
    pandas.DataFrame
        See `hierarchy_test`.

    Raises
    ------
    InputError
        See `hierarchy_test`.
    """
    import pandas as pd

    if preferred not in PREFERENCES:
        raise unknown_name("preference", preferred, PREFERENCES)
    least = round(1 / RELIABLE) - 1
    if n_permutations < least:
        raise InputError(
            f"n_permutations is {n_permutations}; reliability at {RELIABLE:g} needs at least "
            f"{least}."
        )
    comparator = comparator_name(comparator)
    n_layers = len(joined.layers)
    if n_layers < 2:
        raise InputError(
            f"{n_layers} layer ({name_ids(joined.layers)}); a hierarchy needs at least 2."
        )
    order, subjects = _regions_and_subjects(rois, joined)
    compare = COMPARATORS[comparator]
    shape = (len(subjects), len(order), n_layers)
    profiles = np.empty(shape)
    kept = np.empty(len(order), dtype=bool)
    for i, roi in enumerate(order):
        names, vectors = joined.rois[roi]
        rows_of_region = [names.index(subject) for subject in subjects]
        region = vectors[rows_of_region]
        profiles[:, i] = compare(region, joined.layer_vectors)
        p = reliability_p(region, n_permutations, seed)
        kept[i] = not p > RELIABLE
    left_out = []
    for roi, keep in zip(order, kept):
        if not keep:
            left_out.append(roi)
    common = {
        "kind": joined.image_type,
        "order": order,
        "statistic": STATISTIC,
        "left_out": left_out,
        "method": _describe(comparator, preferred, n_permutations, confidence, joined),
    }
    slopes = _Slopes(profiles, kept, confidence)
    row_names = [*subjects, "combined"]
    columns = [*slopes.single(), slopes.combined()]
    rows = []
    all_profiles = [*profiles, profiles.mean(axis=0)]
    for name, profile, values in zip(row_names, all_profiles, columns):
        layers = np.where(kept, preferred_layers(profile, preferred), np.nan)
        preferences: dict[str, tuple[float, str] | None] = {}
        for roi, layer in zip(order, layers.tolist()):
            preferences[roi] = None
            if np.isfinite(layer):
                nearest = joined.layers[round(layer) - 1]
                preferences[roi] = (layer, nearest)
        row = {"subject": name, "preferred_layers": preferences}
        rows.append(common | row | values)
    return pd.DataFrame(rows)[list(COLUMNS)]


def reliability_p(vectors: np.ndarray, n_permutations: int = 999, seed: int = 0) -> float:
    """Compute p of the agreement between the subjects' RDMs of a region, by permuted labels.

    Parameters
    ----------
    vectors : ndarray, shape (n_subjects, n_pairs)
        Condensed RDMs of one region.
    n_permutations : int
        Number of permutations, of each subject but the first.
    seed : int
        Seed of the permutations.

    Returns
    -------
    float
        In (0, 1], one-sided, of the mean Spearman correlation of each two subjects; NaN with one
        subject.

    Examples
    --------
    >>> rdm = np.arange(45.0)
    >>> reliability_p(np.stack([rdm, rdm]), 99)
    0.01
    """
    if len(vectors) < 2:
        return float("nan")
    n = n_images(vectors.shape[1])
    units = prepared(vectors, "spearman")
    random = generator(seed, "reliability of regions", n)
    identity = np.tile(np.arange(n), (n_permutations, 1))
    # the mean correlation of each two subjects rises with the length of the sum of their units
    null = np.tile(units[0], (n_permutations, 1))
    for unit in units[1:]:
        orders = random.permuted(identity, axis=1)
        null += permute_pairs(unit, orders)
    agreement = np.square(units.sum(axis=0)).sum()
    null_agreement = np.square(null).sum(axis=1)
    return float(permutation_p(agreement, null_agreement))


def preferred_layers(profiles: np.ndarray, preferred: str = "center") -> np.ndarray:
    """Compute which layer each profile prefers, layers counted from 1.

    Parameters
    ----------
    profiles : ndarray, shape (..., n_layers)
        Similarities with each layer.
    preferred : str
        One of `PREFERENCES`.

    Returns
    -------
    ndarray, shape (...)
        Layer number. The center of mass is a fraction, held within the layers there are; NaN where
        the similarities do not add up to more than 0.

    Notes
    -----
    Similarities below 0 count as they are: cut off at 0, noise alone would move the center to the
    middle layers.

    Examples
    --------
    >>> preferred_layers(np.array([[0.0, 0.1, 0.3], [0.2, 0.2, -0.1]])).round(2).tolist()
    [2.75, 1.0]
    """
    if preferred == "best":
        return profiles.argmax(axis=-1) + 1.0
    n_layers = profiles.shape[-1]
    numbers = np.arange(1, n_layers + 1)
    mass = profiles @ numbers
    total = profiles.sum(axis=-1)
    center = np.full(total.shape, np.nan)
    np.divide(
        mass,
        total,
        out=center,
        where=total > 0,
    )
    return np.clip(center, 1, n_layers)


def layer_slopes(profiles: np.ndarray) -> np.ndarray:
    """Fit by how many layers the center of mass moves from region to region, in each subject.

    Parameters
    ----------
    profiles : ndarray, shape (n_subjects, n_regions, n_layers)
        Similarities; regions early to late, NaN throughout for those left out.

    Returns
    -------
    ndarray, shape (n_subjects,)
        Layers a region, see `hierarchy_test`; NaN where fewer than two regions are like the layers.

    Examples
    --------
    >>> profile = [[0.3, 0.1, 0.0], [0.1, 0.3, 0.1], [0.0, 0.1, 0.3]]
    >>> layer_slopes(np.array([profile, profile])).round(2).tolist()
    [0.75, 0.75]
    """
    n_subjects, _, n_layers = profiles.shape
    used = np.flatnonzero(np.isfinite(profiles).all(axis=(0, 2)))
    positions = used.astype(np.float64)
    if used.size:
        positions -= used.mean()
    total = profiles[:, used].sum(axis=2)
    mass = profiles[:, used] @ np.arange(1, n_layers + 1)
    others = total
    if n_subjects > 1:
        others = (total.sum(axis=0) - total) / (n_subjects - 1)
    weights = np.maximum(others, 0)
    slopes = np.full(n_subjects, np.nan)
    for subject, weight in enumerate(weights):
        if (weight > 0).sum() < 2:
            continue
        instruments = np.stack([weight, weight * positions])
        sides = np.stack([total[subject], total[subject] * positions], axis=1)
        targets = instruments @ mass[subject]
        solution = np.linalg.lstsq(instruments @ sides, targets, rcond=None)[0]
        slopes[subject] = solution[1]
    return slopes


@dataclass(frozen=True, eq=False)
class _Slopes:
    """Slopes of all subjects over the reliable regions, and their test."""

    profiles: np.ndarray
    kept: np.ndarray
    confidence: float

    def single(self) -> list[dict[str, Any]]:
        """Give the columns of each subject: a slope without a test."""
        reason = self._too_few() or ONE_SUBJECT
        rows = []
        for value in self._values():
            rows.append(
                {
                    "value": float(value),
                    "ci_low": np.nan,
                    "ci_high": np.nan,
                    "p": np.nan,
                    "n_subjects": 1,
                    "reason": reason,
                }
            )
        return rows

    def combined(self) -> dict[str, Any]:
        """Give the columns over subjects: mean slope, interval and p."""
        from scipy.stats import t

        values = self._values()
        n = len(values)
        mean = values.mean()
        variance = np.nan
        if n > 1:
            variance = float(values.var(ddof=1) / n)
        reason = self._too_few()
        if not reason and n < 2:
            reason = ONE_SUBJECT
        if not reason and not np.isfinite(values).all():
            reason = "in a subject fewer than two regions are like the layers, so there is no slope"
        if not reason and variance <= 1e-20:
            reason = "all subjects have the same slope, so there is no spread to hold it against"
        low, high, p = np.full(3, np.nan)
        if not reason:
            low, high = t_interval(mean, np.array(variance), n - 1, self.confidence)
            p = t.sf(mean / np.sqrt(variance), n - 1)
        return {
            "value": float(mean),
            "ci_low": float(low),
            "ci_high": float(high),
            "p": float(p),
            "n_subjects": n,
            "reason": reason,
        }

    def _values(self) -> np.ndarray:
        if self._too_few():
            return np.full(len(self.profiles), np.nan)
        reliable = np.where(self.kept[:, np.newaxis], self.profiles, np.nan)
        return layer_slopes(reliable)

    def _too_few(self) -> str:
        n_reliable = self.kept.sum()
        if n_reliable >= MIN_REGIONS:
            return ""
        return f"{n_reliable} reliable region(s); a slope needs at least {MIN_REGIONS}"


def _describe(
    comparator: str, preferred: str, n_permutations: int, confidence: float, joined: ModelBrain
) -> str:
    text = (
        "slope of the center of mass over layers on the order of regions (similarity by "
        f"{comparator}), "
        f"instruments from the other subjects; {confidence:.0%} interval and one-sided p: t over "
        "subjects; regions whose RDMs agree between subjects no better than with permuted labels "
        f"left out ({n_permutations} permutations, p > {RELIABLE:g}); preferred layer shown: "
        f"{PREFERENCES[preferred]}"
    )
    return text + describe_left_out(joined.left_out)


def _regions_and_subjects(rois: Sequence[str], joined: ModelBrain) -> tuple[list[str], list[str]]:
    """Check the order of regions, and that all subjects have all of them."""
    order = list(rois) or list(joined.rois)
    if again := duplicates(order):
        raise InputError(
            f"region(s) {name_ids(again)} named twice; give each region once, early to late."
        )
    for roi in order:
        if roi not in joined.rois:
            raise unknown_name("ROI", roi, list(joined.rois))
    if len(order) < MIN_REGIONS:
        raise InputError(
            f"{len(order)} region(s) ({name_ids(order)}); a hierarchy needs at least {MIN_REGIONS}."
        )
    subjects_of = {roi: joined.rois[roi][0] for roi in order}
    everyone = list(dict.fromkeys(itertools.chain.from_iterable(subjects_of.values())))
    lacking = []
    for roi, subjects in subjects_of.items():
        for subject in everyone:
            if subject not in subjects:
                lacking.append(f"{subject} {roi}")
    if lacking:
        raise InputError(f"no RDM for {name_ids(lacking)}; leave those subjects or regions out.")
    return order, everyone
