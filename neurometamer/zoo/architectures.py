"""Networks that no library has, written from their papers.

They are built without weights of their own; `neurometamer.zoo.LIBRARIES` names them
``neurometamer``.
"""

from __future__ import annotations

import importlib
from collections import OrderedDict

import torch
from torch import Tensor, nn

from neurometamer.zoo.gabor_networks import hmax as hmax
from neurometamer.zoo.gabor_networks import vone_alexnet as vone_alexnet

# --------------------------------------------------------------------------------- AlexNet in Caffe


class _ToBGR(nn.Module):
    """Turn red, green, blue into Caffe's blue, green, red."""

    def forward(self, images: Tensor) -> Tensor:
        return images.flip(1)


def caffe_alexnet(num_classes: int = 1000) -> nn.Module:
    """Build AlexNet as Caffe has it.

    96-256-384-384-256 filters, convolutions 2, 4 and 5 in two groups, local response normalization
    after layers 1 and 2, 227 pixels (Krizhevsky et al. 2012, section 3).

    Parameters
    ----------
    num_classes : int
        Number of classes.

    Returns
    -------
    torch.nn.Module
        The fully connected layers see 256 x 6 x 6 values, in the order that Caffe gives them.

    Examples
    --------
    >>> network = caffe_alexnet()
    >>> sum(weight.numel() for weight in network.parameters())
    60965224
    """

    def _normalization() -> nn.Module:
        return nn.LocalResponseNorm(5, alpha=1e-4, beta=0.75, k=1.0)

    layers: dict[str, nn.Module] = {
        "to_bgr": _ToBGR(),
        "conv1": nn.Conv2d(3, 96, 11, stride=4),
        "relu1": nn.ReLU(inplace=True),
        "norm1": _normalization(),
        "pool1": nn.MaxPool2d(3, stride=2),
        "conv2": nn.Conv2d(96, 256, 5, padding=2, groups=2),
        "relu2": nn.ReLU(inplace=True),
        "norm2": _normalization(),
        "pool2": nn.MaxPool2d(3, stride=2),
        "conv3": nn.Conv2d(256, 384, 3, padding=1),
        "relu3": nn.ReLU(inplace=True),
        "conv4": nn.Conv2d(384, 384, 3, padding=1, groups=2),
        "relu4": nn.ReLU(inplace=True),
        "conv5": nn.Conv2d(384, 256, 3, padding=1, groups=2),
        "relu5": nn.ReLU(inplace=True),
        "pool5": nn.MaxPool2d(3, stride=2),
        "flatten": nn.Flatten(),
        "fc6": nn.Linear(256 * 6 * 6, 4096),
        "relu6": nn.ReLU(inplace=True),
        "drop6": nn.Dropout(0.5),
        "fc7": nn.Linear(4096, 4096),
        "relu7": nn.ReLU(inplace=True),
        "drop7": nn.Dropout(0.5),
        "fc8": nn.Linear(4096, num_classes),
    }
    return nn.Sequential(OrderedDict(layers))


# ----------------------------------------------------------------------------------------- CORnet-S


class _Area(nn.Module):
    """A recurrent area of CORnet-S: one bottleneck that runs several times, with a skip.

    The convolutions are the same each time, the normalizations are not. The first time halves the
    size of the map.
    """

    def __init__(self, n_in: int, n_out: int, times: int) -> None:
        super().__init__()
        n_inside = 4 * n_out
        self.enter = nn.Conv2d(n_in, n_out, 1, bias=False)
        self.skip = nn.Conv2d(n_out, n_out, 1, stride=2, bias=False)
        self.skip_norm = nn.BatchNorm2d(n_out)
        self.expand = nn.Conv2d(n_out, n_inside, 1, bias=False)
        self.convolve = nn.Conv2d(n_inside, n_inside, 3, padding=1, bias=False)
        self.reduce = nn.Conv2d(n_inside, n_out, 1, bias=False)
        self.expand_norms = nn.ModuleList(nn.BatchNorm2d(n_inside) for _ in range(times))
        self.convolve_norms = nn.ModuleList(nn.BatchNorm2d(n_inside) for _ in range(times))
        self.reduce_norms = nn.ModuleList(nn.BatchNorm2d(n_out) for _ in range(times))

    def forward(self, values: Tensor) -> Tensor:
        state = self.enter(values)
        norms = zip(self.expand_norms, self.convolve_norms, self.reduce_norms)
        for time, (expand_norm, convolve_norm, reduce_norm) in enumerate(norms):
            is_first = time == 0
            beside = self.skip_norm(self.skip(state)) if is_first else state
            stride = 2 if is_first else 1
            inside = torch.relu(expand_norm(self.expand(state)))
            inside = nn.functional.conv2d(inside, self.convolve.weight, stride=stride, padding=1)
            inside = torch.relu(convolve_norm(inside))
            inside = reduce_norm(self.reduce(inside))
            state = torch.relu(inside + beside)
        return state


def cornet_s(num_classes: int = 1000) -> nn.Module:
    """Build CORnet-S from the text of the paper (Kubilius et al. 2019, section 2.1 and figure 2).

    V1 is two convolutions, V2, V4 and IT are one recurrent bottleneck each, which runs 2, 4 and 2
    times; a linear decoder reads the mean of IT.

    Parameters
    ----------
    num_classes : int
        Number of classes.

    Returns
    -------
    torch.nn.Module
        Modules ``V1``, ``V2``, ``V4``, ``IT``, ``decoder``.

    Examples
    --------
    >>> network = cornet_s()
    >>> sum(weight.numel() for weight in network.parameters())
    53416616
    """
    v1 = nn.Sequential(
        nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.Conv2d(64, 64, 3, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(inplace=True),
    )
    decoder: dict[str, nn.Module] = {
        "pool": nn.AdaptiveAvgPool2d(1),
        "flatten": nn.Flatten(),
        "linear": nn.Linear(512, num_classes),
    }
    areas: dict[str, nn.Module] = {
        "V1": v1,
        "V2": _Area(64, 128, times=2),
        "V4": _Area(128, 256, times=4),
        "IT": _Area(256, 512, times=2),
        "decoder": nn.Sequential(OrderedDict(decoder)),
    }
    return nn.Sequential(OrderedDict(areas))


# ------------------------------------------------------------------------------ ViT-B with ConvStem


class _ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels of each place of a map."""

    def forward(self, values: Tensor) -> Tensor:
        last = values.permute(0, 2, 3, 1)
        return super().forward(last).permute(0, 3, 1, 2)


class _ConvStem(nn.Module):
    """Four convolutions that halve the map and double the channels, and one to all channels."""

    def __init__(self, n_first: int, n_out: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = 3
        for doubling in range(4):
            n_channels = n_first * 2**doubling
            layers += [
                nn.Conv2d(n_in, n_channels, 3, stride=2, padding=1),
                _ChannelNorm(n_channels, eps=1e-6),
                nn.GELU(),
            ]
            n_in = n_channels
        self.stem = nn.Sequential(*layers, nn.Conv2d(n_in, n_out, 1))

    def forward(self, images: Tensor) -> Tensor:
        return self.stem(images)


def vit_base_convstem(num_classes: int = 1000) -> nn.Module:
    """Build the ViT-B whose patches are made by a stem of convolutions (Singh et al. 2023).

    Parameters
    ----------
    num_classes : int
        Number of classes.

    Returns
    -------
    torch.nn.Module
        timm's ``vit_base_patch16_224`` with another ``patch_embed.proj``; parameters are named as
        in the checkpoint of RobustBench.

    Raises
    ------
    ImportError
        When timm is not there.

    Examples
    --------
    >>> network = vit_base_convstem()
    >>> sum(weight.numel() for weight in network.parameters())
    87147112
    """
    timm = importlib.import_module("timm")
    network = timm.create_model("vit_base_patch16_224", pretrained=False, num_classes=num_classes)
    network.patch_embed.proj = _ConvStem(48, 768)
    return network


# ------------------------------------------------------------------------- AlexNets of other layers


class HannPooling(nn.Module):
    """Mean of a neighborhood, weighted by a Hann window, which takes away what would alias.

    Parameters
    ----------
    width : int
        Pixels of the window, its two zeros included.
    stride : int
        Pixels from one mean to the next.
    padding : int
        Zeros around the map.
    """

    hann_window2d: Tensor

    def __init__(self, width: int, stride: int, padding: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, padding
        row = torch.hann_window(width, periodic=False, dtype=torch.float64)[1:-1]
        window = torch.outer(row, row)
        window = (window / window.sum()).float()
        self.register_buffer("hann_window2d", window[None, None])

    def extra_repr(self) -> str:
        """Tell stride and padding.

        Returns
        -------
        str
            They are part of the network's digest.
        """
        return f"stride={self.stride}, padding={self.padding}"

    def forward(self, values: Tensor) -> Tensor:
        """Pool each channel alone.

        Parameters
        ----------
        values : Tensor
            (b, channels, height, width).

        Returns
        -------
        Tensor
            The same, smaller.
        """
        n_channels = values.shape[1]
        windows = self.hann_window2d.to(values.dtype).expand(n_channels, 1, -1, -1)
        return nn.functional.conv2d(
            values, windows, stride=self.stride, padding=self.padding, groups=n_channels
        )


def lowpass_alexnet(num_classes: int = 1000) -> nn.Module:
    """Build the low-pass AlexNet of Feather et al. (2023), where nothing aliases.

    torchvision's AlexNet, with Hann windows in the place of maxima, and of the first convolution's
    stride.

    Parameters
    ----------
    num_classes : int
        Number of classes.

    Returns
    -------
    torch.nn.Module
        Parameters are named as in the checkpoint of Feather et al.

    Examples
    --------
    >>> network = lowpass_alexnet()
    >>> sum(weight.numel() for weight in network.parameters())
    61100840
    """
    network = importlib.import_module("torchvision.models").alexnet(
        weights=None, num_classes=num_classes
    )
    layers = list(network.features)
    first = nn.Conv2d(3, 64, 11, padding=5)
    layers[0] = nn.Sequential(first, nn.ReLU(inplace=True), HannPooling(17, 4, 5))
    for number in (2, 5, 12):
        layers[number] = HannPooling(9, 2, 2)
    network.features = nn.Sequential(*layers)
    return network


class UnitLength(nn.Module):
    """Divide each row by its length."""

    def forward(self, values: Tensor) -> Tensor:
        """Normalize.

        Parameters
        ----------
        values : Tensor
            (b, n).

        Returns
        -------
        Tensor
            (b, n), rows of length 1.
        """
        return nn.functional.normalize(values, dim=1)


def alexnet_gn(
    n_outputs: int = 128, unit_length: bool = True, num_classes: int | None = None
) -> nn.Module:
    """Build the AlexNet with group normalization of Konkle & Alvarez (2022, Methods).

    96-256-384-384-256 filters with group normalization, two fully connected layers with batch
    normalization, and one to the embedding, which has length 1.

    Parameters
    ----------
    n_outputs : int
        Size of the embedding, or number of classes.
    unit_length : bool
        Whether the output has length 1, as an embedding has.
    num_classes : int, optional
        Number of classes, in place of an embedding.

    Returns
    -------
    torch.nn.Module
        Parameters are named as in the authors' checkpoints.

    Examples
    --------
    >>> import torch
    >>> network = alexnet_gn().eval()
    >>> embedding = network(torch.rand(1, 3, 224, 224))
    >>> embedding.shape, round(float(embedding.detach().norm()), 4)
    (torch.Size([1, 128]), 1.0)
    """

    def _block(n_in: int, n_out: int, width: int, stride: int, padding: int) -> nn.Module:
        convolution = nn.Conv2d(n_in, n_out, width, stride, padding, bias=False)
        return nn.Sequential(convolution, nn.GroupNorm(32, n_out), nn.ReLU(inplace=True))

    def _full(n_in: int) -> nn.Module:
        return nn.Sequential(nn.Linear(n_in, 4096), nn.BatchNorm1d(4096), nn.ReLU(inplace=True))

    layers: dict[str, nn.Module] = {
        "conv_block_1": _block(3, 96, 11, 4, 2),
        "pool_1": nn.MaxPool2d(3, stride=2),
        "conv_block_2": _block(96, 256, 5, 1, 2),
        "pool_2": nn.MaxPool2d(3, stride=2),
        "conv_block_3": _block(256, 384, 3, 1, 1),
        "conv_block_4": _block(384, 384, 3, 1, 1),
        "conv_block_5": _block(384, 256, 3, 1, 1),
        "pool_5": nn.MaxPool2d(3, stride=2),
        "ave_pool": nn.AdaptiveAvgPool2d(6),
        "flatten": nn.Flatten(),
        "fc6": _full(256 * 6 * 6),
        "fc7": _full(4096),
        "fc8": nn.Sequential(nn.Linear(4096, num_classes or n_outputs)),
    }
    if unit_length and not num_classes:
        layers["l2norm"] = UnitLength()
    return nn.Sequential(OrderedDict(layers))
