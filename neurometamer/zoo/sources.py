"""Where networks come from: the table, a library by name, RobustBench, a file of a few lines.

Every function and command that takes the name of a network takes any of these names:
``resnet50`` (`neurometamer.zoo.MODELS`), ``timm:NAME``, ``torchvision:NAME``,
``robustbench:CORPUS/THREAT/NAME``, and the path of a TOML file.
"""

from __future__ import annotations

import copy
import difflib
import importlib
import importlib.util
import sys
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.arguments import checked
from neurometamer.errors import InputError, name_ids, unknown_name
from neurometamer.reading import one_line, reading
from neurometamer.zoo.leaderboard import leaderboard_entry
from neurometamer.zoo.table import (
    ENTRY_KEYS,
    GREY,
    LIBRARIES,
    MODEL_SETS,
    MODELS,
    PIXELS,
    ModelEntry,
    entry_of,
    imagenet_classes,
)
from stimuli_gen.photographs import INTERPOLATIONS, Preprocessing

if TYPE_CHECKING:
    import torch

OWN_NETWORKS = (
    "in Python, stimuli_gen.stage_model makes a model of any torch module (torchvision, timm, "
    "your own) that the functions of stimuli_gen and neurometamer take"
)
"""Advice about networks that are not in the table."""
OTHER_NAMES = (
    "timm:NAME and torchvision:NAME are the networks of these libraries, FILE.toml is your own"
)
N_IMAGENET = 1000
_OWN_PIXELS = {"transform_input": True, "init_weights": False}
_WITH_WEIGHTS = {"googlenet": _OWN_PIXELS, "inception_v3": _OWN_PIXELS}
"""Arguments that torchvision itself adds where networks have its weights: these go from ImageNet's
mean and std to their own."""
_LANGUAGE = ("clip", "siglip", "vit_pe")
"""Parts of the names of timm's networks that give an embedding for captions."""
_OWN_KEYS = ("name", "import", "weights", "class_names")
_WHAT_IS_BUILT = frozenset(("import", "library", "architecture", "arguments"))


# ------------------------------------------------------------------------------------ the libraries


def _with_known_stages(entry: ModelEntry) -> ModelEntry:
    """Give a network the stages of the table, where that has the architecture."""
    for known in MODELS.values():
        if (known.library, known.architecture) == (entry.library, entry.architecture):
            if known.arguments == entry.arguments:
                entry = replace(entry, parameters=known.parameters)
            entry = replace(entry, depths=known.depths, cites=known.cites[:1])
            return replace(entry, stages=known.stages)
    return entry


def _timm_entry(name: str) -> ModelEntry:
    """Read what timm knows of a network; a tag of weights may stand behind a dot."""
    try:
        timm = importlib.import_module("timm")
    except ImportError:
        raise InputError(
            f"timm:{name} needs the package timm; install it with: pip install timm"
        ) from None
    architecture = name.partition(".")[0]
    if not timm.is_model(architecture):
        near = difflib.get_close_matches(architecture, timm.list_models(), n=3, cutoff=0.6)
        raise InputError(
            f"timm has no network '{architecture}'; near are: {', '.join(near) or 'none'}. "
            "timm.list_models() lists all."
        )
    try:
        config = timm.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        tags = timm.list_pretrained(f"{architecture}.*")
        raise InputError(
            f"timm has no weights '{name}'; it has {name_ids(tags) or 'none of this network'}."
        ) from None
    _, height, width = config.input_size
    interpolation, notes = config.interpolation, ""
    if interpolation not in INTERPOLATIONS:
        interpolation, notes = "bicubic", f"resized bicubic in place of {config.interpolation}"
    if config.crop_mode != "center":
        notes = "; ".join(
            filter(None, [notes, f"its center is seen, not all ({config.crop_mode})"])
        )
    url = file = ""
    if config.hf_hub_id:
        tag = config.hf_hub_id.partition("/")[2]
        file = f"{tag}.safetensors"
        url = f"https://huggingface.co/{config.hf_hub_id}/resolve/main/model.safetensors"
    is_usual = config.num_classes == N_IMAGENET
    is_embedding, training = not config.num_classes, "standard"
    if not is_usual and any(part in architecture for part in _LANGUAGE):
        is_embedding, training = True, "language"
    elif is_embedding:
        training = "self-supervised"
    entry = ModelEntry(
        library="timm",
        architecture=architecture,
        stages={},
        preprocessing=Preprocessing(
            size=(height, width),
            resize=max(int(max(height, width) / config.crop_pct), height, width),
            interpolation=interpolation,
            mean=config.mean,
            std=config.std,
        ),
        weights_tag=config.tag,
        weights_file=file,
        weights_url=url,
        license=config.license or "",
        reference=config.paper_name or "",
        notes=notes,
        training=training,
        output="embedding" if is_embedding else "classes",
        arguments={} if is_usual else {"num_classes": config.num_classes},
        classes=imagenet_classes if is_usual else tuple,
    )
    return _with_known_stages(entry)


def _torchvision_entry(name: str) -> ModelEntry:
    """Read what torchvision knows of a network; a tag of weights may stand behind a dot."""
    models = importlib.import_module("torchvision.models")
    architecture, _, tag = name.partition(".")
    classifiers = models.list_models(module=models)
    if architecture not in classifiers:
        near = difflib.get_close_matches(architecture, classifiers, n=3, cutoff=0.6)
        raise InputError(
            f"torchvision has no classifier '{architecture}'; near are: "
            f"{', '.join(near) or 'none'}. torchvision.models.list_models() lists all."
        )
    known = models.get_model_weights(architecture)
    if tag and tag not in known.__members__:
        raise unknown_name(f"weights of torchvision:{architecture}", tag, known.__members__)
    weights = known[tag] if tag else known.DEFAULT
    cut = weights.transforms()
    (side,), (resize,) = cut.crop_size, cut.resize_size
    file = weights.url.rpartition("/")[2]
    digest = file.rpartition(".")[0].rpartition("-")[2]
    entry = ModelEntry(
        library="torchvision",
        architecture=architecture,
        stages={},
        preprocessing=Preprocessing(
            size=(side, side),
            resize=resize,
            interpolation=cut.interpolation.value,
            mean=tuple(cut.mean),
            std=tuple(cut.std),
        ),
        parameters=weights.meta["num_params"],
        weights_tag=weights.name,
        weights_file=file,
        weights_url=weights.url,
        sha256=digest,
        license="BSD-3-Clause (torchvision)",
        reference=weights.meta.get("recipe", ""),
        arguments=_WITH_WEIGHTS.get(architecture, {}),
    )
    if architecture == "googlenet":  # torchvision's number is without auxiliary classifiers
        entry = replace(entry, parameters=None)
    return _with_known_stages(entry)


def _robustbench_entry(name: str) -> ModelEntry:
    """Find a network of RobustBench in the table, or in the user's robustbench."""
    known = {entry.robustbench: entry for entry in MODELS.values() if entry.robustbench}
    if name in known:
        return known[name]
    try:
        return leaderboard_entry(name)
    except InputError as error:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.9)
        hint = f" Did you mean {near[0]}?" if near else ""
        text = str(error).rstrip(".")
        raise InputError(f"{text}.{hint} The table has {name_ids(known)}.") from error


SOURCES: Mapping[str, Callable[[str], ModelEntry]] = {
    "timm": _timm_entry,
    "torchvision": _torchvision_entry,
    "robustbench": _robustbench_entry,
}
"""What stands before the colon in the name of a network, to what reads its entry."""


# ----------------------------------------------------------------------------------- a file of TOML


@checked
def read_own_network(path: str | Path) -> tuple[str, ModelEntry]:
    r"""Read a network that a user describes in a few lines of TOML.

    Parameters
    ----------
    path : path-like
        A file with the keys of an entry of the table (`ModelEntry`; ``mean`` and ``std``, or
        ``pixels``: ``"imagenet"``, ``"half"``, ``"raw"`` or ``"caffe"``; ``size``, ``resize`` and
        ``interpolation``), all optional, and

        - ``import``: ``"MODULE:NAME"`` or ``"FILE.py:NAME"`` (a file beside the TOML file), a
          function or class that builds the network, with ``arguments``; or ``library`` and
          ``architecture``; or ``like``, the name of another network, whose entry is taken where the
          file says nothing;
        - ``weights``: a file beside the TOML file; where ``sha256`` is given, too, its digest has
          to be that; ``trained_on`` names the images that they were trained on;
        - ``color``: ``"gray"`` where the network sees luminance only, wherever it is used;
        - ``name``: name in tables, by default that of the file;
        - ``class_names``: ``"imagenet"``, or a list, empty for a network without classes; by
          default those of ``like``, or, where the output is a row, numbers.

    Returns
    -------
    name : str
        Name of the network.
    entry : ModelEntry
        Its entry; without ``stages`` these are the units of depth.

    Raises
    ------
    InputError
        When the file is no TOML, has unknown keys or values that make no sense, or does not say
        what to build.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     file = Path(folder) / "mine.toml"
    ...     _ = file.write_text('like = "resnet18"\nmean = [0.5, 0.5, 0.5]')
    ...     name, entry = read_own_network(file)
    >>> name, entry.architecture, entry.preprocessing.mean
    ('mine', 'resnet18', (0.5, 0.5, 0.5))
    """
    return _read_own(Path(path), ())


def _read_own(path: Path, after: tuple[Path, ...]) -> tuple[str, ModelEntry]:
    """Read a user's network; `after` are the files that are like it."""
    if path.resolve() in after:
        raise InputError(f"{path} is like itself ({name_ids(after)}); name another network there.")
    with reading(path, "a TOML file") as file:
        settings = tomllib.loads(file.read_text(encoding="utf-8"))
    known = (*_OWN_KEYS, *ENTRY_KEYS)
    for key in settings:
        if key not in known:
            error = unknown_name("key", key, known)
            raise InputError(f"{path}: {error}")
    try:
        entry = _own_entry(settings, path, (*after, path.resolve()))
    except InputError:
        raise
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path}: a value is of another kind than its key wants ({error}); see "
            "neurometamer.zoo.read_own_network."
        ) from error
    return str(settings.get("name", path.stem)), entry


def _own_entry(settings: Mapping[str, Any], path: Path, read: tuple[Path, ...]) -> ModelEntry:
    """Make the entry of a user's network."""
    given = {key: value for key, value in settings.items() if key in ENTRY_KEYS}
    like = given.pop("like", None)
    more: dict[str, Any] = {}
    if like is not None:
        base = _base_of(str(like), path, read)
        inherited = _inherited(base, settings)
        given = {**inherited, **given}
        more["classes"] = base.classes
    if "import" in settings:
        module, colon, name = str(settings["import"]).rpartition(":")
        if not colon:
            raise InputError(
                f"{path}: import is '{settings['import']}'; write MODULE:NAME or FILE.py:NAME."
            )
        if module.endswith(".py"):
            module = str((path.parent / module).absolute())
        given |= {"library": "python", "architecture": f"{module}:{name}"}
    if not {"library", "architecture"} <= given.keys():
        raise InputError(
            f'{path} does not say what to build; give import = "MODULE:NAME", or library and '
            "architecture, or like."
        )
    if given["library"] not in LIBRARIES:
        raise unknown_name("library", given["library"], LIBRARIES)
    if "weights" in settings:
        file = (path.parent / str(settings["weights"])).absolute()
        given |= {"weights_file": str(file), "weights_url": "", "weights_package": ""}
        given |= {"weights_tag": "", "sha256": str(settings.get("sha256", ""))}
        given["trained_on"] = str(settings.get("trained_on", ""))
    if (names := settings.get("class_names")) is not None:
        given["output"], more["classes"] = _named_classes(names, settings, path)
    size = given.setdefault("size", 224)
    given.setdefault("resize", round(max([size] if isinstance(size, int) else size) / 0.875))
    return entry_of(given, PIXELS, **{"classes": tuple, **more})


def _base_of(like: str, path: Path, read: tuple[Path, ...]) -> ModelEntry:
    """Read the entry of the network that a user's network is like."""
    like = _from_folder(like, path)
    file = like.removesuffix(GREY)
    return _read_own(Path(file), read)[1] if file.endswith(".toml") else model_entry(like)


def _inherited(base: ModelEntry, settings: Mapping[str, Any]) -> dict[str, Any]:
    """List what a user's network takes over from another, as keys of a TOML file."""
    cut = base.preprocessing
    inherited = {key: getattr(base, key) for key in ENTRY_KEYS if hasattr(base, key)}
    inherited |= {"mean": cut.mean, "std": cut.std, "interpolation": cut.interpolation}
    inherited |= {"size": cut.size, "resize": cut.resize}
    if "pixels" in settings:
        del inherited["mean"], inherited["std"]
    if not _WHAT_IS_BUILT.isdisjoint(settings):
        del inherited["parameters"]
    return inherited


def _named_classes(
    names: Any, settings: Mapping[str, Any], path: Path
) -> tuple[str, Callable[[], tuple[str, ...]]]:
    """Read class_names: the kind of output, and what lists the names."""
    if not names:
        return "embedding", tuple
    output = str(settings.get("output", "classes"))
    if names == "imagenet":
        return output, imagenet_classes
    if isinstance(names, str):
        raise InputError(f"{path}: class_names is '{names}'; give \"imagenet\" or a list of names.")
    fixed = tuple(str(name) for name in names)
    return output, lambda: fixed


def _from_folder(name: str, path: Path) -> str:
    """Resolve the name of a network in a TOML file: another TOML file is beside it."""
    return str(path.parent / name) if name.removesuffix(GREY).endswith(".toml") else name


def own_files(name: str) -> list[Path]:
    """List the files that describe a user's network.

    Parameters
    ----------
    name : str
        See `model_entry`.

    Returns
    -------
    list of Path
        The TOML file, those that it is like, the Python file and the weights beside it; empty for a
        network that has none.

    Raises
    ------
    InputError
        As `read_own_network`.
    """
    known = name.removesuffix(GREY)
    if not known.endswith(".toml"):
        return []
    path = Path(known)
    _, entry = read_own_network(path)
    files = [path]
    settings = tomllib.loads(path.read_text(encoding="utf-8"))
    if "like" in settings:
        files += own_files(_from_folder(str(settings["like"]), path))
    module = entry.architecture.rpartition(":")[0]
    for file in (module if module.endswith(".py") else "", entry.weights_file):
        if file and Path(file).is_absolute() and Path(file).is_file():
            files.append(Path(file))
    return list(dict.fromkeys(files))


def build_imported(place: str, **arguments: Any) -> Any:
    """Build a network by a user's function or class.

    Parameters
    ----------
    place : str
        ``MODULE:NAME`` or ``FILE.py:NAME``.
    **arguments : object
        What it is called with.

    Returns
    -------
    torch.nn.Module
        The network.

    Raises
    ------
    InputError
        When the module or the name is not there, or what is built is no network.
    """
    from torch import nn

    module_name, _, name = place.rpartition(":")
    try:
        if module_name.endswith(".py"):
            spec = importlib.util.spec_from_file_location(
                f"own_{Path(module_name).stem}", module_name
            )
            assert spec is not None and spec.loader is not None
            module = importlib.util.module_from_spec(spec)
            sys.modules[spec.name] = module  # dataclasses look for it there
            spec.loader.exec_module(module)
        else:
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # a user's code may raise anything
        raise InputError(
            f"{module_name} cannot be imported: {one_line(error)}; correct it, or import (a file "
            "beside the TOML file is FILE.py:NAME)."
        ) from error
    if not hasattr(module, name):
        raise unknown_name(f"name in {module_name}", name, [*vars(module)])
    network = getattr(module, name)
    is_built = isinstance(network, nn.Module)  # the user's own stays as it is
    network = copy.deepcopy(network) if is_built else network(**arguments)
    if not isinstance(network, nn.Module):
        raise InputError(
            f"{place} gives a {type(network).__name__}, not a torch.nn.Module; name a function "
            "that builds the network."
        )
    return network


LIBRARIES["python"] = build_imported


# ----------------------------------------------------------------------------------------- any name


def build_network(name: str, entry: ModelEntry) -> torch.nn.Module:
    """Build the architecture of an entry; torch's global random state stays as it was.

    Parameters
    ----------
    name : str
        Name of the network, for messages.
    entry : ModelEntry
        Its entry.

    Returns
    -------
    torch.nn.Module
        Without weights of its own: they are whatever the library draws.

    Raises
    ------
    InputError
        When the library is not there, or does not know the architecture or its arguments.
    """
    import torch

    try:
        with torch.random.fork_rng(devices=[]):
            return LIBRARIES[entry.library](entry.architecture, **entry.arguments)
    except InputError:
        raise
    except ImportError as error:
        raise InputError(
            f"{name} ({entry.architecture}) needs the package {error.name}; install it (timm comes "
            "with pip install 'neurometamer[demo]')."
        ) from error
    except Exception as error:  # a user's code may raise anything
        raise InputError(
            f"{name}: {entry.library} cannot build {entry.architecture}: {one_line(error)}; "
            "correct the architecture or its arguments."
        ) from error


def find_entry(name: str) -> tuple[str, ModelEntry]:
    """Return the name of a network in tables, and its entry.

    Parameters
    ----------
    name : str
        See `model_entry`.

    Returns
    -------
    name : str
        Key of `MODELS`, ``timm:…``, ``torchvision:…`` or ``robustbench:…`` as it was given, or the
        name that a TOML file gives; without `GREY`.
    entry : ModelEntry
        The entry.

    Raises
    ------
    InputError
        As `model_entry`.

    Examples
    --------
    >>> name, entry = find_entry("robustbench:imagenet/Linf/Salman2020Do_R18")
    >>> name, entry.weights_tag
    ('resnet18_robust', 'Salman2020Do_R18')
    """
    if not isinstance(name, str):
        raise InputError(
            f"a model is asked for by its name ({name_ids(MODELS)}), not by a "
            f"{type(name).__name__}; {OWN_NETWORKS}."
        )
    known = name.removesuffix(GREY)
    if known in MODELS:
        return known, MODELS[known]
    source, colon, rest = known.partition(":")
    if colon and source in SOURCES:
        entry = SOURCES[source](rest)
        named = [key for key, value in MODELS.items() if value is entry]
        return (named[0] if named else known), entry
    if known.endswith(".toml"):
        return read_own_network(known)
    if known.startswith("set:") and known not in MODEL_SETS:
        raise unknown_name("set of networks", known, MODEL_SETS)
    if known in MODEL_SETS:
        raise InputError(
            f"{known} is a set of networks, and one is asked for; name one of them: "
            f"{', '.join(MODEL_SETS[known])}."
        )
    near = difflib.get_close_matches(name, MODELS, n=1, cutoff=0.8)
    hint = f"; did you mean '{near[0]}'?" if near else "."
    raise InputError(
        f"unknown model '{name}'{hint} Known: {', '.join(MODELS)}. For others: {OTHER_NAMES}; "
        f"{OWN_NETWORKS}."
    )


def model_entry(name: str) -> ModelEntry:
    """Return the row of a model.

    Parameters
    ----------
    name : str
        A key of `MODELS`, ``timm:NAME`` or ``torchvision:NAME`` (of weights other than the
        library's default: ``NAME.TAG``), ``robustbench:CORPUS/THREAT/NAME`` (those of the table,
        for example ``robustbench:imagenet/Linf/Salman2020Do_R18``, and all others where the package
        robustbench is installed), or the path of a TOML file (`read_own_network`); each may have
        `GREY` at its end.

    Returns
    -------
    ModelEntry
        Its row.

    Raises
    ------
    InputError
        Unknown name, with the nearest; a library that is not there; an unreadable file.

    Examples
    --------
    >>> model_entry("alexnet").preprocessing.size
    (224, 224)
    >>> model_entry("torchvision:resnet18").parameters
    11689512
    """
    return find_entry(name)[1]


def is_model(name: str) -> bool:
    """Tell whether a name is that of a network.

    Parameters
    ----------
    name : str
        Any text.

    Returns
    -------
    bool
        Whether it is in the table, names a library, or is a TOML file.
    """
    known = name.removesuffix(GREY)
    source = known.partition(":")[0]
    return known in MODELS or (source != known and source in SOURCES) or known.endswith(".toml")
