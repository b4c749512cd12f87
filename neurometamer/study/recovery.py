"""What the simulation planted, and what the pipeline found of it.

There is a row a claim, each with its criterion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.store import read_hdf5_array, read_table

if TYPE_CHECKING:
    from fmri.patterns import Patterns
    from fmri.simulate import SimulatedTruth
    from neurometamer.study.plan import Workspace

BETA_R = 0.6
"""Least median correlation of planted and estimated responses over responding voxels."""
PRECISION = 0.9
"""Least share of responding voxels among the selected ones."""
NEAR_ZERO = 0.15
"""Largest absolute value of a mean that is called none."""


def recovery_table(
    work: Workspace, subjects: Sequence[str], *, mixing: Mapping[str, float]
) -> pd.DataFrame:
    """Hold the results of a study with a simulated cortex against what was planted.

    Parameters
    ----------
    work : Workspace
        A study whose other steps are done.
    subjects : sequence of str
        Names.
    mixing : mapping of str to float
        Region → planted share of object features.

    Returns
    -------
    pandas.DataFrame
        ``recovery.csv``: what, planted, found, criterion, pass.
    """
    rows = [
        *_from_voxels(work, subjects),
        *_feature_rows(work, subjects, mixing),
        *_from_tables(work),
    ]
    return pd.DataFrame(rows, columns=["what", "planted", "found", "criterion", "pass"])


def _row(what: str, planted: str, result: str, criterion: str, passed: Any) -> dict[str, Any]:
    return {
        "what": what,
        "planted": planted,
        "found": result,
        "criterion": criterion,
        "pass": bool(passed),
    }


def _from_voxels(work: Workspace, subjects: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Betas against planted betas, and selected voxels against responding ones."""
    from fmri.patterns import read_patterns
    from fmri.simulate import read_truth

    fits, shares = [], []
    for name in subjects:
        truth = read_truth(work.path("brain", name, f"{name}_truth.h5"))
        keys = pd.MultiIndex.from_frame(truth.voxels[["roi", "i", "j", "k"]])
        responding = pd.Series(truth.voxels["responds"].to_numpy(dtype=bool), index=keys)
        everything = read_patterns(work.state("betas", f"{name}.h5"))
        here = _voxel_keys(everything).map(responding).to_numpy(dtype=bool)
        fits.append(float(np.median(_profile_correlations(truth, everything)[here])))
        shares.append(
            float(
                _voxel_keys(read_patterns(work.path("patterns", f"{name}.h5")))
                .map(responding)
                .mean()
            )
        )
    yield _row(
        "responses of single voxels",
        "one beta for each image and responding voxel",
        f"median r of planted and estimated responses: {_range(fits)} over subjects",
        f"at least {BETA_R} in each subject",
        min(fits) >= BETA_R,
    )
    truth_share = work.settings.brain.simulation.responding
    yield _row(
        "which voxels respond",
        f"{truth_share:.0%} of the voxels of each region",
        f"{_range(shares, '.0%')} of the selected voxels respond",
        f"at least {PRECISION:.0%} in each subject",
        min(shares) >= PRECISION,
    )


def _voxel_keys(patterns: Patterns) -> pd.Series:
    return pd.Series(
        pd.MultiIndex.from_frame(patterns.voxels[["roi", "i", "j", "k"]]).to_flat_index()
    )


def _profile_correlations(truth: SimulatedTruth, patterns: Patterns) -> np.ndarray:
    """Correlate planted and estimated responses over images, voxel by voxel.

    Both are joined by name.
    """
    conditions, means = patterns.means()
    order = {condition: row for row, condition in enumerate(truth.conditions)}
    truth_keys = list(
        pd.MultiIndex.from_frame(truth.voxels[["roi", "i", "j", "k"]]).to_flat_index()
    )
    keys = {key: column for column, key in enumerate(truth_keys)}
    planted = truth.betas[[order[condition] for condition in conditions]][
        :, [keys[key] for key in _voxel_keys(patterns)]
    ]
    a, b = planted - planted.mean(axis=0), means - means.mean(axis=0)
    norms = np.sqrt(np.square(a).sum(axis=0) * np.square(b).sum(axis=0))
    return np.divide((a * b).sum(axis=0), norms, out=np.zeros(len(norms)), where=norms > 0)


def _feature_rows(
    work: Workspace, subjects: Sequence[str], mixing: Mapping[str, float]
) -> Iterator[dict[str, Any]]:
    """Compare regions with the planted share of pixels and objects.

    RDMs of the planted feature spaces on the photographs decide.
    """
    preference = _object_preference(work)
    for roi, share in mixing.items():
        if share not in (0.0, 1.0):
            continue
        values = [preference[name, roi] for name in subjects]
        wanted = "objects" if share == 1 else "Gabor energy of the pixels"
        right = [value > 0 if share == 1 else value < 0 for value in values]
        yield _row(
            f"what {roi} follows",
            wanted,
            f"RDM similarity to objects minus to Gabor energy: {_range(values)}",
            "the sign is right in each subject",
            all(right),
        )
    means = {}
    for roi in mixing:
        means[roi] = float(np.mean([preference[name, roi] for name in subjects]))
    if len(set(mixing.values())) > 2:
        from scipy.stats import kendalltau

        tau = float(kendalltau(list(mixing.values()), [means[roi] for roi in mixing]).statistic)
        shares = ", ".join(f"{roi} {share:.0%}" for roi, share in mixing.items())
        preferences = ", ".join(f"{roi} {means[roi]:+.2f}" for roi in mixing)
        yield _row(
            "order of regions from pixels to objects",
            f"{shares} objects",
            f"{preferences} (Kendall tau {tau:.2f})",
            "tau at least 0.6",
            tau >= 0.6,
        )


def _object_preference(work: Workspace) -> dict[tuple[str, str], float]:
    """Give the preference for objects of each subject and region, on photographs only.

    This is Spearman of its RDM with the object RDM minus that with the Gabor RDM.
    """
    from neurometamer.rsa.compare import compare_rdms
    from neurometamer.rsa.compute import compute_rdm, label_rdms, read_rdms

    ids = read_hdf5_array(work.state("planted.h5"), "condition").tolist()
    spaces = ("gabor", "object")
    features = [read_hdf5_array(work.state("planted.h5"), name) for name in spaces]
    rdms = [compute_rdm(_z_scored(values), "pearson", ids=ids) for values in features]
    brain = read_rdms(work.path("rdms", "brain.h5"))
    names = brain.pattern_descriptors
    kinds, references = (
        dict(zip(names["condition"], names[key], strict=True)) for key in ("kind", "reference_id")
    )
    planted = label_rdms(
        np.stack(rdms),
        conditions=ids,
        places={"stage": list(spaces)},
        patterns={
            "kind": [kinds[image_id] for image_id in ids],
            "reference_id": [references[image_id] for image_id in ids],
        },
        measure="1 - Pearson",
    )
    similarities = compare_rdms(brain, planted, kind="RE", n_resamples=0)
    table = similarities.set_index(["a_subject", "a_roi", "b_stage"])["similarity"]
    places = similarities[["a_subject", "a_roi"]].drop_duplicates().itertuples(index=False)
    return {(s, roi): float(table[s, roi, "object"] - table[s, roi, "gabor"]) for s, roi in places}


def _z_scored(values: np.ndarray) -> np.ndarray:
    """Scale features as the simulation does before it draws voxels from them.

    Constant features are left out.
    """
    spread = values.std(axis=0)
    varying = values[:, spread > 0]
    return (varying - varying.mean(axis=0)) / spread[spread > 0]


def _from_tables(work: Workspace) -> Iterator[dict[str, Any]]:
    """Check that what nobody planted is not found: no region follows adversarial structure."""
    brain = _similarities(work.path("tables", "image_types.csv"))
    if {"RE-AI", "RE-AN"} <= set(brain.columns):  # else the images that were shown lack a kind
        more = brain["RE-AI"] > brain["RE-AN"]
        yield _row(
            "interference looks like the photograph to the cortex",
            "AI images drive every region as their photographs do",
            f"RE–AI above RE–AN in {int(more.sum())} of {len(more)} tests (subject × region)",
            "all",
            more.all(),
        )
        mean = float(brain["RE-AN"].mean())
        yield _row(
            "no region follows adversarial structure",
            "AN images are noise to the cortex",
            f"mean RE–AN similarity {mean:.3f}",
            f"between -{NEAR_ZERO} and {NEAR_ZERO}",
            abs(mean) <= NEAR_ZERO,
        )
    yield from _encoding_rows(
        read_table(work.path("tables", "encoding.csv")), work.settings.brain.simulation.mixing
    )


def _similarities(kinds: Path) -> pd.DataFrame:
    """Arrange the similarities of single subjects.

    There is a row a subject and region, and a column a pair; the table is empty without any.
    """
    if not kinds.is_file():
        return pd.DataFrame()
    table = read_table(kinds)
    single = (
        table["system"].eq("brain")
        & table["quantity"].eq("similarity")
        & table["subject"].ne("mean")
    )
    return table[single].pivot(index=["subject", "place"], columns="pair", values="value")


def _encoding_rows(table: pd.DataFrame, mixing: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """Check regions that follow objects alone.

    Their AN percepts are random, so nothing can predict them.
    """
    objects = [roi for roi, share in mixing.items() if share == 1]
    subjects = table[table["subject"] != "mean"]
    noise = subjects[subjects["roi"].isin(objects) & (subjects["test"] == "AN")]["r"]
    if len(noise):
        mean = float(noise.mean())
        yield _row(
            f"encoding of AN in {', '.join(objects)}",
            "none: the percepts of AN images are random",
            f"mean r {mean:.3f} over layers and subjects",
            f"between -{NEAR_ZERO} and {NEAR_ZERO}",
            abs(mean) <= NEAR_ZERO,
        )


def _range(values: Sequence[float], form: str = ".2f") -> str:
    low, high = format(min(values), form), format(max(values), form)
    return low if low == high else f"{low} to {high}"
