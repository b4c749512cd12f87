"""The Python twins of ``neurometamer stimuli``: photographs in, folders of images out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.arguments import checked
from neurometamer.commands.generators import only_asked
from neurometamer.commands.metamer_sets import (
    StageAsked,
    at_one_size,
    knows,
    read_stages,
    with_validity,
)
from neurometamer.commands.stimulus_folder import forget, kept_in, recorder, write_films
from neurometamer.commands.stimulus_options import read_start_images
from neurometamer.errors import DamagedFile, InputError, name_ids, unknown_name
from neurometamer.provenance import digest
from neurometamer.reading import Files
from neurometamer.resume import note_remade, writes_into
from stimuli_gen.photographs import read_images

if TYPE_CHECKING:
    import pandas as pd

    from neurometamer.zoo import Weights
    from stimuli_gen.models import StagedModel
    from stimuli_gen.nulls import NullDistribution
    from stimuli_gen.stimuli import StimulusSet
    from stimuli_gen.synthesis.loop import Pass

Progress = Callable[[int, int], None]
Watch = Callable[["Pass"], None]
GENERATORS = ("noise", "interference")
METHODS = ("gradient", "greedy")


@writes_into("out")
@checked
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
    mode: str = "exact",
    png16: bool = False,
    animate: bool = False,
    fresh: bool = False,
    progress: Progress | None = None,
    watch: Watch | None = None,
    bits: int | None = None,
    icc: str = "ignore",
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
        Hears (images done, images).
    watch : callable, optional
        Hears of each pass of the gradient loop, see `stimuli_gen.synthesis.loop.Pass`.
    bits : int, optional
        Of 16-bit photographs, see `stimuli_gen.load_photographs`.
    icc : {"ignore", "convert"}
        Color profiles of photographs, see there.
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
    from stimuli_gen.greedy import greedy_interference
    from stimuli_gen.stimuli import write_pictures, write_records
    from stimuli_gen.synthesis.constraints import digest_masks

    if kind not in GENERATORS:
        raise unknown_name("generator", kind, GENERATORS)
    method = options.pop("method", "gradient")
    if method not in METHODS or (kind == "noise" and method != "gradient"):
        raise unknown_name(
            f"method of {kind}", method, METHODS if kind == "interference" else METHODS[:1]
        )
    make: Callable[..., StimulusSet] = (
        adversarial_noise if kind == "noise" else adversarial_interference
    )
    make = greedy_interference if method == "greedy" else make
    network = load_model(model, weights=weights, device=device, seed=seed)
    photographs = read_images([images], network.preprocessing, bits=bits, icc=icc).select(kind="RE")
    out = Path(out)
    told = {name: value for name, value in options.items() if name != "progress_rule"}
    told["mask"] = None if options.get("mask") is None else digest_masks(options["mask"])
    told["progress"] = (
        None if options.get("progress_rule") is None else asdict(options["progress_rule"])
    )
    wishes = only_asked(make, mode=mode, on_step=watch, on_frame=recorder(out) if animate else None)
    _refuse_others(
        out,
        network.digest,
        photographs,
        {**told, "seed": seed, "method": method, "mode": mode},
        fresh,
    )
    if fresh:
        forget(out)
    made = make(
        network,
        photographs,
        seed=seed,
        batch_size=batch_size,
        resume=kept_in(out),
        progress=progress,
        **wishes,
        **options,
    )
    write_pictures(made, out, png16=png16)
    judged = confirm_saved(network, made, out)
    write_records(judged, out)
    if animate:
        write_films(out)
    return judged.table


@writes_into("out")
@checked
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
    mode: str = "exact",
    png16: bool = False,
    animate: bool = False,
    fresh: bool = False,
    progress: Progress | None = None,
    watch: Watch | None = None,
    bits: int | None = None,
    icc: str = "ignore",
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
    mode : {"exact", "fast"}
        Fast: cheaper arithmetic on the way, judged exactly. Of attacks.
    png16 : bool
        Also write 16-bit PNG files.
    animate : bool
        Keep frames in ``<out>/frames/<id>`` and write ``<out>/animation/<id>.gif``. Of attacks.
    fresh : bool
        Throw away finished and unfinished images of earlier runs in ``<out>/.finished`` instead of
        going on with them.
    progress : callable, optional
        Hears (images done, images).
    watch : callable, optional
        Hears of each pass of the gradient loop, see `stimuli_gen.synthesis.loop.Pass`.
    bits : int, optional
        Of 16-bit photographs, see `stimuli_gen.load_photographs`.
    icc : {"ignore", "convert"}
        Color profiles of photographs, see there.
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
    Finished images of an attack are kept in ``<out>/.finished``: the same call goes on where it was
    interrupted.
    """
    from neurometamer.zoo import load_model, model_entry
    from stimuli_gen.controls import CONTROLS, control_images
    from stimuli_gen.pgd import ATTACKS, attack_images, confirm_attacks
    from stimuli_gen.stimuli import write_pictures, write_records

    if kind not in {**CONTROLS, **ATTACKS}:
        raise unknown_name("control", kind, [*CONTROLS, *ATTACKS])
    photographs = read_images(
        [images], model_entry(model).preprocessing, bits=bits, icc=icc
    ).select(kind="RE")
    out = Path(out)
    judge: Callable[[StimulusSet], StimulusSet] | None = None
    if kind in CONTROLS:
        if animate or mode != "exact":
            raise InputError(
                f"{kind} images are made in one step: no animation and no mode; leave that out."
            )
        made = control_images(
            photographs, kind, levels=levels, seed=seed, progress=progress, **options
        )
        _refuse_other_controls(out, made, fresh)
    else:
        if len(levels) > 1:
            raise InputError(
                f"{kind} takes one level (its radius), not {len(levels)}; make a folder for each."
            )
        network = load_model(model, weights=weights, device=device, seed=seed)
        wishes = only_asked(
            attack_images, mode=mode, on_step=watch, on_frame=recorder(out) if animate else None
        )
        radius = levels[0] if levels else None
        if fresh:
            forget(out)
        made = attack_images(
            network,
            photographs,
            kind,
            radius=radius,
            seed=seed,
            batch_size=batch_size,
            resume=kept_in(out),
            progress=progress,
            **wishes,
            **options,
        )
        judge = partial(confirm_attacks, network, folder=out)
        _refuse_other_controls(out, made, fresh)
    write_pictures(made, out, png16=png16)
    judged = judge(made) if judge else made
    write_records(judged, out)
    if animate:
        write_films(out)
    return judged.table


def _made_before(out: Path, fresh: bool) -> StimulusSet | None:
    """Open the stimuli of an earlier call; None when there are none, or they are damaged and will be made again."""
    from stimuli_gen.stimuli import read_stimuli

    file = out / "stimuli.h5"
    if not file.is_file():
        return None
    try:
        return read_stimuli(out, in_memory=False)
    except InputError as error:
        if not (fresh or isinstance(error, DamagedFile)):
            raise InputError(
                f"{error} With --fresh, the stimuli in {out} are made anew."
            ) from error
        note_remade(file)
        return None


def _refuse_other_controls(out: Path, made: StimulusSet, fresh: bool) -> None:
    """Refuse a folder that holds other controls: other ids, settings, photographs or network."""
    there = _made_before(out, fresh)
    if there is None:
        return
    parts = ("settings", "model_digest", "references", "classes", "mask")
    same = all(there.provenance.get(name) == _as_read(made.provenance.get(name)) for name in parts)
    if there.ids != made.ids or not same:
        raise InputError(f"{out} holds other stimuli; choose another --out.")


def _as_read(value: Any) -> Any:
    """Give a value as JSON gives it back."""
    return json.loads(json.dumps(value))


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
    watch: Watch | None = None,
    bits: int | None = None,
    icc: str = "ignore",
    **options: Any,
) -> pd.DataFrame:
    """Make metamers of photographs for one network or a set, write them, and judge the written PNG files.

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
        Height and width in pixels that every network shall see; needed where networks of a set were
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
        Of everything random.
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
        Hears (images done, images).
    watch : callable, optional
        Hears of each pass of the gradient loop, see `stimuli_gen.synthesis.loop.Pass`.
    bits : int, optional
        Of 16-bit photographs, see `stimuli_gen.load_photographs`.
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
    matched = {one.model.name: list(one.stages) for one in matches}
    photographs = read_images([images], networks[0].preprocessing, bits=bits, icc=icc).select(
        kind="RE"
    )
    out = Path(out)
    first = (
        None if start_images is None else read_start_images(start_images, networks[0].preprocessing)
    )
    told = {
        name: value for name, value in options.items() if name not in ("stage_weights", "penalties")
    }
    told["penalties"] = [asdict(one) for one in options.get("penalties", ())]
    told["stage_weights"] = {one.model.name: list(one.weights) for one in matches}
    told["start_images"] = None if first is None else digest(first)
    settings = {**told, "preset": preset, "stages": matched, "seed": seed, "mode": mode}
    wishes = only_asked(
        model_metamers, mode=mode, on_step=watch, on_frame=recorder(out) if animate else None
    )
    _refuse_others(out, _digest_of_set(networks), photographs, settings, fresh)
    if fresh:
        forget(out)
    given = [read_null(one) for one in nulls]
    made = model_metamers(
        networks,
        photographs,
        stage=stages,
        preset=preset,
        seed=seed,
        batch_size=batch_size,
        start_images=first,
        resume=kept_in(out),
        progress=progress,
        **wishes,
        **only_asked(model_metamers, nulls=given),
        **options,
    )
    if first is not None:
        made = replace(made, provenance={**made.provenance, "start_images": told["start_images"]})
    write_pictures(made, out, png16=png16)
    judged = confirm_metamers(
        networks, made, photographs, out, **only_asked(confirm_metamers, nulls=given)
    )
    judged = with_validity(judged, networks, matches, photographs, out, given, batch_size)
    write_records(judged, out)
    if animate:
        write_films(out)
    return judged.table


def _digest_of_set(networks: Sequence[StagedModel]) -> str:
    return digest([one.digest for one in networks])


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
    weights : str
        See `neurometamer.zoo.load_model`.
    image_size : int, optional
        Height and width in pixels that the network shall see, as for the metamers; by default its
        own.
    device : str
        See `neurometamer.zoo.load_model`.
    batch_size : int
        Images at once.
    seed : int
        Of the draw, and of random weights.
    progress : callable, optional
        Hears (images run and pairs compared so far, in all).
    bits : int, optional
        Of 16-bit photographs, see `stimuli_gen.load_photographs`.
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


def _refuse_others(
    out: Path, model_digest: str, photographs: StimulusSet, settings: Mapping[str, Any], fresh: bool
) -> None:
    """Refuse a folder that holds images made otherwise, before anything is computed or written over."""
    there = _made_before(out, fresh)
    if there is None:
        return
    made = {
        "method": "gradient",
        "ball": "none",
        "radius": None,
        "mask": None,
        "progress": None,
        "mode": "exact",
        "start_images": there.provenance.get("start_images"),
        **there.provenance.get("settings", {}),
    }
    differing = [
        name for name, value in settings.items() if name in made and made[name] != _as_read(value)
    ]
    differing += (
        ["model or weights"] if there.provenance.get("model_digest") != model_digest else []
    )
    differing += ["photographs"] if set(there.table["reference_id"]) != set(photographs.ids) else []
    if differing:
        raise InputError(
            f"{out} holds stimuli made otherwise (other {name_ids(differing)}); choose another "
            "--out."
        )
