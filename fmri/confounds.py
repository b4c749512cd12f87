"""Confounds of fMRIPrep by nilearn's strategies, as regressors of one run.

Which columns a strategy means is nilearn's (``nilearn.interfaces.fmriprep.load_confounds``). Where
nilearn leaves volumes out, here each of them gets a regressor of its own, which for least squares
is the same.
"""

from __future__ import annotations

import inspect
import os
import re
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fmri.tables import DUMMIES
from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.reading import one_line
from neurometamer.store import read_table

STRATEGIES: dict[str, str] = {
    "motion": "six parameters of head motion, with derivatives and squares",
    "high_pass": "fMRIPrep's cosines, in place of the drifts of the GLM",
    "wm_csf": "means of white matter and of cerebrospinal fluid",
    "global_signal": "mean of the brain",
    "compcor": "components of noise regions; brings high_pass",
    "ica_aroma": "components that ICA-AROMA calls motion",
    "scrub": "a regressor for each volume with much motion",
}
"""nilearn's strategies and what they take out. Those of tedana come from another folder than that
of fMRIPrep and are not read."""

PREPARED = ("*",)
"""The columns to use of a table that `strategy_confounds` made: all."""

_TABLE = re.compile(r"desc-confounds_(timeseries|regressors)\.tsv$")
_EXPANSION = re.compile(r"^(trans|rot)_[xyz]_(derivative1|power2|derivative1_power2)$")
"""Columns of ``motion="full"`` that tables of six parameters lack."""
_AROMA = "smoothAROMAnonaggr"


@checked
def strategy_confounds(
    confounds: str | os.PathLike[str],
    strategy: Sequence[str],
    *,
    image: str | os.PathLike[str] = "",
    **options: Any,
) -> pd.DataFrame:
    r"""Choose confounds of fMRIPrep by nilearn's strategies.

    Parameters
    ----------
    confounds : path-like
        ``…_desc-confounds_timeseries.tsv``, or ``…_regressors.tsv`` of older versions (from 1.2
        on), with its JSON file beside it.
    strategy : sequence of str
        Some of `STRATEGIES`. ``"compcor"`` brings ``"high_pass"``: components were computed on
        series from which these cosines had been removed.
    image : path-like
        The image, where ICA-AROMA has cleaned it (``desc-smoothAROMAnonaggr``).
    **options : object
        Parameters of ``load_confounds``, such as ``motion="basic"``, ``n_compcor=5`` or
        ``fd_threshold=0.2``; others have nilearn's defaults.

    Returns
    -------
    pandas.DataFrame
        One row a volume: nilearn's columns with ``demean=False``, then a column of 0 and 1 for each
        volume that nilearn would leave out: ``non_steady_state_outlier00`` … and
        ``motion_outlier00`` …

    Raises
    ------
    InputError
        When a strategy or parameter is unknown, or the table lacks what it needs.

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
    path = Path(confounds)
    _check_strategy(strategy, options)
    if not _TABLE.search(path.name):
        raise InputError(
            f"{path.name} is no table of fMRIPrep (…_desc-confounds_timeseries.tsv); name columns "
            "in place of a strategy."
        )
    table = read_table(path)  # says in one line what is wrong with the file
    chosen = [name for name in dict.fromkeys(strategy) if name != "non_steady_state"]
    if "compcor" in chosen and "high_pass" not in chosen:
        chosen.append("high_pass")
    regressors, kept = _load(path, chosen, str(image), options)
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
    return pd.concat([regressors, pd.DataFrame(spikes)], axis=1)


def _check_strategy(strategy: Sequence[str], options: dict[str, Any]) -> None:
    """Refuse unknown strategies and parameters, by their names."""
    from nilearn.interfaces.fmriprep import load_confounds

    if not strategy:
        raise InputError("no strategy of confounds; give some of " + ", ".join(STRATEGIES) + ".")
    for name in strategy:
        if name not in STRATEGIES and name != "non_steady_state":
            raise unknown_name("strategy of confounds", name, STRATEGIES)
    known = set(inspect.signature(load_confounds).parameters)
    known -= {"img_files", "strategy", "demean", "tedana"}
    for name in options:
        if name not in known:
            raise unknown_name("parameter of confounds", name, sorted(known))


def _load(
    path: Path, strategy: list[str], image: str, options: dict[str, Any]
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
                    basic = 'strategy_options = { motion = "basic" }'
                    cure = f"give {basic} (in Python motion='basic'), {cure}"
            raise InputError(
                f"{path.name}: the strategy {', '.join(strategy)} cannot be used ({reason}); "
                f"{cure}."
            ) from error
    if regressors is None:  # of no strategy but that of the first volumes
        regressors = pd.DataFrame()
    return regressors.reset_index(drop=True), kept
