"""The commands ``neurometamer stimuli controversial``, ``divergent`` and ``eigendistortion``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.metamers import StageAsked, at_one_size, read_stages
from neurometamer.commands.options import StimulusFileOptions, check_before_loading
from neurometamer.commands.stimuli import (
    forget,
    keeping,
    read_photographs,
    refuse_other_stimuli,
    write_films,
)
from neurometamer.errors import InputError, name_ids
from neurometamer.provenance import digest
from neurometamer.reading import Files
from neurometamer.resume import writes_into
from neurometamer.run_options import RunOptions
from neurometamer.store import write_table
from neurometamer.zoo import Weights, expand_sets, load_models
from stimuli_gen.nulls import read_null
from stimuli_gen.photographs import check_images
from stimuli_gen.stimuli import StimulusSet, write_pictures, write_records

if TYPE_CHECKING:
    import pandas as pd

    from stimuli_gen.models import StagedModel


@writes_into("out")
@checked
def stimuli_controversial(
    models: str | Sequence[str],
    *,
    images: str | Path,
    out: str | Path,
    probability: float = 0.75,
    stage: StageAsked | None = None,
    bank: str | Path | None = None,
    weights: Weights | Mapping[str, Weights] = "default",
    image_size: int | None = None,
    seed: int = 0,
    files: StimulusFileOptions | None = None,
    run: RunOptions | None = None,
    **options: Annotated[
        Any,
        KeywordsOf(
            "stimuli_gen.controversial:controversial_images",
            ("target_a", "target_b", "readout", "sharpness"),
        ),
        KeywordsOf(
            "stimuli_gen.controversial_stages:controversial_representations", ("max_agreement",)
        ),
        KeywordsOf("stimuli_gen.pairs:Search"),
    ],
) -> pd.DataFrame:
    """Make images on which two networks disagree, and write them.

    They are sure of two classes, or, with a stage, represent the image most differently. The
    written PNG files are judged.

    Parameters
    ----------
    models : sequence of str
        Two networks, A and B, in words or between commas; see ``neurometamer models list``.
    images : path-like
        Folder of photographs, or CSV with the column ``file``; an image is made for each.
    out : path-like
        Gets ``png/<id>.png``, ``stimuli.h5``, ``stimuli.csv`` and ``failures.csv`` (which
        images failed, why, and what to try).
    probability : float
        Stop when both networks give their class this probability on the 8-bit image, in (0, 1).
    stage : str, sequence of str or mapping, optional
        Stage of both networks, a fraction of depth, or ``"NAME=STAGE"`` for each, at which their
        representations are to differ; without one, their classes are.
    bank : path-like, optional
        With `stage`: photographs with which each image is compared; by default `images`.
    weights : str, path or mapping
        ``"default"`` or ``"random"`` for both, or ``NAME=VALUE`` between commas (or a mapping). See
        `neurometamer.zoo.weights_by_name`.
    image_size : int, optional
        Height and width in pixels that both networks see; needed where they were made for different
        sizes.
    seed : int
        Seed of all random numbers.
    files : StimulusFileOptions, optional
        How photographs are read, and what is written.
    run : RunOptions, optional
        Device, number of images at a time, mode, and who is told about progress.
    **options : object
        Further settings of `stimuli_gen.controversial_images` or, with `stage`, of
        `stimuli_gen.controversial_representations`, and fields of `stimuli_gen.Search`.

    Returns
    -------
    pandas.DataFrame
        The table that was written, one row an image.

    Raises
    ------
    InputError
        When the input cannot be used, or the folder holds images made otherwise.

    Notes
    -----
    Finished images are kept in ``<out>/.finished``: the same call goes on where it was interrupted.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> from neurometamer.commands import stimuli_controversial
    >>> try:
    ...     stimuli_controversial(["alexnet", "alexnett"], images="photos", out="images")
    ... except InputError as error:
    ...     print(str(error).partition("?")[0])
    unknown model 'alexnett'; did you mean 'alexnet'
    """
    from stimuli_gen.controversial import confirm_controversial, controversial_images
    from stimuli_gen.controversial_stages import (
        confirm_representations,
        controversial_representations,
    )
    from stimuli_gen.matching import match_stages

    files = files or StimulusFileOptions()
    models = two_names(models)
    names = ("target_a", "target_b", "readout", "sharpness")
    of_classes = {name: options.get(name) for name in names}
    of_stages = {"max_agreement": options.get("max_agreement"), "bank": bank}
    useless = of_stages if stage is None else of_classes
    given = [name for name, value in useless.items() if value is not None]
    if given:
        what = "there is no stage" if stage is None else "there is a stage"
        raise InputError(f"{what}, so {name_ids(given)} has no effect; leave that out.")
    if bank is not None:
        check_images([bank], bits=files.bits, icc=files.icc)
    networks, photographs = _load(models, weights, images, image_size, seed, files, run)
    settings = {**options, "seed": seed, "mode": (run or RunOptions()).mode}
    if stage is None:
        settings |= {"disagreement": "classes", "confidence": probability}
        make: Callable[..., StimulusSet] = partial(
            controversial_images,
            networks,
            photographs,
            confidence=probability,
        )
        confirm: Callable[..., StimulusSet] = partial(confirm_controversial, networks)
    else:
        others = photographs
        if bank is not None:
            others = read_photographs(bank, networks[0].preprocessing, files)
        stages: Any = stage if isinstance(stage, (int, float, Mapping)) else read_stages(stage)
        settings |= {"disagreement": "representations", "bank": others.digest}
        settings["stages"] = {
            match.model.name: match.stage for match in match_stages(networks, stages)
        }
        make = partial(
            controversial_representations, networks, photographs, stage=stages, bank=others
        )

        def _confirm(made: StimulusSet, folder: Path) -> StimulusSet:
            return confirm_representations(networks, made, photographs, folder, bank=others)

        confirm = _confirm

    return _write(
        partial(make, **options), confirm, networks, photographs, settings, Path(out), files, run
    )


@writes_into("out")
@checked
def stimuli_divergent(
    models: str | Sequence[str],
    *,
    stage: StageAsked,
    nulls: Files,
    images: str | Path,
    out: str | Path,
    preset: str = "pixels",
    weights: Weights | Mapping[str, Weights] = "default",
    image_size: int | None = None,
    seed: int = 0,
    files: StimulusFileOptions | None = None,
    run: RunOptions | None = None,
    **options: Annotated[
        Any,
        KeywordsOf("stimuli_gen.divergent:divergent_metamers", ("apart", "null_quantile")),
        KeywordsOf(
            "stimuli_gen.presets:Recipe",
            without=("open_choices", "penalties", "solver", "turn", "budget", "file_rounds"),
        ),
    ],
) -> pd.DataFrame:
    """Make maximally different metamers: the photograph to one network, not to another.

    The written PNG files are judged.

    Parameters
    ----------
    models : sequence of str
        Two networks: A, for which the images are metamers, and B, for which they are none.
    stage : str, sequence of str or mapping
        Stage of both, a fraction of depth, or ``"NAME=STAGE"`` for each, between commas.
    nulls : sequence of path-like
        Two files of ``neurometamer stimuli null``, of these networks and stages.
    images : path-like
        Folder of photographs, or CSV with the column ``file``.
    out : path-like
        Gets ``png/<id>.png``, ``stimuli.h5``, ``stimuli.csv`` and ``failures.csv`` (which
        images failed, why, and what to try).
    preset : {"pixels", "feather2023", "boehm2025", "fast"}
        How steps are taken, one of `stimuli_gen.presets.PRESETS`; fast has a prior of natural
        images.
    weights : str, path or mapping
        ``"default"`` or ``"random"`` for both, or ``NAME=VALUE`` between commas (or a mapping). See
        `neurometamer.zoo.weights_by_name`.
    image_size : int, optional
        Height and width in pixels that both networks see; needed where they were made for different
        sizes.
    seed : int
        Seed of all random numbers.
    files : StimulusFileOptions, optional
        How photographs are read, and what is written.
    run : RunOptions, optional
        Device, number of images at a time, mode, and who is told about progress.
    **options : object
        Further settings of `stimuli_gen.divergent_metamers`, and numbers of the preset by their
        names in `stimuli_gen.Recipe`.

    Returns
    -------
    pandas.DataFrame
        The table that was written, one row an image.

    Raises
    ------
    InputError
        When the input cannot be used, or the folder holds images made otherwise.

    Notes
    -----
    Finished images are kept in ``<out>/.finished``: the same call goes on where it was interrupted.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> from neurometamer.commands import stimuli_divergent
    >>> try:
    ...     stimuli_divergent("alexnet", stage="late", nulls=[], images="photos", out="images")
    ... except InputError as error:
    ...     print(error)
    two networks are compared, not 1 (alexnet); name two different ones.
    """
    from stimuli_gen.divergent import confirm_divergent, divergent_metamers
    from stimuli_gen.matching import match_stages

    files = files or StimulusFileOptions()
    models = two_names(models)
    distributions = [read_null(file) for file in nulls]
    networks, photographs = _load(models, weights, images, image_size, seed, files, run)
    stages: Any = stage if isinstance(stage, (int, float, Mapping)) else read_stages(stage)
    make = partial(
        divergent_metamers,
        networks,
        photographs,
        stage=stages,
        nulls=distributions,
        preset=preset,
        **options,
    )

    def _confirm(made: StimulusSet, folder: Path) -> StimulusSet:
        return confirm_divergent(networks, made, photographs, folder, nulls=distributions)

    settings = {
        **options,
        "disagreement": "metamers",
        "preset": preset,
        "stages": {
            match.model.name: list(match.stages) for match in match_stages(networks, stages)
        },
        "seed": seed,
        "mode": (run or RunOptions()).mode,
    }
    return _write(make, _confirm, networks, photographs, settings, Path(out), files, run)


@writes_into("out")
@checked
def stimuli_eigendistortion(
    model: str,
    *,
    stage: str | float,
    images: str | Path,
    out: str | Path,
    weights: str = "default",
    image_size: int | None = None,
    seed: int = 0,
    files: StimulusFileOptions | None = None,
    run: RunOptions | None = None,
    **options: Annotated[
        Any,
        KeywordsOf("stimuli_gen.eigendistortions:eigendistortions", ("strength", "share")),
        KeywordsOf("stimuli_gen.jacobians:Spectrum"),
    ],
) -> pd.DataFrame:
    """Change photographs in the directions that a stage of a network sees best and least.

    The written PNG files are judged.

    Parameters
    ----------
    model : str
        Name of the network, see ``neurometamer models list``.
    stage : str or float
        Stage of the network: a name, early, middle, late, or a fraction of depth.
    images : path-like
        Folder of photographs, or CSV with the column ``file``.
    out : path-like
        Gets ``png/<id>.png``, ``stimuli.h5``, ``stimuli.csv`` and ``failures.csv`` (which
        images failed, why, and what to try).
    weights : str
        ``"default"`` (ImageNet), ``"random"`` (untrained), or a file.
    image_size : int, optional
        Height and width in pixels that the network sees; by default its own.
    seed : int
        Seed of all random numbers.
    files : StimulusFileOptions, optional
        How photographs are read, and what is written; no animations.
    run : RunOptions, optional
        Device, number of images at a time, and who is told about progress.
    **options : object
        Further settings of `stimuli_gen.eigendistortions`.

    Returns
    -------
    pandas.DataFrame
        The table that was written, one row an image.

    Raises
    ------
    InputError
        When the input cannot be used, or the folder holds images made otherwise.

    Notes
    -----
    Finished images are kept in ``<out>/.finished``: the same call goes on where it was interrupted.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> from neurometamer.commands import stimuli_eigendistortion
    >>> try:
    ...     stimuli_eigendistortion("alexnett", stage="late", images="photos", out="images")
    ... except InputError as error:
    ...     print(str(error).partition("?")[0])
    unknown model 'alexnett'; did you mean 'alexnet'
    """
    from stimuli_gen.depth import at_stages
    from stimuli_gen.eigendistortions import confirm_eigendistortions, eigendistortions

    files = files or StimulusFileOptions()
    if files.animate:
        raise InputError("eigendistortions are made in one step: no animation; leave that out.")
    networks, photographs = _load([model], weights, images, image_size, seed, files, run)
    view, (name,) = at_stages(networks[0], [stage])
    make = partial(eigendistortions, networks[0], photographs, stage=stage, **options)

    def _confirm(made: StimulusSet, folder: Path) -> StimulusSet:
        return confirm_eigendistortions(networks[0], made, photographs, folder)

    settings = {**options, "kind": "eigendistortion", "stage": name, "seed": seed}
    if settings.get("method") == "auto":
        del settings["method"]  # what it comes to depends on the network
    return _write(make, _confirm, [view], photographs, settings, Path(out), files, run)


def two_names(models: str | Sequence[str]) -> list[str]:
    """Refuse other numbers of networks than two before any is loaded.

    Parameters
    ----------
    models : str or sequence of str
        Names of networks, several in a text between commas.

    Returns
    -------
    list of str
        The two names.

    Raises
    ------
    InputError
        When there are others than two, or one twice.

    Examples
    --------
    >>> from neurometamer.commands.disagreement import two_names
    >>> two_names("alexnet,vgg19")
    ['alexnet', 'vgg19']
    """
    names = expand_sets(models)
    text = models if isinstance(models, str) else ",".join(models)
    if len(names) == 1 and text.count(names[0]) > 1:
        raise InputError(
            f"{names[0]} is named twice, and no network disagrees with itself; name two different "
            "ones."
        )
    if len(names) != 2:
        named = name_ids(names) or "none"
        raise InputError(
            f"two networks are compared, not {len(names)} ({named}); name two different ones."
        )
    return names


def failed_images(table: pd.DataFrame) -> pd.DataFrame:
    """List the images that are not what was asked, why, and what may help.

    Parameters
    ----------
    table : pandas.DataFrame
        Table of the images: id, reference_id, success, why_not and, where it is known, what_to_try.

    Returns
    -------
    pandas.DataFrame
        Columns id, reference_id, why_not and what_to_try; a row an image that failed.
    """
    has_failed = table["success"].astype(str) != "True"
    names = ["id", "reference_id", "why_not", "what_to_try"]
    failed = table[has_failed].reindex(columns=names).astype(object)
    return failed.where(failed.notna(), "").reset_index(drop=True)


def _load(
    names: Sequence[str],
    weights: Weights | Mapping[str, Weights],
    images: str | Path,
    image_size: int | None,
    seed: int,
    files: StimulusFileOptions,
    run: RunOptions | None,
) -> tuple[list[StagedModel], StimulusSet]:
    """Load networks and photographs as they see them; what is wrong is refused before."""
    check_before_loading(names, weights, [images], files)
    device = (run or RunOptions()).device
    networks = load_models(names, weights, device=device, seed=seed)
    if image_size is not None:
        networks = at_one_size(networks, image_size)
    return networks, read_photographs(images, networks[0].preprocessing, files)


def _write(
    make: Callable[..., StimulusSet],
    confirm: Callable[[StimulusSet, Path], StimulusSet],
    networks: Sequence[StagedModel],
    photographs: StimulusSet,
    settings: Mapping[str, Any],
    out: Path,
    files: StimulusFileOptions,
    run: RunOptions | None,
) -> pd.DataFrame:
    """Make images, write them, judge the files, write the table, and give it."""
    digests = [network.digest for network in networks]
    made_for = digest(digests) if len(digests) > 1 else digests[0]
    run = run or RunOptions()
    refuse_other_stimuli(out, made_for, photographs, settings, files.fresh)
    if files.fresh:
        forget(out)
    made = make(seed=settings["seed"], run=keeping(run, out, files))
    write_pictures(made, out, png16=files.png16)
    judged = confirm(made, out)
    write_records(judged, out)
    write_table(out / "failures.csv", failed_images(judged.table))
    if files.animate:
        write_films(out)
    return judged.table
