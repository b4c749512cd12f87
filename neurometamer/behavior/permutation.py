"""F of analyses of variance for many labelings at once, and the permutation p values that follow.

All effects are taken by projection: an effect's part D of a person's profile is the profile,
averaged over the factors that are not in the effect and centered over those that are. With the mean
of D over people, SS_effect = n Σ mean(D)² and SS_error = Σ D² - SS_effect: the effect × person term
of a repeated-measures analysis.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from neurometamer.arguments import checked_with
from neurometamer.errors import InputError, unknown_name
from neurometamer.provenance import generator
from neurometamer.stats.permutation import p_from_count

EFFECTS = ("model", "stage", "interaction")
BLOCK = 4_000_000
"""Largest array, in numbers; it limits the permutations at once and does not change results."""


def _project(values: np.ndarray, effect: str) -> np.ndarray:
    """Return the part of an effect in (..., models, stages)."""
    if effect == "model":
        means = values.mean(axis=-1, keepdims=True)
        return means - means.mean(axis=-2, keepdims=True)
    if effect == "stage":
        means = values.mean(axis=-2, keepdims=True)
        return means - means.mean(axis=-1, keepdims=True)
    centered = values - values.mean(axis=-1, keepdims=True)
    return centered - centered.mean(axis=-2, keepdims=True)


def _ratio(
    effect: np.ndarray, error: np.ndarray, df1: int, df2: int, total: np.ndarray
) -> np.ndarray:
    """Compute F: 0 where there is no effect, infinite where there is no error, up to rounding."""
    floor = 1e-12 * np.maximum(total, 1e-300)
    safe = np.where(error > floor, error, 1.0)
    without_error = np.where(effect > floor, np.inf, 0.0)
    return np.where(error > floor, (effect / df1) / (safe / df2), without_error)


@checked_with(finite=("values",), shapes={"values": "... people models stages"})
def repeated_f(values: np.ndarray, effect: str) -> np.ndarray:
    """Compute F of one effect of a repeated-measures analysis of variance.

    Any number of data sets is computed at once.

    Parameters
    ----------
    values : ndarray
        (..., n_people, n_models, n_stages).
    effect : {"model", "stage", "interaction"}
        Which.

    Returns
    -------
    ndarray
        (...). Degrees of freedom are d and d (n_people - 1), d the effect's.

    Examples
    --------
    >>> import numpy as np
    >>> profile = np.array([[[1.0, 2.0]], [[2.0, 4.0]], [[3.0, 4.0]]])
    >>> round(float(repeated_f(profile, "stage")), 3)  # the square of a paired t
    16.0
    """
    if effect not in EFFECTS:
        raise unknown_name("effect", effect, EFFECTS)
    n, n_models, n_stages = values.shape[-3:]
    part = _project(values, effect)
    mean = part.mean(axis=-3)
    weight = {"model": n_stages, "stage": n_models, "interaction": 1}[effect]
    ss_effect = weight * n * (mean**2).sum(axis=(-2, -1))
    ss_error = weight * (part**2).sum(axis=(-3, -2, -1)) - ss_effect
    df = {
        "model": n_models - 1,
        "stage": n_stages - 1,
        "interaction": (n_models - 1) * (n_stages - 1),
    }[effect]
    scale = ((values - values.mean(axis=(-3, -2, -1), keepdims=True)) ** 2).sum(axis=(-3, -2, -1))
    return _ratio(ss_effect, ss_error, df, df * (n - 1), scale)


@checked_with(
    finite=("values", "groups"), shapes={"values": "observers stages", "groups": "... observers"}
)
def mixed_f(values: np.ndarray, groups: np.ndarray, effect: str) -> np.ndarray:
    """Compute F of the group, or of group × stage, of a mixed analysis of variance.

    Many labelings are computed at once.

    Parameters
    ----------
    values : ndarray
        (n_observers, n_stages).
    groups : ndarray of int
        (..., n_observers), 0 to n_groups - 1: one labeling or many, each with all groups.
    effect : {"observer", "interaction"}
        Which.

    Returns
    -------
    ndarray
        (...).

    Examples
    --------
    >>> values = np.array([[1.0, 2.0], [2.0, 3.0], [4.0, 5.0], [5.0, 6.0]])
    >>> float(mixed_f(values, np.array([0, 0, 1, 1]), "observer"))
    18.0
    """
    if effect not in ("observer", "interaction"):
        raise unknown_name("effect", effect, ("observer", "interaction"))
    n, n_stages = values.shape
    n_groups = int(groups.max()) + 1
    means = values.mean(axis=1, keepdims=True)
    part = np.repeat(means, n_stages, axis=1) if effect == "observer" else values - means
    member = (groups[..., None] == np.arange(n_groups)).astype(float)
    size = member.sum(axis=-2)
    sums = np.swapaxes(member, -1, -2) @ part
    between = (sums**2 / size[..., None]).sum(axis=(-2, -1))
    ss_effect = between - n * (part.mean(axis=0) ** 2).sum()
    ss_error = (part**2).sum() - between
    width = 1 if effect == "observer" else n_stages - 1
    scale = np.asarray(((values - values.mean()) ** 2).sum())
    return _ratio(ss_effect, ss_error, (n_groups - 1) * width, (n - n_groups) * width, scale)


@checked_with(unbounded=("observed",), shapes={"null": "permutations"})
def permutation_p(null: np.ndarray, observed: float) -> tuple[float, int]:
    """Compute p = (1 + number of permuted F at least as large) / (1 + number of permutations).

    Parameters
    ----------
    null : ndarray
        (n_permutations,) permuted F.
    observed : float
        F of the data.

    Returns
    -------
    tuple of float and int
        p, and the number; differences within rounding count as equal.

    Examples
    --------
    >>> permutation_p(np.array([0.5, 1.0, 2.0]), 1.5)
    (0.5, 1)
    """
    if np.isnan(null).any():
        raise InputError(
            f"null has {int(np.isnan(null).sum())} values that are NaN; p would be too small."
        )
    large = int((null >= observed * (1 - 1e-9)).sum())
    return p_from_count(large, len(null)), large


def _blocks(n_permutations: int, size: int) -> Iterator[int]:
    step = max(1, BLOCK // size)
    for begin in range(0, n_permutations, step):
        yield min(step, n_permutations - begin)


@checked_with(finite=("values",), shapes={"values": "people models stages"})
def permute_repeated(
    values: np.ndarray, n_permutations: int = 10_000, *, seed: int = 0, name: str = ""
) -> Mapping[str, np.ndarray]:
    """Compute F under shuffled labels for the three effects of a stage × model analysis.

    Parameters
    ----------
    values : ndarray
        (n_people, n_models, n_stages).
    n_permutations : int
        Number of permutations.
    seed : int
        Seed of the shuffles.
    name : str
        Name of the analysis; each name has shuffles of its own.

    Returns
    -------
    mapping of str to ndarray
        ``"model"``, ``"stage"``, ``"interaction"`` to (n_permutations,) F; only effects with two
        levels or more.

    Raises
    ------
    InputError
        When `n_permutations` is below 1.

    Notes
    -----
    Feather et al. (2023), as in their scripts: for a main effect the other factor is averaged out
    and the labels are shuffled within each person; for the interaction all stage × model cells are
    shuffled within each person. The last breaks main effects too, so it tests that no cell differs
    from another, judged by the F of the interaction.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=(5, 1, 3))
    >>> nulls = permute_repeated(values, 20)
    >>> {effect: null.shape for effect, null in nulls.items()}
    {'stage': (20,)}
    """
    if n_permutations < 1:
        raise InputError(f"permutations must be 1 or more, not {n_permutations}.")
    n, n_models, n_stages = values.shape
    flat = {
        "model": (values.mean(axis=2), (n_models, 1)),
        "stage": (values.mean(axis=1), (1, n_stages)),
        "interaction": (values.reshape(n, -1), (n_models, n_stages)),
    }
    out = {}
    for effect, (cells, shape) in flat.items():
        if (n_models < 2 and effect != "stage") or (n_stages < 2 and effect != "model"):
            continue
        random = generator(seed, "permutation", name, effect)
        parts = []
        for size in _blocks(n_permutations, cells.size):
            shuffled = random.permuted(np.broadcast_to(cells, (size, *cells.shape)), axis=-1)
            parts.append(repeated_f(shuffled.reshape(size, n, *shape), effect))
        out[effect] = np.concatenate(parts)
    return out


@checked_with(
    finite=("values", "groups"), shapes={"values": "observers stages", "groups": "observers"}
)
def permute_mixed(
    values: np.ndarray,
    groups: np.ndarray,
    n_permutations: int = 10_000,
    *,
    seed: int = 0,
    name: str = "",
) -> Mapping[str, np.ndarray]:
    """Compute F under shuffled group labels for the group and for group × stage.

    Parameters
    ----------
    values : ndarray
        (n_observers, n_stages).
    groups : ndarray of int
        (n_observers,) the group of each.
    n_permutations : int
        Number of permutations.
    seed : int
        Seed of the shuffles.
    name : str
        Name of the analysis.

    Returns
    -------
    mapping of str to ndarray
        ``"observer"`` and ``"interaction"`` to (n_permutations,) F.

    Raises
    ------
    InputError
        When `n_permutations` is below 1.

    Notes
    -----
    Whole profiles change their group. The F of the interaction does not depend on observers' means,
    so the second tests whether the groups' profiles differ in shape. The papers do not say how they
    shuffle here: this is ours.

    Examples
    --------
    >>> values = np.random.default_rng(0).normal(size=(6, 3))
    >>> nulls = permute_mixed(values, np.array([0, 0, 0, 1, 1, 1]), 20)
    >>> {effect: null.shape for effect, null in nulls.items()}
    {'observer': (20,), 'interaction': (20,)}
    """
    if n_permutations < 1:
        raise InputError(f"permutations must be 1 or more, not {n_permutations}.")
    random = generator(seed, "permutation", name, "observer")
    parts: dict[str, list[np.ndarray]] = {"observer": [], "interaction": []}
    for size in _blocks(n_permutations, 4 * values.size):
        shuffled = random.permuted(np.broadcast_to(groups, (size, len(groups))), axis=-1)
        for effect, made in parts.items():
            made.append(mixed_f(values, shuffled, effect))
    return {effect: np.concatenate(made) for effect, made in parts.items()}
