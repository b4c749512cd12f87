"""The Python twin of ``neurometamer evaluate metamers``: folders of metamers in, a page out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.evaluate_sets import EvaluationSettings, evaluate_sets
from neurometamer.commands.model_sets import NetworkLoader, finished_sets
from neurometamer.errors import InputError, name_ids
from neurometamer.evaluation.sets import MetamerSet, metamer_set
from neurometamer.evaluation.sources import read_metamers
from neurometamer.run_options import RunOptions
from neurometamer.store import read_table

if TYPE_CHECKING:
    import pandas as pd

Files = Sequence[str | os.PathLike[str]]


def read_source(text: str) -> tuple[str, str, Path]:
    """Read how a folder of metamers is named on the command line.

    Parameters
    ----------
    text : str
        ``FOLDER``, ``SET=FOLDER`` or ``SET@STAGE=FOLDER``.

    Returns
    -------
    tuple of str, str and Path
        Name of the set and of the stage, empty where the folder tells them; and the folder.

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
    weights: str | Mapping[str, str] = "default",
    nulls: Files = (),
    network_table: str | os.PathLike[str] | None = None,
    truth: str | os.PathLike[str] | None = None,
    image_size: int | None = None,
    settings: EvaluationSettings | None = None,
    run: RunOptions | None = None,
) -> Path:
    """Evaluate metamers on disk.

    The page says who recognizes them, how they look, and what they do to representations.

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
        Files of `make_null`: metamers are judged by them again. Otherwise their folders say which
        are valid.
    network_table : path-like, optional
        CSV with the column network and one for each of the two factors, for the part ``observers``.
    truth : path-like, optional
        CSV with the columns id and truth (ImageNet class, 0 to 999, or category), for the target
        ``truth``.
    image_size : int, optional
        Pixels that every evaluator sees; by default each its own.
    settings : EvaluationSettings, optional
        What to evaluate; the default when not given.
    run : RunOptions, optional
        Device, number of images at a time, and who is told about progress.

    Returns
    -------
    Path
        The page. The same call goes on where it was stopped.

    Raises
    ------
    InputError
        When input cannot be used; the message names folders and ids.

    Examples
    --------
    >>> from neurometamer import InputError, evaluate_metamers
    >>> try:
    ...     evaluate_metamers([], ["alexnet", "efficientnet_lite0"], "evaluation")
    ... except InputError as error:
    ...     print(error)
    no metamers given; use --metamers FOLDER for each set of networks and stage.
    """
    run = run or RunOptions()
    settings = settings or EvaluationSettings()
    if not metamers:
        raise InputError(
            "no metamers given; use --metamers FOLDER for each set of networks and stage."
        )
    if truth is not None:
        settings = replace(settings, truth=_read_truth(truth))
    factors = None
    if network_table is not None:
        columns = ["network", *settings.factors]
        factors = read_table(network_table, columns, text=["network"])
    sources = [_Source(str(source), images) for source in metamers]
    names = list(evaluators)
    for source in sources:
        names += source.networks
    load = NetworkLoader(names, weights, run.device, settings.seed)
    judges = load.at(list(evaluators), image_size)
    sets = [source.joined(nulls, load, run.batch_size) for source in sources]
    generators = []
    if settings.target == "generator":
        members = dict.fromkeys(name for metamers in sets for name in metamers.members)
        others = [name for name in members if name not in set(evaluators)]
        generators = load.at(others, None)
    return evaluate_sets(
        sets,
        judges,
        out,
        settings,
        networks=factors,
        generators=generators,
        run=run,
    )


@checked
def evaluate_model_sets(
    folder: str | os.PathLike[str],
    evaluators: Sequence[str],
    images: Files,
    out: str | os.PathLike[str],
    *,
    weights: str | Mapping[str, str] = "default",
    nulls: Files = (),
    image_size: int | None = None,
    run: RunOptions | None = None,
    **settings: Annotated[
        Any,
        KeywordsOf(
            "neurometamer.commands.evaluate_sets:EvaluationSettings",
            ("held_out", "target", "ways", "n_resamples", "confidence", "seed"),
        ),
    ],
) -> Path:
    """Say which networks make a set's metamers recognizable.

    The tables are signed differences in means, and a regression.

    Parameters
    ----------
    folder : path-like
        Folder of ``neurometamer evaluate run-sets``.
    evaluators : sequence of str
        Names of networks, at least 2. Those of `held_out` score all sets; beside it each set is
        scored by all evaluators but its own networks, as in Boehm et al. (2025).
    images : sequence of path-like
        Photographs.
    out : path-like
        Folder for tables, figures and report.html.
    weights : str or mapping of str to str
        ``"default"`` (ImageNet), ``"random"`` (untrained), a file (one network), or NAME=VALUE for
        networks of a set, between commas; the others get ``"default"``.
    nulls : sequence of path-like
        Files of ``neurometamer stimuli null``: metamers are judged by them.
    image_size : int, optional
        Pixels that every network sees; by default each its own.
    run : RunOptions, optional
        Device, number of images at a time, and who is told about progress.
    **settings : object
        Fields of `EvaluationSettings`.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    InputError
        When the folder has no finished sets, or the input cannot be used.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> try:
    ...     evaluate_model_sets("nowhere", ["alexnet"], ["photos"], "evaluation")
    ... except InputError as error:
    ...     print("does not exist" in str(error))
    True
    """
    return evaluate_metamers(
        finished_sets(folder),
        evaluators,
        out,
        images=images,
        weights=weights,
        nulls=nulls,
        image_size=image_size,
        settings=EvaluationSettings(parts=("recognizability", "sets"), **settings),
        run=run,
    )


def _read_truth(file: str | os.PathLike[str]) -> dict[str, int | str]:
    """Read the class of each photograph: a number of ImageNet, or a category."""
    table = read_table(file, ["id", "truth"], text=["truth"])
    if bad := table.loc[table["truth"].isna(), "id"].tolist():
        raise InputError(f"{file} has no truth for {name_ids(bad)}; fill the column truth.")
    classes: dict[str, int | str] = {}
    for name, label in zip(table["id"], table["truth"], strict=True):
        classes[name] = int(label) if str(label).isdigit() else str(label)
    return classes


class _Source:
    """A folder of metamers with the photographs that they were made of."""

    def __init__(self, text: str, images: Files) -> None:
        self.name, self.stage, self.folder = read_source(text)
        self.references, self.metamers = read_metamers(self.folder, images)

    @property
    def networks(self) -> list[str]:
        """Names of the networks that took part."""
        return [str(network["name"]) for network in self.metamers.provenance.get("models", [])]

    def joined(self, nulls: Files, load: NetworkLoader, batch_size: int) -> MetamerSet:
        """Join metamers and photographs; judge them by null distributions where there are any."""
        return metamer_set(
            self.references,
            self.metamers,
            name=self.name,
            stage=self.stage,
            folder=self.folder,
            validity=self._judged(nulls, load, batch_size) if nulls else None,
        )

    def _judged(self, nulls: Files, load: NetworkLoader, batch_size: int) -> pd.DataFrame:
        """Judge each metamer by the networks of the set, at the stages that were matched."""
        from stimuli_gen.criteria import judge, judged_at
        from stimuli_gen.matching import match_stages
        from stimuli_gen.nulls import read_null

        stages = self.metamers.provenance.get("settings", {}).get("stages")
        if not stages:
            raise InputError(
                f"{self.folder} does not tell which stages were matched; leave nulls (--nulls) out."
            )
        networks = load.at(list(stages), int(self.metamers.images.shape[2]))
        places = judged_at(networks, match_stages(networks, stages))
        given = [read_null(file) for file in nulls]
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
