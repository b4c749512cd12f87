"""The Python twins of ``neurometamer stimuli``: photographs in, folders of images out."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.arguments import checked
from neurometamer.errors import DamagedFile, InputError, name_ids, unknown_name
from neurometamer.resume import note_remade, writes_into
from neurometamer.run_options import RunOptions
from stimuli_gen.photographs import read_images

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from stimuli_gen.stimuli import StimulusSet
    from stimuli_gen.synthesis.loop import Pass

Progress = Callable[[int, int], None]
Watch = Callable[["Pass"], None]
GENERATORS = ("noise", "interference")
METHODS = ("gradient", "greedy")
UNFINISHED = ".state.h5"


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
    >>> from neurometamer import InputError, make_stimuli
    >>> try:
    ...     make_stimuli("metamers", model="alexnet", images="photos", out="images")
    ... except InputError as error:
    ...     print(error)
    unknown generator 'metamers'. Known: noise, interference
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
    given_settings = {name: value for name, value in options.items() if name != "progress_rule"}
    given_settings["mask"] = None if options.get("mask") is None else digest_masks(options["mask"])
    given_settings["progress"] = (
        None if options.get("progress_rule") is None else asdict(options["progress_rule"])
    )
    refuse_other_stimuli(
        out,
        network.digest,
        photographs,
        {**given_settings, "seed": seed, "method": method, "mode": mode},
        fresh,
    )
    if fresh:
        forget(out)
    made = make(
        network,
        photographs,
        seed=seed,
        run=RunOptions(
            batch_size=batch_size,
            mode=mode,
            resume=kept_in(out),
            progress=progress,
            on_step=watch,
            on_frame=recorder(out) if animate else None,
        ),
        **generator_options(options),
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
        Seed of all random numbers.
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
        Called with (images done, images).
    watch : callable, optional
        Called with each pass of the gradient loop, see `stimuli_gen.synthesis.loop.Pass`.
    bits : int, optional
        Bits of data of 16-bit photographs, see `stimuli_gen.load_photographs`.
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

    Examples
    --------
    >>> from neurometamer import InputError, make_controls
    >>> try:
    ...     make_controls("grayscales", images="photos", out="controls")
    ... except InputError as error:
    ...     print(str(error).partition("?")[0])
    unknown control 'grayscales'; did you mean 'grayscale'
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
        radius = levels[0] if levels else None
        if fresh:
            forget(out)
        made = attack_images(
            network,
            photographs,
            kind,
            radius=radius,
            seed=seed,
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
        judge = partial(confirm_attacks, network, folder=out)
        _refuse_other_controls(out, made, fresh)
    write_pictures(made, out, png16=png16)
    judged = judge(made) if judge else made
    write_records(judged, out)
    if animate:
        write_films(out)
    return judged.table


def _made_before(out: Path, fresh: bool) -> StimulusSet | None:
    """Open the stimuli of an earlier call.

    None stands for a folder without stimuli, or with damaged ones that will be made again.
    """
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
    names = [file.name for file in kept_in(out).glob("*.h5")]
    unfinished = sum(name.endswith(UNFINISHED) for name in names)
    return len(names) - unfinished, unfinished


def forget(out: str | Path) -> None:
    """Throw away what earlier runs left, so that every image is made again.

    Parameters
    ----------
    out : path-like
        Folder of stimuli; what it holds beside is left alone.
    """
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


def write_films(out: str | Path, **settings: Any) -> list[Path]:
    """Write an animation of each image whose frames were kept.

    Parameters
    ----------
    out : path-like
        Holds ``frames/<id>/<step>.png``; gets ``animation/<id>.gif``.
    **settings : object
        Settings of `stimuli_gen.animation.write_animation`.

    Returns
    -------
    list of Path
        The files.
    """
    from stimuli_gen.animation import animate_folder

    return list(animate_folder(Path(out) / "frames", Path(out) / "animation", **settings).values())
