"""Networks as training sees them: pixels in, logits out."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from neurometamer.errors import InputError
from neurometamer.provenance import digest
from neurometamer.reading import one_line
from neurometamer.training.perturbations import frozen_weights
from stimuli_gen.batches import out_of_memory
from stimuli_gen.controls import LUMA
from stimuli_gen.photographs import Preprocessing


class PixelNetwork(nn.Module):
    """A network with what stands before it: color to luminance, and normalization.

    Parameters
    ----------
    network : torch.nn.Module
        Takes normalized images, returns logits, alone or among other things (see `logits_first`).
    preprocessing : Preprocessing
        Mean and standard deviation.
    color : str
        See `neurometamer.training.COLORS`. With ``one_channel`` the first convolution of `network`
        itself is changed.
    n_classes : int, optional
        Number of classes, by which logits are told from other outputs.
    """

    mean: Tensor
    std: Tensor
    luma: Tensor

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        color: str = "rgb",
        n_classes: int | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.color = color
        self.n_classes = n_classes
        mean = torch.tensor(preprocessing.mean).view(1, 3, 1, 1)
        std = torch.tensor(preprocessing.std).view(1, 3, 1, 1)
        luma = torch.tensor(LUMA["rec601"]).view(1, 3, 1, 1)
        if color == "one_channel":
            self.first, first = first_convolution(network)
            first.in_channels = 1
            first.weight = nn.Parameter(first.weight.detach().mean(dim=1, keepdim=True))
            mean = (luma * mean).sum(dim=1, keepdim=True)
            std = std.mean(dim=1, keepdim=True)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.register_buffer("luma", luma, persistent=False)

    def forward(self, images: Tensor, auxiliary: bool = False) -> Any:
        """Compute logits.

        Parameters
        ----------
        images : Tensor, shape (n, 3, height, width)
            Pixels in [0, 1].
        auxiliary : bool
            Whether to return the logits of auxiliary classifiers, too.

        Returns
        -------
        Tensor, shape (n, n_classes), or list of Tensor
            Logits; with `auxiliary` a list, the network's own first.
        """
        if self.color != "rgb":
            images = (images * self.luma).sum(dim=1, keepdim=True)
        if self.color == "gray":
            images = images.expand(-1, 3, -1, -1)
        output = self.network((images - self.mean) / self.std)
        named = named_outputs(output)
        logits = logits_first(named, self.n_classes) or [output]
        if "logits" in named and not self.training:
            logits = logits[:1]
        return logits if auxiliary else logits[0]

    def weights(self, preprocessing: Preprocessing) -> Mapping[str, Tensor]:
        """Give the weights of the network as it takes color images.

        Parameters
        ----------
        preprocessing : Preprocessing
            Mean and standard deviation of the three channels.

        Returns
        -------
        mapping of str to Tensor
            State dict. Of ``one_channel`` the first convolution has three channels whose sum over a
            normalized color image is what the one channel makes of its luminance, also at the
            border.
        """
        state = {}
        for name, value in self.network.state_dict().items():
            state[name] = value.detach().cpu().clone()
        if self.color == "one_channel":
            name = f"{self.first}.weight"
            factor = self.luma.cpu() * torch.tensor(preprocessing.std).view(1, 3, 1, 1)
            state[name] = state[name] * factor / self.std.cpu()
        return {name: value.contiguous() for name, value in state.items()}


def named_outputs(output: Any) -> dict[str, Any]:
    """Name what a network returns.

    Parameters
    ----------
    output : object
        A tensor; or a tuple, list, mapping or object with tensors, as of networks with auxiliary
        classifiers (torchvision's GoogLeNet and Inception in training) and of those that return
        features, too.

    Returns
    -------
    dict of str to object
        A tensor alone is ``logits``.
    """
    if isinstance(output, Tensor):
        return {"logits": output}
    if isinstance(output, Mapping):
        return {str(name): value for name, value in output.items()}
    if isinstance(output, (tuple, list)):
        names = getattr(output, "_fields", range(len(output)))
        return {str(name): value for name, value in zip(names, output, strict=True)}
    return dict(getattr(output, "__dict__", {}))


def logits_first(named: Mapping[str, Any], n_classes: int | None) -> list[Tensor]:
    """Find logits in what a network returns.

    Parameters
    ----------
    named : mapping of str to object
        See `named_outputs`.
    n_classes : int, optional
        Columns of logits; any number where it is not given.

    Returns
    -------
    list of Tensor
        What is called ``logits``, or else the first tensor of a row of `n_classes` numbers an
        image; then other tensors of its shape. Empty where there is none.
    """
    rows: dict[int, Tensor] = {}
    for name in sorted(named, key=lambda name: name != "logits"):  # in order but for the logits
        value = named[name]
        if isinstance(value, Tensor) and value.ndim == 2 and n_classes in (None, value.shape[1]):
            rows[id(value)] = value
    found = list(rows.values())
    return [row for row in found if row.shape == found[0].shape]


def structure(network: nn.Module) -> str:
    """Identify the architecture of a network, but not its weights.

    Parameters
    ----------
    network : torch.nn.Module
        The network.

    Returns
    -------
    str
        Digest of paths, classes and settings of its modules.
    """
    modules = []
    for path, module in network.named_modules():
        details = re.sub(" at 0x[0-9a-f]+", "", module.extra_repr())
        modules.append([path, type(module).__name__, details])
    return digest(modules)


def first_convolution(network: nn.Module) -> tuple[str, nn.Conv2d]:
    """Find the convolution that sees the image.

    Parameters
    ----------
    network : torch.nn.Module
        The network.

    Returns
    -------
    tuple of (str, torch.nn.Conv2d)
        Its path and the module.

    Raises
    ------
    InputError
        When the first one does not have three channels.
    """
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels == 3 and module.groups == 1:
                return path, module
            raise InputError(
                f"the first convolution ({path}) has {module.in_channels} input channel(s), but "
                "color='one_channel' makes one of three; build the network with three."
            )
    raise InputError(
        f"{type(network).__name__} has no convolution; use color='gray' (--color gray)."
    )


def copied_for_training(network: nn.Module) -> nn.Module:
    """Copy a network for training: weights float32 and trainable.

    Parameters
    ----------
    network : torch.nn.Module
        The network; it is not touched.

    Returns
    -------
    torch.nn.Module
        A copy in training mode.

    Raises
    ------
    InputError
        When it has no weights.
    """
    made = copy.deepcopy(network).float().train().requires_grad_(True)
    if not any(True for _ in made.parameters()):
        raise InputError(
            f"{type(network).__name__} has no weights that could be trained; give one with some."
        )
    return made


def check_outputs(network: PixelNetwork, preprocessing: Preprocessing, n_classes: int) -> None:
    """Try a network on two gray images, as it is used and as it is trained.

    Parameters
    ----------
    network : PixelNetwork
        The network; neither its running moments nor random numbers change.
    preprocessing : Preprocessing
        Input size.
    n_classes : int
        Outputs that there should be.

    Raises
    ------
    InputError
        When it does not run at that size, or has other outputs.
    """
    device = next(network.parameters()).device
    images = torch.full((2, 3, *preprocessing.size), 0.5, device=device)
    devices = [device] if device.type == "cuda" else []
    for state in ("eval", "train"):
        try:
            with (
                torch.random.fork_rng(devices=devices),
                frozen_weights(network, state),
                torch.no_grad(),
            ):
                outputs = network(images, auxiliary=True)
        except Exception as error:  # a user's code may raise anything
            if out_of_memory(error):
                raise
            raise _does_not_run(network, preprocessing, error) from error
        shapes = []
        for output in outputs:
            is_tensor = isinstance(output, Tensor)
            shapes.append(tuple(output.shape) if is_tensor else type(output).__name__)
        if shapes[0] != (2, n_classes):
            raise InputError(
                f"the network gives {shapes[0]} for two images, but the training set has "
                f"{n_classes} classes; give a network with one output a class (in its TOML file: "
                f"[arguments] with what its function takes, such as num_classes = {n_classes})."
            )
        if state == "eval" and len(outputs) > 1:
            raise InputError(
                f"the network gives {len(outputs)} rows of {n_classes} numbers an image outside "
                "of training, too; return one of them, or a mapping that calls it 'logits'."
            )


def _does_not_run(
    network: PixelNetwork, preprocessing: Preprocessing, error: Exception
) -> InputError:
    """Say why a network does not run, and what to do."""
    height, width = preprocessing.size
    cure = "give another size (--size, or size in its TOML file), or correct the network"
    for path, module in network.network.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels == 1 and network.color != "one_channel":
                cure = (
                    f"its first convolution ({path}) takes 1 channel: build it with 3, and train "
                    "it with color='one_channel' (--color one_channel), by which it sees "
                    "luminance only"
                )
            break
    return InputError(
        f"the network does not run on {height} x {width} pixels ({one_line(error)}); {cure}."
    )


@contextmanager
def memory_for(n_images: int, device: torch.device, cure: str) -> Iterator[None]:
    """Say what to give where memory runs out inside the block.

    Parameters
    ----------
    n_images : int
        Images that are computed at once.
    device : torch.device
        Where.
    cure : str
        What to do.

    Yields
    ------
    None
        The block may compute.

    Raises
    ------
    InputError
        When memory runs out.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise InputError(
            f"there is not enough memory on {device} for {n_images} images at once; {cure}."
        ) from error
