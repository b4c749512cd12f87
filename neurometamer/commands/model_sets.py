"""The Python twins of ``neurometamer evaluate plan-sets``, ``run-sets`` and ``sets``."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.arguments import checked
from neurometamer.commands.metamers import at_one_size
from neurometamer.errors import InputError
from neurometamer.run_options import RunOptions

if TYPE_CHECKING:
    import pandas as pd

    from stimuli_gen.models import StagedModel

Files = Sequence[str | os.PathLike[str]]
Progress = Callable[[int, int], None]
WeightsAsked = str | Mapping[str, str]


class NetworkLoader:
    """Loads networks by name, each once.

    Parameters
    ----------
    names : sequence of str
        Networks that may be loaded.
    weights : str or mapping of str to str
        See `neurometamer.zoo.load_models`.
    device : str
        See `neurometamer.zoo.load_model`.
    seed : int
        Seed of random weights.
    """

    def __init__(self, names: Sequence[str], weights: WeightsAsked, device: str, seed: int) -> None:
        from neurometamer.zoo import GREY, MODELS, weights_by_name

        self.device, self.seed = device, seed
        known = [name for name in dict.fromkeys(names) if name.removesuffix(GREY) in MODELS]
        self.weights = weights_by_name(known, weights)
        self.known: dict[str, StagedModel] = {}

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
        from neurometamer.zoo import load_models

        if missing := [name for name in dict.fromkeys(names) if name not in self.known]:
            given = {name: self.weights[name] for name in missing if name in self.weights}
            loaded = load_models(missing, given, device=self.device, seed=self.seed)
            self.known |= {network.name: network for network in loaded}
        networks = [self.known[name] for name in names]
        return networks if size is None else at_one_size(networks, size)


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
        Seed of the draw and of the metamers.
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

    Examples
    --------
    >>> import tempfile
    >>> from neurometamer import plan_model_sets
    >>> networks = ["alexnet", "efficientnet_lite0", "efficientnet_lite1"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = plan_model_sets(networks, folder + "/jobs", n_sets=2, sizes=(2, 2))
    >>> table[["size", "state"]].values.tolist()
    [[2, 'to do'], [2, 'to do']]
    """
    from neurometamer.evaluation.model_sets import plan_sets, random_sets
    from neurometamer.zoo import model_entry

    for name in networks:
        model_entry(name)
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
        Called with (jobs done, jobs).

    Returns
    -------
    pandas.DataFrame
        See `plan_model_sets`; a job that cannot be done is ``failed``, with its reason.

    Raises
    ------
    InputError
        When there are no jobs, or photographs or weights cannot be used.

    Examples
    --------
    >>> import tempfile
    >>> from neurometamer import InputError, make_model_sets
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     try:
    ...         make_model_sets(folder, ["photos"])
    ...     except InputError as error:
    ...         print(str(error).replace(folder, "FOLDER"))
    FOLDER/jobs.csv does not exist.
    """
    from neurometamer.evaluation.model_sets import JOINT, job_states, run_sets
    from stimuli_gen.nulls import read_null
    from stimuli_gen.photographs import read_images

    jobs = job_states(folder)
    names = list(
        dict.fromkeys(name for members in jobs["members"] for name in str(members).split(JOINT))
    )
    load = NetworkLoader(names, weights, device, 0)
    (first,) = load.at(names[:1], image_size)
    photographs = read_images(list(images), first.preprocessing).select(kind="RE")
    return run_sets(
        folder,
        photographs,
        load=lambda name: load.at([name], image_size)[0],
        nulls=[read_null(file) for file in nulls],
        share=share,
        run=RunOptions(batch_size=batch_size, progress=progress),
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

    Examples
    --------
    >>> import tempfile
    >>> from neurometamer import InputError, finished_sets, plan_model_sets
    >>> networks = ["alexnet", "efficientnet_lite0", "efficientnet_lite1"]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = plan_model_sets(networks, folder + "/jobs", n_sets=2, sizes=(2, 2))
    ...     try:
    ...         finished_sets(folder + "/jobs")
    ...     except InputError as error:
    ...         print("none of 2 sets is made yet" in str(error))
    True
    """
    from neurometamer.evaluation.model_sets import job_states

    jobs = job_states(folder)
    done = jobs.loc[jobs["state"] == "done", "set"].tolist()
    if not done:
        raise InputError(
            f"{folder}: none of {len(jobs)} sets is made yet; run: neurometamer evaluate run-sets "
            f"{folder}"
        )
    return [f"{name}={Path(folder) / name}" for name in done]
