"""Networks as training sees them: pixels in, logits out."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from neurometamer.errors import InputError
from stimuli_gen.batches import out_of_memory
from stimuli_gen.controls import LUMA
from stimuli_gen.photographs import Preprocessing


class PixelNetwork(nn.Module):
    """A network with what stands before it: color to luminance, and normalization.

    Parameters
    ----------
    network : torch.nn.Module
        Takes normalized images, returns logits.
    preprocessing : Preprocessing
        Mean and standard deviation.
    color : str
        See `neurometamer.training.COLORS`. With ``one_channel`` the first convolution of `network`
        itself is changed.
    """

    mean: Tensor
    std: Tensor
    luma: Tensor

    def __init__(
        self, network: nn.Module, preprocessing: Preprocessing, color: str = "rgb"
    ) -> None:
        super().__init__()
        self.network = network
        self.color = color
        mean = torch.tensor(preprocessing.mean).view(1, 3, 1, 1)
        std = torch.tensor(preprocessing.std).view(1, 3, 1, 1)
        luma = torch.tensor(LUMA["rec601"]).view(1, 3, 1, 1)
        if color == "one_channel":
            _, first = first_convolution(network)
            first.in_channels = 1
            first.weight = nn.Parameter(first.weight.detach().mean(dim=1, keepdim=True))
            mean = (luma * mean).sum(dim=1, keepdim=True)
            std = std.mean(dim=1, keepdim=True)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.register_buffer("luma", luma, persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits.

        Parameters
        ----------
        images : Tensor, shape (n, 3, height, width)
            Pixels in [0, 1].

        Returns
        -------
        Tensor, shape (n, n_classes)
            Logits.
        """
        if self.color != "rgb":
            images = (images * self.luma).sum(dim=1, keepdim=True)
        if self.color == "gray":
            images = images.expand(-1, 3, -1, -1)
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits

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
        state = {name: value.detach().cpu() for name, value in self.network.state_dict().items()}
        if self.color == "one_channel":
            path, _ = first_convolution(self.network)
            name = f"{path}.weight"
            factor = self.luma.cpu() * torch.tensor(preprocessing.std).view(1, 3, 1, 1)
            state[name] = state[name] * factor / self.std.cpu()
        return {name: value.contiguous() for name, value in state.items()}


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
        When the first one has neither three channels nor one.
    """
    for path, module in network.named_modules():
        if isinstance(module, nn.Conv2d):
            if module.in_channels in (1, 3) and module.groups == 1:
                return path, module
            raise InputError(
                f"the first convolution ({path}) has {module.in_channels} input channels; "
                "color='one_channel' needs 3: train with color='gray'."
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


def check_outputs(network: nn.Module, preprocessing: Preprocessing, n_classes: int) -> None:
    """Try a network on one gray image.

    Parameters
    ----------
    network : torch.nn.Module
        Pixels in, logits out.
    preprocessing : Preprocessing
        Input size.
    n_classes : int
        Outputs that there should be.

    Raises
    ------
    InputError
        When it does not run at that size, or has other outputs.
    """
    height, width = preprocessing.size
    device = next(network.parameters()).device
    was_training = network.training
    network.eval()
    try:
        with torch.no_grad():
            logits = network(torch.full((1, 3, height, width), 0.5, device=device))
    except (RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(
            f"the network does not run on {height} x {width} pixels ({reason}); give another size."
        ) from error
    finally:
        network.train(was_training)
    if not isinstance(logits, Tensor) or logits.shape != (1, n_classes):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(
            f"the network gives {shape} for one image, but the training set has {n_classes} "
            "classes; give a network with one output a class."
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
