"""The Python twin of ``neurometamer evaluate metamers``: folders of metamers in, a page out."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from neurometamer.arguments import checked
from neurometamer.commands.model_sets import NetworkLoader
from neurometamer.errors import InputError, name_ids
from neurometamer.store import read_table

if TYPE_CHECKING:
    import pandas as pd

    from neurometamer.commands.evaluate_sets import EvaluationSettings
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
        Called with (pieces done, pieces).

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
    from neurometamer.commands.evaluate_sets import EvaluationSettings, evaluate_sets

    settings = settings or EvaluationSettings()
    if not metamers:
        raise InputError(
            "no metamers given; use --metamers FOLDER for each set of networks and stage."
        )
    if truth is not None:
        table = read_table(truth, ["id", "truth"], text=["truth"])
        if bad := table.loc[table["truth"].isna(), "id"].tolist():
            raise InputError(f"{truth} has no truth for {name_ids(bad)}.")
        classes = {
            name: int(label) if str(label).isdigit() else str(label)
            for name, label in zip(table["id"], table["truth"])
        }
        settings = replace(settings, truth=classes)
    factors = (
        None
        if networks is None
        else read_table(networks, ["network", *settings.factors], text=["network"])
    )
    sources = [_Source(str(source), images) for source in metamers]
    load = NetworkLoader(
        [*evaluators, *(name for source in sources for name in source.networks)],
        weights,
        device,
        settings.seed,
    )
    judges = load.at(list(evaluators), image_size)
    sets = [source.joined(nulls, load, batch_size) for source in sources]
    return evaluate_sets(
        sets,
        judges,
        out,
        settings,
        networks=factors,
        generators=_generators(sets, evaluators, load, settings.target),
        batch_size=batch_size,
        progress=progress,
    )


class _Source:
    """A folder of metamers with the photographs that they were made of."""

    def __init__(self, text: str, images: Files) -> None:
        from neurometamer.evaluation.sets import read_metamers

        self.name, self.stage, self.folder = read_source(text)
        self.references, self.metamers = read_metamers(self.folder, images)

    @property
    def networks(self) -> list[str]:
        """Names of the networks that took part."""
        return [str(network["name"]) for network in self.metamers.provenance.get("models", [])]

    def joined(self, nulls: Files, load: NetworkLoader, batch_size: int) -> MetamerSet:
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


def _generators(
    sets: Sequence[MetamerSet], evaluators: Sequence[str], load: NetworkLoader, target: str
) -> list[StagedModel]:
    """Load the networks that took part and do not judge, where their classes are the target."""
    if target != "generator":
        return []
    names = dict.fromkeys(name for metamers in sets for name in metamers.members)
    return load.at([name for name in names if name not in set(evaluators)], None)
