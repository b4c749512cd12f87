"""Networks of RobustBench that the table does not have, where the user's ``robustbench`` imports.

RobustBench builds them and reads their weights; they see pixels in [0, 1], which they normalize
themselves.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.errors import InputError, unknown_name
from neurometamer.reading import one_line
from neurometamer.zoo.table import LIBRARIES, ModelEntry, imagenet_classes
from stimuli_gen.photographs import Preprocessing

if TYPE_CHECKING:
    import torch

CORPORA = {"imagenet": 1000, "cifar10": 10, "cifar100": 100}
"""Data sets of RobustBench to their number of classes."""
THREATS = {
    "Linf": "adversarial",
    "L2": "adversarial",
    "corruptions": "corruptions",
    "corruptions_3d": "corruptions",
}
"""Threat models of RobustBench to kinds of training."""
OFFLINE = "NEUROMETAMER_OFFLINE"
_CIFAR_SIDE = 32
_CURES = {
    "robustbench": "which is not installed: pip install robustbench 'setuptools<80', and the "
    "module autoattack of github.com/fra31/auto-attack (robustbench 1.1.1 imports pkg_resources, "
    "which newer setuptools lack, and autoattack, which its dependency calls pyautoattack)",
    "pkg_resources": "which robustbench 1.1.1 imports: pip install 'setuptools<80'",
    "autoattack": "which robustbench 1.1.1 imports, but its dependency calls pyautoattack: install "
    "github.com/fra31/auto-attack",
}
"""Module that cannot be imported to what to do."""


def _robustbench(name: str, module: str) -> Any:
    """Import a module of RobustBench, or say what stops it."""
    try:
        return importlib.import_module(f"robustbench.{module}")
    except ImportError as error:
        missing = (error.name or "").partition(".")[0] or "robustbench"
        cure = _CURES.get(missing, f"which robustbench imports: {one_line(error)}; install it")
        raise InputError(f"robustbench:{name} needs the package {missing}, {cure}.") from error
    except Exception as error:  # another library's code may raise anything
        raise InputError(
            f"robustbench:{name}: the package robustbench cannot be imported: {one_line(error)}; "
            "mend its installation."
        ) from error


def leaderboard_entry(name: str) -> ModelEntry:
    """Make the entry of a network of RobustBench.

    Parameters
    ----------
    name : str
        ``CORPUS/THREAT/NAME``, for example ``cifar10/Linf/Carmon2019Unlabeled``.

    Returns
    -------
    ModelEntry
        Its stages are the units of depth; its weights are loaded by RobustBench.

    Raises
    ------
    InputError
        When the name is not of this form, RobustBench is not there or does not know it.
    """
    corpus, _, rest = name.partition("/")
    threat, _, network = rest.partition("/")
    if corpus not in CORPORA:
        raise unknown_name("data set of RobustBench", corpus, CORPORA)
    if threat not in THREATS:
        raise unknown_name("threat model of RobustBench", threat, THREATS)
    if not network or "/" in network:
        raise InputError(f"robustbench:{name} is not robustbench:CORPUS/THREAT/NAME; write that.")
    data = _robustbench(name, "data")
    enums = _robustbench(name, "model_zoo.enums")
    place = enums.BenchmarkDataset(corpus), enums.ThreatModel(threat)
    try:
        transforms = data.get_preprocessing(*place, network, None).transforms
    except KeyError as error:
        known = _robustbench(name, "model_zoo").model_dicts[place[0]][place[1]]
        raise unknown_name(f"network of RobustBench, {corpus}/{threat}", network, known) from error
    preprocessing, notes = read_transforms(transforms)
    return ModelEntry(
        library="robustbench",
        architecture=name,
        stages={},
        preprocessing=preprocessing,
        weights_tag=network,
        training=THREATS[threat],
        threat=threat,
        robustbench=name,
        license="",
        reference="RobustBench",
        notes=notes,
        classes=imagenet_classes if corpus == "imagenet" else tuple,
    )


def read_transforms(transforms: Sequence[Any]) -> tuple[Preprocessing, str]:
    """Read the preprocessing of torchvision's transforms.

    Parameters
    ----------
    transforms : sequence of object
        ``Resize``, ``CenterCrop`` and ``ToTensor``.

    Returns
    -------
    preprocessing : Preprocessing
        Of pixels in [0, 1]; 32 pixels where nothing says the size.
    notes : str
        What of it cannot be had; empty for nothing.

    Examples
    --------
    >>> from torchvision.transforms import CenterCrop, Resize
    >>> preprocessing, notes = read_transforms([Resize(256), CenterCrop(224)])
    >>> preprocessing.size, preprocessing.resize, notes
    ((224, 224), 256, '')
    """
    side, resize, interpolation = _CIFAR_SIDE, 0, "bilinear"
    for transform in transforms:
        kind = type(transform).__name__
        if kind == "Resize":
            size = transform.size
            resize = size if isinstance(size, int) else max(size)
            side = resize
            interpolation = getattr(transform.interpolation, "value", interpolation)
        elif kind == "CenterCrop":
            size = transform.size
            side = size if isinstance(size, int) else size[0]
    notes = "" if resize else f"resized to {side} pixels, where RobustBench only cuts"
    if side == _CIFAR_SIDE:
        notes = ""
    return Preprocessing(
        size=(side, side),
        resize=max(resize, side),
        interpolation=interpolation,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    ), notes


def build_leaderboard(name: str, **arguments: Any) -> torch.nn.Module:
    """Let RobustBench build a network and read its weights, downloaded once by RobustBench.

    Parameters
    ----------
    name : str
        See `leaderboard_entry`.
    **arguments : object
        Further arguments of ``robustbench.utils.load_model``.

    Returns
    -------
    torch.nn.Module
        With weights.

    Raises
    ------
    InputError
        When RobustBench is not there, or downloads are off and the weights are not here.
    """
    import torch

    corpus, threat, network = name.split("/")
    folder = Path(torch.hub.get_dir()) / "checkpoints" / "robustbench"
    file = folder / corpus / threat.removesuffix("_3d") / f"{network}.pt"
    if os.environ.get(OFFLINE, "") not in ("", "0") and not file.is_file():
        raise InputError(
            f"the weights of robustbench:{name} are not on this machine ({file}), and downloads "
            "are off; put them there."
        )
    load = _robustbench(name, "utils").load_model
    loaded: torch.nn.Module = load(
        model_name=network,
        model_dir=folder,
        dataset=corpus,
        threat_model=threat,
        **arguments,
    )
    return loaded


LIBRARIES["robustbench"] = build_leaderboard
