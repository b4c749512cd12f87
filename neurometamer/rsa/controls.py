"""Control RDMs: what images share below objects, and the categories that people gave them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.rsa.compute import compute_rdm, label_rdms

if TYPE_CHECKING:
    from rsatoolbox.rdm import RDMs

    from stimuli_gen.stimuli import StimulusSet

CONTROLS: Mapping[str, str] = {
    "pixels": "1 - Pearson of gray pixels, averaged over a grid of 16 × 16",
    "luminance": "difference of mean luma",
    "gabor": "1 - Pearson of Gabor energy over wavelength, orientation and place",
    "category": "0 within a category, 1 between two",
}
"""Name of a control to what its dissimilarities are."""


@checked
def control_rdms(
    stimuli: StimulusSet,
    controls: Sequence[str] = ("pixels", "luminance", "gabor"),
    *,
    column: str = "category",
) -> RDMs:
    """Make control RDMs of images.

    Parameters
    ----------
    stimuli : StimulusSet
        Images with their table.
    controls : sequence of str
        Names in `CONTROLS`.
    column : str
        Column of the table that holds the categories.

    Returns
    -------
    rsatoolbox.rdm.RDMs
        One a control: ``rdm_descriptors["control"]``; stimulus ids in
        ``pattern_descriptors["condition"]``, beside reference_id and kind.

    Raises
    ------
    InputError
        For an unknown control, an image of one gray (its correlation is undefined; named), a
        missing category.

    Examples
    --------
    >>> import pandas as pd
    >>> from stimuli_gen import StimulusSet
    >>> ids = ["im0", "im1", "im2", "im3"]
    >>> table = pd.DataFrame({"id": ids, "kind": "RE", "reference_id": ids})
    >>> table["category"] = ["cat", "cat", "cup", "cup"]
    >>> images = np.random.default_rng(0).random((4, 3, 16, 16), dtype=np.float32)
    >>> stimuli = StimulusSet(images=images, table=table)
    >>> control_rdms(stimuli, ["luminance", "category"]).dissimilarities.round(3).tolist()
    [[0.01, 0.017, 0.01, 0.007, 0.0, 0.007], [0.0, 1.0, 1.0, 1.0, 1.0, 0.0]]
    """
    unknown = [name for name in controls if name not in CONTROLS]
    if unknown:
        raise unknown_name("control", unknown[0], CONTROLS)
    table = stimuli.table
    vectors = []
    for control in controls:
        if control != "category":
            vectors.append(_compare_images(stimuli, control))
            continue
        if column not in table:
            raise InputError(
                f"the stimulus table has no column '{column}'; it has "
                f"{name_ids(table.columns, 20)}: name the one that holds the categories."
            )
        labels = table[column].fillna("").astype(str)
        lacking = table["id"][labels == ""].tolist()
        if lacking:
            raise InputError(
                f"no category in column '{column}' for {name_ids(lacking)}; fill it in, or leave "
                "it out."
            )
        vectors.append(category_rdm(labels.tolist()))
    measures = [f"{name}: {CONTROLS[name]}" for name in controls]
    return label_rdms(
        np.array(vectors),
        conditions=list(table["id"]),
        rdm_descriptors={"control": list(controls)},
        pattern_descriptors={
            "reference_id": list(table["reference_id"]),
            "kind": list(table["kind"]),
        },
        measure="; ".join(measures),
        provenance={"controls": list(controls)},
    )


def category_rdm(labels: Sequence[str]) -> np.ndarray:
    """Set images of the same category at 0 and of different ones at 1.

    Parameters
    ----------
    labels : sequence of str, length n
        Category of each image.

    Returns
    -------
    ndarray, shape (n * (n - 1) / 2,)
        Condensed dissimilarities, float64.

    Raises
    ------
    InputError
        For an image without a category, or fewer than two categories.

    Examples
    --------
    >>> category_rdm(["cat", "dog", "cat"]).tolist()
    [1.0, 0.0, 1.0]
    """
    lacking = []
    for i, label in enumerate(labels):
        if label is None or label != label or str(label) == "":  # NaN differs from itself
            lacking.append(i)
    if lacking:
        raise InputError(
            f"no category for the images {name_ids(lacking)} (counted from 0); fill them in, or "
            "leave those images out."
        )
    names = np.array([str(label) for label in labels])
    codes = np.unique(names, return_inverse=True)[1]
    if codes.max(initial=0) == 0:
        raise InputError(
            f"{len(labels)} images of fewer than two categories ({name_ids(labels[:1])}): all "
            "would be 0; give images of several categories."
        )
    first, second = np.triu_indices(len(codes), 1)
    return (codes[first] != codes[second]).astype(np.float64)


def _compare_images(stimuli: StimulusSet, control: str) -> np.ndarray:
    """Measure the images in blocks, which may lie on disk."""
    from stimuli_gen.features import gabor_energy, luminance, pixel_features

    measures: Mapping[str, Callable[[np.ndarray], np.ndarray]] = {
        "pixels": lambda images: pixel_features(images, size=min(16, *images.shape[2:])),
        "luminance": luminance,
        "gabor": gabor_energy,
    }
    measure = measures[control]
    parts = []
    for start in range(0, len(stimuli), 32):
        images = np.asarray(stimuli.images[slice(start, start + 32)])
        parts.append(measure(images))
    values = np.concatenate(parts)
    if control == "luminance":
        first, second = np.triu_indices(len(values), 1)
        return np.abs(values[first, 0] - values[second, 0])
    return compute_rdm(values, "pearson", ids=stimuli.ids, place=f"control '{control}'")
