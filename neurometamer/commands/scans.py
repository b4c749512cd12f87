"""The runs of one subject, for commands: files named one by one, or those of a BIDS data set."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.errors import InputError, name_ids
from neurometamer.reading import Files

if TYPE_CHECKING:
    from fmri.bold import BoldRun
    from fmri.rois.regions import Regions

RUNS = ("subject", "t_r", "columns", "condition_column", "affine", "hemispheres")
"""Options that `fmri.read_runs` takes."""

GLM = ("noise_model", "estimator", "units", "unusable", "max_memory")
"""Options that `fmri.estimate_betas` takes, beside those of designs."""

ROIS = ("resample", "space", "brain_mask", "only")
"""Options that `fmri.read_regions` takes."""

TRIALS = ("per", "hrf", "n_noise", "max_noise", "shrinkage", "n_delays")
"""Options that `fmri.SingleTrialOptions` takes."""

LAYOUT = ("sessions", "runs", "task", "space", "resolution", "desc", "echo", "id_column", "tedana")
"""Options of `fmri.find_dataset` that go with a data set alone; ``t_r`` and ``affine`` go with
files named one by one, too."""

CONFOUNDS = ("strategy", "strategy_options")
"""Options of `fmri.confounds.ConfoundOptions`."""

VOLUMES = ("volumes", "grid")
"""Options that `fmri.read_beta_images` takes."""


@dataclass(frozen=True, kw_only=True)
class Scans:
    """Where the runs of one subject are: files named one by one, or a BIDS data set.

    Parameters
    ----------
    bold, events, confounds : sequence of path-like
        One file a run each.
    bids : path-like, optional
        Folder of a data set instead.
    derivatives : path-like, optional
        Folder of its preprocessed images.

    Raises
    ------
    InputError
        When files and a data set are given, or derivatives alone.

    Examples
    --------
    >>> try:
    ...     Scans(bold=["bold.nii"], bids="dataset")
    ... except InputError as error:
    ...     print(error)
    bold (--bold) and a BIDS data set (--bids) exclude each other; give one of the two.
    """

    bold: Files = ()
    events: Files = ()
    confounds: Files = ()
    bids: str | Path | None = None
    derivatives: str | Path | None = None

    def __post_init__(self) -> None:
        files = ("bold", "events", "confounds")
        named = [f"{name} (--{name})" for name in files if getattr(self, name)]
        if self.bids is not None and named:
            raise InputError(
                f"{name_ids(named)} and a BIDS data set (--bids) exclude each other; give one of "
                "the two."
            )
        if self.bids is None and self.derivatives is not None:
            raise InputError(
                "derivatives (--derivatives) are those of a BIDS data set; give it, too (--bids)."
            )

    @property
    def given(self) -> bool:
        """Whether there are any.

        Returns
        -------
        bool
            False where neither files nor a data set are named.
        """
        return self.bids is not None or bool(self.bold)

    def open(
        self, masks: Mapping[str, str | Path], options: Mapping[str, Any]
    ) -> tuple[list[BoldRun], Regions, dict[str, Any]]:
        """Open the runs and the regions.

        Parameters
        ----------
        masks : mapping of str to path-like
            ROI to its file or definition.
        options : mapping of str to object
            Options of the command.

        Returns
        -------
        runs : list of BoldRun
            Checked.
        regions : Regions
            On the grid of the runs.
        glm : dict of str to object
            Options of `fmri.estimate_betas`.

        Raises
        ------
        InputError
            When something does not fit.
        """
        from fmri.betas.single_trials import SingleTrialOptions
        from fmri.rois.regions import read_regions

        elsewhere = {*RUNS, *TRIALS, *VOLUMES, *ROIS, *LAYOUT, *CONFOUNDS}
        glm = {name: value for name, value in options.items() if name not in elsewhere}
        if ignored := glm.pop("ignore", ()):
            glm["ignore"] = tuple(ignored)
        trials = SingleTrialOptions(**_chosen(options, TRIALS))
        if trials != SingleTrialOptions():
            glm["single_trials"] = trials
        definitions = {name: os.fspath(mask) for name, mask in masks.items()}
        of_regions = _chosen(options, ROIS)
        if self.bids is None:
            runs = self.read_files(options)
        else:
            of_regions.pop("space", None)  # the names of its images say it
            runs = self.read_dataset(options)
            label = runs[0].subject
            for name, definition in definitions.items():
                definitions[name] = definition.replace("{subject}", label)
        regions = read_regions(
            definitions,
            runs[0].grid,
            affine=runs[0].affine,
            with_pool=bool(trials.n_noise),
            **of_regions,
        )
        return runs, regions, glm

    def read_files(self, options: Mapping[str, Any]) -> list[BoldRun]:
        """Open files that are named one by one.

        Parameters
        ----------
        options : mapping of str to object
            Options of the command.

        Returns
        -------
        list of BoldRun
            Checked.

        Raises
        ------
        InputError
            When a file cannot be used, or an option does not go with files.
        """
        from fmri.bold import read_runs
        from fmri.confounds import ConfoundOptions

        refuse_labels(options, "files are named one by one")
        of_runs = _chosen(options, RUNS)
        wanted = ConfoundOptions(**_chosen(options, CONFOUNDS))
        tables, columns = wanted.choose(
            self.confounds, self.bold, columns=of_runs.pop("columns", None) or ()
        )
        return read_runs(self.bold, self.events, tables, columns=columns, **of_runs)

    def read_dataset(self, options: Mapping[str, Any]) -> list[BoldRun]:
        """Open the runs of one subject of a data set.

        Parameters
        ----------
        options : mapping of str to object
            Options of the command.

        Returns
        -------
        list of BoldRun
            Checked.

        Raises
        ------
        InputError
            When a file cannot be used, or an option does not go with a data set.
        """
        from fmri.confounds import ConfoundOptions
        from fmri.layout.dataset import find_dataset

        if "condition_column" in options:
            raise InputError(
                "condition_column (--condition-column) is for events named one by one; of a data "
                "set give id_column (--id-column)."
            )
        assert self.bids is not None
        subject = options.get("subject")
        layout = find_dataset(
            self.bids,
            self.derivatives,
            subjects=[subject] if subject else [],
            **_chosen(options, (*LAYOUT, "t_r", "affine")),
        )
        if len(layout.subjects) > 1:
            raise InputError(
                f"{self.bids} holds {len(layout.subjects)} subjects ({name_ids(layout.subjects)}); "
                "choose one (subject, --subject)."
            )
        wanted = ConfoundOptions(**_chosen(options, CONFOUNDS))
        parameters: dict[str, Any] = dict(wanted.strategy_options)
        return layout.read_runs(
            layout.subjects[0],
            columns=options.get("columns") or (),
            strategy=wanted.strategy,
            hemispheres=options.get("hemispheres", "both"),
            **parameters,
        )


def refuse_labels(options: Mapping[str, Any], reason: str, names: Sequence[str] = LAYOUT) -> None:
    """Refuse options of a data set where there is none.

    Parameters
    ----------
    options : mapping of str to object
        Options of the command.
    reason : str
        What is there instead.
    names : sequence of str
        Options that do not go with it; space does.

    Raises
    ------
    InputError
        When one is given.
    """
    given = [name for name in names if name in options and name != "space"]
    unused = [f"{name} (--{name.replace('_', '-')})" for name in given]
    if unused:
        raise InputError(
            f"{name_ids(unused)} are for the runs of a BIDS data set, and {reason}; give the data "
            "set (--bids), or leave them out."
        )


def _chosen(options: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}
