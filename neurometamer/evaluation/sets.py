"""Metamers beside their photographs: read, joined by id, with validity, and summaries of both.

Every number of the evaluation stands beside the pass rates of the two criteria of Feather et al.
(2023), and is taken of the valid metamers; those that failed, and those that nobody judged, have
rows of their own and are never mixed in.
"""

from __future__ import annotations

import itertools
import math
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked
from neurometamer.errors import InputError, count_text, duplicates, name_ids, need_columns
from neurometamer.stats.resampling import bootstrap_counts, percentile_interval
from neurometamer.store import file_name
from neurometamer.summaries import short_repr
from stimuli_gen.photographs import Preprocessing, read_images
from stimuli_gen.stimuli import read_stimuli
from stimuli_gen.stored_images import digest_images, digest_levels

if TYPE_CHECKING:
    from stimuli_gen.models import StagedModel
    from stimuli_gen.stimuli import StimulusSet
    from stimuli_gen.stored_images import ImagesOnDisk

SET_COLUMNS = ("set", "members", "stage", "setting")
"""Columns that name a set of metamers in every table."""
FLAGS = ("same_class", "above_null", "valid")
"""The two criteria of Feather et al. (2023) of the 8-bit picture, and both together.

The class is that of the network's criterion, see `stimuli_gen.categories.CLASS_CRITERIA`. They are
missing where no network was asked, and where it could not say.
"""
STATES = ("valid", "failed", "not judged")
STAGE_ORDER = ("early", "middle", "late")
_STORED = {"same_class": "same_class_png", "above_null": "above_null_png", "valid": "valid"}
_FORMERLY = {"same_class": "same_class_16_png"}
"""Column of metamers that were judged when the 16 categories were the only criterion."""
_ABOVE = tuple(f"png_{name}_above_null" for name in ("spearman", "pearson", "snr_db_power"))


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class MetamerSet:
    """Metamers of one set of networks, at one stage, made in one way; build it with `metamer_set`.

    Attributes
    ----------
    name, stage, setting : str
        The set of networks, the depth that was matched, and how far images could move.
    references, pictures : ndarray or ImagesOnDisk
        (n, 3, height, width) float32 in [0, 1], rounded to 8 bits; row by row photograph and
        metamer. Those of a large set stay on disk and are read batch by batch.
    table : pandas.DataFrame
        One row a metamer: id, reference_id, category, and `FLAGS` (boolean, missing where not
        judged).
    members : mapping of str to tuple of str
        Networks that took part: name to digest and weights tag (empty where they are not known).
    matched : mapping of str to tuple of str
        Their matched stages, where the metamers tell.
    untrained : tuple of str
        Those of them that have random weights, where the metamers tell.
    image_prior : str
        What made them look natural whatever the networks respond to; ``"none"``, or empty where
        they do not tell.
    class_criterion : str
        By which criterion of class they were judged, of `stimuli_gen.categories.CLASS_CRITERIA`;
        joined by ``+`` where networks of the set differ, empty where nothing tells.

    Examples
    --------
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 48, 48), dtype=np.float32)
    >>> photographs = StimulusSet(
    ...     images=images,
    ...     table=pd.DataFrame(
    ...         {"id": ["cat", "cup"], "kind": "RE", "reference_id": ["cat", "cup"]}
    ...     ),
    ... )
    >>> metamers = StimulusSet(
    ...     images=1 - images,
    ...     table=pd.DataFrame(
    ...         {"id": ["cat_m", "cup_m"], "kind": "metamer", "reference_id": ["cat", "cup"]}
    ...     ),
    ... )
    >>> metamer_set(photographs, metamers, members=["alexnet"], stage="late").label
    {'set': 'alexnet', 'members': 'alexnet', 'stage': 'late', 'setting': 'unknown'}
    """

    name: str
    stage: str
    setting: str
    references: np.ndarray | ImagesOnDisk
    pictures: np.ndarray | ImagesOnDisk
    table: pd.DataFrame
    members: Mapping[str, tuple[str, str]]
    matched: Mapping[str, tuple[str, ...]]
    untrained: tuple[str, ...] = ()
    image_prior: str = ""
    class_criterion: str = ""

    @cached_property
    def reference_digest(self) -> str:
        """Hash the photographs' pixels, so that what networks say to them is asked once.

        Returns
        -------
        str
            16 hexadecimal digits.
        """
        return digest_images(self.references)

    @cached_property
    def picture_digest(self) -> str:
        """Hash the metamers' pixels.

        Returns
        -------
        str
            16 hexadecimal digits.
        """
        return digest_images(self.pictures)

    @property
    def label(self) -> dict[str, str]:
        """Name the set in a table.

        Returns
        -------
        dict of str to str
            The values of `SET_COLUMNS`.
        """
        return {
            "set": self.name,
            "members": "+".join(self.members),
            "stage": self.stage,
            "setting": self.setting,
        }

    @property
    def states(self) -> np.ndarray:
        """State of each metamer, one of `STATES`.

        Returns
        -------
        ndarray
            (n,) text.
        """
        valid = self.table["valid"]
        return states_of(valid)

    def took_part(self, model: StagedModel) -> bool:
        """Return whether a network took part in the generation.

        Parameters
        ----------
        model : StagedModel
            An evaluator.

        Returns
        -------
        bool
            True for the same digest, or the same name and weights: a network that sees images of
            another size is still the same. True for the same name where the weights are not known.
        """
        digests = [digest for digest, _ in self.members.values()]
        if model.digest in digests:
            return True
        name = model.name
        if name not in self.members:
            return False
        _, weights = self.members[name]
        return weights in ("", model.weights)


def states_of(valid: pd.Series) -> np.ndarray:
    """Turn the flag ``valid`` into words.

    Parameters
    ----------
    valid : pandas.Series
        Boolean with missing values.

    Returns
    -------
    ndarray
        (n,) of `STATES`.
    """
    known = valid.astype("boolean")
    is_missing = known.isna().to_numpy()
    known = known.fillna(False)
    passed = known.to_numpy(dtype=bool)
    words = np.where(passed, "valid", "failed")
    return np.where(is_missing, "not judged", words)


# ------------------------------------------------------------------------------------------ joining


@checked
def metamer_set(
    references: StimulusSet,
    metamers: StimulusSet,
    *,
    name: str = "",
    stage: str = "",
    setting: str = "",
    members: Sequence[str] = (),
    validity: pd.DataFrame | None = None,
    folder: str | os.PathLike[str] | None = None,
) -> MetamerSet:
    """Join metamers to their photographs by id.

    Parameters
    ----------
    references : StimulusSet
        Holds the photograph of every metamer, under its ``reference_id``, in the same size.
    metamers : StimulusSet
        Metamers of one set of networks at one stage, one of each photograph.
    name : str
        Name of the set of networks; its members' names by default.
    stage : str
        What the matched depth is called (``early``, ``middle``, ``late``, or any other); by default
        what was asked for, or the matched stages of the networks.
    setting : str
        How far images could move; read from the metamers' recipe by default, e.g. ``unbounded``.
    members : sequence of str
        Names of the networks that took part, for metamers that do not tell.
    validity : pandas.DataFrame, optional
        What `stimuli_gen.judge` found of these metamers; by default the metamers' own columns are
        read. An image is valid when it is for every network and stage.
    folder : path-like, optional
        Where `stimuli_gen.write_stimuli` wrote the metamers: the PNG files are then read back.
        Otherwise the images are rounded as the files are.

    Returns
    -------
    MetamerSet
        Rows in the order of the metamers.

    Raises
    ------
    InputError
        When there are no metamers, a partner is missing, a photograph has two metamers, or sizes
        differ. The ids are named.

    Examples
    --------
    >>> from stimuli_gen import StimulusSet
    >>> images = np.random.default_rng(0).random((2, 3, 48, 48), dtype=np.float32)
    >>> photographs = StimulusSet(
    ...     images=images,
    ...     table=pd.DataFrame(
    ...         {"id": ["cat", "cup"], "kind": "RE", "reference_id": ["cat", "cup"]}
    ...     ),
    ... )
    >>> metamers = StimulusSet(
    ...     images=1 - images,
    ...     table=pd.DataFrame(
    ...         {"id": ["cat_m", "cup_m"], "kind": "metamer", "reference_id": ["cat", "cup"]}
    ...     ),
    ... )
    >>> joined = metamer_set(photographs, metamers, members=["alexnet"], stage="late")
    >>> joined.name, joined.table["reference_id"].tolist()
    ('alexnet', ['cat', 'cup'])
    """
    rows = _partners(references, metamers)
    record = metamers.provenance
    settings = record.get("settings", {})
    everyone: dict[str, tuple[str, str]] = {}
    untrained = []
    for network in record.get("models", []):
        everyone[network["name"]] = (network["digest"], network["weights"])
        if network.get("trained") is False:
            untrained.append(network["name"])
    for member in members:
        everyone.setdefault(member, ("", ""))
    matched = {}
    for network, stages in settings.get("stages", {}).items():
        matched[network] = tuple(stages)
    stages = dict.fromkeys(itertools.chain.from_iterable(matched.values()))
    flags = _stored_flags(metamers.table)
    if validity is not None:
        flags = _flags_of_judge(validity, metamers.ids)
    shown = references.as_shown().images
    photographs = shown[rows] if isinstance(shown, np.ndarray) else shown.take(rows)
    pictures = metamers.as_shown().images
    if folder is not None:
        pictures = _read_back(metamers, Path(folder))
    table = metamers.table[["id", "reference_id"]].reset_index(drop=True)
    table["category"] = references.table["category"].to_numpy()[rows]
    return MetamerSet(
        name=name or "+".join(everyone) or "unnamed",
        stage=stage or str(record.get("asked") or "") or "+".join(stages) or "unnamed",
        setting=setting or setting_name(settings),
        references=photographs,
        pictures=pictures,
        table=pd.concat([table, flags], axis=1),
        members=everyone,
        matched=matched,
        untrained=tuple(untrained),
        image_prior=str(record.get("image_prior", "")),
        class_criterion=_criteria_of_class(metamers.table if validity is None else validity),
    )


def setting_name(settings: Mapping[str, Any]) -> str:
    """Name how far the images of a recipe could move.

    Parameters
    ----------
    settings : mapping
        The metamers' settings (ball, radius, center).

    Returns
    -------
    str
        ``unbounded``; or, for example, ``linf 8/255 around start``; ``unknown`` where nothing
        tells.
    """
    ball = settings.get("ball")
    if ball is None:
        return "unknown"
    # A pixel can move by 1 at most, so a larger box binds nothing; nor does the ball of Feather et
    # al. (2023).
    boundless = 1 if ball == "linf" else 1_000
    radius = math.inf if ball == "none" else settings["radius"]
    if radius >= boundless:
        return "unbounded"
    size = f"{radius:g}"
    levels = 255 * radius
    if abs(levels - round(levels)) < 1e-6:
        size = f"{levels:.0f}/255"
    return f"{ball} {size} around {settings['center']}"


def _partners(references: StimulusSet, metamers: StimulusSet) -> np.ndarray:
    """Find the row of each metamer's photograph."""
    if not len(metamers):
        raise InputError("no metamers to evaluate; give at least one.")
    row_of = {name: row for row, name in enumerate(references.ids)}
    wanted = metamers.table["reference_id"].tolist()
    missing = [name for name in dict.fromkeys(wanted) if name not in row_of]
    if missing:
        raise InputError(
            f"no photograph has the id(s) {name_ids(missing)}, of which there are metamers; give "
            f"them too. Known: {name_ids(references.ids)}."
        )
    again = duplicates(wanted)
    if again:
        raise InputError(
            f"more than one metamer of {name_ids(again)}; give one set of networks and stage at a "
            "time."
        )
    if references.images.shape[2:] != metamers.images.shape[2:]:
        raise InputError(
            f"metamers are {tuple(metamers.images.shape[2:])} pixels, photographs "
            f"{tuple(references.images.shape[2:])} ({name_ids(metamers.ids)}); load the "
            "photographs as they were when the metamers were made."
        )
    return np.array([row_of[name] for name in wanted])


def _read_back(metamers: StimulusSet, folder: Path) -> np.ndarray | ImagesOnDisk:
    """Read the PNG files of metamers, or list them where they are too many for memory.

    All files are tried now.
    """
    from stimuli_gen.stored_images import LARGEST_IN_MEMORY, PictureFiles, read_png

    files = {name: folder / "png" / f"{file_name(name)}.png" for name in metamers.ids}
    shape = tuple(metamers.images.shape)
    held = metamers.images.nbytes <= LARGEST_IN_MEMORY
    pictures, wrong = [], []
    for name, file in files.items():
        picture = read_png(file)
        if picture.shape != shape[1:]:
            wrong.append(name)
        elif held:
            pictures.append(picture)
    if wrong:
        raise InputError(
            f"files of another size than the metamers: {name_ids(wrong)}; write them again."
        )
    if held:
        return np.stack(pictures)
    return PictureFiles(files=tuple(files.values()), shape=metamers.images.shape)


def _stored_flags(table: pd.DataFrame) -> pd.DataFrame:
    """Read the criteria from the columns of the metamers.

    Of several networks and stages all must be met.
    """
    flags = {}
    for flag, column in _STORED.items():
        names = _columns_of(table, column)
        if not names and flag in _FORMERLY:
            names = _columns_of(table, _FORMERLY[flag])
        parts = [_boolean(table[name]) for name in names]
        if not parts:
            unknown = pd.Series(pd.NA, table.index, dtype="boolean")
            parts.append(unknown)
        flags[flag] = reduce(operator.and_, parts)
    stored = pd.DataFrame(flags)
    return stored.reset_index(drop=True)


def _columns_of(table: pd.DataFrame, name: str) -> list[str]:
    """List a column and those of single networks and stages, whose names go on."""
    start = f"{name}_"
    names = map(str, table.columns)
    return [column for column in names if column == name or column.startswith(start)]


def _criteria_of_class(table: pd.DataFrame) -> str:
    """Name the criteria of class by which the networks of a set judged."""
    criteria: list[str] = []
    for column in _columns_of(table, "class_criterion"):
        criteria += table[column].dropna().astype(str).tolist()
    if not criteria and _stored_flags(table)["same_class"].notna().any():
        return "16 categories"
    return "+".join(dict.fromkeys(criteria))


def _boolean(column: pd.Series) -> pd.Series:
    """Read truth values that may be missing, which files store as text."""
    known = {"True": True, "False": False}
    values = []
    for value in column:
        values.append(known.get(str(value)))
    return pd.Series(values, index=column.index, dtype="boolean")


def _flags_of_judge(validity: pd.DataFrame, ids: Sequence[str]) -> pd.DataFrame:
    """Combine the results of `stimuli_gen.judge` over the networks of a set."""
    same_class = "png_same_class"
    if same_class not in validity and "png_same_class_16" in validity:
        same_class = "png_same_class_16"  # of a table that was written when it was the only one
    columns = ["id", same_class, *_ABOVE, "png_valid"]
    need_columns(validity, columns, "the table of validity", "Make it with stimuli_gen.judge.")
    known = set(validity["id"])
    missing = [name for name in ids if name not in known]
    if missing:
        raise InputError(
            f"the table of validity has no row for {name_ids(missing)}; judge all metamers."
        )
    above = [_boolean(validity[name]) for name in _ABOVE]
    flags = {
        "same_class": _boolean(validity[same_class]),
        "above_null": reduce(operator.and_, above),
        "valid": _boolean(validity["png_valid"]),
    }
    combined = {}
    for flag, values in flags.items():
        by_image = values.groupby(validity["id"])
        combined[flag] = by_image.agg(lambda part: reduce(operator.and_, part))
    table = pd.DataFrame(combined)
    table = table.loc[list(ids)].reset_index(drop=True)
    return table.astype("boolean")


# ---------------------------------------------------------------------------------------- from disk


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
    photographs = everything.select(kind="RE")
    if not len(photographs):
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
        cut["size"] = size
        preprocessing = Preprocessing(**cut, mean=(0.5,) * 3, std=(0.5,) * 3)
        photographs = read_images(list(images), preprocessing, **levels).select(kind="RE")
    wanted = list(dict.fromkeys(metamers.table["reference_id"]))
    known = set(photographs.ids)
    missing = [name for name in wanted if name not in known]
    if missing:
        raise InputError(
            f"{folder}: no photograph has the id(s) {name_ids(missing)}, of which there are "
            f"metamers; give them too. Known: {name_ids(photographs.ids)}."
        )
    references = photographs.select(ids=wanted)
    pixels = record.get("reference_pixels")
    if pixels is not None and pixels != digest_levels(references.images):
        raise InputError(
            f"{folder}: the photographs have other pixels than those that the metamers were made "
            f"of ({name_ids(references.ids)}); give the same files, or the folder that the "
            "metamers were made from."
        )
    return references, metamers


# ---------------------------------------------------------------------------------------- summaries


def pass_rates(flags: pd.DataFrame) -> dict[str, Any]:
    """Count how many metamers met the criteria of Feather et al. (2023).

    Parameters
    ----------
    flags : pandas.DataFrame
        One row a metamer, with `FLAGS`.

    Returns
    -------
    dict
        n_images, n_valid, n_failed, n_not_judged; and pass_same_class, pass_above_null, pass_both:
        shares of those that were judged, NaN where none was.
    """
    rates: dict[str, Any] = {"n_images": len(flags)}
    states = states_of(flags["valid"])
    for state in STATES:
        name = state.replace(" ", "_")
        rates[f"n_{name}"] = int((states == state).sum())
    flag_of = {
        "same_class": "same_class",
        "above_null": "above_null",
        "both": "valid",
    }
    for name, flag in flag_of.items():
        known = flags[flag].astype("boolean").dropna()
        share = np.nan
        if len(known):
            share = float(known.mean())
        rates[f"pass_{name}"] = share
    return rates


def reported_states(states: np.ndarray) -> list[str]:
    """List the states for which a table has rows.

    Parameters
    ----------
    states : ndarray
        (n,) of `STATES`.

    Returns
    -------
    list of str
        ``valid`` wherever somebody judged, even when no metamer is; ``failed`` and ``not judged``
        where there are any.
    """
    present = []
    for state in STATES:
        if (states == state).any():
            present.append(state)
    if present == ["not judged"] or "valid" in present:
        return present
    return ["valid", *present]


def no_valid_note(rates: Mapping[str, Any]) -> str:
    """Write the note of a set that has no valid metamer.

    Parameters
    ----------
    rates : mapping
        See `pass_rates`.

    Returns
    -------
    str
        For the column ``note``.
    """
    return (
        f"excluded: no valid metamer of {rates['n_images']} ({rates['n_failed']} failed, "
        f"{rates['n_not_judged']} not judged)"
    )


def resampled_means(values: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Average columns in each resample of the rows; missing values are left out.

    Parameters
    ----------
    values : ndarray
        (n, cells) float, NaN where missing.
    counts : ndarray
        (n_resamples, n): how often each row was drawn.

    Returns
    -------
    ndarray
        (n_resamples, cells); NaN where a resample has no value.
    """
    there = ~np.isnan(values)
    endless = np.isposinf(values)
    finite = np.where(there & ~endless, values, 0.0)
    drawn = counts.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        means = (drawn @ finite) / (drawn @ there.astype(np.float64))
    if endless.any():  # 0 · inf is not a number: a drawn infinite value makes the mean infinite
        n_endless = drawn @ endless.astype(np.float64)
        means[n_endless > 0] = np.inf
    return means


def summarize(
    table: pd.DataFrame,
    by: Sequence[str],
    value: str,
    *,
    average: str | None = None,
    counted: str | None = None,
    n_resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Average a value over images, with bootstrap intervals.

    Valid, failed and unjudged metamers are averaged apart.

    Parameters
    ----------
    table : pandas.DataFrame
        One row an image and measurement: `SET_COLUMNS`, reference_id, `FLAGS`, `by` and `value`
        (NaN where the image has none).
    by : sequence of str
        Columns that tell the measurements of an image apart.
    value : str
        Column to be averaged.
    average : str, optional
        One of `by`: also make rows of the mean over it, with standard deviation (n - 1).
    counted : str, optional
        Column that says which rows count in that mean.
    n_resamples : int
        Resamples of images, the same for all measurements of a set.
    confidence : float
        Share of the intervals, in (0, 1).
    seed : int
        Seed of the resamples.

    Returns
    -------
    pandas.DataFrame
        `SET_COLUMNS`, `by`, validity, n (images averaged), value, low, high, sd and n_averaged (of
        means over `average`), the columns of `pass_rates`, and note. A set without a valid metamer
        has a row with n = 0.

    Raises
    ------
    InputError
        For a wrong confidence or number of resamples.
    """
    rows: list[dict[str, Any]] = []
    for key, part in table.groupby(list(SET_COLUMNS), sort=False, dropna=False):
        label = dict(zip(SET_COLUMNS, key, strict=True))
        rates = pass_rates(part.drop_duplicates("reference_id"))
        states = states_of(part["valid"])
        distinct = part.drop_duplicates(list(by)).reset_index(drop=True)
        cells = distinct[list(by)]
        is_counted = np.ones(len(cells), dtype=bool)
        if counted:
            is_counted = distinct[counted].to_numpy(dtype=bool)
        column_of = {}
        for column, cell in enumerate(cells.itertuples(index=False, name=None)):
            column_of[cell] = column
        for state in reported_states(states):
            own = part[states == state]
            own_cells = own[list(by)].itertuples(index=False, name=None)
            columns = [column_of[cell] for cell in own_cells]
            image, ids = pd.factorize(own["reference_id"])
            values = np.full((len(ids), len(cells)), np.nan)
            values[image, columns] = own[value].to_numpy(dtype=float, na_value=np.nan)
            means = None
            note = no_valid_note(rates)
            if len(values):
                counts = bootstrap_counts(len(values), n_resamples, seed)
                means = resampled_means(values, counts)
                note = ""
            same = {**label, "validity": state, **rates, "note": note}
            rows += _cell_rows(same, cells, values, means, confidence)
            if average is not None:
                rows += _average_rows(same, cells, values, means, confidence, average, is_counted)
    if not rows:
        return pd.DataFrame()
    first = [*SET_COLUMNS, *by, "validity", "n", "value", "low", "high", "sd", "n_averaged"]
    summary = pd.DataFrame(rows)
    return summary[[*first, *summary.columns.drop(first)]]


def _mean(values: np.ndarray) -> np.ndarray:
    there = ~np.isnan(values)
    totals = np.where(there, values, 0).sum(axis=0)
    return np.divide(
        totals,
        there.sum(axis=0),
        out=np.full(values.shape[1], np.nan),
        where=there.any(axis=0),
    )


def _cell_rows(
    same: dict[str, Any],
    cells: pd.DataFrame,
    values: np.ndarray,
    means: np.ndarray | None,
    confidence: float,
) -> list[dict[str, Any]]:
    low = high = np.full(len(cells), np.nan)
    if means is not None:
        low, high = _interval(means, confidence)
    averages = _mean(values)
    is_known = ~np.isnan(values)
    n_images = is_known.sum(axis=0)
    records = cells.to_dict("records")
    rows = []
    for column, cell in enumerate(records):
        row = dict(same)
        for name, value in cell.items():
            key = str(name)
            row[key] = value
        row["n"] = int(n_images[column])
        row["value"] = averages[column]
        row["low"] = low[column]
        row["high"] = high[column]
        row["sd"] = np.nan
        row["n_averaged"] = 1
        rows.append(row)
    return rows


def _interval(means: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute the interval where some resamples are infinite.

    Those of PSNR are infinite when an image equals its photograph.
    """
    huge = 1e300
    finite = np.where(np.isposinf(means), huge, means)
    ends = []
    for end in percentile_interval(finite, confidence):
        is_endless = end > huge / 1e6
        restored = np.where(is_endless, np.inf, end)
        ends.append(restored)
    low, high = ends
    return low, high


def _average_rows(
    same: dict[str, Any],
    cells: pd.DataFrame,
    values: np.ndarray,
    means: np.ndarray | None,
    confidence: float,
    average: str,
    is_counted: np.ndarray,
) -> list[dict[str, Any]]:
    """Average over networks: one row for each combination of the other columns."""
    of_network = (average, f"{average}_weights", "trained", "took_part")
    rest = [name for name in cells.columns if name not in of_network]
    rows = []
    for key, group in cells.groupby(rest, sort=False, dropna=False):
        columns = group.index.to_numpy()
        counted = is_counted[columns]
        columns = columns[counted]
        row = {
            **same,
            **dict(zip(rest, key, strict=True)),
            average: f"mean of {average}s",
            "n_averaged": len(columns),
            "n": len(values),
            "value": np.nan,
            "low": np.nan,
            "high": np.nan,
            "sd": np.nan,
        }
        if len(columns) < 2:
            few = f"{count_text(len(columns), average)} counted; a mean needs 2"
            row["note"] = f"{row['note']}; {few}" if row["note"] else few
        elif means is not None:
            single = _mean(values[:, columns])
            mean = means[:, columns].mean(axis=1)
            low, high = _interval(mean, confidence)
            row["value"] = single.mean()
            row["sd"] = single.std(ddof=1)
            row["low"] = float(low)
            row["high"] = float(high)
        rows.append(row)
    return rows
