"""The convolutional networks of the LR papers: ResNet-5, ResNet-9, ResNet-12 and VGG-8.

Their building blocks are explicit modules, so that each is one operator of the graph.
"""

import itertools
from collections.abc import Callable
from functools import partial
from math import gcd

from torch import Tensor, nn

from alrsim.frontend.torch_model import TorchModel, float_input
from alrsim.models.entry import ZooEntry, image_options

GROUPS = 4
"""GroupNorm groups, fewer where the channels do not divide."""


def conv_block(inputs: int, outputs: int, norm: str, *, pool: int = 1, activate: bool = True) -> nn.Sequential:
    """3x3 convolution, then normalisation, ReLU and max pooling where asked for.

    Children are called ``conv``, ``norm``, ``relu``, ``pool``.

    Args:
        norm: ``none``, ``group`` or ``batch``. LR needs ``none`` or ``group``: batch statistics tie the samples of a
            batch together, so that one sample's noise moves another one's loss.
    """
    block = nn.Sequential()
    block.add_module("conv", nn.Conv2d(inputs, outputs, 3, padding=1))
    if norm == "batch":
        block.add_module("norm", nn.BatchNorm2d(outputs))
    elif norm == "group":
        block.add_module("norm", nn.GroupNorm(gcd(GROUPS, outputs), outputs))
    if activate:
        block.add_module("relu", nn.ReLU())
    if pool > 1:
        block.add_module("pool", nn.MaxPool2d(pool))
    return block


class ResNet5(nn.Module):
    """Four convolutions (one skip) and a linear layer; images ``(batch, in_channels, size, size)``."""

    def __init__(self, width: int, classes: int, in_channels: int, image_size: int, norm: str) -> None:
        super().__init__()
        self.conv1 = conv_block(in_channels, width, norm)
        self.conv2 = conv_block(width, 2 * width, norm, pool=2)
        self.conv3 = conv_block(2 * width, 4 * width, norm)
        self.conv4 = conv_block(4 * width, 4 * width, norm)
        self.pool = nn.AvgPool2d(4)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(4 * width * (image_size // 8) ** 2, classes)

    def forward(self, images: Tensor) -> Tensor:
        trunk = self.conv3(self.conv2(self.conv1(images)))
        logits: Tensor = self.linear(self.flatten(self.pool(trunk + self.conv4(trunk))))
        return logits


class Residual(nn.Module):
    """Two convolutions of equal width and their skip."""

    def __init__(self, channels: int, norm: str) -> None:
        super().__init__()
        self.first = conv_block(channels, channels, norm)
        self.second = conv_block(channels, channels, norm)

    def forward(self, features: Tensor) -> Tensor:
        body: Tensor = self.second(self.first(features))
        return features + body


class ResNet9(nn.Module):
    """Eight convolutions (two residual pairs) and a linear layer."""

    def __init__(self, width: int, classes: int, in_channels: int, image_size: int, norm: str) -> None:
        super().__init__()
        self.conv1 = conv_block(in_channels, width, norm)
        self.conv2 = conv_block(width, 2 * width, norm, pool=2)
        self.residual1 = Residual(2 * width, norm)
        self.conv3 = conv_block(2 * width, 4 * width, norm, pool=2)
        self.conv4 = conv_block(4 * width, 8 * width, norm, pool=2)
        self.residual2 = Residual(8 * width, norm)
        self.pool = nn.MaxPool2d(4)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(8 * width * (image_size // 32) ** 2, classes)

    def forward(self, images: Tensor) -> Tensor:
        early = self.residual1(self.conv2(self.conv1(images)))
        late = self.residual2(self.conv4(self.conv3(early)))
        logits: Tensor = self.linear(self.flatten(self.pool(late)))
        return logits


class Block12(nn.Module):
    """Three convolutions, a 1x1 convolution around them, then ReLU and pooling."""

    def __init__(self, inputs: int, outputs: int, norm: str) -> None:
        super().__init__()
        self.conv1 = conv_block(inputs, outputs, norm)
        self.conv2 = conv_block(outputs, outputs, norm)
        self.conv3 = conv_block(outputs, outputs, norm, activate=False)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)
        self.relu = nn.ReLU()
        self.pool = nn.MaxPool2d(2)

    def forward(self, features: Tensor) -> Tensor:
        body = self.conv3(self.conv2(self.conv1(features)))
        pooled: Tensor = self.pool(self.relu(body + self.shortcut(features)))
        return pooled


class ResNet12(nn.Module):
    """Four blocks of three convolutions, average pooling and a linear layer."""

    def __init__(self, width: int, classes: int, in_channels: int, image_size: int, norm: str) -> None:
        super().__init__()
        widths = (in_channels, width, 2 * width, 4 * width, 8 * width)
        pairs = itertools.pairwise(widths)
        self.blocks = nn.Sequential(*(Block12(inputs, outputs, norm) for inputs, outputs in pairs))
        self.pool = nn.AvgPool2d(image_size // 16)
        self.flatten = nn.Flatten()
        self.linear = nn.Linear(8 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.flatten(self.pool(self.blocks(images))))
        return logits


class VGG8(nn.Module):
    """Six convolutions with four poolings, two linear layers; images ``(batch, in_channels, size, size)``."""

    def __init__(self, width: int, classes: int, in_channels: int, image_size: int, norm: str) -> None:
        super().__init__()
        self.features = nn.Sequential(
            conv_block(in_channels, width, norm),
            conv_block(width, 2 * width, norm, pool=2),
            conv_block(2 * width, 2 * width, norm),
            conv_block(2 * width, 4 * width, norm, pool=2),
            conv_block(4 * width, 4 * width, norm, pool=2),
            conv_block(4 * width, 4 * width, norm, pool=2),
        )
        self.flatten = nn.Flatten()
        self.hidden = nn.Linear(4 * width * (image_size // 16) ** 2, 8 * width)
        self.relu = nn.ReLU()
        self.linear = nn.Linear(8 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.relu(self.hidden(self.flatten(self.features(images))))
        logits: Tensor = self.linear(hidden)
        return logits


def build_network(
    kind: Callable[[int, int, int, int, str], nn.Module],
    *,
    width: int,
    classes: int,
    in_channels: int,
    image_size: int,
    norm: str,
    seed: int,
) -> TorchModel:
    """A convolutional network from all of its options (:func:`alrsim.models.entry.image_options`).

    Args:
        kind: The module's class, with the options up to ``norm`` in this order.
    """
    module = kind(width, classes, in_channels, image_size, norm)
    example = float_input((in_channels, image_size, image_size), seed)
    return TorchModel(type(module).__name__.lower(), module, example, classes)


ULR_CODE = "conv 3-8, conv 8-16 + pool 2, conv 16-32, conv 32-32 + skip, pool 4, linear 512-10: the ULR experiments"
NOT_PRINTED = "the ALR paper names it without a table; this is the definition common in the field: "

CONVOLUTIONAL = (
    ZooEntry(
        "resnet5",
        partial(build_network, ResNet5),
        image_options(width=8, classes=10, channels=3, size=32, multiple=8),
        "4 convolutions with one skip, for CIFAR-10",
        ULR_CODE,
    ),
    ZooEntry(
        "resnet9",
        partial(build_network, ResNet9),
        image_options(width=64, classes=100, channels=3, size=32, multiple=32),
        "8 convolutions with two skips, for CIFAR-100",
        NOT_PRINTED + "64, 128, residual pair, 256, 512, residual pair, linear",
    ),
    ZooEntry(
        "resnet12",
        partial(build_network, ResNet12),
        image_options(width=64, classes=200, channels=3, size=64, multiple=16),
        "4 blocks of 3 convolutions with 1x1 shortcuts, for Tiny-ImageNet",
        NOT_PRINTED + "blocks of 64, 128, 256, 512 channels, each with max pooling, then average pooling",
    ),
    ZooEntry(
        "vgg8",
        partial(build_network, VGG8),
        image_options(width=64, classes=10, channels=3, size=32, multiple=16),
        "6 convolutions and 2 linear layers, for CIFAR-10",
        "the ULR paper names it without a table; the plan is that of VGG8B (Nokland and Eidnes 2019, arXiv:1901.06656) "
        "at half its width by default, without its dropout",
    ),
)
