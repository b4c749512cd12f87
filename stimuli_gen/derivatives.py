"""Gradients that are our own: of the input's normalization, and of the first convolution.

A first convolution has few input channels (three) and a long stride, for which the usual kernels
are slow on a CPU: of a gradient step through the first stage of AlexNet, nine tenths went there.
Cut into blocks of stride × stride pixels that are stacked as channels, the same sum is a
convolution of stride 1 with many channels, which is what the kernels are made for. The forward pass
stays as it is, so activations are those of the network bit for bit; gradients are summed in another
order (float32: 1e-6 of the largest).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurometamer.errors import InputError

_FEW = 4
"""Input channels up to which this pays."""


class FirstConv2d(nn.Conv2d):
    """A convolution whose gradient for its input is computed in blocks, on a CPU; see `quicken`."""

    digest_name = "Conv2d"  # computes the same

    def forward(self, images: Tensor) -> Tensor:
        """Convolve.

        Parameters
        ----------
        images : Tensor
            (b, channels, height, width).

        Returns
        -------
        Tensor
            As of the convolution that it was.
        """
        learns = any(parameter.requires_grad for parameter in self.parameters())
        if learns or not images.requires_grad or images.device.type != "cpu":
            return super().forward(images)
        stride, padding = self.stride[0], self.padding[0]
        output: Tensor = _InBlocks.apply(images, self.weight, self.bias, stride, padding)
        return output


def quicken(network: nn.Module) -> None:
    """Give a frozen network's first convolutions the fast gradient.

    Nothing else changes, and the network's digest neither.

    Parameters
    ----------
    network : torch.nn.Module
        Changed in place: plain `torch.nn.Conv2d` of at most four input channels, with square
        kernel, stride of at least 2 and zero padding.
    """
    for module in network.modules():
        if type(module) is not nn.Conv2d or isinstance(module.padding, str):
            continue
        is_plain = module.groups == 1 and module.padding_mode == "zeros"
        shapes = (module.padding, module.kernel_size, module.stride, module.dilation)
        is_square = all(len(set(lengths)) == 1 for lengths in shapes)
        if module.in_channels > _FEW or not (is_plain and is_square) or module.dilation[0] != 1:
            continue
        if 2 <= module.stride[0] <= module.kernel_size[0]:
            module.__class__ = FirstConv2d


class _InBlocks(torch.autograd.Function):
    """Convolve with a gradient that is computed in blocks.

    The gradient consists of operations that torch differentiates, so it has derivatives of any
    order.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(
        images: Tensor, weight: Tensor, bias: Tensor | None, stride: int, padding: int
    ) -> Tensor:
        return functional.conv2d(images, weight, bias, stride, padding)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        images, weight, _, stride, padding = inputs
        ctx.save_for_backward(weight)
        ctx.save_for_forward(weight)
        ctx.size = images.shape[2:]
        ctx.stride = stride
        ctx.padding = padding

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None, None]:
        """Convolve the gradient for the output with the turned kernel, block by block.

        The blocks are then laid out as pixels again.
        """
        (weight,) = ctx.saved_tensors
        stride = ctx.stride
        n_kernels, channels, length, _ = weight.shape
        blocks = math.ceil(length / stride)
        more = blocks * stride - length
        padded = functional.pad(weight, (0, more, 0, more))
        # blocks of stride × stride pixels become channels
        by_pixel = padded.permute(0, 2, 3, 1)
        cut = by_pixel.reshape(n_kernels, blocks, stride, blocks, stride * channels)
        stacked = cut.transpose(2, 3).reshape(n_kernels, blocks, blocks, -1)
        turned = stacked.permute(0, 3, 1, 2).flip(2, 3).transpose(0, 1)
        turned = turned.contiguous(memory_format=torch.channels_last)
        in_blocks = functional.conv2d(gradient, turned, padding=blocks - 1)
        # and channels pixels again
        n, _, n_down, n_right = in_blocks.shape
        by_block = in_blocks.permute(0, 2, 3, 1)
        laid = by_block.reshape(n, n_down, n_right, stride, stride * channels).transpose(2, 3)
        pixels = laid.reshape(n, n_down * stride, n_right * stride, channels).permute(0, 3, 1, 2)
        height, width = ctx.size
        top = left = ctx.padding
        pixels = pixels[:, :, top : top + height, left : left + width]
        if pixels.shape[2:] != ctx.size:  # the last pixels that no kernel reaches
            below = height - pixels.shape[2]
            beside = width - pixels.shape[3]
            pixels = functional.pad(pixels, (0, beside, 0, below))
        return pixels, None, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        (weight,) = ctx.saved_tensors
        return functional.conv2d(tangent, weight, None, ctx.stride, ctx.padding)


def normalize(images: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """Compute (images - mean) / std in channels-last order, with derivatives of any order.

    Parameters
    ----------
    images : Tensor
        (b, channels, height, width).
    mean, std : Tensor
        What broadcasts to `images`.

    Returns
    -------
    Tensor
        Of the shape of `images`.
    """
    normalized: Tensor = _Normalize.apply(images, mean, std, torch.channels_last)
    return normalized


class _Normalize(torch.autograd.Function):
    """Compute (images - mean) / std in channels-last order.

    Each number is touched once less than by the plain formula. Its gradient is the same operation
    in the order of the images, so it has derivatives of any order.
    """

    @staticmethod
    def forward(images: Tensor, mean: Tensor, std: Tensor, order: torch.memory_format) -> Tensor:
        normalized = torch.empty_like(images, memory_format=order)
        torch.sub(images, mean, out=normalized)
        return normalized.div_(std)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        _, mean, std, order = inputs
        ctx.save_for_backward(mean, std)
        ctx.save_for_forward(std)
        ctx.other = torch.channels_last
        if order == torch.channels_last:
            ctx.other = torch.contiguous_format

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        mean, std = ctx.saved_tensors
        zeros = torch.zeros_like(mean)
        scaled = _Normalize.apply(gradient, zeros, std, ctx.other)
        return scaled, None, None, None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: Any) -> Tensor:
        (std,) = ctx.saved_tensors
        return tangent / std

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], images: Tensor, *rest: Any) -> tuple[Tensor, int]:
        """Lay the images of all batches into one."""
        several = images.movedim(in_dims[0], 0)
        n_batches, n_images = several.shape[:2]
        normalized: Tensor = _Normalize.apply(several.flatten(0, 1), *rest)
        return normalized.unflatten(0, (n_batches, n_images)), 0


def differentiable_once(images: Tensor, names: str) -> Tensor:
    """Return the images; what is computed of them refuses second derivatives.

    Parameters
    ----------
    images : Tensor
        Input of a network.
    names : str
        Hand-written operations in it whose second derivatives are wrong, for the message.

    Returns
    -------
    Tensor
        A view of the images.

    Raises
    ------
    InputError
        When their gradient is differentiated again.
    """
    seen: Tensor = _DifferentiableOnce.apply(images, names)
    return seen


class _DifferentiableOnce(torch.autograd.Function):
    """The identity, whose gradient cannot be differentiated again.

    That holds also where torch would give zeros.
    """

    @staticmethod
    def forward(ctx: Any, images: Tensor, names: str) -> Tensor:
        ctx.names = names
        ctx.save_for_backward(images)
        return images.view_as(images)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (images,) = ctx.saved_tensors
        for node in graph_nodes(gradient):
            if "Error" in node.name():  # torch's own refusal, which some calls pass by
                raise _not_again(ctx.names)
        return _NotAgain.apply(gradient, images, ctx.names), None


class _NotAgain(torch.autograd.Function):
    """A gradient that depends on the images by refusing to be differentiated for them."""

    @staticmethod
    def forward(ctx: Any, gradient: Tensor, images: Tensor, names: str) -> Tensor:
        ctx.names = names
        return gradient.clone()

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise _not_again(ctx.names)


def _not_again(names: str) -> InputError:
    return InputError(
        f"{names} (hand-written) has no right second derivative; write its backward with "
        "operations that torch differentiates and with save_for_backward, or use first "
        "derivatives only."
    )


def graph_nodes(output: Tensor) -> Iterator[Any]:
    """Walk the graph of gradients behind a tensor.

    Parameters
    ----------
    output : Tensor
        What was computed.

    Yields
    ------
    torch.autograd.graph.Node
        Each node once.
    """
    seen = set()
    waiting = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is not None and node not in seen:
            seen.add(node)
            waiting += [other for other, _ in node.next_functions]
            yield node
