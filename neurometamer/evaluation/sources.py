"""Metamers from disk: a folder of theirs, and the photographs that they were made of."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids
from neurometamer.evaluation.sets import MetamerSet, metamer_set

if TYPE_CHECKING:
    import pandas as pd

    from stimuli_gen.stimuli import StimulusSet


@checked
def read_metamer_set(
    folder: str | os.PathLike[str],
    images: Sequence[str | os.PathLike[str]] = (),
    *,
    name: str = "",
    stage: str = "",
    validity: pd.DataFrame | None = None,
) -> MetamerSet:
    """Read metamers and their photographs, and join them by id.

    Parameters
    ----------
    folder : path-like
        Written by ``neurometamer stimuli metamer``, by a study, or by `stimuli_gen.write_stimuli`.
        Its PNG files are what is evaluated.
    images : sequence of path-like
        The photographs, see `stimuli_gen.read_images`; cut as they were when the metamers were
        made. Not needed where the folder holds them.
    name, stage : str
        See `neurometamer.evaluation.metamer_set`. By default the stage is what was asked for,
        ``late`` for example.
    validity : pandas.DataFrame, optional
        What `stimuli_gen.judge` found, instead of what the folder says.

    Returns
    -------
    MetamerSet
        Rows in the order of the metamers.

    Raises
    ------
    InputError
        When the folder holds no metamers, photographs are missing, or they are not those of the
        metamers.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from tempfile import mkdtemp
    >>> from stimuli_gen import StimulusSet, write_stimuli
    >>> images = np.zeros((2, 3, 48, 48), dtype=np.float32)
    >>> table = pd.DataFrame({"id": ["cat", "cat_m"], "kind": ["RE", "metamer"]})
    >>> table["reference_id"] = "cat"
    >>> folder = mkdtemp()
    >>> _ = write_stimuli(StimulusSet(images=images, table=table), folder)
    >>> read_metamer_set(folder, stage="late").table["id"].tolist()
    ['cat_m']
    """
    references, metamers = read_metamers(folder, images)
    return metamer_set(
        references, metamers, name=name, stage=stage, validity=validity, folder=folder
    )


@checked
def read_metamers(
    folder: str | os.PathLike[str], images: Sequence[str | os.PathLike[str]] = ()
) -> tuple[StimulusSet, StimulusSet]:
    """Read metamers and their photographs.

    Parameters
    ----------
    folder, images : path-like and sequence of path-like
        See `read_metamer_set`.

    Returns
    -------
    references, metamers : StimulusSet
        The photograph of each metamer, row by row; and the metamers with their own provenance.

    Raises
    ------
    InputError
        See `read_metamer_set`.

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from tempfile import mkdtemp
    >>> from stimuli_gen import StimulusSet, write_stimuli
    >>> images = np.zeros((2, 3, 48, 48), dtype=np.float32)
    >>> table = pd.DataFrame({"id": ["cat", "cat_m"], "kind": ["RE", "metamer"]})
    >>> table["reference_id"] = "cat"
    >>> folder = mkdtemp()
    >>> _ = write_stimuli(StimulusSet(images=images, table=table), folder)
    >>> references, metamers = read_metamers(folder)
    >>> references.ids, metamers.ids
    (('cat',), ('cat_m',))
    """
    from stimuli_gen.stimuli import read_stimuli

    folder = Path(folder)
    everything = read_stimuli(folder, in_memory=None)
    metamers = everything.select(kind="metamer")
    if not len(metamers):
        raise InputError(
            f"{folder} holds no metamers; give a folder that 'neurometamer stimuli metamer' wrote."
        )
    # a folder that holds photographs too has the provenance of the metamers as one of its parts
    record: Mapping[str, Any] = everything.provenance
    parts = [part for part in record.get("parts", []) if "models" in part]
    if "models" not in record and len(parts) == 1:
        record = parts[0]
    metamers = replace(metamers, provenance=record)
    own = everything.select(kind="RE")
    photographs = own if len(own) else _photographs(folder, metamers, images)
    wanted = metamers.table["reference_id"].tolist()
    if missing := [name for name in dict.fromkeys(wanted) if name not in set(photographs.ids)]:
        raise InputError(
            f"{folder}: no photograph has the id(s) {name_ids(missing)}, of which there are "
            f"metamers; give them too. Known: {name_ids(photographs.ids)}."
        )
    references = photographs.select(ids=list(dict.fromkeys(wanted)))
    _check_pixels(folder, references, metamers.provenance)
    return references, metamers


def _photographs(
    folder: Path, metamers: StimulusSet, images: Sequence[str | os.PathLike[str]]
) -> StimulusSet:
    from stimuli_gen.photographs import Preprocessing, read_images

    if not images:
        raise InputError(
            f"{folder} holds no photographs; give those that the metamers were made of, with "
            "--images."
        )
    # cut the photographs and read their levels as when the metamers were made
    size = tuple(metamers.images.shape[2:])
    cuts = metamers.provenance.get("reference_cuts") or []
    cut: dict[str, Any] = {"resize": max(size), "interpolation": "bicubic"}
    if len(cuts) == 1:
        cut = dict(cuts[0])
    levels = {name: cut.pop(name) for name in ("bits", "icc") if name in cut}
    preprocessing = Preprocessing(**{**cut, "size": size}, mean=(0.5,) * 3, std=(0.5,) * 3)
    return read_images(list(images), preprocessing, **levels).select(kind="RE")


def _check_pixels(folder: Path, references: StimulusSet, record: Mapping[str, Any]) -> None:
    """Compare the photographs with the sources of the metamers, where all are known and there."""
    from stimuli_gen.stored_images import digest_levels

    known = record.get("reference_pixels")
    if known is not None and known != digest_levels(references.images):
        raise InputError(
            f"{folder}: the photographs have other pixels than those that the metamers were made "
            f"of ({name_ids(references.ids)}); give the same files, or the folder that the "
            "metamers were made from."
        )
