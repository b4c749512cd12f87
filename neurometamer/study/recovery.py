"""What the simulation planted, and what the pipeline found of it.

There is a row a claim, each with its criterion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from fmri.patterns import read_patterns
from fmri.planting import read_truth
from neurometamer.encoding.solvers import column_correlations
from neurometamer.rsa.compare import compare_rdms
from neurometamer.rsa.compute import compute_rdm, label_rdms, read_rdms
from neurometamer.store import read_hdf5_array, read_table
from neurometamer.study.plan import Workspace

BETA_R = 0.6
"""Least median correlation of planted and estimated responses over responding voxels."""
PRECISION = 0.9
"""Least share of responding voxels among the selected ones."""
NEAR_ZERO = 0.15
"""Largest absolute value of a mean that is called none."""


def recovery_table(work: Workspace, subjects: Sequence[str]) -> pd.DataFrame:
    """Compare the results of a study with a simulated cortex with what was planted.

    Parameters
    ----------
    work : Workspace
        A study whose other steps are done.
    subjects : sequence of str
        Names of the subjects.

    Returns
    -------
    pandas.DataFrame
        ``recovery.csv``: what, planted, found, criterion, pass.
    """
    mixing = work.settings.brain.simulation.mixing
    rows = [
        *_voxel_rows(work, subjects),
        *_feature_rows(work, mixing),
        *_table_rows(work, mixing),
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


def _range(values: Sequence[float], form: str = ".2f") -> str:
    """Write the smallest and the largest of some numbers."""
    low = format(min(values), form)
    high = format(max(values), form)
    return low if low == high else f"{low} to {high}"


def _voxel_keys(voxels: pd.DataFrame) -> pd.Index:
    """Name each voxel by its region and its place in the volume."""
    places = pd.MultiIndex.from_frame(voxels[["roi", "i", "j", "k"]])
    return places.to_flat_index()


def _voxel_rows(work: Workspace, subjects: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Compare betas with planted betas, and selected voxels with responding ones."""
    fits = []
    shares = []
    for name in subjects:
        truth = read_truth(work.path("brain", name, f"{name}_truth.h5"))
        fitted = read_patterns(work.state("betas", f"{name}.h5"))
        selected = read_patterns(work.path("patterns", f"{name}.h5"))
        keys = _voxel_keys(truth.voxels)
        responding = set(keys[truth.voxels["responds"].to_numpy(dtype=bool)])
        # planted and estimated responses are joined by the names of images and voxels
        conditions, means = fitted.means()
        planted = pd.DataFrame(truth.betas, index=list(truth.conditions), columns=keys)
        planted = planted.loc[list(conditions), list(_voxel_keys(fitted.voxels))]
        correlations = np.nan_to_num(column_correlations(planted.to_numpy(), means))
        responds = [key in responding for key in _voxel_keys(fitted.voxels)]
        fits.append(float(np.median(correlations[responds])))
        is_right = [key in responding for key in _voxel_keys(selected.voxels)]
        shares.append(float(np.mean(is_right)))
    yield _row(
        "responses of single voxels",
        "one beta for each image and responding voxel",
        f"median r of planted and estimated responses: {_range(fits)} over subjects",
        f"at least {BETA_R} in each subject",
        min(fits) >= BETA_R,
    )
    share_planted = work.settings.brain.simulation.responding
    share_found = _range(shares, ".0%")
    yield _row(
        "which voxels respond",
        f"{share_planted:.0%} of the voxels of each region",
        f"{share_found} of the selected voxels respond",
        f"at least {PRECISION:.0%} in each subject",
        min(shares) >= PRECISION,
    )


def _feature_rows(work: Workspace, mixing: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """Compare regions with their planted shares of pixels and objects (`mixing`).

    RDMs of the planted feature spaces on the photographs decide.
    """
    from scipy.stats import kendalltau

    preference = _object_preference(work)
    subjects = dict.fromkeys(subject for subject, _ in preference)
    means = {}
    for roi, share in mixing.items():
        values = [preference[name, roi] for name in subjects]
        means[roi] = float(np.mean(values))
        if share not in (0.0, 1.0):
            continue
        is_object = share == 1
        wanted = "objects" if is_object else "Gabor energy of the pixels"
        right = [value > 0 if is_object else value < 0 for value in values]
        yield _row(
            f"what {roi} follows",
            wanted,
            f"RDM similarity to objects minus to Gabor energy: {_range(values)}",
            "the sign is right in each subject",
            all(right),
        )
    if len(set(mixing.values())) > 2:
        order = kendalltau(list(mixing.values()), list(means.values()))
        tau = float(order.statistic)
        shares = ", ".join(f"{roi} {share:.0%}" for roi, share in mixing.items())
        preferences = ", ".join(f"{roi} {mean:+.2f}" for roi, mean in means.items())
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
    planted_file = work.state("planted.h5")
    ids = read_hdf5_array(planted_file, "condition").tolist()
    brain = read_rdms(work.path("rdms", "brain.h5"))
    rdms = []
    for space in ("gabor", "object"):
        features = read_hdf5_array(planted_file, space)
        # scaled as the simulation does before it draws voxels; constant features are left out
        spread = features.std(axis=0)
        varying = features[:, spread > 0]
        scaled = (varying - varying.mean(axis=0)) / spread[spread > 0]
        rdms.append(compute_rdm(scaled, "pearson", ids=ids))
    described = pd.DataFrame(
        {
            "kind": brain.pattern_descriptors["kind"],
            "reference_id": brain.pattern_descriptors["reference_id"],
        },
        index=brain.pattern_descriptors["condition"],
    ).loc[ids]
    planted = label_rdms(
        np.stack(rdms),
        conditions=ids,
        rdm_descriptors={"stage": ["gabor", "object"]},
        pattern_descriptors={
            "kind": described["kind"].tolist(),
            "reference_id": described["reference_id"].tolist(),
        },
        measure="1 - Pearson",
    )
    similarities = compare_rdms(brain, planted, image_type="RE", n_resamples=0)
    table = similarities.set_index(["a_subject", "a_roi", "b_stage"])["similarity"]
    preference = {}
    for subject, roi in similarities[["a_subject", "a_roi"]].itertuples(index=False):
        difference = table[subject, roi, "object"] - table[subject, roi, "gabor"]
        preference[subject, roi] = float(difference)
    return preference


def _table_rows(work: Workspace, mixing: Mapping[str, float]) -> Iterator[dict[str, Any]]:
    """Check that what nobody planted is not found: no region follows adversarial structure.

    The similarities of single subjects decide. In regions that follow objects alone the percepts of
    AN images are random, so nothing can predict them.
    """
    path = work.path("tables", "image_types.csv")
    table = read_table(path) if path.is_file() else pd.DataFrame(columns=["pair"])
    if {"RE-AI", "RE-AN"} <= set(table["pair"]):  # else the images that were shown lack a kind
        is_single = table["system"].eq("brain") & table["subject"].ne("mean")
        single = table[is_single & table["quantity"].eq("similarity")]
        brain = single.pivot(index=["subject", "representation"], columns="pair", values="value")
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
    objects = [roi for roi, share in mixing.items() if share == 1]
    table = read_table(work.path("tables", "encoding.csv"))
    is_tested = table["roi"].isin(objects) & table["test"].eq("AN")
    noise = table["r"][is_tested & table["subject"].ne("mean")]
    if len(noise):
        mean = float(noise.mean())
        names = ", ".join(objects)
        yield _row(
            f"encoding of AN in {names}",
            "none: the percepts of AN images are random",
            f"mean r {mean:.3f} over layers and subjects",
            f"between -{NEAR_ZERO} and {NEAR_ZERO}",
            abs(mean) <= NEAR_ZERO,
        )
