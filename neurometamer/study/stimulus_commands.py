"""The Python twins of ``neurometamer stimuli``: photographs in, folders of images out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import reduce
from operator import and_
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.store import InputError, digest, name_ids, unknown_name

if TYPE_CHECKING:
    import pandas as pd

    from stimuli_gen.matching import Match
    from stimuli_gen.nulls import NullDistribution
    from stimuli_gen.regular import Preprocessing
    from stimuli_gen.staged import StagedModel
    from stimuli_gen.stimuli import StimulusSet

Files = Sequence[str | Path]
Progress = Callable[[int, int], None]
GENERATORS = ("noise", "interference")
METHODS = ("gradient", "greedy")


def read_images(sources: Files, preprocessing: Preprocessing) -> StimulusSet:
    """Read images from any mix of stimulus folders, photograph folders and CSV files, as people are shown them.

    Parameters
    ----------
    sources : sequence of path-like
        Each a folder written by `make_stimuli` or a study's ``stimuli`` folder, a folder of photographs, or a CSV
        with the column ``file``.
    preprocessing : Preprocessing
        For photographs.

    Returns
    -------
    StimulusSet
        All of them, rounded to 8 bits.

    Raises
    ------
    InputError
        When there is nothing to read, ids repeat or sizes differ.
    """
    from stimuli_gen.stimuli import concat_stimuli

    if not sources:
        raise InputError("no images given; use --images FOLDER or --images TABLE.csv.")
    return concat_stimuli([_read_one(Path(source), preprocessing) for source in sources])


def _read_one(source: Path, preprocessing: Preprocessing) -> StimulusSet:
    from stimuli_gen.regular import load_photographs
    from stimuli_gen.stimuli import read_stimuli

    made = source.is_dir() and (source / "stimuli.h5").is_file()
    return read_stimuli(source).as_shown() if made else load_photographs(source, preprocessing)


def make_stimuli(
    kind: str,
    *,
    model: str,
    images: str | Path,
    out: str | Path,
    weights: str = "default",
    device: str = "auto",
    batch_size: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Make AN or AI images of photographs, write them, and judge the written PNG files.

    Parameters
    ----------
    kind : {"noise", "interference"}
        Which.
    model : str
        Name of the network.
    images : path-like
        Folder of photographs, or CSV with the column ``file``.
    out : path-like
        Gets ``png/<id>.png``, ``stimuli.h5`` and ``stimuli.csv``.
    weights, device : str
        See `neurometamer.zoo.load_model`.
    batch_size : int
        Images at once.
    seed : int
        Of everything random.
    progress : callable, optional
        Hears (images done, images).
    **options : object
        Target, confidence and the other settings of `stimuli_gen.adversarial_noise` or
        `stimuli_gen.adversarial_interference`; ``method="greedy"`` makes interference by
        `stimuli_gen.greedy_interference` and takes its settings.

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
    """
    from neurometamer.zoo import load_model
    from stimuli_gen.adversarial import adversarial_interference, adversarial_noise, confirm_saved
    from stimuli_gen.balls import digest_masks
    from stimuli_gen.greedy import greedy_interference
    from stimuli_gen.stimuli import write_stimuli

    if kind not in GENERATORS:
        raise unknown_name("generator", kind, GENERATORS)
    method = options.pop("method", "gradient")
    if method not in METHODS or (kind == "noise" and method != "gradient"):
        raise unknown_name(f"method of {kind}", method, METHODS if kind == "interference" else METHODS[:1])
    make: Callable[..., StimulusSet] = adversarial_noise if kind == "noise" else adversarial_interference
    make = greedy_interference if method == "greedy" else make
    network = load_model(model, weights=weights, device=device, seed=seed)
    photographs = read_images([images], network.preprocessing).select(kind="RE")
    out = Path(out)
    told = {name: value for name, value in options.items() if name != "progress_rule"}
    told["mask"] = None if options.get("mask") is None else digest_masks(options["mask"])
    told["progress"] = None if options.get("progress_rule") is None else asdict(options["progress_rule"])
    _refuse_others(out, network.digest, photographs, {**told, "seed": seed, "method": method})
    made = make(
        network,
        photographs,
        seed=seed,
        batch_size=batch_size,
        resume=out / ".finished",
        progress=progress,
        **options,
    )
    write_stimuli(made, out)
    judged = confirm_saved(network, made, out)
    write_stimuli(judged, out)
    return judged.table


def make_controls(
    kind: str,
    *,
    images: str | Path,
    out: str | Path,
    model: str = "efficientnet_lite0",
    weights: str = "default",
    device: str = "auto",
    levels: Sequence[float] = (),
    batch_size: int = 8,
    seed: int = 0,
    png16: bool = False,
    progress: Progress | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Make control images of photographs and write them.

    Parameters
    ----------
    kind : str
        A name of `stimuli_gen.CONTROLS`, or of `stimuli_gen.ATTACKS` (PGD).
    images : path-like
        Folder of photographs, or CSV with the column ``file``.
    out : path-like
        Gets what `stimuli_gen.write_stimuli` writes.
    model : str
        Network whose input size and cut the photographs get, and which is attacked.
    weights, device : str
        See `neurometamer.zoo.load_model`; for attacks only.
    levels : sequence of float
        How strong, in the control's unit (of an attack: one radius); its default when empty.
    batch_size : int
        Images at once; for attacks only.
    seed : int
        Of everything random.
    png16 : bool
        Also write 16-bit PNG files.
    progress : callable, optional
        Hears (images done, images).
    **options : object
        Further settings of the control.

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
    Finished images of an attack are kept in ``<out>/.finished``: the same call goes on where it was interrupted.
    """
    from neurometamer.zoo import load_model, model_entry
    from stimuli_gen.controls import CONTROLS, control_images
    from stimuli_gen.pgd import ATTACKS, attack_images
    from stimuli_gen.stimuli import read_stimuli, write_stimuli

    if kind not in {**CONTROLS, **ATTACKS}:
        raise unknown_name("control", kind, [*CONTROLS, *ATTACKS])
    photographs = read_images([images], model_entry(model).preprocessing).select(kind="RE")
    out = Path(out)
    if kind in CONTROLS:
        made = control_images(photographs, kind, levels=levels, seed=seed, progress=progress, **options)
    else:
        if len(levels) > 1:
            raise InputError(f"{kind} takes one level (its radius), not {len(levels)}; make a folder for each.")
        network = load_model(model, weights=weights, device=device, seed=seed)
        made = attack_images(
            network, photographs, kind, radius=levels[0] if levels else None, seed=seed, batch_size=batch_size,
            resume=out / ".finished", progress=progress, **options,
        )  # fmt: skip
    if (out / "stimuli.h5").is_file() and read_stimuli(out, in_memory=False).digest != made.digest:
        raise InputError(f"{out} holds other stimuli; choose another --out.")
    write_stimuli(made, out, png16=png16)
    return made.table


def make_metamers(
    models: str | Sequence[str],
    *,
    stage: str,
    images: str | Path,
    out: str | Path,
    preset: str = "feather2023",
    weights: str = "default",
    image_size: int | None = None,
    nulls: Files = (),
    device: str = "auto",
    batch_size: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
    **options: Any,
) -> pd.DataFrame:
    """Make metamers of photographs for one network or a set, write them, and judge the written PNG files.

    Parameters
    ----------
    models : str or sequence of str
        Names of networks.
    stage : str
        A stage of all networks, ``"early"``, ``"middle"``, ``"late"``, a fraction of depth, or ``"NAME=STAGE"`` for
        each network, between commas.
    images : path-like
        Folder of photographs, or CSV with the column ``file``.
    out : path-like
        Gets ``png/<id>.png``, ``stimuli.h5`` and ``stimuli.csv``.
    preset : {"feather2023", "boehm2025", "fast"}
        See `stimuli_gen.recipes.PRESETS`.
    weights : str
        See `neurometamer.zoo.load_model`; a file is for one network.
    image_size : int, optional
        Height and width in pixels that every network shall see; needed where networks of a set were made for
        different sizes. By default each its own.
    nulls : sequence of path-like
        Files of `make_null`, of these networks and stages; without one, ``valid`` stays empty.
    device : str
        See `neurometamer.zoo.load_model`.
    batch_size : int
        Images at once.
    seed : int
        Of everything random.
    progress : callable, optional
        Hears (images done, images).
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
    """
    from neurometamer.zoo import load_model
    from stimuli_gen.matching import at_size, match_stages
    from stimuli_gen.metamers import confirm_metamers, model_metamers
    from stimuli_gen.stimuli import write_stimuli

    names = [models] if isinstance(models, str) else list(models)
    if len(names) > 1 and weights not in ("default", "random"):
        raise InputError("a weights file is for one network; make a set with 'default' or 'random' weights.")
    networks = [load_model(name, weights=weights, device=device, seed=seed) for name in names]
    if image_size is not None:
        networks = [at_size(one, image_size) for one in networks]
    stages = _stage_by_network(stage)
    matches = match_stages(networks, stages)
    matched = {one.model.name: list(one.stages) for one in matches}
    photographs = read_images([images], networks[0].preprocessing).select(kind="RE")
    out = Path(out)
    settings = {**options, "preset": preset, "stages": matched, "seed": seed}
    _refuse_others(out, _digest_of_set(networks), photographs, settings)
    made = model_metamers(
        networks, photographs, stage=stages, preset=preset, seed=seed, batch_size=batch_size,
        resume=out / ".finished", progress=progress, **options,
    )  # fmt: skip
    write_stimuli(made, out)
    judged = confirm_metamers(networks, made, photographs, out)
    judged = _with_validity(judged, networks, matches, photographs, out, nulls, batch_size)
    write_stimuli(judged, out)
    return judged.table


def _with_validity(
    judged: StimulusSet,
    networks: Sequence[StagedModel],
    matches: Sequence[Match],
    photographs: StimulusSet,
    out: Path,
    nulls: Files,
    batch_size: int,
) -> StimulusSet:
    """Add the criteria of Feather et al. for each network and matched stage, of the float images and of the files."""
    from stimuli_gen.nulls import read_null
    from stimuli_gen.validity import METRICS, judge

    places = [
        (_knows(network, one), stage) for network, one in zip(networks, matches, strict=True) for stage in one.stages
    ]
    found = judge(
        places, photographs, judged, nulls=[read_null(one) for one in nulls], folder=out, batch_size=batch_size
    )
    columns: dict[str, Any] = {}
    for model, stage in places:
        part = found[(found["model"] == model.name) & (found["stage"] == stage)].set_index("id").loc[list(judged.ids)]
        end = f"_{model.name}" if len(matches) > 1 else ""
        end += f"_{stage}" if len(places) > len(matches) else ""
        for metric in (*METRICS, "same_class_16"):
            columns |= {f"{metric}_{kind}{end}": part[f"{kind}_{metric}"].to_numpy() for kind in ("float", "png")}
        above = (part[f"png_{metric}_above_null"] for metric in ("spearman", "pearson", "snr_db_power"))
        columns[f"above_null_png{end}"] = reduce(and_, above).to_numpy()
        columns[f"valid{end}"] = part["valid"].to_numpy()
    return replace(judged, table=judged.table.assign(**columns))


def _knows(network: StagedModel, match: Match) -> StagedModel:
    """Take the network itself where it names the stages, so that its nulls can be found; else its view of them."""
    return network if set(match.stages) <= set(network.stages) else match.model


def _digest_of_set(networks: Sequence[StagedModel]) -> str:
    return digest([one.digest for one in networks])


def _stage_by_network(stage: str) -> str | dict[str, str]:
    """Read ``NAME=STAGE,NAME=STAGE``; any other text is the stage of all."""
    if "=" not in stage:
        return stage
    pairs = [one.partition("=") for one in stage.split(",")]
    if bad := [one for one, (name, _, place) in zip(stage.split(","), pairs, strict=True) if not (name and place)]:
        raise InputError(f"stages by network are NAME=STAGE between commas, not {name_ids(bad)}.")
    return {name.strip(): place.strip() for name, _, place in pairs}


def make_null(
    out: str | Path,
    *,
    model: str,
    images: Files,
    stages: Sequence[str],
    n_pairs: int = 1_000_000,
    weights: str = "default",
    device: str = "auto",
    batch_size: int = 8,
    seed: int = 0,
    progress: Progress | None = None,
) -> NullDistribution:
    """Measure how alike a network's responses to pairs of different images are; keep it for judging metamers.

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
    weights, device : str
        See `neurometamer.zoo.load_model`.
    batch_size : int
        Images at once.
    seed : int
        Of the draw, and of random weights.
    progress : callable, optional
        Hears (images run and pairs compared so far, in all).

    Returns
    -------
    NullDistribution
        Its ``summary()`` has the maxima.

    Raises
    ------
    InputError
        When the input cannot be used, or `out` holds something else.
    """
    from neurometamer.zoo import load_model
    from stimuli_gen.matching import match_stages
    from stimuli_gen.nulls import null_distribution

    network = load_model(model, weights=weights, device=device, seed=seed)
    stimuli = read_images(images, network.preprocessing)
    (matched,) = match_stages(network, list(stages))
    return null_distribution(
        _knows(network, matched),
        stimuli,
        matched.stages,
        n_pairs=n_pairs,
        seed=seed,
        path=out,
        batch_size=batch_size,
        progress=progress,
    )


def _refuse_others(out: Path, model_digest: str, photographs: StimulusSet, settings: Mapping[str, Any]) -> None:
    """Refuse a folder that holds images made otherwise, before anything is computed or written over."""
    from stimuli_gen.stimuli import read_stimuli

    if not (out / "stimuli.h5").is_file():
        return
    there = read_stimuli(out, in_memory=False)
    made = {
        "method": "gradient",
        "ball": "none",
        "radius": None,
        "mask": None,
        "progress": None,
        **there.provenance.get("settings", {}),
    }
    differing = [name for name, value in settings.items() if name in made and made[name] != value]
    differing += ["model or weights"] if there.provenance.get("model_digest") != model_digest else []
    differing += ["photographs"] if set(there.table["reference_id"]) != set(photographs.ids) else []
    if differing:
        raise InputError(f"{out} holds stimuli made otherwise (other {name_ids(differing)}); choose another --out.")
