"""The Python twins of ``neurometamer stimuli metamer`` and ``null``, and their options."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.arguments import checked
from neurometamer.commands.stimuli import (
    Progress,
    forget,
    kept_in,
    recorder,
    refuse_other_stimuli,
    write_films,
)
from neurometamer.errors import InputError, duplicates, name_ids, unknown_name
from neurometamer.provenance import digest
from neurometamer.reading import Files
from neurometamer.resume import writes_into
from neurometamer.run_options import RunOptions
from stimuli_gen.photographs import read_images

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from neurometamer.zoo import Weights
    from stimuli_gen.matching import Match
    from stimuli_gen.models import StagedModel
    from stimuli_gen.nulls import NullDistribution
    from stimuli_gen.photographs import Preprocessing
    from stimuli_gen.presets import Penalty
    from stimuli_gen.stimuli import StimulusSet
    from stimuli_gen.synthesis.loop import Pass

Stage = str | float
StageAsked = Stage | Sequence[Stage] | Mapping[str, Stage | Sequence[Stage]]
LOWEST = ("spearman_png", "pearson_png", "snr_db_power_png", "snr_db_amplitude_png")
"""Measures of which a set has those of its worst network, where larger is better."""


@writes_into("out")
@checked
def make_metamers(
    models: str | Sequence[str],
    *,
    stage: StageAsked,
    images: str | Path,
    out: str | Path,
    preset: str = "feather2023",
    weights: Weights | Mapping[str, Weights] = "default",
    image_size: int | None = None,
    nulls: Files = (),
    start_images: str | Path | None = None,
    device: str = "auto",
    batch_size: int = 8,
    seed: int = 0,
    mode: str = "exact",
    png16: bool = False,
    animate: bool = False,
    fresh: bool = False,
    progress: Progress | None = None,
    watch: Callable[[Pass], None] | None = None,
    bits: int | None = None,
    icc: str = "ignore",
    **options: Any,
) -> pd.DataFrame:
    """Make metamers of photographs for one network or a set, and write them.

    The written PNG files are judged.

    Parameters
    ----------
    models : str or sequence of str
        Names of networks.
    stage : str, sequence of str or mapping
        A stage of all networks, ``"early"``, ``"middle"``, ``"late"``, a fraction of depth, or
        ``"NAME=STAGE"`` for each network, between commas.
    images : path-like
        Folder of photographs, or CSV with the column ``file``.
    out : path-like
        Gets ``png/<id>.png``, ``stimuli.h5`` and ``stimuli.csv``.
    preset : {"feather2023", "boehm2025", "pixels", "fast"}
        See `stimuli_gen.presets.PRESETS`.
    weights : str, path or mapping
        ``"default"`` or ``"random"`` for all; a file, for one network; or ``NAME=VALUE`` between
        commas (or a mapping) for networks of a set, others get the default. See
        `neurometamer.zoo.weights_by_name`.
    image_size : int, optional
        Height and width in pixels that every network sees; needed where networks of a set were
        made for different sizes. By default each its own.
    nulls : sequence of path-like
        Files of `make_null`, of these networks and stages; without one, ``valid`` stays empty.
    start_images : path-like, optional
        First images: a picture for all, or a folder with one for each photograph, by its id.
    device : str
        See `neurometamer.zoo.load_model`.
    batch_size : int
        Images at once.
    seed : int
        Seed of all random numbers.
    mode : {"exact", "fast"}
        Fast: cheaper arithmetic on the way, judged exactly.
    png16 : bool
        Also write 16-bit PNG files.
    animate : bool
        Keep frames in ``<out>/frames/<id>`` and write ``<out>/animation/<id>.gif``.
    fresh : bool
        Throw away finished and unfinished images of earlier runs in ``<out>/.finished`` instead of
        going on with them.
    progress : callable, optional
        Called with (images done, images).
    watch : callable, optional
        Called with each pass of the gradient loop, see `stimuli_gen.synthesis.loop.Pass`.
    bits : int, optional
        Bits of data of 16-bit photographs, see `stimuli_gen.load_photographs`.
    icc : {"ignore", "convert"}
        Color profiles of photographs, see there.
    **options : object
        Other settings of `stimuli_gen.model_metamers`.

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
    >>> from neurometamer import InputError, make_metamers
    >>> try:
    ...     make_metamers("alexnett", stage="late", images="photos", out="metamers")
    ... except InputError as error:
    ...     print(str(error).partition("?")[0])
    unknown model 'alexnett'; did you mean 'alexnet'
    """
    from neurometamer.zoo import load_models
    from stimuli_gen.matching import match_stages
    from stimuli_gen.metamers import confirm_metamers, model_metamers
    from stimuli_gen.nulls import read_null
    from stimuli_gen.stimuli import write_pictures, write_records

    networks = load_models(models, weights, device=device, seed=seed)
    if image_size is not None:
        networks = at_one_size(networks, image_size)
    stages = stage if isinstance(stage, (int, float, Mapping)) else read_stages(stage)
    matches = match_stages(networks, stages, stage_weights=options.get("stage_weights"))
    matched = {match.model.name: list(match.stages) for match in matches}
    photographs = read_images([images], networks[0].preprocessing, bits=bits, icc=icc).select(
        kind="RE"
    )
    out = Path(out)
    first = (
        None if start_images is None else read_start_images(start_images, networks[0].preprocessing)
    )
    given_settings = {
        name: value for name, value in options.items() if name not in ("stage_weights", "penalties")
    }
    given_settings["penalties"] = [asdict(penalty) for penalty in options.get("penalties", ())]
    given_settings["stage_weights"] = {match.model.name: list(match.weights) for match in matches}
    given_settings["start_images"] = None if first is None else digest(first)
    settings = {**given_settings, "preset": preset, "stages": matched, "seed": seed, "mode": mode}
    digest_of_set = digest([network.digest for network in networks])
    refuse_other_stimuli(out, digest_of_set, photographs, settings, fresh)
    if fresh:
        forget(out)
    given = [read_null(file) for file in nulls]
    made = model_metamers(
        networks,
        photographs,
        stage=stages,
        preset=preset,
        seed=seed,
        start_images=first,
        nulls=given,
        run=RunOptions(
            batch_size=batch_size,
            mode=mode,
            resume=kept_in(out),
            progress=progress,
            on_step=watch,
            on_frame=recorder(out) if animate else None,
        ),
        **options,
    )
    if first is not None:
        made = replace(
            made, provenance={**made.provenance, "start_images": given_settings["start_images"]}
        )
    write_pictures(made, out, png16=png16)
    judged = confirm_metamers(networks, made, photographs, out, nulls=given)
    judged = with_validity(judged, networks, matches, photographs, out, given, batch_size)
    write_records(judged, out)
    if animate:
        write_films(out)
    return judged.table


@checked
def make_null(
    out: str | Path,
    *,
    model: str,
    images: Files,
    stages: Sequence[str],
    n_pairs: int = 1_000_000,
    weights: str = "default",
    image_size: int | None = None,
    device: str = "auto",
    batch_size: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
    bits: int | None = None,
    icc: str = "ignore",
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
        See `read_images`.
    stages : sequence of str
        Stages of the network: names, early, middle, late, or fractions of depth.
    n_pairs : int
        Pairs to draw; all when there are no more.
    weights : str
        See `neurometamer.zoo.load_model`.
    image_size : int, optional
        Height and width in pixels that the network sees, as for the metamers; by default its
        own.
    device : str
        See `neurometamer.zoo.load_model`.
    batch_size : int
        Images at once.
    seed : int
        Seed of the draw, and of random weights.
    progress : callable, optional
        Called with (images run and pairs compared so far, in all).
    bits : int, optional
        Bits of data of 16-bit photographs, see `stimuli_gen.load_photographs`.
    icc : {"ignore", "convert"}
        Color profiles of photographs, see there.

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
    >>> from neurometamer import InputError, make_null
    >>> try:
    ...     make_null("null.h5", model="alexnett", images=["photos"], stages=["late"])
    ... except InputError as error:
    ...     print(str(error).partition("?")[0])
    unknown model 'alexnett'; did you mean 'alexnet'
    """
    from neurometamer.zoo import load_model
    from stimuli_gen.matching import match_stages
    from stimuli_gen.nulls import null_distribution

    network = load_model(model, weights=weights, device=device, seed=seed)
    if image_size is not None:
        (network,) = at_one_size([network], image_size)
    stimuli = read_images(images, network.preprocessing, bits=bits, icc=icc)
    (matched,) = match_stages(network, list(stages))
    return null_distribution(
        knows(network, matched),
        stimuli,
        matched.stages,
        n_pairs=n_pairs,
        seed=seed,
        path=out,
        batch_size=batch_size,
        progress=progress,
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
    listed = [texts] if isinstance(texts, str) else [str(stage) for stage in texts]
    if not any("=" in text for text in listed):
        return listed[0] if len(listed) == 1 else listed
    pairs = [pair for text in listed for pair in text.split(",")]
    stages: dict[str, list[str]] = {}
    for pair in pairs:
        name, _, place = (part.strip() for part in pair.partition("="))
        if not (name and place):
            raise InputError(
                f"stages by network are NAME=STAGE between commas, not {name_ids([pair])}."
            )
        stages.setdefault(name, []).append(place)
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

    return [
        network if network.preprocessing.size == (size, size) else at_size(network, size)
        for network in networks
    ]


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
    return network if set(match.stages) <= set(network.stages) else match.model


def with_validity(
    judged: StimulusSet,
    networks: Sequence[StagedModel],
    matches: Sequence[Match],
    photographs: StimulusSet,
    folder: Path,
    nulls: Sequence[NullDistribution] = (),
    batch_size: int = 8,
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
    batch_size : int
        Images at once.

    Returns
    -------
    StimulusSet
        ``spearman_float``, ``spearman_png`` … and ``valid``; the names end in network and stage
        where there are several.
    """
    from stimuli_gen.criteria import judge
    from stimuli_gen.similarity import METRICS

    places = [
        (knows(network, match), stage)
        for network, match in zip(networks, matches, strict=True)
        for stage in match.stages
    ]
    judgments = judge(
        places, photographs, judged, nulls=nulls, folder=folder, batch_size=batch_size
    )
    columns: dict[str, Any] = {}
    for model, stage in places:
        part = (
            judgments[(judgments["model"] == model.name) & (judgments["stage"] == stage)]
            .set_index("id")
            .loc[list(judged.ids)]
        )
        end = f"_{model.name}" if len(matches) > 1 else ""
        end += f"_{stage}" if len(places) > len(matches) else ""
        for metric in (*METRICS, "same_class_16"):
            columns |= {
                f"{metric}_{kind}{end}": part[f"{kind}_{metric}"].to_numpy()
                for kind in ("float", "png")
            }
        columns[f"valid{end}"] = part["valid"].to_numpy()
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
        Lowest likeness, largest loss, and whether every network agrees; missing where nothing was
        judged.
    """

    def _of(name: str) -> list[Any]:
        values = [value for key, value in row.items() if key == name or key.startswith(f"{name}_")]
        return [
            value for value in values if value is not None and value == value
        ]  # NaN is not itself

    summary: dict[str, Any] = {"loss_png": max(map(float, _of("loss_png")), default=None)}
    summary |= {name: min(map(float, _of(name)), default=None) for name in LOWEST}
    for name in ("same_class_16_png", "valid"):
        verdicts = [str(value) in ("True", "1", "1.0") for value in _of(name)]
        summary[name] = all(verdicts) if verdicts else None
    return summary


def _yes_no(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


_READ: dict[str, tuple[Callable[[str], Any], str]] = {
    "str": (str, "a name"),
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": (_yes_no, "true or false"),
}


def read_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Read changes of a preset.

    Parameters
    ----------
    texts : sequence of str
        ``NAME=VALUE``, names of `stimuli_gen.Recipe`.

    Returns
    -------
    dict
        Name → value of the name's type.

    Raises
    ------
    InputError
        When a name is unknown or comes twice, or a value has another type.
    """
    from stimuli_gen.presets import Recipe

    types = {
        field.name: str(field.type) for field in fields(Recipe) if field.name != "open_choices"
    }
    pairs = [text.partition("=") for text in texts]
    if again := duplicates(name.strip() for name, _, _ in pairs):
        raise InputError(f"--set names {name_ids(again)} more than once; give each once.")
    values = {}
    for (name, equal, value), text in zip(pairs, texts, strict=True):
        name, value = name.strip(), value.strip()
        if not (name and equal and value):
            raise InputError(f"--set wants NAME=VALUE, not '{text}'.")
        if name not in types:
            raise unknown_name("setting of a metamer", name, types)
        read, wanted = _READ[types[name]]
        try:
            values[name] = read(value)
        except ValueError:
            raise InputError(f"--set {name} wants {wanted}, not '{value}'.") from None
    return values


def read_penalties(texts: Sequence[str]) -> list[Penalty]:
    """Read terms that are added to the loss.

    Parameters
    ----------
    texts : sequence of str
        ``kind:weight[:power[:pixel_scale]]``; what is left out has its
        default, see `stimuli_gen.presets.PENALTIES`.

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

    return [read_penalty(text) for text in texts]


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
    import numpy as np

    from stimuli_gen.photographs import load_photographs
    from stimuli_gen.stimuli import read_stimuli

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
