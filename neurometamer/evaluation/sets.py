"""Metamers beside their photographs: joined by id, with their validity, and summaries of both.

Every number of the evaluation stands beside the pass rates of the two criteria of Feather et al.
(2023), and is taken of the valid metamers; those that failed, and those that nobody judged, have
rows of their own and are never mixed in.
"""

from __future__ import annotations

import itertools
import operator
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from neurometamer.arguments import checked, checked_with
from neurometamer.errors import InputError, duplicates, name_ids, need_columns
from neurometamer.figures.style import count_text
from neurometamer.stats.resampling import bootstrap_counts, percentile_interval
from neurometamer.store import file_name
from neurometamer.summaries import short_repr

if TYPE_CHECKING:
    from stimuli_gen.models import StagedModel
    from stimuli_gen.stimuli import StimulusSet
    from stimuli_gen.stored_images import ImagesOnDisk

SET_COLUMNS = ("set", "members", "stage", "setting")
"""Columns that name a set of metamers in every table."""
FLAGS = ("same_class", "above_null", "valid")
"""The two criteria of Feather et al. (2023) of the 8-bit picture, and both together.

They are missing where no network was asked.
"""
STATES = ("valid", "failed", "not judged")
STAGE_ORDER = ("early", "middle", "late")
_STORED = {"same_class": "same_class_16_png", "above_null": "above_null_png", "valid": "valid"}
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

    @cached_property
    def reference_digest(self) -> str:
        """Hash the photographs' pixels, so that what networks say to them is asked once.

        Returns
        -------
        str
            16 hexadecimal digits.
        """
        from stimuli_gen.stored_images import digest_images

        return digest_images(self.references)

    @cached_property
    def picture_digest(self) -> str:
        """Hash the metamers' pixels.

        Returns
        -------
        str
            16 hexadecimal digits.
        """
        from stimuli_gen.stored_images import digest_images

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
        return states_of(self.table["valid"])

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
        if model.digest in {known for known, _ in self.members.values()}:
            return True
        return model.name in self.members and self.members[model.name][1] in ("", model.weights)


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
    passed = known.fillna(False).to_numpy(dtype=bool)
    return np.where(known.isna().to_numpy(), "not judged", np.where(passed, "valid", "failed"))


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
    networks = record.get("models", [])
    known = {network["name"]: (network["digest"], network["weights"]) for network in networks}
    settings = record.get("settings", {})
    matched = {network: tuple(stages) for network, stages in settings.get("stages", {}).items()}
    everyone = {network: known.get(network, ("", "")) for network in (*known, *members)}
    stages = dict.fromkeys(itertools.chain.from_iterable(matched.values()))
    table = metamers.table
    flags = _stored_flags(table) if validity is None else _judged(validity, metamers.ids)
    shown = references.as_shown().images
    photographs = shown[rows] if isinstance(shown, np.ndarray) else shown.take(rows)
    pictures = metamers.as_shown().images
    if folder is not None:
        pictures = _read_back(metamers, Path(folder))
    table = table[["id", "reference_id"]].reset_index(drop=True)
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
        untrained=tuple(network["name"] for network in networks if network.get("trained") is False),
        image_prior=str(record.get("image_prior", "")),
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
    if ball == "none" or settings["radius"] >= (1 if ball == "linf" else 1_000):
        return "unbounded"
    levels = 255 * settings["radius"]
    radius = f"{settings['radius']:g}"
    if abs(levels - round(levels)) < 1e-6:
        radius = f"{levels:.0f}/255"
    return f"{ball} {radius} around {settings['center']}"


def _partners(references: StimulusSet, metamers: StimulusSet) -> np.ndarray:
    """Find the row of each metamer's photograph."""
    if not len(metamers):
        raise InputError("no metamers to evaluate; give at least one.")
    row_of = {name: row for row, name in enumerate(references.ids)}
    wanted = metamers.table["reference_id"].tolist()
    if missing := [name for name in dict.fromkeys(wanted) if name not in row_of]:
        raise InputError(
            f"no photograph has the id(s) {name_ids(missing)}, of which there are metamers; give "
            f"them too. Known: {name_ids(references.ids)}."
        )
    if again := duplicates(wanted):
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
        names = [
            name for name in table.columns if name == column or str(name).startswith(f"{column}_")
        ]
        parts = [_boolean(table[name]) for name in names]
        if not parts:
            parts = [pd.Series(pd.NA, table.index, dtype="boolean")]
        flags[flag] = reduce(operator.and_, parts)
    return pd.DataFrame(flags).reset_index(drop=True)


def _boolean(column: pd.Series) -> pd.Series:
    """Read truth values that may be missing, which files store as text."""
    known = {"True": True, "False": False}
    values = [None if pd.isna(value) else known.get(str(value)) for value in column]
    return pd.Series(values, index=column.index, dtype="boolean")


def _judged(validity: pd.DataFrame, ids: Sequence[str]) -> pd.DataFrame:
    """Combine the results of `stimuli_gen.judge` over the networks of a set."""
    columns = ["id", "png_same_class_16", *_ABOVE, "png_valid"]
    need_columns(validity, columns, "the table of validity", "Make it with stimuli_gen.judge.")
    if missing := [name for name in ids if name not in set(validity["id"])]:
        raise InputError(
            f"the table of validity has no row for {name_ids(missing)}; judge all metamers."
        )
    flags = validity.assign(
        same_class=validity["png_same_class_16"],
        above_null=reduce(operator.and_, [_boolean(validity[name]) for name in _ABOVE]),
        valid=validity["png_valid"],
    )
    combined = {}
    for flag in FLAGS:
        by_image = _boolean(flags[flag]).groupby(flags["id"])
        combined[flag] = by_image.agg(lambda part: reduce(operator.and_, part))
    return pd.DataFrame(combined).loc[list(ids)].reset_index(drop=True).astype("boolean")


# ----------------------------------------------------------------------------------------- networks


@checked_with(shapes={"pictures": "n 3 height width"})
def seen_by(model: StagedModel, pictures: np.ndarray) -> np.ndarray:
    """Present 8-bit pictures to a network.

    Pictures of its size stay as they are, others pass its preprocessing.

    Parameters
    ----------
    model : StagedModel
        The network.
    pictures : ndarray
        (n, 3, height, width) float32 in [0, 1], of 8 bits.

    Returns
    -------
    ndarray
        (n, 3, height, width) in the network's size.

    Examples
    --------
    >>> from neurometamer.zoo import load_model
    >>> model = load_model("squeezenet1_0", weights="random")
    >>> seen_by(model, np.zeros((1, 3, 64, 64), dtype=np.float32)).shape
    (1, 3, 224, 224)
    """
    from PIL import Image

    from stimuli_gen.stimuli import to_8bit

    if tuple(pictures.shape[2:]) == model.preprocessing.size:
        return pictures
    levels = to_8bit(pictures).transpose(0, 2, 3, 1)
    images = [Image.fromarray(np.ascontiguousarray(picture)) for picture in levels]
    return np.stack([model.preprocessing.cut(image) for image in images])


def chosen_evaluators(models: Sequence[StagedModel], include_untrained: bool) -> list[StagedModel]:
    """Leave out networks with random weights, and check that enough are left.

    Parameters
    ----------
    models : sequence of StagedModel
        Possible evaluators.
    include_untrained : bool
        Keep networks with random weights.

    Returns
    -------
    list of StagedModel
        The evaluators, at least 2.

    Raises
    ------
    InputError
        When fewer than 2 are left, or two have one name.
    """
    if again := duplicates([model.name for model in models]):
        raise InputError(
            f"evaluators with the same name: {name_ids(again)}; name each its own way."
        )
    kept = [model for model in models if model.trained or include_untrained]
    if len(kept) < 2:
        names = name_ids([model.name for model in kept]) or "none"
        left_out = name_ids([model.name for model in models if not model.trained]) or "none"
        raise InputError(
            f"{len(kept)} evaluator(s) ({names}); at least 2 are needed. Left out for random "
            f"weights: {left_out}."
        )
    return kept


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
    states = states_of(flags["valid"])
    rates: dict[str, Any] = {"n_images": len(flags)}
    for state in STATES:
        rates[f"n_{state.replace(' ', '_')}"] = int((states == state).sum())
    flag_of = {"same_class": "same_class", "above_null": "above_null", "both": "valid"}
    for name, flag in flag_of.items():
        known = flags[flag].astype("boolean").dropna()
        rates[f"pass_{name}"] = float(known.mean()) if len(known) else np.nan
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
    present = [state for state in STATES if (states == state).any()]
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
    drawn = counts.astype(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        endless = np.isposinf(values)
        finite = np.where(there & ~endless, values, 0.0)
        means = (drawn @ finite) / (drawn @ there.astype(np.float64))
    if endless.any():  # 0 · inf is not a number: a drawn infinite value makes the mean infinite
        means[(drawn @ endless.astype(np.float64)) > 0] = np.inf
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
        weights = np.ones(len(cells), dtype=bool)
        if counted:
            weights = distinct[counted].to_numpy(dtype=bool)
        for state in reported_states(states):
            values = _matrix(part[states == state], cells, by, value)
            means, note = None, no_valid_note(rates)
            if len(values):
                counts = bootstrap_counts(len(values), n_resamples, seed)
                means, note = resampled_means(values, counts), ""
            same = {**label, "validity": state, **rates, "note": note}
            rows += _cell_rows(same, cells, values, means, confidence)
            if average is not None:
                rows += _average_rows(same, cells, values, means, confidence, average, weights)
    if not rows:
        return pd.DataFrame()
    first = [*SET_COLUMNS, *by, "validity", "n", "value", "low", "high", "sd", "n_averaged"]
    table = pd.DataFrame(rows)
    return table[[*first, *table.columns.drop(first)]]


def _matrix(part: pd.DataFrame, cells: pd.DataFrame, by: Sequence[str], value: str) -> np.ndarray:
    """Arrange values by image and measurement."""
    keys = cells.itertuples(index=False, name=None)
    column_of = {key: column for column, key in enumerate(keys)}
    columns = [column_of[key] for key in part[list(by)].itertuples(index=False, name=None)]
    rows, ids = pd.factorize(part["reference_id"])
    values = np.full((len(ids), len(cells)), np.nan)
    values[rows, columns] = part[value].to_numpy(dtype=float, na_value=np.nan)
    return values


def _mean(values: np.ndarray) -> np.ndarray:
    there = ~np.isnan(values)
    return np.divide(
        np.where(there, values, 0).sum(axis=0),
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
    rows = []
    for column, cell in enumerate(cells.to_dict("records")):
        numbers = {
            "n": int((~np.isnan(values[:, column])).sum()),
            "value": averages[column],
            "low": low[column],
            "high": high[column],
            "sd": np.nan,
            "n_averaged": 1,
        }
        names = {str(name): value for name, value in cell.items()}
        rows.append(same | names | numbers)
    return rows


def _interval(means: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """Compute the interval where some resamples are infinite.

    Those of PSNR are infinite when an image equals its photograph.
    """
    huge = 1e300
    low, high = percentile_interval(np.where(np.isposinf(means), huge, means), confidence)
    return np.where(low > huge / 1e6, np.inf, low), np.where(high > huge / 1e6, np.inf, high)


def _average_rows(
    same: dict[str, Any],
    cells: pd.DataFrame,
    values: np.ndarray,
    means: np.ndarray | None,
    confidence: float,
    average: str,
    weights: np.ndarray,
) -> list[dict[str, Any]]:
    """Average over networks: one row for each combination of the other columns."""
    of_network = (average, f"{average}_weights", "trained", "took_part")
    rest = [name for name in cells.columns if name not in of_network]
    rows = []
    for key, group in cells.groupby(rest, sort=False, dropna=False):
        columns = group.index.to_numpy()[weights[group.index]]
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
            low, high = _interval(means[:, columns].mean(axis=1), confidence)
            row |= {
                "value": single.mean(),
                "sd": single.std(ddof=1),
                "low": float(low),
                "high": float(high),
            }
        rows.append(row)
    return rows
