"""Building blocks of the convolutional networks: explicit modules, so that each is one operator of the graph."""

from math import gcd

from torch import nn

GROUPS = 4
"""GroupNorm groups, fewer where the channels do not divide."""


def norm_layer(kind: str, channels: int) -> nn.Module | None:
    """The normalisation called ``kind`` (none, group or batch).

    LR needs ``none`` or ``group``: batch statistics tie the samples of a batch together, so that one sample's noise
    moves another one's loss.
    """
    if kind == "batch":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(gcd(GROUPS, channels), channels) if kind == "group" else None


def conv_block(inputs: int, outputs: int, norm: str, *, pool: int = 1, activate: bool = True) -> nn.Sequential:
    """3x3 convolution, then normalisation, ReLU and max pooling where asked for.

    Children are called ``conv``, ``norm``, ``relu``, ``pool``.
    """
    block = nn.Sequential()
    block.add_module("conv", nn.Conv2d(inputs, outputs, 3, padding=1))
    if (layer := norm_layer(norm, outputs)) is not None:
        block.add_module("norm", layer)
    if activate:
        block.add_module("relu", nn.ReLU())
    if pool > 1:
        block.add_module("pool", nn.MaxPool2d(pool))
    return block
