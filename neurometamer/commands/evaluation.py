"""The Python twins of ``neurometamer evaluate``: folders of metamers in; tables, figures and a page out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.arguments import checked
from neurometamer.commands.metamer_sets import at_one_size
from neurometamer.errors import InputError, name_ids
from neurometamer.store import read_table

if TYPE_CHECKING:
    import pandas as pd

    from neurometamer.commands.evaluate import EvaluationSettings
    from neurometamer.evaluation.sets import MetamerSet
    from stimuli_gen.models import StagedModel

Files = Sequence[str | os.PathLike[str]]
Progress = Callable[[int, int], None]
WeightsAsked = str | Mapping[str, str]


def read_source(text: str) -> tuple[str, str, Path]:
    """Read how a folder of metamers is named on the command line.

    Parameters
    ----------
    text : str
        ``FOLDER``, ``SET=FOLDER`` or ``SET@STAGE=FOLDER``.

    Returns
    -------
    tuple of str, str and Path
        Name of the set and of the stage, empty where the folder shall tell; and the folder.

    Raises
    ------
    InputError
        When a name is empty.

    Examples
    --------
    >>> read_source("CNN@late=metamers/late")
    ('CNN', 'late', PosixPath('metamers/late'))
    """
    name, equal, folder = text.partition("=")
    if not equal or Path(text).is_dir():
        return "", "", Path(text)
    name, at, stage = name.partition("@")
    if not (name.strip() or stage.strip()) or not folder or (at and not stage.strip()):
        raise InputError(f"metamers are FOLDER, SET=FOLDER or SET@STAGE=FOLDER, not '{text}'.")
    return name.strip(), stage.strip(), Path(folder)


@checked
def evaluate_metamers(
    metamers: Files,
    evaluators: Sequence[str],
    out: str | os.PathLike[str],
    *,
    images: Files = (),
    weights: WeightsAsked = "default",
    nulls: Files = (),
    networks: str | os.PathLike[str] | None = None,
    truth: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    device: str = "auto",
    batch_size: int = 8,
    settings: EvaluationSettings | None = None,
    progress: Progress | None = None,
) -> Path:
    """Evaluate metamers on disk: who recognizes them, how they look, what they do to representations.

    Parameters
    ----------
    metamers : sequence of path-like
        Folders that ``neurometamer stimuli metamer`` or a study wrote, each of one set of networks
        at one stage; as text also ``SET=FOLDER`` or ``SET@STAGE=FOLDER``.
    evaluators : sequence of str
        Names of networks, at least 2.
    out : path-like
        Folder for tables, figures and ``report.html``.
    images : sequence of path-like
        The photographs, see `stimuli_gen.read_images`; not needed where the metamers' folders hold
        them.
    weights : str or mapping of str to str
        See `neurometamer.zoo.load_models`.
    nulls : sequence of path-like
        Files of `make_null`: metamers are judged by them anew. Otherwise their folders say which
        are valid.
    networks : path-like, optional
        CSV with the column network and one for each of the two factors, for the part ``observers``.
    truth : path-like, optional
        CSV with the columns id and truth (ImageNet class, 0 to 999, or category), for the target
        ``truth``.
    image_size : int, optional
        Pixels that every evaluator sees; by default each its own.
    device : str
        See `neurometamer.zoo.load_model`.
    batch_size : int
        Images at once.
    settings : EvaluationSettings, optional
        The default ones when not given.
    progress : callable, optional
        Hears (pieces done, pieces).

    Returns
    -------
    Path
        The page. The same call goes on where it was stopped.

    Raises
    ------
    InputError
        When input cannot be used; the message names folders and ids.
    """
    from neurometamer.commands.evaluate import EvaluationSettings, evaluate_sets

    settings = settings or EvaluationSettings()
    if not metamers:
        raise InputError(
            "no metamers given; use --metamers FOLDER for each set of networks and stage."
        )
    if truth is not None:
        settings = replace(settings, truth=_read_truth(truth))
    told = (
        None
        if networks is None
        else read_table(networks, ["network", *settings.factors], text=["network"])
    )
    sources = [_Source(str(one), images) for one in metamers]
    load = _Loader(
        [*evaluators, *(name for one in sources for name in one.networks)],
        weights,
        device,
        settings.seed,
    )
    judges = load.at(list(evaluators), image_size)
    sets = [one.joined(nulls, load, batch_size) for one in sources]
    return evaluate_sets(
        sets,
        judges,
        out,
        settings,
        networks=told,
        generators=_generators(sets, evaluators, load, settings.target),
        batch_size=batch_size,
        progress=progress,
    )


def _read_truth(path: str | os.PathLike[str]) -> dict[str, int | str]:
    table = read_table(path, ["id", "truth"], text=["truth"])
    if bad := table.loc[table["truth"].isna(), "id"].tolist():
        raise InputError(f"{path} has no truth for {name_ids(bad)}.")
    return {
        name: int(one) if str(one).isdigit() else str(one)
        for name, one in zip(table["id"], table["truth"])
    }


class _Loader:
    """Loads networks by name, each once, with the weights that were asked for."""

    def __init__(self, names: Sequence[str], weights: WeightsAsked, device: str, seed: int) -> None:
        from neurometamer.zoo import GREY, MODELS, weights_by_name

        self.device, self.seed = device, seed
        known = [one for one in dict.fromkeys(names) if one.removesuffix(GREY) in MODELS]
        self.weights = weights_by_name(known, weights)
        self.known: dict[str, StagedModel] = {}

    def at(self, names: Sequence[str], size: int | None) -> list[StagedModel]:
        """Load networks, and let them see images of this size."""
        from neurometamer.zoo import load_models

        if missing := [one for one in dict.fromkeys(names) if one not in self.known]:
            given = {name: self.weights[name] for name in missing if name in self.weights}
            loaded = load_models(missing, given, device=self.device, seed=self.seed)
            self.known |= {one.name: one for one in loaded}
        found = [self.known[one] for one in names]
        return found if size is None else at_one_size(found, size)


class _Source:
    """A folder of metamers with the photographs that they were made of."""

    def __init__(self, text: str, images: Files) -> None:
        from neurometamer.evaluation.sources import read_metamers

        self.name, self.stage, self.folder = read_source(text)
        self.references, self.metamers = read_metamers(self.folder, images)

    @property
    def networks(self) -> list[str]:
        """Names of the networks that took part."""
        return [str(one["name"]) for one in self.metamers.provenance.get("models", [])]

    def joined(self, nulls: Files, load: _Loader, batch_size: int) -> MetamerSet:
        """Join metamers and photographs; judge them by null distributions where there are any."""
        from neurometamer.evaluation.sets import metamer_set

        return metamer_set(
            self.references,
            self.metamers,
            name=self.name,
            stage=self.stage,
            folder=self.folder,
            validity=self._judged(nulls, load, batch_size) if nulls else None,
        )

    def _judged(self, nulls: Files, load: _Loader, batch_size: int) -> pd.DataFrame:
        """Judge each metamer by the networks of the set, at the stages that were matched."""
        from stimuli_gen.criteria import judged_at
        from stimuli_gen.matching import match_stages
        from stimuli_gen.nulls import read_null
        from stimuli_gen.validity import judge

        stages = self.metamers.provenance.get("settings", {}).get("stages")
        if not stages:
            raise InputError(
                f"{self.folder} does not tell which stages were matched; leave nulls (--nulls) out."
            )
        networks = load.at(list(stages), int(self.metamers.images.shape[2]))
        places = judged_at(networks, match_stages(networks, stages))
        given = [read_null(one) for one in nulls]
        own = [
            null for null in given if any(null.stage_of(model, stage) for model, stage in places)
        ]
        return judge(
            places,
            self.references,
            self.metamers,
            nulls=own,
            folder=self.folder,
            batch_size=batch_size,
        )


def _generators(
    sets: Sequence[MetamerSet], evaluators: Sequence[str], load: _Loader, target: str
) -> list[StagedModel]:
    """Load the networks that took part and do not judge, where their classes are the target."""
    if target != "generator":
        return []
    names = dict.fromkeys(name for one in sets for name in one.members)
    return load.at([one for one in names if one not in set(evaluators)], None)


# --------------------------------------------------------------------------------------- model sets


@checked
def plan_model_sets(
    networks: Sequence[str],
    out: str | os.PathLike[str],
    *,
    n_sets: int = 100,
    sizes: tuple[int, int] = (2, 10),
    stage: str = "middle",
    preset: str = "boehm2025",
    seed: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Draw random sets of networks and write a job for each.

    Parameters
    ----------
    networks : sequence of str
        Names of networks to choose from.
    out : path-like
        Folder of the jobs.
    n_sets : int
        How many sets.
    sizes : tuple of int
        Smallest and largest size.
    stage, preset : str
        See `stimuli_gen.model_metamers`.
    seed : int
        Of the draw and of the metamers.
    **options : object
        Overrides of the recipe.

    Returns
    -------
    pandas.DataFrame
        One row a job: set, members, size, state, reason.

    Raises
    ------
    InputError
        When a network is unknown, sizes do not fit, or the folder holds other jobs.
    """
    from neurometamer.evaluation.model_sets import plan_sets, random_sets
    from neurometamer.zoo import model_entry

    for one in networks:
        model_entry(one)
    sets = random_sets(networks, n_sets=n_sets, sizes=sizes, seed=seed)
    return plan_sets(out, sets, stage=stage, preset=preset, seed=seed, **options)


@checked
def make_model_sets(
    folder: str | os.PathLike[str],
    images: Files,
    *,
    weights: WeightsAsked = "default",
    image_size: int | None = None,
    nulls: Files = (),
    share: tuple[int, int] = (1, 1),
    device: str = "auto",
    batch_size: int = 8,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """Make the metamers of planned sets of networks; the same call goes on where it was stopped.

    Parameters
    ----------
    folder : path-like
        From `plan_model_sets`.
    images : sequence of path-like
        Photographs, see `stimuli_gen.read_images`.
    weights : str or mapping of str to str
        See `neurometamer.zoo.load_models`.
    image_size : int, optional
        Pixels that every network sees; needed where theirs differ.
    nulls : sequence of path-like
        Files of `make_null`.
    share : tuple of int
        (i, n): do every n-th job from the i-th on.
    device : str
        See `neurometamer.zoo.load_model`.
    batch_size : int
        Images at once.
    progress : callable, optional
        Hears (jobs done, jobs).

    Returns
    -------
    pandas.DataFrame
        See `plan_model_sets`; a job that cannot be done is ``failed``, with its reason.

    Raises
    ------
    InputError
        When there are no jobs, or photographs or weights cannot be used.
    """
    from neurometamer.evaluation.model_sets import JOINT, job_states, run_sets
    from stimuli_gen.nulls import read_null
    from stimuli_gen.photographs import read_images

    jobs = job_states(folder)
    names = list(dict.fromkeys(name for one in jobs["members"] for name in str(one).split(JOINT)))
    load = _Loader(names, weights, device, 0)
    (first,) = load.at(names[:1], image_size)
    photographs = read_images(list(images), first.preprocessing).select(kind="RE")
    return run_sets(
        folder,
        photographs,
        load=lambda name: load.at([name], image_size)[0],
        nulls=[read_null(one) for one in nulls],
        share=share,
        batch_size=batch_size,
        progress=progress,
    )


@checked
def finished_sets(folder: str | os.PathLike[str]) -> list[str]:
    """List the finished jobs of a folder as sources of `evaluate_metamers`.

    Parameters
    ----------
    folder : path-like
        From `plan_model_sets`.

    Returns
    -------
    list of str
        ``SET=FOLDER`` each.

    Raises
    ------
    InputError
        When there are no jobs, or none is done.
    """
    from neurometamer.evaluation.model_sets import job_states

    jobs = job_states(folder)
    done = jobs.loc[jobs["state"] == "done", "set"].tolist()
    if not done:
        raise InputError(
            f"{folder}: none of {len(jobs)} sets is made yet; run: neurometamer evaluate run-sets "
            f"{folder}"
        )
    return [f"{one}={Path(folder) / one}" for one in done]
