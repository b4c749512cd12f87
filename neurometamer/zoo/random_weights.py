"""Random weights: Kaiming normal, seeded, without global random state."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from neurometamer.errors import InputError

if TYPE_CHECKING:
    import torch

RANDOM_WEIGHTS = "Kaiming normal, fan_out"
"""Distribution of random weights, see `randomize`."""


def randomize(network: torch.nn.Module, seed: int = 0) -> None:
    """Give a network Kaiming-normal random weights, as torchvision gives its ResNets.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place, on the CPU. Weights of convolutions and matrix products are drawn from a
        normal distribution of mean 0 and variance 2 / fan_out (He et al. 2015, for ReLUs; fan_out
        is the number of outputs that one input reaches, within its group, also of transposed
        convolutions), biases are 0, normalizations are the identity, in their running means and
        variances too. Other parameters stay as they are (tokens, embeddings, recurrent layers),
        and so do filters that are buffers (fixed Gabor filters).
    seed : int
        Seed of the one generator that all weights are drawn from, in the order of
        `torch.nn.Module.modules`. Global random states are not touched.

    Raises
    ------
    InputError
        When weights are computed from others (weight norm, spectral norm) or have no shape yet
        (lazy modules).

    Examples
    --------
    >>> import torch
    >>> layer = torch.nn.Conv2d(8, 200, 3)
    >>> randomize(layer)
    >>> weight, bias = layer.weight.detach(), layer.bias.detach()
    >>> round(float(weight.std() / (2 / (200 * 9)) ** 0.5), 1), float(bias.abs().max())
    (1.0, 0.0)
    """
    import torch
    from torch import nn

    normalizations = (nn.modules.batchnorm._NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for path, module in network.named_modules():
            if "weight" in module._buffers:  # fixed filters
                continue
            if isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
                sd = math.sqrt(2 / _fan_out(module, path))
                module.weight.normal_(0, sd, generator=generator)
                _fill(module.bias, 0)
            elif isinstance(module, nn.MultiheadAttention):
                for name in ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight"):
                    weight = getattr(module, name)
                    if weight is not None:
                        sd = math.sqrt(2 / len(weight))
                        weight.normal_(0, sd, generator=generator)
                _fill(module.in_proj_bias, 0)
            elif isinstance(module, normalizations):
                _fill(getattr(module, "weight", None), 1)
                _fill(getattr(module, "bias", None), 0)
                if isinstance(module, nn.modules.batchnorm._NormBase):
                    module.reset_running_stats()


def _fan_out(module: torch.nn.Module, path: str) -> int:
    """Count the outputs that one input reaches; refuse weights that would not be what is drawn.

    A transposed convolution has its inputs in front.
    """
    from torch import nn

    weight = module._parameters.get("weight")
    if weight is None:
        raise InputError(
            f"the weights of {path or 'the network'} are computed from others (weight norm, "
            "spectral norm …); take that off first, for example with "
            "torch.nn.utils.parametrize.remove_parametrizations."
        )
    if isinstance(weight, nn.parameter.UninitializedParameter):
        raise InputError(
            f"the weights of {path or 'the network'} have no shape yet; run the network once "
            "before."
        )
    if isinstance(module, nn.modules.conv._ConvTransposeNd):
        return weight[0].numel()
    return weight[:, 0].numel() // getattr(module, "groups", 1)


def _fill(parameter: torch.Tensor | None, value: float) -> None:
    if parameter is not None:
        parameter.fill_(value)
