"""The commands ``neurometamer stimuli metamer`` and ``null``, and their options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import (
    ReadingOptions,
    StimulusFileOptions,
    check_before_loading,
)
from neurometamer.commands.stimuli import (
    forget,
    keeping,
    read_photographs,
    refuse_other_stimuli,
    write_films,
)
from neurometamer.errors import InputError, duplicates, name_ids
from neurometamer.provenance import digest
from neurometamer.reading import Files
from neurometamer.resume import writes_into
from neurometamer.run_options import RunOptions
from neurometamer.zoo import Weights, expand_sets, load_model, load_models
from stimuli_gen.nulls import NullDistribution, read_null
from stimuli_gen.photographs import Preprocessing, load_photographs, read_images
from stimuli_gen.stimuli import StimulusSet, read_stimuli, write_pictures, write_records

if TYPE_CHECKING:
    import pandas as pd

    from stimuli_gen.matching import Match
    from stimuli_gen.models import StagedModel
    from stimuli_gen.presets import Penalty

Stage = str | float
StageAsked = Stage | Sequence[Stage] | Mapping[str, Stage | Sequence[Stage]]
LOWEST = ("spearman_png", "pearson_png", "snr_db_power_png", "snr_db_amplitude_png")
"""Measures of which a set has those of its worst network, where larger is better."""


@dataclass(frozen=True, kw_only=True)
class MetamerOptions:
    """Settings of `stimuli_metamer` beside the numbers of the preset.

    Parameters
    ----------
    stage_weights : sequence of float, optional
        Weight of each stage in the loss; equal by default.
    penalties : sequence of str or Penalty
        Terms added to the loss: ``kind:weight[:power[:pixel_scale]]`` with the kind
        total_variation, alpha_norm or range.
    start_images : path-like, optional
        First images: a picture for all, or a folder with one for each photograph, by its id.

    Examples
    --------
    >>> MetamerOptions(stage_weights=[1, 2]).penalties
    ()
    """

    stage_weights: Sequence[float] | None = None
    penalties: Sequence[str | Penalty] = ()
    start_images: str | Path | None = None


@writes_into("out")
@checked
def stimuli_metamer(
    models: str | Sequence[str],
    *,
    stage: StageAsked,
    images: str | Path,
    out: str | Path,
    preset: str = "feather2023",
    weights: Weights | Mapping[str, Weights] = "default",
    image_size: int | None = None,
    nulls: Files = (),
    seed: int = 0,
    files: StimulusFileOptions | None = None,
    run: RunOptions | None = None,
    **options: Annotated[
        Any,
        KeywordsOf("neurometamer.commands.metamers:MetamerOptions"),
        KeywordsOf("stimuli_gen.presets:Recipe", without=("penalties", "open_choices")),
    ],
) -> pd.DataFrame:
    """Make metamers of photographs for one network or a set, and write them.

    The written PNG files are judged.

    Parameters
    ----------
    models : str or sequence of str
        Names of networks and of sets of networks, see ``neurometamer models list``.
    stage : str, sequence of str or mapping
        A stage of all networks, ``"early"``, ``"middle"``, ``"late"``, a fraction of depth, or
        ``"NAME=STAGE"`` for each network, between commas.
    images : path-like
        Folder of photographs, or CSV with the column ``file``.
    out : path-like
        Gets ``png/<id>.png``, ``stimuli.h5`` and ``stimuli.csv``.
    preset : {"feather2023", "boehm2025", "pixels", "fast"}
        Whose numbers are taken, one of `stimuli_gen.presets.PRESETS`; fast has a prior of natural
        images.
    weights : str, path or mapping
        ``"default"`` or ``"random"`` for all; a file, for one network; or ``NAME=VALUE`` between
        commas (or a mapping) for networks of a set, others get the default. See
        `neurometamer.zoo.weights_by_name`.
    image_size : int, optional
        Height and width in pixels that every network sees; needed where networks of a set were
        made for different sizes. By default each its own.
    nulls : sequence of path-like
        Files of ``neurometamer stimuli null``, of these networks and stages; without one, ``valid``
        stays empty, as it does for networks without classes (embeddings).
    seed : int
        Seed of all random numbers.
    files : StimulusFileOptions, optional
        How photographs are read, and what is written.
    run : RunOptions, optional
        Device, number of images at a time, mode and callback for progress.
    **options : object
        Fields of `MetamerOptions`, and numbers of the preset by their names in
        `stimuli_gen.Recipe`.

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
    >>> from neurometamer.commands import stimuli_metamer
    >>> try:
    ...     stimuli_metamer("alexnett", stage="late", images="photos", out="metamers")
    ... except InputError as error:
    ...     print(str(error).partition("?")[0])
    unknown model 'alexnett'; did you mean 'alexnet'
    """
    from stimuli_gen.matching import match_stages
    from stimuli_gen.metamers import confirm_metamers, model_metamers

    run = run or RunOptions()
    files = files or StimulusFileOptions()
    out = Path(out)
    own = {field.name: options.pop(field.name, field.default) for field in fields(MetamerOptions)}
    chosen = MetamerOptions(**own)
    penalties = read_penalties(chosen.penalties)
    names = expand_sets(models)
    check_before_loading(names, weights, [images], files)
    given = [read_null(file) for file in nulls]
    networks = load_models(names, weights, device=run.device, seed=seed)
    if image_size is not None:
        networks = at_one_size(networks, image_size)
    preprocessing = networks[0].preprocessing
    stages = stage if isinstance(stage, (int, float, Mapping)) else read_stages(stage)
    matches = match_stages(networks, stages, stage_weights=chosen.stage_weights)
    photographs = read_photographs(images, preprocessing, files)
    first, first_digest = None, None
    if chosen.start_images is not None:
        first = read_start_images(chosen.start_images, preprocessing)
        first_digest = digest(first)
    settings = {
        **options,
        "penalties": [asdict(penalty) for penalty in penalties],
        "stage_weights": {match.model.name: list(match.weights) for match in matches},
        "start_images": first_digest,
        "preset": preset,
        "stages": {match.model.name: list(match.stages) for match in matches},
        "seed": seed,
        "mode": run.mode,
    }
    digest_of_set = digest([network.digest for network in networks])
    refuse_other_stimuli(out, digest_of_set, photographs, settings, files.fresh)
    if files.fresh:
        forget(out)
    made = model_metamers(
        networks,
        photographs,
        stage=stages,
        preset=preset,
        stage_weights=chosen.stage_weights,
        penalties=penalties,
        start_images=first,
        nulls=given,
        seed=seed,
        run=keeping(run, out, files),
        **options,
    )
    if first is not None:
        made = replace(made, provenance={**made.provenance, "start_images": first_digest})
    write_pictures(made, out, png16=files.png16)
    judged = confirm_metamers(networks, made, photographs, out, nulls=given)
    judged = with_validity(judged, networks, matches, photographs, out, given, run.batch_size)
    write_records(judged, out)
    if files.animate:
        write_films(out)
    return judged.table


@checked
def stimuli_null(
    out: str | Path,
    *,
    model: str,
    images: Files,
    stages: Sequence[str],
    n_pairs: int = 1_000_000,
    weights: str = "default",
    image_size: int | None = None,
    seed: int = 0,
    reading: ReadingOptions | None = None,
    run: RunOptions | None = None,
) -> NullDistribution:
    """Measure how alike a network's responses to pairs of different images are.

    The distribution is kept for judging metamers.

    Parameters
    ----------
    out : path-like
        HDF5 file. The same call goes on where it was interrupted, and reads what is finished.
    model : str
        Name of the network.
    images : sequence of path-like
        Folders written by ``neurometamer stimuli``, folders of photographs, or CSV files with the
        column file.
    stages : sequence of str
        Stages of the network: names, early, middle, late, or fractions of depth.
    n_pairs : int
        Pairs to draw; all when there are no more.
    weights : str
        ``"default"`` (ImageNet), ``"random"`` (untrained), or a file.
    image_size : int, optional
        Height and width in pixels that the network sees, as for the metamers; by default its
        own.
    seed : int
        Seed of the draw, and of random weights.
    reading : ReadingOptions, optional
        How photographs are read.
    run : RunOptions, optional
        Device, number of images at a time and callback for progress (images run and pairs
        compared so far, in all).

    Returns
    -------
    NullDistribution
        Its ``summary()`` has the maxima.

    Raises
    ------
    InputError
        When the input cannot be used, or `out` holds something else.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> from neurometamer.commands import stimuli_null
    >>> try:
    ...     stimuli_null("null.h5", model="alexnett", images=["photos"], stages=["late"])
    ... except InputError as error:
    ...     print(str(error).partition("?")[0])
    unknown model 'alexnett'; did you mean 'alexnet'
    """
    from stimuli_gen.matching import match_stages
    from stimuli_gen.nulls import null_distribution

    run = run or RunOptions()
    reading = reading or ReadingOptions()
    check_before_loading([model], weights, images, reading)
    network = load_model(model, weights=weights, device=run.device, seed=seed)
    if image_size is not None:
        (network,) = at_one_size([network], image_size)
    (matched,) = match_stages(network, list(stages))
    stimuli = read_images(images, network.preprocessing, bits=reading.bits, icc=reading.icc)
    return null_distribution(
        knows(network, matched),
        stimuli,
        matched.stages,
        n_pairs=n_pairs,
        seed=seed,
        path=out,
        batch_size=run.batch_size,
        progress=run.progress,
    )


def read_stages(texts: str | Sequence[Stage]) -> str | list[str] | dict[str, list[str]]:
    """Read stages as they are written: one, several, or ``NAME=STAGE`` for networks.

    Parameters
    ----------
    texts : str or sequence of str or float
        Stages, or ``NAME=STAGE`` (several between commas); a name may come more than once.

    Returns
    -------
    str, list of str or dict of str to list of str
        What `stimuli_gen.model_metamers` takes as ``stage``.

    Raises
    ------
    InputError
        When some are by network and others are not, or a name or a stage is missing.
    """
    listed = [texts] if isinstance(texts, str) else list(map(str, texts))
    text = ",".join(listed)
    if "=" not in text:
        return listed[0] if len(listed) == 1 else listed
    stages: dict[str, list[str]] = {}
    for pair in text.split(","):
        name, _, stage = pair.partition("=")
        name, stage = name.strip(), stage.strip()
        if not (name and stage):
            raise InputError(
                f"stages by network are NAME=STAGE between commas, not '{pair}'; give a stage for "
                "each network."
            )
        stages.setdefault(name, []).append(stage)
    return stages


def at_one_size(networks: Sequence[StagedModel], size: int) -> list[StagedModel]:
    """Let networks see images of one size; those that do anyhow are left as they are.

    Parameters
    ----------
    networks : sequence of StagedModel
        Networks of a set.
    size : int
        Height and width in pixels.

    Returns
    -------
    list of StagedModel
        In the same order.
    """
    from stimuli_gen.matching import at_size

    sized = []
    for network in networks:
        if network.preprocessing.size != (size, size):
            network = at_size(network, size)
        sized.append(network)
    return sized


def knows(network: StagedModel, match: Match) -> StagedModel:
    """Take the network itself where it names the stages; else its view of them.

    So the nulls of the network can be found.

    Parameters
    ----------
    network : StagedModel
        As it was loaded.
    match : Match
        What of it is matched.

    Returns
    -------
    StagedModel
        One of the two.
    """
    names_all = set(match.stages) <= set(network.stages)
    return network if names_all else match.model


def with_validity(
    judged: StimulusSet,
    networks: Sequence[StagedModel],
    matches: Sequence[Match],
    photographs: StimulusSet,
    folder: Path,
    nulls: Sequence[NullDistribution] = (),
    batch_size: int | None = None,
) -> StimulusSet:
    """Add the criteria of Feather et al. for each network and matched stage.

    They are those of the float images and of the files.

    Parameters
    ----------
    judged : StimulusSet
        Metamers.
    networks : sequence of StagedModel
        They were made for.
    matches : sequence of Match
        One a network.
    photographs : StimulusSet
        They were made of.
    folder : Path
        Where their PNG files are.
    nulls : sequence of NullDistribution
        Null distributions of these networks and stages; without one, ``valid`` stays empty.
    batch_size : int, optional
        Images at once, see `stimuli_gen.judge`.

    Returns
    -------
    StimulusSet
        With the columns of `stimuli_gen.criteria.validity_columns`: ``spearman_float``,
        ``spearman_png`` … ``same_class_png`` and ``valid``.
    """
    from stimuli_gen.criteria import judge, judged_at, validity_columns

    places = judged_at(networks, matches)
    judgments = judge(
        places, photographs, judged, nulls=nulls, folder=folder, batch_size=batch_size
    )
    columns = validity_columns(judgments, places, judged.ids, len(matches))
    return replace(judged, table=judged.table.assign(**columns))


def of_worst_network(row: Mapping[str, Any]) -> dict[str, Any]:
    """Sum up what the networks of a set say to one metamer: a set is as good as its worst network.

    Parameters
    ----------
    row : mapping
        Row of the table of `with_validity`.

    Returns
    -------
    dict
        Lowest similarity, largest loss, and whether every network agrees; missing where nothing was
        judged.
    """
    names = ("loss_png", *LOWEST, "same_class_png", "valid")
    values: dict[str, list[Any]] = {name: [] for name in names}
    for key, value in row.items():
        if value is None or value != value:  # NaN is not itself
            continue
        for name in names:
            if key == name or key.startswith(f"{name}_"):
                values[name].append(value)
    summary: dict[str, Any] = {"loss_png": max(map(float, values["loss_png"]), default=None)}
    for name in LOWEST:
        summary[name] = min(map(float, values[name]), default=None)
    for name in ("same_class_png", "valid"):
        passed = [str(value) in ("True", "1", "1.0") for value in values[name]]
        summary[name] = all(passed) if passed else None
    return summary


def read_penalties(given: Sequence[str | Penalty]) -> list[Penalty]:
    """Read terms that are added to the loss.

    Parameters
    ----------
    given : sequence of str or Penalty
        ``kind:weight[:power[:pixel_scale]]``; what is left out has its default, see
        `stimuli_gen.presets.PENALTIES`.

    Returns
    -------
    list of Penalty
        In the same order.

    Raises
    ------
    InputError
        When one cannot be read.
    """
    from stimuli_gen.presets import read_penalty

    return [read_penalty(text) if isinstance(text, str) else text for text in given]


def read_start_images(
    source: str | Path, preprocessing: Preprocessing
) -> dict[str, np.ndarray] | np.ndarray:
    """Read first images of metamers.

    Parameters
    ----------
    source : path-like
        A picture for all; or a folder of pictures named by the photographs' ids, or of stimuli made
        of them.
    preprocessing : Preprocessing
        Preprocessing of the network: pictures of another size are resized and cut as photographs
        are.

    Returns
    -------
    ndarray or dict of str to ndarray
        (3, height, width) float32 in [0, 1]: one, or by reference id.

    Raises
    ------
    InputError
        When nothing can be read, or there are two for one photograph.
    """
    path = Path(source)
    if path.is_file():
        return np.asarray(load_photographs([path], preprocessing).images)[0]
    made = (path / "stimuli.h5").is_file()
    given = read_stimuli(path).as_shown() if made else load_photographs(path, preprocessing)
    names = given.table["reference_id"].tolist()
    if again := duplicates(names):
        raise InputError(
            f"{path} holds more than one start image for {name_ids(again)}; give one for each "
            "photograph."
        )
    return dict(zip(names, np.asarray(given.images), strict=True))
