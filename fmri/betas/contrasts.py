"""Contrasts of conditions, as of localizer runs: expressions are parsed, and give maps."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from fmri.betas.estimate import UNITS
from fmri.betas.event_designs import DesignOptions, run_designs
from fmri.betas.joint_models import fit_jointly
from fmri.betas.session_models import scale_to_percent
from fmri.bold import BoldRun, check_runs
from fmri.cifti import brain_models
from fmri.grids import Grid
from fmri.series import read_stored
from fmri.volumes import digest_image
from neurometamer.arguments import KeywordsOf, checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.provenance import plain_value, provenance
from neurometamer.resume import writes_into
from neurometamer.store import atomic_path, write_json
from neurometamer.summaries import short_repr

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?(?![\w.]))"
    r"|(?P<quoted>\"[^\"]*\"|'[^']*')"
    r"|(?P<name>[\w.][\w.:/]*)"
    r"|(?P<sign>[-+*/()>]))"
)
_DEEPEST = 50
_AT_A_TIME = 20_000
"""Voxels that are fitted at once; the others wait in the type of their file."""
STATISTICS = ("effect", "t", "z")
"""Maps of a contrast: percent signal change (or units of the image), and what it is in errors."""


@checked
def parse_contrast(expression: str) -> dict[str, float]:
    """Read a weighted sum of conditions.

    Parameters
    ----------
    expression : str
        For example ``"intact - scrambled"``, ``"(face + body) / 2 - 0.5 * house - 0.5 * tool"`` or
        ``"intact > scrambled"`` (the same as a difference). Names of conditions that hold other
        signs than letters, digits, ``_``, ``.``, ``:`` and ``/``, or look like numbers, stand in
        quotes.

    Returns
    -------
    dict of str to float
        Condition to weight, in order of appearance.

    Raises
    ------
    InputError
        When the expression cannot be read, or is no sum of conditions.

    Notes
    -----
    The expression is parsed, never evaluated as code.

    Examples
    --------
    >>> parse_contrast("(face + body) / 2 - 'my house'")
    {'face': 0.5, 'body': 0.5, 'my house': -1.0}
    """
    reader = _Reader(expression)
    terms = reader.sum()
    if reader.next == ">":
        reader.take()
        terms = _added(terms, reader.sum(), -1.0)
    if reader.next:
        raise reader.error(f"'{reader.next}' is not expected there")
    constant = terms.pop("", 0.0)
    if constant:
        raise reader.error(f"{constant:g} is added to conditions")
    if not any(terms.values()):
        raise reader.error("no condition has a weight")
    return terms


@checked
def check_conditions(expression: str, shown: Sequence[str]) -> None:
    """Refuse a contrast of conditions that no run shows.

    Parameters
    ----------
    expression : str
        See `parse_contrast`.
    shown : sequence of str
        Conditions of the runs.

    Raises
    ------
    InputError
        With those that are shown.

    Examples
    --------
    >>> check_conditions("intact > scrambled", ["intact", "scrambled", "rest"])
    """
    if unknown := [name for name in parse_contrast(expression) if name not in shown]:
        raise InputError(
            f"contrast (--contrast) '{expression}' names {name_ids(unknown)}, which no run shows; "
            f"there are {name_ids(shown, 10)}."
        )


def _added(
    first: Mapping[str, float], second: Mapping[str, float], weight: float
) -> dict[str, float]:
    terms = dict(first)
    for name, value in second.items():
        before = terms.get(name, 0.0)
        added = weight * value
        terms[name] = before + added
    return terms


class _Reader:
    """Reads an expression from left to right; ``""`` is the name of plain numbers."""

    def __init__(self, expression: str) -> None:
        self.expression = expression
        self.depth = 0
        self.tokens: list[tuple[str, str]] = []
        position = 0
        while expression[position:].strip():
            match = _TOKEN.match(expression, position)
            if match is None:
                rest = expression[position:].strip()
                raise self.error(f"'{rest[0]}' is not expected there; put the name in quotes")
            self.tokens.append((str(match.lastgroup), match[str(match.lastgroup)]))
            position = match.end()

    @property
    def next(self) -> str:
        """The next token; empty at the end."""
        if not self.tokens:
            return ""
        _, text = self.tokens[0]
        return text

    def has_sign(self, *signs: str) -> bool:
        """Say whether the next token is one of some signs, not a name in quotes."""
        if not self.tokens:
            return False
        kind, text = self.tokens[0]
        return kind == "sign" and text in signs

    def take(self) -> tuple[str, str]:
        """Take the next token: what it is, and its text."""
        if not self.tokens:
            raise self.error("it ends too early")
        return self.tokens.pop(0)

    def error(self, why: str) -> InputError:
        """Say what is wrong with the expression."""
        return InputError(
            f"contrast (--contrast) '{self.expression}' cannot be read: {why}. Write for example "
            "'intact - scrambled', or '(face + body) / 2 - house'."
        )

    def sum(self) -> dict[str, float]:
        """Read terms with signs between them."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise self.error("it has too many brackets")
        terms = self.product()
        while self.has_sign("+", "-"):
            _, sign = self.take()
            weight = 1.0 if sign == "+" else -1.0
            term = self.product()
            terms = _added(terms, term, weight)
        self.depth -= 1
        return terms

    def product(self) -> dict[str, float]:
        """Read factors; at most one holds conditions, and none of these divides."""
        terms = self.factor()
        while self.has_sign("*", "/"):
            _, sign = self.take()
            other = self.factor()
            if sign == "*" and set(terms) == {""}:
                terms, other = other, terms
            if set(other) != {""}:
                raise self.error("conditions are multiplied with, or divide, each other")
            number = other[""]
            if sign == "/" and number == 0:
                raise self.error("it divides by zero")
            scale = number if sign == "*" else 1 / number
            terms = {name: value * scale for name, value in terms.items()}
        return terms

    def factor(self) -> dict[str, float]:
        """Read a number, a condition, or a sum in brackets, with signs before it."""
        weight = 1.0
        kind, text = self.take()
        while kind == "sign" and text in "+-":
            weight *= 1.0 if text == "+" else -1.0
            kind, text = self.take()
        if kind == "number":
            return {"": weight * float(text)}
        if kind == "quoted":
            return {text[1:-1]: weight}
        if kind == "name":
            return {text: weight}
        if text != "(":
            raise self.error(f"'{text}' is not expected there")
        inner = self.sum()
        if self.next != ")":
            raise self.error("a bracket is not closed")
        self.take()
        return {name: weight * value for name, value in inner.items()}


@short_repr
@dataclass(frozen=True, kw_only=True, eq=False)
class ContrastMaps:
    """Maps of one contrast.

    Parameters
    ----------
    effect, t, z : ndarray of float, shape (n_voxels,)
        The weighted sum of betas, and the same in standard errors; NaN in voxels without data.
    mask : ndarray of bool, shape (i, j, k) or (n_places,)
        The voxels, in C order, or the places of surfaces and CIFTI.
    affine : ndarray, shape (4, 4), optional
        Of the volume.
    provenance : mapping
        JSON-able record.
    grid : Grid, optional
        Of surfaces and CIFTI: their places.

    Examples
    --------
    >>> values = np.array([1.0, -2.0])
    >>> maps = ContrastMaps(
    ...     effect=values,
    ...     t=values * 4,
    ...     z=values * 3,
    ...     mask=np.array([True, False, True]).reshape(3, 1, 1),
    ...     affine=np.eye(4),
    ...     provenance={},
    ... )
    >>> volume = np.zeros(maps.mask.shape)
    >>> volume[maps.mask] = maps.t
    >>> volume.ravel().tolist()
    [4.0, 0.0, -8.0]
    """

    effect: np.ndarray
    t: np.ndarray
    z: np.ndarray
    mask: np.ndarray
    affine: np.ndarray | None
    provenance: Mapping[str, Any]
    grid: Grid | None = None

    @property
    def ending(self) -> str:
        """How files of these maps end.

        Returns
        -------
        str
            ``".nii.gz"``; of surfaces and CIFTI ``".dscalar.nii"``.
        """
        return ".nii.gz" if self.grid is None else ".dscalar.nii"


def joint_designs(
    runs: Sequence[BoldRun], chosen: DesignOptions
) -> tuple[list[str], list[np.ndarray], list[np.ndarray]]:
    """Build the designs of runs whose conditions have one coefficient each.

    Parameters
    ----------
    runs : sequence of BoldRun
        The runs.
    chosen : DesignOptions
        Options of their designs.

    Returns
    -------
    shown : list of str
        Conditions of all runs, in order of appearance.
    events : list of ndarray, shape (n_volumes, n_conditions)
        Regressors of each run; zeros for conditions that it does not show.
    nuisance : list of ndarray, shape (n_volumes, n_nuisance)
        Intercept, drifts and confounds of each run.

    Raises
    ------
    InputError
        When a design cannot be estimated.
    """
    designs = []
    shown: dict[str, None] = {}
    for events, matrix in run_designs(runs, per="condition", **chosen.record()):
        names = dict.fromkeys(events["trial_type"])
        designs.append((list(names), matrix))
        shown |= names
    events_of_runs, nuisance = [], []
    for own, matrix in designs:
        is_event = matrix.columns.str.startswith("event_")
        columns = np.zeros((len(matrix), len(shown)))
        columns[:, [list(shown).index(name) for name in own]] = matrix.loc[:, is_event]
        events_of_runs.append(columns)
        nuisance.append(matrix.loc[:, ~is_event].to_numpy())
    return list(shown), events_of_runs, nuisance


@checked
def estimate_contrast(
    runs: Sequence[BoldRun],
    expression: str,
    *,
    mask: np.ndarray | None = None,
    noise_model: str = "ar1",
    units: str = "percent",
    **design: Annotated[Any, KeywordsOf("fmri.betas.event_designs:DesignOptions")],
) -> ContrastMaps:
    """Estimate a contrast of conditions over the runs of a subject.

    Parameters
    ----------
    runs : sequence of BoldRun
        The runs, e.g. those of a localizer; one model for all, with intercept, drifts and confounds
        of their own for each run.
    expression : str
        See `parse_contrast`.
    mask : ndarray of bool, shape (i, j, k) or (n_places,), optional
        The voxels or places to fit; all by default.
    noise_model : {"ar1", "ols"}
        See `fmri.estimate_betas`.
    units : {"percent", "raw"}
        Unit of the effect.
    **design : object
        Fields of `fmri.DesignOptions`: hrf_model, high_pass, ignore, slice_time_ref.

    Returns
    -------
    ContrastMaps
        Effect, t and z. Voxels that are constant, not finite, or (in percent) of a mean of at most
        0 in any run are NaN.

    Raises
    ------
    InputError
        When the expression names a condition that no run shows, or conditions cannot be told apart.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> from fmri import read_runs, simulate_subject
    >>> simulated = simulate_subject(
    ...     mkdtemp(),
    ...     subject="01",
    ...     conditions=["cat", "cup", "dog", "hat"],
    ...     features={"x": np.eye(4)},
    ...     mixing={"V1": {"x": 1.0}},
    ...     seed=0,
    ...     voxels_per_roi=8,
    ...     n_runs=2,
    ... )
    >>> runs = read_runs(simulated.bold, simulated.events, simulated.confounds)
    >>> maps = estimate_contrast(runs, "(cat + dog) / 2 - cup", noise_model="ols")
    >>> int(np.isfinite(maps.t).sum())
    8
    """
    weights = parse_contrast(expression)
    chosen = DesignOptions(**design)
    if units not in UNITS[:2]:
        raise unknown_name("units of an effect", units, UNITS[:2])
    check_runs(runs)
    shown, events_of_runs, nuisance = joint_designs(runs, chosen)
    check_conditions(expression, shown)
    grid = runs[0].grid
    voxels = np.ones(grid.shape, dtype=bool) if mask is None else mask
    stored = [read_stored(run.images, voxels) for run in runs]
    contrast = np.array([[weights.get(name, 0.0) for name in shown]])
    n_voxels = int(voxels.sum())
    maps = {name: np.full(n_voxels, np.nan) for name in STATISTICS}
    dof = 0
    for first in range(0, n_voxels, _AT_A_TIME):
        slab = slice(first, first + _AT_A_TIME)
        series = [own.scaled(slab) for own in stored]
        usable = np.ones(series[0].shape[1], dtype=bool)
        for own in series:
            usable &= np.isfinite(own).all(axis=0) & (own != own[0]).any(axis=0)
            usable &= (own.mean(axis=0) > 0) | (units == "raw")
        if not usable.any():
            continue
        series = [own[:, usable] for own in series]
        if units == "percent":
            for run, own in zip(runs, series, strict=True):
                scale_to_percent(run.label, own)
        fit = fit_jointly(
            series, events_of_runs, nuisance, contrasts=contrast, noise_model=noise_model
        )
        dof = fit.dof
        maps["effect"][slab][usable] = fit.effects[0]
        for name in ("t", "z"):
            maps[name][slab][usable] = fit.statistic(name)[0]
    if not dof:
        raise InputError(
            f"no voxel of {runs[0].label} varies in all runs (and has a mean above 0); check mask "
            'and images, or give units="raw" (--units raw).'
        )
    settings = {
        "contrast": expression,
        "weights": weights,
        **chosen.record(),
        "noise_model": noise_model,
        "units": units,
    }
    images = {run.label: digest_image(run.images) for run in runs}
    record = provenance(settings, step="estimate_contrast", images=images, dof=dof)
    if any(run.simulated for run in runs):
        record["simulated"] = True
    return ContrastMaps(
        **maps,
        mask=voxels,
        affine=grid.affine,
        provenance=record,
        grid=None if grid.is_volume else grid,
    )


def contrast_label(expression: str) -> str:
    """Name a contrast in file names of BIDS.

    Parameters
    ----------
    expression : str
        See `parse_contrast`.

    Returns
    -------
    str
        Letters and digits of the conditions with weights above 0, ``Vs``, and those below 0.

    Raises
    ------
    InputError
        When the conditions have none.

    Examples
    --------
    >>> contrast_label("(face + body_part) / 2 - house"), contrast_label("-rest")
    ('faceBodyPartVsHouse', 'negRest')
    """
    sides = {1: "", -1: ""}
    for name, weight in parse_contrast(expression).items():
        words = re.findall("[A-Za-z0-9]+", name)
        title = "".join(word[0].upper() + word[1:] for word in words)
        if weight:
            sides[1 if weight > 0 else -1] += title
    label = "Vs".join(filter(None, sides.values()))
    if not sides[1]:
        label = f"neg{sides[-1]}"
    if not any(sides.values()):
        raise InputError(
            f"the conditions of contrast (--contrast) '{expression}' have neither letters nor "
            "digits of ASCII, of which labels of BIDS are made; name them so."
        )
    return label[0].lower() + label[1:]


def write_map(maps: ContrastMaps, statistic: str, path: Path) -> None:
    """Write one map of a contrast.

    Parameters
    ----------
    maps : ContrastMaps
        From `estimate_contrast`.
    statistic : {"effect", "t", "z"}
        Which one.
    path : Path
        File to write, with the ending of the maps: float32, NaN where nothing was estimated.
    """
    import nibabel

    values = np.full(maps.mask.shape, np.nan, dtype=np.float32)
    values[maps.mask] = getattr(maps, statistic)
    image: Any
    if maps.grid is None:
        image = nibabel.Nifti1Image(values, maps.affine)
    else:
        rows = nibabel.cifti2.ScalarAxis([statistic])
        image = nibabel.Cifti2Image(values[np.newaxis], (rows, brain_models(maps.grid)))
    with atomic_path(path) as part:
        nibabel.save(image, part)


@writes_into("folder")
@checked
def write_contrast(maps: ContrastMaps, folder: str | os.PathLike[str]) -> Path:
    """Write the maps of a contrast as images, for use in definitions of regions.

    Parameters
    ----------
    maps : ContrastMaps
        From `estimate_contrast`.
    folder : path-like
        Folder that gets ``effect.nii.gz``, ``t.nii.gz``, ``z.nii.gz`` (of surfaces and CIFTI
        ``.dscalar.nii``; float32, NaN where nothing was estimated) and ``contrast.json``.

    Returns
    -------
    Path
        The folder.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> values = np.array([1.0, -2.0])
    >>> maps = ContrastMaps(
    ...     effect=values,
    ...     t=values,
    ...     z=values,
    ...     mask=np.ones((2, 1, 1), dtype=bool),
    ...     affine=np.eye(4),
    ...     provenance={},
    ... )
    >>> folder = write_contrast(maps, Path(mkdtemp()) / "intact")
    >>> sorted(path.name for path in folder.iterdir())
    ['contrast.json', 'effect.nii.gz', 't.nii.gz', 'z.nii.gz']
    """
    target = Path(folder)
    for name in STATISTICS:
        write_map(maps, name, target / f"{name}{maps.ending}")
    write_json(target / "contrast.json", plain_value(dict(maps.provenance)))
    return target
