"""Confounds of fMRIPrep and tedana by nilearn's strategies, as regressors of one run.

Which columns a strategy means is nilearn's (``nilearn.interfaces.fmriprep.load_confounds``). Where
nilearn leaves volumes out, here each of them gets a regressor of its own, which for least squares
is the same. Components of tedana go together with other strategies, and tables of fMRIPrep 1.0 and
1.1 are read, which nilearn refuses.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import os
import re
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.tables import DUMMIES, new_names
from neurometamer.arguments import check_fields, checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.reading import one_line
from neurometamer.store import read_table
from neurometamer.summaries import short_repr

STRATEGIES: dict[str, str] = {
    "motion": "six parameters of head motion, with derivatives and squares",
    "high_pass": "fMRIPrep's cosines, in place of the drifts of the GLM",
    "wm_csf": "means of white matter and of cerebrospinal fluid",
    "global_signal": "mean of the brain",
    "compcor": "components of noise regions; brings high_pass",
    "ica_aroma": "components that ICA-AROMA calls motion",
    "scrub": "a regressor for each volume with much motion",
    "tedana": "components of several echoes that tedana rejects",
}
"""nilearn's strategies and what they take out."""

STRATEGY_NAMES = tuple(STRATEGIES)
"""Names alone, for help texts in which ``high_pass`` would be read as an option."""

TEDANA_FILES = {
    "desc-ICA_mixing.tsv": "desc-tedana_metrics.tsv",
    "ica_mixing.tsv": "ica_metrics.tsv",
}
"""Time courses of components → their classification: the names of tedana from 0.0.11 on, and those
of its convention "orig"; a prefix may stand before them."""

PREPARED = ("*",)
"""The columns to use of a table that `strategy_confounds` made: all."""

_TABLE = re.compile(r"(desc-confounds_(timeseries|regressors)|(^|_)confounds)\.tsv$")
_OLD_COMPCOR = {"a_comp_cor_": "aCompCor", "t_comp_cor_": "tCompCor"}
"""Names of components in tables whose versions wrote no JSON file about them."""
_EXPANSION = re.compile(r"^(trans|rot)_[xyz]_(derivative1|power2|derivative1_power2)$")
"""Columns of ``motion="full"`` that tables of six parameters lack."""
_AROMA = "smoothAROMAnonaggr"


@short_repr
@dataclass(frozen=True, kw_only=True)
class ConfoundOptions:
    """Strategies of confounds and their parameters.

    Parameters
    ----------
    strategy : sequence of str
        In place of columns, strategies of nilearn's ``load_confounds`` for tables of fMRIPrep, some
        of `STRATEGIES`.
    strategy_options : mapping of str to (bool, int, float or str)
        Parameters of the strategies under nilearn's names, such as ``n_compcor=5``; others have
        nilearn's defaults.

    Raises
    ------
    InputError
        When a strategy is unknown, or there are parameters and no strategy.

    Examples
    --------
    >>> options = ConfoundOptions(strategy=["compcor"], strategy_options={"n_compcor": "5"})
    >>> options.strategy_options
    {'n_compcor': 5}
    """

    strategy: Sequence[str] = ()
    strategy_options: Mapping[str, bool | int | float | str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)
        for name in self.strategy:
            if name not in STRATEGIES and name != "non_steady_state":
                raise unknown_name("strategy of confounds", name, STRATEGIES)
        if self.strategy_options and not self.strategy:
            raise InputError(
                f"{name_ids(self.strategy_options)} are parameters of strategies "
                "(strategy_options), and no strategy is given; give one (strategy, --strategy)."
            )
        # a command line writes numbers as text
        values: dict[str, Any] = dict(self.strategy_options)
        for name, value in self.strategy_options.items():
            for kind in (float, int):
                with contextlib.suppress(ValueError):
                    values[name] = kind(value) if isinstance(value, str) else value
        object.__setattr__(self, "strategy_options", values)

    def choose(
        self,
        confounds: Sequence[str | os.PathLike[str]],
        images: Sequence[str | os.PathLike[str]],
        mixing: Sequence[str | os.PathLike[str]] = (),
        columns: Sequence[str] = (),
    ) -> tuple[list[Any] | None, Sequence[str] | None]:
        """Choose the confounds of runs.

        Parameters
        ----------
        confounds, images : sequence of path-like
            Tables and images, one each a run; there may be no tables.
        mixing : sequence of path-like
            Components of tedana, one a run, or none.
        columns : sequence of str
            Names or patterns of columns, where there are no strategies.

        Returns
        -------
        confounds : list of (path-like or DataFrame), or None
            For `fmri.read_runs`.
        columns : sequence of str, or None
            The same.

        Raises
        ------
        InputError
            When columns and strategies are given, there are no tables, or a strategy cannot be
            used.
        """
        if not self.strategy:
            return list(confounds) or None, columns or None
        if columns:
            raise InputError(
                f"confounds by columns ({name_ids(columns)}) and by strategy "
                f"({name_ids(self.strategy)}); give one of the two."
            )
        is_of_tedana = set(self.strategy) == {"tedana"}
        tables = list(confounds) or (list(mixing) if is_of_tedana else [])
        if len(tables) != len(images):
            raise InputError(
                f"the strategy {', '.join(self.strategy)} needs a table of confounds for each of "
                f"{len(images)} runs, and there are {len(tables)}; give them (confounds, "
                "--confounds, or derivatives that hold them)."
            )
        chosen = []
        for number, (table, image) in enumerate(zip(tables, images, strict=True)):
            components = mixing[number] if mixing else ""
            chosen.append(
                strategy_confounds(
                    table, self.strategy, image=image, mixing=components, **self.strategy_options
                )
            )
        return chosen, PREPARED


@checked
def strategy_confounds(
    confounds: str | os.PathLike[str],
    strategy: Sequence[str],
    *,
    image: str | os.PathLike[str] = "",
    mixing: str | os.PathLike[str] = "",
    **options: Any,
) -> pd.DataFrame:
    r"""Choose confounds of fMRIPrep and tedana by nilearn's strategies.

    Parameters
    ----------
    confounds : path-like
        ``…_desc-confounds_timeseries.tsv``, or ``…_regressors.tsv`` of older versions, with its
        JSON file beside it; ``…_bold_confounds.tsv`` of fMRIPrep 1.0 and 1.1. For the strategy
        ``"tedana"`` alone also the file of `mixing`.
    strategy : sequence of str
        Some of `STRATEGIES`. ``"compcor"`` brings ``"high_pass"``: components were computed on
        series from which these cosines had been removed.
    image : path-like
        The image, where ICA-AROMA has cleaned it (``desc-smoothAROMAnonaggr``).
    mixing : path-like
        Time courses of tedana's components (``…_desc-ICA_mixing.tsv``), with their classification
        (``…_desc-tedana_metrics.tsv``) beside them; by default those beside `confounds`.
    **options : object
        Parameters of ``load_confounds``, such as ``motion="basic"``, ``n_compcor=5`` or
        ``fd_threshold=0.2``; others have nilearn's defaults.

    Returns
    -------
    pandas.DataFrame
        One row a volume: nilearn's columns with ``demean=False``, then a column of 0 and 1 for each
        volume that nilearn would leave out: ``non_steady_state_outlier00`` … and
        ``motion_outlier00`` …, then the rejected components (``rejected_ICA_01`` …).

    Raises
    ------
    InputError
        When a strategy or parameter is unknown, or the table lacks what it needs.

    Notes
    -----
    Columns of fMRIPrep 1.0 and 1.1 (``WhiteMatter``, ``RotX``, ``aCompCor00`` …) are read under
    their names from 1.2 on (`fmri.tables.new_names`), and the attribute ``renamed`` of the result
    says which were. Their aCompCor is that of white matter and cerebrospinal fluid combined; they
    have no derivatives and squares.

    nilearn's ``tedana="non-aggressive"`` is refused: it gives the accepted components, too, and in
    a model of events these would take out what the events explain.

    References
    ----------
    Wang et al. (2024). Continuous evaluation of denoising strategies in resting-state fMRI
    connectivity using fMRIPrep and Nilearn. PLOS Computational Biology 20, e1011942.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "sub-01_task-images_desc-confounds_timeseries.tsv"
    >>> names = ("global_signal", "non_steady_state_outlier00")
    >>> _ = file.write_text("\t".join(names) + "\n1.5\t1\n2.5\t0\n3.5\t0\n")
    >>> strategy_confounds(file, ["global_signal"]).to_dict("list")
    {'global_signal': [1.5, 2.5, 3.5], 'non_steady_state_outlier00': [1.0, 0.0, 0.0]}
    """
    from nilearn.interfaces.fmriprep import load_confounds

    path = Path(confounds)
    if not strategy:
        raise InputError("no strategy of confounds; give some of " + ", ".join(STRATEGIES) + ".")
    for name in strategy:
        if name not in STRATEGIES and name != "non_steady_state":
            raise unknown_name("strategy of confounds", name, STRATEGIES)
    known = set(inspect.signature(load_confounds).parameters)
    known -= {"img_files", "strategy", "demean"}
    known.add("tedana")  # versions before 0.12 do not have it
    for name in options:
        if name not in known:
            raise unknown_name("parameter of confounds", name, sorted(known))
    if options.pop("tedana", "aggressive") != "aggressive":
        raise InputError(
            'of tedana only "aggressive" goes with a model of events: accepted components, too, '
            "would take out what the events explain. Leave the parameter tedana out."
        )
    components = Path(mixing) if mixing else mixing_beside(path)
    is_mixing = components == path
    others = [name for name in dict.fromkeys(strategy) if name != "tedana"]
    parts = []
    if others or not is_mixing:
        parts.append(_of_fmriprep(path, others, str(image), options))
    if "tedana" in strategy:
        parts.append(rejected_components(components))
    n_rows = [len(part) for part in parts]
    if len(set(n_rows)) > 1:
        raise InputError(
            f"{path.name} has {n_rows[0]} rows but {components.name} has {n_rows[1]}; one row a "
            "volume is needed in both. Find out which of the two was cut."
        )
    regressors = pd.concat(parts, axis=1)
    regressors.attrs = dict(parts[0].attrs)
    return regressors


def _of_fmriprep(
    path: Path, strategy: Sequence[str], image: str, options: dict[str, Any]
) -> pd.DataFrame:
    """Choose columns of a table of fMRIPrep, and make a regressor of each volume left out."""
    if not _TABLE.search(path.name):
        raise InputError(
            f"{path.name} is no table of fMRIPrep (…_desc-confounds_timeseries.tsv); name columns "
            "in place of a strategy."
        )
    table = read_table(path)  # says in one line what is wrong with the file
    renamed = new_names(table.columns)
    chosen = [name for name in strategy if name != "non_steady_state"]
    if "compcor" in chosen and "high_pass" not in chosen:
        chosen.append("high_pass")
    if renamed or not _TABLE.search(path.name)[0].startswith("desc-"):  # type: ignore[index]
        with tempfile.TemporaryDirectory() as folder:
            copy = write_as_new(table.rename(columns=renamed), Path(folder))
            regressors, kept = _load(copy, chosen, image, options, path.name)
    else:
        regressors, kept = _load(path, chosen, image, options, path.name)
    dummies = [name for name in table.columns if DUMMIES.match(name)]
    is_dummy = table[dummies].eq(1).any(axis=1)
    volumes = np.arange(len(table))
    left_out = volumes[:0] if kept is None else np.setdiff1d(volumes, kept)
    spikes = {}
    counts = {"non_steady_state": 0, "motion": 0}
    for volume in left_out:
        reason = "non_steady_state" if is_dummy[volume] else "motion"
        name = f"{reason}_outlier{counts[reason]:02d}"
        counts[reason] += 1
        spikes[name] = (volumes == volume).astype(np.float64)
    every = pd.concat([regressors, pd.DataFrame(spikes, index=volumes)], axis=1)
    of_used = {old: new for old, new in renamed.items() if new in every.columns}
    if of_used:
        every.attrs["renamed"] = of_used
    return every


def write_as_new(table: pd.DataFrame, folder: Path) -> Path:
    """Write a table of fMRIPrep 1.0 or 1.1 as newer versions do, with what JSON says of CompCor.

    Parameters
    ----------
    table : pandas.DataFrame
        Its columns have new names.
    folder : Path
        Folder for the table and its JSON file.

    Returns
    -------
    Path
        The table.
    """
    described = {}
    for name in table.columns:
        method = _OLD_COMPCOR.get(str(name).rstrip("0123456789"))
        if method:
            described[name] = {"Method": method, "Mask": "combined", "Retained": True}
    file = folder / "sub-x_task-x_desc-confounds_timeseries.tsv"
    table.to_csv(file, sep="\t", index=False, na_rep="n/a")
    file.with_suffix(".json").write_text(json.dumps(described), encoding="utf-8")
    return file


def mixing_beside(confounds: str | os.PathLike[str]) -> Path:
    """Name the file of tedana's components that lies beside a table of fMRIPrep.

    Parameters
    ----------
    confounds : path-like
        The table; or the file itself, which is then the answer.

    Returns
    -------
    Path
        It need not be there.

    Examples
    --------
    >>> mixing_beside("sub-01_task-x_desc-confounds_timeseries.tsv").name
    'sub-01_task-x_desc-ICA_mixing.tsv'
    """
    path = Path(confounds)
    if path.name.endswith(tuple(TEDANA_FILES)):
        return path
    start = _TABLE.sub("", path.name)
    if start and not start.endswith("_"):
        start += "_"
    places = [path.with_name(start + name) for name in TEDANA_FILES]
    there = [place for place in places if place.is_file()]
    return there[0] if there else places[0]


def metrics_beside(mixing: str | os.PathLike[str]) -> Path:
    """Name the file that classifies the components of a file of tedana.

    Parameters
    ----------
    mixing : path-like
        Their time courses, named as in `TEDANA_FILES`.

    Returns
    -------
    Path
        It need not be there.

    Raises
    ------
    InputError
        When the name is none of tedana's.

    Examples
    --------
    >>> metrics_beside("sub-01_ica_mixing.tsv").name
    'sub-01_ica_metrics.tsv'
    """
    path = Path(mixing)
    for ending, other in TEDANA_FILES.items():
        if path.name.endswith(ending):
            return path.with_name(path.name.removesuffix(ending) + other)
    raise InputError(
        f"{path.name} is no table of tedana's components; give {' or '.join(TEDANA_FILES)}, with "
        "or without a prefix."
    )


def rejected_components(mixing: str | os.PathLike[str]) -> pd.DataFrame:
    r"""Read the time courses of the components that tedana rejects.

    Parameters
    ----------
    mixing : path-like
        Their table, named as in `TEDANA_FILES`, with that of the classification beside it.

    Returns
    -------
    pandas.DataFrame
        One row a volume, a column a rejected component: nilearn's names, such as
        ``rejected_ICA_01``, in the order of the classification. Ignored components stay in the
        data, as in tedana's own denoised series.

    Raises
    ------
    InputError
        When a table is missing, or the two do not hold the same components.

    References
    ----------
    DuPre et al. (2021). TE-dependent analysis of multi-echo fMRI with tedana. Journal of Open
    Source Software 6, 3669.

    Examples
    --------
    >>> from tempfile import mkdtemp
    >>> file = Path(mkdtemp()) / "sub-01_task-images_desc-ICA_mixing.tsv"
    >>> _ = file.write_text("ICA_0\tICA_1\n0.5\t1.5\n0.7\t-1.5\n")
    >>> metrics = file.with_name("sub-01_task-images_desc-tedana_metrics.tsv")
    >>> _ = metrics.write_text("Component\tclassification\nICA_00\taccepted\nICA_01\trejected\n")
    >>> rejected_components(file).to_dict("list")
    {'rejected_ICA_1': [1.5, -1.5]}
    """
    path = Path(mixing)
    metrics = metrics_beside(path)
    if not path.is_file():
        raise InputError(
            f"the strategy tedana needs {path.name}, and it is not there (looked for {path}); give "
            "the folder of tedana's output (tedana, --tedana), or leave the strategy out."
        )
    courses = read_table(path, once=None)
    rows = read_table(metrics, required=["Component", "classification"])
    # versions differ in the zeros before the numbers, even between their two tables
    columns = {_component(name): name for name in courses.columns}
    components = [_component(name) for name in rows["Component"]]
    unlike = sorted({*columns} ^ {*components})
    if unlike or len(components) != len(courses.columns):
        raise InputError(
            f"{path.name} and {metrics.name} do not hold the same components (each once): "
            f"{name_ids(unlike) or 'some occur twice'}; take both from one run of tedana."
        )
    classes = rows["classification"].astype(str)
    unknown = sorted({*classes} - {"accepted", "rejected", "ignored"})
    if unknown:
        raise InputError(
            f"{metrics.name}: the column classification holds {name_ids(unknown)}; accepted, "
            "rejected and ignored are known. Take the table that tedana or ica_reclassify wrote."
        )
    rejected = {}
    for component, classification in zip(components, classes, strict=True):
        if classification == "rejected":
            name = columns[component]
            rejected[f"rejected_{name}"] = courses[name]
    return pd.DataFrame(rejected, index=courses.index)


def _component(name: object) -> str:
    """Write the name of a component such that ``ICA_04`` equals ``ICA_4`` and ``ica_04``."""
    start, _, number = str(name).rpartition("_")
    return f"{start.upper()}_{number.lstrip('0') or '0'}"


def _load(
    path: Path, strategy: list[str], image: str, options: dict[str, Any], label: str
) -> tuple[pd.DataFrame, np.ndarray | None]:
    """Call nilearn, which finds the table by the name of its image."""
    from nilearn.interfaces.fmriprep import load_confounds

    desc = _AROMA if _AROMA in image else "preproc"
    named = _TABLE.sub(f"desc-{desc}_bold.nii.gz", str(path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            regressors, kept = load_confounds(named, strategy=strategy, demean=False, **options)
        except Exception as error:  # nilearn and pandas raise many kinds
            reason, cure = one_line(error), "choose another, or name columns"
            if "parameters are missing" in str(error):
                # nilearn lists them in another order each time
                missing = sorted(re.findall(r"'([^']+)'", str(error)))
                reason = f"the table lacks {name_ids(missing)}"
                if any(_EXPANSION.search(name) for name in missing):
                    cure = (
                        'give motion="basic" (--strategy-options motion=basic; in a study file '
                        f'glm.strategy_options = {{ motion = "basic" }}), {cure}'
                    )
            raise InputError(
                f"{label}: the strategy {', '.join(strategy)} cannot be used ({reason}); {cure}."
            ) from error
    if regressors is None:  # of no strategy but that of the first volumes
        regressors = pd.DataFrame()
    return regressors.reset_index(drop=True), kept
