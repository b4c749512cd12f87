"""Run a study from its file or its settings; the demo is a study file that ships with the package."""

from __future__ import annotations

import warnings
from dataclasses import replace
from importlib import resources
from pathlib import Path

from neurometamer.arguments import checked
from neurometamer.store import read_table
from neurometamer.study.checks import find_problems
from neurometamer.study.plan import Reporter, Workspace, carry_out
from neurometamer.study.problems import Problem, raise_errors
from neurometamer.study.settings import StudySettings, read_settings
from neurometamer.study.steps import plan_steps


@checked
def run_study(
    study: str | Path | StudySettings,
    out: str | Path | None = None,
    *,
    device: str | None = None,
    reporter: Reporter | None = None,
) -> Path:
    """Run a study, or go on with it: finished steps are kept.

    Parameters
    ----------
    study : path-like or StudySettings
        Study file, or settings (then relative file names start at the working folder).
    out : path-like, optional
        Output folder; by default named after the study, in the working folder.
    device : str, optional
        Instead of ``[run] device``.
    reporter : Reporter, optional
        Hears about progress.

    Returns
    -------
    Path
        The report.

    Raises
    ------
    InputError
        When the study file or an input cannot be used, or the folder holds a different study.
    """
    work = _workspace(study, out)
    if device is not None:
        run = work.settings.run.model_copy(update={"device": device})
        work = replace(work, settings=work.settings.model_copy(update={"run": run}))
    problems = find_problems(work)
    raise_errors(problems)
    work = replace(work, notes=tuple(map(str, problems)))
    for note in work.notes:
        warnings.warn(note, stacklevel=2)
    carry_out(plan_steps(work), work, reporter)
    return work.path("report.html")


@checked
def check_study(study: str | Path | StudySettings) -> list[Problem]:
    """Find what is wrong with a study before any work: settings, images, headers, events, confounds, masks.

    `run_study` begins with the same checks. They read headers, tables and masks, not the voxels of
    BOLD files.

    Parameters
    ----------
    study : path-like or StudySettings
        Study file, or settings (then relative file names start at the working folder).

    Returns
    -------
    list of Problem
        All of them, subject by subject; each has the attributes kind (``"error"`` or ``"note"``),
        subject, file and message. Empty when nothing stands in the way.

    Raises
    ------
    InputError
        When the study file itself cannot be read.

    Examples
    --------
    >>> from neurometamer import check_settings, check_study
    >>> settings = check_settings({"encoding": {"folds": 100}})
    >>> [str(problem) for problem in check_study(settings)]
    ['encoding.folds is 100, but the study has 16 photographs; give 2 to 16, or 0 to leave it open.']
    """
    return find_problems(_workspace(study))


def _workspace(study: str | Path | StudySettings, out: str | Path | None = None) -> Workspace:
    if isinstance(study, StudySettings):
        settings, base = study, Path.cwd()
    else:
        settings, base = read_settings(study), Path(study).resolve().parent
    return Workspace(folder=Path(out or settings.study.name), settings=settings, base=base)


def failed_stimuli(folder: str | Path) -> list[str]:
    """Name the images of a study that did not meet their criterion.

    Parameters
    ----------
    folder : path-like
        Output folder of a study.

    Returns
    -------
    list of str
        Ids; empty when all did.
    """
    table = read_table(Path(folder) / "stimuli" / "stimuli.csv", required=["id"])
    if "success" not in table:
        return []
    return table["id"][table["success"].astype(str) == "False"].tolist()


@checked
def demo_settings(
    *, model: str | None = None, weights: str | None = None, seed: int | None = None
) -> StudySettings:
    """Read the demo's study file, with another network or seed when asked.

    Parameters
    ----------
    model : str, optional
        Name of a network.
    weights : str, optional
        ``"default"``, ``"random"`` or a file.
    seed : int, optional
        Seed.

    Returns
    -------
    StudySettings
        For `run_study`.
    """
    with resources.as_file(resources.files("neurometamer.study").joinpath("demo.toml")) as path:
        settings = read_settings(path)
    network = {
        name: one for name, one in (("name", model), ("weights", weights)) if one is not None
    }
    changes = {
        "model": settings.model.model_copy(update=network),
        "study": settings.study.model_copy(update={} if seed is None else {"seed": seed}),
    }
    return settings.model_copy(update=changes)
