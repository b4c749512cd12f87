"""The commands ``neurometamer stimuli``: photographs in, folders of images out."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from neurometamer.arguments import KeywordsOf, checked
from neurometamer.commands.options import StimulusFileOptions, check_before_loading
from neurometamer.errors import DamagedFile, InputError, name_ids, unknown_name
from neurometamer.resume import note_remade, writes_into
from neurometamer.run_options import RunOptions
from neurometamer.zoo import load_model, model_entry
from stimuli_gen.photographs import Preprocessing, read_images
from stimuli_gen.stimuli import StimulusSet, read_stimuli, write_pictures, write_records

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

LOG = logging.getLogger(__name__)
GENERATORS = ("noise", "interference")
METHODS = ("gradient", "greedy")
UNFINISHED = ".state.h5"


@checked
def stimuli_noise(
    *,
    images: str | Path,
    out: str | Path,
    model: str,
    weights: str = "default",
    target: str = "own",
    probability: float = 0.99,
    nguyen: bool = False,
    decay: float = 0.01,
    seed: int = 0,
    files: StimulusFileOptions | None = None,
    run: RunOptions | None = None,
    **options: Annotated[
        Any,
        KeywordsOf(
            "stimuli_gen.adversarial:adversarial_noise",
            ("max_steps", "step_size", "pull", "noise_sd"),
        ),
    ],
) -> pd.DataFrame:
    """Make adversarial noise (AN): noise to people, the photograph's class to the network.

    Parameters
    ----------
    images : path-like
        Folder of photographs (folders inside it are categories), or a CSV with the column file and,
        where wanted, id, category, bits (of 16-bit files) and icc (convert: color profiles to
        sRGB).
    out : path-like
        Output folder for ``png/<id>.png``, ``stimuli.h5`` and ``stimuli.csv``.
    model : str
        Name of the network, see ``neurometamer models list``.
    weights : str
        ``"default"`` (ImageNet), ``"random"`` (untrained), or a file.
    target : str
        own (the network's class of the photograph), a class, given (column target), or a CSV (id,
        target).
    probability : float
        Stop when the target has this probability on the 8-bit image, in (0, 1).
    nguyen : bool
        Whether to take steps as Nguyen et al. (2015) did: on the probability, with decay, and
        without a pull.
    decay : float
        With `nguyen`, share of the distance to the mean image that is lost at each step.
    seed : int
        Seed of all random numbers.
    files : StimulusFileOptions, optional
        How photographs are read, and what is written.
    run : RunOptions, optional
        Device, number of images at a time, mode and callback for progress.
    **options : object
        Other settings of `stimuli_gen.adversarial_noise`.

    Returns
    -------
    pandas.DataFrame
        The table that was written, one row an image.

    Raises
    ------
    InputError
        When the input cannot be used, or the folder holds images made otherwise.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> try:
    ...     stimuli_noise(images="photos", out="images", model="alexnett")
    ... except InputError as error:
    ...     print(str(error).partition("?")[0])
    unknown model 'alexnett'; did you mean 'alexnet'
    """
    if nguyen:
        from stimuli_gen.synthesis.objectives import Progress

        if "step_size" in options:
            raise InputError(
                f"step_size is {options['step_size']:g}, but nguyen sets the steps; leave out one."
            )
        options["objective"] = "probability"
        options["pull"] = 0.0
        options["progress_rule"] = Progress(decay=decay)
    return make_stimuli(
        "noise",
        model=model,
        images=images,
        out=out,
        weights=weights,
        seed=seed,
        files=files,
        run=run,
        target=target,
        confidence=probability,
        **options,
    )


@checked
def stimuli_interference(
    *,
    images: str | Path,
    out: str | Path,
    model: str,
    weights: str = "default",
    target: str = "random",
    method: str = "gradient",
    probability: float | None = None,
    mask: str | Path | None = None,
    seed: int = 0,
    files: StimulusFileOptions | None = None,
    run: RunOptions | None = None,
    **options: Annotated[
        Any,
        KeywordsOf(
            "stimuli_gen.adversarial:adversarial_interference",
            ("max_steps", "step_size", "pull"),
        ),
        KeywordsOf("stimuli_gen.synthesis.constraints:Limits", ("ball", "radius")),
        KeywordsOf(
            "stimuli_gen.greedy:greedy_interference",
            ("max_tries", "amplitude", "shared_channels"),
        ),
    ],
) -> pd.DataFrame:
    """Make adversarial interference (AI): the photograph to people, a wrong class to the network.

    Parameters
    ----------
    images : path-like
        Folder of photographs (folders inside it are categories), or a CSV with the column file and,
        where wanted, id, category, bits (of 16-bit files) and icc (convert: color profiles to
        sRGB).
    out : path-like
        Output folder for ``png/<id>.png``, ``stimuli.h5`` and ``stimuli.csv``.
    model : str
        Name of the network, see ``neurometamer models list``.
    weights : str
        ``"default"`` (ImageNet), ``"random"`` (untrained), or a file.
    target : str
        random, least_likely, another_category, a class, given (column target), or a CSV (id,
        target); never the network's own class of the photograph.
    method : str
        gradient, or greedy (random search, Zhang et al. 2021).
    probability : float, optional
        Stop when the target has this probability on the 8-bit image, in (0, 1); by default 0.99,
        or 0.5 with the method greedy.
    mask : path-like, optional
        Image file: only its light pixels may change.
    seed : int
        Seed of all random numbers.
    files : StimulusFileOptions, optional
        How photographs are read, and what is written.
    run : RunOptions, optional
        Device, number of images at a time, mode and callback for progress.
    **options : object
        Other settings of `stimuli_gen.adversarial_interference`, or of
        `stimuli_gen.greedy_interference`.

    Returns
    -------
    pandas.DataFrame
        The table that was written, one row an image.

    Raises
    ------
    InputError
        When the input cannot be used, or the folder holds images made otherwise.

    Examples
    --------
    >>> from neurometamer import InputError
    >>> try:
    ...     stimuli_interference(images="photos", out="images", model="alexnet", method="greedyy")
    ... except InputError as error:
    ...     print(str(error).partition("?")[0])
    unknown method of interference 'greedyy'; did you mean 'greedy'
    """
    if probability is not None:
        options["confidence"] = probability
    if mask is not None:
        from stimuli_gen.synthesis.constraints import read_mask_file

        options["mask"] = read_mask_file(mask)
    return make_stimuli(
        "interference",
        model=model,
        images=images,
        out=out,
        weights=weights,
        seed=seed,
        files=files,
        run=run,
        target=target,
        method=method,
        **options,
    )


@writes_into("out")
@checked
def make_stimuli(
    kind: str,
    *,
    model: str,
    images: str | Path,
    out: str | Path,
    weights: str = "default",
    seed: int = 0,
    files: StimulusFileOptions | None = None,
    run: RunOptions | None = None,
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
    weights : str
        ``"default"`` (ImageNet), ``"random"`` (untrained), or a file.
    seed : int
        Seed of all random numbers.
    files : StimulusFileOptions, optional
        How photographs are read, and what is written.
    run : RunOptions, optional
        Device, number of images at a time, mode and callback for progress.
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

    Examples
    --------
    >>> from neurometamer import InputError
    >>> from neurometamer.commands import make_stimuli
    >>> try:
    ...     make_stimuli("metamers", model="alexnet", images="photos", out="images")
    ... except InputError as error:
    ...     print(error)
    unknown generator 'metamers'. Known: noise, interference
    """
    from stimuli_gen.adversarial import adversarial_interference, adversarial_noise, confirm_saved
    from stimuli_gen.greedy import greedy_interference
    from stimuli_gen.synthesis.constraints import digest_masks

    if kind not in GENERATORS:
        raise unknown_name("generator", kind, GENERATORS)
    method = options.pop("method", "gradient")
    methods = METHODS if kind == "interference" else METHODS[:1]
    if method not in methods:
        raise unknown_name(f"method of {kind}", method, methods)
    make: Callable[..., StimulusSet] = adversarial_noise
    if kind == "interference":
        make = greedy_interference if method == "greedy" else adversarial_interference
    run = run or RunOptions()
    files = files or StimulusFileOptions()
    out = Path(out)
    check_before_loading([model], weights, [images], files)
    network = load_model(model, weights=weights, device=run.device, seed=seed)
    photographs = read_photographs(images, network.preprocessing, files)
    mask, progress_rule = options.get("mask"), options.get("progress_rule")
    settings = {name: value for name, value in options.items() if name != "progress_rule"}
    settings["mask"] = None if mask is None else digest_masks(mask)
    settings["progress"] = None if progress_rule is None else asdict(progress_rule)
    settings |= {"seed": seed, "method": method, "mode": run.mode}
    refuse_other_stimuli(out, network.digest, photographs, settings, files.fresh)
    if files.fresh:
        forget(out)
    made = make(
        network,
        photographs,
        seed=seed,
        run=keeping(run, out, files),
        **generator_options(options),
    )
    return _write_stimuli(made, out, files, partial(confirm_saved, network))


def read_photographs(
    images: str | Path, preprocessing: Preprocessing, files: StimulusFileOptions
) -> StimulusSet:
    """Read the photographs that images are made of.

    Parameters
    ----------
    images : path-like
        Folder of photographs, or CSV with the column ``file``.
    preprocessing : Preprocessing
        Preprocessing of the network.
    files : StimulusFileOptions
        How photographs are read.

    Returns
    -------
    StimulusSet
        Stimuli of the kind RE.
    """
    stimuli = read_images(
        [images],
        preprocessing,
        bits=files.bits,
        icc=files.icc,
    )
    return stimuli.select(kind="RE")


def keeping(run: RunOptions, out: Path, files: StimulusFileOptions) -> RunOptions:
    """Let a generator keep finished images, and frames where they are asked for.

    Parameters
    ----------
    run : RunOptions
        How the command is run.
    out : Path
        Folder of stimuli.
    files : StimulusFileOptions
        What is written.

    Returns
    -------
    RunOptions
        For the generator.
    """
    on_frame = recorder(out) if files.animate else None
    return replace(run, resume=kept_in(out), on_frame=on_frame)


def _write_stimuli(
    made: StimulusSet,
    out: Path,
    files: StimulusFileOptions,
    confirm: Callable[[StimulusSet, Path], StimulusSet] | None,
) -> pd.DataFrame:
    """Write images, judge the files, write the table, and give it."""
    write_pictures(made, out, png16=files.png16)
    judged = made if confirm is None else confirm(made, out)
    write_records(judged, out)
    if files.animate:
        write_films(out)
    return judged.table


@writes_into("out")
@checked
def stimuli_control(
    control: str,
    *,
    images: str | Path,
    out: str | Path,
    model: str = "efficientnet_lite0",
    weights: str = "default",
    levels: Sequence[float] = (),
    seed: int = 0,
    files: StimulusFileOptions | None = None,
    run: RunOptions | None = None,
    **options: Annotated[Any, KeywordsOf("stimuli_gen.pgd:attack_images", ("target", "steps"))],
) -> pd.DataFrame:
    """Make control images of photographs and write them.

    They are random vectors, noise, blur, grayscale, scrambled phase, or PGD within a ball.

    Parameters
    ----------
    control : str
        Control, or attack (PGD), one of `stimuli_gen.CONTROLS` and `stimuli_gen.ATTACKS`.
    images : path-like
        Folder of photographs (folders inside it are categories), or a CSV with the column file and,
        where wanted, id, category, bits and icc.
    out : path-like
        Folder for the images and their table (`stimuli_gen.write_stimuli`).
    model : str
        Network whose input size and cut the photographs get, and which PGD attacks.
    weights : str
        ``"default"`` (ImageNet), ``"random"`` (untrained), or a file; of PGD.
    levels : sequence of float
        How strong: a norm (pixels in [0, 1]), an SSNR, or the sigma of a blur in pixels; of PGD one
        radius. The control's default when empty.
    seed : int
        Seed of all random numbers.
    files : StimulusFileOptions, optional
        How photographs are read, and what is written; frames and 16-bit files of PGD only.
    run : RunOptions, optional
        Device, number of images at a time, mode and callback for progress; mode of PGD only.
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

    Examples
    --------
    >>> from neurometamer import InputError
    >>> from neurometamer.commands import stimuli_control
    >>> try:
    ...     stimuli_control("grayscales", images="photos", out="controls")
    ... except InputError as error:
    ...     print(str(error).partition("?")[0])
    unknown control 'grayscales'; did you mean 'grayscale'
    """
    from stimuli_gen.controls import CONTROLS, control_images
    from stimuli_gen.pgd import ATTACKS, attack_images, confirm_attacks

    if control not in {**CONTROLS, **ATTACKS}:
        raise unknown_name("control", control, [*CONTROLS, *ATTACKS])
    run = run or RunOptions()
    files = files or StimulusFileOptions()
    out = Path(out)
    photographs = read_photographs(images, model_entry(model).preprocessing, files)
    if control in CONTROLS:
        if files.animate or run.mode != "exact":
            raise InputError(
                f"{control} images are made in one step: no animation and no mode; leave that out."
            )
        made = control_images(
            photographs,
            control,
            levels=levels,
            seed=seed,
            progress=run.progress,
            **options,
        )
        _refuse_other_controls(out, made, files.fresh)
        return _write_stimuli(made, out, files, None)
    if len(levels) > 1:
        raise InputError(
            f"{control} takes one level (its radius), not {len(levels)}; make a folder for each."
        )
    network = load_model(model, weights=weights, device=run.device, seed=seed)
    if files.fresh:
        forget(out)
    made = attack_images(
        network,
        photographs,
        control,
        radius=levels[0] if levels else None,
        seed=seed,
        run=keeping(run, out, files),
        **options,
    )
    _refuse_other_controls(out, made, files.fresh)
    return _write_stimuli(made, out, files, partial(confirm_attacks, network))


def _made_before(out: Path, fresh: bool) -> StimulusSet | None:
    """Open the stimuli of an earlier call.

    None stands for a folder without stimuli, or with damaged ones that will be made again.
    """
    file = out / "stimuli.h5"
    if not file.is_file():
        return None
    try:
        return read_stimuli(out, in_memory=False)
    except InputError as error:
        if not (fresh or isinstance(error, DamagedFile)):
            raise InputError(
                f"{error} With --fresh, the stimuli in {out} are made again."
            ) from error
        note_remade(file)
        return None


def _refuse_other_controls(out: Path, made: StimulusSet, fresh: bool) -> None:
    """Refuse a folder that holds other controls: other ids, settings, photographs or network."""
    earlier = _made_before(out, fresh)
    if earlier is None:
        return
    differing = [] if earlier.ids == made.ids else ["ids"]
    for name in ("settings", "model_digest", "references", "classes", "mask"):
        if earlier.provenance.get(name) != _as_read(made.provenance.get(name)):
            differing.append(name)
    if differing:
        raise InputError(
            f"{out} holds other stimuli (other {name_ids(differing)}); choose another --out."
        )


def _as_read(value: Any) -> Any:
    """Give a value as JSON gives it back."""
    return json.loads(json.dumps(value))


def refuse_other_stimuli(
    out: Path, model_digest: str, photographs: StimulusSet, settings: Mapping[str, Any], fresh: bool
) -> None:
    """Refuse a folder that holds images made otherwise.

    This comes before anything is computed or written over.

    Parameters
    ----------
    out : Path
        Folder of stimuli.
    model_digest : str
        Digest of the network, or of a set of networks.
    photographs : StimulusSet
        Photographs that the images are made of.
    settings : mapping
        Settings of the generator.
    fresh : bool
        Whether damaged or unreadable stimuli are made again instead of refused.

    Raises
    ------
    InputError
        When settings, network or photographs differ; the message names what differs.
    """
    earlier = _made_before(out, fresh)
    if earlier is None:
        return
    made = {
        "method": "gradient",
        "ball": "none",
        "radius": None,
        "mask": None,
        "progress": None,
        "mode": "exact",
        "start_images": earlier.provenance.get("start_images"),
        **earlier.provenance.get("settings", {}),
    }
    differing = []
    for name, value in settings.items():
        if name in made and made[name] != _as_read(value):
            differing.append(name)
    if earlier.provenance.get("model_digest") != model_digest:
        differing.append("model or weights")
    if set(earlier.table["reference_id"]) != set(photographs.ids):
        differing.append("photographs")
    if differing:
        raise InputError(
            f"{out} holds stimuli made otherwise (other {name_ids(differing)}); choose another "
            "--out."
        )


def generator_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Put the options of a command together as the generators of adversarial images take them.

    Parameters
    ----------
    options : mapping
        Options by name, one each: among others ``ball``, ``radius``, ``mask`` and
        ``progress_rule``.

    Returns
    -------
    dict
        The same, with limits in one `stimuli_gen.Limits`.
    """
    from stimuli_gen.synthesis.constraints import Limits

    ready, limits = {}, {}
    for name, value in options.items():
        if name in ("ball", "radius", "mask"):
            limits[name] = value
        elif name != "progress_rule":
            ready[name] = value
    if limits:
        ready["limits"] = Limits(**limits)
    if options.get("progress_rule") is not None:
        ready["step_rule"] = options["progress_rule"]
    return ready


def kept_in(out: str | Path) -> Path:
    """Name the folder of finished and unfinished images.

    Parameters
    ----------
    out : path-like
        Folder of stimuli.

    Returns
    -------
    Path
        Not created.
    """
    return Path(out) / ".finished"


def count_kept(out: str | Path) -> tuple[int, int]:
    """Count the images that earlier runs left, whatever their settings.

    Parameters
    ----------
    out : path-like
        Folder of stimuli.

    Returns
    -------
    n_finished, n_unfinished : int
        Files.
    """
    n_files = 0
    n_unfinished = 0
    for file in kept_in(out).glob("*.h5"):
        n_files += 1
        n_unfinished += file.name.endswith(UNFINISHED)
    return n_files - n_unfinished, n_unfinished


def forget(out: str | Path) -> None:
    """Throw away what earlier runs left, so that every image is made again.

    Parameters
    ----------
    out : path-like
        Folder of stimuli; what it holds beside is left alone.
    """
    n_finished, n_unfinished = count_kept(out)
    if n_finished or n_unfinished:
        LOG.info(
            "--fresh: %d finished and %d unfinished image(s) in %s are thrown away.",
            n_finished,
            n_unfinished,
            kept_in(out),
        )
    for file in kept_in(out).glob("*.h5"):
        file.unlink()


def recorder(out: str | Path) -> Callable[[str, int, np.ndarray], None]:
    """Keep the frames of a synthesis as PNG files.

    Parameters
    ----------
    out : path-like
        Gets ``frames/<id>/<step>.png``.

    Returns
    -------
    callable
        For ``on_frame`` of a generator. It starts again with an image that starts again.
    """
    from stimuli_gen.animation import frame_recorder

    return frame_recorder(Path(out) / "frames")


def write_films(out: str | Path) -> list[Path]:
    """Write an animation of each image whose frames were kept.

    Parameters
    ----------
    out : path-like
        Holds ``frames/<id>/<step>.png``; gets ``animation/<id>.gif``.

    Returns
    -------
    list of Path
        The files.
    """
    from stimuli_gen.animation import animate_folder

    folder = Path(out)
    files = animate_folder(folder / "frames", folder / "animation")
    return list(files.values())
