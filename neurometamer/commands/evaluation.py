"""The commands of ``neurometamer evaluate``: folders of metamers in, a page out."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.metamers import at_one_size
from neurometamer.commands.set_evaluation import EvaluationSettings, evaluate_metamer_sets
from neurometamer.errors import InputError, name_ids
from neurometamer.evaluation.model_sets import (
    JOINT,
    check_difference_table,
    job_states,
    plan_sets,
    random_sets,
    run_sets,
)
from neurometamer.evaluation.sets import MetamerSet, metamer_set, read_metamers
from neurometamer.reading import Files
from neurometamer.run_options import RunOptions
from neurometamer.store import read_table, write_table
from neurometamer.zoo import expand_sets, load_models, model_entry, weights_by_name
from neurometamer.zoo.sources import is_model
from stimuli_gen.nulls import read_null
from stimuli_gen.photographs import check_images, read_images

if TYPE_CHECKING:
    import pandas as pd

    from stimuli_gen.models import StagedModel


class NetworkLoader:
    """Loads networks by name, each once.

    Parameters
    ----------
    names : sequence of str
        Networks that may be loaded.
    weights : str or mapping of str to str
        ``"default"`` (ImageNet), ``"random"`` (untrained), a file (one network), or NAME=VALUE for
        networks of a set, between commas; the others get ``"default"``.
    device : str
        See `neurometamer.zoo.load_model`.
    seed : int
        Seed of random weights.
    """

    def __init__(
        self, names: Sequence[str], weights: str | Mapping[str, str], device: str, seed: int
    ) -> None:
        self.device = device
        self.seed = seed
        self.known: dict[str, StagedModel] = {}
        in_zoo = [name for name in names if is_model(name)]
        self.weights = weights_by_name(list(dict.fromkeys(in_zoo)), weights)

    def at(self, names: Sequence[str], size: int | None) -> list[StagedModel]:
        """Load networks, and let them see images of one size.

        Parameters
        ----------
        names : sequence of str
            Networks.
        size : int, optional
            Height and width in pixels; by default each network's own.

        Returns
        -------
        list of StagedModel
            The networks, in the order of the names.
        """
        missing = [name for name in dict.fromkeys(names) if name not in self.known]
        if missing:
            given = {name: self.weights[name] for name in missing if name in self.weights}
            loaded = load_models(missing, given, device=self.device, seed=self.seed)
            for name, network in zip(missing, loaded, strict=True):
                self.known[name] = self.known[network.name] = network
        networks = [self.known[name] for name in names]
        if size is None:
            return networks
        return at_one_size(networks, size)


@checked
def evaluate_plan_sets(
    networks: Sequence[str],
    out: str | os.PathLike[str],
    *,
    n_sets: int = 100,
    sizes: tuple[int, int] = (2, 10),
    stage: str = "middle",
    preset: str = "boehm2025",
    seed: int = 0,
    **options: Annotated[
        Any, KeywordsOf("stimuli_gen.presets:Recipe", without=("penalties", "open_choices"))
    ],
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
    stage : str
        Stage at which metamers are matched: early, middle, late, or a fraction of depth.
    preset : str
        Whose numbers are taken, one of `stimuli_gen.presets.PRESETS`.
    seed : int
        Seed of the draw and of the metamers.
    **options : object
        Other numbers of the preset, by their names in `stimuli_gen.Recipe`.

    Returns
    -------
    pandas.DataFrame
        One row a job: set, members, size, state, reason.

    Raises
    ------
    InputError
        When a network is unknown, sizes do not fit, or the folder holds other jobs.

    Examples
    --------
    >>> import tempfile
    >>> from neurometamer.commands import evaluate_plan_sets
    >>> networks = ["alexnet", "efficientnet_lite0", "efficientnet_lite1"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = evaluate_plan_sets(networks, folder + "/jobs", n_sets=2, sizes=(2, 2))
    >>> table[["size", "state"]].values.tolist()
    [[2, 'to do'], [2, 'to do']]
    """
    networks = expand_sets(networks)
    for name in networks:
        model_entry(name)
    sets = random_sets(networks, n_sets=n_sets, sizes=sizes, seed=seed)
    return plan_sets(out, sets, stage=stage, preset=preset, seed=seed, **options)


@checked
def evaluate_run_sets(
    folder: str | os.PathLike[str],
    images: Files,
    *,
    weights: str | Mapping[str, str] = "default",
    image_size: int | None = None,
    nulls: Files = (),
    share: tuple[int, int] = (1, 1),
    run: RunOptions | None = None,
) -> pd.DataFrame:
    """Make the metamers of planned sets of networks; the same call goes on where it was stopped.

    Parameters
    ----------
    folder : path-like
        Folder of ``neurometamer evaluate plan-sets``.
    images : sequence of path-like
        Photographs, see `stimuli_gen.read_images`.
    weights : str or mapping of str to str
        ``"default"`` (ImageNet), ``"random"`` (untrained), a file (one network), or NAME=VALUE for
        networks of a set, between commas; the others get ``"default"``.
    image_size : int, optional
        Pixels that every network sees; needed where theirs differ.
    nulls : sequence of path-like
        Files of ``neurometamer stimuli null``.
    share : tuple of int
        (i, n): do every n-th job from the i-th on.
    run : RunOptions, optional
        Device, number of images at a time and callback for progress.

    Returns
    -------
    pandas.DataFrame
        One row a job: set, members, size, state, reason; a job that cannot be done is ``failed``.

    Raises
    ------
    InputError
        When there are no jobs, or photographs or weights cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> from neurometamer import InputError
    >>> from neurometamer.commands import evaluate_run_sets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         evaluate_run_sets(folder, ["photos"])
    ...     except InputError as error:
    ...         print(str(error).replace(folder, "FOLDER"))
    FOLDER/jobs.csv does not exist; correct its name.
    """
    run = run or RunOptions()
    jobs = job_states(folder)
    members = []
    for joined in jobs["members"]:
        members += str(joined).split(JOINT)
    names = list(dict.fromkeys(members))
    load = NetworkLoader(names, weights, run.device, 0)
    check_images(images)
    given = [read_null(file) for file in nulls]
    (first,) = load.at(names[:1], image_size)
    photographs = read_images(list(images), first.preprocessing).select(kind="RE")
    return run_sets(
        folder,
        photographs,
        load=lambda name: load.at([name], image_size)[0],
        nulls=given,
        share=share,
        run=run,
    )


@checked
def finished_sets(folder: str | os.PathLike[str]) -> list[str]:
    """List the finished jobs of a folder as sources of `evaluate_metamers`.

    Parameters
    ----------
    folder : path-like
        From `evaluate_plan_sets`.

    Returns
    -------
    list of str
        ``SET=FOLDER`` each.

    Raises
    ------
    InputError
        When there are no jobs, or none is done.

    Examples
    --------
    >>> import tempfile
    >>> from neurometamer import InputError
    >>> from neurometamer.commands import finished_sets, evaluate_plan_sets
    >>> networks = ["alexnet", "efficientnet_lite0", "efficientnet_lite1"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = evaluate_plan_sets(networks, folder + "/jobs", n_sets=2, sizes=(2, 2))
    ...     try:
    ...         finished_sets(folder + "/jobs")
    ...     except InputError as error:
    ...         print("none of 2 sets is made yet" in str(error))
    True
    """
    jobs = job_states(folder)
    done = jobs.loc[jobs["state"] == "done", "set"].tolist()
    if not done:
        raise InputError(
            f"{folder}: none of {len(jobs)} sets is made yet; run: neurometamer evaluate run-sets "
            f"{folder}"
        )
    return [f"{name}={Path(folder) / name}" for name in done]


@checked
def evaluate_check_table(
    table: str | os.PathLike[str],
    out: str | os.PathLike[str] | None = None,
    **options: Annotated[
        Any,
        KeywordsOf(
            "neurometamer.evaluation.model_sets:check_difference_table",
            ("n_sets", "sd", "sizes"),
        ),
    ],
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Check a printed table of differences in means: which exceed what chance gives.

    Parameters
    ----------
    table : path-like
        CSV with network, appearances and difference, as printed.
    out : path-like, optional
        CSV for the rows with standard errors.
    **options : object
        Options of `neurometamer.evaluation.check_difference_table`.

    Returns
    -------
    rows : pandas.DataFrame
        What was written.
    totals : dict
        Numbers of the whole table.

    Raises
    ------
    InputError
        When a column is missing, or a network appears in no set or in all.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> import pandas as pd
    >>> printed = pd.DataFrame(
    ...     {"network": ["alexnet", "vgg"], "appearances": [20, 30], "difference": [0.01, 0.1]}
    ... )
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     printed.to_csv(Path(folder) / "printed.csv", index=False)
    ...     rows, totals = evaluate_check_table(Path(folder) / "printed.csv")
    >>> rows["exceeds"].tolist()
    [False, True]
    """
    printed = read_table(table, text=["network"])
    rows, totals = check_difference_table(printed, **options)
    if out is not None:
        write_table(out, rows)
    return rows, totals


def read_source(text: str) -> tuple[str, str, Path]:
    """Read how a folder of metamers is named on the command line.

    Parameters
    ----------
    text : str
        ``FOLDER``, ``SET=FOLDER`` or ``SET@STAGE=FOLDER``.

    Returns
    -------
    tuple of str, str and Path
        Name of the set and of the stage, empty where the folder holds them; and the folder.

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
    name, stage = name.strip(), stage.strip()
    is_named = bool(stage) if at else bool(name)
    if not (is_named and folder):
        raise InputError(f"metamers are FOLDER, SET=FOLDER or SET@STAGE=FOLDER, not '{text}'.")
    return name, stage, Path(folder)


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
        ``"default"`` (ImageNet), ``"random"`` (untrained), a file (one network), or NAME=VALUE for
        networks of a set, between commas; the others get ``"default"``.
    nulls : sequence of path-like
        Files of ``neurometamer stimuli null``: metamers are judged by them again. Otherwise their
        folders say which are valid. Metamers of networks without ImageNet's classes are judged by
        the networks' own first class, those of embeddings are not judged.
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
        Device, number of images at a time and callback for progress.

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
    >>> from neurometamer import InputError
    >>> from neurometamer.commands import evaluate_metamers
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
        table = read_table(truth, ["id", "truth"], text=["truth"])
        is_missing = table["truth"].isna()
        if is_missing.any():
            lacking = name_ids(table["id"][is_missing])
            raise InputError(f"{truth} has no truth for {lacking}; fill the column truth.")
        classes: dict[str, int | str] = {}
        for name, label in zip(table["id"], table["truth"], strict=True):
            classes[name] = int(label) if str(label).isdigit() else str(label)
        settings = replace(settings, truth=classes)
    factors = None
    if network_table is not None:
        columns = ["network", *settings.factors]
        factors = read_table(network_table, columns, text=["network"])
    sources = [_Source(str(source), images) for source in metamers]
    evaluators = expand_sets(evaluators)
    names = list(evaluators)
    for source in sources:
        names += source.networks
    load = NetworkLoader(names, weights, run.device, settings.seed)
    loaded = load.at(list(evaluators), image_size)
    sets = [source.joined(nulls, load, run.batch_size) for source in sources]
    generators = []
    if settings.target == "generator":
        members = dict.fromkeys(name for metamers in sets for name in metamers.members)
        others = [name for name in members if name not in set(evaluators)]
        generators = load.at(others, None)
    return evaluate_metamer_sets(
        sets,
        loaded,
        out,
        settings,
        networks=factors,
        generators=generators,
        run=run,
    )


@checked
def evaluate_sets(
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
            "neurometamer.commands.set_evaluation:EvaluationSettings",
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
        Device, number of images at a time and callback for progress.
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
    ...     evaluate_sets("nowhere", ["alexnet"], ["photos"], "evaluation")
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


class _Source:
    """A folder of metamers with the photographs that they were made of."""

    def __init__(self, text: str, images: Files) -> None:
        self.name, self.stage, self.folder = read_source(text)
        self.references, self.metamers = read_metamers(self.folder, images)
        provenance = self.metamers.provenance
        models = provenance.get("models", [])
        self.networks = [str(network["name"]) for network in models]

    def joined(self, nulls: Files, load: NetworkLoader, batch_size: int | None) -> MetamerSet:
        """Join metamers and photographs.

        With null distributions, each metamer is judged by the networks of the set, at the stages
        that were matched.
        """
        validity = None
        if nulls:
            from stimuli_gen.criteria import judge, judged_at
            from stimuli_gen.matching import match_stages

            stages = self.metamers.provenance.get("settings", {}).get("stages")
            if not stages:
                raise InputError(
                    f"{self.folder} does not say which stages were matched; leave nulls (--nulls) "
                    "out."
                )
            networks = load.at(list(stages), int(self.metamers.images.shape[2]))
            places = judged_at(networks, match_stages(networks, stages))
            own = []
            for null in map(read_null, nulls):
                if any(null.stage_of(model, stage) for model, stage in places):
                    own.append(null)
            validity = judge(
                places,
                self.references,
                self.metamers,
                nulls=own,
                folder=self.folder,
                batch_size=batch_size,
            )
        return metamer_set(
            self.references,
            self.metamers,
            name=self.name,
            stage=self.stage,
            folder=self.folder,
            validity=validity,
        )
